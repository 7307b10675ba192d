"""Megatron-LM's arguments as a spec: scripts as people write them, and what is wrong in them, with file and line."""

from __future__ import annotations

import contextlib
import re
import time

import launches
import pytest
import yaml

from codesign import cli, plan
from codesign.errors import SpecError
from codesign.export import launch
from codesign.spec import load, megatron, megatron_args, resolve, shell

SETS = ["cluster.profile=h100-sxm-80gb"]
# In the style of the examples of Megatron-LM: variables, arrays, continuations, quotes, conditions, torchrun.
MOE_SCRIPT = """\
#!/bin/bash
# pretrain a mixture of experts
export CUDA_DEVICE_MAX_CONNECTIONS=1
GPUS=8
MASTER_ADDR=${MASTER_ADDR:-"localhost"}
NNODES=${NNODES:-"4"}
NODE_RANK=${RANK:-"0"}
WORLD=$(($GPUS*$NNODES))
CKPT=$1
LAUNCHER=(
    --nproc_per_node $GPUS     # processes
    --nnodes $NNODES
    --node_rank $NODE_RANK
    --master_addr $MASTER_ADDR
)
MODEL=(
    --use-mcore-models
    --disable-bias-linear
    --seq-length 4096
    --max-position-embeddings 32768
    --num-layers 32
    --hidden-size 4096
    --ffn-hidden-size 14336
    --num-attention-heads 32
    --init-method-std 0.01
    --attention-dropout 0.0 --hidden-dropout 0.0
    --normalization RMSNorm
    --position-embedding-type rope
    --swiglu
    --untie-embeddings-and-output-weights
    --group-query-attention
    --num-query-groups 8
    --no-masked-softmax-fusion
)
EXPERTS=(
    --num-experts 8
    --moe-router-topk 2
    --moe-router-load-balancing-type aux_loss
    --moe-aux-loss-coeff 1e-2
    --moe-grouped-gemm
    --moe-token-dispatcher-type alltoall
)
DATA=( --tokenizer-type Llama2Tokenizer --tokenizer-model ${CKPT} --data-path "$2" --split 99990,8,2 --vocab-size 32000 )
TRAIN=(
    --micro-batch-size 1
    --global-batch-size $(( WORLD * 8 ))
    --lr 1e-4
    --train-iters 500000
    --weight-decay 0.1
    --bf16
    --overlap-grad-reduce \\
    --overlap-param-gather
)
PARALLEL=(
    --tensor-model-parallel-size 1
    --pipeline-model-parallel-size 4
    --num-layers-per-virtual-pipeline-stage 4
    --expert-model-parallel-size 8
    --use-distributed-optimizer
)
LOG=(--log-interval 1 --save "$CKPT/out")
if [ -n "${WANDB_API_KEY}" ]; then
    LOG+=(--wandb-project ${WANDB_PROJECT:-"moe"})
fi
torchrun ${LAUNCHER[@]} pretrain_gpt.py \\
    ${MODEL[@]} \\
    "${EXPERTS[@]}" \\
    ${DATA[@]} ${TRAIN[@]} ${PARALLEL[@]} ${LOG[@]}
"""
STRING_SCRIPT = """\
TP=8; PP=2
GPT_ARGS="
    --tensor-model-parallel-size $TP
    --pipeline-model-parallel-size ${PP}
    --sequence-parallel
    --num-layers 24 --hidden-size 2048 --num-attention-heads 16
    --seq-length 2048 --max-position-embeddings 2048
    --micro-batch-size 4 --global-batch-size=256
    --fp16 --vocab-size 50304
"
python -m torch.distributed.launch --nproc_per_node 8 --nnodes 2 pretrain_gpt.py $GPT_ARGS \\
    --recompute-activations 2>&1 | tee log.txt
"""
PLAIN = (
    "--num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 1024 --micro-batch-size 1 --global-batch-size 8\n"
    "--vocab-size 1000 --bf16"
)
PLAIN_SETS = [*SETS, "cluster.accelerators=8"]


def test_script_with_arrays_is_read():
    data, notes = megatron.read_text(MOE_SCRIPT, "train.sh", SETS)
    model, layout = data["model"], data["layout"]
    assert (model["layers"], model["hidden"], model["ffn"], model["kv_heads"]) == (32, 4096, 14336, 8)
    assert model["moe"] == {"experts": 8, "top_k": 2, "expert_ffn": 14336}
    assert (layout["pp"], layout["vpp"], layout["ep"], layout["etp"], layout["schedule"]) == (4, 2, 8, 1, "interleaved")
    assert data["cluster"]["accelerators"] == 32
    assert data["training"]["global_batch_sequences"] == 256
    assert data["training"]["tokens"] == 500000 * 256 * 4096
    assert any("--lr" in note and "--weight-decay" in note for note in notes)
    assert any("condition" in note and "LOG" in note for note in notes)
    assert plan(data).step_s > 0


