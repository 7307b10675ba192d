"""What the model is, per layer kind and per rank: matrix shapes, parameters, tokens, FLOPs.

Operators of one layer kind lie along a leading axis, labelled by `gemm_labels`; a layer kind is an index member.
Degrees follow Megatron's conventions: column- and row-parallel matrices are cut by tp, expert matrices by ep and etp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack

Array = NDArray[np.float64]

# operators that every tensor-parallel rank runs whole, on its share of the tokens where sequence parallelism gives it one
REPLICATED = frozenset({"q_down", "kv_down", "router", "shared_gate"})


def gemm_labels(kind_spec, block) -> tuple[str, ...]:
    """Names of the dense matrix products of one layer, in order of execution. Experts are apart (grouped products)."""
    attention: tuple[str, ...] = ("qkv", "attn_out")
    if kind_spec.mla:
        attention = (("q_down", "q_up") if block.query_lora else ("q_up",)) + ("kv_down", "kv_up", "attn_out")
    if not kind_spec.moe:
        return (*attention, "ffn_up", "ffn_down")
    shared = ("shared_up", "shared_down") if block.shared_experts else ()
    return (*attention, "router", *shared, *(("shared_gate",) if block.shared_gate else ()))


@quantity("1", source="definition")
def gated_matrices(block) -> Array:
    """Input matrices of an FFN: 2 where it is gated (SwiGLU, GeGLU), else 1."""
    return np.array([2.0 if block.gated else 1.0])


@quantity("1", source="Megatron-LM attention.py: KV heads are replicated when tp exceeds them")
def local_kv_heads(kv_heads, tp) -> Array:
    """KV heads on one tensor-parallel rank."""
    return np.maximum(kv_heads / tp, 1.0)


@quantity("1", over="kind", source="EQ-01, EQ-02, EQ-03")
def gemm_out(
    kind_spec,
    block,
    hidden,
    heads,
    local_kv_heads,
    qk_dim,
    v_dim,
    nope_dim,
    rope_dim,
    q_lora,
    kv_lora,
    ffn,
    shared_ffn,
    experts,
    gated_matrices,
    tp,
) -> Array:
    """Output width n of each dense matrix product of a layer, on one rank. Shape (operators, ...)."""
    width = {
        "qkv": heads / tp * qk_dim + local_kv_heads * (qk_dim + v_dim),
        "q_down": q_lora,
        "q_up": heads / tp * qk_dim,
        "kv_down": kv_lora + rope_dim,
        "kv_up": heads / tp * (nope_dim + v_dim),
        "attn_out": hidden,
        "ffn_up": gated_matrices * ffn / tp,
        "ffn_down": hidden,
        "router": experts,
        "shared_up": gated_matrices * shared_ffn / tp,
        "shared_down": hidden,
        "shared_gate": np.ones_like(hidden),
    }
    return stack(*(width[label] for label in gemm_labels(kind_spec, block)))


@quantity("1", over="kind", source="EQ-01, EQ-02, EQ-03")
def gemm_in(kind_spec, block, hidden, heads, v_dim, q_lora, kv_lora, ffn, shared_ffn, tp) -> Array:
    """Input width k of each dense matrix product of a layer, on one rank. Shape (operators, ...)."""
    query_in = q_lora if block.query_lora else hidden
    width = {
        "qkv": hidden,
        "q_down": hidden,
        "q_up": query_in,
        "kv_down": hidden,
        "kv_up": kv_lora,
        "attn_out": heads / tp * v_dim,
        "ffn_up": hidden,
        "ffn_down": ffn / tp,
        "router": hidden,
        "shared_up": hidden,
        "shared_down": shared_ffn / tp,
        "shared_gate": hidden,
    }
    return stack(*(width[label] for label in gemm_labels(kind_spec, block)))


# ---------------------------------------------------------------------------------------------------- tokens


@quantity("1", source="definition")
def micro_batches(global_batch, dp, micro_batch) -> Array:
    """Micro-batches that one data-parallel rank works through in a step."""
    return global_batch / (dp * micro_batch)


@quantity("tokens", source="definition")
def rank_tokens(micro_batch, sequence_tokens, cp) -> Array:
    """Tokens of one micro-batch that a tensor-parallel group holds."""
    return micro_batch * sequence_tokens / cp


@quantity("1", source="Korthikanti 2022, section 4.2.2")
def sequence_shards(sequence_parallel, tp) -> Array:
    """Ranks over which the tokens outside attention and FFN are spread: tp with sequence parallelism, else 1."""
    return tp * 1.0 if sequence_parallel else np.ones_like(tp)


@quantity("tokens", source="definition")
def norm_tokens(rank_tokens, sequence_shards) -> Array:
    """Tokens that one rank normalises, adds to the residual, routes."""
    return rank_tokens / sequence_shards


@quantity("tokens", over="kind", source="EQ-05; window: w (1 - w/2s); documents: mean of l^2 / 2 over mean l")
def attended_tokens(kind_spec, sequence_tokens, window, document_tokens, length_dispersion) -> Array:
    """Mean number of keys that a query reads under the causal mask, the window and the document mask."""
    whole = np.where(
        document_tokens > 0, np.minimum(document_tokens * length_dispersion, sequence_tokens), sequence_tokens
    )
    if not kind_spec.windowed:
        return 0.5 * whole
    near = np.minimum(window, whole)
    return near * (1.0 - 0.5 * near / whole)


@quantity("1", source="Megatron-Core MoE: routed copies over the expert ranks; capacity pads or drops to a fixed count")
def routed_rows(block, norm_tokens, top_k, etp, capacity_factor, imbalance, sequence_shards, tp) -> Array:
    """Token copies that the experts of the busiest rank work on in one micro-batch."""
    # without sequence parallelism each of the tp ranks holds all tokens, and routes its own share of them
    own = norm_tokens * sequence_shards / tp
    # a static capacity is what every expert works on, however the tokens fall
    return own * top_k * etp * (capacity_factor if block.capacity else imbalance)


@quantity("1", source="definition")
def local_experts(experts, ep) -> Array:
    """Experts on one rank."""
    return experts / ep


@quantity("1", source="definition")
def rows_per_expert(routed_rows, local_experts) -> Array:
    """Rows of one expert's matrix products in one micro-batch, on the busiest rank."""
    return routed_rows / local_experts


