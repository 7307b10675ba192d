"""Shapes hold what they are said to hold, are counted as published, and are ranked as a loop over plans ranks them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import yaml

from codesign import load_spec, plan
from codesign.cli import main
from codesign.errors import Infeasible, SpecError
from codesign.quantities.parameters import count_parameters
from codesign.search import predicted_loss, shape_space, shapes
from codesign.search.counterfactual import Case, with_field
from codesign.search.lint import lint
from codesign.search.shapes import Own, own_layout, rank_shapes
from codesign.spec import datafiles, presets, resolve, schema

EXAMPLES = datafiles.root("examples")
LLAMA = EXAMPLES / "llama-3.1-405b-h100.yaml"
SMALL: dict[str, Any] = {
    "version": 1,
    "model": {"layers": 24, "hidden": 2048, "heads": 16, "kv_heads": 4, "ffn": 8192, "vocab": 32000},
    "training": {"sequence_length": 2048, "global_batch_sequences": 256, "precision": "bf16", "tokens": 40e9},
    "layout": {"tp": 1, "pp": 1, "micro_batch": 4, "sharding": "zero1"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 8},
    "software": "megatron-core",
}
MOE = {"layers": 16, "hidden": 2048, "heads": 16, "vocab": 50304, "moe": {"experts": 64, "top_k": 8, "expert_ffn": 1024}}
AXES = {"hidden": (1536, 2048, 2560, 3072), "layers": (12, 18, 24, 36)}


def small(**changes: Any) -> schema.Spec:
    data = {name: {**value, **changes.get(name, {})} if isinstance(value, dict) else value for name, value in SMALL.items()}
    return load_spec(data)


def moe() -> schema.Spec:
    return load_spec({**SMALL, "model": MOE, "layout": {**SMALL["layout"], "ep": 8}})


# ---------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("name", [name for name in presets.names() if presets.describe(name)["published_parameters"]["total"]])
def test_parameters_are_the_published_ones(name: str):
    published = presets.describe(name)["published_parameters"]["total"]
    model = schema.Model.model_validate(presets.load(name))
    assert shape_space.count(small(), model, "parameters") - count_parameters(model).mtp == published


def test_flops_a_token_are_those_of_the_plan_whatever_its_layout():
    """405B: 2,473 GFLOP a token by the exact count (DeepSeek-V3 hardware paper prints 2,448, arXiv 2505.09343)."""
    spec = load_spec(LLAMA)
    found = shape_space.token_model_FLOP(spec, spec.model)
    assert found == plan(LLAMA).value("token_model_FLOP")
    short = with_field(spec, "training.sequence_length", 4096)
    assert shape_space.token_model_FLOP(short, spec.model) == pytest.approx(2473e9, rel=0.01)


@pytest.mark.parametrize("equal", ["parameters", "active_parameters", "training_flops"])
@pytest.mark.parametrize("free", ["ffn", "layers"])
def test_the_constraint_holds_to_the_tolerance(equal: str, free: str):
    axes = {"hidden": AXES["hidden"], "head_dim": (64, 128)} | ({"layers": AXES["layers"]} if free == "ffn" else {})
    found = rank_shapes(small(), axes, equal, free=free, lint_best=0)
    target = shape_space.count(small(), small().model, equal)
    assert len(found.rows) > 3
    for row in found.rows:
        held = {"parameters": row.parameters, "active_parameters": row.active_parameters}.get(equal, row.token_FLOP)
        assert abs(held / target - 1) <= 0.02
        assert row.ffn % 64 == 0
    assert found.candidates == math.prod(map(len, axes.values()))
    assert sum(found.rejected.values()) + sum(not row.is_base for row in found.rows) == found.candidates


def test_mixtures_hold_their_active_parameters_by_the_width_of_the_experts():
    found = rank_shapes(moe(), {"experts": (32, 64, 128), "top_k": (2, 4, 8, 16)}, "active_parameters", lint_best=0)
    target = count_parameters(moe().model).active_with_embeddings
    assert found.free == "expert_ffn" and len(found.rows) >= 6
    assert all(abs(row.active_parameters / target - 1) <= 0.02 and row.expert_ffn % 64 == 0 for row in found.rows)


def test_solved_widths_against_every_multiple_of_64():
    """Where a width is found it is the nearest of the coarsest unit that holds; where none is, no multiple of 64 holds."""
    spec, tolerance, none, coarsest = small(), 0.004, 0, set()
    target = shape_space.count(spec, spec.model, "parameters")
    for shape in shape_space.shapes(spec, AXES, "parameters", "ffn", tolerance):
        hidden = shape.dims["hidden"]
        bare = spec.model.model_copy(update={**shape.dims, "heads": hidden // 128, "kv_heads": 4, "head_dim": 128})

        def off(width: int, bare: schema.Model = bare) -> float:
            return abs(count_parameters(bare.model_copy(update={"ffn": width})).total / target - 1)

        widths = [width for width in range(64, 16 * hidden + 1, 64) if 0.5 * hidden <= width and off(width) <= tolerance]
        if shape.model is None:
            assert not widths and "no ffn holds parameters within 0.4 %" in shape.reason
            none += 1
            continue
        found = shape.model.ffn
        unit = max(unit for unit in shape_space.ROUND_TO if any(width % unit == 0 for width in widths))
        assert found % unit == 0 and off(found) == min(off(width) for width in widths if width % unit == 0)
        coarsest.add(unit)
    assert none >= 2 and len(coarsest) >= 2


# ---------------------------------------------------------------------------------------------------- following


def test_dimensions_that_are_no_axis_follow():
    model = next(shape_space.shapes(small(), {"hidden": (4096,)}, "loss", None, 0.02)).model
    assert (model.heads, model.head_dim, model.kv_heads, model.ffn) == (32, 128, 4, 16384)
    model = next(shape_space.shapes(small(), {"heads": (32,)}, "loss", None, 0.02)).model
    assert (model.heads, model.head_dim) == (32, 64)
    model = next(shape_space.shapes(small(model={"kv_heads": 8}), {"hidden": (1536,)}, "loss", None, 0.02)).model
    assert (model.heads, model.kv_heads, model.ffn) == (12, 6, 6144)  # 8 do not divide 12: two heads share one, as before
    model = next(shape_space.shapes(moe(), {"hidden": (3072,)}, "loss", None, 0.02)).model
    assert (model.heads, model.kv_heads, model.moe.expert_ffn) == (24, 24, 1536)


def test_combinations_that_make_no_model_are_tallied_with_their_reason():
    found = rank_shapes(small(), {"hidden": (2048, 2304, 2100), "kv_heads": (4, 5)}, "loss", lint_best=0)
    assert found.rejected["the KV heads do not divide the heads"] >= 2
    assert found.rejected["no whole number of heads, or no whole head size"] == 2
    assert found.rejected["the base itself"] == 1


def test_padding_the_vocabulary_costs_time_and_teaches_nothing():
    spec = small(model={"vocab": 32000})
    found = rank_shapes(spec, {"vocab": (32000, 32768)}, "loss", lint_best=0)
    padded = next(row for row in found.rows if row.vocab == 32768)
    assert padded.tokens_ratio == pytest.approx(1.0, rel=1e-3) and padded.tokens_ratio_size_only == pytest.approx(1.0)
    assert padded.tokens_per_s < found.base.tokens_per_s


# ---------------------------------------------------------------------------------------------------- loss


def test_loss_laws_against_their_published_optimum():
    """Tokens a parameter at 5.76e23 FLOP: 18.4 (Besiroglu 2024), 59.1 (Hoffmann 2022, TeX digits)."""
    for name, published in (("besiroglu", 18.4), ("hoffmann", 59.1)):
        law, compute = predicted_loss.law_of(name), 5.76e23
        ratios = [10 ** (step / 1000) for step in range(500, 2500)]
        losses = [predicted_loss.loss((compute / 6 / r) ** 0.5, (compute * r / 6) ** 0.5, law) for r in ratios]
        assert ratios[losses.index(min(losses))] == pytest.approx(published, rel=0.01)


def test_tokens_for_a_loss_reach_it():
    law = predicted_loss.law_of("besiroglu")
    tokens = predicted_loss.tokens_for(2.0, 70e9, law)
    assert predicted_loss.loss(70e9, tokens, law) == pytest.approx(2.0, rel=1e-12)
    assert predicted_loss.tokens_for(1.8, 70e9, law) == math.inf  # below the floor


def test_equal_loss_is_equal():
    spec = small()
    found = rank_shapes(spec, AXES, "loss", lint_best=0)
    assert len(found.rows) > 6
    for row in found.rows:
        assert row.predicted_loss == pytest.approx(found.base.predicted_loss, rel=1e-12)
        assert row.days == row.days_at_equal_loss == pytest.approx(row.tokens / row.tokens_per_s / 86400)
        assert row.tokens_ratio_low <= row.tokens_ratio <= row.tokens_ratio_high


def test_wall_clock_gives_every_shape_the_same_days():
    found = rank_shapes(small(), AXES, "wall_clock", lint_best=0)
    assert all(row.days == pytest.approx(found.base.days, rel=1e-12) for row in found.rows)
    losses = [row.predicted_loss for row in found.rows]
    assert losses == sorted(losses) and len(losses) > 6
    law = predicted_loss.law_of("besiroglu")
    best = found.rows[0]
    assert best.predicted_loss == predicted_loss.loss(best.parameters * best.shape_share, best.tokens, law)


def test_a_sparser_mixture_saves_what_kimi_k2_prints():
    """1.15 times the FLOPs at sparsity 32 against 48, 1.69 at 8 (arXiv 2507.20534); same active parameters."""
    base = moe().model
    mix = [base.model_copy(update={"moe": base.moe.model_copy(update={"experts": n})}) for n in (64, 256, 384)]
    assert predicted_loss.token_gain(mix[2], mix[1]) == pytest.approx(1.15)
    assert predicted_loss.token_gain(mix[2], mix[0]) == pytest.approx(1.69)
    assert predicted_loss.token_gain(mix[0], mix[0]) == 1.0


def test_no_loss_is_claimed_without_a_law():
    dense, mixture = small().model, moe().model
    assert "dense model with that of a mixture" in predicted_loss.not_comparable(dense, mixture)
    found = rank_shapes(moe(), {"top_k": (1, 4)}, "loss", lint_best=0)
    unknown = next(row for row in found.rows if row.top_k == 1)  # sparsity 64
    assert unknown.predicted_loss is unknown.tokens is unknown.days_at_equal_loss is None
    assert "from 8 to 48" in unknown.no_loss and any("from 8 to 48" in note for note in found.notes)
    assert found.rows[-1] is unknown


def test_without_tokens_shapes_rank_by_rate():
    spec = small(training={"tokens": None})
    found = rank_shapes(spec, AXES, "parameters", lint_best=0)
    rates = [row.tokens_per_s for row in found.rows]
    assert rates == sorted(rates, reverse=True) and all(row.days is None for row in found.rows)
    assert "ranked by tokens a second" in found.notes[0]


# ---------------------------------------------------------------------------------------------------- ranking


def test_ranking_is_that_of_a_loop_over_plans():
    """Every shape by hand: its plan, the tokens to the base's loss, the days; the same order and the same bits."""
    spec, law = small(), predicted_loss.law_of("besiroglu")
    found = rank_shapes(spec, AXES, "training_flops", lint_best=0)
    target = predicted_loss.loss(count_parameters(spec.model).total, 40e9, law)
    shares = predicted_loss.shape_shares(spec.model)
    days = {}
    for hidden, layers in itertools.product(*AXES.values()):
        for shape in shape_space.shapes(spec, {"hidden": (hidden,), "layers": (layers,)}, "training_flops", "ffn", 0.02):
            if shape.model is None:
                continue
            made = plan(spec.model_copy(update={"model": shape.model}))
            if not made.feasible:
                continue
            own = predicted_loss.shape_shares(shape.model)
            share = sorted(own[source] / shares[source] for source in own)[2]
            tokens = predicted_loss.tokens_for(target, count_parameters(shape.model).total * share, law)
            days[hidden, layers] = tokens / made.value("job_tokens_per_s") / 86400
    ranked = [((row.hidden, row.layers), row.days_at_equal_loss) for row in found.rows]
    assert dict(ranked) == days and [key for key, _ in ranked] == sorted(days, key=lambda key: days[key])
    row = found.rows[0]
    assert row.effective_tokens_per_s == pytest.approx(40e9 / (row.days_at_equal_loss * 86400), rel=1e-12)


