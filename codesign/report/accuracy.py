"""How wrong the tool is, in Markdown: the page docs/how-wrong.md, and the short tables of the README.

Pure functions from predictions of the measured runs to text; nothing is counted here that `codesign.evidence` has not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codesign import units
from codesign.evidence import failures, multisite
from codesign.evidence.validate import Validation
from codesign.planner import Plan
from codesign.report import text
from codesign.spec import stacks

EXAMPLE_ROW = "llama3-t4-16384-8192"  # the measured run that the shipped example describes: Llama 3 paper, table 4
SUMMARY = stacks.DATA / "error_summary.json"  # written by `make refit`

_FITS = {
    "in_sample": "nothing left out", "leave_one_group_out": "one group (publication, model, accelerator) left out",
    "leave_one_source_out": "one source left out (stacks that have two)",
}  # fmt: skip
_COUNTED = (
    "error = predicted / measured - 1; median and 90th percentile give each row the weight 1 / rows of its group; "
    "mean and bias average the groups' means; ranking is the share of pairs of layouts, measured more than 5 % "
    "apart, that we put in the right order. `memory` counts the rows with a measured peak."
)
_ABOUT = (
    "`codesign validate` predicts every measured run that ships in `measured_runs/` and compares; this page is what it "
    "found. The rows called ok are those that the constants were fitted to: read the second table before the first is "
    "believed."
)
_READING = (
    "The same configuration measured twice differs by about 2 %, and a constant utilisation in place of a model is wrong "
    "by about 29 %. The interval that a plan prints comes from the errors with one group left out, in the nearest cell of "
    "the first table. Cells with few groups say little. For an accelerator or a stack without a row, the plan rests on "
    "datasheets and operator measurements: its interval is marked EXTRAPOLATED, and its footing line counts what is assumed."
)
_MEMORY = (
    "Memory errs more often than its 80 % interval says, mostly on the large side: {refused} of the {ran:,} runs called ok, "
    "all of which ran, would get DOES NOT FIT. Most are FSDP1 runs of small models with large micro-batches, and MaxText runs "
    "with a recompute policy of its own; most state what they recompute, so the error is ours. A verdict within the "
    "interval is open: measure it."
)
_ORDER = (
    "How sure the order of two plans is, from pairs of measured runs with their group left out of the fit. `confidence` is "
    "what `codesign compare` says, `right` the share of pairs that were in the predicted order. Below 2 % no order is called."
)
_FAILURES = (
    "Each report of failures told from the rates and recovery times of the others, with the 80 % interval of one more report. "
    "Published rates differ up to 2.8 times after scaling with the number of nodes, so these intervals are wide."
)
_SITES = (
    "Runs over several sites. Few state the rate of their links: most figures are from the measured time of the run's own outer "
    "step, and check the form of a round only. Only those by stated inputs are predictions of a time."
)
_WORST = 15
_NODE = 8  # accelerators of the largest node among the measured runs of several layouts
_REGRET = 0.03


# ---------------------------------------------------------------------------------------------------- the page


def page(validation: Validation, summary: Mapping[str, Any], written: str) -> str:
    """docs/how-wrong.md; `written` says what writes it."""
    blocks = [
        "# How wrong are we", written, _ABOUT,
        "## Step time, by accelerator, stack and kind of model", error_table(validation),
        "## Step time, on rows that the constants had not seen", held_out_table(summary),
        "## How to read it", _READING,
        "## The largest errors", worst_table(validation),
        "## Memory", memory_sentence(validation),
        "## The order of two plans", _ORDER, order_table(summary),
        "## Failures", _FAILURES, *failure_tables(),
        "## Several sites", _SITES, site_table(),
    ]
    return "\n\n".join(blocks) + "\n"


def headlines(validation: Validation, summary: Mapping[str, Any]) -> str:
    """The README's table: all rows, rows left out of the fit, caution rows, memory."""
    lines = {row["cell"]: row for row in validation.summary_rows()}
    shown = [("step time, the rows that the constants were fitted to", lines["all (ok)"])]
    shown += [(f"step time, {_FITS[key]}", summary[key]) for key in ("leave_one_group_out", "leave_one_source_out")]
    shown += [("step time, rows called caution, never fitted", lines["caution rows"])]
    shown += [("peak memory, never fitted", lines["memory"])]
    return _table([{"": head, **_figures(row)} for head, row in shown])


def _figures(row: Mapping[str, Any]) -> dict[str, str]:
    count = row.get("n", row.get("rows"))
    return {
        "runs": f"{count:,}", "groups": str(row["groups"]),
        **{f"{name}, %": _per_cent(row.get(name), name == "bias") for name in ("median", "p90", "mean", "bias", "ranking")},
    }  # fmt: skip


def error_table(validation: Validation) -> str:
    """The table of errors by cell, what it counts, and how often the picked layout is near the best measured."""
    rows = [
        {"accelerator, stack, model": row["cell"], "refused": str(row["refused"]), **_figures(row)}
        for row in validation.summary_rows()
    ]
    fitted = len(validation.constants())
    constants = f"{fitted} constants were fitted to the rows called ok, none to caution rows or to memory."
    return "\n\n".join([_table(rows), _COUNTED, constants, *_pick(validation)])


