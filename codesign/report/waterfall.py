"""Where the step goes, part after part: compute, exposed communication, idle; and what runs hidden beside compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.planner import Plan
from codesign.report import view
from codesign.timeline import hidden

COMPUTE = frozenset({
    "gemm_total_s", "attention_total_s", "elementwise_total_s", "recompute_total_s", "ends_total_s", "optimizer_s",
})
COMMUNICATION = frozenset({"amax_exchange_s"})  # beside what ends in _exposed_s


def kind(part: str) -> str:
    """What a part of the step is spent on: one of palette.KINDS."""
    if part in COMPUTE:
        return "compute"
    return "communication, exposed" if part in COMMUNICATION or part.endswith("_exposed_s") else "idle and overhead"


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a part, in the order of the step: label, kind, start and end in seconds; the last one ends at the step.

    Then the communication that is hidden, from 0, as the timeline draws it: it is not part of the step.
    """
    found, end_s = [], 0.0
    for row in view.time_rows(plan):
        start_s, end_s = end_s, end_s + row["s"]
        found.append({
            "part": row["label"], "kind": kind(row["part"]), "start_s": start_s, "end_s": end_s, "s": row["s"],
            "share": view.percent(row["share"]), "what": row["what"],
        })
    for name, hidden_s in hidden(plan).items():
        if hidden_s >= view.SMALL_SHARE * plan.step_s:
            found.append({
                "part": f"{name}, hidden", "kind": "communication, hidden", "start_s": 0.0,
                "end_s": hidden_s, "s": hidden_s, "share": view.percent(hidden_s / plan.step_s),
                "what": "runs beside compute and adds nothing to the step",
            })
    return found


def summary(found: Sequence[Mapping[str, Any]], step_s: float) -> str:
    """The rows in one sentence, for those who do not see the chart."""
    totals: dict[str, float] = {}
    for row in found:
        totals[row["kind"]] = totals.get(row["kind"], 0.0) + row["s"]
    said = ", ".join(f"{name} {view.percent(value / step_s)}" for name, value in totals.items())
    return f"Of the step: {said}. What is hidden comes on top and costs no time."
