"""Published failure rates and recovery times: `data/failure_rates.yaml`, written by `codesign.evidence.failures`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "data" / "failure_rates.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rates:
    """Failures a second and unit, by component; `low` and `high`: factors of the 80 % interval, none where none is known.

    `largest`: accelerators of the largest job or cluster among the reports.
    """

    name: str
    per_s: dict[str, float]
    kind: str
    source: str
    low: float | None = None
    high: float | None = None
    largest: float = 0.0


@cache
def _data() -> dict[str, Any]:
    return yaml.load(FILE.read_text(encoding="utf-8"), Loader=_LOADER)


def names() -> tuple[str, ...]:
    """Sets of rates, by name; none: only what the user gives."""
    return (*_data()["sets"], "none")


def rates(name: str) -> Rates:
    """A set of rates. Components without a published rate are not in it."""
    if name == "none":
        return Rates(name, {}, "spec", "run.failures.rates none")
    held = _data()["sets"][name]
    per_s = {part: 1.0 / (3600.0 * hours) for part, hours in held["mean_hours_between_failures"].items()}
    return Rates(name, per_s, held["kind"], held["source"], held.get("low"), held.get("high"), held["largest"])


def practice(name: str) -> tuple[float, str, str]:
    """A reported recovery time in seconds, its kind and source."""
    held = _data()["practice"][name]
    return float(held["s"]), held["kind"], held["source"]


__all__ = ["FILE", "Rates", "names", "practice", "rates"]
