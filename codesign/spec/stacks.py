"""Software stacks, precision recipes and the fitted constants: data files read into frozen objects."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from codesign.errors import ProfileError

DATA = Path(__file__).parent / "data"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Overlaps:
    """What may run beside compute. How much is hidden is derived from the times."""

    tp: bool = False
    cp: bool = False
    ep: bool = False
    dp_gradients: bool = False
    dp_parameters: bool = False
    pp: bool = False


@dataclass(frozen=True)
class Unknown:
    """The stack's published rule for what a measured row leaves unsaid."""

    sharding: str = "zero1"
    recompute: str = "none"
    micro_batch: float = 1.0
    interleave: bool = False


@dataclass(frozen=True)
class Can:
    """What a search tries where the spec leaves a field of the layout out: what the framework has an option for."""

    source: str
    schedules: tuple[str, ...]  # with pp above 1
    shardings: tuple[str, ...]
    modules: tuple[str, ...]  # of selective recompute
    cp_styles: tuple[str, ...]  # empty: no context parallelism
    orders: tuple[tuple[str, ...], ...]
    offload_optimizer: bool
    max_tp: int | None = None


@dataclass(frozen=True)
class Stack:
    """One named software stack; every field can be set one by one in the spec's `software` section."""

    name: str
    title: str
    released: str
    source: str
    attention_kernel: str  # unfused | fa1 | fa2 | cudnn | xla
    traffic: str | float  # constant's name, or a plain number (assumed)
    host: str | float
    moe_host: str | float
    overlap: Overlaps
    unknown: Unknown
    can: Can
    dropout: bool = False
    sequence_parallel: bool = True
    gradient_dtype: str = "fp32"  # accumulation
    reduce_dtype: str = "fp32"  # what travels
    moe_dispatcher: str = "alltoall"
    bucketed: bool = True
    fused_cross_entropy: bool = False
    fused_weight_gradient: bool = False  # weight gradients are accumulated inside the product
    narrow_activations: bool = False  # inputs of SwiGLU are kept in the matmul precision, expert outputs are not kept
    low_precision_parameters: bool = False  # fp8 parameters replace the 16-bit copy, and travel as such
    compile: bool = False
    xla: bool = False
    launch_blocking: bool = False
    ages: bool = False
    network: str | float = 1.0
    network_until: str = "9999"  # releases after this date use the whole network
    optimizer_passes: str | float = 1.2  # traffic of the optimizer step over the fused minimum: norm and clipping


@dataclass(frozen=True)
class Constant:
    """A number adjusted on measured runs, with its physical expectation."""

    name: str
    value: float
    prior: float
    spread: float
    standard_error: float | None
    meaning: str
    why: str


@dataclass(frozen=True)
class Recipe:
    """A matmul precision: what its GEMMs read, what its casts cost, which peak it runs against."""

    name: str
    peak: str  # key of the profile's peak rates
    kernel: str  # key of the profile's GEMM fits
    operand_B: float  # bytes an element of the GEMM operands, scales included
    cast_forward_B: float  # bytes moved an activation element to cast it (read, write, transposed copy, amax pass)
    cast_backward_B: float
    cast_weight_B: float  # bytes moved a weight to cast it, once a micro-batch or once a step (see quantities)
    weight_copy_B: float  # extra bytes a weight kept beside the bf16 compute copy (transposed copy, scales)
    saved_activation_B: float  # bytes an element of the GEMM inputs that are saved for the backward pass
    amax_reduction: bool  # a small all-reduce of amax values each step (delayed scaling)
    source: str


# Transformer Engine: delayed scaling writes the cast and its transpose from the producer (1 + 1 B written, 2 B read);
# current scaling reads the tensor once more for the amax; block and mx formats write row-wise and column-wise copies
# with one scale for 128 (fp32) or 32 (e8m0) elements; nvfp4 adds a Hadamard transform and two-level scales.
RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("fp32", "tf32", "bf16", 4.0, 0.0, 0.0, 0.0, 0.0, 4.0, False, "TF32 matrix units"),
        Recipe("bf16", "bf16", "bf16", 2.0, 0.0, 0.0, 0.0, 0.0, 2.0, False, "no cast"),
        Recipe("fp16", "fp16", "bf16", 2.0, 0.0, 0.0, 0.0, 0.0, 2.0, False, "no cast"),
        Recipe("fp8-tensor", "fp8", "fp8", 1.0, 2.0, 4.0, 4.0, 2.0, 1.0, True, "Transformer Engine delayed scaling"),
        Recipe("fp8-current", "fp8", "fp8", 1.0, 4.0, 6.0, 6.0, 2.0, 1.0, False, "Transformer Engine current scaling"),
        Recipe("fp8-rowwise", "fp8", "fp8", 1.0, 5.0, 6.0, 6.0, 0.0, 2.0, False, "torchao row-wise scaling"),
        Recipe("fp8-block", "fp8", "fp8_block", 1.03, 4.1, 4.1, 4.0, 2.0, 1.03, False, "DeepSeek-V3 1x128 and 128x128"),
        Recipe("mxfp8", "fp8", "fp8", 1.03, 4.1, 4.1, 4.0, 2.06, 1.03, False, "OCP MX, 32 elements a scale"),
        Recipe("nvfp4", "fp4", "nvfp4", 0.56, 5.2, 7.2, 5.0, 1.12, 0.56, False, "NVFP4, 16 elements a scale"),
        Recipe("int8", "int8", "fp8", 1.0, 3.0, 5.0, 3.0, 0.0, 2.0, False, "AQT on TPU"),
    )
}


def _nearest(name: str, known: list[str], what: str) -> ProfileError:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ProfileError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")


@cache
def _raw() -> dict[str, dict[str, Any]]:
    with open(DATA / "stacks.yaml", encoding="utf-8") as file:
        return yaml.load(file, _LOADER)["stacks"]


def names() -> list[str]:
    return list(_raw())


@cache
def load(name: str) -> Stack:
    """The stack of that name, inherited fields filled in."""
    raw = _raw()
    if name not in raw:
        raise _nearest(name, names(), "software stack")
    merged: dict[str, Any] = {}
    chain = [name]
    while "inherits" in raw[chain[-1]]:
        chain.append(raw[chain[-1]]["inherits"])
    for link in reversed(chain):
        merged.update({k: v for k, v in raw[link].items() if k != "inherits"})
    overlap, unknown = Overlaps(**merged.pop("overlap")), Unknown(**merged.pop("unknown"))
    can = _can(merged.pop("can"))
    known = {f.name for f in fields(Stack)}
    if set(merged) - known:
        raise ProfileError(f"stack {name!r}: unknown field {sorted(set(merged) - known)[0]!r}")
    return Stack(name=name, overlap=overlap, unknown=unknown, can=can, **merged)


def _can(raw: dict[str, Any]) -> Can:
    frozen: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    frozen["orders"] = tuple(tuple(order) for order in raw["orders"])
    return Can(**frozen)


@cache
def constants() -> dict[str, Constant]:
    with open(DATA / "constants.yaml", encoding="utf-8") as file:
        raw = yaml.load(file, _LOADER)["constants"]
    return {name: Constant(name=name, **row) for name, row in raw.items()}


def with_overlap(stack: Stack, **given: bool | None) -> Stack:
    """The stack with some overlaps stated by the user; null leaves the stack's own."""
    stated = {k: v for k, v in given.items() if v is not None}
    return replace(stack, overlap=replace(stack.overlap, **stated)) if stated else stack
