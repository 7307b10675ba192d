"""What a run gives and costs: power, money, dates, serving, ladder; hand-made sums, and what holds for all sizes."""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from outcomes import POWER, REFERENCE, SERVING, SMALL, made, one, refused

from codesign import graph, planner
from codesign.decisions import calendar, interval, ladder, launch
from codesign.errors import SpecError
from codesign.laws import economics, extrapolation, power, scaling
from codesign.report import run_outcome
from codesign.run import evaluate, run_plan
from codesign.spec import datafiles
from codesign.spec import load as loader
from codesign.spec.outcome import DATA_OF

# ---------------------------------------------------------------------------------------------------- power, money


def test_money_is_null_until_a_price_is_given():
    assert set(run_outcome.to_dict(made())["money"].values()) == {None}
    run = made(price_per_hour=2.0)
    assert run.value("rental_cost") == 2.0 * 64 * run.value("run_wall_s") / 3600
    assert "failure_cost" not in run.inputs.targets  # nothing fails


def test_price_of_deepseek_v3s_pre_training():
    """2.664e6 H800 hours at 2 dollars for 14.8e12 tokens (arXiv 2412.19437): 5.33e6."""
    spec = loader.load("examples/deepseek-v3-h800.yaml", ["training.tokens=14.8e12", "run.price_per_hour=2.0"])
    assert run_plan(planner.plan(spec)).value("rental_cost") == pytest.approx(5.33e6, rel=0.1)


def test_others_on_the_cluster_lengthen_the_run():
    run = made(other={"evaluation": 0.05, "post_training": 0.15}, price_per_hour=2.0)
    assert run.value("run_wall_s") == pytest.approx(made().value("run_wall_s") / 0.8)


def test_mean_power_by_hand_from_the_parts_of_the_step():
    run = made(power=POWER)
    parts, step_s = run.steps["main"].parts, run.steps["main"].step_s
    matmul = parts["gemm_total_s"] + parts["ends_total_s"] + parts["overlap_slowdown_total_s"] + parts["recompute_total_s"]
    attention, memory = parts["attention_total_s"], parts["elementwise_total_s"] + parts["optimizer_s"]
    draw = {name: one.share for name, one in power.BOARD_DRAW.items()}
    mean = (
        matmul * draw["matmul"] + attention * draw["attention"] + memory * draw["memory"]
        + (step_s - matmul - attention - memory) * draw["waiting"]
    ) / step_s  # fmt: skip
    assert run.value("training_site_W") == pytest.approx(64 * (700 * mean + 450) * 1.1, rel=1e-12)
    assert run.value("peak_site_W") == pytest.approx(64 * (700 * draw["matmul"] + 450) * 1.1)
    assert run.value("waiting_site_W") < run.value("average_site_W") < run.value("peak_site_W")


def test_lost_time_draws_the_power_of_waiting():
    run = made(power=POWER)
    less = one(run, "run_energy_J", goodput=0.5) - run.value("run_energy_J")
    assert less == pytest.approx(run.value("waiting_site_W") * run.value("productive_s"))
    assert one(run, "average_site_W", goodput=0.5) == pytest.approx(
        0.5 * (run.value("training_site_W") + run.value("waiting_site_W"))
    )


def test_carbon_and_price_of_energy():
    run = made(power={**POWER, "kg_per_kWh": 0.385, "price_per_kWh": 0.08})
    kWh = run.value("run_energy_J") / 3.6e6
    assert run.value("run_carbon_kg") == pytest.approx(0.385 * kWh)
    assert run.value("energy_cost") == pytest.approx(0.08 * kWh)


def test_a_cap_below_the_peak_is_an_answer_with_what_fits():
    run = made(power={**POWER, "cap_W": "50 kW"})
    assert not run.feasible and "cap is 0.1 MW" in run.violations[0]
    most = run.value("accelerators_under_cap")
    each_W = run.value("peak_site_W") / 64
    assert most * each_W <= 50e3 < (most + 1) * each_W
    assert made(power={**POWER, "cap_W": "100 kW"}).feasible


def test_power_needs_a_rated_power(tmp_path):
    shipped = datafiles.root("hardware_profiles") / "h100-sxm-80gb.yaml"
    lines = shipped.read_text(encoding="utf-8").splitlines(keepends=True)
    own = tmp_path / "unrated.yaml"
    own.write_text("".join(line for line in lines if not line.strip().startswith("tdp_W")), encoding="utf-8")
    error = refused(_spec={"cluster": {"profile": str(own), "accelerators": 64}}, power=POWER)
    assert error.field == "run.power" and "no rated power" in error.message


