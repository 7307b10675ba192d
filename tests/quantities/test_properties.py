"""Properties of every plan, over random specs: parts add up, more is never slower, a step is a time, one is a batch."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from codesign import graph, units
from codesign import planner as plans
from codesign.errors import SpecError
from codesign.laws import pipeline as pipelines
from codesign.laws import replay
from codesign.quantities import memory
from codesign.spec import load as loader
from codesign.spec import profiles, resolve, schema

FEW = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
Values = Mapping[Any, Any]

STEP = ("step_s",)

# m x the work of the slowest rank, in parts
STEADY = (
    "gemm_total_s", "attention_total_s", "elementwise_total_s", "recompute_total_s", "ends_total_s", "host_excess_s",
    "tp_exposed_s", "cp_exposed_s", "ep_exposed_s", "overlap_slowdown_total_s", "offload_exposed_s",
)
SPLIT_BACKWARD = ("zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v")


def _problem(spec: Mapping[str, Any]) -> resolve.Problem:
    return resolve.resolve(loader.load_spec(spec))


def _run(problem: resolve.Problem, leaves: Values, targets: Sequence[str] = plans.TARGETS, **overrides: Any) -> Values:
    return plans.program_for(targets, problem, leaves).run(leaves, overrides)


def _all(spec: Mapping[str, Any]) -> Values:
    return plans.evaluate([_problem(spec)])


# ---------------------------------------------------------------------------------------------------- parts


@FEW
@given(strategies.specs())
def test_a_total_is_the_ordered_sum_of_its_parts_to_the_bit(spec: Mapping[str, Any]) -> None:
    values = _all(spec)
    for (name, member), total in [(key, value) for key, value in values.items() if isinstance(key, tuple)]:
        parts = graph.REGISTRY[name].parts
        assert all((part, member) in values for part in parts), f"{name}: a part is of another index"
        if parts:
            added = graph.add(values[part, member] for part in parts)
            assert np.array_equal(np.broadcast_to(added, np.shape(total)), total), name


@FEW
@given(strategies.specs())
def test_the_worst_of_some_is_their_maximum(spec: Mapping[str, Any]) -> None:
    values = _all(spec)
    for (name, member), top in [(key, value) for key, value in values.items() if isinstance(key, tuple)]:
        worst_of = graph.REGISTRY[name].worst_of
        if len(worst_of) == 1:  # of the ranks, which lie along the leading axis
            assert np.array_equal(np.max(values[worst_of[0], member], axis=0), top), name
        elif worst_of:
            rows = graph.worst(values[one, member] for one in worst_of)
            assert np.array_equal(np.broadcast_to(rows, np.shape(top)), top), name


@FEW
@given(strategies.specs())
def test_parts_of_a_plan_add_up_as_shown(spec: Mapping[str, Any]) -> None:
    shown = plans.plan(spec).to_dict()
    total = 0.0
    for seconds in shown["step"]["parts"].values():
        total += seconds
    assert total == shown["step"]["step_s"]
    for stage in shown["memory"]["stages"]:
        terms = stage["terms_B"]
        allocated = 0.0
        for name in memory.ALLOCATED:
            allocated += terms[name]
        assert allocated == stage["allocated_B"]
        assert allocated + terms["allocator_memory_B"] == stage["reserved_B"]
        device = stage["reserved_B"] + terms["communication_memory_B"] + terms["context_memory_B"]
        assert device == stage["device_B"]
        assert allocated + terms["communication_memory_B"] + terms["context_memory_B"] == stage["needed_B"]
    for whole, one in (("peak_B", "needed_B"), ("device_B", "device_B"), ("reserved_B", "reserved_B")):
        assert shown["memory"][whole] == max(stage[one] for stage in shown["memory"]["stages"])
    assert set(memory.TAGS) >= set(shown["memory"]["stages"][0]["terms_B"])


@FEW
@given(strategies.specs())
def test_no_part_of_a_step_and_no_term_of_memory_is_negative(spec: Mapping[str, Any]) -> None:
    shown = plans.plan(spec).to_dict()
    scale = shown["step"]["step_s"]
    signed = {"ageing_s", "host_excess_s"}  # a release newer than the reference; a difference that rounds
    assert all(seconds >= 0.0 for name, seconds in shown["step"]["parts"].items() if name not in signed)
    assert shown["step"]["parts"]["host_excess_s"] >= -1e-12 * scale
    assert all(size >= 0.0 for stage in shown["memory"]["stages"] for size in stage["terms_B"].values())


# --------------------------------------------------------------------------------------------------- more is not slower


def _faster(problem: resolve.Problem, factor: float, **fixed: float) -> tuple[Values, int]:
    """Row 0 as it is, then one row for each group of rates, raised by `factor`; and the number of rows."""
    leaves = plans.leaf_values([problem])
    leaves.update({name: np.full(1, value) for name, value in fixed.items()})
    rows = 1 + len(plans.RATES)
    for row, names in enumerate(plans.RATES.values(), 1):
        for name in names:
            column = np.full(rows, leaves[name][0])
            column[row] *= factor
            leaves[name] = column
    return _run(problem, leaves, STEP), rows


def _row(values: Values, name: str, rows: int) -> np.ndarray:
    return np.broadcast_to(values[name, None], (rows,))


def _may_be_slower(problem: resolve.Problem) -> str | None:
    """Why a higher rate may make the modelled step slower: a part that is not the slowest rank's own, or that is
    measured against compute which a wait has replaced. None: it may not."""
    structure = problem.structural()
    pipeline, sharding = structure["pipeline"], structure["sharding"]
    if pipeline.schedule in SPLIT_BACKWARD:
        return "a backward pass that waits is a longer input gradient, and its weight gradient alone gets shorter"
    if pipeline.pp > 1 and (sharding.kind in ("zero2", "zero3", "hsdp") or pipeline.schedule == "interleaved"):
        return "exposed gathers and reductions of one rank, more than once a step, are added to the work of another"
    return None


@settings(FEW, max_examples=80)
@given(strategies.specs(), st.sampled_from((1.001, 1.5, 4.0)))
def test_a_higher_rate_never_makes_the_work_of_the_slowest_rank_slower(spec: Mapping[str, Any], factor: float) -> None:
    values, rows = _faster(_problem(spec), factor, overlap_slowdown=0.0)
    work = np.max(np.broadcast_to(values["rank_work_s", None], (values["rank_work_s", None].shape[0], rows)), axis=0)
    assert np.all(work <= work[0] * (1 + 1e-9))
    parts = graph.add(_row(values, name, rows) for name in STEADY)
    assert np.allclose(parts, _row(values, "micro_batches", rows) * work, rtol=1e-9, atol=0.0)


@settings(FEW, max_examples=100)
@given(strategies.specs(), st.sampled_from((1.001, 1.5, 4.0)))
def test_a_higher_rate_never_makes_a_step_slower_without_overlap_slowdown(
    spec: Mapping[str, Any], factor: float
) -> None:
    problem = _problem(spec)
    if _may_be_slower(problem) is not None:
        return
    values, rows = _faster(problem, factor, overlap_slowdown=0.0)
    step = _row(values, "step_s", rows)
    slower = dict(zip(plans.RATES, step[1:] / step[0] - 1, strict=True))
    assert max(slower.values()) <= 1e-9, slower


@settings(FEW, max_examples=80)
@given(strategies.specs(), st.sampled_from((1.001, 1.5, 4.0)))
def test_a_higher_rate_slows_a_step_by_no_more_than_the_parts_beside_the_work_grow(
    spec: Mapping[str, Any], factor: float
) -> None:
    """What holds for all specs: only the parts beside the work can grow, by what a shorter wait hides less of."""
    values, rows = _faster(_problem(spec), factor)
    step = _row(values, "step_s", rows)
    may_grow = ("pp_bubble_s", "dp_exposed_s", "ageing_s", "straggler_s")
    grown = graph.add(np.maximum(_row(values, name, rows) - _row(values, name, rows)[0], 0.0) for name in may_grow)
    assert np.all(step <= step[0] * (1 + 1e-9) + grown)


@FEW
@given(strategies.specs(), st.sampled_from((1.01, 2.0, 10.0)))
def test_more_memory_changes_no_size_and_never_forbids(spec: Mapping[str, Any], factor: float) -> None:
    problem = _problem(spec)
    leaves = plans.leaf_values([problem])
    before = _run(problem, leaves)
    after = _run(problem, {**leaves, "memory_B": leaves["memory_B"] * factor})
    for name in ("peak_B", "reserved_B", "allocated_B", "step_s"):
        assert np.array_equal(before[name, None], after[name, None])
    assert after["feasible", None] >= before["feasible", None]


# ---------------------------------------------------------------------------------------------------- a step is a time


@FEW
@given(strategies.specs())
def test_elasticities_of_rates_less_those_of_durations_sum_to_minus_one(spec: Mapping[str, Any]) -> None:
    slopes = plans.plan(spec).elasticities
    total = sum(slopes[name] for name in plans.RATES) - sum(slopes[name] for name in plans.DURATIONS)
    assert total == pytest.approx(-1.0, abs=2e-3)


@settings(FEW, max_examples=60)
@given(strategies.specs(), st.floats(0.1, 10.0))
def test_all_rates_up_and_all_durations_down_by_one_factor_scale_the_step(
    spec: Mapping[str, Any], factor: float
) -> None:
    """Exact where the sum of elasticities is a difference: no kink can hide a leaf that is missing from both tables."""
    problem = _problem(spec)
    leaves = plans.leaf_values([problem])
    scaled = dict(leaves)
    for table, by in ((plans.RATES, factor), (plans.DURATIONS, 1.0 / factor)):
        for names in table.values():
            scaled.update({name: leaves[name] * by for name in names})
    before, after = (_run(problem, given, STEP)["step_s", None][0] for given in (leaves, scaled))
    assert after == pytest.approx(before / factor, rel=1e-9)


@FEW
@given(strategies.specs())
def test_every_leaf_in_seconds_or_per_second_has_an_elasticity(spec: Mapping[str, Any]) -> None:
    listed = {name for table in (plans.RATES, plans.DURATIONS) for names in table.values() for name in names}
    timed = {name for name in _problem(spec).leaves if units.SUFFIXES[units.suffix(name)][1][0] != 0}
    assert timed == listed


# -------------------------------------------------------------------------------------------------- a batch is its rows


def _same_row(batch: Values, row: int, one: Values) -> list[Any]:
    """Keys whose value in the row of a batch is not the value alone, bit for bit."""
    different = []
    for key, alone in one.items():
        if not isinstance(alone, np.ndarray):
            continue
        at = batch[key]
        cell = at[..., row if at.shape[-1] > 1 else 0]
        if not np.array_equal(np.broadcast_to(cell, alone[..., 0].shape), alone[..., 0]):
            different.append(key)
    return different


@st.composite
def families(draw: st.DrawFn) -> list[resolve.Problem]:
    """Problems of one structure that differ in degrees, batch and rates."""
    spec = draw(strategies.specs())
    first = _problem(spec)
    family = [first]
    for _ in range(draw(st.integers(1, 4))):
        other = {**spec, **{section: dict(spec[section]) for section in ("layout", "training", "cluster")}}
        layout = other["layout"]
        if layout["tp"] > 1 and "sequence_parallel" in layout:
            layout["tp"] = layout["tp"] * draw(st.sampled_from((1, 2)))
        layout["dp"] *= draw(st.sampled_from((1, 2, 4)))
        layout["micro_batch"] = draw(st.sampled_from((1, 2, 4)))
        other["training"]["global_batch_sequences"] = (
            layout["dp"] * layout["micro_batch"] * 2 * layout["pp"] * draw(st.integers(1, 5)))
        per = first.profile.ranks_per_accelerator
        other["cluster"]["accelerators"] = layout["tp"] * layout["pp"] * layout["cp"] * layout["dp"] // per
        other["cluster"]["override"] = {"scale_out.nic_Bps": f"{draw(st.integers(5, 100))} GB/s"}
        problem = _problem(other)
        if problem.structure == first.structure and problem.kinds == first.kinds:
            family.append(problem)
    return family


@settings(FEW, max_examples=60)
@given(families())
def test_the_row_of_a_batch_is_the_plan_of_one_bit_for_bit(family: list[resolve.Problem]) -> None:
    batch = plans.evaluate(family)
    for row, problem in enumerate(family):
        assert _same_row(batch, row, plans.evaluate([problem])) == []


@settings(FEW, max_examples=30)
@given(
    strategies.specs(),
    st.lists(st.sampled_from((1.0, 2.0, 4.0, 8.0)), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from((16.0, 32.0, 64.0, 512.0)), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from((0.5, 1.0, 2.0)), min_size=1, max_size=3, unique=True),
)
def test_the_cell_of_a_broadcast_grid_is_the_plan_of_one_bit_for_bit(
    spec: Mapping[str, Any], tp: list[float], dp: list[float], micro_batch: list[float]
) -> None:
    problem = _problem(spec)
    flat, cube = plans.leaf_values([problem]), plans.leaf_values([problem], ndim=3)
    axes = {
        "tp": np.array(tp).reshape(-1, 1, 1), "dp": np.array(dp).reshape(1, -1, 1),
        "micro_batch": np.array(micro_batch).reshape(1, 1, -1),
    }
    assert all(np.ndim(cube[name]) == 3 for name in problem.leaves)
    grid = _run(problem, {**cube, **axes})
    shape = (len(tp), len(dp), len(micro_batch))
    for cell in {(0, 0, 0), tuple(n - 1 for n in shape), (len(tp) // 2, 0, len(micro_batch) - 1)}:
        row = {name: np.ravel(axes[name])[i : i + 1] for name, i in zip(axes, cell, strict=True)}
        one = _run(problem, {**flat, **row})
        different = []
        for key, alone in one.items():
            if not isinstance(key, tuple):
                continue
            value = np.asarray(grid[key])
            at = tuple(i if n > 1 else 0 for i, n in zip(cell[-value.ndim :], value.shape[-3:], strict=False))
            picked = value[(..., *at)] if value.ndim >= 3 else value[..., 0]
            if not np.array_equal(picked, alone[..., 0]):
                different.append(key)
        assert different == []


# ---------------------------------------------------------------------------------------------------- schedules


def _stage_times(problem: resolve.Problem, values: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forward, input-gradient and weight-gradient time of every virtual stage: its rank's, in equal shares."""
    pipeline = problem.structural()["pipeline"]
    forward, backward = values["rank_forward_s", None][:, 0], values["rank_backward_s", None][:, 0]
    one = {kind: values["layer_gemm_weight_gradient_s", kind][0] for kind in problem.kinds}
    head = values["head_gemm_s", None][2, 0]
    module = one[problem.kinds[-1]] + values["mtp_projection_s", None][0] / 3.0 + head
    weight = sum(values[f"stage_layers[{kind}]"][:, 0] * one[kind] for kind in problem.kinds)
    weight = np.minimum(weight + values["stage_head"][:, 0] * head + values["stage_mtp"][:, 0] * module, backward)
    pp, vpp = pipeline.pp, pipeline.vpp
    v_shaped = pipeline.schedule in pipelines.V_SHAPED
    ranks = [2 * pp - 1 - s if v_shaped and s >= pp else s % pp for s in range(pp * vpp)]
    return tuple(row[ranks] / vpp for row in (forward, backward - weight, weight))  # type: ignore[return-value]


