"""Vega-Lite specs of the charts of a run and of its sites; rows come from `codesign.report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.app.charts import Chart
from codesign.report import palette, site_rows

_ROW = 26  # pixels of a bar
_LEGEND = {"orient": "bottom", "columns": 2, "title": None, "labelLimit": 0}
_SHARE = {"format": ".1%"}
_BLUES = ("#DEEBF7", "#08519C")  # light to dark: little to much
_INK, _PAPER = "#111111", "#FFFFFF"  # text on a light and on a dark cell


def _bar_of(field: str) -> Chart:
    axis = {"labelLimit": 170, "labelOverlap": False}
    return {"field": field, "type": "nominal", "title": None, "sort": None, "axis": axis}


def _colour(field: str, columns: int = 2, domain: Sequence[str] | None = None) -> Chart:
    scale: dict[str, Any] = {"range": list(palette.SERIES), **({"domain": list(domain)} if domain else {})}
    legend = {**_LEGEND, "columns": columns}
    return {"field": field, "type": "nominal", "title": None, "sort": None, "scale": scale, "legend": legend}


def _rule(where: Chart, label: str) -> list[Chart]:
    """A dashed line at one value, and its name beside it."""
    once: Chart = {"data": {"values": [{}]}}
    line = {"type": "rule", "aria": False, "strokeDash": [6, 4], "strokeWidth": 2, "color": palette.LIMIT}
    text = {"type": "text", "aria": False, "align": "left", "dx": 5, "baseline": "top", "color": palette.LIMIT,
            "fontWeight": "bold"}
    return [
        {**once, "mark": line, "encoding": where},
        {**once, "mark": text, "encoding": {**where, "y": {"value": 4}, "text": {"value": label}}},
    ]


# ---------------------------------------------------------------------------------------------------- the run


def losses() -> Chart:
    """A bar a cause: the share of the wall clock that it takes."""
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True, "color": palette.ORANGE},
        "encoding": {
            "y": _bar_of("cause"),
            "x": {"field": "share", "type": "quantitative", "title": "share of the wall clock", "axis": {"format": "~%"}},
            "tooltip": [{"field": "cause"}, {"field": "shown", "title": "of the wall clock"}],
        },
    }


def policies() -> Chart:
    """Goodput under each policy: of the job's accelerators, and of all that are held."""
    return {
        "height": {"step": 18},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _bar_of("policy"), "yOffset": {"field": "of", "sort": None},
            "x": {"field": "goodput", "type": "quantitative", "title": "goodput", "axis": {"format": "~%"},
                  "scale": {"domain": [0, 1]}},
            "color": _colour("of", 1),
            "tooltip": [{"field": "policy"}, {"field": "of"}, {"field": "goodput", **_SHARE}],
        },
    }


def _curve(x: Chart, tooltip: Sequence[Chart], colour: Chart | None = None) -> Chart:
    y = {"field": "goodput", "type": "quantitative", "title": "goodput", "axis": {"format": "~%"}, "scale": {"zero": False}}
    return {
        "mark": {"type": "line", "strokeWidth": 2.5, "tooltip": True, **({} if colour else {"color": palette.BLUE})},
        "encoding": {"x": x, "y": y, "tooltip": list(tooltip), **({"color": colour} if colour else {})},
    }


def spares(own: float) -> Chart:
    """Goodput over the number of spare nodes, and the number that the run holds."""
    x = {"field": "spare nodes", "type": "quantitative", "axis": {"tickMinStep": 1}}
    tooltip = [{"field": "spare nodes"}, {"field": "of"}, {"field": "goodput", **_SHARE}]
    return {"height": 360, "layer": [_curve(x, tooltip, _colour("of", 1)), *_rule({"x": {"datum": own}}, "now")]}


def intervals(own_s: float) -> Chart:
    """Goodput over the interval between checkpoints, and the interval of the run."""
    x = {"field": "interval_s", "type": "quantitative", "title": "seconds of compute between two checkpoints",
         "scale": {"type": "log"}, "axis": {"format": "~s", "labelOverlap": True}}
    tooltip = [{"field": "interval_s", "format": ".4~s", "title": "seconds"}, {"field": "goodput", "format": ".2%"}]
    return {"height": 360, "layer": [_curve(x, tooltip), *_rule({"x": {"datum": own_s}}, "now")]}


