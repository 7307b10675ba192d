"""Parameter counts and FLOPs of decoder-only transformers.

Arguments are counts (float64 arrays that broadcast together, or plain numbers); results are parameters, FLOP (a
multiply-add is two), tokens or seconds. Weights, which take part in a matrix product, are kept apart from vectors
(biases, norms), which do not, because EQ-05 counts the former only. Counts are exact in float64 up to 2^53.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64] | float

BACKWARD_PASSES = 3.0  # forward, input gradient and weight gradient each cost one forward pass of a matrix product


# ---------------------------------------------------------------------------------------------------- parameters


def gqa_weights(hidden: Array, heads: Array, kv_heads: Array, head_dim: Array) -> Array:
    """Query, key, value and output projections of one attention layer (EQ-01). kv_heads = heads is MHA, 1 is MQA."""
    return 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim


def qkv_bias_parameters(heads: Array, kv_heads: Array, head_dim: Array) -> Array:
    """Biases of the query, key and value projections (the attention part of beta in EQ-01)."""
    return heads * head_dim + 2 * kv_heads * head_dim


def head_qk_norm_parameters(head_dim: Array) -> Array:
    """One scale of head_dim for queries and one for keys, shared by all heads (EQ-01; Qwen3, Gemma 3)."""
    return 2 * head_dim


def full_qk_norm_parameters(heads: Array, kv_heads: Array, head_dim: Array) -> Array:
    """One scale for each element of the queries and of the keys (OLMo 2, arXiv 2501.00656)."""
    return (heads + kv_heads) * head_dim


def mla_weights(
    hidden: Array, heads: Array, q_lora: Array, kv_lora: Array, nope_dim: Array, rope_dim: Array, v_dim: Array
) -> Array:
    """Projections of one MLA layer with low-rank queries (EQ-03 without its two norms; DeepSeek-V2)."""
    query = hidden * q_lora + q_lora * heads * (nope_dim + rope_dim)
    return query + mla_kv_and_output_weights(hidden, heads, kv_lora, nope_dim, rope_dim, v_dim)


def mla_direct_query_weights(
    hidden: Array, heads: Array, kv_lora: Array, nope_dim: Array, rope_dim: Array, v_dim: Array
) -> Array:
    """Projections of one MLA layer whose queries come straight from the hidden state (EQ-03 with h in place of q)."""
    query = hidden * heads * (nope_dim + rope_dim)
    return query + mla_kv_and_output_weights(hidden, heads, kv_lora, nope_dim, rope_dim, v_dim)


def mla_kv_and_output_weights(
    hidden: Array, heads: Array, kv_lora: Array, nope_dim: Array, rope_dim: Array, v_dim: Array
) -> Array:
    """Down- and up-projection of keys and values, and the output projection (EQ-03, last four terms)."""
    return hidden * (kv_lora + rope_dim) + kv_lora * heads * (nope_dim + v_dim) + v_dim * heads * hidden


def ffn_weights(hidden: Array, width: Array, matrices: Array) -> Array:
    """One feed-forward block, or one expert (EQ-01, EQ-02): `matrices` is 3 where gated (up, gate, down), else 2."""
    return matrices * hidden * width


def ffn_bias_parameters(hidden: Array, width: Array, matrices: Array) -> Array:
    """Biases of a feed-forward block: `width` for each matrix in, `hidden` on the way out (EQ-01)."""
    return (matrices - 1) * width + hidden


def router_weights(hidden: Array, experts: Array) -> Array:
    """The router of a MoE layer, one column an expert (EQ-02). With experts = 1: a shared expert's sigmoid gate."""
    return hidden * experts


def norm_parameters(width: Array, vectors: Array) -> Array:
    """One normalisation: `vectors` is 1 for a scale (RMSNorm), 2 with a bias (LayerNorm), 0 without either (EQ-01)."""
    return vectors * width


def embedding_weights(vocab: Array, hidden: Array) -> Array:
    """A vocabulary matrix: the input table, the LM head, or both where they are tied (EQ-01)."""
    return vocab * hidden


def position_parameters(positions: Array, hidden: Array) -> Array:
    """A learned table of absolute positions (EQ-01, `pos`)."""
    return positions * hidden


def mtp_projection_weights(hidden: Array) -> Array:
    """2h x h projection in front of a multi-token-prediction layer (DeepSeek-V3, arXiv 2412.19437 eq. 21)."""
    return 2 * hidden * hidden


