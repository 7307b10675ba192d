"""A review as one HTML file: style and drawings inside, no script, nothing fetched, nothing dated."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from codesign.report.review import svg
from codesign.report.review.document import Block, Document, Figure

FOLDER = Path(__file__).parent / "templates"


def html(document: Document) -> str:
    """The whole page; the same document gives the same bytes. Every text is escaped by the template."""
    return _environment().get_template("review.html.j2").render(
        document=document, anchors=document.anchors, style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        kind=_kind, drawing=_drawing,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _kind(thing: object) -> str:
    """What the template chooses by: the name of a block or of a span."""
    return type(thing).__name__.lower()


def _drawing(figure: Block, anchor: str) -> Markup:
    assert isinstance(figure, Figure)
    return svg.draw(figure.chart, figure.title, figure.text, anchor)


__all__ = ["html"]
