"""What limits the plan, what else was possible, how it moves, and how wrong we were on runs like it."""

from __future__ import annotations

from codesign import graph, units
from codesign.planner import Plan
from codesign.quantities import constraints
from codesign.report import search as shown
from codesign.report import view
from codesign.report.review.charts import Pairs, Swings
from codesign.report.review.cited import Case, how, spaced
from codesign.report.review.document import Block, Bullets, Figure, Section, Span, Strong, Words, paragraph, table, words
from codesign.search import whynot
from codesign.search.exposure import exposures
from codesign.search.resources import machine
from codesign.search.result import Candidate

MOST_REASONS = 8
SMALLEST = 0.02  # of a difference: parts that moved less are added up
MOST_BARS = 10


# ---------------------------------------------------------------------------------------------------- limits


def limits(case: Case) -> Section:
    """The constraints, the inputs that move the step most, and the communication that could still be hidden."""
    plan = case.plan
    top = view.elasticity_rows(plan, 3)
    blocks: list[Block] = []
    if top:
        named = [words(f"{row['input']} ", how("elasticity", f"{row['elasticity']:+.3f} %")) for row in top]
        blocks.append(paragraph("One per cent more of an input changes the step by: ", *spaced(named), "."))
    held = [name for name in constraints.CONSTRAINTS if plan.value(name)]
    blocks.append(paragraph(how("counted", f"{len(held)} of {len(constraints.CONSTRAINTS)}"), " constraints hold."))
    if plan.violations:
        blocks += [Bullets(tuple(words(message) for message in plan.violations)), *_lifts(case)]
    if not plan.overrides:
        blocks += _exposed(case)
    return Section("limits", "What limits it", tuple(blocks))


def _lifts(case: Case) -> list[Block]:
    """The cheapest single changes after which the chosen layout can run."""
    if case.around.result is None:
        return []
    lifts = whynot.refusal(case.around.result.space, case.plan.problem.spec).lifts
    if not lifts:
        return [paragraph("No single change of the layout lifts it.")]
    rows = [[lift.change, how("search", units.show(lift.step_s, "s")), " ".join(f"--set '{one}'" for one in lift.sets)] for lift in lifts]
    return [table("The cheapest single changes that lift it", ("change", "then a step takes", "codesign plan SPEC"), rows, ("then a step takes",))]


def _exposed(case: Case) -> list[Block]:
    found = exposures(machine(case.plan))
    if not found:
        return [paragraph("No communication is exposed.")]
    rows: list[list[Span | Words]] = []
    for one in found:
        factor = one.hides_factor
        hides = "no bandwidth" if factor is None else "as it is" if factor == 1.0 else f"{factor:.3g} times"
        rows.append([
            one.label, case.step(one.name, units.show(one.exposed_s, "s")), how("share", view.percent(one.share)), one.level,
            how("exposed", view.percent(one.never_removed)), how("exposed", hides), one.why,
        ])  # fmt: skip
    heads = ("exposed", "time", "of the step", "carried by", "never removed", "hidden at", "why")
    return [table("Exposed communication: the level that carries it, and the bandwidth of that level that would hide what can be hidden",
                  heads, rows, ("time", "of the step", "never removed", "hidden at"))]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- alternatives


def alternatives(case: Case) -> Section:
    title, anchor = "Alternatives and why not", "alternatives"
    result = case.around.result
    if result is None:
        return Section(anchor, title, (paragraph(f"Nothing was searched: {case.around.why_none}.", tone="note"),))
    tally = result.tally
    tried = "; ".join(f"{name}: {values}" for name, values in case.around.searched.items())
    blocks: list[Block] = [paragraph(
        "Searched around the chosen layout: ", how("search", f"{tally['candidates']:,}"), " layouts, ",
        how("search", f"{tally['feasible']:,}"), f" feasible, on the spec's own cluster and batch. {tried}. What is not listed "
        "is as chosen. A wider space: codesign search SPEC --free all.",
    )]  # fmt: skip
    if not case.around.best:
        return Section(anchor, title, (*blocks, paragraph("None of them is feasible.", tone="bad"), *_why_not(case)))
    blocks += [_standing(case), _near(case), *_slower(case), *_why_not(case)]
    return Section(anchor, title, tuple(blocks))


