"""Failures, checkpoints and spares of a run as rows for a page: where time is lost, by what, and what would be better."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from codesign import goodput, units
from codesign.report import run_goodput, view
from codesign.report.run_figures import DAY_S, failures
from codesign.run import RunPlan, evaluate

Row = dict[str, Any]

_LEAST = 5e-5  # shares below it are in no chart
_YEAR_S = 365.25 * DAY_S
_POINTS = 121  # of the curve over intervals
_KEPT = 0.7  # of the run's goodput: longer intervals are not drawn
_MOST_SPARES = 120  # points of the curve over spares


def has(run: RunPlan | None) -> bool:
    """Whether the run plans failures."""
    return run is not None and bool(failures(run))


# ---------------------------------------------------------------------------------------------------- where time is lost


def _parts(run: RunPlan) -> dict[str, tuple[float, float]]:
    """Goodput and every loss that is worth a row: share of the wall clock, and the percentage as shown; they add up."""
    parts = {cause: share for cause, share in failures(run)["budget"].items() if share >= _LEAST or cause == "goodput"}
    small = 1.0 - sum(parts.values())
    if small > 1e-9:
        parts["smaller losses"] = small
    shown = view.adding_up([100.0 * share for share in parts.values()], 0.01)
    return {cause: (share, number) for (cause, share), number in zip(parts.items(), shown, strict=True)}


def loss_rows(run: RunPlan) -> list[Row]:
    """What takes time from training, the largest first: cause, share of the wall clock, its text."""
    rows = [
        {"cause": cause, "share": share, "shown": f"{number:.2f} %"}
        for cause, (share, number) in _parts(run).items() if cause != "goodput"
    ]
    return sorted(rows, key=lambda row: -row["share"])


def budget_table(run: RunPlan) -> list[Row]:
    """Goodput and every loss, as shares of the wall clock that add up, and as days."""
    days = failures(run)["run_days"]
    return [
        {"cause": cause, "of the wall clock": f"{number:.2f} %", "days": "-" if days is None else f"{share * days:.3g}"}
        for cause, (share, number) in _parts(run).items()
    ]


def budget_summary(run: RunPlan) -> str:
    """The chart in a sentence."""
    said = ", ".join(f"{row['cause']} {row['shown']}" for row in loss_rows(run))
    trained = goodput.wall_clock(run)["goodput"]
    return f"Of the wall clock {view.percent(trained, 2)} is training that counts; the rest: {said or 'next to nothing'}."


def component_table(run: RunPlan) -> list[Row]:
    """What fails: how many, how often, what it costs, and what kind of number its rate is."""
    lost, rows = failures(run)["lost_by_component"], []
    for name in run.inputs.indexes["component"]:
        rate, count = run.value(f"component_failures_per_s[{name}]"), run.value(f"component_units[{name}]")
        leaf = run.inputs.leaves[f"component_unit_per_s[{name}]"]
        if not count:
            continue
        rows.append({
            "component": name, "units": f"{count:,.0f}", "one fails in": _long(count / rate) if rate else "not known",
            "failures a day": f"{DAY_S * rate:.3g}" if rate else "-", "costs": view.percent(lost[name], 2),
            "replicas hit": f"{run.value(f'component_replicas_hit[{name}]'):g}", "rate is": leaf.kind,
        })
    return rows


def component_sources(run: RunPlan) -> list[str]:
    """Where the rates come from, each source once."""
    found = [run.inputs.leaves[f"component_unit_per_s[{name}]"].source for name in run.inputs.indexes["component"]
             if run.value(f"component_units[{name}]")]
    return list(dict.fromkeys(found))


def _long(seconds: float) -> str:
    return f"{seconds / _YEAR_S:.3g} years" if seconds >= _YEAR_S else units.show(seconds, "s")


def bearable_table(run: RunPlan) -> list[Row]:
    """How often the job may fail for a goodput."""
    now_s = failures(run)["mean_time_to_failure_s"]
    rows = []
    for one in failures(run)["bearable"]:
        mean_s = one["mean_time_to_failure_s"]
        bears = "-" if mean_s is None or now_s is None else f"{mean_s / now_s:.3g} times as long as now"
        rows.append({
            "goodput of": view.percent(one["target"], 0),
            "one interruption in": "any, or out of reach" if mean_s is None else units.show(mean_s, "s"), "that is": bears,
        })
    return rows


# ---------------------------------------------------------------------------------------------------- policies, spares


def policy_names(run: RunPlan) -> tuple[str, ...]:
    """The policies that the layout allows, the run's own first."""
    return goodput.policies(run)


def policy_rows(run: RunPlan) -> list[Row]:
    """Goodput of each policy, and of all accelerators that it holds; for a chart."""
    return [
        {"policy": one["policy"], "of": label, "goodput": one[name]}
        for one in failures(run)["policies"]
        for name, label in (("goodput", "of the job's accelerators"), ("goodput_per_accelerator", "of all held, with spares"))
    ]


