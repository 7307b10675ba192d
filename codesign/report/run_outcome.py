"""What a run gives and costs, as text of 80 columns and as plain data. A part that the spec leaves out says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codesign import units
from codesign.decisions import calendar, interval, joint, launch
from codesign.decisions import ladder as ladders
from codesign.quantities.loss import ADDITIVE
from codesign.report.text import percent, table, wrap
from codesign.run import RunPlan
from codesign.spec import outcome

FIELD = 12  # columns of the name before a line of text
DAY_S = 86400.0
MWH_J = 3.6e9
MONEY = ("rental_cost", "failure_cost", "energy_cost", "serving_cost_per_million")


def lines(run: RunPlan) -> list[str]:
    """The outcome of a run, its answer first; no lines where `run:` plans none of it."""
    section = run.spec.run or outcome.Outcome()
    known = joint.intervals(run)
    found = [*_calendar(run, known), *_cost(run, known), *(_power(run, known) if section.power else [])]
    for what, part in (
        (section.loss, _loss), (section.data, _data),
        (section.launch, _launch), (section.serving, _serving), (section.ladder, _ladder),
    ):  # fmt: skip
        found += part(run) if what else []
    return found


def to_dict(run: RunPlan) -> dict[str, Any]:
    """The same as plain data, SI base units, units in the keys. Money is null where no price is given."""
    section = run.spec.run or outcome.Outcome()
    targets = run.to_dict()
    data: dict[str, Any] = {
        "phases": [{**asdict(row), "start": _iso(row.start), "end": _iso(row.end)} for row in calendar.stretches(run)],
        "calendar_s": calendar.end_s(run),
        "slack_days": calendar.slack_days(run),
        "money": {name: targets.get(name) for name in MONEY},
        "quantities": {name: value for name, value in targets.items() if name not in MONEY},
    }
    known = joint.intervals(run)
    data["intervals"] = {name: asdict(one) for name, one in known.spreads.items()}
    data["intervals_of"] = list(known.of)
    if section.loss:
        spreads = {name: interval.spread(run, name) for name in ("final_loss", "effective_over_reference", "effective_FLOP")}
        data["intervals"].update({name: asdict(one) if one else None for name, one in spreads.items()})
        data["by_law"] = [asdict(one) for one in interval.by_law(run)] if section.loss.law in ADDITIVE else []
    if section.launch:
        choice = launch.waits(run)
        data["launch"] = [{**asdict(row), "finish": _iso(row.finish)} for row in choice.rows]
    if section.ladder:
        data["ladder"] = asdict(ladders.ladder(run))
    return data


def _iso(day: Any) -> str | None:
    return day.isoformat() if day else None


def _line(name: str, text: str) -> str:
    return wrap(text, " " * FIELD, f"{name:{FIELD}}")


def _has(run: RunPlan, name: str) -> bool:
    return name in run.inputs.targets


def _amount(value: float) -> str:
    return f"{value:.3g}" if value < 1e3 or value >= 1e9 else f"{value:,.0f}"


def size_text(value: float) -> str:
    """A number of parameters or tokens: 405 B, 15.6 T."""
    for factor, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.4g} {name}"
    return f"{value:.4g}"


# ---------------------------------------------------------------------------------------------------- calendar, money


def _calendar(run: RunPlan, known: joint.Intervals) -> list[str]:
    rows = calendar.stretches(run)
    end = rows[-1]
    when = f", {end.end}" if end.end else ""
    if not math.isfinite(end.end_s):
        return [_line("ends", "never: failures and their recovery leave next to nothing of the time")]
    found = [_line("ends", f"after {end.end_s / DAY_S:.1f} days{when}"), *_days_between(run, known)]
    slack = calendar.slack_days(run)
    if slack is not None:
        late = f"{slack:.0f} days before the deadline" if slack >= 0 else f"LATE: {-slack:.0f} days after the deadline"
        found.append(_line("", late))
    if _has(run, "tranche_delay_s"):
        found.append(_line("tranches", f"hardware that arrives late costs {run.value('tranche_delay_s') / DAY_S:.1f} days"))
    if len(rows) > 1:
        cells = [
            {
                "phase": row.phase, "tokens": size_text(row.tokens), "steps": f"{row.steps:,.0f}",
                "step": units.show(row.step_s, "s"), "from": _iso(row.start), "to": _iso(row.end),
            }
            for row in rows
        ]  # fmt: skip
        found += table(cells, ("tokens", "steps", "step")).splitlines()
    return found


def _days_between(run: RunPlan, known: joint.Intervals) -> list[str]:
    if not known.of:
        return [_line("", "no interval: neither an error of the step nor a spread of failure rates is known")]
    ends = known.spreads["calendar_s" if _has(run, "calendar_s") else "run_wall_s"]
    days = " to ".join(f"{end_s / DAY_S:.1f}" for end_s in (ends.low, ends.high))
    dates = [calendar.day(run, end_s) for end_s in (ends.low, ends.high)]
    between = f", {dates[0]} to {dates[1]}" if all(dates) else ""
    return [_line("", f"80 % interval {days} days{between}: {' and '.join(known.of)} drawn{' together' * (len(known.of) > 1)}")]


def _between(known: joint.Intervals, name: str, show: Callable[[float], str]) -> str:
    """The interval of a quantity beside it, where one is known."""
    one = known.spreads.get(name)
    return f" (80 %: {show(one.low)} to {show(one.high)})" if one else ""


def _cost(run: RunPlan, known: joint.Intervals) -> list[str]:
    if not math.isfinite(run.value("run_accelerator_hours")):
        return []
    hours = f"{run.value('run_accelerator_hours'):,.0f} accelerator-hours"
    if not _has(run, "rental_cost"):
        return [_line("cost", f"{hours}; no run.price_per_hour: no money")]
    total = f"{_amount(run.value('rental_cost'))}{_between(known, 'rental_cost', _amount)}"
    found = [_line("cost", f"{total} for {hours} at {run.value('price_per_hour'):g} each")]
    if _has(run, "failure_cost"):
        lost = f"{_amount(run.value('failure_cost'))} of it for failures: time lost to them and to checkpoints"
        spares = run.value("run_accelerators") - run.value("training_accelerators")
        found.append(_line("", f"{lost}, {spares:,.0f} spare accelerators" if spares else lost))
    share = run.value("other_share")
    if share:
        others = _amount(share * run.value("rental_cost"))
        found.append(_line("", f"{others} of it for the {percent(share)} of the time of others"))
    if _has(run, "energy_cost"):
        found.append(_line("", f"energy, if paid apart: {_amount(run.value('energy_cost'))}"))
    return found


def _power(run: RunPlan, known: joint.Intervals) -> list[str]:
    shown = {name: units.show(run.value(name), "W") for name in ("average_site_W", "peak_site_W", "power_swing_W")}
    text = f"{shown['average_site_W']} mean, {shown['peak_site_W']} peak; steps of {shown['power_swing_W']} when all ranks stop"
    found = [_line("power", text)]
    if _has(run, "fits_power_cap"):
        most = f"{run.value('accelerators_under_cap'):,.0f} accelerators fit under it at peak"
        largest, several = units.show(run.value("largest_site_peak_W"), "W"), "exchange" in run.inputs.structure
        each = f" of a site, the largest peaks at {largest}" if several else ""
        found.append(_line("", f"cap {units.show(run.value('power_cap_W'), 'W')}{each}: {most}"))
    if not math.isfinite(run.value("run_energy_J")):
        return found
    carbon = f", {run.value('run_carbon_kg') / 1e3:,.0f} t CO2e" if _has(run, "run_carbon_kg") else ""
    between = _between(known, "run_energy_J", lambda joule: f"{joule / MWH_J:,.0f}")
    found.append(_line("energy", f"{run.value('run_energy_J') / MWH_J:,.0f} MWh at the meter{between}{carbon}"))
    return found


# ---------------------------------------------------------------------------------------------------- loss, data


def _loss(run: RunPlan) -> list[str]:
    found = []
    if _has(run, "final_loss"):
        spread = interval.spread(run, "final_loss")
        text = f"{run.value('final_loss'):.3f} nats a token"
        if spread:
            text += f", 80 % of joint draws {spread.low:.3f} to {spread.high:.3f}"
        else:
            text += "; no joint uncertainty of this law is published"
        found.append(_line("loss", text))
        found += _other_laws(run)
    if _has(run, "compute_over_reference"):
        found += _reference(run)
    if _has(run, "optimal_tokens"):
        found += _shape(run)
    if _has(run, "low_precision_break_even"):
        text = f"its speed is given back at a loss increase of {percent(run.value('low_precision_break_even'), 2)}"
        found.append(_line("precision", f"{text}; counted: {percent(run.value('low_precision_penalty'), 2)}"))
    if _has(run, "batch_over_critical"):
        found += _batch(run)
    if _has(run, "code_bits"):
        found += _code(run)
    return found


def _other_laws(run: RunPlan) -> list[str]:
    """The loss by every law of the same form, and how far they lie apart: the interval of one law holds none of that."""
    chosen = interval.law_of(run)
    if chosen not in ADDITIVE:
        return []
    rows = interval.by_law(run)
    others = ", ".join(f"{one.law} {one.final_loss:.3f}" for one in rows if one.law != chosen)
    low, high = min(one.final_loss for one in rows), max(one.final_loss for one in rows)
    spread = f"spread of the laws {low:.3f} to {high:.3f} ({percent(high / low - 1.0)}), each of its own data and tokens"
    return [_line("", f"by the other laws: {others}; {spread}")]


def _reference(run: RunPlan) -> list[str]:
    section = run.spec.run
    assert section and section.loss and section.loss.reference
    name, raw = section.loss.reference.name, run.value("compute_over_reference")
    if not _has(run, "effective_over_reference"):
        return [_line("reference", f"{raw:.3g} times the compute of {name}; this law compares no losses")]
    spread = interval.spread(run, "effective_over_reference")
    between = f" ({spread.low:.3g} to {spread.high:.3g})" if spread else ""
    text = f"{run.value('effective_over_reference'):.3g} times the effective compute of {name}{between}"
    found = [_line("reference", f"{text}, {raw:.3g} times its compute")]
    others = [one for one in interval.by_law(run) if one.law != section.loss.law]
    ratios = ", ".join(f"{one.law} {one.effective_over_reference:.3g}" for one in others if one.effective_over_reference)
    return [*found, _line("", f"by the other laws: {ratios}")]


def _shape(run: RunPlan) -> list[str]:
    if _has(run, "optimal_token_FLOP"):
        shape = f"{run.value('optimal_token_FLOP'):.3g} FLOP a token (this model {run.value('law_token_FLOP'):.3g})"
    else:
        shape = f"{size_text(run.value('optimal_parameters'))} parameters (this model {size_text(run.value('law_parameters'))})"
    text = f"{shape} on {size_text(run.value('optimal_tokens'))} tokens"
    if _has(run, "optimal_loss"):
        fresh = " on fresh data" if _has(run, "data_repeats") and run.value("data_repeats") > 0 else ""
        text += f", loss {run.value('optimal_loss'):.3f}{fresh}"
    found = [_line("optimum", f"of this compute: {text}")]
    if _has(run, "serving_optimal_parameters"):
        parameters, tokens = (size_text(run.value(f"serving_optimal_{what}")) for what in ("parameters", "tokens"))
        budget = f"{run.value('lifetime_over_training'):.2f} times the compute of training"
        shape = f"{parameters} parameters on {tokens} tokens, loss {run.value('serving_optimal_loss'):.3f}"
        found.append(_line("", f"with serving, {budget}: {shape}"))
    return found


def _batch(run: RunPlan) -> list[str]:
    over = {name: run.value(f"batch_over_critical[{name}]") for name in run.steps}
    name = max(over, key=lambda one: over[one])
    critical = run.value(f"critical_batch_tokens[{name}]")
    batch = run.value(f"phase_step_tokens[{name}]")
    where = f" in phase {name}" if len(over) > 1 else ""
    verdict = "ABOVE" if over[name] > 1 else "below"
    section = run.spec.run
    assert section and section.loss
    stands = batch / over[name]
    together = f" ({size_text(critical)} for one replica)" if stands > 1.0001 * critical else ""
    beside = f"{over[name]:.3g} times the critical batch of {size_text(stands)}{together}"
    text = f"{size_text(batch)} tokens{where}, {beside}: {verdict} it"
    best = [("Step Law", "step_law_batch_tokens"), ("DeepSeek", "deepseek_batch_tokens"), ("Charles", "charles_batch_tokens")]
    spread = ", ".join(f"{who} {size_text(run.value(what))}" for who, what in best)
    found = [_line("batch", text)]
    if over[name] > 1:
        counted = "batch_worth" in run.inputs.targets
        how = "not counted in the loss"
        if counted:
            how = f"{percent(run.value('batch_worth'))} of the run's count (assumed: laws are fitted up to the critical batch)"
        found.append(_line("", f"it wastes {percent(run.value(f'batch_waste[{name}]'))} of its tokens; {how}"))
    return [*found, _line("", f"best batches by law differ widely: {spread}")]


def _code(run: RunPlan) -> list[str]:
    bits, mean = run.value("code_bits"), run.value("code_mean_loss")
    text = f"{bits:.3g} bits ({units.show(bits / 8, 'B')}) for one pass, mean {mean:.3f} nats a token"
    ratio = f"; {run.value('compression_ratio'):.1f} times smaller than the raw data" if _has(run, "compression_ratio") else ""
    return [_line("code length", text + ratio)]


def _data(run: RunPlan) -> list[str]:
    repeats, worth = run.value("data_repeats"), run.value("next_token_worth")
    again = f"{1 + repeats:.3g} epochs; the next token is worth {worth:.2f} of a fresh one"
    found = [_line("data", again if repeats else "no token is seen twice")]
    if _has(run, "data_bound_FLOP"):
        bound = run.value("data_bound_FLOP")
        is_bound = run.value("run_compute_FLOP") > bound
        text = f"{'DATA-BOUND' if is_bound else 'compute-bound'}: the data are used up by the best shape at {bound:.2g} FLOP"
        found.append(_line("", text))
        prices = {
            "compute": run.value("compute_price"), "unique tokens": run.value("unique_tokens_price"),
            "data efficiency": run.value("data_efficiency_price"),
        }  # fmt: skip
        worths = ", ".join(f"{name} {0.01 * price:+.2g}" for name, price in prices.items())
        found.append(_line("", f"loss for one per cent more (Muennighoff, best shape): {worths}"))
    return found


# ---------------------------------------------------------------------------------------------------- choices


def _launch(run: RunPlan) -> list[str]:
    choice = launch.waits(run)
    best = choice.soonest
    now = choice.rows[0]
    if not math.isfinite(best.finish_s):
        return []
    if best.wait_s == 0:
        text = "now: every wait ends later"
    else:
        text = f"after {best.wait_s / DAY_S:.0f} days: ends {(now.finish_s - best.finish_s) / DAY_S:.1f} days sooner than now"
    found = [_line("launch", text)]
    if choice.lowest is not None:
        low = choice.lowest
        when = f"launch after {low.wait_s / DAY_S:.0f} days"
        found.append(_line("", f"least loss at the deadline, {low.deadline_loss:.3f}: {when}"))
    cells = [
        {
            "wait": f"{row.wait_s / DAY_S:.0f} d", "run": f"{row.run_s / DAY_S:.1f} d", "ends": _iso(row.finish),
            "after": f"{row.finish_s / DAY_S:.1f} d",
            "loss at deadline": "-" if row.deadline_loss is None else f"{row.deadline_loss:.4f}",
        }
        for row in choice.rows[:: max(1, (len(choice.rows) - 1) // 4)]
    ]  # fmt: skip
    return [*found, *table(cells, ("wait", "run", "after", "loss at deadline")).splitlines()]


def _serving(run: RunPlan) -> list[str]:
    section = run.spec.run
    assert section and section.serving
    count, batch = run.value("serving_accelerators"), run.value("serving_batch")
    limits = f"knee {run.value('knee_batch'):,.0f}, memory {run.value('memory_batch'):,.0f}"
    what = f"{count:,.0f} {section.serving.profile}, {section.serving.precision}"
    found = [_line("serving", f"{what}: {batch:,.0f} sequences together ({limits})")]
    times = f"prompt {units.show(run.value('prefill_s'), 's')}, a token every {units.show(run.value('decode_step_s'), 's')}"
    sent_s = run.value("decode_tensor_s") + run.value("decode_expert_s")
    if sent_s:
        times += f" ({percent(sent_s / run.value('decode_step_s'))} of it communication)"
    rate = f"{run.value('served_tokens_per_s'):,.0f} tokens/s"
    found.append(_line("", f"{times}, {rate}, keys and values {units.show(run.value('full_sequence_B'), 'B')} a sequence"))
    if _has(run, "serving_cost_per_million"):
        cost = f"{run.value('serving_cost_per_million'):.3g} a million tokens of output at full load"
        found.append(_line("", cost))
    return found


def _ladder(run: RunPlan) -> list[str]:
    made = ladders.ladder(run)
    total = f"{made.accelerator_hours:,.0f} accelerator-hours, {percent(made.share_of_run)} of the run"
    found = [_line("ladder", f"{len(made.loss_rungs)} runs of loss, {len(made.system_rungs)} of the step: {total}")]
    for one in made.uncertainties:
        found.append(_line("", f"{one.what}: a factor {one.factor:.2f} either way ({one.from_}); {one.tested_by} rungs"))
    found += _table_of(made.loss_rungs, lambda r: {
        "loss run": f"{r.compute_FLOP:.2g} FLOP", "parameters": size_text(r.parameters), "tokens": size_text(r.tokens),
        "on": f"{r.accelerators:,}", "hours": f"{r.run_s / 3600:.0f}", "loss": f"{r.loss:.3f}",
        "go to": "-" if r.high is None else f"{r.high:.3f}",
    })  # fmt: skip
    found += _table_of(made.system_rungs, lambda r: {
        "step run": f"{r.accelerators:,} accelerators", "dp": f"{r.dp}", "batch": f"{r.global_batch_sequences:,}",
        "step": units.show(r.step_s, "s"), "go to": units.show(r.high_s, "s"), "full/this": f"{r.full_over_this:.3f}",
    })  # fmt: skip
    if made.extrapolation is not None:
        residual = run.spec.run.ladder.residual if run.spec.run and run.spec.run.ladder else None
        found += _beyond(made.extrapolation, f"{residual.sd:g}, {residual.source}" if residual else "")
    return [*found, *(_line("", note) for note in made.notes)]


def _beyond(one: ladders.Extrapolation, said: str) -> list[str]:
    text = f"{one.decades:.1f} decades beyond the last rung, error {one.amplification:.2f} times the residual of the rungs"
    if one.residual_sd is None:
        text += f"; no residual is given: above {one.break_even_sd:.3f} of ln(L - E) the ladder cannot tell half the compute"
    else:
        text += f" ({said}): loss +/- {one.loss_sd:.4f} (sd), effective compute a factor {one.compute_factor:.2f}; E held: least"
    stop = f"if the rungs point to a loss of {one.no_go_loss:.4f} or more: half the effective compute"
    return [_line("", text), _line("no-go", stop)]


def _table_of(rows: Sequence[Any], cells: Callable[[Any], Mapping[str, Any]]) -> list[str]:
    made = [cells(row) for row in rows]
    return table(made, tuple(made[0])[1:]).splitlines() if made else []
