"""The same run backwards: the least hardware that reaches a target, one resource at a time and on the cheapest path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import errors, graph, planner, units
from codesign import run as runs
from codesign.decisions import calendar
from codesign.quantities import constraints
from codesign.search.cheapest import cheapest
from codesign.search.resources import (
    ABOVE_POD,
    CAPACITY,
    COMPUTE,
    LIMIT,
    RESOURCES,
    SCALE_OUT,
    Array,
    Changes,
    Machine,
    Resource,
    Values,
    least_factors,
    machine,
    weights_of,
)

SCHEMA_VERSION = 1
_LEAST = 1e-6  # a resource of which this share will do does not bind the target
_MARGIN = 1e-12  # of a ratio: the path ends on the right side of rounding
# target -> quantity, unit of the target, whether more is better
_TARGETS = {
    "mfu": ("mfu", "1", True),
    "step_s": ("step_s", "s", False),
    "tokens_per_s": ("job_tokens_per_s", "tokens_per_s", True),
    "days": ("training_s", "1", False),
    "cost": ("training_s", "1", False),
}


@dataclass(frozen=True)
class Goal:
    """One target: what is wanted, what the plan gives, and the best that hardware without limit gives this layout."""

    name: str
    unit: str
    larger: bool
    wanted: float
    now: float
    best: float
    quantity: str
    scale: float  # of the quantity, to the unit of the target

    def met(self, values: Values) -> NDArray[np.bool_]:
        """Whether each row meets it. Shape (rows,)."""
        got = values.row(self.quantity) * self.scale
        return got >= self.wanted if self.larger else got <= self.wanted

    def excess(self, values: Values) -> Array:
        """Logarithm of how far each row misses it; 0 and below: met. Shape (rows,)."""
        miss: Array = np.log(values.row(self.quantity) * self.scale / self.wanted)
        return -miss if self.larger else miss


@dataclass(frozen=True)
class Beyond:
    """What the `run:` of the spec takes over the steps alone: failures, checkpoints, other users; `cost` with spares too.

    Ratios of the run on the hardware as it is; they are held on other hardware.
    """

    days: float
    cost: float


@dataclass(frozen=True)
class Alone:
    """The least of one resource, the others as they are; `factor` None: not by this alone, `best` is what it gives.

    `best`: goal -> value without limit of this resource. Where the targets are met: the factor below one that keeps them,
    None where they hold with a millionth of it. `value`: the number at that factor.
    """

    resource: str
    kind: str
    unit: str
    now: float
    factor: float | None
    value: float | None
    best: Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """One resource of the cheapest path."""

    resource: str
    kind: str
    unit: str
    now: float
    factor: float
    value: float


@dataclass(frozen=True)
class Path:
    """The cheapest way to raise several resources: cost is the sum of weight x log2(factor).

    `bound`: no other way costs less, as far as the step is convex in the logarithms of the factors. `settings`: fields of
    the spec that give this hardware; `no_field`: resources that no field sets. `reached`: goal -> value there.
    """

    parts: tuple[Part, ...]
    cost: float
    bound: float
    step_s: float
    reached: Mapping[str, float]
    settings: Mapping[str, str]
    no_field: tuple[str, ...]


@dataclass(frozen=True)
class Requirement:
    """Everything that `codesign require` says.

    `met`: by the plan as it is, memory included. `on_time`: by its step; then `alone` says what can be taken away.
    `obstacles`: what no hardware lifts. `needed_B`: the least memory of an accelerator at which the layout fits.
    `bound_parts`: the parts of the step on hardware without limit, the largest first: what is in the way.
    """

    plan: planner.Plan
    goals: tuple[Goal, ...]
    met: bool
    on_time: bool
    reachable: bool
    obstacles: tuple[str, ...]
    needed_B: float
    capacity_B: float
    alone: tuple[Alone, ...]
    path: Path | None
    bound_step_s: float
    bound_parts: Mapping[str, float]
    weights: Mapping[str, float]
    price: float | None  # of an accelerator-hour, given or that of `run.price_per_hour`; none: cost in accelerator-hours
    beyond: Beyond | None  # none: targets of the step, or of a run whose sections are not counted

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, SI base units; a held resource has no weight."""
        return {
            "schema_version": SCHEMA_VERSION,
            "spec_hash": self.plan.spec_hash,
            "step_s": self.plan.step_s,
            "targets": [
                {"name": g.name, "unit": g.unit, "wanted": g.wanted, "now": g.now, "best": g.best} for g in self.goals
            ],
            "verdict": {"met": self.met, "reachable": self.reachable, "obstacles": list(self.obstacles)},
            "memory": {
                "fits": self.needed_B <= self.capacity_B, "needed_B": self.needed_B, "capacity_B": self.capacity_B,
            },
            "spare" if self.on_time else "alone": [asdict(row) for row in self.alone],
            "path": asdict(self.path) if self.path else None,
            "bound": {"step_s": self.bound_step_s, "parts": dict(self.bound_parts)},
            "weights": {name: weight if math.isfinite(weight) else None for name, weight in self.weights.items()},
            "price": self.price,
            "beyond": asdict(self.beyond) if self.beyond else None,
        }


