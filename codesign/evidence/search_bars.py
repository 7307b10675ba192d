"""Bars of the search: speed, memory, whole searches, exactness at scale, sense, and a cluster that loses a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from codesign import planner
from codesign.evidence.score import mark
from codesign.evidence.validate import Validation
from codesign.search import run, space
from codesign.search.result import Candidate, Result
from codesign.search.space import Space
from codesign.spec import domains
from codesign.spec.datafiles import root

LLAMA, DEEPSEEK = "llama-3.1-405b-h100.yaml", "deepseek-v3-h800.yaml"
CALCULON = 2065  # layouts a second with its logging silenced, on one core (reference: issue, bar 1)
GPUS = "cluster.accelerators=16384"
# A 405B search in which most candidates fit: global batch, pipeline depth, chunks, whole layers recomputed, off-load.
DENSE_SEARCH = (
    "training.global_batch_sequences={from: 1024, to: 16384, step: 128}", "layout.tp=8", "layout.pp=[8, 16, 32]",
    "layout.cp=[1, 2, 4]", "layout.micro_batch=[1, 2]", "layout.vpp=[1, 2, 4]", "layout.sharding=[zero1, zero2]",
    "layout.schedule=[1f1b, interleaved]", "layout.sequence_parallel=true",
    "layout.recompute={granularity: full, fraction: any}",
)  # fmt: skip
# The published layouts: where they stand in our search, and which terms make the distance.
PUBLISHED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Llama-3 405B, 16,384 H100 (Llama 3, table 4)", LLAMA, ()),
    ("DeepSeek-V3, 2,048 H800 (DeepSeek-V3, section 3.2)", DEEPSEEK, ()),
    ("GPT-3 175B, 1,024 H100, Megatron (NeMo recipe in dgxc-benchmarking)", LLAMA, (
        "model=gpt3-175b", "training={sequence_length: 2048, global_batch_sequences: 2048}",
        "cluster={profile: h100-sxm-80gb, accelerators: 1024}", "software=megatron-core",
        "layout={tp: 4, pp: 8, vpp: 12, dp: 32, micro_batch: 1, schedule: interleaved, sharding: zero1, recompute: none}",
    )),
)  # fmt: skip


def opened(example: str, sets: Sequence[str] = (), free: Sequence[str] = ("all",)) -> Space:
    return space.of(domains.load(root("examples") / example, sets, free))


def speed() -> Iterator[str]:
    """Feasible layouts a second on one core, and memory against the number of candidates."""
    one = opened(LLAMA, DENSE_SEARCH, ("dp", "ep", "order"))
    run.search(one)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        tally = run.search(one).kept
        best = min(best, time.perf_counter() - start)
    rate = tally.feasible / best
    counted = f"{tally.feasible:,} of {tally.candidates:,} in {best * 1e3:.0f} ms; {rate / CALCULON:,.0f} x Calculon silenced"
    yield f"{mark(rate >= 1e6)} {rate:,.0f} complete, feasible, distinct layouts a second on one core ({counted}) (bar 1,000,000)"
    sizes = [_peak((*DENSE_SEARCH, _shares(count))) for count in (1, 20, 200)]
    grown = ", ".join(f"{count:,} candidates {peak / 2**20:.0f} MiB" for count, peak in sizes)
    yield f"{mark(sizes[-1][1] < 1.5 * sizes[0][1])} peak memory of a fresh process: {grown} (bar: flat)"


def _shares(count: int) -> str:
    """So many shares of off-loaded activations."""
    return f"layout.offload={{activations: [{', '.join(str(at / count) for at in range(count))}]}}"


def _peak(sets: Sequence[str]) -> tuple[int, float]:
    """Candidates and peak memory of one search in a process of its own."""
    code = (
        "import json, resource, sys; from codesign.evidence import search_bars as b; from codesign.search import run\n"
        "s = b.opened(b.LLAMA, json.loads(sys.argv[1]), ('dp', 'ep', 'order')); run.search(s)\n"
        "print(json.dumps([s.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(sets))], capture_output=True, text=True, check=True
    )
    count, peak = json.loads(out.stdout)
    return count, peak


def whole() -> Iterator[str]:
    """The full search of a dense and a mixture model on 16,384 accelerators, on two cores."""
    for name, example in (("405B dense", LLAMA), ("671B mixture", DEEPSEEK)):
        start = time.perf_counter()
        found = opened(example, (GPUS,))
        tally = run.search(found, workers=2).kept
        seconds = time.perf_counter() - start
        counted = f"{found.size:,} candidates, {tally.feasible:,} feasible, {len(found.structures):,} structures"
        yield f"{mark(seconds < 30)} full search of {name} on 16,384: {seconds:.1f} s on two cores, {counted} (bar 30 s)"


def exact() -> Iterator[str]:
    """A small space against planning each candidate by itself."""
    found = opened(LLAMA, (GPUS, "layout.tp=8", "layout.pp=16", "layout.sharding=zero2"), ("vpp", "micro_batch", "recompute"))
    result = Result(found, run.search(found))
    plans = [planner.plan(found.spec(index)) for index in range(found.size)]
    ranked = sorted((plan.step_s, index) for index, plan in enumerate(plans) if plan.feasible)
    same = [(c.objectives[0], c.index) for c in result.best] == ranked[: len(result.best)]
    adds = result.tally["feasible"] + sum(result.tally["rejected"].values()) == found.size
    yield f"{mark(same)} {found.size:,} candidates planned one by one: the best {len(result.best)} are the same, to the bit"
    yield f"{mark(adds)} every rejected candidate has a reason: {result.tally['rejected']}, and they add up"


def sense(v: Validation) -> Iterator[str]:
    """Our pick among the measured layouts; the published layouts against our best."""
    regret = v.regret()
    good = sum(r <= 0.03 for r in regret.values())
    counted = f"{good} of {len(regret)} families"
    yield f"{mark(good >= 0.9 * len(regret))} our pick within 3 % of the best measured in {counted} (bar 90 %)"
    by_source: dict[str, list[float]] = {}
    for name, value in regret.items():
        by_source.setdefault(name.split("-")[0], []).append(value)
    for source, values in sorted(by_source.items()):
        yield f"      {source}: {sum(r <= 0.03 for r in values)} of {len(values)} families, worst {max(values):.1%}"
    yield f"      {_noise(v)}"
    for title, example, sets in PUBLISHED:
        yield from _distance(title, example, sets)


def _noise(v: Validation) -> str:
    """What no model of the work can order: the same launches, with four times the work, measured faster."""
    times: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in v.measured:
        layout, model, step = row["layout"], row["model"], row["measured"].get("step_time_s")
        if row["source"]["key"] == "vtrain" and "multi" not in row["id"] and step and layout["micro_batch"] == 1:
            key = (model["layers"], *(layout[name] for name in ("tp", "pp", "dp", "global_batch_sequences")))
            times.setdefault(key, {})[model["hidden"]] = step
    pairs = [widths for widths in times.values() if {1024, 2048} <= widths.keys()]
    odd = sum(widths[2048] < widths[1024] for widths in pairs)
    return (
        f"vTrain's one node, micro-batch 1, same layers, layout and batch: hidden 2048 is measured faster than 1024 in {odd} of "
        f"{len(pairs)} pairs"
    )


def _distance(title: str, example: str, sets: Sequence[str]) -> Iterator[str]:
    plan = planner.plan(root("examples") / example, sets=sets)
    found = opened(example, sets)
    best: Candidate = Result(found, run.search(found, workers=2)).best[0]
    words = {name: best.layout.get(name) for name in ("tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch")}
    shown = " ".join(f"{name} {value}" for name, value in words.items() if value and value != 1)
    times = f"published layout {plan.step_s:.3f} s, our best {best.plan.step_s:.3f} s ({shown})"
    yield f"      {title}: {times}: {plan.step_s / best.plan.step_s - 1:+.1%}"
    moved = {name: value - best.plan.parts[name] for name, value in plan.parts.items()}
    largest = sorted(moved.items(), key=lambda item: -abs(item[1]))[:5]
    yield "        " + ", ".join(f"{name} {value:+.3f} s" for name, value in largest if abs(value) > 1e-4)


def cluster(candidates: float = 1e8) -> Iterator[str]:
    """A local Dask cluster, one worker killed in the middle, against one process."""
    from distributed import Client, LocalCluster

    sets = (CLUSTER_BATCH, *DENSE_SEARCH[1:4], "layout.micro_batch=[1, 2, 4]", *DENSE_SEARCH[6:-1], *CLUSTER_SHARES)
    found = opened(LLAMA, sets, ("dp", "ep", "order", "vpp"))
    if found.size < candidates:
        raise ValueError(f"the space has {found.size:,} candidates only")
    start = time.perf_counter()
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        killed: list[int] = []

        def report(now: run.Progress) -> None:
            if not killed and now.candidates > found.size // 4:
                with Client(local.scheduler_address, set_as_default=False) as client:
                    killed.append(sorted(client.run(os.getpid).values())[0])
                os.kill(killed[0], 9)

        on_cluster = run.search(found, scheduler=local.scheduler_address, report=report)
    between = time.perf_counter()
    alone = run.search(found)
    end = time.perf_counter()
    same = on_cluster.kept.to_dict() == alone.kept.to_dict() and on_cluster.done == alone.done
    yield (
        f"{mark(same and bool(killed))} {found.size:,} candidates on a Dask cluster of two, worker {killed} killed: "
        f"{'equal to' if same else 'NOT equal to'} one process ({between - start:.0f} s; alone {end - between:.0f} s)"
    )


CLUSTER_BATCH = "training.global_batch_sequences={from: 512, to: 32768, step: 32}"
CLUSTER_SHARES = (
    "layout.recompute={granularity: full, fraction: any}",
    _shares(220),
)


def lines(v: Validation, heavy: bool = True) -> Iterator[str]:
    yield from speed()
    yield from whole()
    yield from exact()
    yield from sense(v)
    if heavy:
        yield from cluster()


__all__ = ["cluster", "exact", "lines", "sense", "speed", "whole"]
