"""A launch script read as data: which words its commands have. Nothing is executed, no file is opened, no variable of this
process is used.

Understood: quotes, line continuations, comments, assignments, `export`, arrays (`ARGS=( ... )`, `+=`), `$NAME`, `${NAME}`,
`${NAME:-default}`, `${NAME[@]}`, `$(( integers ))`, here-documents (skipped). What only running it could tell (a command's
output, an argument of the script, an assignment under a condition) is unknown, and an error where a value is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from codesign.errors import Place, SpecError
from codesign.spec.arithmetic import calculate

UNKNOWN = "\0"  # stands in a word for what only running the script could tell
MAX_EXPANDED = 2**21  # characters that a script may expand to
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_SEPARATORS = ";|&()<>\n"
_OPEN, _CLOSE = ("if", "case", "for", "while", "until"), ("fi", "esac", "done")

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


def read(text: str, file: str) -> Script:
    """The commands of a script. Raises SpecError with file and line for an open quote, bracket or too much expansion."""
    reader = _Reader(text, file)
    reader.run()
    return reader.script


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.text, self.at, self.line = text.replace("\r\n", "\n"), 0, 1
        self.script = Script(file, self.text.split("\n"))
        self.variables: dict[str, list[Char]] = {}
        self.arrays: dict[str, list[Word]] = {}
        self.depth = 0  # of conditions and loops
        self.expanded = 0
        self.waiting: list[str] = []  # delimiters of here-documents that start with the next line

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

    # -- commands

    def run(self) -> None:
        words: list[Word] = []
        started = False  # a word of the command was seen that is no assignment
        while self.at < len(self.text):
            char = self.peek()
            if char == "\\" and self.peek(1) == "\n":
                self.next(), self.next()
            elif char in " \t":
                self.next()
            elif char == "#":
                while self.peek() not in ("", "\n"):
                    self.next()
            elif char in _SEPARATORS:
                if char == "(" and words and self.peek(1) != ")":
                    raise self.wrong(self.line, "'(' inside of a command: quote it")
                self.separator()
                self.finish(words)
                words, started = [], False
            else:
                assigned = None if started else _ASSIGNED.match(self.text, self.at)
                if assigned:
                    self.assign(assigned)
                    continue
                found = self.split(self.word())
                if self.peek() in ("<", ">") and len(found) == 1 and found[0].text.isdigit():
                    continue  # the number of a stream, as in 2>&1
                if not started and len(found) == 1 and found[0].text == "export":
                    continue
                if not started and found and not self.keyword(found[0].text):
                    continue
                started = True
                words += found
        self.finish(words)
        texts = {name: self.split([(char, False) for char in value]) for name, value in self.variables.items()}
        self.script.held = {**texts, **self.arrays}

    def finish(self, words: list[Word]) -> None:
        if not words:
            return
        if self.depth and any(word.text.startswith("--") for word in words):
            self.script.notes.append(f"line {words[0].line}: under a condition or in a loop; its arguments are not read")
            return
        self.script.commands.append(words)

    def keyword(self, text: str) -> bool:
        """Keep track of conditions; false where the word is one of the shell's own and no part of a command."""
        if text in _OPEN:
            self.depth += 1
        elif text in _CLOSE:
            self.depth = max(self.depth - 1, 0)
        return text not in (*_OPEN, *_CLOSE, "then", "else", "elif", "do", "{", "}", "!", "in")

    def separator(self) -> None:
        char = self.next()
        if char == "<" and self.peek() == "<":
            self.next()
            if self.peek() == "<":  # a here-string: the next word is data
                self.next()
                return
            if self.peek() == "-":
                self.next()
            while self.peek() in (" ", "\t"):
                self.next()
            delimiter = ""
            while self.peek() not in ("", " ", "\t", *_SEPARATORS):
                delimiter += self.next()
            self.waiting.append(delimiter.strip("'\"\\"))
        elif char == "\n" and self.waiting:
            for delimiter in self.waiting:
                self.skip_document(delimiter)
            self.waiting = []

    def skip_document(self, delimiter: str) -> None:
        start = self.line
        while self.at < len(self.text):
            line = ""
            while self.peek() not in ("", "\n"):
                line += self.next()
            if self.at < len(self.text):
                self.next()
            if line.strip() == delimiter:
                return
        raise self.wrong(start, f"the here-document is not closed: no line is {delimiter!r}")

    # -- assignments

    def assign(self, found: re.Match[str]) -> None:
        name, add, line = found.group(1), found.group(2) == "+", self.line
        self.at = found.end()
        if self.peek() == "(":
            self.next()
            words = self.array(line)
            if self.depth:
                self.script.notes.append(f"line {line}: {name} is set under a condition or in a loop; that is not read")
                return
            self.arrays[name] = [*self.arrays.get(name, []), *words] if add else words
            self.variables.pop(name, None)
            return
        value = [char for char, _ in self.word() if char[0]] if self.peek() not in ("", " ", "\t", *_SEPARATORS) else []
        if self.depth:
            value = [(UNKNOWN, line)]
        self.script.exported[name] = "".join(char for char, _ in value)
        self.variables[name] = [*self.variables.get(name, []), *value] if add else value
        self.arrays.pop(name, None)

    def array(self, line: int) -> list[Word]:
        words: list[Word] = []
        while True:
            char = self.peek()
            if char == "":
                raise self.wrong(line, "'(' is not closed")
            if char == ")":
                self.next()
                return words
            if char == "\\" and self.peek(1) == "\n":
                self.next(), self.next()
            elif char in " \t\n":
                self.next()
            elif char == "#":
                while self.peek() not in ("", "\n"):
                    self.next()
            elif char in _SEPARATORS:
                raise self.wrong(self.line, f"{char!r} inside of an array")
            else:
                words += self.split(self.word())

    # -- words

    def word(self) -> list[tuple[Char, bool]]:
        """The next word: its characters, and whether each is protected from splitting. An array is split by `\\x01`."""
        out: list[tuple[Char, bool]] = []
        while self.peek() not in ("", " ", "\t", *_SEPARATORS):
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
        if found := _NAME.match(self.text, self.at):
            self.at = found.end()
            return self.value(found.group(), line)
        if self.peek():
            self.next()  # $1, $@, $?
        return [(UNKNOWN, line)]

    def braces(self, inside: str, line: int) -> list[Char]:
        found = _NAME.match(inside)
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
        text = _NAME.sub(lambda found: "".join(c for c, _ in self.value(found.group(), 1)), inside.replace("$", ""))
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
            if text is None:
                text, line = [], where
            text.append(char)
        if text is not None:
            words.append(Word("".join(text), line))
        return words
