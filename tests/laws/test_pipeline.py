"""Closed forms of the pipeline schedules against published numbers (checks C062, C100 to C108) and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.laws import pipeline
from codesign.laws.pipeline import SCHEDULES, bubble_s, in_flight, p2p_transfers, parameter_copies, valid

VPP = {"interleaved": 3, "zb-v": 2, "dualpipe-v": 2}


def test_C062_interleaved_activation_factor_korthikanti_4_2_3():
    worst = in_flight("interleaved", 8, 3, 64, 0)
    assert worst / 8 == pytest.approx(1.2916666666666667, rel=1e-9)


def test_C100_one_f_one_b_bubble_worked_example():
    """8 stages, 64 micro-batches, 10 ms forward, 20 ms full backward: 2130 ms of step, 64 * 30 of them work."""
    bubble_ms = bubble_s("1f1b", 8, 1, 64, 10.0, 10.0, 10.0)
    assert bubble_ms + 64 * 30.0 == 2130.0
    assert bubble_s("gpipe", 8, 1, 64, 10.0, 10.0, 10.0) == bubble_ms


def test_C101_bubble_over_ideal_and_over_total():
    bubble = bubble_s("1f1b", 8, 1, 64, 1.0, 1.0, 1.0)
    assert [bubble / (64 * 3), bubble / (64 * 3 + bubble)] == [0.109375, 0.09859154929577464]


def test_C102_micro_batches_for_a_tenth_of_bubble():
    m = np.arange(1.0, 200.0)
    bubble = bubble_s("1f1b", 8, 1, m, 1.0, 1.0, 1.0)
    # share <= 1/10 without rounding: ten bubbles fit into the step
    assert m[10 * bubble <= 3 * m + bubble].min() == 63 == 9 * (8 - 1)


def test_C103_interleaved_llama3_3_3_2():
    assert bubble_s("interleaved", 16, 8, 16, 1.0, 1.0, 1.0) / (16 * 3) == 0.1171875


def test_C104_zero_bubble_table_2():
    assert [bubble_s(s, 8, 1, 64, 1.0, 1.0, 1.0) for s in ("1f1b", "zb-h1", "zb-h2")] == [21, 7, 0]


def test_C105_zero_bubble_table_2_memory():
    assert [in_flight(s, 8, 1, 64, 0) for s in ("1f1b", "zb-h1", "zb-h2")] == [8, 8, 15]


def test_C106_dualpipe_readme_table():
    """PP 16, F 1, full backward 2, W 1, F&B 3; ZB1P of that table is zb-h1: its (PP-1)(F+B-2W) has the full B."""
    rows = [
        bubble_s("1f1b", 16, 1, 64, 1.0, 1.0, 1.0),
        bubble_s("zb-h1", 16, 1, 64, 1.0, 1.0, 1.0),
        bubble_s("dualpipe", 16, 1, 64, 1.0, 1.0, 1.0, 3.0),
    ]
    assert rows == [45, 15, 14]


def test_C107_dualpipe_without_bubble_at_two_ranks():
    assert bubble_s("dualpipe", 2, 1, 8, 1.0, 1.3, 0.6, 2.5) == 0


def test_C108_dualpipe_activations_and_parameters():
    assert [in_flight("dualpipe", 16, 1, 64, 0), parameter_copies("dualpipe")] == [17, 2]


def test_C108_dualpipe_v_on_half_the_devices():
    """16 stages on 8 ranks: 17 stage activations are 8.5 of a rank; two stages of parameters are a rank's one share."""
    assert in_flight("dualpipe-v", 8, 2, 64, 0) * 2 == 17
    assert parameter_copies("dualpipe-v") * 2 == 2


