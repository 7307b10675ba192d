"""One verdict of a plan with a run: the first line, the JSON and the exit code say the same."""

from __future__ import annotations

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from codesign import planner
from codesign.cli import app
from codesign.errors import SpecError
from codesign.run import run_plan
from codesign.spec import load

GPT4 = "examples/gpt4-retrain.yaml"
BROKEN = {
    "run.power.cap_W=3 MW": "its cap is 3.0 MW",
    "run.deadline=2027-03-02": "after run.deadline",
    "run.checkpoint.interval=30 d": "the run does not end",
}


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", GPT4, *arguments])


@pytest.mark.parametrize("change", BROKEN)
def test_what_does_not_hold_of_the_run_is_the_verdict_everywhere(change):
    written, data = asked("--set", change), asked("--set", change, "--format", "json")
    assert written.exit_code == data.exit_code == 1
    assert written.stdout.startswith("NOT FEASIBLE\n") and BROKEN[change] in " ".join(written.stdout.split())
    verdict = json.loads(data.stdout)["verdict"]
    assert verdict["feasible"] is False and BROKEN[change] in verdict["violations"][0] and len(verdict["violations"]) == 1
    review = CliRunner().invoke(app, ["report", GPT4, "--set", change])
    assert review.exit_code == 1 and "**Not feasible.** [1 constraint broken." in review.stdout


def test_a_run_that_does_not_end_has_no_days_and_no_cost():
    text = " ".join(asked("--set", "run.checkpoint.interval=30 d").stdout.split())
    assert "ends never" in text and "at 2.5 each" not in text and "MWh" not in text
    assert "goodput 0.00 - rework" in text
    data = json.loads(asked("--set", "run.checkpoint.interval=30 d", "--format", "json").stdout)["run"]["outcome"]
    assert data["calendar_s"] is None and data["money"]["rental_cost"] is None


@pytest.mark.parametrize(("story", "accelerators"), [("gpt4-retrain", 8192), ("frontier-100k-two-sites", 98304)])
def test_hardware_that_is_all_there_on_the_first_day_delays_nothing(story: str, accelerators: int):
    """Of a job with spares, and of several sites: tranches bring the accelerators of the layout, of all sites together."""
    start = load.load(f"examples/{story}.yaml").spec.run.start
    sets = f"run.tranches=[{{date: {start}, accelerators: {accelerators}}}]"
    made = run_plan(planner.plan(load.load(f"examples/{story}.yaml", [sets])))
    assert made.value("tranche_delay_s") == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(SpecError, match=f"{accelerators:,}: the plan is for all of them"):
        load.load(f"examples/{story}.yaml", [sets.replace(str(accelerators), str(accelerators // 2))])
