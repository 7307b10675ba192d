"""What recovery is compared on, what it costs and what it is taken to need: premises, components, intervals, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from specs import planned, spec, with_failures

from codesign import goodput, planner, run
from codesign.decisions import joint
from codesign.laws import distributions
from codesign.report import run as report
from codesign.report import run_goodput

OWN = {"accelerator": "60000 h", "host": "40000 h", "nic": "200 y", "link": "100 y", "switch": "100 y", "software": "25 y"}


def text(made: run.RunPlan) -> str:
    return " ".join(" ".join(run_goodput.lines(made)).split())


# ---------------------------------------------------------------------------------------------------- premises


def test_a_restart_needs_whole_nodes_as_hot_spares_do():
    """30 days of repair take nodes from every policy that runs on the whole layout."""
    made = planned(with_failures({"recovery": {"repair": "30 d"}}))
    for what in ("spare_nodes", "stall_share"):
        assert made.value(f"policy_{what}[restart]") == made.value(f"policy_{what}[hot-spares]") > 0
    assert made.value("run_accelerators") == 16384 + 8 * made.value("policy_spare_nodes[restart]")
    assert made.value("policy_goodput_per_accelerator[restart]") < 0.9 * made.value("policy_goodput[restart]")
    assert "premise: each policy pays for the spares of its row, in nodes" in text(made)


def test_without_spares_a_run_waits_for_each_repair_whatever_it_is_called():
    """EQ-68 with no spare: after each failure of a part the run waits for its node, and nothing fails meanwhile."""
    made = planned(with_failures(spares={"count": 0}))
    out = made.value("nodes_in_repair")
    for policy in ("restart", "hot-spares"):
        assert made.value(f"policy_stall_share[{policy}]") == pytest.approx(out / (1.0 + out))
    assert "times as much of the accelerators" in text(made)


@pytest.mark.parametrize(("places", "mean"), [(1, 10.4), (18, 10.4), (300, 250.0), (5, 1e4), (2, 0.0)])
def test_erlangs_blocking_by_its_recursion(places: int, mean: float):
    expected = 1.0
    for k in range(1, places + 1):
        expected = mean * expected / (k + mean * expected)
    assert distributions.erlang_blocked(places, mean) == pytest.approx(expected, rel=1e-4)


def test_spares_that_are_stated_stand_by_for_every_policy():
    made = planned(with_failures(spares={"count": 7}))
    assert {made.value(f"policy_spare_nodes[{name}]") for name in made.inputs.indexes["policy"]} == {7.0}
    none = planned(with_failures())
    assert none.value("policy_spare_nodes[elastic]") == none.value("policy_spare_nodes[degraded]") == 0.0


# ---------------------------------------------------------------------------------------------------- by component


def test_the_outage_of_a_site_is_the_sites_own_cost():
    """A site that is away 3 days in 33 costs about a tenth of the wall clock, whatever fails more often."""
    failures = {"mtbf": {"site": "30 d"}, "recovery": {"site_outage": "3 d"}}
    made = planned(with_failures(failures))
    played = made.value("policy_played_share[restart]")
    cost = goodput.by_component(made)
    assert cost["site"] > 0.8 * played * 3.0 / 33.0
    plain = goodput.by_component(planned(with_failures()))
    assert cost["accelerator"] == pytest.approx(plain["accelerator"] * (1.0 - cost["site"]), rel=0.1)


def test_the_table_of_components_says_the_rate_of_the_run_and_those_before_and_after():
    early = planned(with_failures({"early_life": {"settling": "60 d"}}))
    units, a_day = (early.value(f"component_{what}[accelerator]") for what in ("units", "failures_per_s"))
    years = units / a_day / 31557600.0
    assert f"{years:.3g} y" in text(early) and "when the run begins" in text(early)
    assert "when the run begins" not in text(planned(with_failures()))


# ---------------------------------------------------------------------------------------------------- intervals, evidence


def test_an_interval_is_of_published_rates_only():
    own = planned(with_failures({"mtbf": OWN, "corruption": {"mtbf": "300 y", "detect": "1 h"}}))
    single = planned(with_failures({"rates": "rsc-1"}))
    assert goodput.interval(own) is None and goodput.interval(single) is None
    assert "no interval is known: the failure rates are your own" in text(own)
    assert "no interval is known: the failure rates are one report" in text(single)
    whole, part = planned(with_failures()), planned(with_failures({"mtbf": {"accelerator": "60000 h"}}))
    (low, high), (least, most) = goodput.interval(whole), goodput.interval(part)
    assert most - least < 0.6 * (high - low)


@pytest.mark.parametrize(
    ("accelerators", "marked"), [(16384, ""), (65536, "EXTRAPOLATED: rates pooled"), (2048, "rates by node")]
)
def test_rates_outside_the_reports_are_marked(accelerators: int, marked: str):
    def of(section: dict) -> run.RunPlan:
        data = spec(section, dp=accelerators // 128)
        return run.run_plan(planner.plan({**data, "cluster": {**data["cluster"], "accelerators": accelerators}}))

    made = of(with_failures())
    found = [note for note in made.inputs.notes if note.startswith(("EXTRAPOLATED: rates", "rates by node"))]
    assert len(found) == bool(marked) and all(note.startswith(marked) for note in found)
    own = of(with_failures({"mtbf": OWN, "corruption": {"mtbf": "300 y", "detect": "1 h"}}))
    assert not any("rates by node" in note or "EXTRAPOLATED: rates" in note for note in own.inputs.notes)


# ---------------------------------------------------------------------------------------------------- checkpoints


def test_writing_beside_the_compute_is_not_free_and_says_so():
    made = planned(with_failures())
    slow = made.inputs.leaves["checkpoint_slowdown"]
    assert (slow.value, slow.kind) == (0.035, "assumed") and "CheckFreq" in text(made)
    assert made.value("checkpoint_interval_s") > 2 * made.value("checkpoint_write_s")
    free = planned(with_failures(checkpoint={"storage_Bps": "200 GB/s", "slowdown": 0.0}))
    assert made.value("goodput") < free.value("goodput")


def test_how_flat_the_best_interval_is():
    made = planned(with_failures())
    low, high = goodput.flat_interval_s(made)
    assert low < made.value("checkpoint_interval_s") < high

    def at(seconds: float) -> float:
        section = with_failures(checkpoint={"storage_Bps": "200 GB/s", "interval": f"{seconds} s"})
        return made.value("goodput") / planned(section).value("goodput") - 1.0

    assert max(at(low), at(high)) <= 1e-3 < min(at(0.9 * low), at(1.1 * high))


# ---------------------------------------------------------------------------------------------------- time of others, money


def test_the_time_of_others_is_a_line_of_the_budget_and_in_days_energy_cost_and_interruptions():
    section = {"power": {"pue": 1.2, "overhead_per_accelerator_W": 500.0}, "price_per_hour": 2.0}
    alone, shared = (planned(with_failures(**section, **more)) for more in ({}, {"other": {"evaluation": 0.3}}))
    for name in ("run_days", "run_energy_J", "rental_cost", "expected_failures"):
        assert shared.value(name) == pytest.approx(alone.value(name) / 0.7), name
    assert shared.value("average_site_W") * shared.value("run_wall_s") == pytest.approx(shared.value("run_energy_J"))
    found = goodput.wall_clock(shared)
    assert found["evaluation"] == 0.3 and sum(found.values()) == pytest.approx(1.0)
    assert "evaluation 30.00" in text(shared) and "of the 70.0 % of the time that others leave" in text(shared)
    assert "of it for the 30.0 % of the time of others" in " ".join(report.screen(shared).split())


def test_what_failures_cost_counts_the_spares_that_are_held():
    """EQ-104 by hand: hours of the layout that give no step, and all hours of the spares."""
    made = planned(with_failures(price_per_hour=2.0, spares={"count": 50}, policy="hot-spares"))
    hours = made.value("run_wall_s") / 3600.0
    lost, spares = 16384 * hours * (1.0 - made.value("goodput")), 400 * hours
    assert made.value("failure_cost") == pytest.approx(2.0 * (lost + spares))
    assert np.isclose(made.value("rental_cost"), 2.0 * 16784 * hours)


# ---------------------------------------------------------------------------------------------------- drawn together


def test_days_cost_and_energy_have_an_interval_of_step_and_failures_drawn_together():
    section = {"power": {"pue": 1.2, "overhead_per_accelerator_W": 500.0}, "price_per_hour": 2.0}
    made = planned(with_failures(**section))
    found = joint.intervals(made)
    assert found.of == ("step time", "failure rates") and joint.intervals(made) == found
    days = found.spreads["run_wall_s"]
    assert days.low < made.value("run_wall_s") < days.high
    step = made.steps["main"].step_interval
    own = joint.intervals(planned(with_failures({"mtbf": OWN, "corruption": {"mtbf": "300 y", "detect": "1 h"}}, **section)))
    assert own.of == ("step time",)
    alone = np.log(own.spreads["run_wall_s"].high / own.spreads["run_wall_s"].low)
    assert alone == pytest.approx(np.log(step.high / step.low), rel=0.1)  # goodput hardly depends on the step
    rates = np.log(np.divide(*goodput.interval(made)[::-1]))
    assert max(alone, rates) < np.log(days.high / days.low) < 0.95 * (alone + rates)  # not added up
    cost, energy = found.spreads["rental_cost"], found.spreads["run_energy_J"]
    # with more failures more spares are held and paid
    assert days.high / days.value < cost.high / cost.value < 1.05 * days.high / days.value
    assert energy.high / energy.value < days.high / days.value  # lost time draws less
    assert "80 % interval" in " ".join(report.screen(made).split())


def test_a_run_without_failures_has_the_interval_of_its_step():
    made = planned({"start": "2027-01-01"})
    found, step = joint.intervals(made).spreads["run_wall_s"], made.steps["main"].step_interval
    assert found.low / found.value == pytest.approx(step.low / made.steps["main"].step_s, rel=0.02)
    assert found.high / found.value == pytest.approx(step.high / made.steps["main"].step_s, rel=0.02)


def test_all_nodes_slow_is_a_slow_run_without_a_warning(recwarn):
    made = planned(with_failures({"stragglers": {"slow_nodes": {"share": 1.0, "slowdown": 1.5}}}))
    assert made.value("straggler_step_factor") == pytest.approx(1.5) and not recwarn.list


@pytest.mark.parametrize("count", [0, 3, 40])
def test_more_failures_are_never_more_goodput_whatever_spares_are_stated(count: int):
    made = planned(with_failures(spares={"count": count}))
    rates = {"failure_rate_factor": np.geomspace(1e-3, 1e3, 300)}
    values = run.evaluate(made.inputs, rates, ("policy_goodput_per_accelerator",))
    for policy in ("restart", "hot-spares"):
        assert (np.diff(values["policy_goodput_per_accelerator", policy]) <= 1e-12).all()


def test_the_screen_says_what_recovery_is_taken_to_need_and_on_what_the_run_rests():
    made = planned(with_failures({"recovery": {"restart": "4 min"}}))
    assert "detection 60 s (measured), start-up 240 s (yours)" in text(made) and "repair of a node 2 d (assumed)" in text(made)
    screen, data = " ".join(report.screen(made).split()), report.to_dict(made)["footing"]
    assert data["weakest"] == "assumed" and f"{data['leaves']['assumed']} assumed" in screen
