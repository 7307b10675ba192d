"""Walk a space: evaluate every candidate with the quantities of a plan, keep the best, the front, and all reasons.

Candidates of one set of rows are evaluated together; from one structure to the next only what rests on the change is
evaluated again. What is kept does not grow with the number of candidates, and is the same whichever way the work is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import planner
from codesign.quantities import constraints
from codesign.search import kept
from codesign.search.space import Rows, Space, Structure, problem
from codesign.spec import resolve

Array = NDArray[np.float64]

CHUNK = 16_384  # candidates evaluated at once: arrays that stay in the cache
UNIT = 64  # structures in one piece of work
LEVELS = {name: at for at, name in enumerate(("scale_up_traffic", "scale_out_traffic", "above_pod_traffic"))}
REASONS = {name: name.removeprefix("fits_").removeprefix("allows_") for name in constraints.CONSTRAINTS}
# What robustness disturbs, one after the other: a resource at this share of its rate, or a duration this much longer.
DISTURBANCES: dict[str, float] = {
    "compute rate": 0.9, "memory bandwidth": 0.9, "scale-up bandwidth": 0.75, "scale-out bandwidth": 0.75,
    "scale-up latency": 2.0, "scale-out latency": 2.0, "host launch time": 2.0,
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """A piece of work: some structures over the same slice of the same rows."""

    number: int
    structures: tuple[int, ...]
    begin: int
    end: int
    candidates: int


def units(space: Space) -> list[Unit]:
    """All pieces of work, in a fixed order."""
    groups: dict[Any, list[int]] = {}
    for at, structure in enumerate(space.structures):
        groups.setdefault(structure.rows_key, []).append(at)
    found: list[Unit] = []
    for members in groups.values():
        rows = space.rows(space.structures[members[0]]).count
        for first in range(0, len(members), UNIT):
            some = tuple(members[first : first + UNIT])
            tails = [space.tails(space.structures[at]).count for at in some]
            step = max(CHUNK // max(tails), 1)
            for begin in range(0, rows, step):
                end = min(begin + step, rows)
                found.append(Unit(len(found), some, begin, end, (end - begin) * sum(tails)))
    return found


# ---------------------------------------------------------------------------------------------------- evaluation


def leaves(space: Space, structure: Structure, begin: int, end: int) -> dict[str, Any]:
    """Leaves of some rows of a structure: rows on the first axis, tails on the second."""
    base = problem(space, structure)
    values = planner.leaf_values([base], 2, every_rank=False)
    values.update(_row_leaves(space, base, space.rows(structure), begin, end))
    values.update(_tail_leaves(space, structure))
    return values


def _row_leaves(space: Space, base: resolve.Problem, rows: Rows, begin: int, end: int) -> dict[str, Array]:
    def column(name: str) -> Array:
        return rows.fields[name][begin:end].astype(np.float64).reshape(-1, 1)

    found = {name: column(name) for name in ("tp", "cp", "ep", "etp", "dp", "micro_batch")}
    found["shard_ranks"], found["global_batch"] = column("group"), column("batch")
    found["accelerators"] = column("accelerators")
    per = space.profile.ranks_per_accelerator
    found["accelerator_ranks"] = found["accelerators"] * float(per)
    domain = float(space.profile.per_rank().data()["scale_up.domain"].value)
    sizes = {
        (size, unit): resolve.scale_up_ranks(float(unit * per or domain), float(size * per))
        for size, unit in space.sizes
    }
    pairs = zip(rows.fields["accelerators"][begin:end].tolist(), rows.fields["domain"][begin:end].tolist(), strict=True)
    found["scale_up_ranks"] = np.array([sizes[pair] for pair in pairs], dtype=np.float64).reshape(-1, 1)
    return found


def _tail_leaves(space: Space, structure: Structure) -> dict[str, Array]:
    tails = space.tails(structure)
    return {
        "recompute_fraction": tails.fraction.reshape(1, -1),
        "offloaded_share": tails.offload.reshape(1, -1),
    }


def evaluate(
    space: Space, unit: Unit, scale: Mapping[str, float] | None = None
) -> Iterator[tuple[int, dict[Any, Any], bool]]:
    """The values of every structure of a unit, one after the other; `scale` multiplies leaves by name.

    The flag says whether all quantities are there: where memory or a division refuses every candidate, times are not
    evaluated.
    """
    walk: _Walk | None = None
    before: Mapping[str, resolve.Leaf] = {}
    for at in unit.structures:
        structure = space.structures[at]
        base = problem(space, structure)
        fresh: dict[str, Any] = dict(base.structure)
        if walk is None:
            fresh = leaves(space, structure, unit.begin, unit.end)
            walk = _Walk(fresh, base, scale or {})
        else:
            fresh.update(planner.stage_leaves(base.structural()["pipeline"], base.kinds, 2, False))
            fresh.update(_tail_leaves(space, structure))
            fresh.update(_new_leaves(base.leaves, before))
        before = base.leaves
        yield at, *walk.step(fresh)


def _new_leaves(now: Mapping[str, resolve.Leaf], before: Mapping[str, resolve.Leaf]) -> dict[str, Array]:
    """Leaves that follow from the structure and differ from those of the one before, as the dtype of the parameters does."""
    if now is before:
        return {}
    return {
        name: np.full((1, 1), leaf.value)
        for name, leaf in now.items()
        if leaf.value != before[name].value and name not in OF_CANDIDATE
    }


class _Walk:
    """Two evaluations side by side: what refuses a candidate, and all the rest where something is left."""

    def __init__(self, given: dict[str, Any], base: resolve.Problem, scale: Mapping[str, float]) -> None:
        self.scale = {name: given[name] * factor for name, factor in scale.items()}
        self.given = {**given, **self.scale}
        self.whole = planner.program_for(planner.TARGETS, base, self.given)
        self.limits = planner.program_for(LIMITS, base, self.given)
        self.limit_values: dict[Any, Any] | None = None
        self.values: dict[Any, Any] | None = None
        self.pending: set[str] = set()

    def step(self, fresh: Mapping[str, Any]) -> tuple[dict[Any, Any], bool]:
        """The values under the given leaves, and whether they are complete."""
        changed = {
            name: value
            for name, value in fresh.items()
            if name not in self.scale and not _same(value, self.given[name])
        }
        self.given.update(changed)
        self.pending |= changed.keys()
        if self.limit_values is None:
            self.limit_values = self.limits.run(self.given)
        else:
            self.limit_values = self.limits.update(self.limit_values, changed)
        alive = self.limit_values[(LIMITS[0], None)]
        for name in LIMITS[1:]:
            if name in constraints.CONSTRAINTS:
                alive = alive * self.limit_values[(name, None)]
        if not alive.any():
            return self.limit_values, False
        if self.values is None:
            self.values = self.whole.run(self.given)
        else:
            both = {**self.values, **self.limit_values}
            self.values = self.whole.update(both, {name: self.given[name] for name in self.pending}, self.limits)
        self.pending = set()
        return self.values, True


# what refuses a candidate without its times
LIMITS = (*(name for name in constraints.CONSTRAINTS if name != "allows_mfu"), "peak_B")
# leaves that a row or a tail sets
OF_CANDIDATE = frozenset((
    "tp", "cp", "ep", "etp", "dp", "micro_batch", "shard_ranks", "global_batch", "accelerators", "accelerator_ranks",
    "scale_up_ranks", "recompute_fraction", "offloaded_share",
))  # fmt: skip


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and bool(np.array_equal(one, other))
    return bool(one == other)


# ---------------------------------------------------------------------------------------------------- objectives


def objective(name: str, values: Mapping[Any, Any], space: Space, robust: Array | None = None) -> Array:
    """What is minimised. Times and traffic are those of the first global batch's tokens, so that batches compare."""
    tokens = space.open.batch.values[0] / values["global_batch"]
    if name == "step_s":
        return values[("step_s", None)] * tokens
    if name == "cost":  # accelerator-seconds
        return values[("step_s", None)] * tokens * values["accelerators"]
    if name == "memory":
        return values[("peak_B", None)]
    if name == "robustness":
        assert robust is not None
        return robust * tokens
    level = LEVELS[name]
    sent = [values[(quantity, None)] for quantity in planner.TRAFFIC.values()]
    total = sent[0][level]
    for one in sent[1:]:
        total = total + one[level]
    return total * tokens


