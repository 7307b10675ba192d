"""The long work of pages, for `jobs`: plain functions from a question to the rows that a page draws."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from codesign import errors
from codesign.app.jobs import Ended, Report, Work
from codesign.report import found, shape_page
from codesign.report import whynot as words
from codesign.search import asked, run, shapes
from codesign.search.around import Question
from codesign.search.result import Result
from codesign.search.space import Watch
from codesign.spec.load import Loaded

MOST_SHAPES = 2_000
MOST_CANDIDATES = 5_000_000  # of one search on a page: about a minute where nobody else works
MOST_STRUCTURES = 100_000  # pipelines, shardings and the like together: each is held
COUNTING_S = 15.0  # of a job's own time, in which its candidates are counted


def key(what: str, *parts: Any) -> Hashable:
    """What an answer is kept by: equal questions are one."""
    return what, json.dumps(parts, sort_keys=True, default=str)


def search(question: Question) -> Work:
    """The best layouts of a question; what is found so far where it is stopped."""

    def work(report: Report) -> found.Found:
        space = question.space(_counting(report))
        if space.size > MOST_CANDIDATES:
            raise errors.SpecError(found.too_many(space.size, MOST_CANDIDATES))
        report(0, space.size)
        progress = run.Progress.empty(space)
        try:
            run.search(space, report=lambda now: report(now.candidates, space.size), resume=progress)
        except Ended:
            if not progress.candidates:
                raise
        return found.found(Result(space, progress))

    return work


def why_not(question: Question, layout: str) -> Work:
    """Why a layout is not the best of a question."""

    def work(report: Report) -> str:
        size = question.space(watch := _counting(report)).size
        if size > MOST_CANDIDATES:
            raise errors.SpecError(found.too_many(size, MOST_CANDIDATES))
        return words.screen(asked.why_not(
            question.data, asked.fields(layout), (), question.free, report=lambda now: report(now.candidates, now.total),
            watch=watch,
        ))

    return work


def _counting(report: Report) -> Watch:
    """What keeps the count of candidates short: it can be stopped, gives others their turn, and ends where there are too many."""
    begun_s = time.thread_time()  # waiting for a turn takes none of it

    def watch(structures: int) -> None:
        report(0, 0)
        if structures > MOST_STRUCTURES or time.thread_time() - begun_s > COUNTING_S:
            raise errors.SpecError("There are too many layouts to count them on a page: open fewer fields, or run codesign "
                                   "search, which has no such limit")  # fmt: skip

    return watch


def rank(loaded: Loaded, axes: Mapping[str, Sequence[int]], equal: str, solve: str | None) -> Work:
    """Shapes under a constraint, on the layout that the spec has."""
    count = math.prod(len(values) for values in axes.values())
    if count > MOST_SHAPES:
        raise errors.SpecError(f"{count:,} shapes: more than the {MOST_SHAPES:,} that a page ranks. Take fewer values, or run "
                               "codesign shapes")  # fmt: skip

    def work(report: Report) -> shape_page.Page:
        return shape_page.page(shapes.rank_shapes(loaded, axes, equal, free=solve, progress=report))

    return work
