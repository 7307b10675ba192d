"""The review in a real browser: valid, whole on both widths and in both themes, accessible, printable, alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from codesign.planner import plan
from codesign.report import review
from codesign.run import run_plan

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = {1280: 900, 390: 844}
THEMES = ("light", "dark")
CASES = ("llama-3.1-405b-h100", "deepseek-v3-h800", "frontier-100k-two-sites", "change", "infeasible")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Reviews of each kind, as files."""
    folder = tmp_path_factory.mktemp("reviews")

    def of(name: str, *sets: str):
        made = plan(EXAMPLES / f"{name}.yaml", sets=sets)
        return made, run_plan(made) if made.problem.spec.run else None

    made = {name: review.of_plan(*of(name)) for name in CASES[:3]}
    made["change"] = review.of_change(of("gpt4-retrain", "layout.tp=4", "layout.dp=128"), of("gpt4-retrain"))
    made["infeasible"] = review.of_plan(*of(CASES[0], "training.sequence_length=65536"))
    for name, document in made.items():
        (folder / f"{name}.html").write_text(review.html(document), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def test_html_is_valid(pages, node_modules, tmp_path):
    config = tmp_path / "htmlvalidate.json"
    config.write_text('{"root": true, "extends": ["html-validate:standard"]}')
    command = ["node", str(node_modules / "html-validate" / "bin" / "html-validate.mjs"), "--config", str(config)]

    def checked(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, "--stdin"], input=text, capture_output=True, text=True, check=False)

    for name, path in pages.items():
        done = checked(path.read_text(encoding="utf-8"))
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    assert checked("<p><div></p>").returncode == 1


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_page_fits_is_accessible_and_alone(chromium, axe, pages, shots, name, width, theme):
    page = chromium.new_page(viewport={"width": width, "height": SIZES[width]}, color_scheme=theme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(pages[name].as_uri())
    assert asked == [pages[name].as_uri()] and not said
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('svg')].every(one => one.getBoundingClientRect().width <= innerWidth)"
    )
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert dark == (theme == "dark")
    page.screenshot(path=shots / f"review-{name}-{width}-{theme}.png")
    assert axe(page) == []
    page.close()


def test_a_number_leads_to_its_entry(chromium, pages):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages[CASES[0]].as_uri())
    page.locator("p.answer a").first.click()
    entry = page.locator(":target")
    assert page.url.endswith("#q-step_s") and entry.is_visible()
    assert page.locator("p.answer a").first.inner_text() in entry.inner_text()
    assert page.evaluate("document.querySelector(':target').getBoundingClientRect().top") < 900
    page.close()


def test_text_of_the_charts_stays_inside(chromium, pages):
    """No label is cut off at an edge of its chart."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    for path in pages.values():
        page.goto(path.as_uri())
        out = page.evaluate(
            "[...document.querySelectorAll('svg')].flatMap(one => { const box = one.getBoundingClientRect();"
            " return [...one.querySelectorAll('text')].filter(text => { const own = text.getBoundingClientRect();"
            " return own.left < box.left - 1 || own.right > box.right + 1; }).map(text => text.textContent); })"
        )
        assert out == [], path.name
    page.close()


def test_prints_on_whole_pages(chromium, pages):
    for name in (CASES[0], "change"):
        page = chromium.new_page(color_scheme="dark")
        page.goto(pages[name].as_uri())
        data = page.pdf(prefer_css_page_size=True)
        assert data.startswith(b"%PDF") and 5 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 40
        assert re.search(rb"/MediaBox\s*\[\s*0 0 59[45]\.\d+ 84[12]\.\d+", data), "A4"
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 688, "height": 900})  # the text width of A4 with the page's margins
        assert page.evaluate("document.documentElement.scrollWidth") <= 688
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.querySelector('details pre').getBoundingClientRect().height") > 100, (
            "what is folded is printed"
        )
        page.close()
