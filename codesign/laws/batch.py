"""Batch size: critical batch, steps against tokens, published rules for batch and learning rate, ramps.

EQ-47, EQ-48, EQ-92. Elementwise over float64 arrays that broadcast together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def steps_over_least(batch_over_critical: Array) -> Array:
    """S/S_min = 1 + B_crit/B at the same loss  (EQ-47, McCandlish 2018, arXiv 1812.06162)."""
    return 1.0 + 1.0 / batch_over_critical


def tokens_over_least(batch_over_critical: Array) -> Array:
    """E/E_min = 1 + B/B_crit at the same loss  (EQ-47): data, and so compute, that a large batch wastes."""
    return 1.0 + batch_over_critical


def tokens_worth(batch_over_critical: Array) -> Array:
    """Worth of a token to a law of loss: 1 up to the critical batch, 2/(1 + B/B_crit) above it  (EQ-47).

    E/E_min at B_crit over E/E_min at B. Assumed: the runs that laws are fitted to have batches up to about the critical
    one, so that what such a batch wastes is in their constants already, and only what a larger one wastes comes on top.
    """
    return np.minimum(tokens_over_least(np.ones(1)) / tokens_over_least(batch_over_critical), 1.0)


def kaplan_critical_batch_tokens(loss: Array) -> Array:
    """2e8/L^(1/0.21) tokens, L on Kaplan's tokenizer: 7.4e6 at 2 nats  (EQ-47, arXiv 2001.08361)."""
    return 2e8 / loss ** np.full(1, 1.0 / 0.21)


def step_law_batch_tokens(tokens: Array) -> Array:
    """0.58 D^0.571 tokens, best batch, independent of N  (EQ-48, Step Law 2025, arXiv 2503.04715)."""
    return 0.58 * tokens ** np.full(1, 0.571)


def step_law_learning_rate(parameters: Array, tokens: Array) -> Array:
    """1.79 N^-0.713 D^0.307, N without vocabulary matrices  (EQ-48)."""
    return 1.79 * parameters ** np.full(1, -0.713) * tokens ** np.full(1, 0.307)


def deepseek_batch_tokens(compute_FLOP: Array) -> Array:
    """0.2920 C^0.3271 tokens  (EQ-43, DeepSeek LLM 2024, arXiv 2401.02954)."""
    return 0.2920 * compute_FLOP ** np.full(1, 0.3271)


def deepseek_learning_rate(compute_FLOP: Array) -> Array:
    """0.3118 C^-0.125  (EQ-43)."""
    return 0.3118 * compute_FLOP ** np.full(1, -0.125)


# Power Lines (Bergsma 2025, arXiv 2505.13738): how batches grow with tokens. Prefactors are recalled, not confirmed, so
# that a batch is carried from a known one and never predicted from nothing.
POWER_LINES_BEST, POWER_LINES_CRITICAL = 0.383, 0.462
MERRILL_STEPS_SAVED = 0.43  # of a batch ramp at equal loss (arXiv 2505.23971)


def ramp_steps(tokens: Sequence[Array], batch_tokens: Sequence[Array]) -> Array:
    """Optimizer steps of a run in phases: sum of tokens over batch  (EQ-92). Llama 3: 1.154e6 in three phases."""
    total = np.zeros(1)
    for amount, batch in zip(tokens, batch_tokens, strict=True):
        total = total + amount / batch
    return total
