"""The adapter keeps kessel's contract, and several processes may use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from kessel_conformance import AdapterConformance, Harness
from kessel_core import SystemClock
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Attempts,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    LeaseReturn,
    Message,
    Pause,
    Reach,
    TieBreak,
    VirtualTime,
)

from kessel_adapter_directory.plugin import SPEC, DirectoryOptions

#: Takes and commits jobs until there are none, and prints their ids.
WORKER = """
import sys
from datetime import timedelta
from pathlib import Path
from kessel_core import SystemClock
from kessel_core.contract import COMMIT, AdapterContext
from kessel_adapter_directory.plugin import SPEC, DirectoryOptions

adapter = SPEC.open(DirectoryOptions(path=Path(sys.argv[1])), AdapterContext(clock=SystemClock()))
consumer = adapter.consumer(["main"])
while (held := consumer.reserve(timedelta(0))) is not None:
    print(held.id)
    consumer.settle(held, COMMIT)
"""
#: Locks a file, and says so.
HOLDER = """
import fcntl
import sys
import time

with open(sys.argv[1], "r+b") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(60)
"""
#: What it must declare; what is lost by mistake is a failure, and not some skipped cases.
DECLARED = Capabilities(
    reach=Reach.HOST,
    durability=Durability.PROCESS_CRASH,
    delay_granularity=timedelta(microseconds=1),
    priorities=(0, 4294967295),
    tie_break=TieBreak.ENQUEUED,
    lease=timedelta(seconds=20),
    lease_return=LeaseReturn.LEASE_END,
    fencing=True,
    attempts=Attempts.DURABLE,
    dedupe=True,
    counts=True,
)


class TestDirectory(AdapterConformance):
    harness = Harness(
        SPEC,
        url="directory://{tmp}/{namespace}?lease=20s",
        capabilities=DECLARED,
        facets=[Browse, Buried, Delete, Pause, VirtualTime],
    )


def test_each_job_goes_to_one_of_several_processes(tmp_path: Path) -> None:
    adapter = SPEC.open(DirectoryOptions(path=tmp_path), AdapterContext(clock=SystemClock()))
    ids = [f"job-{number}" for number in range(60)]
    for job_id in ids:
        adapter.enqueue(Message(job_id, "main", b"", 1))
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # as this process finds its modules
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=found) for _ in range(3)]
    taken = [line for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
    assert sorted(taken) == sorted(ids)
    assert adapter.queues() == []


def test_a_call_ends_while_a_process_is_stopped_that_has_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = SPEC.open(DirectoryOptions(path=tmp_path), AdapterContext(clock=SystemClock()))
    adapter.enqueue(Message("job-1", "main", b"", 1))
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        holder.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("kessel_adapter_directory.adapter.PATIENCE", 0.3)
        with pytest.raises(AdapterUnavailable, match=r"is locked for 0\.3 s already"):
            adapter.queues()
        holder.kill()
    assert adapter.queues() == ["main"]
