"""What fails in a run, how often, and what one failure takes down; what a checkpoint is and costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity
from codesign.laws import checkpoints, early_life, reliability, states

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- rates


@quantity("s", source="sum: the parts run while the launch waits; those that are replaced meanwhile are taken as old as the rest")
def burn_in_s(hardware_age_s, launch_wait_s) -> Array:
    """Age of the accelerators when the run begins."""
    return hardware_age_s + launch_wait_s


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
    policy_memory_down_s, mean_step_s, launch_speed_gain,
) -> Array:
    """Constant hazard of accelerators that makes the run as long as the decaying one, over the settled hazard.

    Replaced parts are as young as the first ones were. The clock is that of the run's own policy, all state read back
    from storage: where a copy in memory is nearer, the hardware is a little younger. A run that is launched later is
    shorter by what was improved meanwhile: less of it is old.
    """
    unit = {c: component_unit_per_s[c] * failure_rate_factor for c in component_units}
    settled = np.maximum(unit["accelerator"], 1e-30)
    other = add(component_units[c] * unit[c] for c in component_units if c != "accelerator")
    steady = early_life.steady_per_s(
        component_units["accelerator"], productive_s / launch_speed_gain, other, settled + early_extra_per_s, settled,
        settling_s, early_replaced_share, checkpoint_blocking_s, policy_storage_restart_s[chosen_policy] + checkpoint_lag_s,
        policy_memory_down_s[chosen_policy], np.maximum(mean_step_s / launch_speed_gain, checkpoint_lag_s),
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
def domain_replicas_hit(domain_ranks, data_parallel_stride, site_data_parallel) -> Array:
    """Data-parallel replicas that lose a rank when the domain goes, in the worst place: those of one site at most."""
    return reliability.replicas_hit(domain_ranks, data_parallel_stride, site_data_parallel)


@quantity("1", over="component", source="stated order of the dimensions, innermost first")
def component_replicas_hit(component_domain_ranks, data_parallel_stride, site_data_parallel) -> Array:
    """Data-parallel replicas that lose a rank with one failure of the component, in the worst place."""
    hit = reliability.replicas_hit(np.maximum(component_domain_ranks, 1.0), data_parallel_stride, site_data_parallel)
    return np.where(component_domain_ranks > 0, hit, 0.0)


@quantity("1", over="component", source="stated order of the dimensions, innermost first")
def component_units_hit(
    component_domain_ranks, data_parallel_stride, elastic_unit_replicas, site_elastic_units
) -> Array:
    """Elastic units (replicas, or groups of them that hold one copy of the state) lost with one failure."""
    stride = data_parallel_stride * elastic_unit_replicas
    hit = reliability.replicas_hit(np.maximum(component_domain_ranks, 1.0), stride, site_elastic_units)
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
def checkpoint_write_s(checkpoint_B, checkpoint_storage_Bps, training_ranks, nic_Bps) -> Array:
    """Time to write one checkpoint to storage."""
    return checkpoints.write_s(checkpoint_B, checkpoint_storage_Bps, training_ranks, nic_Bps)


@quantity("s", source="bytes over the smaller of storage and network")
def checkpoint_read_s(checkpoint_B, checkpoint_read_Bps, training_ranks, nic_Bps) -> Array:
    """Time to read one checkpoint from storage."""
    return checkpoints.write_s(checkpoint_B, checkpoint_read_Bps, training_ranks, nic_Bps)


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
