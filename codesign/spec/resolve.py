"""From a checked spec to what the quantities need: structure (plain Python) and leaves (numbers with a source).

Structure chooses *which* graph is evaluated; leaves are sizes, degrees and rates. Every leaf says where it comes from
and of which kind it is (spec, measured, fitted, datasheet, assumed), so that a plan can state its footing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.errors import ProfileError, SpecError
from codesign.spec import profiles, schema, stacks
from codesign.spec import stages as stage_layouts

# Weakest first: the footing of a plan is the weakest kind among its leaves.
KINDS = ("assumed", "fitted", "datasheet", "measured", "spec")

DTYPE_B = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "none": 0.0}

AMPERE = ("a100", "a800")
HOPPER = ("h100", "h100-96gb", "h800", "h200", "h20", "gh200")
BLACKWELL = ("b200", "b300", "gb200", "gb300")
TPU = ("tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7")

GEMM_CONSTANT = {
    "a100": "gemm_a100",
    "a800": "gemm_a100",
    "h100": "gemm_h100",
    "h800": "gemm_h100",
    "h200": "gemm_h100",
    "gh200": "gemm_h100",
    "h100-96gb": "gemm_h100_500w",
    "b200": "gemm_b200",
    "b300": "gemm_b300",
    "gb200": "gemm_gb200",
    "gb300": "gemm_gb300",
    "tpu-v7": "gemm_tpu_v7",
}


@dataclass(frozen=True)
class Leaf:
    """One input: its value, where it was read, and of which kind it is."""

    value: float
    kind: str  # one of KINDS
    source: str
    constant: str | None = None  # the fitted constant behind it
    field: str | None = None  # the profile field behind it, as cluster.override names it


@dataclass(frozen=True)
class Kind:
    """A kind of decoder layer: what its graph consists of."""

    name: str
    mla: bool
    windowed: bool
    moe: bool


@dataclass(frozen=True)
class Block:
    """Switches of the architecture that change which operators exist in every layer."""

    gated: bool
    parallel: bool
    rotary: bool
    qk_norm: str  # none | head | full
    norms: int
    query_lora: bool
    shared_experts: bool
    shared_gate: bool
    sinks: bool
    capacity: bool  # static expert capacity: tokens above it are dropped


@dataclass(frozen=True)
class Pipeline:
    schedule: str
    pp: int
    vpp: int
    stages: stage_layouts.Stages


@dataclass(frozen=True)
class Sharding:
    kind: str  # none | zero1 | zero2 | zero3 | hsdp
    reshard: bool
    prefetch: bool


@dataclass(frozen=True)
class Recompute:
    granularity: str
    modules: frozenset[str]


@dataclass(frozen=True)
class Problem:
    """One plan to be: hashable structure, and leaves."""

    structure: tuple[tuple[str, Any], ...]  # sorted (name, value)
    kinds: tuple[str, ...]
    leaves: Mapping[str, Leaf]
    notes: tuple[str, ...]
    spec: schema.Spec
    profile: profiles.Profile
    stack: stacks.Stack

    def structural(self) -> dict[str, Any]:
        return dict(self.structure)


def resolve(
    spec: schema.Spec, *, constants: Mapping[str, float] | None = None, profile: profiles.Profile | None = None
) -> Problem:
    """Look up profile and stack, derive what the spec leaves open by stated rules, refuse what contradicts itself.

    `constants` replaces fitted values (calibration). Raises SpecError with the dotted field.
    """
    prof = profile or profiles.load(spec.cluster.profile, override=spec.cluster.override, fabric=spec.cluster.fabric)
    stack = stack_of(spec)
    notes: list[str] = []
    layout = _layout(spec, prof, stack, notes)
    model = spec.model
    recipe, precision = precision_of(spec, stack)
    kinds, kinds_of_layers = _kinds(model)
    recompute = (
        layout.recompute
        if isinstance(layout.recompute, schema.Recompute)
        else schema.Recompute(
            granularity=layout.recompute, modules=("core_attn",) if layout.recompute == "selective" else ()
        )
    )
    if recompute.granularity == "selective" and not recompute.modules:
        recompute = recompute.model_copy(update={"modules": ("core_attn",)})
    assert layout.pp is not None and layout.dp is not None and layout.schedule is not None
    stages = stages_of(model, layout, tuple(kinds_of_layers))
    block = Block(
        gated=model.gated_ffn,
        parallel=model.parallel_block,
        rotary=model.positions == "rotary",
        qk_norm=model.qk_norm,
        norms=model.norms_per_layer,
        query_lora=bool(model.mla and model.mla.q_lora),
        shared_experts=bool(model.moe and (model.moe.shared_experts or model.moe.shared_expert_ffn)),
        shared_gate=bool(model.moe and model.moe.shared_expert_gate),
        sinks=model.attention_sinks,
        capacity=bool(model.moe and model.moe.capacity_factor is not None),
    )
    optimizer = spec.training.optimizer if isinstance(spec.training.optimizer, str) else spec.training.optimizer.name
    structure = {
        "block": block,
        "pipeline": Pipeline(layout.schedule, layout.pp, layout.vpp, stages),
        "sharding": Sharding(
            layout.sharding or "none", bool(layout.reshard_after_forward), layout.prefetch is not False
        ),
        "recompute": Recompute(recompute.granularity, frozenset(recompute.modules)),
        "recipe": recipe,
        "software": stack,
        "sequence_parallel": bool(layout.sequence_parallel),
        "cp_style": layout.cp_style or ("ring" if layout.cp > 1 else "none"),
        "graph_scopes": frozenset(layout.cuda_graphs or ()),
        "optimizer": optimizer,
        "order": layout.order,
        "tied_embeddings": model.tied_embeddings,
        "offload_optimizer": layout.offload.optimizer,
    }
    for kind in kinds.values():
        structure[f"kind_spec[{kind.name}]"] = kind
    read: set[str] = set()
    leaves = _leaves(spec, layout, prof, stack, recipe, precision, recompute, constants, read)
    domain = float(np.max(leaves["scale_up_ranks"].value))
    if layout.tp is not None and layout.tp > domain:
        beside = ", and its overlap with GEMMs was only measured inside one" if stack.overlap.tp else ""
        notes.append(f"the tensor-parallel group of {layout.tp} spans scale-up domains of {domain:g} ranks{beside}")
    notes += _without_effect(spec, layout, prof, stack, recipe, recompute, kinds, read, leaves)
    return Problem(
        tuple(sorted(structure.items(), key=lambda item: item[0])),
        tuple(kinds),
        leaves,
        tuple(notes),
        spec.model_copy(update={"layout": layout}),
        prof,
        stack,
    )


def layer_kinds(model: schema.Model) -> tuple[str, ...]:
    """The kind of every decoder layer, in order."""
    return tuple(_kinds(model)[1])


def stages_of(model: schema.Model, layout: schema.Layout, kinds: tuple[str, ...] | None = None) -> stage_layouts.Stages:
    """Which layers every pipeline stage holds under a layout with pp and schedule. Raises SpecError."""
    assert layout.pp is not None
    return _assign(
        layer_kinds(model) if kinds is None else kinds,
        layout.pp,
        layout.vpp,
        layout=layout.stages,
        first=layout.first_stage_layers,
        last=layout.last_stage_layers,
        mtp_layers=model.mtp_layers,
        head_cost_layers=model.vocab * model.hidden / max(_layer_matmul(model), 1),
        v_shaped=layout.schedule in ("zb-v", "dualpipe-v"),
    )


def stack_of(spec: schema.Spec) -> stacks.Stack:
    """The stack that a spec names, with what `software` and `layout.overlap` say of it. Raises SpecError."""
    software, overlap = spec.software, spec.layout.overlap
    try:
        stack = stacks.load(software.stack)
    except ProfileError as error:
        raise SpecError(str(error), field="software.stack") from None
    given: dict[str, Any] = {
        "attention_kernel": software.attention_kernel,
        "moe_dispatcher": software.moe_dispatcher,
        "compile": software.compile,
        "launch_blocking": software.launch_blocking,
        "fused_cross_entropy": software.fused_cross_entropy,
        "fused_weight_gradient": software.fused_weight_gradient,
        "low_precision_parameters": software.low_precision_parameters,
        "narrow_activations": software.narrow_activations,
        "gradient_dtype": software.gradient_dtype,
        "reduce_dtype": software.gradient_dtype,
        "host": software.host_layer_s,
        "released": software.date,
    }
    stack = replace(stack, **{k: v for k, v in given.items() if v is not None})
    if software.compile is not None and software.compile != stacks.load(software.stack).compile:
        # torch.compile fuses the elementwise operators and launches fewer kernels; without it they run one by one
        like = stacks.load("torchtitan-compile" if software.compile else "torchtitan-eager")
        stack = replace(stack, traffic=like.traffic, host=stack.host if software.host_layer_s else like.host)
    return stacks.with_overlap(stack, **overlap.model_dump())


def _layout(spec: schema.Spec, prof: profiles.Profile, stack: stacks.Stack, notes: list[str]) -> schema.Layout:
    """Every field of the layout filled in, or the refusal that names what is missing."""
    layout = spec.layout
    missing = [name for name in ("tp", "pp", "micro_batch") if getattr(layout, name) is None]
    if missing:
        raise SpecError(
            f"the layout is not complete: {', '.join('layout.' + m for m in missing)} missing. A plan needs tp, pp and "
            "micro_batch (dp may be left out)",
            field=f"layout.{missing[0]}",
        )
    tp, pp, micro_batch = layout.tp, layout.pp, layout.micro_batch
    assert tp is not None and pp is not None and micro_batch is not None
    ranks = spec.cluster.accelerators * prof.ranks_per_accelerator
    inner = tp * pp * layout.cp
    if layout.dp is None:
        if ranks % inner:
            raise SpecError(
                f"{ranks} ranks cannot be divided by tp x pp x cp = {inner}: no dp fits", field="cluster.accelerators"
            )
        layout = layout.model_copy(update={"dp": ranks // inner})
        notes.append(f"dp = {ranks // inner}, derived from {ranks} ranks / (tp x pp x cp = {inner})")
    dp = ranks // inner if layout.dp is None else layout.dp
    if inner * dp != ranks:
        raise SpecError(
            f"tp x pp x cp x dp = {layout.tp} x {layout.pp} x {layout.cp} x {dp} = {inner * dp}, but the "
            f"cluster has {ranks} ranks",
            field="layout.dp",
        )
    update: dict[str, Any] = {}
    if layout.schedule is None:
        update["schedule"] = "none" if pp == 1 else "interleaved" if layout.vpp > 1 else "1f1b"
    elif layout.schedule == "none" and pp > 1:
        raise SpecError(f"schedule 'none' with pp {pp}: name a pipeline schedule", field="layout.schedule")
    elif layout.schedule != "none" and pp == 1:
        update["schedule"] = "none"
        notes.append(f"layout.schedule '{layout.schedule}' has no effect here: pp is 1")
    if layout.sharding is None:
        update["sharding"] = stack.unknown.sharding
        notes.append(f"sharding = {stack.unknown.sharding}, the default of {stack.name}")
    sharding = update.get("sharding") or layout.sharding
    if layout.sharding_group is not None and sharding != "hsdp":
        raise SpecError(
            f"layout.sharding_group is the shard group of hsdp; {sharding} shards over all of dp x cp",
            field="layout.sharding_group",
        )
    if sharding == "hsdp" and layout.sharding_group is None:
        raise SpecError(
            "sharding hsdp needs layout.sharding_group, the ranks of one shard group", field="layout.sharding"
        )
    if layout.sharding_group is not None and (dp * layout.cp) % layout.sharding_group:
        raise SpecError(
            f"layout.sharding_group {layout.sharding_group} does not divide dp x cp = {dp * layout.cp}",
            field="layout.sharding_group",
        )
    if layout.sequence_parallel is None:
        update["sequence_parallel"] = stack.sequence_parallel and tp > 1
    if layout.etp is None:
        update["etp"] = 1
    if layout.reshard_after_forward is None:
        update["reshard_after_forward"] = (update.get("sharding") or layout.sharding) in (
            "zero3",
            "hsdp",
        ) and layout.pp == 1
    layers = spec.model.layers
    if layout.stages is None and pp * layout.vpp > layers + 2:
        raise SpecError(
            f"pp x vpp = {pp * layout.vpp} stages for {layers} layers: at most one stage a layer, plus one each "
            "for embedding and head",
            field="layout.vpp" if layout.vpp > 1 else "layout.pp",
        )
    if spec.model.moe:
        if layout.ep > spec.model.moe.experts:
            raise SpecError(f"ep {layout.ep} exceeds the {spec.model.moe.experts} experts", field="layout.ep")
        mesh = tp * layout.cp * dp
        etp = layout.etp or 1
        if mesh % (layout.ep * etp):
            raise SpecError(
                f"ep x etp = {layout.ep * etp} does not divide the tp x cp x dp = {mesh} ranks of a pipeline stage",
                field="layout.ep",
            )
    batch = dp * micro_batch
    if spec.training.global_batch_sequences % batch > 1e-9:
        raise SpecError(
            f"global batch {spec.training.global_batch_sequences} is not a multiple of dp x micro_batch = {batch:g}",
            field="training.global_batch_sequences",
        )
    return layout.model_copy(update=update)


def precision_of(spec: schema.Spec, stack: stacks.Stack) -> tuple[stacks.Recipe, schema.PrecisionSpec]:
    """The recipe of the matmuls, and every dtype with what the spec leaves out filled in."""
    given = spec.training.precision
    precision = schema.PrecisionSpec(matmul=given) if isinstance(given, str) else given
    recipe = stacks.RECIPES[precision.matmul]
    half = "fp16" if precision.matmul == "fp16" else "bf16"
    full = precision.matmul == "fp32"
    filled = schema.PrecisionSpec(
        matmul=precision.matmul,
        gradients=precision.gradients or ("fp32" if full else stack.gradient_dtype),
        parameters=precision.parameters or ("fp32" if full else half),
        master=precision.master or ("none" if full or stack.name == "maxtext" else "fp32"),
        moments=precision.moments or "fp32",
    )
    fsdp = stack.unknown.sharding == "zero3" and spec.layout.sharding in (None, "zero3", "hsdp")
    if (stack.xla or fsdp) and not full and precision.parameters is None:
        # FSDP and MaxText keep fp32 parameters, which are the master copy; the 16-bit copy lives while it is used.
        filled = filled.model_copy(update={"parameters": "fp32", "master": "none"})
    return recipe, filled


def _layer_matmul(model: schema.Model) -> float:
    """Weights of one layer that a token multiplies, for weighing the head against layers when stages are uneven."""
    head_dim = model.head_dim or model.hidden // model.heads
    if model.mla:
        attention = model.hidden * model.heads * (model.mla.qk_nope_head_dim + model.mla.v_head_dim)
    else:
        attention = model.hidden * head_dim * 2 * (model.heads + (model.kv_heads or model.heads))
    mats = 3 if model.gated_ffn else 2
    if model.moe:
        return attention + mats * model.hidden * (
            model.moe.expert_ffn * model.moe.top_k
            + (model.moe.shared_expert_ffn or model.moe.shared_experts * model.moe.expert_ffn)
        )
    return attention + mats * model.hidden * (model.ffn or 0)


def _kinds(model: schema.Model) -> tuple[dict[str, Kind], list[str]]:
    """The kinds of layer that exist, and the kind of each layer in order."""
    kinds: dict[str, Kind] = {}
    order: list[str] = []
    window, moe = model.sliding_window, model.moe
    for layer in range(model.layers):
        windowed = bool(window and (window.local is None or layer % (window.local + 1) < window.local))
        routed = bool(moe and layer >= moe.dense_layers and (layer - moe.dense_layers) % moe.every == moe.every - 1)
        if moe and moe.every == 1:
            routed = layer >= moe.dense_layers
        name = ("moe" if routed else "dense") + ("-local" if windowed else "")
        kinds.setdefault(name, Kind(name, model.mla is not None, windowed, routed))
        order.append(name)
    return kinds, order


def _leaves(
    spec: schema.Spec,
    layout: schema.Layout,
    prof: profiles.Profile,
    stack: stacks.Stack,
    recipe: stacks.Recipe,
    precision: schema.PrecisionSpec,
    recompute: schema.Recompute,
    constants: Mapping[str, float] | None,
    read: set[str],
) -> dict[str, Leaf]:
    leaves: dict[str, Leaf] = {}
    fitted = stacks.constants()
    data = _Reads(_data_of(prof), read)

    def put(name: str, value: float, kind: str, source: str) -> None:
        leaves[name] = Leaf(float(value), kind, source)

    def of_spec(field: str, **values: float) -> None:
        for name, value in values.items():
            put(name, value, "spec", f"{field}")

    def of_profile(name: str, key: str, scale: float = 1.0) -> None:
        datum = data[key]
        source = f"{prof.name}: {key} ({datum.source})"
        leaves[name] = Leaf(float(datum.value) * scale, datum.kind, source, field=key)

    def of_constant(name: str, constant: str | float, why: str = "") -> None:
        if isinstance(constant, str):
            row = fitted[constant]
            value = constants[constant] if constants and constant in constants else row.value
            leaves[name] = Leaf(value, "fitted", f"constant {constant}: {row.meaning}", constant)
        else:
            put(name, constant, "assumed", why or f"stack {stack.name}")

    model, training = spec.model, spec.training
    head_dim = model.head_dim or model.hidden // model.heads
    kv_heads = model.kv_heads or model.heads
    of_spec("model", hidden=model.hidden, heads=model.heads, vocab=model.vocab, ffn=model.ffn or 0, layers=model.layers)
    if model.mla:
        mla = model.mla
        of_spec(
            "model.mla",
            q_lora=mla.q_lora or 0,
            kv_lora=mla.kv_lora,
            rope_dim=mla.qk_rope_head_dim,
            qk_dim=mla.qk_nope_head_dim + mla.qk_rope_head_dim,
            v_dim=mla.v_head_dim,
            nope_dim=mla.qk_nope_head_dim,
            kv_heads=model.heads,
        )
    else:
        of_spec(
            "model",
            q_lora=0,
            kv_lora=0,
            rope_dim=0,
            qk_dim=head_dim,
            v_dim=head_dim,
            nope_dim=head_dim,
            kv_heads=kv_heads,
        )
    moe = model.moe
    of_spec(
        "model.moe",
        experts=moe.experts if moe else 1,
        top_k=moe.top_k if moe else 1,
        expert_ffn=moe.expert_ffn if moe else 0,
        shared_ffn=(moe.shared_expert_ffn or moe.shared_experts * moe.expert_ffn) if moe else 0,
        imbalance=moe.imbalance if moe else 1.0,
        capacity_factor=(moe.capacity_factor or 1.0) if moe else 1.0,
    )
    of_spec(
        "model",
        window=model.sliding_window.window if model.sliding_window else 0,
        mtp_layers=model.mtp_layers,
        learned_positions=model.max_positions or 0 if model.positions == "learned" else 0,
    )
    of_spec(
        "model.biases",
        qkv_bias=float(model.biases.qkv),
        out_bias=float(model.biases.attn_out),
        mlp_bias=float(model.biases.mlp),
        expert_bias=float(model.biases.experts),
        router_bias=float(model.biases.router),
        head_bias=float(model.biases.head),
        score_bias=float(bool(model.moe and model.moe.router_score_bias)),
        final_norm=float(model.final_norm),
        embedding_norm=float(model.embedding_norm),
    )
    of_spec(
        "model.norm", norm_vectors={"rmsnorm": 1, "layernorm": 2, "layernorm-nobias": 1, "nonparametric": 0}[model.norm]
    )
    packing = training.packing
    of_spec(
        "training",
        sequence_tokens=training.sequence_length,
        global_batch=training.global_batch_sequences,
        document_tokens=packing.mean_document_tokens if packing else 0.0,
        length_dispersion=packing.length_dispersion if packing else 1.0,
    )
    assert layout.tp and layout.dp and layout.micro_batch and layout.etp
    group = layout.sharding_group or layout.dp * layout.cp
    training_parameters = None if isinstance(training.precision, str) else training.precision.parameters
    of_spec(
        "layout",
        tp=layout.tp,
        cp=layout.cp,
        dp=layout.dp,
        ep=layout.ep,
        etp=layout.etp,
        micro_batch=layout.micro_batch,
        shard_ranks=group,
        recompute_fraction=recompute.fraction,
        offloaded_share=layout.offload.activations,
        groups_per_token=layout.expert_groups_per_token or 0,
    )
    narrow = stack.low_precision_parameters and recipe.operand_B < 2.0 and training_parameters is None
    put(
        "parameter_B",
        0.0 if narrow else DTYPE_B[precision.parameters or "bf16"],
        "spec",
        f"stack {stack.name}: the {recipe.name} copies are the parameters"
        if narrow
        else "training.precision.parameters",
    )
    put("gradient_B", DTYPE_B[precision.gradients or "fp32"], "spec", "training.precision.gradients")
    put(
        "reduce_B",
        DTYPE_B[stack.reduce_dtype if precision.gradients != "bf16" else "bf16"],
        "spec",
        f"stack {stack.name}",
    )
    put("master_B", DTYPE_B[precision.master or "fp32"], "spec", "training.precision.master")
    put("moment_B", DTYPE_B[precision.moments or "fp32"], "spec", "training.precision.moments")
    put("activation_B", 4.0 if recipe.name == "fp32" else 2.0, "spec", "training.precision")
    steps = 5 if isinstance(training.optimizer, str) else training.optimizer.newton_schulz_steps
    put("newton_schulz_steps", steps, "spec", "training.optimizer")
    put("operand_B", recipe.operand_B, "spec", f"precision {recipe.name}")
    put("cast_forward_B", recipe.cast_forward_B, "assumed", f"counted: {recipe.source}")
    put("cast_backward_B", recipe.cast_backward_B, "assumed", f"counted: {recipe.source}")
    put("cast_weight_B", recipe.cast_weight_B, "assumed", f"counted: {recipe.source}")
    put("weight_copy_B", recipe.weight_copy_B, "assumed", f"counted: {recipe.source}")
    put("saved_operand_B", recipe.saved_activation_B, "assumed", f"counted: {recipe.source}")
    wide_B = 4.0 if recipe.name == "fp32" else min(DTYPE_B[precision.parameters or "bf16"], 2.0)
    put(
        "gather_B",
        min(max(recipe.operand_B, 1.0), 2.0) if narrow else wide_B,
        "spec",
        "parameters travel in the compute dtype",
    )
    put(
        "optimizer_writes_B",
        max(leaves["parameter_B"].value, leaves["gather_B"].value),
        "spec",
        "dtype of the parameters",
    )
    put(
        "dispatch_B",
        1.5 if stack.name == "deepseek-hai" else 2.0,
        "assumed",
        "16 bits both ways; DeepSeek sends fp8 and gets 16 bits back (EQ-16)",
    )
    put("storage_Bps", spec.input.storage_Bps if spec.input else 1e30, "spec", "input.storage_Bps")
    put("token_B", spec.input.bytes_per_token if spec.input else 0.0, "spec", "input.bytes_per_token")

    # -- the accelerator
    family = prof.family
    peaks = {key.rsplit(".", 1)[1]: key for key in data if key.startswith("accelerator.peak_FLOPps.")}
    if recipe.peak not in peaks:
        alternatives = {"fp16": "bf16", "tf32": "fp32"}
        if alternatives.get(recipe.peak) not in peaks:
            raise SpecError(
                f"{prof.name} has no {recipe.peak} matrix rate, which precision {recipe.name} needs; it has "
                f"{', '.join(sorted(peaks))}",
                field="training.precision",
            )
        recipe_peak = alternatives[recipe.peak]
    else:
        recipe_peak = recipe.peak
    of_profile("peak_FLOPps", peaks[recipe_peak])
    half = "bf16" if "bf16" in peaks else "fp16" if "fp16" in peaks else recipe_peak
    of_profile("half_peak_FLOPps", peaks[half])
    of_profile("memory_Bps", "accelerator.memory_Bps")
    of_profile("memory_B", "accelerator.memory_B")
    gemm = "kernels.gemm.bf16"
    constant = GEMM_CONSTANT.get(family)
    given = f"{gemm}.efficiency" in spec.cluster.override
    if constant and not given:
        of_constant("gemm_share", constant)
    else:
        of_profile("gemm_share", f"{gemm}.efficiency")
    _low_precision(put, of_constant, data, family, recipe)
    for name in ("k0", "wave_loss", "memory_efficiency", "launch_s"):
        of_profile(
            {"k0": "k_ramp", "launch_s": "gemm_launch_s", "memory_efficiency": "gemm_memory_share"}.get(name, name),
            f"{gemm}.{name}",
        )
    if data.get("accelerator.power_limit_W") is None:
        put("rated_W", 1.0, "assumed", "no power set point below the rated power")
        put("power_limit_W", 1.0, "assumed", "no power set point below the rated power")
    elif data.get("accelerator.tdp_W") is None:
        raise SpecError(
            f"{prof.name} has no rated power: a power limit needs accelerator.tdp_W beside it", field="cluster.override"
        )
    else:
        of_profile("rated_W", "accelerator.tdp_W")
        of_profile("power_limit_W", "accelerator.power_limit_W")
    sms = data.get("accelerator.sms")
    if sms is None or sms.value is None:
        put("sms", 1.0, "assumed", "no count of multiprocessors published: no wave quantisation")
    else:
        of_profile("sms", "accelerator.sms")
    _attention(put, of_constant, of_profile, data, family, stack, model, fitted, constants, leaves)
    of_profile("elementwise_share", "kernels.elementwise.efficiency")
    of_profile("elementwise_launch_s", "kernels.elementwise.launch_s")
    of_constant("grouped_half_rows", "moe_half_rows")
    of_constant("grouped_share", "moe_gemm_share")
    of_constant("traffic_share", stack.traffic)
    of_constant("host_layer_s", stack.host)
    of_constant("host_moe_s", stack.moe_host)
    of_constant("host_graph_share", "host_graph_share")
    of_constant("host_static_share", "host_static_share")
    of_constant("permute_passes", "permute_passes")
    of_constant("overlap_slowdown", "overlap_slowdown")
    of_constant("straggler_per_doubling", "straggler_per_doubling")
    network = stack.network if stack.released <= stack.network_until else 1.0
    of_constant("network_share", network, f"stack {stack.name}: the whole network is used")
    of_constant("fsdp_exposed", "fsdp_exposed")
    of_constant("ageing_per_year", "ageing_per_year" if stack.ages else 0.0, f"stack {stack.name} is not aged")
    put("age_years", _age(stack), "spec", f"software.date {stack.released}")
    of_constant("fixed_step_s", "fixed_step_s")
    of_constant("host_wait_per_rank", "host_wait_per_rank")
    of_constant("host_unfused_softmax", "host_unfused_softmax")
    of_constant(
        "optimizer_passes", stack.optimizer_passes, f"stack {stack.name}: gradient norm and clipping over the minimum"
    )
    of_constant("last_bucket_share", "last_bucket_share")
    of_constant("overlap_window", "overlap_window")
    put("nccl_B", 1.5 * 2.0**30, "measured", "EQ-17: ml-engineering, 1.5 GiB at the first collective")
    put("context_B", 0.55 * 2.0**30, "measured", "EQ-17: ml-engineering, 0.55 GiB")
    put("workspace_B", 0.10 * 2.0**30, "assumed", "cuBLAS and attention workspaces")
    put("fragmentation", 0.08, "assumed", "EQ-17: 5 to 10 % without expandable segments")
    put("training_tokens", training.tokens or 0.0, "spec", "training.tokens")
    put("accelerators", spec.cluster.accelerators, "spec", "cluster.accelerators")
    put("ranks_per_accelerator", prof.ranks_per_accelerator, "datasheet", prof.name)
    of_profile("host_link_Bps", "host_link_Bps")

    # -- the network
    of_profile("scale_up_ranks", "scale_up.domain")
    domain = leaves["scale_up_ranks"].value
    ranks = spec.cluster.accelerators * prof.ranks_per_accelerator
    used = scale_up_ranks(domain, float(ranks))
    if ranks <= domain:
        put("scale_up_ranks", used, "spec", "cluster.accelerators: the whole job sits in one scale-up domain")
    elif used != domain:
        put(
            "scale_up_ranks",
            used,
            "assumed",
            f"jobs take {used:g} of the {domain:g} ranks of a scale-up domain, so that groups do not straddle it",
        )
    torus = prof.scale_up.topology == "torus" and prof.scale_up.p2p_Bps is not None
    source = f"{prof.name}: links of a chip over two a torus axis" if torus else "no torus"
    put("torus_axes", torus_axes(prof), "datasheet", source)
    of_profile("link_Bps", "scale_up.link_Bps")
    for operation, short in (
        ("all_gather", "gather"),
        ("all_reduce", "reduce"),
        ("all_to_all", "exchange"),
        ("p2p", "p2p"),
    ):
        for field, name in (("latency_s", "latency_s"), ("bandwidth_fraction", "share"), ("half_B", "half_B")):
            key = f"scale_up.collectives.{operation}.{field}"
            of_profile(f"up_{short}_{name}", key)
            pair = f"scale_up.pair.{operation}.{field}"
            if operation != "p2p":
                of_profile(f"pair_{short}_{name}", pair if pair in data else key)
    of_profile("nic_Bps", "scale_out.nic_Bps")
    of_profile("nic_share", "scale_out.efficiency")
    of_profile("nic_half_B", "scale_out.half_B")
    of_profile("nic_latency_s", "scale_out.latency_s")
    of_profile("hop_s", "scale_out.hop_s")
    of_profile("inner_exposed", "scale_out.intra_fraction")
    of_profile("pod_ranks", "scale_out.pod")
    of_profile("taper", "scale_out.taper")
    put("accelerator_ranks", spec.cluster.accelerators * prof.ranks_per_accelerator, "spec", "cluster.accelerators")
    put("node_ranks", *_datum(data, "node.accelerators_per_node", 8.0))
    return leaves


def torus_axes(prof: profiles.Profile) -> float:
    """Axes of the torus inside a scale-up domain: links of a chip over two an axis; 1 where there is none."""
    up = prof.scale_up
    if up.topology != "torus" or up.p2p_Bps is None:
        return 1.0
    return float(round(up.link_Bps.value / up.p2p_Bps.value / 2))


def scale_up_ranks(domain: float, ranks: float) -> float:
    """Ranks of a job that share a scale-up domain: all of it, or a power of two where the job is no multiple of it."""
    if ranks <= domain:
        return ranks
    whole = float(2.0 ** np.floor(np.log2(domain)))
    return whole if whole < domain and ranks % domain else domain


def _datum(data: Mapping[str, Any], key: str, default: float) -> tuple[float, str, str]:
    datum = data.get(key)
    if datum is None or datum.value is None:
        return default, "assumed", f"{key} not in the profile"
    return float(datum.value), datum.kind, f"{key} ({datum.source})"


_PROFILE_DATA: dict[int, tuple[profiles.Profile, Mapping[str, Any]]] = {}


def _data_of(prof: profiles.Profile) -> Mapping[str, Any]:
    """The flat data of a profile, per rank; kept with the profile that it was read from."""
    kept = _PROFILE_DATA.get(id(prof))
    if kept is None or kept[0] is not prof:
        kept = _PROFILE_DATA[id(prof)] = (prof, prof.per_rank().data())
    return kept[1]


_assign = lru_cache(maxsize=4096)(stage_layouts.assign)


class _Reads(Mapping[str, Any]):
    """A profile's data that remembers what was asked for, so that an override without effect can be named."""

    def __init__(self, data: Mapping[str, Any], read: set[str]) -> None:
        self.data, self.read = data, read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.data.get(key, default)


