"""The record of our errors as rows for a page, from the files that `make refit` writes and the wheel carries."""

from __future__ import annotations

from typing import Any

from codesign import units
from codesign.evidence import nearest
from codesign.planner import SCOPES, error_cells
from codesign.report import view
from codesign.report.accuracy import held_out_summary

Row = dict[str, Any]

_HELD_OUT = {
    "in_sample": "nothing left out", "leave_one_group_out": "a publication's model and accelerator left out",
    "leave_one_source_out": "a source left out",
}


def sentence() -> str:
    """The errors of step time on runs that the constants had not seen, in one sentence."""
    one = held_out_summary()["leave_one_group_out"]
    return (
        f"Step time of {one['rows']:,} measured runs of {one['groups']} groups, each told by constants fitted without its group: "
        f"median error {view.percent(one['median'])}, nine of ten within {view.percent(one['p90'])}. The chart below has the "
        "shipped constants, fitted to all of them."
    )


def points() -> list[Row]:
    """Measured runs with our prediction, a row each: seconds as numbers, the rest as text. At most ten a group."""
    return [
        {
            "run": row["id"], "model": row["model"], "kind": row["features"]["kind"], "stack": row["stack"],
            "family": row["features"]["family"], "accelerators": f"{row['accelerators']:,} {row['accelerator']}",
            "measured_s": row["measured_step_s"], "predicted_s": row["predicted_step_s"],
            "error": view.signed_percent(row["error"]), "source": row["source"],
        }
        for row in nearest.indexed()
    ]


def held_out_rows() -> list[Row]:
    """Errors with nothing left out, a group left out, a source left out."""
    summary = held_out_summary()
    return [
        {
            "constants fitted with": words, "rows": f"{summary[key]['rows']:,}", "groups": str(summary[key]["groups"]),
            "median": view.percent(summary[key]["median"]), "nine of ten within": view.percent(summary[key]["p90"]),
            "mean": view.percent(summary[key]["mean"]), "bias": view.signed_percent(summary[key]["bias"]),
            "pairs ranked rightly": view.percent(summary[key]["ranking"]) if "ranking" in summary[key] else "-",
        }
        for key, words in _HELD_OUT.items()
    ]


def interval_rows() -> list[Row]:
    """The 80 % interval of each cell of measured runs, as factors of the prediction."""
    return [
        {
            "cell": name, "of": {"step": "step time", "memory": "memory"}[what], "rows": f"{cell['rows']:,}",
            "groups": str(cell["groups"]), "low": f"{cell['low']:.3f}", "high": f"{cell['high']:.3f}",
        }
        for what in ("step", "memory") for name, cell in error_cells(what).items()
    ]


def ranking_rows() -> list[Row]:
    """How often the plan that is predicted faster was measured faster, by what two plans differ in and by how much."""
    return [
        {
            "the two differ in": SCOPES.get(row["scope"], "anything"), "predicted gap": _gap(row["gap_from"], row["gap_to"]),
            "pairs": f"{row['pairs']:,}", "groups": str(row["groups"]), "right": view.percent(row["right"]),
            "confidence we state": view.percent(row["confidence"]),
        }
        for row in held_out_summary()["ranking_confidence"]
    ]


def _gap(low: float, high: float | None) -> str:
    return f"above {units.show(100 * low, '1')} %" if high is None else f"{100 * low:g} to {100 * high:g} %"
