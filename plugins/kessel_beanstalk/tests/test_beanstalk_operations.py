"""What operators do stays quick on a server that can list nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import greenstalk
import pytest
from kessel_beanstalk import sidetubes
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.commands import Command, JobStats
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.records import BURIED_PREFIX, NOTHING, Record, side_tube
from kessel_beanstalk.search import Search
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import FaultProxy
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import SystemClock, UnknownJob
from kessel_core.cli.root import run
from kessel_core.client.moving import Moved, move_jobs
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    Bury,
    DoctorContext,
    JobState,
    Level,
    Message,
    Settlement,
)


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


@pytest.mark.parametrize("buried", [0, 3])
def test_records_are_asked_for_as_often_as_there_are_some(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, buried: int
) -> None:
    """256 were asked for at each look at burials and kicks, and at each purge: most of what a server did."""
    producer, operator = opened(server.port), opened(server.port)
    for number in range(buried):
        producer.enqueue(Message(f"job-{number}", "q", b'{"v":1,"id":"job-%d"}' % number, 9))
        with closing(producer.consumer(["q"])) as consumer:
            held = consumer.reserve(NO_PAUSE)
            assert held is not None
            consumer.settle(held, Bury("error", "no"))
    with greenstalk.Client(("127.0.0.1", server.port)) as client:
        before = client.stats()["cmd-reserve-with-timeout"]
        assert len(operator.buried("q", 10)) == buried
        asked = client.stats()["cmd-reserve-with-timeout"] - before
    assert buried < asked <= 3 * (buried + 1)


def test_what_the_counts_rule_out_is_not_searched_for(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong id was looked for in every job of the server, where the queue had none in such a state."""
    adapter = opened(server.port)
    adapter.enqueue(Message("job", "q", b'{"v":1,"id":"job"}', 9))

    def searched(*_: object) -> Iterator[list[int]]:
        raise AssertionError("every job of the server was looked at")

    monkeypatch.setattr(Search, "numbers", searched)
    with pytest.raises(UnknownJob):
        adapter.kick("q", "wrong")
    with pytest.raises(UnknownJob):
        adapter.delete("other", "wrong")
    assert adapter.peek("q", JobState.DELAYED, 9) == adapter.peek("q", JobState.RESERVED, 9) == []
    with pytest.raises(AssertionError, match="every job"):
        adapter.delete("q", "wrong")


def twins(adapter: BeanstalkAdapter, count: int) -> None:
    """Store jobs with one id, which beanstalkd does not refuse."""
    for number in range(count):
        body = b'{"v":1,"id":"x","type":"t","priority":9,"payload":%d}' % number
        adapter.enqueue(Message("x", "q", body, 9))


@pytest.mark.parametrize("number", range(3))
def test_s9_of_several_jobs_with_one_id_the_one_that_was_shown_is_deleted(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, number: int
) -> None:
    producer, operator = opened(server.port), opened(server.port)
    twins(producer, 3)
    shown = operator.peek("q", JobState.READY, 3)
    operator.delete_shown(shown[number])
    left = [job.body for job in opened(server.port).peek("q", JobState.READY, 3)]
    assert sorted(left) == sorted(job.body for job in shown if job is not shown[number])


@pytest.mark.parametrize("number", range(3))
def test_s9_of_several_jobs_with_one_id_the_one_that_was_shown_is_kicked(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, number: int
) -> None:
    operator = opened(server.port)
    twins(operator, 3)
    bury_all(operator, 3)
    shown = operator.buried("q", 3)
    operator.kick_shown(shown[number])
    (ready,) = operator.peek("q", JobState.READY, 3)
    assert ready.body == shown[number].body
    with pytest.raises(UnknownJob):
        operator.kick_shown(shown[number])
    with pytest.raises(UnknownJob):
        operator.delete_shown(shown[number])
    assert operator.stats("q").buried == 2


def test_s9_a_move_of_jobs_with_one_id_loses_none_of_them(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd
) -> None:
    """The target takes one of them; the other stays, and not the first once more."""
    source = opened(server.port)
    twins(source, 2)
    target = MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    there = [job.body for queue in (source, target) for job in queue.peek("q", JobState.READY, 3)]
    assert len(set(there)) == 2
    assert moved.left == ["x"]
    target.close()


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
    assert proxied.traffic.connections <= 8
    with greenstalk.Client(("127.0.0.1", server.port)) as client, pytest.raises(greenstalk.NotFoundError):
        client.stats_tube("kessel.buried.q")  # nothing is left of them


