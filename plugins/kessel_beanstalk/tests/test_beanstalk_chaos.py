"""Jobs through two worker processes while the server is killed and restarted: nothing is lost.

Small in every run; `KESSEL_CHAOS=1` runs ten thousand jobs. The seed is printed; give it as
`KESSEL_SEED` to run the same again.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import EnqueueIncomplete, JobManager, JobRequest, KesselError
from kessel_core.model.ids import new_id
from tests.chaos import IS_LARGE, drawn_seed

_WORKER = """
import os, random, signal, sys, time
from kessel_core import AdapterError
from kessel_core import handler
from kessel_core import hookimpl
from kessel_core import JobManager, build_plugins

history = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def note(job_id, event):
    os.write(history, f"{job_id} {event} {time.time()}\\n".encode())

@handler("chaos")
def chaos(payload, job):
    note(job.id, "start")
    time.sleep(random.uniform(0, 0.005))

class Ends:
    @hookimpl
    def kessel_job_finished(self, result):
        note(result.id, result.reason or "success")

url = f"beanstalk://127.0.0.1:{sys.argv[1]}?ttr=5s&timeout=2s"
manager = JobManager(url, handlers=[chaos], plugins=build_plugins(extra={"ends": Ends()}))
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


def test_chaos_no_acknowledged_job_is_lost_and_none_runs_at_a_wrong_time(
    opened: Callable[..., BeanstalkAdapter], durable: Beanstalkd, tmp_path: Path
) -> None:
    seed = drawn_seed()
    dice = random.Random(seed)
    total, kills = (10_000, 8) if IS_LARGE else (400, 2)
    log = tmp_path / "starts.log"
    log.touch()
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    command = [sys.executable, str(script), str(durable.port), str(log)]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    requests: dict[str, JobRequest] = {}
    acknowledged: set[str] = set()
    outages: list[tuple[float, float]] = []
    try:
        with JobManager(opened(durable.port)) as manager:
            per_round = total // (kills + 1)
            for round_number in range(kills + 1):
                for start in range(0, per_round, 50):
                    if round_number and start == per_round // 100 * 50:
                        outages.append(_outage(durable, dice))
                    batch = [_wish(manager, dice) for _ in range(min(50, per_round - start))]
                    stored = _requested(manager, batch)
                    requests |= {request.id: request for request in batch}
                    acknowledged |= stored
            until = time.monotonic() + (240 if IS_LARGE else 60)
            while time.monotonic() < until:
                try:
                    if manager.adapter.stats("q").total == 0:
                        break
                except KesselError:
                    pass
                time.sleep(0.1)
            assert manager.adapter.stats("q").total == 0, f"not drained, seed {seed}"
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
    expired: dict[str, float] = {}
    for line in log.read_text().splitlines():
        job_id, event, at = line.split()
        if event == "start":
            starts[job_id].append(float(at))
        elif event == "expired":
            expired[job_id] = float(at)
        else:
            assert event == "success", f"job {job_id} ended as {event}, seed {seed}"
    print(
        f"{len(requests)} requested, {len(acknowledged)} of them acknowledged, {len(outages)} outages; "
        f"{len(starts)} ran, {sum(len(times) > 1 for times in starts.values())} of them more than once; "
        f"{len(expired)} expired"
    )
    assert set(starts) | set(expired) <= set(requests), f"a job that nobody requested, seed {seed}"
    # The worker's own commit of an expired job may be of unknown end: one for each slot and outage.
    silent = acknowledged - set(starts) - set(expired)
    assert len(silent) <= 8 * len(outages), f"jobs {silent} are lost, seed {seed}"
    for job_id in silent:
        assert requests[job_id].expiration is not None, f"job {job_id} is lost, seed {seed}"
    for job_id, ended in expired.items():
        expiration = requests[job_id].expiration
        assert isinstance(expiration, datetime) and expiration.timestamp() <= ended, (
            f"{job_id} expired too early, seed {seed}"
        )
    for job_id, times in starts.items():
        request = requests[job_id]
        if isinstance(request.delay, datetime):
            assert min(times) >= request.delay.timestamp(), f"job {job_id} was early, seed {seed}"
        if isinstance(request.expiration, datetime):
            slack = 0.25  # between the check and the handler's own clock
            assert max(times) <= request.expiration.timestamp() + slack, f"{job_id} ran expired, seed {seed}"
        for first, second in zip(sorted(times), sorted(times)[1:], strict=False):
            # Cause of a second delivery: an outage between the two, or an enqueue of unknown end.
            assert job_id not in acknowledged or any(
                first - 0.5 <= end and begin <= second for begin, end in outages
            ), f"job {job_id} ran twice without a cause, seed {seed}"


def _wish(manager: JobManager, dice: random.Random) -> JobRequest:
    now = datetime.now(UTC)
    delay = now + timedelta(seconds=dice.uniform(0.1, 3)) if dice.random() < 0.3 else None
    expiration = (delay or now) + timedelta(seconds=dice.uniform(0.2, 2)) if dice.random() < 0.3 else None
    return JobRequest(
        type="chaos",
        id=new_id(manager.clock.now()),
        priority=dice.randrange(2**32),
        delay=delay,
        expiration=expiration,
        queue="q",
    )


def _requested(manager: JobManager, batch: list[JobRequest]) -> set[str]:
    """Request a batch, and what was surely not stored once more; unknown ones are left at that."""
    stored: set[str] = set()
    left = batch
    for _ in range(200):
        now = datetime.now(UTC)
        left = [r for r in left if not isinstance(r.expiration, datetime) or r.expiration > now]
        try:
            return stored | {request.id for request in manager.request_many(left)}
        except EnqueueIncomplete as exc:
            stored |= set(exc.stored)
            left = [request for request in left if request.id in exc.rejected]
            if not left:
                return stored
        except KesselError:
            pass
        time.sleep(0.05)
    return stored


def _outage(server: Beanstalkd, dice: random.Random) -> tuple[float, float]:
    time.sleep(dice.uniform(0.0, 0.5))
    begin = time.time()
    server.kill()
    time.sleep(dice.uniform(0.0, 0.5))
    server.start()
    return begin, time.time()