def test_each_shape_has_its_own_best_layout():
    """A search over two layouts: the choice differs between shapes, and the row is the plan of that choice."""
    asked = []

    def best(spec: schema.Spec) -> Own | None:
        asked.append((spec.model.hidden, spec.model.layers))
        found = []
        for tp, micro_batch in ((1, 4), (2, 2)):
            case = Case(resolve.resolve(with_field(with_field(spec, "layout.tp", tp), "layout.micro_batch", micro_batch)))
            if case.feasible and (tp == 2 or spec.model.hidden < 2560):
                found.append(Own(case.step_s, case.scalar("job_tokens_per_s"), {"tp": tp, "micro_batch": micro_batch}))
        return min(found, key=lambda choice: choice.step_s, default=None)

    found = rank_shapes(small(), AXES, "parameters", best, lint_best=2)
    assert {row.layout["tp"] for row in found.rows} == {1, 2}
    for row in found.rows:
        model = small().model.model_copy(
            update={name: getattr(row, name) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn")}
        )
        spec = small().model_copy(update={"model": model})
        made = plan(with_field(with_field(spec, "layout.tp", row.layout["tp"]), "layout.micro_batch", row.layout["micro_batch"]))
        assert (row.step_s, row.mfu) == (made.step_s, pytest.approx(made.value("mfu"), rel=1e-12))
    first = found.rows[0]
    assert first.findings is not None and found.rows[2].findings is None
    assert len(asked) == len(set(asked)) == len(found.rows) + found.rejected.get(shapes.NO_LAYOUT, 0)


def test_findings_are_those_of_lint():
    found = rank_shapes(small(model={"vocab": 32003}), {"layers": (20, 24)}, "loss", lint_best=9)
    base = found.base
    assert base.findings == lint(small(model={"vocab": 32003}))
    assert base.waste_share == pytest.approx(sum(f.cost_s for f in base.findings) / base.step_s) and base.waste_share > 0


def test_a_shape_without_a_feasible_layout_is_tallied():
    found = rank_shapes(small(), {"hidden": (2048, 16384)}, "loss", lint_best=0)
    assert found.rejected[shapes.NO_LAYOUT] == 1
    assert own_layout(small(model={"hidden": 16384, "head_dim": 128})) is None


def test_tables_carry_the_rows():
    found = rank_shapes(small(), AXES, "parameters", lint_best=1)
    frame, data = found.frame, found.to_dict()
    assert list(frame["layers"]) == [row.layers for row in found.rows] == [row["layers"] for row in data["shapes"]]
    assert data["axes"] == {"hidden": list(AXES["hidden"]), "layers": list(AXES["layers"])}
    assert frame["days_at_equal_loss"].is_monotonic_increasing


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("text", "message"), [
    ("hidden", "write NAME=FIRST:LAST:STEP"),
    ("hidden=", "write NAME=FIRST:LAST:STEP"),
    ("hidden=8:4", "the range is empty"),
    ("hidden=4:8:0", "the range is empty"),
    ("hidden=4:8:1:2", "is no range"),
    ("hidden=a", "is no whole number"),
    ("hidden=1.5", "is no whole number"),
    ("hidden=nan", "is no whole number"),
    ("hidden=0:8", "below 1"),
    ("hidden=-4", "below 1"),
    ("hiden=4", "Did you mean 'hidden'"),
    ("hidden=1:1e9", "take a larger step"),
])
def test_a_wrong_axis_is_one_message(text: str, message: str):
    with pytest.raises(SpecError, match=message):
        shape_space.parse_axis(text)


