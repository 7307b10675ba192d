"""The what-if app in a real browser: pages, inputs, links, downloads, keyboard, accessibility, nothing fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

pytest.importorskip("streamlit")

from codesign.app import answers, state
from codesign.app.pages import PAGES
from codesign.planner import plan
from codesign.report import figures, review, view
from codesign.run import run_plan
from codesign.spec import load

pytestmark = pytest.mark.browser

WIDTHS, THEMES = (1280, 390), ("light", "dark")
HEIGHT = 900
WITH_RUN, WITH_SITES = "gpt4-retrain", "frontier-100k-two-sites"
EXAMPLE = {"run": WITH_RUN, "sites": WITH_SITES}  # what a page is looked at with; the first example else
FIRST = PAGES[0].path  # its address has no path
TABS = "[data-testid=stMain] [data-testid=stTabs] [role=tab]"
WAIT_MS = 30_000


class Visit:
    """One browser window; what it asked for, and what it complained of."""

    def __init__(self, chromium: Any, address: str, width: int = 1280, theme: str = "light") -> None:
        self.address, self.width = address, width
        size = {"width": width, "height": HEIGHT}
        self.context = chromium.new_context(viewport=size, color_scheme=theme, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def open(self, path: str = FIRST, **query: str) -> Visit:
        self.page.goto(f"{self.address}/{'' if path == FIRST else path}?{urlencode(query)}")
        self.page.wait_for_selector("[data-testid=stMain] h4")
        return self.settle()

    def settle(self) -> Visit:
        """Wait until the script has ended and what it sent is drawn."""
        self.page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        self.page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
        self.page.wait_for_timeout(400)
        self.page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        return self

    def numbers(self) -> list[str]:
        return self.page.locator("[data-testid=stMetricValue]").all_inner_texts()

    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query, keep_blank_values=True).items()}

    def until(self, name: str, value: str | None) -> Visit:
        """Wait until the address holds a parameter, or holds it no more."""
        self.page.wait_for_function(
            "([name, value]) => new URLSearchParams(location.search).get(name) === value", arg=[name, value])
        return self.settle()

    def press(self, label: str) -> Visit:
        self.page.get_by_role("button", name=label, exact=True).click()
        return self.settle()

    def shoot(self, to: Path) -> None:
        """The whole page, not the window alone."""
        tall = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self.page.set_viewport_size({"width": self.width, "height": max(HEIGHT, int(tall) + 40)})
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=str(to))
        self.page.set_viewport_size({"width": self.width, "height": HEIGHT})

    def overflows(self) -> list[str]:
        """Texts of the page that stick out of the window."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('[data-testid=stMain] :is(p, h4, h5, li, button, label, summary)')]"
            ".filter(e => { const b = e.getBoundingClientRect(); return b.width && b.right > innerWidth + 1"
            " && !e.closest('[role=tablist], pre, [data-testid=stDataFrame]'); }).map(e => e.innerText.slice(0, 80))")

    def close(self) -> None:
        self.context.close()
        own = urlsplit(self.address).netloc
        elsewhere = [url for url in self.asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own]
        assert elsewhere == []
        assert self.faults == []


@pytest.fixture
def visit(chromium: Any, app_url: str) -> Iterator[Callable[..., Visit]]:
    opened: list[Visit] = []

    def start(width: int = 1280, theme: str = "light") -> Visit:
        opened.append(Visit(chromium, app_url, width, theme))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def wanted(name: str, *changes: tuple[str, str]) -> list[str]:
    solved = answers.answer(state.examples()[name], changes).solved
    return [figure.value for figure in figures.figures(solved.plan, solved.run)]


# ---------------------------------------------------------------------------------------------------- every page


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_every_page_and_tab_is_readable_and_accessible(
    path: str, width: int, theme: str, visit: Callable[..., Visit], axe: Callable[[Any], list[str]], shots: Path
) -> None:
    one = visit(width, theme).open(path, example=EXAMPLE.get(path, state.FIRST))
    names = one.page.locator(TABS).all_inner_texts() or [""]
    for at, name in enumerate(names):
        if at:
            one.page.locator(TABS).nth(at).click()
            one.settle()
        one.shoot(shots / f"app-{path}-{at}-{re.sub('[^a-z]+', '-', name.lower())}-{width}-{theme}.png")
        assert one.page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
        assert one.overflows() == []
        if at == 0 or width == WIDTHS[0]:
            assert axe(one.page) == [], name


@pytest.mark.parametrize("path", ["run", "sites"])
def test_a_page_without_its_section_says_so_and_adds_it(path: str, visit: Callable[..., Visit], shots: Path) -> None:
    one = visit().open(path)
    one.shoot(shots / f"app-{path}-without.png")
    assert one.numbers() == []
    one.press(f"Add the section {path}")
    one.page.wait_for_selector("[data-testid=stMetricValue]")
    assert path in one.query() and one.numbers()


# ---------------------------------------------------------------------------------------------------- the loop


