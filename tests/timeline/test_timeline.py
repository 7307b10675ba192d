"""The trace file, read back by a reader of its own: totals are the plan's parts, tracks tile the step, passes keep order."""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.cli import main
from codesign.errors import SpecError
from codesign.laws import pipeline
from codesign.planner import Plan, plan
from codesign.spec import datafiles, load
from codesign.timeline import hidden, shares, strip, timeline, trace

EXAMPLES = datafiles.root("examples")
LLAMA, DEEPSEEK = "llama-3.1-405b-h100.yaml", "deepseek-v3-h800.yaml"
SMALL = ("layout.dp=64", "cluster.accelerators=8192")  # 32 micro-batches instead of 16
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "interleaved": (LLAMA, ()),
    "interleaved of two sites": ("frontier-100k-two-sites.yaml", ()),
    "dualpipe": (DEEPSEEK, ()),
    "fully sharded, no pipeline": ("llama-3-8b-fsdp.yaml", ("training.global_batch_sequences=32",)),
    "context parallel": ("gpt4-retrain.yaml", ()),
    "gpipe": (LLAMA, ("layout.schedule=gpipe", "layout.vpp=1")),
    "1f1b": (LLAMA, ("layout.schedule=1f1b", "layout.vpp=1", "layout.recompute=full")),
    "zb-h1": (LLAMA, ("layout.schedule=zb-h1", "layout.vpp=1")),
    "zb-h2": (LLAMA, ("layout.schedule=zb-h2", "layout.vpp=1", *SMALL)),
    "zb-v": (LLAMA, ("layout.schedule=zb-v", "layout.vpp=2", *SMALL)),
    "dualpipe-v": (LLAMA, ("layout.schedule=dualpipe-v", "layout.vpp=2", *SMALL)),
}
PASSES = {"forward", "input gradient", "weight gradient", "backward", "steady state"}
CLOSE = 1e-9  # of the step
GRID_s = 1e-6 / 1024  # a trace has its times on this grid: each event may be off by one


def made(name: str) -> Plan:
    example, sets = RUNS[name]
    return plan(load.load(EXAMPLES / example, sets))


class Reader:
    """Knows the Chrome trace format and nothing of the package; times in seconds."""

    def __init__(self, text: str) -> None:
        data = json.loads(text)
        assert data["displayTimeUnit"] == "ms"
        self.about = data["otherData"]
        rows = data["traceEvents"]
        assert {row["ph"] for row in rows} == {"X", "M", "C"}
        self.rows = len(rows)
        names = {(r["pid"], r["tid"]): r["args"]["name"] for r in rows if r["name"] == "thread_name"}
        self.complete = [r for r in rows if r["ph"] == "X"]
        for row in self.complete:
            row["lane"] = names[row["pid"], row["tid"]]
            row["end"] = row["ts"] + row["dur"]
        self.passes = [r for r in self.complete if r["cat"] in PASSES]
        self.hidden = [r for r in self.complete if r["lane"].endswith("(hidden)")]
        self.own = [r for r in self.complete if r["cat"] not in PASSES and not r["lane"].endswith("(hidden)")]
        self.memory: dict[int, float] = defaultdict(float)
        for row in rows:
            if row["ph"] == "C":
                self.memory[row["pid"]] = max(self.memory[row["pid"]], sum(row["args"].values()))

    def totals(self, rank: int) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for row in self.own:
            if row["pid"] == rank:
                found[row["cat"]] += row["dur"] / 1e6
        return found

    def beside(self, rank: int) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for row in self.hidden:
            if row["pid"] == rank:
                found[row["lane"].removesuffix(" (hidden)")] += row["dur"] / 1e6
        return found

    def count(self, rank: int, part: str) -> int:
        return sum(row["pid"] == rank and row["cat"] == part for row in self.own)

    def ranks(self) -> list[int]:
        return sorted({row["pid"] for row in self.complete})