def require(
    spec_or_plan: Any,
    target: Mapping[str, float | str],
    *,
    sets: Sequence[str] = (),
    weights: Mapping[str, float] | None = None,
    price: float | None = None,
) -> Requirement:
    """The least hardware on which a layout meets all targets: `mfu`, `step_s`, `tokens_per_s`, `days`, `cost`.

    `days` and `cost` are of the run as planned where the spec has a `run:` on one cluster, else of its steps alone; `cost`
    in accelerator-hours, or in money where `price` or `run.price_per_hour` is that of an accelerator-hour. `weights`:
    relative cost of a doubling, `inf` holds a resource. MFU is of the peak of the hardware that is asked for, so that more
    compute lowers it.
    """
    weigh, wanted = weights_of(weights), read_targets(target)
    if price is not None and not (price > 0 and math.isfinite(price)):
        raise errors.SpecError(f"price {price:g}: the price of an accelerator-hour is a number above 0", field="price")
    if price is not None and "cost" not in wanted:
        raise errors.SpecError("a price has no effect without the target cost=...", field="price")
    of = machine(spec_or_plan, sets)
    spec = of.plan.problem.spec
    if price is None and "cost" in wanted and spec.run is not None:
        price = spec.run.price_per_hour
    beyond = _beyond(of.plan) if {"days", "cost"} & wanted.keys() and spec.run is not None and not spec.sites else None
    goals = _goals(of, wanted, price, beyond)
    free = [r for r in RESOURCES if r in of.used and math.isfinite(weigh[r])]
    goals, inside, bound = _without_limit(of, goals, free)
    capacity_B = of.value(CAPACITY)[0]
    needed_B = capacity_B * (of.plan.value("peak_B") / of.plan.value("memory_B"))
    obstacles = _obstacles(of.plan, math.isfinite(weigh[CAPACITY]))
    on_time = bool(_met(goals, of.run({}, _quantities(goals)))[0])
    reachable = not obstacles and bool(_met(goals, of.run(inside, _quantities(goals)))[0])
    met = on_time and of.plan.feasible
    path = _path(of, goals, free, weigh, inside, on_time) if reachable and not met else None
    parts = {name: float(bound.row(name)[0]) for name in graph.REGISTRY["step_s"].parts}
    return Requirement(
        of.plan, tuple(goals), met, on_time, reachable, obstacles, needed_B, capacity_B,
        tuple((_spare if on_time else _alone)(of, goals, free)) if free else (), path,
        float(bound.row("step_s")[0]), dict(sorted(parts.items(), key=lambda part: -part[1])),
        {resource.name: weight for resource, weight in weigh.items()}, price, beyond,
    )


# ---------------------------------------------------------------------------------------------------- targets


