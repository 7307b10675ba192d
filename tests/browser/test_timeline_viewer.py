"""Traces open in a real viewer: speedscope, from npm, in Debian's Chromium, with nothing fetched from anywhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from codesign.planner import plan
from codesign.spec import datafiles, load
from codesign.timeline import timeline, trace

pytestmark = pytest.mark.browser

EXAMPLES = datafiles.root("examples")
LLAMA = "llama-3.1-405b-h100.yaml"
SMALL = ("layout.dp=64", "cluster.accelerators=8192")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "interleaved": (LLAMA, ()),
    "dualpipe": ("deepseek-v3-h800.yaml", ()),
    "fsdp": ("llama-3-8b-fsdp.yaml", ()),
    "gpipe": (LLAMA, ("layout.schedule=gpipe", "layout.vpp=1")),
    "1f1b": (LLAMA, ("layout.schedule=1f1b", "layout.vpp=1")),
    "zb-h1": (LLAMA, ("layout.schedule=zb-h1", "layout.vpp=1")),
    "zb-v": (LLAMA, ("layout.schedule=zb-v", "layout.vpp=2", *SMALL)),
    "dualpipe-v": (LLAMA, ("layout.schedule=dualpipe-v", "layout.vpp=2", *SMALL)),
}


@pytest.fixture
def page(chromium: Any) -> Any:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def speedscope(node_modules: Path) -> str:
    """The address of the viewer's page, a file."""
    index = node_modules / "speedscope" / "dist" / "release" / "index.html"
    assert index.is_file(), f"speedscope is not in {node_modules}"
    return index.resolve().as_uri()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("most", [200_000, 3_000], ids=["whole", "folded"])
def test_speedscope_opens_the_trace(
    name: str, most: int, page: Any, speedscope: str, tmp_path: Path, shots: Path
) -> None:
    example, sets = RUNS[name]
    text = trace(timeline(plan(load.load(EXAMPLES / example, sets)), most))
    path = tmp_path / f"{name}.json"
    path.write_text(text)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(speedscope)
    page.set_input_files("input[type=file]", str(path))
    # one profile a process and thread; the toolbar names the one that is shown and how many there are
    threads = {(r["pid"], r["tid"]) for r in json.loads(text)["traceEvents"] if r["ph"] == "X"}
    page.get_by_text(f"(1/{len(threads)})").wait_for()
    assert "rank 0" in page.inner_text("body")
    page.screenshot(path=str(shots / f"timeline-{name}-{'folded' if most < 10_000 else 'whole'}.png"))
    page.get_by_text("Sandwich").first.click()  # the table of all frames
    page.get_by_text("Symbol Name").first.wait_for()
    frames = page.inner_text("body")
    assert "matrix products" in frames and re.search(r"(F|B|W|BW) \d+ of stage|folded", frames)
    assert [text for text in said if "GL Driver Message" not in text] == []  # of the software renderer
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked), asked
