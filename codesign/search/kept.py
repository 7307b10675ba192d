"""What a search keeps: the best, one of each kind near the best, the Pareto front, tallies, the nearest misses.

Bounded, mergeable in any order, and exact: ties go to the candidate with the lower number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MISSES = 64  # kinds of misses
NEAREST = 3  # misses of whatever kind


class Kept:
    """The running answer over candidates with `objectives` costs each, all minimised; the first one ranks."""

    def __init__(self, objectives: int, best: int, within: float) -> None:
        self.objectives, self.best, self.within = objectives, best, within
        self.values = np.empty((0, objectives))  # of the best, sorted
        self.indices = np.empty(0, dtype=np.int64)
        self.front_values = np.empty((0, objectives))
        self.front_indices = np.empty(0, dtype=np.int64)
        self.kinds: dict[tuple[Any, ...], tuple[float, int]] = {}
        self.candidates = self.feasible = 0
        self.rejected: Counter[str] = Counter()  # by the first limit broken: adds up with `feasible` to `candidates`
        self.broken: Counter[str] = Counter()  # every limit broken
        self.misses: list[tuple[float, int, tuple[Any, ...]]] = []  # the nearest of each kind
        self.nearest: list[tuple[float, int]] = []

    # -- counting

    def count(self, candidates: int, feasible: int) -> None:
        self.candidates += candidates
        self.feasible += feasible

    def reject(self, reason: str, first: int, all_of_them: int) -> None:
        if first:
            self.rejected[reason] += first
        self.broken[reason] += all_of_them

    def miss(
        self, distances: Array, first: int, groups: NDArray[np.int64], kind: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """Candidates numbered from `first` in the order of `distances` from being feasible.

        `groups` has a number for every row (first axis); rows of one number are of one `kind`.
        """
        flat = distances.ravel()
        edge = np.partition(flat, NEAREST - 1)[NEAREST - 1] if len(flat) > NEAREST else np.inf
        at = np.flatnonzero(flat <= edge)
        at = at[np.argsort(flat[at], kind="stable")][:NEAREST]
        self.nearest += [(float(flat[one]), first + one) for one in at.tolist()]
        least = distances.min(axis=1)
        for group in np.unique(groups).tolist():
            row = int(np.argmin(np.where(groups == group, least, np.inf)))
            column = int(np.argmin(distances[row]))
            self.misses.append((float(distances[row, column]), first + row * distances.shape[1] + column, kind(group)))
        self._trim_misses()

    def _trim_misses(self) -> None:
        nearest: dict[tuple[Any, ...], tuple[float, int, tuple[Any, ...]]] = {}
        for entry in sorted(self.misses):
            nearest.setdefault(entry[2], entry)
        self.misses = sorted(nearest.values())[:MISSES]
        self.nearest = sorted(self.nearest)[:NEAREST]

    @property
    def nearest_misses(self) -> list[int]:
        """Numbers of three candidates: the nearest of three kinds, then the nearest of all."""
        kinds = [index for _, index, _ in self.misses[:NEAREST]]
        return [*kinds, *(index for _, index in self.nearest if index not in kinds)][:NEAREST]

    # -- taking

    def take(self, costs: Sequence[Array], good: Any, first: int, kind: Callable[[int], tuple[Any, ...]]) -> None:
        """Candidates numbered from `first` in the order of `costs`; only those where `good` count.

        `kind` names the kind of a row (first axis); all candidates of a row are of one kind.
        """
        whole = bool(good.all())
        primary = costs[0] if whole else np.where(good, costs[0], np.inf)
        self._take_best(primary, costs, first)
        self._take_kinds(primary, first, kind)
        self._take_front(costs, good, whole, first)

    def _limit(self) -> float:
        return float(self.values[-1, 0]) if len(self.indices) == self.best else np.inf

    def _take_best(self, primary: Array, costs: Sequence[Array], first: int) -> None:
        limit = self._limit()
        flat = primary.ravel()
        at = np.flatnonzero(flat <= limit if np.isfinite(limit) else flat < np.inf)
        if not len(at):
            return
        if len(at) > self.best:
            edge = np.partition(flat[at], self.best - 1)[self.best - 1]
            at = at[flat[at] <= edge]
        rows = np.stack([np.asarray(cost).ravel()[at] for cost in costs], axis=1)
        self._merge_best(rows, first + at.astype(np.int64))

    def _merge_best(self, values: Array, indices: NDArray[np.int64]) -> None:
        values, indices = np.concatenate((self.values, values)), np.concatenate((self.indices, indices))
        order = np.lexsort((indices, values[:, 0]))[: self.best]
        self.values, self.indices = values[order], indices[order]

    def _take_kinds(self, primary: Array, first: int, kind: Callable[[int], tuple[Any, ...]]) -> None:
        limit = float(self.values[0, 0]) * (1.0 + self.within) if len(self.indices) else np.inf
        least = primary.min(axis=1)
        for row in np.flatnonzero(least <= limit).tolist():
            tail = int(np.argmin(primary[row]))
            self._keep_kind(kind(row), (float(primary[row, tail]), first + row * primary.shape[1] + tail))

    def _keep_kind(self, name: tuple[Any, ...], entry: tuple[float, int]) -> None:
        if name not in self.kinds or entry < self.kinds[name]:
            self.kinds[name] = entry

    def _take_front(self, costs: Sequence[Array], good: Any, whole: bool, first: int) -> None:
        if self.objectives == 1:
            return
        if whole:
            rows = np.stack([np.asarray(cost).ravel() for cost in costs], axis=1)
            indices = np.arange(first, first + len(rows), dtype=np.int64)
        else:
            at = np.flatnonzero(good)
            rows = np.stack([np.asarray(cost).ravel()[at] for cost in costs], axis=1)
            indices = first + at.astype(np.int64)
        alive = self._not_beaten(rows)
        if alive.any():
            self._merge_front(rows[alive], indices[alive])

    def _not_beaten(self, rows: Array) -> NDArray[np.bool_]:
        """Which rows the present front does not beat; cheap for two costs, a first sieve for more."""
        front = self.front_values
        if not len(front):
            return np.ones(len(rows), dtype=bool)
        if self.objectives == 2:
            at = np.searchsorted(front[:, 0], rows[:, 0], side="right") - 1
            beaten = (at >= 0) & (front[np.maximum(at, 0), 1] <= rows[:, 1])
            equal = beaten & (front[np.maximum(at, 0)] == rows).all(axis=1)  # the lower number decides
            return ~beaten | equal
        alive = np.ones(len(rows), dtype=bool)
        for point in front[np.argsort((front / np.abs(front).max(axis=0).clip(1e-300)).sum(axis=1))[:32]]:
            left = np.flatnonzero(alive)
            worse = (rows[left] >= point).all(axis=1) & (rows[left] != point).any(axis=1)
            alive[left[worse]] = False
        return alive

    def _merge_front(self, values: Array, indices: NDArray[np.int64]) -> None:
        values = np.concatenate((self.front_values, values))
        indices = np.concatenate((self.front_indices, indices))
        keep = front(values, indices)
        self.front_values, self.front_indices = values[keep], indices[keep]

    # -- together

    def settle(self) -> None:
        """Drop the kinds that are no longer near the best."""
        if len(self.indices):
            limit = float(self.values[0, 0]) * (1.0 + self.within)
            self.kinds = {name: entry for name, entry in self.kinds.items() if entry[0] <= limit}

    def merge(self, other: Kept) -> None:
        """Take over what another part of the search has kept."""
        self.candidates += other.candidates
        self.feasible += other.feasible
        self.rejected.update(other.rejected)
        self.broken.update(other.broken)
        self._merge_best(other.values, other.indices)
        if self.objectives > 1 and len(other.front_indices):
            self._merge_front(other.front_values, other.front_indices)
        for name, entry in other.kinds.items():
            self._keep_kind(name, entry)
        self.settle()
        self.misses += other.misses
        self.nearest += other.nearest
        self._trim_misses()

    # -- as data

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` restores all of it."""
        return {
            "objectives": self.objectives, "best": self.best, "within": self.within,
            "values": self.values.tolist(), "indices": self.indices.tolist(),
            "front_values": self.front_values.tolist(), "front_indices": self.front_indices.tolist(),
            "kinds": [[list(name), *entry] for name, entry in sorted(self.kinds.items(), key=lambda item: item[1])],
            "candidates": self.candidates, "feasible": self.feasible,
            "rejected": dict(self.rejected), "broken": dict(self.broken),
            "misses": [[distance, index, list(kind)] for distance, index, kind in self.misses],
            "nearest": [list(entry) for entry in self.nearest],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Kept:
        made = cls(data["objectives"], data["best"], data["within"])
        made.values = np.array(data["values"], dtype=np.float64).reshape(-1, made.objectives)
        made.indices = np.array(data["indices"], dtype=np.int64)
        made.front_values = np.array(data["front_values"], dtype=np.float64).reshape(-1, made.objectives)
        made.front_indices = np.array(data["front_indices"], dtype=np.int64)
        made.kinds = {tuple(name): (value, index) for name, value, index in data["kinds"]}
        made.candidates, made.feasible = data["candidates"], data["feasible"]
        made.rejected, made.broken = Counter(data["rejected"]), Counter(data["broken"])
        made.misses = [(distance, index, tuple(kind)) for distance, index, kind in data["misses"]]
        made.nearest = [(distance, index) for distance, index in data["nearest"]]
        return made


def front(values: Array, indices: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions of the points that no other point beats (all costs minimised), by the first cost; of equals the lowest index."""
    order = np.lexsort((indices, *values.T[::-1]))
    ranked = values[order]
    if values.shape[1] == 2:
        second = ranked[:, 1]
        best_before = np.minimum.accumulate(np.concatenate(([np.inf], second[:-1])))
        return order[second < best_before]
    keep: list[int] = []
    alive = np.ones(len(ranked), dtype=bool)
    for at in range(len(ranked)):
        if alive[at]:
            keep.append(at)
            alive &= ~(ranked >= ranked[at]).all(axis=1)
    return order[keep]


__all__ = ["Kept", "front"]
