"""Hardware profiles: one YAML file a chip, every number with its value, source, kind and date.

`load` reads one profile (and the one it inherits from), puts a named fabric in place of its scale-out network and
applies the overrides of a spec. All rates are per accelerator and per direction; `Profile.per_rank` divides them where
one accelerator holds several parallel ranks. How to add a chip: `hardware_profiles/README.md`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from codesign import units
from codesign.errors import Place, ProfileError
from codesign.spec import datafiles
from codesign.spec.schema import Section

Kind = Literal["measured", "fitted", "datasheet", "assumed"]
OVERRIDE_SOURCE = "spec override"
_MAX_FILE_B = 1_000_000  # a profile is about 20 kB
_MAX_DEPTH = 12  # the C composer of YAML dies on deep nesting, so depth is bounded while reading
_NEEDS_UNIT = ("B", "Bps", "FLOPps", "s", "W")  # a bare number is refused: bit or byte, GB or GiB is the usual mistake


# ---------------------------------------------------------------------------------------------------- the data model


class Datum(Section):
    """One number with its footing. `source` is a key of the profile's `sources` (several are joined by ` + `);
    `date` is when that source was read (a citation pins its version), or `spec` for an override."""

    value: float
    source: Annotated[str, Field(min_length=1)]
    kind: Kind
    date: Annotated[str, Field(pattern=r"^(\d{4}(-\d{2}){0,2}|spec)$")]
    note: str | None = None


def _reads(unit: str, *, zero: bool = False, whole: bool = False) -> BeforeValidator:
    """Read `value` of a datum in the base unit `unit`; positive (or zero where `zero`), an integer where `whole`."""

    def read(raw: object) -> object:
        if isinstance(raw, Datum):
            return raw
        if not isinstance(raw, Mapping):
            raise ValueError(f"{raw!r} has no source: write {{value: {units.example(unit)}, source:, kind:, date:}}")
        if "value" not in raw:
            return raw
        bare = unit not in _NEEDS_UNIT or isinstance(raw["value"], float)  # text comes from people, a float from code
        number = units.parse(raw["value"], unit, bare=bare)
        if number < 0 or (number == 0 and not zero):
            raise ValueError(f"{raw['value']!r} must be {'at least 0' if zero else 'above 0'}")
        if whole and number != int(number):
            raise ValueError(f"{raw['value']!r} must be a whole number")
        return {**raw, "value": number}

    return BeforeValidator(read)


FlopRate = Annotated[Datum, _reads("FLOPps")]
Capacity = Annotated[Datum, _reads("B")]
Ramp = Annotated[Datum, _reads("B", zero=True)]
Rate = Annotated[Datum, _reads("Bps")]
Duration = Annotated[Datum, _reads("s", zero=True)]
Power = Annotated[Datum, _reads("W")]
Ratio = Annotated[Datum, _reads("1")]
Share = Annotated[Datum, _reads("1", zero=True)]
Number = Annotated[Datum, _reads("1", whole=True)]


class Peaks(Section):
    """Dense peak by the dtype of the operands, no sparsity."""

    fp32: FlopRate | None = None
    tf32: FlopRate | None = None
    bf16: FlopRate | None = None
    fp16: FlopRate | None = None
    fp8: FlopRate | None = None
    fp4: FlopRate | None = None
    int8: FlopRate | None = None

    @model_validator(mode="after")
    def _sixteen_bits(self) -> Peaks:
        if self.bf16 is None and self.fp16 is None:
            raise ValueError("the peak of bf16 or of fp16 is missing")
        return self


class Accelerator(Section):
    peak_FLOPps: Peaks
    memory_B: Capacity
    memory_Bps: Rate
    l2_B: Capacity | None = None
    sms: Number | None = None  # SMs, compute units or cores that a GEMM's tiles are dealt to; null: not known
    tdp_W: Power | None = None
    power_limit_W: Power | None = None  # the set point, where it is below TDP
    boost_Hz: Ratio | None = None


class Gemm(Section):
    """t = launch + cast + (t_compute^3 + t_memory^3)^(1/3): form G4 of the operator fits.

    `efficiency` is the share of dense peak held in a long steady run, `burst_efficiency` that of a short cold one; a
    GEMM longer than about `throttle_s` runs at the first. `k0` columns of k are lost to prologue and epilogue,
    `wave_loss` is the share of the last wave's idle time that is not hidden, `memory_efficiency` the share of the
    memory bandwidth. Valid for m, n, k of 128 and up.
    """

    efficiency: Ratio
    burst_efficiency: Ratio
    launch_s: Duration
    k0: Share
    wave_loss: Share
    memory_efficiency: Ratio
    throttle_s: Duration


class GemmByDtype(Section):
    """`bf16` serves every 16-bit matmul; `fp8` is per-tensor scaling with its cast, `fp8_block` blockwise scaling."""

    bf16: Gemm
    fp8: Gemm | None = None
    fp8_block: Gemm | None = None
    nvfp4: Gemm | None = None
    int8: Gemm | None = None


class AttentionFit(Section):
    """Causal forward: t = launch + 2 b h d s (s + s0) / (peak x efficiency)."""

    efficiency: Ratio
    s0: Share
    launch_s: Duration


class Attention(Section):
    by_head_dim: dict[int, AttentionFit]
    backward_ratio: Ratio  # backward time over forward time
    mla_backward_ratio: Ratio  # the same for query-key and value heads of unlike size (192/128)

    @model_validator(mode="after")
    def _some_head(self) -> Attention:
        if not self.by_head_dim:
            raise ValueError("by_head_dim needs at least one head size")
        return self


class Elementwise(Section):
    """Memory-bound operators: t = launch + bytes / (memory bandwidth x efficiency)."""

    efficiency: Ratio
    launch_s: Duration


class GroupedGemm(Section):
    """Experts' GEMM: share of dense peak = efficiency x T / (T + half_tokens), T tokens an expert."""

    efficiency: Ratio
    half_tokens: Share


