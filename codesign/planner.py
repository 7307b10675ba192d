"""plan(spec) -> Plan: where the spec meets the quantities.

`evaluate` runs the graph for a batch of problems of one structure; a plan is a batch of one. Both give the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign import errors, graph, units
from codesign.quantities import communication, constraints, memory
from codesign.spec import load as loader
from codesign.spec import resolve, schema

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

SCHEMA_VERSION = 1

TARGETS = (
    "step_s",
    "training_steps",
    "training_s",
    "job_tokens_per_s",
    "model_FLOPps",
    "mfu",
    "hfu",
    "peak_B",
    "device_B",
    "reserved_B",
    "allocated_B",
    "feasible",
    *constraints.CONSTRAINTS,
    "tp_sent_B",
    "cp_sent_B",
    "ep_sent_B",
    "dp_gradient_sent_B",
    "dp_parameter_sent_B",
    "pp_sent_B",
)
TRAFFIC = {
    "tensor parallel": "tp_sent_B",
    "context parallel": "cp_sent_B",
    "expert parallel": "ep_sent_B",
    "gradients": "dp_gradient_sent_B",
    "parameters": "dp_parameter_sent_B",
    "pipeline": "pp_sent_B",
}

# Inputs of the elasticities: a name, and the leaves that move together. Rates first, then fixed durations: over all of
# them, rates less durations sum to -1, because a step is a time.
RATES: dict[str, tuple[str, ...]] = {
    "compute rate": ("peak_FLOPps", "half_peak_FLOPps"),
    "memory bandwidth": ("memory_Bps",),
    "scale-up bandwidth": ("link_Bps",),
    "scale-out bandwidth": ("nic_Bps",),
    "host link bandwidth": ("host_link_Bps",),
    "storage bandwidth": ("storage_Bps",),
}
DURATIONS: dict[str, tuple[str, ...]] = {
    "host launch time": ("host_layer_s", "host_moe_s"),
    "kernel start-up": ("gemm_launch_s", "elementwise_launch_s", "attention_launch_s"),
    "scale-up latency": (
        "up_p2p_latency_s",
        *(f"{where}_{op}_latency_s" for where in ("up", "pair") for op in ("gather", "reduce", "exchange")),
    ),
    "scale-out latency": ("nic_latency_s", "hop_s"),
    "fixed work of a step": ("fixed_step_s",),
}
ELASTICITY_STEP = 1e-3


def leaf_values(problems: Sequence[resolve.Problem], ndim: int = 1, *, every_rank: bool = True) -> dict[str, Any]:
    """Leaves of a batch of problems of one structure: numbers as arrays with one row a problem, structure as it is.

    Per-rank leaves have the pipeline ranks on a leading axis and `ndim` trailing axes of length one. With
    `every_rank=False` one rank stands for all that hold the same layers: totals have the same bits, tables a row a class.
    """
    first = problems[0]
    values: dict[str, Any] = dict(first.structure)
    shape = (1,) * (ndim - 1) + (len(problems),)
    for name in first.leaves:
        values[name] = np.array([p.leaves[name].value for p in problems]).reshape(shape)
    values.update(stage_leaves(first.structural()["pipeline"], first.kinds, ndim, every_rank))
    return values


@lru_cache(maxsize=2048)  # about 20 kB each; a search of many shapes meets new pipelines without end
def stage_leaves(
    pipeline: resolve.Pipeline, kinds: tuple[str, ...], ndim: int = 1, every_rank: bool = True
) -> Mapping[str, Any]:
    """What each pipeline rank holds, with the rank on a leading axis.

    Ranks that hold the same form a class, and its first rank speaks for it: it has the most micro-batches in flight.
    `rank_classes` has the column and the size of each.
    """
    stages, pp = pipeline.stages, pipeline.pp
    tail = (1,) * ndim
    counts = [stages.counts(rank) for rank in range(pp)]
    rows = {f"stage_layers[{kind}]": [float(c.get(kind, 0)) for c in counts] for kind in kinds}
    rows["stage_embedding"] = [float(stages.embedding(rank)) for rank in range(pp)]
    rows["stage_head"] = [float(stages.head(rank)) for rank in range(pp)]
    rows["stage_mtp"] = [float(stages.mtp(rank)) for rank in range(pp)]
    columns = {name: np.array(row) for name, row in rows.items()}
    if pipeline.schedule == "dualpipe":
        # either direction puts a stage on the rank: half of the micro-batches run stage i, half stage pp - 1 - i
        columns = {name: 0.5 * (row + row[::-1]) for name, row in columns.items()}
    holds = list(zip(*(row.tolist() for row in columns.values()), strict=True))
    first = {held: rank for rank, held in reversed(list(enumerate(holds)))}
    classes = sorted((rank, holds.count(held)) for held, rank in first.items())
    shown = list(range(pp)) if every_rank else [rank for rank, _ in classes]
    values: dict[str, Any] = {name: row[shown].reshape((len(shown), *tail)) for name, row in columns.items()}
    values["rank_index"] = np.array(shown, dtype=np.float64).reshape((len(shown), *tail))
    values["rank_classes"] = tuple((shown.index(rank), float(size)) for rank, size in classes)
    for kind in kinds:
        values[f"model_layers[{kind}]"] = np.full(1, sum(float(c.get(kind, 0)) for c in counts))
    return values


def program_for(targets: Sequence[str], problem: resolve.Problem, leaves: Mapping[str, Any]) -> graph.Program:
    """The pruned evaluation of `targets` for this structure."""
    return graph.program(targets, {"kind": problem.kinds}, leaves)


def evaluate(
    problems: Sequence[resolve.Problem], targets: Sequence[str] = TARGETS, overrides: Mapping[str, Any] | None = None
) -> dict[Any, Any]:
    """All values under `targets` for problems that share one structure, a row each."""
    values = leaf_values(problems)
    return program_for(targets, problems[0], values).run(values, overrides)


def evaluate_grid(
    problem: resolve.Problem,
    axes: Mapping[str, Array],
    targets: Sequence[str] = TARGETS,
) -> dict[Any, Any]:
    """All values under `targets` on a broadcast grid: every array of `axes` replaces a numeric leaf.

    The arrays must have the same number of axes and broadcast together, e.g. tp of shape (4, 1, 1), cp (1, 5, 1) and a dp
    that follows from both, (4, 5, 1). Structure (schedule, recompute, sharding, ...) is that of `problem`.
    """
    ndim = {value.ndim for value in axes.values()}
    if len(ndim) != 1:
        raise ValueError(f"axes of {sorted(ndim)} dimensions do not form one grid")
    values = leaf_values([problem], ndim.pop())
    unknown = set(axes) - set(problem.leaves)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]!r} is not a numeric leaf")
    values.update(axes)
    return program_for(targets, problem, values).run(values)


# ---------------------------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class Interval:
    """An 80 % interval from the leave-one-group-out residuals of the nearest cell of measured runs."""

    low: float
    high: float
    cell: str
    rows: int
    extrapolated: str = ""  # why the cell does not speak for this accelerator


def verdict(feasible: bool, violations: Sequence[str], unsure: Sequence[str]) -> dict[str, Any]:
    """The verdict as plain data; `unsure`: why it may turn out the other way."""
    return {"feasible": feasible, "violations": list(violations), "open": bool(unsure), "open_reasons": list(unsure)}


@dataclass(frozen=True)
class Plan:
    """One step of one run: every number, where it comes from, and whether it can be done."""

    problem: resolve.Problem
    program: graph.Program
    values: Mapping[Any, Any]
    elasticities: Mapping[str, float]
    overrides: Mapping[str, Any]
    spec_hash: str
    read_as: tuple[str, ...] = ()

    # -- reading values

    def value(self, name: str) -> float:
        """A scalar quantity or leaf by name; `name[member]` for an indexed one."""
        key = self._key(name)
        return float(np.ravel(self.values[key])[0])

    def _key(self, name: str) -> Any:
        base, _, member = name.partition("[")
        key: Any = (base, member.rstrip("]") or None)
        if key in self.values:
            return key
        if name in self.values:
            return name
        members = [f"{name}[{k[1]}]" for k in self.values if isinstance(k, tuple) and k[0] == base and k[1] is not None]
        if members:
            raise errors.SpecError(f"{base!r} has a value for each layer kind: ask for {', '.join(members)}", field=name)
        names = sorted({k[0] if isinstance(k, tuple) else k for k in self.values})
        raise errors.SpecError(f"no quantity {name!r} in this plan.{near(name, names)}", field=name)

    @property
    def step_s(self) -> float:
        return self.value("step_s")

    @property
    def feasible(self) -> bool:
        return bool(self.value("feasible"))

    @cached_property
    def violations(self) -> tuple[str, ...]:
        """One message, with numbers, for each constraint that does not hold."""
        broken = []
        for name in constraints.CONSTRAINTS:
            message = graph.REGISTRY[name].message
            if not self.value(name) and message is not None:
                broken.append(message(self.values))
        return tuple(broken)

    @cached_property
    def parts(self) -> dict[str, float]:
        """Parts of the step; they add up to `step_s`, in order, to the bit. Zero parts included."""
        return {name: self.value(name) for name in graph.REGISTRY["step_s"].parts}

    @cached_property
    def footing(self) -> tuple[str, dict[str, int]]:
        """The weakest kind of number that the step rests on, and how many leaves there are of each kind."""
        counts = dict.fromkeys(resolve.KINDS, 0)
        for name in self.program.depends[("step_s", None)]:
            leaf = self.problem.leaves.get(name)
            if leaf is not None:
                counts[leaf.kind] += 1
        return next(kind for kind in resolve.KINDS if counts[kind]), counts

    @cached_property
    def step_interval(self) -> Interval:
        return interval(self.problem, self.step_s, "step")

    @cached_property
    def memory_interval(self) -> Interval:
        return interval(self.problem, self.value("peak_B"), "memory")

    @cached_property
    def memory_open(self) -> str:
        """Why the verdict may turn out the other way, with numbers: the memory interval holds the capacity. Else empty.

        Empty too where something else than memory is broken: nothing is open then.
        """
        known, capacity_B = self.memory_interval, self.value("memory_B")
        fits = bool(self.value("fits_memory"))
        if len(self.violations) > (not fits) or not (np.isfinite(known.low) and known.low <= capacity_B < known.high):
            return ""
        has, of = units.show(capacity_B, "B"), "memory: the 80 % interval of the fullest rank"
        return f"{of} reaches {units.show(known.high, 'B')}, past the {has} of the device" if fits else (
            f"{of} begins at {units.show(known.low, 'B')}, within the {has} of the device")  # fmt: skip

    # -- frames

    @property
    def time_frame(self) -> pd.DataFrame:
        """Parts of the step: name, seconds, share, what it is."""
        import pandas as pd

        rows = [
            {"part": name, "s": value, "share": value / self.step_s, "what": _first_sentence(graph.REGISTRY[name].doc)}
            for name, value in self.parts.items()
        ]
        return pd.DataFrame(rows)

    @property
    def memory_frame(self) -> pd.DataFrame:
        """Memory of each pipeline rank in bytes, a term a column."""
        import pandas as pd

        return pd.DataFrame([{"rank": s["rank"], **s["terms_B"], "device_B": s["device_B"]} for s in self.stages])

    @property
    def traffic_frame(self) -> pd.DataFrame:
        """Bytes that one rank sends in a step, by traffic class and network level."""
        import pandas as pd

        return pd.DataFrame(self.traffic)

    @cached_property
    def stages(self) -> list[dict[str, Any]]:
        """Memory of each pipeline rank, term by term."""
        pp = self.problem.structural()["pipeline"].pp
        terms = (*memory.ALLOCATED, "allocator_memory_B", "communication_memory_B", "context_memory_B")
        table = {
            name: np.broadcast_to(np.reshape(self.values[(name, None)], (-1,)), (pp,))
            for name in (
                *terms,
                "rank_allocated_B",
                "rank_reserved_B",
                "rank_needed_B",
                "rank_device_B",
                "in_flight_micro_batches",
            )
        }
        return [
            {
                "rank": rank,
                "allocated_B": float(table["rank_allocated_B"][rank]),
                "reserved_B": float(table["rank_reserved_B"][rank]),
                "needed_B": float(table["rank_needed_B"][rank]),
                "device_B": float(table["rank_device_B"][rank]),
                "in_flight_micro_batches": float(table["in_flight_micro_batches"][rank]),
                "terms_B": {name: float(table[name][rank]) for name in terms},
            }
            for rank in range(pp)
        ]

    @cached_property
    def traffic(self) -> list[dict[str, Any]]:
        """Traffic by class and level: bytes a rank and step, whole job, mean rate, share of the link."""
        rates = (self.value("link_Bps"), self.value("nic_Bps"), self.value("nic_Bps") / self.value("taper"))
        ranks = self.value("accelerator_ranks")
        rows = []
        for name, quantity in TRAFFIC.items():
            sent = np.reshape(self.values[(quantity, None)], (len(communication.LEVELS), -1))[:, 0]
            for level, level_B, rate in zip(communication.LEVELS, sent, rates, strict=True):
                if level_B:
                    mean = float(level_B) / self.step_s
                    rows.append(
                        {
                            "class": name,
                            "level": level,
                            "sent_B_per_rank": float(level_B),
                            "total_B": float(level_B) * ranks,
                            "link_s": float(level_B) / rate,
                            "mean_Bps": mean,
                            "utilisation": mean / rate,
                            "headroom_Bps": rate - mean,
                        }
                    )
        return rows

    # -- explanation

    def explain(self, name: str, depth: int = 3) -> graph.Explanation:
        """The tree under a quantity: equation, inputs with their values, sources."""
        key = self._key(name)
        if not isinstance(key, tuple):
            leaf = self.problem.leaves.get(key)
            unit = units.suffix(key.split("[")[0])
            return graph.Explanation(
                key, None, unit, self.values[key], "", leaf.source if leaf else "layout", (), "leaf"
            )
        return graph.explain(
            self.program,
            self.values,
            key,
            leaf_source=self._leaf_source,
            depth=depth,
            overridden=frozenset(self.overrides),
        )

    def _leaf_source(self, name: str) -> str:
        leaf = self.problem.leaves.get(name)
        return f"{leaf.kind}: {leaf.source}" if leaf else "structure of the layout"

    # -- data

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, SI base units, units in the keys. The shape is versioned by `schema_version`."""
        layout = self.problem.spec.layout
        step, room = self.step_interval, self.memory_interval
        weakest, counts = self.footing
        return {
            "schema_version": SCHEMA_VERSION,
            "spec_hash": self.spec_hash,
            "name": self.problem.spec.name or self.problem.spec.model.name,
            "layout": {
                **layout.model_dump(mode="json", exclude={"recompute", "offload", "overlap", "order"}),
                "recompute": self._recompute(),
                "order": list(layout.order),
                "layers_by_rank": [sum(self._counts(rank).values()) for rank in range(layout.pp or 1)],
            },
            "step": {
                "step_s": self.step_s,
                "lo_s": step.low,
                "hi_s": step.high,
                "interval_cell": step.cell,
                "tokens_per_s": self.value("job_tokens_per_s"),
                "tokens_per_s_per_accelerator": self.value("job_tokens_per_s") / self.problem.spec.cluster.accelerators,
                "model_FLOPps_per_accelerator": self.value("model_FLOPps"),
                "mfu": self.value("mfu"),
                "mfu_convention": "causal model FLOPs over the dense peak of the matmul precision",
                "hfu": self.value("hfu"),
                "peak_FLOPps": self.value("peak_FLOPps") * self.value("ranks_per_accelerator"),
                "parts": self.parts,
            },
            "memory": {
                "peak_B": self.value("peak_B"),
                "lo_B": room.low,
                "hi_B": room.high,
                "interval_cell": room.cell,
                "allocated_B": self.value("allocated_B"),
                "reserved_B": self.value("reserved_B"),
                "device_B": self.value("device_B"),
                "capacity_B": self.value("memory_B"),
                "tags": dict(memory.TAGS),
                "stages": self.stages,
            },
            "traffic": self.traffic,
            "elasticities": dict(self.elasticities),
            "footing": {"weakest": weakest, "leaves": counts},
            "run": {
                "tokens": self.value("training_tokens") or None,
                "steps": self.value("training_steps") or None,
                "uninterrupted_s": self.value("training_s") or None,
            },
            "verdict": verdict(self.feasible, self.violations, [self.memory_open] if self.memory_open else []),
            "notes": [*self.read_as, *self.problem.notes],
            "overrides": {name: float(np.ravel(value)[0]) for name, value in self.overrides.items()},
        }

    def resolved(self) -> dict[str, Any]:
        """The spec with preset, defaults and derived fields filled in. Planning it gives the same plan.

        Fields that have no effect in this layout are left out, because a spec that sets them is refused.
        """
        data = loader.Loaded(self.problem.spec, {}, [], [], Path()).resolved()
        layout = data["layout"]
        if data["model"]["moe"] is None:
            del layout["etp"]
        if layout["sharding"] not in ("zero3", "hsdp"):
            del layout["reshard_after_forward"]
        # a null is the default everywhere but in the model, where it overrules a preset
        return {name: part if name == "model" else _given(part) for name, part in data.items() if part is not None}

    def _recompute(self) -> dict[str, Any]:
        recompute = self.problem.structural()["recompute"]
        return {
            "granularity": recompute.granularity,
            "modules": sorted(recompute.modules),
            "fraction": self.value("recompute_fraction"),
        }

    def _counts(self, rank: int) -> Mapping[str, int]:
        return self.problem.structural()["pipeline"].stages.counts(rank)


