"""The search from Python: one call, one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codesign.search import run, space
from codesign.search.result import Result
from codesign.spec import domains


def find(
    source: str | Path | Mapping[str, Any],
    *,
    sets: Sequence[str] = (),
    free: Sequence[str] = (),
    workers: int = 1,
    scheduler: str | None = None,
    report: run.Report | None = None,
) -> Result:
    """The best layouts of a spec whose layout is open: a path, or plain data.

    `sets` are `field=value` texts, `free` names fields of layout that are searched whatever the spec says (`all`).
    `workers` processes, or the Dask cluster at `scheduler`. `report` is called after every piece of work. Raises
    SpecError for what is wrong in the spec; a space without a feasible layout is an answer: `Result.best` is empty.
    """
    found = space.of(domains.load(source, sets, free))
    return Result(found, run.search(found, workers=workers, scheduler=scheduler, report=report))


__all__ = ["find"]
