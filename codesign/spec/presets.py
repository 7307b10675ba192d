"""Model presets: one small YAML file a model in `data/models`, with the citation of its shape and its published size.

A preset holds fields of `schema.Model`, `source` (where the shape stands) and `published_parameters`: `total` and
`active` are exact published counts or null; `printed_total`, `printed_active` and `printed_active_without_input_table`
are rounded figures as printed; `source` says where. How to add a model: write one such file.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from codesign.errors import ProfileError

FOLDER = Path(__file__).parent / "data" / "models"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")  # also keeps a name from leaving the folder
_ABOUT = ("source", "published_parameters")


def names() -> list[str]:
    """Every preset, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> dict[str, Any]:
    """The fields of `schema.Model` of the preset called `name`. Reads that one file."""
    return {key: value for key, value in _read(name).items() if key not in _ABOUT}


def describe(name: str) -> dict[str, Any]:
    """The preset with its footing: `name`, `model` (its fields), `source`, `published_parameters`."""
    raw = _read(name)
    return {"name": name, "model": load(name), **{key: raw[key] for key in _ABOUT}}


def _read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.yaml"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not path.is_file():
        raise _unknown(name)
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, _LOADER)


def _unknown(name: object) -> ProfileError:
    known = names()
    near = difflib.get_close_matches(str(name)[:80].lower(), known, 1, 0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    message = f"unknown model preset {str(name)[:80]!r}.{hint} Known: {', '.join(known)}"
    return ProfileError(message, field="model.preset")
