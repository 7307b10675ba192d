"""What a run gives and costs: sections of `run:` for loss, data, phases, power, money, calendar, launch, serving, ladder.

A section that is left out is not planned. Nothing here has a default price, rate or intensity: what is not given is null.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from codesign.spec.fields import Bytes, Count, Date, InDays, Section, Share, Tokens, Watts, whole
from codesign.spec.sites import members

if TYPE_CHECKING:
    from codesign.spec.schema import Spec

LossLaw = Literal["besiroglu", "hoffmann", "hoffmann-rounded", "muennighoff", "kaplan", "deepseek", "llama3"]
WITHOUT_LOSS = ("deepseek", "llama3")  # laws of the optimum: they print no loss
_NO_OPTIMUM = (*WITHOUT_LOSS, "kaplan")  # laws without an L(N, D) that has an optimum
Source = Annotated[str, Field(min_length=1)]
Factor = Annotated[float, Field(strict=True, gt=0, le=1e6)]
Money = Annotated[float, Field(strict=True, gt=0, le=1e6)]
DATA_OF = datetime.date(2026, 11, 1)  # month of the shipped hardware profiles: whoever runs this version, runs it later
_ENOUGH = 1e-3  # tokens of phases that add up to training.tokens within this are not contradictory: numbers are rounded


# ---------------------------------------------------------------------------------------------------- loss


class Reference(Section):
    """A finished run to compare with: parameters as the law counts them, and tokens."""

    name: str = "the reference run"
    parameters: Annotated[float, Field(strict=True, gt=0, le=1e18)]
    tokens: Tokens


class Gain(Section):
    """What multiplies the compute of the reference's recipe for the same loss: a better optimizer, better data, ..."""

    name: str
    factor: Factor
    source: Source


class Penalty(Section):
    """Relative increase of the loss that a recipe costs, and who says so."""

    loss_increase: Annotated[float, Field(strict=True, ge=0, lt=1)]
    source: Source


class CriticalBatch(Section):
    """A critical batch in tokens that was measured or fitted elsewhere, in place of Kaplan's."""

    tokens: Tokens
    source: Source


class Loss(Section):
    """The scaling law that speaks for this run. Only `besiroglu` has constants that can be drawn jointly.

    `batch`: the tokens that a global batch above the critical one wastes are counted (null, the default): taken off those
    that the law sees; told: shown only; bounded: such a batch is no plan.
    """

    law: LossLaw = "besiroglu"
    reference: Reference | None = None
    gains: tuple[Gain, ...] = ()
    low_precision_penalty: Penalty | None = None
    critical_batch: CriticalBatch | None = None
    batch: Literal["told", "bounded", "counted"] | None = None  # null: counted


class DataEfficiency(Section):
    """What one token is worth in tokens of the law's data."""

    factor: Factor
    source: Source


class Data(Section):
    """The training data. `most_repeats`: passes after the first that are allowed; `raw_B`: size of the unique data."""

    unique_tokens: Tokens
    most_repeats: Annotated[float, Field(strict=True, ge=0, le=1e6)] | None = None
    raw_B: Bytes | None = None
    efficiency: DataEfficiency | None = None


# ---------------------------------------------------------------------------------------------------- phases


