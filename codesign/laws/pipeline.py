"""Pipeline schedules in closed form: idle time, micro-batches in flight, copies of the parameters, hand-overs.

pp (pipeline ranks), vpp (stages a rank) and the schedule are structure: plain Python values. Times and micro-batch
counts are float64 arrays of any shape that broadcast. Times are per rank and micro-batch, all stages of the rank
together; F is `forward_s`, B `backward_input_s`, W `backward_weight_s`, and B + W a full backward pass.

The forms hold for uniform stages without latency, where they equal the event replay (`codesign.laws.replay`) of the
same order of work. EQ-14, EQ-35 to EQ-38.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SCHEDULES = ("none", "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v")
V_SHAPED = frozenset({"zb-v", "dualpipe-v"})  # stage s on rank s on the way down, 2 pp - 1 - s on the way up


class Transfers(NamedTuple):
    """Sends of one micro-batch by the busiest rank: activations forward, gradients backward."""

    forward: float
    backward: float


def bubble_s(
    schedule: str,
    pp: int,
    vpp: int,
    micro_batches: npt.ArrayLike,
    forward_s: npt.ArrayLike,
    backward_input_s: npt.ArrayLike,
    backward_weight_s: npt.ArrayLike,
    overlapped_pair_s: npt.ArrayLike | None = None,
    *,
    barrier: bool = False,
) -> Floats:
    """Idle time of the worst rank in one step (s), never below 0; uniform stages, no latency.

    `barrier=False` counts what lies between the first and the last work of a rank, as the papers do: the ranks may
    begin the next step one after the other. `barrier=True` counts from the start to the end of the step, for an
    optimizer that waits for all ranks (global gradient-norm clipping without post-validation). The two differ for the
    zb schedules only.

    - none: 0.
    - gpipe, 1f1b (EQ-35, Narayanan 2021, arXiv 2104.04473): (pp-1)(F+B+W). Any number of micro-batches.
    - interleaved (EQ-36): that over vpp. Where pp does not divide the micro-batches the same holds, with larger groups
      (`interleaved_group`) that cost memory; below pp micro-batches the hand-over from a rank's last stage to its next
      one stands still: (pp-m)(vpp-1)/vpp (F+B+W) more.
    - zb-h1 (EQ-37, Qi 2023, arXiv 2401.10241): (pp-1)(F+B-W) for W <= F. For W > F there is no forward time left to
      save: (pp-1)B. From pp micro-batches. With a barrier at least (pp-1)F, the time until the last rank starts.
    - zb-h2 (EQ-37): (pp-1)(F+B-2W) for W <= F; (pp-1)(B-F) for W > F. From 2pp-1 micro-batches. Barrier: as zb-h1.
    - zb-v (Qi 2024, arXiv 2405.15362): 0 at F = B = W. For the unit-time order and W <= F <= B: (pp-1)(B-W), with a
      barrier at least (pp-1)B/2. Outside of that the largest of the order's critical paths, found by replay. A
      scheduler that knows the times may do better, so this is an upper bound of ZB-V. From 2pp-1 micro-batches.
    - dualpipe, dualpipe-v (EQ-38, DeepSeek-V3, arXiv 2412.19437): published as (PP/2-1)(F&B + B+W - 3W), F&B the
      overlapped pair. The published order has exactly that bubble for F = B >= W and F&B = F+B+W; the form here is its
      bubble for all times with max(F, B+W) <= F&B <= F+B+W. PP stages: pp ranks for dualpipe, 2 pp for dualpipe-v.
      From 2pp micro-batches, which must be even for dualpipe.

    `overlapped_pair_s` (F&B, per rank and micro-batch; dualpipe and dualpipe-v only): default F+B+W, nothing gained.
    """
    given = (micro_batches, forward_s, backward_input_s, backward_weight_s)
    m, f, b, w = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in given))
    if overlapped_pair_s is not None and schedule not in ("dualpipe", "dualpipe-v"):
        raise ValueError(f"{schedule} has no overlapped pairs")
    if schedule == "none":
        return np.zeros(m.shape)
    if schedule in ("gpipe", "1f1b"):
        return (pp - 1) * (f + b + w)
    if schedule == "interleaved":
        few = np.maximum(pp - m, 0.0) * (vpp - 1)
        return ((pp - 1) + few) / vpp * (f + b + w)
    if schedule in ("zb-h1", "zb-h2"):
        saved = np.maximum(f - w, 0.0)
        idle = b + saved if schedule == "zb-h1" else np.maximum(b - f + 2.0 * saved, 0.0)
        return (pp - 1) * (np.maximum(idle, f) if barrier else idle)
    if schedule == "zb-v":
        return _zb_v_s(pp, f, b, w, barrier)
    if schedule in ("dualpipe", "dualpipe-v"):
        pair = f + b + w if overlapped_pair_s is None else np.asarray(overlapped_pair_s, dtype=np.float64)
        if schedule == "dualpipe":
            return _dual_s(pp // 2, f, b, w, pair)
        return _dual_s(pp, f, b, w, pair) / 2.0  # a rank holds two stages: each takes half of the rank's time
    raise ValueError(_unknown(schedule))


def _zb_v_s(pp: int, f: Floats, b: Floats, w: Floats, barrier: bool) -> Floats:
    """The critical paths of ZB-V's unit-time order; for W <= F <= B the first of each list is the longest."""
    half = 0.5 * pp - 1.0
    both = ((pp - 1) * (b - w), (pp - 1.5) * f + 0.5 * b - (pp - 1) * w, (pp - 1) * f - (pp - 0.5) * w)
    if barrier:
        own = (
            0.5 * (pp - 1) * b, (pp - 1.5) * f - half * b, 0.5 * b + half * w, 0.5 * f + half * w,
            (pp - 1) * f - 0.5 * (pp - 1) * b - 0.5 * w,
        )
    else:
        own = (
            0.5 * (pp - 1) * (b - f), 0.5 * b + half * w - 0.5 * (pp - 1) * f, half * (f - b), half * (w - f),
            (pp - 1) * f - 0.5 * (pp - 1) * (b + w),
        )
    longest = np.zeros(f.shape)
    if pp > 1:
        for path in (*both, *own):
            longest = np.maximum(longest, path)
    return longest


