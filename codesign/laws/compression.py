"""How good a compressor a training run is: prequential code length of the stream from the loss curve.

EQ-57 to EQ-59. Elementwise over float64 arrays that broadcast together; a curve lies on the last axis. Losses in nats a
token, code lengths in bits. Each batch is scored before its own update, in one epoch: repeated epochs and held-out losses
are not code. The training program is part of a message, the weights are not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Chinchilla-70B, compressed size in per cent of the raw size, weights left out (Deletang 2023, arXiv 2309.10668)
CHINCHILLA_SIZE_PERCENT = {"ImageNet": 43.4, "LibriSpeech": 16.4}


def curve_code_bits(tokens: Array, loss: Array) -> Array:
    """(1/ln 2) times the integral of the loss over tokens, trapezoid along the last axis  (EQ-57).

    `tokens` ascending, from 0 or from where the curve begins; what lies before its first point is not counted.
    """
    width = tokens[..., 1:] - tokens[..., :-1]
    return (0.5 * width * (loss[..., 1:] + loss[..., :-1])).sum(axis=-1) / math.log(2.0)


def law_code_bits(tokens: Array, floor: Array, scale: Array, exponent: Array) -> Array:
    """[E' D + B D^(1-beta)/(1-beta)]/ln 2 for L = E' + B D^-beta  (EQ-58). Holds for beta < 1.

    E' = E + A/N^alpha. Idealised: Chinchilla laws describe the ends of runs, a curve at full learning rate lies above.
    """
    return (floor * tokens + scale * tokens ** (1.0 - exponent) / (1.0 - exponent)) / math.log(2.0)


def capped_code_bits(tokens: Array, floor: Array, scale: Array, exponent: Array, vocabulary: Array) -> Array:
    """The same with the loss held at ln V, that of a uniform guess, until the law falls below it  (EQ-58); if it ever does."""
    ceiling = np.log(vocabulary)
    falls = floor < ceiling
    start = np.where(falls, np.minimum((scale / np.where(falls, ceiling - floor, 1.0)) ** (1.0 / exponent), tokens), tokens)
    before = law_code_bits(start, floor, scale, exponent)
    return flat_code_bits(start, ceiling) + law_code_bits(tokens, floor, scale, exponent) - before


def flat_code_bits(tokens: Array, loss: Array) -> Array:
    """D L/ln 2: code of tokens at one loss  (EQ-57)."""
    return tokens * loss / math.log(2.0)


def absorbed_bits(tokens: Array, scale: Array, exponent: Array) -> Array:
    """Code above D times the final loss, D B D^-beta beta/(1-beta)/ln 2: what the model took from the data  (EQ-58)."""
    return tokens * final_share(exponent) * scale * tokens**-exponent / math.log(2.0)


def final_share(exponent: Array) -> Array:
    """Excess of the code over the final loss, in units of the final data term: beta/(1-beta), 0.577 for 0.3658  (EQ-58)."""
    return exponent / (1.0 - exponent)


def compression_ratio(raw_B: Array, code_bits: Array) -> Array:
    """8 raw bytes over code bits  (EQ-57): 14 for LLaMA-65B, 5.6 TB in 400 GB."""
    return 8.0 * raw_B / code_bits


def bits_per_byte(raw_B: Array, code_bits: Array) -> Array:
    """Code bits a raw byte  (EQ-57)."""
    return code_bits / raw_B


def mean_loss(code_bits: Array, tokens: Array) -> Array:
    """Mean nats a token over the run that a code length stands for  (EQ-57)."""
    return code_bits * math.log(2.0) / tokens
