"""Generated documentation: nomenclature, equations, what their source keys stand for, how wrong we are, the README's figures.

Pure functions from the registry, the measured runs and a plan to Markdown; `python -m codesign.report.reference` in the
folder of a checkout writes them. A test compares the files with these functions, so that no page grows old in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import codesign.quantities  # registers every quantity of a step
import codesign.quantities.beyond  # and of a run
from codesign import units
from codesign.evidence.nearest import nearest
from codesign.evidence.validate import Validation, validate
from codesign.graph import REGISTRY, Quantity
from codesign.planner import Plan, plan
from codesign.report import accuracy, text
from codesign.spec import references

COMMAND = "python -m codesign.report.reference"
EXAMPLE = "examples/llama-3.1-405b-h100.yaml"

WRITTEN = f"<!-- Written by `{COMMAND}`: change the code, not this page. -->"
_ABOUT_INPUTS = (
    "What no equation gives: fields of the spec, of the profile, of the software stack, and the structure of the "
    "layout. `codesign explain SPEC NAME` prints the value, kind and source of one in a plan."
)
_ABOUT_EQUATIONS = (
    "One section a quantity, by module. EQ numbers are those that the docstrings in `codesign/laws/` carry beside the "
    "paper; [references.md](references.md) has what they stand for. [nomenclature.md](nomenclature.md) is the short "
    "list. `codesign explain SPEC NAME` prints the same tree "
    "with the values of a plan."
)
_ABOUT_REFERENCES = (
    "What the keys in the sources of [equations.md](equations.md), in the docstrings of `codesign/laws/` and in the "
    "fitted constants stand for. Status: confirmed was read in the origin named; derived was worked out or fitted here; "
    "unconfirmed is recalled and marked in the formula. Matrix products are M x K by K x N."
)
_ROOMS = (*codesign.quantities.__all__, *codesign.quantities.beyond.__all__)
_MOST_READERS = 4
_MOST_STAGE_LINES = 5  # title of two lines, heads, two lines of ranks


# ---------------------------------------------------------------------------------------------------- quantities


def registered() -> list[Quantity]:
    """Every quantity of a plan, module by module, in the order in which they are written."""
    mine = [q for q in REGISTRY.values() if q.function.__module__ in {f"codesign.quantities.{r}" for r in _ROOMS}]
    return sorted(mine, key=lambda q: (q.function.__module__, q.function.__code__.co_firstlineno))


def _by_room(quantities: Sequence[Quantity]) -> list[tuple[str, list[Quantity]]]:
    return [(room, list(members)) for room, members in groupby(quantities, key=_room)]


def _room(quantity: Quantity) -> str:
    return quantity.function.__module__.rpartition(".")[2]


def _inputs(quantity: Quantity) -> list[str]:
    """Names that it reads, without the member of its own index set."""
    return [name for name in quantity.inputs if name != quantity.over]


def _leaves(quantities: Sequence[Quantity]) -> dict[str, list[str]]:
    """Inputs that no equation gives, and who reads them."""
    names = {q.name for q in quantities}
    readers: dict[str, list[str]] = {}
    for quantity in quantities:
        for name in _inputs(quantity):
            if name not in names:
                readers.setdefault(name, []).append(quantity.name)
    return dict(sorted(readers.items()))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _per(quantity: Quantity) -> str:
    axes = [quantity.over] if quantity.over else []
    return ", ".join([*axes, *([quantity.labels] if quantity.labels else [])])


def nomenclature(quantities: Sequence[Quantity]) -> str:
    """The names: each unit suffix, each quantity with its unit, first sentence and source, each input with its unit."""
    suffixes = [
        {"suffix": f"`_{name}`" if name != "1" else "none", "unit": meaning}
        for name, (meaning, _) in units.SUFFIXES.items()
    ]
    lines = [
        "# Nomenclature", WRITTEN,
        "A name is snake_case and ends in its unit. [equations.md](equations.md) has the one equation of each.",
        "## Unit suffixes", text.markdown_table(suffixes).rstrip(),
        "GiB and MiB are powers of two, GB and Gb/s powers of ten. Model and hardware FLOPs are named apart.",
        f"## Quantities ({len(quantities)})",
        "`kind`: one value for each kind of layer of the model (dense, moe, and so on).",
    ]
    for room, members in _by_room(quantities):
        rows = [
            {
                "name": f"[`{q.name}`](equations.md#{q.name.lower()})", "unit": _unit(q.unit), "per": _per(q) or "-",
                "what": text.first_sentence(q.doc), "source": q.source,
            }
            for q in members
        ]
        lines += [f"### {room.capitalize()}", text.markdown_table(rows).rstrip()]
    leaves = [
        {"name": f"`{name}`", "unit": _unit(units.suffix(name)), "read by": _readers(readers)}
        for name, readers in _leaves(quantities).items()
    ]
    lines += [
        f"## Inputs ({len(leaves)})",
        _ABOUT_INPUTS,
        text.markdown_table(leaves).rstrip(),
    ]
    return "\n\n".join(lines) + "\n"


def _unit(unit: str) -> str:
    return "-" if unit == "1" else units.base(unit)


def _readers(readers: Sequence[str]) -> str:
    more = f" and {len(readers) - _MOST_READERS} more" if len(readers) > _MOST_READERS else ""
    return _code(readers[:_MOST_READERS]) + more


def equations(quantities: Sequence[Quantity]) -> str:
    """The reference: each quantity with its docstring, source, inputs and parts, and the module of its equation."""
    known = {q.name for q in quantities}
    lines = [
        "# Equations", WRITTEN,
        _ABOUT_EQUATIONS,
    ]
    for room, members in _by_room(quantities):
        path = f"codesign/quantities/{room}.py"
        lines += [f"## {room.capitalize()}", f"Equations in [{path}](../{path})."]
        lines += [_section(quantity, known) for quantity in members]
    return "\n\n".join(lines) + "\n"


def _section(quantity: Quantity, known: set[str]) -> str:
    facts = [f"unit: {units.SUFFIXES[quantity.unit][0]}"]
    if quantity.over:
        facts.append(f"one value for each {quantity.over}")
    if quantity.labels:
        facts.append(f"rows of its leading axis: {quantity.labels}")
    facts.append(f"source: {_cited(quantity.source)}")
    facts.append(f"inputs: {_links(_inputs(quantity), known) or 'none'}")
    for head, names in (("sum of", quantity.parts), ("largest of", quantity.worst_of), ("hides", quantity.hides)):
        if names:
            facts.append(f"{head}: {_links(names, known)}")
    return f"### {quantity.name}\n\n{quantity.doc}\n\n" + "\n".join(f"- {fact}" for fact in facts)


def _links(names: Iterable[str], known: set[str]) -> str:
    return ", ".join(f"[`{name}`](#{name.lower()})" if name in known else f"`{name}`" for name in names)


def _cited(source: str) -> str:
    """A source whose keys link to their entries."""
    known = {name: one for one in references.load().values() for name in (one.key, *one.also)}
    cited = source
    for mention in reversed(references.mentions(source)):
        entry = known.get(mention.keys[-1])
        if entry:
            shown = source[mention.start:mention.end]
            cited = f"{cited[:mention.start]}[{shown}](references.md#{entry.anchor}){cited[mention.end:]}"
    return cited


# ---------------------------------------------------------------------------------------------------- references


def references_page() -> str:
    """Every source key with its formula, origin and standing."""
    entries = references.load().values()
    letters = [{"symbol": f"`{symbol}`", "meaning": meaning} for symbol, meaning in references.symbols().items()]
    lines = [
        "# References", WRITTEN, _ABOUT_REFERENCES, "## Symbols", text.markdown_table(letters).rstrip(),
        f"## Keys ({len(entries)})", *(_entry(entry) for entry in entries),
    ]
    return "\n\n".join(lines) + "\n"


def _entry(entry: references.Reference) -> str:
    facts = [f"source: {entry.source}", f"status: {entry.status}"]
    if entry.also:
        facts.append(f"also cited as: {', '.join(entry.also)}")
    facts += [f"section {number}: {meaning}" for number, meaning in entry.sections.items()]
    body = "\n".join(f"- {fact}" for fact in facts)
    return f"### {entry.key}\n\n{_capital(entry.title)}.\n\n```text\n{entry.formula}\n```\n\n{body}"


def _capital(title: str) -> str:
    return title[0].upper() + title[1:]


# ---------------------------------------------------------------------------------------------------- the plan shown


def plan_excerpt(screen: str) -> str:
    """The screen of `codesign plan`, without most ranks, the terms of the memory and the citations; cuts are marked."""
    return "\n\n".join(_shortened(section) for section in screen.strip().split("\n\n"))


def _shortened(section: str) -> str:
    lines = section.splitlines()
    if lines[0].startswith("memory:") and len(lines) > _MOST_STAGE_LINES:
        return "\n".join([*lines[:_MOST_STAGE_LINES], f"  [{len(lines) - _MOST_STAGE_LINES} lines left out]"])
    return section


# ---------------------------------------------------------------------------------------------------- files


def replace_block(page: str, name: str, body: str) -> str:
    """`page` with what stands between `<!-- name:begin -->` and `<!-- name:end -->` replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs one {begin} and after it one {end}")
    head, _, rest = page.partition(begin)
    return f"{head}{begin}\n{body.strip()}\n{end}{rest.partition(end)[2]}"