def _dual_s(half: int, f: Floats, b: Floats, w: Floats, pair: Floats) -> Floats:
    """Bubble of DualPipe's order with `half` ranks from an end to the middle; times per stage.

    Its longest critical path, found by replay; (half-1)(F&B + B+W - 3W) at F = B >= W, F&B = F+B+W. Zero at half = 1,
    where both directions begin and end on every rank.
    """
    if half == 1:
        return np.zeros(np.broadcast_shapes(f.shape, pair.shape))
    paced = np.maximum(half * f, (half - 1) * b) - (half - 1) * f - (half - 2) * b
    closing = (2 * half - 3) * pair - (3 * half - 4) * w + (half - 1) * np.maximum(w - b, 0.0)
    return np.maximum(paced + closing, 0.0)


def interleaved_group(pp: int, micro_batches: npt.ArrayLike) -> Floats:
    """Micro-batches that go through one stage of a rank before its next stage gets its turn (interleaved).

    The smallest size of at least pp that leaves no rest, or a rest of at least pp, which is what Megatron-LM demands
    of `--microbatch-group-size-per-virtual-pipeline-stage`; pp where pp divides the count, all where there are fewer.
    """
    m = np.asarray(micro_batches, dtype=np.float64)
    group, unsettled = m + 0.0, m > pp
    for size in range(pp, 4 * pp + 64):  # enough for every count up to 400,000 (pp 2 to 64, tried out)
        if not np.any(unsettled):
            break
        rest = m - size * np.floor(m / size)
        fits = unsettled & ((rest == 0.0) | (rest >= pp))
        group = np.where(fits, float(size), group)
        unsettled = unsettled & ~fits
    return group


def in_flight(schedule: str, pp: int, vpp: int, micro_batches: npt.ArrayLike, stage: npt.ArrayLike) -> Floats:
    """Micro-batches whose activations pipeline rank `stage` (0 to pp-1) holds at its worst moment (EQ-14).

    The unit is the activations of one micro-batch on all layers of the rank, held from the start of the forward pass to
    the end of the weight gradient. Exact for the replayed orders.

    gpipe m. 1f1b min(pp - stage, m). interleaved (2(pp-stage-1) + (vpp-1) group + 1)/vpp, at most m: on the first rank
    pp (1 + (pp-1)/(pp vpp)) where pp divides m (Korthikanti 2022, arXiv 2205.05198, section 4.2.3). zb-h1 and zb-v pp,
    zb-h2 2pp-1, on all ranks: weight gradients lag more where fewer forwards run ahead. dualpipe PP+1 stage
    activations. dualpipe-v the same PP+1 with PP = 2 pp stages of half a rank each: pp + 1/2 in this unit.
    """
    m = np.asarray(micro_batches, dtype=np.float64)
    rank = np.asarray(stage, dtype=np.float64)
    group = interleaved_group(pp, m) if schedule == "interleaved" and vpp > 1 else m
    m, rank = np.broadcast_arrays(m, rank)
    if schedule == "none":
        return np.ones(m.shape)
    if schedule == "gpipe":
        return m + 0.0
    if schedule == "1f1b" or (schedule == "interleaved" and vpp == 1):
        return np.minimum(pp - rank, m)
    if schedule == "interleaved":
        chunks = 2.0 * (pp - rank - 1.0) + (vpp - 1) * group + 1.0
        return np.minimum(chunks / vpp, m)
    if schedule in ("zb-h1", "zb-v"):
        return np.minimum(float(pp), m)
    if schedule == "zb-h2":
        return np.minimum(2.0 * pp - 1.0, m)
    if schedule == "dualpipe":
        return np.minimum(pp + 1.0, m)
    if schedule == "dualpipe-v":
        return np.minimum(pp + 0.5, m)
    raise ValueError(_unknown(schedule))


