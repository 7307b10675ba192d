"""Two ways to the same number: the parameters that a plan places on ranks, and the count of the whole model (EQ-01 to EQ-03)."""

import pytest

from codesign import planner
from codesign.quantities.parameters import count_parameters
from codesign.spec import load, presets, resolve

TRAINING = {"sequence_length": 1024, "global_batch_sequences": 64}


def _plan(model, layout, accelerators):
    spec = {
        "version": 1, "model": model, "training": TRAINING, "layout": {"micro_batch": 1, **layout},
        "cluster": {"profile": "h100-sxm-80gb", "accelerators": accelerators}, "software": "megatron-core",
    }  # fmt: skip
    return load.load(spec)


@pytest.mark.parametrize("name", presets.names())
def test_one_rank_holds_the_whole_model(name):
    loaded = _plan(name, {"tp": 1, "pp": 1}, 1)
    values = planner.evaluate([resolve.resolve(loaded.spec)], ("rank_dense_parameters", "rank_expert_parameters"))
    placed = float(values[("rank_dense_parameters", None)].ravel()[0] + values[("rank_expert_parameters", None)].ravel()[0])
    counted = count_parameters(loaded.spec.model)
    assert placed == counted.total + counted.mtp


@pytest.mark.parametrize("name", ["llama-3.1-70b", "qwen3-235b-a22b", "gpt3-175b", "deepseek-v2"])
def test_pipeline_ranks_and_tensor_ranks_together_hold_the_model_once(name):
    loaded = _plan(name, {"tp": 1, "pp": 4, "ep": 1}, 4)
    values = planner.evaluate([resolve.resolve(loaded.spec)], ("rank_dense_parameters", "rank_expert_parameters"))
    placed = float((values[("rank_dense_parameters", None)] + values[("rank_expert_parameters", None)]).sum())
    model = loaded.spec.model
    twice = model.vocab * model.hidden if model.tied_embeddings else 0  # tied weights have a copy on either end
    assert placed == count_parameters(model).total + twice


@pytest.mark.parametrize("name", presets.names())
def test_model_FLOPs_are_those_of_the_exact_count(name):
    loaded = _plan(name, {"tp": 1, "pp": 1}, 1)
    values = planner.evaluate([resolve.resolve(loaded.spec)], ("token_model_FLOP", "token_attention_FLOP"))
    counted = count_parameters(loaded.spec.model)
    model = loaded.spec.model
    weights = counted.active_matmul + (counted.mtp_active_matmul if model.mtp_layers else 0)
    layers = {k: values[f"model_layers[{k}]"][0] for k in {key[1] for key in values if key[0] == "token_attention_FLOP"}}
    attention = sum(n * values[("token_attention_FLOP", k)][0] for k, n in layers.items())
    if model.mtp_layers:
        last = list(resolve.resolve(loaded.spec).kinds)[-1]
        attention += model.mtp_layers * values[("token_attention_FLOP", last)][0]
    assert values[("token_model_FLOP", None)][0] == pytest.approx(6 * weights + attention, rel=2e-4)
