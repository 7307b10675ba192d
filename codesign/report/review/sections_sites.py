"""Sites and traffic: what crosses which wire inside a step, and between sites."""

from __future__ import annotations

import math
from typing import Any

from codesign import units
from codesign.report import over_sites, view
from codesign.report.review import sections_plan
from codesign.report.review.cited import Case, how
from codesign.report.review.document import Block, Bullets, Name, Section, Span, Strong, Words, paragraph, table, words
from codesign.run import RunPlan
from codesign.search import site_tables
from codesign.search.sites import compare
from codesign.site_steps import Steps
from codesign.spec.sites import sync_of

MOST_ROWS = 12
_WAY = ("class", "step_B", "mean_Bps", "peak_Bps", "link_share")  # ways that are alike in these share a row


def sites(case: Case) -> Section:
    blocks = sections_plan.traffic(case)
    run = case.run
    if run is None or "exchange" not in run.inputs.structure:
        note = paragraph(
            "One site. For several add ",
            Name("sites"),
            ", ",
            Name("links"),
            " and ",
            Name("sync"),
            " to the spec.",
            tone="note",
        )
        return Section("sites", "Sites and traffic", (*blocks, note))
    blocks += [
        _answer(case, run),
        *_violations(run),
        _work(case, run),
        _links(case, run),
        *_between(run),
        _moves(run),
        *_strategies(run),
    ]
    return Section("sites", "Sites and traffic", tuple(blocks))


def _answer(case: Case, run: RunPlan) -> Block:
    phase = run.inputs.structure["first_phase"]
    own: Steps = run.inputs.structure["site_steps"][phase]
    gain = run.value("sites_gain")
    spans: list[Span] = [
        Strong(f"{len(own.members)} sites, {sync_of(run.spec).strategy}: "),
        "a step takes ",
        case.of_run(f"phase_run_step_s[{phase}]"),
        ", of which ",
        case.of_run(f"phase_sync_exposed_s[{phase}]"),
        " for the other sites (utilisation ",
        case.of_run("wan_utilisation", view.percent(run.value("wan_utilisation"))),
        "); effective compute ",
        case.of_run("effective_compute_share", view.percent(run.value("effective_compute_share"))),
        " of the same accelerators in one building; ",
        case.of_run("sites_gain", f"{gain:.3g}"),
        " times as fast as the fastest site alone, loss counted as compute",
    ]
    return paragraph(
        *spans, "." if gain >= 1 else ": the other sites do not pay.", tone="plain" if gain >= 1 else "bad"
    )


def _violations(run: RunPlan) -> list[Block]:
    found = site_tables.violations(run)
    return [Bullets(tuple(words(text) for text in found))] if found else []


def _work(case: Case, run: RunPlan) -> Block:
    phase = run.inputs.structure["first_phase"]
    own: Steps = run.inputs.structure["site_steps"][phase]
    slowest = own.plans[own.pacing].step_s
    alike: dict[tuple[int, int], list[str]] = {}
    for site in own.members:
        alike.setdefault((id(own.plans[site.name]), site.entry), []).append(site.name)
    known = {site.name: site for site in own.members}
    first = {id(plan): name for name, plan in over_sites.plans(run).items()}  # sites that share a plan share its name
    rows: list[list[Span | Words]] = []
    for names in alike.values():
        plan = own.plans[names[0]]
        rows.append(
            [
                names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it",
                how("counted", f"{known[names[0]].cluster.accelerators:,}"),
                how("sites", f"{own.sequences[names[0]]:,}"),
                case.of_run(f"phase_site_step_s[{phase}/{first[id(plan)]}]", units.show(plan.step_s, "s")),
                how("share", view.percent(1.0 - plan.step_s / slowest)),
            ]
        )
    heads = ("site", "accelerators", "sequences", "step", "idle")
    return table("Work of the sites", heads, rows, heads[1:])


