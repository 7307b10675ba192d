"""A plan beside what it could be: the step with a field changed, or with a quantity fixed, at equal model FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codesign import planner
from codesign.errors import SpecError
from codesign.spec import load as loader
from codesign.spec import resolve, schema

TARGETS = ("step_s", "token_model_FLOP", "step_tokens", "job_tokens_per_s", "feasible")


@dataclass(frozen=True)
class Case:
    """One spec, evaluated: every value under its step."""

    problem: resolve.Problem

    @cached_property
    def values(self) -> Mapping[Any, Any]:
        return planner.evaluate([self.problem], TARGETS)

    @property
    def spec(self) -> schema.Spec:
        return self.problem.spec

    def scalar(self, name: str) -> float:
        """One number by the name of its quantity or leaf."""
        key = (name, None)
        return float(np.ravel(self.values[key] if key in self.values else self.values[name])[0])

    @property
    def step_s(self) -> float:
        return self.scalar("step_s")

    @property
    def step_FLOP(self) -> float:
        """Model FLOPs of one step, whole job."""
        return self.scalar("token_model_FLOP") * self.scalar("step_tokens")

    @property
    def feasible(self) -> bool:
        return bool(self.scalar("feasible"))

    def step_with_s(self, overrides: Mapping[str, Any]) -> float:
        """The step with quantities fixed."""
        values = planner.evaluate([self.problem], ("step_s",), overrides)
        return float(np.ravel(values[("step_s", None)])[0])

    def changed(self, fields: Mapping[str, Any]) -> Case | None:
        """The same run with dotted fields changed, or None where that is no valid spec."""
        spec = self.spec
        for name, value in fields.items():
            spec = with_field(spec, name, value)
        return case_or_none(spec)

    def saves_s(self, other: Case, *, same_work: bool = True) -> float:
        """Seconds a step that `other` saves; at equal model FLOPs, unless what it adds is not wanted work."""
        return self.step_s - other.step_s * (self.step_FLOP / other.step_FLOP if same_work else 1.0)


def case_of(given: planner.Plan | loader.Loaded | schema.Spec | str | Path | Mapping[str, Any]) -> Case:
    """A plan, a spec in any of its forms, as a case. A plan with overrides is refused: it is a counterfactual itself."""
    if isinstance(given, planner.Plan):
        if given.overrides:
            raise SpecError(f"a plan with {', '.join(given.overrides)} set by hand cannot be priced: give it without")
        return Case(given.problem)
    if isinstance(given, schema.Spec):
        return Case(resolve.resolve(given))
    loaded = given if isinstance(given, loader.Loaded) else loader.load(given)
    try:
        return Case(resolve.resolve(loaded.spec))
    except SpecError as error:
        if error.place is None and error.field:
            raise loader.error_at(loaded, error.field, error.message) from None
        raise


def case_or_none(spec: schema.Spec) -> Case | None:
    """The case, or None where the spec contradicts itself or has no finite step."""
    try:
        case = Case(resolve.resolve(spec))
        return case if math.isfinite(case.step_s) else None
    except SpecError:
        return None


def with_field(section: Any, name: str, value: Any) -> Any:
    """A copy of a spec or of one of its sections with the dotted field `name` set to a value of its type."""
    head, _, rest = name.partition(".")
    inner = with_field(getattr(section, head), rest, value) if rest else value
    return section.model_copy(update={head: inner})
