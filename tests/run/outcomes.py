"""Runs that the tests of an outcome share."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from codesign import planner
from codesign.errors import SpecError
from codesign.run import RunPlan, evaluate, run_plan

SMALL = {
    "version": 1, "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 128, "tokens": 1e12},
    "layout": {"tp": 1, "pp": 1, "micro_batch": 1, "sharding": "zero3"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64}, "software": "megatron-core",
}  # fmt: skip
POWER = {"pue": 1.1, "overhead_per_accelerator_W": 450}
REFERENCE = {"name": "the last one", "parameters": 7e9, "tokens": 2e12}
SERVING = {"profile": "h200-sxm", "prompt_tokens": 4000, "output_tokens": 500, "price_per_hour": 3.0}


def made(_training: dict[str, Any] | None = None, _spec: dict[str, Any] | None = None, **run: Any) -> RunPlan:
    """The run of a small model with these sections of `run:`."""
    return _made(json.dumps({**SMALL, **(_spec or {}), "training": {**SMALL["training"], **(_training or {})}, "run": run}))


@cache
def _made(text: str) -> RunPlan:
    return run_plan(planner.plan(json.loads(text)))


def one(run: RunPlan, target: str, **axes: Any) -> np.ndarray:
    """A target under other leaves."""
    arrays = {name: np.atleast_1d(np.float64(value)) for name, value in axes.items()}
    return evaluate(run.inputs, arrays, [target])[(target, None)]


def refused(**sections: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        made(**sections)
    return caught.value
