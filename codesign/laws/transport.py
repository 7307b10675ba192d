"""What a long link delivers: latency of the route, throughput under loss by transport, several flows and paths.

EQ-86 and network.md sections 5 and 6. Elementwise over float64 arrays that broadcast together; rates are bytes per second
and direction, a loss rate is the share of packets. The transport is structure: a plain Python value.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Transport = Literal["lossless", "go-back-n", "selective-repeat", "tcp"]

FIBRE_S_PER_KM = 4.9e-6  # one way: the group index of silica, 1.468, over the speed of light
MATHIS = 1.5**0.5  # sqrt(3/2): one acknowledgement a packet, periodic loss


def one_way_s(route_km: Array, equipment_s: Array | float = 0.0) -> Array:
    """One-way latency of a fibre route: 4.9 us a km, and what transponders and routers add  (EQ-86). 120 km: 0.59 ms.

    The route is longer than the crow flies: 1.3 times is usual (assumed).
    """
    return route_km * FIBRE_S_PER_KM + equipment_s


def packets_in_flight(line_Bps: Array, round_trip_s: Array, packet_B: Array) -> Array:
    """Packets that fill the line for one round trip, at least one."""
    return np.maximum(line_Bps * round_trip_s / packet_B, 1.0)


def go_back_n_share(loss: Array, window_packets: Array) -> Array:
    """Useful share of the line where a loss sends the whole window again: (1-p)/(1 + p (N-1)).

    Derived, and the usual RoCE of today: 1e-4 at 122 packets (10 us) leaves 0.99, at 122,000 (10 ms) 0.08.
    """
    return (1.0 - loss) / (1.0 + loss * (window_packets - 1.0))


def selective_repeat_share(loss: Array) -> Array:
    """Useful share of the line where only the lost packet goes again: 1 - p. Derived; ignores timeouts."""
    return 1.0 - loss


def tcp_flow_Bps(segment_B: Array, round_trip_s: Array, loss: Array) -> Array:
    """Long-run rate of one loss-driven TCP flow: sqrt(3/2) MSS / (RTT sqrt(p)), unbounded without loss.

    Mathis 1997. Holds for p below about 0.02; BBR and rate-based transports do better.
    """
    lossy = loss > 0
    rate = MATHIS * segment_B / (round_trip_s * np.sqrt(np.where(lossy, loss, 1.0)))
    return np.where(lossy & (round_trip_s > 0), rate, np.inf)


def window_Bps(window_B: Array | float, round_trip_s: Array) -> Array:
    """Rate that a window of unacknowledged bytes allows: window / RTT; unbounded for no latency."""
    far = round_trip_s > 0
    return np.where(far, window_B / np.where(far, round_trip_s, 1.0), np.inf)


def delivered_Bps(
    transport: Transport, line_Bps: Array, round_trip_s: Array, loss: Array, packet_B: Array,
    window_B: Array | float = np.inf, flows: Array | float = 1.0,
) -> Array:
    """Rate of one path for a transport: the line's, a window's and the protocol's, whichever is least.

    `window_B` is that of one flow, `flows` run side by side and share the line; loss is that of the path. For go-back-n
    the window that is sent again is the smaller of the line's and the flow's.
    """
    each_Bps = np.minimum(line_Bps / flows, window_Bps(window_B, round_trip_s))
    if transport == "lossless":
        return each_Bps * flows
    if transport == "selective-repeat":
        return each_Bps * flows * selective_repeat_share(loss)
    if transport == "go-back-n":
        return each_Bps * flows * go_back_n_share(loss, packets_in_flight(each_Bps, round_trip_s, packet_B))
    if transport == "tcp":
        return np.minimum(each_Bps * (1.0 - loss), tcp_flow_Bps(packet_B, round_trip_s, loss)) * flows
    raise ValueError(f"unknown transport {transport!r}; allowed: lossless, go-back-n, selective-repeat, tcp")


def sprayed_Bps(path_Bps: list[Array]) -> Array:
    """Packets sprayed in proportion to the rate of each path: the sum. Needs a transport that stands reordering."""
    total = np.zeros(1)
    for rate in path_Bps:
        total = total + rate
    return total


def striped_Bps(path_Bps: list[Array]) -> Array:
    """Equal stripes over the paths: the number of paths times the slowest."""
    slowest = path_Bps[0]
    for rate in path_Bps[1:]:
        slowest = np.minimum(slowest, rate)
    return slowest * float(len(path_Bps))


def hashed_share(flows: Array, paths: Array) -> Array:
    """Share of the paths that flows placed at random use at all: 1 - (1 - 1/n)^f, the mean load that ECMP reaches.

    Flows of equal size that fill a path each. 8 flows on 8 paths: 0.66; plain RoCE ECMP is measured at 0.25 to 0.9.
    """
    several = paths > 1
    return np.where(several, -np.expm1(flows * np.log1p(-1.0 / np.where(several, paths, 2.0))), 1.0)
