"""run_plan(plan) -> RunPlan: from the step of a plan to the run, through quantities of the same kind.

A run graph is evaluated over arrays as a step graph is: one run is a batch of one, a sweep of ten thousand is one call.
Its leaves are what the steps of the phases and sites give, and what the `run:`, `sites:` and `links:` sections say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import graph, planner, site_failures, sites, units
from codesign.errors import SpecError
from codesign.outcome import leaves as outcome
from codesign.outcome import phases as stretches
from codesign.quantities.beyond import TARGETS
from codesign.quantities.parameters import count_parameters
from codesign.spec import goodput, load, resolve, schema

Array = NDArray[np.float64]

@dataclass
class Inputs:
    """What a run graph is evaluated on: numbers with their source, index sets, and structure."""

    leaves: dict[str, resolve.Leaf] = field(default_factory=dict)
    indexes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    structure: dict[str, Any] = field(default_factory=dict)
    targets: list[str] = field(default_factory=lambda: list(TARGETS))
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: float, kind: str, source: str) -> None:
        self.leaves[name] = resolve.Leaf(float(value), kind, source)


@dataclass(frozen=True)
class RunPlan:
    """One run: every number, where it comes from.

    `steps`: the plan of each phase's step; over sites, that of the site which is last. `templates`: the plans of the
    phases on `cluster` as written; without sites they are the steps.
    """

    spec: schema.Spec
    steps: Mapping[str, planner.Plan]
    templates: Mapping[str, planner.Plan]
    inputs: Inputs
    program: graph.Program
    values: Mapping[Any, Any]

    def value(self, name: str) -> float:
        """A scalar quantity or leaf by name; `name[member]` for an indexed one."""
        base, _, member = name.partition("[")
        key: Any = (base, member.rstrip("]") or None)
        if key not in self.values:
            key = name
        if key not in self.values:
            raise SpecError(f"no quantity {name!r} in this run", field=name)
        return float(np.ravel(self.values[key])[0])

    def parts(self, name: str) -> dict[str, float]:
        """The parts of a total; they add up to it."""
        return {part: self.value(part) for part in graph.REGISTRY[name].parts}

    def explain(self, name: str, depth: int = 3) -> graph.Explanation:
        """The tree under a quantity: equation, inputs with their values, sources."""
        base, _, member = name.partition("[")
        key: Any = (base, member.rstrip("]") or None)
        return self.explain_key(key if key in self.values else name, depth)

    def explain_key(self, key: Any, depth: int = 3) -> graph.Explanation:
        """The same of a value under its key: a name and a member, or the name of an input."""
        if isinstance(key, tuple):
            return graph.explain(self.program, self.values, key, leaf_source=self._source, depth=depth)
        unit = units.suffix(key.partition("[")[0])
        return graph.Explanation(key, None, unit, self.values[key], "", self._source(key), (), "leaf")

    def asked(self, name: str) -> RunPlan:
        """The same with one more quantity, where the spec says what it needs; else as it is."""
        if name not in graph.REGISTRY or any(key[0] == name for key in self.values if isinstance(key, tuple)):
            return self
        values = leaf_values(self.inputs)
        try:
            program = graph.program((*self.inputs.targets, name), self.inputs.indexes, values)
        except (graph.MissingInput, KeyError):  # an input, or an index set, of a section that is left out
            return self
        return replace(self, program=program, values=program.run(values))

    def _source(self, name: str) -> str:
        leaf = self.inputs.leaves.get(name)
        return f"{leaf.kind}: {leaf.source}" if leaf else "structure of the run"

    @property
    def violations(self) -> tuple[str, ...]:
        """One message for each step that is not feasible and each constraint of the run that does not hold."""
        broken = [*self.step_violations]
        for name in self.inputs.targets:
            message = graph.REGISTRY[name].message
            if message is not None and not self.value(name):
                broken.append(message(self.values))
        return tuple(broken)

    @property
    def step_violations(self) -> tuple[str, ...]:
        """One message for each step that is not feasible, on every site where there are sites; equal sites speak once."""
        return tuple(f"{where}: {text}" for where, plan in self.step_plans.items() for text in plan.violations)

    @property
    def step_plans(self) -> dict[str, planner.Plan]:
        """The plan of every phase's step, on every different site where there are sites, by the words for where that is."""
        if not self.has_sites:
            return {f"phase {name}": plan for name, plan in self.steps.items()}
        return {
            f"site {name}, phase {phase}": plan
            for phase, found in self.inputs.structure["site_steps"].items()
            for name, plan in sites.different(found).items()
        }

    @property
    def has_sites(self) -> bool:
        """Whether the steps are those of `sites:`, one or several, and not of `cluster:`."""
        return "site_steps" in self.inputs.structure

    @property
    def feasible(self) -> bool:
        return not self.violations

    def to_dict(self) -> dict[str, Any]:
        """Targets of the run, SI base units, units in the keys; those of an index set and of phases as mappings and lists."""
        return {name: self._plain(name) for name in self.inputs.targets}

    def _plain(self, name: str) -> Any:
        over = graph.REGISTRY[name].over
        if over is not None:
            return {member: _plain(self.values[(name, member)]) for member in self.inputs.indexes[over]}
        return _plain(self.values[(name, None)])


