"""MaxText: a YAML configuration over its base.yml. The mesh is cut into a part inside a slice (ici) and one between (dcn)."""

from __future__ import annotations

import json
import math
from typing import Any

from codesign.export.asked import FILL_IN, Asked, Framework

FRAMEWORK = Framework("MaxText", "AI-Hypercomputer/maxtext commit e591f30cbbf217ed67ef71263ec0538239f9c3b8 of 2026-08-22")

QUANTIZATION = {
    "bf16": "", "int8": "int8", "fp8-tensor": "te_fp8_delayedscaling", "fp8-current": "te_fp8_currentscaling",
    "mxfp8": "te_mxfp8", "nvfp4": "te_nvfp4",
}  # fmt: skip
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
CP_STYLES = {"ring": "ring", "all-gather": "all_gather", "all-to-all": "ulysses"}
KERNELS = {"xla": "autoselected", "cudnn": "cudnn_flash_te"}
POLICIES = {
    ("elementwise",): "minimal_with_context", ("core_attn",): "minimal", ("core_attn", "elementwise"): "minimal",
    ("mlp",): "save_dot_with_context_except_mlp", ("core_attn", "mlp"): "save_dot_except_mlp",
}  # fmt: skip
AXES = {"tp": "tensor", "cp": "context", "ep": "expert", "fsdp": "fsdp", "data": "data", "pp": "pipeline"}


def _block(asked: Asked) -> str:
    """MaxText's decoder block that has this architecture."""
    value = asked.values.get
    moe, bias, norm = value("model.moe.experts"), value("model.biases.qkv"), value("model.norm")
    if value("model.mla.kv_lora") is not None:
        return "deepseek"
    if value("model.attention_sinks"):
        return "gpt_oss"
    if value("model.positions") == "learned" and norm == "layernorm" and not value("model.gated_ffn") and not moe:
        return "gpt3"
    if value("model.qk_norm") == "head":
        return "qwen3_moe" if moe else "qwen3"
    if moe:
        return "mixtral"
    return "qwen2" if bias else "llama2"


def model(asked: Asked) -> dict[str, Any]:
    """The shape of the model. A field that the block has in another way is refused."""
    take, block = asked.take, _block(asked)
    gpt3 = block == "gpt3"
    found: dict[str, Any] = {
        "decoder_block": block,
        "base_num_decoder_layers": take("model.layers"),
        "base_emb_dim": take("model.hidden"),
        "base_num_query_heads": take("model.heads"),
        "base_num_kv_heads": take("model.kv_heads") or asked.values["model.heads"],
        "base_mlp_dim": take("model.ffn") or take("model.moe.expert_ffn"),
        "vocab_size": take("model.vocab"),
        "logits_via_embedding": take("model.tied_embeddings"),
        "enable_dropout": asked.dropout,
    }
    if (width := take("model.head_dim")) is not None:
        found["head_dim"] = width
    gated = asked.only("model.gated_ffn", not gpt3, f"MaxText's {block} block has it otherwise")
    found["mlp_activations"] = [FILL_IN, "linear"] if gated else [FILL_IN]
    asked.only("model.positions", "learned" if gpt3 else "rotary", f"MaxText's {block} block has it otherwise")
    if (rows := take("model.max_positions")) is not None:
        found["trainable_position_size"] = rows
    asked.only("model.norm", "layernorm" if gpt3 else "rmsnorm", f"MaxText's {block} block has it otherwise")
    biases = {"gpt3": ("qkv", "attn_out", "mlp"), "qwen2": ("qkv",), "gpt_oss": ("qkv", "attn_out", "router", "experts")}
    for name in ("qkv", "attn_out", "mlp", "router", "experts"):
        asked.only(f"model.biases.{name}", name in biases.get(block, ()), f"MaxText's {block} block has it otherwise")
    if block == "qwen2":
        found["attention_bias"] = True
    if block in ("qwen3", "qwen3_moe"):
        found["use_qk_norm"] = True
    asked.only("model.qk_norm", "head" if block.startswith("qwen3") else "none", f"MaxText's {block} block has it otherwise")
    take("model.attention_sinks")
    _window(asked, found, block)
    _mla(asked, found)
    _moe(asked, found, block)
    if layers := take("model.mtp_layers"):
        found["mtp_num_layers"] = layers
    return found


def _window(asked: Asked, found: dict[str, Any], block: str) -> None:
    window, local = asked.take("model.sliding_window.window"), asked.take("model.sliding_window.local")
    if block == "gpt_oss":
        found |= {"attention_sink": True, "attention_bias": True, "mlp_bias": True, "routed_bias": True}
        found["inhomogeneous_layer_cycle_interval"] = 2
        if window is None or local != 1:
            asked.refuse("model.sliding_window", "MaxText's gpt_oss block has every other layer windowed")
    elif local is not None:
        asked.refuse("model.sliding_window.local", f"is {local}: MaxText's {block} block windows every layer or none")
    elif window is not None:
        found["attention_type"] = "local_sliding"
    if window is not None:
        found["sliding_window_size"] = window


