"""Uneven pipeline stages by cost: which layers each stage holds, so that the slowest has least to do.

The costs are the model's own times of each kind of layer, of the embedding, the head and the multi-token-prediction
module; the assignment is exact (dynamic program over contiguous stages), whether or not the layers divide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from codesign.errors import SpecError

Floats = NDArray[np.float64]

MOST_LAYERS = 4096  # the table of all runs of layers has the square of it: 128 MiB, and a few of them at once


@dataclass(frozen=True)
class Costs:
    """Seconds of one micro-batch, forward and backward: of every layer in order, and of what the ends hold besides."""

    layers: tuple[float, ...]
    embedding: float
    head: float
    mtp: float = 0.0  # all multi-token-prediction modules together
    mtp_layers: int = 0


def _alone() -> None:
    """Nobody waits."""


def assign(costs: Sequence[float], extra: Sequence[float], watch: Callable[[], None] = _alone) -> list[int]:
    """Layers of every stage, in order: the least slowest stage, and among those the least sum of squares.

    `costs`: of each layer; `extra`: what each stage does besides. A stage may hold none. Exact. `watch` is called before
    every stage and may raise. Raises SpecError for more than MOST_LAYERS.
    """
    if len(costs) > MOST_LAYERS:
        raise SpecError(f"layout.stages balanced: {len(costs):,} layers, more than the {MOST_LAYERS:,} whose stages are balanced "
                        "by cost: write default, or a string", field="layout.stages")  # fmt: skip
    prefix = np.concatenate(([0.0], np.cumsum(np.asarray(costs, dtype=np.float64))))
    layers, stages = len(costs), len(extra)
    span = prefix[np.newaxis, :] - prefix[:, np.newaxis]  # work of layers i to j
    span = np.where(np.arange(layers + 1)[:, np.newaxis] <= np.arange(layers + 1), span, np.inf)
    slowest = _least(span, extra, watch) * (1.0 + 1e-12)
    best = np.full(layers + 1, np.inf)
    best[0] = 0.0
    choice = np.zeros((stages, layers + 1), dtype=np.int64)
    for stage, more in enumerate(extra):
        watch()
        work = span + more
        total = best[:, np.newaxis] + np.where(work <= slowest, work * work, np.inf)
        choice[stage] = np.argmin(total, axis=0)
        best = np.min(total, axis=0)
    counts: list[int] = []
    end = layers
    for stage in reversed(range(stages)):
        begin = int(choice[stage, end])
        counts.append(end - begin)
        end = begin
    return counts[::-1]


def _least(span: Floats, extra: Sequence[float], watch: Callable[[], None]) -> float:
    """The least possible work of the slowest stage."""
    best = np.full(span.shape[0], np.inf)
    best[0] = 0.0
    for more in extra:
        watch()
        best = np.min(np.maximum(best[:, np.newaxis], span + more), axis=0)
    return float(best[-1])


def layout(costs: Costs, pp: int, vpp: int, watch: Callable[[], None] = _alone) -> str:
    """The assignment for pp x vpp stages as Megatron's layout string; `watch` as of `assign`."""
    stages = pp * vpp
    extra = [0.0] * stages
    extra[0] += costs.embedding
    extra[-1] += costs.head + costs.mtp
    counts = assign(costs.layers, extra, watch)
    texts = [_times("t", count) for count in counts]
    texts[0] = "E" + texts[0]
    texts[-1] += _times("m", costs.mtp_layers) + "L"
    runs = [(text, len(list(group))) for text, group in groupby(texts)]
    return "|".join(_run(text, length) for text, length in runs)


def _times(letter: str, count: int) -> str:
    return letter if count == 1 else f"{letter}*{count}" if count else ""


def _run(text: str, length: int) -> str:
    """`length` stages with the same letters, without the bar behind the last one."""
    if length <= 2 or "*" in text or not text:
        return "|".join([text] * length)
    return f"({text}|)*{length - 1}{text}"


__all__ = ["Costs", "assign", "layout"]
