"""Failure reports as shipped: each is told by the others, and the default rates are written from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from codesign.evidence import failures
from codesign.spec import failure_rates


def test_intervals_of_mean_time_to_failure_hold_in_three_of_four_reports():
    told = {one.name: one for one in failures.predicted_hours()}
    assert failures.held(list(told.values())) >= 0.75
    # every manual restart is in the count of OPT; jobs of 1,024 on RSC failed four times as often as its nodes say
    assert [name for name, one in told.items() if not one.holds] == ["opt-175b", "rsc job of 1024"]
    assert told["llama-3"].printed == pytest.approx(3.093, rel=1e-3)
    assert told["rsc-1"].printed / told["rsc-2"].printed == pytest.approx(2.34 / 6.5 / 2.0)  # twice the accelerators


def test_intervals_of_lost_time_hold_in_three_of_four_reports_and_without_those_that_are_bounds():
    told = failures.predicted_lost()
    assert failures.held(told) >= 0.75
    assert failures.held([one for one in told if not one.bound]) >= 0.75
    assert [one.name for one in told if not one.holds] == ["rsc above 1024"]


def test_a_report_is_told_without_any_of_its_own_numbers(monkeypatch):
    """A report that were a thousand times worse would be told the same."""
    before = {one.name: one for one in failures.predicted_hours()}
    changed = [
        failures.Rate(rate.name, rate.report, rate.per_1000_node_days * (1000.0 if rate.report == "meta-rsc-2023" else 1.0),
                      rate.accelerators, rate.fitted) for rate in failures.rates()
    ]  # fmt: skip
    monkeypatch.setattr(failures, "rates", lambda: changed)
    after = {one.name: one for one in failures.predicted_hours()}
    for name in ("rsc-1", "rsc-2", "rsc job of 8", "rsc job of 1024"):
        assert after[name].value == before[name].value and after[name].low == before[name].low
    assert after["llama-3"].value < 0.2 * before["llama-3"].value


def test_every_row_is_used_or_said_not_to_be():
    used = {one.report for one in (*failures.rates(), *failures.lost())}
    assert used | set(failures.UNUSED) == set(failures.reports()) and not used & set(failures.UNUSED)


def test_causes_of_llama_3_are_all_counted_once():
    counts = failures.reports()["llama3-405b-54d"]["counts"]
    named = [cause for causes in failures.CAUSES.values() for cause in causes] + [failures.FABRIC]
    assert sorted(named) == sorted(counts) and sum(counts.values()) == 419
    assert sum(failures.shares().values()) == pytest.approx(1.0)


def test_quantiles_are_those_of_student():
    assert np.allclose(failures.T90, stats.t.ppf(0.9, np.arange(1, 11)), atol=5e-4)


def test_the_shipped_rates_are_those_of_the_rows():
    assert failure_rates.FILE.read_text(encoding="utf-8") == failures.data_file(), (
        "old: run python -m codesign.evidence.failures --write"
    )


def test_sets_of_rates_add_up_to_the_rate_they_are_from():
    held = failure_rates.rates("llama-3").per_s
    cables, switches = failures._llama_fabric()
    units = {"host": 2048, "link": cables, "switch": switches}
    job = sum(rate * units.get(name, 16384) for name, rate in held.items())
    assert 1.0 / job / 3600.0 == pytest.approx(3.093, rel=1e-3)


def test_the_pool_has_the_spread_of_the_published_rates():
    pooled = failure_rates.rates("pooled")
    rates = [one.per_1000_node_days for one in failures.rates() if one.fitted]
    assert pooled.low * pooled.high == pytest.approx(1.0, rel=1e-3)
    assert pooled.high > math.sqrt(max(rates) / min(rates))
    assert failure_rates.rates("rsc-1").high is None  # one report has no spread


def test_the_text_prints_every_report_with_its_interval():
    text = list(failures.lines())
    assert sum(", told " in line for line in text) == len(failures.rates()) + len(failures.lost())
    assert sum("holds in" in line for line in text) == 2 and not any("SHORT" in line for line in text)
