"""What failures and checkpoints cost: best interval, expected wall time, goodput and its loss by cause.

EQ-61 to EQ-66. Elementwise over float64 arrays that broadcast together. `rate_per_s` is the rate of interruptions of the
whole job, zero allowed; an interval is the compute between two checkpoints, the writing excluded. The closed form is exact
for failures that come as a Poisson process, whatever their number in one interval, also during writing and restarting;
`laws/failure_simulation.py` plays the same rules through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign.laws import distributions

Array = NDArray[np.float64]
Number = Array | float

_LARGEST = 300.0  # exponents beyond it: goodput is zero for every purpose


class Shares(NamedTuple):
    """Where the wall time of a run goes; the five add up to 1 in this order."""

    useful: Array
    writing: Array
    rework: Array
    restart: Array
    down: Array


def _expm1_over(x: Array) -> Array:
    """(e^x - 1)/x, 1 at 0; both signs."""
    safe = np.where(x == 0.0, 1.0, np.minimum(x, _LARGEST))
    return np.where(x == 0.0, 1.0, np.expm1(safe) / safe)


def _exp(x: Array) -> Array:
    return np.exp(np.minimum(x, _LARGEST))


# ---------------------------------------------------------------------------------------------------- interval


def young_interval_s(write_s: Array, rate_per_s: Array) -> Array:
    """sqrt(2 write / rate)  (EQ-61, Young): holds while the write is short against the time between failures."""
    root_s = np.sqrt(2.0 * write_s / np.where(rate_per_s > 0, rate_per_s, 1.0))
    return np.where(rate_per_s > 0, root_s, _without_failures_s(write_s))


def daly_interval_s(write_s: Array, rate_per_s: Array) -> Array:
    """Young with two more terms, less the write; the mean time between failures from write = 2/rate on  (EQ-62, Daly
    2006). Within 0.2 % of the time at the optimum."""
    half = 0.5 * write_s * rate_per_s
    root = np.sqrt(half)
    interval_s = young_interval_s(write_s, rate_per_s) * (1.0 + root / 3.0 + half / 9.0) - write_s
    return np.where(half < 1.0, interval_s, 1.0 / np.where(rate_per_s > 0, rate_per_s, 1.0))


def best_interval_s(write_s: Array, rate_per_s: Array) -> Array:
    """The interval of the least expected wall time under EQ-63, independent of restart and downtime.

    tau = (1 + W0(-e^(-1 - write rate)))/rate, W0 the Lambert function; found as tau = (1 - e^-v)/rate with v - 1 + e^-v =
    write rate, by Newton from above. Infinite where the rate is zero; 0 where a checkpoint costs nothing.
    """
    write_s, rate_per_s = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.float64)) for x in (write_s, rate_per_s)))
    target = write_s * rate_per_s
    v = np.sqrt(2.0 * target) + target
    for _ in range(8):  # convex and increasing, started above the root: each step stays above it
        slope = -np.expm1(-v)
        v = np.where(target > 0, v - (_excess(v) - target) / np.where(slope > 0, slope, 1.0), 0.0)
    interval_s = -np.expm1(-v) / np.where(rate_per_s > 0, rate_per_s, 1.0)
    return np.where(rate_per_s > 0, interval_s, _without_failures_s(write_s))


def _excess(v: Array) -> Array:
    """v - 1 + e^-v without cancellation for small v."""
    small = v * v * (1 / 2 - v * (1 / 6 - v * (1 / 24 - v * (1 / 120 - v * (1 / 720 - v / 5040)))))
    return np.where(v < 0.05, small, v + np.expm1(-v))


def _without_failures_s(write_s: Array) -> Array:
    return np.where(write_s > 0, np.inf, 0.0)


# ---------------------------------------------------------------------------------------------------- goodput


def wall_over_work(
    interval_s: Array, write_s: Array, rate_per_s: Array, restart_s: Array, down_s: Number = 0.0, lag_s: Number = 0.0
) -> Array:
    """Expected wall time over useful compute: (1/rate + down) e^(rate (restart + lag)) (e^(rate (interval + write)) - 1)
    / interval  (EQ-63, Daly 2006, with downtime and lag).

    After a failure the job is down for `down_s`, in which nothing can fail (detection, drain, exchange), then restarts
    for `restart_s`, in which it can. `lag_s`: wall time from a snapshot to the moment from which it can be restored
    (asynchronous writing); what was computed meanwhile is lost with it, which acts as so much more restart, exactly.
    `write_s` is what stops the compute: all of a synchronous write, the snapshot of an asynchronous one.
    Holds for finite intervals above 0; the caller keeps them at a step or more, and at a background write or more.
    """
    segment_s = interval_s + write_s
    repeats = _exp(rate_per_s * (restart_s + lag_s)) * _expm1_over(rate_per_s * segment_s)
    return (1.0 + rate_per_s * down_s) * repeats * segment_s / interval_s


def goodput(
    interval_s: Array, write_s: Array, rate_per_s: Array, restart_s: Array, down_s: Number = 0.0, lag_s: Number = 0.0
) -> Array:
    """Useful compute over expected wall time, the inverse of `wall_over_work`; 1 without failures and writes."""
    return 1.0 / wall_over_work(interval_s, write_s, rate_per_s, restart_s, down_s, lag_s)


def shares(
    interval_s: Array, write_s: Array, rate_per_s: Array, restart_s: Array, down_s: Number = 0.0, lag_s: Number = 0.0
) -> Shares:
    """Where the expected wall time goes, by cause, exactly under the rules of `wall_over_work`.

    Writing counts the checkpoints that last; rework is compute and writing that a failure takes back.
    """
    wall = wall_over_work(interval_s, write_s, rate_per_s, restart_s, down_s, lag_s)
    segment_s = interval_s + write_s
    repeats = _exp(rate_per_s * (restart_s + lag_s)) * _expm1_over(rate_per_s * segment_s)
    failures_per_s = rate_per_s * repeats * segment_s / interval_s / wall  # of wall time
    down = failures_per_s * down_s
    # a restart ends after restart_s or with the next failure
    restart = failures_per_s * restart_s * _expm1_over(-rate_per_s * restart_s)
    useful, writing = 1.0 / wall, write_s / interval_s / wall
    return Shares(useful, writing, np.maximum(1.0 - useful - writing - restart - down, 0.0), restart, down)


def failures_per_work_s(
    interval_s: Array, write_s: Array, rate_per_s: Array, restart_s: Array, lag_s: Number = 0.0
) -> Array:
    """Interruptions for each second of useful compute under the rules of `wall_over_work`."""
    segment_s = interval_s + write_s
    grown = _exp(rate_per_s * (restart_s + lag_s)) * _expm1_over(rate_per_s * segment_s)
    return rate_per_s * grown * segment_s / interval_s


def mean_restart_s(rate_per_s: Array, weights: Sequence[Array], restarts_s: Sequence[Array]) -> Array:
    """The one restart time that stands for a mixture in `wall_over_work`: -ln(sum of w e^(-rate R)) / rate, exact.

    `weights` (they add up to 1): shares of the causes, or of a measured distribution of restart times. Nearly the mean
    for short restarts, less for heavy tails, since a long restart is often cut short by the next failure.
    """
    survived, mean_s = np.zeros(1), np.zeros(1)
    for weight, restart_s in zip(weights, restarts_s, strict=True):
        survived = survived + weight * -np.expm1(-rate_per_s * restart_s)
        mean_s = mean_s + weight * restart_s
    rate = np.where(rate_per_s > 0, rate_per_s, 1.0)
    return np.where(rate_per_s > 0, -np.log1p(-np.minimum(survived, 1.0 - 1e-16)) / rate, mean_s)


def first_order_goodput(interval_s: Array, write_s: Array, rate_per_s: Array, restart_s: Array) -> Array:
    """(1 - rate (restart + interval/2)) / (1 + write/interval)  (EQ-64, Kokolis 2024, arXiv 2410.21680).

    Holds while rate (restart + interval/2) stays below about 0.25; `goodput` otherwise. Never below 0 here.
    """
    return np.maximum(1.0 - rate_per_s * (restart_s + 0.5 * interval_s), 0.0) / (1.0 + write_s / interval_s)


def tolerable_rate_per_s(
    target: Array, write_s: Array, restart_s: Array, down_s: Number = 0.0, lag_s: Number = 0.0
) -> Array:
    """Largest failure rate of the job at which the best interval still reaches the goodput `target`: a break-even curve.

    For 0 < target < 1; by bisection on the logarithm of the rate between one in 1e15 s and one a microsecond.
    """
    target, write_s, restart_s, down_s, lag_s = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64)) for x in (target, write_s, restart_s, down_s, lag_s))
    )
    low, high = np.full(target.shape, np.log(1e-15)), np.full(target.shape, np.log(1e6))
    for _ in range(60):
        middle = 0.5 * (low + high)
        rate = np.exp(middle)
        interval_s = np.maximum(best_interval_s(write_s, rate), 1e-9)
        reached = goodput(interval_s, write_s, rate, restart_s, down_s, lag_s) >= target
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    return np.exp(low)


# ---------------------------------------------------------------------------------------------------- writing, replicas


def write_s(checkpoint_B: Array, storage_Bps: Array, ranks: Array, rank_Bps: Array) -> Array:
    """Time to write (or read) a checkpoint: bytes over the smaller of the storage and all ranks together."""
    return checkpoint_B / np.minimum(storage_Bps, ranks * rank_Bps)


def blocking_s(snapshot_s: Array, background_s: Array, slowdown: Array) -> Array:
    """Compute time that one asynchronous checkpoint takes away: the snapshot, and the slower steps while it is written."""
    return snapshot_s + slowdown * background_s


def wasted_s(checkpoint_s: Array, interval_s: Array, retrieve_s: Array) -> Array:
    """Mean loss of one failure with one checkpoint always under way: write + interval/2 + retrieval  (EQ-65, Gemini).

    The interval is at least the longer of a write and a step. Several failures in an interval: `goodput` with lag.
    """
    return checkpoint_s + 0.5 * interval_s + retrieve_s


def memory_recovery_probability(machines: Array, replicas: Array, lost: Array) -> Array:
    """P(in-memory checkpoints survive `lost` simultaneous losses), at least 1 - N C(N-m, k-m) / (m C(N, k))  (EQ-66).

    N machines, each state on m of them in groups. 1 for fewer losses than copies. Losses independent: with copies in
    different racks or sites, count those, not machines.
    """
    machines, replicas, lost = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64)) for x in (machines, replicas, lost))
    )
    k = np.maximum(lost, replicas)
    # C(N-m, k-m) / C(N, k) = k! (N-m)! / ((k-m)! N!)
    log_ratio = (
        distributions.log_gamma(k + 1.0) + distributions.log_gamma(machines - replicas + 1.0)
        - distributions.log_gamma(k - replicas + 1.0) - distributions.log_gamma(machines + 1.0)
    )
    hit = machines / replicas * np.exp(log_ratio)
    return np.where(lost < replicas, 1.0, np.maximum(1.0 - hit, 0.0))
