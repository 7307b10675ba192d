"""Collectives: bytes on the wire, time of the textbook algorithms, of measured curves and of hierarchies, volumes of
each kind of parallelism, and how much of it compute hides. EQ-20 to EQ-33.

All functions are elementwise over float64 arrays that broadcast together. Rates are bytes per second and direction
and rank. The message of all-gather, reduce-scatter, all-reduce and broadcast is the full array; that of an all-to-all
is what one rank holds. Everything is exactly zero for a group of one rank. Lists are network levels, innermost first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Operation = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "p2p", "broadcast"]

# times that (n-1)/n of the message crosses the wire: an all-reduce is a reduce-scatter and an all-gather
_PASSES: dict[str, float] = {"all_gather": 1.0, "reduce_scatter": 1.0, "all_reduce": 2.0, "all_to_all": 1.0}

# Share of the levels beside the slowest one that is not hidden behind it. Fitted (0.31) to 18 all-reduce times of
# 128 KiB to 16 GiB on 4 x 8 B200, ml-engineering@744d01e network/README.md; median error 2.6 %, worst 34 %.
UNHIDDEN_SHARE = 0.31


def wire_B(operation: Operation, message_B: Array, ranks: Array) -> Array:
    """Bytes that each rank sends, bandwidth-optimal algorithm  (EQ-21, EQ-22, EQ-26).

    (n-1)/n S for all-gather, reduce-scatter, all-to-all; twice that for all-reduce; S for a pipelined broadcast and for
    point to point.
    """
    if operation in _PASSES:
        return _PASSES[operation] * ((ranks - 1.0) / ranks) * message_B
    return np.where(ranks > 1, message_B, 0.0)


def three_parameter_s(wire_B: Array, latency_s: Array, rate_Bps: Array, half_B: Array) -> Array:
    """a + (W/B)(1 + sqrt(Wh/W)): latency, asymptotic rate, and the size at which half of that rate is reached.

    Written without the division, so that W = 0 is allowed: it takes no time at all. Fits NCCL inside a node (512 B to
    512 MiB, A100 to GB300) to 1 to 16 % at held-out sizes above 1 MiB, where latency + W/B misses by 4 to 22 %
    (op_fits section 4, fitted to aiconfigurator@095f58a).
    """
    return np.where(wire_B > 0, latency_s + (wire_B + np.sqrt(wire_B * half_B)) / rate_Bps, 0.0)


def p2p_s(message_B: Array, latency_s: Array, rate_Bps: Array, half_B: Array) -> Array:
    """Point to point: latency and a rate that grows with the message  (EQ-20)."""
    return three_parameter_s(message_B, latency_s, rate_Bps, half_B)


def collective_s(
    operation: Operation, message_B: Array, ranks: Array, latency_s: Array, rate_Bps: Array, half_B: Array
) -> Array:
    """One collective on one network level, by its measured three-parameter curve."""
    return three_parameter_s(wire_B(operation, message_B, ranks), latency_s, rate_Bps, half_B)


# ------------------------------------------------------------------------------------------- the textbook algorithms


def ring_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Ring: 2(n-1) hops and 2(n-1)/n S/B  (EQ-21, nccl-tests doc/PERFORMANCE.md)."""
    return 2.0 * (ranks - 1.0) * hop_s + wire_B("all_reduce", message_B, ranks) / rate_Bps


def ring_all_gather_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Ring all-gather, and reduce-scatter: n-1 hops and (n-1)/n S/B, S the full array  (EQ-22)."""
    return (ranks - 1.0) * hop_s + wire_B("all_gather", message_B, ranks) / rate_Bps


def direct_all_to_all_s(local_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Direct all-to-all: n-1 messages, (n-1)/n of what a rank holds  (EQ-26)."""
    return (ranks - 1.0) * hop_s + wire_B("all_to_all", local_B, ranks) / rate_Bps


def tree_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Single binary tree: 2 log2(n) hops and 4S/B, about half of the links idle  (EQ-23)."""
    return np.where(ranks > 1, 2.0 * np.log2(ranks) * hop_s + 4.0 * message_B / rate_Bps, 0.0)


def double_tree_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Double binary tree: 2 log2(n) hops and 2S/B, the ring's asymptotic rate at the tree's latency  (EQ-23)."""
    return np.where(ranks > 1, 2.0 * np.log2(ranks) * hop_s + 2.0 * message_B / rate_Bps, 0.0)


