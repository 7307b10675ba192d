"""Where the wall clock of a run goes under each policy, and what the run's own policy makes of it.

Shares are taken in a fixed order, so that they add up to 1 to the last bit but rounding: waiting for repair, planned
returns, corruption, waiting for other groups, then what the play says, then stragglers and missing replicas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign import units
from codesign.graph import add, quantity, stack
from codesign.laws import distributions, reliability
from codesign.quantities.groups import GOES_ON
from codesign.quantities.run import LEAST_GOODPUT, lasting_s

Array = NDArray[np.float64]

_WORST = 1.0 - 1e-12  # a share that is lost at most, so that the wall clock stays finite
_WHOLE = ("restart", "hot-spares")  # policies that run on the whole layout or wait
_PARTS = (
    "policy_goodput", "policy_writing_share", "policy_rework_share", "policy_restart_share", "policy_down_share",
    "policy_stall_share", "policy_return_share", "policy_corruption_share", "policy_group_share", "policy_straggler_share",
    "policy_missing_share",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- shares of the wall clock


@quantity("1", source="EQ-68")
def spare_nodes(nodes_in_repair, spares_are_stated, stated_spare_nodes, spare_quantile) -> Array:
    """Hot spare nodes: as stated, or as many as suffice at a random instant."""
    if spares_are_stated:
        return 1.0 * stated_spare_nodes
    return distributions.poisson_quantile(spare_quantile, nodes_in_repair)


@quantity("1", over="policy", source="definition")
def policy_spare_nodes(policy, spare_nodes, spares_are_given) -> Array:
    """Nodes that are held for a policy beside those of the layout.

    Restart and hot spares need the whole layout, and hold the same nodes for it: idle, or warm. Elastic and degraded runs
    do without what is out, and hold some only where `run.spares` says so.
    """
    return spare_nodes if policy in _WHOLE or spares_are_given else 0.0 * spare_nodes


@quantity("1", over="policy", source="EQ-68")
def policy_stall_share(policy, nodes_in_repair, policy_spare_nodes, spares_are_stated, spare_quantile) -> Array:
    """Share of the wall clock in which the run waits because more nodes are out than there are spares; no more fail then.

    Spares of a quantile are whole nodes, so that the share is less than what the quantile leaves, by steps: the bound is
    taken, for more failures would else sometimes seem to cost less.
    """
    if policy not in _WHOLE:
        return 0.0 * nodes_in_repair
    if spares_are_stated:
        return np.minimum(distributions.erlang_blocked(policy_spare_nodes + 1.0, nodes_in_repair), _WORST)
    return np.minimum(-np.expm1(-nodes_in_repair), 1.0 - spare_quantile)


@quantity("per_s", over="policy", source="EQ-72")
def policy_returns_per_s(policy, part_losses_per_s, component_failures_per_s, other_sites) -> Array:
    """Returns of repaired parts, and of sites, to a run that may have gone on without them."""
    return part_losses_per_s + component_failures_per_s["site"] if policy in GOES_ON and other_sites else part_losses_per_s


@quantity("1", over="policy", source="EQ-72")
def policy_return_share(policy_returns_per_s, policy_return_stop_s, policy_stall_share) -> Array:
    """Share of the wall clock in which repaired nodes are taken back into a run that went on without them."""
    lost = policy_returns_per_s * policy_return_stop_s
    return (1.0 - policy_stall_share) * np.minimum(lost / (1.0 + lost), _WORST)


@quantity("1", over="policy", source="EQ-70")
def policy_corruption_share(
    corruption_unit_per_s, lockstep_accelerators, failure_rate_factor, corruption_detect_s, policy_interval_s,
    policy_storage_restart_s, policy_stall_share, policy_return_share,
) -> Array:
    """Share of the wall clock that silent corruption costs: detection, rollback to before it, restart."""
    lost = reliability.corruption_loss_share(
        corruption_unit_per_s * lockstep_accelerators * failure_rate_factor, corruption_detect_s, policy_interval_s,
        policy_storage_restart_s,
    )  # fmt: skip
    return (1.0 - policy_stall_share - policy_return_share) * np.minimum(lost / (1.0 + lost), _WORST)


@quantity("1", over="policy", source="definition")
def policy_played_share(policy_stall_share, policy_return_share, policy_corruption_share, policy_group_share) -> Array:
    """Share of the wall clock in which the run computes, writes, or recovers from a failure."""
    return np.maximum(1.0 - policy_stall_share - policy_return_share - policy_corruption_share - policy_group_share, 1e-15)


@quantity("1", over="policy", source="EQ-63")
def policy_computing_share(policy_played_share, policy_wall_over_work) -> Array:
    """Share of the wall clock in which steps are computed that last."""
    return policy_played_share / policy_wall_over_work


@quantity("1", over="policy", source="EQ-63")
def policy_writing_share(
    policy_computing_share, policy_interval_s, policy_segments, policy_copy_blocking_s, policy_storage_blocking_s
) -> Array:
    """Share of the wall clock in which checkpoints that last are written."""
    written = policy_segments * policy_copy_blocking_s + policy_storage_blocking_s
    return policy_computing_share * written / policy_interval_s


@quantity("per_s", over="policy", source="failures come while the run is not down")
def policy_failures_per_s(interruptions_per_s, policy_memory_share, policy_memory_down_s, policy_storage_down_s) -> Array:
    """Interruptions a second of computing, writing and recovery."""
    down = policy_memory_share * policy_memory_down_s + (1.0 - policy_memory_share) * policy_storage_down_s
    return interruptions_per_s / (1.0 + interruptions_per_s * down)


def _stopped(failures, rate, share, restart_memory, restart_storage, down_memory, down_storage) -> tuple[Array, Array]:
    """Down and restarting, over the time that is played; a restart ends with the next failure."""
    def mean(restart):
        met = rate * restart
        cut = -np.expm1(-met) / np.where(met > 0, met, 1.0)
        return restart * np.where(met > 0, cut, 1.0)

    down = failures * (share * down_memory + (1.0 - share) * down_storage)
    return down, failures * (share * mean(restart_memory) + (1.0 - share) * mean(restart_storage))


@quantity("1", over="policy", source="EQ-63")
def policy_stopped_shares(
    policy_played_share, policy_computing_share, policy_writing_share, policy_failures_per_s, interruptions_per_s,
    policy_memory_share, policy_memory_restart_s, policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
) -> Array:
    """Shares of the wall clock from a failure to the begin of the restart, and in restarts. Shape (2, ...).

    What is neither computing nor writing holds them; where they are more than that, they are cut in proportion.
    """
    lost = np.maximum(policy_played_share - policy_computing_share - policy_writing_share, 0.0)
    down, restart = _stopped(
        policy_failures_per_s, interruptions_per_s, policy_memory_share, policy_memory_restart_s,
        policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
    )  # fmt: skip
    down, restart = policy_played_share * down, policy_played_share * restart
    scale = np.minimum(lost / np.maximum(down + restart, 1e-300), 1.0)
    return stack(down * scale, restart * scale)


@quantity("1", over="policy", source="EQ-63")
def policy_down_share(policy_stopped_shares) -> Array:
    """Share of the wall clock from a failure to the begin of the restart."""
    return policy_stopped_shares[0]


@quantity("1", over="policy", source="EQ-63")
def policy_restart_share(policy_stopped_shares) -> Array:
    """Share of the wall clock in restarts."""
    return policy_stopped_shares[1]


@quantity("1", over="policy", source="what is left of the played time")
def policy_rework_share(
    policy_played_share, policy_computing_share, policy_writing_share, policy_restart_share, policy_down_share
) -> Array:
    """Share of the wall clock in compute and writing that a failure takes back."""
    used = policy_computing_share + policy_writing_share + policy_restart_share + policy_down_share
    return np.maximum(policy_played_share - used, 0.0)


@quantity("1", source="EQ-69")
def straggler_step_factor(training_ranks, node_ranks, step_variation, slow_node_share, slow_node_slowdown) -> Array:
    """Step with stragglers over the plan's: noise of all ranks, and persistently slow nodes."""
    noise = reliability.straggler_factor(training_ranks, step_variation)
    return noise * reliability.slow_node_factor(training_ranks / node_ranks, slow_node_share, slow_node_slowdown)


