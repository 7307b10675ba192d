"""Where a parallel group sits on the network: strides, members together at each level, and the rate of a level.

A network is a list of levels, innermost first. Level l joins domains of `domains[l]` ranks (8 in an HGX node, 72 in an
NVL72 rack, 3,072 in a Llama 3 pod); the last level joins everything. Ranks are laid out in a stated order of parallel
dimensions, innermost first, as Megatron and torchtitan do. All functions are elementwise over float64 arrays that
broadcast together, and use only operations that are exact for whole numbers below 2^53.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def strides(order: Sequence[str], degrees: Mapping[str, Array]) -> dict[str, Array]:
    """Ranks between neighbours of a group of each dimension: the product of the degrees of the dimensions inside it.

    `order` is innermost first. Holds when the product of all degrees is the number of ranks; a dimension that shares
    the ranks of another one (experts inside data parallelism) needs its own order.
    """
    stride_of = {}
    stride: Array = np.ones(1)
    for dimension in order:
        stride_of[dimension] = stride
        stride = stride * degrees[dimension]
    return stride_of


def domains_touched(size: Array, stride: Array, domain_ranks: Array) -> Array:
    """Domains of `domain_ranks` ranks over which the worst-placed group of `size` members, `stride` apart, is spread.

    Groups are packed without gaps, so a span of P = size * stride ranks that does not fit evenly straddles a border:
    six ranks on nodes of eight lie on two nodes for every second group. With q = floor(P/D), r = P - qD, the worst
    group touches q domains (r = 0), q + 1 (r divides D, every start is a multiple of r) or q + 2, and never more than
    `size`. Holds for whole numbers from 1 to 2^53. A group that is alone in the job starts at a border: then q + 2 is
    one too many.
    """
    span = size * stride
    whole = np.floor(span / domain_ranks)
    rest = span - whole * domain_ranks
    divisor = np.where(rest > 0, rest, domain_ranks)
    straddles = domain_ranks - divisor * np.floor(domain_ranks / divisor) > 0
    touched = whole + np.where(rest > 0, np.where(straddles, 2.0, 1.0), 0.0)
    return np.minimum(touched, size)


def extents(size: Array, stride: Array, domains: Sequence[Array | float]) -> list[Array]:
    """Members that sit together at each level, innermost first; level l joins `domains[l]` ranks, ascending.

    extent_0 = size / t_0, extent_l = t_(l-1) / t_l, with t_l the domains touched at level l and t = 1 at the last
    level, whatever its size. The product is `size`: to the bit where every extent is whole, to rounding (1e-15)
    elsewhere. Exactly 1 where the stride reaches past the domain, and where a level is not crossed. Where the size
    does not divide, the count of domains stays whole and the extent inside is the mean, so that a group of 12 on
    nodes of 8 is 6 x 2. Optimistic there: a collective waits for the emptiest domain (one rank alone on the second
    node of a group of 9 takes 8/9 of an all-gather through its own adapter; the mean gives 1/9).
    """
    outside = size * np.ones(1)
    counts = [outside]
    for domain_ranks in domains[:-1]:
        # the minimum: domains that do not nest (72 and then 256 ranks) must not make an outer level touch more
        outside = np.minimum(outside, domains_touched(size, stride, domain_ranks * np.ones(1)))
        counts.append(outside)
    counts.append(np.ones(1))
    return [inner / outer for inner, outer in pairwise(counts)]


def level_rate_Bps(nic_Bps: Array, efficiency: Array, taper: Array) -> Array:
    """Rate of one rank through a level, per direction: nic * efficiency / taper.

    `taper` is the oversubscription of the level (1 inside a pod at full bisection, 7 above it in the Llama 3
    cluster), met when all ranks cross the level at once, as the groups of one parallel dimension do. `efficiency`:
    share of the line rate that a large message reaches (0.91 fitted on 4 x 8 B200 over EFA with an explicit ramp;
    EQ-25).
    """
    return nic_Bps * efficiency / taper
