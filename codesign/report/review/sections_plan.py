"""The question and its answer, the chosen plan, where the time and the memory go."""

from __future__ import annotations

import math

from codesign import goodput, units
from codesign.decisions import calendar, interval
from codesign.planner import TRAFFIC, Plan
from codesign.quantities.memory import TAGS
from codesign.report import over_sites, palette, view, waterfall
from codesign.report import run as beyond
from codesign.report.review.charts import Bar, Stack, Stacks, Waterfall
from codesign.report.review.cited import Case, between, how, spaced, whose
from codesign.report.review.document import (
    Block,
    Bullets,
    Figure,
    Name,
    Paragraph,
    Section,
    Span,
    Strong,
    Table,
    Words,
    paragraph,
    table,
    words,
)
from codesign.report.review.strip import strip_figure
from codesign.run import RunPlan
from codesign.search import attribution

MOST_RANKS = 6  # columns of the memory table
_MOST_TERMS = 6  # of the memory figure; the rest is one term, and the reserve of the allocator comes last
_GIVES_WAY = "allocator_memory_B"

_ASKED_OF_A_RUN = " How long is the run, what is lost to failures, what does it reach and cost?"
DAY_S = 86400.0
HIDDEN = "communication, hidden"  # a kind of the waterfall: shown, not added


# ---------------------------------------------------------------------------------------------------- the answer


def answer(case: Case) -> Section:
    plan, review = case.plan, case.review
    blocks: list[Block] = [paragraph(Strong("Question. "), review.question or asked(case)), *_verdict(case)]
    rows: list[list[Span | Words]] = [] if case.sites is None else _over_sites(case, case.sites)
    rows += [
        [f"step time{case.place}", case.step("step_s"), _interval(plan, "step")],
        [f"throughput{case.place}", case.step("job_tokens_per_s"), ""],
        [
            f"MFU{case.place}",
            case.step("mfu", view.percent(plan.value("mfu"))),
            "causal model FLOPs over the dense peak of the matmul precision",
        ],
        [f"HFU{case.place}", case.step("hfu", view.percent(plan.value("hfu"))), "with what is computed again"],
        [f"fullest rank{case.place}", case.step("peak_B"), words("of ", case.step("memory_B"), "; ", *_interval(plan, "memory"))],
    ]
    rows += _beyond(case)
    blocks.append(table("The answer in figures", ("figure", "value", "80 % interval, remarks"), rows, ("value",)))
    weakest, counts = plan.footing
    listed = spaced([words(how("footing", str(count)), f" {kind}") for kind, count in counts.items() if count])
    blocks.append(
        paragraph(
            Strong("Footing. "), f"{weakest} is the weakest kind of number that the step time rests on (", *listed, ")."
        )
    )
    if review.decision:
        blocks.append(paragraph(Strong("Decision. "), review.decision))
    if review.owner or review.date:
        of = " · ".join(filter(None, (review.owner, review.date.isoformat() if review.date else None)))
        blocks.append(paragraph(Strong("Plan of record. "), of))
    return Section("answer", "Question and answer", tuple(blocks))


def _verdict(case: Case) -> list[Block]:
    broken = case.broken
    if broken:
        count = f"{len(broken)} constraint{'s' if len(broken) > 1 else ''} broken."
        head = Paragraph(words(Strong("Not feasible. "), how("counted", count), *_open(case)), "bad")
        return [head, Bullets(tuple(words(message) for message in broken))]
    if case.sites is not None:
        return [Paragraph(words(Strong("Feasible. "), *over(case, case.sites), ".", *_open(case)), "answer")]
    return [
        Paragraph(
            words(
                Strong("Feasible. "),
                case.step("step_s"),
                " a step at ",
                case.step("mfu", view.percent(case.plan.value("mfu"))),
                " MFU; the fullest rank has ",
                _headroom(case),
                " to spare.",
                *_open(case),
            ),
            "answer",
        )
    ]


def _open(case: Case) -> Words:
    """Why the verdict may turn out the other way, where it may."""
    unsure = beyond.unsure(case.given, case.run)
    return words(" ", Strong("But open: "), how("interval", "; ".join(unsure)), ".") if unsure else ()


