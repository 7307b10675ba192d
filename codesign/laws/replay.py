"""Event replay of pipeline schedules: every forward and backward pass placed on a time axis, for one plan.

Each schedule is written as the order in which every rank works, as its authors publish it. A rank takes its operations
strictly in that order and starts one as soon as the rank is free and the input has arrived:

- F of stage s on a micro-batch needs F of stage s - 1 (and one p2p time, where the two are on different ranks);
- B, the input gradient, needs B of stage s + 1; on the last stage it needs its own F;
- W, the weight gradient, comes after its own B. BW is both in one piece, and hands its input gradient on at its end.

This is the oracle of the closed forms in `codesign.laws.pipeline`: it shares no code with them. It also draws the
timeline, and it is what is true where stages are uneven or latency counts.

Stages are numbered along the model, 0 to pp * vpp - 1. Placement: stage s on rank s mod pp (Megatron's virtual
stages); for zb-v and dualpipe-v a V, stage s on rank s on the way down and 2 pp - 1 - s on the way up; for dualpipe
each rank holds stage r for the first half of the micro-batches and stage pp - 1 - r for the second half, which enters
the pipeline at the far end.

Sources of the orders: GPipe (Huang 2019, arXiv 1811.06965); 1F1B and interleaved (Narayanan 2021, arXiv 2104.04473;
Megatron-LM); ZB-H1, ZB-H2 (Qi 2023, arXiv 2401.10241, figures 2 and 3); ZB-V (Qi 2024, arXiv 2405.15362; the unit-time
order of PyTorch's ScheduleZBVZeroBubble); DualPipe and DualPipeV (DeepSeek-V3, arXiv 2412.19437; the public
repository's eight steps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EVENT = np.dtype(
    [("rank", "i4"), ("stage", "i4"), ("micro_batch", "i4"), ("kind", "U2"), ("start_s", "f8"), ("end_s", "f8")]
)
KINDS = ("F", "B", "W", "BW")
_F, _B, _W, _BW = range(4)
V_SHAPED = frozenset({"zb-v", "dualpipe-v"})

# One piece of work of one rank: passes that run together, nearly always one; (kind, stage, micro-batch) each. Two are
# an overlapped pair of a forward and a backward pass.
Pass = tuple[int, int, int]
Work = tuple[Pass, ...]
Order = list[list[Work]]


@dataclass(frozen=True)
class Replay:
    """One replayed step.

    `events`: structured array of dtype `EVENT`, in the order of each rank; the two passes of an overlapped pair are two
    rows of equal times. Arrays of shape (pp,): `busy_s` working time, `window_s` from the first start to the last end,
    `peak_in_flight` activations held at the worst moment, in micro-batches of all of one rank's layers.
    """

    schedule: str
    events: npt.NDArray[np.void]
    makespan_s: float
    busy_s: Floats
    window_s: Floats
    peak_in_flight: Floats

    @property
    def bubble_s(self) -> float:
        """Idle time inside the window of the worst rank: what every step costs where steps follow each other without a
        barrier (zero-bubble papers); equal to `barrier_bubble_s` where some rank is first and last to work."""
        return float(np.max(self.window_s - self.busy_s))

    @property
    def barrier_bubble_s(self) -> float:
        """Step time less the working time of the busiest rank: what the step costs where it ends with a barrier."""
        return float(self.makespan_s - np.max(self.busy_s))


def replay(
    schedule: str,
    pp: int,
    vpp: int,
    micro_batches: int,
    forward_s: npt.ArrayLike,
    backward_input_s: npt.ArrayLike,
    backward_weight_s: npt.ArrayLike,
    p2p_s: float = 0.0,
    overlapped_pair_s: npt.ArrayLike | None = None,
) -> Replay:
    """Replay one step of `schedule` and return its events.

    Times are per stage and micro-batch, seconds: scalars or shape (pp * vpp,), uneven stages allowed. `p2p_s` is one
    hand-over between two ranks; it delays the receiver and occupies neither. `overlapped_pair_s` (dualpipe, dualpipe-v
    only; scalar or shape (pp,), per rank) is the time of a forward and a full backward pass of opposite directions that
    run together; None: their sum. O(pp * vpp * micro_batches). Raises ValueError where the schedule does not exist for
    these sizes.
    """
    order = work_order(schedule, pp, vpp, micro_batches)
    stages, m = pp * vpp, micro_batches
    f_s, b_s, w_s = (_per_stage(t, stages) for t in (forward_s, backward_input_s, backward_weight_s))
    duration_s = (f_s, b_s, w_s, [b + w for b, w in zip(b_s, w_s, strict=True)])
    if overlapped_pair_s is not None and not schedule.startswith("dualpipe"):
        raise ValueError(f"{schedule} has no overlapped pairs")
    pair_s = None if overlapped_pair_s is None else _per_stage(overlapped_pair_s, pp)
    hop_s = [p2p_s] * (stages - 1)  # from stage s to s + 1, and back
    if schedule in V_SHAPED:
        hop_s[pp - 1] = 0.0  # the turn of the V stays on the last rank

    # when the input of F and B of (stage, micro-batch) is there; -1: not yet known
    ready_f = [0.0] * m + [-1.0] * ((stages - 1) * m)
    ready_b = [-1.0] * (stages * m)
    ready = (ready_f, ready_b, None, ready_b)
    waiting: dict[tuple[int, int], int] = {}  # (kind, key) -> the rank that stands still for it
    at, clock_s = [0] * pp, [0.0] * pp
    ran: list[tuple[int, int, int, int, float, float]] = []
    busy_s = [0.0] * pp
    awake = list(range(pp))
    while awake:
        rank = awake.pop()
        works, now_s, i = order[rank], clock_s[rank], at[rank]
        while i < len(works):
            work = works[i]
            start_s, missing = now_s, None
            for kind, stage, mb in work:
                times = ready[kind]
                if times is not None:
                    input_s = times[stage * m + mb]
                    if input_s < 0.0:
                        missing = (0 if kind == _F else 1, stage * m + mb)
                        break
                    start_s = max(start_s, input_s)
            if missing is not None:
                waiting[missing] = rank
                break
            if len(work) == 2 and pair_s is not None:
                took_s = pair_s[rank]
            else:
                took_s = 0.0
                for kind, stage, _ in work:
                    took_s += duration_s[kind][stage]
            now_s = start_s + took_s
            busy_s[rank] += took_s
            for kind, stage, mb in work:
                ran.append((rank, stage, mb, kind, start_s, now_s))
                key = stage * m + mb
                if kind == _F:
                    if stage + 1 < stages:
                        target = (0, key + m)
                        ready_f[key + m] = now_s + hop_s[stage]
                    else:
                        target = (1, key)
                        ready_b[key] = now_s
                elif kind != _W and stage > 0:
                    target = (1, key - m)
                    ready_b[key - m] = now_s + hop_s[stage - 1]
                else:
                    continue
                woken = waiting.pop(target, None)
                if woken is not None:
                    awake.append(woken)
            i += 1
        at[rank], clock_s[rank] = i, now_s
    if any(i < len(works) for i, works in zip(at, order, strict=True)):
        raise ValueError(f"{schedule} with pp {pp}, vpp {vpp} and {m} micro-batches waits for itself: no such schedule")

    events = _events(ran)
    first_s = np.full(pp, np.inf)
    np.minimum.at(first_s, events["rank"], events["start_s"])
    return Replay(
        schedule=schedule,
        events=events,
        makespan_s=max(clock_s),
        busy_s=np.array(busy_s),
        window_s=np.array(clock_s) - first_s,
        peak_in_flight=np.array([_peak(works) / vpp for works in order]),
    )


def work_order(schedule: str, pp: int, vpp: int, micro_batches: int) -> Order:
    """The order in which each rank works: [rank][position] -> the passes that run together there."""
    if schedule not in _ORDERS:
        raise ValueError(f"unknown schedule {schedule!r}; allowed: {', '.join(_ORDERS)}")
    if pp < 1 or vpp < 1 or micro_batches < 1:
        raise ValueError(f"pp {pp}, vpp {vpp} and {micro_batches} micro-batches must all be at least 1")
    chunks = 2 if schedule in V_SHAPED else None if schedule == "interleaved" else 1
    if chunks is not None and vpp != chunks:
        raise ValueError(f"{schedule} has {chunks} stage{'s' * (chunks > 1)} a rank, not vpp {vpp}")
    return _ORDERS[schedule](pp, vpp, micro_batches)


def _per_stage(times: npt.ArrayLike, stages: int) -> list[float]:
    return [float(t) for t in np.broadcast_to(np.asarray(times, dtype=np.float64), (stages,))]


def _events(ran: list[tuple[int, int, int, int, float, float]]) -> npt.NDArray[np.void]:
    events = np.empty(len(ran), dtype=EVENT)
    rank, stage, mb, kind, start_s, end_s = zip(*ran, strict=True)
    events["rank"], events["stage"], events["micro_batch"] = rank, stage, mb
    events["kind"] = np.array(KINDS)[list(kind)]
    events["start_s"], events["end_s"] = start_s, end_s
    return events[np.argsort(events["rank"], kind="stable")]


def _peak(works: list[Work]) -> int:
    """Most stage activations held at once: from the start of F to the end of the weight gradient."""
    held = peak = 0
    for work in works:
        held += sum(kind == _F for kind, _, _ in work)
        peak = max(peak, held)
        held -= sum(kind in (_W, _BW) for kind, _, _ in work)
    return peak


# ---------------------------------------------------------------------------------------------------- the orders


def _none(pp: int, vpp: int, m: int) -> Order:
    if pp != 1:
        raise ValueError(f"a pipeline of {pp} ranks needs a schedule")
    return _one_f_one_b(pp, vpp, m)


def _gpipe(pp: int, vpp: int, m: int) -> Order:
    """All forward passes, then all backward passes."""
    return [[*(((_F, r, i),) for i in range(m)), *(((_BW, r, i),) for i in range(m))] for r in range(pp)]


def _warm_then_alternate(warm: int, forwards: list[Pass], backwards: list[Pass]) -> list[Work]:
    """`warm` forward passes, then one forward and one backward in turn, then the backward passes that are left."""
    warm = min(warm, len(forwards))
    works: list[Work] = [(f,) for f in forwards[:warm]]
    for f, b in zip(forwards[warm:], backwards, strict=False):
        works += ((f,), (b,))
    works += [(b,) for b in backwards[len(forwards) - warm :]]
    return works


def _one_f_one_b(pp: int, vpp: int, m: int) -> Order:
    return [
        _warm_then_alternate(pp - 1 - r, [(_F, r, i) for i in range(m)], [(_BW, r, i) for i in range(m)])
        for r in range(pp)
    ]


def _interleaved(pp: int, vpp: int, m: int) -> Order:
    """Micro-batches go through the chunks of a rank in groups: the smallest size of at least pp that leaves no rest, or
    a rest of at least pp (what Megatron-LM demands of its group size); fewer micro-batches than ranks are one group.
    Megatron-LM warms up with 2 (pp - 1 - r) + (vpp - 1) group passes."""
    group = next((n for n in range(pp, m) if m % n == 0 or m % n >= pp), m)
    turns = [
        (chunk, i) for at in range(0, m, group) for chunk in range(vpp) for i in range(at, min(at + group, m))
    ]
    return [
        _warm_then_alternate(
            2 * (pp - 1 - r) + (vpp - 1) * group if vpp > 1 else pp - 1 - r,
            [(_F, chunk * pp + r, i) for chunk, i in turns],
            [(_BW, (vpp - 1 - chunk) * pp + r, i) for chunk, i in turns],
        )
        for r in range(pp)
    ]


def _zero_bubble(warm: Callable[[int, int], int], lag: Callable[[int], int]) -> Callable[[int, int, int], Order]:
    """1F1B of F and B after `warm(pp, rank)` forwards; W follows its B `lag(rank)` micro-batches late, and all the W
    that are left fill the end."""

    def order(pp: int, vpp: int, m: int) -> Order:
        ranks = []
        for r in range(pp):
            works: list[Work] = []
            passes = _warm_then_alternate(warm(pp, r), [(_F, r, i) for i in range(m)], [(_B, r, i) for i in range(m)])
            for (one,) in passes:
                works.append((one,))
                if one[0] == _B and one[2] >= lag(r):
                    works.append(((_W, r, one[2] - lag(r)),))
            works += [((_W, r, i),) for i in range(max(0, m - lag(r)), m)]
            ranks.append(works)
        return ranks

    return order


def _zb_v(pp: int, vpp: int, m: int) -> Order:
    return [_zb_v_rank(pp, r, m) for r in range(pp)]


def _zb_v_rank(pp: int, r: int, m: int) -> list[Work]:
    """The unit-time order, free of bubbles for F = B = W: planned for at least 2 pp - 1 micro-batches; with fewer, the
    missing ones are left out."""
    planned = max(2 * pp - 1, m)
    down, up = r, 2 * pp - 1 - r
    done = {(kind, stage): 0 for kind in (_F, _B, _W) for stage in (down, up)}
    works: list[Work] = []

    def do(*passes: tuple[int, int]) -> None:
        for one in passes:
            if done[one] < m:
                works.append(((*one, done[one]),))
            done[one] += 1

    for _ in range(2 * (pp - r) - 1):
        do((_F, down))
    for _ in range(r):
        do((_F, up), (_F, down))
    for _ in range(pp - r):
        do((_F, up), (_B, up), (_W, up))
    while done[_F, up] < planned:
        if done[_F, down] < planned:
            do((_F, down))
        do((_B, down), (_W, down), (_F, up), (_B, up), (_W, up))
    for _ in range(r):
        do((_B, down), (_B, up))
    for _ in range(pp - r):
        do((_B, down), (_W, down))
    for stage in (up, down):
        while done[_W, stage] < planned:
            do((_W, stage))
    return works


def _dual(half: int, depth: int, n: int, early: tuple[int, int], late: tuple[int, int]) -> list[Work]:
    """The eight steps of DualPipe for the rank `depth` steps from its end of the pipeline.

    `half`: ranks from an end to the middle (dualpipe: pp / 2; dualpipe-v: pp). `n`: micro-batches of each direction.
    `early`, `late`: (stage, first micro-batch) of the two streams that the rank serves, the one whose stage comes early
    in the model and the one whose stage comes late.
    """
    streams = (early, late)
    done = {(kind, s): 0 for kind in (_F, _B) for s in (0, 1)}
    pending: list[tuple[int, int]] = []  # weight gradients put off, first in first out: (stage, micro-batch)
    works: list[Work] = []

    def take(kind: int, s: int) -> Pass:
        stage, first = streams[s]
        counter = _F if kind == _F else _B
        done[counter, s] += 1
        return kind, stage, first + done[counter, s] - 1

    def forward(s: int) -> None:
        works.append((take(_F, s),))

    def backward(s: int, split: bool = False) -> None:
        one = take(_B if split else _BW, s)
        works.append((one,))
        if split:
            pending.append(one[1:])

    def weight() -> None:
        works.append(((_W, *pending.pop(0)),))

    def pair(f: int, b: int) -> None:
        works.append((take(_F, f), take(_BW, b)))

    inner = half - 1 - depth
    for _ in range(2 * inner):
        forward(0)
    for _ in range(depth + 1):
        forward(0)
        forward(1)
    for _ in range(inner):
        backward(1, split=True)
        weight()
        forward(1)
    for i in range(n - 2 * half + depth + 1):
        if i == 0 and inner == 0:  # the middle rank does not overlap its first two: the bubble is smaller so
            forward(0)
            backward(1)
        else:
            pair(0, 1)
        pair(1, 0)
    for _ in range(inner):
        backward(1)
        pair(1, 0)
    # the second half of these 2 (depth + 1) backward passes puts its weight gradients off, to fill the end
    for i in range(depth + 1):
        backward(1, split=2 * i > depth)
        backward(0, split=2 * i + 1 > depth)
    for _ in range(inner):
        weight()
        backward(0, split=True)
    for _ in range(depth + 1):
        weight()
    return works


def _dualpipe(pp: int, vpp: int, m: int) -> Order:
    if pp % 2 or m % 2 or m < 2 * pp:
        raise ValueError(f"dualpipe needs even pp and micro-batches, at least 2 pp of them: not pp {pp} and {m}")
    ranks = []
    for r in range(pp):
        depth = min(r, pp - 1 - r)
        own, far = (0, m // 2) if r < pp // 2 else (m // 2, 0)  # first micro-batch of the stream from this rank's end
        ranks.append(_dual(pp // 2, depth, m // 2, (depth, own), (pp - 1 - depth, far)))
    return ranks


def _dualpipe_v(pp: int, vpp: int, m: int) -> Order:
    if m < 2 * pp:
        raise ValueError(f"dualpipe-v needs at least 2 pp micro-batches: not pp {pp} and {m}")
    return [_dual(pp, r, m, (r, 0), (2 * pp - 1 - r, 0)) for r in range(pp)]


_ORDERS: dict[str, Callable[[int, int, int], Order]] = {
    "none": _none,
    "gpipe": _gpipe,
    "1f1b": _one_f_one_b,
    "interleaved": _interleaved,
    # W lags behind by the rank, so that every rank holds as much as the first: pp (H1), 2 pp - 1 (H2)
    "zb-h1": _zero_bubble(lambda pp, r: pp - 1 - r, lambda r: r),
    "zb-h2": _zero_bubble(lambda pp, r: 2 * (pp - 1 - r), lambda r: 2 * r),
    "zb-v": _zb_v,
    "dualpipe": _dualpipe,
    "dualpipe-v": _dualpipe_v,
}
