"""Sites: what several sites give together, what goes over the links, which strategy pays, and how far each scale goes."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from codesign.app import run_charts as charts
from codesign.app import session
from codesign.app.answers import Solved
from codesign.app.parts import add_section, show_answer, show_chart, show_table, solved_or_fault
from codesign.app.session import Current
from codesign.report import run_figures, site_rows, view
from codesign.run import RunPlan


def draw() -> None:
    """The answer first, then what stands behind it."""
    now = session.current()
    with st.container():
        solved = solved_or_fault(now)
    if solved is None:
        return
    with st.container():
        st.markdown(f"#### {view.plain(view.title(solved.plan))}\nWhat do the sites give together, and does the network between "
                    "them pay?")
        if solved.run is None or not site_rows.has(solved.run):
            if now.answer.document is not None:
                add_section(now.answer.document, "sites", "The spec has one site: no traffic leaves it.")
            return
        _answer(solved, solved.run, now)
    tabs = st.tabs(list(DETAILS), key="between", bind="query-params")
    for tab, detail in zip(tabs, DETAILS.values(), strict=True):
        if tab.open:  # what is not looked at is not drawn
            with tab:
                detail(solved.run)


def _answer(solved: Solved, run: RunPlan, now: Current) -> None:
    before = (now.baseline.plan, now.baseline.run) if now.baseline else None
    show_answer(solved, run, site_rows.answer(run), run_figures.site_figures(solved.plan, run, before))
    if now.pinned is None:
        st.caption("Pin a baseline on the page Plan to see here what a change moves.")
    with st.expander("What this rests on"):
        st.markdown(view.bullets(run.inputs.notes))


# ---------------------------------------------------------------------------------------------------- the details


def _traffic(run: RunPlan) -> None:
    classes = site_rows.classes(run)
    kind = st.selectbox("Class of traffic", classes, key="class", bind="query-params")
    show_chart(site_rows.matrix_rows(run, kind), charts.matrix(), site_rows.matrix_summary(run, kind))
    st.caption("Mean rate over the step, from the site of the row to that of the column; of many sites, what one sends.")
    show_table(site_rows.traffic_table(run), "traffic-sites")
    st.markdown("##### State that must move")
    show_table(site_rows.move_table(run), "moves")


def _links(run: RunPlan) -> None:
    show_chart(site_rows.link_rows(run), charts.links(), "Mean use of each link")
    show_table(site_rows.link_table(run), "links")
    st.markdown("##### Work of the sites")
    show_table(site_rows.work_table(run), "work")


def _strategies(run: RunPlan) -> None:
    said = site_rows.strategy_summary(run)
    st.markdown(view.plain(said))
    show_chart(site_rows.share_rows(run), charts.strategies(), f"Utilisation and loss of each strategy. {said}")
    st.caption("Effective compute is both together: what waiting leaves, times what the loss of the replicas leaves.")
    show_table(site_rows.strategy_table(run), "strategies")
    st.markdown(view.bullets(site_rows.refused(run)))
    with st.container(horizontal=True):
        for name in site_rows.strategy_names(run):
            st.button(f"Adopt {name}", key=f"adopt-{name}", disabled=name == site_rows.STATED,
                      on_click=session.adopt, args=((("sync", site_rows.sync_text(run, name)),),))


def _pays(run: RunPlan) -> None:
    show_chart(site_rows.pays_rows(run), charts.pays(), "Bandwidth, over the stated one, from which each strategy pays")
    st.caption("A strategy pays where all sites together are faster than the fastest one alone, loss counted as compute.")
    show_table(site_rows.pays_table(run), "pays")


def _regimes(run: RunPlan) -> None:
    notes = site_rows.regime_notes(run)
    show_chart(site_rows.regime_rows(run), charts.regimes(), f"Effective accelerators from a thousand to ten million. {notes[0]}")
    st.caption("Every accelerator keeps its tokens a step. Circles are published; triangles are extrapolated beyond it.")
    st.markdown(view.bullets(notes))
    st.markdown("##### The powers of ten")
    show_table(site_rows.regime_table(run), "regimes")
    st.markdown(view.bullets(site_rows.beyond(run)))


DETAILS: dict[str, Callable[[RunPlan], None]] = {
    "Traffic": _traffic, "Links and work": _links, "Strategies": _strategies, "What bandwidth pays": _pays,
    "Regimes of scale": _regimes,
}
