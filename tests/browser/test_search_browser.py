"""The pages Search and Shapes and the pipeline of a step, in a real browser: looked at, clicked, shared."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from conftest import THEMES, WIDTHS

pytestmark = pytest.mark.browser

SMALL = "example=llama-3-8b-fsdp"
PAGES = {"search": f"/search?{SMALL}", "shapes": f"/shapes?{SMALL}", "pipeline": "/?tab=Pipeline"}
WAIT_MS = 60_000


def settle(page: Any) -> None:
    """Until the page is whole: nothing runs, nothing is a placeholder, the chart is drawn."""
    page.locator('[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg').first.wait_for(timeout=WAIT_MS)
    for part in ("stSkeleton", "stStatusWidgetRunningIcon", "stProgress"):
        page.wait_for_function(f"!document.querySelector('[data-testid=\"{part}\"]')", timeout=WAIT_MS)
    page.wait_for_timeout(800)  # what was stale fades in


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_readable_and_accessible(
    name: str, width: int, theme: str, chromium: Any, app_url: str, axe: Callable[[Any], list[str]], shots: Path
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 2000}, color_scheme=theme)
    page = context.new_page()
    page.goto(app_url + PAGES[name])
    settle(page)
    page.screenshot(path=str(shots / f"app-{name}-{width}-{theme}.png"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    context.close()


@pytest.mark.parametrize(("name", "section"), [("search", "layout."), ("shapes", "model.")])
def test_a_click_on_a_point_takes_it_over_and_the_link_gives_it_to_others(
    name: str, section: str, chromium: Any, app_url: str
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 2000})
    page = context.new_page()
    page.goto(app_url)
    page.get_by_role("button", name="Pin as baseline").click()
    page.get_by_text("This plan is the baseline").wait_for(timeout=WAIT_MS)
    page.get_by_role("link", name=name.capitalize()).click()
    page.get_by_text("Click a point").wait_for(timeout=WAIT_MS)
    settle(page)
    _click_a_point(page)
    page.get_by_text("Taken over into the plan").wait_for(timeout=WAIT_MS)
    page.wait_for_url(re.compile(re.escape(section)))
    assert "pin" in parse_qs(urlparse(page.url).query)
    page.get_by_role("link", name="Plan", exact=True).click()
    page.get_by_text("What moved, and why").wait_for(timeout=WAIT_MS)
    values = page.locator('[data-testid="stMetricValue"]')
    shown, link = values.all_inner_texts(), page.url
    other = context.new_page()
    other.goto(link)
    other.get_by_text("What moved, and why").wait_for(timeout=WAIT_MS)
    again = other.locator('[data-testid="stMetricValue"]')
    again.nth(len(shown) - 1).wait_for(timeout=WAIT_MS)
    assert shown and again.all_inner_texts() == shown
    context.close()


def _click_a_point(page: Any) -> None:
    """A point other than the plan itself: the places are those that the chart drew, found by the pointer that it shows."""
    chart = page.locator('[data-testid="stVegaLiteChart"]').first
    box = chart.bounding_box()
    surface = chart.locator("canvas, svg").first
    for across in range(60, int(box["width"]) - 10, 6):
        for down in range(6, 270, 6):
            page.mouse.move(box["x"] + across, box["y"] + down)
            if surface.evaluate("node => getComputedStyle(node).cursor") == "pointer":
                tip = page.locator("#vg-tooltip-element")
                if tip.count() and re.search("slower|Pareto", tip.inner_text()):
                    page.mouse.click(box["x"] + across, box["y"] + down)
                    return
    pytest.fail("no point was found under the pointer")


def test_a_long_search_shows_how_far_it_is_and_can_be_stopped(chromium: Any, app_url: str) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 1200})
    page = context.new_page()
    fields = "&".join(f"open={name}" for name in ("tp", "pp", "vpp", "cp", "micro_batch", "recompute", "sharding", "offload"))
    page.goto(f"{app_url}/search?example=frontier-100k-two-sites&{fields}")
    page.locator('[data-testid="stProgress"]').wait_for(timeout=WAIT_MS)
    page.get_by_text(re.compile(r"[\d,]+ of [\d,]+ tried")).wait_for(timeout=WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped after").wait_for(timeout=WAIT_MS)
    context.close()
