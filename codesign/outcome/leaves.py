"""Leaves of the outcome of a run: what the sections of the spec and the plans of the steps give its graph.

A section that is left out puts what keeps the others whole, and asks for no target.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping

from codesign import planner
from codesign.errors import SpecError
from codesign.laws import power as power_laws
from codesign.outcome import loss_laws, serving
from codesign.quantities.loss import ADDITIVE
from codesign.site_steps import Steps
from codesign.spec import outcome, schema
from codesign.spec.made import Made

DAY_S = 86400.0
WIDE = ("fp32", "bf16", "fp16")

MATMUL = ("gemm_total_s", "ends_total_s", "overlap_slowdown_total_s")
MEMORY = ("elementwise_total_s", "optimizer_s")


def put(spec: schema.Spec, steps: Mapping[str, planner.Plan], made: Made) -> None:
    """All leaves, targets and notes of the outcome. Raises SpecError at the field that cannot be used."""
    run = spec.run or outcome.Outcome()
    if "exchange" not in made.structure:
        made.put("sync_loss_multiplier", 1.0, "spec", "one site")
    if run.loss:
        _loss(spec, run.loss, steps, made)
    if run.data:
        _data(run.data, run.loss, made)
    if run.power:
        _power(run.power, steps, made)
    _money(run, made)
    _calendar(run, made)
    if run.other:
        _other(run.other, made)
    if run.launch:
        _launch(run.launch, run, made)
    if run.serving:
        serving.put(spec, run.serving, made)
        if run.serving.served_tokens is not None:
            _served(run.serving, made)


# ---------------------------------------------------------------------------------------------------- loss and data


def _loss(spec: schema.Spec, loss: outcome.Loss, steps: Mapping[str, planner.Plan], made: Made) -> None:
    info = loss_laws.LAWS[loss.law]
    made.structure["loss_law"] = loss.law
    made.structure["data_given"] = bool(spec.run and spec.run.data)
    made.put("law_parameters", loss_laws.parameters(loss.law, spec.model), "spec", f"model; N of {info.source}: {info.counts}")
    made.put("law_token_FLOP", loss_laws.token_FLOP(spec.model, spec.training.sequence_length), "spec", "model")
    made.put("vocabulary", spec.model.vocab, "spec", "model.vocab")
    for name in loss_laws.CONSTANTS.values():
        value = float(loss_laws.axes(info.law)[name][0]) if info.law is not None else 0.0
        made.put(name, value, "fitted", info.source if info.law is not None else f"no such constant: {info.source}")
    if not (spec.run and spec.run.data):
        made.put("unique_tokens", spec.training.tokens or 1.0, "assumed", "no run.data: no token is repeated")
        made.put("data_efficiency", 1.0, "assumed", "no run.data.efficiency")
    made.targets += ["run_compute_FLOP"]
    made.notes += _law_notes(spec, loss, info, made)
    if loss.law not in outcome.WITHOUT_LOSS:
        _penalty(spec, loss, steps, made)
        made.targets += ["final_loss"]
    else:
        for name in ("own_floor", "own_size_scale", "own_data_scale"):
            made.put(name, 0.0, "assumed", f"{loss.law} prints no loss")
    if loss.law in ADDITIVE:
        made.targets += ["effective_FLOP", "optimal_parameters", "optimal_tokens", "optimal_loss", "code_bits", "code_mean_loss"]
        made.targets += ["code_absorbed_bits", "code_end_loss"]
    elif loss.law == "llama3":
        made.targets += ["optimal_parameters", "optimal_tokens"]
    elif loss.law == "deepseek":
        made.targets += ["optimal_token_FLOP", "optimal_tokens"]
    if loss.reference is not None:
        _reference(loss, loss.reference, made)
    if loss.batch in ("told", "bounded"):
        made.put("batch_worth", 1.0, "assumed", f"run.loss.batch {loss.batch}: the waste of a large batch is not counted")
    elif loss.law not in outcome.WITHOUT_LOSS:
        made.targets.append("batch_worth")
    _batch(loss, steps, made)


def _law_notes(spec: schema.Spec, loss: outcome.Loss, info: loss_laws.LossLaw, made: Made) -> list[str]:
    notes = [f"loss law: {info.source}; N counts {info.counts}; fitted: {info.fitted}; {info.uncertainty}"]
    compute = 6.0 * made.leaves["law_parameters"].value * (spec.training.tokens or 0.0)
    if info.largest_FLOP is not None and compute > info.largest_FLOP:
        notes.append(f"loss extrapolated: {math.log10(compute / info.largest_FLOP):.1f} decades of compute beyond the law's runs")
    if spec.model.moe is not None:
        notes.append("no sourced law of loss for this mixture: N counts the parameters that one token uses (assumed)")
    return notes


def _penalty(spec: schema.Spec, loss: outcome.Loss, steps: Mapping[str, planner.Plan], made: Made) -> None:
    penalty = loss.low_precision_penalty
    given = spec.training.precision
    matmul = given if isinstance(given, str) else given.matmul
    if penalty is not None:
        made.put("low_precision_penalty", penalty.loss_increase, "spec", penalty.source)
    else:
        made.put("low_precision_penalty", 0.0, "assumed", "no run.loss.low_precision_penalty")
    if matmul in WIDE:
        return
    if penalty is None:
        made.notes.append(f"precision {matmul}: no loss penalty is given, none is counted; see the break-even")
    ratio = _wide_step_ratio(next(iter(steps.values())))
    if ratio is None:
        made.notes.append("no break-even of the low-precision recipe: the layout has no plan in bf16")
        return
    made.put("wide_step_ratio", ratio, "fitted", "step_s of the plan in bf16 over its own")
    made.targets.append("low_precision_break_even")


def _wide_step_ratio(plan: planner.Plan) -> float | None:
    """Step of the same layout in bf16 over the plan's; nothing where that cannot be planned."""
    data = {name: part for name, part in plan.resolved().items() if name not in ("run", "search")}
    data["training"] = {**data["training"], "precision": "bf16"}
    try:
        return planner.plan(data).step_s / plan.step_s
    except SpecError:
        return None


