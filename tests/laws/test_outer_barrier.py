"""Waiting at outer steps: the law against groups that are played through, window by window."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.laws import distributions, outer_barrier

ROUNDS, FIRST = 3000, 200


def array(*values: float) -> list[np.ndarray]:
    return [np.array([float(value)]) for value in values]


def played(groups: int, window_s: float, slack_s: float, kinds, seed: int = 0) -> float:
    """Wall clock over compute of groups that may be `slack_s` apart at most; each kind is (rate, time lost)."""
    rng = np.random.default_rng(seed)
    at, begin = np.zeros(groups), 0.0
    for turn in range(FIRST + ROUNDS):
        if turn == FIRST:
            begin = at.max()
        lost = sum(each * rng.poisson(rate * window_s, groups) for rate, each in kinds)
        at = np.maximum(at, at.max() - slack_s) + window_s + lost
    return float(at.max() - begin) / (ROUNDS * window_s)


def closed(groups: int, window_s: float, slack_s: float, kinds) -> float:
    found = [outer_barrier.Interruptions(*array(rate, each, each**2)) for rate, each in kinds]
    return 1.0 + sum(rate * each for rate, each in kinds) + outer_barrier.wait_over_work(
        *array(groups, window_s, slack_s), found
    )[0]


@pytest.mark.parametrize(("groups", "window_s", "rate", "each_s"), [
    (100, 1489, 1 / 1139, 124), (100, 93, 1 / 1139, 124), (8, 1000, 1e-3, 100), (2, 1000, 1e-3, 100), (16, 5000, 2e-3, 30),
])
def test_without_slack_all_wait_for_the_last(groups, window_s, rate, each_s):
    kinds = [(rate, each_s)]
    assert closed(groups, window_s, 0, kinds) == pytest.approx(played(groups, window_s, 0, kinds), rel=0.01)


def test_a_hundred_groups_lose_a_fifth_to_each_other():
    """1,489 s rounds, a failure each 1,139 s that takes 124 s: 0.90 for a group by itself, 0.71 together."""
    kinds = [(1 / 1139, 124)]
    assert 1 / closed(1, 1489, 0, kinds) == pytest.approx(0.902, abs=0.001)
    assert 1 / closed(100, 1489, 0, kinds) == pytest.approx(0.709, abs=0.005)


@pytest.mark.parametrize("slack", [0.5, 2, 4, 8])
@pytest.mark.parametrize(("groups", "window_s", "rate"), [
    (100, 1489, 1 / 1139), (8, 1000, 1e-3), (2, 300, 1e-3), (30, 100, 1e-3),
])
def test_a_slack_hides_what_evens_out(groups, window_s, rate, slack):
    kinds = [(rate, 100)]
    assert closed(groups, window_s, slack * 100, kinds) == pytest.approx(played(groups, window_s, slack * 100, kinds), rel=0.07)


def test_a_rare_long_kind_beside_a_frequent_short_one():
    kinds = [(1 / 1139, 124), (2e-6, 5700)]
    assert closed(100, 93, 0, kinds) == pytest.approx(played(100, 93, 0, kinds), rel=0.1)


def test_more_groups_more_failures_and_less_slack_never_wait_less():
    groups, rate, slack = np.arange(1.0, 200.0), np.geomspace(1e-9, 1e-2, 400), np.linspace(0, 3000, 300)

    def wait(m, r, s):
        kind = outer_barrier.Interruptions(r, np.full(1, 90.0), np.full(1, 9e3))
        return outer_barrier.wait_over_work(m, np.full(1, 500.0), s, [kind])

    assert (np.diff(wait(groups, np.full(1, 1e-3), np.full(1, 50.0))) >= 0).all()
    assert (np.diff(wait(np.full(1, 50.0), rate, np.full(1, 50.0))) >= -1e-9).all()
    assert (np.diff(wait(np.full(1, 50.0), np.full(1, 1e-3), slack)) <= 1e-12).all()
    assert wait(np.full(1, 1.0), rate, np.zeros(1)).max() == 0 and wait(groups, np.zeros(1), np.zeros(1)).max() == 0


def test_a_row_of_a_batch_has_the_bits_of_one_alone():
    rate = np.array([1e-5, 1e-3, 0.1])
    many = outer_barrier.wait_over_work(
        np.full(1, 9.0), np.full(1, 500.0), np.full(1, 20.0),
        [outer_barrier.Interruptions(rate, np.full(1, 90.0), np.full(1, 9e3))],
    )
    alone = [
        outer_barrier.wait_over_work(
            np.full(1, 9.0), np.full(1, 500.0), np.full(1, 20.0),
            [outer_barrier.Interruptions(rate[at : at + 1], np.full(1, 90.0), np.full(1, 9e3))],
        )[0] for at in range(3)
    ]
    assert many.tolist() == alone


@pytest.mark.parametrize(("mean", "count"), [(0.08, 100), (1.3, 100), (69, 8), (200, 20), (1e4, 100)])
def test_the_expected_maximum_of_poisson_counts(mean, count):
    drawn = np.random.default_rng(1).poisson(mean, (20000, count)).max(axis=1)
    found = distributions.expected_maximum_poisson(mean, count)[0]
    assert found == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(20000))
    assert distributions.expected_maximum_poisson(mean, 1)[0] == pytest.approx(mean, rel=1e-7)
