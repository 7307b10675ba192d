"""The command line. Data on stdout, all else on stderr.

Exit codes: 0 an answer, 1 the answer is no, 2 wrong use or wrong input, 3 our fault.

Nothing heavy is imported before a command needs it: `codesign --help` loads neither numpy nor pandas.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign import __version__
from codesign.errors import CodesignError, SpecError

if TYPE_CHECKING:
    from codesign import graph
    from codesign.planner import Plan
    from codesign.spec.load import Loaded

EXIT_CODES = "Exit codes: 0 an answer; 1 the answer is no; 2 wrong use or wrong input; 3 our fault."


def _epilog(*examples: str) -> str:
    """Examples and exit codes; the backspace keeps the lines as they are."""
    lines = "".join(f"  {example}\n" for example in examples)
    return f"\b\nExamples:\n{lines}\n{EXIT_CODES}"


class Format(StrEnum):
    """How an answer is written."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


_ENDINGS = {".json": Format.json, ".csv": Format.csv, ".md": Format.md, ".txt": Format.table}

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

_SETTINGS = {"help_option_names": ["-h", "--help"]}
_STYLE: dict[str, Any] = {
    "rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True, "context_settings": _SETTINGS,
}

app = typer.Typer(
    help="Plan a large training run: step time, memory and traffic, with the equation and the source of every number.",
    epilog=_epilog("codesign init -o spec.yaml", "codesign plan spec.yaml", "codesign explain spec.yaml step_s"),
    **_STYLE,
)
profiles_app = typer.Typer(
    help="Hardware profiles: every number with its source, kind and date.",
    epilog=_epilog("codesign profiles list", "codesign profiles show h100-sxm-80gb", "codesign profiles check"),
    **_STYLE,
)
models_app = typer.Typer(
    help="Model presets: shapes with their citation and published size.",
    epilog=_epilog("codesign models list", "codesign models show llama-3-8b --format json"),
    **_STYLE,
)
app.add_typer(profiles_app, name="profiles")
app.add_typer(models_app, name="models")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Expected errors are one message; a traceback only with `--debug`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a stream that a caller put in place may not have it
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="codesign")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CodesignError as error:
        if debug:
            _traceback()
        _say(str(error))
        return error.exit_code
    except Exception as error:
        if debug:
            _traceback()
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        _say(f"internal fault: {what}. Please report it; run with --debug for the traceback")
        return 3
    return 0


def _print_version(asked: bool) -> None:
    if asked:
        _emit(f"codesign {__version__}\n")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """`--debug` is read by `main`, before the command line is parsed, so that it also covers the parser."""


# ---------------------------------------------------------------------------------------------------- output


def _say(text: str) -> None:
    """To people, not to programs: stderr, where somebody listens."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr)


def _traceback() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def _hush(stream: Any) -> None:
    """Point a stream whose reader is gone at nothing, so that the interpreter can close it without a word."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _emit(text: str, output: str | None = None, keep: str | None = None) -> None:
    """Data to stdout or, all or nothing, to a file. `keep` is an input file that must not be overwritten."""
    if output is None or output == "-":
        _emit_stdout(text)
        return
    if keep is not None and _same_file(output, keep):
        raise SpecError(f"-o {output}: this is the input; write to another file")
    _write(output, text)
    _say(f"wrote {output}")


def _emit_stdout(text: str) -> None:
    if sys.stdout is None:
        raise SpecError("stdout is closed: nothing can be written; use -o FILE")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _hush(sys.stdout)  # the reader has seen enough: the exit code stays that of the answer
    except OSError as error:
        _hush(sys.stdout)
        raise SpecError(f"stdout: cannot be written: {error.strerror or error}") from error


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _write(output: str, text: str) -> None:
    """Write a file through a temporary one beside it, so that a reader never sees half of it."""
    path = Path(os.path.realpath(output)) if "\0" not in output else Path(output)
    data = text.encode("utf-8", "replace")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)  # a device or a pipe cannot be replaced
            return
        _replace(path, data)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise SpecError(f"-o {output}: cannot be written: {reason}") from error


