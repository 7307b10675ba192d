"""What moved from a baseline to a plan, and why, as rows for a page: the same comparison that `codesign compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codesign.planner import Plan
from codesign.report import compare as words
from codesign.report import over_sites, view
from codesign.run import RunPlan
from codesign.search import compare

_NAMES = ("the baseline", "this plan")

Row = dict[str, Any]


@dataclass(frozen=True)
class Moved:
    """`answer`: sentences; `changes`: fields that differ; `effects`: what each did to the step; `causes`: why a part moved;
    `parts`: seconds by part, for a chart."""

    answer: Sequence[str]
    changes: Sequence[Row]
    effects: Sequence[str]
    causes: Sequence[str]
    parts: Sequence[Row]
    summary: str


@dataclass(frozen=True, eq=False)
class _Same:
    """A plan and its run, known by the hash of the spec, which says all that they depend on."""

    plan: Plan
    run: RunPlan | None

    def __hash__(self) -> int:
        return hash(self.plan.spec_hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.plan.spec_hash == self.plan.spec_hash


@lru_cache(maxsize=64)
def _compared(a: _Same, b: _Same) -> compare.Comparison:
    return over_sites.compared(a.plan, b.plan, (a.run, b.run) if a.run and b.run else None)


def moved(before: tuple[Plan, RunPlan | None], now: tuple[Plan, RunPlan | None]) -> Moved:
    """From the baseline to the plan, each with its run; kept by the hashes of the two specs."""
    c = _compared(_Same(*before), _Same(*now))
    steps = over_sites.shown(*before), over_sites.shown(*now)
    least = view.SMALL_SHARE * max(step.step_s for step in steps)
    parts = [
        {"part": view.label(move.name), "difference_s": move.difference}
        for move in c.parts if abs(move.difference) >= least
    ]
    said = ", ".join(f"{row['part']} {row['difference_s']:+.4g} s" for row in parts)
    return Moved(
        words.answer(c, _NAMES), view.changes(now[0], before[0]),
        [f"{fields}: {told}" for fields, told in words.effect_lines(c)],
        [f"{part}: {'; '.join(below)}" for part, below in words.cause_lines(c)], parts,
        said or "no part of the step moves",
    )
