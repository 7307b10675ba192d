"""Failures, checkpoints and triage: published rows C180 to C228, exact forms, and what holds for all rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import checks, hold, name, row
from scipy import optimize, special

from codesign.laws import checkpoints, distributions, reliability, triage, two_tier

CHECKS = checks(7, 8)
DAY_S, HOUR_S = 86400.0, 3600.0
LLAMA3 = (419, 54 * DAY_S, 16384)  # unexpected interruptions, seconds, accelerators


def job_hours(gpus, per_1000_node_days):
    rate = reliability.job_rate_per_s([row(gpus / 8)], [row(per_1000_node_days / 1000 / DAY_S)])
    return reliability.mean_time_s(rate) / HOUR_S


def llama3_rate_per_s():
    events, exposure_s, gpus = LLAMA3
    return reliability.observed_rate_per_s(row(events), row(gpus), row(exposure_s))


def hours_at_llama3_rate(gpus):
    return reliability.mean_time_s(reliability.job_rate_per_s([row(gpus)], [llama3_rate_per_s()])) / HOUR_S


def kokolis(i):
    rate = row(*np.ravel(i["nodes"])) * i["rf"] / DAY_S
    write_s = row(i.get("w", 0.0))
    interval_s = checkpoints.young_interval_s(write_s, rate) if isinstance(i["dt"], str) else row(i["dt"])
    return checkpoints.first_order_goodput(interval_s, write_s, rate, row(i["u0"]))


def early_failures(i):
    law = [row(i[key] / DAY_S) for key in ("lam0", "lam_inf")]
    return i["N"] * reliability.cumulative_hazard(row(i["T"] * DAY_S), *law, row(i["tau"] * DAY_S))


def islands(i):
    whole = reliability.mean_time_s(i["gpus_total"] * llama3_rate_per_s())
    island = reliability.mean_time_s(i["gpus_total"] / i["islands"] * llama3_rate_per_s())
    return whole, island / 60


def write_minutes(i):
    write_s = checkpoints.write_s(row(i["params"] * i["bytes"]), row(i["gbps"] / 8 * 1e9), row(1), row(np.inf))
    return write_s / 60


LAW = {
    **dict.fromkeys(["C180", "C181", "C182"], lambda i: job_hours(i["gpus"], i["r"])),
    "C183": lambda i: reliability.mean_time_s(
        reliability.observed_rate_per_s(row(i["unexpected"]), row(1), row(i["days"] * 24))
    ),
    "C184": lambda i: reliability.observed_rate_per_s(row(i["unexpected"]), row(i["nodes"]), row(i["days"])),
    "C185": lambda i: reliability.mean_time_s(reliability.observed_rate_per_s(row(1), row(i["gpus"]), row(i["mtti_h"]))),
    **dict.fromkeys(["C186", "C187", "C188"], lambda i: hours_at_llama3_rate(i["gpus"])),
    **dict.fromkeys(["C189", "C190", "C191"], kokolis),
    "C192": lambda i: checkpoints.young_interval_s(row(i["delta_s"]), 1 / row(i["M_h"] * HOUR_S)) / 60,
    "C193": lambda i: checkpoints.daly_interval_s(row(i["delta"]), 1 / row(i["M"])),
    "C194": lambda i: checkpoints.wall_over_work(row(i["tau"]), row(i["delta"]), 1 / row(i["M"]), row(i["R"])),
    "C195": lambda i: 100 * checkpoints.shares(row(i["interval_h"] * HOUR_S), row(i["ckpt_s"]), row(0), row(0)).writing,
    "C196": write_minutes,
    "C197": lambda i: checkpoints.wasted_s(row(i["t_ckpt"]), row(i["interval"]), row(i["t_retr"])),
    "C198": lambda i: checkpoints.memory_recovery_probability(row(i["N"]), row(i["m"]), row(i["k"])),
    "C199": early_failures,
    "C201": lambda i: reliability.spares(row(i["nodes"]), row(i["lam"]), row(i["mttr_days"]), row(i["q"])),
    **dict.fromkeys(["C202", "C203", "C204"], lambda i: distributions.expected_maximum(row(i["n"]))),
    "C205": lambda i: distributions.poisson_interval(row(i["events"]), row(0.95)),
    "C206": lambda i: reliability.observed_rate_per_s(row(i["events"]), row(1), row(i["gpu_days"])),
    "C207": lambda i: reliability.mean_time_s(
        reliability.rare_event_rate_per_s(row(i["p_per_step"]), row(i["replicas"]), row(i["step_s"]))
    ) / DAY_S,
    "C209": islands,
    "C220": lambda i: triage.any_repeat_probability(row(i["k"]), row(i["n_nodes"])),
    "C221": lambda i: triage.repeated_nodes(row(i["k"]), row(i["n_nodes"])),
    "C222": lambda i: triage.critical_hits(row(i["k"]), row(i["n_nodes"]), row(i["alpha"])),
    "C223": lambda i: triage.dispersion(row(*i["counts"])),
    "C224": lambda i: triage.rate_upper_bound(row(i["n"]), row(0.95)),
    "C225": lambda i: triage.trials_to_see(row(i["rate"]), row(i["confidence"])),
    "C226": lambda i: triage.events_needed(row(i["f_bad"]), row(i["power"])),
    "C227": lambda i: reliability.expected_events(row(2048), row(6.5e-3), row(54)),
    "C228": lambda i: triage.software_odds(row(i["prior_hw"]), row(i["k"]), row(i["n"])),
}
DATA = {  # no law: a reported share that the package holds, and Llama 3's table, which prints 148 beside the 30.1 % of 126
    "C200": lambda i: reliability.EARLY_FAILED_SHARE,
    "C208": lambda i: [100 * count / i["total"] for count in i["faulty_gpu"]],
}


def test_every_check_has_its_law_or_its_datum():
    assert LAW.keys() | DATA.keys() == CHECKS.keys() and not LAW.keys() & DATA.keys()


@pytest.mark.parametrize("check", [CHECKS[key] for key in LAW], ids=name)
def test_published_law(check):
    hold(check, LAW[check["id"]](check["inputs"]))


@pytest.mark.parametrize("check", [CHECKS[key] for key in DATA], ids=name)
def test_published_counts(check):
    hold(check, DATA[check["id"]](check["inputs"]))


# ---------------------------------------------------------------------------------------------------- interval, goodput

RATES = np.geomspace(1e-7, 1e-2, 41)


def test_best_interval_is_the_lambert_form_and_the_least_wall_time():
    write_s = np.array([0.1, 60.0, 3000.0])[:, None]
    best = checkpoints.best_interval_s(write_s, RATES)
    lambert = (1 + special.lambertw(-np.exp(-1 - write_s * RATES), 0).real) / RATES
    easy = write_s * RATES > 1e-4  # nearer to its branch point the Lambert function itself loses digits
    np.testing.assert_allclose(best[easy], lambert[easy], rtol=1e-9)
    least = checkpoints.wall_over_work(best, write_s, RATES, row(300))
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert (checkpoints.wall_over_work(best * factor, write_s, RATES, row(300)) >= least * (1 - 1e-12)).all()


def test_daly_costs_at_most_two_in_a_thousand_and_young_is_its_limit():
    write_s, rates = 60.0, RATES[RATES * 60 < 1]
    best = checkpoints.best_interval_s(write_s, rates)
    daly = checkpoints.daly_interval_s(write_s, rates)
    loss = checkpoints.wall_over_work(daly, write_s, rates, row(300)) / checkpoints.wall_over_work(best, write_s, rates, row(300))
    assert (loss < 1.002).all()
    assert checkpoints.young_interval_s(row(1e-3), row(1e-9)) == pytest.approx(checkpoints.best_interval_s(1e-3, 1e-9), rel=1e-5)
    assert checkpoints.daly_interval_s(row(3000), row(1e-3)) == 1000


def test_without_failures_the_interval_is_endless_and_goodput_is_one():
    none = row(0.0)
    for interval in (checkpoints.young_interval_s, checkpoints.daly_interval_s, checkpoints.best_interval_s):
        assert interval(row(60.0), none) == np.inf
    assert checkpoints.goodput(row(3600.0), row(0.0), none, row(300), 60.0, 10.0) == 1
    shares = np.ravel(checkpoints.shares(row(3540), row(60), none, row(300), 60.0))
    np.testing.assert_allclose(shares, [59 / 60, 1 / 60, 0, 0, 0], atol=1e-15)
    rates = np.geomspace(1e-3, 1e-15, 40)
    intervals = checkpoints.best_interval_s(row(60), rates)
    goodput = checkpoints.goodput(intervals, row(60), rates, row(300), 60.0)
    assert (np.diff(intervals) > 0).all() and (np.diff(goodput) > 0).all() and goodput[-1] > 1 - 1e-5


def test_more_failures_slower_restarts_and_longer_writes_never_raise_goodput():
    base = {"interval_s": 900.0, "write_s": 30.0, "rate_per_s": 1e-4, "restart_s": 300.0, "down_s": 120.0, "lag_s": 60.0}
    for worse in ("write_s", "rate_per_s", "restart_s", "down_s", "lag_s"):
        ladder = base[worse] * np.geomspace(0.01, 1000, 60)
        goodput = checkpoints.goodput(**{key: row(value) for key, value in (base | {worse: 0}).items()} | {worse: ladder})
        assert (np.diff(goodput) < 0).all() and (goodput > 0).all() and (goodput < 1).all(), worse


def test_shares_add_up_and_none_is_negative_for_any_number_of_failures():
    rng = np.random.default_rng(11)
    rate = 10 ** rng.uniform(-6, -2, 2000)
    args = [10 ** rng.uniform(0, 4, 2000) for _ in range(5)]
    shares = checkpoints.shares(args[0], args[1], rate, args[2], args[3], args[4])
    total = shares.useful + shares.writing + shares.rework + shares.restart + shares.down
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    assert all((share >= 0).all() for share in shares)
    np.testing.assert_allclose(shares.useful, checkpoints.goodput(args[0], args[1], rate, args[2], args[3], args[4]), rtol=1e-12)


def test_first_order_form_is_the_limit_of_rare_failures():
    # writes count against the useful time in both; what is left is second order in rate times lost time
    exact = checkpoints.goodput(row(600), row(5), row(1e-6), row(120))
    assert checkpoints.first_order_goodput(row(600), row(5), row(1e-6), row(120)) == pytest.approx(exact, abs=1e-5)
    assert checkpoints.first_order_goodput(row(600), row(5), row(1e-2), row(1200)) == 0


def test_a_mixture_of_restarts_is_one_restart_exactly():
    rate, weights, restarts = row(1 / 5000), [row(0.9), row(0.1)], [row(120), row(6000)]
    mean = checkpoints.mean_restart_s(rate, weights, restarts)
    assert math.exp(-mean[0] / 5000) == pytest.approx(0.9 * math.exp(-120 / 5000) + 0.1 * math.exp(-6000 / 5000), rel=1e-12)
    assert mean < 0.9 * 120 + 0.1 * 6000
    assert checkpoints.mean_restart_s(row(0), weights, restarts) == pytest.approx(708, rel=1e-12)


def test_tolerable_rate_is_where_the_best_interval_meets_the_target():
    rate = checkpoints.tolerable_rate_per_s(row(0.9, 0.97), row(30), row(300), 60.0)
    interval = checkpoints.best_interval_s(row(30), rate)
    assert checkpoints.goodput(interval, row(30), rate, row(300), 60.0) == pytest.approx([0.9, 0.97], rel=1e-9)
    assert rate[0] > rate[1]


def test_ettr_of_rsc2_at_100k_is_met_up_to_197_s():
    rate = row(12500 * 0.00234 / DAY_S)
    assert checkpoints.first_order_goodput(row(197), row(0), rate, row(197)) == pytest.approx(0.9, abs=5e-4)


def test_writing_is_bounded_by_storage_or_by_the_ranks():
    assert checkpoints.write_s(row(4.87e12), row(2e12), row(16384), row(25e9)) == pytest.approx(2.435)
    assert checkpoints.write_s(row(4.87e12), row(1e15), row(100), row(1e9)) == pytest.approx(48.7)
    assert checkpoints.blocking_s(row(2.0), row(60.0), row(0.05)) == 5.0


def test_memory_copies_survive_fewer_losses_than_copies():
    assert checkpoints.memory_recovery_probability(row(16), row(2), row(1)) == 1
    survived = checkpoints.memory_recovery_probability(row(16), row(2), np.arange(1.0, 17))
    assert (np.diff(survived) <= 0).all() and survived[2] == pytest.approx(0.8) and survived[-1] == 0
    assert checkpoints.memory_recovery_probability(row(1000), row(2), row(2)) == pytest.approx(0.999, abs=1e-5)


def two_tier_wall(**changed):
    given = {
        "interval_s": 60.0, "memory_write_s": 2.0, "segments": 30.0, "storage_write_s": 40.0, "rate_per_s": 1 / 5000,
        "memory_share": 0.9, "memory_restart_s": 60.0, "storage_restart_s": 600.0, "memory_down_s": 30.0, "storage_down_s": 90.0,
    }
    return two_tier.wall_over_work(**{key: np.atleast_1d(value) for key, value in (given | changed).items()})


def test_two_tiers_without_memory_are_one_tier():
    one = checkpoints.wall_over_work(row(1800), row(30 * 2 + 40), row(1 / 5000), row(600), 90.0)
    assert two_tier_wall(memory_share=0.0) == pytest.approx(one, rel=1e-12)


def test_more_failures_that_memory_survives_never_cost_time():
    walls = two_tier_wall(memory_share=np.linspace(0, 1, 21))
    assert (np.diff(walls) < 0).all()
    assert two_tier_wall(rate_per_s=0.0) == pytest.approx((30 * 62 + 40) / 1800, rel=1e-12)
    assert (np.diff(two_tier_wall(rate_per_s=np.geomspace(1e-8, 1e-2, 30))) > 0).all()


# ---------------------------------------------------------------------------------------------------- rates, early life


def test_rates_of_components_add_up():
    counts, rates = [row(16384), row(2048), row(600)], [row(3e-9), row(8e-9), row(5e-9)]
    job = reliability.job_rate_per_s(counts, rates)
    assert job == pytest.approx(16384 * 3e-9 + 2048 * 8e-9 + 600 * 5e-9, rel=1e-15)
    assert reliability.mean_time_s(job * 0) == np.inf


def test_cumulative_hazard_is_the_integral_and_the_mean_rate_its_quotient():
    ages = np.linspace(0, 100, 100_001)
    hazard = reliability.hazard_per_s(ages, row(0.02), row(0.004), row(20.0))
    total = reliability.cumulative_hazard(row(100.0), row(0.02), row(0.004), row(20.0))
    assert total == pytest.approx(np.trapezoid(hazard, ages), rel=1e-8)
    assert reliability.mean_rate_per_s(row(100.0), row(0.02), row(0.004), row(20.0)) == pytest.approx(total / 100, rel=1e-12)
    assert reliability.mean_rate_per_s(row(0.0), row(0.02), row(0.004), row(20.0)) == 0.02
    assert reliability.after_burn_in_per_s(row(0.02), row(0.004), row(20.0), row(20.0)) == pytest.approx(0.004 + 0.016 / math.e)


def test_early_hazard_of_a_reported_share_loses_that_share():
    settled, settling_s = row(1e-9), row(20 * DAY_S)
    early = reliability.early_per_s_of_share(row(reliability.EARLY_FAILED_SHARE), settled, settling_s)
    excess = reliability.cumulative_hazard(40 * settling_s, early, settled, settling_s) - 40 * settling_s * settled
    assert -np.expm1(-excess) == pytest.approx(0.1, rel=1e-9)


def test_power_law_of_shape_one_is_a_constant_rate():
    assert reliability.power_law_failures(row(2048), row(54.0), row(1000.0), row(1.0)) == pytest.approx(2048 * 0.054)


@pytest.mark.parametrize(("domain", "stride", "dp"), [
    (8, 1, 64), (8, 8, 64), (8, 128, 16), (64, 128, 16), (12, 8, 9), (8, 12, 9), (512, 128, 2),
])
def test_replicas_hit_by_counting_ranks(domain, stride, dp):
    """The worst domain of all that lie at multiples of their size."""
    ranks = np.arange(stride * dp * 3)
    replica = ranks // stride % dp
    worst = max(len(set(replica[at : at + domain])) for at in range(0, len(ranks) - domain + 1, domain))
    assert reliability.replicas_hit(row(domain), row(stride), row(dp)) == worst


# ---------------------------------------------------------------------------------------------------- spares, elasticity


def test_spares_grow_with_everything_and_a_fixed_fleet_needs_fewer():
    args = (row(2048), row(6.5e-3), row(2.0))
    assert (np.diff(reliability.spares(*args, np.array([0.5, 0.9, 0.99, 0.999999]))) > 0).all()
    fixed = reliability.spares_of_fixed_fleet(*args, row(0.99))
    assert 35 <= fixed[0] <= reliability.spares(*args, row(0.99))[0]
    assert reliability.spares(row(2048), row(0.0), row(2.0), row(0.99)) == 0
    assert reliability.stall_share(*args, row(39))[0] <= 0.01 < reliability.stall_share(*args, row(38))[0]


def test_missing_units_is_the_mean_shortfall():
    mean, spare = 26.624, 30
    counts = np.arange(400)
    chance = np.exp(counts * math.log(mean) - mean - special.gammaln(counts + 1))
    shortfall = (np.maximum(counts - spare, 0) * chance).sum()
    assert reliability.missing_units(row(2048), row(6.5e-3), row(2.0), row(spare)) == pytest.approx(shortfall, rel=1e-10)


def test_elastic_modes_trade_time_for_batch():
    assert reliability.elastic_step_factor(row(16), row(1)) * reliability.elastic_batch_share(row(16), row(1)) == 1
    goodput = reliability.elastic_goodput(row(16), np.geomspace(1e-9, 1e-3, 30), row(7200.0), row(60.0))
    assert (np.diff(goodput) < 0).all() and goodput[0] > 0.99998
    assert reliability.elastic_goodput(row(1000), row(1e-3), row(60.0), row(60.0)) == 0  # it does nothing but reconfigure


# ---------------------------------------------------------------------------------------------------- stragglers, rare events


def test_largest_of_few_normals_by_hand_and_gumbel_is_a_little_high():
    np.testing.assert_allclose(distributions.expected_maximum(row(1, 2, 3)), [0, math.pi**-0.5, 1.5 * math.pi**-0.5], atol=1e-12)
    high = distributions.expected_maximum_asymptotic(row(1e4, 1e5)) / distributions.expected_maximum(row(1e4, 1e5)) - 1
    assert ((high > 0.003) & (high < 0.006)).all()
    assert reliability.straggler_factor(row(8), row(0.01)) == pytest.approx(1.014236, abs=1e-6)


def test_one_slow_node_in_a_large_job_is_nearly_certain():
    factor = reliability.slow_node_factor(row(1, 1400, 1e6), row(0.005), row(1.1))
    np.testing.assert_allclose(factor, [1.0005, 1.0999, 1.1], atol=1e-4)
    assert reliability.slow_node_factor(row(1400), row(0.0), row(1.1)) == 1


def test_at_least_one_event_keeps_its_digits():
    assert reliability.at_least_one(row(1e-18), row(10)) == pytest.approx(1e-17, rel=1e-12)
    assert reliability.at_least_one(row(0.5), row(2)) == 0.75
    assert 1 / reliability.rare_event_rate_per_s(row(1e-6), row(1e5), row(10.0)) == pytest.approx(100)


def test_late_detection_of_corruption_costs_more_than_a_failure_and_needs_older_checkpoints():
    loss = reliability.corruption_loss_share(row(1e-6), np.array([0.0, 3600.0, 86400.0]), row(600), row(300))
    np.testing.assert_allclose(loss, [0.0006, 0.0042, 0.087], rtol=1e-9)
    assert reliability.checkpoints_to_keep(row(0, 3600, 3601), row(600)).tolist() == [1, 7, 8]


# ---------------------------------------------------------------------------------------------------- triage


@pytest.mark.parametrize(("faults", "nodes"), [(0, 5), (1, 5), (2, 10), (7, 2048), (10, 10), (11, 10), (1000, 1e6)])
def test_chance_of_a_repeat_is_the_product(faults, nodes):
    none = np.prod(1 - np.arange(faults) / nodes)
    assert triage.any_repeat_probability(row(faults), row(nodes)) == pytest.approx(1 - none, rel=1e-9, abs=1e-15)


def test_dispersion_p_values_of_many_and_of_few_counts():
    rng = np.random.default_rng(2)
    many = rng.poisson(50, 40).astype(float)
    chi = distributions.chi_square_above(triage.dispersion(many), row(39))[0]
    assert triage.dispersion_p_value(rng, many) == pytest.approx(chi, abs=0.02)
    few = row(*CHECKS["C223"]["inputs"]["counts"])
    assert distributions.chi_square_above(triage.dispersion(few), row(9)) == pytest.approx(5.33e-4, rel=0.01)
    assert triage.dispersion_p_value(rng, few) == pytest.approx(1.4e-3, abs=1e-3)  # chi-square is too sure at a mean of 0.8


def test_exposure_explains_counts_in_its_proportion():
    hours = row(1000, 2000, 4000)
    assert triage.dispersion(row(5, 10, 20), hours) == pytest.approx(0, abs=1e-20)
    assert triage.dispersion(row(5, 10, 20))[()] > 5


def test_rate_comparison_of_llama3_against_rsc1():
    equal, apart = triage.compare_rates(row(419, 419), row(1.0), row(419, 719), row(1.0)).p_value
    assert equal == 1 and apart < 1e-15
    assert triage.compare_rates(row(0), row(1.0), row(5), row(1.0)).p_value == pytest.approx(2 / 32)


def test_false_alarm_of_seven_events_on_2048_nodes_is_one_per_cent():
    assert triage.any_repeat_probability(row(7), row(2048)) == pytest.approx(0.010, abs=5e-4)


def test_events_needed_is_the_first_number_that_suffices():
    share = np.array([0.5, 0.1, 0.01, 1.0])
    needed = triage.events_needed(share, row(0.9))
    for k, f in zip(needed, share, strict=True):
        assert 1 - (1 - f) ** k - k * f * (1 - f) ** (k - 1) >= 0.9
        assert k == 2 or 1 - (1 - f) ** (k - 1) - (k - 1) * f * (1 - f) ** (k - 2) < 0.9


def test_daly_interval_is_near_the_minimiser_of_the_exact_form():
    found = optimize.minimize_scalar(
        lambda t: checkpoints.wall_over_work(row(t), row(60), row(1 / 6490), row(300))[0], bounds=(1, 6490), method="bounded",
        options={"xatol": 1e-9},
    )
    assert checkpoints.best_interval_s(60.0, 1 / 6490) == pytest.approx(found.x, rel=1e-5)
