"""What limits the plan, how its step moves, and how wrong we were on runs like it."""

from __future__ import annotations

import math
from collections.abc import Callable

from codesign import goodput, graph, units
from codesign.decisions import calendar, interval
from codesign.quantities import constraints
from codesign.report import over_sites, view
from codesign.report.review.charts import Pairs, Swings
from codesign.report.review.cited import Case, how, spaced, whose
from codesign.report.review.document import (
    Block,
    Bullets,
    Figure,
    Section,
    Span,
    Words,
    paragraph,
    table,
    words,
)
from codesign.run import RunPlan
from codesign.search import whynot
from codesign.search.exposure import Exposure, data_parallel, exposures
from codesign.search.resources import machine

MOST_BARS = 10
JOINT: dict[str, tuple[str, Callable[[float], str]]] = {
    "run_wall_s": ("days of the run", lambda v: f"{v / 86400.0:.1f}"),
    "calendar_s": ("days of the run", lambda v: f"{v / 86400.0:.1f}"),
    "rental_cost": ("cost of the run", lambda v: f"{v:,.0f}"),
    "energy_cost": ("energy, if paid apart", lambda v: f"{v:,.0f}"),
    "run_energy_J": ("energy at the meter", lambda v: f"{v / 3.6e9:,.0f} MWh"),
    "run_carbon_kg": ("carbon", lambda v: f"{v / 1e3:,.0f} t CO2e"),
}

_ADDS = {
    "dp_gradient_exposed_s": "gradient reduction that the backward pass does not hide",
    "dp_parameter_exposed_s": "parameter gather that the forward pass does not hide",
    "bucket_slowdown_s": "compute that runs slower while gradient and parameter buckets run beside it",
    "fsdp_exposed_s": "sharded parameters and gradients that compute does not hide",
    "fsdp_slowdown_s": "compute that runs slower while sharded parameters and gradients run beside it",
    "spare_s": "less the time that this rank has to spare: others work longer",
}


# ---------------------------------------------------------------------------------------------------- limits


def limits(case: Case) -> Section:
    """The constraints, the inputs that move the step most, and the communication that could still be hidden."""
    plan = case.plan
    top = view.elasticity_rows(plan, 3)
    blocks: list[Block] = [*whose(case)]
    if top:
        named = [words(f"{row['input']} ", how("elasticity", f"{row['elasticity']:+.3f} %")) for row in top]
        blocks.append(paragraph("One per cent more of an input changes the step by: ", *spaced(named), "."))
    held = [name for name in constraints.CONSTRAINTS if plan.value(name)]
    blocks.append(paragraph(how("counted", f"{len(held)} of {len(constraints.CONSTRAINTS)}"), " constraints hold."))
    if plan.violations:
        blocks += [Bullets(tuple(words(message) for message in plan.violations)), *_lifts(case)]
    if not plan.overrides:
        blocks += _exposed(case)
    return Section("limits", "What limits it", tuple(blocks))


def _lifts(case: Case) -> list[Block]:
    """The cheapest single changes after which the chosen layout can run."""
    if case.around.result is None:
        return []
    lifts = whynot.refusal(case.around.result.space, case.plan.problem.spec).lifts
    if not lifts:
        return [paragraph("No single change of the layout lifts it.")]
    rows = [
        [lift.change, how("search", units.show(lift.step_s, "s")), " ".join(f"--set '{one}'" for one in lift.sets)]
        for lift in lifts
    ]
    return [
        table(
            "The cheapest single changes that lift it",
            ("change", "then a step takes", "codesign plan SPEC"),
            rows,
            ("then a step takes",),
        )
    ]


