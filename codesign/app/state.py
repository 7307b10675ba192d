"""What a visitor asks, as plain data: a spec and the fields changed in it; and the link that says the same.

A link has `example=NAME` or `spec=` (a packed text), one parameter a changed field (`layout.tp=4`), and `pin=` with the
link of the baseline in it. What a link holds is read as data, bounded, and refused with a message.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from codesign.app import specs
from codesign.errors import SpecError
from codesign.spec import datafiles, load, schema

MAX_CHANGES = 100
MAX_VALUE = 2000  # characters of one changed field
MAX_LINK = 12_000  # characters of a packed spec in a link
FIRST = "llama-3.1-405b-h100"
RESERVED = ("example", "spec", "pin")
PAGES = (  # parameters in which pages keep what is chosen on them; and axis-DIMENSION
    "tab", "explain", "depth", "part", "between", "class", "by", "open", "asked", "dims", "equal", "solve",
)  # fmt: skip
_FIELD = re.compile(r"[a-z_]+(\.[A-Za-z0-9_-]+){0,8}")


@dataclass(frozen=True)
class State:
    """A shipped spec by name, or a text of its own; and the fields changed in it, in order: (dotted field, YAML text)."""

    example: str = FIRST
    text: str = ""
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def base(self) -> str:
        """The YAML text that the changes are applied to."""
        return self.text or examples()[self.example]

    @property
    def title(self) -> str:
        """What it starts from, in words."""
        return "your own spec" if self.text else self.example

    def change(self, field: str, value: str | None) -> State:
        """Another value of one field; None takes the change back. Raises SpecError for what cannot be a field."""
        kept = tuple(pair for pair in self.changes if pair[0] != field and not pair[0].startswith(f"{field}."))
        return replace(self, changes=kept if value is None else (*kept, _checked_change(field, value)))


@functools.cache
def examples() -> Mapping[str, str]:
    """The shipped specs by name."""
    files = sorted(datafiles.root("examples").glob("*.yaml"))
    return {path.stem: path.read_text(encoding="utf-8") for path in files}


def of_text(text: str) -> State:
    """The state of a written or uploaded spec; the text of a shipped one is that one."""
    known = next((name for name, shipped in examples().items() if shipped.strip() == text.strip()), None)
    return State(example=known) if known else State(example="", text=text)


# ---------------------------------------------------------------------------------------------------- links


def to_query(state: State) -> dict[str, str]:
    """The parameters of the link; none for the first example as it is, and none where the text is too long for a link."""
    found: dict[str, str] = {}
    if state.text:
        found["spec"] = pack(state.text)
        if len(found["spec"]) > MAX_LINK:
            return {}
    elif state.example != FIRST:
        found["example"] = state.example
    return {**found, **dict(state.changes)}


def fits_link(state: State) -> bool:
    """Whether the link can hold the spec."""
    return not state.text or len(pack(state.text)) <= MAX_LINK


def from_query(query: Mapping[str, str]) -> State:
    """The state that a link asks for. Raises SpecError. Parameters of pages are skipped."""
    changes = [(name, value) for name, value in query.items() if is_field(name)]
    if len(changes) > MAX_CHANGES:
        raise SpecError(f"the link changes {len(changes)} fields; at most {MAX_CHANGES} are read")
    pairs = tuple(_checked_change(name, value) for name, value in changes)
    if "spec" in query:
        if "example" in query:
            raise SpecError("the link has both example= and spec=: one of them is wanted")
        return State("", unpack(query["spec"]), pairs)
    name = query.get("example", FIRST)
    if name not in examples():
        raise SpecError(f"the link asks for the example {name[:60]!r}. Known: {', '.join(examples())}")
    return State(name, "", pairs)


def unknown(query: Mapping[str, str]) -> str:
    """What to say of parameters that are neither of a spec nor of a page; empty where there are none."""
    strange = [name for name in query if not (is_field(name) or name in RESERVED or name in PAGES or name.startswith("axis-"))]
    if not strange:
        return ""
    listed = ", ".join(name[:60] for name in strange[:5])
    hint = load.did_you_mean(strange[0], [*schema.Spec.model_fields, *RESERVED])
    return f"The link has {listed}, which is no field of a spec: it is left aside. A field is written as in layout.tp=4.{hint}"


def pin_to_text(state: State) -> str:
    """The link of the baseline, as the value of one parameter."""
    return urlencode({"example": state.example, **to_query(state)} if not state.text else to_query(state))


def pin_from_text(text: str) -> State:
    """The baseline of a link. Raises SpecError."""
    if len(text) > 2 * MAX_LINK:
        raise SpecError(f"the baseline of the link has {len(text):,} characters: too long to be one")
    try:
        return from_query(dict(parse_qsl(text, strict_parsing=bool(text), max_num_fields=MAX_CHANGES + 3)))
    except ValueError:
        raise SpecError("the baseline of the link (pin=) cannot be read") from None


def is_field(name: str) -> bool:
    """Whether a parameter of the link is a field of the spec."""
    return name.partition(".")[0] in schema.Spec.model_fields


def _checked_change(field: str, value: str) -> tuple[str, str]:
    if not is_field(field) or not _FIELD.fullmatch(field) or len(field) > 120:
        raise SpecError(f"{field[:60]!r} is not the name of a field of a spec")
    if len(value) > MAX_VALUE or "\n" in value:
        raise SpecError(f"{field}: a value of at most {MAX_VALUE:,} characters on one line is wanted")
    return field, value


def pack(text: str) -> str:
    """A text as URL-safe characters."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(packed: str) -> str:
    """The text of `pack`. Raises SpecError for what is no such text; stops where it grows beyond a spec."""
    if len(packed) > MAX_LINK:
        raise SpecError(f"the spec in the link has {len(packed):,} characters; at most {MAX_LINK:,} are read")
    try:
        data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(data, specs.MAX_TEXT_B)
        if reader.unconsumed_tail or not reader.eof:
            raise SpecError(f"the spec in the link is cut off, or longer than {specs.MAX_TEXT_B:,} bytes")
        if reader.unused_data:
            raise SpecError(f"the spec in the link has {len(reader.unused_data):,} bytes behind its end: copy the link anew")
        return text.decode()
    except (binascii.Error, zlib.error, ValueError):
        raise SpecError("the spec in the link cannot be read: copy the whole link") from None