def asked(case: Case) -> str:
    """What is asked, where the spec has no question of its own."""
    if case.sites is None:
        return view.question(case.plan) + (_ASKED_OF_A_RUN if case.run is not None else "")
    return f"How long is a step of {over_sites.what(case.sites)}, and does it fit?{_ASKED_OF_A_RUN}"


def over(case: Case, run: RunPlan) -> Words:
    """The step over the sites and its parts."""
    phase = over_sites.first_phase(run)
    total = case.of_run(f"phase_run_step_s[{phase}]")
    rate = case.of_run(f"phase_tokens_per_s[{phase}]")
    if len(over_sites.members(run)) == 1:
        return words(total, " a step, ", rate)
    parts: Words = (
        case.of_run(f"phase_healthy_step_s[{phase}]"),
        " as if in one building, " if over_sites.across(run) else " on the slowest site, ",
        case.of_run(f"phase_sync_exposed_s[{phase}]"), " for the exchange between sites; ", rate,
    )
    return words(total, " a step over the sites: ", *parts)


def _over_sites(case: Case, run: RunPlan) -> list[list[Span | Words]]:
    """Rows of the step over the sites."""
    phase, known = over_sites.first_phase(run), over_sites.interval(run)
    of_phase = f", phase {phase}" if len(run.steps) > 1 else ""
    ends = known and words(
        how("over_sites", units.show(known[0], "s")), " to ", how("over_sites", units.show(known[1], "s")),
        ", the exchange as planned",
    )
    return [
        [f"step time over the sites{of_phase}", case.of_run(f"phase_run_step_s[{phase}]"), ends or "no interval is known"],
        [f"throughput over the sites{of_phase}", case.of_run(f"phase_tokens_per_s[{phase}]"), ""],
    ]


def _headroom(case: Case) -> Span:
    free = case.plan.value("memory_B") - case.plan.value("peak_B")
    return how("difference", units.show(free, "B"))


def _interval(plan: Plan, what: str) -> Words:
    found, unit = (plan.step_interval, "s") if what == "step" else (plan.memory_interval, "B")
    if not found.low > 0 or found.high == float("inf"):
        return words("no measured runs to take an interval from")
    low, high = (how("interval", units.show(value, unit)) for value in (found.low, found.high))
    beyond = f"; extrapolated: {found.extrapolated}" if found.extrapolated else ""
    return words(
        low, " to ", high, ", from ", how("interval", str(found.rows)), f" rows of the cell '{found.cell}'", beyond
    )


def _beyond(case: Case) -> list[list[Span | Words]]:
    """Rows of the run, where there is one."""
    run = case.run
    if run is None:
        return []
    rows: list[list[Span | Words]] = []
    rows.append(["goodput", case.of_run("goodput", view.percent(run.value("goodput"))), _rates(run)])
    rows.append(["length of the run", *length(case, run)])
    hours = run.value("run_accelerator_hours")
    rows.append(["accelerator-hours", case.of_run("run_accelerator_hours", f"{hours:,.0f}"), ""])
    if "final_loss" in run.inputs.targets:
        rows.append(["final loss", case.of_run("final_loss", f"{run.value('final_loss'):.3f}"), _drawn(run)])
    if "rental_cost" in run.inputs.targets:
        spread = between(case, "rental_cost", lambda value: f"{value:,.0f}")
        currency = f"{', ' if spread else ''}in the currency of run.price_per_hour"
        rows.append(["cost", case.of_run("rental_cost", f"{run.value('rental_cost'):,.0f}"), words(*spread, currency)])
    return rows


def _rates(run: RunPlan) -> Words:
    known = goodput.interval(run) if "chosen_policy" in run.inputs.structure else None
    if known is None:
        return ()
    return words(how("rates", view.percent(known[0])), " to ", how("rates", view.percent(known[1])))


def _drawn(run: RunPlan) -> Words:
    known = interval.spread(run, "final_loss")
    ends = words(how("draws", f"{known.low:.3f}"), " to ", how("draws", f"{known.high:.3f}"), ", ") if known else ()
    return words(*ends, "nats a token")


