"""One step as a strip: what each pipeline rank does, from the timeline of the plan."""

from __future__ import annotations

from collections.abc import Sequence

from codesign import units
from codesign.errors import SpecError
from codesign.report.review.charts import Strip
from codesign.report.review.cited import Case, how
from codesign.report.review.document import Block, Figure, paragraph
from codesign.report.strip import folded
from codesign.timeline import Timeline, timeline
from codesign.timeline import strip as stretches

MOST_RANKS = 16  # lines of a strip; of more ranks every second, fourth, ... is drawn
MOST_PASSES = 100_000  # a longer step is left to `codesign timeline`, which folds its steady state
COLUMNS = 240  # of the drawing, where single passes are too short to be seen
ALONE = 0.85  # share of a column above which its main category stands for it

MIXED = "forward and backward in turn"
FORWARD, BACKWARD, WEIGHTS, SENDS, REST = (
    "forward",
    "backward",
    "weight gradients",
    "exposed communication",
    "optimizer and rest",
)
_DRAWN = {
    "forward": FORWARD,
    "backward": BACKWARD,
    "input gradient": BACKWARD,
    "weight gradient": WEIGHTS,
    "steady state": MIXED,
    "hand-over": SENDS,
    "data parallel": SENDS,
    "optimizer": REST,
    "rest": REST,
}
CATEGORIES = (FORWARD, BACKWARD, WEIGHTS, MIXED, SENDS, REST)  # the order is that of the colours; what is left is idle

Row = tuple[int, float, float, str]  # rank, start, end, category


def strip_figure(case: Case) -> list[Block]:
    """The strip with a sentence of its totals; nothing without a pipeline, a sentence where it cannot be drawn."""
    pipeline = case.plan.problem.structural()["pipeline"]
    if pipeline.pp == 1 or case.plan.overrides:
        return []
    micro_batches = case.plan.value("micro_batches")
    if 3 * pipeline.pp * pipeline.vpp * micro_batches > MOST_PASSES:
        return [
            paragraph(
                "The schedule has ",
                case.step("micro_batches"),
                " micro-batches, too many to draw here: codesign timeline writes it with its steady state folded.",
            )
        ]
    try:
        line = timeline(case.plan, ranks=range(0, pipeline.pp, -(-pipeline.pp // MOST_RANKS)))
    except SpecError as error:
        return [paragraph(f"The step cannot be drawn: {error.message}")]
    title = f"One step of schedule {pipeline.schedule} on {pipeline.pp} pipeline ranks"
    text = f"For each pipeline rank, what it does in a step of {units.show(line.step_s, 's')}; where nothing is drawn it is idle."
    text = " ".join((text, *(f"{note[0].upper()}{note[1:]}." for note in folded(line))))
    return [Figure(title, text, strip(line)), _gap(case, line)]


def _gap(case: Case, line: Timeline) -> Block:
    if line.gap.refused:
        return paragraph(f"The passes stand one after the other: {line.gap.refused}")
    return paragraph(
        "Replayed pass by pass, the pipeline takes ",
        how("replay", units.show(line.gap.replay_s, "s")),
        "; the plan counts ",
        how("replay", units.show(line.gap.plan_s, "s")),
        " for it, a bubble of ",
        case.step("pp_bubble_s"),
        " with ",
        case.step("slowest_forward_s"),
        " forward and ",
        case.step("slowest_backward_s"),
        " backward for each of ",
        case.step("micro_batches"),
        " micro-batches.",
    )


def strip(line: Timeline) -> Strip:
    """The strip of a timeline, every rank of it."""
    rows = [
        (one.rank, one.start_s, one.end_s, _DRAWN[one.category]) for one in stretches(line) if one.category in _DRAWN
    ]
    ranks = tuple(track.rank for track in line.tracks)
    drawn = [one for rank in ranks for one in _seen(rank, [row for row in rows if row[0] == rank], line.step_s)]
    found = {row[3] for row in drawn}
    return Strip(
        tuple(drawn),
        ranks,
        line.step_s,
        tuple(name for name in CATEGORIES if name in found),
        units.show(line.step_s, "s"),
    )


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
        name = most if times[most] > ALONE * sum(times.values()) else _together(times, most)
        if out and out[-1][3] == name and out[-1][2] >= at * width * (1.0 - 1e-12):
            out[-1] = (rank, out[-1][1], (at + 1) * width, name)
        else:
            out.append((rank, at * width, (at + 1) * width, name))
    return out


def _together(times: dict[str, float], most: str) -> str:
    """What stands for a column of several categories: in turn where they are passes, else the one with most time."""
    return MIXED if {FORWARD, BACKWARD} <= set(times) and most in (FORWARD, BACKWARD, WEIGHTS, MIXED) else most


__all__ = ["CATEGORIES", "strip", "strip_figure"]
