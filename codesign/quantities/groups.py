"""Groups of sites that run on their own between outer steps, and sites that a run goes on without.

Failures are those of one group, the largest; the others are taken to be like it. A run whose sites are all in lock-step,
or that has one, is one group: nothing here adds to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import quantity
from codesign.laws import outer_barrier, reliability

Array = NDArray[np.float64]

GOES_ON = ("elastic", "degraded")  # policies that go on with what is left


@quantity("s", source="EQ-85: each fragment is exchanged once a round")
def group_window_s(mean_step_s, inner_steps, sync_fragments) -> Array:
    """Compute of a group between two exchanges with the others."""
    return mean_step_s * inner_steps / sync_fragments


@quantity("s", source="EQ-85: the delay, less the transfer that is hidden in it")
def group_slack_s(mean_step_s, sync_delay, outer_sync_s, sync_fragments) -> Array:
    """What a group may be late before others wait for it."""
    return np.maximum(sync_delay * mean_step_s - outer_sync_s / sync_fragments, 0.0)


@quantity("s", over="policy", source="EQ-72")
def policy_return_stop_s(policy, reconfigure_s, restart_s, checkpoint_read_s, policy_memory_restart_s) -> Array:
    """Time in which all stand still while a repaired part is taken back into a run that went on without it."""
    stop = {
        "elastic": reconfigure_s + policy_memory_restart_s,
        "degraded": reconfigure_s + restart_s + checkpoint_read_s,
    }
    return stop.get(policy, 0.0 * reconfigure_s)


@quantity("1", over="policy", source="definition")
def policy_outage_share(policy, component_failures_per_s, interruptions_per_s, policy_survived_per_s, other_sites) -> Array:
    """Share of the failures that go back to storage in which the run waits for a site: none where it goes on without."""
    if policy in GOES_ON and other_sites:
        return 0.0 * interruptions_per_s
    back = interruptions_per_s - policy_survived_per_s
    share = np.where(back > 0, component_failures_per_s["site"] / np.where(back > 0, back, 1.0), 0.0)
    return np.minimum(share, 1.0)


@quantity("1", source="EQ-72: alternating up and down")
def site_out_share(component_failures_per_s, component_units, site_outage_s) -> Array:
    """Share of the time in which a site is away."""
    each = component_failures_per_s["site"] / np.maximum(component_units["site"], 1.0)
    return reliability.unavailable_share(each, site_outage_s)


@quantity("1", over="policy", source="definition: sites in proportion to their accelerators")
def policy_missing_sites_share(policy, site_out_share, other_sites) -> Array:
    """Share of the run's accelerators that is missing with its site, on average, while the others go on."""
    return site_out_share if policy in GOES_ON and other_sites else 0.0 * site_out_share


@quantity("1", over="policy", source="EQ-69 for counts: the expected maximum over groups, less what the delay covers")
def policy_group_wait(
    lockstep_groups, group_window_s, group_slack_s, policy_wall_over_work, policy_failures_per_s, policy_memory_share,
    policy_memory_down_s, policy_memory_restart_s, policy_storage_down_s, policy_storage_restart_s, policy_outage_share,
    site_outage_s, checkpoint_lag_s, policy_interval_s, policy_segments, policy_returns_per_s, policy_return_stop_s,
) -> Array:
    """Time that a group waits at outer steps for the one that was interrupted most, over its compute."""
    near_redo, far_redo = policy_interval_s / policy_segments, policy_interval_s  # uniform from 0
    near_s = policy_memory_down_s + policy_memory_restart_s
    far_s = policy_storage_down_s - policy_outage_share * site_outage_s + policy_storage_restart_s + checkpoint_lag_s
    failing, returning = (rate * policy_wall_over_work for rate in (policy_failures_per_s, policy_returns_per_s))
    back = failing * (1.0 - policy_memory_share)
    return outer_barrier.wait_over_work(lockstep_groups, group_window_s, group_slack_s, (
        _kind(failing * policy_memory_share, near_s, near_redo),
        _kind(back * (1.0 - policy_outage_share), far_s, far_redo),
        _kind(back * policy_outage_share, far_s + site_outage_s, far_redo),
        _kind(returning * (policy_return_stop_s > 0), policy_return_stop_s, 0.0 * policy_return_stop_s),
    ))


def _kind(rate_per_s: Array, fixed_s: Array, redo_s: Array) -> outer_barrier.Interruptions:
    """Interruptions of a fixed time and the rework of a part of `redo_s`, uniform."""
    mean_s = fixed_s + 0.5 * redo_s
    return outer_barrier.Interruptions(rate_per_s, mean_s, mean_s**2 + redo_s**2 / 12.0)


@quantity("1", over="policy", source="definition")
def policy_group_share(
    policy_stall_share, policy_return_share, policy_corruption_share, policy_group_wait, policy_wall_over_work
) -> Array:
    """Share of the wall clock in which a group waits at outer steps for the one that was interrupted most."""
    left = 1.0 - policy_stall_share - policy_return_share - policy_corruption_share
    return np.maximum(left, 0.0) * policy_group_wait / (policy_wall_over_work + policy_group_wait)
