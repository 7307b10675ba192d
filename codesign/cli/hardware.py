"""The commands about hardware: what a run answers to, and the least hardware that reaches a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.options import STYLE, Free, Output, Sets, SpecPath, Workers, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text
from codesign.cli.specs import chooser, loaded_spec, planned, say_step_only
from codesign.errors import Infeasible, SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.search.joint import Chooser

commands = typer.Typer(**STYLE)

Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight", metavar="RESOURCE=COST",
        help="Relative cost of doubling a resource, 1 by default; inf holds it. May be repeated.",
    ),
]


@commands.command(epilog=epilog(
    "codesign sensitivity spec.yaml",
    "codesign sensitivity spec.yaml --less 0.5 --more 1 --format json",
    "codesign sensitivity spec.yaml --free all --workers 2 -o sensitivity.md",
))
def sensitivity(
    spec: SpecPath, sets: Sets = None,
    less: Annotated[float, typer.Option("--less", help="Share taken away in the tornado.")] = 0.2,
    more: Annotated[float, typer.Option("--more", help="Share added in the tornado.")] = 0.25,
    buy: Annotated[float, typer.Option("--buy", help="Share added where it is asked what it buys.")] = 0.1,
    weight: Weights = None, free: Free = None, workers: Workers = 1, written: Written = None, output: Output = None,
) -> None:
    """What the step answers to: elasticities, a tornado, balance, exposed terms, what a little more buys.

    Where the spec's layout is open, or with --free, it is about the best layout, and says what a little more of each
    resource buys with the layout chosen again. csv holds one line a resource. Exit 1 where the layout is not feasible; the
    answer is printed all the same.
    """
    from codesign.report import hardware, text
    from codesign.search.sensitivity import sensitivity as ask

    form = chosen_format(written, output)
    search = chooser(spec, sets, free, workers)
    made = _plan(spec, search, sets)
    say_step_only(made.problem.spec, spec)
    found = ask(
        made, less=less, more=more, buy=buy, weights=_numbers("--weight", weight),
        rechoose=None if search is None else search.rechoose,
    )
    if form is Format.json:
        answer = json_text(found.to_dict())
    elif form is Format.csv:
        answer = text.csv_text(hardware.sensitivity_rows(found))
    elif form is Format.md:
        answer = hardware.sensitivity_markdown(found)
    else:
        answer = hardware.sensitivity_screen(found)
    emit(answer, output, keep=spec)
    raise typer.Exit(0 if found.plan.feasible else 1)


@commands.command(epilog=epilog(
    "codesign require spec.yaml --target mfu=0.5",
    "codesign require spec.yaml --target days=40 --weight 'compute rate=inf'",
    "codesign require spec.yaml --target cost=5e7 --price 2.5 --format json",
))
def require(
    spec: SpecPath,
    target: Annotated[
        list[str],
        typer.Option(
            "--target", metavar="NAME=VALUE",
            help="mfu, step_s, tokens_per_s, days, or cost (accelerator-hours, or money). May be repeated: all must hold.",
        ),
    ],
    sets: Sets = None, weight: Weights = None,
    price: Annotated[
        float | None,
        typer.Option("--price", help="Price of an accelerator-hour, in place of run.price_per_hour: cost is then money."),
    ] = None,
    free: Free = None, workers: Workers = 1, written: Written = None, output: Output = None,
) -> None:
    """The least hardware that reaches a target: one resource at a time, and the cheapest combined path.

    Where the spec's layout is open, or with --free, with the layout that is best on the hardware as it is. Days and cost are
    of the run as planned where the spec has a `run:` section on one cluster, else of its steps alone.
    csv holds one line a resource. Exit 1 where no hardware reaches it with this layout.
    """
    from codesign.report import requirement, text
    from codesign.search.require import require as ask

    form = chosen_format(written, output)
    made = _plan(spec, chooser(spec, sets, free, workers), sets)
    found = ask(made, _pairs("--target", target), weights=_numbers("--weight", weight), price=price)
    if found.beyond is None:
        say_step_only(made.problem.spec, spec)
    if form is Format.json:
        answer = json_text(found.to_dict())
    elif form is Format.csv:
        answer = text.csv_text(requirement.requirement_rows(found))
    elif form is Format.md:
        answer = requirement.requirement_markdown(found)
    else:
        answer = requirement.requirement_screen(found)
    emit(answer, output, keep=spec)
    raise typer.Exit(0 if found.reachable else 1)


def _plan(spec: str, search: Chooser | None, sets: Sequence[str] | None) -> Plan:
    """The plan of the spec's layout, or of the best one where it is open."""
    plan = planned(loaded_spec(spec, sets)) if search is None else search.closed()
    if plan is None:
        raise Infeasible("no layout is feasible: codesign search says why")
    return plan


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE texts; a name once."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise SpecError(f"{option} {text!r}: write NAME=VALUE")
        if name in found:
            raise SpecError(f"{option} {name} is given twice")
        found[name] = value
    return found


def _numbers(option: str, texts: Sequence[str] | None) -> dict[str, float]:
    found = {}
    for name, value in _pairs(option, texts).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise SpecError(f"{option} {name}: {value!r} is not a number") from None
    return found
