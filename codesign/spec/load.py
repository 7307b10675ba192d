"""From YAML text to a checked `Spec`: every refusal is one `SpecError` with file, line, column and what is allowed.

The traps of YAML 1.1 are closed by reading the parser's events with our own rules for scalars: `1e4` is a number, `no`
and `12:30` are text, `0123` is refused. Anchors, aliases, merge keys, tags and second documents are refused, so that a
spec means what it shows, and so that a hostile file costs no more than its own size.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import numbers
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from codesign import units
from codesign.errors import Place, SpecError
from codesign.spec import failures, outcome, review, schema, sites

VERSION = 1
MAX_BYTES = 2**20
MAX_DEPTH = 16
_FIELD_WORDS = Path(__file__).parent / "data" / "field_words.yaml"
_MOST_WORDED = 100  # errors of one spec for which a message is written
_MOST_SHOWN = 5  # further errors that are shown under the first
_MOST_LINE = 300  # characters of one of them
_MAX_LINE = 160  # a longer source line is not shown under a message

# Fields that may be written as a bare name: path -> the field of the section that the name fills.
SHORTHAND = {
    "model": "preset",
    "software": "stack",
    "training.precision": "matmul",
    "training.optimizer": "name",
    "layout.recompute": "granularity",
}
# Fields that are read with a unit, and the base unit (`*`: each of a list); the overrides of the cluster come on top.
QUANTITIES = {
    "training.tokens": "tokens", "software.host_layer_s": "s", "input.storage_Bps": "Bps",
    "search.memory_margin": "B", "search.power": "W", "sync.checkpoints.every": "s",
    **{f"links.*.{name}": unit for name, unit in sites.LINK_UNITS.items()},
    "run.checkpoint.storage_Bps": "Bps", "run.checkpoint.read_Bps": "Bps", "run.checkpoint.interval": "s",
    **{f"run.failures.mtbf.{name}": "s" for name in failures.COMPONENTS},
    **{f"run.failures.recovery.{name}": "s" for name in failures.Recovery.model_fields},
    "run.failures.early_life.settling": "s", "run.failures.early_life.age": "s",
    "run.failures.corruption.mtbf": "s", "run.failures.corruption.detect": "s",
    "run.loss.reference.tokens": "tokens", "run.loss.critical_batch.tokens": "tokens", "run.data.unique_tokens": "tokens",
    "run.data.raw_B": "B", "run.phases.*.tokens": "tokens", "run.power.overhead_per_accelerator_W": "W", "run.power.cap_W": "W",
    "run.launch.horizon": "s", "run.launch.improvement_doubling": "s",
    "run.serving.served_tokens": "tokens",
}
# Units in which a bare number is refused: bit or byte, GB or GiB, us or ms are the usual mistakes.
BARE_REFUSED = ("B", "Bps", "FLOPps", "s")

_OVERRIDE = "cluster.override."


class Argument(Place):
    """The place of a value that was given on the command line."""

    def __str__(self) -> str:
        return self.file


@dataclass(frozen=True)
class Document:
    """Plain data with the place of every value (`places`) and of every field name (`keys`), by dotted path."""

    data: dict[str, Any]
    places: dict[str, Place] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A checked spec, where each value was written, how it was read, and what was inferred."""

    spec: schema.Spec
    places: dict[str, Place]
    read_as: list[str]
    notes: list[str]
    folder: Path  # relative paths in the spec start here
    file: str | None = None

    def resolved(self) -> dict[str, Any]:
        """The whole spec as plain data, defaults and preset filled in; loading it again gives the same hash."""
        return _resolved(self.spec)

    @functools.cached_property
    def spec_hash(self) -> str:
        """SHA-256 of the canonical JSON of the resolved spec, in hexadecimal. Signing a review does not change it."""
        planned = {name: part for name, part in self.resolved().items() if name != "review"}
        text = json.dumps(planned, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------- entrances


def load_spec(source: str | Path | Mapping[str, Any], sets: Sequence[str] = ()) -> schema.Spec:
    """The checked spec of a YAML file or of plain data; `sets` are `field=value` texts that take precedence."""
    return load(source, sets).spec


def load(source: str | Path | Mapping[str, Any], sets: Sequence[str] = ()) -> Loaded:
    """As `load_spec`, with places, readings and notes beside the spec."""
    if isinstance(source, Mapping):
        return check(document(source), sets, Path(), None)
    path = Path(source)
    return load_text(read_text(path), sets, str(path), path.parent)


def load_text(text: str, sets: Sequence[str] = (), file: str = "<text>", folder: str | Path = ".") -> Loaded:
    """As `load`, from YAML text; `file` names it in messages, relative paths start at `folder`."""
    return check(parse_yaml(text, file), sets, Path(folder), file)


def error_at(loaded: Loaded, name: str, message: str) -> SpecError:
    """A SpecError about the dotted field `name`, at the nearest known place."""
    return SpecError(message, field=name, place=_nearest_place(name, loaded.places))


# ---------------------------------------------------------------------------------------------------- text


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of at most 1 MiB."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file.{_near_file(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a directory, not a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(f"{str(path)!r}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{path}: larger than 1 MiB: this is not a spec")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        message = f"not UTF-8 text: byte 0x{data[error.start]:02x} cannot be read. Save the file as UTF-8"
        raise SpecError(message, place=Place(str(path), line, column)) from None


def _near_file(path: Path) -> str:
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return f" There is no folder {str(path.parent)!r}."
    near = get_close_matches(path.name, names, 1, 0.5)
    return f" Did you mean {str(path.parent / near[0])!r}?" if near else ""


# ---------------------------------------------------------------------------------------------------- YAML

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_DIGITS = "(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_INT = re.compile(f"[-+]?{_DIGITS}")
_FLOAT = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def scalar(text: str) -> bool | int | float | str | None:
    """A plain (unquoted) YAML scalar, read by the rules of YAML 1.2. Raises ValueError for what is never meant."""
    if text in _WORDS:
        return None
    if text in _WORDS_BOOL:
        return _WORDS_BOOL[text]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    if _LEADING_ZERO.fullmatch(text):
        bare = text.lstrip("+-0_") or "0"
        raise ValueError(f"{text} begins with 0, which may be read as octal: write {bare}, or '{text}' if it is text")
    if _INT.fullmatch(text) and len(text) <= 300:
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{_clip(text)} is too large for a number")
        return number
    return text


def parse_yaml(text: str, file: str) -> Document:
    """One YAML document whose top is a mapping, with the place of every value. Raises SpecError."""
    reader = _Reader(text, file)
    try:
        return reader.document()
    except yaml.YAMLError as error:
        raise reader.not_yaml(error) from None
    finally:
        reader.parser.dispose()


class _Reader:
    """Builds plain data from the events of the YAML parser; bounded in depth, without tags and aliases."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = _BREAK.split(text)
        if bad := _UNPRINTABLE.search(text):
            before = _BREAK.split(text[: bad.start()])
            message = f"the control character U+{ord(bad[0]):04X} is not text"
            raise SpecError(message, place=Place(file, len(before), len(before[-1]) + 1))
        self.parser = _PARSER(text)
        self.places: dict[str, Place] = {}
        self.keys: dict[str, Place] = {}
        self.open: list[tuple[str, Place]] = []  # the flow collections that are open: bracket, place

    def place(self, line: int, column: int) -> Place:
        """One-based place of a zero-based mark; a mark behind the end is moved to the end of the last line."""
        while line > 0 and (line >= len(self.lines) or not self.lines[line].strip()):
            line -= 1
            column = len(self.lines[line].rstrip())
        source = self.lines[line].replace("\t", " ")
        if len(source) > _MAX_LINE:
            source = source[: _MAX_LINE - 3] + "..." if column < _MAX_LINE - 3 else ""
        return Place(self.file, line + 1, column + 1, source)

    def error(self, message: str, mark: Any, name: str | None = None) -> SpecError:
        return SpecError(message, field=name, place=self.place(mark.line, mark.column))

    def document(self) -> Document:
        get = self.parser.get_event
        get()  # the start of the stream
        start = get()
        if isinstance(start, yaml.StreamEndEvent):
            raise SpecError("the file is empty: `codesign init` writes a starter", place=Place(self.file, 1, 1))
        root = self.parser.peek_event()
        data = self.value("", 0, self.place(root.start_mark.line, root.start_mark.column))
        if data is None:
            raise self.error("the file is empty: `codesign init` writes a starter", root.start_mark)
        if not isinstance(data, dict):
            raise self.error(f"a mapping of fields is wanted at the top, not {shown(data)}", root.start_mark)
        get()  # the end of the document
        more = get()
        if not isinstance(more, yaml.StreamEndEvent):
            raise self.error("a second document (---) begins here: one file holds one spec", more.start_mark)
        return Document(data, self.places, self.keys)

    def value(self, path: str, depth: int, key: Place) -> Any:
        event = self.parser.get_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise self.error(f"the alias *{event.anchor} is not read: write the value out", mark, path)
        if event.anchor is not None:
            raise self.error(f"the anchor &{event.anchor} is not read: write the value out in each place", mark, path)
        if event.tag is not None:
            raise self.error(f"the tag {_tag(event.tag)} is not read: a spec holds plain data only", mark, path)
        if isinstance(event, yaml.ScalarEvent):
            self.places[path] = self.place(mark.line, mark.column) if event.value else key
            return self.scalar(event, path)
        if depth >= MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels: this is not a spec", mark, path)
        # a block section is shown at its name, not at its first field
        self.places[path] = self.place(mark.line, mark.column) if event.flow_style else key
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.flow_style:
            self.open.append(("{" if mapping else "[", self.places[path]))
        found = self.mapping(path, depth) if mapping else self.sequence(path, depth)
        if event.flow_style:
            self.open.pop()
        return found

    def mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(self.parser.peek_event(), yaml.MappingEndEvent):
            event = self.parser.get_event()
            mark = event.start_mark
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                raise self.error("a field name is plain text, without alias, anchor, tag or brackets", mark, path)
            if event.value == "<<" and event.implicit[0]:
                raise self.error("the merge key << is not read: write the fields out", mark, path)
            name = _join(path, event.value)
            if event.value in found:
                first = self.keys[name].line
                raise self.error(f"duplicate field {_clip(name)!r}: it is given in line {first} already", mark, name)
            self.keys[name] = self.place(mark.line, mark.column)
            found[event.value] = self.value(name, depth + 1, self.keys[name])
        self.parser.get_event()
        return found

    def sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(self.parser.peek_event(), yaml.SequenceEndEvent):
            mark = self.parser.peek_event().start_mark
            found.append(self.value(_join(path, str(len(found))), depth + 1, self.place(mark.line, mark.column)))
        self.parser.get_event()
        return found

    def scalar(self, event: yaml.ScalarEvent, path: str) -> Any:
        plain, _ = event.implicit
        if not plain:  # quoted, or a block of text
            return event.value
        try:
            return scalar(event.value)
        except ValueError as error:
            raise SpecError(f"{path}: {error}" if path else str(error), field=path, place=self.places[path]) from None

    def not_yaml(self, error: yaml.YAMLError) -> SpecError:
        """What the parser stumbled over, in our words where its own are of no help."""
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        if mark is None:
            return SpecError(f"this is not YAML: {problem}", place=Place(self.file, 1, 1))
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        rest = "\n".join([line[mark.column :], *self.lines[mark.line + 1 :]])
        if "\t" in line[: len(line) - len(line.lstrip())] or line[mark.column : mark.column + 1] == "\t":
            return self.error("a tab is used as white space here: YAML wants spaces", mark)
        if "unexpected end of stream" in problem:
            begin = getattr(error, "context_mark", None) or mark
            return self.error("the quoted text that begins here is not closed", begin)
        if self.open and not rest.strip():
            bracket, place = self.open[-1]
            return SpecError(f"the {bracket!r} here is not closed before the end of the file", place=place)
        if "cannot start any token" in problem:
            found = line[mark.column : mark.column + 1]
            return self.error(f"{found!r} cannot begin a value: put the text in quotes", mark)
        if "mapping values are not allowed" in problem:
            return self.error("a second ': ' in one value: begin a new line, or put text with a colon in quotes", mark)
        if "could not find expected ':'" in problem:
            where = getattr(error, "context_mark", None) or mark
            return self.error("a field name without a value: write 'name: value'", where)
        if "',' or" in problem and self.open:
            bracket, place = self.open[-1]
            close = {"{": "}", "[": "]"}[bracket]
            return self.error(f"',' or {close!r} is wanted here: the {bracket!r} of line {place.line} is open", mark)
        if "expected key" in problem or "expected <block end>" in problem:
            return self.error("a field name is wanted here: check the indentation of this line", mark)
        return self.error(f"this is not YAML: {problem}", mark)


def _tag(tag: str) -> str:
    return _clip(tag.replace("tag:yaml.org,2002:", "!!"))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _clip(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value: object) -> str:
    """A value as it is written in YAML, short enough for a message."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(_clip(value))
    if isinstance(value, Mapping):
        return "a section with fields"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"{value:.3g}" if abs(value) < 10**300 else "a number of more than 300 digits"
    return f"{value!r}"


# ---------------------------------------------------------------------------------------------------- plain data


def document(source: Mapping[str, Any]) -> Document:
    """Plain data given by a caller, copied; it has no places."""
    return Document(_plain(source, "", 0))


def _plain(value: Any, path: str, depth: int) -> Any:
    """A copy of `value` in plain Python data, so that what is checked cannot change later."""
    if depth > MAX_DEPTH:
        raise SpecError(f"{path}: nested deeper than {MAX_DEPTH} levels: this is not a spec", field=path)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner, _join(path, str(name)), depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, _join(path, str(place)), depth + 1) for place, inner in enumerate(value)]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    raise SpecError(f"{path}: plain data is wanted, not a {type(value).__name__}", field=path)


