"""The matrix products of a plan by name, and the quantities without one of their wastes.

A waste is priced by an override: the time of one product is replaced by what it would be without tile or wave
quantisation, or with rows that are not aligned, and the step is evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import graph
from codesign.laws import kernels
from codesign.quantities.model import gemm_labels

Array = NDArray[np.float64]
Values = Mapping[Any, Any]
Overrides = dict[str, Any]

DENSE = ("gemm_forward_s", "gemm_input_gradient_s", "gemm_weight_gradient_s")
EXPERT = ("expert_forward_s", "expert_input_gradient_s", "expert_weight_gradient_s")
HEAD = "head_gemm_s"

# Field of the spec behind the output width n and the input width k of each product.
FIELDS: dict[str, tuple[str, str]] = {
    "qkv": ("model.heads", "model.hidden"),
    "attn_out": ("model.hidden", "model.heads"),
    "q_down": ("model.mla.q_lora", "model.hidden"),
    "q_up": ("model.heads", "model.mla.q_lora"),
    "kv_down": ("model.mla.kv_lora", "model.hidden"),
    "kv_up": ("model.heads", "model.mla.kv_lora"),
    "ffn_up": ("model.ffn", "model.hidden"),
    "ffn_down": ("model.hidden", "model.ffn"),
    "shared_up": ("model.moe.shared_expert_ffn", "model.hidden"),
    "shared_down": ("model.hidden", "model.moe.shared_expert_ffn"),
    "router": ("model.moe.experts", "model.hidden"),
    "head": ("model.vocab", "model.hidden"),
    "expert_up": ("model.moe.expert_ffn", "model.hidden"),
    "expert_down": ("model.hidden", "model.moe.expert_ffn"),
}


@dataclass(frozen=True)
class Gemm:
    """One product on one rank: m rows by k, times k by n; `groups` of them in one call; `kinds` of layer that have it."""

    name: str
    kinds: tuple[str, ...]
    m: float
    n: float
    k: float
    groups: float = 1.0

    def __str__(self) -> str:
        times = f"{self.groups:g} x " if self.groups > 1 else ""
        return f"{self.name} ({times}m {self.m:g}, n {self.n:g}, k {self.k:g} on a rank)"

    @property
    def passes(self) -> tuple[tuple[float, float], ...]:
        """Rows and columns of the result: forward, input gradient, weight gradient."""
        return (self.m, self.n), (self.m, self.k), (self.n, self.k)

    def fields(self, block: Any) -> tuple[str, str]:
        """The fields behind n and k."""
        wide, deep = FIELDS[self.name]
        return wide, "model.hidden" if self.name == "q_up" and not block.query_lora else deep


def products(values: Values, kinds: Sequence[str]) -> list[Gemm]:
    """Every product of the plan in order of execution; those of several layer kinds with the same sizes once."""
    found: dict[tuple[Any, ...], list[str]] = {}

    def note(kind: str, *what: Any) -> None:
        found.setdefault(what, []).append(kind)

    for kind in kinds:
        spec = values[f"kind_spec[{kind}]"]
        for at, name in enumerate(gemm_labels(spec, values["block"])):
            if name in FIELDS:
                sizes = (_row(values, quantity, kind, at) for quantity in ("gemm_tokens", "gemm_out", "gemm_in"))
                note(kind, name, *sizes)
        if spec.moe:
            rows, groups = _scalar(values, "rows_per_expert"), _scalar(values, "local_experts")
            for at, name in enumerate(("expert_up", "expert_down")):
                n, k = (float(np.ravel(values[(q, None)][at])[0]) for q in ("expert_out", "expert_in"))
                note(kind, name, rows, n, k, groups)
    gemms = [Gemm(what[0], tuple(kinds_of), *what[1:]) for what, kinds_of in found.items()]
    tokens, vocab = _scalar(values, "rank_tokens"), _scalar(values, "vocab")
    return [*gemms, Gemm("head", (), tokens, vocab / _scalar(values, "tp"), _scalar(values, "hidden"))]


def without_waves(values: Values, gemm: Gemm) -> Overrides:
    """The times with no wave quantisation in this product."""
    return _replaced(values, gemm, waves=False, tiles=True)


def without_tiles(values: Values, gemm: Gemm) -> Overrides:
    """The times with neither wave nor tile quantisation in this product."""
    return _replaced(values, gemm, waves=False, tiles=False)


def stretched(values: Values, gemms: Mapping[Gemm, float]) -> Overrides:
    """The times with every product given as many times slower as its number says."""
    overrides: Overrides = {}
    experts: dict[str, float] = {}  # up and down are one quantity: the slower of the two stretches both
    for gemm, ratio in gemms.items():
        if gemm.name.startswith("expert_"):
            experts.update({kind: max(ratio, experts.get(kind, 1.0)) for kind in gemm.kinds})
            continue
        for name, kind, rows in _places(values, gemm):
            if kind is None:
                overrides[name] = values[(name, None)] * ratio
            else:
                per_kind = overrides.setdefault(name, _members(values, name))
                assert rows is not None
                per_kind[kind] = per_kind[kind] * np.where(rows, ratio, 1.0)
    for name in EXPERT if experts else ():
        overrides[name] = {kind: time * experts.get(kind, 1.0) for kind, time in _members(values, name).items()}
    return overrides


# ---------------------------------------------------------------------------------------------------- overrides


def _places(values: Values, gemm: Gemm) -> list[tuple[str, str | None, NDArray[np.bool_] | None]]:
    """Where a product's times stand: quantity, layer kind, and a mask of its rows (None: the whole quantity is its)."""
    if gemm.name == "head":
        return [(HEAD, None, None)]
    found: list[tuple[str, str | None, NDArray[np.bool_] | None]] = []
    for kind in gemm.kinds:
        if gemm.name.startswith("expert_"):
            found += [(name, kind, None) for name in EXPERT]
            continue
        labels = gemm_labels(values[f"kind_spec[{kind}]"], values["block"])
        mask = np.array([[label == gemm.name] for label in labels])
        found += [(name, kind, mask) for name in DENSE]
    return found


