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

_MOST = 12.0  # early failures that a part would have; beyond it the ages are those of 12: nearly all parts are new
_LEAST = 1e-11  # weights below it are left out, row by row: a row does not depend on its batch
_PASSES = 5  # of Newton for a root: within rounding where p is below 1
_HALVINGS = 60  # where p is above 1: bisection


class Modes(NamedTuple):
    """Mean of e^(-age/T) over the parts: level + sum of weights e^(-rates t); rates a second, the slowest first."""

    level: Array
    weights: tuple[Array, ...]
    rates_per_s: tuple[Array, ...]


def modes(early_per_s: Array, settled_per_s: Array, settling_s: Array, replaced_share: Array) -> Modes:
    """The exponentials of parts that are all new at time 0. Holds for early >= settled; errors below 1e-10 for p < 2.

    Above 12 early failures of a part and settling time the ages are those at 12, so that a sweep of rates ends: the mean
    is then within a tenth, and nothing is trained.
    """
    early_per_s, settled_per_s, settling_s, replaced_share = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64)) for x in (early_per_s, settled_per_s, settling_s, replaced_share))
    )
    p = np.minimum(replaced_share * (early_per_s - settled_per_s) * settling_s, _MOST)
    q = replaced_share * settled_per_s * settling_s
    w = _poles(p)
    below = _sum(w[j] / (j + 1.0 + q) for j in range(len(w)))
    found = [_root(p, w, at) for at in range(len(w))]
    rates = tuple((at + 1.0 + q - root) for at, (root, _) in enumerate(found))
    weights = tuple((1.0 - q / rate) * w[at] / slope for at, (rate, (_, slope)) in enumerate(zip(rates, found, strict=True)))
    return Modes(q * below / (1.0 - p * below), weights, tuple(rate / settling_s for rate in rates))


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


def _root(p: Array, w: list[Array], at: int) -> tuple[Array, Array]:
    """The root beside pole `at`, as its distance d from it, and (1 - p S)^2 + p^2 w Q: S and Q are the sums of w/distance
    and w/distance^2 of the other poles."""
    goal = p * w[at]
    root = 0.0 * p
    for _ in range(_PASSES):
        near, slope = _others(root, w, at)
        rest = 1.0 - p * near
        root = np.minimum(np.maximum(root - (root * rest - goal) / (rest + root * p * slope), 0.0), 0.999999)
    far = p > 1.0
    if far.any():
        low, high = 0.0 * p, 1.0 - 1e-15 + 0.0 * p
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            below = middle * (1.0 - p * _others(middle, w, at)[0]) < goal
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        root = np.where(far & (goal > 0.0), 0.5 * (low + high), root)
    near, slope = _others(root, w, at)
    return root, (1.0 - p * near) ** 2 + p * goal * slope


def _others(root: Array, w: list[Array], at: int) -> tuple[Array, Array]:
    near, slope = 0.0 * root, 0.0 * root
    for j, weight in enumerate(w):
        if j != at:
            distance = 1.0 / (root + float(j - at))
            part = weight * distance
            near = near + part
            slope = slope + part * distance
    return near, slope


def _sum(terms) -> Array:
    total: Array | float = 0.0
    for term in terms:
        total = total + term
    return np.asarray(total)
