"""Stage assignment: Megatron's documented layout string, published splits, the exact optimum, and bad strings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import SpecError
from codesign.spec.stages import Chunk, assign, parse_layout

DEEPSEEK_V3 = ["dense"] * 3 + ["moe"] * 58


def layers(stages):
    return [[chunk.layers for chunk in rank] for rank in stages.chunks]


def test_deepseek_v3_pp16_vpp2_table_of_the_megatron_guide():
    """'Custom Pipeline Model Parallel Layout': rank 0 has embedding and 3 decoders, then 2; ranks 1-13 2 and 2;
    rank 14 2 and the MTP layer; rank 15 2 and the loss."""
    stages = assign(DEEPSEEK_V3, 16, 2, layout="Et*3|(tt|)*29,m|L", mtp_layers=1)
    assert stages.source == "layout" and (stages.pp, stages.vpp) == (16, 2)
    assert stages.chunks[0] == (Chunk({"dense": 3}, 0, embedding=True), Chunk({"moe": 2}, 33))
    for rank in range(1, 14):
        assert stages.chunks[rank] == (Chunk({"moe": 2}, 1 + 2 * rank), Chunk({"moe": 2}, 33 + 2 * rank))
    assert stages.chunks[14] == (Chunk({"moe": 2}, 29), Chunk({}, 61, mtp=1))
    assert stages.chunks[15] == (Chunk({"moe": 2}, 31), Chunk({}, 61, head=True))
    assert stages.counts(0) == {"dense": 3, "moe": 2}
    assert [stages.embedding(r) for r in (0, 15)] == [True, False]
    assert [stages.head(r) for r in (0, 15)] == [False, True]
    assert [stages.mtp(r) for r in (0, 14, 15)] == [0, 1, 0]
    assert isinstance(hash(stages), int)


def test_llama3_405b_pp16_vpp8_drops_a_layer_at_both_ends():
    """Llama 3 (section 3.3.2): 126 layers, one fewer on the first and the last stage: 128 with embedding and head."""
    stages = assign(["dense"] * 126, 16, 8)
    assert stages.source == "balanced"
    assert [stages.counts(r)["dense"] for r in range(16)] == [7, *[8] * 14, 7]
    flat = stages.in_model_order()
    assert [c.layers for c in flat] == [0, *[1] * 126, 0]
    assert (flat[0].embedding, flat[-1].head) == (True, True)
    assert [c.first_layer for c in flat[1:-1]] == list(range(126))


def test_megatron_530b_even():
    stages = assign(["dense"] * 105, 35, 3)
    assert stages.source == "even"
    assert layers(stages) == [[1, 1, 1]] * 35
    assert stages.chunks[34][2].head and stages.chunks[0][0].embedding


def test_chunks_lie_rank_after_rank():
    stages = assign([f"k{i}" for i in range(8)], 2, 2)
    assert [list(c.counts) for c in stages.chunks[0]] == [["k0", "k1"], ["k4", "k5"]]
    assert [list(c.counts) for c in stages.chunks[1]] == [["k2", "k3"], ["k6", "k7"]]


def test_a_v_runs_back():
    stages = assign([f"k{i}" for i in range(8)], 2, 2, v_shaped=True)
    assert [list(c.counts) for c in stages.chunks[0]] == [["k0", "k1"], ["k6", "k7"]]
    assert [list(c.counts) for c in stages.chunks[1]] == [["k2", "k3"], ["k4", "k5"]]
    assert stages.embedding(0) and stages.head(0)
    assert [next(iter(c.counts)) for c in stages.in_model_order(v_shaped=True)] == ["k0", "k2", "k4", "k6"]


def test_first_and_last_counts_and_an_even_rest():
    assert layers(assign(DEEPSEEK_V3, 16, 1, first=3, last=2)) == [[3], *[[4]] * 14, [2]]
    assert layers(assign(DEEPSEEK_V3, 8, 1, last=5)) == [*[[8]] * 7, [5]]
    assert layers(assign(["dense"] * 30, 4, 2, first=6)) == [[3, 3], *[[4, 4]] * 3]
    assert layers(assign(["dense"] * 5, 2, 1, first=3, last=2)) == [[3], [2]]


def test_no_pipeline_holds_everything():
    stages = assign(["dense"] * 7, 1, 1, mtp_layers=2)
    assert stages.chunks == ((Chunk({"dense": 7}, 0, True, True, 2),),)


def test_balanced_counts_the_head_and_mtp_at_their_cost():
    assert layers(assign(["dense"] * 15, 4, 1, embedding_cost_layers=0.0, head_cost_layers=2.5)) == [[5], [4], [4], [2]]
    assert layers(assign(["dense"] * 15, 4, 1, embedding_cost_layers=0.0, head_cost_layers=0.0)) == [[4], [4], [4], [3]]
    # an MTP layer is a layer and a head: with the head 3 layers
    assert layers(assign(["dense"] * 15, 4, 1, mtp_layers=1)) == [[4], [5], [5], [1]]


costs = st.sampled_from([0.0, 0.5, 1.0, 1.7, 3.0, 9.0])


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 12), pp=st.integers(1, 4), embedding=costs, head=costs)
def test_balanced_is_the_optimum_of_all_assignments(n, pp, embedding, head):
    """By trying out every assignment: the loads of the ranks, slowest first, cannot be lower."""
    stages = assign(["dense"] * n, pp, 1, embedding_cost_layers=embedding, head_cost_layers=head)

    def loads(counts):
        extra = [0.0] * pp
        extra[0] += embedding
        extra[-1] += head
        return sorted((c + e for c, e in zip(counts, extra, strict=True)), reverse=True)

    mine = [rank[0].layers for rank in stages.chunks]
    assert sum(mine) == n
    if stages.source == "balanced":
        every = (c for c in itertools.product(range(n + 1), repeat=pp) if sum(c) == n)
        assert loads(mine) == pytest.approx(min(loads(c) for c in every))


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 130), pp=st.integers(1, 16), vpp=st.integers(1, 5), mtp=st.integers(0, 2), v=st.booleans())
def test_every_layer_is_somewhere_once_in_order(n, pp, vpp, mtp, v):
    vpp = 2 if v else vpp
    kinds = [f"k{i % 3}" for i in range(n)]
    stages = assign(kinds, pp, vpp, mtp_layers=mtp, v_shaped=v)
    flat = stages.in_model_order(v_shaped=v)
    at = 0
    for chunk in flat:
        assert chunk.first_layer == at
        assert sum(chunk.counts.values()) == chunk.layers
        assert {k: kinds[at : at + chunk.layers].count(k) for k in chunk.counts} == chunk.counts
        at += chunk.layers
    assert at == n
    assert [c.embedding for c in flat] == [True] + [False] * (pp * vpp - 1)
    assert [c.head for c in flat] == [False] * (pp * vpp - 1) + [True]
    assert sum(stages.mtp(r) for r in range(pp)) == flat[-1].mtp == mtp
    assert sum(sum(stages.counts(r).values()) for r in range(pp)) == n


@pytest.mark.parametrize(
    ("text", "pp", "vpp", "stages"),
    [
        ("EtL", 1, 1, ["EtL"]),
        ("Ett|ttL", 2, 1, ["Ett", "ttL"]),
        ("E,t*2|t*2,L", 2, 1, ["Ett", "ttL"]),
        ("E|(t|)*2L", 4, 1, ["E", "t", "t", "L"]),
        ("E(t*2|)*2,mL", 3, 1, ["Ett", "tt", "mL"]),  # a repetition inside a group
        ("Et(tt|t)*2L", 3, 1, ["Ettt", "ttt", "tL"]),  # a group that does not end at a stage
        ("Et|*3tL", 4, 1, ["Et", "", "", "tL"]),  # bars repeat too: empty stages
        ("Et*1,2L", 1, 1, ["E" + "t" * 12 + "L"]),  # commas mean nothing, not even inside a number
        ("Ett*0L", 1, 1, ["EtL"]),
        ("Et*2|(t*2|)*34,m|L", 37, 1, ["Ett", *["tt"] * 34, "m", "L"]),
    ],
)
def test_the_language_of_megatron(text, pp, vpp, stages):
    assert parse_layout(text, pp, vpp) == stages


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 1, "1 stages, but pp 2 * vpp 2 needs 4"),
        ("Et|t|tL", 8, "3 stages, but pp 2 * vpp 2 needs 4"),
        ("Et|t|t|t|tL", 9, "5 stages"),
        ("Et|x|t|tL", 4, "unknown character 'x'; allowed: E t m L"),
        ("Et|T|t|tL", 4, "unknown character 'T'"),
        ("Et| t|t|tL", 4, "unknown character ' '"),
        ("Et|2t|t|tL", 4, "unknown character '2'"),
        ("Et|t*|t|tL", 5, "'*' must be followed by a number"),
        ("Et|t*-2|t|tL", 5, "'*' must be followed by a number"),
        ("Et|t*2*3|t|tL", 7, "'*' must follow one character or a group"),
        ("*2Et|t|t|tL", 1, "'*' must follow"),
        ("Et|(t|)*2(t|tL", 10, "'(' is never closed"),
        ("Et|t|)*2tL", 6, "')' without '('"),
        ("Et|((t|)*2)*2L", 5, "groups do not nest"),
        ("Et|()*2|t|tL", 5, "an empty group"),
        ("Et|(t)|t|tL", 6, "a group must be followed by '*' and a number"),
        ("Et|t*999999999|t|tL", 5, "more than 100,000"),
        ("Et|t*99999999999999999999999|t|tL", 5, "more than 100,000"),
        ("tt|t|t|tL", 1, "no embedding 'E': it must come first"),
        ("tE|t|t|tL", 2, "the embedding 'E' must come first"),
        ("Et|E|t|tL", 4, "2 times embedding 'E'"),
        ("Et|t|t|t", 9, "no loss 'L': it must come last"),
        ("Et|t|t|Lt", 8, "the loss 'L' must come last"),
        ("Et|t|tL|tL", 10, "2 times loss 'L'"),
        ("Et|t|t|L", 9, "3 decoder layers 't', but the model has 4"),
        ("Et*2|t*2|t|L", 10, "5 decoder layers 't', but the model has 4"),
        ("Ett|t|t|mL", 9, "1 multi-token prediction layers 'm', but model.mtp_layers is 0"),
    ],
)
def test_bad_strings_are_refused_with_the_position(text, position, why):
    with pytest.raises(SpecError) as refused:
        assign(["dense"] * 4, 2, 2, layout=text)
    assert refused.value.field == "layout.stages"
    assert f"{text!r}, character {position}: " in str(refused.value)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "mtp", "position", "why"),
    [
        ("Ett|t|t|L", 1, 10, "0 multi-token prediction layers 'm', but model.mtp_layers is 1"),
        ("Ett|t|mt|L", 1, 8, "decoder layers must come before"),
        ("Ett|tt|m|mL", 2, 10, "must be on one stage"),
        ("Ett|ttm||L", 1, 7, "must be on the last chunk of their rank"),
    ],
)
def test_bad_places_of_mtp_layers(text, mtp, position, why):
    with pytest.raises(SpecError, match=rf"character {position}: .*{why}"):
        assign(["dense"] * 4, 2, 2, layout=text, mtp_layers=mtp)


@pytest.mark.parametrize(
    ("options", "field", "why"),
    [
        ({"first": 3, "last": 2, "pp": 5}, "layout.first_stage_layers", "other 25 layers are not divisible"),
        ({"last": 2, "pp": 4}, "layout.last_stage_layers", "try counts that leave 27 or 30"),
        ({"first": 31, "pp": 4}, "layout.first_stage_layers", "do not add up"),
        ({"first": 10, "last": 10, "pp": 2}, "layout.first_stage_layers", "do not add up"),
        ({"first": 3, "pp": 4, "vpp": 2}, "layout.first_stage_layers", "3 layers of rank 0 are not divisible by vpp 2"),
        ({"first": 30, "pp": 1}, "layout.first_stage_layers", "leave it out"),
        ({"first": 3, "pp": 4, "vpp": 2, "v_shaped": True}, "layout.first_stage_layers", "first rank is also the last"),
        ({"first": 3, "layout": "EtL", "pp": 1}, "layout.stages", "first_stage_layers cannot be set beside"),
        ({"pp": 4, "vpp": 1, "v_shaped": True}, "layout.vpp", "vpp must be 2"),
        ({"pp": 0}, "layout.pp", "at least 1"),
    ],
)
def test_impossible_counts_say_what_to_try(options, field, why):
    pp, vpp = options.pop("pp"), options.pop("vpp", 1)
    with pytest.raises(SpecError) as refused:
        assign(["dense"] * 30, pp, vpp, **options)
    assert refused.value.field == field
    assert why in str(refused.value)
