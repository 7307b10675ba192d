"""What a plan looks like: pure functions from plans to rows and texts, shared by the Markdown report and the app.

Nothing is computed here that a plan does not hold: values are rounded, put beside a baseline, and put into words.
Tables are lists of {heading: text}; charts get numbers in the unit that the axis names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import yaml

from codesign import graph, units
from codesign.planner import Interval, Plan
from codesign.quantities.memory import TAGS
from codesign.search import attribution
from codesign.spec import load, resolve

SMALL_SHARE = 5e-4  # parts of the step below this share are one row
_MOST_RANKS = 16  # rows of the memory table
_MOST_ELASTICITIES = 5
GiB = 2.0**30

Row = dict[str, str]

_ROLES = {"part": "part: ", "worst_of": "the worst counts: ", "hidden": "hidden: ", "override": "set by hand: "}

# Words for the parts of a quantity's name; what is not here stays as it is.
_WORDS = {
    "tp": "tensor-parallel", "cp": "context-parallel", "ep": "expert-parallel", "dp": "data-parallel", "pp": "pipeline",
    "gemm": "matrix multiplication", "ends": "embedding, head and loss", "amax": "scale", "moe": "expert", "total": "",
    "time": "", "memory": "",
}


# ---------------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True)
class Metric:
    """A number of the plan as text, its change against the baseline, and which direction is better."""

    label: str
    value: str
    delta: str | None
    better: str  # more | less | same


def label(name: str) -> str:
    """A quantity's name in words, without its unit: 'pp_bubble_s' -> 'pipeline bubble'."""
    bare, unit = name.partition("[")[0], units.suffix(name.partition("[")[0])
    words = bare.removesuffix(f"_{unit}").split("_")
    return " ".join(filter(None, (_WORDS.get(word, word) for word in words)))


_JOINER = "\u2060"  # of no width: it reads the same
# Escaping keeps none of these from becoming a link, a ping or a reference: they are looked for in the text that is shown.
_LIVE = re.compile(
    r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\W@)(?=\w)|(?<=^@)(?=\w)|(?<=@)(?=[\w-]+\.\w)|(?<=#)(?=\d)|(?<=\bGH)(?=-\d)",
    re.IGNORECASE,
)


def plain(text: object) -> str:
    """Text that Markdown shows as it is, on one line, no address or name in it live; control characters are gone."""
    line = "".join(c for c in " ".join(str(text).split()) if c.isprintable())
    return re.sub(r"([\\`*_{}\[\]<>|~$#!&])", r"\\\1", _LIVE.sub(_JOINER, line))


def percent(ratio: float, digits: int = 1) -> str:
    return f"{100.0 * ratio:.{digits}f} %"


def signed_percent(ratio: float) -> str:
    return f"{100.0 * ratio:+.1f} %"


def interval(found: Interval, unit: str) -> str:
    """'4.4 s to 6.3 s', and the cell of measured runs that it is from."""
    if not np.isfinite(found.low):
        return "no 80 % interval: no measured runs to take one from"
    low, high = units.show(found.low, unit), units.show(found.high, unit)
    return f"80 % interval {low} to {high}, from the residuals of {found.rows} rows of the cell '{found.cell}'"


def title(plan: Plan) -> str:
    return plan.problem.spec.name or plan.problem.spec.model.name


def question(plan: Plan) -> str:
    """What is asked: one sentence."""
    spec = plan.problem.spec
    return (
        f"How long does one training step of {spec.model.name} take on {spec.cluster.accelerators:,} accelerators "
        f"({plan.problem.profile.name}) with {plan.problem.stack.name}, "
        f"{spec.training.global_batch_sequences:,} sequences of {spec.training.sequence_length:,} tokens a step, "
        "and does it fit?"
    )


def verdict(broken: Sequence[str], unsure: Sequence[str] = ()) -> str:
    """The verdict in a line: `broken` are the violations of a plan and of its run, `unsure` why it may turn out otherwise."""
    found = f"Not feasible: {len(broken)} constraint{'s' if len(broken) > 1 else ''} broken" if broken else "Feasible"
    return f"{found}{but_open(unsure)}."


def unsure(plan: Plan) -> tuple[str, ...]:
    """Why the verdict on a step alone may turn out otherwise."""
    return (plan.memory_open,) if plan.memory_open else ()


