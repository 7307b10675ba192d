"""The runner: named quantities, ordered, pruned, evaluated over arrays, explained, overridden, checked for units.

It knows nothing of machine learning. A *quantity* is a pure function registered under the name of its output; the names
of its parameters are its inputs: other quantities, or leaves. A *leaf* is a value given by the caller: a float64 array
(a size, a rate) or a plain Python object (structure: what exists, which schedule). A quantity may be *indexed*
(`over="kind"`): it is evaluated once per member of that index set, it sees inputs of the same index one member at a time,
and a quantity that is not indexed sees the whole mapping {member: array}.

Arrays have at least one axis; every operation is elementwise or an explicit ordered addition, so that the row of a batch
and a batch of one have the same bits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from codesign import units


@dataclass(frozen=True)
class Quantity:
    """One registered node: its unit, its inputs, what it adds up or chooses from, and where its equation is from."""

    name: str
    unit: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    over: str | None
    labels: str | None  # name of the structural leaf or quantity-independent tuple that labels the leading axis
    parts: tuple[str, ...]
    worst_of: tuple[str, ...]
    hides: tuple[str, ...]
    source: str
    message: Callable[[Mapping[str, Any]], str] | None

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")


REGISTRY: dict[str, Quantity] = {}


def quantity(
    unit: str,
    *,
    over: str | None = None,
    labels: str | None = None,
    parts: tuple[str, ...] = (),
    worst_of: tuple[str, ...] = (),
    hides: tuple[str, ...] = (),
    source: str = "",
    message: Callable[[Mapping[str, Any]], str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the one equation of the quantity that it is named after.

    `parts` add up to it, `worst_of` are what it takes the maximum of, `hides` are overlapped: shown, not added.
    A constraint (a name that starts with `fits_` or `allows_`) gives a `message` from the values it saw.
    """
    if unit not in units.SUFFIXES:
        raise ValueError(f"unknown unit {unit!r}; allowed: {', '.join(units.SUFFIXES)}")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in REGISTRY and REGISTRY[name].function.__module__ != function.__module__:
            raise ValueError(
                f"two equations for {name!r}: {REGISTRY[name].function.__module__} and {function.__module__}"
            )
        if units.suffix(name) != unit:
            raise ValueError(f"{name!r} is registered in {unit!r}, its suffix says {units.suffix(name)!r}")
        inputs = tuple(inspect.signature(function).parameters)
        REGISTRY[name] = Quantity(name, unit, function, inputs, over, labels, parts, worst_of, hides, source, message)
        return function

    return register


Key = tuple[str, str | None]  # (name, member of its index set)


@dataclass(frozen=True)
class Step:
    key: Key
    function: Callable[..., Any]
    inputs: tuple[tuple[str, Any], ...]  # ("value", key) | ("mapping", ((member, key), ...)) | ("member", member)


