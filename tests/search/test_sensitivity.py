"""What a step answers to, held against full plans of changed machines: elasticities, tornado, exposed terms, search."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from machines import LARGE, MOE, SMALL, changed

from codesign import planner
from codesign.errors import SpecError
from codesign.search import resources
from codesign.search.exposure import exposures
from codesign.search.sensitivity import Sensitivity, sensitivity
from codesign.spec import load, resolve

STEP = planner.ELASTICITY_STEP
NAMED = (
    "compute rate", "memory bandwidth", "scale-up bandwidth", "scale-out bandwidth", "above-pod bandwidth",
    "memory capacity", "kernel start-up", "scale-up latency", "scale-out latency",
)
EXAMPLES = (SMALL, MOE, LARGE)


@cache
def answer(spec: str) -> Sensitivity:
    return sensitivity(spec)


def cost(plan: planner.Plan) -> float:
    """Accelerator-seconds a token."""
    return plan.problem.spec.cluster.accelerators * plan.step_s / plan.value("step_tokens")


def direction(resource: str) -> float:
    """The oversubscription is what the profile has: less of it is more bandwidth."""
    return -1.0 if resource == "above-pod bandwidth" else 1.0


# ---------------------------------------------------------------------------------------------------- elasticities


@pytest.mark.parametrize(("spec", "resource"), [
    *((MOE, name) for name in NAMED), (LARGE, "compute rate"), (LARGE, "above-pod bandwidth"),
])
def test_elasticities_are_the_differences_of_full_plans(spec: str, resource: str) -> None:
    row = next(row for row in answer(spec).elasticities if row.resource == resource)
    ends = [changed(spec, {resource: (1 + way * STEP) ** direction(resource)}) for way in (1, -1)]
    width = math.log1p(STEP) - math.log1p(-STEP)
    assert row.step == pytest.approx(math.log(ends[0].step_s / ends[1].step_s) / width, abs=1e-9)
    assert row.cost == pytest.approx(math.log(cost(ends[0]) / cost(ends[1])) / width, abs=1e-9)


def test_cost_is_accelerator_seconds_a_token() -> None:
    assert answer(MOE).cost_s == pytest.approx(cost(answer(MOE).plan), rel=1e-12)


@pytest.mark.parametrize("spec", EXAMPLES)
def test_shares_partition_the_step(spec: str) -> None:
    shares = answer(spec).balance.shares
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
    assert all(share >= 0.0 for share in shares.values())
    assert set(shares) == set(resources.BY_NAME) - {"memory capacity"}


def test_adapters_bind_what_they_carry_inside_pods_and_the_taper_the_rest() -> None:
    rows = {row.resource: row for row in answer(LARGE).elasticities}
    adapters, above = rows["scale-out bandwidth"], rows["above-pod bandwidth"]
    assert 0.0 < above.share < adapters.share
    assert adapters.share + above.share == pytest.approx(-adapters.step, rel=1e-12)


def test_a_run_that_reads_slower_than_it_computes_is_bound_by_storage_alone() -> None:
    found = sensitivity(SMALL, sets=["input.storage_Bps=100 kB/s"])
    assert found.balance.shares["storage bandwidth"] == pytest.approx(1.0, abs=1e-6)
    assert found.balance.bound_by.startswith("storage bandwidth 100.0 %;")
    exposed = {row.name: row for row in found.exposures}["input_exposed_s"]
    assert exposed.level == "storage bandwidth"
    fast = planner.plan(SMALL, sets=[f"input.storage_Bps={exposed.hides_Bps!r} B/s"])
    assert fast.value("input_exposed_s") == pytest.approx(0.0, abs=1e-8)
    slow = planner.plan(SMALL, sets=[f"input.storage_Bps={0.99 * exposed.hides_Bps!r} B/s"])
    assert slow.value("input_exposed_s") > 0.005 * slow.step_s


def test_off_load_answers_to_the_host_link() -> None:
    found = sensitivity(SMALL, sets=["layout.offload.activations=1.0", "cluster.override.host_link_Bps=20 GB/s"])
    exposed = {row.name: row for row in found.exposures}["offload_exposed_s"]
    assert exposed.level == "host link bandwidth" and exposed.structural_s == 0.0
    slopes = {row.resource: row.step for row in found.elasticities}
    assert slopes["host link bandwidth"] < -0.5


def test_unused_resources_are_those_of_which_a_thousandth_does() -> None:
    for row in answer(SMALL).elasticities:
        if row.resource in NAMED and row.resource != "memory capacity":
            factor = 1e3 if row.kind == "duration" or row.resource == "above-pod bandwidth" else 1e-3
            moved = changed(SMALL, {row.resource: factor}).step_s != pytest.approx(answer(SMALL).plan.step_s, rel=1e-9)
            assert moved == row.used, row.resource


@pytest.mark.parametrize("resource", ["compute rate", "scale-out bandwidth", "kernel start-up"])
def test_a_step_is_one_per_cent_longer_where_a_resource_bears_no_more(resource: str) -> None:
    row = next(row for row in answer(MOE).elasticities if row.resource == resource)
    longer = changed(MOE, {resource: row.bearable}).step_s
    assert longer == pytest.approx(1.01 * answer(MOE).plan.step_s, rel=1e-9)


def test_capacity_moves_no_step_and_says_what_the_layout_needs() -> None:
    row = next(row for row in answer(MOE).elasticities if row.resource == "memory capacity")
    assert (row.step, row.share) == (0.0, 0.0)
    assert changed(MOE, {"memory capacity": row.bearable * (1 + 1e-12)}).feasible
    assert not changed(MOE, {"memory capacity": row.bearable * 0.999}).feasible


@pytest.mark.parametrize("spec", [SMALL, LARGE])
def test_more_of_a_resource_never_makes_these_steps_longer(spec: str) -> None:
    machine = resources.machine(spec)
    for resource in resources.RESOURCES:
        steps = machine.step_s({resource: np.geomspace(0.1, 1e3, 400)})
        assert np.all(np.diff(steps) <= 1e-12 * steps[0]), resource.name


# ---------------------------------------------------------------------------------------------------- tornado


@pytest.mark.parametrize("resource", ["compute rate", "above-pod bandwidth", "memory capacity", "scale-up latency"])
def test_the_tornado_shows_full_plans_with_less_and_more(resource: str) -> None:
    row = next(row for row in answer(LARGE).tornado if row.resource == resource)
    low, high = (changed(LARGE, {resource: by ** direction(resource)}) for by in (0.8, 1.25))
    assert (row.low_s, row.high_s) == pytest.approx((low.step_s, high.step_s), rel=1e-12)
    assert (row.fits_low, row.fits_high) == (low.feasible, high.feasible)


def test_the_widest_swing_is_first_and_the_ends_are_free() -> None:
    found = sensitivity(MOE, less=0.5, more=1.0)
    swings = [row.swing_s for row in found.tornado]
    assert swings == sorted(swings, reverse=True)
    top = found.tornado[0]
    assert top.low_s == pytest.approx(changed(MOE, {top.resource: 0.5}).step_s, rel=1e-12)
    assert top.high_s == pytest.approx(changed(MOE, {top.resource: 2.0}).step_s, rel=1e-12)


def test_above_the_pod_no_more_passes_than_the_adapters_send() -> None:
    found = sensitivity(LARGE, more=100.0, buy=100.0)
    full = planner.plan(LARGE, sets=["cluster.override.scale_out.taper=1"])
    assert next(r for r in found.tornado if r.resource == "above-pod bandwidth").high_s == pytest.approx(full.step_s)
    bought = next(r for r in found.bought if r.resource == "above-pod bandwidth")
    assert (bought.factor, bought.fixed_s) == pytest.approx((7.0, full.step_s))


# ---------------------------------------------------------------------------------------------------- balance


def test_weights_in_proportion_to_the_shares_balance_the_system() -> None:
    rates = answer(MOE).balance.rates
    assert not answer(MOE).balance.balanced and answer(MOE).balance.index < 0.99
    balance = sensitivity(MOE, weights={rate.resource: rate.share for rate in rates}).balance
    assert balance.balanced
    assert balance.index == pytest.approx(1.0, abs=1e-9)


def test_index_is_the_effective_number_of_binding_rates_over_those_in_use() -> None:
    balance = answer(LARGE).balance
    entropy = -sum(rate.share * math.log(rate.share) for rate in balance.rates)
    assert balance.index == pytest.approx(math.exp(entropy) / len(balance.rates), rel=1e-9)
    verdicts = {rate.resource: rate.verdict for rate in balance.rates}
    assert verdicts["compute rate"] == "scarce" and verdicts["memory bandwidth"] == "ample"


def test_in_a_balanced_system_no_swap_at_equal_cost_shortens_the_step() -> None:
    """The meaning of the definition, tried: a thousandth more of one rate for its worth less of another."""
    found = answer(MOE)
    shares = {rate.resource: rate.share for rate in found.balance.rates}
    for one in shares:
        for other in shares:
            if one != other:
                swap = {one: math.exp(1e-3 / shares[one]), other: math.exp(-1e-3 / shares[other])}
                assert changed(MOE, swap).step_s >= found.plan.step_s * (1 - 1e-6), swap


# ---------------------------------------------------------------------------------------------------- exposed terms


@pytest.mark.parametrize("spec", EXAMPLES)
def test_exposed_terms_are_the_parts_of_the_plan_and_add_up(spec: str) -> None:
    found, parts = answer(spec), answer(spec).plan.parts
    named = {row.name for row in found.exposures}
    for name in ("tp_exposed_s", "cp_exposed_s", "ep_exposed_s", "pp_exposed_s"):
        assert (name in named) == (parts[name] > 0)
    for row in found.exposures:
        assert row.exposed_s == pytest.approx(parts.get(row.name, row.exposed_s), rel=1e-12)
        assert row.structural_s + row.hideable_s == pytest.approx(row.exposed_s, rel=1e-12)
        floor = row.other_levels_s + row.latency_s + row.other_s
        assert row.removable_s + floor == pytest.approx(row.exposed_s, rel=1e-12)
        assert row.other_s == pytest.approx(0.0, abs=1e-9 * row.exposed_s)
    on_one_rank = [row for row in found.exposures if row.name.startswith(("dp_", "fsdp_"))]
    assert sum(row.exposed_s for row in on_one_rank) <= parts["dp_exposed_s"] * (1 + 1e-9)


def test_experts_are_just_hidden_at_the_bandwidth_found() -> None:
    row = next(row for row in answer(MOE).exposures if row.name == "ep_exposed_s")
    assert row.level == "scale-out bandwidth" and row.structural_s == 0.0
    just = planner.plan(MOE, sets=[f"cluster.override.scale_out.nic_Bps={row.hides_Bps!r} B/s"])
    assert just.value("ep_exposed_s") <= 1e-9 * row.exposed_s
    assert just.step_s == pytest.approx(row.hides_step_s, rel=1e-12)
    less = planner.plan(MOE, sets=[f"cluster.override.scale_out.nic_Bps={0.99 * row.hides_Bps!r} B/s"])
    assert less.value("ep_exposed_s") > 0.02 * row.exposed_s


def test_gradients_are_hidden_but_for_the_last_bucket_at_the_bandwidth_found() -> None:
    row = next(row for row in answer(MOE).exposures if row.name == "dp_gradient_exposed_s")
    assert "last bucket" in row.why

    def beyond(factor: float) -> tuple[float, float]:
        """Exposed seconds of the rank that ends last, and those of its last bucket."""
        made = planner.plan(MOE, sets=[f"cluster.override.scale_out.nic_Bps={factor * row.hides_Bps!r} B/s"])
        ranks = [np.ravel(made.values[name, None]) for name in ("dp_gradient_exposed_s", "dp_gradient_s")]
        at = int(np.argmin(np.abs(np.ravel(answer(MOE).plan.values["dp_gradient_exposed_s", None]) - row.exposed_s)))
        return ranks[0][at], made.value("last_bucket_share") * ranks[1][at]

    exposed, bucket = beyond(1.0)
    assert exposed == pytest.approx(bucket, rel=1e-6)
    exposed, bucket = beyond(0.99)
    assert exposed > 1.01 * bucket


def test_nine_tenths_of_what_bandwidth_can_remove_are_gone_at_the_bandwidth_found() -> None:
    row = next(row for row in answer(LARGE).exposures if row.name == "tp_exposed_s")
    assert row.hideable_s == 0.0 and row.why == "of 8 pieces one has no matrix product beside it"
    endless = planner.plan(LARGE, sets=["cluster.override.scale_up.link_Bps=1e24 B/s"]).value("tp_exposed_s")
    assert row.latency_s == pytest.approx(endless, rel=1e-6)
    most = planner.plan(LARGE, sets=[f"cluster.override.scale_up.link_Bps={row.most_Bps!r} B/s"])
    assert row.exposed_s - most.value("tp_exposed_s") == pytest.approx(0.9 * (row.exposed_s - endless), rel=1e-6)


def test_latency_keeps_exposed_what_no_bandwidth_hides() -> None:
    found = sensitivity(MOE, sets=["cluster.override.scale_out.latency_s=300 ms"])
    row = next(row for row in found.exposures if row.name == "ep_exposed_s")
    assert (row.hides_factor, row.hides_Bps, row.hides_step_s) == (None, None, None)
    assert row.latency_s > 0.5 * row.exposed_s and row.never_removed > 0.5


@pytest.mark.parametrize(("sets", "name", "why"), [
    (["layout.overlap.tp=false"], "tp_exposed_s", "this stack does not run it beside matrix products"),
    (["layout.overlap.dp_gradients=false"], "dp_gradient_exposed_s", "this stack reduces gradients after"),
    (["layout.overlap.dp_parameters=false"], "dp_parameter_exposed_s", "this stack gathers parameters before"),
    (["layout.overlap.pp=false"], "pp_exposed_s", "passes activations on before it goes on"),
    (["layout.cp=2", "layout.dp=64", "layout.cp_style=all-gather"], "cp_exposed_s", "all-gather is exposed as a whole"),
])
def test_what_has_nothing_beside_it_says_why(sets: list[str], name: str, why: str) -> None:
    row = next(row for row in exposures(resources.machine(LARGE, sets)) if row.name == name)
    assert row.structural_s > 0.0 and why in row.why


def test_the_level_that_carries_a_term_is_the_one_it_answers_to() -> None:
    wide = ["layout.tp=16", "layout.dp=64"]  # tensor parallelism beyond the node
    row = next(row for row in exposures(resources.machine(LARGE, [*wide, "cluster.override.scale_out.nic_Bps=5 GB/s"]))
               if row.name == "tp_exposed_s")
    assert row.level == "scale-out bandwidth" and row.other_levels_s > 0.0


# ---------------------------------------------------------------------------------------------------- a little more


CANDIDATES = [
    {"layout.recompute": recompute, "layout.micro_batch": str(size)}
    for recompute in ("none", "selective", "full") for size in (1, 2)
]
BATCH = ("training.global_batch_sequences=16",)


def brute_force(scale: Mapping[str, float]) -> tuple[float, Mapping[str, Any]] | None:
    """The fastest of six layouts that fits, every one resolved and evaluated by itself with its leaves scaled."""
    best: tuple[float, Mapping[str, Any]] | None = None
    for layout in CANDIDATES:
        spec = load.load_spec(SMALL, [*BATCH, *(f"{name}={value}" for name, value in layout.items())])
        problem = resolve.resolve(spec)
        leaves = {n: replace(leaf, value=leaf.value * scale.get(n, 1.0)) for n, leaf in problem.leaves.items()}
        values = planner.evaluate([replace(problem, leaves=leaves)])
        step = float(values["step_s", None][0])
        if values["feasible", None][0] and (best is None or step < best[0]):
            best = (step, layout)
    return best


@cache
def searched() -> Sensitivity:
    return sensitivity(SMALL, sets=BATCH, buy=0.5, rechoose=brute_force)


def test_capacity_buys_nothing_until_the_layout_is_chosen_again() -> None:
    row = next(row for row in searched().bought if row.resource == "memory capacity")
    assert row.fixed_gain == 0.0
    assert row.best_gain is not None and row.best_gain > 0.01
    assert row.best_layout != searched().best_layout


def test_what_a_resource_buys_is_that_of_full_plans_before_and_after() -> None:
    found = searched()
    row = next(row for row in found.bought if row.resource == "compute rate")
    assert row.fixed_s == pytest.approx(changed(SMALL, {"compute rate": 1.5}, BATCH).step_s, rel=1e-12)
    plans = [changed(SMALL, {"compute rate": 1.5}, [*BATCH, *(f"{n}={v}" for n, v in layout.items())])
             for layout in CANDIDATES]
    best = min(made.step_s for made in plans if made.feasible)
    assert row.best_s == pytest.approx(best, rel=1e-12)
    assert row.best_gain == pytest.approx(1.0 - best / found.best_s, rel=1e-12)


def test_gains_of_durations_are_those_of_less() -> None:
    row = next(row for row in answer(MOE).bought if row.resource == "kernel start-up")
    assert row.fixed_gain > 0.0
    assert row.fixed_s == pytest.approx(changed(MOE, {"kernel start-up": 1 / 1.1}).step_s, rel=1e-12)


def test_without_a_search_nothing_is_said_about_other_layouts() -> None:
    assert not answer(SMALL).searched
    assert all((row.best_s, row.best_gain, row.best_layout) == (None, None, None) for row in answer(SMALL).bought)


def test_a_search_that_finds_nothing_is_not_a_gain() -> None:
    found = sensitivity(SMALL, rechoose=lambda scale: None)
    assert found.searched and found.best_s is None
    assert all(row.best_gain is None for row in found.bought)


# ---------------------------------------------------------------------------------------------------- use


def test_a_plan_a_path_and_a_mapping_give_the_same_answer() -> None:
    made = planner.plan(SMALL)
    one, other = sensitivity(made).to_dict(), sensitivity(load.load(SMALL).resolved()).to_dict()
    assert one == answer(SMALL).to_dict() == other
    json.dumps(one, allow_nan=False)


def test_a_counterfactual_plan_keeps_its_overrides() -> None:
    found = sensitivity(planner.plan(MOE, overrides={"ep_exposed_s": 0.0}))
    assert found.tornado[0].low_s > found.plan.step_s
    assert "ep_exposed_s" not in {row.name for row in found.exposures}


@pytest.mark.parametrize(("given", "message"), [
    ({"less": 1.0}, "less 1 is not a share above 0 and below 1"),
    ({"more": 0.0}, "more 0 is not a share"),
    ({"buy": float("nan")}, "buy nan is not a share"),
    ({"weights": {"compute rte": 1.0}}, "Did you mean 'compute rate'"),
    ({"weights": {"compute rate": 0.0}}, "weight of compute rate: 0 is not above 0"),
])
def test_bad_questions_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        sensitivity(SMALL, **given)


def test_a_step_that_was_set_by_hand_is_refused_where_it_is_none() -> None:
    with np.errstate(all="ignore"):
        made = planner.plan(SMALL, overrides={"step_s": 0.0})
    with pytest.raises(SpecError, match="answers to nothing"):
        sensitivity(made)


def test_sets_do_not_change_a_plan() -> None:
    with pytest.raises(SpecError, match="a plan was given"):
        sensitivity(planner.plan(SMALL), sets=["layout.micro_batch=2"])


def test_values_are_of_an_accelerator_not_of_one_of_its_ranks() -> None:
    found = sensitivity(SMALL, sets=[
        "cluster.profile=tpu-v7", "software.stack=maxtext", "layout.dp=16", "training.global_batch_sequences=16"])
    assert found.plan.value("ranks_per_accelerator") == 2.0
    data = found.plan.problem.profile.data()
    values = {row.resource: row.value for row in found.elasticities}
    assert values["memory bandwidth"] == data["accelerator.memory_Bps"].value
    assert values["memory capacity"] == data["accelerator.memory_B"].value
    assert values["scale-out bandwidth"] == data["scale_out.nic_Bps"].value
    assert values["host link bandwidth"] == data["host_link_Bps"].value
    assert values["compute rate"] == data["accelerator.peak_FLOPps.bf16"].value
