"""Full plans of changed machines, written as a user would: by fields of the spec, without the code under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from codesign import units
from codesign.planner import Plan, plan
from codesign.spec import datafiles, profiles

EXAMPLES = datafiles.root("examples")
SMALL, MOE, LARGE = (
    str(EXAMPLES / f"{name}.yaml") for name in ("llama-3-8b-fsdp", "deepseek-v3-h800", "llama-3.1-405b-h100")
)
_LAUNCHES = ("kernels.gemm.bf16.launch_s", "kernels.elementwise.launch_s")
_PREFIXES = {
    "compute rate": ("accelerator.peak_FLOPps.",),
    "memory bandwidth": ("accelerator.memory_Bps",),
    "memory capacity": ("accelerator.memory_B",),
    "scale-up bandwidth": ("scale_up.link_Bps",),
    "scale-out bandwidth": ("scale_out.nic_Bps",),
    "above-pod bandwidth": ("scale_out.taper",),
    "host link bandwidth": ("host_link_Bps",),
    "kernel start-up": (*_LAUNCHES, "kernels.attention.by_head_dim."),
    "scale-up latency": ("scale_up.collectives.", "scale_up.pair."),
    "scale-out latency": ("scale_out.latency_s", "scale_out.hop_s"),
}


@cache
def profile(spec: str) -> profiles.Profile:
    """The hardware of an example, its fabric in place."""
    return plan(spec).problem.profile


def fields(spec: str, resource: str) -> list[str]:
    """Profile fields that are this resource."""
    names = [n for n in profile(spec).data() if n.startswith(_PREFIXES[resource])]
    if resource in ("kernel start-up", "scale-up latency"):
        names = [n for n in names if n.endswith("_s")]
    return [n for n in names if resource not in ("memory bandwidth", "memory capacity") or n in _PREFIXES[resource]]


def changed(spec: str, changes: Mapping[str, float], sets: Sequence[str] = ()) -> Plan:
    """The plan of a machine whose fields of each resource are multiplied: `--set cluster.override.FIELD=VALUE`."""
    given = list(sets)
    for resource, factor in changes.items():
        for name in fields(spec, resource):
            value = profile(spec).data()[name].value * factor
            unit = next((u for u in (units.suffix(p) for p in reversed(name.split("."))) if u in units.UNITS), "1")
            given.append(f"cluster.override.{name}={value!r}{' ' + units.base(unit) if unit != '1' else ''}")
    return plan(spec, sets=given)


def with_settings(spec: str, settings: Mapping[str, Any], sets: Sequence[str] = ()) -> Plan:
    """The plan with the settings that an answer gives back."""
    return plan(spec, sets=[*sets, *(f"{name}={value}" for name, value in settings.items())])
