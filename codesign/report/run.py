"""A run beyond its step, as text of 80 columns, as Markdown and as plain data: outcome, goodput, sites."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from codesign.planner import Plan
from codesign.report import run_goodput, run_outcome, run_sites, view
from codesign.run import RunPlan
from codesign.spec.resolve import KINDS

PARTS = (("the run", run_outcome), ("failures and goodput", run_goodput), ("sites", run_sites))


def violations(plan: Plan, run: RunPlan | None) -> tuple[str, ...]:
    """What does not hold of the run beyond its step. A verdict rests on these and on those of the plan.

    Over sites the plan of the spec's `cluster` is a template: the run says all.
    """
    found = run.violations if run else ()
    if run and run.has_sites:
        return found
    return tuple(text for text in found if text.partition(": ")[2] not in plan.violations)


def broken(plan: Plan, run: RunPlan | None) -> tuple[str, ...]:
    """All that does not hold: of the plan, then of its run; over sites, of the run alone."""
    own = () if run is not None and run.has_sites else plan.violations
    return (*own, *violations(plan, run))


def unsure(plan: Plan, run: RunPlan | None) -> tuple[str, ...]:
    """Why the verdict may turn out the other way: memory intervals that hold the capacity; none where more than memory breaks.

    One message a plan: of the step and of every other phase; over sites, of every different site.
    """
    if run is None:
        return view.unsure(plan)
    steps = run.step_plans if run.has_sites else {"": plan, **run.step_plans}
    if len(run.violations) > len(run.step_violations) or any(not p.feasible and not p.memory_open for p in steps.values()):
        return ()
    told = {"": plan.memory_open} if not run.has_sites else {}
    told |= {where: one.memory_open for where, one in run.step_plans.items() if one.memory_open not in told.values()}
    return tuple(f"{where}: {text}" if where else text for where, text in told.items() if text)


def holds(plan: Plan, run: RunPlan | None) -> bool:
    """Whether the plan is feasible, its run with it; over sites the sites decide."""
    return not broken(plan, run)


def screen(run: RunPlan) -> str:
    """All parts that the spec asks for, the outcome first."""
    blocks = []
    for title, part in PARTS:
        lines = part.lines(run)
        if lines:
            blocks.append("\n".join([f"== {title}", *lines]))
    from codesign.report import text

    blocks.append(text.wrap(_footing(run), "    ", ""))
    if run.inputs.notes:

        said = dict.fromkeys(run.inputs.notes)
        blocks.append("\n".join(["notes on the run", *(text.wrap(note, "    ", "  - ") for note in said)]))
    return "\n\n".join(blocks) + "\n"


def _footing(run: RunPlan) -> str:
    """The weakest kind of number under the run beyond its step, and how many inputs there are of each kind."""
    counts = _kinds(run)
    listed = ", ".join(f"{count} {'from the spec' if kind == 'spec' else kind}" for kind, count in counts.items())
    return f"footing: the weakest number under the run is {next(iter(counts))} (inputs beyond those of the step: {listed})"


def _kinds(run: RunPlan) -> dict[str, int]:
    """Inputs of the run by kind, the weakest first."""
    counts = Counter(leaf.kind for leaf in run.inputs.leaves.values())
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def markdown(run: RunPlan) -> str:
    """The same under the Markdown of a plan."""
    return f"## The run\n\n```text\n{screen(run)}```\n"


def to_dict(run: RunPlan) -> dict[str, Any]:
    """Quantities of the run and its parts, SI base units; what has no bound is null."""
    data: dict[str, Any] = {"quantities": run.to_dict(), "violations": list(run.violations), "notes": list(run.inputs.notes)}
    data["footing"] = {"weakest": next(iter(_kinds(run))), "leaves": _kinds(run)}
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


__all__ = ["broken", "holds", "markdown", "screen", "to_dict", "violations"]
