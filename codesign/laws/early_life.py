"""The constant rate of interruptions that stands for one that decays: the same wall clock for the same work.

EQ-63 and EQ-67 together. While early failures last, less work is done in an hour and the clock runs on; the mean rate over
the work alone would be too high, and goodput at the mean rate too low. Elementwise over float64 arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.laws import checkpoints, reliability

Array = NDArray[np.float64]

_POINTS = 257
_PASSES = 40  # fixed, so that a row has the same bits whatever else is in the batch


def steady_per_s(
    units: Array, work_s: Array, other_per_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array,
    replaced_share: Array, write_s: Array, restart_s: Array, down_s: Array, least_interval_s: Array,
) -> Array:
    """Rate of the job, constant, at which `work_s` takes the same expected wall clock as with the decaying one.

    The job fails at `other_per_s`, and with each of its `units` parts, whose rate falls from `early_per_s` to
    `settled_per_s`; `replaced_share` of the failed ones are new again. Within 1 % of runs that are played with the
    decaying rate, while it changes little in one checkpoint interval.
    """
    given = (units, work_s, other_per_s, early_per_s, settled_per_s, settling_s, replaced_share, write_s, restart_s, down_s,
             least_interval_s)  # fmt: skip
    units, work_s, other, early, settled, settling_s, replaced_share, write_s, restart_s, down_s, least_s = (
        np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.float64)) for x in given))
    )

    def wall(rate: Array, interval_s: Array) -> Array:
        return np.minimum(checkpoints.wall_over_work(interval_s, write_s, rate, restart_s, down_s), 1e9)

    def interval(rate: Array) -> Array:
        return np.minimum(np.maximum(checkpoints.best_interval_s(write_s, rate), least_s), work_s)

    # a first clock from the mean rate: never too short
    clock_s = work_s
    for _ in range(_PASSES):
        rate = other + units * reliability.mean_rate_per_s(clock_s, early, settled, settling_s)
        clock_s = np.sqrt(clock_s * work_s * wall(rate, interval(rate)))
    # beyond 20 settling times nothing changes; a step is short against the life of the youngest part
    horizon_s = np.minimum(np.minimum(1.5 * clock_s, 20.0 * settling_s), 0.5 * _POINTS / early)
    times_s, part = reliability.replaced_hazard_per_s(horizon_s, early, settled, settling_s, replaced_share, _POINTS)
    interval_s = interval(rate)
    rates = other[..., None] + units[..., None] * part
    done = 1.0 / np.minimum(
        checkpoints.wall_over_work(
            interval_s[..., None], write_s[..., None], rates, restart_s[..., None], down_s[..., None]
        ),
        1e9,
    )
    step_s = times_s[..., 1] - times_s[..., 0]
    work = np.zeros_like(done)
    work[..., 1:] = np.cumsum(0.5 * (done[..., 1:] + done[..., :-1]), axis=-1) * step_s[..., None]
    elapsed_s = _when(work, times_s, done, work_s)
    return _rate_of(wall, interval_s, elapsed_s / work_s, other + units * settled, other + units * np.max(part, axis=-1))


def _when(work: Array, times_s: Array, done: Array, wanted_s: Array) -> Array:
    """Time at which the work reaches `wanted_s`; beyond the last point at its pace."""
    at = np.clip((work < wanted_s[..., None]).sum(axis=-1), 1, work.shape[-1] - 1)[..., None]
    before, after = (np.take_along_axis(work, index, -1)[..., 0] for index in (at - 1, at))
    start, stop = (np.take_along_axis(times_s, index, -1)[..., 0] for index in (at - 1, at))
    inside = start + (stop - start) * (wanted_s - before) / np.maximum(after - before, 1e-300)
    beyond = times_s[..., -1] + (wanted_s - work[..., -1]) / done[..., -1]
    return np.where(wanted_s > work[..., -1], beyond, inside)


def _rate_of(wall, interval_s: Array, ratio: Array, low: Array, high: Array) -> Array:
    """The rate in `low` to `high` at which wall over work is `ratio`, by bisection of its logarithm."""
    low, high = np.log(np.maximum(low, 1e-30)), np.log(np.maximum(high, 1e-30))
    for _ in range(_PASSES):
        middle = 0.5 * (low + high)
        less = wall(np.exp(middle), interval_s) < ratio
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.exp(0.5 * (low + high))
