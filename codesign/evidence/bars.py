"""`make bars`: every bar that the project is held to, with its figure now. `--refit` repeats the left-out fits (a minute)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from codesign.evidence import bench, run_bars, runs, search_bars
from codesign.evidence.score import Score, mark
from codesign.evidence.validate import Validation, memory_counts, validate
from codesign.spec import stacks

# Peers' mean errors on the same sets, run side by side (reference: issue, bar 4); the least is the bar.
PEERS: dict[str, tuple[float, str, Callable[[runs.Row], bool]]] = {
    "Korthikanti 2022 table 5": (
        0.037,
        "Calculon",
        lambda r: r["source"]["key"] == "korthikanti2022" and "-t5-" in r["id"],
    ),
    "Narayanan 2021 table 1": (
        0.054,
        "llm-analysis",
        lambda r: r["source"]["key"] == "megatron2021" and "-t1-" in r["id"],
    ),
    "vTrain multi-node": (0.153, "Calculon", lambda r: r["source"]["key"] == "vtrain" and "multi" in r["id"]),
    "Megatron-Bridge Llama 3 H100 FP8": (
        0.081,
        "Calculon, 5 of 12 rows",
        lambda r: (
            r["source"]["key"] == "megatron-bridge"
            and r["accelerator"] == "h100-sxm-80gb"
            and "llama" in str(r["model"]["name"]).lower()
            and str(r["layout"]["precision"]).startswith("fp8")
        ),
    ),
    "llm-foundry H100": (
        0.138,
        "the one that can express it",
        lambda r: r["source"]["key"] == "llm-foundry" and r["accelerator"] == "h100-sxm-80gb",
    ),
}


def accuracy(v: Validation) -> Iterator[str]:
    """Bar 3 on the development rows, with the constants as they are."""
    ok, caution = v.score(), v.score(level="caution")
    wanted = sum(runs.scored(r) for r in v.measured)
    table = v.summary_rows()
    first = table[0]
    yield f"{mark(ok.rows / wanted >= 0.97)} predicted {ok.rows / wanted:.1%} of {wanted} rows (bar 97 %)"
    yield f"{mark(ok.median <= 0.055 and ok.mean <= 0.085 and abs(ok.bias) <= 0.02)} {_score('in sample', ok)} (bar 5.5, 8.5, 2)"
    yield f"{mark(caution.median <= 0.09 and caution.mean <= 0.13)} {_score('caution rows, never fitted', caution)} (bar 9, 13)"
    yield f"{mark(first['ranking'] >= 0.9)} ranking {first['ranking']:.1%} over {first['ranking_groups']} groups (bar 90 %)"
    regret = v.regret()
    within = float(np.mean([r <= 0.03 for r in regret.values()]))
    yield f"{mark(within >= 0.9)} our pick within 3 % of the best measured in {within:.0%} of {len(regret)} families (bar 90 %)"
    others = {k: r for k, r in regret.items() if "-h1024-" not in k and "-h2048-" not in k}
    yield f"      of these, beyond one-node runs of models under 2B: {sum(r <= 0.03 for r in others.values())} of {len(others)}"
    for line in table:
        if line["groups"] >= 2 and line["cell"].count(" ") >= 2 and not line["cell"].startswith(("all", "caution")):
            met = mark(abs(line["bias"]) <= 0.08)
            yield f"{met} cell {line['cell']}: bias {line['bias']:+.1%}, {line['groups']} groups (bar 8 %)"
    count = len(v.constants())
    yield f"{mark(count <= 60)} {count} fitted constants (bar 60)"


def left_out(refit: bool) -> Iterator[str]:
    """Bar 3 with groups and sources left out of the fit."""
    if refit:
        from codesign.evidence import calibrate

        summary = calibrate.left_out_summary()
    else:
        summary = json.loads((stacks.DATA / "error_summary.json").read_text(encoding="utf-8"))
    for name, median, mean in (("leave_one_group_out", 0.07, 0.10), ("leave_one_source_out", 0.08, 0.12)):
        s = summary[name]
        met = mark(s["median"] <= median and s["mean"] <= mean)
        figures = f"{s['rows']} rows, median {s['median']:.1%}, mean {s['mean']:.1%}, bias {s['bias']:+.1%}"
        origin = "" if refit else ", from make refit"
        yield f"{met} {name.replace('_', ' ')}: {figures} (bar {median:.0%}, {mean:.0%}){origin}"


def confidence() -> Iterator[str]:
    """How often pairs of measured runs are in the right order, and how often we say so, each group told by the others."""
    rows = json.loads((stacks.DATA / "error_summary.json").read_text(encoding="utf-8"))["ranking_confidence"]
    for row in rows:
        upto = "and more" if row["gap_to"] is None else f"to {row['gap_to']:.0%}"
        held = f"right {row['right']:.0%} +- {row['standard_error']:.0%}, said {row['confidence']:.0%}"
        yield f"{row['scope']:9} gap {row['gap_from']:.0%} {upto:9} {held} ({row['pairs']:,} pairs, {row['groups']} groups)"


def peers(v: Validation) -> Iterator[str]:
    """Bar 4, row by row."""
    by_id = {r["id"]: r for r in v.measured}
    for name, (bar, peer, inside) in PEERS.items():
        rows: list[tuple[str, float, float]] = []
        for out in v.rows:
            row = by_id[out["id"]]
            counts = (
                row.get("complete")
                and runs.trust(row) != "distrust"
                and out["predicted_step_s"]
                and out["measured_step_s"]
            )
            if counts and inside(row):
                rows.append((out["id"], out["measured_step_s"], out["predicted_step_s"]))
        mean = float(np.mean([abs(p / m - 1) for _, m, p in rows]))
        yield f"{mark(mean < bar)} {name}: {len(rows)} rows, mean error {mean:.1%} (best peer {bar:.1%}, {peer})"
        for at, (row_id, measured, predicted) in enumerate(rows):
            if at < 12:
                yield f"        {row_id[:64]:64} {measured:9.3f} s  ours {predicted:9.3f} s  {predicted / measured - 1:+.1%}"
        if len(rows) > 12:
            yield f"        and {len(rows) - 12} more: codesign validate --format csv"


def memory(v: Validation) -> Iterator[str]:
    """Bar 5."""
    b200 = v.errors(
        "memory",
        where=lambda r: r["accelerator"] == "b200-sxm" and r["measured"].get("memory_kind") == "peak_allocated",
    )
    sizes = np.abs(list(b200.values()))
    median, worst = float(np.median(sizes)), float(np.max(sizes))
    met = mark(median <= 0.01 and worst <= 0.04)
    yield f"{met} B200 peak allocated: {len(b200)} rows, median {median:.1%}, worst {worst:.1%} (bar 1, 4)"
    s = v.score("memory")
    wanted = sum(memory_counts(r) for r in v.measured)
    yield f"{mark(s.median <= 0.08 and s.mean <= 0.11)} {_score('all memory rows', s)} of {wanted} (bar 8, 11)"


def _score(name: str, s: Score) -> str:
    errors = f"median {s.median:.1%}, mean {s.mean:.1%}, p90 {s.p90:.1%}, bias {s.bias:+.1%}"
    return f"{name}: {s.rows} rows, {s.groups} groups, {errors}"


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    v = validate()
    parts: list[tuple[str, Any]] = [
        ("accuracy", accuracy(v)),
        ("accuracy, left out", left_out("--refit" in arguments)),
        ("confidence of a ranking, by predicted gap", confidence()),
        ("beside the peers, one set of constants", peers(v)),
        ("memory", memory(v)),
        ("speed, as ratios on this machine", iter(() if "--no-bench" in arguments else bench.lines())),
        ("search", iter(()) if "--no-bench" in arguments else search_bars.lines(v)),
        ("the run beyond the step", iter(()) if "--no-bench" in arguments else run_bars.lines()),
    ]
    for title, rows in parts:
        print(title)
        for line in rows:
            print("  " + line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
