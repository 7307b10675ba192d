"""Alternatives near the chosen layout, by what they are faster, and why the others are not there."""

from __future__ import annotations

from codesign import graph, units
from codesign.planner import Plan
from codesign.report import search as shown
from codesign.report import view
from codesign.report.review.cited import Case, how, whose
from codesign.report.review.document import Block, Section, Span, Strong, Words, paragraph, table
from codesign.search.result import Candidate

MOST_REASONS = 8
SMALLEST = 0.02  # of a difference: parts that moved less are added up


def alternatives(case: Case) -> Section:
    title, anchor = "Alternatives and why not", "alternatives"
    result = case.around.result
    if result is None:
        return Section(anchor, title, (paragraph(f"Nothing was searched: {case.around.why_none}.", tone="note"),))
    tally = result.tally
    tried = "; ".join(f"{name}: {values}" for name, values in case.around.searched.items())
    blocks: list[Block] = [
        *whose(case),
        paragraph(
            "Searched around the chosen layout: ",
            how("search", f"{tally['candidates']:,}"),
            " layouts, ",
            how("search", f"{tally['feasible']:,}"),
            f" feasible, on {_where(case)} own cluster and batch. {tried}. What is not listed "
            "is as chosen. A wider space: codesign search SPEC --free all.",
        )
    ]
    if not case.around.best:
        return Section(anchor, title, (*blocks, paragraph("None of them is feasible.", tone="bad"), *_why_not(case)))
    blocks += [_standing(case), _near(case), *_slower(case), *_why_not(case)]
    return Section(anchor, title, tuple(blocks))


def _where(case: Case) -> str:
    return "the spec's" if case.sites is None else "its"


def _standing(case: Case) -> Block:
    best, plan = case.around.best[0], case.plan
    ahead = plan.step_s / best.plan.step_s - 1.0
    if not plan.feasible:
        return paragraph(
            "The chosen layout is not feasible; the best of these takes ",
            how("search", units.show(best.plan.step_s, "s")),
            ".",
        )
    if ahead <= 1e-9:
        return paragraph(Strong("No layout near it is faster."))
    return paragraph(
        Strong("A layout near it is predicted to be faster: "),
        "the chosen one takes ",
        how("search", view.percent(ahead)),
        " longer. Layouts nearer to each other than the 80 % interval of the step are not told apart.",
    )


def _near(case: Case) -> Block:
    plan = case.plan
    rows: list[list[Span | Words]] = [
        [
            Strong("chosen"),
            _own(plan),
            case.step("step_s"),
            "",
            case.step("mfu", view.percent(plan.value("mfu"))),
            case.step("peak_B"),
        ]
    ]
    others = [one for one in case.around.best if not _same(one.plan, plan)]
    for at, one in enumerate(others):
        slower = view.signed_percent(one.plan.step_s / plan.step_s - 1.0)
        rows.append(
            [
                f"{at + 1}",
                _layout(one),
                how("search", units.show(one.plan.step_s, "s")),
                how("search", slower),
                how("search", view.percent(one.plan.value("mfu"))),
                how("search", units.show(one.plan.value("peak_B"), "B")),
            ]
        )
    return table(
        "The chosen layout and the fastest ones near it",
        ("", "layout", "step", "against chosen", "MFU", "fullest rank"),
        rows,
        ("step", "against chosen", "MFU", "fullest rank"),
    )


def _same(one: Plan, plan: Plan) -> bool:
    """Whether a layout is the chosen one, whose defaults the search has written out."""
    return (one.step_s, one.value("peak_B")) == (plan.step_s, plan.value("peak_B"))


def _own(plan: Plan) -> str:
    """The chosen layout in the words of the others."""
    layout = plan.problem.spec.layout
    degrees = [
        f"{name} {getattr(layout, name)}"
        for name in shown.DEGREES
        if (getattr(layout, name) or 1) > 1 or name in ("tp", "pp", "dp")
    ]
    recompute = plan.resolved()["layout"]["recompute"]
    schedule = "" if layout.schedule in ("none", "interleaved") else f"{layout.schedule} "
    return (
        f"{' '.join(degrees)}, micro-batch {plan.value('micro_batch'):g}, recompute "
        f"{' '.join([recompute['granularity'], *recompute.get('modules', ())])}, {schedule}{layout.sharding}"
    )


def _layout(one: Candidate) -> str:
    return shown.words(one).partition(", ")[2].rstrip(", ")


def _slower(case: Case) -> list[Block]:
    """By which parts the chosen layout is slower than the best near it."""
    best, plan = case.around.best[0].plan, case.plan
    moved = {name: value - best.parts[name] for name, value in plan.parts.items()}
    total = sum(map(abs, moved.values()))
    if plan.step_s <= best.step_s * (1.0 + 1e-9) or not total:
        return []
    kept = sorted((n for n, v in moved.items() if abs(v) >= SMALLEST * total), key=lambda n: -abs(moved[n]))
    rows: list[list[Span | Words]] = [
        [view.label(name), case.step(name), how("search", _signed(moved[name])), _first(name)] for name in kept
    ]
    rest = sum(value for name, value in moved.items() if name not in kept)
    if rest:
        rows.append(["other parts", "", how("search", _signed(rest)), ""])
    rows.append(["step", case.step("step_s"), how("search", _signed(plan.step_s - best.step_s)), ""])
    heads = ("part", "chosen", "chosen less best", "what it is")
    return [table("Why the best near it is faster", heads, rows, ("chosen", "chosen less best"), True)]


def _signed(seconds: float) -> str:
    return ("+" if seconds >= 0 else "-") + units.show(abs(seconds), "s")


def _first(name: str) -> str:
    return " ".join(graph.REGISTRY[name].doc.split()).partition(". ")[0].rstrip(".")


def _why_not(case: Case) -> list[Block]:
    """How many layouts each limit refuses, and how often each is broken at all."""
    assert case.around.result is not None
    tally = case.around.result.tally
    if not tally["rejected"] and not tally["not_whole"]:
        return [paragraph("None was refused.")]
    rows: list[list[Span | Words]] = [
        [f"refused: {reason}", how("search", f"{count:,}")]
        for reason, count in list(tally["rejected"].items())[:MOST_REASONS]
    ]
    rows += [
        [f"left out, not whole in {reason}", how("search", f"{count:,}")]
        for reason, count in list(tally["not_whole"].items())[:MOST_REASONS]
    ]
    return [table("Why not the others", ("reason", "layouts"), rows, ("layouts",))]


__all__ = ["alternatives"]
