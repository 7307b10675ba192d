"""A design review as a file: whole, the same bytes, the numbers of the command, text that stays text."""

from __future__ import annotations

import html as entities
import json
import re
from pathlib import Path

import pytest
from reviews import EXAMPLES, NAMES, ORDER, PLAIN, RUNNING, SITES, Page, document, made, numbers, page

from codesign import units
from codesign.cli import main
from codesign.planner import plan
from codesign.report import over_sites, review, view
from codesign.report.review.methods import METHODS
from codesign.run import run_plan
from codesign.spec import load

# ---------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", NAMES)
def test_same_plan_same_bytes(name):
    first = document(name)
    again = review.of_plan(*made.__wrapped__(name))
    assert review.html(first) == review.html(again)
    assert review.markdown(first) == review.markdown(again)


@pytest.mark.parametrize("name", NAMES)
def test_page_is_whole_small_and_fetches_nothing(name):
    text = review.html(document(name))
    seen = page(name)
    assert not seen.open
    assert len(text.encode()) < 500_000
    assert not seen.fetched
    assert all(href.startswith("#") for href, _ in seen.links)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"\bon\w+=|javascript:", text)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_one_place_and_every_number_is_a_link(name):
    seen, of = page(name), document(name)
    assert len(seen.ids) == len(set(seen.ids))
    assert {href[1:] for href, _ in seen.links} <= set(seen.ids)
    assert {one.key for one in numbers(of)} <= set(of.anchors)
    linked = {(href, text) for href, text in seen.links}
    assert all((f"#{of.anchors[one.key]}", one.text) in linked for one in numbers(of))


def test_sections_are_in_the_order_of_the_issue():
    for name in (PLAIN, SITES):
        assert [text for tag, text in page(name).heads if tag == "h2"] == ORDER
        assert [tag for tag, _ in page(name).heads].count("h1") == 1
        titles = re.findall(r"^## (.*)$", review.markdown(document(name)), re.MULTILINE)
        assert titles == [view.plain(title) for title in ORDER]


def test_empty_sections_say_what_to_add():
    text = review.markdown(document(PLAIN))
    for field in (
        "run.failures",
        "run:",
        "sites",
        "ladder",
        "review.assumptions",
        "review.open_questions",
        "review.sign_off",
    ):
        assert f"`{field}" in text or f"{field}: {{}}" in text


def test_no_date_and_no_machine_in_a_review_without_dates():
    import getpass
    import platform

    for text in (review.html(document(PLAIN)), review.markdown(document(PLAIN))):
        assert not re.search(r"\b\d\d:\d\d:\d\d\b", text)
        assert platform.node() not in text and f"/{getpass.getuser()}/" not in text
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text.split("Assumptions</h2>")[0].split("## Assumptions")[0])


# ---------------------------------------------------------------------------------------------------- the same numbers


def test_numbers_of_the_page_are_those_of_the_command(capsys):
    """CLI JSON on the one side, the HTML read back by another parser on the other."""
    assert main(["plan", str(EXAMPLES / f"{RUNNING}.yaml"), "--format", "json"]) == 0
    data, seen = json.loads(capsys.readouterr().out), page(RUNNING)
    answer = seen.rows("The answer in figures")
    assert answer["step time"][0] == units.show(data["step"]["step_s"], "s")
    assert answer["MFU"][0] == view.percent(data["step"]["mfu"])
    assert answer["fullest rank"][0] == units.show(data["memory"]["peak_B"], "B")
    assert answer["goodput"][0] == view.percent(data["run"]["goodput"]["goodput"])
    assert answer["final loss"][0] == f"{data['run']['outcome']['quantities']['final_loss']:.3f}"
    assert answer["cost"][0] == f"{data['run']['outcome']['money']['rental_cost']:,.0f}"
    for low, high in ((data["step"]["lo_s"], data["step"]["hi_s"]),):
        assert f"{units.show(low, 's')} to {units.show(high, 's')}" in answer["step time"][1]
    parts = seen.rows("Where the time goes")
    for name, value in data["step"]["parts"].items():
        if value >= 5e-4 * data["step"]["step_s"]:
            assert parts[view.label(name)][0] == f"{value:.4f}"
    assert sum(float(row[0]) for label, row in parts.items() if label != "step") == pytest.approx(
        float(parts["step"][0]), abs=0.5e-4 * len(parts)
    )
    swings = seen.rows("Elasticities of the step")
    assert {name: row[0] for name, row in swings.items()} == {
        n: f"{v:+.4f}" for n, v in data["elasticities"].items() if v
    }
    budget = seen.rows("Goodput budget")
    for cause, share in data["run"]["goodput"]["budget"].items():
        if share >= 1e-4:
            assert float(budget[cause][0].removesuffix(" %")) == pytest.approx(100 * share, abs=0.0101)
    _, *runs = next(rows for name, rows in seen.tables.items() if name == "Nearest measured runs")
    assert [row[0] for row in runs] == [row["id"] for row in data["nearest"]]
    assert [row[4:7] for row in runs] == [
        [
            units.show(row["measured_step_s"], "s"),
            units.show(row["predicted_step_s"], "s"),
            view.signed_percent(row["error"]),
        ]
        for row in data["nearest"]
    ]


