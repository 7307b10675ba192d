"""The events of one pipeline rank over one step: its passes part by part, what lies between and after them, and memory.

The events of a rank but those that run beside others tile its step: at every instant it computes, communicates or waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from codesign.timeline.costs import (
    COMPUTE,
    DATA,
    HIDDEN,
    PARAMETERS,
    PIPELINE,
    Cost,
    Part,
    Values,
    beside_all_passes,
    filling_s,
    fully_sharded_alone,
)
from codesign.timeline.passes import Gap, Passes

IDLE, STEP = "idle", "rest of the step"
PASS, INSIDE, WITHIN, BETWEEN, BESIDE = "pass", "inside", "within", "between", "beside"
CATEGORIES = {"F": "forward", "B": "input gradient", "W": "weight gradient", "BW": "backward"}
STEADY, WAIT = "steady state", "wait"
# what comes after the optimizer, in the order in which it is drawn: parts of the step that belong to no micro-batch
AFTER = {
    "fixed_step_time_s": "fixed work of a step", "input_exposed_s": "waits for training data",
    "ageing_s": "older release of the stack", "straggler_s": "waits for the slowest of many ranks",
}


class Event(NamedTuple):
    """`role`: a pass as a whole, a part inside a pass, idle time within a folded stretch of passes, something between passes,
    something that runs beside."""

    role: str
    lane: str
    category: str
    name: str
    start_s: float
    end_s: float
    micro_batches: tuple[int, int] | None = None  # first and last of those that it stands for
    passes: int = 1


class Level(NamedTuple):
    """From `start_s` on, the activations of `micro_batches` on all layers of the rank are held."""

    start_s: float
    micro_batches: float


class _Idle:
    """What a stretch of a rank's idle time is: hand-overs at its two ends, the bubble between them."""

    def __init__(self, values: Values, total_s: float, gap: Gap) -> None:
        self.edge_s = 0.5 * filling_s(values)
        self.total_s, self.done_s, self.drawn_s = total_s, 0.0, gap.drawn_s

    def events(self, start_s: float, end_s: float, role: str = BETWEEN) -> Iterator[Event]:
        """Idle from `start_s` to `end_s`; to be asked for in the order of time."""
        first, at_s = self.done_s, start_s
        self.done_s += end_s - start_s
        cuts = {start_s + self.edge_s - first, start_s + self.total_s - self.edge_s - first, self.drawn_s}
        for cut_s in [*sorted(cut for cut in cuts if start_s < cut < end_s), end_s]:
            middle = first + 0.5 * (at_s + cut_s) - start_s
            if middle < self.edge_s or middle > self.total_s - self.edge_s:
                yield Event(role, PIPELINE, "pp_exposed_s", "hand-over while the pipeline fills or drains", at_s, cut_s)
            else:
                name = "bubble" if cut_s <= self.drawn_s else "bubble of the closed form, not in the replay"
                yield Event(role, IDLE, "pp_bubble_s", name, at_s, cut_s)
            at_s = cut_s


def events(
    values: Values, costs: list[dict[str, Cost]], passes: Passes, gap: Gap, keep: int | None
) -> list[Event]:
    """All events of a rank, in its own time: 0 to the step. `keep`: passes shown at either end, the rest is folded."""
    found: list[Event] = []
    busy_s = float(np.sum(passes.end_s - passes.start_s))
    done_s = float(passes.end_s[-1])
    tail = _Tail(values, passes.rank, gap, done_s)
    idle = _Idle(values, tail.start_s - busy_s, gap)
    beside: dict[str, float] = {}
    n = len(passes.kind)
    folded = range(keep, n - keep) if keep is not None and 2 * keep < n else range(0)
    start_s, end_s = passes.start_s.tolist(), passes.end_s.tolist()
    at, before_s = 0, 0.0
    while at < n:
        if at == folded.start and folded:
            found += _folded(costs, passes, folded, before_s, idle, beside)
            at, before_s = folded.stop, end_s[folded.stop - 1]
            continue
        if start_s[at] > before_s:
            found += idle.events(before_s, start_s[at])
        cost = costs[passes.stage[at]][passes.kind[at]]
        found += _one(cost, passes, at, start_s[at], end_s[at], beside)
        at, before_s = at + 1, end_s[at]
    if tail.start_s > done_s:
        found += idle.events(done_s, tail.start_s)
    return [*found, *tail.events(values, start_s[0], done_s)]