def _replayed(problem: resolve.Problem, values: Values, times: Sequence[Any]) -> replay.Replay:
    pipeline = problem.structural()["pipeline"]
    return replay.replay(pipeline.schedule, pipeline.pp, pipeline.vpp, int(values["micro_batches", None][0]), *times)


def bubble_gap(problem: resolve.Problem, values: Values) -> float:
    """Steady work and closed-form bubble of the plan over the replayed time of the same ranks, less 1."""
    own = values["micro_batches", None][0] * np.max(values["rank_work_s", None]) + values["pp_bubble_s", None][0]
    return float(own / _replayed(problem, values, _stage_times(problem, values)).makespan_s - 1.0)


# closed form over replay, less 1: seen over 1,500 random specs up to 0.092 and, where the backward pass is split, 0.164
MOST_GAP = {False: 0.15, True: 0.25}
NO_ENDS = {
    **{name: np.zeros(1) for name in ("embedding_s", "head_forward_s", "head_backward_s")},
    "head_gemm_s": np.zeros((3, 1)),
}


@settings(FEW, max_examples=100)
@given(strategies.specs(uniform=True))
def test_the_bubble_of_uniform_stages_is_that_of_the_event_replay(spec: Mapping[str, Any]) -> None:
    problem = _problem(spec)
    values = plans.evaluate([problem], overrides=NO_ENDS)
    assert np.allclose(values["fill_share", None], 1.0, rtol=1e-12)
    played = _replayed(problem, values, _stage_times(problem, values))
    step = played.makespan_s
    assert values["pp_bubble_s", None][0] == pytest.approx(played.bubble_s, rel=1e-9, abs=1e-9 * step)


