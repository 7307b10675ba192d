"""`profiles` and `models`: what ships, and where its numbers are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from codesign.cli.options import STYLE, Output, Written, epilog
from codesign.cli.output import Format, chosen_format, emit, emit_rows, say

profiles_app = typer.Typer(
    help="Hardware profiles: every number with its source, kind and date.",
    epilog=epilog("codesign profiles list", "codesign profiles show h100-sxm-80gb", "codesign profiles check"),
    **STYLE,
)
models_app = typer.Typer(
    help="Model presets: shapes with their citation and published size.",
    epilog=epilog("codesign models list", "codesign models show llama-3-8b --format json"),
    **STYLE,
)


def _profile_names(incomplete: str) -> list[str]:
    from codesign.spec import profiles

    return [name for name in profiles.names() if name.startswith(incomplete)]


def _model_names(incomplete: str) -> list[str]:
    from codesign.spec import presets

    return [name for name in presets.names() if name.startswith(incomplete)]


@profiles_app.command("list", epilog=epilog("codesign profiles list", "codesign profiles list --format csv"))
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
    emit_rows(shown, raw, {"schema_version": 1, "profiles": raw}, written, output, right)


@profiles_app.command("show", epilog=epilog(
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
    if chosen_format(written, output) is not Format.table:
        emit_rows(shown, raw, {"schema_version": 1, **profile.model_dump(mode="json")}, written, output)
        return
    head = f"{profile.name}: {profile.vendor}, {profile.status}; kernel fits of the {profile.family} family"
    lines = [head, *(text.wrap(note, "    ", "  - ") for note in profile.notes)]
    lines += ["", text.sectioned(shown, "field"), "", "sources"]
    lines += [text.wrap(f"{key}: {citation}", "    ", "  ") for key, citation in profile.sources.items()]
    emit("\n".join(lines) + "\n", output)


@profiles_app.command("check", epilog=epilog("codesign profiles check", "codesign profiles check my_chip.yaml"))
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
    say(f"checked {len(chosen)} profile(s){beside}: {len(rows) or 'no'} finding(s)")
    form = chosen_format(written, output)
    if form is Format.table and rows:
        from codesign.report import text

        emit("".join(f"{text.wrap(row['finding'], '    ', row['profile'] + ': ')}\n" for row in rows), output)
    elif form is not Format.table:
        emit_rows(rows, rows, data, form, output)
    raise typer.Exit(1 if rows else 0)


@models_app.command("list", epilog=epilog("codesign models list", "codesign models list --format json"))
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
    emit_rows(shown, raw, {"schema_version": 1, "models": raw}, written, output, right)


def _parameters(size: Mapping[str, Any], which: str) -> str:
    """The published count in billions where it is exact, else as it is printed."""
    exact = size.get(which)
    return f"{exact / 1e9:.4g}B" if exact else str(size.get(f"printed_{which}") or "-")


@models_app.command("show", epilog=epilog(
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
    if chosen_format(written, output) is not Format.table:
        emit_rows(rows, rows, {"schema_version": 1, **about}, written, output)
        return
    width = max(len(row["field"]) for row in rows)
    lines = [text.wrap(_plain_text(row["value"]), " " * (width + 2), f"{row['field']:{width}}  ") for row in rows]
    emit("\n".join(lines) + "\n", output)


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
