"""Launch now or wait, with hardware that grows older meanwhile: held against runs planned one by one."""

from __future__ import annotations

import numpy as np
import pytest
from specs import planned, with_failures

from codesign.decisions import launch
from codesign.run import RunPlan, evaluate

DAY_S = 86400.0
EARLY = {"settling": "30 d", "failed_share": 0.3, "age": "5 d"}


def waiting(early: dict | None = None, **section) -> RunPlan:
    """The shipped run with a launch of up to 90 days and early life."""
    return planned(with_failures({"early_life": {**EARLY, **(early or {})}}, launch={"horizon": "90 d", **section}))


def test_a_wait_gives_the_run_of_a_cluster_that_is_older_by_the_wait():
    rows = launch.waits(waiting(ages=True), 4).rows
    for row in rows:
        direct = planned(with_failures({"early_life": {**EARLY, "age": f"{5 + row.wait_s / DAY_S} d"}}))
        assert row.run_s == pytest.approx(direct.value("run_wall_s"), rel=1e-12)
    assert rows[0].run_s > rows[1].run_s > rows[3].run_s
    # two days are won, and ninety are waited
    assert launch.waits(waiting(ages=True)).soonest.wait_s == 0.0


def test_age_and_improvement_together_are_a_shorter_run_on_older_hardware():
    made = waiting(ages=True, improvement_doubling="200 d")
    row = launch.waits(made, 3).rows[1]
    direct = planned(with_failures({"early_life": {**EARLY, "age": "50 d"}}))
    step = direct.inputs.leaves["phase_healthy_step_s[main]"].value / 2 ** (45 / 200)
    wall = evaluate(direct.inputs, {"phase_healthy_step_s[main]": np.array([step])}, ["run_wall_s"])[("run_wall_s", None)]
    assert row.run_s == pytest.approx(wall[0], rel=1e-6)
    # improvement alone leaves the hardware as young as it is: its run is longer
    assert launch.waits(waiting(improvement_doubling="200 d"), 3).rows[1].run_s > row.run_s


def test_the_plan_itself_is_launched_now_and_says_what_a_wait_does_not_do():
    with_ages, without = waiting(ages=True), waiting(improvement_doubling="200 d")
    none = planned(with_failures({"early_life": EARLY}))
    assert with_ages.value("run_wall_s") == without.value("run_wall_s") == none.value("run_wall_s")
    assert any("as old after a wait as now" in note for note in without.inputs.notes)
    assert not any("after a wait" in note for note in with_ages.inputs.notes)


def test_a_wait_until_early_failures_are_over_leaves_those_of_settled_hardware():
    made = waiting({"settling": "3 d", "replaced_share": 0.0}, ages=True)
    settled = planned(with_failures({})).value("run_wall_s")
    assert launch.waits(made, 2).rows[1].run_s == pytest.approx(settled, rel=1e-9)