@quantity("1", over="policy", source="EQ-69")
def policy_straggler_share(policy_computing_share, straggler_step_factor) -> Array:
    """Share of the wall clock in which all wait for the slowest."""
    return policy_computing_share * (1.0 - 1.0 / straggler_step_factor)


@quantity("1", over="policy", source="EQ-72")
def policy_missing_units(
    policy, nodes_in_repair, policy_spare_nodes, elastic_units, elastic_unit_replicas, training_ranks, node_ranks,
    component_units_hit,
) -> Array:
    """Mean number of replicas (or groups that share a state) that are left out of the run.

    Elastic: nodes are missing in random places, and a unit with one node missing is out. Degraded: the job starts anew
    on what is left, so that missing nodes are gathered in as few units as hold them.
    """
    if policy not in GOES_ON:
        return 0.0 * nodes_in_repair
    missing = reliability.missing_units(nodes_in_repair, np.ones(1), np.ones(1), policy_spare_nodes)
    if policy == "elastic":
        hit = np.maximum(component_units_hit["host"], 1.0)
        return elastic_units * -np.expm1(-missing * hit / elastic_units)
    nodes_each = training_ranks / elastic_units / node_ranks
    some = distributions.poisson_more_than(policy_spare_nodes, nodes_in_repair)
    spread = missing / nodes_each + 0.5 * np.maximum(1.0 - 1.0 / nodes_each, 0.0) * some
    return np.minimum(np.maximum(spread, some * np.maximum(1.0, 1.0 / nodes_each)), elastic_units)