class Kernels(Section):
    gemm: GemmByDtype
    attention: Attention
    elementwise: Elementwise
    grouped_gemm: GroupedGemm


class CollectiveFit(Section):
    """t = latency + (W/B)(1 + sqrt(half/W)), W = bytes a rank puts on the wire, B = bandwidth_fraction x link."""

    latency_s: Duration
    bandwidth_fraction: Ratio  # above 1 only where the switch reduces: W counts bytes that then never travel
    half_B: Ramp


class Collectives(Section):
    all_gather: CollectiveFit
    reduce_scatter: CollectiveFit
    all_reduce: CollectiveFit
    all_to_all: CollectiveFit
    p2p: CollectiveFit


class ScaleUp(Section):
    """The level inside which accelerators share a fast fabric. `collectives` holds at `ranks` ranks, `pair` at two.

    On a torus `link_Bps` adds up the links of one accelerator, `p2p_Bps` is one link, and `collectives` is a group
    along one of the `axes`; a group that spans k axes has k times the bandwidth.
    """

    domain: Number
    link_Bps: Rate
    topology: Literal["nvswitch", "switch", "torus", "mesh", "pcie"]
    axes: Number | None = None  # torus only
    p2p_Bps: Rate | None = None  # between two neighbours, where it is less than link_Bps
    in_network_reduction: bool
    in_network_min_ranks: Number | None = None
    ranks: Number  # group size of the measurements in `collectives`
    collectives: Collectives
    pair: Collectives

    @model_validator(mode="after")
    def _topology(self) -> ScaleUp:
        if (self.topology == "torus") != (self.axes is not None):
            raise ValueError("axes belongs to a torus, and a torus needs it")
        if self.in_network_reduction and self.in_network_min_ranks is None:
            raise ValueError("in_network_reduction needs in_network_min_ranks")
        return self


