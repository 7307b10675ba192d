"""Work that takes longer than a page may: one thread a job, and turns between them, so that no visit waits for another's.

A job is asked for by one visit, which can stop it; what it finds is kept by its key for everyone. Work reports how far it
is; between two reports it may be held up for its turn, and is ended where nobody looks at it any more.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from codesign import errors
from codesign.app import specs
from codesign.app.specs import Fault

TURN_S = 0.3  # of one job, where others wait
ALONE_S = 20.0  # a job that no page has asked about for so long is ended
MOST_JOBS = 40  # under way at once; a visit has one a page
MOST_KEPT = 48  # answers

Report = Callable[[int, int], None]  # (done, of how many); may raise Ended
Work = Callable[[Report], Any]


class Ended(BaseException):
    """The job was stopped; no handler of what it runs takes it for a fault. Work may catch it and give what it has."""


@dataclass(eq=False)
class Job:
    """One piece of work. `total` is 0 until it is known; `found` is there when `state` is done, `fault` when failed.

    What was stopped may have found a part.
    """

    key: Hashable
    state: str = "waiting"  # waiting | running | done | stopped | failed
    done: int = 0
    total: int = 0
    found: Any = None
    fault: Fault | None = None
    seen_s: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def under_way(self) -> bool:
        return self.state in ("waiting", "running")

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def said(self) -> str:
        """How far it is, in words."""
        if self._stop.is_set():
            return "Stopping"
        if self.state == "waiting":
            return "Waiting for its turn"
        if not self.total:
            return "Counting what there is to try"
        return f"{self.done:,} of {self.total:,} tried ({self.share:.0%})"

    def looked_at(self) -> None:
        """A page shows it: it goes on."""
        self.seen_s = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Give it a moment to end."""
        if self.under_way:
            self._ended.wait(seconds)

    def stop(self) -> None:
        """Ask it to end; it does at its next report."""
        self._stop.set()


class Turns:
    """Whose turn it is, in the order of asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    def enter(self) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            self._changed.wait_for(lambda: self._line[0] is me)

    def leave(self) -> None:
        with self._changed:
            self._line.popleft()
            self._changed.notify_all()

    def others_wait(self) -> bool:
        return len(self._line) > 1


class Jobs:
    """The jobs of one server."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._guard = threading.Lock()
        self._count = 0

    def ask(self, key: Hashable, work: Work, before: Job | None = None) -> Job:
        """The job of that key: the visit's own one `before` where it is the same, else a new one in its place.

        Raises SpecError where too many are under way.
        """
        if before is not None and before.key == key:
            before.looked_at()
            return before
        if before is not None:
            before.stop()
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return Job(key, "done", found=self._kept[key])
            if self._count >= MOST_JOBS:
                raise errors.SpecError(f"{self._count} searches are under way on this server: try again in a moment")
            self._count += 1
        job = Job(key)
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return job

    def _run(self, job: Job, work: Work) -> None:
        self._turns.enter()
        begun_s = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal begun_s
            job.done, job.total = done, total
            now = time.monotonic()
            if job._stop.is_set() or now - job.seen_s > ALONE_S:
                raise Ended
            if now - begun_s > TURN_S and self._turns.others_wait():
                self._turns.leave()
                self._turns.enter()
                begun_s = time.monotonic()

        try:
            report(0, 0)
            job.state = "running"
            found = work(report)
            job.found = found
            if job._stop.is_set():
                job.state = "stopped"
            else:
                self._keep(job.key, found)
                job.state = "done"
        except errors.CodesignError as error:
            job.fault, job.state = specs.fault_of(error), "failed"
        except Ended:
            job.state = "stopped"
        except BaseException:
            job.fault, job.state = Fault("This failed; the server's log says why."), "failed"
            raise
        finally:
            self._turns.leave()
            with self._guard:
                self._count -= 1
            job._ended.set()

    def _keep(self, key: Hashable, found: Any) -> None:
        with self._guard:
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


JOBS = Jobs()  # of this server