@settings(FEW, max_examples=100)
@given(strategies.specs())
def test_the_gap_between_closed_form_and_event_replay_of_uneven_stages_is_bounded(spec: Mapping[str, Any]) -> None:
    problem = _problem(spec)
    values = plans.evaluate([problem])
    times = _stage_times(problem, values)
    played = _replayed(problem, values, times)
    slowest = _replayed(problem, values, [np.max(row) for row in times])
    busiest = values["micro_batches", None][0] * np.max(values["rank_work_s", None])
    assert busiest <= played.makespan_s * (1 + 1e-9)
    assert played.makespan_s <= slowest.makespan_s * (1 + 1e-9)
    gap = bubble_gap(problem, values)
    note(f"closed form over replay: {gap:+.2%}")
    assert busiest / played.makespan_s - 1 - 1e-9 <= gap
    assert gap <= MOST_GAP[problem.structural()["pipeline"].schedule in SPLIT_BACKWARD]


# ---------------------------------------------------------------------------------------------------- units

# differences of nearly equal times: what is left is rounding, and is held to the size of what was subtracted
DIFFERENCES = frozenset({"layer_host_excess_s", "layer_hidden_s"})


@FEW
@given(strategies.specs())
def test_every_equation_is_homogeneous_in_its_units(spec: Mapping[str, Any]) -> None:
    problem = _problem(spec)
    leaves = plans.leaf_values([problem])
    program = plans.program_for(plans.TARGETS, problem, leaves)
    assert graph.unit_errors(program, program.run(leaves), DIFFERENCES) == []
    values = program.run(leaves)
    for step in program.steps:
        if step.key[0] in DIFFERENCES:
            inputs = [values[key] for how, key in step.inputs]
            size = max(float(np.max(np.abs(one))) for one in inputs)
            scaled = step.function(*(3.0 * one for one in inputs))
            assert np.allclose(scaled, 3.0 * values[step.key], rtol=1e-9, atol=1e-14 * size)