def test_script_with_strings_is_read():
    data, _ = megatron.read_text(STRING_SCRIPT, "train.sh", SETS)
    assert data["layout"]["tp"] == 8 and data["layout"]["sequence_parallel"] and data["layout"]["sharding"] == "none"
    assert data["layout"]["recompute"] == {"granularity": "selective", "modules": ["core_attn"]}
    assert data["training"]["precision"] == {"matmul": "fp16", "gradients": "fp16"}
    assert data["model"]["norm"] == "layernorm" and data["model"]["positions"] == "learned"
    assert data["model"]["biases"] == {"qkv": True, "attn_out": True, "mlp": True}
    assert data["cluster"]["accelerators"] == 16


def test_file_that_only_sets_a_variable_is_read():
    data, _ = megatron.read_text(f'MODEL_ARGS="\n{PLAIN}\n"\nOTHER=3\n', "conf.sh", PLAIN_SETS)
    assert data["model"]["layers"] == 4


def test_arguments_alone_are_read_with_megatrons_defaults():
    data, _ = megatron.read_text(PLAIN, "args.txt", PLAIN_SETS)
    assert data["model"]["ffn"] == 2048 and data["model"]["tied_embeddings"] and not data["model"]["gated_ffn"]
    assert data["training"]["optimizer"] == "adamw" and data["layout"]["tp"] == 1


def test_command_writes_a_spec_that_can_be_planned(tmp_path, capsys):
    source, target = tmp_path / "train.sh", tmp_path / "spec.yaml"
    source.write_text(MOE_SCRIPT)
    assert cli.main(["import-megatron", str(source), "--set", SETS[0], "-o", str(target)]) == 0
    assert plan(yaml.safe_load(target.read_text())).problem.spec.cluster.accelerators == 32
    assert cli.main(["import-megatron", str(source), "--set", SETS[0], "-o", str(source)]) == 2  # never over its input


def test_nothing_is_executed(tmp_path):
    flag = tmp_path / "ran"
    text = PLAIN.replace("--bf16", f"--bf16 --data-path $(touch {flag}) --save `touch {flag}`")
    megatron.read_text(text, "args.txt", PLAIN_SETS)
    assert not flag.exists()


def test_variables_of_this_process_are_not_used(monkeypatch):
    monkeypatch.setenv("LAYERS_OF_TEST", "4")
    with pytest.raises(SpecError, match="--num-layers"):
        megatron.read_text(PLAIN.replace("layers 4", "layers $LAYERS_OF_TEST"), "args.txt", PLAIN_SETS)


