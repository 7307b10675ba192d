"""`report`: a design review of one plan, or of a change from another."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.options import STYLE, Output, Overrides, Sets, SpecPath, epilog
from codesign.cli.output import emit
from codesign.cli.specs import loaded_spec, planned, run_of
from codesign.errors import SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.run import RunPlan

commands = typer.Typer(**STYLE)


class Paper(StrEnum):
    """How a review is written."""

    html = "html"
    md = "md"


_ENDINGS = {".html": Paper.html, ".htm": Paper.html, ".md": Paper.md, ".markdown": Paper.md}


@commands.command(
    epilog=epilog(
        "codesign report spec.yaml -o review.html",
        "codesign report spec.yaml --set layout.tp=4 -o review.md",
        "codesign report now.yaml --against before.yaml -o change.html",
    )
)
def report(
    spec: SpecPath,
    sets: Sets = None,
    override: Overrides = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="SPEC", help="Review the change from this spec instead.")
    ] = None,
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Look for no better layout near the plan's own.")
    ] = False,
    written: Annotated[
        Paper | None, typer.Option("--format", help="How to write it; default: the ending of -o, else md.")
    ] = None,
    output: Output = None,
) -> None:
    """A design review of one plan: the answer, the reasons, the alternatives, and the equation behind every number.

    One HTML file that needs nothing else, or Markdown for a pull request. Owners, dates, open questions and signatures come
    from the `review:` section of the spec. With --against, a review of the change: what moved and why.

    Exit 1 where the plan is not feasible; the review is written all the same.
    """
    form = _paper(written, output)
    if against is not None:
        _refuse_beside_against(override, no_search)
    now = _made(spec, sets, override)
    before = None if against is None else _before(against)

    from codesign.report import review
    from codesign.report.run import holds

    document = review.of_plan(*now, search=not no_search) if before is None else review.of_change(now, before)
    text = review.html(document) if form is Paper.html else review.markdown(document)
    emit(text, output, keep=(spec,) if against is None else (spec, against))
    raise typer.Exit(0 if holds(*now) else 1)


def _paper(written: Paper | None, output: str | None) -> Paper:
    """The format that was asked for, else that of the file's ending; Markdown on stdout."""
    if written is not None or output is None or output == "-":
        return written or Paper.md
    ending = Path(output).suffix.lower()
    if ending not in _ENDINGS:
        raise SpecError(
            f"-o {output}: the ending names no format of a review. Allowed: {', '.join(_ENDINGS)}; or give --format"
        )
    return _ENDINGS[ending]


def _refuse_beside_against(override: Sequence[str] | None, no_search: bool) -> None:
    """Options that would be ignored, or that would change one of the two plans only."""
    if override:
        raise SpecError("--override has no meaning with --against: what moved would be what was set by hand")
    if no_search:
        raise SpecError("--no-search has no effect with --against: a review of a change searches nothing")


def _made(spec: str, sets: Sequence[str] | None, override: Sequence[str] | None = None) -> tuple[Plan, RunPlan | None]:
    from codesign.report.review.sections_record import check_names

    loaded = loaded_spec(spec, sets)
    made = planned(loaded, override)
    run = run_of(loaded, made)
    check_names(loaded, made, run)
    return made, run


def _before(against: str) -> tuple[Plan, RunPlan | None]:
    """The plan compared with, as its file has it: --set changes the plan under review alone. A refusal says of which."""
    try:
        return _made(against, None)
    except SpecError as error:
        raise SpecError(f"--against: {error}", field=error.field) from None
