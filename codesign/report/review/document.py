"""A review as plain data: sections of blocks, made once and written as HTML or as Markdown.

Every number carries the key of its entry in the appendix (`step:mfu`, `run:goodput`, `how:interval`), so that both
writers can link it. Text is plain: the writers escape it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codesign.report.review.charts import Chart


@dataclass(frozen=True)
class Number:
    """A number as it is read, and the key of the appendix entry that says where it comes from."""

    text: str
    key: str


@dataclass(frozen=True)
class Strong:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Name:
    """A name of the program: a field, a quantity, a command."""

    text: str


Span = str | Number | Strong | Name
Words = tuple[Span, ...]


@dataclass(frozen=True)
class Paragraph:
    """`tone`: plain, answer (large), good, bad, or note (what to add to the spec for a section that is empty)."""

    words: Words
    tone: str = "plain"


@dataclass(frozen=True)
class Bullets:
    items: tuple[Words, ...]


@dataclass(frozen=True)
class Table:
    """Rows under headings; `right`: columns of numbers; `total`: the last row is the sum of the others."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Words, ...], ...]
    right: frozenset[int] = frozenset()
    total: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing whose numbers also stand in a table or a sentence beside it; Markdown has the latter only."""

    title: str
    text: str
    chart: Chart


@dataclass(frozen=True)
class Listing:
    """Text that is shown as it is."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: tuple[Block, ...]


Block = Paragraph | Bullets | Table | Figure | Listing | Folded


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Input:
    """What an entry is computed from. `key` links it where it has an entry of its own."""

    name: str
    value: str
    key: str | None
    role: str = ""


@dataclass(frozen=True)
class Entry:
    """One number of the appendix: what it is, its equation or source, its value, its inputs."""

    key: str
    anchor: str
    name: str
    unit: str
    what: str
    source: str
    formulas: tuple[str, ...]
    values: tuple[tuple[str, str], ...]  # (whose, value); of one plan the first is ''
    inputs: tuple[Input, ...] = ()
    cited: bool = True  # by a number of the review itself, not only below one


@dataclass(frozen=True)
class Group:
    """Entries of one kind: quantities of the step, of the run, given inputs, how a number was made."""

    anchor: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Document:
    """A whole review. `anchors`: key of a number -> the anchor of its entry."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    appendix: tuple[Group, ...]
    footer: str
    anchors: dict[str, str] = field(default_factory=dict)


def words(*spans: Span) -> Words:
    """Spans without the empty ones."""
    return tuple(span for span in spans if span != "")


def paragraph(*spans: Span, tone: str = "plain") -> Paragraph:
    return Paragraph(words(*spans), tone)


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Span | Words]],
    right: Sequence[str] = (),
    total: bool = False,
) -> Table:
    """A table; a cell is one span or several; `right` names headings whose column is set right."""
    cells = tuple(tuple(cell if isinstance(cell, tuple) else words(cell) for cell in row) for row in rows)
    return Table(caption, tuple(heads), cells, frozenset(heads.index(head) for head in right), total)


def text_of(spans: Words) -> str:
    """The words without their links."""
    return "".join(span if isinstance(span, str) else span.text for span in spans)


def keys(blocks: Sequence[Block]) -> Iterator[str]:
    """Keys of every number in the blocks, in order."""
    for block in blocks:
        if isinstance(block, Folded):
            yield from keys(block.blocks)
            continue
        for spans in _spans(block):
            yield from (span.key for span in spans if isinstance(span, Number))


def _spans(block: Block) -> Iterator[Words]:
    if isinstance(block, Paragraph):
        yield block.words
    elif isinstance(block, Bullets):
        yield from block.items
    elif isinstance(block, Table):
        yield from (cell for row in block.rows for cell in row)
