"""Two plans side by side, as text of 80 columns and as Markdown: the answer first, then what moved and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from codesign import graph, units
from codesign.planner import SCOPES, Plan
from codesign.report import text, view
from codesign.search.compare import REPEAT, Comparison, Move
from codesign.search.provenance import Difference

MOST_CHANGES = 24  # lines of fields that differ
MOST_INPUTS = 6  # names of inputs under a part that moved
MOST_THROUGH = 3
SMALLEST_MOVE = 5e-4  # share of the whole move that is shown as 0
SUM = "sum = step_s"
MOST_FIELDS = 3  # fields of an effect that are written with their values

FIGURES = {
    "step_s": "step time", "step_tokens": "tokens a step", "job_tokens_per_s": "throughput",
    "accelerator_tokens_per_s": "per accelerator", "mfu": "MFU", "hfu": "HFU", "peak_B": "fullest rank",
    "memory_B": "capacity", "headroom_B": "headroom",
}  # fmt: skip

OF_A_RUN = {
    "phase_run_step_s": "step over sites", "phase_tokens_per_s": "tokens over sites",
    "run_wall_s": "time of the run", "run_tokens_per_s": "tokens of the run", "goodput": "goodput",
    "failures_per_day": "failures a day", "run_accelerators": "accelerators", "run_accelerator_hours": "accelerator-hours",
    "final_loss": "final loss", "effective_FLOP": "effective compute", "sites_gain": "gain of the sites",
    "run_energy_J": "energy", "run_carbon_kg": "CO2", "rental_cost": "rental", "failure_cost": "of it for failures",
    "energy_cost": "energy, paid apart",
}  # fmt: skip
SHARES = ("goodput",)

SWITCHED = (
    "the fields that differ, switched from A to B one by one, dp following; the mean of this order and its reverse, "
    "which adds up to the whole move"
)

Row = dict[str, Any]


# ---------------------------------------------------------------------------------------------------- the answer


def answer(c: Comparison, names: Sequence[str] = ("A", "B")) -> list[str]:
    """The verdict in a few sentences: fit, which is faster, how sure. `names` are what the two are called."""
    a, b = names
    fits = c.fits
    lines = [] if all(fits) else [f"ONLY {a} FITS" if fits[0] else f"ONLY {b} FITS" if fits[1] else "NEITHER FITS"]
    called = {"A": a, "B": b}.get(c.faster or "", "")
    if c.over_sites is not None:
        return [*lines, over_the_sites(c, names), _one_site(c, called)]
    return [*lines, _faster(c, called), *_confidence(c, called)]


def over_the_sites(c: Comparison, names: Sequence[str]) -> str:
    """Which of two runs over sites trains more tokens a second; no pair of measured runs speaks for several sites."""
    assert c.over_sites is not None
    step, rate = c.over_sites
    if rate.a == rate.b:
        return f"NO DIFFERENCE OVER THE SITES: both give {units.show(rate.a, 'tokens_per_s')}"
    called, quick, slow = (names[1], step.b, step.a) if rate.b > rate.a else (names[0], step.a, step.b)
    more = _per_cent(max(rate.a, rate.b) / min(rate.a, rate.b) - 1.0)
    steps = f"{units.show(quick, 's')} a step over the sites against {units.show(slow, 's')}"
    return f"{called} IS PREDICTED TO BE FASTER: {steps}, {more} more tokens a second; no measured pair says how sure that is"


def _one_site(c: Comparison, called: str) -> str:
    """What the slowest sites take alone, without the exchange."""
    if c.faster is None:
        return "the slowest sites take the same alone, without the exchange"
    quick, slow = sorted((c.a.step_s, c.b.step_s))
    alone = f"{units.show(quick, 's')} a step against {units.show(slow, 's')}"
    return f"the slowest site of each alone, without the exchange: {alone}, {called} trains more tokens a second"


def _faster(c: Comparison, called: str) -> str:
    if c.faster is None:
        same = f"both give {units.show(c.a.value('job_tokens_per_s'), 'tokens_per_s')}"
        moved = [row for row in run_rows(c) if row["change"] != "0"]
        if not moved:
            return f"NO DIFFERENCE: {same}"
        first = moved[0]
        told = f"{first['the run']} {first['A']} in A, {first['B']} in B ({first['change']})"
        return f"THE RUNS DIFFER: {told}; their steps are alike, {same}"
    quick, slow = (c.b, c.a) if c.faster == "B" else (c.a, c.b)
    steps = f"{units.show(quick.step_s, 's')} a step against {units.show(slow.step_s, 's')}"
    more = f"{_per_cent(math.expm1(abs(c.gap)))} more tokens a second"
    if quick.value("step_tokens") != slow.value("step_tokens"):
        ratio = quick.value("step_tokens") / slow.value("step_tokens")
        steps += f" for {ratio:.4g} times the tokens"
    if c.decided:
        return f"{called} IS FASTER: {steps}, {more}"
    return f"TOO CLOSE TO CALL: {called} is predicted to be faster, {steps}, {more}"


def _confidence(c: Comparison, called: str) -> list[str]:
    if c.faster is None:
        return []
    held = c.confidence
    known = f"{held.pairs:,} pairs of measured runs ({held.groups} groups, cell '{held.cell}')"
    sure = f"confidence {100 * held.share:.0f} % that {called} is faster, from our errors on {known}"
    lines = [f"{sure}; the two differ in {SCOPES[c.scope]}"]
    if abs(c.gap) < math.log1p(REPEAT):
        lines.append(f"the same run measured twice differs by about {100 * REPEAT:.0f} %")
    return lines + [f"EXTRAPOLATED: {why}; be less sure than that" for why in c.extrapolated]


def _per_cent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %" if ratio >= 1e-3 else f"{100 * ratio:.2g} %"


# ---------------------------------------------------------------------------------------------------- rows


def part_rows(c: Comparison) -> list[Row]:
    """Parts of the step that are worth a row, then the sum of the small ones, then the step.

    Each number is its own rounding, the difference too: it is that of the numbers, not of what is shown of them, so that a
    part that stays shows no move. Where a sum or a difference as shown is missed by a last digit, the row of the sum says so.
    """
    least = text.SMALLEST_SHARE * max(c.a.step_s, c.b.step_s)
    kept = [m for m in c.parts if max(abs(m.a), abs(m.b)) >= least]
    small = [m for m in c.parts if 0 < max(abs(m.a), abs(m.b)) < least]
    if small:
        name = f"{len(small)} smaller part{'s' if len(small) > 1 else ''}"
        kept.append(Move(name, sum(m.a for m in small), sum(m.b for m in small)))
    rows, step = [_part(c, m) for m in kept], _part(c, Move(SUM, c.a.step_s, c.b.step_s))
    a, b, change = columns = list(step)[1:4]
    missed = any(view.is_rounded((row[head] for row in rows), step[head]) for head in columns)
    if missed or any(view.is_rounded((row[a], row[change]), row[b]) for row in (*rows, step)):
        step["part"] = f"{SUM}, each rounded"
    return [*rows, step]


def _part(c: Comparison, move: Move) -> Row:
    share, unit = c.share(move), view.time_unit(c.a.step_s)[0]
    a, b, change = (view.time_text(value, c.a.step_s) for value in (move.a, move.b, move.difference))
    return {
        "part": move.name, f"A, {unit}": a, f"B, {unit}": b,
        "B - A": "0" if not float(change) else change if move.difference < 0 else f"+{change}",
        "of the move": "0" if abs(share) < SMALLEST_MOVE else text.signed_percent(share),
    }  # fmt: skip


def figure_rows(c: Comparison) -> list[Row]:
    """The figures of both, and the change."""
    moves = {one.name: one for one in c.figures}
    rows = []
    for name, label in FIGURES.items():
        a, b, unit = moves[name].a, moves[name].b, units.suffix(name)
        if unit == "1":
            shown, change = (text.percent(a), text.percent(b)), f"{100 * (b - a):+.1f} points"
        else:
            shown = (units.show(a, unit), units.show(b, unit))
            change = signed(b - a, unit) if unit == "B" else text.signed_percent(b / a - 1)
        rows.append({"figure": label, "A": shown[0], "B": shown[1], "change": "0" if a == b else change})
    return rows


def run_rows(c: Comparison) -> list[Row]:
    """What both runs come to beyond the step, and the change."""
    rows = []
    for one in c.run:
        unit = graph.REGISTRY[one.name].unit
        if one.name in SHARES:
            shown, change = (text.percent(one.a), text.percent(one.b)), f"{100 * one.difference:+.2f} points"
        else:
            shown = (units.show(one.a, unit), units.show(one.b, unit))
            change = text.signed_percent(one.b / one.a - 1) if one.a else signed(one.b, unit)
        label = {"the run": OF_A_RUN[one.name], "A": shown[0], "B": shown[1]}
        rows.append({**label, "change": "0" if one.a == one.b else change})
    return rows


def memory_rows(c: Comparison) -> list[Row]:
    """Memory terms of the fullest rank of each."""
    a, b = (f"{letter}, rank {rank}" for letter, rank in zip("AB", c.fullest, strict=True))
    head = "memory of the fullest rank"
    return [
        {head: m.name, a: units.show(m.a, "B"), b: units.show(m.b, "B"), "B - A": signed(m.difference, "B")} for m in c.memory
    ]


def traffic_rows(c: Comparison) -> list[Row]:
    """Bytes that an accelerator sends in a step, by class and network level."""
    return [
        {
            "traffic per accelerator": one.purpose, "level": one.level.replace("_", " "), "A": units.show(one.a_B, "B"),
            "B": units.show(one.b_B, "B"), "A of link": text.percent(one.a_utilisation),
            "B of link": text.percent(one.b_utilisation),
        }
        for one in c.traffic
    ]  # fmt: skip


def signed(value: float, unit: str) -> str:
    """A difference with its sign."""
    if not value:
        return "0"
    return f"{'-' if value < 0 else '+'}{units.show(abs(value), unit)}"


def change_rows(c: Comparison) -> list[Row]:
    """Fields of the resolved specs that differ."""
    return [{"differs": one.field, "A": _word(one.a), "B": _word(one.b)} for one in c.changes]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------------- why


def effect_lines(c: Comparison) -> list[tuple[str, str]]:
    """For every field, or fields that had to be switched together: what it is, and what it does to the step."""
    found = []
    for one in c.effects:
        parts = sorted(one.parts_s.items(), key=lambda pair: -abs(pair[1]))[:2]
        mostly = ", ".join(f"{name} {signed(value, 's')}" for name, value in parts if value)
        told = signed(one.mean_s, "s") if one.mean_s else "no effect on the step"
        if abs(one.forward_s - one.backward_s) > 0.05 * max(abs(one.forward_s), abs(one.backward_s)):
            told += f" ({signed(one.forward_s, 's')} in this order, {signed(one.backward_s, 's')} in the reverse)"
        found.append((_fields(c, one.fields), f"{told}: {mostly}" if mostly else told))
    return found


def _fields(c: Comparison, fields: Sequence[str]) -> str:
    """`layout.tp 8 -> 4, layout.pp 16 -> 32`."""
    within = [one for one in c.changes if any(one.field == f or one.field.startswith(f"{f}.") for f in fields)]
    shown = [f"{one.field} {_word(one.a)} -> {_word(one.b)}" for one in within[:MOST_FIELDS]]
    more = len(within) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def cause_lines(c: Comparison) -> list[tuple[str, list[str]]]:
    """For every part that moved much: its move, and the fields, quantities and inputs behind it."""
    found = []
    for one in c.causes:
        by = [f"{', '.join(fields[:MOST_FIELDS])}{' ...' if len(fields) > MOST_FIELDS else ''} {signed(value, 's')}"
              for fields, value in one.effects[:MOST_THROUGH]]
        below = ["by " + "; ".join(by)] if by else []
        through = [_moved(d) for d in one.through[:MOST_THROUGH]]
        below += ["through " + ", ".join(through)] if through else []
        names = list(dict.fromkeys(d.name for d in one.inputs))
        more = f" and {len(names) - MOST_INPUTS} more" if len(names) > MOST_INPUTS else ""
        below += [f"inputs that differ: {', '.join(names[:MOST_INPUTS])}{more}"] if names else []
        found.append((f"{one.part} {signed(one.difference_s, 's')}", below))
    return found


def _moved(one: Difference) -> str:
    name = f"{one.name}[{one.member}]" if one.member else one.name
    a, b = ("nothing" if value is None else view.value_text(value, one.unit) for value in (one.a, one.b))
    return f"{name} {a} -> {b}"


def footing_line(c: Comparison) -> str:
    """The weakest number under each step, and which inputs are of another kind in B."""
    weak = [plan.footing[0] for plan in (c.a, c.b)]
    line = f"footing: the weakest number under the step is {weak[0]} in A, {weak[1]} in B"
    if not c.footing:
        return f"{line}; every input is of the same kind in both"
    shown = [f"{one.field} {one.a or 'nothing'} -> {one.b or 'nothing'}" for one in c.footing[:MOST_INPUTS]]
    more = f" and {len(c.footing) - MOST_INPUTS} more" if len(c.footing) > MOST_INPUTS else ""
    return f"{line}; of another kind: {', '.join(shown)}{more}"


# ---------------------------------------------------------------------------------------------------- screen


def compare_screen(c: Comparison) -> str:
    """Everything that `codesign compare` says, the answer first, 80 columns."""
    sections = [_answer(c), _table(part_rows(c)), _why(c), _table(figure_rows(c)), _table(run_rows(c)), _table(memory_rows(c)),
                _table(traffic_rows(c)), _changes(c), text.wrap(footing_line(c))]
    return "\n\n".join(section for section in sections if section) + "\n"


def _answer(c: Comparison) -> str:
    lines = [text.wrap(line, "    ", "") for line in answer(c)]
    for name, plan in (("A", c.a), ("B", c.b)):
        lines.append(text.wrap(text.headline(plan), "   ", f"{name}  "))
        if not plan.feasible and not _is_over_sites(c):
            lines.append("   does not fit")
            lines += [text.wrap(message, "     ", "   - ") for message in plan.violations]
    lines += [text.wrap(message, "     ", "   ") for message in _unfit_runs(c)]
    return "\n".join(lines)


def _unfit_runs(c: Comparison) -> list[str]:
    """What breaks a run and not its plan's own step, which is told already."""
    found = []
    for name, plan, run in zip("AB", (c.a, c.b), c.runs or (), strict=False):
        known = () if run.has_sites else plan.violations  # over sites the run says all, and which site
        new = [message for message in run.violations if not (known and message.endswith(known))]
        found += [f"the run of {name} is not feasible: {message}" for message in new]
    return found


