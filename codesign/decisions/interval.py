"""How sure the predicted loss is: joint draws of a law's constants where they are known, the other laws where they are not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codesign.errors import SpecError
from codesign.laws import scaling
from codesign.outcome import loss_laws
from codesign.outcome.loss_laws import LAWS
from codesign.quantities.loss import ADDITIVE
from codesign.run import RunPlan, evaluate

SEED, DRAWS, SHARE = 20240404, 2000, 0.8


@dataclass(frozen=True)
class Spread:
    """Quantiles around a predicted value that hold `share` of the joint draws: error of the constants, not of the form."""

    value: float
    low: float
    high: float
    share: float
    draws: int


@dataclass(frozen=True)
class ByLaw:
    """What one law says of the run; losses of laws with different tokenizers are not compared by value."""

    law: str
    source: str
    final_loss: float
    optimal_parameters: float
    optimal_tokens: float
    effective_over_reference: float | None


def law_of(run: RunPlan) -> str | None:
    """The law that the run names, or none."""
    return run.inputs.structure.get("loss_law")


def drawn(run: RunPlan, targets: tuple[str, ...], draws: int = DRAWS) -> dict[str, Any] | None:
    """Values of `targets` under joint draws of the law's constants, fixed seed; none where no joint uncertainty is published."""
    name = law_of(run)
    if name is None or not LAWS[name].joint:
        return None
    law = scaling.draw_parameters(np.random.default_rng(SEED), draws)
    values = evaluate(run.inputs, loss_laws.axes(law), targets)
    return {target: values[(target, None)] for target in targets}


def spread(run: RunPlan, target: str) -> Spread | None:
    """The interval of one target, for example `final_loss` or `effective_over_reference`."""
    if target not in run.inputs.targets:
        return None
    values = drawn(run, (target,))
    if values is None:
        return None
    edge = 0.5 * (1.0 - SHARE)
    low, high = np.quantile(values[target], [edge, 1.0 - edge])
    return Spread(run.value(target), float(low), float(high), SHARE, DRAWS)


def by_law(run: RunPlan) -> list[ByLaw]:
    """The same run by every law with an L(N, D): where no joint uncertainty is published, their difference is what is known."""
    if law_of(run) not in ADDITIVE:
        raise SpecError("laws can be compared where run.loss.law has an L(N, D): " + ", ".join(ADDITIVE), field="run.loss.law")
    rows = []
    targets = ["final_loss", "optimal_parameters", "optimal_tokens"]
    has_reference = "effective_over_reference" in run.inputs.targets
    for name in ADDITIVE:
        info = LAWS[name]
        assert info.law is not None
        made = replace(run.inputs, structure={**run.inputs.structure, "loss_law": name})
        values = evaluate(made, loss_laws.axes(info.law), [*targets, *(["effective_over_reference"] if has_reference else [])])
        one = {key[0]: float(np.ravel(value)[0]) for key, value in values.items() if isinstance(key, tuple)}
        loss, parameters, tokens = (one[target] for target in targets)
        rows.append(ByLaw(name, info.source, loss, parameters, tokens, one.get("effective_over_reference")))
    return rows