# ---------------------------------------------------------------------------------------------------- nothing ignored

Flat = dict[str, Any]  # a spec by dotted names
Case = tuple[Flat, str, Any]  # a base, a field of it, another value


def _with(base: Mapping[str, Any], **changes: Any) -> Flat:
    """`base` with fields changed; `__` stands for the dot. None takes a field out."""
    flat = {**base, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in flat.items() if value is not None}


DENSE: Flat = {
    "version": 1,
    "model.layers": 8, "model.hidden": 1024, "model.heads": 16, "model.kv_heads": 4, "model.ffn": 2816,
    "model.vocab": 32000,
    "training.sequence_length": 4096, "training.global_batch_sequences": 64,
    "layout.tp": 2, "layout.pp": 2, "layout.dp": 8, "layout.micro_batch": 1, "layout.sharding": "zero1",
    "cluster.profile": "h100-sxm-80gb", "cluster.accelerators": 32,
    "software.stack": "megatron-core",
}
# the interconnect slow enough, and the layers small enough, that nothing hides completely
SLOW_NETWORK = {"cluster.override": {"scale_out.nic_Bps": "1 GB/s", "scale_up.link_Bps": "5 GB/s"}}
HOST_BOUND = {"software.host_layer_s": "20 ms"}


MLA: Flat = _with(DENSE, model__kv_heads=None, model__mla={
    "q_lora": 512, "kv_lora": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64})
