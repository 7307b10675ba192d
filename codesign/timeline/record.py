"""The timeline of a plan as a plain record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codesign.errors import SpecError
from codesign.planner import Plan
from codesign.timeline import tracks
from codesign.timeline.costs import Cost, Values, costs
from codesign.timeline.passes import Gap, Passes, place
from codesign.timeline.tracks import BESIDE, BETWEEN, INSIDE, PASS, WITHIN, Event, Level

MAX_EVENTS = 200_000  # a trace file of about 25 MB
_FIXED = 40  # events of a rank that belong to no pass: names of lanes, what comes after the last pass, folded parts


@dataclass(frozen=True)
class Track:
    """One pipeline rank over one step. Events are in order of time, `offset_s` of the rank's own start taken in.

    `memory_B`: allocated bytes from each instant on, (s, B); the maximum is the plan's `rank_allocated_B`. `folded`:
    passes that are shown as one event.
    """

    rank: int
    layers: int
    offset_s: float
    events: tuple[Event, ...]
    static_B: float
    allocated_B: float
    memory_B: tuple[tuple[float, float], ...]
    folded: int


@dataclass(frozen=True)
class Timeline:
    """One step of a plan. `spare_s`: data-parallel communication that the plan puts into a faster rank's spare time and
    that does not fit after its last pass, worst rank."""

    plan: Plan
    step_s: float
    pacing_rank: int
    gap: Gap
    spare_s: float
    tracks: tuple[Track, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before trusting the picture, in words."""
        return tuple(_notes(self))


def timeline(plan: Plan, max_events: int = MAX_EVENTS, ranks: Sequence[int] | None = None) -> Timeline:
    """The event replay of a plan's step, for all pipeline ranks or for `ranks`.

    Above `max_events` the middle of every rank's passes is folded into one event; totals stay. Raises SpecError for
    ranks that do not exist, for more ranks than `max_events` can show, for a plan with overrides (its parts do not follow
    from its passes) and for a step of too many passes.
    """
    if plan.overrides:
        name = next(iter(plan.overrides))
        raise SpecError(f"a plan with {name} fixed by hand has no timeline: its step does not follow from its passes")
    values = Values(plan)
    pp = values.structure["pipeline"].pp
    chosen = sorted(set(range(pp) if ranks is None else ranks))
    if not chosen or chosen[0] < 0 or chosen[-1] >= pp:
        raise SpecError(f"ranks {', '.join(map(str, chosen)) or 'none'}: the pipeline has ranks 0 to {pp - 1}")
    cost = costs(values)
    placed, gap = place(values, cost)
    keep = _keep([placed[rank] for rank in chosen], cost, max_events)
    shown = tuple(_track(values, cost, placed[rank], gap, keep) for rank in chosen)
    spare_s = max(tracks.spare_s(values, one, gap) for one in placed)
    return Timeline(plan, plan.step_s, int(values.one("slowest_rank")), gap, spare_s, shown)


def _keep(placed: Sequence[Passes], cost: Sequence[dict[str, Cost]], max_events: int) -> int | None:
    """Passes of each rank to show at either end so that all events stay below the limit; None: all of them."""
    each = max(len(one.parts) + len(one.beside) for stage in cost for one in stage.values()) + 4
    passes = max(len(one.kind) for one in placed)
    room = max_events // len(placed) - _FIXED
    if room >= passes * each:
        return None
    if room < 2 * each:
        least = (2 * each + _FIXED) * len(placed)
        raise SpecError(
            f"{len(placed)} pipeline ranks do not fit into {max_events:,} events: allow {least:,}, or choose fewer ranks"
        )
    return room // (2 * each)


