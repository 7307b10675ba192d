"""Why not this layout: which limits it breaks, by how much, and the cheapest change that lifts them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from codesign import errors, graph, planner, units
from codesign.quantities import constraints
from codesign.search.space import Space
from codesign.spec import domains, schema

LIFTS = 3


@dataclass(frozen=True)
class Broken:
    """One limit that does not hold."""

    reason: str  # memory, heads, batch, ...; `spec` where the combination does not exist
    message: str
    by: float | None  # how far over, as a share of the limit; None for a division


@dataclass(frozen=True)
class Lift:
    """One change after which the layout can run, and what a step then takes."""

    change: str
    sets: tuple[str, ...]
    step_s: float


@dataclass(frozen=True)
class Refusal:
    """A layout that cannot run."""

    layout: Mapping[str, Any]
    broken: tuple[Broken, ...]
    lifts: tuple[Lift, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "layout": dict(self.layout),
            "broken": [vars(b) for b in self.broken],
            "lifts": [{"change": lift.change, "set": list(lift.sets), "step_s": lift.step_s} for lift in self.lifts],
        }


def broken(spec: schema.Spec, margin_B: float = 0.0) -> tuple[Broken, ...]:
    """Every limit that the spec's layout breaks; empty where it can run."""
    try:
        plan = planner.plan(spec)
    except errors.SpecError as error:
        return (Broken((error.field or "spec").rpartition(".")[2], error.message, None),)
    found = []
    for name in constraints.CONSTRAINTS:
        message = graph.REGISTRY[name].message
        if not plan.value(name) and message is not None:
            over = plan.value("peak_B") / plan.value("memory_B") - 1.0 if name == "fits_memory" else None
            found.append(Broken(name.removeprefix("fits_").removeprefix("allows_"), message(plan.values), over))
    spare = plan.value("memory_B") - plan.value("peak_B")
    if 0.0 <= spare < margin_B:
        message_text = f"memory margin: {units.show(spare, 'B')} stay free, {units.show(margin_B, 'B')} are wanted"
        found.append(Broken("memory margin", message_text, (margin_B - spare) / plan.value("memory_B")))
    return tuple(found)


def first(space: Space) -> schema.Spec:
    """The layout as it was asked for, where nothing of it divides: first values of what is written, of the rest what is least."""
    tried, written, base = space.searched, space.open.domains, space.open.spec
    fields: dict[str, Any] = {name: tried[name][0] for name in ("tp", "pp", "micro_batch") if tried[name]}
    fields |= {name: domain.values[0] for name, domain in written.items()}
    if isinstance(fields.get("recompute"), tuple):
        fields["recompute"] = fields["recompute"][0]
    if fields.get("stages") == "balanced":
        del fields["stages"]
    layout = schema.Layout.model_validate(fields)
    return base.model_copy(update={"layout": layout, "search": None})


def refusal(space: Space, spec: schema.Spec) -> Refusal:
    """Why the spec's layout cannot run in this space, and the cheapest single changes after which it can."""
    margin = space.open.search.memory_margin or 0.0
    layout = spec.layout.model_dump(mode="json", exclude_none=True)
    if not layout["overlap"]:
        del layout["overlap"]
    return Refusal(layout, broken(spec, margin), tuple(_lifts(space, spec, margin)))


def _lifts(space: Space, spec: schema.Spec, margin: float) -> list[Lift]:
    found: list[Lift] = []
    for change, sets, changed in _changes(space, spec):
        try:
            plan = planner.plan(changed)
        except errors.SpecError:
            continue
        if plan.feasible and plan.value("memory_B") - plan.value("peak_B") >= margin:
            found.append(Lift(change, sets, plan.step_s))
    found += _larger_memory(spec, margin)
    cheapest: dict[str, Lift] = {}
    for lift in sorted(found, key=lambda lift: lift.step_s):
        cheapest.setdefault(lift.change.partition(" ")[0], lift)  # of each field the best value
    return sorted(cheapest.values(), key=lambda lift: lift.step_s)[:LIFTS]


