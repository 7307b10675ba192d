"""One training step: layers to pipeline ranks, ranks to the slowest, schedule, data parallelism, optimizer, the total.

Pipeline ranks lie along a leading axis. Every part of the step is shown for the slowest rank, and the step is the
ordered sum of its parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, stack
from codesign.laws import collectives, kernels
from codesign.laws import pipeline as pipelines
from codesign.quantities.compute import again, elementwise_labels
from codesign.quantities.model import REPLICATED, gemm_labels

Array = NDArray[np.float64]

LOOK_UP_SHARE = 0.4  # of the embedding's time; the rest is its gradient


# ---------------------------------------------------------------------------------------------------- layers


@quantity("s", over="kind", source="sum over operators and exposed communication")
def layer_device_forward_s(
    layer_gemm_forward_s,
    attention_forward_s,
    layer_elementwise_forward_s,
    tp_forward_exposed_s,
    cp_forward_exposed_s,
    ep_forward_exposed_s,
) -> Array:
    """Device time of one layer, one micro-batch, forward."""
    return (
        layer_gemm_forward_s
        + attention_forward_s
        + layer_elementwise_forward_s
        + tp_forward_exposed_s
        + cp_forward_exposed_s
        + ep_forward_exposed_s
    )


@quantity("s", over="kind", source="Galvatron's overlap coefficient; fitted")
def layer_slowdown_s(layer_hidden_s, overlap_slowdown) -> Array:
    """What compute loses to the communication that runs beside it, in one layer and micro-batch."""
    return overlap_slowdown * layer_hidden_s


@quantity("s", over="kind", source="EQ-08")
def layer_recompute_s(recompute_s, tp_recompute_exposed_s, cp_recompute_exposed_s, ep_recompute_exposed_s) -> Array:
    """Recompute of one layer with the communication that it repeats."""
    return recompute_s + tp_recompute_exposed_s + cp_recompute_exposed_s + ep_recompute_exposed_s


@quantity("s", over="kind", source="sum over operators and exposed communication")
def layer_device_backward_s(
    layer_gemm_backward_s,
    attention_backward_s,
    layer_elementwise_backward_s,
    tp_backward_exposed_s,
    cp_backward_exposed_s,
    ep_backward_exposed_s,
    layer_recompute_s,
    layer_slowdown_s,
) -> Array:
    """Device time of one layer, one micro-batch, backward, recompute included."""
    return (
        layer_gemm_backward_s
        + attention_backward_s
        + layer_elementwise_backward_s
        + tp_backward_exposed_s
        + cp_backward_exposed_s
        + ep_backward_exposed_s
        + layer_recompute_s
        + layer_slowdown_s
    )


@quantity("s", over="kind", source="host launches run ahead of the device unless launches block")
def layer_forward_s(software, host_s, layer_device_forward_s) -> Array:
    """One layer, one micro-batch, forward: device time, or the host's where it launches too slowly."""
    if software.launch_blocking:
        return host_s + layer_device_forward_s
    return kernels.host_or_device_s(host_s, layer_device_forward_s)


@quantity("s", over="kind", source="recompute launches its operators again")
def host_backward_s(host_s, recompute, recompute_fraction) -> Array:
    """Host time to launch one layer's backward pass."""
    return host_s * (1.0 + recompute_fraction) if recompute.granularity == "full" else host_s * 1.0


@quantity("s", over="kind", source="host launches run ahead of the device unless launches block")
def layer_backward_s(software, host_backward_s, layer_device_backward_s) -> Array:
    """One layer, one micro-batch, backward: device time, or the host's where it launches too slowly."""
    if software.launch_blocking:
        return host_backward_s + layer_device_backward_s
    return kernels.host_or_device_s(host_backward_s, layer_device_backward_s)


@quantity("s", over="kind", source="difference")
def layer_host_excess_s(layer_forward_s, layer_backward_s, layer_device_forward_s, layer_device_backward_s) -> Array:
    """Time of one layer and micro-batch in which the device waits for the host."""
    return (layer_forward_s - layer_device_forward_s) + (layer_backward_s - layer_device_backward_s)


# ---------------------------------------------------------------------------------------------------- pipeline ranks


