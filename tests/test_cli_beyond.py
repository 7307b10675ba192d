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
    cap = ("--set-b", "run.power={pue: 1.2, overhead_per_accelerator_W: 450 W, cap_W: 1 MW}")
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


def test_days_and_cost_of_a_requirement_are_those_of_the_run(run: Run):
    """`now` is what `plan` says, at the price of the run; at the path that is found the run is that long, within a per cent."""
    code, out, err = run("require", STORY, "--target", "days=18", "--target", "cost=9.9e6", "--format", "json")
    told, made = json.loads(out), run_plan(planner.plan(STORY))
    now = {goal["name"]: goal["now"] for goal in told["targets"]}
    assert (code, err) == (0, "")
    assert now["days"] == pytest.approx(made.value("run_wall_s") / 86400.0, rel=1e-12)
    assert now["cost"] == pytest.approx(made.value("rental_cost"), rel=1e-12) and told["price"] == 2.5
    sets = [f"{name}={value}" for name, value in told["path"]["settings"].items()]
    there = run_plan(planner.plan(STORY, sets=sets))
    assert there.value("run_wall_s") / 86400.0 == pytest.approx(18.0, rel=0.01)
    assert there.value("rental_cost") < 9.9e6 * 1.01
    screen = run("require", STORY, "--target", "cost=9.9e6", "--price", "3")[1]
    assert "cost at 3 an accelerator-hour" in " ".join(screen.split()) and "as `run` plans it" in screen


def test_a_requirement_over_sites_says_that_days_are_of_one_cluster(run: Run):
    _, out, err = run("require", SITES, "--target", "days=100")
    assert "of `cluster` alone: sites, and failures over them, are not counted" in " ".join(out.split())
    assert "without run:, sites:, links:, sync:" in err


def test_a_quantity_of_the_run_is_not_fixed_by_hand_and_that_is_said(run: Run):
    """Whether or not the quantities of a run were loaded before."""
    for name in ("goodput", "final_loss"):
        code, out, err = run("plan", STORY, "--override", f"{name}=1")
        assert (code, out) == (2, "")
        assert f"--override {name}: a quantity of the run, and --override fixes those of the step" in err
    assert run("plan", STORY, "--override", "tp_exposed_s=0")[0] == 0


def test_what_moves_the_run_alone_is_not_called_no_difference(run: Run):
    same = run("compare", STORY, STORY)[1]
    moved = " ".join(run("compare", STORY, STORY, "--set-b", "run.policy=restart")[1].split())
    assert same.startswith("NO DIFFERENCE: both give ")
    assert moved.startswith("THE RUNS DIFFER: time of the run ") and "their steps are alike, both give" in moved
    rated = run("compare", STORY, STORY, "--set-b", "cluster.override.accelerator.tdp_W=900 W")[1]
    told = " ".join(rated.split())
    assert told.startswith("THE RUNS DIFFER: energy ") and "no effect on the step" in told
