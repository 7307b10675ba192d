"""Unique tokens as a resource: loss with repeated data, when data bind, what the next unique or repeated token is worth.

EQ-42 and EQ-53 (Muennighoff 2023, arXiv 2305.16264). Elementwise over float64 arrays that broadcast together. N counts all
parameters; fitted on C4 at up to 9 B parameters and 900 B tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign.laws.scaling import FLOP_PER_PARAMETER_TOKEN, Law, Optimum, balance, optimum

Array = NDArray[np.float64]

TOKEN_DECAY = 15.387756  # R_D*: repeats after which the value of the next one has fallen to 1/e
PARAMETER_DECAY = 5.309743  # R_N*
LN_A, LN_B, LN_E, ALPHA = 6.255414, 7.3049974, 0.6254804, 0.3526596  # alpha = beta
MUENNIGHOFF = Law(*(np.array([x]) for x in (math.exp(LN_E), math.exp(LN_A), math.exp(LN_B), ALPHA, ALPHA)))
PARAMETERS_PER_UNIQUE_TOKEN = 0.051  # of the one-epoch optimum: (A/B)^(1/alpha)


class Prices(NamedTuple):
    """Change of the loss for a relative change of a resource: dL/d ln C, dL/d ln U; both negative."""

    compute: Array
    unique_tokens: Array


def repeats(tokens: Array, unique_tokens: Array) -> Array:
    """Passes over the data after the first, D/U - 1, at least 0."""
    return np.maximum(tokens / unique_tokens - 1.0, 0.0)


def effective_tokens(tokens: Array, unique_tokens: Array, decay: Array | float = TOKEN_DECAY) -> Array:
    """U (1 + R* (1 - e^(-R/R*))) for R repeats of U unique tokens  (EQ-42): 4 epochs are worth 3.73, at most 16.4."""
    fresh = np.minimum(tokens, unique_tokens)
    return fresh - unique_tokens * decay * np.expm1(-repeats(tokens, unique_tokens) / decay)


def geometric_tokens(unique_tokens: Array, loss_per_repeat: Array, repeated: Array) -> Array:
    """Worth of R repeats that lose a fixed share each, U (1 + sum of (1-d)^k, k = 1 to R)  (EQ-42, paper's appendix A)."""
    left = 1.0 - loss_per_repeat
    return unique_tokens * (1.0 + left * -np.expm1(repeated * np.log(left)) / loss_per_repeat)


def effective_parameters(parameters: Array, unique_tokens: Array) -> Array:
    """The same for parameters beyond those that the unique data can use, 0.051 U  (EQ-42)."""
    usable = np.minimum(PARAMETERS_PER_UNIQUE_TOKEN * unique_tokens, parameters)
    excess = np.maximum(parameters / usable - 1.0, 0.0)
    return usable * (1.0 - PARAMETER_DECAY * np.expm1(-excess / PARAMETER_DECAY))


def data_constrained_loss(parameters: Array, tokens: Array, unique_tokens: Array) -> Array:
    """E + A/N_eff^alpha + B/D_eff^alpha  (EQ-42)."""
    law = MUENNIGHOFF
    seen = effective_tokens(tokens, unique_tokens)
    return law.E + law.A / effective_parameters(parameters, unique_tokens) ** law.alpha + law.B / seen**law.beta


def data_bound_FLOP(law: Law, unique_tokens: Array) -> Array:
    """Compute at which the one-epoch optimum of a law uses all unique tokens: D*(C) = U  (EQ-53). Above it data bind."""
    return FLOP_PER_PARAMETER_TOKEN * (unique_tokens * balance(law)) ** ((law.alpha + law.beta) / law.alpha)


def muennighoff_data_bound_FLOP(unique_tokens: Array) -> Array:
    """6 x 0.051 U^2: 6.9e25 FLOP for 15e12 tokens  (EQ-53)."""
    return FLOP_PER_PARAMETER_TOKEN * PARAMETERS_PER_UNIQUE_TOKEN * unique_tokens * unique_tokens


def next_repeat_worth(tokens: Array, unique_tokens: Array, decay: Array | float = TOKEN_DECAY) -> Array:
    """Worth of the next token against a fresh one, e^(-R/R*)  (EQ-53): 1 in the first epoch, 1/e after 16."""
    return np.exp(-repeats(tokens, unique_tokens) / decay)


def data_constrained_optimum(compute_FLOP: Array, unique_tokens: Array) -> Optimum:
    """Parameters and tokens of the least `data_constrained_loss` at C = 6 N D: smaller models for longer once data bind.

    Golden section in ln N around Chinchilla's optimum, 4.6 decades wide.
    """
    compute_FLOP, unique_tokens = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (compute_FLOP, unique_tokens))
    )
    product = compute_FLOP / FLOP_PER_PARAMETER_TOKEN

    def at(log_parameters: Array) -> Array:
        parameters = np.exp(log_parameters)
        return data_constrained_loss(parameters, product / parameters, unique_tokens)

    centre = np.log(optimum(MUENNIGHOFF, compute_FLOP).parameters)
    low, high, ratio = centre - 5.3, centre + 5.3, 0.5 * (math.sqrt(5.0) - 1.0)
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        better = at(left) < at(right)
        low, high = np.where(better, low, left), np.where(better, right, high)
    parameters = np.exp(0.5 * (low + high))
    return Optimum(parameters, product / parameters)


def shadow_prices(compute_FLOP: Array, unique_tokens: Array) -> Prices:
    """What one per cent more compute, or more unique tokens, takes off the loss of the best run, over 0.01  (EQ-53).

    Central differences of the optimum. A gain in data efficiency is worth as much as unique tokens where data bind.
    """
    step = 0.01

    def best(compute: Array, unique: Array) -> Array:
        found = data_constrained_optimum(compute, unique)
        return data_constrained_loss(found.parameters, found.tokens, unique)

    up, down = math.exp(step), math.exp(-step)
    compute = (best(compute_FLOP * up, unique_tokens) - best(compute_FLOP * down, unique_tokens)) / (2.0 * step)
    unique = (best(compute_FLOP, unique_tokens * up) - best(compute_FLOP, unique_tokens * down)) / (2.0 * step)
    return Prices(compute, unique)