def halving_doubling_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Recursive halving and doubling: 2 log2(n) hops and 2(n-1)/n S/B  (EQ-23). Holds for powers of two."""
    return 2.0 * np.log2(ranks) * hop_s + wire_B("all_reduce", message_B, ranks) / rate_Bps


def best_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """The faster of ring and double binary tree, the two that NCCL chooses between."""
    return np.minimum(
        ring_all_reduce_s(message_B, ranks, hop_s, rate_Bps),
        double_tree_all_reduce_s(message_B, ranks, hop_s, rate_Bps),
    )


def ring_beats_double_tree_B(ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """Message above which the ring is faster than the double tree: n a (n - 1 - log2 n) B  (EQ-23)."""
    return ranks * hop_s * (ranks - 1.0 - np.log2(ranks)) * rate_Bps


def in_network_wire_B(message_B: Array, ranks: Array) -> Array:
    """Bytes that each rank sends in an all-reduce which the switch adds up: (n+1)/n S  (EQ-24, NVLS and SHARP)."""
    return np.where(ranks > 1, (ranks + 1.0) / ranks * message_B, 0.0)


def in_network_all_reduce_s(message_B: Array, ranks: Array, hop_s: Array, rate_Bps: Array) -> Array:
    """All-reduce in the switch: one hop up, one down, (n+1)/n S/B  (EQ-24). A bound: 8 H200 gain 1.29 of 1.56."""
    return np.where(ranks > 1, 2.0 * hop_s + in_network_wire_B(message_B, ranks) / rate_Bps, 0.0)


def in_network_gain_bound(ranks: Array) -> Array:
    """Largest gain of in-network reduction over a ring, 2(n-1)/(n+1)  (EQ-24): 1.56 at 8. Holds from 2 ranks up."""
    return 2.0 * (ranks - 1.0) / (ranks + 1.0)


def in_network_rate_Bps(operation: Operation, rate_Bps: Array, ranks: Array, gain: Array, min_ranks: Array) -> Array:
    """The rate of a level whose switches reduce: `gain` times as high for an all-reduce of at least `min_ranks` ranks.

    Measured: 1.29 on 8 H200 and none at 4 ranks, 1.23 on 8 B200 and none at 5. NCCL's default choice serves all-reduce
    only  (EQ-24, ml-engineering@744d01e).
    """
    if operation != "all_reduce":
        return rate_Bps
    return rate_Bps * np.where(ranks >= min_ranks, gain, 1.0)


# --------------------------------------------------------------------------------------------------- hierarchies


def level_wire_B(operation: Operation, message_B: Array, extents: Sequence[Array]) -> list[Array]:
    """Bytes that each rank sends at each level under the hierarchical algorithm  (EQ-25, EQ-26).

    Gather, scatter, all-reduce: level l moves (n_l - 1)/n_l of what the levels inside have left, S / (n_0 ..
    n_(l-1)): for 4 GiB on 4 x 8 an all-reduce moves 7 GiB inside and 0.75 GiB across. All-to-all: every level moves
    (1 - 1/n_l) of what the rank holds (data goes to the right lane inside first, then across: rails, PXN). A
    broadcast passes S at every level that it crosses, point to point S at the outermost one.
    """
    wires: list[Array] = []
    if operation in ("all_gather", "reduce_scatter", "all_reduce"):
        left_B = message_B
        for extent in extents:
            wires.append(wire_B(operation, left_B, extent))
            left_B = left_B / extent
        return wires
    if operation != "p2p":
        return [wire_B(operation, message_B, extent) for extent in extents]
    outside = np.ones(1)
    for extent in reversed(extents):
        wires.insert(0, np.where(outside > 1, 0.0, wire_B(operation, message_B, extent)))
        outside = outside * extent
    return wires


def hops(extent: Array) -> Array:
    """Sequential hops among the members of a level: n - 1 round a ring or 2 ceil(log2 n) in a tree, whichever is less.

    The logarithm is read off the binary exponent: np.log2 is not correctly rounded, and its ceiling must not differ.
    """
    mantissa, exponent = np.frexp(extent)
    ceil_log2 = exponent - (mantissa == 0.5)
    return np.minimum(np.ceil(extent) - 1.0, 2.0 * ceil_log2)


def level_s(
    operation: Operation, message_B: Array, extents: Sequence[Array], latency_s: Sequence[Array],
    rate_Bps: Sequence[Array], half_B: Sequence[Array], hop_s: Sequence[Array],
) -> list[Array]:
    """Time of each level of the hierarchical algorithm by itself: its three-parameter curve and its hops.

    `latency_s` is paid once at a level that is crossed, `hop_s` once a hop: both are zero where the extent is 1.
    """
    times = []
    wires = level_wire_B(operation, message_B, extents)
    for sent_B, extent, base_s, rate, half, step_s in zip(
        wires, extents, latency_s, rate_Bps, half_B, hop_s, strict=True
    ):
        times.append(three_parameter_s(sent_B, base_s + hops(extent) * step_s, rate, half))
    return times


def pipelined_levels_s(times_s: Sequence[Array], unhidden: Array | float) -> Array:
    """Levels that work at the same time on different pieces: the slowest, and `unhidden` of the others  (EQ-25).

    0 is full overlap (16.1 ms for 4 GiB on 4 x 8 B200), 1 is one after the other (26.25 ms); 22.05 ms measured: 0.31.
    """
    slowest = times_s[0]
    total = times_s[0]
    for time_s in times_s[1:]:
        slowest = np.maximum(slowest, time_s)
        total = total + time_s
    return slowest + unhidden * (total - slowest)


def hierarchical_s(
    operation: Operation, message_B: Array, extents: Sequence[Array], latency_s: Sequence[Array],
    rate_Bps: Sequence[Array], half_B: Sequence[Array], hop_s: Sequence[Array],
    unhidden: Array | float = UNHIDDEN_SHARE,
) -> Array:
    """One collective of a group that spans several network levels  (EQ-25, with ramp, hops and partial overlap).

    Reproduces the 18 measured all-reduces on 4 x 8 B200 of 128 KiB to 16 GiB to 2.6 % median. That fit is for
    all-reduce on two levels; other operations and a third level are extrapolated by the same form.
    """
    return pipelined_levels_s(
        level_s(operation, message_B, extents, latency_s, rate_Bps, half_B, hop_s), unhidden
    )


# ----------------------------------------------------------------------------------------------- measured bandwidths


def bus_Bps(operation: Operation, message_B: Array, time_s: Array, ranks: Array) -> Array:
    """Bus bandwidth as nccl-tests prints it: S/t times 2(n-1)/n or (n-1)/n  (EQ-27). Not a wire rate in a hierarchy."""
    return wire_B(operation, message_B, ranks) / time_s


def from_bus_s(operation: Operation, message_B: Array, bus_Bps: Array, ranks: Array) -> Array:
    """Time behind a printed bus bandwidth  (EQ-27)."""
    return wire_B(operation, message_B, ranks) / bus_Bps


def nic_Bps_behind_bus(bus_Bps: Array, nodes: Array, ranks: Array) -> Array:
    """Rate of each rank's adapter behind the bus bandwidth of a hierarchical all-reduce: busbw (k-1)/(n-1)  (EQ-27)."""
    return bus_Bps * (nodes - 1.0) / (ranks - 1.0)


