"""Several sites: the `links:` and `sync:` sections, what contradicts what, and what the sites of a spec are.

`sites:` (in `schema`) lists clusters; each takes the fields of the spec's own `cluster` and `layout` that it does not
write itself. With `sites`, `cluster` is the template; without, it is the one site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from codesign import units
from codesign.spec.fields import Bytes, BytesPerS, Count, InHours, InMilliseconds, Section, Whole

if TYPE_CHECKING:
    from codesign.spec import schema

MOST_SITES = 256
ALL = ("all",)
LINK_UNITS = {"bandwidth": "Bps", "round_trip": "s", "window": "B", "packet": "B"}
PACKET_B = {"go-back-n": 4096.0, "tcp": 1460.0}  # RoCE's largest MTU; the usual TCP segment on Ethernet


def _ends(value: object) -> object:
    if value == "all":
        return ALL
    if isinstance(value, list | tuple):
        if tuple(value) == ALL:
            return ALL
        if len(value) == 2 and all(isinstance(name, str) for name in value):
            return tuple(value)
    raise ValueError("two names of sites are wanted, as in [west, east], or all: each site has a port to a common network")


def _name(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is not a name: letters, digits, '.', '_' and '-', at most 63, a letter or digit first")
    return value


_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
SiteName = Annotated[
    str, Field(strict=True), BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
Ends = Annotated[
    tuple[str, ...],
    BeforeValidator(_ends),
    WithJsonSchema(
        {"anyOf": [{"enum": ["all"]}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}]}
    ),
]
# a number takes a bit at the least: what is left out of an exchange altogether is not planned
Bits = Annotated[float, Field(strict=True, ge=1, le=64)]


class Link(Section):
    """A connection between two sites, or with `between: all` the port of every site to a common network.

    Its length is `route_km` of fibre or the measured `round_trip`; `share`: what of the bandwidth is ours.
    """

    between: Ends
    bandwidth: BytesPerS  # per direction
    route_km: Annotated[float, Field(strict=True, ge=0, le=1e6)] | None = None
    round_trip: InMilliseconds | None = None
    loss: Annotated[float, Field(strict=True, ge=0, le=0.5)] = 0.0  # share of the packets
    transport: Literal["lossless", "go-back-n", "selective-repeat", "tcp", "multipath"] = "lossless"
    flows: Count | None = None  # side by side; tcp needs it, and so do several paths
    window: Bytes | None = None  # unacknowledged bytes of a flow; null: as much as the line holds
    packet: Bytes | None = None  # default 4,096 B (go-back-n), 1,460 B (tcp)
    paths: Count = 1  # parallel paths that share the bandwidth evenly, flows placed on them at random
    share: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0


class Copies(Section):
    """A copy of the checkpoint that goes from a site to another one at an interval."""

    source: str
    target: str
    every: InHours


class Sync(Section):
    """How several sites train one model. The default: synchronous data parallelism, nothing overlapped."""

    strategy: Literal["synchronous", "pipeline", "semi-synchronous", "mixed"] = "synchronous"
    exchange: Literal["ring", "direct"] | None = None  # default: the faster of the two at the stated numbers
    overlap: Literal["none", "backward", "one-step-late"] = "none"  # of synchronous gradients
    chunks: Count = 1  # pieces in which gradients go through site and WAN
    gradient_bits: Bits | None = None  # of a gradient on the WAN; default: as inside a site
    inner_steps: Count | None = None  # H: steps between two outer steps
    fragments: Count = 1  # the model is exchanged in as many pieces, one after the other
    delay: Annotated[float, Field(strict=True, ge=0, le=1e6)] = 0.0  # inner steps beside which a fragment travels
    outer_bits: Bits = 32.0  # of an outer gradient on the WAN
    in_flight: Whole = 0  # pipeline: more micro-batches in flight before a crossing
    data_from: str | None = None  # the site that holds the training data; null: every site has its own copy
    checkpoints: Copies | None = None


_USES = {  # strategy -> fields of its own
    "synchronous": ("exchange", "overlap", "chunks", "gradient_bits"),
    "pipeline": ("in_flight",),
    "semi-synchronous": ("exchange", "inner_steps", "fragments", "delay", "outer_bits"),
    "mixed": ("exchange", "overlap", "chunks", "gradient_bits", "inner_steps", "fragments", "delay", "outer_bits"),
}
_FIELDS = tuple(dict.fromkeys(name for names in _USES.values() for name in names))


@dataclass(frozen=True)
class Member:
    """One site: its name, its region, its own whole cluster and layout, and which entry of `sites` it is."""

    name: str
    region: str | None
    cluster: schema.Cluster
    layout: schema.Layout
    entry: int


def members(spec: schema.Spec) -> tuple[Member, ...]:
    """The sites of a spec, counts written out, each with the fields of the template that it does not write."""
    found = []
    for entry, site in enumerate(spec.sites):
        cluster, layout = _cluster(spec, site), _layout(spec, site)
        names = [site.name] if site.count == 1 else [f"{site.name}-{number}" for number in range(1, site.count + 1)]
        found += [Member(name, site.region, cluster, layout, entry) for name in names]
    return tuple(found)


def _cluster(spec: schema.Spec, site: schema.Site) -> schema.Cluster:
    own, base = site.cluster, spec.cluster
    if own is None:
        return base
    same = own.profile is None or own.profile == base.profile
    return base.model_copy(update={
        "profile": own.profile or base.profile,
        "accelerators": own.accelerators or base.accelerators,
        "fabric": own.fabric or (base.fabric if same else None),
        "override": {**base.override, **own.override} if same else own.override,
    })


def _layout(spec: schema.Spec, site: schema.Site) -> schema.Layout:
    """The layout with the site's changes; what the template derives from its ranks, tp or pp does not hold for others."""
    changes = {name: getattr(site.layout, name) for name in site.layout.model_fields_set} if site.layout else {}
    ranks = {"tp", "pp", "cp"} & changes.keys() or _cluster(spec, site) != spec.cluster
    stale = ["dp"] if ranks else []
    for degree, follows in (("pp", "schedule"), ("tp", "sequence_parallel")):
        if degree in changes and (changes[degree] == 1) != (getattr(spec.layout, degree) == 1):
            stale.append(follows)
    return spec.layout.model_copy(update={**dict.fromkeys(stale), **changes})