@pytest.mark.parametrize(("f", "w"), [(1.0, 1.0), (1.0, 0.6), (2.5, 2.0), (3.0, 0.1)])
@pytest.mark.parametrize("pp", [2, 4, 8, 16])
def test_dualpipe_equals_the_published_form_where_input_gradient_equals_forward(pp, f, w):
    published = (pp / 2 - 1) * ((f + f + w) + (f + w) - 3 * w)
    assert bubble_s("dualpipe", pp, 1, 64, f, f, w) == pytest.approx(published, rel=1e-12)
    assert bubble_s("dualpipe-v", pp // 2, 2, 64, 2 * f, 2 * f, 2 * w) == pytest.approx(published, rel=1e-12)


def test_dualpipe_departs_from_the_published_form_for_slower_backward():
    """B twice F: the README's formula is 3.4 % above what its order does; the form here follows the order."""
    published = (16 / 2 - 1) * ((1 + 2 + 0.7) + (2 + 0.7) - 3 * 0.7)
    assert published / bubble_s("dualpipe", 16, 1, 64, 1.0, 2.0, 0.7) - 1 == pytest.approx(0.0344, abs=1e-3)


@pytest.mark.parametrize("pp", [2, 4, 8, 16])
def test_zero_bubble_formulas_of_the_paper(pp):
    f, b, w = 1.0, 1.4, 0.8
    assert bubble_s("zb-h1", pp, 1, 64, f, b, w) == pytest.approx((pp - 1) * (f + b - w), rel=1e-12)
    assert bubble_s("zb-h2", pp, 1, 64, f, b, w) == pytest.approx((pp - 1) * (f + b - 2 * w), rel=1e-12)
    assert bubble_s("zb-v", pp, 2, 64, 1.0, 1.0, 1.0) == 0
    assert bubble_s("zb-v", pp, 2, 64, f, b, w) == pytest.approx((pp - 1) * (b - w), rel=1e-12)


def test_a_barrier_costs_the_zero_bubble_schedules_their_zero():
    """Without post-validation the last rank starts (pp-1) F late and nobody may go ahead (Qi 2023, section 4)."""
    assert bubble_s("zb-h2", 8, 1, 64, 1.0, 1.0, 1.0, barrier=True) == 7
    assert bubble_s("zb-v", 8, 2, 64, 1.0, 1.0, 1.0, barrier=True) == 3.5
    for schedule in ("gpipe", "1f1b", "interleaved", "dualpipe", "dualpipe-v"):
        vpp = VPP.get(schedule, 1)
        times = (64, 1.0, 1.3, 0.8)
        assert bubble_s(schedule, 8, vpp, *times, barrier=True) == bubble_s(schedule, 8, vpp, *times)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_batch_of_one_is_the_row_of_a_batch_bit_for_bit(schedule):
    pp, vpp = (1 if schedule == "none" else 8), VPP.get(schedule, 1)
    rng = np.random.default_rng(7)
    f, b, w = rng.uniform(0.1, 2.0, (3, 5, 1, 7))
    m = np.array([16.0, 18.0, 32.0, 61.0])[:, None]
    grid = bubble_s(schedule, pp, vpp, m, f, b, w)
    held = in_flight(schedule, pp, vpp, m, np.arange(pp))
    assert grid.shape == (5, 4, 7) and held.shape == (4, pp)
    assert grid.dtype == held.dtype == np.float64
    assert (grid >= 0).all()
    for i, j, k in np.ndindex(5, 4, 7):
        one = bubble_s(schedule, pp, vpp, m[j], f[i, :, k], b[i, :, k], w[i, :, k])
        assert one.shape == (1,) and one[0] == grid[i, j, k]
    for j, r in np.ndindex(4, pp):
        assert in_flight(schedule, pp, vpp, m[j], [r])[0] == held[j, r]


def test_interleaved_groups_are_what_megatron_accepts():
    m = np.arange(1.0, 3000.0)
    for pp in (2, 3, 8, 16):
        group = pipeline.interleaved_group(pp, m)
        rest = m % group
        assert (group[m % pp == 0] == pp).all()
        assert (group[m < pp] == m[m < pp]).all()
        assert ((rest == 0) | (rest >= pp))[m >= pp].all()
        assert (group[m >= pp] >= pp).all()


def test_transfers_count_the_boundaries_between_ranks():
    assert p2p_transfers("none", 1, 1) == (0, 0)
    assert p2p_transfers("1f1b", 8, 1) == (1, 1)
    assert p2p_transfers("interleaved", 8, 3) == (3, 3)  # EQ-36: times v
    assert p2p_transfers("zb-v", 8, 2) == (2, 2)
    assert p2p_transfers("zb-v", 2, 2) == (1, 1)
    assert p2p_transfers("dualpipe", 8, 1) == (1, 1)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (("none", 4, 1, 8), "needs a pipeline schedule"),
        (("1f1b", 4, 2, 8), "set vpp to 1"),
        (("interleaved", 4, 1, 8), "use 1f1b"),
        (("zb-v", 4, 1, 8), "set vpp to 2"),
        (("zb-v", 4, 2, 6), "at least 7"),
        (("zb-h1", 4, 1, 3), "at least 4"),
        (("zb-h2", 4, 1, 6), "at least 7"),
        (("dualpipe", 3, 1, 8), "even"),
        (("dualpipe", 4, 1, 7), "at least 8"),
        (("dualpipe", 4, 1, 9), "multiple of 2"),
        (("dualpipe-v", 4, 2, 7), "at least 8"),
        (("2f2b", 4, 1, 8), "allowed: none, gpipe"),
    ],
)
def test_impossible_schedules_say_why(case, why):
    assert why in str(valid(*case))


def test_possible_schedules_are_valid():
    for schedule in SCHEDULES:
        assert valid(schedule, 1 if schedule == "none" else 4, VPP.get(schedule, 1), 8) is None
    assert valid("interleaved", 4, 2, 10) is None
    assert "multiple of 4" in str(valid("interleaved", 4, 2, 10, whole_groups=True))


def test_an_unknown_schedule_is_refused_by_every_law():
    for law in (
        lambda s: bubble_s(s, 4, 1, 8, 1.0, 1.0, 1.0),
        lambda s: in_flight(s, 4, 1, 8, 0),
        parameter_copies,
        lambda s: p2p_transfers(s, 4, 1),
        lambda s: pipeline.least_micro_batches(s, 4),
        lambda s: pipeline.micro_batch_multiple(s, 4),
    ):
        with pytest.raises(ValueError, match="unknown schedule 'zb'"):
            law("zb")
    with pytest.raises(ValueError, match="no overlapped pairs"):
        bubble_s("1f1b", 4, 1, 8, 1.0, 1.0, 1.0, 2.0)