def plan(
    spec: schema.Spec | loader.Loaded | str | Path | Mapping[str, Any],
    *,
    sets: Sequence[str] = (),
    overrides: Mapping[str, float] | None = None,
) -> Plan:
    """Plan one run: `spec` is a loaded spec, a path, or plain data; `overrides` fix a quantity for a counterfactual.

    Raises SpecError for what is wrong in the spec. An infeasible layout is an answer: see `Plan.violations`.
    """
    loaded = spec if isinstance(spec, loader.Loaded) else None
    if isinstance(spec, (str, Path, Mapping)):
        loaded = loader.load(spec, sets)
    checked = loaded.spec if loaded else spec
    assert isinstance(checked, schema.Spec)
    try:
        problem = resolve.resolve(checked)
    except errors.SpecError as error:
        if loaded is not None and error.place is None and error.field:
            raise loader.error_at(loaded, error.field, error.message) from None
        raise
    fixed = {name: np.atleast_1d(np.float64(value)) for name, value in (overrides or {}).items()}
    for name in fixed:
        if name not in graph.REGISTRY:
            raise errors.SpecError(f"no quantity {name!r} to override.{near(name, list(graph.REGISTRY))}", field=name)
    values, elasticities, program = _evaluate_one(problem, fixed)
    return Plan(
        problem,
        program,
        values,
        elasticities,
        fixed,
        loaded.spec_hash if loaded else _hash(checked),
        tuple(loaded.read_as) + tuple(loaded.notes) if loaded else (),
    )


