"""What commands do with the sections of a spec that the step does not read: nothing is ignored without a word."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from codesign import planner
from codesign.cli import main
from codesign.run import run_plan
from codesign.spec import datafiles

EXAMPLES = datafiles.root("examples")
STORY = str(EXAMPLES / "gpt4-retrain.yaml")
SITES = str(EXAMPLES / "frontier-100k-two-sites.yaml")
STEP = str(EXAMPLES / "llama-3-8b-fsdp.yaml")

Run = Callable[..., tuple[int, str, str]]
STEP_ONLY = {
    "lint": (), "sensitivity": (), "require": ("--target", "mfu=0.01"), "shapes": ("--axis", "layers=30,32"), "search": (),
    "why-not": ("--layout", "micro_batch=1"), "plan": ("--format", "csv"),
}  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return command


@pytest.mark.parametrize("command", STEP_ONLY)
def test_a_command_about_the_step_says_once_that_it_leaves_the_run_out(run: Run, command: str):
    more = ("--set", "training.tokens=1e12", "--set", "run={price_per_hour: 2}")
    told, silent = (run(command, STEP, *STEP_ONLY[command], *sets) for sets in (more, more[:2]))
    assert told[2].count("note: the answer is about the step alone") == 1 and f"without run: of {STEP};" in told[2]
    assert "note: the answer" not in silent[2]
    assert told[0] == silent[0]


def test_every_section_that_plays_no_part_is_named(run: Run):
    assert "without run:, sites:, links:, sync: of" in run("lint", SITES)[2]
    assert "note:" not in run("plan", STORY)[2] + run("explain", STORY, "step_s")[2]


def test_compare_sets_the_runs_side_by_side(run: Run):
    code, out, err = run("compare", STORY, STORY, "--set-b", "run.policy=restart", "--format", "json")
    data = json.loads(out)
    other = run_plan(planner.plan(STORY, sets=("run.policy=restart",)))
    for name in ("run_wall_s", "goodput", "final_loss", "rental_cost"):
        assert data["run"][name]["b"] == other.value(name)
    assert data["run"]["goodput"]["a"] > data["run"]["goodput"]["b"]
    assert data["answer"]["faster"] is None and data["answer"]["extrapolated"] == [] and data["effects"] == []
    assert (code, err) == (0, "")
    screen = run("compare", STORY, STORY, "--set-b", "run.policy=restart")[1]
    assert "the run" in screen and "goodput" in screen and max(map(len, screen.splitlines())) <= 80
    assert "## The run" in run("compare", STORY, STORY, "--set-b", "run.policy=restart", "--format", "md")[1]


def test_compare_says_what_it_leaves_out_where_one_spec_has_no_run(run: Run):
    code, out, err = run("compare", STORY, STEP, "--format", "json")
    assert code == 0 and json.loads(out)["run"] is None
    assert f"without run: of {STORY};" in err and STEP not in err


def test_compare_tells_what_breaks_the_run_alone(run: Run):
    cap = ("--set-b", "run.power={pue: 1.2, node_overhead_W: 3200 W, cap_W: 1 MW}")
    out = " ".join(run("compare", STORY, STORY, *cap)[1].split())
    assert "the run of B is not feasible: the site peaks at" in out and "run of A" not in out


@pytest.mark.parametrize("name", ["goodput", "run_days", "final_loss", "run_accelerator_hours", "rental_cost"])
def test_explain_reaches_past_the_step(run: Run, name: str):
    code, out, err = run("explain", STORY, name, "--depth", "1", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["value"] == pytest.approx(run_plan(planner.plan(STORY)).value(name), rel=1e-15)


def test_explain_computes_what_the_report_of_the_run_leaves_out(run: Run):
    arguments = ("--set", "training.tokens=1e12", "--set", "run={loss: {}}", "--depth", "0", "--format", "json")
    made = run_plan(planner.plan(STEP, sets=(arguments[1], arguments[3])))
    days = json.loads(run("explain", STEP, "run_days", *arguments)[1])
    assert days["value"] == pytest.approx(made.value("run_wall_s") / 86400) and "run_days" not in made.inputs.targets
    assert run("explain", STEP, "launch_run_s", *arguments)[0] == 2  # no run.launch: nothing to explain


def test_explain_of_the_run_prints_before_and_after(run: Run):
    out = run("explain", STORY, "goodput", "--depth", "0", "--set", "run.policy=restart")[1]
    before, after = (run_plan(planner.plan(STORY, sets=sets)).value("goodput") for sets in ((), ("run.policy=restart",)))
    assert out.startswith(f"goodput {before:.4g} -> {after:.4g} (")
    assert "run_days 20" in run("explain", STORY, "run_days", "--depth", "0", "--override", "dp_exposed_s=0")[1]
    arguments = ("explain", STEP, "run_wall_s", "--depth", "0", "--set", "run={}", "--set", "training.tokens=1e12")
    assert "the spec without --set has no" in run(*arguments)[2]


def test_a_misspelt_quantity_of_a_run_is_found(run: Run):
    code, _, err = run("explain", STORY, "gooput")
    assert code == 2 and "Did you mean 'goodput'" in err
