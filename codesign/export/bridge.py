"""Megatron-Bridge: a Python recipe that returns a ConfigContainer, made from Megatron-LM's arguments.

Each option has one place in the container. An option without a place is refused, so that both exports mean the same.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from codesign.export import megatron
from codesign.export.asked import FILL_IN, Asked, Framework
from codesign.export.megatron import Argument

FRAMEWORK = Framework(
    "Megatron-Bridge", "NVIDIA-NeMo/Megatron-Bridge commit 067f987df03b8355b03192d88d70f1709fedf51a of 2026-08-22"
)


def _same(value: str) -> str:
    """A number as it is, any other text quoted."""
    try:
        return repr(ast.literal_eval(value))
    except (SyntaxError, ValueError):
        return repr(value)


def _dtype(value: str) -> str:
    return {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16", "fp8": "torch.uint8"}[value]


def _pattern(value: str) -> str:
    return value.strip("()")  # a Python expression of lists already


On = Callable[[str], str]
TRUE, FALSE = (lambda _: "True"), (lambda _: "False")
# option -> where it stands in the container: (object, attribute, how the value is written)
PLACES: dict[str, tuple[tuple[str, str, On], ...]] = {
    **{f"--{flag}": (("model", name, _same),) for flag, name in (
        ("num-layers", "num_layers"), ("hidden-size", "hidden_size"), ("ffn-hidden-size", "ffn_hidden_size"),
        ("num-attention-heads", "num_attention_heads"), ("num-query-groups", "num_query_groups"),
        ("kv-channels", "kv_channels"), ("q-lora-rank", "q_lora_rank"), ("kv-lora-rank", "kv_lora_rank"),
        ("qk-head-dim", "qk_head_dim"), ("qk-pos-emb-head-dim", "qk_pos_emb_head_dim"), ("v-head-dim", "v_head_dim"),
        ("vocab-size", "vocab_size"), ("position-embedding-type", "position_embedding_type"),
        ("normalization", "normalization"), ("softmax-type", "softmax_type"), ("window-size", "window_size"),
        ("window-attn-skip-freq", "window_attn_skip_freq"), ("mtp-num-layers", "mtp_num_layers"),
        ("num-experts", "num_moe_experts"), ("moe-router-topk", "moe_router_topk"),
        ("moe-ffn-hidden-size", "moe_ffn_hidden_size"),
        ("moe-shared-expert-intermediate-size", "moe_shared_expert_intermediate_size"),
        ("moe-router-score-function", "moe_router_score_function"),
        ("moe-expert-capacity-factor", "moe_expert_capacity_factor"),
        ("moe-token-dispatcher-type", "moe_token_dispatcher_type"),
        ("moe-flex-dispatcher-backend", "moe_flex_dispatcher_backend"), ("moe-router-num-groups", "moe_router_num_groups"),
        ("moe-router-group-topk", "moe_router_group_topk"), ("moe-aux-loss-coeff", "moe_aux_loss_coeff"),
        ("tensor-model-parallel-size", "tensor_model_parallel_size"),
        ("pipeline-model-parallel-size", "pipeline_model_parallel_size"),
        ("context-parallel-size", "context_parallel_size"), ("cp-comm-type", "cp_comm_type"),
        ("expert-model-parallel-size", "expert_model_parallel_size"),
        ("expert-tensor-parallel-size", "expert_tensor_parallel_size"),
        ("pipeline-model-parallel-layout", "pipeline_model_parallel_layout"),
        ("decoder-first-pipeline-num-layers", "num_layers_in_first_pipeline_stage"),
        ("decoder-last-pipeline-num-layers", "num_layers_in_last_pipeline_stage"),
        ("num-virtual-stages-per-pipeline-rank", "virtual_pipeline_model_parallel_size"),
        ("recompute-granularity", "recompute_granularity"), ("recompute-method", "recompute_method"),
        ("recompute-num-layers", "recompute_num_layers"), ("cuda-graph-impl", "cuda_graph_impl"),
        ("attention-dropout", "attention_dropout"), ("hidden-dropout", "hidden_dropout"), ("rotary-base", "rotary_base"),
    )},
    **{f"--{flag}": (("model", name, TRUE),) for flag, name in (
        ("multi-latent-attention", "multi_latent_attention"), ("qk-layernorm", "qk_layernorm"),
        ("add-qkv-bias", "add_qkv_bias"), ("moe-router-pre-softmax", "moe_router_pre_softmax"),
        ("moe-grouped-gemm", "moe_grouped_gemm"), ("moe-shared-expert-gate", "moe_shared_expert_gate"),
        ("moe-router-enable-expert-bias", "moe_router_enable_expert_bias"),
        ("moe-pad-expert-input-to-capacity", "moe_pad_expert_input_to_capacity"),
        ("sequence-parallel", "sequence_parallel"), ("cross-entropy-loss-fusion", "cross_entropy_loss_fusion"),
    )},
    "--group-query-attention": (),  # follows from num_query_groups
    "--swiglu": (("model", "gated_linear_unit", TRUE), ("model", "activation_func", lambda _: "F.silu")),
    "--untie-embeddings-and-output-weights": (("model", "share_embeddings_and_output_weights", FALSE),),
    "--disable-bias-linear": (("model", "add_bias_linear", FALSE),),
    "--max-position-embeddings": (),  # Megatron-Bridge takes the sequence length; other tables are refused in `write`
    "--moe-layer-freq": (("model", "moe_layer_freq", _pattern),),
    "--recompute-modules": (("model", "recompute_modules", lambda names: repr(names.split())),),
    "--cuda-graph-modules": (("model", "cuda_graph_modules", lambda names: repr(names.split())),),
    "--attention-backend": (("model", "attention_backend", lambda name: f"AttnBackend.{name}"),),
    "--no-gradient-accumulation-fusion": (("model", "gradient_accumulation_fusion", FALSE),),
    "--use-tp-pp-dp-mapping": (("dist", "use_tp_pp_dp_mapping", TRUE),),
    "--tp-comm-overlap": (("comm_overlap", "tp_comm_overlap", TRUE),),
    "--overlap-moe-expert-parallel-comm": (("comm_overlap", "overlap_moe_expert_parallel_comm", TRUE),),
    "--no-overlap-p2p-communication": (),  # said by `container`, on too
    "--use-distributed-optimizer": tuple((where, "use_distributed_optimizer", TRUE) for where in ("optimizer", "ddp")),
    "--use-megatron-fsdp": tuple((where, "use_megatron_fsdp", TRUE) for where in ("dist", "ddp")),
    "--data-parallel-sharding-strategy": (("ddp", "data_parallel_sharding_strategy", _same),),
    "--num-distributed-optimizer-instances": (("ddp", "num_distributed_optimizer_instances", _same),),
    "--ckpt-format": (("checkpoint", "ckpt_format", _same),),
    "--overlap-grad-reduce": tuple((where, "overlap_grad_reduce", TRUE) for where in ("ddp", "comm_overlap")),
    "--overlap-param-gather": tuple((where, "overlap_param_gather", TRUE) for where in ("ddp", "comm_overlap")),
    "--optimizer-cpu-offload": (("optimizer", "optimizer_cpu_offload", TRUE),),
    "--no-check-for-nan-in-loss-and-grad": (("rerun_state_machine", "check_for_nan_in_loss", FALSE),
                                            ("ddp", "check_for_nan_in_grad", FALSE)),
    "--seq-length": (("model", "seq_length", _same), ("dataset", "seq_length", _same)),
    "--micro-batch-size": (("train", "micro_batch_size", _same),),
    "--global-batch-size": (("train", "global_batch_size", _same),),
    "--train-iters": (("train", "train_iters", _same),),
    "--dataloader-inter-document-masking": (("dataset", "reset_attention_mask", TRUE),),
    "--optimizer": (("optimizer", "optimizer", _same),),
    "--muon-num-ns-steps": (("optimizer", "muon_num_ns_steps", _same),),
    "--fp16": (("mixed_precision", "fp16", TRUE), ("mixed_precision", "params_dtype", lambda _: "torch.float16")),
    "--bf16": (("mixed_precision", "bf16", TRUE), ("mixed_precision", "params_dtype", lambda _: "torch.bfloat16")),
    "--fp8-format": (("mixed_precision", "fp8", _same),),
    "--fp8-recipe": (("mixed_precision", "fp8_recipe", _same),),
    "--fp4-format": (("mixed_precision", "fp4", _same),),
    "--fp4-recipe": (("mixed_precision", "fp4_recipe", _same),),
    "--fp8-param-gather": (("mixed_precision", "fp8_param_gather", TRUE),),
    "--fp4-param-gather": (("mixed_precision", "fp4_param_gather", TRUE),),
    "--accumulate-allreduce-grads-in-fp32": (),  # both said by `container`, with fp16 too
    "--grad-reduce-in-bf16": (),
    "--use-precision-aware-optimizer": (("optimizer", "use_precision_aware_optimizer", TRUE),),
    "--exp-avg-dtype": (("optimizer", "exp_avg_dtype", _dtype),),
    "--exp-avg-sq-dtype": (("optimizer", "exp_avg_sq_dtype", _dtype),),
    "--lr": (("optimizer", "lr", _same),),
    "--lr-decay-style": (("scheduler", "lr_decay_style", _same),),
    "--tokenizer-type": (("tokenizer", "tokenizer_type", _same),),
    "--tokenizer-model": (("tokenizer", "tokenizer_model", _same),),
    "--data-path": (("dataset", "blend", _same),),
}  # fmt: skip
CLASSES = {
    "train": "TrainingConfig", "optimizer": "OptimizerConfig", "ddp": "DistributedDataParallelConfig",
    "scheduler": "SchedulerConfig", "dataset": "GPTDatasetConfig", "logger": "LoggerConfig",
    "tokenizer": "TokenizerConfig", "checkpoint": "CheckpointConfig", "dist": "DistributedInitConfig",
    "rerun_state_machine": "RerunStateMachineConfig", "comm_overlap": "CommOverlapConfig",
    "mixed_precision": "MixedPrecisionConfig",
}  # fmt: skip
# What is on in Megatron-Bridge unless it is said, and what its classes cannot be made without. Its setup writes the overlaps of
# comm_overlap, which are on unless they are said, over those of ddp.
DEFAULTS: dict[str, dict[str, str]] = {
    "model": {"cross_entropy_loss_fusion": "False"},
    "ddp": {"overlap_grad_reduce": "False", "overlap_param_gather": "False", "use_distributed_optimizer": "False"},
    "comm_overlap": {"tp_comm_overlap": "False", "overlap_grad_reduce": "False", "overlap_param_gather": "False"},
    "dataset": {"random_seed": FILL_IN, "reset_position_ids": "False", "reset_attention_mask": "False",
                "eod_mask_loss": "False"},
    "logger": {}, "tokenizer": {}, "checkpoint": {},
}  # fmt: skip
IMPORTS = """\
import torch
import torch.nn.functional as F
from megatron.bridge.models.gpt_provider import GPTModelProvider
from megatron.bridge.models.mla_provider import MLAModelProvider
from megatron.bridge.training.comm_overlap import CommOverlapConfig
from megatron.bridge.training.config import (
    CheckpointConfig,
    ConfigContainer,
    DistributedDataParallelConfig,
    DistributedInitConfig,
    GPTDatasetConfig,
    LoggerConfig,
    OptimizerConfig,
    RerunStateMachineConfig,
    SchedulerConfig,
    TokenizerConfig,
    TrainingConfig,
)
from megatron.bridge.training.mixed_precision import MixedPrecisionConfig
from megatron.core.transformer.enums import AttnBackend
"""


def container(asked: Asked, given: list[Argument]) -> dict[str, dict[str, str]]:
    """Object -> attribute -> Python expression, for every option."""
    objects = {name: dict(values) for name, values in DEFAULTS.items()}
    for argument in given:
        if argument.flag not in PLACES:
            asked.refuse(argument.flag, "has no place in Megatron-Bridge's configuration")
            continue
        for where, name, written in PLACES[argument.flag]:
            value = " ".join(argument.values)
            objects.setdefault(where, {})[name] = FILL_IN if value == FILL_IN else written(value)
    if "mixed_precision" in objects:  # on unless it is said
        wide = asked.values["training.precision.gradients"] == "fp32"
        objects["mixed_precision"]["grad_reduce_in_fp32"] = str(wide)
    if (overlap := asked.values["layout.overlap.pp"]) is not None:  # its setup sees no vpp where a layout of stages is given
        objects["comm_overlap"] |= {"overlap_p2p_comm": str(overlap), "batch_p2p_comm": str(not overlap)}
    return objects


def write(asked: Asked, head: Any) -> str:
    """A recipe: one function that returns the whole configuration. Raises SpecError for what is refused."""
    given = [*megatron.arguments(asked), *megatron.undecided(asked)]
    objects = container(asked, given)
    rows, sequence = asked.take("model.max_positions"), asked.values["training.sequence_length"]
    if rows is not None and rows != sequence:
        asked.refuse("model.max_positions", f"is {rows}: Megatron-Bridge's position table has training.sequence_length rows")
    if objects.setdefault("checkpoint", {}).get("ckpt_format") is None:
        objects["checkpoint"]["save"] = FILL_IN
    if asked.take("software.launch_blocking"):
        asked.refuse("software.launch_blocking", "is true: a recipe starts after the environment is read")
    text = head(FRAMEWORK, asked.close(FRAMEWORK, megatron.carried_otherwise(asked)))
    provider = "MLAModelProvider" if asked.values.get("model.mla.kv_lora") is not None else "GPTModelProvider"
    lines = [
        text + IMPORTS,
        f"# Not decided by the plan: every {FILL_IN}. It is no Python name: the recipe fails until you replace it.",
        "",
        "",
        "def pretrain_config() -> ConfigContainer:",
        '    """The configuration of the plan above."""',
        "    return ConfigContainer(",
    ]
    for where, values in objects.items():
        lines.append(f"        {where}={CLASSES.get(where, provider)}(")
        lines += [f"            {name}={value}," for name, value in values.items()]
        lines.append("        ),")
    return "\n".join([*lines, "    )"]) + "\n"
