"""How large a spec may be that a page plans: a server has other visitors. Measured: at each limit a plan takes about 2 s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codesign.spec import load, schema
from codesign.spec.load import Loaded

MOST_LAYERS = 10_000
MOST_STAGES = 4_096  # pp x vpp
MOST_PHASES = 64
MOST_SITES = 32  # entries; the count of an entry costs nothing
MOST_LINKS = 250
MOST_PLANS = 128  # entries of sites x phases
MOST_IDLE = 10_000  # each count of accelerators that may work is searched


def check(loaded: Loaded) -> None:
    """Refuse what would take a page too long. Raises SpecError with the field."""
    spec = loaded.spec
    for field, what, number, most in (*_sizes(spec), *_stages(spec)):
        if number > most:
            raise load.error_at(loaded, field, f"{field}: {number:,} {what}, more than the {most:,} that are planned here; "
                                "codesign plan on the command line has no such limit")  # fmt: skip


def _sizes(spec: schema.Spec) -> Iterator[tuple[str, str, int, int]]:
    """Field, what is counted, how many, at most."""
    phases = len(spec.run.phases) if spec.run else 0
    yield "model.layers", "layers", spec.model.layers, MOST_LAYERS
    yield "run.phases", "phases", phases, MOST_PHASES
    yield "sites", "entries", len(spec.sites), MOST_SITES
    yield "links", "links", len(spec.links), MOST_LINKS
    yield "run.phases", "phases times entries of sites", max(phases, 1) * max(len(spec.sites), 1), MOST_PLANS
    if spec.search:
        yield "search.idle_accelerators", "idle accelerators", spec.search.idle_accelerators, MOST_IDLE


def _stages(spec: schema.Spec) -> Iterator[tuple[str, str, int, int]]:
    """The same of the pipelines: that of the spec, of each site, of each phase. What a site or phase leaves out is the spec's."""
    own = spec.layout.model_dump(include={"pp", "vpp"})
    inner: list[tuple[str, dict[str, Any]]] = [("layout", {})]
    inner += [
        (f"sites.{at}.layout", site.layout.model_dump(include=site.layout.model_fields_set & {"pp", "vpp"}))
        for at, site in enumerate(spec.sites) if site.layout
    ]
    inner += [(f"run.phases.{at}.layout", dict(phase.layout)) for at, phase in enumerate(spec.run.phases if spec.run else ())]
    for field, changed in inner:
        pp, vpp = ((changed.get(name, own[name]) or 1) for name in ("pp", "vpp"))
        if isinstance(pp, int) and isinstance(vpp, int):  # what is no number is refused by the plan
            yield f"{field}.pp", "stages (pp x vpp)", pp * vpp, MOST_STAGES
