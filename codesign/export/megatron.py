"""Megatron-LM: the arguments of a plan.

`arguments` is the one table from the plan's fields to Megatron's options; Megatron-Bridge takes it from here.
`codesign.spec.megatron` reads the same options back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from codesign.export.asked import FILL_IN, Asked, Framework
from codesign.export.megatron_limits import refuse_together

FRAMEWORK = Framework("Megatron-LM", "NVIDIA/Megatron-LM commit d98e8a64ddf34856e74b24714e3bedb2f5a39553 of 2026-08-22")

POSITIONS = {"rotary": "rope", "learned": "learned_absolute", "none": "none"}
NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
FP8_RECIPES = {"fp8-tensor": "delayed", "fp8-current": "tensorwise", "fp8-block": "blockwise", "mxfp8": "mxfp8"}
OPTIMIZERS = {"adamw": "adam", "sgd": "sgd", "muon": "muon"}
CP_STYLES = {"ring": "p2p", "all-gather": "all_gather", "all-to-all": "a2a"}
MODULES = ("core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts")
KERNELS = {"unfused": "unfused", "fa2": "flash", "fa3": "flash", "cudnn": "fused"}
DISPATCHERS = {"alltoall": "alltoall", "allgather": "allgather", "deepep": "flex", "hybridep": "flex"}
SHARDED = {"zero2": "optim_grads", "zero3": "optim_grads_params", "hsdp": "optim_grads_params"}
ORDERS = {("tp", "cp", "ep", "dp", "pp"): False, ("tp", "cp", "ep", "pp", "dp"): True}


@dataclass(frozen=True)
class Argument:
    """One option with its values, and the array of the script in which it stands."""

    group: str
    flag: str
    values: tuple[str, ...] = ()


class _Sheet(list[Argument]):
    """Collects arguments group by group."""

    def __init__(self) -> None:
        super().__init__()
        self.group = ""

    def put(self, flag: str, *values: object) -> None:
        self.append(Argument(self.group, f"--{flag}", tuple(str(value) for value in values)))

    def switch(self, flag: str, on: object) -> None:
        if on:
            self.put(flag)


def arguments(asked: Asked) -> list[Argument]:
    """Every option that the plan decides. What Megatron-LM cannot do is left in `asked.refusals`."""
    sheet = _Sheet()
    for name, write in (
        ("MODEL", _model), ("MOE", _moe), ("PARALLEL", _parallel), ("PARALLEL", _pipeline), ("SHARDING", _sharding),
        ("MEMORY", _memory), ("TRAINING", _training), ("PRECISION", _precision), ("KERNEL", _kernels),
    ):  # fmt: skip
        sheet.group = name
        write(asked, sheet)
    refuse_together(asked)
    return list(sheet)


def carried_otherwise(asked: Asked) -> dict[str, str]:
    """Fields that the options carry in part only, or under another name, with the reason."""
    partly = {"training.tokens": "Megatron counts whole iterations"}
    if asked.values["software.attention_kernel"] in ("fa2", "fa3"):
        partly["software.attention_kernel"] = "--attention-backend flash takes the newest that is installed"
    if asked.values.get("model.moe.shared_experts"):
        partly["model.moe.shared_experts"] = "Megatron knows their total width only"
    return partly


# ---------------------------------------------------------------------------------------------------- the model


def _model(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    sheet.put("num-layers", take("model.layers"))
    sheet.put("hidden-size", take("model.hidden"))
    if (ffn := take("model.ffn")) is not None:
        sheet.put("ffn-hidden-size", ffn)
    heads, groups, width = take("model.heads"), take("model.kv_heads"), take("model.head_dim")
    sheet.put("num-attention-heads", heads)
    if groups is not None and groups != heads:
        sheet.put("group-query-attention")
        sheet.put("num-query-groups", groups)
    if width is not None:
        sheet.put("kv-channels", width)
    if take("model.mla.kv_lora") is not None:
        _mla(asked, sheet)
    sheet.switch("swiglu", take("model.gated_ffn"))
    sheet.put("vocab-size", take("model.vocab"))
    sheet.switch("untie-embeddings-and-output-weights", not take("model.tied_embeddings"))
    positions = asked.only("model.positions", tuple(POSITIONS), "Megatron has rope, learned positions or none")
    sheet.put("position-embedding-type", POSITIONS.get(positions, FILL_IN))
    rows = take("model.max_positions") or asked.values["training.sequence_length"]
    sheet.put("max-position-embeddings", rows)
    norm = asked.only("model.norm", tuple(NORMS), "Megatron has RMSNorm and LayerNorm with a bias")
    sheet.put("normalization", NORMS.get(norm, FILL_IN))
    asked.only("model.norms_per_layer", 2, "Megatron's layer has two norms")
    asked.only("model.final_norm", True, "Megatron's decoder ends with a norm")
    asked.only("model.qk_norm", ("none", "head"), "Megatron normalises queries and keys by head")
    sheet.switch("qk-layernorm", take("model.qk_norm") == "head")
    if take("model.attention_sinks"):
        sheet.put("softmax-type", "learnable")
    _biases(asked, sheet)
    if (window := take("model.sliding_window.window")) is not None:
        if asked.values.get("model.mla.kv_lora") is not None:
            asked.refuse("model.sliding_window.window", "Megatron's latent attention takes no window")
        sheet.put("window-size", f"{window - 1},0")
        if (local := take("model.sliding_window.local")) is not None:
            sheet.put("window-attn-skip-freq", local + 1)
    if layers := take("model.mtp_layers"):
        if positions not in ("rotary", "none"):
            asked.refuse("model.mtp_layers", f"with {positions} positions: Megatron wants rope or none")
        sheet.put("mtp-num-layers", layers)


def _mla(asked: Asked, sheet: _Sheet) -> None:
    sheet.put("multi-latent-attention")
    if (rank := asked.take("model.mla.q_lora")) is not None:
        sheet.put("q-lora-rank", rank)
    for flag, ours in (("kv-lora-rank", "kv_lora"), ("qk-head-dim", "qk_nope_head_dim"),
                       ("qk-pos-emb-head-dim", "qk_rope_head_dim"), ("v-head-dim", "v_head_dim")):  # fmt: skip
        sheet.put(flag, asked.take(f"model.mla.{ours}"))


def _biases(asked: Asked, sheet: _Sheet) -> None:
    """One switch for all linear layers, and one for the projections of queries, keys and values."""
    bias = {name: bool(asked.take(f"model.biases.{name}")) for name in ("qkv", "attn_out", "mlp", "router", "experts")}
    moe = asked.layer_kinds
    present = ["attn_out", *(["mlp"] if not all(moe) else []), *(["router", "experts"] if any(moe) else [])]
    on = [bias[name] for name in present]
    if all(on) and bias["qkv"]:
        return
    if any(on):
        asked.refuse("model.biases", "Megatron puts biases on all linear layers, on none, or on qkv only")
    sheet.put("disable-bias-linear")
    sheet.switch("add-qkv-bias", bias["qkv"])


def _moe(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    if (experts := take("model.moe.experts")) is None:
        return
    sheet.put("num-experts", experts)
    top_k = take("model.moe.top_k")
    sheet.put("moe-router-topk", top_k)
    sheet.switch("moe-router-pre-softmax", top_k == 1)  # softmax over one expert would be 1
    sheet.put("moe-ffn-hidden-size", take("model.moe.expert_ffn"))
    sheet.put("moe-grouped-gemm")
    if (width := take("model.moe.shared_expert_ffn")) is not None:
        sheet.put("moe-shared-expert-intermediate-size", width)
    sheet.switch("moe-shared-expert-gate", take("model.moe.shared_expert_gate"))
    take("model.moe.dense_layers"), take("model.moe.every")
    if not all(asked.layer_kinds):
        runs = [(int(moe), len(list(run))) for moe, run in groupby(asked.layer_kinds)]
        sheet.put("moe-layer-freq", "(" + "+".join(f"[{moe}]*{count}" for moe, count in runs) + ")")
    if take("model.moe.router_score_bias"):
        sheet.put("moe-router-enable-expert-bias")
        sheet.put("moe-router-score-function", "sigmoid")
    if (factor := take("model.moe.capacity_factor")) is not None:
        sheet.put("moe-expert-capacity-factor", factor)
        sheet.put("moe-pad-expert-input-to-capacity")
    dispatcher = asked.only("software.moe_dispatcher", tuple(DISPATCHERS), f"Megatron has {', '.join(DISPATCHERS)}")
    sheet.put("moe-token-dispatcher-type", DISPATCHERS.get(dispatcher, FILL_IN))
    if DISPATCHERS.get(dispatcher) == "flex":
        sheet.put("moe-flex-dispatcher-backend", dispatcher)
    if (most := take("layout.expert_groups_per_token")) is not None:
        nodes, rest = divmod(asked.values["layout.ep"], asked.per_node)
        if rest or nodes < most or experts % nodes:
            asked.refuse("layout.expert_groups_per_token", f"is {most}: experts do not fall into equal groups, one a node")
        sheet.put("moe-router-num-groups", max(nodes, 1))
        sheet.put("moe-router-group-topk", most)


# ---------------------------------------------------------------------------------------------------- the layout


def _parallel(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    sheet.put("tensor-model-parallel-size", take("layout.tp"))
    sheet.switch("sequence-parallel", take("layout.sequence_parallel"))
    sheet.put("pipeline-model-parallel-size", take("layout.pp"))
    sheet.put("context-parallel-size", take("layout.cp"))
    if (style := take("layout.cp_style")) is not None:
        sheet.put("cp-comm-type", CP_STYLES[style])
    ep, etp = take("layout.ep"), take("layout.etp")
    if etp is not None:
        sheet.put("expert-model-parallel-size", ep)
        sheet.put("expert-tensor-parallel-size", etp)
    order = tuple(take("layout.order"))
    inner = tuple(name for name in order if name != "ep")  # experts have a mesh of their own
    known = {tuple(name for name in one if name != "ep"): mapping for one, mapping in ORDERS.items()}
    if inner not in known:
        asked.refuse("layout.order", f"is {', '.join(order)}: Megatron lays ranks out as tp, cp, dp, pp or as tp, cp, pp, dp")
    sheet.switch("use-tp-pp-dp-mapping", known.get(inner))
    sheet.switch("tp-comm-overlap", take("layout.overlap.tp"))
    asked.only("layout.overlap.cp", (None, True), "Transformer Engine always overlaps the ring with attention")
    sheet.switch("overlap-moe-expert-parallel-comm", take("layout.overlap.ep"))


def _pipeline(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    schedules = ("none", "1f1b", "interleaved")
    asked.only("layout.schedule", schedules, "Megatron has 1f1b, and interleaved where vpp is above 1")
    stages, vpp = asked.stages, take("layout.vpp")
    first, last = take("layout.first_stage_layers"), take("layout.last_stage_layers")
    if (layout := take("layout.stages")) is not None:
        sheet.put("pipeline-model-parallel-layout", layout)
    else:
        if first is not None:
            sheet.put("decoder-first-pipeline-num-layers", first)
        if last is not None:
            sheet.put("decoder-last-pipeline-num-layers", last)
        if vpp > 1:
            sheet.put("num-virtual-stages-per-pipeline-rank", vpp)
    overlap = take("layout.overlap.pp")
    if overlap is False and stages.pp <= 2:
        asked.refuse("layout.overlap.pp", "is false: Megatron interleaves two stages only with overlapped transfers")
    sheet.switch("no-overlap-p2p-communication", overlap is False)


def _sharding(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    kind, group = take("layout.sharding"), take("layout.sharding_group")
    asked.only("layout.reshard_after_forward", (None, True), "Megatron-FSDP frees parameters after use")
    asked.only("layout.prefetch", (None, True), "Megatron-FSDP always gathers ahead")
    if kind != "none":
        sheet.put("use-distributed-optimizer")
    if kind in SHARDED:
        if asked.values["layout.pp"] > 1:
            asked.refuse("layout.sharding", f"is {kind}: with pp above 1 Megatron shards the optimizer only (zero1)")
        sheet.put("use-megatron-fsdp")
        sheet.put("data-parallel-sharding-strategy", SHARDED[kind])
        sheet.put("ckpt-format", "fsdp_dtensor")
    if group is not None:
        sheet.put("num-distributed-optimizer-instances", asked.values["layout.dp"] * asked.values["layout.cp"] // group)
    sheet.switch("overlap-grad-reduce", take("layout.overlap.dp_gradients"))
    gather = take("layout.overlap.dp_parameters")
    if gather and not asked.values["layout.overlap.dp_gradients"]:
        asked.refuse("layout.overlap.dp_parameters", "is true: Megatron overlaps the gather only together with the gradients")
    sheet.switch("overlap-param-gather", gather)


def _memory(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    granularity, modules = take("layout.recompute.granularity"), take("layout.recompute.modules")
    fraction = take("layout.recompute.fraction")
    if granularity != "none":
        sheet.put("recompute-granularity", granularity)
    if granularity == "selective":
        for name in modules:
            if name not in MODULES:
                asked.refuse("layout.recompute.modules", f"{name}: Megatron recomputes {', '.join(MODULES)}")
        if fraction < 1:
            asked.refuse("layout.recompute.fraction", f"is {fraction:g}: Megatron recomputes modules in all layers")
        sheet.put("recompute-modules", *modules)
    elif granularity == "full":
        _full_recompute(asked, sheet, fraction)
    asked.only("layout.offload.activations", 0.0, "Megatron offloads whole layers or modules, not a share")
    if take("layout.offload.optimizer"):
        sheet.put("optimizer-cpu-offload")
    graphs = take("layout.cuda_graphs")
    if "full_iteration" in graphs:
        if len(graphs) > 1:
            asked.refuse("layout.cuda_graphs", "full_iteration holds all: Megatron takes no module beside it")
        sheet.put("cuda-graph-impl", "full_iteration")
        sheet.put("no-check-for-nan-in-loss-and-grad")
    elif graphs:
        sheet.put("cuda-graph-impl", "transformer_engine")
        sheet.put("cuda-graph-modules", *graphs)


def _full_recompute(asked: Asked, sheet: _Sheet, fraction: float) -> None:
    held = {chunk.layers for rank in asked.stages.chunks for chunk in rank}
    if fraction == 1:
        sheet.put("recompute-method", "uniform")
        sheet.put("recompute-num-layers", 1)
        return
    layers = min(held) * fraction
    if len(held) > 1 or abs(layers - round(layers)) > 1e-9:
        asked.refuse(
            "layout.recompute.fraction",
            f"is {fraction:g}: Megatron recomputes the same whole number of layers on every stage, and stages hold "
            f"{' or '.join(str(n) for n in sorted(held))}",
        )
    sheet.put("recompute-method", "block")
    sheet.put("recompute-num-layers", round(layers))


# ---------------------------------------------------------------------------------------------------- the training step


def _training(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    sequence, batch, tokens = (take(f"training.{n}") for n in ("sequence_length", "global_batch_sequences", "tokens"))
    cp = asked.values["layout.cp"]
    if cp > 1 and sequence % (2 * cp):
        asked.refuse("training.sequence_length", f"is {sequence}: Megatron wants a multiple of 2 x cp = {2 * cp}")
    sheet.put("seq-length", sequence)
    sheet.put("micro-batch-size", asked.whole("layout.micro_batch"))
    sheet.put("global-batch-size", batch)
    if tokens is not None:
        sheet.put("train-iters", math.ceil(tokens / (sequence * batch)))
    sheet.switch("dataloader-inter-document-masking", asked.values["training.packing.mean_document_tokens"])
    optimizer = asked.only("training.optimizer.name", tuple(OPTIMIZERS), f"Megatron has {', '.join(OPTIMIZERS)}")
    sheet.put("optimizer", OPTIMIZERS.get(optimizer, FILL_IN))
    if (steps := take("training.optimizer.newton_schulz_steps")) is not None:
        sheet.put("muon-num-ns-steps", steps)
    rate = "0.1" if asked.dropout else "0.0"
    sheet.put("attention-dropout", rate)
    sheet.put("hidden-dropout", rate)


def _precision(asked: Asked, sheet: _Sheet) -> None:
    take = asked.take
    matmul = take("training.precision.matmul")
    half = "fp16" if matmul == "fp16" else "fp32" if matmul == "fp32" else "bf16"
    if half != "fp32":
        sheet.put(half)
    if matmul in FP8_RECIPES:
        sheet.put("fp8-format", "hybrid")
        sheet.put("fp8-recipe", FP8_RECIPES[matmul])
    elif matmul == "nvfp4":
        sheet.put("fp4-format", "e2m1")
        sheet.put("fp4-recipe", "nvfp4")
    elif matmul != half:
        asked.refuse("training.precision.matmul", f"is {matmul}: Megatron has no such recipe")
    narrow = take("software.low_precision_parameters")
    if narrow:
        gather = "fp4-param-gather" if matmul == "nvfp4" else "fp8-param-gather"
        if asked.values["layout.sharding"] == "none":
            asked.refuse("software.low_precision_parameters", f"is true: --{gather} needs the distributed optimizer (zero1)")
        sheet.put(gather)
    asked.only("training.precision.parameters", half, f"Megatron's parameters are {half} beside {matmul}")
    asked.only("training.precision.master", "none" if half == "fp32" else "fp32", "Megatron's master copy is fp32")
    gradients = take("training.precision.gradients")
    asked.only("software.gradient_dtype", (None, gradients), f"gradients are kept in {gradients}")
    if half == "fp32":
        asked.only("training.precision.gradients", "fp32", "gradients of fp32 parameters are fp32")
    elif gradients == "fp32":
        sheet.put("accumulate-allreduce-grads-in-fp32")
    elif gradients == "bf16" == half:
        sheet.put("grad-reduce-in-bf16")
    elif gradients != half:
        asked.refuse("training.precision.gradients", f"is {gradients}: Megatron has fp32 or {half}")
    moments = asked.only("training.precision.moments", ("fp32", "bf16", "fp16", "fp8"), "Megatron has no such moments")
    if moments != "fp32" or asked.values["layout.offload.optimizer"]:
        sheet.put("use-precision-aware-optimizer")
        sheet.put("exp-avg-dtype", moments)
        sheet.put("exp-avg-sq-dtype", moments)


def _kernels(asked: Asked, sheet: _Sheet) -> None:
    kernel = asked.only("software.attention_kernel", tuple(KERNELS), f"Megatron runs {', '.join(KERNELS)}")
    sheet.put("attention-backend", KERNELS.get(kernel, FILL_IN))
    if asked.take("software.fused_cross_entropy"):
        sheet.put("cross-entropy-loss-fusion")
    sheet.switch("no-gradient-accumulation-fusion", not asked.take("software.fused_weight_gradient"))
    asked.only("software.compile", False, "Megatron is not compiled as a whole")
    asked.only("software.narrow_activations", (None, False), "Megatron-LM has no argument for it")


def undecided(asked: Asked) -> Iterator[Argument]:
    """Options without which Megatron-LM does not train, and which the plan does not decide."""
    names = ["lr", "lr-decay-style", "tokenizer-type", "tokenizer-model", "data-path"]
    if asked.values["training.tokens"] is None:
        names.append("train-iters")
    if asked.values["model.positions"] == "rotary":
        names.append("rotary-base")
    if asked.values.get("model.moe.experts") is not None:
        names.append("moe-aux-loss-coeff")
    for name in names:
        yield Argument("UNDECIDED", f"--{name}", (FILL_IN,))
