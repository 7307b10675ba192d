"""Plain text for the terminal: the screen of a plan, the tree of an explanation, tables. Pure functions, 80 columns."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from codesign import graph, units
from codesign.planner import Plan, plain
from codesign.quantities import communication, compute, memory, model
from codesign.report import view
from codesign.spec import references as entries
from codesign.spec.references import Reference

WIDTH = 80
BAR = 18  # characters of a full bar
MOST_STAGE_ROWS = 12
MOST_LISTED = 9  # values of an array that are written one by one
SMALLEST_SHARE = 5e-4  # parts below it are shown together

Row = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Row], right: Iterable[str] = (), width: int = WIDTH) -> str:
    """Aligned columns under a header, the keys of the first row; columns in `right` are flush right.

    A table wider than `width` has its widest left-flush column cut, and what was cut is marked by '...'.
    """
    if not rows:
        return ""
    names, flush = list(rows[0]), frozenset(right)
    cells = [names, *([cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    over = sum(widths) + 2 * (len(names) - 1) - width
    if over > 0:
        cut = max((at for at, name in enumerate(names) if name not in flush), key=lambda at: widths[at], default=0)
        widths[cut] = max(widths[cut] - over, 8)
    lines = []
    for line in cells:
        shown = [
            clip(text, size).rjust(size) if name in flush else clip(text, size).ljust(size)
            for text, size, name in zip(line, widths, names, strict=True)
        ]
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def sectioned(rows: Sequence[Row], key: str) -> str:
    """Rows whose `key` is a dotted name, under a line for each section; aligned over all of them."""
    parts = [str(row[key]).rpartition(".") for row in rows]
    columns = [["  " + tail, *(cell(value) for name, value in row.items() if name != key)]
               for (_, _, tail), row in zip(parts, rows, strict=True)]
    widths = [max(len(line[at]) for line in columns) for at in range(len(columns[0]))]
    lines, last = [], None
    for (section, _, _), line in zip(parts, columns, strict=True):
        if section != last:
            lines.append(section or "profile")
            last = section
        lines.append(clip("  ".join(text.ljust(size) for text, size in zip(line, widths, strict=True)).rstrip(), WIDTH))
    return "\n".join(lines)


def cell(value: object) -> str:
    """A value in a table: nothing is '-', numbers have four digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return units.show(value, "1")
    return str(value)


def clip(text: str, size: int) -> str:
    """At most `size` characters, the cut marked by '...'."""
    return text if len(text) <= size else text[: max(size - 3, 0)] + "..."


def csv_text(rows: Sequence[Row]) -> str:
    """Comma-separated values with a header; numbers in full, missing ones empty, lists joined by ';'."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if rows:
        writer.writerow(list(rows[0]))
    for row in rows:
        writer.writerow(["; ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for v in row.values()])
    return stream.getvalue()


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table; '|' in a cell is escaped."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[cell(value).replace("|", "\\|").replace("\n", " ") for value in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def layout_text(layout: Mapping[str, Any]) -> str:
    """The fields of a layout that say something, in a line."""
    words = []
    for name, value in layout.items():
        quiet = value in (1, "none") and name not in ("tp", "pp", "dp")
        if value is None or quiet or name in ("order", "global_batch_sequences"):
            continue
        if isinstance(value, Mapping):
            value = " ".join(str(part) for part in _said(value))
            if not value:
                continue
        words.append(f"{name} {value}")
    return ", ".join(words) or "the spec's own layout"


def _said(section: Mapping[str, Any]) -> list[Any]:
    """What a section says beside its defaults."""
    found: list[Any] = []
    for name, value in section.items():
        if name == "fraction":
            found += [f"{value:.0%}"] if value != 1.0 else []
        elif isinstance(value, tuple | list):
            found += value
        elif value is True:
            found.append(name)
        elif value:
            found.append(value)
    return found


def wrap(text: str, indent: str = "", first: str | None = None) -> str:
    """A paragraph of at most 80 columns; the first line may begin otherwise."""
    begin = indent if first is None else first
    return textwrap.fill(text, WIDTH, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent, '-' where there is none."""
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"


def signed_percent(value: float | None) -> str:
    """A signed change as per cent."""
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:+.1f} %"


