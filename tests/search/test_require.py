"""The least hardware that reaches a target: planned again at what was found, and held against grids and scipy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from machines import LARGE, MOE, SMALL, changed, with_settings
from scipy import optimize

from codesign import planner
from codesign.errors import SpecError
from codesign.search import resources
from codesign.search.cheapest import cheapest, linear_least
from codesign.search.require import Requirement, require

TOO_LARGE = ("layout.micro_batch=4", "training.global_batch_sequences=32")


@cache
def found(spec: str, target: tuple[tuple[str, float], ...], hold: tuple[str, ...] = ()) -> Requirement:
    return require(spec, dict(target), weights=dict.fromkeys(hold, math.inf))


def factors(answer: Requirement) -> dict[str, float | None]:
    return {row.resource: row.factor for row in answer.alone}


# ---------------------------------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize(("resource", "gain"), [
    ("compute rate", 0.1), ("memory bandwidth", 0.1), ("scale-out bandwidth", 0.1), ("kernel start-up", 0.003),
    ("scale-out latency", 0.003),
])
def test_a_plan_at_the_least_of_a_resource_just_reaches_the_target(resource: str, gain: float) -> None:
    target = planner.plan(MOE).step_s * (1 - gain)
    factor = factors(found(MOE, (("step_s", target),)))[resource]
    assert factor is not None and factor > 1.0
    of_field = -1 if resource in ("kernel start-up", "scale-out latency") else 1
    assert changed(MOE, {resource: factor**of_field}).step_s <= target * (1 + 1e-12)
    assert changed(MOE, {resource: (0.99 * factor) ** of_field}).step_s > target


def test_the_value_that_is_shown_is_the_number_times_the_factor() -> None:
    for row in found(MOE, (("step_s", 18.9),)).alone:
        if row.factor is not None:
            assert row.value == pytest.approx(row.now * row.factor ** (-1 if row.kind == "duration" else 1), rel=1e-12)


def test_what_does_not_reach_it_alone_says_the_best_it_gives() -> None:
    answer = found(MOE, (("mfu", 0.3),))
    assert set(factors(answer).values()) == {None}
    best = {row.resource: row.best["mfu"] for row in answer.alone}
    assert best["scale-out bandwidth"] == pytest.approx(changed(MOE, {"scale-out bandwidth": 1e9}).value("mfu"), rel=1e-6)
    assert best["compute rate"] == pytest.approx(answer.plan.value("mfu"), rel=1e-12)  # more compute lowers it


def test_above_the_pod_the_best_is_full_bisection() -> None:
    row = next(row for row in found(LARGE, (("mfu", 0.5),)).alone if row.resource == "above-pod bandwidth")
    full = planner.plan(LARGE, sets=["cluster.override.scale_out.taper=1"])
    assert row.factor is None and row.best["mfu"] == pytest.approx(full.value("mfu"), rel=1e-12)


# ---------------------------------------------------------------------------------------------------- targets


def test_every_target_is_the_same_question_about_the_step() -> None:
    made = planner.plan(SMALL, sets=["training.tokens=1e9"])
    days, steps = 0.15, made.value("training_steps")
    step_s, hours = days * 86400.0 / steps, 8 * 24.0
    answers = [
        require(made, {"days": days}), require(made, {"step_s": step_s}), require(made, {"cost": days * hours}),
        require(made, {"cost": days * hours * 2.5}, price=2.5),
        require(made, {"tokens_per_s": made.value("step_tokens") / step_s}),
    ]
    assert steps == math.ceil(1e9 / made.value("step_tokens"))
    assert [goal.now for answer in answers for goal in answer.goals] == pytest.approx([
        made.step_s * steps / 86400.0, made.step_s, made.step_s * steps / 3600.0 * 8,
        made.step_s * steps / 3600.0 * 8 * 2.5, made.value("job_tokens_per_s"),
    ])
    first = factors(answers[0])
    assert first["compute rate"] > 1.0
    for answer in answers[1:]:
        for resource, factor in factors(answer).items():
            assert factor == (first[resource] and pytest.approx(first[resource], rel=1e-9))
        assert answer.path.cost == pytest.approx(answers[0].path.cost, rel=2e-4)


def test_a_target_may_have_a_unit() -> None:
    assert require(SMALL, {"step_s": "900 ms"}).goals[0].wanted == pytest.approx(0.9)


def test_several_targets_hold_together() -> None:
    both = require(MOE, {"mfu": 0.3, "step_s": 12.0})
    made = with_settings(MOE, both.path.settings)
    assert made.value("mfu") >= 0.3 and made.step_s <= 12.0
    assert both.path.cost > found(MOE, (("mfu", 0.3),)).path.cost


@pytest.mark.parametrize("spec", [SMALL, LARGE])
@pytest.mark.parametrize("name", ["step_s", "mfu"])
def test_a_harder_target_never_needs_less(spec: str, name: str) -> None:
    made, answers = planner.plan(spec), []
    for ease in (0.98, 0.95, 0.93):
        wanted = made.step_s * ease if name == "step_s" else made.value("mfu") / ease
        answers.append(found(spec, ((name, wanted),)))
    costs = [answer.path.cost if answer.path else math.inf for answer in answers]
    assert costs == sorted(costs) and costs[0] > 0.0
    for easy, hard in pairwise(answers):
        for resource, factor in factors(easy).items():
            harder = factors(hard)[resource]
            assert harder is None or (factor is not None and harder > factor)


# ---------------------------------------------------------------------------------------------------- the combined path


@pytest.mark.parametrize(("spec", "target"), [
    (MOE, ("mfu", 0.3)), (MOE, ("step_s", 10.0)), (LARGE, ("mfu", 0.5)), (LARGE, ("days", 45.0)), (SMALL, ("step_s", 0.6)),
])
def test_the_settings_of_the_cheapest_path_are_a_plan_that_just_reaches(spec: str, target: tuple[str, float]) -> None:
    answer = found(spec, (target,))
    made = with_settings(spec, answer.path.settings)
    assert made.feasible and made.step_s == pytest.approx(answer.path.step_s, rel=1e-12)
    again = require(made, dict([target]))
    assert again.met
    assert answer.path.reached[target[0]] == pytest.approx(target[1], rel=1e-6)
    assert answer.path.bound <= answer.path.cost <= answer.path.bound * 1.001


FREE = {
    (MOE, "step_s", 12.0): ("compute rate", "scale-out bandwidth"),
    (MOE, "mfu", 0.26): ("memory bandwidth", "scale-out bandwidth"),
    (LARGE, "mfu", 0.495): ("scale-up bandwidth", "scale-out bandwidth"),
    (MOE, "mfu", 0.28): ("memory bandwidth", "scale-out bandwidth", "scale-up bandwidth"),
    (LARGE, "step_s", 4.0): ("compute rate", "scale-up bandwidth", "memory bandwidth"),
}


@pytest.mark.parametrize(("spec", "name", "wanted"), list(FREE))
def test_no_point_of_a_grid_is_cheaper_than_the_path_by_a_per_cent(spec: str, name: str, wanted: float) -> None:
    free = FREE[spec, name, wanted]
    hold = tuple(resource for resource in resources.BY_NAME if resource not in free)
    answer = found(spec, ((name, wanted),), hold)
    assert {part.resource for part in answer.path.parts} <= set(free)
    top, points = 1.3 * answer.path.cost * math.log(2.0), 110 if len(free) == 2 else 24
    axis = np.linspace(0.0, top, points)
    logs = [axis_of.ravel() for axis_of in np.meshgrid(*[axis] * len(free))]
    machine = resources.Machine(answer.plan)
    values = machine.run({resources.named(n): np.exp(x) for n, x in zip(free, logs, strict=True)}, (name,)).row(name)
    held = values >= wanted if name == "mfu" else values <= wanted
    best = float(np.min(np.where(held, sum(logs), np.inf))) / math.log(2.0)
    step = (len(free) - 1) * top / (points - 1) / math.log(2.0)  # a point of the grid is as near as this to the best
    assert answer.path.bound <= best * (1 + 1e-9)
    assert answer.path.cost <= 1.01 * best
    assert best <= answer.path.cost + 2 * step


def test_weights_move_the_path_to_what_is_cheap() -> None:
    even = found(MOE, (("step_s", 12.0),))
    dear = require(MOE, {"step_s": 12.0}, weights={"compute rate": 5.0})
    now, then = ({part.resource: part.factor for part in answer.path.parts} for answer in (even, dear))
    assert then.get("compute rate", 1.0) < now["compute rate"]
    assert then["scale-out bandwidth"] > now["scale-out bandwidth"]
    held = require(MOE, {"step_s": 15.0}, weights={"Compute_Rate": math.inf})
    assert "compute rate" not in {part.resource for part in held.path.parts} | {row.resource for row in held.alone}


def test_what_no_field_sets_is_named() -> None:
    """Launch times of the host are fitted constants."""
    slow = ["software.stack=torchtitan-eager", "training.sequence_length=256", "cluster.profile=b200-sxm"]
    made = planner.plan(SMALL, sets=slow)
    assert made.parts["host_excess_s"] > 0
    others = {name: math.inf for name in resources.BY_NAME if name != "host launch time"}
    answer = require(made, {"step_s": made.step_s - 0.2 * made.parts["host_excess_s"]}, weights=others)
    assert answer.path.no_field == ("host launch time",) and not answer.path.settings


def test_a_torus_keeps_its_axes_when_its_links_grow() -> None:
    spec = ["cluster.profile=tpu-v5p", "software.stack=maxtext", "layout.tp=2", "layout.dp=4"]
    made = planner.plan(SMALL, sets=spec)
    target = 0.5 * made.step_s + 0.5 * changed(SMALL, {}, [*spec, "cluster.override.scale_up.link_Bps=1e18 B/s",
                                                           "cluster.override.scale_up.p2p_Bps=1.666666667e17 B/s"]).step_s
    answer = require(made, {"step_s": target}, weights={
        name: math.inf for name in resources.BY_NAME if name != "scale-up bandwidth"})
    assert "cluster.override.scale_up.p2p_Bps" in answer.path.settings
    again = with_settings(SMALL, answer.path.settings, spec)
    assert again.value("torus_axes") == made.value("torus_axes") > 1
    assert again.step_s == pytest.approx(target, rel=1e-9)


# ---------------------------------------------------------------------------------------------------- memory


def test_a_layout_that_does_not_fit_is_told_the_least_memory_at_which_it_does() -> None:
    answer = require(SMALL, {"mfu": 0.36}, sets=TOO_LARGE)
    assert answer.on_time and not answer.met and answer.reachable
    assert [part.resource for part in answer.path.parts] == ["memory capacity"]
    for factor, fits in ((1.0, True), (0.99, False)):
        memory = f"cluster.override.accelerator.memory_B={factor * answer.needed_B * (1 + 1e-15)!r} B"
        assert planner.plan(SMALL, sets=[*TOO_LARGE, memory]).feasible == fits
    assert with_settings(SMALL, answer.path.settings, TOO_LARGE).feasible


def test_memory_and_time_are_raised_together() -> None:
    answer = require(SMALL, {"mfu": 0.38}, sets=TOO_LARGE)
    made = with_settings(SMALL, answer.path.settings, TOO_LARGE)
    assert made.feasible and made.value("mfu") >= 0.38
    assert answer.path.cost > math.log2(answer.needed_B / answer.capacity_B)


def test_memory_that_is_held_is_an_obstacle() -> None:
    answer = require(SMALL, {"mfu": 0.36}, sets=TOO_LARGE, weights={"memory capacity": math.inf})
    assert not answer.reachable and "memory: the fullest rank needs" in answer.obstacles[0]


# ---------------------------------------------------------------------------------------------------- met, and never


@pytest.mark.parametrize("resource", ["compute rate", "scale-out bandwidth", "kernel start-up"])
def test_a_met_target_says_what_can_be_taken_away(resource: str) -> None:
    target = 1.1 * planner.plan(LARGE).step_s
    answer = found(LARGE, (("step_s", target),))
    assert answer.met and answer.path is None
    factor = factors(answer)[resource]
    assert factor is not None and factor < 1.0
    of_field = -1 if resource == "kernel start-up" else 1
    assert changed(LARGE, {resource: factor**of_field}).step_s <= target * (1 + 1e-12)
    assert changed(LARGE, {resource: (0.99 * factor) ** of_field}).step_s > target


def test_less_compute_never_misses_an_mfu() -> None:
    assert factors(found(LARGE, (("mfu", 0.45),)))["compute rate"] is None


@pytest.mark.parametrize("wanted", [0.5, 1.0, 1.3])
def test_beyond_endless_hardware_is_no_with_the_bound_and_what_is_in_the_way(wanted: float) -> None:
    answer = found(MOE, (("mfu", wanted),))
    assert not answer.reachable and answer.path is None
    endless = {"memory bandwidth": 1e9, "scale-up bandwidth": 1e9, "scale-out bandwidth": 1e9,
               "kernel start-up": 1e-9, "scale-up latency": 1e-9, "scale-out latency": 1e-9}
    made = changed(MOE, endless)
    assert answer.goals[0].best == pytest.approx(made.value("mfu"), rel=1e-5)
    assert answer.bound_step_s == pytest.approx(made.step_s, rel=1e-5)
    assert list(answer.bound_parts)[:2] == sorted(made.parts, key=lambda name: -made.parts[name])[:2]


def test_no_step_is_shorter_than_its_fixed_work() -> None:
    answer = require(SMALL, {"step_s": 0.005})
    assert not answer.reachable
    assert next(iter(answer.bound_parts)) == "fixed_step_time_s"
    assert require(SMALL, {"step_s": 0.005}, weights={"fixed work of a step": 1.0}).reachable


def test_a_layout_that_no_hardware_allows_is_no() -> None:
    answer = require(SMALL, {"mfu": 0.3}, sets=["layout.tp=3", "layout.dp=4", "cluster.accelerators=12"])
    assert not answer.reachable and "heads: tp 3" in answer.obstacles[0]


# ---------------------------------------------------------------------------------------------------- use


@pytest.mark.parametrize(("target", "given", "message"), [
    ({}, {}, "no target: give one of mfu"),
    ({"mfuu": 0.5}, {}, "no target 'mfuu'. Known: mfu, step_s"),
    ({"mfu": 0.0}, {}, "target mfu: 0.0 is not above 0"),
    ({"mfu": "half"}, {}, "target mfu: 'half' is not a number"),
    ({"mfu": "50 GB"}, {}, "target mfu: unknown unit 'GB'"),
    ({"step_s": "nan"}, {}, "target step_s"),
    ({"step_s": "5 GB"}, {}, "GB measures bytes, not seconds"),
    ({"days": 10}, {}, "say how long that is: give training.tokens"),
    ({"cost": 10}, {"price": -1.0}, "price -1"),
    ({"mfu": 0.5}, {"price": 2.0}, "a price has no effect without the target cost"),
    ({"mfu": 0.5}, {"weights": {"nic": 2.0}}, "no resource 'nic'"),
])
def test_bad_questions_are_refused(target: Mapping[str, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        require(SMALL, target, **given)
    assert message in str(error.value)


def test_everything_is_plain_data() -> None:
    for answer in (found(MOE, (("mfu", 0.3),)), found(MOE, (("mfu", 0.5),)), found(LARGE, (("mfu", 0.45),))):
        json.dumps(answer.to_dict(), allow_nan=False)


# ---------------------------------------------------------------------------------------------------- the solver


def test_linear_programs_are_those_of_scipy() -> None:
    random, infeasible = np.random.default_rng(0), 0
    for _ in range(150):
        n, m = random.integers(1, 13), random.integers(1, 60)
        weights, upper = random.uniform(0.1, 3.0, n), random.uniform(0.5, 27.0, n)
        slopes, least = random.normal(0.3, 0.5, (m, n)), random.normal(0.0, 1.0, m)
        ours = linear_least(weights, slopes, least, upper)
        theirs = optimize.linprog(weights, -slopes, -least, bounds=[(0.0, top) for top in upper])
        assert (ours is None) == (theirs.status == 2)
        infeasible += ours is None
        if ours is not None:
            assert float(np.sum(weights * ours)) == pytest.approx(theirs.fun, rel=1e-7, abs=1e-7)
            assert np.all(np.sum(slopes * ours, axis=1) >= least - 1e-7)
    assert 10 < infeasible < 140


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_sum_of_times_has_its_cheapest_point_where_returns_are_equal(n: int) -> None:
    """min w . x with sum a exp(-x) = b: a exp(-x) = b w / sum w, by Lagrange, where that is below a."""
    random = np.random.default_rng(n)
    a, weights = random.uniform(1.0, 2.0, n), random.uniform(0.5, 1.0, n)
    b = 0.2 * float(np.min(a / weights) * weights.sum())

    def excess(x: np.ndarray) -> np.ndarray:
        return np.log(np.sum(a[:, None] * np.exp(-x), axis=0) / b)

    best = float(np.sum(weights * np.log(a * weights.sum() / (b * weights))))
    upper = np.full(n, 20.0)
    found = cheapest(excess, weights, upper, upper)
    assert excess(found.x[:, None])[0] <= 0.0
    assert found.bound * (1 - 1e-9) <= best <= found.cost * (1 + 1e-9)
    assert found.cost == pytest.approx(best, rel=3e-3)


def test_a_corner_of_two_maxima_is_found() -> None:
    """max(x-path, y-path) bends where both bind: neither alone is worth raising there."""
    def excess(x: np.ndarray) -> np.ndarray:
        return np.maximum(np.maximum(1.0 - x[0], 2.0 - x[1]), 1.5 - 0.5 * (x[0] + x[1]))

    found = cheapest(excess, np.array([1.0, 1.0]), np.full(2, 9.0), np.full(2, 9.0))
    assert found.x == pytest.approx([1.0, 2.0], abs=1e-3)
