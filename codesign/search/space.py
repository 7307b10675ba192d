"""The candidates of a search: which layouts exist for a spec, counted, numbered, and each one a spec again.

A *structure* chooses the graph (pipeline, schedule, chunks, sharding, recompute, placement); under it *rows* are the
valid combinations of degrees, micro-batch and global batch, and *tails* the shares of recomputed and off-loaded layers.
A candidate is (structure, row, tail); its number orders ties, so that every way of walking gives one answer.
Combinations that do not divide are left out here, with their reason; what is left may still be refused by a constraint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import SpecError
from codesign.laws import pipeline as pipelines
from codesign.search import balance, choices
from codesign.spec import domains, profiles, resolve, schema, stacks

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Watch = Callable[[int], None]  # while the candidates are counted, with the structures so far; it may raise to end that

MOST_STRUCTURES = 2_000_000
MOST_ROWS = 5_000_000  # of one pipeline depth: they are held as arrays
MOST_CANDIDATES = 10**10


@dataclass(frozen=True)
class Structure:
    """What chooses the graph. Values as the spec has them; None where the field stays out."""

    pp: int
    schedule: str
    vpp: int
    stages: str | None
    sharding: str
    reshard: bool | None
    granularity: str
    modules: tuple[str, ...]
    sequence_parallel: bool
    cp_style: str | None
    order: tuple[str, ...]
    offload_optimizer: bool
    inner: tuple[tuple[str, Any], ...] = ()
    least_tp: int = 1  # tp 1 has no sequence parallelism and cp 1 no style: they are rows of one structure only
    least_cp: int = 1
    earlier: tuple[tuple[str, ...], ...] = ()  # orders listed before this one: rows that they place alike are theirs

    @property
    def stated(self) -> dict[str, Any]:
        """The inner fields as a spec takes them."""
        return {name: _plain(value) for name, value in self.inner}

    @property
    def rows_key(self) -> tuple[Any, ...]:
        placed = (self.order, self.earlier) if self.earlier else ()
        return (self.pp, self.least_tp, self.least_cp, self.sharding == "hsdp", placed)


@dataclass(frozen=True)
class Rows:
    """Valid combinations of degrees and batch for one pipeline depth, an array a field; why the others are not."""

    fields: Mapping[str, Ints]
    excluded: Mapping[str, int]

    @property
    def count(self) -> int:
        return len(self.fields["tp"])


@dataclass(frozen=True)
class Tails:
    """What varies fastest: the shares of recomputed layers and of off-loaded activations."""

    fraction: Floats
    offload: Floats

    @property
    def count(self) -> int:
        return len(self.fraction)


@dataclass(frozen=True)
class Space:
    """All candidates of one open spec. Build it with `of`."""

    open: domains.Open
    profile: profiles.Profile
    stack: stacks.Stack
    structures: tuple[Structure, ...]
    excluded: Mapping[str, int]  # combinations that do not exist, by the first reason
    sizes: tuple[tuple[int, int], ...]  # (accelerators, those of a scale-up domain; 0: the profile's own)
    searched: Mapping[str, tuple[Any, ...]]  # field -> what is tried
    _rows: dict[Any, Rows] = field(default_factory=dict, compare=False, repr=False)
    _tails: dict[Any, Tails] = field(default_factory=dict, compare=False, repr=False)
    _pipelines: dict[Any, resolve.Pipeline] = field(default_factory=dict, compare=False, repr=False)
    _problems: dict[Any, resolve.Problem] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; what is kept for speed is made there again."""
        return {name: {} if name.startswith("_") else value for name, value in self.__dict__.items()}

    # -- walking

    def rows(self, structure: Structure) -> Rows:
        key = structure.rows_key
        if key not in self._rows:
            self._rows[key] = _rows(self, structure)
        return self._rows[key]

    def tails(self, structure: Structure) -> Tails:
        key = (
            structure.granularity, structure.pp, structure.vpp, structure.schedule, structure.stages, structure.modules,
            structure.offload_optimizer, structure.inner,
        )  # fmt: skip
        if key not in self._tails:
            self._tails[key] = _tails(self, structure)
        return self._tails[key]

    @cached_property
    def starts(self) -> Ints:
        """Number of the first candidate of every structure, and the number of all at the end."""
        sizes = [self.rows(s).count * self.tails(s).count for s in self.structures]
        return np.concatenate(([0], np.cumsum(np.array(sizes, dtype=np.int64))))

    @property
    def size(self) -> int:
        """Candidates: all distinct, and whole in every division."""
        return int(self.starts[-1])

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of every layer of the model."""
        return resolve.layer_kinds(self.open.spec.model)

    # -- one candidate

    def locate(self, index: int) -> tuple[Structure, int, int]:
        at = int(np.searchsorted(self.starts, index, side="right")) - 1
        structure = self.structures[at]
        row, tail = divmod(index - int(self.starts[at]), self.tails(structure).count)
        return structure, row, tail

    def layout(self, index: int) -> dict[str, Any]:
        """The fields of one candidate, dotted, as a spec takes them. Fields without effect stay out."""
        structure, row, tail = self.locate(index)
        return self.fields(structure, row, tail)

    def fields(self, structure: Structure, row: int, tail: int) -> dict[str, Any]:
        rows, tails, moe = self.rows(structure).fields, self.tails(structure), self.open.spec.model.moe
        one = {name: int(values[row]) for name, values in rows.items()}
        out: dict[str, Any] = {
            "tp": one["tp"], "pp": structure.pp, "vpp": structure.vpp, "cp": one["cp"], "ep": one["ep"], "dp": one["dp"],
            "micro_batch": float(rows["micro_batch"][row]) if self._fractional else one["micro_batch"],
            "schedule": structure.schedule, "sharding": structure.sharding, "order": structure.order,
        }  # fmt: skip
        if moe:
            out["etp"] = one["etp"]
        if one["tp"] > 1:
            out["sequence_parallel"] = structure.sequence_parallel
        if one["cp"] > 1:
            out["cp_style"] = structure.cp_style
        if structure.sharding == "hsdp":
            out["sharding_group"] = one["group"]
        if structure.reshard is not None:
            out["reshard_after_forward"] = structure.reshard
        out["stages"] = structure.stages
        out["recompute"] = _recompute(structure, float(tails.fraction[tail]))
        out["offload"] = {"activations": float(tails.offload[tail]), "optimizer": structure.offload_optimizer}
        out.update(structure.stated)
        found = {f"layout.{name}": value for name, value in out.items() if value is not None}
        found[domains.BATCH] = one["batch"]
        found["cluster.accelerators"] = one["accelerators"]
        if one["domain"]:
            found["cluster.override"] = {"scale_up.domain": float(one["domain"])}
        return found

    def said(self, layout: Mapping[str, Any], domain: float | None) -> dict[str, Any]:
        """Columns for what few searches state: fields that stacks settle by themselves, partly filled racks."""
        written = [name for name in choices.INNER if self.searched[name] != (None,)]
        found = {name: layout.get(name) for name in written}
        found = {name: str(value) if isinstance(value, tuple | Mapping) else value for name, value in found.items()}
        return found | ({"scale_up_domain": domain} if any(domain for _, domain in self.sizes) else {})

    @property
    def overridden(self) -> profiles.Profile | None:
        """The profile with the spec's overrides, where a candidate adds none of its own."""
        return None if any(domain for _, domain in self.sizes) else self.profile

    @property
    def _fractional(self) -> bool:
        return any(v != int(v) for v in self.searched["micro_batch"])

    def spec(self, index: int) -> schema.Spec:
        """The candidate as a spec: planning it gives the numbers that the sweep had."""
        return self.to_spec(self.layout(index))

    def to_spec(self, fields: Mapping[str, Any]) -> schema.Spec:
        base = self.open.spec
        layout = {name.removeprefix("layout."): value for name, value in fields.items() if name.startswith("layout.")}
        cluster = {"accelerators": fields["cluster.accelerators"]}
        if "cluster.override" in fields:
            cluster["override"] = {**base.cluster.override, **fields["cluster.override"]}
        return base.model_copy(
            update={
                "layout": schema.Layout.model_validate(layout),
                "training": base.training.model_copy(update={"global_batch_sequences": fields[domains.BATCH]}),
                "cluster": base.cluster.model_copy(update=cluster),
                "search": None,
            }
        )


