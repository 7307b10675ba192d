"""Launch configurations: they parse, say what the plan says, name what they cannot do, and come back through import."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import launches
import pytest
import yaml

from codesign import cli, plan
from codesign.errors import SpecError
from codesign.export import asked as asking
from codesign.export import bridge, deepspeed, launch, maxtext, megatron, neutral, torchtitan
from codesign.export.asked import FILL_IN
from codesign.spec import megatron as importer
from codesign.spec import megatron_args, shell

ROOT = Path(__file__).parents[2]
EVERY = [(target, name) for target, specs in launches.BY_TARGET.items() for name in specs]
FRAMEWORKS = {"megatron": megatron, "megatron-bridge": bridge, "torchtitan": torchtitan, "deepspeed": deepspeed,
              "maxtext": maxtext}  # fmt: skip


def written(target: str, name: str) -> str:
    return launch.export(launches.planned(target, name), target).text


def arguments(text: str) -> dict[str, list[str]]:
    """Option -> values, by our reader of scripts."""
    words = next(words for words in shell.read(text, "x").commands if any(word.text == "--num-layers" for word in words))
    found: dict[str, list[str]] = {}
    for word in words[[word.text for word in words].index("pretrain_gpt.py") + 1 :]:
        if word.text.startswith("--"):
            found[word.text] = []
        else:
            found[list(found)[-1]].append(word.text)
    return found


# ---------------------------------------------------------------------------------------------------- every target


@pytest.mark.parametrize(("target", "name"), EVERY)
def test_header_names_commit_and_spec(target, name):
    text = written(target, name)
    commit = re.search(r"commit ([0-9a-f]{40})", text)
    assert commit and commit.group(1) in FRAMEWORKS[target].FRAMEWORK.source
    assert launches.planned(target, name).spec_hash in text
    assert "cluster.profile" in text and "software.stack" in text  # what is not carried is said


@pytest.mark.parametrize(("target", "name"), EVERY)
def test_same_bytes_again(target, name):
    assert written(target, name) == written(target, name)


@pytest.mark.parametrize(("target", "name"), [one for one in EVERY if one[0] in ("megatron-bridge", "torchtitan")])
def test_recipe_is_python_that_fails_until_filled(target, name):
    text = written(target, name)
    tree = ast.parse(text)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert FILL_IN in names
    assert FILL_IN not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_bridge_says_what_megatron_says(name):
    """Every option has its place; values are those of the plan."""
    values = asking.asked(launches.planned("megatron-bridge", name)).values
    call = next(node for node in ast.walk(ast.parse(written("megatron-bridge", name))) if isinstance(node, ast.Return)).value
    assert isinstance(call, ast.Call)
    found = {f"{part.arg}.{one.arg}": ast.unparse(one.value) for part in call.keywords for one in part.value.keywords}
    for theirs, ours in (
        ("model.num_layers", "model.layers"), ("model.tensor_model_parallel_size", "layout.tp"),
        ("model.pipeline_model_parallel_size", "layout.pp"), ("model.context_parallel_size", "layout.cp"),
        ("model.seq_length", "training.sequence_length"), ("dataset.seq_length", "training.sequence_length"),
        ("train.global_batch_size", "training.global_batch_sequences"), ("train.micro_batch_size", "layout.micro_batch"),
        ("model.num_moe_experts", "model.moe.experts"), ("model.moe_router_topk", "model.moe.top_k"),
    ):  # fmt: skip
        want = values.get(ours)
        assert found.get(theirs) == (None if want is None else str(int(want)))


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_bridge_says_what_its_setup_would_turn_on(name):
    """Overlaps and the dtype of gradients, off too: Megatron-Bridge's setup switches on what is not said."""
    values = asking.asked(launches.planned("megatron-bridge", name)).values
    text = written("megatron-bridge", name)
    said = {one.arg: ast.unparse(one.value) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("CommOverlapConfig", "MixedPrecisionConfig") for one in node.keywords}  # fmt: skip
    assert said["overlap_grad_reduce"] == str(bool(values["layout.overlap.dp_gradients"]))
    assert said["overlap_param_gather"] == str(bool(values["layout.overlap.dp_parameters"]))
    if values["training.precision.matmul"] != "fp32":  # which needs no MixedPrecisionConfig
        assert said["grad_reduce_in_fp32"] == str(values["training.precision.gradients"] == "fp32")
    assert said.get("overlap_p2p_comm") == (str(values["layout.overlap.pp"]) if values["layout.vpp"] > 1 else None)