class ScaleOut(Section):
    """Beyond the scale-up domain: t = latency + hops + (W/(nic x efficiency))(1 + sqrt(half/W)) + intra_fraction x
    the time of the inner level."""

    nic_Bps: Rate
    efficiency: Ratio
    half_B: Ramp
    latency_s: Duration
    hop_s: Duration  # for every further node
    intra_fraction: Share
    rail_group: Number  # accelerators reachable through one leaf switch
    pod: Number  # accelerators at full bisection
    taper: Ratio  # oversubscription above the pod; 1 = none
    pod_latency_s: Duration  # added where a group leaves its pod


class Node(Section):
    accelerators_per_node: Number


class Profile(Section):
    """One accelerator with its kernels and its networks. `scale_out` null: nothing beyond the scale-up domain."""

    name: str
    vendor: str
    status: Literal["shipping", "announced"]
    family: str
    ranks_per_accelerator: Annotated[int, Field(ge=1, le=16)] = 1
    sources: dict[str, str]
    notes: tuple[str, ...] = ()
    accelerator: Accelerator
    kernels: Kernels
    host_link_Bps: Rate
    scale_up: ScaleUp
    scale_out: ScaleOut | None = None
    node: Node
    fabric: str | None = None  # name of the fabric that replaced the profile's own scale_out

    @model_validator(mode="after")
    def _kernels_have_peaks(self) -> Profile:
        peaks, gemm = self.accelerator.peak_FLOPps, self.kernels.gemm
        for dtype, peak in (("fp8", "fp8"), ("fp8_block", "fp8"), ("nvfp4", "fp4"), ("int8", "int8")):
            if getattr(gemm, dtype) is not None and getattr(peaks, peak) is None:
                raise ValueError(f"kernels.gemm.{dtype} is given, accelerator.peak_FLOPps.{peak} is missing")
        return self

    def data(self) -> dict[str, Datum]:
        """Every number of the profile under its dotted name, in the order of the file."""
        return dict(_walk(self, ""))

    def citation(self, datum: Datum) -> str:
        """The full citation of a datum's source."""
        return "; ".join(self.sources.get(key, key) for key in datum.source.split(" + "))

    def per_rank(self) -> Profile:
        """The same hardware counted in parallel ranks: compute, memory, power and bandwidth divided by
        `ranks_per_accelerator`, counts of accelerators multiplied by it; shares and durations stay."""
        ranks = self.ranks_per_accelerator
        if ranks == 1:
            return self
        tree = self.model_dump()
        for key, datum in self.data().items():
            _leaf(tree, key)["value"] = datum.value * _rank_factor(key, ranks)
        return Profile.model_validate({**tree, "ranks_per_accelerator": 1})


def _rank_factor(key: str, ranks: int) -> float:
    """What a number of the accelerator is multiplied by to stand for one of its ranks."""
    name = key.rsplit(".", 1)[-1]
    if name in ("domain", "rail_group", "pod", "accelerators_per_node"):
        return float(ranks)
    shared = key.startswith("accelerator.") and name != "boost_Hz"
    return 1.0 / ranks if shared or name in ("host_link_Bps", "link_Bps", "p2p_Bps", "nic_Bps", "half_B") else 1.0


