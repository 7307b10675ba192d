"""Predicted loss of a shape: a law of parameters and tokens, and what the shape adds to it.

One place for L(N, D): `loss` and `tokens_for` are all that the shape search asks of a scaling law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from codesign.errors import SpecError
from codesign.laws import shape_loss
from codesign.quantities.parameters import count_parameters
from codesign.spec import schema

EXTRAPOLATED = "fitted on dense models of at most 16B parameters"


@dataclass(frozen=True)
class LossLaw:
    """L = E + A / N^alpha + B / D^beta, in nats a token; N counts all parameters, the vocabulary as stored."""

    irreducible: float
    a: float
    b: float
    alpha: float
    beta: float
    source: str


LAWS: Mapping[str, LossLaw] = {
    "besiroglu": LossLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu 2024, arXiv 2404.10102"),
    "hoffmann": LossLaw(1.6934, 406.4, 410.7, 0.3392, 0.2849, "Hoffmann 2022, arXiv 2203.15556, digits of its TeX source"),
}

# FLOPs to loss 1.5 at sparsity 48 (384 experts, 8 active), against sparsity 8, 16, 32: Kimi K2, arXiv 2507.20534
_MOE_GAIN = {8.0: 1.0, 16.0: 1.69 / 1.39, 32.0: 1.69 / 1.15, 48.0: 1.69}
MOE_SOURCE = "gain of sparsity: Kimi K2, arXiv 2507.20534 (1.69, 1.39, 1.15 of the FLOPs at sparsity 8, 16, 32 against 48)"


def law_of(name: str) -> LossLaw:
    """The law called `name`. Raises SpecError."""
    if name not in LAWS:
        raise SpecError(f"unknown loss law {name!r}. Allowed: {', '.join(LAWS)}", field="law")
    return LAWS[name]


def loss(parameters: float, tokens: float, law: LossLaw) -> float:
    """Nats a token at the end of a decayed run of one epoch."""
    return law.irreducible + law.a / parameters**law.alpha + law.b / tokens**law.beta


def tokens_for(target: float, parameters: float, law: LossLaw) -> float:
    """Tokens at which `loss` is `target`; infinite where no number of tokens reaches it."""
    left = target - law.irreducible - law.a / parameters**law.alpha
    return (law.b / left) ** (1.0 / law.beta) if left > 0 else math.inf


# ---------------------------------------------------------------------------------------------------- of a model


def sparsity(model: schema.Model) -> float:
    """Experts over active experts; 1 for a dense model."""
    return model.moe.experts / model.moe.top_k if model.moe else 1.0


def not_comparable(model: schema.Model, base: schema.Model) -> str:
    """Why no law compares the losses of two models, or nothing."""
    if (model.moe is None) != (base.moe is None):
        return "no sourced law compares the loss of a dense model with that of a mixture of experts"
    one, other = sparsity(model), sparsity(base)
    low, high = min(_MOE_GAIN), max(_MOE_GAIN)
    if one != other and not (low <= one <= high and low <= other <= high):
        return f"sparsity {one:g} against {other:g}: the gain of sparsity is known from {low:g} to {high:g}"
    return ""


def law_parameters(model: schema.Model, base: schema.Model) -> float:
    """N of the law: all parameters, of a mixture those that one token uses.

    Padding of the vocabulary beyond the base's is left out: nothing is learned there.
    """
    counted = count_parameters(model.model_copy(update={"vocab": base.vocab}))
    return float(counted.active_with_embeddings if model.moe else counted.total)


def token_gain(model: schema.Model, base: schema.Model) -> float:
    """Tokens of the base that one token is worth, by the sparsities of the two: at equal active parameters the FLOPs that
    a sparser mixture saves are tokens. 1 where the sparsity is the same. Only where `not_comparable` has no objection."""
    one, other = sparsity(model), sparsity(base)
    return 1.0 if one == other else _gain_over_least(one) / _gain_over_least(other)


def _gain_over_least(value: float) -> float:
    """Between the published points: linear in both logarithms."""
    points = sorted(_MOE_GAIN.items())
    for (low, gain_low), (high, gain_high) in pairwise(points):
        if value <= high:
            share = math.log(value / low) / math.log(high / low)
            return gain_low * (gain_high / gain_low) ** share
    raise ValueError(value)


def shape_shares(model: schema.Model) -> dict[str, float]:
    """Share of a model's parameters with which the best shape reaches its loss, by source.

    Width and depth by each source, the width of a dense FFN by Kaplan's chart, and once without it. Experts have no
    sourced term of shape.
    """
    hidden, layers = float(model.hidden), float(model.layers)
    parameters = float(count_parameters(model).active_with_embeddings)
    aspect = {
        f"McLeish 2025, {fit.name}": shape_loss.gemstones_aspect_share(hidden, layers, parameters, fit)
        for fit in shape_loss.GEMSTONES
    }
    aspect["Kaplan 2020"] = shape_loss.share_of_parameters(shape_loss.kaplan_aspect_increase(hidden, layers))
    first, ffn = next(iter(aspect)), 1.0
    if model.moe is None and model.ffn:
        increase = shape_loss.ffn_ratio_increase(float(model.ffn), hidden, 3.0 if model.gated_ffn else 2.0)
        ffn = float(shape_loss.share_of_parameters(increase))
    found = {source: float(share) * ffn for source, share in aspect.items()}
    return {**found, f"{first}, no term for the FFN": float(aspect[first])}
