"""What the parts of a spec put together for the graph of a run; `codesign.run.Inputs` is it."""

from __future__ import annotations

from typing import Any, Protocol

from codesign.spec.resolve import Leaf


class Made(Protocol):
    """Numbers with their source, index sets, structure, what is asked for, and what is to be said."""

    leaves: dict[str, Leaf]
    indexes: dict[str, tuple[str, ...]]
    structure: dict[str, Any]
    targets: list[str]
    notes: list[str]

    def put(self, name: str, value: float, kind: str, source: str) -> None: ...


__all__ = ["Made"]
