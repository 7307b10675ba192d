"""Shape lint: the wastes of a shape on its layout, each with its price and the nearest better values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.planner import Plan
from codesign.search import cut_wastes, kernel_wastes
from codesign.search.counterfactual import Case, case_of
from codesign.search.waste import Better, Check, Finding, total_s
from codesign.spec import load as loader
from codesign.spec import schema

LEAST_SHARE = 2e-3  # wastes below this share of the step are not worth a line

CHECKS: tuple[Check, ...] = (
    cut_wastes.heads,
    cut_wastes.key_value_heads,
    cut_wastes.ffn,
    cut_wastes.layers,
    cut_wastes.sequence,
    kernel_wastes.head_size,
    kernel_wastes.vocabulary,
    kernel_wastes.misalignment,
    kernel_wastes.small_experts,
    kernel_wastes.quantisation,
)


def lint(
    plan_or_spec: Plan | loader.Loaded | schema.Spec | str | Path | Mapping[str, Any], *, least_share: float = LEAST_SHARE
) -> tuple[Finding, ...]:
    """The wastes of a shape, dearest first; those of less than `least_share` of the step are left out.

    Each is priced by itself, in seconds a step: through the plan with a field changed, at equal model FLOPs where that
    changes the work, or with the quantity that carries the waste overridden. What refuses to run is priced by the
    padding that makes it run. A waste without a price comes last and says why.
    """
    return wastes(case_of(plan_or_spec), least_share=least_share)


def wastes(case: Case, *, least_share: float = LEAST_SHARE) -> tuple[Finding, ...]:
    """As `lint`, of a case that is evaluated already."""
    least_s = least_share * case.step_s
    found = [f for check in CHECKS for f in check(case) if f.cost_s is None or f.cost_s >= least_s or f.refused]
    refused = {finding.where for finding in found if finding.refused}
    kept = [finding for finding in found if finding.refused or finding.where not in refused]
    # sizes without quantisation are looked for only where the waste is worth a line
    kept = [kernel_wastes.with_sizes(case, f) if f.waste in kernel_wastes.QUANTISED else f for f in kept]
    return tuple(sorted(kept, key=lambda f: (f.cost_s is None, -(f.cost_s or 0.0), f.waste, f.where)))


__all__ = ["Better", "Finding", "lint", "total_s", "wastes"]
