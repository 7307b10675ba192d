"""Files that come from a page: a spec (YAML) or a Hugging Face config.json, turned into the text of a spec.

Nothing is unpacked, run or stored, and the name of the file is only shown.
"""

from __future__ import annotations

from codesign.app import specs
from codesign.errors import SpecError
from codesign.report import view
from codesign.spec import hf

MAX_UPLOAD_MB = 1  # what the widget takes; what is read of it is MAX_TEXT_B
KINDS = ("yaml", "yml", "json")


def taken(data: bytes, name: str, base: str) -> str:
    """The spec that an uploaded file gives: a YAML spec as it is, the model of a config.json put into the spec `base`.

    Raises SpecError, with the shortened name, for what is too large, no text, or neither of the two, and for a spec with a
    mistake: it does not take the place of the one that is open.
    """
    shown = shown_name(name)
    if len(data) > specs.MAX_TEXT_B:
        raise SpecError(f"{shown}: {len(data):,} bytes; at most {specs.MAX_TEXT_B:,} bytes are read here")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{shown}: not UTF-8 text (byte {error.start + 1})") from None
    if not text.lstrip().startswith("{") and not name.lower().endswith(".json"):
        specs.checked(specs.document(text, file=shown), shown)
        return text
    fields, notes = hf.parse(text, shown)
    return with_model(base, fields, notes)


def with_model(base: str, fields: dict[str, object], notes: list[str]) -> str:
    """The spec `base` with another model; how the model was read stands in the first lines."""
    found = specs.document(base)
    found.data["model"] = fields
    said = "".join(f"# {note}\n" for note in notes)
    return f"{said}{view.spec_yaml(found.data)}"


def shown_name(name: str) -> str:
    """A file's name without folders and control characters, clipped."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(c for c in last if c.isprintable()) or "the file"
    return clean if len(clean) <= 60 else f"{clean[:57]}..."
