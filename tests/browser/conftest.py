"""What the browser tests share: Debian's Chromium, packages of npm, a server of the app, and the accessibility check.

`make test-browser` installs all of it. Without it the tests are skipped with the reason; with CODESIGN_BROWSER=must, as
that target sets it, they fail instead.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SHOTS = HERE / "shots"  # screenshots, to be looked at; not kept in the repository
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
_SERVER = (
    "--server.headless=true", "--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none",
)  # fmt: skip


def _absent(what: str) -> None:
    """Skip, or fail where everything is promised to be there."""
    (pytest.fail if os.environ.get("CODESIGN_BROWSER") == "must" else pytest.skip)(f"{what}; run make test-browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        _absent("there is no Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed")
    with sync_playwright() as tool:
        running = tool.chromium.launch(executable_path=binary, args=list(_FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of npm's packages."""
    found = HERE / "node_modules"
    if not (found / "axe-core").is_dir():
        _absent("the packages of npm are not installed")
    return found


@pytest.fixture
def shots() -> Path:
    SHOTS.mkdir(exist_ok=True)
    return SHOTS


@pytest.fixture(scope="session")
def axe(node_modules: Path) -> Callable[[Any], list[str]]:
    """Serious and critical findings of axe on a page, a line each: rule, how many places, the first of them."""
    source = (node_modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def check(page: Any) -> list[str]:
        page.evaluate(source)
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        return [
            f"{one['id']} ({one['impact']}): {len(one['nodes'])} places, first {one['nodes'][0]['html'][:160]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    return check


@pytest.fixture(scope="session")
def app_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a what-if app on loopback, started for these tests."""
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), *_SERVER, f"--server.port={port}"]
    with log.open("w") as said:
        server = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/_stcore/health", server, log)
        yield address
    finally:
        server.terminate()
        server.wait(10)
    assert "Traceback" not in log.read_text(), f"the app's log holds a traceback:\n{log.read_text()}"


def _wait(address: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            pytest.fail(f"the app ended at once:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail("the app did not come up")
