"""Parts that are young again: the exponentials against the renewal equation, slots played through, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from published import row

from codesign.laws import reliability, renewal


def by_trapezoid(horizon, early, settled, settling, share, points):
    """The renewal equation of the replacements on an even grid: error (dt/settling)^2."""
    times = np.linspace(0.0, horizon, points)
    hazard = reliability.hazard_per_s(times, early, settled, settling)
    kernel = hazard * np.exp(-share * reliability.cumulative_hazard(times, early, settled, settling))
    weight = share * (times[1] - times[0])
    rate = np.empty_like(kernel)
    rate[0] = kernel[0]
    for at in range(1, points):
        met = 0.5 * rate[0] * kernel[at] + (rate[1:at] * kernel[at - 1 : 0 : -1]).sum()
        rate[at] = (kernel[at] + weight * met) / (1.0 - 0.5 * weight * kernel[0])
    return rate


@pytest.mark.parametrize("share", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(("failed", "slow"), [(0.02, 1e-4), (0.3, 0.1), (0.7, 0.01), (0.95, 0.1), (0.1, 2.0)])
def test_the_exponentials_solve_the_renewal_equation(failed, slow, share):
    settling, settled = 20.0, slow / 20.0
    early = settled - np.log1p(-failed) / settling
    coarse, fine = (by_trapezoid(60.0, early, settled, settling, share, points) for points in (1025, 2049))
    expected = (4.0 * fine[::32] - coarse[::16]) / 3.0
    times = np.linspace(0.0, 60.0, 65)
    found = renewal.replaced_hazard_per_s(times, row(early), row(settled), row(settling), row(share))
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert found[0] == pytest.approx(early, rel=1e-12)


@pytest.mark.parametrize("often", [15.9, 16.1, 40.0])
def test_where_parts_are_replaced_again_and_again_one_exponential_is_near_the_renewal_equation(often):
    """Above p = 16; just below it the sum is exact."""
    settled, settling = 0.01, 1.0
    early = settled + often / settling
    expected = by_trapezoid(2.0, early, settled, settling, 1.0, 4097)[::256]
    found = renewal.replaced_hazard_per_s(np.linspace(0.0, 2.0, 17), row(early), row(settled), row(settling), row(1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-3 if often < 16.0 else 4e-3)


def test_replacement_by_new_parts_keeps_the_hazard_up():
    """Against 40,000 slots played through; repair alone leaves the hazard as it is."""
    law = (row(0.02), row(0.004), row(20.0))
    times = np.linspace(0.0, 54.0, 257)
    alone = reliability.hazard_per_s(times, *law)
    np.testing.assert_allclose(renewal.replaced_hazard_per_s(times, *law, row(0.0)), alone, rtol=1e-12)
    rate = renewal.replaced_hazard_per_s(times, *law, row(1.0))
    assert (rate[1:] > alone[1:]).all()
    rng, slots, failures = np.random.default_rng(5), 40_000, 0
    now = np.zeros(slots)
    while now.size:
        target = rng.exponential(size=now.size)
        ages = np.linspace(0, 54, 2001)
        life = np.interp(target, reliability.cumulative_hazard(ages, *law), ages, right=np.inf)
        now = (now + life)[now + life < 54]
        failures += now.size
    assert np.trapezoid(rate, times) == pytest.approx(failures / slots, rel=0.02)


def test_a_row_does_not_depend_on_its_batch():
    rng = np.random.default_rng(0)
    settled = 10 ** rng.uniform(-10, -7, 200)
    early = settled + rng.uniform(0.0, 3.0, 200) / 2e6
    whole = renewal.replaced_hazard_per_s(row(1e6), early, settled, row(2e6), row(0.9))
    for at in (0, 7, 150):
        alone = renewal.replaced_hazard_per_s(row(1e6), early[at : at + 1], settled[at : at + 1], row(2e6), row(0.9))
        assert alone[0] == whole[at]


def test_in_the_end_parts_are_as_old_as_a_renewal_process_leaves_them():
    """The mean rate in the end is 1 over the mean life of a part."""
    early, settled, settling = 0.05, 0.01, 20.0
    ages = np.linspace(0.0, 4000.0, 400_001)
    alive = np.exp(-reliability.cumulative_hazard(ages, early, settled, settling))
    found = renewal.replaced_hazard_per_s(row(1e5), row(early), row(settled), row(settling), row(1.0))
    assert found[0] == pytest.approx(1.0 / np.trapezoid(alive, ages), rel=1e-6)
