"""One plan in Markdown, short enough for a comment. Same plan, same bytes. The review is `codesign.report.review`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesign import __version__, units
from codesign.planner import Plan
from codesign.report import view

_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?(?: .{1,10})?")


def markdown(
    plan: Plan, nearest: Sequence[Mapping[str, Any]], beyond: Sequence[str] = (), head: str = "", given: Plan | None = None,
    unsure: Sequence[str] | None = None,
) -> str:
    """The plan: answer and footing, layout, time, memory, traffic, limits, accuracy, assumptions, the whole spec.

    `beyond`: what does not hold of the run beyond the step; `unsure`: why the verdict may turn out otherwise, left out: as
    the memory interval of this plan says. Where the plan is that of one site of a run, `head` stands in
    the place of its answer, and `given` is the plan of the spec as written.
    """
    unsure = view.unsure(plan) if unsure is None else unsure
    sections = [
        head or _answer(plan, beyond, unsure), _layout(plan), _time(plan), _memory(plan), _traffic(plan), _limits(plan),
        _accuracy(nearest), _assumptions(plan), _spec(given or plan),
    ]
    return "\n\n".join(sections) + "\n"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table of rows with equal headings; columns of numbers are set right."""
    heads = list(rows[0])
    rules = ["---:" if _numeric(row[head] for row in rows) else "---" for head in heads]
    lines = [heads, rules, *([view.plain(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _numeric(cells: Iterable[str]) -> bool:
    filled = [cell for cell in cells if cell and cell not in ("measured", "estimated", "assumed")]
    return bool(filled) and all(_NUMBER.fullmatch(cell) for cell in filled)


def _answer(plan: Plan, beyond: Sequence[str], unsure: Sequence[str]) -> str:
    broken = (*plan.violations, *beyond)
    answer = (
        f"**{units.show(plan.step_s, 's')} a step**, {units.show(plan.value('job_tokens_per_s'), 'tokens_per_s')}, "
        f"MFU {view.percent(plan.value('mfu'))} (causal model FLOPs over the dense peak of the matmul precision), "
        f"HFU {view.percent(plan.value('hfu'))}"
    )
    lines = [
        f"# {view.plain(view.title(plan))}: plan",
        view.plain(view.question(plan)),
        f"**{view.plain(view.verdict(broken, unsure))}** {answer}.",
        view.bullets([
            f"Step time: {view.interval(plan.step_interval, 's')}.", view.memory_line(plan),
            f"Footing: {view.footing(plan)}.", f"codesign {__version__}, spec hash {plan.spec_hash[:12]}.",
        ]),
    ]
    if broken:
        lines += ["**Violations**", view.bullets(broken)]
    return "\n\n".join(lines)


def _layout(plan: Plan) -> str:
    noted = view.bullets(view.notes(plan))
    return f"## Layout\n\n{view.plain(view.layout_line(plan))}" + (f"\n\n{noted}" if noted else "")


def _time(plan: Plan) -> str:
    idle = view.idle_parts(plan)
    nothing = f"\n\nNothing is spent on: {view.plain(', '.join(idle))}." if idle else ""
    return f"## Where the time goes\n\n{table(view.time_table(plan))}{nothing}"


def _memory(plan: Plan) -> str:
    rows = view.memory_table(plan)
    capacity = units.show(plan.value("memory_B"), "B")
    shown = f"Of {len(plan.stages)} pipeline ranks, the fullest are shown. " if view.ranks_left_out(plan) else ""
    return (
        f"## Memory by pipeline rank, in GiB, against {capacity}\n\n{table(rows)}\n\n"
        f"{shown}Room is capacity less the total without the allocator, which gives its "
        "reserve back when memory runs short; micro-batches are those in flight at the peak."
    )


def _traffic(plan: Plan) -> str:
    rows = view.traffic_table(plan)
    body = table(rows) if rows else "Nothing is sent: one rank."
    return f"## Traffic of one step, by class and network level\n\n{body}"


def _limits(plan: Plan) -> str:
    rows = view.elasticity_table(plan)
    body = table(rows) if rows else "No input moves the step time."
    return f"## What limits it\n\n{body}"


def _accuracy(nearest: Sequence[Mapping[str, Any]]) -> str:
    body = table(view.nearest_table(nearest)) if nearest else "No measured run is near enough to compare with."
    return f"## Accuracy on the nearest measured runs\n\n{body}"


def _assumptions(plan: Plan) -> str:
    rows, cited = view.assumption_table(plan), view.citations(plan)
    parts = ["## Assumptions", table(view.kind_table(plan))]
    if rows:
        body = [f"<details><summary>The {len(rows)} assumed inputs</summary>", table(rows)]
        if cited:
            body.append(view.bullets(f"{key}: {text}" for key, text in cited.items()))
        parts += [*body, "</details>"]
    return "\n\n".join(parts)


def _spec(plan: Plan) -> str:
    text = view.resolved_yaml(plan)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return (
        "## Spec\n\n<details><summary>The whole spec, with preset, defaults and derived fields filled in</summary>\n\n"
        f"Hash of the spec as it was given: `{plan.spec_hash}`\n\n{fence}yaml\n{text}{fence}\n\n</details>"
    )
