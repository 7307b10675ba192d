"""Bars of the run beyond the step: failures, sites, stories, and a sweep over runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from codesign import goodput, planner
from codesign.evidence import goodput_bars, multisite, search_bars
from codesign.evidence.score import mark
from codesign.run import Inputs, evaluate, run_plan
from codesign.search import run as searches
from codesign.spec.datafiles import root

Array = NDArray[np.float64]

STORIES = ("gpt4-retrain.yaml", "frontier-100k-two-sites.yaml", "ten-million.yaml")
RUNS = 10_000
FAILURES = {  # settled rates, and rates that decay with the age of parts that are renewed
    "": "{rates: pooled}",
    " with early life": "{rates: pooled, early_life: {settling: 20 d, failed_share: 0.02}}",
}
SWEPT = ("run_wall_s", "goodput", "final_loss", "run_accelerator_hours")


def stories() -> Iterator[str]:
    """Each shipped story, from a cold start of the command."""
    for name in STORIES:
        best, code = float("inf"), 0
        for _ in range(3):
            start = time.perf_counter()
            command = [sys.executable, "-m", "codesign", "plan", str(root("examples") / name)]
            code = subprocess.run(command, capture_output=True, check=False).returncode
            best = min(best, time.perf_counter() - start)
        yield f"{mark(best < 2.0 and code == 0)} story {name}: {best:.2f} s, exit {code} (bar 2 s)"


def sweep() -> Iterator[str]:
    """Ten thousand runs, failures x sites x data, against the rate of the layout search."""
    rng = np.random.default_rng(0)
    axes = {
        "failure_rate_factor": rng.uniform(0.2, 5.0, RUNS),
        "wan_factor": rng.uniform(0.2, 5.0, RUNS),
        "unique_tokens": rng.uniform(5e12, 60e12, RUNS),
    }
    layouts = search_bars.opened(search_bars.LLAMA, search_bars.DENSE_SEARCH, ("dp", "ep", "order"))
    searched = min(_timed(lambda: searches.search(layouts)) for _ in range(5))
    for name, failures in FAILURES.items():
        plan = planner.plan(root("examples") / STORIES[1], sets=[f"run.failures={failures}"])
        inputs = goodput.chosen_only(run_plan(plan).inputs)
        seconds = _best_s(inputs, axes)
        ratio = (layouts.size / searched) / (RUNS / seconds)
        told = f"{RUNS:,} runs{name} in {seconds * 1e3:.0f} ms: the search is {ratio:.1f} times as fast (bar 5)"
        yield f"{mark(ratio <= 5.0)} {told}"


def _best_s(inputs: Inputs, axes: Mapping[str, Array]) -> float:
    return min(_timed(lambda: evaluate(inputs, axes, SWEPT)) for _ in range(7))


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def lines() -> Iterator[str]:
    yield from goodput_bars.lines()
    yield from multisite.bar()
    yield from stories()
    yield from sweep()


__all__ = ["lines", "stories", "sweep"]