# ---------------------------------------------------------------------------------------------------- calendar, launch


def test_dates_follow_from_the_start():
    run = made(start="2027-03-01", deadline="2028-03-01")
    days = run.value("run_wall_s") / 86400
    row = calendar.stretches(run)[-1]
    assert row.end == datetime.date(2027, 3, 1) + datetime.timedelta(days=int(days))
    assert calendar.slack_days(run) == pytest.approx(366 - days)
    assert calendar.stretches(made())[0].end is None and calendar.slack_days(made()) is None
    assert calendar.stretches(made({"tokens": 1e20}, start="2027-03-01"))[-1].end is None  # after the year 9999


def test_dates_of_plain_data_and_of_text_are_the_same():
    day = datetime.date(2027, 3, 1)
    plain = {**SMALL, "run": {"start": day, "tranches": [{"date": day, "accelerators": 64}]}}
    text = {**SMALL, "run": {"start": "2027-03-01", "tranches": [{"date": "2027-03-01", "accelerators": 64}]}}
    assert planner.plan(plain).spec_hash == planner.plan(text).spec_hash
    with pytest.raises(SpecError, match=r"run.start"):
        planner.plan({**SMALL, "run": {"start": datetime.datetime(2027, 3, 1, 12)}})


def test_a_start_is_held_against_the_day_of_the_plan_or_of_the_shipped_data():
    newest = max(
        match for path in datafiles.root("hardware_profiles").rglob("*.yaml")
        for match in re.findall(r"date: '?(20[0-9-]+)", path.read_text(encoding="utf-8"))
    )  # fmt: skip
    assert f"{DATA_OF:%Y-%m}" == newest[:7]
    assert "lies in the past" in refused(start="2026-10-31").message
    assert calendar.stretches(made(start="2024-04-01", today="2024-03-01"))[0].start == datetime.date(2024, 4, 1)


def test_half_of_the_hardware_late_by_hand():
    whole = made(start="2027-01-01", tranches=[{"date": "2026-12-01", "accelerators": 64}])
    assert whole.value("calendar_s") == pytest.approx(whole.value("run_wall_s"))
    late = made(
        start="2027-01-01",
        tranches=[{"date": "2026-12-01", "accelerators": 32}, {"date": "2027-01-11", "accelerators": 32}],
    )
    assert late.value("tranche_delay_s") == pytest.approx(5 * 86400)  # ten days at half the rate
    assert calendar.end_s(late) == late.value("calendar_s")
    phased = made(phases=[{"name": "a", "share": 0.3}, {"name": "b"}], start="2027-01-01", tranches=[
        {"date": "2027-01-01", "accelerators": 32}, {"date": "2027-01-11", "accelerators": 32}])
    ends = [row.end_s for row in calendar.stretches(phased)]
    assert ends[0] < ends[1] == pytest.approx(phased.value("calendar_s"))


def test_best_wait_of_the_closed_form():
    """EQ-90: speed that doubles every d; the plan's own table finds the same wait."""
    run = made({"tokens": 3e14}, launch={"horizon": "4000 d", "improvement_doubling": "500 d"}, start="2027-01-01")
    best = economics.best_wait(np.array([run.value("run_wall_s")]), np.array([500 * 86400.0]))[0]
    choice = launch.waits(run, 4001)
    assert best > 0 and choice.soonest.wait_s == pytest.approx(best, abs=86400)
    finish = economics.finish_after_wait(np.array([run.value("run_wall_s")]), np.array([500 * 86400.0]), np.array([best]))[0]
    assert choice.soonest.finish_s == pytest.approx(finish, rel=1e-4)


def test_a_run_launched_now_is_the_run_of_the_plan():
    run = made(launch={"horizon": "60 d", "improvement_doubling": "900 d"})
    for goodput in (1.0, 0.7, 0.03):
        assert one(run, "launch_run_s", goodput=goodput) == one(run, "run_wall_s", goodput=goodput)
    assert launch.waits(run).rows[0].run_s == run.value("run_wall_s")
    assert "'failure_excess'" in refused(launch={"horizon": "60 d", "failure_excess": 2.0}).message