@quantity("s", source="a multi-token-prediction module: one layer, a projection, the shared head")
def mtp_module_forward_s(layer_forward_s, mtp_projection_s, head_forward_s) -> Array:
    """One MTP module of one micro-batch, forward."""
    last = list(layer_forward_s)[-1]
    return layer_forward_s[last] + mtp_projection_s / 3.0 + head_forward_s


@quantity("s", source="a multi-token-prediction module: one layer, a projection, the shared head")
def mtp_module_backward_s(layer_backward_s, mtp_projection_s, head_backward_s) -> Array:
    """One MTP module of one micro-batch, backward."""
    last = list(layer_backward_s)[-1]
    return layer_backward_s[last] + mtp_projection_s * 2.0 / 3.0 + head_backward_s


@quantity("s", source="stages x layer kinds")
def rank_compute_forward_s(
    stage_layers,
    stage_embedding,
    stage_head,
    stage_mtp,
    layer_forward_s,
    embedding_s,
    head_forward_s,
    mtp_module_forward_s,
) -> Array:
    """Forward time of one micro-batch on each pipeline rank, off-load apart. Shape (pipeline ranks, ...)."""
    layers = add(stage_layers[k] * layer_forward_s[k] for k in layer_forward_s)
    return layers + stage_embedding * LOOK_UP_SHARE * embedding_s + stage_head * head_forward_s + stage_mtp * mtp_module_forward_s


@quantity("s", source="stages x layer kinds")
def rank_compute_backward_s(
    stage_layers,
    stage_embedding,
    stage_head,
    stage_mtp,
    layer_backward_s,
    embedding_s,
    head_backward_s,
    mtp_module_backward_s,
) -> Array:
    """Backward time of one micro-batch on each pipeline rank, off-load apart. Shape (pipeline ranks, ...)."""
    layers = add(stage_layers[k] * layer_backward_s[k] for k in layer_backward_s)
    embedding = stage_embedding * (1.0 - LOOK_UP_SHARE) * embedding_s
    return layers + embedding + stage_head * head_backward_s + stage_mtp * mtp_module_backward_s


@quantity("s", source="bytes over the host link")
def rank_offload_s(rank_offloaded_B, host_link_Bps) -> Array:
    """Sending the kept activations of one micro-batch to host memory, or back. Shape (pipeline ranks, ...)."""
    return rank_offloaded_B / host_link_Bps


@quantity("s", source="off-load runs beside compute: the slower of the two paces")
def rank_forward_s(rank_compute_forward_s, rank_offload_s) -> Array:
    """Forward time of one micro-batch on each pipeline rank. Shape (pipeline ranks, ...)."""
    return np.maximum(rank_compute_forward_s, rank_offload_s)


@quantity("s", source="off-load runs beside compute: the slower of the two paces")
def rank_backward_s(rank_compute_backward_s, rank_offload_s) -> Array:
    """Backward time of one micro-batch on each pipeline rank. Shape (pipeline ranks, ...)."""
    return np.maximum(rank_compute_backward_s, rank_offload_s)


@quantity("s", source="sum")
def rank_work_s(rank_forward_s, rank_backward_s) -> Array:
    """Work of one micro-batch on each pipeline rank. Shape (pipeline ranks, ...)."""
    return rank_forward_s + rank_backward_s


@quantity("1", source="the slowest rank paces the pipeline")
def slowest_rank(rank_work_s) -> Array:
    """Index of the slowest pipeline rank; the first of equals."""
    return np.argmax(rank_work_s, axis=0).astype(np.float64)


def _of_rank(per_rank, slowest_rank) -> Array:
    """The entry of the slowest rank, elementwise."""
    at = slowest_rank.astype(np.intp)
    if np.all(at == at.flat[0]):  # one rank is the slowest everywhere
        return per_rank[min(int(at.flat[0]), len(per_rank) - 1)] + np.zeros(at.shape)
    full = np.broadcast_to(per_rank, per_rank.shape[:1] + np.broadcast_shapes(per_rank.shape[1:], at.shape))
    return np.take_along_axis(full, at[np.newaxis], axis=0)[0]


