"""The layouts near one: every degree halved, kept and doubled, recompute of a module more or less, and what follows.

Deterministic and small (some thousands of layouts); a wider search is `codesign search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesign.planner import Plan
from codesign.search import choices
from codesign.search.find import find
from codesign.search.result import Result
from codesign.spec import domains

_DEGREES = ("tp", "pp", "vpp", "cp", "ep", "micro_batch")
# what follows from the degrees, or has no meaning with some of them: left to the search
_FOLLOWS = (
    "dp",
    "stages",
    "first_stage_layers",
    "last_stage_layers",
    "schedule",
    "sequence_parallel",
    "cp_style",
    "reshard_after_forward",
    "prefetch",
)
_BESIDE = ("run", "sites", "links", "sync", "review")  # a layout is searched for one site and its step


def near(plan: Plan, best: int) -> Result:
    """The `best` fastest layouts near the plan's own, which is one of them. Raises SpecError where it cannot be searched."""
    return find(_opened(plan, best))


def _opened(plan: Plan, best: int) -> Mapping[str, Any]:
    """The spec with a choice in its layout, for the search."""
    data = {name: part for name, part in plan.resolved().items() if name not in _BESIDE}
    layout = {name: value for name, value in data["layout"].items() if name not in _FOLLOWS}
    degrees = [name for name in _DEGREES if name != "ep" or plan.problem.spec.model.moe is not None]
    layout |= {name: _beside(layout.get(name, 1)) for name in degrees}
    if layout.get("sharding") not in ("hsdp",):
        layout.pop("sharding_group", None)
    layout["recompute"] = _recomputes(plan, layout["recompute"])
    layout["order"] = [layout["order"]]
    wanted = {**data.get("search", {}), "objectives": ["step_s", "memory"], "best": best}
    return {**data, "layout": layout, "search": wanted}


def _beside(value: float) -> list[float]:
    """Half where it is whole, the value, and twice it."""
    return sorted({value, value * 2, *([int(value / 2)] if value % 2 == 0 else [])})


def _recomputes(plan: Plan, own: Mapping[str, Any]) -> list[Any]:
    """None, full of every number of layers, the plan's own, and selective ones of the stack: one module more or fewer.

    Beside full recompute, which is no set of modules, stand all of them.
    """
    stack, model = plan.problem.stack, plan.problem.spec.model
    modules = set(own["modules"]) if own["granularity"] == "selective" else set()
    found: list[Any] = []
    for one in choices.recomputes(stack.can.modules, model, stack):
        if isinstance(one, tuple):
            found.append({**one[0].model_dump(), "fraction": domains.ANY})
        elif isinstance(one, str):
            found.append(one)
        elif own["granularity"] == "full" or len(modules ^ set(one.modules)) == 1:
            found.append(one.model_dump())
    return [*found, own]


__all__ = ["near"]
