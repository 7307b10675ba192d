"""Serving the trained shape on a stated accelerator: memory, batch at the knee, prefill and decode, cost of a token.

One copy of the model on `serving_accelerators`, work and memory spread evenly over them; what they send each other is in
`serving_communication`. The batch decodes together and its prompts are read one after another on the same accelerators.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import quantity
from codesign.laws import serving as laws
from codesign.laws import transformer

Array = NDArray[np.float64]


@quantity("B", source="parameters times bytes of one")
def served_weights_B(stored_parameters, serving_weight_B) -> Array:
    """Weights of one copy."""
    return stored_parameters * serving_weight_B


@quantity("B", source="EQ-96, EQ-97")
def served_kv_B(serving_mla, served_layers, served_kv_heads, served_head_dim, served_latent, served_rope, serving_kv_B) -> Array:
    """Keys and values that one token leaves behind in all layers."""
    if serving_mla:
        return laws.mla_kv_B_per_token(served_layers, served_latent, served_rope, serving_kv_B)
    return laws.kv_B_per_token(served_layers, served_kv_heads, served_head_dim, serving_kv_B)


@quantity("B", source="EQ-96; a sequence at its full length")
def full_sequence_B(prompt_length, output_length, served_kv_B, served_window, windowed_share) -> Array:
    """Key-value memory of one sequence when it ends."""
    return laws.sequence_kv_B(prompt_length + output_length, served_kv_B, served_window, windowed_share)


@quantity("B", source="EQ-96; a sequence half-way through its output")
def mean_sequence_B(prompt_length, output_length, served_kv_B, served_window, windowed_share) -> Array:
    """Key-value memory of one sequence, mean over its output."""
    return laws.sequence_kv_B(prompt_length + 0.5 * output_length, served_kv_B, served_window, windowed_share)


@quantity("1", source="the smallest power of two that holds the weights and one sequence")
def serving_accelerators(served_weights_B, full_sequence_B, serving_memory_B, usable_memory_share) -> Array:
    """Accelerators that hold one copy of the model."""
    needed = (served_weights_B + full_sequence_B) / (serving_memory_B * usable_memory_share)
    return np.exp2(np.ceil(np.log2(np.maximum(needed, 1.0))))


@quantity("1", source="EQ-99; F and BW as large products and streams sustain them")
def knee_batch(
    serving_peak_FLOPps, serving_gemm_share, serving_memory_Bps, serving_stream_share, serving_weight_B, expert_spread
) -> Array:
    """Sequences at which the products of a decode step turn compute-bound."""
    return laws.knee_batch(
        serving_peak_FLOPps * serving_gemm_share, serving_memory_Bps * serving_stream_share, serving_weight_B, expert_spread
    )


@quantity("1", source="memory beside the weights over that of a full sequence")
def memory_batch(serving_accelerators, serving_memory_B, usable_memory_share, served_weights_B, full_sequence_B) -> Array:
    """Sequences whose keys and values fit beside the weights."""
    room = serving_accelerators * serving_memory_B * usable_memory_share
    return laws.memory_batch(room, served_weights_B, full_sequence_B)


@quantity("1", source="the knee, or what memory holds")
def serving_batch(knee_batch, memory_batch) -> Array:
    """Sequences decoded together: up to the knee, as memory allows."""
    return np.minimum(np.ceil(knee_batch), memory_batch)


def _memory_message(values) -> str:
    fit = float(np.ravel(values[("memory_batch", None)])[0])
    batch = values.get(("serving_batch", None), values.get("serving_batch"))
    return f"serving: {float(np.ravel(batch)[0]):,.0f} sequences together, and memory holds {fit:,.0f} beside the weights"


@quantity("1", source="memory of the serving accelerators", message=_memory_message)
def fits_serving(serving_batch, memory_batch) -> Array:
    """The weights and the batch fit, at least one sequence."""
    return ((serving_batch <= memory_batch) & (memory_batch >= 1.0)).astype(np.float64)


@quantity("B", source="EQ-98; experts that the batch touches, even and independent routing")
def decode_read_B(
    serving_moe, serving_batch, served_weights_B, expert_parameters_stored, serving_weight_B, served_experts, served_top_k
) -> Array:
    """Weights that one decode step reads: all of a dense model, of a mixture the experts that the batch touches."""
    if not serving_moe:
        return served_weights_B * 1.0
    touched = laws.touched_experts(served_experts, served_top_k, serving_batch) / served_experts
    return served_weights_B - expert_parameters_stored * serving_weight_B * (1.0 - touched)


@quantity("s", source="EQ-98")
def decode_work_s(
    serving_batch, mean_sequence_B, matmul_parameters, decode_read_B, serving_accelerators,
    serving_memory_Bps, serving_stream_share, serving_peak_FLOPps, serving_gemm_share,
) -> Array:
    """One token for each sequence of the batch, communication left out."""
    memory_Bps = serving_accelerators * serving_memory_Bps * serving_stream_share
    compute_FLOPps = serving_accelerators * serving_peak_FLOPps * serving_gemm_share
    return laws.decode_step_s(serving_batch, mean_sequence_B, matmul_parameters, decode_read_B, memory_Bps, compute_FLOPps)


@quantity("s", source="sum", parts=("decode_work_s", "decode_tensor_s", "decode_expert_s"))
def decode_step_s(decode_work_s, decode_tensor_s, decode_expert_s) -> Array:
    """One token for each sequence of the batch."""
    return decode_work_s + decode_tensor_s + decode_expert_s


@quantity("tokens", source="EQ-05: s/2 of a causal layer, less of one with a window")
def prefill_attended_tokens(prompt_length, served_window, windowed_share) -> Array:
    """Keys that a token of the prompt reads, mean over the prompt and the layers."""
    windowed = transformer.windowed_attended_tokens(prompt_length, served_window)
    return 0.5 * prompt_length * (1.0 - windowed_share) + windowed * windowed_share


@quantity("s", source="EQ-102")
def prefill_work_s(
    prompt_length, prefill_attended_tokens, matmul_parameters, served_heads, served_qk_dim, served_v_dim, served_layers,
    serving_accelerators, serving_peak_FLOPps, serving_gemm_share,
) -> Array:
    """Compute of one prompt."""
    each = laws.prefill_FLOP_per_token(
        matmul_parameters, 2.0 * prefill_attended_tokens, served_heads, served_qk_dim, served_v_dim, served_layers
    )
    return laws.prefill_s(prompt_length, each, serving_accelerators * serving_peak_FLOPps * serving_gemm_share)


@quantity("s", source="sum", parts=("prefill_work_s", "prefill_tensor_s", "prefill_expert_s"))
def prefill_s(prefill_work_s, prefill_tensor_s, prefill_expert_s) -> Array:
    """Time to the first token of one prompt, compute-bound."""
    return prefill_work_s + prefill_tensor_s + prefill_expert_s


@quantity("s", source="sum: the prompts of the batch, and a step for each token of output")
def serving_round_s(serving_batch, prefill_s, output_length, decode_step_s) -> Array:
    """Reading the prompts of a batch and writing its outputs."""
    return serving_batch * prefill_s + output_length * decode_step_s


@quantity("tokens_per_s", source="definition")
def served_tokens_per_s(serving_batch, output_length, serving_round_s) -> Array:
    """Tokens of output a second of one copy, the time of prefill included."""
    return serving_batch * output_length / serving_round_s


@quantity("1", source="EQ-101")
def serving_cost_per_million(serving_accelerators, serving_price_per_hour, served_tokens_per_s) -> Array:
    """Price of a million tokens of output, their prompts included, at full load; infinite where no sequence fits."""
    some = served_tokens_per_s > 0
    cost = laws.cost_per_million_tokens(serving_accelerators, serving_price_per_hour, np.where(some, served_tokens_per_s, 1.0))
    return np.where(some, cost, np.inf)
