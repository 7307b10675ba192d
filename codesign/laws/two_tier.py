"""Checkpoints in memory beside checkpoints in storage: expected wall time when most failures recover from memory.

Exact for failures that come as a Poisson process: a share of them leaves a copy in the memory of the job (or of a peer),
the others go back to storage. EQ-65, EQ-66 for the sizes and the share; the closed form is derived here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LARGEST, _LEAST = 300.0, 1e-100  # beyond them nothing ever ends: goodput is zero for every purpose


def wall_over_work(
    interval_s: Array, memory_write_s: Array, segments: Array, storage_write_s: Array, rate_per_s: Array,
    memory_share: Array, memory_restart_s: Array, storage_restart_s: Array, memory_down_s: Array, storage_down_s: Array,
) -> Array:
    """Expected wall time over useful compute with a copy to memory after each interval and one to storage after `segments`.

    `memory_share` of the failures restart from memory in `memory_restart_s`, after `memory_down_s`; the others, and
    every failure while a restart from storage is under way, from storage. With no such share it is the closed form of
    `checkpoints` for an interval of all segments, the copies to memory counted as writing. Ignores a storage copy that
    lags behind: add the lag to `storage_restart_s`, which is a little pessimistic.
    """
    given = (
        interval_s, memory_write_s, segments, storage_write_s, rate_per_s, memory_share, memory_restart_s,
        storage_restart_s, memory_down_s, storage_down_s,
    )
    interval_s, memory_write_s, segments, storage_write_s, rate, share, restart_1, restart_2, down_1, down_2 = (
        np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in given))
    )
    work_s = segments * interval_s
    some = rate > 0
    rate = np.where(some, rate, 1e-3 / work_s)
    inner, inner_s = _segment(interval_s + memory_write_s, rate, share, restart_1, down_1)
    last, last_s = _segment(interval_s + memory_write_s + storage_write_s, rate, share, restart_1, down_1)
    storage_s = (1.0 / rate + down_2) * np.exp(np.minimum(rate * restart_2, _LARGEST)) - 1.0 / rate
    # segments - 1 like the first, then one with the storage write; any failure beyond memory starts over
    before = np.exp((segments - 1.0) * np.log(np.maximum(inner, 1e-300)))
    lost = np.where(inner < 1.0, 1.0 - inner, 1.0)
    passed = np.where(inner < 1.0, -np.expm1((segments - 1.0) * np.log(np.maximum(inner, 1e-300))) / lost, segments - 1.0)
    whole = np.maximum(before * last, _LEAST)
    wall_s = (inner_s * passed + last_s * before + (1.0 - before * last) * storage_s) / whole
    return np.where(some, wall_s, work_s + segments * memory_write_s + storage_write_s) / work_s


def _segment(length_s: Array, rate: Array, share: Array, restart_s: Array, down_s: Array) -> tuple[Array, Array]:
    """P(a segment ends without a failure beyond memory), and the mean time until it ends one way or the other."""
    done = np.exp(-rate * length_s)
    failed = -np.expm1(-rate * length_s)
    cut = -np.expm1(-rate * restart_s)  # a restart is itself interrupted
    retry = 1.0 - share * cut
    recovered = (1.0 - cut) / retry
    # each restart attempt lasts min(failure, restart); an attempt cut short by a failure that memory survives is repeated
    recovery_s = (down_s + cut / rate) / retry
    again = failed * share
    loop = np.maximum(1.0 - again * recovered, np.maximum(done, _LEAST))
    return done / loop, (failed / rate + again * recovery_s) / loop
