"""The weak terms of the shape reproduce the figures that they were taken from, and each other."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.laws import shape_loss as laws


def test_kaplan_caption_of_figure_5():
    """(layers, width) = (6, 4288) reaches a loss within 3 % of (48, 1600); arXiv 2001.08361."""
    assert laws.kaplan_aspect_increase(1600.0, 48.0) == pytest.approx(0.0, abs=1e-15)
    assert laws.kaplan_aspect_increase(4288.0, 6.0) == pytest.approx(0.03, rel=1e-12)


@pytest.mark.parametrize(("ratio", "chart"), [(4.0, 0.021), (13.0, 0.005), (27.0, 0.0005), (250.0, 0.006), (700.0, 0.028)])
def test_terms_are_near_kaplans_chart_of_1_5b_parameters(ratio: float, chart: float):
    """Middle panel of fig. 5 at 1.5B parameters, read to about 0.5 points; Gemstones is an independent fit at that size."""
    layers = (1.5e9 / 12 / ratio**2) ** (1 / 3)
    hidden = ratio * layers
    fitted = laws.gemstones_aspect_increase(hidden, layers, 1.5e9, 30e9)
    assert laws.kaplan_aspect_increase(hidden, layers) == pytest.approx(chart, abs=0.008)
    assert fitted == pytest.approx(chart, abs=0.016)


def test_one_per_cent_of_loss_is_kaplans_22_per_cent_of_compute():
    """Fig. 5: 22 % additional compute compensates for 1 % of loss. L ~ C^-0.050 says so; parameters are most of it."""
    compute = 1.01 ** (1 / 0.050)
    assert compute == pytest.approx(1.22, abs=0.005)
    assert 1 / laws.share_of_parameters(0.01) == pytest.approx(1.22 ** (0.050 / 0.076), rel=1e-2)


@pytest.mark.parametrize("fit", laws.GEMSTONES, ids=lambda fit: fit.name)
def test_best_width_is_the_minimum_over_shapes_of_equal_volume(fit: laws.WidthDepthFit):
    hidden, layers = 16384.0, 126.0
    best = laws.gemstones_best_hidden(hidden, layers, fit)
    widths = np.geomspace(best / 4, best * 4, 4001)
    depths = hidden**2 * layers / widths**2
    increases = laws.gemstones_aspect_increase(widths, depths, 4e11, 1e13, fit)
    assert widths[np.argmin(increases)] == pytest.approx(best, rel=2e-3)
    assert np.min(increases) == pytest.approx(0.0, abs=1e-9) and np.all(increases > -1e-12)
    assert 40 < best**3 / (hidden**2 * layers) < 140  # ratio of width to depth: the range that the docstring states


@pytest.mark.parametrize("fit", laws.GEMSTONES, ids=lambda fit: fit.name)
def test_share_of_parameters_is_what_the_best_shape_needs_for_the_same_loss(fit: laws.WidthDepthFit):
    """Against a search over sizes of the best shape. First order: within a tenth of the distance from 1."""
    hidden, layers, parameters, tokens = 3072.0, 18.0, 2e9, 4e10

    def loss(width: float, depth: float, count: float) -> float:
        best = laws.gemstones_best_hidden(width, depth, fit)
        volume = width * width * depth
        terms = (best, fit.width), (volume / best**2, fit.depth), (count, fit.parameters), (tokens, fit.tokens)
        floor = sum(np.exp(c - e * np.log(size)) for size, (e, c) in terms) + np.exp(fit.irreducible)
        return floor

    mine = loss(hidden, layers, parameters) * (1 + laws.gemstones_aspect_increase(hidden, layers, parameters, tokens, fit))
    sizes = np.linspace(0.5, 1.0, 50001)
    losses = np.array([loss(hidden, layers * size, parameters * size) for size in sizes])
    wanted = sizes[np.argmin(np.abs(losses - mine))]
    share = laws.gemstones_aspect_share(hidden, layers, parameters, fit)
    assert 0.5 < wanted < 0.99
    assert share == pytest.approx(wanted, abs=0.1 * (1 - wanted))


@pytest.mark.parametrize(
    ("ratio", "chart"), [(0.5, 0.007), (1.0, 0.0), (2.0, 0.0005), (4.0, 0.003), (8.0, 0.0165), (20.0, 0.0475), (40.0, 0.081)]
)
def test_ffn_ratio_is_read_off_the_left_panel(ratio: float, chart: float):
    """Kaplan 2020, fig. 5, left, 50M parameters, read to 0.3 points."""
    assert laws.ffn_ratio_increase(ratio * 512, 512.0, 2.0) == pytest.approx(chart, abs=0.003)


def test_a_gated_ffn_counts_half_as_wide_again():
    assert laws.ffn_ratio_increase(8192.0, 3072.0, 3.0) == pytest.approx(laws.ffn_ratio_increase(12288.0, 3072.0, 2.0))


def test_published_shapes_lose_little():
    """Llama 3.1 405B and GPT-3 are within one per cent of the best shape of their size by every source."""
    for hidden, layers, parameters in ((16384.0, 126.0, 4.06e11), (12288.0, 96.0, 1.75e11)):
        assert laws.kaplan_aspect_increase(hidden, layers) < 0.01
        for fit in laws.GEMSTONES:
            assert 0.0 <= laws.gemstones_aspect_increase(hidden, layers, parameters, 3e11, fit) < 0.01
