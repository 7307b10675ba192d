"""Goodput of a run: the published numbers it rests on, its properties, and runs played failure by failure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from specs import planned, spec, with_failures

from codesign import goodput, graph, planner, run
from codesign.errors import SpecError
from codesign.evidence import goodput_bars
from codesign.report import run_goodput
from codesign.spec import load

KINDS = ("synchronous", "asynchronous", "memory", "peer")
PARTS = graph.REGISTRY["policy_share"].parts


def checkpoint(kind="asynchronous", storage="200 GB/s", **more):
    return {"storage_Bps": storage, "kind": kind, **more}


# ---------------------------------------------------------------------------------------------------- published numbers


def test_llama_3_is_interrupted_419_times_in_54_days():
    """Table 5 gives 419 unexpected interruptions; the six of silent corruption are planned apart."""
    made = planned(with_failures({"rates": "llama-3"}))
    corruptions = 54 * 86400 * 16384 * made.inputs.leaves["corruption_unit_per_s"].value
    assert 54 * made.value("failures_per_day") + corruptions == pytest.approx(419, rel=1e-3)
    assert corruptions == pytest.approx(6, rel=1e-3)


def test_2048_nodes_at_the_rsc_1_rate_with_two_days_of_repair_need_39_spares():
    """EQ-68: one rate a node, all of it hardware."""
    rate = {"mtbf": {"host": f"{24000 / 6.5} h"}, "rates": "none", "recovery": {"repair": "2 d"}}
    made = planned(with_failures(rate, spares={"quantile": 0.99}, policy="hot-spares"))
    assert made.value("failures_per_day") == pytest.approx(13.312)
    assert made.value("policy_spare_nodes[hot-spares]") == 39
    assert made.value("run_accelerators") == 16384 + 39 * 8


def test_a_checkpoint_is_twelve_bytes_a_parameter_for_adam_in_fp32():
    made = planned(with_failures())
    assert made.value("checkpoint_B") == 12.0 * made.inputs.leaves["checkpoint_parameters"].value
    assert made.value("checkpoint_write_s") == pytest.approx(made.value("checkpoint_B") / 200e9)


def test_an_event_once_in_a_million_steps_is_met_every_few_minutes():
    made = planned(with_failures())
    step = made.value("productive_s") / made.value("phase_steps[main]")
    assert made.value("rare_event_s") == pytest.approx(step / (1e-6 * 16384))
    assert made.value("rare_events") == pytest.approx(16384 * made.value("data_rare_events"))


# ---------------------------------------------------------------------------------------------------- domains


@pytest.mark.parametrize(("order", "node", "pod"), [
    (["tp", "cp", "ep", "pp", "dp"], 1, 24),  # a node is a tensor-parallel group, a pod of 3,072 holds 24 replicas
    (["tp", "cp", "ep", "dp", "pp"], 1, 128),  # stages outside: a pod holds parts of every replica
    (["dp", "tp", "cp", "ep", "pp"], 8, 128),  # replicas side by side: a node holds parts of eight
])  # fmt: skip
def test_what_a_domain_takes_down_follows_the_order_of_the_layout(order, node, pod):
    made = planned(with_failures(), order=order)
    hit = {one["domain"]: one["replicas"] for one in run_goodput.domains(made)}
    assert (hit["node"], hit["pod"], hit["site"]) == (node, pod, 128)
    assert made.value("component_replicas_hit[host]") == node
    assert made.value("component_replicas_hit[software]") == 0


def test_elastic_runs_go_on_from_live_replicas_only_where_a_whole_copy_is_left():
    whole = planned(with_failures(policy="elastic"), sharding="none")
    spread = planned(with_failures(policy="elastic"), sharding="zero2")
    assert whole.value("policy_memory_share[elastic]") == pytest.approx(1.0)
    assert spread.value("policy_memory_share[elastic]") == 0.0
    halves = planned(with_failures(policy="elastic"), sharding="hsdp", sharding_group=64, reshard_after_forward=True)
    assert halves.value("policy_memory_share[elastic]") == pytest.approx(1.0)
    assert halves.inputs.leaves["elastic_units"].value == 2  # one node takes half of the job
    assert halves.value("goodput") < whole.value("goodput")


def test_what_a_failure_takes_down_can_be_stated():
    racks = {"mtbf": {"accelerator": "50000 h"}, "rates": "none", "takes_down": {"accelerator": "leaf"}}
    made = planned(with_failures(racks))
    plain = planned(with_failures({**racks, "takes_down": {}}))
    assert made.value("nodes_in_repair") == 2 * plain.value("nodes_in_repair")  # a leaf holds two nodes


# ---------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("kind", KINDS)
def test_goodput_and_losses_are_the_whole_wall_clock(kind):
    failures = {
        "corruption": {"detect": "1 h"},
        "stragglers": {"variation": 0.002, "slow_nodes": {"share": 1e-4, "slowdown": 1.1}},
    }
    made = planned(with_failures(failures, checkpoint=checkpoint(kind)))
    values = run.evaluate(made.inputs, {"failure_rate_factor": np.geomspace(1e-6, 300, 50)})
    for policy in made.inputs.indexes["policy"]:
        # one group waits for no other: an input, not a quantity
        held = {part: values.get((part, policy), values.get(f"{part}[{policy}]")) for part in PARTS}
        parts = [np.broadcast_to(held[part], 50) for part in PARTS]
        assert np.allclose(graph.add(parts), 1.0, rtol=0, atol=1e-9)
        assert min(part.min() for part in parts) >= 0.0
    assert sum(goodput.budget(made).values()) == pytest.approx(1.0)
    assert made.value("run_wall_s") * made.value("goodput") == pytest.approx(made.value("productive_s"))


def test_the_cost_of_interruptions_is_split_by_component():
    made = planned(with_failures())
    parts = goodput.budget(made)
    not_failures = ("goodput", "writing checkpoints", "silent corruption", "stragglers")
    lost = sum(share for cause, share in parts.items() if cause not in not_failures)
    assert sum(goodput.by_component(made).values()) == pytest.approx(lost)


def test_without_copies_in_memory_the_budget_is_that_of_the_one_tier_law():
    from codesign.laws import checkpoints

    made = planned(with_failures(checkpoint=checkpoint("synchronous")))
    v = made.value
    shares = checkpoints.shares(
        *(np.array([x]) for x in (
            v("checkpoint_interval_s"), v("checkpoint_blocking_s"), v("interruptions_per_s"),
            222.0 + v("checkpoint_write_s"), 660.0,
        ))
    )  # fmt: skip
    parts, played = goodput.budget(made), 1.0
    played -= parts["silent corruption"] + parts["waiting for repair"]
    causes = ("goodput", "writing checkpoints", "rework", "restart", "detection, drain, exchange")
    for cause, share in zip(causes, shares, strict=True):
        assert parts[cause] / played == pytest.approx(share[0], rel=1e-6), cause


# ---------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharding", ["zero2", "none"])
@pytest.mark.parametrize("spares", [{}, {"spares": {"count": 30}}])
def test_more_failures_never_more_goodput(kind, sharding, spares):
    failures = {"corruption": {"detect": "1 h"}}
    made = planned(with_failures(failures, checkpoint=checkpoint(kind, "20 GB/s"), **spares), sharding=sharding)
    values = run.evaluate(made.inputs, {"failure_rate_factor": np.geomspace(1e-9, 1e3, 600)}, ("policy_goodput",))
    for policy in made.inputs.indexes["policy"]:
        assert np.diff(values["policy_goodput", policy]).max() < 1e-9, policy


@pytest.mark.parametrize("component", ["accelerator", "host", "nic", "link", "switch", "software", "site"])
def test_no_component_helps_by_failing(component):
    made = planned(with_failures({"mtbf": {"site": "5 y"}, "recovery": {"site_outage": "8 h"}}))
    leaf = f"component_unit_per_s[{component}]"
    rates = made.inputs.leaves[leaf].value * np.geomspace(1e-3, 1e3, 300)
    values = run.evaluate(made.inputs, {leaf: rates}, ("policy_goodput",))
    for policy in made.inputs.indexes["policy"]:
        assert np.diff(values["policy_goodput", policy]).max() < 1e-9, policy


@pytest.mark.parametrize("kind", KINDS)
def test_as_failures_vanish_the_best_interval_grows_without_bound_and_goodput_tends_to_one(kind):
    made = planned(with_failures(checkpoint=checkpoint(kind)))
    factors = np.array([1.0, 1e-3, 1e-6, 1e-9, 1e-12, 0.0])
    values = run.evaluate(made.inputs, {"failure_rate_factor": factors})
    for policy in made.inputs.indexes["policy"]:
        interval = values["policy_best_interval_s", policy]
        assert (interval[1:] > interval[:-1]).all() and interval[-1] == math.inf
        share = values["policy_goodput", policy]
        assert (1.0 - share)[4] < 1e-6 and share[-1] == 1.0


def test_a_better_rate_of_storage_never_costs_goodput():
    made = planned(with_failures(checkpoint=checkpoint("synchronous")))
    values = run.evaluate(made.inputs, {"checkpoint_storage_Bps": np.geomspace(1e9, 1e13, 200)}, ("goodput",))
    assert np.diff(values["goodput", None]).min() >= 0.0


def test_the_best_interval_is_the_best():
    made = planned(with_failures(checkpoint=checkpoint("synchronous", "50 GB/s")))
    best = made.value("checkpoint_interval_s")
    for factor in (0.7, 0.9, 1.1, 1.5):
        other = planned(with_failures(checkpoint=checkpoint("synchronous", "50 GB/s", interval=f"{factor * best} s")))
        assert other.value("goodput") < made.value("goodput")


def test_a_row_of_a_sweep_has_the_bits_of_the_run_itself():
    made = planned(with_failures(policy="hot-spares"))
    factors = np.geomspace(0.1, 10.0, 101)
    values = run.evaluate(made.inputs, {"failure_rate_factor": factors}, ("policy_goodput",))
    for policy in made.inputs.indexes["policy"]:
        alone = run.evaluate(made.inputs, {"failure_rate_factor": factors[37:38]}, ("policy_goodput",))
        assert values["policy_goodput", policy][37] == alone["policy_goodput", policy][0]
        assert values["policy_goodput", policy][50] == made.value(f"policy_goodput[{policy}]")


def test_early_failures_cost_less_the_older_the_hardware_is_and_more_where_parts_are_renewed():
    def at(**early):
        return planned(with_failures({"early_life": {"settling": "60 d", **early}})).value("goodput")

    never = planned(with_failures()).value("goodput")
    assert at() < at(age="60 d") < at(age="300 d") < never
    assert at(replaced_share=1.0) < at(replaced_share=0.0)
    assert at(age="5 y") == pytest.approx(never, abs=1e-6)


# ---------------------------------------------------------------------------------------------------- played


def test_closed_form_and_simulation_agree_within_two_per_cent_over_200_random_runs():
    """50 runs of each kind of checkpoint, half at the best interval, half at one in which several failures fall."""
    found = goodput_bars.agreement()
    assert found.gaps.size == 200 and np.abs(found.gaps).max() < 0.02
    assert abs(found.gaps.mean()) < 0.002  # and no bias
    assert found.several >= 25


def test_renewed_parts_and_stragglers_agree_within_two_per_cent():
    assert np.abs(goodput_bars.young()).max() < 0.02


@pytest.mark.parametrize("settling", ["10 d", "60 d"])
def test_a_decaying_rate_played_by_the_clock_gives_the_goodput_of_the_equal_steady_rate(settling):
    early = {"early_life": {"settling": settling, "replaced_share": 0.0}}
    made = planned(with_failures(early, checkpoint=checkpoint("synchronous", "50 GB/s")))
    played = goodput.simulate(made, 30)
    assert made.value("component_failures_per_s[accelerator]") > 1.5 * made.value("interruptions_per_s") / 2
    assert played.goodput[0] == pytest.approx(made.value("goodput"), rel=0.01)


def test_the_interruptions_of_a_played_run_are_those_expected():
    made = planned(with_failures(policy="hot-spares"))
    played = goodput.simulate(made, 30)
    assert played.failures.mean() == pytest.approx(made.value("expected_failures"), rel=0.02)
    assert played.error[0] < 0.002


# ---------------------------------------------------------------------------------------------------- break-even


def test_at_the_rate_that_a_run_bears_its_goodput_is_the_target():
    made = planned(with_failures())
    for one in goodput.break_even(made, (0.8, 0.9, 0.95)):
        values = run.evaluate(made.inputs, {"failure_rate_factor": np.array([one.factor])}, ("goodput",))
        assert values["goodput", None][0] == pytest.approx(one.target, abs=2e-4)
        assert one.mean_time_s == pytest.approx(made.value("mean_time_to_failure_s") / one.factor, rel=1e-3)


def test_an_unknown_rate_of_sites_is_answered_by_what_the_run_would_bear():
    made = planned(with_failures())
    target = 0.99 * made.value("goodput")
    short, long = (
        goodput.break_even(made, (target,), "component_unit_per_s[site]", given={"site_outage_s": outage})[0]
        for outage in (3600.0, 86400.0)
    )
    # away one hour in a hundred, and what detection and restart add
    assert 99 * 3600 < short.mean_time_s < 150 * 3600 and 18 < long.mean_time_s / short.mean_time_s < 24
    assert any("no rate of failures by site" in note for note in made.inputs.notes)


def test_a_target_that_no_rate_meets_is_out_of_reach():
    made = planned(with_failures({"stragglers": {"variation": 0.1}}))
    assert math.isnan(goodput.break_even(made, (0.9,))[0].factor)


# ---------------------------------------------------------------------------------------------------- policies, text


def test_every_policy_is_shown_whatever_is_chosen():
    for chosen in ("restart", "hot-spares", "elastic", "degraded"):
        made = planned(with_failures(policy=chosen))
        rows = run_goodput.policies(made)
        assert rows[0]["policy"] == chosen and len(rows) == 4
        assert made.value("goodput") == rows[0]["goodput"]
        text = run_goodput.lines(made)
        assert max(map(len, text)) <= 80 and text[0].startswith("goodput")
        assert any(line.startswith("degraded") for line in text)
    assert planned(with_failures()).value("goodput") == planned(with_failures(policy="restart")).value("goodput")


def test_the_data_of_a_run_is_plain_json_and_says_what_the_text_says():
    made = planned(with_failures(checkpoint=checkpoint("peer")))
    data = json.loads(json.dumps(run_goodput.to_dict(made), allow_nan=False))
    assert data["goodput_lo"] < data["goodput"] < data["goodput_hi"]
    assert sum(data["budget"].values()) == pytest.approx(1.0)
    assert f"{data['goodput']:.1%}".replace("%", " %") in run_goodput.lines(made)[0]


def test_the_run_itself_as_data_holds_every_policy():
    made = planned(with_failures(policy="elastic"), sharding="none")
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert data["policy_best_interval_s"]["elastic"] is None  # live replicas survive everything that has a rate
    assert data["goodput"] == data["policy_goodput"]["elastic"] < 1.0


def test_a_run_without_failures_is_as_before():
    made = planned({})
    assert made.value("run_wall_s") == made.value("productive_s")
    assert run_goodput.lines(made) == [] and run_goodput.to_dict(made) == {}
    with pytest.raises(SpecError, match="no failures"):
        goodput.simulate(made)


def test_one_replica_has_no_elastic_or_degraded_policy():
    small = {
        "version": 1, "model": "llama-3-8b", "software": "megatron-core",
        "training": {"sequence_length": 8192, "global_batch_sequences": 8, "tokens": 1e11},
        "layout": {"tp": 8, "pp": 1, "micro_batch": 1}, "cluster": {"profile": "h100-sxm-80gb", "accelerators": 8},
        "run": with_failures(),
    }  # fmt: skip
    made = run.run_plan(planner.plan(small))
    assert made.inputs.indexes["policy"] == ("restart", "hot-spares")
    assert any("not compared" in note for note in made.inputs.notes)
    with pytest.raises(SpecError, match=r"run.policy elastic needs two replicas"):
        run.run_plan(planner.plan({**small, "run": with_failures(policy="elastic")}))


def test_a_resolved_run_section_loads_to_the_same_run():
    section = with_failures(
        {"mtbf": {"accelerator": "50000 h", "site": "5 y"}, "recovery": {"site_outage": "8 h"},
         "early_life": {"settling": "60 d"}, "corruption": {"detect": "1 h"}},
        checkpoint=checkpoint("peer", interval="30 min"), spares={"quantile": 0.999}, policy="hot-spares",
    )  # fmt: skip
    first = load.load(spec(section))
    again = load.load(first.resolved())
    assert again.spec_hash == first.spec_hash and again.spec.run == first.spec.run
    assert "run.failures.mtbf.site: '5 y' = 1826 d" in first.read_as
    plan = planner.plan(first)
    assert run.run_plan(planner.plan(plan.resolved())).value("goodput") == run.run_plan(plan).value("goodput")


# ---------------------------------------------------------------------------------------------------- bad input

BAD = {
    "checkpoint: {storage_Bps: 1 TB/s}": "run.checkpoint has no effect without run.failures",
    "policy: elastic": "run.policy has no effect without run.failures",
    "failures: {}": "'checkpoint' is missing in run",
    "failures: {rates: pool}\n  checkpoint: {storage_Bps: 1 TB/s}": "run.failures.rates must be one of pooled, llama-3",
    "failures: {rates: none}\n  checkpoint: {storage_Bps: 1 TB/s}": "run.failures.rates none leaves nothing that fails",
    "failures: {mtbf: {accelerator: -50000 h}}\n  checkpoint: {storage_Bps: 1 TB/s}": "'-50000 h' is not above 0",
    "failures: {mtbf: {accelerator: 50000}}\n  checkpoint: {storage_Bps: 1 TB/s}": "has no unit",
    "failures: {mtbf: {gpu: 50000 h}}\n  checkpoint: {storage_Bps: 1 TB/s}": "unknown field 'gpu' in run.failures.mtbf",
    "failures: {mtbf: {site: 5 y}}\n  checkpoint: {storage_Bps: 1 TB/s}": "write run.failures.recovery.site_outage",
    "failures: {recovery: {site_outage: 5 h}}\n  checkpoint: {storage_Bps: 1 TB/s}": "no effect without run.failures.mtbf.site",
    "failures: {early_life: {settling: 0 d}}\n  checkpoint: {storage_Bps: 1 TB/s}": "'0 d' is not above 0",
    "failures: {stragglers: {}}\n  checkpoint: {storage_Bps: 1 TB/s}": "run.failures.stragglers has no effect",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, interval: often}": "run.checkpoint.interval: 'often' is not a number",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, interval: 0 s}": "'0 s' is not above 0",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, copies: 3}": "run.checkpoint.copies has no effect with kind asynchronous",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, kind: synchronous, slowdown: 0.1}": "slowdown has no effect",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, kind: sync}": "run.checkpoint.kind must be one of synchronous",
    "failures: {}\n  checkpoint: {kind: peer}": "'storage_Bps' is missing in run.checkpoint",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s}\n  spares: {count: 3, quantile: 0.9}": "are both given",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s}\n  spares: {}": "run.spares needs a count of nodes or a quantile",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s}\n  spares: {quantile: 1}": "run.spares.quantile must be a number",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s}\n  policy: hope": "run.policy must be one of restart, hot-spares",
    "failures: {}\n  checkpoint: {storage_Bps: 1 TB/s, interval: 1 s}": "of 1 s is shorter than one step",
    "failures: {}\n  checkpoint: {storage_Bps: 1 GB/s, interval: 20 min}": "of 1200 s is shorter than one write to storage",
}


@pytest.mark.parametrize("section", BAD)
def test_a_bad_section_is_refused_with_its_place(section, tmp_path):
    text = (
        "version: 1\nmodel: llama-3.1-405b\n"
        "training: {sequence_length: 8192, global_batch_sequences: 2048, tokens: 1e12}\n"
        "layout: {tp: 8, pp: 16, micro_batch: 1}\ncluster: {profile: h100-sxm-80gb, accelerators: 16384}\n"
        f"software: megatron-core\nrun:\n  {section}\n"
    )
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        loaded = load.load(path)
        try:
            run.run_plan(planner.plan(loaded))
        except SpecError as error:
            raise load.error_at(loaded, error.field or "", error.message) from None
    assert BAD[section] in caught.value.message
    assert caught.value.place is not None and caught.value.place.line >= 7


# ---------------------------------------------------------------------------------------------------- whose failures


def test_runs_of_the_same_step_keep_their_own_failures():
    """The steps of sites and phases are shared by runs, and say nothing of what fails."""
    sites = {"sites": [{"name": "west"}, {"name": "east"}],
             "links": [{"between": ["west", "east"], "bandwidth": "10 Tb/s", "route_km": 100}]}  # fmt: skip
    for more in (sites, {"phases": [{"name": "ramp", "share": 0.1, "global_batch_sequences": 512}, {"name": "main"}]}):
        found = []
        for failures in ({"rates": "pooled"}, {"rates": "llama-3"}):
            section = with_failures(failures, **({} if "sites" in more else more))
            data = {**spec(section), **(more if "sites" in more else {})}
            found.append(run.run_plan(planner.plan(data)))
        for one, rates in zip(found, ("pooled", "llama-3"), strict=True):
            assert f"rates {rates}" in one.inputs.leaves["component_unit_per_s[host]"].source
        assert found[0].value("goodput") != found[1].value("goodput")
