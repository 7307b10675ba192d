"""What a layout must satisfy. A constraint is a quantity: 1 where it holds, 0 where not, with a message that has the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign import units
from codesign.graph import quantity
from codesign.laws import pipeline as pipelines

Array = NDArray[np.float64]


def _holds(condition) -> Array:
    return np.where(condition, 1.0, 0.0)


def _at(values, name) -> float:
    key = (name, None)
    return float(np.ravel(values[key] if key in values else values[name])[0])


def _divides(a, b) -> NDArray[np.bool_]:
    return b / a == np.floor(b / a)


@quantity(
    "1",
    source="capacity of the accelerator",
    message=lambda v: (
        f"memory: the fullest rank needs {units.show(_at(v, 'peak_B'), 'B')} of {units.show(_at(v, 'memory_B'), 'B')}, "
        f"{units.show(_at(v, 'peak_B') - _at(v, 'memory_B'), 'B')} too much"
    ),
)
def fits_memory(peak_B, memory_B) -> Array:
    """The fullest rank stays within the device's memory."""
    return _holds(peak_B <= memory_B)


@quantity(
    "1",
    source="every rank has one place",
    message=lambda v: (
        f"ranks: tp x pp x cp x dp = {_at(v, 'tp') * v['pipeline'].pp * _at(v, 'cp') * _at(v, 'dp'):g} with dp "
        f"{_at(v, 'dp'):g}, but the cluster has {_at(v, 'accelerator_ranks'):g}"
    ),
)
def allows_ranks(tp, cp, dp, pipeline, accelerator_ranks) -> Array:
    """The degrees multiply to the ranks of the cluster, and dp is a whole number."""
    return _holds((dp == np.floor(dp)) & (tp * cp * dp * float(pipeline.pp) == accelerator_ranks))


@quantity(
    "1",
    source="tensor parallelism cuts heads",
    message=lambda v: f"heads: tp {_at(v, 'tp'):g} does not divide {_at(v, 'heads'):g} attention heads",
)
def allows_heads(tp, heads) -> Array:
    """tp divides the attention heads."""
    return _holds(_divides(tp, heads))


@quantity(
    "1",
    source="KV heads are cut or replicated, not both",
    message=lambda v: f"KV heads: of tp {_at(v, 'tp'):g} and {_at(v, 'kv_heads'):g} KV heads neither divides the other",
)
def allows_kv_heads(tp, kv_heads) -> Array:
    """tp divides the KV heads, or they divide it."""
    return _holds(_divides(tp, kv_heads) | _divides(kv_heads, tp))


@quantity(
    "1",
    source="tensor parallelism cuts the FFN",
    message=lambda v: f"FFN: tp {_at(v, 'tp'):g} does not divide its width {_at(v, 'ffn'):g}",
)
def allows_ffn(tp, ffn) -> Array:
    """tp divides the width of the dense FFN."""
    return _holds(_divides(tp, ffn))


@quantity(
    "1",
    source="expert parallelism cuts the experts",
    message=lambda v: f"experts: ep {_at(v, 'ep'):g} does not divide {_at(v, 'experts'):g} experts",
)
def allows_experts(ep, experts) -> Array:
    """ep divides the experts."""
    return _holds(_divides(ep, experts) | (experts == 1.0))


@quantity(
    "1",
    source="experts share the ranks of a pipeline stage",
    message=lambda v: (
        f"experts: ep x etp = {_at(v, 'ep') * _at(v, 'etp'):g} does not divide tp x cp x dp = "
        f"{_at(v, 'tp') * _at(v, 'cp') * _at(v, 'dp'):g}"
    ),
)
def allows_expert_mesh(ep, etp, tp, cp, dp) -> Array:
    """ep x etp divides the ranks of a pipeline stage."""
    return _holds(_divides(ep * etp, tp * cp * dp))


@quantity(
    "1",
    source="whole micro-batches",
    message=lambda v: (
        f"batch: {_at(v, 'global_batch'):g} sequences are not a multiple of dp x micro-batch = "
        f"{_at(v, 'dp') * _at(v, 'micro_batch'):g}"
    ),
)
def allows_batch(micro_batches) -> Array:
    """The global batch is a whole number of micro-batches on every data-parallel rank."""
    return _holds((micro_batches == np.floor(micro_batches)) & (micro_batches >= 1.0))


@quantity(
    "1",
    source="causal load balance cuts a sequence in 2 cp pieces",
    message=lambda v: f"sequence: 2 x cp = {2 * _at(v, 'cp'):g} does not divide {_at(v, 'sequence_tokens'):g} tokens",
)
def allows_sequence(cp, sequence_tokens) -> Array:
    """The sequence is cut evenly over context-parallel ranks."""
    return _holds(_divides(np.where(cp > 1.0, 2.0 * cp, cp), sequence_tokens))


@quantity(
    "1",
    source="all-to-all context parallelism cuts heads",
    message=lambda v: f"context: all-to-all over cp {_at(v, 'cp'):g} needs tp x cp to divide {_at(v, 'heads'):g} heads",
)
def allows_context(cp_style, cp, tp, heads) -> Array:
    """All-to-all context parallelism has a head for every rank."""
    return _holds(_divides(cp * tp, heads)) if cp_style == "all-to-all" else np.ones_like(cp)


@quantity(
    "1",
    source="EQ-14, EQ-35 to EQ-38: what each schedule needs",
    message=lambda v: (
        "schedule: "
        + (pipelines.valid(v["pipeline"].schedule, v["pipeline"].pp, v["pipeline"].vpp, _at(v, "micro_batches")) or "")
    ),
)
def allows_schedule(pipeline, micro_batches) -> Array:
    """The schedule exists for this many micro-batches."""
    least = pipelines.least_micro_batches(pipeline.schedule, pipeline.pp)
    multiple = pipelines.micro_batch_multiple(pipeline.schedule, pipeline.pp)
    enough = float(multiple * -(-least // multiple))
    if pipelines.valid(pipeline.schedule, pipeline.pp, pipeline.vpp, enough) is not None:
        return np.zeros_like(micro_batches)
    return _holds((micro_batches >= least) & _divides(np.full(1, float(multiple)), micro_batches))


@quantity(
    "1",
    source="physics",
    message=lambda v: f"MFU {_at(v, 'mfu'):.3f} above 1: the profile's rates or the step are wrong",
)
def allows_mfu(mfu) -> Array:
    """No more than the peak is computed."""
    return _holds(mfu <= 1.0)


CONSTRAINTS = (
    "fits_memory",
    "allows_ranks",
    "allows_heads",
    "allows_kv_heads",
    "allows_ffn",
    "allows_experts",
    "allows_expert_mesh",
    "allows_batch",
    "allows_sequence",
    "allows_context",
    "allows_schedule",
    "allows_mfu",
)


@quantity("1", source="all constraints")
def feasible(
    fits_memory,
    allows_ranks,
    allows_heads,
    allows_kv_heads,
    allows_ffn,
    allows_experts,
    allows_expert_mesh,
    allows_batch,
    allows_sequence,
    allows_context,
    allows_schedule,
    allows_mfu,
) -> Array:
    """1 where every constraint holds."""
    return (
        fits_memory
        * allows_ranks
        * allows_heads
        * allows_kv_heads
        * allows_ffn
        * allows_experts
        * allows_expert_mesh
        * allows_batch
        * allows_sequence
        * allows_context
        * allows_schedule
        * allows_mfu
    )
