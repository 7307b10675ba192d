"""How often a run is interrupted, by what, and what it takes down: rates, early-life hazard, domains, spares, stragglers.

EQ-60, EQ-67 to EQ-72. All functions are elementwise over float64 arrays that broadcast together. Rates are events per
second and unit and may be zero; a job is a series system, so that rates of its parts add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.laws import distributions, network

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- rates that add up


def observed_rate_per_s(events: Array, units: Array, exposure_s: Array) -> Array:
    """Events per unit and second in `exposure_s` of observation of `units` parts  (EQ-60). Exact interval: EQ-79."""
    return events / (units * exposure_s)


def expected_events(units: Array, rate_per_s: Array, exposure_s: Array) -> Array:
    """Events of `units` parts in `exposure_s` at a constant rate  (EQ-60)."""
    return units * rate_per_s * exposure_s


def job_rate_per_s(units: Sequence[Array], rates_per_s: Sequence[Array]) -> Array:
    """Interruptions of a job per second: sum over kinds of component of count times rate  (EQ-60).

    Holds where any one failure stops the whole job and causes are independent. Published rates are those of jobs above
    4,000 accelerators: below, jobs fail more often than the rate says (7.9 h measured against 28.8 h at 1,024;
    Kokolis 2024, arXiv 2410.21680).
    """
    total = np.zeros(1)
    for count, rate in zip(units, rates_per_s, strict=True):
        total = total + count * rate
    return total


def mean_time_s(rate_per_s: Array) -> Array:
    """Mean time between events of a constant rate; infinite where the rate is zero."""
    rate_per_s = np.atleast_1d(np.asarray(rate_per_s, dtype=np.float64))
    return np.divide(1.0, rate_per_s, out=np.full(rate_per_s.shape, np.inf), where=rate_per_s > 0)


# ---------------------------------------------------------------------------------------------------- early life

EARLY_FAILED_SHARE = 0.1  # of new accelerators, reported: stas00/ml-engineering@744d01e fault-tolerance README


def hazard_per_s(age_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array) -> Array:
    """Hazard of a part of age a: settled + (early - settled) e^(-a/settling)  (EQ-67).

    The form is derived; that it decays is measured (10 % early failures of new accelerators, ml-engineering). Replaced
    parts restart at age 0.
    """
    return settled_per_s + (early_per_s - settled_per_s) * np.exp(-age_s / settling_s)


def cumulative_hazard(age_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array) -> Array:
    """Expected failures of one slot to age a under minimal repair: settled a + (early - settled) T (1 - e^(-a/T))
    (EQ-67). Parts that are replaced, not repaired, fail more: `renewal.replaced_hazard_per_s`."""
    return settled_per_s * age_s - (early_per_s - settled_per_s) * settling_s * np.expm1(-age_s / settling_s)


def early_per_s_of_share(failed_share: Array, settled_per_s: Array, settling_s: Array) -> Array:
    """Early hazard with which `failed_share` of new parts fail of early causes: settled - ln(1 - share)/settling  (EQ-67).

    Reported: a share as large as `EARLY_FAILED_SHARE` of new accelerators, weeded out over months.
    """
    return settled_per_s - np.log1p(-failed_share) / settling_s


def after_burn_in_per_s(early_per_s: Array, settled_per_s: Array, settling_s: Array, burn_in_s: Array) -> Array:
    """Early hazard that is left of a part that has run for `burn_in_s` before it joins  (EQ-67)."""
    return hazard_per_s(burn_in_s, early_per_s, settled_per_s, settling_s)


def power_law_failures(units: Array, age_s: Array, scale_s: Array, exponent: Array) -> Array:
    """Expected failures N (T/scale)^exponent of a non-homogeneous Poisson process  (EQ-67, Crow-AMSAA).

    Below 1: fewer with age. 0.7 to 0.8 are recalled, not confirmed.
    """
    return units * (age_s / scale_s) ** exponent


def mean_rate_per_s(elapsed_s: Array, early_per_s: Array, settled_per_s: Array, settling_s: Array) -> Array:
    """Mean rate from the start to `elapsed_s` of a rate that decays as `hazard_per_s`  (EQ-67)."""
    share = _one_minus_exp_over(np.asarray(elapsed_s) / settling_s)
    return settled_per_s + (early_per_s - settled_per_s) * share


def _one_minus_exp_over(x: Array) -> Array:
    """(1 - e^-x)/x, 1 at 0."""
    safe = np.where(x > 0, x, 1.0)
    return np.where(x > 0, -np.expm1(-safe) / safe, 1.0)


# ---------------------------------------------------------------------------------------------------- domains


def replicas_hit(domain_ranks: Array, dp_stride: Array, dp: Array) -> Array:
    """Data-parallel replicas that lose a rank when `domain_ranks` neighbouring ranks go (a node, a rack, a site).

    Ranks of one replica are runs of `dp_stride` neighbours (the product of the degrees inside data parallelism); the
    worst domain of those that lie side by side is counted. Data parallelism innermost (stride 1): a node of 8 hits 8
    replicas. One rank lost stops its replica whole.
    """
    return np.minimum(network.domains_touched(domain_ranks, np.ones(1), dp_stride), dp)


# ---------------------------------------------------------------------------------------------------- spares, elasticity


def in_repair(units: Array, rate_per_s: Array, repair_s: Array) -> Array:
    """Mean number of units out for repair, N rate MTTR  (EQ-68: M/G/infinity, whatever the spread of repair times)."""
    return units * rate_per_s * repair_s


def spares(units: Array, rate_per_s: Array, repair_s: Array, confidence: Array) -> Array:
    """Hot spares that suffice at a random instant with probability `confidence`: the Poisson quantile  (EQ-68).

    2,048 nodes at 6.5 failures a thousand node-days, two days of repair, 99 %: 39. Practice holds 5 to 10 %
    (ml-engineering). Independent failures: a rack that fails together needs spares in racks.
    """
    return distributions.poisson_quantile(confidence, in_repair(units, rate_per_s, repair_s))


def unavailable_share(rate_per_s: Array, repair_s: Array) -> Array:
    """Share of time that one unit is out: rate MTTR / (1 + rate MTTR)."""
    out = rate_per_s * repair_s
    return out / (1.0 + out)


def spares_of_fixed_fleet(units: Array, rate_per_s: Array, repair_s: Array, confidence: Array) -> Array:
    """Units of a fleet of fixed size that are out at most, with probability `confidence`: the binomial quantile.

    At most `spares`: units in repair cannot fail. The two agree for rare failures.
    """
    return distributions.binomial_quantile(confidence, units, unavailable_share(rate_per_s, repair_s))


def stall_share(units: Array, rate_per_s: Array, repair_s: Array, spare_units: Array) -> Array:
    """Share of time in which more units are out than there are spares  (EQ-68)."""
    return distributions.poisson_more_than(spare_units, in_repair(units, rate_per_s, repair_s))


def missing_units(units: Array, rate_per_s: Array, repair_s: Array, spare_units: Array) -> Array:
    """Mean number of units that no spare replaces: m P(X >= s) - s P(X > s) of a Poisson variable of mean m."""
    mean = in_repair(units, rate_per_s, repair_s)
    reached = distributions.poisson_more_than(spare_units - 1.0, mean)
    return np.maximum(mean * reached - spare_units * distributions.poisson_more_than(spare_units, mean), 0.0)


def elastic_step_factor(replicas: Array, lost: Array) -> Array:
    """Step time after the loss of replicas where the global batch is kept: M/(M - k)  (EQ-72)."""
    return replicas / (replicas - lost)


def elastic_batch_share(replicas: Array, lost: Array) -> Array:
    """Global batch that is left where the step time is kept: (M - k)/M  (EQ-72)."""
    return (replicas - lost) / replicas


def elastic_goodput(replicas: Array, replica_rate_per_s: Array, repair_s: Array, reconfigure_s: Array) -> Array:
    """Useful share of a run that drops failed replicas and takes them back: (1 - E[down]/M) less reconfiguration  (EQ-72).

    Each of the M rate events stops all for `reconfigure_s`, with the lost step in it; so does each return. Independent
    replicas, work in proportion to live replicas; 0 where reconfiguration eats everything. Holds while events are apart.
    """
    down = unavailable_share(replica_rate_per_s, repair_s)
    stops = 2.0 * replicas * replica_rate_per_s * (1.0 - down) * reconfigure_s
    return np.maximum((1.0 - down) * (1.0 - stops), 0.0)


# ---------------------------------------------------------------------------------------------------- stragglers


def straggler_factor(ranks: Array, variation: Array) -> Array:
    """Synchronous step over the mean of one rank: 1 + cv E[max of n]  (EQ-69).

    `variation`: standard deviation over mean of one rank's time between two synchronisations, independent and normal.
    Noise that ranks share (a diurnal swing of 1 to 2 %, Llama 3) is not of this kind.
    """
    return 1.0 + variation * distributions.expected_maximum(ranks)


def slow_node_factor(nodes: Array, slow_share: Array, slowdown: Array) -> Array:
    """Synchronous step with persistently slow nodes over one without, on average over draws of nodes  (EQ-69).

    Any slow node among n slows every step: 1 + (slowdown - 1)(1 - (1 - share)^n). A swap of slow nodes brings it to 1.
    """
    return 1.0 + (slowdown - 1.0) * at_least_one(slow_share, nodes)


# ---------------------------------------------------------------------------------------------------- rare events


def at_least_one(probability: Array, trials: Array) -> Array:
    """P(at least one event in n trials) = 1 - (1 - q)^n, exact for tiny q."""
    almost = np.minimum(np.asarray(probability), 1.0 - 2.0**-53)  # certain to the last bit
    return -np.expm1(trials * np.log1p(-almost))


def rare_event_rate_per_s(probability: Array, units: Array, step_s: Array) -> Array:
    """Rate of an event of `probability` a unit and step  (EQ-71): 1e-6 at 10 s is one in 116 d, on 1e5 units in 100 s.

    An event that depends on the data alone comes on every replica at once: units = 1.
    """
    return probability * units / step_s


def corruption_loss_share(rate_per_s: Array, detect_s: Array, interval_s: Array, restart_s: Array) -> Array:
    """Share of a run lost to silent corruption: rate (detection + interval/2 + restart)  (EQ-70), first order.

    Rollback goes before the corruption, not to the last checkpoint. `detect_s`: mean time from corruption to its
    detection. Holds while the share is small (below 0.1). Published: 6 events in 54 d on 16,384 (Llama 3).
    """
    return rate_per_s * (detect_s + 0.5 * interval_s + restart_s)


def checkpoints_to_keep(detect_s: Array, interval_s: Array) -> Array:
    """Checkpoints to hold so that one from before a corruption is left when it is detected  (EQ-70)."""
    return np.ceil(detect_s / interval_s) + 1.0
