"""The spec loader: what is read, how, from where, and that it can be written out and read again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import codesign.spec
from codesign.errors import SpecError
from codesign.spec import load as loader
from codesign.spec import schema, starter

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GOOD = """version: 1
model: {layers: 2, hidden: 64, heads: 4, ffn: 128, vocab: 1000}
training: {sequence_length: 128, global_batch_sequences: 8}
layout: {tp: 1, pp: 1, micro_batch: 1}
cluster: {profile: h100-sxm-80gb, accelerators: 8}
software: megatron-core
"""
MOE = {"experts": 8, "top_k": 2, "expert_ffn": 256}
TINY: dict[str, Any] = {"layers": 2, "hidden": 64, "heads": 4, "ffn": 128, "vocab": 1000}


def text_with(**sections: str) -> str:
    """GOOD with some lines replaced: text_with(layout="{tp: 2}")."""
    lines = dict(line.split(": ", 1) for line in GOOD.splitlines())
    return "".join(f"{name}: {value}\n" for name, value in {**lines, **sections}.items())


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(names=lambda: ["tiny", "tiny-moe"], load=lambda name: {**TINY, "moe": dict(MOE)})
    monkeypatch.setattr(codesign.spec, "presets", stand_in, raising=False)


# ---------------------------------------------------------------------------------------------------- scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e4", 1e4), ("15.6e12", 15.6e12), ("1E+3", 1e3), (".5", 0.5), ("5.", 5.0), ("-3", -3), ("0", 0), ("0.5", 0.5),
        ("16_384", 16384), ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("0x10", "0x10"), ("1__0", "1__0"), ("400 Gb/s", "400 Gb/s"), ("1e", "1e"), ("nan", "nan"), ("-", "-"),
    ],
)  # fmt: skip
def test_scalar_follows_yaml_1_2_and_not_its_1_1_traps(text: str, value: object):
    read = loader.scalar(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["0123", "-007", "00", "08.5", ".inf", "-.INF", ".nan", "1e400", "9" * 400])
def test_scalar_that_is_never_meant_is_refused(text: str):
    with pytest.raises(ValueError):
        loader.scalar(text)


@given(st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
def test_scalar_reads_what_json_writes(value: object):
    assert loader.scalar(json.dumps(value)) == value


# ---------------------------------------------------------------------------------------------------- values


def test_count_may_be_written_as_a_whole_float():
    spec = loader.load_text(GOOD.replace("accelerators: 8", "accelerators: 1.6e4")).spec
    assert spec.cluster.accelerators == 16000
    assert isinstance(spec.cluster.accelerators, int)


def test_quantities_are_read_and_shown_as_read():
    loaded = loader.load_text(
        text_with(
            training="{sequence_length: 128, global_batch_sequences: 8, tokens: 15.6 T tokens}",
            cluster="{profile: x, accelerators: 8, override: {scale_out.nic_Bps: 400 Gb/s, accelerator.tdp_W: 500}}",
            software="{stack: megatron-core, host_layer_s: 250 us}",
            input="{storage_Bps: 2 TB/s}",
        )
    )
    assert loaded.spec.training.tokens == 15.6e12
    assert loaded.spec.software.host_layer_s == 250e-6
    assert loaded.spec.input is not None and loaded.spec.input.storage_Bps == 2e12
    assert loaded.read_as == [
        "cluster.override.scale_out.nic_Bps: '400 Gb/s' = 50 GB/s",
        "training.tokens: '15.6 T tokens' = 1.56e+13 tokens",
        "software.host_layer_s: '250 us' = 250 us",
        "input.storage_Bps: '2 TB/s' = 2 TB/s",
    ]


def test_every_quantity_of_the_schema_is_in_the_table_of_readings():
    """A field with a unit has a string alternative in the JSON schema beside its number."""
    whole = schema.Spec.model_json_schema()

    def named(node: Any, path: str) -> Iterator[str]:
        """Paths of the fields under a node that are read with a unit; `*` for each of a list."""
        if "for example" in node.get("description", ""):
            yield path
        for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from named(option, path)
        if "$ref" in node:
            inner = whole["$defs"][node["$ref"].rsplit("/", 1)[1]]
            for name, field in inner.get("properties", {}).items():
                yield from named(field, f"{path}.{name}")
        if "items" in node:
            yield from named(node["items"], f"{path}.*")

    found = {path for name, node in whole["properties"].items() for path in named(node, name)}
    assert found == set(loader.QUANTITIES)


def test_override_unit_follows_the_name():
    assert loader.override_unit("scale_out.nic_Bps") == "Bps"
    assert loader.override_unit("accelerator.peak_FLOPps.bf16") == "FLOPps"
    assert loader.override_unit("scale_up.domain") is None
    assert loader.read_override("scale_out.nic_Bps", "200 Gb/s") == 25e9
    assert loader.read_override("scale_out.taper", 0.5) == 0.5


def test_file_and_plain_data_give_the_same_spec(tmp_path: Path):
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)
    from_file, from_data = loader.load(path), loader.load(yaml.safe_load(GOOD))
    assert from_file.spec == from_data.spec == loader.load_spec(str(path))
    assert from_file.spec_hash == from_data.spec_hash
    assert (from_file.file, from_file.folder) == (str(path), tmp_path)


def test_plain_data_is_copied_and_left_alone():
    data = yaml.safe_load(GOOD)
    before = json.dumps(data)
    loader.load(data, ["layout.tp=2", "software.compile=true"])
    assert json.dumps(data) == before


# ---------------------------------------------------------------------------------------------------- model


@pytest.mark.usefixtures("tiny_preset")
def test_preset_fills_what_is_not_written_and_says_what_was_changed():
    loaded = loader.load_text(text_with(model="{preset: tiny-moe, layers: 3, moe: {top_k: 4}}"))
    model = loaded.spec.model
    assert (model.preset, model.name, model.layers, model.hidden) == ("tiny-moe", "tiny-moe", 3, 64)
    assert model.moe is not None and (model.moe.top_k, model.moe.experts) == (4, 8)
    assert loaded.notes == [
        "model.layers: 3 in place of 2 of preset tiny-moe",
        "model.moe.top_k: 4 in place of 2 of preset tiny-moe",
    ]
    assert loader.load_text(text_with(model="tiny")).spec.model.name == "tiny"


@pytest.mark.usefixtures("tiny_preset")
def test_null_takes_a_part_of_the_preset_away():
    assert loader.load_text(text_with(model="{preset: tiny, moe: null}")).spec.model.moe is None


def test_hugging_face_config_is_found_beside_the_spec_and_its_notes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Path] = []

    def read(path: Path) -> tuple[dict[str, Any], list[str]]:
        asked.append(path)
        return {**TINY, "name": "tiny"}, ["head_dim taken as hidden / heads"]

    monkeypatch.setattr(codesign.spec, "hf", SimpleNamespace(read=read), raising=False)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "spec.yaml").write_text(text_with(model="{hf: config.json, vocab: 2000}"))
    loaded = loader.load(tmp_path / "spec.yaml")
    assert asked == [tmp_path / "config.json"]
    assert loaded.spec.model.vocab == 2000
    assert loaded.notes == [
        "model: head_dim taken as hidden / heads",
        "model.vocab: 2000 in place of 1000 of config.json",
    ]
    again = loader.load(loaded.resolved())
    assert again.spec_hash == loaded.spec_hash, "the resolved spec no longer needs the file"


# ---------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("layout.tp=8", "layout.tp", 8),
        ("layout.order=[dp, tp, cp, ep, pp]", "layout.order", ("dp", "tp", "cp", "ep", "pp")),
        ("layout.pp=", "layout.pp", None),
        ('name="12"', "name", "12"),
        ("name=a=b", "name", "a=b"),
        ("layout.overlap.tp=true", "layout.overlap.tp", True),
        ("training.precision.master=bf16", "training.precision.master", "bf16"),
        ("training.optimizer.name=muon", "training.optimizer.name", "muon"),
        ("layout.recompute={granularity: full, fraction: 0.5}", "layout.recompute.fraction", 0.5),
        ("software.compile=true", "software.compile", True),
        ("software=fsdp1", "software.stack", "fsdp1"),
        ("training.tokens=1e12", "training.tokens", 1e12),
        ("layout.stages=Et|(t*2|)*3L", "layout.stages", "Et|(t*2|)*3L"),
    ],
)
def test_set_writes_one_field(argument: str, field: str, value: object):
    found: Any = loader.load_text(GOOD, [argument]).spec
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.usefixtures("tiny_preset")
def test_set_into_a_shorthand_keeps_the_name():
    spec = loader.load_text(
        text_with(model="tiny", training="{sequence_length: 128, global_batch_sequences: 8, precision: fp8-block}"),
        ["model.layers=5", "software.compile=false", "training.precision.master=bf16", "model.moe.top_k=1"],
    ).spec
    assert (spec.model.preset, spec.model.layers) == ("tiny", 5)
    assert spec.model.moe is not None and (spec.model.moe.top_k, spec.model.moe.experts) == (1, 8)
    assert (spec.software.stack, spec.software.compile) == ("megatron-core", False)
    assert isinstance(spec.training.precision, schema.PrecisionSpec)
    assert (spec.training.precision.matmul, spec.training.precision.master) == ("fp8-block", "bf16")


def test_set_override_keeps_the_dots_of_the_profile_field():
    loaded = loader.load_text(GOOD, ["cluster.override.scale_out.nic_Bps=200 Gb/s"])
    assert loaded.spec.cluster.override == {"scale_out.nic_Bps": "200 Gb/s"}
    assert loaded.read_as == ["cluster.override.scale_out.nic_Bps: '200 Gb/s' = 25 GB/s"]


def test_later_set_takes_precedence():
    assert loader.load_text(GOOD, ["layout.tp=2", "layout.tp=4"]).spec.layout.tp == 4


# ---------------------------------------------------------------------------------------------------- places


def test_error_at_points_at_the_nearest_written_place():
    loaded = loader.load_text(GOOD, ["layout.pp=4"], file="spec.yaml")
    assert str(loader.error_at(loaded, "layout.tp", "no")).splitlines() == [
        "spec.yaml:4:14: no",
        "     4 | layout: {tp: 1, pp: 1, micro_batch: 1}",
        "       |              ^",
    ]
    assert str(loader.error_at(loaded, "layout.dp", "no")).startswith("spec.yaml:4:9: no")
    assert str(loader.error_at(loaded, "layout.pp", "no")) == "--set layout.pp=4: no"
    assert str(loader.error_at(loaded, "elsewhere.x", "no")).startswith("spec.yaml:1:1: no")
    assert str(loader.error_at(loader.load(yaml.safe_load(GOOD)), "layout.tp", "no")) == "no"


# ---------------------------------------------------------------------------------------------------- resolved, hash


def round_trips(loaded: loader.Loaded) -> None:
    text = yaml.safe_dump(loaded.resolved(), sort_keys=False)
    again = loader.load_text(text)
    assert again.resolved() == loaded.resolved()
    assert again.spec_hash == loaded.spec_hash
    assert len(loaded.spec_hash) == 64


@pytest.mark.parametrize(
    "argument",
    [
        "layout.tp=1", "training.optimizer=muon", "training.optimizer.newton_schulz_steps=7", "layout.recompute=full",
        "layout.recompute={granularity: selective, modules: [mlp, layernorm]}", "software.host_layer_s=33.3 us",
        "cluster.override.scale_out.nic_Bps=399 Gb/s", "training.precision={matmul: mxfp8, moments: bf16}",
        "input={storage_Bps: 1.1 GiB/s}", "training.tokens=1.1 T tokens", "layout.cuda_graphs=[attn, mlp]",
    ],
)  # fmt: skip
def test_resolved_spec_reads_back_to_the_same_hash(argument: str):
    sets = ["training.optimizer=muon", argument] if "newton" in argument else [argument]
    round_trips(loader.load_text(GOOD, sets))


def test_hash_is_of_the_meaning_not_of_the_writing():
    plain = loader.load_text(GOOD).spec_hash
    other = "# a comment\n" + GOOD.replace("megatron-core", "{stack: megatron-core}")
    assert loader.load_text(other).spec_hash == plain
    assert loader.load_text(GOOD, ["training.optimizer={name: adamw}", "layout.vpp=1"]).spec_hash == plain
    assert loader.load_text(GOOD, ["layout.tp=2"]).spec_hash != plain
    rate = "cluster.override.scale_out.nic_Bps"
    assert (
        loader.load_text(GOOD, [f"{rate}=400 Gb/s"]).spec_hash == loader.load_text(GOOD, [f"{rate}=50 GB/s"]).spec_hash
    )


def test_canonical_form_has_one_spelling_of_each_value():
    canonical = json.dumps(loader.load_text(GOOD).resolved(), sort_keys=True, separators=(",", ":"))
    assert '"micro_batch":1.0' in canonical
    assert '"recompute":{"granularity":"none"}' in canonical
    assert '"optimizer":{"name":"adamw"}' in canonical


# ---------------------------------------------------------------------------------------------------- cross-checks


@pytest.mark.parametrize(
    "argument",
    [
        "training.precision=int8",
        "layout={tp: 2, pp: 16, vpp: 8, micro_batch: 1, schedule: interleaved}",  # layers not divisible: resolved later
        "layout={tp: 2, pp: 1, micro_batch: 0.25, cp: 2, cp_style: ring, sequence_parallel: true}",
        "layout={tp: 1, pp: 1, micro_batch: 1, sharding: hsdp, sharding_group: 8, prefetch: true}",
        "layout={tp: 1, pp: 1, micro_batch: 1, sequence_parallel: false}",
        "model={layers: 4, hidden: 100, heads: 3, head_dim: 64, ffn: 128, vocab: 1000}",
        "model={layers: 4, hidden: 64, heads: 4, vocab: 1000, moe: {experts: 4, top_k: 4, expert_ffn: 64}}",
    ],
)
def test_unusual_but_possible_spec_is_accepted(argument: str):
    round_trips(loader.load_text(GOOD, [argument]))


# ---------------------------------------------------------------------------------------------------- shipped files


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_loads_validates_and_reads_back(path: Path):
    loaded = loader.load(path)
    round_trips(loaded)
    jsonschema.Draft7Validator(loader.json_schema()).validate(loader.parse_yaml(path.read_text(), path.name).data)
    lay, ranks = loaded.spec.layout, loaded.spec.cluster.accelerators
    assert None not in (lay.tp, lay.pp, lay.dp, lay.micro_batch)
    assert (lay.tp or 0) * (lay.pp or 0) * lay.cp * (lay.dp or 0) == ranks


def test_the_examples_that_are_shipped():
    steps = ["deepseek-v3-h800", "llama-3-8b-fsdp", "llama-3.1-405b-h100"]
    runs = ["frontier-100k-two-sites", "gpt4-retrain", "ten-million"]
    assert sorted(path.stem for path in EXAMPLES) == sorted(steps + runs)


def test_starter_loads_and_says_its_schema_in_the_first_line():
    loaded = loader.load_text(starter.TEXT, file="spec.yaml")
    round_trips(loaded)
    assert starter.TEXT.startswith("# yaml-language-server: $schema=spec.schema.json\n")
    assert max(map(len, starter.TEXT.splitlines())) <= 120


def uncommented(text: str) -> str:
    """The starter with the # taken from its sections beyond the step; a # before one space begins prose."""
    head, mark, sections = text.partition("# ---- Beyond the step")
    return head + mark + re.sub(r"^#(?=\S|  )", "", sections, flags=re.MULTILINE)