# ---------------------------------------------------------------------------------------- volumes of the parallelisms


def tensor_parallel_B(activation_B: Array, tp: Array, forward_passes: Array, extra_gathers: Array) -> Array:
    """Bytes each rank sends for one layer and micro-batch, forward and backward  (EQ-28, Korthikanti 2022 4.2.2).

    `activation_B` = s b h e. Forward: 2 all-reduces, or 2 all-gathers and 2 reduce-scatters under sequence
    parallelism, 4 passes either way; backward 4 more. `forward_passes` 2 under full recompute (12 in all);
    `extra_gathers` 2 where the inputs of the linears are stored sharded (10 in all; they hide behind the weight
    gradient).
    """
    passes = 4.0 * forward_passes + 4.0 + extra_gathers
    return passes * wire_B("all_gather", activation_B, tp)


def kv_array_B(sequence: Array, micro_batch: Array, kv_heads: Array, head_dim: Array, element_B: Array) -> Array:
    """K and V of the whole sequence for one layer, 2 s b nkv hd e: what context parallelism passes round  (EQ-29)."""
    return 2.0 * sequence * micro_batch * kv_heads * head_dim * element_B


def context_parallel_forward_B(kv_B: Array, cp: Array) -> Array:
    """Ring or all-gather of K and V in the forward pass: (cp-1)/cp of the array  (EQ-29). Divide `kv_B` by tp."""
    return wire_B("all_gather", kv_B, cp)


