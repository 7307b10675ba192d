"""Kernel time laws: GEMM, grouped GEMM, attention, memory-bound operators, host-bound sequences.

All functions are elementwise over float64 arrays that broadcast together; times in seconds. Rates are sustained rates
(datasheet peak times a measured fraction), so that the laws hold no efficiency of their own. The forms were fitted to
35,742 GEMM and 76,000 attention timings a system (ai-dynamo/aiconfigurator@095f58a; op_fits).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TILE_LONG = 256.0  # cuBLAS and CUTLASS pick 128x256 or 256x128 output tiles for large GEMMs since Ampere
TILE_SHORT = 128.0


def tiles(m: Array, n: Array) -> Array:
    """Output tiles of an m x n result with the better of 128x256 and 256x128. Holds for m, n >= 1."""
    return np.minimum(
        np.ceil(m / TILE_SHORT) * np.ceil(n / TILE_LONG),
        np.ceil(m / TILE_LONG) * np.ceil(n / TILE_SHORT),
    )


def waves_paid(tile_count: Array, sms: Array, wave_loss: Array) -> Array:
    """Waves that are paid for: the fractional count plus `wave_loss` of what rounding up to whole waves would add.

    wave_loss 0.04 to 0.11 measured on A100 to GB300: split-K and stream-K hide about 90 % of the quantisation.
    """
    waves = tile_count / sms
    return waves + wave_loss * (np.ceil(waves) - waves)


def power_capped_share(limit_W: Array, rated_W: Array) -> Array:
    """Sustained matmul rate under a power set point over the rate at rated power: sqrt(limit / rated), at most 1.

    Large GEMMs pin the power limit, and clocks follow it: 0.60 of peak at 1,000 W and 0.49 to 0.50 at 700 W on B200 give an
    exponent of 0.54 (aiconfigurator@095f58a, SimuMax@4dcaae5). Holds for half to full rated power.
    """
    return np.minimum(np.sqrt(limit_W / rated_W), 1.0)


def gemm_s(
    m: Array,
    n: Array,
    k: Array,
    *,
    rate_FLOPps: Array,
    sms: Array,
    wave_loss: Array,
    k_ramp: Array,
    input_B: Array,
    output_B: Array,
    memory_Bps: Array,
    launch_s: Array,
) -> Array:
    """One m x n x k matrix product: t0 + (t_compute^3 + t_memory^3)^(1/3)  (op_fits G3 at sustained rates).

    `k_ramp`: prologue and epilogue expressed as extra k columns (about 100); `input_B`, `output_B`: bytes an element;
    `memory_Bps`: sustained. Median error 3 to 8 % for bf16 on unseen shapes, m 1 to 32768, n, k 32 to 65536.
    """
    compute = 2.0 * TILE_SHORT * TILE_LONG * sms * waves_paid(tiles(m, n), sms, wave_loss) * (k + k_ramp) / rate_FLOPps
    memory = ((m * k + k * n) * input_B + m * n * output_B) / memory_Bps
    return launch_s + np.cbrt(compute * compute * compute + memory * memory * memory)


def grouped_gemm_s(
    groups: Array,
    m: Array,
    n: Array,
    k: Array,
    *,
    rate_FLOPps: Array,
    half_rows: Array,
    sms: Array,
    wave_loss: Array,
    k_ramp: Array,
    input_B: Array,
    output_B: Array,
    memory_Bps: Array,
    launch_s: Array,
) -> Array:
    """`groups` products of m x n x k in one fused call, as the experts of a MoE layer: tiles of all groups share waves.

    The rate falls as m/(m + half_rows) where a group has few rows (op_fits section 6). Every group's weights stream once.
    """
    tile_count = groups * tiles(m, n)
    rate = rate_FLOPps * m / (m + half_rows)
    compute = 2.0 * TILE_SHORT * TILE_LONG * sms * waves_paid(tile_count, sms, wave_loss) * (k + k_ramp) / rate
    memory = groups * ((m * k + k * n) * input_B + m * n * output_B) / memory_Bps
    return launch_s + np.cbrt(compute * compute * compute + memory * memory * memory)


def attention_FLOP(tokens: Array, heads: Array, qk_dim: Array, v_dim: Array, attended: Array) -> Array:
    """Score and value products of one forward pass: 2 * tokens * heads * (d_qk + d_v) * attended  (EQ-05).

    `attended` is the mean number of keys that a query reads: s/2 causal, s full.
    """
    return 2.0 * tokens * heads * (qk_dim + v_dim) * attended


def attention_s(
    tokens: Array,
    heads: Array,
    qk_dim: Array,
    v_dim: Array,
    attended: Array,
    *,
    ramp_tokens: Array,
    rate_FLOPps: Array,
    launch_s: Array,
) -> Array:
    """Fused (flash) attention, forward: t0 + FLOP of (attended + s0/2) keys a query / sustained rate  (op_fits A1).

    `ramp_tokens` (s0: 200 A100, 650 Hopper and Blackwell) stands for the masked part of diagonal blocks and start-up.
    """
    return launch_s + attention_FLOP(tokens, heads, qk_dim, v_dim, attended + 0.5 * ramp_tokens) / rate_FLOPps


def memory_bound_s(moved_B: Array, memory_Bps: Array, kernels: Array, launch_s: Array) -> Array:
    """Operators limited by memory: bytes moved over the sustained bandwidth, and a start-up for each kernel."""
    return moved_B / memory_Bps + kernels * launch_s


def host_or_device_s(host_s: Array, device_s: Array) -> Array:
    """A sequence of launches whose host work and device work run beside each other: the slower one.

    The host runs ahead of the device, so that no gap opens while it is the faster one.
    """
    return np.maximum(host_s, device_s)
