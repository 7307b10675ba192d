"""The search against brute force: every candidate planned one by one, bit for bit."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import signal
from functools import cache
from typing import Any

import numpy as np
import pytest

from codesign import planner
from codesign.errors import SpecError
from codesign.quantities import constraints
from codesign.search import run, sweep, table
from codesign.search.result import Result, resumed, state
from codesign.search.space import Space, of, problem
from codesign.spec import domains, resolve

DENSE = {
    "version": 1,
    "model": {"preset": "llama-3-8b", "layers": 8},
    "training": {"sequence_length": 4096, "global_batch_sequences": 64},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 32},
    "software": "megatron-core",
}
MOE = {
    "version": 1,
    "model": {"preset": "mixtral-8x7b", "layers": 6},
    "training": {"sequence_length": 4096, "global_batch_sequences": 64, "precision": "fp8-current"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 32},
    "software": "megatron-core",
}
FSDP = {**DENSE, "software": "torchtitan-compile"}
STACKS: dict[str, dict[str, list[Any]]] = {
    "megatron-core": {
        "sharding": ["none", "zero1"], "schedule": ["1f1b", "interleaved", "gpipe"],
        "recompute": ["none", {"granularity": "full", "fraction": "any"}, {"granularity": "selective", "modules": ["mlp"]}],
        "order": [["tp", "cp", "ep", "dp", "pp"], ["tp", "cp", "ep", "pp", "dp"]],
    },
    "torchtitan-compile": {
        "sharding": ["none", "zero3", "hsdp"], "schedule": ["1f1b", "interleaved", "zb-v"],
        "recompute": ["none", {"granularity": "full", "fraction": [0.5, 1.0]}],
    },
}  # fmt: skip
OBJECTIVES = ["step_s", "memory", "cost", "scale_up_traffic", "scale_out_traffic", "robustness"]


@cache
def _small(seed: int) -> tuple[dict[str, Any], Space]:
    """A random space of some hundred candidates."""
    rng = random.Random(seed)
    while True:
        document = _drawn(rng)
        try:
            space = of(domains.load(document))
        except SpecError:  # vpp without a schedule for it
            continue
        if 10 < space.size < 300:
            return document, space


def _drawn(rng: random.Random) -> dict[str, Any]:
    base = rng.choice([DENSE, DENSE, MOE, FSDP])
    own = STACKS[str(base["software"])]
    layout: dict[str, Any] = {
        "tp": rng.sample([1, 2, 4, 8], rng.choice([1, 2])),
        "pp": rng.sample([1, 2, 4], rng.choice([1, 2])),
        "cp": rng.sample([1, 2], 1),
        "vpp": rng.choice([[1, 2], [1], {"from": 1, "to": 4, "times": 2}]),
        "micro_batch": rng.sample([1, 2, 4], 2),
        "offload": rng.choice(
            [{"activations": [0.0, 0.5]}, {"optimizer": True}, [{"activations": 0.25}, {"optimizer": True}]]
        ),
        **{name: rng.sample(values, min(2, len(values))) for name, values in own.items()},
    }
    if base is MOE:
        layout["ep"] = rng.sample([1, 2, 4, 8], 2)
        layout["etp"] = rng.choice([[1], [1, 2]])
    training = dict(base["training"], global_batch_sequences=rng.choice([64, [32, 64], [48, 64]]))
    names = ["step_s", *rng.sample(OBJECTIVES[1:], rng.choice([0, 1, 2, 2]))]
    search = {"objectives": names, "best": rng.choice([1, 5, 20]), "within": 0.1}
    if rng.random() < 0.3:
        search["memory_margin"] = "40 GiB"
    if rng.random() < 0.3:
        search["idle_accelerators"] = 8
    return {**base, "training": training, "layout": layout, "search": search}


def _brute(space: Space) -> list[dict[str, Any]]:
    """Every candidate through `plan`, with its objectives where it can run."""
    wanted = space.open.search
    rows = []
    for index in range(space.size):
        plan = planner.plan(space.spec(index))
        broken = [sweep.REASONS[name] for name in constraints.CONSTRAINTS if not plan.value(name)]
        if plan.value("memory_B") - plan.value("peak_B") < (wanted.memory_margin or 0.0):
            broken.insert(1 if "memory" in broken else 0, "memory margin")
        costs = tuple(_objective(name, plan, space) for name in wanted.objectives) if not broken else ()
        rows.append({"index": index, "reason": broken[0] if broken else "", "costs": costs, "plan": plan})
    return rows


def _objective(name: str, plan: planner.Plan, space: Space) -> float:
    tokens = space.open.batch.values[0] / plan.value("global_batch")
    if name == "step_s":
        return plan.step_s * tokens
    if name == "cost":
        return plan.step_s * tokens * plan.value("accelerators")
    if name == "memory":
        return plan.value("peak_B")
    if name == "robustness":
        worst = plan.step_s
        for resource, factor in sweep.DISTURBANCES.items():
            leaves = planner.leaf_values([plan.problem])
            for leaf in {**planner.RATES, **planner.DURATIONS}[resource]:
                leaves[leaf] = leaves[leaf] * factor
            worst = max(worst, float(plan.program.run(leaves)[("step_s", None)][0]))
        return worst * tokens
    level = sweep.LEVELS[name]
    total = 0.0
    for quantity in planner.TRAFFIC.values():
        total = total + float(np.ravel(plan.values[(quantity, None)][level])[0])
    return total * tokens


@pytest.mark.parametrize(
    "listed",
    [
        {"expert_groups_per_token": [1, 2, 4]},
        {"overlap": [{"ep": True}, {"dp_gradients": False}]},
        {"cuda_graphs": [["attn"], ["attn", "moe"]]},
        {"sharding": ["zero1", "zero3"], "prefetch": [True, False]},
        {"first_stage_layers": [1, 2]},
    ],
)
def test_fields_that_are_listed_have_their_effect(listed: dict[str, Any]) -> None:
    layout = {"tp": [1, 2], "pp": 2, "cp": 1, "ep": 8, "etp": 1, "micro_batch": 1, "recompute": "none", "vpp": 1,
              "stages": "default", "offload": {}, "sequence_parallel": True, "sharding": "zero1", **listed}  # fmt: skip
    model = {"preset": "deepseek-v3", "layers": 5}
    space = of(domains.load({**MOE, "model": model, "software": "deepseek-hai", "layout": layout, "search": {"best": 100}}))
    rows = _brute(space)
    assert len({row["plan"].step_s for row in rows}) >= space.size // 3
    best = Result(space, run.search(space)).best
    assert {c.index: c.objectives for c in best} == {row["index"]: row["costs"] for row in rows if not row["reason"]}
    assert best
    for candidate in best[:5]:
        base = {**MOE, "model": model, "software": "deepseek-hai", "layout": {"tp": 1, "pp": 1, "micro_batch": 1}}
        assert planner.plan(base, sets=candidate.sets).step_s == candidate.plan.step_s
        json.dumps(candidate.fields)


SPACES = range(24)


@pytest.mark.parametrize("seed", SPACES)
def test_random_spaces_equal_brute_force_bit_for_bit(seed: int) -> None:
    _, space = _small(seed)
    rows = _brute(space)
    result = Result(space, run.search(space))
    wanted = space.open.search
    good = [row for row in rows if not row["reason"]]
    ranked = sorted(good, key=lambda row: (row["costs"][0], row["index"]))
    assert [(c.index, c.objectives) for c in result.best] == [(r["index"], r["costs"]) for r in ranked[: wanted.best]]
    assert [(c.index, c.objectives) for c in result.front] == _front(good, len(wanted.objectives))
    assert result.tally["feasible"] == len(good)
    assert result.tally["candidates"] == len(rows)
    reasons = [row["reason"] for row in rows if row["reason"]]
    assert result.tally["rejected"] == {reason: reasons.count(reason) for reason in set(reasons)}
    frame = table.every(space)
    assert frame["candidate"].tolist() == list(range(space.size))
    assert frame["reason"].tolist() == [row["reason"] for row in rows]
    for row, step in zip(rows, frame["step_s"], strict=True):
        assert math.isnan(step) or step == row["plan"].step_s


def _front(rows: list[dict[str, Any]], objectives: int) -> list[tuple[int, tuple[float, ...]]]:
    """Nobody else is at least as good in everything and either better in something or an equal with a lower number."""
    if objectives == 1:
        return []
    kept = []
    for row in rows:
        beaten = any(
            all(a <= b for a, b in zip(other["costs"], row["costs"], strict=True))
            and (other["costs"] != row["costs"] or other["index"] < row["index"])
            for other in rows
            if other is not row
        )
        if not beaten:
            kept.append((row["index"], row["costs"]))
    return sorted(kept, key=lambda entry: (*entry[1], entry[0]))


def test_random_spaces_cover_what_they_should() -> None:
    spaces = [_small(seed)[1] for seed in SPACES]
    assert {len(space.open.search.objectives) for space in spaces} == {1, 2, 3}
    assert {space.stack.name for space in spaces} == set(STACKS)
    assert any(space.open.spec.model.moe for space in spaces)
    used = {name for space in spaces for name in space.open.search.objectives}
    assert used == set(OBJECTIVES)


@pytest.mark.parametrize("seed", range(6))
def test_all_candidates_are_distinct_specs(seed: int) -> None:
    _, space = _small(seed)
    texts = {space.spec(index).model_dump_json() for index in range(space.size)}
    assert len(texts) == space.size


@pytest.mark.parametrize("seed", range(8))
def test_a_structure_has_the_problem_that_resolving_gives(seed: int) -> None:
    _, space = _small(seed)
    rng = random.Random(seed)
    for index in rng.sample(range(space.size), min(20, space.size)):
        structure, row, _ = space.locate(index)
        made, true = problem(space, structure), resolve.resolve(space.spec(index))
        one = dict(true.structure)
        assert made.kinds == true.kinds
        for name, value in made.structure:
            if name == "sequence_parallel" and space.rows(structure).fields["tp"][row] == 1:
                continue  # tp 1 has none: the same bits either way, held by the test below
            if name == "cp_style" and space.rows(structure).fields["cp"][row] == 1:
                continue
            assert one[name] == value, name
        assert made.leaves.keys() == true.leaves.keys()


@pytest.mark.parametrize("document", [DENSE, MOE])
def test_sequence_parallelism_of_tp_1_and_a_style_of_cp_1_change_no_bit(document: dict[str, Any]) -> None:
    base = resolve.resolve(domains.load({**document}).spec.model_copy(
        update={"layout": planner.schema.Layout(tp=1, pp=2, micro_batch=1)}))  # fmt: skip
    plain = planner.evaluate([base])
    for name, value in (
        ("sequence_parallel", True),
        ("cp_style", "ring"),
        ("cp_style", "all-gather"),
        ("cp_style", "all-to-all"),
    ):
        structure = tuple(sorted({**base.structural(), name: value}.items(), key=lambda item: item[0]))
        other = planner.evaluate(
            [resolve.Problem(structure, base.kinds, base.leaves, (), base.spec, base.profile, base.stack)]
        )
        for target in planner.TARGETS:
            assert np.array_equal(plain[(target, None)], other[(target, None)]), (name, target)


def test_one_rank_speaks_for_all_that_hold_the_same() -> None:
    for schedule, pp, vpp in (("1f1b", 4, 1), ("gpipe", 4, 1), ("interleaved", 4, 2), ("zb-h1", 4, 1), ("zb-h2", 4, 1),
                              ("zb-v", 4, 2), ("dualpipe", 4, 1), ("dualpipe-v", 4, 2)):  # fmt: skip
        layout = planner.schema.Layout(tp=1, pp=pp, vpp=vpp, schedule=schedule, micro_batch=1)
        base = resolve.resolve(domains.load(DENSE).spec.model_copy(update={"layout": layout}))
        every, few = planner.leaf_values([base]), planner.leaf_values([base], every_rank=False)
        assert len(few["rank_index"]) < len(every["rank_index"])
        program = planner.program_for(planner.TARGETS, base, every)
        one, other = program.run(every), program.run(few)
        for target in planner.TARGETS:
            assert np.array_equal(one[(target, None)], other[(target, None)]), (schedule, target)


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_does_not_depend_on_who_did_the_work(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, space = _small(seed)
    whole = Result(space, run.search(space)).to_dict()
    for chunk, unit in ((64, 3), (7, 1)):
        monkeypatch.setattr(sweep, "CHUNK", chunk)
        monkeypatch.setattr(sweep, "UNIT", unit)
        units = sweep.units(space)
        random.Random(seed).shuffle(units)
        assert sum(unit.candidates for unit in units) == space.size
        progress = run.Progress.empty(space)
        for one in units:
            progress.kept.merge(sweep.work(space, one))
        assert Result(space, progress).to_dict() == whole


def test_a_pool_gives_the_same_answer() -> None:
    _, space = _small(1)
    assert Result(space, run.search(space, workers=2)).to_dict() == Result(space, run.search(space)).to_dict()


def test_a_stopped_search_goes_on_to_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHUNK", 32)
    monkeypatch.setattr(sweep, "UNIT", 2)
    _, space = _small(3)
    whole = Result(space, run.search(space)).to_dict()
    progress = run.Progress.empty(space)

    def stop(now: run.Progress) -> None:
        if len(now.done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.search(space, report=stop, resume=progress)
    assert 0 < progress.candidates < space.size
    later = resumed(space, pickle.loads(pickle.dumps(state(space, progress))), "x.manifest.json")
    assert not Result(space, later).complete
    assert Result(space, run.search(space, resume=later)).to_dict() == whole


def test_ctrl_c_inside_a_merge_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHUNK", 32)
    monkeypatch.setattr(sweep, "UNIT", 2)
    _, space = _small(3)
    merge, calls = run.Kept.merge, []

    def interrupted(kept: run.Kept, other: run.Kept) -> None:
        calls.append(other)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        merge(kept, other)

    monkeypatch.setattr(run.Kept, "merge", interrupted)
    progress = run.Progress.empty(space)
    with pytest.raises(KeyboardInterrupt):
        run.search(space, resume=progress)
    assert progress.candidates == sum(unit.candidates for unit in sweep.units(space) if unit.number in progress.done)
    assert 0 < progress.candidates < space.size


def test_leaves_that_are_scaled_are_those_of_scaled_plans() -> None:
    _, space = _small(2)
    progress = run.search(space, scale={"nic_Bps": 0.5})
    best = Result(space, progress).best[0]
    leaves = planner.leaf_values([best.plan.problem])
    leaves["nic_Bps"] = leaves["nic_Bps"] * 0.5
    tokens = space.open.batch.values[0] / best.plan.value("global_batch")
    assert float(best.plan.program.run(leaves)[("step_s", None)][0]) * tokens == best.objectives[0]
