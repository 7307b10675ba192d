"""Why not this layout, asked by a user: it cannot run, or it can and the best one is faster by these terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.errors import SpecError
from codesign.search import choices, run, whynot
from codesign.search.result import Candidate, Result
from codesign.search.space import Space, Watch, of, unwatched
from codesign.spec import domains, schema


@dataclass(frozen=True)
class Answer:
    """What is to be said about a layout. `asked` is the best way to run it, `best` the best of the whole space."""

    refusals: tuple[whynot.Refusal, ...]
    asked: Candidate | None
    best: Candidate | None
    candidates: int  # ways to complete the layout that was asked about
    not_whole: Mapping[str, int]
    spec: schema.Spec  # that was asked about; its layout is that of the whole space

    @property
    def feasible(self) -> bool:
        return self.asked is not None

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by which each part of the step is longer than in the best layout; they add up to the difference."""
        if self.asked is None or self.best is None:
            return {}
        other = self.best.plan.parts
        return {name: value - other[name] for name, value in self.asked.plan.parts.items()}

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "feasible": self.feasible,
            "candidates": self.candidates,
            "not_whole": dict(self.not_whole),
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "asked": self.asked.to_dict() if self.asked else None,
            "best": self.best.to_dict() if self.best else None,
            "longer_s": self.parts,
        }


def why_not(
    source: str | Path | Mapping[str, Any],
    layout: Sequence[str],
    sets: Sequence[str] = (),
    free: Sequence[str] = (),
    workers: int = 1,
    report: run.Report | None = None,
    watch: Watch = unwatched,
) -> Answer:
    """Hold `layout` (`layout.field=value` texts) against the whole space of the spec.

    `report` as of `run.search`, `watch` as of `space.of`.
    """
    opened = domains.load(source, sets, free)
    whole = _found(of(opened, watch), workers, report)
    if "all" in free:
        narrow = of(_only(source, layout, sets), watch)
    else:
        asked = _asked(layout)
        open_ = [name for name in (*free, *_loose(asked)) if name.removeprefix("layout.") not in asked]
        narrow = of(domains.load(source, [*sets, *layout], open_), watch)
    found = _found(narrow, workers, report)
    best = whole.best[0] if whole.best else None
    if found.best:
        return Answer((), found.best[0], best, narrow.size, narrow.excluded, opened.spec)
    return Answer(found.misses, None, best, narrow.size, narrow.excluded, opened.spec)


def fields(layout: str) -> list[str]:
    """`tp=8,pp=16` as `layout.field=value` texts; commas inside brackets stay. Raises SpecError."""
    parts, depth = [""], 0
    for letter in layout:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    found = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise SpecError(f"layout {layout}: a field and a value are wanted, as in tp=8,pp=16")
        found.append(f"layout.{name.strip().removeprefix('layout.')}={value.strip()}")
    return found


def _asked(layout: Sequence[str]) -> dict[str, str]:
    """Field -> value as it was written."""
    pairs = (text.partition("=") for text in layout)
    return {name.removeprefix("layout."): value.strip() for name, _, value in pairs}


def _loose(asked: Mapping[str, str]) -> list[str]:
    """Fields that say how another layout is meant: what the spec has there says nothing of the one that is asked about."""
    loose = ["dp"] if asked.keys() & {"tp", "pp", "cp"} else []
    if asked.keys() & {"pp", "vpp", "schedule"}:
        loose += ["stages", "first_stage_layers", "last_stage_layers"]
    loose += ["vpp"] * ("schedule" in asked or asked.get("pp") == "1") + ["schedule"] * ("vpp" in asked)
    loose += ["sequence_parallel"] * (asked.get("tp") == "1") + ["cp_style"] * (asked.get("cp") == "1")
    if "sharding" in asked:
        loose += ["sharding_group"] * (asked["sharding"] != "hsdp")
        loose += ["reshard_after_forward", "prefetch"] * (asked["sharding"] not in choices.FULLY)
    return loose


def _only(source: Any, layout: Sequence[str], sets: Sequence[str]) -> domains.Open:
    """Everything open but what is asked about."""
    every = [name for name in schema.Layout.model_fields if name not in _asked(layout)]
    return domains.load(source, [*sets, *layout], every)


def _found(space: Space, workers: int, report: run.Report | None) -> Result:
    return Result(space, run.search(space, workers=workers, report=report))


__all__ = ["Answer", "fields", "why_not"]
