"""Risks and the ladder that narrows them, assumptions with their owners, open questions, signatures, the spec itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codesign import __version__, planner, units
from codesign.report import over_sites, view
from codesign.report.review.cited import Case, how
from codesign.report.review.document import (
    Block,
    Bullets,
    Folded,
    Listing,
    Name,
    Section,
    Span,
    Words,
    paragraph,
    table,
    words,
)
from codesign.report.run_outcome import size_text
from codesign.run import RunPlan
from codesign.search import result
from codesign.spec import load, resolve, stacks
from codesign.spec.review import Assumption

# ---------------------------------------------------------------------------------------------------- risks


def risks(case: Case) -> Section:
    """What the plan is least sure of, and the smaller runs that would tell."""
    run, plan = case.run, case.plan
    found = [
        words(f"{what}: extrapolated, {band.extrapolated}")
        for what, band in (("step time", plan.step_interval), ("memory", plan.memory_interval))
        if band.extrapolated
    ]
    high_B, capacity_B = plan.memory_interval.high, plan.value("memory_B")
    if plan.feasible and math.isfinite(high_B) and high_B > capacity_B:
        found.append(
            words(
                f"memory{case.place}: the 80 % interval reaches ", how("interval", units.show(high_B, "B")), ", more than the ",
                case.step("memory_B"), " of the device; a small run tells",
            )
        )
    if run is not None:
        found += [words(note) for note in dict.fromkeys(run.inputs.notes)]
    found.append(
        words(
            "inputs that are assumed: ", how("footing", str(_count(case, "assumed"))), " under the plan, listed below"
        )
    )
    blocks: list[Block] = [Bullets(tuple(found))]
    if run is None:
        blocks.append(
            paragraph(
                "For a ladder of smaller runs with their thresholds add ",
                Name("run: {loss: {}, ladder: {}}"),
                " and ",
                Name("training.tokens"),
                " to the spec.",
                tone="note",
            )
        )
    else:
        blocks += _ladder(run)
    return Section("risks", "Risks and the de-risking ladder", tuple(blocks))


def _count(case: Case, kind: str) -> int:
    leaves = [*view.used_leaves(case.plan).values(), *(case.run.inputs.leaves.values() if case.run else ())]
    return sum(leaf.kind == kind for leaf in leaves)


def _ladder(run: RunPlan) -> list[Block]:
    from codesign.decisions import ladder as ladders

    made = ladders.ladder(run)
    out: list[Block] = [
        paragraph(
            "The ladder takes ",
            how("ladder", f"{made.accelerator_hours:,.0f}"),
            " accelerator-hours, ",
            how("ladder", view.percent(made.share_of_run)),
            " of the run",
            *((", cost ", how("ladder", f"{made.cost:,.0f}")) if made.cost is not None else ()),
            ".",
        )
    ]
    if made.uncertainties:
        unsure = [
            [one.what, how("ladder", f"{one.factor:.2f}"), one.from_, f"{one.tested_by} rungs"]
            for one in made.uncertainties
        ]
        out.append(
            table(
                "What the plan is not sure of, as a factor either way",
                ("what", "factor", "from", "tested by"),
                unsure,
                ("factor",),
            )
        )
    if made.loss_rungs:
        rows = [
            _cells(
                f"{one.compute_FLOP:.2g} FLOP",
                size_text(one.parameters),
                size_text(one.tokens),
                f"{one.accelerators:,}",
                f"{one.run_s / 3600.0:.0f}",
                f"{one.loss:.3f}",
                "-" if one.high is None else f"{one.high:.3f}",
            )
            for one in made.loss_rungs
        ]
        rungs = ("loss run", "parameters", "tokens", "accelerators", "hours", "loss", "go up to")
        out.append(table("Rungs of loss", rungs, rows, rungs))
    if made.system_rungs:
        rows = [
            _cells(
                f"{one.accelerators:,}",
                f"{one.dp}",
                f"{one.global_batch_sequences:,}",
                units.show(one.step_s, "s"),
                units.show(one.high_s, "s"),
                f"{one.full_over_this:.3f}",
            )
            for one in made.system_rungs
        ]
        steps = ("accelerators", "dp", "batch", "step", "go up to", "full step over this")
        out.append(table("Rungs of the step", steps, rows, steps))
    said = [*made.go, *made.notes]
    return [*out, Bullets(tuple(words(text) for text in said))] if said else out


def _cells(*texts: str) -> list[Span | Words]:
    return [how("ladder", text) for text in texts]


# ---------------------------------------------------------------------------------------------------- assumptions


def assumptions(case: Case) -> Section:
    """How inputs are known, every assumed one with its source and who answers for it, and what else has an owner."""
    owned = _owned(case)
    rows: list[list[Span | Words]] = [
        [
            row["kind"],
            how("footing", row["under the step time"]),
            how("footing", row["under the whole plan"]),
            how("footing", str(sum(leaf.kind == row["kind"] for leaf in case.run.inputs.leaves.values())))
            if case.run
            else "-",
        ]
        for row in view.kind_table(case.plan)
    ]
    heads = ("kind", "under the step time", "under the whole step plan", "under the run")
    blocks: list[Block] = [table("Inputs by how they are known, weakest first", heads, rows, heads[1:])]
    blocks.append(_assumed(case, owned))
    others = [one for one in case.review.assumptions if one.input not in {name for name, *_ in _assumed_leaves(case)}]
    if others:
        cells = [[_linked(case, one.input), _kind(case, one.input), *_people(one)] for one in others]
        blocks.append(
            table("Other inputs that somebody answers for", ("input", "kind", "owner", "date", "note"), cells)
        )
    if not case.review.assumptions:
        blocks.append(
            paragraph(
                "No input has an owner: add ",
                Name("review.assumptions"),
                ", for example ",
                Name("[{input: straggler_per_doubling, owner: A. Name, date: 2027-01-31}]"),
                ".",
                tone="note",
            )
        )
    cited = view.citations(case.plan)
    if cited:
        blocks.append(
            Folded(
                f"The {len(cited)} sources by their keys",
                (Bullets(tuple(words(f"{key}: {said}") for key, said in cited.items())),),
            )
        )
    return Section("assumptions", "Assumptions", tuple(blocks))


def _assumed_leaves(case: Case) -> list[tuple[str, resolve.Leaf, str]]:
    """Name, leaf and key of every assumed input; neighbours are of one source."""
    found = [
        (name, leaf, f"step:{name}") for name, leaf in view.used_leaves(case.plan).items() if leaf.kind == "assumed"
    ]
    if case.run is not None:
        found += [
            (name, leaf, f"run:{name}") for name, leaf in case.run.inputs.leaves.items() if leaf.kind == "assumed"
        ]
    return sorted(found, key=lambda one: (one[1].source, one[0], one[2]))


def _assumed(case: Case, owned: dict[str, Assumption]) -> Block:
    rows: list[list[Span | Words]] = []
    for name, leaf, key in _assumed_leaves(case):
        text = units.show(leaf.value, units.suffix(name.partition("[")[0]))
        number = case.step(name, text) if key.startswith("step:") else case.of_run(name, text)
        rows.append([Name(name), number, leaf.source, *(_people(owned.get(name)) if owned else ())])
    heads = ("input", "value", "source", *(("owner", "date", "note") if owned else ()))
    return table(f"The {len(rows)} assumed inputs", heads, rows, ("value",))


def _people(one: Assumption | None) -> list[Span | Words]:
    if one is None:
        return ["", "", ""]
    return [one.owner or "", one.date.isoformat() if one.date else "", one.note or ""]


def _owned(case: Case) -> dict[str, Assumption]:
    return {one.input: one for one in case.review.assumptions}


def _linked(case: Case, name: str) -> Span:
    return case.step(name, name) if name in case.plan.problem.leaves else case.of_run(name, name)


def _kind(case: Case, name: str) -> str:
    leaf = case.plan.problem.leaves.get(name) or (case.run.inputs.leaves[name] if case.run else None)
    assert leaf is not None
    return leaf.kind


def check_names(loaded: load.Loaded, plan: planner.Plan, run: RunPlan | None) -> None:
    """Refuse an assumption about an input that the plan does not have, at its place, with the nearest name."""
    known = {*view.used_leaves(plan), *(run.inputs.leaves if run else ())}
    for at, one in enumerate(loaded.spec.review.assumptions if loaded.spec.review else ()):
        if one.input not in known:
            name = f"review.assumptions.{at}.input"
            raise load.error_at(
                loaded,
                name,
                f"{name}: this plan has no input {one.input!r}.{load.did_you_mean(one.input, sorted(known))}",
            )


# ---------------------------------------------------------------------------------------------------- people


def questions(case: Case) -> Section:
    found = case.review.open_questions
    if not found:
        return Section(
            "questions",
            "Open questions",
            (paragraph("None is stated: add ", Name("review.open_questions"), " to the spec.", tone="note"),),
        )
    return Section("questions", "Open questions", (Bullets(tuple(words(text) for text in found)),))


def sign_off(case: Case) -> Section:
    found = case.review.sign_off
    blocks: list[Block] = []
    if not found:
        blocks.append(
            paragraph(
                "Nobody is asked to sign: add ",
                Name("review.sign_off"),
                ", for example ",
                Name("[{role: systems lead, name: A. Name, date: 2027-01-31}]"),
                ".",
                tone="note",
            )
        )
    rows: Sequence[Sequence[Span | Words]] = [
        [one.role, one.name or "", one.date.isoformat() if one.date else ""] for one in found
    ]
    blocks.append(table("Sign-off", ("role", "name", "date"), rows or [["nobody yet", "", ""]]))
    return Section("sign-off", "Sign-off", tuple(blocks))


# ---------------------------------------------------------------------------------------------------- spec and manifest


def spec(case: Case) -> Section:
    return Section(
        "spec",
        "Resolved spec and manifest",
        (
            table(
                "Manifest: the same lines give the same bytes",
                ("what", "value"),
                [[name, Name(value)] for name, value in manifest(case).items()],
            ),
            Folded(
                "The whole spec, with preset, defaults and derived fields filled in",
                (Listing(view.resolved_yaml(case.given), "yaml"),),
            ),
        ),
    )


def _profiles(case: Case) -> dict[str, str]:
    """The profile, or that of every site, with its hash."""
    plans = over_sites.plans(case.sites) if case.sites is not None else {"": case.plan}
    kinds = {result.profile_hash(plan.problem.profile): plan.problem.profile.name for plan in plans.values()}
    if len(kinds) == 1:
        ((digest, name),) = kinds.items()
        return {"profile": name, "profile hash": digest}
    return {f"profile hash, {name}, {at}": digest for at, (digest, name) in enumerate(kinds.items(), 1)}


def manifest(case: Case) -> dict[str, str]:
    """Versions and hashes of everything that the numbers rest on; no date, no machine."""
    hashes = {
        name: result.file_hash(stacks.DATA / name)
        for name in ("constants.yaml", "stacks.yaml", "error_model.json", "nearest.json")
    }
    return {
        "codesign": __version__,
        "numpy": np.__version__,
        "spec hash": case.given.spec_hash,
        **_profiles(case),
        **{f"{name} hash": digest for name, digest in hashes.items()},
    }


__all__ = ["assumptions", "check_names", "manifest", "questions", "risks", "sign_off", "spec"]
