"""The head of a plan over sites: the answer is that of the run; the plan of the slowest site follows under its own name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codesign import sites, units
from codesign.planner import Plan, verdict
from codesign.report import run as beyond
from codesign.report import view
from codesign.report.text import headline, wrap
from codesign.run import RunPlan
from codesign.search import attribution, compare
from codesign.search.compare import Comparison
from codesign.site_steps import Steps
from codesign.spec.sites import Member, sync_of


def _first(run: RunPlan) -> tuple[str, Steps]:
    return next(iter(run.inputs.structure["site_steps"].items()))


def slowest(run: RunPlan) -> tuple[str, Plan]:
    """The site that the others wait for in the first phase, and its step."""
    _, found = _first(run)
    return found.pacing, found.plans[found.pacing]


def plans(run: RunPlan) -> dict[str, Plan]:
    """The plan of every different site in the first phase; equal sites with equal work share one."""
    return sites.different(_first(run)[1])


def shown(plan: Plan, run: RunPlan | None) -> Plan:
    """The plan whose step is looked into: over sites that of the slowest, else the plan itself."""
    return slowest(run)[1] if run is not None and run.has_sites else plan


def compared(a: Plan, b: Plan, runs: tuple[RunPlan, RunPlan] | None) -> Comparison:
    """Two plans side by side; over sites, the steps of the slowest sites, and every field in which the specs differ."""
    if runs is None or not any(run.has_sites for run in runs):
        return compare.compare(a, b, runs)
    one, other = shown(a, runs[0]), shown(b, runs[1])
    found = compare.compare(one, other, runs)
    fields = {change.field: change for change in (*found.changes, *attribution.changes(a, b))}
    return replace(found, changes=tuple(fields.values()), given=(a, b))


def members(run: RunPlan) -> tuple[Member, ...]:
    """All sites, in the order of the spec."""
    return _first(run)[1].members


def first_phase(run: RunPlan) -> str:
    """The phase whose step stands for the run over its sites."""
    return _first(run)[0]


def place(run: RunPlan) -> str:
    """Whose step is looked into, beside a number: `west, the slowest site`."""
    name, _ = slowest(run)
    _, found = _first(run)
    if across(run):
        return "all sites as if in one building"
    return name if len(found.members) == 1 else f"{name}, the slowest site"


def across(run: RunPlan) -> bool:
    """Whether one pipeline goes over all sites, so that no site has a step of its own."""
    return sync_of(run.spec).strategy == "pipeline" and len(_first(run)[1].members) > 1


def interval(run: RunPlan) -> tuple[float, float] | None:
    """80 % interval of the step over the sites: that of the slowest site, the exchange as planned; none where none is known."""
    known = slowest(run)[1].step_interval
    if not math.isfinite(known.low):
        return None
    exchange_s = step(run)["other_sites_s"]
    return known.low + exchange_s, known.high + exchange_s


def step(run: RunPlan) -> dict[str, float]:
    """One step of the first phase over all sites, and the tokens that it trains on; spare accelerators stand by."""
    phase, found = _first(run)
    step_s, rate = run.value(f"phase_run_step_s[{phase}]"), run.value(f"phase_tokens_per_s[{phase}]")
    count = sum(site.cluster.accelerators for site in found.members)
    return {
        "step_s": step_s, "slowest_site_step_s": run.value(f"phase_healthy_step_s[{phase}]"),
        "other_sites_s": run.value(f"phase_sync_exposed_s[{phase}]"), "accelerators": count, "tokens_per_s": rate,
        "tokens_per_s_per_accelerator": rate / count,
    }


def what(run: RunPlan) -> str:
    """The run and its sites in one sentence, equal sites together."""
    _, found = _first(run)
    kinds: dict[int, int] = {}
    for site in found.members:
        kinds[site.entry] = kinds.get(site.entry, 0) + 1
    known = {site.entry: site for site in found.members}
    parts = [
        f"{f'{count} x ' if count > 1 else ''}{run.spec.sites[entry].name} of {known[entry].cluster.accelerators:,} "
        f"{known[entry].cluster.profile}" for entry, count in kinds.items()
    ]
    name, total = run.spec.name or run.spec.model.name, f"{step(run)['accelerators']:,} accelerators"
    if len(found.members) == 1:
        return f"{name} on one site: {parts[0]}"
    return f"{name} over {len(found.members)} sites, {total}, {sync_of(run.spec).strategy}: {', '.join(parts)}"


def _lines(run: RunPlan) -> tuple[str, str]:
    one = step(run)
    phase, found = _first(run)
    text = units.show(one["step_s"], "s")
    if len(found.members) > 1:
        text += f": {units.show(one['slowest_site_step_s'], 's')} on the slowest site, {units.show(one['other_sites_s'], 's')}"
        text += " for the exchange between sites"
    if len(run.steps) > 1:
        text += f" (phase {phase}, the first of {len(run.steps)})"
    if known := interval(run):
        text += f"; 80 % interval {units.show(known[0], 's')} to {units.show(known[1], 's')}, the exchange as planned"
    rate, each = one["tokens_per_s"], one["tokens_per_s_per_accelerator"]
    return text, f"{units.show(rate, 'tokens_per_s')}, {units.show(each, 'tokens_per_s')} per accelerator"


def _one_site(run: RunPlan) -> str:
    name, plan = slowest(run)
    _, found = _first(run)
    if across(run):
        return f"the step of all sites as if in one building: {headline(plan)}"
    rank = "" if len(found.members) == 1 else ", the slowest; what follows is its step alone"
    return f"one site: {name}{rank}. {headline(plan)}"


def _unsure(run: RunPlan) -> tuple[str, ...]:
    return beyond.unsure(slowest(run)[1], run)


def screen(run: RunPlan) -> str:
    """The verdict, the step over the sites, and the title of the one-site plan that follows; 80 columns."""
    steps, tokens = _lines(run)
    lines = [wrap(("FEASIBLE" if run.feasible else "NOT FEASIBLE") + view.but_open(_unsure(run)), "    ", "")]
    lines += [wrap(message, "    ", "  - ") for message in run.violations]
    lines += [wrap(what(run)), "", wrap(steps, " " * 12, "step time   "), f"tokens      {tokens}", "", wrap(_one_site(run))]
    return "\n".join(lines)


def markdown(run: RunPlan, given: Plan) -> str:
    """The same for a review. `given`: the plan of the spec as written, for its hash."""
    steps, tokens = _lines(run)
    found = view.plain(view.verdict(run.violations, _unsure(run)))
    parts = [
        f"# {view.plain(view.title(given))}: design review", view.plain(what(run)),
        f"**{found}** A step takes {view.plain(steps)}. {tokens}.",
        view.bullets([_one_site(run), f"spec hash {given.spec_hash[:12]}"]),
    ]
    return "\n\n".join([*parts, *(["**Violations**", view.bullets(run.violations)] if run.violations else [])])


def to_dict(run: RunPlan, given: Plan, nearest: Sequence[Any]) -> dict[str, Any]:
    """Top level of the plan as data: verdict and step of the run over its sites; the plan of one site under `one_site`.

    `given`: the plan of the spec as written, for its hash, name and notes.
    """
    name, plan = slowest(run)
    whole, own = given.to_dict(), plan.to_dict()
    known = interval(run) or (None, None)
    tokens = run.value("run_tokens")
    return {
        **{key: whole[key] for key in ("schema_version", "spec_hash", "name", "notes", "overrides")},
        "verdict": verdict(run.feasible, run.violations, _unsure(run)),
        "step": {**step(run), "lo_s": known[0], "hi_s": known[1]},
        "one_site": {
            "site": name,
            **{key: own[key] for key in ("layout", "step", "memory", "traffic", "elasticities", "footing", "verdict", "notes")},
        },
        "nearest": list(nearest),
        "run": {
            "tokens": tokens, "steps": sum(run.value(f"phase_steps[{phase}]") for phase in run.steps),
            "uninterrupted_s": run.value("productive_s"),
        },
    }


def parts(run: RunPlan) -> list[dict[str, Any]]:
    """The parts of the step over the sites: those of the slowest site, then what the others add."""
    _, plan = slowest(run)
    one = step(run)
    held = {**plan.parts, "other_sites_s": one["other_sites_s"]}
    return [{"part": name, "s": value, "share": value / one["step_s"]} for name, value in held.items()]


__all__ = [
    "across", "compared", "first_phase", "interval", "markdown", "members", "parts", "place", "plans", "screen",
    "shown", "slowest", "step", "to_dict", "what",
]
