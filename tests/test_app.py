"""The what-if page, run by Streamlit's own harness: it shows what the plan says, and computes nothing itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from codesign import units
from codesign.planner import plan
from codesign.report import view
from codesign.spec import load

APP = Path(__file__).parent.parent / "app.py"
TEXT = (APP.parent / "examples" / "llama-3.1-405b-h100.yaml").read_text()
OTHER = TEXT.replace("tp: 8", "tp: 4").replace("dp: 128", "dp: 256")


@pytest.fixture
def page() -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not at.exception
    return at


def write(at: AppTest, text: str) -> AppTest:
    at.text_area(key="spec").set_value(text).run()
    assert not at.exception
    return at


def shown(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def wanted(text: str) -> dict[str, str]:
    made = plan(load.load_text(text))
    return {
        "Step time": units.show(made.step_s, "s"),
        "Throughput": units.show(made.value("job_tokens_per_s"), "tokens_per_s"),
        "MFU": f"{100 * made.value('mfu'):.1f} %",
        "Fullest rank": units.show(made.value("peak_B"), "B"),
    }


def test_page_opens_on_an_example_with_its_plan(page):
    assert not page.error
    assert shown(page) == wanted(page.text_area(key="spec").value)


@pytest.mark.parametrize("name", [path.stem for path in sorted((APP.parent / "examples").glob("*.yaml"))])
def test_every_example_can_be_chosen(page, name):
    page.selectbox(key="example").select(name).run()
    assert not page.exception and not page.error
    assert shown(page) == wanted((APP.parent / "examples" / f"{name}.yaml").read_text())


def test_an_edit_of_the_layout_changes_the_plan(page):
    assert shown(write(page, TEXT)) == wanted(TEXT)
    assert shown(write(page, OTHER)) == wanted(OTHER) != wanted(TEXT)


def test_tables_hold_the_rows_of_the_plan(page):
    write(page, TEXT)
    made = plan(load.load_text(TEXT))
    tables = [frame.value.to_dict("records") for frame in page.dataframe]
    rows = [view.time_table, view.memory_table, view.traffic_table, view.elasticity_table]
    assert tables[:4] == [table(made) for table in rows]
    assert len(tables[4]) == 3
    assert all(row["error"].endswith("%") and row["source"] for row in tables[4])


def test_an_infeasible_layout_is_an_answer_with_its_reason(page):
    text = TEXT.replace("sequence_length: 8192", "sequence_length: 65536")
    write(page, text)
    made = plan(load.load_text(text))
    assert made.violations
    assert all(view.plain(message) in page.warning[0].value for message in made.violations)


def test_pinned_baseline_shows_no_change_then_the_difference(page):
    write(page, TEXT)
    assert {metric.delta for metric in page.metric} == {""}
    page.button(key="pin").click().run()
    assert {metric.delta for metric in page.metric} == {"no change"}
    write(page, OTHER)
    before, now = plan(load.load_text(TEXT)), plan(load.load_text(OTHER))
    assert [metric.delta for metric in page.metric] == [metric.delta for metric in view.metrics(now, before)]
    assert page.metric[0].delta.startswith("-" if now.step_s < before.step_s else "+")
    assert page.table[0].value.to_dict("records") == view.changes(now, before)
    page.button(key="unpin").click().run()
    assert {metric.delta for metric in page.metric} == {""}


def test_a_chosen_quantity_is_explained(page):
    write(page, TEXT)
    page.selectbox(key="quantity").select("mfu").run()
    assert not page.exception
    tree = view.explanation(plan(load.load_text(TEXT)), "mfu", 1)
    assert tree in [block.value for block in page.markdown]


@pytest.mark.parametrize(("text", "message"), [
    (TEXT.replace("tp: 8", "tpp: 8"), "spec.yaml:12:3: unknown field"),
    (TEXT.replace("tp: 8", "tp: 7"), "tp x pp x cp x dp"),
    (TEXT.replace("model: llama-3.1-405b", "model: {hf: config.json}"), "no file is opened here"),
    (TEXT.replace("profile: h100-sxm-80gb", "profile: ./mine.yaml"), "no file is opened here"),
    ("", "the file is empty"),
    ("version: [", "spec.yaml:"),
    ("&a [*a]", "spec.yaml:"),
    ("\x00", "spec.yaml"),
])
def test_a_bad_spec_shows_one_message_and_no_plan(page, text, message):
    write(page, text)
    assert len(page.error) == 1 and not page.metric
    assert message in page.error[0].value.replace("\\", "")
    assert "Traceback" not in page.error[0].value
    write(page, TEXT)
    assert not page.error and shown(page) == wanted(TEXT)


def test_the_caret_points_at_the_place(page):
    write(page, TEXT.replace("tp: 8", "tpp: 8"))
    line, caret = page.code[0].value.splitlines()
    assert line.index("tpp") == caret.index("^")


def test_an_uploaded_spec_becomes_the_text(page):
    page.file_uploader(key="upload").upload("mine.yaml", OTHER.encode(), "text/yaml").run()
    assert not page.exception
    assert page.text_area(key="spec").value == OTHER
    assert shown(page) == wanted(OTHER)


def test_an_upload_that_is_no_text_is_refused_and_the_spec_stays(page):
    before = page.text_area(key="spec").value
    page.file_uploader(key="upload").upload("mine.yaml", b"\xff\xfe\x00", "text/yaml").run()
    assert not page.exception
    assert len(page.error) == 1 and "not UTF-8" in page.error[0].value
    assert page.text_area(key="spec").value == before and page.metric


def test_what_can_be_downloaded_is_the_report_and_the_spec(page):
    write(page, TEXT)
    assert [button.label for button in page.get("download_button")] == ["Report (Markdown)", "Resolved spec (YAML)"]


# ---------------------------------------------------------------------------------------------------- the source

TREE = ast.parse(APP.read_text(encoding="utf-8"))
ALLOWED = {
    "codesign.planner", "codesign.spec.load", "codesign.report", "codesign.report.view", "codesign.report.markdown",
    "codesign.evidence.nearest",
}


def test_the_page_holds_no_arithmetic():
    nodes = list(ast.walk(TREE))
    sums = [n for n in nodes if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.BitOr)]  # X | None is a type
    assert not [ast.unparse(n) for n in [*sums, *(n for n in nodes if isinstance(n, ast.AugAssign))]]
    assert not [ast.unparse(n) for n in nodes if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub)]
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & {"sum", "abs", "round", "max", "min", "divmod", "pow", "float", "eval", "exec", "open"}


def test_the_page_imports_only_the_public_side_of_the_package():
    found = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts if node.module in ("codesign.report", "codesign.evidence") else {node.module}
    assert {name for name in found if name.startswith("codesign")} <= ALLOWED
    assert {name for name in found if not name.startswith("codesign")} == {"pathlib", "streamlit"}
