"""json: a neutral form of a plan's launch, with a JSON schema that ships beside it (launch.schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from codesign import __version__
from codesign.export import asked as asking
from codesign.planner import Plan

VERSION = 1
SCHEMA = Path(__file__).parent / "launch.schema.json"


def write(plan: Plan) -> str:
    """Every effective field of model, training, layout, software and cluster; the layers of every stage; the verdict."""
    asked = asking.asked(plan)
    stages = [
        [{"first_layer": chunk.first_layer, "layers": chunk.layers, "embedding": chunk.embedding, "head": chunk.head,
          "mtp_layers": chunk.mtp} for chunk in rank]
        for rank in asked.stages.chunks
    ]  # fmt: skip
    data: dict[str, Any] = {
        "schema_version": VERSION,
        "written_by": f"codesign {__version__}",
        "spec_hash": plan.spec_hash,
        "feasible": plan.feasible,
        "violations": list(plan.violations),
        "step_s": plan.step_s,
        "ranks": asked.ranks,
        "ranks_per_node": asked.per_node,
        "stages": stages,
        "left_out": [name for name in asking.LEFT_OUT if getattr(plan.problem.spec, name)],
        "not_decided": ["learning rate and its schedule", "data", "tokenizer", "initialisation", "checkpoints",
                        "activation function", "rotary base"],
        **nested(asked.values),
    }  # fmt: skip
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as a tree of sections."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = name.split(".")
        at = tree
        for part in above:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise TypeError(f"{name}: {part} is a value, not a section")
        at[last] = value
    return tree


@cache
def json_schema() -> dict[str, Any]:
    """The JSON schema (draft-07) of what `write` returns."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))
