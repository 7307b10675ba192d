"""What a search keeps, against sorting everything."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from codesign.search.kept import Kept, front


def _naive(values: np.ndarray) -> set[int]:
    return {
        at
        for at, one in enumerate(values)
        if not any(
            (other <= one).all() and ((other < one).any() or before < at)
            for before, other in enumerate(values)
            if before != at
        )
    }


@pytest.mark.parametrize(("seed", "objectives"), list(itertools.product(range(10), (2, 3, 4))))
def test_the_front_is_what_nobody_beats(seed: int, objectives: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 8 if seed % 2 else 1000, (120, objectives)).astype(np.float64)
    assert set(front(values, np.arange(120)).tolist()) == _naive(values)


@pytest.mark.parametrize(("seed", "objectives"), list(itertools.product(range(12), (1, 2, 3))))
def test_pieces_in_any_order_give_the_whole(seed: int, objectives: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (40, 5)
    costs = [rng.integers(1, 30 if seed % 2 else 10**6, shape).astype(np.float64) for _ in range(objectives)]
    good = rng.random(shape) < 0.8
    pieces = []
    for begin in range(0, 40, 8):
        kept = Kept(objectives, 7, 0.5)
        part = slice(begin, begin + 8)
        kept.count(40, int(good[part].sum()))
        if good[part].any():
            kept.take(
                [cost[part] for cost in costs], good[part], begin * 5, lambda row, begin=begin: ((begin + row) % 6,)
            )
        kept.settle()
        pieces.append(kept)
    flat = [(costs[0].ravel()[at], at) for at in range(200) if good.ravel()[at]]
    best = sorted(flat)[:7]
    kinds: dict[int, tuple[float, int]] = {}
    for value, at in sorted(flat):
        if value <= best[0][0] * 1.5:
            kinds.setdefault((at // 5) % 6, (value, at))
    answers = set()
    for order in (range(5), reversed(range(5)), rng.permutation(5)):
        total = Kept(objectives, 7, 0.5)
        for at in order:
            total.merge(Kept.from_dict(json.loads(json.dumps(pieces[at].to_dict()))))
        assert list(zip(total.values[:, 0].tolist(), total.indices.tolist(), strict=True)) == best
        assert {name[0]: entry for name, entry in total.kinds.items()} == kinds
        if objectives > 1:
            rows = np.array([[cost.ravel()[at] for cost in costs] for _, at in flat])
            wanted = {flat[at][1] for at in _naive(rows)}
            assert set(total.front_indices.tolist()) == wanted
        answers.add(json.dumps(total.to_dict(), sort_keys=True))
    assert len(answers) == 1


def test_the_nearest_misses_are_of_three_kinds_and_then_the_nearest_of_all() -> None:
    rng = np.random.default_rng(1)
    distances = rng.integers(1, 50, (40, 3)).astype(np.float64)
    for kinds in (1, 2, 5):
        groups = rng.integers(0, kinds, 40)
        every = sorted((distances[at // 3, at % 3], at, (int(groups[at // 3]),)) for at in range(120))
        firsts = {kind: at for _, at, kind in reversed(every)}
        wanted = sorted(firsts.values(), key=lambda at: (distances[at // 3, at % 3], at))[:3]
        wanted += [at for _, at, _ in every if at not in wanted][: 3 - len(wanted)]
        for order in (range(5), reversed(range(5))):
            total = Kept(1, 1, 0.0)
            for begin in order:
                kept, part = Kept(1, 1, 0.0), slice(8 * begin, 8 * begin + 8)
                kept.miss(distances[part], 24 * begin, groups[part], lambda group: (group,))
                total.merge(Kept.from_dict(json.loads(json.dumps(kept.to_dict()))))
            assert total.nearest_misses == wanted


def test_what_is_kept_does_not_grow_with_the_candidates() -> None:
    rng = np.random.default_rng(0)
    kept = Kept(2, 10, 0.01)
    sizes = []
    for round_ in range(60):
        costs = [rng.random((100, 20)) + 1.0 for _ in range(2)]
        kept.count(2000, 2000)
        kept.take(costs, np.ones((100, 20), dtype=bool), round_ * 2000, lambda row: (row % 7,))
        kept.settle()
        sizes.append(len(kept.indices) + len(kept.front_indices) + len(kept.kinds))
    assert max(sizes) < 80
