"""Megatron-LM: the launch script that holds the arguments of a plan."""

from __future__ import annotations

import shlex
from itertools import groupby
from typing import Any

from codesign.export.asked import FILL_IN, Asked
from codesign.export.megatron import FRAMEWORK, SHARDED, Argument, arguments, carried_otherwise, undecided


def environment(asked: Asked) -> dict[str, str]:
    """Environment variables that the launch needs."""
    found = {}
    if asked.values["layout.sharding"] not in SHARDED:
        found["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # Megatron insists on it before Blackwell, with tp or cp
    if asked.take("software.launch_blocking"):
        found["CUDA_LAUNCH_BLOCKING"] = "1"
    return found


def script(asked: Asked, given: list[Argument], head: str) -> str:
    """A shell script: one array a group, `torchrun` at the end. It stops before launching while a FILL_IN is left."""
    lines = ["#!/usr/bin/env bash", head.rstrip(), "set -euo pipefail", ""]
    lines += [f"export {name}={value}" for name, value in environment(asked).items()]
    nodes = asked.ranks // asked.per_node
    lines += [f"GPUS_PER_NODE={asked.per_node}", f"NUM_NODES={nodes}", ""]
    everything = [*given, *undecided(asked)]
    names = []
    for group, members in groupby(everything, lambda argument: argument.group):
        if group == "UNDECIDED":
            lines.append(f"# Not decided by the plan: replace every {FILL_IN}.")
        names.append(f"{group}_ARGS")
        lines += [f"{group}_ARGS=(", *(f"    {_line(argument)}" for argument in members), ")", ""]
    arrays = " ".join(f'"${{{name}[@]}}"' for name in names)
    lines += [
        f'case " ${{UNDECIDED_ARGS[*]}} " in *" {FILL_IN} "*)',
        f'    echo "replace every {FILL_IN} in $0" >&2; exit 2 ;;',
        "esac",
        "torchrun --nproc-per-node $GPUS_PER_NODE --nnodes $NUM_NODES \\",
        '    --node-rank "${NODE_RANK:?}" --master-addr "${MASTER_ADDR:?}" --master-port "${MASTER_PORT:-6000}" \\',
        f"    pretrain_gpt.py {arrays}",
    ]
    return "\n".join(lines) + "\n"


def _line(argument: Argument) -> str:
    return " ".join([argument.flag, *(shlex.quote(value) for value in argument.values)])


def write(asked: Asked, head: Any) -> str:
    """The launch script; `head` makes the header from what no option carries. Raises SpecError for what is refused."""
    given = arguments(asked)
    asked.take("software.launch_blocking")
    if asked.ranks % asked.per_node:
        asked.refuse("cluster.accelerators", f"do not fill nodes of {asked.per_node}: torchrun wants as many ranks on each")
    asked.take("cluster.accelerators")
    return script(asked, given, head(FRAMEWORK, asked.close(FRAMEWORK, carried_otherwise(asked))))
