"""Goodput of a run as text and as data: the answer first, then where the time goes, then every policy beside the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign import goodput, units
from codesign.report import view
from codesign.report.text import WIDTH, bar, percent, table, wrap
from codesign.run import RunPlan

_TARGETS = (0.8, 0.9, 0.95, 0.99)
_SMALLEST = 5e-5  # shares below it are not listed
_OUTAGES = (3600.0, 8 * 3600.0, 3 * 86400.0)  # of a site, for the break-even where no rate is known
_SHORT = {
    "writing checkpoints": "writing", "detection, drain, exchange": "down", "waiting for repair": "waiting",
    "taking nodes back": "returns", "silent corruption": "silent", "missing replicas": "missing",
    "stragglers": "slowest", "waiting for other groups": "groups",
}  # fmt: skip
_TIMES = {
    "detect": "detection", "restart": "start-up", "reschedule": "placing the job anew (restart)", "swap": "swap (hot-spares)",
    "reconfigure": "regrouping (elastic, degraded)", "repair": "repair of a node",
}  # fmt: skip
_SCALE = ("node", "rack", "leaf", "pod", "site")


def lines(run: RunPlan) -> list[str]:
    """The screen of run.failures, 80 columns; nothing where the run has no failures."""
    if run.spec.run is None or run.spec.run.failures is None:
        return []
    blocks = (_answer(run), _budget(run), _components(run), _policies(run), _checkpoints(run), _domains(run), _bearable(run))
    return "\n\n".join("\n".join(block) for block in blocks).split("\n")


def to_dict(run: RunPlan) -> dict[str, Any]:
    """What `lines` says, as plain data in SI base units."""
    if run.spec.run is None or run.spec.run.failures is None:
        return {}
    low, high = goodput.interval(run) or (None, None)
    names = ("goodput", "run_days", "failures_per_day", "mean_time_to_failure_s", "expected_failures", "checkpoint_interval_s",
             "checkpoint_B", "checkpoint_write_s", "checkpoint_mean_Bps", "checkpoints_kept", "nodes_in_repair", "rare_event_s",
             "rare_events", "data_rare_events", "run_accelerators", "lockstep_groups")  # fmt: skip
    return {
        **{name: view_number(run.value(name)) for name in names},
        "goodput_lo": low,
        "goodput_hi": high,
        "checkpoint_interval_within_s": goodput.flat_interval_s(run),
        "budget": goodput.wall_clock(run),
        "lost_by_component": goodput.by_component(run),
        "policies": policies(run),
        "domains": domains(run),
        "bearable": [
            {"target": one.target, "factor": view_number(one.factor), "mean_time_to_failure_s": view_number(one.mean_time_s)}
            for one in goodput.break_even(run, _TARGETS)
        ],
    }  # fmt: skip


def view_number(value: float) -> float | None:
    """A number as JSON has it: none where it is without bound or out of reach."""
    return float(value) if np.isfinite(value) else None


def policies(run: RunPlan) -> list[dict[str, Any]]:
    """Every policy that the layout allows, the run's own first."""
    rows = []
    for name in goodput.policies(run):
        rows.append({
            "policy": name,
            "goodput": run.value(f"policy_goodput[{name}]"),
            "goodput_per_accelerator": run.value(f"policy_goodput_per_accelerator[{name}]"),
            "days": run.value(f"policy_days[{name}]"),
            "spare_nodes": run.value(f"policy_all_spare_nodes[{name}]"),
            "from_memory": run.value(f"policy_memory_share[{name}]"),
            "interval_s": run.value(f"policy_interval_s[{name}]"),
            "lost": {cause: share for cause, share in goodput.budget(run, name).items() if cause != "goodput"},
        })  # fmt: skip
    return rows


