"""What differs under a number in two plans: down the graph from a quantity to the inputs whose values are not the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign import graph, units
from codesign.planner import Plan


@dataclass(frozen=True)
class Difference:
    """A quantity or an input whose value differs; None where a plan has none. `depth`: steps below the quantity asked for."""

    name: str
    member: str | None
    unit: str
    depth: int
    a: Any
    b: Any
    given: bool  # an input, not a quantity


def differences(a: Plan, b: Plan, key: graph.Key) -> tuple[Difference, ...]:
    """Everything under `key` that differs, nearest first. What is the same in both plans is not looked into."""
    graphs = [{step.key: step for step in plan.program.steps} for plan in (a, b)]
    found: list[Difference] = []
    seen: set[Any] = {key}
    queue: deque[tuple[Any, int]] = deque([(key, 0)])
    while queue:
        at, depth = queue.popleft()
        for child in dict.fromkeys(one for steps in graphs for one in _inputs(steps, at)):
            mine, other = a.values.get(child), b.values.get(child)
            if child in seen or _same(mine, other):
                continue
            seen.add(child)
            name, member = child if isinstance(child, tuple) else (child, None)
            unit = graph.REGISTRY[name].unit if isinstance(child, tuple) else units.suffix(name.partition("[")[0])
            found.append(Difference(name, member, unit, depth + 1, mine, other, not isinstance(child, tuple)))
            queue.append((child, depth + 1))
    return tuple(found)


def _inputs(steps: Mapping[graph.Key, graph.Step], at: Any) -> Iterator[Any]:
    """Keys of what a quantity is computed from."""
    for how, what in steps[at].inputs if at in steps else ():
        if how == "mapping":
            yield from (key for _, key in what)
        elif how == "value":
            yield what


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and bool(np.array_equal(one, other))
    return type(one) is type(other) and bool(one == other)
