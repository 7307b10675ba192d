"""Stages balanced by cost, against trying every assignment."""

from __future__ import annotations

import itertools
import random

import pytest

from codesign.search import balance
from codesign.spec import stages


@pytest.mark.parametrize("seed", range(40))
def test_no_assignment_has_a_lower_slowest_stage_or_with_that_less_spread(seed: int) -> None:
    rng = random.Random(seed)
    layers, count = rng.randint(1, 9), rng.randint(1, 5)
    costs = [rng.choice([1.0, 2.0, 3.5]) if seed % 2 else 1.0 for _ in range(layers)]
    extra = [rng.choice([0.0, 0.5, 2.0]) for _ in range(count)]

    def work(counts: tuple[int, ...]) -> list[float]:
        at, out = 0, []
        for stage, n in enumerate(counts):
            out.append(sum(costs[at : at + n]) + extra[stage])
            at += n
        return out

    every = [c for c in itertools.product(range(layers + 1), repeat=count) if sum(c) == layers]
    found = work(tuple(balance.assign(costs, extra)))
    best = min((max(work(c)), sum(w * w for w in work(c))) for c in every)
    assert max(found) == pytest.approx(best[0])
    assert sum(w * w for w in found) == pytest.approx(best[1])


@pytest.mark.parametrize(
    ("layers", "pp", "vpp", "mtp"), [(126, 16, 8, 0), (61, 16, 1, 1), (8, 8, 1, 0), (7, 4, 2, 1), (3, 4, 1, 0)]
)
def test_a_layout_string_says_the_assignment(layers: int, pp: int, vpp: int, mtp: int) -> None:
    costs = balance.Costs((1.0,) * layers, 0.2, 1.3, 2.3 * mtp, mtp)
    text = balance.layout(costs, pp, vpp)
    letters = stages.parse_layout(text, pp, vpp, layers=layers, mtp_layers=mtp)
    extra = [0.0] * (pp * vpp)
    extra[0] += 0.2
    extra[-1] += 1.3 + 2.3 * mtp
    assert [part.count("t") for part in letters] == balance.assign(costs.layers, extra)


def test_a_heavy_head_takes_layers_off_the_last_stage() -> None:
    assert balance.assign([1.0] * 8, [0.0, 0.0, 0.0, 0.9]) == [2, 2, 2, 2]
    assert balance.assign([1.0] * 8, [0.0, 0.0, 0.0, 2.0]) in ([3, 2, 2, 1], [2, 3, 2, 1], [2, 2, 3, 1], [3, 3, 2, 0])
    assert max(balance.assign([1.0] * 8, [0.0, 0.0, 0.0, 2.0])[:3]) == 3
