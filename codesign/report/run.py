"""A run beyond its step, as text of 80 columns, as Markdown and as plain data: outcome, goodput, sites."""

from __future__ import annotations

import math
from typing import Any

from codesign.report import run_goodput, run_outcome, run_sites
from codesign.run import RunPlan

PARTS = (("the run", run_outcome), ("failures and goodput", run_goodput), ("sites", run_sites))


def screen(run: RunPlan) -> str:
    """All parts that the spec asks for, the outcome first."""
    blocks = [f"NOT FEASIBLE: {text}" for text in run.violations]
    for title, part in PARTS:
        lines = part.lines(run)
        if lines:
            blocks.append("\n".join([f"== {title}", *lines]))
    if run.inputs.notes:
        from codesign.report import text

        said = dict.fromkeys(run.inputs.notes)
        blocks.append("\n".join(["notes on the run", *(text.wrap(note, "    ", "  - ") for note in said)]))
    return "\n\n".join(blocks) + "\n"


def markdown(run: RunPlan) -> str:
    """The same under the Markdown of a plan."""
    return f"## The run\n\n```text\n{screen(run)}```\n"


def to_dict(run: RunPlan) -> dict[str, Any]:
    """Quantities of the run and its parts, SI base units; what has no bound is null."""
    data: dict[str, Any] = {"quantities": run.to_dict(), "violations": list(run.violations), "notes": list(run.inputs.notes)}
    for name, part in (("outcome", run_outcome), ("goodput", run_goodput), ("sites", run_sites)):
        found = part.to_dict(run)
        if found:
            data[name] = found
    data["inputs"] = {
        name: {"value": leaf.value, "kind": leaf.kind, "source": leaf.source} for name, leaf in run.inputs.leaves.items()
    }
    return _bounded(data)


def _bounded(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(name): _bounded(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_bounded(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


__all__ = ["markdown", "screen", "to_dict"]
