"""Memory of every pipeline rank at its peak: allocated terms one by one, the allocator's reserve apart.

Shapes (pipeline ranks, ...) for what differs between ranks. Terms say in `TAGS` whether they are counted from tensors
(estimated), read off a published figure (measured) or set (assumed).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack
from codesign.laws import pipeline as pipelines
from codesign.quantities.compute import again
from codesign.quantities.step import _fully_sharded

Array = NDArray[np.float64]

# How each term is known, as shown with every plan.
TAGS = {
    "weight_memory_B": "estimated",
    "gradient_memory_B": "estimated",
    "optimizer_memory_B": "estimated",
    "activation_memory_B": "estimated",
    "transient_memory_B": "estimated",
    "head_phase_B": "estimated",
    "moe_buffer_memory_B": "estimated",
    "workspace_memory_B": "estimated",
    "gathered_memory_B": "estimated",
    "bucket_memory_B": "assumed",
    "weight_gradient_memory_B": "estimated",
    "library_memory_B": "assumed",
    "communication_memory_B": "measured",
    "context_memory_B": "measured",
    "allocator_memory_B": "assumed",
}


# ---------------------------------------------------------------------------------------------------- states


@quantity("1", source="EQ-11")
def dense_shards(sharding, dp_ranks, shard_ranks) -> Array:
    """Ranks over which a sharded state of dense parameters is spread."""
    return shard_ranks * 1.0 if sharding.kind == "hsdp" else dp_ranks * 1.0


@quantity("1", source="EQ-11")
def expert_shards(sharding, expert_dp_ranks, shard_ranks, dp_ranks) -> Array:
    """Ranks over which a sharded state of expert parameters is spread."""
    return (
        np.maximum(expert_dp_ranks * (shard_ranks / dp_ranks), 1.0)
        if sharding.kind == "hsdp"
        else expert_dp_ranks * 1.0
    )


def _states(dense, experts, dense_shards, expert_shards, each_B, sharded) -> Array:
    if sharded:
        return (dense / dense_shards + experts / expert_shards) * each_B
    return (dense + experts) * each_B


@quantity("B", source="EQ-10, EQ-11; low-precision recipes keep a second, transposed copy beside the 16-bit weight")
def weight_memory_B(
    sharding,
    pipeline,
    rank_dense_parameters,
    rank_expert_parameters,
    dense_shards,
    expert_shards,
    parameter_B,
    weight_copy_B,
) -> Array:
    """Compute copies of the parameters. Shape (pipeline ranks, ...)."""
    copies = pipelines.parameter_copies(pipeline.schedule)
    return copies * _states(
        rank_dense_parameters,
        rank_expert_parameters,
        dense_shards,
        expert_shards,
        parameter_B + weight_copy_B,
        _fully_sharded(sharding),
    )


@quantity("B", source="EQ-10, EQ-11")
def gradient_memory_B(
    sharding, pipeline, rank_dense_parameters, rank_expert_parameters, dense_shards, expert_shards, gradient_B
) -> Array:
    """Accumulated gradients. Shape (pipeline ranks, ...)."""
    sharded = _fully_sharded(sharding) or sharding.kind == "zero2"
    copies = pipelines.parameter_copies(pipeline.schedule)
    kept = copies * _states(
        rank_dense_parameters, rank_expert_parameters, dense_shards, expert_shards, gradient_B, sharded
    )
    if sharding.kind == "zero2" and pipeline.pp > 1:
        # the chunk at work accumulates whole gradients until it hands them on
        kept = kept + copies * (rank_dense_parameters + rank_expert_parameters) * gradient_B / pipeline.vpp
    return kept


@quantity("B", source="EQ-10, EQ-11; optimizers of the literature")
def optimizer_memory_B(
    sharding,
    pipeline,
    optimizer,
    offload_optimizer,
    rank_dense_parameters,
    rank_expert_parameters,
    dense_shards,
    expert_shards,
    master_B,
    moment_B,
) -> Array:
    """Master weights and moments. Shape (pipeline ranks, ...)."""
    if offload_optimizer:
        return 0.0 * rank_dense_parameters
    moments = {"adamw": 2.0 * moment_B, "adamw-8bit": 0.5 * moment_B, "sgd": 1.0 * moment_B, "muon": 1.0 * moment_B}[
        optimizer
    ]
    copies = pipelines.parameter_copies(pipeline.schedule) if sharding.kind == "none" else 1.0
    return copies * _states(
        rank_dense_parameters,
        rank_expert_parameters,
        dense_shards,
        expert_shards,
        master_B + moments,
        sharding.kind != "none",
    )


# ---------------------------------------------------------------------------------------------------- activations


def saved_labels(kind_spec, block, software) -> tuple[str, ...]:
    """Tensors of one layer that are kept for the backward pass."""
    labels = ["norm_inputs", "norm_outputs", "query_key_value", "attention_output"]
    if software.attention_kernel == "unfused":
        labels.append("scores")
    if kind_spec.mla:
        labels.append("latents")
    if not kind_spec.moe:
        labels += ["ffn_input", "ffn_product"]
    else:
        labels += ["routed_input", "expert_input", "expert_product", "routed_output", "routing"]
        if block.shared_experts:
            labels += ["shared_input", "shared_product"]
    if software.dropout:
        labels.append("dropout_masks")
    return tuple(labels)


@quantity("B", over="kind", labels="saved", source="EQ-12, EQ-13, tensor by tensor")
def saved_B(
    kind_spec,
    block,
    software,
    norm_tokens,
    rank_tokens,
    routed_rows,
    hidden,
    heads,
    local_kv_heads,
    qk_dim,
    v_dim,
    q_lora,
    kv_lora,
    rope_dim,
    tp,
    ffn,
    shared_ffn,
    expert_ffn,
    etp,
    experts,
    top_k,
    gated_matrices,
    sequence_tokens,
    activation_B,
    saved_operand_B,
) -> Array:
    """Bytes that one layer keeps for its backward pass, one micro-batch, without recompute. Shape (tensors, ...)."""
    a = activation_B
    gate = saved_operand_B if software.narrow_activations else a
    local = heads / tp
    per = {
        # residual stream before each norm, and each norm's output (the input of the next product, in its precision)
        "norm_inputs": norm_tokens * hidden * 2.0 * a,
        "norm_outputs": norm_tokens * hidden * 2.0 * saved_operand_B,
        "query_key_value": rank_tokens * (local * qk_dim + local_kv_heads * (qk_dim + v_dim)) * a,
        # the output, and one fp32 statistic a head (the logarithm of the softmax sum)
        "attention_output": rank_tokens * local * (v_dim + 2.0) * a,
        # scores and probabilities at 16 bits and a one-byte mask
        "scores": rank_tokens * local * sequence_tokens * 2.5 * a,
        "latents": norm_tokens * (2.0 * q_lora + 2.0 * kv_lora + rope_dim) * a,
        "ffn_input": rank_tokens * gated_matrices * ffn / tp * gate,
        "ffn_product": rank_tokens * ffn / tp * saved_operand_B,
        "routed_input": routed_rows * hidden * saved_operand_B,
        "expert_input": routed_rows * gated_matrices * expert_ffn / etp * gate,
        "expert_product": routed_rows * expert_ffn / etp * saved_operand_B,
        # what the experts return, kept for the gradient of the routing weights (EQ-13)
        "routed_output": routed_rows * hidden * a * (0.0 if software.narrow_activations else 1.0),
        "routing": norm_tokens * (experts * 3.0 + top_k * 4.0) * 2.0 * a,
        "shared_input": rank_tokens * gated_matrices * shared_ffn / tp * gate,
        "shared_product": rank_tokens * shared_ffn / tp * saved_operand_B,
        "dropout_masks": norm_tokens * hidden * 2.0 * 0.5 * a,
    }
    return stack(*(per[label] for label in saved_labels(kind_spec, block, software)))


# what recomputing a module makes it unnecessary to keep
_DROPPED: dict[str, frozenset[str]] = {
    "core_attn": frozenset({"scores"}),
    "qkv": frozenset({"query_key_value", "latents"}),
    "mla_up_proj": frozenset({"query_key_value"}),
    "layernorm": frozenset({"norm_outputs"}),
    "mlp": frozenset({"ffn_input", "ffn_product"}),
    "mlp_act": frozenset({"ffn_product"}),
    "ffn_up": frozenset({"ffn_input", "shared_input"}),
    "shared_experts": frozenset({"shared_input", "shared_product"}),
    "moe": frozenset(
        {"routed_input", "expert_input", "expert_product", "routed_output", "routing", "shared_input", "shared_product"}
    ),
    "moe_act": frozenset({"expert_product"}),
    "elementwise": frozenset({"norm_outputs", "ffn_product", "expert_product", "shared_product"}),
    "every_other_matmul": frozenset({"norm_outputs", "ffn_product"}),
    "attn_out": frozenset(),
    "ffn_down": frozenset(),
}


@quantity("B", over="kind", source="EQ-12: the layer's input only")
def checkpoint_input_B(norm_tokens, hidden, activation_B) -> Array:
    """What a fully recomputed layer keeps of one micro-batch."""
    return norm_tokens * hidden * activation_B


@quantity("B", over="kind", source="sum over saved tensors")
def layer_saved_B(saved_B) -> Array:
    """All that one layer keeps of one micro-batch without recompute."""
    return add(saved_B)


@quantity("B", over="kind", source="EQ-12, EQ-13")
def layer_kept_B(
    kind_spec, block, software, recompute, recompute_fraction, saved_B, layer_saved_B, checkpoint_input_B
) -> Array:
    """Activations that one layer keeps of one micro-batch, what is recomputed taken off."""
    if recompute.granularity == "none":
        return layer_saved_B
    if recompute.granularity == "full":
        return recompute_fraction * checkpoint_input_B + (1.0 - recompute_fraction) * layer_saved_B
    dropped = frozenset().union(*(_DROPPED[module] for module in recompute.modules))
    return add(
        saved_B[at] * (1.0 - recompute_fraction if label in dropped else np.ones(1))
        for at, label in enumerate(saved_labels(kind_spec, block, software))
    )


@quantity("B", over="kind", source="definition")
def layer_activation_B(layer_kept_B, offloaded_share) -> Array:
    """Activations of one layer and micro-batch that stay on the device."""
    return layer_kept_B * (1.0 - offloaded_share)


@quantity("1", source="EQ-14")
def in_flight_micro_batches(pipeline, micro_batches, rank_index) -> Array:
    """Micro-batches whose activations each pipeline rank holds at its peak. Shape (pipeline ranks, ...)."""
    return pipelines.in_flight(pipeline.schedule, pipeline.pp, pipeline.vpp, micro_batches, rank_index)


@quantity("B", source="EQ-14 x EQ-13")
def activation_memory_B(
    stage_layers,
    stage_mtp,
    in_flight_micro_batches,
    layer_activation_B,
    layer_saved_B,
    recompute,
    recompute_fraction,
    stage_embedding,
    tp_message_B,
    sequence_shards,
) -> Array:
    """Activations of all micro-batches in flight, and the working set of the layer being recomputed. Shape (ranks, ...)."""
    kinds = list(layer_activation_B)
    layers = add(stage_layers[k] * layer_activation_B[k] for k in kinds) + stage_mtp * layer_activation_B[kinds[-1]]
    embedding = stage_embedding * tp_message_B / sequence_shards
    kept = in_flight_micro_batches * (layers + embedding)
    if recompute.granularity != "full":
        return kept
    working = layer_saved_B[kinds[0]]
    for kind in kinds[1:]:
        working = np.maximum(working, layer_saved_B[kind])
    return kept + recompute_fraction * working


@quantity("B", source="bytes moved to the host a micro-batch")
def rank_offloaded_B(stage_layers, stage_mtp, layer_kept_B, offloaded_share) -> Array:
    """Activations of one micro-batch that each rank sends to host memory. Shape (pipeline ranks, ...)."""
    kinds = list(layer_kept_B)
    kept = add(stage_layers[k] * layer_kept_B[k] for k in kinds) + stage_mtp * layer_kept_B[kinds[-1]]
    return offloaded_share * kept


@quantity(
    "B", source="EQ-15: logits, their fp32 copy and their gradient, for one micro-batch; the head's gradient in 16 bits"
)
def head_phase_B(
    stage_head, stage_mtp, rank_tokens, vocab, tp, software, hidden, activation_B, sequence_shards, head_parameters
) -> Array:
    """What is live beside the kept activations while the last stage computes its loss. Shape (pipeline ranks, ...)."""
    passes = 2.0 if software.fused_cross_entropy else 5.0  # elements of activation_B bytes: 4 B and 10 B a logit
    logits = (
        rank_tokens * vocab / tp * passes * activation_B + 2.0 * rank_tokens / sequence_shards * hidden * activation_B
    )
    head_gradient = head_parameters * activation_B * (1.0 if software.fused_weight_gradient else 0.0)
    # of two directions (DualPipe) one micro-batch at a time computes its loss: its logits are there as a whole
    heads = np.ceil(stage_head) + np.ceil(stage_mtp)
    return heads * logits + np.minimum(heads, 1.0) * head_gradient


@quantity("B", source="working set of the layer at work: largest product; routed tokens of a MoE layer")
def layer_phase_B(moe_buffer_memory_B, workspace_memory_B) -> Array:
    """What is live beside the kept activations while a layer is at work. Shape (pipeline ranks, ...)."""
    return moe_buffer_memory_B + workspace_memory_B


@quantity(
    "B",
    source="the peak falls into the loss or into a layer, whichever needs more",
    worst_of=("head_phase_B", "layer_phase_B"),
)
def transient_memory_B(head_phase_B, layer_phase_B) -> Array:
    """Temporaries at the peak: logits, loss and head gradient, or the working set of a layer. Shape (pipeline ranks, ...)."""
    return np.maximum(head_phase_B, layer_phase_B)


@quantity(
    "B", source="Transformer Engine keeps one 16-bit gradient placeholder a matrix shape when it accumulates in place"
)
def weight_gradient_memory_B(software, stage_layers, gemm_out, gemm_in, activation_B, sharding) -> Array:
    """Placeholders of the weight gradients of one layer. Shape (pipeline ranks, ...)."""
    kinds = list(gemm_out)
    if not software.fused_weight_gradient or _fully_sharded(sharding):
        return 0.0 * stage_layers[kinds[0]] * activation_B
    largest = add(gemm_out[kinds[0]] * gemm_in[kinds[0]])
    for kind in kinds[1:]:
        largest = np.maximum(largest, add(gemm_out[kind] * gemm_in[kind]))
    return np.minimum(add(stage_layers[k] for k in kinds), 1.0) * largest * activation_B


# ---------------------------------------------------------------------------------------------------- buffers


@quantity("B", source="FSDP: the unit in use and the one prefetched, whole, with the gradient of one")
def gathered_memory_B(
    sharding,
    stage_layers,
    sharded_parameters,
    replicated_parameters,
    expert_parameters,
    embedding_parameters,
    parameter_B,
    gradient_B,
    gather_B,
    pipeline,
    stage_embedding,
    stage_head,
    head_parameters,
) -> Array:
    """Gathered parameters of fully sharded layers. Shape (pipeline ranks, ...)."""
    kinds = list(sharded_parameters)
    units = [sharded_parameters[k] + replicated_parameters[k] + expert_parameters[k] for k in kinds]
    if not _fully_sharded(sharding):
        return 0.0 * stage_layers[kinds[0]] * units[0]
    largest = units[0]
    for unit in units[1:]:
        largest = np.maximum(largest, unit)
    if not sharding.reshard:
        whole = add(stage_layers[k] * unit for k, unit in zip(kinds, units, strict=True))
        ends = stage_embedding * embedding_parameters + stage_head * head_parameters
        return (whole + ends) * gather_B
    live = 2.0 if sharding.prefetch else 1.0
    return largest * (live * gather_B + gradient_B) + embedding_parameters * gather_B + 0.0 * stage_layers[kinds[0]]


@quantity("B", source="DDP and distributed optimizer: padded buckets of max(40 M, 1 M x dp) elements in flight")
def bucket_memory_B(sharding, software, rank_dense_parameters, reduce_B, gradient_B) -> Array:
    """Reduction buffers beside the gradients, where the reduction has a dtype of its own. Shape (pipeline ranks, ...)."""
    if _fully_sharded(sharding) or not software.bucketed:
        return 0.0 * rank_dense_parameters * reduce_B
    differs = np.where(reduce_B == gradient_B, 0.0, 1.0)
    return differs * np.minimum(rank_dense_parameters, 40e6) * reduce_B


@quantity("B", source="dispatch and combine buffers of one layer, forward and backward")
def moe_buffer_memory_B(kind_moe, stage_layers, routed_rows, hidden, activation_B) -> Array:
    """Permuted tokens of the MoE layer at work. Shape (pipeline ranks, ...)."""
    any_moe = add(np.minimum(stage_layers[k], 1.0) * kind_moe[k] for k in kind_moe)
    return np.minimum(any_moe, 1.0) * routed_rows * hidden * 2.0 * activation_B


@quantity(
    "B", source="working set of the layer at work: largest product and its gradient; cuBLAS and attention workspaces"
)
def workspace_memory_B(rank_tokens, hidden, ffn, gated_matrices, tp, activation_B) -> Array:
    """Temporaries of the operator at work."""
    return rank_tokens * np.maximum(gated_matrices * ffn / tp, hidden) * activation_B


@quantity("B", source="cuBLAS and attention workspaces")
def library_memory_B(workspace_B) -> Array:
    """Scratch memory that the libraries hold all the time."""
    return workspace_B * 1.0


@quantity(
    "B", source="EQ-17: measured once on a node: 1.5 GiB at the first collective; not counted as allocated by PyTorch"
)
def communication_memory_B(nccl_B, accelerator_ranks) -> Array:
    """Buffers of the communication library."""
    return np.where(accelerator_ranks > 1.0, nccl_B, 0.0)


@quantity("B", source="EQ-17: measured: 0.55 GiB")
def context_memory_B(context_B) -> Array:
    """Driver context and kernels."""
    return context_B * 1.0


# ---------------------------------------------------------------------------------------------------- totals


ALLOCATED = (
    "weight_memory_B",
    "gradient_memory_B",
    "optimizer_memory_B",
    "activation_memory_B",
    "transient_memory_B",
    "gathered_memory_B",
    "bucket_memory_B",
    "weight_gradient_memory_B",
    "library_memory_B",
)


@quantity("B", source="sum of parts", parts=ALLOCATED)
def rank_allocated_B(
    weight_memory_B,
    gradient_memory_B,
    optimizer_memory_B,
    activation_memory_B,
    transient_memory_B,
    gathered_memory_B,
    bucket_memory_B,
    weight_gradient_memory_B,
    library_memory_B,
) -> Array:
    """Bytes that tensors take at the peak of each pipeline rank. Shape (pipeline ranks, ...)."""
    return add(
        (
            weight_memory_B,
            gradient_memory_B,
            optimizer_memory_B,
            activation_memory_B,
            transient_memory_B,
            gathered_memory_B,
            bucket_memory_B,
            weight_gradient_memory_B,
            library_memory_B,
        )
    )


@quantity("B", source="caching allocator: freed blocks that cannot be reused, a share of what comes and goes")
def allocator_memory_B(rank_allocated_B, fragmentation) -> Array:
    """Reserved but unallocated bytes of the caching allocator. Shape (pipeline ranks, ...)."""
    return fragmentation * rank_allocated_B


@quantity("B", source="sum of parts", parts=("rank_allocated_B", "allocator_memory_B"))
def rank_reserved_B(rank_allocated_B, allocator_memory_B) -> Array:
    """Bytes that the framework holds at the peak of each pipeline rank. Shape (pipeline ranks, ...)."""
    return rank_allocated_B + allocator_memory_B


@quantity("B", source="sum of parts", parts=("rank_reserved_B", "communication_memory_B", "context_memory_B"))
def rank_device_B(rank_reserved_B, communication_memory_B, context_memory_B) -> Array:
    """Bytes that the device reports as used at the peak of each pipeline rank. Shape (pipeline ranks, ...)."""
    return rank_reserved_B + communication_memory_B + context_memory_B


@quantity("B", source="worst rank", worst_of=("rank_allocated_B",))
def allocated_B(rank_allocated_B) -> Array:
    """Peak of tensors on the fullest rank."""
    return np.max(rank_allocated_B, axis=0)


@quantity("B", source="worst rank", worst_of=("rank_reserved_B",))
def reserved_B(rank_reserved_B) -> Array:
    """Peak that the framework holds on the fullest rank."""
    return np.max(rank_reserved_B, axis=0)


@quantity("B", source="sum of parts", parts=("rank_allocated_B", "communication_memory_B", "context_memory_B"))
def rank_needed_B(rank_allocated_B, communication_memory_B, context_memory_B) -> Array:
    """Bytes that must be there at the peak of each rank. The allocator's reserve is not: it gives blocks back when it must."""
    return rank_allocated_B + communication_memory_B + context_memory_B


@quantity("B", source="worst rank", worst_of=("rank_needed_B",))
def peak_B(rank_needed_B) -> Array:
    """What the fullest rank needs; held against the capacity of the device."""
    return np.max(rank_needed_B, axis=0)


@quantity("B", source="worst rank", worst_of=("rank_device_B",))
def device_B(rank_device_B) -> Array:
    """What the device reports as used on the fullest rank, the allocator's reserve included."""
    return np.max(rank_device_B, axis=0)


__all__ = ["ALLOCATED", "TAGS", "again"]
