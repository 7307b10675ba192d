"""Monte-Carlo play-through of a run with failures and checkpoints: the oracle of the closed forms in `checkpoints`.

One pass of a loop plays one failure of every run at once. Time is in seconds; `rng` is the caller's, so that a seed gives
the same runs. The rules are those of `checkpoints.wall_over_work`, without its assumption that the run is long; a rate
that decays with the age of the hardware is allowed beside a constant one, by one clock or part by part with renewal.
Stragglers are played apart: they stretch compute, whatever fails.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.laws import distributions
from codesign.laws.played_ages import Ages

Array = NDArray[np.float64]

_MOST_FAILURES = 1_000_000  # in one run; beyond it a run is not getting anywhere


class Runs(NamedTuple):
    """Wall time and number of failures of each simulated run, shape (runs, *cases)."""

    wall_s: Array
    failures: Array


class Parts(NamedTuple):
    """Parts of the job whose hazard falls with their own age: how many, their settled rate each, and the share of their
    failures after which a new one stands in their place."""

    units: ArrayLike
    settled_per_s: ArrayLike
    replaced_share: ArrayLike


def simulate(
    rng: np.random.Generator, runs: int, segments: ArrayLike, interval_s: ArrayLike, write_s: ArrayLike,
    rate_per_s: ArrayLike, restart_s: ArrayLike, down_s: ArrayLike = 0.0, lag_s: ArrayLike = 0.0,
    early_per_s: ArrayLike | None = None, settling_s: ArrayLike = 1.0, parts: Parts | None = None,
) -> Runs:
    """Play `runs` runs of `segments` intervals of compute, each followed by a write that stops it.

    A failure takes the run back to the last snapshot that is at least `lag_s` old; it is down for `down_s`, then
    restarts for `restart_s`, in which it can fail again. With `early_per_s` the rate of the job decays from it to
    `rate_per_s` (which must then be above 0) as in EQ-67, by the clock of the run; with `parts` what decays is theirs,
    and starts anew in each that is replaced. A run that fails a million times is refused with ValueError.
    """
    shape, (total, interval, write, rate, restart, down, lag, early, settling, *of_parts) = _cases(
        runs, segments, interval_s, write_s, rate_per_s, restart_s, down_s, lag_s,
        rate_per_s if early_per_s is None else early_per_s, settling_s, *(parts or ()),
    )
    hazard = _Hazard(rate, early, settling, of_parts)
    wall, failures, saved = np.zeros(total.size), np.zeros(total.size), np.zeros(total.size)
    alive = np.arange(total.size)
    starting = np.zeros(total.size)  # the first start is not a restart
    for _ in range(_MOST_FAILURES):
        gap = hazard.next_failure_s(rng, alive, wall[alive])
        segment = interval[alive] + write[alive]
        needed = starting[alive] + (total[alive] - saved[alive]) * segment
        ends = gap >= needed
        durable = np.floor(np.maximum(np.where(ends, 0.0, gap) - starting[alive] - lag[alive], 0.0) / segment)
        saved[alive] += np.minimum(durable, total[alive] - saved[alive])
        hazard.fail(rng, alive[~ends], (wall[alive] + gap)[~ends])
        wall[alive] += np.where(ends, needed, gap + down[alive])
        failures[alive] += ~ends
        starting[alive] = restart[alive]
        alive = alive[~ends]
        if not alive.size:
            return Runs(wall.reshape(shape), failures.reshape(shape))
    raise ValueError(f"{alive.size} runs did not end within {_MOST_FAILURES} failures each")


def simulate_two_tier(
    rng: np.random.Generator, runs: int, cycles: ArrayLike, interval_s: ArrayLike, memory_write_s: ArrayLike,
    segments: ArrayLike, storage_write_s: ArrayLike, rate_per_s: ArrayLike, memory_share: ArrayLike,
    memory_restart_s: ArrayLike, storage_restart_s: ArrayLike, memory_down_s: ArrayLike, storage_down_s: ArrayLike,
    early_per_s: ArrayLike | None = None, settling_s: ArrayLike = 1.0, parts: Parts | None = None,
) -> Runs:
    """Play `runs` runs of `cycles` storage checkpoints with `segments` intervals each, under `two_tier.wall_over_work`.

    A failure is survived by the copy in memory with probability `memory_share`; a failure while a restart from storage
    is under way never is. `early_per_s` and `parts` as in `simulate`.
    """
    given = (cycles, interval_s, memory_write_s, segments, storage_write_s, rate_per_s, memory_share, memory_restart_s,
             storage_restart_s, memory_down_s, storage_down_s, rate_per_s if early_per_s is None else early_per_s, settling_s)
    shape, cases = _cases(runs, *given, *(parts or ()))
    total, interval, copy, each, store, rate, share, restart_1, restart_2, down_1, down_2, early, settling, *of_parts = cases
    hazard = _Hazard(rate, early, settling, of_parts)
    wall, failures, saved = np.zeros(total.size), np.zeros(total.size), np.zeros(total.size)
    total = total * each
    alive = np.arange(total.size)
    from_storage = np.zeros(total.size, dtype=bool)
    starting = np.zeros(total.size)
    for _ in range(_MOST_FAILURES):
        gap = hazard.next_failure_s(rng, alive, wall[alive])
        segment, n = interval[alive] + copy[alive], each[alive]
        cycle = n * segment + store[alive]
        begun = saved[alive] * segment + np.floor(saved[alive] / n) * store[alive]
        needed = starting[alive] + total[alive] / n * cycle - begun
        ends = gap >= needed
        reached = begun + np.maximum(np.where(ends, 0.0, gap) - starting[alive], 0.0)
        # 1e-9: `begun` lies on a border of a cycle but for rounding
        whole = np.floor(reached / cycle + 1e-9)
        inside = np.minimum(np.floor(np.maximum(reached - whole * cycle, 0.0) / segment + 1e-9), n - 1.0)
        restarting = from_storage[alive] & (gap < starting[alive])
        memory = (rng.random(alive.size) < share[alive]) & ~restarting
        saved[alive] = np.maximum(whole * n + np.where(memory, inside, 0.0), np.where(memory, saved[alive], 0.0))
        hazard.fail(rng, alive[~ends], (wall[alive] + gap)[~ends])
        wall[alive] += np.where(ends, needed, gap + np.where(memory, down_1[alive], down_2[alive]))
        failures[alive] += ~ends
        starting[alive] = np.where(memory, restart_1[alive], restart_2[alive])
        from_storage[alive] = ~memory
        alive = alive[~ends]
        if not alive.size:
            return Runs(wall.reshape(shape), failures.reshape(shape))
    raise ValueError(f"{alive.size} runs did not end within {_MOST_FAILURES} failures each")


def _cases(runs: int, *given: ArrayLike) -> tuple[tuple[int, ...], list[Array]]:
    """The shape of the answer, and every input flat, one entry a run."""
    cases = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in given))
    shape = (runs, *cases[0].shape)
    return shape, [np.broadcast_to(x, shape).reshape(-1).copy() for x in cases]


class _Hazard:
    """Rate of the job, run by run: constant, decaying by the clock, or with the ages of its parts."""

    def __init__(self, rate: Array, early: Array, settling_s: Array, of_parts: list[Array]) -> None:
        self._rate, self._extra, self._settling_s = rate, early - rate, settling_s
        self._ages, self._other = None, rate
        if of_parts and (early != rate).any():
            units, settled, replaced = of_parts
            self._ages = Ages(np.round(units), settled, self._extra / np.round(units), settling_s, replaced)
            self._other = np.maximum(rate - np.round(units) * settled, 0.0)

    def next_failure_s(self, rng: np.random.Generator, alive: NDArray[np.int64], now_s: Array) -> Array:
        """Time to the next failure: the expected number of failures until then is a unit exponential."""
        target = rng.exponential(size=now_s.size)
        rate, settling_s = self._rate[alive], self._settling_s[alive]
        steady = np.divide(target, rate, out=np.full(target.shape, np.inf), where=rate > 0)
        decaying = self._extra[alive] != 0.0
        if not decaying.any():
            return steady
        by_clock = self._extra[alive] * np.exp(-now_s / settling_s)
        extra = by_clock if self._ages is None else self._ages.extra_per_s(alive, now_s)
        gap_s = target / np.where(decaying, rate + np.maximum(extra, 0.0), 1.0)  # at or below the root
        for _ in range(40):
            fewer = np.exp(-gap_s / settling_s)
            met = rate * gap_s + extra * settling_s * (1.0 - fewer)
            gap_s = gap_s + (target - met) / np.where(decaying, rate + extra * fewer, 1.0)
        return np.where(decaying, gap_s, steady)

    def fail(self, rng: np.random.Generator, alive: NDArray[np.int64], now_s: Array) -> None:
        """What has failed in these runs now is replaced, where it is a part with an age."""
        if self._ages is not None and alive.size:
            self._ages.fail(rng, alive, now_s, self._other[alive])


def straggling(
    rng: np.random.Generator, runs: int, ranks: ArrayLike, variation: ArrayLike, nodes: ArrayLike, slow_share: ArrayLike,
    slowdown: ArrayLike, steps: int = 64,
) -> Array:
    """Step over the mean of one healthy rank, mean over `steps` of each of `runs` runs; shape (runs, *cases)  (EQ-69).

    A run draws its slow nodes once and keeps them; every step waits for the largest of the independent normal noises of
    all ranks: the maximum of n is where the normal's distribution is u^(1/n).
    """
    shape, (n, cv, machines, share, factor) = _cases(runs, ranks, variation, nodes, slow_share, slowdown)
    slow = rng.binomial(machines.astype(np.int64), share) > 0
    total = np.zeros(n.size)
    for _ in range(steps):
        total += distributions.normal_at_log(-rng.exponential(size=n.size) / n)
    return ((1.0 + cv * total / steps) * np.where(slow, factor, 1.0)).reshape(shape)