def _hash(spec: schema.Spec) -> str:
    import hashlib

    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def near(name: str, known: Sequence[str]) -> str:
    """The names that a misspelt one may stand for, as the end of a message; empty where none is near."""
    import difflib

    found = difflib.get_close_matches(name, known, 3, 0.5)
    return f" Did you mean {', '.join(repr(n) for n in found)}?" if found else ""


def plain(value: Any) -> Any:
    """A value of a plan as plain data: a number, a list of numbers, or text for structure."""
    if isinstance(value, np.ndarray):
        return float(value.flat[0]) if value.size == 1 else [float(one) for one in np.ravel(value)]
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (tuple, frozenset, set)):
        return ", ".join(map(str, value if isinstance(value, tuple) else sorted(value))) or "none"
    for name in ("name", "schedule", "granularity", "kind"):
        if isinstance(text := getattr(value, name, None), str):
            return text
    return type(value).__name__.lower()


def _given(value: Any) -> Any:
    """The data without nulls and without sections that hold nothing."""
    if not isinstance(value, dict):
        return value
    inner = {name: _given(item) for name, item in value.items() if item is not None}
    return {name: item for name, item in inner.items() if item != {}}


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _evaluate_one(
    problem: resolve.Problem, overrides: Mapping[str, Any]
) -> tuple[dict[Any, Any], dict[str, float], graph.Program]:
    """All values of one plan, and d ln(step) / d ln(input) by central differences.

    One batch: the plan is its first row, the other rows have an input a little up and a little down.
    """
    leaves = leaf_values([problem])
    program = program_for(TARGETS, problem, leaves)
    inputs = {**RATES, **DURATIONS}
    rows = 1 + 2 * len(inputs)
    for at, names in enumerate(inputs.values()):
        factors = _factors(rows, at)
        for name in names:
            leaves[name] = leaves[name] * factors
    values = program.run(leaves, overrides)
    step = np.log(np.broadcast_to(values[("step_s", None)], (rows,)))
    slopes = (step[1::2] - step[2::2]) / (np.log1p(ELASTICITY_STEP) - np.log1p(-ELASTICITY_STEP))
    first = {key: value[..., :1] if isinstance(value, np.ndarray) else value for key, value in values.items()}
    return first, dict(zip(inputs, slopes.tolist(), strict=True)), program


