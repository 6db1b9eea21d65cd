"""Jobs through worker processes while an engine's server and workers are killed: none is lost, none is early.

Small in every run; `KESSEL_CHAOS=1` runs ten thousand jobs. The seed is printed; give it as `KESSEL_SEED` to
run the same again.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from kessel_core import EnqueueIncomplete, JobManager, JobRequest, KesselError
from kessel_core.model.ids import new_id
from tests.chaos import IS_LARGE, drawn_seed

_WORKER = """
import os, random, signal, sys, time
from kessel_core import AdapterError, JobManager, handler

history = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)

@handler("chaos")
def chaos(payload, job):
    os.write(history, f"{job.id} {time.time()}\\n".encode())
    time.sleep(random.uniform(0, 0.005))
    if payload:
        job.follow_up("chaos", False, queue="q")

manager = JobManager(sys.argv[1], handlers=[chaos])
while True:
    try:
        manager.connect()
    except AdapterError:  # started in the middle of an outage; a supervisor would start it again
        time.sleep(0.1)
    else:
        break
with manager:
    worker = manager.worker(slots=4, queues=["q"])
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
"""


class Server(Protocol):
    """A server that keeps its data over a kill."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def url(self, query: str) -> str: ...


def no_acknowledged_job_is_lost_and_none_is_early(server: Server, folder: Path) -> None:
    """S4, S9, S14, S20: kill -9 of the server and of a worker, in the middle of work.

    Args:
        server: Running, and ready to take jobs.
        folder: Where the workers write what they ran.
    """
    seed = drawn_seed()
    dice = random.Random(seed)
    total, kills = (10_000, 8) if IS_LARGE else (400, 2)
    url = server.url("lease=3s&timeout=2s&connections=4")
    log, script = folder / "starts.log", folder / "worker.py"
    log.touch()
    script.write_text(_WORKER)

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), url, str(log)], stderr=subprocess.DEVNULL)

    workers = [started() for _ in range(2)]
    requests: dict[str, JobRequest] = {}
    acknowledged: set[str] = set()
    outages: list[tuple[float, float]] = []
    try:
        with JobManager(url) as manager:
            for round_number in range(kills + 1):
                for number in range(total // (kills + 1) // 50):
                    if round_number and number == 1:
                        begin = time.time()
                        victim = workers.pop(0)
                        victim.kill()
                        victim.wait(10)
                        server.kill()
                        time.sleep(dice.uniform(0.0, 0.3))
                        server.start()
                        workers.append(started())
                        outages.append((begin, time.time()))
                    batch = [_request(manager, dice) for _ in range(50)]
                    requests |= {str(request.id): request for request in batch}
                    acknowledged |= _requested(manager, batch)
            until = time.monotonic() + (240 if IS_LARGE else 60)
            left = -1
            while time.monotonic() < until and left:
                with contextlib.suppress(KesselError):
                    left = manager.adapter.stats("q").total
                time.sleep(0.1)
            assert left == 0, f"not drained, seed {seed}"
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(5)

    starts: defaultdict[str, list[float]] = defaultdict(list)
    for line in log.read_text().splitlines():
        job_id, at = line.split()
        starts[job_id].append(float(at))
    followed = {job_id for job_id in starts if job_id not in requests}
    print(
        f"{len(requests)} requested, {len(acknowledged)} of them acknowledged, {len(outages)} outages; "
        f"{len(starts)} ran, {sum(len(times) > 1 for times in starts.values())} of them more than once"
    )
    assert acknowledged <= set(starts), f"{acknowledged - set(starts)} are lost, seed {seed}"
    wanted = sum(bool(requests[job_id].payload) for job_id in starts if job_id in requests)
    assert len(followed) == wanted, f"{len(followed)} follow-ups of {wanted}, seed {seed}"
    for job_id, times in starts.items():
        request = requests.get(job_id)
        if request is not None and isinstance(request.delay, datetime):
            assert min(times) >= request.delay.timestamp(), f"job {job_id} was early, seed {seed}"
        for first, second in zip(sorted(times), sorted(times)[1:], strict=False):
            # Cause of a second run: an outage between the two, or an enqueue of unknown end.
            is_outage = any(first - 0.5 <= end and begin <= second for begin, end in outages)
            is_unknown = job_id in requests and job_id not in acknowledged
            assert is_outage or is_unknown, f"job {job_id} ran twice without a cause, seed {seed}"


def _request(manager: JobManager, dice: random.Random) -> JobRequest:
    delay = datetime.now(UTC) + timedelta(seconds=dice.uniform(0.1, 2)) if dice.random() < 0.3 else None
    return JobRequest(
        type="chaos",
        payload=dice.random() < 0.2,
        id=new_id(manager.clock.now()),
        priority=dice.randrange(2**32),
        delay=delay,
        queue="q",
    )


def _requested(manager: JobManager, batch: list[JobRequest]) -> set[str]:
    """Request a batch, and what was surely not stored once more; unknown ones are left at that."""
    stored: set[str] = set()
    left = batch
    for _ in range(200):
        try:
            return stored | {str(request.id) for request in manager.request_many(left)}
        except EnqueueIncomplete as exc:
            stored |= set(exc.stored)
            left = [request for request in left if request.id in exc.rejected]
            if not left:
                return stored
        except KesselError:
            pass
        time.sleep(0.05)
    return stored
