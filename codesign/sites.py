"""What several sites put into a run: leaves, index sets and structure of their part of its graph.

Routes and exchanges are structure, found here in plain Python (`codesign.wan`); sizes and rates are leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from codesign import planner, wan
from codesign.errors import SpecError
from codesign.laws import semisync, states, transport
from codesign.quantities.parameters import count_parameters
from codesign.site_steps import Steps, stage_counts, steps
from codesign.spec import schema
from codesign.spec.made import Made
from codesign.spec.sites import ALL, PACKET_B, Link, Sync, sync_of

TARGETS = (
    "wan_utilisation", "sync_loss_multiplier", "sync_loss_multiplier_low", "effective_compute_share",
    "effective_compute_share_high", "sites_gain", "even_split_factor",
)
_DATA_TOKEN_B = 4.0  # a token as a 32-bit number, where the spec has no input section


@dataclass(frozen=True)
class Exchange:
    """Who sends what to whom: shares of the gradient message, of the outer message, crossings of a pipeline, the rest."""

    network: wan.Network
    kind: str  # ring | direct
    groups: tuple[tuple[str, ...], ...]  # replicas: sites that take every step together
    gradient: wan.Flows
    gradient_rounds: float
    outer: wan.Flows
    outer_rounds: float
    gather: wan.Flows
    crossings: tuple[tuple[str, str], ...]
    ingest: wan.Flows
    checkpoint: wan.Flows


def leaves(spec: schema.Spec, made: Made, phases: Mapping[str, planner.Plan]) -> None:
    """Put what the sites of a spec add to a run; nothing where the spec has none. One site adds nothing but itself."""
    if not spec.sites:
        return
    if fixed := sorted({name for plan in phases.values() for name in plan.overrides}):
        why = "nothing is set by hand over sites, each of which has a step of its own"
        raise SpecError(f"{', '.join(fixed)}: {why}", field="sites")
    own = {phase: steps(_like(plan.problem.spec, spec)) for phase, plan in phases.items()}
    first = next(iter(own.values()))
    names = [site.name for site in first.members]
    made.structure["site_steps"] = own
    accelerators = sum(site.cluster.accelerators for site in first.members)
    if "run_accelerators" in made.leaves:  # with failures it is a quantity: spares come on top
        made.put("run_accelerators", accelerators, "spec", "accelerators of all sites")
    for phase, found in own.items():
        made.leaves.pop(f"phase_healthy_step_s[{phase}]", None)
        for name, plan in different(found).items():
            made.indexes["phase_site"] = (*made.indexes.get("phase_site", ()), f"{phase}/{name}")
            _site_leaves(made, phase, name, plan)
    held = {(site.cluster.accelerators, site.cluster.profile) for site in first.members}
    if (spec.cluster.accelerators, spec.cluster.profile) not in held:
        what = f"{spec.cluster.accelerators:,} {spec.cluster.profile}"
        made.notes.append(f"cluster, {what}, is only the template of the sites: none of them is like it")
    if len(names) == 1:
        made.notes.append(f"one site, {names[0]!r}: as without sites")
        return
    sync = sync_of(spec)
    exchange = exchange_of(spec, first)
    made.structure |= {"exchange": exchange, "sync_overlap": sync.overlap, "first_phase": next(iter(own))}
    made.targets += [name for name in TARGETS if name not in made.targets]
    made.targets += ["way_mean_share", "allows_background"]
    _size_leaves(made, spec, sync, own, exchange)
    _link_leaves(made, spec)
    _exchange_leaves(made, spec, sync, exchange, own)
    _notes(made, spec, sync, exchange)


def _like(phase: schema.Spec, spec: schema.Spec) -> schema.Spec:
    """The spec of a phase with the sites of the run."""
    return phase.model_copy(update={"sites": spec.sites, "links": spec.links, "sync": spec.sync})


def different(found: Steps) -> dict[str, planner.Plan]:
    """The first site of every different step: equal sites with equal work share a plan."""
    first: dict[int, str] = {}
    for name, plan in found.plans.items():
        first.setdefault(id(plan), name)
    return {name: found.plans[name] for name in first.values()}


def _site_leaves(made: Made, phase: str, name: str, plan: planner.Plan) -> None:
    pp = plan.problem.structural()["pipeline"].pp
    kind, source = plan.footing[0], f"the step of site {name}"
    made.put(f"phase_site_step_s[{phase}/{name}]", plan.step_s, kind, source)
    window_s = pp * plan.value("slowest_backward_s")
    made.put(f"phase_site_window_s[{phase}/{name}]", window_s, kind, f"{source}: one backward pass through all stages")
    scatter_s = float(np.max(plan.values[("dp_gradient_s", None)])) if ("dp_gradient_s", None) in plan.values else 0.0
    made.put(f"phase_site_scatter_s[{phase}/{name}]", scatter_s, kind, f"{source}: gradients reduced once")


def _size_leaves(
    made: Made, spec: schema.Spec, sync: Sync, own: Mapping[str, Steps], exchange: Exchange
) -> None:
    first = next(iter(own.values()))
    count = count_parameters(spec.model)
    plan = next(iter(first.plans.values()))
    made.put("run_parameters", count.total + count.mtp, "spec", "all parameters of the model")
    width = plan.value("reduce_B") if sync.gradient_bits is None else sync.gradient_bits / 8
    made.put("wan_gradient_B", width, "spec", "sync.gradient_bits" if sync.gradient_bits else "gradients as inside a site")
    made.put("outer_element_B", sync.outer_bits / 8, "spec", "sync.outer_bits")
    made.put("outer_momentum_B", 4.0, "assumed", "Nesterov momentum in fp32")
    made.put("outer_copy_B", 4.0, "assumed", "parameters of the last outer step in fp32")
    made.put("inner_steps", sync.inner_steps or 1, "spec", "sync.inner_steps")
    made.put("replicas", len(exchange.groups), "spec", "sites, or regions, that take steps of their own")
    for name, value in (("chunks", sync.chunks), ("fragments", sync.fragments), ("delay", sync.delay),
                        ("in_flight", sync.in_flight)):
        made.put(f"sync_{name}", value, "spec", f"sync.{name}")
    plans = list(first.plans.values())
    made.put("weakest_ranks", min(p.value("accelerator_ranks") for p in plans), "spec", "ranks of the smallest site")
    made.put("weakest_memory_Bps", min(p.value("elementwise_Bps") for p in plans), plan.footing[0], "site of least bandwidth")
    made.put(
        "least_spare_B", min(p.value("memory_B") - p.value("peak_B") for p in plans), plan.footing[0],
        "memory that the step leaves on the fullest rank of any site",
    )
    kept_B = max(_micro_batch_B(p) for p in plans)
    made.put("micro_batch_memory_B", kept_B, plan.footing[0], "activations of a micro-batch on the fullest rank")
    for phase, found in own.items():
        p = found.plans[found.pacing]
        made.put(f"phase_alone_step_s[{phase}]", found.alone_s, p.footing[0], "the fastest site with the whole batch")
        made.put(f"phase_even_step_s[{phase}]", found.even_s, p.footing[0], "the batch split evenly over the sites")
        sent_B = p.value("dp") * p.value("micro_batch") * p.value("sequence_tokens") * p.value("hidden")
        made.put(f"phase_crossing_B[{phase}]", sent_B * p.value("activation_B"), "spec", "activations of a micro-batch")
        made.put(f"phase_micro_batches[{phase}]", p.value("micro_batches"), "spec", "training, layout")
        each_s = p.value("slowest_forward_s") + p.value("slowest_backward_s")
        made.put(f"phase_micro_batch_s[{phase}]", each_s, p.footing[0], "forward and backward of the slowest stage")
    token_B = spec.input.bytes_per_token if spec.input else _DATA_TOKEN_B
    made.put("data_token_B", token_B, "spec" if spec.input else "assumed", "input.bytes_per_token, 4 B where left out")
    master_B, moment_B = plan.value("master_B"), plan.value("moment_B")
    moments = 1.0 if plan.problem.structural()["optimizer"] in ("sgd", "muon") else 2.0
    size = states.checkpoint_B(*(np.array([float(n)]) for n in (count.total, master_B, moment_B, moments)))
    made.put("checkpoint_copy_B", float(size[0]), "spec", "master weights and moments (EQ-10)")
    made.put("checkpoint_copy_every_s", sync.checkpoints.every if sync.checkpoints else 1.0, "spec", "sync.checkpoints.every")
    made.put("wan_factor", 1.0, "spec", "links as stated")
    made.put("wan_extra_s", 0.0, "spec", "links as stated")


def _micro_batch_B(plan: planner.Plan) -> float:
    kept, held = (np.ravel(plan.values[(name, None)]) for name in ("activation_memory_B", "in_flight_micro_batches"))
    return float(np.max(kept / held))


def one_way_s(link: Link) -> float:
    if link.round_trip is not None:
        return link.round_trip / 2
    return float(transport.one_way_s(np.array([link.route_km or 0.0]))[0])


def link_name(link: Link) -> str:
    return "+".join(link.between)


def edges(spec: schema.Spec, names: tuple[str, ...]) -> list[wan.Edge]:
    found = []
    for link in spec.links:
        late, line = one_way_s(link), link.bandwidth * link.share
        pairs = [(name, wan.HUB) for name in names] if link.between == ALL else [(link.between[0], link.between[1])]
        found += [wan.Edge(a, b, link_name(link), late * (0.5 if b == wan.HUB else 1.0), line) for a, b in pairs]
    return found


def _link_leaves(made: Made, spec: schema.Spec) -> None:
    made.indexes["link"] = tuple(link_name(link) for link in spec.links)
    for entry, link in enumerate(spec.links):
        name, at, port = link_name(link), f"links.{entry}", link.between == ALL
        made.structure[f"link_transport[{name}]"] = link.transport
        for leaf, value, source in (
            ("line_Bps", link.bandwidth, f"{at}.bandwidth"), ("usable_share", link.share, f"{at}.share"),
            ("loss", link.loss, f"{at}.loss"), ("paths", link.paths, f"{at}.paths"),
            ("flows", link.flows or 1, f"{at}.flows"),
            ("packet_B", link.packet or PACKET_B.get(link.transport, 4096.0), f"{at}.packet"),
            ("window_B", np.inf if link.window is None else link.window, f"{at}.window"),
            ("path_share", 0.5 if port else 1.0, "a path goes over two ports" if port else "one link"),
            ("path_s", one_way_s(link), f"{at}.route_km, 4.9 us a km" if link.round_trip is None else f"{at}.round_trip"),
        ):
            made.put(f"link_{leaf}[{name}]", value, "spec", source)


def _exchange_leaves(
    made: Made, spec: schema.Spec, sync: Sync, exchange: Exchange, own: Mapping[str, Steps]
) -> None:
    network = exchange.network
    flows = {
        "gradient_share": exchange.gradient, "outer_share": exchange.outer, "gather_share": exchange.gather,
        "ingest_share": exchange.ingest, "checkpoint_share": exchange.checkpoint, "crossings": crossing_flows(exchange),
    }
    alike = network.alike(list(flows.values()))
    made.structure["way_of"] = {way: first for way, (first, _) in alike.items()}
    made.indexes["way"] = tuple(dict.fromkeys(made.structure["way_of"].values()))
    made.structure["way_link"] = {way: network.ways[way] for way in made.indexes["way"]}
    for way in made.indexes["way"]:
        for name, load in zip(flows, alike[way][1], strict=True):
            made.put(f"way_{name}[{way}]", load, "spec", f"routes, {exchange.kind} exchange")
    made.structure["gradient_routes"] = network.latest(exchange.gradient)
    made.structure["outer_routes"] = network.latest(exchange.outer)
    made.structure["gather_routes"] = network.latest(exchange.gather)
    made.put("gradient_rounds", exchange.gradient_rounds, "spec", f"{exchange.kind} exchange")
    made.put("outer_rounds", exchange.outer_rounds, "spec", f"{exchange.kind} exchange")
    made.put("gather_rounds", 1.0 if exchange.gather else 0.0, "spec", "sites of a region hand on their parts")
    neutral = []
    if exchange.outer:
        made.targets += ["outer_state_B", "fits_outer_state", "outer_sync_s"]
    else:
        neutral += ["phase_outer_exposed_s", "phase_outer_optimizer_s"]
    if not exchange.gradient:
        neutral.append("phase_inner_exposed_s")
    if exchange.crossings:
        made.targets += ["phase_micro_batches_to_hide", "fits_in_flight"]
        counts = stage_counts(spec, next(iter(own.values())).members)
        names = tuple(f"{a}>{b}" for a, b in exchange.crossings)
        made.indexes["crossing"] = names
        pairs = list(zip(names, exchange.crossings, strict=True))
        made.structure["crossing_links"] = {name: network.links_of(a, b) for name, (a, b) in pairs}
        first = made.structure["way_of"]
        made.structure["crossing_ways"] = {
            name: tuple(first[way] for way in (*network.ways_of(a, b), *network.ways_of(b, a))) for name, (a, b) in pairs
        }
        for at, name in enumerate(names):
            made.put(f"crossing_stages_beyond[{name}]", sum(counts[at + 1 :]), "spec", "layout.pp over the sites")
    else:
        neutral.append("phase_crossing_s")
    for phase in own:
        made.leaves.pop(f"phase_sync_exposed_s[{phase}]", None)
        for name in neutral:
            made.put(f"{name}[{phase}]", 0.0, "spec", f"no part of strategy {sync.strategy}")


# ---------------------------------------------------------------------------------------------------- who sends what


def exchange_of(spec: schema.Spec, found: Steps) -> Exchange:
    """The flows of the spec's strategy on its network."""
    sync = sync_of(spec)
    names = tuple(site.name for site in found.members)
    network = wan.network(names, edges(spec, names))
    groups = _groups(spec, found)
    kind = sync.exchange or _faster(network, groups)
    gradient: wan.Flows = {}
    rounds = 0.0
    if sync.strategy in ("synchronous", "mixed"):
        for group in groups:
            singles = [(name,) for name in group]
            gradient |= wan.all_reduce_flows(singles, kind)
            rounds = max(rounds, wan.rounds(len(singles), kind))
    outer = wan.all_reduce_flows(groups, kind) if sync.strategy in ("semi-synchronous", "mixed") else {}
    crossings = tuple(pairwise(names)) if sync.strategy == "pipeline" else ()
    total = sum(found.sequences.values())
    ingest: wan.Flows = {}
    if sync.data_from is not None:
        # the first stages of a pipeline read the tokens, and the last ones the labels
        reads = {names[0]: 1.0, names[-1]: 1.0} if crossings else {n: s / total for n, s in found.sequences.items()}
        ingest = {(sync.data_from, name): share for name, share in reads.items() if name != sync.data_from}
    copies = sync.checkpoints
    checkpoint = {(copies.source, copies.target): 1.0} if copies else {}
    return Exchange(
        network, kind, groups, gradient, rounds, outer, wan.rounds(len(groups), kind) if outer else 0.0,
        wan.gather_flows(groups) if outer else {}, crossings, ingest, checkpoint,
    )


