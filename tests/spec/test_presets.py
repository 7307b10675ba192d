"""Presets count to the published number of parameters: to the digit, or to the digits that were printed."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from codesign.errors import ProfileError
from codesign.quantities.parameters import ParameterCount, count_parameters
from codesign.spec import presets, schema

NAMES = presets.names()
SCALE = {"M": 6, "B": 9, "T": 12}
REQUIRED = [
    "gpt3-175b", "gpt2-xl", "gpt-neox-20b", "bloom-176b", "mt-nlg-530b", "palm-540b", "opt-175b", "llama-2-7b",
    "llama-2-13b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b",
    "mistral-7b", "mixtral-8x7b", "mixtral-8x22b", "qwen2-7b", "qwen2.5-72b", "qwen3-8b", "qwen3-32b",
    "qwen3-30b-a3b", "qwen3-235b-a22b", "deepseek-v2", "deepseek-v3", "kimi-k2", "moonlight-16b-a3b", "gpt-oss-20b",
    "gpt-oss-120b", "gemma-2-9b", "gemma-2-27b", "gemma-3-27b", "falcon-40b", "falcon-180b", "olmo-2-7b",
    "olmo-2-32b", "phi-3-mini", "phi-4", "mpt-7b", "mpt-30b", "grok-1-314b", "nemotron-4-340b", "nemotron-4-15b",
    "starcoder-15b",
]


def count(name: str) -> ParameterCount:
    return count_parameters(schema.Model(**presets.load(name)))


def tables(name: str) -> int:
    """Parameters of the vocabulary matrices."""
    model = presets.load(name)
    return (1 if model.get("tied_embeddings") else 2) * model["vocab"] * model["hidden"]


def printed_as(value: int, text: str) -> bool:
    """Whether `value` is `text` to its printed digits, rounded or cut: authors do both (37.55B is printed as 37B)."""
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?([MBT])", text)
    assert found, f"{text!r} is not a printed count"
    decimals = len(found[2] or "")
    step = 10 ** (SCALE[found[3]] - decimals)
    digits = int(found[1] + (found[2] or ""))
    return digits in (math.floor(value / step), math.floor(value / step + 0.5))


def test_the_models_people_ask_for_are_there() -> None:
    assert set(REQUIRED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_those_of_the_schema_and_the_source_is_said(name: str) -> None:
    about = presets.describe(name)
    model = schema.Model(**about["model"])
    assert model.name == name == about["name"]
    assert about["source"] and about["published_parameters"]["source"]
    assert set(about["published_parameters"]) >= {"total", "active", "source"}


@pytest.mark.parametrize("name", [n for n in NAMES if presets.describe(n)["published_parameters"]["total"]])
def test_total_is_the_published_count_to_the_digit(name: str) -> None:
    assert count(name).total == presets.describe(name)["published_parameters"]["total"]


@pytest.mark.parametrize("name", [n for n in NAMES if presets.describe(n)["published_parameters"]["active"]])
def test_active_is_the_published_count_to_the_digit(name: str) -> None:
    assert count(name).active_with_embeddings == presets.describe(name)["published_parameters"]["active"]


@pytest.mark.parametrize("name", [n for n in NAMES if any(
    key.startswith("printed") for key in presets.describe(n)["published_parameters"])])
def test_count_has_the_printed_digits(name: str) -> None:
    published, found, model = presets.describe(name)["published_parameters"], count(name), presets.load(name)
    figures = {
        "printed_total": found.total,
        "printed_active": found.active_with_embeddings,
        "printed_active_without_input_table": found.active_with_embeddings - model["vocab"] * model["hidden"],
    }
    for key, value in figures.items():
        assert key not in published or printed_as(value, published[key]), f"{key}: {value} is not {published[key]}"


@pytest.mark.parametrize(("name", "other"), [
    ("nemotron-4-340b", "331.6B"),  # arXiv 2406.11704, table 1
    ("nemotron-4-15b", "12.5B"),  # arXiv 2402.16819
    ("gemma-3-27b", "25600M"),  # arXiv 2503.19786, table 1
])
def test_parameters_outside_the_vocabulary_as_printed(name: str, other: str) -> None:
    assert printed_as(count(name).total - tables(name), other)


def test_vocabulary_matrices_as_printed() -> None:
    """Not so for Gemma 3 27B (1,416M printed, 262,208 x 5,376 = 1,410M) and Nemotron-4 15B (3.2B, 3.146B)."""
    assert printed_as(tables("nemotron-4-340b"), "9.4B")
    assert tables("bloom-176b") == 3_596_615_680  # model card


@pytest.mark.parametrize("name", NAMES)
def test_parts_add_up_and_active_is_within_total(name: str) -> None:
    found = count(name)
    assert sum(found.parts.values()) == found.total
    assert found.active_matmul < found.active_with_embeddings <= found.total


def test_dense_models_are_wholly_active() -> None:
    for name in NAMES:
        if "moe" not in presets.load(name):
            assert count(name).active_with_embeddings == count(name).total


def test_grok_1_is_not_what_its_readme_prints() -> None:
    """314B is printed; the released shape counts 315.68B, its layers alone 314.88B."""
    found = count("grok-1-314b")
    assert found.total == 315_684_820_992
    assert found.total - found.parts["embedding"] == 314_879_514_624


@pytest.mark.parametrize(("wrong", "near"), [
    ("llama-3.1-405", "llama-3.1-405b"), ("Llama-3.1-405B", "llama-3.1-405b"), ("deepseekv3", "deepseek-v3"),
])
def test_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ProfileError, match=f"unknown model preset {wrong!r}. Did you mean {near!r}"):
        presets.load(wrong)


@pytest.mark.parametrize("wrong", ["", "../stacks", "gpt3-175b.yaml", "a" * 5000, "/etc/passwd", "x\0y"])
def test_a_name_cannot_leave_the_folder(wrong: str) -> None:
    with pytest.raises(ProfileError, match="unknown model preset"):
        presets.load(wrong)


def test_loading_one_preset_opens_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = open

    def spy(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(file)
        return real(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", spy)
    presets.load("llama-3.1-405b")
    assert opened == [presets.FOLDER / "llama-3.1-405b.yaml"]
