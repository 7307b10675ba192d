"""Several sites for the terminal: lines of a run, the answer first. Pure functions, 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from codesign import sites as parts
from codesign import units
from codesign.report.text import clip, percent, table, wrap
from codesign.run import RunPlan
from codesign.search import site_tables
from codesign.search.sites import Regimes, Strategy, compare, regimes
from codesign.site_steps import Steps
from codesign.spec.sites import sync_of

_MOST_ROWS = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WIDTH = 78  # of a table, which is set in by two
_MOST_ALONE = 6  # more sites than that are shown by kind in the traffic


def lines(run: RunPlan) -> list[str]:
    """Everything about the sites of a run; nothing where it has one site or none."""
    if "exchange" not in run.inputs.structure:
        return []
    side = compare(run)
    found = [*answer(run, side), "", *site_lines(run), "", *link_lines(run), "", *traffic_lines(run), "", *move_lines(run)]
    return [*found, "", *strategy_lines(side), "", *regime_lines(regimes(run))]


def to_dict(run: RunPlan) -> dict[str, Any]:
    """The same as plain data, SI base units; empty where the run has one site or none."""
    if "exchange" not in run.inputs.structure:
        return {}
    phase = run.inputs.structure["first_phase"]
    own: Steps = run.inputs.structure["site_steps"][phase]
    scale = regimes(run)
    return {
        "strategy": sync_of(run.spec).strategy,
        "sites": [
            {"name": site.name, "region": site.region, "accelerators": site.cluster.accelerators,
             "sequences": own.sequences[site.name], "step_s": own.plans[site.name].step_s}
            for site in own.members
        ],
        "step_s": run.value(f"phase_run_step_s[{phase}]"), "exposed_s": run.value(f"phase_sync_exposed_s[{phase}]"),
        **{name: run.value(name) for name in parts.TARGETS},
        "even_step_s": own.even_s, "ideal_step_s": own.ideal_s,
        "traffic": site_tables.traffic(run), "moves": site_tables.moves(run),
        "strategies": [one.to_dict() for one in compare(run)],
        "regimes": {
            "rows": list(scale.rows), "ends": scale.ends, "changes": [list(one) for one in scale.changes],
            "critical_batch_tokens": scale.critical_batch_tokens, "wall_accelerators": scale.wall_accelerators,
            "assumed": list(scale.assumed),
        },
        "violations": site_tables.violations(run), "notes": list(run.inputs.notes),
    }


# ---------------------------------------------------------------------------------------------------- the answer


def answer(run: RunPlan, side: Sequence[Strategy] = ()) -> list[str]:
    """What the sites give, what they lose, whether they pay, and which strategy would do better."""
    phase = run.inputs.structure["first_phase"]
    own: Steps = run.inputs.structure["site_steps"][phase]
    gain = run.value("sites_gain")
    strategy = sync_of(run.spec).strategy
    count = sum(site.cluster.accelerators for site in own.members)
    spare = run.value("run_accelerators") - count
    out = [f"sites: {len(own.members)}, {count:,} accelerators, {strategy}" + (f"; {spare:,.0f} spare" if spare else "")]
    step, waits = run.value(f"phase_run_step_s[{phase}]"), run.value(f"phase_sync_exposed_s[{phase}]")
    out.append(wrap(
        f"step {units.show(step, 's')}, of which {units.show(waits, 's')} for the other sites: utilisation "
        f"{percent(run.value('wan_utilisation'))}", "  ",
    ))
    share, high = run.value("effective_compute_share"), run.value("effective_compute_share_high")
    if run.value("sync_loss_multiplier") > 1:
        loss = run.value("sync_loss_multiplier")
        out.append(wrap(
            f"effective compute {percent(share)} of the same accelerators in one building: the loss of "
            f"{run.value('replicas'):g} replicas costs up to {loss:.2f}x the compute (joint law), {percent(high)} by the "
            "separate fits", "  ",
        ))
    else:
        out.append(wrap(f"effective compute {percent(share)} of the same accelerators in one building, no loss penalty", "  "))
    verdict = "" if gain >= 1 else ": the other sites DO NOT PAY"
    out.append(wrap(f"{gain:.3g} times as fast as the fastest site alone, loss counted as compute{verdict}", "  "))
    best = next((one for one in side if one.run is not None), None)
    kept = gain * run.value("goodput")
    if best is not None and best.name != "as stated" and best.rank > kept * 1.01:
        out.append(wrap(f"better: {best.name}, {best.rank:.3g} times with its goodput, {kept:.3g} as stated", "  "))
    return out


def site_lines(run: RunPlan) -> list[str]:
    """The work of each site, equal sites in one row, and what the split of the batch costs."""
    phase = run.inputs.structure["first_phase"]
    own: Steps = run.inputs.structure["site_steps"][phase]
    slowest = own.plans[own.pacing].step_s
    alike: dict[int, list[str]] = {}
    for site in own.members:
        alike.setdefault(id(own.plans[site.name]) + site.entry, []).append(site.name)
    known = {site.name: site for site in own.members}
    rows = []
    for names in alike.values():
        plan = own.plans[names[0]]
        rows.append({
            "site": names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it",
            "accelerators": f"{known[names[0]].cluster.accelerators:,}", "sequences": f"{own.sequences[names[0]]:,}",
            "step": units.show(plan.step_s, "s"), "idle": percent(1 - plan.step_s / slowest),
        })
    out = ["work of the sites"]
    out += _indented(table(rows, ("accelerators", "sequences", "step", "idle"), _WIDTH))
    if sync_of(run.spec).strategy != "pipeline":
        cost = own.even_s / slowest
        out.append(wrap(
            f"split by speed; an even split would take {units.show(own.even_s, 's')}, {cost:.3g} times as long. Whole "
            f"micro-batches cost {percent(max(slowest / own.ideal_s - 1, 0.0))} over a split at will", "  ",
        ))
    return out


def link_lines(run: RunPlan) -> list[str]:
    """What each link delivers, and how much of it is used on average."""
    rows = []
    for link in run.inputs.indexes["link"]:
        shares = [
            run.value(f"way_mean_share[{way}]") for way, of in run.inputs.structure["way_link"].items() if of == link
        ]
        line = run.value(f"link_line_Bps[{link}]")
        delivered = run.value(f"link_delivered_Bps[{link}]")
        rows.append({
            "link": "all, each site's port" if link == "all" else link.replace("+", " - "), "line": units.show(line, "Bps"),
            "delivered": units.show(delivered, "Bps"), "of it": percent(delivered / line),
            "one way": units.show(run.value(f"link_path_one_way_s[{link}]"), "s"), "mean use": percent(max(shares, default=0.0)),
        })
    out = ["links, each direction"]
    out += _indented(table(rows[:_MOST_ROWS], ("line", "delivered", "of it", "one way", "mean use"), _WIDTH))
    return out + _left(rows)


def traffic_lines(run: RunPlan) -> list[str]:
    """Traffic from site to site, the largest first; of many sites, what one of a kind sends."""
    rows = sorted(_grouped(run, site_tables.traffic(run)), key=lambda row: -row["step_B"])
    shown = [
        {
            "from": row["from"], "to": row["to"], "class": row["class"].replace("outer gradients", "outer"),
            "a step": units.show(row["step_B"], "B"), "mean": units.show(row["mean_Bps"], "Bps"),
            "peak": units.show(row["peak_Bps"], "Bps"), "link": percent(row["link_share"]),
        }
        for row in rows[:_MOST_ROWS]
    ]
    many = len(run.inputs.structure["site_steps"][run.inputs.structure["first_phase"]].members) > _MOST_ALONE
    out = ["traffic between sites" + (": what one site sends to all of a kind" if many else "")]
    out += _indented(table(shown, ("a step", "mean", "peak", "link"), _WIDTH)) if shown else ["  none"]
    return out + _left(rows)


def _grouped(run: RunPlan, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of many sites, what one of a kind sends to all of a kind: the site of the kind that sends most."""
    own: Steps = run.inputs.structure["site_steps"][run.inputs.structure["first_phase"]]
    if len(own.members) <= _MOST_ALONE:
        return [dict(row) for row in rows]
    kind = {site.name: f"{run.spec.sites[site.entry].name} x {run.spec.sites[site.entry].count}" for site in own.members}
    sent: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        into = sent.setdefault((row["from"], kind[row["to"]], row["class"]), {
            "from": kind[row["from"]], "to": kind[row["to"]], "class": row["class"], "step_B": 0.0, "mean_Bps": 0.0,
            "peak_Bps": 0.0, "link_share": 0.0,
        })
        for name in ("step_B", "mean_Bps", "peak_Bps"):
            into[name] += row[name]
        into["link_share"] = max(into["link_share"], row["link_share"])
    most: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sent.values():
        key = (row["from"], row["to"], row["class"])
        if key not in most or row["step_B"] > most[key]["step_B"]:
            most[key] = row
    return list(most.values())


