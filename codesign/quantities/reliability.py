"""Failures of a run, by component, and what each policy of recovery makes of them: goodput, and where the rest goes.

All policies are played by one law (`laws.two_tier`): a share of the failures goes on from a copy in memory (of a live
replica, of the own host, of a peer), the others from storage. Without copies it is the closed form of `laws.checkpoints`.
Shares of the wall clock are taken in a fixed order, so that they add up to 1 to the last bit but rounding: waiting for
repair, planned returns, corruption, then what the play says, then stragglers and missing replicas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity
from codesign.laws import checkpoints, distributions, early_life, reliability, states, two_tier

Array = NDArray[np.float64]

_WORST = 1.0 - 1e-12  # a share that is lost at most, so that the wall clock stays finite
_PARTS = (
    "policy_goodput", "policy_writing_share", "policy_rework_share", "policy_restart_share", "policy_down_share",
    "policy_stall_share", "policy_return_share", "policy_corruption_share", "policy_straggler_share",
    "policy_missing_share",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- rates


@quantity("per_s", source="EQ-67")
def early_extra_per_s(early_failed_share, settling_s, burn_in_s, failure_rate_factor) -> Array:
    """Hazard of an accelerator over the settled one when the run begins."""
    none = np.zeros(1)  # the settled hazard is the same for both
    fresh = reliability.early_per_s_of_share(early_failed_share, none, settling_s) * failure_rate_factor
    return reliability.after_burn_in_per_s(fresh, none, settling_s, burn_in_s)


@quantity("1", source="EQ-67")
def early_life_start_factor(early_extra_per_s, component_unit_per_s, failure_rate_factor) -> Array:
    """Hazard of accelerators over the settled one when the run begins."""
    return 1.0 + early_extra_per_s / np.maximum(component_unit_per_s["accelerator"] * failure_rate_factor, 1e-30)


@quantity("1", source="EQ-63, EQ-67: renewal of replaced parts")
def early_life_factor(
    productive_s, early_extra_per_s, settling_s, early_replaced_share, component_units, component_unit_per_s,
    failure_rate_factor, chosen_policy, checkpoint_blocking_s, policy_storage_restart_s, checkpoint_lag_s,
    policy_memory_down_s, mean_step_s,
) -> Array:
    """Constant hazard of accelerators that makes the run as long as the decaying one, over the settled hazard.

    Replaced parts are as young as the first ones were. The clock is that of the run's own policy, all state read back
    from storage: where a copy in memory is nearer, the hardware is a little younger.
    """
    unit = {c: component_unit_per_s[c] * failure_rate_factor for c in component_units}
    settled = np.maximum(unit["accelerator"], 1e-30)
    other = add(component_units[c] * unit[c] for c in component_units if c != "accelerator")
    steady = early_life.steady_per_s(
        component_units["accelerator"], productive_s, other, settled + early_extra_per_s, settled, settling_s,
        early_replaced_share, checkpoint_blocking_s, policy_storage_restart_s[chosen_policy] + checkpoint_lag_s,
        policy_memory_down_s[chosen_policy], np.maximum(mean_step_s, checkpoint_lag_s),
    )  # fmt: skip
    return (steady - other) / (component_units["accelerator"] * settled)


@quantity("per_s", over="component", source="EQ-60")
def component_failures_per_s(
    component_units, component_unit_per_s, component_ages, early_life_factor, failure_rate_factor
) -> Array:
    """Failures of all units of a component, on average over the run."""
    aged = 1.0 + component_ages * (early_life_factor - 1.0)
    return component_units * component_unit_per_s * failure_rate_factor * aged


@quantity("per_s", source="EQ-60: a series system")
def interruptions_per_s(component_failures_per_s) -> Array:
    """Interruptions of the job: the sum over components."""
    return add(component_failures_per_s.values())


@quantity("per_s", source="EQ-67")
def first_interruptions_per_s(
    component_units, component_unit_per_s, component_ages, early_life_start_factor, failure_rate_factor
) -> Array:
    """Interruptions of the job when the run begins."""
    return add(
        component_units[c] * component_unit_per_s[c] * failure_rate_factor
        * (1.0 + component_ages[c] * (early_life_start_factor - 1.0))
        for c in component_units
    )  # fmt: skip


@quantity("per_s", source="EQ-67")
def settled_interruptions_per_s(component_units, component_unit_per_s, failure_rate_factor) -> Array:
    """Interruptions of the job when early failures are over."""
    return add(component_units[c] * component_unit_per_s[c] * failure_rate_factor for c in component_units)


@quantity("s", source="EQ-60")
def mean_time_to_failure_s(interruptions_per_s) -> Array:
    """Mean time between two interruptions of the job while it runs."""
    return reliability.mean_time_s(interruptions_per_s)


@quantity("1", source="EQ-60")
def failures_per_day(interruptions_per_s) -> Array:
    """Interruptions of the job a day of running."""
    return 86400.0 * interruptions_per_s


@quantity("1", source="EQ-60")
def expected_failures(policy_failures, chosen_policy) -> Array:
    """Interruptions in the whole run under its policy."""
    return policy_failures[chosen_policy]


@quantity("s", source="EQ-71")
def rare_event_s(rare_event_probability, training_accelerators, mean_step_s) -> Array:
    """Mean time between events that come once in a million steps of one accelerator, somewhere in the job."""
    return 1.0 / reliability.rare_event_rate_per_s(rare_event_probability, training_accelerators, mean_step_s)


@quantity("1", source="EQ-71")
def rare_events(rare_event_probability, training_accelerators, phase_steps) -> Array:
    """Events in the run that come once in a million steps of one accelerator."""
    return rare_event_probability * training_accelerators * add(phase_steps.values())


@quantity("1", source="EQ-71")
def data_rare_events(rare_event_probability, phase_steps) -> Array:
    """Events in the run that come once in a million steps of the job, because they depend on the data alone."""
    return rare_event_probability * add(phase_steps.values())


@quantity("s", source="definition")
def mean_step_s(productive_s, phase_steps) -> Array:
    """Mean step of the run when nothing fails."""
    return productive_s / add(phase_steps.values())


# ---------------------------------------------------------------------------------------------------- domains


@quantity("1", over="domain", source="stated order of the dimensions, innermost first")
def domain_replicas_hit(domain_ranks, data_parallel_stride, data_parallel) -> Array:
    """Data-parallel replicas that lose a rank when the domain goes, in the worst place."""
    return reliability.replicas_hit(domain_ranks, data_parallel_stride, data_parallel)


@quantity("1", over="component", source="stated order of the dimensions, innermost first")
def component_replicas_hit(component_domain_ranks, data_parallel_stride, data_parallel) -> Array:
    """Data-parallel replicas that lose a rank with one failure of the component, in the worst place."""
    hit = reliability.replicas_hit(np.maximum(component_domain_ranks, 1.0), data_parallel_stride, data_parallel)
    return np.where(component_domain_ranks > 0, hit, 0.0)


@quantity("1", over="component", source="stated order of the dimensions, innermost first")
def component_units_hit(component_domain_ranks, data_parallel_stride, elastic_unit_replicas, elastic_units) -> Array:
    """Elastic units (replicas, or groups of them that hold one copy of the state) lost with one failure."""
    stride = data_parallel_stride * elastic_unit_replicas
    hit = reliability.replicas_hit(np.maximum(component_domain_ranks, 1.0), stride, elastic_units)
    return np.where(component_domain_ranks > 0, hit, 0.0)


@quantity("1", source="EQ-68")
def nodes_in_repair(component_failures_per_s, component_repaired, component_domain_ranks, node_ranks, repair_s) -> Array:
    """Mean number of nodes that are out for repair."""
    return add(
        component_failures_per_s[c] * component_repaired[c] * component_domain_ranks[c] / node_ranks * repair_s
        for c in component_failures_per_s
    )


@quantity("per_s", source="EQ-72")
def part_losses_per_s(component_failures_per_s, component_repaired) -> Array:
    """Failures that take a part out until it is repaired, and so come with a return."""
    return add(component_failures_per_s[c] * component_repaired[c] for c in component_failures_per_s)


# ---------------------------------------------------------------------------------------------------- checkpoints


@quantity("B", source="EQ-10")
def checkpoint_B(checkpoint_parameters, checkpoint_weight_B, checkpoint_moment_B, checkpoint_moments) -> Array:
    """One checkpoint: master weights and moments of all parameters."""
    return states.checkpoint_B(checkpoint_parameters, checkpoint_weight_B, checkpoint_moment_B, checkpoint_moments)


@quantity("s", source="bytes over the smaller of storage and network")
def checkpoint_write_s(checkpoint_B, storage_Bps, training_ranks, nic_Bps) -> Array:
    """Time to write one checkpoint to storage."""
    return checkpoints.write_s(checkpoint_B, storage_Bps, training_ranks, nic_Bps)


@quantity("s", source="bytes over the smaller of storage and network")
def checkpoint_read_s(checkpoint_B, storage_read_Bps, training_ranks, nic_Bps) -> Array:
    """Time to read one checkpoint from storage."""
    return checkpoints.write_s(checkpoint_B, storage_read_Bps, training_ranks, nic_Bps)


@quantity("s", source="bytes of a rank over its link to the host")
def checkpoint_snapshot_s(checkpoint_B, training_ranks, host_link_Bps) -> Array:
    """Time to copy a checkpoint to the memory of the hosts, or back."""
    return checkpoint_B / training_ranks / host_link_Bps


@quantity("s", source="bytes of a rank over its NIC, once for each further copy")
def checkpoint_copy_s(checkpoint_B, training_ranks, nic_Bps, peer_copies) -> Array:
    """Time to send a checkpoint to the memory of its peers."""
    return checkpoint_B / training_ranks / nic_Bps * (peer_copies - 1.0)


@quantity("s", source="EQ-63")
def checkpoint_blocking_s(checkpoint_kind, checkpoint_write_s, checkpoint_snapshot_s, checkpoint_slowdown) -> Array:
    """Compute time that a checkpoint to storage takes away; a snapshot in memory is there already for memory and peer."""
    if checkpoint_kind == "synchronous":
        return checkpoint_write_s
    snapshot = checkpoint_snapshot_s if checkpoint_kind == "asynchronous" else 0.0 * checkpoint_snapshot_s
    return checkpoints.blocking_s(snapshot, checkpoint_write_s, checkpoint_slowdown)


@quantity("s", source="EQ-65")
def memory_blocking_s(checkpoint_kind, checkpoint_snapshot_s, checkpoint_copy_s, checkpoint_slowdown) -> Array:
    """Compute time that a copy to memory takes away."""
    if checkpoint_kind not in ("memory", "peer"):
        return 0.0 * checkpoint_snapshot_s
    copying = checkpoint_copy_s if checkpoint_kind == "peer" else 0.0 * checkpoint_copy_s
    return checkpoints.blocking_s(checkpoint_snapshot_s, copying, checkpoint_slowdown)


@quantity("s", source="asynchronous writing: what was computed meanwhile is lost with it")
def checkpoint_lag_s(checkpoint_kind, checkpoint_write_s) -> Array:
    """Time from a snapshot until it can be restored from storage."""
    return checkpoint_write_s if checkpoint_kind != "synchronous" else 0.0 * checkpoint_write_s


# ---------------------------------------------------------------------------------------------------- policies


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
def policy_storage_down_s(
    policy_memory_down_s, component_failures_per_s, interruptions_per_s, policy_survived_per_s, site_outage_s
) -> Array:
    """Time after a failure that goes back to storage in which nothing runs: an outage of the site included."""
    back = interruptions_per_s - policy_survived_per_s
    share = np.where(back > 0, component_failures_per_s["site"] / np.where(back > 0, back, 1.0), 0.0)
    return policy_memory_down_s + np.minimum(share, 1.0) * site_outage_s


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
    checkpoint_blocking_s, policy_memory_blocking_s, interruptions_per_s, policy_survived_per_s
) -> Array:
    """Best compute between two checkpoints in storage; without bound where nothing goes back to storage.

    Copies in memory are kept to their own best interval where that is the shorter one; else each goes to storage.
    """
    back = np.maximum(interruptions_per_s - policy_survived_per_s, 0.0)
    back = np.where(back > 1e-12 * interruptions_per_s, back, 0.0)  # what is left of a difference is rounding
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


# ---------------------------------------------------------------------------------------------------- shares of the wall clock


@quantity("1", source="EQ-68")
def spare_nodes(nodes_in_repair, spares_are_stated, stated_spare_nodes, spare_quantile) -> Array:
    """Hot spare nodes: as stated, or as many as suffice at a random instant."""
    if spares_are_stated:
        return 1.0 * stated_spare_nodes
    return distributions.poisson_quantile(spare_quantile, nodes_in_repair)


@quantity("1", over="policy", source="definition")
def policy_spare_nodes(policy, spare_nodes, elastic_has_spares) -> Array:
    """Nodes that stand by under a policy."""
    return spare_nodes if policy == "hot-spares" or (policy == "elastic" and elastic_has_spares) else 0.0 * spare_nodes


@quantity("1", over="policy", source="EQ-68")
def policy_stall_share(policy, nodes_in_repair, policy_spare_nodes, spares_are_stated, spare_quantile) -> Array:
    """Share of the wall clock in which the run waits because more nodes are out than there are spares.

    Spares of a quantile are whole nodes, so that the share is less than what the quantile leaves, by steps: the bound is
    taken, for more failures would else sometimes seem to cost less.
    """
    if policy != "hot-spares":
        return 0.0 * nodes_in_repair
    if spares_are_stated:
        return np.minimum(distributions.poisson_more_than(policy_spare_nodes, nodes_in_repair), _WORST)
    return np.minimum(-np.expm1(-nodes_in_repair), 1.0 - spare_quantile)


@quantity("1", over="policy", source="EQ-72")
def policy_return_share(
    policy, part_losses_per_s, policy_stall_share, reconfigure_s, restart_s, checkpoint_read_s, policy_memory_restart_s
) -> Array:
    """Share of the wall clock in which repaired nodes are taken back into a run that went on without them."""
    stop = {
        "elastic": reconfigure_s + policy_memory_restart_s,
        "degraded": reconfigure_s + restart_s + checkpoint_read_s,
    }.get(policy, 0.0 * reconfigure_s)
    lost = part_losses_per_s * stop
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
def policy_played_share(policy_stall_share, policy_return_share, policy_corruption_share) -> Array:
    """Share of the wall clock in which the run computes, writes, or recovers from a failure."""
    return np.maximum(1.0 - policy_stall_share - policy_return_share - policy_corruption_share, 1e-15)


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


def _lost_in_play(played, computing, writing, stopped) -> tuple[Array, Array, Array]:
    """Rework, restart and down: what is neither computing nor writing, split so that the three add up to it."""
    lost = np.maximum(played - computing - writing, 0.0)
    down, restart = played * stopped[0], played * stopped[1]
    scale = np.minimum(lost / np.maximum(down + restart, 1e-300), 1.0)
    down, restart = down * scale, restart * scale
    return np.maximum(lost - down - restart, 0.0), restart, down




@quantity("1", over="policy", source="EQ-63")
def policy_down_share(
    policy_played_share, policy_computing_share, policy_writing_share, policy_failures_per_s, interruptions_per_s,
    policy_memory_share, policy_memory_restart_s, policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
) -> Array:
    """Share of the wall clock from a failure to the begin of the restart."""
    stopped = _stopped(
        policy_failures_per_s, interruptions_per_s, policy_memory_share, policy_memory_restart_s,
        policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
    )  # fmt: skip
    return _lost_in_play(policy_played_share, policy_computing_share, policy_writing_share, stopped)[2]


@quantity("1", over="policy", source="EQ-63")
def policy_restart_share(
    policy_played_share, policy_computing_share, policy_writing_share, policy_failures_per_s, interruptions_per_s,
    policy_memory_share, policy_memory_restart_s, policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
) -> Array:
    """Share of the wall clock in restarts."""
    stopped = _stopped(
        policy_failures_per_s, interruptions_per_s, policy_memory_share, policy_memory_restart_s,
        policy_storage_restart_s, policy_memory_down_s, policy_storage_down_s,
    )  # fmt: skip
    return _lost_in_play(policy_played_share, policy_computing_share, policy_writing_share, stopped)[1]


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
    if policy not in ("elastic", "degraded"):
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
def policy_missing_share(policy_computing_share, policy_straggler_share, policy_missing_units, elastic_units) -> Array:
    """Share of the wall clock that the missing replicas would have saved."""
    return (policy_computing_share - policy_straggler_share) * np.minimum(policy_missing_units / elastic_units, _WORST)


@quantity("1", over="policy", source="what is left")
def policy_goodput(policy_computing_share, policy_straggler_share, policy_missing_share) -> Array:
    """Useful compute over wall clock: the time of the run's steps when nothing is lost, over the time it takes."""
    return np.maximum(policy_computing_share - policy_straggler_share - policy_missing_share, 1e-12)


