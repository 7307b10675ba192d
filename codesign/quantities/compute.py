"""Compute of one layer, one micro-batch, one rank: every operator, forward, input gradient and weight gradient apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack
from codesign.laws import kernels
from codesign.quantities.model import REPLICATED, gemm_labels

Array = NDArray[np.float64]

# weight gradients (NT layout, fp32 accumulation) reach 0.95 to 0.97 of the forward rate (op_fits section 7.2)
WEIGHT_GRADIENT_SHARE = 0.96


# ---------------------------------------------------------------------------------------------------- rates


@quantity("1", source="clocks follow the power set point under matrix load")
def power_share(power_limit_W, rated_W) -> Array:
    """What a power cap leaves of the sustained matmul rate."""
    return kernels.power_capped_share(power_limit_W, rated_W)


@quantity("FLOPps", source="op_fits section 7.1: sustained, not burst")
def gemm_FLOPps(peak_FLOPps, gemm_share, recipe_share, power_share) -> Array:
    """Rate that large GEMMs of the matmul precision sustain in a step."""
    return peak_FLOPps * gemm_share * recipe_share * power_share


@quantity("FLOPps", source="op_fits section 7.1")
def half_gemm_FLOPps(half_peak_FLOPps, gemm_share, power_share) -> Array:
    """Rate of the products that a low-precision recipe leaves wide: the LM head and unfused attention."""
    return half_peak_FLOPps * gemm_share * power_share


@quantity("FLOPps", source="op_fits section 3; kernel generation by stack")
def attention_FLOPps(
    half_peak_FLOPps, attention_efficiency, attention_share, attention_kernel_share, attention_age_share
) -> Array:
    """Sustained rate of the stack's attention kernel, forward."""
    return half_peak_FLOPps * attention_efficiency * attention_share * attention_kernel_share * attention_age_share


@quantity("Bps", source="op_fits section 5")
def elementwise_Bps(memory_Bps, elementwise_share, traffic_share) -> Array:
    """Memory rate of elementwise operators over the fused byte count: what the stack moves beyond it slows it down."""
    return memory_Bps * elementwise_share / traffic_share


@quantity("Bps", source="op_fits section 2")
def gemm_memory_Bps(memory_Bps, gemm_memory_share) -> Array:
    """Memory rate inside GEMM kernels."""
    return memory_Bps * gemm_memory_share


# ---------------------------------------------------------------------------------------------------- dense GEMMs


@quantity("tokens", over="kind", source="definition")
def gemm_tokens(kind_spec, block, rank_tokens, norm_tokens) -> Array:
    """Rows m of each dense matrix product: all tokens of the tensor-parallel group, or a rank's share of them."""
    return stack(*(norm_tokens if label in REPLICATED else rank_tokens for label in gemm_labels(kind_spec, block)))


