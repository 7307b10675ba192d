"""Every field of model, training, layout, software and cluster is written, said to be not carried, or refused by each target."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import launches
import pytest

from codesign import plan
from codesign.errors import SpecError
from codesign.export import launch
from codesign.spec import fields, schema

SECTIONS = ("model", "training", "layout", "software", "cluster", "input")
# target -> a dense, a MoE and an MLA model that it can run
BASES: dict[str, tuple[dict[str, Any], ...]] = {
    target: tuple(launches.BY_TARGET[target][name] for name in names)
    for target, names in {
        "megatron": ("llama-3-8b", "mixtral-8x7b", "deepseek-v3"),
        "megatron-bridge": ("llama-3-8b", "mixtral-8x7b", "deepseek-v3"),
        "torchtitan": ("qwen3-8b", "qwen3-30b-a3b", "deepseek-v3"),
        "deepspeed": ("llama-3-8b-zero2", "mixtral-8x7b-zero3", "qwen3-30b-a3b-zero3"),
        "maxtext": ("llama-3-8b", "mixtral-8x7b", "deepseek-v3"),
    }.items()
}
DENSE, MOE, MLA = 0, 1, 2
PIPELINE = {"layout.pp": 4, "layout.schedule": "1f1b"}
WINDOW = {"model.sliding_window": {"window": 1024}}
PACKED = {"training.packing": {"mean_document_tokens": 512}}
CONTEXT = {"layout.cp": 2}
TENSOR = {"layout.tp": 2, "layout.sequence_parallel": True}
INTERLEAVED = {"layout.pp": 4, "layout.vpp": 2, "layout.schedule": "interleaved"}
FULL = {"layout.sharding": "zero3", "layout.reshard_after_forward": True}
NARROW = {"training.precision": "fp8-tensor"}
# field -> another value, the model, and what must be there for the field to count
CASES: list[tuple[str, Any, int, dict[str, Any]]] = [
    ("model.name", "another", DENSE, {}), ("model.layers", 40, DENSE, {}), ("model.hidden", 5120, DENSE, {"model.head_dim": 128}),
    ("model.heads", 64, DENSE, {"model.head_dim": 128}), ("model.kv_heads", 4, DENSE, {}), ("model.head_dim", 64, DENSE, {}),
    ("model.ffn", 16384, DENSE, {}), ("model.gated_ffn", False, DENSE, {}), ("model.vocab", 50304, DENSE, {}),
    ("model.tied_embeddings", True, DENSE, {}), ("model.positions", "none", DENSE, {}),
    ("model.max_positions", 8192, DENSE, {"model.positions": "learned", "model.max_positions": 4096}),
    ("model.norm", "layernorm", DENSE, {}), ("model.norms_per_layer", 4, DENSE, {}), ("model.final_norm", False, DENSE, {}),
    ("model.embedding_norm", True, DENSE, {}), ("model.qk_norm", "full", DENSE, {}), ("model.attention_sinks", True, DENSE, {}),
    ("model.parallel_block", True, DENSE, {}), ("model.mtp_layers", 2, MLA, {}),
    *((f"model.biases.{name}", True, DENSE, {}) for name in ("attn_out", "mlp", "head")), ("model.biases.qkv", True, DENSE, {}),
    ("model.biases.router", True, MOE, {}), ("model.biases.experts", True, MOE, {}),
    ("model.mla.q_lora", 768, MLA, {}), ("model.mla.kv_lora", 256, MLA, {}), ("model.mla.qk_nope_head_dim", 64, MLA, {}),
    ("model.mla.qk_rope_head_dim", 32, MLA, {}), ("model.mla.v_head_dim", 64, MLA, {}),
    ("model.moe.experts", 32, MOE, {}), ("model.moe.top_k", 4, MOE, {}), ("model.moe.expert_ffn", 4096, MOE, {}),
    ("model.moe.shared_experts", 1, MOE, {}), ("model.moe.shared_expert_ffn", 4096, MOE, {}),
    ("model.moe.shared_expert_gate", True, MOE, {}), ("model.moe.dense_layers", 2, MOE, {"model.ffn": 14336}),
    ("model.moe.every", 2, MOE, {"model.ffn": 14336}), ("model.moe.router_score_bias", True, MOE, {}),
    ("model.moe.capacity_factor", 1.25, MOE, {}), ("model.moe.imbalance", 1.5, MOE, {}),
    ("model.sliding_window.window", 2048, DENSE, WINDOW), ("model.sliding_window.local", 5, DENSE, WINDOW),
    ("training.sequence_length", 8192, DENSE, {}), ("training.global_batch_sequences", 2048, DENSE, {}),
    ("training.precision.matmul", "fp8-tensor", DENSE, {"training.precision": {"matmul": "bf16"}}),
    *((f"training.precision.{name}", value, DENSE, {"training.precision": {"matmul": "bf16", "parameters": "bf16"}})
      for name, value in (("gradients", "fp16"), ("parameters", "fp16"), ("master", "bf16"), ("moments", "bf16"))),
    ("training.optimizer.name", "sgd", DENSE, {"training.optimizer": {"name": "adamw"}}),
    ("training.optimizer.newton_schulz_steps", 3, DENSE, {"training.optimizer": {"name": "muon"}}),
    ("training.tokens", 1e12, DENSE, {}), ("training.packing.mean_document_tokens", 1024, DENSE, PACKED),
    ("training.packing.length_dispersion", 3.0, DENSE, PACKED),
    ("layout.tp", 2, DENSE, {}), ("layout.pp", 2, DENSE, {"layout.schedule": "1f1b"}), ("layout.dp", 24, DENSE, {}),
    ("layout.vpp", 4, DENSE, INTERLEAVED), ("layout.cp", 4, DENSE, CONTEXT), ("layout.ep", 4, MOE, {}),
    ("layout.etp", 2, MOE, TENSOR),
    ("layout.micro_batch", 2, DENSE, {}), ("layout.schedule", "zb-h1", DENSE, PIPELINE), ("layout.sharding", "none", DENSE, {}),
    ("layout.sharding_group", 16, DENSE, {"layout.sharding": "hsdp", "layout.sharding_group": 8}),
    ("layout.reshard_after_forward", False, DENSE, FULL), ("layout.prefetch", False, DENSE, FULL),
    ("layout.sequence_parallel", False, DENSE, TENSOR),
    ("layout.cp_style", "all-gather", DENSE, {**CONTEXT, "layout.cp_style": "ring"}),
    ("layout.recompute.granularity", "full", DENSE, {"layout.recompute": {"granularity": "none"}}),
    ("layout.recompute.modules", ["mlp"], DENSE, {"layout.recompute": {"granularity": "selective", "modules": ["core_attn"]}}),
    ("layout.recompute.fraction", 0.5, DENSE, {"layout.recompute": {"granularity": "full"}}),
    ("layout.stages", "Et*9|t*8|t*8|t*7L", DENSE, PIPELINE), ("layout.first_stage_layers", 5, DENSE, PIPELINE),
    ("layout.last_stage_layers", 5, DENSE, PIPELINE), ("layout.offload.activations", 0.5, DENSE, {}),
    ("layout.offload.optimizer", True, DENSE, {}), ("layout.cuda_graphs", ["attn"], DENSE, {}),
    ("layout.overlap.tp", False, DENSE, {**TENSOR, "layout.overlap": {"tp": True}}),
    ("layout.overlap.cp", False, DENSE, {**CONTEXT, "layout.overlap": {"cp": True}}),
    ("layout.overlap.ep", True, MOE, {"layout.ep": 4, "layout.overlap": {"ep": False}}),
    ("layout.overlap.dp_gradients", False, DENSE, {"layout.overlap": {"dp_gradients": True}}),
    ("layout.overlap.dp_parameters", False, DENSE, {"layout.overlap": {"dp_parameters": True}}),
    ("layout.overlap.pp", False, DENSE, {**INTERLEAVED, "layout.overlap": {"pp": True}}),
    ("layout.expert_groups_per_token", 1, MOE, {"layout.ep": 8}), ("layout.order", ["tp", "cp", "ep", "pp", "dp"], DENSE, {}),
    ("software.stack", "nemo", DENSE, {}), ("software.date", "2024-01", DENSE, {}), ("software.attention_kernel", "fa2", DENSE,
                                                                                  {"software.attention_kernel": "cudnn"}),
    ("software.moe_dispatcher", "deepep", MOE, {"software.moe_dispatcher": "alltoall"}),
    *((f"software.{name}", True, DENSE, {f"software.{name}": False})
      for name in ("compile", "launch_blocking", "fused_cross_entropy", "fused_weight_gradient")),
    *((f"software.{name}", True, DENSE, {**NARROW, f"software.{name}": False})
      for name in ("low_precision_parameters", "narrow_activations")),
    ("software.gradient_dtype", "bf16", DENSE, {"software.gradient_dtype": "fp32"}), ("software.host_layer_s", "9 us", DENSE, {}),
    ("cluster.profile", "h200-sxm", DENSE, {}), ("cluster.accelerators", 128, DENSE, {}),
    ("cluster.fabric", "llama3-roce", DENSE, {}),
    ("cluster.override", {"scale_up.link_Bps": "100 GB/s"}, DENSE, {}),
    ("input.storage_Bps", "50 GB/s", DENSE, {"input": {"storage_Bps": "100 GB/s"}}),
    ("input.bytes_per_token", 8.0, DENSE, {"input": {"storage_Bps": "100 GB/s"}}),
]  # fmt: skip
SHORT = {"model": "preset", "software": "stack"}


def _put(spec: dict[str, Any], field: str, value: Any) -> None:
    at, (*above, last) = spec, field.split(".")
    for part in above:
        inner = at.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = at[part] = {SHORT[part]: inner} if part in SHORT else {}
        at = inner
    at[last] = value


def _spec(target: str, which: int, changes: dict[str, Any]) -> str:
    spec = json.loads(json.dumps(BASES[target][which]))
    if isinstance(spec["software"], str):
        spec["software"] = {"stack": spec["software"]}
    for field, value in json.loads(json.dumps(changes)).items():
        _put(spec, field, value)
    return json.dumps(spec)


@cache
def _said(target: str, spec: str) -> str | SpecError:
    """The export without what every change changes (hash, planned step, verdict), or the refusal."""
    try:
        text = launch.export(plan(json.loads(spec)), target).text
    except SpecError as error:
        return error
    return re.sub(r'^ *"?(# )?(Spec [0-9a-f]{64}|NOT FEASIBLE).*\n', "", text, flags=re.MULTILINE)


def _sections(annotation: Any) -> list[type[fields.Section]]:
    if isinstance(annotation, type) and issubclass(annotation, fields.Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _fields(section: type[fields.Section], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = _sections(field.annotation)
        if not inner:
            yield prefix + name
        for one in inner:
            yield from _fields(one, f"{prefix}{name}.")


def test_every_field_of_a_spec_has_a_case():
    known = {name for section in SECTIONS for one in _sections(schema.Spec.model_fields[section].annotation)
             for name in _fields(one, f"{section}.")}  # fmt: skip
    expanded = {"model.preset", "model.hf"}  # names of other fields, filled in before anything is written
    assert known - expanded == {field for field, *_ in CASES}
    rest = set(schema.Spec.model_fields) - set(SECTIONS) - {"version", "name"}
    assert rest == set(launch.LEFT_OUT)


@pytest.mark.parametrize("target", BASES)
def test_the_specs_that_the_cases_change_can_be_exported(target):
    for which in (DENSE, MOE, MLA):
        assert isinstance(_said(target, _spec(target, which, {})), str)


@pytest.mark.parametrize("target", BASES)
@pytest.mark.parametrize(("field", "value", "which", "context"), CASES, ids=[case[0] for case in CASES])
def test_another_value_is_written_said_or_refused(target, field, value, which, context):
    before = _said(target, _spec(target, which, context))
    after = _said(target, _spec(target, which, {**context, field: value}))
    if isinstance(after, SpecError):
        return  # refused, by the spec or by the framework
    assert before != after, f"{field} = {value!r} is accepted and ignored by {target}"


@pytest.mark.parametrize("target", BASES)
def test_a_refusal_names_a_field_or_the_model(target):
    """Where a case is refused by the framework, the message has the name of a field of the spec, never a bare error."""
    for field, value, which, context in CASES:
        said = _said(target, _spec(target, which, {**context, field: value}))
        if isinstance(said, SpecError):
            assert re.search(r"(model|training|layout|software|cluster)\b", said.message), said.message


def test_the_name_of_a_run_is_said():
    assert _said("megatron", _spec("megatron", DENSE, {})) != _said("megatron", _spec("megatron", DENSE, {"name": "run 7"}))
