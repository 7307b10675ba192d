"""The family of errors. Every message says what is wrong, where, why, and what to try.

Exit codes of the command: 0 an answer, 1 the answer is no (`Infeasible`), 2 wrong use or wrong input (`SpecError` and
its children), 3 our fault (anything else).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a value was written: `file:line:column`, one-based; `source_line` is the text of that line."""

    file: str
    line: int
    column: int
    source_line: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def caret(self) -> str:
        """The written line with a caret under the column, or nothing where the text is not known."""
        if not self.source_line:
            return ""
        return f"{self.line:6d} | {self.source_line}\n       | {' ' * (self.column - 1)}^"


class CodesignError(Exception):
    """Root of the family."""

    exit_code = 3


class SpecError(CodesignError):
    """The user's input is wrong: nothing is computed, nothing is written."""

    exit_code = 2

    def __init__(
        self, message: str, *, field: str | None = None, place: Place | None = None, more: tuple[str, ...] = ()
    ) -> None:
        self.message = message
        self.more = more  # one line for each further problem of the same input
        self.field = field  # dotted path of the offending field, e.g. "layout.tp"
        self.place = place
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.place}: " if self.place else ""
        caret = self.place.caret() if self.place else ""
        return "\n".join([f"{head}{self.message}", *([caret] if caret else []), *(f"also {line}" for line in self.more)])


class ProfileError(SpecError):
    """A hardware profile, a software stack or a model preset is missing or wrong."""


class RunsError(SpecError):
    """A file of measured runs cannot be used."""


class Infeasible(CodesignError):
    """An expected answer: it cannot be done, and this is why."""

    exit_code = 1
