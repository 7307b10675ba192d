"""Work that takes longer than a page may: one thread a job, and turns between them, so that no visit waits for another's.

A job is asked for by one visit, which can stop it; what it finds is kept by its key for everyone. Work reports how far it
is; between two reports it may be held up for its turn, and is ended where nobody looks at it any more.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from codesign import errors
from codesign.app import specs
from codesign.app.specs import Fault

TURN_S = 0.3  # of one job, where others wait
WAKE_S = 0.1  # a job in the line looks whether it was stopped
ALONE_S = 20.0  # a job that no page has asked about for so long is ended
MOST_JOBS = 40  # under way at once
MOST_OF_VISIT = 4  # of these of one visit, which has one a page; one that was stopped counts until it has ended
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
    visit: Hashable = None  # who asked
    owner: Hashable = None  # who takes turns: the machine of the visit where it is known
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

    @property
    def unwanted(self) -> bool:
        """Whether it was stopped, or no page shows it any more."""
        return self._stop.is_set() or time.monotonic() - self.seen_s > ALONE_S

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
    """Whose turn it is: the owner's who was served longest ago, so that many jobs give no more turns; of equals the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[Job] = []
        self._now: Job | None = None
        self._served: OrderedDict[Hashable, None] = OrderedDict()  # owners, the one of the last turn at the end

    def enter(self, job: Job) -> bool:
        """Wait for a turn: whether it came, or the job was not wanted any more."""
        with self._changed:
            self._line.append(job)
            while not (self._now is None and self._next() is job):
                self._changed.wait(WAKE_S)
                if job.unwanted:
                    self._line.remove(job)
                    self._changed.notify_all()
                    return False
            self._line.remove(job)
            self._now = job
            self._served[job.owner] = None
            self._served.move_to_end(job.owner)
            while len(self._served) > MOST_KEPT:
                self._served.popitem(last=False)
            return True

    def leave(self) -> None:
        with self._changed:
            self._now = None
            self._changed.notify_all()

    def others_wait(self) -> bool:
        return bool(self._line)

    def _next(self) -> Job:
        order = {owner: at for at, owner in enumerate(self._served)}
        return min(self._line, key=lambda job: order.get(job.owner, -1))


class Jobs:
    """The jobs of one server."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._guard = threading.Lock()
        self._under_way: list[Job] = []

    def ask(
        self, key: Hashable, work: Work, before: Job | None = None, visit: Hashable = None, owner: Hashable = None
    ) -> Job:
        """The job of that key: the visit's own one `before` where it is the same, else a new one in its place.

        `visit`: who asks; `owner`: the machine that it comes from, the visit itself where that is not known. On a full
        server the newest job of the owner with most of them makes room. Raises SpecError where too many are under way.
        """
        if before is not None and before.key == key:
            before.looked_at()
            return before
        if before is not None:
            before.stop()
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return Job(key, state="done", found=self._kept[key])
            job = Job(key, visit, visit if owner is None else owner)
            self._make_room(job)
            self._under_way.append(job)
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return job

    def _make_room(self, job: Job) -> None:
        own = sum(one.visit == job.visit for one in self._under_way)
        if own >= MOST_OF_VISIT:
            raise errors.SpecError(f"{own} searches of this visit have not ended yet: try again in a moment")
        if len(self._under_way) < MOST_JOBS:
            return
        held = Counter(one.owner for one in self._under_way if not one._stop.is_set())
        most = max(held, key=held.__getitem__, default=None)
        if held[most] <= held[job.owner] + 1:
            raise errors.SpecError(f"This server is busy: {len(self._under_way)} searches are under way. Try again in a moment")
        next(one for one in reversed(self._under_way) if one.owner == most and not one._stop.is_set()).stop()

    def _run(self, job: Job, work: Work) -> None:
        has_turn = self._turns.enter(job)
        begun_s = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal begun_s, has_turn
            job.done, job.total = done, total
            now = time.monotonic()
            if job.unwanted:
                raise Ended
            if now - begun_s > TURN_S and self._turns.others_wait():
                self._turns.leave()
                has_turn = self._turns.enter(job)
                if not has_turn:
                    raise Ended
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
            if has_turn:
                self._turns.leave()
            with self._guard:
                self._under_way.remove(job)
            job._ended.set()

    def _keep(self, key: Hashable, found: Any) -> None:
        with self._guard:
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


JOBS = Jobs()  # of this server
