"""Colours of charts, once: those of Okabe and Ito, which people with the common colour blindnesses tell apart.

No chart says anything by colour alone: bars carry labels, points shapes, and a table with the numbers stands below.
"""

from __future__ import annotations

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, BROWN = "#56B4E9", "#CC79A7", "#7F7F7F", "#8C6D31"
YELLOW, SILVER, TEAL = "#F0E442", "#BBBBBB", "#44AA99"

SERIES = (BLUE, ORANGE, GREEN, SKY, PURPLE, BROWN, GREY, YELLOW, SILVER, TEAL)  # without the colour of limits
LIMIT = VERMILLION  # a line that must not be crossed
LESS, MORE = GREEN, VERMILLION  # shorter and longer steps

# what a part of the step is spent on
KINDS = {
    "compute": BLUE, "communication, exposed": ORANGE, "idle and overhead": GREY, "communication, hidden": SKY,
}

# what a rank does in a stretch of its step
STRIP = {
    "forward": BLUE, "backward": ORANGE, "input gradient": GREEN, "weight gradient": BROWN, "steady state": SKY,
    "bubble": SILVER, "wait": GREY, "hand-over": PURPLE, "data parallel": VERMILLION, "optimizer": TEAL, "rest": YELLOW,
}

# which layout or shape a point is; each has a form of its own as well
ROLES = {
    "slower": (SKY, "circle"), "Pareto front": (BLUE, "square"), "best": (ORANGE, "diamond"), "this plan": (VERMILLION, "cross"),
}
