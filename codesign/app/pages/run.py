"""Run and failures: how long does the run take, what does it give and cost, where is time lost, and what would be better."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from codesign.app import run_charts as charts
from codesign.app import session
from codesign.app.answers import Solved
from codesign.app.parts import add_section, show_answer, show_chart, show_table, solved_or_fault
from codesign.app.session import Current
from codesign.report import outcome_rows, run_figures, run_rows, view
from codesign.run import RunPlan


def draw() -> None:
    """The answer first, then what stands behind it."""
    now = session.current()
    with st.container():
        solved = solved_or_fault(now)
    if solved is None:
        return
    with st.container():
        st.markdown(f"#### {view.plain(view.title(solved.plan))}\nHow long does the run take, what does it give and cost, "
                    "and where is time lost?")
        if solved.run is None or now.answer.document is None:
            if now.answer.document is not None:
                add_section(now.answer.document, "run", "The spec has no run section: it plans a step, not a run.")
            return
        _answer(solved, solved.run, now)
    tabs = st.tabs(list(DETAILS), key="part", bind="query-params")
    for tab, (name, detail) in zip(tabs, DETAILS.values(), strict=True):
        if tab.open:  # what is not looked at is not drawn
            with tab:
                if outcome_rows.has(solved.run, name):
                    detail(solved.run)
                else:
                    add_section(now.answer.document, name, f"The spec has no run.{name}: nothing of it is planned.")


def _answer(solved: Solved, run: RunPlan, now: Current) -> None:
    before = (now.baseline.plan, now.baseline.run) if now.baseline else None
    show_answer(solved, run, run_figures.answer(run), run_figures.run_figures(solved.plan, run, before))
    if now.pinned is None:
        st.caption("Pin a baseline on the page Plan to see here what a change moves.")
    with st.expander("What this rests on"):
        st.markdown(view.bullets(run.inputs.notes))
        show_table(outcome_rows.phase_table(run), "phases")


# ---------------------------------------------------------------------------------------------------- the details


def _lost(run: RunPlan) -> None:
    said = run_rows.budget_summary(run)
    show_chart(run_rows.loss_rows(run), charts.losses(), f"What takes time from training. {said}")
    st.caption(said)
    show_table(run_rows.budget_table(run), "budget")
    st.markdown("##### What fails")
    show_table(run_rows.component_table(run), "components")
    for source in run_rows.component_sources(run):
        st.caption(view.plain(source))
    st.markdown("##### How much the run would bear")
    show_table(run_rows.bearable_table(run), "bearable")


def _policies(run: RunPlan) -> None:
    said = run_rows.policy_summary(run)
    st.markdown("##### After a failure")
    show_chart(run_rows.policy_rows(run), charts.policies(), f"Goodput by policy. {said}")
    st.caption(said)
    show_table(run_rows.policy_table(run), "policies")
    own, *others = run_rows.policy_names(run)
    with st.container(horizontal=True):
        for name in others:
            st.button(f"Adopt {name}", key=f"adopt-{name}", on_click=session.change, args=("run.policy", name))
    st.caption(f"The run's own is {own}. All of them with this layout and these rates.")
    st.markdown("##### Spare nodes")
    rows = run_rows.spare_rows(run)
    if rows:
        said = run_rows.spare_summary(run)
        show_chart(rows, charts.spares(run_rows.spare_nodes(run)), f"Goodput over spare nodes. {said}")
        st.caption(said)
    else:
        st.caption(f"The policy {own} keeps no spare nodes.")
    st.markdown("##### What is lost at once")
    show_table(run_rows.domain_table(run), "domains")


def _checkpoints(run: RunPlan) -> None:
    said = run_rows.interval_summary(run)
    show_chart(run_rows.interval_rows(run), charts.intervals(run.value("checkpoint_interval_s")),
               f"Goodput over the interval between checkpoints. {said}")
    st.caption(said)


def _loss(run: RunPlan) -> None:
    said = outcome_rows.loss_summary(run)
    st.markdown(view.plain(said))
    rows = outcome_rows.law_rows(run)
    if rows:
        show_chart(rows, charts.laws(), f"Loss by law. {said}")
        st.caption("Losses of laws with other tokenizers are not compared by value: their spread says how sure the form is.")
        show_table(outcome_rows.law_table(run), "laws")
    show_table(outcome_rows.facts(run, "loss"), "loss")


def _data(run: RunPlan) -> None:
    st.markdown(view.plain(outcome_rows.data_summary(run)))
    show_table(outcome_rows.facts(run, "data"), "data")


def _power(run: RunPlan) -> None:
    show_table(outcome_rows.facts(run, "power"), "power")


def _ladder(run: RunPlan) -> None:
    st.markdown(view.bullets(outcome_rows.ladder_notes(run)))
    for title, rows in outcome_rows.ladder_tables(run).items():
        st.markdown(f"##### {title}")
        show_table(rows, f"ladder-{title}")


def _serving(run: RunPlan) -> None:
    show_table(outcome_rows.facts(run, "serving"), "serving")


# A tab a line: the section of `run:` that it needs, and what draws it.
DETAILS: dict[str, tuple[str, Callable[[RunPlan], None]]] = {
    "Time lost": ("failures", _lost), "Policies and spares": ("failures", _policies), "Checkpoints": ("failures", _checkpoints),
    "Loss": ("loss", _loss), "Data": ("data", _data), "Power and cost": ("power", _power), "Ladder": ("ladder", _ladder),
    "Serving": ("serving", _serving),
}