def test_axes_are_read_with_both_ends_and_without_doubles():
    assert shape_space.parse_axis("hidden=8192:10240:1024") == ("hidden", (8192, 9216, 10240))
    assert shape_space.parse_axis(" layers = 3,1,2:3 ") == ("layers", (1, 2, 3))
    assert shape_space.parse_axis("hidden=8_192,1e4") == ("hidden", (8192, 10000))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"axes": {}}, "no axis"),
    ({"axes": {"experts": [8]}}, "is dense"),
    ({"axes": {"hidden": []}}, "no value"),
    ({"axes": {"vocab": [100]}}, "another tokenizer"),
    ({"axes": {"hidden": range(1, 1001), "layers": range(1, 1001)}}, "1,000,000 shapes"),
    ({"equal": "parameter"}, "Did you mean 'parameters'"),
    ({"axes": {"ffn": [8192], "layers": [24]}}, "are both axes"),
    ({"free": "layers"}, "is an axis and is to be solved"),
    ({"free": "hidden"}, "ffn or layers can be solved"),
    ({"equal": "loss", "free": "ffn"}, "nothing is solved"),
    ({"tolerance": 0.0}, "tolerance 0"),
    ({"tolerance": math.nan}, "tolerance nan"),
    ({"law": "kaplan"}, "Allowed: besiroglu, hoffmann"),
    ({"spec": {"training": {"tokens": None}}, "equal": "wall_clock"}, "needs training.tokens"),
])
def test_contradictions_are_refused(arguments: dict[str, Any], message: str):
    spec = small(**arguments.pop("spec", {}))
    with pytest.raises(SpecError, match=message):
        rank_shapes(spec, **{"axes": {"layers": [20, 24]}, **arguments})


