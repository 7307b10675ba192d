"""compare(A, B) -> Comparison: which of two plans is faster, how sure that is, what moved, and why.

Faster is more tokens a second: for equal batches that is the shorter step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesign.errors import SpecError
from codesign.planner import SCOPES, Confidence, Plan, plain, ranking_confidence
from codesign.search import attribution, provenance
from codesign.search.attribution import Change, Effect
from codesign.search.provenance import Difference
from codesign.spec.run import SECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from codesign.run import RunPlan

SCHEMA_VERSION = 1
REPEAT = 0.02  # the same configuration measured twice differs by about this: a smaller gap is no order
UNSURE = 2.0 / 3.0  # least confidence with which one of the two is called faster
MOST_CAUSES = 5
# of a run beyond its step: those that both runs have are compared
OF_A_RUN = (
    "run_wall_s", "run_tokens_per_s", "goodput", "failures_per_day", "run_accelerators", "run_accelerator_hours", "final_loss",
    "effective_FLOP", "sites_gain", "run_energy_J", "run_carbon_kg", "rental_cost", "failure_cost", "energy_cost",
)  # fmt: skip
OVER_SITES = ("phase_run_step_s", "phase_tokens_per_s")  # of the first phase, where both runs have sites
LEAST_CAUSE = 0.05  # share of all that moved, up or down, below which no cause is looked for


@dataclass(frozen=True)
class Move:
    """One number in both plans, in the unit of its name."""

    name: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True)
class Traffic:
    """Bytes that one accelerator sends in a step over one network level for one purpose, and its share of the link."""

    purpose: str
    level: str
    a_B: float
    b_B: float
    a_utilisation: float
    b_utilisation: float


@dataclass(frozen=True)
class Cause:
    """Why a part of the step moved: by which fields, through which quantities, and from which inputs that differ."""

    part: str
    difference_s: float
    effects: tuple[tuple[tuple[str, ...], float], ...]  # (fields, seconds of this part), largest first
    through: tuple[Difference, ...]  # quantities that it is computed from directly
    inputs: tuple[Difference, ...]  # given values, nearest first


@dataclass(frozen=True)
class Comparison:
    """Two plans side by side. Differences are B less A; seconds are those of one step."""

    a: Plan
    b: Plan
    figures: tuple[Move, ...]
    parts: tuple[Move, ...]  # their differences add up to that of `step_s`
    memory: tuple[Move, ...]  # terms of the fullest rank of each, in bytes; they add up to what the device holds
    fullest: tuple[int, int]
    traffic: tuple[Traffic, ...]
    changes: tuple[Change, ...]
    footing: tuple[Change, ...]  # inputs of the step that are of another kind, or in one plan only
    effects: tuple[Effect, ...]
    causes: tuple[Cause, ...]
    scope: str  # the widest thing in which they differ
    confidence: Confidence
    extrapolated: tuple[str, ...]  # why the measured pairs do not speak for these two
    runs: tuple[RunPlan, RunPlan] | None = None  # beyond the step, where both specs go there
    run: tuple[Move, ...] = ()
    given: tuple[Plan, Plan] | None = None  # the plans of the specs, where `a` or `b` is that of one of several sites

    @property
    def fits(self) -> tuple[bool, bool]:
        """Whether each is feasible: its step or, over sites, its run."""
        runs = self.runs or (None, None)
        one, other = (
            run.feasible if run is not None and run.has_sites else plan.feasible
            for plan, run in zip((self.a, self.b), runs, strict=True)
        )
        return one, other

    @property
    def over_sites(self) -> tuple[Move, Move] | None:
        """Step and tokens a second of the first phase over the sites, where both runs have sites."""
        found = {one.name: one for one in self.run}
        step, rate = OVER_SITES
        return (found[step], found[rate]) if step in found else None

    @property
    def difference_s(self) -> float:
        return self.b.step_s - self.a.step_s

    @property
    def gap(self) -> float:
        """ln(tokens a second of B / of A): above 0 where B is faster."""
        return _gap(self.a, self.b)

    @property
    def faster(self) -> str | None:
        """'A' or 'B' by prediction, None where both are predicted alike."""
        return None if self.gap == 0.0 else "B" if self.gap > 0.0 else "A"

    @property
    def decided(self) -> bool:
        """Whether the prediction is worth an answer: a gap above the scatter of a repeat, and some confidence."""
        return abs(self.gap) >= math.log1p(REPEAT) and self.confidence.share >= UNSURE

    def share(self, move: Move) -> float:
        """The share of a part in the whole move of the step; nan where the step stays."""
        return move.difference / self.difference_s if self.difference_s else math.nan

    def _of_site(self, at: int) -> dict[str, Any]:
        """Over sites: the verdict is that of the run."""
        run = self.runs[at] if self.runs is not None else None
        return {"feasible": run.feasible, "violations": list(run.violations)} if run is not None and run.has_sites else {}

    @property
    def frame(self) -> pd.DataFrame:
        """Parts of the step in both, difference in seconds, share of the whole move."""
        import pandas as pd

        return pd.DataFrame(self.part_rows())

    def part_rows(self) -> list[dict[str, Any]]:
        """The same as plain rows."""
        return [
            {"part": one.name, "a_s": one.a, "b_s": one.b, "difference_s": one.difference, "share_of_move": self.share(one)}
            for one in self.parts
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, SI base units, units in the keys."""
        return {
            "schema_version": SCHEMA_VERSION,
            "a": {**_identity((self.given or (self.a, self.b))[0]), **self._of_site(0)},
            "b": {**_identity((self.given or (self.a, self.b))[1]), **self._of_site(1)},
            "answer": {
                "faster": self.faster,
                "decided": self.decided,
                "tokens_per_s_ratio": math.exp(self.gap),
                "difference_s": self.difference_s,
                "confidence": self.confidence.share,
                "confidence_cell": self.confidence.cell,
                "confidence_pairs": self.confidence.pairs,
                "confidence_groups": self.confidence.groups,
                "extrapolated": list(self.extrapolated),
            },
            "figures": {one.name: {"a": one.a, "b": one.b, "difference": one.difference} for one in self.figures},
            "run": {one.name: {"a": one.a, "b": one.b, "difference": one.difference} for one in self.run} or None,
            "run_violations": None if self.runs is None else [list(one.violations) for one in self.runs],
            "parts": self.part_rows(),
            "effects": [
                {
                    "fields": list(one.fields), "mean_s": one.mean_s, "forward_s": one.forward_s, "backward_s": one.backward_s,
                    "parts_s": dict(one.parts_s),
                }
                for one in self.effects
            ],
            "causes": [_cause(one) for one in self.causes],
            "memory": {
                "fullest_rank": {"a": self.fullest[0], "b": self.fullest[1]},
                "terms": [{"term": m.name, "a_B": m.a, "b_B": m.b, "difference_B": m.difference} for m in self.memory],
            },
            "traffic": [
                {
                    "class": one.purpose, "level": one.level, "a_B_per_accelerator": one.a_B, "b_B_per_accelerator": one.b_B,
                    "a_utilisation": one.a_utilisation, "b_utilisation": one.b_utilisation,
                }
                for one in self.traffic
            ],
            "changes": [{"field": one.field, "a": one.a, "b": one.b} for one in self.changes],
            "footing": [{"input": one.field, "a": one.a, "b": one.b} for one in self.footing],
        }  # fmt: skip


