"""What a space holds: choices, limits, divisions, refusals."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from codesign.errors import SpecError
from codesign.search import run
from codesign.search.result import Result
from codesign.search.space import Space, of
from codesign.spec import domains, load
from codesign.spec.datafiles import root

SPEC: dict[str, Any] = {
    "version": 1,
    "model": {"preset": "llama-3-8b", "layers": 8},
    "training": {"sequence_length": 4096, "global_batch_sequences": 64},
    "layout": {"tp": [1, 2], "pp": 2, "micro_batch": [1, 2], "recompute": "none", "schedule": "1f1b", "sharding": "zero1",
               "order": ["tp", "cp", "ep", "dp", "pp"], "cp": 1, "stages": "default", "offload": {}, "sequence_parallel": True},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 32},
    "software": "megatron-core",
}  # fmt: skip


def _with(**fields: Any) -> dict[str, Any]:
    made = {name: dict(value) if isinstance(value, dict) else value for name, value in SPEC.items()}
    for path, value in fields.items():
        section, _, name = path.partition("__")
        if name:
            made.setdefault(section, {})[name] = value
        else:
            made[section] = value
    return made


def _space(**fields: Any) -> Space:
    return of(domains.load(_with(**fields)))


def _values(space: Space, name: str) -> set[Any]:
    return {space.layout(index).get(name) for index in range(space.size)}


def test_a_field_may_be_fixed_listed_ranged_or_left_out() -> None:
    space = _space()
    assert _values(space, "layout.tp") == {1, 2}
    assert _values(space, "layout.pp") == {2}
    assert _values(space, "layout.dp") == {8, 16}
    assert _values(_space(layout__tp={"from": 1, "to": 8, "times": 2}), "layout.tp") == {1, 2, 4, 8}
    assert _values(_space(layout__tp={"from": 1, "to": 8, "step": 3}), "layout.tp") == {1, 4}
    layout = dict(SPEC["layout"])
    del layout["tp"]
    assert _values(_space(layout=layout), "layout.tp") == {1, 2, 4, 8}


def test_a_left_out_field_is_tried_as_the_stack_allows() -> None:
    space = of(domains.load(_with(layout={})))
    assert space.searched["schedule"] == ("1f1b", "interleaved")
    assert space.searched["sharding"] == ("none", "zero1")
    assert space.searched["pp"] == (1, 2, 4, 8)
    assert of(domains.load(_with(layout={}, software="fsdp1"))).searched["tp"] == (1,)


@pytest.mark.parametrize(
    ("layout", "is_open"),
    [({}, False), ({"tp": [1, 2]}, True), ({"stages": "balanced"}, True), ({"stages": "default"}, True),
     ({"stages": "Et*4|t*4L"}, False), ({"recompute": {"granularity": "full", "fraction": "any"}}, True),
     ({"recompute": {"granularity": "full", "fraction": 0.5}}, False)],
)  # fmt: skip
def test_an_open_layout_is_one_that_only_a_search_reads(layout: dict[str, Any], is_open: bool) -> None:
    document = _with(layout={"tp": 2, "pp": 2, "micro_batch": 1, **layout})
    assert domains.load(document).is_open is is_open
    if not is_open:
        load.load(document)


def test_free_takes_back_what_is_written() -> None:
    opened = domains.load(_with(), free=["layout.tp"])
    assert "tp" not in opened.domains and "pp" in opened.domains
    assert not domains.load(_with(), free=["all"]).domains
    with pytest.raises(SpecError, match="layout has no field 'pipelines'"):
        domains.load(_with(), free=["all", "pipelines"])
    assert "tp" not in domains.load(_with(layout__tp=None)).domains  # as a resolved spec writes what is not stated
    with pytest.raises(SpecError, match=r"--free pipelines: layout has no field 'pipelines'"):
        domains.load(_with(), free=["pipelines"])


def test_recompute_counts_whole_layers_of_a_chunk() -> None:
    recompute = {"granularity": "full", "fraction": "any"}
    space = _space(layout__recompute=recompute, layout__vpp=[1, 2], layout__schedule=["1f1b", "interleaved"])
    shares = {(f["layout.vpp"], f["layout.recompute"]["fraction"]) for f in map(space.layout, range(space.size))}
    assert shares == {(1, 0.25), (1, 0.5), (1, 0.75), (1, 1.0), (2, 0.5), (2, 1.0)}


def test_candidates_that_do_not_divide_are_left_out_with_their_reason() -> None:
    space = _space(layout__tp=[1, 3, 5], layout__micro_batch=[1, 3])
    assert dict(space.excluded) == {"ranks": 4, "batch": 1}
    assert _space(training__global_batch_sequences=[64, 65], layout__tp=2, layout__micro_batch=1).excluded == {
        "batch": 1
    }


def test_bad_nodes_and_idle_accelerators_change_how_many_work() -> None:
    assert _values(_space(search={"bad_nodes": 1}, training__global_batch_sequences=48), "cluster.accelerators") == {24}
    space = _space(cluster__accelerators=33, search={"idle_accelerators": 1})
    assert _values(space, "cluster.accelerators") == {32}
    assert _space(cluster__accelerators=33).size == 0
    space = _space(search={"idle_accelerators": 16})
    assert _values(space, "cluster.accelerators") == {32, 16}


def test_power_bounds_the_accelerators() -> None:
    assert _space(search={"power": "22 kW"}).size == 0  # feeds 31 of 32, whole nodes are 24: 64 sequences do not divide
    space = _space(search={"power": "22 kW", "idle_accelerators": 7}, training__global_batch_sequences=48)
    assert _values(space, "cluster.accelerators") == {24}
    assert _values(_space(search={"power": "11.5 kW", "idle_accelerators": 1}), "cluster.accelerators") == {16}


def test_racks_that_are_partly_there_bound_what_they_give_together() -> None:
    layout = {**SPEC["layout"], "tp": [4], "micro_batch": 1}
    cluster = {"profile": "gb200-nvl72", "accelerators": 144}
    racks = [{"accelerators": 72, "count": 1}, {"accelerators": 64, "count": 1}]
    found = _space(layout=layout, cluster=cluster, search={"racks": racks, "idle_accelerators": 16})
    fields = map(found.layout, range(found.size))
    assert {(f["cluster.accelerators"], f["cluster.override"]["scale_up.domain"]) for f in fields} == {
        (128, 8), (128, 16), (128, 32), (128, 64),
    }  # fmt: skip


@pytest.mark.parametrize("profile, stack", [("tpu-v7", "maxtext"), ("trainium1", "neuron")])
def test_racks_of_accelerators_with_two_ranks_are_those_of_the_plan(profile: str, stack: str) -> None:
    layout = {"tp": [1, 2, 4], "pp": 1, "micro_batch": [1, 2]}
    space = _space(layout=layout, cluster={"profile": profile, "accelerators": 32}, software=stack,
                   search={"racks": [{"accelerators": 4, "count": 4}], "best": 100, "objectives": ["step_s"]})  # fmt: skip
    result = Result(space, run.search(space))
    assert result.best and {c.fields["cluster.override"]["scale_up.domain"] for c in result.best} == {4.0}
    for candidate in result.best:
        assert candidate.plan.value("scale_up_ranks") == 8.0
        assert candidate.plan.step_s == candidate.objectives[0]


def test_balanced_stages_that_are_the_own_ones_of_the_stack_are_searched_once() -> None:
    model = {"preset": "llama-3-8b", "layers": 8, "vocab": 128}  # a head that costs next to nothing
    for stages in ("balanced", ["default", "balanced"]):
        space = _space(model=model, layout__stages=stages, layout__tp=2, layout__micro_batch=1)
        assert [space.layout(index).get("layout.stages") for index in range(space.size)] == [None]


def test_orders_that_place_a_layout_alike_are_searched_once() -> None:
    orders = [["tp", "cp", "ep", "dp", "pp"], ["tp", "cp", "ep", "pp", "dp"]]
    one = {"layout__tp": 2, "layout__micro_batch": 1, "layout__order": orders}
    assert _values(_space(**one), "layout.order") == {tuple(order) for order in orders}
    assert _values(_space(**one, layout__pp=1), "layout.order") == {tuple(orders[0])}
    single = _space(**one, cluster__accelerators=4)  # dp 1
    assert _values(single, "layout.order") == {tuple(orders[0])}


def test_prefetch_is_searched_where_parameters_are_sharded() -> None:
    space = _space(layout__prefetch=[True, False], layout__sharding=["zero1", "zero3"], layout__reshard_after_forward=True)
    found = {(f["layout.sharding"], f.get("layout.prefetch")) for f in map(space.layout, range(space.size))}
    assert found == {("zero1", None), ("zero3", True), ("zero3", False)}


def test_recompute_counts_layers_of_the_largest_chunk_of_uneven_stages() -> None:
    recompute = {"granularity": "full", "fraction": "any"}
    layout = {**SPEC["layout"], "first_stage_layers": 2, "recompute": recompute, "tp": 1, "sequence_parallel": False}
    del layout["stages"]
    space = _space(layout=layout)
    shares = {f["layout.recompute"]["fraction"] for f in map(space.layout, range(space.size))}
    assert shares == {n / 6 for n in range(1, 7)}


def test_what_the_software_section_says_counts_where_recompute_is_left_out() -> None:
    layout = {name: value for name, value in SPEC["layout"].items() if name != "recompute"}
    own = _space(layout=layout).searched["recompute"]
    unfused = _space(layout=layout, software={"stack": "megatron-core", "attention_kernel": "unfused"}).searched["recompute"]
    modules = {module for one in unfused for module in getattr(one, "modules", ())}
    assert "core_attn" in modules and len(unfused) > len(own)


def test_every_field_of_the_search_section_changes_the_answer() -> None:
    base = {"objectives": ["step_s", "memory"], "best": 10, "within": 0.03}
    before = _answer(base)
    for change in (
        {"objectives": ["memory", "step_s"]}, {"best": 1}, {"within": 0.0}, {"memory_margin": "60 GiB"},
        {"idle_accelerators": 16}, {"bad_nodes": 2}, {"power": "11.5 kW"}, {"price_per_hour": 2.5},
        {"racks": [{"accelerators": 8, "count": 2}]},
    ):  # fmt: skip
        assert _answer({**base, **change}) != before, change


def _answer(search: dict[str, Any]) -> dict[str, Any]:
    space = _space(search=search)
    data = Result(space, run.search(space)).to_dict()
    del data["manifest"], data["within"]
    return data


def test_a_plan_says_that_it_does_not_read_the_search_section() -> None:
    from codesign import plan

    layout = {"tp": 2, "pp": 2, "micro_batch": 1}
    notes = plan(_with(layout=layout, search={"best": 3})).problem.notes
    assert any(note.startswith("search has no effect here") for note in notes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout__tp": []}, "layout.tp is an empty list"),
        ({"layout__tp": {"from": 8, "to": 2}}, "layout.tp: the range from 8 to 2 is empty"),
        ({"layout__tp": {"from": 1}}, "layout.tp: the range needs 'to'"),
        ({"layout__tp": {"from": 1, "to": 8, "step": 1, "times": 2}}, "step and times are both given"),
        ({"layout__tp": {"from": 1, "to": 8, "times": 1}}, "never ends"),
        ({"layout__tp": {"from": 1, "to": 8, "by": 1}}, "a range has the fields from, to, step and times, not 'by'"),
        ({"layout__tp": {"from": 0, "to": 8}}, "layout.tp.from must be a whole number from 1, not 0"),
        ({"layout__dp": {"from": 1, "to": 10**9}}, "more than 100,000 values"),
        ({"layout__schedule": {"from": 1, "to": 2}}, "layout.schedule takes one value or a list, not a range"),
        ({"layout__tp": [1, "two"]}, "layout.tp must be a whole number"),
        ({"layout__tp": [1, 0]}, "layout.tp must be a whole number"),
        ({"layout__sharding": ["zero1", "zero4"]}, "layout.sharding must be one of"),
        ({"layout__tpp": 1}, "unknown field 'tpp' in layout. Did you mean 'tp'?"),
        ({"layout": 3}, "layout must be a section with fields, not 3"),
        ({"layout__recompute": {"granularity": "selective", "fraction": "any"}}, "fraction any counts layers"),
        ({"layout__recompute": {"granularity": "full", "fraction": []}}, "is an empty list"),
        ({"training__global_batch_sequences": []}, "is an empty list"),
        ({"training__global_batch_sequences": [64, -1]}, "must be a whole number from 1, not -1"),
        ({"search": {"objectives": []}}, "search.objectives"),
        ({"search": {"objectives": ["speed"]}}, "search.objectives.0 must be one of"),
        ({"search": {"best": 0}}, "search.best must be a whole number from 1 to 10,000"),
        ({"search": {"memory_margin": 4}}, "search.memory_margin: 4 has no unit"),
        ({"search": {"bad_nodes": 4}}, "4 bad nodes of 8 accelerators leave none of 32"),
        ({"search": {"idle_accelerators": 32}}, "is all of the 32 accelerators"),
        ({"search": {"power": "100 W"}}, "do not feed one accelerator of 700 W"),
        ({"search": {"racks": [{"accelerators": 16, "count": 1}]}}, "joins 8 in one scale-up domain"),
        ({"search": {"racks": [{"accelerators": 8, "count": 5}]}}, "the racks hold 40 accelerators, the cluster has 32"),
        ({"layout__ep": [2, 4]}, "layout.ep: the model is dense, it has no experts"),
        ({"layout__cp_style": "ring"}, "layout.cp_style has no effect with cp 1"),
        ({"layout__sharding_group": 4}, "layout.sharding_group is the shard group of hsdp"),
        ({"layout__reshard_after_forward": True}, "layout.reshard_after_forward has no effect without"),
        ({"layout__schedule": "none"}, "layout.schedule none is for pp 1 only"),
        ({"layout__pp": 1, "layout__vpp": 2}, "layout.vpp 2 needs a pipeline, and pp is 1"),
        ({"layout__vpp": 2}, "layout.vpp and layout.schedule exclude each other: 1f1b has one stage on every rank"),
        ({"layout__etp": 1}, "layout.etp: the model is dense, it has no experts"),
        ({"layout__prefetch": [True, False]}, "layout.prefetch has no effect without layout.sharding zero3 or hsdp"),
        ({"layout__tp": 1}, "layout.sequence_parallel true has no effect with tp 1"),
        ({"layout__recompute": {"granularity": "selective", "modules": ["moe"]}}, "moe has no effect in a dense model"),
        ({"layout__recompute": {"granularity": "none", "fraction": 0.5}}, "has no effect with granularity none"),
        ({"layout__stages": "Ett|ttL"}, "character 8: 4 decoder layers 't', but the model has 8"),
        ({"layout__micro_batch": 0.3}, "layout.micro_batch 0.3: a search takes whole sequences and binary fractions"),
        ({"layout__micro_batch": 1e-9}, "layout.micro_batch 1e-09: a search takes whole sequences and binary fractions"),
        ({"search": {"objectives": ["step_s", "step_s"]}}, "search.objectives has a name twice"),
        ({"training__precision": "nvfp4"}, "h100-sxm-80gb has no fp4 matrix rate, which precision nvfp4 needs"),
        ({"layout__order": [["tp", "tp", "ep", "dp", "pp"]]}, "layout.order must name each of tp, cp, ep, dp, pp once"),
        ({"cluster__profile": "h1000"}, "h1000"),
        ({"software": "megatron-cor"}, "Did you mean 'megatron-core'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        _space(**fields)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_refusal_has_its_place(tmp_path: Path) -> None:
    text = (root("examples") / "search" / "llama-3.1-405b.yaml").read_text()
    file = tmp_path / "open.yaml"
    file.write_text(text.replace("cp: [1, 2]", "cp: [1, two]"))
    with pytest.raises(SpecError) as caught:
        domains.load(file)
    assert caught.value.place is not None and (caught.value.place.line, caught.value.place.column) == (13, 11)
    file.write_text(text.replace("times: 2", "time: 2"))
    with pytest.raises(SpecError) as caught:
        domains.load(file)
    assert caught.value.place is not None and caught.value.place.line == 12
    file.write_text(text.replace("  memory_margin: 2 GiB", "  bad_nodes: 100000"))
    with pytest.raises(SpecError) as caught:
        of(domains.load(file))
    assert caught.value.place is not None and caught.value.place.line == 26


def test_a_plan_of_an_open_layout_points_to_the_search() -> None:
    with pytest.raises(SpecError, match="A list is for `codesign search`"):
        load.load(root("examples") / "search" / "llama-3.1-405b.yaml")


def test_a_space_too_large_is_refused_with_its_size_and_how_to_narrow() -> None:
    wide = {name: {"from": 1, "to": 60_000} for name in ("tp", "cp")}
    with pytest.raises(
        SpecError, match=r"combinations of degrees for pp 2 alone, more than 5,000,000 can be held: list or fix"
    ):
        _space(layout={**SPEC["layout"], **wide})
    orders = [list(order) for order in itertools.permutations(("tp", "cp", "ep", "dp", "pp"))]
    modules = ["layernorm", "mlp", "core_attn", "qkv", "attn_out", "mlp_act", "ffn_up", "ffn_down"]
    sets = [{"granularity": "selective", "modules": some} for n in (3, 4, 5) for some in itertools.combinations(modules, n)]
    with pytest.raises(SpecError, match=r"placement, more than 2,000,000 can be held: .* most values have (recompute|order) \("):
        of(domains.load(_with(layout={"order": orders, "recompute": sets})))
    from codesign.search import table

    space = _space(layout__recompute={"granularity": "full", "fraction": [n / 10**4 for n in range(1, 10**4)]})
    table.MOST_ROWS, kept = 1000, table.MOST_ROWS
    try:
        with pytest.raises(SpecError, match=r"candidates are too many to hold, at most 1,000: fix or list some of"):
            table.every(space)
    finally:
        table.MOST_ROWS = kept


def test_the_shipped_search_finds_the_layout_of_the_paper_near_the_best() -> None:
    space = of(domains.load(root("examples") / "search" / "llama-3.1-405b.yaml"))
    result = Result(space, run.search(space))
    kinds = {(c.layout["tp"], c.layout["pp"], c.layout["cp"]) for c in result.alternatives}
    assert (8, 16, 1) in kinds
    assert result.tally["feasible"] + sum(result.tally["rejected"].values()) == result.tally["candidates"] == space.size
    assert all(c.plan.value("memory_B") - c.plan.value("peak_B") >= 2 * 2**30 for c in result.best)
