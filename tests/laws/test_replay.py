"""The event replay: every schedule runs every pass once in a possible order; the closed forms are what it shows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.laws import pipeline
from codesign.laws.replay import Replay, replay

VPP = {"zb-v": 2, "dualpipe-v": 2}
EXACT = ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v")


@st.composite
def sizes(draw, schedule):
    pp = draw(st.integers(1, 6))
    vpp = draw(st.integers(2, 4)) if schedule == "interleaved" else VPP.get(schedule, 1)
    if schedule == "dualpipe":
        pp = 2 * draw(st.integers(1, 4))
    m = pipeline.least_micro_batches(schedule, pp) + draw(st.integers(0, 12))
    if schedule == "dualpipe":
        m += m % 2
    return pp, vpp, m


def uniform(schedule, pp, vpp, m, f, b, w, pair=None) -> Replay:
    """Replay with times of a rank, split evenly over its stages."""
    pair = None if pair is None else pair / vpp
    return replay(schedule, pp, vpp, m, f / vpp, b / vpp, w / vpp, overlapped_pair_s=pair)


times = st.floats(0.05, 20.0)
shares = st.floats(0.0, 1.0)


@pytest.mark.parametrize("schedule", EXACT)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_closed_form_is_the_replay_for_uniform_stages(schedule, data):
    """Conditions: gpipe, 1f1b, interleaved none; zb-h1, zb-h2 none on the times, enough micro-batches; zb-v and
    dualpipe from 2 pp - 1 and 2 pp micro-batches, an overlapped pair no shorter than either part."""
    pp, vpp, m = data.draw(sizes(schedule))
    f, b, w = data.draw(times), data.draw(times), data.draw(times)
    if schedule == "zb-v":  # the regime of a real layer: W <= F <= B
        w, f, b = sorted((f, b, w))
    pair = None
    if schedule.startswith("dualpipe"):
        least = max(f, b + w)
        pair = least + data.draw(shares) * (f + b + w - least)
    run = uniform(schedule, pp, vpp, m, f, b, w, pair)
    scale = m * (f + b + w)
    for shown, barrier in ((run.bubble_s, False), (run.barrier_bubble_s, True)):
        law = pipeline.bubble_s(schedule, pp, vpp, m, f, b, w, pair, barrier=barrier)
        assert abs(float(law) - shown) <= 1e-9 * scale


@settings(max_examples=150, deadline=None)
@given(pp=st.integers(1, 7), extra=st.integers(0, 6), f=times, b=times, w=times)
def test_zb_v_closed_form_outside_its_regime(pp, extra, f, b, w):
    """Any order of F, B and W: the listed critical paths are all there are, with a barrier or without."""
    m = 2 * pp - 1 + extra
    run = uniform("zb-v", pp, 2, m, f, b, w)
    for shown, barrier in ((run.bubble_s, False), (run.barrier_bubble_s, True)):
        law = pipeline.bubble_s("zb-v", pp, 2, m, f, b, w, barrier=barrier)
        assert abs(float(law) - shown) <= 1e-9 * m * (f + b + w)


@pytest.mark.parametrize("schedule", EXACT)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_in_flight_is_the_peak_of_the_replay(schedule, data):
    pp, vpp, m = data.draw(sizes(schedule))
    run = uniform(schedule, pp, vpp, m, 1.0, 1.2, 0.8)
    law = pipeline.in_flight(schedule, pp, vpp, m, np.arange(pp))
    np.testing.assert_allclose(run.peak_in_flight, law, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(pp=st.integers(2, 6), vpp=st.integers(2, 4), m=st.integers(1, 40))
def test_interleaved_with_any_number_of_micro_batches(pp, vpp, m):
    run = uniform("interleaved", pp, vpp, m, 1.0, 1.3, 0.9)
    assert run.bubble_s == pytest.approx(float(pipeline.bubble_s("interleaved", pp, vpp, m, 1.0, 1.3, 0.9)), abs=1e-9)
    np.testing.assert_allclose(run.peak_in_flight, pipeline.in_flight("interleaved", pp, vpp, m, np.arange(pp)))


def rank_of(schedule, pp, stage, mb, m):
    if schedule in VPP and stage >= pp:
        return 2 * pp - 1 - stage
    if schedule == "dualpipe" and mb >= m // 2:
        return pp - 1 - stage
    return stage % pp


@pytest.mark.parametrize("schedule", EXACT)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_pass_runs_once_after_its_inputs_on_its_rank(schedule, data):
    """Uneven stages and latency; checked on the events alone, against the dependencies and not against the orders."""
    pp, vpp, m = data.draw(sizes(schedule))
    stages = pp * vpp
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    f, b, w = rng.uniform(0.5, 2.0, (3, stages))
    p2p_s = data.draw(st.floats(0.0, 0.5))
    run = replay(schedule, pp, vpp, m, f, b, w, p2p_s=p2p_s)
    start, end = {}, {}
    for rank, stage, mb, kind, start_s, end_s in run.events.tolist():
        assert rank == rank_of(schedule, pp, stage, mb, m)
        for part in "BW" if kind == "BW" else kind:
            assert (part, stage, mb) not in start
            start[part, stage, mb], end[part, stage, mb] = start_s, end_s
    assert len(start) == 3 * stages * m
    slack = 1e-9
    for stage, mb in np.ndindex(stages, m):
        after = [("B", stage, "F", stage), ("W", stage, "F", stage)]
        if stage:
            after += [("F", stage, "F", stage - 1), ("B", stage - 1, "B", stage)]
        for kind, at, needs, source in after:
            hop = p2p_s if rank_of(schedule, pp, at, mb, m) != rank_of(schedule, pp, source, mb, m) else 0.0
            assert start[kind, at, mb] >= end[needs, source, mb] + hop - slack
        assert end["W", stage, mb] >= end["B", stage, mb] - slack
    for rank in range(pp):  # one piece of work at a time; the passes of an overlapped pair share theirs
        spans = sorted({(e["start_s"], e["end_s"]) for e in run.events[run.events["rank"] == rank]})
        assert all(a[1] <= b[0] + slack for a, b in itertools.pairwise(spans))
        assert run.busy_s[rank] == pytest.approx(sum(e - s for s, e in spans))
    assert run.makespan_s == pytest.approx(max(end.values()))


@pytest.mark.parametrize("schedule", EXACT)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_uneven_stages_lie_between_the_slowest_rank_and_all_stages_slow(schedule, data):
    """The slowest rank must do its work; and, in a fixed order, faster stages never make the step longer."""
    pp, vpp, m = data.draw(sizes(schedule))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    parts = rng.uniform(0.5, 2.0, (3, pp * vpp))
    if schedule == "zb-v":
        parts = np.sort(parts, axis=0)[[1, 2, 0]]
    f, b, w = parts
    run = replay(schedule, pp, vpp, m, f, b, w)
    pace_s = float(np.max(run.busy_s))
    slow = [vpp * float(x.max()) for x in (f, b, w)]
    upper_s = m * sum(slow) + float(pipeline.bubble_s(schedule, pp, vpp, m, *slow, barrier=True))
    assert pace_s <= run.makespan_s <= upper_s * (1 + 1e-9)
    assert run.barrier_bubble_s == pytest.approx(run.makespan_s - pace_s)


def test_one_slow_last_stage_costs_less_than_the_closed_form_on_the_slowest():
    """A head that makes the last of 8 stages 30 % slower: the gap between the replay and the closed form is known."""
    stage_s = np.array([1.0] * 7 + [1.3])
    run = replay("1f1b", 8, 1, 64, stage_s, stage_s, stage_s)
    closed_s = 64 * 3 * 1.3 + float(pipeline.bubble_s("1f1b", 8, 1, 64, 1.3, 1.3, 1.3))
    assert run.makespan_s == pytest.approx(64 * 3 * 1.3 + 7 * 3 * 1.0)
    assert closed_s / run.makespan_s - 1 == pytest.approx(6.3 / 270.6)


def test_one_f_one_b_waits_for_latency_on_the_way_in_and_out():
    run = replay("1f1b", 4, 1, 16, 1.0, 1.0, 1.0, p2p_s=0.1)
    still = replay("1f1b", 4, 1, 16, 1.0, 1.0, 1.0)
    assert run.makespan_s >= still.makespan_s + 2 * 3 * 0.1 - 1e-12


def test_zero_bubble_paper_table_2_by_replay():
    assert [uniform(s, 8, 1, 64, 1.0, 1.0, 1.0).bubble_s for s in ("1f1b", "zb-h1", "zb-h2")] == [21, 7, 0]


def test_dualpipe_readme_example_8_ranks_20_micro_batches():
    """The picture of the README: 8 ranks, 20 micro-batches, F = B = W = 1 and pairs of 3: bubble 6, 9 activations."""
    run = replay("dualpipe", 8, 1, 20, 1.0, 1.0, 1.0)
    assert run.bubble_s == (8 / 2 - 1) * (3 + 2 - 3)
    assert run.peak_in_flight.tolist() == [9.0] * 8


def test_overlapped_pairs_are_two_events_of_one_time():
    run = replay("dualpipe", 4, 1, 8, 1.0, 1.0, 1.0, overlapped_pair_s=2.5)
    first = run.events[run.events["rank"] == 0]
    pairs = first[first["end_s"] - first["start_s"] == 2.5]
    assert len(pairs) % 2 == 0 and len(pairs) > 0
    assert pairs["kind"][0::2].tolist() == ["F"] * (len(pairs) // 2)
    assert pairs["kind"][1::2].tolist() == ["BW"] * (len(pairs) // 2)
    assert (pairs["start_s"][0::2] == pairs["start_s"][1::2]).all()


def test_no_pipeline_no_bubble():
    run = replay("none", 1, 1, 5, 1.0, 1.0, 1.0)
    assert (run.makespan_s, run.bubble_s, run.peak_in_flight.tolist()) == (15.0, 0.0, [1.0])


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (("2f2b", 4, 1, 8), "unknown schedule"),
        (("none", 4, 1, 8), "needs a schedule"),
        (("1f1b", 4, 2, 8), "1 stage a rank"),
        (("zb-v", 4, 1, 8), "2 stages a rank"),
        (("dualpipe", 3, 1, 8), "even pp"),
        (("dualpipe", 4, 1, 6), "at least 2 pp"),
        (("dualpipe-v", 4, 2, 6), "at least 2 pp"),
        (("1f1b", 4, 1, 0), "at least 1"),
    ],
)
def test_schedules_that_do_not_exist_are_refused(case, why):
    with pytest.raises(ValueError, match=why):
        replay(*case, 1.0, 1.0, 1.0)


def test_overlapped_pairs_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="no overlapped pairs"):
        replay("1f1b", 4, 1, 8, 1.0, 1.0, 1.0, overlapped_pair_s=2.0)