def held(read: Reader, made: Plan) -> None:
    """All that a trace promises, whatever is folded."""
    step_us = made.step_s * 1e6
    assert max(row["end"] for row in read.complete) == pytest.approx(step_us, abs=1e6 * GRID_s)
    for rank in read.ranks():
        at_us = 0.0
        for row in sorted((r for r in read.own if r["pid"] == rank), key=lambda r: r["ts"]):
            assert row["ts"] == at_us, f"rank {rank} at {at_us}: {row}"  # no gap, no overlap
            at_us = row["end"]
        assert at_us == pytest.approx(step_us, abs=1e6 * GRID_s)
        allocated_B = made.stages[rank]["allocated_B"]
        if made.value("allows_schedule"):
            assert read.memory[rank] == pytest.approx(allocated_B, rel=1e-9)
        elif read.memory[rank] != pytest.approx(allocated_B, rel=1e-9):  # too few micro-batches for the law of the plan
            assert any("memory counter" in note for note in read.about["notes"])
    for group in (read.passes, read.hidden):
        lanes = defaultdict(list)
        for row in group:
            lanes[row["pid"], row["tid"]].append((row["ts"], row["end"]))
        for row in lanes.values():
            row.sort()
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(row))
    spans = defaultdict(list)
    for row in read.passes:
        spans[row["pid"]].append((row["ts"], row["end"]))
    for ordered in spans.values():
        ordered.sort()
    for row in read.own:  # what is computed lies inside a pass, as a viewer nests it
        if row["lane"] == "compute":
            ordered = spans[row["pid"]]
            first, last = ordered[bisect.bisect_right(ordered, (row["ts"], float("inf"))) - 1]
            assert first <= row["ts"] and row["end"] <= last
    pacing = int(made.value("slowest_rank"))
    if pacing in read.ranks():
        totals = read.totals(pacing)
        assert set(totals) <= set(made.parts)
        for name, seconds in made.parts.items():
            rounding_s = GRID_s * read.count(pacing, name)
            assert totals.get(name, 0.0) == pytest.approx(seconds, abs=CLOSE * made.step_s + rounding_s), name
        beside = read.beside(pacing)
        for lane, seconds in hidden(made).items():  # what reports say is what is drawn
            rows = sum(r["pid"] == pacing and r["lane"] == f"{lane} (hidden)" for r in read.hidden)
            assert beside.pop(lane, 0.0) == pytest.approx(seconds, abs=CLOSE * made.step_s + GRID_s * rows), lane
        assert set(beside) <= {"data parallel"}  # exposed on a rank with time to spare


@pytest.mark.parametrize("name", RUNS)
def test_totals_read_back_from_the_file_are_the_plans_parts(name: str) -> None:
    one = made(name)
    read = Reader(trace(timeline(one)))
    held(read, one)
    assert read.about["step_s"] == one.step_s and read.about["parts_s"] == one.parts
    assert read.about["spec_hash"] == one.spec_hash
    work = one.values["rank_work_s", None].ravel() * one.value("micro_batches")
    computing = {"gemm_total_s", "attention_total_s", "elementwise_total_s", "recompute_total_s", "ends_total_s"}
    waiting = {"host_excess_s", "tp_exposed_s", "cp_exposed_s", "ep_exposed_s", "overlap_slowdown_total_s", "offload_exposed_s"}
    for rank, seconds in enumerate(work):  # every rank does its own work, not only the one that paces
        totals = read.totals(rank)
        assert sum(totals.get(part, 0.0) for part in computing | waiting) == pytest.approx(seconds, rel=1e-7)


@pytest.mark.parametrize("name", RUNS)
def test_every_pass_is_there_once_and_after_what_it_needs(name: str) -> None:
    one = made(name)
    line = timeline(one)
    read = Reader(trace(line))
    pipe = one.problem.structural()["pipeline"]
    m = int(one.value("micro_batches"))
    start: dict[tuple[str, int, int], float] = {}
    end: dict[tuple[str, int, int], float] = {}
    step_us = max(row["end"] for row in read.complete)
    for row in read.passes:
        kind, number, stage = re.fullmatch(r"(F|B|W|BW) (\d+) of stage (\d+)", row["name"]).groups()  # type: ignore[union-attr]
        offset_us = line.tracks[row["pid"]].offset_s * 1e6
        late = step_us if row["end"] <= offset_us + 1e-2 else 0.0  # of the step before, in the trace of one period
        for part in kind if kind == "BW" else (kind,):
            key = (part, int(stage), int(number))
            start[key] = min(start.get(key, step_us * 2), row["ts"] + late)
            end[key] = max(end.get(key, 0.0), row["end"] + late)
    stages = pipe.pp * pipe.vpp
    assert len(start) == 3 * stages * m
    assert not line.gap.refused and line.gap.drawn_s <= line.gap.plan_s * (1 + 1e-12)  # else idle time would be drawn shortened
    for stage, number in itertools.product(range(stages), range(m)):
        needs = [("B", "F", stage), ("W", "B", stage)] + [("F", "F", stage - 1)] * (stage > 0)
        needs += [("B", "B", stage + 1)] * (stage + 1 < stages)
        for kind, other, at in needs:
            begins = start[kind, stage, number] if kind != "W" else end[kind, stage, number]
            ready = end[other, at, number]
            assert begins >= ready - 1e-2, (kind, stage, number, other, at)


