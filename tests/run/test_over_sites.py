"""What a run over sites answers: its own step and verdict first, every site counted, nothing left from another run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from codesign import graph, planner, run, site_steps
from codesign.cli import app
from codesign.decisions import ladder
from codesign.errors import SpecError
from codesign.report import over_sites, run_goodput, run_sites
from codesign.search import site_tables
from codesign.search import sites as strategies
from codesign.spec import load

ROOT = Path(__file__).parents[2]
BASE = {
    "version": 1, "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 384, "tokens": 1e12},
    "layout": {"tp": 4, "pp": 2, "micro_batch": 1, "sharding": "zero1", "recompute": "selective"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 256}, "software": "megatron-core",
}
TWO = [{"name": "west"}, {"name": "east"}]
LINK = {"between": ["west", "east"], "bandwidth": "400 Gb/s", "route_km": 1000}
STAR = [{"between": "all", "bandwidth": "1 Tb/s", "route_km": 300}]
FAILS = {"failures": {"rates": "pooled"}, "checkpoint": {"storage_Bps": "200 GB/s"}}
SMALL = {"override": {"accelerator.memory_B": "10 GB"}}


def spec(sites=TWO, links=(LINK,), **fields):
    return {**BASE, "sites": list(sites), **({"links": list(links)} if links else {}), **fields}


def runs(data) -> run.RunPlan:
    return run.run_plan(planner.plan(data))


def asked(tmp_path, data, *more: str):
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return CliRunner().invoke(app, ["plan", str(path), *more])


# ---------------------------------------------------------------------------------------------------- one run after another


def test_a_run_after_another_on_the_same_sites_is_the_run_alone():
    """Steps of sites are remembered; what fails is not of the step."""
    others = [
        {**FAILS, "failures": {"rates": "pooled", "mtbf": {"accelerator": "100 d"}}}, {**FAILS, "policy": "hot-spares"},
        None, FAILS,
    ]
    kept = [runs(spec(run=section) if section else spec()).to_dict() for section in others]
    for section, before in zip(others, kept, strict=True):
        site_steps._remembered.clear()
        assert runs(spec(run=section) if section else spec()).to_dict() == before


def test_one_site_is_no_sites_for_a_whole_run():
    path = ROOT / "examples" / "gpt4-retrain.yaml"
    alone, one = (runs(load.load(path, sets)).to_dict() for sets in ((), ("sites=[{name: solo}]",)))
    assert {name: one[name] for name in alone} == alone


# ---------------------------------------------------------------------------------------------------- the verdict


def test_a_site_that_does_not_fit_is_the_verdict(tmp_path):
    found = asked(tmp_path, spec([TWO[0], {"name": "east", "cluster": SMALL}]), "--format", "json")
    data = json.loads(found.stdout)
    assert found.exit_code == 1 and data["verdict"]["feasible"] is False
    assert any(text.startswith("site east") for text in data["verdict"]["violations"])
    text = asked(tmp_path, spec([TWO[0], {"name": "east", "cluster": SMALL}])).stdout
    assert text.startswith("NOT FEASIBLE\n  - site east")


def test_a_template_that_does_not_fit_is_no_verdict(tmp_path):
    roomy = {"override": {"accelerator.memory_B": "80 GB"}}
    data = spec([{**site, "cluster": roomy} for site in TWO], cluster={**BASE["cluster"], **SMALL})
    assert not planner.plan(data).feasible and runs(data).feasible
    found = asked(tmp_path, data, "--format", "json")
    assert found.exit_code == 0 and json.loads(found.stdout)["verdict"] == {
        "feasible": True, "violations": [], "open": False, "open_reasons": [],
    }  # fmt: skip
    assert asked(tmp_path, data).stdout.startswith("FEASIBLE\n")


def test_the_head_is_the_step_over_the_sites_and_names_the_one_site_plan(tmp_path):
    data = spec(run=FAILS)
    found = runs(data)
    step_s = found.value("phase_run_step_s[main]")
    shown = json.loads(asked(tmp_path, data, "--format", "json").stdout)
    assert shown["step"]["step_s"] == step_s and shown["step"]["accelerators"] == 512
    assert shown["step"]["tokens_per_s"] == pytest.approx(384 * 8192 / step_s)
    assert shown["one_site"]["site"] == "west" and shown["one_site"]["step"]["step_s"] < step_s
    assert shown["run"]["uninterrupted_s"] == found.value("productive_s") == pytest.approx(shown["run"]["steps"] * step_s)
    screen = asked(tmp_path, data).stdout
    head, _, rest = screen.partition("one site: west")
    assert "512 accelerators" in head and "step time" in head and "256 h100" in rest.split("\n\n")[0].replace("\n", " ")
    assert max(map(len, screen.split("\n"))) <= 80
    parts = over_sites.parts(found)
    assert sum(row["s"] for row in parts) == pytest.approx(step_s) and sum(row["share"] for row in parts) == pytest.approx(1)
    assert asked(tmp_path, data, "--format", "md").stdout.startswith("# ")


def test_a_template_that_no_site_is_like_is_said():
    others = [{**site, "cluster": {"accelerators": 128}} for site in TWO]
    assert any("template" in note for note in runs(spec(others)).inputs.notes)
    assert not any("template" in note for note in runs(spec()).inputs.notes)


def test_notes_are_printed_once_and_spares_are_no_accelerators_of_the_layout(tmp_path):
    text = asked(tmp_path, spec(run={**FAILS, "spares": {"count": 8}, "policy": "hot-spares"})).stdout
    assert text.count("exchange between sites: ") == 1
    assert "sites: 2, 512 accelerators, synchronous; 64 spare" in text


def test_nothing_is_set_by_hand_over_sites():
    with pytest.raises(SpecError, match="pp_bubble_s"):
        run.run_plan(planner.plan(spec(), overrides={"pp_bubble_s": 0.0}))


def test_the_ladder_climbs_on_the_site_that_paces():
    small = [{**site, "cluster": {"accelerators": 128}} for site in TWO]
    found = runs(spec(small, run={**FAILS, "loss": {}, "ladder": {}}))
    made = ladder.ladder(found)
    site = found.steps["main"]
    assert site.problem.spec.cluster != found.templates["main"].problem.spec.cluster
    for rung in made.system_rungs:
        assert rung.accelerators == site.problem.spec.cluster.accelerators * rung.dp // site.problem.spec.layout.dp
        assert rung.full_over_this == pytest.approx(found.value("phase_run_step_s[main]") / rung.step_s)
    assert any("in one site" in note for note in made.notes)
    assert all(rung.accelerators <= site.problem.spec.cluster.accelerators for rung in made.loss_rungs)


# ---------------------------------------------------------------------------------------------------- nothing is ignored


@pytest.mark.parametrize(("link", "sync", "words"), [
    ({}, {"overlap": "backward"}, "one chunk"),
    ({"paths": 4}, {}, "flows is missing"),
    ({"paths": 4, "transport": "go-back-n", "loss": 1e-6}, {}, "flows is missing"),
], ids=["backward in one chunk", "paths without flows", "lossy paths without flows"])
def test_what_would_be_taken_silently_is_refused(link, sync, words):
    with pytest.raises(SpecError, match=words):
        runs(spec(links=[{**LINK, **link}], sync=sync))


def test_a_list_is_reached_by_number_on_the_command_line(tmp_path):
    wide = asked(tmp_path, spec(), "--set", "links.0.bandwidth=1 Tb/s")
    assert wide.exit_code == 0 and "links.0.bandwidth: '1 Tb/s' = 125 GB/s" in wide.stdout
    assert runs(spec(links=[{**LINK, "bandwidth": "1 Tb/s"}])).value("run_wall_s") == json.loads(
        asked(tmp_path, spec(), "--set", "links.0.bandwidth=1 Tb/s", "--format", "json").stdout
    )["run"]["quantities"]["run_wall_s"]
    for place in ("links.1.bandwidth=1 Tb/s", "links.east.bandwidth=1 Tb/s", "links.-1.bandwidth=1 Tb/s"):
        refused = asked(tmp_path, spec(), "--set", place)
        assert isinstance(refused.exception, SpecError) and not refused.stdout
        assert "links is a list: its entries are links.0" in refused.exception.message


def test_tables_and_verdict_agree():
    found = runs(spec([TWO[0], {"name": "east", "cluster": SMALL}]))
    assert set(site_tables.violations(found)) <= set(found.violations)


# ---------------------------------------------------------------------------------------------------- failures over sites


OUTAGES = {
    "failures": {"rates": "none", "mtbf": {"site": "100 d"}, "recovery": {"site_outage": "10 d"}},
    "checkpoint": {"storage_Bps": "200 GB/s"},
}
DILOCO = {"strategy": "semi-synchronous", "inner_steps": 100}


def test_a_run_that_goes_on_without_a_site_keeps_the_others():
    """Two sites that are each away 10 of 110 days: 10/11 of the compute is there; who waits for both loses 1/6."""
    found = runs(spec(run=OUTAGES, training={**BASE["training"], "tokens": 1e13}))
    goes_on, waits = found.value("policy_goodput[elastic]"), found.value("policy_goodput[restart]")
    assert goes_on == pytest.approx(10 / 11, abs=0.003) and waits == pytest.approx(1 / 1.2, abs=0.003)
    assert found.value("policy_missing_share[elastic]") == pytest.approx(1 / 11, abs=0.002)
    alone = runs({**BASE, "run": OUTAGES})
    assert alone.value("policy_goodput[elastic]") == pytest.approx(alone.value("policy_goodput[restart]"), abs=0.002)


def test_no_domain_takes_down_more_replicas_than_a_site_has():
    three = [*TWO, {"name": "north", "cluster": {"accelerators": 128}}]
    found = runs(spec(three, STAR, run=FAILS, training={**BASE["training"], "global_batch_sequences": 384}))
    each = [plan.value("dp") for plan in found.inputs.structure["site_steps"]["main"].plans.values()]
    assert found.value("data_parallel") == sum(each) == 80
    hit = [found.value(f"domain_replicas_hit[{name}]") for name in ("node", "pod", "site")]
    assert hit == sorted(hit) and hit[-1] == max(each) == 32
    assert found.value("component_units[site]") == 3 and found.value("domain_ranks[site]") == 256


def test_sites_of_a_group_are_whole():
    """One site a group, two in the mixed region: never a part of a site."""
    regions = [{"name": "a", "region": "us"}, {"name": "b", "region": "us", "cluster": {"accelerators": 128}}, {
        "name": "c", "region": "eu"}]
    data = spec(regions, STAR, run=FAILS, training={**BASE["training"], "global_batch_sequences": 384})
    mixed, outer = (runs({**data, "sync": {**DILOCO, "strategy": kind}}) for kind in ("mixed", "semi-synchronous"))
    assert mixed.value("component_units[site]") == 2 and outer.value("component_units[site]") == 1
    assert mixed.value("lockstep_groups") == 2 and outer.value("lockstep_groups") == 3
    assert mixed.value("component_units[accelerator]") == 384 and outer.value("component_units[accelerator]") == 256


def test_groups_wait_for_the_last_at_an_outer_step_unless_the_delay_covers_it():
    quick = {"detect": "10 s", "reschedule": "20 s", "restart": "30 s"}
    failures = {"rates": "none", "mtbf": {"accelerator": "10 d"}, "recovery": quick}
    fails = {"failures": failures, "checkpoint": {"storage_Bps": "1 PB/s"}}
    data = spec([{"name": "dc", "count": 32}], STAR, run=fails, training={**BASE["training"], "global_batch_sequences": 32 * 128})
    blocking, late = (
        runs({**data, "sync": {**DILOCO, "inner_steps": 1000, "delay": delay}}) for delay in (0.0, 500.0)
    )
    wait, less = (found.value("policy_group_share[restart]") for found in (blocking, late))
    assert wait > 3 * less > 0
    for found in (blocking, late):
        parts = [found.value(f"{name}[restart]") for name in graph.REGISTRY["policy_share"].parts]
        assert sum(parts) == pytest.approx(1.0, abs=1e-12)
    # by hand: failures of one group while it computes, each with its down time, restart and half an interval
    each_s = found_cost(blocking)
    window_s, rate = blocking.value("group_window_s"), blocking.value("interruptions_per_s")
    rng = np.random.default_rng(0)
    lost = each_s * rng.poisson(rate * window_s, (20000, 32))
    assert blocking.value("policy_goodput[restart]") == pytest.approx(window_s / (window_s + lost.max(axis=1).mean()), rel=0.03)
    many = run.evaluate(blocking.inputs, {"failure_rate_factor": np.geomspace(1e-6, 10, 60)}, ("goodput",))["goodput", None]
    assert (np.diff(many) < 0).all() and many[0] > 0.99


def found_cost(found: run.RunPlan) -> float:
    fixed = found.value("policy_storage_down_s[restart]") + found.value("policy_storage_restart_s[restart]")
    return fixed + found.value("checkpoint_lag_s") + 0.5 * found.value("policy_interval_s[restart]")


def test_groups_share_the_storage_and_count_together():
    data = spec([{"name": "dc", "count": 8}], STAR, run={**FAILS, "policy": "hot-spares", "spares": {"count": 2}},
                training={**BASE["training"], "global_batch_sequences": 1024})
    lockstep, outer = runs(data), runs({**data, "sync": DILOCO})
    assert outer.value("checkpoint_write_s") == pytest.approx(8 * lockstep.value("checkpoint_write_s"))
    assert outer.value("policy_all_spare_nodes[hot-spares]") == 16 and lockstep.value("policy_all_spare_nodes[hot-spares]") == 2
    assert outer.value("run_accelerators") == 8 * (256 + 2 * 8)
    every_s = outer.value("checkpoint_interval_s")
    assert outer.value("checkpoint_mean_Bps") == pytest.approx(8 * outer.value("checkpoint_B") / every_s)
    assert outer.value("checkpoint_mean_Bps") <= 200e9 * 1.0001
    one = outer.value("policy_failures_per_s[hot-spares]") * outer.value("policy_played_share[hot-spares]")
    assert outer.value("expected_failures") == pytest.approx(8 * one * outer.value("productive_s") / outer.value("goodput"))


# ---------------------------------------------------------------------------------------------------- power of the sites


POWER = {"power": {"pue": 1.2, "overhead_per_accelerator_W": "500 W", "cap_W": "400 kW"}}


def test_boards_of_unlike_sites_draw_their_own_power():
    unlike = [TWO[0], {"name": "east", "cluster": {"profile": "gb200-nvl72", "accelerators": 144}, "layout": {"tp": 2}}]
    data = spec(unlike, run=POWER, training={**BASE["training"], "global_batch_sequences": 1152})
    found = runs(data)
    draw = {"west": (256, 700.0), "east": (144, 1200.0)}
    limit = {name: found.inputs.leaves[f"board_limit_W[{name}]"].value for name in draw}
    assert limit == {name: watts for name, (_, watts) in draw.items()}
    busy = found.value("matmul_draw")
    each = {name: count * (watts * busy + 500) * 1.2 for name, (count, watts) in draw.items()}
    assert found.value("peak_site_W") == pytest.approx(sum(each.values()))
    assert found.value("largest_site_peak_W") == pytest.approx(max(each.values())) and found.feasible
    assert found.value("accelerators_under_cap") == 400e3 // ((1200 * busy + 500) * 1.2)
    assert found.value("peak_site_W") > 400e3  # both together: the cap is of one
    tight = runs({**data, "run": {"power": {**POWER["power"], "cap_W": "300 kW"}}})
    assert [text for text in tight.violations if "cap" in text]


def test_equal_sites_draw_as_one_of_their_size():
    both = runs(spec([{"name": "dc", "count": 4}], STAR, run=POWER, training={**BASE["training"], "global_batch_sequences": 512}))
    one = runs({**BASE, "run": POWER, "training": {**BASE["training"], "global_batch_sequences": 128}})
    assert both.value("peak_site_W") == pytest.approx(4 * one.value("peak_site_W"))
    assert both.value("largest_site_peak_W") == pytest.approx(one.value("largest_site_peak_W"))


# ---------------------------------------------------------------------------------------------------- side by side



def test_strategies_are_ranked_with_their_goodput():
    """Where much fails, a strategy that is in lock-step over all sites loses to one that is not, however fast its step."""
    fails = {**FAILS, "failures": {"rates": "none", "mtbf": {"accelerator": "3 d"}}}
    data = spec([{"name": "dc", "count": 4}], STAR, run=fails, training={**BASE["training"], "global_batch_sequences": 512})
    side = [one for one in strategies.compare(runs(data), pays=False) if one.run is not None]
    ranks = [one.value("sites_gain") * one.value("goodput") for one in side]
    assert ranks == sorted(ranks, reverse=True) == [one.rank for one in side]
    assert len({round(one.value("goodput"), 3) for one in side}) > 2
    by_step = sorted(side, key=lambda one: -one.value("sites_gain"))
    assert [one.name for one in by_step] != [one.name for one in side]
    assert side[0].to_dict()["gain_with_goodput"] == side[0].rank


def test_two_strategies_of_a_kind_say_what_differs_and_no_cell_is_cut():
    regions = [{"name": f"site-{at}", "region": "us" if at < 2 else "eu"} for at in range(4)]
    sync = {"strategy": "mixed", "inner_steps": 50}
    batch = {**BASE["training"], "global_batch_sequences": 512}
    found = runs(spec(regions, STAR, run={**FAILS, "policy": "restart"}, sync=sync, training=batch))
    text = "\n".join(run_sites.strategy_lines(strategies.compare(found)))
    rows = " ".join(text.split())
    assert "- as stated: mixed, inner steps 50 -" in rows
    assert "- mixed, H 50: mixed, overlap backward, chunks 16, inner steps 50, fragments 8, delay 1, outer bits 4 -" in rows
    assert "..." not in "\n".join([text, *run_goodput.lines(found), *run_sites.regime_lines(strategies.regimes(found))])


def test_traffic_of_many_sites_is_of_one_and_agrees_with_the_links():
    data = spec([{"name": "dc", "count": 8}], STAR, sync=DILOCO, training={**BASE["training"], "global_batch_sequences": 1024})
    found = runs(data)
    (row,) = run_sites.grouped(found, site_tables.traffic(found))
    (link,) = found.inputs.indexes["link"]
    assert row["link_share"] == pytest.approx(row["mean_Bps"] / found.value(f"link_delivered_Bps[{link}]"))
    assert row["link_share"] == pytest.approx(found.value(f"way_mean_share[{found.inputs.indexes['way'][0]}]"))
    assert row["peak_Bps"] <= found.value(f"link_delivered_Bps[{link}]") * 1.0001
    assert row["step_B"] == pytest.approx(2 * 7 / 8 * found.value("outer_message_B") / 100)


# ---------------------------------------------------------------------------------------------------- the other commands


def test_commands_of_a_step_say_which_site_they_look_into(tmp_path):
    """Sites of unlike size: the step that is explained and drawn is that of the slowest, never that of the template."""
    unlike = spec([{"name": "west"}, {"name": "east", "cluster": {"accelerators": 128}}], cluster={**BASE["cluster"]})
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(unlike), encoding="utf-8")
    name, plan = over_sites.slowest(runs(unlike))
    told = CliRunner().invoke(app, ["explain", str(path), "step_s", "--format", "json"])
    assert told.exit_code == 0 and f"step_s of {name}, the slowest site, alone" in told.stderr
    assert json.loads(told.stdout)["value"] == plan.step_s != planner.plan(unlike).step_s
    over = CliRunner().invoke(app, ["explain", str(path), "phase_run_step_s[main]", "--format", "json"])
    assert json.loads(over.stdout)["value"] == over_sites.step(runs(unlike))["step_s"] and "alone" not in over.stderr
    trace = CliRunner().invoke(app, ["timeline", str(path), "-o", str(tmp_path / "trace.json")])
    assert trace.exit_code == 0 and f"the step of {name}, the slowest site, alone" in trace.stderr
    launch = CliRunner().invoke(app, ["export", str(path), "--to", "json", "-o", str(tmp_path / "launch.json")])
    assert "on cluster:, the template of the sites" in launch.stderr
    found = CliRunner().invoke(app, ["search", str(path), "--free", "tp"])
    assert "the step on cluster: alone, the template of the sites" in found.stderr


def test_runs_over_sites_are_compared_as_runs(tmp_path):
    """Slower links alone: the steps of the sites are alike, the runs are not."""
    paths = []
    for at, one in enumerate(("400 Gb/s", "20 Gb/s")):
        path = tmp_path / f"{at}.yaml"
        path.write_text(json.dumps(spec(links=[{**LINK, "bandwidth": one}])), encoding="utf-8")
        paths.append(str(path))
    told = CliRunner().invoke(app, ["compare", *paths])
    assert told.exit_code == 0 and told.stdout.startswith("A IS PREDICTED TO BE FASTER")
    data = json.loads(CliRunner().invoke(app, ["compare", *paths, "--format", "json"]).stdout)
    steps = [over_sites.step(runs(spec(links=[{**LINK, "bandwidth": one}])))["step_s"] for one in ("400 Gb/s", "20 Gb/s")]
    assert [data["run"]["phase_run_step_s"][at] for at in "ab"] == steps
    assert [one["field"] for one in data["changes"]] == ["links.0.bandwidth"]
    small = tmp_path / "small.yaml"
    small.write_text(json.dumps(spec([{"name": "west"}, {"name": "east", "cluster": SMALL}])), encoding="utf-8")
    unfit = CliRunner().invoke(app, ["compare", paths[0], str(small)])
    assert unfit.exit_code == 0 and unfit.stdout.startswith("ONLY A FITS") and "site east" in " ".join(unfit.stdout.split())
