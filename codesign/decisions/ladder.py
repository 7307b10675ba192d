"""The de-risking ladder: small runs that test what the plan is least sure of, their cost, and when to stop.

Loss rungs follow the run's own tokens a parameter at less compute; system rungs keep the layout of a replica and use fewer
of them. Thresholds come from the plan's intervals; a residual of the rungs that nobody has measured is not invented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from codesign import planner
from codesign.decisions import interval
from codesign.errors import SpecError
from codesign.laws import extrapolation, scaling
from codesign.outcome import loss_laws
from codesign.quantities.loss import ADDITIVE
from codesign.run import RunPlan, evaluate
from codesign.spec import outcome

RUNG_S = 3 * 86400.0  # a loss rung takes at most this long: the number of nodes follows (assumed)
SYSTEM_STEPS = 500  # steps of a system rung, enough for several checkpoints and stragglers (assumed)
SHRINK = (64, 8, 2)
ONE_SIDED = 1.2816  # standard deviations to the edge of a central 80 % interval


@dataclass(frozen=True)
class Uncertainty:
    """What the plan is not sure of: a factor either way, and which rungs narrow it."""

    what: str
    factor: float
    from_: str
    tested_by: str


@dataclass(frozen=True)
class LossRung:
    """A proxy of the loss: go while the measured loss lies between `low` and `high` (joint draws of the law)."""

    compute_FLOP: float
    parameters: float
    tokens: float
    loss: float
    low: float | None
    high: float | None
    accelerators: int
    run_s: float
    accelerator_hours: float
    cost: float | None


@dataclass(frozen=True)
class SystemRung:
    """A proxy of the step: the same replica, fewer of them. Go while the measured step is at most `high_s`."""

    accelerators: int
    nodes: int
    dp: int
    global_batch_sequences: int
    step_s: float
    low_s: float
    high_s: float
    full_over_this: float  # step at full scale over this one: what only full scale shows
    run_s: float
    accelerator_hours: float
    cost: float | None


@dataclass(frozen=True)
class Extrapolation:
    """What the loss rungs say of the run, all but the asymptote fitted (EQ-93): a lower bound of the error.

    `amplification`: sd of ln(L - E) at the run over the sd of the rungs' residuals. `break_even_sd`: residuals above it
    cannot tell the plan from a run worth half its effective compute, at 80 %. `no_go_loss`: where the line through the
    rungs then ends at full compute; what the batch, sites and repeats of the full run cost is on no rung.
    """

    decades: float
    amplification: float
    break_even_sd: float
    no_go_loss: float
    residual_sd: float | None
    loss_sd: float | None
    compute_factor: float | None


@dataclass(frozen=True)
class Ladder:
    uncertainties: tuple[Uncertainty, ...]
    loss_rungs: tuple[LossRung, ...]
    system_rungs: tuple[SystemRung, ...]
    extrapolation: Extrapolation | None
    accelerator_hours: float
    share_of_run: float
    cost: float | None
    go: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def ladder(run: RunPlan) -> Ladder:
    """Proxy runs of this plan with cost, expected extrapolation error and thresholds, as `run.ladder` says.

    Without `run.ladder` its defaults hold; without a law of loss there are system rungs only.
    """
    section = (run.spec.run.ladder if run.spec.run else None) or outcome.Ladder()
    price = run.spec.run.price_per_hour if run.spec.run else None
    name, plan = _longest(run)
    systems, notes = _system_rungs(run, name, plan, price)
    losses: list[LossRung] = []
    beyond = None
    if interval.law_of(run) in ADDITIVE:
        losses = _loss_rungs(run, plan, section, price)
        beyond = _extrapolation(run, section, losses)
    else:
        notes.append("no rungs of loss: no law with an L(N, D) is named in run.loss")
    hours = sum(rung.accelerator_hours for rung in losses) + sum(rung.accelerator_hours for rung in systems)
    return Ladder(
        tuple(_uncertainties(run, plan, beyond)), tuple(losses), tuple(systems), beyond, hours,
        hours / run.value("run_accelerator_hours"), None if price is None else hours * price,
        tuple(_go(losses, systems, beyond)), tuple(notes),
    )


def _longest(run: RunPlan) -> tuple[str, planner.Plan]:
    """The phase that takes most of the time."""
    name = max(run.steps, key=lambda one: run.value(f"phase_steps[{one}]") * run.value(f"phase_run_step_s[{one}]"))
    return name, run.steps[name]


def _node(plan: planner.Plan) -> int:
    return max(1, round(plan.problem.profile.node.accelerators_per_node.value))


# ---------------------------------------------------------------------------------------------------- loss


def _loss_rungs(run: RunPlan, plan: planner.Plan, section: outcome.Ladder, price: float | None) -> list[LossRung]:
    """Rungs at the run's tokens a parameter; time at the plan's own utilisation (assumed), on the fewest nodes that do."""
    shares = np.geomspace(section.smallest, section.largest, section.rungs)
    parameters = run.value("law_parameters") * np.sqrt(shares)
    tokens = run.value("run_tokens") * np.sqrt(shares)
    axes = {"law_parameters": parameters, "run_tokens": tokens}
    predicted = _line_loss(run, axes)
    low, high = _bands(run, parameters, tokens)
    rate, node, most = plan.value("model_FLOPps"), _node(plan), plan.problem.spec.cluster.accelerators
    rungs = []
    for at, share in enumerate(shares):
        compute = run.value("run_compute_FLOP") * float(share)
        nodes = 2 ** max(0, math.ceil(math.log2(max(compute / (rate * RUNG_S * node), 1.0))))
        accelerators = min(nodes * node, most)
        run_s = compute / (rate * accelerators)
        hours = accelerators * run_s / 3600.0
        rungs.append(LossRung(
            compute, float(parameters[at]), float(tokens[at]), float(predicted[at]), low[at], high[at], accelerators, run_s,
            hours, None if price is None else hours * price,
        ))  # fmt: skip
    return rungs


def _line_loss(run: RunPlan, axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Loss of runs on the line of the ladder: in the precision of the plan, at one site, with a batch that wastes nothing."""
    least = {f"phase_step_tokens[{name}]": np.ones(1) for name in run.steps}
    values = evaluate(run.inputs, {**least, **axes}, ["law_loss", "precision_loss"])
    return values[("law_loss", None)] + values[("precision_loss", None)]


