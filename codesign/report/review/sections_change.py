"""A review of a change: what moved from the plan before to the plan now, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codesign import units
from codesign.planner import SCOPES, TRAFFIC
from codesign.report import compare as told
from codesign.report import over_sites, view
from codesign.report.review.charts import Swings
from codesign.report.review.cited import Case, how, whose
from codesign.report.review.document import (
    Block,
    Bullets,
    Figure,
    Section,
    Span,
    Strong,
    Words,
    paragraph,
    table,
    words,
)
from codesign.search.compare import OVER_SITES, Comparison

MOST_BARS = 10
MOST_CHANGES = 60
_TERM = "memory of the fullest rank"
_HEADS = {
    "memory of the fullest rank": "term",
    "traffic per accelerator": "class",
    "A": "before",
    "B": "now",
    "B - A": "change",
    "A of link": "before, of link",
    "B of link": "now, of link",
}

Row = Mapping[str, Any]


def answer(now: Case, before: Case, c: Comparison) -> Section:
    asked = now.review.question or "Is the plan as it is now better than the one before, and what moved?"
    blocks: list[Block] = [paragraph(Strong("Question. "), asked), _verdict(now, before, c), *_confidence(c)]
    for name, case in (("Before", before), ("Now", now)):
        broken = case.broken
        blocks.append(
            paragraph(
                Strong(f"{name}: "),
                over_sites.what(case.sites) if case.sites is not None else view.layout_line(case.plan).split(" · schedule")[0],
                *(("; not feasible: " + "; ".join(broken),) if broken else ()),
                tone="bad" if broken else "plain",
            )
        )
    if now.review.decision:
        blocks.append(paragraph(Strong("Decision. "), now.review.decision))
    return Section("answer", "Question and answer", tuple(blocks))


def _verdict(now: Case, before: Case, c: Comparison) -> Block:
    fits, fitted = not now.broken, not before.broken
    if not fits or not fitted:
        one = f"Only the plan {'now' if fits else 'before'} is feasible."
        which = one if fits or fitted else "Neither plan is feasible."
        return paragraph(Strong(which), tone="answer" if fits else "bad")
    if c.over_sites is not None:
        return _over_sites(now, c)
    times = words(
        now.step("step_s"), " a step now, ", now.step("step_s", units.show(before.plan.step_s, "s")), " before"
    )
    if c.faster is None:
        return paragraph(Strong("No difference: "), *times, ".", tone="answer")
    better = "faster" if c.faster == "B" else "slower"
    head = (
        f"The plan now is {better}: " if c.decided else f"Too close to call; the plan now is predicted to be {better}: "
    )
    rate = now.plan.value("job_tokens_per_s") / before.plan.value("job_tokens_per_s") - 1.0
    return paragraph(
        Strong(head), *times, ", ", how("difference", f"{100.0 * rate:+.2g} %"), " tokens a second.", tone="answer"
    )


def _over_sites(now: Case, c: Comparison) -> Block:
    """The verdict of two runs over sites: no pair of measured runs speaks for several sites."""
    assert now.run is not None and c.over_sites is not None
    (step, rate), phase = c.over_sites, over_sites.first_phase(now.run)
    name = f"phase_run_step_s[{phase}]"
    times = words(now.of_run(name), " a step over the sites now, ", now.of_run(name, units.show(step.a, "s")), " before")
    if rate.a == rate.b:
        return paragraph(Strong("No difference over the sites: "), *times, ".", tone="answer")
    head = f"The plan now is predicted to be {'faster' if rate.b > rate.a else 'slower'}: "
    change = how("difference", f"{100.0 * (rate.b / rate.a - 1.0):+.2g} %")
    unsure = " tokens a second; no measured pair says how sure that is."
    return paragraph(Strong(head), *times, ", ", change, unsure, tone="answer")


def _confidence(c: Comparison) -> list[Block]:
    if c.faster is None or c.over_sites is not None:
        return []
    held = c.confidence
    items = [
        words(
            "Confidence ",
            how("confidence", view.percent(held.share, 0)),
            " that this order is right, from our errors on ",
            how("confidence", f"{held.pairs:,}"),
            f" pairs of measured runs ({held.groups} groups, cell '{held.cell}'); the two differ in {SCOPES[c.scope]}.",
        )
    ]
    return [Bullets((*items, *(words(f"Extrapolated: {why}.") for why in c.extrapolated)))]


def changed(c: Comparison) -> Section:
    rows = [[row["differs"], row["A"], row["B"]] for row in told.change_rows(c)]
    blocks: list[Block] = (
        [table("Fields of the resolved spec that differ", ("field", "before", "now"), rows[:MOST_CHANGES])]
        if rows
        else [paragraph("The specs do not differ.")]
    )
    if len(rows) > MOST_CHANGES:
        blocks.append(
            paragraph(how("counted", str(len(rows) - MOST_CHANGES)), " more: codesign compare A B --format json.")
        )
    return Section("changed", "What changed", tuple(blocks))


def moved(now: Case, c: Comparison) -> Section:
    """Where the time of the step moved, and by which fields."""
    parts = [(row["part"], row) for row in told.part_rows(c)]
    rows: list[list[Span | Words]] = []
    for name, row in parts:
        cells = list(row.values())[1:]
        key = name if name in c.b.parts else "step_s"
        rows.append(
            [
                _part(name),
                *(now.step(key, cell) for cell in cells[:2]),
                *(how("difference", cell) for cell in cells[2:]),
            ]
        )
    heads = ("part", *(head.replace("A, ", "before, ").replace("B, ", "now, ") for head in list(parts[0][1])[1:]))
    heads = tuple("change" if head == "B - A" else head for head in heads)
    bars = sorted(c.parts, key=lambda one: -abs(one.difference))[:MOST_BARS]
    drawn = tuple(
        (view.label(one.name), one.difference, told.signed(one.difference, "s")) for one in bars if one.difference
    )
    blocks: list[Block] = [*whose(now)]
    if drawn:
        blocks.append(
            Figure(
                "Where the step moved",
                "Change of each part of the step, the largest first; to the left is shorter.",
                Swings(drawn, "shorter now", "longer now"),
            )
        )
    blocks.append(table("Parts of the step", heads, rows, heads[1:], True))
    return Section("moved", "Where the time moved, and why", (*blocks, *_why(c)))


def _part(name: str) -> str:
    return view.label(name) if name.endswith("_s") and " " not in name else name.replace(told.SUM, "step")


def _why(c: Comparison) -> list[Block]:
    if not c.effects:
        return []
    rows = [[fields, how("change", effect)] for fields, effect in told.effect_lines(c)]
    causes = tuple(words(f"{part}: {'; '.join(below)}") for part, below in told.cause_lines(c))
    out: list[Block] = [
        table("What each field does to the step", ("field", "effect on the step"), rows),
        paragraph(
            "The fields that differ, switched from before to now one by one, dp following; the mean of this order and "
            "its reverse, which adds up to the whole move."
        ),
    ]
    return [*out, Bullets(causes)] if causes else out


def figures(now: Case, before: Case, c: Comparison) -> Section:
    """Figures, memory and traffic of both, and those of the run where both have one."""
    names = list(told.FIGURES)
    rows: list[list[Span | Words]] = [
        [row["figure"], _figure(now, name, row["A"]), _figure(now, name, row["B"]), how("difference", row["change"])]
        for name, row in zip(names, told.figure_rows(c), strict=True)
    ]
    heads = ("figure", "before", "now", "change")
    blocks: list[Block] = [*whose(now), table("Figures of the step", heads, rows, heads[1:])]
    if now.run is not None and before.run is not None:
        rows = [
            [
                row["the run"],
                now.of_run(_key(now, one.name), row["A"]),
                now.of_run(_key(now, one.name), row["B"]),
                how("difference", row["change"]),
            ]
            for one, row in zip(c.run, told.run_rows(c), strict=True)
        ]
        if rows:
            blocks.append(table("Figures of the run", heads, rows, heads[1:]))
    elif now.run is not None or before.run is not None:
        blocks.append(
            paragraph(
                "Only the plan now has a run: its figures cannot be compared."
                if now.run
                else "Only the plan before has a run: its figures cannot be compared.",
                tone="note",
            )
        )
    blocks += [
        _beside("Memory of the fullest rank", told.memory_rows(c), lambda row, text: now.step(str(row[_TERM]), text))
    ]
    if traffic := told.traffic_rows(c):
        blocks.append(
            _beside(
                "Traffic of an accelerator in a step",
                traffic,
                lambda row, text: now.step(TRAFFIC[str(row["traffic per accelerator"])], text),
            )
        )
    return Section("figures", "Figures, memory and traffic", tuple(blocks))


def _key(case: Case, name: str) -> str:
    """The name under which the run explains a figure; those of a phase are of the first."""
    assert case.run is not None
    return f"{name}[{over_sites.first_phase(case.run)}]" if name in OVER_SITES else name


def _figure(now: Case, name: str, text: str) -> Span:
    return (
        how("difference", text)
        if name == "headroom_B"
        else now.step("job_tokens_per_s" if name == "accelerator_tokens_per_s" else name, text)
    )


def _beside(caption: str, rows: Sequence[Row], number: Callable[[Row, str], Span]) -> Block:
    """Rows of the comparison with the names of this review in their headings; `number` links the numbers of a row."""
    heads = [_head(head) for head in rows[0]]
    right = [head for head in heads[1:] if head != "level"]
    cells: list[list[Span | Words]] = []
    for row in rows:
        texts = [str(value) for value in row.values()]
        name = view.label(texts[0]) if _TERM in row else texts[0]
        cells.append(
            [
                name,
                *(
                    number(row, text) if head in right else text
                    for head, text in zip(heads[1:], texts[1:], strict=True)
                ),
            ]
        )
    return table(caption, heads, cells, right)


def _head(head: str) -> str:
    for letter, word in (("A, ", "before, "), ("B, ", "now, ")):
        if head.startswith(letter):
            return word + head.removeprefix(letter)
    return _HEADS.get(head, head)


def inputs(c: Comparison) -> Section:
    """How sure the inputs are in both, and which are of another kind."""
    weak = [plan.footing[0] for plan in (c.a, c.b)]
    line = paragraph(f"The weakest number under the step is {weak[0]} before, {weak[1]} now.")
    if not c.footing:
        return Section(
            "inputs", "Assumptions that differ", (line, paragraph("Every input is of the same kind in both."))
        )
    rows = [[one.field, one.a or "not there", one.b or "not there"] for one in c.footing]
    return Section(
        "inputs", "Assumptions that differ", (line, table("Inputs of another kind", ("input", "before", "now"), rows))
    )


__all__ = ["answer", "changed", "figures", "inputs", "moved"]