# ---------------------------------------------------------------------------------------------------- --set


def apply_set(document: Document, argument: str) -> None:
    """Write one `field=value` into the document; a bare name on the way becomes its section, a number is a place in a list."""
    name, equals, text = argument.partition("=")
    name = name.strip()
    place = Argument(f"--set {_clip(argument)}", 0, 0)
    if not equals or not all(part.strip() for part in name.split(".")):
        raise SpecError("a field and a value are wanted, as in --set layout.tp=8", field=name, place=place)
    inside = name.startswith(_OVERRIDE)
    parts = ["cluster", "override", name[len(_OVERRIDE) :]] if inside else name.split(".")
    here: Any = document.data
    path = ""
    for part in parts[:-1]:
        at = _slot(here, part, path, name, place)
        path = _join(path, part)
        inner = here[at] if isinstance(here, list) else here.get(at)
        if inner is None:
            inner = {}
        elif isinstance(inner, str) and path in SHORTHAND:
            inner = {SHORTHAND[path]: inner}
        elif not isinstance(inner, dict | list):
            message = f"{path} is {shown(inner)}, which has no fields to set"
            raise SpecError(message, field=name, place=place)
        here[at] = inner
        here = inner
        document.places.setdefault(path, place)
        document.keys.setdefault(path, place)
    here[_slot(here, parts[-1], path, name, place)] = _set_value(text.strip(), name, place)
    for known in (document.places, document.keys):
        for stale in [path for path in known if path.startswith(f"{name}.")]:
            del known[stale]
        known[name] = place


