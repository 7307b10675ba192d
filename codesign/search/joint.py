"""The layout search as a function: the best layout of a changed model, or on changed hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from codesign import planner
from codesign.search import run, space
from codesign.search.result import Candidate, Result
from codesign.spec import domains, schema


@dataclass(frozen=True)
class Chosen:
    """The best layout of one spec."""

    step_s: float
    tokens_per_s: float
    layout: Mapping[str, Any]


class Chooser:
    """Searches the layouts of one open spec again and again, with another model or scaled leaves."""

    def __init__(
        self, opened: domains.Open, workers: int = 1, report: Callable[[int, int], None] | None = None
    ) -> None:
        """`report` is told of each search how many layouts are done, of how many."""
        section = opened.search.model_copy(update={"objectives": ("step_s",), "best": 1, "within": 0.0})
        spec = opened.spec.model_copy(update={"search": section})
        self.opened = replace(opened, base=replace(opened.base, spec=spec))
        self.workers = workers
        self.report = report or (lambda done, total: None)
        self._space: space.Space | None = None

    @cached_property
    def base(self) -> Candidate | None:
        """The best layout as things are."""
        return self.best()

    def best(self, spec: schema.Spec | None = None, scale: Mapping[str, float] | None = None) -> Candidate | None:
        """The best layout under the spec's model and training (default: its own), with leaves scaled by name."""
        held = self._held(spec)
        found = run.search(
            held, workers=self.workers, scale=scale, report=lambda now: self.report(now.candidates, held.size)
        )
        self.report(held.size, held.size)
        result = Result(held, found)
        return result.best[0] if result.best else None

    def _held(self, spec: schema.Spec | None) -> space.Space:
        if spec is None:
            if self._space is None:
                self._space = space.of(self.opened)
            return self._space
        own = self.opened.spec
        changed = spec.model_copy(update={"layout": own.layout, "cluster": own.cluster, "search": own.search})
        return space.of(replace(self.opened, base=replace(self.opened.base, spec=changed)))

    def of_spec(self, spec: schema.Spec) -> Chosen | None:
        """What `shapes` asks for: the best layout of a changed model."""
        found = self.best(spec)
        if found is None:
            return None
        return Chosen(found.plan.step_s, found.plan.value("job_tokens_per_s"), self._layout(found))

    def _layout(self, found: Candidate) -> dict[str, Any]:
        """What was chosen: the layout, the global batch, and of the cluster what is in use where that is not all of it."""
        used = found.space.spec(found.index).cluster
        own = self.opened.spec.cluster
        changed = {name: value for name, value in dict(used).items() if value != getattr(own, name)}
        layout = {**found.layout, "global_batch_sequences": found.fields[domains.BATCH]}
        return {**layout, "cluster": changed} if changed else layout

    def rechoose(self, scale: Mapping[str, float]) -> tuple[float, Mapping[str, Any]] | None:
        """What `sensitivity` asks for: the step of the best layout on scaled hardware, for the tokens of a step of `base`."""
        found = self.best(scale=scale) if scale else self.base
        if found is None:
            return None
        batches = self.opened.batch.values[0] if self.base is None else self.base.fields[domains.BATCH]
        return found.objectives[0] * (batches / self.opened.batch.values[0]), self._layout(found)

    def closed(self) -> planner.Plan | None:
        """The plan of the best layout as things are; none where nothing fits."""
        return None if self.base is None else self.base.plan


__all__ = ["Chooser", "Chosen"]