def _one(cost: Cost, passes: Passes, at: int, start_s: float, end_s: float, beside: dict[str, float]) -> Iterator[Event]:
    kind, number = passes.kind[at], passes.micro_batch[at]
    stage = passes.stage[at]
    which = (number, number)
    yield Event(PASS, COMPUTE, CATEGORIES[kind], f"{kind} {number} of stage {stage}", start_s, end_s, which)
    scale = (end_s - start_s) / cost.total_s if cost.total_s else 0.0
    yield from _in_a_row(cost.parts, start_s, end_s, scale, which, 1)
    yield from _beside(cost.beside, start_s, scale, beside, which, 1)


def _in_a_row(
    parts: tuple[Part, ...], start_s: float, end_s: float, scale: float, which: tuple[int, int], passes: int
) -> Iterator[Event]:
    at_s = start_s
    for i, part in enumerate(parts):
        until_s = end_s if i == len(parts) - 1 else min(at_s + part.s * scale, end_s)
        yield Event(INSIDE, part.lane, part.category, part.name, at_s, until_s, which, passes)
        at_s = until_s


def _beside(
    parts: tuple[Part, ...], start_s: float, scale: float, until: dict[str, float], which: tuple[int, int], passes: int
) -> Iterator[Event]:
    """On their own lanes, from `start_s` or from the end of what is there."""
    for part in parts:
        from_s = max(start_s, until.get(part.lane, 0.0))
        until[part.lane] = from_s + part.s * scale
        yield Event(BESIDE, part.lane, part.category, part.name, from_s, until[part.lane], which, passes)


def _folded(
    costs: list[dict[str, Cost]], passes: Passes, folded: range, before_s: float, idle: _Idle, beside: dict[str, float]
) -> Iterator[Event]:
    """A stretch of passes as one event, and in it one event for each part, as long as the part is in all of them."""
    a, b = folded.start, folded.stop
    end_s = float(passes.end_s[b - 1])
    numbers = passes.micro_batch[a:b]
    which = (min(numbers), max(numbers))
    count, seconds = len(folded), passes.end_s[a:b] - passes.start_s[a:b]
    name = f"{count:,} passes of micro-batches {which[0]} to {which[1]}, folded"
    yield Event(PASS, COMPUTE, STEADY, name, before_s, end_s, which, count)
    inside: dict[tuple[str, str, str], float] = {}
    next_to: dict[tuple[str, str, str], float] = {}
    kind, stage = np.array(passes.kind[a:b]), np.array(passes.stage[a:b])
    for one in sorted(set(zip(kind.tolist(), stage.tolist(), strict=True))):
        cost = costs[one[1]][one[0]]
        took_s = float(np.sum(seconds[(kind == one[0]) & (stage == one[1])]))
        times = took_s / cost.total_s if cost.total_s else 0.0
        for parts, held in ((cost.parts, inside), (cost.beside, next_to)):
            for part in parts:
                held[part[:3]] = held.get(part[:3], 0.0) + part.s * times
    busy_s = float(np.sum(seconds))
    middle_s = min(before_s + busy_s, end_s)
    row = tuple(Part(*key, s) for key, s in inside.items())
    yield from _in_a_row(row, before_s, middle_s, 1.0, which, count)
    if end_s > middle_s:
        yield from (one._replace(passes=count) for one in idle.events(middle_s, end_s, WITHIN))
    yield from _beside(tuple(Part(*key, s) for key, s in next_to.items()), before_s, 1.0, beside, which, count)