def _slot(here: Any, part: str, path: str, name: str, place: Place) -> Any:
    """The key of a section, or the place in a list that is as long already; SpecError at the argument otherwise."""
    if not isinstance(here, list):
        return part
    if not part.isascii() or not part.isdigit() or int(part) >= len(here):
        first = f"{path}.0" + (f" to {path}.{len(here) - 1}" if len(here) > 1 else "") if here else "none"
        message = f"{path} is a list: its entries are {first}, not {_clip(f'{path}.{part}')}"
        raise SpecError(message, field=name, place=place)
    return int(part)


def _set_value(text: str, name: str, place: Place) -> Any:
    """The value of a --set: a scalar by the rules of the file, or a list or section in brackets, or quoted text."""
    if text[:1] in ("[", "{", '"', "'"):
        try:
            return parse_yaml(f"value: {text}", "--set").data["value"]
        except SpecError as error:
            raise SpecError(error.message, field=name, place=place) from None
    try:
        return scalar(text)
    except ValueError as error:
        raise SpecError(f"{name}: {error}", field=name, place=place) from None


# ---------------------------------------------------------------------------------------------------- presets, HF


def _fill_model(document: Document, folder: Path, notes: list[str]) -> None:
    """Fill the model's fields from its preset or from a Hugging Face config.json; written fields take precedence."""
    written = document.data.get("model")
    if isinstance(written, str):
        written = {"preset": written}
    if not isinstance(written, dict):
        return
    preset, path = written.get("preset"), written.get("hf")
    if preset is not None and path is not None:
        raise field_error(document, "model.hf", "model.preset and model.hf are both given: keep one of them")
    for name in ("preset", "hf"):
        if written.get(name) is not None and not isinstance(written[name], str):
            raise field_error(document, f"model.{name}", f"model.{name} must be text, not {shown(written[name])}")
    if preset is not None:
        fields, origin = _preset(document, preset), f"preset {preset}"
        fields.setdefault("name", preset)
    elif path is not None:
        fields, origin = _hf(document, folder / path, notes), path
    else:
        fields, origin = {}, ""
    document.data["model"] = _merge(fields, written, "model", origin, notes)


