"""The closed forms of goodput against runs that are played through failure by failure, fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from published import row

from codesign.laws import checkpoints, early_life, failure_simulation, reliability, renewal, two_tier

CASES = 200


def random_cases(seed):
    """From one failure in 100 intervals to dozens in one interval; restarts up to 0.7 of the time between failures."""
    rng = np.random.default_rng(seed)
    mttf = 10 ** rng.uniform(2.5, 5.0, CASES)
    interval = mttf * 10 ** rng.uniform(-2.0, 0.2, CASES)
    return {
        "interval_s": interval,
        "write_s": interval * 10 ** rng.uniform(-3.0, -0.5, CASES),
        "rate_per_s": 1.0 / mttf,
        "restart_s": mttf * rng.uniform(0.0, 0.7, CASES),
        "down_s": mttf * rng.uniform(0.0, 0.5, CASES),
        "lag_s": np.where(rng.random(CASES) < 0.5, 0.0, interval * rng.uniform(0.0, 0.5, CASES)),
    }


def test_closed_form_agrees_within_two_per_cent_over_200_random_cases():
    case = random_cases(2026)
    without_down = {key: value for key, value in case.items() if key != "down_s"}
    failures = checkpoints.failures_per_work_s(**without_down) * case["interval_s"]
    assert (failures > 3).sum() >= 20, "several failures in an interval are among the cases"
    segments = np.ceil(np.clip(100.0 / failures, 150.0, 10_000.0))
    played = failure_simulation.simulate(np.random.default_rng(7), 500, segments, **case)
    work = segments * case["interval_s"]
    ratio = played.wall_s.mean(axis=0) / work / checkpoints.wall_over_work(**case)
    assert np.abs(ratio - 1).max() < 0.02
    count = played.failures.mean(axis=0) / work / checkpoints.failures_per_work_s(**without_down)
    assert np.abs(count - 1).mean() < 0.02


def test_two_tier_form_agrees_within_two_per_cent_over_200_random_cases():
    rng = np.random.default_rng(5)
    mttf = 10 ** rng.uniform(2.5, 5.0, CASES)
    interval = mttf * 10 ** rng.uniform(-2.5, -0.7, CASES)
    given = (
        interval, interval * 0.1 * rng.random(CASES), np.floor(rng.uniform(1, 20, CASES)), interval * rng.random(CASES),
        1.0 / mttf, rng.uniform(0.0, 1.0, CASES), mttf * 0.2 * rng.random(CASES), mttf * 0.5 * rng.random(CASES),
        mttf * 0.1 * rng.random(CASES), mttf * 0.3 * rng.random(CASES),
    )
    expected = two_tier.wall_over_work(*given)
    cycles = np.ceil(np.clip(60.0 * mttf / (given[2] * interval * expected), 60.0, 3000.0))
    played = failure_simulation.simulate_two_tier(np.random.default_rng(8), 400, cycles, *given)
    ratio = played.wall_s.mean(axis=0) / (cycles * given[2] * interval) / expected
    assert np.abs(ratio - 1).max() < 0.02


def test_without_failures_a_run_takes_its_work_and_its_writes():
    played = failure_simulation.simulate(np.random.default_rng(1), 3, 10, 60.0, 5.0, 0.0, 300.0)
    assert (played.wall_s == 650).all() and (played.failures == 0).all()
    played = failure_simulation.simulate_two_tier(np.random.default_rng(1), 3, 10, 60.0, 5.0, 4, 7.0, 0.0, 0.5, 1, 1, 1, 1)
    assert (played.wall_s == 10 * (4 * 65 + 7)).all()


def test_the_same_seed_plays_the_same_runs():
    runs = [failure_simulation.simulate(np.random.default_rng(3), 20, 50, 60.0, 5.0, 1e-3, 30.0).wall_s for _ in range(2)]
    assert (runs[0] == runs[1]).all() and np.unique(runs[0]).size > 1


def test_more_failures_never_more_goodput():
    rates = np.geomspace(1e-5, 3e-3, 8)
    played = failure_simulation.simulate(np.random.default_rng(3), 300, 100, 300.0, 10.0, rates, 60.0, 30.0)
    assert (np.diff(played.wall_s.mean(axis=0)) > 0).all()


def test_goodput_under_a_decaying_rate_is_that_of_the_mean_rate_within_two_per_cent():
    """A job of one failure in 2 h at first, one in 10 h in the end, settling over three days, about eight days of work."""
    early, settled, settling = 1 / 7200.0, 1 / 36000.0, 3 * 86400.0
    work = (1200, 600.0, 20.0)
    played = failure_simulation.simulate(
        np.random.default_rng(4), 400, *work, settled, 300.0, 120.0, early_per_s=early, settling_s=settling
    )
    wall = played.wall_s.mean()
    rate = reliability.mean_rate_per_s(row(wall), row(early), row(settled), row(settling))
    expected = 1200 * 600.0 * checkpoints.wall_over_work(row(600.0), row(20.0), rate, row(300.0), 120.0)
    assert wall == pytest.approx(expected[0], rel=0.02)
    steady = failure_simulation.simulate(np.random.default_rng(4), 400, *work, settled, 300.0, 120.0).wall_s.mean()
    assert steady < wall
    # the failures met are the integral of the hazard over the time in which the job can fail
    exposed = reliability.cumulative_hazard(row(wall), row(early), row(settled), row(settling))
    assert played.failures.mean() == pytest.approx(exposed[0] * (1 - played.failures.mean() * 120 / wall), rel=0.03)


def test_a_run_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(failure_simulation, "_MOST_FAILURES", 50)
    with pytest.raises(ValueError, match="did not end"):
        failure_simulation.simulate(np.random.default_rng(1), 1, 10, 1e5, 1.0, 1e-2, 300.0)


def test_renewed_parts_are_played_within_two_per_cent_of_the_exact_hazard():
    """Failures a second of parts that are replaced, counted in ten stretches of runs in which nothing else takes time."""
    rng = np.random.default_rng(11)
    for _ in range(6):
        settled, settling = 10 ** rng.uniform(-8, -6.5), 10 ** rng.uniform(5, 6.5)
        early, share, units, other = settled * 10 ** rng.uniform(0.5, 2), rng.uniform(0.3, 1.0), 50.0, 1e-9
        horizon = 3.0 * settling
        hazard = failure_simulation._Hazard(
            *(np.full(20_000, x) for x in (other + units * settled, other + units * early, settling)),
            [np.full(20_000, x) for x in (units, settled, share)],
        )
        times = _played_failures(hazard, 20_000, horizon)
        edges = np.linspace(0.0, horizon, 11)
        found = np.histogram(times, edges)[0] / 20_000
        grid = np.linspace(0.0, horizon, 2001)
        each = renewal.replaced_hazard_per_s(grid, *(np.full(1, x) for x in (early, settled, settling, share)))
        rate = other + units * each
        summed = np.concatenate(([0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(grid))))
        expected = np.diff(np.interp(edges, grid, summed))
        assert np.abs(found - expected).max() < 4.0 * np.sqrt(expected.max() / 20_000) + 1e-9
        assert abs(found.sum() / expected.sum() - 1.0) < 0.02


def _played_failures(hazard, runs, horizon):
    """When each of many jobs fails, up to a horizon."""
    rng, now, alive, times = np.random.default_rng(12), np.zeros(runs), np.arange(runs), []
    while alive.size:
        now[alive] += hazard.next_failure_s(rng, alive, now[alive])
        alive = alive[now[alive] < horizon]
        times.append(now[alive])
        hazard.fail(rng, alive, now[alive])
    return np.concatenate(times)


def test_a_job_with_renewal_takes_as_long_as_its_closed_form_within_two_per_cent():
    rng = np.random.default_rng(13)
    n = 24
    units, settled = np.round(10 ** rng.uniform(2, 4, n)), 10 ** rng.uniform(-9, -7.5, n)
    settling, share = 10 ** rng.uniform(5.0, 6.5, n), rng.uniform(0.0, 1.0, n)
    early, other = settled * 10 ** rng.uniform(0.3, 1.5, n), 10 ** rng.uniform(-6, -5, n)
    write, restart, down, work = (np.full(n, x) for x in (20.0, 300.0, 120.0, 3e6))
    steady = early_life.steady_per_s(
        units, work, other, early, settled, settling, share, write, restart, down, np.full(n, 60.0)
    )
    interval = checkpoints.best_interval_s(write, steady)
    segments = np.round(work / interval)
    played = failure_simulation.simulate(
        np.random.default_rng(14), 200, segments, interval, write, other + units * settled, restart, down,
        early_per_s=other + units * early, settling_s=settling, parts=failure_simulation.Parts(units, settled, share),
    )  # fmt: skip
    closed = segments * interval * checkpoints.wall_over_work(interval, write, steady, restart, down)
    assert np.abs(played.wall_s.mean(axis=0) / closed - 1.0).max() < 0.02


def test_stragglers_are_played_within_two_per_cent_of_their_closed_form():
    rng = np.random.default_rng(15)
    nodes = np.round(10 ** rng.uniform(0, 4.5, 200))
    variation, share, slowdown = rng.uniform(0, 0.1, 200), 10 ** rng.uniform(-5, -0.5, 200), rng.uniform(1.0, 1.5, 200)
    played = failure_simulation.straggling(np.random.default_rng(16), 4000, 8 * nodes, variation, nodes, share, slowdown, 8)
    closed = reliability.straggler_factor(8 * nodes, variation) * reliability.slow_node_factor(nodes, share, slowdown)
    assert np.abs(played.mean(axis=0) / closed - 1.0).max() < 0.02
    alone = failure_simulation.straggling(np.random.default_rng(17), 5, 1e4, 0.0, 1e3, 1.0, 1.25)
    assert (alone == 1.25).all()
