"""Shapes for a page: suggestions for the axes, the ranking as rows and points, and how to take a shape over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesign.planner import Plan
from codesign.report import shapes as words
from codesign.report import view
from codesign.search import sensitivity, shape_space, shapes
from codesign.search.sensitivity import Sensitivity
from codesign.spec import schema

SPREAD = (0.625, 0.75, 0.875, 1.0, 1.125, 1.25, 1.375)  # of the present value: what is suggested for an axis
MOST_TAKEN = 40
AUTOMATIC = "automatic"

_MOE = ("experts", "top_k", "expert_ffn", "shared_expert_ffn")


@dataclass(frozen=True)
class Page:
    """A ranking. `points`: x, y, role and the rank, by which `models` and `named` know a shape."""

    summary: str
    rows: Sequence[Mapping[str, Any]]
    points: Sequence[Mapping[str, Any]]
    titles: tuple[str, str]
    roles: Sequence[str]
    legend: Sequence[str]
    rejected: Sequence[Mapping[str, str]]
    notes: Sequence[str]
    named: Mapping[int, str]
    dims: Mapping[int, shapes.ShapeRow]


def axes_of(plan: Plan) -> list[str]:
    """Dimensions that this model has."""
    model = plan.problem.spec.model
    out = set() if model.moe else set(shape_space.EXPERT_AXES)
    out |= {"kv_heads", "head_dim"} if model.mla else set()
    out |= set() if model.ffn else {"ffn"}
    return [name for name in shape_space.AXES if name not in out]


def suggested(plan: Plan, name: str) -> str:
    """Values around the present one, in steps that the layout divides, as a text that `values` reads."""
    spec, layout = plan.problem.spec, plan.resolved()["layout"]
    model = spec.model
    size = model.head_dim or model.hidden // model.heads
    now = {
        "kv_heads": model.kv_heads or model.heads, "head_dim": size,
        **{one: getattr(model.moe, one) for one in shape_space.EXPERT_AXES if model.moe},
    }.get(name) or getattr(model, name)
    unit = {
        "layers": layout["pp"] * layout["vpp"], "hidden": size * layout["tp"], "heads": layout["tp"], "head_dim": 32,
        "ffn": 128 * layout["tp"], "experts": layout["ep"], "expert_ffn": 128 * (layout.get("etp") or 1),
        "vocab": 128 * layout["tp"],
    }.get(name, 1)
    least = model.vocab if name == "vocab" else 1
    found = {now + round(now * (share - 1.0) / unit) * unit for share in SPREAD}
    return ", ".join(str(value) for value in sorted(found) if value >= least)


def values(name: str, text: str) -> tuple[int, ...]:
    """The values of an axis: `80, 96, 126` or `64:160:8`. Raises SpecError."""
    return shape_space.parse_axis(f"{name}={text}")[1]


def is_solved(equal: str) -> bool:
    """Whether a constraint is held by solving a dimension."""
    return equal in shape_space.SOLVED


def page(table: shapes.ShapeTable) -> Page:
    """The rows of a ranking."""
    rows = [{"rank": str(at), **{name: str(v) for name, v in row.items()}} for at, row in enumerate(words.shapes_table(table), 1)]
    days = any(row.days_at_equal_loss is not None for row in table.rows)
    y = "predicted loss, nats a token" if table.equal == "wall_clock" else "days to the base's loss" if days else "step time, s"
    points = []
    for at, row in enumerate(table.rows, 1):
        value = row.predicted_loss if table.equal == "wall_clock" else row.days_at_equal_loss if days else row.step_s
        if value is not None:
            role = "this plan" if row.is_base else "best" if at == 1 else "slower"
            points.append({"x": row.aspect_ratio, "y": value, "rank": at, "role": role, "layout": _named(row)})
    return Page(
        words.shapes_summary(table), rows, points, ("hidden size over layers", y), [str(point["role"]) for point in points],
        words.legend(table),
        [{"left out": why, "shapes": f"{count:,}"} for why, count in table.rejected.items()], table.notes,
        {at: f"{at}. {_named(row)}" for at, row in enumerate(table.rows[:MOST_TAKEN], 1) if not row.is_base},
        dict(enumerate(table.rows, 1)),
    )


def _named(row: shapes.ShapeRow) -> str:
    inside = f"experts {row.top_k}/{row.experts} x {row.expert_ffn}" if row.experts else f"ffn {row.ffn}"
    return f"{row.layers} layers x {row.hidden}, {row.heads} heads, {inside}"


def said(found: Page) -> str:
    """The scatter in words."""
    first = next(iter(found.dims.values()), None)
    return found.summary + (f". Best: {_named(first)}" if first else "")


# ---------------------------------------------------------------------------------------------------- taking one over


def changes(base: schema.Model, row: shapes.ShapeRow, data: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """What turns the written spec `data` into one with this shape: (dotted field, YAML text), None where it is as written.

    `base`: the model that was ranked.
    """
    model = shapes.model_of(base, row)
    written = data["model"] if isinstance(data.get("model"), dict) else {}
    own = {"kv_heads": model.heads, "head_dim": model.hidden // model.heads}  # what follows where nothing is written
    found = []
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab"):
        value, there = getattr(model, name), written.get(name)
        same = value == there or (there is None and value in (None, own.get(name)))
        found.append((f"model.{name}", None if same else str(value)))
    for name in _MOE if model.moe else ():
        value, there = getattr(model.moe, name), (written.get("moe") or {}).get(name)
        found.append((f"model.moe.{name}", None if value == there else str(value)))
    return found


# ---------------------------------------------------------------------------------------------------- what it answers to


def answers_to(plan: Plan) -> Sensitivity:
    """What the step answers to."""
    return sensitivity.sensitivity(plan)


def swing_rows(found: Sensitivity) -> list[dict[str, Any]]:
    """Both ends of the step for each resource that moves it, against the step as it is."""
    now = found.plan.step_s
    return [
        {"resource": row.resource, "low_s": low, "high_s": high,
         "less": _moved(row.low_s, now), "more": _moved(row.high_s, now)}
        for row in found.tornado for low, high in [sorted((row.low_s, row.high_s))] if row.swing_s > view.SMALL_SHARE * now
    ]  # fmt: skip


def _moved(then: float, now: float) -> str:
    return view.signed_percent(then / now - 1.0)


def swing_table(found: Sensitivity) -> list[dict[str, str]]:
    """The same in words."""
    less, more = f"{view.percent(found.less, 0)} less", f"{view.percent(found.more, 0)} more"
    return [{"resource": row["resource"], f"step with {less}": row["less"], f"step with {more}": row["more"]}
            for row in swing_rows(found)]  # fmt: skip


def balance_table(found: Sensitivity) -> list[dict[str, str]]:
    """What each rate binds of the step, against its fair share."""
    return [
        {"rate": rate.resource, "binds": view.percent(rate.share), "fair share": view.percent(rate.fair), "verdict": rate.verdict}
        for rate in found.balance.rates
    ]


def balance_line(found: Sensitivity) -> str:
    """Whether the hardware is in balance, in a sentence."""
    state = "in balance" if found.balance.balanced else "not in balance"
    return f"The rates are {state} for this step, which is bound by: {found.balance.bound_by}."
