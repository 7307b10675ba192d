"""Many sites: one site is none, H = 1 is synchronous and an outer step, more WAN is never slower, work ends together."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from codesign import planner, run, site_steps, wan
from codesign.errors import SpecError
from codesign.laws import multisite
from codesign.report import run_sites
from codesign.search import site_tables
from codesign.search import sites as strategies
from codesign.spec import load, schema

BASE = {
    "version": 1,
    "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 384, "tokens": 1e12},
    "layout": {"tp": 4, "pp": 2, "micro_batch": 1, "sharding": "zero1", "recompute": "selective"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 256},
    "software": "megatron-core",
}
TWO = [{"name": "west", "region": "us"}, {"name": "east", "region": "us"}]
LINK = {"between": ["west", "east"], "bandwidth": "400 Gb/s", "route_km": 1000}


def spec(sites=TWO, links=(LINK,), **fields):
    own = {"sites": list(sites), **({"links": list(links)} if links else {})}
    return {**BASE, **own, **fields}


def runs(data) -> run.RunPlan:
    return run.run_plan(planner.plan(load.load(data)))


def step(found: run.RunPlan) -> float:
    return found.value("phase_run_step_s[main]")


def network_of(*pairs: tuple[str, str], rate: float = 1e9) -> wan.Network:
    names = tuple(dict.fromkeys(itertools.chain(*pairs)))
    return wan.network(names, [wan.Edge(a, b, f"{a}+{b}", 0.01, rate) for a, b in pairs])


# ---------------------------------------------------------------------------------------------------- properties


def test_one_site_is_no_sites_to_the_bit():
    assert runs(spec(TWO[:1], ())).value("run_wall_s") == runs(BASE).value("run_wall_s")


def test_one_inner_step_adds_exactly_the_outer_step_to_synchronous():
    lockstep = runs(spec(sync={"gradient_bits": 32}))
    outer = runs(spec(sync={"strategy": "semi-synchronous", "inner_steps": 1, "outer_bits": 32}))
    added = step(outer) - step(lockstep)
    assert added == pytest.approx(outer.value("outer_optimizer_s"), rel=1e-9) and added > 0
    assert outer.value("sync_loss_multiplier") == 1


STRATEGIES = {
    "synchronous": {},
    "chunks": {"chunks": 8},
    "backward": {"overlap": "backward", "chunks": 8},
    "late": {"overlap": "one-step-late"},
    "ring": {"exchange": "ring"},
    "pipeline": {"strategy": "pipeline", "in_flight": 2},
    "diloco": {"strategy": "semi-synchronous", "inner_steps": 30},
    "streaming": {"strategy": "semi-synchronous", "inner_steps": 30, "fragments": 8, "delay": 1.0, "outer_bits": 4},
    "mixed": {"strategy": "mixed", "inner_steps": 30, "overlap": "backward", "chunks": 4},
    "background": {"data_from": "west", "checkpoints": {"source": "west", "target": "east", "every": "10 min"}},
}
THREE = [*TWO, {"name": "north", "region": "eu", "cluster": {"accelerators": 512}}]
NORTH = {"between": ["east", "north"], "bandwidth": "100 Gb/s", "round_trip": "80 ms"}


@pytest.mark.parametrize("sync", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("transport", [
    {}, {"transport": "go-back-n", "loss": 1e-6}, {"transport": "tcp", "loss": 1e-5, "flows": 64},
    {"transport": "multipath", "loss": 1e-4}, {"transport": "selective-repeat", "loss": 1e-3, "window": "1 GB"},
], ids=["lossless", "go-back-n", "tcp", "multipath", "window"])
def test_more_bandwidth_and_less_latency_are_never_slower(sync, transport):
    layout = {**BASE["layout"], "pp": 4}
    found = runs(spec(THREE, [{**LINK, **transport}, {**NORTH, **transport}], sync=sync, layout=layout))
    factor = np.geomspace(1e-4, 1e4, 80)
    wall = run.evaluate(found.inputs, {"wan_factor": factor}, ("run_wall_s",))[("run_wall_s", None)]
    assert np.isfinite(wall).all() and (np.diff(wall) <= 1e-9 * wall[1:]).all() and wall[0] > wall[-1]
    extra = np.concatenate([[0.0], np.geomspace(1e-4, 10, 40)])
    wall = run.evaluate(found.inputs, {"wan_extra_s": extra}, ("run_wall_s",))[("run_wall_s", None)]
    assert (np.diff(wall) >= -1e-9 * wall[1:]).all()


def test_a_sweep_over_runs_has_the_bits_of_single_runs():
    found = runs(spec(THREE, [LINK, NORTH], sync=STRATEGIES["streaming"]))
    factor = np.array([0.5, 1.0, 3.0])
    wall = run.evaluate(found.inputs, {"wan_factor": factor}, ("run_wall_s",))[("run_wall_s", None)]
    alone = [run.evaluate(found.inputs, {"wan_factor": factor[i : i + 1]}, ("run_wall_s",)) for i in range(3)]
    assert wall.tolist() == [values[("run_wall_s", None)][0] for values in alone] and wall[1] == found.value("run_wall_s")


def test_longer_rounds_and_fewer_bits_never_lower_utilisation():
    def used(**changed):
        return runs(spec(sync={"strategy": "semi-synchronous", "inner_steps": 10, **changed})).value("wan_utilisation")

    assert used() <= used(inner_steps=30) <= used(inner_steps=100)
    assert used() <= used(outer_bits=8) <= used(outer_bits=4) <= used(outer_bits=4, fragments=8, delay=1.0)


def test_the_parts_of_the_exposed_time_add_up():
    for name, sync in STRATEGIES.items():
        layout = {**BASE["layout"], "pp": 4}
        found = runs(spec(THREE, [LINK, NORTH], sync=sync, layout=layout))
        names = ("phase_inner_exposed_s", "phase_outer_exposed_s", "phase_outer_optimizer_s", "phase_crossing_s")
        parts = [found.value(f"{part}[main]") for part in names]
        assert sum(parts) == pytest.approx(found.value("phase_sync_exposed_s[main]")), name
        assert step(found) - found.value("phase_healthy_step_s[main]") == pytest.approx(sum(parts)), name


# ---------------------------------------------------------------------------------------------------- unequal work


UNEQUAL = [{"name": "large", "cluster": {"accelerators": 512}}, {"name": "small"}, {"name": "old", "cluster": {
    "profile": "a100-sxm-80gb", "accelerators": 128}}]
STAR = [{"between": "all", "bandwidth": "1 Tb/s", "route_km": 300}]


def test_unequal_sites_get_work_by_speed_in_whole_micro_batches():
    found = site_steps.steps(load.load_spec(spec(UNEQUAL, STAR, training={**BASE["training"], "global_batch_sequences": 1024})))
    assert sum(found.sequences.values()) == 1024
    for name, plan in found.plans.items():
        assert found.sequences[name] % plan.value("dp") == 0 and plan.value("micro_batches") == int(plan.value("micro_batches"))
    slowest = max(plan.step_s for plan in found.plans.values())
    assert found.ideal_s <= slowest * (1 + 1e-9) and slowest < found.even_s
    assert found.sequences["large"] > found.sequences["small"] > found.sequences["old"]


def test_no_other_split_in_whole_micro_batches_is_faster():
    data = load.load_spec(spec(UNEQUAL, STAR, training={**BASE["training"], "global_batch_sequences": 640}))
    found = site_steps.steps(data)
    members = {site.name: site for site in found.members}
    rounds = {name: int(plan.value("dp")) for name, plan in found.plans.items()}

    def time(name, n):
        return planner.plan(site_steps.site_spec(data, members[name], n * rounds[name])).step_s

    tables = {name: {n: time(name, n) for n in range(1, 640 // each)} for name, each in rounds.items()}
    best = min(
        max(tables["large"][a], tables["small"][b], tables["old"][left // rounds["old"]])
        for a in tables["large"] for b in tables["small"]
        if (left := 640 - a * rounds["large"] - b * rounds["small"]) > 0 and left % rounds["old"] == 0
    )
    assert max(plan.step_s for plan in found.plans.values()) == best


def test_evenness_costs_what_the_mean_over_the_slowest_says():
    """Twice as large a site: work is nearly proportional to speed, so that an even split takes about 3/2."""
    sites = [TWO[0], {"name": "east", "cluster": {"accelerators": 512}}]
    found = runs(spec(sites, training={**BASE["training"], "global_batch_sequences": 6144}))
    ideal = multisite.even_split_factor([np.array([1.0]), np.array([2.0])])[0]
    assert found.value("even_split_factor") == pytest.approx(ideal, rel=0.05)


def test_equal_sites_in_a_count_are_planned_once():
    found = runs(spec([{"name": "dc", "count": 64}], STAR, training={**BASE["training"], "global_batch_sequences": 6144}))
    own = found.inputs.structure["site_steps"]["main"]
    assert len(own.members) == 64 and len({id(plan) for plan in own.plans.values()}) == 1
    assert found.value("run_accelerators") == 64 * 256 and found.value("even_split_factor") == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------- exchange


def test_exchange_of_two_sites_is_two_ways_of_one_message():
    found = runs(spec())
    sent = 2.0 * (2 - 1) / 2 * found.value("run_parameters") * found.value("wan_gradient_B")
    line = 400e9 / 8
    latency = 2 * 1000 * 4.9e-6
    assert found.value("phase_sync_exposed_s[main]") == pytest.approx(sent / line + latency)
    rows = site_tables.traffic(found)
    assert {(row["from"], row["to"]) for row in rows} == {("west", "east"), ("east", "west")}
    assert all(row["step_B"] == pytest.approx(sent) for row in rows)
    assert rows[0]["mean_Bps"] == pytest.approx(sent / step(found)) and rows[0]["peak_Bps"] == pytest.approx(line)
    assert rows[0]["link_share"] == pytest.approx(found.value("way_mean_share[west>east]"))


def test_a_common_network_is_the_all_reduce_of_the_law():
    found = runs(spec([{"name": "dc", "count": 4}], STAR, training={**BASE["training"], "global_batch_sequences": 1024}))
    message = np.array([found.value("gradient_message_B")])
    law = multisite.wan_direct_s(message, np.array([4.0]), np.array([300 * 4.9e-6]), np.array([1e12 / 8]))
    assert found.value("phase_sync_exposed_s[main]") == pytest.approx(law[0])


def test_a_line_of_sites_carries_what_passes_through():
    net = network_of(("a", "b"), ("b", "c"))
    direct = net.loads(wan.all_reduce_flows([("a",), ("b",), ("c",)], "direct"))
    assert direct == pytest.approx(dict.fromkeys(("a>b", "b>a", "b>c", "c>b"), 4 / 3))
    assert net.routes[("a", "c")] == ("a", "b", "c")
    assert net.latest([("a", "c")]) == (("a+b", "b+c"),)


@pytest.mark.parametrize("kind", ["ring", "direct"])
def test_every_group_sends_two_of_k_less_one_over_k(kind):
    groups = [("a", "b"), ("c",), ("d", "e", "f")]
    flows = wan.all_reduce_flows(groups, kind)
    for group in groups:
        assert sum(share for (a, _), share in flows.items() if a in group) == pytest.approx(2 * 2 / 3)
    gathered = wan.gather_flows(groups)
    assert sum(share for (_, b), share in gathered.items() if b == "d") == pytest.approx(2 / 3)


def test_routes_take_the_fewest_links_then_the_least_latency():
    edges = [wan.Edge("a", "b", "ab", 0.1, 1e9), wan.Edge("a", "c", "ac", 0.01, 1e9), wan.Edge("b", "c", "bc", 0.01, 1e9),
             wan.Edge("b", "d", "bd", 0.2, 1e9), wan.Edge("c", "d", "cd", 0.01, 1e9)]
    routes = wan.network(("a", "b", "c", "d"), edges).routes
    assert routes[("a", "b")] == ("a", "b") and routes[("a", "d")] == ("a", "c", "d")


def test_flows_on_random_paths_use_fewer_of_them_than_sprayed_packets():
    hashed = runs(spec(links=[{**LINK, "transport": "selective-repeat", "paths": 8, "flows": 8}]))
    sprayed = runs(spec(links=[{**LINK, "transport": "multipath"}]))
    share = hashed.value("link_delivered_Bps[west+east]") / sprayed.value("link_delivered_Bps[west+east]")
    assert share == pytest.approx(1 - (7 / 8) ** 8)


def test_training_data_and_checkpoints_take_bandwidth_from_the_exchange():
    plain, busy = runs(spec()), runs(spec(sync=STRATEGIES["background"]))
    assert busy.value("way_free_Bps[west>east]") < plain.value("way_free_Bps[west>east]")
    assert step(busy) > step(plain)
    classes = {row["class"]: row for row in site_tables.traffic(busy)}
    tokens_per_s = BASE["training"]["global_batch_sequences"] * 8192 / 2 / busy.value("phase_healthy_step_s[main]")
    assert classes["training data"]["mean_Bps"] == pytest.approx(4 * tokens_per_s)
    assert classes["checkpoints"]["mean_Bps"] == pytest.approx(12 * busy.value("run_parameters") / 600)


def test_a_link_full_of_checkpoints_is_a_violation_not_a_crash():
    sync = {"checkpoints": {"source": "west", "target": "east", "every": "1 s"}}
    found = runs(spec(sync=sync))
    assert any("no bandwidth" in text for text in site_tables.violations(found))


def test_an_outer_optimizer_without_room_is_a_violation():
    found = runs(spec(sync=STRATEGIES["diloco"]))
    values = run.evaluate(found.inputs, {"least_spare_B": np.array([1.0, 1e12])}, ("fits_outer_state",))
    assert values[("fits_outer_state", None)].tolist() == [0, 1]


# ---------------------------------------------------------------------------------------------------- loss, pays, regimes


def test_time_and_loss_count_together_and_extrapolation_is_said():
    found = runs(spec(THREE, [LINK, NORTH], sync={**STRATEGIES["streaming"], "inner_steps": 400}))
    share = found.value("wan_utilisation") / found.value("sync_loss_multiplier")
    assert found.value("effective_compute_share") == pytest.approx(share)
    assert 1 <= found.value("sync_loss_multiplier_low") < found.value("sync_loss_multiplier")
    assert found.value("sync_loss_multiplier") == pytest.approx(3 ** (0.0116 * 2 / 0.0985))
    assert any("400 inner steps" in note and note.startswith("EXTRAPOLATED") for note in found.inputs.notes)
    inside = runs(spec(sync=STRATEGIES["diloco"]))
    assert not any(note.startswith("EXTRAPOLATED") for note in inside.inputs.notes)


@pytest.mark.parametrize("name", ["backward", "streaming", "pipeline"])
def test_at_the_break_even_the_sites_are_as_fast_as_one_alone(name):
    found = runs(spec(sync=STRATEGIES[name]))
    pays = strategies.break_even(found)
    for axes in ({"wan_factor": pays.bandwidth_factor}, {"wan_extra_s": pays.extra_one_way_s}):
        (value,) = axes.values()
        if 0 < value < np.inf:
            given = {key: np.array([one]) for key, one in axes.items()}
            gain = run.evaluate(found.inputs, given, ("sites_gain",))[("sites_gain", None)]
            assert gain[0] == pytest.approx(1, rel=1e-3)
    for level, factor in zip(strategies.LEVELS, pays.utilisation_factor, strict=True):
        if 0 < factor < np.inf:
            used = run.evaluate(found.inputs, {"wan_factor": np.array([factor])}, ("wan_utilisation",))
            assert used[("wan_utilisation", None)][0] == pytest.approx(level, rel=1e-3)


def test_every_strategy_stands_side_by_side_or_says_why_not():
    side = strategies.compare(runs(spec(THREE, [LINK, NORTH])))
    kinds = {one.name.partition(",")[0] for one in side}
    assert kinds == {"as stated", "beside backward", "one step late", "pipeline", "DiLoCo", "streaming", "mixed"}
    ranks = [one.rank for one in side if one.run is not None]
    assert ranks == sorted(ranks, reverse=True)
    assert all(one.refused for one in side if one.run is None)
    assert "whole stages" in next(one.refused for one in side if one.name == "pipeline")


def test_comparing_does_not_change_the_run():
    found = runs(spec(sync=STRATEGIES["streaming"]))
    stated = next(one for one in strategies.compare(found) if one.name == "as stated")
    assert stated.value("run_wall_s") == found.value("run_wall_s")
    again = strategies.again(found, found.spec)
    assert again.value("run_wall_s") == found.value("run_wall_s")


def test_regimes_from_one_site_to_ten_million():
    found = runs(spec(links=[{**LINK, "bandwidth": "100 Tb/s"}], training={**BASE["training"], "tokens": 1e14}))
    scale = strategies.regimes(found)
    assert [row["accelerators"] for row in scale.rows] == sorted(row["accelerators"] for row in scale.rows)
    assert scale.rows[-1]["accelerators"] == 1e7
    assert all(0 < row["effective_share"] <= 1 for row in scale.rows)
    for row in scale.rows:
        semi = row["strategy"] in (strategies.SEMI, strategies.MIXED)
        assert not semi or any("160 accelerators" in text for text in row["extrapolated"])
        assert (row["batch_tokens"] > scale.critical_batch_tokens) == any("critical" in t for t in row["extrapolated"])
    assert scale.ends[strategies.SYNC] > 256 and scale.changes[0][1] == strategies.SYNC
    larger = strategies.regimes(found, critical_batch_tokens=1e3 * scale.critical_batch_tokens)
    assert larger.ends[strategies.SYNC] > scale.ends[strategies.SYNC]


def test_report_answers_first_and_stays_in_eighty_columns():
    found = runs(spec(THREE, [LINK, NORTH], sync=STRATEGIES["diloco"]))
    text = "\n".join(run_sites.lines(found)).split("\n")
    assert text[0].startswith("sites: 3, 1,024 accelerators, semi-synchronous") and max(map(len, text)) <= 80
    assert "utilisation" in text[1]
    json.dumps(run_sites.to_dict(found))
    assert run_sites.lines(runs(spec(TWO[:1], ()))) == [] == run_sites.lines(runs(BASE))


# ---------------------------------------------------------------------------------------------------- the spec


def test_spec_with_sites_loads_again_from_its_canonical_form():
    given = spec(
        [TWO[0], {"name": "east", "cluster": {"override": {"scale_out.nic_Bps": "200 Gb/s"}}, "layout": {"pp": 1}}],
        [{**LINK, "transport": "go-back-n", "loss": 1e-6, "packet": "1 KiB"}], sync=STRATEGIES["background"],
    )
    loaded = load.load(given)
    again = load.load(loaded.resolved())
    assert again.spec_hash == loaded.spec_hash and load.load(BASE).spec_hash == load.load(load.load(BASE).resolved()).spec_hash
    assert "links.0.bandwidth: '400 Gb/s' = 50 GB/s" in loaded.read_as
    assert runs(loaded.resolved()).value("run_wall_s") == runs(given).value("run_wall_s")


def test_a_site_takes_from_the_template_what_it_does_not_write():
    given = spec([TWO[0], {"name": "east", "cluster": {"accelerators": 128}, "layout": {"pp": 1}}],
                 cluster={**BASE["cluster"], "override": {"scale_out.nic_Bps": "200 Gb/s"}})
    own = site_steps.steps(planner.plan(load.load(given)).problem.spec)
    west, east = (plan.problem.spec for plan in own.plans.values())
    assert (west.layout.pp, west.layout.dp, west.layout.schedule) == (2, 32, "1f1b")
    assert (east.layout.pp, east.layout.dp, east.layout.schedule) == (1, 32, "none")
    assert east.cluster.override == west.cluster.override and east.cluster.accelerators == 128


def refused(data) -> SpecError:
    with pytest.raises(SpecError) as caught:
        runs(data)
    return caught.value


@pytest.mark.parametrize(("data", "words", "field"), [
    (spec(training={**BASE["training"], "global_batch_sequences": 32}), "cannot be split", "training.global_batch_sequences"),
    (spec([TWO[0], {"name": "east", "cluster": {"accelerators": 100}}]), "site 'east'", "sites.1.cluster.accelerators"),
    (spec([TWO[0], {"name": "east", "layout": {"tp": 3}}]), "site 'east'", "sites.1.cluster.accelerators"),
    (spec([TWO[0], {"name": "east", "cluster": {"accelerators": 512}}], sync={"strategy": "pipeline"}), "whole stages",
     "layout.pp"),
    (spec([TWO[0], {"name": "east", "cluster": {"profile": "a100-sxm-80gb"}}], sync={"strategy": "pipeline"}), "unlike",
     "sync.strategy"),
    (spec([{"name": "dc", "count": 200}, {"name": "x", "count": 100}], STAR), "300 sites", "sites"),
], ids=["batch", "accelerators", "tp", "stages", "unlike", "too-many"])
def test_what_cannot_be_planned_is_refused_with_its_field(data, words, field):
    error = refused(data)
    assert words in error.message and error.field == field


# ---------------------------------------------------------------------------------------------------- nothing is ignored


LOSSY = {**LINK, "transport": "go-back-n", "loss": 1e-6}
TCP = {**LINK, "transport": "tcp", "loss": 1e-6, "flows": 8}
SPRAYED = {**LINK, "transport": "multipath", "loss": 1e-6, "window": "10 MB"}
DILOCO = {"strategy": "semi-synchronous", "inner_steps": 30}
COPIES = {"source": "west", "target": "east", "every": "10 min"}
EAST = TWO[1]
# (site, link, sync, section, changes): each changes the run, is refused, or is named in a note
CHANGES = [
    (EAST, LINK, {}, "site", {"name": "eastern"}),
    (EAST, LINK, {}, "site", {"count": 2}),
    (EAST, LINK, {**DILOCO, "strategy": "mixed"}, "site", {"region": "eu"}),
    (EAST, LINK, {}, "site", {"cluster": {"profile": "a100-sxm-80gb"}}),
    (EAST, LINK, {}, "site", {"cluster": {"accelerators": 128}}),
    ({**EAST, "cluster": {"accelerators": 1024}}, LINK, {}, "site", {"cluster": {"accelerators": 1024, "fabric": "efa-p4d"}}),
    (EAST, LINK, {}, "site", {"cluster": {"override": {"accelerator.memory_Bps": "2 TB/s"}}}),
    (EAST, LINK, {}, "site", {"layout": {"recompute": "full"}}),
    (EAST, LINK, {}, "link", {"between": "all"}),
    (EAST, LINK, {}, "link", {"bandwidth": "200 Gb/s"}),
    (EAST, LINK, {}, "link", {"route_km": 2000}),
    (EAST, LINK, {}, "link", {"route_km": None, "round_trip": "50 ms"}),
    (EAST, LOSSY, {}, "link", {"loss": 1e-5}),
    (EAST, LOSSY, {}, "link", {"transport": "selective-repeat"}),
    (EAST, LOSSY, {}, "link", {"packet": "1 KiB"}),
    (EAST, LOSSY, {}, "link", {"paths": 4}),
    (EAST, LOSSY, {}, "link", {"window": "1 MB"}),
    (EAST, LINK, {}, "link", {"packet": "1 KiB"}),
    (EAST, TCP, {}, "link", {"flows": 16}),
    (EAST, SPRAYED, {}, "link", {"paths": 4}),
    (EAST, SPRAYED, {}, "link", {"flows": 4}),
    (EAST, LINK, {}, "link", {"share": 0.5}),
    (EAST, LINK, {}, "sync", {"strategy": "pipeline"}),
    (EAST, LINK, {}, "sync", {"overlap": "backward", "chunks": 4}),
    (EAST, LINK, {}, "sync", {"chunks": 4}),
    (EAST, LINK, {}, "sync", {"gradient_bits": 16}),
    (EAST, LINK, DILOCO, "sync", {"inner_steps": 60}),
    (EAST, LINK, DILOCO, "sync", {"fragments": 4}),
    (EAST, LINK, DILOCO, "sync", {"delay": 0.5}),
    (EAST, LINK, DILOCO, "sync", {"outer_bits": 8}),
    (EAST, LINK, DILOCO, "sync", {"overlap": "backward"}),
    (EAST, LINK, DILOCO, "sync", {"gradient_bits": 16}),
    (EAST, LINK, {"strategy": "pipeline"}, "sync", {"in_flight": 1}),
    (EAST, LINK, {}, "sync", {"in_flight": 1}),
    (EAST, LINK, {}, "sync", {"data_from": "west"}),
    (EAST, LINK, {}, "sync", {"checkpoints": COPIES}),
    (EAST, LINK, {"checkpoints": COPIES}, "sync", {"checkpoints": {**COPIES, "every": "1 min"}}),
    (EAST, LINK, {"checkpoints": COPIES}, "sync", {"checkpoints": {**COPIES, "source": "east", "target": "west"}}),
    (EAST, LINK, {}, "sync", {"exchange": "ring"}),
]


def seen(site, link, sync):
    slow = {**BASE["training"], "global_batch_sequences": 768}
    try:
        found = runs(spec([TWO[0], site], [link], sync=sync, training=slow))
    except SpecError as error:
        return error.message
    return run_sites.to_dict(found)


@pytest.mark.parametrize(("site", "link", "sync", "section", "changes"), CHANGES, ids=[f"{c[3]} {c[4]}" for c in CHANGES])
def test_another_value_of_a_field_changes_the_run_or_is_refused(site, link, sync, section, changes):
    before = {"site": site, "link": link, "sync": sync}
    after = {**before, section: {name: value for name, value in {**before[section], **changes}.items() if value is not None}}
    assert isinstance(seen(**before), dict) or section == "site"
    assert seen(**before) != seen(**after), f"{changes} is accepted and ignored"


def test_every_field_of_sites_links_and_sync_has_an_entry():
    changed = {"site": set(), "link": set(), "sync": set()}
    for _, _, _, section, changes in CHANGES:
        changed[section] |= changes.keys()
    assert changed["site"] == set(schema.Site.model_fields) and changed["link"] == set(schema.Link.model_fields)
    assert changed["sync"] == set(schema.Sync.model_fields)
    clusters = {name for *_, section, changes in CHANGES if section == "site" for name in changes.get("cluster", {})}
    assert clusters == set(schema.SiteCluster.model_fields)
