"""The answer of a search: the best layouts, alternatives of another kind, the Pareto front, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign import __version__, planner
from codesign.errors import SpecError
from codesign.search import whynot
from codesign.search.run import Progress
from codesign.search.space import Space
from codesign.spec import domains, profiles, stacks

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
MEANING = {
    "step_s": ("s", "time of one step, of the first global batch's tokens where the batch is open"),
    "cost": ("1", "accelerator-seconds of one step"),
    "memory": ("B", "what the fullest rank needs"),
    "scale_up_traffic": ("B", "bytes that a rank sends inside its scale-up domain in one step"),
    "scale_out_traffic": ("B", "bytes that a rank sends over its NIC in one step"),
    "above_pod_traffic": ("B", "bytes that a rank sends above its pod in one step"),
    "robustness": ("s", "the longest step with one resource disturbed: a rate lower, or a latency doubled"),
}


@dataclass(frozen=True)
class Candidate:
    """One layout of the space. `plan` has everything about it."""

    space: Space
    index: int
    objectives: tuple[float, ...]

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Its fields, dotted, as a spec takes them."""
        return self.space.layout(self.index)

    @cached_property
    def plan(self) -> planner.Plan:
        return planner.plan(self.space.spec(self.index))

    @property
    def layout(self) -> dict[str, Any]:
        return {
            name.removeprefix("layout."): value for name, value in self.fields.items() if name.startswith("layout.")
        }

    def row(self) -> dict[str, Any]:
        """Flat: number, degrees, choices, and what comes of them."""
        plan, layout = self.plan, self.layout
        recompute = plan._recompute()
        hours = plan.value("accelerators") * 1e12 / plan.value("job_tokens_per_s") / 3600.0
        price = self.space.open.search.price_per_hour
        return {
            "candidate": self.index,
            **{name: layout.get(name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "micro_batch")},
            "global_batch_sequences": self.fields[domains.BATCH],
            "accelerators": self.fields["cluster.accelerators"],
            **{name: layout.get(name) for name in ("schedule", "sharding", "sharding_group", "reshard_after_forward")},
            "sequence_parallel": layout.get("sequence_parallel"),
            "cp_style": layout.get("cp_style"),
            "stages": layout.get("stages"),
            "order": " ".join(layout["order"]),
            "recompute": " ".join([recompute["granularity"], *recompute["modules"]]),
            "recompute_fraction": recompute["fraction"] if recompute["granularity"] != "none" else 0.0,
            "offload_activations": layout["offload"]["activations"],
            "offload_optimizer": layout["offload"]["optimizer"],
            **self.space.said(layout, self.fields.get("cluster.override", {}).get("scale_up.domain")),
            "step_s": plan.step_s,
            "lo_s": plan.step_interval.low,
            "hi_s": plan.step_interval.high,
            "mfu": plan.value("mfu"),
            "tokens_per_s": plan.value("job_tokens_per_s"),
            "peak_B": plan.value("peak_B"),
            "headroom_B": plan.value("memory_B") - plan.value("peak_B"),
            "accelerator_hours_per_T_tokens": hours,
            "cost_per_T_tokens": None if price is None else price * hours,
        }

    def to_dict(self) -> dict[str, Any]:
        names = self.space.open.search.objectives
        costs = {f"{name}_{MEANING[name][0]}" if name != "step_s" and MEANING[name][0] != "1" else name: value
                 for name, value in zip(names, self.objectives, strict=False)}  # fmt: skip
        return {**self.row(), "objectives": costs, "set": self.sets}

    @property
    def sets(self) -> list[str]:
        """`--set` arguments that turn the searched spec into this candidate: the whole layout, and what else is its own."""
        base = self.space.open.spec
        layout = {name: value for name, value in self.layout.items() if value != _DEFAULTS.get(name)}
        out = [f"layout={whynot.flow(layout)}"]
        if len(self.space.searched["global_batch"]) > 1:
            out.append(f"{domains.BATCH}={self.fields[domains.BATCH]}")
        if self.fields["cluster.accelerators"] != base.cluster.accelerators:
            out.append(f"cluster.accelerators={self.fields['cluster.accelerators']}")
        for key, value in self.fields.get("cluster.override", {}).items():
            out.append(f"cluster.override.{key}={value}")
        return out


_DEFAULTS = {"offload": {"activations": 0.0, "optimizer": False}, "recompute": "none", "vpp": 1, "cp": 1, "ep": 1}


