"""The documents say what the code does: generated pages are current, commands run, links lead somewhere."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from codesign import cli, units
from codesign.evidence.validate import Validation, validate
from codesign.planner import plan
from codesign.report import accuracy, reference
from codesign.run import run_plan
from codesign.search.find import find
from codesign.spec import load, starter

ROOT = Path(__file__).resolve().parent.parent
HOW_TO = sorted(f"docs/how-to/{path.name}" for path in (ROOT / "docs" / "how-to").glob("*.md"))
GUIDES = ["README.md", "CONTRIBUTING.md", "docs/tutorial.md", *HOW_TO]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "hardware_profiles" / "README.md")
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(read(name)) if kind == language]


def marked(page: str, name: str) -> str:
    return page.partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0].strip()


@cache
def shipped_rows() -> Validation:
    return validate()


# ---------------------------------------------------------------------------------------------------- generated pages


@pytest.mark.parametrize(("name", "generator"), [
    ("docs/nomenclature.md", reference.nomenclature), ("docs/equations.md", reference.equations),
])
def test_generated_page_is_what_the_registry_gives(name, generator):
    assert read(name) == generator(reference.registered()), f"{name} is old: run {reference.COMMAND}"


def test_readme_errors_are_those_of_the_shipped_rows_and_of_the_last_fit():
    shown = marked(read("README.md"), "errors")
    assert shown == accuracy.headlines(shipped_rows(), accuracy.held_out_summary()), f"README.md is old: run {reference.COMMAND}"


def test_page_of_errors_is_what_the_evidence_says():
    page = accuracy.page(shipped_rows(), accuracy.held_out_summary(), reference.WRITTEN)
    assert read("docs/how-wrong.md") == page, f"docs/how-wrong.md is old: run {reference.COMMAND}"


def test_mean_error_of_the_page_counted_here_again():
    """Groups weigh the same, whatever their number of rows."""
    errors, groups = shipped_rows().errors(), {}
    for row in shipped_rows().rows:
        if row["id"] in errors:
            groups.setdefault(row["group"], []).append(abs(errors[row["id"]]))
    mean = 100 * sum(sum(group) / len(group) for group in groups.values()) / len(groups)
    line = next(line for line in read("docs/how-wrong.md").splitlines() if line.startswith("| all (ok) |"))
    assert float(line.split("|")[7]) == pytest.approx(mean, abs=0.0501)


def test_readme_plan_is_what_the_command_prints():
    screen = io.StringIO()
    with redirect_stdout(screen):
        cli.main(["plan", str(ROOT / reference.EXAMPLE)])
    shown = marked(read("README.md"), "plan")
    beside = accuracy.published_beside(plan(ROOT / reference.EXAMPLE), shipped_rows())
    want = f"```text\n$ codesign plan {reference.EXAMPLE}\n{reference.plan_excerpt(screen.getvalue())}\n```\n\n{beside}"
    assert shown == want, f"README.md is old: run {reference.COMMAND}"


def test_a_cut_of_the_plan_is_marked_with_its_size():
    screen = "FEASIBLE\n\nmemory: 1 GiB\n" + "\n".join(f"  line {n}" for n in range(10)) + "\n\nspec abc\n"
    cut = reference.plan_excerpt(screen)
    kept = [line for line in cut.splitlines() if line.startswith("  line")]
    assert f"[{10 - len(kept)} lines left out]" in cut
    assert cut.startswith("FEASIBLE\n\nmemory: 1 GiB\n  line 0") and cut.endswith("\n\nspec abc")


def test_every_quantity_and_every_input_stands_in_the_nomenclature():
    page, quantities = read("docs/nomenclature.md"), reference.registered()
    names = {q.name for q in quantities} | {n for q in quantities for n in q.inputs if n != q.over}
    assert not [name for name in names if f"`{name}`" not in page]
    assert all(f"| `_{suffix}` |" in page for suffix in units.SUFFIXES if suffix != "1")


def test_every_quantity_has_a_sentence_and_a_source():
    assert not [q.name for q in reference.registered() if not q.doc or not q.source]


def test_error_table_changes_with_the_predictions():
    some = validate(where=("accelerator=tpu-v7",))
    worse = replace(some, rows=[{**row, "predicted_step_s": 2 * row["predicted_step_s"]} for row in some.rows])
    assert accuracy.error_table(some) != accuracy.error_table(worse)
    assert f"| all (ok) | 0 | {some.score().rows} | {some.score().groups} |" in accuracy.error_table(some)


def test_held_out_table_shows_what_is_in_the_summary_and_a_dash_for_what_is_not():
    row = {"rows": 9, "groups": 2, "median": 0.0547, "mean": 0.091, "p90": float("nan"), "bias": -0.01}
    table = accuracy.held_out_table(dict.fromkeys(("in_sample", "leave_one_group_out", "leave_one_source_out"), row))
    assert len(table.splitlines()) == 5
    assert table.splitlines()[2].endswith("| 9 | 2 | 5.5 | - | 9.1 | -1.0 | - |")


@pytest.mark.parametrize("page", ["no marks", "<!-- x:end --> <!-- x:begin -->", "<!-- x:begin --> only"])
def test_a_page_without_its_marks_is_refused(page):
    with pytest.raises(ValueError, match="x:begin"):
        reference.replace_block(page, "x", "new")


def test_a_block_is_replaced_and_the_rest_kept():
    page = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    assert reference.replace_block(page, "x", "new") == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"


# ---------------------------------------------------------------------------------------------------- commands


def shim(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """What the guides speak of, in a folder of its own: copies of the data, and commands that change nothing else.

    make is asked what it would do; pytest collects; the linters say their version; codesign and python run for real.
    """
    for name in ("examples", "hardware_profiles", "measured_runs", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "tests" / "spec" / "hf_configs", tmp_path / "tests" / "spec" / "hf_configs")
    shutil.copy(ROOT / "README.md", tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    shim(tools / "codesign", f'exec "{sys.executable}" -m codesign "$@"')
    shim(tools / "python", f'exec "{sys.executable}" "$@"')
    shim(tools / "pytest", f'cd "{ROOT}" && exec "{sys.executable}" -m pytest --collect-only -p no:cacheprovider "$@"')
    for name in ("ruff", "mypy"):
        shim(tools / name, f'exec "{sys.executable}" -m {name} --version')
    shim(tools / "lint-imports", f'exec "{sys.executable}" -c "import importlinter"')
    shim(tools / "make", f'exec {shutil.which("make")} --dry-run -C "{ROOT}" "$@"')
    return tmp_path


def test_commands_of_guides_are_not_hidden_from_the_test_below():
    """Outside of `sh` blocks are screens, and the commands that need the frameworks themselves."""
    others = {name for name in GUIDES if not blocks(name, "sh")}
    assert others == {"docs/how-to/check-exports.md"}


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_of_a_guide_runs(name, checkout):
    lines = "".join(blocks(name, "sh")).splitlines()
    environment = {**os.environ, "PATH": f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        done = subprocess.run(
            ["bash", "-euc", line], cwd=checkout, env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )
        # 1 is an answer too ("it does not fit"), but never one with which a guide should greet a reader
        assert done.returncode == 0, f"{name}: {line}\n{done.stdout[-500:]}{done.stderr[-1500:]}"


def test_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code, beyond = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    made = plan(reference.EXAMPLE)
    assert printed.startswith(f"{made.step_s} {made.feasible}")
    without = plan(made.problem.spec, overrides={"pp_bubble_s": 0.0}).step_s
    assert f"\n{without}\n" in printed
    assert without == pytest.approx(made.step_s - made.value("pp_bubble_s"), rel=0.05)
    exec(compile(beyond, "README.md", "exec"), {})
    run = run_plan(plan(ROOT / "examples" / "gpt4-retrain.yaml"))
    assert capsys.readouterr().out.startswith(f"{run.value('goodput')} {run.value('final_loss')}\n[")
    found = find(ROOT / "examples" / "search" / "llama-3.1-405b.yaml")
    assert printed.rstrip().endswith(f"{found.best[0].plan.value('mfu')} {found.tally}")


def test_yaml_of_the_how_to_is_a_model_of_a_spec():
    (body,) = blocks("docs/how-to/add-a-model.md", "yaml")
    layout = {"tp": 8, "pp": 4, "micro_batch": 1, "schedule": "1f1b"}
    spec = {**yaml.safe_load(read(reference.EXAMPLE)), **yaml.safe_load(body), "layout": layout}
    assert load.load(spec).spec.model.ffn == 57344


def test_yaml_of_the_how_to_on_runs_plans_beside_the_starter():
    failing, learning, sites = blocks("docs/how-to/describe-a-run.md", "yaml")
    for sections in (failing, learning, failing + sites, learning + sites, sites):
        made = run_plan(plan(load.load_text(f"{starter.TEXT}\n{sections}")))
        assert made.feasible and made.value("run_wall_s") > 0.0


def test_every_command_of_the_tool_stands_in_the_readme():
    page = read("README.md")
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        assert f"`codesign {name}" in page, name
        for below in getattr(command, "commands", {}):
            assert re.search(rf"`codesign {name} [^|]*`?{below}`", page), f"{name} {below}"


def test_every_make_target_of_the_guides_exists():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {name for page in GUIDES for name in re.findall(r"(?:`|^)make ([a-z-]+)", read(page), re.MULTILINE)}
    assert {"plan", "test", "app", "refit"} <= named <= targets


def test_plan_is_the_function_whatever_was_imported_first():
    """docs/decisions/0002."""
    code = "import codesign.planner; from codesign import plan; assert callable(plan)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------------------------------------- links


def anchors(name: str) -> set[str]:
    """Anchors of the headings as the forges make them, for the plain headings that are used here."""
    heads = re.findall(r"^#+ (.+)$", read(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_to_a_file_leads_somewhere(name):
    for target in set(LINK.findall(FENCE.sub("", read(name)))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.resolve().is_relative_to(ROOT), target
        assert file.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(str(file.resolve().relative_to(ROOT))), f"{name}: {target}"


# ---------------------------------------------------------------------------------------------------- integration


def test_integration_script_is_executable_strict_and_parses():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