@pytest.fixture
def commands_sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the commands that all adapters send; one number."""
    sent = [0]
    real = Connection.send

    def send(self: Connection, *asked: Command[object]) -> None:
        sent[0] += len(asked)
        real(self, *asked)

    monkeypatch.setattr(Connection, "send", send)
    return sent


@pytest.mark.parametrize("ends", [COMMIT, Bury("error", "again")], ids=["commit", "bury"])
@pytest.mark.parametrize("kicked_by", ["kessel", "others"])
@pytest.mark.parametrize("buried_by", ["kessel", "others", "others twice"])
def test_finding_c1_a_thousand_buried_jobs_cost_a_bounded_number_of_commands_each(
    opened: Callable[..., BeanstalkAdapter],
    server: Beanstalkd,
    commands_sent: list[int],
    buried_by: str,
    kicked_by: str,
    ends: Settlement,
) -> None:
    """Kick all and drain: linear in their number, whoever buried and kicked them, and however they end."""
    many = 1_000
    producer, operator, worker = opened(server.port), opened(server.port), opened(server.port)
    producer.enqueue_many(
        [Message(f"job-{n}", "q", b'{"type":"t","id":"job-%d"}' % n, 9) for n in range(many)]
    )
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="q", watch="q") as client:
        if buried_by == "kessel":
            bury_all(producer, many)
        for again in range(buried_by.count("others") + buried_by.count("twice")):
            if again:
                client.kick(many)
            for _ in range(many):
                client.bury(client.reserve(0))
        commands_sent[0] = 0
        if kicked_by == "kessel":
            for job in operator.buried("q", many):
                operator.kick("q", job.id)
        else:
            client.kick(many)
    assert commands_sent[0] <= 15 * many
    consumer = worker.consumer(["q"])
    commands_sent[0] = 0
    for _ in range(many):
        held = consumer.reserve(NO_PAUSE)
        assert held is not None and consumer.attempt(held) == 1
        consumer.settle(held, ends)
    assert commands_sent[0] <= 15 * many
    assert consumer.reserve(NO_PAUSE) is None


def test_finding_c1_workers_that_read_the_records_at_the_same_time_do_not_fail_each_other(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd
) -> None:
    """Of six processes after a kick of 3,000 three failed, and used up attempts with it."""
    many, most = 600, 4
    producer = opened(server.port)
    producer.enqueue_many(
        [Message(f"job-{n}", "q", b'{"type":"t","id":"job-%d"}' % n, 9) for n in range(many)]
    )
    bury_all(producer, many)
    with greenstalk.Client(("127.0.0.1", server.port), use="q") as client:
        client.kick(many)
    together = threading.Barrier(most)

    def drain(adapter: BeanstalkAdapter) -> list[int]:
        consumer, attempts = adapter.consumer(["q"]), []
        together.wait(10)
        while (held := consumer.reserve(NO_PAUSE)) is not None:
            attempts.append(consumer.attempt(held))
            consumer.settle(held, COMMIT)
        return attempts

    with ThreadPoolExecutor(most) as pool:
        found = list(pool.map(drain, [opened(server.port) for _ in range(most)]))
    assert sum(map(len, found)) == many
    assert {attempt for attempts in found for attempt in attempts} == {1}


def test_finding_d4_records_that_a_foreign_client_holds_stop_no_queue(
    opened: Callable[..., BeanstalkAdapter],
    server: Beanstalkd,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker on the wrong tube: `reserve` failed, the same job came again, and nobody behind it ran."""
    monkeypatch.setattr(sidetubes, "_PATIENCE_SECONDS", 0.05)
    producer, adapter = opened(server.port), opened(server.port)
    producer.enqueue_many([Message(f"job-{n}", "q", b'{"type":"t","id":"job-%d"}' % n, 9) for n in range(3)])
    bury_all(producer, 3)
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, watch="kessel.buried.q") as client:
        client.reserve(0)
        assert {job.id: job.reason for job in adapter.buried("q")} == {
            "job-0": None, "job-1": "error", "job-2": "error",
        }  # fmt: skip
        for number in range(3):
            adapter.kick("q", f"job-{number}")
        consumer = opened(server.port).consumer(["q"])
        for number in range(3):
            held = consumer.reserve(NO_PAUSE)
            assert held is not None and held.id == f"job-{number}"
            assert consumer.attempt(held) == 1
            consumer.settle(held, COMMIT)
    assert "records in tube 'kessel.buried.q' are held by another client" in caplog.text


@pytest.mark.parametrize("name", ["@1", "@01", "@0001"])
def test_finding_d6_an_id_that_a_producer_gives_never_passes_for_a_number_of_the_server(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, name: str
) -> None:
    """Kick, delete, show, move: each acts on the name under which a job was shown."""
    adapter, other = opened(server.port), opened(server.port)
    adapter.enqueue(Message("waits", "q", b'{"type":"t","id":"waits"}', 9))
    body = b'{"type":"t","id":"%b"}' % name.encode()
    adapter.enqueue_many([Message(name, "q", body, 1), Message(name, "q", body, 2)])
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None and held.id == "@2"
    consumer.settle(held, Bury("error"))
    assert [job.id for job in adapter.buried("q")] == [job.id for job in other.buried("q")] == ["@2"]
    for shows in (adapter, other):
        assert [job.id for job in shows.peek("q", JobState.READY, 5)] == ["@3", "waits"]
        with pytest.raises(UnknownJob):
            shows.kick("q", name)
    adapter.kick("q", "@2")
    adapter.delete("q", "@2")
    target = MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))
    moved = Moved()
    move_jobs(other, target, ["q"], moved)
    assert (moved.count, moved.double) == (2, [])
    assert sorted(job.body for job in target.peek("q", JobState.READY, 5)) == sorted(
        [body, b'{"type":"t","id":"waits"}']
    )
    target.close()


