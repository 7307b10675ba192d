"""Which field of the spec moved the step, and by how much: the fields that differ are switched from A to B one by one.

What a field does depends on the others, so the switching is done in one order and in the reverse order, and the mean of both
is given: the means add up to the whole move, and for two fields they are their Shapley values. A field that alone leaves no
valid spec is switched together with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign import graph, planner
from codesign.errors import CodesignError
from codesign.planner import Plan
from codesign.spec import load, resolve, run

Path = tuple[str, ...]  # a field that can be switched: ("layout", "tp")
Parts = Mapping[str, float]  # part of the step -> seconds

# The order of switching: the machine first, the layout last.
SECTIONS = ("cluster", "software", "input", "model", "training", "layout")
WITHOUT_EFFECT = ("version", "name", "model.name", "model.preset", "training.tokens")
DERIVED = ("layout", "dp")  # follows from the accelerators and the other degrees
# A field that only says how another one is meant is switched with it: the first of these that differs too.
FOLLOWS = {
    "layout.sequence_parallel": ("layout.tp",),
    "layout.cp_style": ("layout.cp",),
    "layout.schedule": ("layout.vpp", "layout.pp"),
    "layout.stages": ("layout.pp", "layout.vpp"),
    "layout.first_stage_layers": ("layout.pp",),
    "layout.last_stage_layers": ("layout.pp", "layout.first_stage_layers"),
    "layout.sharding_group": ("layout.sharding",),
    "layout.reshard_after_forward": ("layout.sharding",),
    "layout.prefetch": ("layout.sharding",),
    "layout.etp": ("layout.ep",),
    "layout.expert_groups_per_token": ("layout.ep",),
    "cluster.fabric": ("cluster.profile",),
    "software.date": ("software.stack",),
}


@dataclass(frozen=True)
class Change:
    """One field of the resolved spec that differs: dotted path, and its value in A and in B (None: not there)."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Effect:
    """What switching some fields from A to B does to the step: in the order of the list, in the reverse order, mean."""

    fields: tuple[str, ...]
    forward_s: float
    backward_s: float
    parts_s: Parts  # mean of both orders

    @property
    def mean_s(self) -> float:
        return 0.5 * (self.forward_s + self.backward_s)


def changes(a: Plan, b: Plan) -> tuple[Change, ...]:
    """Fields of the resolved specs that differ, the machine first, the layout last."""
    before, after = dict(flat(_planned(a))), dict(flat(_planned(b)))
    found = [
        Change(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)
    ]
    return tuple(sorted(found, key=lambda change: _place(change.field)))


def _planned(plan: Plan) -> dict[str, Any]:
    """The resolved spec without what a plan does not read."""
    return {section: part for section, part in plan.resolved().items() if section not in ("search", "review")}


def _place(field: str) -> int:
    section = field.partition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else -1


