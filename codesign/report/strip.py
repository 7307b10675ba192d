"""The pipeline of a plan's step as bars for a page: few rows, and only where the replay is short enough for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.planner import Plan
from codesign.report import view
from codesign.timeline import Timeline, shares, strip, timeline, trace

MOST_EVENTS = 100_000  # of the replay that is drawn; more is folded
FOLDED_EVENTS = 15_000  # where that still gives too many bars
MOST_BARS = 5_000
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
    for most in (MOST_EVENTS, FOLDED_EVENTS):
        line = timeline(plan, most)
        rows = strip(line)
        if len(rows) <= MOST_BARS:
            break
    else:
        return Strip(refused=f"{len(rows):,} bars are too many for a page: download the trace")
    known = {name: share for name, share in shares(plan).items() if share >= view.SMALL_SHARE}
    said = ", ".join(f"{name} {view.percent(share)}" for name, share in known.items())
    return Strip(
        tuple(row._asdict() for row in rows), len(line.tracks),
        f"Rank {line.pacing_rank} sets the pace: {said} of its step.", (*line.notes, *folded(line)),
    )


def folded(line: Timeline) -> tuple[str, ...]:
    """How folded passes are drawn, where there are any."""
    if not any(track.folded for track in line.tracks):
        return ()
    return ("folded passes are drawn as steady state in turns with the idle time between them, so that shares are right",)


def file(plan: Plan) -> str:
    """The trace for a viewer."""
    return trace(timeline(plan))


def _passes(plan: Plan) -> float:
    pipe = plan.problem.structural()["pipeline"]
    return 2.0 * float(pipe.pp) * float(pipe.vpp) * plan.value("micro_batches")


__all__ = ["Strip", "drawn", "file", "folded"]
