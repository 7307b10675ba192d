"""What moved between two plans: it adds up, it is the same seen from the other side, and it names what was changed."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import planner
from codesign.errors import SpecError
from codesign.planner import Plan, plan
from codesign.search.compare import REPEAT, UNSURE, Comparison, compare

FEW = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

BASE = {
    "version": 1,
    "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 512, "precision": "bf16"},
    "layout": {"tp": 4, "pp": 2, "micro_batch": 1, "sharding": "zero1"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64},
    "software": "megatron-core",
}


@cache
def base(*sets: str) -> Plan:
    return plan(BASE, sets=sets)


def moved(*sets: str) -> Comparison:
    """BASE against BASE with these fields set."""
    return compare(base(), base(*sets))


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """BASE in another layout, size, precision or machine."""
    pp = draw(st.sampled_from((1, 2, 4)))
    layout: dict[str, Any] = {
        "tp": draw(st.sampled_from((1, 2, 4, 8))), "pp": pp, "vpp": 1 if pp == 1 else draw(st.sampled_from((1, 2))),
        "cp": draw(st.sampled_from((1, 2))), "micro_batch": draw(st.sampled_from((1, 2))),
        "sharding": draw(st.sampled_from(("zero1", "zero3"))), "recompute": draw(st.sampled_from(("none", "full"))),
    }  # fmt: skip
    training = {
        "sequence_length": draw(st.sampled_from((4096, 8192))), "precision": draw(st.sampled_from(("bf16", "fp8-tensor"))),
        "global_batch_sequences": draw(st.sampled_from((512, 1024))),
    }  # fmt: skip
    cluster = {"profile": draw(st.sampled_from(("h100-sxm-80gb", "b200-sxm"))), "accelerators": draw(st.sampled_from((64, 128)))}
    return {**BASE, "layout": layout, "training": training, "cluster": cluster}


# ---------------------------------------------------------------------------------------------------- it adds up


@FEW
@given(runs(), runs())
def test_what_moved_adds_up_to_the_move_whole_and_part_by_part(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = plan(one), plan(other)
    c = compare(a, b)
    near = 1e-9 * (a.step_s + b.step_s)
    assert sum(m.difference for m in c.parts) == pytest.approx(b.step_s - a.step_s, abs=near)
    if c.difference_s:
        assert sum(c.share(m) for m in c.parts) == pytest.approx(1.0, abs=1e-6 + near / abs(c.difference_s))
    for way in ("forward_s", "backward_s", "mean_s"):
        assert sum(getattr(e, way) for e in c.effects) == pytest.approx(c.difference_s, abs=near), way
    for m in c.parts:
        assert sum(e.parts_s[m.name] for e in c.effects) == pytest.approx(m.difference, abs=near), m.name
    held = [sum(one) for one in zip(*((m.a, m.b) for m in c.memory), strict=True)]
    fullest = [max(plan.stages, key=lambda s: s["needed_B"]) for plan in (a, b)]
    assert held == pytest.approx([stage["device_B"] for stage in fullest])


@FEW
@given(runs(), runs())
def test_seen_from_the_other_side_everything_changes_its_sign(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = plan(one), plan(other)
    there, back = compare(a, b), compare(b, a)
    assert [(m.name, m.difference) for m in there.parts] == [(m.name, -m.difference) for m in back.parts]
    assert there.gap == -back.gap
    assert {there.faster, back.faster} in ({"A", "B"}, {None})
    assert (there.confidence, there.scope, there.decided) == (back.confidence, back.scope, back.decided)
    assert sorted(there.extrapolated) == sorted(back.extrapolated)
    assert {(x.field, str(x.a), str(x.b)) for x in there.changes} == {(x.field, str(x.b), str(x.a)) for x in back.changes}


def test_a_plan_against_itself_moves_nothing():
    c = compare(base(), plan(BASE))
    assert (c.changes, c.effects, c.causes, c.footing, c.faster, c.difference_s) == ((), (), (), (), None, 0.0)
    assert c.confidence.share == 0.5 and not c.decided
    assert all(math.isnan(c.share(m)) for m in c.parts)


# ---------------------------------------------------------------------------------------------------- attribution


def test_one_field_is_the_whole_move_in_either_order():
    c = moved("layout.micro_batch=2")
    (effect,) = c.effects
    assert effect.fields == ("layout.micro_batch",)
    assert effect.forward_s == effect.backward_s
    assert effect.mean_s == pytest.approx(c.difference_s, rel=1e-12)
    assert dict(effect.parts_s) == pytest.approx({m.name: m.difference for m in c.parts})


def test_two_fields_get_their_shapley_values():
    """By hand from the four corners: the mean of a field's effect with the other one in A and in B."""
    one, other = "layout.micro_batch=2", "layout.recompute=full"
    c = moved(one, other)
    corner = {sets: base(*sets).step_s for sets in ((), (one,), (other,), (one, other))}
    effects = {e.fields: e for e in c.effects}
    want = 0.5 * ((corner[one,] - corner[()]) + (corner[one, other] - corner[other,]))
    assert effects["layout.micro_batch",].mean_s == pytest.approx(want, rel=1e-9)
    assert effects["layout.micro_batch",].forward_s == pytest.approx(corner[one,] - corner[()], rel=1e-9)
    assert effects["layout.recompute",].backward_s == pytest.approx(corner[other,] - corner[()], rel=1e-9)


