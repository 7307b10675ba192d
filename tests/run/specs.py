"""Runs for the tests of what lies beyond the step: a small job and the shipped 16,384-accelerator one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from codesign import planner, run

ROOT = Path(__file__).parents[2]
STORAGE = {"storage_Bps": "200 GB/s"}


@cache
def _example() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "examples" / "llama-3.1-405b-h100.yaml").read_text(encoding="utf-8"))


def spec(section: dict[str, Any], **layout: Any) -> dict[str, Any]:
    """Llama 3.1 405B as shipped with a `run:` section; `layout` fields in place of its own."""
    data = {**_example(), "run": section}
    return {**data, "layout": {**data["layout"], **layout}}


def with_failures(failures: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    """A `run:` section: the default rates and a storage, changed as asked."""
    return {"failures": failures or {}, "checkpoint": STORAGE, **parts}


def planned(section: dict[str, Any], **layout: Any) -> run.RunPlan:
    return run.run_plan(planner.plan(spec(section, **layout)))
