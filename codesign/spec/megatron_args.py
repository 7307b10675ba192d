"""Words of a launch script to Megatron-LM's arguments, with the line of each; and the comment lines of an export."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from codesign.errors import Place, SpecError
from codesign.spec import load, shell

FILL_IN = "FILL_IN"
HEADER = re.compile(r"#: ([a-z_.]+): (.*)")
# Fields that comment lines may carry: what no argument decides, or decides in part only; and what they must be here. The
# loader checks the others (None), whose values are only passed on.
TEXT, NUMBER = "a text", "a number above 0"
CARRIED = {
    "name": None, "model.name": None, "model.moe.imbalance": None, "model.moe.shared_experts": None,
    "training.tokens": NUMBER, "training.packing.mean_document_tokens": None, "training.packing.length_dispersion": None,
    "layout.dp": None, "cluster.profile": TEXT, "cluster.accelerators": NUMBER, "cluster.fabric": None,
    "cluster.override": None, "software.stack": TEXT, "software.date": None, "software.attention_kernel": TEXT,
    "software.host_layer_s": None, "input": None,
}  # fmt: skip
MAX_NUMBER, MAX_TOKENS = 10**15, 10**30
MAX_LAYERS = 10_000


@dataclass
class Given:
    """The arguments that were given: name -> values, with the line; and which were read. `ranks`: what the launcher starts."""

    script: shell.Script
    values: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    ranks: int | None = None
    read: set[str] = field(default_factory=set)

    def wrong(self, name: str, message: str) -> SpecError:
        line = self.values[name][1] if name in self.values else 0
        return SpecError(f"--{name} {message}", place=self.script.place(line) if line else Place(self.script.file, 1, 1))

    def has(self, name: str) -> bool:
        self.read.add(name)
        return name in self.values

    def text(self, name: str, default: str | None = None, allowed: Sequence[str] = ()) -> str | None:
        self.read.add(name)
        if name not in self.values:
            return default
        value, *more = self.values[name][0]
        if more:
            raise self.wrong(name, f"has {1 + len(more)} values: one is wanted here")
        if shell.UNKNOWN in value:
            raise self.wrong(name, "has a value that only running the script could tell: write it out")
        if allowed and value not in allowed:
            raise self.wrong(name, f"{value}: not understood here. Allowed: {', '.join(allowed)}")
        return value

    def number(self, name: str, default: int | None = None, *, low: int = 1, high: int = MAX_NUMBER) -> int | None:
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,16}", text) or not low <= int(text) <= high:
            most = "" if high == MAX_NUMBER else f" and at most {high}"
            raise self.wrong(name, f"{text[:60]}: a whole number of at least {low}{most} is wanted")
        return int(text)

    def needed(self, name: str) -> int:
        value = self.number(name, high=MAX_LAYERS if name == "num-layers" else MAX_NUMBER)
        if value is None:
            raise SpecError(f"--{name} is missing: the arguments do not say it", place=Place(self.script.file, 1, 1))
        return value


@cache
def flags() -> dict[str, str]:
    """Every argument of Megatron-LM -> how many values it takes: switches, one, three or many."""
    data = yaml.safe_load((Path(__file__).parent / "data" / "megatron_flags.yaml").read_text(encoding="utf-8"))
    return {name: kind for kind, names in data.items() for name in names.split()}


def arguments(script: shell.Script) -> Given:
    """The arguments of the one command, or else the one variable, that has --num-layers. Raises SpecError."""
    if script.commands and all(words[0].text.startswith("--") for words in script.commands):
        script.commands = [[word for words in script.commands for word in words]]  # a list, on as many lines as one likes
    launches = [words for words in script.commands if any(_is(word, "num-layers") for word in words)]
    if not launches:  # a file that only sets variables, for another one to launch
        launches = [words for words in script.held.values() if any(_is(word, "num-layers") for word in words)]
    if not launches:
        raise SpecError(
            f"{script.file}: no command has --num-layers: no arguments of Megatron-LM were found"
            + "".join(f"\n  {note}" for note in script.notes)
        )
    if len(launches) > 1:
        lines = " and ".join(str(words[0].line) for words in launches[:3])
        raise SpecError(f"{script.file}: several commands or variables with Megatron-LM's arguments, at lines {lines}: keep one")
    words = launches[0]
    start = next((at + 1 for at, word in enumerate(words) if word.text.endswith(".py")), 0)
    given = Given(script, ranks=_ranks(words[:start]))
    at = start
    while at < len(words):
        at = _argument(script, given, words, at)
    return given


def _is(word: shell.Word, name: str) -> bool:
    return word.text.partition("=")[0] == f"--{name}"


def _ranks(words: Sequence[shell.Word]) -> int | None:
    """nodes x processes a node of the launcher, where both are written."""
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        name, equals, value = word.text.partition("=")
        name = name.lstrip("-").replace("_", "-")
        if name in ("nproc-per-node", "nnodes"):
            found[name] = value if equals else words[at + 1].text if at + 1 < len(words) else ""
    if len(found) == 2 and all(re.fullmatch(r"\d{1,9}", value) for value in found.values()):
        return math.prod(int(value) for value in found.values())
    return None


def _argument(script: shell.Script, given: Given, words: Sequence[shell.Word], at: int) -> int:
    word = words[at]
    name, equals, value = word.text.removeprefix("--").partition("=")
    place = script.place(word.line)
    if not word.text.startswith("--") or not name:
        if word.known:
            raise SpecError(f"{word.text!r} stands where an argument should", place=place)
        raise SpecError("arguments that only running the script could tell: write them out, or leave them out", place=place)
    kind = flags().get(name)
    if kind is None:
        near = difflib.get_close_matches(name, flags(), 1, 0.6)
        hint = f" Did you mean --{near[0]}?" if near else ""
        raise SpecError(f"--{name}: Megatron-LM has no such argument.{hint}", place=place)
    at += 1
    values = [value] if equals else []
    if not equals:
        most = {"switches": 0, "one": 1, "three": 3, "many": len(words)}[kind]
        while at < len(words) and len(values) < most and not re.match(r"--[a-z]", words[at].text):
            values.append(words[at].text)
            at += 1
    if kind == "switches" and equals:
        raise SpecError(f"--{name} takes no value", place=place)
    if kind != "switches" and not values:
        raise SpecError(f"--{name} needs a value", place=place)
    if name in given.values and given.values[name][0] != values:
        was = given.values[name][1]
        raise SpecError(f"--{name} is given twice with different values, at lines {was} and {word.line}", place=place)
    if values != [FILL_IN]:
        given.values[name] = (values, word.line)
    return at


def header(script: shell.Script) -> dict[str, Any]:
    """What the comment lines of an export carry."""
    carried: dict[str, Any] = {}
    for number, line in enumerate(script.lines, 1):
        if not line.startswith("#: "):
            continue
        found = HEADER.fullmatch(line.rstrip())
        place = script.place(number)
        if found is None:
            raise SpecError("a line '#: ' that is not 'field: value'", place=place)
        name = found.group(1)
        if name not in CARRIED:
            raise SpecError(f"{name}: the arguments decide it; it cannot stand in a comment too", place=place, field=name)
        if name in carried:
            raise SpecError(f"{name} stands in two comments", place=place, field=name)
        value = load.parse_yaml(f"value: {found.group(2)}\n", f"{script.file} line {number}").data["value"]
        wanted = CARRIED[name]
        positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MAX_TOKENS
        if (wanted == TEXT and not isinstance(value, str)) or (wanted == NUMBER and not positive):
            raise SpecError(f"{name}: {wanted} is wanted here", place=place, field=name)
        carried[name] = value
    return carried
