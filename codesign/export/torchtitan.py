"""torchtitan: a Python recipe that returns a Trainer.Config. It can name only the models that torchtitan registers."""

from __future__ import annotations

import math
from typing import Any

from codesign.export.asked import FILL_IN, Asked, Framework
from codesign.spec import presets, schema

FRAMEWORK = Framework("torchtitan", "pytorch/torchtitan commit b5bcd76c66d0acb1a08b176d9639425bc55e0b2a of 2026-08-21")

# preset -> package under torchtitan.models, and flavor
FLAVORS = {
    "llama-3-8b": ("llama3", "8B"), "llama-3-70b": ("llama3", "70B"), "llama-3.1-405b": ("llama3", "405B"),
    "qwen3-8b": ("qwen3", "8B"), "qwen3-32b": ("qwen3", "32B"), "qwen3-30b-a3b": ("qwen3", "30B-A3B"),
    "qwen3-235b-a22b": ("qwen3", "235B-A22B"), "deepseek-v2-lite": ("deepseek_v3", "16B"),
    "deepseek-v2": ("deepseek_v3", "236B"), "deepseek-v3": ("deepseek_v3", "671B"),
}  # fmt: skip
SCHEDULES = {
    "gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble", "dualpipe-v": "DualPipeV",
}  # fmt: skip
V_SHAPED = ("zb-v", "dualpipe-v")
BACKENDS = {"fa2": "flex", "fa3": "varlen"}
DISPATCHERS = {"alltoall": "standard", "deepep": "deepep", "hybridep": "hybridep"}
CONVERTERS = {
    "fp8-rowwise": "Float8LinearConverter.Config(model_compile_enabled={compile})",
    "mxfp8": "MXFP8LinearConverter.Config(model_compile_enabled={compile})",
    "nvfp4": "NVFP4LinearConverter.Config(fqns=['layers'], model_compile_enabled={compile})",
}


def _flavor(asked: Asked) -> tuple[str, str]:
    """The registered model that is this one, field by field; MTP layers and the name aside."""
    fields = [name for name in asked.values if name.startswith("model.") and name != "model.name"]
    mine = {name: asked.take(name) for name in fields if name not in ("model.mtp_layers", "model.moe.imbalance")}
    for preset, flavor in FLAVORS.items():
        theirs = _shape(preset)
        if all(theirs.get(name) == value for name, value in mine.items()) and len(theirs) <= len(mine):
            return flavor
    near = min(FLAVORS, key=lambda name: sum(_shape(name).get(key) != value for key, value in mine.items()))
    differs = [key for key, value in mine.items() if _shape(near).get(key) != value]
    asked.refuse(
        "model",
        f"is none that torchtitan registers ({', '.join(FLAVORS)}); the nearest, {near}, differs in {', '.join(differs[:4])}",
    )
    return "", ""


def _shape(preset: str) -> dict[str, Any]:
    from codesign.export import asked as asking

    values: dict[str, Any] = {}
    asking.model_fields(values, schema.Model.model_validate(presets.load(preset)))
    for name in ("model.name", "model.mtp_layers", "model.moe.imbalance"):
        values.pop(name, None)
    return values