def _standing(case: Case) -> Block:
    best, plan = case.around.best[0], case.plan
    ahead = plan.step_s / best.plan.step_s - 1.0
    if not plan.feasible:
        return paragraph("The chosen layout is not feasible; the best of these takes ", how("search", units.show(best.plan.step_s, "s")), ".")
    if ahead <= 1e-9:
        return paragraph(Strong("No layout near it is faster."))
    return paragraph(
        Strong("A layout near it is predicted to be faster: "), "the chosen one takes ", how("search", view.percent(ahead)),
        " longer. Layouts nearer to each other than the 80 % interval of the step are not told apart.",
    )  # fmt: skip


def _near(case: Case) -> Block:
    plan = case.plan
    rows: list[list[Span | Words]] = [[
        Strong("chosen"), _own(plan), case.step("step_s"), "",
        case.step("mfu", view.percent(plan.value("mfu"))), case.step("peak_B"),
    ]]  # fmt: skip
    for at, one in enumerate(case.around.best):
        slower = view.signed_percent(one.plan.step_s / plan.step_s - 1.0)
        rows.append([
            f"{at + 1}", _layout(one), how("search", units.show(one.plan.step_s, "s")), how("search", slower),
            how("search", view.percent(one.plan.value("mfu"))), how("search", units.show(one.plan.value("peak_B"), "B")),
        ])  # fmt: skip
    return table("The chosen layout and the fastest ones near it", ("", "layout", "step", "against chosen", "MFU", "fullest rank"),
                 rows, ("step", "against chosen", "MFU", "fullest rank"))  # fmt: skip


def _own(plan: Plan) -> str:
    """The chosen layout in the words of the others."""
    layout = plan.problem.spec.layout
    degrees = [f"{name} {getattr(layout, name)}" for name in shown.DEGREES if (getattr(layout, name) or 1) > 1 or name in ("tp", "pp", "dp")]
    recompute = plan.resolved()["layout"]["recompute"]
    return (f"{' '.join(degrees)}, micro-batch {plan.value('micro_batch'):g}, recompute "
            f"{' '.join([recompute['granularity'], *recompute.get('modules', ())])}, {layout.schedule} {layout.sharding}")  # fmt: skip


def _layout(one: Candidate) -> str:
    return shown.words(one).partition(", ")[2].rstrip(", ")


def _slower(case: Case) -> list[Block]:
    """By which parts the chosen layout is slower than the best near it."""
    best, plan = case.around.best[0].plan, case.plan
    moved = {name: value - best.parts[name] for name, value in plan.parts.items()}
    total = sum(map(abs, moved.values()))
    if plan.step_s <= best.step_s * (1.0 + 1e-9) or not total:
        return []
    kept = sorted((n for n, v in moved.items() if abs(v) >= SMALLEST * total), key=lambda n: -abs(moved[n]))
    rows: list[list[Span | Words]] = [
        [view.label(name), case.step(name), how("search", _signed(moved[name])), _first(name)] for name in kept
    ]
    rest = sum(value for name, value in moved.items() if name not in kept)
    if rest:
        rows.append(["other parts", "", how("search", _signed(rest)), ""])
    rows.append(["step", case.step("step_s"), how("search", _signed(plan.step_s - best.step_s)), ""])
    heads = ("part", "chosen", "chosen less best", "what it is")
    return [table("Why the best near it is faster", heads, rows, ("chosen", "chosen less best"), True)]


def _signed(seconds: float) -> str:
    return ("+" if seconds >= 0 else "-") + units.show(abs(seconds), "s")


def _first(name: str) -> str:
    return " ".join(graph.REGISTRY[name].doc.split()).partition(". ")[0].rstrip(".")


def _why_not(case: Case) -> list[Block]:
    """How many layouts each limit refuses, and how often each is broken at all."""
    assert case.around.result is not None
    tally = case.around.result.tally
    if not tally["rejected"] and not tally["not_whole"]:
        return [paragraph("None was refused.")]
    rows: list[list[Span | Words]] = [
        [f"refused: {reason}", how("search", f"{count:,}")] for reason, count in list(tally["rejected"].items())[:MOST_REASONS]
    ]
    rows += [[f"left out, not whole in {reason}", how("search", f"{count:,}")]
             for reason, count in list(tally["not_whole"].items())[:MOST_REASONS]]  # fmt: skip
    return [table("Why not the others", ("reason", "layouts"), rows, ("layouts",))]