def bar(share: float) -> str:
    """A share between 0 and 1 as a bar of at most 18 characters."""
    return "#" * round(BAR * min(max(share, 0.0), 1.0))


# ---------------------------------------------------------------------------------------------------- plan


def plan_screen(
    plan: Plan, nearest: Sequence[Row], beyond: Sequence[str] = (), head: str = "", given: Plan | None = None,
    unsure: Sequence[str] | None = None,
) -> str:
    """Everything that `codesign plan` says, the verdict first. `nearest`: the measured runs most like this one.

    `beyond`: what does not hold of the run beyond the step; `unsure`: why the verdict may turn out otherwise, left out: as
    the memory interval of this plan says. Where the plan is that of one site of a run, `head` stands in
    the place of its verdict, and `given` is the plan of the spec as written, which has the notes on it and its hash.
    """
    unsure = view.unsure(plan) if unsure is None else unsure
    sections = [
        head or _verdict(plan, beyond, unsure), _step(plan), _time(plan), _memory(plan), _traffic(plan), _elasticities(plan),
        _footing(plan), _nearest(nearest), _notes(plan, given or plan),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def headline(plan: Plan) -> str:
    """The model, the cluster, the stack and the layout in one sentence."""
    spec = plan.problem.spec
    layout = spec.layout
    degrees = {"tp": layout.tp, "cp": layout.cp, "pp": layout.pp, "vpp": layout.vpp, "ep": layout.ep, "dp": layout.dp}
    cut = ", ".join(f"{name} {value}" for name, value in degrees.items() if value and value > 1) or "one rank"
    extra = [f"micro-batch {plan.value('micro_batch'):g}"]
    if (layout.pp or 1) > 1:
        extra.append(f"schedule {layout.schedule}")
    if layout.sharding:
        extra.append(f"sharding {layout.sharding}")
    name = spec.name or spec.model.name
    where = f"{spec.cluster.accelerators:,} {plan.problem.profile.name}, {plan.problem.stack.name}"
    return f"{name} on {where}: {cut}, {', '.join(extra)}"


def _verdict(plan: Plan, beyond: Sequence[str], unsure: Sequence[str]) -> str:
    found = "DOES NOT FIT" if not plan.feasible else "NOT FEASIBLE" if beyond else "FEASIBLE"
    lines = [wrap(found + view.but_open(unsure), "    ", "")]
    lines += [wrap(message, "    ", "  - ") for message in (*plan.violations, *beyond)]
    lines.append(wrap(headline(plan)))
    if plan.overrides:
        fixed = [f"{name} = {show_value(value, graph.REGISTRY[name].unit)}" for name, value in plan.overrides.items()]
        lines.append(wrap(f"counterfactual, set by hand: {', '.join(fixed)}"))
    return "\n".join(lines)


def _step(plan: Plan) -> str:
    tokens_per_s = plan.value("job_tokens_per_s")
    accelerators = plan.problem.spec.cluster.accelerators
    interval = plan.step_interval
    lines = [f"step time   {units.show(plan.step_s, 's')}"]
    if np.isfinite(interval.low):
        low, high = units.show(interval.low, "s"), units.show(interval.high, "s")
        lines[0] += f", 80 % interval {low} to {high}"
        lines.append(wrap(f"from the residuals of {interval.rows} measured rows, cell '{interval.cell}'", " " * 12))
        if interval.extrapolated:
            lines.append(wrap(f"EXTRAPOLATED: {interval.extrapolated}; expect more than the interval", " " * 12))
    else:
        lines[0] += ", no interval: no measured runs to take it from"
    per_one = units.show(tokens_per_s / accelerators, "tokens_per_s")
    lines.append(f"tokens      {units.show(tokens_per_s, 'tokens_per_s')}, {per_one} per accelerator")
    rate = units.show(plan.value("model_FLOPps"), "FLOPps")
    lines.append(f"MFU         {percent(plan.value('mfu'))} (HFU {percent(plan.value('hfu'))}), {rate} per accelerator")
    lines.append(" " * 12 + "causal model FLOPs over the dense peak of the matmul precision")
    return "\n".join(lines)


def _time(plan: Plan) -> str:
    total = plan.step_s
    unit, _ = view.time_unit(total)
    rows = [(name, value) for name, value in plan.parts.items() if value >= SMALLEST_SHARE * total]
    small = [value for value in plan.parts.values() if 0 < value < SMALLEST_SHARE * total]
    if small:
        rows.append((f"{len(small)} smaller part{'s' if len(small) > 1 else ''}", sum(small)))
    added = sum(plan.parts.values())
    shown, sum_shown = [view.time_text(value, total) for _, value in rows], view.time_text(added, total)
    lines = [f"{'where the time goes':28}{unit:>11}{'share':>9}"]
    for (name, value), number in zip(rows, shown, strict=True):
        lines.append(f"  {name:26}{number:>11}{percent(value / total):>9}  {bar(value / total)}".rstrip())
    last = "sum = step_s, each rounded" if view.is_rounded(shown, sum_shown) else "sum = step_s"
    lines.append(f"  {last:26}{sum_shown:>11}{percent(added / total):>9}")
    if abs(added - total) > 1e-9 * total:
        lines.append(wrap(f"step_s is {units.show(total, 's')}: an override stands in the place of the sum", "  "))
    return "\n".join(lines)


def _memory(plan: Plan) -> str:
    capacity_B, room = plan.value("memory_B"), plan.memory_interval
    title = f"memory: {units.show(plan.value('peak_B'), 'B')} of {units.show(capacity_B, 'B')} on the fullest rank"
    if np.isfinite(room.low):
        title += f", 80 % interval {units.show(room.low, 'B')} to {units.show(room.high, 'B')}"
    lines = [wrap(title, "  ", "")]
    lines.append(f"{'  ranks':10}{'in flight':>10}{'allocated':>12}{'reserved':>12}{'needed':>12}{'used':>9}")
    for first, last, stage in _stage_rows(plan):
        if stage is None:
            lines.append(f"  ... {last - first + 1} more ranks")
            continue
        ranks = f"{first}" if first == last else f"{first}-{last}"
        sizes = "".join(f"{units.show(stage[name], 'B'):>12}" for name in ("allocated_B", "reserved_B", "needed_B"))
        used = percent(stage["needed_B"] / capacity_B)
        lines.append(f"  {ranks:8}{stage['in_flight_micro_batches']:>10g}{sizes}{used:>9}")
    lines.append("  needed = allocated + communication + context; the allocator's reserve can go")
    fullest = fullest_stage(plan)
    lines.append(f"  terms of rank {fullest['rank']}, the fullest")
    for name, value in fullest["terms_B"].items():
        if value:
            share = value / capacity_B
            line = f"  {name:26}{units.show(value, 'B'):>11}{percent(share):>9}  {memory.TAGS[name]:10} {bar(share)}"
            lines.append(line.rstrip())
    return "\n".join(lines)


def fullest_stage(plan: Plan) -> dict[str, Any]:
    """The first rank that needs most memory."""
    return max(plan.stages, key=lambda stage: stage["needed_B"])


def _stage_rows(plan: Plan) -> list[tuple[int, int, dict[str, Any] | None]]:
    """(first rank, last rank, what they hold), equal neighbours together; long pipelines are cut, never the fullest."""
    groups = []
    for _, members in groupby(plan.stages, key=lambda stage: {k: v for k, v in stage.items() if k != "rank"}):
        stages = list(members)
        groups.append((stages[0]["rank"], stages[-1]["rank"], stages[0]))
    if len(groups) <= MOST_STAGE_ROWS:
        return list(groups)
    fullest = fullest_stage(plan)["rank"]
    kept = {*range(4), *range(len(groups) - 4, len(groups))}
    kept |= {at for at, (first, last, _) in enumerate(groups) if first <= fullest <= last}
    rows: list[tuple[int, int, dict[str, Any] | None]] = []
    for shown, run in groupby(enumerate(groups), key=lambda pair: pair[0] in kept):
        some = [group for _, group in run]
        rows += some if shown else [(some[0][0], some[-1][1], None)]
    return rows


def _traffic(plan: Plan) -> str:
    if not plan.traffic:
        return "traffic: none, one accelerator holds everything"
    ranks = plan.value("ranks_per_accelerator")
    rows = [
        {
            "traffic per accelerator": f"  {row['class']}", "level": row["level"].replace("_", " "),
            "sent": units.show(row["sent_B_per_rank"] * ranks, "B"),
            "mean rate": units.show(row["mean_Bps"] * ranks, "Bps"),
            "of link": percent(row["utilisation"]), "headroom": units.show(row["headroom_Bps"] * ranks, "Bps"),
        }
        for row in plan.traffic
    ]
    return table(rows, ("sent", "mean rate", "of link", "headroom"))


def _elasticities(plan: Plan) -> str:
    shown = {name: value for name, value in plan.elasticities.items() if abs(value) >= 5e-4}
    largest = sorted(shown.items(), key=lambda pair: -abs(pair[1]))[:5]
    lines = ["what one per cent more changes of the step"]
    lines += [f"  {name:26}{value:+11.3f} %" for name, value in largest]
    return "\n".join(lines)


def _footing(plan: Plan) -> str:
    weakest, counts = plan.footing
    held = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count and kind != "spec")
    inputs = f"inputs: {held}, {counts.get('spec', 0)} from the spec"
    return wrap(f"footing: the weakest number under the step is {weakest} ({inputs})")


