"""`search` and `why-not`: the best layouts of a spec whose layout is open, and why a layout is not among them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.cli.options import STYLE, Free, Output, Sets, SpecPath, Workers, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text, replace_file, say
from codesign.cli.progress import Progress
from codesign.cli.specs import say_step_only
from codesign.errors import CodesignError, SpecError

if TYPE_CHECKING:
    from codesign.search.result import Result
    from codesign.search.run import Progress as Done
    from codesign.search.space import Space

commands = typer.Typer(**STYLE)

Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="URL", help="Address of a Dask scheduler, as in tcp://host:8786.")
]
SAVE_EVERY_S = 5.0


@commands.command(
    epilog=epilog(
        "codesign search spec.yaml --free all",
        "codesign search spec.yaml --free tp --free pp --set 'layout.micro_batch=[1, 2]' -o layouts.parquet",
        "codesign search spec.yaml --free all --objective step_s --objective scale_out_traffic --workers 2",
    )
)
def search(
    spec: SpecPath,
    sets: Sets = None,
    free: Free = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What to minimise; the first ranks, the front is over all. In place of search.objectives.",
        ),
    ] = None,
    best: Annotated[int | None, typer.Option("--best", help="How many of the best to keep.")] = None,
    within: Annotated[
        float | None, typer.Option("--within", help="Show alternatives within this share of the best, as in 0.03.")
    ] = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write every candidate, feasible or not, with its reason (csv or parquet).")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the manifest beside -o FILE.")] = False,
    written: Written = None,
    output: Output = None,
) -> None:
    """The best layouts, alternatives of another kind, the Pareto front, and a reason for every layout that is refused.

    Every field of layout may be fixed, listed ([1, 2, 4]), ranged ({from: 1, to: 64, times: 2}) or left out. With -o FILE
    a manifest is written beside it, from which --resume goes on. Exit 1 where no layout is feasible.
    """
    _refuse_without_effect(everything, workers, scheduler, resume, written, output)
    space = _space(spec, [*(sets or ()), *_wanted(objective, best, within)], free or ())
    say_step_only(space.open.spec, spec)
    if everything:
        _all_rows(space, output, spec)
        return
    form = None if _is_parquet(output) else chosen_format(written, output)
    result = _searched(space, workers, scheduler, output, resume)
    _write(result, form, output, spec)
    raise typer.Exit(0 if result.best else 1)


def _refuse_without_effect(
    everything: bool, workers: int, scheduler: str | None, resume: bool, written: Format | None, output: str | None
) -> None:
    """Options that would be ignored beside others."""
    if everything:
        given = {"--workers": workers > 1, "--scheduler": scheduler, "--resume": resume, "--format": written}
        for name in (name for name, value in given.items() if value):
            raise SpecError(f"{name} has no effect with --all, which evaluates in one process and writes one table")
    if scheduler is not None and workers > 1:
        raise SpecError("--workers has no effect with --scheduler, whose workers do the work: give one of them")
    if written is not None and _is_parquet(output):
        raise SpecError(f"--format {written.value} has no effect with -o {output}: the ending says Parquet")


def _wanted(objective: Sequence[str] | None, best: int | None, within: float | None) -> list[str]:
    sets = []
    if objective:
        sets.append(f"search.objectives=[{', '.join(objective)}]")
    if best is not None:
        sets.append(f"search.best={best}")
    if within is not None:
        sets.append(f"search.within={within}")
    return sets


def _space(spec: str, sets: Sequence[str], free: Sequence[str]) -> Space:
    from codesign.search import space
    from codesign.spec import domains

    return space.of(domains.load(spec, sets, free))


def _is_plain(output: str) -> bool:
    """A file or a folder, not a device or a pipe, beside which nothing can be kept."""
    return Path(output).is_file() or Path(output).is_dir()


def _is_parquet(output: str | None) -> bool:
    return output is not None and Path(output).suffix.lower() == ".parquet"


# ---------------------------------------------------------------------------------------------------- the search


def _searched(space: Space, workers: int, scheduler: str | None, output: str | None, resume: bool) -> Result:
    """Run to the end, or to where the user stops it; the state is saved beside the output."""
    from codesign.search import result, run

    saved = _Saved(space, output)
    before = saved.load() if resume else None
    if output is not None:
        saved.probe()
    progress = before or run.Progress.empty(space)
    watch = Progress("layouts", space.size, progress.candidates)

    def report(now: Done) -> None:
        watch.show(now.candidates)
        saved.save(now)

    try:
        run.search(space, workers=workers, scheduler=scheduler, report=report, resume=progress)
    except KeyboardInterrupt:
        watch.clear()
        saved.save(progress, now=True)
        again = f"; go on with --resume -o {output}" if output is not None else "; with -o FILE it could go on later"
        say(f"stopped after {progress.candidates:,} of {space.size:,} candidates{again}")
        raise typer.Exit(130) from None
    except CodesignError:
        watch.clear()
        saved.save(progress, now=True)
        raise
    watch.clear()
    saved.save(progress, now=True)
    return result.Result(space, progress)


class _Saved:
    """The manifest beside an output file."""

    def __init__(self, space: Space, output: str | None) -> None:
        from codesign.search.result import manifest_path

        self.space, self.output = space, output
        special = output == "-" or (output is not None and Path(output).exists() and not _is_plain(output))
        self.path = manifest_path(output) if output is not None and not special else None
        self.last = time.monotonic()

    def load(self) -> Done:
        from codesign.search.result import resumed

        if self.path is None:
            raise SpecError("--resume goes on from the manifest beside an output: give the same -o FILE")
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"--resume: {self.path}: {error.strerror}; run without --resume first") from None
        except ValueError:
            raise SpecError(f"--resume: {self.path}: not JSON: start anew without --resume") from None
        return resumed(self.space, data, str(self.path))

    def probe(self) -> None:
        """Refuse an output that cannot be written before hours are spent."""
        if self.path is None or self.output is None:
            return
        folder = Path(os.path.realpath(self.output)).parent
        if Path(self.output).is_dir():
            raise SpecError(f"-o {self.output}: cannot be written: it is a directory")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise SpecError(
                f"-o {self.output}: cannot be written: there is no folder {str(folder)!r} that can be written to"
            )

    def save(self, progress: Done, now: bool = False) -> None:
        if self.path is None or not (now or time.monotonic() - self.last > SAVE_EVERY_S):
            return
        from codesign.search.result import state

        replace_file(str(self.path), json_text(state(self.space, progress)).encode())
        self.last = time.monotonic()


# ---------------------------------------------------------------------------------------------------- writing


def _write(result: Result, form: Format | None, output: str | None, keep: str) -> None:
    from codesign.report import search as shown
    from codesign.report import text

    if form is None:
        assert output is not None
        _parquet(result.rows(), output, keep)
    elif form is Format.json:
        emit(json_text(result.to_dict()), output, keep=keep)
    elif form is Format.csv:
        emit(text.csv_text(result.rows()), output, keep=keep)
    elif form is Format.md:
        emit(text.markdown_table(result.rows()), output, keep=keep)
    else:
        emit(shown.screen(result), output, keep=keep)
    if form in (None, Format.csv) and not result.best:
        say(shown.screen(result))


def _parquet(rows: Any, output: str, keep: str) -> None:
    import pandas as pd

    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise SpecError(
            f"-o {output}: Parquet needs pyarrow: pip install 'codesign[parquet]', or write .csv or .json"
        ) from None
    if os.path.exists(output) and os.path.samefile(output, keep):
        raise SpecError(f"-o {output}: this is the input; write to another file")
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    replace_file(output, frame.to_parquet(index=False))
    say(f"wrote {output}")


def _all_rows(space: Space, output: str | None, keep: str) -> None:
    """Every candidate, one row each."""
    from codesign.search import table

    if output is None or not (_is_parquet(output) or Path(output).suffix.lower() == ".csv"):
        raise SpecError("--all writes a table: give -o FILE.parquet or -o FILE.csv")
    frame = table.every(space)
    if _is_parquet(output):
        _parquet(frame, output, keep)
    else:
        emit(frame.to_csv(index=False, lineterminator="\n"), output, keep=keep)
    raise typer.Exit(0 if bool((frame["reason"] == "").any()) else 1)


# ---------------------------------------------------------------------------------------------------- why not


@commands.command(
    "why-not",
    epilog=epilog(
        "codesign why-not spec.yaml --layout tp=8,pp=4",
        "codesign why-not spec.yaml --layout tp=16,pp=16,cp=1 --free all",
    ),
)
def why_not(
    spec: SpecPath,
    layout: Annotated[str, typer.Option("--layout", metavar="FIELD=VALUE,...", help="The layout that is asked about.")],
    sets: Sets = None,
    free: Free = None,
    workers: Workers = 1,
    written: Written = None,
    output: Output = None,
) -> None:
    """Why a layout is not the answer: which limit it breaks, by how much, and the cheapest change that lifts it.

    Fields that --layout leaves out are as in the spec, or the best that can be found. Exit 1 where the layout cannot run.
    """
    from codesign.report import whynot as shown
    from codesign.search import asked

    form = chosen_format(written, output)
    if form is Format.csv:
        raise SpecError("--format csv has no meaning here: an explanation is text, or --format json")
    answer = asked.why_not(spec, asked.fields(layout), sets or (), free or (), workers)
    say_step_only(answer.spec, spec)
    emit(json_text(answer.to_dict()) if form is Format.json else shown.screen(answer), output, keep=spec)
    raise typer.Exit(0 if answer.feasible else 1)
