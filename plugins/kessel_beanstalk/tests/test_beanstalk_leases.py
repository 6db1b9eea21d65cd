"""A lease is the job's own, whoever put it and whatever its body looks like (S7, X5, B3)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobContext, JobManager, LeaseLost, Transient, handler
from kessel_core.contract import COMMIT, Message, Reservation, Rollback
from tests.foreign import reservation_of_another_adapter_holds_nothing

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)


def body_of(number: int, swapped: bool = False) -> bytes:
    """Return a body as kessel writes it, or with two keys in another order: the same JSON object."""
    fields = {"v": 1, "id": f"job-{number}", "type": "t", "priority": 9, "payload": None}
    if swapped:
        fields = {key: fields[key] for key in ("v", "type", "id", "priority", "payload")}
    return json.dumps(fields, separators=(",", ":")).encode()


def put_bare(server: Beanstalkd, body: bytes, ttr: int) -> None:
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="q") as client:
        client.put(body, 9, 0, ttr)


def deliveries(adapter: BeanstalkAdapter, count: int) -> list[Reservation]:
    """Take and commit so many jobs with one slot; all but the first come together with a commit."""
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    found: list[Reservation] = []
    while held is not None:
        found.append(held)
        held = consumer.settle_and_reserve(held, COMMIT)
    consumer.close()
    assert len(found) == count
    return found


def test_x5_attempt_and_lease_do_not_depend_on_the_order_of_the_keys_of_a_body(
    opened: Opened, server: Beanstalkd
) -> None:
    """The second and third job are not asked about when they are taken."""
    adapter = opened(server.port)
    seen: list[list[tuple[Any, ...]]] = []
    for swapped in (False, True):
        for number, ttr in enumerate((60, 60, 3)):
            put_bare(server, body_of(number, swapped), ttr)
        started = time.monotonic()
        found = deliveries(adapter, 3)
        seen.append([])
        for held in found:
            assert held.deadline is not None
            seen[-1].append((held.id, held.attempt, round(held.deadline - started)))
    assert seen[0] == seen[1]
    assert seen[0][2][2] <= 3


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("ttr", [0, 1, 2, 7, 60, 90])
def test_finding_b3_the_lease_that_is_assumed_is_never_longer_than_the_jobs_own(
    opened: Opened, server: Beanstalkd, ttr: int, swapped: bool
) -> None:
    adapter = opened(server.port, ttr=60 * SECOND)
    adapter.enqueue(Message("job-0", "q", body_of(0, swapped), 9))
    put_bare(server, body_of(1, swapped), ttr)
    real = max(ttr, 1)
    consumer = adapter.consumer(["q"])
    first = consumer.reserve(SECOND)
    assert first is not None and first.lease == 60 * SECOND
    before = time.monotonic()
    held = consumer.settle_and_reserve(first, COMMIT)
    assert held is not None and held.deadline is not None and held.lease is not None
    assert held.deadline <= before + real + 0.2
    assert held.lease.total_seconds() <= real
    before = time.monotonic()
    consumer.extend(held)
    assert held.lease == real * SECOND
    assert before + real <= held.deadline <= time.monotonic() + real
    consumer.settle(held, COMMIT)


def test_s7_a_job_that_was_not_asked_about_is_committed_within_its_own_lease(
    opened: Opened, server: Beanstalkd
) -> None:
    """Also without a heartbeat: then the server is asked when it matters."""
    adapter = opened(server.port, ttr=5 * SECOND)
    adapter.enqueue_many([Message(f"job-{number}", "q", body_of(number), 9) for number in range(4)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    for step in (lambda _: None, consumer.extend, consumer.attempt):
        held = consumer.settle_and_reserve(held, COMMIT)
        assert held is not None and held.lease == SECOND
        time.sleep(1.05)  # real: the server's own time is what it is about
        step(held)
    consumer.settle(held, COMMIT)
    assert adapter.stats("q").total == 0


def test_s7_a_job_that_was_not_asked_about_is_refused_once_its_own_lease_is_over(
    opened: Opened, server: Beanstalkd
) -> None:
    adapter = opened(server.port, ttr=2 * SECOND)
    adapter.enqueue_many([Message(f"job-{number}", "q", body_of(number), 9) for number in range(2)])
    consumer = adapter.consumer(["q"])
    first = consumer.reserve(SECOND)
    assert first is not None
    held = consumer.settle_and_reserve(first, COMMIT)
    assert held is not None
    time.sleep(2.05)  # real, as above
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)
    assert adapter.stats("q").total == 1


def test_s7_a_job_that_came_after_a_long_wait_has_its_lease_from_its_delivery(
    opened: Opened, server: Beanstalkd
) -> None:
    """A wait may be longer than the lease; what counts is what the server says is left."""
    adapter = opened(server.port, ttr=60 * SECOND)
    consumer = adapter.consumer(["q"])
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="q") as client:
        client.put(body_of(0), 9, 2, 2)
    before = time.monotonic()
    held = consumer.reserve(5 * SECOND)
    assert held is not None and held.deadline is not None and held.lease == 2 * SECOND
    assert before + 2.5 < held.deadline <= time.monotonic() + 2
    consumer.settle(held, COMMIT)


def test_finding_d13_the_attempt_of_a_delivery_is_a_lower_bound_and_the_consumers_is_exact(
    opened: Opened, server: Beanstalkd
) -> None:
    """S10; a slot that has seen smaller numbers only takes a job that came back for a new one."""
    adapter, other = opened(server.port), opened(server.port)
    adapter.enqueue_many([Message(f"job-{number}", "q", body_of(number), 9) for number in range(3)])
    consumer, lost = adapter.consumer(["q"]), other.consumer(["q"])
    first = consumer.reserve(SECOND)
    assert first is not None
    taken = lost.reserve(SECOND)
    assert taken is not None and taken.id != first.id
    lost.close()  # its worker is gone, so this was an attempt
    held = consumer.settle_and_reserve(first, COMMIT)
    assert held is not None and held.id == taken.id
    assert held.attempt == 1
    assert consumer.attempt(held) == held.attempt == 2
    consumer.settle(held, Rollback())
    after = consumer.reserve(SECOND)
    assert after is not None and after.attempt == consumer.attempt(after) == 1
    consumer.close()  # it holds a job, so nothing else closes its connection before the collector runs


def test_finding_d13_where_the_number_of_attempts_decides_it_is_exact(server: Beanstalkd) -> None:
    """Whatever the handlers saw: `max_attempts` deliveries and no more, though other slots lose some."""
    seen: list[int] = []

    @handler("a", max_attempts=3)
    def fail(payload: object, job: JobContext) -> None:
        seen.append(job.attempt)
        raise Transient(after=timedelta(0))

    with JobManager(f"beanstalk://127.0.0.1:{server.port}", handlers=[fail]) as manager:
        job = manager.request("a")
        lost = manager.adapter.consumer(["default"])
        assert lost.reserve(SECOND) is not None
        lost.close()
        worker = manager.start(slots=1)
        until = time.monotonic() + 30
        while not manager.adapter.stats("default").buried and time.monotonic() < until:
            time.sleep(0.02)  # real: a rollback on beanstalkd pauses for a second at least
        worker.stop()
        [buried] = manager.adapter.buried("default")
    assert (buried.id, buried.reason, buried.attempt) == (job.id, "retries-exhausted", 3)
    assert len(seen) == 2 and all(number <= exact for number, exact in zip(seen, (2, 3), strict=True))


def test_s7_a_reservation_of_another_adapter_holds_nothing(adapter: BeanstalkAdapter) -> None:
    reservation_of_another_adapter_holds_nothing(adapter)