@cache
def _factors(rows: int, at: int) -> Array:
    """One for the plan itself and for all rows but two, which have input `at` up and down."""
    factors = np.ones(rows)
    factors[1 + 2 * at] = 1.0 + ELASTICITY_STEP
    factors[2 + 2 * at] = 1.0 - ELASTICITY_STEP
    return factors


# ---------------------------------------------------------------------------------------------------- intervals


@cache
def _error_model() -> dict[str, Any]:
    path = Path(__file__).parent / "spec" / "data" / "error_model.json"
    return json.loads(path.read_text(encoding="utf-8"))


def error_cells(what: str) -> Mapping[str, Mapping[str, Any]]:
    """Cells of measured runs with their 80 % factors, rows and groups; `what`: step or memory."""
    return _error_model()[what]


def cell_names(problem: resolve.Problem) -> tuple[str, ...]:
    """Cells of measured runs from the most specific to the widest: accelerator family x stack x dense or MoE."""
    family, stack = problem.profile.family, problem.stack.name
    kind = "moe" if problem.spec.model.moe else "dense"
    return (
        f"{family} x {stack} x {kind}",
        f"any x {stack} x {kind}",
        f"{family} x any x {kind}",
        f"any x any x {kind}",
        "any",
    )


def interval(problem: resolve.Problem, value: float, what: str) -> Interval:
    """The 80 % interval of a step (`what` = step) or of memory, from the nearest cell that has enough groups."""
    cells = _error_model()[what]
    name = next(n for n in cell_names(problem) if n in cells)
    family = problem.profile.family
    own = any(cell.startswith(f"{family} x ") for cell in cells)
    low, high = value * cells[name]["low"], value * cells[name]["high"]
    return Interval(low, high, name, cells[name]["rows"], "" if own else f"{family} has no measured cell of its own")


