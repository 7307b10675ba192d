"""Money and time: cost of a run and of its failures, hardware that arrives in parts, launch now or wait.

EQ-89 to EQ-91, EQ-104. Elementwise over float64 arrays that broadcast together. Money is in the user's currency; growth
rates and times share one unit of time, whichever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- cost


def accelerator_hours(accelerators: Array, wall_s: Array) -> Array:
    """Accelerator-hours held by a run, idle ones included."""
    return accelerators * wall_s / 3600.0


def rental_cost(hours: Array, price_per_hour: Array) -> Array:
    """Accelerator-hours times price: DeepSeek-V3's 2.788e6 h at 2 $ are 5.576e6 $  (EQ-09)."""
    return hours * price_per_hour


def hour_cost(
    price: Array, life_hours: Array, utilised_share: Array, power_kW: Array, price_per_kWh: Array, pue: Array
) -> Array:
    """Cost of one owned accelerator-hour: price/(life x utilised share) + kW x $/kWh x PUE  (EQ-104).

    `price` and `power_kW` of one accelerator with its share of node and network.
    """
    return price / (life_hours * utilised_share) + power_kW * price_per_kWh * pue


def run_cost(hours: Array, cost_per_hour: Array, network: Array | float = 0.0, staff: Array | float = 0.0) -> Array:
    """Accelerator-hours times their cost, with network and staff of the run  (EQ-104)."""
    return hours * cost_per_hour + network + staff


def unreliability_cost(goodput: Array, cost: Array, spares_cost: Array | float = 0.0) -> Array:
    """What failures cost over a run without them: (1/goodput - 1) cost, and the spares  (EQ-104).

    `cost` of the run at goodput 1.
    """
    return (1.0 / goodput - 1.0) * cost + spares_cost


# ---------------------------------------------------------------------------------------------------- tranches


def tranche_finish_s(work: Array, arrivals_s: Sequence[Array], rates_per_s: Sequence[Array]) -> Array:
    """When `work` is done by capacity that arrives in parts, each adding its rate from its arrival on.

    Arrivals ascending; the work starts with the first. Infinite where nothing ever works. Ignores the cost of taking
    the new part in (a new layout, a restart): add it to the arrival.
    """
    left, rate, now_s = np.asarray(work) + np.zeros(1), np.zeros(1), np.asarray(arrivals_s[0]) + np.zeros(1)
    done = np.full(np.broadcast_shapes(left.shape, now_s.shape), np.inf)
    ends = [*arrivals_s[1:], np.full(1, np.inf)]
    for until_s, more in zip(ends, rates_per_s, strict=True):
        rate = rate + more
        needed_s = np.divide(left, rate, out=np.full(np.broadcast_shapes(left.shape, rate.shape), np.inf), where=rate > 0)
        finish_s = now_s + needed_s
        done = np.where(np.isinf(done) & (finish_s <= until_s), finish_s, done)
        span_s = np.where(np.isinf(until_s), 0.0, until_s - now_s)
        left = np.maximum(left - rate * span_s, 0.0)
        now_s = np.where(np.isinf(until_s), now_s, until_s)
    return done


# ---------------------------------------------------------------------------------------------------- launch or wait


def longest_useful_run(growth_rates: Sequence[Array]) -> Array:
    """Longest run before a later start with better hardware, software and money overtakes it: 1/sum of growth  (EQ-89).

    Growth in natural logarithms of effective compute a unit of time (times ln 10 for orders of magnitude). Epoch:
    hardware alone 3.55 years, with software and investment 6.5 months.
    """
    total = np.zeros(1)
    for rate in growth_rates:
        total = total + rate
    return 1.0 / total


def doubling_time(longest: Array) -> Array:
    """Doubling time of the growth that a longest useful run implies: L ln 2  (EQ-89)."""
    return longest * math.log(2.0)


def waiting_threshold(doubling: Array) -> Array:
    """Length of a run above which waiting for faster hardware ends it sooner: d/ln 2  (EQ-90): 26 of 18 months."""
    return doubling / math.log(2.0)


def best_wait(length: Array, doubling: Array) -> Array:
    """Wait that ends a job of today's `length` soonest where speed doubles every d: (d/ln 2) ln(T ln 2/d), at least 0
    (EQ-90). Then the run itself takes d/ln 2."""
    threshold = waiting_threshold(doubling)
    return threshold * np.log(np.maximum(length / threshold, 1.0))


def finish_after_wait(length: Array, doubling: Array, wait: Array) -> Array:
    """Wait and run: w + T 2^(-w/d)  (EQ-90)."""
    return wait + length * np.exp(-wait * math.log(2.0) / doubling)


def launch_value(
    wait: Array, length: Array, discount: Array, value: Array, success_probability: Array, cost: Array
) -> Array:
    """Value of a launch after `wait`: e^(-discount (w + T)) pi(w) V - cost  (EQ-91); V, pi and T as they are at that w.

    De-risking while waiting raises pi. The best launch is the largest over a grid of waits.
    """
    return np.exp(-discount * (wait + length)) * success_probability * value - cost


def run_now(discount: Array, obsolescence: Array, compute_growth: Array, value_elasticity: Array) -> NDArray[np.bool_]:
    """Whether waiting loses at the margin: discount + hazard of obsolescence > d ln C_eff/dw x d ln V/d ln C_eff
    (EQ-91). All a unit of time."""
    return discount + obsolescence > compute_growth * value_elasticity