def _replace(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(0, "it is read-only")
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _format(written: Format | None, output: str | None) -> Format:
    """The format that was asked for, else that of the file's ending."""
    if written is not None or output is None or output == "-":
        return written or Format.table
    ending = Path(output).suffix.lower()
    if ending not in _ENDINGS:
        raise SpecError(f"-o {output}: the ending names no format. Allowed: {', '.join(_ENDINGS)}; or give --format")
    return _ENDINGS[ending]


def _json(data: Any) -> str:
    """One JSON document; what is not a finite number is null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _yaml(data: Any) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _emit_rows(
    shown: Sequence[Mapping[str, Any]], raw: Sequence[Mapping[str, Any]], data: Any, written: Format | None,
    output: str | None, right: Sequence[str] = (),
) -> None:
    """Rows for people (`shown`), rows with plain numbers for csv (`raw`), and the JSON document (`data`)."""
    from codesign.report import text

    form = _format(written, output)
    if form is Format.json:
        _emit(_json(data), output)
    elif form is Format.csv:
        _emit(text.csv_text(raw), output)
    elif form is Format.md:
        _emit(text.markdown_table(shown), output)
    else:
        _emit(text.table(shown, right) + "\n", output)


# ---------------------------------------------------------------------------------------------------- plan


@app.command(epilog=_epilog(
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

    csv holds the parts of the step. Exit 1 where the layout is not feasible; the plan is printed all the same.
    """
    if resolved:
        _plan_resolved(spec, sets or (), override, written, output)
        return
    form = _format(written, output)
    made = _plan(_loaded(spec, sets), override)
    _emit(_plan_text(made, form), output, keep=spec)
    raise typer.Exit(0 if made.feasible else 1)


def _plan_text(made: Plan, form: Format) -> str:
    from codesign.report import text

    if form is Format.csv:
        rows = [{"part": name, "s": value, "share": value / made.step_s} for name, value in made.parts.items()]
        return text.csv_text(rows)
    from codesign.evidence.nearest import nearest

    near = nearest(made)
    if form is Format.json:
        return _json({**made.to_dict(), "nearest": near})
    if form is Format.md:
        from codesign.report.markdown import markdown

        return markdown(made, near)
    return text.plan_screen(made, near)


def _plan_resolved(
    spec: str, sets: Sequence[str], override: Sequence[str] | None, written: Format | None, output: str | None
) -> None:
    """The resolved spec, as YAML that loads again to the same plan, or as JSON."""
    if override:
        raise SpecError("--override has no effect with --resolved: a spec holds no quantities")
    is_json = written is Format.json or (written is None and (output or "").lower().endswith(".json"))
    if written is not None and not is_json:
        raise SpecError(f"--format {written} has no meaning with --resolved: a spec is YAML, or --format json")
    data = _loaded(spec, sets).resolved()
    _emit(_json(data) if is_json else _yaml(data), output, keep=spec)


def _loaded(spec: str, sets: Sequence[str] | None) -> Loaded:
    from codesign.spec import load

    return load.load(Path(spec), tuple(sets or ()))


def _plan(loaded: Loaded, override: Sequence[str] | None = None) -> Plan:
    """The plan, with quantities fixed by hand where asked; refuses an override that would change nothing here."""
    import numpy as np

    from codesign import graph
    from codesign.planner import plan as make

    if not override:
        return make(loaded)
    given = _read_overrides(override)
    base = make(loaded)
    used = {key[0] for key in base.values if isinstance(key, tuple)}
    inputs = {key.partition("[")[0] for key in base.values if isinstance(key, str)}
    for name in given:
        if name in inputs:
            raise SpecError(f"--override {name}: an input, not a quantity; change the spec with --set", field=name)
        if name in graph.REGISTRY and name not in used:
            raise SpecError(f"--override {name}: it plays no part in this plan", field=name)
    with np.errstate(all="ignore"):  # a counterfactual may divide by its zero; what is not finite is refused below
        made = make(loaded, overrides=given)
    if not (math.isfinite(made.step_s) and made.step_s > 0):
        raise SpecError(f"--override {', '.join(given)}: leaves a step of {made.step_s:g} s, which is no step")
    return made


def _read_overrides(texts: Sequence[str]) -> dict[str, float]:
    from codesign import units

    given: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise SpecError(f"--override {text!r}: write QUANTITY=VALUE, for example tp_exposed_s=0")
        if name in given:
            raise SpecError(f"--override {name} is given twice")
        try:
            given[name] = units.parse(value, units.suffix(name))
        except ValueError as error:
            raise SpecError(f"--override {name}: {error}", field=name) from None
        if given[name] < 0:
            raise SpecError(f"--override {name}: {value} is below zero", field=name)
    return given


@app.command(epilog=_epilog(
    "codesign report spec.yaml -o review.md",
    "codesign report spec.yaml --set layout.tp=4",
))
def report(spec: SpecPath, sets: Sets = None, override: Overrides = None, output: Output = None) -> None:
    """A review of one plan in Markdown. Exit 1 where the layout is not feasible; the review is written all the same."""
    if output is not None and output != "-" and Path(output).suffix.lower() not in (".md", ".markdown", ".txt"):
        raise SpecError(f"-o {output}: a report is Markdown; write to a file that ends in .md")
    made = _plan(_loaded(spec, sets), override)
    _emit(_plan_text(made, Format.md), output, keep=spec)
    raise typer.Exit(0 if made.feasible else 1)


# ---------------------------------------------------------------------------------------------------- explain


@app.command(epilog=_epilog(
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

    With --set or --override also the value before and after.
    """
    from codesign.report import text

    form = _format(written, output)
    made = _plan(_loaded(spec, sets), override)
    trees = _trees(made, quantity, depth)
    labels = text.labels_in(made)
    changes = _changes(spec, made, trees) if sets or override else []
    found = text.references(trees)
    if form is Format.json:
        below = [text.explanation_dict(tree, labels) for tree in trees]
        data = {"schema_version": 1, "spec_hash": made.spec_hash}
        data |= below[0] if len(below) == 1 else {"name": quantity, "members": below}
        data["references"] = text.references_dict(found)
        _emit(_json({**data, "changes": changes} if changes else data), output, keep=spec)
    elif form is Format.csv:
        _emit(text.csv_text([row for tree in trees for row in text.explanation_rows(tree)]), output, keep=spec)
    else:
        markdown = form is Format.md
        write = text.explanation_markdown if markdown else text.explanation_tree
        block = text.references_markdown(found) if markdown else text.references_block(found)
        lines = "".join(f"{text.change(**change)}\n" for change in changes)
        sections = [lines, *(write(tree, labels) for tree in trees), block]
        _emit("\n".join(section for section in sections if section), output, keep=spec)


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


def _changes(spec: str, made: Plan, trees: Sequence[graph.Explanation]) -> list[dict[str, Any]]:
    """Name, value before, value after, unit; the plan before is that of the spec as the file has it."""
    from codesign.report import text

    try:
        base = _plan(_loaded(spec, None))
    except CodesignError as error:
        _say(f"no comparison, the spec without --set has no plan: {error}")
        return []
    found = []
    for tree in trees:
        key = (tree.name, tree.member) if (tree.name, tree.member) in base.values else text.title(tree)
        before = text.plain(base.values.get(key))
        found.append({"name": text.title(tree), "before": before, "after": text.plain(tree.value), "unit": tree.unit})
    return found


# ---------------------------------------------------------------------------------------------------- validate


@app.command(epilog=_epilog(
    "codesign validate",
    "codesign validate --where accelerator=h100-sxm-80gb --where kind=dense",
    "codesign validate my_runs.jsonl --format json -o accuracy.json",
))
def validate(
    runs: Annotated[
        str | None, typer.Argument(metavar="RUNS.jsonl", help="Measured runs; default: those shipped.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help="Only this accelerator, stack, kind, group or source."),
    ] = None,
    written: Written = None, output: Output = None,
) -> None:
    """How wrong we are: every measured run turned into a spec, predicted and compared.

    csv holds one line a run. A line that cannot be read is named on stderr and skipped.
    """
    from codesign.evidence.validate import validate as run
    from codesign.report import text

    form = _format(written, output)
    found = run(Path(runs) if runs is not None else None, tuple(where or ()))
    for line in found.skipped:
        _say(f"skipped {line}")
    if form is Format.json:
        _emit(_json(found.to_dict()), output, keep=runs)
    elif form is Format.csv:
        _emit(text.csv_text(found.to_dict()["rows"]), output, keep=runs)
    else:
        write = text.validation_markdown if form is Format.md else text.validation_screen
        _emit(write(found.summary_rows(), found.refused(), found.constants()), output, keep=runs)


# ---------------------------------------------------------------------------------------------------- profiles


def _profile_names(incomplete: str) -> list[str]:
    from codesign.spec import profiles

    return [name for name in profiles.names() if name.startswith(incomplete)]


def _model_names(incomplete: str) -> list[str]:
    from codesign.spec import presets

    return [name for name in presets.names() if name.startswith(incomplete)]


@profiles_app.command("list", epilog=_epilog("codesign profiles list", "codesign profiles list --format csv"))
def profiles_list(written: Written = None, output: Output = None) -> None:
    """Every shipped profile, with its 16-bit peak, memory and networks."""
    from codesign import units
    from codesign.spec import profiles

    raw, shown = [], []
    for name in profiles.names():
        profile = profiles.load(name)
        part, up, out = profile.accelerator, profile.scale_up, profile.scale_out
        half = part.peak_FLOPps.bf16 or part.peak_FLOPps.fp16
        about = {"name": name, "vendor": profile.vendor, "status": profile.status}
        numbers = {
            "peak_FLOPps": half.value if half else None, "memory_B": part.memory_B.value,
            "memory_Bps": part.memory_Bps.value, "domain": up.domain.value, "link_Bps": up.link_Bps.value,
            "nic_Bps": out.nic_Bps.value if out else None,
        }
        raw.append({**about, **numbers})
        heads = {"16-bit peak": "peak_FLOPps", "memory": "memory_B", "domain": "domain", "link": "link_Bps"}
        texts = {head: units.show(numbers[key], units.suffix(key)) for head, key in {**heads, "nic": "nic_Bps"}.items()}
        shown.append({"name": name, **texts})
    right = [head for head in shown[0] if head != "name"]
    _emit_rows(shown, raw, {"schema_version": 1, "profiles": raw}, written, output, right)


@profiles_app.command("show", epilog=_epilog(
    "codesign profiles show h100-sxm-80gb", "codesign profiles show my_chip.yaml --format json",
))
def profiles_show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped profile, or a path.", autocompletion=_profile_names)
    ],
    written: Written = None, output: Output = None,
) -> None:
    """Every number of one profile, with its kind, source and date."""
    from codesign import units
    from codesign.report import text
    from codesign.spec import load, profiles

    profile = profiles.load(name)
    raw, shown = [], []
    for key, datum in profile.data().items():
        unit, footing = load.override_unit(key) or "1", {"kind": datum.kind, "date": datum.date}
        raw.append({"field": key, "value": datum.value, "unit": unit, **footing, "source": profile.citation(datum)})
        shown.append({"field": key, "value": units.show(datum.value, unit), **footing, "source": datum.source})
    if _format(written, output) is not Format.table:
        _emit_rows(shown, raw, {"schema_version": 1, **profile.model_dump(mode="json")}, written, output)
        return
    head = f"{profile.name}: {profile.vendor}, {profile.status}; kernel fits of the {profile.family} family"
    lines = [head, *(text.wrap(note, "    ", "  - ") for note in profile.notes)]
    lines += ["", text.sectioned(shown, "field"), "", "sources"]
    lines += [text.wrap(f"{key}: {citation}", "    ", "  ") for key, citation in profile.sources.items()]
    _emit("\n".join(lines) + "\n", output)


@profiles_app.command("check", epilog=_epilog("codesign profiles check", "codesign profiles check my_chip.yaml"))
def profiles_check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Default: all shipped, fabrics too.")
    ] = None,
    written: Written = None, output: Output = None,
) -> None:
    """Load profiles and look for what is not plausible. Exit 1 where something was found."""
    from codesign.spec import profiles

    fabrics = profiles.fabric_names() if not names else []
    chosen = names or profiles.names()
    for fabric in fabrics:
        profiles.load_fabric(fabric)
    rows = [{"profile": name, "finding": finding} for name in chosen for finding in profiles.check(profiles.load(name))]
    data = {"schema_version": 1, "profiles": list(chosen), "fabrics": fabrics, "findings": rows}
    beside = f" and {len(fabrics)} fabrics" if fabrics else ""
    _say(f"checked {len(chosen)} profile(s){beside}: {len(rows) or 'no'} finding(s)")
    form = _format(written, output)
    if form is Format.table and rows:
        from codesign.report import text

        _emit("".join(f"{text.wrap(row['finding'], '    ', row['profile'] + ': ')}\n" for row in rows), output)
    elif form is not Format.table:
        _emit_rows(rows, rows, data, form, output)
    raise typer.Exit(1 if rows else 0)


# ---------------------------------------------------------------------------------------------------- models


@models_app.command("list", epilog=_epilog("codesign models list", "codesign models list --format json"))
def models_list(written: Written = None, output: Output = None) -> None:
    """Every preset, with its shape and published size."""
    from codesign.spec import presets

    raw, shown = [], []
    for name in presets.names():
        about = presets.describe(name)
        model, size = about["model"], about["published_parameters"]
        row = {
            "name": name, "kind": "moe" if model.get("moe") else "dense",
            **{key: model[key] for key in ("layers", "hidden", "heads", "vocab")},
        }
        raw.append({**row, **{key: size.get(key) for key in ("total", "active", "printed_total", "printed_active")}})
        shown.append({**row, **{key: _parameters(size, key) for key in ("total", "active")}})
    right = ("layers", "hidden", "heads", "vocab", "total", "active")
    _emit_rows(shown, raw, {"schema_version": 1, "models": raw}, written, output, right)


def _parameters(size: Mapping[str, Any], which: str) -> str:
    """The published count in billions where it is exact, else as it is printed."""
    exact = size.get(which)
    return f"{exact / 1e9:.4g}B" if exact else str(size.get(f"printed_{which}") or "-")


@models_app.command("show", epilog=_epilog(
    "codesign models show deepseek-v3", "codesign models show llama-3-8b --format json",
))
def models_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A preset.", autocompletion=_model_names)],
    written: Written = None, output: Output = None,
) -> None:
    """One preset: its fields, its source, its published size."""
    from codesign.report import text
    from codesign.spec import presets

    about = presets.describe(name)
    rows = [{"field": key, "value": value} for key, value in _flat(about["model"], "model")]
    rows += [{"field": key, "value": value} for key, value in _flat(about["published_parameters"], "published")]
    rows.append({"field": "source", "value": about["source"]})
    if _format(written, output) is not Format.table:
        _emit_rows(rows, rows, {"schema_version": 1, **about}, written, output)
        return
    width = max(len(row["field"]) for row in rows)
    lines = [text.wrap(_plain_text(row["value"]), " " * (width + 2), f"{row['field']:{width}}  ") for row in rows]
    _emit("\n".join(lines) + "\n", output)


def _flat(data: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    """Leaves under their dotted names."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        found += _flat(value, f"{above}.{key}") if isinstance(value, Mapping) else [(f"{above}.{key}", value)]
    return found


def _plain_text(value: object) -> str:
    """A value as the spec would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


# ---------------------------------------------------------------------------------------------------- files


@app.command("import-hf", epilog=_epilog(
    "codesign import-hf config.json", "codesign import-hf path/to/model -o model.yaml",
))
def import_hf(
    config: Annotated[str, typer.Argument(metavar="CONFIG.json", help="A Hugging Face config.json, or its folder.")],
    output: Output = None,
) -> None:
    """Read a Hugging Face configuration, offline, into the `model:` section of a spec.

    What was inferred is said on stderr.
    """
    from codesign.spec import hf

    fields, notes = hf.read(config)
    for note in notes:
        _say(f"note: {note}")
    _emit(_yaml({"model": fields}), output, keep=config)


@app.command(epilog=_epilog("codesign schema -o spec.schema.json"))
def schema(output: Output = None) -> None:
    """The JSON schema of a spec, for completion and checks in an editor."""
    from codesign.spec import load

    _emit(json.dumps(load.json_schema(), indent=2, ensure_ascii=False) + "\n", output)


@app.command(epilog=_epilog("codesign init -o spec.yaml", "codesign init > spec.yaml"))
def init(
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE where it exists.")] = False,
) -> None:
    """A commented spec to start from."""
    from codesign.spec import starter

    if output is not None and output != "-" and os.path.lexists(output) and not force:
        raise SpecError(f"-o {output}: exists already; choose another name, or --force to overwrite it")
    _emit(starter.TEXT, output)
