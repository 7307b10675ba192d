"""Tails and quantiles of Poisson, binomial and gamma variables, and the expected largest of n normal ones.

What reliability needs of a statistics library, elementwise over float64 arrays that broadcast together and safe at the
sizes met here: means and counts of 0 to 1e9, tail probabilities down to 1e-300. A tail is an integral over an angle or a
square root in which the variable has a constant width, by Gauss-Legendre on a fixed window: it needs no iteration, so the
row of a batch has the same bits as a batch of one. Relative error of a tail below 1e-9 (1e-12 for means below 1e4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH = 7.0  # half a unit is one standard deviation in the square-root scale: 14 of them
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_BLOCK = 512
_WALK = 12  # steps from a count by approximation to the exact one
_INTERVAL_HALVINGS = 90  # fixed, so that a bisection gives the same bits whatever else is in the batch


def _floats(*given: ArrayLike) -> list[Array]:
    return [np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in given]


def stirling_rest(x: Array) -> Array:
    """ln Gamma(x) less its leading form (x - 1/2) ln x - x + ln(2 pi)/2. Holds for x > 0."""
    near = np.minimum(x, 10.0)  # below 10, lifted by eight: Gamma(x) = Gamma(x + 8) / (x (x + 1) .. (x + 7))
    lifted = near + 8.0
    product = np.ones_like(near)
    for step in range(8):
        product = product * (near + step)
    leading = (lifted - 0.5) * np.log(lifted) - 8.0 - (near - 0.5) * np.log(near)
    return np.where(x < 10.0, _series(lifted) + leading - np.log(product), _series(np.maximum(x, 10.0)))


def _series(x: Array) -> Array:
    inverse = 1.0 / (x * x)
    return (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / x


def log_gamma(x: ArrayLike) -> Array:
    """ln Gamma(x) for x > 0."""
    (x,) = _floats(x)
    return (x - 0.5) * np.log(x) - x + _HALF_LOG_2PI + stirling_rest(x)


def _gamma_tails(shape: Array, x: Array) -> tuple[Array, Array]:
    """Regularised lower and upper incomplete gamma function, in u = sqrt(t); `shape` a multiple of 1/2, x >= 0."""
    shape, x = np.broadcast_arrays(shape, x)
    if x.size > _BLOCK:  # the points of one block stay in the cache
        flat_shape, flat_x = shape.ravel(), x.ravel()
        blocks = [slice(at, at + _BLOCK) for at in range(0, x.size, _BLOCK)]
        tails = [_gamma_tails(flat_shape[block], flat_x[block]) for block in blocks]
        lower, upper = (np.concatenate(parts).reshape(x.shape) for parts in zip(*tails, strict=True))
        return lower, upper
    root_x, root_a = np.sqrt(x), np.sqrt(shape)
    below = x < shape
    start = np.where(below, np.maximum(root_x - _REACH, 0.0), root_x)
    half = 0.5 * np.where(below, root_x - start, _REACH)
    # distance from sqrt(shape), formed without cancellation
    first = np.where(below, np.maximum(-_REACH, -root_x), 0.0) + (x - shape) / (root_x + root_a)
    away = first[..., None] + half[..., None] * (1.0 + _NODES)
    a, root = shape[..., None], root_a[..., None]
    ratio = np.maximum(away / root, -1.0 + 1e-300)
    exponent = (2.0 * a - 1.0) * np.log1p(np.maximum(ratio, -1.0 + 1e-16)) - away * (away + 2.0 * root)
    density = np.exp(np.maximum(exponent, -745.0)) * (exponent > -745.0)
    scale = 2.0 * np.exp(-_HALF_LOG_2PI - stirling_rest(shape))
    tail = np.minimum(scale * half * (density * _WEIGHTS).sum(axis=-1), 1.0)
    return np.where(below, tail, 1.0 - tail), np.where(below, 1.0 - tail, tail)


def poisson_at_most(count: ArrayLike, mean: ArrayLike) -> Array:
    """P(X <= count) of a Poisson variable; 0 for a negative count."""
    count, mean = _floats(count, mean)
    return np.where(count < 0, 0.0, _gamma_tails(np.maximum(np.floor(count), 0.0) + 1.0, mean)[1])


def poisson_more_than(count: ArrayLike, mean: ArrayLike) -> Array:
    """P(X > count) of a Poisson variable, exact also where it is tiny; 1 for a negative count."""
    count, mean = _floats(count, mean)
    return np.where(count < 0, 1.0, _gamma_tails(np.maximum(np.floor(count), 0.0) + 1.0, mean)[0])


def erlang_blocked(places: ArrayLike, mean: ArrayLike) -> Array:
    """Share of the time in which all `places` are taken, where nothing arrives while they are (Erlang's B, 1917).

    `mean`: places that would be taken without a bound. Whatever the distribution of the time that a place is taken for.
    """
    places, mean = _floats(places, mean)
    reached = poisson_at_most(places, mean)
    some = reached > 0.0
    mass = np.where(mean > 0.0, _poisson_mass(places, np.where(mean > 0.0, mean, 1.0)), 0.0)
    # far above its places the share that is let through is places over mean
    return np.where(some, mass / np.where(some, reached, 1.0), 1.0 - places / np.maximum(mean, 1e-300))


def poisson_quantile(probability: ArrayLike, mean: ArrayLike) -> Array:
    """Smallest count k with P(X <= k) >= probability, for 0 <= probability < 1."""
    probability, mean = np.broadcast_arrays(*_floats(probability, mean))
    allowed = 1.0 - probability
    z = _normal_quantile(probability)
    count = np.maximum(np.floor(mean + z * np.sqrt(mean) + (z * z - 1.0) / 6.0), 0.0)
    above = poisson_more_than(count, mean)
    moving = np.ones(count.shape, dtype=bool)
    for _ in range(_WALK):  # from the Cornish-Fisher count to the right one, mass by mass
        mass = _poisson_mass(count, mean)
        up = moving & (above > allowed)
        down = moving & ~up & (count > 0) & (above + mass <= allowed)
        moving = up | down
        if not moving.any():
            return count
        above = np.where(down, above + mass, np.where(up, above - _poisson_mass(count + 1.0, mean), above))
        count = count + np.where(up, 1.0, 0.0) - np.where(down, 1.0, 0.0)
    most = np.ceil(mean + 12.0 * np.sqrt(mean) + 60.0)  # beyond it lies less than 1e-16
    return _smallest_count(lambda at: poisson_more_than(at, mean) <= allowed, most)


def _poisson_mass(count: Array, mean: Array) -> Array:
    """P(X = count)."""
    return np.exp(count * np.log(np.maximum(mean, 1e-300)) - mean - log_gamma(count + 1.0))


def _normal_quantile(probability: Array) -> Array:
    """z of the standard normal; ends held at 8."""
    levels, which = np.unique(probability, return_inverse=True)
    z = np.array([NormalDist().inv_cdf(min(max(level, 6e-16), 1.0 - 6e-16)) for level in levels.tolist()])
    return z[which].reshape(probability.shape)


def poisson_interval(events: ArrayLike, confidence: ArrayLike) -> tuple[Array, Array]:
    """Exact two-sided interval of the mean after `events` were counted  (EQ-79, Garwood).

    chi2(alpha/2, 2k)/2 to chi2(1 - alpha/2, 2k + 2)/2; the lower end is 0 where nothing was counted.
    """
    events, confidence = np.broadcast_arrays(*_floats(events, confidence))
    tail = 0.5 * (1.0 - confidence)
    seen = np.maximum(events, 1.0)
    lower = np.where(events > 0, gamma_quantile_upper(1.0 - tail, seen), 0.0)
    return lower, gamma_quantile_upper(tail, events + 1.0)


def gamma_quantile_upper(above: ArrayLike, shape: ArrayLike) -> Array:
    """x with P(G > x) = above for a gamma variable of `shape` (multiple of 1/2) and scale 1, 1e-15 < above < 1."""
    above, shape = np.broadcast_arrays(*_floats(above, shape))
    low, high = np.zeros(shape.shape), shape + 12.0 * np.sqrt(shape) + 60.0
    for _ in range(_INTERVAL_HALVINGS):
        middle = 0.5 * (low + high)
        heavy = _gamma_tails(shape, middle)[1] > above
        low, high = np.where(heavy, middle, low), np.where(heavy, high, middle)
    return 0.5 * (low + high)


def chi_square_above(statistic: ArrayLike, freedom: ArrayLike) -> Array:
    """P(chi-square with `freedom` degrees > statistic)."""
    statistic, freedom = _floats(statistic, freedom)
    return _gamma_tails(0.5 * freedom, 0.5 * statistic)[1]


def binomial_more_than(count: ArrayLike, trials: ArrayLike, probability: ArrayLike) -> Array:
    """P(X > count) of a binomial variable, exact also where it is tiny. Probability in 0 to 1."""
    return _binomial_tails(count, trials, probability)[0]


def binomial_at_most(count: ArrayLike, trials: ArrayLike, probability: ArrayLike) -> Array:
    """P(X <= count) of a binomial variable, exact also where it is tiny. Probability in 0 to 1."""
    return _binomial_tails(count, trials, probability)[1]


def _binomial_tails(count: ArrayLike, trials: ArrayLike, probability: ArrayLike) -> tuple[Array, Array]:
    """Regularised incomplete beta function in the angle t = sin^2, where a proportion has constant width."""
    count, trials, p = np.broadcast_arrays(*_floats(count, trials, probability))
    inside = (count >= 0) & (count < trials)
    a = np.where(inside, np.floor(count), 0.0) + 1.0
    b = np.where(inside, trials - np.floor(count), 1.0)
    whole = a + b
    angle = np.arctan2(np.sqrt(p), np.sqrt(1.0 - p))
    rising = p < a / whole  # the lower integral is the small one
    reach = _REACH / np.sqrt(whole)
    start = np.where(rising, np.maximum(angle - reach, 0.0), angle)
    stop = np.where(rising, angle, np.minimum(angle + reach, 0.5 * math.pi))
    half = 0.5 * (stop - start)
    theta = start[..., None] + half[..., None] * (1.0 + _NODES)
    sine, cosine = np.sin(theta) ** 2, np.cos(theta) ** 2
    a_, b_, whole_ = a[..., None], b[..., None], whole[..., None]
    tiny = 1e-300
    exponent = (a_ - 0.5) * np.log(np.maximum(sine * whole_ / a_, tiny)) + (b_ - 0.5) * np.log(
        np.maximum(cosine * whole_ / b_, tiny)
    )
    density = np.exp(np.maximum(exponent, -745.0)) * (exponent > -745.0)
    rests = stirling_rest(a) + stirling_rest(b) - stirling_rest(whole)
    scale = 2.0 * np.sqrt(whole) * np.exp(-_HALF_LOG_2PI - rests)
    tail = np.minimum(scale * half * (density * _WEIGHTS).sum(axis=-1), 1.0)
    above = np.where(rising, tail, 1.0 - tail)
    at_most = np.where(rising, 1.0 - tail, tail)
    outside = np.where(count < 0, 1.0, 0.0)
    return np.where(inside, above, outside), np.where(inside, at_most, 1.0 - outside)


def binomial_quantile(probability: ArrayLike, trials: ArrayLike, success: ArrayLike) -> Array:
    """Smallest count k with P(X <= k) >= probability, for 0 <= probability < 1."""
    probability, trials, success = np.broadcast_arrays(*_floats(probability, trials, success))
    return _smallest_count(lambda count: binomial_more_than(count, trials, success) <= 1.0 - probability, trials)


def _smallest_count(enough: Callable[[Array], NDArray[np.bool_]], most: Array) -> Array:
    """Smallest whole number in 0 to `most` for which `enough` holds; `most` where it holds nowhere below."""
    low, high = np.full(most.shape, -1.0), most + 0.0
    for _ in range(int(np.ceil(np.log2(max(float(np.max(most, initial=1.0)), 1.0) + 2.0))) + 1):
        middle = np.floor(0.5 * (low + high))
        holds = enough(middle) | (high - low <= 1.0)
        narrow = high - low > 1.0
        high = np.where(narrow & holds, middle, high)
        low = np.where(narrow & ~holds, middle, low)
    return high


@cache
def _normal_grid() -> tuple[Array, Array, Array]:
    """Points, log density and log distribution of the standard normal, 0.05 apart: the trapezoid is exact there."""
    points = np.linspace(-10.0, 10.0, 401)
    below = [math.log(0.5 * math.erfc(-x / math.sqrt(2.0))) if x < 0 else math.log1p(
        -0.5 * math.erfc(x / math.sqrt(2.0))) for x in points]
    return points, -0.5 * points * points - _HALF_LOG_2PI, np.array(below)


def normal_at_log(log_probability: ArrayLike) -> Array:
    """z below which a standard normal variable lies with e^`log_probability`, within 3e-4 from -10 to 10.

    The largest of n variables lies below z with Phi(z)^n: one draw of it is at -Exp/n. Linear in the logarithm of -log
    between the points of the grid, which is nearly straight in both tails.
    """
    (given,) = _floats(log_probability)
    points, _, log_below = _normal_grid()
    return np.interp(-np.log(-given), -np.log(-log_below), points)


def expected_maximum(count: ArrayLike) -> Array:
    """Mean of the largest of `count` standard normal variables, by quadrature  (EQ-69): 1.4236 of 8, 3.971 of 16,384.

    Holds for 1 to 1e12 variables.
    """
    (count,) = _floats(count)
    points, log_density, log_below = _normal_grid()
    n = count[..., None]
    weight = np.exp(np.log(n) + log_density + (n - 1.0) * log_below)
    return 0.05 * (points * weight).sum(axis=-1)


_CELLS = 256  # of whole numbers, in which the distribution of a maximum is added up


def expected_maximum_poisson(mean: ArrayLike, count: ArrayLike) -> Array:
    """Mean of the largest of `count` Poisson variables of one mean: the sum of 1 - P(X <= k)^count over k from 0.

    Exact for means below 70, where a cell is one whole number; to 1e-4 standard deviations above, where cells are wider.
    """
    mean, count = np.broadcast_arrays(*_floats(mean, count))
    root = np.sqrt(mean)
    low = np.maximum(np.floor(mean - 9.0 * root - 9.0), 0.0)  # below it lies less than 1e-16
    reach = mean + 12.0 * root + 60.0 - low
    wide = 2.0 * np.ceil(0.5 * np.maximum(reach / _CELLS - 1.0, 0.0)) + 1.0  # odd, so that a cell has a middle
    middle = (low + 0.5 * (wide - 1.0))[..., None] + wide[..., None] * np.arange(float(_CELLS))
    mass = _poisson_mass(middle, mean[..., None])
    cells = wide[..., None] * mass
    below = np.cumsum(cells, axis=-1) - 0.5 * (cells - mass)  # up to the middle, itself included
    return low + wide * (1.0 - np.minimum(below, 1.0) ** count[..., None]).sum(axis=-1)


def expected_maximum_asymptotic(count: ArrayLike) -> Array:
    """The Gumbel limit of `expected_maximum`  (EQ-69): 0.4 to 0.5 % high at 1e4 to 1e5. Holds from about 100."""
    (count,) = _floats(count)
    root = np.sqrt(2.0 * np.log(count))
    place = root - (np.log(np.log(count)) + math.log(4.0 * math.pi)) / (2.0 * root)
    return place + np.euler_gamma / root