def _links(case: Case, run: RunPlan) -> Block:
    rows: list[list[Span | Words]] = []
    for link in run.inputs.indexes["link"][:MOST_ROWS]:
        ways = [way for way, of in run.inputs.structure["way_link"].items() if of == link]
        busiest = max(ways, key=lambda way: run.value(f"way_mean_share[{way}]"), default=None)
        line, delivered = run.value(f"link_line_Bps[{link}]"), run.value(f"link_delivered_Bps[{link}]")
        used = (
            case.of_run(f"way_mean_share[{busiest}]", view.percent(run.value(f"way_mean_share[{busiest}]")))
            if busiest
            else ""
        )
        rows.append(
            [
                "all, each site's port" if link == "all" else link.replace("+", " - "),
                case.of_run(f"link_line_Bps[{link}]"),
                case.of_run(f"link_delivered_Bps[{link}]"),
                how("share", view.percent(delivered / line)),
                case.of_run(f"link_path_one_way_s[{link}]"),
                used,
            ]
        )
    heads = ("link", "line", "delivered", "of it", "one way", "mean use")
    return table("Links, each direction", heads, rows, heads[1:])


def _between(run: RunPlan) -> list[Block]:
    every = sorted(site_tables.traffic(run), key=lambda row: -row["step_B"])
    if not every:
        return [paragraph("Nothing is sent between the sites.")]
    alike: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in every:
        alike.setdefault(tuple(row[name] for name in _WAY), []).append(row)
    rows = [
        [
            row["from"],
            row["to"] if count == 1 else f"{row['to']}, and {count - 1:,} ways like it",
            row["class"],
            *(
                how("sites", text)
                for text in (
                    units.show(row["step_B"], "B"),
                    units.show(row["mean_Bps"], "Bps"),
                    units.show(row["peak_Bps"], "Bps"),
                    view.percent(row["link_share"]),
                )
            ),
        ]
        for row, count in [(rows[0], len(rows)) for rows in alike.values()][:MOST_ROWS]
    ]
    heads = ("from", "to", "class", "a step", "mean", "peak", "of the link")
    out: list[Block] = [table("Traffic from site to site, the largest first", heads, rows, heads[3:])]
    if len(alike) > MOST_ROWS:
        out.append(
            paragraph(how("counted", f"{len(alike) - MOST_ROWS:,}"), " more rows: codesign plan SPEC --format json.")
        )
    return out


def _moves(run: RunPlan) -> Block:
    rows = [
        [row["what"], how("sites", units.show(row["B"], "B")), row["site"], how("sites", units.show(row["s"], "s"))]
        for row in site_tables.moves(run)
    ]
    return table(
        "State that must move into the site of least bandwidth",
        ("state", "size", "into", "takes"),
        rows,
        ("size", "takes"),
    )


def _strategies(run: RunPlan) -> list[Block]:
    rows: list[list[Span | Words]] = []
    refused: list[Words] = []
    for one in compare(run):
        if one.run is None:
            refused.append(words(f"{one.name}: {one.refused}"))
            continue
        assert one.pays is not None
        phase = one.run.inputs.structure["first_phase"]
        least, more = one.pays.bandwidth_factor, one.pays.extra_one_way_s
        shown = (
            units.show(one.value(f"phase_run_step_s[{phase}]"), "s"),
            view.percent(one.value("wan_utilisation")),
            view.percent(one.value("effective_compute_share")),
            f"{one.value('sites_gain'):.3g}",
            "never" if math.isinf(least) else "any" if least == 0 else f"{least:.3g} times",
            "-" if more == 0 else "any" if math.isinf(more) else units.show(more, "s"),
        )
        rows.append([one.name, *(how("sites", text) for text in shown)])
    heads = ("strategy", "step", "used", "effective", "gain", "least WAN", "most delay")
    out: list[Block] = [
        table("Strategies on these sites", heads, rows, heads[1:]),
        paragraph(
            "Gain: speed over that of the fastest site alone, loss counted as compute. It is 1 at 'least WAN' times the stated "
            "bandwidth, and with 'most delay' added to every path one way."
        ),
    ]
    return [*out, Bullets(tuple(refused))] if refused else out


__all__ = ["sites"]
