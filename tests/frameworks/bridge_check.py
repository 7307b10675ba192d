"""Megatron-Bridge: the recipe executed, its ConfigContainer built, set up as before training, and its model finalised.

Its package imports Transformer Engine and other CUDA packages, of which it needs only names here: empty modules stand for
them. Beside it Megatron-LM's checkout is needed (--megatron); Megatron-Bridge's own submodule is another commit of it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
import typing
from pathlib import Path

import python_of_megatron

ABSENT = ("transformer_engine", "transformer_engine_torch", "nvidia_resiliency_ext", "megatron.energon", "modelopt", "mamba_ssm",
          "causal_conv1d", "flash_attn", "qwen_vl_utils", "open_clip", "fla", "wandb", "comet_ml", "mlflow")  # fmt: skip
FILLED = {
    "optimizer.lr": "1e-4", "scheduler.lr_decay_style": "'cosine'", "tokenizer.tokenizer_type": "'NullTokenizer'",
    "tokenizer.tokenizer_model": "None", "dataset.blend": "None", "dataset.random_seed": "1234", "model.rotary_base": "10000",
    "model.moe_aux_loss_coeff": "0.01", "train.train_iters": "10", "checkpoint.save": "'out'",
}  # fmt: skip


class _Anything(type):
    """A class with every attribute."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Empty(types.ModuleType):
    __path__: typing.ClassVar[list[str]] = []
    __version__ = "2.9.0"

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if any(name == one or name.startswith(f"{one}.") for one in ABSENT):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module) -> None:
        pass


def prepare(folder: Path, given):
    python_of_megatron.prepare()
    lm = Path(given["megatron"] or folder / "3rdparty" / "Megatron-LM")
    sys.meta_path.insert(0, _Absent())
    sys.path.insert(0, str(lm))
    import megatron

    megatron.__path__ = [str(lm / "megatron"), str(folder / "src" / "megatron")]
    from megatron.bridge.training.config import ConfigContainer
    from megatron.core.transformer import transformer_config

    transformer_config.is_te_min_version = lambda *_, **__: True

    def one(recipe: str, asked):
        try:
            exec(compile(recipe, "recipe", "exec"), names := {})
            names["pretrain_config"]()
        except NameError as error:
            assert "FILL_IN" in str(error), error
        else:
            raise AssertionError("the recipe runs although FILL_IN is left")
        for name, value in FILLED.items():
            recipe = recipe.replace(f" {name.split('.')[1]}=FILL_IN,", f" {name.split('.')[1]}={value},")
        exec(compile(recipe, "recipe", "exec"), names := {})
        config = names["pretrain_config"]()
        assert isinstance(config, ConfigContainer)
        if config.mixed_precision is not None:
            config.mixed_precision.finalize()
            config.mixed_precision.setup(config.model, config.optimizer, config.ddp)
        config.comm_overlap.data_parallel_size = config.get_data_parallel_size(asked.ranks)
        config.comm_overlap.finalize()
        config.comm_overlap.setup(config.model, config.optimizer, config.ddp)
        pairs = compare(config, asked)
        config.model.finalize()
        layers = (config.model.num_layers, asked.values["model.layers"])
        return pairs | {"finalised: layers": layers}

    return one


def compare(config, asked) -> dict[str, tuple[object, object]]:
    value, model, mixed = asked.values.get, config.model, config.mixed_precision
    heads, moe = value("model.heads"), value("model.moe.experts")
    sharding, recompute = value("layout.sharding"), value("layout.recompute.granularity")
    vpp = model.virtual_pipeline_model_parallel_size
    written = model.pipeline_model_parallel_layout
    pairs = {
        "layers": (model.num_layers, value("model.layers")),
        "hidden": (model.hidden_size, value("model.hidden")),
        "heads": (model.num_attention_heads, heads),
        "kv groups": (model.num_query_groups or heads, value("model.kv_heads") or heads),
        "gated": (model.gated_linear_unit, value("model.gated_ffn")),
        "vocab": (model.vocab_size, value("model.vocab")),
        "tied": (model.share_embeddings_and_output_weights, value("model.tied_embeddings")),
        "biases": (model.add_bias_linear, value("model.biases.attn_out")),
        "tp": (model.tensor_model_parallel_size, value("layout.tp")),
        "pp": (model.pipeline_model_parallel_size, value("layout.pp")),
        "cp": (model.context_parallel_size, value("layout.cp")),
        "vpp": (vpp or 1 if written is None else value("layout.vpp"), value("layout.vpp")),
        "stages": (written, value("layout.stages")),
        "sequence parallel": (model.sequence_parallel, value("layout.sequence_parallel")),
        "micro batch": (config.train.micro_batch_size, value("layout.micro_batch")),
        "global batch": (config.train.global_batch_size, value("training.global_batch_sequences")),
        "sequence": (model.seq_length, value("training.sequence_length")),
        "sequence of the data": (config.dataset.seq_length, value("training.sequence_length")),
        "recompute": (model.recompute_granularity or "none", recompute),
        "data parallel": (config.comm_overlap.data_parallel_size, value("layout.dp")),
        "sharded": (config.optimizer.use_distributed_optimizer, sharding != "none"),
        "fully sharded": (config.ddp.use_megatron_fsdp, sharding in ("zero2", "zero3", "hsdp")),
        "overlap gradients": (config.ddp.overlap_grad_reduce, bool(value("layout.overlap.dp_gradients"))),
        "overlap parameters": (config.ddp.overlap_param_gather, bool(value("layout.overlap.dp_parameters"))),
        "overlap transfers": ((model.overlap_p2p_comm, model.batch_p2p_comm) if value("layout.vpp") > 1 else None,
                              (value("layout.overlap.pp"), not value("layout.overlap.pp")) if value("layout.vpp") > 1 else None),
        "overlap experts": (bool(model.overlap_moe_expert_parallel_comm), bool(value("layout.overlap.ep"))),
        "order": (config.dist.use_tp_pp_dp_mapping, [n for n in value("layout.order") if n in ("dp", "pp")] == ["pp", "dp"]),
    }  # fmt: skip
    if value("training.precision.matmul") != "fp32":
        pairs |= {
            "bf16": (mixed.bf16, value("training.precision.matmul") != "fp16"),
            "fp8": (bool(mixed.fp8), value("training.precision.matmul").startswith(("fp8", "mxfp8"))),
            "gradients": (config.ddp.grad_reduce_in_fp32, value("training.precision.gradients") == "fp32"),
        }
    if value("model.ffn") is not None:
        pairs["ffn"] = (model.ffn_hidden_size, value("model.ffn"))
    if moe:
        pairs |= {
            "experts": (model.num_moe_experts, moe),
            "top-k": (model.moe_router_topk, value("model.moe.top_k")),
            "expert ffn": (model.moe_ffn_hidden_size, value("model.moe.expert_ffn")),
            "ep": (model.expert_model_parallel_size, value("layout.ep")),
            "etp": (model.expert_tensor_parallel_size, value("layout.etp")),
            "moe layers": (
                [1] * model.num_layers if model.moe_layer_freq == 1 else model.moe_layer_freq,
                [int(one) for one in asked.layer_kinds],
            ),
        }
    if value("model.mla.kv_lora") is not None:
        pairs["kv lora"] = (model.kv_lora_rank, value("model.mla.kv_lora"))
    if recompute == "selective":
        pairs["modules"] = (tuple(sorted(model.recompute_modules)), value("layout.recompute.modules"))
    return pairs