def domains(run: RunPlan) -> list[dict[str, Any]]:
    """What each failure domain takes down, from the order of the layout and its degrees."""
    replicas = run.value("data_parallel")
    return [
        {
            "domain": name,
            "ranks": run.value(f"domain_ranks[{name}]"),
            "replicas": (hit := run.value(f"domain_replicas_hit[{name}]")),
            "share_of_replicas": hit / replicas,
        }
        for name in run.inputs.indexes["domain"]
    ]


# ---------------------------------------------------------------------------------------------------- blocks


def _answer(run: RunPlan) -> list[str]:
    chosen = goodput.policies(run)[0]
    first = f"goodput     {percent(run.value('goodput'))} under {chosen}"
    if not run.value("run_ends"):
        return [f"{first}: the run does not end"]
    first += f": {run.value('run_days'):.4g} days"
    found = goodput.interval(run)
    if found:
        first += f"; {percent(found[0])} to {percent(found[1])}"
        out = [first, " " * 12 + "over the 80 % interval of published failure rates"]
    else:
        whose = "one report" if run.inputs.structure["published_rates"] else "your own"
        out = [first, " " * 12 + f"no interval is known: the failure rates are {whose}"]
    every = units.show(run.value("mean_time_to_failure_s"), "s")
    count, a_day = f"{run.value('expected_failures'):.4g} interruptions", f"{run.value('failures_per_day'):.3g} a day"
    where_each = f" in each of {groups(run)} groups" if groups(run) > 1 else ""
    where = "in the run" if groups(run) == 1 else "in all of them"
    out += wrap(f"one in {every}{where_each} ({a_day}), {count} {where}", " " * 12, "failures    ").split("\n")
    rare = units.show(run.value("rare_event_s"), "s")
    text = (
        f"once in a million steps of one accelerator: one in {rare}, {run.value('rare_events'):.4g} in the run; "
        f"of the whole job, as by its data: {run.value('data_rare_events'):.3g} in the run"
    )
    out += wrap(text, " " * 12, "rare events ").split("\n")
    return out


def groups(run: RunPlan) -> int:
    """Groups that take steps of their own; 1 where all accelerators run in lock-step."""
    return round(run.value("lockstep_groups"))


def _budget(run: RunPlan) -> list[str]:
    parts = {name: share for name, share in goodput.wall_clock(run).items() if share >= _SMALLEST or name == "goodput"}
    small = 1.0 - sum(parts.values())
    if small > 1e-9:
        parts["smaller losses"] = small
    shown = view.adding_up([100 * share for share in parts.values()], 0.01)
    out = [f"{'where the wall clock goes':28}{'%':>9}{'days':>10}"]
    days = run.value("run_days")
    for (name, share), number in zip(parts.items(), shown, strict=True):
        lasts = f"{share * days:10.3g}" if np.isfinite(days) else f"{'-':>10}"
        out.append(f"  {name:26}{number:9.2f}{lasts}  {bar(share)}".rstrip())
    left = 1.0 - run.value("other_share")
    if left < 1.0:
        text = f"goodput is {percent(run.value('goodput'))} of the {percent(left)} of the time that others leave for training"
        out += wrap(text, "  ").split("\n")
    return out


def _components(run: RunPlan) -> list[str]:
    rows = []
    lost = goodput.by_component(run)
    for name in run.inputs.indexes["component"]:
        rate = run.value(f"component_failures_per_s[{name}]")
        if not rate:
            continue
        leaf = run.inputs.leaves[f"component_unit_per_s[{name}]"]
        rows.append({
            "component": name,
            "units": f"{run.value(f'component_units[{name}]'):,.0f}",
            "one fails in": long_time(run.value(f"component_units[{name}]") / rate),
            "a day": f"{86400 * rate:.3g}",
            "costs": percent(lost[name], 2),
            "replicas hit": f"{run.value(f'component_replicas_hit[{name}]'):g}",
            "rate is": leaf.kind,
        })  # fmt: skip
    said = [f"what fails in one of the {groups(run)} groups"] if groups(run) > 1 else []
    shown = table(rows, right=("units", "one fails in", "a day", "costs", "replicas hit")).split("\n")
    return [*said, *shown, *_early(run), *_sources(run)]


