"""`timeline`: one step on a time axis, as a trace that Perfetto, chrome://tracing and speedscope open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import STYLE, Output, Sets, SpecPath, epilog
from codesign.cli.output import emit, say
from codesign.cli.specs import loaded_spec, planned, run_of
from codesign.errors import SpecError

commands = typer.Typer(**STYLE)

MOST_RANKS = 100_000  # of one --ranks range; no pipeline is as long


@commands.command(epilog=epilog(
    "codesign timeline spec.yaml -o trace.json",
    "codesign timeline spec.yaml --ranks 0,7 --max-events 20000 -o trace.json",
))
def timeline(
    spec: SpecPath, sets: Sets = None, output: Output = None,
    ranks: Annotated[
        str | None, typer.Option("--ranks", metavar="0,2,4-7", help="Pipeline ranks to show; default: all.")
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max-events", min=1, help="Fold the steady state above this; default: 200,000 (25 MB).")
    ] = None,
) -> None:
    """One step on a time axis: compute, communication, bubbles, optimizer and memory of every pipeline rank.

    A trace in the Chrome format (ui.perfetto.dev, chrome://tracing, speedscope). Its totals are the plan's; how far the
    event replay of the schedule is from the plan is in the file and on stderr. Exit 1 where the layout is not feasible; the
    trace is written all the same. Of a run with phases it is the step of the layout in the
    spec, over sites that of the slowest site.
    """
    from codesign import timeline as room

    if output is not None and output != "-" and Path(output).suffix.lower() != ".json":
        raise SpecError(f"-o {output}: a trace is JSON; write to a file that ends in .json")
    chosen = None if ranks is None else _ranks(ranks)
    loaded = loaded_spec(spec, sets)
    made = planned(loaded)
    if loaded.spec.sites and (run := run_of(loaded, made)) is not None:
        from codesign.report import over_sites

        made = over_sites.shown(made, run)
        say(f"note: the step of {over_sites.place(run)}, alone; the exchange between sites is not in it")
    line = room.timeline(made, room.MAX_EVENTS if max_events is None else max_events, chosen)
    for note in line.notes:
        say(f"note: {note}")
    for violation in made.violations:
        say(f"not feasible: {violation}")
    emit(room.trace(line), output, keep=spec)
    raise typer.Exit(0 if made.feasible else 1)


def _ranks(text: str) -> list[int]:
    """Numbers and ranges, as in 0,2,4-7."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (_is_number(first) and (_is_number(last) if dash else not last)):
            raise SpecError(f"--ranks {text}: {part.strip()!r} is no rank; write numbers and ranges, for example 0,2,4-7")
        low, high = int(first), int(last or first)
        if high < low or high - low > MOST_RANKS:
            raise SpecError(f"--ranks {text}: {part.strip()} is no range of pipeline ranks")
        found += range(low, high + 1)
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
