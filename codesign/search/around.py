"""A search around a plan: the fields of its layout that are named are open, all others stay as the plan has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from codesign.planner import Plan
from codesign.search import choices, whynot
from codesign.search.space import Space, Watch, of, unwatched
from codesign.spec import domains, schema

OPENABLE = (
    "tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch", "schedule", "sharding", "reshard_after_forward", "sharding_group",
    "sequence_parallel", "cp_style", "recompute", "stages", "offload", "order",
)  # fmt: skip
_DEGREES = {"tp", "pp", "cp"}


@dataclass(frozen=True)
class Question:
    """A spec as plain data, and the fields of its layout that are open."""

    data: Mapping[str, Any]
    free: tuple[str, ...]

    def space(self, watch: Watch = unwatched) -> Space:
        """What is to be searched; `watch` as of `space.of`. Raises SpecError."""
        return of(domains.load(self.data, (), self.free), watch)


def openable(plan: Plan) -> list[str]:
    """Fields of the layout that may be searched for this plan's model."""
    dense = plan.problem.spec.model.moe is None
    return [name for name in OPENABLE if not (dense and name in ("ep", "etp"))]


def question(
    plan: Plan, data: Mapping[str, Any], free: Sequence[str], search: Mapping[str, Any] | None = None
) -> Question:
    """The search around a plan. `data`: its spec as it is written; `search`: fields in place of those of its section.

    Fields that are not open are held at what the plan has there, where that has an effect, however they are written: the
    question stays the same when one of its answers is taken over.
    """
    opened = [*free, *_follow(free)]
    written = data["layout"] if isinstance(data.get("layout"), dict) else {}
    layout = {name: written[name] for name in choices.INNER if written.get(name) is not None} | _has(plan)
    if {"pp", "vpp", "schedule"} & set(free):
        layout["stages"] = "default"  # those of another pipeline
    section = data["search"] if isinstance(data.get("search"), dict) else {}
    held = {name: value for name, value in layout.items() if name not in opened}
    return Question({**data, "layout": held, "search": {**section, **(search or {})}}, tuple(dict.fromkeys(opened)))


def _follow(free: Sequence[str]) -> list[str]:
    """What follows from open fields, and what is written for the values that they have now."""
    opened = ["dp"] if _DEGREES & set(free) else []
    if {"pp", "vpp", "schedule"} & set(free):
        opened += ["vpp", "schedule", "first_stage_layers", "last_stage_layers"]
    opened += ["sequence_parallel"] * ("tp" in free) + ["cp_style"] * ("cp" in free)
    if "sharding" in free:
        opened += ["sharding_group", "reshard_after_forward", "prefetch"]
    return opened


def _has(plan: Plan) -> dict[str, Any]:
    """The fields of the layout that have an effect in the plan, as a spec takes them."""
    layout: dict[str, Any] = plan.resolved()["layout"]
    model = plan.problem.spec.model
    drop = set(choices.INNER)
    drop |= set() if layout["tp"] > 1 else {"sequence_parallel"}
    drop |= set() if layout["cp"] > 1 else {"cp_style"}
    drop |= set() if layout["pp"] > 1 else {"schedule", "vpp"}
    drop |= set() if model.moe else {"ep", "etp"}
    drop |= set() if layout["sharding"] == "hsdp" else {"sharding_group"}
    found = {name: value for name, value in layout.items() if name not in drop and value is not None}
    found.setdefault("stages", "default")
    if layout["cp"] > 1:
        found["cp_style"] = plan.problem.structural()["cp_style"]
    found["recompute"] = _recompute(found["recompute"])
    return found


def _recompute(value: Any) -> Any:
    """As short as a spec takes it."""
    if isinstance(value, str):
        return value
    given = {name: one for name, one in value.items() if one and not (name == "fraction" and one == 1.0)}
    if given.get("modules") == ["core_attn"] or given["granularity"] != "selective":
        given.pop("modules", None)
    return given["granularity"] if len(given) == 1 else given


# ---------------------------------------------------------------------------------------------------- taking one over


def changes(fields: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """What turns the written spec `data` into this candidate: (dotted field, YAML text); None where it is as written.
    """
    written = data["layout"] if isinstance(data.get("layout"), dict) else {}
    found: list[tuple[str, str | None]] = []
    layout = {name.removeprefix("layout."): value for name, value in fields.items() if name.startswith("layout.")}
    for name in schema.Layout.model_fields:
        default = _DEFAULTS.get(name)
        there = _text(name, written.get(name, default))
        wanted = _text(name, layout.get(name, default))
        found.append((f"layout.{name}", None if wanted == there else wanted))
    for field in (domains.BATCH, "cluster.accelerators"):
        section, _, name = field.partition(".")
        chosen = fields[field]
        found.append((field, None if data.get(section, {}).get(name) == chosen else str(chosen)))
    for key, value in fields.get("cluster.override", {}).items():
        found.append((f"cluster.override.{key}", str(value)))
    return tuple(found)


def _text(name: str, value: Any) -> str:
    """A value of a layout's field as YAML, one way of writing it."""
    plain = yaml.safe_load(whynot.flow(value))
    return whynot.flow(_recompute(plain) if name == "recompute" else plain)


_DEFAULTS: dict[str, Any] = {
    name: json.loads(json.dumps(value.model_dump() if isinstance(value, schema.Section) else value))
    for name, value in schema.Layout().__dict__.items()
}

__all__ = ["OPENABLE", "Question", "changes", "openable", "question"]
