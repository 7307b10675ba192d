"""The pages Search and Shapes: the rows are those of a search from Python, and what is taken over is planned as it was found."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from codesign.app import answers, jobs, parts, state, works
from codesign.app.jobs import Jobs
from codesign.errors import SpecError
from codesign.planner import plan
from codesign.report import found, shape_page, strip, view
from codesign.search import around, run, shapes
from codesign.search.result import Result
from codesign.spec import load

LLAMA = state.FIRST
SMALL = "llama-3-8b-fsdp"
FREE = ("pp", "tp", "micro_batch")


def solved(name: str, changes: tuple[tuple[str, str], ...] = ()) -> answers.Answer:
    answer = answers.answer(state.examples()[name], changes)
    assert answer.fault is None and answer.solved is not None and answer.document is not None
    return answer


def asked(answer: answers.Answer, free: tuple[str, ...] = FREE, **search: object) -> around.Question:
    return around.question(answer.solved.plan, answer.document.data, free, search)


# ---------------------------------------------------------------------------------------------------- around a plan


@pytest.mark.parametrize("name", [LLAMA, SMALL, "gpt4-retrain", "deepseek-v3-h800"])
def test_with_nothing_open_a_search_finds_the_plan_itself(name):
    answer = solved(name)
    space = asked(answer, ()).space()
    result = Result(space, run.search(space))
    assert space.size == 1 and result.best[0].plan.step_s == answer.solved.plan.step_s


@pytest.mark.parametrize("name", [LLAMA, SMALL, "deepseek-v3-h800"])
def test_what_is_taken_over_is_planned_as_it_was_found_and_asks_the_same_again(name):
    answer = solved(name)
    question = asked(answer, ("tp", "pp"))
    space = question.space()
    result = Result(space, run.search(space))
    chosen = result.front[-1]
    now = state.State(example=name)
    for field, value in around.changes(chosen.fields, answer.document.data):
        now = now.change(field, value)
    after = solved(name, now.changes)
    assert after.solved.plan.step_s == chosen.plan.step_s == chosen.objectives[0] != answer.solved.plan.step_s
    assert asked(after, ("tp", "pp")) == question


def test_rows_of_a_search_add_up_and_hold_the_whole_front():
    answer = solved(SMALL)
    space = asked(answer, best=found.NEAR_BEST).space()
    result = Result(space, run.search(space))
    rows = found.found(result)
    counts = [int(row["count"].replace(",", "")) for row in rows.tally]
    assert sum(counts[:-1]) == counts[-1] == space.size
    drawn = {point["candidate"] for point in rows.points}
    assert {one.index for one in result.front} <= drawn <= rows.fields.keys()
    assert rows.points and all(point["x"] >= result.best[0].objectives[0] for point in rows.points)


def test_a_sampled_scatter_keeps_the_front(monkeypatch):
    answer = solved(SMALL)
    space = asked(answer, best=found.NEAR_BEST).space()
    result = Result(space, run.search(space))
    monkeypatch.setattr(found, "MOST_POINTS", len(result.front) + 5)
    points = found.found(result).points
    assert len(points) <= found.MOST_POINTS and {one.index for one in result.front} <= {one["candidate"] for one in points}


# ---------------------------------------------------------------------------------------------------- work in turns


def test_jobs_take_turns_and_a_stopped_one_ends_without_the_others():
    server, seen = Jobs(), []

    def long(report):
        for at in range(10**6):
            time.sleep(0.005)
            report(at, 10**6)

    def short(report):
        report(1, 1)
        return "found"

    first = server.ask("long", long)
    second = server.ask("short", short)
    second.wait(10.0)
    assert (second.state, second.found, first.state) == ("done", "found", "running")  # no waiting for the end of the first
    assert server.ask("short", lambda report: seen.append(1)).found == "found" and not seen  # kept by its key
    third = server.ask("other", short, first)  # another question of the same visit
    third.wait(10.0)
    first._ended.wait(10.0)
    assert (first.state, third.state, first.found) == ("stopped", "done", None)
    assert server.ask("long", short).wait(10.0) is None  # what was stopped is not kept


def test_many_jobs_of_one_take_no_more_turns_and_a_stopped_one_leaves_the_line(monkeypatch):
    monkeypatch.setattr(jobs, "TURN_S", 0.02)
    server, steps = Jobs(), {"many": 0, "one": 0}

    def long(owner):
        def work(report):
            while True:
                time.sleep(0.004)
                report(0, 0)
                steps[owner] += 1
        return work

    many = [server.ask(at, long("many"), visit=at, owner="many") for at in range(6)]
    one = server.ask("one", long("one"), visit="one", owner="one")
    time.sleep(1.5)
    for job in (*many, one):
        job.stop()
    for job in (*many, one):
        job.wait(5.0)
        assert job.state == "stopped"
    assert 0.5 < steps["one"] / steps["many"] < 2.0
    assert not server._under_way and not server._turns._line


def test_a_visit_has_few_jobs_and_a_full_server_takes_room_from_who_has_most(monkeypatch):
    monkeypatch.setattr(jobs, "MOST_JOBS", 6)
    server, go_on = Jobs(), threading.Event()

    def held(report):
        while not go_on.is_set():
            time.sleep(0.01)
            report(0, 0)

    many = [server.ask(at, held, visit=at // 4, owner="many") for at in range(6)]
    with pytest.raises(SpecError, match="4 searches of this visit"):
        server.ask("fifth", held, visit=0, owner="many")
    with pytest.raises(SpecError, match="busy"):
        server.ask("seventh", held, visit=9, owner="many")
    late = server.ask("late", lambda report: "found", visit="late", owner="late")
    late.wait(10.0)
    assert late.found == "found" and many[-1].state == "stopped" and many[0].under_way
    go_on.set()
    for job in many:
        job.wait(10.0)


@pytest.mark.parametrize("free", [FREE, around.OPENABLE])
def test_a_space_that_is_long_to_count_can_be_stopped_and_is_refused(free, monkeypatch):
    question = asked(solved(LLAMA, (("model.layers", "1008"),)), tuple(free))
    seen = []

    def stopped(done, total):
        seen.append(total)
        if len(seen) > 100:
            raise jobs.Ended

    with pytest.raises(jobs.Ended):
        works.search(question)(stopped)
    assert set(seen) == {0}
    monkeypatch.setattr(works, "COUNTING_S", 0.2)
    for work in (works.search(question), works.why_not(question, "tp=4")):
        job = Jobs().ask("x", work)
        job.wait(20.0)
        assert job.state == "failed" and "too many layouts to count" in job.fault.message


def test_a_search_that_is_stopped_gives_what_it_has(monkeypatch):
    def report(done, total):
        if done:
            raise jobs.Ended

    rows = works.search(asked(solved(SMALL)))(report)
    assert not rows.complete and rows.headline.startswith("Stopped after") and rows.points is not None


def test_a_space_that_is_too_large_for_a_page_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(works, "MOST_CANDIDATES", 10)
    server = Jobs()
    job = server.ask("x", works.search(asked(solved(SMALL))))
    job.wait(20.0)
    assert job.state == "failed" and "more than the 10 that a page searches" in job.fault.message


# ---------------------------------------------------------------------------------------------------- shapes, timeline


def test_a_shape_that_is_taken_over_is_planned_as_it_was_ranked():
    answer = solved(SMALL)
    axes = {"hidden": shape_page.values("hidden", shape_page.suggested(answer.solved.plan, "hidden"))}
    page = shape_page.page(shapes.rank_shapes(answer.loaded, axes, lint_best=0))
    rank, row = next((rank, row) for rank, row in page.dims.items() if not row.is_base)
    now = state.State(example=SMALL)
    for field, value in shape_page.changes(answer.solved.plan.problem.spec.model, row, answer.document.data):
        now = now.change(field, value)
    assert solved(SMALL, now.changes).solved.plan.step_s == row.step_s and rank in page.named
    assert len(page.points) == len(page.rows) == len(axes["hidden"])


def test_the_pipeline_is_drawn_in_few_bars_that_fill_the_step_or_is_refused():
    made = plan(load.load_text(state.examples()[LLAMA]))
    drawn = strip.drawn(made)
    for rank in range(16):
        mine = [bar for bar in drawn.bars if bar["rank"] == rank]
        assert sum(bar["end_s"] - bar["start_s"] for bar in mine) == pytest.approx(made.step_s)
    assert len(drawn.bars) < strip.MOST_BARS and not drawn.refused


@pytest.mark.parametrize(("example", "changes"), [
    (LLAMA, ("layout.tp=4", "layout.dp=256")), (LLAMA, ()), ("deepseek-v3-h800", ()), ("frontier-100k-two-sites", ()),
    (LLAMA, ("layout.dp=32", "cluster.accelerators=4096")),
])  # fmt: skip
def test_the_pipeline_says_and_draws_the_bubble_of_the_plan(example, changes):
    made = plan(load.load_text(state.examples()[example], changes))
    drawn, rank = strip.drawn(made), int(made.value("slowest_rank"))
    bubble = made.parts["pp_bubble_s"] / made.step_s
    assert f"bubble {view.percent(bubble)}" in drawn.summary and drawn.summary.startswith(f"Rank {rank} ")
    bars = [bar for bar in drawn.bars if bar["rank"] == rank and bar["category"] == "bubble"]
    assert sum(bar["end_s"] - bar["start_s"] for bar in bars) == pytest.approx(made.parts["pp_bubble_s"])
    folded = any("in the middle are folded" in note for note in drawn.notes)
    assert folded == ("layout.dp=32" in changes) == any("steady state" in note for note in drawn.notes)
    assert folded == any(bar["category"] == "steady state" for bar in drawn.bars)


def test_a_step_of_too_many_passes_is_not_drawn():
    assert "too many to replay" in strip.drawn(plan(load.load_text(state.examples()["ten-million"]))).refused


# ---------------------------------------------------------------------------------------------------- the pages


def opened(page: str) -> AppTest:
    def draw(page: str) -> None:
        import importlib

        from codesign.app import session

        session.start()
        importlib.import_module(f"codesign.app.pages.{page}").draw()
        session.write_link()

    at = AppTest.from_function(draw, default_timeout=60, kwargs={"page": page})
    at.query_params["example"] = SMALL
    return at


def test_the_page_search_shows_the_rows_and_takes_a_layout_over(monkeypatch):
    monkeypatch.setattr(parts, "AT_ONCE_S", 60.0)
    at = opened("search").run()
    assert not at.exception and not at.error
    answer = solved(SMALL)
    space = asked(answer, ("tp", "pp", "vpp", "micro_batch", "recompute"), best=found.NEAR_BEST).space()
    rows = found.found(Result(space, run.search(space)))
    assert f"**{rows.headline}**" in [block.value for block in at.markdown]
    assert at.dataframe[0].value.to_dict("records") == list(rows.best)
    number = list(rows.named)[3]
    at.selectbox(key="layout-taken").select_index(3).run()
    at.button(key="take").click().run()
    assert not at.exception and "Taken over" in at.success[0].value
    wanted = [(f, v) for f, v in around.changes(rows.fields[number], answer.document.data) if v is not None]
    assert {f: at.query_params[f] for f, _ in wanted} == dict(wanted)
    at.text_input(key="asked").set_value("tp=3").run()
    assert not at.exception and at.code


def test_the_page_shapes_shows_the_ranking_the_wastes_and_what_the_step_answers_to(monkeypatch):
    monkeypatch.setattr(parts, "AT_ONCE_S", 60.0)
    at = opened("shapes").run()
    assert not at.exception and not at.error and len(at.get("vega_lite_chart")) == 1
    at.text_input(key="axis-hidden").set_value("4096:x").run()
    assert "no whole number" in at.error[0].value
    for tab, words in (("Wastes of this shape", "waste"), ("What it answers to", "bound by")):
        at.session_state["shape-tab"] = tab
        at.run()
        assert not at.exception and words in at.markdown[-1 if tab.startswith("Wastes") else 0].value