def _groups(spec: schema.Spec, found: Steps) -> tuple[tuple[str, ...], ...]:
    """Replicas: all sites together, each site, or each region."""
    strategy, sites = sync_of(spec).strategy, found.members
    if strategy in ("synchronous", "pipeline"):
        return (tuple(site.name for site in sites),)
    if strategy == "semi-synchronous":
        return tuple((site.name,) for site in sites)
    regions = dict.fromkeys(site.region for site in sites)
    return tuple(tuple(site.name for site in sites if site.region == region) for region in regions)


def _faster(network: wan.Network, groups: tuple[tuple[str, ...], ...]) -> str:
    """Ring or direct: the busiest way, as stated; equal loads go directly, which has fewer rounds."""
    parts = groups if len(groups) > 1 else tuple((name,) for name in groups[0])
    line = {f"{a}>{b}": edge.line_Bps for edge in network.edges for a, b in ((edge.a, edge.b), (edge.b, edge.a))}

    def busiest(kind: str) -> float:
        return max(load / line[way] for way, load in network.loads(wan.all_reduce_flows(parts, kind)).items())

    return "ring" if busiest("ring") < busiest("direct") * (1 - 1e-9) else "direct"


def crossing_flows(exchange: Exchange) -> wan.Flows:
    return {pair: 1.0 for a, b in exchange.crossings for pair in ((a, b), (b, a))}


