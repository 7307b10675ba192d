"""The fit of the constants in codesign/spec/data/constants.yaml to the measured runs. `make refit` runs it.

Residuals are log(predicted / measured); every group has the same weight; a soft-L1 loss keeps outliers from deciding; each
constant has a log-normal prior from operator measurements or physics. Levenberg-Marquardt in the logarithms of the
constants, whose derivatives are perturbed inputs of the same quantities.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from codesign import planner
from codesign.evidence import nearest, pairs, predict, runs, validate
from codesign.evidence.score import Score, ranking, regrets, score, weighted_quantile
from codesign.spec import stacks

Array = NDArray[np.float64]

NOISE = 0.06  # scale of the soft-L1 loss: the same configuration measured twice differs by 2 to 9 %
STEP = 1e-3


@dataclass(frozen=True)
class Data:
    """Rows that can be predicted, in batches, with their weights."""

    converted: tuple[runs.Converted, ...]
    batches: tuple[predict.Batch, ...]
    measured: Array
    groups: tuple[str, ...]
    names: tuple[str, ...]  # constants

    @property
    def count(self) -> int:
        return len(self.converted)


def gather(rows: Sequence[dict[str, Any]], names: Sequence[str] | None = None) -> Data:
    """Rows that count for step time and can be predicted."""
    converted = tuple(c for c in (runs.convert(r) for r in rows) if c.problem is not None)
    batches = tuple(predict.batches(converted, ("step_s",)))
    return Data(
        converted,
        batches,
        np.array([runs.truth_s(c.row) or np.nan for c in converted]),
        tuple(str(c.row.get("group")) for c in converted),
        tuple(names or stacks.constants()),
    )


def jacobian(data: Data, values: Mapping[str, float]) -> tuple[Array, Array]:
    """Log predictions, and their derivatives to the log constants. Shapes (rows,), (rows, constants)."""
    logs = np.full(data.count, np.nan)
    slopes = np.zeros((data.count, len(data.names)))
    for batch in data.batches:
        base = predict.with_constants(batch, values)
        mine = [name for name in data.names if name in batch.constants]
        size = len(batch.rows)
        leaves = {k: v.reshape(1, -1) if isinstance(v, np.ndarray) and v.ndim == 1 else v for k, v in base.items()}
        leaves.update(planner.stage_leaves(base["pipeline"], tuple(dict(batch.program.indexes)["kind"]), 2))
        for at, name in enumerate(mine):
            for leaf, where in batch.constants[name]:
                column = np.broadcast_to(leaves[leaf], (len(mine) + 1, size)).copy()
                column[at + 1] = np.where(where, column[at + 1] * (1.0 + STEP), column[at + 1])
                leaves[leaf] = column
        out = np.log(np.broadcast_to(batch.program.run(leaves)[("step_s", None)], (len(mine) + 1, size)))
        rows = list(batch.rows)
        logs[rows] = out[0]
        for at, name in enumerate(mine):
            slopes[rows, data.names.index(name)] = (out[at + 1] - out[0]) / np.log1p(STEP)
    return logs, slopes


@dataclass(frozen=True)
class Fit:
    values: Mapping[str, float]
    standard_errors: Mapping[str, float]
    logs: Array
    slopes: Array


def weights(groups: Sequence[str], keep: NDArray[np.bool_]) -> Array:
    """1/rows of the group for rows that are kept, 0 for the others."""
    sizes: dict[str, int] = {}
    for group, kept in zip(groups, keep, strict=True):
        sizes[group] = sizes.get(group, 0) + int(kept)
    return np.array([1.0 / sizes[g] if k else 0.0 for g, k in zip(groups, keep, strict=True)])


def _soft(residual: Array) -> Array:
    """IRLS weight of the soft-L1 loss."""
    return 1.0 / np.sqrt(1.0 + (residual / NOISE) ** 2)


def _normal(data: Data, logs: Array, slopes: Array, logv: Array, weight: Array) -> tuple[Array, Array]:
    fitted = stacks.constants()
    prior = np.log(np.array([fitted[n].prior for n in data.names]))
    spread = np.array([fitted[n].spread for n in data.names])
    residual = logs - np.log(data.measured)
    w = weight * _soft(residual) / NOISE**2
    hessian = (slopes * w[:, None]).T @ slopes + np.diag(1.0 / spread**2)
    gradient = (slopes * w[:, None]).T @ residual + (logv - prior) / spread**2
    return hessian, gradient


def _loss(data: Data, logs: Array, logv: Array, weight: Array) -> float:
    fitted = stacks.constants()
    prior = np.log(np.array([fitted[n].prior for n in data.names]))
    spread = np.array([fitted[n].spread for n in data.names])
    z = ((logs - np.log(data.measured)) / NOISE) ** 2
    return float(np.sum(weight * 2.0 * (np.sqrt(1.0 + z) - 1.0)) + np.sum(((logv - prior) / spread) ** 2))


def fit(data: Data, start: Mapping[str, float], keep: NDArray[np.bool_] | None = None, rounds: int = 12) -> Fit:
    """The constants that minimise the loss on the kept rows."""
    weight = weights(data.groups, np.ones(data.count, bool) if keep is None else keep)
    logv = np.log(np.array([start[n] for n in data.names]))
    damping = 1e-3
    logs, slopes = jacobian(data, dict(zip(data.names, np.exp(logv), strict=True)))
    loss = _loss(data, logs, logv, weight)
    for _ in range(rounds):
        hessian, gradient = _normal(data, logs, slopes, logv, weight)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
        trial = logv + np.clip(step, -0.5, 0.5)
        new_logs, new_slopes = jacobian(data, dict(zip(data.names, np.exp(trial), strict=True)))
        new_loss = _loss(data, new_logs, trial, weight)
        if new_loss < loss:
            gained = loss - new_loss
            logv, logs, slopes, loss = trial, new_logs, new_slopes, new_loss
            damping = max(damping / 5.0, 1e-6)
            if gained < 1e-4 * loss:
                break
        else:
            damping *= 8.0
    hessian, _ = _normal(data, logs, slopes, logv, weight)
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    values = np.exp(logv)
    return Fit(dict(zip(data.names, values, strict=True)), dict(zip(data.names, errors, strict=True)), logs, slopes)


def left_out(data: Data, whole: Fit, folds: Sequence[str], exact: bool = True) -> Array:
    """Log predictions of each row by constants fitted without its fold; rows of fold '' keep the whole fit.

    The first step is taken with the derivatives at the whole fit; `exact` adds a full step at the new point.
    """
    logv = np.log(np.array([whole.values[n] for n in data.names]))
    out = whole.logs.copy()
    names = np.array(folds)
    for fold in sorted(set(folds) - {""}):
        keep = names != fold
        weight = weights(data.groups, keep)
        hessian, gradient = _normal(data, whole.logs, whole.slopes, logv, weight)
        trial = logv + np.clip(np.linalg.solve(hessian, -gradient), -0.7, 0.7)
        if exact:
            logs, slopes = jacobian(data, dict(zip(data.names, np.exp(trial), strict=True)))
            hessian, gradient = _normal(data, logs, slopes, trial, weight)
            step = np.clip(np.linalg.solve(hessian, -gradient), -0.3, 0.3)
            trial = trial + step
        values = dict(zip(data.names, np.exp(trial), strict=True))
        touched = [b for b in data.batches if any(not keep[i] for i in b.rows)]
        for batch in touched:
            result = np.log(
                np.broadcast_to(
                    batch.program.run(predict.with_constants(batch, values))[("step_s", None)], (len(batch.rows),)
                )
            )
            for at, row in enumerate(batch.rows):
                if not keep[row]:
                    out[row] = result[at]
    return out


def source_folds(data: Data) -> list[str]:
    """The source of each row, '' where its stack has no other source."""
    sources: dict[str, set[str]] = {}
    for c in data.converted:
        sources.setdefault(str(c.row["stack"]), set()).add(str(c.row["source"]["key"]))
    return [str(c.row["source"]["key"]) if len(sources[str(c.row["stack"])]) > 1 else "" for c in data.converted]


def errors_of(data: Data, logs: Array, keep: Callable[[runs.Row], bool] = lambda row: True) -> Score:
    """The score of log predictions, over rows that `keep` accepts."""
    errors = {
        str(c.row["id"]): float(np.exp(log) / m - 1.0)
        for c, log, m in zip(data.converted, logs, data.measured, strict=True)
        if keep(c.row)
    }
    return score(errors, {str(c.row["id"]): g for c, g in zip(data.converted, data.groups, strict=True)})


def summary(data: Data, logs: Array) -> dict[str, Any]:
    """Score, ranking and regret of log predictions."""
    predicted = {str(c.row["id"]): float(np.exp(log)) for c, log in zip(data.converted, logs, strict=True)}
    rows = [c.row for c in data.converted]
    share, groups = ranking(rows, predicted)
    lost = list(regrets(rows, predicted).values())
    return {
        **errors_of(data, logs).row(),
        "ranking": share,
        "ranking_groups": groups,
        "families": len(lost),
        "families_within_3": float(np.mean([x <= 0.03 for x in lost])) if lost else float("nan"),
    }


# ---------------------------------------------------------------------------------------------------- make refit


def write_constants(found: Fit) -> None:
    """Rewrite value and standard error of each constant; everything else stays."""
    path = stacks.DATA / "constants.yaml"
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["constants"]
    for name, value in found.values.items():
        rows[name]["value"] = float(f"{value:.5g}")
        rows[name]["standard_error"] = float(f"{found.standard_errors[name]:.2g}")
    head = "".join(line + "\n" for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    path.write_text(
        head + yaml.safe_dump({"constants": rows}, sort_keys=False, width=118, allow_unicode=True), encoding="utf-8"
    )


def error_model(converted: Sequence[runs.Converted], measured: Array, logs: Array) -> dict[str, Any]:
    """Ratios measured/predicted between which 80 % of the weight lies, by cell; cells of fewer than three groups are left out."""
    cells: dict[str, list[tuple[float, float]]] = {}
    members: dict[str, set[str]] = {}
    groups = [str(c.row.get("group")) for c in converted]
    weight = weights(groups, np.ones(len(groups), bool))
    for c, log, m, w, g in zip(converted, logs, measured, weight, groups, strict=True):
        assert c.problem is not None
        for name in planner.cell_names(c.problem):
            cells.setdefault(name, []).append((float(m / np.exp(log)), float(w)))
            members.setdefault(name, set()).add(g)
    out = {}
    for name, held in sorted(cells.items()):
        if len(members[name]) < 3 and name != "any":
            continue
        ratios, ws = [p[0] for p in held], [p[1] for p in held]
        low, high = weighted_quantile(ratios, ws, 0.1), weighted_quantile(ratios, ws, 0.9)
        out[name] = {
            "low": round(min(low, 0.98), 4),
            "high": round(max(high, 1.02), 4),
            "rows": len(held),
            "groups": len(members[name]),
        }
    return out


def memory_error_model(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same for memory, of which nothing is fitted: every residual is out of sample."""
    wanted = [r for r in rows if validate.memory_counts(r)]
    converted = [c for c in (runs.convert(r) for r in wanted) if c.problem is not None]
    predicted = validate.memory_B(converted)
    measured = np.array([runs.truth_B(c.row) or np.nan for c in converted])
    return error_model(converted, measured, np.log(predicted))