def disturbed(values: Mapping[Any, Any], program: Any) -> Array:
    """The longest step over the disturbances, each alone."""
    worst = values[("step_s", None)]
    inputs = {**planner.RATES, **planner.DURATIONS}
    for name, factor in DISTURBANCES.items():
        changed = {leaf: values[leaf] * factor for leaf in inputs[name]}
        worst = np.maximum(worst, program.update(values, changed)[("step_s", None)])
    return worst


# ---------------------------------------------------------------------------------------------------- the walk


def work(space: Space, unit: Unit, scale: Mapping[str, float] | None = None) -> kept.Kept:
    """Evaluate one unit and keep what counts. Pure: the same unit gives the same answer anywhere."""
    wanted = space.open.search
    names = wanted.objectives
    found = kept.Kept(len(names), wanted.best, wanted.within)
    margin = wanted.memory_margin or 0.0
    for at, values, complete in evaluate(space, unit, scale):
        structure = space.structures[at]
        tails = space.tails(structure)
        shape = (unit.end - unit.begin, tails.count)
        spare = values["memory_B"] - margin - values[("peak_B", None)]
        good = np.zeros(shape, dtype=bool)
        if complete:
            good = np.broadcast_to(values[("feasible", None)], shape) > 0.0
        if margin:
            good = good & (spare >= 0.0)
        if not good.all():
            _tally(found, values, spare, shape, margin)
        found.count(good.size, int(np.count_nonzero(good)))
        first = int(space.starts[at]) + unit.begin * tails.count
        if not good.any():
            _miss(found, structure, values, spare, shape, first)
            continue
        robust = None
        if "robustness" in names:
            robust = disturbed(values, planner.program_for(planner.TARGETS, problem(space, structure), values))
        costs = [np.broadcast_to(objective(name, values, space, robust), shape) for name in names]
        found.take(costs, good, first, _kinds_of(space, structure, unit))
    found.settle()
    return found


