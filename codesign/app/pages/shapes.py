"""Shapes: is another shape of the model better on this hardware, what does this one waste, what does its step answer to."""

from __future__ import annotations

import streamlit as st

from codesign.app import charts, session, works
from codesign.app.answers import Answer, Solved
from codesign.app.parts import (
    show_chart,
    show_chart_to_pick,
    show_fault,
    show_job,
    show_table,
    solved_or_fault,
    take_over,
    taken_over,
)
from codesign.app.specs import fault_of
from codesign.errors import CodesignError
from codesign.report import shape_page, view
from codesign.report import shapes as words
from codesign.report.shape_page import Page
from codesign.search import lint
from codesign.spec import schema

JOB = "job-shapes"


def draw() -> None:
    """The ranking; then what this shape wastes, and what its step answers to."""
    now = session.current()
    with st.container():
        solved = solved_or_fault(now)
    if solved is None:
        return
    with st.container():
        taken_over(now)
    tabs = st.tabs(list(TABS), key="shape-tab", on_change="rerun")
    for tab, part in zip(tabs, TABS.values(), strict=True):
        if tab.open:
            with tab:
                part(now.answer, solved)


# ---------------------------------------------------------------------------------------------------- other shapes


def _others(answer: Answer, solved: Solved) -> None:
    plan = solved.plan
    st.markdown(f"#### Which shape is best?\n{view.plain(view.title(plan))}. Every shape is on the layout of this plan; "
                "what is no axis follows.")  # fmt: skip
    can = shape_page.axes_of(plan)
    names = st.pills("Dimensions to vary", can, selection_mode="multi", default=["hidden"], key="dims", bind="query-params")
    given: dict[str, str] = {}
    with st.container(horizontal=True, gap="small"):
        for name in names:
            with st.container(width=260):
                hint = shape_page.suggested(plan, name)
                given[name] = st.text_input(name, key=f"axis-{name}", placeholder=hint, bind="query-params",
                                            help="Values, or FIRST:LAST:STEP. Empty: those that are shown.") or hint
    with st.container(horizontal=True, gap="small"):
        with st.container(width=260):
            equal = st.selectbox("Held equal", list(words.CONSTRAINTS), format_func=words.CONSTRAINTS.__getitem__, key="equal",
                                 bind="query-params")
        if shape_page.is_solved(equal):
            with st.container(width=260):
                width = "expert_ffn" if plan.problem.spec.model.moe else "ffn"
                solve = st.selectbox("By solving", [shape_page.AUTOMATIC, width, "layers"], key="solve", bind="query-params")
        else:
            solve = shape_page.AUTOMATIC
    if not names or answer.loaded is None:
        st.caption("Choose a dimension.")
        return
    try:
        axes = {name: shape_page.values(name, text) for name, text in given.items()}
        work = works.rank(answer.loaded, axes, equal, None if solve == shape_page.AUTOMATIC else solve)
    except CodesignError as error:
        show_fault(fault_of(error))
        return
    found: Page | None = show_job(JOB, works.key("shapes", plan.spec_hash, axes, equal, solve), work)
    if found is not None:
        _ranked(found, plan.problem.spec.model)


def _ranked(found: Page, base: schema.Model) -> None:
    st.markdown(f"**{view.plain(found.summary)}**")
    if found.points:
        st.caption("Click a point to take its shape over into the plan; the pinned baseline stays.")
        chart = charts.scatter(found.titles, "rank", found.roles)
        show_chart_to_pick(found.points, chart, shape_page.said(found), "shape-scatter", "rank",
                           lambda rank: _take(found, base, rank))
    show_table(found.rows, "shapes")
    if found.named:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            rank = st.selectbox("A shape to take over", list(found.named), format_func=found.named.__getitem__, key="shape-taken")
            st.button("Take it over", key="take-shape", on_click=_take, args=(found, base, rank), icon=":material/check:")
    if found.rejected:
        st.markdown("##### Left out")
        show_table(found.rejected, "shapes-left-out")
    with st.expander("What this rests on"):
        st.markdown(view.bullets([*found.legend, *found.notes]))


def _take(found: Page, base: schema.Model, rank: int) -> None:
    row = found.dims.get(rank)
    if row is not None and not row.is_base:
        take_over(lambda written: shape_page.changes(base, row, written))


# ---------------------------------------------------------------------------------------------------- this shape


def _wastes(_: Answer, solved: Solved) -> None:
    plan = solved.plan
    findings = lint.lint(plan)
    st.markdown(f"#### What does this shape waste?\n{view.plain(words.lint_summary(plan.step_s, findings))}.")
    if findings:
        show_table(words.lint_table(plan.step_s, findings), "wastes")
        st.markdown(view.bullets([f"{finding.waste}, {finding.where}: {finding.message}" for finding in findings]))


def _answers_to(_: Answer, solved: Solved) -> None:
    found = shape_page.answers_to(solved.plan)
    st.markdown(f"#### What does the step answer to?\n{view.plain(shape_page.balance_line(found))}")
    show_chart(shape_page.swing_rows(found), charts.swings(found.plan.step_s),
               "The step with a fifth less and a quarter more of each resource")
    show_table(shape_page.swing_table(found), "swings")
    st.markdown("##### What each rate binds, against its fair share")
    show_table(shape_page.balance_table(found), "balance")


TABS = {"Other shapes": _others, "Wastes of this shape": _wastes, "What it answers to": _answers_to}
