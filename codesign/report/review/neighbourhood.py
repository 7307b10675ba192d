"""What is near the layout under review, in words; how it is searched is `codesign.search.near`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.errors import SpecError
from codesign.planner import Plan
from codesign.search.near import near
from codesign.search.result import Candidate, Result

MOST = 6  # layouts that are shown
MOST_WORDS = 12  # of the values of one field


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
            name: _listed(list(dict.fromkeys(map(_word, values))))
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
        return Neighbourhood(near(plan, MOST))
    except SpecError as error:
        return Neighbourhood(None, f"the layouts around this one cannot be searched: {error.message}")


def _listed(words: list[str]) -> str:
    more = [f"... ({len(words)})"] if len(words) > MOST_WORDS else []
    return ", ".join([*words[:MOST_WORDS], *more])


def _word(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, tuple) and hasattr(value[0], "granularity"):
        return f"{value[0].granularity} of 1 to all layers"
    if hasattr(value, "granularity"):
        return " ".join([value.granularity, *value.modules])
    if isinstance(value, tuple):
        return " ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


__all__ = ["MOST", "Neighbourhood", "around"]
