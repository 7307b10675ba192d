"""What the accelerators of a served copy send each other: the collectives of a step, and sums by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codesign import graph, planner
from codesign.errors import SpecError
from codesign.laws import serving
from codesign.run import RunPlan, evaluate, run_plan

SMALL = {
    "version": 1, "model": "llama-3-8b",
    "training": {"sequence_length": 4096, "global_batch_sequences": 64, "tokens": 1e12},
    "layout": {"tp": 8, "pp": 1, "micro_batch": 1, "sharding": "zero3", "sequence_parallel": False},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64}, "software": "megatron-core",
}  # fmt: skip
SERVING = {"profile": "h100-sxm-80gb", "prompt_tokens": 4096, "output_tokens": 500, "price_per_hour": 3.0}


def served(model: str = "llama-3-8b", **section: Any) -> RunPlan:
    ep = {"ep": 8} if model == "mixtral-8x7b" else {}
    spec = {**SMALL, "model": model, "layout": {**SMALL["layout"], **ep}, "run": {"serving": {**SERVING, **section}}}
    return run_plan(planner.plan(spec))


def test_one_accelerator_sends_nothing():
    run = served(accelerators=1)
    assert run.value("decode_step_s") == run.value("decode_work_s") and run.value("prefill_s") == run.value("prefill_work_s")
    assert run.value("decode_tensor_s") == run.value("prefill_tensor_s") == 0.0


def test_an_all_reduce_is_that_of_a_step_with_the_same_message():
    run = served(accelerators=8)
    plan = run.steps["main"]
    assert plan.value("tp_message_B") == run.value("serving_message_B[prefill]") and plan.value("network_share") == 1.0
    assert run.value("serving_all_reduce_s[prefill]") == pytest.approx(plan.value("tp_all_reduce_s"), rel=1e-12)
    assert run.value("prefill_tensor_s") == pytest.approx(2 * 32 * plan.value("tp_all_reduce_s"), rel=1e-12)


def test_parts_add_up_and_make_the_cost():
    run = served(accelerators=8)
    for total in ("decode_step_s", "prefill_s"):
        assert graph.REGISTRY[total].parts and sum(run.parts(total).values()) == pytest.approx(run.value(total), rel=1e-15)
    work = (run.value(name) for name in ("serving_batch", "mean_sequence_B", "matmul_parameters", "decode_read_B"))
    rates = [
        8.0 * run.value(name) * run.value(share)
        for name, share in (("serving_memory_Bps", "serving_stream_share"), ("serving_peak_FLOPps", "serving_gemm_share"))
    ]
    alone = serving.decode_step_s(*(np.array([x]) for x in (*work, *rates)))
    assert run.value("decode_work_s") == pytest.approx(alone[0], rel=1e-15)
    assert 0.05 < run.value("decode_tensor_s") / run.value("decode_step_s") < 0.7
    tree = run.explain("decode_step_s", 1)
    assert {one.name for one in tree.inputs} == {"decode_work_s", "decode_tensor_s", "decode_expert_s"}


def test_a_copy_that_leaves_its_domain_is_slower_by_the_network():
    inside, across = served(accelerators=8), served(accelerators=16)
    assert across.value("serving_all_reduce_s[prefill]") > 1.4 * inside.value("serving_all_reduce_s[prefill]")
    slow = evaluate(across.inputs, {"serving_nic_Bps": np.array([1e9, 1e10, 1e11])}, ["decode_step_s"])
    assert (np.diff(slow[("decode_step_s", None)]) < 0).all()


def test_experts_held_whole_are_sent_their_tokens():
    split, whole = (served("mixtral-8x7b", accelerators=8, experts=kind) for kind in ("split", "whole"))
    assert (split.value("served_reduces"), split.value("served_exchanges")) == (64, 0)
    assert (whole.value("served_reduces"), whole.value("served_exchanges")) == (32, 64)
    assert split.value("decode_expert_s") == 0.0 and whole.value("decode_tensor_s") == 0.5 * split.value("decode_tensor_s")
    value = whole.value
    sent_B = 4096 / 8 * 4096 * 2.0 * 2 * 7 / 8  # a rank's tokens in two copies, one of eight stays
    rate = value("serving_link_Bps") * value("up_serving_exchange_share")
    expected = value("up_serving_exchange_latency_s") + (sent_B + (sent_B * value("up_serving_exchange_half_B")) ** 0.5) / rate
    assert value("serving_all_to_all_s[prefill]") == pytest.approx(expected, rel=1e-12)
    assert value("prefill_expert_s") == pytest.approx(64 * expected, rel=1e-12)
    with pytest.raises(SpecError, match="the model has no experts"):
        served(experts="whole")


def test_shared_experts_and_dense_layers_keep_their_all_reduces():
    """DeepSeek-V3: 3 dense layers, 58 mixtures with a shared expert."""
    spec = {**SMALL, "model": "deepseek-v3", "layout": {"tp": 8, "pp": 1, "ep": 8, "micro_batch": 1},
            "run": {"serving": {**SERVING, "profile": "h200-sxm", "precision": "fp8", "experts": "whole"}}}  # fmt: skip
    run = run_plan(planner.plan(spec))
    assert (run.value("served_reduces"), run.value("served_exchanges")) == (122, 116)
    assert run.feasible or run.violations


def test_a_torus_takes_its_axes():
    run = served(profile="tpu-v5p", accelerators=64)
    assert run.value("serving_torus_axes") == 3 and run.value("decode_tensor_s") > 0


def test_without_a_network_a_copy_stays_in_its_domain(tmp_path):
    profile = tmp_path / "alone.yaml"
    profile.write_text("inherits: h100-sxm-80gb\nname: alone\nvendor: nvidia\nstatus: shipping\nfamily: h100\nscale_out: null\n")
    here = served(profile=str(profile), accelerators=8)
    assert here.value("decode_step_s") == served(accelerators=8).value("decode_step_s")
    with pytest.raises(SpecError, match="no network beyond its 8 ranks"):
        served(profile=str(profile), accelerators=16)
