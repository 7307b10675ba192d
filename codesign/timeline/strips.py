"""A strip of a timeline for a report or an app to draw: few rows, with the idle time that is really there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from codesign.planner import Plan
from codesign.timeline.record import Timeline, Track
from codesign.timeline.tracks import AFTER, BETWEEN, PASS, STEADY, WITHIN, Event

_TURNS = 640  # of passes and idle time in which folded stretches are drawn, all ranks together
_ROUNDING = 1e-9  # of a stretch


class StripRow(NamedTuple):
    """A stretch of one rank's step: forward, input gradient, weight gradient, backward, steady state (folded passes),
    bubble, hand-over, data parallel, optimizer, rest, or wait."""

    rank: int
    start_s: float
    end_s: float
    category: str


_STRIP = {
    "pp_bubble_s": "bubble", "pp_exposed_s": "hand-over", "dp_exposed_s": "data parallel", "optimizer_s": "optimizer",
    "wait": "wait",
}


def strip(line: Timeline) -> list[StripRow]:
    """The timeline in few rows, in order of rank and time; neighbours of one category are one row.

    Folded passes and the idle time between them are drawn in turns, each with the shares of the whole stretch. Fold more,
    with fewer `max_events`, for fewer rows.
    """
    rows: list[StripRow] = []
    turns = max(_TURNS // len(line.tracks), 4)
    for track in line.tracks:
        first, folded = len(rows), _folded_s(track)
        for event in track.events:
            if event.role not in (PASS, BETWEEN):
                continue
            for row in _rows(track.rank, event, folded, turns):
                last = rows[-1] if len(rows) > first else None
                if last and last.category == row.category and last.end_s == row.start_s:
                    rows[-1] = last._replace(end_s=row.end_s)
                else:
                    rows.append(row)
    return rows


def shares(plan: Plan) -> dict[str, float]:
    """Shares of the step of what the rank that sets the pace does in it, of all its passes; largest first.

    Its forward and backward passes, then the plan's parts by the name that they have in a strip: they add up to 1.
    """
    m = plan.value("micro_batches")
    found = {"forward": m * plan.value("slowest_forward_s"), "backward": m * plan.value("slowest_backward_s")}
    for part in (*_STRIP, "amax_exchange_s", *AFTER):
        name = _STRIP.get(part, "rest")
        found[name] = found.get(name, 0.0) + plan.parts.get(part, 0.0)
    kept = {name: seconds / plan.step_s for name, seconds in found.items() if seconds > 0.0}
    return dict(sorted(kept.items(), key=lambda pair: -pair[1]))


def _folded_s(track: Track) -> dict[str, float]:
    """Seconds of the folded stretch of a rank by category: its passes, then what is idle between them."""
    found = {STEADY: sum(e.end_s - e.start_s for e in track.events if e.role == PASS and e.category == STEADY)}
    for event in track.events:
        if event.role == WITHIN:
            category, seconds = _STRIP[event.category], event.end_s - event.start_s
            found[category] = found.get(category, 0.0) + seconds
            found[STEADY] -= seconds
    return found


def _rows(rank: int, event: Event, folded: Mapping[str, float], turns: int) -> Iterator[StripRow]:
    category = event.category if event.role == PASS else _STRIP.get(event.category, "rest")
    total_s = sum(folded.values())
    if category != STEADY or total_s - folded[STEADY] <= _ROUNDING * total_s:
        yield StripRow(rank, event.start_s, event.end_s, category)
        return
    length_s, at_s, done = event.end_s - event.start_s, event.start_s, 0.0
    for _ in range(turns):
        for name, seconds in folded.items():
            done += seconds / total_s / turns
            until_s = min(event.start_s + done * length_s, event.end_s)
            yield StripRow(rank, at_s, until_s, name)
            at_s = until_s
    if at_s < event.end_s:  # rounding
        yield StripRow(rank, at_s, event.end_s, name)