def _exposed(case: Case) -> list[Block]:
    """Communication that the step waits for: what could be hidden, at which bandwidth, and why the rest cannot."""
    found = exposures(machine(case.plan))
    if not found:
        return [paragraph("No communication is exposed."), *_data_parallel(case)]
    rows: list[list[Span | Words]] = [
        [
            one.label,
            case.step(one.name, view.time_shown(one.exposed_s, case.plan.step_s)),
            how("share", view.percent(one.share)),
            one.level,
            how("exposed", _hideable(one)),
            how("exposed", view.percent(one.never_removed)),
            one.why,
        ]
        for one in found
    ]
    heads = ("communication", "time", "of the step", "carried by", "could hide", "stays at endless bandwidth", "why not hidden")
    line = (
        "What the step waits for. \"Could hide\" is the share that compute could run beside, and how many times the bandwidth "
        "of the level named would hide it; the rest has no compute to run beside, and only gets shorter with more bandwidth. "
        "The next column is the share that even endless bandwidth of that level leaves: latency, and other levels."
    )
    right = ("time", "of the step", "could hide", "stays at endless bandwidth")
    return [table("Exposed communication", heads, rows, right), paragraph(line), *_data_parallel(case)]


def _hideable(one: Exposure) -> str:
    """The share of a term that could run beside compute, and the bandwidth that it takes."""
    if one.hideable_s <= 1e-9 * one.exposed_s:
        return "none"
    share = view.percent(one.hideable_s / one.exposed_s)
    return f"{share}, at no bandwidth" if one.hides_factor is None else f"{share}, at {one.hides_factor:.3g} times"


def _data_parallel(case: Case) -> list[Block]:
    """What data-parallel communication adds to the step, which is more than what is exposed of it."""
    parts = data_parallel(case.plan)
    if not case.plan.value("dp_exposed_s"):
        return []
    rows: list[list[Span | Words]] = [
        [_ADDS[name], case.step(name, text) if name in graph.REGISTRY else how("difference", text)]
        for name, text in ((name, view.time_text(value, case.plan.step_s)) for name, value in parts.items())
    ]
    unit, total = view.time_unit(case.plan.step_s)[0], view.time_text(case.plan.value("dp_exposed_s"), case.plan.step_s)
    rows.append([view.label("dp_exposed_s"), case.step("dp_exposed_s", total)])
    return [table("What data-parallel communication adds to the step, by cause", ("cause", unit), rows, (unit,), True)]


# ---------------------------------------------------------------------------------------------------- sensitivities


def sensitivities(case: Case) -> Section:
    """Elasticities of the step to every input that moves it, and the intervals of what is predicted."""
    plan = case.plan
    found = view.elasticity_rows(plan, len(plan.elasticities))
    blocks: list[Block] = [*whose(case, "The elasticities are those of")]
    if found:
        bars = tuple((row["input"], row["elasticity"], f"{row['elasticity']:+.3f} %") for row in found[:MOST_BARS])
        rows = [
            [
                row["input"],
                how("elasticity", f"{row['elasticity']:+.4f}"),
                how("elasticity", f"{row['elasticity']:+.3f} %"),
            ]
            for row in found
        ]
        blocks += [
            Figure(
                "Change of the step for one per cent more of an input",
                "A bar to the left is a shorter step, to the right a longer one.",
                Swings(bars, "shorter step", "longer step"),
            ),
            table(
                "Elasticities of the step",
                ("input", "elasticity", "step for 1 % more"),
                rows,
                ("elasticity", "step for 1 % more"),
            ),
        ]
    else:
        blocks.append(paragraph("No input moves the step time."))
    blocks.append(_intervals(case))
    return Section("sensitivities", "Sensitivities and intervals", tuple(blocks))


