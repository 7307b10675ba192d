"""`plan`: one run, on the screen or as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.cli.options import STYLE, Output, Overrides, Sets, SpecPath, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, json_text, yaml_text
from codesign.cli.specs import loaded_spec, planned, run_of, say_step_only
from codesign.errors import SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.run import RunPlan

commands = typer.Typer(**STYLE)


@commands.command(epilog=epilog(
    "codesign plan spec.yaml",
    "codesign plan spec.yaml --set layout.tp=4 --format json",
    "codesign plan spec.yaml --override tp_exposed_s=0 -o plan.md",
))
def plan(
    spec: SpecPath, sets: Sets = None, override: Overrides = None, written: Written = None, output: Output = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the whole spec, defaults and presets filled in, and stop.")
    ] = False,
) -> None:
    """Plan one run: does it fit, how long is a step, where do the time and the memory go.

    A spec with a `run:` section, or with several `sites:`, goes on past the step: failures, goodput, loss, cost, dates.

    csv holds the parts of the step. Exit 1 where the layout is not feasible; the plan is printed all the same.
    """
    if resolved:
        _plan_resolved(spec, sets or (), override, written, output)
        return
    form = chosen_format(written, output)
    loaded = loaded_spec(spec, sets)
    made = planned(loaded, override)
    run = run_of(loaded, made)
    if form is Format.csv and (run is None or not run.has_sites):
        say_step_only(loaded.spec, spec)
    _answer(made, form, run, output, spec)


def _answer(made: Plan, form: Format, run: RunPlan | None, output: str | None, spec: str) -> None:
    """Write the plan; exit 1 where the step or the run beyond it is not feasible."""
    from codesign.report.run import holds, violations

    emit(_plan_text(made, form, run, violations(made, run)), output, keep=spec)
    raise typer.Exit(0 if holds(made, run) else 1)


def _plan_text(made: Plan, form: Format, run: RunPlan | None, beyond: Sequence[str]) -> str:
    from codesign.report import text

    if run is not None and run.has_sites:
        return _sites_text(made, form, run)
    if form is Format.csv:
        rows = [{"part": name, "s": value, "share": value / made.step_s} for name, value in made.parts.items()]
        return text.csv_text(rows)
    from codesign.evidence.nearest import nearest
    from codesign.planner import verdict
    from codesign.report.run import unsure as reasons

    near, unsure = nearest(made), reasons(made, run)
    if form is Format.json:
        data = {**made.to_dict(), "nearest": near}
        if run is not None:
            from codesign.report import run as report_run

            data["run"] = {**data["run"], **report_run.to_dict(run)}
            data["verdict"] = verdict(made.feasible and not beyond, [*made.violations, *beyond], unsure)
        return json_text(data)
    if form is Format.md:
        from codesign.report.markdown import markdown

        written = markdown(made, near, beyond, unsure=unsure)
    else:
        written = text.plan_screen(made, near, beyond, unsure=unsure)
    if run is None:
        return written
    from codesign.report import run as report_run

    return f"{written.rstrip()}\n\n{report_run.markdown(run) if form is Format.md else report_run.screen(run)}"


def _sites_text(made: Plan, form: Format, run: RunPlan) -> str:
    """The run over its sites first, then the plan of the slowest of them."""
    from codesign.evidence.nearest import nearest
    from codesign.report import over_sites, text
    from codesign.report import run as beyond
    from codesign.report.markdown import markdown

    if form is Format.csv:
        return text.csv_text(over_sites.parts(run))
    _, site = over_sites.slowest(run)
    near = nearest(site)
    if form is Format.json:
        data = over_sites.to_dict(run, made, near)
        data["run"] |= beyond.to_dict(run)
        return json_text(data)
    if form is Format.md:
        return f"{markdown(site, near, head=over_sites.markdown(run, made), given=made).rstrip()}\n\n{beyond.markdown(run)}"
    return f"{text.plan_screen(site, near, head=over_sites.screen(run), given=made).rstrip()}\n\n{beyond.screen(run)}"


def _plan_resolved(
    spec: str, sets: Sequence[str], override: Sequence[str] | None, written: Format | None, output: str | None
) -> None:
    """The resolved spec, as YAML that loads again to the same plan, or as JSON."""
    if override:
        raise SpecError("--override has no effect with --resolved: a spec holds no quantities")
    is_json = written is Format.json or (written is None and (output or "").lower().endswith(".json"))
    if written is not None and not is_json:
        raise SpecError(f"--format {written} has no meaning with --resolved: a spec is YAML, or --format json")
    data = loaded_spec(spec, sets).resolved()
    emit(json_text(data) if is_json else yaml_text(data), output, keep=spec)
