"""What stands behind the app's pages, without a page: links, fields, figures, the waterfall, the command."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import time
import zlib
from pathlib import Path

import pytest

from codesign import cli, units
from codesign.app import answers, fields, specs, state, uploads
from codesign.cli import what_if as command
from codesign.errors import SpecError
from codesign.graph import REGISTRY
from codesign.planner import plan
from codesign.report import explained, figures, palette, view, waterfall
from codesign.spec import load, profiles
from codesign.timeline import hidden

EXAMPLES = list(state.examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_link_and_a_baseline_give_back_what_was_asked(name):
    text = state.of_text(state.examples()[name].replace("version: 1", "version: 1  # mine"))
    for asked in (state.State(name), state.State(name).change("layout.tp", "4"), text, text.change("layout.order", "[tp, dp]")):
        assert state.from_query(state.to_query(asked)) == asked
        assert state.pin_from_text(state.pin_to_text(asked)) == asked
    assert text.text and state.fits_link(text)


def test_a_text_too_long_for_a_link_says_so():
    noise = "".join(f"# {os.urandom(30).hex()}\n" for _ in range(600))
    asked = state.of_text(f"version: 1\n{noise}")
    assert not state.fits_link(asked) and state.to_query(asked.change("layout.tp", "4")) == {}


def test_a_changed_section_takes_the_place_of_its_fields():
    asked = state.State().change("model.layers", "100").change("model", "llama-3-8b")
    assert asked.changes == (("model", "llama-3-8b"),)
    assert asked.change("model", None) == state.State()


def test_every_field_with_a_widget_is_in_the_schema():
    kinds = {path: fields.field(path).kind for paths in fields.GROUPS.values() for path in paths}
    assert kinds["layout.tp"] == "count" and kinds["layout.micro_batch"] == "number"
    assert kinds["layout.sequence_parallel"] == "flag" and kinds["training.tokens"] == "text"
    assert all(fields.field(path).options for path, kind in kinds.items() if kind == "choice")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_widget_put_back_leaves_no_change(name):
    base = answers.answer(state.examples()[name]).document
    for members in fields.shown(base).values():
        for one in members:
            value = fields.value(base, one.path)
            if one.takes(value):
                assert fields.edited(state.State(name), base, one.path, value) == state.State(name)


def test_written_changes_are_the_spec_again():
    changes = (("layout.tp", "4"), ("layout.dp", "null"), ("software.date", "'2024-05'"))
    text = specs.written(state.examples()[state.FIRST], changes)
    assert plan(load.load_text(text)).spec_hash == answers.answer(state.examples()[state.FIRST], changes).solved.plan.spec_hash
    with pytest.raises(SpecError, match="at most"):
        specs.document("#" * (specs.MAX_TEXT_B + 1))


@pytest.mark.parametrize("name", EXAMPLES)
def test_figures_and_waterfall_are_those_of_the_plan(name):
    solved = answers.answer(state.examples()[name]).solved
    step = figures.figures(solved.plan, solved.run)[0]
    assert step.interval.startswith("80 %") and step.delta is None
    rows = [row for row in waterfall.rows(solved.plan) if row["kind"] != "communication, hidden"]
    assert rows[0]["start_s"] == 0.0 and rows[-1]["end_s"] == pytest.approx(solved.plan.step_s)
    assert {row["kind"] for row in waterfall.rows(solved.plan)} <= set(palette.KINDS)
    for quantity in ("step_s", *(one.quantity for one in figures.figures(solved.plan, solved.run))):
        assert quantity in explained.names(solved.plan, solved.run)
        assert f"def {quantity.partition('[')[0]}(" in explained.explain(solved.plan, solved.run, quantity).equation


@pytest.mark.parametrize("name", ["frontier-100k-two-sites", "ten-million", "gpt4-retrain"])
def test_figures_of_a_run_are_those_of_the_command(name, tmp_path, capsys):
    """Over sites step and tokens are the run's own; days have the interval that `plan` prints."""
    text = state.examples()[name]
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), "--format", "json"]) == 0
    data, solved = json.loads(capsys.readouterr().out), answers.answer(text).solved
    seen = {one.label.partition(",")[0]: one for one in figures.figures(solved.plan, solved.run)}
    step = data["step"]
    assert seen["Step time"].value == units.show(step["step_s"], "s")
    assert seen["Step time"].interval == f"80 %: {units.show(step['lo_s'], 's')} to {units.show(step['hi_s'], 's')}"
    spreads = data["run"]["outcome"]["intervals"]
    end = spreads.get("calendar_s", spreads["run_wall_s"])
    assert seen["Days"].value == f"{data['run']['outcome']['calendar_s'] / 86400:,.1f}"
    assert seen["Days"].interval == f"80 %: {end['low'] / 86400:,.1f} to {end['high'] / 86400:,.1f}"
    (verdict,) = figures.verdict(solved.plan, solved.run)
    reasons = data["verdict"]["open_reasons"]
    assert verdict == (f"Feasible, but open: {'; '.join(reasons)}." if reasons else "Feasible.")
    one = data.get("one_site", data)
    assert seen["MFU"].value == f"{100 * one['step']['mfu']:.1f} %"
    if "one_site" in data:
        assert seen["MFU"].label == f"MFU, {one['site']}" and seen["Step time"].label == "Step time, all sites"