@quantity("1", over="kind", source="stages x layer kinds")
def slowest_layers(stage_layers, slowest_rank) -> Array:
    """Layers of this kind on the slowest pipeline rank."""
    return _of_rank(stage_layers, slowest_rank)


@quantity("1", source="stages")
def slowest_ends(stage_embedding, stage_head, stage_mtp, slowest_rank) -> Array:
    """Embedding, head and MTP modules of the slowest rank. Shape (3, ...)."""
    return stack(*(_of_rank(row, slowest_rank) for row in (stage_embedding, stage_head, stage_mtp)))


@quantity("s", source="the slowest rank paces the pipeline")
def slowest_forward_s(rank_forward_s, slowest_rank) -> Array:
    """Forward time of one micro-batch on the slowest rank."""
    return _of_rank(rank_forward_s, slowest_rank)


@quantity("s", source="the slowest rank paces the pipeline")
def slowest_backward_s(rank_backward_s, slowest_rank) -> Array:
    """Backward time of one micro-batch on the slowest rank."""
    return _of_rank(rank_backward_s, slowest_rank)


# ---------------------------------------------------------------------------------------------------- steady parts


def _steady(micro_batches, slowest_layers, per_layer) -> Array:
    return micro_batches * add(slowest_layers[k] * per_layer[k] for k in per_layer)