def move_lines(run: RunPlan) -> list[str]:
    """State that must reach a site, over all of its links."""
    rows = [
        {"state": row["what"], "size": units.show(row["B"], "B"), "into": row["site"], "takes": units.show(row["s"], "s")}
        for row in site_tables.moves(run)
    ]
    return ["state that must move into the site of least bandwidth", *_indented(table(rows, ("size", "takes"), _WIDTH))]


# ---------------------------------------------------------------------------------------------------- strategies


def strategy_lines(side: Sequence[Strategy]) -> list[str]:
    """All strategies side by side, and where each stops paying."""
    rows, refused, known = [], [], list[str]()
    for one in side:
        if one.run is None:
            refused.append(wrap(f"{one.name}: {one.refused}", "    ", "  - "))
            continue
        phase = one.run.inputs.structure["first_phase"]
        pays = one.pays
        assert pays is not None
        kept, gain = percent(one.value("goodput")), one.value("sites_gain") * one.value("goodput")
        rows.append({
            "strategy": one.name, "step": units.show(one.value(f"phase_run_step_s[{phase}]"), "s"),
            "used": percent(one.value("wan_utilisation")), "loss": f"{one.value('sync_loss_multiplier'):.2f}x",
            "goodput": kept, "gain": f"{gain:.3g}" if gain >= 5e-4 else "0",
            "least WAN": _factor(pays.bandwidth_factor), "delay": _latency(pays),
        })
        own = [text for text in site_tables.violations(one.run) if text not in known]
        known += own
        refused += [wrap(f"{one.name}: {text}", "    ", "  - ") for text in own]
    out = ["strategies on these sites"]
    out += _indented(table(rows, ("step", "used", "loss", "goodput", "gain", "least WAN", "delay"), _WIDTH))
    out += [wrap(f"{one.name}: {_said(one)}", "    ", "  - ") for one in side if one.run is not None]
    out += refused
    out.append(wrap(
        "gain: speed over that of the fastest site alone if nothing failed there, loss counted as compute, times goodput. "
        "Before failures it is 1 at 'least WAN' times the stated bandwidth, and with 'delay' added to every path one way", "  ",
    ))
    return out


