"""What a design review holds: alternatives, figures, people, a change; and the command that writes it."""

from __future__ import annotations

import html as entities
import re
import shlex
from pathlib import Path

import pytest
from reviews import EXAMPLES, PLAIN, RUNNING, SITES, Page, document, made, numbers, page

from codesign import units
from codesign.cli import main
from codesign.planner import plan
from codesign.report import over_sites, review, view
from codesign.report.review import document as blocks
from codesign.report.review import neighbourhood, sections_plan, strip, svg
from codesign.search import exposure, resources
from codesign.timeline import hidden, timeline
from codesign.timeline import strip as stretches

# ---------------------------------------------------------------------------------------------------- alternatives


def test_neighbours_hold_the_chosen_layout_and_none_is_missed():
    """The best near a layout is at least as fast as the layout itself, wherever the search can express it."""
    for name in (RUNNING, "llama-3-8b-fsdp"):
        planned, _ = made(name)
        found = neighbourhood.around(planned)
        assert found.result is not None and found.result.complete
        assert found.best[0].plan.step_s <= planned.step_s * (1 + 1e-12)
        assert all(one.plan.feasible for one in found.best)


def test_alternatives_state_the_space_and_count_everything():
    found = neighbourhood.around(made(PLAIN)[0])
    tally = found.result.tally
    assert tally["feasible"] + sum(tally["rejected"].values()) == tally["candidates"]
    text = blocks.text_of(next(s for s in document(PLAIN).sections if s.anchor == "alternatives").blocks[0].words)
    assert f"{tally['candidates']:,} layouts" in text
    assert all(f"{name}: {values}" in text for name, values in found.searched.items())


def test_no_search_says_so():
    of = review.of_plan(*made(PLAIN), search=False)
    (line,) = next(section for section in of.sections if section.anchor == "alternatives").blocks
    assert "--no-search" in blocks.text_of(line.words)


def test_a_layout_that_cannot_run_is_told_what_lifts_it():
    sets = ("training.sequence_length=65536",)
    planned, _ = made(PLAIN, *sets)
    seen = page(PLAIN, *sets)
    assert not planned.feasible
    text = review.html(document(PLAIN, *sets))
    assert "Not feasible." in text and all(
        entities.escape(message, quote=False) in text for message in planned.violations
    )
    lifts = seen.rows("The cheapest single changes that lift it")
    for _, setting in lifts.values():
        lifted = plan(EXAMPLES / f"{PLAIN}.yaml", sets=(*sets, *shlex.split(setting)[1::2]))
        assert lifted.feasible


def test_override_is_named_and_nothing_is_searched_or_added_up():
    of = review.of_plan(plan(EXAMPLES / f"{PLAIN}.yaml", overrides={"step_s": 4.0}))
    text = review.markdown(of)
    assert "step\\_s set to 4 s" in text and "set by hand" in text and "not the sum of its parts" in text


# ---------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("most", [200_000, 3_000])
@pytest.mark.parametrize("sets", [(), ("layout.tp=4", "layout.dp=256")])
def test_strip_draws_what_the_timeline_has(sets, most):
    """In few columns, where single passes cannot be seen: the time of each rank that is not idle stays what it is."""
    planned = plan(EXAMPLES / f"{PLAIN}.yaml", sets=sets)
    line = timeline(planned, most)
    drawn = strip.strip(line)
    assert drawn.ranks == tuple(range(16)) and set(drawn.categories) <= set(strip.CATEGORIES)
    assert drawn.end_s == planned.step_s
    idle_s = planned.step_s - sum(end - start for rank, start, end, _ in drawn.rows if rank == line.pacing_rank)
    # hand-overs while the pipeline fills are drawn as communication; the pacing rank waits for nothing else
    assert idle_s == pytest.approx(planned.parts["pp_bubble_s"], abs=2.0 * planned.step_s / strip.COLUMNS)
    for rank in drawn.ranks:
        busy_s = sum(
            one.end_s - one.start_s
            for one in stretches(line)
            if one.rank == rank and one.category not in ("bubble", "wait")
        )
        own = [row for row in drawn.rows if row[0] == rank]
        assert all(0.0 <= start < end <= line.step_s * (1 + 1e-9) for _, start, end, _ in own)
        assert sum(end - start for _, start, end, _ in own) == pytest.approx(
            busy_s, abs=2.0 * line.step_s / strip.COLUMNS
        )


@pytest.mark.parametrize("name", ["deepseek-v3-h800", RUNNING])
def test_strip_stands_in_every_review_of_a_pipeline(name):
    figures = [b for s in document(name).sections for b in s.blocks if isinstance(b, blocks.Figure)]
    assert sum(type(figure.chart).__name__ == "Strip" for figure in figures) == 1


