"""Loss as a function of parameters, tokens and compute: published laws, their optima, repeated data, serving, prices.

EQ-40 to EQ-44, EQ-46 and EQ-50 to EQ-54. Elementwise over float64 arrays that broadcast together; losses are nats a token on the
tokenizer of each law, so that laws of different sources are not compared by value. The constants of a law are arrays too:
one entry each, or one entry a draw of `draw_parameters`. Chinchilla-like laws describe the end of a run whose learning
rate has decayed, not points along it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FLOP_PER_PARAMETER_TOKEN = 6.0
PF_DAY_FLOP = 8.64e19


class Law(NamedTuple):
    """L = E + A/N^alpha + B/D^beta  (EQ-41)."""

    E: Array
    A: Array
    B: Array
    alpha: Array
    beta: Array


class Optimum(NamedTuple):
    parameters: Array
    tokens: Array


@dataclass(frozen=True)
class Published:
    """A law as printed: its constants, what its N counts, where it was fitted, and what is known of its uncertainty."""

    law: Law
    source: str
    counts: str
    fitted: str
    uncertainty: str


def _law(E: float, A: float, B: float, alpha: float, beta: float) -> Law:
    return Law(*(np.array([x]) for x in (E, A, B, alpha, beta)))


_ALL_PARAMETERS = "all parameters, embeddings included"
_CHINCHILLA_RUNS = "57 M to 16 B parameters, 1.4e18 to 1.3e22 FLOP as read off the figure, within one epoch"
HOFFMANN_ROUNDED = Published(
    _law(1.69, 406.4, 410.7, 0.34, 0.28), "Hoffmann 2022, arXiv 2203.15556, as printed", _ALL_PARAMETERS,
    _CHINCHILLA_RUNS, "printed ranges of the exponents are too narrow for the number of runs (arXiv 2404.10102)",
)
HOFFMANN_TEX = Published(
    _law(1.6934, 406.4, 410.7, 0.3392, 0.2849), "Hoffmann 2022, arXiv 2203.15556, TeX source", _ALL_PARAMETERS,
    _CHINCHILLA_RUNS, "as HOFFMANN_ROUNDED; rounding alone moves D/N at 5.76e23 FLOP from 59 to 93",
)
BESIROGLU = Published(
    _law(1.8172, 482.01, 2085.43, 0.3478, 0.3658), "Besiroglu 2024, arXiv 2404.10102", _ALL_PARAMETERS,
    "240 of Hoffmann's runs, read off a figure",
    "standard errors E 0.03, A 124.58, B 1293.23, alpha 0.02, beta 0.02, a 0.02; joint: `draw_parameters`",
)

# Covariance of (ln A, ln B, ln E, alpha, beta): lower Cholesky factor. Fitted here to the data of
# epoch-research/analyzing-chinchilla@9225883 as in the paper (Huber 1e-3 on ln L, five worst runs out, 4,000 bootstraps):
# standard errors A 120, B 1408, E 0.026, alpha 0.015, beta 0.020, a 0.019; corr(ln A, alpha) 0.9993, (ln B, beta) 0.9997.
_BESIROGLU_ROOT = (
    (2.52360232e-01,),
    (-9.52219727e-02, 4.07049904e-01),
    (8.37349147e-03, 1.08973121e-02, 2.92339908e-03),
    (1.50468610e-02, -1.70510420e-04, 2.12658708e-04, 4.90153510e-04),
    (-4.79055933e-03, 1.98548855e-02, 2.63729136e-04, -4.10020159e-04, 1.51322618e-04),
)


def draw_parameters(rng: np.random.Generator, count: int) -> Law:
    """Joint draws of Besiroglu's constants, shape (count,): Gaussian in (ln A, ln B, ln E, alpha, beta)  (EQ-94).

    Constants are never drawn one by one: A and alpha, B and beta are tied to 0.999. The other laws have no published
    covariance, so that their interval is not drawn but the difference between laws.
    """
    unit = rng.standard_normal((5, count))
    centre = BESIROGLU.law
    means = (np.log(centre.A), np.log(centre.B), np.log(centre.E), centre.alpha, centre.beta)
    drawn = []
    for mean, row in zip(means, _BESIROGLU_ROOT, strict=True):
        value = mean + np.zeros(count)
        for weight, noise in zip(row, unit, strict=False):
            value = value + weight * noise
        drawn.append(value)
    return Law(np.exp(drawn[2]), np.exp(drawn[0]), np.exp(drawn[1]), drawn[3], drawn[4])


# ---------------------------------------------------------------------------------------------------- Chinchilla form


def loss(law: Law, parameters: Array, tokens: Array) -> Array:
    """E + A/N^alpha + B/D^beta  (EQ-41)."""
    return law.E + law.A / parameters**law.alpha + law.B / tokens**law.beta


def tokens_for(law: Law, target_loss: Array, parameters: Array) -> Array:
    """D at which `loss` is the target; infinite where no number of tokens reaches it  (EQ-41 solved for D)."""
    left = target_loss - law.E - law.A / parameters**law.alpha
    with np.errstate(over="ignore"):
        return np.where(left > 0, (law.B / np.where(left > 0, left, 1.0)) ** (1.0 / law.beta), np.inf)


def balance(law: Law) -> Array:
    """G = (alpha A/beta B)^(1/(alpha + beta))  (EQ-41)."""
    return (law.alpha * law.A / (law.beta * law.B)) ** (1.0 / (law.alpha + law.beta))


def optimum(law: Law, compute_FLOP: Array) -> Optimum:
    """N* = G (C/6)^(beta/(alpha+beta)), D* = (C/6)^(alpha/(alpha+beta))/G, G = (alpha A/beta B)^(1/(alpha+beta))
    (EQ-41): the least loss where C = 6 N D."""
    scale, both = balance(law), law.alpha + law.beta
    product = compute_FLOP / FLOP_PER_PARAMETER_TOKEN
    return Optimum(scale * product ** (law.beta / both), product ** (law.alpha / both) / scale)


def parameter_exponent(law: Law) -> Array:
    """a of N* ~ C^a: beta/(alpha + beta)  (EQ-41). Its standard error times ln 10 is the error of N* a decade (EQ-94)."""
    return law.beta / (law.alpha + law.beta)


def compute_exponent(law: Law) -> Array:
    """gamma of L - E ~ C^-gamma on the optimal path: alpha beta/(alpha + beta)  (EQ-50, EQ-54)."""
    return law.alpha * law.beta / (law.alpha + law.beta)


def compute_gain(loss_before: Array, loss_after: Array, irreducible: Array, gamma: Array) -> Array:
    """Compute that the same loss would have taken without a change: ((L_old - E)/(L_new - E))^(1/gamma)  (EQ-50)."""
    return ((loss_before - irreducible) / (loss_after - irreducible)) ** (1.0 / gamma)


def compute_for_FLOP(law: Law, reducible: Array) -> Array:
    """Compute of the optimal run whose loss is E + `reducible`  (EQ-50)."""
    scale = balance(law)
    at_one = law.A / scale**law.alpha + law.B * scale**law.beta  # reducible loss of the optimum at C = 6
    return FLOP_PER_PARAMETER_TOKEN * (at_one / reducible) ** (1.0 / compute_exponent(law))


def algorithmic_gain(elapsed_months: Array, halving_months: Array | float = 8.0) -> Array:
    """Compute saved by progress of the field, 2^(months/8)  (EQ-50, Ho 2024, arXiv 2403.05812): 8 in two years.

    Depends on scale, and most of it is two innovations: a rate for a field, not for a team.
    """
    return 2.0 ** (elapsed_months / halving_months)


# ---------------------------------------------------------------------------------------------------- serving in mind


def inference_aware_optimum(law: Law, compute_FLOP: Array, served_tokens: Array) -> Optimum:
    """Least loss for a lifetime budget C = 6 N D + 2 N T_inf  (EQ-52).

    alpha A N^-alpha/(beta B D^-beta) = 1 + T_inf/(3 D) at the optimum. Where a served FLOP costs r times a trained one
    (lower utilisation, cheaper chips), give r T_inf.
    """
    shape = np.broadcast_shapes(law.E.shape, np.shape(compute_FLOP), np.shape(served_tokens), (1,))
    compute_FLOP, served = np.broadcast_to(compute_FLOP, shape), np.broadcast_to(served_tokens, shape)
    low, high = np.zeros(shape), np.log(compute_FLOP)  # of D: from one token to one parameter
    for _ in range(80):
        middle = 0.5 * (low + high)
        tokens = np.exp(middle)
        parameters = compute_FLOP / (6.0 * tokens + 2.0 * served)
        worth = np.log(law.alpha * law.A / (law.beta * law.B)) - law.alpha * np.log(parameters) + law.beta * middle
        few = worth < np.log1p(served / (3.0 * tokens))  # tokens are worth more than parameters
        low, high = np.where(few, middle, low), np.where(few, high, middle)
    tokens = np.exp(0.5 * (low + high))
    return Optimum(compute_FLOP / (6.0 * tokens + 2.0 * served), tokens)


def lifetime_over_training(tokens: Array, served_tokens: Array) -> Array:
    """Lifetime compute over training compute, 1 + T_inf/(3 D)  (EQ-52)."""
    return 1.0 + served_tokens / (3.0 * tokens)


# ---------------------------------------------------------------------------------------------------- single-variable laws


def kaplan_loss_of_parameters(parameters: Array) -> Array:
    """(8.8e13/N)^0.076, N without embeddings, data unlimited  (EQ-40, Kaplan 2020, arXiv 2001.08361)."""
    return (8.8e13 / parameters) ** np.full(1, 0.076)


def kaplan_loss_of_tokens(tokens: Array) -> Array:
    """(5.4e13/D)^0.095, model unlimited, early stopping  (EQ-40)."""
    return (5.4e13 / tokens) ** np.full(1, 0.095)


def kaplan_loss_of_compute(compute_FLOP: Array) -> Array:
    """(3.1e8 PF-days/C)^0.050, C the least compute at small batch  (EQ-40)."""
    return (3.1e8 * PF_DAY_FLOP / compute_FLOP) ** np.full(1, 0.050)


class DeepSeekOptimum(NamedTuple):
    model_FLOP_per_token: Array
    tokens: Array


def deepseek_optimum(compute_FLOP: Array) -> DeepSeekOptimum:
    """M* = 0.1715 C^0.5243, D* = 5.8316 C^0.4757, C = M D  (EQ-43, DeepSeek LLM 2024, arXiv 2401.02954).

    M is non-embedding FLOP a token, 72 L d^2 + 12 L d s, not a number of parameters. Used at 1,000 times the compute of its fit.
    """
    return DeepSeekOptimum(
        0.1715 * compute_FLOP ** np.full(1, 0.5243), 5.8316 * compute_FLOP ** np.full(1, 0.4757)
    )


def deepseek_model_FLOP_per_token(layers: Array, hidden: Array, sequence: Array) -> Array:
    """72 L d^2 + 12 L d s  (EQ-43)."""
    return 72.0 * layers * hidden * hidden + 12.0 * layers * hidden * sequence


def llama3_tokens(compute_FLOP: Array) -> Array:
    """16.55e12 (C/3.8e25)^0.53: Llama 3's slope through its printed optimum  (EQ-44, arXiv 2407.21783).

    Fitted at 6e18 to 1e22 FLOP. The printed prefactor, `llama3_tokens_as_printed`, contradicts the printed result.
    """
    return 16.55e12 * (compute_FLOP / 3.8e25) ** np.full(1, 0.53)


def llama3_tokens_as_printed(compute_FLOP: Array) -> Array:
    """0.29 C^0.53: 10.5e12 tokens at 3.8e25 FLOP, where the paper says 16.55e12  (EQ-44). For comparison only."""
    return 0.29 * compute_FLOP ** np.full(1, 0.53)


# ---------------------------------------------------------------------------------------------------- mixture of experts


_KIMI = ((8.0, 1.69), (16.0, 1.39), (32.0, 1.15), (48.0, 1.0))  # sparsity, compute over that at 48


def sparsity_compute_multiplier(sparsity: ArrayLike) -> Array:
    """Compute at a sparsity (experts over active experts) over that at 48 for the same loss  (EQ-46, Kimi K2).

    1.69, 1.39, 1.15, 1 at 8, 16, 32, 48, linear in the logarithms between; measured at loss 1.5. NaN outside 8 to 48.
    """
    sparsity = np.atleast_1d(np.asarray(sparsity, dtype=np.float64))
    found = np.where(sparsity == _KIMI[-1][0], _KIMI[-1][1], np.nan)
    for (low, at_low), (high, at_high) in pairwise(_KIMI):
        slope = math.log(at_high / at_low) / math.log(high / low)
        found = np.where((sparsity >= low) & (sparsity < high), at_low * (sparsity / low) ** np.full(1, slope), found)
    return found


def efficiency_leverage(active: Array, dense_equivalent: Array) -> Array:
    """Dense parameters of equal loss over active parameters of a mixture  (EQ-46): above 7 for Ling (arXiv 2507.17702)."""
    return dense_equivalent / active
