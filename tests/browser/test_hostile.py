"""What people may send to a server that others use too: each gets a clear message and does nothing else.

A file of the machine that a spec names is a pipe here: opening it would wait for ever, and a pipe that is open for reading
can be told from one that is not.
"""

from __future__ import annotations

import errno
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from codesign.app import state

pytestmark = pytest.mark.browser

TEXT = state.examples()[state.FIRST]
SCRIPT = "<img src=x onerror=document.title='owned'>"
WAIT_MS = 30_000
# field that may name a file -> how it is written in the example, and with a file
WRITTEN = {
    "model.hf": ("model: llama-3.1-405b\n", "model:\n  hf: {}\n"),
    "cluster.profile": ("  profile: h100-sxm-80gb\n", "  profile: {}\n"),
    "cluster.fabric": ("  fabric: llama3-roce\n", "  fabric: {}\n"),
}


def _zip_bomb() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 100_000_000)
    return packed.getvalue()


def _alias_bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


# name of the file, what is in it, words of the message
UPLOADS: dict[str, tuple[str, bytes, str]] = {
    "zip bomb": ("bomb.yaml", _zip_bomb(), "not UTF-8 text"),
    "zip bomb as JSON": ("config.json", _zip_bomb(), "not UTF-8 text"),
    "alias bomb": ("alias.yaml", _alias_bomb(), "the anchor &a0 is not read"),
    "binary": ("model.yaml", bytes(range(256)) * 40, "not UTF-8 text"),
    "deep nesting": ("deep.yaml", b"version: " + b"[" * 100_000, ""),
    "deep JSON": ("config.json", b'{"a":' * 50_000, ""),
    "too long for a spec": ("long.yaml", b"# " + b"x" * 400_000, "at most 256,000 bytes"),
    "path in the name": ("..%2f..%2fetc%2fpasswd.yaml", b"\xff\xfe\xfd", "not UTF-8 text"),
    "script in the name": (f"{SCRIPT}.yaml", b"\xff", "not UTF-8 text"),
    "script inside": ("script.yaml", f"model: \"{SCRIPT}\"\nnonsense".encode(), ""),
    "tag that builds an object": ("tag.yaml", b"version: !!python/object/apply:os.system ['id']", ""),
}


@pytest.fixture(scope="module")
def page(chromium: Any, app_url: str) -> Any:
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    yield opened
    context.close()


def fresh(page: Any, app_url: str, path: str = "/") -> None:
    page.goto(app_url + path)
    page.get_by_role("tab", name="Files").wait_for(timeout=WAIT_MS)


def upload(page: Any, name: str, data: bytes) -> None:
    page.get_by_role("tab", name="Files").click()
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "text/yaml", "buffer": data})


def is_well(page: Any, app_url: str) -> None:
    """Nothing ran, nothing crashed, and the server still answers others."""
    assert page.locator('[data-testid="stException"]').count() == 0
    assert page.title() != "owned" and page.locator("img[src=x]").count() == 0
    with urllib.request.urlopen(f"{app_url}/_stcore/health", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("what", UPLOADS)
def test_a_hostile_upload_gets_one_message(what: str, page: Any, app_url: str) -> None:
    name, data, words = UPLOADS[what]
    fresh(page, app_url)
    upload(page, name, data)
    alert = page.locator('[data-testid="stAlertContentError"]').filter(has_text=re.compile(r"\w"))
    alert.first.wait_for(timeout=WAIT_MS)
    said = alert.first.inner_text()
    assert alert.count() == 1 and words in said and len(said) < 600, said
    assert "Traceback" not in said and "/codesign/" not in said
    is_well(page, app_url)


def test_a_file_of_100_MB_is_refused_by_the_page_and_by_the_server(page: Any, app_url: str, tmp_path: Path) -> None:
    fresh(page, app_url)
    page.get_by_role("tab", name="Files").click()
    big = b"x" * 100_000_000
    path = tmp_path / "long.yaml"
    path.write_bytes(big)
    try:
        page.locator("input[type=file]").set_input_files(str(path))
        page.get_by_text("must be 1.0MB or smaller").or_(page.get_by_text("1MB or smaller")).first.wait_for(timeout=WAIT_MS)
    finally:
        path.unlink()
    send = urllib.request.Request(f"{app_url}/_stcore/upload_file/nobody/nothing", data=big, method="PUT")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(send, timeout=30)
    is_well(page, app_url)


@pytest.mark.parametrize("field", WRITTEN)
@pytest.mark.parametrize("way", ["link", "upload"])
def test_no_file_of_the_machine_is_opened(field: str, way: str, page: Any, app_url: str, tmp_path: Path) -> None:
    pipe = tmp_path / "secret.json"
    os.mkfifo(pipe)
    if way == "link":
        fresh(page, app_url, f"/?{field}={pipe}")
    else:
        fresh(page, app_url)
        old, inside = WRITTEN[field]
        assert old in TEXT
        upload(page, "spec.yaml", TEXT.replace(old, inside.format(pipe)).encode())
    page.get_by_text("no file is opened here").first.wait_for(timeout=WAIT_MS)
    with pytest.raises(OSError) as refused:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    assert refused.value.errno == errno.ENXIO  # nobody reads it
    is_well(page, app_url)


def test_a_link_with_too_many_layers_is_refused_at_once_and_one_with_an_unknown_name_says_so(page: Any, app_url: str) -> None:
    begun_s = time.monotonic()
    fresh(page, app_url, "/?model.layers=1000000000&layout.pp=1&layout.vpp=1&layout.schedule=none&layout.dp=null")
    page.get_by_text("1,000,000,000 layers, more than the 10,000").first.wait_for(timeout=WAIT_MS)
    assert time.monotonic() - begun_s < 20.0
    fresh(page, app_url, "/?foo=1")
    page.get_by_text("The link has foo").wait_for(timeout=WAIT_MS)
    is_well(page, app_url)


def test_a_name_in_a_link_is_no_live_link_and_no_picture(page: Any, app_url: str) -> None:
    name = "https://evil.example www.evil.example ![x](https://evil.example/i.png) a@evil.example"
    fresh(page, app_url, f"/?{urllib.parse.urlencode({'name': name})}")
    page.get_by_role("heading", name=re.compile("evil")).wait_for(timeout=WAIT_MS)
    assert page.locator("a[href*=\"evil.example\"]").count() == 0 and page.locator("img[src*=\"evil.example\"]").count() == 0
    sites = {"example": "frontier-100k-two-sites", "sites.0.name": "![x](https://evil.example/i.png)"}
    fresh(page, app_url, f"/?{urllib.parse.urlencode(sites)}")
    page.get_by_text("is not a name").first.wait_for(timeout=WAIT_MS)
    page.get_by_text("Sites", exact=True).first.click()
    page.get_by_label(re.compile("Sites alike")).first.wait_for(timeout=WAIT_MS)
    assert page.locator("img[src*=\"evil.example\"]").count() == 0 and page.locator("a[href*=\"evil.example\"]").count() == 0


def test_a_packed_bomb_in_the_link_gets_one_message(page: Any, app_url: str) -> None:
    fresh(page, app_url, f"/?spec={state.pack('x' * 5_000_000)}")
    page.get_by_text("cut off, or longer than").wait_for(timeout=WAIT_MS)
    is_well(page, app_url)