# ---------------------------------------------------------------------------------------------------- parameters


@quantity("1", over="kind", source="EQ-01, EQ-03")
def sharded_parameters(kind_spec, block, gemm_out, gemm_in, qkv_bias, mlp_bias) -> Array:
    """Parameters of one layer on one rank in matrices cut by tensor parallelism (biases of cut outputs with them)."""
    rows = []
    for at, label in enumerate(gemm_labels(kind_spec, block)):
        if label in REPLICATED:
            continue
        bias = {"qkv": qkv_bias, "ffn_up": mlp_bias}.get(label)
        rows.append(gemm_out[at] * gemm_in[at] + (bias * gemm_out[at] if bias is not None else 0.0))
    return add(rows)


@quantity("1", over="kind", source="EQ-01, EQ-03")
def replicated_parameters(
    kind_spec,
    block,
    gemm_out,
    gemm_in,
    hidden,
    norm_vectors,
    qk_dim,
    q_lora,
    kv_lora,
    out_bias,
    mlp_bias,
    router_bias,
    heads,
    kv_heads,
    tp,
    score_bias,
) -> Array:
    """Parameters of one layer that every tensor-parallel rank holds: norms, down-projections, router, output biases."""
    rows = [gemm_out[at] * gemm_in[at] for at, label in enumerate(gemm_labels(kind_spec, block)) if label in REPLICATED]
    norms = norm_vectors * hidden * block.norms + out_bias * hidden
    if block.qk_norm != "none":
        norms = norms + (2.0 * qk_dim if block.qk_norm == "head" else (heads + kv_heads) / tp * qk_dim)
    if block.sinks:
        norms = norms + heads / tp
    if kind_spec.mla:
        norms = norms + kv_lora + q_lora
    labels = gemm_labels(kind_spec, block)
    tail = mlp_bias * hidden
    if kind_spec.moe:
        # biases of the router: one of the linear layer, one of the balancing score
        tail = (router_bias + score_bias) * gemm_out[labels.index("router")]
    return add([*rows, norms, tail])


@quantity("1", over="kind", source="EQ-02")
def expert_parameters(kind_spec, hidden, expert_ffn, gated_matrices, local_experts, etp, expert_bias) -> Array:
    """Parameters of one layer's routed experts on one rank."""
    if not kind_spec.moe:
        return np.zeros(1)
    matrices = (gated_matrices + 1.0) * hidden * expert_ffn / etp
    return local_experts * (matrices + expert_bias * (gated_matrices * expert_ffn / etp + hidden))


