"""Many sites: published rows C240 to C249, measured rounds, transports, pipelines, and what holds for all links."""

from __future__ import annotations

import json

import numpy as np
import pytest
from published import HERE, checks, hold, name, row

from codesign.laws import multisite, semisync, transport

CHECKS = checks(9)
SIMULATED = json.loads((HERE / "simulated_bandwidth.json").read_text(encoding="utf-8"))["tables"]
GBPS = 1e9 / 8


def two_site_Gbps(i):
    return multisite.required_Bps(row(i["params"] * i["bits"] / 8), row(2), row(i["step_s"])) / GBPS


def outer_share(i):
    inner = semisync.archetype_inner_s(row(i["N"]), row(2), row(i["R"]), row(i["M"]), row(i["W0"]), row(0))
    outer = semisync.archetype_all_reduce_s(row(i["N"]), row(2), row(i["R"]), row(i["W1"]), row(0))
    return semisync.archetype_outer_share(inner, outer, row(i["H_val"]))


def measured_multiplier(i):
    reference, loss = i["loss"]
    return semisync.compute_multiplier(row(loss), row(reference), row(semisync.DILOCO_LOSS[0].alpha))


def joint_multiplier(i):
    losses = [semisync.diloco_joint_loss(row(1e9), row(m)) for m in (i["M"], 1)]
    return semisync.compute_multiplier(*losses, row(-0.0985))


LAW = {
    **dict.fromkeys(["C240", "C241", "C242"], two_site_Gbps),
    "C244": outer_share,
    "C245": lambda i: semisync.traffic_reduction(row(i["H"]), row(i["precision_ratio"]), row(1)),
    "C246": lambda i: 1e3 * transport.one_way_s(row(i["km"])),
    "C248": measured_multiplier,
    "C249": joint_multiplier,
}
DATA = {  # outputs of other people's simulations
    "C243": lambda i: [SIMULATED[1]["Gbps"][str(h)][SIMULATED[1]["utilisation"].index(i["CU"] / 100)] for h in i["H"]],
    "C247": lambda i: multisite.SIMULATED_LIMITS_FLOP,
}


def test_every_check_has_its_law_or_its_datum():
    assert LAW.keys() | DATA.keys() == CHECKS.keys() and not LAW.keys() & DATA.keys()


@pytest.mark.parametrize("check", [CHECKS[key] for key in LAW], ids=name)
def test_published_law(check):
    hold(check, LAW[check["id"]](check["inputs"]))


@pytest.mark.parametrize("check", [CHECKS[key] for key in DATA], ids=name)
def test_simulation_of_others(check):
    hold(check, DATA[check["id"]](check["inputs"]))


# ---------------------------------------------------------------------------------------------------- measured rounds


@pytest.mark.parametrize(
    ("inner_min", "outer_s", "printed"), [(38, 103, 0.957), (38, 382, 0.856), (38, 469, 0.830), (20, 70, 0.945)],
    ids=["intellect1-usa", "intellect1-usa-eu", "intellect1-global", "covenant-72b"],
)
def test_utilisation_of_measured_rounds_is_that_of_blocking_outer_steps(inner_min, outer_s, printed):
    """INTELLECT-1 (arXiv 2412.01152), H = 100, and Covenant-72B (arXiv 2603.08163), H = 30."""
    assert semisync.utilisation(row(outer_s), row(100), row(inner_min * 60 / 100)) == pytest.approx(printed, abs=0.0015)


VOLUME, OVERLAP = 0.74, 2 / 3  # fitted here to the tables: share of 16 bit a parameter; backward pass of one step


def test_simulated_bandwidth_of_others_follows_from_overlap_with_one_backward_pass():
    """The simulator steps bandwidth by 10^(4/49): the law meets its step or the next in 73 of 75 cells."""
    grid, off = np.logspace(-1, 3, 50), []
    for table in SIMULATED:
        for inner, printed in table["Gbps"].items():
            target, step = np.array(table["utilisation"]), table["step_s"]
            wire = VOLUME * semisync.outer_wire_B(row(table["parameters"]), row(2), row(2.0))
            need = semisync.required_Bps(target, wire, row(float(inner)), row(step), 1.0, OVERLAP * step) / GBPS
            place = np.minimum(np.searchsorted(grid, need), 49)
            off.append(place - np.rint((np.log10(printed) + 1) * 49 / 4))
    off = np.array(off)
    assert np.abs(off[:, :4]).max() <= 1 and (np.abs(off) > 1).sum() <= 2 and (off == 0).mean() > 0.6


