"""The constant rate of interruptions that stands for one that decays: the same wall clock for the same work.

EQ-63 and EQ-67 together. While early failures last, less work is done in an hour and the clock runs on; the mean rate over
the work alone would be too high, and goodput at the mean rate too low. Elementwise over float64 arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from codesign.laws import checkpoints, reliability, renewal

Array = NDArray[np.float64]

# numbers of passes are fixed, so that a row has the same bits whatever else is in the batch
_CLOCK_PASSES = 2
_TIME_PASSES = 2
_RATE_PASSES = 5


def _gauss(points: int) -> list[tuple[float, float]]:
    """Places and weights of the Gauss rule on 0 to 1."""
    places, weights = np.polynomial.legendre.leggauss(points)
    return [(0.5 * (1.0 + float(x)), 0.5 * float(w)) for x, w in zip(places, weights, strict=True)]


_WHOLE, _REST = _gauss(14), _gauss(4)


def steady_per_s(
    units: Array, work_s: Array, other_per_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array,
    replaced_share: Array, write_s: Array, restart_s: Array, down_s: Array, least_interval_s: Array,
) -> Array:
    """Rate of the job, constant, at which `work_s` takes the same expected wall clock as with the decaying one.

    The job fails at `other_per_s`, and with each of its `units` parts, whose rate falls from `early_per_s` to
    `settled_per_s`; `replaced_share` of the failed ones are new again. Within 1 % of runs that are played with the
    decaying rate, while it changes little in one checkpoint interval. Solved to 1e-7 of itself (Gauss rule of 14 places in
    the decayed share); to 1e-2 where a restart of the first hours meets ten failures or more, so that nothing is done.
    """
    given = (units, work_s, other_per_s, early_per_s, settled_per_s, settling_s, replaced_share, write_s, restart_s, down_s,
             least_interval_s)  # fmt: skip
    units, work_s, other, early, settled, settling_s, replaced_share, write_s, restart_s, down_s, least_s = (
        np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.float64)) for x in given))
    )

    def wall(rate: Array, interval_s: Array) -> Array:
        return np.minimum(checkpoints.wall_over_work(interval_s, write_s, rate, restart_s, down_s), 1e9)

    def interval(clock_s: Array) -> tuple[Array, Array]:
        rate = other + units * reliability.mean_rate_per_s(clock_s, early, settled, settling_s)
        return rate, np.minimum(np.maximum(checkpoints.best_interval_s(write_s, rate), least_s), work_s)

    def next_clock_s(clock_s: Array) -> Array:
        return np.sqrt(clock_s * work_s * wall(*interval(clock_s)))

    # the clock of the mean rate, renewals left out, decides on the interval; a fixed point, each pass extrapolated (Aitken)
    clock_s = next_clock_s(work_s)
    for _ in range(_CLOCK_PASSES):
        first_s = next_clock_s(clock_s)
        second_s = next_clock_s(first_s)
        bend_s = second_s - 2.0 * first_s + clock_s
        better_s = clock_s - (first_s - clock_s) ** 2 / np.where(bend_s != 0.0, bend_s, 1.0)
        clock_s = np.where((bend_s != 0.0) & (better_s >= work_s), better_s, second_s)
    mean_per_s, interval_s = interval(clock_s)
    ages = renewal.modes(early, settled, settling_s, replaced_share)
    floor, excess = other + units * settled, units * (early - settled)

    def pace(time_s: Array) -> Array:
        return 1.0 / wall(floor + excess * renewal.mean_decay(ages, time_s), interval_s)

    last = 1.0 / wall(floor + excess * ages.level, interval_s)
    elapsed_s = _when(pace, last, ages.rates_per_s[0], clock_s, work_s)
    return _rate_of(elapsed_s / work_s, interval_s, write_s, restart_s, down_s, floor, floor + excess, mean_per_s)


def _when(pace: Callable[[Array], Array], last: Array, decay_per_s: Array, guess_s: Array, wanted_s: Array) -> Array:
    """Time at which the work, at a pace that nears `last` as e^(-decay t), reaches `wanted_s`; by Newton from a guess."""
    here_s, done_s = guess_s, _work_s(pace, last, decay_per_s, 0.0 * guess_s, guess_s, _WHOLE)
    for _ in range(_TIME_PASSES):
        there_s = np.maximum(here_s + (wanted_s - done_s) / pace(here_s), wanted_s)
        done_s = done_s + _work_s(pace, last, decay_per_s, here_s, there_s, _REST)
        here_s = there_s
    return here_s + (wanted_s - done_s) / pace(here_s)


def _work_s(
    pace: Callable[[Array], Array], last: Array, decay_per_s: Array, start_s: Array, stop_s: Array,
    rule: list[tuple[float, float]],
) -> Array:
    """Integral of the pace: the last one, and what is not there yet, which is smooth in 1 - e^(-decay t)."""
    share = -np.expm1(-decay_per_s * (stop_s - start_s))
    missing = 0.0 * share
    for place, weight in rule:
        left = 1.0 - share * place
        missing = missing + weight * (pace(start_s - np.log(left) / decay_per_s) - last) / left
    return last * (stop_s - start_s) + missing * share / decay_per_s


def _rate_of(
    ratio: Array, interval_s: Array, write_s: Array, restart_s: Array, down_s: Array, low: Array, high: Array, guess: Array
) -> Array:
    """The rate in `low` to `high` at which wall over work is `ratio`: Newton on its logarithm, which is nearly straight."""
    rate = np.minimum(np.maximum(guess, low), high)
    segment_s = interval_s + write_s
    for _ in range(_RATE_PASSES):
        now = checkpoints.wall_over_work(interval_s, write_s, rate, restart_s, down_s)
        met = rate * segment_s
        # of ln(e^x - 1)/x: 1/(1 - e^-x) - 1/x
        some = np.where(met > 1e-5, met, 1.0)
        grows = segment_s * np.where(met > 1e-5, -1.0 / np.expm1(-some) - 1.0 / some, 0.5 + met / 12.0)
        slope = down_s / (1.0 + rate * down_s) + restart_s + grows
        rate = np.minimum(np.maximum(rate - np.log(now / ratio) / slope, low), high)
    return rate