@quantity("s", over="kind", labels="gemm", source="op_fits section 2")
def gemm_forward_s(
    gemm_tokens,
    gemm_out,
    gemm_in,
    gemm_FLOPps,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    activation_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Forward products of one layer, an operator a row."""
    return kernels.gemm_s(
        gemm_tokens,
        gemm_out,
        gemm_in,
        rate_FLOPps=gemm_FLOPps,
        sms=sms,
        wave_loss=wave_loss,
        k_ramp=k_ramp,
        input_B=operand_B,
        output_B=activation_B,
        memory_Bps=gemm_memory_Bps,
        launch_s=gemm_launch_s,
    )


@quantity("s", over="kind", labels="gemm", source="op_fits section 2 and 7.2")
def gemm_input_gradient_s(
    gemm_tokens,
    gemm_out,
    gemm_in,
    gemm_FLOPps,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    activation_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Input-gradient products of one layer (m x k, reduced over n), an operator a row."""
    return kernels.gemm_s(
        gemm_tokens,
        gemm_in,
        gemm_out,
        rate_FLOPps=gemm_FLOPps,
        sms=sms,
        wave_loss=wave_loss,
        k_ramp=k_ramp,
        input_B=operand_B,
        output_B=activation_B,
        memory_Bps=gemm_memory_Bps,
        launch_s=gemm_launch_s,
    )


@quantity("s", over="kind", labels="gemm", source="op_fits section 7.2; read-modify-write of the accumulated gradient")
def gemm_weight_gradient_s(
    gemm_tokens,
    gemm_out,
    gemm_in,
    gemm_FLOPps,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    gradient_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Weight-gradient products of one layer (n x k, reduced over tokens), accumulated in the gradient's dtype."""
    return kernels.gemm_s(
        gemm_out,
        gemm_in,
        gemm_tokens,
        rate_FLOPps=gemm_FLOPps * WEIGHT_GRADIENT_SHARE,
        sms=sms,
        wave_loss=wave_loss,
        k_ramp=k_ramp,
        input_B=operand_B,
        output_B=2.0 * gradient_B,
        memory_Bps=gemm_memory_Bps,
        launch_s=gemm_launch_s,
    )


# ---------------------------------------------------------------------------------------------------- experts


@quantity("FLOPps", source="op_fits section 6")
def grouped_FLOPps(gemm_FLOPps, grouped_share, local_experts) -> Array:
    """Rate of grouped expert GEMMs at many rows an expert. One expert on a rank is a plain product, at the plain rate."""
    return gemm_FLOPps * (1.0 - (1.0 - grouped_share) * (1.0 - 1.0 / np.maximum(local_experts, 1.0)))


@quantity("1", source="op_fits section 6; one expert on a rank is a plain product")
def grouped_ramp_rows(grouped_half_rows, local_experts) -> Array:
    """Rows an expert at which grouped GEMMs reach half of their rate."""
    return grouped_half_rows * (1.0 - 1.0 / np.maximum(local_experts, 1.0))


def _grouped(
    rows, groups, out, into, rate, half, sms, wave_loss, k_ramp, operand_B, output_B, memory, launch_s
) -> Array:
    return kernels.grouped_gemm_s(
        groups,
        rows,
        out,
        into,
        rate_FLOPps=rate,
        half_rows=half,
        sms=sms,
        wave_loss=wave_loss,
        k_ramp=k_ramp,
        input_B=operand_B,
        output_B=output_B,
        memory_Bps=memory,
        launch_s=launch_s,
    )


@quantity("1", source="EQ-02")
def expert_out(hidden, expert_ffn, gated_matrices, etp) -> Array:
    """Output widths of the expert products (up, down) on one rank. Shape (2, ...)."""
    return stack(gated_matrices * expert_ffn / etp, hidden)


@quantity("1", source="EQ-02")
def expert_in(hidden, expert_ffn, etp) -> Array:
    """Input widths of the expert products (up, down) on one rank. Shape (2, ...)."""
    return stack(hidden, expert_ffn / etp)


@quantity("s", over="kind", source="op_fits section 6")
def expert_forward_s(
    kind_spec,
    rows_per_expert,
    local_experts,
    expert_out,
    expert_in,
    grouped_FLOPps,
    grouped_ramp_rows,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    activation_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Forward products of the routed experts of one rank."""
    if not kind_spec.moe:
        return np.zeros(1)
    pair = _grouped(
        rows_per_expert,
        local_experts,
        expert_out,
        expert_in,
        grouped_FLOPps,
        grouped_ramp_rows,
        sms,
        wave_loss,
        k_ramp,
        operand_B,
        activation_B,
        gemm_memory_Bps,
        gemm_launch_s,
    )
    return pair[0] + pair[1]


@quantity("s", over="kind", source="op_fits section 6")
def expert_input_gradient_s(
    kind_spec,
    rows_per_expert,
    local_experts,
    expert_out,
    expert_in,
    grouped_FLOPps,
    grouped_ramp_rows,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    activation_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Input-gradient products of the routed experts of one rank."""
    if not kind_spec.moe:
        return np.zeros(1)
    pair = _grouped(
        rows_per_expert,
        local_experts,
        expert_in,
        expert_out,
        grouped_FLOPps,
        grouped_ramp_rows,
        sms,
        wave_loss,
        k_ramp,
        operand_B,
        activation_B,
        gemm_memory_Bps,
        gemm_launch_s,
    )
    return pair[0] + pair[1]


@quantity("s", over="kind", source="op_fits section 6; every expert's gradient is read and written")
def expert_weight_gradient_s(
    kind_spec,
    rows_per_expert,
    local_experts,
    expert_out,
    expert_in,
    grouped_FLOPps,
    grouped_ramp_rows,
    sms,
    wave_loss,
    k_ramp,
    operand_B,
    gradient_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """Weight-gradient products of the routed experts of one rank."""
    if not kind_spec.moe:
        return np.zeros(1)
    rate = grouped_FLOPps * WEIGHT_GRADIENT_SHARE * rows_per_expert / (rows_per_expert + grouped_ramp_rows)
    pair = _grouped(
        expert_out,
        local_experts,
        expert_in,
        rows_per_expert,
        rate,
        np.zeros(1),
        sms,
        wave_loss,
        k_ramp,
        operand_B,
        2.0 * gradient_B,
        gemm_memory_Bps,
        gemm_launch_s,
    )
    return pair[0] + pair[1]


# ---------------------------------------------------------------------------------------------------- attention


@quantity("1", source="Megatron-LM fused_softmax.py, is_kernel_available: attention batches must be a multiple of 4")
def softmax_fused(micro_batch, heads, tp) -> Array:
    """1 where Megatron-LM's fused masked softmax serves this many heads and sequences, else 0. Unfused attention only."""
    batches = micro_batch * heads / tp
    return np.where(batches / 4.0 == np.floor(batches / 4.0), 1.0, 0.0)


@quantity("s", over="kind", source="op_fits section 3; unfused: Korthikanti 2022 appendix A, full scores")
def attention_forward_s(
    kind_spec,
    software,
    rank_tokens,
    heads,
    qk_dim,
    v_dim,
    tp,
    attended_tokens,
    sequence_tokens,
    attention_ramp_tokens,
    attention_FLOPps,
    attention_launch_s,
    half_gemm_FLOPps,
    elementwise_Bps,
    elementwise_launch_s,
    activation_B,
) -> Array:
    """Scores, softmax and values of one layer on one rank, forward."""
    local = heads / tp
    if software.attention_kernel != "unfused":
        return kernels.attention_s(
            rank_tokens,
            local,
            qk_dim,
            v_dim,
            attended_tokens,
            ramp_tokens=attention_ramp_tokens,
            rate_FLOPps=attention_FLOPps,
            launch_s=attention_launch_s,
        )
    products = kernels.attention_FLOP(rank_tokens, local, qk_dim, v_dim, sequence_tokens) / half_gemm_FLOPps
    # a score element: written by the product (2 B), read and written by the scaled masked softmax (4 B), dropped out
    # (2 + 2 + 1 B of mask), read by the value product (2 B): 13 B at two bytes an element
    scores = rank_tokens * local * sequence_tokens
    return products + kernels.memory_bound_s(
        scores * 6.5 * activation_B, elementwise_Bps, np.full(1, 5.0), elementwise_launch_s
    )


@quantity("s", over="kind", source="op_fits section 3: 2.7 to 2.9 times the forward; unfused: 20 B a score element")
def attention_backward_s(
    kind_spec,
    software,
    attention_forward_s,
    attention_backward_ratio,
    attention_launch_s,
    rank_tokens,
    heads,
    qk_dim,
    v_dim,
    tp,
    sequence_tokens,
    half_gemm_FLOPps,
    elementwise_Bps,
    elementwise_launch_s,
    activation_B,
) -> Array:
    """Gradients of scores, softmax and values of one layer on one rank."""
    if software.attention_kernel != "unfused":
        return attention_launch_s + attention_backward_ratio * (attention_forward_s - attention_launch_s)
    local = heads / tp
    products = 2.0 * kernels.attention_FLOP(rank_tokens, local, qk_dim, v_dim, sequence_tokens) / half_gemm_FLOPps
    scores = rank_tokens * local * sequence_tokens
    return products + kernels.memory_bound_s(
        scores * 10.0 * activation_B, elementwise_Bps, np.full(1, 6.0), elementwise_launch_s
    )


# ---------------------------------------------------------------------------------------------------- memory-bound


def elementwise_labels(kind_spec, block, software) -> tuple[str, ...]:
    """Names of the memory-bound operators of one layer."""
    labels = ["norms", "residuals"]
    if block.rotary:
        labels.append("rotary")
    if block.qk_norm != "none":
        labels.append("qk_norm")
    if kind_spec.mla:
        labels.append("mla_copies")
    labels.append("shared_activation" if kind_spec.moe else "activation")
    if kind_spec.moe:
        labels += ["expert_activation", "permutation", "routing"]
    return (*labels, "casts")


def _elementwise(kind_spec, block, software, per: dict[str, Array]) -> Array:
    return stack(*(per[label] for label in elementwise_labels(kind_spec, block, software)))


@quantity("B", over="kind", labels="elementwise", source="counted: reads and writes of each fused operator")
def elementwise_forward_B(
    kind_spec,
    block,
    software,
    recipe,
    norm_tokens,
    rank_tokens,
    routed_rows,
    hidden,
    heads,
    local_kv_heads,
    qk_dim,
    v_dim,
    rope_dim,
    kv_lora,
    q_lora,
    tp,
    ffn,
    shared_ffn,
    expert_ffn,
    etp,
    experts,
    gated_matrices,
    permute_passes,
    activation_B,
    cast_forward_B,
) -> Array:
    """Bytes that the memory-bound operators of one layer move on one rank, forward. Shape (operators, ...)."""
    a = activation_B
    dropout = 0.5 if software.dropout else 0.0  # a one-byte mask an element is half an element
    heads_local = heads / tp
    query_key = heads_local * qk_dim + local_kv_heads * qk_dim
    act = gated_matrices + 1.0  # read the input(s), write the product
    # casts: the inputs of every product are quantised once: two of the hidden width, attention's output, the FFN's
    inner = heads_local * v_dim + (0.0 if kind_spec.moe else ffn / tp)
    cast = rank_tokens * inner + norm_tokens * 2.0 * hidden
    if kind_spec.moe:
        cast = cast + routed_rows * (hidden + expert_ffn / etp) + rank_tokens * shared_ffn / tp
    per = {
        "norms": norm_tokens * hidden * 2.0 * block.norms * a,
        "residuals": norm_tokens * hidden * (3.0 + dropout) * 2.0 * a,
        "rotary": rank_tokens * 2.0 * (query_key if not kind_spec.mla else (heads_local + 1.0) * rope_dim) * a,
        "qk_norm": rank_tokens * 2.0 * query_key * a,
        "mla_copies": (
            rank_tokens * (heads_local * (2.0 * qk_dim + v_dim) * 1.0) + norm_tokens * 2.0 * (kv_lora + q_lora)
        )
        * a,
        "activation": rank_tokens * act * ffn / tp * a,
        "shared_activation": rank_tokens * act * shared_ffn / tp * a,
        "expert_activation": routed_rows * act * expert_ffn / etp * a,
        # permute: read and write every copy; unpermute: read every copy, write each token
        "permutation": permute_passes * 4.0 * routed_rows * hidden * a,
        "routing": norm_tokens * experts * 24.0 / 2.0 * a,  # fp32 logits: softmax, top-k, mask, probabilities
        "casts": cast * cast_forward_B,
    }
    return _elementwise(kind_spec, block, software, per)


@quantity("B", over="kind", labels="elementwise", source="counted: reads and writes of each fused operator")
def elementwise_backward_B(
    kind_spec,
    block,
    software,
    recipe,
    norm_tokens,
    rank_tokens,
    routed_rows,
    hidden,
    heads,
    local_kv_heads,
    qk_dim,
    v_dim,
    rope_dim,
    kv_lora,
    q_lora,
    tp,
    ffn,
    shared_ffn,
    expert_ffn,
    etp,
    experts,
    gated_matrices,
    permute_passes,
    activation_B,
    cast_backward_B,
) -> Array:
    """Bytes that the memory-bound operators of one layer move on one rank, backward. Shape (operators, ...)."""
    a = activation_B
    dropout = 0.5 if software.dropout else 0.0
    heads_local = heads / tp
    query_key = heads_local * qk_dim + local_kv_heads * qk_dim
    act = 2.0 * gated_matrices + 1.0  # read the inputs and the gradient, write the inputs' gradients
    outer = heads_local * qk_dim + 2.0 * local_kv_heads * v_dim + (0.0 if kind_spec.moe else gated_matrices * ffn / tp)
    cast = rank_tokens * outer + norm_tokens * 2.0 * hidden
    if kind_spec.moe:
        cast = (
            cast
            + routed_rows * (hidden + gated_matrices * expert_ffn / etp)
            + rank_tokens * gated_matrices * shared_ffn / tp
        )
    per = {
        "norms": norm_tokens * hidden * 3.0 * block.norms * a,
        "residuals": norm_tokens * hidden * (3.0 + dropout) * 2.0 * a,
        "rotary": rank_tokens * 2.0 * (query_key if not kind_spec.mla else (heads_local + 1.0) * rope_dim) * a,
        "qk_norm": rank_tokens * 3.0 * query_key * a,
        "mla_copies": (
            rank_tokens * (heads_local * (2.0 * qk_dim + v_dim) * 1.0) + norm_tokens * 3.0 * (kv_lora + q_lora)
        )
        * a,
        "activation": rank_tokens * act * ffn / tp * a,
        "shared_activation": rank_tokens * act * shared_ffn / tp * a,
        "expert_activation": routed_rows * act * expert_ffn / etp * a,
        "permutation": permute_passes * 4.0 * routed_rows * hidden * a,
        "routing": norm_tokens * experts * 24.0 / 2.0 * a,
        "casts": cast * cast_backward_B,
    }
    return _elementwise(kind_spec, block, software, per)


@quantity("s", over="kind", labels="elementwise", source="op_fits section 5")
def elementwise_forward_s(elementwise_forward_B, elementwise_Bps, elementwise_launch_s) -> Array:
    """Time of the memory-bound operators of one layer, forward, an operator a row."""
    return kernels.memory_bound_s(elementwise_forward_B, elementwise_Bps, np.full(1, 2.0), elementwise_launch_s)


@quantity("s", over="kind", labels="elementwise", source="op_fits section 5")
def elementwise_backward_s(elementwise_backward_B, elementwise_Bps, elementwise_launch_s) -> Array:
    """Time of the memory-bound operators of one layer, backward, an operator a row."""
    return kernels.memory_bound_s(elementwise_backward_B, elementwise_Bps, np.full(1, 2.0), elementwise_launch_s)


@quantity("s", over="kind", source="counted: one read and one write of each low-precision copy of a weight")
def weight_cast_s(kind_spec, sharded_parameters, expert_parameters, cast_weight_B, elementwise_Bps) -> Array:
    """Casting the weights of one layer to the matmul precision, once a micro-batch.

    Frameworks can cache the copies over a step, or hold narrow parameters; the measured runs rank worse with a cast a step
    (90 % of pairs right against 92 %), so every micro-batch pays.
    """
    return (sharded_parameters + expert_parameters) * cast_weight_B / elementwise_Bps


# ---------------------------------------------------------------------------------------------------- recompute

# which operators each recompute module runs again
_AGAIN: dict[str, frozenset[str]] = {
    "qkv": frozenset({"qkv", "q_down", "q_up", "kv_down", "kv_up", "rotary", "qk_norm"}),
    "attn_out": frozenset({"attn_out"}),
    "mla_up_proj": frozenset({"q_up", "kv_up", "rotary", "mla_copies"}),
    "layernorm": frozenset({"norms"}),
    "mlp": frozenset({"ffn_up", "ffn_down", "activation"}),
    "mlp_act": frozenset({"activation"}),
    "ffn_up": frozenset({"ffn_up", "shared_up"}),
    "ffn_down": frozenset({"ffn_down", "shared_down"}),
    "shared_experts": frozenset({"shared_up", "shared_down", "shared_activation"}),
    "moe": frozenset(
        {
            "router",
            "shared_up",
            "shared_down",
            "shared_activation",
            "experts",
            "expert_activation",
            "permutation",
            "routing",
        }
    ),
    "moe_act": frozenset({"expert_activation"}),
    "elementwise": frozenset(
        {
            "norms",
            "residuals",
            "rotary",
            "qk_norm",
            "activation",
            "shared_activation",
            "expert_activation",
            "mla_copies",
        }
    ),
    "core_attn": frozenset({"core_attn"}),
}
_ALTERNATE = {"qkv": 0.0, "attn_out": 1.0, "ffn_up": 0.5, "ffn_down": 1.0}


def again(recompute, software, label: str) -> float:
    """Share of an operator's forward work that runs again in the backward pass of a recomputed layer."""
    if recompute.granularity == "none":
        return 0.0
    if recompute.granularity == "full":
        # XLA drops the block's last product: nothing in the backward pass reads its output
        return 0.0 if software.xla and label == "ffn_down" else 1.0
    if "every_other_matmul" in recompute.modules and label in _ALTERNATE:
        return _ALTERNATE[label]
    return float(any(label in _AGAIN.get(module, ()) for module in recompute.modules))


@quantity("s", over="kind", source="EQ-08")
def recompute_s(
    kind_spec,
    block,
    software,
    recompute,
    recompute_fraction,
    gemm_forward_s,
    expert_forward_s,
    attention_forward_s,
    elementwise_forward_s,
) -> Array:
    """Forward work of one layer that its backward pass repeats, without communication."""
    rows = [
        gemm_forward_s[at] * again(recompute, software, label) for at, label in enumerate(gemm_labels(kind_spec, block))
    ]
    rows += [
        elementwise_forward_s[at] * again(recompute, software, label)
        for at, label in enumerate(elementwise_labels(kind_spec, block, software))
        if label != "casts"
    ]
    rows.append(attention_forward_s * again(recompute, software, "core_attn"))
    rows.append(expert_forward_s * again(recompute, software, "experts"))
    return recompute_fraction * add(rows)


# ---------------------------------------------------------------------------------------------------- layer sums


@quantity("s", over="kind", source="sum over operators")
def layer_gemm_forward_s(gemm_forward_s, expert_forward_s) -> Array:
    """All matrix products of one layer, forward."""
    return add(gemm_forward_s) + expert_forward_s


@quantity("s", over="kind", source="sum over operators")
def layer_gemm_weight_gradient_s(gemm_weight_gradient_s, expert_weight_gradient_s) -> Array:
    """All weight-gradient products of one layer."""
    return add(gemm_weight_gradient_s) + expert_weight_gradient_s


@quantity("s", over="kind", source="sum over operators")
def layer_gemm_backward_s(gemm_input_gradient_s, expert_input_gradient_s, layer_gemm_weight_gradient_s) -> Array:
    """All matrix products of one layer, backward."""
    return add(gemm_input_gradient_s) + expert_input_gradient_s + layer_gemm_weight_gradient_s


@quantity("s", over="kind", source="sum over operators")
def layer_elementwise_forward_s(elementwise_forward_s, weight_cast_s) -> Array:
    """All memory-bound operators of one layer, forward."""
    return add(elementwise_forward_s) + weight_cast_s


@quantity("s", over="kind", source="sum over operators")
def layer_elementwise_backward_s(elementwise_backward_s) -> Array:
    """All memory-bound operators of one layer, backward."""
    return add(elementwise_backward_s)


# ---------------------------------------------------------------------------------------------------- host


def _graph_shares(kind_spec, graph_scopes, host_graph_share) -> tuple[Array, Array]:
    """Host time left of the dense part of a layer and of its expert part.

    A whole captured iteration replays with one launch. A captured part keeps `host_graph_share` of its launches; attention and
    dense FFN are half of a dense layer each, router and pre-processing half each of what a MoE layer adds before its experts.
    """
    if "full_iteration" in graph_scopes:
        return np.full(1, 0.02), np.full(1, 0.02)
    saved = 1.0 - host_graph_share
    if kind_spec.moe:
        # the norm and the router in front of the experts are half of what a MoE layer has outside of them
        dense = 1.0 if "attn" in graph_scopes else 0.5 * ("moe_router" in graph_scopes)
        moe = (
            0.5 * ("moe_router" in graph_scopes)
            + 0.5 * ("moe_preprocess" in graph_scopes)
            + 1.0 * ("moe" in graph_scopes)
        )
    else:
        dense, moe = 0.5 * ("attn" in graph_scopes) + 0.5 * ("mlp" in graph_scopes), 0.0
    return 1.0 - saved * dense, 1.0 - saved * min(moe, 1.0)


@quantity("s", over="kind", source="fitted: host seconds a layer and direction")
def host_s(
    kind_spec,
    block,
    software,
    graph_scopes,
    host_layer_s,
    host_moe_s,
    host_graph_share,
    host_wait_per_rank,
    host_unfused_softmax,
    softmax_fused,
    tp,
    host_static_share,
) -> Array:
    """Host time to launch one layer in one direction. Static expert capacity needs no token counts on the host."""
    dense_share, moe_share = _graph_shares(kind_spec, graph_scopes, host_graph_share)
    waits = 1.0 + host_wait_per_rank * (tp - 1.0)
    if software.attention_kernel == "unfused":
        waits = waits * np.where(softmax_fused > 0.0, 1.0, host_unfused_softmax)
    if not kind_spec.moe:
        return host_layer_s * dense_share * waits
    dispatcher = {"alltoall": 1.0, "allgather": 0.7, "deepep": 0.93, "hybridep": 0.93, "fused": 0.3}[
        software.moe_dispatcher
    ]
    static = host_static_share if block.capacity else 1.0
    return (host_layer_s * dense_share + host_moe_s * dispatcher * static * moe_share) * waits


# ---------------------------------------------------------------------------------------------------- ends


@quantity("s", source="op_fits section 2; the head stays in 16 bits")
def head_gemm_s(
    rank_tokens,
    vocab,
    hidden,
    tp,
    half_gemm_FLOPps,
    sms,
    wave_loss,
    k_ramp,
    activation_B,
    gradient_B,
    gemm_memory_Bps,
    gemm_launch_s,
) -> Array:
    """LM head products of one micro-batch (forward, input gradient, weight gradient). Shape (3, ...)."""
    local = vocab / tp
    share = np.array([1.0, 1.0, WEIGHT_GRADIENT_SHARE]).reshape((3,) + (1,) * np.ndim(half_gemm_FLOPps * rank_tokens))
    return kernels.gemm_s(
        stack(rank_tokens, rank_tokens, local),
        stack(local, hidden, hidden),
        stack(hidden, local, rank_tokens),
        rate_FLOPps=half_gemm_FLOPps * share,
        sms=sms,
        wave_loss=wave_loss,
        k_ramp=k_ramp,
        input_B=activation_B,
        output_B=stack(activation_B, activation_B, 2.0 * gradient_B),
        memory_Bps=gemm_memory_Bps,
        launch_s=gemm_launch_s,
    )


@quantity("s", source="counted: passes over the logits")
def loss_s(rank_tokens, vocab, tp, software, elementwise_Bps, elementwise_launch_s, activation_B) -> Array:
    """Softmax cross-entropy of one micro-batch, forward and backward: passes over the logits in fp32 unless fused."""
    passes = 6.0 if software.fused_cross_entropy else 15.0  # elements of activation_B bytes: 12 B and 30 B a logit
    return kernels.memory_bound_s(
        rank_tokens * vocab / tp * passes * activation_B, elementwise_Bps, np.full(1, 8.0), elementwise_launch_s
    )


@quantity("s", source="sum: head products, loss, final norm")
def head_forward_s(head_gemm_s, loss_s) -> Array:
    """LM head and loss of one micro-batch, forward."""
    return head_gemm_s[0] + 0.5 * loss_s


@quantity("s", source="sum: head products, loss, final norm")
def head_backward_s(head_gemm_s, loss_s) -> Array:
    """LM head and loss of one micro-batch, backward."""
    return head_gemm_s[1] + head_gemm_s[2] + 0.5 * loss_s


@quantity("s", source="counted: gather of rows forward; scatter-add of rows backward")
def embedding_s(rank_tokens, hidden, elementwise_Bps, elementwise_launch_s, activation_B, gradient_B) -> Array:
    """Embedding look-up and its gradient of one micro-batch."""
    return kernels.memory_bound_s(
        rank_tokens * hidden * (5.0 * activation_B + 2.0 * gradient_B),
        elementwise_Bps,
        np.full(1, 4.0),
        elementwise_launch_s,
    )


@quantity("s", source="counted: projection of [hidden, embedding] to hidden, three products")
def mtp_projection_s(rank_tokens, hidden, half_gemm_FLOPps) -> Array:
    """The 2h x h projection in front of a multi-token-prediction layer, forward and backward."""
    return 12.0 * rank_tokens * hidden * hidden / half_gemm_FLOPps
