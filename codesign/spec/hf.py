"""Read a Hugging Face `config.json` offline into the fields of `schema.Model`. No code of a model repository is run.

Each family is a short function from the file's keys to our fields. What a family's code fixes without saying it in the
file, and what the file leaves out, is said in the notes. A key that would change the shape and that the family's
reader did not look at is refused: nothing is accepted and ignored.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codesign.errors import SpecError

_MAX_FILE_B = 2_000_000  # a configuration is 1 to 10 kB; label tables make the largest about 200 kB
_LARGEST = 10**9
_REQUIRED = object()

# Keys that change the shape or the work of a layer. Set and not looked at by the family's reader: refused.
_SHAPE_KEYS = (
    "add_cross_attention", "alibi", "attention_bias", "attention_chunk_size", "attn_output_gate", "block_configs",
    "cross_attention_layers", "decoder_sparse_step", "head_dim", "hybrid_override_pattern", "intermediate_size_mlp",
    "is_encoder_decoder", "kv_lora_rank", "layer_types", "layers_block_type", "linear_num_value_heads", "mlp_bias",
    "mlp_only_layers", "moe_intermediate_size", "moe_layer_freq", "multi_query", "n_routed_experts", "n_shared_experts",
    "num_experts", "num_key_value_heads", "num_kv_heads", "num_local_experts", "num_nextn_predict_layers",
    "parallel_attn", "q_lora_rank", "qk_layernorm", "shared_expert_intermediate_size", "sliding_window", "ssm_cfg",
    "state_size", "use_bias", "use_parallel_residual", "use_qk_norm",
)

_STATE_SPACE = "has state-space (Mamba) layers"
_RECURRENT = "has recurrent layers"
_LINEAR = "has linear-attention layers"
_SPARSE = "has sparse-attention layers"
_VISION = "is a vision model without a text decoder"
_ENCODER = "is an encoder"
_CROSS = "is an encoder-decoder"
_UNSUPPORTED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "zamba", "zamba2", "bamba", "nemotron_h", "falcon_h1",
                     "granitemoehybrid", "plamo2"), _STATE_SPACE),
    **dict.fromkeys(("recurrent_gemma", "xlstm"), _RECURRENT),
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe", "minimax", "minimax_text_01", "rwkv", "kimi_linear",
                     "bailing_moe_linear", "lfm2", "retnet"), _LINEAR),
    **dict.fromkeys(("deepseek_v32", "deepseek_v4", "glm_moe_dsa"), _SPARSE),
    **dict.fromkeys(("vit", "clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "dinov3_vit",
                     "convnext", "convnextv2", "swin", "swinv2", "deit", "beit", "resnet", "sam", "detr"), _VISION),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "albert", "electra", "deberta", "deberta-v2", "distilbert",
                     "modernbert", "camembert", "mpnet", "nomic_bert", "wav2vec2", "hubert"), _ENCODER),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "bart", "mbart", "pegasus", "marian", "m2m_100", "whisper", "led",
                     "switch_transformers", "t5gemma", "encoder-decoder"), _CROSS),
}
_LAYER_KINDS = {"mamba": "state-space (Mamba)", "linear_attention": "linear attention"}


class _Config:
    """The keys of one file, read with their type checked; remembers what was looked at and what was inferred."""

    def __init__(self, file: Path, data: dict[str, Any], inside: str, notes: list[str]) -> None:
        self.file, self.data, self.inside, self.notes = file, data, inside, notes
        self.looked_at: set[str] = set()

    def error(self, key: str, message: str) -> SpecError:
        return SpecError(f"{self.file}: {self.inside}{key}: {message}", field="model.hf")

    def raw(self, key: str) -> Any:
        self.looked_at.add(key)
        return self.data.get(key)

    def count(self, *keys: str, default: Any = _REQUIRED, why: str = "", least: int = 1) -> Any:
        """The first of `keys` that is set, a whole number; `default` (noted with `why`) where none is."""
        for key in keys:
            value = self.raw(key)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
                raise self.error(key, f"{_short(value)} is not a whole number from {least} to {_LARGEST}")
            return value
        if default is _REQUIRED:
            raise self.error(keys[0], "missing" + (f" (nor is {' or '.join(keys[1:])})" if keys[1:] else ""))
        if why:
            self.note(keys[0], why)
        return default

    def flag(self, key: str, default: bool, *, silent: bool = False) -> bool:
        """A true/false key; the family's default, noted, where it is missing."""
        value = self.raw(key)
        if value is None:
            if not silent:
                self.note(key, f"{str(default).lower()}, the family's default")
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"{_short(value)} is neither true nor false")
        return value

    def refuse_flag(self, key: str, what: str) -> None:
        if self.flag(key, False, silent=True):
            raise self.error(key, f"{what} is not supported")

    def note(self, key: str, why: str) -> None:
        self.notes.append(f"{self.inside}{key} missing: {why}")

    def family_note(self, what: str) -> None:
        self.notes.append(f"{what} from the family's code, not in the file")