def context_parallel_backward_B(kv_B: Array, kv_gradient_B: Array, cp: Array) -> Array:
    """K and V again, and their gradients, in the backward pass  (EQ-29).

    `kv_gradient_B` equals `kv_B` when gradients travel in its dtype, twice that for fp32: the layer's total is 3 to 4
    times its forward pass.
    """
    return wire_B("all_gather", kv_B, cp) + wire_B("reduce_scatter", kv_gradient_B, cp)


def context_all_to_all_B(
    sequence: Array, micro_batch: Array, heads: Array, kv_heads: Array, head_dim: Array, element_B: Array, cp: Array
) -> Array:
    """DeepSpeed-Ulysses, one direction of a layer: all-to-alls of Q, K, V and O  (EQ-29, Jacobs 2023).

    (2 nh + 2 nkv) hd s b e / P * (P-1)/P, which is 4 N h / P elements a link for MHA. Holds for P up to `heads`. Above
    `kv_heads` ranks a KV head is copied, so that each rank gets one.
    """
    kv_sent = np.maximum(kv_heads, cp)
    local_B = (2.0 * heads + 2.0 * kv_sent) * head_dim * sequence * micro_batch * element_B / cp
    return wire_B("all_to_all", local_B, cp)


def remote_copies(top_k: Array, ep: Array) -> Array:
    """Copies of a token that leave its rank without deduplication, k (1 - 1/ep)  (EQ-30). Holds for uniform routing."""
    return top_k * (1.0 - 1.0 / ep)


def distinct_domains(top_k: Array, experts: Array, domains: Array, limit: Array) -> Array:
    """Expected number of domains (ranks or nodes) that hold at least one of a token's k experts.

    Experts are spread evenly, E/M a domain, and the k are drawn without replacement, uniformly, from `limit` domains
    at most (node-limited routing; DeepSeek-V3: 4 of 8; `domains` where there is no limit): M' [1 - prod_(i<k) (E' -
    E/M - i)/(E' - i)], M' = min(M, limit), E' = E M'/M. Derived; never above min(k, M')  (EQ-30).
    """
    reached = np.minimum(domains, limit)
    pool = experts * reached / domains
    held = experts / domains
    missed = np.ones(1)
    for drawn in range(int(np.max(top_k))):
        # rows with fewer experts a token multiply by exactly one: a row does not depend on its batch
        counts = drawn < top_k
        chance = np.maximum(pool - held - drawn, 0.0) / np.where(counts & (pool > drawn), pool - drawn, 1.0)
        missed = missed * np.where(counts, chance, 1.0)
    return reached * (1.0 - missed)


def remote_domains(top_k: Array, experts: Array, domains: Array, limit: Array) -> Array:
    """Expected number of *other* domains that a token is sent to: distinct (1 - 1/M), by symmetry  (EQ-30)."""
    return distinct_domains(top_k, experts, domains, limit) * (1.0 - 1.0 / domains)


def expert_parallel_B(
    tokens: Array, copies: Array, hidden: Array, element_B: Array, imbalance: Array
) -> Array:
    """Bytes that leave a rank in one dispatch, or come back in one combine: T c h e times the imbalance  (EQ-30).

    `tokens` of this rank; `copies` that leave it (`remote_copies`, `remote_domains`); the backward pass mirrors both.
    `imbalance`: load of the busiest rank over the mean.
    """
    return tokens * copies * hidden * element_B * imbalance


def data_parallel_all_reduce_B(gradient_B: Array, dp: Array) -> Array:
    """Unsharded data parallelism, once a step: an all-reduce of the gradients  (EQ-31)."""
    return wire_B("all_reduce", gradient_B, dp)


def sharded_optimizer_B(gradient_B: Array, parameter_B: Array, dp: Array) -> Array:
    """ZeRO-1 and 2, once a step: a reduce-scatter of the gradients, an all-gather of the parameters  (EQ-31)."""
    return wire_B("reduce_scatter", gradient_B, dp) + wire_B("all_gather", parameter_B, dp)