class _Tail:
    """What a rank does after its last pass: gradients, optimizer, parameters, then the parts that all ranks share."""

    def __init__(self, values: Values, rank: int, gap: Gap, done_s: float) -> None:
        inside = fully_sharded_alone(values)
        self.rank, self.pacing = rank, int(values.one("slowest_rank"))
        self.dp_s = 0.0 if inside else values.one("dp_exposed_s")
        self.optimizer = [
            Part(STEP, "amax_exchange_s", "exchange of quantisation maxima", values.one("amax_exchange_s")),
            Part(STEP, "optimizer_s", "optimizer", values.one("optimizer_s")),
        ]
        self.first, self.last = ([], []) if inside else _exposed(values, rank)
        own_s = sum(part.s for part in [*self.first, *self.last])
        shared_s = sum(part.s for part in self.optimizer)
        self.end_s = gap.plan_s + self.dp_s + shared_s
        # a rank that has more to communicate than the step allows for begins as soon as its passes are done
        self.start_s = max(done_s, min(gap.plan_s, self.end_s - shared_s - own_s))
        self.spare_s = max(self.start_s + own_s + shared_s - self.end_s, 0.0)

    def events(self, values: Values, first_s: float, done_s: float) -> Iterator[Event]:
        at_s, over_s = self.start_s, self.spare_s
        for part in [*self.first, *self.optimizer, *self.last]:
            seconds = part.s
            if part.category == "dp_exposed_s":
                cut_s = min(over_s, seconds)
                over_s, seconds = over_s - cut_s, seconds - cut_s
            if seconds > 0.0:
                yield Event(BETWEEN, part.lane, part.category, part.name, at_s, at_s + seconds)
                at_s += seconds
        if self.end_s > at_s:
            worst = int(np.argmax(_added(values)))
            name = f"waits for the communication of rank {worst}" if self.rank == self.pacing else "waits for other ranks"
            category, lane = ("dp_exposed_s", DATA) if self.rank == self.pacing else (WAIT, IDLE)
            yield Event(BETWEEN, lane, category, name, at_s, self.end_s)
        at_s = max(self.end_s, at_s)
        for category, name in AFTER.items():
            until_s = min(at_s + values.one(category), values.plan.step_s)
            if category == list(AFTER)[-1]:
                until_s = values.plan.step_s  # but for rounding, where the sum is
            if until_s > at_s:
                yield Event(BETWEEN, STEP, category, name, at_s, until_s)
            at_s = until_s
        yield from self._beside(values, first_s, done_s)

    def _beside(self, values: Values, first_s: float, done_s: float) -> Iterator[Event]:
        for part in beside_all_passes(values, self.rank):
            from_s = first_s if part.lane == PARAMETERS + HIDDEN else max(done_s - part.s, 0.0)
            yield Event(BESIDE, part.lane, part.category, part.name, from_s, from_s + part.s)
        if self.spare_s > 0.0:
            name = "exposed, in time that the rank has to spare"
            yield Event(BESIDE, DATA + HIDDEN, "dp_spare", name, max(done_s - self.spare_s, 0.0), done_s)


def _exposed(values: Values, rank: int) -> tuple[list[Part], list[Part]]:
    """Exposed data-parallel communication of a rank: before the optimizer, and after it."""

    def part(name: str, quantity: str) -> Part:
        return Part(DATA, "dp_exposed_s", name, float(values.ranks(quantity)[rank]))

    before = [
        part("gathers and reductions", "fsdp_exposed_s"),
        part("gradients", "dp_gradient_exposed_s"),
        part("slowed by communication beside", "fsdp_slowdown_s"),
        part("slowed by communication beside", "bucket_slowdown_s"),
    ]
    return [p for p in before if p.s > 0.0], [p for p in [part("parameters", "dp_parameter_exposed_s")] if p.s > 0.0]


def _added(values: Values) -> np.ndarray:
    """What the data-parallel communication of each rank adds to the step, as `dp_exposed_s` counts it."""
    work = values.ranks("rank_work_s")
    return values.ranks("rank_dp_exposed_s") - values.one("micro_batches") * (np.max(work) - work)


def levels(passes: Passes, stages: int, keep: int | None) -> list[Level]:
    """Activations held, in micro-batches of all layers of the rank, at every change; folded stretches at their worst."""
    n = len(passes.kind)
    folded = range(keep, n - keep) if keep is not None and 2 * keep < n else range(0)
    found, held, worst = [Level(0.0, 0.0)], 0, 0
    for at, kind in enumerate(passes.kind):
        if kind == "F":
            held += 1
            worst = max(worst, held)
            if at not in folded:
                found.append(Level(float(passes.start_s[at]), held / stages))
        if at == folded.start and folded:
            worst, opened = held, len(found)
        if kind in ("W", "BW"):
            held -= 1
            if at not in folded:
                found.append(Level(float(passes.end_s[at]), held / stages))
        if folded and at == folded.stop - 1:
            found.insert(opened, Level(float(passes.start_s[folded.start]), worst / stages))
            found.append(Level(float(passes.end_s[at]), held / stages))
    return found


def spare_s(values: Values, passes: Passes, gap: Gap) -> float:
    """Exposed data-parallel communication of a rank for which the plan leaves no time after the rank's last pass."""
    return _Tail(values, passes.rank, gap, float(passes.end_s[-1])).spare_s