def _is_over_sites(c: Comparison) -> bool:
    return c.runs is not None and any(run.has_sites for run in c.runs)


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    first = next(iter(rows[0]))
    indented = [{first: f"  {row[first]}", **{k: v for k, v in row.items() if k != first}} for row in rows]
    right = [head for head in rows[0] if head not in (first, "level")]
    return text.table(indented, right)


def _why(c: Comparison) -> str:
    if not c.effects:
        return ""
    lines = [text.wrap(f"why: {SWITCHED}")]
    for fields, told in effect_lines(c):
        lines += [text.wrap(fields, "    ", "  "), text.wrap(told, "        ", "      ")]
    causes = cause_lines(c)
    if causes:
        lines += ["", "what moved most"]
    for part, below in causes:
        lines += [text.wrap(part, "    ", "  "), *(text.wrap(line, "        ", "      ") for line in below)]
    return "\n".join(lines)


def _changes(c: Comparison) -> str:
    rows = change_rows(c)
    if not rows:
        return "the specs do not differ"
    lines = [text.table([{**row, "differs": f"  {row['differs']}"} for row in rows[:MOST_CHANGES]])]
    if len(rows) > MOST_CHANGES:
        lines.append(f"  and {len(rows) - MOST_CHANGES} more: --format json")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- Markdown


