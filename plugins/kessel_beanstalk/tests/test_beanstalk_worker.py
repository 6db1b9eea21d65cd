"""Whole workers on a real server that is killed, cut off or drained while they run."""

from __future__ import annotations

import logging
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Literal

import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import FaultProxy

from kessel_core import EnqueueRejected, EnqueueUnknown, JobContext, JobManager, KesselError, handler
from kessel_core.contract import NO_PAUSE, Buried, Pause, need

Opened = Callable[..., BeanstalkAdapter]
Managers = Callable[..., JobManager]
LONG = 30.0


@pytest.fixture
def runs() -> Counter[str]:
    """How often each job ran, by its `ref`."""
    return Counter()


@pytest.fixture
def managers(runs: Counter[str]) -> Iterator[Managers]:
    """Make managers whose handler `count` counts runs by `ref`, `fail` fails."""

    def count(payload: object, job: JobContext) -> None:
        runs[job.request.ref or ""] += 1

    def fail(payload: object) -> None:
        raise ValueError("as asked")

    with ExitStack() as stack:

        def make(port: int, **options: str) -> JobManager:
            extra = "&".join(f"{name}={value}" for name, value in options.items())
            url = f"beanstalk://127.0.0.1:{port}?{extra}"
            return stack.enter_context(JobManager(url, handlers={"count": count, "fail": fail}))

        yield make


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds, bounded."""
    until = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def told(manager: JobManager, figure: Literal["current-waiting", "current-connections"]) -> int:
    """Return a figure that the server tells of itself, asked over a connection of its own."""
    adapter = manager.adapter
    assert isinstance(adapter, BeanstalkAdapter)
    with greenstalk.Client(("127.0.0.1", adapter.shared.options.port)) as asking:
        return int(asking.stats()[figure])


def test_f19_a_worker_outlives_its_server_with_every_queue_and_one_line_a_change_of_state(
    managers: Managers,
    durable: Beanstalkd,
    proxied_to: Callable[[Beanstalkd], FaultProxy],
    runs: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """D9, and I8: no storm of connects while the server is away."""
    proxy = proxied_to(durable)
    producer = managers(durable.port)
    manager = managers(proxy.port, timeout="2s")
    caplog.set_level(logging.INFO)
    worker = manager.start(slots=8, queues=["one", "two"])
    producer.request("count", ref="before", queue="one")
    wait_for(lambda: runs["before"])
    # All of them: one that has just been greeted when the server dies would say that it is back.
    wait_for(lambda: told(producer, "current-waiting") == 8)
    assert worker.health().ok
    caplog.clear()
    before = proxy.traffic.connections
    durable.kill()
    wait_for(lambda: worker.health().disconnected == 8)
    assert not worker.health().ok
    time.sleep(1)
    assert 0 < proxy.traffic.connections - before < 8 * 30
    durable.start()
    wait_for(lambda: worker.health().ok)
    fresh = managers(durable.port)
    for queue in ("one", "two"):
        fresh.request("count", ref=queue, queue=queue)
    wait_for(lambda: runs["one"] and runs["two"])
    said = [
        re.sub(r"slot \d+", "slot", record.getMessage())
        for record in caplog.records
        if str(proxy.port) in record.getMessage() or record.name == "kessel.worker"
    ]
    changes = [re.split(r" to |, trying", text)[0] for text in said]
    assert sorted(changes) == [
        "connected again",
        "lost the connection",
        "slot: queue not usable",
        "slot: queue usable again",
    ]


def test_d9_the_stop_of_an_idle_worker_alarms_nobody(
    managers: Managers, durable: Beanstalkd, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connections are cut by ourselves."""
    manager = managers(durable.port)
    manager.start(slots=3)
    wait_for(lambda: told(manager, "current-waiting") == 3)
    manager.stop()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_f22_a_waiting_worker_whose_network_vanishes_notices_and_goes_on(
    managers: Managers, server: Beanstalkd, proxied: FaultProxy, runs: Counter[str]
) -> None:
    """The job that went to its ghost comes back when the server's kernel ends the dead connection.

    Until then nobody else gets it: its lease is long.
    """
    manager = managers(proxied.port, ttr="8s", timeout="500ms")
    direct = managers(server.port, ttr="5m")
    worker = manager.start(slots=1)
    direct.request("count", ref="first")
    wait_for(lambda: runs["first"])
    said = proxied.traffic
    # A wait has just begun: one that ends in the meantime would not get the job.
    wait_for(lambda: proxied.traffic != said and told(direct, "current-waiting") == 1)
    proxied.drop_up = proxied.drop_down = True
    direct.request("count", ref="ghost")
    assert direct.adapter.stats("default").reserved == 1  # by nobody who is there
    wait_for(lambda: worker.health().disconnected)
    proxied.drop_up = proxied.drop_down = False
    wait_for(lambda: worker.health().ok)
    direct.request("count", ref="other")
    wait_for(lambda: runs["other"])
    # Paused, or the worker may have the job before its own connection is cut as well.
    queue = need(direct.adapter, Pause)
    queue.pause("default", timedelta(hours=1))
    proxied.cut()
    wait_for(lambda: direct.adapter.stats("default").ready == 1)
    wait_for(lambda: worker.health().ok)
    queue.pause("default", NO_PAUSE)
    wait_for(lambda: runs["ghost"])
    assert runs == {"first": 1, "ghost": 1, "other": 1}


