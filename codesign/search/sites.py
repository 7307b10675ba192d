"""Strategies side by side for the stated sites, where each stops paying, and where each regime of scale ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import run as runs
from codesign import sites
from codesign.errors import SpecError
from codesign.laws import batch, multisite, semisync
from codesign.quantities.sites import joint_multiplier
from codesign.search.site_tables import violations
from codesign.spec import schema
from codesign.spec.sites import Sync, conflicts, sync_of

Array = NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
_INNER_STEPS = 30  # at which the published penalty was fitted
_CHUNKS = 16
_POINTS, _ROUNDS = 33, 6  # of the search: each round leaves 1/32 of the range, 18 decades to one part in 1e7
_FACTORS = (-9.0, 9.0)  # decades about the stated bandwidth
_LATENCIES = (-7.0, 7.0)  # decades of seconds added to every path


@dataclass(frozen=True)
class Pays:
    """Where a strategy stops paying against the fastest site alone; loss counts as compute, failures are left out.

    `bandwidth_factor`: of all links together, the least with which it pays; inf: with none, 0: with any that is there.
    `extra_one_way_s`: the latency that may be added to every path; 0 where it does not pay as it is.
    `utilisation_factor`: the bandwidth for each of `LEVELS` of WAN utilisation.
    """

    bandwidth_factor: float
    extra_one_way_s: float
    utilisation_factor: tuple[float, ...]


@dataclass(frozen=True)
class Strategy:
    """One way to train on the stated sites: its figures, or why it cannot be done."""

    name: str
    sync: Sync
    run: runs.RunPlan | None
    refused: str = ""
    pays: Pays | None = None

    def value(self, name: str) -> float:
        assert self.run is not None
        return self.run.value(name)

    @property
    def rank(self) -> float:
        """What it is ranked by: speed against one site, loss counted as compute by the pessimistic law, times goodput."""
        return self.value("sites_gain") * self.value("goodput") if self.run is not None and not violations(self.run) else 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of `sync` that are not their defaults."""
        return self.sync.model_dump(mode="json", exclude_defaults=True)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"strategy": self.name, "refused": self.refused or None}
        if self.run is not None:
            phase = self.run.inputs.structure["first_phase"]
            data |= {name: self.value(name) for name in (*sites.TARGETS, "goodput")}
            data |= {"gain_with_goodput": self.value("sites_gain") * self.value("goodput"), "settings": self.settings}
            data |= {
                "step_s": self.value(f"phase_run_step_s[{phase}]"), "exposed_s": self.value(f"phase_sync_exposed_s[{phase}]"),
                "run_wall_s": self.value("run_wall_s"), "extrapolated": sites.extrapolations(self.run.inputs),
                "violations": violations(self.run),
            }
        if self.pays is not None:
            data |= {
                "break_even_bandwidth_factor": self.pays.bandwidth_factor,
                "break_even_extra_one_way_s": self.pays.extra_one_way_s,
                "utilisation_bandwidth_factor": dict(zip(map(str, LEVELS), self.pays.utilisation_factor, strict=True)),
            }
        return data


# ---------------------------------------------------------------------------------------------------- side by side


