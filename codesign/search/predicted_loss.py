"""Predicted loss of a shape: a law of parameters and tokens, and what the shape adds to it.

`loss` and `tokens_for` are all that the shape search asks of a scaling law; the laws are those of `codesign.laws.scaling`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from codesign.errors import SpecError
from codesign.laws import scaling, shape_loss
from codesign.quantities.parameters import count_parameters
from codesign.spec import schema

EXTRAPOLATED = "fitted on dense models of at most 16B parameters"

LAWS: Mapping[str, scaling.Published] = {"besiroglu": scaling.BESIROGLU, "hoffmann": scaling.HOFFMANN_TEX}
_SPARSITIES = (8.0, 48.0)  # between which `scaling.sparsity_compute_multiplier` speaks
MOE_SOURCE = "gain of sparsity: Kimi K2, arXiv 2507.20534 (1.69, 1.39, 1.15 of the FLOPs at sparsity 8, 16, 32 against 48)"


def law_of(name: str) -> scaling.Published:
    """The law called `name`. Raises SpecError."""
    if name not in LAWS:
        raise SpecError(f"unknown loss law {name!r}. Allowed: {', '.join(LAWS)}", field="law")
    return LAWS[name]


def loss(parameters: float, tokens: float, law: scaling.Published) -> float:
    """Nats a token at the end of a decayed run of one epoch."""
    return float(scaling.loss(law.law, _one(parameters), _one(tokens))[0])


def tokens_for(target: float, parameters: float, law: scaling.Published) -> float:
    """Tokens at which `loss` is `target`; infinite where no number of tokens reaches it."""
    return float(scaling.tokens_for(law.law, _one(target), _one(parameters))[0])


def _one(value: float) -> NDArray[np.float64]:
    return np.full(1, value, dtype=np.float64)


# ---------------------------------------------------------------------------------------------------- of a model


def sparsity(model: schema.Model) -> float:
    """Experts over active experts; 1 for a dense model."""
    return model.moe.experts / model.moe.top_k if model.moe else 1.0


def not_comparable(model: schema.Model, base: schema.Model) -> str:
    """Why no law compares the losses of two models, or nothing."""
    if (model.moe is None) != (base.moe is None):
        return "no sourced law compares the loss of a dense model with that of a mixture of experts"
    one, other = sparsity(model), sparsity(base)
    low, high = _SPARSITIES
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
    if one == other:
        return 1.0
    own, bases = scaling.sparsity_compute_multiplier([one, other])
    return float(bases / own)


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
