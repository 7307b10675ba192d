"""Loss, batch, code length and phases of a run: published optima, hand-made sums, and what holds for all sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from outcomes import REFERENCE, SMALL, made, one, refused
from scipy import integrate

from codesign import planner
from codesign.decisions import interval, ladder
from codesign.laws import batch, scaling
from codesign.outcome.loss_laws import LAWS
from codesign.quantities.loss import ADDITIVE
from codesign.report import run_outcome

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
