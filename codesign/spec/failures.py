"""Sections of `run:` about failures: what breaks and how often, what a checkpoint costs, what is done after a failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from codesign import units
from codesign.spec import failure_rates
from codesign.spec.fields import BytesPerS, Duration, InDays, InHours, InMinutes, MeanTime, Section, Share, Whole, whole

if TYPE_CHECKING:
    from codesign.spec.schema import Spec

Component = Literal["accelerator", "host", "nic", "link", "switch", "software", "site"]
Level = Literal["accelerator", "node", "rack", "leaf", "pod", "site"]
Policy = Literal["restart", "hot-spares", "elastic", "degraded"]
COMPONENTS: tuple[str, ...] = ("accelerator", "host", "nic", "link", "switch", "software", "site")
LEVELS: tuple[str, ...] = ("accelerator", "node", "rack", "leaf", "pod", "site")
POLICIES: tuple[str, ...] = ("restart", "hot-spares", "elastic", "degraded")


def _interval(value: object) -> object:
    if value == "auto":
        return value
    number = units.parse(value, "s", bare=False, like="15 min")
    if number <= 0:
        raise ValueError(f"{value!r} is not above 0")
    return number


Interval = Annotated[
    float | Literal["auto"],
    BeforeValidator(_interval),
    WithJsonSchema({"type": "string", "description": "auto, or seconds, for example '15 min'"}),
]
Slowdown = Annotated[float, Field(strict=True, ge=1, le=100)]


class MeanTimes(Section):
    """Mean time between failures of one unit, in place of the set's. Software: of the part of it on one accelerator."""

    accelerator: MeanTime | None = None
    host: MeanTime | None = None
    nic: MeanTime | None = None  # one an accelerator
    link: MeanTime | None = None  # one cable
    switch: MeanTime | None = None
    software: MeanTime | None = None
    site: MeanTime | None = None  # power, cooling, the whole network


class TakesDown(Section):
    """What is lost with a part until it is repaired. rack: a scale-up domain; leaf: what hangs on one leaf switch."""

    accelerator: Level = "node"
    host: Level = "node"
    nic: Level = "node"
    link: Level = "node"
    switch: Level = "leaf"


class EarlyLife(Section):
    """New accelerators that fail of early causes, over and above the settled rate."""

    failed_share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.1  # that fail of early causes, sooner or later
    settling: Duration  # time in which the early hazard falls to 1/e
    age: InDays = 0.0  # of the parts when the run begins (burn-in)
    replaced_share: Share = 1.0  # of the failed accelerators that are replaced by new ones


class Recovery(Section):
    """How long each step after a failure takes. null: a reported time."""

    detect: InMinutes | None = None  # until the failure is noticed and located
    reschedule: InMinutes | None = None  # until the scheduler has placed the whole job anew (restart)
    swap: InMinutes | None = None  # until a hot spare stands in for a node
    reconfigure: InMinutes | None = None  # until the other replicas go on without the lost ones (elastic)
    restart: InMinutes | None = None  # processes and communicators, before state is read
    repair: Duration | None = None  # until a node is back
    site_outage: Duration | None = None  # until a site is back


class Corruption(Section):
    """Silent data corruption: it is rolled back to before it happened."""

    mtbf: MeanTime | None = None  # of one accelerator; null: the set's
    detect: InHours  # from the corruption to its detection


class SlowNodes(Section):
    """Persistently slow nodes; one of them slows every step."""

    share: Share
    slowdown: Slowdown  # step time on a slow node over that on a sound one


class Stragglers(Section):
    """What slow ranks add to a synchronous step, over and above the plan's step."""

    # standard deviation over mean of one rank's time between two synchronisations
    variation: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    slow_nodes: SlowNodes | None = None


class Failures(Section):
    """What fails and how often. `rates`: a set of codesign/spec/data/failure_rates.yaml, or none."""

    rates: str = "pooled"
    mtbf: MeanTimes = MeanTimes()
    takes_down: TakesDown = TakesDown()
    switch_ports: Annotated[int, Field(strict=True, ge=2, le=4096), BeforeValidator(whole)] = 64
    early_life: EarlyLife | None = None
    recovery: Recovery = Recovery()
    corruption: Corruption | None = None
    stragglers: Stragglers | None = None


