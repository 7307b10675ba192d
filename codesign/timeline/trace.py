"""The Chrome trace format: what Perfetto, chrome://tracing and speedscope open.

A pipeline rank is a process, a lane a thread. `cat` is the part of the step, so that sums over the pacing rank's events
of one `cat` are the plan's parts. Times are microseconds on a grid of 1/1024, which doubles add without rounding: ends
of events that meet are equal for every reader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from codesign import __version__
from codesign.timeline.costs import COMPUTE, DATA, GRADIENTS, HIDDEN, OFFLOAD, PARAMETERS, PIPELINE, SHARDED
from codesign.timeline.record import Timeline, Track
from codesign.timeline.tracks import IDLE, STEP, Event

LANES = (
    COMPUTE, "tensor parallel", "context parallel", "expert parallel", PIPELINE, DATA, OFFLOAD, STEP, IDLE,
    "tensor parallel" + HIDDEN, "context parallel" + HIDDEN, "expert parallel" + HIDDEN, PIPELINE + HIDDEN,
    PARAMETERS + HIDDEN, GRADIENTS + HIDDEN, SHARDED + HIDDEN, OFFLOAD + HIDDEN, DATA + HIDDEN,
)
_TICKS = 1024  # of a microsecond
READING = (
    "cat names the part of the step. On the pacing rank the events of a cat add up to that part; pass events (forward, input "
    "gradient, weight gradient, backward, steady state) span their parts and are not added; lanes that end in (hidden) run "
    "beside compute. The memory counter holds allocated bytes: static_B as at the peak, activations_B of passes in flight."
)


def trace(line: Timeline) -> str:
    """The timeline as JSON text, one event a line; the same timeline gives the same text."""
    events = [json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in _events(line)]
    about = json.dumps(facts(line), indent=1, ensure_ascii=False)
    return f'{{"displayTimeUnit": "ms",\n"otherData": {about},\n"traceEvents": [\n' + ",\n".join(events) + "\n]}\n"


def facts(line: Timeline) -> dict[str, Any]:
    """What the file says about itself: version, spec, totals, and how far the replay is from the plan."""
    plan, gap = line.plan, line.gap
    pipe = plan.problem.structural()["pipeline"]
    return {
        "codesign": __version__,
        "spec_hash": plan.spec_hash,
        "name": plan.problem.spec.name or plan.problem.spec.model.name,
        "feasible": plan.feasible,
        "violations": list(plan.violations),
        "schedule": pipe.schedule,
        "pp": pipe.pp,
        "vpp": pipe.vpp,
        "micro_batches": plan.value("micro_batches"),
        "pacing_rank": line.pacing_rank,
        "step_s": line.step_s,
        "parts_s": plan.parts,
        "pipeline": {
            "plan_s": gap.plan_s, "replay_s": gap.replay_s, "gap_s": gap.s, "drawn_s": gap.drawn_s,
            "not_replayed": gap.refused or None, "spare_time_communication_s": line.spare_s,
        },
        "ranks": [
            {"rank": t.rank, "layers": t.layers, "offset_s": t.offset_s, "allocated_B": t.allocated_B, "folded": t.folded}
            for t in line.tracks
        ],
        "notes": list(line.notes),
        "reading": READING,
    }


def _ticks(s: float) -> int:
    return round(s * 1e6 * _TICKS)


def _us(ticks: int) -> int | float:
    whole, rest = divmod(ticks, _TICKS)
    return ticks / _TICKS if rest else whole


def _events(line: Timeline) -> Iterator[dict[str, Any]]:
    for track in line.tracks:
        yield from _names(track, line.pacing_rank)
        for event in track.events:
            start, end = _ticks(event.start_s), _ticks(event.end_s)
            if end > start:
                yield _complete(track.rank, event, start, end)
        for at_s, allocated_B in track.memory_B:
            held = {"static_B": round(track.static_B), "activations_B": round(allocated_B) - round(track.static_B)}
            yield {"ph": "C", "pid": track.rank, "name": "memory", "ts": _us(_ticks(at_s)), "args": held}


def _names(track: Track, pacing_rank: int) -> Iterator[dict[str, Any]]:
    title = f"rank {track.rank}, {track.layers} layers" + (", pacing" if track.rank == pacing_rank else "")
    yield {"ph": "M", "pid": track.rank, "name": "process_name", "args": {"name": title}}
    yield {"ph": "M", "pid": track.rank, "name": "process_sort_index", "args": {"sort_index": track.rank}}
    used = {event.lane for event in track.events}
    for at, lane in enumerate(LANES):
        if lane in used:
            yield {"ph": "M", "pid": track.rank, "tid": at, "name": "thread_name", "args": {"name": lane}}
            yield {"ph": "M", "pid": track.rank, "tid": at, "name": "thread_sort_index", "args": {"sort_index": at}}


def _complete(rank: int, event: Event, start: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ph": "X", "pid": rank, "tid": LANES.index(event.lane), "ts": _us(start), "dur": _us(end - start), "cat": event.category,
        "name": event.name,
    }
    if event.passes > 1 and event.micro_batches:
        found["args"] = {"passes": event.passes, "micro_batches": list(event.micro_batches)}
    return found
