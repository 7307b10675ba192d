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
    kept = set(shown)
    categories = tuple(dict.fromkeys(name for name in CATEGORIES.values() if any(row[3] == name for row in rows)))
    return Strip(tuple(row for row in rows if row[0] in kept), tuple(shown), end_s, categories, units.show(end_s, "s"))


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
