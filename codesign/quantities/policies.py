"""What each policy of recovery does after a failure: which copy it goes on from, what that takes, how often it writes.

All policies are played by one law (`laws.two_tier`): a share of the failures goes on from a copy in memory (of a live
replica, of the own host, of a peer), the others from storage. Without copies it is the closed form of `laws.checkpoints`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity
from codesign.laws import checkpoints, two_tier

Array = NDArray[np.float64]


def _survives(policy, kind, live_copies, domain, hit, units, apart) -> Array:
    """1 where a failure leaves a copy of the state in memory. A job that is scheduled anew keeps none."""
    kept = 0.0 * domain
    if policy == "elastic" and live_copies:
        kept = np.maximum(kept, 1.0 * (hit < units))
    if policy != "restart" and kind == "memory":
        kept = np.maximum(kept, 1.0 * (domain <= 0))
    if policy != "restart" and kind == "peer":
        kept = np.maximum(kept, 1.0 * (domain <= apart))
    return kept


@quantity("per_s", over="policy", source="EQ-66: copies in different domains")
def policy_survived_per_s(
    policy, checkpoint_kind, live_copies, component_failures_per_s, component_domain_ranks, component_units_hit,
    elastic_units, apart_ranks,
) -> Array:
    """Failures after which the run goes on from a copy in memory."""
    return add(
        component_failures_per_s[c] * _survives(
            policy, checkpoint_kind, live_copies, component_domain_ranks[c], component_units_hit[c], elastic_units, apart_ranks
        )
        for c in component_failures_per_s
    )  # fmt: skip


@quantity("1", over="component", source="EQ-66: copies in different domains")
def component_survives(
    chosen_policy, checkpoint_kind, live_copies, component_domain_ranks, component_units_hit, elastic_units, apart_ranks
) -> Array:
    """1 where the run goes on from a copy in memory after a failure of the component, under its own policy."""
    return _survives(
        chosen_policy, checkpoint_kind, live_copies, component_domain_ranks, component_units_hit, elastic_units, apart_ranks
    )


@quantity("1", over="policy", source="definition")
def policy_memory_share(policy_survived_per_s, interruptions_per_s) -> Array:
    """Share of the failures after which the run goes on from a copy in memory."""
    some = np.where(interruptions_per_s > 0, interruptions_per_s, 1.0)
    return np.minimum(policy_survived_per_s / some, 1.0)


def _goes_on(policy, live_copies) -> bool:
    return policy == "elastic" and live_copies


@quantity("s", over="policy", source="detection, and what it takes to have ranks again")
def policy_memory_down_s(policy, detect_s, reschedule_s, swap_s, reconfigure_s) -> Array:
    """Time after a failure in which nothing runs, before the restart."""
    wait = {"restart": reschedule_s, "hot-spares": swap_s, "elastic": reconfigure_s, "degraded": reconfigure_s}
    return detect_s + wait[policy]


@quantity("s", over="policy", source="sum; the mean over failures that go back to storage")
def policy_storage_down_s(policy_memory_down_s, policy_outage_share, site_outage_s) -> Array:
    """Time after a failure that goes back to storage in which nothing runs: an outage of the site included."""
    return policy_memory_down_s + policy_outage_share * site_outage_s


@quantity("s", over="policy", source="start-up, and reading the copy")
def policy_memory_restart_s(
    policy, live_copies, checkpoint_kind, restart_s, checkpoint_snapshot_s, checkpoint_copy_s, peer_copies
) -> Array:
    """Restart from a copy in memory. Live replicas hand over their state; the processes of an elastic run go on."""
    one_copy = checkpoint_copy_s / (peer_copies - 1.0)
    if _goes_on(policy, live_copies):
        return one_copy
    # a copy lags by the time that it takes to send it
    read = checkpoint_snapshot_s + (one_copy + checkpoint_copy_s if checkpoint_kind == "peer" else 0.0)
    return read if policy == "elastic" else restart_s + read


@quantity("s", over="policy", source="start-up, and reading the checkpoint")
def policy_storage_restart_s(policy, restart_s, checkpoint_read_s) -> Array:
    """Restart from storage."""
    return 1.0 * checkpoint_read_s if policy == "elastic" else restart_s + checkpoint_read_s


@quantity("s", over="policy", source="EQ-62 in its exact form, for each of the two tiers")
def policy_best_interval_s(
    checkpoint_blocking_s, policy_memory_blocking_s, interruptions_per_s, policy_survived_per_s, other_sites,
    corruption_unit_per_s, lockstep_accelerators, failure_rate_factor,
) -> Array:
    """Best compute between two checkpoints in storage; without bound where nothing goes back to storage.

    Copies in memory are kept to their own best interval where that is the shorter one; else each goes to storage. Sites
    that hold the state for each other leave storage to silent corruption, which all copies share.
    """
    back = np.maximum(interruptions_per_s - policy_survived_per_s, 0.0)
    back = np.where(back > 1e-12 * interruptions_per_s, back, 0.0)  # what is left of a difference is rounding
    if other_sites:
        back = back + corruption_unit_per_s * lockstep_accelerators * failure_rate_factor
    storage = checkpoints.best_interval_s(checkpoint_blocking_s, back)
    storage = np.where(back > 0, storage, np.inf)
    memory = checkpoints.best_interval_s(policy_memory_blocking_s, policy_survived_per_s)
    both = checkpoints.best_interval_s(checkpoint_blocking_s + policy_memory_blocking_s, interruptions_per_s)
    return np.where(memory <= storage, storage, both)


@quantity("s", over="policy", source="the best, or the stated, interval within its bounds")
def policy_interval_s(
    policy_best_interval_s, interval_is_stated, stated_interval_s, mean_step_s, checkpoint_lag_s, productive_s
) -> Array:
    """Compute between two checkpoints in storage: a step and a background write at least, the run at most."""
    if interval_is_stated:
        return np.minimum(np.maximum(stated_interval_s, mean_step_s), productive_s)
    least = np.maximum(mean_step_s, checkpoint_lag_s)
    return np.minimum(np.maximum(policy_best_interval_s, least), productive_s)


@quantity("s", over="policy", source="definition")
def policy_storage_blocking_s(policy_interval_s, productive_s, checkpoint_blocking_s) -> Array:
    """Compute time that each checkpoint in storage takes away: none where the run ends before the first."""
    return np.where(policy_interval_s < productive_s, checkpoint_blocking_s, 0.0)


@quantity("1", over="policy", source="EQ-61 for each of the two tiers")
def policy_segments(
    policy, live_copies, checkpoint_kind, policy_interval_s, policy_survived_per_s, memory_blocking_s, mean_step_s,
) -> Array:
    """Copies in memory for each checkpoint in storage; live replicas have the state of the last step."""
    if _goes_on(policy, live_copies):
        between = mean_step_s + 0.0 * policy_interval_s
    elif checkpoint_kind in ("memory", "peer"):
        between = np.maximum(checkpoints.best_interval_s(memory_blocking_s, policy_survived_per_s), mean_step_s)
    else:
        return np.ones_like(policy_interval_s)
    return np.maximum(policy_interval_s / between, 1.0)  # not rounded: the closed form is smooth in it


@quantity("s", over="policy", source="EQ-65")
def policy_memory_blocking_s(policy, live_copies, memory_blocking_s) -> Array:
    """Compute time that each copy in memory takes away: live replicas are copies for nothing."""
    return 0.0 * memory_blocking_s if _goes_on(policy, live_copies) else memory_blocking_s


@quantity("s", over="policy", source="definition")
def policy_copy_blocking_s(policy_interval_s, policy_segments, productive_s, policy_memory_blocking_s) -> Array:
    """Compute time that each copy in memory takes away in this run: none where it ends before the first."""
    return np.where(policy_interval_s / policy_segments < productive_s, policy_memory_blocking_s, 0.0)


@quantity("1", over="policy", source="EQ-63 with two tiers")
def policy_wall_over_work(
    policy_interval_s, policy_segments, policy_copy_blocking_s, policy_storage_blocking_s, interruptions_per_s,
    policy_memory_share, policy_memory_restart_s, policy_storage_restart_s, checkpoint_lag_s, policy_memory_down_s,
    policy_storage_down_s,
) -> Array:
    """Wall clock over compute under failures and checkpoints, the rest left out."""
    ratio = two_tier.wall_over_work(
        policy_interval_s / policy_segments, policy_copy_blocking_s, policy_segments, policy_storage_blocking_s,
        interruptions_per_s, policy_memory_share, policy_memory_restart_s, policy_storage_restart_s + checkpoint_lag_s,
        policy_memory_down_s, policy_storage_down_s,
    )  # fmt: skip
    return np.minimum(ratio, 1e12)