def _reference(loss: outcome.Loss, reference: outcome.Reference, made: Made) -> None:
    made.put("reference_parameters", reference.parameters, "spec", f"run.loss.reference: {reference.name}")
    made.put("reference_tokens", reference.tokens, "spec", f"run.loss.reference: {reference.name}")
    gain = math.prod(one.factor for one in loss.gains)
    sources = "; ".join(f"{one.name} {one.factor:g}: {one.source}" for one in loss.gains)
    made.put("recipe_gain", gain, "spec" if loss.gains else "assumed", sources or "no run.loss.gains: the same recipe")
    made.targets.append("compute_over_reference")
    if loss.law in ADDITIVE:
        made.targets += ["reference_loss", "effective_over_reference"]


def _batch(loss: outcome.Loss, steps: Mapping[str, planner.Plan], made: Made) -> None:
    if "exchange" not in made.structure:
        made.put("replicas_batch_factor", 1.0, "spec", "one site")
    done = 0.0
    for name in steps:
        done += made.leaves[f"phase_share[{name}]"].value
        made.put(f"phase_end_share[{name}]", min(done, 1.0), "spec", "run.phases")
        if loss.critical_batch is not None:
            made.put(f"critical_batch_tokens[{name}]", loss.critical_batch.tokens, "spec", loss.critical_batch.source)
    if loss.critical_batch is None and loss.law in outcome.WITHOUT_LOSS:
        made.notes.append(f"no critical batch: Kaplan's is of a loss, and {loss.law} prints none")
    else:
        made.targets += ["batch_over_critical", "batch_waste"]
        if loss.batch == "bounded":
            made.targets.append("within_critical_batch")
        if loss.critical_batch is None:
            made.targets.append("critical_batch_tokens")
    made.targets += ["step_law_batch_tokens", "deepseek_batch_tokens", "charles_batch_tokens"]


