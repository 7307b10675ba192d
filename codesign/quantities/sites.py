"""Several sites: what links deliver, what each strategy exchanges over them, what of it is exposed, and what it costs.

Index sets: site, link (both directions), way (one direction of a link), crossing (of a pipeline between sites), phase,
and phase_site (`phase/site`). Which sites exchange what over which links is structure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign import units
from codesign.graph import add, quantity, worst
from codesign.laws import multisite, semisync, transport

Array = NDArray[np.float64]


LEAST_SHARE = 1e-9  # of a link is left to an exchange where the rest fills it: `allows_background` says so


def _of_phase(phase: str, per_site: dict) -> list[Array]:
    return [value for member, value in per_site.items() if member.partition("/")[0] == phase]


# ---------------------------------------------------------------------------------------------------- links


@quantity("s", over="link", source="EQ-86: 4.9 us a km of fibre, or the measured round trip")
def link_path_one_way_s(link_path_s, wan_extra_s) -> Array:
    """One-way latency between the two sites of a link; for a port, between any two sites."""
    return link_path_s + wan_extra_s


@quantity("s", over="link", source="a path over two ports has half of its latency in each")
def link_one_way_s(link_path_one_way_s, link_path_share) -> Array:
    """One-way latency of a link itself."""
    return link_path_one_way_s * link_path_share


@quantity("Bps", over="link", source="EQ-86: transport under loss and latency, Mathis 1997 for TCP")
def link_delivered_Bps(
    link_transport, link_line_Bps, link_usable_share, link_path_one_way_s, link_loss, link_packet_B, link_window_B,
    link_flows, link_paths, wan_factor,
) -> Array:
    """What a link carries for us in each direction: its share, over its paths, as its transport uses them.

    Multipath sprays packets over all paths and repeats what is lost; otherwise flows are placed at random on paths.
    """
    line_Bps = link_line_Bps * wan_factor * link_usable_share / link_paths
    trip_s = 2.0 * link_path_one_way_s
    if link_transport == "multipath":  # all paths together are the line, whatever their number
        return transport.delivered_Bps(
            "selective-repeat", line_Bps * link_paths, trip_s, link_loss, link_packet_B, link_window_B, link_flows
        )
    busy = link_paths * transport.hashed_share(link_flows, link_paths)
    flows = link_flows / busy
    each = transport.delivered_Bps(link_transport, line_Bps, trip_s, link_loss, link_packet_B, link_window_B, flows)
    return each * busy


@quantity("tokens_per_s", source="the fastest phase, nothing exposed: an upper bound")
def most_tokens_per_s(phase_step_tokens, phase_healthy_step_s) -> Array:
    """Tokens a second at which training data is drawn at most."""
    return worst(phase_step_tokens[p] / phase_healthy_step_s[p] for p in phase_step_tokens)


@quantity("Bps", over="way", source="definition")
def way_ingest_Bps(way_ingest_share, most_tokens_per_s, data_token_B) -> Array:
    """Training data on a way: tokens of the sites behind it that do not hold the data set."""
    return way_ingest_share * most_tokens_per_s * data_token_B


@quantity("Bps", over="way", source="mean rate: the copy is spread over its interval")
def way_checkpoint_Bps(way_checkpoint_share, checkpoint_copy_B, checkpoint_copy_every_s) -> Array:
    """Checkpoint copies on a way."""
    return way_checkpoint_share * checkpoint_copy_B / checkpoint_copy_every_s


@quantity("Bps", over="way", source="what the exchange may use")
def way_free_Bps(way, way_link, link_delivered_Bps, way_ingest_Bps, way_checkpoint_Bps) -> Array:
    """Bandwidth of a way beside training data and checkpoints."""
    delivered = link_delivered_Bps[way_link[way]]
    return np.maximum(delivered - way_ingest_Bps - way_checkpoint_Bps, LEAST_SHARE * delivered)


@quantity(
    "1", source="capacity of the links",
    message=lambda v: "links: training data and checkpoint copies leave no bandwidth on at least one link for the exchange",
)
def allows_background(way_link, link_delivered_Bps, way_ingest_Bps, way_checkpoint_Bps) -> Array:
    """Training data and checkpoints leave something of every link."""
    fullest = worst((way_ingest_Bps[w] + way_checkpoint_Bps[w]) / link_delivered_Bps[way_link[w]] for w in way_link)
    return np.where(fullest < 1.0, 1.0, 0.0)


def _transfer_s(message_B: Array, share: dict, free: dict) -> Array:
    return worst(message_B * share[way] / free[way] for way in share)


def _latency_s(routes, rounds: Array, one_way_s: dict) -> Array:
    return rounds * worst(add(one_way_s[link] for link in route) for route in routes)


# ---------------------------------------------------------------------------------------------------- synchronous


@quantity("s", over="phase", source="sites work at the same time; the slowest one paces", worst_of=("phase_site_step_s",))
def phase_healthy_step_s(phase, phase_site_step_s) -> Array:
    """Step of a phase without the exchange between sites."""
    return worst(_of_phase(phase, phase_site_step_s))


@quantity("s", over="phase", source="EQ-81: no longer than the backward pass in which gradients become final")
def phase_window_s(phase, phase_site_window_s) -> Array:
    """Backward pass of the last micro-batch through all stages, on the site where it is shortest."""
    return -worst(-value for value in _of_phase(phase, phase_site_window_s))


@quantity("s", over="phase", source="the site whose own reduction takes longest")
def phase_scatter_s(phase, phase_site_scatter_s) -> Array:
    """Reduction of the gradients inside a site, which comes before that between sites and is part of its step."""
    return worst(_of_phase(phase, phase_site_scatter_s))


@quantity("B", source="EQ-81")
def gradient_message_B(run_parameters, wan_gradient_B) -> Array:
    """Gradients that the sites add up in a step."""
    return run_parameters * wan_gradient_B


@quantity("s", source="EQ-81, EQ-82: the busiest way of the exchange")
def gradient_transfer_s(gradient_message_B, way_gradient_share, way_free_Bps) -> Array:
    """Gradients between sites on the link, without latency."""
    return _transfer_s(gradient_message_B, way_gradient_share, way_free_Bps)


@quantity("s", source="EQ-82: rounds of the exchange over the route of most latency")
def gradient_latency_s(gradient_routes, gradient_rounds, link_one_way_s) -> Array:
    """Latency of one exchange of gradients between sites."""
    return _latency_s(gradient_routes, gradient_rounds, link_one_way_s)


@quantity("s", over="phase", source="EQ-82, EQ-83: reduction in the site, then between sites, in chunks that follow each other")
def phase_inner_exposed_s(
    sync_overlap, sync_chunks, gradient_transfer_s, gradient_latency_s, phase_scatter_s, phase_window_s, phase_healthy_step_s
) -> Array:
    """What exchanging gradients between sites adds to each step, beyond what their reduction in the site adds already."""
    if sync_overlap == "one-step-late":
        return multisite.exposed_s(gradient_transfer_s + gradient_latency_s, phase_healthy_step_s)
    whole_s = multisite.hierarchical_s(
        phase_scatter_s, gradient_transfer_s, np.zeros(1), gradient_latency_s, sync_chunks
    )
    tail_s = gradient_transfer_s / sync_chunks + gradient_latency_s
    window_s = phase_window_s if sync_overlap == "backward" else np.zeros(1)
    hidden_by_site = multisite.exposed_s(phase_scatter_s, window_s)
    # nothing starts before the first chunk is reduced, and the last one is only reduced when the site is done
    return np.where(
        _moves(gradient_transfer_s, gradient_latency_s),
        np.maximum(multisite.exposed_s(whole_s, window_s) - hidden_by_site, tail_s), 0.0,
    )


def _moves(transfer_s: Array, latency_s: Array) -> NDArray[np.bool_]:
    return (transfer_s > 0) | (latency_s > 0)


# ---------------------------------------------------------------------------------------------------- semi-synchronous


@quantity("B", source="EQ-85")
def outer_message_B(run_parameters, outer_element_B) -> Array:
    """Outer gradients of all fragments."""
    return run_parameters * outer_element_B


@quantity("s", source="EQ-85: the busiest way of the exchange between replicas, then of the gather inside a region")
def outer_transfer_s(outer_message_B, way_outer_share, way_gather_share, way_free_Bps) -> Array:
    """All fragments of one outer step on the link, without latency."""
    between = _transfer_s(outer_message_B, way_outer_share, way_free_Bps)
    return between + _transfer_s(outer_message_B, way_gather_share, way_free_Bps)


@quantity("s", source="EQ-82, EQ-85: once a fragment")
def outer_latency_s(outer_routes, outer_rounds, gather_routes, gather_rounds, link_one_way_s, sync_fragments) -> Array:
    """Latency of one outer step, all fragments."""
    between = _latency_s(outer_routes, outer_rounds, link_one_way_s)
    return sync_fragments * (between + _latency_s(gather_routes, gather_rounds, link_one_way_s))


@quantity("s", source="sum", parts=("outer_transfer_s", "outer_latency_s"))
def outer_sync_s(outer_transfer_s, outer_latency_s) -> Array:
    """Exchange of one outer step, all fragments one after the other."""
    return outer_transfer_s + outer_latency_s


@quantity("s", over="phase", source="sum", parts=("phase_healthy_step_s", "phase_inner_exposed_s"))
def phase_inner_step_s(phase_healthy_step_s, phase_inner_exposed_s) -> Array:
    """One inner step, with what synchronous sites inside a region add."""
    return phase_healthy_step_s + phase_inner_exposed_s


@quantity("s", over="phase", source="EQ-85: what the delay does not hide of each fragment, spread over the inner steps")
def phase_outer_exposed_s(outer_sync_s, inner_steps, phase_inner_step_s, sync_fragments, sync_delay) -> Array:
    """What exchanging outer gradients adds to a step, on average."""
    beside_s = sync_delay * phase_inner_step_s
    return semisync.round_exposed_s(outer_sync_s, inner_steps, phase_inner_step_s, sync_fragments, beside_s) / inner_steps


@quantity("B", source="Nesterov momentum and the parameters of the last outer step read and written, average read, copy written")
def outer_moved_B(run_parameters, outer_momentum_B, outer_copy_B, outer_element_B, weakest_ranks) -> Array:
    """Memory traffic of one outer optimizer step on a rank, its state spread evenly over the ranks of the site."""
    each_B = 2.0 * outer_momentum_B + 2.0 * outer_copy_B + outer_element_B + outer_copy_B
    return run_parameters * each_B / weakest_ranks


@quantity("s", source="bytes over memory bandwidth")
def outer_optimizer_s(outer_moved_B, weakest_memory_Bps) -> Array:
    """One step of the outer optimizer."""
    return outer_moved_B / weakest_memory_Bps


@quantity("s", over="phase", source="spread over the inner steps")
def phase_outer_optimizer_s(outer_optimizer_s, inner_steps) -> Array:
    """What the outer optimizer adds to a step, on average."""
    return outer_optimizer_s / inner_steps


@quantity("B", source="EQ-85: outer momentum, the last outer parameters, a buffer while a fragment is under way")
def outer_state_B(run_parameters, outer_momentum_B, outer_copy_B, outer_element_B, sync_fragments, weakest_ranks) -> Array:
    """Memory that the outer optimizer takes on a rank, spread evenly over the ranks of the site (assumed)."""
    whole = semisync.outer_state_B(run_parameters, outer_momentum_B, outer_copy_B, outer_element_B, sync_fragments)
    return whole / weakest_ranks


def _at(values, name) -> float:
    key = (name, None)
    return float(np.ravel(values[key] if key in values else values[name])[0])


@quantity(
    "1", source="capacity of the accelerator",
    message=lambda v: (
        f"memory: the outer optimizer needs {units.show(_at(v, 'outer_state_B'), 'B')} a rank, but the fullest rank has "
        f"{units.show(_at(v, 'least_spare_B'), 'B')} to spare"
    ),
)
def fits_outer_state(outer_state_B, least_spare_B) -> Array:
    """The outer optimizer's state fits beside the step's."""
    return np.where((outer_state_B <= least_spare_B) | (outer_state_B == 0.0), 1.0, 0.0)


# ---------------------------------------------------------------------------------------------------- pipeline


@quantity("s", over="crossing", source="EQ-86")
def crossing_one_way_s(crossing, crossing_links, link_one_way_s) -> Array:
    """One-way latency of a crossing between two stages."""
    return add(link_one_way_s[link] for link in crossing_links[crossing])


@quantity("s", over="phase", source="EQ-82: 1F1B over uniform stages; crossings added up, an upper bound")
def phase_crossing_s(
    crossing_one_way_s, crossing_ways, crossing_stages_beyond, way_crossings, way_free_Bps, phase_crossing_B,
    phase_micro_batches, phase_micro_batch_s, sync_in_flight,
) -> Array:
    """What a pipeline across sites adds to the step: filling, draining, and waiting where too few are in flight."""
    total = []
    for crossing, ways in crossing_ways.items():
        transfer_s = worst(phase_crossing_B * way_crossings[way] / way_free_Bps[way] for way in ways)
        total.append(multisite.pipeline_crossing_s(
            crossing_one_way_s[crossing], transfer_s, phase_micro_batches, crossing_stages_beyond[crossing],
            phase_micro_batch_s, sync_in_flight,
        ))
    return add(total)


@quantity("1", over="phase", source="EQ-82: micro-batches that hide a round trip, each with its activations")
def phase_micro_batches_to_hide(
    crossing_one_way_s, crossing_ways, way_crossings, way_free_Bps, phase_crossing_B, phase_micro_batch_s
) -> Array:
    """Micro-batches more in flight that leave only filling and draining of the worst crossing exposed."""
    return worst(
        multisite.micro_batches_to_hide(
            crossing_one_way_s[crossing],
            worst(phase_crossing_B * way_crossings[way] / way_free_Bps[way] for way in ways), phase_micro_batch_s,
        )
        for crossing, ways in crossing_ways.items()
    )


@quantity("B", source="definition")
def in_flight_memory_B(sync_in_flight, micro_batch_memory_B) -> Array:
    """Activations of the micro-batches that are more in flight because of the distance, on the fullest rank."""
    return sync_in_flight * micro_batch_memory_B


@quantity(
    "1", source="capacity of the accelerator",
    message=lambda v: (
        f"memory: the micro-batches in flight because of the distance take {units.show(_at(v, 'in_flight_memory_B'), 'B')}, "
        f"but the fullest rank has {units.show(_at(v, 'least_spare_B'), 'B')} to spare"
    ),
)
def fits_in_flight(in_flight_memory_B, least_spare_B) -> Array:
    """More micro-batches in flight fit beside what the step holds."""
    return np.where((in_flight_memory_B <= least_spare_B) | (in_flight_memory_B == 0.0), 1.0, 0.0)


# ---------------------------------------------------------------------------------------------------- together


@quantity(
    "s", over="phase", source="sum",
    parts=("phase_inner_exposed_s", "phase_outer_exposed_s", "phase_outer_optimizer_s", "phase_crossing_s"),
)
def phase_sync_exposed_s(
    phase_inner_exposed_s, phase_outer_exposed_s, phase_outer_optimizer_s, phase_crossing_s
) -> Array:
    """What training on several sites adds to a step of a phase."""
    return phase_inner_exposed_s + phase_outer_exposed_s + phase_outer_optimizer_s + phase_crossing_s


@quantity("1", source="EQ-83")
def wan_utilisation(phase_steps, phase_healthy_step_s, productive_s) -> Array:
    """Share of the productive time that is not spent between sites."""
    healthy_s = add(phase_steps[p] * phase_healthy_step_s[p] for p in phase_steps)
    return multisite.utilisation(healthy_s, productive_s - healthy_s)


def joint_multiplier(parameters: Array, replicas: Array) -> Array:
    """Compute that makes up for the loss of M replicas, joint law: M^0.236, 1.18 a doubling, at every size."""
    loss, reference = (semisync.diloco_joint_loss(parameters, m) for m in (replicas, np.ones(1)))
    return semisync.compute_multiplier(loss, reference, np.full(1, -0.0985))


def _penalised(inner_steps: Array, multiplier: Array) -> Array:
    return np.where(inner_steps > 1, multiplier, 1.0)


@quantity("1", source="EQ-49, EQ-88: joint law of Charles 2025 (arXiv 2503.09799), fitted at H = 30; pessimistic above 2 B")
def sync_loss_multiplier(run_parameters, replicas, inner_steps) -> Array:
    """Compute that makes up for the loss of semi-synchronous replicas; 1 where every step is synchronous."""
    return _penalised(inner_steps, joint_multiplier(run_parameters, replicas))


@quantity("1", source="EQ-49: best global batch of M replicas over that of one, Charles 2025; taken for the critical one")
def replicas_batch_factor(replicas, inner_steps) -> Array:
    """Critical batch of all replicas together over that of synchronous training; 1 where every step is synchronous.

    The batch that counts is that of all replicas: a run of S outer and inner steps in a row learns no more than S steps
    of the whole batch would teach, however many replicas take them, but for what the outer momentum adds: M^0.34.
    """
    return _penalised(inner_steps, semisync.batch_of_replicas(replicas))


@quantity("1", source="EQ-49, EQ-88: the fit of each number of replicas, Charles 2025; held at 8 beyond, never below 1")
def sync_loss_multiplier_low(run_parameters, replicas, inner_steps) -> Array:
    """The same from the separate fits, the optimistic end: they cross data parallelism at some size."""
    known = sorted(m for m in semisync.DILOCO_LOSS if m)
    reference = semisync.diloco_loss(run_parameters, 0)
    alpha = np.full(1, semisync.DILOCO_LOSS[0].alpha)
    rows = [semisync.compute_multiplier(semisync.diloco_loss(run_parameters, m), reference, alpha) for m in known]
    place = np.log2(np.clip(replicas, known[0], known[-1]))
    found = np.zeros(1)
    for at, row in enumerate(rows):  # 1, 2, 4, 8: one apart in log2
        found = found + row * np.maximum(1.0 - np.abs(place - float(at)), 0.0)
    return _penalised(inner_steps, np.maximum(found, 1.0))


@quantity("1", source="EQ-88: time and loss together")
def effective_compute_share(wan_utilisation, sync_loss_multiplier) -> Array:
    """Share of the compute that counts against the same sites in one building."""
    return semisync.effective_share(wan_utilisation, sync_loss_multiplier)


@quantity("1", source="EQ-88: time and loss together, the optimistic end")
def effective_compute_share_high(wan_utilisation, sync_loss_multiplier_low) -> Array:
    """The same with the smaller of the two published penalties."""
    return semisync.effective_share(wan_utilisation, sync_loss_multiplier_low)


@quantity("s", source="steps x step of the fastest site with the whole batch")
def alone_s(phase_steps, phase_alone_step_s) -> Array:
    """Time of all steps on the fastest site alone."""
    return add(phase_steps[p] * phase_alone_step_s[p] for p in phase_steps)


@quantity("1", source="EQ-88: against one site, loss counted as compute")
def sites_gain(alone_s, productive_s, sync_loss_multiplier) -> Array:
    """How many times as fast all sites are as the fastest one alone; below 1 the others do not pay."""
    return alone_s / productive_s / sync_loss_multiplier


@quantity("1", source="mean over slowest, EQ-82; whole micro-batches counted")
def even_split_factor(phase_even_step_s, phase_healthy_step_s) -> Array:
    """Step with the batch split evenly over the sites, over the step with it split by speed. Of the slowest phase."""
    return worst(phase_even_step_s[p] / phase_healthy_step_s[p] for p in phase_even_step_s)


# ---------------------------------------------------------------------------------------------------- traffic


@quantity("B", over="way", source="definition: bytes of all classes over the steps of a phase, mean")
def way_step_B(
    way_gradient_share, gradient_message_B, way_outer_share, way_gather_share, outer_message_B, inner_steps, way_crossings,
    first_phase, phase_crossing_B, phase_micro_batches, phase_run_step_s, way_ingest_Bps, way_checkpoint_Bps,
) -> Array:
    """What a way carries in a step of the first phase, on average."""
    return (
        way_gradient_share * gradient_message_B
        + (way_outer_share + way_gather_share) * outer_message_B / inner_steps
        + way_crossings * phase_crossing_B[first_phase] * phase_micro_batches[first_phase]
        + (way_ingest_Bps + way_checkpoint_Bps) * phase_run_step_s[first_phase]
    )


@quantity("1", over="way", source="mean rate over the delivered rate")
def way_mean_share(way, way_link, way_step_B, first_phase, phase_run_step_s, link_delivered_Bps) -> Array:
    """Share of a way that is used on average."""
    return way_step_B / phase_run_step_s[first_phase] / link_delivered_Bps[way_link[way]]

