"""The `run:` section: what happens beyond the step. Each part has a file of its own; a part that is left out is not planned."""

from __future__ import annotations

from codesign.spec.failures import Checkpoint, Failures, Policy, Spares
from codesign.spec.outcome import Outcome

SECTIONS = ("run", "sites", "links", "sync")  # of a spec, that the step does not read


class Run(Outcome):
    """From a step to a run. `training.tokens` says how long it is."""

    failures: Failures | None = None
    checkpoint: Checkpoint | None = None
    spares: Spares | None = None
    policy: Policy | None = None  # default: restart


__all__ = ["SECTIONS", "Run"]