def test_dp_follows_and_is_no_cause_of_its_own():
    c = moved("layout.tp=2")
    assert [x.field for x in c.changes] == ["layout.tp", "layout.dp"]
    assert [e.fields for e in c.effects] == [("layout.tp",)]


def test_fields_that_are_valid_only_together_are_switched_together():
    """Without a pipeline there is no schedule, and 512 sequences are no multiple of dp x micro-batch = 16 x 64."""
    c = moved("layout.pp=1")
    assert [set(e.fields) for e in c.effects] == [{"layout.pp", "layout.schedule"}]
    c = moved("layout.micro_batch=128", "training.global_batch_sequences=1024", "layout.recompute=full")
    assert {"layout.micro_batch", "training.global_batch_sequences"} in [set(e.fields) for e in c.effects]
    assert ("layout.recompute",) in [e.fields for e in c.effects]


def test_an_effect_names_the_part_that_it_works_on():
    c = moved("cluster.override.scale_out.nic_Bps=5 GB/s", "layout.recompute=full")
    by = {e.fields: max(e.parts_s.items(), key=lambda pair: abs(pair[1]))[0] for e in c.effects}
    assert by["layout.recompute",] == "recompute_total_s"
    assert by["cluster.override.scale_out.nic_Bps",] in ("dp_exposed_s", "pp_exposed_s")


def test_another_model_is_one_cause():
    c = moved("model=llama-2-7b")
    assert len(c.effects) == 1 and "model.preset" in c.effects[0].fields


# ---------------------------------------------------------------------------------------------------- causes


def test_the_graph_is_walked_down_to_the_inputs_that_differ():
    c = moved("cluster.override.scale_out.nic_Bps=5 GB/s")
    assert c.causes
    for cause in c.causes:
        assert {one.name for one in cause.inputs} == {"nic_Bps"}
        (given_,) = cause.inputs
        assert (float(given_.a[0]), float(given_.b[0])) == (50e9, 5e9)
        assert cause.through or given_.depth == 1
        assert all(not np.array_equal(one.a, one.b) for one in cause.through)
    assert [cause.part for cause in c.causes] == sorted(
        (cause.part for cause in c.causes), key=lambda part: -abs(c.b.parts[part] - c.a.parts[part])
    )


def test_footing_names_inputs_of_another_kind():
    c = moved("cluster.profile=mi300x")
    leaves = [one.problem.leaves for one in (c.a, c.b)]
    assert c.footing
    for one in c.footing:
        kinds = [leaf[one.field].kind if one.field in leaf else None for leaf in leaves]
        assert [one.a, one.b] == kinds and one.a != one.b


def test_traffic_and_figures_are_those_of_the_plans():
    c = moved("layout.tp=2", "training.sequence_length=4096")
    for side, made in (("a_B", c.a), ("b_B", c.b)):
        sent = {(r["class"], r["level"]): r["sent_B_per_rank"] for r in made.traffic}
        assert {(t.purpose, t.level): getattr(t, side) for t in c.traffic if getattr(t, side)} == sent
    figures = {m.name: m for m in c.figures}
    assert figures["step_tokens"].b == figures["step_tokens"].a / 2
    assert figures["headroom_B"].a == c.a.value("memory_B") - c.a.value("peak_B")
    assert figures["accelerator_tokens_per_s"].b == c.b.value("job_tokens_per_s") / 64