@pytest.mark.parametrize("name", launches.DEEPSPEED)
def test_deepspeed_is_json_with_the_plans_values(name):
    data, values = json.loads(written("deepspeed", name)), asking.asked(launches.planned("deepspeed", name)).values
    assert data["train_batch_size"] == values["training.global_batch_sequences"]
    parts = (data["train_micro_batch_size_per_gpu"], data["gradient_accumulation_steps"], values["layout.dp"])
    assert parts[0] * parts[1] * parts[2] == data["train_batch_size"]
    assert data["zero_optimization"]["stage"] == {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}[values["layout.sharding"]]
    assert any("model.layers" in line for line in data["_codesign"])  # the model is code: each of its fields is said


@pytest.mark.parametrize("name", launches.MAXTEXT)
def test_maxtext_is_yaml_with_the_plans_values(name):
    data, asked = yaml.safe_load(written("maxtext", name)), asking.asked(launches.planned("maxtext", name))
    size = {axis: data[f"ici_{axis}_parallelism"] * data[f"dcn_{axis}_parallelism"]
            for axis in ("tensor", "context", "expert", "fsdp", "data", "pipeline")}  # fmt: skip
    product = 1
    for one in size.values():
        product *= one
    assert product == asked.ranks
    assert size["tensor"] == asked.values["layout.tp"]
    assert data["per_device_batch_size"] * data["gradient_accumulation_steps"] * asked.ranks == pytest.approx(
        asked.values["training.global_batch_sequences"]
    )
    assert data["base_num_decoder_layers"] == asked.values["model.layers"]
    assert data["learning_rate"] == FILL_IN


@pytest.mark.parametrize("name", launches.TITAN)
def test_torchtitan_says_batches_in_tokens(name):
    text, values = written("torchtitan", name), asking.asked(launches.planned("torchtitan", name)).values
    tokens = values["training.sequence_length"] * values["training.global_batch_sequences"]
    assert f"num_tokens_per_train_step={tokens}," in text
    assert f"tensor_parallel_degree={values['layout.tp']}," in text


@pytest.mark.parametrize(("target", "name"), EVERY)
def test_neutral_form_keeps_to_its_schema_and_holds_every_field(target, name):
    made = launches.planned(target, name)
    data = json.loads(launch.export(made, "json").text)
    jsonschema.validate(data, neutral.json_schema())
    asked = asking.asked(made)
    for field, value in asked.values.items():
        at = data
        for part in field.split("."):
            at = at[part]
        assert at == (list(value) if isinstance(value, tuple) else value)
    assert [[chunk["layers"] for chunk in rank] for rank in data["stages"]] == [
        [chunk.layers for chunk in rank] for rank in asked.stages.chunks
    ]


def test_schema_refuses_an_unknown_and_a_missing_field():
    data = json.loads(launch.export(launches.planned("megatron", "deepseek-v3"), "json").text)
    jsonschema.Draft7Validator.check_schema(neutral.json_schema())
    for change in (lambda one: one["model"].pop("layers"), lambda one: one["layout"].update(tpp=8)):
        broken = json.loads(json.dumps(data))
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, neutral.json_schema())


# ---------------------------------------------------------------------------------------------------- Megatron, and back


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_megatron_arguments_are_the_plans_values(name):
    values, found = asking.asked(launches.planned("megatron", name)).values, arguments(written("megatron", name))
    for option, field in (
        ("num-layers", "model.layers"), ("hidden-size", "model.hidden"), ("num-attention-heads", "model.heads"),
        ("tensor-model-parallel-size", "layout.tp"), ("pipeline-model-parallel-size", "layout.pp"),
        ("context-parallel-size", "layout.cp"), ("seq-length", "training.sequence_length"),
        ("global-batch-size", "training.global_batch_sequences"), ("vocab-size", "model.vocab"),
    ):  # fmt: skip
        assert found[f"--{option}"] == [str(values[field])]
    assert ("--use-distributed-optimizer" in found) == (values["layout.sharding"] != "none")
    assert found["--lr"] == [FILL_IN]
    assert {name[2:] for name in found} <= set(megatron_args.flags())


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_bash_reads_the_script_as_we_do(name, tmp_path):
    """The shell itself is the oracle of the reader of scripts: `torchrun` prints the arguments that it is given."""
    text = written("megatron", name)
    stub, script = tmp_path / "torchrun", tmp_path / "launch.sh"
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    stub.chmod(0o755)
    script.write_text(text)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    stopped = subprocess.run(["bash", script], capture_output=True, env=environment, check=False)
    assert stopped.returncode == 2 and not stopped.stdout  # it does not launch while FILL_IN is left
    script.write_text(text.replace("exit 2 ;;", ";;"))
    ran = subprocess.run(["bash", script], capture_output=True, env=environment, check=True)
    words = ran.stdout.decode().rstrip("\0").split("\0")
    mine = next(words for words in shell.read(text, "x").commands if any(word.text == "--num-layers" for word in words))
    start = [word.text for word in mine].index("pretrain_gpt.py")
    assert words[words.index("pretrain_gpt.py") :] == [word.text for word in mine[start:]]


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_round_trip_is_equal(name):
    """Export and import give the same fields, the same structure and the same numbers under the plan."""
    before = launches.planned("megatron", name)
    data, _ = importer.read_text(written("megatron", name), "launch.sh")
    after = plan(data)
    assert asking.asked(after).values == asking.asked(before).values
    assert asking.asked(after).stages.chunks == asking.asked(before).stages.chunks
    assert after.step_s == before.step_s
    assert after.value("peak_B") == before.value("peak_B")
    again = launch.export(after, "megatron").text
    assert again.partition("MODEL_ARGS")[2] == written("megatron", name).partition("MODEL_ARGS")[2]