def test_f38_a_handler_that_hangs_past_its_timeout_loses_its_job_to_another_worker(
    server: Beanstalkd,
) -> None:
    """S7; by itself beanstalkd forgets most ends of leases of connections that are silent."""
    is_over = threading.Event()
    finished = threading.Event()

    @handler("hang", timeout=timedelta(milliseconds=100))
    def hang(payload: object, job: JobContext) -> None:
        if job.attempt == 1:
            is_over.wait(LONG)
        else:
            finished.set()

    with JobManager(f"beanstalk://127.0.0.1:{server.port}?ttr=2s", handlers=[hang]) as manager:
        for _ in range(2):
            finished.clear()
            manager.request("hang")
            manager.start(slots=2)
            assert finished.wait(LONG)
            is_over.set()
            manager.stop()
            is_over.clear()


def test_f09_a_worker_goes_on_while_the_server_drains(
    managers: Managers,
    durable: Beanstalkd,
    runs: Counter[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rule 5 for the producer; a burial then has its reason in the log only."""
    manager = managers(durable.port)
    for number in range(20):
        manager.request("count", ref=str(number))
    manager.request("fail")
    durable.signal(signal.SIGUSR1)

    def drains() -> bool:
        try:
            manager.request("count", ref="late", queue="late")
        except EnqueueRejected as exc:
            return exc.reason == "draining"
        return False

    wait_for(drains)
    manager.start(slots=2)
    wait_for(lambda: manager.adapter.stats("default").buried and sum(runs.values()) == 20)
    [job] = need(manager.adapter, Buried).buried("default")
    assert job.reason is None
    assert "keeps no record (DRAINING)" in caplog.text and "ValueError: as asked" in caplog.text
    durable.kill()
    durable.start()

    def takes() -> bool:
        try:
            manager.request("count", ref="after")
        except KesselError:
            return False
        return True

    wait_for(takes)
    wait_for(lambda: runs["after"])


def test_f25_twenty_cuts_lose_nothing_double_only_with_a_cause_and_leave_no_connection(
    managers: Managers, server: Beanstalkd, proxied: FaultProxy, runs: Counter[str]
) -> None:
    """I1, I4 and bounded connections; the seed of the pauses is printed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    manager = managers(proxied.port, timeout="2s")
    direct = managers(server.port)
    manager.start(slots=2)
    stored: set[str] = set()
    unknown: set[str] = set()
    is_over = threading.Event()

    def produce() -> None:
        number = 0
        while not is_over.is_set():
            ref = str(number)
            try:
                manager.request("count", ref=ref)
            except EnqueueUnknown:
                unknown.add(ref)
            except KesselError:
                pass
            else:
                stored.add(ref)
            number += 1
            time.sleep(0.005)  # no more than the workers can do at once

    producer = threading.Thread(target=produce)
    producer.start()
    for _ in range(20):
        time.sleep(dice.uniform(0.02, 0.15))
        proxied.cut()
    is_over.set()
    producer.join(20)
    wait_for(lambda: stored <= set(runs))
    wait_for(lambda: direct.adapter.stats("default").total == 0)
    assert len(stored) > 20
    assert set(runs) <= stored | unknown
    doubled = {ref: count for ref, count in runs.items() if count > 1}
    # A cut takes what two slots held, at most the one job each whose commit it swallowed.
    assert sum(count - 1 for count in doubled.values()) <= 20 * 2, doubled
    manager.stop()
    wait_for(
        lambda: told(direct, "current-connections") <= 3
    )  # the producer's, the operations', and the asking one


_POISONED = """
import os, signal, sys
from kessel_core import handler
from kessel_core import JobManager

log = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)

@handler("poison", max_attempts=3)
def poison(payload):
    os.write(log, b"poison\\n")
    if payload == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

@handler("good", max_attempts=100)
def good(payload):
    os.write(log, b"good %d\\n" % payload)

with JobManager(f"beanstalk://127.0.0.1:{sys.argv[1]}", handlers=[poison, good]) as manager:
    worker = manager.worker(slots=int(sys.argv[3]))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
"""


@pytest.mark.parametrize(("way", "processes", "slots"), [("kill", 1, 1), ("exit", 2, 2)])
def test_f46_a_job_that_kills_its_worker_every_time_is_buried_and_the_others_are_done(
    managers: Managers, durable: Beanstalkd, tmp_path: Path, way: str, processes: int, slots: int
) -> None:
    """S10, I5, I11: `worker-lost` after three deliveries, or at most one more for each other slot."""
    manager = managers(durable.port)
    log, script = tmp_path / "runs.log", tmp_path / "worker.py"
    log.touch()
    script.write_text(_POISONED)
    command = [sys.executable, str(script), str(durable.port), str(log), str(slots)]
    good = 30
    for number in range(good):
        if number == 5:
            manager.request("poison", way)
        manager.request("good", number)
    workers = [subprocess.Popen(command) for _ in range(processes)]

    def is_over() -> bool:
        for place, worker in enumerate(workers):
            if worker.poll() is not None:  # as a supervisor does
                workers[place] = subprocess.Popen(command)
        stats = manager.adapter.stats("default")
        return stats.buried == stats.total == 1

    try:
        wait_for(is_over)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(10)
    [job] = need(manager.adapter, Buried).buried("default")
    assert job.reason == "worker-lost"
    lines = Counter(log.read_text().split("\n")[:-1])
    # A delivery that reaches the other slot of a dying process counts, though it never ran.
    alone = processes * slots == 1
    assert (3 if alone else 1) <= lines["poison"] <= (3 if alone else 3 + processes * slots)
    assert all(lines[f"good {number}"] >= 1 for number in range(good))


_SLOW = """
import os, signal, sys, time
from kessel_core import handler
from kessel_core import JobManager

log = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)

@handler("slow")
def slow(payload, job):
    os.write(log, b"start %d\\n" % job.attempt)
    time.sleep(0.3)
    os.write(log, b"end %d\\n" % job.attempt)

with JobManager(f"beanstalk://127.0.0.1:{sys.argv[1]}?ttr=60s", handlers=[slow]) as manager:
    worker = manager.worker(slots=1)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
"""


def test_f37_a_worker_that_was_stopped_past_its_lease_commits_nothing_of_it(
    managers: Managers, server: Beanstalkd, tmp_path: Path
) -> None:
    """S7; by the worker's own clock, because the server may have forgotten the end of the lease.

    The second job is not asked about when it is taken: the worker learns of its lease when it matters.
    """
    manager = managers(server.port, ttr="2s")
    log, script = tmp_path / "runs.log", tmp_path / "worker.py"
    log.touch()
    script.write_text(_SLOW)
    manager.request("slow")
    manager.request("slow")
    worker = subprocess.Popen(
        [sys.executable, str(script), str(server.port), str(log)], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: log.read_text().count("start") == 2)
        worker.send_signal(signal.SIGSTOP)
        time.sleep(2.2)  # real: it is the worker's own clock that must tell
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: manager.adapter.stats("default").total == 0)
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=10)
    once = ["start 1", "end 1"]
    assert log.read_text().splitlines() == [*once, *once, "start 2", "end 2"]
    assert "lease lost" in said


def test_finding_b3_a_job_that_a_bare_client_put_with_a_short_ttr_is_held_through_a_longer_handler(
    server: Beanstalkd,
) -> None:
    """S7: touched at a third of its own lease, which was not known when it was taken."""
    starts: Counter[str] = Counter()

    @handler("slow")
    def slow(payload: object, job: JobContext) -> None:
        starts[job.id] += 1
        if job.id == "short":
            time.sleep(3.5)  # real: it is the server's own time that ends leases

    def body(name: str) -> bytes:
        return b'{"v":1,"id":"%b","type":"slow","priority":9,"payload":null}' % name.encode()

    with JobManager(f"beanstalk://127.0.0.1:{server.port}?ttr=60s", handlers=[slow]) as manager:
        with greenstalk.Client(("127.0.0.1", server.port), encoding=None) as client:
            client.put(body("first"), 9, 0, 60)
            client.put(body("short"), 9, 0, 2)
        worker = manager.start(slots=2)
        wait_for(lambda: manager.adapter.stats("default").total == 0)
        assert worker.health().ok
    assert starts == {"first": 1, "short": 1}
