"""DeepSpeed: its JSON configuration. The model itself is code, which no configuration of DeepSpeed describes."""

from __future__ import annotations

import json
from typing import Any

from codesign.export.asked import FILL_IN, Asked, Framework

FRAMEWORK = Framework(
    "DeepSpeed", "deepspeedai/DeepSpeed commit edaa7221267243c7be7fb49c5d5f5c4fb97b4641 of 2026-08-22 (0.19.6)"
)

STAGES = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}
HALVES = {"bf16": "bf16", "fp16": "fp16"}
# DeepSpeed wraps a model that is written in Python: what the model is, its kernels and its layers are that code's.
MODEL_CODE = "the model that you hand to deepspeed.initialize"
SOFTWARE = ("attention_kernel", "moe_dispatcher", "fused_cross_entropy", "fused_weight_gradient", "launch_blocking")


def configuration(asked: Asked) -> dict[str, Any]:
    """The configuration as plain data. What DeepSpeed cannot do is left in `asked.refusals`."""
    take, values = asked.take, asked.values
    tp, pp, cp, dp = (values[f"layout.{name}"] for name in ("tp", "pp", "cp", "dp"))
    batch, micro = take("training.global_batch_sequences"), asked.whole("layout.micro_batch")
    found: dict[str, Any] = {
        "train_batch_size": batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": batch // (dp * micro) if micro else FILL_IN,
        "gradient_clipping": FILL_IN,
    }
    _precision(asked, found)
    _zero(asked, found)
    take("layout.tp"), take("layout.sequence_parallel")
    if tp > 1:
        asked.only("layout.sequence_parallel", False, "DeepSpeed's tensor parallelism keeps activations whole")
        if values["layout.sharding"] == "zero3":
            asked.refuse("layout.tp", f"is {tp} beside zero3: DeepSpeed's tensor parallelism goes up to zero2")
        found["tensor_parallel"] = {"autotp_size": tp, "tp_overlap_comm": bool(take("layout.overlap.tp"))}
    _pipeline(asked, found, pp)
    if cp > 1:
        asked.only("layout.cp_style", "all-to-all", "DeepSpeed's sequence parallelism is Ulysses")
        asked.refuse("layout.cp", f"is {cp}: DeepSpeed's Ulysses is set up in the training code, not in its configuration")
    take("layout.cp")
    ep = take("layout.ep")
    if ep > 1:
        asked.refuse("layout.ep", f"is {ep}: DeepSpeed takes ep_size in the code of its MoE layers")
    _optimizer(asked, found)
    _recompute(asked, found)
    if take("software.compile"):
        found["compile"] = {"deepcompile": True}
    return found


def _precision(asked: Asked, found: dict[str, Any]) -> None:
    matmul = asked.only("training.precision.matmul", ("fp32", "bf16", "fp16"), "DeepSpeed's matmuls are bf16, fp16 or fp32")
    if matmul in HALVES:
        found[matmul] = {"enabled": True}
    half = matmul if matmul in HALVES else "fp32"
    master, parameters = asked.take("training.precision.master"), asked.take("training.precision.parameters")
    if (master, parameters) not in (("fp32", half), ("none", "fp32")):
        asked.refuse("training.precision.parameters", f"are {parameters} with master {master}: DeepSpeed has {half} with fp32")
    asked.only("training.precision.moments", "fp32", "its optimizer states are fp32")
    gradients = asked.only("training.precision.gradients", ("fp32", "bf16", "fp16"), "they are bf16, fp16 or fp32")
    asked.only("software.gradient_dtype", (None, gradients), f"gradients are kept in {gradients}")
    found["data_types"] = {"grad_accum_dtype": gradients}


