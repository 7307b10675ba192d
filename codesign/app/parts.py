"""What pages share: texts that are shown as they are, faults, figures, tables, charts, explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from codesign.app.charts import Chart
from codesign.app.session import Current
from codesign.app.specs import Fault
from codesign.report import explained, view
from codesign.report.figures import Figure

COLOURS = {"more": "normal", "less": "inverse", "same": "off"}
CARD = 172  # pixels: two beside each other on a telephone, four on a small screen
ARROWS = {"more": "auto", "less": "auto", "same": "off"}


def show_fault(fault: Fault) -> None:
    """What is wrong with the input, and the line that it stands in."""
    st.error(view.plain(fault.message))
    if fault.caret:
        st.code(fault.caret, language=None)


def show_figures(now: Current, figures: Sequence[Figure]) -> None:
    """The numbers that come first, as cards that wrap; each opens its explanation."""
    with st.container(horizontal=True, gap="small"):
        for figure in figures:
            with st.container(border=True, width=CARD, gap="xsmall", key=f"figure-{figure.quantity}"):
                st.metric(figure.label, figure.value, figure.delta, COLOURS[figure.better],
                          delta_arrow=ARROWS[figure.better])
                st.caption(figure.interval)
                with st.popover("Why?", type="tertiary", help=f"Equation, inputs and source of {figure.quantity}"):
                    show_explanation(now, figure.quantity, 1)


def show_explanation(now: Current, name: str, depth: int) -> None:
    """What a number is, the equation, its inputs with their values, and where they are from."""
    found = explained.explain(now.answer.plan, now.answer.run, name, depth)
    st.markdown(found.tree)
    if found.equation:
        st.code(found.equation, language="python", wrap_lines=True)


def show_chart(rows: Sequence[dict[str, Any]], chart: Chart, alt: str) -> None:
    """A chart with a text for those who do not see it."""
    st.vega_lite_chart(list(rows), chart, width="stretch", alt=alt)


def show_table(rows: Sequence[dict[str, Any]], key: str, order: Sequence[str] | None = None) -> None:
    """Rows of texts; `order` puts some columns first."""
    st.dataframe(list(rows), hide_index=True, width="stretch", key=key, column_order=order)