def test_a_changed_input_a_baseline_and_the_link_in_a_second_window(visit: Callable[..., Visit]) -> None:
    one = visit().open()
    assert one.numbers() == wanted(state.FIRST)
    one.press("Pin as baseline")
    one.page.get_by_label("Virtual (vpp)", exact=True).fill("4")
    one.page.keyboard.press("Enter")
    one.until("layout.vpp", "4")
    assert one.numbers() == wanted(state.FIRST, ("layout.vpp", "4")) != wanted(state.FIRST)
    moved = one.page.locator("[data-testid=stMetricDelta]").all_inner_texts()
    assert moved and moved[0].startswith("+")
    other = visit(390, "dark")
    other.page.goto(one.page.url)
    other.page.wait_for_selector("[data-testid=stMetricValue]")
    other.settle()
    assert other.numbers() == one.numbers()
    assert other.page.locator("[data-testid=stMetricDelta]").all_inner_texts() == moved
    one.press("Back to the baseline").until("layout.vpp", None)
    assert one.numbers() == wanted(state.FIRST)


def test_a_number_opens_its_explanation(visit: Callable[..., Visit]) -> None:
    one = visit().open()
    one.page.get_by_role("button", name="Why?").first.click()
    one.settle()
    said = one.page.locator("[data-testid=stPopoverBody]").inner_text()
    assert "step_s" in said and "def step_s(" in said and "source" in said.lower()


def test_the_spec_and_the_report_are_downloaded(visit: Callable[..., Visit], tmp_path: Path) -> None:
    one = visit().open(**{"layout.vpp": "4"})
    with one.page.expect_download() as waited:
        one.page.get_by_role("button", name="Download the design review (HTML)").click()
    waited.value.save_as(tmp_path / "review.html")
    made = plan(load.load_text(state.examples()["llama-3.1-405b-h100"], ["layout.vpp=4"]))
    assert (tmp_path / "review.html").read_text() == review.html(review.of_plan(made))
    one.page.get_by_role("tab", name="Files").click()
    one.settle()
    with one.page.expect_download() as waited:
        one.page.get_by_role("button", name="Download the spec (YAML)").click()
    waited.value.save_as(tmp_path / "spec.yaml")
    solved = answers.answer((tmp_path / "spec.yaml").read_text()).solved
    assert [figure.value for figure in figures.figures(solved.plan)] == one.numbers()


def test_a_policy_and_a_strategy_are_adopted_and_shared(visit: Callable[..., Visit]) -> None:
    one = visit().open("run", example=WITH_RUN, part="Policies and spares")
    before = one.numbers()
    one.press("Adopt restart").until("run.policy", "restart")
    with_restart = run_plan(plan(load.load_text(state.examples()[WITH_RUN], ["run.policy=restart"])))
    assert one.numbers()[0] == view.percent(with_restart.value("goodput")) != before[0]
    two = visit().open("sites", example=WITH_SITES, between="Strategies")
    two.page.get_by_role("button", name=re.compile("Adopt DiLoCo")).click()
    two.page.wait_for_function("location.search.includes('sync=')")
    two.settle()
    assert "semi-synchronous" in two.query()["sync"]
    again = visit().open("sites", **two.query())
    assert again.numbers() == two.numbers()


def test_a_link_between_sites_is_an_input(visit: Callable[..., Visit]) -> None:
    one = visit().open("sites", example=WITH_SITES)
    before = one.numbers()
    one.page.locator("[data-testid=stSidebar] summary", has_text="Sites").click()
    one.page.get_by_label("Bandwidth: west - east", exact=True).fill("40 Tb/s")
    one.page.keyboard.press("Enter")
    one.until("links.0.bandwidth", "40 Tb/s")
    assert one.numbers()[0] > before[0]


def test_a_layout_is_adopted_from_the_pareto_plot(visit: Callable[..., Visit]) -> None:
    one = visit().open("search", example="llama-3-8b-fsdp")
    points = one.page.locator("[data-testid=stMain] [data-testid=stVegaLiteChart] .mark-symbol.role-mark path")
    points.first.wait_for()
    one.settle()
    for at in range(points.count()):  # one of them is the plan as it is: a click on it changes nothing
        points.nth(at).click(force=True)
        one.settle()
        if any(state.is_field(name) for name in one.query()):
            break
    taken = tuple((name, value) for name, value in one.query().items() if state.is_field(name))
    assert taken
    assert visit().open(FIRST, **one.query()).numbers() == wanted("llama-3-8b-fsdp", *taken)


# ---------------------------------------------------------------------------------------------------- keyboard


def test_the_main_inputs_are_reached_and_changed_by_keyboard(visit: Callable[..., Visit]) -> None:
    one = visit().open()
    seen: list[str] = []
    for _ in range(90):
        one.page.keyboard.press("Tab")
        name = one.page.evaluate(
            "() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.labels?.[0]?.innerText"
            " || e.innerText || ''; }")
        seen.append(name)
        if name.startswith("Tensor (tp)"):
            one.page.keyboard.press("Control+A")
            one.page.keyboard.type("4")
            one.page.keyboard.press("Enter")
            one.until("layout.tp", "4")
    reached = " | ".join(seen)
    for name in ("Plan", "Start from", "Fields", "Layout", "Tensor (tp)", "Sequence length", "Pin as baseline", "Why?", "Time"):
        assert name in reached, f"{name} is not reached by Tab: {reached[:2000]}"
    assert one.numbers() == wanted(state.FIRST, ("layout.tp", "4"), ("layout.dp", "null"))
