"""Every field of `run:` changes the run, is refused, or is named in a note: none is accepted and ignored."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest

from codesign import plan
from codesign.errors import SpecError
from codesign.report import run as report
from codesign.run import run_plan
from codesign.spec import fields, schema

RUN: dict[str, Any] = {
    "loss": {
        "law": "besiroglu", "reference": {"name": "before", "parameters": 7e9, "tokens": 1e12},
        "gains": [{"name": "data", "factor": 1.5, "source": "assumed"}],
        "low_precision_penalty": {"loss_increase": 0.001, "source": "assumed"},
        "critical_batch": {"tokens": 4e6, "source": "assumed"},
    },
    "data": {"unique_tokens": 4e11, "most_repeats": 4, "raw_B": "4 TB", "efficiency": {"factor": 1.2, "source": "assumed"}},
    "phases": [{"name": "main", "share": 0.9}, {"name": "long", "share": 0.1, "sequence_length": 8192,
                                                "global_batch_sequences": 64, "layout": {"cp": 2}}],
    "power": {"pue": 1.2, "overhead_per_accelerator_W": "3 kW", "network_share": 0.05, "cap_W": "1 MW", "kg_per_kWh": 0.3,
              "price_per_kWh": 0.08},
    "price_per_hour": 2.0, "start": "2027-01-01", "today": "2026-06-01", "deadline": "2029-01-01",
    "tranches": [{"date": "2027-01-01", "accelerators": 32}, {"date": "2027-03-01", "accelerators": 32}],
    "other": {"evaluation": 0.02, "post_training": 0.05},
    "launch": {"horizon": "90 d", "improvement_doubling": "400 d"},
    "serving": {"profile": "h200-sxm", "accelerators": 4, "prompt_tokens": 1024, "output_tokens": 256, "precision": "bf16",
                "kv_precision": "bf16", "batch": 16, "price_per_hour": 3.0, "served_tokens": 1e12, "cost_over_training": 1.5},
    "ladder": {"rungs": 5, "smallest": 1e-5, "largest": 1e-2, "residual": {"sd": 0.01, "source": "assumed"}},
    "failures": {
        "rates": "pooled", "mtbf": {"site": "1 y"}, "takes_down": {}, "switch_ports": 64,
        "early_life": {"failed_share": 0.1, "settling": "30 d", "age": "2 d", "replaced_share": 0.9},
        "recovery": {"detect": "2 min", "reschedule": "5 min", "swap": "1 min", "reconfigure": "30 s", "restart": "4 min",
                     "repair": "2 d", "site_outage": "8 h"},
        "corruption": {"mtbf": "20 y", "detect": "1 h"},
        "stragglers": {"variation": 0.01, "slow_nodes": {"share": 0.001, "slowdown": 1.1}},
    },
    "checkpoint": {"storage_Bps": "20 GB/s", "read_Bps": "40 GB/s", "kind": "peer", "interval": "20 min", "slowdown": 0.05,
                   "copies": 2, "apart": "node"},
    "spares": {"quantile": 0.99}, "policy": "hot-spares",
}  # fmt: skip
SPEC: dict[str, Any] = {
    "version": 1,
    "model": "llama-3-8b",
    "training": {"sequence_length": 4096, "global_batch_sequences": 128, "precision": "fp8-current", "tokens": 1e12},
    "layout": {"tp": 2, "pp": 2, "micro_batch": 1, "dp": 16, "sharding": "zero1"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64},
    "software": "megatron-core",
}
Y, MIN = "30 y", "30 min"
CASES: list[tuple[str, Any]] = [
    ("loss.law", "hoffmann"), ("loss.reference.name", "other"), ("loss.reference.parameters", 1e9),
    ("loss.reference.tokens", 2e12), ("loss.gains.0.name", "else"), ("loss.gains.0.factor", 2.0),
    ("loss.gains.0.source", "paper"),
    ("loss.low_precision_penalty.loss_increase", 0.01), ("loss.low_precision_penalty.source", "paper"),
    ("loss.critical_batch.tokens", 1e6), ("loss.critical_batch.source", "paper"),
    ("loss.batch", "bounded"),
    ("data.unique_tokens", 2e11), ("data.most_repeats", 1), ("data.raw_B", "8 TB"), ("data.efficiency.factor", 2.0),
    ("data.efficiency.source", "paper"),
    ("phases.0.name", "first"), ("phases.0.share", 0.5), ("phases.0.tokens", 5e11), ("phases.1.sequence_length", 16384),
    ("phases.1.global_batch_sequences", 32), ("phases.1.layout", {"cp": 4}),
    ("power.pue", 1.5), ("power.overhead_per_accelerator_W", "5 kW"), ("power.network_share", 0.1), ("power.cap_W", "10 kW"),
    ("power.kg_per_kWh", 0.5), ("power.price_per_kWh", 0.2), ("price_per_hour", 4.0), ("start", "2027-02-01"),
    ("today", "2028-01-01"), ("deadline", "2027-01-02"), ("tranches.1.date", "2027-02-01"), ("tranches.1.accelerators", 16),
    ("other.evaluation", 0.1), ("other.post_training", 0.2), ("launch.horizon", "200 d"),
    ("launch.improvement_doubling", "100 d"),
    ("launch.ages", True),
    ("serving.profile", "h100-sxm-80gb"), ("serving.accelerators", 8), ("serving.prompt_tokens", 4096),
    ("serving.output_tokens", 1024), ("serving.precision", "fp8"), ("serving.kv_precision", "fp8"), ("serving.batch", 4),
    ("serving.experts", "whole"),
    ("serving.price_per_hour", 1.0), ("serving.served_tokens", 1e13), ("serving.cost_over_training", 3.0),
    ("ladder.rungs", 4), ("ladder.smallest", 1e-4), ("ladder.largest", 5e-2), ("ladder.residual.sd", 0.05),
    ("ladder.residual.source", "paper"), ("failures.rates", "llama-3"),
    *((f"failures.mtbf.{name}", Y) for name in ("accelerator", "host", "nic", "link", "switch", "software", "site")),
    ("failures.takes_down.accelerator", "leaf"), ("failures.takes_down.host", "leaf"), ("failures.takes_down.nic", "leaf"),
    ("failures.takes_down.link", "leaf"), ("failures.takes_down.switch", "node"), ("failures.switch_ports", 32),
    ("failures.early_life.failed_share", 0.3), ("failures.early_life.settling", "90 d"), ("failures.early_life.age", "60 d"),
    ("failures.early_life.replaced_share", 0.1),
    *((f"failures.recovery.{name}", MIN) for name in ("detect", "reschedule", "swap", "reconfigure", "restart")),
    ("failures.recovery.repair", "9 d"), ("failures.recovery.site_outage", "3 d"), ("failures.corruption.mtbf", "1 y"),
    ("failures.corruption.detect", "9 h"), ("failures.stragglers.variation", 0.1),
    ("failures.stragglers.slow_nodes.share", 0.01), ("failures.stragglers.slow_nodes.slowdown", 2.0),
    ("checkpoint.storage_Bps", "1 GB/s"), ("checkpoint.read_Bps", "1 GB/s"), ("checkpoint.kind", "synchronous"),
    ("checkpoint.interval", "auto"), ("checkpoint.slowdown", 0.5), ("checkpoint.copies", 3), ("checkpoint.apart", "pod"),
    ("spares", {"count": 1}), ("spares.quantile", 0.5), ("policy", "elastic"),
]  # fmt: skip


# What a law cannot use is refused (tests/spec/bad), so that it is not in the run that is changed.
_NO_SHAPE = ("loss.gains", "data.raw_B", "ladder", "serving.served_tokens", "serving.cost_over_training")
_NO_LOSS = (*_NO_SHAPE, "loss.low_precision_penalty", "data.efficiency")
LAWS: dict[str, tuple[str, ...]] = {
    "hoffmann": (), "hoffmann-rounded": (), "muennighoff": (), "kaplan": _NO_SHAPE, "deepseek": _NO_LOSS, "llama3": _NO_LOSS,
}  # fmt: skip
OF_A_LAW = [
    (law, name, value) for law, dropped in LAWS.items() for name, value in CASES
    if (name.partition(".")[0] in ("loss", "data", "ladder") or name in _NO_SHAPE)
    and name != "loss.law" and not any(f"{name}.".startswith(f"{gone}.") for gone in dropped)
]


def _under(law: str) -> dict[str, Any]:
    """The run with another law, without what that law cannot use."""
    run = copy.deepcopy(RUN)
    run["loss"]["law"] = law
    for name in LAWS[law]:
        above, _, last = name.rpartition(".")
        del (run[above] if above else run)[last]
    return run


def _with(name: str, value: Any, base: dict[str, Any] = RUN) -> dict[str, Any]:
    run = copy.deepcopy(base)
    at: Any = run
    *above, last = name.split(".")
    for part in above:
        at = at[int(part)] if part.isdigit() else at[part]
    at[int(last) if last.isdigit() else last] = value
    if name == "phases.0.tokens":
        del run["phases"][0]["share"]
    return run


@cache
def _seen(text: str) -> tuple[str, frozenset[str]]:
    """All that is said of a run, or its refusal; and its notes."""
    try:
        made = run_plan(plan({**SPEC, "run": json.loads(text)}))
    except SpecError as error:
        return error.message, frozenset()
    return report.screen(made) + json.dumps(report.to_dict(made)), frozenset(made.inputs.notes)


def _sections(annotation: Any) -> list[type[fields.Section]]:
    if isinstance(annotation, type) and issubclass(annotation, fields.Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _fields(section: type[fields.Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = _sections(field.annotation)
        if not inner:
            yield prefix + name
        for one in inner:
            yield from _fields(one, f"{prefix}{name}.")


def test_every_field_of_the_section_has_an_entry() -> None:
    named = {".".join(part for part in name.split(".") if not part.isdigit()) for name, _ in CASES}
    named = (named - {"spares"}) | {"spares.count"}
    run = next(section for section in _sections(schema.Spec.model_fields["run"].annotation))
    assert named == set(_fields(run))


def test_the_run_that_the_cases_change_can_be_planned() -> None:
    made = run_plan(plan({**SPEC, "run": RUN}))
    assert 0.0 < made.value("goodput") < 1.0


@pytest.mark.parametrize(("name", "value"), CASES, ids=[name for name, _ in CASES])
def test_another_value_changes_the_run_or_is_refused(name: str, value: Any) -> None:
    before, notes = _seen(json.dumps(RUN))
    after, more = _seen(json.dumps(_with(name, value)))
    assert before != after or more - notes, f"run.{name} = {value!r} is accepted and ignored"


@pytest.mark.parametrize(("law", "name", "value"), OF_A_LAW, ids=[f"{law}-{name}" for law, name, _ in OF_A_LAW])
def test_under_every_other_law_too(law: str, name: str, value: Any) -> None:
    base = _under(law)
    before, notes = _seen(json.dumps(base))
    after, more = _seen(json.dumps(_with(name, value, base)))
    assert "goodput" in before and (before != after or more - notes), f"run.{name} = {value!r} is accepted and ignored by {law}"


@pytest.mark.parametrize(("law", "name"), [(law, name) for law, dropped in LAWS.items() for name in dropped])
def test_what_a_law_cannot_use_is_refused_with_its_name(law: str, name: str) -> None:
    base = _under(law)
    above, _, last = name.rpartition(".")
    for field in (name, "serving.served_tokens") if name == "serving.cost_over_training" else (name,):
        held = RUN[above][field.rpartition(".")[2]] if above else RUN[last]
        (base[above] if above else base)[field.rpartition(".")[2]] = held
    with pytest.raises(SpecError) as caught:
        plan({**SPEC, "run": base})
    assert law in caught.value.message or "law of N and D" in caught.value.message
