"""Training across sites in lock-step: all-reduce over the WAN, what overlap hides, pipelines across sites, work by speed.

EQ-81 to EQ-83, EQ-86, EQ-87. Elementwise over float64 arrays that broadcast together; `site_Bps` is what one site sends
and receives per second and direction over the WAN, all its ranks together. One site costs nothing anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.laws import collectives

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- all-reduce


def wan_wire_B(message_B: Array, sites: Array) -> Array:
    """Bytes that each site sends in an all-reduce across sites, 2(K-1)/K S  (EQ-81). S: parameters times bytes."""
    return collectives.wire_B("all_reduce", message_B, sites)


def wan_ring_s(message_B: Array, sites: Array, one_way_s: Array, site_Bps: Array) -> Array:
    """All-reduce across sites in a ring: 2(K-1)/K S/B + 2(K-1) latency  (EQ-82)."""
    return collectives.ring_all_reduce_s(message_B, sites, one_way_s, site_Bps)


def wan_direct_s(message_B: Array, sites: Array, one_way_s: Array, site_Bps: Array) -> Array:
    """All-reduce by direct exchange, every site with every other: 2(K-1)/K S/B + 2 latencies  (EQ-82)."""
    return np.where(sites > 1, 2.0 * one_way_s, 0.0) + wan_wire_B(message_B, sites) / site_Bps


def hierarchical_s(
    scatter_s: Array, across_s: Array, gather_s: Array, latency_s: Array, chunks: Array | float = 1.0
) -> Array:
    """Reduce-scatter in the site, all-reduce across, all-gather in the site, in `chunks` that follow each other  (EQ-82).

    Latency + (a + b + c)/n + (1 - 1/n) max(a, b, c): the plain sum for one chunk, the slowest stage for many. `across_s`
    without latency; chunks in flight hide all but one latency.
    """
    slowest = np.maximum(np.maximum(scatter_s, across_s), gather_s)
    whole = scatter_s + across_s + gather_s
    return latency_s + whole / chunks + (1.0 - 1.0 / chunks) * slowest


def exposed_s(transfer_s: Array, window_s: Array, tail_s: Array | float = 0.0) -> Array:
    """What a window of compute does not hide of a transfer; at least `tail_s`, which can only start when the window ends.

    Overlap with the backward pass: window = backward time, tail = the last chunk with its latency. One step late: window
    = the whole step, no tail.
    """
    return np.maximum(transfer_s - window_s, np.minimum(tail_s, transfer_s))


def required_Bps(message_B: Array, sites: Array, window_s: Array, latency_s: Array | float = 0.0) -> Array:
    """Rate per site and direction that ends the all-reduce within the window  (EQ-81); infinite where latency fills it."""
    left_s = window_s - latency_s
    enough = left_s > 0
    rate = wan_wire_B(message_B, sites) / np.where(enough, left_s, 1.0)
    return np.where(enough, rate, np.where(sites > 1, np.inf, 0.0))


def utilisation(compute_s: Array, exposed_s: Array) -> Array:
    """Share of time in compute: T_c/(T_c + exposed)  (EQ-83). Without overlap all of the transfer is exposed; with full
    overlap, T_x - T_c of it, which gives min(1, T_c/T_x)."""
    return compute_s / (compute_s + exposed_s)


# ---------------------------------------------------------------------------------------------------- traffic matrix


def ring_neighbour_B(message_B: Array, sites: Array) -> Array:
    """Bytes from a site to the next one in a ring all-reduce: all that it sends."""
    return wan_wire_B(message_B, sites)


def direct_pair_B(message_B: Array, sites: Array) -> Array:
    """Bytes from a site to each other one in a direct all-reduce: 2 S/K, scattered and gathered."""
    return np.where(sites > 1, 2.0 * message_B / sites, 0.0)


# ---------------------------------------------------------------------------------------------------- pipeline


def pipeline_crossing_s(
    one_way_s: Array, transfer_s: Array, micro_batches: Array, stages_beyond: Array, micro_batch_s: Array,
    extra_in_flight: Array | float = 0.0,
) -> Array:
    """What one crossing of a 1F1B pipeline between sites adds to the step; exact for uniform stages.

    With c = latency + transfer, t one micro-batch forward and backward on a stage, q stages beyond the crossing and k
    micro-batches more in flight before it: 2c for filling and draining (EQ-82), and floor((m - q)/(2 + k)) max(0, 2c -
    k t), since a micro-batch forward waits for one that comes back two (and k) turns earlier. So k = ceil(2c/t) hides
    the latency, for k more micro-batches of activations. The link must carry a micro-batch each t, else it paces.
    """
    hop_s = one_way_s + transfer_s
    rounds = np.floor(np.maximum(micro_batches - stages_beyond, 0.0) / (2.0 + extra_in_flight))
    waits_s = rounds * np.maximum(2.0 * hop_s - extra_in_flight * micro_batch_s, 0.0)
    paced_s = (micro_batches - 1.0) * np.maximum(transfer_s - micro_batch_s, 0.0)
    return 2.0 * hop_s + np.maximum(waits_s, paced_s)


def micro_batches_to_hide(one_way_s: Array, transfer_s: Array, micro_batch_s: Array) -> Array:
    """Micro-batches more in flight before a crossing, so that only filling and draining feel it."""
    return np.ceil(2.0 * (one_way_s + transfer_s) / micro_batch_s)


# ---------------------------------------------------------------------------------------------------- unequal sites


def work_shares(speeds: Sequence[Array]) -> list[Array]:
    """Share of the work for each site so that all finish together: in proportion to speed."""
    total = np.zeros(1)
    for speed in speeds:
        total = total + speed
    return [speed / total for speed in speeds]


def even_split_factor(speeds: Sequence[Array]) -> Array:
    """Time with the work split evenly over the time with it split by speed: mean speed over the slowest. At least 1."""
    total, slowest = np.zeros(1), speeds[0]
    for speed in speeds:
        total = total + speed
        slowest = np.minimum(slowest, speed)
    return total / (slowest * float(len(speeds)))


# ---------------------------------------------------------------------------------------------------- limits


# Runs of 3 months on hardware of 2024 in Epoch's simulation (arXiv 2411.01137): utilisation falls, nothing larger ends
SIMULATED_LIMITS_FLOP = (2e28, 2e31)


def latency_wall_s(tokens: Array, batch_tokens: Array, layers: Array, layer_latency_s: Array) -> Array:
    """Least time of a run however many accelerators it has: D/B steps of 2 L latencies each  (EQ-87).

    `layer_latency_s`: kernel launch and tensor-parallel collective of one layer in one direction; `batch_tokens` bounded
    by the critical batch. The mechanism is derived; a simulation of others puts the wall at `SIMULATED_LIMITS_FLOP`.
    """
    return tokens / batch_tokens * 2.0 * layers * layer_latency_s