@pytest.mark.parametrize("name", ["interleaved", "dualpipe", "interleaved of two sites", "zb-v"])
def test_forward_and_backward_are_those_of_each_rank(name: str) -> None:
    one = made(name)
    read = Reader(trace(timeline(one)))
    for rank in read.ranks():
        ways = {"forward": "rank_forward_s", "backward": "rank_backward_s"}
        for way, quantity in ways.items():
            seconds = sum(
                r["dur"] for r in read.passes if r["pid"] == rank and (r["cat"] == "forward") == (way == "forward")
            )
            want = one.values[quantity, None].ravel()[rank] * one.value("micro_batches")
            assert seconds / 1e6 == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("most", [12_000, 3_000])
def test_folding_keeps_totals_and_the_memory_peak(name: str, most: int) -> None:
    one = made(name)
    line = timeline(one, most)
    read = Reader(trace(line))
    held(read, one)
    assert read.rows <= most
    shown = sum(row.get("args", {}).get("passes", 1) for row in read.passes)
    split = one.problem.structural()["pipeline"].schedule in ("zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v")
    if not split:  # two passes of each stage and micro-batch
        pipe = one.problem.structural()["pipeline"]
        assert shown == 2 * pipe.pp * pipe.vpp * one.value("micro_batches")
    full = Reader(trace(timeline(one)))
    hidden: list[dict[str, float]] = []
    for which in (read, full):
        hidden.append(defaultdict(float))
        for row in which.hidden:
            hidden[-1][row["cat"]] += row["dur"]
    assert set(hidden[0]) == set(hidden[1])
    for category, seconds in hidden[1].items():
        assert hidden[0][category] == pytest.approx(seconds, rel=1e-6)


def test_hidden_communication_is_all_of_it_less_what_is_exposed() -> None:
    one = made("interleaved")
    read = Reader(trace(timeline(one)))
    rank, m = int(one.value("slowest_rank")), one.value("micro_batches")
    layers = sum(one.problem.structural()["pipeline"].stages.counts(rank).values())
    tensor = 2.0 * one.value("tp_layer_s[dense]") * layers * m - one.value("tp_exposed_s")
    found = sum(r["dur"] for r in read.hidden if r["pid"] == rank and r["cat"] == "tp_hidden") / 1e6
    assert found == pytest.approx(tensor, rel=1e-6)
    moved = one.values["dp_gradient_s", None].ravel()[rank] * one.value("gradient_reductions")
    moved += one.values["dp_parameter_s", None].ravel()[rank]
    exposed = sum(one.values[f"dp_{what}_exposed_s", None].ravel()[rank] for what in ("gradient", "parameter"))
    found = sum(r["dur"] for r in read.hidden if r["pid"] == rank and r["cat"] == "dp_hidden") / 1e6
    assert found == pytest.approx(moved - exposed, rel=1e-6)


def test_the_gap_between_plan_and_replay_is_in_the_file() -> None:
    one = made("interleaved")
    line = timeline(one)
    said = Reader(trace(line)).about["pipeline"]
    assert said["plan_s"] - said["replay_s"] == pytest.approx(said["gap_s"])
    work = one.value("micro_batches") * (one.value("slowest_forward_s") + one.value("slowest_backward_s"))
    assert said["plan_s"] == pytest.approx(work + one.value("pp_bubble_s") + one.value("pp_exposed_s"))
    assert said["replay_s"] > said["drawn_s"]  # hand-overs cost the replay more than the plan counts
    assert any("event replay" in note for note in line.notes)


