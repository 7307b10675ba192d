"""How many parameters a model has, and how many of them one token uses.

Takes any object with the attributes of the spec's model section, so that presets, imported configurations and specs
are counted by the same laws (EQ-01 to EQ-03).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.laws import transformer as laws

NORM_VECTORS = {"rmsnorm": 1, "layernorm": 2, "layernorm-nobias": 1, "nonparametric": 0}


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one model. `parts` add up to `total`; multi-token prediction is counted apart from all of them.

    `active_with_embeddings`: what one token uses, both vocabulary matrices counted (a tied one once).
    `active_matmul`: weights that one token multiplies, the P_mm of EQ-05: LM head in, input table and vectors out.
    `mtp`: parameters of all MTP modules beyond what they share with the model; `mtp_active_matmul`: what their
    matrix products add a token, an LM head each.
    """

    total: int
    active_with_embeddings: int
    active_matmul: int
    mtp: int
    mtp_active_matmul: int
    parts: dict[str, int]


@dataclass(frozen=True)
class Block:
    """One part of a layer: parameters stored, parameters used by one token, weights multiplied by one token."""

    stored: int
    active: int
    matmul: int

    def __add__(self, other: Block) -> Block:
        return Block(self.stored + other.stored, self.active + other.active, self.matmul + other.matmul)


def moe_layer_count(model: Any) -> int:
    """How many of the layers are MoE: after the leading dense ones, every `every`-th."""
    if model.moe is None:
        return 0
    return max(model.layers - model.moe.dense_layers, 0) // model.moe.every


def count_parameters(model: Any) -> ParameterCount:
    """Count a model with the fields of `codesign.spec.schema.Model` (EQ-01, EQ-02, EQ-03)."""
    moe_layers = moe_layer_count(model)
    dense_layers = model.layers - moe_layers
    attention, norms = attention_block(model), norm_block(model)
    dense = dense_ffn_block(model) if dense_layers else Block(0, 0, 0)
    moe = moe_parts(model) if model.moe else {}
    vectors = NORM_VECTORS[model.norm]
    table = int(laws.embedding_weights(model.vocab, model.hidden))
    outer_norms = int(model.final_norm) + int(model.embedding_norm)
    head_bias = model.vocab if model.biases.head else 0
    positions = model.max_positions or 0 if model.positions == "learned" else 0
    parts = {
        "embedding": Block(table, table, 0),
        "positions": _vectors(laws.position_parameters(positions, model.hidden)),
        "attention": _times(model.layers, attention),
        "ffn": _times(dense_layers, dense),
        **{name: _times(moe_layers, block) for name, block in moe.items()},
        "norms": _times(model.layers, norms) + _vectors(outer_norms * laws.norm_parameters(model.hidden, vectors)),
        "head": _head(table, head_bias, model.tied_embeddings),
    }
    whole = sum(parts.values(), start=Block(0, 0, 0))
    last = sum(moe.values(), start=Block(0, 0, 0)) if moe_layers else dense
    mtp_layer = attention + last + norms + mtp_block(model)
    return ParameterCount(
        total=whole.stored,
        active_with_embeddings=whole.active,
        active_matmul=whole.matmul,
        mtp=model.mtp_layers * mtp_layer.stored,
        mtp_active_matmul=model.mtp_layers * (mtp_layer.matmul + table),
        parts={name: block.stored for name, block in parts.items() if block.stored},
    )


def attention_block(model: Any) -> Block:
    """Attention of one layer: projections, their biases, the norms inside it, sinks."""
    if model.mla:
        mla = model.mla
        dims = (mla.kv_lora, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim)
        if mla.q_lora:
            weights = laws.mla_weights(model.hidden, model.heads, mla.q_lora, *dims)
        else:
            weights = laws.mla_direct_query_weights(model.hidden, model.heads, *dims)
        vectors = laws.norm_parameters((mla.q_lora or 0) + mla.kv_lora, 1)
        if model.biases.attn_out:
            vectors += model.hidden
        return _weights(weights) + _vectors(vectors)
    kv_heads, head_dim = model.kv_heads or model.heads, model.head_dim or model.hidden // model.heads
    weights = laws.gqa_weights(model.hidden, model.heads, kv_heads, head_dim)
    vectors = 0.0
    if model.biases.qkv:
        vectors += laws.qkv_bias_parameters(model.heads, kv_heads, head_dim)
    if model.biases.attn_out:
        vectors += model.hidden
    if model.qk_norm == "head":
        vectors += laws.head_qk_norm_parameters(head_dim)
    elif model.qk_norm == "full":
        vectors += laws.full_qk_norm_parameters(model.heads, kv_heads, head_dim)
    if model.attention_sinks:
        vectors += model.heads
    return _weights(weights) + _vectors(vectors)


def dense_ffn_block(model: Any) -> Block:
    """The feed-forward block of one dense layer."""
    return _ffn(model, model.ffn or 0, model.biases.mlp)


def moe_parts(model: Any) -> dict[str, Block]:
    """The parts of one MoE layer: router, experts (`top_k` of them active), shared experts with their gate."""
    moe = model.moe
    router = _weights(laws.router_weights(model.hidden, moe.experts))
    if model.biases.router:
        router += _vectors(moe.experts)
    if moe.router_score_bias:
        router += _vectors(moe.experts)
    one = _ffn(model, moe.expert_ffn, model.biases.experts)
    experts = Block(moe.experts * one.stored, moe.top_k * one.active, moe.top_k * one.matmul)
    shared_width = moe.shared_expert_ffn or moe.shared_experts * moe.expert_ffn
    shared = _ffn(model, shared_width, model.biases.experts) if shared_width else Block(0, 0, 0)
    if moe.shared_expert_gate:
        shared += _weights(laws.router_weights(model.hidden, 1))
    return {"router": router, "experts": experts, "shared_experts": shared}


def norm_block(model: Any) -> Block:
    """The normalisations of one layer on the residual stream."""
    return _vectors(model.norms_per_layer * laws.norm_parameters(model.hidden, NORM_VECTORS[model.norm]))


def mtp_block(model: Any) -> Block:
    """What an MTP module adds to a layer: the 2h x h projection and the norms of its two inputs."""
    vectors = 2 * laws.norm_parameters(model.hidden, NORM_VECTORS[model.norm])
    return _weights(laws.mtp_projection_weights(model.hidden)) + _vectors(vectors)


def _ffn(model: Any, width: int, biases: bool) -> Block:
    matrices = 3 if model.gated_ffn else 2
    block = _weights(laws.ffn_weights(model.hidden, width, matrices))
    return block + _vectors(laws.ffn_bias_parameters(model.hidden, width, matrices)) if biases else block


def _head(table: int, bias: int, tied: bool) -> Block:
    """The LM head; a tied one is stored with the embedding and still multiplied."""
    return Block(bias if tied else table + bias, bias if tied else table + bias, table)


def _weights(count: Any) -> Block:
    return Block(int(count), int(count), int(count))


def _vectors(count: Any) -> Block:
    return Block(int(count), int(count), 0)


def _times(layers: int, block: Block) -> Block:
    return Block(layers * block.stored, layers * block.active, layers * block.matmul)
