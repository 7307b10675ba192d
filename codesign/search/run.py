"""Run a search to its end: in one process, in a pool, or on a Dask cluster; watch it, stop it, go on later.

The work is cut into the same pieces everywhere, and pieces are merged exactly, so that the answer does not depend on
who did which. A cluster sends back only what is kept of a piece; a piece whose worker is lost is done by another.
"""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from codesign import __version__
from codesign.errors import SpecError
from codesign.search import sweep
from codesign.search.kept import Kept
from codesign.search.space import Space

TASK_CANDIDATES = 1_000_000  # of one task in a pool or on a cluster, about a second
CONNECT_S = 10.0  # to wait for a scheduler
Report = Callable[["Progress"], None]


@dataclass
class Progress:
    """How far a search is. `done` numbers the finished pieces."""

    total: int
    kept: Kept
    done: set[int] = field(default_factory=set)

    @classmethod
    def empty(cls, space: Space) -> Progress:
        wanted = space.open.search
        return cls(space.size, Kept(len(wanted.objectives), wanted.best, wanted.within))

    @property
    def candidates(self) -> int:
        return self.kept.candidates


def search(
    space: Space,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    report: Report | None = None,
    resume: Progress | None = None,
    scale: Mapping[str, float] | None = None,
) -> Progress:
    """Evaluate every candidate of `space`.

    `workers`: processes on this machine; `scheduler`: address of a Dask scheduler, whose workers have this package.
    `report` is called after every piece; an exception from it (KeyboardInterrupt too) stops the search, and what was done
    is in the progress it was given. `resume` goes on from such a progress. `scale` multiplies leaves by name.
    """
    progress = resume or Progress.empty(space)
    left = [unit for unit in sweep.units(space) if unit.number not in progress.done]
    if scheduler is not None:
        pieces = _on_cluster(space, _tasks(left), scheduler, scale)
    elif workers > 1 and len(left) > 1:
        pieces = _in_pool(space, _tasks(left, len(left) // (4 * workers) + 1), workers, scale)
    else:
        pieces = (((unit.number,), sweep.work(space, unit, scale)) for unit in left)
    for numbers, kept in pieces:
        with _undivided():
            progress.kept.merge(kept)
            progress.done.update(numbers)
        if report is not None:
            report(progress)
    return progress


@contextmanager
def _undivided() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, so that what is kept and what is done never disagree."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
    if asked:
        raise KeyboardInterrupt


def _tasks(units: Sequence[sweep.Unit], most: int | None = None) -> list[list[sweep.Unit]]:
    """Pieces put together until they are worth sending."""
    tasks: list[list[sweep.Unit]] = []
    size = TASK_CANDIDATES
    for unit in units:
        if size >= TASK_CANDIDATES or (most is not None and len(tasks[-1]) >= most):
            tasks.append([])
            size = 0
        tasks[-1].append(unit)
        size += unit.candidates
    return tasks


def _together(space: Space, units: Sequence[sweep.Unit], scale: Mapping[str, float] | None) -> Kept:
    kept = sweep.work(space, units[0], scale)
    for unit in units[1:]:
        kept.merge(sweep.work(space, unit, scale))
    return kept


# ---------------------------------------------------------------------------------------------------- a pool

_SPACE: list[Space] = []  # of this worker process


def _start(payload: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    _SPACE[:] = [pickle.loads(payload)]


def _pool_work(units: Sequence[sweep.Unit], scale: Mapping[str, float] | None) -> tuple[tuple[int, ...], Kept]:
    return tuple(unit.number for unit in units), _together(_SPACE[0], units, scale)


def _in_pool(
    space: Space, tasks: Sequence[list[sweep.Unit]], workers: int, scale: Mapping[str, float] | None
) -> Iterator[tuple[tuple[int, ...], Kept]]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(pickle.dumps(space),))
    try:
        for future in as_completed([pool.submit(_pool_work, task, scale) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise SpecError(
            "a worker process was killed, perhaps for want of memory: use fewer workers, or go on with --resume"
        ) from None
    except (KeyboardInterrupt, GeneratorExit):  # nobody waits for what the workers are at
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# ---------------------------------------------------------------------------------------------------- a cluster


@lru_cache(maxsize=4)
def _unpacked(payload: bytes) -> Space:
    return pickle.loads(payload)


def _hand_over(payload: bytes) -> bytes:
    """A task, not scattered data: a cluster can make it again when the worker that held it is gone."""
    return payload


def _cluster_work(
    payload: bytes, version: str, units: Sequence[sweep.Unit], scale: Mapping[str, float] | None
) -> tuple[tuple[int, ...], Kept]:
    if version != __version__:
        raise SpecError(f"a worker has codesign {__version__}, this is {version}: install the same on all")
    return tuple(unit.number for unit in units), _together(_unpacked(payload), units, scale)


def _on_cluster(
    space: Space, tasks: Sequence[list[sweep.Unit]], scheduler: str, scale: Mapping[str, float] | None
) -> Iterator[tuple[tuple[int, ...], Kept]]:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise SpecError("a cluster needs Dask: pip install 'codesign[cluster]'") from None
    try:
        client = Client(scheduler, timeout=f"{CONNECT_S:g}s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise SpecError(f"--scheduler {scheduler}: no Dask scheduler answers there ({type(error).__name__})") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise SpecError(f"--scheduler {scheduler}: the cluster has no workers")
        payload = client.submit(_hand_over, pickle.dumps(space), pure=True)
        futures = [client.submit(_cluster_work, payload, __version__, task, scale, pure=False) for task in tasks]
        for future in as_completed(futures, loop=client.loop):
            try:
                found = future.result()
            except (KilledWorker, CancelledError, OSError) as error:
                raise SpecError(f"--scheduler {scheduler}: the cluster is gone, or lost its workers again and again "
                                f"({type(error).__name__}): what is done is kept, go on with --resume") from None  # fmt: skip
            yield found
            future.release()


__all__ = ["Progress", "search"]
