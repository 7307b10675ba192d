"""Answers about a run that are asked for again and again, as a page that is drawn anew does; kept while the run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TypeVar

from codesign.run import RunPlan

Answer = TypeVar("Answer")
_MOST = 32  # runs whose answers are kept


@dataclass(frozen=True, eq=False)
class _Same:
    """A run that is known by being that object: it holds arrays, and its spec alone does not say what it is."""

    run: RunPlan

    def __hash__(self) -> int:
        return id(self.run)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.run is self.run


def kept(function: Callable[[RunPlan], Answer]) -> Callable[[RunPlan], Answer]:
    """The same function, computed once a run. Who gets the answer writes nothing into it."""
    found = lru_cache(maxsize=_MOST)(lambda same: function(same.run))

    @wraps(function)
    def asked(run: RunPlan) -> Answer:
        return found(_Same(run))

    return asked
