"""The search on a real local Dask cluster, with a worker killed in the middle."""

from __future__ import annotations

import os
import signal

import pytest

from codesign.errors import SpecError
from codesign.search import run, sweep
from codesign.search.result import Result
from codesign.search.space import Space, of
from codesign.spec import domains
from codesign.spec.datafiles import root

distributed = pytest.importorskip("distributed")


def _space() -> Space:
    return of(domains.load(root("examples") / "search" / "llama-3.1-405b.yaml", free=["sequence_parallel", "micro_batch"]))


@pytest.mark.filterwarnings("ignore")
def test_a_lost_worker_loses_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TASK_CANDIDATES", 500)
    monkeypatch.setattr(sweep, "UNIT", 16)
    space = _space()
    alone = run.search(space)
    assert len(alone.done) > 20
    killed: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def report(progress: run.Progress) -> None:
            if not killed and progress.candidates > space.size // 8:
                with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
                    killed.extend(sorted(client.run(os.getpid).values())[:1])
                os.kill(killed[0], signal.SIGKILL)

        found = run.search(space, scheduler=cluster.scheduler_address, report=report)
    assert killed and found.done == alone.done
    assert Result(space, found).to_dict() == Result(space, alone).to_dict()


def test_a_scheduler_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CONNECT_S", 0.5)
    with pytest.raises(SpecError, match="no Dask scheduler answers there"):
        run.search(_space(), scheduler="tcp://127.0.0.1:1")
    with pytest.raises(SpecError, match="no Dask scheduler answers there"):
        run.search(_space(), scheduler="nonsense://x")
