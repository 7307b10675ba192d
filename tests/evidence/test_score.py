"""Counting of errors, against figures worked by hand."""

import math

import pytest

from codesign.evidence.score import ranking, regrets, score, weighted_quantile


def test_groups_count_once_however_many_rows_they_have():
    errors = {"a1": 0.10, "a2": 0.10, "a3": 0.10, "a4": 0.10, "b1": -0.02}
    groups = {"a1": "a", "a2": "a", "a3": "a", "a4": "a", "b1": "b"}
    s = score(errors, groups)
    assert (s.rows, s.groups) == (5, 2)
    assert s.mean == pytest.approx(0.06)
    assert s.bias == pytest.approx(0.04)
    assert s.median == pytest.approx(0.02)  # half of the weight lies in group b
    assert s.p90 == pytest.approx(0.10)


def test_weighted_quantile_is_the_first_value_that_reaches_the_share():
    assert weighted_quantile([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], 0.5) == 2.0
    assert weighted_quantile([1.0, 2.0], [3.0, 1.0], 0.5) == 1.0


def test_an_empty_score_is_not_a_number():
    assert math.isnan(score({}, {}).median)


def _row(name, group, tp, step_s, accelerators=8):
    return {
        "id": name, "group": group, "accelerators": accelerators, "model": {"seq": 1024},
        "layout": {"tp": tp, "global_batch_sequences": 16}, "measured": {"step_time_s": step_s},
    }  # fmt: skip


def test_ranking_counts_pairs_that_differ_by_more_than_five_per_cent():
    rows = [_row("a", "g", 1, 1.0), _row("b", "g", 2, 1.04), _row("c", "g", 4, 2.0)]
    # a against b is within 5 %; of the other two pairs one is predicted the wrong way round
    share, groups = ranking(rows, {"a": 1.0, "b": 3.0, "c": 2.0})
    assert (share, groups) == (0.5, 1)


def test_ranking_does_not_compare_jobs_of_different_size():
    rows = [_row("a", "g", 1, 1.0), _row("b", "g", 2, 2.0, accelerators=16)]
    assert ranking(rows, {"a": 2.0, "b": 1.0})[1] == 0


def test_regret_is_how_much_slower_our_pick_was_measured():
    rows = [_row(f"r{tp}", "g", tp, 1.0 + 0.1 * tp) for tp in range(1, 7)]
    predicted = {f"r{tp}": 1.0 for tp in range(1, 7)} | {"r3": 0.5}
    (lost,) = regrets(rows, predicted).values()
    assert lost == pytest.approx(1.3 / 1.1 - 1)
    assert regrets(rows[:5], predicted) == {}
