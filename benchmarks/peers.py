"""Let one framework for jobs do what all can: requests, many at once, a drain, a job that is waited for.

Usage: PYTHON benchmarks/peers.py NAME ADDRESS JOBS SLOTS

PYTHON is an interpreter that has NAME: `kessel`, `huey` (Redis), `procrastinate` or `pgqueuer` (PostgreSQL).
Prints JSON: single requests, requests at once and drained jobs a second, and the milliseconds (p50) from a
request of another process to the handler. The handler does nothing but take note of the time. A name that the
interpreter does not have prints `null`.

The benchmarks of the adapters run it for each of them in turn, with `--peers PYTHON`; to make one:

    python -m venv peers && peers/bin/pip install huey redis procrastinate pgqueuer asyncpg 'psycopg[binary]'
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Noted:
    """The handler's notes."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.last = 0.0
        self.done = threading.Event()
        self.left = 0

    def expect(self, jobs: int) -> None:
        """Set `done` after this many jobs."""
        self.late, self.left = [], jobs
        self.done.clear()

    def take(self, sent: float) -> None:
        """Note a job that was requested at this time."""
        self.last = time.monotonic()
        self.late.append(self.last - sent)
        # Several threads: what is counted is a list, because that cannot lose one.
        if len(self.late) >= self.left:
            self.done.set()


class Peer(ABC):
    """One framework, on one server; the payload of a job is the time of its request."""

    def __init__(self, address: str, noted: Noted) -> None:
        self.address = address
        self.noted = noted

    @contextmanager
    def requesting(self) -> Iterator[None]:
        """Be ready to request."""
        yield

    @abstractmethod
    def request(self, jobs: int, pause: float = 0.0) -> None:
        """Request jobs one by one."""

    def request_many(self, jobs: int) -> None:
        """Request jobs at once; the default has no way to."""
        raise NotImplementedError

    @abstractmethod
    @contextmanager
    def working(self, slots: int) -> Iterator[None]:
        """Run a worker."""


class Kessel(Peer):
    """On Redis or PostgreSQL."""

    def __init__(self, address: str, noted: Noted) -> None:
        super().__init__(address, noted)
        from kessel_core import JobManager

        self.manager = JobManager(address, handlers={"noop": noted.take})

    @contextmanager
    def requesting(self) -> Iterator[None]:
        with self.manager:
            yield

    def request(self, jobs: int, pause: float = 0.0) -> None:
        for _ in range(jobs):
            time.sleep(pause) if pause else None
            self.manager.request("noop", time.monotonic())

    def request_many(self, jobs: int) -> None:
        now = time.monotonic()
        self.manager.request_many([("noop", now)] * jobs)

    @contextmanager
    def working(self, slots: int) -> Iterator[None]:
        with self.manager:
            self.manager.start(slots=slots)
            yield


class Huey(Peer):
    """On Redis; it takes a job by a pop, so one that a worker holds is lost with the worker."""

    def __init__(self, address: str, noted: Noted) -> None:
        super().__init__(address, noted)
        from huey import RedisHuey

        self.app = RedisHuey("bench", url=address)

        @self.app.task()
        def noop(sent: float) -> None:
            noted.take(sent)

        self.task = noop

    def request(self, jobs: int, pause: float = 0.0) -> None:
        for _ in range(jobs):
            time.sleep(pause) if pause else None
            self.task(time.monotonic())

    @contextmanager
    def working(self, slots: int) -> Iterator[None]:
        consumer = self.app.create_consumer(workers=slots, periodic=False)
        consumer.start()
        yield
        consumer.stop(graceful=False)


class Procrastinate(Peer):
    """On PostgreSQL, with an async task, which spares it a thread a job, and finished jobs deleted."""

    def __init__(self, address: str, noted: Noted) -> None:
        super().__init__(address, noted)
        import procrastinate

        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=address))

        @self.app.task(name="noop")
        async def noop(sent: float) -> None:
            noted.take(sent)

        self.task: Any = noop
        with self.app.open():
            if not self.app.check_connection():
                self.app.schema_manager.apply_schema()

    @contextmanager
    def requesting(self) -> Iterator[None]:
        with self.app.open():
            yield

    def request(self, jobs: int, pause: float = 0.0) -> None:
        for _ in range(jobs):
            time.sleep(pause) if pause else None
            self.task.defer(sent=time.monotonic())

    def request_many(self, jobs: int) -> None:
        now = time.monotonic()
        for _ in range(0, jobs, 5000):
            self.task.batch_defer(*({"sent": now},) * min(jobs, 5000))

    @contextmanager
    def working(self, slots: int) -> Iterator[None]:
        async def work() -> None:
            async with self.app.open_async():
                await self.app.run_worker_async(
                    concurrency=slots, install_signal_handlers=False, delete_jobs="successful"
                )

        with in_a_loop(work()):
            yield