def _plain(value: Any) -> Any:
    """A number, or a list of them; none where it has no bound."""
    numbers = [float(one) if np.isfinite(one) else None for one in np.ravel(value)]
    return numbers[0] if len(numbers) == 1 else numbers


def run_plan(plan: planner.Plan) -> RunPlan:
    """The run of a plan whose spec has a `run:` section or several sites. Raises SpecError for what contradicts itself."""
    return of_templates(plan.problem.spec, stretches.step_plans(plan))


def of_templates(spec: schema.Spec, templates: Mapping[str, planner.Plan]) -> RunPlan:
    """The run of a spec whose phases are planned on its `cluster` already; sites, links and sync may be others."""
    made = inputs(spec, templates)
    values = leaf_values(made)
    program = graph.program(made.targets, made.indexes, values)
    return RunPlan(spec, paced(made, templates), templates, made, program, program.run(values))


def run_of(loaded: load.Loaded, plan: planner.Plan) -> RunPlan | None:
    """The run of a loaded spec and its plan; none where the spec asks for a step only. Errors name their place."""
    if loaded.spec.run is None and not loaded.spec.sites:
        return None
    try:
        return run_plan(plan)
    except SpecError as error:
        if error.place is None and error.field:
            raise load.error_at(loaded, error.field, error.message) from None
        raise


def inputs(spec: schema.Spec, steps: Mapping[str, planner.Plan]) -> Inputs:
    """Leaves and index sets of a run; each section adds its own."""
    made = Inputs()
    tokens = spec.training.tokens
    if tokens is None:
        raise SpecError("a run needs training.tokens, the tokens it is trained on", field="training.tokens")
    made.indexes["phase"] = tuple(steps)
    shares = stretches.shares(spec, steps)
    for name, plan in steps.items():
        made.put(f"phase_share[{name}]", shares[name], "spec", "run.phases" if len(steps) > 1 else "training.tokens")
        made.put(f"phase_step_tokens[{name}]", plan.value("step_tokens"), "spec", "training")
        made.put(f"phase_healthy_step_s[{name}]", plan.step_s, plan.footing[0], "step_s of the plan")
        made.put(f"phase_sync_exposed_s[{name}]", 0.0, "spec", "one site")
    made.put("run_tokens", tokens, "spec", "training.tokens")
    made.put("run_accelerators", spec.cluster.accelerators, "spec", "cluster.accelerators")
    made.put("goodput", 1.0, "assumed", "no run.failures: nothing fails")
    made.put("other_share", 0.0, "assumed", "nothing else uses the cluster")
    sites.leaves(spec, made, steps)
    pacing = paced(made, steps)
    if spec.run is not None and spec.run.failures is not None:
        del made.leaves["goodput"]
        counted = count_parameters(spec.model)
        one = next(iter(pacing.values()))
        group = site_failures.group(made)
        share = group.share if group else 1.0
        goodput.leaves(made, spec.run, one.problem, float(counted.total + counted.mtp), one.step_s, share)
        if group:
            site_failures.put(spec, made, group)
        goodput.beyond_evidence(made, one.problem)
    outcome.put(spec, pacing, made)
    return made


def paced(made: Inputs, steps: Mapping[str, planner.Plan]) -> Mapping[str, planner.Plan]:
    """The step of each phase on the site that is last, where there are sites: it is what an accelerator does."""
    own = made.structure.get("site_steps")
    if own is None:
        return steps
    return {phase: found.plans[found.pacing] for phase, found in own.items()}


def leaf_values(made: Inputs, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arrays of one run; `overrides` put arrays in the place of leaves for a sweep over runs."""
    values: dict[str, Any] = dict(made.structure)
    values.update({name: np.array([leaf.value]) for name, leaf in made.leaves.items()})
    for name, value in (overrides or {}).items():
        if name not in made.leaves:
            raise SpecError(f"{name!r} is not an input of this run", field=name)
        values[name] = np.asarray(value, dtype=np.float64)
    return values


def evaluate(made: Inputs, axes: Mapping[str, Array], targets: Sequence[str] | None = None) -> dict[Any, Any]:
    """All values of many runs at once: every array of `axes` replaces a leaf; they broadcast together."""
    values = leaf_values(made, axes)
    return graph.program(tuple(targets or made.targets), made.indexes, values).run(values)


__all__ = ["Inputs", "RunPlan", "evaluate", "inputs", "leaf_values", "paced", "run_of", "run_plan"]
