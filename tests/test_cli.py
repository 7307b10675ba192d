"""The command line keeps its contract: streams, exit codes, formats, files; and the screens say what the plan holds."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from codesign import __version__, units
from codesign.cli import main
from codesign.planner import plan as make_plan
from codesign.report import over_sites
from codesign.report import text as texts
from codesign.run import run_plan
from codesign.spec import datafiles, load, presets, profiles, references, starter

EXAMPLES = datafiles.root("examples")
FITS = str(EXAMPLES / "llama-3-8b-fsdp.yaml")
PIPELINED = str(EXAMPLES / "deepseek-v3-h800.yaml")
TOO_LARGE = ("--set", "training.sequence_length=131072")
HF_CONFIG = Path(__file__).parent / "spec" / "hf_configs" / "deepseek-v3.json"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return command


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A command line with redirections, through sh."""
    command = ["sh", "-c", f"{sys.executable} -m codesign {line}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# ---------------------------------------------------------------------------------------------------- start-up


def loaded_after(arguments: list[str], *modules: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a fresh interpreter that prints on stderr which of the modules it has loaded."""
    lines = [
        "import sys", "from codesign.cli import main", f"main({arguments!r})",
        f"print([name for name in {modules!r} if name in sys.modules], file=sys.stderr)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_help_loads_nothing_heavy():
    done = loaded_after(["--help"], "numpy", "pandas", "streamlit", "yaml", "pydantic")
    assert done.stderr.strip() == "[]"
    assert "Usage: codesign" in done.stdout


def test_plan_loads_no_pandas():
    done = loaded_after(["plan", FITS], "pandas", "streamlit", "scipy", "rich")
    assert done.stderr.strip() == "[]"


def test_version(run: Run):
    assert run("--version") == (0, f"codesign {__version__}\n", "")


@pytest.mark.parametrize("verb", [
    ("plan",), ("explain",), ("compare",), ("validate",), ("report",), ("import-hf",), ("schema",), ("init",),
    ("profiles", "list"), ("profiles", "show"), ("profiles", "check"), ("models", "list"), ("models", "show"),
])
def test_every_verb_has_examples_and_exit_codes_in_its_help(run: Run, verb: tuple[str, ...]):
    code, out, err = run(*verb, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"Examples:\n +codesign {' '.join(verb)}", out)
    assert "Exit codes: 0 an answer; 1 the answer is no; 2 wrong use or wrong input; 3" in out
    assert max(map(len, out.splitlines())) <= 80


# ---------------------------------------------------------------------------------------------------- exit codes


def test_exit_0_is_an_answer(run: Run):
    code, out, err = run("plan", FITS)
    assert (code, err) == (0, "")
    assert out.startswith("FEASIBLE\n")


def test_exit_1_prints_the_whole_plan_and_why_not(run: Run):
    code, out, err = run("plan", FITS, *TOO_LARGE)
    assert (code, err) == (1, "")
    assert re.match(r"DOES NOT FIT\n  - memory: the fullest rank needs [\d.]+ [GT]iB of 96 GiB", out)
    assert "sum = step_s" in out


@pytest.mark.parametrize(("arguments", "message"), [
    (("plan", "nope.yaml"), "nope.yaml: no such file"),
    (("plan",), "Missing argument 'SPEC'"),
    (("plan", FITS, "--format", "html"), "'html' is not one of"),
    (("plan", FITS, "--set", "layout.tq=2"), "unknown field 'tq'"),
    (("plan", FITS, "--set", "layout.dp=null", "--set", "layout.tp=null"), "layout.tp"),
    (("plan", FITS, "--override", "tp_exposed_s"), "write QUANTITY=VALUE"),
    (("plan", FITS, "--override", "tp_exposd_s=0"), "Did you mean 'tp_exposed_s'"),
    (("plan", FITS, "--override", "tp_exposed_s=3 GB"), "GB measures bytes, not seconds"),
    (("plan", FITS, "--override", "tp_exposed_s=-1"), "below zero"),
    (("plan", FITS, "--override", "tp_exposed_s=1", "--override", "tp_exposed_s=2"), "given twice"),
    (("plan", FITS, "--override", "nic_Bps=1"), "an input, not a quantity; change the spec with --set"),
    (("plan", FITS, "--override", "router_FLOP=1"), "router_FLOP"),
    (("plan", FITS, "--override", "step_s=0"), "leaves a step of 0 s"),
    (("plan", FITS, "--resolved", "--override", "step_s=1"), "no effect with --resolved"),
    (("plan", FITS, "--resolved", "--format", "csv"), "no meaning with --resolved"),
    (("plan", FITS, "-o", "plan.html"), "-o plan.html: the ending names no format. Allowed: .json, .csv, .md, .txt"),
    (("plan", FITS, "--format", "csv", "-o", "/"), "-o /: cannot be written: it is a directory"),
    (("plan", FITS, "-o", "no/such/folder/plan.csv"), "cannot be written: No such file or directory"),
    (("report", FITS, "-o", "review.pdf"), "the ending names no format of a review"),
    (("explain", FITS, "stepp_s"), "no quantity 'stepp_s' in this plan. Did you mean 'step_s'"),
    (("compare", FITS), "Missing argument 'B'"),
    (("compare", FITS, "nope.yaml"), "B: nope.yaml: no such file"),
    (("compare", FITS, FITS, "--set-a", "layout.tq=2"), "A: --set layout.tq=2: unknown field 'tq'"),
    (("compare", FITS, FITS, "--set-b", "cluster.accelerators=12"), "B: "),
    (("compare", PIPELINED, FITS, "--format", "table", "-o", FITS), "this is the input"),
    (("profiles", "show", "h100-sxm-80g"), "Did you mean 'h100-sxm-80gb'"),
    (("models", "show", "llama-3-8"), "Did you mean 'llama-3-8b'"),
    (("import-hf", "nope.json"), "nope.json"),
    (("validate", "nope.jsonl"), "nope.jsonl"),
])
def test_exit_2_is_wrong_use_with_one_message_and_no_data(run: Run, arguments: tuple[str, ...], message: str):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_unknown_command_suggests(run: Run):
    code, out, err = run("plam", FITS)
    assert (code, out) == (2, "")
    assert "Did you mean 'plan'?" in err


def test_a_wrong_spec_names_its_line_and_column(run: Run, tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(starter.TEXT.replace("tp: 8 ", "tq: 8 "), encoding="utf-8")
    code, out, err = run("plan", str(bad))
    assert (code, out) == (2, "")
    assert re.match(rf"{re.escape(str(bad))}:\d+:3: unknown field 'tq'", err)
    assert "^" in err


def test_exit_3_is_our_fault_on_one_line(run: Run, monkeypatch: pytest.MonkeyPatch):
    def broken() -> dict[str, object]:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(load, "json_schema", broken)
    code, out, err = run("schema")
    assert (code, out) == (3, "")
    expected = "internal fault: ZeroDivisionError: two lines. Please report it; run with --debug for the traceback\n"
    assert err == expected
    code, out, err = run("--debug", "schema")
    assert (code, out) == (3, "")
    assert err.startswith("Traceback") and err.endswith(expected)
    assert run("schema", "--debug")[2] == err  # it may stand anywhere


# ---------------------------------------------------------------------------------------------------- plan


def test_json_has_the_parts_that_add_up_to_the_step_and_the_keys_of_the_contract(run: Run):
    code, out, err = run("plan", PIPELINED, "--format", "json")
    data = json.loads(out)
    assert (code, err) == (0 if data["verdict"]["feasible"] else 1, "")
    assert sum(data["step"]["parts"].values()) == pytest.approx(data["step"]["step_s"], rel=1e-12)
    assert {"schema_version", "spec_hash", "layout", "step", "memory", "traffic", "elasticities",
            "verdict"} <= set(data)
    assert {"step_s", "tokens_per_s", "tokens_per_s_per_accelerator", "model_FLOPps_per_accelerator", "mfu",
            "mfu_convention", "hfu", "parts"} <= set(data["step"])
    assert {"peak_B", "capacity_B", "reserved_B", "stages"} <= set(data["memory"])
    assert len(data["memory"]["stages"]) == data["layout"]["pp"] == 16
    assert len(data["nearest"]) == 3
    for row in data["nearest"]:
        assert {"id", "accelerator", "stack", "model", "accelerators", "source"} <= set(row)
        assert row["error"] == pytest.approx(row["predicted_step_s"] / row["measured_step_s"] - 1, abs=1e-4)


def test_json_is_the_plan_of_the_python_interface(run: Run):
    data = json.loads(run("plan", FITS, "--format", "json")[1])
    del data["nearest"]
    assert data == json.loads(json.dumps(make_plan(FITS).to_dict()))


def test_csv_parts_add_up(run: Run):
    code, out, _ = run("plan", FITS, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    made = make_plan(FITS)
    assert code == 0
    assert list(rows[0]) == ["part", "s", "share"]
    assert {row["part"]: float(row["s"]) for row in rows} == made.parts
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1.0, rel=1e-12)


def test_markdown_of_a_plan(run: Run):
    code, out, err = run("plan", FITS, "--format", "md")
    assert (code, err) == (0, "")
    assert out.lstrip().startswith("#")


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_screen_is_80_columns_and_its_printed_parts_add_up(run: Run, example: str):
    _, out, _ = run("plan", str(EXAMPLES / example))
    made = make_plan(EXAMPLES / example)
    if made.problem.spec.sites:  # the parts are those of one site
        _, made = over_sites.slowest(run_plan(made))
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    block = out.partition("where the time goes")[2].partition("\n\n")[0]
    found = re.findall(r"^  (.+?) +([\d.]+) +([\d.]+) %", block, re.MULTILINE)
    missed = abs(sum(float(value) for _, value, _ in found[:-1]) - float(found[-1][1]))
    assert missed < 0.5e-4 * len(found)
    assert found[-1][0] == ("sum = step_s, each rounded" if missed > 0.5e-4 else "sum = step_s")
    scale = 1.0 if made.step_s >= 1 else 1e3
    assert all(value == f"{made.parts[name] * scale:.4f}" for name, value, _ in found if name in made.parts)
    large = [name for name, value in made.parts.items() if value >= 5e-4 * made.step_s]
    assert [name for name, _, _ in found if name in made.parts] == large
    for section in ("step time ", "MFU ", "memory: ", "terms of rank", "traffic", "what one per cent more", "footing: ",
                    "measured runs most like this one"):
        assert section in out


def test_screen_groups_equal_ranks_and_names_the_fullest(run: Run):
    _, out, _ = run("plan", PIPELINED)
    made = make_plan(PIPELINED)
    assert re.search(r"^  1-14 ", out, re.MULTILINE)
    fullest = max(made.stages, key=lambda stage: stage["device_B"])
    assert f"terms of rank {fullest['rank']}, the fullest" in out


def test_set_takes_precedence_over_the_file(run: Run):
    data = json.loads(run("plan", FITS, "--set", "training.global_batch_sequences=16", "--format", "json")[1])
    base = json.loads(run("plan", FITS, "--format", "json")[1])
    assert data["spec_hash"] != base["spec_hash"]
    assert data["step"]["step_s"] > 1.5 * base["step"]["step_s"]


def test_override_with_a_unit_is_a_counterfactual_that_is_said(run: Run):
    base = make_plan(FITS)
    code, out, _ = run("plan", FITS, "--override", "dp_exposed_s=20 ms")
    assert code == 0
    assert "counterfactual, set by hand: dp_exposed_s = 20 ms" in out
    data = json.loads(run("plan", FITS, "--override", "dp_exposed_s=20 ms", "--format", "json")[1])
    change = data["step"]["step_s"] - base.step_s
    assert change == pytest.approx(0.02 - base.parts["dp_exposed_s"], rel=0.2)
    assert data["overrides"] == {"dp_exposed_s": 0.02}


def test_an_overridden_step_says_that_the_parts_do_not_add_up(run: Run):
    assert "an override stands in the place of the sum" in run("plan", FITS, "--override", "step_s=1")[1]


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_resolved_spec_loads_again_to_the_same_plan(run: Run, tmp_path: Path, example: str):
    path = EXAMPLES / example
    code, out, err = run("plan", str(path), "--resolved")
    assert (code, err) == (0, "")
    again = tmp_path / "resolved.yaml"
    again.write_text(out, encoding="utf-8")
    assert load.load(again).spec_hash == load.load(path).spec_hash
    assert json.loads(run("plan", str(path), "--resolved", "--format", "json")[1]) == yaml.safe_load(out)


# ---------------------------------------------------------------------------------------------------- files


def test_output_file_takes_its_format_from_the_ending_and_leaves_stdout_empty(run: Run, tmp_path: Path):
    for ending, begins in ((".json", "{"), (".csv", "part,s,share"), (".md", "#"), (".txt", "FEASIBLE")):
        file = tmp_path / f"plan{ending}"
        code, out, err = run("plan", FITS, "-o", str(file))
        assert (code, out, err) == (0, "", f"wrote {file}\n")
        assert file.read_text(encoding="utf-8").lstrip().startswith(begins)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.csv", "plan.json", "plan.md", "plan.txt"]


def test_an_error_leaves_the_old_file_and_no_litter(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "plan.json"
    file.write_text("old", encoding="utf-8")
    assert run("plan", FITS, "--set", "layout.tq=1", "-o", str(file))[0] == 2

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, out, err = run("plan", FITS, "-o", str(file))
    assert (code, out) == (2, "")
    assert err == f"-o {file}: cannot be written: No space left on device\n"
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("plan.json", "old")]


def test_a_written_file_keeps_the_mode_of_the_old_one_and_follows_a_link(run: Run, tmp_path: Path):
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old", encoding="utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("plan", FITS, "-o", str(link))[0] == 0
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8").startswith("part,s,share")
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_to_not_replaced(run: Run):
    assert run("plan", FITS, "--format", "csv", "-o", os.devnull)[0] == 0
    assert not Path(os.devnull).is_file()


def test_the_input_is_never_overwritten(run: Run, tmp_path: Path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(starter.TEXT, encoding="utf-8")
    code, _, err = run("plan", str(spec), "--resolved", "-o", str(spec))
    assert code == 2
    assert "this is the input" in err
    assert spec.read_text(encoding="utf-8") == starter.TEXT


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "codesign", "plan", FITS, "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0


def test_closed_and_full_stdout_are_said():
    closed = shell(f"plan {FITS} --format csv >&-")
    assert (closed.returncode, closed.stderr) == (2, "stdout is closed: nothing can be written; use -o FILE\n")
    if os.path.exists("/dev/full"):
        full = shell(f"plan {FITS} --format csv >/dev/full")
        assert (full.returncode, full.stderr) == (2, "stdout: cannot be written: No space left on device\n")


def test_closed_stderr_keeps_data_clean():
    done = shell(f"import-hf {HF_CONFIG} 2>&-")
    assert done.returncode == 0
    assert set(yaml.safe_load(done.stdout)) == {"model"}


def test_an_ascii_terminal_gets_the_plan_too():
    command = [sys.executable, "-m", "codesign", "explain", PIPELINED, "step_s", "--depth", "6"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii() and done.stdout.startswith("step_s = ")


# ---------------------------------------------------------------------------------------------------- explain


def test_explain_is_a_tree_with_documents_and_sources(run: Run):
    code, out, err = run("explain", FITS, "step_s", "--depth", "8")
    made = make_plan(FITS)
    assert (code, err) == (0, "")
    assert out.startswith("step_s = ")
    for name in made.parts:
        assert re.search(rf"^ +\+ {name} = ", out, re.MULTILINE), name
    assert re.search(r"^ +\. peak_FLOPps = 989\.4 TFLOP/s\n +\[datasheet: ", out, re.MULTILINE)
    assert "+ adds up" in out
    assert max(map(len, out.splitlines())) <= 80


def test_explain_shows_the_inputs_of_a_quantity_once(run: Run):
    full = make_plan(FITS).explain("step_s", 8)
    cut = texts.once(full)
    expanded = [texts.title(node) for _, node in texts.walk(cut) if node.inputs]
    assert len(expanded) == len(set(expanded))
    assert sum(1 for _ in texts.walk(cut)) < 0.2 * sum(1 for _ in texts.walk(full))
    repeated = {texts.title(node) for _, node in texts.walk(cut) if node.source == texts.SEEN}
    assert repeated and repeated <= set(expanded)
    assert run("explain", FITS, "step_s", "--depth", "8")[1].count("[see above]") >= len(repeated)


def test_explain_depth_0_is_the_number_alone(run: Run):
    out = run("explain", FITS, "step_s", "--depth", "0")[1]
    assert re.fullmatch(r"step_s = [\d.]+ m?s\n    One optimizer step of the whole job\. \[sum of parts\]\n", out)


def test_explain_json_is_nested_and_its_parts_add_up(run: Run):
    data = json.loads(run("explain", FITS, "step_s", "--depth", "3", "--format", "json")[1])
    assert data["name"] == "step_s" and data["spec_hash"] == make_plan(FITS).spec_hash

    def nodes(node: dict) -> list[dict]:
        return [node, *(one for below in node["inputs"] for one in nodes(below))]

    ideal = data["inputs"][0]
    assert ideal["name"] == "ideal_step_s"
    own = sum(below["value"] for below in data["inputs"] if below["role"] == "part")
    inner = sum(below["value"] for below in ideal["inputs"] if below["role"] == "part")
    assert own + inner == pytest.approx(data["value"], rel=1e-9)
    assert all(node["source"] for node in nodes(data) if node["role"] == "leaf")


def test_explain_shows_arrays_with_their_labels(run: Run):
    out = run("explain", PIPELINED, "gemm_forward_s[dense]", "--depth", "0")[1]
    assert re.match(r"gemm_forward_s\[dense\] = q_down [\d.]+ [mu]s, q_up ", out)
    data = json.loads(run("explain", PIPELINED, "gemm_forward_s[dense]", "--depth", "0", "--format", "json")[1])
    assert len(data["labels"]) == len(data["value"]) == 7
    assert "(16 values)" in run("explain", PIPELINED, "rank_allocated_B", "--depth", "0")[1]
    out = run("explain", PIPELINED, "dp_gradient_sent_B", "--depth", "0")[1]
    assert re.search(r"scale_up [\d.]+ \w+, scale_out ", out)


def test_explain_of_every_layer_kind_where_none_is_named(run: Run):
    data = json.loads(run("explain", PIPELINED, "layer_forward_s", "--depth", "0", "--format", "json")[1])
    assert [member["member"] for member in data["members"]] == ["dense", "moe"]


def test_explain_an_input_says_its_kind(run: Run):
    out = run("explain", FITS, "memory_Bps")[1]
    assert re.match(r"memory_Bps = [\d.]+ TB/s\n    \[datasheet: ", out)


def test_every_quantity_and_input_of_a_plan_can_be_explained(run: Run):
    made = make_plan(PIPELINED)
    labels = texts.labels_in(made)
    for key in made.values:
        name = key if isinstance(key, str) else f"{key[0]}[{key[1]}]" if key[1] else key[0]
        tree = made.explain(name, 1)
        assert texts.explanation_tree(tree, labels).startswith(name)
        json.dumps(texts.explanation_dict(tree, labels))
    assert len(made.values) > 200


def test_explain_with_override_or_set_prints_before_and_after(run: Run):
    base = make_plan(FITS)
    out = run("explain", FITS, "step_s", "--override", "dp_exposed_s=0")[1]
    first, _, tree = out.partition("\n\n")
    assert re.fullmatch(r"step_s [\d.]+ m?s -> [\d.]+ m?s \(-\d\.\d\d %\)", first)
    assert re.search(r"! dp_exposed_s = 0 s", tree)
    assert "! set by hand" in tree
    data = json.loads(run("explain", FITS, "step_s", "--set", "layout.micro_batch=1", "--format", "json")[1])
    assert data["changes"] == [{"name": "step_s", "before": base.step_s, "after": base.step_s, "unit": "s"}]


def test_explain_csv_and_markdown(run: Run):
    rows = list(csv.DictReader(io.StringIO(run("explain", FITS, "step_s", "--depth", "1", "--format", "csv")[1])))
    assert rows[0]["name"] == "step_s" and float(rows[0]["value"]) == make_plan(FITS).step_s
    assert {row["depth"] for row in rows} == {"0", "1"}
    assert run("explain", FITS, "step_s", "--depth", "1", "--format", "md")[1].startswith("- `step_s` = ")


def test_explain_says_what_the_keys_of_its_sources_stand_for(run: Run):
    out = run("explain", PIPELINED, "step_s", "--depth", "4")[1]
    tree, _, block = out.partition("\nreferences\n")
    assert re.search(r"^  EQ-31: data-parallel traffic of a step \(confirmed\)\n"
                     r"      all-reduce 2 \(d-1\)/d P e_gradient\n(      .*\n)+    \[Rajbhandari 2019", block, re.MULTILINE)
    shown = re.findall(r"^  (EQ-\d+|op_fits[^:]*|network\.md[^:]*): ", block, re.MULTILINE)
    cited = {one.key for one in references.lookup(" ".join(tree.split()))}
    assert set(shown) == cited and len(shown) == len(cited) > 5
    assert "d data-parallel ranks" in " ".join(block.split())
    assert max(map(len, out.splitlines())) <= 80


def test_explain_json_has_the_references_of_its_tree(run: Run):
    data = json.loads(run("explain", FITS, "tp_sent_B", "--depth", "0", "--format", "json")[1])
    assert [one["key"] for one in data["references"]] == ["EQ-28"]
    assert set(data["references"][0]) == {"key", "title", "formula", "source", "status"}
    assert json.loads(run("explain", FITS, "step_s", "--depth", "0", "--format", "json")[1])["references"] == []


def test_explain_markdown_has_the_references_of_its_tree(run: Run):
    out = run("explain", PIPELINED, "pp_bubble_s", "--depth", "0", "--format", "md")[1]
    assert re.findall(r"^- (EQ-\d+): `", out, re.MULTILINE) == ["EQ-35", "EQ-36", "EQ-37", "EQ-38"]


# ---------------------------------------------------------------------------------------------------- compare


@pytest.mark.parametrize(
    ("example", "sequence_length", "code", "head"),
    [
        ("llama-3.1-405b-h100", 8192, 0, "FEASIBLE, but open: memory: the 80 % interval of the fullest rank reaches "),
        ("llama-3.1-405b-h100", 10240, 1, "DOES NOT FIT, but open: memory: the 80 % interval of the fullest rank begins at "),
        ("deepseek-v3-h800", 4096, 0, "FEASIBLE deepseek-v3"),
        ("llama-3-8b-fsdp", 131072, 1, "DOES NOT FIT - "),
    ],
)
def test_a_verdict_within_the_interval_of_the_memory_is_open(run: Run, example: str, sequence_length: int, code: int, head: str):
    """A layout that just fits may not, and one that just does not may: all forms say so, the exit code stays."""
    line = ("plan", str(EXAMPLES / f"{example}.yaml"), "--set", f"training.sequence_length={sequence_length}")
    found = [run(*line), *(run(*line, "--format", form) for form in ("json", "md"))]
    assert [one[0] for one in found] == [code] * 3
    text, data, written = (one[1] for one in found)
    verdict, memory = json.loads(data)["verdict"], json.loads(data)["memory"]
    inside = memory["lo_B"] <= memory["capacity_B"] < memory["hi_B"]
    assert verdict["feasible"] is (code == 0) and verdict["open"] is bool(verdict["open_reasons"]) is inside
    assert " ".join(text.split()).startswith(head) and inside is ("open" in head) is ("but open: memory" in written)
    if inside:
        assert units.show(memory["lo_B" if code else "hi_B"], "B") in verdict["open_reasons"][0]


def test_compare_answers_first_in_80_columns(run: Run):
    code, out, err = run("compare", PIPELINED, PIPELINED, "--set-b", "layout.ep=32", "--set-b", "layout.recompute=full")
    assert (code, err) == (0, "")
    assert re.match(r"A IS FASTER: [\d.]+ s a step against [\d.]+ s, [\d.]+ % more tokens a second\n", out)
    assert re.match(r"confidence \d\d % that A is faster", out.splitlines()[1])
    assert max(map(len, out.splitlines())) <= 80
    places = [out.index(text) for text in ("sum = step_s", "why: ", "what moved most", "memory of the", "traffic per", "differs")]
    assert places == sorted(places)
    assert re.search(r"  layout.ep 64 -> 32\n", out)
    assert "EXTRAPOLATED: h800" in out


def test_compare_prints_each_number_as_it_is_and_equal_ones_as_equal(run: Run):
    """Nothing is bent to make a column add up: what stays shows no move, and a part is as `plan` shows it."""
    both = ("compare", PIPELINED, PIPELINED, "--set-b", "layout.ep=32")
    _, out, _ = run(*both)
    _, data, _ = run(*both, "--format", "json")
    _, alone, _ = run("plan", PIPELINED)
    shown = {line.split()[0]: line.split()[1:4] for line in out[out.index("part ") :].partition("\n\n")[0].splitlines()[1:]}
    moves = {row["part"]: row for row in json.loads(data)["parts"] if row["part"] in shown}
    assert any(row["difference_s"] == 0 for row in moves.values()) and any(row["difference_s"] for row in moves.values())
    for name, row in moves.items():
        assert shown[name][:2] == [f"{row['a_s']:.4f}", f"{row['b_s']:.4f}"]
        assert shown[name][2] == (f"{row['difference_s']:+.4f}" if abs(row["difference_s"]) > 0.5e-4 else "0")
        assert f"  {name} " not in alone or re.search(rf"  {name} +{shown[name][0]} ", alone)


def test_compare_prints_parts_that_add_up_but_for_a_last_digit(run: Run):
    _, out, _ = run("compare", PIPELINED, PIPELINED, "--set-b", "layout.ep=32")
    table = out[out.index("part ") :].partition("\n\n")[0].splitlines()[1:]
    numbers = [[float(cell) for cell in re.findall(r"[-+]?\d+\.\d{4}|(?<= )0(?= )", line)] for line in table]
    assert len(numbers) > 5
    for at in range(3):
        assert sum(line[at] for line in numbers[:-1]) == pytest.approx(numbers[-1][at], abs=0.5e-4 * len(numbers))


def test_compare_says_which_one_does_not_fit(run: Run):
    code, out, _ = run("compare", FITS, FITS, "--set-b", TOO_LARGE[1])
    assert code == 0
    assert out.startswith("ONLY A FITS\nA IS FASTER")
    assert "   does not fit\n   - memory: the fullest rank needs" in out
    code, out, _ = run("compare", FITS, FITS, *TOO_LARGE, "--set-b", "layout.recompute=full")
    assert code == 1
    assert out.startswith("NEITHER FITS\n")


def test_compare_of_equal_specs_is_an_answer(run: Run):
    code, out, err = run("compare", FITS, FITS)
    assert (code, err) == (0, "")
    assert out.startswith("NO DIFFERENCE: both give ") and "the specs do not differ" in out


def test_compare_sets_both_or_one_of_them(run: Run):
    arguments = ("--set", "training.global_batch_sequences=16", "--set-a", "layout.micro_batch=2", "--format", "json")
    _, out, _ = run("compare", FITS, FITS, *arguments)
    found = json.loads(out)
    assert found["changes"] == [{"field": "layout.micro_batch", "a": 2.0, "b": 1.0}]
    assert found["figures"]["step_tokens"]["b"] == 16 * 8192


def test_compare_writes_the_same_in_every_format(run: Run, tmp_path: Path):
    change = ("--set-b", "layout.recompute=full")
    _, out, _ = run("compare", FITS, FITS, *change, "--format", "json")
    found = json.loads(out)
    _, out, _ = run("compare", FITS, FITS, *change, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["difference_s"]) for row in rows] == [part["difference_s"] for part in found["parts"]]
    page = tmp_path / "move.md"
    code, out, err = run("compare", FITS, FITS, *change, "-o", str(page))
    assert (code, out, err) == (0, "", f"wrote {page}\n")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# A against B\n\n- A IS FASTER") and "## Why" in text
    assert all(f"| {part['part']} |" in text for part in found["parts"] if abs(part["share_of_move"]) > 0.1)


# ---------------------------------------------------------------------------------------------------- validate


def rows_of(count: int) -> str:
    lines = (datafiles.root("measured_runs") / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    return "\n".join([*lines[:count], "{not json"]) + "\n"


def test_validate_names_and_skips_a_bad_line_and_counts_the_others(run: Run, tmp_path: Path):
    runs = tmp_path / "runs.jsonl"
    runs.write_text(rows_of(12), encoding="utf-8")
    code, out, err = run("validate", str(runs), "--format", "json")
    data = json.loads(out)
    assert code == 0
    assert "13" in err and "skipped" in err
    assert len(data["rows"]) == 12
    assert {"id", "group", "status", "reason", "assumed", "measured_step_s", "predicted_step_s", "lo_s", "hi_s",
            "measured_memory_B", "predicted_memory_B", "lo_B", "hi_B"} <= set(data["rows"][0])
    assert "summary" in data
    code, out, _ = run("validate", str(runs), "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(out)))) == 12
    code, out, _ = run("validate", str(runs))
    assert code == 0
    assert "median" in out and "fitted constants" in out
    assert max(map(len, out.splitlines())) <= 80
    assert run("validate", str(runs), "--format", "md")[1].startswith("| cell |")


def test_validate_where_selects_and_refuses_what_it_does_not_know(run: Run):
    data = json.loads(run("validate", "--where", "accelerator=b200-sxm", "--format", "json")[1])
    everything = (datafiles.root("measured_runs") / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    assert 0 < len(data["rows"]) < len(everything)
    code, out, err = run("validate", "--where", "colour=red")
    assert (code, out) == (2, "")
    assert "colour" in err and "accelerator" in err


# ---------------------------------------------------------------------------------------------------- data


def test_profiles_check_is_clean(run: Run):
    code, out, err = run("profiles", "check")
    assert (code, out) == (0, "")
    count, fabrics = len(profiles.names()), len(profiles.fabric_names())
    assert err == f"checked {count} profile(s) and {fabrics} fabrics: no finding(s)\n"
    assert count >= 25


def test_profiles_check_finds_what_is_not_plausible(run: Run, tmp_path: Path):
    text = (datafiles.root("hardware_profiles") / "h100-sxm-80gb.yaml").read_text(encoding="utf-8")
    chip = tmp_path / "chip.yaml"
    chip.write_text(text.replace("3.35 TB/s", "335 TB/s"), encoding="utf-8")
    code, out, err = run("profiles", "check", str(chip))
    assert code == 1
    assert "memory_Bps" in out
    assert err.startswith("checked 1 profile(s): ")


def test_profiles_list_and_show(run: Run):
    code, out, err = run("profiles", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["name", *profiles.names()]
    assert max(map(len, out.splitlines())) <= 80
    rows = list(csv.DictReader(io.StringIO(run("profiles", "list", "--format", "csv")[1])))
    assert [row["name"] for row in rows] == profiles.names()
    out = run("profiles", "show", "h100-sxm-80gb")[1]
    assert re.search(r"^  memory_Bps +3\.35 TB/s +datasheet +\S+ +\S+", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80
    data = json.loads(run("profiles", "show", "h100-sxm-80gb", "--format", "json")[1])
    assert data["accelerator"]["memory_Bps"]["value"] == 3.35e12
    rows = list(csv.DictReader(io.StringIO(run("profiles", "show", "h100-sxm-80gb", "--format", "csv")[1])))
    assert {row["kind"] for row in rows} <= {"measured", "fitted", "datasheet", "assumed"}


def test_models_list_and_show(run: Run):
    code, out, err = run("models", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["name", *presets.names()]
    assert max(map(len, out.splitlines())) <= 80
    data = json.loads(run("models", "show", "llama-3-8b", "--format", "json")[1])
    assert data["model"]["hidden"] == 4096 and data["published_parameters"]["total"] == 8030261248
    out = run("models", "show", "deepseek-v3")[1]
    assert re.search(r"^model\.moe\.experts +256$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


def test_imported_config_plans_and_notes_go_to_stderr(run: Run, tmp_path: Path):
    code, out, err = run("import-hf", str(HF_CONFIG))
    assert code == 0
    assert set(yaml.safe_load(out)) == {"model"}
    assert all(line.startswith("note: ") for line in err.splitlines())
    spec = tmp_path / "spec.yaml"
    base = yaml.safe_load(Path(PIPELINED).read_text(encoding="utf-8"))
    del base["model"]
    spec.write_text(yaml.safe_dump(base) + out, encoding="utf-8")
    step_s = {make_plan(path).step_s for path in (spec, Path(PIPELINED))}
    assert len(step_s) == 1


def test_init_then_plan(run: Run, tmp_path: Path):
    spec = tmp_path / "spec.yaml"
    assert run("init", "-o", str(spec)) == (0, "", f"wrote {spec}\n")
    code, out, err = run("init", "-o", str(spec))
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert run("init", "-o", str(spec), "--force")[0] == 0
    assert run("init") == (0, starter.TEXT, "")
    code, out, err = run("plan", str(spec))
    assert code in (0, 1)
    assert out.startswith(("FEASIBLE", "DOES NOT FIT"))
    assert err == ""


def test_schema_is_the_one_of_the_loader(run: Run):
    code, out, err = run("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == load.json_schema()


def test_a_stage_table_of_a_long_pipeline_is_cut_but_never_the_fullest(run: Run):
    sets = ("layout.pp=64", "layout.dp=null", "layout.vpp=1", "layout.schedule=1f1b")
    arguments = [part for one in sets for part in ("--set", one)]
    _, out, err = run("plan", str(EXAMPLES / "llama-3.1-405b-h100.yaml"), *arguments)
    assert err == ""
    table = out.partition("  ranks ")[2].partition("  terms of rank")[0]
    assert len(table.splitlines()) <= 14
    assert "more ranks" in table
    fullest = re.search(r"terms of rank (\d+), the fullest", out)
    assert fullest is not None
    spans = [span.split("-") for span in re.findall(r"^  (\d+(?:-\d+)?) +[\d.]+ ", table, re.MULTILINE)]
    assert any(int(span[0]) <= int(fullest[1]) <= int(span[-1]) for span in spans)
