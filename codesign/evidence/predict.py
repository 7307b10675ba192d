"""Predictions of many measured rows at once: rows of one structure go through the quantities as one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import planner
from codesign.evidence.runs import Converted
from codesign.graph import Program
from codesign.spec.resolve import Problem


@dataclass(frozen=True)
class Batch:
    """Rows of one structure, ready to run: their places in the list, their leaves, which leaf rests on which constant."""

    rows: tuple[int, ...]
    leaves: Mapping[str, Any]
    constants: Mapping[str, tuple[tuple[str, NDArray[np.bool_]], ...]]  # constant -> (leaf, which rows)
    program: Program


def batches(converted: Sequence[Converted], targets: Sequence[str]) -> list[Batch]:
    """Group the rows that can be predicted by structure."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for at, one in enumerate(converted):
        if one.problem is not None:
            groups[(one.problem.structure, one.problem.kinds)].append(at)
    made = []
    for members in groups.values():
        problems = [p for i in members if (p := converted[i].problem) is not None]
        leaves = planner.leaf_values(problems)
        made.append(
            Batch(tuple(members), leaves, _constants(problems), planner.program_for(targets, problems[0], leaves))
        )
    return made


def _constants(problems: Sequence[Problem]) -> dict[str, tuple[tuple[str, NDArray[np.bool_]], ...]]:
    found: dict[str, list[tuple[str, NDArray[np.bool_]]]] = defaultdict(list)
    for leaf in problems[0].leaves:
        names = np.array([p.leaves[leaf].constant or "" for p in problems])
        for name in set(names) - {""}:
            found[str(name)].append((leaf, names == name))
    return {name: tuple(rows) for name, rows in found.items()}


def with_constants(batch: Batch, values: Mapping[str, float]) -> dict[str, Any]:
    """The leaves with some constants replaced."""
    leaves = dict(batch.leaves)
    for name, value in values.items():
        for leaf, rows in batch.constants.get(name, ()):
            leaves[leaf] = np.where(rows, value, leaves[leaf])
    return leaves


def run(
    made: Sequence[Batch], count: int, quantity: str, values: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """One number a row (nan where the row cannot be predicted)."""
    out = np.full(count, np.nan)
    for batch in made:
        leaves = with_constants(batch, values) if values else batch.leaves
        result = batch.program.run(leaves)[(quantity, None)]
        out[list(batch.rows)] = np.broadcast_to(result, (len(batch.rows),))
    return out