def but_open(unsure: Sequence[str]) -> str:
    """What follows a verdict that may turn out the other way; nothing where it is settled."""
    return f", but open: {'; '.join(unsure)}" if unsure else ""


def footing(plan: Plan) -> str:
    """The weakest kind of number under the step time, and how many leaves of each kind it rests on."""
    weakest, counts = plan.footing
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{weakest} is the weakest kind of number that the step time rests on ({listed})"


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list of texts that are shown as they are."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def small_print(plan: Plan) -> list[str]:
    """What belongs beside the answer: interval, footing, notes and the hash of the spec."""
    return [f"Step time: {interval(plan.step_interval, 's')}.", f"Footing: {footing(plan)}.", *notes(plan),
            f"Spec hash {plan.spec_hash[:12]}."]


# ---------------------------------------------------------------------------------------------------- metrics


def metrics(plan: Plan, baseline: Plan | None = None) -> list[Metric]:
    """The figures that come first, each with its change against `baseline`."""

    def one(
        name: str, better: str, value: Callable[[Plan], float], text: Callable[[float], str],
        difference: Callable[[float], str] | None = None,
    ) -> Metric:
        now = value(plan)
        if baseline is None:
            return Metric(name, text(now), None, "same")
        before = value(baseline)
        if now == before:
            return Metric(name, text(now), "no change", "same")
        return Metric(name, text(now), change(now, before, difference or text), better)

    return [
        one("Step time", "less", lambda p: p.step_s, lambda v: units.show(v, "s")),
        one("Throughput", "more", lambda p: p.value("job_tokens_per_s"), lambda v: units.show(v, "tokens_per_s")),
        one("MFU", "more", lambda p: p.value("mfu"), percent, lambda v: f"{100.0 * v:.1f} points"),
        one("Fullest rank", "less", lambda p: p.value("peak_B"), lambda v: units.show(v, "B")),
    ]


def change(now: float, before: float, text: Callable[[float], str]) -> str:
    """'-0.42 s (-8.1 %)': the difference and its share of `before`; the sign is the first character."""
    sign = "-" if now < before else "+"
    share = f" ({signed_percent(now / before - 1.0)})" if before else ""
    return f"{sign}{text(abs(now - before))}{share}"


def changes(plan: Plan, baseline: Plan) -> list[Row]:
    """Fields of the resolved spec that differ: before and now."""
    return [
        {"field": one.field, "baseline": _or_dash(one.a), "this plan": _or_dash(one.b)}
        for one in attribution.changes(baseline, plan)
    ]


