"""Rows of measured runs: reading, converting, and refusing without stopping."""

import copy
import json

import pytest

from codesign.errors import RunsError
from codesign.evidence import runs
from codesign.evidence.validate import validate


@pytest.fixture(scope="module")
def shipped():
    return runs.read()[0]


@pytest.fixture
def row(shipped):
    return copy.deepcopy(next(r for r in shipped if r["id"] == "korthikanti2022-t5-175b-present"))


def _write(path, rows):
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_every_shipped_line_is_a_row(shipped):
    assert len(shipped) == 1819
    assert runs.read()[1] == []


def test_rows_that_count_are_those_of_the_schema(shipped):
    assert sum(runs.scored(r) for r in shipped) == 1330
    assert sum(runs.scored(r, "caution") for r in shipped) == 398


def test_bad_lines_are_named_and_skipped(tmp_path, row):
    other = {**row, "id": "second"}
    lines = [row, "{not json\n", '"text"\n', "\n", json.dumps({"id": 7}) + "\n", row, other, json.dumps({"id": "x"}) + "\n"]
    path = _write(tmp_path / "r.jsonl", lines)
    rows, bad = runs.read(path)
    assert [r["id"] for r in rows] == [row["id"], "second"]
    assert [b.split(": ", 1)[0] for b in bad] == [f"r.jsonl:{n}" for n in (2, 3, 5, 6, 8)]
    v = validate(path)
    assert [o["status"] for o in v.rows] == ["predicted", "predicted"]
    assert v.skipped == bad


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(RunsError, match=r"none\.jsonl"):
        validate(tmp_path / "none.jsonl")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunsError, match="text"):
        validate(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accelerator": "h999"}, "no profile for accelerator 'h999'"),
        ({"accelerators": 63}, "cluster has 63 ranks"),
        ({"layout": {"tp": None}}, "no complete layout: tp"),
        ({"layout": {"global_batch_sequences": None}}, "no global batch"),
        ({"layout": {"micro_batch": 3}}, "not a multiple"),
        ({"model": {"hidden": "wide"}}, "not usable"),
        ({"layout": {"recompute": {"granularity": "selective", "modules": ["magic"], "fraction": None}}}, "not known"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path, row, change, reason):
    for key, value in change.items():
        row[key] = {**row[key], **value} if isinstance(value, dict) else value
    (out,) = validate(_write(tmp_path / "r.jsonl", [row])).rows
    assert out["status"] == "refused"
    assert reason in out["reason"]
    assert out["predicted_step_s"] is None


@pytest.mark.parametrize("accelerator", ["a100-pcie-80gb", "mi300x", "v100-sxm-32gb", "trainium2", "gaudi3"])
def test_accelerators_without_a_row_are_predicted_from_their_profile(tmp_path, row, accelerator):
    row["accelerator"] = accelerator
    if accelerator == "v100-sxm-32gb":
        row["layout"]["precision"] = "fp16"
    (out,) = validate(_write(tmp_path / "r.jsonl", [row])).rows
    assert out["predicted_step_s"] > 0, out["reason"]


def test_an_unknown_stack_is_the_nearest_one_and_says_so(tmp_path, row):
    row["stack"] = "colossalai"
    (out,) = validate(_write(tmp_path / "r.jsonl", [row])).rows
    assert out["status"] == "predicted"
    assert any("nearest to 'colossalai'" in a for a in out["assumed"])


def test_what_a_row_leaves_unsaid_is_named(tmp_path, row):
    row["layout"] |= {"micro_batch": None, "sharding": None, "recompute": {"granularity": None, "modules": [], "fraction": None}}
    (out,) = validate(_write(tmp_path / "r.jsonl", [row])).rows
    said = " ".join(out["assumed"])
    assert all(field in said for field in ("layout.micro_batch", "layout.sharding", "layout.recompute"))


def test_memory_does_not_depend_on_a_step_time(tmp_path, shipped):
    row = copy.deepcopy(next(r for r in shipped if r["id"].startswith("simumax-b200-llama3")))
    with_time = validate(_write(tmp_path / "a.jsonl", [row])).rows[0]["predicted_memory_B"]
    row["measured"]["step_time_s"] = None
    assert validate(_write(tmp_path / "b.jsonl", [row])).rows[0]["predicted_memory_B"] == with_time


def test_where_filters_and_refuses_unknown_fields():
    v = validate(where=["source=korthikanti2022", "kind=dense"])
    assert {r["source"]["key"] for r in v.measured} == {"korthikanti2022"}
    with pytest.raises(RunsError, match="write one of accelerator"):
        validate(where=["colour=red"])
    with pytest.raises(RunsError, match="no row satisfies"):
        validate(where=["accelerator=abacus"])
