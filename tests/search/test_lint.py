"""The wastes of published shapes are found where they were published, at the prices that were measured, and nowhere else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from codesign import load_spec, plan
from codesign.errors import SpecError
from codesign.laws import alignment
from codesign.search import gemms
from codesign.search.counterfactual import Case, case_of, with_field
from codesign.search.lint import Finding, lint, total_s
from codesign.spec import datafiles

EXAMPLES = datafiles.root("examples")
LLAMA = EXAMPLES / "llama-3.1-405b-h100.yaml"
GPT = {"gated_ffn": False, "tied_embeddings": True, "positions": "learned", "max_positions": 2048, "norm": "layernorm"}
NANOGPT = {"layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "vocab": 50257, **GPT}
GPT3_2_7B = {"layers": 32, "hidden": 2560, "heads": 32, "ffn": 10240, "vocab": 50304, **GPT}
SWIGLU = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 10922, "vocab": 32000}


def spec(model: dict[str, Any] | str, stack: str = "torchtitan-eager", **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "version": 1,
        "model": model,
        "training": {"sequence_length": 1024, "global_batch_sequences": 480, "precision": "bf16"},
        "layout": {"tp": 1, "pp": 1, "micro_batch": 12, "sharding": "none"},
        "cluster": {"profile": "a100-sxm-80gb", "accelerators": 8},
        "software": stack,
    }
    for name, value in changes.items():
        given[name] = {**given[name], **value} if isinstance(value, dict) else value
    return given


def of(found: tuple[Finding, ...], waste: str, where: str | None = None) -> Finding:
    return next(f for f in found if f.waste == waste and where in (None, f.where))


def share(finding: Finding, given: Any) -> float:
    assert finding.cost_s is not None
    return finding.cost_s / case_of(given).step_s


# ---------------------------------------------------------------------------------------------------- published


def test_nanogpt_loses_about_a_quarter_to_its_vocabulary():
    """Padding 50,257 to 50,304 took nanoGPT from 113 to 87 ms a batch on A100 (PyTorch blog, 18 April 2023): 30 %."""
    given = spec(NANOGPT)
    found = of(lint(given), "vocabulary padding")
    assert share(found, given) == pytest.approx(113 / 87 - 1, abs=0.06)
    assert found.up is not None and found.up.value == 50304
    assert found.up.saves_s == pytest.approx(found.cost_s, rel=0.02)  # 47 dead entries in 50,257 cost next to nothing
    assert found.on_top_s > 0.9 * found.cost_s  # the plan's own step has no term for it
    assert "PyTorch" in found.basis


def test_a_padded_vocabulary_is_no_finding():
    assert "vocabulary padding" not in [f.waste for f in lint(spec({**NANOGPT, "vocab": 50304}))]


def test_tp_that_does_not_divide_the_vocabulary_is_priced_by_the_padding():
    found = of(lint(spec(NANOGPT, layout={"tp": 2}), least_share=0.0), "vocabulary padding")
    assert found.up is not None and found.up.value == 50432  # a multiple of 128 x 2
    case = case_of(spec(NANOGPT, layout={"tp": 2}))
    padded = case_of(spec({**NANOGPT, "vocab": 50432}, layout={"tp": 2}))
    assert found.cost_s == pytest.approx(padded.step_s - case.step_s, rel=1e-12)


def test_gpt3_2_7b_wants_20_heads_of_128():
    """32 heads of 80 cost up to a fifth of the throughput with unfused attention (Anthony 2024, arXiv 2401.14489)."""
    given = spec(GPT3_2_7B, "megatron-2021", training={"sequence_length": 2048}, layout={"micro_batch": 4})
    found = of(lint(given), "head size")
    assert 0.08 < share(found, given) < 0.25
    assert found.up is not None and found.up.value == 128
    assert found.on_top_s == 0.0  # unfused products of the plan's own
    fewer = case_of(given).changed({"model.heads": 20, "model.kv_heads": 20, "model.head_dim": 128})
    assert fewer is not None and fewer.step_FLOP == pytest.approx(case_of(given).step_FLOP, rel=1e-12)
    assert found.cost_s == pytest.approx(case_of(given).step_s - fewer.step_s, rel=1e-9)


def test_flash_attention_computes_96_for_heads_of_80():
    given = spec(GPT3_2_7B, training={"sequence_length": 2048}, layout={"micro_batch": 4, "sharding": "zero1"})
    found, case = of(lint(given), "head size"), case_of(given)
    forward = case.values[("attention_forward_s", "dense")]
    longer = case.step_with_s({"attention_forward_s": {"dense": forward * 96 / 80}})
    assert found.on_top_s == pytest.approx(longer - case.step_s, rel=1e-9)
    assert "96" in found.message and "flash-attention" in found.basis


def test_an_ffn_of_eight_thirds_is_misaligned():
    """10,922 runs at 272.73 TFLOP/s on H100, 11,008 at 395.01 and 10,880 at 395.52 (ml-engineering@744d01e)."""
    given = spec(
        SWIGLU, "torchtitan-compile", cluster={"profile": "h100-sxm-80gb"},
        training={"sequence_length": 4096, "global_batch_sequences": 512}, layout={"micro_batch": 1, "sharding": "zero3"},
    )
    found = of(lint(given), "alignment", "model.ffn")
    assert (found.down.value, found.up.value) == (10880, 11008)
    case = case_of(given)
    values, labels = case.values, ("qkv", "attn_out", "ffn_up", "ffn_down")
    ffn_s = sum(float(np.sum(values[(name, "dense")][2:])) for name in gemms.DENSE)
    assert labels[2:] == ("ffn_up", "ffn_down")
    steady_s = 32 * case.scalar("micro_batches") * ffn_s * (398.38 / 272.73 - 1)
    assert found.on_top_s == found.cost_s == pytest.approx(steady_s, rel=0.1)  # the rest is ageing and stragglers


def test_published_layer_counts_are_the_best_of_their_neighbourhood():
    """Llama 3 took two layers away from 128 for balance (arXiv 2407.21783, section 3.3.2)."""
    found = lint(LLAMA)
    assert [f.waste for f in found] == ["layers not divisible by stages"]
    assert share(found[0], LLAMA) < 0.015
    assert found[0].down is found[0].up is None


def test_uneven_stages_are_priced_by_the_slowest_rank():
    given = with_field(load_spec(LLAMA), "model.layers", 130)
    found, case = of(lint(given), "layers not divisible by stages"), case_of(given)
    work = case.values[("rank_work_s", None)].ravel()
    assert found.cost_s == pytest.approx(case.scalar("micro_batches") * (work.max() - work.mean()), rel=1e-12)
    assert found.down.value == 128 or found.down.value == 126
    down = case.changed({"model.layers": int(found.down.value)})
    assert found.down.saves_s == pytest.approx(case.step_s - down.step_s * case.step_FLOP / down.step_FLOP, rel=1e-12)
    assert found.down.saves_s > 0


def test_the_8b_example_has_no_waste():
    assert lint(EXAMPLES / "llama-3-8b-fsdp.yaml") == ()


def test_alignment_ratios_by_row():
    """Largest power of two in the bytes of a row: 50,257 x 2 B, 10,922 x 2 B, 10,912 x 2 B; 50,257 entries of 8 bits."""
    assert alignment.alignment_B(50257, 2.0) == 2
    assert alignment.alignment_B(10922, 2.0) == 4
    assert alignment.alignment_B(10912, 2.0) == 64
    assert alignment.alignment_B(50304, 2.0) == 128
    assert alignment.alignment_B(50257, 1.0) == 1
    assert alignment.slowdown(4.0).ratio == pytest.approx(1.46, abs=0.005)
    assert alignment.slowdown(64.0).ratio == 1.0
    ratios = [alignment.slowdown(2.0**power).ratio for power in range(1, 8)]
    assert ratios == sorted(ratios, reverse=True)
    assert [alignment.padded_head_dim(size) for size in (64, 80, 100, 128, 160, 300)] == [64, 96, 128, 128, 192, 300]


# ---------------------------------------------------------------------------------------------------- every waste


def tp8(**model: Any) -> dict[str, Any]:
    return spec(
        {**SWIGLU, "ffn": 11264, **model}, "megatron-core", cluster={"profile": "h100-sxm-80gb"},
        training={"sequence_length": 4096, "global_batch_sequences": 64}, layout={"tp": 8, "micro_batch": 1, "sharding": "zero1"},
    )


def test_replicated_kv_heads_are_priced_by_holding_each_once():
    given = tp8(kv_heads=2)
    found, case = of(lint(given), "KV heads replicated by tp"), case_of(given)
    assert found.cost_s == pytest.approx(case.step_s - case.step_with_s({"local_kv_heads": 0.25}), rel=1e-12)
    assert found.cost_s > 0 and found.up.value == 8


def test_heads_ffn_and_kv_heads_that_tp_does_not_divide_are_priced_by_padding():
    given = tp8(heads=28, kv_heads=28, head_dim=128, ffn=11268)
    found, case = lint(given), case_of(given)
    assert not case.feasible
    heads, ffn = of(found, "heads not divisible by tp"), of(found, "FFN not divisible by tp")
    padded = case.changed({"model.heads": 32, "model.kv_heads": 32, "model.head_dim": 128})
    assert heads.cost_s == pytest.approx(padded.step_s - case.step_s, rel=1e-12) and heads.cost_s > 0
    assert (heads.down.value, heads.up.value) == (24, 32)
    assert (ffn.down.value, ffn.up.value) == (11264, 11272)
    assert ffn.cost_s == pytest.approx(case.changed({"model.ffn": 11272}).step_s - case.step_s, rel=1e-12)
    neither = of(lint(tp8(heads=48, kv_heads=12, head_dim=128)), "KV heads not divisible by tp")
    assert (neither.down.value, neither.up.value) == (8, 16) and neither.refused


def test_a_sequence_that_context_parallelism_cannot_cut():
    given = spec(
        {**SWIGLU, "ffn": 11008}, "megatron-core", cluster={"profile": "h100-sxm-80gb"},
        training={"sequence_length": 4100, "global_batch_sequences": 64}, layout={"cp": 4, "micro_batch": 1, "sharding": "zero1"},
    )
    found, case = of(lint(given), "sequence not divisible by 2 cp"), case_of(given)
    assert (found.down.value, found.up.value) == (4096, 4104)
    assert found.cost_s == pytest.approx(case.changed({"training.sequence_length": 4104}).step_s - case.step_s, rel=1e-12)


def test_small_experts_are_priced_at_the_full_rate():
    moe = {"experts": 64, "top_k": 8, "expert_ffn": 1024}
    given = spec(
        {"layers": 16, "hidden": 2048, "heads": 16, "vocab": 50304, "moe": moe}, "megatron-core",
        cluster={"profile": "h100-sxm-80gb"}, layout={"ep": 8, "micro_batch": 1, "cuda_graphs": ["full_iteration"]},
        training={"sequence_length": 2048, "global_batch_sequences": 512},
    )
    found, case = of(lint(given), "small expert products"), case_of(given)
    assert found.cost_s == pytest.approx(case.step_s - case.step_with_s({"grouped_ramp_rows": 0.0}), rel=1e-12)
    assert share(found, given) > 0.02
    bigger = case.changed({found.where: found.up.value})
    assert found.up.saves_s == pytest.approx(case.step_s - bigger.step_s, rel=1e-9) and found.up.saves_s > 0


def test_8_bit_kernels_refuse_rows_and_no_price_is_invented():
    given = spec(
        SWIGLU, "megatron-core", cluster={"profile": "h100-sxm-80gb"},
        training={"precision": "fp8-tensor"}, layout={"micro_batch": 1, "sharding": "zero1"},
    )
    found = lint(given)
    assert found[-1].waste == "alignment" and found[-1].cost_s is None and "refuse" in found[-1].message


def test_no_alignment_is_priced_where_none_was_measured():
    given = spec(SWIGLU, "maxtext", cluster={"profile": "tpu-v5p"}, layout={"micro_batch": 1, "sharding": "zero3"})
    found = of(lint(given), "alignment")
    assert found.cost_s is None and "no measurement on tpu-v5p" in found.message


# ---------------------------------------------------------------------------------------------------- the arithmetic


def test_tiles_and_waves_of_a_product_by_hand():
    """m 2,048, n 1,600, k 1,600: 8 x 13 or 16 x 7 tiles of 256 x 128 for 100 that cover it."""
    given = spec(
        {"layers": 4, "hidden": 1600, "heads": 25, "ffn": 6400, "vocab": 51200, **GPT}, layout={"micro_batch": 2},
        cluster={"override": {"kernels.gemm.bf16.memory_efficiency": 1e6}},
    )
    case = case_of(given)
    out = next(g for g in gemms.products(case.values, case.problem.kinds) if g.name == "attn_out")
    assert (out.m, out.n, out.k) == (2048, 1600, 1600)
    actual = case.values[("gemm_forward_s", "dense")]
    no_waves = gemms.without_waves(case.values, out)["gemm_forward_s"]["dense"]
    no_tiles = gemms.without_tiles(case.values, out)["gemm_forward_s"]["dense"]
    launch = case.values["gemm_launch_s"]
    assert float((no_waves[1] - launch)[0] / (no_tiles[1] - launch)[0]) == pytest.approx(104 / 100, rel=1e-6)
    waves, loss = 104 / 108, float(case.values["wave_loss"][0])
    paid = waves + loss * (math.ceil(waves) - waves)
    assert float((actual[1] - launch)[0] / (no_waves[1] - launch)[0]) == pytest.approx(paid / waves, rel=1e-6)
    assert np.array_equal(np.delete(no_tiles, 1, axis=0), np.delete(actual, 1, axis=0))  # no other product moves


def test_products_of_a_moe_with_latent_attention_are_those_that_are_timed():
    case = case_of(EXAMPLES / "deepseek-v3-h800.yaml")
    names = {g.name for g in gemms.products(case.values, case.problem.kinds)}
    assert {"q_down", "q_up", "kv_down", "kv_up", "attn_out", "router", "expert_up", "expert_down", "head"} <= names
    for gemm in gemms.products(case.values, case.problem.kinds):
        priced = gemms.without_tiles(case.values, gemm)
        assert case.step_with_s(priced) <= case.step_s
        for name, value in priced.items():  # the override has the shape of what it replaces
            members = value.items() if isinstance(value, dict) else [(None, value)]
            assert all(np.shape(array) == np.shape(case.values[(name, kind)]) for kind, array in members)


def test_an_override_by_the_same_times_changes_no_bit():
    case = case_of(LLAMA)
    for gemm in gemms.products(case.values, case.problem.kinds):
        assert case.step_with_s(gemms.stretched(case.values, {gemm: 1.0})) == case.step_s


def test_sorted_by_cost_with_the_total():
    found = lint(spec(NANOGPT), least_share=0.0)
    costs = [f.cost_s for f in found]
    assert costs == sorted(costs, reverse=True) and len(costs) > 3
    assert total_s(found) == pytest.approx(sum(costs))
    assert {f.waste for f in lint(spec(NANOGPT))} <= {f.waste for f in found}


def test_a_plan_a_spec_and_a_file_give_the_same():
    path = EXAMPLES / "llama-3-8b-fsdp.yaml"
    assert lint(plan(path), least_share=0.0) == lint(load_spec(path), least_share=0.0) == lint(path, least_share=0.0) != ()


def test_better_values_are_better():
    """Every value that is offered, put in the place of the one found, has less of the waste at equal work."""
    given = spec({**NANOGPT, "hidden": 800, "heads": 10, "head_dim": 80, "ffn": 3210}, layout={"micro_batch": 3})
    base, seen = case_of(given), 0
    for finding in lint(given, least_share=5e-4):
        for better in filter(None, (finding.down, finding.up)):
            if finding.where not in ("model.ffn", "model.vocab"):
                continue
            again = lint(with_field(base.spec, finding.where, int(better.value)), least_share=5e-4)
            name = finding.gemm.name if finding.gemm else None
            left = [f.cost_s for f in again if f.waste == finding.waste and (f.gemm.name if f.gemm else None) == name]
            assert sum(left) < finding.cost_s and 0 < better.saves_s <= finding.cost_s * 1.001
            seen += 1
    assert seen >= 3


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_counterfactual_plan_is_refused():
    with pytest.raises(SpecError, match="tp_exposed_s set by hand"):
        lint(plan(LLAMA, overrides={"tp_exposed_s": 0.0}))


def test_a_spec_that_is_wrong_is_refused_as_the_plan_refuses_it():
    with pytest.raises(SpecError, match="cannot be divided by tp"):
        lint(tp8() | {"layout": {"tp": 3, "pp": 1, "micro_batch": 1}})


def test_a_change_that_makes_no_spec_is_no_case():
    case = case_of(LLAMA)
    assert case.changed({"layout.pp": 7}) is None
    assert isinstance(case.changed({"model.ffn": 53248}), Case)