def _plain(value: Any) -> Any:
    """A section as the fields that are given."""
    return value.model_dump(exclude_none=True) if isinstance(value, schema.Section) else value


def _recompute(structure: Structure, fraction: float) -> Any:
    if structure.granularity == "none":
        return "none"
    if structure.granularity == "full":
        return {"granularity": "full", "fraction": fraction}
    return {"granularity": "selective", "modules": structure.modules, "fraction": fraction}


# ---------------------------------------------------------------------------------------------------- what is tried


def unwatched(structures: int) -> None:
    """Nobody waits for the count."""


def of(opened: domains.Open, watch: Watch = unwatched) -> Space:
    """The space of an open spec. Raises SpecError for what contradicts itself, and for a space that cannot be walked.

    `watch` is called every so often; what it raises ends the count.
    """
    spec = opened.spec
    try:
        profile = profiles.load(spec.cluster.profile, override=spec.cluster.override, fabric=spec.cluster.fabric)
        stack = resolve.stack_of(spec)
        sizes = choices.sizes(opened, profile)
        tried = choices.tried(opened, profile, stack, max(size for size, _ in sizes) * profile.ranks_per_accelerator)
        structures, lost = _structures(opened, tried, choices.costs(opened, profile, tried), watch)
        space = Space(opened, profile, stack, (), {}, sizes, tried)
        existing, excluded = _existing(space, structures, watch)
        excluded.update(lost)
        filled = {reason: count for reason, count in excluded.items() if count}
        whole = replace(space, structures=tuple(existing), excluded=filled)
        if existing:
            problem(whole, existing[0])  # what no layout can mend is refused before the walk
    except SpecError as error:
        if error.place is not None or not error.field:
            raise
        raise opened.error(error.field, error.message) from None
    for structure in existing:
        watch(len(existing))
        whole.tails(structure)
    if whole.size > MOST_CANDIDATES:
        raise opened.error("layout", f"{whole.size:.3g} candidates, more than {MOST_CANDIDATES:.0e} can be walked: fix or list "
                           f"some fields; most values have {choices.widest(tried)}")  # fmt: skip
    return whole


