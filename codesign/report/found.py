"""What a search around a plan found, as plain rows for a page: tables, points of the scatter, and how to take each over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesign import units
from codesign.planner import Plan
from codesign.report import search as words
from codesign.report import view
from codesign.search.result import MEANING, Candidate, Result
from codesign.spec import schema

MOST_POINTS = 20_000  # of the scatter
OBJECTIVES = schema.Search().objectives
ALONE = "nothing: no front"
NEAR_BEST = 300  # layouts that are kept for the scatter, beside the front
MOST_ROWS = 12  # of a table
MOST_TAKEN = 60  # layouts that can be taken over from a list
ROLES = ("this plan", "best", "Pareto front", "slower")
_UNITS = {"B": (view.GiB, "GiB"), "s": (1.0, "s"), "1": (3600.0, "accelerator-hours")}

Changes = Sequence[tuple[str, str | None]]
Row = dict[str, str]


@dataclass(frozen=True)
class Found:
    """The answer of one search. `points`: x, y, role, layout and the number of the candidate, by which `fields` and `named`
    know it; `nothing`: what is said where no layout is feasible."""

    headline: str
    complete: bool
    objectives: tuple[str, ...]
    meaning: str
    best: Sequence[Row]
    alternatives: Sequence[Row]
    within: str
    points: Sequence[Mapping[str, Any]]
    axes: tuple[str, str] | None
    tally: Sequence[Row]
    left_out: Sequence[Row]
    nothing: str
    named: Mapping[int, str]
    fields: Mapping[int, Mapping[str, Any]]


def found(result: Result) -> Found:
    """The rows of a result."""
    wanted = result.space.open.search
    best, others = result.best[:MOST_ROWS], result.alternatives[1 : MOST_ROWS + 1]
    members = {c.index: c for c in (*result.alternatives[1:], *result.best, *result.front)}
    listed = {c.index: c for c in (*best, *others, *result.front)}
    tally = result.tally
    why_not = [("feasible", tally["feasible"]), *((f"rejected: {why}", n) for why, n in tally["rejected"].items()),
               ("candidates", tally["candidates"])]
    head = f"{tally['candidates']:,} candidates, {tally['feasible']:,} feasible"
    if not result.complete:
        head = f"Stopped after {tally['candidates']:,} of {result.space.size:,} candidates, {tally['feasible']:,} feasible"
    nothing = ""
    if not result.best:
        nothing = "\n\n".join(words.refusal(miss) for miss in result.misses) if result.complete else "Nothing feasible yet."
    points = _points(result)
    return Found(
        head, result.complete, tuple(wanted.objectives), _meaning(wanted.objectives), [_row(c) for c in best],
        [_row(c) for c in others], view.percent(wanted.within), points, _axes(wanted.objectives),
        [{"layouts": why, "count": f"{count:,}"} for why, count in why_not],
        [{"combinations left out": f"not whole in {why}", "count": f"{n:,}"} for why, n in tally["not_whole"].items()],
        nothing, {index: _named(c) for index, c in list(listed.items())[:MOST_TAKEN]},
        {index: c.fields for index, c in members.items()},
    )


def _row(candidate: Candidate) -> Row:
    return {name: str(value) for name, value in words.short(candidate).items()}


def _axes(objectives: Sequence[str]) -> tuple[str, str] | None:
    """Titles of the two axes of the scatter; none for one objective."""
    titles = [f"{_what(name)}, {_UNITS[MEANING[name][0]][1]}" for name in objectives]
    return (titles[0], titles[1]) if len(titles) > 1 else None


def _what(name: str) -> str:
    return {"step_s": "step time", "cost": "accelerators x step"}.get(name, name.replace("_", " "))


def _points(result: Result) -> list[dict[str, Any]]:
    """The front in full, then the best, sampled where there are very many."""
    names = result.space.open.search.objectives
    if len(names) < 2:
        return []
    factors = [_UNITS[MEANING[name][0]][0] for name in names[:2]]
    front = {c.index for c in result.front}
    first = result.best[0].index if result.best else None
    rest = [c for c in result.best if c.index not in front]
    every = max(-(-len(rest) // max(MOST_POINTS - len(front), 1)), 1)
    return [
        {
            "x": c.objectives[0] / factors[0], "y": c.objectives[1] / factors[1], "candidate": c.index,
            "role": "best" if c.index == first else "Pareto front" if c.index in front else "slower",
            "layout": _degrees(c),
        }
        for c in (*rest[::every], *result.front)
    ]  # fmt: skip


def _degrees(candidate: Candidate) -> str:
    layout = candidate.layout
    shown = [f"{name} {layout[name]}" for name in words.DEGREES if (layout.get(name) or 1) > 1 or name in ("tp", "pp", "dp")]
    recompute = layout["recompute"]
    kept = recompute if isinstance(recompute, str) else recompute["granularity"]
    rest = f"{layout['schedule']}, {layout['sharding']}, recompute {kept}"
    return f"{' '.join(shown)}, micro-batch {layout['micro_batch']:g}, {rest}"


def _named(candidate: Candidate) -> str:
    """A layout in a line, with what its objectives are."""
    names = candidate.space.open.search.objectives
    values = [
        units.show(value, "s" if MEANING[name][0] == "1" else MEANING[name][0])
        for name, value in zip(names, candidate.objectives, strict=False)
    ]
    return f"{', '.join(values)}: {_degrees(candidate)}"


def here(plan: Plan, objectives: Sequence[str]) -> list[dict[str, Any]]:
    """The plan itself as a point of the scatter, where it has both numbers."""
    known = {"step_s": plan.step_s, "memory": plan.value("peak_B"), "cost": plan.step_s * plan.value("accelerators")}
    if not set(objectives[:2]) <= known.keys():
        return []
    x, y = (known[name] / _UNITS[MEANING[name][0]][0] for name in objectives[:2])
    return [{"x": x, "y": y, "candidate": -1, "role": "this plan", "layout": "the plan that is shown now"}]


def summary(rows: Found) -> str:
    """The scatter in words."""
    front = sum(point["role"] != "slower" for point in rows.points)
    first = next(iter(rows.best), None)
    return f"{rows.headline}. {front} layouts on the front. " + (f"Best: step {first['step']}." if first else "")


# ---------------------------------------------------------------------------------------------------- what was taken, why not


def said(changes: Changes) -> str:
    """What taking a layout over changes, in words."""
    shown = [f"{field} {'left out' if value == 'null' else value}" for field, value in changes if value is not None]
    return ", ".join(shown) if shown else "nothing: this layout is the one that is written"


def too_many(size: int, most: int) -> str:
    """The refusal of a space that is too large for a page."""
    return (f"{size:,} candidates: more than the {most:,} that a page searches. Open fewer fields, or run codesign search "
            "with --free on a machine of your own")  # fmt: skip


def within(section: Mapping[str, Any], choices: Mapping[str, str]) -> str | None:
    """Which of `choices` (label -> number) the section of a search has; none where it has another."""
    share = section.get("within", schema.Search().within)
    return next((label for label, number in choices.items() if float(number) == share), None)


def two(section: Mapping[str, Any]) -> tuple[str, str]:
    """The first two objectives of the section of a search."""
    names = [*(section.get("objectives") or OBJECTIVES), ALONE]
    return names[0], names[1]


def objectives(first: str, second: str) -> str | None:
    """The two as a field of a spec; None where they are what a search takes by itself."""
    chosen = [first, *([second] if second not in (first, ALONE) else [])]
    return None if tuple(chosen) == OBJECTIVES else f"[{', '.join(chosen)}]"


def roles(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The roles that points have."""
    return [point["role"] for point in points]


def objective_names() -> list[str]:
    return list(MEANING)


def _meaning(names: Sequence[str]) -> str:
    """What the objectives are."""
    return "; ".join(f"{_what(name)}: {MEANING[name][1]}" for name in names)


__all__ = ["Found", "found", "here", "objective_names", "objectives", "roles", "said", "summary", "too_many", "two", "within"]
