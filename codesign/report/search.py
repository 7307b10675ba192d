"""The answer of a search as text: the best, what is near it, the front, why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign import units
from codesign.report import text
from codesign.search.result import MEANING, Candidate, Result
from codesign.search.whynot import Refusal

MOST_FRONT = 12
MOST_REASONS = 8


def screen(result: Result) -> str:
    """The whole answer, 80 columns."""
    parts = [_head(result)]
    if result.best:
        parts += [_table("best", result.best, result), _spread(result)]
        if len(result.alternatives) > 1:
            share = f"{result.space.open.search.within:.3g}"
            parts.append(
                _table(
                    f"the best of every other kind within {float(share):.1%} of the best",
                    result.alternatives[1:11],
                    result,
                )
            )
        if len(result.front) > 1:
            names = " x ".join(result.space.open.search.objectives)
            sample, every = _sampled(result.front), len(result.front)
            shown = f"{every} layouts" if len(sample) == every else f"{len(sample)} of {every} layouts shown"
            parts.append(_table(f"Pareto front, {names}: {shown}", sample, result))
        parts.append(_meanings(result.space.open.search.objectives))
        parts.append(_adopt(result.best[0]))
    elif result.complete:
        parts.append(_nothing(result))
    parts += [_tally(result), _tried(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(result: Result) -> str:
    spec = result.space.open.spec
    name = spec.name or spec.model.name
    counted = result.tally
    what = f"{name} on {spec.cluster.accelerators:,} {spec.cluster.profile}, {spec.software.stack}"
    state = "" if result.complete else f"NOT COMPLETE: {counted['candidates']:,} of {result.space.size:,} candidates\n"
    line = f"{counted['candidates']:,} candidates, {counted['feasible']:,} feasible"
    return f"{what}\n{state}{line}"


DEGREES = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp")


def short(candidate: Candidate) -> dict[str, Any]:
    """What a layout is and what comes of it, in few words."""
    row = candidate.row()
    recompute = row["recompute"]
    if recompute == "full":
        recompute = f"full {row['recompute_fraction']:.0%}"
    extra = [row["schedule"] if row["schedule"] not in ("none", "interleaved") else "", row["sharding"]]
    if row["sharding_group"]:
        extra.append(f"in {row['sharding_group']}")
    if row["reshard_after_forward"] is False:
        extra.append("no-reshard")
    if row["tp"] > 1 and not row["sequence_parallel"]:
        extra.append("no-sp")
    if row["cp_style"] and len(candidate.space.searched["cp_style"]) > 1:
        extra.append(f"cp {row['cp_style']}")
    extra += ["balanced"] * bool(row["stages"]) + ["offload"] * row["offload_optimizer"]
    return {
        "step": units.show(row["step_s"], "s"),
        "MFU": f"{row['mfu']:.1%}",
        "memory": units.show(row["peak_B"], "B"),
        **{name: row[name] or 1 for name in DEGREES},
        "mb": f"{row['micro_batch']:g}",
        "recompute": recompute.removeprefix("selective "),
        "besides": " ".join(part for part in extra if part),
    }


def words(candidate: Candidate) -> str:
    """One layout in a line."""
    row = short(candidate)
    degrees = " ".join(f"{name} {row[name]}" for name in DEGREES if row[name] > 1 or name in ("tp", "pp", "dp"))
    return f"{row['step']}, {degrees}, micro-batch {row['mb']}, recompute {row['recompute']}, {row['besides']}"


def _table(title: str, members: Sequence[Candidate], result: Result) -> str:
    rows = [short(candidate) for candidate in members]
    for row, candidate in zip(rows, members, strict=True):
        if len(result.space.searched["global_batch"]) > 1:
            row["batch"] = f"{candidate.fields['training.global_batch_sequences']}"
        if len({size for size, _ in result.space.sizes}) > 1:
            row["used"] = f"{candidate.fields['cluster.accelerators']:,}"
    for name in ("vpp", "cp", "ep", "etp"):
        if all(row[name] == 1 for row in rows):
            rows = [{key: value for key, value in row.items() if key != name} for row in rows]
    return f"{title}\n{text.table(rows, ('step', 'MFU', 'memory', 'mb', 'batch', 'used', *DEGREES))}"


def _meanings(objectives: Sequence[str]) -> str:
    """What objectives minimise whose names do not say it."""
    return "\n".join(text.wrap(f"{name}: {MEANING[name][1]}") for name in objectives if name not in ("step_s", "memory"))


def _sampled(front: Sequence[Candidate]) -> list[Candidate]:
    """At most a dozen of a front, both ends among them."""
    if len(front) <= MOST_FRONT:
        return list(front)
    step = (len(front) - 1) / (MOST_FRONT - 1)
    return [front[round(at * step)] for at in range(MOST_FRONT)]


def _spread(result: Result) -> str:
    best = result.best[0].plan
    interval, memory = best.step_interval, best.memory_interval
    words = f"80 % interval of the best: {units.show(interval.low, 's')} to {units.show(interval.high, 's')} ({interval.cell})"
    capacity = units.show(best.value("memory_B"), "B")
    words += f"; its memory {units.show(memory.low, 'B')} to {units.show(memory.high, 'B')} of {capacity}. "
    words += "Layouts nearer to each other than the model's error are not told apart: see the alternatives."
    return text.wrap(words)


def _adopt(best: Candidate) -> str:
    sets = " ".join(f"--set '{one}'" for one in best.sets)
    return text.wrap(f"plan it: codesign plan SPEC {sets}", "  ", "")


def _nothing(result: Result) -> str:
    lines = ["NO FEASIBLE LAYOUT. The nearest misses, and what would lift each:"]
    if not result.space.size:
        lines = [text.wrap("NO LAYOUT EXISTS: nothing divides; see the reasons below. One that was asked for, and what would "
                           "lift it:")]  # fmt: skip
    for miss in result.misses:
        lines.append(refusal(miss))
    return "\n".join(lines)


def refusal(miss: Refusal) -> str:
    """One layout that cannot run."""
    layout = miss.layout
    degrees = " ".join(
        f"{name} {layout[name]}" for name in ("tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch") if layout.get(name)
    )
    lines = [
        text.wrap(
            f"- {degrees}, recompute {_recompute(layout)}, {layout.get('sharding', 'the default sharding')}", "  ", ""
        )
    ]
    lines += [text.wrap(f"breaks {one.message}", "    ", "  ") for one in miss.broken]
    if miss.lifts:
        lines.append("  the cheapest single changes that lift it:")
        lines += [text.wrap(f"{lift.change}: then a step takes {units.show(lift.step_s, 's')}  ({' '.join(lift.sets)})",
                            "      ", "    ") for lift in miss.lifts]  # fmt: skip
    else:
        lines.append("  no single change of the layout lifts it")
    return "\n".join(lines)


def _recompute(layout: Mapping[str, Any]) -> str:
    recompute = layout.get("recompute", "none")
    if isinstance(recompute, str):
        return recompute
    if recompute["granularity"] == "full":
        return f"full {recompute['fraction']:.0%}"
    return " ".join([recompute["granularity"], *recompute.get("modules", ())])


def _tally(result: Result) -> str:
    tally = result.tally
    lines = ["why not the others"]
    rejected = list(tally["rejected"].items())
    for reason, count in rejected[:MOST_REASONS]:
        lines.append(f"  {count:>15,}  rejected: {reason}")
    lines.append(f"  {tally['feasible']:>15,}  feasible")
    lines.append(f"  {tally['candidates']:>15,}  candidates")
    for reason, count in list(tally["not_whole"].items())[:MOST_REASONS]:
        lines.append(f"  {count:>15,}  combinations left out: not whole in {reason}")
    return "\n".join(lines)


def _tried(result: Result) -> str:
    """What was searched, field by field, and how wide."""
    parts = []
    written = {**result.space.open.domains}
    tried = result.space.searched
    counts = {
        "reshard_after_forward": bool({"zero3", "hsdp"} & set(tried["sharding"])),
        "cp_style": set(tried["cp"]) != {1},
        "sequence_parallel": set(tried["tp"]) != {1},
    }
    for name, values in tried.items():
        if len(values) > 1 and counts.get(name, True):
            origin = "" if name in written else "*"
            shown = ", ".join(_value(v) for v in values[:6]) + (f", ... ({len(values)})" if len(values) > 6 else "")
            parts.append(f"{name}{origin}: {shown}")
    if not parts:
        return "one value for every field: nothing to search; leave fields of layout out, list them, or use --free"
    note = f"* left out of the spec, tried as {result.space.stack.name} and the model allow"
    return "searched\n" + "\n".join(text.wrap(part, "    ", "  ") for part in [*parts, note])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return (
            " ".join(_value(v) for v in value)
            if value and isinstance(value[0], str)
            else f"{value[0].granularity} 1..n layers"
        )
    if hasattr(value, "granularity"):
        return " ".join([value.granularity, *value.modules]) if value.modules else value.granularity
    if hasattr(value, "optimizer"):
        return "optimizer" if value.optimizer else "none"
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value)