def choices(spec: schema.Spec) -> dict[str, Sync]:
    """The strategies that are compared; settings that the spec states are kept.

    `synchronous` hides nothing; `beside backward` goes in chunks, 16 if the spec says nothing; `streaming` in 8 fragments
    of 4 bits beside an inner step; `mixed` is beside backward within regions, streaming between them.
    """
    stated = sync_of(spec)
    inner = stated.inner_steps or _INNER_STEPS
    pieces = stated.fragments if stated.fragments > 1 else min(spec.model.layers, inner, 8)
    bits = min(stated.outer_bits, 4.0)
    chunks = stated.chunks if stated.chunks > 1 else _CHUNKS
    common: dict[str, Any] = {"data_from": stated.data_from, "checkpoints": stated.checkpoints}
    wan: dict[str, Any] = {**common, "exchange": stated.exchange}
    sync: dict[str, Any] = {**wan, "strategy": "synchronous", "gradient_bits": stated.gradient_bits}
    outer: dict[str, Any] = {**wan, "inner_steps": inner}
    stream: dict[str, Any] = {"fragments": pieces, "delay": stated.delay or min(1.0, inner - 1.0), "outer_bits": bits}
    found = {
        "as stated": stated,
        "synchronous": Sync(**sync),
        "beside backward": Sync(**sync, overlap="backward", chunks=chunks),
        "one step late": Sync(**sync, overlap="one-step-late"),
        "pipeline": Sync(**common, strategy="pipeline", in_flight=stated.in_flight),
        f"DiLoCo, H {inner}": Sync(**outer, strategy="semi-synchronous"),
        f"streaming, H {inner}": Sync(**outer, **stream, strategy="semi-synchronous"),
        f"mixed, H {inner}": Sync(
            **outer, **stream, strategy="mixed", overlap="backward", chunks=chunks, gradient_bits=stated.gradient_bits,
        ),
    }
    same = [name for name, one in found.items() if name != "as stated" and one == stated]
    for name in same:
        del found[name]
    return found


def compare(run: runs.RunPlan, *, pays: bool = True) -> list[Strategy]:
    """Every strategy on the sites of a run, the best first; those that cannot be done last, each with its reason."""
    found = [_one(run, name, sync, pays) for name, sync in choices(run.spec).items()]
    return sorted(found, key=lambda one: (one.run is None, -one.rank))


def _one(run: runs.RunPlan, name: str, sync: Sync, pays: bool) -> Strategy:
    spec = run.spec.model_copy(update={"sync": sync})
    if wrong := [message for field, message in conflicts(spec) if field.startswith(("sync", "sites"))]:
        return Strategy(name, sync, None, wrong[0])
    try:
        made = run if name == "as stated" else again(run, spec)
    except SpecError as error:
        return Strategy(name, sync, None, error.message)
    return Strategy(name, sync, made, "", break_even(made) if pays else None)


def again(run: runs.RunPlan, spec: schema.Spec) -> runs.RunPlan:
    """The run with other `sites`, `links` or `sync`."""
    return runs.of_templates(spec, run.templates)


# ---------------------------------------------------------------------------------------------------- break-even


def break_even(run: runs.RunPlan) -> Pays:
    """Bandwidth and latency at which the sites of a run stop paying, and the bandwidth for each utilisation.

    All searches in one array: bandwidth for the gain of 1 and for every level, latency for the gain of 1.
    """
    wanted = np.array([1.0, *LEVELS, 1.0])[:, None]
    by_gain = np.array([True, *([False] * len(LEVELS)), True])[:, None]
    latency = np.array([False] * (1 + len(LEVELS)) + [True])[:, None]
    low = np.where(latency[:, 0], _LATENCIES[0], _FACTORS[0])
    high = np.where(latency[:, 0], _LATENCIES[1], _FACTORS[1])
    share = np.linspace(0.0, 1.0, _POINTS)[None, :]
    never = np.zeros(len(wanted), dtype=bool)
    always = np.zeros(len(wanted), dtype=bool)
    for turn in range(_ROUNDS):
        at = low[:, None] + (high - low)[:, None] * share
        axes = {"wan_factor": np.where(latency, 1.0, 10.0**at), "wan_extra_s": np.where(latency, 10.0**at, 0.0)}
        values = runs.evaluate(run.inputs, axes, ("sites_gain", "wan_utilisation"))
        shape = at.shape
        gain = np.broadcast_to(values[("sites_gain", None)], shape)
        used = np.broadcast_to(values[("wan_utilisation", None)], shape)
        enough = np.where(by_gain, gain, used) >= wanted
        enough = np.where(latency, ~enough, enough)  # false, then true, along every row
        if turn == 0:
            never, always = ~enough[:, -1], enough[:, 0]
        first = np.where(enough.any(axis=1), enough.argmax(axis=1), _POINTS - 1)
        low = at[np.arange(len(at)), np.maximum(first - 1, 0)]
        high = at[np.arange(len(at)), first]
    edge = 10.0**high
    edge = np.where(never, np.inf, np.where(always, 0.0, edge))
    return Pays(float(edge[0]), float(edge[-1]), tuple(float(one) for one in edge[1:-1]))


