"""Every candidate of a space as one table: what it is, what it takes, or why it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.quantities import constraints
from codesign.search import sweep
from codesign.search.space import Space

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 5_000_000
QUANTITIES = ("step_s", "job_tokens_per_s", "mfu", "peak_B")


def every(space: Space) -> pd.DataFrame:
    """One row a candidate, in their order. Raises SpecError for a space too large to hold."""
    import pandas as pd

    if space.size > MOST_ROWS:
        wide = sorted((name for name in space.searched), key=lambda name: -len(space.searched[name]))[:4]
        raise space.open.error("layout", f"{space.size:,} candidates are too many to hold, at most {MOST_ROWS:,}: fix or list "
                               f"some of {', '.join(wide)}, or leave --all out")  # fmt: skip
    parts = []
    for unit in sweep.units(space):
        for at, values, complete in sweep.evaluate(space, unit):
            parts.append((int(space.starts[at]) + unit.begin * space.tails(space.structures[at]).count,
                          _rows(space, unit, at, values, complete)))  # fmt: skip
    frames = [pd.DataFrame(rows) for _, rows in sorted(parts, key=lambda part: part[0])]
    if not frames:
        return pd.DataFrame(columns=["candidate", "reason"])
    return pd.concat(frames, ignore_index=True)


def _rows(space: Space, unit: sweep.Unit, at: int, values: Any, complete: bool) -> dict[str, Any]:
    structure = space.structures[at]
    rows, tails = space.rows(structure).fields, space.tails(structure)
    shape = (unit.end - unit.begin, tails.count)
    size = shape[0] * shape[1]
    first = int(space.starts[at]) + unit.begin * tails.count

    def spread(value: Any) -> np.ndarray:
        return np.broadcast_to(value, shape).ravel()

    def column(name: str) -> np.ndarray:
        return np.repeat(rows[name][unit.begin : unit.end], tails.count)

    out: dict[str, Any] = {"candidate": np.arange(first, first + size)}
    out |= {name: column(name) for name in ("tp", "cp", "ep", "etp", "dp", "micro_batch")}
    out |= {"pp": np.full(size, structure.pp), "vpp": np.full(size, structure.vpp)}
    out |= {
        "global_batch_sequences": column("batch"),
        "accelerators": column("accelerators"),
        "shard_ranks": column("group"),
    }
    texts = {
        "schedule": structure.schedule, "stages": structure.stages or "", "sharding": structure.sharding,
        "reshard_after_forward": structure.reshard, "recompute": " ".join([structure.granularity, *structure.modules]),
        "order": " ".join(structure.order), "cp_style": structure.cp_style or "",
    }  # fmt: skip
    out |= {name: [value] * size for name, value in texts.items()}
    out["sequence_parallel"] = column("tp") > 1 if structure.sequence_parallel else np.zeros(size, dtype=bool)
    out["recompute_fraction"] = np.tile(tails.fraction, shape[0])
    out["offload_activations"] = np.tile(tails.offload, shape[0])
    out["offload_optimizer"] = np.full(size, structure.offload_optimizer)
    out |= {name: [value] * size for name, value in space.said(structure.stated, None).items()}
    if "scale_up_domain" in out:
        out["scale_up_domain"] = column("domain")
    out["reason"] = _reasons(space, values, shape)
    for name in QUANTITIES:
        known = complete or ((name, None) in values and name == "peak_B")
        out[name] = spread(values[(name, None)]) if known else np.full(size, np.nan)
    return out


def _reasons(space: Space, values: Any, shape: tuple[int, int]) -> np.ndarray:
    """The first limit that each candidate breaks, nothing where it can run."""
    found = np.full(shape, "", dtype=object)
    margin = space.open.search.memory_margin or 0.0
    tests = [
        (sweep.REASONS[name], values[(name, None)] > 0.0) for name in constraints.CONSTRAINTS if (name, None) in values
    ]
    tests.insert(1, ("memory margin", values["memory_B"] - margin >= values[("peak_B", None)]))
    for reason, holds in tests:
        found[(found == "") & ~np.broadcast_to(holds, shape)] = reason
    return found.ravel()


__all__ = ["every"]
