"""What small runs say of a large one, and what a measured run says of its prediction: ladder errors, reconciliation.

EQ-93 to EQ-95. Elementwise over float64 arrays that broadcast together; the points of a fit lie on the last axis.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Line(NamedTuple):
    """y = intercept + slope x by least squares, and the standard deviation of the residuals on n - 2 degrees."""

    intercept: Array
    slope: Array
    residual_sd: Array


class Attribution(NamedTuple):
    """Logarithms of two causes of a ratio, and of what they do only together; the three add up."""

    first: Array
    second: Array
    interaction: Array


def decades_beyond(largest_fitted: Array, target: Array) -> Array:
    """Powers of ten between the largest fitted run and the target  (EQ-93): 3.58 in Llama 3."""
    return np.log10(target / largest_fitted)


def fit_line(x: Array, y: Array) -> Line:
    """Least squares over the last axis, three points or more  (EQ-93): x = ln C, y = ln(L - E).

    The asymptote E is fitted with it: give y for a grid of E and take the least residual, with the range of E whose
    residuals are not significantly larger. With E held the interval is far too narrow.
    """
    count = float(x.shape[-1])
    mean_x, mean_y = x.sum(axis=-1)[..., None] / count, y.sum(axis=-1)[..., None] / count
    from_x, from_y = x - mean_x, y - mean_y
    slope = (from_x * from_y).sum(axis=-1) / (from_x * from_x).sum(axis=-1)
    left = from_y - slope[..., None] * from_x
    residual_sd = np.sqrt((left * left).sum(axis=-1) / (count - 2.0))
    return Line(mean_y[..., 0] - slope * mean_x[..., 0], slope, residual_sd)


def prediction_sd(x: Array, residual_sd: Array, target: Array) -> Array:
    """sd of a predicted point: s sqrt(1 + 1/n + (x* - mean)^2/S_xx)  (EQ-93). `x` on the last axis, same unit as `target`."""
    count = float(x.shape[-1])
    mean = x.sum(axis=-1) / count
    away = x - mean[..., None]
    return residual_sd * np.sqrt(1.0 + 1.0 / count + (target - mean) ** 2 / (away * away).sum(axis=-1))


def optimum_error_per_decade(exponent_se: Array) -> Array:
    """Relative error of N* for each decade beyond the fit: SE(a) ln 10  (EQ-94): 4.6 % for Besiroglu's 0.02."""
    return exponent_se * math.log(10.0)


def log_ratio(measured: Array, predicted: Array) -> Array:
    """ln(measured/predicted): what the parts of a reconciliation add up to  (EQ-95)."""
    return np.log(measured / predicted)


def attribute(predicted: Array, first_only: Array, second_only: Array, both: Array) -> Attribution:
    """Two causes of ln(both/predicted), each substituted alone; what is left is their interaction  (EQ-95).

    Substituting in the other order moves the interaction from one cause to the other: it is reported, not shared out.
    """
    first, second = np.log(first_only / predicted), np.log(second_only / predicted)
    return Attribution(first, second, np.log(both / predicted) - first - second)


def throughput_gain(time_before: Array, time_after: Array) -> Array:
    """Relative gain in throughput of a shorter step, before/after - 1  (EQ-95)."""
    return time_before / time_after - 1.0


def utilisation_after(utilisation: Array, time_before: Array, time_after: Array) -> Array:
    """Utilisation of the same work in another time  (EQ-95): 56.0 % at 37.83 s is 54.1 % at 39.15 s."""
    return utilisation * time_before / time_after
