"""A requirement for the terminal (80 columns), as Markdown, and as rows for csv. Pure functions."""

from __future__ import annotations

import math
from typing import Any

from codesign import graph, units
from codesign.report import text
from codesign.report.hardware import NOTHING, Section, markdown, screen, times
from codesign.report.text import percent
from codesign.search.require import Alone, Goal, Path, Requirement
from codesign.search.resources import CAPACITY

Row = dict[str, Any]

_MOST_PARTS = 4
_FACTORS = "factors improve: durations are divided by them; above the pod at most full bisection"


def requirement_screen(found: Requirement) -> str:
    """Everything that `codesign require` says, the verdict first."""
    return screen(_requirement_head(found), _requirement_sections(found))


def requirement_markdown(found: Requirement) -> str:
    """The same as Markdown."""
    return markdown(_requirement_head(found), _requirement_sections(found))


def requirement_rows(found: Requirement) -> list[Row]:
    """One row a resource and way to the target (alone, spare, path). Plain numbers for csv."""
    rows: list[Row] = [
        {
            "way": "spare" if found.on_time else "alone", "resource": row.resource, "unit": row.unit, "now": row.now,
            "factor": row.factor, "value": row.value, **{f"best_{name}": value for name, value in row.best.items()},
        }
        for row in found.alone
    ]
    for part in found.path.parts if found.path else ():
        reached = {f"best_{name}": value for name, value in found.path.reached.items()} if found.path else {}
        rows.append({
            "way": "path", "resource": part.resource, "unit": part.unit, "now": part.now, "factor": part.factor,
            "value": part.value, **reached,
        })
    return rows


def _requirement_head(found: Requirement) -> list[str]:
    verdict = "MET" if found.met else "REACHABLE" if found.reachable else "CANNOT BE REACHED"
    return [verdict, text.headline(found.plan)]


def _requirement_sections(found: Requirement) -> list[Section]:
    sections = [_targets(found), _spare(found) if found.on_time else _alone(found)]
    if found.path:
        sections.append(_path(found, found.path))
    if not found.reachable:
        sections.append(_bound(found))
    return sections


def _targets(found: Requirement) -> Section:
    rows = [
        {
            "target": goal.name, "wanted": _goal(goal, goal.wanted), "now": _goal(goal, goal.now),
            "at best": _goal(goal, goal.best),
        }
        for goal in found.goals
    ]
    words = ["at best: this layout on hardware without limit, the fixed work of a step and what is held apart"]
    names = {goal.name for goal in found.goals}
    if "mfu" in names:
        words.append("MFU is of the peak of the hardware that is asked for: more compute lowers it")
    if names & {"days", "cost"}:
        unit = f"at {found.price:g} an accelerator-hour" if found.price else "in accelerator-hours"
        cost = f"; cost {unit}" if "cost" in names else ""
        words.append(f"of the whole run, {_of_the_run(found)}{cost}")
    interval, step_s = found.plan.step_interval, found.plan.step_s
    if math.isfinite(interval.low):
        low, high = interval.low / step_s - 1, interval.high / step_s - 1
        words.append(f"the step behind these numbers has an 80 % interval of {100 * low:+.0f} to {100 * high:+.0f} %")
    return Section("targets", rows, "", words)


def _of_the_run(found: Requirement) -> str:
    """What of the spec's `run:` and `sites:` is in days and cost."""
    spec, beyond = found.plan.problem.spec, found.beyond
    if beyond is None:
        left = "; of `cluster` alone: sites, and failures over them, are not counted" if spec.sites else ""
        return f"if no step is lost{left}"
    takes = f"{beyond.days:.4g} times the days and {beyond.cost:.4g} times the accelerator-hours of its steps"
    return f"as `run` plans it: {takes}, which is held on other hardware"


def _goal(goal: Goal, value: float) -> str:
    return units.show(value, goal.unit)


def _alone(found: Requirement) -> Section:
    rows = [
        {
            "resource": row.resource, "now": units.show(row.now, row.unit), "needed": units.show(row.value, row.unit),
            "factor": times(row.factor), "else": "" if row.factor is not None else _best(found, row),
        }
        for row in found.alone
    ]
    words = ["else: not by this alone, and the best that it gives without limit", *_memory(found), _FACTORS]
    return Section("one at a time, the rest as it is", rows, "", words)


def _best(found: Requirement, row: Alone) -> str:
    return ", ".join(f"{goal.name} {_goal(goal, row.best[goal.name])}" for goal in found.goals)


def _memory(found: Requirement) -> list[str]:
    """Whether it fits, and the least capacity at which it does."""
    fits = found.needed_B <= found.capacity_B
    needed, has = units.show(found.needed_B, "B"), units.show(found.capacity_B, "B")
    verdict = "fits" if fits else "DOES NOT FIT"
    share = times(found.needed_B / found.capacity_B)
    return [f"{CAPACITY.name}: {verdict}; this layout needs {needed} of {has} ({share})"]


def _spare(found: Requirement) -> Section:
    rows = [
        {
            "resource": row.resource, "now": units.show(row.now, row.unit), "needed": units.show(row.value, row.unit),
            "factor": times(row.factor),
        }
        for row in found.alone
    ]
    words = ["-: the targets hold with next to none of it", *_memory(found), _FACTORS]
    return Section("what can be taken away, one at a time", rows, "", words)


def _path(found: Requirement, path: Path) -> Section:
    rows = [
        {
            "resource": part.resource, "now": units.show(part.now, part.unit),
            "needed": units.show(part.value, part.unit), "factor": times(part.factor),
        }
        for part in path.parts
    ]
    goals = ", ".join(f"{goal.name} {_goal(goal, path.reached[goal.name])}" for goal in found.goals)
    cost = (
        f"cost {path.cost:.3f} weighted doublings, no way costs less than {path.bound:.3f} (where the logarithm of the step "
        f"is convex in those of the factors); {_weights(found)}"
    )
    words = [f"there: {goals}, step {units.show(path.step_s, 's')}", cost]
    if path.no_field:
        words.append(f"no field of the spec sets {', '.join(path.no_field)}")
    block = "\n".join(f"  --set '{name}={value}'" for name, value in path.settings.items())
    return Section("the cheapest combined path", rows, f"  to plan with it:\n{block}" if block else "", words)


def _weights(found: Requirement) -> str:
    other = [f"{name} {weight:g}" for name, weight in found.weights.items() if math.isfinite(weight) and weight != 1.0]
    held = [name for name, weight in found.weights.items() if math.isinf(weight)]
    words = f"weights: {', '.join(other)}, others 1" if other else "every weight is 1"
    return f"{words}; held: {', '.join(held)}" if held else words


def _bound(found: Requirement) -> Section:
    """What is in the way on hardware without limit."""
    if found.obstacles:
        return Section("what no hardware lifts", (), "", found.obstacles)
    rows = [
        {
            "part": name, "step": units.show(value, "s"), "share": percent(value / found.bound_step_s),
            "what": text.first_sentence(graph.REGISTRY[name].doc),
        }
        for name, value in list(found.bound_parts.items())[:_MOST_PARTS] if value > NOTHING * found.bound_step_s
    ]
    words = [f"the targets together need more than hardware gives this layout; {_weights(found)}"]
    words += [
        f"mfu {goal.wanted:g}: no accelerator computes more than its peak, so that 1 is the end of any"
        for goal in found.goals if goal.name == "mfu" and goal.wanted > 1
    ]
    return Section(f"what bounds it: the step of {units.show(found.bound_step_s, 's')} without limits", rows, "", words)
