"""Specs that come from a page or a link: read as data, bounded in size, no file of the server opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign import errors
from codesign.app import limits
from codesign.report import view
from codesign.spec import load, profiles
from codesign.spec.load import Document, Loaded

MAX_TEXT_B = 256_000  # longest spec that is read from a page
FILE = "spec.yaml"  # what messages call it


@dataclass(frozen=True)
class Fault:
    """Why there is no answer: one message, and the written line with a caret where the place is known."""

    message: str
    caret: str = ""


def fault_of(error: errors.CodesignError) -> Fault:
    """The same as two texts for a page."""
    if not isinstance(error, errors.SpecError):
        return Fault(str(error))
    where = f"{error.place}: " if error.place else ""
    return Fault(where + error.message, error.place.caret() if error.place else "")


def document(text: str, changes: Sequence[tuple[str, str]] = (), file: str = FILE) -> Document:
    """The spec as written, `changes` (field, text) in it; not yet checked. Raises SpecError for what is no YAML of a spec.

    A spec from a page may name what is shipped, not a file of the machine that serves the page. `file`: what messages call it.
    """
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_B:
        raise errors.SpecError(f"a spec of at most {MAX_TEXT_B:,} bytes is read here")
    found = load.parse_yaml(text, file)
    for field, value in changes:
        load.apply_set(found, f"{field}={value}")
    _refuse_files(found)
    return found


def written(text: str, changes: Sequence[tuple[str, str]] = ()) -> str:
    """The YAML of a spec with some fields changed: the text itself, with its comments, where nothing is. Raises SpecError."""
    if not changes:
        return text
    data = document(text, changes).data
    for section, part in data.items():
        if isinstance(part, dict) and section != "model":  # whose nulls overrule a preset
            data[section] = {name: value for name, value in part.items() if value is not None}
    return view.spec_yaml(data)


def checked(found: Document, file: str = FILE) -> Loaded:
    """The checked spec of a document; fills the model's preset into it. Raises SpecError, also for what is too large here."""
    loaded = load.check(found, (), Path(), file)
    limits.check(loaded)
    return loaded


def _refuse_files(found: Document) -> None:
    known = {"profile": profiles.names, "fabric": profiles.fabric_names}
    for path, name, value in _named(found.data, ""):
        if name == "hf" and value is not None:
            raise errors.SpecError(
                f"{path} names a file, and no file is opened here: upload the config.json, use a preset, or write the "
                "model's fields", field=path, place=found.places.get(path))
        if name in known and isinstance(value, str) and value not in known[name]():
            raise errors.SpecError(
                f"{path} {value[:60]!r} is none of the shipped ones, and no file is opened here. "
                f"Known: {', '.join(known[name]())}", field=path, place=found.places.get(path))


def _named(data: Any, above: str) -> Iterator[tuple[str, str, Any]]:
    """Every field that may name a file, wherever it stands: its path, its name, its value."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        path = f"{above}.{name}" if above else str(name)
        if name in ("hf", "profile", "fabric"):
            yield path, name, value
        yield from _named(value, path)
