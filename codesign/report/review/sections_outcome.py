"""Loss, data, cost: dates, money, power and carbon, the predicted loss, data, launch and serving."""

from __future__ import annotations

from codesign import units
from codesign.decisions import calendar, interval, launch
from codesign.report.review.cited import Case, between, empty, how
from codesign.report.review.document import Block, Name, Section, Span, Words, paragraph, table, words
from codesign.report.run_outcome import size_text
from codesign.run import RunPlan
from codesign.spec.outcome import Outcome

TITLE, ANCHOR = "Loss, data, cost", "outcome"
DAY_S = 86400.0
MWH_J = 3.6e9
_MOST_WAITS = 5

# sections of `run:` and what each would add here
_MISSING = {
    "loss": "predicted loss",
    "data": "unique tokens and epochs",
    "price_per_hour": "cost",
    "power": "power, energy and carbon",
    "start": "dates",
    "launch": "launch now or wait",
    "serving": "cost of serving",
}


def outcome(case: Case) -> Section:
    run = case.run
    if run is None:
        return empty(
            ANCHOR,
            TITLE,
            "The spec has no ",
            Name("run:"),
            " section: add it, with ",
            Name("training.tokens"),
            ", for days, cost, power, loss and data.",
        )
    said = run.spec.run or Outcome()
    blocks = [
        _phases(case, run),
        _figures(case, run),
        *(_laws(run) if "final_loss" in run.inputs.targets else []),
        *(_waits(run) if said.launch else []),
    ]
    missing = [f"{name} ({what})" for name, what in _MISSING.items() if not getattr(said, name)]
    if missing:
        blocks.append(paragraph(f"Left out of the spec's run section: {', '.join(missing)}.", tone="note"))
    return Section(ANCHOR, TITLE, tuple(blocks))


def _phases(case: Case, run: RunPlan) -> Block:
    rows: list[list[Span | Words]] = []
    for row in calendar.stretches(run):
        rows.append(
            [
                row.phase,
                case.of_run(f"phase_tokens[{row.phase}]", size_text(row.tokens)),
                case.of_run(f"phase_steps[{row.phase}]", f"{row.steps:,.0f}"),
                case.of_run(f"phase_run_step_s[{row.phase}]"),
                how("calendar", f"{row.end_s / DAY_S:.1f}"),
                *(how("calendar", day.isoformat()) if day else "-" for day in (row.start, row.end)),
            ]
        )
    heads = ("phase", "tokens", "steps", "step", "ends after, days", "from", "to")
    return table("Phases of the run", heads, rows, heads[1:5])