@pytest.mark.parametrize("name", launches.MEGATRON)
def test_round_trip_without_comments_keeps_all_that_arguments_carry(name):
    before = launches.planned("megatron", name)
    spec = before.problem.spec
    text = re.sub(r"^#: .*\n", "", written("megatron", name), flags=re.MULTILINE)
    with pytest.raises(SpecError, match=r"cluster\.profile"):
        importer.read_text(text)
    data, notes = importer.read_text(text, sets=[f"cluster.profile={spec.cluster.profile}"])
    assert any("software.stack" in note for note in notes)
    carried = {name for name in asking.asked(before).values if name not in megatron_args.CARRIED}
    after = asking.asked(plan(data)).values
    assert {field: after[field] for field in carried} == {field: asking.asked(before).values[field] for field in carried}


# ---------------------------------------------------------------------------------------------------- refusals


REFUSED = [
    ("megatron", "llama-3-70b", {"layout.sharding": "zero3"}, "layout.sharding"),
    ("megatron", "llama-3-70b", {"layout.schedule": "zb-h1", "layout.vpp": 1}, "layout.schedule"),
    ("megatron", "mixtral-8x7b", {"layout.schedule": "dualpipe"}, "layout.schedule"),
    ("megatron", "llama-3-8b", {"model.positions": "alibi"}, "model.positions"),
    ("megatron", "llama-3-8b", {"model.norm": "nonparametric"}, "model.norm"),
    ("megatron", "llama-3-8b", {"model.parallel_block": True}, "model.parallel_block"),
    ("megatron", "llama-3-8b", {"model.biases": {"mlp": True}}, "model.biases"),
    ("megatron", "llama-3-8b", {"training.precision": "fp8-rowwise"}, "training.precision.matmul"),
    ("megatron", "llama-3-8b", {"training.optimizer": "adamw-8bit"}, "training.optimizer.name"),
    ("megatron", "llama-3-8b", {"layout.offload": {"activations": 0.5}}, "layout.offload.activations"),
    ("megatron", "llama-3-8b", {"layout.recompute": {"granularity": "selective", "modules": ["qkv"]}}, "qkv"),
    ("megatron", "llama-3-8b", {"software.compile": True}, "software.compile"),
    ("megatron", "llama-3-8b", {"layout.micro_batch": 0.5}, "layout.micro_batch"),
    ("megatron", "llama-3-8b", {"layout.order": ["dp", "tp", "cp", "ep", "pp"]}, "layout.order"),
    ("megatron", "llama-3-8b-fsdp", {"training.optimizer": "muon"}, "layout.sharding"),
    ("megatron", "llama-3-8b", {"training.optimizer": "sgd", "layout.offload": {"optimizer": True}}, "layout.offload.optimizer"),
    ("megatron", "llama-3-8b", {"training.optimizer": "muon", "training.precision": {"matmul": "bf16", "moments": "bf16"}},
     "training.precision.moments"),
    ("megatron", "llama-3-8b", {"layout.offload": {"optimizer": True}, "layout.sharding": "none"}, "layout.offload.optimizer"),
    ("megatron", "llama-3-8b", {"layout.cuda_graphs": ["attn"], "layout.recompute": "full"}, "layout.cuda_graphs"),
    ("megatron", "llama-3-8b", {"layout.cuda_graphs": ["moe_router"]}, "layout.cuda_graphs"),
    ("megatron", "qwen3-30b-a3b", {"layout.cuda_graphs": ["moe"], "layout.recompute": "none"}, "layout.cuda_graphs"),
    ("megatron", "mixtral-8x7b", {"layout.overlap": {"ep": True}}, "layout.overlap.ep"),
    ("megatron", "mixtral-8x7b", {"layout.sequence_parallel": False}, "layout.sequence_parallel"),
    ("megatron", "qwen3-235b-a22b", {"layout.offload": {"optimizer": True}, "software": {
        "stack": "megatron-core", "low_precision_parameters": True}}, "software.low_precision_parameters"),
    ("megatron", "every-other-layer", {"software": {"stack": "megatron-core", "moe_dispatcher": "deepep"}},
     "model.moe.capacity_factor"),
    ("megatron", "qwen3-30b-a3b", {"layout.ep": 1, "software": {"stack": "megatron-core", "moe_dispatcher": "deepep"}},
     "software.moe_dispatcher"),
    ("megatron", "llama-3-8b", {"training.precision": "fp8-tensor", "layout.recompute": {
        "granularity": "selective", "modules": ["layernorm"]}}, "layout.recompute.modules"),
    ("megatron", "gpt3-175b", {"training.global_batch_sequences": 1040}, "layout.vpp"),
    ("megatron-bridge", "gpt3-175b", {"training.global_batch_sequences": 1040}, "layout.vpp"),
    ("torchtitan", "qwen3-30b-a3b", {"layout.sharding": "hsdp", "layout.sharding_group": 4}, "layout.sharding_group"),
    ("deepspeed", "llama-3-8b-zero1", {"training.optimizer": {"name": "muon", "newton_schulz_steps": 4}}, "newton_schulz_steps"),
    ("megatron-bridge", "llama-3-8b", {"software.launch_blocking": True}, "software.launch_blocking"),
    ("torchtitan", "llama-3-8b", {"model.ffn": 15000}, "differs in model.ffn"),
    ("torchtitan", "llama-3-8b", {"layout.sharding": "zero2"}, "layout.sharding"),
    ("torchtitan", "llama-3.1-405b", {"layout.schedule": "zb-h1", "layout.vpp": 1}, "layout.schedule"),
    ("torchtitan", "llama-3-8b", {"layout.recompute": "selective"}, "every_other_matmul"),
    ("torchtitan", "llama-3-8b-context", {"layout.cp_style": "ring"}, "layout.cp_style"),
    ("deepspeed", "llama-3-8b-zero1", {"layout.cp": 2}, "layout.cp"),
    ("deepspeed", "mixtral-8x7b-zero3", {"layout.ep": 8}, "layout.ep"),
    ("deepspeed", "pipeline", {"layout.sharding": "zero2"}, "layout.sharding"),
    ("deepspeed", "llama-3-8b-zero1", {"training.precision": "fp8-tensor"}, "training.precision.matmul"),
    ("maxtext", "pipeline", {"layout.schedule": "1f1b"}, "layout.schedule"),
    ("maxtext", "llama-3-8b", {"layout.recompute": "none"}, "layout.recompute.granularity"),
    ("maxtext", "llama-3-8b", {"layout.sharding": "zero2"}, "layout.sharding"),
    ("maxtext", "mixtral-8x7b", {"model.moe": {"experts": 8, "top_k": 2, "expert_ffn": 14336, "shared_experts": 1}},
     "shared_expert_ffn"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "name", "change", "says"), REFUSED)
