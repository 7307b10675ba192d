"""Shapes of a model under one constraint, each on its own best layout, ranked by days at equal loss.

`rank_shapes` walks the space of `codesign.search.shape_space`, asks a callable for the best layout of every shape (joint
search: no layout is carried over), and compares what they reach: effective tokens a second, days to the base's loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from codesign.errors import Infeasible, SpecError
from codesign.laws import scaling
from codesign.quantities.parameters import count_parameters
from codesign.search import predicted_loss, shape_space
from codesign.search.counterfactual import Case, case_of, case_or_none
from codesign.search.lint import Finding, total_s, wastes
from codesign.spec import load as loader
from codesign.spec import resolve, schema

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
DAY_S = 86400.0
NO_LAYOUT = "no feasible layout"


class Choice(Protocol):
    """The best layout of one spec. `layout`: the fields that were chosen, and of the global batch and the cluster what was."""

    @property
    def step_s(self) -> float: ...
    @property
    def tokens_per_s(self) -> float: ...
    @property
    def layout(self) -> Mapping[str, Any]: ...


BestLayout = Callable[[schema.Spec], "Choice | None"]


@dataclass(frozen=True)
class Own:
    """The spec's own layout as the only candidate."""

    step_s: float
    tokens_per_s: float
    layout: Mapping[str, Any] = field(default_factory=dict)


def own_layout(spec: schema.Spec) -> Own | None:
    """The layout that the spec has, where it fits: the search with one candidate."""
    case = case_or_none(spec)
    if case is None or not case.feasible:
        return None
    return Own(case.step_s, case.scalar("job_tokens_per_s"))


# ---------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class ShapeRow:
    """One shape on its best layout. What no law gives is null.

    `tokens`: what it is trained on under the constraint. `tokens_ratio`: tokens to the base's loss over the base's tokens.
    `shape_share`: the term of the shape alone, the share of its parameters with which the base's shape reaches its loss.
    The median over its sources counts; `_low` and `_high` are their range, `_size_only` is without the term.
    """

    is_base: bool
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int | None
    ffn: int | None
    experts: int | None
    top_k: int | None
    expert_ffn: int | None
    vocab: int
    parameters: int
    active_parameters: int
    token_FLOP: float
    aspect_ratio: float
    step_s: float
    tokens_per_s: float
    mfu: float
    layout: Mapping[str, Any]
    tokens: float | None = None
    days: float | None = None
    predicted_loss: float | None = None
    shape_share: float | None = None
    shape_share_low: float | None = None
    shape_share_high: float | None = None
    tokens_ratio: float | None = None
    tokens_ratio_low: float | None = None
    tokens_ratio_high: float | None = None
    tokens_ratio_size_only: float | None = None
    effective_tokens_per_s: float | None = None
    days_at_equal_loss: float | None = None
    days_at_equal_loss_low: float | None = None
    days_at_equal_loss_high: float | None = None
    days_at_equal_loss_size_only: float | None = None
    no_loss: str = ""
    findings: tuple[Finding, ...] | None = None

    @property
    def waste_share(self) -> float | None:
        """Share of the step that lint finds wasted; null where it was not asked."""
        return None if self.findings is None else total_s(self.findings) / self.step_s

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(replace(self, findings=None))
        data["layout"] = dict(self.layout)
        data["findings"] = None if self.findings is None else [finding.to_dict() for finding in self.findings]
        return data


@dataclass(frozen=True)
class ShapeTable:
    """Shapes from best to worst, the base among them; how many were tried, and why the others are not here."""

    rows: tuple[ShapeRow, ...]
    equal: str
    free: str | None
    tolerance: float
    law: str
    axes: Mapping[str, tuple[int, ...]]
    candidates: int
    rejected: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def base(self) -> ShapeRow | None:
        """The row of the spec's own shape; none where it has no feasible layout."""
        return next((row for row in self.rows if row.is_base), None)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a shape, best first; findings as their number and share of the step."""
        import pandas as pd

        rows = []
        for row in self.rows:
            data = row.to_dict()
            findings = data.pop("findings")
            rows.append({**data, "findings": None if findings is None else len(findings), "waste_share": row.waste_share})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, units in the keys."""
        return {
            "schema_version": SCHEMA_VERSION,
            "equal": self.equal,
            "free": self.free,
            "tolerance": self.tolerance,
            "law": self.law,
            "axes": {name: list(values) for name, values in self.axes.items()},
            "candidates": self.candidates,
            "rejected": dict(self.rejected),
            "shapes": [row.to_dict() for row in self.rows],
            "notes": list(self.notes),
        }