Family = Callable[[_Config], dict[str, Any]]


def read(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Fields of `schema.Model` and notes on what was inferred, from a `config.json` (or the folder that holds one).

    Raises SpecError, naming the file and the key, for anything that is not a supported decoder-only transformer.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    return parse(_text(file), file)


def parse(text: str, file: str | Path) -> tuple[dict[str, Any], list[str]]:
    """As `read`, from the text of a `config.json`; `file` names it in messages and is not opened."""
    file = Path(file)
    data, inside = _load(file, text), ""
    notes: list[str] = []
    outer_type = _model_type(file, data, "")
    if isinstance(data.get("text_config"), dict):
        if outer_type in _UNSUPPORTED:
            raise _refusal(file, "model_type", outer_type)
        outer, data, inside = data, data["text_config"], "text_config."
        if data.get("tie_word_embeddings") is None and outer.get("tie_word_embeddings") is not None:
            data = {**data, "tie_word_embeddings": outer["tie_word_embeddings"]}
        notes.append(f"text part of a multimodal {outer_type} file: the other parts are left out")
        outer_type = _model_type(file, data, inside)
    family_name = outer_type.removesuffix("_text")
    if family_name in _UNSUPPORTED:
        raise _refusal(file, f"{inside}model_type", family_name)
    if family_name not in FAMILIES:
        raise _unknown(file, f"{inside}model_type", outer_type)
    config = _Config(file, data, inside, notes)
    fields = {"name": family_name, **FAMILIES[family_name](config)}
    _check_unread(config, family_name)
    return fields, notes


def supported() -> list[str]:
    """The model types that can be read."""
    return sorted(FAMILIES)


# ---------------------------------------------------------------------------------------------------- the file


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            raise SpecError(f"{file}: no such file", field="model.hf")
        size = file.stat().st_size
        if size > _MAX_FILE_B:
            raise SpecError(f"{file}: {size} bytes; a config.json has at most {_MAX_FILE_B}", field="model.hf")
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise SpecError(f"{file}: cannot be read ({error.strerror})", field="model.hf") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file}: not UTF-8 text", field="model.hf") from None


def _load(file: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise SpecError(f"{file}: nested too deeply", field="model.hf") from None
    except json.JSONDecodeError as error:
        raise SpecError(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}", field="model.hf") from None
    except ValueError as error:
        raise SpecError(f"{file}: not a usable JSON file: {str(error)[:120]}", field="model.hf") from None
    if not isinstance(data, dict):
        raise SpecError(f"{file}: a config.json is an object, this is {type(data).__name__}", field="model.hf")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} is written twice")
    return table


def _model_type(file: Path, data: dict[str, Any], inside: str) -> str:
    name = data.get("model_type")
    if isinstance(name, str) and name:
        return name[:80]
    what = "missing" if name is None else f"{_short(name)} is not text"
    raise SpecError(f"{file}: {inside}model_type: {what}. Supported: {', '.join(supported())}", field="model.hf")


def _refusal(file: Path, key: str, name: str) -> SpecError:
    return SpecError(f"{file}: {key}: {name!r} {_UNSUPPORTED[name]}, which is not supported: only decoder-only "
                     "transformers with softmax attention are", field="model.hf")


