"""What the short source keys stand for ("EQ-28", "op_fits section 2", "network.md section 4"): formula, origin, standing.

The entries are data, `data/references.yaml`; formulas are plain text, one statement a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "data" / "references.yaml"
STATUSES = ("confirmed", "derived", "unconfirmed")
UMBRELLAS = ("op_fits", "network.md")  # whole documents: their sections have entries of their own
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NUMBER = r"\d+(?:\.\d+)?"
_EQUATION = re.compile(r"\bEQ-(\d+)\b")
_RANGE = re.compile(r"\s+to\s+")
_DOCUMENT = re.compile(
    rf"\b(?P<document>op_fits|network\.md)(?:\.md)?"
    rf"(?:\s+sections?\s+(?P<sections>{_NUMBER}(?:(?:\s+and|,)\s+{_NUMBER}\b)*)|\s+(?P<form>[A-Z]\d)\b)?"
)


@dataclass(frozen=True)
class Reference:
    """One entry. `also`: other keys of the same entry; `sections`: number and meaning, for a whole document."""

    key: str
    title: str
    formula: str
    source: str
    status: str
    also: tuple[str, ...] = ()
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Of the heading `key` in a Markdown page."""
        return re.sub(r"[^\w -]", "", self.key).lower().replace(" ", "-")


@dataclass(frozen=True)
class Mention:
    """Where a text names keys: the characters from `start` to `end`; a range names those between at its end."""

    start: int
    end: int
    keys: tuple[str, ...]


@cache
def _data() -> dict[str, Any]:
    return yaml.load(FILE.read_text(encoding="utf-8"), Loader=_LOADER)


@cache
def load() -> dict[str, Reference]:
    """Every entry by its key, in the order of the file."""
    return {key: _reference(key, **entry) for key, entry in _data()["references"].items()}


def _reference(
    key: str, *, title: str, formula: str, source: str, status: str,
    also: Iterable[str] = (), sections: dict[int, str] | None = None,
) -> Reference:
    named = {str(number): meaning for number, meaning in (sections or {}).items()}
    return Reference(key, title, formula.strip(), source, status, tuple(also), named)


@cache
def symbols() -> dict[str, str]:
    """Letters that mean the same in every formula, unless its own lines say otherwise."""
    return dict(_data()["symbols"])


def symbols_in(references: Iterable[Reference]) -> dict[str, str]:
    """The symbols that these formulas use."""
    words = {word for reference in references for word in re.findall(r"[A-Za-z_]\w*", reference.formula)}
    return {symbol: meaning for symbol, meaning in symbols().items() if symbol in words}


@cache
def _by_any_key() -> dict[str, Reference]:
    return {name: reference for reference in load().values() for name in (reference.key, *reference.also)}


def mentions(text: str) -> list[Mention]:
    """Every place where the text names a key, known or not, in order.

    "EQ-35 to EQ-38" names the two ends and what is known between them; "op_fits section 2 and 7.2" two sections.
    """
    return sorted([*_equations(text), *_documents(text)], key=lambda mention: mention.start)


def _equations(text: str) -> list[Mention]:
    found: list[Mention] = []
    last: re.Match[str] | None = None
    for match in _EQUATION.finditer(text):
        inner: tuple[str, ...] = ()
        if last is not None and _RANGE.fullmatch(text, last.end(), match.start()):
            between = (f"EQ-{number:02d}" for number in range(int(last[1]) + 1, int(match[1])))
            inner = tuple(key for key in between if key in _by_any_key())
        found.append(Mention(match.start(), match.end(), (*inner, match[0])))
        last = match
    return found


def _documents(text: str) -> list[Mention]:
    found: list[Mention] = []
    for match in _DOCUMENT.finditer(text):
        document, start = match["document"], match.start()
        if match["sections"] is None:
            name = f"{document} {match['form']}" if match["form"] else document
            found.append(Mention(start, match.end(), (name,)))
            continue
        for number in re.finditer(_NUMBER, match["sections"]):
            begin, end = match.start("sections") + number.start(), match.start("sections") + number.end()
            found.append(Mention(start if number.start() == 0 else begin, end, (f"{document} section {number[0]}",)))
    return found


def keys(text: str) -> list[str]:
    """Every key that the text names, known or not, in order, once each."""
    return list(dict.fromkeys(key for mention in mentions(text) for key in mention.keys))


def lookup(text: str) -> list[Reference]:
    """The entries of the keys that the text names, in order, once each; keys without an entry are left out."""
    known = _by_any_key()
    return list({known[key].key: known[key] for key in keys(text) if key in known}.values())
