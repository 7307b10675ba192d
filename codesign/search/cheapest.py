"""The cheapest point of a convex set: min weights . x where excess(x) <= 0 and 0 <= x <= upper, by cutting planes.

The logarithm of a step is, but for small terms, convex in the logarithms of the factors: times are sums and maxima of
products of powers (a generalised geometric program; Boyd, Kim, Vandenberghe and Hassibi, A tutorial on geometric
programming, 2007). Then the tangents at points outside the set and on its edge enclose it (Kelley 1960; Veinott 1967),
and the cheapest point of the enclosure bounds the cost of every point inside from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Excess = Callable[[Array], Array]  # points as columns, shape (n, points) -> (points,); above 0: outside

_STEP = 1e-5  # of a logarithm, for tangents
_MOST_CUTS = 150
_NEARER = 0.5  # of the way from the best point to the point inside: edges near the best one cut deeper
_GAP = 1e-4  # at which the point inside and the bound are close enough
_SIMPLER = 1e-3  # of the cost, for a point that raises fewer things
_FURTHER = 2.0  # how far out along its own direction a point of the enclosure is followed
_POINTS = 129
_ROUNDS = 2
_LAST_ROUNDS = 5
_BACK = 0.99  # of the best point, from where its edge is found again to the end
_MOST_PIVOTS = 2000
_TINY = 1e-12


@dataclass(frozen=True)
class Cheapest:
    """The best point found inside the set, what it costs, and what no point costs less than where the set is convex."""

    x: Array
    cost: float
    bound: float


def cheapest(excess: Excess, weights: Array, upper: Array, inside: Array) -> Cheapest:
    """Shapes (n,); `weights` above 0, `inside` a point of the set, within the box.

    Exact for convex sets to 1e-4 of the cost; for others a point of the set no worse than those tried.
    """
    zero = np.zeros_like(inside)
    (best,), _ = _edges(excess, [zero], [inside])
    corner: Array | None = None
    bound = 0.0
    slopes: list[Array] = []
    least: list[float] = []
    tried = [zero, best]
    while len(slopes) < _MOST_CUTS:
        nearer = best + _NEARER * (inside - best)
        if _cut(excess, tried, nearer, slopes, least):
            inside = nearer
        found = linear_least(weights, np.array(slopes), np.array(least), upper)
        if found is None:
            break  # no point satisfies all tangents: not convex
        bound = max(bound, _cost(weights, found))
        (edge, ray), (_, on_ray) = _edges(excess, [found, found], [inside, np.minimum(found * _FURTHER, upper)])
        if _cost(weights, edge) < _cost(weights, best):
            best = edge
        if on_ray and (corner is None or _cost(weights, ray) < _cost(weights, corner)):
            corner = ray
        if min(_cost(weights, best), math.inf if corner is None else _cost(weights, corner)) <= bound * (1.0 + _GAP):
            break
        tried = [found, edge]
    if corner is not None and _cost(weights, corner) <= _cost(weights, best) * (1.0 + _SIMPLER):
        best = corner  # it leaves alone what need not be raised
    (best,), _ = _edges(excess, [best * _BACK], [best], _LAST_ROUNDS)
    cost = _cost(weights, best)
    return Cheapest(best, cost, min(bound, cost))


def _cost(weights: Array, x: Array) -> float:
    return float(sum(w * v for w, v in zip(weights.tolist(), x.tolist(), strict=True)))


def _cut(excess: Excess, points: Sequence[Array], nearer: Array, slopes: list[Array], least: list[float]) -> bool:
    """The tangents at points: excess + gradient . (x - point) <= 0, as -gradient . x >= excess - gradient . point.

    And whether `nearer` is inside.
    """
    n, columns = len(nearer), [nearer]
    for point in points:
        columns.append(point)
        for at in range(n):
            step = np.where(np.arange(n) == at, _STEP, 0.0)
            columns += [point + step, point - step]
    values = excess(np.stack(columns, axis=1))
    for at, point in enumerate(points):
        own = values[1 + at * (2 * n + 1) :][: 2 * n + 1]
        gradient = (own[1::2] - own[2::2]) / (2.0 * _STEP)
        slopes.append(-gradient)
        least.append(float(own[0]) - _cost(gradient, point))
    return bool(values[0] <= 0.0)


def _edges(
    excess: Excess, outside: Sequence[Array], inside: Sequence[Array], rounds: int = _ROUNDS
) -> tuple[list[Array], list[bool]]:
    """The first point of the set on the way from each point outside to one inside, and whether there is any."""
    low, high = np.zeros(len(outside)), np.ones(len(outside))
    base = np.stack(outside, axis=1)[:, :, None]
    way = np.stack(inside, axis=1)[:, :, None] - base
    reached = np.ones(len(outside), dtype=np.bool_)
    for _ in range(rounds):
        shares = np.linspace(low, high, _POINTS, axis=1)
        points = base + way * shares
        held = (excess(points.reshape(len(base), -1)) <= 0.0).reshape(shares.shape)
        reached &= held.any(axis=1)
        first = np.where(held.any(axis=1), np.argmax(held, axis=1), _POINTS - 1)
        rows = np.arange(len(outside))
        low, high = shares[rows, np.maximum(first - 1, 0)], shares[rows, first]
    ends = base[:, :, 0] + way[:, :, 0] * high
    return [ends[:, at] for at in range(len(outside))], reached.tolist()


def linear_least(weights: Array, slopes: Array, least: Array, upper: Array) -> Array | None:
    """min weights . x where slopes x >= least and 0 <= x <= upper. Shapes (n,), (m, n), (m,), (n,); weights >= 0.

    The simplex method on the dual, which starts feasible at zero; None where nothing satisfies all of it.
    """
    n = len(weights)
    rows = np.vstack([slopes, -np.eye(n)])
    table = np.zeros((n + 1, len(rows) + n + 1))
    table[:n, : len(rows)] = rows.T
    table[:n, len(rows) : -1] = np.eye(n)
    table[:n, -1] = weights
    table[n, : len(rows)] = -np.concatenate([least, -upper])
    for pivots in range(_MOST_PIVOTS):
        below = np.flatnonzero(table[n, :-1] < -_TINY)
        if not below.size:
            return np.clip(table[n, len(rows) : -1], 0.0, upper)
        # the steepest column; the first one after many pivots, so that no cycle goes on
        column = int(below[np.argmin(table[n, below])]) if pivots < _MOST_PIVOTS // 2 else int(below[0])
        positive = np.flatnonzero(table[:n, column] > _TINY)
        if not positive.size:
            return None
        row = int(positive[np.argmin(table[positive, -1] / table[positive, column])])
        table[row] /= table[row, column]
        for other in range(n + 1):
            if other != row and table[other, column]:
                table[other] -= table[other, column] * table[row]
    return None
