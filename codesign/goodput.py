"""Goodput of a run beside its closed form: play it, compare policies, and ask how many failures it would bear.

Everything here takes a `RunPlan` with a `run.failures` section. Axes replace leaves of the run by arrays, as in
`codesign.run.evaluate`: ten thousand runs are one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import graph
from codesign.errors import SpecError
from codesign.laws import failure_simulation
from codesign.run import Inputs, RunPlan, evaluate

Array = NDArray[np.float64]

# what the simulation plays: the inputs of `laws.two_tier`, and the rates at the beginning and in the end
_PLAYED = (
    "policy_interval_s", "policy_segments", "policy_copy_blocking_s", "policy_storage_blocking_s", "policy_memory_share",
    "policy_memory_restart_s", "policy_storage_restart_s", "policy_memory_down_s", "policy_storage_down_s",
    "policy_wall_over_work", "policy_goodput", "checkpoint_lag_s", "interruptions_per_s", "first_interruptions_per_s",
    "settled_interruptions_per_s", "productive_s",
)  # fmt: skip
_GRID = np.geomspace(1e-4, 1e4, 201)  # factors of the rates in a break-even curve

CAUSES = {
    "policy_goodput": "goodput",
    "policy_writing_share": "writing checkpoints",
    "policy_rework_share": "rework",
    "policy_restart_share": "restart",
    "policy_down_share": "detection, drain, exchange",
    "policy_stall_share": "waiting for repair",
    "policy_return_share": "taking nodes back",
    "policy_corruption_share": "silent corruption",
    "policy_group_share": "waiting for other groups",
    "policy_straggler_share": "stragglers",
    "policy_missing_share": "missing replicas",
}

_OF_FAILURES = (
    "rework", "restart", "detection, drain, exchange", "taking nodes back", "waiting for repair", "missing replicas",
)  # fmt: skip
OTHERS = {"evaluation": "evaluation_share", "post-training": "post_training_share"}  # that share the cluster (run.other)


@dataclass(frozen=True)
class Simulated:
    """Runs that were played through. `goodput` is the mean of each case, `error` its standard error, `closed` the law's.

    wall_s, failures: shape (runs, cases); of compute and recovery, without stragglers and missing replicas.
    """

    goodput: Array
    error: Array
    closed: Array
    wall_s: Array
    failures: Array


@dataclass(frozen=True)
class Bearable:
    """The factor on a rate at which a target of goodput is just met, and what the rate then is; nan where it never is."""

    target: float
    factor: float
    per_s: float

    @property
    def mean_time_s(self) -> float:
        return 1.0 / self.per_s if self.per_s > 0 else float("inf")


def _needed(run: RunPlan) -> None:
    if "chosen_policy" not in run.inputs.structure:
        raise SpecError("this run has no failures: write run.failures and run.checkpoint", field="run.failures")


def policies(run: RunPlan) -> tuple[str, ...]:
    """The policies that this layout allows, the run's own first."""
    _needed(run)
    chosen = run.inputs.structure["chosen_policy"]
    return (chosen, *(name for name in run.inputs.indexes["policy"] if name != chosen))


def chosen_only(made: Inputs) -> Inputs:
    """The inputs of a run with its own policy alone: a sweep that compares nothing is faster."""
    return replace(made, indexes={**made.indexes, "policy": (made.structure["chosen_policy"],)})


def budget(run: RunPlan, policy: str | None = None) -> dict[str, float]:
    """Goodput and every loss as shares of the wall clock, by cause; they add up to 1."""
    name = policy or policies(run)[0]
    parts = graph.REGISTRY["policy_share"].parts
    return {CAUSES[part]: run.value(f"{part}[{name}]") for part in parts}


def wall_clock(run: RunPlan) -> dict[str, float]:
    """The same with what others on the cluster take: shares of the time from the first step to the last; they add up to 1."""
    left = 1.0 - run.value("other_share")
    others = {
        name: run.inputs.leaves[leaf].value for name, leaf in OTHERS.items()
        if leaf in run.inputs.leaves and run.inputs.leaves[leaf].value
    }  # fmt: skip
    return {**{cause: left * share for cause, share in budget(run).items()}, **others}