def compare(a: Plan, b: Plan, runs: tuple[RunPlan, RunPlan] | None = None) -> Comparison:
    """What moved from plan A to plan B, and why; of their `runs` what moved. Raises SpecError for plans set by hand."""
    for name, one in (("A", a), ("B", b)):
        if one.overrides:
            fixed = ", ".join(one.overrides)
            raise SpecError(f"plan {name} has {fixed} set by hand: what is compared must follow from the specs alone")
    changes, effects = attribution.changes(a, b), attribution.attribute(a, b)
    parts = tuple(Move(name, a.parts[name], b.parts[name]) for name in a.parts)
    scope = _scope(changes)
    memory, fullest = _memory(a, b)
    return Comparison(
        a, b, _figures(a, b), parts, memory, fullest, _traffic(a, b), changes, _footing(a, b), effects,
        _causes(a, b, parts, effects), scope, ranking_confidence(scope, _kind(a, b), _gap(a, b)), _extrapolated(a, b, scope),
        runs, () if runs is None else _run_moves(*runs),
    )  # fmt: skip


def _gap(a: Plan, b: Plan) -> float:
    return math.log(b.value("job_tokens_per_s")) - math.log(a.value("job_tokens_per_s"))


# ---------------------------------------------------------------------------------------------------- how sure


def _scope(changes: Sequence[Change]) -> str:
    """The widest of SCOPES in which two specs differ."""
    order = list(SCOPES)
    silent = (*attribution.WITHOUT_EFFECT, *SECTIONS)
    fields = [change.field for change in changes if not {change.field, change.field.partition(".")[0]} & set(silent)]
    found = [_scope_of(field) for field in fields]
    return max(found, key=order.index, default=order[0])


def _scope_of(field: str) -> str:
    if field.startswith("training.precision"):
        return "precision"
    if field in ("training.sequence_length", "training.global_batch_sequences", "cluster.accelerators"):
        return "size"
    return {"layout": "layout", "model": "model", "training": "model"}.get(field.partition(".")[0], "other")


def _kind(a: Plan, b: Plan) -> str:
    kinds = {"moe" if plan.problem.spec.model.moe else "dense" for plan in (a, b)}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _extrapolated(a: Plan, b: Plan, scope: str) -> tuple[str, ...]:
    found = [plan.step_interval.extrapolated for plan in (a, b) if plan.step_interval.extrapolated]
    if scope == "other":
        found.append("they differ in hardware or software, where our errors have less in common")
    return tuple(dict.fromkeys(found))


