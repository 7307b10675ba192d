"""The what-if page: a spec on the left, its plan on the right. Every number and every word comes from `codesign`."""

from pathlib import Path

import streamlit as st

from codesign.evidence import nearest
from codesign.planner import Plan
from codesign.report import markdown, view

COLOURS = {"more": "normal", "less": "inverse", "same": "off"}
ARROWS = {"more": "auto", "less": "auto", "same": "off"}


@st.cache_resource
def examples() -> dict[str, str]:
    """The shipped specs by name."""
    files = sorted(Path(__file__).with_name("examples").glob("*.yaml"))
    return {path.stem: path.read_text(encoding="utf-8") for path in files}


@st.cache_data(max_entries=64, show_spinner="Looking for measured runs like this one")
def similar_runs(spec_hash: str, _plan: Plan) -> list[dict]:
    """The measured runs most like this one; one look-up a spec."""
    return nearest.nearest(_plan)


def take_example() -> None:
    st.session_state.spec = examples()[st.session_state.example]
    st.session_state.refused = None


def take_upload() -> None:
    file = st.session_state.upload
    if file is None:
        return
    text, fault = view.upload_text(file.getvalue(), file.name)
    st.session_state.refused = fault
    if fault is None:
        st.session_state.spec = text


def pin(plan: Plan | None) -> None:
    st.session_state.baseline = plan


def show_fault(fault: view.Fault) -> None:
    st.error(view.plain(fault.message))
    if fault.caret:
        st.code(fault.caret, language=None)


def show_spec() -> str:
    """The left side: choose, upload or edit a spec."""
    st.subheader("Spec")
    st.selectbox("Example", list(examples()), key="example", on_change=take_example)
    st.file_uploader("Upload a spec", type=["yaml", "yml"], key="upload", on_change=take_upload, max_upload_size=1)
    if st.session_state.refused is not None:
        show_fault(st.session_state.refused)
    return st.text_area("YAML", key="spec", height=640, max_chars=view.MAX_TEXT_B)


def show_answer(plan: Plan, baseline: Plan | None) -> None:
    st.markdown(view.plain(view.question(plan)))
    if plan.feasible:
        st.success(view.verdict(plan.violations))
    else:
        st.warning(view.bullets([view.verdict(plan.violations), *plan.violations]))
    for column, metric in zip(st.columns(4), view.metrics(plan, baseline), strict=True):
        colour, arrow = COLOURS[metric.better], ARROWS[metric.better]
        column.metric(metric.label, metric.value, metric.delta, colour, delta_arrow=arrow, border=True)
    st.caption(view.bullets(view.small_print(plan)))


def show_baseline(plan: Plan, baseline: Plan | None) -> None:
    left, right = st.columns(2)
    left.button("Pin as baseline", key="pin", on_click=pin, args=(plan,), width="stretch")
    right.button("Unpin", key="unpin", on_click=pin, args=(None,), disabled=baseline is None, width="stretch")
    if baseline is not None:
        changed = view.changes(plan, baseline)
        if changed:
            st.table(changed, hide_index=True)
        else:
            st.caption("This plan is the baseline: change the spec to see what moves.")


def show_details(plan: Plan, baseline: Plan | None, runs: list[dict]) -> None:
    time, memory, traffic, limits, why, measured = st.tabs(
        ["Time", "Memory", "Traffic", "What limits it", "Explain", "Measured runs"]
    )
    with time:
        st.vega_lite_chart(view.time_chart_rows(plan, baseline), view.time_chart(), alt="Parts of the step in seconds")
        st.dataframe(view.time_table(plan, baseline), hide_index=True, key="time")
    with memory:
        st.markdown(view.plain(view.memory_line(plan)))
        st.vega_lite_chart(view.memory_rows(plan), view.memory_chart(plan), alt="Memory by pipeline rank")
        st.dataframe(view.memory_table(plan), hide_index=True, key="memory")
    with traffic:
        st.dataframe(view.traffic_table(plan), hide_index=True, key="traffic")
    with limits:
        st.dataframe(view.elasticity_table(plan), hide_index=True, key="limits")
    with why:
        name = st.selectbox("Quantity", view.quantity_names(plan), key="quantity")
        depth = st.segmented_control("Levels", [1, 2, 3], default=1, required=True, key="depth")
        st.markdown(view.explanation(plan, name, depth))
    with measured:
        st.dataframe(view.nearest_table(runs), hide_index=True, key="measured")


def show_downloads(plan: Plan, runs: list[dict]) -> None:
    files = [
        ("Report (Markdown)", markdown.markdown(plan, runs), "report.md", "text/markdown"),
        ("Resolved spec (YAML)", view.resolved_yaml(plan), "spec.yaml", "text/yaml"),
    ]
    for column, (label, text, name, kind) in zip(st.columns(2), files, strict=True):
        column.download_button(label, text, name, kind, on_click="ignore", width="stretch")


def main() -> None:
    st.set_page_config(page_title="codesign", layout="wide")
    st.set_option("client.showErrorDetails", "none")  # a fault of ours goes to the log, not to the page
    st.session_state.setdefault("spec", next(iter(examples().values()), ""))
    st.session_state.setdefault("baseline", None)
    st.session_state.setdefault("refused", None)
    left, right = st.columns([2, 3], gap="large")
    with left:
        text = show_spec()
    with right:
        plan, fault = view.plan_text(text)
        if plan is None:
            show_fault(fault)
            return
        baseline = st.session_state.baseline
        show_answer(plan, baseline)
        show_baseline(plan, baseline)
        runs = similar_runs(plan.spec_hash, plan)
        show_details(plan, baseline, runs)
        show_downloads(plan, runs)


main()
