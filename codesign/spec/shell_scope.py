"""Which parts of a script surely run, and in the script's own shell: an assignment counts only there.

Conditions, loops, bodies of functions and what follows `&&` or `||` may not run; what stands in `( )`, in a pipe or before
`&` runs in a shell of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CLOSED_BY = {"if": "fi", "case": "esac", "for": "done", "select": "done", "while": "done", "until": "done", "{": "}", "(": ")"}
CLOSERS = frozenset(CLOSED_BY.values())
MAX_DEPTH = 200


@dataclass
class _Level:
    """What is open. `sure`: assignments count; `read`: commands are read; `names`: assigned in the current command."""

    closer: str = ""
    sure: bool = True
    read: bool = True
    linked: bool = False  # after && or || or |, up to the end of the list
    function: bool = False  # runs where it is called, if it is
    fresh: bool = False  # nothing stands after that operator yet: a line may end there
    names: list[str] = field(default_factory=list)


class Scope:
    """The constructs that are open at one place of a script."""

    def __init__(self) -> None:
        self.levels = [_Level()]

    @property
    def sure(self) -> bool:
        return self.levels[-1].sure and not self.levels[-1].linked

    @property
    def read(self) -> bool:
        return self.levels[-1].read

    @property
    def in_function(self) -> bool:
        return self.levels[-1].function

    def assigned(self, name: str) -> None:
        self.levels[-1].names.append(name)
        self.levels[-1].fresh = False

    def unassigned(self, count: int) -> None:
        """The last so many assignments hold for one command only."""
        del self.levels[-1].names[len(self.levels[-1].names) - count :]

    def went_on(self) -> None:
        """A word was read."""
        self.levels[-1].fresh = False

    def open(self, text: str, *, function: bool = False) -> bool:
        """Enter a construct; false where too many are open."""
        outer, plain = self.levels[-1], text in ("{", "(") and not function
        outer.fresh = False
        sure = text == "{" and plain and self.sure
        self.levels.append(_Level(CLOSED_BY[text], sure, plain and outer.read, function=function or outer.function))
        return len(self.levels) <= MAX_DEPTH

    def close(self, text: str) -> None:
        if len(self.levels) > 1 and self.levels[-1].closer == text:  # others, as in the patterns of case, close nothing
            names = self.levels.pop().names
            self.levels[-1].names += names

    def link(self) -> None:
        """`&&` or `||`: what follows may not run."""
        self.levels[-1].linked = self.levels[-1].fresh = True

    def pipe(self) -> list[str]:
        """`|`: the names that were assigned in a shell of their own; what follows runs in another one."""
        self.link()
        return self._taken()

    def end(self, char: str) -> list[str]:
        """The list ends, with `&` in a shell of its own: the names that it assigned there."""
        level = self.levels[-1]
        if char == "\n" and level.fresh:
            return []
        level.linked = level.fresh = False
        if char == "&":
            return self._taken()
        if level.closer != "}":  # all that a group assigned counts for what follows the group
            level.names = []
        return []

    def _taken(self) -> list[str]:
        names, self.levels[-1].names = self.levels[-1].names, []
        return names
