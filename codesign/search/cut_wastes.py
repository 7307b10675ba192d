"""Wastes of cutting a model over ranks: what tp, pp and cp do not divide, and what they make ranks hold twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.search.counterfactual import Case
from codesign.search.waste import MODEL, Better, Finding, coupled, field_value, kv_heads

MOST_LAYERS = 32  # a count further away is another model
PADDING = f"{MODEL}: the step with the padding less the step without"


def heads(case: Case) -> Iterator[Finding]:
    """Attention heads that tp does not divide."""
    tp = case.spec.layout.tp or 1
    yield from _not_divided(case, "model.heads", tp, "heads not divisible by tp", f"tp {tp} does not divide the heads")


def ffn(case: Case) -> Iterator[Finding]:
    """Widths of the FFN and of the experts that their ranks do not divide."""
    layout, moe = case.spec.layout, case.spec.model.moe
    tp, etp = layout.tp or 1, layout.etp or 1
    dense = not all(case.values[f"kind_spec[{kind}]"].moe for kind in case.problem.kinds)
    if dense:
        yield from _not_divided(case, "model.ffn", tp, "FFN not divisible by tp", f"tp {tp} does not divide the FFN")
    if moe is None:
        return
    why = f"etp {etp} does not divide the experts' width"
    yield from _not_divided(case, "model.moe.expert_ffn", etp, "FFN not divisible by etp", why)
    if case.scalar("shared_ffn"):
        why = f"tp {tp} does not divide the shared experts' width"
        yield from _not_divided(case, "model.moe.shared_expert_ffn", tp, "FFN not divisible by tp", why)


def sequence(case: Case) -> Iterator[Finding]:
    """A sequence that context parallelism cannot cut in 2 cp pieces."""
    cp = case.spec.layout.cp
    if cp > 1:
        why = f"the causal balance cuts a sequence in 2 cp = {2 * cp} pieces"
        yield from _not_divided(case, "training.sequence_length", 2 * cp, "sequence not divisible by 2 cp", why)


def _not_divided(case: Case, field: str, by: int, waste: str, why: str) -> Iterator[Finding]:
    """What padding up to the next multiple costs; a whole multiple saves against that."""
    value = field_value(case, field)
    if value % by == 0:
        return
    low, high = value // by * by, (value // by + 1) * by
    fields = coupled(case, field, high)
    padded = case.changed(fields) if fields else None
    if padded is None:
        message = f"{why}; padding to {high} makes no valid model"
        yield Finding(waste, field, value, message, None, "no counterfactual", refused=True)
        return
    cost_s = max(padded.step_s - case.step_s, 0.0)
    message = f"{why}; padding {value} to {high} computes what nobody wants"
    down, up = (Better(size, cost_s) if size and coupled(case, field, size) else None for size in (low, high))
    yield Finding(waste, field, value, message, cost_s, PADDING, down=down, up=up, refused=True)


def key_value_heads(case: Case) -> Iterator[Finding]:
    """KV heads that tensor-parallel ranks hold twice, or that neither divide tp nor are divided by it."""
    tp, own = case.spec.layout.tp or 1, kv_heads(case)
    if case.spec.model.mla or own == case.spec.model.heads:
        return  # MLA has no KV heads; one a head is the business of `heads`
    if tp > own and tp % own == 0:
        cost_s = case.step_s - case.step_with_s({"local_kv_heads": own / tp})
        message = f"tp {tp} for {own} KV heads: each is computed and held {tp // own} times"
        up = Better(tp, cost_s) if case.spec.model.heads % tp == 0 else None
        yield Finding(
            "KV heads replicated by tp", "model.kv_heads", own, message, cost_s, f"{MODEL}: local_kv_heads", up=up
        )
    elif own % tp and tp % own:
        heads = case.spec.model.heads
        fitting = [n for n in range(1, heads + 1) if heads % n == 0 and not (n % tp and tp % n)]
        low, high = max((n for n in fitting if n < own), default=None), min((n for n in fitting if n > own), default=None)
        padded = case.changed({"model.kv_heads": high}) if high else None
        padding_s = max(padded.step_s - case.step_s, 0.0) if padded else None
        message = f"of tp {tp} and {own} KV heads neither divides the other"
        down, up = (Better(n, padding_s or 0.0) if n else None for n in (low, high))
        basis = PADDING if padded else "no counterfactual"
        yield Finding(
            "KV heads not divisible by tp", "model.kv_heads", own, message, padding_s, basis, down=down, up=up, refused=True
        )


def layers(case: Case) -> Iterator[Finding]:
    """Layers that the pipeline's stages do not divide: the slowest rank paces the others."""
    layout, count = case.spec.layout, case.spec.model.layers
    stages = (layout.pp or 1) * layout.vpp
    if stages == 1 or count % stages == 0:
        return
    cost_s = imbalance_s(case)
    reach = min(stages, MOST_LAYERS)
    down, up = (_better_layers(case, reach, up=way) for way in (False, True))
    message = (
        f"{count} layers, embedding and head on pp x vpp = {stages} stages: the slowest rank has "
        f"{100 * cost_s / case.step_s:.1f} % of a step more to do than the mean one"
    )
    if down is up is None:
        message += f"; no count less than {reach} away is better"
    basis = f"{MODEL}: rank_work_s"
    yield Finding("layers not divisible by stages", "model.layers", count, message, cost_s, basis, down=down, up=up)


def imbalance_s(case: Case) -> float:
    """Micro-batches times what the slowest rank has more to do than the mean one."""
    work = np.ravel(case.values[("rank_work_s", None)])
    return float(case.scalar("micro_batches") * (np.max(work) - np.mean(work)))


def _better_layers(case: Case, reach: int, *, up: bool) -> Better | None:
    """The nearest count less than `reach` away that is more even and saves time at equal model FLOPs."""
    count, share = case.spec.model.layers, imbalance_s(case) / case.step_s
    for value in range(count + 1, count + reach) if up else range(count - 1, max(count - reach, 0), -1):
        other = case.changed({"model.layers": value})
        if other is None or (case.feasible and not other.feasible) or imbalance_s(other) / other.step_s >= share:
            continue
        if (saves_s := case.saves_s(other)) > 0:
            return Better(value, saves_s)
    return None
