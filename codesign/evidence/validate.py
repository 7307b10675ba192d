"""`codesign validate`: every measured row predicted through the same plan, and how wrong we are, everywhere.

Works on any file in the schema of measured_runs/SCHEMA.md. A row that cannot be predicted says why; a bad line is named
and skipped.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign import planner
from codesign.errors import RunsError
from codesign.evidence import predict, runs
from codesign.evidence.score import Score, ranking, regrets, score
from codesign.spec import stacks

MEMORIES = ("rank_allocated_B", "rank_reserved_B", "rank_device_B")
TARGETS = ("step_s", "fits_memory", *MEMORIES)

FIELDS: dict[str, Callable[[runs.Row], str]] = {
    "accelerator": lambda r: str(r.get("accelerator")),
    "stack": lambda r: str(r.get("stack")),
    "kind": lambda r: str(r["model"].get("kind")),
    "group": lambda r: str(r.get("group")),
    "source": lambda r: str((r.get("source") or {}).get("key")),
    "id": lambda r: str(r["id"]),
}


@dataclass(frozen=True)
class Validation:
    """Predictions of measured rows, and their errors."""

    rows: list[dict[str, Any]]
    measured: list[dict[str, Any]]  # the rows of the file, in the same order
    skipped: list[str]

    def errors(
        self, kind: str = "time", level: str = "ok", where: Callable[[runs.Row], bool] = lambda row: True
    ) -> dict[str, float]:
        """predicted / measured - 1 by row id, of the rows that count."""
        truth, key = (
            ("measured_step_s", "predicted_step_s") if kind == "time" else ("measured_memory_B", "predicted_memory_B")
        )
        found = {}
        for out, row in zip(self.rows, self.measured, strict=True):
            counts = runs.scored(row, level) if kind == "time" else memory_counts(row)
            if counts and where(row) and out[key] and out[truth]:
                found[out["id"]] = out[key] / out[truth] - 1.0
        return found

    def score(
        self, kind: str = "time", level: str = "ok", where: Callable[[runs.Row], bool] = lambda row: True
    ) -> Score:
        return score(self.errors(kind, level, where), {r["id"]: str(r.get("group")) for r in self.measured})

    def refused(self, level: str = "ok", where: Callable[[runs.Row], bool] = lambda row: True) -> Counter[str]:
        """Reasons of the rows that count for step time and were not predicted."""
        return Counter(
            str(out["reason"])
            for out, row in zip(self.rows, self.measured, strict=True)
            if runs.scored(row, level) and where(row) and out["predicted_step_s"] is None
        )

    def _line(self, cell: str, kind: str, level: str, where: Callable[[runs.Row], bool]) -> dict[str, Any]:
        s = self.score(kind, level, where)
        line: dict[str, Any] = {
            "cell": cell,
            "n": s.rows,
            "groups": s.groups,
            "refused": sum(self.refused(level, where).values()),
            "median": s.median,
            "p90": s.p90,
            "mean": s.mean,
            "bias": s.bias,
        }
        if kind == "time":
            predicted = {o["id"]: o["predicted_step_s"] for o in self.rows if o["predicted_step_s"]}
            counted = [r for r in self.measured if runs.scored(r, level) and where(r) and r["id"] in predicted]
            line["ranking"], line["ranking_groups"] = ranking(counted, predicted)
        return line

    def summary_rows(self) -> list[dict[str, Any]]:
        """The error table: all rows, caution rows apart, then accelerator x stack x dense/MoE, then memory."""
        lines = [
            self._line("all (ok)", "time", "ok", lambda row: True),
            self._line("caution rows", "time", "caution", lambda row: True),
        ]
        cells: dict[tuple[str, str, str], int] = defaultdict(int)
        for row in self.measured:
            if runs.scored(row):
                cells[(FIELDS["accelerator"](row), FIELDS["stack"](row), FIELDS["kind"](row))] += 1
        for cell in sorted(cells, key=lambda c: (-cells[c], c)):

            def inside(row: runs.Row, cell: tuple[str, str, str] = cell) -> bool:
                return (FIELDS["accelerator"](row), FIELDS["stack"](row), FIELDS["kind"](row)) == cell

            lines.append(self._line(" ".join(cell), "time", "ok", inside))
        lines.append(self._line("memory", "memory", "ok", lambda row: True))
        return [line for line in lines if line["n"] or line["refused"]]

    def regret(self) -> dict[str, float]:
        predicted = {o["id"]: o["predicted_step_s"] for o in self.rows if o["predicted_step_s"]}
        return regrets([r for r in self.measured if runs.scored(r)], predicted)

    def constants(self) -> list[dict[str, Any]]:
        """Every number that was adjusted on measured runs."""
        return [
            {
                "name": c.name,
                "value": c.value,
                "standard_error": c.standard_error,
                "prior": c.prior,
                "meaning": c.meaning,
            }
            for c in stacks.constants().values()
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "rows": self.rows,
            "summary": {
                "table": self.summary_rows(),
                "refused": dict(self.refused()),
                "constants": len(self.constants()),
                "families": {"n": len(self.regret()), "within_3_percent": _share(self.regret())},
            },
            "constants": self.constants(),
            "skipped": self.skipped,
        }


def _share(regret: Mapping[str, float]) -> float | None:
    return float(np.mean([r <= 0.03 for r in regret.values()])) if regret else None


def memory_counts(row: runs.Row) -> bool:
    return runs.trust(row) in ("ok", "caution") and row.get("kind", "step") == "step" and runs.truth_B(row) is not None


def validate(path: Path | str | None = None, where: Sequence[str] = ()) -> Validation:
    """Predict every row of `path` (default: the shipped rows) that satisfies all `where` conditions, field=value."""
    rows, skipped = runs.read(path)
    for condition in where:
        field, sign, value = condition.partition("=")
        if not sign or field not in FIELDS:
            raise RunsError(f"--where {condition}: write one of {', '.join(FIELDS)} = value")
        known = sorted({str(FIELDS[field](r)) for r in rows})
        rows = [r for r in rows if FIELDS[field](r) == value]
        if not rows:
            close = difflib.get_close_matches(value, known, 3, 0.4)
            near = f". Nearest: {', '.join(close)}" if close else f". Known: {', '.join(known[:8])}"
            raise RunsError(f"no row satisfies {' and '.join(where)}{near}")
    converted = [runs.convert(r) for r in rows]
    outs: list[dict[str, Any]] = [_blank(c) for c in converted]
    for batch in predict.batches(converted, TARGETS):
        values = batch.program.run(batch.leaves)
        size = len(batch.rows)
        step, fits = (np.broadcast_to(values[(k, None)], (size,)) for k in ("step_s", "fits_memory"))
        ranks = {k: _by_rank(values[(k, None)], size, batch) for k in MEMORIES}
        for at, row in enumerate(batch.rows):
            _fill(outs[row], converted[row], float(step[at]), {k: v[:, at] for k, v in ranks.items()})
            outs[row]["fits"] = bool(fits[at])
    return Validation(outs, rows, skipped)


def memory_B(converted: Sequence[runs.Converted]) -> np.ndarray:
    """Predicted memory of each row, of the row's own kind and ranks. All rows must have a problem."""
    out = np.full(len(converted), np.nan)
    for batch in predict.batches(converted, MEMORIES):
        values = batch.program.run(batch.leaves)
        ranks = {k: _by_rank(values[(k, None)], len(batch.rows), batch) for k in MEMORIES}
        for at, row in enumerate(batch.rows):
            out[row] = _memory(converted[row].row, {k: v[:, at] for k, v in ranks.items()})
    return out