def _said(one: Strategy) -> str:
    """The settings of a strategy that are not their defaults, so that two of a kind are told apart."""
    data = {name: value for name, value in one.settings.items() if name not in ("strategy", "data_from", "checkpoints")}
    told = ", ".join(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
                     for name, value in data.items())
    return f"{one.sync.strategy}{', ' if told else ''}{told}"


def _factor(value: float) -> str:
    return "never" if math.isinf(value) else "any" if value == 0 else f"{value:.3g}x"


def _latency(pays: Any) -> str:
    return "-" if pays.extra_one_way_s == 0 else "any" if math.isinf(pays.extra_one_way_s) else units.show(
        pays.extra_one_way_s, "s"
    )


# ---------------------------------------------------------------------------------------------------- regimes


def regime_lines(found: Regimes) -> list[str]:
    """From one site to ten million accelerators; letters mark what is beyond published evidence."""
    rows, marks = [], []
    for row in found.rows:
        beyond: Sequence[str] = row["extrapolated"]
        for text in beyond:
            if text not in marks:
                marks.append(text)
        rows.append({
            "number": f"{row['accelerators']:,.0f}", "sites": f"{row['sites']:,.0f}", "strategy": row["strategy"],
            "used": percent(row["wan_utilisation"]), "loss": f"{row['loss_multiplier']:.2f}x",
            "batch": f"{row['batch_waste']:.3g}x", "effective": percent(row["effective_share"]),
            "beyond": "".join(sorted(_LETTERS[marks.index(text)] for text in beyond)),
        })
    out = ["number of accelerators, from one site to many, each with its tokens a step"]
    out += _indented(table(rows, ("number", "sites", "used", "loss", "batch", "effective"), _WIDTH))
    out += [wrap(f"{_LETTERS[at]}: {text}", "     ", "  ") for at, text in enumerate(marks)]
    out.append(wrap("loss, batch: compute for the same loss, for replicas and for a batch near or above the critical", "  "))
    ends = ", ".join(f"{name} {where:,.0f}" for name, where in found.ends.items())
    out.append(wrap(f"a tenth more accelerators gives at least a twentieth more compute up to: {ends}", "    ", "  "))
    steps = [f"{name} from {where:,.0f}" for where, name in found.changes]
    out.append(wrap(f"most effective compute: {', then '.join(steps)}", "    ", "  "))
    out.append(wrap(
        f"latency alone takes a step of the critical batch ({found.critical_batch_tokens:.3g} tokens) at "
        f"{found.wall_accelerators:.3g} accelerators", "    ", "  ",
    ))
    return out + [wrap(f"assumed: {text}", "    ", "  ") for text in found.assumed]


def _indented(text: str) -> list[str]:
    return [f"  {clip(line, 78)}" for line in text.splitlines()]


def _left(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    more = len(rows) - _MOST_ROWS
    return [f"  ... {more} more"] if more > 0 else []


__all__ = ["answer", "lines", "regime_lines", "strategy_lines", "to_dict"]
