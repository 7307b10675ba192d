"""One verdict of a plan with a run: the first line, the JSON and the exit code say the same."""

from __future__ import annotations

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from codesign.cli import app

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
    assert review.exit_code == 1 and "**Not feasible: 1 constraint broken.**" in review.stdout


def test_a_run_that_does_not_end_has_no_days_and_no_cost():
    text = " ".join(asked("--set", "run.checkpoint.interval=30 d").stdout.split())
    assert "ends never" in text and "at 2.5 each" not in text and "MWh" not in text
    data = json.loads(asked("--set", "run.checkpoint.interval=30 d", "--format", "json").stdout)["run"]["outcome"]
    assert data["calendar_s"] is None and data["money"]["rental_cost"] is None
