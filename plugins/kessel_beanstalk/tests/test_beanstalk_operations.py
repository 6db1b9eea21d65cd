"""What operators do stays quick on a server that can list nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.search import Search
from kessel_beanstalk.testing import Beanstalkd, FaultProxy

from kessel_core import UnknownJob
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message


def test_a_job_that_was_shown_is_acted_on_without_another_look_at_every_job(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kessel move` shows and deletes batch by batch: with a search for each job it took hours."""
    producer, operator = opened(server.port), opened(server.port)
    bodies = [
        b'{"v":1,"id":"job-%d","type":"t","priority":9,"payload":null}' % number for number in range(50)
    ]
    assert not any(
        producer.enqueue_many([Message(f"job-{n}", "q", body, 9) for n, body in enumerate(bodies)])
    )
    shown = operator.peek("q", JobState.READY, 50)

    def searched(*_: object) -> Iterator[list[int]]:
        raise AssertionError("every job of the server was looked at")

    monkeypatch.setattr(Search, "numbers", searched)
    for job in shown:
        operator.delete("q", job.id)
    assert operator.stats("q").ready == 0


def bury_all(adapter: BeanstalkAdapter, count: int) -> None:
    consumer = adapter.consumer(["q"])
    for _ in range(count):
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, Bury("error", "why"))
    consumer.close()


def test_finding_c1_many_jobs_are_kicked_and_delivered_with_few_readings_of_the_records(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, proxied: FaultProxy
) -> None:
    """Each reading of all records is a connection; one a kick and one a delivery made it quadratic."""
    worker, operator = opened(server.port), opened(proxied.port)
    worker.enqueue_many([Message(f"job-{n}", "q", b'{"type":"t","id":"job-%d"}' % n, 9) for n in range(200)])
    bury_all(worker, 200)
    for job in operator.buried("q", 200):
        operator.kick("q", job.id)
    consumer = operator.consumer(["q"])
    for _ in range(200):
        held = consumer.reserve(NO_PAUSE)
        assert held is not None and consumer.attempt(held) == 1
        consumer.settle(held, COMMIT)
    assert proxied.accepted <= 8
    with greenstalk.Client(("127.0.0.1", server.port)) as client, pytest.raises(greenstalk.NotFoundError):
        client.stats_tube("kessel.buried.q")  # nothing is left of them


def test_an_id_of_a_body_never_passes_for_a_number_of_the_server(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd
) -> None:
    adapter = opened(server.port)
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="q") as client:
        assert client.put(b'{"type":"t","id":"@2"}', 1) == 1
        assert client.put(b'{"type":"t","id":"waits"}', 9) == 2
    bury_all(adapter, 1)
    [buried] = adapter.buried("q")
    assert buried.id == "@1"
    with pytest.raises(UnknownJob):
        adapter.kick("q", "@2")
    adapter.delete("q", buried.id)
    [job] = adapter.peek("q", JobState.READY, 5)
    assert job.id == "waits" and adapter.buried("q") == []


def test_foreign_tubes_and_damaged_records_are_named_and_passed_over(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(server.port)
    adapter.enqueue(Message("job-1", "q", b'{"type":"t","id":"job-1"}', 9))
    bury_all(adapter, 1)
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="kessel.foo") as client:
        client.put(b"of somebody else")
        client.use("kessel.buried.q")
        record = client.peek_ready().body
        damaged = [
            b"", b"\xff", b"[" * 5_000, b"[]", b"null", b'{"at":5}', record[:-9],
            record.replace(b'"server_id":1', b'"server_id":"1"'),
            record.replace(b'"kicks":0', b'"kicks":-1'), record.replace(b'"kicks":0', b'"kicks":0.5'),
        ]  # fmt: skip
        for body in damaged:
            client.put(body, 1)
        assert adapter.queues() == ["default", "q"]
        assert "'kessel.foo' is passed over" in caplog.text
        [job] = adapter.buried("q")
        assert (job.id, job.reason) == ("job-1", "error")
        assert caplog.text.count("is not a record") == len(damaged)
        adapter.kick("q", "job-1")
        adapter.delete("q", "job-1")
        assert adapter.purge("q") == 0
        assert client.stats_tube("kessel.buried.q")["current-jobs-ready"] == len(damaged)
        assert client.stats_tube("kessel.foo")["current-jobs-ready"] == 1