BAD = [
    ("--bf16", "--bf17", r"args.txt:2:1: --bf17: Megatron-LM has no such argument. Did you mean --bf16"),
    ("--bf16", "--bf16 --num-layerss 3", r"args.txt:2:1: --num-layerss: .* --num-layers"),
    ("--bf16", "--bf16 --fp16", "--fp16 contradicts --bf16"),
    ("--bf16", "--bf16 --num-layers 8", "given twice with different values, at lines 1 and 2"),
    ("--bf16", "--bf16 stray", "'stray' stands where an argument should"),
    ("--bf16", "--bf16=yes", "takes no value"),
    ("--bf16", "--tensor-model-parallel-size", "needs a value"),
    ("--bf16", "--tensor-model-parallel-size two", "two: a whole number"),
    ("--bf16", "--tensor-model-parallel-size $(nvidia-smi -L)", "only running the script"),
    ("--bf16", "--position-embedding-type mrope", "mrope: not understood here. Allowed: rope"),
    ("--bf16", "--hybrid-layer-pattern M*M*", "no field of a spec says"),
    ("--bf16", "--cp-comm-type p2p a2a", "has 2 values: one is wanted"),
    ("--bf16", "--main-grads-dtype bf16", "bf16: not understood"),
    ("--bf16", "--cuda-graph-impl eager", "eager: not understood"),
    ("--bf16", "--use-torch-fsdp2", "no field of a spec says"),
    ("--bf16", "--bf16 --fp8-format hybrid --fp8-recipe custom", "custom: not understood"),
    ("--bf16", "--fp8-format hybrid", "without --bf16"),
    ("--bf16", "--bf16 --num-experts 8 --moe-layer-freq 2", "write the list"),
    ("--bf16", "--bf16 --num-experts 8 --moe-layer-freq ([0]*3", r"'\(' inside of a command: quote it"),
    ("--bf16", "--bf16 --num-experts 8 --moe-layer-freq '[0]*3+[x]'", "a list like"),
    ("--bf16", "--bf16 --num-experts 8 --moe-layer-freq '[0]*3+[1]*9'", "one entry for each of the 4 layers"),
    ("--bf16", "--bf16 --num-experts 8 --moe-layer-freq '[1,0,0,1]'", "no number of dense layers"),
    ("--bf16", "--pipeline-model-parallel-size 3", "not divisible by the 3 stages"),
    ("--bf16", "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4|tL|'", "3 stages, no multiple"),
    ("--bf16", "--window-size 10,10", "a window to the left"),
    ("--bf16", "--train-iters 5 --train-samples 40", "contradicts --train-iters"),
    ("--bf16", "--exp-avg-dtype bf16", "one dtype for both moments"),
    ("--bf16", "--recompute-granularity full", "needs --recompute-method"),
    ("--bf16", "--bf16 'open", "a quote is not closed"),
    ("--seq-length 1024", "", "--seq-length is missing"),
    ("--num-layers 4", "", "no command has --num-layers"),
    ("--vocab-size 1000", "", "do not say model.vocab"),
    ("--global-batch-size 8", "", "training.global_batch_sequences"),
    ("--bf16", "--bf16\n#: layout.tp: 4", "the arguments decide it"),
    ("--bf16", "--bf16\n#: nonsense", "not 'field: value'"),
    ("--bf16", "--bf16 --train-iters 9\n#: training.tokens: 1e12", "a comment says training.tokens"),
    ("--bf16", "--bf16 --attention-backend fused\n#: software.attention_kernel: fa3", "a comment says"),
    ("--bf16", "--pipeline-model-parallel-size 0 --recompute-granularity full --recompute-method block --recompute-num-layers 1",
     r"args.txt:2:1: --pipeline-model-parallel-size 0: a whole number of at least 1"),
    ("--bf16", "--tensor-model-parallel-size 0", r"args.txt:2:1: --tensor-model-parallel-size 0: a whole number of at least 1"),
    ("--bf16", "--context-parallel-size 0", r"args.txt:2:1: --context-parallel-size 0: a whole number of at least 1"),
    ("--num-layers 4", "--num-layers 0 --recompute-granularity full --recompute-method block --recompute-num-layers 1",
     r"args.txt:1:1: --num-layers 0: a whole number of at least 1 and at most 10000"),
    ("--num-layers 4", "--num-layers 999999999 --num-experts 8 --moe-layer-freq '([0]*99999)*99999'", "at most 10000"),
    ("--bf16", "--bf16\n#: training.tokens: abc", r"args.txt:3:1: training.tokens: a number above 0"),
    ("--bf16", "--bf16\n#: training.tokens: true", r"args.txt:3:1: training.tokens: a number above 0"),
    ("--bf16", "--bf16\n#: cluster.accelerators: abc", r"args.txt:3:1: cluster.accelerators: a number above 0"),
    ("--bf16", "--bf16\n#: software.stack: 5", r"args.txt:3:1: software.stack: a text"),
    ("--bf16", "--bf16\n#: software.attention_kernel: [fa2]", r"args.txt:3:1: software.attention_kernel: a text"),
    ("--bf16", "--bf16 --fp8-format e4m3", r"args.txt:2:1: --fp8-format e4m3: not understood here. Allowed: hybrid"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "says"), BAD, ids=[one[1][:40] or one[0] for one in BAD])
def test_bad_arguments_get_one_message(old, new, says):
    with pytest.raises(SpecError, match=says):
        megatron.read_text(PLAIN.replace(old, new), "args.txt", PLAIN_SETS)


def test_launcher_and_comment_must_agree():
    text = f"torchrun --nproc-per-node 8 --nnodes 3 pretrain_gpt.py {PLAIN.replace(chr(10), ' ')}\n#: cluster.accelerators: 64\n"
    with pytest.raises(SpecError, match="the launcher starts 24 ranks"):
        megatron.read_text(text, "args.txt", SETS)


def test_launcher_alone_says_how_many_accelerators():
    text = f"torchrun --nproc-per-node=8 --nnodes=3 pretrain_gpt.py {PLAIN.replace(chr(10), ' ')}"
    data, _ = megatron.read_text(text, "args.txt", [*SETS, "training.global_batch_sequences=24"])
    assert data["cluster"]["accelerators"] == 24