def policy_table(run: RunPlan) -> list[Row]:
    """The policies side by side, the run's own first."""
    rows = []
    for one in failures(run)["policies"]:
        worst = max(one["lost"], key=lambda cause: one["lost"][cause])
        rows.append({
            "policy": one["policy"], "goodput": view.percent(one["goodput"]),
            "of all held": view.percent(one["goodput_per_accelerator"]),
            "days": f"{one['days']:.4g}" if math.isfinite(one["days"]) else "never ends",
            "spare nodes": f"{one['spare_nodes']:,.0f}", "from memory": view.percent(one["from_memory"], 0),
            "costs most": f"{worst} {view.percent(one['lost'][worst])}",
        })
    return rows


def policy_summary(run: RunPlan) -> str:
    """The best policy of all accelerators held, in a sentence."""
    found = failures(run)["policies"]
    best = max(found, key=lambda one: one["goodput_per_accelerator"])
    most = view.percent(best["goodput_per_accelerator"])
    said = f"Goodput of all accelerators held is highest under {best['policy']}: {most}"
    own = found[0]
    if best == own:
        return f"{said}."
    return f"{said}; under {own['policy']}, as stated, {view.percent(own['goodput_per_accelerator'])}."


def spare_rows(run: RunPlan) -> list[Row]:
    """Goodput of all accelerators held over the number of spare nodes, for the run's policy; none where it keeps none."""
    name = goodput.policies(run)[0]
    own = run.value(f"policy_spare_nodes[{name}]")
    if own == 0.0:
        return []
    made = goodput.chosen_only(run.inputs)
    made = replace(made, structure={**made.structure, "spares_are_stated": True})
    most = 2.0 * own + 4.0
    counts = np.unique(np.round(np.linspace(0.0, most, min(_MOST_SPARES, int(most) + 1))))
    wanted = ("policy_goodput", "policy_goodput_per_accelerator")
    values = evaluate(made, {"stated_spare_nodes": counts}, wanted)
    found = [np.broadcast_to(values[one, name], counts.shape) for one in wanted]
    return [
        {"spare nodes": float(count), "of": label, "goodput": float(value)}
        for label, column in zip(("of the job's accelerators", "of all held, with spares"), found, strict=True)
        for count, value in zip(counts, column, strict=True)
    ]


def spare_nodes(run: RunPlan) -> float:
    """Spare nodes that the run's policy holds."""
    return run.value(f"policy_spare_nodes[{goodput.policies(run)[0]}]")


def spare_summary(run: RunPlan) -> str:
    """How many spares, why, and how many are out for repair."""
    how = "as stated" if run.inputs.structure["spares_are_stated"] else "enough at a random instant"
    out = f"on average {failures(run)['nodes_in_repair']:.3g} nodes are in repair"
    return f"{spare_nodes(run):,.0f} spare nodes under {goodput.policies(run)[0]} ({how}); {out}."


# ---------------------------------------------------------------------------------------------------- checkpoints


def interval_rows(run: RunPlan) -> list[Row]:
    """Goodput over the compute between two checkpoints in storage, from the shortest in which one can be written."""
    made = goodput.chosen_only(run.inputs)
    made = replace(made, structure={**made.structure, "interval_is_stated": True})
    own_s = run.value("checkpoint_interval_s")
    low_s = min(max(run.value("mean_step_s"), run.value("checkpoint_lag_s")), own_s)
    high_s = max(min(run.value("productive_s"), 1e4 * own_s), own_s)
    values = evaluate(made, {"stated_interval_s": np.geomspace(low_s, high_s, _POINTS)}, ("goodput", "checkpoint_interval_s"))
    columns = [np.broadcast_to(values[name, None], (_POINTS,)) for name in ("checkpoint_interval_s", "goodput")]
    least = _KEPT * run.value("goodput")
    return [{"interval_s": float(at), "goodput": float(value)} for at, value in zip(*columns, strict=True) if value >= least]


def interval_summary(run: RunPlan) -> str:
    """What a checkpoint is, what it costs, and how often one is written."""
    found = failures(run)
    how = "as stated" if run.inputs.structure["interval_is_stated"] else "the best"
    every, write = (units.show(found[name], "s") for name in ("checkpoint_interval_s", "checkpoint_write_s"))
    size, rate = units.show(found["checkpoint_B"], "B"), units.show(found["checkpoint_mean_Bps"], "Bps")
    kind = run.inputs.structure["checkpoint_kind"]
    return f"A checkpoint of {size}, {kind}, takes {write} to storage; one every {every} of compute ({how}), {rate} on average."


def domain_table(run: RunPlan) -> list[Row]:
    """What each failure domain takes down."""
    return [
        {"lost at once": one["domain"], "ranks": f"{one['ranks']:,.0f}", "replicas hit": f"{one['replicas']:g}",
         "of all replicas": view.percent(one["share_of_replicas"])}
        for one in run_goodput.domains(run)
    ]