def gpt_parameters(layers: Array, hidden: Array, vocab: Array, sequence_tokens: Array) -> Array:
    """EQ-04: 12Lh^2 (1 + 13/(12h) + (V+s)/(12Lh)) (Narayanan 2021, arXiv 2104.04473, eq. 2). GPT, ffn = 4h, tied."""
    scale = 12.0 * layers * hidden
    return scale * hidden * (1.0 + 13.0 / (12.0 * hidden) + (vocab + sequence_tokens) / scale)


# ---------------------------------------------------------------------------------------------------- attended length


def causal_attended_tokens(sequence_tokens: Array) -> Array:
    """Mean keys a query reads under a causal mask, s/2: the convention of EQ-05 (exactly (s+1)/2)."""
    return 0.5 * sequence_tokens


def full_attended_tokens(sequence_tokens: Array) -> Array:
    """Keys a query reads where the mask is not counted: s (EQ-05 with kappa = 1, EQ-06)."""
    return 1.0 * sequence_tokens


def windowed_attended_tokens(sequence_tokens: Array, window_tokens: Array) -> Array:
    """Mean keys a query reads under a causal sliding window (EQ-05): w(1 - w/(2s)) for s > w, else s/2."""
    reach = np.minimum(window_tokens, sequence_tokens)
    return reach * (1.0 - 0.5 * reach / sequence_tokens)


def packed_document_tokens(sequence_tokens: Array, mean_document_tokens: Array, length_dispersion: Array) -> Array:
    """Mean length of the document that a token of a packed sequence belongs to (EQ-05, document masking).

    A token is more often in a long document: E[n^2]/E[n] = mean * dispersion, with dispersion = E[n^2]/E[n]^2 (1 for
    equal lengths, 2 for exponential ones). Documents are cut at the sequence's end, so it is at most s; exact where no
    document is cut. The result takes the place of s in `causal_attended_tokens` and, where the lengths are equal,
    exactly in `windowed_attended_tokens`.
    """
    return np.minimum(mean_document_tokens * length_dispersion, sequence_tokens)


# ---------------------------------------------------------------------------------------------------- FLOPs per token


def score_value_FLOP_per_token(heads: Array, qk_dim: Array, v_dim: Array, attended_tokens: Array) -> Array:
    """Query-key and score-value products of one layer, forward, one token: 2 nh (d_qk + d_v) attended (EQ-05).

    Always all query heads: GQA shares keys and values, it does not save products.
    """
    return 2.0 * heads * (qk_dim + v_dim) * attended_tokens


def training_FLOP_per_token(matmul_weights: Array, score_value_FLOP: Array) -> Array:
    """Forward and backward, no recompute (EQ-05): 3 (2 P_mm + the score and value products of all layers, forward).

    `matmul_weights`: every weight that one token multiplies (active experts and LM head in, input table, norms and
    biases out). `score_value_FLOP`: the sum of `score_value_FLOP_per_token` over the layers.
    """
    return BACKWARD_PASSES * (2.0 * matmul_weights + score_value_FLOP)


def training_FLOP_per_token_causal(
    matmul_weights: Array, layers: Array, heads: Array, qk_dim: Array, v_dim: Array, sequence_tokens: Array
) -> Array:
    """EQ-05 with kappa = 1/2: only what a causal mask leaves is counted. Uniform layers."""
    attended = causal_attended_tokens(sequence_tokens)
    return training_FLOP_per_token(matmul_weights, layers * score_value_FLOP_per_token(heads, qk_dim, v_dim, attended))


def training_FLOP_per_token_full(
    matmul_weights: Array, layers: Array, heads: Array, qk_dim: Array, v_dim: Array, sequence_tokens: Array
) -> Array:
    """EQ-05 with kappa = 1: the whole score matrix is counted, as EQ-06 does. Uniform layers."""
    attended = full_attended_tokens(sequence_tokens)
    return training_FLOP_per_token(matmul_weights, layers * score_value_FLOP_per_token(heads, qk_dim, v_dim, attended))


def training_FLOP_6nd(parameters: Array, tokens: Array) -> Array:
    """C = 6ND (EQ-07): attention's score and value products left out. N is the author's count of parameters."""
    return 6.0 * parameters * tokens


