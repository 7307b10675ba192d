"""The schedule of one step as a strip: what each pipeline rank does, from a replay of the order in which it works."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign import units
from codesign.laws import replay
from codesign.planner import Plan
from codesign.report.review.charts import Strip
from codesign.report.review.cited import Case, how
from codesign.report.review.document import Block, Figure, paragraph

MOST_RANKS = 16  # lines of a strip; of more ranks every second, fourth, ... is drawn
MOST_PASSES = 100_000  # a longer step is left to `codesign timeline`, which folds its steady state
COLUMNS = 240  # of the drawing, where single passes are too short to be seen
ALONE = 0.85  # share of a column above which its main category stands for it
MIXED = "forward and backward in turn"
CATEGORIES = {"F": "forward", "B": "backward", "BW": "backward", "W": "weight gradients"}

Row = tuple[int, float, float, str]  # rank, start, end, category


def strip_figure(case: Case) -> list[Block]:
    """The strip with a sentence of its totals; nothing without a pipeline, a sentence where it cannot be drawn."""
    pipeline = case.plan.problem.structural()["pipeline"]
    if pipeline.pp == 1:
        return []
    micro_batches = case.plan.value("micro_batches")
    if 3 * pipeline.pp * pipeline.vpp * micro_batches > MOST_PASSES:
        return [paragraph("The schedule has ", case.step("micro_batches"), " micro-batches, too many to draw here: "
                          "codesign timeline writes it with its steady state folded.")]  # fmt: skip
    try:
        rows = replayed(case.plan)
    except ValueError as error:
        return [paragraph(f"The schedule cannot be replayed: {error}.")]
    end_s = max(end for _, _, end, _ in rows)
    title = f"One step of schedule {pipeline.schedule}, {pipeline.pp} pipeline ranks"
    text = f"For each pipeline rank, when it works on forward and backward passes; {units.show(end_s, 's')} in all."
    sentence = paragraph(
        f"Replayed pass by pass, the passes of {pipeline.schedule} end after ", how("replay", units.show(end_s, "s")),
        "; the closed form gives the slowest rank a bubble of ", case.step("pp_bubble_s"), " beside ",
        case.step("slowest_forward_s"), " forward and ", case.step("slowest_backward_s"), " backward for each of ",
        case.step("micro_batches"), " micro-batches. Transfers between ranks, data parallelism and the optimizer come on top.",
    )
    return [Figure(title, text, strip(rows, end_s)), sentence]


def strip(rows: Sequence[Row], end_s: float) -> Strip:
    """A strip of rows from any source, at most `MOST_RANKS` ranks of them."""
    ranks = sorted({rank for rank, *_ in rows})
    shown = ranks[:: -(-len(ranks) // MOST_RANKS)]
    drawn = [one for rank in shown for one in _seen(rank, [row for row in rows if row[0] == rank], end_s)]
    found = {row[3] for row in drawn}
    categories = tuple(name for name in (*dict.fromkeys(CATEGORIES.values()), MIXED) if name in found)
    return Strip(tuple(drawn), tuple(shown), end_s, categories, units.show(end_s, "s"))


def _seen(rank: int, rows: Sequence[Row], end_s: float) -> list[Row]:
    """The rows of one rank; where passes are too short to be seen, what fills each column of the drawing.

    A column is drawn as idle once the idle time of it and of those before, as far as it was not yet drawn, fills a column.
    """
    if len(rows) <= COLUMNS // 2:
        return list(rows)
    width = end_s / COLUMNS
    filled: list[dict[str, float]] = [{} for _ in range(COLUMNS)]
    for _, start, end, name in rows:
        for at in range(int(start / width), min(int(end / width) + 1, COLUMNS)):
            inside = min(end, (at + 1) * width) - max(start, at * width)
            filled[at][name] = filled[at].get(name, 0.0) + max(inside, 0.0)
    out: list[Row] = []
    idle_s = 0.0
    for at, times in enumerate(filled):
        idle_s += max(width - sum(times.values()), 0.0)
        if idle_s >= width * (1.0 - 1e-9) or not times:
            idle_s -= width
            continue
        most = max(times, key=lambda name: times[name])
        name = most if times[most] > ALONE * sum(times.values()) else MIXED
        if out and out[-1][3] == name and out[-1][2] >= at * width * (1.0 - 1e-12):
            out[-1] = (rank, out[-1][1], (at + 1) * width, name)
        else:
            out.append((rank, at * width, (at + 1) * width, name))
    return out


def replayed(plan: Plan) -> list[Row]:
    """The passes of one step from the event replay, every stage with its own times. Raises ValueError without a schedule."""
    pipeline = plan.problem.structural()["pipeline"]
    forward, backward = (_by_rank(plan, f"rank_{name}_s") for name in ("forward", "backward"))
    share = plan.value("weight_gradient_s") / plan.value("slowest_backward_s")
    ranks = np.array([_rank(pipeline.schedule, stage, pipeline.pp) for stage in range(pipeline.pp * pipeline.vpp)])
    forward, backward = forward[ranks] / pipeline.vpp, backward[ranks] / pipeline.vpp
    played = replay.replay(
        pipeline.schedule, pipeline.pp, pipeline.vpp, round(plan.value("micro_batches")), forward,
        backward * (1.0 - share), backward * share,
    )
    return [(int(one["rank"]), float(one["start_s"]), float(one["end_s"]), CATEGORIES[str(one["kind"])]) for one in played.events]


def _by_rank(plan: Plan, name: str) -> NDArray[np.float64]:
    pp = plan.problem.structural()["pipeline"].pp
    return np.broadcast_to(np.reshape(plan.values[name, None], (-1,)), (pp,))


def _rank(schedule: str, stage: int, pp: int) -> int:
    """The rank of a virtual stage: Megatron's order, or down and up again where the schedule is a V."""
    return 2 * pp - 1 - stage if schedule in replay.V_SHAPED and stage >= pp else stage % pp


__all__ = ["replayed", "strip", "strip_figure"]