def _changes(space: Space, spec: schema.Spec) -> Iterator[tuple[str, tuple[str, ...], schema.Spec]]:
    """Every other value of one field: what the space tries and, for numbers, the neighbours that divide."""
    layout = spec.layout
    tried = space.searched
    for name in ("tp", "pp", "cp", "ep", "micro_batch", "vpp", "sharding", "sequence_parallel"):
        values = set(tried.get(name, ())) | _neighbours(name, getattr(layout, name), space)
        for value in sorted(values, key=str):
            if value != getattr(layout, name) and value is not None:
                yield _change(f"{name} {value}", spec, {name: value, **_follows(name, value)})
    for share in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0):
        recompute = schema.Recompute(granularity="full", fraction=share)
        yield _change(f"recompute of {share:.1%} of the layers", spec, {"recompute": recompute})
    for recompute in tried.get("recompute", ()):
        if isinstance(recompute, schema.Recompute) and recompute.modules:
            yield _change(f"recompute of {', '.join(recompute.modules)}", spec, {"recompute": recompute})
    if not layout.offload.optimizer and any(o.optimizer for o in tried.get("offload", ())):
        moved = layout.offload.model_copy(update={"optimizer": True})
        yield _change("offload of the optimizer", spec, {"offload": moved})
    yield from _batches(space, spec)
    for factor in (2, 4, 8):
        count = spec.cluster.accelerators * factor
        larger = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"accelerators": count})})
        _, sets, changed = _change("", larger, {"dp": None})
        yield f"accelerators {count:,}", (f"cluster.accelerators={count}", *sets), changed


def _follows(name: str, value: Any) -> dict[str, Any]:
    """What a changed field takes with it: it follows anew, or has no meaning any more."""
    found: dict[str, Any] = {"dp": None} if name in ("tp", "pp", "cp") else {}
    if name in ("vpp", "pp"):
        found |= {"schedule": None, "stages": None}
    if name == "tp" and value == 1:
        found["sequence_parallel"] = None
    if name == "cp" and value == 1:
        found["cp_style"] = None
    if name == "sharding":
        found |= {"reshard_after_forward": None, "sharding_group": None, "prefetch": None}
    return found


def _change(words: str, spec: schema.Spec, update: Mapping[str, Any]) -> tuple[str, tuple[str, ...], schema.Spec]:
    """A change of some fields of the layout: in words, as `--set` arguments, and made."""
    moved = {name: value for name, value in update.items() if value != getattr(spec.layout, name)}
    sets = tuple(f"layout.{name}={flow(value)}" for name, value in moved.items())
    return words, sets, spec.model_copy(update={"layout": spec.layout.model_copy(update=moved)})


def flow(value: Any) -> str:
    """A value as YAML reads it, in one line."""
    plain = json.loads(json.dumps(value, default=_plain))
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(section: schema.Section) -> dict[str, Any]:
    data = section.model_dump(mode="json", exclude_none=True)
    if data.get("granularity") == "full":
        del data["modules"]
    return data


def _neighbours(name: str, value: Any, space: Space) -> set[Any]:
    """Half and double, where a number is stated: a fixed field may be what stands in the way."""
    if name not in ("tp", "pp", "cp", "ep", "micro_batch") or value is None:
        return set()
    near = {int(value) * 2, int(value) // 2} - {0}
    return near if name != "ep" or space.open.spec.model.moe else set()


def _batches(space: Space, spec: schema.Spec) -> Iterator[tuple[str, tuple[str, ...], schema.Spec]]:
    """The nearest global batches that are whole micro-batches on every rank."""
    layout, batch = spec.layout, spec.training.global_batch_sequences
    ranks = spec.cluster.accelerators * space.profile.ranks_per_accelerator
    inner = (layout.tp or 1) * (layout.pp or 1) * layout.cp
    unit = max(int((layout.dp or max(ranks // inner, 1)) * (layout.micro_batch or 1)), 1)
    for value in sorted({batch // unit * unit, -(-batch // unit) * unit} - {0, batch}):
        training = spec.training.model_copy(update={"global_batch_sequences": value})
        yield f"global_batch {value}", (f"{domains.BATCH}={value}",), spec.model_copy(update={"training": training})


def _larger_memory(spec: schema.Spec, margin: float) -> Iterator[Lift]:
    """The device memory with which the layout as it is would fit."""
    try:
        plan = planner.plan(spec)
    except errors.SpecError:
        return
    if [name for name in constraints.CONSTRAINTS if not plan.value(name) and name != "fits_memory"]:
        return
    need = plan.value("peak_B") + margin
    if need > plan.value("memory_B"):
        per = need * plan.value("ranks_per_accelerator")
        text = f"{math.ceil(per / 2**30 * 100) / 100:g} GiB"
        yield Lift(f"memory of {text} an accelerator", (f"cluster.override.accelerator.memory_B={text}",), plan.step_s)


__all__ = ["Broken", "Lift", "Refusal", "broken", "first", "flow", "refusal"]
