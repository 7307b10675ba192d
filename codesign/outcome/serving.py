"""Leaves of serving: the trained shape on the accelerators that serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codesign.errors import ProfileError, SpecError
from codesign.quantities.parameters import count_parameters
from codesign.spec import outcome, profiles, resolve, schema

if TYPE_CHECKING:
    from codesign.outcome.leaves import Made

USABLE_SHARE = 0.9
ELEMENT_B = {"bf16": 2.0, "fp8": 1.0}


def put(spec: schema.Spec, serving: outcome.Serving, made: Made) -> None:
    """Leaves and targets of `run.serving`. Raises SpecError for a profile that does not serve this precision."""
    _model(spec.model, serving, made)
    _hardware(serving, made)
    made.put("prompt_length", serving.prompt_tokens, "spec", "run.serving.prompt_tokens")
    made.put("output_length", serving.output_tokens, "spec", "run.serving.output_tokens")
    made.put("serving_weight_B", ELEMENT_B[serving.precision], "spec", "run.serving.precision")
    made.put("serving_kv_B", ELEMENT_B[serving.kv_precision], "spec", "run.serving.kv_precision")
    made.put("usable_memory_share", USABLE_SHARE, "assumed", "a tenth of memory for activations, context and fragments")
    if serving.accelerators is not None:
        made.put("serving_accelerators", serving.accelerators, "spec", "run.serving.accelerators")
    if serving.batch is not None:
        made.put("serving_batch", serving.batch, "spec", "run.serving.batch")
    made.targets += ["served_kv_B", "full_sequence_B", "knee_batch", "memory_batch", "decode_step_s", "prefill_s"]
    made.targets += ["serving_round_s", "served_tokens_per_s", "fits_serving"]
    if serving.price_per_hour is not None:
        made.put("serving_price_per_hour", serving.price_per_hour, "spec", "run.serving.price_per_hour")
        made.targets.append("serving_cost_per_million")
    made.notes.append("serving: no communication between the accelerators of a copy is counted: times and costs are lower bounds")


def _model(model: schema.Model, serving: outcome.Serving, made: Made) -> None:
    counted, moe = count_parameters(model), model.moe
    head_dim = model.head_dim or model.hidden // model.heads
    made.structure["serving_moe"] = moe is not None
    made.structure["serving_mla"] = model.mla is not None
    kinds = resolve.layer_kinds(model)
    windowed = sum(kind.endswith("-local") for kind in kinds) / len(kinds)
    values: dict[str, float] = {
        "stored_parameters": counted.total,
        "matmul_parameters": counted.active_matmul,
        "expert_parameters_stored": counted.parts.get("experts", 0),
        "served_experts": moe.experts if moe else 1,
        "served_top_k": moe.top_k if moe else 1,
        "expert_spread": moe.experts / moe.top_k if moe else 1.0,
        "served_layers": model.layers,
        "served_heads": model.heads,
        "served_kv_heads": model.kv_heads or model.heads,
        "served_head_dim": head_dim,
        "served_latent": model.mla.kv_lora if model.mla else 0,
        "served_rope": model.mla.qk_rope_head_dim if model.mla else 0,
        "served_qk_dim": model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim if model.mla else head_dim,
        "served_v_dim": model.mla.v_head_dim if model.mla else head_dim,
        "served_window": model.sliding_window.window if model.sliding_window else serving.prompt_tokens + serving.output_tokens,
        "windowed_share": windowed,
    }
    for name, value in values.items():
        made.put(name, value, "spec", "model")


def _hardware(serving: outcome.Serving, made: Made) -> None:
    try:
        profile = profiles.load(serving.profile)
    except ProfileError as error:
        raise SpecError(f"run.serving.profile: {error.message}", field="run.serving.profile") from None
    peaks, gemms = profile.accelerator.peak_FLOPps, profile.kernels.gemm
    peak: Any = peaks.fp8 if serving.precision == "fp8" else peaks.bf16 or peaks.fp16
    gemm = gemms.fp8 or gemms.fp8_block if serving.precision == "fp8" else gemms.bf16
    if peak is None or gemm is None:
        reason = f"{profile.name} has no {serving.precision} matrix products: write run.serving.precision bf16"
        raise SpecError(f"run.serving: {reason}", field="run.serving.precision")
    data = {
        "serving_peak_FLOPps": peak,
        "serving_gemm_share": gemm.efficiency,
        "serving_memory_B": profile.accelerator.memory_B,
        "serving_memory_Bps": profile.accelerator.memory_Bps,
        "serving_stream_share": profile.kernels.elementwise.efficiency,
    }
    for name, datum in data.items():
        made.put(name, datum.value, datum.kind, f"{profile.name}: {datum.source}")
