"""What a step answers to: elasticities, a tornado, balance, exposed terms, and what a little more of each resource buys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import errors, planner
from codesign.search.exposure import Exposure, exposures
from codesign.search.resources import (
    ABOVE_POD,
    CAPACITY,
    DURATIONS,
    RATES,
    RESOURCES,
    SCALE_OUT,
    Array,
    Machine,
    Resource,
    least_factors,
    machine,
    weights_of,
)

SCHEMA_VERSION = 1
LONGER = 0.01  # by which the step may get longer where it is asked what can be taken away
_LEAST = 1e-6  # a resource of which this share is left and nothing is lost is not needed
_FAIR = 2.0  # balanced: no share is more than twice its fair one, or less than half

# what leaves are multiplied by -> the step of the best layout then and the layout, None where there is none
Rechoose = Callable[[Mapping[str, float]], "tuple[float, Mapping[str, Any]] | None"]


@dataclass(frozen=True)
class Elasticity:
    """Per cent by which step and cost change for one per cent more of a resource (its own number, a duration too).

    `share`: the part of the step that it binds. `bearable`: what its number may be multiplied by for a step 1 % longer;
    None for what this run does not use. Capacity moves no step of a fixed layout: there it is the share that is needed.
    """

    resource: str
    kind: str
    value: float
    unit: str
    step: float
    cost: float
    share: float
    used: bool
    bearable: float | None


@dataclass(frozen=True)
class Swing:
    """The step with less and with more of a resource; `fits`: memory still does."""

    resource: str
    low_s: float
    high_s: float
    fits_low: bool
    fits_high: bool

    @property
    def swing_s(self) -> float:
        return abs(self.high_s - self.low_s)


@dataclass(frozen=True)
class Bought:
    """What a little more of a resource buys: of a duration less, above the pod at most full bisection.

    Gains are the time saved over the time before: with this layout, and with the best layout before and after. None: not
    searched, or no layout found.
    """

    resource: str
    factor: float
    fixed_s: float
    fixed_gain: float
    best_s: float | None
    best_gain: float | None
    best_layout: Mapping[str, Any] | None


@dataclass(frozen=True)
class Rate:
    """Of the part of the step that rates bind: the share of one, and its share of the weights."""

    resource: str
    share: float
    fair: float

    @property
    def verdict(self) -> str:
        if self.share > _FAIR * self.fair:
            return "scarce"
        return "ample" if self.share < self.fair / _FAIR else "fair"


@dataclass(frozen=True)
class Balance:
    """Whether the rates that a run uses bind its step in proportion to what a doubling of each costs.

    Then no swap of one for another at the same cost shortens the step. Balanced: no rate has more than twice its fair
    share, or less than half. `index`: exp(-sum share ln(share / fair)), 1 where all are fair; with equal weights the
    effective number of binding rates over the number in use. `shares`: of the whole step; they add up to 1 but for kinks.
    """

    shares: Mapping[str, float]
    rates: tuple[Rate, ...]
    index: float

    @property
    def balanced(self) -> bool:
        return bool(self.rates) and all(rate.verdict == "fair" for rate in self.rates)

    @property
    def bound_by(self) -> str:
        """What binds the step, in words, the largest first."""
        overheads = sum(self.shares[r.name] for r in DURATIONS)
        rates = sorted(((self.shares[r.name], r.name) for r in RATES), key=lambda pair: -pair[0])
        shown = [f"{name} {100 * share:.1f} %" for share, name in rates if abs(share) >= 5e-4]
        return f"{', '.join(shown)}; latencies, launches and fixed work {100 * overheads:.1f} %"


@dataclass(frozen=True)
class Sensitivity:
    """Everything that `codesign sensitivity` says. `cost_s`: accelerator-seconds a token."""

    plan: planner.Plan
    less: float
    more: float
    cost_s: float
    elasticities: tuple[Elasticity, ...]
    tornado: tuple[Swing, ...]
    balance: Balance
    exposures: tuple[Exposure, ...]
    buy: float
    bought: tuple[Bought, ...]
    best_s: float | None
    best_layout: Mapping[str, Any] | None
    searched: bool

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, SI base units."""
        return {
            "schema_version": SCHEMA_VERSION,
            "spec_hash": self.plan.spec_hash,
            "step_s": self.plan.step_s,
            "cost_accelerator_s_per_token": self.cost_s,
            "feasible": self.plan.feasible,
            "violations": list(self.plan.violations),
            "elasticities": [asdict(row) for row in self.elasticities],
            "tornado": {
                "less": self.less,
                "more": self.more,
                "rows": [{**asdict(row), "swing_s": row.swing_s} for row in self.tornado],
            },
            "balance": {
                "balanced": self.balance.balanced,
                "bound_by": self.balance.bound_by,
                "index": self.balance.index,
                "shares": dict(self.balance.shares),
                "rates": [{**asdict(rate), "verdict": rate.verdict} for rate in self.balance.rates],
            },
            "exposed": [{**asdict(row), "never_removed": row.never_removed} for row in self.exposures],
            "bought": {
                "more": self.buy,
                "searched": self.searched,
                "best_s": self.best_s,
                "best_layout": dict(self.best_layout) if self.best_layout else None,
                "rows": [asdict(row) for row in self.bought],
            },
        }


