"""Megatron-LM's arguments (a launch script, or the arguments alone) as a spec. Read as data; nothing is executed.

The options are those that `codesign.export.megatron` writes, with Megatron's own defaults where they are left out. What
arguments cannot say (the hardware above all) is read from the comment lines `#: field: value` that an export writes, or
given with `--set`. Checked against the parser at the commit that data/megatron_flags.yaml names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codesign.errors import Place, SpecError
from codesign.spec import load, profiles, shell, stacks, stages
from codesign.spec.megatron_args import Given, arguments, header
from codesign.spec.megatron_model import model_of

STACK = "megatron-core"
OPTIMIZERS = {"adam": "adamw", "sgd": "sgd", "muon": "muon", "dist_muon": "muon"}
CP_STYLES = {"p2p": "ring", "all_gather": "all-gather", "a2a": "all-to-all"}
FP8_RECIPES = {"delayed": "fp8-tensor", "tensorwise": "fp8-current", "blockwise": "fp8-block", "mxfp8": "mxfp8"}
KERNELS = {"unfused": ("unfused",), "flash": ("fa2", "fa3", "fa1"), "fused": ("cudnn",)}
STRATEGIES = {"no_shard": "none", "optim": "zero1", "optim_grads": "zero2", "optim_grads_params": "zero3"}

# Arguments that change the model or the step in a way that no field of a spec says: refused, never left out in silence.
REFUSED = (
    "account-for-embedding-in-pipeline-split", "account-for-loss-in-pipeline-split",
    "apply-residual-connection-post-layernorm", "attention-output-gate", "cpu-offloading-num-layers", "cuda-graph-scope",
    "decoder-num-layers", "decoder-seq-length", "delay-wgrad-compute", "disable-fp8-wgrad", "distribute-saved-activations",
    "enable-cuda-graph", "enable-full-sharding-in-hsdp", "enable-mhc-connections", "encoder-num-layers",
    "encoder-seq-length", "experimental-attention-variant", "expert-tensor-parallel-num-weight-shards",
    "external-cuda-graph", "fine-grained-activation-offloading", "first-last-layers-bf16", "fp32-residual-connection",
    "fp8-output-proj", "heterogeneous-layers-config-encoded-json", "heterogeneous-layers-config-path",
    "hierarchical-context-parallel-sizes", "hybrid-context-parallel", "hybrid-layer-pattern", "hybrid-override-pattern",
    "linear-attention-freq", "mamba-state-dim", "moe-combine-bwd-dtype", "moe-dispatch-fwd-dtype",
    "moe-expert-rank-capacity-factor", "moe-latent-size", "moe-layer-recompute", "moe-paged-stash", "moe-use-upcycling",
    "mtp-standalone", "mtp-use-repeated-layer", "no-fp8-wgrad", "optimizer-offload-fraction", "outer-dp-sharding-strategy",
    "qk-l2-norm", "rampup-batch-size", "spec", "squared-relu", "step-batch-size-schedule",
    "tensor-parallel-num-weight-shards", "use-checkpoint-args", "use-mp-args-from-checkpoint-args", "use-torch-fsdp2",
    "yaml-cfg",
)  # fmt: skip


def read(source: str | Path, sets: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The spec of a launch script or argument list as plain data, and notes on what was left out or assumed.

    `sets` are `field=value` texts that take precedence. Raises SpecError with file and line for an argument that Megatron-LM
    does not have, has no room in a spec, contradicts another or is missing.
    """
    path = Path(source)
    return read_text(load.read_text(path), str(path), sets)