def test_finding_d6_an_id_of_a_body_never_passes_for_a_number_of_the_server(
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


def test_finding_d12_foreign_tubes_and_damaged_records_are_named_and_passed_over(
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
        assert adapter.queues() == ["q"]
        assert (adapter.stats("q").buried, adapter.stats("q").ready) == (1, 0)
        findings = adapter.doctor(
            DoctorContext(queues=("q",), types=frozenset({"t"}), grace=timedelta(seconds=5))
        )
        assert [one.level for one in findings if one.level is Level.ERROR] == []
        assert any("kessel.foo" in one.detail for one in findings)
        assert "'kessel.foo' is passed over" in caplog.text
        [job] = adapter.buried("q")
        assert (job.id, job.reason) == ("job-1", "error")
        assert caplog.text.count("is not a record") == len(damaged)
        adapter.kick("q", "job-1")
        adapter.delete("q", "job-1")
        assert adapter.purge("q") == 0
        assert client.stats_tube("kessel.buried.q")["current-jobs-ready"] == len(damaged)
        assert client.stats_tube("kessel.foo")["current-jobs-ready"] == 1


def test_the_reason_of_a_burial_is_shown_for_the_body_that_was_buried_and_no_other(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    """After some restarts a server gives a number again, and the record of its former job may be there."""
    at = ("127.0.0.1", server.port)
    with greenstalk.Client(at, encoding=None, use="q", watch="q") as client:
        client.put(b"the job of now")
        client.bury(client.reserve())
    former = JobStats(
        server_id=1, tube="q", state=JobState.BURIED, pri=9, age=0, ttr=60, time_left=0, reserves=1,
        releases=0, kicks=0,
    )  # fmt: skip
    for body, told in ((b"its former job", (None, None)), (b"the job of now", ("error", "why"))):
        record = Record.of_burial(former, body, NOTHING, id=None, reason="error", message="why")
        with greenstalk.Client(at, encoding=None, use=side_tube(BURIED_PREFIX, "q")) as client:
            client.put(record.encoded(10_000))
        (shown,) = adapter.buried("q", 2)
        assert (shown.body, (shown.reason, shown.message)) == (b"the job of now", told)


def test_s9_a_job_that_is_still_being_put_is_not_there_for_those_who_look(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd
) -> None:
    """The server shows it by its number: a body whose end is missing, and no state that a job can have."""
    adapter = opened(server.port)
    body = b'{"v":1,"id":"late","type":"t","payload":null}'
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"use q\r\nput 9 0 60 %d\r\n%b" % (len(body), body[:20]))
        assert slow.recv(100) == b"USING q\r\n"
        adapter.enqueue(Message("there", "q", b'{"v":1,"id":"there","type":"t","payload":null}', 9))
        assert [job.id for job in adapter.peek("q", JobState.READY, 5)] == ["there"]
        for job_id in ("@1", "late"):
            with pytest.raises(UnknownJob):
                adapter.delete("q", job_id)
        slow.sendall(body[20:] + b"\r\n")
        assert slow.recv(100) == b"INSERTED 1\r\n"
    assert sorted(job.id for job in adapter.peek("q", JobState.READY, 5)) == ["late", "there"]
    adapter.delete("q", "late")
    assert [job.id for job in adapter.peek("q", JobState.READY, 5)] == ["there"]


def test_pause_that_the_server_forgets_is_told_by_the_command(
    server: Beanstalkd, capsys: pytest.CaptureFixture[str], opened: Callable[..., BeanstalkAdapter]
) -> None:
    """S9: an operator who pauses an empty queue before a change must hear that its jobs will run."""
    url = f"beanstalk://127.0.0.1:{server.port}"
    assert run(["pause", "q", "10m", "--adapter", url]) == 1
    told = capsys.readouterr()
    assert not told.out
    assert "queue q is not paused: it holds no job, and 'beanstalk' forgets it" in told.err
    adapter = opened(server.port)
    adapter.enqueue(Message("a", "q", b"{}", 1))
    assert adapter.stats("q").paused is None
    assert run(["pause", "q", "10m", "--adapter", url]) == 0
    assert adapter.stats("q").paused is not None
