"""The step of every site: the batch split in whole micro-batches so that all sites finish together, a plan for each.

A pipeline across sites has no such split: it is one plan over all accelerators, its stages in the order of the sites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from codesign import planner
from codesign.errors import SpecError
from codesign.laws import multisite
from codesign.laws import pipeline as pipelines
from codesign.spec import profiles, resolve, schema
from codesign.spec.sites import Member, members, sync_of

Array = NDArray[np.float64]

_SPAN = 128  # rounds of micro-batches, up and down from the share by speed, among which the split is sought
_KEPT = 32  # splits that are remembered: strategies are compared on the same sites


@dataclass(frozen=True)
class Steps:
    """The steps of all sites: sequences and plan of each, and what two other splits of the batch would take.

    `even_s`: the batch split evenly, `ideal_s`: by speed, micro-batches not whole; both without the exchange.
    `alone_s`: the step of the fastest site with the whole batch.
    """

    members: tuple[Member, ...]
    sequences: Mapping[str, int]
    plans: Mapping[str, planner.Plan]
    even_s: float
    ideal_s: float
    alone_s: float

    @property
    def pacing(self) -> str:
        """The site whose step is longest."""
        return max(self.plans, key=lambda name: self.plans[name].step_s)


@dataclass(frozen=True)
class _Pace:
    """How a kind of site runs: sequences of one round of micro-batches over its ranks, and the least rounds."""

    problem: resolve.Problem
    round_sequences: int
    least: int

    def step_s(self, rounds: Array) -> Array:
        """Step for each number of rounds; the batch is the only thing that varies."""
        values = planner.evaluate_grid(self.problem, {"global_batch": rounds * float(self.round_sequences)}, ("step_s",))
        return np.broadcast_to(values[("step_s", None)], rounds.shape)


_remembered: dict[str, Steps] = {}


def steps(spec: schema.Spec) -> Steps:
    """The steps of the sites of a spec. Raises SpecError where a site cannot be planned or the batch not be split."""
    pipeline = sync_of(spec).strategy == "pipeline" and len(members(spec)) > 1
    spec = spec.model_copy(update={"run": None, "search": None, "name": None})  # a step knows none of them
    key = spec.model_dump_json(exclude={"links", "sync"}) + str(pipeline)
    if key not in _remembered:
        while len(_remembered) >= _KEPT:
            del _remembered[next(iter(_remembered))]
        _remembered[key] = _across(spec) if pipeline else _split(spec)
    return _remembered[key]


def site_spec(spec: schema.Spec, site: Member, sequences: int) -> schema.Spec:
    """The spec of one site with its part of the batch."""
    training = spec.training.model_copy(update={"global_batch_sequences": sequences})
    return spec.model_copy(update={
        "cluster": site.cluster, "layout": site.layout, "training": training, "sites": (), "links": (), "sync": None,
    })


# ---------------------------------------------------------------------------------------------------- work by speed


def _split(spec: schema.Spec) -> Steps:
    found = members(spec)
    batch = spec.training.global_batch_sequences
    kinds: dict[int, _Pace] = {}
    for site in found:
        if site.entry not in kinds:
            kinds[site.entry] = _pace(spec, site)
    paces = [kinds[site.entry] for site in found]
    rounds = _rounds(found, paces, batch)
    sequences = {site.name: n * pace.round_sequences for site, pace, n in zip(found, paces, rounds, strict=True)}
    plans: dict[tuple[int, int], planner.Plan] = {}
    for site in found:
        at = (site.entry, sequences[site.name])
        if at not in plans:
            plans[at] = _planned(site_spec(spec, site, sequences[site.name]), site)
    share = batch / len(found)
    even_s = max(float(p.step_s(np.array([share / p.round_sequences]))[0]) for p in kinds.values())
    alone_s = min(float(p.step_s(np.array([batch / p.round_sequences]))[0]) for p in kinds.values())
    return Steps(
        found, sequences, {site.name: plans[(site.entry, sequences[site.name])] for site in found}, even_s,
        _ideal_s(paces, rounds, batch), alone_s,
    )


def _pace(spec: schema.Spec, site: Member) -> _Pace:
    """Plan the site once, with the fewest micro-batches that its schedule allows."""
    layout, cluster = site.layout, site.cluster
    try:
        profile = profiles.load(cluster.profile, override=cluster.override, fabric=cluster.fabric)
        inner = (layout.tp or 1) * (layout.pp or 1) * layout.cp
        dp = layout.dp or max(cluster.accelerators * profile.ranks_per_accelerator // inner, 1)
        each = Fraction(layout.micro_batch or 1).limit_denominator(10**6) * dp
        schedule = layout.schedule or ("none" if (layout.pp or 1) == 1 else "interleaved" if layout.vpp > 1 else "1f1b")
        schedule = "none" if (layout.pp or 1) == 1 else schedule
        least = pipelines.least_micro_batches(schedule, layout.pp or 1)
        multiple = math.lcm(pipelines.micro_batch_multiple(schedule, layout.pp or 1), each.denominator)
        sequences = int(each * multiple)
        rounds = -(-least // multiple)
        return _Pace(resolve.resolve(site_spec(spec, site, sequences * rounds)), sequences, rounds)
    except SpecError as error:
        raise _of_site(error, site) from None


def _planned(spec: schema.Spec, site: Member) -> planner.Plan:
    try:
        return planner.plan(spec)
    except SpecError as error:
        raise _of_site(error, site) from None


def _of_site(error: SpecError, site: Member) -> SpecError:
    section = (error.field or "").partition(".")[0]
    field = f"sites.{site.entry}.{error.field}" if section in ("cluster", "layout") else error.field
    return type(error)(f"site {site.name!r}: {error.message}", field=field)


def _rounds(found: Sequence[Member], paces: Sequence[_Pace], batch: int) -> list[int]:
    """Rounds of micro-batches of every site: whole, together the batch, and the slowest site as fast as can be.

    About the shares by speed (`multisite.work_shares`), found exactly: over the sites one by one, the least of the
    longest steps for every sum of sequences so far.
    """
    sizes = [pace.round_sequences for pace in paces]
    unit = math.gcd(*sizes)
    least = [pace.least for pace in paces]
    if batch % unit or batch < sum(size * n for size, n in zip(sizes, least, strict=True)):
        raise _no_split(found, sizes, least, batch, unit)
    if len(paces) == 1:
        return [batch // unit]
    centre = _by_speed(paces, batch)
    span = min(_SPAN, max(2 * max(sizes) // unit, 8))
    reach = span * max(sizes) // unit  # how far, in units, a sum may be from that of the shares
    times: dict[int, dict[int, float]] = {}
    worst = np.full(2 * reach + 1, np.inf)
    worst[reach] = 0.0
    chosen, before = [], 0
    total = 0.0
    for pace, size, low, share in zip(paces, sizes, least, centre, strict=True):
        total += share * size
        at = round(total / unit)
        first, last = max(low, round(share) - span), max(low, round(share) + span)
        rounds = np.arange(first, last + 1)
        known = times.setdefault(id(pace), {})
        new = [n for n in rounds.tolist() if n not in known]
        if new:
            known.update(zip(new, pace.step_s(np.array(new, dtype=np.float64)).tolist(), strict=True))
        best, pick = np.full_like(worst, np.inf), np.zeros(worst.shape, dtype=np.int64)
        for n in sorted(rounds.tolist(), key=lambda n: (abs(n - share), n)):  # of equal ones, the nearest to the share
            move = n * (size // unit) - (at - before)
            shifted = _shifted(worst, move)
            longest = np.where(np.isfinite(shifted), np.maximum(shifted, known[n]), np.inf)
            better = longest < best
            best, pick = np.where(better, longest, best), np.where(better, n, pick)
        chosen.append((pick, at - before, size // unit))
        worst, before = best, at
    place = batch // unit - before + reach
    if not 0 <= place <= 2 * reach or not np.isfinite(worst[place]):
        raise _no_split(found, sizes, least, batch, unit)
    out = []
    for pick, moved, size in reversed(chosen):
        n = int(pick[place])
        out.append(n)
        place -= n * size - moved
    return out[::-1]


def _shifted(row: Array, by: int) -> Array:
    """The row moved to the right, what falls off the ends lost."""
    out = np.full_like(row, np.inf)
    if by >= 0:
        out[by:] = row[: len(row) - by] if by < len(row) else out[by:]
    elif -by < len(row):
        out[:by] = row[-by:]
    return out


def _by_speed(paces: Sequence[_Pace], batch: int) -> list[float]:
    """Rounds of every site in proportion to its speed, speed taken at that share; not whole."""
    total = sum(pace.round_sequences for pace in paces)
    rounds = [batch / total] * len(paces)
    for _ in range(4):
        seen: dict[tuple[int, float], Array] = {}
        speeds = []
        for pace, n in zip(paces, rounds, strict=True):
            n = max(n, float(pace.least))
            if (id(pace), n) not in seen:
                seen[(id(pace), n)] = n * pace.round_sequences / pace.step_s(np.array([n]))
            speeds.append(seen[(id(pace), n)])
        shares = multisite.work_shares(speeds)
        rounds = [float(s[0]) * batch / pace.round_sequences for s, pace in zip(shares, paces, strict=True)]
    return rounds


def _ideal_s(paces: Sequence[_Pace], rounds: Sequence[int], batch: int) -> float:
    """Step if micro-batches could be split at will: all sites end together. Steps are taken as straight lines."""
    done, speed = 0.0, 0.0
    lines: dict[int, tuple[float, float]] = {}
    for pace, n in zip(paces, rounds, strict=True):
        if id(pace) not in lines:
            near, far = pace.step_s(np.array([float(n), n + 1.0]))
            slope = float(far - near)
            lines[id(pace)] = (float(near) - n * slope, slope)
        fixed, slope = lines[id(pace)]
        speed += pace.round_sequences / slope
        done += fixed * pace.round_sequences / slope
    return (batch + done) / speed


def _no_split(
    found: Sequence[Member], sizes: Sequence[int], least: Sequence[int], batch: int, unit: int
) -> SpecError:
    low = -(-sum(size * n for size, n in zip(sizes, least, strict=True)) // unit) * unit
    near = sorted({max(batch // unit * unit, low), max(-(-batch // unit) * unit, low)} - {batch})
    parts = [f"{site.name} {size:,} x {n}" for site, size, n in list(zip(found, sizes, least, strict=True))[:4]]
    more = ", ..." if len(found) > 4 else ""
    hint = f": try {' or '.join(f'{n:,}' for n in near)}" if near else ": no whole rounds add up to it"
    return SpecError(
        f"global batch {batch:,} cannot be split into whole micro-batches over the sites (sequences of a round x least "
        f"rounds: {', '.join(parts)}{more}){hint}", field="training.global_batch_sequences",
    )


# ---------------------------------------------------------------------------------------------------- pipeline


def _across(spec: schema.Spec) -> Steps:
    """One pipeline over all sites: stages in their order, as many as each has accelerators for."""
    found = members(spec)
    stage_counts(spec, found)
    accelerators = sum(site.cluster.accelerators for site in found)
    layout = spec.layout.model_copy(update={"dp": None})
    merged = spec.model_copy(update={
        "cluster": spec.cluster.model_copy(update={"accelerators": accelerators}), "layout": layout, "sites": (),
        "links": (), "sync": None,
    })
    plan = planner.plan(merged)
    batch = spec.training.global_batch_sequences
    alone = [_alone_s(spec, site, batch) for site in {site.entry: site for site in found}.values()]
    plans = {site.name: plan for site in found}
    return Steps(found, {site.name: batch for site in found}, plans, plan.step_s, plan.step_s, min(alone))


def _alone_s(spec: schema.Spec, site: Member, batch: int) -> float:
    pace = _pace(spec, site)
    return float(pace.step_s(np.array([batch / pace.round_sequences]))[0])


def stage_counts(spec: schema.Spec, found: Sequence[Member]) -> list[int]:
    """Pipeline stages of every site. Raises SpecError where stages cannot be laid on whole sites."""
    layout = spec.layout
    pp = layout.pp or 1
    at = "sync.strategy"
    if any(spec.sites[site.entry].layout is not None for site in found):
        raise SpecError("sync.strategy pipeline has one layout over all sites: sites write none of their own", field=at)
    first = found[0].cluster
    for site in found:
        if (site.cluster.profile, site.cluster.override, site.cluster.fabric) != (first.profile, first.override, first.fabric):
            raise SpecError(
                f"sync.strategy pipeline over unlike sites is not planned: {found[0].name!r} and {site.name!r} differ in "
                "profile, fabric or overrides", field=at,
            )
    if layout.schedule not in (None, "1f1b") or layout.vpp > 1:
        raise SpecError("sync.strategy pipeline is planned for schedule 1f1b with vpp 1", field=at)
    if layout.order[-1] != "pp":
        raise SpecError("sync.strategy pipeline needs pp last in layout.order, so that a stage lies in one site", field=at)
    accelerators = sum(site.cluster.accelerators for site in found)
    counts = [site.cluster.accelerators * pp / accelerators for site in found]
    if any(count != int(count) for count in counts):
        raise SpecError(
            f"pp {pp} stages cannot be laid on {len(found)} sites of {_sizes(found)} accelerators: each must hold whole stages",
            field="layout.pp",
        )
    return [int(count) for count in counts]


def _sizes(found: Sequence[Member]) -> str:
    return " and ".join(f"{size:,}" for size in sorted({site.cluster.accelerators for site in found}, reverse=True)[:4])
