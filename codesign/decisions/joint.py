"""How sure the days, the cost and the energy of a run are: errors of the step and the spread of failure rates, drawn together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign import goodput
from codesign.decisions.interval import SEED, SHARE, Spread
from codesign.run import RunPlan, evaluate, paced

Array = NDArray[np.float64]

DRAWS = 500
TARGETS = ("run_wall_s", "calendar_s", "rental_cost", "energy_cost", "run_energy_J", "run_carbon_kg")
_TENTH = 1.2815515655446004  # standard deviations from the middle of a normal variable to its 10 % and 90 % points
_PARTS = ("healthy_step", "matmul", "attention", "memory")  # seconds of a step: they grow together


@dataclass(frozen=True)
class Intervals:
    """Intervals of a run by target, and what was drawn for them; no interval where nothing is known to draw from."""

    of: tuple[str, ...]
    spreads: dict[str, Spread]


def _factor(normal: Array, low: float, high: float) -> Array:
    """A lognormal factor whose 10 % and 90 % points are `low` and `high`."""
    middle, half = 0.5 * np.log(low * high), 0.5 * np.log(high / low)
    return np.exp(middle + half / _TENTH * normal)


def _axes(run: RunPlan) -> tuple[tuple[str, ...], dict[str, Array]]:
    """One draw for the steps of all phases, one for all published rates, with a seed that every run shares."""
    step, rates = np.random.default_rng(SEED).standard_normal((2, DRAWS))
    leaves, axes = run.inputs.leaves, {}
    of = []
    for phase, plan in paced(run.inputs, run.steps).items():
        known = plan.step_interval
        if not np.isfinite(known.low):
            continue
        of.append("step time")
        factor = _factor(step, known.low / plan.step_s, known.high / plan.step_s)
        names = [f"phase_{part}_s[{phase}]" for part in _PARTS]
        names += [name for name in leaves if name.startswith(f"phase_site_step_s[{phase}/")]  # over sites they are the step
        axes.update({name: leaves[name].value * factor for name in names if name in leaves})
    ends = run.inputs.structure.get("published_interval")
    if ends is not None:
        of.append("failure rates")
        factor = _factor(rates, *ends)
        axes.update({name: leaves[name].value * factor for name in run.inputs.structure["published_rates"]})
    return tuple(dict.fromkeys(of)), axes


def intervals(run: RunPlan) -> Intervals:
    """The 80 % intervals of days, cost and energy. Exposed time of other sites stays as planned."""
    of, axes = _axes(run)
    targets = [name for name in TARGETS if (name, None) in run.values]
    if not of:
        return Intervals((), {})
    made = goodput.chosen_only(run.inputs) if "chosen_policy" in run.inputs.structure else run.inputs
    values = evaluate(made, axes, targets)
    edge = 0.5 * (1.0 - SHARE)
    found = {}
    for name in targets:
        drawn = np.broadcast_to(values[name, None], (DRAWS,))
        low, high = np.quantile(drawn, [edge, 1.0 - edge], method="nearest")  # some draws may be without bound
        found[name] = Spread(run.value(name), float(low), float(high), SHARE, DRAWS)
    return Intervals(of, found)


__all__ = ["DRAWS", "TARGETS", "Intervals", "intervals"]