def by_component(run: RunPlan) -> dict[str, float]:
    """What failures cost under the run's policy, as a share of the wall clock, by component.

    Each cause is split by what one failure of the component brings of it: its rework, restart and down time (the outage of
    a site is its own), and, of parts that are out until they are repaired, returns, waiting and missing replicas.
    """
    parts, policy = wall_clock(run), policies(run)[0]
    weights = {name: _one_failure(run, name, policy) for name in run.inputs.indexes["component"]}
    totals = {cause: sum(one[cause] for one in weights.values()) for cause in _OF_FAILURES}
    return {
        name: sum(parts[cause] * one[cause] / totals[cause] for cause in _OF_FAILURES if totals[cause])
        for name, one in weights.items()
    }


def _one_failure(run: RunPlan, name: str, policy: str) -> dict[str, float]:
    """Rate of a component times what one failure brings of each cause."""
    value = run.value
    rate, memory = value(f"component_failures_per_s[{name}]"), bool(value(f"component_survives[{name}]"))
    between = value(f"policy_interval_s[{policy}]")
    rework_s = 0.5 * between / value(f"policy_segments[{policy}]") if memory else 0.5 * between + value("checkpoint_lag_s")
    outage_s = value("site_outage_s") if name == "site" and not memory else 0.0
    out = value(f"component_repaired[{name}]")
    nodes = out * value(f"component_domain_ranks[{name}]")
    each = {
        "rework": rework_s,
        "restart": value(f"policy_{'memory' if memory else 'storage'}_restart_s[{policy}]"),
        "detection, drain, exchange": value(f"policy_memory_down_s[{policy}]") + outage_s,
        "taking nodes back": out,
        "waiting for repair": nodes,
        "missing replicas": nodes,
    }
    return {cause: rate * lost for cause, lost in each.items()}


def interval(run: RunPlan) -> tuple[float, float] | None:
    """Goodput of the run at the two ends of the 80 % interval of published failure rates, the lower first.

    Rates that the spec gives itself stay as they are. None where no published rate is used, or no interval is known of it.
    """
    _needed(run)
    factors = run.inputs.structure["published_interval"]
    if factors is None:
        return None
    axes = {name: run.inputs.leaves[name].value * np.array(factors) for name in run.inputs.structure["published_rates"]}
    values = evaluate(chosen_only(run.inputs), axes, ("goodput",))
    low, high = np.sort(np.broadcast_to(values["goodput", None], (2,)))
    return float(low), float(high)


def flat_interval_s(run: RunPlan, more: float = 1e-3) -> tuple[float, float]:
    """The shortest and the longest interval between checkpoints in storage that cost less than `more` over the run's own."""
    _needed(run)
    made = chosen_only(run.inputs)
    stated = replace(made, structure={**made.structure, "interval_is_stated": True})
    own = run.value("checkpoint_interval_s")
    least = min(max(run.value("mean_step_s"), run.value("checkpoint_lag_s")), own)
    grid = np.unique(np.concatenate([np.geomspace(least, max(run.value("productive_s"), own), 200), [own]]))
    found = evaluate(stated, {"stated_interval_s": grid}, ("goodput",))["goodput", None]
    dear = np.broadcast_to(found, grid.shape) * (1.0 + more) < run.value("goodput")
    at = int(np.searchsorted(grid, own))
    before, after = np.flatnonzero(dear[:at]), np.flatnonzero(dear[at:])
    return float(grid[before[-1] + 1] if before.size else grid[0]), float(grid[at + after[0] - 1] if after.size else grid[-1])


