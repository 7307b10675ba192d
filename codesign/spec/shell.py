"""A launch script read as data: which words its commands have. Nothing is executed, no file is opened, no variable of this
process is used.

Understood: quotes, line continuations, comments, assignments, `export`, arrays (`ARGS=( ... )`, `+=`), `$NAME`, `${NAME}`,
`${NAME:-default}`, `${NAME[@]}`, `$(( integers ))`, here-documents (skipped). What only running it could tell (a command's
output, an argument of the script, what `read` or `unset` names, an assignment that `shell_scope` does not hold for sure) is
unknown, and an error where a value is wanted.
"""

from __future__ import annotations

import re

from codesign.spec.shell_scope import CLOSED_BY, CLOSERS, MAX_DEPTH, Scope
from codesign.spec.shell_words import NAME, SEPARATORS, UNKNOWN, Char, Script, Text, Word

__all__ = ["UNKNOWN", "Script", "Word", "read"]
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_WORDS = frozenset((*CLOSED_BY, *CLOSERS, "then", "else", "elif", "do", "!", "in"))  # the shell's own
_BLANK = r"(?:\s|#[^\n]*\n)*"
_FUNCTION = re.compile(rf"(?:function[ \t]+[\w:.-]+[ \t]*(?:\([ \t]*\))?|[\w:.-]+[ \t]*\([ \t]*\)){_BLANK}(?=[{{(])")
_LOOP = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)")
_STREAM = re.compile(r"[0-9]+[<>]")  # the number of a stream, as in 2>&1
_CHANGED = re.compile(r"([A-Za-z_]\w*)\s*(?:\+\+|--|(?:[-+*/%&|^]|<<|>>)?=(?!=))|(?:\+\+|--)\s*([A-Za-z_]\w*)")
_DECLARES = ("export", "declare", "typeset", "readonly", "local")
_SETS = ("unset", "read", "readarray", "mapfile", "let", "getopts", "printf")  # commands that set the variables they name


def read(text: str, file: str) -> Script:
    """The commands of a script. Raises SpecError with file and line for an open quote, bracket or too much expansion."""
    reader = _Reader(text, file)
    reader.run()
    return reader.script