def _walk(value: object, key: str) -> Iterator[tuple[str, Datum]]:
    if isinstance(value, Datum):
        yield key, value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _walk(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _walk(item, f"{key}.{name}")


def _leaf(tree: dict[Any, Any], key: str) -> dict[Any, Any]:
    for part in key.split("."):
        tree = tree[int(part) if part not in tree else part]
    return tree


class Fabric(Section):
    """A named scale-out network. `match` lists the texts of measured rows that it stands for, `accelerators` the
    profiles to which those texts are confined (empty: any)."""

    name: str
    description: str
    sources: dict[str, str]
    scale_out: ScaleOut | None
    match: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------- reading


Marks = dict[tuple[str, ...], tuple[int, int]]  # path of a key -> line and column, zero-based


def _fail(message: str, path: Path, field: str | None = None, mark: tuple[int, int] | None = None) -> ProfileError:
    if mark is None:
        return ProfileError(f"{path}: {message}", field=field)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    text = lines[mark[0]] if mark[0] < len(lines) else ""
    return ProfileError(message, field=field, place=Place(str(path), mark[0] + 1, mark[1] + 1, text))


def _read(path: Path) -> tuple[dict[str, Any], Marks]:
    """The mapping in a YAML file, every scalar as text (so that no YAML 1.1 rule turns `1e4`, `no` or a date into
    something else), and where each key stands. Aliases, duplicate keys, several documents and deep nesting are refused.
    """
    try:
        if path.stat().st_size > _MAX_FILE_B:
            raise _fail(f"larger than {_MAX_FILE_B} bytes: not a profile", path)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _fail(f"not UTF-8 text: {error.reason} at byte {error.start}", path) from error
    try:
        tree, marks = _build(text, path)
    except yaml.YAMLError as error:
        at: Any = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _fail(f"not valid YAML: {problem}", path, mark=(at.line, at.column) if at else None) from error
    if not isinstance(tree, dict):
        raise _fail("a profile is a mapping of fields", path)
    return tree, marks


def _build(text: str, path: Path) -> tuple[Any, Marks]:
    """Containers from the parser's events, without recursion."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    marks: Marks = {}
    done: list[Any] = []  # the document, once it has begun
    stack: list[tuple[Any, tuple[str, ...]]] = []
    key: list[str | None] = []  # per open mapping: the key that waits for its value
    for event in yaml.parse(text, Loader=loader):
        start: Any = event.start_mark
        mark = (start.line, start.column)
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
            key.pop()
            continue
        if isinstance(event, yaml.AliasEvent):
            raise _fail("aliases (*name) are not used in profiles", path, mark=mark)
        if not isinstance(event, yaml.NodeEvent):
            continue
        if not stack:
            if done:
                raise _fail("one file holds one profile; this is a second document", path, mark=mark)
            here: tuple[str, ...] = ()
        elif isinstance(stack[-1][0], dict):
            parent, above = stack[-1]
            if key[-1] is None:
                if not isinstance(event, yaml.ScalarEvent):
                    raise _fail("a key must be text", path, mark=mark)
                if event.value in parent:
                    raise _fail(f"duplicate key {event.value!r}", path, ".".join((*above, event.value)), mark)
                key[-1] = event.value
                marks[(*above, event.value)] = mark
                parent[event.value] = None
                continue
            here = (*above, key[-1])
        else:
            here = (*stack[-1][1], str(len(stack[-1][0])))
        node: Any
        if isinstance(event, yaml.ScalarEvent):
            node = None if event.implicit[0] and event.value in ("", "~", "null") else event.value
        else:
            node = {} if isinstance(event, yaml.MappingStartEvent) else []
        if not stack:
            done.append(node)
        elif isinstance(stack[-1][0], dict):
            stack[-1][0][key[-1]] = node
            key[-1] = None
        else:
            stack[-1][0].append(node)
        if isinstance(node, (dict, list)):
            if len(stack) >= _MAX_DEPTH:
                raise _fail(f"nested deeper than {_MAX_DEPTH} levels", path, mark=mark)
            stack.append((node, here))
            key.append(None)
    return (done[0] if done else None), marks


def _merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Field-wise: mappings merge, a datum or any other value of the child stands for the parent's."""
    merged = dict(parent)
    for name, value in child.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and "value" not in {*old, *value}:
            merged[name] = _merge(old, value)
        else:
            merged[name] = value
    return merged


def _folder() -> Path:
    return datafiles.root("hardware_profiles")


def names() -> list[str]:
    """The shipped profiles, sorted."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def fabric_names() -> list[str]:
    """The shipped scale-out networks, sorted."""
    return sorted(path.stem for path in (_folder() / "fabrics").glob("*.yaml"))


def _near(word: str, allowed: Sequence[str]) -> str:
    """The names that go on from the word (h100: h100-sxm-80gb, ...), else the one most like it."""
    begun = [name for name in allowed if len(word) >= 2 and name.startswith(word.lower())]
    near = begun or difflib.get_close_matches(word, allowed, 1, 0.4)
    return f". Did you mean {' or '.join(map(repr, near[:4]))}?" if near else "."


def _locate(name: str, folder: Path, what: str, listing: Callable[[], list[str]], field: str) -> Path:
    """A shipped name, or a path to a YAML file."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name).expanduser()
    shipped = folder / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    known = listing()
    raise ProfileError(
        f"unknown {what} {name!r}{_near(name, known)} Known: {', '.join(known)}; or a path to a YAML file", field=field
    )


def _resolve(path: Path) -> tuple[dict[str, Any], list[tuple[Path, Marks]]]:
    """The fields of a profile with those it inherits, and the files they came from, nearest first."""
    raw, marks = _read(path)
    files = [(path, marks)]
    parent_name = raw.pop("inherits", None)
    if parent_name is None:
        return raw, files
    at = marks[("inherits",)]
    if not isinstance(parent_name, str):
        raise _fail("inherits names one profile", path, "inherits", at)
    beside = path.parent / f"{parent_name}.yaml"
    parent_path = beside if beside.is_file() else _locate(parent_name, _folder(), "profile", names, "inherits")
    if parent_path.resolve() == path.resolve():
        raise _fail(f"cyclic inherits: {path.stem} inherits from itself", path, "inherits", at)
    parent, parent_marks = _read(parent_path)
    grandparent = parent.pop("inherits", None)
    if grandparent == path.stem:
        pair = f"{path.stem} and {parent_path.stem} inherit from each other"
        raise _fail(f"cyclic inherits: {pair}", path, "inherits", at)
    if grandparent is not None:
        why = f"{parent_path.stem} itself inherits from {grandparent}"
        raise _fail(f"inherits goes one level deep: {why}", path, "inherits", at)
    return _merge(parent, raw), [*files, (parent_path, parent_marks)]


T = TypeVar("T", bound=Section)


def _validate(model: type[T], raw: Mapping[str, Any], files: Sequence[tuple[Path, Marks]]) -> T:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = min(error.errors(), key=lambda item: item["type"] == "missing")  # a typo explains a missing field
        where = tuple(str(part) for part in first["loc"] if part != "[key]")
        raise _explain(model, first, where, files) from error


def _explain(
    model: type[Section], error: Any, where: tuple[str, ...], files: Sequence[tuple[Path, Marks]]
) -> ProfileError:
    """One sentence for one error of pydantic, placed on the nearest written key."""
    field = ".".join(where)
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, where[:-1])
        message = f"unknown field {field!r}{_near(where[-1], allowed)} Allowed: {', '.join(allowed)}"
    elif error["type"] == "missing":
        message = f"field {field!r} is missing"
    elif error["type"] == "value_error":
        message = f"{field}: {error['ctx']['error']}" if field else str(error["ctx"]["error"])
    else:
        given = error["input"] if isinstance(error["input"], str) else type(error["input"]).__name__
        message = f"{field}: {given!r} is not allowed: {error['msg']}"
    for depth in range(len(where), 0, -1):
        for path, marks in files:
            if where[:depth] in marks:
                return _fail(message, path, field, marks[where[:depth]])
    return _fail(message, files[0][0], field)


