"""A spec whose layout is open: every field of `layout` fixed, listed, ranged, or left out.

    layout: {tp: [2, 4, 8], pp: {from: 4, to: 32, times: 2}, micro_batch: 1, recompute: {granularity: full, fraction: any}}

A list is a choice between values (a list of lists where the field itself is a list). A range is `{from, to}` with
`step` or `times`. The global batch may be open as well. What each field may be is read here; which combinations of them
exist is the business of `codesign.search.space`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from codesign.errors import SpecError
from codesign.spec import load as loader
from codesign.spec import schema

BATCH = "training.global_batch_sequences"
STAGES = {"default": None, "balanced": "balanced"}  # words in place of a string of stages: the stack's own, by cost
ANY = "any"  # of recompute.fraction: every whole number of layers of a stage
MOST_VALUES = 100_000  # of one field
LISTS = ("order", "cuda_graphs")  # fields that are lists themselves
SECTIONS = ("recompute", "offload", "overlap")
WHOLE = frozenset(
    ("tp", "pp", "dp", "vpp", "cp", "ep", "etp", "sharding_group", "first_stage_layers", "last_stage_layers")
)
RANGED = WHOLE | {"micro_batch", "global_batch_sequences"}


class OneLayout(schema.Section):
    """One section with one field, so that a single value is checked where it stands."""

    layout: schema.Layout


@dataclass(frozen=True)
class Domain:
    """The values that one field may take, in the order in which they were written."""

    field: str
    values: tuple[Any, ...]
    written: str  # fixed | listed | ranged


@dataclass(frozen=True)
class Open:
    """A checked spec without its layout, and what each field of the layout may be; a field without a domain is searched."""

    base: loader.Loaded
    domains: Mapping[str, Domain]
    batch: Domain
    freed: tuple[str, ...] = ()

    @property
    def spec(self) -> schema.Spec:
        return self.base.spec

    @property
    def search(self) -> schema.Search:
        return self.base.spec.search or schema.Search()

    @property
    def is_open(self) -> bool:
        """Whether there is a choice: a list or a range, a word that only a search reads, or tp, pp or micro-batch left out."""
        several = any(len(domain.values) > 1 or domain.written != "fixed" for domain in (*self.domains.values(), self.batch))
        words = any(value in STAGES.values() for value in self._values("stages"))
        words |= any(isinstance(value, tuple) for value in self._values("recompute"))
        return several or words or not {"tp", "pp", "micro_batch"} <= self.domains.keys()

    def _values(self, name: str) -> tuple[Any, ...]:
        return self.domains[name].values if name in self.domains else ()

    def error(self, field: str, message: str) -> SpecError:
        """A refusal about one field, at its place in the file."""
        return loader.error_at(self.base, field, message)


def load(source: str | Path | Mapping[str, Any], sets: Sequence[str] = (), free: Sequence[str] = ()) -> Open:
    """Read a spec with an open layout. `free` names fields of `layout` whose written value is ignored, `all` for all.

    Raises SpecError with the place of what is wrong.
    """
    if isinstance(source, Mapping):
        document, folder, file = loader.document(source), Path(), None
    else:
        path = Path(source)
        document, folder, file = loader.parse_yaml(loader.read_text(path), str(path)), path.parent, str(path)
    for argument in sets:
        loader.apply_set(document, argument)
    return _opened(document, folder, file, free)


def _opened(document: loader.Document, folder: Path, file: str | None, free: Sequence[str]) -> Open:
    layout = document.data.pop("layout", None)
    if layout is not None and not isinstance(layout, dict):
        raise loader.field_error(
            document, "layout", f"layout must be a section with fields, not {loader.shown(layout)}"
        )
    layout = _freed(dict(layout or {}), free)
    batch = _batch(document)
    problems: list[tuple[str, str, bool]] = []
    domains = {}
    for name, value in layout.items():
        if value is None:  # as a resolved spec writes what is not stated
            continue
        try:
            domains[name] = _domain(document, name, value)
        except _Wrong as wrong:
            problems += wrong.problems
    document.data["layout"] = {}
    base = loader.check(document, (), folder, file, problems)
    return Open(base, domains, batch, tuple(free))


def _freed(layout: dict[str, Any], free: Sequence[str]) -> dict[str, Any]:
    known = list(schema.Layout.model_fields)
    bare = [name.removeprefix("layout.") for name in free]
    for name in bare:
        if name != "all" and name not in known:
            place = loader.Argument(f"--free {name}", 0, 0)
            raise SpecError(f"layout has no field {name!r}.{loader.did_you_mean(name, known)}", place=place)
    if "all" in bare:
        return {}
    for name in bare:
        layout.pop(name, None)
    return layout


class _Wrong(Exception):
    def __init__(self, *problems: tuple[str, str, bool]) -> None:
        self.problems = problems


def _batch(document: loader.Document) -> Domain:
    """The domain of the global batch; its first value stands in the spec while the rest is checked."""
    training = document.data.get("training")
    value = training.get("global_batch_sequences") if isinstance(training, dict) else None
    if not isinstance(value, list | dict):
        return Domain(BATCH, (value,), "fixed")
    try:
        values, written = _values(BATCH, value)
    except _Wrong as wrong:
        raise loader.first_problem(document, list(wrong.problems)) from None
    for at, one in enumerate(values):
        if isinstance(one, bool) or not isinstance(one, int) or one < 1:
            raise loader.field_error(
                document, f"{BATCH}.{at}", f"{BATCH} must be a whole number from 1, not {loader.shown(one)}"
            )
    assert isinstance(training, dict)
    training["global_batch_sequences"] = values[0]
    return Domain(BATCH, tuple(dict.fromkeys(values)), written)


def _domain(document: loader.Document, name: str, value: Any) -> Domain:
    field = f"layout.{name}"
    values, written = _values(field, value, several=_several(name, value))
    checked: list[Any] = []
    for at, one in enumerate(values):
        where = f"{field}.{at}" if written == "listed" else field
        for single in _unfolded(name, one, where):
            checked.append(_checked(document, name, single, where))
    unique = list({repr(one): one for one in checked}.values())
    return Domain(name, tuple(unique), written if len(unique) > 1 or written != "fixed" else "fixed")


def _several(name: str, value: Any) -> bool:
    """Whether a list is a choice between values; it is not where the field is a list itself."""
    return isinstance(value, list) and (name not in LISTS or any(isinstance(one, list) for one in value))


def _values(field: str, value: Any, several: bool | None = None) -> tuple[list[Any], str]:
    leaf = field.rpartition(".")[2]
    if several if several is not None else isinstance(value, list):
        if not value:
            raise _Wrong(
                (field, f"{field} is an empty list: nothing is left to choose; leave the field out to search it", False)
            )
        return list(value), "listed"
    if isinstance(value, dict) and leaf not in SECTIONS:
        return _range(field, leaf, value), "ranged"
    return [value], "fixed"


def _range(field: str, leaf: str, value: Mapping[str, Any]) -> list[int]:
    if leaf not in RANGED:
        raise _Wrong((field, f"{field} takes one value or a list, not a range", False))
    unknown = sorted(set(value) - {"from", "to", "step", "times"})
    if unknown:
        raise _Wrong(
            (f"{field}.{unknown[0]}", f"a range has the fields from, to, step and times, not {unknown[0]!r}", True)
        )
    for name in ("from", "to"):
        if name not in value:
            raise _Wrong((field, f"{field}: the range needs {name!r}, as in {{from: 1, to: 8, times: 2}}", False))
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise _Wrong(
                (f"{field}.{name}", f"{field}.{name} must be a whole number from 1, not {loader.shown(number)}", False)
            )
    low, high, step, times = value["from"], value["to"], value.get("step"), value.get("times")
    if step is not None and times is not None:
        raise _Wrong((field, f"{field}: step and times are both given: keep one of them", False))
    if low > high:
        raise _Wrong((field, f"{field}: the range from {low} to {high} is empty", False))
    if times == 1:
        raise _Wrong((f"{field}.times", f"{field}.times 1 never ends: write 2 or more", False))
    if times is None and (high - low) // (step or 1) >= MOST_VALUES:
        raise _Wrong((field, f"{field}: the range has more than {MOST_VALUES:,} values; write step or times", False))
    if times is None:
        return list(range(low, high + 1, step or 1))
    found = [low]
    while found[-1] * times <= high:
        found.append(found[-1] * times)
    return found


def _unfolded(name: str, value: Any, where: str) -> Iterator[Any]:
    """A section with a list in one of its fields is as many sections."""
    inner = {"recompute": "fraction", "offload": "activations"}.get(name)
    if inner is None or not isinstance(value, dict) or not isinstance(value.get(inner), list):
        yield value
        return
    if not value[inner]:
        raise _Wrong((f"{where}.{inner}", f"{where}.{inner} is an empty list: nothing is left to choose", False))
    for one in value[inner]:
        yield {**value, inner: one}


def _checked(document: loader.Document, name: str, value: Any, where: str) -> Any:
    """The value as the schema reads it. `fraction: any` is kept as written."""
    any_layers = name == "recompute" and isinstance(value, dict) and value.get("fraction") == ANY
    if any_layers and value.get("granularity") != "full":
        raise _Wrong((where, f"{where}: fraction any counts layers, which needs granularity full", False))
    if name == "stages" and value in STAGES:
        return STAGES[value]
    if value is None:
        raise _Wrong((where, f"{where} has no value; leave the field out to search it", False))
    given = {k: v for k, v in value.items() if k != "fraction"} if any_layers else value
    try:
        checked = getattr(OneLayout.model_validate({"layout": {name: given}}).layout, name)
    except ValidationError as error:
        raise _Wrong(*((where, message, key) for _, message, key in loader.worded(document, error))) from None
    return (checked, ANY) if any_layers else checked


__all__ = ["ANY", "BATCH", "Domain", "Open", "load"]