@pytest.mark.parametrize("name", [PLAIN, "gpt4-retrain", "deepseek-v3-h800"])
def test_data_parallel_communication_is_told_whole(name):
    """What compute loses beside the buckets is in the part of the step: the causes add up to it, and are those of the rows."""
    planned, seen = over_sites.shown(*made(name)), page(name)
    causes = exposure.data_parallel(planned)
    assert sum(causes.values()) == pytest.approx(planned.value("dp_exposed_s"), rel=1e-9) and len(causes) > 1
    *rows, (_, total) = seen.rows("What data-parallel communication adds").items()
    scale = 1.0 if planned.step_s >= 1.0 else 1e3
    assert [row[0] for _, row in rows] == [f"{value * scale:.4f}" for value in causes.values()]
    assert total[0] == seen.rows("Where the time goes")[view.label("dp_exposed_s")][0]
    assert any("slower" in label for label, _ in rows)
    exposed = {one.label: one for one in exposure.exposures(resources.machine(planned))}
    table = seen.rows("Exposed communication")
    assert table.keys() == exposed.keys()
    assert [row[0].split()[0] for row in table.values()] == [f"{one.exposed_s * scale:.4f}" for one in exposed.values()]
    for label, row in table.items():
        assert (row[3] == "none") is (exposed[label].hideable_s <= 1e-9 * exposed[label].exposed_s)


def test_waterfall_bars_add_up_and_hidden_ones_are_apart():
    planned, _ = made(PLAIN)
    figure = next(
        b
        for s in document(PLAIN).sections
        for b in s.blocks
        if isinstance(b, blocks.Figure) and b.title.startswith("Time")
    )
    added = [bar for bar in figure.chart.bars if bar.kind != sections_plan.HIDDEN]
    assert sum(bar.size for bar in added) == pytest.approx(planned.step_s, rel=1e-9)
    table = page(PLAIN).rows("Where the time goes")
    assert [bar.value.split()[0] for bar in added] == [table[bar.label][0] for bar in added]
    at = 0.0
    for bar in added:
        assert bar.start == pytest.approx(at)
        at += bar.size
    beside = sorted(bar.size for bar in figure.chart.bars if bar.kind == sections_plan.HIDDEN)
    wanted = hidden(planned).values()
    assert beside == sorted(value for value in wanted if value >= view.SMALL_SHARE * planned.step_s) != []