@quantity("1", over="policy", source="sum", parts=_PARTS)
def policy_share(
    policy_goodput, policy_writing_share, policy_rework_share, policy_restart_share, policy_down_share,
    policy_stall_share, policy_return_share, policy_corruption_share, policy_straggler_share, policy_missing_share,
) -> Array:
    """The whole wall clock: goodput and what is lost, by cause. It is 1."""
    return add((
        policy_goodput, policy_writing_share, policy_rework_share, policy_restart_share, policy_down_share,
        policy_stall_share, policy_return_share, policy_corruption_share, policy_straggler_share, policy_missing_share,
    ))  # fmt: skip


@quantity("1", over="policy", source="definition")
def policy_goodput_per_accelerator(policy_goodput, policy_spare_nodes, training_ranks, node_ranks) -> Array:
    """Goodput of all accelerators that are held, spares included: what compares policies at equal hardware."""
    return policy_goodput / (1.0 + policy_spare_nodes * node_ranks / training_ranks)


@quantity("1", over="policy", source="definition")
def policy_days(policy_goodput, productive_s, other_share) -> Array:
    """Days of the run under a policy."""
    return productive_s / policy_goodput / (1.0 - other_share) / 86400.0


@quantity("1", over="policy", source="failures come while the run is played")
def policy_failures(policy_failures_per_s, policy_played_share, productive_s, policy_goodput) -> Array:
    """Interruptions in the whole run."""
    return policy_failures_per_s * policy_played_share * productive_s / policy_goodput


# ---------------------------------------------------------------------------------------------------- the policy of the run


@quantity("1", source="the policy of the run")
def goodput(policy_goodput, chosen_policy) -> Array:
    """Useful compute over wall clock under the policy of the run."""
    return policy_goodput[chosen_policy]


@quantity("s", source="the policy of the run")
def checkpoint_interval_s(policy_interval_s, chosen_policy) -> Array:
    """Compute between two checkpoints in storage."""
    return policy_interval_s[chosen_policy]


@quantity("Bps", source="definition")
def checkpoint_mean_Bps(checkpoint_B, checkpoint_interval_s) -> Array:
    """Mean rate at which checkpoints go to storage."""
    return checkpoint_B / checkpoint_interval_s


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