# ---------------------------------------------------------------------------------------------------- regimes of scale


@dataclass(frozen=True)
class Regimes:
    """From one site to ten million accelerators: rows of every strategy, where each ends, and what all of it rests on.

    `ends`: strategy -> the accelerators from which a tenth more gives less than a twentieth more effective compute.
    `changes`: the accelerators from which another strategy gives most effective compute.
    `wall_accelerators`: where latency alone takes the whole step at the critical batch (EQ-87).
    """

    rows: tuple[dict[str, Any], ...]
    ends: dict[str, float]
    changes: tuple[tuple[float, str], ...]
    critical_batch_tokens: float
    wall_accelerators: float
    assumed: tuple[str, ...]


ONE, SYNC, MIXED, SEMI = "one site", "synchronous", "8 regions", "semi-sync"
SHOWN = tuple(float(10**power) for power in range(3, 8))
_TENTH = 1.1
# Published with figures: two sites of thousands of accelerators in lock-step (NVIDIA NeMo, 96 %); outer steps over a WAN
# by 14 x 8 H100 (INTELLECT-1) and about 20 x 8 B200 at 72.7 B parameters (Covenant-72B).
_SYNC_SITES, _SEMI_ACCELERATORS = 2, 160


def regimes(
    run: runs.RunPlan, accelerators: Sequence[float] = SHOWN, *, critical_batch_tokens: float | None = None
) -> Regimes:
    """What each strategy makes of a growing number of accelerators, sites like the largest stated one.

    Every accelerator keeps its tokens a step (the batch grows), every site the narrowest stated connection. Effective
XX
    Failures are not in it.
    """
    given, assumed = critical_batch_tokens, []
    if given is None:
        given = _critical(run)
    if given is None:
        given = float(batch.step_law_batch_tokens(np.array([run.value("run_tokens")]))[0])
        assumed.append(
            "critical batch: the best batch of the Step Law, 0.58 D^0.571 (arXiv 2503.04715), taken as critical; "
            "run.loss.critical_batch gives a measured one"
        )
    if not _counts_batch(run):
        assumed.append("what a batch above the critical one wastes is not counted: run.loss.batch told")
    assumed += [
        "every accelerator keeps its tokens a step: the batch grows with their number",
        "every site has the narrowest stated connection and the longest stated path to each other one",
        "failures are not counted here",
    ]
    scene = _scene(run)
    dense = np.geomspace(min(accelerators), max(accelerators), 400)
    table = _effective(scene, dense, given)
    more = _effective(scene, dense * _TENTH, given)
    ends: dict[str, float] = {}
    for name in table:
        grows = more[name]["effective"] >= table[name]["effective"] * (1.0 + (_TENTH - 1.0) / 2)
        there = np.isfinite(table[name]["effective"]) & np.isfinite(more[name]["effective"])
        if (good := np.flatnonzero(grows & there)).size:
            ends[name] = float(dense[good[-1]])
    stacked = np.array([np.where(np.isfinite(t["effective"]), t["effective"], -1.0) for t in table.values()])
    winner = stacked.argmax(axis=0)
    names = list(table)
    changes = tuple(
        (float(dense[at]), names[winner[at]]) for at in range(len(dense)) if at == 0 or winner[at] != winner[at - 1]
    )
    shown = np.asarray(accelerators, dtype=np.float64)
    best = _effective(scene, shown, given)
    rows = tuple(row for at in range(len(shown)) for row in _rows(scene, shown, best, at, given))
    return Regimes(rows, ends, changes, given, _wall(run, given), tuple(assumed))