def _notes(made: Made, spec: schema.Spec, sync: Sync, exchange: Exchange) -> None:
    if sync.exchange is None and not exchange.crossings:
        made.notes.append(f"exchange between sites: {exchange.kind}, the one that loads the busiest link less")
    if sync.overlap == "one-step-late" and exchange.gradient:
        made.notes.append("gradients one step late: what that costs in loss is not published for large models, and not counted")
    if exchange.gradient and sync.gradient_bits is not None and sync.gradient_bits < 16:
        bits = f"gradients of {sync.gradient_bits:g} bits between sites"
        made.notes.append(f"{bits}: what fewer than 16 cost in loss is not counted")
    if exchange.outer and spec.training.tokens is not None:
        made.notes += extrapolations(made)
        if sync.delay > 0:
            made.notes.append(_delayed(sync.delay))
        if sync.outer_bits < 4:
            made.notes.append(f"outer gradients of {sync.outer_bits:g} bits: below the 4 that are measured (arXiv 2501.18512)")


def _delayed(steps: float) -> str:
    """What is known of the loss of a late outer step: the evidence is of one inner step, and of a whole round."""
    ratio = semisync.OVERLAP_LOSS_FACTOR
    said = f"fragments {steps:g} inner steps late: their loss is not counted. Measured at 0.5 B: none for one inner step"
    eager, late = (ratio[name] - 1.0 for name in ("outer-eager", "outer-delayed"))
    found = f"{said}, {eager:.1%} (corrected for it) to {late:.0%} for a whole round (arXiv 2502.12996)"
    return found if steps <= 1 else f"EXTRAPOLATED: {found}"