def test_starter_loads_and_plans_with_every_section_uncommented():
    from codesign import planner, run

    loaded = loader.load_text(uncommented(starter.TEXT), file="spec.yaml")
    assert loaded.spec.run and loaded.spec.run.ladder and loaded.spec.links and loaded.spec.sync
    assert [site.name for site in loaded.spec.sites] == ["west", "east"]
    made = run.run_plan(planner.plan(loaded))
    assert 0.5 < made.value("goodput") < 1.0 and made.value("final_loss") > 1.0 and made.feasible
    alone = run.run_plan(planner.plan(loader.load_text(uncommented(starter.TEXT).partition("\nsites:")[0], file="spec.yaml")))
    assert alone.feasible and alone.value("run_wall_s") > made.value("run_wall_s")


def test_starter_plans_the_same_run_as_the_first_example():
    example = loader.load(ROOT / "examples" / "llama-3.1-405b-h100.yaml")
    assert loader.load_text(starter.TEXT, ["layout.dp=128"]).spec_hash == example.spec_hash


# ---------------------------------------------------------------------------------------------------- JSON schema


def test_schema_file_is_the_dump_of_the_schema():
    written = json.loads((ROOT / "spec.schema.json").read_text())
    assert written == loader.json_schema(), "run: codesign schema -o spec.schema.json"