def sync_of(spec: schema.Spec) -> Sync:
    return spec.sync or Sync()


# ---------------------------------------------------------------------------------------------------- conflicts

Problem = tuple[str, str]  # dotted field, message


def conflicts(spec: schema.Spec) -> Iterator[Problem]:
    """What no single field of `sites`, `links` and `sync` can tell."""
    if not spec.sites:
        for name, given in (("links", spec.links), ("sync", spec.sync)):
            if given:
                yield name, f"{name} has no effect without sites: list the sites that it joins"
        return
    found = members(spec)
    names = [one.name for one in found]
    if len(names) > MOST_SITES:
        yield "sites", f"sites: {len(names)} sites are more than the {MOST_SITES} that are planned one by one"
        return
    seen: set[str] = set()
    for one in found:
        if one.name in seen:
            yield f"sites.{one.entry}.name", f"sites: the name {one.name!r} is given twice"
        if one.name == "all":
            yield f"sites.{one.entry}.name", "sites: 'all' is the word for every site, not a name"
        seen.add(one.name)
    if len(names) == 1:
        for name, given in (("links", spec.links), ("sync", spec.sync)):
            if given:
                yield name, f"{name} has no effect: {names[0]!r} is the only site"
        return
    wrong = [*_links(spec, names)]
    yield from wrong
    if not wrong:
        yield from _unreached(spec, names)
    yield from _sync(spec, found)


def _links(spec: schema.Spec, names: Sequence[str]) -> Iterator[Problem]:
    pairs: dict[frozenset[str], int] = {}
    for place, link in enumerate(spec.links):
        at = f"links.{place}"
        for name in link.between if link.between != ALL else ():
            if name not in names:
                yield f"{at}.between", f"links: unknown site {name!r}.{_near(name, names)}"
        if len(link.between) == 2 and link.between[0] == link.between[1]:
            yield f"{at}.between", f"links: a link from {link.between[0]!r} to itself has no effect"
        pair = frozenset(link.between)
        if pair in pairs:
            what = f"{' - '.join(link.between)} is given in links.{pairs[pair]} already"
            yield f"{at}.between", f"links: {what}: write one link with the bandwidth of both"
        pairs.setdefault(pair, place)
        if (link.route_km is None) == (link.round_trip is None):
            both = "are both given: keep one of them" if link.route_km is not None else "are both missing: write one of them"
            yield at, f"{at}.route_km and round_trip {both}"
        yield from _transport(link, at)


def _transport(link: Link, at: str) -> Iterator[Problem]:
    kind = link.transport
    if link.loss and kind == "lossless":
        yield f"{at}.loss", f"{at}.loss {link.loss:g} contradicts transport lossless: name the transport that repairs it"
    if kind == "tcp" and link.flows is None:
        yield at, f"{at}.flows is missing: the TCP flows that run side by side"
    if link.packet is not None and kind not in PACKET_B:
        yield f"{at}.packet", f"{at}.packet has no effect with transport {kind}"
    if link.paths > 1 and link.flows is None and kind not in ("tcp", "multipath"):
        yield at, f"{at}.flows is missing: the flows that are placed on its {link.paths} paths, or write transport multipath"
    if link.flows is not None and kind != "tcp" and (kind == "multipath" or link.paths == 1) and link.window is None:
        yield f"{at}.flows", f"{at}.flows has no effect with transport {kind} over one path and no window"
    if kind == "multipath" and link.paths > 1:
        yield f"{at}.paths", f"{at}.paths has no effect with transport multipath: packets are sprayed over all of the bandwidth"
    if link.round_trip is not None and link.round_trip == 0 and link.window is not None:
        yield f"{at}.window", f"{at}.window has no effect: the round trip is 0"


