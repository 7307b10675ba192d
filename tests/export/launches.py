"""Specs whose launch configurations are tested: dense and MoE models, and for each target those that it can run."""

from __future__ import annotations

from typing import Any

from codesign import plan
from codesign.planner import Plan


def _spec(model: Any, layout: dict[str, Any], training: dict[str, Any], accelerators: int, stack: Any = "megatron-core",
          profile: str = "h100-sxm-80gb") -> dict[str, Any]:  # fmt: skip
    return {
        "version": 1, "model": model, "layout": {"micro_batch": 1, **layout},
        "training": {"sequence_length": 4096, "global_batch_sequences": 1024, **training},
        "cluster": {"profile": profile, "accelerators": accelerators}, "software": stack,
    }  # fmt: skip


PLAIN = {"overlap": {"tp": False, "pp": False}}
MEGATRON: dict[str, dict[str, Any]] = {
    "gpt3-175b": _spec("gpt3-175b", {"tp": 8, "pp": 8, "vpp": 6, "sharding": "zero1", "recompute": "selective"},
                       {"sequence_length": 2048, "tokens": 3e11}, 1024),
    "llama-3-8b": _spec("llama-3-8b", {"tp": 1, "pp": 1, "sharding": "zero1"}, {"precision": "fp8-current"}, 64),
    "llama-3-8b-fsdp": _spec("llama-3-8b", {"tp": 1, "pp": 1, "sharding": "zero3"}, {"tokens": 1.5e13}, 64),
    "llama-3-8b-hsdp": _spec("llama-3-8b", {"tp": 2, "pp": 1, "sharding": "hsdp", "sharding_group": 8}, {}, 64),
    "llama-3-70b": _spec("llama-3-70b", {"tp": 4, "pp": 4, "vpp": 5, "cp": 2, "sharding": "zero1", "cp_style": "ring"},
                         {"sequence_length": 8192}, 256),
    "llama-3.1-405b": _spec("llama-3.1-405b", {"tp": 8, "pp": 16, "vpp": 8, "sharding": "zero1"},
                            {"sequence_length": 8192, "tokens": 15.6e12, "global_batch_sequences": 2048}, 16384),
    "llama-3.1-405b-first-last": _spec("llama-3.1-405b", {"tp": 8, "pp": 9, "first_stage_layers": 7, "last_stage_layers": 7,
                                                          "sharding": "zero1", "recompute": "full"}, {}, 1152),
    "mixtral-8x7b": _spec("mixtral-8x7b", {"tp": 2, "pp": 4, "ep": 8, "etp": 1, "sharding": "zero1"}, {}, 128),
    "mixtral-8x22b": _spec("mixtral-8x22b", {"tp": 4, "pp": 4, "vpp": 2, "ep": 8, "etp": 2, "sharding": "zero1"},
                           {"precision": {"matmul": "bf16", "gradients": "bf16", "moments": "bf16"}}, 256),
    "deepseek-v3": _spec("deepseek-v3", {"tp": 1, "pp": 16, "ep": 64, "sharding": "zero1", "expert_groups_per_token": 4,
                                         "stages": "Et*3|(t*4|)*13t*4|t*2mL", "schedule": "1f1b", "recompute":
                                         {"granularity": "selective", "modules": ["mla_up_proj", "layernorm", "moe_act"]}},
                         {"precision": "fp8-block", "global_batch_sequences": 15360, "tokens": 14.8e12}, 2048,
                         {"stack": "megatron-core", "moe_dispatcher": "deepep"}),
    "qwen3-30b-a3b": _spec("qwen3-30b-a3b", {"tp": 1, "pp": 1, "ep": 8, "sharding": "zero1", "recompute":
                                             {"granularity": "full", "fraction": 0.5}}, {}, 64),
    "qwen3-235b-a22b": _spec("qwen3-235b-a22b", {"tp": 2, "pp": 8, "ep": 32, "sharding": "zero1", "order":
                                                 ["tp", "cp", "ep", "pp", "dp"]}, {"precision": "mxfp8"}, 512,
                             profile="gb200-nvl72"),
    "qwen1.5-moe": _spec("qwen1.5-moe-a2.7b", {"tp": 1, "pp": 1, "ep": 4, "sharding": "zero1"},
                         {"optimizer": {"name": "muon", "newton_schulz_steps": 4}}, 64),
    "gpt-oss-20b": _spec("gpt-oss-20b", {"tp": 1, "pp": 2, "ep": 8, "sharding": "zero1"}, {}, 64),
    "qwen2.5-72b": _spec("qwen2.5-72b", {"tp": 8, "pp": 4, "sharding": "zero1", "offload": {"optimizer": True}},
                         {"packing": {"mean_document_tokens": 512}}, 256),
    "llama-2-7b-two-ranks": _spec("llama-2-7b", {"tp": 2, "pp": 2, "sharding": "zero1", "order": ["tp", "cp", "ep", "dp", "pp"]},
                                  {}, 32, profile="trainium1"),
    "llama-2-7b-fp32": _spec("llama-2-7b", {"tp": 2, "pp": 1, "sharding": "zero1"}, {"precision": "fp32"}, 64),
    "every-other-layer": _spec(
        {"layers": 12, "hidden": 2048, "heads": 16, "kv_heads": 4, "ffn": 8192, "vocab": 50304, "name": "every other",
         "moe": {"experts": 16, "top_k": 1, "expert_ffn": 4096, "every": 2, "dense_layers": 2, "capacity_factor": 1.25}},
        {"tp": 2, "pp": 2, "ep": 4, "sharding": "none", "cuda_graphs": ["attn", "moe_router"]},
        {"precision": "fp16", "optimizer": "sgd"}, 16),
}  # fmt: skip
FSDP = {"tp": 1, "pp": 1, "sharding": "zero3"}
TITAN: dict[str, dict[str, Any]] = {
    "llama-3-8b": _spec("llama-3-8b", {**FSDP, "recompute": {"granularity": "selective", "modules": ["every_other_matmul"]}},
                        {"global_batch_sequences": 128}, 64, "torchtitan-compile"),
    "llama-3-8b-float8": _spec("llama-3-8b", {**FSDP, "recompute": "none"}, {"precision": "fp8-rowwise"}, 64,
                               "torchtitan-compile"),
    "llama-3-70b": _spec("llama-3-70b", {**FSDP, "tp": 8, "recompute": "full"}, {"sequence_length": 8192, "tokens": 1e12}, 256,
                         "torchtitan-compile"),
    "llama-3.1-405b": _spec("llama-3.1-405b", {"tp": 8, "pp": 8, "vpp": 2, "sharding": "zero3", "schedule": "interleaved",
                                               "recompute": "full"}, {}, 512, "torchtitan-eager"),
    "qwen3-32b-hsdp": _spec("qwen3-32b", {"tp": 2, "pp": 1, "sharding": "hsdp", "sharding_group": 16}, {}, 128,
                            "torchtitan-eager"),
    "qwen3-30b-a3b": _spec("qwen3-30b-a3b", {**FSDP, "ep": 8}, {}, 64, "torchtitan-eager"),
    "deepseek-v3": _spec("deepseek-v3", {**FSDP, "ep": 64, "recompute": "full", "reshard_after_forward": True}, {}, 512,
                         "torchtitan-eager"),
    "deepseek-v2-lite": _spec("deepseek-v2-lite", {**FSDP, "pp": 2, "ep": 8, "schedule": "1f1b"}, {}, 64, "torchtitan-eager"),
    "llama-3-8b-zbv": _spec("llama-3-8b", {**FSDP, "pp": 4, "vpp": 2, "schedule": "zb-v"}, {}, 64,
                            "torchtitan-eager"),
    "llama-3-8b-context": _spec("llama-3-8b", {**FSDP, "cp": 4, "cp_style": "all-gather"}, {"sequence_length": 131072}, 64,
                                "torchtitan-eager"),
    "qwen3-8b": _spec("qwen3-8b", {**FSDP}, {}, 32, "torchtitan-eager"),
    "qwen3-235b-a22b": _spec("qwen3-235b-a22b", {**FSDP, "ep": 32, "recompute": "full"}, {}, 256, "torchtitan-eager"),
}  # fmt: skip
DEEPSPEED: dict[str, dict[str, Any]] = {
    **{f"{name}-zero{stage}": _spec(name, {"tp": 1, "pp": 1, "sharding": f"zero{stage}", "recompute": recompute}, {}, 64,
                                    "deepspeed")
       for name, stage, recompute in (("llama-3-8b", 1, "none"), ("llama-3-8b", 2, "full"), ("llama-3-8b", 3, "full"),
                                      ("gpt3-175b", 3, "full"), ("llama-3-70b", 3, "full"), ("mixtral-8x7b", 3, "full"),
                                      ("qwen3-30b-a3b", 3, "full"), ("olmoe-1b-7b", 2, "none"))},
    "pipeline": _spec("gpt-neox-20b", {"tp": 2, "pp": 4, "sharding": "zero1", "sequence_parallel": False},
                      {"sequence_length": 2048, "precision": "fp16"}, 64, "deepspeed"),
    "offload": _spec("llama-2-13b", {"tp": 1, "pp": 1, "sharding": "zero3", "offload": {"optimizer": True}}, {}, 32, "deepspeed"),
    "tensor-parallel": _spec("llama-2-70b", {"tp": 8, "pp": 1, "sharding": "zero2", "sequence_parallel": False}, {}, 64,
                             "deepspeed"),
    "no-sharding": _spec("gpt2-xl", {"tp": 1, "pp": 1, "sharding": "none"}, {"sequence_length": 1024}, 16, "deepspeed"),
}  # fmt: skip
for _one in DEEPSPEED.values():
    if "gpt" in str(_one["model"]):
        _one["training"]["sequence_length"] = min(_one["training"]["sequence_length"], 1024)