def test_a_run_after_the_deadline_has_no_loss():
    run = made(launch={"horizon": "60 d", "improvement_doubling": "900 d"}, start="2027-01-01", deadline="2027-01-20", loss={})
    rows = launch.waits(run).rows
    assert rows[0].deadline_loss is not None and rows[-1].deadline_loss is None and rows[-1].deadline_tokens == 0.0


# ---------------------------------------------------------------------------------------------------- serving


def test_keys_and_values_of_llama_3_405b_and_deepseek_v3():
    """516,096 B and 70,272 B a token in bf16 (arXiv 2505.09343)."""
    for model, published in (("llama-3.1-405b", 516096), ("deepseek-v3", 70272)):
        layout = {**SMALL["layout"], "tp": 8, "pp": 8 if model == "llama-3.1-405b" else 1}
        run = made(_spec={"model": model, "layout": layout}, serving=SERVING)
        assert run.value("served_kv_B") == published


def test_cost_of_serving_by_hand():
    run = made(serving=SERVING)
    value = run.value
    assert value("serving_accelerators") == 1
    assert value("serving_batch") == min(math.ceil(value("knee_batch")), value("memory_batch"))
    round_s = value("serving_batch") * value("prefill_s") + 500 * value("decode_step_s")
    assert value("serving_cost_per_million") == pytest.approx(3.0 * 1e6 * round_s / (3600 * 500 * value("serving_batch")))
    assert made(serving={**SERVING, "precision": "fp8"}).value("serving_cost_per_million") < value("serving_cost_per_million")


def test_a_window_and_a_mixture_read_less():
    dense = made(serving=SERVING)
    model = {"preset": "llama-3-8b", "sliding_window": {"window": 1024, "local": 3}}
    windowed = made(_spec={"model": model}, serving=SERVING)
    assert windowed.value("full_sequence_B") == pytest.approx(dense.value("served_kv_B") * (0.25 * 4500 + 0.75 * 1024))
    long = {**SERVING, "prompt_tokens": 100_000, "output_tokens": 1}
    whole, short = made(serving=long), made(_spec={"model": model}, serving=long)
    attended = 0.25 * 50_000 + 0.75 * 1024 * (1 - 1024 / 200_000)
    assert short.value("prefill_attended_tokens") == pytest.approx(attended)
    assert short.value("prefill_work_s") < 0.6 * whole.value("prefill_work_s")
    mixture = made(_spec={"model": "mixtral-8x7b", "layout": {**SMALL["layout"], "ep": 8}}, serving={**SERVING, "batch": 1})
    experts = mixture.value("expert_parameters_stored")
    assert mixture.value("decode_read_B") == pytest.approx(mixture.value("served_weights_B") - 2 * experts * (1 - 2 / 8))


def test_a_batch_or_a_model_that_memory_does_not_hold_is_an_answer():
    run = made(serving={**SERVING, "batch": 4096})
    assert not run.feasible and run.violations[0].startswith("serving: 4,096 sequences together, and memory holds")
    layout = {**SMALL["layout"], "tp": 8, "pp": 8}
    large = made(_spec={"model": "llama-3.1-405b", "layout": layout}, serving={**SERVING, "accelerators": 2})
    assert not large.feasible and large.value("serving_cost_per_million") == math.inf
    assert run_outcome.lines(large)


def test_serving_on_what_is_not_there_is_refused():
    assert refused(serving={**SERVING, "profile": "h1000"}).field == "run.serving.profile"
    error = refused(serving={**SERVING, "profile": "a100-sxm-80gb", "precision": "fp8"})
    assert error.field == "run.serving.precision" and "no fp8 matrix products" in error.message


def test_more_tokens_served_make_the_best_shape_smaller():
    runs = [made(loss={}, serving={**SERVING, "served_tokens": served}) for served in (1e3, 1e13)]
    base = runs[0]
    assert base.value("serving_optimal_parameters") == pytest.approx(base.value("optimal_parameters"), rel=1e-6)
    tokens = [run.value("serving_optimal_tokens") / run.value("serving_optimal_parameters") for run in runs]
    assert tokens[1] > 3 * tokens[0]
    assert runs[1].value("lifetime_over_training") == pytest.approx(1 + 1e13 / 3e12)
    spent = 6 * runs[1].value("serving_optimal_parameters") * runs[1].value("serving_optimal_tokens")
    spent += 2 * runs[1].value("serving_optimal_parameters") * 1e13
    assert spent == pytest.approx(runs[1].value("lifetime_FLOP"), rel=1e-9)
    cheap = made(loss={}, serving={**SERVING, "served_tokens": 1e13, "cost_over_training": 0.1})
    assert cheap.value("serving_optimal_parameters") > runs[1].value("serving_optimal_parameters")


