"""Sections that a page can add to a spec: `starters.yaml`, read as data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import yaml

from codesign.app import fields
from codesign.spec.load import Document

FILE = "starters.yaml"


@dataclass(frozen=True)
class Starter:
    """`adds`: fields and their texts; `needs`: the same, for what the spec may write already; `told`: what it adds, in words."""

    told: str
    adds: Mapping[str, str]
    needs: Mapping[str, str]

    def changes(self, found: Document) -> tuple[tuple[str, str], ...]:
        """What to change in a spec."""
        missing = {path: text for path, text in self.needs.items() if not fields.value_written(found, path)}
        return (*missing.items(), *self.adds.items())

    def said(self, found: Document) -> str:
        """What it adds to a spec, in words."""
        more = [f"{path}: {text}" for path, text in self.changes(found) if path not in self.adds]
        return f"{self.told} It also writes what the spec leaves out: {', '.join(more)}." if more else self.told


@functools.cache
def starters() -> Mapping[str, Starter]:
    """All of them by name."""
    found = yaml.safe_load(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return {name: Starter(one["told"], one["adds"], one.get("needs", {})) for name, one in found.items()}
