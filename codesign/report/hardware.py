"""A sensitivity for the terminal (80 columns), as Markdown, and as rows for csv. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codesign import units
from codesign.report import text
from codesign.report.text import percent, wrap
from codesign.search.exposure import Exposure
from codesign.search.sensitivity import Bought, Sensitivity, Swing

Row = dict[str, Any]

_HALF = 14  # characters of either side of a tornado
NOTHING = 5e-6  # changes below it are not shown
_SMALL = 5e-4  # a share that is shown as nothing
_KINK = 2e-3  # by which shares of the step may miss 1 before it is said
_RIGHT = (
    "now", "step", "cost", "binds", "bears", "share", "fair", "exposed", "of step", "hidden at", "90 % gone at", "saves",
    "best layout", "best saves", "needed", "factor", "by", "wanted", "at best",
)
_ABOUT_ELASTICITY = (
    "step, cost: change in per cent for one per cent more of the number shown. cost is accelerator-seconds a token: it "
    "moves as the step does, because accelerators and tokens a step stay. binds: share of the step. bears: what the number "
    "may be multiplied by for a step 1 % longer; of the capacity, what the layout needs. Above the pod is also part of "
    "scale-out, but not of what that binds."
)
_ABOUT_CAPACITY = "memory capacity moves no step of a fixed layout: it lets another layout in"
_ABOUT_BALANCE = (
    "balanced: no rate in use binds more than twice its fair share of what rates bind, or less than half; fair is its part "
    "of the weights, the relative costs of a doubling. index: exp(-sum share ln(share / fair)), 1 where all are fair."
)
_ABOUT_EXPOSED = (
    "hidden at: bandwidth of the level from which on all is hidden that has something to run beside. 90 % gone at: from "
    "which on nine tenths of what this bandwidth can remove are gone. Data-parallel terms: the rank that ends last."
)


@dataclass(frozen=True)
class Section:
    """A title, a table, a block of lines that stay as they are, and paragraphs."""

    title: str
    rows: Sequence[Row] = ()
    block: str = ""
    words: Sequence[str] = ()


def screen(head: Sequence[str], sections: Sequence[Section]) -> str:
    """A head and sections as plain text."""
    blocks = ["\n".join(wrap(line, "  ", "") for line in head)]
    for section in sections:
        lines = [section.title, text.table(_indented(section.rows), _RIGHT), section.block]
        lines += [wrap(line, "    ", "  ") for line in section.words]
        blocks.append("\n".join(line for line in lines if line))
    return "\n\n".join(blocks) + "\n"


def _indented(rows: Sequence[Row]) -> list[Row]:
    """The first column a little to the right of the title."""
    return [{f"  {name}" if not at else name: f"  {value}" if not at else value for at, (name, value) in enumerate(r.items())}
            for r in rows]


def markdown(head: Sequence[str], sections: Sequence[Section]) -> str:
    """The same as Markdown; the first line of the head is its title."""
    blocks = [f"# {head[0]}\n", *(f"{line}\n" for line in head[1:])]
    for section in sections:
        blocks.append(f"## {section.title[:1].upper()}{section.title[1:]}\n")
        blocks += [text.markdown_table(section.rows)] if section.rows else []
        blocks += [f"```text\n{section.block}\n```\n"] if section.block else []
        blocks += [f"{line}\n" for line in section.words]
    return "\n".join(blocks)


def times(factor: float | None) -> str:
    """A factor, '-' where there is none."""
    return "-" if factor is None else f"x{factor:.4g}"


def _rounded(value: float, digits: int) -> str:
    """A signed number; what rounds to nothing is 0."""
    return "0" if abs(value) < NOTHING else f"{value:+.{digits}f}"


def _rate(value: float | None) -> str:
    return "never" if value is None else units.show(value, "Bps")


# ---------------------------------------------------------------------------------------------------- sensitivity


def sensitivity_screen(found: Sensitivity) -> str:
    """Everything that `codesign sensitivity` says."""
    return screen(_sensitivity_head(found), _sensitivity_sections(found))


def sensitivity_markdown(found: Sensitivity) -> str:
    """The same as Markdown."""
    return markdown(["What the step answers to", *_sensitivity_head(found)], _sensitivity_sections(found))


def sensitivity_rows(found: Sensitivity) -> list[Row]:
    """One row a resource: elasticities, tornado, what is bought. Plain numbers for csv."""
    swings, bought = {row.resource: row for row in found.tornado}, {row.resource: row for row in found.bought}
    rows = []
    for row in found.elasticities:
        swing, buy = swings[row.resource], bought[row.resource]
        rows.append({
            "resource": row.resource, "kind": row.kind, "value": row.value, "unit": row.unit, "used": row.used,
            "elasticity_step": row.step, "elasticity_cost": row.cost, "share": row.share, "bearable": row.bearable,
            "less": found.less, "low_s": swing.low_s, "fits_low": swing.fits_low, "more": found.more,
            "high_s": swing.high_s, "fits_high": swing.fits_high, "swing_s": swing.swing_s, "buy_factor": buy.factor,
            "fixed_s": buy.fixed_s, "fixed_gain": buy.fixed_gain, "best_s": buy.best_s, "best_gain": buy.best_gain,
        })
    return rows


def _sensitivity_head(found: Sensitivity) -> list[str]:
    fits = [] if found.plan.feasible else ["DOES NOT FIT", *found.plan.violations]
    step, cost = units.show(found.plan.step_s, "s"), units.show(found.cost_s, "s")
    mfu = percent(found.plan.value("mfu"))
    return [*fits, text.headline(found.plan), f"step {step}, MFU {mfu}, {cost} of an accelerator a token"]


def _sensitivity_sections(found: Sensitivity) -> list[Section]:
    idle = [row.resource for row in found.elasticities if not row.used]
    unused = [f"not used by this run: {', '.join(idle)}"] if idle else []
    low, high = f"{100 * found.less:g} % less", f"{100 * found.more:g} % more"
    return [
        Section("what one per cent more changes", _elasticity_rows(found), "", [*unused, _ABOUT_ELASTICITY]),
        Section(f"tornado: the step with {low} (-) and {high} (+) of each", (), _tornado(found), _tight(found)),
        _balance(found), _exposed(found.exposures), _bought(found),
    ]


def _elasticity_rows(found: Sensitivity) -> list[Row]:
    return [
        {
            "resource": row.resource, "now": units.show(row.value, row.unit), "step": _rounded(row.step, 4),
            "cost": _rounded(row.cost, 4), "binds": percent(row.share), "bears": times(row.bearable),
        }
        for row in found.elasticities if row.used
    ]


def _tornado(found: Sensitivity) -> str:
    """Bars to either side of the step as it is: '-' with less of a resource, '+' with more; faster is left."""
    now = found.plan.step_s
    rows = [row for row in found.tornado if row.swing_s > NOTHING * now]
    widest = max((abs(end - now) for row in rows for end in (row.low_s, row.high_s)), default=1.0)
    lines = [f"  {'':22}{'less':>9}{'more':>10}  {'faster':<{_HALF}}|{'slower':>{_HALF}}"]
    for row in rows:
        left, right = "", ""
        for end, mark in ((row.low_s, "-"), (row.high_s, "+")):
            bar = mark * math.ceil(_HALF * abs(end - now) / widest)
            left, right = (bar if end < now and len(bar) > len(left) else left), (
                bar if end > now and len(bar) > len(right) else right)
        ends = f"{units.show(row.low_s, 's'):>9}{units.show(row.high_s, 's'):>10}"
        lines.append(f"  {row.resource:22}{ends}  {left:>{_HALF}}|{right}".rstrip())
    return "\n".join(lines)


def _tight(found: Sensitivity) -> list[str]:
    """What no longer fits, and that capacity moves nothing else."""
    return [_ABOUT_CAPACITY, *(f"{row.resource}: {_fits(row)}" for row in found.tornado if not row.fits_low)]


def _fits(row: Swing) -> str:
    return "with less of it the layout does not fit" if row.fits_high else "the layout does not fit, with more of it either"


def _balance(found: Sensitivity) -> Section:
    balance = found.balance
    verdict = "balanced" if balance.balanced else "not balanced"
    rows = [
        {"rate": rate.resource, "share": percent(rate.share), "fair": percent(rate.fair), "verdict": rate.verdict}
        for rate in balance.rates
    ]
    total = sum(balance.shares.values())
    kink = [f"shares add up to {percent(total)}: the step has a kink here"] if abs(total - 1.0) > _KINK else []
    return Section(
        f"is the system balanced: {verdict}, index {balance.index:.3f}", rows, "",
        [f"the step is bound by {balance.bound_by}", *kink, _ABOUT_BALANCE],
    )


def _exposed(exposures: Sequence[Exposure]) -> Section:
    if not exposures:
        return Section("exposed communication: none")
    rows = [
        {
            "term": row.label, "exposed": units.show(row.exposed_s, "s"), "of step": percent(row.share),
            "level": row.level.removesuffix(" bandwidth"), "hidden at": _hidden_at(row), "90 % gone at": _rate(row.most_Bps),
        }
        for row in exposures
    ]
    return Section(
        "exposed communication, and the bandwidth that would just hide it", rows, "",
        [*(f"{row.label}: {_why_exposed(row)}" for row in exposures), _ABOUT_EXPOSED],
    )


def _hidden_at(row: Exposure) -> str:
    if row.hideable_s <= NOTHING * row.exposed_s:
        return "-"
    return _rate(row.hides_Bps)


def _why_exposed(row: Exposure) -> str:
    """What keeps a term exposed, with the step at the bandwidths of the table."""
    words = [row.why if row.structural_s <= 0 else f"{row.why} ({units.show(row.structural_s, 's')})"]
    if row.hideable_s > NOTHING * row.exposed_s:
        if row.hides_step_s is None:
            words.append(f"no bandwidth of this level hides the other {units.show(row.hideable_s, 's')}")
        else:
            words.append(f"just hidden at {times(row.hides_factor)}, the step is then {units.show(row.hides_step_s, 's')}")
    kept = {"other levels": row.other_levels_s, "latency": row.latency_s, "no network": row.other_s}
    left = [f"{name} {units.show(value, 's')}" for name, value in kept.items() if value > NOTHING * row.exposed_s]
    if left and row.never_removed >= _SMALL:
        words.append(f"{percent(row.never_removed)} of it this bandwidth cannot remove: {', '.join(left)}")
    return "; ".join(words)


def _bought(found: Sensitivity) -> Section:
    title = f"what {100 * found.buy:g} % more of each buys"
    rows = [_bought_row(found, row) for row in found.bought if found.searched or row.fixed_s != found.plan.step_s]
    words = ["of durations less; saves: share of the time before"]
    if not found.searched:
        said = f"with this layout; layouts were not searched, --free all does. {_ABOUT_CAPACITY}"
        return Section(title, rows, "", [*words, said])
    best = "no layout fits as it is" if found.best_s is None else (
        f"best layout as it is: {units.show(found.best_s, 's')} ({text.layout_text(found.best_layout or {})})")
    changes = [
        f"{row.resource}: the best layout is then {text.layout_text(row.best_layout)}"
        for row in found.bought if row.best_layout is not None and row.best_layout != found.best_layout
    ]
    return Section(title, rows, "", [best, *changes, *words])


def _bought_row(found: Sensitivity, row: Bought) -> Row:
    shown = {
        "resource": row.resource, "by": times(row.factor), "step": units.show(row.fixed_s, "s"),
        "saves": percent(row.fixed_gain, 2),
    }
    if found.searched:
        shown |= {"best layout": units.show(row.best_s, "s"), "best saves": percent(row.best_gain, 2)}
    return shown