def _intervals(case: Case) -> Block:
    plan = case.plan
    rows: list[list[Span | Words]] = [] if case.sites is None else _over_sites(case, case.sites)
    for name, label, found, unit in (
        ("step_s", f"step time{case.place}", plan.step_interval, "s"),
        ("peak_B", f"fullest rank{case.place}", plan.memory_interval, "B"),
    ):
        ends = [
            how("interval", units.show(value, unit) if math.isfinite(value) else "-")
            for value in (found.low, found.high)
        ]
        rows.append(
            [
                label,
                case.step(name),
                *ends,
                f"residuals of {found.rows} measured rows, cell '{found.cell}'"
                + (f"; {found.extrapolated}" if found.extrapolated else ""),
            ]
        )
    run = case.run
    if run is not None and run.spec.run is not None and run.spec.run.failures is not None:
        known = goodput.interval(run)
        rows.append(
            [
                "goodput",
                case.of_run("goodput", view.percent(run.value("goodput"))),
                *([how("rates", view.percent(end)) for end in known] if known else ["-", "-"]),
                "published failure rates" if known else "no interval is known: rates of one report, or your own",
            ]
        )
    if run is not None:
        rows += _together(case, run)
        for name in ("final_loss", "effective_over_reference"):
            spread = interval.spread(run, name)
            if spread is not None:
                rows.append(
                    [
                        view.label(name),
                        case.of_run(name, f"{spread.value:.4g}"),
                        how("draws", f"{spread.low:.4g}"),
                        how("draws", f"{spread.high:.4g}"),
                        "joint draws of the law's constants",
                    ]
                )
    return table("80 % intervals", ("figure", "predicted", "low", "high", "from"), rows, ("predicted", "low", "high"))


def _over_sites(case: Case, run: RunPlan) -> list[list[Span | Words]]:
    """The interval of the step over the sites."""
    known = over_sites.interval(run)
    ends = [how("over_sites", units.show(end, "s")) for end in known] if known else ["-", "-"]
    value = case.of_run(f"phase_run_step_s[{over_sites.first_phase(run)}]")
    return [["step time over the sites", value, *ends, "the slowest site's, the exchange as planned"]]


def _together(case: Case, run: RunPlan) -> list[list[Span | Words]]:
    """Intervals of days, end date, cost and energy, which are drawn together."""
    came = f"{' and '.join(case.known.of)} drawn{' together' * (len(case.known.of) > 1)}"
    rows: list[list[Span | Words]] = []
    for name, (label, show) in JOINT.items():
        one = case.known.spreads.get(name)
        if one is None or (name == "run_wall_s" and "calendar_s" in case.known.spreads):
            continue
        rows.append([label, case.of_run(name, show(one.value)), *(how("joint", show(end)) for end in (one.low, one.high)), came])
        if name in ("run_wall_s", "calendar_s"):
            dates = [calendar.day(run, end_s) for end_s in (one.value, one.low, one.high)]
            if all(dates):
                value, *ends = (str(date) for date in dates)
                rows.append(["end of the run", how("calendar", value), *(how("joint", end) for end in ends), came])
    return rows


# ---------------------------------------------------------------------------------------------------- accuracy


def accuracy(case: Case) -> Section:
    if not case.nearest:
        return Section(
            "accuracy",
            "Accuracy on the most similar measured runs",
            (paragraph("No measured run is near enough to compare with.", tone="note"),),
        )
    rows = [
        [
            row["run"],
            row["model"],
            row["accelerators"],
            row["stack"],
            *(how("measured", row[name]) for name in ("measured", "predicted", "error")),
            row["source"],
        ]
        for row in view.nearest_table(case.nearest)
    ]
    pairs = tuple(
        (
            f"{row['model']}, {row['accelerators']:,}",
            float(str(row["measured_step_s"])),
            float(str(row["predicted_step_s"])),
            view.signed_percent(float(str(row["error"]))),
        )
        for row in case.nearest
    )
    return Section(
        "accuracy",
        "Accuracy on the most similar measured runs",
        (
            paragraph(
                "How wrong this version is on the published runs most like this one. Over all of them: codesign validate."
            ),
            Figure(
                "Predicted against measured step time",
                "A ring is the measured step time, a square the predicted one; logarithmic.",
                Pairs(pairs),
            ),
            table(
                "Nearest measured runs",
                ("run", "model", "accelerators", "stack", "measured", "predicted", "error", "source"),
                rows,
                ("measured", "predicted", "error"),
            ),
        ),
    )


__all__ = ["accuracy", "limits", "sensitivities"]