def _early(run: RunPlan) -> list[str]:
    """Rates in the table are means over the run: what they are before and after, where early failures decay."""
    section = run.spec.run
    if section is None or section.failures is None or section.failures.early_life is None:
        return []
    settled = run.inputs.leaves["component_unit_per_s[accelerator]"].value
    first = settled * run.value("early_life_start_factor")
    begins, later = long_time(1.0 / first), long_time(1.0 / settled)
    said = f"one fails in {begins} when the run begins and in {later} when early failures are over"
    return wrap(f"accelerators: mean over the run; {said}", "  ").split("\n")


def _sources(run: RunPlan) -> list[str]:
    said = {run.inputs.leaves[f"component_unit_per_s[{name}]"].source for name in run.inputs.indexes["component"]
            if run.value(f"component_units[{name}]") and run.inputs.leaves[f"component_unit_per_s[{name}]"].value}  # fmt: skip
    return [line for source in sorted(said) for line in wrap(source, "  ").split("\n")]


def long_time(seconds: float) -> str:
    """A duration in years where it has any."""
    return f"{seconds / 31557600.0:.3g} y" if seconds >= 31557600.0 else units.show(seconds, "s")


def _policies(run: RunPlan) -> list[str]:
    rows = []
    for one in policies(run):
        worst = max(one["lost"], key=lambda cause: one["lost"][cause])
        rows.append({
            "policy": one["policy"],
            "goodput": percent(one["goodput"]),
            "of held": percent(one["goodput_per_accelerator"]),
            "days": f"{one['days']:.4g}" if np.isfinite(one["days"]) else "never",
            "spares": f"{one['spare_nodes']:,.0f}",
            "memory": percent(one["from_memory"], 0),
            "costs most": f"{_SHORT.get(worst, worst)} {percent(one['lost'][worst])}",
        })  # fmt: skip
    right = ("goodput", "of held", "days", "spares", "memory")
    out = ["policies, this layout and these rates", *table(rows, right=right, width=WIDTH).split("\n")]
    said = "of held: goodput of all accelerators held, spare nodes too; memory: failures that go on from a copy in memory"
    out += wrap(said, "  ").split("\n")
    best = max(policies(run), key=lambda one: one["goodput_per_accelerator"])
    if best["policy"] != goodput.policies(run)[0]:
        times = best["goodput_per_accelerator"] / policies(run)[0]["goodput_per_accelerator"]
        gain = f"{times:.3g} times as much" if times > 2 else f"{percent(times - 1.0)} more"
        out += wrap(f"{best['policy']} gives {gain} of the accelerators that are held", "  ").split("\n")
    return [*out, *wrap(_premise(run), "  ").split("\n"), *wrap(_recovery(run), "  ").split("\n")]


def _premise(run: RunPlan) -> str:
    """On what terms the policies are compared."""
    if run.inputs.structure["spares_are_stated"]:
        spares = "run.spares.count"
    else:
        leaf = run.inputs.leaves["spare_quantile"]
        spares = f"enough with {100 * leaf.value:g} % at a random instant ({'yours' if leaf.kind == 'spec' else leaf.kind})"
    return (
        f"premise: each policy pays for the spares of its row, in nodes: {spares}. restart (idle spares) and hot-spares "
        "(warm ones) wait while more nodes are out than that; elastic and degraded go on without the replicas that are missing"
    )


def _recovery(run: RunPlan) -> str:
    """The times that recovery is taken to need, and on what each rests."""
    used = {**_TIMES, **({"site_outage": "outage of a site"} if run.value("component_failures_per_s[site]") else {})}
    told = []
    for name, what in used.items():
        leaf = run.inputs.leaves[f"{name}_s"]
        kind = "yours" if leaf.kind == "spec" else leaf.kind
        told.append(f"{what} {long_time(leaf.value)} ({kind})")
    return f"taken for recovery: {', '.join(told)}"


