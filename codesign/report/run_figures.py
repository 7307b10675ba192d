"""The figures that come first on the page of a run, and the answer in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

from codesign import goodput, units
from codesign.decisions import calendar
from codesign.planner import Plan
from codesign.report import run_goodput, view
from codesign.report.figures import DAY_S, DAYS, LOSS, Figure, Kind, Span, figures, loss_span, needs, points, run_span
from codesign.report.kept import kept
from codesign.run import RunPlan

failures = kept(run_goodput.to_dict)  # what the screen of failures says, as data; empty without run.failures


def run_figures(plan: Plan, run: RunPlan, before: tuple[Plan, RunPlan | None] | None = None) -> list[Figure]:
    """Goodput, days, loss, cost and effective compute, those that the spec asks for; `before`: the baseline's plan and run."""
    return figures(plan, run, before, [kind for kind in _KINDS if kind is not _HOURS or "rental_cost" not in run.inputs.targets])


def site_figures(plan: Plan, run: RunPlan, before: tuple[Plan, RunPlan | None] | None = None) -> list[Figure]:
    """What the sites give together: utilisation, effective compute, speed over the fastest site alone."""
    return figures(plan, run, before, _OF_SITES)


def answer(run: RunPlan) -> list[str]:
    """When the run ends, how it fares against its deadline, what fails, and what compute it is worth."""
    end_s = calendar.end_s(run)
    if not math.isfinite(end_s):
        return ["The run does not end: failures and their recovery leave next to nothing of the time."]
    day = calendar.day(run, end_s)
    out = [f"Ends after {end_s / DAY_S:.1f} days{f', on {day}' if day else '; run.start gives it a date'}."]
    slack = calendar.slack_days(run)
    if slack is not None:
        out.append(f"{slack:.0f} days before the deadline." if slack >= 0 else f"LATE: {-slack:.0f} days after the deadline.")
    found = failures(run)
    if found:
        every = units.show(found["mean_time_to_failure_s"], "s")
        out.append(
            f"Under the policy {goodput.policies(run)[0]} one interruption in {every}, {found['expected_failures'] or 0:.4g} in "
            "the run."
        )
    return out


def _value(name: str) -> Callable[[Plan, RunPlan | None], float]:
    return lambda _, run: needs(run).value(name)


def _goodput_span(_: Plan, run: RunPlan | None) -> Span | None:
    """Over the interval of published failure rates; none where the rates are the spec's own."""
    found = failures(needs(run))
    low, high = found.get("goodput_lo"), found.get("goodput_hi")
    return (low, high) if low is not None and high is not None and high > low else None


def _unknown(_: Plan, run: RunPlan | None) -> Span | None:
    """Nothing is published of how wrong a figure of several sites is."""
    return None


def _amount(value: float) -> str:
    """10.06 M, 5.427 B."""
    factor, name = next(((f, n) for f, n in ((1e12, " T"), (1e9, " B"), (1e6, " M")) if value >= f), (1.0, ""))
    return f"{value / factor:,.4g}{name}" if name else f"{value:,.0f}"


def _kind(label: str, better: str, name: str, span: Callable[[Plan, RunPlan | None], Span | None],
          text: Callable[[float], str], difference: Callable[[float], str] | None = None) -> Kind:
    return Kind(label, better, name, _value(name), span, text, difference, True)


_HOURS = _kind("Accelerator-hours", "less", "run_accelerator_hours", run_span("run_accelerator_hours"), _amount)
_KINDS = (
    _kind("Goodput", "more", "goodput", _goodput_span, view.percent, points),
    DAYS,
    LOSS,
    _kind("Cost", "less", "rental_cost", run_span("rental_cost"), _amount),
    _HOURS,
    _kind("Effective FLOP", "more", "effective_FLOP", loss_span("effective_FLOP"), lambda v: f"{v:.3g}"),
    _kind("Times the reference", "more", "effective_over_reference", loss_span("effective_over_reference"),
          lambda v: f"{v:.3g}"),
)
_OF_SITES = (
    _kind("WAN utilisation", "more", "wan_utilisation", _unknown, view.percent, points),
    _kind("Effective compute", "more", "effective_compute_share", _unknown, view.percent, points),
    _kind("Over the fastest site", "more", "sites_gain", _unknown, lambda v: f"{v:.3g} x"),
    _kind("Compute for the loss", "less", "sync_loss_multiplier", _unknown, lambda v: f"{v:.3g} x"),
)
