"""How far and how fast: one line on a terminal's stderr, only for people, and only where it takes more than a second."""

from __future__ import annotations

import sys
import time

_EVERY_S, _WAIT_S = 0.2, 1.0
_WIDTH = 78


class Progress:
    """A bar with what is done, the rate and the time that is left. `before`: done when the work was taken up again."""

    def __init__(self, what: str, total: int = 0, before: int = 0) -> None:
        self.what, self.total, self.before = what, total, before
        self.began = self.last = time.monotonic()
        self.shown = False

    def show(self, done: int, total: int | None = None) -> None:
        """Draw the line again where it is time to; all is done: take it away."""
        now, total = time.monotonic(), self.total if total is None else total
        if done >= total:
            self.clear()
            return
        if now - self.began < _WAIT_S or now - self.last < _EVERY_S or sys.stderr is None or not sys.stderr.isatty():
            return
        self.last, self.shown = now, True
        rate = (done - self.before) / (now - self.began)
        left = f", {(total - done) / rate:.0f} s left" if rate else ""
        bar = "#" * int(20 * done / total) if total else ""
        line = f"[{bar:20}] {_count(done)} of {_count(total)} {self.what}, {_count(rate)}/s{left}"
        print(f"\r{line[:_WIDTH]:{_WIDTH}}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            print("\r" + " " * _WIDTH + "\r", end="", file=sys.stderr, flush=True)
            self.shown = False


def _count(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f} M"
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"
