"""Exposed communication: the level that carries each term, and the bandwidth that would just hide it.

What a term would keep beside endless compute has nothing to run beside (the last bucket, the filling of a pipeline, what
the stack does not overlap); the rest could be hidden. Both get shorter with bandwidth, down to what other levels and
latency keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import graph
from codesign.planner import Plan
from codesign.search.resources import ABOVE_POD, BY_NAME, LIMIT, Array, Changes, Machine, Resource, least_factors

# parts of the step, and of its data-parallel part on the rank that ends last: quantity -> what it is
TERMS = {
    "tp_exposed_s": "tensor parallel",
    "cp_exposed_s": "context parallel",
    "ep_exposed_s": "expert parallel",
    "pp_exposed_s": "pipeline",
    "dp_gradient_exposed_s": "gradients",
    "dp_parameter_exposed_s": "parameters",
    "fsdp_exposed_s": "sharded parameters and gradients",
    "offload_exposed_s": "off-load to host memory",
    "input_exposed_s": "training data",
}
_OF_RANK = ("dp_gradient_exposed_s", "dp_parameter_exposed_s", "fsdp_exposed_s")
_IN_POD = Resource("scale-out bandwidth", "rate", (("nic_Bps", 1), ("taper", 1)))  # the rate above the pod stays
_NETWORK = (BY_NAME["scale-up bandwidth"], _IN_POD, ABOVE_POD)
_CARRIERS = {
    "offload_exposed_s": (BY_NAME["host link bandwidth"],),
    "input_exposed_s": (BY_NAME["storage bandwidth"],),
}
_BANDWIDTHS = dict.fromkeys((*_NETWORK, BY_NAME["host link bandwidth"], BY_NAME["storage bandwidth"]), LIMIT)
_LATENCIES = (BY_NAME["scale-up latency"], BY_NAME["scale-out latency"])
# what may be without limit, one by one and together
_SCENES: dict[str, Changes] = {
    "now": {},
    **{level.name: {level: LIMIT} for level in _BANDWIDTHS},
    "no bytes": _BANDWIDTHS,
    "no time": {**_BANDWIDTHS, **dict.fromkeys(_LATENCIES, LIMIT)},
}
_WINDOWS = (BY_NAME["compute rate"], BY_NAME["memory bandwidth"])
_ENDLESS = 1e-6  # of compute and memory rates: what could be hidden beside them is
_NONE = 1e-9  # of a term: what counts as nothing
MOST_OF = 0.9  # of what bandwidth can remove


@dataclass(frozen=True)
class Exposure:
    """One exposed term. `structural_s` has nothing to run beside; `hideable_s` is the rest: with it the term adds up.

    `level` removes most of it: `removable_s`; then stay what the other levels' bandwidth keeps, what latency keeps, and
    what no network removes. A factor is of the level's bandwidth: `hides_factor` just hides all that can be hidden (1
    where it is, None where no bandwidth does), `most_factor` removes 90 % of `removable_s`. `*_step_s`: the step there.
    """

    name: str
    label: str
    exposed_s: float
    share: float
    structural_s: float
    hideable_s: float
    level: str
    level_Bps: float
    removable_s: float
    other_levels_s: float
    latency_s: float
    other_s: float
    hides_factor: float | None
    hides_Bps: float | None
    hides_step_s: float | None
    most_factor: float | None
    most_Bps: float | None
    most_step_s: float | None
    why: str

    @property
    def never_removed(self) -> float:
        """Share of the term that the bandwidth of its level cannot remove."""
        return 1.0 - self.removable_s / self.exposed_s


@dataclass(frozen=True)
class _Terms:
    """Exposed seconds as functions of factors, on the pipeline ranks that are the slowest and the last one now."""

    machine: Machine
    last: int
    fixed: Mapping[str, Any]

    def at(self, blocks: Sequence[Changes], endless: bool = False) -> dict[str, Array]:
        """Every term, shape (blocks, factors); `endless`: beside compute that lasts for ever."""
        windows = dict.fromkeys(_WINDOWS, _ENDLESS) if endless else {}
        seen = self.machine.blocks([{**block, **windows} for block in blocks], tuple(TERMS), self.fixed)
        return {name: seen.row(name, self.last if name in _OF_RANK else None) for name in TERMS}


def exposures(machine: Machine) -> tuple[Exposure, ...]:
    """Every exposed communication term of a step, the largest first. Valid for the layout as it stands."""
    now = machine.run({}, ("rank_dp_exposed_s", "rank_work_s", "slowest_rank", "micro_batches")).values
    terms = _Terms(machine, _last_rank(now), {"slowest_rank": now["slowest_rank", None]})
    seen = terms.at(list(_SCENES.values()))
    beside = terms.at([{}], endless=True)
    scenes = {name: dict(zip(_SCENES, seen[name][:, 0].tolist(), strict=True)) for name in TERMS}
    exposed = [name for name in TERMS if scenes[name]["now"] > _NONE * machine.plan.step_s]
    structural = {name: min(float(beside[name][0, 0]), scenes[name]["now"]) for name in exposed}
    levels = {name: min(_carriers(name), key=lambda level: scenes[name][level.name]) for name in exposed}
    hides = _hides(terms, levels, {n: scenes[n]["now"] for n in exposed}, structural)
    most = _most(terms, levels, scenes)
    found = [
        _exposure(machine, name, scenes[name], structural[name], levels[name], hides[name], most[name])
        for name in exposed
    ]
    return tuple(sorted(found, key=lambda exposure: -exposure.exposed_s))


def data_parallel(plan: Plan) -> dict[str, float]:
    """What `dp_exposed_s` is made of, in seconds, on the rank that ends last: they add up to it.

    Exposed gradients and parameters, what compute loses beside their buckets, and under `spare_s`, below 0, what the rank
    has to spare because others work longer. Nothing is left out but what is 0.
    """
    names = graph.REGISTRY["rank_dp_exposed_s"].parts
    keys = ("rank_dp_exposed_s", "rank_work_s", "micro_batches", *names)
    values: dict[Any, Any] = {(name, None): np.ravel(plan.values[name, None])[None].T for name in keys}
    last, work = _last_rank(values), values["rank_work_s", None][:, 0]
    ranks = len(values["rank_dp_exposed_s", None])
    found = {name: float(np.broadcast_to(values[name, None][:, 0], ranks)[last]) for name in names}
    found["spare_s"] = float(-values["micro_batches", None][0, 0] * (np.max(work) - work[last]))
    return {name: value for name, value in found.items() if value}


def _last_rank(values: Mapping[Any, Any]) -> int:
    """The pipeline rank whose data-parallel communication ends last, as `dp_exposed_s` counts."""
    work = values["rank_work_s", None][:, 0]
    ends = values["rank_dp_exposed_s", None][:, 0] - values["micro_batches", None][0] * (np.max(work) - work)
    return int(np.argmax(ends))


def _carriers(name: str) -> tuple[Resource, ...]:
    return _CARRIERS.get(name, _NETWORK)


def _exposure(
    machine: Machine, name: str, scene: Mapping[str, float], structural: float, level: Resource,
    hides: float | None, most: float | None,
) -> Exposure:
    now, floor = scene["now"], scene[level.name]
    no_bytes = scene["no bytes"]

    def rate(factor: float | None) -> float | None:
        return None if factor is None else machine.value(level)[0] * factor

    def step(factor: float | None) -> float | None:
        return None if factor is None else float(machine.step_s({level: np.full(1, factor)})[0])

    return Exposure(
        name, TERMS[name], now, now / machine.plan.step_s, structural, now - structural, level.name,
        machine.value(level)[0], now - floor, floor - no_bytes, no_bytes - scene["no time"], scene["no time"],
        hides, rate(hides), step(hides), most, rate(most), step(most), _why(machine, name, structural / now),
    )


def _hides(
    terms: _Terms, levels: Mapping[str, Resource], now: Mapping[str, float], structural: Mapping[str, float]
) -> dict[str, float | None]:
    """The least factor of each level's bandwidth from which on only what has nothing beside it is exposed."""
    open_ = [name for name in levels if now[name] - structural[name] > _NONE * now[name]]

    def hidden(grid: Array) -> NDArray[np.bool_]:
        blocks = [{levels[name]: grid[at]} for at, name in enumerate(open_)]
        seen, beside = terms.at(blocks), terms.at(blocks, endless=True)
        return np.stack([seen[n][at] - beside[n][at] <= _NONE * now[n] for at, n in enumerate(open_)])

    return dict.fromkeys(levels, 1.0) | _least(open_, hidden)


