"""How errors are counted: groups count once, pairs for ranking, families for regret.

error = predicted / measured - 1. Median and 90th percentile weight each row by 1/rows of its group; mean and bias
average the groups' means.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

LAYOUT = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "etp",
    "dp",
    "micro_batch",
    "schedule",
    "sharding",
    "sequence_parallel",
    "recompute",
    "precision",
)


def mark(ok: bool) -> str:
    """How a bar stands, for the lines that `make bars` prints."""
    return "met " if ok else "SHORT"


@dataclass(frozen=True)
class Score:
    """Errors of one set of rows, as fractions."""

    rows: int
    groups: int
    median: float
    p90: float
    mean: float
    bias: float

    def row(self) -> dict[str, Any]:
        return asdict(self)


def weighted_quantiles(values: Sequence[float], weights: Sequence[float], shares: Sequence[float]) -> list[float]:
    """For each share, the smallest value below which that share of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(np.asarray(weights, dtype=np.float64)[order])
    ordered = np.append(np.asarray(values, dtype=np.float64)[order], np.nan)
    return ordered[np.searchsorted(reached, np.asarray(shares) * float(np.sum(weights)))].tolist()


def weighted_quantile(values: Sequence[float], weights: Sequence[float], share: float) -> float:
    """The smallest value below which `share` of the weight lies."""
    return weighted_quantiles(values, weights, (share,))[0]


def score(errors: Mapping[str, float], group_of: Mapping[str, str]) -> Score:
    """Errors by row id, and the group of each row."""
    if not errors:
        nan = float("nan")
        return Score(0, 0, nan, nan, nan, nan)
    groups: dict[str, list[float]] = defaultdict(list)
    for row, error in errors.items():
        groups[group_of[row]].append(error)
    sizes = [abs(e) for g in groups.values() for e in g]
    weights = [1.0 / len(g) for g in groups.values() for _ in g]
    return Score(
        len(errors),
        len(groups),
        weighted_quantile(sizes, weights, 0.5),
        weighted_quantile(sizes, weights, 0.9),
        float(np.mean([np.mean(np.abs(g)) for g in groups.values()])),
        float(np.mean([np.mean(g) for g in groups.values()])),
    )


def _families(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Rows of one group with equal accelerators, batch and sequence length."""
    families: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        key = (row["group"], row["accelerators"], row["layout"].get("global_batch_sequences"), row["model"].get("seq"))
        families[key].append(row)
    return families


def layout_key(row: Mapping[str, Any]) -> str:
    """What makes two rows the same layout."""
    return json.dumps([row["layout"].get(k) for k in LAYOUT], sort_keys=True)


def ranking(
    rows: Iterable[Mapping[str, Any]], predicted: Mapping[str, float], margin: float = 0.05
) -> tuple[float, int]:
    """Share of pairs whose order is right, groups counting equally; and how many groups have pairs."""
    right: dict[str, list[bool]] = defaultdict(list)
    for key, members in _families(r for r in rows if r["id"] in predicted).items():
        for at, one in enumerate(members):
            for other in members[:at]:
                ratio = one["measured"]["step_time_s"] / other["measured"]["step_time_s"]
                if abs(ratio - 1) > margin and layout_key(one) != layout_key(other):
                    right[key[0]].append((ratio > 1) == (predicted[one["id"]] > predicted[other["id"]]))
    if not right:
        return float("nan"), 0
    return float(np.mean([np.mean(v) for v in right.values()])), len(right)


def regrets(rows: Iterable[Mapping[str, Any]], predicted: Mapping[str, float], layouts: int = 6) -> dict[str, float]:
    """For each family with that many layouts: how much slower our pick was measured than the best measured."""
    found = {}
    for key, members in _families(r for r in rows if r["id"] in predicted).items():
        if len({layout_key(m) for m in members}) >= layouts:
            best = min(m["measured"]["step_time_s"] for m in members)
            pick = min(members, key=lambda m: predicted[m["id"]])
            found[" ".join(map(str, key))] = pick["measured"]["step_time_s"] / best - 1.0
    return found
