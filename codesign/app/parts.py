"""What pages share: texts that are shown as they are, faults, figures, tables, charts, explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from codesign.app import session
from codesign.app.answers import Solved
from codesign.app.charts import Chart
from codesign.app.session import Current
from codesign.app.specs import Fault
from codesign.app.starters import starters
from codesign.report import explained, view
from codesign.report.figures import Figure
from codesign.spec.load import Document

# whether more of a figure is better -> how its change is coloured, and whether an arrow shows its direction
COLOURS: dict[str, Literal["normal", "inverse", "off"]] = {"more": "normal", "less": "inverse", "same": "off"}
ARROWS: dict[str, Literal["auto", "off"]] = {"more": "auto", "less": "auto", "same": "off"}
CARD = 170  # pixels: two beside each other on a telephone, four on a small screen


def show_fault(fault: Fault) -> None:
    """What is wrong with the input, and the line that it stands in."""
    st.error(view.plain(fault.message))
    if fault.caret:
        st.code(fault.caret, language=None)


def solved_or_fault(now: Current) -> Solved | None:
    """The plan to draw, after saying what is wrong: nothing to draw where there is none."""
    if now.answer.fault is not None:
        show_fault(now.answer.fault)
    return now.answer.solved


def show_figures(solved: Solved, figures: Sequence[Figure]) -> None:
    """The numbers that come first, as cards that wrap; each opens its explanation."""
    with st.container(horizontal=True, gap="small"):
        for figure in figures:
            with st.container(border=True, width=CARD, gap="xsmall", key=f"figure-{figure.quantity}"):
                st.metric(figure.label, figure.value, figure.delta, COLOURS[figure.better],
                          delta_arrow=ARROWS[figure.better])
                st.caption(figure.interval)
                why = st.popover("Why?", type="tertiary", key=f"why-{figure.quantity}", on_change="rerun",
                                 help=f"Equation, inputs and source of {figure.quantity}")
                if why.open:
                    with why:
                        show_explanation(solved, figure.quantity, 1)


def show_explanation(solved: Solved, name: str, depth: int) -> None:
    """What a number is, the equation, its inputs with their values, and where they are from."""
    found = explained.explain(solved.plan, solved.run, name, depth)
    st.markdown(found.tree)
    if found.equation:
        st.code(found.equation, language="python", wrap_lines=True)


def show_chart(rows: Sequence[dict[str, Any]], chart: Chart, alt: str) -> None:
    """A chart with a text for those who do not see it."""
    st.vega_lite_chart(list(rows), chart, width="stretch", alt=alt)


def show_table(rows: Sequence[dict[str, Any]], key: str, order: Sequence[str] | None = None) -> None:
    """Rows of texts; `order` puts some columns first."""
    st.dataframe(list(rows), hide_index=True, width="stretch", key=key, column_order=order)


def add_section(found: Document, name: str, missing: str) -> None:
    """What the spec does not ask for, and a button that adds it with the texts of `starters.yaml`."""
    starter = starters()[name]
    st.info(missing, icon=":material/add_circle:")
    st.button(f"Add the section {name}", key=f"add-{name}-section", on_click=session.adopt, args=(starter.changes(found),))
    st.caption(f"It adds: {view.plain(starter.told)}")