def test_every_part_of_the_step_has_its_kind():
    parts = set(REGISTRY["step_s"].parts)
    assert parts >= waterfall.COMPUTE | waterfall.COMMUNICATION
    assert {part for part in parts if waterfall.kind(part) == "idle and overhead"} == {
        "host_excess_s", "overlap_slowdown_total_s", "pp_bubble_s", "fixed_step_time_s", "ageing_s", "straggler_s",
    }


# ---------------------------------------------------------------------------------------------------- what is refused

TEXT = state.examples()[state.FIRST]


@pytest.mark.parametrize(("text", "message"), [
    (TEXT.replace("tp: 8", "tpp: 8"), "spec.yaml:12:3: unknown field"),
    (TEXT.replace("tp: 8", "tp: 7"), "tp x pp x cp x dp"),
    (TEXT.replace("model: llama-3.1-405b", "model: {hf: /etc/passwd}"), "no file is opened here"),
    (TEXT.replace("profile: h100-sxm-80gb", "profile: ../secret.yaml"), "no file is opened here"),
    (TEXT.replace("fabric: llama3-roce", "fabric: ~/f.yml"), "no file is opened here"),
    (TEXT + "run: {serving: {profile: /etc/passwd}}\n", "no file is opened here"),
    (TEXT + "sites: [{name: a, cluster: {profile: ../x.yaml}}]\n", "no file is opened here"),
    ("", "the file is empty"),
    ("version: [", "spec.yaml:"),
    ("a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "anchor"),
    ("[" * 3000, "spec.yaml:"),
    ("\x00", "control character"),
    (TEXT + "#" * specs.MAX_TEXT_B, "256,000 bytes"),
])
def test_a_bad_spec_is_a_fault_and_opens_no_file(text, message, monkeypatch):
    def shipped(name, *_args):
        assert name in profiles.names() + profiles.fabric_names(), "a file that the spec names was looked for"
        return located(name, *_args)

    located = profiles._locate
    monkeypatch.setattr(profiles, "_locate", shipped)
    monkeypatch.setattr(load, "_hf", lambda *_args: pytest.fail("a file that the spec names was opened"))
    found = answers.answer(text)
    assert found.solved is None and message in found.fault.message


TRAILING = base64.urlsafe_b64encode(zlib.compress(b"version: 1") + b"something").decode().rstrip("=")


@pytest.mark.parametrize(("query", "message"), [
    ({"example": "../../etc/passwd"}, "Known: "),
    ({"example": state.FIRST, "spec": "x"}, "one of them"),
    ({"spec": "A" * 20_000}, "at most"),
    ({"spec": "!!"}, "cannot be read"),
    ({"spec": TRAILING}, "9 bytes behind its end"),
    ({"spec": state.pack("x" * 10**6)}, "longer than"),
    ({"layout.<script>": "1"}, "is not the name of a field"),
    ({"layout.tp": "[" * 3000}, "at most"),
    ({f"layout.f{at}": "1" for at in range(200)}, "at most"),
])
def test_a_bad_link_is_refused(query, message):
    with pytest.raises(SpecError, match=message):
        state.from_query(query)


def test_a_parameter_that_is_neither_of_a_spec_nor_of_a_page_is_named():
    assert "foo" in state.unknown({"foo": "1"}) and "Did you mean 'layout'?" in state.unknown({"layuot.tp": "4"})
    pages = "".join(path.read_text() for path in (Path(state.__file__).parent / "pages").glob("*.py"))
    calls = [call for call in pages.split("st.")[1:] if 'bind="query-params"' in call]
    bound = {key for call in calls for key in re.findall(r'key=f?"([a-z-]+)', call)}
    assert bound == {*state.PAGES, "axis-"}
    assert not state.unknown(dict.fromkeys((*state.PAGES, *state.RESERVED, "axis-hidden", "layout.tp", "model"), "1"))


def phases(count):
    return "[" + ", ".join(f"{{name: p{at}, tokens: {at + 1} B tokens}}" for at in range(count)) + ", {name: rest}]"


RUN = ("run", "{failures: {rates: pooled}, policy: restart, checkpoint: {storage_Bps: 200 GB/s}}")
ONE_STAGE = (("layout.pp", "1"), ("layout.vpp", "1"), ("layout.schedule", "none"), ("layout.dp", "null"))
SITES = ", ".join(f"{{name: s{at}}}" for at in range(33))


@pytest.mark.parametrize(("changes", "message"), [
    ((("model.layers", "1000000000"), *ONE_STAGE), "model.layers: 1,000,000,000 layers, more than the 10,000"),
    ((("model.layers", "9999"), ("layout.vpp", "624")), "layout.pp: 9,984 stages"),
    ((RUN, ("training.tokens", "1e16"), ("run.phases", phases(64))), "run.phases: 65 phases"),
    ((RUN, ("training.tokens", "1e16"), ("run.phases", "[{name: a, layout: {pp: 8192}}]")), "run.phases.0.layout.pp: 65,536"),
    ((RUN, ("training.tokens", "1e16"), ("sites", f"[{SITES}]"), ("links", "[{between: all, bandwidth: 1 Tb/s, route_km: 9}]")),
     "sites: 33 entries"),
    ((("search.idle_accelerators", "16000"),), "search.idle_accelerators: 16,000"),
])
def test_a_spec_that_would_take_a_server_too_long_is_refused_with_its_field(changes, message):
    begun_s = time.monotonic()
    found = answers.answer(TEXT, changes)
    assert found.solved is None and message in found.fault.message and "no such limit" in found.fault.message
    assert time.monotonic() - begun_s < 2.0


@pytest.mark.parametrize("changes", [
    (("model.layers", "10000"), *ONE_STAGE), (("model.layers", "9999"), ("layout.vpp", "256")),
    (RUN, ("training.tokens", "1e16"), ("run.phases", phases(63))),
])
def test_at_its_limits_a_spec_is_planned_in_time(changes):
    begun_s = time.monotonic()
    assert answers.answer(TEXT, changes).fault is None and time.monotonic() - begun_s < 5.0


@pytest.mark.parametrize(("text", "live"), [
    ("see https://evil.example/x", "https://"),
    ("www.evil.example", "www."), ("ping @team", "@team"), ("@team", "@team"), ("a@b.example", "a@b"),
    ("fixes #12", "#1"), ("GH-12", "GH-"),
])
def test_text_of_a_spec_makes_no_link_and_no_ping(text, live):
    shown = view.plain(text).replace("\\", "")
    assert live not in shown and shown.replace("\u2060", "") == text
    assert view.plain(shown).replace("\\", "") == shown


def test_the_revision_in_a_source_stays_as_it_is():
    assert view.plain("docs/summary.md@067f987df0 line 630") == "docs/summary.md@067f987df0 line 630"


def test_names_of_a_spec_are_shown_as_they_are_in_labels():
    base = specs.document(state.examples()["frontier-100k-two-sites"], (("sites.0.name", "'![x](https://e.example/i.png)'"),))
    labels = [one.label for one in fields.shown(base)["Sites"]]
    assert any("\\!\\[x\\]" in label for label in labels) and not any("![" in label or "https://" in label for label in labels)


def test_a_section_in_place_of_a_name_is_a_choice_of_its_field():
    full = {"granularity": "full", "fraction": 0.25}
    assert fields.section_text(full) == "{granularity: full, fraction: 0.25}"


@pytest.mark.parametrize(("name", "data", "message"), [
    ("mine.yaml", b"\xff\xfe\x00", "not UTF-8"),
    ("bomb.yaml", b"PK\x03\x04" + bytes(range(256)), "not UTF-8"),
    ("large.yaml", b"a: 1\n" * 100_000, "at most"),
    ("deep.json", b'{"a":' * 50_000, "deep"),
    ("config.json", b'{"model_type": "<script>alert(1)</script>"}', "unknown family"),
    ("bomb.yaml", b"a: &a [x]\nb: &b [*a,*a]\n", "anchor"),
    ("../../<b>x</b>.json", b"[]", "is an object"),
])
def test_an_upload_that_is_no_spec_is_refused(name, data, message):
    with pytest.raises(SpecError, match=message) as raised:
        uploads.taken(data, name, TEXT)
    assert ".." not in str(raised.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_waterfall_has_what_the_timeline_hides(name):
    made = answers.answer(state.examples()[name]).solved.plan
    drawn = {row["part"]: row["s"] for row in waterfall.rows(made) if row["kind"] == "communication, hidden"}
    wanted = {f"{lane}, hidden": seconds for lane, seconds in hidden(made).items()}
    assert drawn == {lane: seconds for lane, seconds in wanted.items() if seconds >= view.SMALL_SHARE * made.step_s} != {}


def test_what_is_hidden_is_there_when_nothing_may_overlap():
    text = state.examples()["gpt4-retrain"]
    made = plan(load.load_text(text))
    bare = plan(load.load_text(text, [f"layout.overlap.{name}=false" for name in ("tp", "cp")]))
    beside = hidden(made)
    for name, lane in (("tp_exposed_s", "tensor parallel"), ("cp_exposed_s", "context parallel")):
        assert made.value(name) + beside[lane] == pytest.approx(bare.value(name), rel=1e-9)


def test_the_command_runs_streamlit_on_the_shipped_page(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: ran.append(arguments))
    assert cli.main(["app", "--port", "8600", "--headless"]) == 0
    assert ran == [command.command(8600, "127.0.0.1", True)]
    assert {"--server.port=8600", "--server.address=127.0.0.1", "--server.headless=true"} < set(ran[0])
    assert os.path.isfile(next(argument for argument in ran[0] if argument.endswith("app.py")))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert cli.main(["app", "--port", str(taken.getsockname()[1])]) == 2 and len(ran) == 1
    assert "try another --port" in capsys.readouterr().err
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["app"]) == 2 and len(ran) == 1
    assert "pip install 'codesign[app]'" in capsys.readouterr().err