def _or_dash(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------------- time


def adding_up(values: Sequence[float], quantum: float) -> list[float]:
    """`values` as multiples of `quantum`, each off by less than one, so that they add up to their rounded sum."""
    rounded, total, shown = [], 0.0, 0.0
    for value in values:
        total += value
        upto = round(total / quantum) * quantum
        rounded.append(upto - shown)
        shown = upto
    return rounded


DIGITS = 4  # after the point, of the parts of a step


def time_unit(step_s: float) -> tuple[str, float]:
    """Unit of the parts of a step of this length, and how many of it a second has."""
    return ("s", 1.0) if step_s >= 1.0 else ("ms", 1e3)


def time_text(value_s: float, step_s: float) -> str:
    """A part of a step as every table and chart shows it, without its unit: its own rounding, whatever stands beside it."""
    return f"{value_s * time_unit(step_s)[1]:.{DIGITS}f}"


def time_shown(value_s: float, step_s: float) -> str:
    """The same with its unit, beside a table of parts."""
    return f"{time_text(value_s, step_s)} {time_unit(step_s)[0]}"


def is_rounded(parts: Iterable[str], total: str) -> bool:
    """Whether numbers as shown miss their sum as shown: each is its own rounding, and the reader is told."""
    return sum(map(Decimal, parts)) != Decimal(total)


def time_rows(plan: Plan) -> list[dict[str, Any]]:
    """Parts of the step that are worth a row, in order, then the sum of the small ones; the seconds add up to the step."""
    least = SMALL_SHARE * plan.step_s
    rows = [
        {"part": name, "label": label(name), "s": value, "share": value / plan.step_s, "what": _sentence(name)}
        for name, value in plan.parts.items() if abs(value) >= least
    ]
    small = {name: value for name, value in plan.parts.items() if 0.0 < abs(value) < least}
    if small:
        total = sum(small.values())
        rows.append({"part": "", "label": "smaller parts", "s": total, "share": total / plan.step_s,
                     "what": ", ".join(map(label, small))})
    return rows


def time_table(plan: Plan, baseline: Plan | None = None) -> list[Row]:
    """Where the time goes. Each number is its own rounding; where they miss the step by a last digit, its row says so."""
    unit, rows = time_unit(plan.step_s)[0], time_rows(plan)
    table = []
    for row in rows:
        seconds = {unit: time_text(row["s"], plan.step_s)}
        table.append({"part": row["label"], **seconds, "share": percent(row["share"]), "what": row["what"]})
        if baseline is not None and row["part"]:
            table[-1]["change"] = _difference(row["s"], baseline.parts.get(row["part"], 0.0))
    total, parts_s = time_text(plan.step_s, plan.step_s), sum(row["s"] for row in rows)
    what = "not the sum of its parts: a quantity is set by hand"
    if np.isclose(parts_s, plan.step_s, rtol=1e-9):
        what = "the sum of its parts" + (", each rounded" if is_rounded((row[unit] for row in table), total) else "")
    last = {"part": "step", unit: total, "share": percent(1.0), "what": what}
    if baseline is not None:
        last["change"] = _difference(plan.step_s, baseline.step_s)
        for row in table:
            row.setdefault("change", "")
    return [*table, last]


def _difference(now: float, before: float) -> str:
    return "no change" if now == before else f"{'-' if now < before else '+'}{units.show(abs(now - before), 's')}"


def idle_parts(plan: Plan) -> list[str]:
    """Parts on which this step spends nothing."""
    return [label(name) for name, value in plan.parts.items() if value == 0.0]


def _sentence(name: str) -> str:
    return " ".join(graph.REGISTRY[name].doc.split()).partition(". ")[0].rstrip(".")


# ---------------------------------------------------------------------------------------------------- memory


def memory_terms(plan: Plan) -> dict[str, str]:
    """Terms that any rank has bytes in -> how each is known (measured, estimated, assumed)."""
    return {name: TAGS[name] for name in plan.stages[0]["terms_B"] if any(s["terms_B"][name] for s in plan.stages)}


def memory_rows(plan: Plan) -> list[dict[str, Any]]:
    """One row a pipeline rank and term, in GiB, for a stacked chart."""
    terms = memory_terms(plan)
    return [
        {"rank": stage["rank"], "term": label(name), "how known": tag, "GiB": stage["terms_B"][name] / GiB}
        for stage in plan.stages for name, tag in terms.items()
    ]


def memory_table(plan: Plan, most: int = _MOST_RANKS) -> list[Row]:
    """Memory of each pipeline rank in GiB; neighbours that are alike share a row; the last row: how a term is known.

    The terms as shown add up to the total as shown. Of more than `most` different ranks only the fullest are kept.
    """
    groups = _rank_groups(plan)
    kept = sorted(groups, key=lambda group: (-group.needed_B, group.ranks))[:most]
    rows = [{"rank": _ranks(group.ranks), **group.cells} for group in groups if group in kept]
    tags = {label(name): tag for name, tag in memory_terms(plan).items()}
    return [*rows, {"rank": "how known", **tags, "total": "", "room": "", "micro-batches": ""}]


def ranks_left_out(plan: Plan, most: int = _MOST_RANKS) -> bool:
    """Whether the memory table shows only the fullest ranks."""
    return len(_rank_groups(plan)) > most


@dataclass(frozen=True)
class _RankGroup:
    """Neighbouring pipeline ranks whose memory is the same as shown."""

    ranks: tuple[int, ...]
    needed_B: float
    cells: Row


def _rank_groups(plan: Plan) -> list[_RankGroup]:
    capacity_B, terms = plan.value("memory_B"), memory_terms(plan)
    groups: list[_RankGroup] = []
    for stage in plan.stages:
        shown = adding_up([stage["terms_B"][name] / GiB for name in terms], 0.01)
        cells = {label(name): f"{value:.2f}" for name, value in zip(terms, shown, strict=True)}
        cells |= {"total": f"{sum(shown):.2f}", "room": f"{(capacity_B - stage['needed_B']) / GiB:.2f}",
                  "micro-batches": f"{stage['in_flight_micro_batches']:g}"}
        alike = groups and groups[-1].cells == cells
        before = groups.pop().ranks if alike else ()
        groups.append(_RankGroup((*before, stage["rank"]), stage["needed_B"], cells))
    return groups


def _ranks(ranks: tuple[int, ...]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def memory_line(plan: Plan) -> str:
    """The fullest rank against the capacity, in words."""
    peak_B, capacity_B = plan.value("peak_B"), plan.value("memory_B")
    return (
        f"The fullest rank needs {units.show(peak_B, 'B')} of {units.show(capacity_B, 'B')} "
        f"({percent(peak_B / capacity_B)}); {interval(plan.memory_interval, 'B')}. "
        f"Allocated {units.show(plan.value('allocated_B'), 'B')}, "
        f"reserved {units.show(plan.value('reserved_B'), 'B')}."
    )


def capacity_GiB(plan: Plan) -> float:
    """What one accelerator holds, in the unit of the memory chart."""
    return plan.value("memory_B") / GiB


# ---------------------------------------------------------------------------------------------------- traffic, limits


def traffic_table(plan: Plan) -> list[Row]:
    """Bytes by traffic class and network level, with link time, utilisation and headroom."""
    return [
        {
            "class": row["class"], "level": row["level"].replace("_", "-"),
            "sent a rank": units.show(row["sent_B_per_rank"], "B"), "whole job": units.show(row["total_B"], "B"),
            "link time": units.show(row["link_s"], "s"), "mean rate": units.show(row["mean_Bps"], "Bps"),
            "utilisation": percent(row["utilisation"]), "headroom": units.show(row["headroom_Bps"], "Bps"),
        }
        for row in plan.traffic
    ]


def traffic_rows(plan: Plan) -> list[dict[str, Any]]:
    """Use of each link by traffic class, for a chart: a share, the mean over the step."""
    return [
        {"class": row["class"], "level": row["level"].replace("_", "-"), "utilisation": row["utilisation"]}
        for row in plan.traffic
    ]


def elasticity_rows(plan: Plan, most: int = _MOST_ELASTICITIES) -> list[dict[str, Any]]:
    """The inputs that move the step most, largest first; inputs that do not move it are left out."""
    ordered = sorted(plan.elasticities.items(), key=lambda item: (-abs(item[1]), item[0]))
    return [{"input": name, "elasticity": value} for name, value in ordered[:most] if value]


def elasticity_table(plan: Plan, most: int = _MOST_ELASTICITIES) -> list[Row]:
    """The same in words: what one per cent more of an input does to the step time."""
    return [
        {"input": row["input"], "elasticity": f"{row['elasticity']:+.4f}",
         "1 % more": f"step time {row['elasticity']:+.3f} %"}
        for row in elasticity_rows(plan, most)
    ]


def nearest_table(nearest: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The measured runs most like this one, with our error on each: predicted over measured, less one."""
    return [
        {
            "run": str(row["id"]), "model": str(row["model"]),
            "accelerators": f"{row['accelerators']:,} {row['accelerator']}", "stack": str(row["stack"]),
            "measured": units.show(row["measured_step_s"], "s"), "predicted": units.show(row["predicted_step_s"], "s"),
            "error": signed_percent(row["error"]), "source": str(row["source"]),
        }
        for row in nearest
    ]


# ---------------------------------------------------------------------------------------------------- assumptions


def used_leaves(plan: Plan) -> dict[str, resolve.Leaf]:
    """Leaves that some number of the plan rests on."""
    return {name: leaf for name, leaf in plan.problem.leaves.items() if name in plan.program.leaves}


def kind_table(plan: Plan) -> list[Row]:
    """How many leaves of each kind there are, under the step time and under the whole plan; weakest first."""
    under_step, leaves = plan.footing[1], used_leaves(plan).values()
    return [
        {"kind": kind, "under the step time": str(under_step[kind]),
         "under the whole plan": str(sum(leaf.kind == kind for leaf in leaves))}
        for kind in resolve.KINDS
    ]


def assumption_table(plan: Plan) -> list[Row]:
    """Every leaf of kind assumed, with its value and its source; leaves of one source are neighbours."""
    assumed = [(name, leaf) for name, leaf in used_leaves(plan).items() if leaf.kind == "assumed"]
    return [
        {"input": name, "value": units.show(leaf.value, units.suffix(name.partition("[")[0])), "source": leaf.source}
        for name, leaf in sorted(assumed, key=lambda item: (item[1].source, item[0]))
    ]


def citations(plan: Plan) -> dict[str, str]:
    """Full citation of each source that an assumption names by its key in the hardware profile."""
    named = " ".join(row["source"] for row in assumption_table(plan))
    return {key: text for key, text in sorted(plan.problem.profile.sources.items())
            if re.search(rf"(?<![\w.-]){re.escape(key)}(?![\w-])", named)}


# ---------------------------------------------------------------------------------------------------- explanation


def quantity_names(plan: Plan) -> list[str]:
    """Quantities that can be explained: the step first, then by name; `name[member]` where there is one a member."""
    keys = [step.key for step in plan.program.steps if isinstance(plan.values[step.key], np.ndarray)]
    names = sorted(name if member is None else f"{name}[{member}]" for name, member in keys)
    return ["step_s", *(name for name in names if name != "step_s")]


def explanation(plan: Plan, name: str, depth: int = 2) -> str:
    """The tree under a number as a nested Markdown list: value, what it is, source."""
    return explained(plan.explain(name, depth))


def explained(tree: graph.Explanation) -> str:
    """The same of a tree that is there already, of a plan or of a run."""
    return "\n".join(_branches(tree, 0))


def _branches(node: graph.Explanation, level: int) -> Iterable[str]:
    name = node.name if node.member is None else f"{node.name}[{node.member}]"
    role = _ROLES.get(node.role, "")
    what = f"; {plain(_first(node.doc))}" if node.doc else ""
    source = f" ({plain(node.source)})" if node.source else ""
    value = plain(value_text(node.value, node.unit))
    yield f"{'    ' * level}- {role}`{name}` = **{value}**{what}{source}"
    for child in node.inputs:
        yield from _branches(child, level + 1)


def _first(doc: str) -> str:
    return " ".join(doc.split()).partition(". ")[0].rstrip(".")


def value_text(value: object, unit: str) -> str:
    """A value as people read it: a range where there is one a rank or a level, words where it is structure."""
    if not isinstance(value, np.ndarray):
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    low, high = float(np.min(value)), float(np.max(value))
    if low == high or value.size == 1:
        return units.show(low, unit)
    return f"{units.show(low, unit)} to {units.show(high, unit)} ({value.size} values)"


# ---------------------------------------------------------------------------------------------------- the spec


class _Dumper(yaml.SafeDumper):
    """Text that our loader would read as a number or a word of YAML is quoted; nothing is written as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: _Dumper, text: str) -> yaml.Node:
    try:
        bare = isinstance(load.scalar(text), str)
    except ValueError:
        bare = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if bare else "'")


_Dumper.add_representer(str, _text_node)


def spec_yaml(data: Mapping[str, Any]) -> str:
    """Plain data of a spec as YAML text that our loader reads back to the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)


def resolved_yaml(plan: Plan) -> str:
    """The spec with derived fields filled in, as YAML text."""
    return spec_yaml(plan.resolved())


def layout_line(plan: Plan) -> str:
    """The layout on one line: 'tp 8 · pp 16 · ...'."""
    layout = plan.resolved()["layout"]
    layout["recompute"] = layout["recompute"]["granularity"]
    layout["order"] = " < ".join(layout["order"])
    fields = [(name, value) for name, value in attribution.flat(layout) if value != 0.0]
    return " · ".join(f"{name} {field_text(value)}" for name, value in fields)


def field_text(value: object) -> str:
    """A value of a field of the spec, in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else _or_dash(value)


def notes(plan: Plan) -> list[str]:
    """How values were read, what was inferred or derived, and which quantities were set by hand."""
    fixed = [f"{name} set to {value_text(value, units.suffix(name))}" for name, value in sorted(plan.overrides.items())]
    return [*plan.read_as, *plan.problem.notes, *fixed]
