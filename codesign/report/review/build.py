"""From plans to the document of a review: its sections in order, and the appendix of every number they cite."""

from __future__ import annotations

from collections.abc import Sequence

from codesign import __version__
from codesign.evidence.nearest import nearest
from codesign.planner import Plan
from codesign.report import over_sites, view
from codesign.report.review import (
    sections_alternatives,
    sections_change,
    sections_choice,
    sections_goodput,
    sections_outcome,
    sections_plan,
    sections_record,
    sections_sites,
)
from codesign.report.review.appendix import anchors_of, appendix
from codesign.report.review.cited import Case
from codesign.report.review.document import Document, Section, keys
from codesign.report.review.neighbourhood import around
from codesign.run import RunPlan


def case(plan: Plan, run: RunPlan | None, search: bool = True) -> Case:
    """What a review of this plan is made from; `search`: look for better layouts near it."""
    of = over_sites.shown(plan, run)
    return Case(plan, of, run, nearest(of), around(of, search))


def of_plan(plan: Plan, run: RunPlan | None = None, *, search: bool = True) -> Document:
    """The design review of one plan."""
    made = case(plan, run, search)
    sections = (
        sections_plan.answer(made),
        sections_plan.chosen(made),
        sections_plan.time_and_memory(made),
        sections_choice.limits(made),
        sections_alternatives.alternatives(made),
        sections_goodput.failures(made),
        sections_sites.sites(made),
        sections_outcome.outcome(made),
        sections_choice.sensitivities(made),
        sections_choice.accuracy(made),
        sections_record.risks(made),
        sections_record.assumptions(made),
        sections_record.questions(made),
        sections_record.sign_off(made),
        sections_record.spec(made),
    )
    return _document(f"{view.title(plan)}: design review", sections, made, None)


def of_change(now: tuple[Plan, RunPlan | None], before: tuple[Plan, RunPlan | None]) -> Document:
    """The review of a change from one plan to another. Nothing is searched: the comparison is the question."""
    one, other = case(*now, search=False), case(*before, search=False)
    runs = None if one.run is None or other.run is None else (other.run, one.run)
    found = over_sites.compared(other.given, one.given, runs)
    sections = (
        sections_change.answer(one, other, found),
        sections_change.changed(found),
        sections_change.moved(one, found),
        sections_change.figures(one, other, found),
        sections_choice.accuracy(one),
        sections_change.inputs(found),
        sections_record.assumptions(one),
        sections_record.questions(one),
        sections_record.sign_off(one),
        sections_record.spec(one),
    )
    return _document(f"{view.title(one.given)}: review of a change", sections, one, other)


def _document(
    title: str, sections: Sequence[Section], made: Case, before: Case | None
) -> Document:
    cited = [key for section in sections for key in keys(section.blocks)]
    groups = appendix(cited, made.plan, made.run, None if before is None else (before.plan, before.run))
    against = f" against {before.given.spec_hash[:12]} ({view.title(before.given)})" if before else ""
    subtitle = f"codesign {__version__}, spec {made.given.spec_hash[:12]}{against}"
    return Document(title, subtitle, tuple(sections), groups, subtitle, anchors_of(groups))


__all__ = ["case", "of_change", "of_plan"]
