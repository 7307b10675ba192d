"""The constant rate that stands for a decaying one: its limits, and runs played with the decaying rate."""

from __future__ import annotations

import numpy as np
import pytest
from published import row

from codesign.laws import checkpoints, early_life, failure_simulation

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
