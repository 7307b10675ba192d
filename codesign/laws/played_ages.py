"""Ages of the parts of runs that are played failure by failure: which part fails, and what a new one in its place adds.

EQ-67 with renewal, part by part: no mean field. Parts that were never replaced are of one age and only counted; each of the
others has its birth. One row a run; `alive` are the rows that are still played.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Rows = NDArray[np.int64]

_MOST_DRAWS = 10_000  # of a part by its youth; beyond it all are old, and any will do
_ROOM = 16  # births of a run at first; doubled when they are used up


class Ages:
    """`units` parts that fail at `settled_per_s` + `extra_per_s` e^(-age/`settling_s`) each; all new at time 0.

    A share `replaced` of their failures brings a new part, the others leave the part as old as it was. All arrays of
    shape (rows,), `units` whole numbers.
    """

    def __init__(self, units: Array, settled_per_s: Array, extra_per_s: Array, settling_s: Array, replaced: Array) -> None:
        self._units, self._settled, self._extra = units, settled_per_s, extra_per_s
        self._settling_s, self._replaced = settling_s, replaced
        self._born_s = np.full((units.size, _ROOM), -np.inf)
        self._renewed = np.zeros(units.size, dtype=np.int64)
        self._young, self._young_s = np.zeros(units.size), np.zeros(units.size)  # their sum of e^(-age/T), and when it was so

    def extra_per_s(self, alive: Rows, now_s: Array) -> Array:
        """Failures a second of all parts beyond the settled ones, now."""
        return self._extra[alive] * (self._first(alive, now_s) + self._now(alive, now_s))

    def fail(self, rng: np.random.Generator, alive: Rows, now_s: Array, other_per_s: Array) -> None:
        """Something fails in each of these runs: one of the parts, or what fails at `other_per_s` and has no age."""
        first, young = self._first(alive, now_s), self._now(alive, now_s)
        units, count = self._units[alive], self._renewed[alive]
        settled = units * self._settled[alive]
        at = rng.random(alive.size) * (other_per_s + settled + self._extra[alive] * (first + young)) - other_per_s
        replaced = (at >= 0.0) & (rng.random(alive.size) < self._replaced[alive])
        by_age = at >= settled  # by what is left of its youth; else any part alike
        share = np.where(by_age, first / np.maximum(first + young, 1e-300), 1.0 - count / units)
        from_first = (rng.random(alive.size) < share) | (count == 0)
        slot = np.where(from_first, count, self._slot(rng, alive, now_s, by_age & replaced & ~from_first))
        self._renew(alive[replaced], slot[replaced], now_s[replaced], young[replaced], from_first[replaced])

    def _renew(self, rows: Rows, slot: Rows, now_s: Array, young: Array, from_first: NDArray[np.bool_]) -> None:
        if not rows.size:
            return
        if int(slot.max()) >= self._born_s.shape[1]:
            self._born_s = np.concatenate((self._born_s, np.full_like(self._born_s, -np.inf)), axis=1)
        gone = np.exp((self._born_s[rows, slot] - now_s) / self._settling_s[rows])  # 0 where there was none
        self._young[rows], self._young_s[rows] = young - gone + 1.0, now_s
        self._born_s[rows, slot] = now_s
        self._renewed[rows] += from_first

    def _slot(self, rng: np.random.Generator, alive: Rows, now_s: Array, by_age: NDArray[np.bool_]) -> Rows:
        """One of the replaced parts: any, or drawn again until its youth is accepted."""
        slot = np.floor(rng.random(alive.size) * self._renewed[alive]).astype(np.int64)
        left = np.flatnonzero(by_age)
        for _ in range(_MOST_DRAWS):
            if not left.size:
                break
            rows = alive[left]
            youth = np.exp((self._born_s[rows, slot[left]] - now_s[left]) / self._settling_s[rows])
            left = left[rng.random(left.size) >= youth]
            slot[left] = np.floor(rng.random(left.size) * self._renewed[alive[left]]).astype(np.int64)
        return slot

    def _first(self, alive: Rows, now_s: Array) -> Array:
        """Sum of e^(-age/T) over the parts of the beginning."""
        return (self._units[alive] - self._renewed[alive]) * np.exp(-now_s / self._settling_s[alive])

    def _now(self, alive: Rows, now_s: Array) -> Array:
        """Sum of e^(-age/T) over the parts that were replaced."""
        return self._young[alive] * np.exp((self._young_s[alive] - now_s) / self._settling_s[alive])


__all__ = ["Ages"]