@quantity("1", source="EQ-01")
def embedding_parameters(vocab, hidden, tp, learned_positions) -> Array:
    """Parameters of the input embedding on one rank, cut over the vocabulary by tensor parallelism."""
    return vocab * hidden / tp + learned_positions * hidden


@quantity("1", source="EQ-01")
def head_parameters(vocab, hidden, tp, head_bias) -> Array:
    """Parameters of the LM head on one rank."""
    return vocab * (hidden + head_bias) / tp


@quantity("1", source="definition: stages x layer kinds")
def rank_dense_parameters(
    stage_layers,
    stage_embedding,
    stage_head,
    stage_mtp,
    sharded_parameters,
    replicated_parameters,
    embedding_parameters,
    head_parameters,
    hidden,
    norm_vectors,
    tied_embeddings,
    pipeline,
    final_norm,
    embedding_norm,
) -> Array:
    """Parameters outside the routed experts on each pipeline rank. Shape (pipeline ranks, ...)."""
    kinds = list(sharded_parameters)
    layers = add(stage_layers[k] * (sharded_parameters[k] + replicated_parameters[k]) for k in kinds)
    last = kinds[-1]
    mtp = stage_mtp * (sharded_parameters[last] + replicated_parameters[last] + 2.0 * hidden * (hidden + norm_vectors))
    # tied weights are one matrix where first and last stage are one rank, a copy on each where they are not
    head = head_parameters * (0.0 if tied_embeddings and pipeline.pp == 1 else 1.0) + final_norm * norm_vectors * hidden
    return (
        layers
        + mtp
        + stage_embedding * (embedding_parameters + embedding_norm * norm_vectors * hidden)
        + stage_head * head
    )


@quantity("1", source="definition: stages x layer kinds")
def rank_expert_parameters(stage_layers, stage_mtp, expert_parameters) -> Array:
    """Parameters of routed experts on each pipeline rank. Shape (pipeline ranks, ...)."""
    kinds = list(expert_parameters)
    return add(stage_layers[k] * expert_parameters[k] for k in kinds) + stage_mtp * expert_parameters[kinds[-1]]


# ---------------------------------------------------------------------------------------------------- model FLOPs


@quantity("1", over="kind", source="EQ-05: every weight that a token multiplies")
def matmul_weights(
    kind_spec, block, gemm_out, gemm_in, hidden, heads, kv_heads, qk_dim, v_dim, expert_ffn, gated_matrices, top_k, tp
) -> Array:
    """Weights of one layer that one token multiplies, whole model: active experts, no norms, no biases."""
    rows = [
        # KV heads that ranks hold twice are one head of the model
        (heads * qk_dim + kv_heads * (qk_dim + v_dim)) * hidden
        if label == "qkv"
        else gemm_out[at] * gemm_in[at] * (1.0 if label in REPLICATED else tp)
        for at, label in enumerate(gemm_labels(kind_spec, block))
    ]
    if kind_spec.moe:
        rows.append(top_k * (gated_matrices + 1.0) * hidden * expert_ffn)
    return add(rows)


@quantity("FLOP", over="kind", source="EQ-05")
def token_attention_FLOP(heads, qk_dim, v_dim, attended_tokens) -> Array:
    """Score and value products of one token in one layer, forward and backward, under the mask: 6 nh (dqk + dv) attended."""
    return 6.0 * heads * (qk_dim + v_dim) * attended_tokens


@quantity("FLOP", source="EQ-05, causal attention")
def token_model_FLOP(model_layers, mtp_layers, matmul_weights, token_attention_FLOP, vocab, hidden) -> Array:
    """Model FLOPs of one trained token: 6 for each weight that it multiplies, and its masked attention. No recompute."""
    kinds = list(matmul_weights)
    last = kinds[-1]
    layers = add(model_layers[k] * (6.0 * matmul_weights[k] + token_attention_FLOP[k]) for k in kinds)
    mtp = mtp_layers * (6.0 * matmul_weights[last] + token_attention_FLOP[last] + 12.0 * hidden * hidden)
    return layers + mtp + 6.0 * (1.0 + mtp_layers) * vocab * hidden


@quantity("tokens", source="definition")
def step_tokens(global_batch, sequence_tokens) -> Array:
    """Tokens of one optimizer step, whole job."""
    return global_batch * sequence_tokens
