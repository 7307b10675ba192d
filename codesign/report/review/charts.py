"""What the figures of a review show, as plain data. `codesign.report.review.svg` draws them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One bar of a waterfall, from `start` to `start + size` in the unit of the chart."""

    label: str
    start: float
    size: float
    value: str
    kind: str  # a key of the chart's legend


@dataclass(frozen=True)
class Waterfall:
    """Bars below each other, each beginning where the one before ends; hatched kinds are shown and not added."""

    bars: tuple[Bar, ...]
    end: float
    legend: tuple[tuple[str, str], ...]  # kind -> its meaning, in the order of the colours
    hatched: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stack:
    """One stacked bar of several: a label and the size of each term."""

    label: str
    sizes: tuple[float, ...]
    value: str


@dataclass(frozen=True)
class Stacks:
    """Stacked bars against a limit. Terms carry a letter inside the bars and beside their name."""

    stacks: tuple[Stack, ...]
    terms: tuple[str, ...]
    limit: float
    limit_label: str


@dataclass(frozen=True)
class Swings:
    """Signed bars around zero, the largest first: a tornado."""

    rows: tuple[tuple[str, float, str], ...]  # label, value, text
    left: str
    right: str


@dataclass(frozen=True)
class Pairs:
    """Predicted against measured, a row a run, on a logarithmic axis of seconds."""

    rows: tuple[tuple[str, float, float, str], ...]  # label, measured, predicted, text


@dataclass(frozen=True)
class Strip:
    """What every pipeline rank does over a step: (rank, start_s, end_s, category). What is not covered is idle."""

    rows: tuple[tuple[int, float, float, str], ...]
    ranks: tuple[int, ...]
    end_s: float
    categories: tuple[str, ...]
    end_label: str


Chart = Waterfall | Stacks | Swings | Pairs | Strip
