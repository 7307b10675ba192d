"""How wrong we are on the development rows: a bound for every figure that the README prints, and fits that repeat."""

import json

import numpy as np
import pytest

from codesign import planner
from codesign.evidence import bars, calibrate, nearest, runs
from codesign.evidence.validate import validate
from codesign.spec import stacks


@pytest.fixture(scope="module")
def v():
    return validate()


def test_at_least_97_per_cent_of_the_rows_are_predicted(v):
    wanted = sum(runs.scored(r) for r in v.measured)
    assert v.score().rows / wanted >= 0.97


def test_step_time_on_development_rows(v):
    s = v.score()
    assert (s.median, s.mean) <= (0.055, 0.085)
    assert s.mean <= 0.085
    assert abs(s.bias) <= 0.02


def test_caution_rows_are_never_fitted_and_stay_bounded(v):
    # the goal is 9 and 13 %; the median stands at 9.5 %
    s = v.score(level="caution")
    assert s.median <= 0.10
    assert s.mean <= 0.13


def test_ranking(v):
    assert v.summary_rows()[0]["ranking"] >= 0.90


def test_memory_of_b200_rows_with_allocated_peaks(v):
    allocated = [r["id"] for r in v.measured if r["measured"].get("memory_kind") == "peak_allocated"]
    errors = v.errors("memory", where=lambda r: r["accelerator"] == "b200-sxm" and r["id"] in allocated)
    sizes = np.abs(list(errors.values()))
    assert len(sizes) == 22
    assert np.median(sizes) <= 0.01
    assert np.max(sizes) <= 0.04


def test_memory_of_all_rows(v):
    s = v.score("memory")
    assert s.median <= 0.08
    assert s.mean <= 0.11


@pytest.mark.parametrize("name", list(bars.PEERS))
def test_lower_mean_error_than_the_best_peer(v, name):
    bar, _, inside = bars.PEERS[name]
    by_id = {r["id"]: r for r in v.measured}
    errors = [
        abs(o["predicted_step_s"] / o["measured_step_s"] - 1)
        for o in v.rows
        if o["predicted_step_s"] and o["measured_step_s"] and inside(by_id[o["id"]]) and by_id[o["id"]].get("complete")
        and runs.trust(by_id[o["id"]]) != "distrust"
    ]  # fmt: skip
    assert len(errors) >= 5
    assert np.mean(errors) < bar


def test_intervals_hold_about_80_per_cent_of_the_weight(v):
    inside = [
        o["lo_s"] <= o["measured_step_s"] <= o["hi_s"]
        for o, r in zip(v.rows, v.measured, strict=True)
        if runs.scored(r) and o["predicted_step_s"]
    ]
    assert 0.70 <= np.mean(inside) <= 0.92


def test_constants_are_few_and_stay_near_their_physical_expectation():
    rows = stacks.constants().values()
    assert len(rows) <= 60
    for c in rows:
        assert c.value > 0 and c.meaning and c.why
        assert abs(np.log(c.value / c.prior)) <= 3.0 * c.spread, c.name


def test_every_constant_is_used_by_some_row(v):
    used = set()
    for row in v.measured:
        if runs.scored(row) or runs.scored(row, "caution"):
            problem = runs.convert(row).problem
            if problem is not None:
                used |= {leaf.constant for leaf in problem.leaves.values()}
    assert set(stacks.constants()) <= used


def test_left_out_scores_that_ship_meet_their_bars():
    summary = json.loads((stacks.DATA / "error_summary.json").read_text(encoding="utf-8"))
    group, source = summary["leave_one_group_out"], summary["leave_one_source_out"]
    assert group["median"] <= 0.07 and group["mean"] <= 0.10
    assert source["median"] <= 0.08 and source["mean"] <= 0.12


def test_the_index_of_nearest_runs_is_of_these_constants(v):
    entries = json.loads((stacks.DATA / "nearest.json").read_text(encoding="utf-8"))
    now = {o["id"]: o["predicted_step_s"] for o in v.rows}
    assert len(entries) > 200
    for entry in entries:
        assert entry["predicted_step_s"] == pytest.approx(now[entry["id"]], rel=2e-3), "run: make refit"


def test_nearest_runs_of_a_measured_run_hold_the_run_itself_or_its_like(v):
    row = next(r for r in v.measured if r["id"] == "dgxc-143b90d-llama31405b-h100-bf16-g2304-b1008")
    problem = runs.convert(row).problem
    found = nearest.nearest(planner.plan(problem.spec))
    assert len(found) == 3
    assert found[0]["group"] == row["group"]
    assert len({f["group"] for f in found}) == 3


def test_the_fit_recovers_a_constant_from_made_up_measurements():
    rows = [r for r in runs.read()[0] if runs.scored(r) and r["source"]["key"] in ("korthikanti2022", "dgxc")][:60]
    data = calibrate.gather(rows)
    start = {name: c.value for name, c in stacks.constants().items()}
    truth = {**start, "gemm_h100": start["gemm_h100"] * 0.9}
    logs, _ = calibrate.jacobian(data, truth)
    made_up = calibrate.Data(data.converted, data.batches, np.exp(logs), data.groups, data.names)
    found = calibrate.fit(made_up, start)
    assert found.values["gemm_h100"] == pytest.approx(truth["gemm_h100"], rel=0.03)


def test_derivatives_of_the_fit_are_those_of_finite_differences():
    rows = [r for r in runs.read()[0] if runs.scored(r) and r["source"]["key"] == "korthikanti2022"]
    data = calibrate.gather(rows)
    start = {name: c.value for name, c in stacks.constants().items()}
    logs, slopes = calibrate.jacobian(data, start)
    up, _ = calibrate.jacobian(data, {**start, "gemm_a100": start["gemm_a100"] * 1.001})
    at = data.names.index("gemm_a100")
    assert (up - logs) / np.log(1.001) == pytest.approx(slopes[:, at], abs=1e-6)