def _most(
    terms: _Terms, levels: Mapping[str, Resource], scenes: Mapping[str, Mapping[str, float]]
) -> dict[str, float | None]:
    """The least factor of each level's bandwidth that removes 90 % of what its bandwidth can remove."""
    floors = {name: scenes[name][level.name] for name, level in levels.items()}
    open_ = [name for name in levels if scenes[name]["now"] - floors[name] > _NONE * scenes[name]["now"]]
    goals = {n: scenes[n]["now"] - MOST_OF * (scenes[n]["now"] - floors[n]) for n in open_}

    def gone(grid: Array) -> NDArray[np.bool_]:
        seen = terms.at([{levels[name]: grid[at]} for at, name in enumerate(open_)])
        return np.stack([seen[name][at] <= goals[name] for at, name in enumerate(open_)])

    return dict.fromkeys(levels) | _least(open_, gone)


def _least(names: Sequence[str], meets: Callable[[Array], NDArray[np.bool_]]) -> dict[str, float | None]:
    if not names:
        return {}
    return dict(zip(names, least_factors(meets, [1.0] * len(names), [LIMIT] * len(names)), strict=True))


def _why(machine: Machine, name: str, structural: float) -> str:
    """Why a part of a term has nothing to run beside, in words."""
    if structural <= _NONE:
        return "all of it may run beside compute"
    return _REASONS[name](machine)