def _change(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("a number, true or false, or a name is wanted under a field of the layout")
    return value


class Phase(Section):
    """A stretch of the run with its own step: `tokens` or a `share` of them; one phase may have neither: it takes the rest.

    `layout`: fields of the layout that this phase changes. What follows from them (dp, schedule) is derived again.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$", max_length=24)]
    tokens: Tokens | None = None
    share: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    sequence_length: Annotated[int, Field(strict=True, ge=1, le=10**8), BeforeValidator(whole)] | None = None
    global_batch_sequences: Count | None = None
    layout: dict[str, Annotated[bool | int | float | str, BeforeValidator(_change)]] = Field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------- power, money, dates


class Power(Section):
    """Power of the site beyond the boards of the accelerators. `network_share`: over that of boards and hosts."""

    pue: Annotated[float, Field(strict=True, ge=1, le=5)]
    overhead_per_accelerator_W: Watts  # host, fans, NICs: what a node draws beside its boards, over its accelerators
    network_share: Share = 0.0
    cap_W: Watts | None = None
    kg_per_kWh: Annotated[float, Field(strict=True, ge=0, le=10)] | None = None
    price_per_kWh: Money | None = None


class Tranche(Section):
    """Accelerators that are there from a date on."""

    date: Date
    accelerators: Count


class Other(Section):
    """Shares of the cluster's time that others use while the run lasts."""

    evaluation: Share = 0.0
    post_training: Share = 0.0


class Launch(Section):
    """Launch now or wait: what a delay of up to `horizon` improves.

    `improvement_doubling`: time in which the tokens a second of this cluster double (software, recipes). With `ages` the
    parts run meanwhile: a later launch has older hardware, with fewer of the failures of `run.failures.early_life`.
    """

    horizon: InDays
    improvement_doubling: InDays | None = None
    ages: Annotated[bool, Field(strict=True)] = False


class Serving(Section):
    """The trained shape, served: one copy on `accelerators` of a profile (null: the smallest power of two that holds it).

    All of them work on every token, by tensor parallelism. `experts`: split over them like the rest, or held whole by one
    each, with an all-to-all to them and back.
    """

    profile: str
    accelerators: Count | None = None
    prompt_tokens: Count
    output_tokens: Count
    precision: Literal["bf16", "fp8"] = "bf16"
    kv_precision: Literal["bf16", "fp8"] = "bf16"
    batch: Count | None = None  # null: the knee, or what memory holds
    experts: Literal["split", "whole"] | None = None  # of a mixture; null: split
    price_per_hour: Money | None = None
    served_tokens: Tokens | None = None  # over the life of the model: the inference-aware shape
    cost_over_training: Factor | None = None  # a served FLOP over a trained one; null: 1


class Residual(Section):
    """Standard deviation of ln(L - E) of small runs around their line, as seen elsewhere."""

    sd: Annotated[float, Field(strict=True, gt=0, le=1)]
    source: Source


class Ladder(Section):
    """Proxy runs: `rungs` from `smallest` to `largest` of the compute, geometrically."""

    rungs: Annotated[int, Field(strict=True, ge=3, le=12), BeforeValidator(whole)] = 5
    smallest: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1e-5
    largest: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1e-2
    residual: Residual | None = None


class Outcome(Section):
    """Fields of `run:` that say what the run gives and costs."""

    loss: Loss | None = None
    data: Data | None = None
    phases: tuple[Phase, ...] = ()
    power: Power | None = None
    price_per_hour: Money | None = None  # of one accelerator
    start: Date | None = None
    # the day on which the plan is made: nothing is planned before it; null: the month of the shipped data
    today: Date | None = None
    deadline: Date | None = None
    tranches: tuple[Tranche, ...] = ()
    other: Other | None = None
    launch: Launch | None = None
    serving: Serving | None = None
    ladder: Ladder | None = None


# ---------------------------------------------------------------------------------------------------- conflicts


def step_tokens(spec: Spec, phase: Phase | None = None) -> int:
    """Tokens of one optimizer step, of a phase or of the whole run."""
    length = (phase and phase.sequence_length) or spec.training.sequence_length
    return length * ((phase and phase.global_batch_sequences) or spec.training.global_batch_sequences)


def phase_tokens(tokens: float, phases: tuple[Phase, ...]) -> list[float]:
    """Tokens of each phase; the one that says nothing takes what the others leave."""
    given = [phase.tokens if phase.tokens is not None else (phase.share or 0.0) * tokens for phase in phases]
    rest = tokens - sum(given)
    return [rest if _open(phase) else amount for phase, amount in zip(phases, given, strict=True)]


def _open(phase: Phase) -> bool:
    return phase.tokens is None and phase.share is None


def conflicts(spec: Spec) -> Iterator[tuple[str, str]]:
    """What the sections contradict, in each other and in the rest of the spec: field and message."""
    run: Any = spec.run
    if run is None:
        return
    yield from _run_tokens(spec, run)
    yield from _loss_conflicts(spec, run)
    yield from _phase_conflicts(spec, run)
    yield from _date_conflicts(spec, run)
    yield from _tranche_conflicts(spec, run)
    yield from _other_conflicts(spec, run)


def _run_tokens(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    tokens, batch = spec.training.tokens, max(step_tokens(spec, phase) for phase in run.phases or (None,))
    if tokens is not None and not run.phases and tokens < batch:
        yield "training.tokens", f"training.tokens {tokens:g} is less than one step of {batch:g} tokens: no step would be run"
    data = run.data
    if data is None:
        return
    if data.unique_tokens < batch:
        name = "run.data.unique_tokens"
        yield name, f"{name} {data.unique_tokens:g} is less than one batch of {batch:g} tokens: a step would repeat its own data"
    if data.raw_B is not None and run.loss is None:
        yield "run.data.raw_B", "run.data.raw_B has no effect without run.loss: the code length is of a loss curve"
    if data.efficiency is not None and run.loss is None:
        yield "run.data.efficiency", "run.data.efficiency has no effect without run.loss"


def _loss_conflicts(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    loss = run.loss
    if loss is None:
        return
    given = spec.training.precision
    matmul = given if isinstance(given, str) else given.matmul
    penalty = loss.low_precision_penalty
    if penalty is not None and matmul in ("fp32", "bf16", "fp16"):
        name = "run.loss.low_precision_penalty"
        yield name, f"{name} has no effect: training.precision is {matmul}"
    if loss.law in WITHOUT_LOSS:
        if penalty is not None:
            name = "run.loss.low_precision_penalty"
            yield name, f"{name} has no effect: {loss.law} prints an optimum, no loss"
        if run.data is not None and run.data.efficiency is not None:
            name = "run.data.efficiency"
            yield name, f"{name} has no effect: {loss.law} prints an optimum, no loss that better data would lower"
        if loss.batch == "counted" or (loss.batch == "bounded" and loss.critical_batch is None):
            name = "run.loss.batch"
            why = "loss to count it in" if loss.batch == "counted" else "critical batch: give run.loss.critical_batch"
            yield name, f"{name} {loss.batch} has no effect: {loss.law} prints no {why}"
    if loss.law in _NO_OPTIMUM:
        prints = "an optimum, no loss" if loss.law in WITHOUT_LOSS else "two limits, no L(N, D)"
        if run.data is not None and run.data.raw_B is not None:
            yield "run.data.raw_B", f"run.data.raw_B has no effect: {loss.law} prints {prints}: no code length"
        if run.ladder is not None:
            yield "run.ladder", f"run.ladder needs a law with an L(N, D), and {loss.law} prints {prints}: write besiroglu"
    if loss.gains and loss.reference is None:
        yield "run.loss.gains", "run.loss.gains has no effect without run.loss.reference: a gain is over another recipe"
    elif loss.gains and loss.law in _NO_OPTIMUM:
        why = f"{loss.law} compares no effective compute with the reference: write besiroglu, or leave the gains out"
        yield "run.loss.gains", f"run.loss.gains has no effect: {why}"


def _phase_conflicts(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    phases, tokens = run.phases, spec.training.tokens
    names = [phase.name for phase in phases]
    for at, phase in enumerate(phases):
        where = f"run.phases.{at}"
        if phase.name in names[:at]:
            yield f"{where}.name", f"two phases are called {phase.name!r}: give each its own name"
        if phase.tokens is not None and phase.share is not None:
            yield f"{where}.share", f"phase {phase.name!r} has tokens and a share of them: keep one"
    left_open = [at for at, phase in enumerate(phases) if _open(phase)]
    for at in left_open[1:]:
        first = phases[left_open[0]].name
        reason = f"and {first!r} takes the rest already"
        yield f"run.phases.{at}", f"phase {phases[at].name!r} has neither tokens nor a share, {reason}"
    if tokens is None or not phases:
        return
    given = sum(phase.tokens if phase.tokens is not None else (phase.share or 0.0) * tokens for phase in phases)
    if left_open and given >= tokens:
        at = left_open[0]
        reason = f"nothing is left for it: the others add up to {given:g} of training.tokens {tokens:g}"
        yield f"run.phases.{at}", f"phase {phases[at].name!r} has neither tokens nor a share, and {reason}"
    elif not left_open and abs(given - tokens) > _ENOUGH * tokens:
        yield "run.phases", f"the phases add up to {given:g} tokens, and training.tokens is {tokens:g}: leave one phase open"
    else:
        for at, (phase, amount) in enumerate(zip(phases, phase_tokens(tokens, phases), strict=True)):
            if amount < step_tokens(spec, phase):
                reason = f"{amount:g} tokens are less than one step of {step_tokens(spec, phase):g}"
                yield f"run.phases.{at}", f"phase {phase.name!r}: {reason}"


def _date_conflicts(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    if run.start is None:
        for name in ("tranches", "deadline", "today"):
            if getattr(run, name):
                yield f"run.{name}", f"run.{name} needs run.start: a plan reads no clock"
        return
    if run.today is not None and run.start < run.today:
        yield "run.start", f"run.start {run.start} lies in the past: run.today is {run.today}"
    elif run.today is None and run.start < DATA_OF:
        since = f"the data of this version are of {DATA_OF:%B %Y}, and a plan reads no clock"
        yield "run.start", f"run.start {run.start} lies in the past: {since}; to plan as of an earlier day write run.today"
    if run.deadline is not None and run.deadline <= run.start:
        yield "run.deadline", f"run.deadline {run.deadline} is not after run.start {run.start}"


def _tranche_conflicts(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    tranches = run.tranches
    if not tranches or run.start is None:
        return
    for at in range(1, len(tranches)):
        if tranches[at].date <= tranches[at - 1].date:
            reason = f"{tranches[at].date} is not after {tranches[at - 1].date} of the tranche before it"
            yield f"run.tranches.{at}.date", f"run.tranches: {reason}: write them in the order of arrival"
    if tranches[0].date > run.start:
        yield "run.start", f"run.start {run.start} is before the first accelerators arrive, {tranches[0].date}"
    total, whole = sum(tranche.accelerators for tranche in tranches), spec.cluster.accelerators
    where = "cluster.accelerators is"
    if spec.sites:
        whole, where = sum(member.cluster.accelerators for member in members(spec)), "the sites together have"
    if total != whole:
        reason = f"bring {total:,} accelerators, and {where} {whole:,}"
        yield "run.tranches", f"run.tranches {reason}: the plan is for all of them, spares not counted"


def _other_conflicts(spec: Spec, run: Outcome) -> Iterator[tuple[str, str]]:
    other, launch = run.other, run.launch
    if other is not None and other.evaluation + other.post_training >= 1.0:
        taken = f"{other.evaluation:g} + {other.post_training:g}"
        yield "run.other", f"run.other: evaluation and post-training take {taken} of the cluster: nothing is left to train"
    if launch is not None:
        if launch.horizon == 0:
            yield "run.launch.horizon", "run.launch.horizon is 0: there is no wait to compare with"
        if launch.improvement_doubling is None and not launch.ages:
            yield "run.launch", "run.launch says nothing that waiting improves: give improvement_doubling or ages"
        failures = getattr(run, "failures", None)
        if launch.ages and (failures is None or failures.early_life is None):
            name = "run.launch.ages"
            yield name, f"{name} has no effect without run.failures.early_life: no rate falls with age"
        if launch.improvement_doubling == 0:
            yield "run.launch.improvement_doubling", "run.launch.improvement_doubling must be above 0"
        elif launch.improvement_doubling is not None and launch.horizon > 100 * launch.improvement_doubling:
            doublings = f"{launch.horizon / launch.improvement_doubling:.0f} doublings of the speed"
            yield "run.launch.horizon", f"run.launch.horizon is {doublings}: no rate of improvement holds as long"
    ladder = run.ladder
    if ladder is not None and ladder.smallest >= ladder.largest:
        yield "run.ladder.smallest", f"run.ladder.smallest {ladder.smallest:g} is not below run.ladder.largest {ladder.largest:g}"
    if ladder is not None and run.loss is None:
        yield "run.ladder", "run.ladder needs run.loss: a ladder extrapolates a law"
    serving = run.serving
    if serving is not None and serving.experts is not None and spec.model.moe is None:
        yield "run.serving.experts", "run.serving.experts has no effect: the model has no experts"
    if serving is not None and serving.cost_over_training is not None and serving.served_tokens is None:
        name = "run.serving.cost_over_training"
        yield name, f"{name} has no effect without run.serving.served_tokens"
    if serving is not None and serving.served_tokens is not None and (run.loss is None or run.loss.law in _NO_OPTIMUM):
        name = "run.serving.served_tokens"
        yield name, f"{name} needs run.loss with a law of N and D (besiroglu, hoffmann): which shape to serve is a matter of loss"