MAXTEXT: dict[str, dict[str, Any]] = {
    **{name: _spec(name, {"tp": 1, "pp": 1, "sharding": "zero3", "recompute": "full", **layout},
                   {"precision": "bf16", **training}, 256, "maxtext", "tpu-v5p")
       for name, layout, training in (
           ("llama-3-8b", {}, {}), ("llama-3-70b", {"recompute": {"granularity": "selective", "modules": ["core_attn"]}}, {}),
           ("llama-3.1-405b", {"tp": 8}, {"tokens": 1e12}), ("llama-2-70b", {"cp": 2, "cp_style": "all-gather"}, {}),
           ("gpt3-175b", {"tp": 4}, {"sequence_length": 2048}), ("qwen3-32b", {}, {}), ("qwen2.5-72b", {"tp": 2}, {}),
           ("mixtral-8x7b", {"ep": 8}, {}), ("mixtral-8x22b", {"ep": 8, "tp": 2}, {}),
           ("qwen3-30b-a3b", {"ep": 4}, {}), ("deepseek-v3", {"ep": 16}, {}), ("mistral-7b", {}, {"precision": "int8"}),
           ("llama-2-7b", {"sharding": "none"}, {}))},
    "pipeline": _spec("llama-2-7b", {"tp": 1, "pp": 4, "schedule": "gpipe", "recompute": "full", "sharding": "zero3"},
                      {"global_batch_sequences": 512}, 64, "maxtext", "tpu-v5p"),
}  # fmt: skip
BY_TARGET = {"megatron": MEGATRON, "megatron-bridge": MEGATRON, "torchtitan": TITAN, "deepspeed": DEEPSPEED, "maxtext": MAXTEXT}


def planned(target: str, name: str) -> Plan:
    return plan(BY_TARGET[target][name])
