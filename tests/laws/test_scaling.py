"""Loss, data, batch and code length: published rows C120 to C175, and what holds for all sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import checks, hold, name, row
from scipy import integrate, optimize

from codesign.laws import batch, compression, repeated_data, scaling, semisync
from codesign.laws.scaling import BESIROGLU, HOFFMANN_ROUNDED, HOFFMANN_TEX

CHECKS = checks(5, 6)
LAWS = {
    "hoffmann_rounded": HOFFMANN_ROUNDED.law, "hoffmann_tex": HOFFMANN_TEX.law, "besiroglu": BESIROGLU.law,
}
ALL_LAWS = [*LAWS.values(), repeated_data.MUENNIGHOFF]


def chinchilla_loss(i):
    return scaling.loss(LAWS[i["params"]], row(i["N"]), row(i["D"]))


def tokens_per_parameter(i):
    best = scaling.optimum(LAWS[i["params"]], row(i["C"]))
    return best.tokens / best.parameters


def muennighoff_constants(i):
    law = repeated_data.MUENNIGHOFF
    assert [i["a"], i["b"], i["e"]] == [repeated_data.LN_A, repeated_data.LN_B, repeated_data.LN_E]
    return law.A[0], law.B[0], law.E[0]


def parameters_per_unique_token(_):
    """The constant in use, and the optimum of the law that it stands for."""
    best = scaling.optimum(repeated_data.MUENNIGHOFF, row(1e22))
    assert best.parameters / best.tokens == pytest.approx(repeated_data.PARAMETERS_PER_UNIQUE_TOKEN, rel=0.005)
    return repeated_data.PARAMETERS_PER_UNIQUE_TOKEN


def step_law_ratios(i):
    known, more, size = row(1e11), row(1e11 * i["D_ratio"]), row(1e9)
    return (
        batch.step_law_learning_rate(size, more) / batch.step_law_learning_rate(size, known),
        batch.step_law_batch_tokens(more) / batch.step_law_batch_tokens(known),
    )


def doubling_in_kaplan(_):
    return scaling.kaplan_loss_of_parameters(row(1e9)) / scaling.kaplan_loss_of_parameters(row(2e9))


def joint_loss_ratios(i):
    return [semisync.diloco_joint_loss(row(1e9), row(m)) / semisync.diloco_joint_loss(row(1e9), row(1)) for m in i["M"]]


LAW = {
    "C120": lambda i: scaling.kaplan_loss_of_parameters(row(i["N"])),
    "C121": doubling_in_kaplan,
    "C122": lambda i: batch.kaplan_critical_batch_tokens(row(i["L"])),
    "C123": chinchilla_loss,
    "C124": chinchilla_loss,
    "C125": tokens_per_parameter,
    "C126": tokens_per_parameter,
    "C127": lambda i: scaling.parameter_exponent(LAWS[i["params"]]),
    "C128": lambda i: scaling.optimum(LAWS[i["params"]], row(i["C"])),
    "C129": lambda i: repeated_data.geometric_tokens(row(i["U"]), row(i["delta"]), row(i["R_D"])),
    "C130": lambda i: repeated_data.effective_tokens(row(i["U"] * (1 + i["R_D"])), row(i["U"]), row(i["Rstar"])),
    "C131": parameters_per_unique_token,
    "C132": muennighoff_constants,
    "C133": lambda i: repeated_data.effective_tokens(row(i["U"] * i["epochs"]), row(i["U"])),
    "C134": lambda i: scaling.deepseek_optimum(row(i["C"])),
    "C135": lambda i: (batch.deepseek_learning_rate(row(i["C"])), batch.deepseek_batch_tokens(row(i["C"]))),
    "C136": lambda i: scaling.llama3_tokens_as_printed(row(i["C"])),
    "C137": lambda i: scaling.FLOP_PER_PARAMETER_TOKEN * i["N"] * i["D"],
    "C139": lambda i: scaling.sparsity_compute_multiplier(row(*i["sparsity"])),
    "C140": lambda i: scaling.efficiency_leverage(row(i["active"]), row(i["dense_equiv"])),
    "C141": lambda i: (batch.steps_over_least(row(i["B_over_Bcrit"])), batch.tokens_over_least(row(i["B_over_Bcrit"]))),
    "C142": step_law_ratios,
    **dict.fromkeys(
        ["C144", "C145", "C146", "C147", "C148", "C149", "C150", "C151"],
        lambda i: semisync.diloco_loss(row(i["N"]), i["M"]),
    ),
    "C152": lambda i: semisync.loss_increase(row(2.096), row(2.090)),
    "C153": joint_loss_ratios,
    "C154": lambda i: semisync.diloco_batch_tokens(row(i["N"]), 0),
    "C155": lambda i: scaling.algorithmic_gain(row(i["months"]), row(i["halving_months"])),
    "C157": lambda i: scaling.lifetime_over_training(row(1e12), row(1e12 * i["T_inf_over_D"])),
    "C158": lambda i: repeated_data.muennighoff_data_bound_FLOP(row(i["U"])),
    "C159": lambda i: -scaling.compute_exponent(LAWS[i["params"]]),
    "C160": lambda i: 1 / scaling.compute_exponent(LAWS[i["params"]]),
    "C161": lambda i: scaling.compute_gain(row(1.0), row(i["reducible_ratio"]), row(0.0), row(i["gamma"])),
    "C162": tokens_per_parameter,
    "C170": lambda i: compression.compression_ratio(row(i["raw_TB"] * 1e12), row(8 * i["code_GB"] * 1e9)),
    "C171": lambda i: compression.mean_loss(row(8 * i["code_GB"] * 1e9), row(i["tokens"])),
    "C172": lambda i: compression.bits_per_byte(row(i["raw_TB"] * 1e12), row(8 * i["code_GB"] * 1e9)),
    "C173": lambda i: compression.law_code_bits(row(i["D"]), row(i["E_plus_N_term"]), row(i["B"]), row(i["beta"])),
    "C174": lambda i: compression.final_share(row(i["beta"])),
}
DATA = {  # what restates a constant of a paper that the package holds
    "C143": lambda: (batch.POWER_LINES_BEST, batch.POWER_LINES_CRITICAL),
    "C175": lambda: [compression.CHINCHILLA_SIZE_PERCENT[which] for which in ("ImageNet", "LibriSpeech")],
}


def test_every_check_has_its_law_or_its_datum():
    assert LAW.keys() | DATA.keys() == CHECKS.keys() and not LAW.keys() & DATA.keys()


@pytest.mark.parametrize("check", [CHECKS[key] for key in LAW], ids=name)
def test_published_law(check):
    hold(check, LAW[check["id"]](check["inputs"]))


@pytest.mark.parametrize("check", [CHECKS[key] for key in DATA], ids=name)
def test_published_constant(check):
    hold(check, DATA[check["id"]]())


# ---------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("law", ALL_LAWS)
def test_loss_falls_with_parameters_and_with_tokens(law):
    sizes = np.geomspace(1e8, 1e14, 61)
    assert (np.diff(scaling.loss(law, sizes, row(1e12))) < 0).all()
    assert (np.diff(scaling.loss(law, row(1e11), sizes)) < 0).all()


@pytest.mark.parametrize("law", ALL_LAWS)
def test_the_optimum_spends_the_compute_and_has_no_better_neighbour(law):
    compute = np.geomspace(1e20, 1e28, 17)
    best = scaling.optimum(law, compute)
    np.testing.assert_allclose(6 * best.parameters * best.tokens, compute, rtol=1e-12)
    least = scaling.loss(law, *best)
    for factor in (0.8, 0.99, 1.01, 1.25):
        assert (scaling.loss(law, best.parameters * factor, best.tokens / factor) > least).all()


@pytest.mark.parametrize("law", ALL_LAWS)
def test_the_reducible_loss_of_the_optimum_falls_by_the_compute_exponent(law):
    once, twice = (scaling.loss(law, *scaling.optimum(law, row(c))) - law.E for c in (1e24, 1e26))
    assert math.log(twice[0] / once[0]) / math.log(100) == pytest.approx(-scaling.compute_exponent(law)[0], rel=1e-9)


def test_effective_compute_is_the_compute_of_the_optimum_and_less_of_any_other_shape():
    law, compute = BESIROGLU.law, np.geomspace(1e22, 1e27, 11)
    best = scaling.optimum(law, compute)
    reducible = scaling.loss(law, *best) - law.E
    np.testing.assert_allclose(scaling.compute_for_FLOP(law, reducible), compute, rtol=1e-9)
    other = scaling.loss(law, 3 * best.parameters, best.tokens / 3) - law.E
    assert (scaling.compute_for_FLOP(law, other) < compute).all()


def test_compute_gain_of_ten_times_the_compute_is_ten():
    law = BESIROGLU.law
    before, after = (scaling.loss(law, *scaling.optimum(law, row(c))) for c in (1e25, 1e26))
    assert scaling.compute_gain(before, after, law.E, scaling.compute_exponent(law)) == pytest.approx(10, rel=1e-9)


@pytest.mark.parametrize("served", [0.0, 1e12, 1e14])
def test_inference_aware_optimum_meets_its_condition_and_a_general_minimiser(served):
    law, budget = BESIROGLU.law, 1e25
    best = scaling.inference_aware_optimum(law, row(budget), row(served))
    assert 6 * best.parameters * best.tokens + 2 * best.parameters * served == pytest.approx(budget, rel=1e-9)
    ratio = (law.alpha * law.A * best.parameters**-law.alpha) / (law.beta * law.B * best.tokens**-law.beta)
    assert ratio == pytest.approx(scaling.lifetime_over_training(best.tokens, row(served)), rel=1e-9)
    found = optimize.minimize_scalar(
        lambda log_n: scaling.loss(law, np.exp(row(log_n)), (budget / np.exp(row(log_n)) - 2 * served) / 6)[0],
        bounds=(math.log(best.parameters[0]) - 1, math.log(best.parameters[0]) + 0.5), method="bounded",
        options={"xatol": 1e-10},
    )
    assert found.x == pytest.approx(math.log(best.parameters[0]), abs=1e-4)


def test_serving_more_makes_the_model_smaller():
    best = scaling.inference_aware_optimum(BESIROGLU.law, row(1e25), np.array([0.0, 1e11, 1e12, 1e13, 1e14]))
    assert (np.diff(best.parameters) < 0).all() and (np.diff(best.tokens / best.parameters) > 0).all()
    np.testing.assert_allclose(best.parameters[0], scaling.optimum(BESIROGLU.law, row(1e25)).parameters[0], rtol=1e-9)


def test_joint_draws_have_the_published_standard_errors_and_correlation():
    """E 0.03, A 124.58, B 1293, alpha and beta 0.02, a 0.02; corr(ln B, beta) 0.9997. Printed to one digit: 30 %."""
    drawn = scaling.draw_parameters(np.random.default_rng(3), 20_000)
    assert drawn.E.std() == pytest.approx(0.03, rel=0.3) and drawn.A.std() == pytest.approx(124.58, rel=0.3)
    assert np.log(drawn.B).std() == pytest.approx(0.42, rel=0.05)
    assert drawn.alpha.std() == pytest.approx(0.02, rel=0.3) and drawn.beta.std() == pytest.approx(0.02, rel=0.1)
    assert scaling.parameter_exponent(drawn).std() == pytest.approx(0.02, rel=0.1)
    assert np.corrcoef(np.log(drawn.B), drawn.beta)[0, 1] == pytest.approx(0.9997, abs=2e-4)
    assert [np.median(x) for x in drawn] == pytest.approx([x[0] for x in BESIROGLU.law], rel=0.02)


def test_joint_draws_keep_the_loss_where_drawing_one_by_one_would_not():
    drawn = scaling.draw_parameters(np.random.default_rng(3), 4000)
    joint = scaling.loss(drawn, row(70e9), row(1.4e12)).std()
    shuffled = drawn._replace(beta=drawn.beta[::-1], alpha=drawn.alpha[::-1])
    assert joint < 0.02 and scaling.loss(shuffled, row(70e9), row(1.4e12)).std() > 4 * joint


def test_llama3_optimum_is_the_printed_one():
    assert scaling.llama3_tokens(row(3.8e25)) == 16.55e12


def test_deepseek_counts_67b():
    # 95 layers, width 8192, sequence 4096: 7.1e10 parameters of 6 FLOP each, and attention
    assert scaling.deepseek_model_FLOP_per_token(row(95), row(8192), row(4096))[0] / 6 == pytest.approx(82.9e9, rel=0.01)


def test_kaplan_laws_of_tokens_and_compute_at_their_scales():
    assert scaling.kaplan_loss_of_tokens(row(5.4e13)) == 1 and scaling.kaplan_loss_of_compute(row(3.1e8 * 8.64e19)) == 1


def test_sparsity_is_not_carried_beyond_its_table():
    values = scaling.sparsity_compute_multiplier(row(7.9, 8, 20, 47, 48, 49))
    assert np.isnan(values[[0, 5]]).all() and (np.diff(values[1:5]) < 0).all()


# ---------------------------------------------------------------------------------------------------- repeated data


def test_first_epoch_is_fresh_and_no_repetition_is_worth_more_than_the_cap():
    assert repeated_data.effective_tokens(row(5e11, 1e12), row(1e12)) == pytest.approx([5e11, 1e12], rel=1e-15)
    tokens = np.geomspace(1e12, 1e15, 50)
    worth = repeated_data.effective_tokens(tokens, row(1e12))
    assert (np.diff(worth) >= 0).all() and (worth <= tokens * (1 + 1e-12)).all()
    assert worth[-1] == pytest.approx(16.387756e12, rel=1e-6)


def test_worth_of_the_next_token_is_the_slope_of_the_effective_ones():
    tokens, unique, step = np.array([1.5e12, 4e12, 16e12]), row(1e12), 1e7
    rise = repeated_data.effective_tokens(tokens + step, unique) - repeated_data.effective_tokens(tokens, unique)
    np.testing.assert_allclose(rise / step, repeated_data.next_repeat_worth(tokens, unique), rtol=1e-4)
    assert repeated_data.next_repeat_worth(row(16.387756e12), unique) == pytest.approx(math.exp(-1), rel=1e-9)


def test_data_bind_where_the_optimum_uses_them_up():
    unique = row(15e12)
    for law in ALL_LAWS:
        limit = repeated_data.data_bound_FLOP(law, unique)
        assert scaling.optimum(law, limit).tokens / unique == pytest.approx(1, rel=1e-9)
    general = repeated_data.data_bound_FLOP(repeated_data.MUENNIGHOFF, unique)
    assert general == pytest.approx(repeated_data.muennighoff_data_bound_FLOP(unique)[0], rel=0.01)


def test_data_constrained_optimum_is_chinchillas_while_data_last_and_beats_it_after():
    free = repeated_data.data_constrained_optimum(row(1e24), row(1e14))
    np.testing.assert_allclose(free.tokens, scaling.optimum(repeated_data.MUENNIGHOFF, row(1e24)).tokens, rtol=1e-3)
    bound, blind = (
        repeated_data.data_constrained_optimum(row(1e26), row(1e12)),
        scaling.optimum(repeated_data.MUENNIGHOFF, row(1e26)),
    )
    at = [repeated_data.data_constrained_loss(best.parameters, best.tokens, row(1e12)) for best in (bound, blind)]
    assert at[0] < at[1] and 6 * bound.parameters * bound.tokens == pytest.approx(1e26)


def test_compute_is_the_dear_resource_first_and_data_later():
    prices = repeated_data.shadow_prices(np.array([1e22, 1e28]), row(1e12))
    assert (prices.compute <= 0).all() and (prices.unique_tokens <= 1e-12).all()
    assert prices.compute[0] < prices.unique_tokens[0] and prices.unique_tokens[1] < prices.compute[1]


def test_more_unique_tokens_never_raise_the_loss():
    unique = np.geomspace(1e11, 1e14, 40)
    assert (np.diff(repeated_data.data_constrained_loss(row(1e11), row(5e12), unique)) <= 0).all()


# ---------------------------------------------------------------------------------------------------- batch, schedule


def test_steps_and_tokens_of_a_batch_lie_on_mccandlish_hyperbola():
    ratio = np.geomspace(0.01, 100, 9)
    product = (batch.steps_over_least(ratio) - 1) * (batch.tokens_over_least(ratio) - 1)
    np.testing.assert_allclose(product, 1, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- code length


def test_code_of_a_power_law_is_its_integral_and_the_curve_agrees():
    floor, scale, beta, tokens = 1.9, 2085.43, 0.3658, 1.4e12
    area, _ = integrate.quad(lambda u: (floor + scale * math.exp(-beta * u)) * math.exp(u), -40, math.log(tokens), limit=500)
    law = compression.law_code_bits(row(tokens), row(floor), row(scale), row(beta))
    assert law == pytest.approx(area / math.log(2), rel=1e-6)
    grid = np.geomspace(1.0, tokens, 4001)
    curve = compression.curve_code_bits(grid, floor + scale * grid**-beta)
    assert curve == pytest.approx(law, rel=1e-4)
    absorbed = compression.absorbed_bits(row(tokens), row(scale), row(beta))
    assert law - tokens * (floor + scale * tokens**-beta) / math.log(2) == pytest.approx(absorbed, rel=1e-6)


def test_the_start_of_a_run_costs_no_more_than_a_uniform_guess():
    given = (row(1e3, 1e12), row(1.9), row(2085.43), row(0.3658))
    capped, law = compression.capped_code_bits(*given, row(128256.0)), compression.law_code_bits(*given)
    assert (capped <= law).all() and capped[0] == pytest.approx(1e3 * math.log2(128256))
    assert capped[1] / law[1] == pytest.approx(1, abs=1e-4)