@dataclass(frozen=True)
class Result:
    """What a search found. Build it with `of`."""

    space: Space
    progress: Progress

    @property
    def complete(self) -> bool:
        return self.progress.candidates == self.space.size

    @cached_property
    def best(self) -> tuple[Candidate, ...]:
        kept = self.progress.kept
        return tuple(self._candidates(kept.indices, kept.values))

    @cached_property
    def front(self) -> tuple[Candidate, ...]:
        """The exact Pareto front over all objectives, by the first."""
        kept = self.progress.kept
        return tuple(self._candidates(kept.front_indices, kept.front_values))

    @cached_property
    def alternatives(self) -> tuple[Candidate, ...]:
        """The best of every kind of layout within the stated share of the best; the best itself comes first."""
        entries = sorted((value, index) for value, index in self.progress.kept.kinds.values())
        return tuple(Candidate(self.space, index, (value,)) for value, index in entries)

    def _candidates(self, indices: Any, values: Any) -> Iterable[Candidate]:
        for index, row in zip(indices.tolist(), values.tolist(), strict=True):
            yield Candidate(self.space, index, tuple(row))

    @cached_property
    def tally(self) -> dict[str, Any]:
        """Candidates, feasible ones, rejected ones by the first limit broken (these add up), combinations left out."""
        kept = self.progress.kept
        return {
            "candidates": kept.candidates,
            "feasible": kept.feasible,
            "rejected": dict(sorted(kept.rejected.items(), key=lambda item: (-item[1], item[0]))),
            "broken": dict(sorted(kept.broken.items(), key=lambda item: (-item[1], item[0]))),
            "not_whole": dict(sorted(self.space.excluded.items(), key=lambda item: (-item[1], item[0]))),
        }

    @cached_property
    def misses(self) -> tuple[whynot.Refusal, ...]:
        """Of a space without a feasible layout: the three nearest, with what would lift each; of an empty one its first."""
        if self.progress.kept.feasible:
            return ()
        if not self.space.size:
            return (whynot.refusal(self.space, whynot.first(self.space)),)
        return tuple(whynot.refusal(self.space, self.space.spec(index)) for index in self.progress.kept.nearest_misses)

    @property
    def frame(self) -> pd.DataFrame:
        """Best, alternatives and front, one row each, with the role that it has."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for role, members in (("best", self.best), ("alternative", self.alternatives[1:]), ("front", self.front)):
            found += [{"role": role, **candidate.row()} for candidate in members]
        return found

    def manifest(self) -> dict[str, Any]:
        """What the answer rests on; the same inputs give the same manifest."""
        return manifest(self.space)

    def to_dict(self) -> dict[str, Any]:
        wanted = self.space.open.search
        return {
            "schema_version": SCHEMA_VERSION,
            "manifest": self.manifest(),
            "complete": self.complete,
            "objectives": list(wanted.objectives),
            "within": wanted.within,
            "searched": {name: len(values) for name, values in self.space.searched.items() if values},
            "tally": self.tally,
            "best": [candidate.to_dict() for candidate in self.best],
            "alternatives": [candidate.to_dict() for candidate in self.alternatives],
            "front": [candidate.to_dict() for candidate in self.front],
            "nearest_misses": [miss.to_dict() for miss in self.misses],
        }


# ---------------------------------------------------------------------------------------------------- going on later


def manifest(space: Space) -> dict[str, Any]:
    """Versions, and hashes of what the numbers come from."""
    opened = space.open
    searched = {name: [repr(value) for value in values] for name, values in space.searched.items()}
    return {
        "codesign": __version__,
        "numpy": np.__version__,
        "spec_hash": _hash([opened.base.resolved(), searched]),
        "profile": space.profile.name,
        "profile_hash": profile_hash(space.profile),
        "constants_hash": file_hash(stacks.DATA / "constants.yaml"),
        "stacks_hash": file_hash(stacks.DATA / "stacks.yaml"),
        "candidates": space.size,
    }


def profile_hash(profile: profiles.Profile) -> str:
    """Of the values of a hardware profile and of how each is known."""
    return _hash({key: [datum.value, datum.kind] for key, datum in profile.data().items()})


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def _hash(data: Any) -> str:
    return sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def state(space: Space, progress: Progress) -> dict[str, Any]:
    """Everything that is needed to go on: plain data for a manifest file."""
    return {**manifest(space), "done": _ranges(sorted(progress.done)), "state": progress.kept.to_dict()}


def resumed(space: Space, data: Any, where: str) -> Progress:
    """The progress that a manifest file holds. Raises SpecError where it belongs to another search."""
    from codesign.search.kept import Kept

    try:
        for name, value in manifest(space).items():
            if data[name] != value:
                raise SpecError(f"{where}: made with another {name.replace('_', ' ')} ({data[name]!s:.20}, now {value!s:.20}): "
                                "start anew without --resume")  # fmt: skip
        done = {number for first, last in data["done"] for number in range(first, last + 1)}
        return Progress(space.size, Kept.from_dict(data["state"]), done)
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(
            f"{where}: not the manifest of a search ({type(error).__name__}): start anew without --resume"
        ) from None


def manifest_path(output: str) -> Path:
    return Path(f"{output}.manifest.json")


def _ranges(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


__all__ = ["Candidate", "Result", "file_hash", "manifest", "manifest_path", "profile_hash", "resumed", "state"]