def _fields_at(model: type[Section], where: Sequence[str]) -> list[str]:
    """The field names allowed at a path of the data model."""
    found: Any = model
    for part in where:
        fields = getattr(found, "model_fields", {})
        annotation = fields[part].annotation if part in fields else found
        found = next((kind for kind in _sections(annotation)), found)
    return list(found.model_fields)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)


def load_fabric(name_or_path: str) -> Fabric:
    """A named scale-out network, or one from a YAML file."""
    path = _locate(name_or_path, _folder() / "fabrics", "fabric", fabric_names, "cluster.fabric")
    raw, marks = _read(path)
    return _validate(Fabric, raw, [(path, marks)])


@functools.lru_cache(maxsize=1)
def _matches() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    table: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for name in fabric_names():
        fabric = load_fabric(name)
        for text in fabric.match:
            table.setdefault(text, []).append((fabric.accelerators, name))
    return table


def fabric_for(scale_out_text: str, accelerator: str) -> str | None:
    """The fabric that stands for the words of a measured row's `hardware.scale_out`, or None where none does."""
    for accelerators, name in _matches().get(scale_out_text, []):
        if not accelerators or accelerator in accelerators:
            return name
    return None


def load(name_or_path: str, override: Mapping[str, object] | None = None, fabric: str | None = None) -> Profile:
    """One profile: by its shipped name or by a path to a YAML file, with a fabric and overrides of a spec.

    `override` maps dotted fields (`scale_out.nic_Bps`) to a number or to text with a unit. An overridden number is of
    kind `assumed`, source `spec override`. Raises ProfileError with the place, the field and the nearest name.
    """
    path = _locate(str(name_or_path), _folder(), "profile", names, "cluster.profile")
    given = tuple((key, _text(value)) for key, value in (override or {}).items())
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror}", field="cluster.profile") from error
    return _load(path, stamp, given, fabric)


