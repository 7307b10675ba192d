"""Pairs of measured runs: by how much our error on one differs from our error on the other, and how often we rank rightly.

A comparison of two plans rests on the difference of their errors, not on either error: what two layouts of one model have in
common is wrong in both. Predictions are those of constants fitted without the group of the row. The scope of a pair is
the widest thing in which it differs (`planner.SCOPES`). A group, or a pair of groups, counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import planner
from codesign.evidence import runs
from codesign.evidence.score import layout_key, weighted_quantiles
from codesign.spec.resolve import Problem

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
FEWEST_GROUPS = 3  # a cell of fewer is left out
WITHIN = ("layout", "size", "precision")  # scopes whose pairs lie in one group
GAP_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, np.inf)


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows as columns: logs of time per token, predicted and measured, of the first over the second."""

    scope: NDArray[np.str_]
    kind: NDArray[np.str_]  # dense | moe | mixed
    predicted: Array
    measured: Array
    groups: Codes  # (2, pairs)

    def keep(self, chosen: NDArray[np.bool_]) -> Pairs:
        return Pairs(
            self.scope[chosen], self.kind[chosen], self.predicted[chosen], self.measured[chosen], self.groups[:, chosen]
        )

    @property
    def noise(self) -> Array:
        """|difference of the log residuals|."""
        return np.abs(self.predicted - self.measured)

    @property
    def weights(self) -> Array:
        """1 / pairs of the same group, or of the same two groups."""
        low, high = np.minimum(*self.groups), np.maximum(*self.groups)
        _, which, count = np.unique(low * (1 + int(np.max(high))) + high, return_inverse=True, return_counts=True)
        return 1.0 / count[which]


def _codes(converted: Sequence[runs.Converted], key: Callable[[runs.Row, Problem], Any]) -> Codes:
    """One number for each distinct key."""
    keys = [repr(key(c.row, c.problem)) for c in converted if c.problem is not None]
    return np.unique(keys, return_inverse=True)[1]


def pairs(converted: Sequence[runs.Converted], measured: Array, logs: Array) -> Pairs:
    """All pairs of different configurations among rows that can be predicted; `logs` are their log predictions."""
    group = _codes(converted, lambda row, problem: row.get("group"))
    hardware = _codes(converted, lambda row, problem: (problem.profile.family, problem.stack.name))
    layout = _codes(converted, lambda row, problem: layout_key(row))
    precision = _codes(converted, lambda row, problem: row["layout"].get("precision"))
    size = _codes(converted, lambda row, problem: (row["accelerators"], _batch(problem)))
    moe = np.array([c.problem is not None and c.problem.spec.model.moe is not None for c in converted])
    tokens = np.log([float(np.prod(_batch(c.problem))) for c in converted if c.problem is not None])
    one, other = np.triu_indices(len(converted), 1)

    def same(codes: Codes) -> NDArray[np.bool_]:
        return codes[one] == codes[other]

    inside = same(group)
    scope = np.select(
        [inside & ~same(precision), inside & ~same(size), inside, same(hardware)],
        ["precision", "size", "layout", "model"], "other",
    )  # fmt: skip
    kind = np.where(moe[one] == moe[other], np.where(moe[one], "moe", "dense"), "mixed")
    rate, truth = logs - tokens, np.log(measured) - tokens
    made = Pairs(scope, kind, rate[one] - rate[other], truth[one] - truth[other], np.stack([group[one], group[other]]))
    return made.keep(~inside | ~same(layout) | ~same(size))


def _batch(problem: Problem) -> tuple[int, int]:
    return problem.spec.training.global_batch_sequences, problem.spec.training.sequence_length


def table(found: Pairs) -> dict[str, Any]:
    """Quantiles of |difference of log residuals| by cell: scope x kind of model, and scope x any."""
    cells: dict[str, Any] = {}
    for scope in planner.SCOPES:
        for kind in ("any", "dense", "moe"):
            some = found.keep((found.scope == scope) & ((kind == "any") | (found.kind == kind)))
            groups = len(np.unique(some.groups)) if some.noise.size else 0
            if groups >= FEWEST_GROUPS:
                quantiles = weighted_quantiles(some.noise.tolist(), some.weights.tolist(), SHARES)
                cells[f"{scope} x {kind}"] = {
                    "noise": [round(value, 4) for value in quantiles], "pairs": len(some.noise), "groups": groups,
                }  # fmt: skip
    return {"shares": list(SHARES), "cells": cells}


def calibration(found: Pairs) -> list[dict[str, Any]]:
    """Confidence against the share of pairs that are ranked rightly, by predicted gap; each group by a table made without it.

    Only pairs inside a group; the rows of scope `any` are over all of them, a group counting once for each scope.
    """
    held = {scope: _told(found.keep(found.scope == scope)) for scope in WITHIN if np.any(found.scope == scope)}
    held["any"] = tuple(np.concatenate(columns, axis=-1) for columns in zip(*held.values(), strict=True))
    rows = []
    for scope, (gap, right, told, weight, group) in held.items():
        for low, high in pairwise(GAP_EDGES):
            inside = (gap >= low) & (gap < high)
            if np.any(inside):
                share, error = _clustered(right[inside], weight[inside], group[inside])
                rows.append({
                    "scope": scope, "gap_from": low, "gap_to": None if np.isinf(high) else high,
                    "pairs": int(np.count_nonzero(inside)), "groups": len(np.unique(group[inside])),
                    "right": share, "standard_error": error,
                    "confidence": float(np.average(told[inside], weights=weight[inside])),
                })  # fmt: skip
    return rows


def _clustered(values: Array, weight: Array, group: NDArray[Any]) -> tuple[float, float]:
    """The weighted mean and its standard error, of values that are alike inside a group."""
    mean = float(np.average(values, weights=weight))
    pulls = np.bincount(group, weights=weight * (values - mean))
    return mean, float(np.sqrt(np.sum(pulls**2)) / np.sum(weight))


def _told(some: Pairs) -> tuple[Array, ...]:
    """Of the pairs of one scope: predicted gap, 1 where ranked rightly, confidence without the own group, weight, group."""
    gap, group = np.abs(some.predicted), some.groups[0]
    right = np.where(some.measured == 0.0, 0.5, some.predicted * some.measured > 0.0)
    told = np.full(gap.size, np.nan)
    for own in np.unique(group):
        without = table(some.keep(group != own))
        for kind in np.unique(some.kind[group == own]):
            where = (group == own) & (some.kind == kind)
            cell = planner.ranking_cell(without, str(some.scope[0]), str(kind))
            told[where] = planner.ranked_rightly(without, cell, gap[where])
    return gap, right, told, some.weights, group
