"""What the shape of a dense decoder costs at equal parameters and tokens: weak, stated terms.

Two measures. An *increase* is relative to the loss of the best shape of the same size (0.01: one per cent), as the papers
print it. A *share* is that of the parameters which the best shape would need for the same loss: it can be carried to
another size, where one per cent of a loss near its floor would be worth many times the tokens.

How weak: Kaplan 2020 (arXiv 2001.08361, fig. 5) varies the ratio of width to depth by a factor of 40, stays within 3 %, and
prices 1 % of loss at 22 % of compute; Tay 2021 (arXiv 2109.10686) confirms it for pre-training loss, and finds that
fine-tuned quality does depend on the shape, which no function here knows. How uncertain: Levine 2020 (arXiv 2006.12467)
puts the best ratio at about 320 for 10^12 parameters (width 30,000), the Gemstones fits at 43 to 131 for 4 x 10^11. All
were trained at 2 x 10^9 parameters or less: larger models are extrapolated. Arguments are float64 arrays or numbers above 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64] | float

# Kaplan 2020, caption of fig. 5: (layers, width) = (6, 4288) is within 3 % of (48, 1600)
KAPLAN_BEST = 1600.0 / 48.0
KAPLAN_WIDE = 4288.0 / 6.0
KAPLAN_INCREASE = 0.03
KAPLAN_N = 0.076  # L ~ N^-0.076, the baseline of the figure

# Kaplan 2020, fig. 5, left panel, read off the chart to 0.3 points: 0 at d_ff = 2 d_model, 0.3 % at 4, 1.6 % at 8,
# 4.8 % at 20, 8 % at 40; 0.7 % at 0.5. 50M parameters, two matrices.
FFN_BEST = 2.0
FFN_WIDE = 0.0088  # per squared logarithm above the best ratio
FFN_NARROW = 0.0036  # below it


@dataclass(frozen=True)
class WidthDepthFit:
    """L = A / width^a + B / depth^b + C / parameters^c + D / tokens^d + E; the upper-case letters as logarithms."""

    name: str
    width: tuple[float, float]  # exponent, logarithm of the coefficient
    depth: tuple[float, float]
    parameters: tuple[float, float]
    tokens: tuple[float, float]
    irreducible: float


# McLeish 2025 (arXiv 2502.06857), mcleish7/gemstone-scaling-laws@5f42047, parameters_delta-4: widths 256 to 3,072, depths 3
# to 80, at most 2 x 10^9 parameters and 350 x 10^9 tokens of Dolma, Gemma-like blocks, vocabulary of 50,304.
GEMSTONES = (
    WidthDepthFit(
        "annealed", (0.30146699, 1.6375654653), (0.3655461733, -0.0254911443), (0.5055007692, 7.8653383939),
        (0.4670177667, 9.9838221358), 0.4195179541,
    ),
    WidthDepthFit(
        "half learning rate", (0.2880813791, 1.7062208519), (0.3433880468, 0.0047673312),
        (0.6395016896, 10.018526774), (0.5200825759, 11.3779063054), 0.4032489291,
    ),
    WidthDepthFit(
        "constant learning rate", (0.2195783536, 1.082043835), (0.4758917337, -0.2186969889),
        (0.3636454068, 6.0902355695), (0.4935127042, 10.4720427681), 0.4282048563,
    ),
)


def kaplan_aspect_increase(hidden: Array, layers: Array) -> Array:
    """Quadratic in the logarithm of width over depth through the two shapes of Kaplan's caption, 33 the best.

    Ratios of 4 to 715 at 50M to 1.5B parameters; his chart shows 2 to 3 % at 4 and 2.8 to 4.6 % at 700, below 1 % from
    13 to 250.
    """
    log = np.log(hidden / layers / KAPLAN_BEST) / np.log(KAPLAN_WIDE / KAPLAN_BEST)
    return KAPLAN_INCREASE * log * log


def share_of_parameters(increase: Array) -> Array:
    """Parameters of the best shape with the same loss over those of this one, by L ~ N^-0.076 (Kaplan 2020, eq. 1.1).

    One per cent of loss is 12 % of the parameters.
    """
    return (1.0 + increase) ** (-1.0 / KAPLAN_N)


def gemstones_aspect_increase(
    hidden: Array, layers: Array, parameters: Array, tokens: Array, fit: WidthDepthFit = GEMSTONES[0]
) -> Array:
    """The fitted loss over that of the best width and depth with the same width^2 x depth (McLeish 2025).

    `parameters`: all, the vocabulary once or twice as stored; they and `tokens` set the loss that the increase is relative to.
    """
    best = gemstones_best_hidden(hidden, layers, fit)
    volume = hidden * hidden * layers
    floor = _power(parameters, fit.parameters) + _power(tokens, fit.tokens) + np.exp(fit.irreducible)
    least = _power(best, fit.width) + _power(volume / (best * best), fit.depth)
    return (_power(hidden, fit.width) + _power(layers, fit.depth) - least) / (least + floor)


def gemstones_aspect_share(hidden: Array, layers: Array, parameters: Array, fit: WidthDepthFit = GEMSTONES[0]) -> Array:
    """Parameters of the best shape with the same fitted loss over those of this one (McLeish 2025), to first order.

    The best shapes lose a N^-a + b d^-b of loss for a logarithm of size: exponents and terms of parameters and of depth,
    the width being at its best.
    """
    best = gemstones_best_hidden(hidden, layers, fit)
    depth = hidden * hidden * layers / (best * best)
    slope = fit.parameters[0] * _power(parameters, fit.parameters) + fit.depth[0] * _power(depth, fit.depth)
    lost = _power(hidden, fit.width) + _power(layers, fit.depth) - _power(best, fit.width) - _power(depth, fit.depth)
    return np.exp(-lost / slope)


def gemstones_best_hidden(hidden: Array, layers: Array, fit: WidthDepthFit = GEMSTONES[0]) -> Array:
    """The width of least fitted loss among shapes of the same width^2 x depth, in closed form."""
    (a, log_a), (b, log_b) = fit.width, fit.depth
    volume = np.log(hidden * hidden * layers)
    return np.exp((np.log(a / (2.0 * b)) + log_a - log_b + b * volume) / (a + 2.0 * b))


def ffn_ratio_increase(ffn: Array, hidden: Array, matrices: Array) -> Array:
    """What a wide or narrow FFN costs, by its width in terms of two matrices (a gated one counts half as wide again).

    Read off a chart (Kaplan 2020, fig. 5, left), to 0.3 points at 50M parameters; ratios of 0.5 to 40.
    """
    log = np.log(ffn * matrices / 2.0 / hidden / FFN_BEST)
    return np.where(log > 0.0, FFN_WIDE, FFN_NARROW) * log * log


def _power(size: Array, term: tuple[float, float]) -> Array:
    exponent, log_coefficient = term
    return np.exp(log_coefficient - exponent * np.log(size))