def parameter_copies(schedule: str) -> float:
    """Copies of one rank's share (1/pp) of the parameters on each rank (EQ-14): two for dualpipe, which holds a stage
    of either direction. dualpipe-v holds two stages of 2 pp, so one share; its README counts that as 2 of PP = 2 pp."""
    if schedule not in SCHEDULES:
        raise ValueError(_unknown(schedule))
    return 2.0 if schedule == "dualpipe" else 1.0


def p2p_transfers(schedule: str, pp: int, vpp: int) -> Transfers:
    """How often one micro-batch leaves the busiest rank, forward and backward.

    Once a stage, so vpp times for interleaved (EQ-36). In a V the turn stays on the last rank and the model ends on the
    first: both stages of a rank send only where there is a rank between the two, from pp 3.
    """
    if schedule not in SCHEDULES:
        raise ValueError(_unknown(schedule))
    sends = float(vpp) if pp > 1 else 0.0
    if schedule in V_SHAPED and pp == 2:
        sends = 1.0
    return Transfers(sends, sends)


def least_micro_batches(schedule: str, pp: int) -> int:
    """Fewest micro-batches with which the schedule exists as published (dualpipe) or its closed forms hold (zb)."""
    if schedule not in SCHEDULES:
        raise ValueError(_unknown(schedule))
    if schedule in ("dualpipe", "dualpipe-v"):
        return 2 * pp
    if schedule in ("zb-h2", "zb-v"):
        return 2 * pp - 1
    return pp if schedule == "zb-h1" else 1


def micro_batch_multiple(schedule: str, pp: int, *, whole_groups: bool = False) -> int:
    """What must divide the number of micro-batches. `whole_groups`: the stack runs interleaved in groups of pp only
    (Megatron-LM with its default group size)."""
    if schedule not in SCHEDULES:
        raise ValueError(_unknown(schedule))
    if schedule == "dualpipe":
        return 2
    return pp if schedule == "interleaved" and whole_groups else 1


def valid(schedule: str, pp: int, vpp: int, micro_batches: float, *, whole_groups: bool = False) -> str | None:
    """Why `schedule` cannot run with these sizes, and what to try; None where it can."""
    if schedule not in SCHEDULES:
        return _unknown(schedule)
    if schedule == "none" and pp > 1:
        return f"pp {pp} needs a pipeline schedule: 1f1b for example"
    if schedule == "interleaved":
        if pp < 2 or vpp < 2:
            return f"interleaved needs pp and vpp of at least 2, not {pp} and {vpp}: use 1f1b for one stage a rank"
    elif schedule in V_SHAPED:
        if vpp != 2:
            return f"{schedule} has two stages on every rank: set vpp to 2, not {vpp}"
    elif vpp != 1:
        return f"{schedule} has one stage on every rank: set vpp to 1, not {vpp}, or use interleaved"
    if schedule == "dualpipe" and pp % 2:
        return f"dualpipe feeds the pipeline from both ends: pp must be even, not {pp}"
    least = least_micro_batches(schedule, pp)
    if micro_batches < least:
        return f"{schedule} with pp {pp} needs at least {least} micro-batches, not {micro_batches:g}: try 1f1b"
    multiple = micro_batch_multiple(schedule, pp, whole_groups=whole_groups)
    if micro_batches % multiple:
        return f"{schedule} with pp {pp} needs a multiple of {multiple} micro-batches, not {micro_batches:g}"
    return None


def _unknown(schedule: str) -> str:
    return f"unknown schedule {schedule!r}; allowed: {', '.join(SCHEDULES)}"