def _mla(asked: Asked, found: dict[str, Any]) -> None:
    names = {"q_lora": "q_lora_rank", "kv_lora": "kv_lora_rank", "qk_nope_head_dim": "qk_nope_head_dim",
             "qk_rope_head_dim": "qk_rope_head_dim", "v_head_dim": "v_head_dim"}  # fmt: skip
    if asked.take("model.mla.kv_lora") is None:
        return
    found["attention_type"] = "mla"
    found |= {theirs: asked.take(f"model.mla.{ours}") or 0 for ours, theirs in names.items()}


def _moe(asked: Asked, found: dict[str, Any], block: str) -> None:
    take = asked.take
    if (experts := take("model.moe.experts")) is None:
        return
    found |= {"num_experts": experts, "num_experts_per_tok": take("model.moe.top_k")}
    found["base_moe_mlp_dim"] = width = take("model.moe.expert_ffn")
    found["capacity_factor"] = take("model.moe.capacity_factor") or -1.0
    dense, shared = take("model.moe.dense_layers"), take("model.moe.shared_expert_ffn") or 0
    asked.only("model.moe.every", 1, "MaxText has no other layers between MoE layers in this block")
    take("model.moe.shared_experts"), take("model.moe.router_score_bias")
    if block == "deepseek":
        found |= {"first_num_dense_layers": dense, "shared_experts": shared // width}
        if shared % width:
            asked.refuse("model.moe.shared_expert_ffn", f"is {shared}: MaxText's shared experts have the width of the others")
        if asked.values["model.moe.router_score_bias"]:
            found |= {"routed_bias": True, "routed_score_func": "sigmoid"}
    else:
        asked.only("model.moe.dense_layers", 0, f"MaxText's {block} block is MoE in every layer")
        asked.only("model.moe.shared_expert_ffn", None, f"MaxText's {block} block has no shared experts")
        asked.only("model.moe.router_score_bias", False, f"MaxText's {block} block has none")
    asked.only("software.moe_dispatcher", ("fused", "alltoall"), "XLA exchanges tokens all to all")


def mesh(asked: Asked) -> dict[str, Any]:
    """Degrees of every axis, inside a slice and between slices."""
    take = asked.take
    tp, cp, ep, dp, pp = (take(f"layout.{name}") for name in ("tp", "cp", "ep", "dp", "pp"))
    kind = asked.only("layout.sharding", ("none", "zero1", "zero3", "hsdp"), "MaxText shards all (zero3), or the optimizer")
    group = take("layout.sharding_group")
    if dp % ep:
        asked.refuse("layout.ep", f"is {ep}: MaxText's expert axis takes its ranks from dp {dp}")
    asked.only("layout.etp", (None, 1), "MaxText's tensor axis cuts attention and experts alike")
    rest = dp // ep
    fsdp = rest if kind == "zero3" else max((group or 1) // ep, 1) if kind == "hsdp" else 1
    if kind == "hsdp" and (cp > 1 or rest % fsdp or fsdp * ep != group):
        asked.refuse("layout.sharding_group", f"is {group}: MaxText's fsdp axis cannot have this size here")
    once = take("layout.reshard_after_forward") is False
    if once and pp == 1:
        asked.refuse("layout.reshard_after_forward", "is false: MaxText gathers parameters again in the backward pass")
    degrees = {"tp": tp, "cp": cp, "ep": ep, "fsdp": fsdp, "data": rest // fsdp, "pp": pp}
    order = [name for one in take("layout.order") for name in (("fsdp", "data") if one == "dp" else (one,))]
    left = min(int(asked.profile.scale_up.domain.value), asked.ranks)
    found: dict[str, Any] = {}
    for name in order:
        inside = math.gcd(degrees[name], left)
        left //= inside
        found[f"ici_{AXES[name]}_parallelism"] = inside
        found[f"dcn_{AXES[name]}_parallelism"] = degrees[name] // inside
    if left > 1:
        asked.refuse("layout", "cannot be laid on whole slices: no axis fills the scale-up domain")
    if kind == "zero1":
        found["shard_optimizer_over_data"] = True
    if cp > 1:
        found["context_parallel_strategy"] = CP_STYLES[take("layout.cp_style")]
    if once:
        found["pipeline_fsdp_ag_once"] = True
    found |= _pipeline(asked, pp)
    return found


def _pipeline(asked: Asked, pp: int) -> dict[str, Any]:
    asked.only("layout.schedule", ("none", "gpipe"), "MaxText runs all forward passes, then all backward ones (gpipe)")
    asked.only("layout.vpp", 1, "this export sets up one repeat a stage")
    for name in ("stages", "first_stage_layers", "last_stage_layers"):
        asked.only(f"layout.{name}", None, "MaxText's stages are even")
    if pp == 1:
        return {}
    if asked.values.get("model.moe.dense_layers"):
        asked.refuse("layout.pp", f"is {pp}: MaxText's pipeline holds the MoE layers only")
    count = asked.values["training.global_batch_sequences"] / (asked.values["layout.dp"] * asked.values["layout.micro_batch"])
    if count % pp:
        asked.refuse("layout.pp", f"is {pp}: MaxText wants a multiple of it micro-batches, and there are {count:g}")
    layers = asked.values["model.layers"] // pp
    return {"num_pipeline_microbatches": int(count), "num_layers_per_pipeline_stage": layers, "num_pipeline_repeats": 1}


def _policy(asked: Asked) -> str:
    """Every policy but `full` saves products and recomputes the elementwise operators between them."""
    granularity, modules = asked.take("layout.recompute.granularity"), asked.take("layout.recompute.modules")
    asked.only("layout.recompute.fraction", (None, 1.0), "MaxText treats all layers alike")
    if granularity == "full":
        return "full"
    if granularity == "none":
        asked.refuse(
            "layout.recompute.granularity",
            "is none: MaxText's policies recompute at least what lies between products; write modules: [elementwise]",
        )
    elif modules not in POLICIES:
        known = "; ".join(", ".join(names) for names in POLICIES)
        asked.refuse("layout.recompute.modules", f"are {', '.join(modules)}: MaxText's policies are {known}")
    return POLICIES.get(modules, FILL_IN)


def step(asked: Asked) -> dict[str, Any]:
    """Batches, precision, optimizer and memory."""
    take, values = asked.take, asked.values
    sequence, batch, tokens = (take(f"training.{n}") for n in ("sequence_length", "global_batch_sequences", "tokens"))
    micro, dp = take("layout.micro_batch"), values["layout.dp"]
    count = 1 if values["layout.pp"] > 1 else round(batch / (dp * micro))
    matmul = asked.only("training.precision.matmul", (*QUANTIZATION, "fp32"), "MaxText has no such quantization")
    asked.only("training.precision.parameters", "fp32", "MaxText's weights are the fp32 master copy")
    asked.only("training.precision.master", "none", "MaxText's weights are the fp32 master copy")
    asked.only("training.precision.moments", "fp32", "MaxText's second moments have the dtype of the weights")
    gradients = asked.only("training.precision.gradients", tuple(DTYPES), "MaxText has fp32 or bf16")
    asked.only("software.gradient_dtype", (None, gradients), f"gradients are kept in {gradients}")
    policy = _policy(asked)
    asked.only("layout.offload.activations", 0.0, "MaxText offloads named tensors, not a share")
    optimizer = asked.only("training.optimizer.name", ("adamw", "sgd", "muon"), "MaxText has adamw, sgd and muon")
    asked.only("training.optimizer.newton_schulz_steps", (None, 5), "MaxText's Muon takes 5 steps")
    kernel = asked.only("software.attention_kernel", tuple(KERNELS), f"MaxText runs {', '.join(KERNELS)}")
    asked.only("software.compile", True, "MaxText is always compiled")
    return {
        "max_target_length": sequence,
        "per_device_batch_size": batch / count / asked.ranks,
        "gradient_accumulation_steps": count,
        "steps": FILL_IN if tokens is None else math.ceil(tokens / (sequence * batch)),
        "packing": values["training.packing.mean_document_tokens"] is not None,
        "dtype": "float32" if matmul == "fp32" else "bfloat16",
        "weight_dtype": "float32",
        "grad_dtype": DTYPES.get(gradients, FILL_IN),
        "mu_dtype": "float32",
        "quantization": QUANTIZATION.get(matmul, ""),
        "opt_type": optimizer,
        "remat_policy": policy,
        "optimizer_memory_host_offload": take("layout.offload.optimizer"),
        "attention": KERNELS.get(kernel, FILL_IN),
    }


UNDECIDED = ("run_name", "base_output_directory", "learning_rate", "dataset_type", "tokenizer_path", "rope_max_timescale")


def write(asked: Asked, head: Any) -> str:
    """The YAML configuration. Raises SpecError for what is refused."""
    sections = {"model": model(asked), "mesh": mesh(asked), "training step": step(asked)}
    compiler = "XLA schedules and fuses"
    reasons = {f"layout.overlap.{name}": compiler for name in ("tp", "cp", "dp_gradients", "dp_parameters")}
    reasons |= {"layout.prefetch": compiler, "software.fused_cross_entropy": compiler}
    reasons |= {"software.fused_weight_gradient": compiler}
    reasons["layout.sequence_parallel"] = "MaxText's activations are always cut along with the tensor axis"
    lines = [head(FRAMEWORK, asked.close(FRAMEWORK, reasons)) + 'base_config: "base.yml"']
    for title, found in sections.items():
        lines += ["", f"# {title}", *(f"{name}: {json.dumps(value)}" for name, value in found.items())]
    lines += ["", f"# Not decided by the plan, beside the activation function: replace every {FILL_IN}."]
    lines += [f"{name}: {FILL_IN}" for name in UNDECIDED]
    return "\n".join(lines) + "\n"
