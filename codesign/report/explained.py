"""Any number of a plan or of its run, explained: what it is, its inputs with their values, the equation as it is written."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from codesign import graph
from codesign.planner import Plan
from codesign.report import over_sites, view
from codesign.run import RunPlan

_FIRST = ("step_s", "mfu", "job_tokens_per_s", "peak_B")


@dataclass(frozen=True)
class Explained:
    """`tree`: nested Markdown list; `equation`: the source of the function, empty for an input."""

    tree: str
    equation: str


def names(plan: Plan, run: RunPlan | None = None) -> list[str]:
    """Everything that has an explanation: the first figures, the run's quantities, then all by name."""
    of_plan = view.quantity_names(over_sites.shown(plan, run))
    of_run = [
        name if member is None else f"{name}[{member}]" for name, member in (step.key for step in run.program.steps)
        if isinstance(run.values[name, member], np.ndarray)
    ] if run else []
    first = [name for name in _FIRST if name in of_plan]
    return list(dict.fromkeys([*first, *sorted({*of_plan, *of_run})]))


def explain(plan: Plan, run: RunPlan | None, name: str, depth: int = 1) -> Explained:
    """The explanation of one number, `depth` levels down; of the run where it has it, else of the plan.

    Over sites the plan is that of the slowest.
    """
    plan = over_sites.shown(plan, run)
    base, _, member = name.partition("[")
    of_run = run is not None and (base, member.rstrip("]") or None) in run.values
    tree = run.explain(name, depth) if run is not None and of_run else plan.explain(name, depth)
    quantity = graph.REGISTRY.get(base)
    return Explained(view.explained(tree), inspect.getsource(quantity.function).rstrip() if quantity else "")