def length(case: Case, run: RunPlan) -> tuple[Span, Words]:
    """Days from the start to the end of the run with hardware in tranches, and their interval with its dates."""
    name = "calendar_s" if ("calendar_s", None) in run.values else "run_wall_s"
    known, end_s = case.known.spreads.get(name), calendar.end_s(run)
    if not math.isfinite(end_s):
        return "never ends", ()
    day = calendar.day(run, end_s)
    value = case.of_run(name, f"{end_s / DAY_S:.1f} d")
    ended = words(*((" to ", how("calendar", day.isoformat())) if day else ()))
    if known is None:
        return value, words("no interval is known", *ended)
    days = between(case, name, lambda seconds: f"{seconds / DAY_S:.1f}")
    dates = [calendar.day(run, edge_s) for edge_s in (known.low, known.high)]
    between_days = words(" (", how("joint", str(dates[0])), " to ", how("joint", str(dates[1])), ")") if all(dates) else ()
    ends = words("; ends ", how("calendar", day.isoformat()), *between_days) if day else ()
    return value, words(*days, " days", *ends)


# ---------------------------------------------------------------------------------------------------- the plan


def chosen(case: Case) -> Section:
    plan = case.plan
    layout = plan.resolved()["layout"]
    fields = [(name, value) for name, value in attribution.flat(layout) if value not in (0.0, None)]
    rows = [[Name(name), _field(case, name, value)] for name, value in fields]
    blocks: list[Block] = [
        table("The layout, defaults and derived fields filled in", ("field of layout", "value"), rows)
    ]
    spec = plan.problem.spec
    blocks = [
        *whose(case),
        paragraph(
            f"{spec.model.name} on ",
            case.step("accelerators", f"{spec.cluster.accelerators:,}"),
            f" accelerators of {plan.problem.profile.name}, {plan.problem.stack.name}; a step is ",
            case.step("step_tokens"),
            ".",
        ),
        *blocks,
    ]
    noted = list(dict.fromkeys([*view.notes(case.given), *view.notes(plan)]))
    if noted:
        blocks += [
            paragraph("How the spec was read, and what was derived:"),
            Bullets(tuple(words(note) for note in noted)),
        ]
    return Section("plan", "Chosen plan", tuple(blocks))


def _field(case: Case, name: str, value: object) -> Span:
    shown = view.field_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return shown
    return case.step(name, shown) if name in case.plan.problem.leaves else how("field", shown)


# ---------------------------------------------------------------------------------------------------- time


def time_and_memory(case: Case) -> Section:
    plan = case.plan
    parts = view.time_rows(plan)
    rows = []
    for row, shown in zip([*parts, None], view.time_table(plan), strict=True):
        unit = next(name for name in ("s", "ms") if name in shown)
        name = "step_s" if row is None else row["part"]
        value = case.step(name, shown[unit]) if name else how("share", shown[unit])
        rows.append([shown["part"], value, how("share", shown["share"]), shown["what"]])
    blocks: list[Block] = [
        Figure(
            "Time of a step by part",
            f"Parts of a step of {units.show(plan.step_s, 's')}, one below the other; what is hidden is hatched and not added.",
            _time_chart(plan),
        ),
        table(
            "Where the time goes; the parts add up to the step, each number is rounded by itself",
            ("part", unit, "share", "what it is"),
            rows,
            (unit, "share"),
            True,
        ),
    ]
    beside = [row for row in waterfall.rows(plan) if row["kind"] == HIDDEN]
    hidden = spaced([words(f"{row['part']} ", how("hidden", view.time_shown(row["s"], plan.step_s))) for row in beside])
    blocks.append(paragraph("Communication beside compute, not added: ", *(hidden or ("none",)), "."))
    if idle := view.idle_parts(plan):
        blocks.append(paragraph(f"Nothing is spent on: {', '.join(idle)}."))
    return Section("time-memory", "Where time and memory go", (*whose(case), *blocks, *strip_figure(case), *_memory(case)))


def _time_chart(plan: Plan) -> Waterfall:
    rows = waterfall.rows(plan)
    bars = tuple(Bar(row["part"], row["start_s"], row["s"], view.time_shown(row["s"], plan.step_s), row["kind"]) for row in rows)
    legend = tuple((kind, f"{kind}, not added" if kind == HIDDEN else kind) for kind in palette.KINDS)
    return Waterfall(bars, max(row["end_s"] for row in rows), legend, frozenset((HIDDEN,)))


