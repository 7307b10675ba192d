"""Hugging Face configurations: public files count to the published number; hostile and unsupported ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import SpecError
from codesign.quantities.parameters import count_parameters
from codesign.spec import hf, presets, schema

CONFIGS = sorted((Path(__file__).parent / "hf_configs").glob("*.json"))
LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "tie_word_embeddings": False}
GPT_OSS = {**LLAMA, "model_type": "gpt_oss", "num_hidden_layers": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
           "sliding_window": 16, "attention_bias": True}


def written(folder: Path, content: dict[str, Any] | str | bytes) -> Path:
    file = folder / "config.json"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def refusal(folder: Path, content: dict[str, Any] | str | bytes) -> str:
    file = written(folder, content)
    with pytest.raises(SpecError) as caught:
        hf.read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(file))


# ---------------------------------------------------------------------------------------------------- public files


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_public_configuration_counts_as_published(file: Path) -> None:
    fields, _ = hf.read(file)
    found = count_parameters(schema.Model(**fields))
    assert found == count_parameters(schema.Model(**presets.load(file.stem)))
    published = presets.describe(file.stem)["published_parameters"]
    assert published["total"] in (None, found.total)
    assert published["active"] in (None, found.active_with_embeddings)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_public_configuration_is_the_preset_field_by_field(file: Path) -> None:
    def plain(fields: dict[str, Any]) -> dict[str, Any]:
        model = schema.Model(**fields)
        head_dim = model.head_dim or model.hidden // model.heads
        defaults = {"kv_heads": model.kv_heads or model.heads, "head_dim": head_dim}
        return {**model.model_dump(), **defaults, "name": ""}

    assert plain(hf.read(file)[0]) == plain(presets.load(file.stem))


def test_every_family_has_a_public_configuration() -> None:
    tested = {hf.read(file)[0]["name"] for file in CONFIGS}
    assert set(hf.supported()) - tested == {"gemma"}  # gemma 1: gemma 2 without its norms and windows


# ---------------------------------------------------------------------------------------------------- what is inferred


@pytest.mark.parametrize(("change", "note"), [
    ({"num_key_value_heads": None}, "num_key_value_heads missing: MHA assumed"),
    ({"tie_word_embeddings": None}, "tie_word_embeddings missing: false, the family's default"),
    ({"model_type": "qwen2"}, "biases of query, key and value from the family's code, not in the file"),
    ({"model_type": "gemma2"}, "four norms a layer from the family's code, not in the file"),
    ({"model_type": "olmo"}, "norms without parameters from the family's code, not in the file"),
])
def test_what_is_inferred_is_said(tmp_path: Path, change: dict[str, Any], note: str) -> None:
    assert note in hf.read(written(tmp_path, {**LLAMA, **change}))[1]


def test_a_complete_file_needs_no_note(tmp_path: Path) -> None:
    assert hf.read(written(tmp_path, LLAMA))[1] == []


def test_a_folder_stands_for_its_config(tmp_path: Path) -> None:
    written(tmp_path, LLAMA)
    assert hf.read(tmp_path) == hf.read(tmp_path / "config.json")


def test_text_part_of_a_multimodal_file(tmp_path: Path) -> None:
    outer = {"model_type": "mistral3", "tie_word_embeddings": True, "vision_config": {"model_type": "pixtral"},
             "text_config": {k: v for k, v in {**LLAMA, "model_type": "mistral"}.items() if k[:3] != "tie"}}
    fields, notes = hf.read(written(tmp_path, outer))
    assert fields["tied_embeddings"] is True
    assert notes[0] == "text part of a multimodal mistral3 file: the other parts are left out"


@pytest.mark.parametrize(("kinds", "window"), [
    (["sliding_attention", "full_attention"] * 2, {"window": 16, "local": 1}),
    (["sliding_attention"] * 3 + ["full_attention"], {"window": 16, "local": 3}),
    (["sliding_attention"] * 4, {"window": 16, "local": None}),
    (["full_attention"] * 4, None),
])
def test_layer_types_decide_the_windows(tmp_path: Path, kinds: list[str], window: object) -> None:
    assert hf.read(written(tmp_path, {**GPT_OSS, "layer_types": kinds}))[0]["sliding_window"] == window


@pytest.mark.parametrize(("change", "dense", "every"), [
    ({"mlp_only_layers": [0]}, 1, 1), ({"decoder_sparse_step": 2}, 0, 2), ({}, 0, 1),
])
def test_dense_layers_of_a_moe(tmp_path: Path, change: dict[str, Any], dense: int, every: int) -> None:
    config = {**LLAMA, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
              "moe_intermediate_size": 32, **change}
    moe = hf.read(written(tmp_path, config))[0]["moe"]
    assert (moe["dense_layers"], moe["every"]) == (dense, every)


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("model_type", "why"), [
    ("mamba", "has state-space (Mamba) layers"), ("jamba", "has state-space (Mamba) layers"),
    ("nemotron_h", "has state-space (Mamba) layers"),
    ("recurrent_gemma", "has recurrent layers"), ("qwen3_next", "has linear-attention layers"),
    ("minimax", "has linear-attention layers"), ("qwen3_5_moe", "has linear-attention layers"),
    ("deepseek_v32", "has sparse-attention layers"), ("vit", "is a vision model without a text decoder"),
    ("siglip", "is a vision model without a text decoder"), ("t5", "is an encoder-decoder"),
    ("whisper", "is an encoder-decoder"), ("bert", "is an encoder"),
])
def test_unsupported_kinds_are_refused_by_name(tmp_path: Path, model_type: str, why: str) -> None:
    assert refusal(tmp_path, {**LLAMA, "model_type": model_type}) == (
        f": model_type: {model_type!r} {why}, which is not supported: only decoder-only transformers with softmax "
        "attention are")


def test_unsupported_text_part_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"model_type": "qwen3_5", "text_config": {**LLAMA, "model_type": "qwen3_5_text"}})
    assert message.startswith(": model_type: 'qwen3_5' has linear-attention layers")
    message = refusal(tmp_path, {"model_type": "blip", "text_config": {**LLAMA, "model_type": "bert"}})
    assert message.startswith(": text_config.model_type: 'bert' is an encoder")


def test_unknown_family_lists_the_known_ones(tmp_path: Path) -> None:
    message = refusal(tmp_path, {**LLAMA, "model_type": "lama"})
    assert message.startswith(": model_type: unknown family 'lama'. Did you mean 'llama'? Supported: bloom, deepseek")


@pytest.mark.parametrize(("change", "message"), [
    ({"hidden_size": None}, "hidden_size: missing"),
    ({"hidden_size": "4096"}, "hidden_size: '4096' is not a whole number from 1 to 1000000000"),
    ({"hidden_size": True}, "hidden_size: True is not a whole number from 1 to 1000000000"),
    ({"hidden_size": 64.5}, "hidden_size: 64.5 is not a whole number from 1 to 1000000000"),
    ({"hidden_size": -64}, "hidden_size: -64 is not a whole number from 1 to 1000000000"),
    ({"vocab_size": 10**30}, f"vocab_size: {10**30} is not a whole number from 1 to 1000000000"),
    ({"vocab_size": [1] * 1000}, f"vocab_size: [{'1, ' * 18}1,... is not a whole number from 1 to 1000000000"),
    ({"num_hidden_layers": {}}, "num_hidden_layers: {} is not a whole number from 1 to 1000000000"),
    ({"num_attention_heads": 5}, "head_dim: missing, and hidden size 64 is not a multiple of 5 heads"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings: 'no' is neither true nor false"),
    ({"model_type": 7}, "model_type: 7 is not text. Supported: "),
    ({"model_type": None}, "model_type: missing. Supported: "),
    ({"num_local_experts": 8}, "num_local_experts: 8 is not understood for family 'llama'"),
    ({"use_qk_norm": True}, "use_qk_norm: True is not understood for family 'llama'"),
    ({"is_encoder_decoder": True}, "is_encoder_decoder: True is not understood for family 'llama'"),
    ({"layer_types": ["mamba", "full_attention"]}, "layer_types: 'state-space (Mamba)' layers are not supported"),
    ({"layer_types": ["full_attention"]}, "layer_types: 1 entries for 2 layers"),
    ({"layer_types": "full"}, "layer_types: is not a list of names"),
    ({"layer_types": ["sliding_attention"] * 2}, "sliding_window: missing, though layer_types has windowed layers"),
    ({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8},
     "layer_types: is not a repeated pattern of windowed layers and then one global layer"),
    ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
     "max_window_layers: a window from layer 1 on is not supported (all layers or none are)"),
    ({"model_type": "phi", "qk_layernorm": True}, "qk_layernorm: the norm of queries and keys of Phi is not supported"),
    ({"model_type": "mixtral"}, "num_local_experts: missing"),
    ({"model_type": "gpt2"}, "n_positions: missing (nor is max_position_embeddings)"),
    ({"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "attn_config": 3},
     "attn_config: 3 is not an object"),
    ({"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "attn_config": {"kv_n_heads": "two"}},
     "attn_config.kv_n_heads: 'two' is not a whole number from 1 to 1000000000"),
    ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
      "mlp_only_layers": [1]}, "mlp_only_layers: [1]: only leading dense layers are supported"),
    ({"model_type": "deepseek_v3"}, "kv_lora_rank: missing"),
])
def test_bad_key_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert refusal(tmp_path, {**LLAMA, **change}).startswith(f": {message}")


@pytest.mark.parametrize(("content", "message"), [
    ("", ":1:1: not JSON: Expecting value"),
    ('{"model_type": "llama",', ":1:24: not JSON: Expecting property name enclosed in double quotes"),
    ("[]", ": a config.json is an object, this is list"),
    ("7", ": a config.json is an object, this is int"),
    ('{"hidden_size": 1, "hidden_size": 2}', ": not a usable JSON file: key 'hidden_size' is written twice"),
    ('{"a": ' * 100_000, ": nested too deeply"),
    ('{"hidden_size": ' + "9" * 10_000 + "}", ": not a usable JSON file: Exceeds the limit"),
    (b"\xff\xfe\x00", ": not UTF-8 text"),
    (b" " * 2_000_001, ": 2000001 bytes; a config.json has at most 2000000"),
], ids=["empty", "truncated", "list", "number", "duplicate", "deep", "digits", "binary", "huge"])
def test_unusable_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(tmp_path, content).startswith(message)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(SpecError, match="no such file"):
            hf.read(path)


values = st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats() | st.text(max_size=5) | st.lists(
    st.integers(0, 3), max_size=3) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CONFIGS), st.data())
def test_any_change_of_one_key_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, file: Path, data: Any
) -> None:
    """Never another exception than SpecError, whatever a key holds."""
    config = json.loads(file.read_text())
    config[data.draw(st.sampled_from(sorted(config)))] = data.draw(values)
    path = tmp_path_factory.getbasetemp() / "mutated.json"
    path.write_text(json.dumps(config))
    try:
        fields, notes = hf.read(path)
    except SpecError:
        return
    assert fields["layers"] >= 1 and isinstance(notes, list)
