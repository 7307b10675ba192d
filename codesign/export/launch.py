"""export(plan, target): the launch configuration of a plan, with a header that says what it rests on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from codesign import __version__, errors
from codesign.export import asked as asking
from codesign.export import bridge, deepspeed, maxtext, megatron_script, neutral, torchtitan
from codesign.export.asked import FILL_IN, LEFT_OUT, Asked, Framework
from codesign.planner import Plan

CARRIED = "#: "  # lines that `import-megatron` reads back
Writer = Callable[[Asked, Callable[[Framework, Mapping[str, str]], str]], str]
WRITERS: dict[str, Writer] = {
    "megatron": megatron_script.write,
    "megatron-bridge": bridge.write,
    "torchtitan": torchtitan.write,
    "deepspeed": deepspeed.write,
    "maxtext": maxtext.write,
}
TARGETS = (*WRITERS, "json")


@dataclass(frozen=True)
class Export:
    """The text of a launch configuration, and what there is to say beside it."""

    text: str
    notes: tuple[str, ...]


def export(plan: Plan, target: str) -> Export:
    """The launch configuration of a plan for one of TARGETS, infeasible or not.

    Raises SpecError (nothing is written) where the framework cannot do what the plan asks: every such field by name.
    """
    if target not in TARGETS:
        raise errors.SpecError(f"--to {target}: no such target. Allowed: {', '.join(TARGETS)}")
    notes = [f"{name}: left out, it is no part of a launch" for name in LEFT_OUT if _has(plan, name)]
    if not plan.feasible:
        notes += [f"this plan is not feasible: {why}" for why in plan.violations]
    if target == "json":
        return Export(neutral.write(plan), tuple(notes))
    asked = asking.asked(plan)
    text = WRITERS[target](asked, partial(_header, plan, asked))
    left = text.count(FILL_IN)
    if left:
        notes.append(f"the plan does not decide everything: {FILL_IN} marks what you must")
    return Export(text, tuple(notes))


def _has(plan: Plan, section: str) -> bool:
    return bool(getattr(plan.problem.spec, section))


def _header(plan: Plan, asked: Asked, framework: Framework, notes: Mapping[str, str]) -> str:
    """Comment lines: what this is, what it was checked against, and every field that no option carries."""
    spec = plan.problem.spec
    name = spec.name or spec.model.name
    lines = [
        f"# {' '.join(name.split())}: launch configuration for {framework.name}, written by codesign {__version__}.",
        f"# Checked against {framework.source}.",
        f"# Spec {plan.spec_hash}; planned step {plan.step_s:.6g} s; {'fits' if plan.feasible else 'DOES NOT FIT'}.",
    ]
    lines += [f"# NOT FEASIBLE: {' '.join(why.split())}" for why in plan.violations]
    left = [section for section in LEFT_OUT if _has(plan, section)]
    if left:
        lines.append(f"# Left out, no part of a launch: {', '.join(left)}.")
    lines.append("#")
    lines.append(f"# Fields of the plan that {framework.name} has no option for, or carries in part; no effect on the launch.")
    for field, why in notes.items():
        lines.append(f"{CARRIED}{field}: {json.dumps(asked.values[field])}  # {why}")
    return "\n".join(lines) + "\n"
