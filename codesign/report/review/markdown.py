"""A review as Markdown for a pull request: the same blocks, tables in place of figures, links into the appendix."""

from __future__ import annotations

import re
from dataclasses import replace

from codesign.report import view
from codesign.report.review.appendix import EQUATIONS, INPUTS, METHODS, anchors_of
from codesign.report.review.document import (
    Block,
    Bullets,
    Document,
    Entry,
    Figure,
    Folded,
    Group,
    Listing,
    Name,
    Number,
    Paragraph,
    Section,
    Span,
    Strong,
    Table,
    Words,
)

LIMIT = 65_536  # characters of a comment on GitHub


def markdown(document: Document) -> str:
    """The whole review; the same document gives the same bytes. Every text is escaped.

    The appendix has the numbers that the review cites, not what lies below them: `codesign explain` has that. Where the
    review would be longer than LIMIT, it leaves out first inputs and published equations, then all quantities, and says so.
    """
    whole = _cited_only(document)
    for left_out, shorter in (("", whole), (_INPUTS, _without_inputs(whole)), (_NUMBERS, _methods_only(whole))):
        text = _written(shorter, left_out)
        if len(text) <= LIMIT:
            break
    return text


def _written(document: Document, left_out: str) -> str:
    contents = "\n".join(f"- [{view.plain(one.title)}](#{one.anchor})" for one in document.sections)
    parts = [f"# {view.plain(document.title)}", view.plain(document.subtitle), contents]
    parts += [_section(section, document) for section in document.sections]
    return "\n\n".join([*parts, *_appendix(document, left_out)]) + "\n"


def _section(section: Section, document: Document) -> str:
    head = f'<a id="{section.anchor}"></a>\n\n## {view.plain(section.title)}'
    return "\n\n".join([head, *filter(None, (_block(block, document) for block in section.blocks))])


def _block(block: Block, document: Document) -> str:
    if isinstance(block, Paragraph):
        return _words(block.words, document)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_words(item, document)}" for item in block.items)
    if isinstance(block, Table):
        return _table(block, document)
    if isinstance(block, Listing):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        return f"{fence}{block.language}\n{block.text.rstrip(chr(10))}\n{fence}"
    if isinstance(block, Folded):
        inner = "\n\n".join(filter(None, (_block(one, document) for one in block.blocks)))
        return f"<details><summary>{view.plain(block.summary)}</summary>\n\n{inner}\n\n</details>"
    assert isinstance(block, Figure)  # its numbers stand in a table or a sentence beside it
    return ""


def _table(block: Table, document: Document) -> str:
    heads = [view.plain(head) or " " for head in block.heads]
    rules = ["---:" if at in block.right else "---" for at in range(len(heads))]
    rows = [[_words(cell, document) for cell in row] for row in block.rows]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))
    return f"**{view.plain(block.caption)}**\n\n{lines}"


def _words(words: Words, document: Document) -> str:
    return "".join(_span(span, document) for span in words).strip()


def _span(span: Span, document: Document) -> str:
    if isinstance(span, Number):
        text = view.plain(span.text)
        return f"[{text}](#{document.anchors[span.key]})" if span.key in document.anchors and text else text
    if isinstance(span, Strong):
        bare = span.text.strip()
        return span.text.replace(bare, f"**{view.plain(bare)}**")
    if isinstance(span, Name):
        return f"`{span.text}`" if "`" not in span.text else view.plain(span.text)
    left = " " if span[:1] == " " else ""
    right = " " if span[-1:] == " " and span.strip() else ""
    return f"{left}{view.plain(span)}{right}"


# ---------------------------------------------------------------------------------------------------- appendix


def _cited_only(document: Document) -> Document:
    """The document whose appendix has the cited entries, and the published equations that they name."""
    groups = [replace(one, entries=tuple(entry for entry in one.entries if entry.cited)) for one in document.appendix]
    named = {
        f"ref:{key}"
        for group in groups
        if group.anchor != EQUATIONS
        for entry in group.entries
        for key in entry.formulas
    }
    kept = tuple(
        replace(one, entries=tuple(entry for entry in one.entries if one.anchor != EQUATIONS or entry.key in named))
        for one in groups
    )
    return replace(document, appendix=tuple(one for one in kept if one.entries), anchors=anchors_of(kept))


_INPUTS = "Left out, to stay short enough for a comment: inputs, and the published equations by their names"
_NUMBERS = "Left out, to stay short enough for a comment: the numbers of the plan, each with its equation and inputs"
_ELSEWHERE = "`codesign explain SPEC NAME` says it of each, and the review as HTML of all."


def _without_inputs(document: Document) -> Document:
    """Quantities with the names of their equations, but without inputs and the equations themselves."""
    kept = tuple(
        replace(one, entries=tuple(replace(entry, inputs=()) for entry in one.entries))
        for one in document.appendix
        if one.anchor not in (INPUTS, EQUATIONS)
    )
    return replace(document, appendix=kept, anchors=anchors_of(kept))


def _methods_only(document: Document) -> Document:
    """The appendix without quantities, inputs and equations; what linked there is plain text."""
    kept = tuple(one for one in document.appendix if one.anchor == METHODS)
    return replace(document, appendix=kept, anchors=anchors_of(kept))


def _appendix(document: Document, left_out: str) -> list[str]:
    return [
        '<a id="appendix"></a>\n\n## Appendix: every number',
        *([f"{left_out}. {_ELSEWHERE}"] if left_out else []),
        *(_group(group, document) for group in document.appendix),
    ]


def _group(group: Group, document: Document) -> str:
    entries = "\n".join(_entry(one, document) for one in group.entries)
    return f"<details><summary>{view.plain(group.title)} ({len(group.entries)})</summary>\n\n{entries}\n\n</details>"


def _entry(one: Entry, document: Document) -> str:
    values = "".join(f" {whose + ' ' if whose else '= '}**{view.plain(value)}**" for whose, value in one.values)
    about = ". ".join(
        part for part in (view.plain(one.what).rstrip("."), f"({view.plain(one.source)})" if one.source else "") if part
    )
    inputs = "; ".join(_input(of.name, of.value, of.key, document) for of in one.inputs)
    formulas = " ".join(
        f"[{formula}](#{document.anchors[f'ref:{formula}']})"
        if f"ref:{formula}" in document.anchors
        else f"`{formula}`"
        for formula in one.formulas
    )
    tail = "".join(f" {part}." for part in (about, f"From {inputs}" if inputs else "", formulas) if part)
    return f'- <a id="{one.anchor}"></a>`{one.name}`{values}.{tail}'


def _input(name: str, value: str, key: str | None, document: Document) -> str:
    linked = f"[`{name}`](#{document.anchors[key]})" if key and key in document.anchors else f"`{name}`"
    return f"{linked} {view.plain(value)}"


__all__ = ["markdown"]
