"""Every short key that a source names leads to a formula and an origin, and no entry stands there for nothing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import codesign
import codesign.laws
from codesign.laws import collectives, states
from codesign.report import reference
from codesign.spec import references, stacks

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(codesign.__file__).parent


def sources_of_quantities() -> dict[str, str]:
    return {quantity.name: f"{quantity.source} ; {quantity.doc}" for quantity in reference.registered()}


def docstrings_of_laws() -> dict[str, str]:
    found = {}
    for info in pkgutil.iter_modules(codesign.laws.__path__, "codesign.laws."):
        module = importlib.import_module(info.name)
        found[info.name] = module.__doc__ or ""
        for name, member in inspect.getmembers(module):
            if (inspect.isfunction(member) or inspect.isclass(member)) and member.__module__ == info.name:
                found[f"{info.name}.{name}"] = member.__doc__ or ""
    return found


def reasons_of_constants() -> dict[str, str]:
    return {"constants.yaml": (stacks.DATA / "constants.yaml").read_text(encoding="utf-8")}


def files_of_the_package() -> dict[str, str]:
    """Comments, `resolve.py` and the data as well."""
    own = (references.FILE, PACKAGE / "spec" / "references.py")
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".yaml") and path not in own]
    return {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in paths}


def unresolved(texts: dict[str, str]) -> dict[str, list[str]]:
    found = {}
    for name, text in texts.items():
        missing = [key for key in references.keys(text) if not references.lookup(key)]
        if missing:
            found[name] = missing
    return found


@pytest.mark.parametrize("texts", [
    sources_of_quantities, docstrings_of_laws, reasons_of_constants, files_of_the_package,
])
def test_every_key_resolves(texts):
    named = texts()
    assert sum(len(references.keys(text)) for text in named.values()) >= 2, "no key was found: the test looks away"
    assert unresolved(named) == {}


def test_a_key_without_an_entry_would_be_noticed():
    assert unresolved({"here": "EQ-05, EQ-999; op_fits section 12"}) == {"here": ["EQ-999", "op_fits section 12"]}


def test_no_entry_is_unused():
    used = {one.key for text in files_of_the_package().values() for one in references.lookup(text)}
    assert set(references.load()) - used <= set(references.UMBRELLAS)


def test_entries_are_complete_plain_and_short_enough_for_a_screen():
    for key, entry in references.load().items():
        assert entry.title and entry.source, key
        assert entry.formula and all(line.strip() for line in entry.formula.splitlines()), key
        assert set(entry.status.split(", ")) <= set(references.STATUSES), key
        assert (entry.title + entry.formula + entry.source).isascii(), key
        assert "confirmed" in entry.status.split(", ") or "derived" in entry.status.split(", "), key


@pytest.mark.parametrize("key", sorted(references.load()))
def test_what_is_called_unconfirmed_is_marked_in_the_formula(key):
    entry = references.load()[key]
    assert ("unconfirmed" in entry.status.split(", ")) == ("(unconfirmed)" in entry.formula)


@pytest.mark.parametrize("key", sorted(references.load()))
def test_origin_can_be_found_by_a_stranger(key):
    """A paper by its arXiv id or its volume, a repository by owner, name and commit, or nothing but counting."""
    origin = references.load()[key].source
    paper = r"arXiv (\d{4}\.\d{4,5}|astro-ph/\d{7})|(ACM|Systems|Review) \d{2}\b|SOSP'\d{2}|NVIDIA 2019"
    public = re.search(paper + r"|[\w-]+/[\w.-]+@[0-9a-f]{7}", origin)
    assert public or origin.startswith("count"), origin


def test_every_symbol_is_used():
    assert set(references.symbols_in(references.load().values())) == set(references.symbols())


@pytest.mark.parametrize(("text", "keys"), [
    ("EQ-28", ["EQ-28"]),
    ("EQ-10, EQ-11; optimizers", ["EQ-10", "EQ-11"]),
    ("EQ-35 to EQ-38: what each", ["EQ-35", "EQ-36", "EQ-37", "EQ-38"]),
    ("EQ-30\n    to EQ-36", ["EQ-30", "EQ-31", "EQ-32", "EQ-33", "EQ-35", "EQ-36"]),
    ("EQ-14 x EQ-13", ["EQ-14", "EQ-13"]),
    ("op_fits: 0.80 in a hot loop", ["op_fits"]),
    ("(op_fits\n    section 4, fitted to", ["op_fits section 4"]),
    ("op_fits section 2 and 7.2", ["op_fits section 2", "op_fits section 7.2"]),
    ("op_fits section 7.1: sustained", ["op_fits section 7.1"]),
    ("op_fits section 3: 2.7 to 2.9 times the forward", ["op_fits section 3"]),
    ("network.md sections 2 and 4", ["network.md section 2", "network.md section 4"]),
    ("(op_fits G3 at sustained rates)", ["op_fits section 2"]),
    ("reference/op_fits.md).", ["op_fits"]),
    ("Korthikanti 2022, section 4.2.2", []),
    ("", []),
])
def test_lookup_finds(text, keys):
    assert [one.key for one in references.lookup(text)] == keys


def test_mentions_are_the_words_of_the_text():
    text = "op_fits section 2 and 7.2; EQ-35 to EQ-38"
    shown = [text[one.start:one.end] for one in references.mentions(text)]
    assert shown == ["op_fits section 2", "7.2", "EQ-35", "EQ-38"]


def test_page_is_current_and_equations_link_to_it():
    page = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    assert page == reference.references_page(), f"docs/references.md is old: run {reference.COMMAND}"
    equations = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    assert "[op_fits section 2](references.md#op_fits-section-2) and [7.2](references.md#op_fits-section-72)" in equations
    assert "[EQ-28](references.md#eq-28)" in equations
    for line in equations.splitlines():
        if line.startswith("- source: "):
            plain = re.sub(r"\[([^\]]+)\]\(references\.md#[^)]+\)", r"\1", line)
            assert line.count("](references.md#") == len(references.mentions(plain)), line


def test_formulas_agree_with_the_laws():
    """A few by number: the entries speak of the equations that run."""
    one = np.ones(1)
    assert "2 (n-1) alpha + 2 (n-1)/n S/BW" in references.load()["EQ-21"].formula
    assert collectives.ring_all_reduce_s(8e9 * one, 8 * one, 1e-5 * one, 1e9 * one) == pytest.approx(14 * 1e-5 + 14)
    assert "2 log2(n) alpha + 2 S/BW" in references.load()["EQ-23"].formula
    assert collectives.double_tree_all_reduce_s(8e9 * one, 8 * one, 1e-5 * one, 1e9 * one) == pytest.approx(6e-5 + 16)
    assert "a + (W/BW) (1 + sqrt(W_half / W))" in references.load()["op_fits section 4"].formula
    assert collectives.three_parameter_s(4e6 * one, 1e-5 * one, 1e9 * one, 1e6 * one) == pytest.approx(1e-5 + 6e-3)
    assert "p (1 + (p-1)/(p v))" in references.load()["EQ-14"].formula
    assert states.interleaved_in_flight_factor(4 * one, 2 * one) == pytest.approx(1 + 3 / 8)