def _unknown(file: Path, key: str, name: str) -> SpecError:
    near = difflib.get_close_matches(name, supported(), 1, 0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SpecError(f"{file}: {key}: unknown family {name!r}.{hint} Supported: {', '.join(supported())}. "
                     "Other shapes can be written out field by field", field="model.hf")


def _check_unread(config: _Config, family: str) -> None:
    for key in _SHAPE_KEYS:
        value = config.data.get(key)
        if key in config.looked_at or value is None or value is False or value == 0 or value == []:
            continue
        raise config.error(key, f"{_short(value)} is not understood for family {family!r}")


def _short(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**40:
        return "a number of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------------------------------------------- shared pieces


def _shape(c: _Config, *, tied: bool) -> dict[str, Any]:
    """Widths that most families name alike; `tied` is the family's default."""
    hidden, heads = c.count("hidden_size"), c.count("num_attention_heads")
    return {
        "layers": c.count("num_hidden_layers"), "hidden": hidden, "heads": heads, "vocab": c.count("vocab_size"),
        "kv_heads": c.count("num_key_value_heads", default=heads, why="MHA assumed"),
        "head_dim": c.count("head_dim", default=None) or _head_dim(c, hidden, heads),
        "tied_embeddings": c.flag("tie_word_embeddings", tied),
    }


def _head_dim(c: _Config, hidden: int, heads: int) -> int:
    if hidden % heads:
        raise c.error("head_dim", f"missing, and hidden size {hidden} is not a multiple of {heads} heads")
    return hidden // heads


def _attention_biases(c: _Config, default: bool = False) -> dict[str, bool]:
    on = c.flag("attention_bias", default, silent=not default)
    return {"qkv": on, "attn_out": on}


def _all_biases(on: bool) -> dict[str, bool]:
    return {"qkv": on, "attn_out": on, "mlp": on}


def _window(c: _Config, local: int | None) -> dict[str, int | None] | None:
    """The sliding window and how many windowed layers come before each global one; `layer_types` decides if given."""
    window, kinds = c.count("sliding_window", default=None), c.raw("layer_types")
    if kinds is None:
        if window is None:
            return None
        if local is not None:
            c.note("layer_types", f"{local} windowed layer{'s' if local > 1 else ''} before each global one, as the "
                                  "family's code does")
        return {"window": window, "local": local}
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise c.error("layer_types", "is not a list of names")
    for kind in kinds:
        if kind not in ("sliding_attention", "full_attention"):
            raise c.error("layer_types", f"{_LAYER_KINDS.get(kind, kind)!r} layers are not supported: only "
                                         "'sliding_attention' and 'full_attention' are")
    layers = c.count("num_hidden_layers", "n_layer")
    if len(kinds) != layers:
        raise c.error("layer_types", f"{len(kinds)} entries for {layers} layers")
    if "sliding_attention" not in kinds:
        return None
    if window is None:
        raise c.error("sliding_window", "missing, though layer_types has windowed layers")
    if "full_attention" not in kinds:
        return {"window": window, "local": None}
    run = kinds.index("full_attention")
    if any((kind == "sliding_attention") != (i % (run + 1) < run) for i, kind in enumerate(kinds)):
        raise c.error("layer_types", "is not a repeated pattern of windowed layers and then one global layer")
    return {"window": window, "local": run}


def _qwen_window(c: _Config) -> dict[str, int | None] | None:
    """Qwen's `sliding_window` counts only where `use_sliding_window` is set, and only from `max_window_layers` up."""
    if not c.flag("use_sliding_window", False, silent=True):
        c.looked_at.update(("sliding_window", "layer_types"))
        return None
    first = c.count("max_window_layers", default=0, least=0)
    if first >= c.count("num_hidden_layers"):
        c.looked_at.update(("sliding_window", "layer_types"))
        return None
    if first:
        raise c.error("max_window_layers", f"a window from layer {first} on is not supported (all layers or none are)")
    return _window(c, None)


def _llama_like(c: _Config, *, tied: bool = False, window_local: int | None = None) -> dict[str, Any]:
    """RMSNorm, rotary positions, gated FFN: the skeleton of most families."""
    fields = _shape(c, tied=tied)
    fields["ffn"] = c.count("intermediate_size")
    fields["biases"] = _attention_biases(c)
    window = _window(c, window_local)
    return {**fields, "sliding_window": window} if window else fields


# ---------------------------------------------------------------------------------------------------- the families


def _llama(c: _Config) -> dict[str, Any]:
    fields = _llama_like(c)
    fields["biases"] = {**fields["biases"], "mlp": c.flag("mlp_bias", False, silent=True)}
    return fields


def _gemma(c: _Config) -> dict[str, Any]:
    return _llama_like(c, tied=True)


def _gemma2(c: _Config) -> dict[str, Any]:
    c.family_note("four norms a layer")
    return {**_llama_like(c, tied=True, window_local=1), "norms_per_layer": 4}


def _gemma3(c: _Config) -> dict[str, Any]:
    c.family_note("four norms a layer and the norm of queries and keys")
    if c.raw("vocab_size") is None:
        c.note("vocab_size", "262208, the family's default")
        c.data = {**c.data, "vocab_size": 262208}
    pattern = c.count("sliding_window_pattern", default=6, least=2)
    return {**_llama_like(c, tied=True, window_local=pattern - 1), "norms_per_layer": 4, "qk_norm": "head"}


def _qwen2(c: _Config) -> dict[str, Any]:
    fields = _shape(c, tied=False)
    c.family_note("biases of query, key and value")
    fields.update(ffn=c.count("intermediate_size"), biases={"qkv": True})
    window = _qwen_window(c)
    return {**fields, "sliding_window": window} if window else fields


def _qwen3(c: _Config) -> dict[str, Any]:
    fields = _shape(c, tied=False)
    c.family_note("norm of queries and keys")
    fields.update(ffn=c.count("intermediate_size"), biases=_attention_biases(c), qk_norm="head")
    window = _qwen_window(c)
    return {**fields, "sliding_window": window} if window else fields


def _sparse_layers(c: _Config) -> dict[str, int]:
    """Which layers of a Qwen MoE are dense: `decoder_sparse_step` and `mlp_only_layers`."""
    every, dense = c.count("decoder_sparse_step", default=1), c.raw("mlp_only_layers") or []
    if not isinstance(dense, list) or any(isinstance(i, bool) or not isinstance(i, int) for i in dense):
        raise c.error("mlp_only_layers", "is not a list of layer numbers")
    if sorted(dense) != list(range(len(dense))) or (dense and every > 1):
        raise c.error("mlp_only_layers", f"{_short(dense)}: only leading dense layers are supported")
    return {"dense_layers": len(dense), "every": every}


def _qwen_moe(c: _Config, fields: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    sparse = _sparse_layers(c)
    if not (sparse["dense_layers"] or sparse["every"] > 1):
        fields.pop("ffn")
    moe = {"experts": c.count("num_experts", least=2), "top_k": c.count("num_experts_per_tok"),
           "expert_ffn": c.count("moe_intermediate_size"), **sparse, **extra}
    return {**fields, "moe": moe}


def _qwen2_moe(c: _Config) -> dict[str, Any]:
    fields = _qwen2(c)
    c.family_note("gate of the shared expert")
    width = c.count("shared_expert_intermediate_size")
    return _qwen_moe(c, fields, {"shared_experts": 1, "shared_expert_ffn": width, "shared_expert_gate": True})


def _qwen3_moe(c: _Config) -> dict[str, Any]:
    return _qwen_moe(c, _qwen3(c), {})


def _mixtral(c: _Config) -> dict[str, Any]:
    fields = _llama_like(c)
    width = fields.pop("ffn")
    moe = {"experts": c.count("num_local_experts", least=2), "top_k": c.count("num_experts_per_tok")}
    return {**fields, "moe": {**moe, "expert_ffn": width}}


def _gpt_oss(c: _Config) -> dict[str, Any]:
    fields = _shape(c, tied=False)
    c.family_note("biases of router and experts, one attention sink a head")
    moe = {"experts": c.count("num_local_experts", least=2), "expert_ffn": c.count("intermediate_size"),
           "top_k": c.count("num_experts_per_tok", "experts_per_token")}
    return {**fields, "biases": {**_attention_biases(c, True), "router": True, "experts": True}, "moe": moe,
            "attention_sinks": True, "sliding_window": _window(c, 1)}


def _deepseek(c: _Config, score_bias: bool) -> dict[str, Any]:
    c.refuse_flag("attention_bias", "a bias in MLA projections")
    c.looked_at.update(("num_key_value_heads", "head_dim"))  # MLA has its own
    fields = {**_shape_mha(c), "tied_embeddings": c.flag("tie_word_embeddings", False)}
    fields["mla"] = {
        "q_lora": c.count("q_lora_rank", default=None), "kv_lora": c.count("kv_lora_rank"),
        "qk_nope_head_dim": c.count("qk_nope_head_dim"), "qk_rope_head_dim": c.count("qk_rope_head_dim", least=0),
        "v_head_dim": c.count("v_head_dim"),
    }
    fields["ffn"] = c.count("intermediate_size")
    fields["mtp_layers"] = c.count("num_nextn_predict_layers", default=0, least=0)
    if c.raw("n_routed_experts") is None:
        return fields
    if c.count("moe_layer_freq", default=1) != 1:
        raise c.error("moe_layer_freq", "only 1 is supported")
    if score_bias:
        c.family_note("one balancing bias an expert")
    fields["moe"] = {
        "experts": c.count("n_routed_experts", least=2), "top_k": c.count("num_experts_per_tok"),
        "expert_ffn": c.count("moe_intermediate_size"), "router_score_bias": score_bias,
        "shared_experts": c.count("n_shared_experts", default=0, least=0),
        "dense_layers": c.count("first_k_dense_replace", default=0, least=0),
    }
    if not fields["moe"]["dense_layers"]:
        fields.pop("ffn")
    return fields


def _deepseek_v2(c: _Config) -> dict[str, Any]:
    return _deepseek(c, score_bias=False)


def _deepseek_v3(c: _Config) -> dict[str, Any]:
    return _deepseek(c, score_bias=c.raw("topk_method") in (None, "noaux_tc"))


def _gpt2(c: _Config) -> dict[str, Any]:
    c.refuse_flag("add_cross_attention", "cross-attention")
    hidden = c.count("n_embd", "hidden_size")
    c.family_note("biases of every linear layer")
    return {
        "layers": c.count("n_layer", "num_hidden_layers"), "hidden": hidden,
        "heads": c.count("n_head", "num_attention_heads"),
        "ffn": c.count("n_inner", default=4 * hidden, why="4 x hidden size"), "gated_ffn": False,
        "vocab": c.count("vocab_size"), "tied_embeddings": c.flag("tie_word_embeddings", True), "positions": "learned",
        "max_positions": c.count("n_positions", "max_position_embeddings"), "norm": "layernorm",
        "biases": _all_biases(True),
    }


def _gpt_bigcode(c: _Config) -> dict[str, Any]:
    fields = _gpt2(c)
    return {**fields, "kv_heads": 1 if c.flag("multi_query", True) else fields["heads"]}


def _gpt_neox(c: _Config) -> dict[str, Any]:
    fields = _shape_mha(c)
    biases = _attention_biases(c, True)
    c.family_note("biases of the feed-forward layers")
    return {
        **fields, "ffn": c.count("intermediate_size"), "gated_ffn": False, "norm": "layernorm",
        "tied_embeddings": c.flag("tie_word_embeddings", False), "biases": {**biases, "mlp": True},
        "parallel_block": c.flag("use_parallel_residual", True),
    }


def _shape_mha(c: _Config) -> dict[str, Any]:
    return {
        "layers": c.count("num_hidden_layers", "n_layer"), "hidden": c.count("hidden_size", "n_embed"),
        "heads": c.count("num_attention_heads", "n_head"), "vocab": c.count("vocab_size"),
    }


def _bloom(c: _Config) -> dict[str, Any]:
    fields = _shape_mha(c)
    c.family_note("feed-forward width 4 x hidden size, biases of every linear layer, norm of the embedding, ALiBi")
    return {
        **fields, "ffn": 4 * fields["hidden"], "gated_ffn": False, "positions": "alibi", "norm": "layernorm",
        "embedding_norm": True, "tied_embeddings": c.flag("tie_word_embeddings", True), "biases": _all_biases(True),
    }


def _mpt(c: _Config) -> dict[str, Any]:
    attention = c.raw("attn_config")
    attention = {} if attention is None else attention
    if not isinstance(attention, dict):
        raise c.error("attn_config", f"{_short(attention)} is not an object")
    inner = _Config(c.file, attention, f"{c.inside}attn_config.", c.notes)
    inner.refuse_flag("qk_ln", "the norm of queries and keys of MPT")
    hidden, heads = c.count("d_model"), c.count("n_heads")
    bias = not c.flag("no_bias", True)
    alibi = inner.flag("alibi", False)
    learned = not alibi and c.flag("learned_pos_emb", True)
    fields = {
        "layers": c.count("n_layers"), "hidden": hidden, "heads": heads,
        "kv_heads": inner.count("kv_n_heads", default=heads), "vocab": c.count("vocab_size"),
        "ffn": c.count("expansion_ratio", default=4, why="4") * hidden, "gated_ffn": False,
        "positions": "alibi" if alibi else "learned" if learned else "none",
        "norm": "layernorm" if bias else "layernorm-nobias", "biases": _all_biases(bias),
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    }
    return {**fields, "max_positions": c.count("max_seq_len")} if learned else fields


def _falcon(c: _Config) -> dict[str, Any]:
    fields = _shape_mha(c)
    bias, new = c.flag("bias", False), c.flag("new_decoder_architecture", False)
    if new:
        kv_heads = c.count("num_kv_heads", default=fields["heads"], why="MHA assumed")
        c.looked_at.update(("multi_query", "parallel_attn"))  # without effect in the new decoder
        parallel = True
        norms = c.count("num_ln_in_parallel_attn", default=2)
    else:
        c.looked_at.add("num_kv_heads")  # without effect in the old decoder
        kv_heads = 1 if c.flag("multi_query", True) else fields["heads"]
        parallel = c.flag("parallel_attn", True)
        norms = 1 if parallel else 2
    c.notes.append(f"{norms} norm{'s' if norms > 1 else ''} a layer, from the decoder's kind")
    return {
        **fields, "kv_heads": kv_heads, "gated_ffn": False,
        "ffn": c.count("ffn_hidden_size", default=4 * fields["hidden"], why="4 x hidden size"),
        "norm": "layernorm", "norms_per_layer": norms, "parallel_block": parallel,
        "positions": "alibi" if c.flag("alibi", False) else "rotary", "biases": _all_biases(bias),
        "tied_embeddings": c.flag("tie_word_embeddings", True),
    }


def _phi(c: _Config) -> dict[str, Any]:
    c.refuse_flag("qk_layernorm", "the norm of queries and keys of Phi")
    fields = _shape(c, tied=False)
    c.family_note("biases of every linear layer and of the head, one norm a layer")
    return {
        **fields, "ffn": c.count("intermediate_size"), "gated_ffn": False, "norm": "layernorm", "norms_per_layer": 1,
        "parallel_block": True, "biases": {**_all_biases(True), "head": True},
    }


def _olmo(c: _Config) -> dict[str, Any]:
    c.family_note("norms without parameters")
    return {**_llama_like(c), "norm": "nonparametric"}


def _olmo2(c: _Config) -> dict[str, Any]:
    c.family_note("norm over all queries and keys")
    return {**_llama_like(c), "qk_norm": "full"}


def _olmoe(c: _Config) -> dict[str, Any]:
    fields = _olmo2(c)
    width = fields.pop("ffn")
    moe = {"experts": c.count("num_experts", least=2), "top_k": c.count("num_experts_per_tok"), "expert_ffn": width}
    return {**fields, "moe": moe}


def _starcoder2(c: _Config) -> dict[str, Any]:
    fields = _shape(c, tied=True)
    window = _window(c, None)
    fields.update(ffn=c.count("intermediate_size"), gated_ffn=False, norm="layernorm",
                  biases=_all_biases(c.flag("use_bias", True)))
    return {**fields, "sliding_window": window} if window else fields


FAMILIES: dict[str, Family] = {
    "llama": _llama, "mistral": _llama_like, "mixtral": _mixtral, "qwen2": _qwen2, "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3, "qwen3_moe": _qwen3_moe, "gemma": _gemma, "gemma2": _gemma2, "gemma3": _gemma3,
    "deepseek_v2": _deepseek_v2, "deepseek_v3": _deepseek_v3, "kimi_k2": _deepseek_v3, "gpt_oss": _gpt_oss,
    "gpt2": _gpt2, "gpt_bigcode": _gpt_bigcode, "gpt_neox": _gpt_neox, "bloom": _bloom, "mpt": _mpt, "falcon": _falcon,
    "phi": _phi, "phi3": _llama_like, "olmo": _olmo, "olmo2": _olmo2, "olmoe": _olmoe, "starcoder2": _starcoder2,
}