def _data(data: outcome.Data, loss: outcome.Loss | None, made: Made) -> None:
    made.put("unique_tokens", data.unique_tokens, "spec", "run.data.unique_tokens")
    efficiency = data.efficiency
    made.put("data_efficiency", efficiency.factor if efficiency else 1.0, "spec" if efficiency else "assumed",
             efficiency.source if efficiency else "no run.data.efficiency")
    made.targets += ["data_repeats", "next_token_worth"]
    if data.most_repeats is not None:
        made.put("most_repeats", data.most_repeats, "spec", "run.data.most_repeats")
        made.targets.append("allows_repeats")
    if loss is None:
        return
    if loss.law not in ("kaplan", "deepseek"):
        made.targets.append("optimum_epochs")
    if loss.law in ADDITIVE:
        made.targets.append("data_bound_FLOP")
        made.targets += ["compute_price", "unique_tokens_price", "data_efficiency_price"]
        if data.raw_B is not None:
            made.put("raw_B", data.raw_B, "spec", "run.data.raw_B")
            made.targets.append("compression_ratio")


def _served(serving: outcome.Serving, made: Made) -> None:
    assert serving.served_tokens is not None
    made.put("served_tokens", serving.served_tokens, "spec", "run.serving.served_tokens")
    cost = serving.cost_over_training
    made.put("served_flop_cost", cost or 1.0, "spec" if cost else "assumed",
             "run.serving.cost_over_training" if cost else "a served FLOP costs as much as a trained one")
    made.targets += [
        "lifetime_over_training", "serving_optimal_parameters", "serving_optimal_tokens", "serving_optimal_loss"
    ]


# ---------------------------------------------------------------------------------------------------- power and money


def _power(power: outcome.Power, steps: Mapping[str, planner.Plan], made: Made) -> None:
    _boards(steps, made)
    for name, draw in power_laws.BOARD_DRAW.items():
        made.put(f"{name}_draw", draw.share, "assumed" if name == "waiting" else "measured", draw.source)
    made.put("pue", power.pue, "spec", "run.power.pue")
    made.put("overhead_per_accelerator_W", power.overhead_per_accelerator_W, "spec", "run.power.overhead_per_accelerator_W")
    made.put("network_power_share", power.network_share, "spec", "run.power.network_share")
    made.targets += ["average_site_W", "training_site_W", "peak_site_W", "waiting_site_W", "power_swing_W", "run_energy_J"]
    if power.cap_W is not None:
        made.put("power_cap_W", power.cap_W, "spec", "run.power.cap_W")
        made.targets += ["accelerators_under_cap", "largest_site_peak_W", "fits_power_cap"]
    if power.kg_per_kWh is not None:
        made.put("grid_kg_per_kWh", power.kg_per_kWh, "spec", "run.power.kg_per_kWh")
        made.targets.append("run_carbon_kg")
    if power.price_per_kWh is not None:
        made.put("price_per_kWh", power.price_per_kWh, "spec", "run.power.price_per_kWh")
        made.targets.append("energy_cost")


def _boards(steps: Mapping[str, planner.Plan], made: Made) -> None:
    """Boards of every kind of site, and what their step is made of; sites of one entry of `sites` are of a kind."""
    own: Mapping[str, Steps] | None = made.structure.get("site_steps")
    phase_of, board_of = {}, {}
    kinds: dict[str, tuple[Mapping[str, planner.Plan], float, int]] = {"cluster": (steps, 1.0, 1)}
    if own is not None:
        sites = next(iter(own.values())).members
        total = sum(site.cluster.accelerators for site in sites)
        kinds = {}
        for entry in dict.fromkeys(site.entry for site in sites):
            of = [site for site in sites if site.entry == entry]
            one = {phase: found.plans[of[0].name] for phase, found in own.items()}
            kinds[of[0].name] = (one, sum(site.cluster.accelerators for site in of) / total, len(of))
    for board, (plans, share, count) in kinds.items():
        profile = next(iter(plans.values())).problem.profile
        limit = profile.accelerator.power_limit_W or profile.accelerator.tdp_W
        if limit is None:
            reason = f"{profile.name} has no rated power: give cluster.override accelerator.tdp_W"
            raise SpecError(f"run.power: {reason}", field="run.power")
        made.put(f"board_limit_W[{board}]", limit.value, limit.kind, f"{profile.name}: {limit.source}")
        made.put(f"board_share[{board}]", share, "spec", "accelerators of this kind of site over all")
        made.put(f"board_sites[{board}]", count, "spec", "sites of this kind")
        for phase, plan in plans.items():
            at = phase if own is None else f"{phase}/{board}"
            phase_of[at], board_of[at] = phase, board
            for part, value in _mix_s(plan).items():
                made.put(f"phase_{part}_s[{at}]", value, plan.footing[0], "parts of step_s of the plan")
    made.indexes |= {"board": tuple(kinds), "phase_board": tuple(phase_of)}
    made.structure |= {"phase_of_board": phase_of, "board_of_phase": board_of}


