"""Colours of charts, once: those of Okabe and Ito, which people with the common colour blindnesses tell apart.

The order is that of their difference in lightness too. All of them have a contrast of 3:1 or more with a white and with a
near-black ground, but for the two that only fill areas beside a label.
"""

from __future__ import annotations

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, BROWN = "#56B4E9", "#CC79A7", "#7F7F7F", "#8C6D31"

SERIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, GREY, BROWN)
LIMIT = VERMILLION  # a line that must not be crossed
LESS, MORE = GREEN, VERMILLION  # shorter and longer steps

# what a part of the step is spent on
KINDS = {
    "compute": BLUE, "communication, exposed": ORANGE, "idle and overhead": GREY, "communication, hidden": SKY,
}