def test_faster_is_more_tokens_a_second_and_not_the_shorter_step():
    c = moved("training.global_batch_sequences=1024")
    assert c.b.step_s > c.a.step_s
    assert c.faster == "B"  # twice the tokens with the same pipeline bubble


# ---------------------------------------------------------------------------------------------------- how sure


@pytest.mark.parametrize(("sets", "scope"), [
    (("layout.tp=2",), "layout"),
    (("training.global_batch_sequences=1024", "layout.tp=2"), "size"),
    (("training.precision=fp8-tensor", "training.global_batch_sequences=1024"), "precision"),
    (("model.layers=64",), "model"),
    (("training.optimizer=sgd",), "model"),
    (("cluster.profile=b200-sxm",), "other"),
    (("software.compile=true",), "other"),
    (("training.tokens=1e12", "name=another"), "layout"),
])
def test_the_scope_is_the_widest_difference(sets, scope):
    assert moved(*sets).scope == scope


@pytest.mark.parametrize("kind", ["dense", "moe", "mixed"])
@pytest.mark.parametrize("scope", list(planner.SCOPES))
def test_confidence_grows_with_the_gap_from_one_half_to_what_so_many_groups_can_show(scope, kind):
    shares = [planner.ranking_confidence(scope, kind, gap) for gap in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0)]
    assert shares[0].share == 0.5
    assert all(one.share <= other.share for one, other in pairwise(shares))
    groups = shares[0].groups
    assert groups >= 3 and shares[-1].share <= (groups + 1) / (groups + 2)
    assert planner.ranking_confidence(scope, kind, -0.1).share == planner.ranking_confidence(scope, kind, 0.1).share


def test_what_only_a_search_reads_is_no_difference():
    one = moved("layout.tp=8", "search.best=3", "search.memory_margin=2 GiB")
    other = moved("layout.tp=8")
    assert (one.scope, one.confidence, one.effects) == (other.scope, other.confidence, other.effects)
    assert [change.field for change in one.changes] == [change.field for change in other.changes]


def test_the_less_two_plans_share_the_less_sure_is_their_order():
    at = {scope: planner.ranking_confidence(scope, "dense", 0.05).share for scope in planner.SCOPES}
    assert at["layout"] > at["model"] > at["other"]
    assert at["size"] > at["precision"]


def test_other_hardware_is_marked():
    assert moved("layout.tp=2").extrapolated == ()
    assert "hardware" in moved("cluster.profile=b200-sxm").extrapolated[0]
    unmeasured = compare(base("cluster.profile=mi300x"), base("cluster.profile=mi300x", "layout.tp=2"))
    assert "mi300x" in unmeasured.extrapolated[0]


def test_a_gap_below_the_scatter_of_a_repeat_is_not_decided():
    far = moved("layout.recompute=full")
    close = compare(base("layout.vpp=2"), base("layout.vpp=2", "layout.sharding=none"))
    assert 0 < abs(close.gap) < math.log1p(REPEAT) and not close.decided
    assert abs(far.gap) > 0.1 and far.confidence.share > UNSURE and far.decided


# ---------------------------------------------------------------------------------------------------- data, refusals


def test_frame_and_data_hold_the_same_parts():
    c = moved("layout.tp=2")
    data = c.to_dict()
    assert c.frame["difference_s"].sum() == pytest.approx(c.difference_s)
    assert data["parts"] == c.frame.to_dict("records")
    assert data["answer"]["tokens_per_s_ratio"] == pytest.approx(c.a.step_s / c.b.step_s)
    assert {row["field"]: (row["a"], row["b"]) for row in data["changes"]} == {"layout.tp": (4, 2), "layout.dp": (8, 16)}


def test_a_plan_with_a_quantity_set_by_hand_is_refused():
    fixed = plan(BASE, overrides={"tp_exposed_s": 0.0})
    with pytest.raises(SpecError, match="plan B has tp_exposed_s set by hand"):
        compare(base(), fixed)