def laws() -> Chart:
    """The loss by each law; the interval of joint draws where it is known."""
    x = {"field": "low", "type": "quantitative", "title": "nats a token", "scale": {"zero": False}}
    tooltip = [{"field": "law"}, *({"field": name, "format": ".4f"} for name in ("loss", "low", "high"))]
    return {
        "height": {"step": _ROW},
        "encoding": {"y": _bar_of("law"), "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "rule", "aria": False, "strokeWidth": 3, "color": palette.BLUE},
             "encoding": {"x": x, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": palette.BLUE},
             "encoding": {"x": {**x, "field": "loss"}}},
        ],
    }


# ---------------------------------------------------------------------------------------------------- its sites


def matrix() -> Chart:
    """Site by site: the mean rate as a colour and as a number."""
    axis = {"labelLimit": 110, "labelOverlap": False}
    place = {"type": "nominal", "sort": None}
    return {
        "height": {"step": 56},
        "encoding": {
            "x": {**place, "field": "to", "axis": {**axis, "labelAngle": 0, "orient": "top"}},
            "y": {**place, "field": "from", "axis": axis},
            "tooltip": [{"field": name} for name in ("from", "to", "mean rate")],
        },
        "layer": [
            {"mark": {"type": "rect", "stroke": palette.GREY, "strokeWidth": 0.5},
             "encoding": {"color": {"field": "Bps", "type": "quantitative", "legend": None,
                                    "scale": {"range": list(_BLUES), "domainMin": 0}}}},
            {"mark": {"type": "text", "aria": False, "fontWeight": "bold"},
             "encoding": {"text": {"field": "mean rate"},
                          "color": {"condition": {"test": "datum.dark", "value": _PAPER}, "value": _INK}}},
        ],
    }


def links() -> Chart:
    """Mean use of each link."""
    return {
        "height": {"step": _ROW},
        "mark": {"type": "bar", "tooltip": True, "color": palette.BLUE},
        "encoding": {
            "y": _bar_of("link"),
            "x": {"field": "used", "type": "quantitative", "title": "mean use of the busiest direction", "axis": {"format": "~%"},
                  "scale": {"domain": [0, 1]}},
            "tooltip": [{"field": "link"}, {"field": "used", **_SHARE}],
        },
    }


def strategies() -> Chart:
    """Of each strategy: what waiting leaves, what the loss leaves, and their product."""
    return {
        "height": {"step": 15},
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": _bar_of("strategy"), "yOffset": {"field": "part", "sort": None},
            "x": {"field": "share", "type": "quantitative", "title": "share of the same accelerators in one building",
                  "axis": {"format": "~%"}, "scale": {"domain": [0, 1]}},
            "color": _colour("part", 1),
            "tooltip": [{"field": "strategy"}, {"field": "part"}, {"field": "share", **_SHARE}],
        },
    }


def pays() -> Chart:
    """The bandwidth, over the stated one, from which each strategy pays; the stated one as a line."""
    x = {"field": "factor", "type": "quantitative", "title": "times the stated bandwidth", "scale": {"type": "log"},
         "axis": {"labelOverlap": True, "format": "~g"}}
    points = {
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1, "color": palette.BLUE},
        "encoding": {"y": _bar_of("strategy"), "x": x, "tooltip": [{"field": "strategy"}, {"field": "factor", "format": ".3~g"}]},
    }
    return {"height": {"step": _ROW}, "layer": [points, *_rule({"x": {"datum": 1}}, "as stated")]}


def regimes() -> Chart:
    """Effective compute over accelerators by regime; circles where it is published, triangles where it is extrapolated."""
    axis = {"type": "quantitative", "scale": {"type": "log"}, "axis": {"format": "~s", "labelOverlap": True}}
    x, y = {"field": "accelerators", **axis}, {"field": "effective", "title": "effective accelerators", **axis}
    tooltip = [{"field": "strategy"}, {"field": "accelerators", "format": ".4~s"}, {"field": "effective", "format": ".4~s"},
               {"field": "share", **_SHARE}, {"field": "evidence"}]
    shape = {"field": "evidence", "type": "nominal", "legend": None,
             "scale": {"domain": list(site_rows.EVIDENCE), "range": ["circle", "triangle-up"]}}
    filled = {"condition": {"test": "datum.evidence == 'published'", "value": 1}, "value": 0.6}
    return {
        "height": 460,
        "encoding": {"x": x, "y": y, "color": _colour("strategy"), "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.6}},
            {"mark": {"type": "point", "filled": True, "size": 55}, "encoding": {"shape": shape, "opacity": filled}},
        ],
    }
