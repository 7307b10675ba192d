"""Tables of a run on several sites: traffic between sites, state that moves, and what the sites cannot do."""

from __future__ import annotations

from typing import Any

from codesign import graph, sites, wan
from codesign.run import RunPlan


def traffic(run: RunPlan) -> list[dict[str, Any]]:
    """Bytes from site to site by class: mean a step, mean and peak rate, and what the class has of the fullest link on the way.

    A link carries what other pairs send over it as well, so that its share is that of all of them.
    Peak: gradients and outer gradients travel in bursts at the rate of the busiest way; what is spread has its mean.
    """
    exchange: sites.Exchange | None = run.inputs.structure.get("exchange")
    if exchange is None:
        return []
    phase = run.inputs.structure["first_phase"]
    step_s = run.value(f"phase_run_step_s[{phase}]")
    inner = run.value("inner_steps")
    token_Bps = run.value("most_tokens_per_s") * run.value("data_token_B")
    copy_Bps = run.value("checkpoint_copy_B") / run.value("checkpoint_copy_every_s")
    rows: list[dict[str, Any]] = []

    delivered = {link: run.value(f"link_delivered_Bps[{link}]") for link in run.inputs.indexes["link"]}

    def put(kind: str, flows: wan.Flows, step_B: float, burst_B: float, burst_s: float) -> None:
        loads = exchange.network.loads(flows)
        used = {way: loads[way] * step_B / step_s / delivered[link] for way, link in exchange.network.ways.items()}
        for (source, target), share in flows.items():
            if share == 0:
                continue
            mean = share * step_B / step_s
            ways = exchange.network.ways_of(source, target)
            lines = [delivered[exchange.network.ways[way]] for way in ways]
            rows.append({
                "from": source, "to": target, "class": kind, "step_B": share * step_B, "mean_Bps": mean,
                "peak_Bps": min(share * burst_B / burst_s, *lines) if burst_s else mean,
                "link_share": max(used[way] for way in ways),
            })

    if exchange.gradient:
        sent = run.value("gradient_message_B")
        put("gradients", exchange.gradient, sent, sent, run.value("gradient_transfer_s"))
    if exchange.outer:
        sent, burst = run.value("outer_message_B"), run.value("outer_transfer_s")
        put("outer gradients", exchange.outer, sent / inner, sent, burst)
        put("outer gradients, in region", exchange.gather, sent / inner, sent, burst)
    if exchange.crossings:
        sent = run.value(f"phase_crossing_B[{phase}]")
        each_s = run.value(f"phase_micro_batch_s[{phase}]")
        put("activations", sites.crossing_flows(exchange), sent * run.value(f"phase_micro_batches[{phase}]"), sent, each_s)
    put("training data", exchange.ingest, token_Bps * step_s, 0.0, 0.0)
    put("checkpoints", exchange.checkpoint, copy_Bps * step_s, 0.0, 0.0)
    return rows


def moves(run: RunPlan) -> list[dict[str, Any]]:
    """State that must reach a site before it can work, and how long its links take for it, all of them together."""
    exchange: sites.Exchange | None = run.inputs.structure.get("exchange")
    if exchange is None:
        return []
    into: dict[str, float] = {}
    for way, link in exchange.network.ways.items():
        target = way.partition(">")[2]
        if target != wan.HUB:
            into[target] = into.get(target, 0.0) + run.value(f"link_delivered_Bps[{link}]")
    slowest = min(into, key=lambda name: into[name])
    sizes = (
        ("checkpoint, to join or resume", run.value("checkpoint_copy_B")),
        ("parameters in 16 bits", 2.0 * run.value("run_parameters")),
        ("whole data set, read once", run.value("run_tokens") * run.value("data_token_B")),
    )
    return [{"what": what, "B": size, "site": slowest, "s": size / into[slowest]} for what, size in sizes]


def violations(run: RunPlan) -> list[str]:
    """One message, with numbers, for what the sites cannot do: a step that does not fit, an optimizer, a full link."""
    out = [*run.step_violations]
    for name in ("fits_outer_state", "fits_in_flight", "allows_background"):
        message = graph.REGISTRY[name].message
        if name in run.inputs.targets and not run.value(name) and message is not None:
            out.append(message(run.values))
    return out
