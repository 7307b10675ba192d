"""Shape lint and shape tables for people: 80 columns, Markdown, and flat rows. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign import units
from codesign.report import text
from codesign.search.lint import Better, Finding, total_s
from codesign.search.shapes import ShapeRow, ShapeTable

Row = dict[str, Any]

MOST_ROWS = 20  # shapes on the screen
CONSTRAINTS = {
    "parameters": "equal parameters",
    "active_parameters": "equal active parameters",
    "training_flops": "equal training FLOPs",
    "loss": "equal predicted loss",
    "wall_clock": "equal wall clock",
}


# ---------------------------------------------------------------------------------------------------- lint


def lint_screen(headline: str, step_s: float, findings: Sequence[Finding]) -> str:
    """The wastes, dearest first: what, where, milliseconds a step, what it rests on, the nearest better values."""
    blocks = [f"{text.wrap(headline)}\n{text.wrap(lint_summary(step_s, findings))}"]
    for finding in findings:
        lines = [text.wrap(f"{finding.waste}: {_place(finding)}", " " * 20, f"{_price(finding, step_s):>18}  ")]
        lines += [text.wrap(line, " " * 22, " " * 20) for line in (finding.message, *_details(finding))]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def lint_markdown(headline: str, step_s: float, findings: Sequence[Finding]) -> str:
    """The same as Markdown."""
    rows = lint_table(step_s, findings)
    lines = [f"- {finding.waste}, {finding.where}: {'. '.join((finding.message, *_details(finding)))}" for finding in findings]
    parts = [headline, lint_summary(step_s, findings), text.markdown_table(rows).rstrip(), "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def lint_table(step_s: float, findings: Sequence[Finding]) -> list[Row]:
    """One row a finding, as text."""
    return [
        {
            "waste": finding.waste,
            "where": _place(finding),
            "ms a step": "-" if finding.cost_s is None else f"{1e3 * finding.cost_s:.4g}",
            "of the step": text.percent(None if finding.cost_s is None else finding.cost_s / step_s),
            "better": _better(finding),
        }
        for finding in findings
    ]


def lint_rows(step_s: float, findings: Sequence[Finding]) -> list[Row]:
    """One flat row a finding, numbers in full."""
    rows = []
    for finding in findings:
        down, up, gemm = finding.down, finding.up, finding.gemm
        rows.append(
            {
                "waste": finding.waste,
                "where": finding.where,
                "value": finding.value,
                "cost_s": finding.cost_s,
                "share": None if finding.cost_s is None else finding.cost_s / step_s,
                "on_top_s": finding.on_top_s,
                "refused": finding.refused,
                **{f"down_{name}": getattr(down, name, None) for name in ("value", "saves_s")},
                **{f"up_{name}": getattr(up, name, None) for name in ("value", "saves_s")},
                "gemm": gemm.name if gemm else None,
                **{name: getattr(gemm, name, None) for name in ("m", "n", "k", "groups")},
                "message": finding.message,
                "basis": finding.basis,
            }
        )
    return rows


def lint_summary(step_s: float, findings: Sequence[Finding]) -> str:
    """How many wastes, and what they cost together."""
    total = total_s(findings)
    count = f"{len(findings)} waste{'' if len(findings) == 1 else 's'}" if findings else "no waste"
    found = f"step time {units.show(step_s, 's')}: {count} found"
    if not findings:
        return found
    text_of_total = f"{found}, {1e3 * total:.4g} ms a step one by one ({text.percent(total / step_s)})"
    on_top = sum(finding.on_top_s for finding in findings)
    return text_of_total + (f"; {1e3 * on_top:.4g} ms of it the plan does not hold" if on_top else "")


def _price(finding: Finding, step_s: float) -> str:
    if finding.cost_s is None:
        return _ms(None)
    return f"{_ms(finding.cost_s)} {text.percent(finding.cost_s / step_s):>6}"


def _ms(cost_s: float | None) -> str:
    return "no price" if cost_s is None else f"{1e3 * cost_s:.4g} ms"


def _place(finding: Finding) -> str:
    return f"{finding.where} {finding.value:g}" if finding.value < 1e6 else f"{finding.where} {finding.value:,.0f}"


def _details(finding: Finding) -> list[str]:
    lines = [f"better: {_better(finding)}"]
    if finding.on_top_s and finding.cost_s:
        part = "this" if finding.on_top_s >= 0.999 * finding.cost_s else f"{1e3 * finding.on_top_s:.4g} ms of it"
        lines.append(f"the plan's step does not hold {part}")
    return [*lines, f"rests on {finding.basis}"]


def _better(finding: Finding) -> str:
    found = [_saving(better) for better in (finding.down, finding.up) if better]
    return " or ".join(found) if found else "none nearby"


def _saving(better: Better) -> str:
    return f"{better.value:g} (saves {1e3 * better.saves_s:.4g} ms)"


# ---------------------------------------------------------------------------------------------------- shapes


def shapes_screen(headline: str, table: ShapeTable) -> str:
    """The best shapes, what they rest on, and why the others are not among them."""
    sections = [f"{text.wrap(headline)}\n{text.wrap(shapes_summary(table))}"]
    if table.rows:
        shown = [_shown(row, table.equal) for row in table.rows[:MOST_ROWS]]
        more = len(table.rows) - len(shown)
        lines = text.table(shown, list(shown[0]))
        sections.append(lines + (f"\n... {more} more; --format csv has all" if more > 0 else ""))
        sections.append("\n".join(text.wrap(line, "  ", "") for line in legend(table)))  # empty where there is none
        sections.append("\n".join(_about(at, row) for at, row in enumerate(table.rows) if row.findings is not None))
    if table.rejected:
        sections.append("\n".join(["left out", *(f"  {n:6,}  {why}" for why, n in table.rejected.items())]))
    sections.append("\n".join(["notes", *(text.wrap(note, "    ", "  - ") for note in table.notes)]))
    return "\n\n".join(section for section in sections if section) + "\n"


def shapes_markdown(headline: str, table: ShapeTable) -> str:
    """The same as Markdown, every shape."""
    rows = shapes_table(table)
    parts = [headline, shapes_summary(table), text.markdown_table(rows).rstrip()]
    parts.append("\n".join(f"- {line}" for line in legend(table)) if rows else "")
    if table.rejected:
        parts.append(text.markdown_table([{"left out": why, "shapes": n} for why, n in table.rejected.items()]).rstrip())
    parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def shapes_rows(table: ShapeTable) -> list[Row]:
    """One flat row a shape, numbers in full; the layout as text, findings as their number and share of the step."""
    rows = []
    for rank, row in enumerate(table.rows, 1):
        data = row.to_dict()
        findings = data.pop("findings")
        data["layout"] = text.layout_text(row.layout)
        counts = {"findings": None if findings is None else len(findings), "waste_share": row.waste_share}
        rows.append({"rank": rank, **data, **counts})
    return rows


def shapes_summary(table: ShapeTable) -> str:
    """The constraint, how it is held, how many shapes were tried and how many are left."""
    held = f" within {100 * table.tolerance:g} % by {table.free}" if table.free else ""
    kept = sum(not row.is_base for row in table.rows)
    axes = ", ".join(f"{name} {_values(values)}" for name, values in table.axes.items())
    return f"shapes at {CONSTRAINTS[table.equal]}{held}: {kept:,} of {table.candidates:,} hold ({axes})"


def _values(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= 3 else f"{values[0]} to {values[-1]}"


def shapes_table(table: ShapeTable) -> list[Row]:
    """One row a shape, as text."""
    return [_shown(row, table.equal) for row in table.rows]


def _shown(row: ShapeRow, equal: str) -> Row:
    """The columns of one shape: its dimensions, its size, its step, and what the constraint ranks by."""
    shown: Row = {"layers": f"{'*' if row.is_base else ''}{row.layers}", "hidden": row.hidden}
    if row.experts:
        shown["experts"] = f"{row.top_k}/{row.experts}x{row.expert_ffn}"
    else:
        shown["ffn"] = row.ffn
    shown |= {"params": _billions(row.parameters), "step": _seconds(row.step_s), "MFU": text.percent(row.mfu)}
    if equal == "wall_clock":
        return {**shown, "tokens": _billions(row.tokens), "loss": _digits(row.predicted_loss, 4)}
    if equal == "loss":
        shown["tokens"] = _billions(row.tokens)
    low, high = row.days_at_equal_loss_low, row.days_at_equal_loss_high
    shown["days"] = _days(row.days_at_equal_loss)
    shown["range"] = "-" if low is None and high is None else f"{_days(low)}-{_days(high)}"
    return shown


def legend(table: ShapeTable) -> list[str]:
    """What the marks and columns of the table mean."""
    base = ["* the spec's own shape"] if any(row.is_base for row in table.rows) else []
    if table.equal == "wall_clock":
        return [*base, "tokens: what fits in the base's time; loss: predicted, nats a token"]
    if all(row.days_at_equal_loss is None for row in table.rows):
        return base
    about = "days: to the base's predicted loss, the shape's own term included; range: over the sources of that term"
    return [*base, about]


def _about(at: int, row: ShapeRow) -> str:
    """The layout and the wastes of one of the first shapes."""
    findings = row.findings or ()
    wastes = ", ".join(f"{finding.waste} ({_ms(finding.cost_s)})" for finding in findings[:3])
    more = f" and {len(findings) - 3} more" if len(findings) > 3 else ""
    heads = f"{row.heads} heads" + (f" of {row.head_dim}, {row.kv_heads} KV" if row.head_dim else "")
    size = f"{row.layers} x {row.hidden}, {heads}"
    line = f"{size}: {text.layout_text(row.layout)}; waste: {wastes + more if findings else 'none'}"
    return text.wrap(line, "     ", f"{at + 1:3}. ")


def _billions(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e12:.3g}T" if value >= 9.995e11 else f"{value / 1e9:.4g}B" if value >= 1e9 else f"{value / 1e6:.3g}M"


def _days(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.0e}"


def _seconds(value: float) -> str:
    """Three digits are enough beside each other; csv has all."""
    return f"{value:.3g} s" if value >= 0.9995 else f"{1e3 * value:.3g} ms"


def _digits(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