def sensitivity(
    spec_or_plan: Any,
    *,
    sets: Sequence[str] = (),
    less: float = 0.2,
    more: float = 0.25,
    buy: float = 0.1,
    weights: Mapping[str, float] | None = None,
    rechoose: Rechoose | None = None,
) -> Sensitivity:
    """What the step of a plan answers to; `less`, `more` and `buy` are shares of each resource.

    `weights`: relative cost of a doubling of each resource, for the balance. `rechoose` finds the best layout for leaves
    multiplied by given factors. Valid around the plan: a factor of ten leaves the range of the fitted constants.
    """
    for name, share, top in (("less", less, 1.0), ("more", more, 1e3), ("buy", buy, 1e3)):
        if not 0.0 < share < top:
            raise errors.SpecError(f"{name} {share:g} is not a share above 0 and below {top:g}", field=name)
    weigh = weights_of(weights)
    of = machine(spec_or_plan, sets)
    if not (np.isfinite(of.plan.step_s) and of.plan.step_s > 0):
        raise errors.SpecError(f"a step of {of.plan.step_s:g} s, set by hand, answers to nothing")
    slopes = _slopes(of)
    shares = _shares(slopes)
    best = rechoose({}) if rechoose else None
    return Sensitivity(
        of.plan, less, more, of.plan.problem.spec.cluster.accelerators / of.plan.value("job_tokens_per_s"),
        _elasticities(of, slopes, shares),
        _tornado(of, less, more), _balance(of, shares, weigh), exposures(of),
        buy, _bought(of, buy, rechoose, best),
        best[0] if best else None, best[1] if best else None, rechoose is not None,
    )


# ---------------------------------------------------------------------------------------------------- elasticities


def _slopes(of: Machine) -> dict[Resource, float]:
    """d ln(step) / d ln(number) of every resource: those of the plan, and the ones that it does not count."""
    step = planner.ELASTICITY_STEP
    ends = np.log(of.step_s({ABOVE_POD: np.array([1.0 + step, 1.0 - step])}))
    above = float(ends[0] - ends[1]) / float(np.log1p(step) - np.log1p(-step))
    known = {**of.plan.elasticities, ABOVE_POD.name: above, CAPACITY.name: 0.0}
    return {resource: known[resource.name] for resource in RESOURCES}


def _shares(slopes: Mapping[Resource, float]) -> dict[Resource, float]:
    """The part of the step that each resource binds; adapters without what they carry above the pod."""
    shares = {r: -slopes[r] * r.better + 0.0 for r in (*RATES, *DURATIONS)}
    shares[SCALE_OUT] -= shares[ABOVE_POD]
    return shares


