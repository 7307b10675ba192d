"""Placement of parallel groups on network levels: against a brute-force count over ranks, and Llama 3's cluster."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.laws import network

NODE, POD = 8, 3072  # HGX node; pod of the Llama 3 cluster


def row(value: float) -> np.ndarray:
    return np.array([float(value)])


def extents(size: int, stride: int, *domains: int) -> list[float]:
    return [float(part[0]) for part in network.extents(row(size), row(stride), [*map(float, domains), math.inf])]


def touched_by_counting(size: int, stride: int, domain: int) -> int:
    """The largest number of domains under any group, by listing the ranks of every group of a full period."""
    span = size * stride
    groups = math.lcm(span, domain) // span
    starts = [group * span + lane for group in range(groups) for lane in range(stride)]
    return max(len({(start + member * stride) // domain for member in range(size)}) for start in starts)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 24))
def test_domains_touched_is_the_count_over_ranks(size, stride, domain):
    law = network.domains_touched(row(size), row(stride), row(domain))[0]
    counted = touched_by_counting(size, stride, domain)
    if domain % stride == 0 or stride % domain == 0:
        assert law == counted
    else:  # a domain border between two members of every lane: one domain more at most
        assert counted <= law <= counted + 1


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        (8, 1, [8, 1, 1]),
        (64, 1, [8, 8, 1]),
        (2, 4, [2, 1, 1]),
        (16, 2, [4, 4, 1]),
        (64, 8, [1, 64, 1]),
        (2, 16, [1, 2, 1]),
        (1, 4096, [1, 1, 1]),
        (6, 1, [3, 2, 1]),  # every second group of six lies on two nodes of eight
        (12, 1, [6, 2, 1]),
        (16384, 1, [8, 16384 / 8 / 6, 6]),  # 16,384 ranks fill five pods of 3,072 and a third of another
    ],
    ids=lambda value: str(value),
)
def test_extents_on_nodes_of_8_and_pods_of_3072(size, stride, expected):
    assert extents(size, stride, NODE, POD) == expected


def test_extents_on_one_unbounded_level_is_the_size():
    assert extents(48, 3) == [48]


def test_extents_nest_where_domains_do_not():
    # 72-rank racks in pods of 256: the pod may not count more domains than the rack does
    for part in extents(257, 1, 72, 256):
        assert part >= 1


@given(
    st.lists(st.sampled_from([2, 4, 8, 72, 256, 3072]), max_size=3, unique=True).map(sorted),
    st.integers(1, 20000),
    st.integers(1, 4096),
)
def test_extents_product_is_the_size(domains, size, stride):
    parts = extents(size, stride, *domains)
    assert len(parts) == len(domains) + 1
    assert all(part >= 1 for part in parts)
    if all(part == int(part) for part in parts):
        assert math.prod(parts) == size
    else:  # a real mean has no exact inverse: (15/11) * 11 is 15 less one unit in the last place
        assert math.prod(parts) == pytest.approx(size, rel=1e-15)


@given(st.integers(0, 12), st.integers(0, 12))
def test_extents_of_powers_of_two_are_exact_and_whole(size_log2, stride_log2):
    parts = extents(2**size_log2, 2**stride_log2, 8, 1024)
    assert math.prod(parts) == 2**size_log2
    assert all(part == int(part) for part in parts)


def test_strides_follow_the_stated_order():
    degrees = {"tp": row(8), "cp": row(2), "dp": np.array([4.0, 16.0]), "pp": row(16)}
    stride_of = network.strides(("tp", "cp", "dp", "pp"), degrees)
    assert {name: stride.tolist() for name, stride in stride_of.items()} == {
        "tp": [1.0], "cp": [8.0], "dp": [16.0], "pp": [64.0, 256.0],
    }
    inside_out = network.strides(("pp", "tp", "cp", "dp"), degrees)
    assert inside_out["tp"].tolist() == [16.0]


def test_llama3_cluster_taper_of_seven_above_the_pod():
    # 400 Gb/s a GPU, 1:7 oversubscription above pods of 3,072 (Llama 3, arXiv 2407.21783)
    assert network.level_rate_Bps(row(50e9), row(1.0), row(7.0))[0] == pytest.approx(7.142857e9, rel=1e-6)
    assert network.level_rate_Bps(row(50e9), row(0.91), row(1.0))[0] == pytest.approx(45.5e9)


def test_batch_of_one_is_the_row_bit_for_bit():
    size = np.arange(1.0, 301.0).reshape(300, 1, 1)
    stride = np.array([1.0, 2.0, 3.0, 6.0, 8.0, 16.0, 100.0]).reshape(1, 7, 1)
    domain = np.array([4.0, 8.0, 72.0]).reshape(1, 1, 3)
    levels = network.extents(size, stride, [domain, 1024.0, np.inf])
    for i, j, k in [(0, 0, 0), (5, 2, 1), (11, 0, 1), (299, 6, 2), (96, 3, 0), (256, 4, 2)]:
        single = network.extents(size[i, 0], stride[0, j], [domain[0, 0, k : k + 1], 1024.0, np.inf])
        for batch, alone in zip(levels, single, strict=True):
            assert np.array_equal(np.broadcast_to(batch, (300, 7, 3))[i, j, k], alone[0])
    assert np.array_equal(
        network.level_rate_Bps(np.full(5, 50e9), row(0.91), np.arange(1.0, 6.0))[2:3],
        network.level_rate_Bps(row(50e9), row(0.91), row(3.0)),
    )