def _text(value: object) -> str:
    """Overrides are read as text, so that a number without a unit is refused where a unit is needed."""
    return value if isinstance(value, str) else repr(value)


@functools.lru_cache(maxsize=512)
def _load(path: Path, _stamp: int, override: tuple[tuple[str, str], ...], fabric: str | None) -> Profile:
    raw, files = _resolve(path)
    if "fabric" in raw:
        raise _fail("unknown field 'fabric': a fabric is named in the spec (cluster.fabric)", path, "fabric")
    profile = _validate(Profile, raw, files)
    if fabric is not None:
        net = load_fabric(fabric)
        update = {"scale_out": net.scale_out, "fabric": net.name, "sources": {**profile.sources, **net.sources}}
        profile = profile.model_copy(update=update)
    return _overridden(profile, override) if override else profile


def _overridden(profile: Profile, override: tuple[tuple[str, str], ...]) -> Profile:
    tree = profile.model_dump()
    known = settable(profile)
    for key, value in override:
        if key not in known:
            raise ProfileError(
                f"unknown profile field {key!r} in cluster.override{_near(key, known)}", field=f"cluster.override.{key}"
            )
        *above, name = key.split(".")
        parent: dict[Any, Any] = _leaf(tree, ".".join(above)) if above else tree
        datum = {"value": value, "source": OVERRIDE_SOURCE, "kind": "assumed", "date": "spec"}
        parent[int(name) if name.isdigit() else name] = datum
    try:
        return Profile.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
        raise ProfileError(f"cluster.override: {key}: {reason}", field=f"cluster.override.{key}") from error


def settable(profile: Profile) -> list[str]:
    """The dotted names that an override may set: every number of the profile, and those that it leaves out."""
    return list(_slots(profile, ""))


def _slots(value: object, key: str) -> Iterator[str]:
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            below = f"{key}.{name}" if key else name
            item = getattr(value, name)
            if isinstance(item, Datum) or (item is None and Datum in _sections(info.annotation)):
                yield below
            else:
                yield from _slots(item, below)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _slots(item, f"{key}.{name}")


# ---------------------------------------------------------------------------------------------------- plausibility

# name of a number -> the range in which the accelerators and networks of 2017 to 2027 lie, with room on both sides
_RANGES: dict[str, tuple[float, float]] = {
    "memory_B": (8e9, 2e12),
    "memory_Bps": (3e11, 5e13),
    "l2_B": (1e6, 1e9),
    "tdp_W": (50, 5000),
    "boost_Hz": (2e8, 5e9),
    "host_link_Bps": (5e9, 2e12),
    "link_Bps": (5e9, 1e13),
    "p2p_Bps": (5e9, 1e13),
    "nic_Bps": (5e8, 1e12),
    "latency_s": (1e-7, 1e-2),
    "hop_s": (0, 1e-3),
    "pod_latency_s": (0, 1e-2),
    "launch_s": (0, 2e-4),
    "throttle_s": (0, 1),
    "k0": (0, 4096),
    "wave_loss": (0, 1),
    "half_B": (0, 2**30),
    "s0": (0, 4096),
    "backward_ratio": (1.5, 5),
    "mla_backward_ratio": (1.5, 5),
    "half_tokens": (0, 4096),
    "intra_fraction": (0, 1),
    "taper": (1, 64),
}