def _checkpoints(run: RunPlan) -> list[str]:
    kind = run.inputs.structure["checkpoint_kind"]
    size, write = units.show(run.value("checkpoint_B"), "B"), units.show(run.value("checkpoint_write_s"), "s")
    each = " a group" if groups(run) > 1 else ""
    taken = units.show(run.value("checkpoint_blocking_s"), "s")
    out = [f"checkpoints {size}{each}, {kind}: {write} to storage, {taken} of compute"]
    how = "as stated" if run.inputs.structure["interval_is_stated"] else "the best"
    chosen = goodput.policies(run)[0]
    every = units.show(run.value("checkpoint_interval_s"), "s")
    if not run.inputs.structure["interval_is_stated"] and not np.isfinite(run.value(f"policy_best_interval_s[{chosen}]")):
        out.append(" " * 12 + "none is needed in storage under this policy and these rates")
    else:
        rate = units.show(run.value("checkpoint_mean_Bps"), "Bps")
        out.append(" " * 12 + f"every {every} of compute ({how}), {rate} on average; keep {run.value('checkpoints_kept'):g}")
        low, high = (units.show(one, "s") for one in goodput.flat_interval_s(run))
        out.append(" " * 12 + f"any interval from {low} to {high} costs less than 0.1 % more")
    slow = run.inputs.leaves["checkpoint_slowdown"]
    if kind != "synchronous":
        text = f"writing beside the compute slows it by {percent(slow.value)} meanwhile ({slow.kind}: {slow.source})"
        out += wrap(text, " " * 12).split("\n")
    return out


def _domains(run: RunPlan) -> list[str]:
    rows = [
        {"lost at once": one["domain"], "ranks": f"{one['ranks']:,.0f}", "replicas hit": f"{one['replicas']:g}",
         "of all replicas": percent(one["share_of_replicas"])}
        for one in domains(run) if one["domain"] in _SCALE
    ]  # fmt: skip
    return table(rows, right=("ranks", "replicas hit", "of all replicas")).split("\n")


def _bearable(run: RunPlan) -> list[str]:
    now = run.value("mean_time_to_failure_s")
    out = ["what the run would bear: mean time to failure of the job for a goodput"]
    out += [f"  {percent(one.target, 0):>5}  {_bears(one, now)}" for one in goodput.break_even(run, _TARGETS)]
    for name in run.inputs.indexes["component"]:
        leaf = f"component_unit_per_s[{name}]"
        if run.inputs.leaves[leaf].value or not run.value(f"component_units[{name}]"):
            continue
        text = f"no rate of failures by {name} is known: 1 % of the goodput is lost at one in {_unknown(run, name, leaf)}"
        out += wrap(text, "  ").split("\n")
    return out


def _unknown(run: RunPlan, name: str, leaf: str) -> str:
    """The mean time between failures of one unit at which 1 % of the goodput is lost: for a site, by the length of an outage."""
    target = (0.99 * run.value("goodput"),)
    if name != "site":
        return long_time(goodput.break_even(run, target, leaf)[0].mean_time_s)
    found = []
    for outage in _OUTAGES:
        one = goodput.break_even(run, target, leaf, given={"site_outage_s": outage})[0]
        found.append(f"{long_time(one.mean_time_s)} where each lasts {units.show(outage, 's')}")
    return ", ".join(found)


def _bears(one: goodput.Bearable, now_s: float) -> str:
    if np.isnan(one.factor):
        return "out of reach: it is missed even where next to nothing fails"
    if np.isinf(one.factor):
        return "any"
    return f"{units.show(one.mean_time_s, 's')}, {one.mean_time_s / now_s:.3g} times as long as now"


__all__ = ["domains", "lines", "long_time", "policies", "to_dict"]
