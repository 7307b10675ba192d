"""`explain`: the tree under a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.cli.options import STYLE, Output, Overrides, Sets, SpecPath, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text, say
from codesign.cli.specs import loaded_spec, planned, run_of
from codesign.errors import CodesignError, SpecError

if TYPE_CHECKING:
    from codesign import graph
    from codesign.planner import Plan
    from codesign.run import RunPlan
    from codesign.spec.load import Loaded

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog(
    "codesign explain spec.yaml step_s --depth 2",
    "codesign explain spec.yaml 'gemm_forward_s[dense]'",
    "codesign explain spec.yaml step_s --override tp_exposed_s=0",
))
def explain(
    spec: SpecPath,
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY", help="A quantity or an input, for example step_s.")],
    depth: Annotated[int, typer.Option("--depth", min=0, max=12, help="Levels below the quantity.")] = 2,
    sets: Sets = None, override: Overrides = None, written: Written = None, output: Output = None,
) -> None:
    """The tree under a number: its equation, its inputs with their values, their sources.

    With --set or --override also the value before and after. Of a spec with `sites:` a quantity of the step is that of the
    slowest site.
    """
    from codesign.report import text

    form = chosen_format(written, output)
    loaded = loaded_spec(spec, sets)
    made, place = _looked_at(loaded, planned(loaded, override))
    run = None if _known(made.values, quantity) else _run_with(quantity, loaded, planned(loaded, override))
    if place and run is None:
        say(f"note: {quantity} of {place}, alone; the step over the sites is phase_run_step_s")
    trees = _trees(made, quantity, depth) if run is None else _run_trees(run, made, quantity, depth)
    labels = text.labels_in(made)
    changes = _changes(spec, run is not None, trees) if sets or override else []
    found = text.references(trees)
    if form is Format.json:
        below = [text.explanation_dict(tree, labels) for tree in trees]
        data = {"schema_version": 1, "spec_hash": made.spec_hash}
        data |= below[0] if len(below) == 1 else {"name": quantity, "members": below}
        data["references"] = text.references_dict(found)
        emit(json_text({**data, "changes": changes} if changes else data), output, keep=spec)
    elif form is Format.csv:
        emit(text.csv_text([row for tree in trees for row in text.explanation_rows(tree)]), output, keep=spec)
    else:
        markdown = form is Format.md
        write = text.explanation_markdown if markdown else text.explanation_tree
        block = text.references_markdown(found) if markdown else text.references_block(found)
        lines = "".join(f"{text.change(**change)}\n" for change in changes)
        sections = [lines, *(write(tree, labels) for tree in trees), block]
        emit("\n".join(section for section in sections if section), output, keep=spec)


def _looked_at(loaded: Loaded, made: Plan) -> tuple[Plan, str]:
    """The plan whose step is explained: over sites that of the slowest, and its name."""
    from codesign.report import over_sites

    run = run_of(loaded, made) if loaded.spec.sites else None
    return over_sites.shown(made, run), over_sites.place(run) if run is not None else ""


def _known(values: Mapping[Any, Any], quantity: str) -> bool:
    """Whether a name stands among values: as it is, or with a member that was not named."""
    name, _, member = quantity.partition("[")
    bases = {key[0] if isinstance(key, tuple) else key.partition("[")[0] for key in values}
    if not member:
        return name in bases
    return (name, member.rstrip("]")) in values or quantity in values


def _run_with(quantity: str, loaded: Loaded, made: Plan) -> RunPlan | None:
    """The run beyond the step, with a quantity that its report does not ask for."""
    run = run_of(loaded, made)
    return None if run is None else run.asked(quantity.partition("[")[0])


def _run_trees(run: RunPlan, made: Plan, quantity: str, depth: int) -> list[graph.Explanation]:
    """As `_trees`, of a quantity or an input of the run beyond the step; refuses a name that neither it nor the step has."""
    from codesign.planner import near
    from codesign.report import text

    if not _known(run.values, quantity):
        names = {key[0] if isinstance(key, tuple) else key.partition("[")[0] for key in (*made.values, *run.values)}
        raise SpecError(f"no quantity {quantity!r} in this plan or its run.{near(quantity, sorted(names))}", field=quantity)
    name, _, member = quantity.partition("[")
    keys = [key for key in run.values if (key[0] if isinstance(key, tuple) else key.partition("[")[0]) == name]
    if member:
        keys = [key for key in keys if key == (name, member.rstrip("]")) or key == quantity]
    return [text.once(run.explain_key(key, depth)) for key in keys]


def _trees(made: Plan, quantity: str, depth: int) -> list[graph.Explanation]:
    """One tree, or one a member where a quantity exists for several layer kinds and none was named."""
    from codesign.report import text

    keys = [f"{key[0]}[{key[1]}]" if isinstance(key, tuple) else key for key in made.values]
    names = [key for key in keys if key.startswith(f"{quantity}[") and key != f"{quantity}[None]"]
    return [text.once(_with_kind(made, made.explain(name, depth))) for name in names or [quantity]]


def _with_kind(made: Plan, tree: graph.Explanation) -> graph.Explanation:
    """An input as the top of a tree says its kind, as it does inside one."""
    leaf = made.problem.leaves.get(tree.name) if tree.role == "leaf" else None
    return dataclasses.replace(tree, source=f"{leaf.kind}: {leaf.source}") if leaf else tree


def _changes(spec: str, of_run: bool, trees: Sequence[graph.Explanation]) -> list[dict[str, Any]]:
    """Name, value before, value after, unit; the plan or run before is that of the spec as the file has it."""
    from codesign.report import text

    try:
        loaded = loaded_spec(spec, None)
        step = planned(loaded)
        base: Plan | RunPlan | None = _run_with(trees[0].name, loaded, step) if of_run else _looked_at(loaded, step)[0]
    except CodesignError as error:
        say(f"no comparison, the spec without --set has no plan: {error}")
        return []
    if base is None:
        say("no comparison, the spec without --set has no run")
        return []
    found = []
    for tree in trees:
        key = (tree.name, tree.member) if (tree.name, tree.member) in base.values else text.title(tree)
        before = text.plain(base.values.get(key))
        found.append({"name": text.title(tree), "before": before, "after": text.plain(tree.value), "unit": tree.unit})
    return found