def _tally(found: kept.Kept, values: Mapping[Any, Any], spare: Array, shape: tuple[int, ...], margin: float) -> None:
    """Count every rejected candidate under the first constraint that it breaks, and under all."""
    left = np.ones(shape, dtype=bool)
    tests = [(REASONS[name], values[(name, None)] > 0.0) for name in constraints.CONSTRAINTS if (name, None) in values]
    if margin:
        tests.insert(1, ("memory margin", spare >= 0.0))
    for reason, holds in tests:
        if holds.all():
            continue
        holds = np.broadcast_to(holds, shape)
        found.reject(reason, int(np.count_nonzero(left & ~holds)), int(holds.size - np.count_nonzero(holds)))
        left &= holds


def _miss(
    found: kept.Kept, structure: Structure, values: Mapping[Any, Any], spare: Array, shape: tuple[int, ...], first: int
) -> None:
    """How far the candidates of a structure without any feasible one are off: limits broken, then memory."""
    broken = np.zeros(shape)
    for name in constraints.CONSTRAINTS:
        if name != "fits_memory" and (name, None) in values:
            broken = broken + (1.0 - values[(name, None)])
    distance = broken + np.maximum(-spare, 0.0) / values["memory_B"]
    found.miss(
        distance, first, values["tp"][:, 0].astype(np.int64), lambda tp: (structure.pp, tp, structure.granularity)
    )


def _kinds_of(space: Space, structure: Structure, unit: Unit) -> Callable[[int], tuple[Any, ...]]:
    """What a row is called when alternatives are told apart: layouts of one kind differ in their sizes only."""
    rows = space.rows(structure).fields

    def kind(row: int) -> tuple[Any, ...]:
        at = unit.begin + row
        degrees = tuple(int(rows[name][at]) for name in ("tp", "cp", "ep", "etp"))
        return (*degrees, structure.pp, structure.schedule, structure.sharding, structure.granularity)

    return kind


__all__ = [
    "CHUNK",
    "DISTURBANCES",
    "Unit",
    "disturbed",
    "evaluate",
    "leaves",
    "objective",
    "units",
    "work",
]
