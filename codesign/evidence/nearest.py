"""The measured runs most like a plan, with our error on each: the evidence a reader can check at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.planner import Plan
from codesign.spec import stacks

# Distance: what differs in kind costs a fixed amount, what differs in size its logarithm. Judgement, not fitted.
SAME = {"family": 2.0, "stack": 1.5, "kind": 3.0, "precision": 0.7}
SIZES = {"parameters": 0.35, "accelerators": 0.15, "sequence": 0.3, "tp": 0.15, "pp": 0.1, "cp": 0.15}


@cache
def _index() -> tuple[list[dict[str, Any]], dict[str, NDArray[np.str_]], dict[str, NDArray[np.float64]]]:
    """Predicted and measured step of every scored row, written by `make refit`."""
    rows = json.loads((stacks.DATA / "nearest.json").read_text(encoding="utf-8"))
    words = {k: np.array([r["features"][k] for r in rows]) for k in SAME}
    sizes = {k: np.log(np.array([r["features"][k] for r in rows], dtype=np.float64)) for k in SIZES}
    return rows, words, sizes


def indexed() -> list[dict[str, Any]]:
    """Every row that can be near: measured and predicted step, error, source, features. At most ten a group."""
    return _index()[0]


def features(plan_or_problem: Any) -> dict[str, Any]:
    """What a run is compared by."""
    problem = plan_or_problem.problem if isinstance(plan_or_problem, Plan) else plan_or_problem
    spec, structure = problem.spec, problem.structural()
    model = spec.model
    moe = model.moe
    width = (moe.experts * moe.expert_ffn if moe else 0) or (model.ffn or 4 * model.hidden)
    return {
        "family": problem.profile.family,
        "stack": problem.stack.name,
        "kind": "moe" if moe else "dense",
        "precision": structure["recipe"].name,
        "parameters": model.layers * model.hidden * (4.0 * model.hidden + 3.0 * width),
        "accelerators": spec.cluster.accelerators,
        "sequence": spec.training.sequence_length,
        "tp": spec.layout.tp,
        "pp": spec.layout.pp,
        "cp": spec.layout.cp,
    }


def nearest(plan: Plan, count: int = 3) -> list[dict[str, Any]]:
    """The `count` measured runs nearest to the plan, at most one a source and model, nearest first."""
    rows, words, sizes = _index()
    mine = features(plan)
    distance = np.zeros(len(rows))
    for name, weight in SAME.items():
        distance += weight * (words[name] != mine[name])
    for name, weight in SIZES.items():
        distance += weight * np.abs(sizes[name] - np.log(float(mine[name])))
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for at in np.argsort(distance, kind="stable"):
        row = rows[int(at)]
        if row["group"] in seen:
            continue
        seen.add(row["group"])
        found.append({**{k: v for k, v in row.items() if k != "features"}, "distance": round(float(distance[at]), 3)})
        if len(found) == count:
            break
    return found


def entry(row: Mapping[str, Any], problem: Any, predicted_s: float) -> dict[str, Any]:
    """One row of the index."""
    measured_s = row["measured"]["step_time_s"]
    return {
        "id": row["id"],
        "group": row["group"],
        "accelerator": row["accelerator"],
        "stack": row["stack"],
        "model": row["model"].get("name") or row["id"],
        "accelerators": row["accelerators"],
        "measured_step_s": measured_s,
        "predicted_step_s": float(f"{predicted_s:.6g}"),
        "error": round(predicted_s / measured_s - 1.0, 4),
        "source": row["source"]["where"],
        "features": features(problem),
    }


def thinned(entries: list[dict[str, Any]], most: int = 10) -> list[dict[str, Any]]:
    """At most `most` entries a group, spread over it: a sweep of near-identical runs does not crowd the others out."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in entries:
        groups.setdefault(one["group"], []).append(one)
    kept: list[dict[str, Any]] = []
    for rows in groups.values():
        ordered = sorted(rows, key=lambda r: (r["measured_step_s"], r["id"]))
        picks = sorted({round(i * (len(ordered) - 1) / max(most - 1, 1)) for i in range(most)})
        kept += [ordered[i] for i in picks]
    return kept
