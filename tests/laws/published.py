"""The copied checks (inputs, expectation, tolerance, source) and how a value is held against one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
Check = dict[str, Any]


def checks(*topics: int) -> dict[str, Check]:
    """Checks of these topics by id, from the files that lie here."""
    found: dict[str, Check] = {}
    for path in sorted(HERE.glob("checks_topic*.json")):
        for check in json.loads(path.read_text(encoding="utf-8")):
            if check["topic"] in topics:
                assert check["id"] not in found, f"{check['id']} stands twice"
                found[check["id"]] = check
    return found


def name(check: Check) -> str:
    return f"{check['id']}-{check['eq']}"


def hold(check: Check, value: Any) -> None:
    """Compare as the check says, each number of a list by itself."""
    values, expected = np.ravel(np.asarray(value, dtype=np.float64)), np.ravel(check["expected"])
    if check["op"] == "between":
        low, high = check["tolerance"]["between"]
        assert ((values >= low) & (values <= high)).all(), (values, low, high)
        return
    if check["op"] == "ge":
        assert (values >= expected).all(), (values, expected)
        return
    assert check["op"] == "eq" and values.shape == expected.shape, (values, expected)
    tolerance = check["tolerance"]
    slack = tolerance["abs"] if "abs" in tolerance else tolerance["rel"] * np.abs(expected)
    assert (np.abs(values - expected) <= slack).all(), (values, expected)


def row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)