def _replaced(values: Values, gemm: Gemm, *, waves: bool, tiles: bool) -> Overrides:
    """The quantities of one product, evaluated again by their own equations without the waste."""
    loss = values["wave_loss"]
    gains = [1.0 if tiles else _tile_gain(m, n) for m, n in gemm.passes]
    if gemm.name == "head":
        rows = [
            _call(values, HEAD, None, wave_loss=loss * float(waves), half_gemm_FLOPps=_value(values, "half_gemm_FLOPps") * gain)
            for gain in gains
        ]
        return {HEAD: np.stack([row[at] for at, row in enumerate(rows)])}
    if gemm.name.startswith("expert_"):
        return _replaced_experts(values, gemm, gains, waves)
    overrides: Overrides = {}
    for (name, kind, rows_of), gain in zip(_places(values, gemm), gains * len(gemm.kinds), strict=True):
        assert rows_of is not None
        rate = _value(values, "gemm_FLOPps") * np.where(rows_of, gain, 1.0)
        lossy = loss * np.where(rows_of, float(waves), 1.0)
        per_kind = overrides.setdefault(name, _members(values, name))
        per_kind[kind] = _call(values, name, kind, gemm_FLOPps=rate, wave_loss=lossy)
    return overrides


def _replaced_experts(values: Values, gemm: Gemm, gains: Sequence[float], waves: bool) -> Overrides:
    """As `_replaced`, for one of the two products that the expert quantities add up."""
    mine = np.array([[gemm.name == "expert_up"], [gemm.name == "expert_down"]])
    overrides: Overrides = {}
    for (name, kind, _), gain in zip(_places(values, gemm), list(gains) * len(gemm.kinds), strict=True):
        rate = _value(values, "grouped_FLOPps") * np.where(mine, gain, 1.0)
        lossy = values["wave_loss"] * np.where(mine, float(waves), 1.0)
        per_kind = overrides.setdefault(name, _members(values, name))
        per_kind[kind] = _call(values, name, kind, grouped_FLOPps=rate, wave_loss=lossy)
    return overrides


def _tile_gain(m: float, n: float) -> float:
    """How much less is computed where the tiles cover the result exactly."""
    whole = float(kernels.tiles(np.atleast_1d(m), np.atleast_1d(n))[0])
    return whole * kernels.TILE_LONG * kernels.TILE_SHORT / (m * n)


def _call(values: Values, name: str, kind: str | None, **changed: Array) -> Array:
    """One quantity by its own equation, some inputs changed."""
    node = graph.REGISTRY[name]
    return node.function(*(changed[p] if p in changed else _input(values, p, kind) for p in node.inputs))


def _input(values: Values, name: str, kind: str | None) -> Any:
    for key in ((name, kind), (name, None), f"{name}[{kind}]", name):
        if key in values:
            return values[key]
    raise KeyError(name)


def _value(values: Values, name: str) -> Array:
    return values[(name, None)]


def _members(values: Values, name: str) -> dict[str, Array]:
    return {key[1]: value for key, value in values.items() if isinstance(key, tuple) and key[0] == name}


def _row(values: Values, name: str, kind: str, at: int) -> float:
    return float(np.ravel(values[(name, kind)][at])[0])


def _scalar(values: Values, name: str) -> float:
    return float(np.ravel(_input(values, name, None))[0])