def _without_effect(
    spec: schema.Spec,
    layout: schema.Layout,
    prof: profiles.Profile,
    stack: stacks.Stack,
    recipe: stacks.Recipe,
    recompute: schema.Recompute,
    kinds: Mapping[str, Kind],
    read: set[str],
    leaves: Mapping[str, Leaf],
) -> list[str]:
    """What the spec says that changes nothing in this plan, one note each. Nothing is ignored in silence."""
    model, software, overlap = spec.model, spec.software, spec.layout.overlap
    dense = not all(kind.moe for kind in kinds.values())
    fully = layout.sharding in ("zero3", "hsdp")
    said: list[tuple[bool, str, str]] = [
        (model.moe is None and model.biases.router, "model.biases.router", "the model has no router"),
        (model.moe is None and model.biases.experts, "model.biases.experts", "the model has no experts"),
        (model.mla is not None and model.kv_heads is not None, "model.kv_heads", "MLA has one latent for all heads"),
        (model.mla is not None and model.head_dim is not None, "model.head_dim", "MLA states its own head sizes"),
        (
            model.max_positions is not None and model.positions != "learned",
            "model.max_positions",
            f"{model.positions} positions have no table",
        ),
        (
            model.tied_embeddings and layout.pp != 1,
            "model.tied_embeddings",
            "embedding and head are on different stages, each with a copy",
        ),
        (
            overlap.tp is not None and (layout.tp == 1 or not dense or not (layout.sequence_parallel or stack.xla)),
            "layout.overlap.tp",
            "only sequence-parallel collectives of dense layers can be cut into pieces",
        ),
        (
            overlap.cp is not None and layout.cp_style in ("all-gather", "all-to-all"),
            "layout.overlap.cp",
            f"{layout.cp_style} is exposed as a whole",
        ),
        (
            overlap.dp_gradients is not None and (fully or not stack.bucketed),
            "layout.overlap.dp_gradients",
            "fully sharded gradients follow dp_parameters" if fully else f"{stack.name} has no gradient buckets",
        ),
        (
            overlap.pp is not None and layout.schedule in ("none", "1f1b", "gpipe"),
            "layout.overlap.pp",
            f"schedule {layout.schedule} passes activations on before it goes on",
        ),
        (
            layout.expert_groups_per_token is not None and stack.moe_dispatcher not in ("deepep", "hybridep", "fused"),
            "layout.expert_groups_per_token",
            f"dispatcher {stack.moe_dispatcher} sends every copy by itself",
        ),
        (
            overlap.ep is not None and model.moe is None,
            "layout.overlap.ep",
            "the model has no experts",
        ),
        (
            model.moe is not None and model.moe.capacity_factor is not None and model.moe.imbalance != 1.0,
            "model.moe.imbalance",
            "experts of static capacity work on that, however the tokens fall",
        ),
        (
            software.low_precision_parameters is True and recipe.operand_B >= 2.0,
            "software.low_precision_parameters",
            f"precision {recipe.name} has no narrower copies",
        ),
        (software.date is not None and not stack.ages, "software.date", f"{stack.name} has no measured ageing"),
        (
            not dense and bool({"mlp", "mlp_act"} & set(recompute.modules)),
            "layout.recompute.modules",
            "the model has no dense FFN to recompute",
        ),
        (
            not any(kind.moe for kind in kinds.values())
            and bool({"moe", "moe_router", "moe_preprocess"} & set(layout.cuda_graphs or ())),
            "layout.cuda_graphs",
            "the model has no MoE layer to capture",
        ),
        (
            not dense and "mlp" in (layout.cuda_graphs or ()),
            "layout.cuda_graphs",
            "the model has no dense FFN to capture",
        ),
        (
            model.moe is not None
            and layout.order.index("ep") < max(layout.order.index("tp"), layout.order.index("cp")),
            "layout.order",
            "experts have a mesh of their own: only whether ep stands before or after dp counts",
        ),
        (
            software.attention_kernel is not None
            and software.attention_kernel != "unfused"
            and leaves["attention_kernel_share"].value == leaves["attention_age_share"].value == 1.0,
            "software.attention_kernel",
            f"{software.attention_kernel} is timed at the attention rate that was measured on this accelerator",
        ),
    ]
    said.append((spec.search is not None, "search", "a plan looks at one layout; `codesign search` reads it"))
    notes = [f"{field} has no effect here: {why}" for condition, field, why in said if condition]
    for key in spec.cluster.override:
        if key not in read:
            notes.append(f"cluster.override {key} has no effect in this plan: no quantity reads it")
    return notes


