"""The words of a launch script: quotes, variables, arrays, arithmetic on whole numbers. `shell` reads the commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from codesign.errors import Place, SpecError
from codesign.spec.arithmetic import calculate

UNKNOWN = "\0"  # stands in a word for what only running the script could tell
MAX_EXPANDED = 2**21  # characters that a script may expand to
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SEPARATORS = ";|&()<>\n"

Char = tuple[str, int]  # a character and its line


@dataclass(frozen=True)
class Word:
    """One word after expansion, and the line on which it was written."""

    text: str
    line: int

    @property
    def known(self) -> bool:
        return UNKNOWN not in self.text


@dataclass
class Script:
    """The commands of a script with their words; `notes` say what was not read."""

    file: str
    lines: Sequence[str]
    commands: list[list[Word]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exported: dict[str, str] = field(default_factory=dict)  # variables of the environment that the script sets
    held: dict[str, list[Word]] = field(default_factory=dict)  # words of every variable and array in the end

    def place(self, line: int) -> Place:
        return Place(self.file, line, 1, self.lines[line - 1][:160] if 0 < line <= len(self.lines) else "")


class Text:
    """A place in the text of a script, and what its variables hold there."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.at, self.line = text.replace("\r\n", "\n"), 0, 1
        self.script = Script(file, self.text.split("\n"))
        self.variables: dict[str, list[Char]] = {}
        self.arrays: dict[str, list[Word]] = {}
        self.expanded = 0

    # -- characters

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.text[at] if at < len(self.text) else ""

    def next(self) -> str:
        char = self.text[self.at]
        self.at += 1
        self.line += char == "\n"
        return char

    def wrong(self, line: int, message: str) -> SpecError:
        return SpecError(message, place=self.script.place(line))

    def count(self, characters: int) -> None:
        self.expanded += characters
        if self.expanded > MAX_EXPANDED:
            raise self.wrong(self.line, f"the script expands to more than {MAX_EXPANDED} characters")

    # -- words

    def word(self) -> list[tuple[Char, bool]]:
        """The next word: its characters, and whether each is protected from splitting. An array is split by `\\x01`."""
        out: list[tuple[Char, bool]] = []
        while self.peek() not in ("", " ", "\t", *SEPARATORS):
            char, line = self.peek(), self.line
            if char == "\\":
                self.next()
                if self.at >= len(self.text):
                    break
                if (escaped := self.next()) != "\n":
                    out.append(((escaped, line), True))
            elif char == "'":
                self.next()
                while self.peek() != "'":
                    if self.peek() == "":
                        raise self.wrong(line, "a quote is not closed")
                    at = self.line
                    out.append(((self.next(), at), True))
                self.next()
                out.append((("", line), True))
            elif char == '"':
                self.next()
                self.quoted(out, line)
            elif char == "$":
                out += [(one, False) for one in self.expansion()]
            elif char == "`":
                self.next()
                self.skip_to("`", line)
                out.append(((UNKNOWN, line), True))
            else:
                out.append(((self.next(), line), True))
        return out

    def quoted(self, out: list[tuple[Char, bool]], line: int) -> None:
        out.append((("", line), True))
        while (char := self.peek()) != '"':
            at = self.line
            if char == "":
                raise self.wrong(line, "a quote is not closed")
            if char == "\\" and self.peek(1) in ('"', "\\", "$", "`", "\n"):
                self.next()
                if (escaped := self.next()) != "\n":
                    out.append(((escaped, at), True))
            elif char == "$":
                out += [(one, one[0] != "\x01") for one in self.expansion()]
            elif char == "`":
                self.next()
                self.skip_to("`", at)
                out.append(((UNKNOWN, at), True))
            else:
                out.append(((self.next(), at), True))
        self.next()

    def skip_to(self, end: str, line: int) -> None:
        depth = 1
        while self.at < len(self.text):
            char = self.next()
            depth += (char == "(") if end == ")" else 0
            if char == end:
                depth -= 1
                if not depth:
                    return
        raise self.wrong(line, f"{end!r} is missing")

    def expansion(self) -> list[Char]:
        """What stands for `$...`: the value of a variable, an array with `\\x01` between its words, or UNKNOWN."""
        line = self.line
        self.next()
        if self.text.startswith("((", self.at):
            end = self.text.find("))", self.at)
            if end < 0:
                raise self.wrong(line, "'))' is missing")
            inside = self.text[self.at + 2 : end]
            self.line += inside.count("\n")
            self.at = end + 2
            return [(char, line) for char in self.arithmetic(inside)]
        if self.peek() == "(":
            self.next()
            self.skip_to(")", line)
            return [(UNKNOWN, line)]
        if self.peek() == "{":
            end = self.text.find("}", self.at)
            if end < 0:
                raise self.wrong(line, "'}' is missing")
            inside = self.text[self.at + 1 : end]
            self.line += inside.count("\n")
            self.at = end + 1
            return self.braces(inside, line)
        if found := NAME.match(self.text, self.at):
            self.at = found.end()
            return self.value(found.group(), line)
        if self.peek():
            self.next()  # $1, $@, $?
        return [(UNKNOWN, line)]

    def braces(self, inside: str, line: int) -> list[Char]:
        found = NAME.match(inside)
        if found is None:
            return [(UNKNOWN, line)]
        name, rest = found.group(), inside[found.end() :]
        if rest in ("[@]", "[*]"):
            if name not in self.arrays:
                return [(UNKNOWN, line)]
            between = "\x01" if rest == "[@]" else " "
            chars: list[Char] = []
            for word in self.arrays[name]:
                self.count(len(word.text) + 1)
                chars += [*((char, word.line) for char in word.text), (between, word.line)]
            return chars
        if not rest:
            return self.value(name, line)
        for mark in (":-", "-", ":=", "="):
            if rest.startswith(mark):
                value = self.value(name, line)
                default = rest[len(mark) :].strip("'\"")
                if any(char == UNKNOWN for char, _ in value) and "$" not in default:
                    return [(char, line) for char in default]
                return value
        return [(UNKNOWN, line)]

    def value(self, name: str, line: int) -> list[Char]:
        if name in self.arrays:
            first = self.arrays[name][:1]
            return [(char, word.line) for word in first for char in word.text]
        value = self.variables.get(name)
        if value is None:
            return [(UNKNOWN, line)]
        self.count(len(value))
        return value

    def arithmetic(self, inside: str) -> str:
        """A sum or product of whole numbers; UNKNOWN where it is anything else."""
        text = NAME.sub(lambda found: "".join(c for c, _ in self.value(found.group(), 1)), inside.replace("$", ""))
        text = text.replace("{", "").replace("}", "")
        value = calculate(text)
        return UNKNOWN if value is None else str(value)

    def split(self, chars: list[tuple[Char, bool]]) -> list[Word]:
        """Words of an expanded text: cut at blanks that came from an unquoted variable, and between words of an array."""
        words: list[Word] = []
        text: list[str] | None = None
        line = chars[0][0][1] if chars else self.line
        for (char, where), protected in chars:
            if (char in " \t\n" and char and not protected) or char == "\x01":
                if text is not None:
                    words.append(Word("".join(text), line))
                text = None
                continue
            if not text:
                text, line = [], where  # of the first character: the quotes around an array stand on a line of their own
            if char:
                text.append(char)
        if text is not None:
            words.append(Word("".join(text), line))
        return words
