"""What a run gives and costs: published runs through the run's quantities, hand-made sums, and what holds for all sizes."""

from __future__ import annotations

import datetime
import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import integrate

from codesign import graph, planner
from codesign.decisions import calendar, interval, ladder, launch
from codesign.errors import SpecError
from codesign.laws import batch, economics, extrapolation, power, scaling
from codesign.outcome.loss_laws import LAWS
from codesign.quantities.loss import ADDITIVE
from codesign.report import run_outcome
from codesign.run import RunPlan, evaluate, run_plan
from codesign.spec import datafiles
from codesign.spec import load as loader
from codesign.spec.outcome import DATA_OF

SMALL = {
    "version": 1, "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 128, "tokens": 1e12},
    "layout": {"tp": 1, "pp": 1, "micro_batch": 1, "sharding": "zero3"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64}, "software": "megatron-core",
}  # fmt: skip
POWER = {"pue": 1.1, "overhead_per_accelerator_W": 450}
REFERENCE = {"name": "the last one", "parameters": 7e9, "tokens": 2e12}
SERVING = {"profile": "h200-sxm", "prompt_tokens": 4000, "output_tokens": 500, "price_per_hour": 3.0}


def made(_training: dict[str, Any] | None = None, _spec: dict[str, Any] | None = None, **run: Any) -> RunPlan:
    """The run of a small model with these sections of `run:`."""
    return _made(json.dumps({**SMALL, **(_spec or {}), "training": {**SMALL["training"], **(_training or {})}, "run": run}))


@cache
def _made(text: str) -> RunPlan:
    return run_plan(planner.plan(json.loads(text)))


def one(run: RunPlan, target: str, **axes: Any) -> np.ndarray:
    """A target under other leaves."""
    arrays = {name: np.atleast_1d(np.float64(value)) for name, value in axes.items()}
    return evaluate(run.inputs, arrays, [target])[(target, None)]


