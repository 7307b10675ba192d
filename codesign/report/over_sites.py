"""The head of a plan over sites: the answer is that of the run; the plan of the slowest site follows under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign import units
from codesign.planner import Plan
from codesign.report import view
from codesign.report.text import headline, wrap
from codesign.run import RunPlan
from codesign.site_steps import Steps
from codesign.spec.sites import sync_of


def _first(run: RunPlan) -> tuple[str, Steps]:
    return next(iter(run.inputs.structure["site_steps"].items()))


def slowest(run: RunPlan) -> tuple[str, Plan]:
    """The site that the others wait for in the first phase, and its step."""
    _, found = _first(run)
    return found.pacing, found.plans[found.pacing]


def step(run: RunPlan) -> dict[str, float]:
    """One step of the first phase over all sites, and the tokens that it trains on; spare accelerators stand by."""
    phase, found = _first(run)
    step_s = run.value(f"phase_run_step_s[{phase}]")
    rate = run.value(f"phase_step_tokens[{phase}]") / step_s
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
    rate, each = one["tokens_per_s"], one["tokens_per_s_per_accelerator"]
    return text, f"{units.show(rate, 'tokens_per_s')}, {units.show(each, 'tokens_per_s')} per accelerator"


def _one_site(run: RunPlan) -> str:
    name, plan = slowest(run)
    _, found = _first(run)
    if sync_of(run.spec).strategy == "pipeline" and len(found.members) > 1:
        return f"the step of all sites as if in one building: {headline(plan)}"
    rank = "" if len(found.members) == 1 else ", the slowest; what follows is its step alone"
    return f"one site: {name}{rank}. {headline(plan)}"


def screen(run: RunPlan) -> str:
    """The verdict, the step over the sites, and the title of the one-site plan that follows; 80 columns."""
    steps, tokens = _lines(run)
    lines = ["FEASIBLE" if run.feasible else "NOT FEASIBLE"]
    lines += [wrap(message, "    ", "  - ") for message in run.violations]
    lines += [wrap(what(run)), "", wrap(steps, " " * 12, "step time   "), f"tokens      {tokens}", "", wrap(_one_site(run))]
    return "\n".join(lines)


def markdown(run: RunPlan, given: Plan) -> str:
    """The same for a review. `given`: the plan of the spec as written, for its hash."""
    steps, tokens = _lines(run)
    verdict = "Feasible." if run.feasible else f"Not feasible: {len(run.violations)} broken."
    parts = [
        f"# {view.plain(view.title(given))}: design review", view.plain(what(run)),
        f"**{verdict}** A step takes {view.plain(steps)}. {tokens}.",
        view.bullets([_one_site(run), f"spec hash {given.spec_hash[:12]}"]),
    ]
    return "\n\n".join([*parts, *(["**Violations**", view.bullets(run.violations)] if run.violations else [])])


def to_dict(run: RunPlan, given: Plan, nearest: Sequence[Any]) -> dict[str, Any]:
    """Top level of the plan as data: verdict and step of the run over its sites; the plan of one site under `one_site`.

    `given`: the plan of the spec as written, for its hash, name and notes.
    """
    name, plan = slowest(run)
    whole, own = given.to_dict(), plan.to_dict()
    tokens = run.value("run_tokens")
    return {
        **{key: whole[key] for key in ("schema_version", "spec_hash", "name", "notes", "overrides")},
        "verdict": {"feasible": run.feasible, "violations": list(run.violations)},
        "step": step(run),
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


__all__ = ["markdown", "parts", "screen", "slowest", "step", "to_dict", "what"]
