"""The model of Megatron-LM's arguments, with Megatron's defaults where they are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from codesign.errors import SpecError
from codesign.spec.megatron_args import Given

POSITIONS = {"rope": "rotary", "yarn": "rotary", "learned_absolute": "learned", "none": "none"}
NORMS = {"RMSNorm": "rmsnorm", "LayerNorm": "layernorm"}


def model_of(given: Given, carried: Mapping[str, Any], sequence: int) -> dict[str, Any]:
    """The `model:` section; `sequence` is the default length of the position table. Raises SpecError."""
    layers, hidden, heads = (given.needed(name) for name in ("num-layers", "hidden-size", "num-attention-heads"))
    gated = given.has("swiglu") or given.has("quick-geglu")
    model: dict[str, Any] = {"name": carried.get("model.name", "imported"), "layers": layers, "hidden": hidden, "heads": heads}
    mla = given.has("multi-latent-attention")
    groups = given.number("num-query-groups", 1)
    if given.has("group-query-attention"):
        model["kv_heads"] = groups
    if mla:
        if "kv_heads" in model:
            raise given.wrong("group-query-attention", "contradicts --multi-latent-attention")
        model["mla"] = {
            "q_lora": given.number("q-lora-rank"), "kv_lora": given.number("kv-lora-rank", 32),
            "qk_nope_head_dim": given.number("qk-head-dim", 128),
            "qk_rope_head_dim": given.number("qk-pos-emb-head-dim", 64), "v_head_dim": given.number("v-head-dim", 128),
        }  # fmt: skip
    elif (width := given.number("kv-channels")) is not None:
        model["head_dim"] = width
    ffn = given.number("ffn-hidden-size", int(4 * hidden * 2 / 3 / 64) * 64 if gated else 4 * hidden)
    model |= {"ffn": ffn, "gated_ffn": gated}
    if (vocab := given.number("vocab-size")) is not None:
        model["vocab"] = vocab
    model["tied_embeddings"] = not given.has("untie-embeddings-and-output-weights")
    rope = given.has("use-rotary-position-embeddings")
    positions = given.text("position-embedding-type", "rope" if rope else "learned_absolute", tuple(POSITIONS))
    model["positions"] = POSITIONS["rope" if rope else str(positions)]
    rows = given.number("max-position-embeddings", sequence)
    if model["positions"] == "learned":
        model["max_positions"] = rows
    model["norm"] = NORMS[str(given.text("normalization", "LayerNorm", tuple(NORMS)))]
    if given.has("qk-layernorm"):
        model["qk_norm"] = "head"
    if given.text("softmax-type", "vanilla", ("vanilla", "learnable")) == "learnable":
        model["attention_sinks"] = True
    if (window := _window(given)) is not None:
        model["sliding_window"] = window
    if layers_ahead := given.number("mtp-num-layers", low=0):
        model["mtp_layers"] = layers_ahead
    moe = _moe(given, carried, int(ffn or 0), layers)
    if moe is not None:
        model["moe"] = moe
        if moe.get("dense_layers", 0) == 0 and moe.get("every", 1) == 1 and not given.has("ffn-hidden-size"):
            del model["ffn"]
    model["biases"] = _biases(given, model)
    return model


def _window(given: Given) -> dict[str, Any] | None:
    text, every = given.text("window-size"), given.number("window-attn-skip-freq")
    if text is None:
        return None
    found = re.fullmatch(r"\(?(\d{1,9}), ?0\)?", text)
    if found is None:
        raise given.wrong("window-size", f"{text}: a window to the left, as in 1023,0, is wanted")
    window: dict[str, Any] = {"window": int(found.group(1)) + 1}
    if every is not None:
        if every < 2:
            raise given.wrong("window-attn-skip-freq", f"{every}: at least 2 is wanted")
        window["local"] = every - 1
    return window


def _biases(given: Given, model: Mapping[str, Any]) -> dict[str, bool]:
    linear, moe = not given.has("disable-bias-linear"), model.get("moe")
    dense = "ffn" in model
    qkv = given.has("add-qkv-bias") or linear
    on = {"qkv": qkv, "attn_out": linear, "mlp": linear and dense, "router": linear and moe is not None,
          "experts": linear and moe is not None}  # fmt: skip
    return {name: value for name, value in on.items() if value}


def _moe(given: Given, carried: Mapping[str, Any], ffn: int, layers: int) -> dict[str, Any] | None:
    experts = given.number("num-experts", low=0)
    if not experts:
        return None
    given.has("moe-grouped-gemm"), given.has("moe-router-pre-softmax"), given.has("moe-router-score-function")
    moe: dict[str, Any] = {
        "experts": experts, "top_k": given.number("moe-router-topk", 2), "expert_ffn": given.number("moe-ffn-hidden-size", ffn)
    }  # fmt: skip
    if width := given.number("moe-shared-expert-intermediate-size", low=0):
        moe |= {"shared_experts": carried.get("model.moe.shared_experts", 1), "shared_expert_ffn": width}
    elif "model.moe.shared_experts" in carried:
        raise SpecError("a comment has model.moe.shared_experts, the arguments no --moe-shared-expert-intermediate-size")
    if given.has("moe-shared-expert-gate"):
        moe["shared_expert_gate"] = True
    if (pattern := given.text("moe-layer-freq")) is not None:
        moe |= _layers(given, pattern, layers)
    if given.has("moe-router-enable-expert-bias"):
        moe["router_score_bias"] = True
    if (factor := given.text("moe-expert-capacity-factor")) is not None:
        if not re.fullmatch(r"\d{1,3}(\.\d{1,9})?", factor):
            raise given.wrong("moe-expert-capacity-factor", f"{factor}: a number above 0 is wanted")
        if not given.has("moe-pad-expert-input-to-capacity"):
            raise given.wrong("moe-expert-capacity-factor", "without --moe-pad-expert-input-to-capacity: a spec has static ones")
        moe["capacity_factor"] = float(factor)
    if "model.moe.imbalance" in carried:
        moe["imbalance"] = carried["model.moe.imbalance"]
    return moe


def _layers(given: Given, pattern: str, layers: int) -> dict[str, Any]:
    """Which layers are MoE: `N`, every N-th from the first on, or a list like ([0]*3+[1]*58)."""
    if re.fullmatch(r"\d{1,4}", pattern):
        every = int(pattern)
        if every == 1:
            return {}
        raise given.wrong("moe-layer-freq", f"{pattern}: a spec's groups end with the MoE layer; write the list")
    kinds = _unrolled(given, pattern, layers)
    moe = [at for at, kind in enumerate(kinds) if kind]
    if moe:
        every = moe[1] - moe[0] if len(moe) > 1 else layers - moe[0]
        first = moe[0] - every + 1  # the dense layers before the first group
        if first >= 0 and moe == list(range(moe[0], layers, every)):
            return {**({"every": every} if every > 1 else {}), **({"dense_layers": first} if first else {})}
    raise given.wrong("moe-layer-freq", f"{pattern[:60]}: no number of dense layers and distance between MoE layers gives this")


def _unrolled(given: Given, pattern: str, layers: int) -> list[int]:
    """Sums of lists with factors, one level of brackets: [0]*3+[1]*58, ([0]+[1])*4."""
    text = pattern.replace(" ", "")
    item = r"\[[01](?:,[01])*\](?:\*\d{1,5})?"
    whole = re.fullmatch(rf"\(({item}(?:\+{item})*)\)(?:\*(\d{{1,5}}))?|({item}(?:\+{item})*)", text)
    if whole is None or len(text) > 20_000:
        raise given.wrong("moe-layer-freq", f"{pattern[:60]}: a list like ([0]*3+[1]*58) is wanted")
    kinds: list[int] = []
    for found in re.finditer(r"\[([01,]+)\](?:\*(\d+))?", whole.group(1) or whole.group(3)):
        kinds += [int(one) for one in found.group(1).split(",")] * min(int(found.group(2) or 1), layers + 1)
        if len(kinds) > layers:
            break
    times = int(whole.group(2) or 1)
    if len(kinds) * times != layers:
        raise given.wrong("moe-layer-freq", f"{pattern[:60]}: does not have one entry for each of the {layers} layers")
    return kinds * times