@quantity("1", over="policy", source="EQ-72: the global batch is kept")
def policy_missing_share(
    policy_computing_share, policy_straggler_share, policy_missing_units, elastic_units, policy_missing_sites_share
) -> Array:
    """Share of the wall clock that the missing replicas would have saved, those of sites that are away included."""
    here = 1.0 - policy_missing_sites_share
    missing = policy_missing_sites_share + here * (policy_missing_units / elastic_units)
    return (policy_computing_share - policy_straggler_share) * np.minimum(missing, _WORST)


@quantity("1", over="policy", source="what is left")
def policy_goodput(policy_computing_share, policy_straggler_share, policy_missing_share) -> Array:
    """Useful compute over wall clock: the time of the run's steps when nothing is lost, over the time it takes."""
    return np.maximum(policy_computing_share - policy_straggler_share - policy_missing_share, 1e-12)


@quantity("1", over="policy", source="sum", parts=_PARTS)
def policy_share(
    policy_goodput, policy_writing_share, policy_rework_share, policy_restart_share, policy_down_share,
    policy_stall_share, policy_return_share, policy_corruption_share, policy_group_share, policy_straggler_share,
    policy_missing_share,
) -> Array:
    """The whole wall clock: goodput and what is lost, by cause. It is 1."""
    return add((
        policy_goodput, policy_writing_share, policy_rework_share, policy_restart_share, policy_down_share,
        policy_stall_share, policy_return_share, policy_corruption_share, policy_group_share, policy_straggler_share,
        policy_missing_share,
    ))  # fmt: skip


@quantity("1", over="policy", source="definition")
def policy_goodput_per_accelerator(policy_goodput, policy_spare_nodes, training_ranks, node_ranks) -> Array:
    """Goodput of all accelerators that are held, spares included: what compares policies at equal hardware."""
    return policy_goodput / (1.0 + policy_spare_nodes * node_ranks / training_ranks)


@quantity("1", over="policy", source="definition")
def policy_days(policy_goodput, productive_s, other_share) -> Array:
    """Days of the run under a policy."""
    return lasting_s(productive_s, policy_goodput, other_share) / 86400.0


@quantity("1", over="policy", source="failures come while the run is played")
def policy_failures(
    policy_failures_per_s, policy_played_share, policy_days, training_accelerators, lockstep_accelerators
) -> Array:
    """Interruptions from the first step to the last, those of all groups; while others have the cluster it fails as often."""
    one = policy_failures_per_s * policy_played_share * policy_days * 86400.0
    return one * (training_accelerators / lockstep_accelerators)


@quantity("1", over="policy", source="in proportion to the accelerators of all groups")
def policy_all_spare_nodes(policy_spare_nodes, training_accelerators, lockstep_accelerators) -> Array:
    """Nodes that stand by in the whole run, those of all groups."""
    return policy_spare_nodes * (training_accelerators / lockstep_accelerators)


# ---------------------------------------------------------------------------------------------------- the policy of the run


@quantity("1", source="the policy of the run")
def goodput(policy_goodput, chosen_policy) -> Array:
    """Useful compute over wall clock under the policy of the run."""
    return policy_goodput[chosen_policy]


def _endless(values) -> str:
    every, kept = (float(np.ravel(values[name, None])[0]) for name in ("mean_time_to_failure_s", "goodput"))
    return (
        f"the run does not end: under {values['chosen_policy']}, with a failure every {units.show(every, 's')}, "
        f"{kept:.2g} of the time is left for it; days, cost and energy mean nothing"
    )


@quantity("1", source="less than a thousandth of the time is left for the run", message=_endless)
def run_ends(goodput, mean_time_to_failure_s) -> Array:
    """The run gets somewhere: what failures and their recovery leave of the wall clock is not next to nothing."""
    return np.where((goodput >= LEAST_GOODPUT) & (mean_time_to_failure_s > 0), 1.0, 0.0)


@quantity("s", source="the policy of the run")
def checkpoint_interval_s(policy_interval_s, chosen_policy) -> Array:
    """Compute between two checkpoints in storage."""
    return policy_interval_s[chosen_policy]


@quantity("Bps", source="definition")
def checkpoint_mean_Bps(checkpoint_B, checkpoint_interval_s, training_accelerators, lockstep_accelerators) -> Array:
    """Mean rate at which checkpoints go to storage, those of all groups."""
    return checkpoint_B / checkpoint_interval_s * (training_accelerators / lockstep_accelerators)


@quantity("1", source="EQ-70")
def checkpoints_kept(corruption_detect_s, checkpoint_interval_s) -> Array:
    """Checkpoints to hold so that one from before a corruption is left when it is detected."""
    return reliability.checkpoints_to_keep(corruption_detect_s, checkpoint_interval_s)


@quantity("1", source="the layout's accelerators and the spares of the policy")
def run_accelerators(training_accelerators, policy_spare_nodes, node_ranks, training_ranks, chosen_policy) -> Array:
    """Accelerators that the run holds."""
    spare = policy_spare_nodes[chosen_policy] * node_ranks / training_ranks
    return training_accelerators * (1.0 + spare)


@quantity("1", source="definition")
def run_days(run_wall_s) -> Array:
    """Days from the first step to the last."""
    return run_wall_s / 86400.0
