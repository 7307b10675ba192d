"""Failures and goodput: where the wall clock goes, every policy beside the others, what fails, what the run would bear."""

from __future__ import annotations

import numpy as np

from codesign import goodput, units
from codesign.report import run_goodput, view
from codesign.report.review.charts import Bar, Waterfall
from codesign.report.review.cited import Case, empty, how
from codesign.report.review.document import Block, Figure, Name, Section, Span, Strong, Words, paragraph, table, words
from codesign.run import RunPlan

TITLE, ANCHOR = "Failures and goodput", "goodput"
TARGETS = (0.8, 0.9, 0.95, 0.99)
_LEAST = 5e-5  # shares below it are one row
_QUANTITY = {cause: name for name, cause in goodput.CAUSES.items()}


def failures(case: Case) -> Section:
    run = case.run
    if run is None or run.spec.run is None or run.spec.run.failures is None:
        return empty(
            ANCHOR,
            TITLE,
            "The spec says nothing of failures: add ",
            Name("run.failures"),
            " (for example ",
            Name("{rates: pooled}"),
            ") and ",
            Name("run.checkpoint"),
            ".",
        )
    blocks = [
        _answer(case, run),
        *_budget(case, run),
        _policies(case, run),
        *_components(case, run),
        _checkpoints(case, run),
        _bearable(run),
    ]
    return Section(ANCHOR, TITLE, tuple(blocks))


def _answer(case: Case, run: RunPlan) -> Block:
    found, count = goodput.interval(run), run_goodput.groups(run)
    between: tuple[Span, ...] = ()
    if found:
        between = (
            " (",
            how("rates", view.percent(found[0])),
            " to ",
            how("rates", view.percent(found[1])),
            ", published failure rates)",
        )
    return paragraph(
        Strong("Goodput "),
        case.of_run("goodput", view.percent(run.value("goodput"))),
        *between,
        f" under policy {goodput.policies(run)[0]}: ",
        case.of_run("run_days", f"{run.value('run_days'):.4g} days"),
        ". One interruption in ",
        case.of_run("mean_time_to_failure_s"),
        *((f" in each of {count} groups, ",) if count > 1 else (", ",)),
        case.of_run("expected_failures", f"{run.value('expected_failures'):,.0f}"),
        f" in {'all of them' if count > 1 else 'the run'}. An event of one in a million steps of one accelerator comes once in ",
        case.of_run("rare_event_s"),
        ".",
    )


def _budget(case: Case, run: RunPlan) -> list[Block]:
    left = 1.0 - run.value("other_share")
    policy, days = goodput.policies(run)[0], run.value("run_days")
    every = goodput.wall_clock(run)
    kept = {name: share for name, share in every.items() if share >= _LEAST or name == "goodput"}
    rest = 1.0 - sum(kept.values())
    shown = view.adding_up([100.0 * share for share in (*kept.values(), *((rest,) if rest > 1e-9 else ()))], 0.01)
    bars, rows, at = [], list[list[Span | Words]](), 0.0
    for name, share, number in zip((*kept, "smaller losses"), (*kept.values(), rest), shown, strict=False):
        key = f"{_QUANTITY[name]}[{policy}]" if name in _QUANTITY else ""
        value = case.of_run(key, f"{number:.2f} %") if key and left == 1.0 else how("share", f"{number:.2f} %")
        rows.append([name, value, how("share", f"{share * days:.3g}")])
        if name != "goodput":
            bars.append(Bar(name, at, share, f"{number:.2f} %", "lost"))
            at += share
    heads = ("where the wall clock goes", "share", "days")
    out: list[Block] = [table("Goodput budget; the shares add up to the wall clock", heads, rows, ("share", "days"))]
    if bars:
        out.insert(
            0,
            Figure(
                "Losses of goodput by cause",
                f"Shares of the wall clock that are lost, one below the other; {view.percent(at)} in all.",
                Waterfall(tuple(bars), at, (("lost", "share of the wall clock"),)),
            ),
        )
    if left < 1.0:
        total, others = view.percent(run.value("goodput")), view.percent(left)
        out.append(
            paragraph(
                "Goodput is ", case.of_run("goodput", total), " of the ", how("share", others),
                " of the time that others leave for training.",
            )
        )
    return out