def _nearest(nearest: Sequence[Row]) -> str:
    if not nearest:
        return ""
    lines = ["measured runs most like this one, and how wrong we are on them"]
    for row in nearest:
        what = f"{row['model']} on {row['accelerators']:,.0f} {row['accelerator']}, {row['stack']}"
        lines.append(wrap(what, "    ", "  - "))
        ours = units.show(row["predicted_step_s"], "s")
        text = f"measured {units.show(row['measured_step_s'], 's')}, ours {ours}: {signed_percent(row['error'])}"
        lines.append(wrap(f"{text} ({row['id']}; {row['source']})", "    "))
    return "\n".join(lines)


def _notes(plan: Plan, given: Plan) -> str:
    notes = [*given.read_as, *plan.problem.notes]
    lines = ["notes", *(wrap(note, "    ", "  - ") for note in notes)] if notes else []
    return "\n".join([*lines, f"spec {given.spec_hash[:12]}"])


# ---------------------------------------------------------------------------------------------------- explanation

_MARKS = {"part": "+", "worst_of": "^", "hidden": "~", "leaf": ".", "override": "!", "input": "-"}
_LEGEND = {
    "part": "adds up", "worst_of": "the largest counts", "hidden": "hidden, not added", "input": "input",
    "leaf": "given", "override": "set by hand",
}
SEEN = "see above"
Labels = Callable[[graph.Explanation], Sequence[str] | None]