# ---------------------------------------------------------------------------------------------------- synchronous


def test_one_site_costs_nothing():
    assert multisite.wan_ring_s(row(1e12), row(1), row(0.01), row(1e9)) == 0
    assert multisite.wan_direct_s(row(1e12), row(1), row(0.01), row(1e9)) == 0
    assert multisite.required_Bps(row(1e12), row(1), row(1.0)) == 0 and multisite.direct_pair_B(row(1e12), row(1)) == 0
    assert semisync.utilisation(semisync.outer_wire_B(row(1e12), row(1), row(2)) / 1e9, row(30), row(5.0)) == 1


def test_more_bandwidth_and_less_latency_are_never_slower():
    rate = np.geomspace(1e8, 1e13, 60)
    for law in (multisite.wan_ring_s, multisite.wan_direct_s):
        assert (np.diff(law(row(8e11), row(4), row(0.02), rate)) < 0).all()
        assert (np.diff(law(row(8e11), row(4), np.linspace(0, 1, 9), row(1e11))) > 0).all()
    for chunks in (1.0, 8.0):
        time = multisite.hierarchical_s(row(1.0), 8e11 / rate, row(1.0), row(0.04), chunks)
        exposed = multisite.exposed_s(time, row(10.0), time / chunks)
        assert (np.diff(exposed) <= 0).all() and (np.diff(multisite.utilisation(row(15.0), exposed)) >= 0).all()


def test_direct_exchange_saves_latency_only():
    ring, direct = (law(row(8e11), row(5), row(0.02), row(1e11)) for law in (multisite.wan_ring_s, multisite.wan_direct_s))
    assert ring - direct == pytest.approx(0.02 * (8 - 2))
    assert multisite.direct_pair_B(row(8e11), row(5)) * 4 == multisite.ring_neighbour_B(row(8e11), row(5))


def test_chunks_go_from_the_sum_to_the_slowest_stage():
    args = (row(3.0), row(10.0), row(2.0), row(0.5))
    assert multisite.hierarchical_s(*args) == 15.5
    assert multisite.hierarchical_s(*args, 1e9) == pytest.approx(10.5)
    assert (np.diff(multisite.hierarchical_s(*args, np.arange(1.0, 50.0))) < 0).all()


def test_the_last_chunk_stays_exposed_and_a_late_update_hides_it():
    assert multisite.exposed_s(row(5.0), row(20.0), row(0.5)) == 0.5
    assert multisite.exposed_s(row(5.0), row(20.0)) == 0 and multisite.exposed_s(row(25.0), row(20.0), row(0.5)) == 5
    assert multisite.exposed_s(row(0.0), row(20.0), row(0.5)) == 0


def test_required_bandwidth_hides_the_transfer_exactly():
    rate = multisite.required_Bps(row(8e11), row(3), row(12.0), row(0.1))
    assert multisite.wan_wire_B(row(8e11), row(3)) / rate + 0.1 == pytest.approx(12.0)
    assert multisite.required_Bps(row(8e11), row(3), row(0.1), row(0.2)) == np.inf


# ---------------------------------------------------------------------------------------------------- pipeline


def one_f_one_b_s(pp, m, forward, backward, hop, before, extra):
    """1F1B with one slow boundary, before stage `before`, whose upstream stages run `extra` micro-batches further ahead."""
    orders = []
    for stage in range(pp):
        ahead = min(m, pp - stage - 1 + (extra if stage < before else 0))
        order = [("F", i) for i in range(ahead)]
        for i in range(m):
            order += ([("F", ahead + i)] if ahead + i < m else []) + [("B", i)]
        orders.append(order)
    end, at, clock = {}, [0] * pp, [0.0] * pp
    while any(at[s] < 2 * m for s in range(pp)):
        for s in range(pp):
            while at[s] < 2 * m:
                kind, i = orders[s][at[s]]
                if kind == "F":
                    needs, late = (("F", s - 1, i) if s else None), hop if s == before else 0.0
                else:
                    needs, late = (("F", s, i) if s == pp - 1 else ("B", s + 1, i)), hop if s == before - 1 else 0.0
                if needs is not None and needs not in end:
                    break
                begin = max(clock[s], end[needs] + late if needs else 0.0)
                clock[s] = end[(kind, s, i)] = begin + (forward if kind == "F" else backward)
                at[s] += 1
    return max(clock)


