"""Communication beside compute: with what is exposed it is all of it, and where a traffic class has no latency worth
mentioning its time is that of its bytes on the link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codesign.planner import Plan, plan
from codesign.spec import datafiles, load
from codesign.timeline import hidden, timeline

EXAMPLES = datafiles.root("examples")
LLAMA, DEEPSEEK, GPT4, FSDP = "llama-3.1-405b-h100", "deepseek-v3-h800", "gpt4-retrain", "llama-3-8b-fsdp"
DENSE: dict[str, Any] = {
    "version": 1,
    "model": {"layers": 12, "hidden": 4096, "heads": 32, "ffn": 16384, "vocab": 128256},
    "training": {"sequence_length": 4096, "global_batch_sequences": 256, "precision": "bf16"},
    "layout": {"tp": 2, "pp": 2, "dp": 16, "schedule": "1f1b", "micro_batch": 1},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 64},
    "software": "megatron-core",
}


def example(name: str, *sets: str) -> Plan:
    return plan(load.load(EXAMPLES / f"{name}.yaml", sets))


def dense(**layout: Any) -> Plan:
    return plan({**DENSE, "layout": {**DENSE["layout"], **layout}})


def rank_of(made: Plan, name: str) -> float:
    """A quantity of the rank that sets the pace."""
    at = int(made.value("slowest_rank"))
    flat = made.values[name, None].ravel()
    return float(flat[min(at, len(flat) - 1)])


def layers(made: Plan) -> dict[str, float]:
    return {kind: made.value(f"slowest_layers[{kind}]") for kind in made.problem.kinds}


def link_s(made: Plan, name: str) -> float:
    return sum(row["link_s"] for row in made.traffic if row["class"] == name)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_is_what_the_timeline_of_each_example_draws(path: Path) -> None:
    fewer = ("training.global_batch_sequences=12800",) if path.stem == "ten-million" else ()  # its replay takes long
    made = plan(load.load(path, fewer))
    line = timeline(made, 20_000, [int(made.value("slowest_rank"))])
    drawn: dict[str, float] = {}
    for event in line.tracks[0].events:
        if event.lane.endswith(" (hidden)"):
            lane = event.lane.removesuffix(" (hidden)")
            drawn[lane] = drawn.get(lane, 0.0) + event.end_s - event.start_s
    assert drawn == {lane: pytest.approx(seconds, rel=1e-9) for lane, seconds in hidden(made).items()}


@pytest.mark.parametrize(("name", "sets"), [
    (LLAMA, ()), (LLAMA, ("layout.recompute=full",)), (LLAMA, ("layout.recompute=full", "layout.overlap.tp=false")), (GPT4, ()),
    (LLAMA, ("layout.schedule=zb-v", "layout.vpp=2", "layout.dp=64", "cluster.accelerators=8192")),
])  # fmt: skip
def test_tensor_parallel_adds_up_with_recompute(name: str, sets: tuple[str, ...]) -> None:
    made = example(name, *sets)
    m, full = made.value("micro_batches"), "layout.recompute=full" in sets
    own = exposed = 0.0  # the exposed part of what recompute repeats is in recompute's own part
    for kind, count in layers(made).items():
        own += (3.0 if full else 2.0) * count * m * made.value(f"tp_layer_s[{kind}]")
        exposed += count * m * made.value(f"tp_recompute_exposed_s[{kind}]")
    assert hidden(made).get("tensor parallel", 0.0) + made.value("tp_exposed_s") + exposed == pytest.approx(own, rel=1e-9)
    # two gathers and two scatters of a ring are two all-reduces: the bytes of the table, at the rate that is reached
    assert 1.0 < own / link_s(made, "tensor parallel") < 1.6


def test_selective_recompute_repeats_half_of_the_tensor_parallel_communication() -> None:
    made = example(LLAMA, "layout.recompute={granularity: selective, modules: [mlp]}")
    m, count = made.value("micro_batches"), layers(made)["dense"]
    own = 2.5 * count * m * made.value("tp_layer_s[dense]")
    exposed = made.value("tp_exposed_s") + count * m * made.value("tp_recompute_exposed_s[dense]")
    assert hidden(made)["tensor parallel"] + exposed == pytest.approx(own, rel=1e-9)


def test_a_ring_of_keys_and_values_adds_up() -> None:
    made = example(GPT4)
    hops = 3.0 * (made.value("cp") - 1.0) * sum(layers(made).values()) * made.value("micro_batches")
    own = hops * made.value("cp_hop_s")
    assert hidden(made)["context parallel"] + made.value("cp_exposed_s") == pytest.approx(own, rel=1e-9)


def test_the_exchange_of_tokens_adds_up() -> None:
    made = example(DEEPSEEK)
    m = made.value("micro_batches")
    own = sum(2.0 * count * m * made.value(f"ep_layer_s[{kind}]") for kind, count in layers(made).items())
    assert hidden(made)["expert parallel"] + made.value("ep_exposed_s") == pytest.approx(own, rel=1e-9)
    assert 0.8 < own / link_s(made, "expert parallel") < 1.2  # levels run beside each other; latency on top


@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2"])
@pytest.mark.parametrize("schedule", ["1f1b", "interleaved", "dualpipe"])
def test_gradients_and_parameters_add_up(sharding: str, schedule: str) -> None:
    made = dense(sharding=sharding, schedule=schedule, vpp=2 if schedule == "interleaved" else 1)
    seen = hidden(made)
    terms = (("gradients", "gradient", "gradient_reductions"), ("parameters", "parameter", "parameter_gathers"))
    for lane, short, times in terms:
        own = rank_of(made, f"dp_{short}_s") * made.value(times)
        assert seen.get(lane, 0.0) + rank_of(made, f"dp_{short}_exposed_s") == pytest.approx(own, rel=1e-9)
    assert seen["gradients"] > 0.0


def test_gradients_and_parameters_take_at_least_their_time_on_the_link() -> None:
    made = example(LLAMA)
    for lane, short in (("gradients", "gradient"), ("parameters", "parameter")):
        own = hidden(made)[lane] + rank_of(made, f"dp_{short}_exposed_s")
        # levels run beside each other, so that the slowest of them is the least
        slowest = max(row["link_s"] for row in made.traffic if row["class"] == lane)
        assert slowest < own < 1.4 * slowest


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("reshard", [False, True])
def test_fully_sharded_communication_adds_up(pp: int, reshard: bool) -> None:
    made = dense(pp=pp, dp=32 // pp, sharding="zero3", reshard_after_forward=reshard)
    own = rank_of(made, "dp_gradient_s") * made.value("gradient_reductions")
    own += rank_of(made, "dp_parameter_s") * made.value("parameter_gathers")
    seen = hidden(made)
    assert "gradients" not in seen and "parameters" not in seen
    assert seen["sharded parameters and gradients"] + rank_of(made, "fsdp_exposed_s") == pytest.approx(own, rel=1e-9)


def test_a_pipeline_hides_the_hand_overs_of_its_rank_or_none() -> None:
    made = example(LLAMA)
    pipe = made.problem.structural()["pipeline"]
    sends = 2.0 * pipe.vpp * made.value("micro_batches")  # rank 1 is neither end of the model
    assert hidden(made)["pipeline"] == pytest.approx(sends * made.value("pp_hop_s"), rel=1e-9)
    assert 1.0 < hidden(made)["pipeline"] / link_s(made, "pipeline") < 1.6
    blocking = example(LLAMA, "layout.schedule=1f1b", "layout.vpp=1")
    assert "pipeline" not in hidden(blocking)
    filling = 2.0 * (pipe.pp - 1.0) * blocking.value("pp_hop_s")
    own = 2.0 * blocking.value("micro_batches") * blocking.value("pp_hop_s")
    assert blocking.value("pp_exposed_s") == pytest.approx(filling + own, rel=1e-9)


def test_off_load_beside_the_passes_adds_up() -> None:
    made = dense(offload={"activations": 1.0})
    own = 2.0 * rank_of(made, "rank_offload_s") * made.value("micro_batches")
    assert hidden(made)["off-load"] + made.value("offload_exposed_s") == pytest.approx(own, rel=1e-9)


def test_what_no_stack_overlaps_is_not_hidden() -> None:
    """Data-parallel communication that waits until the passes are over has nothing beside it."""
    made = dense(overlap={"dp_gradients": False, "dp_parameters": False, "tp": False}, schedule="interleaved", vpp=2)
    assert set(hidden(made)) == {"pipeline"}