def _pick(validation: Validation) -> list[str]:
    """Whether the layout that we would pick is the best measured; nothing where no family is large enough."""
    regret = validation.regret()
    if not regret:
        return []
    group_of = {str(row["group"]): row for row in validation.measured}
    keys = [key.rsplit(" ", 3) for key in regret]  # group, accelerators, batch, sequence length
    small = [
        group_of[group]["model"]["params_b"] for group, accelerators, *_ in keys
        if int(accelerators) <= _NODE and group_of[group]["model"]["size_class"] == "<2B"
    ]  # fmt: skip
    near = sum(lost <= _REGRET for lost in regret.values())
    line = (
        f"Picking a layout: of the {len(regret)} families with six measured layouts or more, the layout that we call "
        f"fastest was measured within 3 % of the best in {near} ({100 * near / len(regret):.0f} %), "
        f"at worst {100 * max(regret.values()):.0f} % slower."
    )
    if small:
        line += (
            f" {len(small)} of these families are models of {min(small):.1f} to {max(small):.1f}B on one node of at most "
            f"{_NODE} accelerators."
        )
    return [line]


def held_out_table(summary: Mapping[str, Any]) -> str:
    """Errors on rows that the constants had not seen, from the summary that `make refit` writes."""
    return _table([{"constants fitted with": head, **_figures(summary[key])} for key, head in _FITS.items()])


def held_out_summary() -> dict[str, Any]:
    """What the last `make refit` wrote."""
    return json.loads(SUMMARY.read_text(encoding="utf-8"))


def worst_table(validation: Validation) -> str:
    """The rows called ok that are furthest off, one a group, so that one odd publication does not fill the table."""
    errors = validation.errors()
    rows: dict[str, Mapping[str, Any]] = {}
    pairs = [pair for pair in zip(validation.rows, validation.measured, strict=True) if pair[0]["id"] in errors]
    for out, row in sorted(pairs, key=lambda pair: (-abs(errors[pair[0]["id"]]), pair[0]["id"])):
        rows.setdefault(str(row["group"]), {
            "run": out["id"], "measured": units.show(out["measured_step_s"], "s"),
            "predicted": units.show(out["predicted_step_s"], "s"), "error": f"{100 * errors[out['id']]:+.0f} %",
        })  # fmt: skip
    shown = list(rows.values())[:_WORST]
    return f"The worst row of each of the {len(shown)} worst groups.\n\n{_table(shown)}"


def memory_sentence(validation: Validation) -> str:
    """How often a run that ran would be called too large."""
    errors = validation.errors()
    ran = [out for out in validation.rows if out["id"] in errors]
    return _MEMORY.format(refused=sum(out["fits"] is False for out in ran), ran=len(ran))


def order_table(summary: Mapping[str, Any]) -> str:
    """Confidence of a ranking beside how often it was right, by what differs and by the predicted gap."""
    rows = [
        {
            "what differs": row["scope"], "predicted gap": _gap(row["gap_from"], row["gap_to"]), "pairs": str(row["pairs"]),
            "groups": str(row["groups"]), "confidence, %": _per_cent(row["confidence"]), "right, %": _per_cent(row["right"]),
            "standard error, points": _per_cent(row["standard_error"]),
        }
        for row in summary["ranking_confidence"]
    ]  # fmt: skip
    return _table(rows)


def _gap(low: float, high: float | None) -> str:
    above = high is None or not math.isfinite(high) or high >= 1e3
    return f"above {100 * low:g} %" if above else f"{100 * low:g} to {100 * float(high or 0.0):g} %"


def failure_tables() -> Iterator[str]:
    """Mean time to failure and lost time of each report, told by the rest."""
    for head, made, unit in (
        ("mean time to failure", failures.predicted_hours(), "{:.3g} h"), ("time lost", failures.predicted_lost(), "{:.1%}"),
    ):  # fmt: skip
        rows = [
            {
                "report": one.name, f"{head}, printed": ("at most " if one.bound else "") + unit.format(one.printed),
                "told by the rest": unit.format(one.value),
                "80 % interval": f"{unit.format(one.low)} to {unit.format(one.high)}", "holds": "yes" if one.holds else "no",
            }
            for one in made
        ]  # fmt: skip
        yield _table(rows)


def site_table() -> str:
    """Measured runs over several sites."""
    rows = [
        {"run": one.id, "what": one.what, "by its": "stated inputs" if one.from_inputs else "own outer step",
         "printed": f"{one.printed:.3f}", "ours": f"{one.predicted:.3f}",
         "error": f"{100 * one.error:+.1f} " + ("points" if one.what == "utilisation" else "%")}
        for one in multisite.measured(multisite.rows())
    ]  # fmt: skip
    return _table(rows)


def published_beside(made: Plan, validation: Validation) -> str:
    """The step time of the example beside the one of its publication."""
    pair = zip(validation.rows, validation.measured, strict=True)
    out, row = next((out, row) for out, row in pair if out["id"] == EXAMPLE_ROW)
    measured_s, interval = out["measured_step_s"], made.step_interval
    place = "inside" if interval.low <= measured_s <= interval.high else "outside"
    return (
        f"Published for this run ({row['source']['title']}): {units.show(measured_s, 's')} a step. Ours is "
        f"{100 * (made.step_s / measured_s - 1):+.1f} %; the published time is {place} of the interval. "
        f"Trust in that row: {row['trust']['level']} ({row['trust']['why']})."
    )


def _per_cent(value: float | None, signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:{'+' if signed else ''}.1f}"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table, the first column left, the rest right."""
    lines = text.markdown_table(rows).rstrip().splitlines()
    return "\n".join([lines[0], re.sub(r"(?<!^)\| ---", "| ---:", lines[1]), *lines[2:]])


__all__ = ["error_table", "headlines", "held_out_summary", "held_out_table", "page", "published_beside"]