@pytest.mark.parametrize("name", [SITES, "ten-million"])
def test_numbers_of_a_run_over_sites_are_those_of_the_command(name, capsys):
    """The head is the run's; what one site does is named as that site's."""
    code = main(["plan", str(EXAMPLES / f"{name}.yaml"), "--format", "json"])
    data, seen = json.loads(capsys.readouterr().out), page(name)
    text = review.markdown(document(name))
    site = f"{data['one_site']['site']}, the slowest site"
    answer, step, one = seen.rows("The answer in figures"), data["step"], data["one_site"]
    over, rate = (next(row for label, row in answer.items() if label.startswith(f"{what} over the sites")) for what in (
        "step time", "throughput"))
    assert over[0] == units.show(step["step_s"], "s") and rate[0] == units.show(step["tokens_per_s"], "tokens_per_s")
    assert over[1].startswith(f"{units.show(step['lo_s'], 's')} to {units.show(step['hi_s'], 's')}")
    assert answer[f"step time ({site})"][0] == units.show(one["step"]["step_s"], "s")
    assert answer[f"MFU ({site})"][0] == view.percent(one["step"]["mfu"])
    assert answer[f"fullest rank ({site})"][0] == units.show(one["memory"]["peak_B"], "B")
    assert ("**Feasible.**" in text) == data["verdict"]["feasible"] == (code == 0)
    spreads = data["run"]["outcome"]["intervals"]
    days, between = answer["length of the run"]
    end = spreads.get("calendar_s", spreads["run_wall_s"])
    assert days == f"{data['run']['outcome']['calendar_s'] / 86400:.1f} d"
    assert between.startswith(f"{end['low'] / 86400:.1f} to {end['high'] / 86400:.1f} days; ends ")
    intervals = seen.rows("80 % intervals")
    assert intervals["days of the run"][:3] == [f"{end[at] / 86400:.1f}" for at in ("value", "low", "high")]
    energy = spreads["run_energy_J"]
    assert intervals["energy at the meter"][:3] == [f"{energy[at] / 3.6e9:,.0f} MWh" for at in ("value", "low", "high")]
    assert intervals["end of the run"][0] == data["run"]["outcome"]["phases"][-1]["end"]
    parts = seen.rows("Where the time goes")
    for part, value in one["step"]["parts"].items():
        if value >= 5e-4 * one["step"]["step_s"]:
            assert float(parts[view.label(part)][0]) == pytest.approx(value, abs=1.01e-4)
    assert data["spec_hash"][:12] in document(name).subtitle and seen.rows("Manifest")["spec hash"] == [data["spec_hash"]]
    assert text.count(f"{site}, alone.") >= 5


def test_what_breaks_a_run_over_sites_is_the_answer(capsys):
    """A deadline, a power cap, a site that does not fit: what `plan` says, and the exit code."""
    for change, words in (("run.deadline=2028-01-20", "deadline"), ("run.power.cap_W=20 MW", "cap")):
        spec = str(EXAMPLES / f"{SITES}.yaml")
        assert main(["plan", spec, "--set", change, "--format", "json"]) == 1
        broken = json.loads(capsys.readouterr().out)["verdict"]["violations"]
        assert main(["report", spec, "--set", change, "--no-search", "--format", "html"]) == 1
        text = capsys.readouterr().out
        assert broken and words in " ".join(broken)
        assert "Not feasible." in text and all(entities.escape(message, quote=False) in text for message in broken)


@pytest.mark.parametrize("one", ["pipeline", "one site"])
def test_one_pipeline_over_sites_and_a_single_site_are_told_as_what_they_are(one):
    layout = {"tp": 4, "pp": 2, "micro_batch": 1, "schedule": "1f1b", "order": ["tp", "cp", "ep", "dp", "pp"]}
    link = {"between": ["west", "east"], "bandwidth": "400 Gb/s", "route_km": 1000}
    several = {"sites": [{"name": "west"}, {"name": "east"}], "links": [link], "sync": {"strategy": "pipeline"}}
    planned = plan({
        "version": 1, "model": "llama-3-8b", "software": "megatron-core", "layout": layout,
        "training": {"sequence_length": 8192, "global_batch_sequences": 384, "tokens": 1e12},
        "cluster": {"profile": "h100-sxm-80gb", "accelerators": 256},
        **(several if one == "pipeline" else {"sites": [{"name": "west"}]}),
    })
    of = review.of_plan(planned, run_plan(planned), search=False)
    text = review.markdown(of)
    assert not Page(review.html(of)).open
    wanted = "one pipeline over all sites, as if in one building" if one == "pipeline" else "the step of west, alone"
    assert wanted in text and "the slowest site, alone" not in text
    low, high = re.search(r"\| days of the run \|.*?\| \[([\d.]+)\]\(#m-joint\) \| \[([\d.]+)\]", text).groups()
    assert float(low) < float(high), "the error of the step is in the days"