def fully_sharded_B(gradient_B: Array, parameter_B: Array, shards: Array, gathers: Array, scatters: Array) -> Array:
    """ZeRO-3, FSDP: `gathers` all-gathers of the parameters and `scatters` reduce-scatters of the gradients  (EQ-31).

    2 and 1 for one micro-batch that reshards after the forward pass: 1.5 times plain data parallelism. With m
    micro-batches 2m gathers, and m scatters where gradients are not accumulated unsharded.
    """
    return gathers * wire_B("all_gather", parameter_B, shards) + scatters * wire_B("reduce_scatter", gradient_B, shards)


def hybrid_replica_B(gradient_B: Array, shards: Array, replicas: Array) -> Array:
    """HSDP, across replicas: an all-reduce of each rank's gradient shard, beside `fully_sharded_B` inside  (EQ-31)."""
    return wire_B("all_reduce", gradient_B / shards, replicas)


def pipeline_boundary_B(
    sequence: Array, micro_batch: Array, hidden: Array, element_B: Array, cp: Array, tp: Array
) -> Array:
    """Bytes a rank sends over one stage boundary, each way, for one micro-batch: s b h e / (cp t)  (EQ-32).

    With the scatter/gather over tensor-parallel ranks, or sequence parallelism (Narayanan 2021); use tp = 1 without. An
    interleaved schedule crosses v boundaries a rank.
    """
    return sequence * micro_batch * hidden * element_B / (cp * tp)


# ------------------------------------------------------------------------------------------------ when it binds


def data_parallel_bound_tokens(unit_FLOPps: Array, unit_Bps: Array) -> Array:
    """Tokens a step that a chip, or a pod, needs so that bf16 data parallelism is compute-bound: C/W  (EQ-33).

    W is the bidirectional rate out of that unit. TPU v5p over one axis 2550 a chip; a pod over the data-center network
    76,000 (scaling-book@0819a7d training.md).
    """
    return unit_FLOPps / unit_Bps


def tensor_parallel_bound_ranks(ffn: Array, chip_FLOPps: Array, chip_Bps: Array, axes: Array) -> Array:
    """Tensor-parallel ranks below which a layer stays compute-bound: n_axes f W/C  (EQ-33)."""
    return axes * ffn * chip_Bps / chip_FLOPps


def fsdp_optimal_ranks(batch_tokens: Array, ffn: Array, axes_ratio: Array, chips: Array) -> Array:
    """FSDP ways that minimise the traffic of FSDP and tensor parallelism together: sqrt(B/F * Mx/My * N)  (EQ-33)."""
    return np.sqrt(batch_tokens / ffn * axes_ratio * chips)


def fsdp_tensor_bound_tokens(bound_tokens: Array, ffn: Array, axes_product: Array) -> Array:
    """Tokens a chip from which FSDP with tensor parallelism can be compute-bound: 4 a^2 / (Mx My F)  (EQ-33).

    `bound_tokens` is a = C/W of one axis (`data_parallel_bound_tokens`).
    """
    return 4.0 * bound_tokens * bound_tokens / (axes_product * ffn)


# ------------------------------------------------------------------------------------------------ overlap


def exposed_s(comm_s: Array, window_s: Array) -> Array:
    """Communication that outlasts the compute which may hide it."""
    return np.maximum(comm_s - window_s, 0.0)


def overlapped_pair(comm_s: Array, compute_s: Array, slowdown: Array) -> tuple[Array, Array]:
    """Communication beside compute: (what is exposed, what it adds to the compute by taking SMs and bandwidth).

    The compute is stretched by `slowdown` over the time that both run, min(comm, compute). 0.126 measured
    (Galvatron's overlap coefficient 1.126, Hetu-Galvatron@cea12ff); 0.17 fitted over published training steps, weakly
    identified.
    """
    return exposed_s(comm_s, compute_s), slowdown * np.minimum(comm_s, compute_s)


def chunked_overlap_exposed_s(comm_s: Array, compute_s: Array, chunks: Array) -> Array:
    """Communication cut into `chunks` pieces, each beside the compute of the next: what is exposed.

    c/k + (k-1)/k max(c - m, 0): the first or last piece has nothing beside it. Derived; 1 chunk hides nothing.
    Ignores the latency of each piece and the loss of matmul efficiency at small pieces: charge them in `comm_s` and
    `compute_s`.
    """
    return comm_s / chunks + exposed_s(comm_s, compute_s) * (chunks - 1.0) / chunks
