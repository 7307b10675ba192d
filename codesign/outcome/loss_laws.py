"""The laws of loss that a spec may name: what each gives, what its N counts, where it was fitted, what is known of its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.laws import repeated_data, scaling
from codesign.quantities.parameters import count_parameters
from codesign.spec import schema

LARGEST_CHINCHILLA_FLOP = 1.3e22


@dataclass(frozen=True)
class LossLaw:
    """`law` is none where the law prints an optimum or single limits; `largest_FLOP`: its largest fitted run, where printed."""

    law: scaling.Law | None
    source: str
    counts: str
    fitted: str
    uncertainty: str
    largest_FLOP: float | None = None
    joint: bool = False  # whether its constants can be drawn together


def _of(published: scaling.Published, joint: bool = False) -> LossLaw:
    return LossLaw(
        published.law, published.source, published.counts, published.fitted, published.uncertainty, LARGEST_CHINCHILLA_FLOP, joint
    )


_NONE_PUBLISHED = "no joint uncertainty is published"
LAWS: dict[str, LossLaw] = {
    "besiroglu": _of(scaling.BESIROGLU, joint=True),
    "hoffmann": _of(scaling.HOFFMANN_TEX),
    "hoffmann-rounded": _of(scaling.HOFFMANN_ROUNDED),
    "muennighoff": LossLaw(
        repeated_data.MUENNIGHOFF, "Muennighoff 2023, arXiv 2305.16264", "all parameters, embeddings included",
        "C4, up to 9 B parameters and 900 B tokens, up to 1,500 epochs", _NONE_PUBLISHED, 6.0 * 9e9 * 900e9,
    ),
    "kaplan": LossLaw(
        None, "Kaplan 2020, arXiv 2001.08361", "parameters without embeddings",
        "up to 1.5 B parameters and 23 B tokens; the larger of its two limits, a lower bound", _NONE_PUBLISHED,
        6.0 * 1.5e9 * 23e9,
    ),
    "deepseek": LossLaw(
        None, "DeepSeek LLM 2024, arXiv 2401.02954", "FLOPs a token without embeddings, attention included",
        "used by its authors at 1,000 times the compute of its fit; gives the optimum, no loss", _NONE_PUBLISHED,
    ),
    "llama3": LossLaw(
        None, "Llama 3, arXiv 2407.21783", "all parameters, embeddings included",
        "6e18 to 1e22 FLOP; gives the optimal tokens, no loss", _NONE_PUBLISHED, 1e22,
    ),
}  # fmt: skip


# constants of a law -> their leaves in the graph of a run
CONSTANTS = {"E": "law_floor", "A": "law_size_scale", "B": "law_data_scale", "alpha": "law_alpha", "beta": "law_beta"}


def axes(law: scaling.Law) -> dict[str, NDArray[np.float64]]:
    """The constants of a law, or draws of them, as leaves."""
    return {leaf: getattr(law, name) for name, leaf in CONSTANTS.items()}


def parameters(name: str, model: schema.Model) -> float:
    """N as the law called `name` counts it; of a mixture the parameters that one token uses."""
    counted = count_parameters(model)
    whole = float(counted.active_with_embeddings if model.moe else counted.total)
    return whole - _vocabulary(model) if name == "kaplan" else whole


def _vocabulary(model: schema.Model) -> float:
    parts = count_parameters(model).parts
    return float(sum(parts.get(name, 0) for name in ("embedding", "positions", "head")))


def token_FLOP(model: schema.Model, sequence: int) -> float:
    """M of DeepSeek's law: 6 a parameter outside the vocabulary and full attention, which is 72 L d^2 + 12 L d s for its
    shapes (EQ-43)."""
    counted = count_parameters(model)
    whole = float(counted.active_with_embeddings if model.moe else counted.total)
    if model.mla:
        width = model.heads * (model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim + model.mla.v_head_dim) / 2
    else:
        width = model.heads * (model.head_dim or model.hidden // model.heads)
    return 6.0 * (whole - _vocabulary(model)) + 12.0 * model.layers * width * sequence
