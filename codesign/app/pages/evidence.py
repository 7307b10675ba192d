"""Evidence: how wrong are we, and where. All of it is what `make refit` wrote; nothing is predicted here."""

from __future__ import annotations

import streamlit as st

from codesign.app import charts
from codesign.app.parts import show_chart, show_table
from codesign.report import record

COLOURS = {"Dense or MoE": "kind", "Stack": "stack", "Accelerator": "family"}


def draw() -> None:
    """The errors in a sentence, measured against predicted, then by cell."""
    st.markdown(f"#### How wrong are we?\n{record.sentence()}")
    by = st.segmented_control("Colour by", list(COLOURS), default="Dense or MoE", required=True, key="by",
                              bind="query-params")
    rows = record.points()
    show_chart(rows, charts.measured(COLOURS[by]), f"Predicted against measured step of {len(rows)} runs. {record.sentence()}")
    st.caption("Predicted with the constants as they are shipped, fitted on all of these. At most ten rows of a publication, "
               "model and accelerator are drawn; the tables count all.")
    st.markdown("##### Step time, with the constants fitted without what they are tested on")
    show_table(record.held_out_rows(), "held-out")
    st.markdown("##### 80 % intervals by accelerator family, stack and kind of model")
    show_table(record.interval_rows(), "intervals")
    st.markdown("##### How often the faster of two is called rightly")
    show_table(record.ranking_rows(), "ranking")
