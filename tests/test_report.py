"""The Markdown of a plan and the rows behind it: every figure is the plan's, columns add up, the text cannot be broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign import units
from codesign.planner import Plan, plan
from codesign.report import view
from codesign.report.markdown import markdown
from codesign.spec import load

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ["llama-3.1-405b-h100", "deepseek-v3-h800", "llama-3-8b-fsdp"]
RUN = {
    "id": "run-1", "accelerator": "h100", "stack": "megatron-core", "model": "llama", "accelerators": 1024,
    "measured_step_s": 10.0, "predicted_step_s": 9.5, "error": -0.05, "source": "README.md, table 2 | second row",
}


def example(name: str = NAMES[0], *sets: str) -> Plan:
    return plan(EXAMPLES / f"{name}.yaml", sets=sets)


def section(text: str, heading: str) -> str:
    return text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]


def rows_of(text: str) -> list[list[str]]:
    """Cells of the first table in a section, without the rule under the headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [cells[0], *cells[2:]]


# ---------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("name", NAMES)
def test_same_plan_same_bytes_and_no_date(name):
    first, second = (markdown(example(name), [RUN]) for _ in range(2))
    assert first == second
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b|\d\d:\d\d:\d\d", first.split("## Assumptions")[0])


@pytest.mark.parametrize("name", NAMES)
def test_page_has_every_section_in_order(name):
    text = markdown(example(name), [RUN])
    headings = re.findall(r"^##? (.*)$", text.split("```yaml")[0], re.MULTILINE)
    wanted = [": plan", "Layout", "Where the time goes", "Memory", "Traffic", "What limits it", "Accuracy",
              "Assumptions", "Spec"]
    assert len(headings) == len(wanted)
    assert all(want in got for want, got in zip(wanted, headings, strict=True))


def test_answer_states_verdict_footing_interval_and_cell():
    made = example()
    head = markdown(made, []).split("## Layout")[0]
    assert units.show(made.step_s, "s") in head
    assert view.percent(made.value("mfu")) in head
    assert made.footing[0] in head
    assert made.spec_hash[:12] in head
    assert units.show(made.step_interval.low, "s") in head and units.show(made.step_interval.high, "s") in head
    assert f"'{made.step_interval.cell}'" in head


def test_violations_are_listed_with_their_numbers():
    made = example(NAMES[0], "training.sequence_length=65536")
    assert not made.feasible
    head = markdown(made, []).split("## Layout")[0]
    assert "Not feasible" in head
    assert all(view.plain(message) in head for message in made.violations)


@pytest.mark.parametrize("name", NAMES)
def test_every_time_is_its_own_rounding_and_a_missed_sum_is_said(name):
    made = example(name)
    heads, *rows = rows_of(section(markdown(made, []), "Where the time goes"))
    scale = {"s": 1.0, "ms": 1e3}[heads[1]]
    assert [row[1] for row in rows] == [f"{s * scale:.4f}" for s in (*(r["s"] for r in view.time_rows(made)), made.step_s)]
    *parts, total = (float(row[1]) for row in rows)
    missed = abs(sum(parts) - total)
    assert missed < 0.5e-4 * len(rows) and ("each rounded" in rows[-1][-1]) == (missed > 0.5e-4)


def test_a_sum_that_is_missed_by_a_digit_is_told_from_one_that_is_not():
    assert view.is_rounded(["0.0001", "0.0001"], "0.0003") and not view.is_rounded(["0.1", "0.2"], "0.3")


@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_the_step_is_lost(name):
    made = example(name)
    shown = sum(row["s"] for row in view.time_rows(made))
    assert shown == pytest.approx(made.step_s, rel=1e-12)
    assert set(view.idle_parts(made)) == {view.label(n) for n, v in made.parts.items() if v == 0}


@pytest.mark.parametrize("name", NAMES)
def test_memory_rows_add_up_and_cover_every_rank(name):
    made = example(name)
    heads, *rows = rows_of(section(markdown(made, []), "Memory"))
    *ranks, tags = rows
    terms = heads[1:heads.index("total")]
    seen = []
    for row in ranks:
        first, _, last = row[0].partition(" to ")
        span = range(int(first), int(last or first) + 1)
        seen += span
        cells = dict(zip(heads, row, strict=True))
        assert sum(float(cells[term]) for term in terms) == pytest.approx(float(cells["total"]), abs=1e-6)
        for rank in span:
            assert float(cells["total"]) == pytest.approx(made.stages[rank]["device_B"] / 2**30, abs=0.006)
    assert seen == list(range(len(made.stages)))
    assert set(tags[1:1 + len(terms)]) <= {"measured", "estimated", "assumed"}


def test_a_long_pipeline_keeps_its_fullest_ranks():
    made = example(NAMES[0], "layout.pp=32", "layout.vpp=4", "layout.dp=64", "training.global_batch_sequences=2048")
    rows = view.memory_table(made)[:-1]
    assert view.ranks_left_out(made) == (len({row["rank"] for row in rows}) < len(view._rank_groups(made)))
    assert len(rows) <= 16
    assert max(float(row["total"]) for row in rows) == pytest.approx(
        max(stage["device_B"] for stage in made.stages) / 2**30, abs=0.006)


