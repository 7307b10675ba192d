"""Resources of the hardware: what is more or less of each, the plan at scaled resources, the least factor that will do.

A *factor* always improves: twice the bandwidth, half the latency, half the oversubscription above the pod.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import errors, planner, units

Array = NDArray[np.float64]
Changes = Mapping["Resource", "Array | float"]

LIMIT = 1e12  # stands for 'without limit': what is left of a time is 1e-12 of it
_POINTS = 65  # factors tried at once
_ROUNDS = 9  # each divides the interval by 64
_CLOSE = 1e-11
_SAME = 1e-9  # of a step: what moves it less does not move it


@dataclass(frozen=True)
class Resource:
    """Something one can have more of. `leaves` move together, each with the exponent with which a factor enters it.

    `kind`: rate | capacity (more is better), duration (less is better).
    """

    name: str
    kind: str
    leaves: tuple[tuple[str, int], ...]

    def scales(self, factor: float) -> dict[str, float]:
        """What a factor does to each leaf, as multipliers."""
        return {leaf: factor if power > 0 else 1.0 / factor for leaf, power in self.leaves}

    @property
    def better(self) -> int:
        """+1 where more of the number that is shown is better, -1 for durations."""
        return -1 if self.kind == "duration" else 1


ABOVE_POD = Resource("above-pod bandwidth", "rate", (("taper", -1),))
CAPACITY = Resource("memory capacity", "capacity", (("memory_B", 1),))
RATES = (
    *(Resource(name, "rate", tuple((leaf, 1) for leaf in leaves)) for name, leaves in planner.RATES.items()),
    ABOVE_POD,
)
DURATIONS = tuple(
    Resource(name, "duration", tuple((leaf, -1) for leaf in leaves)) for name, leaves in planner.DURATIONS.items()
)
RESOURCES = (*RATES, CAPACITY, *DURATIONS)
BY_NAME = {resource.name: resource for resource in RESOURCES}
SCALE_OUT = BY_NAME["scale-out bandwidth"]
COMPUTE = BY_NAME["compute rate"]
FIXED = BY_NAME["fixed work of a step"]


def named(name: str) -> Resource:
    """The resource that a user means; 'scale_out_bandwidth' and 'Scale-out bandwidth' are the same."""
    known = {_plain(one): resource for one, resource in BY_NAME.items()}
    if _plain(name) in known:
        return known[_plain(name)]
    near = difflib.get_close_matches(_plain(name), list(known), 2, 0.5)
    hint = f" Did you mean {' or '.join(repr(known[n].name) for n in near)}?" if near else ""
    raise errors.SpecError(f"no resource {name!r}.{hint} Known: {', '.join(BY_NAME)}", field=name)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def weights_of(given: Mapping[str, float] | None) -> dict[Resource, float]:
    """Relative cost of a doubling of each resource: 1 where not given; `inf` holds a resource as it is.

    The fixed work of a step is no hardware and is held unless it is given a weight.
    """
    weights = dict.fromkeys(RESOURCES, 1.0) | {FIXED: np.inf}
    for name, weight in (given or {}).items():
        if not weight > 0:
            raise errors.SpecError(
                f"weight of {name}: {weight:g} is not above 0. A weight is the relative cost of doubling a resource; "
                "inf holds it as it is",
                field=name,
            )
        weights[named(name)] = float(weight)
    return weights


# ---------------------------------------------------------------------------------------------------- the plan, scaled


@dataclass(frozen=True)
class Machine:
    """A plan whose resources can be scaled, many factors at once."""

    plan: planner.Plan

    @cached_property
    def _leaves(self) -> dict[str, Any]:
        return planner.leaf_values([self.plan.problem])

    def run(self, changes: Changes, targets: Sequence[str], overrides: Mapping[str, Any] | None = None) -> Values:
        """All values under `targets`, a row for each entry of the factors, which broadcast together. Shape (rows,)."""
        leaves = dict(self._leaves)
        rows = max((np.size(factor) for factor in changes.values()), default=1)
        for resource, factor in changes.items():
            for leaf, power in resource.leaves:
                leaves[leaf] = leaves[leaf] * factor if power > 0 else leaves[leaf] / factor
        program = planner.program_for(targets, self.plan.problem, leaves)
        return Values(program.run(leaves, {**self.plan.overrides, **(overrides or {})}), (rows,))

    def blocks(
        self, blocks: Sequence[Changes], targets: Sequence[str], overrides: Mapping[str, Any] | None = None
    ) -> Values:
        """Several machines in one evaluation, each with as many factors as the longest. Shape (blocks, factors)."""
        shape = (len(blocks), max((np.size(f) for block in blocks for f in block.values()), default=1))
        changes: dict[Resource, Array | float] = {}
        for resource in dict.fromkeys(resource for block in blocks for resource in block):
            column = np.ones(shape)
            for at, block in enumerate(blocks):
                column[at] = block.get(resource, 1.0)
            changes[resource] = column.ravel()
        if not changes:  # the plan as it is, in every row
            changes[FIXED] = np.ones(shape).ravel()
        return Values(self.run(changes, targets, overrides).values, shape)

    def step_s(self, changes: Changes) -> Array:
        """The step at scaled resources. Shape (rows,)."""
        return self.run(changes, ("step_s",)).row("step_s")

    def limit(self, resource: Resource) -> float:
        """The largest factor that has a meaning: above the pod no more passes than the adapters send (taper 1)."""
        return max(self.plan.value("taper"), 1.0) if resource is ABOVE_POD else LIMIT

    def value(self, resource: Resource, factor: float = 1.0) -> tuple[float, str]:
        """The number that stands for a resource, of one accelerator, and its unit; of several leaves the first."""
        if resource is ABOVE_POD:
            return self._of_accelerator("nic_Bps") / (self.plan.value("taper") / factor), "Bps"
        leaf, power = resource.leaves[0]
        value = self._of_accelerator(leaf)
        return value * factor if power > 0 else value / factor, units.suffix(leaf)

    def _of_accelerator(self, leaf: str) -> float:
        found = self.plan.problem.leaves[leaf]
        return self.plan.problem.profile.data()[found.field].value if found.field else found.value

    @cached_property
    def used(self) -> frozenset[Resource]:
        """Resources that move this step at all: a thousandth of each is tried. Capacity moves none."""
        tried = [r for r in RESOURCES if r is not CAPACITY]
        step = self.blocks([{r: 1e-3} for r in tried], ("step_s",)).row("step_s")[:, 0]
        moved = np.abs(step - self.plan.step_s) > _SAME * self.plan.step_s
        return frozenset(r for r, moves in zip(tried, moved, strict=True) if moves)

    def settings(self, factors: Mapping[Resource, float]) -> tuple[dict[str, str], list[str]]:
        """The fields of the spec that give these resources, with their text, and the resources that no field gives."""
        profile, found, without = self.plan.problem.profile.data(), dict[str, str](), []
        for resource, factor in factors.items():
            for leaf, power in resource.leaves:
                field = self.plan.problem.leaves[leaf].field
                if leaf == "storage_Bps" and self.plan.problem.spec.input is not None:
                    found["input.storage_Bps"] = f"{self.plan.value(leaf) * factor!r} B/s"
                elif field is None:
                    without += [resource.name] if resource.name not in without else []
                else:
                    # a torus counts its axes by link_Bps over p2p_Bps: both grow
                    torus = leaf == "link_Bps" and "scale_up.p2p_Bps" in profile
                    for name in (field, "scale_up.p2p_Bps") if torus else (field,):
                        value = profile[name].value * factor if power > 0 else profile[name].value / factor
                        unit = units.suffix(leaf)
                        text = f"{value!r} {units.base(unit)}" if unit in units.UNITS else f"{value!r}"
                        found[f"cluster.override.{name}"] = text
        return found, without


@dataclass(frozen=True)
class Values:
    """What an evaluation of several rows gave, laid out in `shape`."""

    values: Mapping[Any, Any]
    shape: tuple[int, ...]

    def row(self, name: str, rank: int | None = None) -> Array:
        """A scalar quantity, or the entry of one pipeline rank."""
        value = self.values[name, None]
        flat = value if rank is None else value[min(rank, value.shape[0] - 1)]
        return np.broadcast_to(flat, (math.prod(self.shape),)).reshape(self.shape)


def machine(spec_or_plan: Any, sets: Sequence[str] = ()) -> Machine:
    """The machine of a plan, or of anything that `plan` takes."""
    if isinstance(spec_or_plan, planner.Plan):
        if sets:
            raise errors.SpecError("sets change a spec, and a plan was given: plan the spec with them")
        return Machine(spec_or_plan)
    return Machine(planner.plan(spec_or_plan, sets=tuple(sets)))


# ---------------------------------------------------------------------------------------------------- least factors


def least_factors(
    meets: Callable[[Array], NDArray[np.bool_]], low: Sequence[float], high: Sequence[float], *, kept: bool = False
) -> list[float | None]:
    """For each of several questions the least factor in [low, high] at which `meets` holds; None where it never does.

    `meets` answers for ascending factors, shape (questions, points); 65 lie between low and high, and between the last two
    of them again, until the factor is known to 1e-11. Where it holds, lets go and holds again, the first time counts; with
    `kept` only that from which on it holds up to `high`.
    """
    below, above = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    never = np.zeros(len(below), dtype=np.bool_)
    for _ in range(_ROUNDS):
        grid = np.geomspace(below, above, _POINTS, axis=1)
        grid[:, 0], grid[:, -1] = below, above
        held = meets(grid)
        if kept:
            held = np.logical_and.accumulate(held[:, ::-1], axis=1)[:, ::-1]
        never |= ~held.any(axis=1)
        first = np.argmax(held, axis=1)
        rows = np.arange(len(below))
        below, above = grid[rows, np.maximum(first - 1, 0)], grid[rows, first]
        if np.all((above <= below * (1.0 + _CLOSE)) | never):
            break
    return [None if no else float(factor) for no, factor in zip(never, above, strict=True)]
