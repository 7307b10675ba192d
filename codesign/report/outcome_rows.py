"""Loss, data, power, money, ladder and serving of a run as rows for a page. A part that the spec leaves out has no rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codesign import units
from codesign.report import run_outcome, view
from codesign.report.kept import kept
from codesign.run import RunPlan

Row = dict[str, Any]
Text = Callable[[float], str]

outcome = kept(run_outcome.to_dict)


def _in(unit: str) -> Text:
    return lambda value: units.show(value, unit)


def _count(value: float) -> str:
    """405.9 B parameters, 15.6 T tokens."""
    factor, name = next(((f, n) for f, n in ((1e12, " T"), (1e9, " B"), (1e6, " M")) if value >= f), (1.0, ""))
    return f"{value / factor:.4g}{name}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _share(value: float) -> str:
    return view.percent(value, 2)


def _hundredth(value: float) -> str:
    """An elasticity as what one per cent does."""
    return f"{0.01 * value:+.2g}"


# part of the run -> what is said, the quantity, its text; a quantity that the run does not have is left out
_FACTS: Mapping[str, Sequence[tuple[str, str, Text]]] = {
    "loss": (
        ("predicted loss, nats a token", "final_loss", lambda value: f"{value:.4f}"),
        ("effective compute", "effective_FLOP", _in("FLOP")),
        ("effective compute over the reference's", "effective_over_reference", _short),
        ("best parameters for this compute", "optimal_parameters", _count),
        ("best tokens for this compute", "optimal_tokens", _count),
        ("loss of that shape", "optimal_loss", lambda value: f"{value:.4f}"),
        ("loss increase at which low precision gains nothing", "low_precision_break_even", _share),
        ("loss increase of low precision that is counted", "low_precision_penalty", _share),
        ("length of the data as code, bits", "code_bits", _short),
    ),
    "data": (
        ("compute of the run", "run_compute_FLOP", _in("FLOP")),
        ("compute at which the best shape has used up the data", "data_bound_FLOP", _in("FLOP")),
        ("passes over the data after the first", "data_repeats", _short),
        ("what the next token is worth, of a fresh one", "next_token_worth", _short),
        ("loss for one per cent more compute", "compute_price", _hundredth),
        ("loss for one per cent more unique tokens", "unique_tokens_price", _hundredth),
        ("loss for one per cent more data efficiency", "data_efficiency_price", _hundredth),
    ),
    "power": (
        ("site, mean", "average_site_W", _in("W")), ("site, training", "training_site_W", _in("W")),
        ("site, peak", "peak_site_W", _in("W")), ("site, all ranks waiting", "waiting_site_W", _in("W")),
        ("swing when all ranks stop", "power_swing_W", _in("W")), ("cap", "power_cap_W", _in("W")),
        ("accelerators that fit under the cap", "accelerators_under_cap", lambda value: f"{value:,.0f}"),
        ("energy at the meter, MWh", "run_energy_J", lambda value: f"{value / run_outcome.MWH_J:,.0f}"),
        ("carbon, t CO2e", "run_carbon_kg", lambda value: f"{value / 1e3:,.0f}"),
        ("rent", "rental_cost", lambda value: f"{value:,.0f}"),
        ("of it for failures and checkpoints", "failure_cost", lambda value: f"{value:,.0f}"),
        ("energy, if paid apart", "energy_cost", lambda value: f"{value:,.0f}"),
    ),
    "serving": (
        ("accelerators of one copy", "serving_accelerators", lambda value: f"{value:,.0f}"),
        ("sequences together", "serving_batch", lambda value: f"{value:,.0f}"),
        ("knee of the batch", "knee_batch", lambda value: f"{value:,.0f}"),
        ("sequences that memory holds", "memory_batch", lambda value: f"{value:,.0f}"),
        ("prompt", "prefill_s", _in("s")), ("one token", "decode_step_s", _in("s")),
        ("tokens a second", "served_tokens_per_s", lambda value: f"{value:,.0f}"),
        ("keys and values of a sequence", "full_sequence_B", _in("B")),
        ("cost of a million tokens of output", "serving_cost_per_million", _short),
        ("best parameters, served tokens counted", "serving_optimal_parameters", _count),
        ("best tokens, served tokens counted", "serving_optimal_tokens", _count),
    ),
}


def facts(run: RunPlan, part: str) -> list[Row]:
    """What the run says of `part`: its value, in words, and the name under which it is explained."""
    rows = []
    for said, name, text in _FACTS[part]:
        if (name, None) in run.values or name in run.inputs.leaves:
            value = run.value(name)
            rows.append({"value": text(value) if math.isfinite(value) else "without bound", "what": said, "quantity": name})
    return rows


def has(run: RunPlan, part: str) -> bool:
    """Whether the spec plans that part of `run:`."""
    return run.spec.run is not None and getattr(run.spec.run, part) is not None


# ---------------------------------------------------------------------------------------------------- loss, data


def law_rows(run: RunPlan) -> list[Row]:
    """The loss by every law with an L(N, D), the run's own with its interval; for a chart."""
    found = outcome(run)
    own = found["intervals"]["final_loss"]
    stated = run.inputs.structure.get("loss_law")
    return [
        {
            "law": one["law"], "loss": one["final_loss"],
            "low": own["low"] if own and one["law"] == stated else one["final_loss"],
            "high": own["high"] if own and one["law"] == stated else one["final_loss"],
        }
        for one in found["by_law"]
    ]


