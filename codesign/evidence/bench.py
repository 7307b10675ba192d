"""`make bench`: speed as ratios, measured in one run on the machine at hand. Never a timed test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import planner
from codesign.spec import load, resolve
from codesign.spec.datafiles import root

Array = NDArray[np.float64]
EXAMPLES = ("llama-3.1-405b-h100.yaml", "deepseek-v3-h800.yaml", "llama-3-8b-fsdp.yaml")


def best_s(run: Callable[[], Any], times: int, rounds: int = 5) -> float:
    """The least mean time of `times` calls over some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            run()
        best = min(best, (time.perf_counter() - start) / times)
    return best


def cold_s(*arguments: str, rounds: int = 5) -> float:
    """The least time of a fresh interpreter with these arguments."""
    return best_s(lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=False), 1, rounds)


def structures(example: Path) -> Iterator[tuple[resolve.Problem, int]]:
    """Pipelines, chunks and shardings of one model on its cluster: what the grid is laid out for, one after the other."""
    for pp in (4, 8, 16):
        for vpp in (1, 2, 4):
            for sharding in ("zero1", "zero2"):
                sets = [
                    f"layout.pp={pp}", f"layout.vpp={vpp}", f"layout.dp={16384 // 8 // pp}", f"layout.sharding={sharding}",
                    f"layout.schedule={'interleaved' if vpp > 1 else '1f1b'}", "layout.recompute=full",
                ]  # fmt: skip
                yield resolve.resolve(load.load(example, sets).spec), pp


def axis(values: Any, at: int, count: int) -> Array:
    shape = [1] * count
    shape[at] = len(values)
    return np.asarray(values, dtype=np.float64).reshape(shape)


def sweep() -> tuple[int, int, float]:
    """Complete layouts of the 405B example: how many, how many of them feasible, and the seconds on one core.

    Every step, memory and traffic quantity and every constraint of a plan. All are distinct: tensor and context degrees,
    micro-batch, share of recomputed layers, global batch, pipeline, chunks, sharding.
    """
    problems = list(structures(root("examples") / EXAMPLES[0]))
    tp, cp = axis([2, 4, 8, 16], 0, 5), axis([1, 2, 4, 8], 1, 5)
    micro, batch = axis([1, 2], 2, 5), axis([512, 1024, 1536, 2048, 3072, 4096, 6144, 8192], 4, 5)
    share = axis(np.arange(32) / 31, 3, 5)
    size = (tp + cp + micro + share + batch).shape
    count = feasible = 0
    start = time.perf_counter()
    for problem, pp in problems:
        axes = {
            "tp": tp, "cp": cp, "dp": 16384.0 / (tp * cp * pp), "micro_batch": micro, "recompute_fraction": share,
            "global_batch": batch,
        }  # fmt: skip
        values = planner.evaluate_grid(problem, axes)
        fits = np.broadcast_to(values[("feasible", None)], size)
        count += fits.size
        feasible += int(np.count_nonzero(fits))
    return count, feasible, time.perf_counter() - start


def lines() -> list[str]:
    out = []
    numpy_s = cold_s("-c", "import numpy")
    for name in EXAMPLES:
        loaded = load.load(root("examples") / name)
        planner.plan(loaded)
        one_s = best_s(lambda loaded=loaded: planner.plan(loaded), 20)  # type: ignore[misc]
        out.append(
            f"plan() of {name}: {one_s * 1e3:.2f} ms; cold import numpy: {numpy_s * 1e3:.0f} ms; ratio 1 to {numpy_s / one_s:.0f}"
        )
    sweep()
    count, feasible, seconds = min((sweep() for _ in range(5)), key=lambda run: run[2])
    out.append(
        f"complete layouts on one core: {feasible / seconds:,.0f} feasible and distinct a second "
        f"({feasible:,} feasible of {count:,} in {seconds * 1e3:.0f} ms; {count / seconds:,.0f} in all)"
    )
    bare_s = cold_s("-c", "import numpy, pydantic, typer, yaml; from pydantic import BaseModel")
    cli_s = cold_s("-m", "codesign", "plan", str(root("examples") / EXAMPLES[0]))
    out.append(
        f"cold codesign plan: {cli_s * 1e3:.0f} ms; bare import of numpy, pydantic, typer and yaml: {bare_s * 1e3:.0f} ms; "
        f"ratio {cli_s / bare_s:.2f}"
    )
    return out


def main() -> int:
    for line in lines():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
