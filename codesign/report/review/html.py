"""A review as one HTML file: style and drawings inside, no script, nothing fetched, nothing dated."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from codesign.report.review import svg
from codesign.report.review.document import Block, Document, Figure, Table, text_of

FOLDER = Path(__file__).parent / "templates"
LONG = 28  # characters of a cell from which on it is a sentence


def html(document: Document) -> str:
    """The whole page; the same document gives the same bytes. Every text is escaped by the template."""
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            document=document,
            anchors=document.anchors,
            style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
            kind=_kind,
            drawing=_drawing,
            wide=_wide,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _kind(thing: object) -> str:
    """What the template chooses by: the name of a block or of a span."""
    return type(thing).__name__.lower()


def _wide(block: Table) -> frozenset[int]:
    """Columns of sentences, which are not squeezed on a narrow screen."""
    return frozenset(
        at for row in block.rows for at, cell in enumerate(row) if at not in block.right and len(text_of(cell)) > LONG
    )


def _drawing(figure: Block, anchor: str) -> Markup:
    assert isinstance(figure, Figure)
    return svg.draw(figure.chart, figure.title, figure.text, anchor)


__all__ = ["html"]