def test_several_launches_are_refused():
    with pytest.raises(SpecError, match="several commands"):
        megatron.read_text(f"run {PLAIN}\n\nrun {PLAIN}", "args.txt", PLAIN_SETS)


@pytest.mark.parametrize(("content", "says"), [
    (b"\x00\xff\xfe binary", "args"), (b"--num-layers 4\n" * 200_000, "1 MiB|1048576|large|bytes"), (b"", "--num-layers"),
])
def test_files_that_are_no_scripts(tmp_path, capsys, content, says):
    path = tmp_path / "args"
    path.write_bytes(content)
    start = time.perf_counter()
    assert cli.main(["import-megatron", str(path)]) == 2
    said = capsys.readouterr()
    assert not said.out and "Traceback" not in said.err and re.search(says, said.err)
    assert time.perf_counter() - start < 5


def test_expansion_is_bounded():
    lines = ["A='x x x x x x x x x x'", *(["A=$A$A$A$A$A$A$A$A$A$A"] * 9), f"run $A {PLAIN}".replace("\n", " ")]
    with pytest.raises(SpecError, match="expands to more than"):
        megatron.read_text("\n".join(lines), "args.txt", PLAIN_SETS)


def test_reader_of_scripts():
    text = "A=1 # no\nB='a b'\nC=\"$A-${B}\"\ncat <<EOF\n--num-layers 9\nEOF\n"
    text += "run $A \"$B\" $B ${C} ${D:-d} \\\n  e 'f\\n' g\\ h \"$(date)\" ; next $((2*(3+4)-1))\n"
    commands = [[word.text for word in words] for words in shell.read(text, "x").commands]
    assert commands == [
        ["cat"], ["run", "1", "a b", "a", "b", "1-a", "b", "d", "e", "f\\n", "g h", shell.UNKNOWN], ["next", "13"],
    ]  # fmt: skip
    assert shell.read(text, "x").commands[1][-1].line == 8


def test_arguments_of_the_parser_are_known():
    kinds = megatron_args.flags()
    assert kinds["num-layers"] == "one" and kinds["swiglu"] == "switches" and kinds["recompute-modules"] == "many"
    assert len(kinds) > 800
    assert set(megatron.REFUSED) <= set(kinds)


def test_no_list_of_layers_takes_long():
    start = time.perf_counter()
    for pattern in ("([1]+[0]*9999)", "([0]*99999)*99999", "([0,1]*5000)", "+".join(["[0]*9999"] * 2000)):
        text = PLAIN.replace("--num-layers 4", f"--num-layers 10000 --num-experts 8 --moe-layer-freq '{pattern}'")
        with contextlib.suppress(SpecError):
            megatron.read_text(text, "args.txt", PLAIN_SETS)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("pattern", "says"), [
    ("[0,0,0,1]", {"every": 1, "dense_layers": 3}), ("[0,1,0,1]", {"every": 2, "dense_layers": 0}), ("[1]*4", {"every": 1}),
    ("[0,0,1,0]", {"every": 2, "dense_layers": 1}), ("[0,0,1,1]", {"dense_layers": 2}), ("[0,1,0,0]", None),
])
def test_lists_of_layers(pattern, says):
    text = PLAIN.replace("--bf16", f"--bf16 --num-experts 8 --moe-layer-freq '{pattern}'")
    if says is None:
        with pytest.raises(SpecError, match="no number of dense layers"):
            megatron.read_text(text, "args.txt", PLAIN_SETS)
        return
    moe = megatron.read_text(text, "args.txt", PLAIN_SETS)[0]["model"]["moe"]
    assert {name: moe.get(name, 1 if name == "every" else 0) for name in says} == says
    kinds = resolve.layer_kinds(load.load(megatron.read_text(text, "args.txt", PLAIN_SETS)[0]).spec.model)
    assert [int(kind.startswith("moe")) for kind in kinds] == eval(pattern)



def test_a_broken_value_is_never_an_internal_fault():
    text = launch.export(launches.planned("megatron", "deepseek-v3"), "megatron").text
    places = list(re.finditer(r"(?m)^(?:    --[a-z0-9-]+|#: [a-z_.]+:) ([^\n]+)$", text))
    assert len(places) > 40
    for place in places:
        for value in ("0", "9" * 15, "9" * 400, "-1", "abc", "null", "[]"):
            with contextlib.suppress(SpecError):
                megatron.read_text(text[: place.start(1)] + value + text[place.end(1) :], "launch.sh", SETS)
