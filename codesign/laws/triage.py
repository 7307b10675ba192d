"""One bug or many, hardware or software: what counts of faults over nodes can tell, and how many it takes.

EQ-75 to EQ-80. Elementwise over float64 arrays that broadcast together; where counts of many nodes are an argument they
lie on the last axis. "Uniform" is the null hypothesis that every node is hit with the same probability.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign.laws import distributions

Array = NDArray[np.float64]


class RateComparison(NamedTuple):
    """Ratio of two Poisson rates, first over second, and the two-sided p value that they are the same."""

    ratio: Array
    p_value: Array


def any_repeat_probability(faults: Array, nodes: Array) -> Array:
    """P(some node is hit twice) if k faults fall uniformly on n nodes: 1 - prod (1 - i/n)  (EQ-75). k at most n + 1."""
    faults, nodes = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (faults, nodes)))
    left = np.maximum(nodes - faults, 0.0)
    inside = np.maximum(left, 0.5)
    # ln n!/((n-k)! n^k), the leading terms of Stirling combined so that nothing large cancels
    log_none = -(inside + 0.5) * np.log1p((inside - nodes) / nodes) + (inside - nodes) + (
        distributions.stirling_rest(nodes) - distributions.stirling_rest(inside)
    )
    log_all_hit = distributions.log_gamma(nodes + 1.0) - nodes * np.log(nodes)
    log_none = np.where(left > 0, log_none, np.where(faults > nodes, -np.inf, log_all_hit))
    return np.where(faults > 1.0, -np.expm1(np.minimum(log_none, 0.0)), 0.0)


def repeated_nodes(faults: Array, nodes: Array) -> Array:
    """Expected nodes with two hits or more under uniformity: n P(Poisson(k/n) >= 2)  (EQ-75)."""
    mean = np.asarray(faults) / nodes
    return nodes * (-np.expm1(-mean) - mean * np.exp(-mean))


def critical_hits(faults: Array, nodes: Array, significance: Array) -> Array:
    """Fewest hits on one node that reject uniformity: smallest m with n P(Poisson(k/n) >= m) <= alpha  (EQ-75).

    A union bound over nodes, so a little conservative.
    """
    mean = np.asarray(faults) / nodes
    return distributions.poisson_quantile(1.0 - significance / nodes, mean) + 1.0


def dispersion(counts: Array, exposure: Array | None = None) -> Array:
    """Sum of (x - expected)^2 / expected over the last axis  (EQ-76); chi-square with n - 1 degrees under uniformity.

    `exposure` (node-hours) sets what is expected of each node; equal without it. The chi-square law needs a mean count
    of about 1 or more; below, `dispersion_p_value`.
    """
    counts = np.asarray(counts, dtype=np.float64)
    weight = np.ones(counts.shape) if exposure is None else np.broadcast_to(np.asarray(exposure, np.float64), counts.shape)
    expected = counts.sum(axis=-1)[..., None] * weight / weight.sum(axis=-1)[..., None]
    return ((counts - expected) ** 2 / expected).sum(axis=-1)


def dispersion_p_value(rng: np.random.Generator, counts: Array, exposure: Array | None = None, draws: int = 20_000) -> float:
    """P(dispersion at least as large) under uniformity by multinomial draws, for one set of counts  (EQ-76).

    Holds at any mean count. Never below 1/(draws + 1).
    """
    counts = np.asarray(counts, dtype=np.float64)
    weight = np.ones(counts.shape) if exposure is None else np.asarray(exposure, dtype=np.float64)
    drawn = rng.multinomial(int(counts.sum()), weight / weight.sum(), size=draws).astype(np.float64)
    larger = np.sum(dispersion(drawn, weight) >= dispersion(counts, weight) * (1.0 - 1e-12))
    return float((larger + 1.0) / (draws + 1.0))


def rate_upper_bound(trials: Array, confidence: Array) -> Array:
    """Largest probability that `trials` without an event leave open: -ln(1 - confidence)/n, 3/n at 95 %  (EQ-77)."""
    return -np.log1p(-np.asarray(confidence)) / trials


def trials_to_see(probability: Array, confidence: Array) -> Array:
    """Trials in which an event shows up at least once with `confidence`: 2,995,733 for 1e-6 at 95 %  (EQ-77).

    Poisson form, for rare events (below 0.01).
    """
    return np.ceil(-np.log1p(-np.asarray(confidence)) / probability)


def events_needed(share: Array, power: Array) -> Array:
    """Fewest events k after which a node that draws `share` of them was hit twice with probability `power`  (EQ-78).

    P(Binomial(k, share) >= 2) >= power. Half of all events on one node, 90 %: 7. The false alarm is
    `any_repeat_probability`. Holds for 0 < share <= 1, 0 < power < 1.
    """
    share, power = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (share, power)))
    low = np.ones(share.shape)
    high = np.ceil(40.0 / share) + 2.0
    log_miss = np.log1p(-np.minimum(share, 1.0 - 1e-16))
    for _ in range(60):
        middle = np.floor(0.5 * (low + high))
        fewer = np.exp((middle - 1.0) * log_miss) * (1.0 - share + middle * share)
        narrow = high - low > 1.0
        holds = 1.0 - fewer >= power
        high = np.where(narrow & holds, middle, high)
        low = np.where(narrow & ~holds, middle, low)
    return high


def compare_rates(first_events: Array, first_exposure: Array, second_events: Array, second_exposure: Array) -> RateComparison:
    """Are two Poisson rates the same? Exact, conditional on the total: binomial with the share of exposure  (EQ-79)."""
    total = np.asarray(first_events) + second_events
    share = first_exposure / (np.asarray(first_exposure) + second_exposure)
    low = distributions.binomial_at_most(first_events, total, share)
    high = distributions.binomial_more_than(np.asarray(first_events) - 1.0, total, share)
    ratio = (first_events / np.asarray(first_exposure)) / (second_events / np.asarray(second_exposure))
    return RateComparison(ratio, np.minimum(2.0 * np.minimum(low, high), 1.0))


def software_odds(hardware_prior: Array, faults_on_node: Array, nodes: Array) -> Array:
    """Odds software : hardware after all k faults fell on one of n nodes: (1-p)/p n^-(k-1)  (EQ-80).

    Software is taken as uniform over nodes, hardware as always the same node. 78 % of Llama 3's unexpected interruptions
    were hardware. Faults of a pipeline role concentrate by rank: count by serial number after a new placement.
    """
    return (1.0 - hardware_prior) / hardware_prior * nodes ** (1.0 - faults_on_node)
