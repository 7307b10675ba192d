"""What a review is made from, and numbers that know where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codesign import units
from codesign.planner import Plan
from codesign.report.review.document import Number, Paragraph, Section, Span, Words, paragraph, words
from codesign.report.review.neighbourhood import Neighbourhood
from codesign.run import RunPlan
from codesign.spec.review import Review


@dataclass(frozen=True)
class Case:
    """One plan under review: its run where the spec has one, the nearest measured runs, the search around its layout."""

    plan: Plan
    run: RunPlan | None
    nearest: Sequence[Mapping[str, object]]
    around: Neighbourhood

    @property
    def review(self) -> Review:
        """What the spec says of people; nothing where it has no `review:`."""
        return self.plan.problem.spec.review or Review()

    @property
    def feasible(self) -> bool:
        return self.plan.feasible and (self.run is None or self.run.feasible)

    # -- numbers

    def step(self, name: str, text: str | None = None) -> Number:
        """A quantity or an input of the step; `text` where it is shown otherwise than with its unit."""
        if text is None:
            text = units.show(self.plan.value(name), units.suffix(name.partition("[")[0]))
        return Number(text, f"step:{name}")

    def of_run(self, name: str, text: str | None = None) -> Number:
        """A quantity or an input of the run beyond the step."""
        assert self.run is not None
        if text is None:
            text = units.show(self.run.value(name), units.suffix(name.partition("[")[0]))
        return Number(text, f"run:{name}")


def how(method: str, text: str) -> Span:
    """A number that is no quantity of the graph: `method` names its entry in the appendix. No number is plain text."""
    return Number(text, f"how:{method}") if text not in ("", "-") else text


def empty(anchor: str, title: str, *spans: Span) -> Section:
    """A section with nothing to say: one line that tells what to add to the spec."""
    return Section(anchor, title, (Paragraph(words(*spans), "note"),))


def spaced(items: Sequence[Words], between: str = ", ") -> Words:
    """Several words in a row with a separator."""
    out: list[Span] = []
    for item in items:
        out += [between, *item] if out else [*item]
    return tuple(out)


__all__ = ["Case", "empty", "how", "paragraph", "spaced"]
