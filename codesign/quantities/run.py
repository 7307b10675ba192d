"""From steps to a run: phases, productive time, wall clock.

Phases of a run have their own step; what synchronisation of sites adds to a step, what failures take of the time, and
what else uses the cluster are quantities of the modules beside this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity

Array = NDArray[np.float64]


LEAST_GOODPUT = 1e-3  # below it a run does not end for any purpose


def lasting_s(work_s: Array, goodput: Array, other_share: Array) -> Array:
    """Wall clock of work of the run: over goodput and the share that others leave; without bound where it does not end."""
    return np.where(goodput >= LEAST_GOODPUT, work_s / goodput / (1.0 - other_share), np.inf)


@quantity("tokens", over="phase", source="run.phases: a share of the tokens of the run")
def phase_tokens(run_tokens, phase_share) -> Array:
    """Tokens of a phase."""
    return run_tokens * phase_share


@quantity("1", over="phase", source="definition")
def phase_steps(phase_tokens, phase_step_tokens) -> Array:
    """Optimizer steps of a phase."""
    return np.ceil(phase_tokens / phase_step_tokens)


@quantity("s", over="phase", source="sum", parts=("phase_healthy_step_s", "phase_sync_exposed_s"))
def phase_run_step_s(phase_healthy_step_s, phase_sync_exposed_s) -> Array:
    """One step of a phase with what synchronisation between sites adds to it."""
    return phase_healthy_step_s + phase_sync_exposed_s


@quantity("tokens_per_s", over="phase", source="definition")
def phase_tokens_per_s(phase_step_tokens, phase_run_step_s) -> Array:
    """Tokens a second while the steps of a phase run: no failure, nothing else on the cluster."""
    return phase_step_tokens / phase_run_step_s


@quantity("s", source="steps x step")
def productive_s(phase_steps, phase_run_step_s) -> Array:
    """Time of all steps if none is lost."""
    return add(phase_steps[p] * phase_run_step_s[p] for p in phase_steps)


@quantity("s", source="definition of goodput: useful time over wall clock")
def run_wall_s(productive_s, goodput, other_share) -> Array:
    """Wall clock of the run: failures, checkpoints and other users of the cluster included."""
    return lasting_s(productive_s, goodput, other_share)


@quantity("tokens_per_s", source="definition")
def run_tokens_per_s(run_tokens, run_wall_s) -> Array:
    """Tokens trained a second of wall clock."""
    return run_tokens / run_wall_s


@quantity("1", source="definition")
def run_accelerator_hours(run_accelerators, run_wall_s) -> Array:
    """Accelerator-hours of the run, idle and spare accelerators included."""
    return run_accelerators * run_wall_s / 3600.0