def read_targets(target: Mapping[str, float | str]) -> dict[str, float]:
    """Names and numbers of the targets, checked; text may have a unit where the target has one."""
    if not target:
        raise errors.SpecError(f"no target: give one of {', '.join(_TARGETS)}, for example mfu=0.5")
    found = {}
    for name, value in target.items():
        if name not in _TARGETS:
            raise errors.SpecError(f"no target {name!r}. Known: {', '.join(_TARGETS)}", field=name)
        try:
            number = units.parse(value, _TARGETS[name][1])
        except ValueError as error:
            raise errors.SpecError(f"target {name}: {error}", field=name) from None
        if number <= 0:
            raise errors.SpecError(f"target {name}: {value} is not above 0", field=name)
        found[name] = number
    return found


def _beyond(plan: planner.Plan) -> Beyond | None:
    """The run of the plan over its steps; none where the spec says nothing of its length, which `_goals` refuses."""
    steps_s = plan.value("training_s")
    if not steps_s:
        return None
    run = runs.run_plan(plan)
    ends_s, hours = calendar.end_s(run), run.value("run_accelerator_hours")
    if not math.isfinite(ends_s + hours):
        raise errors.Infeasible("the run never ends: codesign plan says why")
    return Beyond(ends_s / steps_s, hours * 3600.0 / (plan.value("accelerators") * steps_s))


def _goals(of: Machine, wanted: Mapping[str, float], price: float | None, beyond: Beyond | None) -> list[Goal]:
    hours = of.plan.value("accelerators") / 3600.0
    days, cost = (beyond.days, beyond.cost) if beyond else (1.0, 1.0)
    scales = {"days": days / 86400.0, "cost": cost * hours * (price or 1.0)}
    goals = []
    for name, number in wanted.items():
        quantity, unit, larger = _TARGETS[name]
        if quantity == "training_s" and not of.plan.value("training_tokens"):
            raise errors.SpecError(
                f"target {name} is of the whole run, and the spec does not say how long that is: give training.tokens, "
                "for example --set training.tokens='15 T tokens'",
                field="training.tokens",
            )
        scale = scales.get(name, 1.0)
        now = of.plan.value(quantity) * scale
        goals.append(Goal(name, unit, larger, number, now, now, quantity, scale))
    return goals


def _quantities(goals: Sequence[Goal]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(goal.quantity for goal in goals))


def _met(goals: Sequence[Goal], values: Values) -> NDArray[np.bool_]:
    held = goals[0].met(values)
    for goal in goals[1:]:
        held = held & goal.met(values)
    return held


def _excess(goals: Sequence[Goal], values: Values) -> Array:
    return graph.worst(goal.excess(values) for goal in goals)


def _obstacles(plan: planner.Plan, capacity_free: bool) -> tuple[str, ...]:
    lifted = ("fits_memory",) if capacity_free else ()
    messages = ((name, graph.REGISTRY[name].message) for name in constraints.CONSTRAINTS if not plan.value(name))
    return tuple(message(plan.values) for name, message in messages if name not in lifted and message is not None)


# ---------------------------------------------------------------------------------------------------- what is possible


def _without_limit(
    of: Machine, goals: Sequence[Goal], free: Sequence[Resource]
) -> tuple[list[Goal], dict[Resource, float], Values]:
    """Goals with the best that free resources without limit give, the factors that come nearest, and the step there.

    Compute takes every value between what it is and its limit: MFU is best at the least of it, a step at the most.
    """
    limits = {r: of.limit(r) for r in free}
    ladder = np.geomspace(1.0, LIMIT, 65) if COMPUTE in free else np.ones(1)
    seen = of.run({**limits, COMPUTE: ladder}, _quantities(goals))
    best = []
    for goal in goals:
        got = np.append(seen.row(goal.quantity) * goal.scale, goal.now)
        best.append(replace(goal, best=float(np.max(got) if goal.larger else np.min(got))))
    nearest = float(ladder[int(np.argmin(_excess(goals, seen)))])
    inside = limits | ({COMPUTE: nearest} if COMPUTE in free else {})
    return best, inside, of.run(inside, ("step_s",))