def _elasticities(
    of: Machine, slopes: Mapping[Resource, float], shares: Mapping[Resource, float]
) -> tuple[Elasticity, ...]:
    """Accelerators and tokens a step stay, so that the cost of a token moves as the step does."""
    bearable = _bearable(of)
    rows = []
    for resource in RESOURCES:
        (value, unit), slope = of.value(resource), slopes[resource]
        used, share = resource in of.used or resource is CAPACITY, shares.get(resource, 0.0)
        rows.append(Elasticity(resource.name, resource.kind, value, unit, slope, slope, share, used, bearable.get(resource)))
    return tuple(rows)


def _bearable(of: Machine) -> dict[Resource, float]:
    """What the number of each used resource may be multiplied by for a step 1 % longer; of capacity, what is needed."""
    used = [r for r in RESOURCES if r in of.used]
    longest = of.plan.step_s * (1.0 + LONGER)

    def short(grid: Array) -> NDArray[np.bool_]:
        blocks = [{r: grid[at]} for at, r in enumerate(used)]
        return of.blocks(blocks, ("step_s",)).row("step_s") <= longest

    left = least_factors(short, [_LEAST] * len(used), [1.0] * len(used), kept=True)
    found = {r: (factor or 1.0) ** r.better for r, factor in zip(used, left, strict=True)}
    return found | {CAPACITY: of.plan.value("peak_B") / of.plan.value("memory_B")}


def _tornado(of: Machine, less: float, more: float) -> tuple[Swing, ...]:
    """Largest swing first; equals keep the order of the table."""
    blocks = []
    for resource in RESOURCES:
        factors = np.array([1.0 - less, 1.0 + more]) ** float(resource.better)
        blocks.append({resource: np.minimum(factors, of.limit(resource))})
    seen = of.blocks(blocks, ("step_s", "fits_memory"))
    rows = [
        Swing(resource.name, float(step[0]), float(step[1]), bool(fits[0]), bool(fits[1]))
        for resource, step, fits in zip(RESOURCES, seen.row("step_s"), seen.row("fits_memory"), strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: -row.swing_s))


# ---------------------------------------------------------------------------------------------------- balance


def _balance(of: Machine, shares: Mapping[Resource, float], weights: Mapping[Resource, float]) -> Balance:
    used = [r for r in RATES if r in of.used and np.isfinite(weights[r])]
    positive = {r: max(shares[r], 0.0) for r in used}
    bound, cost = sum(positive.values()), sum(weights[r] for r in used)
    rates = tuple(Rate(r.name, positive[r] / bound, weights[r] / cost) for r in used) if bound else ()
    surprise = sum(rate.share * float(np.log(rate.share / rate.fair)) for rate in rates if rate.share > 0)
    return Balance({r.name: share for r, share in shares.items()}, rates, float(np.exp(-surprise)))


# ---------------------------------------------------------------------------------------------------- a little more


def _bought(
    of: Machine, buy: float, rechoose: Rechoose | None, before: tuple[float, Mapping[str, Any]] | None
) -> tuple[Bought, ...]:
    factors = [min(1.0 + buy, of.limit(resource)) for resource in RESOURCES]
    blocks = [{resource: factor} for resource, factor in zip(RESOURCES, factors, strict=True)]
    steps = of.blocks(blocks, ("step_s",)).row("step_s")[:, 0].tolist()
    rows = []
    for resource, factor, fixed_s in zip(RESOURCES, factors, steps, strict=True):
        found = rechoose(resource.scales(factor)) if rechoose else None
        gain = 1.0 - found[0] / before[0] if found and before else None
        best_s, layout = found or (None, None)
        rows.append(Bought(resource.name, factor, fixed_s, 1.0 - fixed_s / of.plan.step_s, best_s, gain, layout))
    return tuple(rows)


__all__ = ["Balance", "Bought", "Elasticity", "Exposure", "Rate", "Rechoose", "Sensitivity", "Swing", "sensitivity"]