def test_a_crossing_of_a_pipeline_costs_what_the_schedule_says():
    rng = np.random.default_rng(0)
    for _ in range(40):
        pp, extra = int(rng.integers(2, 9)), int(rng.integers(0, 5))
        before, m = int(rng.integers(1, pp)), int(rng.integers(pp, 50))
        forward, backward = rng.uniform(0.5, 2.0, 2)
        hop = rng.uniform(0.0, 5.0)
        played = one_f_one_b_s(pp, m, forward, backward, hop, before, extra)
        played -= one_f_one_b_s(pp, m, forward, backward, 0.0, before, extra)
        law = multisite.pipeline_crossing_s(row(hop), row(0), row(m), row(pp - before), row(forward + backward), float(extra))
        assert law == pytest.approx(played, rel=1e-9, abs=1e-9)


def test_enough_micro_batches_in_flight_hide_all_but_filling_and_draining():
    extra = multisite.micro_batches_to_hide(row(0.02), row(0.001), row(0.03))
    assert extra == 2
    assert multisite.pipeline_crossing_s(row(0.02), row(0.001), row(64), row(4), row(0.03), extra) == pytest.approx(0.042)
    assert multisite.pipeline_crossing_s(row(0.0), row(0.05), row(65), row(4), row(0.03), 99.0) == pytest.approx(0.1 + 64 * 0.02)


# ---------------------------------------------------------------------------------------------------- unequal sites, limits


def test_work_by_speed_ends_everywhere_at_once_and_evenness_costs():
    speeds = [row(3.0), row(1.0), row(2.0)]
    shares = multisite.work_shares(speeds)
    assert sum(shares) == 1 and len({float((share / speed)[0]) for share, speed in zip(shares, speeds, strict=True)}) == 1
    assert multisite.even_split_factor(speeds) == 2 and multisite.even_split_factor([row(2.0)] * 3) == 1


def test_latency_wall_of_a_large_model():
    # 1e15 tokens in batches of 1e8, 200 layers, 10 us: 46 d
    assert multisite.latency_wall_s(row(1e15), row(1e8), row(200), row(1e-5)) / 86400 == pytest.approx(0.463, rel=1e-2)


# ---------------------------------------------------------------------------------------------------- semi-synchronous


def test_one_inner_step_adds_exactly_the_outer_step():
    step, outer = row(4.0), row(7.5)
    assert semisync.round_s(outer, row(1), step) == step + outer
    assert semisync.round_s(outer, row(100), step) == 100 * step + outer


def test_streaming_hides_by_fragment_but_never_more_than_the_link_carries():
    outer, step = row(60.0), row(1.0)
    assert semisync.round_exposed_s(outer, row(100), step, 10.0, 5.0) == 10.0
    assert semisync.round_exposed_s(outer, row(100), step, 10.0, 6.0) == 0
    assert semisync.round_exposed_s(row(130.0), row(100), step, 10.0, 50.0) == 30.0


def test_required_bandwidth_reaches_its_utilisation():
    target = np.array([0.5, 0.8, 0.95, 0.999])
    for fragments, overlap in ((1.0, 0.0), (1.0, 3.0), (16.0, 5.0), (16.0, 1e3)):
        rate = semisync.required_Bps(target, row(8e11), row(30), row(5.0), fragments, overlap)
        reached = semisync.utilisation(8e11 / rate, row(30), row(5.0), fragments, overlap)
        np.testing.assert_allclose(reached, target, rtol=1e-9)
    assert semisync.required_Bps(row(0.9), row(8e11), row(1), row(1.0), 1.0, 0.0, 99.0) == np.inf


def test_longer_rounds_fewer_bits_and_more_bandwidth_never_lower_utilisation():
    wire = semisync.outer_wire_B(row(100e9), row(4), np.array([4.0, 2.0, 1.0, 0.5]))
    assert (np.diff(semisync.utilisation(wire / 1e9, row(30), row(5.0))) > 0).all()
    assert (np.diff(semisync.utilisation(wire[0] / np.geomspace(1e8, 1e12, 30), row(30), row(5.0))) > 0).all()
    assert (np.diff(semisync.utilisation(wire[0] / 1e9, np.arange(1.0, 300.0), row(5.0))) > 0).all()


def test_archetype_of_one_replica_exchanges_as_data_parallel_does():
    one = semisync.archetype_inner_s(row(1e9), row(2), row(16), row(1), row(5e10), row(1e-4))
    assert one == semisync.archetype_all_reduce_s(row(1e9), row(2), row(16), row(5e10), row(1e-4))


