"""Money and time of a run: other users, cost of the run and of its failures, hardware in tranches, launch now or wait."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from codesign.graph import quantity, stack
from codesign.laws import economics

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


@quantity("1", source="EQ-104: (1 - goodput) of the accelerator-hours of training")
def failure_cost(rental_cost, goodput, other_share) -> Array:
    """Part of the rental that failures, checkpoints and stragglers cost."""
    return rental_cost * (1.0 - goodput) * (1.0 - other_share)


# ---------------------------------------------------------------------------------------------------- calendar


@quantity("s", source="sum of steps up to the end of each phase, over goodput and the share of others")
def phase_end_wall_s(phase_steps, phase_run_step_s, goodput, other_share) -> Array:
    """Wall clock at the end of each phase on the whole cluster. Shape (phases, ...)."""
    ends, done = [], np.zeros(1)
    for phase in phase_steps:
        done = done + phase_steps[phase] * phase_run_step_s[phase]
        ends.append(done / goodput / (1.0 - other_share))
    return stack(*ends)


@quantity("s", source="work in accelerator-seconds over what is there; throughput in proportion to accelerators (assumed)")
def phase_end_calendar_s(phase_end_wall_s, tranche_arrival_s, tranche_accelerators, run_accelerators) -> Array:
    """Time from the start at which each phase ends while hardware arrives in tranches. Shape (phases, ...)."""
    names = list(tranche_arrival_s)
    arrivals = [tranche_arrival_s[name] for name in names]
    rates = [tranche_accelerators[name] for name in names]
    return stack(*(economics.tranche_finish_s(wall_s * run_accelerators, arrivals, rates) for wall_s in phase_end_wall_s))


@quantity("s", source="end of the last phase")
def calendar_s(phase_end_calendar_s) -> Array:
    """Time from the start to the end of the run, with hardware that arrives in tranches."""
    return phase_end_calendar_s[-1] * 1.0


@quantity("s", source="difference")
def tranche_delay_s(calendar_s, run_wall_s) -> Array:
    """What late hardware costs in time."""
    return calendar_s - run_wall_s


# ---------------------------------------------------------------------------------------------------- launch or wait


@quantity("1", source="EQ-90: speed doubles every d")
def launch_speed_gain(launch_wait_s, launch_doubling_s) -> Array:
    """Speed of a run launched after a wait over that of one launched now."""
    return np.exp(launch_wait_s / launch_doubling_s * math.log(2.0))


@quantity("s", source="EQ-90; lost time grows in proportion to the failure rate: an upper bound")
def launch_run_s(
    launch_wait_s, launch_speed_gain, productive_s, goodput, other_share, launch_excess, launch_settling_s
) -> Array:
    """Wall clock of a run launched after a wait: faster by what was improved, with the failures that are left by then.

    The excess of the failure rate decays with its settling time; its mean over the run lengthens the run, which lowers
    the mean: a fixed point of a few rounds. Early failures by age are in the goodput, of the hardware as old as it is by
    then.
    """
    work_s = productive_s / launch_speed_gain / (1.0 - other_share)
    lost = 1.0 / goodput - 1.0
    run_s = work_s * (1.0 + lost)
    for _ in range(40):
        mean = -np.expm1(-run_s / launch_settling_s) * launch_settling_s / run_s
        run_s = work_s * (1.0 + lost * (1.0 + launch_excess * np.exp(-launch_wait_s / launch_settling_s) * mean))
    return run_s


@quantity("s", source="sum", parts=("launch_wait_s", "launch_run_s"))
def launch_finish_s(launch_wait_s, launch_run_s) -> Array:
    """Time from today's start to the end of a run launched after a wait."""
    return launch_wait_s + launch_run_s


@quantity("tokens", source="tokens at the mean rate of the run until the deadline")
def deadline_tokens(run_tokens, launch_run_s, launch_wait_s, deadline_s) -> Array:
    """Tokens that a run launched after a wait has trained on by the deadline, not capped at those planned; at least 0."""
    return run_tokens * np.maximum(deadline_s - launch_wait_s, 0.0) / launch_run_s


