"""Money, power, calendar, extrapolation: published rows C043, C260 to C270, C300 to C303, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import checks, hold, name, row

from codesign.laws import batch, economics, extrapolation, power

CHECKS = checks(10, 12)
MWH_J, HOUR_S = 3.6e9, 3600.0


def longest_of_all(i):
    hardware, with_software, with_money = 1 / (12 * i["L_hw_y"]), 1 / (12 * i["L_hw_sw_y"]), 1 / i["L_hw_inv_months"]
    return economics.longest_useful_run([row(hardware), row(with_software - hardware), row(with_money - hardware)])


def best_wait(i):
    wait = economics.best_wait(row(i["T"]), row(i["doubling"]))
    return wait, economics.finish_after_wait(row(i["T"]), row(i["doubling"]), wait)


def llama3_ramp(_):
    phases = [row(252e6), row(2.87e12 - 252e6), row(15.6e12 - 2.87e12)]
    return batch.ramp_steps(phases, [row(4e6), row(8e6), row(16e6)])


LAW = {
    "C043": lambda i: economics.rental_cost(row(i["gpu_hours"]), row(i["usd_per_gpu_h"])),
    "C260": longest_of_all,
    "C261": lambda i: economics.doubling_time(row(i["L_y"])),
    "C262": lambda i: economics.waiting_threshold(row(i["doubling_months"])),
    "C263": best_wait,
    "C264": llama3_ramp,
    "C266": lambda i: extrapolation.decades_beyond(row(i["fit_max"]), row(i["target"])),
    "C267": lambda i: extrapolation.optimum_error_per_decade(row(i["SE_a"])) * i["decades_beyond_fit"],
    "C268": lambda i: 100 * extrapolation.throughput_gain(*(row(t) for t in i["rows"])),
    "C269": lambda i: extrapolation.prediction_sd(row(*i["log10C"]), row(i["resid_sd"]), row(i["target"])),
    "C270": lambda i: extrapolation.utilisation_after(row(i["base"][1]), row(i["base"][0]), row(i["dp8"][0])),
    "C300": lambda i: power.energy_J(row(i["gpu_h"]), row(HOUR_S), row(i["watts"]), row(i["pue"])) / MWH_J,
    "C301": lambda i: power.carbon_kg(row(i["mwh"] * MWH_J), row(i["kg_per_kwh"])) / 1e3,
    "C302": lambda i: power.carbon_kg(row(i["mwh"] * MWH_J), row(i["kg_per_kwh"])) / 1e3,
    "C303": lambda i: power.site_W(row(i["gpus"]), row(i["watts"]), row(1.0)) / 1e6,
}
DATA = {"C265": lambda: batch.MERRILL_STEPS_SAVED}  # a measured share that the package holds


def test_every_check_has_its_law_or_its_datum():
    assert LAW.keys() | DATA.keys() == CHECKS.keys() and not LAW.keys() & DATA.keys()


@pytest.mark.parametrize("check", [CHECKS[key] for key in LAW], ids=name)
def test_published_law(check):
    hold(check, LAW[check["id"]](check["inputs"]))


@pytest.mark.parametrize("check", [CHECKS[key] for key in DATA], ids=name)
def test_published_constant(check):
    hold(check, DATA[check["id"]]())


# ---------------------------------------------------------------------------------------------------- money, tranches


def test_an_owned_hour_by_hand_and_what_failures_add():
    # 30,000 over 4 years at 80 %, 1.05 kW at 0.08 a kWh and 1.2
    hour = economics.hour_cost(row(30_000), row(4 * 8760), row(0.8), row(1.05), row(0.08), row(1.2))
    assert hour == pytest.approx(30_000 / 28_032 + 0.1008)
    hours = economics.accelerator_hours(row(16384), row(54 * 86400))
    assert hours == 16384 * 54 * 24
    run = economics.run_cost(hours, hour, 1e6, 2e6)
    assert run == hours * hour + 3e6
    assert economics.unreliability_cost(row(0.9), run, 5e5) == pytest.approx(run / 9 + 5e5)
    assert economics.unreliability_cost(row(1.0), run) == 0


def test_work_ends_in_the_tranche_in_which_it_ends():
    arrivals, rates = [row(0.0), row(10.0), row(20.0)], [row(1.0), row(1.0), row(2.0)]
    ends = economics.tranche_finish_s(np.array([5.0, 10.0, 12.0, 30.0, 70.0]), arrivals, rates)
    np.testing.assert_allclose(ends, [5, 10, 11, 20, 30], rtol=1e-12)
    assert economics.tranche_finish_s(row(5.0), [row(3.0)], [row(0.0)]) == np.inf
    assert economics.tranche_finish_s(row(5.0), [row(3.0)], [row(1.0)]) == 8


def test_more_or_earlier_hardware_never_ends_later():
    work = np.linspace(1, 100, 50)
    base = economics.tranche_finish_s(work, [row(0.0), row(20.0)], [row(1.0), row(3.0)])
    assert (economics.tranche_finish_s(work, [row(0.0), row(10.0)], [row(1.0), row(3.0)]) <= base).all()
    assert (economics.tranche_finish_s(work, [row(0.0), row(20.0)], [row(1.0), row(4.0)]) <= base).all()


# ---------------------------------------------------------------------------------------------------- wait


def test_the_best_wait_ends_soonest_and_short_jobs_start_now():
    length, doubling = np.array([10.0, 26.0, 60.0, 200.0]), row(18.0)
    wait = economics.best_wait(length, doubling)
    soonest = economics.finish_after_wait(length, doubling, wait)
    for other in (0.0, 5.0, 20.0, 50.0):
        assert (economics.finish_after_wait(length, doubling, row(other)) >= soonest - 1e-9).all()
    assert wait[0] == 0 and (np.diff(soonest) > 0).all()


def test_launch_value_weighs_delay_against_success():
    wait = np.linspace(0, 12, 121)
    value = economics.launch_value(wait, row(3.0), row(0.05), row(100.0), 1 - 0.5 * np.exp(-wait), row(20.0))
    assert 0 < wait[np.argmax(value)] < 6
    assert economics.run_now(row(0.05), row(0.1), row(0.1), row(1.0)).all()
    assert not economics.run_now(row(0.05), row(0.0), row(0.5), row(1.0)).any()


# ---------------------------------------------------------------------------------------------------- power


def test_board_power_of_a_dense_step_from_its_mix():
    """65 % GEMM, 10 % attention, 15 % memory-bound, 10 % exposed communication on H100: 0.87 of the limit."""
    draw = power.BOARD_DRAW
    watts = power.board_W(
        row(700), [row(0.65), row(0.10), row(0.15), row(0.10)],
        [row(draw[kind].share) for kind in ("matmul", "attention", "memory", "waiting")],
    )
    assert watts / 700 == pytest.approx(0.87, abs=0.02)


def test_all_in_power_of_a_measured_node():
    """8 x H100, 8.4 kW at most in training (arXiv 2412.08602): 1.05 kW each."""
    each = power.all_in_W(row(0.87 * 700), row(450))
    assert each == pytest.approx(1050, rel=0.02)
    assert power.all_in_W(row(600), row(450), 0.05) == pytest.approx(1102.5)


def test_swing_and_cap_of_a_site():
    assert power.swing_W(row(16384), row(1050), row(400), row(1.1)) == pytest.approx(11.7e6, rel=0.01)
    fits = power.accelerators_under_cap(row(20e6), row(1050), row(1.1))
    assert power.site_W(fits, row(1050), row(1.1)) <= 20e6 < power.site_W(fits + 1, row(1050), row(1.1))


# ---------------------------------------------------------------------------------------------------- extrapolation


def test_fit_is_least_squares_and_its_prediction_is_exact_on_a_line():
    x = np.log(np.geomspace(1e18, 1e22, 6))
    line = extrapolation.fit_line(x, 3.0 - 0.17 * x)
    assert line.slope == pytest.approx(-0.17) and line.intercept == pytest.approx(3.0)
    assert line.residual_sd == pytest.approx(0, abs=1e-12)
    noisy = 3.0 - 0.17 * x + 0.01 * np.random.default_rng(1).standard_normal((500, 6))
    fitted = extrapolation.fit_line(x, noisy)
    np.testing.assert_allclose(fitted.slope[7], np.polyfit(x, noisy[7], 1)[0], rtol=1e-9)
    target = math.log(3.8e25)
    predicted = fitted.intercept + fitted.slope * target
    # the spread of predictions is the formula's, without the noise of the target itself
    spread = math.sqrt(extrapolation.prediction_sd(x, row(0.01), row(target))[0] ** 2 - 0.01**2)
    assert predicted.std() == pytest.approx(spread, rel=0.1)


def test_further_is_less_certain():
    x = row(18, 19, 20, 21, 22)
    assert (np.diff(extrapolation.prediction_sd(x, row(0.01), np.linspace(20, 28, 9))) > 0).all()


def test_attribution_adds_up_and_shows_the_interaction():
    parts = extrapolation.attribute(row(30.0), row(33.0), row(36.0), row(42.0))
    assert parts.first + parts.second + parts.interaction == pytest.approx(extrapolation.log_ratio(row(42.0), row(30.0)))
    alone = extrapolation.attribute(row(30.0), row(33.0), row(36.0), row(30.0 * 1.1 * 1.2))
    assert alone.interaction == pytest.approx(0, abs=1e-15)