def test_latent_attention_has_no_head_size_to_vary():
    with pytest.raises(SpecError, match="latent attention"):
        rank_shapes(load_spec(EXAMPLES / "deepseek-v3-h800.yaml"), {"head_dim": (64, 128)})


def test_no_wall_clock_without_a_base_that_fits():
    spec = small(model={"hidden": 16384, "head_dim": 128})
    with pytest.raises(Infeasible, match="no wall clock"):
        rank_shapes(spec, {"layers": (4, 8)}, "wall_clock")


def test_a_layout_with_a_field_of_its_own_is_refused():
    with pytest.raises(SpecError, match=r"layout\.tpp"):
        rank_shapes(small(), {"layers": (20, 28)}, "loss", lambda spec: Own(1.0, 1.0, {"tpp": 2}))


# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def spec_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return str(path)


def test_shapes_command_in_every_format(spec_file, capsys):
    command = ["shapes", spec_file, "--axis", "hidden=1536:3072:512", "--axis", "layers=18,24", "--lint", "1"]
    assert main(command) == 0
    screen = capsys.readouterr().out
    assert max(map(len, screen.splitlines())) <= 80
    assert "shapes at equal parameters within 2 % by ffn" in screen and "*24" in screen
    for form in ("json", "csv", "md"):
        assert main([*command, "--format", form]) == 0
    out = capsys.readouterr().out
    assert '"equal": "parameters"' in out and "rank,is_base,layers" in out and "| layers |" in out
    assert main([*command[:2], "--axis", "layers=24"]) == 1  # only the base
    assert main([*command, "--equal", "los"]) == 2
    assert main([*command, "--axis", "layers=3"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_lint_command_in_every_format(spec_file, tmp_path, capsys):
    command = ["lint", spec_file, "--set", "model.ffn=8194", "--set", "model.vocab=32003"]
    assert main(command) == 0
    screen = capsys.readouterr().out
    assert max(map(len, screen.splitlines())) <= 80
    assert "wastes found" in screen and "better: 8192" in screen and "the plan's step does not hold" in screen
    for form in ("json", "csv", "md"):
        assert main([*command, "--format", form]) == 0
    out = capsys.readouterr().out
    assert '"waste": "alignment"' in out and "waste,where,value,cost_s" in out and "| waste |" in out
    assert main([*command, "-o", str(tmp_path / "found.csv")]) == 0
    assert (tmp_path / "found.csv").read_text(encoding="utf-8").startswith("waste,")
    assert main([*command, "-o", spec_file, "--format", "md"]) == 2
    assert main([*command, "--least", "200"]) == 2
    assert main(["lint", spec_file, "--set", "layout.tp=8", "--set", "model.heads=20", "--set", "model.hidden=2560"]) == 1
    assert "heads not divisible by tp" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["lint", "shapes"])
def test_help_has_examples_and_exit_codes(verb: str, capsys):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"codesign {verb}" in out and "Exit codes: 0 an answer" in out
    assert max(map(len, out.splitlines())) <= 80