@quantity("s", source="micro-batches x layers of the slowest rank")
def gemm_total_s(micro_batches, slowest_layers, layer_gemm_forward_s, layer_gemm_backward_s) -> Array:
    """Matrix products of the layers, whole step."""
    return _steady(
        micro_batches, slowest_layers, {k: layer_gemm_forward_s[k] + layer_gemm_backward_s[k] for k in slowest_layers}
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def attention_total_s(micro_batches, slowest_layers, attention_forward_s, attention_backward_s) -> Array:
    """Attention kernels, whole step."""
    return _steady(
        micro_batches, slowest_layers, {k: attention_forward_s[k] + attention_backward_s[k] for k in slowest_layers}
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def elementwise_total_s(
    micro_batches, slowest_layers, layer_elementwise_forward_s, layer_elementwise_backward_s
) -> Array:
    """Memory-bound operators of the layers, casts included, whole step."""
    return _steady(
        micro_batches,
        slowest_layers,
        {k: layer_elementwise_forward_s[k] + layer_elementwise_backward_s[k] for k in slowest_layers},
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def recompute_total_s(micro_batches, slowest_layers, layer_recompute_s) -> Array:
    """Recompute with the communication that it repeats, whole step."""
    return _steady(micro_batches, slowest_layers, layer_recompute_s)


@quantity("s", source="micro-batches x layers of the slowest rank")
def tp_exposed_s(micro_batches, slowest_layers, tp_forward_exposed_s, tp_backward_exposed_s) -> Array:
    """Tensor-parallel communication that compute does not hide, whole step."""
    return _steady(
        micro_batches, slowest_layers, {k: tp_forward_exposed_s[k] + tp_backward_exposed_s[k] for k in slowest_layers}
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def cp_exposed_s(micro_batches, slowest_layers, cp_forward_exposed_s, cp_backward_exposed_s) -> Array:
    """Context-parallel communication that attention does not hide, whole step."""
    return _steady(
        micro_batches, slowest_layers, {k: cp_forward_exposed_s[k] + cp_backward_exposed_s[k] for k in slowest_layers}
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def ep_exposed_s(micro_batches, slowest_layers, ep_forward_exposed_s, ep_backward_exposed_s) -> Array:
    """Expert-parallel communication that compute does not hide, whole step."""
    return _steady(
        micro_batches, slowest_layers, {k: ep_forward_exposed_s[k] + ep_backward_exposed_s[k] for k in slowest_layers}
    )


@quantity("s", source="micro-batches x layers of the slowest rank")
def overlap_slowdown_total_s(micro_batches, slowest_layers, layer_slowdown_s) -> Array:
    """What compute loses to communication beside it, whole step."""
    return _steady(micro_batches, slowest_layers, layer_slowdown_s)


@quantity("s", source="micro-batches x layers of the slowest rank")
def host_excess_s(micro_batches, slowest_layers, layer_host_excess_s) -> Array:
    """Time in which devices wait for the host to launch work, whole step."""
    return _steady(micro_batches, slowest_layers, layer_host_excess_s)


@quantity("s", source="micro-batches x ends of the slowest rank")
def ends_total_s(
    micro_batches,
    slowest_ends,
    embedding_s,
    head_forward_s,
    head_backward_s,
    mtp_module_forward_s,
    mtp_module_backward_s,
) -> Array:
    """Embedding, LM head, loss and multi-token prediction on the slowest rank, whole step."""
    return micro_batches * (
        slowest_ends[0] * embedding_s
        + slowest_ends[1] * (head_forward_s + head_backward_s)
        + slowest_ends[2] * (mtp_module_forward_s + mtp_module_backward_s)
    )


# ---------------------------------------------------------------------------------------------------- schedule


@quantity("s", source="EQ-37: the part of the backward pass that can wait")
def weight_gradient_s(
    slowest_layers, slowest_ends, layer_gemm_weight_gradient_s, head_gemm_s, mtp_projection_s, slowest_backward_s
) -> Array:
    """Weight gradients of one micro-batch on the slowest rank."""
    last = list(layer_gemm_weight_gradient_s)[-1]
    own = add(slowest_layers[k] * layer_gemm_weight_gradient_s[k] for k in slowest_layers)
    mtp = layer_gemm_weight_gradient_s[last] + mtp_projection_s / 3.0 + head_gemm_s[2]
    own = own + slowest_ends[1] * head_gemm_s[2] + slowest_ends[2] * mtp
    return np.minimum(own, slowest_backward_s)


@quantity("1", source="stage imbalance: filling and draining pass the other ranks at their own pace")
def fill_share(pipeline, rank_classes, rank_work_s, slowest_forward_s, slowest_backward_s) -> Array:
    """Mean work of the other ranks over that of the slowest one."""
    slowest = slowest_forward_s + slowest_backward_s
    if pipeline.pp == 1:
        return np.ones_like(slowest)
    others = add(size * rank_work_s[column] for column, size in rank_classes) - slowest
    return np.minimum(others / (slowest * (pipeline.pp - 1.0)), 1.0)


@quantity("s", source="EQ-35 to EQ-38")
def pp_bubble_s(pipeline, micro_batches, slowest_forward_s, slowest_backward_s, weight_gradient_s, fill_share) -> Array:
    """Idle time of the slowest rank while the pipeline fills and drains."""
    if pipeline.pp == 1:
        return np.zeros(1)
    return fill_share * pipelines.bubble_s(
        pipeline.schedule,
        pipeline.pp,
        pipeline.vpp,
        micro_batches,
        slowest_forward_s,
        slowest_backward_s - weight_gradient_s,
        weight_gradient_s,
    )


@quantity(
    "s", source="EQ-32; hidden in the steady state where the stack overlaps it, exposed while filling and draining"
)
def pp_exposed_s(pipeline, software, pp_hop_s, micro_batches) -> Array:
    """Stage-boundary transfers that are not hidden, whole step."""
    if pipeline.pp == 1:
        return np.zeros(1)
    sends = pipelines.p2p_transfers(pipeline.schedule, pipeline.pp, pipeline.vpp)
    filling = 2.0 * (pipeline.pp - 1.0) * pp_hop_s
    if software.overlap.pp and pipeline.schedule not in ("1f1b", "gpipe"):
        return filling
    return filling + (sends.forward + sends.backward) * micro_batches * pp_hop_s


# ---------------------------------------------------------------------------------------------------- data parallel


def _fully_sharded(sharding) -> bool:
    return sharding.kind in ("zero3", "hsdp")


@quantity("1", source="FSDP gathers again for the backward pass where it reshards; once a step under a pipeline")
def parameter_gathers(sharding, pipeline, micro_batches) -> Array:
    """All-gathers of the parameters in one step."""
    if sharding.kind == "none":
        return np.zeros_like(micro_batches)
    if not _fully_sharded(sharding):
        return np.ones_like(micro_batches)
    if sharding.reshard:
        return 2.0 * micro_batches
    return micro_batches * 1.0 if pipeline.pp == 1 else np.ones_like(micro_batches)


@quantity(
    "1",
    source="FSDP and ZeRO-2 keep no whole gradient: they reduce after every micro-batch, or every run of them on a chunk",
)
def gradient_reductions(sharding, pipeline, micro_batches) -> Array:
    """Reductions of the gradients in one step. An interleaved schedule runs pp micro-batches on a chunk before it moves on."""
    if _fully_sharded(sharding):
        return micro_batches * 1.0 if sharding.reshard or pipeline.pp == 1 else np.ones_like(micro_batches)
    if sharding.kind != "zero2":
        return np.ones_like(micro_batches)
    return np.ceil(micro_batches / pipeline.pp) if pipeline.schedule == "interleaved" else micro_batches * 1.0


@quantity("s", source="EQ-31: gathers and scatters beside the layers that do not need them yet")
def fsdp_exposed_s(
    sharding,
    software,
    pipeline,
    micro_batches,
    rank_forward_s,
    rank_backward_s,
    dp_parameter_s,
    dp_gradient_s,
    fsdp_exposed,
) -> Array:
    """Fully sharded parameters and gradients that compute does not hide, whole step. Shape (pipeline ranks, ...)."""
    if not _fully_sharded(sharding):
        return 0.0 * rank_forward_s
    backward = dp_gradient_s + (dp_parameter_s if sharding.reshard else 0.0 * dp_parameter_s)
    times = micro_batches if sharding.reshard or pipeline.pp == 1 else np.ones(1)
    if not software.overlap.dp_parameters:
        return (dp_parameter_s + backward) * times
    if not sharding.prefetch:
        # each unit waits for its parameters; gradients still leave beside the next unit
        waits = dp_parameter_s + backward - dp_gradient_s
        return (waits + collectives.exposed_s(dp_gradient_s, rank_backward_s)) * times
    edges = fsdp_exposed * (dp_parameter_s + backward)
    exposed = (
        edges + collectives.exposed_s(dp_parameter_s, rank_forward_s) + collectives.exposed_s(backward, rank_backward_s)
    )
    return exposed * times


@quantity("s", source="communication kernels take SMs and memory bandwidth from what runs beside them")
def fsdp_slowdown_s(
    sharding,
    software,
    micro_batches,
    rank_forward_s,
    rank_backward_s,
    dp_parameter_s,
    dp_gradient_s,
    overlap_slowdown,
    pipeline,
) -> Array:
    """What compute loses to gathers and scatters beside it, whole step. Shape (pipeline ranks, ...)."""
    if not _fully_sharded(sharding) or not software.overlap.dp_parameters:
        return 0.0 * rank_forward_s
    backward = dp_gradient_s + (dp_parameter_s if sharding.reshard else 0.0 * dp_parameter_s)
    times = micro_batches if sharding.reshard or pipeline.pp == 1 else np.ones(1)
    beside = np.minimum(dp_gradient_s, rank_backward_s)
    if sharding.prefetch:
        beside = np.minimum(dp_parameter_s, rank_forward_s) + np.minimum(backward, rank_backward_s)
    return overlap_slowdown * beside * times


@quantity(
    "1",
    source="interleaved: the last pp micro-batches pass chunk by chunk, so that all chunks but one have them beside",
)
def bucket_passes(pipeline, micro_batches) -> Array:
    """Passes of one micro-batch beside which the buckets of a rank may travel: its last one, and under an interleaved
    schedule those that other chunks still have to do."""
    if pipeline.schedule != "interleaved":
        return np.ones_like(micro_batches)
    return 1.0 + np.minimum(micro_batches, float(pipeline.pp)) * (pipeline.vpp - 1.0) / pipeline.vpp


@quantity(
    "s", source="gradients are reduced beside the last backward pass, bucket by bucket; the last bucket is exposed"
)
def dp_gradient_exposed_s(
    sharding,
    software,
    rank_backward_s,
    dp_gradient_s,
    last_bucket_share,
    overlap_window,
    bucket_passes,
    gradient_reductions,
) -> Array:
    """Gradient reduction that the last backward pass does not hide, or each pass where gradients are kept sharded.

    Shape (pipeline ranks, ...).
    """
    if _fully_sharded(sharding):
        return 0.0 * rank_backward_s
    if not (software.overlap.dp_gradients and software.bucketed):
        return dp_gradient_s * gradient_reductions
    if sharding.kind == "zero2":
        each = collectives.exposed_s(dp_gradient_s, overlap_window * bucket_passes * rank_backward_s)
        return np.maximum(each * gradient_reductions, last_bucket_share * dp_gradient_s)
    hidden = collectives.exposed_s(dp_gradient_s, overlap_window * bucket_passes * rank_backward_s)
    return np.maximum(hidden, last_bucket_share * dp_gradient_s)


@quantity(
    "s", source="parameters are gathered beside the first forward pass, bucket by bucket; the first bucket is exposed"
)
def dp_parameter_exposed_s(
    sharding, software, rank_forward_s, dp_parameter_s, last_bucket_share, overlap_window, bucket_passes
) -> Array:
    """Parameter gather of a sharded optimizer that the first forward pass does not hide. Shape (ranks, ...)."""
    if _fully_sharded(sharding) or sharding.kind == "none":
        return 0.0 * rank_forward_s
    if not software.overlap.dp_parameters:
        return dp_parameter_s
    hidden = collectives.exposed_s(dp_parameter_s, overlap_window * bucket_passes * rank_forward_s)
    return np.maximum(hidden, last_bucket_share * dp_parameter_s)


@quantity("s", source="communication kernels take SMs and memory bandwidth from what runs beside them")
def bucket_slowdown_s(
    sharding,
    dp_gradient_s,
    dp_parameter_s,
    dp_gradient_exposed_s,
    dp_parameter_exposed_s,
    gradient_reductions,
    overlap_slowdown,
) -> Array:
    """What compute loses to gradient and parameter buckets beside it, whole step. Shape (pipeline ranks, ...)."""
    if _fully_sharded(sharding):
        return 0.0 * dp_gradient_exposed_s
    beside = dp_gradient_s * gradient_reductions - dp_gradient_exposed_s + dp_parameter_s - dp_parameter_exposed_s
    return overlap_slowdown * beside


@quantity(
    "s",
    source="sum",
    parts=("dp_gradient_exposed_s", "dp_parameter_exposed_s", "bucket_slowdown_s", "fsdp_exposed_s", "fsdp_slowdown_s"),
)
def rank_dp_exposed_s(
    dp_gradient_exposed_s, dp_parameter_exposed_s, bucket_slowdown_s, fsdp_exposed_s, fsdp_slowdown_s
) -> Array:
    """Data-parallel communication that compute does not hide, and what it slows, whole step. Shape (pipeline ranks, ...)."""
    return dp_gradient_exposed_s + dp_parameter_exposed_s + bucket_slowdown_s + fsdp_exposed_s + fsdp_slowdown_s


@quantity(
    "s", source="the step ends when the last rank is done: faster ranks have time to spare for their communication"
)
def dp_exposed_s(rank_dp_exposed_s, rank_work_s, micro_batches) -> Array:
    """What data-parallel communication adds to the step: the worst of all ranks, less the time that each has to spare."""
    spare = micro_batches * (np.max(rank_work_s, axis=0) - rank_work_s)
    return np.max(rank_dp_exposed_s - spare, axis=0)


# ---------------------------------------------------------------------------------------------------- optimizer


@quantity("1", source="EQ-11")
def optimizer_elements(
    sharding, rank_dense_parameters, rank_expert_parameters, dense_shards, expert_shards, pipeline
) -> Array:
    """Parameters that the optimizer of the fullest rank updates."""
    if sharding.kind == "none":
        copies = pipelines.parameter_copies(pipeline.schedule)
        return np.max(rank_dense_parameters + rank_expert_parameters, axis=0) * copies
    return np.max(rank_dense_parameters / dense_shards + rank_expert_parameters / expert_shards, axis=0)


@quantity(
    "B", source="counted: gradient read twice (norm, update), master and moments read and written, parameter written"
)
def optimizer_moved_B(
    optimizer, optimizer_elements, gradient_B, master_B, moment_B, optimizer_writes_B, optimizer_passes
) -> Array:
    """Bytes that the optimizer step moves on the fullest rank."""
    moments = {"adamw": 2.0 * moment_B, "adamw-8bit": 0.5 * moment_B, "sgd": 1.0 * moment_B, "muon": 1.0 * moment_B}[
        optimizer
    ]
    each = 2.0 * gradient_B + 2.0 * master_B + 2.0 * moments + optimizer_writes_B
    return optimizer_elements * each * optimizer_passes


@quantity(
    "s",
    source="Muon: five Newton-Schulz steps of 4 n^2 k + 2 n^3 a matrix (Jordan 2024), matrices spread over the shards",
)
def orthogonalisation_s(optimizer, optimizer_elements, hidden, newton_schulz_steps, half_gemm_FLOPps) -> Array:
    """Newton-Schulz iterations of Muon on the fullest rank; for an h x 4h matrix 4.5 h FLOPs a parameter and step."""
    if optimizer != "muon":
        return np.zeros(1)
    return optimizer_elements * newton_schulz_steps * 4.5 * hidden / half_gemm_FLOPps


@quantity("s", source="counted bytes over memory bandwidth; over the host link where the states are off-loaded")
def optimizer_s(
    optimizer_moved_B, memory_Bps, elementwise_share, orthogonalisation_s, offload_optimizer, host_link_Bps
) -> Array:
    """The optimizer step."""
    update = optimizer_moved_B / (memory_Bps * elementwise_share)
    if offload_optimizer:
        update = np.maximum(update, optimizer_moved_B / host_link_Bps)
    return update + orthogonalisation_s


# ---------------------------------------------------------------------------------------------------- the rest


@quantity("s", source="bytes over the host link beside a micro-batch's compute")
def offload_exposed_s(
    rank_compute_forward_s, rank_compute_backward_s, rank_offload_s, slowest_rank, micro_batches
) -> Array:
    """Activation off-load and return that compute does not hide, whole step."""
    waits = collectives.exposed_s(rank_offload_s, rank_compute_forward_s) + collectives.exposed_s(
        rank_offload_s, rank_compute_backward_s
    )
    return micro_batches * _of_rank(waits, slowest_rank)


@quantity("s", source="delayed scaling: one small all-reduce of amax values over all ranks")
def amax_exchange_s(recipe, nic_latency_s, hop_s, accelerator_ranks) -> Array:
    """Exchange of quantisation maxima, once a step, where the recipe needs it."""
    if not recipe.amax_reduction:
        return np.zeros(1)
    return nic_latency_s + hop_s * collectives.hops(accelerator_ranks)


STEP_PARTS = (
    "gemm_total_s",
    "attention_total_s",
    "elementwise_total_s",
    "recompute_total_s",
    "ends_total_s",
    "host_excess_s",
    "tp_exposed_s",
    "cp_exposed_s",
    "ep_exposed_s",
    "overlap_slowdown_total_s",
    "offload_exposed_s",
    "pp_bubble_s",
    "pp_exposed_s",
    "dp_exposed_s",
    "optimizer_s",
    "amax_exchange_s",
    "fixed_step_time_s",
)


@quantity("s", source="assumed")
def fixed_step_time_s(fixed_step_s) -> Array:
    """Work of a step that depends on nothing: logging, gradient norm, data hand-over."""
    return fixed_step_s * 1.0


@quantity("s", source="sum of parts", parts=STEP_PARTS)
def ideal_step_s(
    gemm_total_s,
    attention_total_s,
    elementwise_total_s,
    recompute_total_s,
    ends_total_s,
    host_excess_s,
    tp_exposed_s,
    cp_exposed_s,
    ep_exposed_s,
    overlap_slowdown_total_s,
    offload_exposed_s,
    pp_bubble_s,
    pp_exposed_s,
    dp_exposed_s,
    optimizer_s,
    amax_exchange_s,
    fixed_step_time_s,
) -> Array:
    """The step if every rank ran at the same pace on the newest release of its stack."""
    return add(
        (
            gemm_total_s,
            attention_total_s,
            elementwise_total_s,
            recompute_total_s,
            ends_total_s,
            host_excess_s,
            tp_exposed_s,
            cp_exposed_s,
            ep_exposed_s,
            overlap_slowdown_total_s,
            offload_exposed_s,
            pp_bubble_s,
            pp_exposed_s,
            dp_exposed_s,
            optimizer_s,
            amax_exchange_s,
            fixed_step_time_s,
        )
    )


@quantity("s", source="fitted on successive containers of the same layout")
def ageing_s(ideal_step_s, ageing_per_year, age_years) -> Array:
    """What an older release of the stack adds."""
    return ideal_step_s * ageing_per_year * age_years


@quantity("s", source="EQ-69: the slowest of more ranks; fitted slope")
def straggler_s(ideal_step_s, straggler_per_doubling, accelerator_ranks, node_ranks) -> Array:
    """What waiting for the slowest rank adds, growing with every doubling of the nodes."""
    return ideal_step_s * straggler_per_doubling * np.log2(np.maximum(accelerator_ranks / node_ranks, 1.0))


@quantity("s", source="bytes over storage bandwidth, beside the step")
def input_exposed_s(step_tokens, token_B, storage_Bps, ideal_step_s, ageing_s, straggler_s) -> Array:
    """Reading the step's training data where storage is slower than the step."""
    return collectives.exposed_s(step_tokens * token_B / storage_Bps, ideal_step_s + ageing_s + straggler_s)


@quantity("s", source="sum of parts", parts=(*STEP_PARTS, "ageing_s", "straggler_s", "input_exposed_s"))
def step_s(ideal_step_s, ageing_s, straggler_s, input_exposed_s) -> Array:
    """One optimizer step of the whole job."""
    return ideal_step_s + ageing_s + straggler_s + input_exposed_s


# ---------------------------------------------------------------------------------------------------- rates


@quantity("1", source="definition")
def training_steps(training_tokens, step_tokens) -> Array:
    """Optimizer steps of the whole run; 0 where the spec gives no tokens."""
    return np.ceil(training_tokens / step_tokens)


@quantity("s", source="definition: without interruptions, evaluation or checkpoints")
def training_s(training_steps, step_s) -> Array:
    """Time of the whole run if no step is lost."""
    return training_steps * step_s


@quantity("tokens_per_s", source="definition")
def job_tokens_per_s(step_tokens, step_s) -> Array:
    """Tokens trained a second, whole job."""
    return step_tokens / step_s


@quantity("FLOPps", source="EQ-05, causal attention")
def model_FLOPps(token_model_FLOP, job_tokens_per_s, accelerators) -> Array:
    """Model FLOPs a second and accelerator: causal attention, no recompute."""
    return token_model_FLOP * job_tokens_per_s / accelerators


@quantity("1", source="EQ-09: causal model FLOPs over the dense peak of the matmul precision")
def mfu(model_FLOPps, peak_FLOPps, ranks_per_accelerator) -> Array:
    """Model FLOPs utilisation."""
    return model_FLOPps / (peak_FLOPps * ranks_per_accelerator)


@quantity("FLOP", over="kind", source="EQ-08, exact")
def token_recompute_FLOP(
    kind_spec,
    block,
    software,
    recompute,
    recompute_fraction,
    gemm_out,
    gemm_in,
    tp,
    top_k,
    hidden,
    expert_ffn,
    gated_matrices,
    token_attention_FLOP,
) -> Array:
    """Forward FLOPs of one token in one layer that the backward pass repeats."""
    rows = [
        2.0 * gemm_out[at] * gemm_in[at] * (1.0 if label in REPLICATED else tp) * again(recompute, software, label)
        for at, label in enumerate(gemm_labels(kind_spec, block))
    ]
    if kind_spec.moe:
        rows.append(2.0 * top_k * (gated_matrices + 1.0) * hidden * expert_ffn * again(recompute, software, "experts"))
    rows.append(token_attention_FLOP / 3.0 * again(recompute, software, "core_attn"))
    return recompute_fraction * add(rows)


@quantity("1", source="EQ-08: model FLOPs and recomputed FLOPs, causal attention")
def hfu(token_model_FLOP, token_recompute_FLOP, model_layers, mfu) -> Array:
    """Hardware FLOPs utilisation: model FLOPs and the FLOPs that recompute repeats."""
    extra = add(model_layers[k] * token_recompute_FLOP[k] for k in token_recompute_FLOP)
    return mfu * (1.0 + extra / token_model_FLOP)


__all__ = ["STEP_PARTS", "elementwise_labels"]