def test_schema_is_valid_draft_7():
    jsonschema.Draft7Validator.check_schema(loader.json_schema())
    assert loader.json_schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


ACCEPTED = [
    {"model": "llama-3-8b"}, {"model": {"preset": "llama-3-8b", "moe": {"top_k": 1}}}, {"model": {"hf": "config.json"}},
    {"software": {"stack": "x", "host_layer_s": "250 us"}}, {"input": {"storage_Bps": "5 GB/s"}},
    {"layout": {"recompute": {"granularity": "full"}}}, {"layout": {"recompute": "full"}},
]  # fmt: skip
REFUSED = [
    {"model": {"hidden": 3}}, {"model": 3}, {"layout": {"tp": 0}}, {"layout": {"tpp": 1}}, {"version": 2},
    {"input": {"storage_Bps": 5}}, {"input": {"storage_Bps": "5"}}, {"layout": {"sequence_parallel": "no"}},
    {"layout": {"schedule": "x"}}, {"training": {}}, {"software": {}},
]  # fmt: skip


@pytest.mark.parametrize("change", ACCEPTED, ids=str)
def test_schema_accepts_what_people_write(change: dict[str, Any]):
    jsonschema.Draft7Validator(loader.json_schema()).validate(yaml.safe_load(GOOD) | change)