def test_what_a_framework_cannot_do_is_refused_by_name(target, name, change, says):
    spec = json.loads(json.dumps(launches.BY_TARGET[target][name]))
    for field, value in change.items():
        at, (*above, last) = spec, field.split(".")
        for part in above:
            if not isinstance(at[part], dict):
                at[part] = {{"model": "preset", "software": "stack"}[part]: at[part]}
            at = at[part]
        at[last] = value
    with pytest.raises(SpecError, match=re.escape(FRAMEWORKS[target].FRAMEWORK.name)) as raised:
        launch.export(plan(spec), target)
    assert says in raised.value.message


def test_export_refuses_an_unknown_target(tmp_path, capsys):
    assert cli.main(["export", str(ROOT / "examples/llama-3.1-405b-h100.yaml"), "--to", "nemo"]) == 2
    assert "megatron-bridge" in capsys.readouterr().err


def test_command_writes_nothing_where_it_refuses(tmp_path, capsys):
    out = tmp_path / "launch.sh"
    assert cli.main(["export", str(ROOT / "examples/deepseek-v3-h800.yaml"), "--to", "megatron", "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert "layout.schedule" in said.err and not out.exists() and not said.out


def test_infeasible_plan_is_written_and_said(capsys):
    spec = str(ROOT / "examples/llama-3.1-405b-h100.yaml")
    assert cli.main(["export", spec, "--to", "megatron", "--set", "layout.sharding=zero1"]) == 1
    said = capsys.readouterr()
    assert "--num-layers 126" in said.out and "NOT FEASIBLE" in said.out and "not feasible" in said.err


def test_sections_beyond_the_step_are_left_out_aloud(capsys):
    spec = str(ROOT / "examples/gpt4-retrain.yaml")
    code = cli.main(["export", spec, "--to", "json"])
    said = capsys.readouterr()
    assert code in (0, 1) and "run: left out" in said.err
    assert "run" in json.loads(said.out)["left_out"]