# ---------------------------------------------------------------------------------------------------- what moved


def _figures(a: Plan, b: Plan) -> tuple[Move, ...]:
    names = ("step_s", "job_tokens_per_s", "step_tokens", "mfu", "hfu", "peak_B", "memory_B")
    moves = {name: Move(name, a.value(name), b.value(name)) for name in names}
    rate, need, room = moves["job_tokens_per_s"], moves["peak_B"], moves["memory_B"]
    sizes = [plan.problem.spec.cluster.accelerators for plan in (a, b)]
    moves["accelerator_tokens_per_s"] = Move("accelerator_tokens_per_s", rate.a / sizes[0], rate.b / sizes[1])
    moves["headroom_B"] = Move("headroom_B", room.a - need.a, room.b - need.b)
    moves["feasible"] = Move("feasible", float(a.feasible), float(b.feasible))
    return tuple(moves.values())


def _run_moves(a: RunPlan, b: RunPlan) -> tuple[Move, ...]:
    there = [{key[0] if isinstance(key, tuple) else key for key in dict(made.values)} for made in (a, b)]
    found = [Move(name, a.value(name), b.value(name)) for name in OF_A_RUN if name in there[0] & there[1]]
    if a.has_sites and b.has_sites:
        first = [next(iter(run.steps)) for run in (a, b)]
        over = [Move(name, a.value(f"{name}[{first[0]}]"), b.value(f"{name}[{first[1]}]")) for name in OVER_SITES]
        found = [*over, *found]
    return tuple(found)


def _memory(a: Plan, b: Plan) -> tuple[tuple[Move, ...], tuple[int, int]]:
    one, other = (max(plan.stages, key=lambda stage: stage["needed_B"]) for plan in (a, b))
    moves = (Move(name, value, other["terms_B"][name]) for name, value in one["terms_B"].items())
    return tuple(move for move in moves if move.a or move.b), (one["rank"], other["rank"])


def _traffic(a: Plan, b: Plan) -> tuple[Traffic, ...]:
    sent: list[dict[tuple[str, str], tuple[float, float]]] = []
    for plan in (a, b):
        ranks = plan.value("ranks_per_accelerator")
        sent.append({(r["class"], r["level"]): (r["sent_B_per_rank"] * ranks, r["utilisation"]) for r in plan.traffic})
    nothing = (0.0, 0.0)
    rows = []
    for key in dict.fromkeys([*sent[0], *sent[1]]):
        (a_B, a_share), (b_B, b_share) = sent[0].get(key, nothing), sent[1].get(key, nothing)
        rows.append(Traffic(*key, a_B, b_B, a_share, b_share))
    return tuple(rows)


def _footing(a: Plan, b: Plan) -> tuple[Change, ...]:
    kinds = []
    for plan in (a, b):
        under = plan.program.depends["step_s", None]
        kinds.append({name: leaf.kind for name, leaf in plan.problem.leaves.items() if name in under})
    names = dict.fromkeys([*kinds[0], *kinds[1]])
    pairs = ((name, kinds[0].get(name), kinds[1].get(name)) for name in names)
    return tuple(Change(name, one, other) for name, one, other in pairs if one != other)


# ---------------------------------------------------------------------------------------------------- why


def _causes(a: Plan, b: Plan, parts: Sequence[Move], effects: Sequence[Effect]) -> tuple[Cause, ...]:
    """The parts that moved most, each with what moved it."""
    whole = sum(abs(move.difference) for move in parts)
    moved = [move for move in parts if whole and abs(move.difference) >= LEAST_CAUSE * whole]
    moved = sorted(moved, key=lambda move: -abs(move.difference))[:MOST_CAUSES]
    found = []
    for move in moved:
        under = provenance.differences(a, b, (move.name, None))
        by = [(effect.fields, effect.parts_s[move.name]) for effect in effects if effect.parts_s[move.name]]
        found.append(Cause(
            move.name, move.difference, tuple(sorted(by, key=lambda pair: -abs(pair[1]))),
            tuple(one for one in under if one.depth == 1 and not one.given), tuple(one for one in under if one.given),
        ))  # fmt: skip
    return tuple(found)


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "part": cause.part,
        "difference_s": cause.difference_s,
        "effects": [{"fields": list(fields), "mean_s": value} for fields, value in cause.effects],
        "through": [_difference(one) for one in cause.through],
        "inputs": [_difference(one) for one in cause.inputs],
    }


def _difference(one: Difference) -> dict[str, Any]:
    name = f"{one.name}[{one.member}]" if one.member else one.name
    return {"name": name, "unit": one.unit, "depth": one.depth, "a": plain(one.a), "b": plain(one.b)}


def _identity(plan: Plan) -> dict[str, Any]:
    spec = plan.problem.spec
    return {
        "name": spec.name or spec.model.name, "spec_hash": plan.spec_hash, "feasible": plan.feasible,
        "violations": list(plan.violations),
    }  # fmt: skip
