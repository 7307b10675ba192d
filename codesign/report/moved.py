"""What moved from a baseline to a plan, and why, as rows for a page: the same comparison that `codesign compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codesign.planner import Plan
from codesign.report import compare as words
from codesign.report import view
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


@lru_cache(maxsize=64)
def _compared(a: _Same, b: _Same) -> compare.Comparison:
    return compare.compare(a.plan, b.plan)


@dataclass(frozen=True, eq=False)
class _Same:
    """A plan that is known by the hash of its spec."""

    plan: Plan

    def __hash__(self) -> int:
        return hash(self.plan.spec_hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.plan.spec_hash == self.plan.spec_hash


def moved(before: Plan, now: Plan) -> Moved:
    """From the baseline to the plan; kept by the hashes of the two specs, which say all that a plan depends on."""
    c = _compared(_Same(before), _Same(now))
    least = view.SMALL_SHARE * max(before.step_s, now.step_s)
    parts = [
        {"part": view.label(move.name), "difference_s": move.difference}
        for move in c.parts if abs(move.difference) >= least
    ]
    said = ", ".join(f"{row['part']} {row['difference_s']:+.4g} s" for row in parts)
    return Moved(
        words.answer(c, _NAMES), view.changes(now, before),
        [f"{fields}: {told}" for fields, told in words.effect_lines(c)],
        [f"{part}: {'; '.join(below)}" for part, below in words.cause_lines(c)], parts,
        said or "no part of the step moves",
    )
