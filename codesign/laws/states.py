"""Memory laws of the literature: model states, ZeRO, activations of a transformer block, what lies outside the blocks.

EQ-10 to EQ-15 and EQ-17. All functions are elementwise over float64 arrays that broadcast together; sizes in bytes.
Structure (a ZeRO stage, a recompute mode) is chosen with plain Python values, never inside arrays.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ZeroStage = Literal[0, 1, 2, 3]
RecomputeMode = Literal["none", "selective", "full"]


class Datum(NamedTuple):
    """A published number: bytes or a ratio, its kind (measured, assumed) and where it stands."""

    value: float
    kind: str
    source: str


# EQ-17: what a process holds that no tensor explains
CUDA_CONTEXT_B = Datum(0.55 * 2.0**30, "measured", "ml-engineering@744d01e training/performance/README.md")
NCCL_INIT_B = Datum(1.5 * 2.0**30, "measured", "ml-engineering@744d01e training/performance/README.md, first barrier")
ACTIVATION_MARGIN = Datum(
    0.05, "assumed", "Megatron-LM@d98e8a6 theoretical_memory_usage.py, estimate without sequence parallelism"
)


def optimizer_B_per_parameter(master_B: Array, moment_B: Array, moments: Array) -> Array:
    """Optimizer bytes a parameter: master copy and moments. Adam in fp32: 4 + 2 * 4 = 12  (EQ-10).

    `moments`: 2 for Adam, 1 for momentum SGD and for the matrices of Muon; `moment_B` 1 for 8-bit Adam.
    """
    return master_B + moments * moment_B


def checkpoint_B(parameters: Array, master_B: Array, moment_B: Array, moments: Array) -> Array:
    """A checkpoint that can be resumed from: master weights and moments, 12 B a parameter for Adam in fp32  (EQ-10).

    Ignores the compute copy (it is rounded from the master), the random state and the data position.
    """
    return parameters * optimizer_B_per_parameter(master_B, moment_B, moments)


def zero_B_per_parameter(
    stage: ZeroStage, parameter_B: Array, gradient_B: Array, optimizer_B: Array, shards: Array
) -> Array:
    """Model-state bytes a rank holds for each parameter of its model-parallel part  (EQ-11, Rajbhandari 2019).

    Stage 1 shards the optimizer over `shards` ranks, 2 also the gradients, 3 also the parameters. Megatron's
    distributed optimizer is stage 1 with fp32 gradients: 2 + 4 + 12/d. Expert parameters take the expert
    data-parallel degree. Ignores the layers that stage 3 has gathered, and reduction buckets.
    """
    shared_from = (
        (1, optimizer_B),
        (2, gradient_B),
        (3, parameter_B),
    )
    total = np.zeros(1)
    for first_stage, state_B in shared_from:
        total = total + (state_B / shards if stage >= first_stage else state_B)
    return total


def score_term(heads: Array, sequence: Array, hidden: Array) -> Array:
    """5as/h: bytes of the attention core a token and hidden unit when scores are stored, GELU block  (EQ-12).

    5 = softmax output 2 + dropout mask 1 + dropout output 2, of a*s numbers a token. 80 for GPT-3, 64 for MT-NLG.
    """
    return 5.0 * heads * sequence / hidden


def gpt_block_activation_B(
    sequence: Array, micro_batch: Array, hidden: Array, heads: Array, tp: Array, *, sequence_parallel: bool,
    recompute: RecomputeMode,
) -> Array:
    """Stored activations of one layer and micro-batch on one rank  (EQ-12, Korthikanti 2022 Table 2, all rows).

    s b h times: 10 + 24/t + 5as/(ht) as it is, (34 + 5as/h)/t with sequence parallelism; selective recompute drops the
    score term; full recompute keeps the 2-byte input only. Holds for the GPT block of that paper: layer norms, GELU FFN
    of width 4h, dropout, scores stored, 2-byte activations. FlashAttention removes the score term without recompute.
    """
    tokens_hidden = sequence * micro_batch * hidden
    if recompute == "full":
        return 2.0 * tokens_hidden
    scores = score_term(heads, sequence, hidden) if recompute == "none" else np.zeros(1)
    if sequence_parallel:
        return tokens_hidden * (34.0 + scores) / tp
    # 10 is what tensor parallelism leaves whole: inputs of both norms 4, inputs of both linears 4, two dropout masks 2
    return tokens_hidden * (10.0 + 24.0 / tp + scores / tp)


def interleaved_in_flight_factor(pp: Array, chunks: Array) -> Array:
    """Activations of the first stage under the interleaved schedule over those under 1F1B: 1 + (p-1)/(pv)  (EQ-14).

    Korthikanti 2022 section 4.2.3; `chunks` is the number of model chunks a rank, above 1 (1 is plain 1F1B, without
    it).
    """
    return 1.0 + (pp - 1.0) / (pp * chunks)


def attention_activation_B_per_token(
    hidden: Array, heads: Array, kv_heads: Array, head_dim: Array, element_B: Array
) -> Array:
    """Norms and attention of a modern block, stored bytes a token and layer  (EQ-13).

    e * (4h: two norm inputs, two norm outputs; 2 nh hd: Q and O; 2 nkv hd: K and V) + 4 nh: fp32 log-sum-exp.
    Holds for RMSNorm, FlashAttention, no dropout. Divide by tp * cp under sequence parallelism.
    """
    return element_B * (4.0 * hidden + 2.0 * heads * head_dim + 2.0 * kv_heads * head_dim) + 4.0 * heads


def ffn_activation_B_per_token(ffn: Array, element_B: Array) -> Array:
    """Gated FFN, stored bytes a token: gate, up and their product, 3 f e (6f in 2 bytes)  (EQ-13)."""
    return 3.0 * ffn * element_B


def moe_activation_B_per_token(
    top_k: Array, hidden: Array, expert_ffn: Array, shared_ffn: Array, element_B: Array
) -> Array:
    """MoE layer in place of the FFN: k (6 f_e + 2h dispatched + 2h returned) + 6 f_shared in 2 bytes  (EQ-13).

    `shared_ffn`: total width of the shared experts, 0 without. Holds for balanced dropless routing; multiply the routed
    part by the imbalance of the busiest rank. Ignores router probabilities and permutation indices.
    """
    return element_B * (top_k * (3.0 * expert_ffn + 2.0 * hidden) + 3.0 * shared_ffn)


def norm_and_gate_recompute_B_per_token(hidden: Array, ffn: Array, element_B: Array) -> Array:
    """Bytes a token that recomputing both norms and the SwiGLU product frees: 4h + 2f in 2 bytes  (EQ-13)."""
    return element_B * (2.0 * hidden + ffn)


def embedding_dropout_B(sequence: Array, micro_batch: Array, hidden: Array, pp: Array, tp: Array) -> Array:
    """Dropout mask behind the embedding for the p micro-batches in flight on the first stage: sbhp/t  (EQ-15)."""
    return sequence * micro_batch * hidden * pp / tp


def logits_B(sequence: Array, micro_batch: Array, vocab: Array, tp: Array) -> Array:
    """fp32 logits of one micro-batch on the last stage, 4sbV/t  (EQ-15). A fused loss holds a part of them."""
    return 4.0 * sequence * micro_batch * vocab / tp


def head_activation_B(sequence: Array, micro_batch: Array, hidden: Array, vocab: Array, tp: Array) -> Array:
    """Final norm input, head input and fp32 logits where one stage holds all: 4sbh/t (1 + V/h)  (EQ-15, p = 1)."""
    return 4.0 * sequence * micro_batch * hidden / tp + logits_B(sequence, micro_batch, vocab, tp)


def stage_output_B(sequence: Array, micro_batch: Array, hidden: Array, element_B: Array, pp: Array) -> Array:
    """Stage outputs kept alive for p micro-batches, e s b h p, freed by output-tensor deallocation  (EQ-15).

    Korthikanti 2022 Appendix B: 2.73 GiB for MT-NLG 530B (printed as GB).
    """
    return element_B * sequence * micro_batch * hidden * pp
