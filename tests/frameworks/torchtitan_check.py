"""torchtitan: the recipe executed, its Trainer.Config and ParallelDims built, and compared."""

from __future__ import annotations

import sys
from pathlib import Path


def prepare(folder: Path, _: object):
    sys.path.insert(0, str(folder))
    from torchtitan.components.data import ConcatThenSplitPackingConfig, GrainDataLoader
    from torchtitan.components.quantization import float8
    from torchtitan.distributed import ParallelDims
    from torchtitan.hf_datasets.text_datasets import DATASETS
    from torchtitan.trainer import Trainer

    float8.has_cuda_capability = lambda *_: True  # the machine that is checked for is a Hopper; this one has no GPU

    def one(text: str, asked):
        try:
            exec(compile(text, "recipe", "exec"), unfilled := {})
            unfilled["pretrain"]()
        except NameError as error:
            assert "FILL_IN" in str(error), error
        else:
            raise AssertionError("the recipe runs although FILL_IN is left")
        filled = text.replace("hf_assets_path=FILL_IN", "hf_assets_path='assets'").replace("lr=FILL_IN", "lr=1e-4")
        filled = filled.replace("dataloader=FILL_IN", "dataloader=DATA").replace("steps=FILL_IN", "steps=10")
        data = GrainDataLoader.Config(dataset=ConcatThenSplitPackingConfig(dataset=DATASETS["c4_test"]))
        exec(compile(filled, "recipe", "exec"), names := {"DATA": data})
        config = names["pretrain"]()
        assert isinstance(config, Trainer.Config)
        return compare(config, ParallelDims.from_config(config.parallelism, asked.ranks), asked)

    return one


def compare(config, dims, asked) -> dict[str, tuple[object, object]]:
    from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC

    value = asked.values.get
    kind, dp, cp = value("layout.sharding"), value("layout.dp"), value("layout.cp")
    shard = {"none": 1, "zero3": dp, "hsdp": (value("layout.sharding_group") or 0) // cp}[kind]
    policies = {"none": type(None), "selective": SelectiveAC.Config, "full": FullAC.Config}
    model = config.model_spec.model
    layers = model.layers
    schedules = {"none": "1F1B", "gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble",
                 "dualpipe-v": "DualPipeV"}  # fmt: skip
    pairs = {
        "dp shard": (dims.dp_shard, shard),
        "dp replicate": (dims.dp_replicate, dp // shard),
        "tp": (dims.tp, value("layout.tp")),
        "pp": (dims.pp, value("layout.pp")),
        "cp": (dims.cp, cp),
        "ep": (dims.ep, value("layout.ep")),
        "ranks": (dims.dp_replicate * dims.dp_shard * dims.cp * dims.tp * dims.pp, asked.ranks),
        "schedule": (config.parallelism.pipeline_parallel_schedule, schedules[value("layout.schedule")]),
        "sequence": (config.training.max_context_length, value("training.sequence_length")),
        "tokens a micro-batch": (
            config.training.num_tokens_per_microbatch_per_dp_rank,
            value("layout.micro_batch") * value("training.sequence_length"),
        ),
        "tokens a step": (
            config.training.num_tokens_per_train_step,
            value("training.global_batch_sequences") * value("training.sequence_length"),
        ),
        "recompute": (type(config.activation_checkpoint), policies[value("layout.recompute.granularity")]),
        "compile": (config.compile.enable, value("software.compile")),
        "layers": (len(layers), value("model.layers")),
        "hidden": (model.dim, value("model.hidden")),
        "vocab": (model.vocab_size, value("model.vocab")),
        "heads": (layers[0].attention.n_heads, value("model.heads")),
    }
    if value("model.kv_heads") is not None:
        pairs["kv heads"] = (layers[0].attention.n_kv_heads or layers[0].attention.n_heads, value("model.kv_heads"))
    if value("layout.sharding") != "none":
        policy = "always" if value("layout.reshard_after_forward") else "never"
        pairs["reshard"] = (config.parallelism.fsdp_reshard_after_forward, policy)
    if (parts := config.parallelism.module_fqns_per_model_part) is not None:
        held = [sum(name.startswith("layers.") for name in part) for part in parts]
        v_shaped = value("layout.schedule") in ("zb-v", "dualpipe-v")
        pairs["layers of stages"] = (held, [chunk.layers for chunk in asked.stages.in_model_order(v_shaped=v_shaped)])
    moe = getattr(layers[-1], "moe", None)
    experts = moe.routed_experts if moe is not None else None
    inner = experts.inner_experts if experts is not None else None
    pairs["experts"] = (inner.num_experts if inner else None, value("model.moe.experts"))
    if inner is not None:
        pairs["expert ffn"] = (inner.hidden_dim, value("model.moe.expert_ffn"))
        pairs["top-k"] = (experts.token_dispatcher.top_k, value("model.moe.top_k"))
    dense = getattr(layers[0], "feed_forward", None)
    if value("model.ffn") is not None:
        pairs["ffn"] = (dense.w1.out_features if hasattr(dense, "w1") else None, value("model.ffn"))
    return pairs
