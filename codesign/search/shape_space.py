"""The space of model shapes: axes, the shapes that they span, and the one dimension that is solved to hold a count equal."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign import planner
from codesign.errors import SpecError
from codesign.quantities.parameters import count_parameters
from codesign.spec import resolve, schema

AXES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "experts", "top_k", "expert_ffn", "vocab")
EXPERT_AXES = ("experts", "top_k", "expert_ffn")
EQUAL = ("parameters", "active_parameters", "training_flops", "loss", "wall_clock")
SOLVED = ("parameters", "active_parameters", "training_flops")  # constraints that one free dimension holds
FREE = ("ffn", "expert_ffn", "layers")
ROUND_TO = (1024, 512, 256, 128, 64)  # widths: whole tiles and whole rows of 128 bytes, the coarsest that holds
TOLERANCE = 0.02
FFN_RATIOS = (0.5, 16.0)  # FFN over hidden size; beyond, nothing was ever trained
MOST_SHAPES = 100_000
MOST_VALUES = 10_000  # of one axis


@dataclass(frozen=True)
class Shape:
    """One model with its counts, or the reason why there is none."""

    dims: Mapping[str, int]
    model: schema.Model | None
    reason: str = ""


# ---------------------------------------------------------------------------------------------------- axes


def parse_axis(text: str) -> tuple[str, tuple[int, ...]]:
    """`hidden=8192:20480:1024` (both ends), `layers=80,96,126` or `kv_heads=8`, as (name, values). Raises SpecError."""
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise SpecError(f"axis {text!r}: write NAME=FIRST:LAST:STEP or NAME=A,B,C, for example hidden=8192:20480:1024")
    found: list[int] = []
    for part in values.split(","):
        ends = [_whole(end, text) for end in part.split(":")]
        if len(ends) == 1:
            found += ends
        elif len(ends) in (2, 3):
            found += _range(ends, text)
        else:
            raise SpecError(f"axis {text!r}: {part!r} is no range; write FIRST:LAST:STEP")
    return check_axis(name, found)


def _whole(text: str, axis: str) -> int:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value):
        raise SpecError(f"axis {axis!r}: {text.strip()!r} is no whole number")
    return int(value)


def _range(ends: Sequence[int], axis: str) -> list[int]:
    first, last, step = ends[0], ends[1], ends[2] if len(ends) == 3 else 1
    if step < 1 or last < first:
        raise SpecError(f"axis {axis!r}: the range is empty; write FIRST:LAST:STEP with FIRST <= LAST and STEP > 0")
    if (last - first) // step >= MOST_VALUES:
        raise SpecError(f"axis {axis!r}: {(last - first) // step + 1:,} values, at most {MOST_VALUES:,}: take a larger step")
    return list(range(first, last + 1, step))


def check_axis(name: str, values: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """An axis by name with its values in order, each once. Raises SpecError."""
    if name not in AXES:
        near = difflib.get_close_matches(name, AXES, 1, 0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SpecError(f"unknown axis {name!r}.{hint} Allowed: {', '.join(AXES)}", field=name)
    if not values:
        raise SpecError(f"axis {name}: no value", field=name)
    if min(values) < 1:
        raise SpecError(f"axis {name}: {min(values)} is below 1", field=name)
    return name, tuple(sorted(set(values)))


def check_axes(model: schema.Model, axes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """All axes, checked against the model that they vary. Raises SpecError."""
    checked = dict(check_axis(name, values) for name, values in axes.items())
    for name in checked:
        if name in EXPERT_AXES and model.moe is None:
            raise SpecError(f"axis {name}: {model.name} is dense, it has no experts", field=name)
        if name in ("kv_heads", "head_dim") and model.mla:
            raise SpecError(f"axis {name}: {model.name} has latent attention, which states its own head sizes", field=name)
        if name == "ffn" and model.ffn is None:
            raise SpecError(f"axis ffn: {model.name} has no dense layer; its experts' width is expert_ffn", field=name)
    if min(checked.get("vocab", (model.vocab,))) < model.vocab:
        reason = f"the axis pads the {model.vocab} entries of {model.name}: fewer would be another tokenizer"
        raise SpecError(f"axis vocab: {min(checked['vocab'])}: {reason}", field="vocab")
    total = math.prod(len(values) for values in checked.values())
    if total > MOST_SHAPES:
        sizes = ", ".join(f"{name} {len(values)}" for name, values in checked.items())
        raise SpecError(f"{total:,} shapes ({sizes}), at most {MOST_SHAPES:,}: take larger steps or fewer axes")
    return checked


def free_dimension(model: schema.Model, axes: Mapping[str, Sequence[int]], equal: str, free: str | None) -> str | None:
    """The dimension that is solved, none under loss and wall clock. Raises SpecError."""
    if equal not in EQUAL:
        near = difflib.get_close_matches(equal, EQUAL, 1, 0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SpecError(f"unknown constraint {equal!r}.{hint} Allowed: {', '.join(EQUAL)}", field="equal")
    if equal not in SOLVED:
        if free is not None:
            raise SpecError(f"free {free}: nothing is solved under equal {equal}, which moves the tokens", field="free")
        return None
    width = "expert_ffn" if model.moe else "ffn"
    if free is None:
        free = next((name for name in (width, "layers") if name not in axes), None)
        if free is None:
            raise SpecError(f"{width} and layers are both axes: none is left to hold {equal} equal; leave one of them out")
    if free not in (width, "layers"):
        raise SpecError(f"free {free}: {width} or layers can be solved", field="free")
    if free in axes:
        raise SpecError(f"{free} is an axis and is to be solved as well: leave it out of one", field="free")
    return free


# ---------------------------------------------------------------------------------------------------- shapes


def shapes(
    spec: schema.Spec, axes: Mapping[str, Sequence[int]], equal: str, free: str | None, tolerance: float
) -> Iterator[Shape]:
    """Every combination of the axes, with the free dimension solved; combinations that make no model have a reason.

    What is neither an axis nor solved follows the base: head size, the ratio of attention's width and of the FFN to the hidden
    size; KV heads stay where they divide the heads, else the heads that share one stay.
    """
    base = spec.model
    target = count(spec, base, equal) if free else 0.0
    for values in itertools.product(*axes.values()):
        dims = dict(zip(axes, values, strict=True))
        model, reason = _model(base, dims)
        if model is None:
            yield Shape(dims, None, reason)
        elif free is None:
            yield Shape(dims, model)
        else:
            solved = solve(model, free, target, tolerance, lambda one: count(spec, one, equal))
            yield Shape(dims, solved, "" if solved else f"no {free} holds {equal} within {100 * tolerance:g} %")


def _model(base: schema.Model, dims: Mapping[str, int]) -> tuple[schema.Model | None, str]:
    """The base with some dimensions set and the others following, or why there is no such model."""
    hidden = dims.get("hidden", base.hidden)
    update: dict[str, Any] = {name: dims[name] for name in ("layers", "vocab") if name in dims} | {"hidden": hidden}
    heads, reason = _heads(base, dims, hidden)
    if reason:
        return None, reason
    update |= heads
    if base.ffn is not None:
        update["ffn"] = dims.get("ffn") or _follow(base.ffn, hidden, base.hidden)
    if base.moe is not None:
        moe = base.moe
        experts = {name: dims[name] for name in EXPERT_AXES if name in dims}
        experts.setdefault("expert_ffn", _follow(moe.expert_ffn, hidden, base.hidden))
        if moe.shared_expert_ffn:
            experts["shared_expert_ffn"] = _follow(moe.shared_expert_ffn, experts["expert_ffn"], moe.expert_ffn)
        if experts.get("top_k", moe.top_k) > experts.get("experts", moe.experts):
            return None, "more experts active than there are"
        update["moe"] = moe.model_copy(update=experts)
        if update.get("layers", base.layers) <= moe.dense_layers:
            return None, "no layer is left for the experts"
    return base.model_copy(update=update), ""


def _heads(base: schema.Model, dims: Mapping[str, int], hidden: int) -> tuple[dict[str, int], str]:
    """Heads, their size and KV heads at the base's ratio of attention's width to the hidden size."""
    if base.mla:
        heads = dims.get("heads") or _exact(base.heads * hidden, base.hidden)
        return ({"heads": heads}, "") if heads else ({}, "the heads do not follow the hidden size")
    size = base.head_dim or base.hidden // base.heads
    width = _exact(base.heads * size * hidden, base.hidden)
    if "heads" in dims and "head_dim" in dims:
        heads, size = dims["heads"], dims["head_dim"]
    elif "heads" in dims:
        heads, size = dims["heads"], _exact(width, dims["heads"])
    else:
        size = dims.get("head_dim", size)
        heads = _exact(width, size)
    if not (heads and size):
        return {}, "no whole number of heads, or no whole head size"
    own = dims.get("kv_heads") or base.kv_heads or base.heads
    if "kv_heads" not in dims and (own == base.heads or heads % own):
        own = _exact(heads * own, base.heads)
    if not own or heads % own:
        return {}, "the KV heads do not divide the heads"
    return {"heads": heads, "head_dim": size, "kv_heads": own}, ""


def _exact(total: int, by: int) -> int:
    """The quotient where it is whole, else 0."""
    return total // by if total % by == 0 else 0


def _follow(width: int, now: int, before: int) -> int:
    """A width at the base's ratio, in multiples of 128; the base's own where nothing moved."""
    return width if now == before else max(round(width * now / before / 128), 1) * 128


# ---------------------------------------------------------------------------------------------------- counts


def count(spec: schema.Spec, model: schema.Model, equal: str) -> float:
    """What a constraint holds: parameters, those that one token uses, or model FLOPs a token (equal tokens)."""
    if equal == "training_flops":
        return token_model_FLOP(spec, model)
    counted = count_parameters(model)
    return float(counted.total + counted.mtp if equal == "parameters" else counted.active_with_embeddings)


def token_model_FLOP(spec: schema.Spec, model: schema.Model) -> float:
    """Model FLOPs of one trained token, causal attention: the planner's own quantity; no layout changes it."""
    alone = spec.model_copy(
        update={
            "model": model,
            "training": spec.training.model_copy(update={"global_batch_sequences": 64}),
            "layout": schema.Layout(tp=1, pp=1, micro_batch=1),
            "cluster": spec.cluster.model_copy(update={"accelerators": 1}),
        }
    )
    values = planner.evaluate([resolve.resolve(alone)], ("token_model_FLOP",))
    return float(np.ravel(values[("token_model_FLOP", None)])[0])