def _preset(document: Document, name: str) -> dict[str, Any]:
    from codesign.spec import presets

    known = presets.names()
    if name not in known:
        hint = did_you_mean(name, known, 3) or _list(known)
        message = f"unknown model preset {_clip(name)!r}.{hint}"
        raise field_error(document, "model.preset", message)
    return dict(presets.load(name))


def _hf(document: Document, path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        what = "is a directory: name its config.json" if path.is_dir() else f"no such file.{_near_file(path)}"
        raise field_error(document, "model.hf", f"model.hf: {path}: {what}")
    from codesign.spec import hf

    try:
        fields, inferred = hf.read(path)
    except SpecError as error:
        raise field_error(document, "model.hf", f"model.hf: {error.message}") from None
    notes += [f"model: {note}" for note in inferred]
    return dict(fields)


def _merge(
    base: dict[str, Any], written: dict[str, Any], path: str, origin: str, notes: list[str]
) -> dict[str, Any]:
    """`written` over `base`, section by section; what changes is noted."""
    merged = dict(base)
    for name, value in written.items():
        where, before = _join(path, name), base.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[name] = _merge(before, value, where, origin, notes)
            continue
        merged[name] = value
        if name in base and before != value and name != "name":
            notes.append(f"{where}: {shown(value)} in place of {shown(before)} of {origin}")
    return merged


# ---------------------------------------------------------------------------------------------------- checking


def check(
    document: Document,
    sets: Sequence[str],
    folder: Path,
    file: str | None,
    known: Sequence[tuple[str, str, bool]] = (),
) -> Loaded:
    """The checked spec of a document, `sets` applied; `known` are problems that were found before."""
    for argument in sets:
        apply_set(document, argument)
    if file is not None:
        document.places.setdefault("", Place(file, 1, 1))
    _check_version(document)
    notes: list[str] = []
    _fill_model(document, folder, notes)
    if isinstance(document.data.get("software"), str):
        document.data["software"] = {"stack": document.data["software"]}
    read_as: list[str] = []
    problems = [*known, *_override_problems(document, read_as)]
    try:
        spec = schema.Spec.model_validate(document.data)
    except ValidationError as error:
        raise first_problem(document, problems + worded(document, error)) from None
    problems += _conflicts(spec)
    if problems:
        raise first_problem(document, problems)
    read_as += _readings(document)
    return Loaded(spec, document.places, read_as, notes, folder, file)


def _check_version(document: Document) -> None:
    if "version" not in document.data:
        raise field_error(document, "", f"'version' is missing: write 'version: {VERSION}' in the first line")
    version = document.data["version"]
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        message = f"version must be {VERSION}, not {shown(version)}: this release reads no other"
        raise field_error(document, "version", message)


def _nearest_place(name: str, *known: Mapping[str, Place]) -> Place | None:
    """The place of `name`, or of the nearest section around it; with several maps, the first one that has it."""
    while True:
        for places in known:
            if name in places:
                return places[name]
        if not name:
            return None
        name = name.rpartition(".")[0]


def field_error(document: Document, name: str, message: str, key: bool = False) -> SpecError:
    places = (document.keys, document.places) if key else (document.places, document.keys)
    return SpecError(message, field=name or None, place=_nearest_place(name, *places))


def first_problem(document: Document, problems: list[tuple[str, str, bool]]) -> SpecError:
    """The first problem in the order of the file, the next ones in a line each, and how many there are beside it."""
    errors = [field_error(document, name, message, key) for name, message, key in problems]
    errors.sort(key=_file_order)
    if more := len(errors) - 1:
        message = f"{errors[0].message} (and {more} more)"
        others = tuple(_clip(f"{one.place}: {one.message}", _MOST_LINE) for one in errors[1 : _MOST_SHOWN + 1] if one.message)
        return SpecError(message, field=errors[0].field, place=errors[0].place, more=others)
    return errors[0]


def _file_order(error: SpecError) -> tuple[int, int, int]:
    if error.place is None:
        return (2, 0, 0)
    return (int(isinstance(error.place, Argument)), error.place.line, error.place.column)


# A problem is (dotted field, message, whether it is about the field's name rather than its value).


def worded(document: Document, error: ValidationError) -> list[tuple[str, str, bool]]:
    """pydantic's findings in our words; a missing field that a misspelt one explains is left out."""
    found: list[tuple[str, str, bool]] = []
    explained: set[str] = set()
    details = error.errors(include_url=False)
    # a hostile file may hold 100,000 wrong fields: the first in the file are worded, the rest are counted
    details.sort(key=lambda detail: _file_order(field_error(document, ".".join(map(str, detail["loc"])), "", key=True)))
    for detail in details[:_MOST_WORDED]:
        loc = [part for part in detail["loc"] if not str(part).startswith("~")]
        name = ".".join(map(str, loc))
        if detail["type"] == "extra_forbidden":
            message, meant = _unknown_field([str(part) for part in loc])
            explained.add(meant)
            found.append((name, message, True))
        elif detail["type"] == "missing":
            wanted = _wanted(_options(_node(loc)))
            section = ".".join(map(str, loc[:-1]))
            where = f" in {section}" if section else ""
            found.append((name, f"{str(loc[-1])!r} is missing{where} ({wanted})", False))
        elif detail["type"] == "value_error":
            found.append((name, f"{name}: {detail['ctx']['error']}", False))
        else:
            found.append((name, _wrong_value(name, loc, detail["input"]), False))
    missing = {".".join(map(str, detail["loc"])) for detail in details if detail["type"] == "missing"}
    worded = [problem for problem in found if problem[0] not in explained & missing]
    return worded + [(".".join(map(str, detail["loc"])), "", True) for detail in details[_MOST_WORDED:]]


@functools.cache
def _schema() -> dict[str, Any]:
    return schema.Spec.model_json_schema()


def _options(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema node, references followed, null left out."""
    if "$ref" in node:
        return [_schema()["$defs"][node["$ref"].rpartition("/")[2]]]
    several = node.get("anyOf") or node.get("oneOf")
    if several is None:
        return [node]
    return [inner for option in several if option.get("type") != "null" for inner in _options(option)]


def _node(loc: Sequence[str | int]) -> dict[str, Any]:
    """The schema node of a location; every part of it is known, because pydantic went there."""
    node = _schema()
    for part in loc:
        for option in _options(node):
            if part in option.get("properties", {}):
                node = option["properties"][part]
                break
            inner = option.get("items") if str(part).isdigit() else option.get("additionalProperties")
            if isinstance(inner, dict):
                node = inner
                break
    return node


def _fields(loc: Sequence[str]) -> list[str]:
    return [name for option in _options(_node(loc)) for name in option.get("properties", {})]


def _unknown_field(loc: list[str]) -> tuple[str, str]:
    """The message for an unknown field, and the dotted path of the field that was probably meant."""
    name, section = loc[-1], ".".join(loc[:-1])
    known = _fields(loc[:-1])
    message = f"unknown field {_clip(name)!r} {f'in {section}' if section else 'at the top'}"
    homes = [top for top in _fields([]) if name in _fields([top]) and top != section]
    near = _near(name, known, 1)
    if near:
        return f"{message}.{did_you_mean(name, known)}", _join(section, near[0])
    if homes:
        return f"{message}. It is a field of {homes[0]}", ""
    return f"{message}.{_list(known)}", ""


def _wrong_value(name: str, loc: Sequence[str | int], value: Any) -> str:
    options = _options(_node(loc))
    names = [option for option in options if "enum" in option]
    wanted = _wanted(names if names and isinstance(value, str) else options)
    hint = ""
    if wanted == "true or false" and isinstance(value, str):
        meant = {"no": "false", "off": "false", "n": "false", "yes": "true", "on": "true", "y": "true"}
        hint = f". Write {meant[value.lower()]}" if value.lower() in meant else ""
    elif isinstance(value, str):
        hint = did_you_mean(value, [choice for option in names for choice in option["enum"]], 3)
        if "number" in wanted and _FLOAT.fullmatch(value):
            hint = ". Write it without quotes"
    elif isinstance(value, list | dict) and name.startswith("layout.") and name.count(".") == 1:
        hint = f". A {'list' if isinstance(value, list) else 'range'} is for `codesign search`: a plan looks at one layout"
    elif name == "model" or name == "software":
        wanted = f"the name of a {'preset' if name == 'model' else 'stack'}, or {wanted}"
    return f"{name} must be {wanted}, not {shown(value)}{'.' if hint.startswith(' ') else ''}{hint}"


def _wanted(options: Sequence[dict[str, Any]]) -> str:
    """What the alternatives of a schema node allow, in words."""
    return " or ".join(dict.fromkeys(_wanted_option(option) for option in options))


def _wanted_option(option: dict[str, Any]) -> str:
    if "enum" in option:
        return f"one of {', '.join(map(str, option['enum']))}"
    if "properties" in option:
        return f"a section with fields such as {', '.join(list(option['properties'])[:4])}"
    kind = option.get("type")
    if kind in ("integer", "number"):
        return f"a {'whole ' if kind == 'integer' else ''}number{_range(option)}"
    if kind == "array":
        return f"a list, each {_wanted(_options(option['items']))}"
    return {"boolean": "true or false", "object": "a section"}.get(kind or "", "text")


def _range(option: dict[str, Any]) -> str:
    low, high = option.get("minimum"), option.get("maximum")
    above, below = option.get("exclusiveMinimum"), option.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}"
    bounds = (("above", above), ("at least", low), ("at most", high), ("below", below))
    return ", ".join(f" {word} {value:,}" for word, value in bounds if value is not None).replace(",  ", ", ")


# what other tools call a value of ours
_SYNONYMS = {"fsdp": "zero3", "fsdp2": "zero3", "ddp": "none", "rope": "rotary"}


def _near(word: str, known: Sequence[str], most: int) -> list[str]:
    """The names nearest to `word`: those that continue it first, then by likeness, whatever the case."""
    if _SYNONYMS.get(word.lower()) in known:
        return [_SYNONYMS[word.lower()]]
    begun = [name for name in known if len(word) >= 3 and name.lower().startswith(word.lower())]
    if begun:
        return begun[:most]
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in get_close_matches(_clip(word.lower()), list(by_lower), most, 0.6)]


def did_you_mean(word: str, known: Sequence[str], most: int = 1) -> str:
    near = [repr(name) for name in _near(word, known, most)]
    if not near:
        return ""
    return f" Did you mean {', '.join(near[:-1])}{' or ' if near[:-1] else ''}{near[-1]}?"


def _list(known: Sequence[str]) -> str:
    return f" Allowed: {', '.join(known[:40])}{', ...' if len(known) > 40 else ''}"


# ---------------------------------------------------------------------------------------------------- quantities


def override_unit(name: str) -> str | None:
    """The base unit of the profile field `name`, None where it is a plain number: `scale_out.nic_Bps` -> `Bps`."""
    found = (units.suffix(part) for part in reversed(name.split(".")))
    return next((unit for unit in found if unit in units.UNITS), None)


def read_override(name: str, value: float | str) -> float | str:
    """An overridden profile field in its base unit; text stays text where the field has none. Raises ValueError."""
    unit = override_unit(name)
    return value if unit is None else units.parse(value, unit, bare=unit not in BARE_REFUSED)


def _override_problems(document: Document, read_as: list[str]) -> Iterator[tuple[str, str, bool]]:
    listed = document.data.get("sites")
    entries = enumerate(listed) if isinstance(listed, list) else ()
    clusters = [("cluster", document.data.get("cluster"))]
    clusters += [(f"sites.{at}.cluster", site.get("cluster")) for at, site in entries if isinstance(site, dict)]
    for path, cluster in clusters:
        override = cluster.get("override") if isinstance(cluster, dict) else None
        for name, value in override.items() if isinstance(override, dict) else ():
            unit = override_unit(name)
            if unit is None or isinstance(value, bool) or not isinstance(value, int | float | str):
                continue  # the schema says what is wrong
            where = f"{path}.override.{name}"
            try:
                number = units.parse(value, unit, bare=unit not in BARE_REFUSED)
            except ValueError as error:
                yield where, f"{where}: {error}", False
                continue
            if isinstance(value, str):
                read_as.append(f"{where}: {value!r} = {units.show(number, unit)}")


def _held(data: Any, name: str, path: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where a field of QUANTITIES is in plain data: its full path, the section that holds it, its name there."""
    head, _, rest = name.partition(".")
    if head == "*":
        for at, inner in enumerate(data if isinstance(data, list | tuple) else ()):
            yield from _held(inner, rest, f"{path}.{at}")
    elif isinstance(data, dict) and head in data:
        where = _join(path, head)
        if rest:
            yield from _held(data[head], rest, where)
        else:
            yield where, data, head


def _readings(document: Document) -> list[str]:
    found = []
    for name, unit in QUANTITIES.items():
        for where, section, leaf in _held(document.data, name):
            if isinstance(value := section[leaf], str) and (number := _number(value, unit)) is not None:
                found.append(f"{where}: {value!r} = {units.show(number, unit)}")
    return found


def _number(text: str, unit: str) -> float | None:
    """A text in its base unit; None where it is a word that the field allows beside numbers."""
    try:
        return units.parse(text, unit)
    except ValueError:
        return None


def _resolved(spec: schema.Spec) -> dict[str, Any]:
    """One canonical form: no shorthands, quantities as text with their base unit, no field without effect."""
    data = spec.model_dump(mode="json")
    for section in ("search", "run", "review"):
        if data[section] is None:
            del data[section]
    for section in ("sites", "links", "sync"):
        del data[section]
    data |= sites.canonical(spec)
    del data["model"]["hf"]  # its fields are filled in: the spec no longer needs the file
    training, layout = data["training"], data["layout"]
    if isinstance(training["precision"], str):
        training["precision"] = schema.PrecisionSpec(matmul=training["precision"]).model_dump(mode="json")
    if isinstance(training["optimizer"], str):
        training["optimizer"] = schema.Optimizer(name=training["optimizer"]).model_dump(mode="json")
    if training["optimizer"]["name"] != "muon":
        del training["optimizer"]["newton_schulz_steps"]
    if isinstance(layout["recompute"], str):
        layout["recompute"] = schema.Recompute(granularity=layout["recompute"]).model_dump(mode="json")
    kept = {"none": ["granularity"], "full": ["granularity", "fraction"]}.get(layout["recompute"]["granularity"])
    if kept is not None:
        layout["recompute"] = {name: layout["recompute"][name] for name in kept}
    for name, unit in QUANTITIES.items():
        for _, holder, leaf in _held(data, name) if unit in BARE_REFUSED else ():
            if isinstance(holder[leaf], float):
                holder[leaf] = f"{holder[leaf]!r} {units.base(unit)}"
    for name, value in data["cluster"]["override"].items():
        if (unit_of := override_unit(name)) is not None:
            data["cluster"]["override"][name] = f"{read_override(name, value)!r} {units.base(unit_of)}"
    return data


# ---------------------------------------------------------------------------------------------------- conflicts


def _conflicts(spec: schema.Spec) -> list[tuple[str, str, bool]]:
    """What no single field can tell: values that contradict each other, or that would have no effect."""
    checks = (*_model_conflicts(spec), *_training_conflicts(spec), *_layout_conflicts(spec), *_moe_conflicts(spec))
    checks = (*checks, *failures.conflicts(spec), *outcome.conflicts(spec), *sites.conflicts(spec), *review.conflicts(spec))
    return [(name, message, False) for name, message in checks]


def _model_conflicts(spec: schema.Spec) -> Iterator[tuple[str, str]]:
    model = spec.model
    kv_heads = model.kv_heads or model.heads
    if model.heads % kv_heads:
        yield "model.kv_heads", f"model.kv_heads {kv_heads} must divide model.heads {model.heads}"
    if model.head_dim is None and model.mla is None and model.hidden % model.heads:
        reason = f"is not a multiple of model.heads {model.heads}: write model.head_dim"
        yield "model.hidden", f"model.hidden {model.hidden} {reason}"
    moe = model.moe
    if model.ffn is None and (moe is None or moe.dense_layers > 0 or moe.every > 1):
        yield "model.ffn", "'ffn' is missing in model: its dense layers need the width of their FFN"
    if moe is not None and moe.top_k > moe.experts:
        yield "model.moe.top_k", f"model.moe.top_k {moe.top_k} is more than model.moe.experts {moe.experts}"
    if moe is not None and moe.dense_layers >= model.layers:
        reason = f"leaves no MoE layer of model.layers {model.layers}"
        yield "model.moe.dense_layers", f"model.moe.dense_layers {moe.dense_layers} {reason}"
    if model.positions == "learned" and model.max_positions is None:
        yield "model.positions", "'max_positions' is missing in model: learned positions need the rows of their table"
    sequence = spec.training.sequence_length
    if model.positions == "learned" and model.max_positions is not None and model.max_positions < sequence:
        reason = f"is longer than the table of learned positions: model.max_positions is {model.max_positions}"
        yield "training.sequence_length", f"training.sequence_length {sequence} {reason}"


def _training_conflicts(spec: schema.Spec) -> Iterator[tuple[str, str]]:
    training = spec.training
    optimizer, packing = training.optimizer, training.packing
    steps = "newton_schulz_steps"
    if isinstance(optimizer, schema.Optimizer) and optimizer.name != "muon" and steps in optimizer.model_fields_set:
        name = f"training.optimizer.{steps}"
        yield name, f"{name} has no effect with {optimizer.name}: only muon has these steps"
    if packing is not None and packing.mean_document_tokens > training.sequence_length:
        name = "training.packing.mean_document_tokens"
        reason = f"is longer than training.sequence_length {training.sequence_length}"
        yield name, f"{name} {packing.mean_document_tokens:g} {reason}"


def _layout_conflicts(spec: schema.Spec) -> Iterator[tuple[str, str]]:
    layout = spec.layout
    if layout.vpp > 1 and layout.schedule in ("none", "1f1b", "gpipe"):
        reason = f"has no meaning with schedule {layout.schedule}: write schedule: interleaved"
        yield "layout.vpp", f"layout.vpp {layout.vpp} {reason}"
    if layout.vpp > 1 and layout.pp == 1:
        yield "layout.vpp", f"layout.vpp {layout.vpp} has no effect with pp 1: there is no pipeline to interleave"
    if layout.schedule == "none" and (layout.pp or 1) > 1:
        yield "layout.schedule", f"layout.schedule none is for pp 1 only, and pp is {layout.pp}: write 1f1b or another"
    for name in ("first_stage_layers", "last_stage_layers"):
        if getattr(layout, name) is not None and layout.stages is not None:
            yield f"layout.{name}", f"layout.{name} and layout.stages are both given: keep one of them"
        elif getattr(layout, name) is not None and layout.pp == 1:
            yield f"layout.{name}", f"layout.{name} has no effect with pp 1: there is one stage only"
    if sorted(layout.order) != sorted(("tp", "cp", "ep", "dp", "pp")):
        yield "layout.order", "layout.order must name each of tp, cp, ep, dp, pp once"
    if layout.cp_style is not None and layout.cp == 1:
        yield "layout.cp_style", f"layout.cp_style {layout.cp_style} has no effect with cp 1"
    if layout.sequence_parallel and layout.tp == 1:
        name = "layout.sequence_parallel"
        yield name, f"{name} true has no effect with tp 1: it shares the ranks of tensor parallelism"
    yield from _sharding_conflicts(layout)
    yield from recompute_conflicts(layout, spec.model)


def _sharding_conflicts(layout: schema.Layout) -> Iterator[tuple[str, str]]:
    kind = layout.sharding
    if layout.sharding_group is not None and kind in (None, "none"):
        name = "layout.sharding_group"
        yield name, f"{name} has no effect without layout.sharding zero1, zero2, zero3 or hsdp"
    for name in ("reshard_after_forward", "prefetch"):
        if getattr(layout, name) is not None and kind not in ("zero3", "hsdp"):
            yield f"layout.{name}", f"layout.{name} has no effect without layout.sharding zero3 or hsdp"


def recompute_conflicts(layout: schema.Layout, model: schema.Model) -> Iterator[tuple[str, str]]:
    """Fields of `layout.recompute` that would have no effect, with the reason."""
    recompute = layout.recompute
    if not isinstance(recompute, schema.Recompute):
        return
    if recompute.modules and recompute.granularity != "selective":
        name = "layout.recompute.modules"
        yield name, f"{name} has no effect with granularity {recompute.granularity}: write selective"
    if recompute.granularity == "none" and "fraction" in recompute.model_fields_set:
        yield "layout.recompute.fraction", "layout.recompute.fraction has no effect with granularity none"
    for place, module in enumerate(recompute.modules):
        name = f"layout.recompute.modules.{place}"
        if module in ("moe", "moe_act", "shared_experts") and model.moe is None:
            yield name, f"layout.recompute.modules: {module} has no effect in a dense model"
        if module == "mla_up_proj" and model.mla is None:
            yield name, "layout.recompute.modules: mla_up_proj has no effect without model.mla"


def _moe_conflicts(spec: schema.Spec) -> Iterator[tuple[str, str]]:
    layout, moe = spec.layout, spec.model.moe
    if moe is not None:
        if moe.experts % layout.ep:
            yield "layout.ep", f"layout.ep {layout.ep} must divide model.moe.experts {moe.experts}"
        return
    if layout.ep > 1:
        yield "layout.ep", f"layout.ep {layout.ep} has no effect: the model is dense, it has no experts"
    for name, section, value in (
        ("etp", "layout", layout.etp),
        ("expert_groups_per_token", "layout", layout.expert_groups_per_token),
        ("moe_dispatcher", "software", spec.software.moe_dispatcher),
    ):
        if value is not None:
            yield f"{section}.{name}", f"{section}.{name} has no effect: the model is dense, it has no experts"


# ---------------------------------------------------------------------------------------------------- JSON schema


def json_schema() -> dict[str, Any]:
    """JSON schema (draft-07) of the spec as people write it: shorthands allowed, preset fields not required."""
    data = schema.Spec.model_json_schema()
    definitions = data["$defs"]
    for name in ("MoE", "MLA", "SlidingWindow"):  # may be given in part, over a preset
        del definitions[name]["required"]
    complete = definitions["Model"].pop("required")
    definitions["Model"]["anyOf"] = [{"required": ["preset"]}, {"required": ["hf"]}, {"required": complete}]
    _open_layout(definitions)
    for name in ("model", "software"):
        section = data["properties"][name]
        shorthand = {"type": "string", "description": f"the name of a {'preset' if name == 'model' else 'stack'}"}
        data["properties"][name] = {"anyOf": [shorthand, section]}
    for name, section in {"Spec": data, **definitions}.items():
        _describe(section.get("properties", {}), field_words().get(name, {}))
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "codesign spec", **data}


@functools.cache
def field_words() -> dict[str, dict[str, str]]:
    """What every field means: section -> field -> text."""
    words: dict[str, dict[str, str]] = yaml.safe_load(_FIELD_WORDS.read_text(encoding="utf-8"))
    return words


def _describe(properties: dict[str, Any], words: Mapping[str, str]) -> None:
    """Write the description of each field; its type may have one of its own, which says the unit."""
    for name in properties.keys() & words.keys():
        node = properties[name]
        units_of = [option["description"] for option in (node, *node.get("anyOf", ())) if "description" in option]
        own = units_of[0] if "$ref" not in node and name not in ("model", "software") and units_of else ""
        properties[name] = {**node, "description": f"{words[name]} ({own})" if own else words[name]}


def _open_layout(definitions: dict[str, Any]) -> None:
    """A search takes a list or a range where a plan takes one value."""
    from codesign.spec import domains

    whole = {"type": "integer", "minimum": 1}
    definitions["Range"] = {
        "type": "object", "additionalProperties": False, "required": ["from", "to"],
        "description": "a range of values for `codesign search`",
        "properties": {name: dict(whole) for name in ("from", "to", "step", "times")},
    }  # fmt: skip
    for section, names in (("Layout", list(schema.Layout.model_fields)), ("Training", ["global_batch_sequences"])):
        for name in names:
            one = definitions[section]["properties"][name]
            several: list[dict[str, Any]] = [one, {"type": "array", "minItems": 1, "items": one}]
            if name in domains.RANGED:
                several.append({"$ref": "#/$defs/Range"})
            kept = {key: one[key] for key in ("default", "title") if key in one}
            definitions[section]["properties"][name] = {**kept, "anyOf": several}
