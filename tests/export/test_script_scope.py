"""What a launch script surely sets, and what only running it could tell."""

from __future__ import annotations

import time

import pytest

from codesign.errors import SpecError
from codesign.spec import megatron, shell

UNSURE = [
    "f() { TP=8; }; TP=2; f", "f() { read TP; }; TP=2; f", "f() { if x; then TP=8; fi; }; TP=2; f",
    "TP=2; false && TP=4", '[ -n "$X" ] && TP=4', "true || TP=4", "(TP=4)", "{ TP=4; } | cat", "TP=4 | cat",
    "cat | TP=4", "TP=4 &", "f() { TP=4; }", "function f {\n TP=4\n}", "f() # what it does\n{\n TP=4\n}",
    "TP=2; unset TP", "TP=2; read TP", "TP=2; read -r A TP", "TP=2; let TP=4", "TP=2; let TP+=4", "TP=2; ((TP++))",
    "TP=2; (( TP = 4 ))", "for TP in 2 4; do echo; done", "TP=2; printf -v TP 4", "false && { TP=4; }",
    "false &&\n TP=4", "declare -i TP=2+2", "TP=2; export 'TP=4'", "while true; do TP=4; done",
    "case x in y) TP=4;; esac", "TP=2; mapfile TP",
]  # fmt: skip
SURE = [
    ("TP=2; TP=8 echo hi", "2"), ("TP=2; TP=8 echo $TP", "2"), ("TP=2 && echo", "2"), ("false && echo\nTP=2", "2"),
    ("{ TP=2; }", "2"), ("false && echo; TP=2", "2"), ("TP=2; (( TP == 4 ))", "2"), ("export TP=2", "2"),
    ("declare -x TP=2", "2"), ("TP=2; printf TP", "2"), ("a | b\nTP=2", "2"), ("echo x > f 2>&1; TP=2", "2"),
    ("cat <<E | sort\nTP=4\nE\nTP=2", "2"), ("TP=1; TP+=6", "16"), ("A=1; A+=1 TP=4 echo; TP=$A", "1"),
    ("echo x >TP=4; TP=2", "2"), ("sort <(TP=4); TP=2", "2"), ("TP=2; [[ $TP < 4 ]]", "2"),
]  # fmt: skip


def held(script: str) -> str:
    return " ".join(word.text for word in shell.read(f"{script}\n", "x").held["TP"])


@pytest.mark.parametrize("script", UNSURE)
def test_what_may_not_happen_is_unknown(script):
    assert shell.UNKNOWN in held(script)


@pytest.mark.parametrize(("script", "value"), SURE)
def test_what_surely_happens_is_known(script, value):
    assert held(script) == value


def test_an_unsure_value_is_an_error_where_it_is_used():
    text = "TP=2\n[ -n \"$X\" ] && TP=4\nrun p.py --num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 1024 \\\n"
    text += "  --micro-batch-size 1 --tensor-model-parallel-size $TP\n"
    with pytest.raises(SpecError, match="--tensor-model-parallel-size has a value that only running the script could tell"):
        megatron.read_text(text, "x")


def test_variables_in_front_of_the_launch_are_of_its_environment():
    assert shell.read("CUDA_LAUNCH_BLOCKING=1 run --num-layers 4\n", "x").exported["CUDA_LAUNCH_BLOCKING"] == "1"
    assert "CUDA_LAUNCH_BLOCKING" not in shell.read("CUDA_LAUNCH_BLOCKING=1 echo\nrun --num-layers 4\n", "x").exported


def test_a_launch_in_a_function_is_said_not_to_be_read():
    assert any("in a function" in note for note in shell.read("f() {\n run --num-layers 4\n}\n", "x").notes)


def test_a_wrong_argument_in_an_array_is_shown_on_its_own_line():
    with pytest.raises(SpecError, match=r"x:2:1: --bf61: .* --bf16"):
        megatron.read_text('A=(\n --bf61\n --num-layers 4\n)\nrun p.py "${A[@]}"\n', "x")


@pytest.mark.parametrize("line", ["A+=x\n", "A+=(x)\n", "{ A=1\n", "A=1 A+=2 echo\n", "f() {\n", "(", "A=1 |"])
def test_long_scripts_are_read_in_time(line):
    start = time.perf_counter()
    try:
        shell.read(line * 100_000, "x")
    except SpecError as error:
        assert "inside each other" in str(error)
    assert time.perf_counter() - start < 5