def readme(page: str, validation: Validation, made: Plan, summary: Mapping[str, Mapping[str, Any]]) -> str:
    """The README with its plan and its errors as they are now."""
    screen = plan_excerpt(text.plan_screen(made, nearest(made)))
    shown = f"```text\n$ codesign plan {EXAMPLE}\n{screen}\n```\n\n{accuracy.published_beside(made, validation)}"
    page = replace_block(page, "plan", shown)
    return replace_block(page, "errors", accuracy.headlines(validation, summary))


def pages(root: Path) -> dict[Path, str]:
    """Every generated file of the checkout in `root`, with its text."""
    page = (root / "README.md").read_text(encoding="utf-8")
    found, summary = validate(), accuracy.held_out_summary()
    return {
        root / "docs" / "nomenclature.md": nomenclature(registered()),
        root / "docs" / "equations.md": equations(registered()),
        root / "docs" / "references.md": references_page(),
        root / "docs" / "how-wrong.md": accuracy.page(found, summary, WRITTEN),
        root / "README.md": readme(page, found, plan(root / EXAMPLE), summary),
    }


def main() -> int:
    root = Path.cwd()
    if not (root / EXAMPLE).is_file() or not (root / "README.md").is_file():
        print(f"run it in the folder of a checkout: {COMMAND}", file=sys.stderr)
        return 2
    for path, body in pages(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
