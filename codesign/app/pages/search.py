"""Search: which layout is best, what is nearly as good, why not another; a click takes one over."""

from __future__ import annotations

from typing import Any

import streamlit as st

from codesign.app import charts, session, works
from codesign.app.parts import show_chart_to_pick, show_job, show_table, solved_or_fault, take_over, taken_over
from codesign.app.session import Current
from codesign.planner import Plan
from codesign.report import found, view
from codesign.report.found import Found
from codesign.search import around
from codesign.search.around import Question

FIRST = ("tp", "pp", "vpp", "micro_batch", "recompute")
WITHIN = {"1 %": "0.01", "3 %": "0.03", "10 %": "0.1"}
JOB, WHY = "job-search", "job-why-not"


def draw() -> None:
    """What is open, then what was found; searched anew when anything changes."""
    now = session.current()
    with st.container():
        solved = solved_or_fault(now)
    if solved is None or now.answer.document is None:
        return
    with st.container():
        question = _question(now, solved.plan, now.answer.document.data)
    with st.container():
        taken_over(now)
    rows: Found | None = show_job(JOB, works.key("search", question.data, question.free), works.search(question))
    if rows is not None:
        _found(rows, solved.plan, question)
    with st.expander("Why not another layout?"):
        _why_not(question)


# ---------------------------------------------------------------------------------------------------- the question


def _question(now: Current, plan: Plan, data: dict[str, Any]) -> Question:
    st.markdown(f"#### Which layout is best?\n{view.plain(view.title(plan))}. Fields that are open are searched; all others stay "
                "as in the plan.")  # fmt: skip
    can = around.openable(plan)
    free = st.pills("Open fields", can, selection_mode="multi", default=[name for name in FIRST if name in can], key="open",
                    bind="query-params")
    section = data.get("search") or {}
    with st.container(horizontal=True, gap="small"):
        first, second = found.two(section)
        with st.container(width=180):
            st.session_state["first"] = first
            st.selectbox("Rank by", found.objective_names(), key="first", on_change=_objectives)
        with st.container(width=180):
            st.session_state["second"] = second
            st.selectbox("Front against", [found.ALONE, *found.objective_names()], key="second", on_change=_objectives)
        with st.container(width=170):
            st.session_state["margin"] = str(section.get("memory_margin") or "")
            st.text_input("Memory kept free", key="margin", placeholder="for example 2 GiB", on_change=_margin)
        with st.container(width=200):
            st.session_state["within"] = found.within(section, WITHIN)
            st.segmented_control("Alternatives within", list(WITHIN), key="within", required=True, on_change=_within)
    return around.question(plan, data, free, {"best": found.NEAR_BEST})


def _objectives() -> None:
    chosen = found.objectives(st.session_state["first"], st.session_state["second"])
    session.adopt([("search.objectives", chosen)])


def _margin() -> None:
    session.adopt([("search.memory_margin", st.session_state["margin"].strip() or None)])


def _within() -> None:
    session.adopt([("search.within", WITHIN[st.session_state["within"]])])


# ---------------------------------------------------------------------------------------------------- the answer


def _found(rows: Found, plan: Plan, question: Question) -> None:
    st.markdown(f"**{view.plain(rows.headline)}**")
    if rows.nothing:
        st.warning("No feasible layout. The nearest misses, and what would lift each:", icon=":material/block:")
        st.code(rows.nothing, language=None, wrap_lines=True)
    if rows.axes is not None and rows.points:
        points = [*rows.points, *found.here(plan, rows.objectives)]
        st.caption("Click a point to take its layout over into the plan; the pinned baseline stays.")
        chart = charts.scatter(rows.axes, "candidate", found.roles(points))
        show_chart_to_pick(points, chart, found.summary(rows), "pareto", "candidate", lambda number: _take(rows, number))
    if rows.best:
        st.markdown("##### The best")
        show_table(rows.best, "best")
        _adopt(rows)
    if rows.alternatives:
        st.markdown(f"##### The best of every other kind within {rows.within} of the best")
        show_table(rows.alternatives, "alternatives")
    if rows.meaning:
        st.caption(rows.meaning)
    left, right = st.columns(2)
    with left:
        st.markdown("##### Why not the others")
        show_table(rows.tally, "tally")
    with right:
        st.markdown("##### Combinations that do not exist")
        show_table(rows.left_out, "left-out")


def _adopt(rows: Found) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox("A layout to take over", list(rows.named), format_func=rows.named.__getitem__, key="layout-taken")
        st.button("Take it over", key="take", on_click=_take, args=(rows, number), icon=":material/check:")


def _take(rows: Found, number: int | None) -> None:
    fields = rows.fields.get(number) if number is not None else None
    if fields is not None:
        take_over(lambda written: around.changes(fields, written))


# ---------------------------------------------------------------------------------------------------- why not


def _why_not(question: Question) -> None:
    asked = st.text_input("Fields of the layout", key="asked", bind="query-params", placeholder="tp=4, pp=8",
                          help="Fields and values; what is left out is searched as above.")
    if not asked:
        return
    said = show_job(WHY, works.key("why", question.data, question.free, asked), works.why_not(question, asked))
    if said is not None:
        st.code(said, language=None, wrap_lines=True)
