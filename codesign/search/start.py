"""A first spec for a model: its layout is searched, so that what `codesign init` writes is a plan that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from codesign.search import run, space
from codesign.search.near import near
from codesign.search.result import Result
from codesign.spec import domains

SEQUENCE = 4096
BATCH_TOKENS = (2 * 2**20, 8 * 2**20)  # a global batch of this many tokens, where the accelerators divide it
_STACKS = {"tpu": "maxtext"}  # by the first letters of the profile; else megatron-core
_MOST_TP, _MOST_PP, _MOST_EP = 8, 64, 64
_VPP, _MICRO_BATCHES = [1, 2, 4, 8], [1, 2, 4]


@dataclass(frozen=True)
class Start:
    """Sections of a whole spec as plain data, how many layouts the one in it was chosen from, and its step."""

    sections: dict[str, Any]
    candidates: int
    step_s: float


def stack(profile: str) -> str:
    """A usual software stack for an accelerator."""
    return next((name for letters, name in _STACKS.items() if profile.startswith(letters)), "megatron-core")


def batch(accelerators: int, sequence_length: int) -> int:
    """Sequences of a global batch: the accelerators times a power of two, of 2 to 8 Mi tokens where one exists."""
    low, high = BATCH_TOKENS
    sequences = accelerators
    while sequences * sequence_length > high and sequences % 2 == 0:
        sequences //= 2
    while sequences * sequence_length < low:
        sequences *= 2
    return sequences


def start(
    model: Mapping[str, Any] | str,
    accelerators: int,
    profile: str = "h100-sxm-80gb",
    software: str | None = None,
    sequence_length: int = SEQUENCE,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Start | Result:
    """The fastest layout of usual degrees for `model`, and of those near it: a preset, or fields as `import-hf` writes them.

    Searched: tp to 8, pp and ep to 64 in powers of two, up to eight model chunks a rank, micro-batches of 1 to 4, every
    recompute that the stack can do, and what it leaves to choose; then around the fastest as `search.near` does, until
    nothing near is faster: a review of what is written here finds nothing better. A Result where no layout is feasible:
    its tally says why. `report` is told how many layouts are done, of how many. Raises SpecError for a model or a profile
    that is none.
    """
    sections = {
        "version": 1,
        "model": model if isinstance(model, str) else dict(model),
        "training": {
            "sequence_length": sequence_length,
            "global_batch_sequences": batch(accelerators, sequence_length),
            "precision": "bf16",
            "optimizer": "adamw",
        },
        "cluster": {"profile": profile, "accelerators": accelerators},
        "software": software or stack(profile),
    }
    shape = domains.load({**sections, "layout": {}}).spec.model
    layout = {
        "tp": _powers(_MOST_TP),
        "pp": _powers(min(_MOST_PP, shape.layers)),
        "vpp": _VPP,
        "cp": 1,
        "ep": _powers(min(_MOST_EP, shape.moe.experts if shape.moe else 1)),
        "order": ["tp", "cp", "ep", "dp", "pp"],
        "micro_batch": _MICRO_BATCHES,
        "stages": "default",
    }
    held = space.of(domains.load({**sections, "layout": layout, "search": {"best": 1, "within": 0.0}}))
    found = Result(held, run.search(held, report=lambda now: report(now.candidates, held.size)))
    if not found.best:
        report(held.size, held.size)
        return found
    best, candidates = found.best[0], held.size
    while True:
        near_it = near(best.plan, 1)
        candidates += near_it.space.size
        if near_it.best[0].plan.step_s >= best.plan.step_s:
            break
        best = near_it.best[0]
    report(candidates, candidates)
    (chosen,) = (text.removeprefix("layout=") for text in best.sets if text.startswith("layout="))
    return Start({**sections, "layout": yaml.safe_load(chosen)}, candidates, best.plan.step_s)


def _powers(most: int) -> list[int]:
    return [2**k for k in range(most.bit_length()) if 2**k <= most]


__all__ = ["Start", "batch", "stack", "start"]