@dataclass(frozen=True)
class Program:
    """The pruned, ordered evaluation of some targets for given index sets."""

    targets: tuple[str, ...]
    indexes: tuple[tuple[str, tuple[str, ...]], ...]
    steps: tuple[Step, ...]
    leaves: frozenset[str] = field(compare=False)
    depends: Mapping[Key, frozenset[str]] = field(compare=False, hash=False)  # key -> leaves it rests on

    def run(
        self,
        leaves: Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Evaluate. Returns every value under its key ((name, member)) and every leaf under its name.

        `overrides` replace a quantity by a given value wherever it is used. For many runs that differ in few leaves
        see `update`.
        """
        if not overrides:
            return self._straight(leaves)
        values: dict[Any, Any] = dict(leaves)
        for step in self.steps:
            name = step.key[0]
            if name in overrides:
                override = overrides[name]
                values[step.key] = override[step.key[1]] if isinstance(override, Mapping) else np.atleast_1d(override)
                continue
            arguments = []
            for how, what in step.inputs:
                if how == "value":
                    arguments.append(values[what])
                elif how == "member":
                    arguments.append(what)
                else:
                    arguments.append({member: values[key] for member, key in what})
            values[step.key] = step.function(*arguments)
        return values

    def update(
        self, values: Mapping[Any, Any], changed: Mapping[str, Any], without: Program | None = None
    ) -> dict[Any, Any]:
        """The values of a run after some leaves have changed: only what rests on them is evaluated again.

        The same bits as a run from the start. `values` is what `run` or `update` returned; it is left as it is. Steps
        of the program `without` are not evaluated: `values` has them already, for the changed leaves.
        """
        key = (frozenset(changed), without.targets if without else ())
        if key not in self._partial:
            known = {step.key for step in without.steps} if without else set()
            steps = [step for step in self.steps if key[0] & self.depends[step.key] and step.key not in known]
            self._partial[key] = self._generate(steps)
        return self._partial[key]({**values, **changed})

    @cached_property
    def _partial(self) -> dict[Any, Callable[[Mapping[Any, Any]], dict[Any, Any]]]:
        return {}

    @cached_property
    def _straight(self) -> Callable[[Mapping[Any, Any]], dict[Any, Any]]:
        """The whole evaluation as one generated function without look-ups between the steps."""
        return self._generate(self.steps)

    def _generate(self, steps: Iterable[Step]) -> Callable[[Mapping[Any, Any]], dict[Any, Any]]:
        names: dict[Any, str] = {}
        scope: dict[str, Any] = {}
        lines = ["def straight(leaves):", "    values = dict(leaves)"]

        def local(what: Any) -> str:
            if what not in names:  # given: a leaf, or a value that is not evaluated again
                names[what] = f"v{len(names)}"
                lines.append(f"    {names[what]} = leaves[{what!r}]")
            return names[what]

        for at, step in enumerate(steps):
            scope[f"f{at}"] = step.function
            arguments = []
            for how, what in step.inputs:
                if how == "value":
                    arguments.append(local(what))
                elif how == "member":
                    arguments.append(repr(what))
                else:
                    arguments.append("{" + ", ".join(f"{member!r}: {local(key)}" for member, key in what) + "}")
            names[step.key] = f"v{len(names)}"
            lines.append(f"    {names[step.key]} = values[{step.key!r}] = f{at}({', '.join(arguments)})")
        lines.append("    return values")
        exec(compile("\n".join(lines), "<program>", "exec"), scope)
        return scope["straight"]


class MissingInput(KeyError):
    """A quantity needs an input that is neither registered nor given."""


_PROGRAMS: dict[Any, Program] = {}


def program(targets: Iterable[str], indexes: Mapping[str, tuple[str, ...]], leaves: Iterable[str]) -> Program:
    """Order and prune the registry for `targets`. `indexes`: index name -> its members; `leaves`: names that are given."""
    names = frozenset(leaves)
    key = (tuple(targets), tuple(sorted(indexes.items())), names)
    if key not in _PROGRAMS:
        _PROGRAMS[key] = _compile(key[0], dict(indexes), names)
    return _PROGRAMS[key]


def _compile(targets: tuple[str, ...], indexes: dict[str, tuple[str, ...]], leaves: frozenset[str]) -> Program:
    steps: list[Step] = []
    depends: dict[Key, frozenset[str]] = {}
    visiting: list[Key] = []
    used: set[str] = set()

    def members(name: str) -> tuple[str | None, ...]:
        over = REGISTRY[name].over
        return (None,) if over is None else indexes[over]

    def leaf_family(name: str) -> tuple[str, ...] | None:
        """The index set over which `name` is given as leaves, one a member."""
        for known in indexes.values():
            if known and all(f"{name}[{m}]" in leaves for m in known):
                return known
        return None

    def visit(key: Key) -> None:
        if key in depends:
            return
        if key in visiting:
            raise ValueError("circular quantities: " + " -> ".join(k[0] for k in [*visiting, key]))
        visiting.append(key)
        name, member = key
        node = REGISTRY[name]
        inputs: list[tuple[str, Any]] = []
        rests: set[str] = set()
        for parameter in node.inputs:
            if node.over is not None and parameter == node.over:
                inputs.append(("member", member))
            elif parameter in leaves:
                inputs.append(("value", parameter))
                rests.add(parameter)
                used.add(parameter)
            elif member is not None and f"{parameter}[{member}]" in leaves:
                leaf = f"{parameter}[{member}]"
                inputs.append(("value", leaf))
                rests.add(leaf)
                used.add(leaf)
            elif (family := leaf_family(parameter)) is not None:
                inputs.append(("mapping", tuple((m, f"{parameter}[{m}]") for m in family)))
                for m in family:
                    rests.add(f"{parameter}[{m}]")
                    used.add(f"{parameter}[{m}]")
            elif parameter in REGISTRY:
                child = REGISTRY[parameter]
                if child.over is None:
                    wanted: list[Key] = [(parameter, None)]
                    inputs.append(("value", wanted[0]))
                elif child.over == node.over:
                    wanted = [(parameter, member)]
                    inputs.append(("value", wanted[0]))
                else:
                    wanted = [(parameter, m) for m in indexes[child.over]]
                    inputs.append(("mapping", tuple((m, (parameter, m)) for m in indexes[child.over])))
                for child_key in wanted:
                    visit(child_key)
                    rests |= depends[child_key]
            else:
                raise MissingInput(f"{name!r} needs {parameter!r}, which is neither a quantity nor a given leaf")
        visiting.pop()
        depends[key] = frozenset(rests)
        steps.append(Step(key, node.function, tuple(inputs)))

    for target in targets:
        if target not in REGISTRY:
            raise MissingInput(f"unknown quantity {target!r}")
        for member in members(target):
            visit((target, member))
    return Program(targets, tuple(sorted(indexes.items())), tuple(steps), frozenset(used), depends)


def stack(*rows: Any) -> np.ndarray:
    """Lay arrays that broadcast together along a new leading axis (operators, stages)."""
    out = np.empty((len(rows), *np.broadcast_shapes(*map(np.shape, rows))))
    for at, row in enumerate(rows):
        out[at] = row
    return out


def add(rows: Iterable[Any]) -> Any:
    """Ordered addition, first to last: the same bits for one row and for a batch. An empty sum is 0.0."""
    total: Any = None
    for row in rows:
        total = row if total is None else total + row
    return np.zeros(1) if total is None else total


def worst(rows: Iterable[Any]) -> Any:
    """Elementwise maximum, first to last."""
    top: Any = None
    for row in rows:
        top = row if top is None else np.maximum(top, row)
    return np.zeros(1) if top is None else top


# -------------------------------------------------------------------------------------------------- explanation


@dataclass(frozen=True)
class Explanation:
    """The tree under a number: what it is, its value, where its equation is from, and the same for each input."""

    name: str
    member: str | None
    unit: str
    value: Any
    doc: str
    source: str
    inputs: tuple[Explanation, ...]
    role: str = "input"  # input | part | worst_of | hidden | leaf | override


def explain(
    run: Program,
    values: Mapping[Any, Any],
    key: Key,
    *,
    leaf_source: Callable[[str], str],
    depth: int = 3,
    overridden: frozenset[str] = frozenset(),
) -> Explanation:
    """The explanation of one value, `depth` levels down."""
    steps = {step.key: step for step in run.steps}

    def leaf(name: str) -> Explanation:
        return Explanation(
            name, None, units.suffix(name.split("[")[0]), values[name], "", leaf_source(name), (), "leaf"
        )

    def node(at: Key, levels: int, role: str) -> Explanation:
        meta = REGISTRY[at[0]]
        children: list[Explanation] = []
        if levels and at[0] not in overridden:
            for how, what in steps[at].inputs:
                if how == "member":
                    continue
                keys = [k for _, k in what] if how == "mapping" else [what]
                for k in keys:
                    if isinstance(k, str):
                        children.append(leaf(k))
                    else:
                        as_part = "part" if k[0] in meta.parts else "hidden" if k[0] in meta.hides else "input"
                        as_part = "worst_of" if k[0] in meta.worst_of else as_part
                        children.append(node(k, levels - 1, as_part))
        if at[0] in overridden:
            role = "override"
        return Explanation(at[0], at[1], meta.unit, values[at], meta.doc, meta.source, tuple(children), role)

    return node(key, depth, "total")


# -------------------------------------------------------------------------------------------------- units


def unit_errors(run: Program, values: Mapping[Any, Any], exempt: frozenset[str] = frozenset()) -> list[str]:
    """Quantities whose equation is not homogeneous in seconds, bytes and watts.

    Every input is rescaled by its unit's powers of three odd factors; the output must rescale by its own. A constant
    with a unit hidden in the code shows up here. `exempt` names quantities that are tested otherwise.
    """
    factors = (3.0, 7.0, 11.0)

    def scale(name: str) -> float:
        powers = units.SUFFIXES[units.suffix(name.split("[")[0])][1]
        total = 1.0
        for factor, power in zip(factors, powers, strict=True):
            for _ in range(abs(power)):
                total = total * factor if power > 0 else total / factor
        return total

    def scaled(name: str, value: Any) -> Any:
        return value * scale(name) if isinstance(value, np.ndarray) else value

    found = []
    for step in run.steps:
        name = step.key[0]
        if name in exempt:
            continue
        arguments = []
        for how, what in step.inputs:
            if how == "member":
                arguments.append(what)
            elif how == "mapping":
                arguments.append({m: scaled(k if isinstance(k, str) else k[0], values[k]) for m, k in what})
            else:
                arguments.append(scaled(what if isinstance(what, str) else what[0], values[what]))
        got = step.function(*arguments)
        if not isinstance(got, np.ndarray) or got.dtype == bool:
            continue
        want = values[step.key] * scale(name)
        if not np.allclose(got, want, rtol=1e-9, atol=0.0):
            found.append(
                f"{name}: {np.ravel(got)[0]:.6g} instead of {np.ravel(want)[0]:.6g} when its inputs are rescaled"
            )
    return found
