"""`import-hf`, `schema` and `init`: files that a spec is written with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import STYLE, Output, epilog
from codesign.cli.output import emit, say, yaml_text
from codesign.errors import SpecError

commands = typer.Typer(**STYLE)


@commands.command("import-hf", epilog=epilog(
    "codesign import-hf config.json", "codesign import-hf path/to/model -o model.yaml",
))
def import_hf(
    config: Annotated[str, typer.Argument(metavar="CONFIG.json", help="A Hugging Face config.json, or its folder.")],
    output: Output = None,
) -> None:
    """Read a Hugging Face configuration, offline, into the `model:` section of a spec.

    What was inferred is said on stderr.
    """
    from codesign.spec import hf

    fields, notes = hf.read(config)
    for note in notes:
        say(f"note: {note}")
    emit(yaml_text({"model": fields}), output, keep=config)


@commands.command(epilog=epilog("codesign schema -o spec.schema.json"))
def schema(output: Output = None) -> None:
    """The JSON schema of a spec, for completion and checks in an editor."""
    from codesign.spec import load

    emit(json.dumps(load.json_schema(), indent=2, ensure_ascii=False) + "\n", output)


@commands.command(epilog=epilog(
    "codesign init -o spec.yaml",
    "codesign init --hf config.json --accelerators 256 -o spec.yaml",
    "codesign init --model mixtral-8x7b --profile h200-sxm -o spec.yaml",
))
def init(
    hf: Annotated[
        str | None, typer.Option("--hf", metavar="CONFIG.json", help="A Hugging Face config.json, or its folder.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="PRESET", help="A model preset.")] = None,
    accelerators: Annotated[int, typer.Option("--accelerators", min=1, help="How many, for --hf or --model.")] = 256,
    profile: Annotated[str, typer.Option("--profile", help="Hardware profile, for --hf or --model.")] = "h100-sxm-80gb",
    software: Annotated[
        str | None, typer.Option("--software", help="Software stack; default: a usual one for the profile.")
    ] = None,
    sequence: Annotated[int, typer.Option("--sequence", min=1, help="Tokens of a sequence.")] = 4096,
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE where it exists.")] = False,
) -> None:
    """A commented spec to start from: an example, or with --hf or --model one for a model, on the best layout found.

    The batch is assumed, 2 to 8 Mi tokens where the accelerators divide it. Exit 1 where no layout of the model fits on the
    accelerators; nothing is written then.
    """
    from codesign.spec import starter

    if output is not None and output != "-" and os.path.lexists(output) and not force:
        raise SpecError(f"-o {output}: exists already; choose another name, or --force to overwrite it")
    if hf is None and model is None:
        _refuse_alone(accelerators, profile, software, sequence)
        emit(starter.TEXT, output)
        return
    if hf is not None and model is not None:
        raise SpecError("--hf and --model are two models: give one")
    emit(_of_model(hf, model, accelerators, profile, software, sequence), output, keep=hf)


def _refuse_alone(accelerators: int, profile: str, software: str | None, sequence: int) -> None:
    """The example has numbers of its own: options that would be ignored are refused."""
    given = {"--accelerators": accelerators != 256, "--profile": profile != "h100-sxm-80gb", "--software": software is not None,
             "--sequence": sequence != 4096}  # fmt: skip
    for name, is_given in given.items():
        if is_given:
            raise SpecError(f"{name} has no effect without --hf or --model: the example has numbers of its own")


def _of_model(
    hf: str | None, model: str | None, accelerators: int, profile: str, software: str | None, sequence: int
) -> str:
    """The spec of a model on the best layout of usual degrees."""
    from codesign import units
    from codesign.cli.progress import Progress
    from codesign.errors import Infeasible
    from codesign.search.start import BATCH_TOKENS, Start, start
    from codesign.spec import hf as configs
    from codesign.spec import starter

    fields, notes = configs.read(hf) if hf is not None else (str(model), [])
    if hf is not None:
        notes = [f"from {os.path.basename(os.path.abspath(hf))}, by codesign import-hf", *notes]
    found = start(fields, accelerators, profile, software, sequence, Progress("layouts").show)
    if not isinstance(found, Start):
        reasons = ", ".join(f"{count:,} {name}" for name, count in found.tally["rejected"].items())
        raise Infeasible(
            f"none of {found.space.size:,} layouts of {accelerators:,} {profile} is feasible ({reasons or 'nothing divides'}); "
            "try more --accelerators, or another --profile"
        )
    sequences = found.sections["training"]["global_batch_sequences"]
    if not BATCH_TOKENS[0] <= sequences * sequence <= BATCH_TOKENS[1]:
        say(
            f"note: no batch of 2 to 8 Mi tokens divides {accelerators:,} accelerators: {sequences:,} sequences are "
            f"{sequences * sequence:,} tokens; write your own"
        )
    step = units.show(found.step_s, "s")
    said = (f"the fastest of {found.candidates:,} layouts, of usual degrees and near the best of them, {step} a step; "
            "codesign search looks further")  # fmt: skip
    return starter.of_model({"name": _name(hf, model), **found.sections}, notes, said)


def _name(hf: str | None, model: str | None) -> str:
    """A name for the run: the preset, the file, or the folder of a config.json."""
    if hf is None:
        return str(model)
    path = Path(os.path.abspath(hf))
    return path.name if path.is_dir() else path.parent.name if path.stem == "config" else path.stem