def solve(
    model: schema.Model, free: str, target: float, tolerance: float, counted: Callable[[schema.Model], float]
) -> schema.Model | None:
    """The model with `free` such that `counted` is `target` within `tolerance`; the count is linear in it.

    Layers are whole; a width is the nearest multiple of the coarsest of 1,024, 512, 256, 128 and 64 that holds. None where
    nothing holds, or the FFN is narrower than half or wider than 16 times the hidden size.
    """
    low, high = (2, 4) if free == "layers" else (1024, 2048)
    if free == "layers" and model.moe:
        # whole rounds of dense and MoE layers keep the count linear
        low = model.moe.dense_layers + model.moe.every
        high = low + model.moe.every
    at_low, at_high = (counted(with_free(model, free, value)) for value in (low, high))
    exact = low + (target - at_low) * (high - low) / (at_high - at_low)
    for unit in (1,) if free == "layers" else ROUND_TO:
        value = round(exact / unit) * unit
        if value < 1 or not _sensible(model, free, value):
            continue
        found = with_free(model, free, value)
        if abs(counted(found) / target - 1.0) <= tolerance:
            return found
    return None


def with_free(model: schema.Model, free: str, value: int) -> schema.Model:
    """The model with its free dimension set."""
    if free == "expert_ffn":
        assert model.moe is not None
        update: dict[str, Any] = {"expert_ffn": value}
        if model.moe.shared_expert_ffn:
            update["shared_expert_ffn"] = _follow(model.moe.shared_expert_ffn, value, model.moe.expert_ffn)
        return model.model_copy(update={"moe": model.moe.model_copy(update=update)})
    return model.model_copy(update={free: value})


def _sensible(model: schema.Model, free: str, value: int) -> bool:
    if free == "layers":
        return model.moe is None or value > model.moe.dense_layers
    if free == "expert_ffn":
        return value <= FFN_RATIOS[1] * model.hidden
    return FFN_RATIOS[0] * model.hidden <= value <= FFN_RATIOS[1] * model.hidden