def _bands(run: RunPlan, parameters: np.ndarray, tokens: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """80 % of the joint draws at each rung; none where the law has no joint uncertainty."""
    low: list[float | None] = []
    high: list[float | None] = []
    if not loss_laws.LAWS[str(interval.law_of(run))].joint:
        return [None] * len(tokens), [None] * len(tokens)
    law = scaling.draw_parameters(np.random.default_rng(interval.SEED), interval.DRAWS)
    for size, amount in zip(parameters, tokens, strict=True):
        axes = {**loss_laws.axes(law), "law_parameters": np.array([size]), "run_tokens": np.array([amount])}
        edges = np.quantile(_line_loss(run, axes), [0.1, 0.9])
        low.append(float(edges[0]))
        high.append(float(edges[1]))
    return low, high


def _extrapolation(run: RunPlan, section: outcome.Ladder, rungs: list[LossRung]) -> Extrapolation:
    x = np.log(np.array([rung.compute_FLOP for rung in rungs]))
    target = np.log(np.array([run.value("run_compute_FLOP")]))
    amplification = float(extrapolation.prediction_sd(x, np.ones(1), target)[0])
    law = scaling.Law(*(np.array([run.value(leaf)]) for leaf in loss_laws.CONSTANTS.values()))
    gamma = float(scaling.compute_exponent(law)[0])
    floor, loss = float(law.E[0]), run.value("final_loss")
    line = float(_line_loss(run, {})[0])
    residual = section.residual.sd if section.residual else None
    sd = None if residual is None else residual * amplification
    return Extrapolation(
        float(extrapolation.decades_beyond(np.array([rungs[-1].compute_FLOP]), np.exp(target))[0]),
        amplification,
        gamma * math.log(2.0) / (ONE_SIDED * amplification),
        floor + (line - floor) * 2.0**gamma,
        residual,
        None if sd is None else (loss - floor) * sd,
        None if sd is None else math.exp(sd / gamma),
    )


# ---------------------------------------------------------------------------------------------------- the step


def _system_rungs(
    run: RunPlan, name: str, plan: planner.Plan, price: float | None
) -> tuple[list[SystemRung], list[str]]:
    layout, whole = plan.problem.spec.layout, plan.problem.spec.cluster.accelerators
    assert layout.dp is not None
    rungs: list[SystemRung] = []
    notes = []
    whole_s = run.value(f"phase_run_step_s[{name}]")
    for shrink in SHRINK:
        dp = max((d for d in range(1, layout.dp) if layout.dp % d == 0 and d * shrink <= layout.dp), default=0)
        if not dp or any(rung.dp == dp for rung in rungs):
            continue
        accelerators = whole * dp // layout.dp
        if whole * dp % layout.dp:
            continue
        try:
            small = _shrunk(plan, dp, accelerators)
        except SpecError as error:
            notes.append(f"no rung with {dp} of {layout.dp} replicas: {error.message}")
            continue
        if not small.feasible:
            notes.append(f"no rung with {dp} of {layout.dp} replicas: {small.violations[0]}")
            continue
        run_s = SYSTEM_STEPS * small.step_s
        hours = accelerators * run_s / 3600.0
        band = small.step_interval
        rungs.append(SystemRung(
            accelerators, math.ceil(accelerators / _node(plan)), dp, small.problem.spec.training.global_batch_sequences,
            small.step_s, band.low, band.high, whole_s / small.step_s, run_s, hours,
            None if price is None else hours * price,
        ))  # fmt: skip
    if not rungs and not notes:
        notes.append("no system rungs: the layout has one replica")
    if run.has_sites and whole_s > plan.step_s:
        notes.append(f"system rungs run in one site: what the others add, {whole_s - plan.step_s:.3g} s a step, none tests")
    return rungs, [*notes, f"system rungs are of phase {name!r}, the longest"] if len(run.steps) > 1 else notes


def _shrunk(plan: planner.Plan, dp: int, accelerators: int) -> planner.Plan:
    """The plan with fewer replicas, each with the work that it had."""
    data = {name: part for name, part in plan.resolved().items() if name not in ("run", "search")}
    batch = plan.problem.spec.training.global_batch_sequences
    assert plan.problem.spec.layout.dp is not None
    data["layout"] = {**data["layout"], "dp": dp}
    data["cluster"] = {**data["cluster"], "accelerators": accelerators}
    data["training"] = {**data["training"], "global_batch_sequences": batch * dp // plan.problem.spec.layout.dp}
    return planner.plan(data)


# ---------------------------------------------------------------------------------------------------- verdicts


def _uncertainties(run: RunPlan, plan: planner.Plan, beyond: Extrapolation | None) -> list[Uncertainty]:
    """Factors either way, the largest first: half-widths of the plan's 80 % intervals."""
    found = []
    for what, band in (("step time", plan.step_interval), ("memory", plan.memory_interval)):
        if np.isfinite(band.low) and band.low > 0:
            found.append(Uncertainty(what, math.sqrt(band.high / band.low), f"residuals of measured runs, {band.cell}", "system"))
    if beyond is not None:
        spread = interval.spread(run, "effective_FLOP")
        if spread is not None:
            text = f"joint draws of the law's constants, {beyond.decades:.1f} decades beyond the last rung"
            found.append(Uncertainty("effective compute", math.sqrt(spread.high / spread.low), text, "loss"))
    return sorted(found, key=lambda one: -one.factor)


def _go(losses: list[LossRung], systems: list[SystemRung], beyond: Extrapolation | None) -> list[str]:
    said = []
    for system in systems:
        if np.isfinite(system.high_s):
            said.append(
                f"{system.accelerators:,} accelerators: go if a step takes at most {system.high_s:.3g} s "
                f"(predicted {system.step_s:.3g} s); above it, stop and find which part of the step is longer"
            )
    for rung in losses:
        if rung.high is not None:
            said.append(f"{rung.compute_FLOP:.2g} FLOP: go if the loss is at most {rung.high:.3f} (predicted {rung.loss:.3f})")
    if beyond is not None:
        said.append(
            f"all rungs together: no-go if the line through them reaches {beyond.no_go_loss:.4f} or more at full compute, "
            "where the run is worth half its effective compute"
        )
    return said


__all__ = ["Extrapolation", "Ladder", "LossRung", "SystemRung", "Uncertainty", "ladder"]