def check(profile: Profile) -> list[str]:
    """Findings that make a profile implausible: sources not listed, numbers out of range, rates that contradict each
    other. An empty list is a clean bill; a finding is a remark, the profile still loads."""
    found = []
    for key, datum in profile.data().items():
        name = key.rsplit(".", 1)[-1]
        missing = [part for part in datum.source.split(" + ") if part not in profile.sources]
        if missing and datum.source != OVERRIDE_SOURCE:
            found.append(f"{key}: source {missing[0]!r} is not listed under sources")
        if name.endswith("efficiency") and not 0 < datum.value <= 1:
            found.append(f"{key}: {datum.value:g} is not in (0, 1]")
        low, high = _RANGES.get(name, (-float("inf"), float("inf")))
        if not low <= datum.value <= high:
            found.append(f"{key}: {datum.value:g} is outside the plausible {low:g} to {high:g}")
        if name == "bandwidth_fraction":
            in_switch = profile.scale_up.in_network_reduction and key.startswith("scale_up.collectives.all_reduce.")
            if datum.value > (1.5 if in_switch else 1.0):
                found.append(f"{key}: {datum.value:g} of the link, and no switch reduces there")
    return found + _check_compute(profile) + _check_network(profile)


def _check_compute(profile: Profile) -> list[str]:
    part, found = profile.accelerator, []
    peaks = {name: datum.value for name in Peaks.model_fields if (datum := getattr(part.peak_FLOPps, name))}
    half = peaks.get("bf16", peaks.get("fp16", 0.0))
    if not 1e13 <= half <= 2e16:
        found.append(f"accelerator.peak_FLOPps: 16-bit peak {half:.3g} is outside 1e13 to 2e16")
    # dense peak over the 16-bit one; more than 2 and 4 where a part spends its area on inference formats (Rubin)
    for name, low, high in (("fp32", 0.02, 1), ("tf32", 0.2, 1), ("fp8", 1, 4.5), ("fp4", 1, 9), ("int8", 0.05, 2.01)):
        ratio = peaks[name] / half if name in peaks else low
        if not low <= ratio <= high:
            found.append(f"accelerator.peak_FLOPps.{name}: {ratio:.3g} of the 16-bit peak, plausible {low} to {high}")
    intensity = half / part.memory_Bps.value
    if not 20 <= intensity <= 1500:
        found.append(f"accelerator.memory_Bps: {intensity:.0f} FLOP a byte at peak, plausible 20 to 1500")
    if part.tdp_W and part.power_limit_W and part.power_limit_W.value > part.tdp_W.value:
        found.append("accelerator.power_limit_W is above tdp_W")
    for dtype in GemmByDtype.model_fields:
        gemm = getattr(profile.kernels.gemm, dtype)
        if gemm and gemm.burst_efficiency.value < gemm.efficiency.value:
            found.append(f"kernels.gemm.{dtype}: burst_efficiency is below the sustained efficiency")
    return found


def _check_network(profile: Profile) -> list[str]:
    up, out, found = profile.scale_up, profile.scale_out, []
    if up.p2p_Bps and up.p2p_Bps.value > up.link_Bps.value:
        found.append("scale_up.p2p_Bps is above link_Bps")
    if out is None:
        return found
    if up.domain.value > 1 and out.nic_Bps.value > up.link_Bps.value * 1.1:
        found.append("scale_out.nic_Bps is above scale_up.link_Bps")
    if out.rail_group.value > out.pod.value:
        found.append("scale_out.rail_group is above pod")
    return found
