"""Communication that runs beside compute: how much of each dimension, as a timeline draws it, without a replay."""

from __future__ import annotations

from codesign.planner import Plan
from codesign.timeline.costs import HIDDEN, Part, Values, beside_all_passes, costs, own_stages


def hidden(plan: Plan) -> dict[str, float]:
    """Seconds of a step, by dimension, largest first: time on its links less what is exposed, on the pacing rank.

    The hand-overs of a pipeline are those that the rank itself sends. With what is exposed of a dimension this is all of its
    communication, recompute's included, so that it compares with the link time of its traffic.
    """
    values = Values(plan)
    rank, found = int(values.one("slowest_rank")), dict[str, float]()

    def add(part: Part, times: float) -> None:
        name = part.lane.removesuffix(HIDDEN)
        found[name] = found.get(name, 0.0) + part.s * times

    cost = costs(values)
    stages, part_of_each = own_stages(values, rank)
    for stage in stages:
        for kind in ("F", "BW"):
            for part in cost[stage][kind].beside:
                add(part, part_of_each * values.one("micro_batches"))
    for part in beside_all_passes(values, rank):
        add(part, 1.0)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