# ---------------------------------------------------------------------------------------------------- sensitivities


def sensitivities(case: Case) -> Section:
    """Elasticities of the step to every input that moves it, and the intervals of what is predicted."""
    plan = case.plan
    found = view.elasticity_rows(plan, len(plan.elasticities))
    blocks: list[Block] = []
    if found:
        bars = tuple((row["input"], row["elasticity"], f"{row['elasticity']:+.3f} %") for row in found[:MOST_BARS])
        rows = [[row["input"], how("elasticity", f"{row['elasticity']:+.4f}"), how("elasticity", f"{row['elasticity']:+.3f} %")]
                for row in found]  # fmt: skip
        blocks += [
            Figure("Change of the step for one per cent more of an input", "A bar to the left is a shorter step, to the right a longer one.",
                   Swings(bars, "shorter step", "longer step")),
            table("Elasticities of the step", ("input", "elasticity", "step for 1 % more"), rows, ("elasticity", "step for 1 % more")),
        ]  # fmt: skip
    else:
        blocks.append(paragraph("No input moves the step time."))
    blocks.append(_intervals(case))
    return Section("sensitivities", "Sensitivities and intervals", tuple(blocks))


def _intervals(case: Case) -> Block:
    plan = case.plan
    rows: list[list[Span | Words]] = []
    for name, label, found, unit in (
        ("step_s", "step time", plan.step_interval, "s"), ("peak_B", "fullest rank", plan.memory_interval, "B"),
    ):  # fmt: skip
        ends = [how("interval", units.show(value, unit)) for value in (found.low, found.high)]
        rows.append([label, case.step(name), *ends, f"residuals of {found.rows} measured rows, cell '{found.cell}'"
                     + (f"; {found.extrapolated}" if found.extrapolated else "")])  # fmt: skip
    run = case.run
    if run is not None and run.spec.run is not None and run.spec.run.failures is not None:
        from codesign import goodput

        low, high = goodput.interval(run)
        rows.append(["goodput", case.of_run("goodput", view.percent(run.value("goodput"))), how("rates", view.percent(low)),
                     how("rates", view.percent(high)), "published failure rates"])  # fmt: skip
    if run is not None:
        from codesign.decisions import interval

        for name in ("final_loss", "effective_over_reference"):
            spread = interval.spread(run, name)
            if spread is not None:
                rows.append([view.label(name), case.of_run(name, f"{spread.value:.4g}"), how("draws", f"{spread.low:.4g}"),
                             how("draws", f"{spread.high:.4g}"), "joint draws of the law's constants"])  # fmt: skip
    return table("80 % intervals", ("figure", "predicted", "low", "high", "from"), rows, ("predicted", "low", "high"))


# ---------------------------------------------------------------------------------------------------- accuracy


def accuracy(case: Case) -> Section:
    if not case.nearest:
        return Section("accuracy", "Accuracy on the most similar measured runs",
                       (paragraph("No measured run is near enough to compare with.", tone="note"),))  # fmt: skip
    rows = [
        [row["run"], row["model"], row["accelerators"], row["stack"], *(how("measured", row[name]) for name in ("measured", "predicted", "error")),
         row["source"]]
        for row in view.nearest_table(case.nearest)
    ]  # fmt: skip
    pairs = tuple((f"{row['model']}, {row['accelerators']:,}", float(str(row["measured_step_s"])), float(str(row["predicted_step_s"])),
                   view.signed_percent(float(str(row["error"])))) for row in case.nearest)  # fmt: skip
    return Section("accuracy", "Accuracy on the most similar measured runs", (
        paragraph("How wrong this version is on the published runs most like this one; the errors over all of them: codesign validate."),
        Figure("Predicted against measured step time", "A ring is the measured step time, a square the predicted one; logarithmic.", Pairs(pairs)),
        table("Nearest measured runs", ("run", "model", "accelerators", "stack", "measured", "predicted", "error", "source"), rows,
              ("measured", "predicted", "error")),
    ))  # fmt: skip


__all__ = ["accuracy", "alternatives", "limits", "sensitivities"]
