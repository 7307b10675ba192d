"""The commands on shapes: `lint` and `shapes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from codesign.cli.options import STYLE, Free, Output, Sets, SpecPath, Workers, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text
from codesign.cli.progress import Progress
from codesign.cli.specs import chooser, loaded_spec, planned, say_step_only
from codesign.errors import Infeasible, SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.search.shapes import BestLayout, ShapeTable
    from codesign.spec.load import Loaded
    from codesign.spec.schema import Spec

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog(
    "codesign lint spec.yaml",
    "codesign lint spec.yaml --set model.vocab=50257 --format json",
    "codesign lint spec.yaml --least 0 -o wastes.csv",
))
def lint(
    spec: SpecPath, sets: Sets = None,
    least: Annotated[
        float, typer.Option("--least", metavar="PERCENT", help="Leave out wastes below this share of the step.")
    ] = 0.2,
    written: Written = None, output: Output = None,
) -> None:
    """What a shape wastes on its layout: each waste with its milliseconds a step and the nearest better values.

    Tiles and waves of every matrix product, alignment, head size, vocabulary, experts, and what tp, cp and the pipeline
    do not divide. Exit 1 where one of them refuses to run.
    """
    from codesign.report import shapes as report
    from codesign.report import text
    from codesign.search.lint import lint as find
    from codesign.search.lint import total_s

    if not 0.0 <= least <= 100.0:
        raise SpecError(f"--least {least:g}: a share of the step in per cent, from 0 to 100")
    form = chosen_format(written, output)
    made: Plan = planned(loaded_spec(spec, sets))
    say_step_only(made.problem.spec, spec)
    found = find(made, least_share=least / 100.0)
    if form is Format.json:
        data: dict[str, Any] = {"schema_version": 1, "spec_hash": made.spec_hash, "step_s": made.step_s}
        data |= {"total_s": total_s(found), "findings": [finding.to_dict() for finding in found]}
        emit(json_text(data), output, keep=spec)
    elif form is Format.csv:
        emit(text.csv_text(report.lint_rows(made.step_s, found)), output, keep=spec)
    else:
        write = report.lint_markdown if form is Format.md else report.lint_screen
        emit(write(text.headline(made), made.step_s, found), output, keep=spec)
    raise typer.Exit(1 if any(finding.refused for finding in found) else 0)


@commands.command(epilog=epilog(
    "codesign shapes spec.yaml --axis hidden=8192:20480:1024 --axis layers=80,126",
    "codesign shapes spec.yaml --axis layers=80,96 --equal loss --free all",
    "codesign shapes spec.yaml --axis layers=64:160:8 --equal loss -o shapes.csv",
))
def shapes(
    spec: SpecPath,
    axis: Annotated[
        list[str],
        typer.Option("--axis", metavar="NAME=VALUES", help="FIRST:LAST:STEP or A,B,C of a dimension; may be repeated."),
    ],
    equal: Annotated[
        str,
        typer.Option(
            "--equal", metavar="WHAT", help="parameters, active_parameters, training_flops, loss or wall_clock.",
        ),
    ] = "parameters",
    solve: Annotated[
        str | None,
        typer.Option("--solve", metavar="NAME", help="What is solved to hold the count: ffn or expert_ffn, else layers."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="PERCENT", help="How far the equal count may be off.")
    ] = 2.0,
    law: Annotated[str, typer.Option("--law", metavar="NAME", help="Loss law: besiroglu or hoffmann.")] = "besiroglu",
    best: Annotated[int, typer.Option("--lint", min=0, max=1000, help="Shapes whose wastes are priced.")] = 3,
    sets: Sets = None, free: Free = None, workers: Workers = 1, written: Written = None, output: Output = None,
) -> None:
    """Rank model shapes under one constraint, each on its best layout, by days to the loss of the spec's own shape.

    Axes: layers hidden heads kv_heads head_dim ffn experts top_k expert_ffn vocab; what is no axis follows the spec.
    Layouts are searched anew for every shape where the spec's layout is open, or with --free.
    Exit 1 where no other shape holds the constraint and has a feasible layout.
    """
    from codesign.planner import plan as make
    from codesign.report import text
    from codesign.search import shape_space
    from codesign.search.shapes import own_layout, rank_shapes

    form = chosen_format(written, output)
    axes: dict[str, tuple[int, ...]] = {}
    for name, values in map(shape_space.parse_axis, axis):
        if name in axes:
            raise SpecError(f"--axis {name} is given twice: write all values in one")
        axes[name] = values
    search = chooser(spec, sets, free, workers)
    if search is None:
        base: Loaded | Spec = loaded_spec(spec, sets)
        made, best_layout = make(base), cast("BestLayout", own_layout)
    else:
        found = search.closed()
        if found is None:
            raise Infeasible("no layout of the spec's own shape is feasible: codesign search says why")
        made, base, best_layout = found, found.problem.spec, search.of_spec
    say_step_only(made.problem.spec, spec)
    table = rank_shapes(
        base, axes, equal, best_layout, free=solve, tolerance=tolerance / 100.0, law=law, lint_best=best,
        progress=Progress("shapes").show if search is None else None,
    )
    emit(_written(text.headline(made), table, made.spec_hash, form), output, keep=spec)
    raise typer.Exit(0 if any(not row.is_base for row in table.rows) else 1)


def _written(headline: str, table: ShapeTable, spec_hash: str, form: Format) -> str:
    from codesign.report import shapes as report
    from codesign.report import text

    if form is Format.json:
        return json_text({"spec_hash": spec_hash, **table.to_dict()})
    if form is Format.csv:
        return text.csv_text(report.shapes_rows(table))
    return (report.shapes_markdown if form is Format.md else report.shapes_screen)(headline, table)
