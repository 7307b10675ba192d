"""Communication: where each parallel dimension sits on the network, what it moves, how long that takes, what is exposed.

Three network levels: the scale-up domain, the scale-out network inside a pod, and above the pod (tapered). Extents and
bytes by level have the level on a leading axis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack
from codesign.laws import collectives, network
from codesign.laws import pipeline as pipelines

Array = NDArray[np.float64]

LEVELS = ("scale_up", "scale_out", "above_pod")


# ---------------------------------------------------------------------------------------------------- placement


def _extent(size, stride, scale_up_ranks, pod_ranks) -> Array:
    return stack(*network.extents(size, stride, [scale_up_ranks, pod_ranks, np.inf]))


@quantity("1", source="stated order of the dimensions, innermost first")
def tp_extent(order, tp, cp, dp, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Members of a tensor-parallel group that sit together, by level. Shape (levels, ...)."""
    return _extent(tp, _strides(order, tp, cp, dp, pipeline.pp)["tp"], scale_up_ranks, pod_ranks)


def _strides(order, tp, cp, dp, pp) -> dict[str, Array]:
    sizes = {"tp": tp, "cp": cp, "dp": dp, "pp": np.full(1, float(pp)), "ep": np.ones(1)}
    return network.strides(order, sizes)


@quantity("1", source="stated order of the dimensions, innermost first")
def cp_extent(order, tp, cp, dp, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Members of a context-parallel group that sit together, by level. Shape (levels, ...)."""
    return _extent(cp, _strides(order, tp, cp, dp, pipeline.pp)["cp"], scale_up_ranks, pod_ranks)


@quantity("1", source="Megatron-Core: experts are spread over the ranks of one stage, expert tensor parallelism inside")
def ep_extent(order, ep, etp, expert_dp_ranks, tp, cp, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Members of an expert-parallel group that sit together, by level. Shape (levels, ...).

    The stated order says whether experts are spread over neighbours (ep before dp) or over distant ranks (ep after dp).
    """
    stride = etp * expert_dp_ranks if order.index("ep") > order.index("dp") else etp * 1.0
    return _stage_extent(order, ep, stride, tp, cp, pipeline, scale_up_ranks, pod_ranks)


def _stage_extent(order, size, stride, tp, cp, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """A group among the ranks of one stage; where stages lie inside dp, its members beyond tp x cp are pp times as far."""
    if pipeline.pp == 1 or order.index("pp") > order.index("dp"):
        return _extent(size, stride, scale_up_ranks, pod_ranks)
    near = np.minimum(np.maximum(tp * cp / stride, 1.0), size)
    far = _extent(size / near, stride * near * float(pipeline.pp), scale_up_ranks, pod_ranks)
    return _extent(near, stride, scale_up_ranks, pod_ranks) * far


@quantity("1", source="definition: ZeRO shards and gradients are spread over dp x cp")
def dp_ranks(dp, cp) -> Array:
    """Ranks that hold the same dense weights."""
    return dp * cp


@quantity("1", source="stated order of the dimensions, innermost first")
def dp_extent(order, tp, cp, dp, shard_ranks, sharding, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Members of a gradient (or shard) group that sit together, by level. Shape (levels, ...)."""
    strides = _strides(order, tp, cp, dp, pipeline.pp)
    if sharding.kind == "hsdp":
        return _extent(shard_ranks, np.minimum(strides["dp"], strides["cp"]), scale_up_ranks, pod_ranks)
    return _extent(dp, strides["dp"], scale_up_ranks, pod_ranks) * _extent(cp, strides["cp"], scale_up_ranks, pod_ranks)


@quantity("1", source="HSDP: replicas of a shard group")
def replica_extent(order, tp, cp, dp, shard_ranks, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Replicas of one shard that sit together, by level. Shape (levels, ...)."""
    strides = _strides(order, tp, cp, dp, pipeline.pp)
    stride = np.minimum(strides["dp"], strides["cp"]) * shard_ranks
    return _extent(dp * cp / shard_ranks, stride, scale_up_ranks, pod_ranks)


@quantity("1", source="Megatron-Core: expert data parallelism over what ep and etp leave of tp x cp x dp")
def expert_dp_ranks(tp, cp, dp, ep, etp) -> Array:
    """Ranks that hold the same experts."""
    return np.maximum(tp * cp * dp / (ep * etp), 1.0)


@quantity("1", source="stated order of the dimensions, innermost first")
def expert_dp_extent(
    order, expert_dp_ranks, ep, etp, tp, cp, pipeline, expert_shards, sharding, scale_up_ranks, pod_ranks
) -> Array:
    """Members of an expert-gradient (or shard) group that sit together, by level. Shape (levels, ...)."""
    size = expert_shards if sharding.kind == "hsdp" else expert_dp_ranks
    stride = etp * 1.0 if order.index("ep") > order.index("dp") else ep * etp
    return _stage_extent(order, size, stride, tp, cp, pipeline, scale_up_ranks, pod_ranks)


@quantity("1", source="HSDP: replicas of an expert shard group")
def expert_replica_extent(
    order, expert_dp_ranks, expert_shards, ep, etp, tp, cp, pipeline, scale_up_ranks, pod_ranks
) -> Array:
    """Replicas of one expert shard that sit together, by level. Shape (levels, ...)."""
    stride = etp * 1.0 if order.index("ep") > order.index("dp") else ep * etp
    return _stage_extent(
        order, expert_dp_ranks / expert_shards, stride * expert_shards, tp, cp, pipeline, scale_up_ranks, pod_ranks
    )


@quantity("1", source="stated order of the dimensions, innermost first")
def pp_extent(order, tp, cp, dp, pipeline, scale_up_ranks, pod_ranks) -> Array:
    """Two neighbouring pipeline stages, by level: on which level their boundary lies. Shape (levels, ...)."""
    two = np.full(1, 2.0 if pipeline.pp > 1 else 1.0)
    return _extent(two, _strides(order, tp, cp, dp, pipeline.pp)["pp"], scale_up_ranks, pod_ranks)


# ---------------------------------------------------------------------------------------------------- rates


@quantity("Bps", source="network.md sections 2 and 4")
def scale_out_Bps(nic_Bps, nic_share, network_share) -> Array:
    """Rate of one accelerator's adapter inside a pod."""
    return nic_Bps * nic_share * network_share


@quantity("Bps", source="network.md section 4: oversubscription above the pod")
def above_pod_Bps(scale_out_Bps, taper) -> Array:
    """Rate of one accelerator's adapter above the pod, all ranks crossing at once."""
    return scale_out_Bps / taper


def _axes(extent, torus_axes, scale_up_ranks) -> Array:
    """Torus axes that a group of this extent spans: its share of the domain's doublings, one at least (1 on a switch)."""
    if torus_axes.max() <= 1.0:
        return torus_axes
    doublings = np.log2(np.maximum(extent, 2.0)) / np.log2(np.maximum(scale_up_ranks, 2.0))
    return np.minimum(np.maximum(np.ceil(torus_axes * doublings), 1.0), torus_axes)


def group_collective_s(
    operation,
    message_B,
    extent,
    link_Bps,
    share,
    pair_share,
    latency_s,
    pair_latency_s,
    half_B,
    pair_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """One collective over three levels; two ranks inside a domain have constants of their own; on a torus the constants
    hold for one axis."""
    wires = collectives.level_wire_B(operation, message_B, [extent[0], extent[1], extent[2]])
    times = []
    # a level that no row crosses takes exactly no time: it is left out, which changes no bit
    if extent[0].max() > 1.0:
        two = extent[0] <= 2.0
        rate = (
            link_Bps * network_share * np.where(two, pair_share, share) * _axes(extent[0], torus_axes, scale_up_ranks)
        )
        latency, half = np.where(two, pair_latency_s, latency_s), np.where(two, pair_half_B, half_B)
        times.append(collectives.three_parameter_s(wires[0], latency, rate, half))
    for level, rate in ((1, scale_out_Bps), (2, above_pod_Bps)):
        if extent[level].max() > 1.0:
            hops_s = nic_latency_s + collectives.hops(extent[level]) * hop_s
            times.append(collectives.three_parameter_s(wires[level], hops_s, rate, nic_half_B))
    return collectives.pipelined_levels_s(times, inner_exposed) if times else 0.0 * wires[0]


# ---------------------------------------------------------------------------------------------------- tensor parallel


@quantity("B", source="EQ-28")
def tp_message_B(rank_tokens, hidden, activation_B) -> Array:
    """The activation array of one tensor-parallel collective."""
    return rank_tokens * hidden * activation_B


@quantity("s", source="EQ-22, EQ-25")
def tp_gather_s(
    tp_message_B,
    tp_extent,
    link_Bps,
    up_gather_share,
    pair_gather_share,
    up_gather_latency_s,
    pair_gather_latency_s,
    up_gather_half_B,
    pair_gather_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """One all-gather or reduce-scatter of a layer's activations over the tensor-parallel group."""
    return group_collective_s(
        "all_gather",
        tp_message_B,
        tp_extent,
        link_Bps,
        up_gather_share,
        pair_gather_share,
        up_gather_latency_s,
        pair_gather_latency_s,
        up_gather_half_B,
        pair_gather_half_B,
        scale_out_Bps,
        above_pod_Bps,
        nic_half_B,
        nic_latency_s,
        hop_s,
        inner_exposed,
        network_share,
        torus_axes,
        scale_up_ranks,
    )


@quantity("s", source="EQ-21, EQ-24, EQ-25")
def tp_all_reduce_s(
    tp_message_B,
    tp_extent,
    link_Bps,
    up_reduce_share,
    pair_reduce_share,
    up_reduce_latency_s,
    pair_reduce_latency_s,
    up_reduce_half_B,
    pair_reduce_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """One all-reduce of a layer's activations over the tensor-parallel group."""
    return group_collective_s(
        "all_reduce",
        tp_message_B,
        tp_extent,
        link_Bps,
        up_reduce_share,
        pair_reduce_share,
        up_reduce_latency_s,
        pair_reduce_latency_s,
        up_reduce_half_B,
        pair_reduce_half_B,
        scale_out_Bps,
        above_pod_Bps,
        nic_half_B,
        nic_latency_s,
        hop_s,
        inner_exposed,
        network_share,
        torus_axes,
        scale_up_ranks,
    )


@quantity("1", over="kind", source="EQ-28: one pair for attention, one for the FFN; experts gather over etp instead")
def tp_pairs(kind_spec, block) -> Array:
    """Pairs of tensor-parallel collectives of one layer in one direction."""
    return np.full(1, 1.0 if block.parallel or (kind_spec.moe and not block.shared_experts) else 2.0)


@quantity("s", over="kind", source="EQ-28")
def tp_layer_s(kind_spec, tp_pairs, sequence_parallel, tp_gather_s, tp_all_reduce_s) -> Array:
    """Tensor-parallel communication of one layer in one direction, by itself."""
    return tp_pairs * (2.0 * tp_gather_s if sequence_parallel else tp_all_reduce_s)


def _may_hide_tp(kind_spec, software, sequence_parallel) -> bool:
    # chunked overlap of gather with product needs the sequence-parallel form; MoE layers wait for their router
    return software.overlap.tp and (sequence_parallel or software.xla) and not kind_spec.moe


@quantity("s", over="kind", source="chunked overlap, one chunk a rank (Transformer Engine ring exchange)")
def tp_forward_exposed_s(kind_spec, software, sequence_parallel, tp_layer_s, layer_gemm_forward_s, tp) -> Array:
    """Tensor-parallel communication of one layer that its forward products do not hide."""
    if not _may_hide_tp(kind_spec, software, sequence_parallel):
        return tp_layer_s
    return collectives.chunked_overlap_exposed_s(tp_layer_s, layer_gemm_forward_s, tp)


@quantity("s", over="kind", source="chunked overlap, one chunk a rank; weight gradients widen the window")
def tp_backward_exposed_s(kind_spec, software, sequence_parallel, tp_layer_s, layer_gemm_backward_s, tp) -> Array:
    """Tensor-parallel communication of one layer that its backward products do not hide."""
    if not _may_hide_tp(kind_spec, software, sequence_parallel):
        return tp_layer_s
    return collectives.chunked_overlap_exposed_s(tp_layer_s, layer_gemm_backward_s, tp)


def repeated(dimension, recompute, kind_spec) -> float:
    """How much of the forward communication of a layer its recompute repeats. `dimension`: tp, cp or ep."""
    if recompute.granularity == "full":
        return 1.0
    if recompute.granularity != "selective":
        return 0.0
    if dimension == "tp":
        return 0.5 if "mlp" in recompute.modules and not kind_spec.moe else 0.0
    return 1.0 if {"cp": "core_attn", "ep": "moe"}[dimension] in recompute.modules else 0.0


@quantity("s", over="kind", source="EQ-08: the forward collectives run again under full recompute")
def tp_recompute_exposed_s(kind_spec, recompute, recompute_fraction, tp_forward_exposed_s, sequence_parallel) -> Array:
    """Tensor-parallel communication that recompute repeats."""
    share = repeated("tp", recompute, kind_spec)
    return recompute_fraction * share * tp_forward_exposed_s if share else np.zeros(1)


# ---------------------------------------------------------------------------------------------------- context parallel


@quantity("B", source="EQ-29")
def cp_kv_B(rank_tokens, local_kv_heads, qk_dim, v_dim, activation_B) -> Array:
    """Keys and values of one context-parallel shard, one layer."""
    return rank_tokens * local_kv_heads * (qk_dim + v_dim) * activation_B


@quantity("s", source="EQ-29")
def cp_hop_s(
    cp_kv_B,
    cp_extent,
    link_Bps,
    up_p2p_share,
    up_p2p_latency_s,
    up_p2p_half_B,
    scale_out_Bps,
    nic_half_B,
    nic_latency_s,
    network_share,
) -> Array:
    """One hop of the key-value ring: the slowest link that the ring crosses paces all."""
    inside = collectives.three_parameter_s(
        cp_kv_B, up_p2p_latency_s, link_Bps * up_p2p_share * network_share, up_p2p_half_B
    )
    across = collectives.three_parameter_s(cp_kv_B, nic_latency_s, scale_out_Bps, nic_half_B)
    return np.where(cp_extent[1] * cp_extent[2] > 1.0, np.maximum(inside, across), inside)


@quantity("B", source="EQ-29: a quarter of queries, keys, values and output")
def cp_local_B(rank_tokens, heads, local_kv_heads, qk_dim, v_dim, tp, activation_B) -> Array:
    """What one rank holds for each of the four all-to-alls of a layer, on average."""
    return rank_tokens * activation_B * (heads / tp + local_kv_heads) * (qk_dim + v_dim) / 4.0


@quantity("s", source="EQ-26, EQ-29: four all-to-alls of queries, keys, values and output")
def cp_exchange_s(
    cp_local_B,
    cp_extent,
    link_Bps,
    up_exchange_share,
    pair_exchange_share,
    up_exchange_latency_s,
    pair_exchange_latency_s,
    up_exchange_half_B,
    pair_exchange_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """The all-to-alls of one layer in one direction (Ulysses)."""
    one = group_collective_s(
        "all_to_all",
        cp_local_B,
        cp_extent,
        link_Bps,
        up_exchange_share,
        pair_exchange_share,
        up_exchange_latency_s,
        pair_exchange_latency_s,
        up_exchange_half_B,
        pair_exchange_half_B,
        scale_out_Bps,
        above_pod_Bps,
        nic_half_B,
        nic_latency_s,
        hop_s,
        inner_exposed,
        network_share,
        torus_axes,
        scale_up_ranks,
    )
    return 4.0 * one


@quantity("s", over="kind", source="EQ-29: forward")
def cp_forward_exposed_s(kind_spec, cp_style, software, cp, cp_hop_s, cp_exchange_s, attention_forward_s) -> Array:
    """Context-parallel communication of one layer that its attention does not hide, forward."""
    if cp_style == "none":
        return np.zeros(1)
    if cp_style == "all-to-all":
        return cp_exchange_s
    if cp_style == "all-gather" or not software.overlap.cp:
        return (cp - 1.0) * cp_hop_s
    return (cp - 1.0) * collectives.exposed_s(cp_hop_s, attention_forward_s / cp)


@quantity("s", over="kind", source="EQ-29: keys and values again, and their gradients")
def cp_backward_exposed_s(kind_spec, cp_style, software, cp, cp_hop_s, cp_exchange_s, attention_backward_s) -> Array:
    """Context-parallel communication of one layer that its attention does not hide, backward."""
    if cp_style == "none":
        return np.zeros(1)
    if cp_style == "all-to-all":
        return cp_exchange_s
    if cp_style == "all-gather" or not software.overlap.cp:
        return 2.0 * (cp - 1.0) * cp_hop_s
    return (cp - 1.0) * collectives.exposed_s(2.0 * cp_hop_s, attention_backward_s / cp)


@quantity("s", over="kind", source="EQ-08: the forward transfers run again under full recompute")
def cp_recompute_exposed_s(kind_spec, recompute, recompute_fraction, cp_forward_exposed_s) -> Array:
    """Context-parallel communication that recompute repeats."""
    return recompute_fraction * cp_forward_exposed_s if repeated("cp", recompute, kind_spec) else np.zeros(1)


# ---------------------------------------------------------------------------------------------------- expert parallel


DEDUPLICATING = ("deepep", "hybridep", "fused")  # dispatchers that send a token once to each domain


@quantity("B", source="EQ-30")
def ep_token_B(block, rank_tokens, tp, hidden, dispatch_B, capacity_factor, imbalance) -> Array:
    """The tokens that one rank has to send in one dispatch, one copy of each."""
    return rank_tokens / tp * hidden * dispatch_B * (capacity_factor if block.capacity else imbalance)


@quantity("B", source="EQ-26, EQ-30: k copies each; or one copy a domain, where the dispatcher deduplicates")
def ep_level_B(software, ep_token_B, ep_extent, top_k, experts, ep, groups_per_token) -> Array:
    """Bytes that one rank sends in one dispatch (or combine) of a MoE layer, by level. Shape (levels, ...)."""
    extents = [ep_extent[0], ep_extent[1], ep_extent[2]]
    if software.moe_dispatcher not in DEDUPLICATING:
        return stack(*collectives.level_wire_B("all_to_all", ep_token_B * top_k, extents))
    domains, pods = ep_extent[1] * ep_extent[2], ep_extent[2]
    limit = np.where(groups_per_token > 0, groups_per_token, domains)
    inside = collectives.distinct_domains(top_k, experts, ep, ep * np.minimum(limit / domains, 1.0)) * (
        1.0 - 1.0 / ep_extent[0]
    )
    across = collectives.remote_domains(top_k, experts, domains, limit)
    above = collectives.remote_domains(top_k, experts, pods, np.minimum(limit, pods))
    return stack(inside * ep_token_B, across * ep_token_B, above * ep_token_B)


@quantity("s", source="EQ-25, EQ-26, EQ-30")
def ep_exchange_s(
    ep_level_B,
    ep_extent,
    link_Bps,
    up_exchange_share,
    pair_exchange_share,
    up_exchange_latency_s,
    pair_exchange_latency_s,
    up_exchange_half_B,
    pair_exchange_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """One dispatch (or combine) of a MoE layer."""
    two = ep_extent[0] <= 2.0
    share = np.where(two, pair_exchange_share, up_exchange_share)
    rate = link_Bps * network_share * share * _axes(ep_extent[0], torus_axes, scale_up_ranks)
    inside = collectives.three_parameter_s(
        ep_level_B[0],
        np.where(two, pair_exchange_latency_s, up_exchange_latency_s),
        rate,
        np.where(two, pair_exchange_half_B, up_exchange_half_B),
    )
    across = collectives.three_parameter_s(
        ep_level_B[1], nic_latency_s + collectives.hops(ep_extent[1]) * hop_s, scale_out_Bps, nic_half_B
    )
    above = collectives.three_parameter_s(
        ep_level_B[2], nic_latency_s + collectives.hops(ep_extent[2]) * hop_s, above_pod_Bps, nic_half_B
    )
    return collectives.pipelined_levels_s([inside, across, above], inner_exposed)


@quantity("s", source="Megatron-Core MoE: tokens gathered over the ranks that share an expert's matrices")
def etp_gather_s(
    rank_tokens,
    tp,
    top_k,
    hidden,
    activation_B,
    etp,
    link_Bps,
    up_gather_share,
    up_gather_latency_s,
    up_gather_half_B,
    network_share,
) -> Array:
    """Gather (or scatter) of routed tokens over expert-tensor-parallel ranks in one MoE layer."""
    message = rank_tokens / tp * top_k * hidden * activation_B * etp
    return collectives.three_parameter_s(
        collectives.wire_B("all_gather", message, etp),
        up_gather_latency_s,
        link_Bps * up_gather_share * network_share,
        up_gather_half_B,
    )


@quantity("s", over="kind", source="EQ-30: dispatch and combine")
def ep_layer_s(kind_spec, ep_exchange_s, etp_gather_s) -> Array:
    """Expert-parallel communication of one layer in one direction, by itself."""
    return 2.0 * ep_exchange_s + 2.0 * etp_gather_s if kind_spec.moe else np.zeros(1)


@quantity(
    "s", over="kind", source="overlap of one micro-batch's exchange with the other's compute (DualPipe, 1F1B overlap)"
)
def ep_forward_exposed_s(
    kind_spec,
    software,
    ep_layer_s,
    layer_gemm_forward_s,
    attention_forward_s,
    layer_elementwise_forward_s,
    micro_batches,
) -> Array:
    """Expert-parallel communication of one layer that other compute does not hide, forward."""
    if not kind_spec.moe or not software.overlap.ep:
        return ep_layer_s
    hidden = collectives.exposed_s(ep_layer_s, layer_gemm_forward_s + attention_forward_s + layer_elementwise_forward_s)
    # the compute beside one exchange is that of another micro-batch
    return np.where(micro_batches > 1.0, hidden, ep_layer_s)


@quantity(
    "s", over="kind", source="overlap of one micro-batch's exchange with the other's compute (DualPipe, 1F1B overlap)"
)
def ep_backward_exposed_s(
    kind_spec,
    software,
    ep_layer_s,
    layer_gemm_backward_s,
    attention_backward_s,
    layer_elementwise_backward_s,
    micro_batches,
) -> Array:
    """Expert-parallel communication of one layer that other compute does not hide, backward."""
    if not kind_spec.moe or not software.overlap.ep:
        return ep_layer_s
    hidden = collectives.exposed_s(
        ep_layer_s, layer_gemm_backward_s + attention_backward_s + layer_elementwise_backward_s
    )
    # the compute beside one exchange is that of another micro-batch
    return np.where(micro_batches > 1.0, hidden, ep_layer_s)


@quantity("s", over="kind", source="EQ-08: recomputing the MoE layer sends the tokens again")
def ep_recompute_exposed_s(kind_spec, recompute, recompute_fraction, ep_forward_exposed_s) -> Array:
    """Expert-parallel communication that recompute repeats."""
    return recompute_fraction * ep_forward_exposed_s if repeated("ep", recompute, kind_spec) else np.zeros(1)


# ---------------------------------------------------------------------------------------------------- hidden traffic


@quantity("s", over="kind", source="communication kernels take SMs and memory bandwidth from what runs beside them")
def layer_hidden_s(
    tp_layer_s, tp_forward_exposed_s, tp_backward_exposed_s, ep_layer_s, ep_forward_exposed_s, ep_backward_exposed_s
) -> Array:
    """Communication of one layer that runs beside compute, forward and backward."""
    return (
        2.0 * tp_layer_s
        - tp_forward_exposed_s
        - tp_backward_exposed_s
        + 2.0 * ep_layer_s
        - ep_forward_exposed_s
        - ep_backward_exposed_s
    )


# ---------------------------------------------------------------------------------------------------- pipeline


@quantity("B", source="EQ-32")
def pp_message_B(rank_tokens, hidden, activation_B, tp, pipeline) -> Array:
    """Activations that one rank passes to the next stage for one micro-batch (scattered over the tensor-parallel group)."""
    return rank_tokens * hidden * activation_B / tp if pipeline.pp > 1 else np.zeros(1)


@quantity("s", source="EQ-20, EQ-32")
def pp_hop_s(
    pp_message_B,
    pp_extent,
    link_Bps,
    up_p2p_share,
    up_p2p_latency_s,
    up_p2p_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    network_share,
) -> Array:
    """One stage boundary, one direction, one micro-batch."""
    inside = collectives.three_parameter_s(
        pp_message_B, up_p2p_latency_s, link_Bps * up_p2p_share * network_share, up_p2p_half_B
    )
    across = collectives.three_parameter_s(pp_message_B, nic_latency_s, scale_out_Bps, nic_half_B)
    above = collectives.three_parameter_s(pp_message_B, nic_latency_s, above_pod_Bps, nic_half_B)
    return np.where(pp_extent[2] > 1.0, above, np.where(pp_extent[1] > 1.0, across, inside))


# ---------------------------------------------------------------------------------------------------- data parallel


def _dp_time(operation, message_B, extent, gather, reduce, rest) -> Array:
    constants = reduce if operation == "all_reduce" else gather
    return group_collective_s(operation, message_B, extent, *constants, *rest)


@quantity("B", source="EQ-31")
def dp_gradient_B(rank_dense_parameters, reduce_B, pipeline) -> Array:
    """Dense gradients that one rank reduces in a step. Shape (pipeline ranks, ...)."""
    return rank_dense_parameters * reduce_B * pipelines.parameter_copies(pipeline.schedule)


@quantity("B", source="EQ-31")
def expert_gradient_B(rank_expert_parameters, reduce_B, pipeline) -> Array:
    """Expert gradients that one rank reduces in a step. Shape (pipeline ranks, ...)."""
    return rank_expert_parameters * reduce_B * pipelines.parameter_copies(pipeline.schedule)


@quantity("B", source="EQ-31")
def expert_parameter_B(rank_expert_parameters, gather_B, pipeline) -> Array:
    """Expert parameters that one rank gathers. Shape (pipeline ranks, ...)."""
    return rank_expert_parameters * gather_B * pipelines.parameter_copies(pipeline.schedule)


@quantity("B", source="EQ-31")
def dp_parameter_B(rank_dense_parameters, gather_B, pipeline) -> Array:
    """Dense parameters that one rank gathers. Shape (pipeline ranks, ...)."""
    return rank_dense_parameters * gather_B * pipelines.parameter_copies(pipeline.schedule)


@quantity("s", source="EQ-31: all-reduce, or reduce-scatter under ZeRO")
def dp_gradient_s(
    sharding,
    dp_gradient_B,
    expert_gradient_B,
    expert_shards,
    expert_replica_extent,
    dp_extent,
    expert_dp_extent,
    replica_extent,
    shard_ranks,
    link_Bps,
    up_gather_share,
    pair_gather_share,
    up_gather_latency_s,
    pair_gather_latency_s,
    up_gather_half_B,
    pair_gather_half_B,
    up_reduce_share,
    pair_reduce_share,
    up_reduce_latency_s,
    pair_reduce_latency_s,
    up_reduce_half_B,
    pair_reduce_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """Reducing all gradients of one rank once. Shape (pipeline ranks, ...)."""
    rest = (
        scale_out_Bps,
        above_pod_Bps,
        nic_half_B,
        nic_latency_s,
        hop_s,
        inner_exposed,
        network_share,
        torus_axes,
        scale_up_ranks,
    )
    gather = (
        link_Bps,
        up_gather_share,
        pair_gather_share,
        up_gather_latency_s,
        pair_gather_latency_s,
        up_gather_half_B,
        pair_gather_half_B,
    )
    reduce = (
        link_Bps,
        up_reduce_share,
        pair_reduce_share,
        up_reduce_latency_s,
        pair_reduce_latency_s,
        up_reduce_half_B,
        pair_reduce_half_B,
    )
    operation = "all_reduce" if sharding.kind == "none" else "reduce_scatter"
    dense = _dp_time(operation, dp_gradient_B, dp_extent, gather, reduce, rest)
    experts = _dp_time(operation, expert_gradient_B, expert_dp_extent, gather, reduce, rest)
    total = dense + experts
    if sharding.kind == "hsdp":
        expert_B = expert_gradient_B / expert_shards
        total = total + _dp_time("all_reduce", dp_gradient_B / shard_ranks, replica_extent, gather, reduce, rest)
        total = total + _dp_time("all_reduce", expert_B, expert_replica_extent, gather, reduce, rest)
    return total


@quantity("s", source="EQ-31: all-gather")
def dp_parameter_s(
    sharding,
    dp_parameter_B,
    expert_parameter_B,
    dp_extent,
    expert_dp_extent,
    link_Bps,
    up_gather_share,
    pair_gather_share,
    up_gather_latency_s,
    pair_gather_latency_s,
    up_gather_half_B,
    pair_gather_half_B,
    scale_out_Bps,
    above_pod_Bps,
    nic_half_B,
    nic_latency_s,
    hop_s,
    inner_exposed,
    network_share,
    torus_axes,
    scale_up_ranks,
) -> Array:
    """Gathering all parameters of one rank once. Shape (pipeline ranks, ...)."""
    if sharding.kind == "none":
        return np.zeros(1)
    rest = (
        scale_out_Bps,
        above_pod_Bps,
        nic_half_B,
        nic_latency_s,
        hop_s,
        inner_exposed,
        network_share,
        torus_axes,
        scale_up_ranks,
    )
    gather = (
        link_Bps,
        up_gather_share,
        pair_gather_share,
        up_gather_latency_s,
        pair_gather_latency_s,
        up_gather_half_B,
        pair_gather_half_B,
    )
    dense = _dp_time("all_gather", dp_parameter_B, dp_extent, gather, gather, rest)
    return dense + _dp_time("all_gather", expert_parameter_B, expert_dp_extent, gather, gather, rest)


# ---------------------------------------------------------------------------------------------------- traffic


def _sent(operation, message_B, extent) -> Array:
    return stack(*collectives.level_wire_B(operation, message_B, [extent[0], extent[1], extent[2]]))


@quantity("B", source="EQ-28: bytes sent by one rank in one step, by level")
def tp_sent_B(tp_message_B, tp_extent, tp_pairs, slowest_layers, micro_batches, recompute, recompute_fraction) -> Array:
    """Tensor-parallel traffic of one rank of the slowest stage in a step. Shape (levels, ...)."""
    pairs = add(slowest_layers[k] * tp_pairs[k] for k in tp_pairs)
    directions = 2.0 + (recompute_fraction if recompute.granularity == "full" else 0.0)
    return _sent("all_reduce", tp_message_B, tp_extent) * (pairs * directions * micro_batches)


@quantity("B", source="EQ-29: bytes sent by one rank in one step, by level")
def cp_sent_B(
    cp_kv_B, cp_local_B, cp, cp_extent, cp_style, slowest_layers, micro_batches, recompute, recompute_fraction
) -> Array:
    """Context-parallel traffic of one rank of the slowest stage in a step. Shape (levels, ...).

    Rings and gathers pass K and V forward, and K, V and their gradients backward; all-to-alls move four arrays each way.
    """
    layers = add(slowest_layers[k] for k in slowest_layers)
    again = recompute_fraction if recompute.granularity == "full" else 0.0 * recompute_fraction
    if cp_style == "none":
        return stack(*(0.0 * cp_kv_B for _ in LEVELS))
    if cp_style == "all-to-all":
        return _sent("all_to_all", cp_local_B, cp_extent) * (4.0 * (2.0 + again) * layers * micro_batches)
    crossing = stack(
        *collectives.level_wire_B("p2p", np.ones_like(cp_kv_B), [cp_extent[0], cp_extent[1], cp_extent[2]])
    )
    return crossing * ((3.0 + again) * (cp - 1.0) * cp_kv_B * layers * micro_batches)


@quantity("B", source="EQ-30: bytes sent by one rank in one step, by level")
def ep_sent_B(ep_level_B, kind_moe, slowest_layers, micro_batches, recompute, recompute_fraction) -> Array:
    """Expert-parallel traffic of one rank of the slowest stage in a step. Shape (levels, ...)."""
    layers = add(slowest_layers[k] * kind_moe[k] for k in slowest_layers)
    times = 4.0 + 2.0 * (recompute_fraction if recompute.granularity == "full" or "moe" in recompute.modules else 0.0)
    return ep_level_B * (layers * times * micro_batches)


@quantity("1", over="kind", source="definition")
def kind_moe(kind_spec) -> Array:
    """1 for a layer kind with routed experts, else 0."""
    return np.full(1, float(kind_spec.moe))


@quantity("B", source="EQ-31: bytes sent by one rank in one step, by level")
def dp_gradient_sent_B(
    sharding,
    dp_gradient_B,
    expert_gradient_B,
    expert_shards,
    expert_replica_extent,
    dp_extent,
    expert_dp_extent,
    replica_extent,
    shard_ranks,
    gradient_reductions,
) -> Array:
    """Gradient traffic of the rank that sends most, in a step. Shape (levels, ...)."""
    operation = "all_reduce" if sharding.kind == "none" else "reduce_scatter"
    dense, experts = np.max(dp_gradient_B, axis=0), np.max(expert_gradient_B, axis=0)
    total = _sent(operation, dense, dp_extent) + _sent(operation, experts, expert_dp_extent)
    if sharding.kind == "hsdp":
        total = total + _sent("all_reduce", dense / shard_ranks, replica_extent)
        total = total + _sent("all_reduce", experts / expert_shards, expert_replica_extent)
    return total * gradient_reductions


@quantity("B", source="EQ-31: bytes sent by one rank in one step, by level")
def dp_parameter_sent_B(
    sharding, dp_parameter_B, expert_parameter_B, dp_extent, expert_dp_extent, parameter_gathers
) -> Array:
    """Parameter traffic of the rank that sends most, in a step. Shape (levels, ...)."""
    dense, experts = np.max(dp_parameter_B, axis=0), np.max(expert_parameter_B, axis=0)
    total = _sent("all_gather", dense, dp_extent) + _sent("all_gather", experts, expert_dp_extent)
    return total * parameter_gathers


@quantity("B", source="EQ-32: bytes sent by one rank in one step, by level")
def pp_sent_B(pp_message_B, pp_extent, micro_batches, pipeline) -> Array:
    """Stage-boundary traffic of one rank in a step, both directions. Shape (levels, ...)."""
    return _sent("p2p", pp_message_B, pp_extent) * (2.0 * micro_batches * pipeline.vpp)