# ---------------------------------------------------------------------------------------------------- ladder


def test_ladder_extrapolates_as_its_formula_says():
    residual = {"sd": 0.01, "source": "own"}
    run = made(loss={}, price_per_hour=2.0, ladder={"rungs": 4, "smallest": 1e-5, "largest": 1e-2, "residual": residual})
    found = ladder.ladder(run)
    shares = np.geomspace(1e-5, 1e-2, 4)
    for rung, share in zip(found.loss_rungs, shares, strict=True):
        assert rung.tokens / rung.parameters == pytest.approx(1e12 / run.value("law_parameters"))
        assert rung.compute_FLOP == pytest.approx(6 * rung.parameters * rung.tokens)
        assert rung.compute_FLOP == pytest.approx(share * run.value("run_compute_FLOP"))
        law_loss = scaling.loss(scaling.BESIROGLU.law, np.array([rung.parameters]), np.array([rung.tokens]))[0]
        assert rung.loss == pytest.approx(law_loss) and rung.low < rung.loss < rung.high
    beyond = found.extrapolation
    sd = extrapolation.prediction_sd(np.log(shares), np.array([0.01]), np.zeros(1))[0]
    assert beyond.decades == pytest.approx(2.0) and beyond.amplification * 0.01 == pytest.approx(sd)
    assert beyond.loss_sd == pytest.approx(sd * (run.value("final_loss") - run.value("loss_floor")))
    half = one(run, "effective_FLOP", run_tokens=1e12)
    law = scaling.BESIROGLU.law
    assert scaling.compute_for_FLOP(law, beyond.no_go_loss - law.E) == pytest.approx(half / 2, rel=1e-9)
    # at the break-even residual the 80 % edge of the prediction is the no-go loss
    edge = (run.value("final_loss") - law.E[0]) * math.exp(1.2816 * beyond.break_even_sd * beyond.amplification) + law.E[0]
    assert edge == pytest.approx(beyond.no_go_loss, rel=1e-9)


