"""Power and energy: draw from what a step does, node and site, energy, carbon, swings.

EQ-103. Elementwise over float64 arrays that broadcast together; watts and joules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Draw(NamedTuple):
    """Board power over its limit for a class of operator, and where it was measured."""

    share: float
    source: str


# NVML medians over about 1 s a point, ai-dynamo/aiconfigurator@095f58a: H200, B200 and GB200 lie in the range named
BOARD_DRAW = {
    "matmul": Draw(0.99, "bf16 GEMM with all dimensions of 4096 or more: 0.95 to 0.99"),
    "attention": Draw(0.87, "causal prefill from 4,096 tokens: 0.76 on H200, 0.89 to 0.98 on Blackwell; middle"),
    "memory": Draw(0.72, "GEMM of up to 64 rows, memory-bound: 0.86 on H200, 0.60 to 0.86 on Blackwell; middle"),
    "waiting": Draw(0.25, "launch-bound GEMM, 0.20 to 0.30; taken for waiting on the network (assumed)"),
}


def board_W(limit_W: Array, time_shares: Sequence[Array], draws: Sequence[Array]) -> Array:
    """Mean board power: limit times sum of time share times draw of each class of operator. Shares add up to 1."""
    total = np.zeros(1)
    for share, draw in zip(time_shares, draws, strict=True):
        total = total + share * draw
    return limit_W * total


def all_in_W(board_W: Array, overhead_per_accelerator_W: Array, network_share: Array | float = 0.0) -> Array:
    """IT power of one accelerator: its board, its part of the node, and the network as a share of both.

    Node overhead: 475 W on a GB300 tray, 575 W nameplate on an air-cooled H100 node; network 5 % (assumed).
    """
    return (board_W + overhead_per_accelerator_W) * (1.0 + network_share)


def site_W(accelerators: Array, each_W: Array, pue: Array) -> Array:
    """Power at the meter of the site: accelerators times IT power each times PUE  (EQ-103)."""
    return accelerators * each_W * pue


def swing_W(accelerators: Array, busy_W: Array, idle_W: Array, pue: Array) -> Array:
    """Step in site power when all ranks wait or start together  (EQ-103): tens of MW at 16,384 (Llama 3)."""
    return accelerators * (busy_W - idle_W) * pue


def accelerators_under_cap(cap_W: Array, each_W: Array, pue: Array) -> Array:
    """Accelerators that a site's power allows, whole ones."""
    return np.floor(cap_W / (each_W * pue))


def energy_J(accelerators: Array, wall_s: Array, each_W: Array, pue: Array) -> Array:
    """Energy at the meter of a run  (EQ-103): 1,022,362 accelerator-hours at 400 W and 1.1 are 449 MWh."""
    return accelerators * wall_s * each_W * pue


def carbon_kg(energy_J: Array, kg_per_kWh: Array) -> Array:
    """CO2-equivalent of an energy at a grid's intensity  (EQ-103)."""
    return energy_J / 3.6e6 * kg_per_kWh
