"""`compare`: what moved between two plans, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.options import STYLE, Output, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text, say
from codesign.cli.specs import loaded_spec, planned, run_of, say_step_only
from codesign.errors import SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.run import RunPlan

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog(
    "codesign compare before.yaml after.yaml",
    "codesign compare spec.yaml spec.yaml --set-b layout.tp=4",
    "codesign compare a.yaml b.yaml --set training.precision=bf16 -o move.md",
))
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A spec, a YAML file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another spec, or the same with --set-b.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of both; may be repeated.")
    ] = None,
    sets_a: Annotated[
        list[str] | None, typer.Option("--set-a", metavar="FIELD=VALUE", help="Change a field of A only; may be repeated.")
    ] = None,
    sets_b: Annotated[
        list[str] | None, typer.Option("--set-b", metavar="FIELD=VALUE", help="Change a field of B only; may be repeated.")
    ] = None,
    written: Written = None, output: Output = None,
) -> None:
    """Which of two plans is faster, how sure that is, what moved from A to B, term by term, and why.

    Where both specs go on past the step (`run:`, `sites:`), also days, goodput, loss and money of both runs. Over sites the
    answer is that of the runs; parts, memory and traffic are those of the slowest sites.

    csv holds the parts of the step. Exit 1 where neither is feasible.
    """
    from codesign.report import compare as shown
    from codesign.report import over_sites, text

    form = chosen_format(written, output)
    one, run = _plan_of("A", a, (*(sets or ()), *(sets_a or ())))
    other, other_run = _plan_of("B", b, (*(sets or ()), *(sets_b or ())))
    runs = (run, other_run) if run is not None and other_run is not None else None
    for name, plan in ((a, one), (b, other)):
        if runs is None or form is Format.csv:
            say_step_only(plan.problem.spec, name)
    found = over_sites.compared(one, other, runs)
    if form is Format.json:
        answer = json_text(found.to_dict())
    elif form is Format.csv:
        answer = text.csv_text(found.part_rows())
    else:
        answer = shown.compare_markdown(found) if form is Format.md else shown.compare_screen(found)
    emit(answer, output, keep=(a, b))
    if runs is not None and form is not Format.csv:
        for name, made in ((a, runs[0]), (b, runs[1])):
            if made.has_sites:
                say(f"note: parts, memory and traffic of {name} are those of {over_sites.place(made)}, alone")
    raise typer.Exit(0 if any(found.fits) else 1)


def _plan_of(which: str, spec: str, sets: Sequence[str]) -> tuple[Plan, RunPlan | None]:
    """The plan of A or of B and its run, if it has one; a refusal says of which."""
    try:
        loaded = loaded_spec(spec, sets)
        made = planned(loaded)
        return made, run_of(loaded, made)
    except SpecError as error:
        raise SpecError(f"{which}: {error}", field=error.field) from None