def _policies(case: Case, run: RunPlan) -> Block:
    rows: list[list[Span | Words]] = []
    for one in run_goodput.policies(run):
        name = one["policy"]
        worst = max(one["lost"], key=lambda cause: one["lost"][cause])
        rows.append(
            [
                name,
                case.of_run(f"policy_goodput[{name}]", view.percent(one["goodput"])),
                case.of_run(f"policy_goodput_per_accelerator[{name}]", view.percent(one["goodput_per_accelerator"])),
                case.of_run(f"policy_days[{name}]", f"{one['days']:.4g}"),
                case.of_run(f"policy_spare_nodes[{name}]", f"{one['spare_nodes']:,.0f}"),
                words(f"{worst} ", case.of_run(f"{_QUANTITY[worst]}[{name}]", view.percent(one["lost"][worst]))),
            ]
        )
    heads = ("policy", "goodput", "of all held", "days", "spare nodes", "costs most")
    return table("Policies on this layout at these rates, the run's own first", heads, rows, heads[1:5])


def _components(case: Case, run: RunPlan) -> list[Block]:
    lost, sources = goodput.by_component(run), list[str]()
    rows: list[list[Span | Words]] = []
    for name in run.inputs.indexes["component"]:
        rate = run.value(f"component_failures_per_s[{name}]")
        if not rate:
            continue
        leaf = run.inputs.leaves[f"component_unit_per_s[{name}]"]
        rows.append(
            [
                name,
                case.of_run(f"component_units[{name}]", f"{run.value(f'component_units[{name}]'):,.0f}"),
                case.of_run(f"component_unit_per_s[{name}]", run_goodput.long_time(1.0 / leaf.value)),
                case.of_run(f"component_failures_per_s[{name}]", f"{86400.0 * rate:.3g}"),
                how("by_component", view.percent(lost[name], 2)),
                leaf.kind,
            ]
        )
        sources.append(leaf.source)
    heads = ("component", "units", "one fails in", "a day", "costs", "rate is")
    count = run_goodput.groups(run)
    title = f"What fails in one of the {count} groups" if count > 1 else "What fails"
    return [table(title, heads, rows, heads[1:5]), paragraph("Rates: ", "; ".join(dict.fromkeys(sources)), ".")]


def _checkpoints(case: Case, run: RunPlan) -> Block:
    kind = run.inputs.structure["checkpoint_kind"]
    stated = run.inputs.structure["interval_is_stated"]
    size = paragraph(
        Strong("Checkpoints. "),
        case.of_run("checkpoint_B"),
        f"{' for each group' if run_goodput.groups(run) > 1 else ''}, {kind}: ",
        case.of_run("checkpoint_write_s"),
        " to storage, ",
        case.of_run("checkpoint_blocking_s"),
        " of compute",
    ).words
    chosen = goodput.policies(run)[0]
    if not stated and not np.isfinite(run.value(f"policy_best_interval_s[{chosen}]")):
        return paragraph(*size, "; none is needed in storage under this policy and these rates.")
    return paragraph(
        *size,
        "; every ",
        case.of_run("checkpoint_interval_s"),
        f" of compute ({'as stated' if stated else 'the best'}), ",
        case.of_run("checkpoint_mean_Bps"),
        " on average; keep ",
        case.of_run("checkpoints_kept"),
        ".",
    )


def _bearable(run: RunPlan) -> Block:
    now = run.value("mean_time_to_failure_s")
    rows: list[list[Span | Words]] = []
    for one in goodput.break_even(run, TARGETS):
        if np.isnan(one.factor):
            rows.append([view.percent(one.target, 0), "out of reach", "missed even where next to nothing fails"])
        elif np.isinf(one.factor):
            rows.append([view.percent(one.target, 0), "any", ""])
        else:
            times = words(how("bearable", f"{one.mean_time_s / now:.3g}"), " times as long as now")
            rows.append([view.percent(one.target, 0), how("bearable", units.show(one.mean_time_s, "s")), times])
    return table(
        f"What the run would bear: mean time to failure of {'a group' if run_goodput.groups(run) > 1 else 'the job'} "
        "for a goodput",
        ("goodput", "mean time", ""),
        rows,
        ("goodput", "mean time"),
    )


__all__ = ["failures"]