def simulate(
    run: RunPlan, runs: int = 200, seed: int = 0, policy: str | None = None, axes: Mapping[str, Array] | None = None,
    cycles: int | None = None,
) -> Simulated:
    """Play a run `runs` times, failure by failure, under its policy or another; with `axes`, each case of them.

    A run has its own length, or `cycles` checkpoints in storage. What the simulation does not play (waiting for repair,
    missing replicas, corruption) is taken from the closed form, so that both are goodputs of the same run. Early life is
    played part by part, those that are replaced are young again; stragglers step by step, 64 of them.
    Raises SpecError where a run does not get anywhere.
    """
    name = policy or policies(run)[0]
    if name not in run.inputs.indexes["policy"]:
        known = ", ".join(run.inputs.indexes["policy"])
        raise SpecError(f"no policy {name!r} in this run; there are {known}", field="run.policy")
    made = replace(run.inputs, indexes={**run.inputs.indexes, "policy": (name,)})
    values = evaluate(made, axes or {}, _PLAYED)
    held: dict[str, Any] = {
        key: values[key] if key in values else values.get((key, name), values.get((key, None))) for key in _PLAYED
    }
    interval_s = held["policy_interval_s"]
    count = np.full_like(interval_s, cycles) if cycles else np.ceil(held["productive_s"] / interval_s)
    early, settled = held["first_interruptions_per_s"], held["settled_interruptions_per_s"]
    segments = np.floor(held["policy_segments"] + 0.5)
    rng = np.random.default_rng(seed)
    try:
        played = failure_simulation.simulate_two_tier(
            rng, runs, count, interval_s / segments,
            held["policy_copy_blocking_s"], segments, held["policy_storage_blocking_s"], settled,
            held["policy_memory_share"], held["policy_memory_restart_s"],
            held["policy_storage_restart_s"] + held["checkpoint_lag_s"], held["policy_memory_down_s"],
            held["policy_storage_down_s"], early, values["settling_s"], _parts(values),
        )
    except ValueError as error:
        raise SpecError(f"the run cannot be played: {error}. Its goodput is near 0", field="run.failures") from None
    work_s = count * interval_s
    rest = held["policy_goodput"] * held["policy_wall_over_work"]  # what is not played
    wall_s = played.wall_s * _straggling(rng, runs, values)
    reached = work_s / wall_s * rest
    goodput = work_s / wall_s.mean(axis=0) * rest
    spread = reached.std(axis=0, ddof=1) / np.sqrt(runs)
    return Simulated(goodput, spread, held["policy_goodput"] + 0.0 * goodput, played.wall_s, played.failures)


def _parts(values: Mapping[Any, Any]) -> failure_simulation.Parts | None:
    """The accelerators, whose hazard falls with their own age; none where the run has no early life."""
    if "early_replaced_share" not in values:
        return None
    each = values["component_unit_per_s[accelerator]"] * values["failure_rate_factor"]
    return failure_simulation.Parts(values["component_units[accelerator]"], each, values["early_replaced_share"])


def _straggling(rng: np.random.Generator, runs: int, values: Mapping[Any, Any]) -> Array:
    """Played over closed step with stragglers, of each run; 1 without."""
    if "step_variation" not in values:
        return np.ones(1)
    ranks, each, variation, share, slowdown = (
        values[name] for name in ("training_ranks", "node_ranks", "step_variation", "slow_node_share", "slow_node_slowdown")
    )
    played = failure_simulation.straggling(rng, runs, ranks, variation, np.round(ranks / each), share, slowdown)
    return played / values["straggler_step_factor", None]


def break_even(
    run: RunPlan, targets: Sequence[float] = (0.8, 0.9, 0.95, 0.99), leaf: str = "failure_rate_factor",
    policy: str | None = None, given: Mapping[str, float] | None = None,
) -> list[Bearable]:
    """How often things may fail for each target of goodput: all together, or one leaf such as component_unit_per_s[site].

    A rate that nobody has published is not invented: this says what the run would bear. A leaf that is 0 is scaled from
    one failure in 100 days. `given` fixes other leaves, as the length of an outage. nan where even without failures of
    that kind the target is out of reach.
    """
    name = policy or policies(run)[0]
    made = replace(run.inputs, indexes={**run.inputs.indexes, "policy": (name,)})
    if leaf not in made.leaves:
        raise SpecError(f"{leaf!r} is not an input of this run", field=leaf)
    scale = made.leaves[leaf].value or 1.0 / (100 * 86400.0)
    fixed = {key: np.array([value]) for key, value in (given or {}).items()}
    values = evaluate(made, {**fixed, leaf: scale * _GRID}, ("policy_goodput", "interruptions_per_s"))
    reached = np.broadcast_to(values["policy_goodput", name], _GRID.shape)
    rates = values["interruptions_per_s", None] if leaf == "failure_rate_factor" else scale * _GRID
    found = []
    for target in targets:
        if not 0.0 < target < 1.0:
            raise SpecError(f"a target of goodput is between 0 and 1, not {target:g}", field="target")
        if reached[0] < target or reached[-1] > target:
            end = float("nan") if reached[0] < target else float("inf")
            found.append(Bearable(target, end, end))
            continue
        # goodput falls with the rate
        factor = float(np.exp(np.interp(-target, -reached, np.log(_GRID))))
        found.append(Bearable(target, factor, float(np.exp(np.interp(np.log(factor), np.log(_GRID), np.log(rates))))))
    return found


__all__ = [
    "CAUSES", "OTHERS", "Bearable", "Simulated", "break_even", "budget", "by_component", "chosen_only", "flat_interval_s",
    "interval", "policies", "simulate", "wall_clock",
]