def parallelism(asked: Asked) -> dict[str, Any]:
    """Fields of ParallelismConfig."""
    take, values = asked.take, asked.values
    dp, cp, pp = take("layout.dp"), take("layout.cp"), take("layout.pp")
    kind = asked.only("layout.sharding", ("none", "zero3", "hsdp"), "torchtitan has FSDP2 (zero3), hsdp or none")
    group = take("layout.sharding_group") or 0
    shard = {"zero3": dp, "hsdp": max(group // cp, 1)}.get(kind, 1)
    if kind == "hsdp" and (group % cp or dp % shard):
        asked.refuse("layout.sharding_group", f"is {group}: torchtitan shards over whole data-parallel ranks times cp {cp}")
    if (region := shard * cp * values["layout.tp"]) % values["layout.ep"]:
        field = "layout.sharding_group" if kind == "hsdp" else "layout.ep"
        asked.refuse(field, f"is {values[field]}: torchtitan's ep must divide shards x cp x tp = {region}")
    found: dict[str, Any] = {
        "data_parallel_replicate_degree": dp // shard,
        "data_parallel_shard_degree": shard,
        "tensor_parallel_degree": take("layout.tp"),
        "context_parallel_degree": cp,
        "pipeline_parallel_degree": pp,
        "expert_parallel_degree": take("layout.ep"),
    }
    if values["layout.tp"] > 1:
        found["enable_sequence_parallel"] = take("layout.sequence_parallel")
    if kind != "none":
        found["fsdp_reshard_after_forward"] = "always" if take("layout.reshard_after_forward") else "never"
        asked.only("layout.prefetch", True, "FSDP2 always gathers ahead")
    for name in ("dp_gradients", "dp_parameters"):
        asked.only(f"layout.overlap.{name}", (None, True), "it always overlaps")
    asked.only("layout.overlap.cp", (None, False), "torchtitan exposes its gathers")
    asked.only("layout.overlap.ep", (None, False), "torchtitan exposes its all-to-all")
    asked.only("layout.overlap.pp", (None, False), "torchtitan passes activations on at once")
    asked.only("layout.etp", (None, 1), "torchtitan does not cut single experts")
    if cp > 1:
        asked.only("layout.cp_style", ("all-gather",), "torchtitan's context parallelism gathers keys and values")
    if pp > 1:
        _pipeline(asked, found)
    return found


def _pipeline(asked: Asked, found: dict[str, Any]) -> None:
    take, values = asked.take, asked.values
    schedule = asked.only("layout.schedule", tuple(SCHEDULES), f"torchtitan runs {', '.join(SCHEDULES)}")
    found["pipeline_parallel_schedule"] = SCHEDULES.get(schedule, FILL_IN)
    micro = asked.values["layout.micro_batch"]
    found["num_pp_microbatches"] = int(values["training.global_batch_sequences"] / (values["layout.dp"] * micro))
    for name in ("vpp", "stages", "first_stage_layers", "last_stage_layers"):
        take(f"layout.{name}")
    parts = []
    for chunk in asked.stages.in_model_order(v_shaped=schedule in V_SHAPED):
        names = ["tok_embeddings"] * chunk.embedding
        names += [f"layers.{index}" for index in range(chunk.first_layer, chunk.first_layer + chunk.layers)]
        parts.append(names + ["norm", "lm_head"] * chunk.head)
    if values["model.mtp_layers"]:
        asked.refuse("layout.pp", "is above 1: torchtitan's multi-token prediction runs without a pipeline here")
    found["module_fqns_per_model_part"] = parts


def training(asked: Asked) -> dict[str, Any]:
    """Fields of TrainingConfig: batches are in tokens."""
    take = asked.take
    sequence, batch, tokens = (take(f"training.{n}") for n in ("sequence_length", "global_batch_sequences", "tokens"))
    micro = take("layout.micro_batch")
    found: dict[str, Any] = {
        "num_tokens_per_microbatch_per_dp_rank": round(micro * sequence),
        "num_tokens_per_train_step": sequence * batch,
        "max_context_length": sequence,
        "steps": FILL_IN if tokens is None else math.ceil(tokens / (sequence * batch)),
    }
    asked.only("training.precision.parameters", "fp32", "its sharded parameters are the fp32 master copy")
    asked.only("training.precision.master", "none", "its sharded parameters are the fp32 master copy")
    asked.only("training.precision.moments", "fp32", "its optimizer states are fp32")
    asked.only("training.precision.gradients", "fp32", "it reduces in fp32")
    asked.only("software.gradient_dtype", (None, "fp32"), "it reduces in fp32")
    matmul = take("training.precision.matmul")
    if matmul not in ("bf16", "fp32", *CONVERTERS):
        asked.refuse("training.precision.matmul", f"is {matmul}: torchtitan has bf16, fp32, {', '.join(CONVERTERS)}")
    found["dtype"] = "float32"
    found["mixed_precision_param"] = "float32" if matmul == "fp32" else "bfloat16"
    asked.only("layout.offload.optimizer", False, "torchtitan offloads parameters, gradients and optimizer together")
    asked.only("layout.offload.activations", 0.0, "torchtitan keeps activations on the device")
    graphs = asked.only("layout.cuda_graphs", ((), ("full_iteration",)), "torchtitan captures the whole step or nothing")
    if graphs and asked.values["layout.pp"] > 1:
        asked.refuse("layout.cuda_graphs", "with pp above 1: torchtitan captures no pipeline")
    found["disable_cuda_graphs"] = not graphs
    return found


def _checkpointing(asked: Asked) -> str:
    granularity, modules = asked.take("layout.recompute.granularity"), asked.take("layout.recompute.modules")
    asked.only("layout.recompute.fraction", (None, 1.0), "torchtitan treats all layers alike")
    if granularity == "selective" and modules != ("every_other_matmul",):
        asked.refuse(
            "layout.recompute.modules",
            f"are {', '.join(modules)}: torchtitan's selective policy saves every other matmul; "
            "write modules: [every_other_matmul]",
        )
    return {"none": "None", "selective": "SelectiveAC.Config()", "full": "FullAC.Config()"}[granularity]


def _registry(asked: Asked, package: str) -> list[str]:
    """Arguments of the model registry after the flavor."""
    kernel = asked.only("software.attention_kernel", tuple(BACKENDS), f"torchtitan runs {', '.join(BACKENDS)} here")
    found = [f"attn_backend={BACKENDS.get(kernel, FILL_IN)!r}"]
    dispatcher = asked.take("software.moe_dispatcher")
    if dispatcher is not None:
        asked.only("software.moe_dispatcher", tuple(DISPATCHERS), f"torchtitan has {', '.join(DISPATCHERS)}")
        found.append(f"moe_comm_backend={DISPATCHERS.get(dispatcher, FILL_IN)!r}")
    layers = asked.take("model.mtp_layers")
    if layers and package == "deepseek_v3":
        found.append(f"num_mtp_layers={layers}")
    elif layers:
        asked.refuse("model.mtp_layers", f"is {layers}: torchtitan has them in deepseek_v3 only")
    if (converter := CONVERTERS.get(asked.values["training.precision.matmul"])) is not None:
        found.append(f"converters=[{converter.format(compile=asked.values['software.compile'])}]")
    return found


def _call(name: str, values: dict[str, Any]) -> list[str]:
    lines = [f"        {name}("]
    for key, value in values.items():
        lines.append(f"            {key}={value if value == FILL_IN else repr(value)},")
    return [*lines, "        ),"]


def write(asked: Asked, head: Any) -> str:
    """A recipe that returns Trainer.Config. Raises SpecError for what is refused."""
    package, flavor = _flavor(asked)
    mesh, steps, policy = parallelism(asked), training(asked), _checkpointing(asked)
    registry = _registry(asked, package)
    compiled = asked.take("software.compile")
    async_tp = asked.take("layout.overlap.tp")
    if async_tp and not compiled:
        asked.refuse("layout.overlap.tp", "is true: torchtitan's asynchronous tensor parallelism needs software.compile")
    asked.only("training.optimizer.name", "adamw", "this recipe sets up AdamW")
    reasons = {
        "software.fused_cross_entropy": "the compiled loss decides",
        "software.fused_weight_gradient": "FSDP2 accumulates gradients itself",
    }
    inner = tuple(name for name in asked.take("layout.order") if name != "ep")
    if inner != ("tp", "cp", "dp", "pp"):
        asked.refuse("layout.order", f"is {', '.join(inner)}: torchtitan lays ranks out as tp, cp, dp, pp, innermost first")
    text = head(FRAMEWORK, asked.close(FRAMEWORK, reasons))
    imports = [
        "from torchtitan.components.loss import CrossEntropyLoss",
        "from torchtitan.components.optimizer import default_adamw",
        *(
            ["from torchtitan.components.quantization import " + CONVERTERS[matmul].split(".")[0]]
            if (matmul := asked.values["training.precision.matmul"]) in CONVERTERS else []
        ),
        "from torchtitan.config import CompileConfig, ParallelismConfig, TrainingConfig",
        "from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC",
        "from torchtitan.models.common.config_utils import decoder_vocab_size",
        f"from torchtitan.models.{package} import model_registry",
        "from torchtitan.trainer import Trainer",
    ]  # fmt: skip
    lines = [
        text + "\n".join(imports),
        "",
        f"# Not decided by the plan: every {FILL_IN}. It is no Python name: the recipe fails until you replace it.",
        "",
        "",
        "def pretrain() -> Trainer.Config:",
        '    """The configuration of the plan above."""',
        f"    model_spec = model_registry({flavor!r}, {', '.join(registry)})",
        "    return Trainer.Config(",
        "        model_spec=model_spec,",
        "        loss=CrossEntropyLoss.Config(global_vocab_size=decoder_vocab_size(model_spec)),",
        f"        hf_assets_path={FILL_IN},",
        f"        dataloader={FILL_IN},",
        f"        optimizer=default_adamw(lr={FILL_IN}),",
        *_call("training=TrainingConfig", steps),
        *_call("parallelism=ParallelismConfig", mesh),
        f"        activation_checkpoint={policy},",
        f"        compile=CompileConfig(enable={compiled}, enable_async_tensor_parallel={bool(async_tp)}),",
        "    )",
    ]
    return "\n".join(lines) + "\n"