def _tensor(machine: Machine) -> str:
    structure, ranks = machine.plan.problem.structural(), machine.plan.value("tp")
    if not structure["software"].overlap.tp:
        return "this stack does not run it beside matrix products"
    if not (structure["sequence_parallel"] or structure["software"].xla):
        return "only sequence-parallel collectives can be cut into pieces"
    routed = [structure[f"kind_spec[{kind}]"].moe for kind in machine.plan.problem.kinds]
    waits = ["MoE layers wait for their router"] if any(routed) else []
    pieces = [] if all(routed) else [f"of {ranks:g} pieces one has no matrix product beside it"]
    return "; ".join(waits + pieces)


def _context(machine: Machine) -> str:
    structure = machine.plan.problem.structural()
    style = structure["cp_style"]
    return f"{style} is exposed as a whole" if style != "ring" else "this stack does not run the ring beside attention"


def _expert(machine: Machine) -> str:
    if machine.plan.problem.structural()["software"].overlap.ep:
        return "there is no second micro-batch whose compute could run beside it"
    return "this stack does not run the exchange of tokens beside other compute"


def _pipeline(machine: Machine) -> str:
    structure = machine.plan.problem.structural()
    schedule = structure["pipeline"].schedule
    if structure["software"].overlap.pp and schedule not in ("1f1b", "gpipe"):
        return "filling and draining a pipeline wait for every stage boundary"
    return f"schedule {schedule} of this stack passes activations on before it goes on"


def _gradients(machine: Machine) -> str:
    software = machine.plan.problem.structural()["software"]
    if software.overlap.dp_gradients and software.bucketed:
        return f"the last bucket ({_percent(machine, 'last_bucket_share')} of the bytes) is ready when the backward pass is over"
    return "this stack reduces gradients after the backward pass"


def _parameters(machine: Machine) -> str:
    if machine.plan.problem.structural()["software"].overlap.dp_parameters:
        return f"the forward pass waits for the first bucket ({_percent(machine, 'last_bucket_share')} of the bytes)"
    return "this stack gathers parameters before the forward pass"


def _sharded(machine: Machine) -> str:
    structure = machine.plan.problem.structural()
    if not structure["software"].overlap.dp_parameters:
        return "this stack waits for every gather and reduction"
    if not structure["sharding"].prefetch:
        return "without prefetch each unit waits for its parameters"
    return f"the first gather and the last reduction ({_percent(machine, 'fsdp_exposed')} of the bytes) have none beside them"


def _percent(machine: Machine, leaf: str) -> str:
    return f"{100 * machine.plan.value(leaf):.1f} %"


_REASONS: Mapping[str, Callable[[Machine], str]] = {
    "tp_exposed_s": _tensor, "cp_exposed_s": _context, "ep_exposed_s": _expert, "pp_exposed_s": _pipeline,
    "dp_gradient_exposed_s": _gradients, "dp_parameter_exposed_s": _parameters, "fsdp_exposed_s": _sharded,
    "offload_exposed_s": lambda machine: "nothing runs beside it",
    "input_exposed_s": lambda machine: "nothing runs beside it",
}