@pytest.mark.parametrize("change", REFUSED, ids=str)
def test_schema_refuses_what_the_loader_refuses(change: dict[str, Any]):
    data = yaml.safe_load(GOOD) | change
    assert not jsonschema.Draft7Validator(loader.json_schema()).is_valid(data)
    with pytest.raises(SpecError):
        loader.load(data)


# ---------------------------------------------------------------------------------------------------- cost


def test_loading_imports_no_pandas_numpy_or_schema_tools():
    code = (
        "import sys; from codesign.spec import load; load.load_text(sys.stdin.read());"
        "print([m for m in ('pandas', 'numpy', 'jsonschema', 'scipy', 'streamlit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=GOOD, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_field_of_the_schema_says_what_it_means():
    """In words of its own, with the unit that its type is read in; and no words are left of a field that is gone."""
    data = loader.json_schema()
    sections = {"Spec": data, **data["$defs"]}
    fields = {(name, field): node for name, section in sections.items() for field, node in section.get("properties", {}).items()}
    words = {(name, field): text for name, section in loader.field_words().items() for field, text in section.items()}
    assert sorted(fields.keys() - words.keys()) == [] == sorted(words.keys() - fields.keys())
    assert all(node["description"].startswith(words[field]) for field, node in fields.items())
    told = {name: data["$defs"][section]["properties"][name]["description"] for section, name in (
        ("Link", "bandwidth"), ("Recovery", "repair"), ("Data", "raw_B"), ("Power", "cap_W"))}  # fmt: skip
    for name, unit in {"bandwidth": "bytes per second", "repair": "seconds", "raw_B": "bytes", "cap_W": "watts"}.items():
        assert unit in told[name]


def test_a_field_that_may_be_left_out_says_what_holds_then():
    data = loader.json_schema()
    for section in ("Run", "Loss", "Data", "Phase", "Power", "Launch", "Serving", "Ladder", "MeanTimes", "Recovery", "Checkpoint",
                    "Spares", "Link", "Sync", "Site", "SiteCluster", "Failures"):
        for name, node in data["$defs"][section]["properties"].items():
            if "default" in node and node["default"] is None:
                assert re.search("null:|needed|needs", node["description"]), (section, name)
