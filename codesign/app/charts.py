"""Vega-Lite specs of the charts. Data comes as rows from `codesign.report`; the page's theme gives text and ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.report import palette

Chart = dict[str, Any]

_LEGEND = {"orient": "bottom", "columns": 2, "title": None, "labelLimit": 0}
_ROW = 24  # pixels of a bar


def _colour(field: str, domain: Sequence[str] | None = None, colours: Sequence[str] = palette.SERIES) -> Chart:
    scale = {"range": list(colours), **({"domain": list(domain)} if domain else {})}
    return {"field": field, "type": "nominal", "title": None, "sort": None, "legend": _LEGEND, "scale": scale}


def _labels(field: str, width: int = 190) -> Chart:
    axis = {"labelLimit": width, "labelOverlap": False}
    return {"field": field, "type": "nominal", "title": None, "sort": None, "axis": axis}


def waterfall() -> Chart:
    """A bar a part of the step, each beginning where the last one ended; what is hidden below, from 0 and paler."""
    kinds = palette.KINDS
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _labels("part"),
            "x": {"field": "start_s", "type": "quantitative", "title": "seconds"},
            "x2": {"field": "end_s"},
            "color": {**_colour("kind", list(kinds), list(kinds.values())), "legend": {**_LEGEND, "columns": 1}},
            "opacity": {"condition": {"test": "datum.kind == 'communication, hidden'", "value": 0.55}, "value": 1},
            "tooltip": [{"field": "part"}, {"field": "s", "format": ".4f", "title": "seconds"}, {"field": "share"},
                        {"field": "what"}],
        },
    }


def memory(capacity_GiB: float) -> Chart:
    """A stacked bar a pipeline rank, and a line at the capacity."""
    bars = {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {"field": "rank", "type": "ordinal", "title": "pipeline rank", "axis": {"labelAngle": 0}},
            "y": {"field": "GiB", "type": "quantitative", "title": "GiB", "stack": "zero"},
            "color": _colour("term"),
            "tooltip": [{"field": name} for name in ("rank", "term", "GiB", "how known")],
        },
    }
    once: Chart = {"data": {"values": [{}]}}
    line = {
        **once, "mark": {"type": "rule", "aria": False, "strokeDash": [6, 4], "strokeWidth": 2, "color": palette.LIMIT},
        "encoding": {"y": {"datum": capacity_GiB}},
    }
    named = {
        **once, "mark": {"type": "text", "aria": False, "align": "left", "dy": -8, "color": palette.LIMIT, "fontWeight": "bold"},
        "encoding": {"y": {"datum": capacity_GiB}, "x": {"value": 4}, "text": {"value": "capacity"}},
    }
    return {"height": 480, "layer": [bars, line, named]}


def traffic() -> Chart:
    """Mean use of the link by traffic class, a colour a network level."""
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _labels("class"), "yOffset": {"field": "level"},
            "x": {"field": "utilisation", "type": "quantitative", "title": "share of the link, mean over the step",
                  "axis": {"format": ".0%"}},
            "color": _colour("level"),
            "tooltip": [{"field": "class"}, {"field": "level"}, {"field": "utilisation", "format": ".2%"}],
        },
    }


def tornado() -> Chart:
    """What one per cent more of an input does to the step: left shorter, right longer."""
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _labels("input"),
            "x": {"field": "elasticity", "type": "quantitative", "title": "step time, % for 1 % more of the input"},
            "color": {"condition": {"test": "datum.elasticity < 0", "value": palette.LESS}, "value": palette.MORE},
            "tooltip": [{"field": "input"}, {"field": "elasticity", "format": "+.4f"}],
        },
    }


def moves() -> Chart:
    """Seconds that each part of the step gained or lost against the baseline."""
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _labels("part"),
            "x": {"field": "difference_s", "type": "quantitative", "title": "seconds more than the baseline"},
            "color": {"condition": {"test": "datum.difference_s < 0", "value": palette.LESS}, "value": palette.MORE},
            "tooltip": [{"field": "part"}, {"field": "difference_s", "format": "+.4f"}],
        },
    }


def measured(colour: str) -> Chart:
    """Predicted against measured steps on logarithmic axes, with the line of equality; one point a run."""
    axis = {"type": "quantitative", "scale": {"type": "log"}}
    points = {
        "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.7, "tooltip": True},
        "encoding": {
            "x": {"field": "measured_s", "title": "measured step, seconds", **axis},
            "y": {"field": "predicted_s", "title": "predicted step, seconds", **axis},
            "color": _colour(colour), "shape": {"field": colour, "type": "nominal", "legend": _LEGEND, "sort": None},
            "tooltip": [{"field": name} for name in ("run", "model", "accelerators", "stack", "error", "source")],
        },
    }
    line = {
        "mark": {"type": "line", "strokeDash": [4, 4], "color": palette.GREY},
        "encoding": {"x": {"field": "measured_s", **axis}, "y": {"field": "measured_s", **axis}},
    }
    return {"height": 460, "layer": [line, points]}


def scatter(titles: tuple[str, str], pick: str, used: Sequence[str]) -> Chart:
    """Points x, y by their role, one of `used`; a click on one gives the number in its field `pick`."""
    roles = {name: look for name, look in palette.ROLES.items() if name in used}
    seen = {"domain": list(roles), "range": [colour for colour, _ in roles.values()]}
    forms = {"domain": list(roles), "range": [form for _, form in roles.values()]}
    axis = {"type": "quantitative", "scale": {"zero": False}}
    return {
        "height": 420,
        "params": [{"name": "pick", "select": {"type": "point", "fields": [pick], "toggle": False}}],
        "mark": {"type": "point", "filled": True, "tooltip": True, "cursor": "pointer"},
        "encoding": {
            "x": {"field": "x", "title": titles[0], **axis}, "y": {"field": "y", "title": titles[1], **axis},
            "color": {"field": "role", "type": "nominal", "scale": seen, "legend": _LEGEND},
            "shape": {"field": "role", "type": "nominal", "scale": forms, "legend": _LEGEND},
            "size": {"condition": {"test": "datum.role == 'slower'", "value": 45}, "value": 140},
            "opacity": {"condition": {"test": "datum.role == 'slower'", "value": 0.6}, "value": 1},
            "tooltip": [{"field": "role"}, {"field": "x", "format": ".4~f", "title": titles[0]},
                        {"field": "y", "format": ".4~f", "title": titles[1]}, {"field": "layout"}],
        },
    }


def swings(step_s: float) -> Chart:
    """From the shortest to the longest step of each resource, and a line at the step as it is."""
    bars = {
        "mark": {"type": "bar", "tooltip": True, "color": palette.BLUE},
        "encoding": {
            "y": _labels("resource"),
            "x": {"field": "low_s", "type": "quantitative", "title": "step time, s", "scale": {"zero": False}},
            "x2": {"field": "high_s"},
            "tooltip": [{"field": name} for name in ("resource", "less", "more")],
        },
    }
    line = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "aria": False, "strokeDash": [6, 4], "strokeWidth": 2, "color": palette.LIMIT},
        "encoding": {"x": {"datum": step_s}},
    }
    return {"height": {"step": _ROW}, "layer": [bars, line]}


def strip(ranks: int) -> Chart:
    """A bar a stretch of a rank's step, a row a pipeline rank."""
    kinds = palette.STRIP
    return {
        "height": {"step": 24 if ranks <= 16 else 14},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "rank", "type": "ordinal", "title": "pipeline rank"},
            "x": {"field": "start_s", "type": "quantitative", "title": "seconds of the step", "scale": {"nice": False}},
            "x2": {"field": "end_s"},
            "color": {**_colour("category", list(kinds), list(kinds.values())), "legend": {**_LEGEND, "columns": 3}},
            "tooltip": [{"field": "rank"}, {"field": "category"}, {"field": "start_s", "format": ".4~f"},
                        {"field": "end_s", "format": ".4~f"}],
        },
    }
