"""What a review is made from, and numbers that know where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from codesign import units
from codesign.decisions import joint
from codesign.planner import Plan
from codesign.report import over_sites
from codesign.report import run as beyond
from codesign.report.review.document import Number, Paragraph, Section, Span, Words, paragraph, words
from codesign.report.review.neighbourhood import Neighbourhood
from codesign.run import RunPlan
from codesign.spec.review import Review


@dataclass(frozen=True)
class Case:
    """One plan under review: its run where the spec has one, the nearest measured runs, the search around its layout.

    `plan`: whose step is looked into; over sites that of the slowest. `given`: the plan of the spec as written.
    """

    given: Plan
    plan: Plan
    run: RunPlan | None
    nearest: Sequence[Mapping[str, object]]
    around: Neighbourhood

    @property
    def review(self) -> Review:
        """What the spec says of people; nothing where it has no `review:`."""
        return self.given.problem.spec.review or Review()

    @property
    def broken(self) -> tuple[str, ...]:
        """All that does not hold, of the step and of the run."""
        return beyond.broken(self.given, self.run)

    @property
    def sites(self) -> RunPlan | None:
        """The run, where it is one over sites."""
        return self.run if self.run is not None and self.run.has_sites else None

    @property
    def place(self) -> str:
        """Whose step is looked into, to stand behind a heading: empty without sites."""
        return "" if self.sites is None else f" ({over_sites.place(self.sites)})"

    @cached_property
    def known(self) -> joint.Intervals:
        """Intervals of days, cost and energy; none without a run."""
        return joint.Intervals((), {}) if self.run is None else joint.intervals(self.run)

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


def between(case: Case, name: str, show: Callable[[float], str]) -> Words:
    """The 80 % interval of a quantity of the run, as words; nothing where none is known."""
    one = case.known.spreads.get(name)
    if one is None:
        return ()
    return words(how("joint", show(one.low)), " to ", how("joint", show(one.high)))


def whose(case: Case, what: str = "What follows is") -> list[Paragraph]:
    """Over sites, a line that says whose step a section, or the part of it that `what` begins with, looks into."""
    if case.sites is None:
        return []
    if over_sites.across(case.sites):
        return [paragraph(f"{what} the step of one pipeline over all sites, as if in one building.", tone="note")]
    return [paragraph(f"{what} the step of {over_sites.place(case.sites)}, alone.", tone="note")]


def empty(anchor: str, title: str, *spans: Span) -> Section:
    """A section with nothing to say: one line that tells what to add to the spec."""
    return Section(anchor, title, (Paragraph(words(*spans), "note"),))


def spaced(items: Sequence[Words], between: str = ", ") -> Words:
    """Several words in a row with a separator."""
    out: list[Span] = []
    for item in items:
        out += [between, *item] if out else [*item]
    return tuple(out)


__all__ = ["Case", "between", "empty", "how", "paragraph", "spaced", "whose"]
