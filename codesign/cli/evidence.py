"""`validate`: predictions beside measured runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import STYLE, Output, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text, say

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog(
    "codesign validate",
    "codesign validate --where accelerator=h100-sxm-80gb --where kind=dense",
    "codesign validate my_runs.jsonl --format json -o accuracy.json",
))
def validate(
    runs: Annotated[
        str | None, typer.Argument(metavar="RUNS.jsonl", help="Measured runs; default: those shipped.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="Only this accelerator, stack, kind, group or source."),
    ] = None,
    written: Written = None, output: Output = None,
) -> None:
    """How wrong we are: every measured run turned into a spec, predicted and compared.

    csv holds one line a run. A line that cannot be read is named on stderr and skipped.
    """
    from codesign.evidence.validate import validate as run
    from codesign.report import text

    form = chosen_format(written, output)
    found = run(Path(runs) if runs is not None else None, tuple(where or ()))
    for line in found.skipped:
        say(f"skipped {line}")
    if form is Format.json:
        emit(json_text(found.to_dict()), output, keep=runs)
    elif form is Format.csv:
        emit(text.csv_text(found.to_dict()["rows"]), output, keep=runs)
    else:
        write = text.validation_markdown if form is Format.md else text.validation_screen
        emit(write(found.summary_rows(), found.refused(), found.constants()), output, keep=runs)
