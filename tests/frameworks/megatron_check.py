"""Megatron-LM: the script's arguments, as bash expands them, through parse_args and validate_args, and a TransformerConfig."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import python_of_megatron

FILLED = {
    "lr": "1e-4", "lr-decay-style": "cosine", "tokenizer-type": "NullTokenizer", "tokenizer-model": "none",
    "data-path": "some/path", "train-iters": "10", "rotary-base": "10000", "moe-aux-loss-coeff": "0.01",
}  # fmt: skip


def expanded(script: str) -> tuple[list[str], dict[str, str]]:
    """What bash hands to the training script, with `torchrun` replaced by something that prints its arguments."""
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "torchrun"
        stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\nprintf "\\0"\nenv -0\n')
        stub.chmod(0o755)
        launch = Path(folder) / "launch.sh"
        launch.write_text(script)
        ran = subprocess.run(
            ["bash", str(launch)], capture_output=True, check=True,
            env={"PATH": f"{folder}:{os.environ['PATH']}", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
        )  # fmt: skip
    words, _, rest = ran.stdout.decode().partition("\0\0")
    environment = dict(line.split("=", 1) for line in rest.strip("\0").split("\0") if "=" in line)
    arguments = words.split("\0")
    return arguments[arguments.index("pretrain_gpt.py") + 1 :], environment


def filled(script: str) -> str:
    for name, value in FILLED.items():
        script = script.replace(f"--{name} FILL_IN", f"--{name} {value}")
    assert "FILL_IN" not in script.split("UNDECIDED_ARGS=(")[1].split(")")[0]
    return script


def prepare(folder: Path, _: object):
    python_of_megatron.prepare()
    sys.path.insert(0, str(folder))
    import torch
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.transformer import transformer_config
    from megatron.training import arguments as theirs

    # The machine that is checked for is a Hopper with Transformer Engine; this one has neither.
    torch.cuda.get_device_capability = lambda *_, **__: (9, 0)
    theirs.get_device_arch_version = lambda: 9
    for module in (theirs, transformer_config):
        module.is_te_min_version = lambda *_, **__: True
    rope_utils.fused_apply_rotary_pos_emb = rope_utils.fused_apply_rotary_pos_emb or object()

    def one(script: str, asked):
        sys.argv = ["pretrain_gpt.py", *expanded(script.replace('exit 2 ;;', ';;'))[0]]
        try:
            theirs.parse_args()
        except SystemExit:
            pass
        else:
            raise AssertionError("the parser takes a script in which FILL_IN is left")
        words, environment = expanded(filled(script))
        for name in ("CUDA_DEVICE_MAX_CONNECTIONS",):
            os.environ.pop(name, None)
            if name in environment:
                os.environ[name] = environment[name]
        os.environ |= {"WORLD_SIZE": str(asked.ranks), "RANK": "1", "LOCAL_RANK": "1"}
        sys.argv = ["pretrain_gpt.py", *words]
        args = theirs.parse_args()
        theirs.validate_args(args)
        pairs = compare(args, asked)
        config = theirs.core_transformer_config_from_args(args)
        return pairs | of_config(config, asked)

    return one


def compare(args, asked) -> dict[str, tuple[object, object]]:
    import torch

    value = asked.values.get
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.uint8}
    matmul = value("training.precision.matmul")
    heads = value("model.heads")
    mla, moe = value("model.mla.kv_lora") is not None, value("model.moe.experts")
    recompute = value("layout.recompute.granularity")
    vpp = value("layout.vpp")
    recipes = {"fp8-tensor": "delayed", "fp8-current": "tensorwise", "fp8-block": "blockwise", "mxfp8": "mxfp8"}
    pairs = {
        "layers": (args.num_layers, value("model.layers")),
        "hidden": (args.hidden_size, value("model.hidden")),
        "heads": (args.num_attention_heads, heads),
        "kv groups": (args.num_query_groups if args.group_query_attention else heads, value("model.kv_heads") or heads),
        "gated": (args.swiglu, value("model.gated_ffn")),
        "vocab": (args.vocab_size, value("model.vocab")),
        "tied": (not args.untie_embeddings_and_output_weights, value("model.tied_embeddings")),
        "qkv bias": (args.add_qkv_bias, value("model.biases.qkv")),
        "tp": (args.tensor_model_parallel_size, value("layout.tp")),
        "pp": (args.pipeline_model_parallel_size, value("layout.pp")),
        "cp": (args.context_parallel_size, value("layout.cp")),
        "dp": (args.data_parallel_size, value("layout.dp")),
        "vpp": (args.virtual_pipeline_model_parallel_size or 1, vpp),
        "sequence parallel": (args.sequence_parallel, value("layout.sequence_parallel")),
        "micro batch": (args.micro_batch_size, value("layout.micro_batch")),
        "global batch": (args.global_batch_size, value("training.global_batch_sequences")),
        "sequence": (args.seq_length, value("training.sequence_length")),
        "recompute": (args.recompute_granularity or "none", recompute),
        "fp8 recipe": (args.fp8_recipe if args.fp8 else None, recipes.get(matmul)),
        "fp4": (bool(args.fp4), matmul == "nvfp4"),
        "parameters": (args.params_dtype, dtypes[matmul if matmul in ("fp16", "fp32") else "bf16"]),
        "gradients": (args.accumulate_allreduce_grads_in_fp32 or args.params_dtype == torch.float32,
                      value("training.precision.gradients") == "fp32"),
        "moments": (args.exp_avg_dtype, dtypes[value("training.precision.moments")]),
        "sharded": (
            args.use_distributed_optimizer or args.use_layer_wise_distributed_optimizer, value("layout.sharding") != "none",
        ),
        "strategy": (args.data_parallel_sharding_strategy if args.use_megatron_fsdp else None,
                     {"zero2": "optim_grads", "zero3": "optim_grads_params", "hsdp": "optim_grads_params"}.get(
                         value("layout.sharding"))),
        "overlap gradients": (args.overlap_grad_reduce, bool(value("layout.overlap.dp_gradients"))),
        "overlap parameters": (args.overlap_param_gather, bool(value("layout.overlap.dp_parameters"))),
        "stages": (args.pipeline_model_parallel_layout, value("layout.stages")),
        "order": (args.use_tp_pp_dp_mapping, [n for n in value("layout.order") if n in ("dp", "pp")] == ["pp", "dp"]),
    }  # fmt: skip
    if value("model.ffn") is not None:
        pairs["ffn"] = (args.ffn_hidden_size, value("model.ffn"))
    if not mla:
        pairs["head width"] = (args.kv_channels, value("model.head_dim"))
    else:
        for theirs, ours in (("q_lora_rank", "q_lora"), ("kv_lora_rank", "kv_lora"), ("qk_head_dim", "qk_nope_head_dim"),
                             ("qk_pos_emb_head_dim", "qk_rope_head_dim"), ("v_head_dim", "v_head_dim")):  # fmt: skip
            pairs[theirs] = (getattr(args, theirs), value(f"model.mla.{ours}"))
    if moe:
        freq = args.moe_layer_freq
        pairs |= {
            "experts": (args.num_experts, moe),
            "top-k": (args.moe_router_topk, value("model.moe.top_k")),
            "expert ffn": (args.moe_ffn_hidden_size, value("model.moe.expert_ffn")),
            "shared ffn": (args.moe_shared_expert_intermediate_size, value("model.moe.shared_expert_ffn")),
            "ep": (args.expert_model_parallel_size, value("layout.ep")),
            "etp": (args.expert_tensor_parallel_size, value("layout.etp")),
            "moe layers": ([1] * args.num_layers if freq == 1 else freq, [int(moe) for moe in asked.layer_kinds]),
        }
    if recompute == "selective":
        pairs["modules"] = (tuple(sorted(args.recompute_modules)), value("layout.recompute.modules"))
    return pairs


def of_config(config, asked) -> dict[str, tuple[object, object]]:
    """What the model would be built from."""
    value = asked.values.get
    pairs = {
        "config: layers": (config.num_layers, value("model.layers")),
        "config: biases": (config.add_bias_linear, value("model.biases.attn_out")),
        "config: norm": (config.normalization, {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}[value("model.norm")]),
        "config: query groups": (config.num_query_groups, value("model.kv_heads") or value("model.heads")),
    }
    layout = config.pipeline_model_parallel_layout
    if layout is not None:
        held = [[sum(kind.name == "decoder" for kind in chunk) for chunk in rank] for rank in layout.layout]
        pairs["config: layers of stages"] = (held, [[chunk.layers for chunk in rank] for rank in asked.stages.chunks])
    return pairs