def compare_markdown(c: Comparison) -> str:
    """The same as Markdown."""
    names = [(letter, view.plain(text.headline(plan)), plan) for letter, plan in (("A", c.a), ("B", c.b))]
    sections = [
        "# A against B",
        view.bullets(answer(c)),
        "\n".join(f"- {letter}: {headline}{'' if _is_over_sites(c) else _unfit(plan)}" for letter, headline, plan in names),
        view.bullets(_unfit_runs(c)),
        _titled("Where the time moves", part_rows(c)),
        _reasons(c),
        _titled("Figures", figure_rows(c)), _titled("The run", run_rows(c)),
        _titled("Memory of the fullest rank", memory_rows(c)),
        _titled("Traffic", traffic_rows(c)), _titled("Fields that differ", change_rows(c)), view.plain(footing_line(c)),
    ]  # fmt: skip
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _unfit(plan: Plan) -> str:
    return f". Does not fit: {view.plain('; '.join(plan.violations))}" if not plan.feasible else ""


def _titled(title: str, rows: Sequence[Row]) -> str:
    return f"## {title}\n\n{text.markdown_table(rows)}" if rows else ""


def _reasons(c: Comparison) -> str:
    if not c.effects:
        return ""
    rows = [{"field": fields, "effect on the step": told} for fields, told in effect_lines(c)]
    lines = [_titled("Why", rows), f"These are {SWITCHED}.", ""]
    lines += [f"- {view.plain(part)}: {view.plain('; '.join(below))}" for part, below in cause_lines(c)]
    return "\n".join(lines)