def flat(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested data under their dotted names; members of a list of mappings under their numbers."""
    for name, value in data.items():
        where = f"{above}.{name}" if above else name
        if isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
            value = {str(at): one for at, one in enumerate(value)}
        if isinstance(value, Mapping):
            yield from flat(value, where)
        else:
            yield where, value


# ---------------------------------------------------------------------------------------------------- what is switched


def _fields(data: Mapping[str, Any]) -> dict[Path, Any]:
    """A spec as the fields that are switched as a whole: those of a section, overrides one by one, the input section."""
    found: dict[Path, Any] = {}
    for section, part in data.items():
        if section == "input" or not isinstance(part, Mapping):
            found[section,] = part
            continue
        for name, value in part.items():
            if (section, name) == ("cluster", "override"):
                found.update({(section, name, key): one for key, one in value.items()})
            else:
                found[section, name] = value
    return found


def _spec(fields: Mapping[Path, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for path, value in fields.items():
        here = data
        for part in path[:-1]:
            here = here.setdefault(part, {})
        here[path[-1]] = value
    return data


def _groups(before: Mapping[Path, Any], after: Mapping[Path, Any]) -> list[tuple[Path, ...]]:
    """Fields that differ, those together that mean one thing, in the order of switching."""
    paths = [path for path in dict.fromkeys([*before, *after]) if path[0] not in run.SECTIONS]
    differ = [path for path in paths if before.get(path) != after.get(path)]
    differ = sorted((path for path in differ if path != DERIVED), key=lambda path: _place(path[0]))
    names = {".".join(path[:2]) for path in differ}
    other_model = bool(names & {"model.preset", "model.name"})
    made: dict[str, list[Path]] = {}
    for path in differ:
        name = ".".join(path)
        if name in WITHOUT_EFFECT and not name.startswith("model."):
            continue
        key = next((leader for leader in FOLLOWS.get(name, ()) if leader in names), name)
        if path[0] == "model" and other_model:
            key = "model"
        if path[:2] == ("cluster", "override") and "cluster.profile" in names:
            key = "cluster.profile"
        made.setdefault(key, []).append(path)
    return [tuple(paths) for paths in made.values() if not {".".join(p) for p in paths} <= set(WITHOUT_EFFECT)]


# ---------------------------------------------------------------------------------------------------- switching


class _Between:
    """The parts of the step of specs between A and B; None where there is no valid one."""

    def __init__(self, a: Plan, b: Plan) -> None:
        self.before, self.after = _fields(_planned(a)), _fields(_planned(b))
        self.groups = _groups(self.before, self.after)
        every = frozenset(path for group in self.groups for path in group)
        self.known: dict[frozenset[Path], Parts | None] = {frozenset(): a.parts, every: b.parts}

    def __call__(self, switched: frozenset[Path]) -> Parts | None:
        if switched not in self.known:
            mixed = {path: self.before.get(path) for path in [*self.before, *self.after]}
            mixed.update({path: self.after.get(path) for path in switched})
            there = {path: value for path, value in mixed.items() if self._given(path, value) and path != DERIVED}
            self.known[switched] = _parts(_spec(there))
        return self.known[switched]

    def _given(self, path: Path, value: Any) -> bool:
        return value is not None or path[0] == "model"  # a null of the model overrules its preset


def _parts(data: Mapping[str, Any]) -> Parts | None:
    try:
        problem = resolve.resolve(load.load(data).spec)
    except CodesignError:
        return None
    with np.errstate(all="ignore"):  # a mixture may divide by its zero; what is not finite is not used
        values = planner.evaluate([problem], ("step_s",))
    parts = {name: float(np.ravel(values[name, None])[0]) for name in graph.REGISTRY["step_s"].parts}
    return parts if np.all(np.isfinite(list(parts.values()))) else None


def attribute(a: Plan, b: Plan) -> tuple[Effect, ...]:
    """The effect of every field, or of every group of fields, that differs; in the order of switching.

    The mean effects add up to the difference of the steps, and part by part to that of the parts.
    """
    between = _Between(a, b)
    groups = between.groups
    if not groups:
        return ()
    while True:  # every merger leaves fewer groups; one alone is B itself
        forward = _mend(groups, between)
        backward = _mend(forward[::-1], between)[::-1]
        if len(backward) == len(groups):
            break
        groups = backward
    ahead, back = _walk(groups, between), _walk(groups[::-1], between)[::-1]
    return tuple(
        Effect(
            tuple(".".join(path) for path in group), sum(one.values()), sum(other.values()),
            {name: 0.5 * (one[name] + other[name]) for name in one},
        )
        for group, one, other in zip(groups, ahead, back, strict=True)
    )  # fmt: skip


def _mend(groups: Sequence[tuple[Path, ...]], valid: Callable[[frozenset[Path]], Parts | None]) -> list[tuple[Path, ...]]:
    """The groups, some merged, so that every spec on the way from A to B in this order is valid."""
    made, at = list(groups), 0
    done: frozenset[Path] = frozenset()
    while at < len(made):
        if valid(done | set(made[at])) is not None:
            done |= set(made[at])
            at += 1
            continue
        later = range(at + 1, len(made))
        partner = next((j for j in later if valid(done | set(made[at]) | set(made[j])) is not None), at + 1)
        made[at] = made[at] + made.pop(partner)
    return made


def _walk(groups: Sequence[tuple[Path, ...]], parts_of: Callable[[frozenset[Path]], Parts | None]) -> list[Parts]:
    """The change of every part with every group, in this order."""
    done: frozenset[Path] = frozenset()
    last, moves = parts_of(done), list[Parts]()
    for group in groups:
        done |= set(group)
        now = parts_of(done)
        assert now is not None and last is not None
        moves.append({name: now[name] - last[name] for name in now})
        last = now
    return moves