def test_peak_rate_and_memory_of_streaming():
    assert semisync.peak_over_mean_traffic(row(100), row(4), row(5)) == 5
    assert semisync.peak_over_mean_traffic(row(100), row(50), row(5)) == 1
    assert semisync.outer_state_B(row(1e9), row(4), row(4), 2.0, 4.0) == 8.5e9


def test_loss_penalty_grows_with_replicas_and_more_so_in_the_joint_law():
    sizes = row(1e9)
    joint = semisync.diloco_joint_loss(sizes, np.array([1.0, 2, 4, 8]))
    assert (np.diff(joint) > 0).all()
    assert semisync.diloco_joint_batch_tokens(sizes, row(2)) > semisync.diloco_joint_batch_tokens(sizes, row(1))
    assert semisync.effective_share(row(0.957), row(1.062)) == pytest.approx(0.901, abs=1e-3)
    for replicas in semisync.DILOCO_LOSS:
        assert (np.diff(semisync.diloco_loss(np.geomspace(1e8, 1e11, 9), replicas)) < 0).all()


def test_what_is_beyond_published_evidence_is_marked():
    marked = semisync.extrapolated(row(10e9, 10e9, 10e9, 11e9), row(8, 9, 8, 8), row(300, 300, 301, 300))
    assert marked.tolist() == [False, True, True, True]


def test_hiding_the_outer_step_costs_loss_only_from_a_round_on():
    factors = semisync.OVERLAP_LOSS_FACTOR
    assert factors["none"] == factors["inner-step"] == 1
    assert 1 < factors["outer-eager"] < factors["outer-eager-2"] < factors["outer-delayed"]


# ---------------------------------------------------------------------------------------------------- transport


def test_go_back_n_collapses_on_long_links_and_selective_repeat_does_not():
    """1,000 km at 400 Gb/s: 1e-4 leaves 8 %, 1e-6 costs 11 %; 10 us: 1e-4 costs 1.2 %."""
    window = transport.packets_in_flight(row(5e10), np.array([1e-5, 1e-2]), row(4096))
    assert window == pytest.approx([122, 122070], rel=1e-2)
    np.testing.assert_allclose(transport.go_back_n_share(row(1e-4), window), [0.988, 0.0757], rtol=1e-3)
    assert transport.go_back_n_share(row(1e-6), window[1]) == pytest.approx(0.891, abs=1e-3)
    assert transport.selective_repeat_share(row(1e-4)) == 0.9999


@pytest.mark.parametrize("kind", ["lossless", "go-back-n", "selective-repeat", "tcp"])
def test_no_transport_beats_its_line_and_loss_latency_never_help(kind):
    line = row(5e10)
    loss = np.array([0.0, 1e-7, 1e-5, 1e-3, 1e-2])
    rate = transport.delivered_Bps(kind, line, row(0.02), loss, row(4096), row(1e9), 16.0)
    assert (rate <= line).all() and (np.diff(rate) <= 0).all() and rate[0] == line
    rate = transport.delivered_Bps(kind, line, np.geomspace(1e-5, 1, 20), row(1e-5), row(4096), row(1e7), 16.0)
    assert (np.diff(rate) <= 0).all() and (rate > 0).all()


def test_one_tcp_flow_and_how_many_fill_the_line():
    # sqrt(3/2) x 1460 B / (20 ms x sqrt(1e-6)) = 89 MB/s
    assert transport.tcp_flow_Bps(row(1460), row(0.02), row(1e-6)) == pytest.approx(8.94e7, rel=1e-3)
    rates = transport.delivered_Bps("tcp", row(5e10), row(0.02), row(1e-6), row(1460), np.inf, np.array([1.0, 100.0, 1000.0]))
    assert rates == pytest.approx([8.94e7, 8.94e9, 5e10 * (1 - 1e-6)], rel=1e-3)
    assert transport.delivered_Bps("tcp", row(5e10), row(0.02), row(0.0), row(1460), row(1e8)) == 5e9  # window over RTT


def test_unknown_transport_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="selective-repeat"):
        transport.delivered_Bps("pigeon", row(1), row(1), row(0), row(1))


def test_spraying_adds_paths_and_striping_waits_for_the_slowest():
    paths = [row(4.0), row(2.0), row(3.0)]
    assert transport.sprayed_Bps(paths) == 9 and transport.striped_Bps(paths) == 6
    assert transport.hashed_share(row(8), row(8)) == pytest.approx(0.656, abs=1e-3)
    assert transport.hashed_share(row(3), row(1)) == 1 and (np.diff(transport.hashed_share(np.arange(1.0, 64), row(8))) > 0).all()
