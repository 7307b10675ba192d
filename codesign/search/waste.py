"""What a shape wastes: the finding, and how the nearest better value of a field is looked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codesign.search.counterfactual import Case
from codesign.search.gemms import Gemm

TILE = 128  # short side of a tile, and 256 bytes of a 16-bit row
MOST_STEPS = 16  # values that are tried in each direction
WINDOW = 0.25  # a value further away, relative, is another model
MODEL = "the plan's own equations"


@dataclass(frozen=True)
class Better:
    """A value nearby, and the seconds a step of the waste that it saves at equal model FLOPs."""

    value: float
    saves_s: float


@dataclass(frozen=True)
class Finding:
    """One waste: what, where, what it costs in seconds a step, the nearest better values.

    `on_top_s` is the part of the cost that the step of the plan does not hold, because the model has no term for it;
    `basis` says what the cost rests on. `cost_s` null: no source gives one; `message` says why. `refused`: the layout
    does not run as it is, and the cost is that of the padding that makes it run.
    """

    waste: str
    where: str
    value: float
    message: str
    cost_s: float | None
    basis: str = MODEL
    on_top_s: float = 0.0
    down: Better | None = None
    up: Better | None = None
    gemm: Gemm | None = None
    refused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


Check = Callable[[Case], Iterable[Finding]]


def total_s(findings: Iterable[Finding]) -> float:
    """Seconds a step of all findings, priced one by one: what they cost together is at most about this."""
    return math.fsum(finding.cost_s or 0.0 for finding in findings)


# ---------------------------------------------------------------------------------------------------- fields


def head_dim(case: Case) -> int:
    """Head size of the model, MLA aside."""
    model = case.spec.model
    return model.head_dim or model.hidden // model.heads


def kv_heads(case: Case) -> int:
    """Key and value heads, as many as heads where nothing else is said."""
    return case.spec.model.kv_heads or case.spec.model.heads


def coupled(case: Case, field: str, value: int) -> Mapping[str, Any] | None:
    """What changes with a field: heads follow the hidden size at equal head size, KV heads follow where each has its own.

    None where no such model exists.
    """
    model = case.spec.model
    if field not in ("model.hidden", "model.heads") or model.mla:
        return {field: value}
    size, heads = head_dim(case), value
    if field == "model.hidden":
        if model.heads * size != model.hidden:
            return {field: value}
        if value % size:
            return None
        heads = value // size
    own = heads if kv_heads(case) == model.heads else kv_heads(case)
    if heads % own:
        return None
    return {field: value, "model.head_dim": size, "model.heads": heads, "model.kv_heads": own}


def unit(case: Case, field: str) -> int:
    """The step in which a field is tried: whole tiles on every rank, whole heads, half as coarse where that is too coarse."""
    layout, model = case.spec.layout, case.spec.model
    tp, etp = layout.tp or 1, layout.etp or 1
    if field == "model.hidden" and not model.mla and model.heads * head_dim(case) == model.hidden:
        whole = math.lcm(TILE, head_dim(case) * tp)
    else:
        whole = {
            "model.ffn": TILE * tp,
            "model.vocab": TILE * tp,
            "model.hidden": TILE,
            "model.heads": tp,
            "model.moe.expert_ffn": TILE * etp,
            "model.moe.shared_expert_ffn": TILE * tp,
            "model.moe.experts": layout.ep,
            "training.sequence_length": 2 * TILE * layout.cp,
        }.get(field, TILE // 2)
    while whole > max(field_value(case, field) // 4, 1) and whole % 2 == 0:
        whole //= 2
    return whole


def field_value(case: Case, field: str) -> int:
    """The whole number under a dotted field; the width of shared experts where only their number is written."""
    value: Any = case.spec
    for name in field.split("."):
        value = getattr(value, name)
    if value is None and field == "model.moe.shared_expert_ffn":
        value = case.scalar("shared_ffn")
    return int(value)


def steps(value: int, size: int, up: bool) -> Iterator[int]:
    """Multiples of `size` beyond `value`, nearest first."""
    first = (value // size + 1) * size if up else -(-value // size) * size - size
    for at in range(MOST_STEPS):
        candidate = first + at * size if up else first - at * size
        if candidate > 0:
            yield candidate


def nearest(case: Case, field: str, price_s: Callable[[Case], float | None], *, up: bool) -> Better | None:
    """The nearest value in one direction, at most a quarter away, that is rid of at least half of a waste.

    `price_s`: what the waste costs a step of any case, null where it has no such product. The saving is at equal model
    FLOPs; what else a wider or narrower model gains is the business of the shape search. A value that does not fit
    where the plan fits is no better one.
    """
    value_now, before = field_value(case, field), price_s(case)
    for value in steps(value_now, unit(case, field), up):
        if abs(value - value_now) > WINDOW * value_now:
            break
        fields = coupled(case, field, value)
        other = case.changed(fields) if fields else None
        if before is None or other is None or (case.feasible and not other.feasible):
            continue
        after = price_s(other)
        if after is None:
            continue
        after *= case.step_FLOP / other.step_FLOP
        if after <= 0.5 * before:
            return Better(value, before - after)
    return None
