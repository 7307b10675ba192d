"""What pages share: texts that are shown as they are, faults, figures, tables, charts, explanations."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from codesign.app import jobs, session
from codesign.app.answers import Solved
from codesign.app.charts import Chart
from codesign.app.jobs import Job, Work
from codesign.app.session import Current
from codesign.app.specs import Fault
from codesign.app.starters import starters
from codesign.errors import CodesignError
from codesign.report import explained, view
from codesign.report import found as words
from codesign.report.figures import Figure
from codesign.run import RunPlan
from codesign.spec.load import Document

# whether more of a figure is better -> how its change is coloured, and whether an arrow shows its direction
COLOURS: dict[str, Literal["normal", "inverse", "off"]] = {"more": "normal", "less": "inverse", "same": "off"}
ARROWS: dict[str, Literal["auto", "off"]] = {"more": "auto", "less": "auto", "same": "off"}
AT_ONCE_S = 0.6  # what is found so soon is shown without a word about progress
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


def show_chart(rows: Sequence[Mapping[str, Any]], chart: Chart, alt: str) -> None:
    """A chart with a text for those who do not see it."""
    st.vega_lite_chart(list(rows), chart, width="stretch", alt=alt)


def show_table(rows: Sequence[Mapping[str, Any]], key: str, order: Sequence[str] | None = None) -> None:
    """Rows of texts; `order` puts some columns first."""
    st.dataframe(list(rows), hide_index=True, width="stretch", key=key, column_order=order)


def show_answer(solved: Solved, run: RunPlan, said: Sequence[str], figures: Sequence[Figure]) -> None:
    """The verdict of a run in sentences, as a warning where something does not hold, and its figures."""
    told = view.bullets([*run.violations, *said])
    if run.violations:
        st.warning(told, icon=":material/block:")
    else:
        st.success(told, icon=":material/check:")
    show_figures(solved, figures)


# ---------------------------------------------------------------------------------------------------- work that takes longer


def show_job(name: str, key: Hashable, work: Work) -> Any:
    """What the work finds, or None after saying how far it is; it goes on beside the page and can be stopped.

    `name`: under which this visit keeps its job; `key`: equal keys have equal answers, which visits share.
    """
    try:
        job = jobs.JOBS.ask(key, work, st.session_state.get(name), session.visit(), st.context.ip_address)
    except CodesignError as error:
        st.warning(view.plain(error))
        return None
    st.session_state[name] = job
    job.wait(AT_ONCE_S)
    if job.under_way:
        _progress(name)
        return None
    if job.fault is not None:
        show_fault(job.fault)
    if job.state == "stopped":
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Stopped.")
            st.button("Go on from the beginning", key=f"again-{name}", on_click=_forget, args=(name,))
    return job.found


@st.fragment(run_every=1.0)
def _progress(name: str) -> None:
    """Drawn again every second while the job is under way."""
    job: Job = st.session_state[name]
    job.looked_at()
    if not job.under_way:
        st.rerun()
    st.progress(job.share, job.said)
    st.button("Stop", key=f"stop-{name}", on_click=job.stop, icon=":material/stop_circle:")


def _forget(name: str) -> None:
    st.session_state.pop(name, None)


# ---------------------------------------------------------------------------------------------------- taking over


def show_chart_to_pick(
    rows: Sequence[Mapping[str, Any]], chart: Chart, alt: str, key: str, field: str, picked: Callable[[Any], None]
) -> None:
    """A chart whose points can be clicked: `picked` gets the number in their `field`."""

    def clicked() -> None:
        chosen = st.session_state[key].selection.get("pick") or []
        if chosen and field in chosen[0]:
            picked(chosen[0][field])

    st.vega_lite_chart(list(rows), chart, width="stretch", alt=alt, key=key, on_select=clicked)


def take_over(changes_of: Callable[[Mapping[str, Any]], Sequence[tuple[str, str | None]]]) -> None:
    """Adopt fields; `changes_of` the spec as it is written, without changes."""
    written = session.written()
    if written is None:
        return
    changes = changes_of(written)
    session.adopt(changes)
    st.session_state["taken"] = (session.asked(), words.said(changes))


def taken_over(now: Current) -> None:
    """What was taken over last, as long as nothing else has changed."""
    state, said = st.session_state.get("taken", (None, ""))
    if state == now.state:
        st.success(f"Taken over into the plan, other than the spec as it is written: {view.plain(said)}. The pinned baseline "
                   "stays; the page Plan shows what moved.", icon=":material/check:")  # fmt: skip


def add_section(found: Document, name: str, missing: str) -> None:
    """What the spec does not ask for, and a button that adds it with the texts of `starters.yaml`."""
    starter = starters()[name]
    st.info(missing, icon=":material/add_circle:")
    st.button(f"Add the section {name}", key=f"add-{name}-section", on_click=session.adopt, args=(starter.changes(found),))
    st.caption(f"It adds: {view.plain(starter.said(found))}")