def test_system_rungs_are_plans_of_fewer_replicas_and_the_costs_add_up():
    run = made(price_per_hour=2.0)
    found = ladder.ladder(run)
    assert found.loss_rungs == () and found.extrapolation is None and "no rungs of loss" in " ".join(found.notes)
    assert [rung.dp for rung in found.system_rungs] == [1, 8, 32] or found.notes
    for rung in found.system_rungs:
        spec = {
            **SMALL, "cluster": {**SMALL["cluster"], "accelerators": rung.accelerators},
            "training": {**SMALL["training"], "global_batch_sequences": 128 * rung.dp // 64},
        }  # fmt: skip
        own = planner.plan(spec)
        assert (rung.step_s, rung.high_s) == (own.step_s, own.step_interval.high) and own.feasible
        assert rung.full_over_this == run.steps["main"].step_s / own.step_s
    assert found.accelerator_hours == pytest.approx(sum(rung.accelerator_hours for rung in found.system_rungs))
    assert found.cost == 2.0 * found.accelerator_hours and 0 < found.share_of_run < 0.1
    assert len(found.go) == len(found.system_rungs)


# ---------------------------------------------------------------------------------------------------- the whole


EVERYTHING: dict[str, Any] = {
    "loss": {"reference": REFERENCE}, "data": {"unique_tokens": "500 B tokens", "raw_B": "2 TB"}, "price_per_hour": 2.0,
    "phases": [{"name": "ramp", "share": 0.1, "global_batch_sequences": 64}, {"name": "main"}],
    "power": {**POWER, "cap_W": "100 kW", "kg_per_kWh": 0.4, "price_per_kWh": 0.1}, "other": {"evaluation": 0.05},
    "start": "2027-03-01", "today": "2027-01-01", "deadline": "2029-01-01",
    "tranches": [{"date": "2027-02-01", "accelerators": 32}, {"date": "2027-03-15", "accelerators": 32}],
    "launch": {"horizon": "90 d", "improvement_doubling": "540 d"},
    "serving": {**SERVING, "served_tokens": "1 T tokens"}, "ladder": {},
}  # fmt: skip


def test_a_sweep_over_ten_thousand_runs_has_the_bits_of_each_run():
    run = made(**EVERYTHING)
    rng = np.random.default_rng(3)
    axes = {
        "run_tokens": 10 ** rng.uniform(11, 13, 10_000), "unique_tokens": 10 ** rng.uniform(10, 13, 10_000),
        "goodput": rng.uniform(0.3, 1.0, 10_000), "price_per_hour": rng.uniform(1, 5, 10_000),
        "law_parameters": 10 ** rng.uniform(9, 12, 10_000),
    }  # fmt: skip
    targets = ["final_loss", "effective_over_reference", "rental_cost", "run_energy_J", "calendar_s", "code_bits"]
    all_at_once = evaluate(run.inputs, axes, targets)
    for at in (0, 4711, 9999):
        alone = evaluate(run.inputs, {name: values[at : at + 1] for name, values in axes.items()}, targets)
        for target in targets:
            assert all_at_once[(target, None)][at] == alone[(target, None)][0], target


def test_every_quantity_keeps_its_units():
    run = made(**EVERYTHING)
    # hours, kWh and bits in place of seconds, joules and bytes
    others = {"run_accelerator_hours", "energy_cost", "run_carbon_kg", "serving_cost_per_million", "compression_ratio"}
    wrong = graph.unit_errors(run.program, run.values, frozenset(others))
    assert wrong == []


def test_everything_reads_in_eighty_columns_and_is_plain_data():
    run = made(**EVERYTHING)
    lines = run_outcome.lines(run)
    assert max(len(part) for line in lines for part in line.splitlines()) <= 80
    assert lines[0].startswith("ends        after ") and "2027-" in lines[0]
    data = json.loads(json.dumps(run_outcome.to_dict(run), allow_nan=False))
    assert data["phases"][1]["phase"] == "main" and data["money"]["rental_cost"] == run.value("rental_cost")
    assert data["quantities"]["batch_over_critical"]["ramp"] == run.value("batch_over_critical[ramp]")
    assert any(line.endswith("no run.price_per_hour: no money") for line in run_outcome.lines(made()))


def test_a_spec_with_a_run_is_written_out_and_read_again():
    loaded = loader.load({**SMALL, "run": EVERYTHING})
    again = loader.load(loaded.resolved())
    assert again.spec.run == loaded.spec.run and again.spec_hash == loaded.spec_hash
    assert "run.data.raw_B: '2 TB' = 1.819 TiB" in loaded.read_as
    assert run_plan(planner.plan(planner.plan(loaded).resolved())).value("run_wall_s") == made(**EVERYTHING).value("run_wall_s")


def test_nothing_is_planned_of_what_is_left_out():
    base = {"phase_tokens_per_s", "productive_s", "run_wall_s", "run_tokens_per_s", "run_accelerator_hours", "phase_end_wall_s"}
    assert set(made().inputs.targets) == base


def test_the_screen_shows_the_loss_by_the_other_laws_and_their_spread() -> None:
    run = made(loss={"law": "hoffmann"})
    rows = {row.law: row.final_loss for row in interval.by_law(run)}
    assert rows["hoffmann"] == pytest.approx(run.value("final_loss"), rel=1e-12)
    told = " ".join(" ".join(run_outcome.lines(run)).split())
    assert all(f"{law} {loss:.3f}" in told for law, loss in rows.items() if law != "hoffmann")
    assert f"spread of the laws {min(rows.values()):.3f} to {max(rows.values()):.3f}" in told
    for law in ("kaplan", "llama3"):
        assert "other laws" not in " ".join(run_outcome.lines(made(loss={"law": law})))


@pytest.mark.parametrize(("story", "least", "most"), [("gpt4-retrain", 1200, 1600), ("frontier-100k-two-sites", 1300, 1900)])
def test_a_story_draws_what_its_accelerators_with_their_nodes_draw(story, least, most):
    """At the meter: 8.4 kW of a node of eight H100 (arXiv 2412.08602), 120 kW of a rack of 72 GB200, and PUE 1.15 to 1.2."""
    run = run_plan(planner.plan(datafiles.root("examples") / f"{story}.yaml"))
    assert least < run.value("average_site_W") / run.value("run_accelerators") < most