def test_five_largest_elasticities_in_order():
    made = example()
    listed = [abs(row["elasticity"]) for row in view.elasticity_rows(made)]
    assert len(listed) == 5
    assert listed == sorted(map(abs, made.elasticities.values()), reverse=True)[:5]


def test_traffic_table_has_one_row_a_class_and_level():
    made = example()
    _, *rows = rows_of(section(markdown(made, []), "Traffic"))
    assert len(rows) == len(made.traffic)
    assert [row[2] for row in rows] == [units.show(row["sent_B_per_rank"], "B") for row in made.traffic]


def test_nearest_runs_show_error_and_source():
    (_, row) = rows_of(section(markdown(example(), [RUN]), "Accuracy"))
    assert row[-2:] == ["-5.0 %", r"README.md, table 2 \| second row"]
    assert "No measured run" in section(markdown(example(), []), "Accuracy")


@pytest.mark.parametrize("name", NAMES)
def test_every_assumed_leaf_is_listed_with_its_source(name):
    made = example(name)
    listed = {row["input"]: row["source"] for row in view.assumption_table(made)}
    wanted = {n: leaf.source for n, leaf in view.used_leaves(made).items() if leaf.kind == "assumed"}
    assert listed == wanted
    under_step = {row["kind"]: int(row["under the step time"]) for row in view.kind_table(made)}
    assert under_step == made.footing[1]
    text = section(markdown(made, []), "Assumptions")
    assert all(view.plain(n) in text and view.plain(source) in text for n, source in wanted.items())


@pytest.mark.parametrize("name", NAMES)
def test_resolved_spec_in_the_review_gives_the_same_plan(name):
    made = example(name)
    text = markdown(made, [])
    assert made.spec_hash in text
    again = plan(load.load_text(text.split("```yaml\n")[1].split("```")[0]))
    assert again.to_dict()["step"] == made.to_dict()["step"]
    assert again.to_dict()["memory"] == made.to_dict()["memory"]
    assert again.resolved() == made.resolved()


@pytest.mark.parametrize("name", ["1e4", "no", "a|b", "</details><script>", "```", "x\ny", "[a](http://b)", "' #:"])
def test_a_hostile_name_stays_text(name):
    made = plan({**load.parse_yaml((EXAMPLES / f"{NAMES[0]}.yaml").read_text(), "x").data, "name": name})
    text = markdown(made, [])
    before, spec = text.split("## Spec", 1)
    assert not re.search(r"(?<!\\)</?script>|(?<!\\)\]\(", before)
    assert len(re.findall(r"^# ", before, re.MULTILINE)) == 1
    fence = re.search(r"^(`{3,})yaml$", spec, re.MULTILINE)[1]
    body = spec.split(f"{fence}yaml\n")[1].split(f"\n{fence}\n")[0]
    assert plan(load.load_text(body)).problem.spec.name == name


def test_an_override_is_named_and_the_sum_is_not_claimed():
    made = plan(EXAMPLES / f"{NAMES[0]}.yaml", overrides={"step_s": 4.0})
    text = markdown(made, [])
    assert "step\\_s set to 4 s" in text
    assert view.time_table(made)[-1]["what"].startswith("not the sum")


# ---------------------------------------------------------------------------------------------------- rows


def test_metrics_are_the_plans_numbers_and_deltas_their_difference():
    before, now = example(), example(NAMES[0], "layout.tp=4", "layout.dp=256")
    step, tokens, mfu, memory = view.metrics(now, before)
    assert step.value == units.show(now.step_s, "s")
    assert tokens.value == units.show(now.value("job_tokens_per_s"), "tokens_per_s")
    assert mfu.value == view.percent(now.value("mfu"))
    assert memory.value == units.show(now.value("peak_B"), "B")
    sign = "-" if now.step_s < before.step_s else "+"
    assert step.delta.startswith(sign + units.show(abs(now.step_s - before.step_s), "s"))
    assert (step.better, tokens.better, mfu.better, memory.better) == ("less", "more", "more", "less")
    assert {m.delta for m in view.metrics(now, now)} == {"no change"}
    assert {m.delta for m in view.metrics(now)} == {None}


def test_changes_lists_the_fields_that_differ():
    rows = view.changes(example(NAMES[0], "layout.tp=4", "layout.dp=256"), example())
    assert rows == [{"field": "layout.tp", "baseline": "8", "this plan": "4"},
                    {"field": "layout.dp", "baseline": "128", "this plan": "256"}]


def test_adding_up_rounds_to_the_rounded_sum():
    values = [1.234, 0.005, 0.005, 2.345, 0.0]
    shown = view.adding_up(values, 0.01)
    assert sum(shown) == pytest.approx(3.59)
    assert all(abs(a - b) < 0.01 for a, b in zip(values, shown, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_quantity_can_be_explained(name):
    made = example(name)
    names = view.quantity_names(made)
    assert names[0] == "step_s" and len(names) > 100
    for quantity in names:
        assert view.explanation(made, quantity, 1).startswith(f"- `{quantity}` = **")


def test_explanation_nests_inputs_under_their_quantity():
    made = example()
    lines = view.explanation(made, "step_s", 2).splitlines()
    assert lines[0].startswith(f"- `step_s` = **{units.show(made.step_s, 's')}**")
    assert any(line.startswith("    - ") for line in lines) and any(line.startswith("        - ") for line in lines)
