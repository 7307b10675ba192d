"""Launch now or wait: the run after each wait, faster by what was improved meanwhile, with the failures that are left."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from codesign.decisions import calendar
from codesign.errors import SpecError
from codesign.run import RunPlan, evaluate

POINTS = 13


@dataclass(frozen=True)
class Wait:
    """One launch. `deadline_tokens` and `deadline_loss`: what the run has reached at `run.deadline`, where there is one."""

    wait_s: float
    run_s: float
    finish_s: float
    finish: datetime.date | None
    deadline_tokens: float | None
    deadline_loss: float | None


@dataclass(frozen=True)
class Choice:
    """Waits side by side. `soonest`: the one that ends first; `lowest`: the one with the least loss at the deadline."""

    rows: tuple[Wait, ...]
    soonest: Wait
    lowest: Wait | None


def waits(run: RunPlan, count: int = POINTS) -> Choice:
    """The plan launched after waits from none to `run.launch.horizon`: finish date, and loss at the deadline."""
    section = run.spec.run
    if section is None or section.launch is None:
        raise SpecError("launch or wait needs run.launch: what a wait improves", field="run.launch")
    if count < 2:
        raise SpecError(f"at least two waits are compared, not {count}", field="count")
    grid = np.linspace(0.0, section.launch.horizon, count)
    dated = section.deadline is not None
    targets = ["launch_run_s", "launch_finish_s", *(["deadline_tokens"] if dated else [])]
    values = evaluate(run.inputs, {"launch_wait_s": grid}, targets)
    columns = {name: np.broadcast_to(values[(name, None)], grid.shape) for name in targets}
    tokens = columns.get("deadline_tokens")
    losses = None if tokens is None else _losses(run, tokens)
    rows = tuple(
        Wait(
            float(grid[at]), float(columns["launch_run_s"][at]), float(columns["launch_finish_s"][at]),
            calendar.day(run, float(columns["launch_finish_s"][at])),
            None if tokens is None else float(tokens[at]), None if losses is None else losses[at],
        )
        for at in range(count)
    )
    known = [row for row in rows if row.deadline_loss is not None]
    lowest = min(known, key=lambda row: row.deadline_loss or 0.0) if known else None
    return Choice(rows, min(rows, key=lambda row: row.finish_s), lowest)


def _losses(run: RunPlan, tokens: np.ndarray) -> list[float | None] | None:
    """Predicted loss of runs of these tokens; none where nothing was trained, or where no law gives a loss."""
    if "final_loss" not in run.inputs.targets:
        return None
    some = tokens > 0
    values = evaluate(run.inputs, {"run_tokens": np.where(some, tokens, 1.0)}, ["final_loss"])
    losses = np.broadcast_to(values[("final_loss", None)], tokens.shape)
    return [float(loss) if ran else None for loss, ran in zip(losses, some, strict=True)]