def read_text(text: str, file: str = "<text>", sets: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """As `read`, from text; `file` names it in messages."""
    script = shell.read(text, file)
    given = arguments(script)
    carried = header(script)
    data, notes = _spec(given, carried)
    left = sorted(set(given.values) - given.read)
    for name in left:
        if name in REFUSED:
            raise given.wrong(name, "has an effect that no field of a spec says; leave it out to import the rest")
    notes = [*script.notes, *notes]
    if left:
        notes.append(f"left out, no field of a spec says them: {', '.join('--' + name for name in left)}")
    document = load.document(data)
    for one in sets:
        load.apply_set(document, one)
    _check_complete(document.data, file)
    load.load(document.data)
    return document.data, notes


def _check_complete(data: Mapping[str, Any], file: str) -> None:
    wanted = {
        "cluster.profile": "h100-sxm-80gb", "cluster.accelerators": "64", "model.vocab": "128256",
        "training.global_batch_sequences": "1024",
    }  # fmt: skip
    missing = [name for name in wanted if name.split(".")[1] not in data.get(name.split(".")[0], {})]
    if missing:
        sets = " ".join(f"--set {name}={wanted[name]}" for name in missing)
        raise SpecError(f"{file}: the arguments do not say {', '.join(missing)}; add for example {sets}", field=missing[0])


# ---------------------------------------------------------------------------------------------------- arguments to a spec


def _spec(given: Given, carried: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    if "software.stack" not in carried:
        notes.append(f"software.stack = {STACK}: arguments do not say which release runs")
    stack = stacks.load(carried.get("software.stack", STACK))
    training = _training(given, carried)
    software = _software(given, carried, stack)
    data: dict[str, Any] = {
        "version": 1,
        **{name: carried[name] for name in ("name", "input") if name in carried},
        "model": model_of(given, carried, training["sequence_length"]),
        "training": training,
        "layout": _layout(given, carried, stack),
        "cluster": {k.split(".")[1]: value for k, value in carried.items() if k.startswith("cluster.")},
        "software": software,
    }
    cluster = data["cluster"]
    if given.ranks is not None:
        cluster["accelerators"] = _accelerators(given, cluster)
    moe = data["model"].get("moe")
    if moe is not None:
        _moe_layout(given, data, stack, moe)
    _batch(given, data, carried.get("training.tokens"), notes)
    data["training"]["precision"] = _precision(given, software, stack)
    return data, notes


def _accelerators(given: Given, cluster: Mapping[str, Any]) -> int:
    """The launcher's ranks as accelerators; a comment that says otherwise is refused."""
    ranks, name = given.ranks or 0, cluster.get("profile")
    each = profiles.load(name).ranks_per_accelerator if isinstance(name, str) else 1
    said = cluster.get("accelerators", ranks // each)
    if said * each != ranks:
        raise SpecError(
            f"the launcher starts {ranks} ranks, but a comment says cluster.accelerators: {said}", field="cluster.accelerators",
            place=Place(given.script.file, 1, 1),
        )  # fmt: skip
    return said

def _layout(given: Given, carried: Mapping[str, Any], stack: stacks.Stack) -> dict[str, Any]:
    tp, pp = given.number("tensor-model-parallel-size", 1), given.number("pipeline-model-parallel-size", 1)
    cp = given.number("context-parallel-size", 1)
    layout: dict[str, Any] = {"tp": tp, "pp": pp, "cp": cp, "micro_batch": given.needed("micro-batch-size")}
    if "layout.dp" in carried:
        layout["dp"] = carried["layout.dp"]
    layout["sequence_parallel"] = given.has("sequence-parallel") and tp != 1
    style = CP_STYLES[str(given.text("cp-comm-type", "p2p", tuple(CP_STYLES)))]
    if cp != 1:
        layout["cp_style"] = style
    mapping = given.has("use-tp-pp-dp-mapping")
    layout["order"] = ["tp", "cp", "ep", "pp", "dp"] if mapping else ["tp", "cp", "ep", "dp", "pp"]
    _stages(given, layout, int(pp or 1))
    _sharding(given, layout)
    _memory(given, layout)
    overlap: dict[str, bool] = {}
    for name, flag, applies in (
        ("tp", given.has("tp-comm-overlap"), layout["sequence_parallel"]),
        ("dp_gradients", given.has("overlap-grad-reduce"), True),
        ("dp_parameters", given.has("overlap-param-gather"), layout["sharding"] != "none"),
        ("pp", not given.has("no-overlap-p2p-communication"), layout.get("vpp", 1) > 1),
        ("ep", given.has("overlap-moe-expert-parallel-comm"), given.number("expert-model-parallel-size", 1) != 1),
    ):
        if applies and flag != getattr(stack.overlap, name):
            overlap[name] = flag
    if overlap:
        layout["overlap"] = overlap
    return layout


def _stages(given: Given, layout: dict[str, Any], pp: int) -> None:
    text, virtual = given.text("pipeline-model-parallel-layout"), given.number("num-virtual-stages-per-pipeline-rank")
    per_stage = given.number("num-layers-per-virtual-pipeline-stage")
    if sum(value is not None for value in (text, virtual, per_stage)) > 1:
        name = "pipeline-model-parallel-layout" if text is not None else "num-virtual-stages-per-pipeline-rank"
        raise given.wrong(name, "contradicts another argument that says how many virtual stages there are")
    vpp = virtual or 1
    for flag, name in (("decoder-first-pipeline-num-layers", "first_stage_layers"),
                       ("decoder-last-pipeline-num-layers", "last_stage_layers")):  # fmt: skip
        if (layers := given.number(flag)) is not None:
            layout[name] = layers
    if text is not None:
        count = stages.count_stages(text)
        if count % pp:
            raise given.wrong("pipeline-model-parallel-layout", f"{text}: {count} stages, no multiple of pp {pp}")
        vpp = count // pp
        layout["stages"] = text
    elif per_stage is not None:
        layers = given.needed("num-layers")
        if per_stage < 1 or layers % (pp * per_stage):
            raise given.wrong("num-layers-per-virtual-pipeline-stage", f"{per_stage}: does not divide {layers} layers on pp {pp}")
        vpp = layers // (pp * per_stage)
    elif pp > 1 and "first_stage_layers" not in layout and "last_stage_layers" not in layout:
        layers = given.needed("num-layers")
        if layers % (pp * vpp):
            raise given.wrong("num-layers", f"{layers}: not divisible by the {pp * vpp} stages, which Megatron-LM refuses")
    if vpp > 1:
        layout["vpp"] = vpp
    layout["schedule"] = "none" if pp == 1 else "interleaved" if vpp > 1 else "1f1b"


def _sharding(given: Given, layout: dict[str, Any]) -> None:
    distributed = given.has("use-distributed-optimizer")
    strategy = given.text("data-parallel-sharding-strategy", "optim_grads_params", tuple(STRATEGIES))
    instances = given.number("num-distributed-optimizer-instances", 1) or 1
    given.has("ckpt-format")
    layout["sharding"] = "zero1" if distributed else "none"
    if given.has("use-megatron-fsdp"):
        layout["sharding"] = STRATEGIES[str(strategy)]
    if instances > 1:
        if layout["sharding"] != "zero3":
            raise given.wrong("num-distributed-optimizer-instances", f"{instances}: a spec has groups with zero3 only (hsdp)")
        layout["sharding"] = "hsdp"
        if given.ranks is None:
            raise given.wrong("num-distributed-optimizer-instances", "needs the number of ranks: --nnodes and --nproc-per-node")
        layout["sharding_group"] = (given.ranks or 0) // (layout["tp"] * layout["pp"] * instances)
    if layout["sharding"] in ("zero3", "hsdp"):
        layout["reshard_after_forward"] = True


def _memory(given: Given, layout: dict[str, Any]) -> None:
    granularity = given.text("recompute-granularity", None, ("selective", "full"))
    method, layers = given.text("recompute-method", None, ("uniform", "block")), given.number("recompute-num-layers")
    modules = given.values.get("recompute-modules", (["core_attn"], 0))[0]
    given.read.add("recompute-modules")
    if given.has("recompute-activations"):
        granularity = "selective"
    if granularity == "selective":
        layout["recompute"] = {"granularity": "selective", "modules": sorted(modules)}
    elif granularity == "full":
        if method is None or layers is None:
            raise given.wrong("recompute-granularity", "full needs --recompute-method and --recompute-num-layers")
        uneven = layout.keys() & {"stages", "first_stage_layers", "last_stage_layers"}
        if method == "block" and uneven:
            raise given.wrong("recompute-method", f"block with layout.{min(uneven)}: a spec has one share for all stages")
        held = given.needed("num-layers") / (layout["pp"] * layout.get("vpp", 1))
        fraction = 1.0 if method == "uniform" else min(layers / held, 1.0)
        if method == "uniform" and layers != 1:
            raise given.wrong("recompute-num-layers", f"{layers}: with uniform, a spec recomputes layer by layer: 1")
        layout["recompute"] = {"granularity": "full", "fraction": fraction}
    if given.has("optimizer-cpu-offload"):
        layout["offload"] = {"optimizer": True}
    implementation = given.text("cuda-graph-impl", "none", ("none", "local", "transformer_engine", "full_iteration"))
    scopes = given.values.get("cuda-graph-modules", ([], 0))[0]
    given.read.add("cuda-graph-modules")
    if implementation == "full_iteration":
        given.has("no-check-for-nan-in-loss-and-grad")
        layout["cuda_graphs"] = ["full_iteration"]
    elif implementation != "none":
        if not scopes:
            raise given.wrong("cuda-graph-impl", f"{implementation} without --cuda-graph-modules: a spec names what is captured")
        layout["cuda_graphs"] = list(scopes)


def _training(given: Given, carried: Mapping[str, Any]) -> dict[str, Any]:
    training: dict[str, Any] = {"sequence_length": given.needed("seq-length")}
    given.has("dataloader-inter-document-masking"), given.has("attention-dropout"), given.has("hidden-dropout")
    optimizer = OPTIMIZERS[str(given.text("optimizer", "adam", tuple(OPTIMIZERS)))]
    steps = given.number("muon-num-ns-steps", 5)
    training["optimizer"] = {"name": "muon", "newton_schulz_steps": steps} if optimizer == "muon" else optimizer
    packing = {name.rsplit(".", 1)[1]: value for name, value in carried.items() if name.startswith("training.packing.")}
    if packing:
        training["packing"] = packing
    return training


def _batch(given: Given, data: dict[str, Any], said: float | None, notes: list[str]) -> None:
    """Global batch and length of the run: Megatron takes one micro-batch a rank where it is not told."""
    training, layout = data["training"], data["layout"]
    batch = given.number("global-batch-size")
    if batch is None and given.ranks is not None:
        batch = layout["micro_batch"] * given.ranks // (layout["tp"] * layout["pp"] * layout["cp"])
        notes.append(f"training.global_batch_sequences = {batch}: one micro-batch a data-parallel rank, Megatron's default")
    if batch is None:
        return
    training["global_batch_sequences"] = batch
    iterations, samples = given.number("train-iters"), given.number("train-samples")
    if iterations is not None and samples is not None:
        raise given.wrong("train-samples", "contradicts --train-iters: keep one of them")
    step = batch * training["sequence_length"]
    tokens = iterations * step if iterations is not None else None if samples is None else samples * training["sequence_length"]
    if said is not None:
        if iterations is not None and math.ceil(said / step) != iterations:
            raise given.wrong("train-iters", f"{iterations}: a comment says training.tokens: {said:g}, which are {said / step:g}")
        tokens = said
    if tokens is not None:
        training["tokens"] = float(tokens)


def _moe_layout(given: Given, data: dict[str, Any], stack: stacks.Stack, moe: Mapping[str, Any]) -> None:
    layout, software = data["layout"], data["software"]
    layout["ep"] = given.number("expert-model-parallel-size", 1)
    layout["etp"] = given.number("expert-tensor-parallel-size", layout["tp"])
    dispatcher = given.text("moe-token-dispatcher-type", "allgather", ("allgather", "alltoall", "flex"))
    backend = given.text("moe-flex-dispatcher-backend", "deepep", ("deepep", "hybridep"))
    if given.has("moe-enable-deepep") or dispatcher == "flex":
        dispatcher = "deepep" if given.has("moe-enable-deepep") else backend
    if dispatcher != stack.moe_dispatcher:
        software["moe_dispatcher"] = dispatcher
    given.number("moe-router-num-groups")
    if (most := given.number("moe-router-group-topk")) is not None:
        layout["expert_groups_per_token"] = most


def _precision(given: Given, software: dict[str, Any], stack: stacks.Stack) -> str | dict[str, Any]:
    half = "bf16" if given.has("bf16") else "fp16" if given.has("fp16") else "fp32"
    if half == "bf16" and given.has("fp16"):
        raise given.wrong("fp16", "contradicts --bf16: keep one of them")
    matmul = half
    fp8, fp4 = given.text("fp8-format", None, ("hybrid",)), given.text("fp4-format")
    recipe = given.text("fp8-recipe", "delayed", tuple(FP8_RECIPES))
    given.text("fp4-recipe", "nvfp4", ("nvfp4",))
    if fp8 is not None and fp4 is not None:
        raise given.wrong("fp4-format", "contradicts --fp8-format: keep one of them")
    if fp8 is not None or fp4 is not None:
        matmul = "nvfp4" if fp4 is not None else FP8_RECIPES[str(recipe)]
        if half != "bf16":
            raise given.wrong("fp8-format" if fp4 is None else "fp4-format", "without --bf16: a spec's narrow recipes run on it")
        gather = given.has("fp8-param-gather") if fp4 is None else given.has("fp4-param-gather")
        if gather != stack.low_precision_parameters:
            software["low_precision_parameters"] = gather
    for name in ("main-params-dtype", "main-grads-dtype"):
        given.text(name, "fp32", ("fp32",))
    wide = given.has("accumulate-allreduce-grads-in-fp32")
    narrow = given.has("grad-reduce-in-bf16")
    gradients = "fp32" if half == "fp32" or (half == "bf16" and not narrow) or wide else half
    precision: dict[str, Any] = {"matmul": matmul}
    if gradients != ("fp32" if half == "fp32" else stack.gradient_dtype):
        precision["gradients"] = gradients
    moments, second = (given.text(name, "fp32") for name in ("exp-avg-dtype", "exp-avg-sq-dtype"))
    if moments != second:
        raise given.wrong("exp-avg-sq-dtype", f"{second}: a spec has one dtype for both moments, the other is {moments}")
    given.has("use-precision-aware-optimizer")
    if moments != "fp32":
        precision["moments"] = moments
    return precision if len(precision) > 1 else matmul


def _software(given: Given, carried: Mapping[str, Any], stack: stacks.Stack) -> dict[str, Any]:
    software: dict[str, Any] = {"stack": stack.name}
    for name in ("date", "host_layer_s"):
        if f"software.{name}" in carried:
            software[name] = carried[f"software.{name}"]
    backend = given.text("attention-backend", "auto", (*KERNELS, "auto"))
    said = carried.get("software.attention_kernel")
    if backend != "auto":
        kernels = KERNELS[str(backend)]
        if said is not None and said not in kernels:
            raise given.wrong("attention-backend", f"{backend}: a comment says software.attention_kernel: {said}")
        kernel = said or (stack.attention_kernel if stack.attention_kernel in kernels else kernels[0])
        if kernel != stack.attention_kernel:
            software["attention_kernel"] = kernel
    given.text("cross-entropy-fusion-impl", "native", ("native", "te"))
    for name, value in (
        ("fused_cross_entropy", given.has("cross-entropy-loss-fusion")),
        ("fused_weight_gradient", not given.has("no-gradient-accumulation-fusion")),
        ("launch_blocking", given.script.exported.get("CUDA_LAUNCH_BLOCKING") == "1"),
    ):
        if value != getattr(stack, name):
            software[name] = value
    if stack.compile:
        software["compile"] = False
    if stack.narrow_activations:
        software["narrow_activations"] = False
    return software
