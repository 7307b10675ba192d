"""Semi-synchronous training (DiLoCo family): wall time, bandwidth for a utilisation, traffic, memory, and the loss it costs.

EQ-49, EQ-84, EQ-85, EQ-88. Elementwise over float64 arrays that broadcast together. M replicas take H inner steps each
between two outer steps, in which they average their changes. H = 1 and one fragment is synchronous training with an outer
optimizer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign.laws import collectives

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- one round


def outer_wire_B(parameters: Array, replicas: Array, outer_element_B: Array) -> Array:
    """Bytes that a replica sends in one outer step over all fragments, ring: 2(M-1)/M P e  (EQ-85).

    4-bit outer gradients (0.5 B and their scales) showed no loss (arXiv 2501.18512).
    """
    return collectives.wire_B("all_reduce", parameters * outer_element_B, replicas)


def round_exposed_s(
    outer_s: Array, inner_steps: Array, step_s: Array, fragments: Array | float = 1.0, overlap_s: Array | float = 0.0
) -> Array:
    """Time of a round of H inner steps in which compute stands still for outer synchronisation  (EQ-85).

    `outer_s`: transfer of all fragments one after the other, latencies included; each of the P fragments is hidden by
    `overlap_s` of compute: delay times step time in streaming DiLoCo, the backward pass of the last step in the published
    bandwidth simulations, 0 where it blocks. Transfers share one link: not more than a round of compute hides a round.
    """
    late_s = fragments * np.maximum(outer_s / fragments - overlap_s, 0.0)
    return np.maximum(late_s, np.maximum(outer_s - inner_steps * step_s, 0.0))


def round_s(
    outer_s: Array, inner_steps: Array, step_s: Array, fragments: Array | float = 1.0, overlap_s: Array | float = 0.0
) -> Array:
    """Wall time of a round: H inner steps and what is exposed of the outer one."""
    return inner_steps * step_s + round_exposed_s(outer_s, inner_steps, step_s, fragments, overlap_s)


def utilisation(
    outer_s: Array, inner_steps: Array, step_s: Array, fragments: Array | float = 1.0, overlap_s: Array | float = 0.0
) -> Array:
    """Inner compute over the wall time of a round  (EQ-83): 38 min and 103 s of blocking synchronisation, 0.957."""
    return inner_steps * step_s / round_s(outer_s, inner_steps, step_s, fragments, overlap_s)


def required_Bps(
    target: Array, wire_B: Array, inner_steps: Array, step_s: Array, fragments: Array | float = 1.0,
    overlap_s: Array | float = 0.0, latency_s: Array | float = 0.0,
) -> Array:
    """Rate per replica and direction at which a round reaches the utilisation `target`, 0 < target <= 1.

    `wire_B` of all fragments, `latency_s` of all of them. Infinite where latency alone spends the time.
    """
    compute_s = inner_steps * step_s
    spare_s = compute_s * (1.0 / target - 1.0)
    allowed_s = np.minimum(fragments * overlap_s, compute_s) + spare_s - latency_s
    enough = allowed_s > 0
    return np.where(enough, wire_B / np.where(enough, allowed_s, 1.0), np.where(wire_B > 0, np.inf, 0.0))


def peak_over_mean_traffic(inner_steps: Array, fragments: Array, overlap_steps: Array) -> Array:
    """Rate while a fragment travels over the mean rate of the round: H/(P tau), at least 1  (EQ-85)."""
    return np.maximum(inner_steps / (fragments * overlap_steps), 1.0)


def traffic_reduction(inner_steps: Array, gradient_B: Array, outer_element_B: Array) -> Array:
    """Bytes of synchronous data parallelism over those of outer steps: H e_gradient/e_outer  (EQ-85). 400 for H = 100
    and int8 against fp32."""
    return inner_steps * gradient_B / outer_element_B


def outer_state_B(
    parameters: Array, momentum_B: Array, copy_B: Array, receiving_B: Array | float = 0.0, fragments: Array | float = 1.0
) -> Array:
    """Memory that a replica holds more: outer momentum and the parameters of the last outer step; and while a fragment is
    under way, its buffer  (EQ-85)."""
    return parameters * (momentum_B + copy_B) + parameters * receiving_B / fragments


# ---------------------------------------------------------------------------------------------------- Charles 2025, B


def archetype_all_reduce_s(parameters: Array, element_B: Array, ranks: Array, rate_Bps: Array, latency_s: Array) -> Array:
    """2 N e (1 - 1/R)/W + latency  (EQ-84, Charles 2025, arXiv 2503.09799, appendix B)."""
    return collectives.wire_B("all_reduce", parameters * element_B, ranks) / rate_Bps + latency_s


def archetype_inner_s(
    parameters: Array, element_B: Array, ranks: Array, replicas: Array, rate_Bps: Array, latency_s: Array
) -> Array:
    """Gradient exchange of an inner step inside each of M replicas of R/M ranks: 2 N e (1 - M/R)/W0 + latency  (EQ-84)."""
    return 2.0 * parameters * element_B * (1.0 - replicas / ranks) / rate_Bps + latency_s


def archetype_outer_share(inner_s: Array, outer_s: Array, inner_steps: Array) -> Array:
    """Share of communication time in outer steps: (outer/H)/(inner + outer/H); a half or less from H = W0/W1  (EQ-84)."""
    outer_each_s = outer_s / inner_steps
    return outer_each_s / (inner_s + outer_each_s)


# ---------------------------------------------------------------------------------------------------- loss


class PowerFit(NamedTuple):
    """y = a x^alpha."""

    a: float
    alpha: float


# Charles 2025, arXiv 2503.09799: evaluation loss and best batch in tokens at D = 20 N, H = 30; key: replicas, 0 = data
# parallel. N counts all parameters. Swept 35 M to 2.4 B; 4 B and 10 B are held out, 1 to 4 % above the fit.
DILOCO_LOSS = {
    0: PowerFit(18.129, -0.0953), 1: PowerFit(18.363, -0.0961), 2: PowerFit(18.768, -0.0969),
    4: PowerFit(19.762, -0.0992), 8: PowerFit(21.051, -0.1018),
}
DILOCO_BATCH = {
    0: PowerFit(462.68, 0.281), 1: PowerFit(27.873, 0.435), 2: PowerFit(15.749, 0.479), 4: PowerFit(10.957, 0.510),
    8: PowerFit(38.072, 0.455),
}
MOST_REPLICAS, MOST_INNER_STEPS, MOST_PARAMETERS = 8.0, 300.0, 10e9  # nothing is published beyond them

# Measured losses of hiding the outer step, 0.5 B (Kale 2025, arXiv 2502.12996): no overlap, one inner step, delayed by a
# round, eager, eager by two rounds. Factors on the loss, against no overlap.
OVERLAP_LOSS_FACTOR = {
    "none": 1.0, "inner-step": 2.67 / 2.67, "outer-delayed": 3.01 / 2.67, "outer-eager": 2.69 / 2.67,
    "outer-eager-2": 2.73 / 2.67,
}


def diloco_loss(parameters: Array, replicas: int) -> Array:
    """A N^alpha of one row of the table: 0 (data parallel), 1, 2, 4 or 8 replicas  (EQ-49). No irreducible term."""
    fit = DILOCO_LOSS[replicas]
    return fit.a * parameters ** np.full(1, fit.alpha)


def diloco_joint_loss(parameters: Array, replicas: Array) -> Array:
    """19.226 N^-0.0985 M^0.0116, M >= 1  (EQ-49): 0.81 % of loss for each doubling of M, pessimistic above 2 B."""
    return 19.226 * parameters ** np.full(1, -0.0985) * replicas ** np.full(1, 0.0116)


def diloco_batch_tokens(parameters: Array, replicas: int) -> Array:
    """Best global batch in tokens of one row of the table  (EQ-49): 2.0e5 for data parallel at 2.4 B."""
    fit = DILOCO_BATCH[replicas]
    return fit.a * parameters ** np.full(1, fit.alpha)


def diloco_joint_batch_tokens(parameters: Array, replicas: Array) -> Array:
    """14.521 N^0.4695 M^0.3399 tokens, M >= 1  (EQ-49)."""
    return 14.521 * parameters ** np.full(1, 0.4695) * batch_of_replicas(replicas)


def batch_of_replicas(replicas: Array) -> Array:
    """Best global batch of M replicas over that of one, M^0.3399  (EQ-49): each of them takes M^-0.6601 of it."""
    return replicas ** np.full(1, 0.3399)


def extrapolated(parameters: Array, replicas: Array, inner_steps: Array) -> NDArray[np.bool_]:
    """Where a loss penalty is beyond all published evidence: M > 8, H > 300 or N > 10 B  (EQ-88)."""
    return (replicas > MOST_REPLICAS) | (inner_steps > MOST_INNER_STEPS) | (parameters > MOST_PARAMETERS)


def loss_increase(loss: Array, reference_loss: Array) -> Array:
    """Relative increase of a loss; measured for M = 4 at 10 B: 0.29 %  (EQ-49)."""
    return loss / reference_loss - 1.0


def compute_multiplier(loss: Array, reference_loss: Array, exponent: Array) -> Array:
    """Compute that makes up for a higher loss: (L/L_reference)^(2/|alpha|) where C goes as N^2  (EQ-88).

    alpha of L = A N^alpha at D = 20 N. Measured losses of M = 4 at 10 B: 1.062; joint law: 1.177 a doubling of M.
    """
    return (loss / reference_loss) ** (2.0 / np.abs(exponent))


def effective_share(utilisation: Array, multiplier: Array) -> Array:
    """Time utilisation and loss penalty together: share of the compute that counts, against ideal synchronous training."""
    return utilisation / multiplier
