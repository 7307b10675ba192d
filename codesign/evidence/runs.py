"""Published measured runs: rows of the canonical schema (measured_runs/SCHEMA.md), each turned into a spec.

What a row leaves unsaid is filled by the published rule of its stack (`unknown` in stacks.yaml) and named in `assumed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.errors import CodesignError, RunsError, SpecError
from codesign.spec import profiles, resolve, schema, stacks
from codesign.spec.datafiles import root

Row = Mapping[str, Any]


def shipped() -> Path:
    """The development rows that come with the package."""
    return root("measured_runs") / "runs.jsonl"


def read(path: Path | str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a file, and one message for every line that is not a row. Raises RunsError where there is no file."""
    where = Path(path) if path is not None else shipped()
    try:
        text = where.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunsError(f"{where}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunsError(f"{where}: cannot be read as text ({error.__class__.__name__})") from None
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            bad.append(
                f"{where.name}:{number}: not JSON ({error.msg if isinstance(error, json.JSONDecodeError) else 'too deep'})"
            )
            continue
        fault = _fault(row)
        if fault is None and row["id"] in seen:
            fault = f"id {row['id']!r} is there twice"
        if fault:
            bad.append(f"{where.name}:{number}: {fault}")
            continue
        seen.add(row["id"])
        rows.append(row)
    return rows, bad


def _fault(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "not an object"
    if not isinstance(row.get("id"), str):
        return "no id"
    for section in ("model", "layout", "measured"):
        if not isinstance(row.get(section), dict):
            return f"{row['id']}: no section {section!r}"
    return None


def trust(row: Row) -> str:
    level = row.get("trust")
    return str(level.get("level") if isinstance(level, dict) else level)


def truth_s(row: Row) -> float | None:
    value = row["measured"].get("step_time_s")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def truth_B(row: Row) -> float | None:
    value = row["measured"].get("memory_gib")
    return float(value) * 2.0**30 if isinstance(value, (int, float)) and value > 0 else None


def scored(row: Row, level: str = "ok") -> bool:
    """Whether the row counts for step time: complete, of that trust, one measured step."""
    return (
        bool(row.get("complete"))
        and trust(row) == level
        and row.get("kind", "step") == "step"
        and truth_s(row) is not None
    )


@dataclass(frozen=True)
class Converted:
    """A row as a problem, with what was assumed; or the reason why it cannot be predicted."""

    row: Row
    problem: resolve.Problem | None
    assumed: tuple[str, ...]
    reason: str | None


def convert(row: Row, constants: Mapping[str, float] | None = None) -> Converted:
    """Turn one row into a problem. Never raises for what the row says: the reason is in the answer."""
    assumed: list[str] = []
    try:
        spec = to_spec(row, assumed)
        return Converted(row, resolve.resolve(spec, constants=constants), tuple(assumed), None)
    except CodesignError as error:
        message = error.message if isinstance(error, SpecError) else str(error)
        return Converted(row, None, tuple(assumed), message)
    except (KeyError, TypeError, ValueError) as error:
        return Converted(row, None, tuple(assumed), f"the row is not usable: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def to_spec(row: Row, assumed: list[str]) -> schema.Spec:
    """The spec of one row. Appends to `assumed` what the row does not say."""
    profile, fabric = _hardware(row, assumed)
    stack = _stack(row, assumed)
    layout = _layout(row, stack, assumed)
    batch = row["layout"].get("global_batch_sequences")
    if batch is None and truth_s(row) is None and layout["dp"] and layout["micro_batch"]:
        batch = layout["dp"] * layout["micro_batch"] * layout["pp"]
        assumed.append(f"training.global_batch_sequences = {batch:g}: a micro-batch a stage; the row has memory only")
    training: dict[str, Any] = {
        "sequence_length": row["model"]["seq"],
        "global_batch_sequences": batch,
        "precision": _precision(row, profile, assumed),
    }
    if "fp8lm" in str(row["layout"].get("precision_as_printed")).lower():
        # FP8-LM (arXiv 2310.18313): fp8 gradients and first moment, 16-bit master weights and second moment
        training["precision"] = {
            "matmul": training["precision"],
            "gradients": "fp8",
            "parameters": "fp8",
            "master": "bf16",
            "moments": "bf16",
        }
        assumed.append("training.precision: gradients and parameters fp8, master and moments bf16, as FP8-LM describes")
    software: dict[str, Any] = {"stack": stack.name}
    date = row.get("stack_date")
    if date:
        software["date"] = str(date)
    elif stack.ages:
        assumed.append(f"software.date = {stack.released}: the row has no date")
    if row["layout"].get("moe_dispatcher") not in (None, "none"):
        software["moe_dispatcher"] = row["layout"]["moe_dispatcher"]
    if row["layout"].get("torch_compile"):
        software["compile"] = True
    if "CUDA_LAUNCH_BLOCKING" in str(row.get("framework")):
        software["launch_blocking"] = True
    if str(row.get("framework")).startswith("Megatron-Bridge"):
        software["gradient_dtype"] = "bf16"
        assumed.append("software.gradient_dtype = bf16: the default of Megatron-Bridge's recipes")
    _defaults_of_the_day(row, software, assumed)
    return schema.Spec.model_validate(
        {
            "version": 1,
            "name": row["id"],
            "model": _model(row, assumed),
            "training": training,
            "layout": layout,
            "cluster": {"profile": profile, "accelerators": row["accelerators"], "fabric": fabric},
            "software": software,
        }
    )


def _defaults_of_the_day(row: Row, software: dict[str, Any], assumed: list[str]) -> None:
    """What a release did when nobody said otherwise.

    Megatron-LM by itself ran its own unfused attention before Hopper, until Megatron-Core 0.8 (2024); 16-bit parameters stayed
    beside their fp8 copies until 2024.
    """
    framework, date = str(row.get("framework")), str(row.get("stack_date") or "9999")
    if software["stack"] == "megatron-core" and date < "2024" and str(row["layout"].get("precision")).startswith("fp8"):
        software["low_precision_parameters"] = False
        assumed.append("software.low_precision_parameters = false: releases before 2024")
    plain = (
        framework.startswith("Megatron-LM") and "flash" not in framework.lower() and not row["model"].get("gated_ffn")
    )
    ampere = str(row["accelerator"]).startswith(("a100", "a800", "v100"))
    if software["stack"] == "megatron-core" and plain and ampere and date <= "2024":
        software["attention_kernel"] = "unfused"
        assumed.append("software.attention_kernel = unfused: Megatron-LM's default of that day")


def _hardware(row: Row, assumed: list[str]) -> tuple[str, str | None]:
    name = str(row["accelerator"])
    if name not in profiles.names():
        raise SpecError(f"no profile for accelerator {name!r}")
    text = row.get("hardware", {}).get("scale_out")
    if not text:
        return name, None
    fabric = profiles.fabric_for(str(text), name)
    if fabric is None:
        assumed.append(f"cluster.fabric: the profile's own, for scale-out {str(text)[:40]!r}")
    return name, fabric


def _stack(row: Row, assumed: list[str]) -> stacks.Stack:
    name = str(row.get("stack"))
    if name in stacks.names() and name != "other":
        return stacks.load(name)
    if name == "other" and not str(row["accelerator"]).startswith(("tpu", "trainium")):
        return stacks.load(name)
    accelerator = str(row["accelerator"])
    nearest = (
        "maxtext"
        if accelerator.startswith("tpu")
        else "neuron"
        if accelerator.startswith("trainium")
        else "megatron-core"
    )
    for word, known in (
        ("torch", "torchtitan-eager"),
        ("fsdp", "fsdp1"),
        ("jax", "maxtext"),
        ("deepspeed", "deepspeed"),
        ("megatron", "megatron-core"),
    ):
        if word in name.lower():
            nearest = known
            break
    assumed.append(f"software.stack = {nearest}: the nearest to {name!r}")
    return stacks.load(nearest)


def _precision(row: Row, profile: str, assumed: list[str]) -> str:
    precision = row["layout"].get("precision")
    if precision is None:
        assumed.append("training.precision = bf16: the row does not say")
        return "bf16"
    if precision == "fp8-unspecified":
        chosen = "fp8-tensor"
        if profile.startswith(("gb", "b2", "b3")) and str(row.get("stack_date") or "9999") >= "2025-05":
            chosen = "fp8-current"  # Transformer Engine 2 brought it; delayed scaling before
        assumed.append(f"training.precision = {chosen}: the row says fp8")
        return chosen
    return str(precision)


def _model(row: Row, assumed: list[str]) -> dict[str, Any]:
    m = row["model"]
    raw: dict[str, Any] = {
        "name": str(m.get("name") or row["id"]),
        "layers": m["layers"],
        "hidden": m["hidden"],
        "heads": m["heads"],
        "kv_heads": m.get("kv_heads") or m["heads"],
        "head_dim": m.get("head_dim"),
        "ffn": m.get("ffn"),
        "gated_ffn": bool(m.get("gated_ffn")),
        "vocab": m.get("vocab"),
        "tied_embeddings": bool(m.get("tied_embeddings")),
        "positions": "learned" if m.get("learned_positions") else "rotary",
    }
    if raw["vocab"] is None:
        raw["vocab"] = 51200
        assumed.append("model.vocab = 51200: the row does not say")
    if m.get("learned_positions"):
        raw["max_positions"] = int(m["learned_positions"]) if int(m["learned_positions"]) > 1 else m["seq"]
    if not raw["gated_ffn"]:
        raw["norm"] = "layernorm"
    moe = m.get("moe") or {}
    if moe.get("experts"):
        raw["moe"] = {
            "experts": moe["experts"],
            "top_k": moe["top_k"],
            "expert_ffn": moe["expert_ffn"],
            "shared_experts": moe.get("shared_experts") or 0,
            "dense_layers": moe.get("dense_layers") or 0,
        }
        if moe.get("shared_expert_ffn_total"):
            raw["moe"]["shared_expert_ffn"] = moe["shared_expert_ffn_total"]
        if moe.get("routing") == "token-drop":
            raw["moe"]["capacity_factor"] = 1.0
        if moe.get("routing") == "natural":
            raw["moe"]["imbalance"] = 1.2
            assumed.append("model.moe.imbalance = 1.2: natural routing")
    mla = m.get("mla")
    if mla:
        raw["mla"] = {
            "q_lora": mla.get("q_lora"),
            "kv_lora": mla["kv_lora"],
            "qk_nope_head_dim": mla["qk_nope_head_dim"],
            "qk_rope_head_dim": mla["qk_rope_head_dim"],
            "v_head_dim": mla["v_head_dim"],
        }
    window = m.get("sliding_window")
    if window:
        raw["sliding_window"] = {"window": window["window"]}
        counted = re.search(r"(\d+) of (\d+)", str(window["layers"])) or re.search(r"()(\d+)", str(window["layers"]))
        local = int(counted[1] or counted[2]) if counted else m["layers"]
        if local < m["layers"]:
            raw["sliding_window"]["local"] = max(round(local / (m["layers"] - local)), 1)
    if m.get("mtp_layers"):
        raw["mtp_layers"] = m["mtp_layers"]
    return raw


_MODULES = {
    "core_attn": ("core_attn",),
    "mlp": ("mlp",),
    "layernorm": ("layernorm",),
    "rmsnorm": ("layernorm",),
    "moe": ("moe",),
    "moe_act": ("moe_act",),
    "mla_up_proj": ("mla_up_proj",),
    "per_op": ("every_other_matmul", "elementwise"),
    "policy:save_dot_except_mlpwi": ("ffn_up", "elementwise"),
    "policy:minimal": ("elementwise",),
}


def _recompute(row: Row, stack: stacks.Stack, assumed: list[str]) -> dict[str, Any]:
    said = row["layout"].get("recompute") or {}
    granularity = said.get("granularity")
    modules = list(said.get("modules") or ())
    fraction = said.get("fraction")
    if granularity is None:
        assumed.append(f"layout.recompute = {stack.unknown.recompute}: the rule of {stack.name}")
        granularity = stack.unknown.recompute
        if granularity == "selective":
            modules = ["core_attn"]
    if granularity == "none":
        return {"granularity": "none"}
    if granularity == "full" or "blocks" in modules:
        return {"granularity": "full", "fraction": 1.0 if fraction is None else fraction}
    if "every_other_block" in modules:
        return {"granularity": "full", "fraction": 0.5}
    kept = {m.split(":", 1)[1] for m in modules if m.startswith("all_but:")}
    if kept:
        # a JAX policy that keeps the named tensors and runs the rest again
        again = ["ffn_up", "elementwise"]
        again += [] if "mlpwo" in kept else ["ffn_down"]
        again += [] if "out_proj" in kept else ["attn_out"]
        again += [] if "query_proj" in kept or "qkv_proj" in kept else ["qkv"]
        again += [] if "context" in kept else ["core_attn"]
        return {"granularity": "selective", "modules": again}
    chosen: list[str] = []
    for module in modules:
        chosen += _MODULES.get(module, ())
    if not chosen:
        raise SpecError(f"recompute modules {modules} are not known")
    return {
        "granularity": "selective",
        "modules": list(dict.fromkeys(chosen)),
        "fraction": 1.0 if fraction is None else fraction,
    }


def _offloaded(row: Row, assumed: list[str]) -> float:
    """Share of the kept activations that goes to host memory."""
    text = str(row["layout"].get("offload") or "")
    if not text:
        return 0.0
    layers = re.search(r"activations of (\d+) layers", text)
    if layers:
        return min(int(layers[1]) / row["model"]["layers"], 1.0)
    share = 1.0 if "decoder_layer_input" in text else 0.3
    assumed.append(f"layout.offload.activations = {share:g}: {text[:60]!r}")
    return share


def _layout(row: Row, stack: stacks.Stack, assumed: list[str]) -> dict[str, Any]:
    said = row["layout"]
    layout: dict[str, Any] = {k: said[k] for k in ("tp", "pp", "cp", "dp", "ep")}
    if any(v is None for v in layout.values()):
        raise SpecError("the row has no complete layout: " + ", ".join(k for k, v in layout.items() if v is None))
    if layout["ep"] and not (row["model"].get("moe") or {}).get("experts"):
        layout["ep"] = 1
    layout["etp"] = said.get("etp") if layout["ep"] > 1 or said.get("etp") else None
    batch, dp = said.get("global_batch_sequences"), layout["dp"]
    micro = said.get("micro_batch")
    if batch is None and truth_s(row) is not None:
        raise SpecError("the row has no global batch")
    if micro is None:
        micro = stack.unknown.micro_batch
        assumed.append(f"layout.micro_batch = {micro:g}: the rule of {stack.name}")
        if batch is not None and batch < dp:
            micro = batch / dp
    layout["micro_batch"] = micro
    layers = row["model"]["layers"]
    vpp = said.get("vpp")
    schedule = said.get("schedule")
    if layout["pp"] == 1:
        vpp, schedule = 1, "none"
    elif vpp is None:
        vpp = 1
        if stack.unknown.interleave and schedule in (None, "interleaved"):
            # the most chunks, up to 8, into which the layers divide, alone or with embedding and head as a layer each
            vpp = next(
                (
                    v
                    for v in (8, 6, 5, 4, 3, 2)
                    if 0 in (layers % (layout["pp"] * v), (layers + 2) % (layout["pp"] * v))
                ),
                1,
            )
        assumed.append(f"layout.vpp = {vpp}: the rule of {stack.name}")
    named = {"zb-1p": "zb-h1", "zb-2p": "zb-h2", "other": None, "none": None}
    schedule = named.get(schedule, schedule)
    if layout["pp"] > 1:
        if vpp > 1 and schedule in (None, "1f1b"):
            schedule = "interleaved"
        if vpp == 1 and schedule in (None, "interleaved"):
            schedule = "1f1b"
        layout["schedule"] = schedule
    layout["vpp"] = vpp
    if said.get("sharding") is None:
        assumed.append(f"layout.sharding = {stack.unknown.sharding}: the rule of {stack.name}")
        layout["sharding"] = stack.unknown.sharding
    else:
        layout["sharding"] = said["sharding"]
    if said.get("sharding_group") and layout["sharding"] == "hsdp":
        layout["sharding_group"] = said["sharding_group"]
    elif layout["sharding"] == "hsdp":
        per_node = row.get("hardware", {}).get("per_node") or 8
        layout["sharding_group"] = min(per_node, dp * layout["cp"])
        assumed.append(f"layout.sharding_group = {layout['sharding_group']}: one node")
    if said.get("sequence_parallel") is not None and layout["tp"] > 1:  # with tp 1 it says nothing
        layout["sequence_parallel"] = said["sequence_parallel"]
    layout["recompute"] = _recompute(row, stack, assumed)
    share = _offloaded(row, assumed)
    if share:
        layout["offload"] = {"activations": share}
    overlap = said.get("overlap") or {}
    layout["overlap"] = {
        "tp": overlap.get("tp"),
        "pp": overlap.get("pp"),
        "ep": overlap.get("ep"),
        "dp_gradients": overlap.get("dp"),
        "dp_parameters": overlap.get("dp"),
    }
    scopes = said.get("cuda_graph_scope")
    if scopes:
        layout["cuda_graphs"] = scopes
    elif said.get("cuda_graphs"):
        layout["cuda_graphs"] = ["full_iteration"]
    return layout


def converted(rows: list[dict[str, Any]], constants: Mapping[str, float] | None = None) -> Iterator[Converted]:
    for row in rows:
        yield convert(row, constants)