def refused(**sections: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        made(**sections)
    return caught.value


# ---------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("law", [name for name in LAWS if name not in ("deepseek", "llama3")])
@pytest.mark.parametrize("data", [{}, {"data": {"unique_tokens": 1e11}}], ids=["fresh", "repeated"])
def test_loss_falls_with_parameters_and_tokens(law, data):
    run = made(loss={"law": law}, **data)
    for name, low, high in (("law_parameters", 1e7, 1e13), ("run_tokens", 1e8, 1e14)):
        falls = np.diff(one(run, "final_loss", **{name: np.geomspace(low, high, 200)}))
        assert (falls <= 0).all() and falls[0] < 0


@pytest.mark.parametrize("law", ["besiroglu", "muennighoff", "kaplan"])
def test_parts_of_the_loss_add_up(law):
    penalty = {"loss_increase": 0.0025, "source": "DeepSeek-V3"}
    run = made(
        {"precision": "fp8-block"}, loss={"law": law, "low_precision_penalty": penalty}, data={"unique_tokens": 2e11}
    )
    for total in ("final_loss", "law_loss"):
        assert sum(run.parts(total).values()) == pytest.approx(run.value(total), rel=1e-15)
    assert run.value("precision_loss") == 0.0025 * run.value("law_loss") > 0


def test_a_run_equal_to_its_reference_is_worth_one_and_ten_times_the_compute_is_worth_ten():
    run = made(loss={"reference": REFERENCE})
    assert one(run, "effective_over_reference", law_parameters=7e9, run_tokens=2e12) == pytest.approx(1.0, rel=1e-12)
    law = scaling.BESIROGLU.law
    small, large = (scaling.optimum(law, np.array([compute])) for compute in (1e23, 1e24))
    ratio = one(
        run, "effective_over_reference", law_parameters=large.parameters, run_tokens=large.tokens,
        reference_parameters=small.parameters, reference_tokens=small.tokens,
    )  # fmt: skip
    assert ratio == pytest.approx(10.0, rel=1e-9)


def test_gains_of_the_recipe_multiply_effective_compute_only():
    gains = [{"name": "optimizer", "factor": 1.5, "source": "own"}, {"name": "data", "factor": 2.0, "source": "own"}]
    plain, better = made(loss={"reference": REFERENCE}), made(loss={"reference": REFERENCE, "gains": gains})
    assert better.value("effective_over_reference") == pytest.approx(3.0 * plain.value("effective_over_reference"))
    assert better.value("compute_over_reference") == plain.value("compute_over_reference")


def test_published_optima():
    """Llama 3's 402 B on 16.55e12 tokens at 3.8e25 FLOP (arXiv 2407.21783); 18.4 tokens a parameter at 5.76e23 (Besiroglu)."""
    large = made(loss={"law": "llama3"})
    at = {"law_parameters": 3.8e25 / 6 / 15.6e12, "run_tokens": 15.6e12}
    assert one(large, "optimal_tokens", **at) == pytest.approx(16.55e12, rel=1e-9)
    assert one(large, "optimal_parameters", **at) == pytest.approx(402e9, rel=0.06)
    chinchilla = {"law_parameters": 70e9, "run_tokens": 5.76e23 / 6 / 70e9}
    run = made(loss={})
    ratio = one(run, "optimal_tokens", **chinchilla) / one(run, "optimal_parameters", **chinchilla)
    assert ratio == pytest.approx(18.4, rel=0.005)
    assert "final_loss" not in large.inputs.targets and any("no loss" in note for note in large.inputs.notes)


def test_each_law_counts_its_own_parameters():
    """Kaplan leaves the vocabulary out; DeepSeek counts FLOPs a token: 72 L d^2 + 12 L d s for its own 7B shape."""
    whole, kaplan = (made(loss={"law": law}).value("law_parameters") for law in ("besiroglu", "kaplan"))
    assert whole - kaplan == 2 * 128256 * 4096
    shape = {"layers": 30, "hidden": 4096, "heads": 32, "ffn": 11008, "vocab": 102400}
    run = made({"sequence_length": 4096}, {"model": shape}, loss={"law": "deepseek"})
    assert run.value("law_token_FLOP") == pytest.approx(72 * 30 * 4096**2 + 12 * 30 * 4096 * 4096, rel=0.01)
    product = run.value("optimal_tokens") * run.value("optimal_token_FLOP")
    assert product == pytest.approx(run.value("model_compute_FLOP"), rel=1e-3)


def test_repeated_tokens_count_as_muennighoff_measured():
    """Four epochs are worth 3.73 fresh ones, and never more than 16.4 (arXiv 2305.16264)."""
    run = made(loss={}, data={"unique_tokens": 1e11})
    worth = one(run, "seen_tokens", run_tokens=[1e11, 4e11, 1e14]) / 1e11
    np.testing.assert_allclose(worth, [1.0, 3.73, 16.39], rtol=2e-3)
    assert run.value("data_repeats") == 9.0
    assert made(loss={}, data={"unique_tokens": 2e12}).value("law_loss") == made(loss={}).value("law_loss")


def test_data_efficiency_is_worth_tokens():
    gain = {"factor": 2.0, "source": "own"}
    better = made(loss={}, data={"unique_tokens": 2e12, "efficiency": gain})
    assert better.value("law_loss") == made({"tokens": 2e12}, loss={}).value("law_loss")


def test_data_bind_beyond_the_crossover_and_then_they_are_worth_more():
    run = made(loss={"law": "muennighoff"}, data={"unique_tokens": 15e12})
    assert run.value("data_bound_FLOP") == pytest.approx(6.9e25, rel=0.01)  # EQ-53
    few, many = (made(loss={}, data={"unique_tokens": unique}) for unique in (2e9, 1e13))
    assert abs(many.value("unique_tokens_price")) < 1e-6 < abs(few.value("unique_tokens_price"))
    assert abs(few.value("unique_tokens_price")) > abs(few.value("compute_price"))
    assert few.value("data_efficiency_price") < 0 and few.value("next_token_worth") < many.value("next_token_worth") == 1.0


def test_repeats_beyond_those_allowed_are_an_answer_not_an_error():
    run = made(data={"unique_tokens": 1e11, "most_repeats": 3})
    assert not run.feasible and run.violations == (
        "the tokens repeat the data 9.00 times after the first pass, and run.data.most_repeats is 3",
    )
    assert made(data={"unique_tokens": 1e11, "most_repeats": 9}).feasible


def test_loss_interval_is_of_joint_draws_and_only_where_they_are_published():
    spread = interval.spread(made(loss={}), "final_loss")
    assert spread is not None and spread.low < spread.value < spread.high
    # one by one the errors of A and B would be tens of per cent of the loss; together they are not
    assert (spread.high - spread.low) / spread.value < 0.05
    further = interval.spread(made({"tokens": 1e15}, loss={}), "final_loss")
    assert further is not None and further.high - further.low > spread.high - spread.low
    hoffmann = made(loss={"law": "hoffmann"})
    assert interval.spread(hoffmann, "final_loss") is None
    assert "no joint uncertainty of this law is published" in " ".join("".join(run_outcome.lines(hoffmann)).split())


def test_laws_are_compared_as_they_would_be_planned():
    rows = {row.law: row for row in interval.by_law(made(loss={"reference": REFERENCE}))}
    assert set(rows) == set(ADDITIVE)
    for law, row in rows.items():
        alone = made(loss={"law": law, "reference": REFERENCE})
        assert row.final_loss == alone.value("final_loss")
        assert row.effective_over_reference == alone.value("effective_over_reference")


def test_break_even_of_a_recipe_is_the_loss_that_its_speed_buys():
    run = made({"precision": "fp8-block"}, loss={})
    even, ratio = run.value("low_precision_break_even"), run.value("wide_step_ratio")
    assert ratio > 1.0 and even > 0.0
    wide = made(loss={})
    assert wide.steps["main"].step_s / run.steps["main"].step_s == ratio
    with_penalty = one(run, "final_loss", low_precision_penalty=even)
    assert with_penalty == pytest.approx(one(wide, "final_loss", run_tokens=1e12 / ratio), rel=1e-12)
    assert any("no loss penalty is given" in note for note in run.inputs.notes)


def test_sites_that_synchronise_less_often_cost_the_loss_of_less_compute():
    run = made(loss={"reference": REFERENCE})
    assert run.value("sites_loss") == 0.0
    less = one(run, "effective_FLOP", sync_loss_multiplier=1.25)
    assert less == pytest.approx(run.value("effective_FLOP") / 1.25, rel=1e-9)


# ---------------------------------------------------------------------------------------------------- batch, code length


def test_batch_is_held_against_the_critical_batch_of_its_phase():
    run = made(loss={})
    critical = batch.kaplan_critical_batch_tokens(np.array([run.value("law_loss")]))[0]
    assert run.value("critical_batch_tokens[main]") == pytest.approx(critical)
    over = 128 * 8192 / critical
    assert run.value("batch_over_critical[main]") == pytest.approx(over)
    assert over < 1 and run.value("batch_waste[main]") == 0.0 and run.value("batch_worth") == 1.0
    given = made(loss={"critical_batch": {"tokens": 2**21, "source": "own sweep"}})
    assert given.value("batch_over_critical[main]") == 0.5


def test_tokens_that_a_batch_above_the_critical_one_wastes_do_not_count():
    """EQ-47 against its value at B_crit: three times the critical batch needs (1 + 3)/(1 + 1) the tokens for the same loss."""
    critical = {"critical_batch": {"tokens": 128 * 8192 / 3, "source": "own sweep"}}
    told, counted = made(loss={**critical, "batch": "told"}), made(loss=critical)
    assert counted.value("batch_worth") == pytest.approx(0.5) and counted.value("seen_tokens") == pytest.approx(0.5e12)
    assert counted.value("law_loss") == pytest.approx(one(told, "law_loss", run_tokens=5e11)[0], rel=1e-12)
    assert made(loss={**critical, "batch": "counted"}).value("final_loss") == counted.value("final_loss")
    # phases count with their tokens
    phases = [{"name": "ramp", "share": 0.25, "global_batch_sequences": 64}, {"name": "main"}]
    assert made(loss=critical, phases=phases).value("batch_worth") == pytest.approx(0.25 * 0.8 + 0.75 / 2.0)
    text = " ".join(" ".join(run_outcome.lines(counted)).split())
    assert "it wastes 50.0 % of its tokens; 50.0 % of the run's count (assumed: laws are fitted up to the critical" in text


def test_a_larger_batch_never_helps_the_loss_and_a_huge_one_costs_it():
    """Kaplan's critical batch is that of the loss before the waste: no circle."""
    sizes = [made({"global_batch_sequences": size}, loss={"reference": REFERENCE}) for size in (128, 1024, 65536)]
    losses = [run.value("final_loss") for run in sizes]
    assert losses[0] == sizes[0].value("law_loss") and losses[0] <= losses[1] < losses[2]
    over = sizes[2].value("batch_over_critical[main]")
    assert sizes[2].value("critical_batch_tokens[main]") == sizes[0].value("critical_batch_tokens[main]")
    assert sizes[2].value("seen_tokens") == pytest.approx(2e12 / (1.0 + over))
    assert sizes[2].value("effective_over_reference") < 0.2 * sizes[0].value("effective_over_reference")


PENALTY = {"low_precision_penalty": {"loss_increase": 0.05, "source": "own"}}
WASTEFUL = {"critical_batch": {"tokens": 2**18, "source": "own"}}


def test_optimum_and_code_length_are_on_the_terms_of_the_final_loss():
    """Precision, batch, data and sites: the best shape of the compute is never worse, and the code ends at the final loss."""
    run = made({"precision": "fp8-block"}, loss={**PENALTY, **WASTEFUL},
               data={"unique_tokens": 2e12, "efficiency": {"factor": 1.3, "source": "own"}})  # fmt: skip
    final = run.value("final_loss")
    assert final > 1.05 * run.value("law_loss") * 0.999999
    assert run.value("code_end_loss") == pytest.approx(final, rel=1e-12) and run.value("code_mean_loss") > final
    best = {"law_parameters": run.value("optimal_parameters"), "run_tokens": run.value("optimal_tokens"), "unique_tokens": 1e15}
    assert run.value("optimal_loss") < final
    # the waste of the batch is that of the plan, so that it is held
    held = {**best, "phase_step_tokens[main]": run.value("batch_over_critical[main]") * 2**18}
    assert one(run, "final_loss", **held)[0] == pytest.approx(run.value("optimal_loss"), rel=1e-9)
    sites = one(run, "code_end_loss", sync_loss_multiplier=2.0)[0]
    assert sites == pytest.approx(one(run, "final_loss", sync_loss_multiplier=2.0)[0], rel=1e-12)
    bound = {"run_compute_FLOP": run.value("data_bound_FLOP")}
    law = scaling.Law(*(np.array([run.value(name)]) for name in ("own_floor", "own_size_scale", "own_data_scale", "law_alpha",
                                                                 "law_beta")))  # fmt: skip
    assert scaling.optimum(law, np.array([bound["run_compute_FLOP"]])).tokens[0] == pytest.approx(2e12, rel=1e-9)


def test_a_model_too_small_for_its_vocabulary_codes_at_a_uniform_guess():
    run = made(loss={})
    tiny = {"law_parameters": 1e3, "vocabulary": 300.0}  # A/N^alpha alone is 44 nats
    assert one(run, "code_bits", **tiny)[0] == pytest.approx(1e12 * math.log2(300))
    assert one(run, "code_mean_loss", **tiny)[0] == pytest.approx(math.log(300))
    assert one(run, "code_absorbed_bits", **tiny)[0] == pytest.approx(0.0, abs=1.0)


def test_the_first_phase_of_a_run_of_many_epochs_reads_fresh_data():
    """40 epochs, the first phase exactly one: its loss is the law's at that many fresh tokens."""
    phases = [{"name": "first", "share": 0.025}, {"name": "rest"}]
    run = made(loss={}, data={"unique_tokens": 2.5e10}, phases=phases)
    fresh = made({"tokens": 2.5e10}, loss={})
    assert run.value("phase_end_loss[first]") == pytest.approx(fresh.value("law_loss"), rel=1e-12)
    assert run.value("phase_end_loss[rest]") == run.value("law_loss")


def test_rungs_of_the_ladder_do_not_pay_for_the_batch_of_the_full_run():
    plain = ladder.ladder(made(loss={}, ladder={}))
    wasteful = ladder.ladder(made(loss=WASTEFUL, ladder={}))
    assert [rung.loss for rung in wasteful.loss_rungs] == [rung.loss for rung in plain.loss_rungs]
    assert wasteful.extrapolation.no_go_loss == plain.extrapolation.no_go_loss


def test_a_bounded_batch_above_the_critical_one_is_no_plan():
    given = {"critical_batch": {"tokens": 2**19, "source": "own sweep"}}
    told, bounded = made(loss={**given, "batch": "told"}), made(loss={**given, "batch": "bounded"})
    assert told.feasible and told.value("final_loss") == bounded.value("final_loss")
    what = "the global batch of phase main, 1,048,576 tokens, is 2 times its critical batch: run.loss.batch bounded allows 524,"
    assert not bounded.feasible and bounded.violations[0].startswith(what)
    assert made(loss={"batch": "bounded", "critical_batch": {"tokens": 2**20, "source": "own"}}).feasible
    text = " ".join(" ".join(run_outcome.lines(told)).split())
    assert "ABOVE it it wastes 33.3 % of its tokens; not counted in the loss" in text
    assert "deepseek prints no loss to count it in" in refused(loss={"law": "deepseek", "batch": "counted"}).message
    assert "give run.loss.critical_batch" in refused(loss={"law": "llama3", "batch": "bounded"}).message
    assert not made(loss={"law": "llama3", "batch": "bounded", **given}).feasible
    assert made(loss={"law": "llama3"}).feasible


def test_what_a_law_without_a_loss_or_an_optimum_cannot_use_is_refused():
    gain = {"factor": 2.0, "source": "own"}
    error = refused(loss={"law": "llama3"}, data={"unique_tokens": 2e12, "efficiency": gain})
    assert error.field == "run.data.efficiency" and "prints an optimum, no loss" in error.message
    for law in ("kaplan", "llama3"):
        error = refused(loss={"law": law, "reference": REFERENCE, "gains": [{"name": "data", **gain}]})
        assert error.field == "run.loss.gains"


def test_code_length_is_the_integral_of_the_loss():
    run = made(loss={}, data={"unique_tokens": 4e11, "raw_B": "1.8 TB"})
    law = [run.value(name) for name in ("loss_floor", "size_loss", "law_data_scale", "law_beta")]

    def capped(log_tokens):
        tokens = math.exp(log_tokens)
        return min(law[0] + law[1] + law[2] * tokens ** -law[3], math.log(128256)) * tokens

    bits, _ = integrate.quad(capped, 0.0, math.log(4e11), epsrel=1e-9, limit=400)
    assert run.value("code_bits") == pytest.approx(bits / math.log(2), rel=1e-6)  # one epoch, though the run has 2.5
    assert run.value("compression_ratio") == pytest.approx(8 * 1.8e12 / run.value("code_bits"))
    assert run.value("code_mean_loss") > run.value("law_loss")


# ---------------------------------------------------------------------------------------------------- phases


LLAMA_3_RAMP = [
    {"name": "4M", "tokens": 252e6, "sequence_length": 4096, "global_batch_sequences": 1024},
    {"name": "8M", "tokens": 2.87e12 - 252e6, "global_batch_sequences": 1024},
    {"name": "16M", "global_batch_sequences": 2048},
]


def test_steps_of_llama_3s_ramp():
    """1.154e6 steps in three phases (EQ-92), less what 2^20 is above 1e6."""
    run = made({"tokens": 15.6e12}, phases=LLAMA_3_RAMP)
    steps = sum(run.value(f"phase_steps[{name}]") for name in ("4M", "8M", "16M"))
    assert steps * 1.048576 == pytest.approx(1.154e6, rel=1e-3)
    assert run.value("productive_s") == pytest.approx(
        sum(run.value(f"phase_steps[{name}]") * plan.step_s for name, plan in run.steps.items())
    )


def test_each_phase_is_the_plan_of_its_own_spec():
    phases = [{"name": "short"}, {"name": "long", "share": 0.05, "sequence_length": 65536, "global_batch_sequences": 16,
                                 "layout": {"cp": 8, "recompute": "full"}}]
    run = made(phases=phases)
    own = {
        **SMALL, "training": {**SMALL["training"], "sequence_length": 65536, "global_batch_sequences": 16},
        "layout": {**SMALL["layout"], "cp": 8, "recompute": "full"},
    }  # fmt: skip
    assert run.steps["long"].step_s == planner.plan(own).step_s
    assert run.steps["long"].problem.spec.layout.dp == 8  # derived again
    assert run.value("phase_tokens[long]") == pytest.approx(5e10)
    assert sum(run.value(f"phase_tokens[{name}]") for name in run.steps) == pytest.approx(1e12)


def test_one_phase_is_no_phases():
    assert made(phases=[{"name": "all"}]).value("run_wall_s") == made().value("run_wall_s")


def test_a_phase_that_does_not_fit_says_so():
    long = {"name": "long", "share": 0.1, "sequence_length": 1048576, "global_batch_sequences": 64}
    run = made(phases=[{"name": "short"}, long])
    assert not run.feasible and run.violations[0].startswith("phase long: memory")


def test_bad_layout_of_a_phase_is_refused_at_its_field():
    error = refused(phases=[{"name": "a"}, {"name": "b", "share": 0.1, "layout": {"tp": 7}}])
    assert error.field is not None and error.field.startswith("run.phases.1") and "phase 'b'" in error.message
    error = refused(phases=[{"name": "a", "layout": {"tpp": 8}}])
    assert error.field == "run.phases.0.layout.tpp" and "Did you mean 'tp'" in error.message


# ---------------------------------------------------------------------------------------------------- power, money


def test_money_is_null_until_a_price_is_given():
    assert set(run_outcome.to_dict(made())["money"].values()) == {None}
    run = made(price_per_hour=2.0)
    assert run.value("rental_cost") == 2.0 * 64 * run.value("run_wall_s") / 3600
    assert "failure_cost" not in run.inputs.targets  # nothing fails


def test_price_of_deepseek_v3s_pre_training():
    """2.664e6 H800 hours at 2 dollars for 14.8e12 tokens (arXiv 2412.19437): 5.33e6."""
    spec = loader.load("examples/deepseek-v3-h800.yaml", ["training.tokens=14.8e12", "run.price_per_hour=2.0"])
    assert run_plan(planner.plan(spec)).value("rental_cost") == pytest.approx(5.33e6, rel=0.1)


def test_others_on_the_cluster_lengthen_the_run():
    run = made(other={"evaluation": 0.05, "post_training": 0.15}, price_per_hour=2.0)
    assert run.value("run_wall_s") == pytest.approx(made().value("run_wall_s") / 0.8)


def test_mean_power_by_hand_from_the_parts_of_the_step():
    run = made(power=POWER)
    parts, step_s = run.steps["main"].parts, run.steps["main"].step_s
    matmul = parts["gemm_total_s"] + parts["ends_total_s"] + parts["overlap_slowdown_total_s"] + parts["recompute_total_s"]
    attention, memory = parts["attention_total_s"], parts["elementwise_total_s"] + parts["optimizer_s"]
    draw = {name: one.share for name, one in power.BOARD_DRAW.items()}
    mean = (
        matmul * draw["matmul"] + attention * draw["attention"] + memory * draw["memory"]
        + (step_s - matmul - attention - memory) * draw["waiting"]
    ) / step_s  # fmt: skip
    assert run.value("training_site_W") == pytest.approx(64 * (700 * mean + 450) * 1.1, rel=1e-12)
    assert run.value("peak_site_W") == pytest.approx(64 * (700 * draw["matmul"] + 450) * 1.1)
    assert run.value("waiting_site_W") < run.value("average_site_W") < run.value("peak_site_W")


def test_lost_time_draws_the_power_of_waiting():
    run = made(power=POWER)
    less = one(run, "run_energy_J", goodput=0.5) - run.value("run_energy_J")
    assert less == pytest.approx(run.value("waiting_site_W") * run.value("productive_s"))
    assert one(run, "average_site_W", goodput=0.5) == pytest.approx(
        0.5 * (run.value("training_site_W") + run.value("waiting_site_W"))
    )


def test_carbon_and_price_of_energy():
    run = made(power={**POWER, "kg_per_kWh": 0.385, "price_per_kWh": 0.08})
    kWh = run.value("run_energy_J") / 3.6e6
    assert run.value("run_carbon_kg") == pytest.approx(0.385 * kWh)
    assert run.value("energy_cost") == pytest.approx(0.08 * kWh)


def test_a_cap_below_the_peak_is_an_answer_with_what_fits():
    run = made(power={**POWER, "cap_W": "50 kW"})
    assert not run.feasible and "cap is 0.1 MW" in run.violations[0]
    most = run.value("accelerators_under_cap")
    each_W = run.value("peak_site_W") / 64
    assert most * each_W <= 50e3 < (most + 1) * each_W
    assert made(power={**POWER, "cap_W": "100 kW"}).feasible


def test_power_needs_a_rated_power(tmp_path):
    shipped = datafiles.root("hardware_profiles") / "h100-sxm-80gb.yaml"
    lines = shipped.read_text(encoding="utf-8").splitlines(keepends=True)
    own = tmp_path / "unrated.yaml"
    own.write_text("".join(line for line in lines if not line.strip().startswith("tdp_W")), encoding="utf-8")
    error = refused(_spec={"cluster": {"profile": str(own), "accelerators": 64}}, power=POWER)
    assert error.field == "run.power" and "no rated power" in error.message


# ---------------------------------------------------------------------------------------------------- calendar, launch


def test_dates_follow_from_the_start():
    run = made(start="2027-03-01", deadline="2028-03-01")
    days = run.value("run_wall_s") / 86400
    row = calendar.stretches(run)[-1]
    assert row.end == datetime.date(2027, 3, 1) + datetime.timedelta(days=int(days))
    assert calendar.slack_days(run) == pytest.approx(366 - days)
    assert calendar.stretches(made())[0].end is None and calendar.slack_days(made()) is None
    assert calendar.stretches(made({"tokens": 1e20}, start="2027-03-01"))[-1].end is None  # after the year 9999


def test_dates_of_plain_data_and_of_text_are_the_same():
    day = datetime.date(2027, 3, 1)
    plain = {**SMALL, "run": {"start": day, "tranches": [{"date": day, "accelerators": 64}]}}
    text = {**SMALL, "run": {"start": "2027-03-01", "tranches": [{"date": "2027-03-01", "accelerators": 64}]}}
    assert planner.plan(plain).spec_hash == planner.plan(text).spec_hash
    with pytest.raises(SpecError, match=r"run.start"):
        planner.plan({**SMALL, "run": {"start": datetime.datetime(2027, 3, 1, 12)}})


def test_a_start_is_held_against_the_day_of_the_plan_or_of_the_shipped_data():
    newest = max(
        match for path in datafiles.root("hardware_profiles").rglob("*.yaml")
        for match in re.findall(r"date: '?(20[0-9-]+)", path.read_text(encoding="utf-8"))
    )  # fmt: skip
    assert f"{DATA_OF:%Y-%m}" == newest[:7]
    assert "lies in the past" in refused(start="2026-10-31").message
    assert calendar.stretches(made(start="2024-04-01", today="2024-03-01"))[0].start == datetime.date(2024, 4, 1)


def test_half_of_the_hardware_late_by_hand():
    whole = made(start="2027-01-01", tranches=[{"date": "2026-12-01", "accelerators": 64}])
    assert whole.value("calendar_s") == pytest.approx(whole.value("run_wall_s"))
    late = made(
        start="2027-01-01",
        tranches=[{"date": "2026-12-01", "accelerators": 32}, {"date": "2027-01-11", "accelerators": 32}],
    )
    assert late.value("tranche_delay_s") == pytest.approx(5 * 86400)  # ten days at half the rate
    assert calendar.end_s(late) == late.value("calendar_s")
    phased = made(phases=[{"name": "a", "share": 0.3}, {"name": "b"}], start="2027-01-01", tranches=[
        {"date": "2027-01-01", "accelerators": 32}, {"date": "2027-01-11", "accelerators": 32}])
    ends = [row.end_s for row in calendar.stretches(phased)]
    assert ends[0] < ends[1] == pytest.approx(phased.value("calendar_s"))


def test_best_wait_of_the_closed_form():
    """EQ-90: speed that doubles every d; the plan's own table finds the same wait."""
    run = made({"tokens": 3e14}, launch={"horizon": "4000 d", "improvement_doubling": "500 d"}, start="2027-01-01")
    best = economics.best_wait(np.array([run.value("run_wall_s")]), np.array([500 * 86400.0]))[0]
    choice = launch.waits(run, 4001)
    assert best > 0 and choice.soonest.wait_s == pytest.approx(best, abs=86400)
    finish = economics.finish_after_wait(np.array([run.value("run_wall_s")]), np.array([500 * 86400.0]), np.array([best]))[0]
    assert choice.soonest.finish_s == pytest.approx(finish, rel=1e-4)


def test_a_run_launched_now_is_the_run_of_the_plan():
    run = made(launch={"horizon": "60 d", "improvement_doubling": "900 d"})
    for goodput in (1.0, 0.7, 0.03):
        assert one(run, "launch_run_s", goodput=goodput) == one(run, "run_wall_s", goodput=goodput)
    assert launch.waits(run).rows[0].run_s == run.value("run_wall_s")
    assert "'failure_excess'" in refused(launch={"horizon": "60 d", "failure_excess": 2.0}).message


def test_a_run_after_the_deadline_has_no_loss():
    run = made(launch={"horizon": "60 d", "improvement_doubling": "900 d"}, start="2027-01-01", deadline="2027-01-20", loss={})
    rows = launch.waits(run).rows
    assert rows[0].deadline_loss is not None and rows[-1].deadline_loss is None and rows[-1].deadline_tokens == 0.0


# ---------------------------------------------------------------------------------------------------- serving


def test_keys_and_values_of_llama_3_405b_and_deepseek_v3():
    """516,096 B and 70,272 B a token in bf16 (arXiv 2505.09343)."""
    for model, published in (("llama-3.1-405b", 516096), ("deepseek-v3", 70272)):
        layout = {**SMALL["layout"], "tp": 8, "pp": 8 if model == "llama-3.1-405b" else 1}
        run = made(_spec={"model": model, "layout": layout}, serving=SERVING)
        assert run.value("served_kv_B") == published


def test_cost_of_serving_by_hand():
    run = made(serving=SERVING)
    value = run.value
    assert value("serving_accelerators") == 1
    assert value("serving_batch") == min(math.ceil(value("knee_batch")), value("memory_batch"))
    round_s = value("serving_batch") * value("prefill_s") + 500 * value("decode_step_s")
    assert value("serving_cost_per_million") == pytest.approx(3.0 * 1e6 * round_s / (3600 * 500 * value("serving_batch")))
    assert made(serving={**SERVING, "precision": "fp8"}).value("serving_cost_per_million") < value("serving_cost_per_million")


def test_a_window_and_a_mixture_read_less():
    dense = made(serving=SERVING)
    model = {"preset": "llama-3-8b", "sliding_window": {"window": 1024, "local": 3}}
    windowed = made(_spec={"model": model}, serving=SERVING)
    assert windowed.value("full_sequence_B") == pytest.approx(dense.value("served_kv_B") * (0.25 * 4500 + 0.75 * 1024))
    long = {**SERVING, "prompt_tokens": 100_000, "output_tokens": 1}
    whole, short = made(serving=long), made(_spec={"model": model}, serving=long)
    attended = 0.25 * 50_000 + 0.75 * 1024 * (1 - 1024 / 200_000)
    assert short.value("prefill_attended_tokens") == pytest.approx(attended)
    assert short.value("prefill_work_s") < 0.6 * whole.value("prefill_work_s")
    mixture = made(_spec={"model": "mixtral-8x7b", "layout": {**SMALL["layout"], "ep": 8}}, serving={**SERVING, "batch": 1})
    experts = mixture.value("expert_parameters_stored")
    assert mixture.value("decode_read_B") == pytest.approx(mixture.value("served_weights_B") - 2 * experts * (1 - 2 / 8))


def test_a_batch_or_a_model_that_memory_does_not_hold_is_an_answer():
    run = made(serving={**SERVING, "batch": 4096})
    assert not run.feasible and run.violations[0].startswith("serving: 4,096 sequences together, and memory holds")
    layout = {**SMALL["layout"], "tp": 8, "pp": 8}
    large = made(_spec={"model": "llama-3.1-405b", "layout": layout}, serving={**SERVING, "accelerators": 2})
    assert not large.feasible and large.value("serving_cost_per_million") == math.inf
    assert run_outcome.lines(large)


def test_serving_on_what_is_not_there_is_refused():
    assert refused(serving={**SERVING, "profile": "h1000"}).field == "run.serving.profile"
    error = refused(serving={**SERVING, "profile": "a100-sxm-80gb", "precision": "fp8"})
    assert error.field == "run.serving.precision" and "no fp8 matrix products" in error.message


def test_more_tokens_served_make_the_best_shape_smaller():
    runs = [made(loss={}, serving={**SERVING, "served_tokens": served}) for served in (1e3, 1e13)]
    base = runs[0]
    assert base.value("serving_optimal_parameters") == pytest.approx(base.value("optimal_parameters"), rel=1e-6)
    tokens = [run.value("serving_optimal_tokens") / run.value("serving_optimal_parameters") for run in runs]
    assert tokens[1] > 3 * tokens[0]
    assert runs[1].value("lifetime_over_training") == pytest.approx(1 + 1e13 / 3e12)
    spent = 6 * runs[1].value("serving_optimal_parameters") * runs[1].value("serving_optimal_tokens")
    spent += 2 * runs[1].value("serving_optimal_parameters") * 1e13
    assert spent == pytest.approx(runs[1].value("lifetime_FLOP"), rel=1e-9)
    cheap = made(loss={}, serving={**SERVING, "served_tokens": 1e13, "cost_over_training": 0.1})
    assert cheap.value("serving_optimal_parameters") > runs[1].value("serving_optimal_parameters")


# ---------------------------------------------------------------------------------------------------- ladder


def test_ladder_extrapolates_as_its_formula_says():
    residual = {"sd": 0.01, "source": "own"}
    run = made(loss={}, price_per_hour=2.0, ladder={"rungs": 4, "smallest": 1e-5, "largest": 1e-2, "residual": residual})
    found = ladder.ladder(run)
    shares = np.geomspace(1e-5, 1e-2, 4)
    for rung, share in zip(found.loss_rungs, shares, strict=True):
        assert rung.tokens / rung.parameters == pytest.approx(1e12 / run.value("law_parameters"))
        assert rung.compute_FLOP == pytest.approx(6 * rung.parameters * rung.tokens)
        assert rung.compute_FLOP == pytest.approx(share * run.value("run_compute_FLOP"))
        law_loss = scaling.loss(scaling.BESIROGLU.law, np.array([rung.parameters]), np.array([rung.tokens]))[0]
        assert rung.loss == pytest.approx(law_loss) and rung.low < rung.loss < rung.high
    beyond = found.extrapolation
    sd = extrapolation.prediction_sd(np.log(shares), np.array([0.01]), np.zeros(1))[0]
    assert beyond.decades == pytest.approx(2.0) and beyond.amplification * 0.01 == pytest.approx(sd)
    assert beyond.loss_sd == pytest.approx(sd * (run.value("final_loss") - run.value("loss_floor")))
    half = one(run, "effective_FLOP", run_tokens=1e12)
    law = scaling.BESIROGLU.law
    assert scaling.compute_for_FLOP(law, beyond.no_go_loss - law.E) == pytest.approx(half / 2, rel=1e-9)
    # at the break-even residual the 80 % edge of the prediction is the no-go loss
    edge = (run.value("final_loss") - law.E[0]) * math.exp(1.2816 * beyond.break_even_sd * beyond.amplification) + law.E[0]
    assert edge == pytest.approx(beyond.no_go_loss, rel=1e-9)


def test_system_rungs_are_plans_of_fewer_replicas_and_the_costs_add_up():
    run = made(price_per_hour=2.0)
    found = ladder.ladder(run)
    assert found.loss_rungs == () and found.extrapolation is None and "no rungs of loss" in " ".join(found.notes)
    assert [rung.dp for rung in found.system_rungs] == [1, 8, 32] or found.notes
    for rung in found.system_rungs:
        spec = {
            **SMALL, "cluster": {**SMALL["cluster"], "accelerators": rung.accelerators},
            "training": {**SMALL["training"], "global_batch_sequences": 128 * rung.dp // 64},
        }  # fmt: skip
        own = planner.plan(spec)
        assert (rung.step_s, rung.high_s) == (own.step_s, own.step_interval.high) and own.feasible
        assert rung.full_over_this == run.steps["main"].step_s / own.step_s
    assert found.accelerator_hours == pytest.approx(sum(rung.accelerator_hours for rung in found.system_rungs))
    assert found.cost == 2.0 * found.accelerator_hours and 0 < found.share_of_run < 0.1
    assert len(found.go) == len(found.system_rungs)


# ---------------------------------------------------------------------------------------------------- the whole


EVERYTHING: dict[str, Any] = {
    "loss": {"reference": REFERENCE}, "data": {"unique_tokens": "500 B tokens", "raw_B": "2 TB"}, "price_per_hour": 2.0,
    "phases": [{"name": "ramp", "share": 0.1, "global_batch_sequences": 64}, {"name": "main"}],
    "power": {**POWER, "cap_W": "100 kW", "kg_per_kWh": 0.4, "price_per_kWh": 0.1}, "other": {"evaluation": 0.05},
    "start": "2027-03-01", "today": "2027-01-01", "deadline": "2029-01-01",
    "tranches": [{"date": "2027-02-01", "accelerators": 32}, {"date": "2027-03-15", "accelerators": 32}],
    "launch": {"horizon": "90 d", "improvement_doubling": "540 d"},
    "serving": {**SERVING, "served_tokens": "1 T tokens"}, "ladder": {},
}  # fmt: skip


def test_a_sweep_over_ten_thousand_runs_has_the_bits_of_each_run():
    run = made(**EVERYTHING)
    rng = np.random.default_rng(3)
    axes = {
        "run_tokens": 10 ** rng.uniform(11, 13, 10_000), "unique_tokens": 10 ** rng.uniform(10, 13, 10_000),
        "goodput": rng.uniform(0.3, 1.0, 10_000), "price_per_hour": rng.uniform(1, 5, 10_000),
        "law_parameters": 10 ** rng.uniform(9, 12, 10_000),
    }  # fmt: skip
    targets = ["final_loss", "effective_over_reference", "rental_cost", "run_energy_J", "calendar_s", "code_bits"]
    all_at_once = evaluate(run.inputs, axes, targets)
    for at in (0, 4711, 9999):
        alone = evaluate(run.inputs, {name: values[at : at + 1] for name, values in axes.items()}, targets)
        for target in targets:
            assert all_at_once[(target, None)][at] == alone[(target, None)][0], target


def test_every_quantity_keeps_its_units():
    run = made(**EVERYTHING)
    # hours, kWh and bits in place of seconds, joules and bytes
    others = {"run_accelerator_hours", "energy_cost", "run_carbon_kg", "serving_cost_per_million", "compression_ratio"}
    wrong = graph.unit_errors(run.program, run.values, frozenset(others))
    assert wrong == []


def test_everything_reads_in_eighty_columns_and_is_plain_data():
    run = made(**EVERYTHING)
    lines = run_outcome.lines(run)
    assert max(len(part) for line in lines for part in line.splitlines()) <= 80
    assert lines[0].startswith("ends        after ") and "2027-" in lines[0]
    data = json.loads(json.dumps(run_outcome.to_dict(run), allow_nan=False))
    assert data["phases"][1]["phase"] == "main" and data["money"]["rental_cost"] == run.value("rental_cost")
    assert data["quantities"]["batch_over_critical"]["ramp"] == run.value("batch_over_critical[ramp]")
    assert any(line.endswith("no run.price_per_hour: no money") for line in run_outcome.lines(made()))


def test_a_spec_with_a_run_is_written_out_and_read_again():
    loaded = loader.load({**SMALL, "run": EVERYTHING})
    again = loader.load(loaded.resolved())
    assert again.spec.run == loaded.spec.run and again.spec_hash == loaded.spec_hash
    assert "run.data.raw_B: '2 TB' = 1.819 TiB" in loaded.read_as
    assert run_plan(planner.plan(planner.plan(loaded).resolved())).value("run_wall_s") == made(**EVERYTHING).value("run_wall_s")


def test_nothing_is_planned_of_what_is_left_out():
    base = {"phase_tokens_per_s", "productive_s", "run_wall_s", "run_tokens_per_s", "run_accelerator_hours", "phase_end_wall_s"}
    assert set(made().inputs.targets) == base


def test_the_screen_shows_the_loss_by_the_other_laws_and_their_spread() -> None:
    run = made(loss={"law": "hoffmann"})
    rows = {row.law: row.final_loss for row in interval.by_law(run)}
    assert rows["hoffmann"] == pytest.approx(run.value("final_loss"), rel=1e-12)
    told = " ".join(" ".join(run_outcome.lines(run)).split())
    assert all(f"{law} {loss:.3f}" in told for law, loss in rows.items() if law != "hoffmann")
    assert f"spread of the laws {min(rows.values()):.3f} to {max(rows.values()):.3f}" in told
    for law in ("kaplan", "llama3"):
        assert "other laws" not in " ".join(run_outcome.lines(made(loss={"law": law})))


@pytest.mark.parametrize(("story", "least", "most"), [("gpt4-retrain", 1200, 1600), ("frontier-100k-two-sites", 1300, 1900)])
def test_a_story_draws_what_its_accelerators_with_their_nodes_draw(story, least, most):
    """At the meter: 8.4 kW of a node of eight H100 (arXiv 2412.08602), 120 kW of a rack of 72 GB200, and PUE 1.15 to 1.2."""
    run = run_plan(planner.plan(datafiles.root("examples") / f"{story}.yaml"))
    assert least < run.value("average_site_W") / run.value("run_accelerators") < most
