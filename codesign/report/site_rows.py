"""Several sites as rows for a page: traffic from site to site, links, strategies, where each stops paying, regimes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from codesign import units
from codesign.report import run_sites, view
from codesign.report.kept import kept
from codesign.run import RunPlan
from codesign.search import site_tables
from codesign.search import sites as search
from codesign.search.sites import Regimes, Strategy
from codesign.site_steps import Steps
from codesign.spec.sites import Sync

Row = dict[str, Any]

ALL = "all classes"
STATED = "as stated"
_DENSE = 8  # points of a decade in the chart of regimes
_MOST_PLACES = 12  # sites, or kinds of site, in the matrix
_DARK = 0.55  # share of the largest flow above which a cell is dark


def has(run: RunPlan | None) -> bool:
    """Whether the run is on several sites."""
    return run is not None and "exchange" in run.inputs.structure


@kept
def strategies(run: RunPlan) -> list[Strategy]:
    """Every strategy on these sites, the best first."""
    return search.compare(run)


@kept
def regimes(run: RunPlan) -> Regimes:
    """From one site to ten million accelerators, the powers of ten among many points between them."""
    decades = math.log10(search.SHOWN[-1] / search.SHOWN[0])
    dense = np.geomspace(search.SHOWN[0], search.SHOWN[-1], round(_DENSE * decades) + 1)
    return search.regimes(run, sorted({*search.SHOWN, *(float(one) for one in dense)}))


def answer(run: RunPlan) -> list[str]:
    """What the sites give and lose, in the words of the screen."""
    return [" ".join(line.split()).removeprefix("- ") for line in run_sites.answer(run)]


# ---------------------------------------------------------------------------------------------------- traffic, links


@kept
def traffic(run: RunPlan) -> list[Row]:
    """Flows from site to site by class; of many sites between the kinds of site, added up."""
    return run_sites.grouped(run, site_tables.traffic(run))


def classes(run: RunPlan) -> list[str]:
    """What can be chosen in the matrix."""
    return [ALL, *dict.fromkeys(row["class"] for row in traffic(run))]


def matrix_rows(run: RunPlan, kind: str) -> list[Row]:
    """Mean rate from site to site of one class or all: every pair, none where nothing flows; the largest is the darkest."""
    found: dict[tuple[str, str], float] = {}
    for row in traffic(run):
        if kind in (ALL, row["class"]):
            found[row["from"], row["to"]] = found.get((row["from"], row["to"]), 0.0) + row["mean_Bps"]
    places = list(dict.fromkeys(name for row in traffic(run) for name in (row["from"], row["to"])))[:_MOST_PLACES]
    most = max(found.values(), default=0.0)
    return [
        {
            "from": source, "to": target, "Bps": (rate := found.get((source, target), 0.0)),
            "mean rate": units.show(rate, "Bps") if rate else "-", "dark": rate > _DARK * most,
        }
        for source in places for target in places
    ]


def matrix_summary(run: RunPlan, kind: str) -> str:
    """The matrix in a sentence."""
    said = [f"{row['from']} to {row['to']} {row['mean rate']}" for row in matrix_rows(run, kind) if row["Bps"]]
    return f"Mean rate of {kind}: {', '.join(said) or 'nothing flows'}."


def traffic_table(run: RunPlan) -> list[Row]:
    """Every flow, the largest first."""
    return [
        {
            "from": row["from"], "to": row["to"], "class": row["class"], "a step": units.show(row["step_B"], "B"),
            "mean rate": units.show(row["mean_Bps"], "Bps"), "peak rate": units.show(row["peak_Bps"], "Bps"),
            "of the link": view.percent(row["link_share"]),
        }
        for row in sorted(traffic(run), key=lambda row: -row["mean_Bps"])
    ]


def link_rows(run: RunPlan) -> list[Row]:
    """Mean use of each link by the busiest way over it; for a chart."""
    ways = run.inputs.structure["way_link"]
    return [
        {
            "link": _link(link),
            "used": max((run.value(f"way_mean_share[{way}]") for way, of in ways.items() if of == link), default=0.0),
        }
        for link in run.inputs.indexes["link"]
    ]


def link_table(run: RunPlan) -> list[Row]:
    """What each link delivers, each direction, and how much of it is used."""
    rows = []
    for link, used in zip(run.inputs.indexes["link"], link_rows(run), strict=True):
        line, delivered = run.value(f"link_line_Bps[{link}]"), run.value(f"link_delivered_Bps[{link}]")
        rows.append({
            "link": used["link"], "line": units.show(line, "Bps"), "delivered": units.show(delivered, "Bps"),
            "of the line": view.percent(delivered / line), "one way": units.show(run.value(f"link_path_one_way_s[{link}]"), "s"),
            "mean use": view.percent(used["used"]),
        })
    return rows


def _link(name: str) -> str:
    return "all: each site's port" if name == "all" else name.replace("+", " - ")


def work_table(run: RunPlan) -> list[Row]:
    """The work of each site and its own step, equal sites in one row."""
    own: Steps = run.inputs.structure["site_steps"][run.inputs.structure["first_phase"]]
    slowest_s = own.plans[own.pacing].step_s
    alike: dict[tuple[int, int], list[Any]] = {}
    for site in own.members:
        alike.setdefault((id(own.plans[site.name]), site.entry), []).append(site)
    return [
        {
            "site": sites[0].name if len(sites) == 1 else f"{sites[0].name} and {len(sites) - 1} like it",
            "accelerators": f"{sites[0].cluster.accelerators:,}", "profile": sites[0].cluster.profile,
            "sequences": f"{own.sequences[sites[0].name]:,}", "step": units.show(own.plans[sites[0].name].step_s, "s"),
            "idle": view.percent(1.0 - own.plans[sites[0].name].step_s / slowest_s),
        }
        for sites in alike.values()
    ]


def move_table(run: RunPlan) -> list[Row]:
    """State that must reach the site of least bandwidth."""
    return [
        {"state": row["what"], "size": units.show(row["B"], "B"), "into": row["site"], "takes": units.show(row["s"], "s")}
        for row in site_tables.moves(run)
    ]


# ---------------------------------------------------------------------------------------------------- strategies


def _done(run: RunPlan) -> list[Strategy]:
    return [one for one in strategies(run) if one.run is not None]


def share_rows(run: RunPlan) -> list[Row]:
    """Of each strategy: what waiting leaves, what the loss leaves, and both together; for a chart."""
    return [
        {"strategy": one.name, "part": part, "share": share}
        for one in _done(run)
        for part, share in (
            ("utilisation", one.value("wan_utilisation")),
            ("what the loss leaves", 1.0 / one.value("sync_loss_multiplier")),
            ("effective compute", one.value("effective_compute_share")),
        )
    ]


def strategy_table(run: RunPlan) -> list[Row]:
    """Strategies side by side, the best first."""
    rows = []
    for one in _done(run):
        assert one.run is not None
        phase = one.run.inputs.structure["first_phase"]
        rows.append({
            "strategy": one.name, "step": units.show(one.value(f"phase_run_step_s[{phase}]"), "s"),
            "utilisation": view.percent(one.value("wan_utilisation")),
            "compute for the same loss": f"{one.value('sync_loss_multiplier'):.3g} x",
            "effective compute": view.percent(one.value("effective_compute_share")),
            "goodput": view.percent(one.value("goodput")), "over the fastest site": f"{one.value('sites_gain'):.3g} x",
            "times goodput": f"{one.rank:.3g} x",
        })
    return rows


def refused(run: RunPlan) -> list[str]:
    """What cannot be done on these sites, and why."""
    return [
        f"{one.name}: {text}" for one in strategies(run)
        for text in ([one.refused] if one.run is None else site_tables.violations(one.run))
    ]


def strategy_summary(run: RunPlan) -> str:
    """The best strategy in a sentence."""
    found = _done(run)
    own = next(one for one in found if one.name == STATED)
    best = found[0]
    said = f"As stated: {own.rank:.3g} times the fastest site alone, loss counted as compute, times goodput"
    return f"{said}, the best of these." if best is own else f"{said}; {best.name}: {best.rank:.3g} times."


def strategy_names(run: RunPlan) -> list[str]:
    """What can be adopted: the stated one first, then those that can be done."""
    return [STATED, *(one.name for one in _done(run) if one.name != STATED)]


def sync_text(run: RunPlan, name: str) -> str:
    """The `sync:` section of a strategy, on one line of YAML."""
    sync: Sync = next(one.sync for one in strategies(run) if one.name == name)
    data = {"strategy": sync.strategy, **sync.model_dump(mode="json", exclude_defaults=True)}
    if sync.checkpoints is not None:
        data["checkpoints"]["every"] = f"{sync.checkpoints.every!r} s"
    return json.dumps(data)


# ---------------------------------------------------------------------------------------------------- break-even


def pays_rows(run: RunPlan) -> list[Row]:
    """Bandwidth over the stated one at which each strategy begins to pay; for a chart, where there is such a bandwidth."""
    return [
        {"strategy": one.name, "factor": one.pays.bandwidth_factor}
        for one in _done(run) if one.pays and 0.0 < one.pays.bandwidth_factor < math.inf
    ]


def pays_table(run: RunPlan) -> list[Row]:
    """The same with the bandwidth of every link, the delay that each strategy stands, and the bandwidth for 95 %."""
    rows = []
    for one in _done(run):
        pays = one.pays
        assert pays is not None
        rows.append({
            "strategy": one.name, "pays from": _factor(pays.bandwidth_factor), "that is": _bandwidths(run, pays.bandwidth_factor),
            "stands a delay of": "-" if pays.extra_one_way_s == 0 else _bounded(pays.extra_one_way_s),
            "95 % utilisation from": _factor(pays.utilisation_factor[search.LEVELS.index(0.95)]),
        })
    return rows


def _factor(value: float) -> str:
    return "no bandwidth" if math.isinf(value) else "any" if value == 0 else f"{value:.3g} x the stated"


def _bounded(value: float) -> str:
    return "any length" if math.isinf(value) else units.show(value, "s")


def _bandwidths(run: RunPlan, factor: float) -> str:
    if not 0.0 < factor < math.inf:
        return "-"
    lines = {link: run.value(f"link_line_Bps[{link}]") for link in run.inputs.indexes["link"]}
    return ", ".join(f"{_link(link)} {units.show(factor * line, 'Bps')}" for link, line in list(lines.items())[:_MOST_PLACES])


# ---------------------------------------------------------------------------------------------------- regimes


def regime_rows(run: RunPlan) -> list[Row]:
    """Effective accelerators of each regime over those that there are; what is beyond published evidence is marked."""
    return [
        {
            "accelerators": row["accelerators"], "strategy": row["strategy"], "effective": row["effective_accelerators"],
            "share": row["effective_share"], "evidence": _evidence(row["extrapolated"]),
        }
        for row in regimes(run).rows
    ]


EVIDENCE = ("published", "extrapolated")


def _evidence(beyond: Sequence[str]) -> str:
    return EVIDENCE[1] if beyond else EVIDENCE[0]


def regime_table(run: RunPlan) -> list[Row]:
    """The powers of ten; a letter for each way in which a row is beyond published evidence, as in `beyond`."""
    marks = {text: letter for letter, text in zip(ascii_lowercase, _marks(run), strict=False)}
    return [
        {
            "accelerators": f"{row['accelerators']:,.0f}", "sites": f"{row['sites']:,.0f}", "strategy": row["strategy"],
            "utilisation": view.percent(row["wan_utilisation"]), "compute for the loss": f"{row['loss_multiplier']:.2f} x",
            "for the batch": f"{row['batch_waste']:.3g} x", "effective": view.percent(row["effective_share"]),
            "EXTRAPOLATED": " ".join(sorted(marks[text] for text in row["extrapolated"])) or "no",
        }
        for row in _shown(run)
    ]


def beyond(run: RunPlan) -> list[str]:
    """What the letters say."""
    return [f"{letter}: {text}" for letter, text in zip(ascii_lowercase, _marks(run), strict=False)]


def _shown(run: RunPlan) -> list[Row]:
    return [row for row in regimes(run).rows if row["accelerators"] in search.SHOWN]


def _marks(run: RunPlan) -> list[str]:
    return list(dict.fromkeys(text for row in _shown(run) for text in row["extrapolated"]))


def regime_notes(run: RunPlan) -> list[str]:
    """Where each regime ends, which is best from where on, and what all of it assumes."""
    found = regimes(run)
    batch = units.show(found.critical_batch_tokens, "tokens")
    best = ", then ".join(f"{name} from {where:,.0f}" for where, name in found.changes)
    ends = ", ".join(f"{name} {where:,.0f}" for name, where in found.ends.items())
    return [
        f"Most effective compute: {best} accelerators.",
        f"A tenth more accelerators gives at least a twentieth more compute up to: {ends}.",
        f"Latency alone takes a step of the critical batch of {batch} at {found.wall_accelerators:.3g} accelerators.",
        *(f"Assumed: {text}." for text in found.assumed),
    ]