def _unreached(spec: schema.Spec, names: Sequence[str]) -> Iterator[Problem]:
    if any(link.between == ALL for link in spec.links):
        return
    reached, edge = {names[0]}, [names[0]]
    while edge:
        here = edge.pop()
        for link in spec.links:
            if here in link.between:
                more = set(link.between) - reached
                reached |= more
                edge += sorted(more)
    if missing := [name for name in names if name not in reached]:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        where = "links" if spec.links else "sites"
        yield where, f"links: no path from {names[0]!r} to {shown}: every site must be joined to the others"


def _sync(spec: schema.Spec, found: Sequence[Member]) -> Iterator[Problem]:
    sync, names = sync_of(spec), [one.name for one in found]
    default = Sync()
    for name in _FIELDS:
        if name not in _USES[sync.strategy] and getattr(sync, name) != getattr(default, name):
            yield f"sync.{name}", f"sync.{name} has no effect with strategy {sync.strategy}"
    outer = sync.strategy in ("semi-synchronous", "mixed")
    if outer and sync.inner_steps is None:
        yield "sync", f"sync.inner_steps is missing: the steps between two outer steps of strategy {sync.strategy}"
    if outer and sync.inner_steps is not None and sync.delay >= sync.inner_steps:
        why = "an outer step that is late by a whole round is not planned: it costs 0.7 to 13 % of loss (arXiv 2502.12996)"
        yield "sync.delay", f"sync.delay {sync.delay:g} must be below sync.inner_steps {sync.inner_steps}: {why}"
    if outer and sync.fragments > spec.model.layers:
        yield "sync.fragments", f"sync.fragments {sync.fragments} is more than model.layers {spec.model.layers}"
    if outer and sync.inner_steps is not None and sync.fragments > sync.inner_steps:
        yield "sync.fragments", f"sync.fragments {sync.fragments} is more than sync.inner_steps {sync.inner_steps}: one a step"
    if sync.strategy in ("synchronous", "mixed") and sync.overlap == "backward" and sync.chunks == 1:
        why = "in one piece, gradients are whole only when the backward pass ends; write sync.chunks, for example 16"
        yield "sync.overlap", f"sync.overlap backward has no effect with one chunk: {why}"
    if not outer and sync.overlap == "one-step-late" and sync.chunks > 1:
        yield "sync.chunks", "sync.chunks has no effect one step late: the whole step hides the exchange"
    if sync.strategy == "mixed":
        yield from _regions(spec, found)
    for name, field in ((sync.data_from, "data_from"), *(
        ((sync.checkpoints.source, "checkpoints.source"), (sync.checkpoints.target, "checkpoints.target"))
        if sync.checkpoints else ()
    )):
        if name is not None and name not in names:
            yield f"sync.{field}", f"sync.{field}: unknown site {name!r}.{_near(name, names)}"
    if sync.checkpoints and sync.checkpoints.source == sync.checkpoints.target:
        yield "sync.checkpoints.target", "sync.checkpoints: a copy from a site to itself does not travel"
    if sync.checkpoints and sync.checkpoints.every == 0:
        yield "sync.checkpoints.every", "sync.checkpoints.every must be above 0"


def _regions(spec: schema.Spec, found: Sequence[Member]) -> Iterator[Problem]:
    without = [one for one in found if one.region is None]
    if without:
        yield f"sites.{without[0].entry}", f"sites: {without[0].name!r} has no region: strategy mixed is synchronous within one"
        return
    regions = {one.region for one in found}
    if len(regions) == 1:
        yield "sync.strategy", "sync.strategy mixed needs several regions: write synchronous"
    elif len(regions) == len(found):
        yield "sync.strategy", "sync.strategy mixed needs a region of several sites: write semi-synchronous"


def _near(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1, 0.5)
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return f" Did you mean {near[0]!r}?" if near else f" Known: {shown}"


# ---------------------------------------------------------------------------------------------------- canonical form


def canonical(spec: schema.Spec) -> dict[str, Any]:
    """`sites`, `links` and `sync` as plain data without nulls, quantities as text; what is left out stays out."""
    from codesign.spec import load

    data: dict[str, Any] = {}
    if spec.sites:
        data["sites"] = [_without_none(site.model_dump(mode="json", exclude_unset=True)) for site in spec.sites]
        for site in data["sites"]:
            for name, value in ((site.get("cluster") or {}).get("override") or {}).items():
                if (unit := load.override_unit(name)) is not None:
                    site["cluster"]["override"][name] = f"{load.read_override(name, value)!r} {units.base(unit)}"
    if spec.links:
        data["links"] = [
            {name: f"{value!r} {units.base(LINK_UNITS[name])}" if name in LINK_UNITS else value
             for name, value in _without_none(link.model_dump(mode="json")).items()}
            for link in spec.links
        ]
    if spec.sync is not None:
        data["sync"] = _without_none(spec.sync.model_dump(mode="json"))
        if "checkpoints" in data["sync"]:
            data["sync"]["checkpoints"]["every"] = f"{data['sync']['checkpoints']['every']!r} s"
    return data


def _without_none(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_none(inner) for name, inner in value.items() if inner is not None}


__all__ = ["Copies", "Link", "Member", "SiteName", "Sync", "canonical", "conflicts", "members", "sync_of"]
