"""Failures of parts that are replaced by new ones while their hazard decays with age: exact, as a sum of exponentials.

EQ-67 with renewal. A part of age a fails at s + x e^(-a/T); a share c of the failures brings a part of age 0. The mean of
e^(-a/T) at time t is the Laplace transform of the replacements turned back: with p = c x T, q = c s T and the weights
w_k = e^(-p) p^(k-1)/(k-1)!, it is a level and one exponential for each root of 1 = p sum w_k/(z + k + q), of which one
lies between any two poles. Derived. Elementwise over float64 arrays that broadcast together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST = 1e-11  # weights below it are left out, row by row: a row does not depend on its batch
_PASSES = 5  # of Newton for a root: within rounding where p is below 1
_HALVINGS = 60  # where p is above 1: bisection
_OFTEN = 16.0  # above this p one exponential stands for the sum


class Modes(NamedTuple):
    """Mean of e^(-age/T) over the parts: level + sum of weights e^(-rates t); rates a second, the slowest first."""

    level: Array
    weights: tuple[Array, ...]
    rates_per_s: tuple[Array, ...]


def modes(early_per_s: Array, settled_per_s: Array, settling_s: Array, replaced_share: Array) -> Modes:
    """The exponentials of parts that are all new at time 0. Holds for early >= settled; errors below 1e-10 for p < 2.

    Above p = 16, where a part is replaced that often while it settles, one exponential with the level, the start and the
    first slope of the sum stands for it: within 3e-3 of the mean of e^(-age/T).
    """
    early_per_s, settled_per_s, settling_s, replaced_share = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64)) for x in (early_per_s, settled_per_s, settling_s, replaced_share))
    )
    p = replaced_share * (early_per_s - settled_per_s) * settling_s
    q = replaced_share * settled_per_s * settling_s
    often = p > _OFTEN
    exact = np.minimum(p, _OFTEN)
    w = _poles(exact)
    at = np.arange(len(w), dtype=np.float64)[:, None]
    below = _sum(weight / (j + 1.0 + q) for j, weight in enumerate(w))
    root, slope = _roots(exact, np.stack(w), at)
    rates = at + 1.0 + q - root
    weights = (1.0 - q / rates) * np.stack(w) / slope
    level = q * below / (1.0 - exact * below)
    if often.any():
        seldom = _level_of_many(p, q)
        level = np.where(often, seldom, level)
        weights = np.where(often, np.where(at == 0.0, 1.0 - seldom, 0.0), weights)
        rates = np.where(often, 1.0 / (1.0 - seldom), rates)
    return Modes(level, tuple(weights), tuple(rates / settling_s))


def mean_decay(found: Modes, time_s: Array) -> Array:
    """Mean of e^(-age/T) at a time since the first parts were new; 1 at 0."""
    return found.level + _sum(
        weight * np.exp(-rate * time_s) for weight, rate in zip(found.weights, found.rates_per_s, strict=True)
    )


def replaced_hazard_per_s(
    time_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array, replaced_share: Array
) -> Array:
    """Failures per second and slot at a time of a run in which `replaced_share` of the failed parts are replaced by new
    ones, the rest restarted or repaired as old as they are. All parts are new at time 0. The hazard itself for a share
    of 0."""
    decay = mean_decay(modes(early_per_s, settled_per_s, settling_s, replaced_share), time_s)
    return settled_per_s + (early_per_s - settled_per_s) * decay


def _poles(p: Array) -> list[Array]:
    """w_k, k from 1, as far as they count in any row; 0 where they do not in theirs."""
    w = [np.exp(-p)]
    while True:
        term = w[-1] * p / len(w)
        term = np.where((p * term > _LEAST) | (len(w) < p), term, 0.0)
        if not term.any():
            return w
        w.append(term)


def _level_of_many(p: Array, q: Array) -> Array:
    """Level for p above 16: the mean of e^(-age/T) over a steady renewal, to the third order in 1/z, z = p + q the failures
    of a new part while it settles. Derived."""
    z = p + q
    return 1.0 - 1.0 / z + (1.0 - 2.0 * p / z) / z**2


def _roots(p: Array, w: Array, at: Array) -> tuple[Array, Array]:
    """The root beside each pole, as its distance d from it, and (1 - p S)^2 + p^2 w Q: S and Q are the sums of w/distance
    and w/distance^2 of the other poles. Shapes: w, root (poles, rows); at (poles, 1)."""
    goal = p * w
    root = 0.0 * goal
    for _ in range(_PASSES):
        near, slope = _others(root, w, at)
        rest = 1.0 - p * near
        root = np.minimum(np.maximum(root - (root * rest - goal) / (rest + root * p * slope), 0.0), 0.999999)
    far = p > 1.0
    if far.any():
        low, high = 0.0 * goal, 1.0 - 1e-15 + 0.0 * goal
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            below = middle * (1.0 - p * _others(middle, w, at)[0]) < goal
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        root = np.where(far & (goal > 0.0), 0.5 * (low + high), root)
    near, slope = _others(root, w, at)
    return root, (1.0 - p * near) ** 2 + p * goal * slope


def _others(root: Array, w: Array, at: Array) -> tuple[Array, Array]:
    """Sums of w/distance and w/distance^2 over the poles other than each root's own, added one by one."""
    near, slope = 0.0 * root, 0.0 * root
    for j, weight in enumerate(w):
        own = at == float(j)
        distance = np.where(own, 0.0, 1.0 / np.where(own, 1.0, root + (float(j) - at)))
        part = weight * distance
        near = near + part
        slope = slope + part * distance
    return near, slope


def _sum(terms) -> Array:
    total: Array | float = 0.0
    for term in terms:
        total = total + term
    return np.asarray(total)
