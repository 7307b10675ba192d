"""Phases of a run as plans of their own: batch, sequence length and layout may differ, the model and the cluster do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign import planner
from codesign.errors import SpecError
from codesign.spec import outcome, schema

# what a layout derives from others, and which of its fields it then follows from
_FOLLOWS = {
    "dp": ("tp", "pp", "cp"),
    "sequence_parallel": ("tp",),
    "cp_style": ("cp",),
    "schedule": ("pp", "vpp"),
    "first_stage_layers": ("pp", "vpp", "stages"),
    "last_stage_layers": ("pp", "vpp", "stages"),
    "stages": ("pp", "vpp"),
    "reshard_after_forward": ("sharding", "pp"),
    "sharding_group": ("sharding",),
}


def step_plans(plan: planner.Plan) -> dict[str, planner.Plan]:
    """The plan of each phase's step, in order; a run without phases has one, `main`. Raises SpecError at the phase."""
    spec = plan.problem.spec
    phases = spec.run.phases if spec.run else ()
    if not phases:
        return {"main": plan}
    return {phase.name: _plan(plan, phase, at) for at, phase in enumerate(phases)}


def shares(spec: schema.Spec, steps: Mapping[str, planner.Plan]) -> dict[str, float]:
    """Share of the tokens of the run in each phase; they add up to 1."""
    phases, tokens = (spec.run.phases if spec.run else ()), spec.training.tokens
    if not phases:
        return dict.fromkeys(steps, 1.0)
    assert tokens is not None
    amounts = outcome.phase_tokens(tokens, phases)
    return {phase.name: amount / sum(amounts) for phase, amount in zip(phases, amounts, strict=True)}


def _plan(plan: planner.Plan, phase: outcome.Phase, at: int) -> planner.Plan:
    training = {"sequence_length": phase.sequence_length, "global_batch_sequences": phase.global_batch_sequences}
    changes = {name: value for name, value in training.items() if value is not None}
    if not changes and not phase.layout:
        return plan
    data = {name: part for name, part in plan.resolved().items() if name not in ("run", "search")}
    data["training"] = {**data["training"], **changes}
    data["layout"] = _layout(data["layout"], phase.layout)
    fixed = {name: float(np.ravel(value)[0]) for name, value in plan.overrides.items()}
    try:
        return planner.plan(data, overrides=fixed)
    except SpecError as error:
        raise SpecError(f"phase {phase.name!r}: {error.message}", field=_field(error.field, at)) from None


def _layout(written: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The layout with the changes of a phase; what follows from a changed field is derived again."""
    moved = {name for name, value in changes.items() if written.get(name) != value}
    kept = {name: value for name, value in written.items() if not moved & set(_FOLLOWS.get(name, ()))}
    return {**kept, **changes}


def _field(name: str | None, at: int) -> str:
    """Where in the phase a field of its spec was written."""
    section, _, leaf = (name or "").partition(".")
    if section == "layout":
        return f"run.phases.{at}.layout.{leaf}"
    return f"run.phases.{at}.{leaf}" if section == "training" else f"run.phases.{at}"
