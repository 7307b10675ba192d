"""Leaves of serving: the trained shape on the accelerators that serve it."""

from __future__ import annotations

from typing import Any

from codesign.errors import ProfileError, SpecError
from codesign.quantities.parameters import count_parameters
from codesign.quantities.serving_communication import PASSES
from codesign.spec import outcome, profiles, resolve, schema
from codesign.spec.made import Made

USABLE_SHARE = 0.9
ELEMENT_B = {"bf16": 2.0, "fp8": 1.0}


def put(spec: schema.Spec, serving: outcome.Serving, made: Made) -> None:
    """Leaves and targets of `run.serving`. Raises SpecError for a profile that does not serve this precision."""
    _model(spec.model, serving, made)
    made.indexes["serving_pass"] = PASSES
    _collectives(spec.model, serving, made)
    _network(_hardware(serving, made), serving, made)
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
    made.targets += ["decode_tensor_s", "decode_expert_s", "prefill_tensor_s", "prefill_expert_s"]
    made.notes.append(
        "serving: accelerators of a copy talk by NCCL's collectives, nothing of it hidden; kernels made for serving are faster "
        "at small batches"
    )


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


def _collectives(model: schema.Model, serving: outcome.Serving, made: Made) -> None:
    """Collectives of all layers: one all-reduce after attention and one after the FFN, or what experts need in its place."""
    mixtures = sum(kind.startswith("moe") for kind in resolve.layer_kinds(model))
    whole = serving.experts == "whole"
    shared = model.moe is not None and model.moe.shared_experts > 0
    of_mixture = 1.0 if model.parallel_block or (whole and not shared) else 2.0
    of_dense = 1.0 if model.parallel_block else 2.0
    reduces = of_mixture * mixtures + of_dense * (model.layers - mixtures)
    made.put("served_reduces", reduces, "spec", "model: all-reduces after attention and FFN, where they are split")
    made.put("served_exchanges", 2.0 * mixtures if whole else 0.0, "spec", "run.serving.experts: dispatch and combine")
    made.put("served_hidden", model.hidden, "spec", "model.hidden")
    made.put("serving_activation_B", 2.0, "assumed", "activations travel in 16 bits")


def _network(profile: profiles.Profile, serving: outcome.Serving, made: Made) -> None:
    """Rates of the profile's networks, counted in ranks."""
    up, out = profile.per_rank().scale_up, profile.per_rank().scale_out
    each = profile.ranks_per_accelerator
    data = {"link_Bps": up.link_Bps, "domain_ranks": up.domain}
    fitted = {"reduce": (up.collectives.all_reduce, up.pair.all_reduce)}
    fitted["exchange"] = (up.collectives.all_to_all, up.pair.all_to_all)
    for name, (group, pair) in fitted.items():
        for tier, fit in (("up", group), ("pair", pair)):
            found = {"share": fit.bandwidth_fraction, "latency_s": fit.latency_s, "half_B": fit.half_B}
            for what, datum in found.items():
                made.put(f"{tier}_serving_{name}_{what}", datum.value, datum.kind, f"{profile.name}: {datum.source}")
    if out is not None:
        data |= {
            "nic_Bps": out.nic_Bps, "nic_share": out.efficiency, "nic_half_B": out.half_B, "nic_latency_s": out.latency_s,
            "hop_s": out.hop_s, "inner_exposed": out.intra_fraction, "pod_ranks": out.pod, "taper": out.taper,
        }  # fmt: skip
    for name, datum in data.items():
        made.put(f"serving_{name}", datum.value, datum.kind, f"{profile.name}: {datum.source}")
    made.put("serving_ranks_each", each, "datasheet", profile.name)
    source = f"{profile.name}: links over two a torus axis, or no torus"
    made.put("serving_torus_axes", resolve.torus_axes(profile), "datasheet", source)
    if out is None:
        if serving.accelerators is not None and serving.accelerators * each > up.domain.value:
            reason = f"{profile.name} has no network beyond its {up.domain.value:g} ranks that share one"
            raise SpecError(f"run.serving.accelerators {serving.accelerators}: {reason}", field="run.serving.accelerators")
        source = f"{profile.name} has no scale-out network: a copy stays in one domain"
        for name in ("nic_Bps", "nic_share", "nic_half_B", "nic_latency_s", "hop_s", "inner_exposed", "pod_ranks", "taper"):
            made.put(f"serving_{name}", 1.0, "assumed", source)
        made.put("serving_domain_ranks", 2.0**40, "assumed", source)


def _hardware(serving: outcome.Serving, made: Made) -> profiles.Profile:
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
    return profile