# ---------------------------------------------------------------------------------------------------- structures


def _structures(
    opened: domains.Open, tried: Mapping[str, tuple[Any, ...]], costs: Sequence[balance.Costs], watch: Watch
) -> tuple[list[Structure], dict[str, int]]:
    excluded: Counter[str] = Counter()
    layers = opened.spec.model.layers
    pipes: list[Any] = []

    def count_on() -> None:
        watch(len(pipes))

    for pp in tried["pp"]:
        pipes += [(pp, *one) for one in _pipelines(opened, pp, tried, layers, excluded, costs, count_on)]
    inner = {sharding: _inner(tried, sharding) for sharding in tried["sharding"]}
    shardings = [(*one, more) for one in _shardings(tried) for more in inner[one[0]]]
    rest: tuple[list[Any], ...] = (
        shardings, list(dict.fromkeys(map(_granularity, tried["recompute"]))), list(_parallel(tried)), list(_styles(tried)),
        list(enumerate(tried["order"])), list(dict.fromkeys(o.optimizer for o in tried["offload"])),
    )  # fmt: skip
    count = math.prod(len(one) for one in (pipes, *rest))
    if count > MOST_STRUCTURES:
        raise opened.error("layout", f"{count:,} combinations of pipeline, sharding, recompute and placement, more than "
                           f"{MOST_STRUCTURES:,} can be held: fix or list some fields; most values have "
                           f"{choices.widest(tried)}")  # fmt: skip
    watch(count)
    found = [
        Structure(
            pp, schedule, vpp, stages, sharding, reshard, granularity, modules, sp, cp_style, order, optimizer, more,
            least_tp, least_cp, tried["order"][:at],
        )
        for pp, schedule, vpp, stages in pipes
        for (sharding, reshard, more), (granularity, modules), (sp, least_tp), (cp_style, least_cp), (at, order), optimizer
        in product(*rest)
    ]  # fmt: skip
    return found, dict(excluded)


def _inner(tried: Mapping[str, tuple[Any, ...]], sharding: str) -> list[tuple[tuple[str, Any], ...]]:
    """Combinations of the fields that are as the stack has them unless they are written; prefetch is of sharded parameters."""
    names = [name for name in choices.INNER if name != "prefetch" or sharding in choices.FULLY]
    rows = product(*(tried[name] for name in names))
    return [tuple((n, v) for n, v in zip(names, row, strict=True) if v is not None) for row in rows]


