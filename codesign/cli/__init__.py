"""The command line. Data on stdout, all else on stderr.

Exit codes: 0 an answer, 1 the answer is no, 2 wrong use or wrong input, 3 our fault.

Nothing heavy is imported before a command needs it: `codesign --help` loads neither numpy nor pandas.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from codesign import __version__
from codesign.cli import (
    catalog,
    compare,
    evidence,
    explain,
    export,
    files,
    hardware,
    plan,
    search,
    shapes,
    timeline,
    what_if,
)
from codesign.cli.options import STYLE, epilog
from codesign.cli.output import emit, say, show_traceback
from codesign.errors import CodesignError

app = typer.Typer(
    help="Plan a large training run: step time, memory and traffic, with the equation and the source of every number.",
    epilog=epilog("codesign init -o spec.yaml", "codesign plan spec.yaml", "codesign explain spec.yaml step_s"),
    **STYLE,
)
for part in (plan, search, explain, compare, timeline, shapes, hardware, evidence, export, files, what_if):
    app.add_typer(part.commands)
app.add_typer(catalog.profiles_app, name="profiles")
app.add_typer(catalog.models_app, name="models")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Expected errors are one message; a traceback only with `--debug`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a stream that a caller put in place may not have it
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="codesign")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CodesignError as error:
        if debug:
            show_traceback()
        say(str(error))
        return error.exit_code
    except Exception as error:
        if debug:
            show_traceback()
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        say(f"internal fault: {what}. Please report it; run with --debug for the traceback")
        return 3
    return 0


def _print_version(asked: bool) -> None:
    if asked:
        emit(f"codesign {__version__}\n")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """`--debug` is read by `main`, before the command line is parsed, so that it also covers the parser."""