# ---------------------------------------------------------------------------------------------------- GPT closed forms


def _gpt_FLOP(factor: float, sequences: Array, layers: Array, hidden: Array, sequence_tokens: Array) -> Array:
    return factor * sequences * layers * sequence_tokens * hidden * hidden


def gpt_model_FLOP(sequences: Array, layers: Array, hidden: Array, sequence_tokens: Array, vocab: Array) -> Array:
    """EQ-06: 72BLsh^2 (1 + s/6h + V/(12Lh)), one iteration of B sequences (Korthikanti 2022, arXiv 2205.05198, eq. 7).

    GPT with ffn = 4h; full attention counted, no recompute.
    """
    terms = 1.0 + sequence_tokens / (6.0 * hidden) + vocab / (12.0 * layers * hidden)
    return _gpt_FLOP(72.0, sequences, layers, hidden, sequence_tokens) * terms


def gpt_full_recompute_FLOP(
    sequences: Array, layers: Array, hidden: Array, sequence_tokens: Array, vocab: Array
) -> Array:
    """EQ-06: 96BLsh^2 (1 + s/6h + V/(16Lh)), hardware FLOPs with every layer's forward pass repeated
    (Narayanan 2021, arXiv 2104.04473, eq. 3)."""
    terms = 1.0 + sequence_tokens / (6.0 * hidden) + vocab / (16.0 * layers * hidden)
    return _gpt_FLOP(96.0, sequences, layers, hidden, sequence_tokens) * terms


def gpt_selective_recompute_FLOP_published(
    sequences: Array, layers: Array, hidden: Array, sequence_tokens: Array, vocab: Array
) -> Array:
    """EQ-08 as printed: 72BLsh^2 (1 + s/3h + V/(12Lh)) (Korthikanti 2022, arXiv 2205.05198, eq. 8).

    It counts three forward passes of the attention core where one is repeated; its Table 5 follows it. To reproduce
    that table only; `gpt_selective_recompute_FLOP_exact` counts what runs.
    """
    terms = 1.0 + sequence_tokens / (3.0 * hidden) + vocab / (12.0 * layers * hidden)
    return _gpt_FLOP(72.0, sequences, layers, hidden, sequence_tokens) * terms


def gpt_selective_recompute_FLOP_exact(
    sequences: Array, layers: Array, hidden: Array, sequence_tokens: Array, vocab: Array
) -> Array:
    """EQ-08 exact: model FLOPs and one more forward pass of the attention core: s/6h + s/18h = 2s/9h (4Bs^2h)."""
    terms = 1.0 + 2.0 * sequence_tokens / (9.0 * hidden) + vocab / (12.0 * layers * hidden)
    return _gpt_FLOP(72.0, sequences, layers, hidden, sequence_tokens) * terms


# ---------------------------------------------------------------------------------------------------- run time


def run_time_s(total_FLOP: Array, accelerators: Array, FLOPps: Array) -> Array:
    """EQ-07: T = F/(n X). X is the rate at which one accelerator does the FLOPs that F counts (peak x MFU)."""
    return total_FLOP / (accelerators * FLOPps)


def run_time_full_recompute_s(tokens: Array, parameters: Array, accelerators: Array, FLOPps: Array) -> Array:
    """EQ-07: T = 8TP/(nX), X in hardware FLOPs with full recompute (Narayanan 2021, arXiv 2104.04473, eq. 4).

    About 3 % low at 2,048 tokens and 51,200 entries of vocabulary: attention and LM head are left out.
    """
    return 8.0 * tokens * parameters / (accelerators * FLOPps)


def utilisation(FLOPps: Array, peak_FLOPps: Array) -> Array:
    """Share of the peak, MFU or HFU by what FLOPps counts (EQ-07)."""
    return FLOPps / peak_FLOPps


def accelerator_hours(hours_per_token: Array, tokens: Array) -> Array:
    """Accelerator-hours of a run from a rate (EQ-09)."""
    return hours_per_token * tokens


def mfu_of_run(parameters: Array, tokens: Array, hours: Array, peak_FLOPps: Array) -> Array:
    """EQ-09: 6ND/(accelerator-hours x 3600 x peak). Restarts, evaluation and checkpoints are inside the hours."""
    return training_FLOP_6nd(parameters, tokens) / (hours * 3600.0 * peak_FLOPps)
