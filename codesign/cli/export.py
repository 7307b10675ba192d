"""`export` and `import-megatron`: from a plan to a launch configuration, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from codesign.cli.options import STYLE, Output, Sets, SpecPath, epilog
from codesign.cli.output import emit, say, yaml_text
from codesign.cli.specs import loaded_spec, planned
from codesign.errors import SpecError

commands = typer.Typer(**STYLE)


def _targets(incomplete: str) -> list[str]:
    from codesign.export.launch import TARGETS

    return [name for name in TARGETS if name.startswith(incomplete)]


@commands.command(epilog=epilog(
    "codesign export spec.yaml --to megatron -o launch.sh",
    "codesign export spec.yaml --to torchtitan --set layout.sharding=zero3",
    "codesign export spec.yaml --to json -o launch.json",
))
def export(
    spec: SpecPath,
    to: Annotated[str, typer.Option("--to", metavar="TARGET", autocompletion=_targets, help=(
        "megatron, megatron-bridge, torchtitan, deepspeed, maxtext, or json (a neutral form with a schema)."))],
    sets: Sets = None, output: Output = None,
) -> None:
    """The launch configuration of a plan for a training framework.

    What the plan does not decide is marked FILL_IN. What the framework cannot do is refused by name: exit 2, and nothing is
    written. A plan that is not feasible is written all the same, said on stderr: exit 1.
    """
    from codesign.export.launch import export as make
    from codesign.spec import load

    loaded = loaded_spec(spec, sets)
    made = planned(loaded)
    try:
        written = make(made, to)
    except SpecError as error:
        if error.place is None and error.field:
            raise load.error_at(loaded, error.field, error.message) from None
        raise
    for note in written.notes:
        say(f"note: {note}")
    if loaded.spec.sites:
        say("note: this launches layout: on cluster:, the template of the sites, and says nothing of each of them")
    emit(written.text, output, keep=spec)
    raise typer.Exit(0 if made.feasible else 1)


@commands.command("import-megatron", epilog=epilog(
    "codesign import-megatron launch.sh -o spec.yaml",
    "codesign import-megatron arguments.txt --set cluster.profile=h100-sxm-80gb --set cluster.accelerators=64",
))
def import_megatron(
    arguments: Annotated[str, typer.Argument(metavar="ARGS", help="A launch script, or a file with arguments alone.")],
    sets: Sets = None, output: Output = None,
) -> None:
    """Read Megatron-LM's arguments into a spec. The file is read as data: nothing in it is executed.

    Lines `#: field: value`, as `export` writes them, and --set say what arguments cannot: the hardware above all. What was
    assumed or left out is said on stderr.
    """
    from codesign.spec import megatron

    data, notes = megatron.read(arguments, sets or ())
    for note in notes:
        say(f"note: {note}")
    emit(yaml_text(data), output, keep=arguments)
