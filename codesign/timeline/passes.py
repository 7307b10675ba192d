"""Where on the time axis every pass of every pipeline rank lies: the event replay, brought to the plan's time.

The plan counts for the pipeline `work + bubble + exposed hand-overs` of its pacing rank; `codesign.laws.replay` knows
every pass. The two are equal for uniform stages. Where they are not:

- the replay is shorter: the passes stand as replayed and the rest of the plan's idle time follows them;
- the replay is longer: passes keep their length and order, and the idle time before them is shortened, on every rank by
  its own factor, so that each rank is done when the plan says. A pass may then begin before its input would be there.

Either way the gap is reported. Steps follow each other without a barrier in the plan's closed forms. A rank that begins
its step later (zero-bubble schedules) therefore also ends it later: `offset_s`; its time axis is one period of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import SpecError
from codesign.laws import replay
from codesign.timeline.costs import Cost, Values, filling_s, fully_sharded_alone, own_stages

Floats = NDArray[np.float64]
MOST_PASSES = 4_000_000


@dataclass(frozen=True)
class Gap:
    """Plan against replay, for the pipeline of one step (seconds). `replay_s` has the time of hand-overs in it;
    `drawn_s` is the part of it that is drawn, where the plan says that hand-overs are hidden in the steady state.
    `refused`: why there is no replay (a layout that cannot run); the passes then stand one after the other."""

    plan_s: float
    replay_s: float
    drawn_s: float
    refused: str = ""

    @property
    def s(self) -> float:
        """What the plan counts beyond the replay; below zero where it counts less."""
        return self.plan_s - self.replay_s


@dataclass(frozen=True)
class Passes:
    """The passes of one rank in their order. Times count from the rank's own start, `offset_s` on the common axis."""

    rank: int
    offset_s: float
    kind: list[str]
    stage: list[int]
    micro_batch: list[int]
    start_s: Floats
    end_s: Floats


def place(values: Values, costs: list[dict[str, Cost]]) -> tuple[list[Passes], Gap]:
    """Every pass of every rank, and how far the plan is from the replay. Raises SpecError above `MOST_PASSES`."""
    pipe = values.structure["pipeline"]
    m = int(values.one("micro_batches"))
    if 2 * pipe.pp * pipe.vpp * m > MOST_PASSES:
        raise SpecError(
            f"a timeline of {2 * pipe.pp * pipe.vpp * m:,} passes is more than can be replayed ({MOST_PASSES:,}): try fewer "
            "sequences a step, for example --set training.global_batch_sequences",
            field="training.global_batch_sequences",
        )
    seconds = {kind: np.array([cost[kind].total_s for cost in costs]) for kind in replay.KINDS}
    plan_s = _pipeline_s(values)
    times = (seconds["F"], seconds["B"], seconds["W"])
    hop_s = values.one("pp_hop_s") if pipe.pp > 1 and not _blocking(values) else 0.0
    sizes = (pipe.schedule, pipe.pp, pipe.vpp, m)
    try:
        run = replay.replay(*sizes, *times)
        slow = replay.replay(*sizes, *times, p2p_s=hop_s) if hop_s else run
    except ValueError as error:
        found = [_one_after_the_other(values, rank, m, seconds) for rank in range(pipe.pp)]
        return found, Gap(plan_s, plan_s, plan_s, str(error))
    drawn_s, replay_s = float(np.max(run.window_s)), float(np.max(slow.window_s))
    found = [_of_rank(run, rank, drawn_s, plan_s, seconds) for rank in range(pipe.pp)]
    return found, Gap(plan_s, replay_s, drawn_s)


def _pipeline_s(values: Values) -> float:
    """What the plan counts from the first to the last pass of the pacing rank, idle time included."""
    work = values.one("micro_batches") * (values.one("slowest_forward_s") + values.one("slowest_backward_s"))
    inside = values.one("dp_exposed_s") if fully_sharded_alone(values) else 0.0
    return work + values.one("pp_bubble_s") + values.one("pp_exposed_s") + inside


def _blocking(values: Values) -> bool:
    """Whether a rank waits for its hand-overs, so that they are part of the passes."""
    return values.one("pp_exposed_s") > filling_s(values)


def _of_rank(run: replay.Replay, rank: int, drawn_s: float, plan_s: float, seconds: dict[str, Floats]) -> Passes:
    events = run.events[run.events["rank"] == rank]
    kind, stage = events["kind"].tolist(), events["stage"].tolist()
    start, end = events["start_s"].copy(), events["end_s"].copy()
    if run.schedule.startswith("dualpipe"):
        # the two passes of an overlapped pair share their time: shown one after the other, forward first
        first = np.flatnonzero((start[:-1] == start[1:]) & (end[:-1] == end[1:]) & (start[:-1] < end[:-1]))
        for at in first.tolist():
            end[at] = start[at + 1] = start[at] + seconds[kind[at]][stage[at]]
    offset_s = max(0.0, float(end[-1]) - drawn_s)
    before = np.concatenate(([offset_s], end[:-1]))
    idle = start - before
    idle[idle < 1e-12 * run.makespan_s] = 0.0  # rounding
    busy_s = float(np.sum(end - start))
    if drawn_s > plan_s * (1.0 + 1e-12):
        idle = idle * (max(plan_s - busy_s, 0.0) / (drawn_s - busy_s))
    length = end - start
    end = np.cumsum(idle + length)
    # a pass that follows another at once begins at the very instant at which that ends
    start = np.where(idle > 0.0, end - length, np.concatenate(([0.0], end[:-1])))
    return Passes(rank, offset_s, kind, stage, events["micro_batch"].tolist(), start, end)


def _one_after_the_other(values: Values, rank: int, m: int, seconds: dict[str, Floats]) -> Passes:
    """A rank's passes without a schedule: each micro-batch through all its stages and back."""
    stages, part = own_stages(values, rank)
    order = [(kind, stage) for kind in ("F", "BW") for stage in (stages if kind == "F" else stages[::-1])]
    end = np.cumsum(np.tile([part * seconds[kind][stage] for kind, stage in order], m))
    return Passes(
        rank, 0.0, [kind for kind, _ in order] * m, [stage for _, stage in order] * m,
        [i for i in range(m) for _ in order], np.concatenate(([0.0], end[:-1])), end,
    )
