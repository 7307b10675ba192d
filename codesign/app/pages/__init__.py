"""The pages, by the question they answer. A new page: a file here with `draw()`, and a line in PAGES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codesign.app.pages import evidence, plan, run, search, shapes, sites


@dataclass(frozen=True)
class Page:
    """`path` is its address; `draw` draws it from `session.current()`. No icon: the browser would fetch it from elsewhere."""

    title: str
    path: str
    draw: Callable[[], None]


PAGES = (
    Page("Plan", "plan", plan.draw),
    Page("Search", "search", search.draw),
    Page("Shapes", "shapes", shapes.draw),
    Page("Run and failures", "run", run.draw),
    Page("Sites", "sites", sites.draw),
    Page("Evidence", "evidence", evidence.draw),
)
