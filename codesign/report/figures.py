"""The figures that come first: each with its interval, its change against a baseline, and the quantity that explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign import units
from codesign.decisions import calendar, interval, joint
from codesign.planner import Interval, Plan
from codesign.report import over_sites, view
from codesign.report import run as beyond
from codesign.run import RunPlan

DAY_S = 86400.0

Span = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A number as text. `better`: more, less, same; `quantity`: the name under which it is explained."""

    label: str
    value: str
    interval: str
    delta: str | None
    better: str
    quantity: str
    of_run: bool = False


@dataclass(frozen=True)
class Kind:
    """How a figure is made: its value, its interval, their text. `difference`: text of a change, where its share says nothing."""

    label: str
    better: str
    quantity: str
    value: Callable[[Plan, RunPlan | None], float]
    span: Callable[[Plan, RunPlan | None], Span | None]
    text: Callable[[float], str]
    difference: Callable[[float], str] | None = None
    of_run: bool = False
    over_sites: str = ""  # the quantity of a phase that stands for it over sites


def figures(
    plan: Plan, run: RunPlan | None = None, before: tuple[Plan, RunPlan | None] | None = None, kinds: Sequence[Kind] = (),
) -> list[Figure]:
    """Step, MFU, tokens a day, memory headroom; days and loss where there is a run. `before`: the baseline's plan and run.

    Over sites step and tokens are those of the run over them, MFU and memory those of the slowest site. `kinds`: other
    figures in their place; those that the run does not have are left out.
    """
    return [_figure(kind, plan, run, before) for kind in kinds or _KINDS if not kind.of_run or _has(run, kind.quantity)]


def verdict(plan: Plan, run: RunPlan | None = None) -> list[str]:
    """The answer in a line, with what leaves it open; a line for each constraint of step and run that does not hold."""
    broken = beyond.broken(plan, run)
    return [view.verdict(broken, beyond.unsure(plan, run)), *broken]


def _has(run: RunPlan | None, name: str) -> bool:
    return run is not None and (name in run.inputs.targets or (name, None) in run.values)


def _figure(kind: Kind, plan: Plan, run: RunPlan | None, before: tuple[Plan, RunPlan | None] | None) -> Figure:
    then_of = None if before is None else (over_sites.shown(*before), before[1])
    plan = over_sites.shown(plan, run)
    now, span = kind.value(plan, run), kind.span(plan, run)
    between = f"80 %: {kind.text(span[0])} to {kind.text(span[1])}" if span else "no interval known"
    delta, better = None, "same"
    if then_of is not None and (not kind.of_run or _has(then_of[1], kind.quantity)):
        then = kind.value(*then_of)
        delta = "no change" if now == then else _change(kind, now, then)
        better = "same" if now == then else kind.better
    label, quantity = _named(kind, run)
    return Figure(label, kind.text(now), between, delta, better, quantity, kind.of_run)


def _named(kind: Kind, run: RunPlan | None) -> tuple[str, str]:
    """Label and quantity; over sites those of the run, or the site that is looked into."""
    if run is None or not run.has_sites or kind.of_run:
        return kind.label, kind.quantity
    if kind.over_sites:
        return f"{kind.label}, all sites", f"{kind.over_sites}[{over_sites.first_phase(run)}]"
    return f"{kind.label}, {over_sites.slowest(run)[0]}", kind.quantity


def _change(kind: Kind, now: float, then: float) -> str:
    """With its share of what it was; of a ratio the points alone."""
    if kind.difference is None:
        return view.change(now, then, kind.text)
    return f"{'-' if now < then else '+'}{kind.difference(abs(now - then))}"


def needs(run: RunPlan | None) -> RunPlan:
    """The run of a figure that only a run has."""
    assert run is not None, "a figure of the run is asked for where there is none"
    return run


# ---------------------------------------------------------------------------------------------------- values


def _known(found: Interval) -> bool:
    return bool(np.isfinite(found.low))


def _step(plan: Plan, run: RunPlan | None) -> float:
    return over_sites.step(run)["step_s"] if run is not None and run.has_sites else plan.step_s