# What two plans differ in, from the narrowest: each is the scope of a pool of measured pairs.
SCOPES = {
    "layout": "layout",
    "size": "accelerators, batch or sequence length",
    "precision": "precision",
    "model": "model or training recipe",
    "other": "hardware or software",
}


@dataclass(frozen=True)
class Confidence:
    """The probability that of two plans the one that is predicted faster is faster, and the measured pairs it is from."""

    share: float
    cell: str
    pairs: int
    groups: int


def ranking_confidence(scope: str, kind: str, gap: float) -> Confidence:
    """How sure the order is of two plans whose predicted times per token differ by the factor exp(`gap`).

    `scope` is one of SCOPES; `kind` is dense, moe, or mixed where the plans differ in it.
    """
    table = _error_model()["ranking"]
    name = ranking_cell(table, scope, kind)
    share = float(ranked_rightly(table, name, np.atleast_1d(np.float64(abs(gap))))[0])
    return Confidence(share, name, table["cells"][name]["pairs"], table["cells"][name]["groups"])


def ranking_cell(table: Mapping[str, Any], scope: str, kind: str) -> str:
    """The cell of measured pairs that speaks for a scope and a kind of model."""
    wider = list(SCOPES)[list(SCOPES).index(scope) :]
    names = (f"{scope} x {kind}", *(f"{one} x any" for one in wider))
    return next(name for name in names if name in table["cells"])


def ranked_rightly(table: Mapping[str, Any], cell: str, gap: Array) -> Array:
    """Probability that a predicted gap |ln ratio| has the right sign: error symmetric about it, sized as on measured pairs.

    P(error above -gap) = 1/2 + 1/2 P(|error| below gap). At most (n + 1)/(n + 2), what n groups without a miss can show.
    """
    held = table["cells"][cell]
    below = np.interp(gap, [0.0, *held["noise"]], [0.0, *table["shares"]])
    return np.minimum(0.5 + 0.5 * below, (held["groups"] + 1.0) / (held["groups"] + 2.0))


__all__ = [
    "Confidence", "Interval", "Plan", "error_cells", "evaluate", "interval", "leaf_values", "plan", "program_for",
    "ranking_confidence", "stage_leaves",
]