# ---------------------------------------------------------------------------------------------------- memory


def _memory(case: Case) -> list[Block]:
    plan = case.plan
    *groups, _ = view.memory_table(plan, MOST_RANKS)
    names = [_rank_name(group) for group in groups]
    rows: list[list[Span | Words]] = []
    for term in view.memory_terms(plan):
        label = view.label(term)
        rows.append([label, *(case.step(term, group[label]) for group in groups), TAGS[term]])
    rows += [
        ["micro-batches", *(case.step("in_flight_micro_batches", group["micro-batches"]) for group in groups), ""],
        ["room", *(how("difference", group["room"]) for group in groups), ""],
        ["total", *(case.step("rank_device_B", group["total"]) for group in groups), ""],
    ]
    shown: Table = table("Memory by pipeline rank, GiB", ("term", *names, "how known"), rows, names, True)
    left_out = view.ranks_left_out(plan, MOST_RANKS)
    peak, capacity = plan.value("peak_B"), plan.value("memory_B")
    line = paragraph(
        "The fullest rank needs ",
        case.step("peak_B"),
        " of ",
        case.step("memory_B"),
        " (",
        how("share", view.percent(peak / capacity)),
        "): ",
        *_interval(plan, "memory"),
        ". Allocated ",
        case.step("allocated_B"),
        ", reserved ",
        case.step("reserved_B"),
        ".",
    )
    note = paragraph(
        *((f"Of {len(plan.stages)} pipeline ranks, the fullest are shown. ",) if left_out else ()),
        "Room is capacity less the total without the allocator, which gives its reserve back when memory runs short; "
        "micro-batches are those in flight at the peak.",
    )
    figure = Figure(
        "Memory by pipeline rank against capacity",
        f"Stacked terms in GiB of each pipeline rank; the capacity is {units.show(capacity, 'B')}.",
        _memory_chart(plan, groups),
    )
    return [line, figure, shown, note]


def _rank_name(group: view.Row) -> str:
    return f"rank {group['rank']}" if group["rank"].isdigit() else f"ranks {group['rank']}"


def _memory_chart(plan: Plan, groups: list[view.Row]) -> Stacks:
    labels = {name: view.label(name) for name in view.memory_terms(plan)}
    totals = {
        name: sum(float(group[label]) for group in groups) for name, label in labels.items() if name != _GIVES_WAY
    }
    kept = sorted(totals, key=lambda name: -totals[name])[:_MOST_TERMS]
    rest = [name for name in totals if name not in kept]
    stacks = []
    for group in groups:
        sizes = [float(group[labels[name]]) for name in kept]
        sizes += [sum(float(group[labels[name]]) for name in rest)] if rest else []
        sizes += [float(group[labels[_GIVES_WAY]])] if _GIVES_WAY in labels else []
        stacks.append(Stack(_rank_name(group), tuple(sizes), f"{group['total']} GiB"))
    terms = [labels[name] for name in kept] + ["other"] * bool(rest) + ["allocator, gives way"] * (_GIVES_WAY in labels)
    capacity = plan.value("memory_B")
    return Stacks(tuple(stacks), tuple(terms), capacity / view.GiB, f"capacity {units.show(capacity, 'B')}")


# ---------------------------------------------------------------------------------------------------- traffic of the step


def traffic(case: Case) -> list[Block]:
    """Traffic of one step by class and level of the network."""
    if not case.plan.traffic:
        return [*whose(case, "Inside a site, of"), paragraph("Nothing is sent in a step: one rank.")]
    shown = view.traffic_table(case.plan)
    heads = tuple(shown[0])
    rows: list[list[Span | Words]] = [
        [row["class"], row["level"], *(case.step(TRAFFIC[row["class"]], row[head]) for head in heads[2:])]
        for row in shown
    ]
    shown_first = table("Traffic of one step, by class and network level", heads, rows, heads[2:])
    return [*whose(case, "First the traffic of"), shown_first]
