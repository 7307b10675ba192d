"""A small search around the layout under review: every degree halved, kept and doubled, and what follows from it.

Deterministic and small (some thousands of layouts, well under a second); a wider one is `codesign search`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.errors import SpecError
from codesign.planner import Plan
from codesign.search.find import find
from codesign.search.result import Candidate, Result

MOST = 6  # layouts that are shown
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


@dataclass(frozen=True)
class Neighbourhood:
    """What was searched and what was found; `why_none` where nothing was."""

    result: Result | None
    why_none: str = ""

    @property
    def best(self) -> tuple[Candidate, ...]:
        return self.result.best[:MOST] if self.result is not None else ()

    @property
    def searched(self) -> dict[str, str]:
        """Fields with a choice, and the values tried, as text."""
        if self.result is None:
            return {}
        tried = self.result.space.searched
        silent = set() if {"zero3", "hsdp"} & set(tried["sharding"]) else {"reshard_after_forward"}
        return {
            name: ", ".join(dict.fromkeys(map(_word, values)))
            for name, values in tried.items()
            if len(values) > 1 and name not in silent
        }


def around(plan: Plan, wanted: bool = True) -> Neighbourhood:
    """The layouts near the plan's own, best first. Not `wanted`, or not possible, is said in words."""
    if not wanted:
        return Neighbourhood(None, "no search was asked for (--no-search)")
    if plan.overrides:
        return Neighbourhood(None, "quantities are set by hand, and a search would not know of them")
    try:
        return Neighbourhood(find(_opened(plan)))
    except SpecError as error:
        return Neighbourhood(None, f"the layouts around this one cannot be searched: {error.message}")


def _opened(plan: Plan) -> Mapping[str, Any]:
    """The spec with a choice in its layout, for the search."""
    data = {name: part for name, part in plan.resolved().items() if name not in _BESIDE}
    layout = {name: value for name, value in data["layout"].items() if name not in _FOLLOWS}
    degrees = [name for name in _DEGREES if name != "ep" or plan.problem.spec.model.moe is not None]
    layout |= {name: _near(layout.get(name, 1)) for name in degrees}
    if layout.get("sharding") not in ("hsdp",):
        layout.pop("sharding_group", None)
    layout["recompute"] = ["none", "full", layout["recompute"]]
    layout["order"] = [layout["order"]]
    wanted = {**data.get("search", {}), "objectives": ["step_s", "memory"], "best": MOST}
    return {**data, "layout": layout, "search": wanted}


def _near(value: float) -> list[float]:
    """Half where it is whole, the value, and twice it."""
    return sorted({value, value * 2, *([int(value / 2)] if value % 2 == 0 else [])})


def _word(value: Any) -> str:
    if value is None:
        return "default"
    if hasattr(value, "granularity"):
        return " ".join([value.granularity, *value.modules])
    if isinstance(value, tuple):
        return " ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


__all__ = ["MOST", "Neighbourhood", "around"]
