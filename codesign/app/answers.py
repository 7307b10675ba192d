"""From what is asked to the answer: document, checked spec, plan, run, or the fault that stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codesign import errors
from codesign.app import specs
from codesign.app.specs import Fault
from codesign.planner import Plan
from codesign.planner import plan as make_plan
from codesign.report import over_sites
from codesign.run import RunPlan, run_of
from codesign.spec.load import Document, Loaded


@dataclass(frozen=True)
class Solved:
    """The plan of a spec, and its run where the spec asks for one."""

    plan: Plan
    run: RunPlan | None

    @property
    def step(self) -> Plan:
        """The plan whose step is looked into: over sites that of the slowest."""
        return over_sites.shown(self.plan, self.run)


@dataclass(frozen=True)
class Answer:
    """What one spec gives. Where there is a fault, what came before it is there all the same: a plan whose run is refused."""

    document: Document | None = None
    loaded: Loaded | None = None
    solved: Solved | None = None
    fault: Fault | None = None


def answer(text: str, changes: Sequence[tuple[str, str]] = ()) -> Answer:
    """The answer to a spec with some fields changed. What is wrong in the spec is a fault, never an exception."""
    found: Document | None = None
    loaded: Loaded | None = None
    solved: Solved | None = None
    try:
        found = specs.document(text, changes)
        loaded = specs.checked(found)
        solved = Solved(make_plan(loaded), None)
        return Answer(found, loaded, Solved(solved.plan, run_of(loaded, solved.plan)))
    except errors.CodesignError as error:
        return Answer(found, loaded, solved, specs.fault_of(error))