def _age(stack: stacks.Stack) -> float:
    """Years by which the release is older than May 2026; none for later ones, at most three and a half."""
    year, _, month = stack.released.partition("-")
    when = float(year) + (float(month or 7) - 1) / 12
    return float(np.clip(2026 + 4 / 12 - when, 0.0, 3.5))


def _low_precision(put: Any, of_constant: Any, data: Mapping[str, Any], family: str, recipe: stacks.Recipe) -> None:
    """Efficiency of the recipe's GEMMs over bf16's, each against its own peak."""
    if recipe.operand_B >= 2.0:
        put("recipe_share", 1.0, "assumed", f"{recipe.name} runs at the bf16 share of its peak")
        return
    own = data.get(f"kernels.gemm.{recipe.kernel}.efficiency")
    if own is not None and own.source == "spec override":
        put("recipe_share", own.value / data["kernels.gemm.bf16.efficiency"].value, own.kind, own.source)
    elif recipe.name == "nvfp4":
        of_constant("recipe_share", "nvfp4_blackwell")
    elif recipe.name == "fp8-rowwise" and family in HOPPER:
        of_constant("recipe_share", "fp8_rowwise_hopper")
    elif family in HOPPER:
        of_constant("recipe_share", "fp8_hopper")
    elif family in BLACKWELL:
        of_constant("recipe_share", "fp8_blackwell")
    elif family in TPU:
        of_constant("recipe_share", "fp8_tpu")
    else:
        low, half = data.get(f"kernels.gemm.{recipe.kernel}.efficiency"), data["kernels.gemm.bf16.efficiency"]
        if low is not None:
            put("recipe_share", low.value / half.value, low.kind, low.source)
        else:
            put("recipe_share", 0.85, "assumed", "no low-precision measurement: the ratio of Hopper")


