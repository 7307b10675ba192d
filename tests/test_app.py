"""The what-if app, run by Streamlit's own harness: it shows what the plan says, and computes nothing itself."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from codesign.app import fields, specs, starters, state
from codesign.evidence.nearest import nearest
from codesign.planner import plan
from codesign.report import figures, moved, view
from codesign.run import run_of
from codesign.spec import load

ROOT = Path(__file__).parent.parent
APP = ROOT / "app.py"
TEXT = state.examples()[state.FIRST]
TABLES = {
    "Time": view.time_table, "Memory": view.memory_table, "Traffic": view.traffic_table,
    "What limits it": lambda made: view.elasticity_table(made, most=99),
    "Measured runs": lambda made: view.nearest_table(nearest(made)),
}


def opened(**query: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params.update(query)
    return ran(at)


def ran(changed) -> AppTest:
    """The page after a run; `changed` is the page, or a widget of it that has another value."""
    at = changed.run()
    assert not at.exception
    return at


@pytest.fixture(scope="module")
def visit() -> AppTest:
    """One visit that tests share: each begins by choosing what it starts from."""
    return opened()


def begin(at: AppTest, name: str = state.FIRST) -> AppTest:
    at.session_state["state"] = state.State(example=name)
    at.session_state["pinned"] = at.session_state["refused"] = None
    at.session_state["side"], at.session_state["tab"] = "Fields", "Time"
    for group in fields.GROUPS:
        at.session_state[f"group-{group}"] = True
    return ran(at)


def turn(at: AppTest, tab: str, key: str = "tab") -> AppTest:
    """Open a tab of the page, or with `side` of the left side."""
    at.session_state[key] = tab
    return ran(at)


def write(at: AppTest, text: str) -> AppTest:
    turn(at, "YAML", "side")
    return ran(at.text_area(key="yaml").set_value(text))


def field(at: AppTest, path: str, value: object, kind: str = "number_input") -> AppTest:
    return ran(getattr(at, kind)(key=f"field:{path}").set_value(value))


def shown(at: AppTest) -> list[tuple[str, str]]:
    return [(metric.label, metric.value) for metric in at.metric]


def wanted(text: str, *sets: str) -> list[tuple[str, str]]:
    loaded = load.load_text(text, sets)
    made = plan(loaded)
    return [(one.label, one.value) for one in figures.figures(made, run_of(loaded, made))]


# ---------------------------------------------------------------------------------------------------- the loop


def test_the_first_example_is_shown_with_its_plan_and_a_clean_link():
    at = opened()
    assert shown(at) == wanted(TEXT) and not at.error and at.query_params == {}
    made = plan(load.load_text(TEXT))
    for name, table in TABLES.items():
        turn(at, name)
        assert [frame.value.to_dict("records") for frame in at.dataframe] == [table(made)], name
        assert len(at.get("vega_lite_chart")) == (name != "Measured runs")


@pytest.mark.parametrize("name", list(state.examples()))
def test_every_example_can_be_chosen(visit, name):
    begin(visit)
    ran(visit.selectbox(key="source").select(name))
    assert not visit.error
    assert shown(visit) == wanted(state.examples()[name])
    assert visit.query_params == ({} if name == state.FIRST else {"example": name})


def test_a_changed_field_is_the_same_plan_as_set_on_the_command_line_and_stands_in_the_link(visit):
    begin(visit)
    field(visit, "layout.tp", 4)
    assert shown(visit) == wanted(TEXT, "layout.tp=4", "layout.dp=null") != wanted(TEXT)
    assert visit.query_params == {"layout.tp": "4", "layout.dp": "null"}
    assert shown(opened(**visit.query_params)) == shown(visit)
    field(visit, "layout.tp", 8)
    assert visit.query_params == {} and shown(visit) == wanted(TEXT)


def test_choices_texts_and_empty_fields_reach_the_plan(visit):
    begin(visit)
    field(visit, "layout.recompute", "full", "selectbox")
    field(visit, "training.tokens", "1 T tokens", "text_input")
    field(visit, "cluster.override.scale_out.nic_Bps", "100 Gb/s", "text_input")
    field(visit, "layout.sequence_parallel", "automatic", "selectbox")
    sets = ["layout.recompute=full", "training.tokens=1 T tokens", "cluster.override.scale_out.nic_Bps=100 Gb/s",
            "layout.sequence_parallel=null"]
    assert shown(visit) == wanted(TEXT, *sets)
    assert [f"{name}={value}" for name, value in visit.query_params.items()] == sets
    ran(visit.button(key="undo").click())
    assert visit.query_params == {} and shown(visit) == wanted(TEXT)


def test_another_model_takes_no_size_of_the_last_one_along(visit):
    begin(visit)
    field(visit, "model.layers", 100)
    field(visit, "model", "llama-3-70b", "selectbox")
    assert visit.number_input(key="field:model.layers").value == 80 and "stages for 80 layers" in visit.error[0].value
    field(visit, "layout.vpp", 5)
    assert shown(visit) == wanted(TEXT, "model=llama-3-70b", "layout.vpp=5")


def test_a_pinned_baseline_shows_no_change_then_what_moved_and_why(visit):
    begin(visit)
    assert {metric.delta for metric in visit.metric} == {""}
    ran(visit.button(key="pin").click())
    assert {metric.delta for metric in visit.metric} == {"no change"}
    field(visit, "layout.vpp", 4)
    before, now = plan(load.load_text(TEXT)), plan(load.load_text(TEXT, ["layout.vpp=4"]))
    assert [m.delta for m in visit.metric] == [m.delta for m in figures.figures(now, None, (before, None))]
    assert visit.metric[0].delta.startswith("+") and now.step_s > before.step_s
    found = moved.moved((before, None), (now, None))
    said = [block.value for block in visit.markdown]
    assert all(view.bullets(lines) in said for lines in (found.answer, found.effects, found.causes))
    again = opened(**visit.query_params)
    assert [m.delta for m in again.metric] == [m.delta for m in visit.metric]
    ran(visit.button(key="back").click())
    assert shown(visit) == wanted(TEXT)
    ran(visit.button(key="unpin").click())
    assert {metric.delta for metric in visit.metric} == {""} and visit.query_params == {}


def test_an_infeasible_layout_is_an_answer_with_its_reason(visit):
    begin(visit)
    field(visit, "training.sequence_length", 65536)
    made = plan(load.load_text(TEXT, ["training.sequence_length=65536"]))
    assert made.violations and visit.metric
    assert all(view.plain(message) in visit.warning[0].value for message in made.violations)


def test_any_number_can_be_explained(visit):
    begin(visit, "gpt4-retrain")
    turn(visit, "Explain")
    ran(visit.selectbox(key="explain").select("final_loss"))
    loaded = load.load_text(state.examples()["gpt4-retrain"])
    run = run_of(loaded, plan(loaded))
    assert view.explained(run.explain("final_loss", 1)) in [block.value for block in visit.markdown]
    assert any("def final_loss(" in block.value for block in visit.code)


def test_an_edited_text_is_the_spec_and_its_link_gives_it_back(visit):
    begin(visit)
    text = TEXT.replace("vpp: 8", "vpp: 4")
    write(visit, text)
    assert shown(visit) == wanted(text) and "spec" in visit.query_params
    assert turn(opened(**visit.query_params), "YAML", "side").text_area(key="yaml").value == text
    write(visit, TEXT)
    assert "spec" not in visit.query_params


def test_a_section_in_place_of_a_name_can_still_be_changed_in_its_field():
    at = opened(**{"layout.recompute": "{granularity: full, fraction: 0.5}"})
    box = at.selectbox(key="field:layout.recompute")
    assert box.value == "{granularity: full, fraction: 0.5}" and not at.error
    ran(box.select("full"))
    assert at.query_params["layout.recompute"] in ("full", ["full"])


def test_what_the_button_for_the_run_adds_is_said_before():
    starter = starters.starters()["run"]
    assert "training.tokens: 15 T tokens" in starter.said(specs.document(TEXT, (("training.tokens", "null"),)))
    assert "training.tokens" not in starter.said(specs.document(TEXT, (("training.tokens", "1 T tokens"),)))


def test_two_visits_do_not_mix(visit):
    begin(visit)
    other = opened(example="deepseek-v3-h800")
    field(visit, "layout.vpp", 4)
    ran(visit.button(key="pin").click())
    ran(other)
    assert shown(other) == wanted(state.examples()["deepseek-v3-h800"])
    assert {metric.delta for metric in other.metric} == {""}


# ---------------------------------------------------------------------------------------------------- what is refused


def test_a_bad_spec_shows_one_message_with_its_place_and_no_plan(visit):
    begin(visit)
    write(visit, TEXT.replace("tp: 8", "tpp: 8"))
    assert len(visit.error) == 1 and not visit.metric
    assert "spec.yaml:12:3: unknown field" in visit.error[0].value.replace("\\", "")
    line, caret = visit.code[0].value.splitlines()
    assert line.index("tpp") == caret.index("^")


@pytest.mark.parametrize("query", [
    {"example": "../../etc/passwd"}, {"spec": "!!"}, {"layout.tp": "-3"}, {"layout.tp": "[" * 500}, {"model.hf": "/etc/passwd"},
    {"pin": "%%%&&&"}, {"layout.<script>": "1"}, {"training.tokens": "<script>"},
], ids=lambda query: next(iter(query)))
def test_a_bad_link_shows_one_message(query):
    at = opened(**query)
    assert len(at.error) == 1 and "Traceback" not in at.error[0].value and "<script" not in at.error[0].value.replace("\\<", "")


HF = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}


def upload(at: AppTest, name: str, data: bytes) -> AppTest:
    turn(at, "Files", "side")
    return ran(at.file_uploader(key="upload").upload(name, data, "application/octet-stream"))


def test_an_uploaded_spec_becomes_the_spec(visit):
    begin(visit)
    text = TEXT.replace("vpp: 8", "vpp: 4")
    upload(visit, "mine.yaml", text.encode())
    assert turn(visit, "YAML", "side").text_area(key="yaml").value == text and shown(visit) == wanted(text)


def test_an_uploaded_config_of_hugging_face_becomes_the_model(visit):
    begin(visit, "llama-3-8b-fsdp")
    before = shown(visit)
    upload(visit, "config.json", json.dumps(HF).encode())
    assert not visit.error and shown(visit) == before  # it is the same model


def test_an_uploaded_spec_with_a_mistake_is_refused_by_its_name_and_the_spec_stays(visit):
    before = begin(visit)
    upload(visit, "mine.yaml", TEXT.replace("tp: 8", "tpp: 8").encode())
    assert any("mine.yaml" in box.value and "tpp" in box.value for box in visit.error)
    assert shown(visit) == wanted(TEXT), before


def test_an_upload_that_is_no_spec_is_refused_and_the_spec_stays(visit):
    begin(visit)
    upload(visit, "../../<script>alert(1)</script>.yaml", b"PK\x03\x04\xff")
    assert len(visit.error) == 1 and "not UTF-8" in visit.error[0].value
    assert "<script" not in visit.error[0].value.replace("\\<", "")
    assert shown(visit) == wanted(TEXT)


# ---------------------------------------------------------------------------------------------------- pages and source


def test_the_page_of_the_evidence_shows_the_errors_as_they_were_written():
    def page() -> None:
        from codesign.app.pages import evidence

        evidence.draw()

    at = ran(AppTest.from_function(page, default_timeout=60))
    summary = json.loads((ROOT / "codesign/spec/data/error_summary.json").read_text())["leave_one_group_out"]
    assert f"median error {100 * summary['median']:.1f} %" in at.markdown[0].value
    assert len(at.dataframe) == 3 and len(at.get("vega_lite_chart")) == 1


ROOM = ROOT / "codesign/app"
DRAWN = [APP, *(ROOM / "pages").glob("*.py"), *(ROOM / f"{name}.py" for name in ("parts", "session", "shell", "sidebar"))]


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_what_draws_holds_no_arithmetic(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    sums = [n for n in nodes if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.BitOr)]  # X | None is a type
    assert not [ast.unparse(n) for n in [*sums, *(n for n in nodes if isinstance(n, ast.AugAssign))]]
    assert not [ast.unparse(n) for n in nodes if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub)]
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & {"sum", "abs", "round", "max", "min", "divmod", "pow", "float", "eval", "exec", "open"}