def _day_rate(plan: Plan, run: RunPlan | None) -> float:
    over = run is not None and run.has_sites
    return DAY_S * (over_sites.step(needs(run))["tokens_per_s"] if over else plan.value("job_tokens_per_s"))


def _step_span(plan: Plan, run: RunPlan | None) -> Span | None:
    if run is not None and run.has_sites:
        return over_sites.interval(run)
    found = plan.step_interval
    return (found.low, found.high) if _known(found) else None


def _rate_span(name: str) -> Callable[[Plan, RunPlan | None], Span | None]:
    """What goes as one over the step: the long step is its low end."""

    def span(plan: Plan, _: RunPlan | None) -> Span | None:
        found, value = plan.step_interval, plan.value(name) * plan.step_s
        return (value / found.high, value / found.low) if _known(found) else None

    return span


def _day_rate_span(plan: Plan, run: RunPlan | None) -> Span | None:
    found, tokens = _step_span(plan, run), _day_rate(plan, run) * _step(plan, run)
    return (tokens / found[1], tokens / found[0]) if found else None


def _headroom(plan: Plan, _: RunPlan | None) -> float:
    return plan.value("memory_B") - plan.value("peak_B")


def _headroom_span(plan: Plan, _: RunPlan | None) -> Span | None:
    found, capacity_B = plan.memory_interval, plan.value("memory_B")
    return (capacity_B - found.high, capacity_B - found.low) if _known(found) else None


def _days(_: Plan, run: RunPlan | None) -> float:
    return calendar.end_s(needs(run)) / DAY_S


def _days_span(_: Plan, run: RunPlan | None) -> Span | None:
    """The interval of days that `plan` prints: errors of the step and failure rates drawn together."""
    spreads = joint.intervals(needs(run)).spreads
    found = spreads.get("calendar_s", spreads.get("run_wall_s"))
    return (found.low / DAY_S, found.high / DAY_S) if found else None


def run_span(name: str) -> Callable[[Plan, RunPlan | None], Span | None]:
    """The interval of a quantity of the run where errors of the step and failure rates are drawn together."""

    def span(_: Plan, run: RunPlan | None) -> Span | None:
        found = joint.intervals(needs(run)).spreads.get(name)
        return (found.low, found.high) if found else None

    return span


def loss_span(name: str) -> Callable[[Plan, RunPlan | None], Span | None]:
    """Of joint draws of the loss law's constants, where they are published."""

    def span(_: Plan, run: RunPlan | None) -> Span | None:
        found = interval.spread(needs(run), name)
        return (found.low, found.high) if found else None

    return span


def _signed_bytes(value: float) -> str:
    return f"{'-' if value < 0 else ''}{units.show(abs(value), 'B')}"


def points(value: float) -> str:
    """A difference of two shares."""
    return f"{100.0 * value:.1f} points"


def _tokens(value: float) -> str:
    """258.8 B, 15.6 T."""
    factor, name = next(((f, n) for f, n in ((1e12, " T"), (1e9, " B"), (1e6, " M")) if value >= f), (1.0, ""))
    return f"{value / factor:.4g}{name}"


DAYS = Kind("Days", "less", "phase_end_wall_s", _days, _days_span, lambda v: f"{v:,.1f}", None, True)
LOSS = Kind("Final loss", "less", "final_loss", lambda p, r: needs(r).value("final_loss"), loss_span("final_loss"),
            lambda v: f"{v:.4f}", None, True)
_KINDS = (
    Kind("Step time", "less", "step_s", _step, _step_span, lambda v: units.show(v, "s"), over_sites="phase_run_step_s"),
    Kind("MFU", "more", "mfu", lambda p, r: p.value("mfu"), _rate_span("mfu"), view.percent, points),
    Kind("Tokens a day", "more", "job_tokens_per_s", _day_rate, _day_rate_span, _tokens, over_sites="phase_tokens_per_s"),
    Kind("Memory headroom", "more", "peak_B", _headroom, _headroom_span, _signed_bytes, _signed_bytes),
    DAYS, LOSS,
)
