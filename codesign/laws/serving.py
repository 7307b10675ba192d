"""Serving the trained shape: key-value memory, time of a decode step and of prefill, knee of the batch, cost of a token.

EQ-96 to EQ-102. Elementwise over float64 arrays that broadcast together. Rates are of all accelerators that hold one copy
of the model together; what they send each other comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def kv_B_per_token(layers: Array, kv_heads: Array, head_dim: Array, element_B: Array) -> Array:
    """Keys and values of a token: 2 L nkv hd e  (EQ-96): 516,096 B for Llama 3.1 405B in bf16."""
    return 2.0 * layers * kv_heads * head_dim * element_B


def mla_kv_B_per_token(layers: Array, kv_lora: Array, rope: Array, element_B: Array) -> Array:
    """Latent and rope key of a token: L (kv_lora + rope) e  (EQ-97): 70,272 B for DeepSeek-V3 in bf16."""
    return layers * (kv_lora + rope) * element_B


def sequence_kv_B(
    context: Array, kv_B_per_token: Array, window: Array | float = np.inf, windowed_share: Array | float = 0.0
) -> Array:
    """Key-value memory of one sequence; the share of layers with a sliding window holds the window at most  (EQ-96)."""
    held = np.minimum(context, window) * windowed_share + context * (1.0 - np.asarray(windowed_share))
    return held * kv_B_per_token


def touched_experts(experts: Array, top_k: Array, tokens: Array) -> Array:
    """Experts of a layer that a batch reads: E (1 - (1 - k/E)^B), routing even and independent  (EQ-98, derived)."""
    return -experts * np.expm1(tokens * np.log1p(-top_k / experts))


def decode_step_s(
    batch: Array, sequence_kv_B: Array, active_parameters: Array, read_B: Array, memory_Bps: Array, compute_FLOPps: Array
) -> Array:
    """One token for each of a batch: B KV/BW + max(2 B P_active/F, weights read/BW)  (EQ-98).

    Attention is bound by memory; the weights are read once for all. `read_B`: all weights of a dense model, those of the
    experts touched for a mixture.
    """
    return batch * sequence_kv_B / memory_Bps + np.maximum(
        2.0 * batch * active_parameters / compute_FLOPps, read_B / memory_Bps
    )


def knee_batch(
    compute_FLOPps: Array, memory_Bps: Array, parameter_B: Array, experts_over_active: Array | float = 1.0
) -> Array:
    """Tokens at which the products of a decode step turn compute-bound: F/BW e_w/2, times E/k for a mixture  (EQ-99).

    240 for bf16 on TPU v5e. The mixture's factor is derived, and holds where the batch touches all experts.
    """
    return compute_FLOPps / memory_Bps * parameter_B / 2.0 * experts_over_active


def memory_batch(capacity_B: Array, weights_B: Array, sequence_kv_B: Array) -> Array:
    """Sequences whose keys and values fit beside the weights, whole ones; 0 where the weights do not fit."""
    return np.maximum(np.floor((capacity_B - weights_B) / sequence_kv_B), 0.0)


def tokens_per_step(acceptance: Sequence[Array]) -> Array:
    """Tokens a decode step yields with drafted ones: 1 + a1 + a1 a2 + ..  (EQ-100): 1.8 to 1.9 at 80 to 90 % and one."""
    total, accepted = np.ones(1), np.ones(1)
    for probability in acceptance:
        accepted = accepted * probability
        total = total + accepted
    return total


def prefill_FLOP_per_token(
    matmul_parameters: Array, prompt: Array, heads: Array, qk_dim: Array, v_dim: Array, layers: Array
) -> Array:
    """Forward FLOPs of a prompt token, causal mean: 2 P_mm + s nh (d_qk + d_v) L  (EQ-102)."""
    return 2.0 * matmul_parameters + prompt * heads * (qk_dim + v_dim) * layers


def decode_FLOP_per_token(
    matmul_parameters: Array, context: Array, heads: Array, qk_dim: Array, v_dim: Array, layers: Array
) -> Array:
    """Forward FLOPs of a token that attends to the whole context: 2 P_mm + 2 s nh (d_qk + d_v) L  (EQ-102).

    Absorbed MLA: d_qk = kv_lora + rope, d_v = kv_lora.
    """
    return 2.0 * matmul_parameters + 2.0 * context * heads * (qk_dim + v_dim) * layers


def prefill_s(prompt: Array, FLOP_per_token: Array, sustained_FLOPps: Array) -> Array:
    """Time to the first token of a prompt, compute-bound  (EQ-102). `sustained_FLOPps`: what large products reach."""
    return prompt * FLOP_per_token / sustained_FLOPps


def cost_per_million_tokens(accelerators: Array, price_per_hour: Array, tokens_per_s: Array) -> Array:
    """Price an hour of all accelerators over what they serve in it, times 1e6  (EQ-101)."""
    return price_per_hour * accelerators / (tokens_per_s * 3600.0) * 1e6
