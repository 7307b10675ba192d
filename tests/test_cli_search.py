"""`codesign search` and `why-not` as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from codesign import cli, plan
from codesign.search import run
from codesign.spec import load

SPEC = {
    "version": 1,
    "model": {"preset": "llama-3-8b", "layers": 8},
    "training": {"sequence_length": 4096, "global_batch_sequences": 64},
    "layout": {"tp": [1, 2, 4], "pp": [1, 2], "micro_batch": [1, 2], "recompute": ["none", "full"]},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 32},
    "software": "megatron-core",
}


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_search_prints_the_best_and_why_not_the_others(spec: str, capsys: Any) -> None:
    code, out, _ = _run(capsys, "search", spec)
    assert code == 0
    for words in ("best", "Pareto front", "why not the others", "candidates", "searched"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_front_says_how_many_of_it_are_shown(spec: str, capsys: Any) -> None:
    sets = ("layout.tp=[1, 2, 4, 8]", "layout.pp=[1, 2, 4]", "search.objectives=[step_s, memory]")
    wide = (spec, *(word for one in sets for word in ("--set", one)))
    for free in ((), ("--free", "recompute", "--free", "offload", "--free", "vpp")):
        front = json.loads(_run(capsys, "search", *wide, *free, "--format", "json")[1])["front"]
        out = _run(capsys, "search", *wide, *free)[1]
        title, _, table = out[out.index("Pareto front") :].partition("\n\n")[0].partition("\n")
        rows = len(table.splitlines()) - 1
        assert rows == min(len(front), 12)
        assert title.endswith(f": {rows} layouts" if rows == len(front) else f": {rows} of {len(front)} layouts shown")
    assert len(front) > 12


def test_json_holds_the_same_numbers_as_plans(spec: str, capsys: Any) -> None:
    code, out, err = _run(capsys, "search", spec, "--format", "json")
    data = json.loads(out)
    assert code == 0 and err == ""
    best = data["best"][0]
    made = plan({**SPEC, **_adopted(best["set"])})
    assert made.step_s == best["step_s"] and made.value("peak_B") == best["peak_B"]
    tally = data["tally"]
    assert tally["feasible"] + sum(tally["rejected"].values()) == tally["candidates"] == data["manifest"]["candidates"]


def _adopted(sets: list[str]) -> dict[str, Any]:
    document = load.document({})
    for one in sets:
        load.apply_set(document, one)
    return document.data


def test_what_is_printed_can_be_planned(spec: str, capsys: Any) -> None:
    _, out, _ = _run(capsys, "search", spec, "--format", "json")
    best = json.loads(out)["best"][0]
    code, out, _ = _run(
        capsys, "plan", spec, *(part for one in best["set"] for part in ("--set", one)), "--format", "json"
    )
    assert code == 0
    assert json.loads(out)["step"]["step_s"] == best["step_s"]


@pytest.mark.parametrize("ending", ["json", "csv", "parquet", "md", "txt"])
def test_every_format_is_written_with_a_manifest(spec: str, tmp_path: Path, capsys: Any, ending: str) -> None:
    out = tmp_path / f"layouts.{ending}"
    assert _run(capsys, "search", spec, "-o", str(out))[0] == 0
    first = out.read_bytes()
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    assert {"codesign", "numpy", "spec_hash", "profile_hash", "constants_hash", "candidates", "done"} <= manifest.keys()
    assert _run(capsys, "search", spec, "-o", str(out))[0] == 0
    if ending != "parquet":
        assert out.read_bytes() == first
    else:
        frame = pd.read_parquet(out)
        assert set(frame["role"]) <= {"best", "alternative", "front"} and frame["step_s"].min() > 0
    if ending == "csv":
        rows = list(csv.DictReader(first.decode().splitlines()))
        assert rows[0]["role"] == "best" and float(rows[0]["step_s"]) > 0


def test_all_writes_every_candidate(spec: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "all.csv"
    assert _run(capsys, "search", spec, "--all", "-o", str(out))[0] == 0
    _, text, _ = _run(capsys, "search", spec, "--format", "json")
    tally = json.loads(text)["tally"]
    frame = pd.read_csv(out, keep_default_na=False)
    assert len(frame) == tally["candidates"] and int((frame["reason"] == "").sum()) == tally["feasible"]
    assert _run(capsys, "search", spec, "--all")[0] == 2


def test_a_row_tells_apart_what_is_listed(spec: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "all.csv"
    sets = ("--set", "layout.overlap=[{tp: true}, {tp: false}]", "--set", "layout.first_stage_layers=[1, 2]",
            "--set", "search.racks=[{accelerators: 4, count: 8}]", "--set", "layout.pp=4",
            "--set", "layout.stages=default")  # fmt: skip
    assert _run(capsys, "search", spec, "--all", "-o", str(out), *sets, "--set", "layout.last_stage_layers=1")[0] == 0
    frame = pd.read_csv(out, keep_default_na=False)
    assert frame["overlap"].nunique() == 2 and set(frame["scale_up_domain"]) == {4}
    parts = ["candidate", "reason", "step_s", "job_tokens_per_s", "mfu", "peak_B"]
    assert not frame.drop(columns=parts).duplicated().any()
    code, text, _ = _run(capsys, "search", spec, *sets, "--format", "csv")
    assert code == 0 and {"overlap", "first_stage_layers", "scale_up_domain"} <= set(text.splitlines()[0].split(","))


def test_a_stopped_search_goes_on(spec: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign.search import sweep

    monkeypatch.setattr(sweep, "UNIT", 2)
    out = tmp_path / "layouts.json"
    assert _run(capsys, "search", spec, "-o", str(out))[0] == 0
    whole = out.read_bytes()
    out.unlink()
    work, calls = sweep.work, []

    def stops(*arguments: Any) -> Any:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(arguments)
        return work(*arguments)

    monkeypatch.setattr(sweep, "work", stops)
    code, _, err = _run(capsys, "search", spec, "-o", str(out))
    assert code == 130 and "go on with --resume" in err and not out.exists()
    monkeypatch.setattr(sweep, "work", work)
    assert _run(capsys, "search", spec, "-o", str(out), "--resume")[0] == 0
    assert out.read_bytes() == whole


def test_resume_refuses_another_search(spec: str, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "layouts.json")
    assert _run(capsys, "search", spec, "--resume", "-o", out)[0] == 2
    assert _run(capsys, "search", spec, "--resume")[0] == 2
    assert _run(capsys, "search", spec, "-o", out)[0] == 0
    code, _, err = _run(capsys, "search", spec, "-o", out, "--resume", "--set", "training.global_batch_sequences=32")
    assert code == 2 and "start anew without --resume" in err
    Path(f"{out}.manifest.json").write_text("{}")
    assert _run(capsys, "search", spec, "-o", out, "--resume")[0] == 2
    Path(f"{out}.manifest.json").write_text("not json")
    assert _run(capsys, "search", spec, "-o", out, "--resume")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "no/such/folder/x.json"), "cannot be written"),
        (("-o", "x.xls"), "the ending names no format"),
        (("--objective", "speed"), "search.objectives.0 must be one of"),
        (("--best", "0"), "search.best must be a whole number"),
        (("--within", "2"), "search.within must be a number from 0 to 1"),
        (("--free", "nothing"), "layout has no field 'nothing'"),
        (("--set", "layout.tp=[]"), "layout.tp is an empty list"),
        (("--scheduler", "tcp://127.0.0.1:1"), "no Dask scheduler answers there"),
        (("--workers", "0"), "workers"),
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), "--workers has no effect with --scheduler"),
        (("--all", "--workers", "2", "-o", "x.csv"), "--workers has no effect with --all"),
        (("--all", "--resume", "-o", "x.csv"), "--resume has no effect with --all"),
        (("--format", "json", "-o", "x.parquet"), "the ending says Parquet"),
    ],
)
def test_wrong_use_is_one_message_and_exit_2(
    spec: str, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "CONNECT_S", 0.5)
    before = sorted(tmp_path.iterdir())
    code, out, err = _run(capsys, "search", spec, *arguments)
    assert code == 2 and message in err and out == "" and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_message(spec: str, capsys: Any) -> None:
    beside = sorted(Path("/dev").glob("full*"))
    code, _, err = _run(capsys, "search", spec, "--format", "json", "-o", "/dev/full")
    assert code == 2 and "cannot be written" in err
    assert sorted(Path("/dev").glob("full*")) == beside


def test_the_input_is_not_overwritten(spec: str, capsys: Any) -> None:
    before = Path(spec).read_text()
    assert _run(capsys, "search", spec, "--format", "json", "-o", spec)[0] == 2
    assert Path(spec).read_text() == before


def test_a_space_without_a_feasible_layout_exits_1_with_the_nearest_misses(spec: str, capsys: Any) -> None:
    small = ("--set", "cluster.override.accelerator.memory_B=3 GB")
    code, out, _ = _run(capsys, "search", spec, *small)
    assert code == 1 and "NO FEASIBLE LAYOUT" in out
    assert out.count("\n- ") == 3 and out.count("too\n") + out.count("too much") >= 3
    code, out, _ = _run(capsys, "search", spec, *small, "--format", "json")
    data = json.loads(out)
    assert code == 1 and len(data["nearest_misses"]) == 3
    for miss in data["nearest_misses"]:
        assert miss["broken"] and miss["lifts"]
        for lift in miss["lifts"]:
            sets = [f"layout={yaml.safe_dump(miss['layout'], default_flow_style=True).strip()}", *lift["set"]]
            sets = [one.replace("\n", " ") for one in sets] + ["cluster.override.accelerator.memory_B=3 GB"] * (
                "memory_B" not in lift["set"][0])  # fmt: skip
            made = plan(spec, sets=sets)
            assert made.feasible, lift
            assert made.step_s == pytest.approx(lift["step_s"])


def test_a_space_where_nothing_divides_exits_1(spec: str, capsys: Any) -> None:
    code, out, _ = _run(capsys, "search", spec, "--set", "cluster.accelerators=31")
    assert code == 1 and "not whole in ranks" in out
    code, out, _ = _run(capsys, "search", spec, "--set", "training.global_batch_sequences=33", "--set", "layout.tp=[1]")
    assert code == 1 and "is not a multiple of dp x micro_batch" in out and "training.global_batch_sequences=32" in out


def test_one_structure_with_nothing_feasible_has_three_misses_whose_lifts_can_be_planned(spec: str, capsys: Any) -> None:
    document = {**SPEC, "layout": {"tp": 2, "pp": 2, "dp": 8, "micro_batch": [1, 2, 4, 8], "recompute": "none", "vpp": 1,
                                   "cp": 1, "order": ["tp", "cp", "ep", "dp", "pp"], "sharding": "zero1", "stages": "default",
                                   "offload": {}, "sequence_parallel": True, "overlap": {"dp_gradients": False}}}  # fmt: skip
    path = Path(spec)
    path.write_text(yaml.safe_dump(document))
    small = "cluster.override.accelerator.memory_B=9 GiB"
    code, out, _ = _run(capsys, "search", spec, "--set", small, "--format", "json")
    misses = json.loads(out)["nearest_misses"]
    assert code == 1 and [miss["layout"]["micro_batch"] for miss in misses] == [1.0, 2.0, 4.0]
    lifted = [(miss, lift) for miss in misses for lift in miss["lifts"]]
    assert any(lift["change"].startswith(("tp", "pp", "cp")) for _, lift in lifted)
    for miss, lift in lifted:
        base = {**document, "layout": miss["layout"]}
        assert plan(base, sets=[small, *lift["set"]]).step_s == lift["step_s"], lift


def test_why_not_names_the_limit_and_what_lifts_it(spec: str, capsys: Any) -> None:
    small = ("--set", "cluster.override.accelerator.memory_B=12 GB")
    code, out, _ = _run(capsys, "why-not", spec, "--layout", "tp=1,pp=1,micro_batch=2,recompute=none", *small)
    assert code == 1 and "IT CANNOT RUN" in out and "breaks memory" in out and "cheapest single changes" in out
    code, out, _ = _run(capsys, "why-not", spec, "--layout", "tp=3,pp=1")
    assert code == 1 and "32 ranks cannot be divided by tp x pp x cp = 3" in out


def test_why_not_keeps_what_is_written_where_nothing_divides(spec: str, capsys: Any) -> None:
    full = ("--set", "layout.recompute=full", "--set", "layout.cp=1", "--set", "layout.micro_batch=2")
    code, out, _ = _run(capsys, "why-not", spec, "--layout", "tp=3,pp=1", *full, "--format", "json")
    data = json.loads(out)
    assert code == 1 and data["refusals"][0]["layout"]["recompute"] == "full"
    lift = next(one for one in data["refusals"][0]["lifts"] if one["set"] == ["layout.tp=1"])
    sets = ["layout={tp: 1, pp: 1, micro_batch: 2, recompute: full}"]
    assert lift["step_s"] == plan(SPEC, sets=sets).step_s


@pytest.mark.parametrize("asked", ["tp=1", "cp=1", "pp=1", "pp=2", "vpp=1", "schedule=1f1b", "sharding=zero1", "sharding=hsdp"])
def test_why_not_leaves_aside_what_says_nothing_of_the_layout_asked_about(tmp_path: Path, capsys: Any, asked: str) -> None:
    layout = {"tp": 2, "pp": 4, "dp": 2, "cp": 2, "vpp": 2, "schedule": "interleaved", "stages": "Et|(t|)*4t|t*2|L",
              "micro_batch": 1, "cp_style": "ring", "sharding": "zero3", "reshard_after_forward": True,
              "sequence_parallel": True, "recompute": "none"}  # fmt: skip
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({**SPEC, "layout": layout, "software": "other"}))
    code, out, err = _run(capsys, "why-not", str(path), "--layout", asked, "--format", "json")
    assert code == 0, err
    name, _, value = asked.partition("=")
    found = json.loads(out)["asked"]
    assert str(found[name]) == value and json.loads(out)["best"]["tp"] == 2


def test_a_layout_with_sections_is_answered_as_data(spec: str, capsys: Any) -> None:
    sets = ("--set", "layout.overlap.dp_gradients=false", "--set", "layout.cp=1", "--set", "layout.tp=[1, 2]")
    for command in (("search",), ("why-not", "--layout", "tp=2"), ("sensitivity",)):
        code, out, err = _run(capsys, command[0], spec, *command[1:], *sets, "--format", "json")
        assert code == 0 and json.loads(out), err


def test_why_not_a_slower_one_names_the_terms_that_add_up(spec: str, capsys: Any) -> None:
    code, out, _ = _run(capsys, "why-not", spec, "--layout", "tp=4,pp=2", "--format", "json")
    data = json.loads(out)
    assert code == 0 and data["feasible"]
    moved = data["asked"]["step_s"] - data["best"]["step_s"]
    assert moved > 0 and sum(data["longer_s"].values()) == pytest.approx(moved)
    code, out, _ = _run(capsys, "why-not", spec, "--layout", "tp=4,pp=2")
    assert code == 0 and "slower than the best of the space" in out
    best = data["best"]
    code, out, _ = _run(capsys, "why-not", spec, "--layout", f"tp={best['tp']},pp={best['pp']}")
    assert "it is the best of the space" in out


@pytest.mark.parametrize("layout", ["tp", "tp=", "=4", "tp=4,,pp=2", "tpp=4", "tp=x"])
def test_why_not_refuses_what_is_no_layout(spec: str, capsys: Any, layout: str) -> None:
    code, out, err = _run(capsys, "why-not", spec, "--layout", layout)
    assert code == 2 and out == "" and err


def test_progress_is_for_people_only(spec: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign.cli import progress

    times = iter(range(0, 10_000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    assert _run(capsys, "search", spec)[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = progress.Progress("layouts", 1000)
    line.show(250)
    err = capsys.readouterr().err
    assert "[#####  " in err and "250 of 1,000 layouts, 125/s, 6 s left" in err
    line.show(1000)
    assert not capsys.readouterr().err.strip()