class Checkpoint(Section):
    """Where checkpoints go. memory: also to the memory of the own host; peer: also to that of other nodes."""

    storage_Bps: BytesPerS  # of the whole job, writing
    read_Bps: BytesPerS | None = None  # of the whole job; default storage_Bps
    kind: Literal["synchronous", "asynchronous", "memory", "peer"] = "asynchronous"
    interval: Interval = "auto"  # compute between two checkpoints in storage
    slowdown: Share | None = None  # share of the compute that is lost while a checkpoint is written beside it
    # peer only
    copies: Annotated[int, Field(strict=True, ge=2, le=16), BeforeValidator(whole)] | None = None
    apart: Literal["node", "rack", "pod"] | None = None  # the copies are in different ones


class Spares(Section):
    """Hot spare nodes beside those of the layout: a count, or enough at a random instant with this probability."""

    count: Whole | None = None
    quantile: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None


def conflicts(spec: Spec) -> Iterator[tuple[str, str]]:
    """What no single field can tell."""
    run = spec.run
    if run is None:
        return
    failures, checkpoint, spares = run.failures, run.checkpoint, run.spares
    if failures is None:
        for name in ("checkpoint", "spares", "policy"):
            if getattr(run, name) is not None:
                why = "nothing fails: write run.failures, as in `failures: {rates: pooled}`"
                yield f"run.{name}", f"run.{name} has no effect without run.failures: {why}"
        return
    if checkpoint is None:
        why = "what a checkpoint costs needs its storage_Bps, as in `checkpoint: {storage_Bps: 1 TB/s}`"
        yield "run.failures", f"'checkpoint' is missing in run: {why}"
    yield from _rate_conflicts(failures)
    if checkpoint is not None:
        yield from _checkpoint_conflicts(checkpoint)
    if spares is not None:
        if spares.count is not None and spares.quantile is not None:
            yield "run.spares.quantile", "run.spares.count and run.spares.quantile are both given: keep one of them"
        if spares.count is None and spares.quantile is None:
            yield "run.spares", "run.spares needs a count of nodes or a quantile, as in `spares: {quantile: 0.99}`"


def _rate_conflicts(failures: Failures) -> Iterator[tuple[str, str]]:
    known = failure_rates.names()
    if failures.rates not in known:
        yield "run.failures.rates", f"run.failures.rates must be one of {', '.join(known)}, not {failures.rates!r}"
    if failures.mtbf.site is not None and failures.recovery.site_outage is None:
        what = "how long a site is away has no published figure: write run.failures.recovery.site_outage"
        yield "run.failures.mtbf.site", f"run.failures.mtbf.site: {what}"
    if failures.recovery.site_outage is not None and failures.mtbf.site is None:
        name = "run.failures.recovery.site_outage"
        yield name, f"{name} has no effect without run.failures.mtbf.site: no set has a rate of sites"
    if failures.rates == "none" and not failures.mtbf.model_fields_set:
        how = "write the mean times that you know, as in `mtbf: {accelerator: 5 y}`, or leave run.failures out"
        yield "run.failures.rates", f"run.failures.rates none leaves nothing that fails: {how}"
    corruption = failures.corruption
    if failures.rates == "none" and corruption is not None and corruption.mtbf is None:
        name = "run.failures.corruption.detect"
        yield name, f"{name} has no effect: rates none has no corruption; write run.failures.corruption.mtbf"
    if failures.early_life is not None and failures.rates == "none" and failures.mtbf.accelerator is None:
        name = "run.failures.early_life"
        yield name, f"{name} needs a rate of accelerators: write run.failures.mtbf.accelerator"
    stragglers = failures.stragglers
    if stragglers is not None and not stragglers.variation and stragglers.slow_nodes is None:
        yield "run.failures.stragglers", "run.failures.stragglers has no effect: write variation, or slow_nodes"


def _checkpoint_conflicts(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    if checkpoint.slowdown is not None and checkpoint.kind == "synchronous":
        name = "run.checkpoint.slowdown"
        yield name, f"{name} has no effect with kind synchronous: nothing runs beside the write"
    for name in ("copies", "apart"):
        if getattr(checkpoint, name) is not None and checkpoint.kind != "peer":
            field = f"run.checkpoint.{name}"
            yield field, f"{field} has no effect with kind {checkpoint.kind}: only peer has copies"


__all__ = [
    "COMPONENTS", "LEVELS", "POLICIES", "Checkpoint", "Component", "Failures", "Level", "Policy", "Spares", "conflicts",
]