def _granularity(recompute: Any) -> tuple[str, tuple[str, ...]]:
    if isinstance(recompute, tuple):
        recompute = recompute[0]
    if isinstance(recompute, str):
        return (recompute, ("core_attn",)) if recompute == "selective" else (recompute, ())
    modules = recompute.modules
    return recompute.granularity, modules or (("core_attn",) if recompute.granularity == "selective" else ())


def _same_stages(spec: schema.Spec, kinds: tuple[str, ...], text: str, pp: int, vpp: int, schedule: str) -> bool:
    """Whether a layout string says what the stack does by itself."""
    default, own = (
        resolve.stages_of(spec.model, schema.Layout(pp=pp, vpp=vpp, schedule=schedule, stages=stages), kinds)
        for stages in (None, text)
    )
    return default.chunks == own.chunks and all(
        a.counts == b.counts for x, y in zip(default.chunks, own.chunks, strict=True) for a, b in zip(x, y, strict=True)
    )


def _pipelines(
    opened: domains.Open,
    pp: int,
    tried: Mapping[str, tuple[Any, ...]],
    layers: int,
    excluded: Counter[str],
    costs: Sequence[balance.Costs],
    count_on: Callable[[], None],
) -> Iterator[tuple[str, int, str | None]]:
    """Schedule, chunks and stage assignment for one pipeline depth."""
    kinds = resolve.layer_kinds(opened.spec.model)
    if pp == 1:
        if 1 in tried["vpp"]:
            yield "none", 1, None
        else:
            excluded["vpp"] += 1
        return
    for schedule in tried["schedule"]:
        for vpp in tried["vpp"]:
            count_on()
            if pp * vpp > layers + 2 and not any(s not in (None, "balanced") for s in tried["stages"]):
                excluded["layers"] += "vpp" in opened.domains
                continue
            reason = pipelines.valid(schedule, pp, vpp, 1e6 * pp)
            if reason is not None:
                excluded["schedule"] += "vpp" in opened.domains and "schedule" in opened.domains
                continue
            for stages in tried["stages"]:
                if stages != "balanced":
                    yield schedule, vpp, stages
                    continue
                texts = list(dict.fromkeys(balance.layout(cost, pp, vpp, count_on) for cost in costs))
                own = [text for text in texts if _same_stages(opened.spec, kinds, text, pp, vpp, schedule)]
                if own and None not in tried["stages"]:
                    yield schedule, vpp, None
                yield from ((schedule, vpp, text) for text in texts if text not in own)


def _shardings(tried: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, bool | None]]:
    for sharding in tried["sharding"]:
        if sharding in choices.FULLY:
            for reshard in tried["reshard_after_forward"]:
                yield sharding, reshard
        else:
            yield sharding, None


def _parallel(tried: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[bool, int]]:
    """Sequence parallelism, and the least tp of its rows: tp 1 has none, and is under the first."""
    for at, flag in enumerate(tried["sequence_parallel"]):
        yield bool(flag), 1 if at == 0 else 2


def _styles(tried: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str | None, int]]:
    if set(tried["cp"]) == {1}:
        yield None, 1
        return
    for at, style in enumerate(tried["cp_style"]):
        yield style, 1 if at == 0 else 2


# ---------------------------------------------------------------------------------------------------- rows, tails


def _existing(space: Space, structures: Sequence[Structure], watch: Watch) -> tuple[list[Structure], Counter[str]]:
    """The structures that have rows and whose stages can be; what does not exist, by reason."""
    excluded: Counter[str] = Counter()
    found: list[Structure] = []
    refusal: SpecError | None = None
    for structure in structures:
        watch(len(structures))
        rows, shares = space.rows(structure), len(_shares(space, structure))
        for reason, count in rows.excluded.items():
            excluded[reason] += count * shares
        try:
            _stages_of(space, structure)
        except SpecError as error:
            refusal = refusal or error
            excluded["stages"] += rows.count * shares
            continue
        if rows.count:
            found.append(structure)
    if refusal is not None and excluded.keys() == {"stages"} and not found:
        raise refusal  # the stages that are written fit no pipeline
    return found, excluded


