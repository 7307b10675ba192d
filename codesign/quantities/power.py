"""Power of a run: what the boards draw in a step by its mix of operators, the site, energy, carbon, swings, the cap.

Index sets: board (kinds of site; without sites one, the cluster) and phase_board (`phase/board`, or the phase alone).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, worst
from codesign.laws import power as laws

Array = NDArray[np.float64]


@quantity("s", over="phase_board", source="the rest of the step")
def phase_waiting_s(
    phase_board, phase_of_board, phase_run_step_s, phase_matmul_s, phase_attention_s, phase_memory_s
) -> Array:
    """Time of a step in which a rank waits: exposed communication, bubbles, the host, other ranks, other sites."""
    return phase_run_step_s[phase_of_board[phase_board]] - phase_matmul_s - phase_attention_s - phase_memory_s


@quantity("W", over="phase_board", source="EQ-103; draw of each class of operator, ai-dynamo/aiconfigurator@095f58a")
def phase_board_W(
    phase_board, phase_of_board, board_of_phase, phase_run_step_s, phase_matmul_s, phase_attention_s, phase_memory_s,
    phase_waiting_s, board_limit_W, matmul_draw, attention_draw, memory_draw, waiting_draw,
) -> Array:
    """Mean power of one board over a step of a phase."""
    times = (phase_matmul_s, phase_attention_s, phase_memory_s, phase_waiting_s)
    shares = [time / phase_run_step_s[phase_of_board[phase_board]] for time in times]
    limit_W = board_limit_W[board_of_phase[phase_board]]
    return laws.board_W(limit_W, shares, (matmul_draw, attention_draw, memory_draw, waiting_draw))


@quantity("W", over="board", source="time-weighted mean over phases")
def board_W(
    board, board_of_phase, phase_of_board, phase_board_W, phase_steps, phase_run_step_s, productive_s
) -> Array:
    """Mean power of one board while the run trains."""
    own = {phase_of_board[at]: phase_board_W[at] for at in phase_board_W if board_of_phase[at] == board}
    return add(own[p] * phase_steps[p] * phase_run_step_s[p] for p in own) / productive_s


@quantity("1", over="board", source="spares stand by in proportion")
def board_accelerators(run_accelerators, board_share) -> Array:
    """Accelerators of a kind of site that the run holds, all sites of it together."""
    return run_accelerators * board_share


@quantity("W", source="EQ-103; the sum over kinds of site")
def training_site_W(board_accelerators, board_W, overhead_per_accelerator_W, network_power_share, pue) -> Array:
    """Mean power at the meter while the run trains, all sites together."""
    return add(
        laws.site_W(board_accelerators[b], laws.all_in_W(board_W[b], overhead_per_accelerator_W, network_power_share), pue)
        for b in board_W
    )


@quantity("W", over="board", source="EQ-103; all boards in matrix products at once")
def board_peak_W(
    board_accelerators, board_limit_W, matmul_draw, overhead_per_accelerator_W, network_power_share, pue
) -> Array:
    """Power at the meter of a kind of site when every rank is in a matrix product."""
    each = laws.all_in_W(board_limit_W * matmul_draw, overhead_per_accelerator_W, network_power_share)
    return laws.site_W(board_accelerators, each, pue)


@quantity("W", source="sum over kinds of site")
def peak_site_W(board_peak_W) -> Array:
    """Power at the meter when every rank is in a matrix product, all sites together."""
    return add(board_peak_W.values())


@quantity("W", source="EQ-103; all boards at the draw of waiting")
def waiting_site_W(
    board_accelerators, board_limit_W, waiting_draw, overhead_per_accelerator_W, network_power_share, pue
) -> Array:
    """Power at the meter when every rank waits: a restart, a checkpoint that blocks, a failed collective. All sites."""
    each = {
        b: laws.all_in_W(limit_W * waiting_draw, overhead_per_accelerator_W, network_power_share)
        for b, limit_W in board_limit_W.items()
    }
    return add(laws.site_W(board_accelerators[b], each[b], pue) for b in board_accelerators)


@quantity("W", source="EQ-103: all ranks stop or start together")
def power_swing_W(peak_site_W, waiting_site_W) -> Array:
    """Step in site power when all ranks stop or start together."""
    return peak_site_W - waiting_site_W


@quantity("W", source="EQ-103: steps at their mean power, lost time at that of waiting (assumed)")
def average_site_W(training_site_W, waiting_site_W, goodput) -> Array:
    """Mean power at the meter over the run, lost time included; others on the cluster draw as much as the run (assumed)."""
    return training_site_W * goodput + waiting_site_W * (1.0 - goodput)


@quantity("J", source="EQ-103")
def run_energy_J(average_site_W, run_wall_s) -> Array:
    """Energy at the meter from the first step to the last; that of others who share the cluster meanwhile included."""
    return average_site_W * run_wall_s


@quantity("kg", source="EQ-103; run.power.kg_per_kWh")
def run_carbon_kg(run_energy_J, grid_kg_per_kWh) -> Array:
    """CO2-equivalent of the run at the grid's intensity."""
    return laws.carbon_kg(run_energy_J, grid_kg_per_kWh)


@quantity("W", source="the cap is of one site: that of the most power")
def largest_site_peak_W(board_peak_W, board_sites) -> Array:
    """Power at the meter of one site when every rank is in a matrix product, of the site that draws most."""
    return worst(board_peak_W[b] / board_sites[b] for b in board_peak_W)


@quantity("1", source="EQ-103: floor of cap over peak power of one accelerator")
def accelerators_under_cap(power_cap_W, board_peak_W, board_accelerators) -> Array:
    """Accelerators that the cap of a site allows at peak, of the kind that draws most."""
    return np.floor(power_cap_W / worst(board_peak_W[b] / board_accelerators[b] for b in board_peak_W))


def _cap_message(values) -> str:
    peak, cap, most = (
        float(np.ravel(values[name])[0])
        for name in (("largest_site_peak_W", None), "power_cap_W", ("accelerators_under_cap", None))
    )
    return f"the site peaks at {peak / 1e6:.1f} MW, and its cap is {cap / 1e6:.1f} MW: {most:,.0f} accelerators fit under it"


@quantity("1", source="run.power.cap_W", message=_cap_message)
def fits_power_cap(largest_site_peak_W, power_cap_W, accelerators_under_cap) -> Array:
    """The peak of every site is below its cap."""
    return (largest_site_peak_W <= power_cap_W).astype(np.float64)
