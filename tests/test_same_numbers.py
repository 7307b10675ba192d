"""The same numbers everywhere: the command's JSON, the review in both forms, and the app, for every shipped example.

The JSON is the yardstick. What the other faces show is read back from what they write: the answer table of the HTML by an HTML
parser, the Markdown by its lines, the app by Streamlit's own harness.
"""

from __future__ import annotations

import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from codesign import units
from codesign.cli import app
from codesign.report import view

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))


class Rows(HTMLParser):
    """Texts of the cells of every table row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._cell = False

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, text: str) -> None:
        if self._cell:
            self.rows[-1][-1] += text


@cache
def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@cache
def wanted(name: str) -> dict[str, str]:
    """Figure -> text, from the JSON of `plan` alone."""
    data = json.loads(said("plan", f"{ROOT}/examples/{name}.yaml", "--format", "json"))
    step, inside = data["step"], data.get("one_site", data)
    found = {
        "step time": units.show(step["step_s"], "s"),
        "throughput": units.show(step["tokens_per_s"], "tokens_per_s"),
        "MFU": view.percent(inside["step"]["mfu"]),
        "fullest rank": units.show(inside["memory"]["peak_B"], "B"),
        "headroom": units.show(inside["memory"]["capacity_B"] - inside["memory"]["peak_B"], "B"),
    }
    run = data.get("run") or {}
    if "goodput" in run:
        found["goodput"] = view.percent(run["goodput"]["goodput"])
        found["days"] = f"{run['goodput']['run_days']:,.1f}"
    if "final_loss" in run.get("outcome", {}).get("quantities", {}):
        found["loss"] = f"{run['outcome']['quantities']['final_loss']:.4f}"
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_review_says_what_the_plan_says(name, tmp_path):
    path = tmp_path / "review.html"
    said("report", f"{ROOT}/examples/{name}.yaml", "-o", str(path))
    reader = Rows()
    reader.feed(path.read_text(encoding="utf-8"))
    lines = [line.split("|") for line in said("report", f"{ROOT}/examples/{name}.yaml").splitlines() if line.startswith("| ")]
    for figure in ("step time", "throughput", "MFU", "fullest rank", "goodput"):
        if figure not in wanted(name):
            continue
        for rows in (reader.rows, [[cell.strip() for cell in line[1:-1]] for line in lines]):
            value = next(row[1] for row in rows if row and row[0].startswith(figure))  # the first table is the answer
            assert wanted(name)[figure] in value, figure


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_app_says_what_the_plan_says(name):
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["example"] = name
    at.run()
    assert not at.exception
    shown = {metric.label.partition(",")[0]: metric.value for metric in at.metric}
    names = {"Step time": "step time", "MFU": "MFU", "Memory headroom": "headroom", "Days": "days", "Final loss": "loss"}
    for label, figure in names.items():
        assert (label in shown) == (figure in wanted(name))
        if label in shown:
            assert shown[label] == wanted(name)[figure], label
