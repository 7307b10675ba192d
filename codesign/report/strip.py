"""The pipeline of a plan's step as bars for a page: few rows, and only where the replay is short enough for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.planner import Plan
from codesign.report import view
from codesign.timeline import strip, timeline, trace

MOST_EVENTS = 3_000  # of the replay that is drawn; more is folded
MOST_BARS = 3_000
MOST_PASSES = 40_000  # replayed for a page; more takes seconds


@dataclass(frozen=True)
class Strip:
    """`bars`: rank, start_s, end_s, category; `refused`: why there are none."""

    bars: tuple[dict[str, Any], ...] = ()
    ranks: int = 0
    summary: str = ""
    notes: tuple[str, ...] = ()
    refused: str = ""


def drawn(plan: Plan) -> Strip:
    """The bars of a plan's step."""
    passes = _passes(plan)
    if passes > MOST_PASSES:
        return Strip(refused=f"This step has {passes:,.0f} passes: too many to replay on a page. `codesign timeline SPEC -o "
                             "trace.json` does it")  # fmt: skip
    line = timeline(plan, MOST_EVENTS)
    rows = strip(line)
    if len(rows) > MOST_BARS:
        return Strip(refused=f"{len(rows):,} bars are too many for a page: download the trace")
    pacing: dict[str, float] = {}
    for row in rows:
        if row.rank == line.pacing_rank:
            pacing[row.category] = pacing.get(row.category, 0.0) + row.end_s - row.start_s
    longest = sorted(pacing.items(), key=lambda item: -item[1])
    said = ", ".join(f"{name} {view.percent(seconds / line.step_s)}" for name, seconds in longest)
    return Strip(
        tuple(row._asdict() for row in rows), len(line.tracks),
        f"Rank {line.pacing_rank} sets the pace: {said} of its step.", line.notes,
    )


def file(plan: Plan) -> str:
    """The trace for a viewer."""
    return trace(timeline(plan))


def _passes(plan: Plan) -> float:
    pipe = plan.problem.structural()["pipeline"]
    return 2.0 * float(pipe.pp) * float(pipe.vpp) * plan.value("micro_batches")


__all__ = ["Strip", "drawn", "file"]
