"""`codesign sensitivity` and `codesign require`: streams, exit codes, formats, and screens that say what was found."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codesign.cli import main
from codesign.planner import plan
from codesign.report import hardware, requirement
from codesign.search.require import require
from codesign.search.sensitivity import sensitivity
from codesign.spec import datafiles

EXAMPLES = datafiles.root("examples")
SMALL, MOE, LARGE = (
    str(EXAMPLES / f"{name}.yaml") for name in ("llama-3-8b-fsdp", "deepseek-v3-h800", "llama-3.1-405b-h100")
)
TOO_LARGE = ("--set", "training.sequence_length=131072")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return command


@pytest.mark.parametrize("verb", ["sensitivity", "require"])
def test_help_has_examples_and_exit_codes(run: Run, verb: str):
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"Examples:\n +codesign {verb}", out)
    assert "Exit codes: 0 an answer; 1 the answer is no; 2 wrong use or wrong input; 3" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [
    ("sensitivity", SMALL), ("sensitivity", MOE), ("sensitivity", LARGE, "--less", "0.5", "--more", "1"),
    ("require", MOE, "--target", "mfu=0.3"), ("require", LARGE, "--target", "days=100"),
    ("require", MOE, "--target", "days=40", "--target", "cost=1e8", "--price", "3"),
])
def test_screens_keep_to_eighty_columns_but_for_commands_to_copy(run: Run, arguments: tuple[str, ...]):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith("  --set ")]
    assert max(map(len, lines)) <= 80


def test_json_is_the_answer_of_the_python_interface(run: Run):
    out = run("sensitivity", SMALL, "--format", "json", "--buy", "0.2", "--weight", "compute_rate=3")[1]
    assert json.loads(out) == json.loads(json.dumps(sensitivity(SMALL, buy=0.2, weights={"compute rate": 3.0}).to_dict()))
    out = run("require", SMALL, "--format", "json", "--target", "step_s=0.9", "--weight", "compute rate=inf")[1]
    assert json.loads(out) == json.loads(
        json.dumps(require(SMALL, {"step_s": 0.9}, weights={"compute rate": math.inf}).to_dict()))


def test_csv_has_a_line_a_resource(run: Run):
    rows = list(csv.DictReader(io.StringIO(run("sensitivity", MOE, "--format", "csv")[1])))
    found = sensitivity(MOE)
    assert [row["resource"] for row in rows] == [row.resource for row in found.elasticities]
    assert [float(row["elasticity_step"]) for row in rows] == [row.step for row in found.elasticities]
    swings = {row.resource: row.swing_s for row in found.tornado}
    assert {row["resource"]: float(row["swing_s"]) for row in rows} == swings
    rows = list(csv.DictReader(io.StringIO(run("require", MOE, "--target", "mfu=0.25", "--format", "csv")[1])))
    path = require(MOE, {"mfu": 0.25}).path
    assert path is not None
    assert {row["resource"]: float(row["factor"]) for row in rows if row["way"] == "path"} == {
        part.resource: part.factor for part in path.parts}


def test_the_ending_of_the_file_is_the_format(run: Run, tmp_path: Path):
    assert run("sensitivity", SMALL, "-o", str(tmp_path / "a.md"))[0] == 0
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert text.startswith("# What the step answers to\n") and "| compute rate |" in text and "```text\n" in text
    assert run("require", SMALL, "--target", "step_s=1", "-o", str(tmp_path / "b.md"))[0] == 0
    assert (tmp_path / "b.md").read_text(encoding="utf-8").startswith("# REACHABLE\n")


def test_the_commands_that_are_printed_reach_the_target(run: Run):
    out = run("require", MOE, "--target", "mfu=0.3")[1]
    sets = re.findall(r"^ +--set '(.*)'$", out, re.MULTILINE)
    assert len(sets) >= 2
    assert plan(MOE, sets=sets).value("mfu") >= 0.3


@pytest.mark.parametrize(("arguments", "code", "verdict"), [
    (("--target", "mfu=0.3"), 0, "REACHABLE"),
    (("--target", "mfu=0.2"), 0, "MET"),
    (("--target", "mfu=0.5"), 1, "CANNOT BE REACHED"),
    (("--target", "mfu=1.3"), 1, "CANNOT BE REACHED"),
])
def test_exit_code_and_first_line_are_the_verdict(run: Run, arguments: tuple[str, ...], code: int, verdict: str):
    got, out, err = run("require", MOE, *arguments)
    assert (got, err) == (code, "")
    assert out.startswith(f"{verdict}\n")


def test_a_no_says_the_bound_and_what_is_in_the_way(run: Run):
    out = run("require", MOE, "--target", "mfu=1.3")[1]
    found = require(MOE, {"mfu": 1.3})
    assert f"{found.goals[0].best:.4g}" in out
    assert all(name in out for name in list(found.bound_parts)[:3])
    assert "no accelerator computes more than its peak" in out


def test_a_layout_that_does_not_fit_is_answered_with_exit_1_and_told_its_memory(run: Run):
    code, out, err = run("sensitivity", SMALL, *TOO_LARGE)
    assert (code, err) == (1, "")
    assert out.startswith("DOES NOT FIT\nmemory: the fullest rank needs")
    assert "not fit, with more of it either" in " ".join(out.split())
    code, out, err = run("require", SMALL, *TOO_LARGE, "--target", "mfu=0.1")
    assert (code, err) == (0, "")
    assert "memory capacity: DOES NOT FIT; this layout needs" in out


def test_bars_of_the_tornado_are_as_long_as_the_changes(run: Run):
    found = sensitivity(MOE)
    lines = run("sensitivity", MOE)[1].partition("tornado: ")[2].splitlines()[2:]
    widest = max(abs(end - found.plan.step_s) for row in found.tornado for end in (row.low_s, row.high_s))
    for row, line in zip(found.tornado[:5], lines, strict=False):
        left, _, right = line.partition("|")
        low, high = (math.ceil(14 * abs(end - found.plan.step_s) / widest) for end in (row.low_s, row.high_s))
        slower, faster = ("-" * low, "+" * high) if row.low_s > row.high_s else ("+" * high, "-" * low)
        assert line.strip().startswith(row.resource)
        assert (right, left[-14:].strip()) == (slower, faster)


def test_layouts_that_were_searched_are_shown_beside_the_fixed_one():
    found = sensitivity(SMALL, rechoose=lambda scale: (
        1.0 / scale.get("memory_B", 1.0), {"tp": 2 if "memory_B" in scale else 1}))
    screen = hardware.sensitivity_screen(found)
    assert "best layout as it is: 1 s (tp 1)" in screen
    assert "memory capacity: the best layout is then tp 2" in screen
    row = next(line for line in screen.partition("what 10 % more")[2].splitlines() if "memory capacity" in line)
    assert row.split()[2:] == ["x1.1", "1.224", "s", "0.00", "%", "909.1", "ms", "9.09", "%"]
    assert "layouts were not searched" not in screen
    assert "layouts were not searched" in hardware.sensitivity_screen(sensitivity(SMALL))


def test_no_exposed_term_is_said(run: Run):
    out = run("sensitivity", SMALL, "--set", "cluster.accelerators=1", "--set", "layout.dp=1")[1]
    assert "exposed communication: none" in out


def test_what_can_be_taken_away_is_a_table(run: Run):
    out = run("require", LARGE, "--target", "mfu=0.4")[1]
    assert "what can be taken away, one at a time" in out and "the cheapest combined path" not in out
    assert requirement.requirement_rows(require(LARGE, {"mfu": 0.4}))[0]["way"] == "spare"


@pytest.mark.parametrize(("arguments", "message"), [
    (("require", SMALL), "Missing option '--target'"),
    (("require", SMALL, "--target", "mfu"), "--target 'mfu': write NAME=VALUE"),
    (("require", SMALL, "--target", "mfu=0.5", "--target", "mfu=0.6"), "--target mfu is given twice"),
    (("require", SMALL, "--target", "mffu=0.5"), "no target 'mffu'"),
    (("require", SMALL, "--target", "days=5"), "training.tokens"),
    (("require", SMALL, "--target", "mfu=0.5", "--price", "3"), "a price has no effect"),
    (("require", SMALL, "--target", "mfu=0.5", "--weight", "compute rate=cheap"), "'cheap' is not a number"),
    (("sensitivity", SMALL, "--less", "1.5"), "less 1.5 is not a share"),
    (("sensitivity", SMALL, "--weight", "computer=2"), "Did you mean 'compute rate'"),
    (("sensitivity", "nope.yaml"), "nope.yaml: no such file"),
    (("sensitivity", SMALL, "-o", SMALL), "the ending names no format"),
    (("sensitivity", SMALL, "--format", "md", "-o", SMALL), "this is the input"),
])
def test_wrong_use_is_one_message_and_no_data(run: Run, arguments: tuple[str, ...], message: str):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err
