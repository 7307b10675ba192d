"""Money and time of a run: other users, cost of the run and of its failures, hardware in tranches, launch now or wait."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack
from codesign.laws import economics
from codesign.quantities.run import lasting_s

Array = NDArray[np.float64]


@quantity("1", source="run.other")
def other_share(evaluation_share, post_training_share) -> Array:
    """Share of the cluster's time that evaluation and post-training take."""
    return evaluation_share + post_training_share


# ---------------------------------------------------------------------------------------------------- cost


@quantity("1", source="EQ-09: accelerator-hours times price, in the user's currency")
def rental_cost(run_accelerator_hours, price_per_hour) -> Array:
    """Price of all accelerator-hours of the run, those of other users of the cluster included."""
    return economics.rental_cost(run_accelerator_hours, price_per_hour)


@quantity("1", source="energy at the meter times its price")
def energy_cost(run_energy_J, price_per_kWh) -> Array:
    """Price of the energy of the run, where it is paid apart."""
    return run_energy_J / 3.6e6 * price_per_kWh


@quantity("1", source="EQ-104")
def failure_cost(
    price_per_hour, training_accelerators, run_accelerators, productive_s, run_wall_s, goodput, other_share
) -> Array:
    """Part of the rental that failures, checkpoints and stragglers cost: time that is lost, and spares that are held."""
    hours = economics.accelerator_hours(training_accelerators, productive_s)
    spare_hours = economics.accelerator_hours(run_accelerators - training_accelerators, run_wall_s * (1.0 - other_share))
    spares = economics.rental_cost(spare_hours, price_per_hour)
    return economics.unreliability_cost(goodput, economics.rental_cost(hours, price_per_hour), spares)


# ---------------------------------------------------------------------------------------------------- calendar


@quantity("s", source="sum of steps up to the end of each phase, over goodput and the share of others")
def phase_end_wall_s(phase_steps, phase_run_step_s, goodput, other_share) -> Array:
    """Wall clock at the end of each phase on the whole cluster. Shape (phases, ...)."""
    ends, done = [], np.zeros(1)
    for phase in phase_steps:
        done = done + phase_steps[phase] * phase_run_step_s[phase]
        ends.append(lasting_s(done, goodput, other_share))
    return stack(*ends)


@quantity("s", source="work over the share of the accelerators that is there; throughput in proportion to it (assumed)")
def phase_end_calendar_s(phase_end_wall_s, tranche_arrival_s, tranche_accelerators) -> Array:
    """Time from the start at which each phase ends while hardware arrives in tranches. Shape (phases, ...).

    Spares come with the accelerators that they stand by for, in proportion.
    """
    arrivals = list(tranche_arrival_s.values())
    total = add(tranche_accelerators.values())
    shares = [accelerators / total for accelerators in tranche_accelerators.values()]
    return stack(*(economics.tranche_finish_s(wall_s, arrivals, shares) for wall_s in phase_end_wall_s))


@quantity("s", source="end of the last phase")
def calendar_s(phase_end_calendar_s) -> Array:
    """Time from the start to the end of the run, with hardware that arrives in tranches."""
    return phase_end_calendar_s[-1] * 1.0


@quantity("s", source="difference")
def tranche_delay_s(calendar_s, run_wall_s) -> Array:
    """What late hardware costs in time."""
    return np.where(np.isfinite(run_wall_s), calendar_s - np.where(np.isfinite(run_wall_s), run_wall_s, 0.0), np.inf)


def _late(values, end) -> str:
    late_s = float(np.ravel(values[end, None])[0]) - float(np.ravel(values["deadline_s"])[0])
    return f"the run ends {late_s / 86400.0:,.1f} days after run.deadline"


@quantity("1", source="run.deadline", message=lambda v: _late(v, "run_wall_s"))
def meets_deadline(run_wall_s, deadline_s) -> Array:
    """The run ends by its deadline, all hardware there from the start."""
    return np.where(run_wall_s <= deadline_s, 1.0, 0.0)


@quantity("1", source="run.deadline", message=lambda v: _late(v, "calendar_s"))
def meets_deadline_in_tranches(calendar_s, deadline_s) -> Array:
    """The run ends by its deadline, with hardware that arrives in tranches."""
    return np.where(calendar_s <= deadline_s, 1.0, 0.0)


# ---------------------------------------------------------------------------------------------------- launch or wait


@quantity("1", source="EQ-90: speed doubles every d")
def launch_speed_gain(launch_wait_s, launch_doubling_s) -> Array:
    """Speed of a run launched after a wait over that of one launched now."""
    return np.exp(launch_wait_s / launch_doubling_s * math.log(2.0))


@quantity("s", source="EQ-90")
def launch_run_s(productive_s, launch_speed_gain, goodput, other_share) -> Array:
    """Wall clock of a run launched after a wait: faster by what was improved meanwhile.

    Early failures by age are in the goodput, of the hardware as old as it is by then. Launched now it is `run_wall_s`.
    """
    return lasting_s(productive_s / launch_speed_gain, goodput, other_share)


@quantity("s", source="sum", parts=("launch_wait_s", "launch_run_s"))
def launch_finish_s(launch_wait_s, launch_run_s) -> Array:
    """Time from today's start to the end of a run launched after a wait."""
    return launch_wait_s + launch_run_s


@quantity("tokens", source="tokens at the mean rate of the run until the deadline")
def deadline_tokens(run_tokens, launch_run_s, launch_wait_s, deadline_s) -> Array:
    """Tokens that a run launched after a wait has trained on by the deadline, not capped at those planned; at least 0."""
    return run_tokens * np.maximum(deadline_s - launch_wait_s, 0.0) / launch_run_s