def _figures(case: Case, run: RunPlan) -> Block:
    """One row a figure that the run has: what it is, its value, a remark."""
    has = set(run.inputs.targets)
    rows: list[list[Span | Words]] = []

    def put(name: str, label: str, text: str | None = None, *remark: Span) -> None:
        if name in has:
            rows.append(
                [
                    label,
                    case.of_run(name, text if text is not None else units.show(run.value(name), units.suffix(name))),
                    words(*remark),
                ]
            )

    def value(name: str, form: str) -> str:
        return format(run.value(name), form) if name in has else ""

    slack = calendar.slack_days(run)
    if slack is not None:
        rows.append(["deadline", how("calendar", f"{abs(slack):.0f} days"), "before it" if slack >= 0 else "late"])
    put("run_accelerator_hours", "accelerator-hours", value("run_accelerator_hours", ",.0f"))
    put(
        "rental_cost",
        "cost of the run",
        value("rental_cost", ",.0f"),
        *between(case, "rental_cost", lambda value: f"{value:,.0f}"),
        *((f" at {run.value('price_per_hour'):g} an accelerator-hour",) if "rental_cost" in has else ()),
    )
    put("failure_cost", "of it lost to failures", value("failure_cost", ",.0f"))
    put(
        "energy_cost", "energy, if paid apart", value("energy_cost", ",.0f"),
        *between(case, "energy_cost", lambda value: f"{value:,.0f}"),
    )
    put("tranche_delay_s", "delay by late hardware")
    of = "the site" if case.sites is None else "all sites"
    put("average_site_W", f"mean power of {of}")
    put("peak_site_W", f"peak power of {of}")
    if "fits_power_cap" in has:
        put("largest_site_peak_W", "peak of the largest site", None, "of ", case.of_run("power_cap_W"), " allowed")
    put("power_swing_W", "swing when all ranks stop")
    put(
        "run_energy_J",
        "energy at the meter",
        f"{run.value('run_energy_J') / MWH_J:,.0f} MWh" if "run_energy_J" in has else None,
        *between(case, "run_energy_J", lambda joule: f"{joule / MWH_J:,.0f} MWh"),
    )
    put(
        "run_carbon_kg",
        "carbon",
        f"{run.value('run_carbon_kg') / 1e3:,.0f} t CO2e" if "run_carbon_kg" in has else None,
        *between(case, "run_carbon_kg", lambda kilograms: f"{kilograms / 1e3:,.0f} t CO2e"),
    )
    spread = interval.spread(run, "final_loss")
    ends = (
        (how("draws", f"{spread.low:.3f}"), " to ", how("draws", f"{spread.high:.3f}"))
        if spread
        else ("no joint uncertainty of this law is published",)
    )
    put("final_loss", "final loss, nats a token", value("final_loss", ".3f"), *ends)
    put("compute_over_reference", "compute over the reference", value("compute_over_reference", ".3g"))
    put("effective_over_reference", "effective compute over the reference", value("effective_over_reference", ".3g"))
    put(
        "optimal_parameters",
        "best parameters for this compute",
        size_text(run.value("optimal_parameters")) if "optimal_parameters" in has else None,
    )
    put(
        "optimal_tokens",
        "best tokens for this compute",
        size_text(run.value("optimal_tokens")) if "optimal_tokens" in has else None,
    )
    put("optimal_loss", "loss of that shape", value("optimal_loss", ".3f"))
    put("data_repeats", "passes over the data after the first", value("data_repeats", ".3g"))
    put("next_token_worth", "worth of the next token", value("next_token_worth", ".2f"), "of a fresh one")
    put("data_bound_FLOP", "data are used up by the best shape at", value("data_bound_FLOP", ".3g") + " FLOP")
    put("code_bits", "code length of the data", value("code_bits", ".3g") + " bits")
    put("compression_ratio", "smaller than the raw data", value("compression_ratio", ".3g") + " times")
    for phase in run.steps:
        if "batch_over_critical" in has:
            over = run.value(f"batch_over_critical[{phase}]")
            rows.append(
                [
                    f"batch over the critical, {phase}",
                    case.of_run(f"batch_over_critical[{phase}]", f"{over:,.3g}" if over < 1000 else f"{over:,.0f}"),
                    words(
                        "critical batch ",
                        case.of_run(
                            f"critical_batch_tokens[{phase}]", size_text(run.value(f"critical_batch_tokens[{phase}]"))
                        ),
                        " tokens",
                    ),
                ]
            )
    for name, label in (
        ("serving_accelerators", "accelerators of one copy that serves"),
        ("serving_batch", "sequences served together"),
        ("prefill_s", "time of a prompt"),
        ("decode_step_s", "time of a token"),
        ("served_tokens_per_s", "served"),
        ("serving_cost_per_million", "cost of a million tokens of output"),
    ):
        put(name, label, value(name, ".3g") if name == "serving_cost_per_million" else None)
    return table("What the run gives and costs", ("figure", "value", "remarks"), rows, ("value",))


def _laws(run: RunPlan) -> list[Block]:
    from codesign.quantities.loss import ADDITIVE

    if interval.law_of(run) not in ADDITIVE:
        return []
    rows: list[list[Span | Words]] = []
    for one in interval.by_law(run):
        ratio = "-" if one.effective_over_reference is None else f"{one.effective_over_reference:.3g}"
        rows.append(
            [
                one.law,
                *(
                    how("laws", text)
                    for text in (
                        f"{one.final_loss:.3f}",
                        size_text(one.optimal_parameters),
                        size_text(one.optimal_tokens),
                        ratio,
                    )
                ),
                one.source,
            ]
        )
    heads = ("law", "loss", "best parameters", "best tokens", "over reference", "source")
    return [
        table(
            "The same run by every law; losses of laws with different tokenizers are not compared by value",
            heads,
            rows,
            heads[1:5],
        )
    ]


def _waits(run: RunPlan) -> list[Block]:
    choice = launch.waits(run)
    every = choice.rows[:: max(1, (len(choice.rows) - 1) // (_MOST_WAITS - 1))]
    rows = [
        [
            how("launch", f"{row.wait_s / DAY_S:.0f} d"),
            how("launch", f"{row.run_s / DAY_S:.1f} d"),
            how("launch", f"{row.finish_s / DAY_S:.1f} d"),
            how("launch", row.finish.isoformat()) if row.finish else "-",
            "-" if row.deadline_loss is None else how("launch", f"{row.deadline_loss:.4f}"),
        ]
        for row in every
    ]
    heads = ("wait", "run", "ends after", "on", "loss at the deadline")
    best = choice.soonest
    return [
        paragraph(
            "Launch now: every wait ends later." if best.wait_s == 0 else "Launch after ",
            *(() if best.wait_s == 0 else (how("launch", f"{best.wait_s / DAY_S:.0f} days"), ": that ends soonest.")),
        ),
        table("Launch now or wait", heads, rows, heads),
    ]


__all__ = ["outcome"]