# ---------------------------------------------------------------------------------------------------- ranking


def rank_shapes(
    spec: schema.Spec | loader.Loaded,
    axes: Mapping[str, Sequence[int]],
    equal: str = "parameters",
    best_layout: BestLayout = own_layout,
    *,
    free: str | None = None,
    tolerance: float = shape_space.TOLERANCE,
    law: str = "besiroglu",
    lint_best: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> ShapeTable:
    """Every shape that the axes span and the constraint allows, on its own best layout, best first.

    `equal`: parameters, active_parameters or training_flops hold a count within `tolerance` by solving `free` (ffn or
    expert_ffn, else layers); loss moves the tokens until the predicted loss is the base's; wall_clock gives every
    shape the base's time and ranks by predicted loss. The first `lint_best` rows are linted. Raises SpecError, and
    Infeasible where wall clock has nothing to be equal to.
    """
    checked = spec.spec if isinstance(spec, loader.Loaded) else spec
    model = checked.model
    if not 0.0 < tolerance < 0.5:
        raise SpecError(f"tolerance {tolerance:g} is not above 0 and below 0.5; 0.02 is 2 %", field="tolerance")
    axes = shape_space.check_axes(model, axes)
    if not axes:
        raise SpecError("no axis: name at least one dimension to vary, for example hidden=4096:8192:512", field="axes")
    free = shape_space.free_dimension(model, axes, equal, free)
    if equal in ("loss", "wall_clock") and checked.training.tokens is None:
        raise SpecError(f"equal {equal} needs training.tokens, the tokens of the base's run", field="training.tokens")
    case_of(spec)  # what is wrong with the spec itself is said once, not for every shape

    compare = _Compare(checked, equal, predicted_loss.law_of(law), best_layout)
    base = compare.row(model, is_base=True)
    if equal == "wall_clock":
        if base is None:
            raise Infeasible("the spec's own shape has no feasible layout: there is no wall clock to hold equal")
        assert base.days is not None
        compare.budget_s = base.days * DAY_S
    rows, rejected, candidates = ([base] if base else []), Counter[str](), 0
    total = math.prod(len(values) for values in axes.values())
    for shape in shape_space.shapes(checked, axes, equal, free, tolerance):
        candidates += 1
        if progress is not None:
            progress(candidates, total)
        if shape.model is None:
            rejected[shape.reason] += 1
        elif _same(shape.model, model):
            rejected["the base itself"] += 1
        elif (row := compare.row(shape.model)) is None:
            rejected[NO_LAYOUT] += 1
        else:
            rows.append(row)
    rows.sort(key=lambda row: _rank(row, equal))
    rows = [compare.linted(row) if at < lint_best else row for at, row in enumerate(rows)]
    return ShapeTable(
        tuple(rows), equal, free, tolerance, law, axes, candidates, dict(rejected.most_common()), _notes(compare, equal, rows)
    )


def _same(one: schema.Model, other: schema.Model) -> bool:
    return _dims(one) == _dims(other)


def _rank(row: ShapeRow, equal: str) -> tuple[float, ...]:
    """Days at equal loss, or under wall clock the predicted loss; where no law speaks, tokens a second, behind the others."""
    first = row.predicted_loss if equal == "wall_clock" else row.days_at_equal_loss
    return (math.inf if first is None else first, -row.tokens_per_s, float(row.parameters), float(row.layers))


class _Compare:
    """The base, the law and the layout search that every shape is held against."""

    def __init__(self, spec: schema.Spec, equal: str, law: scaling.Published, best_layout: BestLayout) -> None:
        self.spec, self.equal, self.law, self.best_layout = spec, equal, law, best_layout
        self.tokens = spec.training.tokens
        self.budget_s: float | None = None  # wall clock: seconds of the base's run
        if self.tokens is not None:
            self.shares = predicted_loss.shape_shares(spec.model)
            parameters = predicted_loss.law_parameters(spec.model, spec.model)
            self.loss = predicted_loss.loss(parameters, self.tokens, law)

    def row(self, model: schema.Model, *, is_base: bool = False) -> ShapeRow | None:
        """One shape on its best layout, or None where it has none."""
        spec = self.spec.model_copy(update={"model": model})
        choice = self.best_layout(spec)
        if choice is None:
            return None
        counted = count_parameters(model)
        token_FLOP = shape_space.token_model_FLOP(self.spec, model)
        row = ShapeRow(
            is_base,
            **_dims(model),
            parameters=counted.total + counted.mtp,
            active_parameters=counted.active_with_embeddings,
            token_FLOP=token_FLOP,
            aspect_ratio=model.hidden / model.layers,
            step_s=choice.step_s,
            tokens_per_s=choice.tokens_per_s,
            mfu=_mfu(with_layout(spec, choice), choice.tokens_per_s, token_FLOP),
            layout=dict(choice.layout),
        )
        return row if self.tokens is None else self._with_loss(row, model)

    def _with_loss(self, row: ShapeRow, model: schema.Model) -> ShapeRow:
        """The row with its tokens, its predicted loss and what it takes to the base's loss."""
        assert self.tokens is not None
        why = predicted_loss.not_comparable(model, self.spec.model)
        if why:
            tokens = None if self.equal == "loss" else self._tokens(row)
            return replace(row, no_loss=why, tokens=tokens, days=_days(tokens, row.tokens_per_s))
        parameters = predicted_loss.law_parameters(model, self.spec.model)
        mine = predicted_loss.shape_shares(model)
        # relative to the base's shape, for which the law speaks
        shares = [mine[source] / self.shares[source] for source in mine]
        share, gain = median(shares), predicted_loss.token_gain(model, self.spec.model)
        needed, low, high, bare = (
            predicted_loss.tokens_for(self.loss, parameters * one, self.law) / gain
            for one in (share, max(shares), min(shares), 1.0)
        )
        tokens = needed if self.equal == "loss" else self._tokens(row)
        loss = predicted_loss.loss(parameters * share, tokens * gain, self.law) if math.isfinite(tokens) else None
        ratio = _finite(needed / self.tokens)
        return replace(
            row,
            tokens=_finite(tokens),
            days=_days(tokens, row.tokens_per_s),
            predicted_loss=loss,
            shape_share=share,
            shape_share_low=min(shares),
            shape_share_high=max(shares),
            tokens_ratio=ratio,
            tokens_ratio_low=_finite(low / self.tokens),
            tokens_ratio_high=_finite(high / self.tokens),
            tokens_ratio_size_only=_finite(bare / self.tokens),
            effective_tokens_per_s=row.tokens_per_s / ratio if ratio else None,
            days_at_equal_loss=_days(needed, row.tokens_per_s),
            days_at_equal_loss_low=_days(low, row.tokens_per_s),
            days_at_equal_loss_high=_days(high, row.tokens_per_s),
            days_at_equal_loss_size_only=_days(bare, row.tokens_per_s),
            no_loss="" if ratio else "no number of tokens reaches the base's loss",
        )

    def _tokens(self, row: ShapeRow) -> float:
        """Tokens of the run: the base's, or what its wall clock allows."""
        assert self.tokens is not None
        return self.tokens if self.budget_s is None else row.tokens_per_s * self.budget_s

    def linted(self, row: ShapeRow) -> ShapeRow:
        """The row with the wastes of the shape on its layout."""
        model = self.spec.model if row.is_base else model_of(self.spec.model, row)
        spec = self.spec.model_copy(update={"model": model})
        return replace(row, findings=wastes(Case(resolve.resolve(with_layout(spec, row)))))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _days(tokens: float | None, tokens_per_s: float) -> float | None:
    return None if tokens is None else _finite(tokens / tokens_per_s / DAY_S)


def with_layout(spec: schema.Spec, choice: Any) -> schema.Spec:
    """The spec with the chosen layout; one with tp, pp and micro-batch is complete, and nothing of the spec's own stays.

    Raises SpecError where a field of it is none of a layout's.
    """
    fields = dict(choice.layout)
    batch, cluster = fields.pop("global_batch_sequences", None), fields.pop("cluster", None)
    if fields:
        complete = {"tp", "pp", "micro_batch"} <= fields.keys()
        try:
            layout = schema.Layout.model_validate(
                {**({} if complete else spec.layout.model_dump(exclude_unset=True)), **fields}
            )
        except ValidationError as error:
            name = ".".join(map(str, error.errors()[0]["loc"]))
            raise SpecError(f"the layout found has a field that no layout has: layout.{name}", field="layout") from None
        spec = spec.model_copy(update={"layout": layout})
    if batch is not None:
        training = spec.training.model_copy(update={"global_batch_sequences": int(batch)})
        spec = spec.model_copy(update={"training": training})
    return spec if cluster is None else spec.model_copy(update={"cluster": spec.cluster.model_copy(update=cluster)})


def _mfu(spec: schema.Spec, tokens_per_s: float, token_FLOP: float) -> float:
    """Causal model FLOPs over the dense peak of the matmul precision."""
    leaves = resolve.resolve(spec).leaves
    return tokens_per_s * token_FLOP / (leaves["accelerator_ranks"].value * leaves["peak_FLOPps"].value)


def _dims(model: schema.Model) -> dict[str, Any]:
    moe = model.moe
    return {
        "layers": model.layers,
        "hidden": model.hidden,
        "heads": model.heads,
        "kv_heads": model.heads if model.mla else model.kv_heads or model.heads,
        "head_dim": None if model.mla else model.head_dim or model.hidden // model.heads,
        "ffn": model.ffn,
        "experts": moe.experts if moe else None,
        "top_k": moe.top_k if moe else None,
        "expert_ffn": moe.expert_ffn if moe else None,
        "vocab": model.vocab,
    }


def model_of(base: schema.Model, row: ShapeRow) -> schema.Model:
    """The model of a row; `base`: that of the spec."""
    update: dict[str, Any] = {name: getattr(row, name) for name in ("layers", "hidden", "heads", "ffn", "vocab")}
    if not base.mla:
        update |= {"kv_heads": row.kv_heads, "head_dim": row.head_dim}
    model = base.model_copy(update=update)
    if base.moe is None or row.expert_ffn is None:
        return model
    model = model.model_copy(update={"moe": base.moe.model_copy(update={"experts": row.experts, "top_k": row.top_k})})
    return shape_space.with_free(model, "expert_ffn", row.expert_ffn)


def _notes(compare: _Compare, equal: str, rows: Sequence[ShapeRow]) -> tuple[str, ...]:
    """What the numbers rest on, and how far."""
    notes = ["days are without interruptions: no failures, restarts or checkpoints"]
    if compare.best_layout is own_layout:
        notes.append("no layout was searched: every shape is on the layout of the spec; --free all searches one for each")
    if compare.tokens is None:
        return ("training.tokens is not given: no loss, no days; ranked by tokens a second", *notes)
    parameters = "active parameters" if compare.spec.model.moe else "all parameters"
    notes.append(f"loss: {compare.law.source}, N = {parameters}; {predicted_loss.EXTRAPOLATED}, one epoch, decayed runs")
    notes.append(
        "shape, as a share of parameters: the median of five terms, whose range is shown: width over depth by the three fits "
        "of McLeish 2025 (arXiv 2502.06857) or by Kaplan 2020 (arXiv 2001.08361, fig. 5: within 3 % of loss from 33 to 715), "
        "with FFN over hidden size read off Kaplan's chart of 50M parameters, once without"
    )
    notes.append(
        "weak and extrapolated: fitted at 2 x 10^9 parameters or less; heads, head size and experts have no term; fine-tuned "
        "quality depends on the shape (Tay 2021, arXiv 2109.10686) and is not known here"
    )
    if any(row.experts for row in rows) and len({(row.experts, row.top_k) for row in rows}) > 1:
        notes.append(predicted_loss.MOE_SOURCE)
    unknown = sorted({row.no_loss for row in rows if row.no_loss})
    return (*notes, *unknown)