def _by_rank(value: Any, size: int, batch: predict.Batch) -> np.ndarray:
    pp = batch.leaves["pipeline"].pp
    return np.broadcast_to(value, (pp, size))


def _blank(c: runs.Converted) -> dict[str, Any]:
    return {
        "id": str(c.row["id"]),
        "group": c.row.get("group"),
        "status": "refused",
        "reason": c.reason,
        "assumed": list(c.assumed),
        "measured_step_s": runs.truth_s(c.row),
        "predicted_step_s": None,
        "lo_s": None,
        "hi_s": None,
        "measured_memory_B": runs.truth_B(c.row),
        "predicted_memory_B": None,
        "lo_B": None,
        "hi_B": None,
        "fits": None,
        "cell": None,
    }


def _fill(out: dict[str, Any], c: runs.Converted, step_s: float, ranks: Mapping[str, np.ndarray]) -> None:
    assert c.problem is not None
    interval = planner.interval(c.problem, step_s, "step")
    memory_B = _memory(c.row, ranks)
    room = planner.interval(c.problem, memory_B, "memory")
    out.update(
        status="predicted",
        reason=None,
        assumed=[*c.assumed, *c.problem.notes],
        predicted_step_s=step_s,
        lo_s=interval.low,
        hi_s=interval.high,
        predicted_memory_B=memory_B,
        lo_B=room.low,
        hi_B=room.high,
        cell=interval.cell,
    )


def _memory(row: runs.Row, ranks: Mapping[str, np.ndarray]) -> float:
    """Memory of the row's own kind and ranks; unspecified: reserved on the worst rank."""
    kind = row["measured"].get("memory_kind")
    note = str(row["measured"].get("memory_note") or "").lower()
    name = (
        "rank_allocated_B"
        if kind == "peak_allocated"
        else "rank_device_B"
        if "nvidia-smi" in note or "device memory" in note
        else "rank_reserved_B"
    )
    by_rank = ranks[name]
    if "last rank" in note:
        return float(by_rank[-1])
    if "first rank" in note or "rank 0" in note:
        return float(by_rank[0])
    return float(np.max(by_rank))
