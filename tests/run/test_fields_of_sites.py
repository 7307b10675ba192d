"""Every field of `sites:`, `links:` and `sync:` changes the run, is refused, or is named in a note: none is ignored."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any, get_args

import pytest

from codesign import plan
from codesign.errors import SpecError
from codesign.report import run as report
from codesign.run import run_plan
from codesign.spec import schema, sites

SPEC: dict[str, Any] = {
    "version": 1,
    "model": "llama-3-8b",
    "training": {"sequence_length": 4096, "global_batch_sequences": 128, "tokens": 1e12},
    "layout": {"tp": 2, "pp": 2, "micro_batch": 1, "sharding": "zero1"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64},
    "software": "megatron-core",
    "sites": [{"name": "west", "region": "coast"}, {"name": "east", "region": "plains"}, {"name": "north", "region": "coast"}],
    "links": [
        {"between": ["west", "east"], "bandwidth": "100 Gb/s", "route_km": 1000, "loss": 1e-5, "transport": "tcp", "flows": 16,
         "window": "64 MiB", "packet": "9000 B", "paths": 2, "share": 0.5},
        {"between": ["west", "north"], "bandwidth": "400 Gb/s", "round_trip": "4 ms"},
    ],
}  # fmt: skip
MORE = {"data_from": "west", "checkpoints": {"source": "west", "target": "east", "every": "1 h"}}
OUTER = {"exchange": "ring", "inner_steps": 20, "fragments": 2, "delay": 1, "outer_bits": 16}
SYNC: dict[str, dict[str, Any]] = {
    "synchronous": {"exchange": "ring", "overlap": "backward", "chunks": 4, "gradient_bits": 16},
    "semi-synchronous": OUTER,
    "mixed": {**OUTER, "overlap": "backward", "chunks": 4, "gradient_bits": 16},
    "pipeline": {"in_flight": 0},
}
GRADIENT: tuple[tuple[str, Any], ...] = (
    ("sync.exchange", "direct"), ("sync.overlap", "none"), ("sync.chunks", 2), ("sync.gradient_bits", 8),
)
ROUND: tuple[tuple[str, Any], ...] = (
    ("sync.inner_steps", 50), ("sync.fragments", 4), ("sync.delay", 0), ("sync.outer_bits", 4),
)
CASES: list[tuple[str, str, Any]] = [
    *(("synchronous", name, value) for name, value in (
        ("sites.0.name", "south"), ("sites.1.count", 2), ("sites.1.cluster", {"accelerators": 32}),
        ("sites.1.layout", {"tp": 4}), ("links.0.between", "all"), ("links.0.bandwidth", "50 Gb/s"), ("links.0.route_km", 3000),
        ("links.1.round_trip", "90 ms"), ("links.0.loss", 1e-3), ("links.0.transport", "go-back-n"), ("links.0.flows", 4),
        ("links.0.window", "1 MiB"), ("links.0.packet", "1500 B"), ("links.0.paths", 4), ("links.0.share", 0.2),
        ("sync.strategy", "semi-synchronous"), ("sync.data_from", "east"),
        ("sync.checkpoints.source", "north"), ("sync.checkpoints.target", "north"), ("sync.checkpoints.every", "5 h"),
        *GRADIENT,
    )),
    *(("semi-synchronous", name, value) for name, value in (*GRADIENT[:1], *ROUND)),
    ("pipeline", "sync.in_flight", 2), ("pipeline", "links.0.route_km", 3000),
    *(("mixed", name, value) for name, value in (("sites.2.region", "hills"), *GRADIENT, *ROUND)),
]  # fmt: skip


def _spec(strategy: str) -> dict[str, Any]:
    spec = {**copy.deepcopy(SPEC), "sync": copy.deepcopy({"strategy": strategy, **SYNC[strategy], **MORE})}
    if strategy == "pipeline":  # two stages lie on two sites
        del spec["sites"][2], spec["links"][1]
    return spec


@cache
def _seen(text: str) -> tuple[str, frozenset[str]]:
    """All that is said of a run, or its refusal; and its notes."""
    try:
        made = run_plan(plan(json.loads(text)))
    except SpecError as error:
        return f"refused: {error.message}", frozenset()
    return json.dumps(report.to_dict(made)), frozenset(made.inputs.notes)


@pytest.mark.parametrize(("strategy", "name", "value"), CASES, ids=[f"{strategy}-{name}" for strategy, name, _ in CASES])
def test_another_value_changes_the_run_or_is_refused(strategy: str, name: str, value: Any) -> None:
    changed = _spec(strategy)
    before, notes = _seen(json.dumps(changed))
    at: Any = changed
    *above, last = name.split(".")
    for part in above:
        at = at[int(part)] if part.isdigit() else at[part]
    at[last] = value
    after, more = _seen(json.dumps(changed))
    assert not before.startswith("refused")
    assert before != after or more - notes, f"{name} = {value!r} is accepted and ignored"


def test_every_field_has_an_entry() -> None:
    named = {".".join(part for part in name.split(".") if not part.isdigit()) for _, name, _ in CASES}
    sections = {"sites": schema.Site, "links": sites.Link, "sync": sites.Sync, "sync.checkpoints": sites.Copies}
    every = {f"{top}.{name}" for top, section in sections.items() for name in section.model_fields} - {"sync.checkpoints"}
    assert named == every
    assert {strategy for strategy, _, _ in CASES} == set(get_args(sites.Sync.model_fields["strategy"].annotation))
