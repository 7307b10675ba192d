"""Charts as inline SVG: no script, no style of their own; colours are classes k0 to k7 that the page defines.

A chart is 480 units wide, so that its text can be read on a narrow screen. Colour is never alone: bars are labelled,
terms carry a letter, what is hidden is hatched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from codesign.report.review.charts import Chart, Pairs, Stacks, Strip, Swings, Waterfall

WIDTH = 480.0
_LABEL = 174.0  # width of the labels on the left
_VALUE = 70.0  # width of the values on the right
_ROW = 22.0
_LETTERS = "abcdefghijklmnop"
_LEAST = 0.5  # units of width below which a mark could not be seen
_STRIP_LEAST = 1.0  # neighbours of one category are drawn as one where the gap is smaller


def draw(chart: Chart, title: str, text: str, anchor: str) -> Markup:
    """The chart as an <svg> with a title and a description; `anchor` makes its ids unique on the page."""
    body, height = _DRAWERS[type(chart)](chart, anchor)
    return Markup(
        f'<svg viewBox="0 0 {_n(WIDTH)} {_n(height)}" role="img" aria-labelledby="{escape(anchor)}-t {escape(anchor)}-d">'
        f'<title id="{escape(anchor)}-t">{escape(title)}</title><desc id="{escape(anchor)}-d">{escape(text)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{name}{end}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, kind: str, fill: str = "") -> str:
    own = f' fill="{fill}"' if fill else ""
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, _LEAST))}" height="{_n(height)}" class="{kind}"{own}/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{kind}"/>'


def _clip(text: str, size: int = 24) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _hatch(name: str, kind: str) -> str:
    return (
        f'<pattern id="{escape(name)}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" class="ground"/><rect width="3" height="6" class="{kind}"/></pattern>'
    )


def _legend(items: Sequence[tuple[str, str, str]], top: float) -> tuple[list[str], float]:
    """Swatches with their meaning, as many on a line as fit: (class, fill, text)."""
    out, x, y = [], 0.0, top
    for kind, fill, text in items:
        wide = 19.0 + 7.4 * len(text) + 14.0
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 19.0
        out += [_rect(x, y, 14, 12, kind, fill), _text(x + 19, y + 11, text)]
        x += wide
    return out, y + 22.0


def _waterfall(chart: Waterfall, anchor: str) -> tuple[list[str], float]:
    kinds = [kind for kind, _ in chart.legend]
    ids = {kind: f"{anchor}-h{at}" for at, kind in enumerate(kinds) if kind in chart.hatched}
    out = ["<defs>", *(_hatch(name, f"k{kinds.index(kind)}") for kind, name in ids.items()), "</defs>"] if ids else []
    used = [(kind, meaning) for kind, meaning in chart.legend if any(bar.kind == kind for bar in chart.bars)]
    keyed = [(f"k{kinds.index(k)}", f"url(#{ids[k]})" if k in ids else "", meaning) for k, meaning in used]
    head, y = _legend([(f"{kind}{' hatch' if fill else ''}", fill, meaning) for kind, fill, meaning in keyed], 0.0)
    out += head
    scale = (WIDTH - _LABEL - _VALUE) / chart.end
    for bar in chart.bars:
        fill = f"url(#{ids[bar.kind]})" if bar.kind in ids else ""
        kind = f"k{kinds.index(bar.kind)}{' hatch' if fill else ''}"
        out += [
            _text(_LABEL - 8, y + 15, _clip(bar.label), "end"),
            _line(_LABEL, y + _ROW - 1, WIDTH - _VALUE, y + _ROW - 1, "grid"),
            _rect(_LABEL + bar.start * scale, y + 3, bar.size * scale, _ROW - 7, kind, fill),
            _text(WIDTH, y + 15, bar.value, "end"),
        ]
        y += _ROW
    return out, y + 2


def _stacks(chart: Stacks, anchor: str) -> tuple[list[str], float]:
    letters = [f"{_LETTERS[at]}  {name}" for at, name in enumerate(chart.terms)]
    out, y = _legend([(f"k{at}", "", text) for at, text in enumerate(letters)], 0.0)
    label = 112.0
    most = max([chart.limit, *(sum(stack.sizes) for stack in chart.stacks)])
    scale = (WIDTH - label - _VALUE - 4) / most
    at_limit, top = label + chart.limit * scale, y + 16
    out.append(_text(min(at_limit, WIDTH - 4), y + 10, chart.limit_label, "end", "strong"))
    y = top
    for stack in chart.stacks:
        out.append(_text(label - 8, y + 15, _clip(stack.label, 15), "end"))
        x = label
        for at, size in enumerate(stack.sizes):
            wide = size * scale
            if wide >= _LEAST:
                out.append(_rect(x, y + 2, wide, _ROW - 5, f"k{at}"))
                out += [_text(x + wide / 2, y + 15, _LETTERS[at], "middle", f"on{at}")] if wide > 11 else []
            x += wide
        out.append(_text(WIDTH, y + 15, stack.value, "end"))
        y += _ROW
    out.append(_line(at_limit, top, at_limit, y, "limit"))
    return out, y + 2


def _swings(chart: Swings, anchor: str) -> tuple[list[str], float]:
    out, y = [_text(_LABEL, 12, chart.left), _text(WIDTH - _VALUE, 12, chart.right, "end")], 20.0
    low, high = min(0.0, *(value for _, value, _ in chart.rows)), max(0.0, *(value for _, value, _ in chart.rows))
    scale = (WIDTH - _LABEL - _VALUE - 12) / max(high - low, 1e-12)
    zero = _LABEL - low * scale
    for label, value, text in chart.rows:
        start = zero + min(value, 0.0) * scale
        out += [
            _text(_LABEL - 8, y + 15, _clip(label), "end"),
            _rect(start, y + 3, abs(value) * scale, _ROW - 7, "k0" if value < 0 else "k1"),
            _text(WIDTH, y + 15, text, "end"),
        ]
        y += _ROW
    return [*out, _line(zero, 18, zero, y, "axis")], y + 2


def _pairs(chart: Pairs, anchor: str) -> tuple[list[str], float]:
    out, y = [], 24.0
    out += ['<circle cx="6" cy="7" r="5" class="ring"/>', _text(17, 12, "measured")]
    out += [_rect(101, 2, 10, 10, "k1"), _text(117, 12, "predicted")]
    ends = [math.log(value) for _, one, other, _ in chart.rows for value in (one, other)]
    low, high = min(ends), max(ends)
    room = max(high - low, 0.1)
    left = WIDTH / 2 - 10

    def x(value: float) -> float:
        return left + 10 + (math.log(value) - low) / room * (WIDTH - left - _VALUE - 20)

    for label, measured, predicted, text in chart.rows:
        middle = y + _ROW / 2
        out += [
            _text(left - 8, middle + 4, _clip(label, 33), "end"),
            _line(left, middle, WIDTH - _VALUE, middle, "grid"),
            _line(x(measured), middle, x(predicted), middle, "axis"),
            _rect(x(predicted) - 4, middle - 4, 8, 8, "k1"),
            f'<circle cx="{_n(x(measured))}" cy="{_n(middle)}" r="6" class="ring"/>',
            _text(WIDTH, middle + 4, text, "end"),
        ]
        y += _ROW
    return out, y + 2


def _strip(chart: Strip, anchor: str) -> tuple[list[str], float]:
    out, y = _legend([*((f"k{at}", "", name) for at, name in enumerate(chart.categories)), ("idle", "", "idle")], 0.0)
    label, tall = 56.0, 13.0
    scale = (WIDTH - label) / chart.end_s
    for rank in chart.ranks:
        out += [
            _text(label - 8, y + 11, f"rank {rank}", "end", "small"),
            _rect(label, y, WIDTH - label, tall - 2, "idle"),
        ]
        own = sorted((start, end, kind) for at, start, end, kind in chart.rows if at == rank)
        for number, name in enumerate(chart.categories):
            spans = _merged([(start * scale, end * scale) for start, end, kind in own if kind == name])
            path = "".join(
                f"M{_n(label + one)} {_n(y)}h{_n(max(two - one, 0.2))}v{_n(tall - 2)}H{_n(label + one)}z"
                for one, two in spans
            )
            out += [f'<path d="{path}" class="k{number}"/>'] if path else []
        y += tall
    out += [_text(label, y + 13, "0", "start", "small"), _text(WIDTH, y + 13, chart.end_label, "end", "small")]
    return out, y + 18


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order, those that touch or nearly touch as one."""
    found: list[tuple[float, float]] = []
    for start, end in spans:
        if found and start - found[-1][1] < _STRIP_LEAST / 2:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


_DRAWERS: dict[type, Callable[[Any, str], tuple[list[str], float]]] = {
    Waterfall: _waterfall,
    Stacks: _stacks,
    Swings: _swings,
    Pairs: _pairs,
    Strip: _strip,
}

__all__ = ["draw"]