def _critical(run: runs.RunPlan) -> float | None:
    """The critical batch of the run's own loss, or as stated; none where no law gives one."""
    name = f"critical_batch_tokens[{run.inputs.structure.get('first_phase')}]"
    try:
        return run.value(name)
    except SpecError:
        return None


def _counts_batch(run: runs.RunPlan) -> bool:
    loss = run.spec.run.loss if run.spec.run else None
    return loss is None or loss.batch != "told"


@dataclass(frozen=True)
class _Scene:
    """What one site does, and what joins it to others."""

    site: float  # accelerators of a site
    batch_tokens: float  # of an accelerator and step
    step_s: float
    window_s: float
    parameters: float
    gradient_B: float
    outer_B: float
    inner: float
    fragments: float
    delay: float
    site_Bps: float
    one_way_s: float
    counts_batch: bool


def _scene(run: runs.RunPlan) -> _Scene:
    exchange: sites.Exchange | None = run.inputs.structure.get("exchange")
    if exchange is None:
        raise SpecError("regimes of scale need the links between several sites", field="sites")
    phase = run.inputs.structure["first_phase"]
    found = run.inputs.structure["site_steps"][phase]
    out: dict[str, float] = {}
    for way, link in exchange.network.ways.items():
        source = way.partition(">")[0]
        out[source] = out.get(source, 0.0) + run.value(f"link_delivered_Bps[{link}]")
    late = max(
        sum(run.value(f"link_one_way_s[{link}]") for link in exchange.network.links_of(a, b))
        for a in exchange.network.sites for b in exchange.network.sites if a != b
    )
    stated = sync_of(run.spec)
    total = run.value("run_accelerators")
    tokens = run.value(f"phase_step_tokens[{phase}]")
    inner = float(stated.inner_steps or _INNER_STEPS)
    outer = stated.strategy in ("semi-synchronous", "mixed")
    return _Scene(
        max(float(site.cluster.accelerators) for site in found.members), tokens / total,
        run.value(f"phase_healthy_step_s[{phase}]"), run.value(f"phase_window_s[{phase}]") if _has(run, phase) else
        min(p.value("slowest_backward_s") * p.problem.structural()["pipeline"].pp for p in found.plans.values()),
        run.value("run_parameters"), run.value("wan_gradient_B"), run.value("outer_element_B") if outer else 0.5, inner,
        float(stated.fragments if outer else min(8, inner)), stated.delay if outer else min(1.0, inner - 1.0),
        min(rate for name, rate in out.items() if name in exchange.network.sites), late, _counts_batch(run),
    )


def _has(run: runs.RunPlan, phase: str) -> bool:
    return ("phase_window_s", phase) in run.values