def test_drawings_are_labelled_and_escape():
    figures = [
        block
        for name in (PLAIN, SITES)
        for section in document(name).sections
        for block in section.blocks
        if isinstance(block, blocks.Figure)
    ]
    assert {type(figure.chart).__name__ for figure in figures} == {"Waterfall", "Stacks", "Swings", "Pairs", "Strip"}
    for figure in figures:
        drawn = str(svg.draw(figure.chart, figure.title, "a < b", "f"))
        assert 'role="img" aria-labelledby="f-t f-d"' in drawn and '<desc id="f-d">a &lt; b</desc>' in drawn
        for number in re.findall(r' (?:x|y|width|height|cx|cy)="([^"]*)"', drawn):
            assert -1 <= float(number) <= 1000


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_of_both_themes_can_be_read():
    style = (Path(review.__file__).parent / "templates" / "style.css").read_text()
    themes = [
        dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", part))
        for part in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 3
    for theme in themes:
        for text in ("ink", "soft", "link"):
            assert min(_contrast(theme[text], theme["page"]), _contrast(theme[text], theme["panel"])) >= 4.5
        for at in range(8):
            assert _contrast(theme[f"on{at}"], theme[f"k{at}"]) >= 4.5
        assert all(_contrast(theme[f"k{at}"], theme["page"]) >= 2.0 for at in range(8))


# ---------------------------------------------------------------------------------------------------- people


def test_owner_date_question_decision_and_signatures_are_shown():
    review_section = (
        "{owner: A. Lead, date: 2027-01-31, question: Shall we start?, decision: 'Start, with spares.', "
        "open_questions: [Which site?], sign_off: [{role: systems, name: D, date: 2027-02-01}, {role: research}], "
        "assumptions: [{input: straggler_per_doubling, owner: B. Eng, date: 2027-01-30, note: measured next week}, "
        "{input: tp, owner: C}]}"
    )
    sets = (f"review={review_section}",)
    seen, text = page(RUNNING, *sets), review.html(document(RUNNING, *sets))
    for words in ("Shall we start?", "Start, with spares.", "A. Lead · 2027-01-31", "Which site?"):
        assert words in text
    assumed = next(rows for caption, rows in seen.tables.items() if caption.endswith("assumed inputs"))
    others = [*assumed, *seen.tables.get("Other inputs that somebody answers for", [])]
    row = next(row for row in others if row[0] == "straggler_per_doubling")
    assert row[-3:] == ["B. Eng", "2027-01-30", "measured next week"]
    assert [row for row in others if row[0] == "tp"] == [["tp", "spec", "C", "", ""]]
    assert seen.tables["Sign-off"][1:] == [["systems", "D", "2027-02-01"], ["research", "", ""]]
    assert document(RUNNING, *sets).subtitle == document(RUNNING).subtitle, "a signature changes no hash"


def test_every_assumed_input_is_listed_with_its_source():
    planned, run = made(RUNNING)
    rows = next(rows for caption, rows in page(RUNNING).tables.items() if caption.endswith("assumed inputs"))
    wanted = {
        (name, leaf.source)
        for leaves in (view.used_leaves(planned), run.inputs.leaves)
        for name, leaf in leaves.items()
        if leaf.kind == "assumed"
    }
    assert {(row[0], row[2]) for row in rows[1:]} == wanted


# ---------------------------------------------------------------------------------------------------- the command


def test_the_ending_or_the_format_choose_the_writer(tmp_path, capsys):
    spec = str(EXAMPLES / f"{PLAIN}.yaml")
    for name, starts in (("r.html", "<!DOCTYPE html>"), ("r.htm", "<!DOCTYPE html>"), ("r.md", "# ")):
        assert main(["report", spec, "--no-search", "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().startswith(starts)
    assert main(["report", spec, "--no-search"]) == 0
    out = capsys.readouterr().out
    assert out == (tmp_path / "r.md").read_text()
    assert main(["report", spec, "--no-search", "--format", "html"]) == 0
    assert capsys.readouterr().out == (tmp_path / "r.html").read_text() == (tmp_path / "r.htm").read_text()
    assert main(["report", spec, "--format", "html", "--no-search", "-o", str(tmp_path / "odd.txt")]) == 0


def test_an_infeasible_plan_is_an_answer(tmp_path, capsys):
    spec, out = str(EXAMPLES / f"{PLAIN}.yaml"), tmp_path / "r.html"
    assert main(["report", spec, "--set", "training.sequence_length=65536", "-o", str(out)]) == 1
    assert "Not feasible" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "review.pdf"), "the ending names no format of a review. Allowed: .html, .htm, .md, .markdown"),
        (("--against", "no-such.yaml"), "--against: no-such.yaml: no such file"),
        (("--against", "{spec}", "--no-search"), "--no-search has no effect with --against"),
        (("--against", "{spec}", "--override", "step_s=1"), "--override has no meaning with --against"),
        (
            ("--set", "review={assumptions: [{input: stragler_per_doubling, owner: x}]}"),
            "this plan has no input 'stragler_per_doubling'. Did you mean 'straggler_per_doubling'?",
        ),
    ],
)
def test_wrong_use_is_refused_and_nothing_written(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = str(EXAMPLES / f"{PLAIN}.yaml")
    assert main(["report", spec, *(one.replace("{spec}", spec) for one in arguments)]) == 2
    seen = capsys.readouterr()
    assert message in seen.err and seen.out == "" and not list(tmp_path.iterdir())


def test_a_wrong_input_name_is_shown_at_its_line(tmp_path, capsys):
    text = (EXAMPLES / f"{PLAIN}.yaml").read_text() + "review:\n  assumptions:\n    - {input: taperr, owner: x}\n"
    (tmp_path / "spec.yaml").write_text(text)
    assert main(["report", str(tmp_path / "spec.yaml")]) == 2
    err = capsys.readouterr().err
    assert f"spec.yaml:{len(text.splitlines())}:15: " in err and "Did you mean 'taper'?" in err


# ---------------------------------------------------------------------------------------------------- a change


def test_a_change_has_the_numbers_of_both_plans():
    before, now = made(RUNNING), made(RUNNING, "layout.tp=4", "layout.dp=128")
    of = review.of_change(now, before)
    seen = Page(review.html(of))
    assert not seen.open and {href[1:] for href, _ in seen.links} <= set(seen.ids)
    assert {one.key for one in numbers(of)} <= set(of.anchors)
    assert seen.rows("Fields of the resolved spec that differ") == {"layout.tp": ["8", "4"], "layout.dp": ["64", "128"]}
    parts = seen.rows("Parts of the step")
    *_, step = parts.values()
    assert step[:2] == [f"{p.step_s:.4f}" for p, _ in (before, now)]
    moved = sum(float(row[2]) for row in parts.values()) - float(step[2])
    assert moved == pytest.approx(float(step[2]), abs=0.5e-4 * len(parts))
    run = seen.rows("Figures of the run")
    assert run["goodput"][:2] == [view.percent(r.value("goodput")) for _, r in (before, now)]
    entry = next(one for group in of.appendix for one in group.entries if one.key == "step:step_s")
    assert entry.values == (("before", units.show(before[0].step_s, "s")), ("now", units.show(now[0].step_s, "s")))


def test_a_change_of_nothing_says_so():
    text = review.markdown(review.of_change(made(PLAIN), made(PLAIN)))
    assert "**No difference:**" in text and "The specs do not differ" in text


def test_only_one_of_two_plans_fits():
    large = made(PLAIN, "training.sequence_length=65536")
    assert "Only the plan before is feasible" in review.markdown(review.of_change(large, made(PLAIN)))
    assert "Only the plan now is feasible" in review.markdown(review.of_change(made(PLAIN), large))
