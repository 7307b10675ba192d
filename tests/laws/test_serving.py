"""Serving: published rows C280 to C290 (DeepSeek-V3 hardware paper, scaling-book, Kimi K2), and limits."""

from __future__ import annotations

import numpy as np
import pytest
from published import checks, hold, name, row

from codesign.laws import serving

# exchanges of expert parallelism in decoding are held in test_collectives.py
CHECKS = {key: check for key, check in checks(11).items() if check["eq"] != "EQ-30"}
KIMI = {"layers": 61, "hidden": 7168, "q_lora": 1536, "kv_lora": 512, "nope": 128, "rope": 64, "v": 128}
KIMI_MATMUL_64_HEADS = 31.69e9  # weights that a token multiplies, counted from the released shape


def kv(i):
    return serving.kv_B_per_token(row(i["L"]), row(i["kv_heads"]), row(i["head_dim"]), row(i["bytes"]))


def mla_ratio(_):
    dense = serving.kv_B_per_token(row(126), row(8), row(128), row(2))
    return dense / serving.mla_kv_B_per_token(row(61), row(512), row(64), row(2))


def quiz_ms(i):
    flops = row(i["chips"] * i.get("flops", np.inf))
    step = serving.decode_step_s(
        row(i["B"]), row(i["kv"]), row(i.get("params", 30e9)), row(i["param_bytes"]), row(i["chips"] * i["bw"]), flops
    )
    return 1e3 * step


def llama13b_ms(i):
    """26 GB of bf16 weights; the book takes 133.2 GiB over 6.56 TiB/s as 1,000 : 1."""
    step = serving.decode_step_s(
        row(i["B"]), row(i["kv"] * 1e9), row(13e9), row(26e9), row(i["chips"] * i["bw_TiB"] * 1e12), row(np.inf)
    )
    return 1e3 * step


def kimi_heads(i):
    """More FLOPs of 128 heads over 64, of a prefill on average and of decode at the full context."""
    few, many = i["heads"]
    per_head = KIMI["layers"] * (
        KIMI["q_lora"] * (KIMI["nope"] + KIMI["rope"]) + KIMI["kv_lora"] * (KIMI["nope"] + KIMI["v"]) + KIMI["v"] * KIMI["hidden"]
    )
    weights = [row(KIMI_MATMUL_64_HEADS + (heads - 64) * per_head) for heads in (few, many)]
    dims = (row(KIMI["nope"] + KIMI["rope"]), row(KIMI["v"]), row(KIMI["layers"]))
    more = []
    for law in (serving.prefill_FLOP_per_token, serving.decode_FLOP_per_token):
        each = [law(w, row(i["seq"]), row(heads), *dims) for w, heads in zip(weights, (few, many), strict=True)]
        more.append(each[1] / each[0] - 1)
    assert np.ravel(more) == pytest.approx([0.767, 0.865], abs=2e-3)
    return more


LAW = {
    "C280": kv,
    "C281": kv,
    "C282": lambda i: serving.mla_kv_B_per_token(row(i["L"]), row(i["kv_lora"]), row(i["rope"]), row(i["bytes"])),
    "C283": mla_ratio,
    "C284": lambda i: serving.sequence_kv_B(row(i["tokens"]), kv(i)) / 1e9,
    "C285": quiz_ms,
    "C286": quiz_ms,
    "C287": llama13b_ms,
    "C288": lambda i: serving.knee_batch(row(i["flops"]), row(i["bw"]), row(2.0)),
    "C289": kimi_heads,
    "C290": lambda i: [serving.tokens_per_step([row(a)] * i["draft"]) for a in i["accept"]],
}


def test_every_check_has_its_law():
    assert LAW.keys() == CHECKS.keys()


@pytest.mark.parametrize("check", CHECKS.values(), ids=name)
def test_published_law(check):
    hold(check, LAW[check["id"]](check["inputs"]))


def test_a_window_bounds_its_share_of_the_layers():
    assert serving.sequence_kv_B(row(1000), row(10.0), 128.0, 0.5) == 10 * (64 + 500)
    assert serving.sequence_kv_B(row(100), row(10.0), 128.0, 0.5) == 1000


def test_a_batch_touches_more_experts_until_all():
    touched = serving.touched_experts(row(256), row(8), np.array([1.0, 8.0, 64.0, 1e4]))
    assert touched[0] == pytest.approx(8) and (np.diff(touched) > 0).all() and touched[-1] == pytest.approx(256)


def test_beyond_the_knee_a_token_is_as_dear_as_at_it():
    flops, bandwidth, parameters = row(197e12), row(820e9), row(8e9)
    knee = serving.knee_batch(flops, bandwidth, row(2.0))
    batches = knee * np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    step = serving.decode_step_s(batches, row(0.0), parameters, 2 * parameters, bandwidth, flops)
    np.testing.assert_allclose(step / step[0], [1, 1, 1, 2, 4], rtol=1e-9)
    cost = serving.cost_per_million_tokens(row(8), row(2.5), batches / step)
    assert (np.diff(cost[:3]) < 0).all() and cost[4] == pytest.approx(cost[2])
    assert serving.knee_batch(flops, bandwidth, row(2.0), 32.0) == 32 * knee


def test_a_million_tokens_by_hand():
    # 8 accelerators at 2 an hour serving 1,000 tokens/s: 16 / 3.6e6 x 1e6
    assert serving.cost_per_million_tokens(row(8), row(2.0), row(1000)) == pytest.approx(4.444, abs=1e-3)


def test_no_sequence_fits_beside_weights_that_do_not_fit():
    assert serving.memory_batch(row(640e9), row(810e9), row(1e9)) == 0
    assert serving.memory_batch(row(1280e9), row(810e9), row(1e9)) == 470


def test_prefill_time_of_a_prompt_by_hand():
    each = serving.prefill_FLOP_per_token(row(70e9), row(8192), row(64), row(128), row(128), row(80))
    assert each == 140e9 + 8192 * 64 * 256 * 80
    assert serving.prefill_s(row(8192), each, row(4e15)) == pytest.approx(8192 * each[0] / 4e15)


def test_absorbed_attention_of_decode_costs_more_per_head():
    shape = (row(37e9), row(131072), row(128))
    absorbed = serving.decode_FLOP_per_token(*shape, row(576), row(512), row(61))
    assert absorbed > serving.decode_FLOP_per_token(*shape, row(192), row(128), row(61))


def test_several_drafts_are_accepted_one_after_the_other():
    assert serving.tokens_per_step([row(0.9), row(0.8), row(0.5)]) == pytest.approx(1 + 0.9 + 0.72 + 0.36)
