"""The appendix: for every number that is cited, what it is, its equation, its source, its value and its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from codesign import graph, units
from codesign.planner import Plan
from codesign.report import text
from codesign.report.review import methods
from codesign.report.review.document import Entry, Group, Input
from codesign.run import RunPlan
from codesign.spec import references

DEPTH = 1  # levels below a cited number that have an entry of their own; inputs below them stand with their values
INPUTS = "appendix-inputs"  # the group of given numbers
METHODS = "appendix-methods"  # the group of how numbers beside the graph are made
EQUATIONS = "appendix-equations"  # the group of the published equations
_ROLES = {"part": "adds up", "worst_of": "the largest counts", "hidden": "hidden, not added", "override": "set by hand"}
_PREFIX = {"step": "q", "run": "r", "how": "m", "ref": "e"}

Source = Plan | RunPlan


def appendix(
    cited: Iterable[str], plan: Plan, run: RunPlan | None, before: tuple[Plan, RunPlan | None] | None = None
) -> tuple[Group, ...]:
    """Groups of entries for the keys in `cited` and for what lies under them. `before`: the plan compared with."""
    wanted = list(dict.fromkeys(cited))
    explained: dict[str, graph.Explanation] = {}
    for space, source in (("step", plan), ("run", run)):
        if source is not None:
            names = [key.partition(":")[2] for key in wanted if key.startswith(f"{space}:")]
            explained |= _closure(space, source, names)
    then = {"step": before[0], "run": before[1]} if before else {}
    labels = text.labels_in(plan)
    made = [
        _entry(key, node, explained, labels, then.get(key.partition(":")[0]), before is not None)
        for key, node in explained.items()
    ]
    anchors = _anchors([one.key for one in made])
    made = [replace(one, anchor=anchors[one.key], cited=one.key in wanted) for one in made]
    groups = [
        Group("appendix-step", "Quantities of the step", tuple(_of(made, explained, "step", leaf=False))),
        Group("appendix-run", "Quantities of the run", tuple(_of(made, explained, "run", leaf=False))),
        Group(INPUTS, "Inputs", tuple(_of(made, explained, None, leaf=True))),
        Group(METHODS, "How other numbers are made", tuple(_methods(wanted))),
        Group(EQUATIONS, "Published equations", tuple(_references(made))),
    ]
    return tuple(group for group in groups if group.entries)


def _closure(space: str, source: Source, names: list[str]) -> dict[str, graph.Explanation]:
    """The explanation, one level deep, of every name and of what lies at most `DEPTH` levels below it."""
    found: dict[str, graph.Explanation] = {}
    layer = names
    for _ in range(DEPTH + 1):
        below: list[str] = []
        for name in layer:
            if f"{space}:{name}" in found:
                continue
            node = found[f"{space}:{name}"] = _explained(source, name)
            below += [text.title(child) for child in node.inputs if child.role != "leaf" or _numeric(child)]
        layer = below
    return found


def _explained(source: Source, name: str) -> graph.Explanation:
    """A name with its direct inputs; an input of the step says its kind, as it does under a quantity."""
    node = source.explain(name, 1)
    leaf = source.problem.leaves.get(name) if isinstance(source, Plan) else None
    return replace(node, source=f"{leaf.kind}: {leaf.source}") if leaf and node.role == "leaf" else node


def _numeric(node: graph.Explanation) -> bool:
    """Whether a leaf is a number; what is structure is said where it is used."""
    return not isinstance(text.plain(node.value), str)


def _entry(
    key: str,
    node: graph.Explanation,
    known: Mapping[str, graph.Explanation],
    labels: text.Labels,
    before: Source | None,
    compared: bool,
) -> Entry:
    space = key.partition(":")[0]
    now = text.show_value(node.value, node.unit, labels(node) if space == "step" else None)
    values = [("now" if compared else "", now)]
    if compared:
        values.insert(0, ("before", _value(before, text.title(node), labels)))
    inputs = []
    for child in node.inputs:
        name = text.title(child)
        shown = text.show_value(child.value, child.unit, labels(child) if space == "step" else None)
        inputs.append(
            Input(name, shown, f"{space}:{name}" if f"{space}:{name}" in known else None, _ROLES.get(child.role, ""))
        )
    what = " ".join(node.doc.split())
    keys = tuple(one.key for one in references.lookup(node.source))
    return Entry(key, "", text.title(node), node.unit, what, node.source, keys, tuple(values), tuple(inputs))


def _value(source: Source | None, name: str, labels: text.Labels) -> str:
    """The value of a name in the plan before; '-' where it plays no part there."""
    if source is None:
        return "-"
    base, _, member = name.partition("[")
    key = (base, member.rstrip("]") or None)
    found = source.values.get(key, source.values.get(name))
    return "-" if found is None else text.show_value(found, units.suffix(base))


def _anchors(keys: Iterable[str]) -> dict[str, str]:
    """Key -> an id that is good in HTML and unlike every other."""
    found: dict[str, str] = {}
    for key in keys:
        space, _, name = key.partition(":")
        bare = f"{_PREFIX[space]}-{re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-')}"
        anchor, count = bare, 1
        while anchor in found.values():
            count += 1
            anchor = f"{bare}-{count}"
        found[key] = anchor
    return found


def _of(made: list[Entry], explained: Mapping[str, graph.Explanation], space: str | None, leaf: bool) -> list[Entry]:
    found = [
        one
        for one in made
        if (explained[one.key].role == "leaf") == leaf and (space is None or one.key.startswith(f"{space}:"))
    ]
    return sorted(found, key=lambda one: (one.name, one.key))


def _methods(wanted: Iterable[str]) -> list[Entry]:
    names = [key.partition(":")[2] for key in wanted if key.startswith("how:")]
    anchors = _anchors(f"how:{name}" for name in names)
    return [
        Entry(
            f"how:{name}",
            anchors[f"how:{name}"],
            methods.METHODS[name].title,
            "",
            methods.METHODS[name].text,
            methods.METHODS[name].source,
            (),
            (),
        )
        for name in sorted(names)
    ]


def _references(made: Iterable[Entry]) -> list[Entry]:
    """The equations that the sources name, in the order of the reference."""
    named = {key for entry in made for key in entry.formulas}
    found = [one for one in references.load().values() if one.key in named]
    anchors = _anchors(f"ref:{one.key}" for one in found)
    return [
        Entry(
            f"ref:{one.key}",
            anchors[f"ref:{one.key}"],
            one.key,
            "",
            f"{one.title} ({one.status})",
            one.source,
            tuple(one.formula.splitlines()),
            (),
        )
        for one in found
    ]


def anchors_of(groups: Iterable[Group]) -> dict[str, str]:
    """Key of every entry -> its anchor."""
    return {entry.key: entry.anchor for group in groups for entry in group.entries}


__all__ = ["DEPTH", "EQUATIONS", "INPUTS", "METHODS", "anchors_of", "appendix"]
