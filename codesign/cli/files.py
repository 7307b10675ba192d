"""`import-hf`, `schema` and `init`: files that a spec is written with."""

from __future__ import annotations

import json
import os
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


@commands.command(epilog=epilog("codesign init -o spec.yaml", "codesign init > spec.yaml"))
def init(
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE where it exists.")] = False,
) -> None:
    """A commented spec to start from."""
    from codesign.spec import starter

    if output is not None and output != "-" and os.path.lexists(output) and not force:
        raise SpecError(f"-o {output}: exists already; choose another name, or --force to overwrite it")
    emit(starter.TEXT, output)
