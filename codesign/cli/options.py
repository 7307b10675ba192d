"""Arguments and options that several commands share, and the form of their help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codesign.cli.output import Format

EXIT_CODES = "Exit codes: 0 an answer; 1 the answer is no; 2 wrong use or wrong input; 3 our fault."


def epilog(*examples: str) -> str:
    """Examples and exit codes; the backspace keeps the lines as they are."""
    lines = "".join(f"  {example}\n" for example in examples)
    return f"\b\nExamples:\n{lines}\n{EXIT_CODES}"


_SETTINGS = {"help_option_names": ["-h", "--help"]}
STYLE: dict[str, Any] = {
    "rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True, "context_settings": _SETTINGS,
}

SpecPath = Annotated[str, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec; may be repeated.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--override", metavar="QUANTITY=VALUE", help="Fix a quantity for a counterfactual; may be repeated."),
]
Written = Annotated[
    Format | None, typer.Option("--format", help="How to write the answer; default: the ending of -o, else table.")
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")]
Free = Annotated[
    list[str] | None,
    typer.Option("--free", metavar="FIELD", help="Search this field of layout whatever the spec says, or all; may be repeated."),
]
Workers = Annotated[int, typer.Option("--workers", min=1, max=1024, help="Processes on this machine.")]