def _mix_s(plan: planner.Plan) -> dict[str, float]:
    """Seconds of a step by class of operator; what is in none of them waits. Recompute counts as what it repeats."""
    parts, recompute = plan.parts, plan.problem.structural()["recompute"]
    only_attention = recompute.granularity == "selective" and recompute.modules == frozenset({"core_attn"})
    matmul = sum(parts[name] for name in MATMUL) + (0.0 if only_attention else parts["recompute_total_s"])
    attention = parts["attention_total_s"] + (parts["recompute_total_s"] if only_attention else 0.0)
    return {"matmul": matmul, "attention": attention, "memory": sum(parts[name] for name in MEMORY)}


def _money(run: outcome.Outcome, made: Made) -> None:
    if run.price_per_hour is not None:
        made.put("price_per_hour", run.price_per_hour, "spec", "run.price_per_hour")
        made.targets.append("rental_cost")
        if getattr(run, "failures", None) is not None:
            made.targets.append("failure_cost")


def _calendar(run: outcome.Outcome, made: Made) -> None:
    made.targets.append("phase_end_wall_s")
    if run.deadline is not None and run.start is not None:
        made.put("deadline_s", seconds(run.start, run.deadline), "spec", "run.deadline")
        made.targets.append("meets_deadline_in_tranches" if run.tranches else "meets_deadline")
    if run.start is None or not run.tranches:
        return
    names = [tranche.date.isoformat() for tranche in run.tranches]
    made.indexes["tranche"] = tuple(names)
    for name, tranche in zip(names, run.tranches, strict=True):
        made.put(f"tranche_arrival_s[{name}]", max(seconds(run.start, tranche.date), 0.0), "spec", "run.tranches")
        made.put(f"tranche_accelerators[{name}]", tranche.accelerators, "spec", "run.tranches")
    made.targets += ["phase_end_calendar_s", "calendar_s", "tranche_delay_s"]
    spares = ", spares come with them in proportion" if getattr(run, "failures", None) else ""
    made.notes.append(f"tranches (assumed): throughput in proportion to what is there, taking it in costs no time{spares}")


def seconds(start: datetime.date, end: datetime.date) -> float:
    """From one day to another."""
    return (end - start).days * DAY_S


def _other(other: outcome.Other, made: Made) -> None:
    made.leaves.pop("other_share", None)  # a quantity of its own stands in its place
    made.put("evaluation_share", other.evaluation, "spec", "run.other.evaluation")
    made.put("post_training_share", other.post_training, "spec", "run.other.post_training")


def _launch(launch: outcome.Launch, run: outcome.Outcome, made: Made) -> None:
    made.put("launch_wait_s", 0.0, "spec", "launch now")
    made.put("launch_doubling_s", launch.improvement_doubling or math.inf, "spec", "run.launch.improvement_doubling")
    made.targets += ["launch_run_s", "launch_finish_s"]
    if run.deadline is not None and run.start is not None:
        made.targets.append("deadline_tokens")
    failures = getattr(run, "failures", None)
    if failures and failures.early_life and not launch.ages:
        made.notes.append("the hardware is as old after a wait as now: run.launch.ages says that it runs meanwhile")
    if run.tranches:
        made.notes.append("launch or wait is compared on the whole cluster, not on its tranches")