def labels_in(plan: Plan) -> Labels:
    """Names of the values of an array: operators, network levels or pipeline ranks of this plan."""

    def labels(node: graph.Explanation) -> Sequence[str] | None:
        size = np.size(node.value)
        if size < 2:
            return None
        found: Sequence[str] = ()
        if node.name.startswith("gemm_") and node.member:
            found = model.gemm_labels(plan.values[f"kind_spec[{node.member}]"], plan.values["block"])
        elif node.name.startswith("elementwise_") and node.member:
            kind, block = plan.values[f"kind_spec[{node.member}]"], plan.values["block"]
            found = compute.elementwise_labels(kind, block, plan.values["software"])
        elif node.name.endswith(("_extent", "_sent_B")):
            found = communication.LEVELS
        elif size == (plan.problem.spec.layout.pp or 1):
            found = [f"rank {at}" for at in range(size)]
        return found if len(found) == size else None

    return labels


def show_value(value: Any, unit: str, names: Sequence[str] | None = None) -> str:
    """A value of a plan as text: a number with its unit, few numbers with their names, structure by its name."""
    if isinstance(value, list):
        value = np.array(value)
    if value is None:
        return "-"
    if not isinstance(value, (np.ndarray, float, int)) or isinstance(value, bool):
        return str(plain(value))
    flat = np.ravel(value)
    if flat.size == 1:
        return units.show(float(flat[0]), unit)
    low, high = float(np.min(flat)), float(np.max(flat))
    if low == high:
        return f"{flat.size} times {units.show(low, unit)}"
    if flat.size > MOST_LISTED:
        return f"{units.show(low, unit)} to {units.show(high, unit)} ({flat.size} values)"
    shown = [units.show(float(one), unit) for one in flat]
    return ", ".join(f"{name} {text}" for name, text in zip(names, shown, strict=True)) if names else ", ".join(shown)


