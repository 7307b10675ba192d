"""Bar of goodput: runs played failure by failure beside their closed form, over random rates, recoveries and storages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from codesign import goodput, planner, run
from codesign.evidence import failures
from codesign.evidence.score import mark
from codesign.spec import datafiles

Array = NDArray[np.float64]

# each kind of checkpoint under another policy, and the sharding under which that policy makes a difference
PLAYED = (
    ("synchronous", "restart", "zero2"), ("asynchronous", "hot-spares", "zero2"), ("memory", "elastic", "none"),
    ("peer", "degraded", "zero2"),
)  # fmt: skip
EACH = 25  # cases of a kind at the best interval, and as many at a stated one


@dataclass(frozen=True)
class Agreement:
    """Played over closed goodput of each case, less 1; how many cases have more than two failures in an interval."""

    gaps: Array
    several: int


def shipped(section: Mapping[str, Any], **layout: Any) -> run.RunPlan:
    """The shipped run of Llama 3.1 405B with a `run:` section; `layout` fields in place of its own."""
    path = datafiles.root("examples") / "llama-3.1-405b-h100.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return run.run_plan(planner.plan({**data, "run": dict(section), "layout": {**data["layout"], **layout}}))


def agreement(seed: int = 2026, runs: int = 100) -> Agreement:
    """200 random runs: half at their best interval, half at a stated one in which up to three failures are expected."""
    gaps, several = [], 0
    for at, (kind, policy, sharding) in enumerate(PLAYED):
        rng = np.random.default_rng(seed + at)
        checkpoint = {"storage_Bps": "1 TB/s", "kind": kind}
        section = {"failures": {}, "checkpoint": checkpoint, "policy": policy}
        best = goodput.simulate(shipped(section, sharding=sharding), runs, seed=at, axes=_axes(rng))
        gaps.append(best.goodput / best.closed - 1.0)
        made = shipped({**section, "checkpoint": {**checkpoint, "interval": "2 h"}}, sharding=sharding)
        axes, expected = _axes(rng), rng.uniform(0.5, 3.0, EACH)
        axes["failure_rate_factor"] = 10 ** rng.uniform(-0.5, 0.2, EACH)
        axes["stated_interval_s"] = expected / (made.value("interruptions_per_s") * axes["failure_rate_factor"])
        stated = goodput.simulate(made, runs, seed=at, axes=axes, cycles=250)
        gaps.append(stated.goodput / stated.closed - 1.0)
        several += int((expected > 2.0).sum())
    return Agreement(np.concatenate(gaps), several)


def young(seed: int = 2026, runs: int = 100) -> Array:
    """The same of runs with early life, replaced parts young again, and stragglers: played over closed goodput, less 1."""
    rng = np.random.default_rng(seed)
    failures = {
        "early_life": {"settling": "20 d", "failed_share": 0.02, "replaced_share": 0.5},
        "stragglers": {"variation": 0.02, "slow_nodes": {"share": 1e-4, "slowdown": 1.1}},
    }
    made = shipped({"failures": failures, "checkpoint": {"storage_Bps": "1 TB/s"}, "policy": "hot-spares"})
    axes = {
        "settling_s": 86400.0 * 10 ** rng.uniform(0.3, 2, EACH), "early_failed_share": 10 ** rng.uniform(-2.5, -1, EACH),
        "early_replaced_share": rng.uniform(0.0, 1.0, EACH), "failure_rate_factor": 10 ** rng.uniform(-1, 0.2, EACH),
        "step_variation": rng.uniform(0.0, 0.05, EACH), "slow_node_share": 10 ** rng.uniform(-5, -2, EACH),
    }  # fmt: skip
    found = goodput.simulate(made, runs, seed=seed, axes=axes)
    return found.goodput / found.closed - 1.0


def _axes(rng: np.random.Generator) -> dict[str, Array]:
    """Rates, recovery and storage far around the published ones."""
    ranges = {
        "failure_rate_factor": (-1.5, 0.7), "restart_s": (1.0, 3.0), "reschedule_s": (1.0, 3.3), "swap_s": (0.0, 2.5),
        "reconfigure_s": (0.0, 2.5), "detect_s": (0.0, 2.5), "checkpoint_storage_Bps": (10.5, 12.5),
    }  # fmt: skip
    return {name: 10 ** rng.uniform(low, high, EACH) for name, (low, high) in ranges.items()}


def lines() -> Iterator[str]:
    """Reports told by the rest, and runs played beside the closed form."""
    yield from failures.lines()
    found = agreement()
    worst = float(np.abs(found.gaps).max())
    text = f"{found.gaps.size} random runs played beside the closed form: within {worst:.1%} (bar 2 %)"
    yield f"{mark(worst <= 0.02)} {text}, {found.several} with more than two failures in an interval"
    gaps = young()
    text = f"{gaps.size} more with early life, renewed parts, slow nodes and noise: within {np.abs(gaps).max():.1%} (bar 2 %)"
    yield f"{mark(float(np.abs(gaps).max()) <= 0.02)} {text}"


__all__ = ["Agreement", "agreement", "lines", "shipped", "young"]