MOE = _with(DENSE, layout__ep=4, model__moe={"experts": 16, "top_k": 2, "expert_ffn": 1024, "shared_experts": 1})
WINDOW = _with(DENSE, model__sliding_window={"window": 512})
MTP = _with(DENSE, model__mtp_layers=1)
CP = _with(DENSE, layout__cp=2, layout__dp=4)
FSDP = _with(DENSE, layout__sharding="zero3", layout__pp=1, layout__dp=16)
SLOW = {**DENSE, **SLOW_NETWORK}
SLOW_MOE = {**MOE, **SLOW_NETWORK}
SLOW_FSDP = {**FSDP, **SLOW_NETWORK}
ONE_STAGE = _with(DENSE, layout__pp=1, layout__dp=16)
SELECTIVE = _with(DENSE, layout__recompute={"granularity": "selective", "modules": ["mlp"]})
UNFUSED = _with(DENSE, software__stack="megatron-2022-sp")


# The plan of the base with the field set to the value is another one, or is refused, or has a note that names it.
# fp16 is no case beside bf16: same rate, same bytes.
CASES: list[tuple[Flat, str, Any]] = [
    (DENSE, "version", 2),
    (DENSE, "name", "another run"),
    # -- model
    (_with(DENSE, **{f"model__{name}": None for name in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")},
           model__preset="llama-3-8b"), "model.preset", "mistral-7b"),
    (DENSE, "model.hf", "no/such/config.json"),
    (DENSE, "model.name", "another model"),
    (DENSE, "model.layers", 12),
    (DENSE, "model.hidden", 2048),
    (DENSE, "model.heads", 32),
    (DENSE, "model.kv_heads", 16),
    (DENSE, "model.head_dim", 128),
    (DENSE, "model.ffn", 4096),
    (DENSE, "model.gated_ffn", False),
    (DENSE, "model.vocab", 64000),
    (ONE_STAGE, "model.tied_embeddings", True),
    (DENSE, "model.tied_embeddings", True),
    (DENSE, "model.positions", "none"),
    (_with(DENSE, model__max_positions=4096), "model.positions", "learned"),
    (_with(DENSE, model__positions="learned", model__max_positions=4096), "model.max_positions", 8192),
    (DENSE, "model.max_positions", 8192),
    (DENSE, "model.final_norm", False),
    (DENSE, "model.embedding_norm", True),
    (DENSE, "model.norm", "layernorm"),
    (DENSE, "model.norm", "nonparametric"),
    (DENSE, "model.norms_per_layer", 4),
    (DENSE, "model.qk_norm", "head"),
    (_with(DENSE, model__qk_norm="head"), "model.qk_norm", "full"),
    (DENSE, "model.attention_sinks", True),
    (DENSE, "model.parallel_block", True),
    *((DENSE, f"model.biases.{name}", True) for name in ("qkv", "attn_out", "mlp", "router", "experts", "head")),
    *((MOE, f"model.biases.{name}", True) for name in ("router", "experts")),
    (MLA, "model.mla.q_lora", 1024),
    (MLA, "model.mla.kv_lora", 512),
    (MLA, "model.mla.qk_nope_head_dim", 128),
    (MLA, "model.mla.qk_rope_head_dim", 64),
    (MLA, "model.mla.v_head_dim", 128),
    (MLA, "model.kv_heads", 4),
    (MLA, "model.head_dim", 128),
    (MOE, "model.moe.experts", 32),
    (MOE, "model.moe.top_k", 4),
    (MOE, "model.moe.expert_ffn", 2048),
    (MOE, "model.moe.shared_experts", 2),
    (MOE, "model.moe.shared_expert_ffn", 512),
    (MOE, "model.moe.shared_expert_gate", True),
    (MOE, "model.moe.router_score_bias", True),
    (MOE, "model.moe.dense_layers", 2),
    (MOE, "model.moe.every", 2),
    (MOE, "model.moe.capacity_factor", 1.5),
    ({**MOE, **HOST_BOUND}, "model.moe.capacity_factor", 1.0),
    (MOE, "model.moe.imbalance", 1.5),
    (WINDOW, "model.sliding_window.window", 1024),
    (WINDOW, "model.sliding_window.local", 3),
    (DENSE, "model.mtp_layers", 1),
    # -- training
    (DENSE, "training.sequence_length", 8192),
    (DENSE, "training.global_batch_sequences", 128),
    (DENSE, "training.tokens", 1e12),
    *((DENSE, "training.precision.matmul", name) for name in
      ("fp32", "fp8-tensor", "fp8-current", "fp8-block", "fp8-rowwise", "mxfp8", "nvfp4", "int8")),
    *((_with(DENSE, training__precision__matmul="fp8-tensor"), "training.precision.matmul", name) for name in
      ("fp8-current", "fp8-block", "fp8-rowwise", "mxfp8", "int8")),
    (_with(DENSE, training__precision__matmul="bf16"), "training.precision.gradients", "bf16"),
    (_with(DENSE, training__precision__matmul="bf16"), "training.precision.parameters", "fp32"),
    (_with(DENSE, training__precision__matmul="bf16"), "training.precision.master", "none"),
    (_with(DENSE, training__precision__matmul="bf16"), "training.precision.moments", "bf16"),
    *((DENSE, "training.optimizer.name", name) for name in ("adamw-8bit", "sgd", "muon")),
    (_with(DENSE, training__optimizer__name="muon"), "training.optimizer.newton_schulz_steps", 10),
    (_with(DENSE, training__packing={"mean_document_tokens": 1000.0}), "training.packing.mean_document_tokens", 500.0),
    (_with(DENSE, training__packing={"mean_document_tokens": 1000.0}), "training.packing.length_dispersion", 1.0),
    # -- layout
    (_with(DENSE, layout__dp=None), "layout.tp", 4),
    (_with(DENSE, layout__dp=None), "layout.pp", 4),
    (DENSE, "layout.dp", 4),
    (_with(DENSE, layout__schedule="interleaved", layout__vpp=2), "layout.vpp", 4),
    (DENSE, "layout.vpp", 2),
    (_with(DENSE, layout__dp=None), "layout.cp", 2),
    (MOE, "layout.ep", 2),
    (MOE, "layout.etp", 2),
    (DENSE, "layout.micro_batch", 2),
    *((_with(DENSE, training__global_batch_sequences=128), "layout.schedule", name)
      for name in ("none", "gpipe", "zb-h1", "zb-h2", "dualpipe")),
    (DENSE, "layout.schedule", "interleaved"),
    *((_with(DENSE, training__global_batch_sequences=128, layout__schedule="interleaved", layout__vpp=2),
       "layout.schedule", name) for name in ("zb-v", "dualpipe-v")),
    (_with(DENSE, layout__schedule="1f1b", layout__vpp=1, layout__pp=1, layout__dp=16), "layout.schedule", "gpipe"),
    *((DENSE, "layout.sharding", name) for name in ("none", "zero2", "zero3")),
    (FSDP, "layout.sharding", "hsdp"),
    (_with(FSDP, layout__sharding="hsdp", layout__sharding_group=4), "layout.sharding", "zero3"),
    (_with(FSDP, layout__sharding="hsdp", layout__sharding_group=16), "layout.sharding_group", 4),
    *((_with(DENSE, layout__sharding=kind), "layout.sharding_group", 4) for kind in ("zero1", "zero2", "zero3")),
    (SLOW_FSDP, "layout.reshard_after_forward", False),
    (SLOW_FSDP, "layout.prefetch", False),
    (FSDP, "layout.prefetch", False),
    (DENSE, "layout.sequence_parallel", False),
    (CP, "layout.cp_style", "all-gather"),
    (CP, "layout.cp_style", "all-to-all"),
    (DENSE, "layout.recompute.granularity", "selective"),
    (UNFUSED, "layout.recompute.granularity", "selective"),
    (DENSE, "layout.recompute.granularity", "full"),
    *((_with(DENSE, layout__recompute={"granularity": "selective", "modules": ["core_attn"]}),
       "layout.recompute.modules", [name])
      for name in ("qkv", "attn_out", "layernorm", "mlp", "mlp_act", "ffn_up", "ffn_down", "elementwise",
                   "every_other_matmul", "moe", "moe_act", "shared_experts", "mla_up_proj")),
    *((_with(MOE, layout__recompute={"granularity": "selective", "modules": ["core_attn"]}),
       "layout.recompute.modules", ["core_attn", name])
      for name in ("moe", "moe_act", "shared_experts", "ffn_up", "ffn_down", "every_other_matmul", "mlp", "mlp_act")),
    (_with(MLA, layout__recompute={"granularity": "selective", "modules": ["core_attn"]}),
     "layout.recompute.modules", ["core_attn", "mla_up_proj"]),
    (SELECTIVE, "layout.recompute.fraction", 0.5),
    (_with(DENSE, layout__recompute={"granularity": "full"}), "layout.recompute.fraction", 0.5),
    (DENSE, "layout.stages", "Ettt|tttttL"),
    (DENSE, "layout.first_stage_layers", 3),
    (DENSE, "layout.last_stage_layers", 3),
    (DENSE, "layout.offload.activations", 0.5),
    (DENSE, "layout.offload.optimizer", True),
    *(({**MOE, **HOST_BOUND}, "layout.cuda_graphs", [name]) for name in get_args(schema.GraphScope)),
    *(({**DENSE, **HOST_BOUND}, "layout.cuda_graphs", [name]) for name in get_args(schema.GraphScope)),
    (_with({**MOE, **HOST_BOUND}, layout__cuda_graphs=["attn"]), "layout.cuda_graphs", ["moe"]),
    (SLOW, "layout.overlap.tp", False),
    (_with(SLOW, layout__sequence_parallel=False), "layout.overlap.tp", False),
    (_with(SLOW_MOE, model__moe={"experts": 16, "top_k": 2, "expert_ffn": 1024}), "layout.overlap.tp", False),
    ({**CP, **SLOW_NETWORK}, "layout.overlap.cp", False),
    *(({**CP, **SLOW_NETWORK, "layout.cp_style": style}, "layout.overlap.cp", False)
      for style in ("all-gather", "all-to-all")),
    (SLOW_MOE, "layout.overlap.ep", True),
    (SLOW, "layout.overlap.dp_gradients", False),
    (_with(SLOW, software__stack="megatron-2021"), "layout.overlap.dp_gradients", True),
    (SLOW_FSDP, "layout.overlap.dp_gradients", False),
    (SLOW, "layout.overlap.dp_parameters", False),
    (SLOW_FSDP, "layout.overlap.dp_parameters", False),
    (_with(SLOW, layout__schedule="interleaved", layout__vpp=2), "layout.overlap.pp", False),
    (SLOW, "layout.overlap.pp", False),
    (_with(SLOW, layout__schedule="gpipe"), "layout.overlap.pp", False),
    (_with(SLOW_MOE, model__moe={"experts": 64, "top_k": 8, "expert_ffn": 1024}, software__moe_dispatcher="deepep",
           layout__dp=32, layout__ep=32, cluster__accelerators=128), "layout.expert_groups_per_token", 1),
    (MOE, "layout.expert_groups_per_token", 1),
    (SLOW, "layout.order", ["dp", "tp", "cp", "ep", "pp"]),
    (SLOW, "layout.order", ["pp", "dp", "tp", "cp", "ep"]),
    (_with(SLOW_MOE, layout__ep=8), "layout.order", ["ep", "tp", "cp", "dp", "pp"]),
    # -- cluster
    (DENSE, "cluster.profile", "a100-sxm-80gb"),
    (_with(DENSE, layout__dp=None), "cluster.accelerators", 64),
    (SLOW, "cluster.fabric", "efa-p4d"),
    (DENSE, "cluster.fabric", "efa-p4d"),
    (DENSE, "cluster.override", {"accelerator.memory_Bps": "2 TB/s"}),
    # -- software
    (DENSE, "software.stack", "torchtitan-eager"),
    (DENSE, "software.date", "2024-01"),
    (_with(DENSE, software__stack="torchtitan-eager"), "software.date", "2025-06"),
    (DENSE, "software.compile", True),
    *((DENSE, "software.attention_kernel", name)
      for name in ("fa1", "fa2", "fa3", "xla", "unfused", "no-such-kernel")),
    *(({**SLOW_MOE, **HOST_BOUND}, "software.moe_dispatcher", name) for name in ("allgather", "deepep", "fused")),
    ({**SLOW_MOE, **HOST_BOUND, "software.moe_dispatcher": "alltoall"}, "software.moe_dispatcher", "hybridep"),
    (DENSE, "software.launch_blocking", True),
    (DENSE, "software.fused_cross_entropy", False),
    (DENSE, "software.gradient_dtype", "bf16"),
    (DENSE, "software.host_layer_s", "50 ms"),
    (DENSE, "software.fused_weight_gradient", False),
    (_with(DENSE, training__precision="fp8-tensor"), "software.low_precision_parameters", False),
    (_with(DENSE, training__precision="fp8-tensor"), "software.narrow_activations", True),
    # -- input
    (_with(DENSE, input={"storage_Bps": "1 MB/s"}), "input.storage_Bps", "2 MB/s"),
    (_with(DENSE, input={"storage_Bps": "1 MB/s"}), "input.bytes_per_token", 8.0),
]


def _sections(annotation: Any) -> list[type[schema.Section]]:
    if inspect.isclass(annotation) and issubclass(annotation, schema.Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _fields(section: type[schema.Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields that hold a value, sections opened."""
    for name, field in section.model_fields.items():
        inner = _sections(field.annotation)
        if not inner:
            yield prefix + name
        for one in inner:
            yield from _fields(one, f"{prefix}{name}.")


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names to nested mappings; a later name goes into the section that an earlier one gave."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *above, last = name.split(".")
        at = tree
        for part in above:
            at = at.setdefault(part, {})
        at[last] = copy.deepcopy(value)
    return tree


@cache
def _seen(text: str) -> tuple[Any, tuple[str, ...]]:
    """What a plan shows of a spec (name, step, memory, traffic, run, verdict) or its refusal, and its notes."""
    try:
        made = plans.plan(_nested(ast.literal_eval(text)))
    except SpecError as error:
        return error.message, ()
    data = made.to_dict()
    shown = {name: data[name] for name in ("name", "traffic", "run", "verdict")}
    for part in ("step", "memory"):  # the cell of the interval is about evidence
        shown |= {f"{part}.{name}": value for name, value in data[part].items() if name != "interval_cell"}
    return shown, made.problem.notes


def _shows(base: Flat, field: str, value: Any, name: str | None = None) -> bool:
    """Whether another value of a field is seen in the plan, or refused, or named in a note that the base has not."""
    before, notes = _seen(repr(base))
    assert isinstance(before, dict), before
    after, more = _seen(repr({**base, field: value}))
    return bool(before != after or any((name or field) in text for text in set(more) - set(notes)))


def _name(value: object) -> str | None:
    return None if isinstance(value, dict) else str(value)


def test_every_field_of_the_schema_has_an_entry() -> None:
    elsewhere = ("search.", "run.", "sites.", "links.", "sync.", "review.")
    assert {field for _, field, _ in CASES} == {field for field in _fields(schema.Spec) if not field.startswith(elsewhere)}


@pytest.mark.parametrize(("base", "field", "value"), CASES, ids=_name)
def test_another_value_of_a_field_changes_the_plan_or_is_refused(base: Flat, field: str, value: Any) -> None:
    assert _shows(base, field, value), f"{field} = {value!r} is accepted and ignored"


def test_a_note_of_no_effect_is_true() -> None:
    told = 0
    for base, field, value in CASES:
        (before, notes), (after, more) = _seen(repr(base)), _seen(repr({**base, field: value}))
        if any(text.startswith(f"{field} has no effect") for text in set(more) - set(notes)):
            assert before == after, (field, value)
            told += 1
    assert told > 10


@pytest.mark.parametrize(
    ("name", "pp", "vpp"),
    [("zb-h1", 2, 2), ("zb-h2", 2, 2), ("dualpipe", 2, 2), ("dualpipe", 3, 1), ("interleaved", 2, 1), ("gpipe", 2, 2),
     ("1f1b", 2, 2), ("zb-v", 2, 1), ("dualpipe-v", 2, 1), ("interleaved", 1, 2)],
)
def test_a_schedule_that_does_not_exist_is_refused_or_infeasible(name: str, pp: int, vpp: int) -> None:
    flat = _with(DENSE, layout__schedule=name, layout__pp=pp, layout__vpp=vpp, cluster__accelerators=16 * pp)
    shown, _ = _seen(repr(flat))
    assert pipelines.valid(name, pp, vpp, 8) is not None
    assert not (isinstance(shown, dict) and shown["verdict"]["feasible"]), shown


H100 = profiles.load("h100-sxm-80gb")
BASES = (
    _with(MOE, layout__tp=4, layout__dp=256, cluster__accelerators=2048, layout__ep=16,
          training__global_batch_sequences=512),
    _with(MOE, layout__sequence_parallel=False, layout__ep=2, training__precision="fp8-tensor",
          layout__offload={"activations": 1.0, "optimizer": True}),
    _with(MOE, layout__tp=1, layout__ep=2, layout__dp=2, layout__cp=2, layout__pp=1, cluster__accelerators=4,
          training__precision="fp8-block", layout__cp_style="all-to-all", layout__sharding="none"),
    _with(CP, layout__cp_style="all-gather", training__precision="fp32"),
    *(_with(DENSE, training__precision=name) for name in ("fp16", "int8")),
    *(_with(FSDP, model__head_dim=size) for size in (128, 192, 256)),
    MLA,
    _with(DENSE, layout__dp=8192, cluster__accelerators=32768, training__global_batch_sequences=4 * 8192,
          layout__order=["dp", "cp", "ep", "pp", "tp"]),
)


@pytest.mark.parametrize("name", [name for name in profiles.settable(H100) if name in H100.data()])
def test_an_overridden_number_of_the_profile_changes_a_plan_or_is_refused(name: str) -> None:
    value = H100.data()[name].value
    if value is None:
        return
    unit = loader.override_unit(name)
    other: Any = max(2, int(value) // 2) if float(value).is_integer() else 0.5 * value
    other = other if unit is None else f"{0.5 * value!r} {units.base(unit)}"
    assert any(_shows(base, "cluster.override", {name: other}, name) for base in BASES), f"{name} = {other} is ignored"