def _attention(
    put: Any,
    of_constant: Any,
    of_profile: Any,
    data: Mapping[str, Any],
    family: str,
    stack: stacks.Stack,
    model: schema.Model,
    fitted: Mapping[str, stacks.Constant],
    constants: Mapping[str, float] | None,
    leaves: dict[str, Leaf],
) -> None:
    head = (
        model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim
        if model.mla
        else model.head_dim or model.hidden // model.heads
    )
    prefix = "kernels.attention.by_head_dim."
    sizes = sorted({int(key.removeprefix(prefix).split(".")[0]) for key in data if key.startswith(prefix)})
    size = min(sizes, key=lambda s: (abs(s - head), s))
    base = f"{prefix}{size}"
    of_profile("attention_efficiency", f"{base}.efficiency")
    of_profile("attention_ramp_tokens", f"{base}.s0")
    of_profile("attention_launch_s", f"{base}.launch_s")
    of_constant("attention_share", "attention_share")
    ratio = data.get("kernels.attention.backward_ratio")
    if ratio is not None and ratio.source == "spec override":
        of_profile("attention_backward_ratio", "kernels.attention.backward_ratio")
    else:
        of_constant("attention_backward_ratio", "attention_backward_ratio")
    kernel = stack.attention_kernel
    modern = family in HOPPER or family in BLACKWELL
    put("attention_kernel_share", 1.0, "measured", f"kernel {kernel}: the one measured on this accelerator")
    put("attention_age_share", 1.0, "measured", "no older kernel")
    if kernel in ("fa1", "fa2") and modern:
        of_constant("attention_kernel_share", "attention_fa2_hopper")
    if kernel == "fa1":
        of_constant("attention_age_share", "attention_fa1")
    if kernel == "cudnn" and family in HOPPER and stack.released < "2024-06":
        of_constant("attention_kernel_share", "attention_cudnn_2023")
