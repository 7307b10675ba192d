"""Reviews that the tests read: made once, and read back by another parser."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from codesign.planner import Plan, plan
from codesign.report import review
from codesign.report.review import document as blocks
from codesign.run import RunPlan, run_plan

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
PLAIN, RUNNING, SITES = "llama-3.1-405b-h100", "gpt4-retrain", "frontier-100k-two-sites"
ORDER = [
    "Question and answer",
    "Chosen plan",
    "Where time and memory go",
    "What limits it",
    "Alternatives and why not",
    "Failures and goodput",
    "Sites and traffic",
    "Loss, data, cost",
    "Sensitivities and intervals",
    "Accuracy on the most similar measured runs",
    "Risks and the de-risking ladder",
    "Assumptions",
    "Open questions",
    "Sign-off",
    "Resolved spec and manifest",
    "Appendix: every number",
]
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """What an independent reader finds in the file: balanced elements, ids, links, tables, headings, texts of links."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.heads: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._caption = self._link = None
        self._row: list[str] = []
        self._text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        self.fetched += [given[name] for name in ("src", "srcset", "data", "poster", "action") if name in given]
        if tag in ("script", "iframe", "object", "embed", "link", "img"):
            self.fetched.append(tag)
        if tag in ("caption", "td", "th", "h1", "h2", "h3"):
            self._text = ""
        if tag == "tr":
            self._row = []
        if tag == "a":
            self._link, self._link_text = given["href"], ""

    def handle_startendtag(self, tag, attrs):
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_data(self, data):
        self._text += data
        if self._link is not None:
            self._link_text += data

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"
        if tag in ("h1", "h2", "h3"):
            self.heads.append((tag, self._text))
        if tag == "caption":
            self._caption = self._text
            self.tables[self._caption] = []
        if tag in ("td", "th"):
            self._row.append(self._text.strip())
        if tag == "tr":
            self.tables[self._caption].append(self._row)
        if tag == "a":
            self.links.append((self._link, self._link_text))
            self._link = None

    def rows(self, caption: str) -> dict[str, list[str]]:
        """First cell -> the others, of the table whose caption begins so."""
        _, *rows = next(rows for name, rows in self.tables.items() if name.startswith(caption))
        return {row[0]: row[1:] for row in rows}


@cache
def made(name: str, *sets: str) -> tuple[Plan, RunPlan | None]:
    planned = plan(EXAMPLES / f"{name}.yaml", sets=sets)
    spec = planned.problem.spec
    return planned, run_plan(planned) if spec.run or spec.sites else None


@cache
def document(name: str, *sets: str) -> blocks.Document:
    return review.of_plan(*made(name, *sets))


@cache
def page(name: str, *sets: str) -> Page:
    return Page(review.html(document(name, *sets)))


def numbers(made_of: blocks.Document) -> list[blocks.Number]:
    found: list[blocks.Number] = []

    def walk(members):
        for block in members:
            if isinstance(block, blocks.Folded):
                walk(block.blocks)
            else:
                found.extend(
                    span for spans in blocks._spans(block) for span in spans if isinstance(span, blocks.Number)
                )

    for section in made_of.sections:
        walk(section.blocks)
    return found