def law_table(run: RunPlan) -> list[Row]:
    """The same as texts, with what each law holds for the best shape."""
    over = "effective_over_reference"
    return [
        {
            "law": one["law"], "loss": f"{one['final_loss']:.4f}", "best parameters": _count(one["optimal_parameters"]),
            "best tokens": _count(one["optimal_tokens"]), "times the reference": "-" if one[over] is None else _short(one[over]),
            "source": one["source"],
        }
        for one in outcome(run)["by_law"]
    ]


def loss_summary(run: RunPlan) -> str:
    """The predicted loss with its interval, or that none is known."""
    spread = outcome(run)["intervals"]["final_loss"]
    said = f"{run.value('final_loss'):.4f} nats a token" if "final_loss" in run.inputs.targets else "The law prints no loss"
    if not spread:
        return f"{said}; no joint uncertainty of this law is published: the spread of the laws is what is known."
    between = f"{spread['low']:.4f} to {spread['high']:.4f}"
    return f"{said}, {view.percent(spread['share'], 0)} of joint draws of the law's constants {between}."


def data_summary(run: RunPlan) -> str:
    """Whether the data or the compute binds, and how often the data are read."""
    repeats = run.value("data_repeats")
    said = f"{1.0 + repeats:.3g} epochs" if repeats else "No token is seen twice"
    name = "data_bound_FLOP"
    if name not in run.inputs.targets:
        return f"{said}. Whether data or compute binds is a matter of loss: run.loss says which law."
    bound = run.value(name)
    binds = "Data-bound" if run.value("run_compute_FLOP") > bound else "Compute-bound"
    return f"{binds}: the best shape uses the data up at {units.show(bound, 'FLOP')}. {said}."


def phase_table(run: RunPlan) -> list[Row]:
    """The phases of the run with their dates."""
    return [
        {
            "phase": one["phase"], "tokens": _count(one["tokens"]), "steps": f"{one['steps']:,.0f}",
            "step": units.show(one["step_s"], "s"), "from": one["start"] or "-", "to": one["end"] or "-",
            "ends after": units.show(one["end_s"], "s"),
        }
        for one in outcome(run)["phases"]
    ]


# ---------------------------------------------------------------------------------------------------- ladder


def ladder_tables(run: RunPlan) -> dict[str, list[Row]]:
    """Runs of loss, runs of the step, what they test, and how far the last one is from the run; by title."""
    made = outcome(run)["ladder"]
    beyond = made["extrapolation"]
    told = () if beyond is None else (
        ("decades of compute beyond the last rung", beyond["decades"], ".1f"),
        ("error over the residual of the rungs", beyond["amplification"], ".2f"),
        ("standard deviation of ln(L - E) above which half the compute cannot be told", beyond["break_even_sd"], ".3f"),
        ("no go: predicted loss at which half the compute is lost", beyond["no_go_loss"], ".4f"),
        ("standard deviation of the loss, with the stated residual", beyond["loss_sd"], ".4f"),
        ("factor of the compute, with the stated residual", beyond["compute_factor"], ".2f"),
    )
    tables: dict[str, list[Row]] = {
        "Small runs for the loss": [
            {
                "compute": units.show(one["compute_FLOP"], "FLOP"), "parameters": _count(one["parameters"]),
                "tokens": _count(one["tokens"]), "accelerators": f"{one['accelerators']:,}",
                "takes": units.show(one["run_s"], "s"), "loss": f"{one['loss']:.3f}",
                "go up to": "-" if one["high"] is None else f"{one['high']:.3f}",
            }
            for one in made["loss_rungs"]
        ],
        "Small runs for the step": [
            {
                "accelerators": f"{one['accelerators']:,}", "dp": f"{one['dp']:,}", "batch": f"{one['global_batch_sequences']:,}",
                "step": units.show(one["step_s"], "s"), "go up to": units.show(one["high_s"], "s"),
                "the run's step over this one": f"{one['full_over_this']:.3f}",
            }
            for one in made["system_rungs"]
        ],
        "What they test": [
            {"what": one["what"], "uncertain by a factor": f"{one['factor']:.2f}", "because of": one["from_"],
             "tested by runs for the": "step" if one["tested_by"] == "system" else one["tested_by"]}
            for one in made["uncertainties"]
        ],
        "Beyond the last rung": [
            {"value": format(value, form), "what": what} for what, value, form in told if value is not None
        ],
    }
    return {title: rows for title, rows in tables.items() if rows}


def ladder_notes(run: RunPlan) -> list[str]:
    """What it costs, and what could not be made smaller."""
    made = outcome(run)["ladder"]
    hours = f"{made['accelerator_hours']:,.0f} accelerator-hours, {view.percent(made['share_of_run'])} of the run"
    return [f"{len(made['loss_rungs'])} runs for the loss, {len(made['system_rungs'])} for the step: {hours}.", *made["notes"]]