def _rows(space: Space, structure: Structure) -> Rows:
    """Every combination of degrees and batch, held against what divides what; the first thing that fails is the reason."""
    tried, spec = space.searched, space.open.spec
    model, moe = spec.model, spec.model.moe
    rpa = space.profile.ranks_per_accelerator
    sizes = np.array(space.sizes, dtype=np.int64)
    tps = [v for v in tried["tp"] if v >= structure.least_tp]
    cps = [v for v in tried["cp"] if v >= structure.least_cp]
    scale = choices.FRACTION if space._fractional else 1
    micro = [round(v * scale) for v in tried["micro_batch"]]
    axes = [range(len(sizes)), tps, cps, tried["ep"], tried["etp"], micro]
    total = int(np.prod([len(axis) for axis in axes], dtype=object))
    if total > MOST_ROWS:
        raise space.open.error(
            "layout",
            f"{total:,} combinations of degrees for pp {structure.pp} alone, more than {MOST_ROWS:,} "
            "can be held: list or fix some of layout.tp, cp, ep, etp, micro_batch, or search.idle_accelerators",
        )
    grid = np.meshgrid(*(np.array(axis, dtype=np.int64) for axis in axes), indexing="ij")
    at, tp, cp, ep, etp, mb = (axis.ravel() for axis in grid)
    accelerators, domain = sizes[at, 0], sizes[at, 1]
    ranks = accelerators * rpa
    inner = tp * structure.pp * cp
    dp = ranks // inner
    kv_heads = model.heads if model.mla else model.kv_heads or model.heads
    tests: list[tuple[str, Any]] = [
        ("ranks", ranks % inner == 0),
        ("dp", np.isin(dp, tried["dp"]) if tried["dp"] else dp > 0),
        ("heads", model.heads % tp == 0),
        ("KV heads", (kv_heads % tp == 0) | (tp % kv_heads == 0)),
        ("FFN", (model.ffn or 0) % tp == 0),
        ("sequence", spec.training.sequence_length % np.where(cp > 1, 2 * cp, 1) == 0),
    ]
    if moe:
        tests += [
            ("experts", moe.experts % ep == 0),
            ("expert FFN", (moe.expert_ffn % etp == 0) & ((etp <= tp) | ("etp" in space.open.domains))),
            ("expert mesh", (tp * cp * dp) % (ep * etp) == 0),
        ]
    alive = np.ones(tp.shape, dtype=bool)
    excluded: dict[str, int] = {}
    batches = np.array(space.open.batch.values, dtype=np.int64)
    for reason, holds in tests:
        excluded[reason] = int(np.count_nonzero(alive & ~holds)) * len(batches)
        alive &= holds
    valid = (batches * scale) % (dp[alive] * mb[alive])[:, np.newaxis] == 0
    excluded["batch"] = int(valid.size - np.count_nonzero(valid))
    row, which = np.nonzero(valid)
    fields = {
        "tp": tp,
        "cp": cp,
        "ep": ep,
        "etp": etp,
        "dp": dp,
        "micro_batch": mb,
        "accelerators": accelerators,
        "domain": domain,
    }
    fields = {name: values[alive][row] for name, values in fields.items()}
    fields["batch"] = batches[which]
    if scale > 1:
        fields["micro_batch"] = fields["micro_batch"] / scale
    fields["group"] = fields["dp"] * fields["cp"]
    if structure.earlier:
        anew = _placed_anew(structure, fields)
        fields = {name: values[anew] for name, values in fields.items()}
    if structure.sharding == "hsdp":
        fields, excluded["sharding group"] = _with_groups(fields, tried["sharding_group"])
    return Rows(fields, {reason: count for reason, count in excluded.items() if count})


def _placed_anew(structure: Structure, fields: Mapping[str, Ints]) -> NDArray[np.bool_]:
    """Rows that the structure's order lays on the network in another way than the orders before it do."""
    names = ("tp", "cp", "ep", "dp")
    code = sum((fields[name] > 1).astype(np.int64) << at for at, name in enumerate(names))
    anew = []
    for bits in range(2 ** len(names)):
        spread = {name for at, name in enumerate(names) if bits >> at & 1} | ({"pp"} if structure.pp > 1 else set())
        own = _placement(structure.order, spread)
        anew.append(all(_placement(order, spread) != own for order in structure.earlier))
    return np.array(anew)[code]