def test_gpipe_has_no_gap_and_says_what_does_not_fit() -> None:
    sets = ("layout.schedule=gpipe", "layout.vpp=1", "layout.pp=2", "model.layers=8")
    one = plan(load.load(EXAMPLES / LLAMA, (*sets, "cluster.accelerators=2048")))
    line = timeline(one)
    assert line.gap.s == pytest.approx(0.0, abs=1e-9 * one.step_s)  # of gpipe the closed form has every path
    # the first rank has less work than the last, and is the last to be done all the same
    (note,) = line.notes
    assert "spare time" in note and line.spare_s > 0.0


def test_same_input_same_bytes_and_ranks_alone_are_the_same_tracks() -> None:
    one = made("dualpipe")
    text = trace(timeline(one))
    assert trace(timeline(made("dualpipe"))) == text
    chosen = timeline(one, ranks=[3, 0])
    assert [track.rank for track in chosen.tracks] == [0, 3]
    everything = timeline(one)
    assert chosen.tracks == (everything.tracks[0], everything.tracks[3])


def test_a_step_without_barrier_is_one_period_of_it() -> None:
    """ZB-V: ranks begin their step one after the other; each of them is busy with one step's worth of work."""
    line = timeline(made("zb-v"))
    assert any(track.offset_s > 0.0 for track in line.tracks)
    assert any("without a barrier" in note for note in line.notes)


def test_a_layout_whose_schedule_does_not_exist_still_has_its_totals() -> None:
    one = plan(load.load(EXAMPLES / DEEPSEEK, ("training.global_batch_sequences=1280",)))
    assert not one.feasible and pipeline.valid("dualpipe", 16, 1, 10) is not None
    line = timeline(one)
    assert "dualpipe needs" in line.gap.refused
    held(Reader(trace(line)), one)


@pytest.mark.parametrize("name", RUNS)
def test_the_strip_tiles_every_rank(name: str) -> None:
    one = made(name)
    line = timeline(one, 5_000)
    rows = strip(line)
    for rank in range(len(line.tracks)):
        own = [row for row in rows if row.rank == rank]
        assert own[0].start_s == 0.0 and own[-1].end_s == pytest.approx(one.step_s)
        assert all(a.end_s == pytest.approx(b.start_s, abs=1e-9) for a, b in itertools.pairwise(own))
    assert len(rows) < 3_000


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("most", [200_000, 3_000])
def test_the_strip_shows_the_idle_time_that_the_plan_counts(name: str, most: int) -> None:
    """Folded or not, the bars of the rank that sets the pace have the shares of the plan's parts."""
    one = made(name)
    line, said = timeline(one, most), shares(one)
    assert sum(said.values()) == pytest.approx(1.0)
    assert said.get("bubble", 0.0) == one.parts["pp_bubble_s"] / one.step_s
    drawn: dict[str, float] = defaultdict(float)
    for row in strip(line):
        if row.rank == line.pacing_rank:
            drawn[row.category] += (row.end_s - row.start_s) / one.step_s
    within = 0.0  # fully sharded without a pipeline: data-parallel time is inside the passes
    if one.problem.structural()["pipeline"].pp == 1:
        within = said["data parallel"]
    passes = sum(drawn.pop(kind, 0.0) for kind in PASSES)
    hand_over = said.get("hand-over", 0.0) - drawn.pop("hand-over", 0.0)  # a stack that waits has them inside its passes
    assert passes == pytest.approx(said["forward"] + said["backward"] + hand_over + within, abs=1e-9)
    assert hand_over == pytest.approx(0.0, abs=1e-9) or one.value("pp_exposed_s") > 30.0 * one.value("pp_hop_s")
    for category, share in drawn.items():
        assert share == pytest.approx(said.get(category, 0.0), abs=1e-9), category