def test_a_change_of_the_links_alone_is_a_change_of_the_run():
    before, now = made(SITES), made(SITES, "links.0.bandwidth=10 Tb/s")
    of = review.of_change(now, before)
    seen, text = Page(review.html(of)), review.markdown(of)
    assert "**The plan now is predicted to be slower:**" in text
    row = seen.rows("Figures of the run")["step over sites"]
    assert row[:2] == [units.show(over_sites.step(run)["step_s"], "s") for _, run in (before, now)]
    assert seen.rows("Fields of the resolved spec that differ").keys() == {"links.0.bandwidth"}
    assert {one.key for one in numbers(of)} <= set(of.anchors)
    assert f"against {before[0].spec_hash[:12]}" in of.subtitle and now[0].spec_hash[:12] in of.subtitle


@pytest.mark.parametrize("name", [PLAIN, "deepseek-v3-h800", SITES])
def test_memory_columns_add_up_and_are_the_ranks(name):
    planned = over_sites.shown(*made(name))
    heads, *rows = next(
        rows for caption, rows in page(name).tables.items() if caption.startswith("Memory by pipeline rank")
    )
    terms = {row[0]: row[1:-1] for row in rows}
    labels = [view.label(term) for term in view.memory_terms(planned)]
    for column, head in enumerate(heads[1:-1]):
        rank = int(head.split()[1])
        total = float(terms["total"][column])
        assert sum(float(terms[label][column]) for label in labels) == pytest.approx(total, abs=1e-6)
        assert total == pytest.approx(planned.stages[rank]["device_B"] / 2**30, abs=0.006)


def test_markdown_and_page_have_the_same_tables():
    text = review.markdown(document(RUNNING))
    for caption, rows in page(RUNNING).tables.items():
        below = text.split(f"**{view.plain(caption)}**\n\n", 1)[1].split("\n\n")[0].splitlines()
        cells = [
            [re.sub(r"\[(.*?)\]\(#[\w-]+\)", r"\1", cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in below
        ]
        written = [
            [re.sub(r"\\(.)", r"\1", cell).replace("**", "").strip("`") for cell in row]
            for row in (cells[0], *cells[2:])
        ]
        assert [[cell or "" for cell in row] for row in rows] == written, caption


@pytest.mark.parametrize("name", NAMES)
def test_markdown_is_short_enough_for_a_comment_and_says_what_is_left_out(name):
    text = review.markdown(document(name))
    assert len(text) <= 65_536
    assert ("Left out, to stay short" in text) == (name in (RUNNING, SITES, "ten-million"))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(re.findall(r'<a id="([^"]+)"', text)), "a link leads nowhere"


def test_what_a_reader_of_a_large_run_must_not_miss():
    text = review.markdown(document("ten-million"))
    assert "in each of 100 groups" in text and "What fails in one of the 100 groups" in text
    assert "the 80 % interval reaches" in text, "memory may not fit"
    assert "and 9,899 ways like it" in text
    plain = review.markdown(document(RUNNING))
    assert "Goodput is" in plain and "of the time that others leave for training" in plain


def test_entries_of_the_appendix_explain_as_the_command_does():
    planned, run = made(RUNNING)
    for group in document(RUNNING).appendix:
        for entry in group.entries:
            space, _, name = entry.key.partition(":")
            if space == "how":
                assert entry.what == METHODS[name].text
            elif space in ("step", "run"):
                tree = (planned if space == "step" else run).explain(name, 1)
                assert entry.what == " ".join(tree.doc.split())
                assert len(entry.inputs) == len(tree.inputs)


def test_every_method_is_cited_somewhere():
    """No entry is kept for a number that no review has."""
    source = "".join(path.read_text() for path in (Path(review.__file__).parent).glob("*.py"))
    assert all(re.search(rf'how\(\s*"{name}"', source) for name in METHODS)


# ---------------------------------------------------------------------------------------------------- hostile text


@pytest.mark.parametrize(
    "name", ["</title><script>alert(1)</script>", "a|b", "```", "[a](http://b)", "x & y", "' #:", '"><img src=x>']
)
def test_text_of_a_spec_stays_text(name):
    data = load.parse_yaml((EXAMPLES / f"{PLAIN}.yaml").read_text(), "x").data
    people = {"question": name, "open_questions": [name], "sign_off": [{"role": name}]}
    of = review.of_plan(plan({**data, "name": name, "review": people}), search=False)
    text = review.html(of)
    seen = Page(text)
    assert not seen.fetched and not seen.open
    assert entities.escape(name, quote=False) in entities.unescape(text).replace("&", "&amp;").replace(
        "<", "&lt;"
    ).replace(">", "&gt;")
    body = review.markdown(of).split("```yaml")[0].split("<details><summary>The whole spec")[0]
    assert "<script" not in body.replace("\\<script", "") and not re.search(r"(?<!\\)\]\(http", body)
    assert all(line.count(" | ") >= 1 for line in body.splitlines() if line.startswith("| "))
