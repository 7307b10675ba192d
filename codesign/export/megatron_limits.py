"""Megatron-LM: what its checks refuse about fields together, each refused by name; at the commit of `megatron.FRAMEWORK`."""

from __future__ import annotations

from codesign.export.asked import Asked


def refuse_together(asked: Asked) -> None:
    """Leave in `asked.refusals` what Megatron-LM would stop at, in its arguments, its configuration or its first step."""
    for check in (_optimizer, _recompute, _graphs, _experts, _schedule):
        check(asked)


def _optimizer(asked: Asked) -> None:
    values = asked.values
    name, sharding = values["training.optimizer.name"], values["layout.sharding"]
    moments, offload = values["training.precision.moments"], values["layout.offload.optimizer"]
    if name == "muon" and sharding in ("zero2", "zero3", "hsdp"):
        asked.refuse("layout.sharding", f"is {sharding}: with muon Megatron shards the optimizer only (zero1)")
    if name != "adamw" and moments != "fp32":
        asked.refuse("training.precision.moments", f"is {moments}: Megatron has narrow moments with adamw only, not with {name}")
    if name != "adamw" and offload:
        asked.refuse("layout.offload.optimizer", f"is true: Megatron offloads adamw only, not {name}")
    if (moments != "fp32" or offload) and sharding == "none":
        field = "training.precision.moments" if moments != "fp32" else "layout.offload.optimizer"
        asked.refuse(field, "needs the distributed optimizer of Megatron: write layout.sharding zero1")
    recipe = values["training.precision.matmul"]
    if offload and values["software.low_precision_parameters"] and recipe not in ("fp8-tensor", "nvfp4"):
        field = "software.low_precision_parameters"
        asked.refuse(field, f"is true with {recipe}: beside an offloaded optimizer Megatron has it with fp8-tensor only")


def _recompute(asked: Asked) -> None:
    delayed = asked.values["training.precision.matmul"] == "fp8-tensor"
    refused = {"layernorm", "moe_act"} & set(asked.values["layout.recompute.modules"])
    if delayed and refused:
        why = "Megatron cannot recompute it with the delayed scaling of fp8-tensor"
        asked.refuse("layout.recompute.modules", f"{', '.join(sorted(refused))}: {why}")


def _graphs(asked: Asked) -> None:
    """Modules that are captured, without full_iteration: its own limits stand with the option."""
    values, moe = asked.values, asked.layer_kinds
    graphs = values["layout.cuda_graphs"]
    if not graphs or "full_iteration" in graphs:
        return

    def no(why: str) -> None:
        asked.refuse("layout.cuda_graphs", why)

    if values["layout.recompute.granularity"] == "full":
        no("captures modules: with full recompute Megatron captures the full iteration only")
    if not any(moe) and {"moe", "moe_router", "moe_preprocess"} & set(graphs):
        no("captures parts of MoE layers, and no layer is one")
    if all(moe) and "mlp" in graphs:
        no("captures mlp, and no layer is dense")
    if {"moe", "moe_router"} <= set(graphs):
        no("captures both moe and moe_router: Megatron takes one of them")
    if "moe_preprocess" in graphs and "moe_router" not in graphs:
        no("captures moe_preprocess: Megatron wants moe_router too")
    if "moe" in graphs and values.get("model.moe.capacity_factor") is None:
        no("captures moe: Megatron wants a model.moe.capacity_factor")
    modules = values["layout.recompute.modules"]
    if "moe_router" in graphs and "moe" in modules:
        no("captures moe_router: Megatron cannot recompute moe around it")
    if asked.dropout:
        for graph, module in (("attn", "core_attn"), ("mlp", "mlp"), ("moe", "moe")):
            if graph in graphs and module in modules:
                no(f"captures {graph}: with dropout Megatron cannot recompute {module} inside of it")


def _experts(asked: Asked) -> None:
    values = asked.values
    if values.get("model.moe.experts") is None:
        return
    if values["layout.tp"] > 1 and not values["layout.sequence_parallel"]:
        asked.refuse("layout.sequence_parallel", "is false: with tp above 1 Megatron trains MoE layers with it only")
    dispatcher = values["software.moe_dispatcher"]
    if dispatcher == "deepep" and values["model.moe.capacity_factor"] is not None:
        asked.refuse("model.moe.capacity_factor", "is given: Megatron's deepep drops no tokens; take alltoall or hybridep")
    if dispatcher == "deepep" and values["layout.ep"] * values["layout.etp"] == 1:
        asked.refuse("software.moe_dispatcher", "is deepep: Megatron wants ep x etp above 1 for it")
    if not values["layout.overlap.ep"]:
        return
    for refused, why in (
        (values["layout.pp"] > 1 and values["layout.vpp"] == 1, "with pp above 1 Megatron wants vpp above 1"),
        (dispatcher == "allgather", "Megatron overlaps alltoall, deepep and hybridep, not allgather"),
        (values["layout.recompute.granularity"] == "full", "Megatron overlaps nothing with full recompute"),
        ("moe" in values["layout.recompute.modules"], "Megatron overlaps nothing where moe is recomputed"),
        (values["training.precision.matmul"] == "fp32", "Megatron overlaps with bf16 or fp16 only"),
        (values["model.mtp_layers"] > 1, "Megatron overlaps with one layer of multi-token prediction at most"),
    ):
        if refused:
            asked.refuse("layout.overlap.ep", f"is true: {why}")


def _schedule(asked: Asked) -> None:
    """Interleaved stages take micro-batches in groups of pp."""
    values = asked.values
    pp, micro = values["layout.pp"], values["layout.micro_batch"]
    if values["layout.vpp"] < 2 or not micro:
        return
    count = round(values["training.global_batch_sequences"] / (values["layout.dp"] * micro))
    if count % pp:
        asked.refuse("layout.vpp", f"is {values['layout.vpp']}: {count} micro-batches are no multiple of pp {pp}")