class _Reader(Text):
    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.scope = Scope()
        # what the assignments in front of a command replaced: name, value, its length, array
        self.before: list[tuple[str, list[Char] | None, int, list[Word] | None]] = []
        self.anywhere: set[str] = set()  # variables that functions set: any later command may be a call
        self.prefix: dict[str, str] = {}  # what they set for that command
        self.expanded = 0
        self.waiting: list[str] = []  # delimiters of here-documents that start with the next line

    # -- commands

    def run(self) -> None:
        words: list[Word] = []
        started = False  # a word of the command was seen that is no assignment
        declaring = ""  # export or one like it, and its options: assignments follow
        while self.at < len(self.text):
            char = self.peek()
            if char == "\\" and self.peek(1) == "\n":
                self.next(), self.next()
            elif char in " \t":
                self.next()
            elif char == "#":
                while self.peek() not in ("", "\n"):
                    self.next()
            elif char in "<>" or (char == "&" and self.peek(1) == ">"):
                self.redirect()
            elif char in SEPARATORS:
                if char == "(" and words and self.peek(1) != ")":
                    raise self.wrong(self.line, "'(' inside of a command: quote it")
                self.finish(words)
                self.separator()
                words, started, declaring = [], False, ""
            elif not started and not words and (function := _FUNCTION.match(self.text, self.at)):
                self.line += function.group().count("\n")
                self.at = function.end()
                self.enter(self.next(), function=True)
            else:
                assigned = None if started else _ASSIGNED.match(self.text, self.at)
                if assigned:
                    self.assign(assigned, sure=not re.search("[^-agprx ]", declaring.partition(" ")[2]))
                    continue
                if not started and not declaring and not _STREAM.match(self.text, self.at):
                    self.restore()
                found = self.split(self.word())
                if self.peek() in ("<", ">") and len(found) == 1 and found[0].text.isdigit():
                    continue
                self.scope.went_on()
                first = found[0].text if found else ""
                if not started and (declaring or (len(found) == 1 and first in _DECLARES)):
                    if declaring and (quoted := _ASSIGNED.match(first)):
                        self.forget(quoted.group(1))
                    declaring += f"{first} " if not declaring or first.startswith("-") else ""
                    continue
                if not started and found and not self.keyword(first):
                    continue
                started = True
                words += found
        self.finish(words)
        texts = {name: self.split([(char, False) for char in value]) for name, value in self.variables.items()}
        self.script.held = {**texts, **self.arrays}
        values = {name: "".join(char for char, _ in value) for name, value in self.variables.items()}
        self.script.exported = {**values, **self.script.exported}

    def finish(self, words: list[Word]) -> None:
        """The command ends: keep its words, and forget the variables that it sets."""
        prefix, self.prefix, self.before = self.prefix, {}, []
        if not words:
            return
        name, line = words[0].text, words[0].line
        if name in _SETS and (name != "printf" or any(word.text == "-v" for word in words)):
            for word in words[1:]:
                if found := NAME.match(word.text):
                    self.forget(found.group())
        if name in ("eval", "source", "."):
            self.script.notes.append(f"line {line}: {name}: the variables that it sets are not read")
        if not self.scope.read and any(word.text.startswith("--") for word in words):
            self.script.notes.append(f"line {line}: under a condition, in a loop or in a function; its arguments are not read")
            return
        if any(word.text.startswith("--") for word in words):
            self.script.exported |= prefix
        self.script.commands.append(words)

    def keyword(self, text: str) -> bool:
        """Keep track of what is open; false where the word is one of the shell's own and no part of a command."""
        if text in CLOSED_BY:
            self.enter(text)
            if text in ("for", "select") and (found := _LOOP.match(self.text, self.at)):
                self.forget(found.group(1))
        elif text in CLOSERS:
            self.scope.close(text)
        return text not in _WORDS

    def enter(self, text: str, *, function: bool = False) -> None:
        if not self.scope.open(text, function=function):
            raise self.wrong(self.line, f"more than {MAX_DEPTH} conditions, loops or brackets inside each other")

    def separator(self) -> None:
        char = self.next()
        if char in "&|" and self.peek() == char:
            self.next()
            self.scope.link()
        elif char == "|":
            if self.peek() == "&":
                self.next()
            for name in self.scope.pipe():
                self.forget(name)
        elif char == "(":
            if self.peek() == "(":  # arithmetic as a command
                end = self.text.find("))", self.at)
                for found in _CHANGED.finditer(self.text, self.at, max(end, self.at)):
                    self.forget(found.group(1) or found.group(2))
            self.enter("(")
        elif char == ")":
            self.scope.close(char)
        else:
            for name in self.scope.end(char):
                self.forget(name)
        if char == "\n" and self.waiting:
            for delimiter in self.waiting:
                self.skip_document(delimiter)
            self.waiting = []

    def redirect(self) -> None:
        """Skip where a stream goes to or comes from."""
        line = self.line
        if self.text.startswith("<<", self.at) and not self.text.startswith("<<<", self.at):
            self.next(), self.next()
            if self.peek() == "-":
                self.next()
            while self.peek() in (" ", "\t"):
                self.next()
            delimiter = ""
            while self.peek() not in ("", " ", "\t", *SEPARATORS):
                delimiter += self.next()
            self.waiting.append(delimiter.strip("'\"\\"))
            return
        while self.peek() in ("<", ">", "&", "|"):
            self.next()
        if self.peek() == "(":  # a command in place of a file
            self.next()
            self.skip_to(")", line)
            return
        while self.peek() in (" ", "\t"):
            self.next()
        self.word()

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

    def assign(self, found: re.Match[str], *, sure: bool = True) -> None:
        name, add, line = found.group(1), found.group(2) == "+", self.line
        sure = sure and self.scope.sure and name not in self.anywhere
        if self.scope.in_function:
            self.anywhere.add(name)
        self.at = found.end()
        if self.peek() == "(":
            self.next()
            words = self.array(line)
            if not sure:
                where = "under a condition, in a loop, in ( ) or by a function"
                self.script.notes.append(f"line {line}: {name} is set {where}; that is not read")
                return
            if add and name in self.arrays:
                self.arrays[name] += words
            else:
                self.arrays[name] = words
            self.variables.pop(name, None)
            self.scope.assigned(name)
            return
        value = [char for char, _ in self.word() if char[0]] if self.peek() not in ("", " ", "\t", *SEPARATORS) else []
        if not sure:
            value = [(UNKNOWN, line)]
        was = self.variables.get(name)
        self.before.append((name, was, len(was or ()), self.arrays.pop(name, None)))
        if add and was is not None:
            was += value  # in place: a script may append a hundred thousand times
        else:
            self.variables[name] = value
        self.scope.assigned(name)

    def restore(self) -> None:
        """The assignments so far stand in front of a command: they hold for it alone."""
        for name, was, length, array in reversed(self.before):
            self.prefix.setdefault(name, "".join(char for char, _ in self.variables.pop(name, ())))
            if was is not None:
                del was[length:]
                self.variables[name] = was
            if array is not None:
                self.arrays[name] = array
        self.scope.unassigned(len(self.before))
        self.before = []

    def forget(self, name: str) -> None:
        """Only running the script could tell what the variable holds from here on."""
        if self.scope.in_function:
            self.anywhere.add(name)
        self.arrays.pop(name, None)
        self.variables[name] = [(UNKNOWN, self.line)]

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
            elif char in SEPARATORS:
                raise self.wrong(self.line, f"{char!r} inside of an array")
            else:
                words += self.split(self.word())