def _effective(scene: _Scene, accelerators: Array, critical: float) -> dict[str, dict[str, Array]]:
    """Utilisation, loss multiplier and effective compute of every strategy; nan where it does not exist."""
    count = np.maximum(np.ceil(accelerators / scene.site), 1.0)
    tokens = scene.batch_tokens * accelerators
    step = np.full(1, scene.step_s)
    late, rate = np.full(1, scene.one_way_s), np.full(1, scene.site_Bps)
    n = np.full(1, scene.parameters)

    def lockstep(groups: Array) -> Array:
        moved = multisite.wan_direct_s(n * scene.gradient_B, groups, late, rate)
        tail = np.where(groups > 1, 2.0 * late, 0.0)
        return multisite.exposed_s(moved, np.full(1, scene.window_s), tail)

    def outer(replicas: Array, inner_s: Array) -> Array:
        moved = multisite.wan_direct_s(n * scene.outer_B, replicas, scene.fragments * late, rate)
        inner, pieces = np.full(1, scene.inner), scene.fragments
        return semisync.round_exposed_s(moved, inner, inner_s, pieces, scene.delay * inner_s) / scene.inner

    def row(exposed: Array, replicas: Array, there: NDArray[np.bool_]) -> dict[str, Array]:
        used = multisite.utilisation(step, exposed)
        semi = (replicas > 1) & (scene.inner > 1)
        penalty = np.where(semi, joint_multiplier(n, replicas), 1.0)
        stands = critical * np.where(semi, semisync.batch_of_replicas(replicas), 1.0)
        wasted = 1.0 / batch.tokens_worth(tokens / stands) if scene.counts_batch else np.ones_like(tokens)
        share = used / penalty / wasted
        return {
            "replicas": np.where(there, replicas, np.nan), "utilisation": np.where(there, used, np.nan),
            "penalty": penalty + 0.0 * accelerators, "waste": wasted, "share": np.where(there, share, np.nan),
            "effective": np.where(there, share * accelerators, np.nan),
        }

    ones, eight = np.ones_like(count), np.full_like(count, 8.0)
    in_region = np.ceil(count / 8.0)
    inner_s = scene.step_s + lockstep(in_region)
    return {
        ONE: row(np.zeros_like(count), ones, count <= 1),
        SYNC: row(lockstep(count), ones, count > 1),
        MIXED: row(lockstep(in_region) + outer(eight, inner_s), eight, count > 8),
        SEMI: row(outer(count, step), count, count > 1),
    }


def _rows(
    scene: _Scene, accelerators: Array, table: dict[str, dict[str, Array]], at: int, critical: float
) -> list[dict[str, Any]]:
    out = []
    for name, columns in table.items():
        if not np.isfinite(columns["effective"][at]):
            continue
        here = float(accelerators[at])
        count = max(np.ceil(here / scene.site), 1.0)
        out.append({
            "accelerators": here, "sites": count, "strategy": name,
            "batch_tokens": scene.batch_tokens * here, "wan_utilisation": float(columns["utilisation"][at]),
            "loss_multiplier": float(columns["penalty"][at]), "batch_waste": float(columns["waste"][at]),
            "effective_share": float(columns["share"][at]), "effective_accelerators": float(columns["effective"][at]),
            "extrapolated": _beyond(scene, name, here, count, float(columns["replicas"][at]), critical),
        })
    return out


def _beyond(
    scene: _Scene, name: str, accelerators: float, count: float, replicas: float, critical: float
) -> list[str]:
    """What of a row is beyond published evidence."""
    out = []
    if name != ONE and name != SEMI and (count if name == SYNC else np.ceil(count / 8.0)) > _SYNC_SITES:
        out.append(f"lock-step over more than {_SYNC_SITES} sites: no figures published")
    if name in (MIXED, SEMI):
        if accelerators > _SEMI_ACCELERATORS:
            out.append(f"outer steps over a WAN: measured to {_SEMI_ACCELERATORS} accelerators")
        out += [text for text in sites.beyond_evidence(scene.parameters, replicas, scene.inner) if text.startswith("EXTRA")]
    if scene.batch_tokens * accelerators > critical:
        out.append("batch beyond the critical one")
    return [text.removeprefix("EXTRAPOLATED: ") for text in out]


def _wall(run: runs.RunPlan, critical: float) -> float:
    """Accelerators at which latency alone takes a step of the critical batch, compute split without loss (EQ-87)."""
    phase = run.inputs.structure["first_phase"]
    found = run.inputs.structure["site_steps"][phase]
    plan = found.plans[found.pacing]
    layer_s = np.array([plan.value("gemm_launch_s") + plan.value("up_gather_latency_s")])
    tokens = np.array([run.value("run_tokens")])
    least = multisite.latency_wall_s(tokens, np.array([critical]), np.array([float(run.spec.model.layers)]), layer_s)
    healthy = run.value(f"phase_healthy_step_s[{phase}]") / run.value(f"phase_step_tokens[{phase}]")
    return float((healthy * tokens / least)[0] * run.value("run_accelerators"))


__all__ = ["LEVELS", "Pays", "Regimes", "Strategy", "break_even", "choices", "compare", "regimes"]
