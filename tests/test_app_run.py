"""The app's pages of a run and of its sites: they show what the run says, and every button's effect is in the link."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from codesign.app import answers, fields, starters, state
from codesign.report import outcome_rows, run_figures, run_goodput, run_rows, site_rows
from codesign.spec import load

RETRAIN, TWO = "gpt4-retrain", "frontier-100k-two-sites"


def _run_page() -> None:
    from codesign.app import session
    from codesign.app.pages import run

    session.start()
    run.draw()
    session.write_link()


def _sites_page() -> None:
    from codesign.app import session
    from codesign.app.pages import sites

    session.start()
    sites.draw()
    session.write_link()


def opened(page, **query: str) -> AppTest:
    at = AppTest.from_function(page, default_timeout=60)
    at.query_params.update(query)
    return ran(at)


def ran(changed) -> AppTest:
    at = changed.run()
    assert not at.exception and not at.error
    return at


def solved(name: str, *changes: tuple[str, str]) -> answers.Solved:
    return answers.answer(state.examples()[name], changes).solved


def tables(at: AppTest) -> list:
    return [frame.value.to_dict("records") for frame in at.dataframe]


def texts(at: AppTest) -> str:
    return " ".join(block.value for kind in (at.markdown, at.caption, at.info, at.success, at.warning) for block in kind)


# ---------------------------------------------------------------------------------------------------- the run


def test_the_run_page_shows_the_run_in_every_tab():
    at = opened(_run_page, example=RETRAIN)
    one = solved(RETRAIN)
    wanted = run_figures.run_figures(one.plan, one.run)
    assert [(m.label, m.value) for m in at.metric] == [(figure.label, figure.value) for figure in wanted]
    assert wanted[0].value == f"{100 * run_goodput.to_dict(one.run)['goodput']:.1f} %"
    assert "on 2027-03-21" in at.success[0].value
    shown = {
        "Time lost": [run_rows.budget_table, run_rows.component_table, run_rows.bearable_table],
        "Policies and spares": [run_rows.policy_table, run_rows.domain_table],
        "Checkpoints": [],
        "Loss": [outcome_rows.law_table, lambda run: outcome_rows.facts(run, "loss")],
        "Data": [lambda run: outcome_rows.facts(run, "data")],
        "Power and cost": [lambda run: outcome_rows.facts(run, "power")],
        "Ladder": [lambda run: next(iter(outcome_rows.ladder_tables(run).values()))],
    }
    for tab, rows in shown.items():
        at.session_state["part"] = tab
        drawn = tables(ran(at))
        assert all(one_table(one.run) in drawn for one_table in rows), tab


def test_a_part_that_the_spec_leaves_out_can_be_added_and_stands_in_the_link():
    at = opened(_run_page)
    assert "plans a step, not a run" in at.info[0].value and not at.metric
    ran(at.button(key="add-run-section").click())
    assert set(at.query_params) == {"run"} and at.metric
    at.session_state["part"] = "Serving"
    ran(at)
    ran(at.button(key="add-serving-section").click())
    one = solved(state.FIRST, *((name, value) for name, value in at.query_params.items()))
    assert set(at.query_params) == {"run", "run.serving"}
    assert outcome_rows.facts(one.run, "serving") in tables(at)


def test_an_adopted_policy_is_the_runs_own_and_moves_the_figures():
    at = opened(_run_page, example=RETRAIN, pin=f"example={RETRAIN}")
    at.session_state["part"] = "Policies and spares"
    ran(at)
    ran(at.button(key="adopt-restart").click())
    assert at.query_params["run.policy"] == "restart"
    one = solved(RETRAIN, ("run.policy", "restart"))
    assert at.metric[0].value == f"{100 * one.run.value('goodput'):.1f} %" and at.metric[0].delta.endswith(" points")
    assert run_rows.policy_names(one.run)[0] == "restart" and "restart, as stated" in texts(at)


def test_curves_pass_through_the_run():
    run = solved(RETRAIN).run
    over = run_rows.interval_rows(run)
    own = min(over, key=lambda row: abs(row["interval_s"] - run.value("checkpoint_interval_s")))
    assert own["goodput"] == pytest.approx(run.value("goodput"), abs=1e-4)
    assert max(row["goodput"] for row in over) <= run.value("goodput") + 1e-9  # the run's own interval is the best
    held = {row["spare nodes"]: row["goodput"] for row in run_rows.spare_rows(run) if "held" in row["of"]}
    assert held[run_rows.spare_nodes(run)] == pytest.approx(run.value("policy_goodput_per_accelerator[elastic]"), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in starters.starters() if name != "sites"])
def test_every_starter_gives_a_run(name):
    text, known = state.examples()["llama-3-8b-fsdp"], starters.starters()
    begin = () if name == "run" else known["run"].changes(answers.answer(text).document)
    made = answers.answer(text, (*begin, *known[name].changes(answers.answer(text, begin).document)))
    assert made.fault is None and made.solved.run is not None


# ---------------------------------------------------------------------------------------------------- its sites


def test_the_sites_page_shows_the_sites_in_every_tab():
    at = opened(_sites_page, example=TWO)
    run = solved(TWO).run
    assert [m.value for m in at.metric] == [figure.value for figure in run_figures.site_figures(solved(TWO).plan, run)]
    shown = {
        "Traffic": [site_rows.traffic_table, site_rows.move_table],
        "Links and work": [site_rows.link_table, site_rows.work_table],
        "Strategies": [], "What bandwidth pays": [site_rows.pays_table], "Regimes of scale": [site_rows.regime_table],
    }
    for tab, rows in shown.items():
        at.session_state["between"] = tab
        drawn = tables(ran(at))
        assert drawn and all(one_table(run) in drawn for one_table in rows), tab
    assert sum(row["Bps"] for row in site_rows.matrix_rows(run, site_rows.ALL)) == pytest.approx(
        sum(row["mean_Bps"] for row in site_rows.traffic(run)))
    marks = {row["accelerators"]: row["EXTRAPOLATED"] for row in site_rows.regime_table(run)}
    letters = dict(said.split(": ", 1) for said in site_rows.beyond(run))
    assert marks["1,000"] == "no" and any("published to 8" in letters[one] for one in marks["10,000,000"].split())


def test_an_adopted_strategy_is_the_spec_and_gives_what_the_table_says():
    at = opened(_sites_page, example=TWO)
    at.session_state["between"] = "Strategies"
    ran(at)
    name = site_rows.strategy_names(solved(TWO).run)[1]
    said = next(one for one in site_rows.strategies(solved(TWO).run) if one.name == name)
    ran(at.button(key=f"adopt-{name}").click())
    assert set(at.query_params) >= {"example", "sync"}
    made = solved(TWO, ("sync", at.query_params["sync"])).run
    assert made.value("sites_gain") == pytest.approx(said.value("sites_gain"))


def test_one_site_says_so_and_a_second_one_can_be_added():
    at = opened(_sites_page)
    assert "one site" in at.info[0].value
    ran(at.button(key="add-sites-section").click())
    assert set(at.query_params) == {"sites", "links", "sync"} and at.metric


def test_entries_of_lists_are_fields_and_the_same_as_on_the_command_line():
    base = answers.answer(state.examples()[TWO]).document
    paths = [one.path for one in fields.shown(base)["Sites"]]
    assert {"sites.1.cluster.accelerators", "links.0.bandwidth", "links.0.route_km", "links.0.loss"} < set(paths)
    assert "links.0.round_trip" not in paths  # the spec gives the length
    asked = fields.edited(state.State(TWO), base, "links.0.bandwidth", "40 Tb/s")
    assert state.from_query(state.to_query(asked)) == asked
    found = answers.answer(asked.base, asked.changes)
    assert found.loaded.spec_hash == load.load_text(asked.base, ["links.0.bandwidth=40 Tb/s"]).spec_hash
    assert found.solved.run.value("wan_utilisation") > solved(TWO).run.value("wan_utilisation")
    assert fields.edited(asked, base, "links.0.bandwidth", "20 Tb/s") == state.State(TWO)
    bad = answers.answer(asked.base, (("links.7.bandwidth", "1 Tb/s"),))
    assert "links is a list" in bad.fault.message
