"""Plan: how long is a step, does it fit, where do time and memory go; and what a change moves against the baseline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from codesign.app import charts, session
from codesign.app.answers import Solved
from codesign.app.parts import show_chart, show_explanation, show_figures, show_table, solved_or_fault
from codesign.app.session import Current
from codesign.evidence import nearest
from codesign.report import explained, figures, moved, over_sites, review, site_rows, strip, view, waterfall
from codesign.report import run as beyond
from codesign.report.review.document import Document


def draw() -> None:
    """The answer first, then what stands behind it."""
    now = session.current()
    with st.container():
        solved = solved_or_fault(now)
    if solved is None:
        return
    with st.container():  # one place each, so that the tabs below stay as they are when more is said above
        _answer(solved, now.baseline)
    with st.container():
        _baseline(now, solved)
    tabs = st.tabs(list(DETAILS), key="tab", bind="query-params")
    for tab, detail in zip(tabs, DETAILS.values(), strict=True):
        if tab.open:  # what is not looked at is not drawn
            with tab:
                detail(solved, now.baseline)
    _downloads(solved, now.baseline)


# ---------------------------------------------------------------------------------------------------- the answer


def _answer(solved: Solved, baseline: Solved | None) -> None:
    plan = solved.plan
    asked = over_sites.what(solved.run) if solved.run and solved.run.has_sites else view.question(plan)
    st.markdown(f"#### {view.plain(view.title(plan))}\n{view.plain(asked)}")
    first, *broken = figures.verdict(plan, solved.run)
    if broken:
        st.warning(view.bullets([first, *broken]), icon=":material/block:")
    elif beyond.unsure(plan, solved.run):
        st.warning(view.plain(first), icon=":material/help:")
    else:
        st.success(first, icon=":material/check:")
    before = (baseline.plan, baseline.run) if baseline else None
    show_figures(solved, figures.figures(plan, solved.run, before))
    with st.expander("What this rests on"):
        st.markdown(view.bullets(view.small_print(solved.step)))
    if solved.run and solved.run.has_sites:
        st.caption(f"Below is the step of {view.plain(over_sites.place(solved.run))}.")


def _baseline(now: Current, solved: Solved) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Pin as baseline", key="pin", on_click=session.pin, icon=":material/keep:",
                  disabled=now.pinned == now.state)
        st.button("Back to the baseline", key="back", on_click=session.back_to_baseline, icon=":material/undo:",
                  disabled=now.pinned is None or now.pinned == now.state)
        st.button("Unpin", key="unpin", on_click=session.unpin, icon=":material/keep_off:", disabled=now.pinned is None)
    if now.pinned is None:
        st.caption("Pin this plan, change a field on the left, and see here what moved and why.")
    elif now.baseline is None:
        st.caption("The pinned baseline has no plan: unpin it, or go back to it and mend it.")
    else:
        _moved(now.baseline, solved)


def _moved(before: Solved, solved: Solved) -> None:
    found = moved.moved((before.plan, before.run), (solved.plan, solved.run))
    if not found.changes:
        st.caption("This plan is the baseline: change a field to see what moves.")
        return
    st.subheader("What moved, and why")
    st.markdown(view.bullets(found.answer))
    left, right = st.columns(2)
    with left:
        show_table(found.changes, "changes")
        st.markdown(view.bullets(found.effects))
    with right:
        show_chart(found.parts, charts.moves(), f"Change of each part of the step. {found.summary}")
    with st.expander("Why each part moved"):
        st.markdown(view.bullets(found.causes))


# ---------------------------------------------------------------------------------------------------- the details


def _time(solved: Solved, baseline: Solved | None) -> None:
    plan = solved.step
    rows = waterfall.rows(plan)
    said = waterfall.summary(rows, plan.step_s)
    show_chart(rows, charts.waterfall(), f"Waterfall of the step. {said}")
    st.caption(said)
    show_table(view.time_table(plan, baseline.step if baseline else None), "time",
               ["part", "s", "ms", "share", "change", "what"])


def _memory(solved: Solved, _: Solved | None) -> None:
    plan, line = solved.step, view.memory_line(solved.step)
    st.markdown(view.plain(line))
    show_chart(view.memory_rows(plan), charts.memory(view.capacity_GiB(plan)), f"Memory by pipeline rank. {line}")
    show_table(view.memory_table(plan), "memory")


def _traffic(solved: Solved, _: Solved | None) -> None:
    plan = solved.step
    show_chart(view.traffic_rows(plan), charts.traffic(), "Share of each network link that is used, by traffic class")
    show_table(view.traffic_table(plan), "traffic")
    if solved.run is not None and site_rows.has(solved.run):
        st.markdown("##### From site to site")
        show_table(site_rows.traffic_table(solved.run), "sites")


def _limits(solved: Solved, _: Solved | None) -> None:
    plan = solved.step
    rows = view.elasticity_rows(plan, most=len(plan.elasticities))
    show_chart(rows, charts.tornado(), "Change of the step time for one per cent more of each input")
    show_table(view.elasticity_table(plan, most=len(plan.elasticities)), "limits")


def _explain(solved: Solved, _: Solved | None) -> None:
    names = explained.names(solved.plan, solved.run)
    name = st.selectbox("Quantity", names, key="explain", bind="query-params")
    depth = st.segmented_control("Levels", [1, 2, 3], default=1, required=True, key="depth", bind="query-params")
    show_explanation(solved, name, depth)


def _measured(solved: Solved, _: Solved | None) -> None:
    st.caption("The measured runs most like this one, and how wrong we are on each.")
    show_table(view.nearest_table(nearest.nearest(solved.step)), "measured")


def _pipeline(solved: Solved, _: Solved | None) -> None:
    found = strip.drawn(solved.step)
    if found.refused:
        st.info(view.plain(found.refused))
        return
    show_chart(found.bars, charts.strip(found.ranks), f"What each pipeline rank does over one step. {found.summary}")
    st.markdown(view.bullets([found.summary, *found.notes]))
    st.download_button("Download the timeline (trace.json)", lambda: strip.file(solved.step), "trace.json", "application/json",
                       on_click="ignore", icon=":material/download:", key="download-trace",
                       help="For ui.perfetto.dev, chrome://tracing and speedscope.")


_FORMS = (("HTML", review.html, "html", "text/html"), ("Markdown", review.markdown, "md", "text/markdown"))

# A tab a line; each draws the plan, and the baseline where it has a use for it.
DETAILS = {
    "Time": _time, "Memory": _memory, "Traffic": _traffic, "Pipeline": _pipeline, "What limits it": _limits, "Explain": _explain,
    "Measured runs": _measured,
}


def _downloads(solved: Solved, baseline: Solved | None) -> None:
    """The design review, made when it is asked for; with a baseline the review of the change from it as well."""
    made: list[tuple[str, str, Callable[[], Document]]] = [
        ("the design review", "review", partial(review.of_plan, solved.plan, solved.run))
    ]
    if baseline is not None:
        pair = (solved.plan, solved.run), (baseline.plan, baseline.run)
        made.append(("the review of the change", "change", partial(review.of_change, *pair)))
    for what, name, document in made:
        for form, write, ending, kind in _FORMS:
            st.download_button(
                f"Download {what} ({form})", partial(_written, write, document), f"{name}.{ending}", kind, on_click="ignore",
                icon=":material/download:", key=f"download-{name}-{ending}",
            )  # fmt: skip


def _written(write: Callable[[Document], str], document: Callable[[], Document]) -> str:
    return write(document())