def _track(values: Values, cost: list[dict[str, Cost]], passes: Passes, gap: Gap, keep: int | None) -> Track:
    pipe, step_s, offset_s = values.structure["pipeline"], values.plan.step_s, passes.offset_s
    found = tracks.events(values, cost, passes, gap, keep)
    moved = [piece for event in found for piece in _on_axis(event, offset_s, step_s)]
    order = {PASS: 0, INSIDE: 1, WITHIN: 1, BETWEEN: 1, BESIDE: 2}
    moved.sort(key=lambda event: (event.start_s, order[event.role], event.end_s))
    allocated_B = float(values.ranks("rank_allocated_B")[passes.rank])
    each_B = _activations_B(values, passes.rank)
    in_flight = float(values.ranks("in_flight_micro_batches")[passes.rank])
    static_B = allocated_B - each_B * in_flight
    if gap.refused:
        memory: tuple[tuple[float, float], ...] = ((0.0, allocated_B),)
    else:
        levels = tracks.levels(passes, pipe.vpp, keep)
        memory = tuple((at_s, static_B + each_B * held) for at_s, held in _levels_on_axis(levels, offset_s, step_s))
    folded = sum(event.passes for event in found if event.role == PASS and event.category == tracks.STEADY)
    layers = sum(pipe.stages.counts(passes.rank).values())
    return Track(passes.rank, layers, offset_s, tuple(moved), static_B, allocated_B, memory, folded)


def _activations_B(values: Values, rank: int) -> float:
    """Activations that one micro-batch keeps on a rank: those of the plan's peak less the layer being recomputed."""
    kept = float(values.ranks("activation_memory_B")[rank])
    if values.structure["recompute"].granularity == "full":
        worst = max(values.one("layer_saved_B", kind) for kind in values.kinds)
        kept -= values.plan.value("recompute_fraction") * worst
    return kept / float(values.ranks("in_flight_micro_batches")[rank])


def _on_axis(event: Event, offset_s: float, step_s: float) -> list[Event]:
    """The event on the axis that all ranks share; what passes the end of the step lies at the start of the next one."""
    start_s, end_s = event.start_s + offset_s, min(event.end_s, step_s) + offset_s
    if end_s <= start_s:
        return []  # what runs beside the passes would outlast the step: it is cut at its end
    if start_s >= step_s:
        return [event._replace(start_s=start_s - step_s, end_s=end_s - step_s)]
    if end_s <= step_s:
        return [event._replace(start_s=start_s, end_s=end_s)]
    return [event._replace(start_s=start_s, end_s=step_s), event._replace(start_s=0.0, end_s=end_s - step_s)]


def _levels_on_axis(levels: Sequence[Level], offset_s: float, step_s: float) -> list[tuple[float, float]]:
    here = [(at_s + offset_s, held) for at_s, held in levels if at_s + offset_s < step_s]
    wrapped = [(at_s + offset_s - step_s, held) for at_s, held in levels if at_s + offset_s >= step_s]
    begins = [(0.0, here[-1][1])] if offset_s else []
    return [*begins, *wrapped, *here]


def _notes(line: Timeline) -> list[str]:
    gap, step_s = line.gap, line.step_s
    found = []
    if gap.refused:
        found.append(f"not replayed, passes stand one after the other: {gap.refused}")
    elif abs(gap.s) > 1e-6 * step_s:
        found.append(
            f"the plan counts {gap.plan_s:.6g} s for the pipeline, the event replay of its schedule takes {gap.replay_s:.6g} s "
            f"({gap.s / step_s:+.2%} of the step): stages are uneven or hand-overs take time. The trace is in the plan's time"
        )
    if gap.drawn_s > gap.plan_s * (1.0 + 1e-12):
        found.append("the plan counts less idle time than the schedule has: it is drawn shortened, so that passes may begin "
                     "before their input")  # fmt: skip
    if line.spare_s > 1e-6 * step_s:
        found.append(
            f"the plan puts {line.spare_s:.6g} s of data-parallel communication into the spare time of a faster rank; after "
            "its last pass there is no room for it"
        )
    off = [t.rank for t in line.tracks if abs(max(B for _, B in t.memory_B) / t.allocated_B - 1.0) > 1e-9]
    if off:
        found.append(
            f"the replay holds other activations at its peak than the plan counts for so few micro-batches (rank {off[0]}): "
            "the memory counter does not reach the plan's bytes"
        )
    if any(track.offset_s for track in line.tracks):
        found.append("steps follow each other without a barrier: ranks begin and end their step one after the other")
    folded = sum(track.folded for track in line.tracks)
    if folded:
        found.append(f"{folded:,} passes in the middle are folded, into one event on each rank; totals are those of all passes")
    return found