def title(node: graph.Explanation) -> str:
    """Name and member: `layer_forward_s[moe]`."""
    return f"{node.name}[{node.member}]" if node.member else node.name


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line, without its full stop."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def walk(tree: graph.Explanation, depth: int = 0) -> Iterator[tuple[int, graph.Explanation]]:
    """Every node with its depth, from the top."""
    yield depth, tree
    for below in tree.inputs:
        yield from walk(below, depth + 1)


def once(tree: graph.Explanation) -> graph.Explanation:
    """The tree with the inputs of each quantity under its first appearance only: quantities share most of theirs."""
    seen: set[str] = set()

    def cut(node: graph.Explanation) -> graph.Explanation:
        if not node.inputs:
            return node
        if title(node) in seen:
            return replace(node, doc="", source=SEEN, inputs=())
        seen.add(title(node))
        return replace(node, inputs=tuple(cut(below) for below in node.inputs))

    return cut(tree)


def _about(node: graph.Explanation) -> str:
    """What a value is, and where it or its equation is from."""
    return ". ".join(text for text in (first_sentence(node.doc), node.source and f"[{node.source}]") if text)


def explanation_tree(tree: graph.Explanation, labels: Labels) -> str:
    """The tree under a number: name = value, what it is, where its equation or its value is from."""
    lines, roles = [], []
    for depth, node in walk(tree):
        indent = "  " * depth
        mark = f"{_MARKS[node.role]} " if node.role in _MARKS and depth else ""
        begin = f"{indent}{mark}{title(node)} = "
        lines.append(wrap(show_value(node.value, node.unit, labels(node)), f"{indent}      ", begin))
        about = _about(node)
        if about:
            lines.append(wrap(about, f"{indent}    "))
        if depth and node.role in _MARKS and node.role not in roles:
            roles.append(node.role)
    if roles:
        legend = ", ".join(f"{_MARKS[role]} {_LEGEND[role]}" for role in _LEGEND if role in roles)
        lines += ["", legend]
    return "\n".join(lines) + "\n"


def explanation_rows(tree: graph.Explanation) -> list[dict[str, Any]]:
    """The tree as flat rows, top first."""
    return [
        {
            "depth": depth, "name": title(node), "value": plain(node.value), "unit": node.unit, "role": node.role,
            "what": first_sentence(node.doc), "source": node.source,
        }
        for depth, node in walk(tree)
    ]


def explanation_dict(tree: graph.Explanation, labels: Labels) -> dict[str, Any]:
    """The tree as nested plain data; values in base units."""
    names = labels(tree)
    return {
        "name": tree.name, "member": tree.member, "value": plain(tree.value), "unit": tree.unit, "role": tree.role,
        "doc": " ".join(tree.doc.split()), "source": tree.source, **({"labels": list(names)} if names else {}),
        "inputs": [explanation_dict(below, labels) for below in tree.inputs],
    }


def explanation_markdown(tree: graph.Explanation, labels: Labels) -> str:
    """The tree as a nested Markdown list."""
    lines = []
    for depth, node in walk(tree):
        about = _about(node)
        value = show_value(node.value, node.unit, labels(node))
        lines.append(f"{'  ' * depth}- `{title(node)}` = {value}{': ' if about else ''}{about}")
    return "\n".join(lines) + "\n"


def references(trees: Iterable[graph.Explanation]) -> list[Reference]:
    """What the source keys shown in the trees stand for, by key."""
    shown = " ; ".join(_about(node) for tree in trees for _, node in walk(tree))
    return sorted(entries.lookup(shown), key=lambda reference: list(entries.load()).index(reference.key))