def _alone(of: Machine, goals: Sequence[Goal], free: Sequence[Resource]) -> list[Alone]:
    """The least of each resource that reaches all goals, the others as they are, and the best that it gives."""
    tops, names = [of.limit(r) for r in free], _quantities(goals)
    ladder = of.blocks([{r: np.geomspace(1.0, top, 65)} for r, top in zip(free, tops, strict=True)], names)
    found = least_factors(_meets(of, goals, free), [1.0] * len(free), tops)
    rows = []
    for at, (resource, factor) in enumerate(zip(free, found, strict=True)):
        ends = {g.name: (np.max if g.larger else np.min)(ladder.row(g.quantity)[at]) * g.scale for g in goals}
        rows.append(_row(of, resource, factor, {name: float(end) for name, end in ends.items()}))
    return rows


def _spare(of: Machine, goals: Sequence[Goal], free: Sequence[Resource]) -> list[Alone]:
    """The least of each resource that keeps all goals, the others as they are."""
    found = least_factors(_meets(of, goals, free), [_LEAST] * len(free), [1.0] * len(free), kept=True)
    now = {goal.name: goal.now for goal in goals}
    return [_row(of, r, factor if factor != _LEAST else None, now) for r, factor in zip(free, found, strict=True)]


def _meets(
    of: Machine, goals: Sequence[Goal], free: Sequence[Resource]
) -> Callable[[Array], NDArray[np.bool_]]:
    """Whether all goals are met at each factor of each resource by itself."""
    names = _quantities(goals)
    return lambda grid: _met(goals, of.blocks([{r: grid[at]} for at, r in enumerate(free)], names))


def _row(of: Machine, resource: Resource, factor: float | None, best: Mapping[str, float]) -> Alone:
    now, unit = of.value(resource)
    value = None if factor is None else of.value(resource, factor)[0]
    return Alone(resource.name, resource.kind, unit, now, factor, value, best)


# ---------------------------------------------------------------------------------------------------- the cheapest path


def _path(
    of: Machine, goals: Sequence[Goal], free: Sequence[Resource], weights: Mapping[Resource, float],
    inside: Changes, on_time: bool,
) -> Path:
    """Capacity as far as it is needed, and the cheapest factors of the rest where the step is too long."""
    factors, cost, bound = {}, 0.0, 0.0
    needed = of.plan.value("peak_B") / of.plan.value("memory_B") * (1.0 + _MARGIN)
    if not of.plan.value("fits_memory"):
        factors[CAPACITY] = needed
        cost = bound = weights[CAPACITY] * math.log2(needed)
    if not on_time:
        found, own, least = _cheapest(of, goals, free, weights, inside)
        factors, cost, bound = {**found, **factors}, cost + own, bound + least
    names = (*_quantities(goals), "step_s", "fits_memory")
    there = of.run(factors, names)
    adapters = factors.get(SCALE_OUT, 1.0)
    parts = []
    for resource, factor in factors.items():
        (now, unit), shown = of.value(resource), factor * (adapters if resource is ABOVE_POD else 1.0)
        parts.append(Part(resource.name, resource.kind, unit, now, factor, of.value(resource, shown)[0]))
    settings, no_field = of.settings(factors)
    reached = {goal.name: float(there.row(goal.quantity)[0]) * goal.scale for goal in goals}
    return Path(
        tuple(sorted(parts, key=lambda part: -part.factor)), cost, bound, float(there.row("step_s")[0]), reached,
        settings, tuple(no_field),
    )


def _cheapest(
    of: Machine, goals: Sequence[Goal], free: Sequence[Resource], weights: Mapping[Resource, float], inside: Changes
) -> tuple[dict[Resource, float], float, float]:
    """Factors above one, their cost in weighted doublings, and the least that any others would cost."""
    names = _quantities(goals)

    def excess(logs: Array) -> Array:
        changes = {resource: np.exp(logs[at]) for at, resource in enumerate(free)}
        return _excess(goals, of.run(changes, names)) + _MARGIN

    best = cheapest(
        excess,
        np.array([weights[r] for r in free]),
        np.array([math.log(of.limit(r)) for r in free]),
        np.array([math.log(inside[r]) for r in free]),
    )
    doubling = math.log(2.0)
    found = {r: math.exp(x) for r, x in zip(free, best.x.tolist(), strict=True) if x > 0.0}
    return found, best.cost / doubling, best.bound / doubling


__all__ = ["Alone", "Beyond", "Goal", "Part", "Path", "Requirement", "read_targets", "require"]
