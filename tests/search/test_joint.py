"""Shape and hardware questions with the layout chosen again: every answer is what a search of its own gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from codesign import cli, plan
from codesign.search import run, space
from codesign.search.joint import Chooser
from codesign.search.result import Result
from codesign.search.shapes import rank_shapes
from codesign.spec import domains

SPEC: dict[str, Any] = {
    "version": 1,
    "model": {"preset": "llama-3-8b", "layers": 8},
    "training": {"sequence_length": 4096, "global_batch_sequences": 64, "tokens": 1e11},
    "layout": {"tp": [1, 2, 4], "pp": [1, 2], "micro_batch": [1, 2], "recompute": ["none", "full"]},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 32},
    "software": "megatron-core",
}


def _best(document: dict[str, Any]) -> Any:
    found = space.of(domains.load(document))
    return Result(found, run.search(found)).best[0]


def test_the_chooser_finds_what_a_search_finds() -> None:
    chooser = Chooser(domains.load(SPEC))
    closed = chooser.closed()
    assert closed is not None and closed.step_s == _best(SPEC).plan.step_s
    for layers in (8, 12):
        other = {**SPEC, "model": {**SPEC["model"], "layers": layers}}
        chosen = chooser.of_spec(domains.load(other).spec)
        assert chosen is not None and chosen.step_s == _best(other).plan.step_s
    small = {**SPEC, "cluster": {**SPEC["cluster"], "override": {"accelerator.memory_B": "1 GB"}}}
    assert Chooser(domains.load(small)).closed() is None


def test_scaled_hardware_is_the_hardware_of_an_override() -> None:
    chooser = Chooser(domains.load(SPEC))
    found = chooser.rechoose({"nic_Bps": 0.5})
    base = plan(_best(SPEC).space.spec(_best(SPEC).index)).value("nic_Bps")
    slow = {**SPEC, "cluster": {**SPEC["cluster"], "override": {"scale_out.nic_Bps": f"{base * 0.5!r} B/s"}}}
    assert found is not None and found[0] == pytest.approx(_best(slow).plan.step_s, rel=1e-12)


def test_steps_of_an_open_batch_are_for_the_tokens_of_the_best_one() -> None:
    training = {**SPEC["training"], "global_batch_sequences": [32, 64]}
    chooser = Chooser(domains.load({**SPEC, "training": training}))
    closed, found = chooser.closed(), chooser.rechoose({})
    assert closed is not None and found is not None and closed.value("global_batch") == 64
    assert found[0] == closed.step_s and found[1]["global_batch_sequences"] == 64


def test_each_shape_gets_its_own_layout() -> None:
    chooser = Chooser(domains.load(SPEC))
    base = chooser.closed()
    assert base is not None
    table = rank_shapes(base.problem.spec, {"layers": (6, 8, 10)}, "parameters", chooser.of_spec, free="ffn", lint_best=0)
    assert len(table.rows) >= 2
    for row in table.rows:
        model = {**SPEC["model"], "layers": row.layers, "ffn": row.ffn}
        assert row.step_s == _best({**SPEC, "model": model}).plan.step_s


@pytest.mark.parametrize(
    "changed",
    [
        {"layout": {"tp": 2, "pp": 4, "cp": 1, "micro_batch": 1, "recompute": "none", "stages": "balanced"}},
        {"layout": {**SPEC["layout"], "cp": 1}, "search": {"idle_accelerators": 8},
         "cluster": {**SPEC["cluster"], "accelerators": 36}},
        {"layout": {**SPEC["layout"], "cp": 1}, "search": {"racks": [{"accelerators": 4, "count": 8}]}},
        {"layout": {**SPEC["layout"], "cp": 1}, "training": {**SPEC["training"], "global_batch_sequences": [32, 64]}},
    ],
)  # fmt: skip
def test_a_shape_keeps_nothing_of_the_layout_of_another(changed: dict[str, Any]) -> None:
    """Balanced stages of another depth, accelerators left idle, partly filled racks, an open batch."""
    document = {**SPEC, **changed}
    chooser = Chooser(domains.load(document))
    base = chooser.closed()
    assert base is not None
    table = rank_shapes(base.problem.spec, {"layers": (6, 9, 10)}, "loss", chooser.of_spec, lint_best=9)
    assert len(table.rows) == 4
    for row in table.rows:
        best = _best({**document, "model": {**SPEC["model"], "layers": row.layers}}).plan
        assert row.mfu == pytest.approx(best.value("mfu"), rel=1e-12)
        assert row.tokens_per_s == best.value("job_tokens_per_s") and row.findings is not None


def test_the_command_searches_where_the_layout_is_open(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    code = cli.main(["shapes", str(path), "--axis", "layers=6,10", "--equal", "loss", "--format", "json", "--lint", "0"])
    data = json.loads(capsys.readouterr().out)
    assert code == 0 and {row["layers"] for row in data["shapes"]} == {6, 8, 10}
    base = next(row for row in data["shapes"] if row["is_base"])
    assert base["step_s"] == _best(SPEC).plan.step_s
    code = cli.main(["shapes", str(path), "--axis", "layers=6,10", "--set", "cluster.override.accelerator.memory_B=1 GB"])
    assert code == 1 and "no layout of the spec's own shape is feasible" in capsys.readouterr().err