def _placement(order: Sequence[str], spread: set[str]) -> tuple[Any, ...]:
    """What of an order counts where only the dimensions `spread` have more than one rank; experts have a mesh of their own."""
    after = order.index("ep") > order.index("dp") if "ep" in spread else None
    return (*(name for name in order if name in spread and name != "ep"), after)


def _with_groups(fields: dict[str, Ints], given: tuple[int, ...]) -> tuple[dict[str, Ints], int]:
    """A row for every shard group that divides dp x cp and is neither one rank nor all of them."""
    keep: list[int] = []
    groups: list[int] = []
    lost = 0
    for row, ranks in enumerate(fields["group"].tolist()):
        groups_here = given or tuple(choices.divisors(ranks)[1:-1])
        fitting = [g for g in groups_here if ranks % g == 0]
        lost += len(groups_here) - len(fitting)
        keep += [row] * len(fitting)
        groups += fitting
    out = {name: values[keep] for name, values in fields.items()}
    out["group"] = np.array(groups, dtype=np.int64)
    return out, lost


def _shares(space: Space, structure: Structure) -> list[tuple[float, float]]:
    """Shares of recomputed layers and of off-loaded activations that a structure tries."""
    tried = space.searched
    shares: list[float] = []
    for recompute in tried["recompute"]:
        if _granularity(recompute) != (structure.granularity, structure.modules):
            continue
        if isinstance(recompute, tuple):
            layers = _chunk_layers(space, structure)
            shares += [k / layers for k in range(1, layers + 1)]
        else:
            shares.append(recompute.fraction if isinstance(recompute, schema.Recompute) else 1.0)
    distinct = list(dict.fromkeys(share for share in shares if share > 0.0 or structure.granularity == "none")) or [0.0]
    moved = dict.fromkeys(o.activations for o in tried["offload"] if o.optimizer == structure.offload_optimizer)
    return [(share, part) for share in distinct for part in moved]


def _tails(space: Space, structure: Structure) -> Tails:
    shares = np.array(_shares(space, structure), dtype=np.float64)
    return Tails(shares[:, 0], shares[:, 1])


def _chunk_layers(space: Space, structure: Structure) -> int:
    """Layers of the largest model chunk: whole numbers of them are recomputed; 1 where some chunk has one layer only."""
    try:
        ranks = _stages_of(space, structure).stages.chunks
    except SpecError:
        return 1  # it is left out
    held = [chunk.layers for chunks in ranks for chunk in chunks if chunk.layers]
    return max(held) if held and min(held) > 1 else 1


# ---------------------------------------------------------------------------------------------------- problems


def _stages_of(space: Space, structure: Structure) -> resolve.Pipeline:
    """The pipeline of a structure. Raises SpecError where its stages cannot be as stated."""
    key = (structure.pp, structure.vpp, structure.schedule, structure.stages, structure.inner)
    if key not in space._pipelines:
        ends = {name: value for name, value in structure.inner if name.endswith("_stage_layers")}
        layout = schema.Layout(
            pp=structure.pp, vpp=structure.vpp, schedule=structure.schedule, stages=structure.stages, **ends
        )
        stages = resolve.stages_of(space.open.spec.model, layout, space.kinds)
        space._pipelines[key] = resolve.Pipeline(structure.schedule, structure.pp, structure.vpp, stages)
    return space._pipelines[key]


def problem(space: Space, structure: Structure) -> resolve.Problem:
    """What resolving any candidate of this structure gives; the sweep puts arrays in the place of its degrees."""
    key = (structure.sharding, structure.inner)
    if key not in space._problems:
        space._problems[key] = resolve.resolve(space.to_spec(space.fields(structure, 0, 0)), profile=space.overridden)
    base = space._problems[key]
    replaced = {
        "pipeline": _stages_of(space, structure),
        "sharding": resolve.Sharding(
            structure.sharding, bool(structure.reshard), dict(structure.inner).get("prefetch") is not False
        ),
        "recompute": resolve.Recompute(structure.granularity, frozenset(structure.modules)),
        "sequence_parallel": structure.sequence_parallel,
        "cp_style": structure.cp_style or "none",
        "order": structure.order,
        "offload_optimizer": structure.offload_optimizer,
    }
    return replace(base, structure=tuple(sorted({**base.structural(), **replaced}.items(), key=lambda item: item[0])))


__all__ = ["Rows", "Space", "Structure", "Tails", "Watch", "of", "problem", "unwatched"]