def _zero(asked: Asked, found: dict[str, Any]) -> None:
    take, pp = asked.take, asked.values["layout.pp"]
    kind = asked.only("layout.sharding", tuple(STAGES), "DeepSpeed's MiCS replicates groups only for one kind of network")
    if pp > 1 and kind in ("zero2", "zero3"):
        asked.refuse("layout.sharding", f"is {kind}: DeepSpeed's pipeline works with zero1 at most")
    overlap = take("layout.overlap.dp_gradients")
    gather = take("layout.overlap.dp_parameters")
    if kind == "zero3" and overlap != gather:
        asked.refuse("layout.overlap.dp_parameters", "differs from dp_gradients: overlap_comm is one switch")
    if kind in ("zero1", "zero2") and gather:
        asked.refuse("layout.overlap.dp_parameters", f"is true: with {kind} DeepSpeed gathers parameters after the step")
    zero: dict[str, Any] = {"stage": STAGES.get(kind, 0), "overlap_comm": bool(overlap)}
    if kind == "zero3":
        asked.only("layout.reshard_after_forward", True, "zero3 frees parameters after use")
        if take("layout.prefetch") is False:
            zero["stage3_prefetch_bucket_size"] = 0
    if take("layout.offload.optimizer"):
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if kind == "none":
            asked.refuse("layout.offload.optimizer", "is true: DeepSpeed offloads with zero1 or above")
    asked.only("layout.offload.activations", 0.0, "DeepSpeed does not offload a share of the activations")
    found["zero_optimization"] = zero


def _pipeline(asked: Asked, found: dict[str, Any], pp: int) -> None:
    asked.take("layout.pp")
    asked.only("layout.schedule", ("none", "1f1b"), "DeepSpeed's pipeline runs 1f1b")
    asked.only("layout.vpp", 1, "DeepSpeed's pipeline does not interleave")
    for name in ("stages", "first_stage_layers", "last_stage_layers"):
        asked.only(f"layout.{name}", None, "DeepSpeed's pipeline cuts by a method, not by a list")
    if pp > 1:
        found["pipeline"] = {"stages": pp, "partition": "uniform"}


def _optimizer(asked: Asked, found: dict[str, Any]) -> None:
    name = asked.only("training.optimizer.name", tuple(OPTIMIZERS), f"DeepSpeed has {', '.join(OPTIMIZERS)}")
    params: dict[str, Any] = {"lr": FILL_IN, "weight_decay": FILL_IN}
    if (steps := asked.take("training.optimizer.newton_schulz_steps")) not in (None, 5):
        asked.refuse("training.optimizer.newton_schulz_steps", f"is {steps}: DeepSpeed's Muon takes 5")
    found["optimizer"] = {"type": OPTIMIZERS.get(name, FILL_IN), "params": params}


def _recompute(asked: Asked, found: dict[str, Any]) -> None:
    granularity = asked.only(
        "layout.recompute.granularity", ("none", "full"), "DeepSpeed recomputes what the model's code wraps, layer by layer"
    )
    asked.take("layout.recompute.modules")
    asked.only("layout.recompute.fraction", (None, 1.0), "DeepSpeed recomputes every wrapped layer")
    if granularity == "full":
        found["activation_checkpointing"] = {"partition_activations": False}
        if asked.values["layout.pp"] > 1:
            found["pipeline"]["activation_checkpoint_interval"] = 1


def write(asked: Asked, head: Any) -> str:
    """DeepSpeed's JSON. It takes no comments: the header stands under `_codesign`, a key that DeepSpeed does not read."""
    found = configuration(asked)
    reasons = {name: MODEL_CODE for name in asked.values if name.startswith("model.")}
    reasons |= {f"software.{name}": MODEL_CODE for name in SOFTWARE}
    reasons |= dict.fromkeys(("training.sequence_length", "training.tokens"), "the data loader and the training loop")
    if asked.values["training.precision.master"] == "none" and asked.values["training.precision.matmul"] in HALVES:
        reasons["training.precision.parameters"] = "DeepSpeed keeps a 16-bit copy beside this fp32 one"
    reasons["layout.order"] = "the launcher places the ranks"
    reasons["layout.etp"] = "the code of the MoE layers"
    header = head(FRAMEWORK, asked.close(FRAMEWORK, reasons)).splitlines()
    about = {"_codesign": [line.removeprefix("# ").removeprefix("#") for line in header]}
    about["_codesign"].append(f"Not decided by the plan: replace every {FILL_IN}.")
    if asked.values["layout.recompute.granularity"] == "full":
        about["_codesign"].append("Full recompute: the model wraps every layer in deepspeed.checkpointing.checkpoint.")
    return json.dumps({**about, **found}, indent=2, ensure_ascii=False) + "\n"