def left_out_summary(data: Data | None = None, found: Fit | None = None) -> dict[str, Any]:
    """Scores in sample and with each group, or each source, left out of the fit."""
    if data is None or found is None:
        rows, _ = runs.read()
        data = gather([r for r in rows if runs.scored(r)])
        found = fit(data, {name: c.value for name, c in stacks.constants().items()})
    folds = source_folds(data)
    chosen = {str(c.row["id"]) for c, f in zip(data.converted, folds, strict=True) if f}
    return {
        "in_sample": summary(data, found.logs),
        "leave_one_group_out": summary(data, left_out(data, found, data.groups)),
        "leave_one_source_out": errors_of(data, left_out(data, found, folds), lambda r: r["id"] in chosen).row(),
    }


def main() -> int:
    rows, _ = runs.read()
    data = gather([r for r in rows if runs.scored(r)])
    start = {name: c.value for name, c in stacks.constants().items()}
    before, _ = jacobian(data, start)
    print("before:", _line(summary(data, before)))
    found = fit(data, start)
    print("after: ", _line(summary(data, found.logs)))
    for name, value in found.values.items():
        c = stacks.constants()[name]
        print(f"  {name:26} {value:10.5g}  prior {c.prior:8.4g}  s.e. {found.standard_errors[name]:6.1%}")
    if "--quick" in sys.argv:
        return 0
    groups = left_out(data, found, data.groups)
    scores = left_out_summary(data, found)
    print("leave one group out: ", _line(scores["leave_one_group_out"]))
    source = scores["leave_one_source_out"]
    print(f"leave one source out: {source['rows']} rows, median {source['median']:.1%}, mean {source['mean']:.1%}")
    write_constants(found)
    compared = pairs.pairs(data.converted, data.measured, groups)
    scores["ranking_confidence"] = pairs.calibration(compared)
    _write("error_summary.json", json.dumps(_rounded(scores), indent=1))
    model = {
        "step": error_model(data.converted, data.measured, groups), "memory": memory_error_model(rows),
        "ranking": pairs.table(compared),
    }  # fmt: skip
    _write("error_model.json", json.dumps(model, indent=1))
    entries = [
        nearest.entry(c.row, c.problem, float(np.exp(log))) for c, log in zip(data.converted, found.logs, strict=True)
    ]
    index = ",\n".join(json.dumps(row, ensure_ascii=False) for row in nearest.thinned(entries))
    _write("nearest.json", f"[\n{index}\n]")
    return 0


def _write(name: str, text: str) -> None:
    (stacks.DATA / name).write_text(text + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['rows']} rows, {row['groups']} groups, median {row['median']:.1%}, mean {row['mean']:.1%}, p90 {row['p90']:.1%}, "
        f"bias {row['bias']:+.1%}, ranking {row['ranking']:.0%}, "
        f"families within 3 % {row['families_within_3']:.0%} of {row['families']}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