def references_block(found: Sequence[Reference]) -> str:
    """Key, formula and origin of each, and the letters of the formulas; nothing where there is none."""
    if not found:
        return ""
    lines = ["references"]
    for reference in found:
        lines.append(wrap(f"{reference.title} ({reference.status})", "    ", f"  {reference.key}: "))
        lines += [wrap(line, "        ", "      ") for line in reference.formula.splitlines()]
        lines.append(wrap(f"[{reference.source}]", "    "))
    if letters := entries.symbols_in(found):
        lines.append(wrap(", ".join(f"{symbol} {meaning}" for symbol, meaning in letters.items()), "    ", "  "))
    return "\n".join(lines) + "\n"


def references_markdown(found: Sequence[Reference]) -> str:
    """The same as a Markdown list."""
    if not found:
        return ""
    lines = [f"- {one.key}: `{'; '.join(one.formula.splitlines())}` ({one.source}; {one.status})" for one in found]
    letters = ", ".join(f"{symbol} {meaning}" for symbol, meaning in entries.symbols_in(found).items())
    return "\n".join(["References:", "", *lines, *(["", letters] if letters else [])]) + "\n"


def references_dict(found: Sequence[Reference]) -> list[dict[str, str]]:
    """The same as plain data."""
    names = ("key", "title", "formula", "source", "status")
    return [{name: getattr(one, name) for name in names} for one in found]


def change(name: str, before: Any, after: Any, unit: str) -> str:
    """`step_s 5.23 s -> 4.9 s (-6.3 %)`; the per cent only where both are one number."""
    text = f"{name} {show_value(before, unit)} -> {show_value(after, unit)}"
    if np.size(before) == np.size(after) == 1 and isinstance(plain(before), float) and plain(before):
        text += f" ({100 * (plain(after) / plain(before) - 1):+.2f} %)"
    return text


# ---------------------------------------------------------------------------------------------------- validation

ERRORS_COUNTED = (
    "error = predicted / measured - 1, in per cent; median and 90th percentile weight each row by 1 / rows of its "
    "group, mean and bias average the groups' means; ranking is the share of pairs of layouts put in the right order. "
    "Only complete, trusted, whole-step rows count."
)
# column of the summary -> its heading where there is little room
_SHARES = {"median": "median", "p90": "p90", "mean": "mean", "bias": "bias", "ranking": "rank"}
_COUNTS = {"n": "n", "refused": "ref"}


def validation_screen(summary: Sequence[Row], refused: Mapping[str, int], constants: Sequence[Row]) -> str:
    """The errors by cell, why rows were refused, the fitted constants."""
    rows = [
        {
            "errors by cell, %": row["cell"], **{head: row[name] for name, head in _COUNTS.items()},
            **{head: _per_cent(row.get(name), name) for name, head in _SHARES.items()},
        }
        for row in summary
    ]
    heads = (*_COUNTS.values(), *_SHARES.values())
    sections = [table(rows, heads) if rows else "no measured run to compare with"]
    sections.append(wrap(f"n rows, ref refused. {ERRORS_COUNTED}"))
    if refused:
        sections.append("\n".join(["refused", *(wrap(reason, " " * 8, f"  {n:4}  ") for reason, n in refused.items())]))
    sections.append(f"{len(constants)} fitted constants")
    lines = [wrap(row["meaning"], " " * 41, f"  {row['name']:28}{row['value']:>9.4g}  ") for row in constants]
    return "\n\n".join(sections) + "\n" + "".join(f"{line}\n" for line in lines)


def validation_markdown(summary: Sequence[Row], refused: Mapping[str, int], constants: Sequence[Row]) -> str:
    """The errors by cell, why rows were refused, the fitted constants, as Markdown."""
    rows = [
        {
            "cell": row["cell"], **{name: row[name] for name in _COUNTS},
            **{f"{name}, %": _per_cent(row.get(name), name) for name in _SHARES},
        }
        for row in summary
    ]
    sections = [markdown_table(rows), f"{ERRORS_COUNTED}\n"]
    if refused:
        sections.append(f"## Refused\n\n{markdown_table([{'reason': why, 'rows': n} for why, n in refused.items()])}")
    sections.append(f"## {len(constants)} fitted constants\n\n{markdown_table(constants)}")
    return "\n".join(sections)


def _per_cent(value: float | None, name: str) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{100 * value:+.1f}" if name == "bias" else f"{100 * value:.1f}"