def test_a_folded_stretch_is_drawn_with_its_idle_time_all_along() -> None:
    one = plan(load.load(EXAMPLES / LLAMA, ("layout.tp=4", "layout.dp=256")))
    line = timeline(one, 3_000)
    assert one.parts["pp_bubble_s"] > 0.45 * one.step_s
    rows = [row for row in strip(line) if row.rank == line.pacing_rank]
    steady = [row for row in rows if row.category == "steady state"]
    assert len(steady) == 40 and max(row.end_s - row.start_s for row in steady) < 0.05 * one.step_s
    between = [b.start_s - a.end_s for a, b in itertools.pairwise(steady)]
    assert min(between) == pytest.approx(max(between)) and min(between) > 0.3 * (steady[0].end_s - steady[0].start_s)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ranks": [16]}, "ranks 0 to 15"), ({"ranks": []}, "none"), ({"max_events": 50}, "choose fewer ranks"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        timeline(made("interleaved"), **arguments)


def test_a_plan_with_overrides_has_no_timeline() -> None:
    with pytest.raises(SpecError, match="pp_bubble_s fixed by hand"):
        timeline(plan(EXAMPLES / LLAMA, overrides={"pp_bubble_s": 0.0}))


# ---------------------------------------------------------------------------------------------------- random specs


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Small models with uneven stages, off-load and all schedules; some of them infeasible."""
    schedule = draw(st.sampled_from(("1f1b", "gpipe", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v")))
    pp, dp = draw(st.sampled_from((2, 4))), draw(st.sampled_from((1, 4)))
    vpp = 2 if schedule in ("interleaved", "zb-v", "dualpipe-v") else 1
    count = draw(st.sampled_from((2, 8, 12)))
    layout: dict[str, Any] = {"tp": 2, "pp": pp, "vpp": vpp, "dp": dp, "schedule": schedule, "micro_batch": 1}
    layout["sharding"] = draw(st.sampled_from(("none", "zero1", "zero2", "zero3"))) if dp > 1 else "none"
    layout["offload"] = {"activations": draw(st.sampled_from((0.0, 1.0)))}
    layout["recompute"] = draw(st.sampled_from(("none", "full", "selective")))
    return {
        "version": 1,
        "model": {"layers": draw(st.integers(8, 13)), "hidden": 2048, "heads": 16, "ffn": 8192, "vocab": 128256},
        "training": {"sequence_length": 4096, "global_batch_sequences": count * dp, "precision": "bf16"},
        "layout": layout,
        "cluster": {"profile": "h100-sxm-80gb", "accelerators": 2 * pp * dp},
        "software": draw(st.sampled_from(("megatron-core", "torchtitan-eager", "megatron-2021"))),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(layouts())
def test_any_layout_has_a_trace_whose_totals_are_the_plans(spec: dict[str, Any]) -> None:
    one = plan(spec)
    for most in (200_000, 2_000):
        line = timeline(one, most)
        held(Reader(trace(line)), one)
        assert line.gap.drawn_s <= line.gap.replay_s * (1 + 1e-12)


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_a_trace_and_says_the_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trace.json"
    assert main(["timeline", str(EXAMPLES / LLAMA), "-o", str(out), "--ranks", "0,2-3", "--max-events", "20000"]) == 0
    seen = capsys.readouterr()
    assert seen.out == "" and "event replay" in seen.err and "wrote" in seen.err
    assert Reader(out.read_text()).ranks() == [0, 2, 3]
    assert main(["timeline", str(EXAMPLES / LLAMA), "--ranks", "0", "--max-events", "2000"]) == 0
    seen = capsys.readouterr()
    assert Reader(seen.out).ranks() == [0]


def test_an_infeasible_layout_is_written_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trace.json"
    set_ = "training.sequence_length=131072"
    assert main(["timeline", str(EXAMPLES / "llama-3-8b-fsdp.yaml"), "--set", set_, "-o", str(out)]) == 1
    assert "not feasible" in capsys.readouterr().err
    about = Reader(out.read_text()).about
    assert about["feasible"] is False and about["violations"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "trace.txt"], "ends in .json"), (["--ranks", "1-"], "is no rank"), (["--ranks", "4-2"], "no range"),
        (["--ranks", ""], "is no rank"), (["--ranks", "0,99"], "ranks 0 to 15"), (["--ranks", "9" * 5000], "is no rank"),
        (["--max-events", "100"], "do not fit"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timeline", str(EXAMPLES / LLAMA), *arguments]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and said in seen.err and "Traceback" not in seen.err
