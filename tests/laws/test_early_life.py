"""The constant rate that stands for a decaying one: its limits, and runs played with the decaying rate."""

from __future__ import annotations

import numpy as np
import pytest
from published import row

from codesign.laws import checkpoints, early_life, failure_simulation, reliability, renewal

WORK = 400 * 900.0


def steady(early, settled, settling, work=WORK, share=0.0, units=1.0, other=0.0):
    given = (units, work, other, early, settled, settling, share, 20.0, 300.0, 120.0, 1.0)
    return early_life.steady_per_s(*(row(x) for x in given))[0]


def test_a_rate_that_does_not_decay_stands_for_itself():
    assert steady(1e-5, 1e-5, 86400.0) == pytest.approx(1e-5, rel=1e-9)


def test_it_lies_between_the_settled_and_the_early_rate_and_nears_them():
    assert steady(1e-4, 1e-5, 1e9) == pytest.approx(1e-4, rel=1e-3)
    assert steady(1e-4, 1e-5, 60.0) == pytest.approx(1e-5, rel=0.05)
    middle = [steady(1e-4, 1e-5, settling) for settling in (1e4, 1e5, 1e6)]
    assert 1e-5 < middle[0] < middle[1] < middle[2] < 1e-4


def test_renewed_parts_fail_more():
    assert steady(1e-5, 1e-6, 1e5, share=1.0, units=10.0) > steady(1e-5, 1e-6, 1e5, share=0.0, units=10.0)


def test_the_wall_clock_of_runs_played_with_the_decaying_rate():
    early, settled, settling = 1 / 3600.0, 1 / 36000.0, 86400.0
    rate = row(steady(early, settled, settling))
    interval = float(checkpoints.best_interval_s(row(20.0), rate)[0])
    segments = int(WORK / interval)
    played = failure_simulation.simulate(
        np.random.default_rng(4), 800, segments, interval, 20.0, settled, 300.0, 120.0, early_per_s=early, settling_s=settling
    )
    expected = segments * interval * checkpoints.wall_over_work(row(interval), row(20.0), rate, row(300.0), 120.0)[0]
    assert played.wall_s.mean() == pytest.approx(expected, rel=0.015)


def test_the_rate_takes_as_long_as_the_decaying_one_step_by_step():
    """The wall clock summed in 200,000 steps, with renewal, over runs far apart."""
    for early, settled, settling, share, units in (
        (3e-8, 2e-9, 3e6, 1.0, 2e4), (2e-7, 1e-8, 5e5, 0.5, 5e3), (4e-9, 3.9e-9, 1e7, 1.0, 1e5), (3e-7, 1e-9, 2e6, 1.0, 1e3)
    ):  # fmt: skip
        work, other = 4e6, 3e-5
        rate = steady(early, settled, settling, work, share, units, other)
        given = (row(x) for x in (early, settled, settling, share))
        ages = renewal.modes(*given)
        # the interval is that of the mean rate, renewals left out
        clock = work
        for _ in range(60):
            mean = row(other + units * reliability.mean_rate_per_s(row(clock), row(early), row(settled), row(settling))[0])
            interval = checkpoints.best_interval_s(row(20.0), mean)
            clock = np.sqrt(clock * work * checkpoints.wall_over_work(interval, row(20.0), mean, row(300.0), row(120.0))[0])
        whole = work * checkpoints.wall_over_work(interval, row(20.0), row(rate), row(300.0), row(120.0))[0]
        times = np.linspace(0.0, whole, 200_001)
        decaying = other + units * (settled + (early - settled) * renewal.mean_decay(ages, times))
        pace = 1.0 / checkpoints.wall_over_work(interval, row(20.0), decaying, row(300.0), row(120.0))
        assert np.trapezoid(pace, times) == pytest.approx(work, rel=1e-7)


def test_a_row_of_a_batch_is_the_row_alone():
    early = np.geomspace(2e-5, 1e-3, 50)
    batch = early_life.steady_per_s(
        row(10.0), row(WORK), row(1e-6), early, row(1e-5), row(1e5), row(0.7), row(20.0), row(300.0), row(120.0), row(1.0)
    )
    for at in (0, 20, 49):
        assert batch[at] == steady(early[at], 1e-5, 1e5, share=0.7, units=10.0, other=1e-6)
