"""Tails and quantiles against SciPy, and where SciPy itself is short of digits against the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from published import row
from scipy import integrate, special, stats

from codesign.laws import distributions

RNG = np.random.default_rng(17)


def test_log_gamma():
    x = np.concatenate([RNG.uniform(0.01, 12, 300), 10 ** RNG.uniform(0, 12, 300)])
    error = np.abs(distributions.log_gamma(x) - special.gammaln(x))
    assert (error <= 2e-13 * np.maximum(np.abs(special.gammaln(x)), 1)).all()


def poisson_cases():
    mean = 10 ** RNG.uniform(-4, 5, 2000)
    count = np.maximum(np.floor(mean + np.sqrt(mean) * RNG.normal(0, 4, 2000) + RNG.integers(-3, 4, 2000)), 0)
    return count, mean


def test_poisson_tails():
    count, mean = poisson_cases()
    at_most, above = stats.poisson.cdf(count, mean), special.gammainc(count + 1, mean)
    np.testing.assert_allclose(distributions.poisson_at_most(count, mean), at_most, rtol=1e-10)
    np.testing.assert_allclose(distributions.poisson_more_than(count, mean), above, rtol=1e-10)
    assert distributions.poisson_at_most(row(-1), row(3)) == 0 and distributions.poisson_more_than(row(-1), row(3)) == 1


def test_poisson_tail_of_a_large_mean_by_summation():
    """SciPy is off by 7e-6 here."""
    mean, count = 965436.9607770403, 969980
    terms = np.arange(count + 1, count + 20000)
    log_terms = terms * math.log(mean) - mean - special.gammaln(terms + 1.0)
    assert distributions.poisson_more_than(row(count), row(mean)) == pytest.approx(np.exp(log_terms).sum(), rel=1e-8)


def test_poisson_quantile_and_extremes():
    _, mean = poisson_cases()
    wanted = RNG.uniform(0.001, 0.99999, mean.size)
    assert (distributions.poisson_quantile(wanted, mean) == stats.poisson.ppf(wanted, mean)).all()
    assert (distributions.poisson_quantile(row(0.0, 0.999999), row(0.0)) == 0).all()
    assert distributions.poisson_quantile(row(1 - 1e-12), row(100.0)) == stats.poisson.isf(1e-12, 100)


def test_poisson_interval_is_garwoods():
    events = np.array([0, 1, 6, 419, 1e6])
    lower, upper = distributions.poisson_interval(events, row(0.95))
    np.testing.assert_allclose(lower[1:], stats.chi2.ppf(0.025, 2 * events[1:]) / 2, rtol=1e-9)
    np.testing.assert_allclose(upper, stats.chi2.ppf(0.975, 2 * events + 2) / 2, rtol=1e-9)
    assert lower[0] == 0


def test_chi_square_tail_for_odd_and_even_freedom():
    statistic, freedom = 10 ** RNG.uniform(-2, 2.5, 500), RNG.integers(1, 120, 500).astype(float)
    np.testing.assert_allclose(
        distributions.chi_square_above(statistic, freedom), stats.chi2.sf(statistic, freedom), rtol=1e-9, atol=1e-300
    )


def binomial_cases():
    trials = np.floor(10 ** RNG.uniform(0, 5, 2000))
    success = 10 ** RNG.uniform(-6, 0, 2000)
    spread = np.sqrt(trials * success * (1 - success))
    return np.clip(np.floor(trials * success + spread * RNG.normal(0, 4, 2000)), -1, trials), trials, success


def test_binomial_tails_and_quantile():
    count, trials, success = binomial_cases()
    np.testing.assert_allclose(
        distributions.binomial_at_most(count, trials, success), stats.binom.cdf(count, trials, success), rtol=1e-9, atol=1e-300
    )
    np.testing.assert_allclose(
        distributions.binomial_more_than(count, trials, success), stats.binom.sf(count, trials, success), rtol=1e-9, atol=1e-300
    )
    wanted = RNG.uniform(0.001, 0.99999, trials.size)
    found = distributions.binomial_quantile(wanted, trials, success)
    assert (found == stats.binom.ppf(wanted, trials, success)).all()


def test_certain_and_impossible_events():
    assert distributions.binomial_at_most(row(0, 4, 5), row(5), row(1.0)).tolist() == [0, 0, 1]
    assert distributions.binomial_more_than(row(-1, 0, 5), row(5), row(0.0)).tolist() == [1, 0, 0]


def test_largest_of_many_normals_by_adaptive_quadrature():
    for count in (2, 100, 16384, 1e7):
        mean, _ = integrate.quad(
            lambda x, n=count: x * n * stats.norm.pdf(x) * math.exp((n - 1) * stats.norm.logcdf(x)), -5, 12, limit=400,
            points=[3, 4, 5, 6],
        )
        assert distributions.expected_maximum(row(count)) == pytest.approx(mean, rel=1e-7)


def test_the_normal_at_the_logarithm_of_a_probability():
    for z in (-9.0, -3.3, -0.02, 0.013, 1.03, 4.4, 7.7):
        assert distributions.normal_at_log(stats.norm.logcdf(z))[0] == pytest.approx(z, abs=3e-4)