class Pgqueuer(Peer):
    """On PostgreSQL through asyncpg; a slot is one job more in a batch, which it takes and ends at once."""

    def __init__(self, address: str, noted: Noted) -> None:
        super().__init__(address, noted)
        import asyncpg
        from pgqueuer import PgQueuer, Queries
        from pgqueuer.db import AsyncpgDriver

        async def connect() -> Any:
            return AsyncpgDriver(await asyncpg.connect(address))

        async def install() -> None:
            driver = await connect()
            if await driver.fetch("SELECT to_regclass('pgqueuer') AS there") == [{"there": None}]:
                await Queries(driver).install()

        self.connect, self.queries, self.worker = connect, Queries, PgQueuer
        asyncio.run(install())

    def request(self, jobs: int, pause: float = 0.0) -> None:
        async def send() -> None:
            queries = self.queries(await self.connect())
            for _ in range(jobs):
                await asyncio.sleep(pause) if pause else None
                await queries.enqueue("noop", repr(time.monotonic()).encode())

        asyncio.run(send())

    def request_many(self, jobs: int) -> None:
        async def send() -> None:
            queries = self.queries(await self.connect())
            now = repr(time.monotonic()).encode()
            for _ in range(0, jobs, 5000):
                count = min(jobs, 5000)
                await queries.enqueue(["noop"] * count, [now] * count, [0] * count)

        asyncio.run(send())

    @contextmanager
    def working(self, slots: int) -> Iterator[None]:
        async def work() -> None:
            worker = self.worker(await self.connect())

            @worker.entrypoint("noop")
            async def noop(job: Any) -> None:
                self.noted.take(float(job.payload))

            await worker.run(batch_size=slots)

        with in_a_loop(work()):
            yield


@contextmanager
def in_a_loop(work: Any) -> Iterator[None]:
    """Run a coroutine in a thread of its own, until the block ends."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


PEERS: dict[str, type[Peer]] = {
    "kessel": Kessel,
    "huey": Huey,
    "procrastinate": Procrastinate,
    "pgqueuer": Pgqueuer,
}


def measured(peer: Peer, name: str, jobs: int, slots: int) -> dict[str, float]:
    """Return what a framework reaches."""
    noted, found = peer.noted, {}
    with peer.requesting():
        begun = time.monotonic()
        peer.request(jobs)
        found["request"] = jobs / (time.monotonic() - begun)
        try:
            begun = time.monotonic()
            peer.request_many(jobs)
            found["many"] = jobs / (time.monotonic() - begun)
        except NotImplementedError:
            peer.request(jobs)
    noted.expect(2 * jobs)
    begun = time.monotonic()
    with peer.working(slots):
        if not noted.done.wait(120):
            raise SystemExit(f"{name}: {len(noted.late)} of {2 * jobs} jobs in two minutes")
        found["drain"] = 2 * jobs / (noted.last - begun)
        noted.expect(300)
        time.sleep(0.5)
        produce = [sys.executable, __file__, name, peer.address, "300", "produce"]
        subprocess.run(produce, check=True)
        noted.done.wait(20)
        found["p50"] = statistics.median(noted.late) * 1000
    return found


def main(name: str, address: str, jobs: str, slots: str) -> None:
    """Measure, or be the other process that requests."""
    logging.disable(logging.CRITICAL)
    try:
        peer = PEERS[name](address, Noted())
    except ImportError:
        print("null")
        return
    if slots == "produce":
        with peer.requesting():
            peer.request(int(jobs), 0.01)
        return
    print(json.dumps(measured(peer, name, int(jobs), int(slots))))


if __name__ == "__main__":
    main(*sys.argv[1:])
