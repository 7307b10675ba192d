"""Dates of a run: its phases, its end, what is left to the deadline. Nothing reads a clock: `run.start` is the first day."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from codesign.errors import SpecError
from codesign.run import RunPlan

LAST = datetime.date(9999, 12, 31)


@dataclass(frozen=True)
class Stretch:
    """A phase in the calendar. No date where it would be after the year 9999."""

    phase: str
    tokens: float
    steps: float
    step_s: float
    end_s: float
    start: datetime.date | None
    end: datetime.date | None


def stretches(run: RunPlan) -> list[Stretch]:
    """Each phase with its steps and, where `run.start` is given, its dates; hardware in tranches included."""
    ends_s = _ends_s(run)
    begin_s, rows = 0.0, []
    for name, end_s in zip(run.steps, ends_s, strict=True):
        tokens, steps = run.value(f"phase_tokens[{name}]"), run.value(f"phase_steps[{name}]")
        step_s = run.value(f"phase_run_step_s[{name}]")
        rows.append(Stretch(name, tokens, steps, step_s, end_s, day(run, begin_s), day(run, end_s)))
        begin_s = end_s
    return rows


def _ends_s(run: RunPlan) -> list[float]:
    key = ("phase_end_calendar_s", None)
    return [float(one) for one in np.ravel(run.values[key if key in run.values else ("phase_end_wall_s", None)])]


def end_s(run: RunPlan) -> float:
    """Time from the start to the end of the run."""
    return _ends_s(run)[-1]


def day(run: RunPlan, seconds: float) -> datetime.date | None:
    """The day that lies this long after `run.start`; none without a start, or after the year 9999."""
    start = run.spec.run.start if run.spec.run else None
    if start is None or not np.isfinite(seconds) or seconds / 86400.0 > (LAST - start).days:
        return None
    return start + datetime.timedelta(days=int(seconds // 86400.0))


def slack_days(run: RunPlan) -> float | None:
    """Days between the end of the run and its deadline; negative where it is late, none without a deadline."""
    section = run.spec.run
    if section is None or section.deadline is None:
        return None
    if section.start is None:
        raise SpecError("run.deadline needs run.start: a plan reads no clock", field="run.deadline")
    return (section.deadline - section.start).days - end_s(run) / 86400.0
