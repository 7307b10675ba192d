"""The network between sites: which links a transfer takes, and what each strategy's exchange puts on each of them.

Plain Python over names: structure, no sizes. A link is undirected and has two ways, `a>b` and `b>a`. With a port to a
common network (`between: all`) the other end is the network itself, named `*`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

HUB = "*"
Flows = dict[tuple[str, str], float]  # (from, to) -> share of the message


@dataclass(frozen=True)
class Edge:
    """One connection: its two ends, the link whose numbers it has (ports share them), its latency and rate."""

    a: str
    b: str
    link: str
    one_way_s: float
    line_Bps: float


@dataclass(frozen=True)
class Network:
    """Sites, links, and the way from every site to every other: fewest links, then least latency, then most bandwidth."""

    sites: tuple[str, ...]
    edges: tuple[Edge, ...]
    routes: Mapping[tuple[str, str], tuple[str, ...]]  # (from, to) -> nodes on the way, both ends included

    @cached_property
    def ways(self) -> dict[str, str]:
        """Way -> the link whose numbers it has."""
        return {f"{a}>{b}": edge.link for edge in self.edges for a, b in ((edge.a, edge.b), (edge.b, edge.a))}

    def ways_of(self, source: str, target: str) -> tuple[str, ...]:
        nodes = self.routes[(source, target)]
        return tuple(f"{a}>{b}" for a, b in pairwise(nodes))

    def links_of(self, source: str, target: str) -> tuple[str, ...]:
        return tuple(self.ways[way] for way in self.ways_of(source, target))

    def loads(self, flows: Mapping[tuple[str, str], float]) -> dict[str, float]:
        """What each way carries of flows that are routed, 0 where nothing."""
        found = dict.fromkeys(self.ways, 0.0)
        for (source, target), amount in flows.items():
            for way in self.ways_of(source, target) if source != target else ():
                found[way] += amount
        return found

    def alike(self, flows: Sequence[Mapping[tuple[str, str], float]]) -> dict[str, tuple[str, tuple[float, ...]]]:
        """Way -> the first way of the same link and the same loads, and what it carries of each of the flows."""
        loads = [self.loads(one) for one in flows]
        first: dict[tuple[str, tuple[float, ...]], str] = {}
        found = {}
        for way, link in self.ways.items():
            carried = tuple(one[way] for one in loads)
            found[way] = (first.setdefault((link, carried), way), carried)
        return found

    def latest(self, flows: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
        """The different routes, as links, over which flows go; the slowest of them sets the latency of a round."""
        return tuple(sorted({tuple(sorted(self.links_of(a, b))) for a, b in flows if a != b}))


def network(sites: Sequence[str], edges: Sequence[Edge]) -> Network:
    """The network of sites that are all joined."""
    beside: dict[str, list[tuple[str, Edge]]] = {}
    for edge in edges:
        beside.setdefault(edge.a, []).append((edge.b, edge))
        beside.setdefault(edge.b, []).append((edge.a, edge))
    routes: dict[tuple[str, str], tuple[str, ...]] = {}
    for source in sites:
        for target, nodes in _from(source, beside).items():
            if target != HUB:
                routes[(source, target)] = nodes
    return Network(tuple(sites), tuple(edges), routes)


def _from(source: str, beside: Mapping[str, Sequence[tuple[str, Edge]]]) -> dict[str, tuple[str, ...]]:
    """Dijkstra over (links, latency, 1/bandwidth of the narrowest); ties by name, so that a spec means one plan."""
    done: dict[str, tuple[str, ...]] = {}
    queue: list[tuple[int, float, float, tuple[str, ...]]] = [(0, 0.0, 0.0, (source,))]
    while queue:
        count, late, narrow, nodes = heapq.heappop(queue)
        here = nodes[-1]
        if here in done:
            continue
        done[here] = nodes
        for other, edge in beside.get(here, ()):
            if other not in done:
                item = (count + 1, late + edge.one_way_s, max(narrow, 1.0 / edge.line_Bps), (*nodes, other))
                heapq.heappush(queue, item)
    return done


# ---------------------------------------------------------------------------------------------------- exchanges


def all_reduce_flows(groups: Sequence[Sequence[str]], kind: str) -> Flows:
    """Bytes between sites, per byte of the message, of an all-reduce between groups of sites that each hold all of it.

    A ring sends 2(K-1)/K to the next group; a direct exchange 2/K to each other one. Pairs of groups share their
    part evenly over all pairs of their sites.
    """
    count = len(groups)
    flows: Flows = {}
    if count < 2:
        return flows
    pairs = [(i, (i + 1) % count) for i in range(count)] if kind == "ring" else [
        (i, j) for i in range(count) for j in range(count) if i != j
    ]
    each = 2.0 * (count - 1) / count if kind == "ring" else 2.0 / count
    for i, j in pairs:
        for a in groups[i]:
            for b in groups[j]:
                flows[(a, b)] = flows.get((a, b), 0.0) + each / (len(groups[i]) * len(groups[j]))
    return flows


def gather_flows(groups: Sequence[Sequence[str]]) -> Flows:
    """What the sites of a group hand each other after it, each its even part of the message."""
    return {(a, b): 1.0 / len(group) for group in groups for a in group for b in group if a != b}


def rounds(count: int, kind: str) -> float:
    """Latencies one after the other in an all-reduce between `count` groups: 2(K-1) in a ring, 2 in a direct exchange."""
    return 0.0 if count < 2 else 2.0 * (count - 1) if kind == "ring" else 2.0