def extrapolations(made: Made) -> list[str]:
    """What of the loss penalty lies beyond published evidence, one note each (EQ-88)."""
    parameters, replicas, inner = (made.leaves[n].value for n in ("run_parameters", "replicas", "inner_steps"))
    return beyond_evidence(parameters, replicas, inner)


def beyond_evidence(parameters: float, replicas: float, inner_steps: float) -> list[str]:
    if inner_steps <= 1:
        return []
    out = []
    if replicas > semisync.MOST_REPLICAS:
        out.append(f"EXTRAPOLATED: {replicas:g} replicas, published to {semisync.MOST_REPLICAS:g}")
    if inner_steps > semisync.MOST_INNER_STEPS:
        out.append(f"EXTRAPOLATED: {inner_steps:g} inner steps, published to {semisync.MOST_INNER_STEPS:g}")
    if parameters > semisync.MOST_PARAMETERS:
        out.append(f"EXTRAPOLATED: {parameters:.3g} parameters, loss published to {semisync.MOST_PARAMETERS:g}")
    if inner_steps != 30:
        few = "; below 30 an upper bound, all of it from the second inner step on" if inner_steps < 30 else ""
        out.append(f"loss penalty fitted at 30 inner steps, used for {inner_steps:g}: no law of H is published{few}")
    return out
