"""The design review: one document, two writers, every number the plan's and linked to its entry, nothing fetched or dated."""

from __future__ import annotations

import html as entities
import json
import re
import shlex
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codesign import units
from codesign.cli import main
from codesign.planner import Plan, plan
from codesign.report import over_sites, review, view
from codesign.report.review import document as blocks
from codesign.report.review import neighbourhood, sections_plan, strip, svg
from codesign.report.review.methods import METHODS
from codesign.run import RunPlan, run_plan
from codesign.search import exposure, resources
from codesign.spec import load
from codesign.timeline import hidden, timeline
from codesign.timeline import strip as stretches

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
PLAIN, RUNNING, SITES = "llama-3.1-405b-h100", "gpt4-retrain", "frontier-100k-two-sites"
ORDER = [
    "Question and answer",
    "Chosen plan",
    "Where time and memory go",
    "What limits it",
    "Alternatives and why not",
    "Failures and goodput",
    "Sites and traffic",
    "Loss, data, cost",
    "Sensitivities and intervals",
    "Accuracy on the most similar measured runs",
    "Risks and the de-risking ladder",
    "Assumptions",
    "Open questions",
    "Sign-off",
    "Resolved spec and manifest",
    "Appendix: every number",
]
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """What an independent reader finds in the file: balanced elements, ids, links, tables, headings, texts of links."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.heads: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._caption = self._link = None
        self._row: list[str] = []
        self._text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        self.fetched += [given[name] for name in ("src", "srcset", "data", "poster", "action") if name in given]
        if tag in ("script", "iframe", "object", "embed", "link", "img"):
            self.fetched.append(tag)
        if tag in ("caption", "td", "th", "h1", "h2", "h3"):
            self._text = ""
        if tag == "tr":
            self._row = []
        if tag == "a":
            self._link, self._link_text = given["href"], ""

    def handle_startendtag(self, tag, attrs):
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_data(self, data):
        self._text += data
        if self._link is not None:
            self._link_text += data

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"
        if tag in ("h1", "h2", "h3"):
            self.heads.append((tag, self._text))
        if tag == "caption":
            self._caption = self._text
            self.tables[self._caption] = []
        if tag in ("td", "th"):
            self._row.append(self._text.strip())
        if tag == "tr":
            self.tables[self._caption].append(self._row)
        if tag == "a":
            self.links.append((self._link, self._link_text))
            self._link = None

    def rows(self, caption: str) -> dict[str, list[str]]:
        """First cell -> the others, of the table whose caption begins so."""
        _, *rows = next(rows for name, rows in self.tables.items() if name.startswith(caption))
        return {row[0]: row[1:] for row in rows}


@cache
def made(name: str, *sets: str) -> tuple[Plan, RunPlan | None]:
    planned = plan(EXAMPLES / f"{name}.yaml", sets=sets)
    spec = planned.problem.spec
    return planned, run_plan(planned) if spec.run or spec.sites else None


@cache
def document(name: str, *sets: str) -> blocks.Document:
    return review.of_plan(*made(name, *sets))


@cache
def page(name: str, *sets: str) -> Page:
    return Page(review.html(document(name, *sets)))


def numbers(made_of: blocks.Document) -> list[blocks.Number]:
    found: list[blocks.Number] = []

    def walk(members):
        for block in members:
            if isinstance(block, blocks.Folded):
                walk(block.blocks)
            else:
                found.extend(
                    span for spans in blocks._spans(block) for span in spans if isinstance(span, blocks.Number)
                )

    for section in made_of.sections:
        walk(section.blocks)
    return found


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
