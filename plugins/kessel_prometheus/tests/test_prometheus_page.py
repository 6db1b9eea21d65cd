"""What a worker tells Prometheus: what it has counted, its slots, and its queues at that moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any
from unittest.mock import Mock

import attrs
import pytest
from kessel_memory.store import Store
from kessel_prometheus.counting import BUCKETS, Counts, Distribution

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    BusyJob,
    EnqueueRejected,
    EnqueueUnknown,
    Job,
    JobRequest,
    JobResult,
    Snooze,
    Status,
    Transient,
)
from kessel_core.contract import Buried, QueueStats, need
from kessel_core.testing import VirtualClock
from tests.until import until

from .conftest import App


def fail(payload: object) -> None:
    raise ValueError("as always")


def later(payload: object) -> None:
    raise Transient("not yet", after=timedelta(hours=1))


def put_off(payload: object) -> None:
    raise Snooze(timedelta(hours=1))


HANDLERS = {"good": lambda payload: payload, "bad": fail, "later": later, "put.off": put_off}


def test_each_attempt_and_each_end_is_counted_with_its_status_and_reason(app: Callable[..., App]) -> None:
    one = app(HANDLERS)
    for kind in ("good", "good", "bad", "later", "put.off"):
        one.manager.request(kind)
    one.drain()
    shown = one.show()
    counted = {name: value for name, value in shown.items() if name.endswith("}") and "_total" in name}
    assert counted == {
        'kessel_requests_total{outcome="stored",queue="default",type="bad"}': 1,
        'kessel_requests_total{outcome="stored",queue="default",type="good"}': 2,
        'kessel_requests_total{outcome="stored",queue="default",type="later"}': 1,
        'kessel_requests_total{outcome="stored",queue="default",type="put.off"}': 1,
        'kessel_attempts_total{queue="default",reason="",status="success",type="good"}': 2,
        'kessel_attempts_total{queue="default",reason="error",status="failed",type="bad"}': 1,
        'kessel_attempts_total{queue="default",reason="error",status="failed-transient",type="later"}': 1,
        'kessel_attempts_total{queue="default",reason="",status="snoozed",type="put.off"}': 1,
        'kessel_jobs_finished_total{queue="default",reason="",status="success",type="good"}': 2,
        'kessel_jobs_finished_total{queue="default",reason="error",status="failed",type="bad"}': 1,
        'kessel_snoozes_total{queue="default"}': 1,
        'kessel_leases_lost_total{queue="default"}': 0,
        'kessel_settles_failed_total{queue="default"}': 0,
    }


def test_snoozes_of_all_types_of_a_queue_are_added_up(app: Callable[..., App]) -> None:
    one = app({"put.off": put_off, "wait": put_off})
    for kind in ("put.off", "wait", "wait"):
        one.manager.request(kind)
    one.drain()
    assert one.show()['kessel_snoozes_total{queue="default"}'] == 3


def test_attempts_that_could_not_be_settled_are_counted_by_why(
    app: Callable[..., App], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise AdapterUnavailable("nobody answers")

    def late(payload: object) -> None:
        clock.advance(timedelta(hours=1))

    def unheard(payload: object) -> None:
        monkeypatch.setattr(Store, "settle", away)

    one = app({"late": late, "unheard": unheard})
    one.worker = one.manager.worker(slots=1)
    one.offer()
    one.manager.request("late", priority=1)
    one.manager.request("unheard", priority=2)
    one.worker.start()
    failed = 'kessel_settles_failed_total{queue="default"}'

    def moved() -> bool:
        clock.advance(timedelta(milliseconds=100))  # the settlement is tried again for a while
        return one.show()[failed] == 1

    until(moved)
    monkeypatch.undo()
    one.worker.stop(timedelta(0))
    one.worker.join()
    shown = one.show()
    assert shown['kessel_leases_lost_total{queue="default"}'] >= 1
    assert shown[failed] == 1
    assert one.worker.counts["lost"] >= 2


def test_ten_thousand_invented_types_are_one_label(app: Callable[..., App]) -> None:
    one = app(HANDLERS)
    one.manager.request_many(JobRequest(type=f"invented-{number}") for number in range(10_000))
    one.drain()
    shown = one.show()
    name = 'kessel_attempts_total{queue="default",reason="no-handler",status="failed",type="_other"}'
    assert shown[name] == 10_000
    assert len(shown) < 100


def test_bodies_that_cannot_be_read_are_counted_without_a_queue_of_theirs(app: Callable[..., App]) -> None:
    from kessel_core.contract import Message

    one = app(HANDLERS)
    one.manager.adapter.enqueue(Message(id="x", queue="default", body=b"no json", priority=1))
    one.drain()
    name = 'kessel_attempts_total{queue="_other",reason="undecodable",status="failed",type="_other"}'
    assert one.show()[name] == 1


def test_requests_for_invented_queues_have_a_bounded_number_of_labels(app: Callable[..., App]) -> None:
    one = app(HANDLERS)
    for number in range(150):
        one.manager.request("good", queue=f"q{number}")
    shown = one.show()
    requested = {name: value for name, value in shown.items() if name.startswith("kessel_requests_total")}
    assert len(requested) == 100
    assert requested['kessel_requests_total{outcome="stored",queue="_other",type="good"}'] == 51


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EnqueueRejected("i", "too large", reason="too-large"), "rejected"),
        (AdapterUnavailable("away"), "rejected"),
        (EnqueueUnknown("i", "no answer"), "unknown"),
    ],
)
def test_s14_requests_are_counted_by_what_became_of_them(
    app: Callable[..., App], monkeypatch: pytest.MonkeyPatch, error: AdapterError, outcome: str
) -> None:
    one = app(HANDLERS)
    monkeypatch.setattr(one.manager.adapter, "enqueue", Mock(side_effect=error))
    with pytest.raises(AdapterError):
        one.manager.request("good")
    monkeypatch.undo()
    one.manager.request("good")
    shown = one.show()
    assert shown[f'kessel_requests_total{{outcome="{outcome}",queue="default",type="good"}}'] == 1
    assert shown['kessel_requests_total{outcome="stored",queue="default",type="good"}'] == 1


def test_the_wait_is_from_when_a_job_was_due_to_its_first_start(
    app: Callable[..., App], clock: VirtualClock
) -> None:
    one = app(HANDLERS)
    one.manager.request("later")  # waits 90 s, then is tried again an hour later, which is no wait
    one.manager.request("good", delay=timedelta(seconds=60))  # waits 30 s
    clock.advance(timedelta(seconds=90))
    one.drain()
    clock.advance(timedelta(hours=1))
    one.drain()
    shown = one.show()
    assert shown['kessel_job_wait_seconds_count{queue="default"}'] == 2
    assert shown['kessel_job_wait_seconds_sum{queue="default"}'] == pytest.approx(120)
    assert shown['kessel_job_wait_seconds_bucket{le="10.0",queue="default"}'] == 0
    assert shown['kessel_job_wait_seconds_bucket{le="30.0",queue="default"}'] == 1
    assert shown['kessel_job_wait_seconds_bucket{le="300.0",queue="default"}'] == 2


def test_a_snoozed_job_has_waited_once(app: Callable[..., App], clock: VirtualClock) -> None:
    one = app(HANDLERS)
    one.manager.request("put.off")
    one.drain()
    clock.advance(timedelta(hours=2))
    one.drain()
    assert one.show()['kessel_job_wait_seconds_count{queue="default"}'] == 1


def test_a_kicked_job_has_waited_once(app: Callable[..., App], clock: VirtualClock) -> None:
    """Its attempts begin anew, and it did not wait for a worker while it was buried."""
    one = app(HANDLERS)
    job = one.manager.request("bad")
    one.drain()
    clock.advance(timedelta(hours=2))
    need(one.manager.adapter, Buried).kick(job.queue, job.id)
    one.drain()
    assert one.manager.adapter.stats(job.queue).buried == 1
    assert one.show()['kessel_job_wait_seconds_count{queue="default"}'] == 1


def test_the_run_is_as_long_as_the_handler(app: Callable[..., App], clock: VirtualClock) -> None:
    one = app({"long": lambda payload: clock.advance(timedelta(seconds=payload))})
    for seconds in (20, 2):
        one.manager.request("long", seconds)
        one.drain()
    one.manager.request("unknown")
    one.drain()
    shown = one.show()
    assert shown['kessel_job_run_seconds_count{queue="default",type="long"}'] == 2
    assert shown['kessel_job_run_seconds_sum{queue="default",type="long"}'] == pytest.approx(22)
    assert shown['kessel_job_run_seconds_bucket{le="2.5",queue="default",type="long"}'] == 1
    assert 'kessel_job_run_seconds_count{queue="default",type="_other"}' not in shown


def test_a_value_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    values = Distribution()
    for seconds in (-5.0, 0.005, 0.0051, 3600.0, 3600.1):
        values.add(seconds)
    assert values.counts == [2, 1, *[0] * (len(BUCKETS) - 3), 1, 1]
    assert values.sum == pytest.approx(7200.1101)  # a clock that goes before another one counts as no wait


def test_what_was_read_does_not_change_while_it_is_written_down() -> None:
    """Else the buckets of a histogram would not add up to its count."""
    counts = Counts(["default"], ["good"])
    at = datetime(2026, 1, 5, tzinfo=UTC)
    job = Job(type="good", queue="default")
    result = JobResult(id="i", request=job, status=Status.SUCCESS, started_at=at, finished_at=at)
    counts.settled(result)
    read, waited = counts.runs(), counts.waits()
    counts.settled(result)
    counts.started(Mock(request=Job(type="good", requested_at=at), queue="default", started_at=at))
    assert sum(read["default", "good"].counts) == 1
    assert sum(waited["default",].counts) == 0
    assert sum(counts.waits()["default",].counts) == 1


def test_slots_and_the_longest_running_job_of_each_type(app: Callable[..., App], clock: VirtualClock) -> None:
    running, go_on = threading.Semaphore(0), threading.Event()

    def long(payload: object) -> None:
        running.release()
        go_on.wait(20)

    one = app({"a": long, "b": long}, offers=False)
    one.worker = one.manager.worker(slots=4)
    one.offer()
    one.worker.start()
    try:
        for kind in ("a", "a", "b"):
            one.manager.request(kind)
            assert running.acquire(timeout=20)
            clock.advance(timedelta(seconds=5))
        shown = one.show()
    finally:
        go_on.set()
        one.worker.stop()
        one.worker.join()
    states = {
        state: shown[f'kessel_slots{{state="{state}"}}'] for state in ("busy", "idle", "disconnected", "dead")
    }
    assert states == {"busy": 3, "idle": 1, "disconnected": 0, "dead": 0}
    assert shown['kessel_longest_running_seconds{type="a"}'] == pytest.approx(15)
    assert shown['kessel_longest_running_seconds{type="b"}'] == pytest.approx(5)


def test_slots_that_are_counted_twice_while_they_change_do_not_make_fewer_than_none_idle(
    app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are read one after the other: a slot that loses the queue may be busy as well."""
    one = app(HANDLERS)
    health = attrs.evolve(one.worker.health(looks=False), slots=1, busy=1, disconnected=1)
    monkeypatch.setattr(one.worker, "health", lambda *, looks: health)
    assert one.show()['kessel_slots{state="idle"}'] == 0


def test_whatever_lasts_for_days_is_told_in_seconds_whole(
    app: Callable[..., App], clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = app(HANDLERS)
    since = clock.now() - timedelta(days=1)
    busy = BusyJob(id="i", type="bad", queue="default", since=since)
    monkeypatch.setattr(type(one.worker), "running", property(lambda worker: (busy,)))
    assert one.show()['kessel_longest_running_seconds{type="bad"}'] == 86_400
    one.manager.request("good")
    clock.advance(timedelta(days=2))
    assert one.show()['kessel_queue_oldest_ready_seconds{queue="default"}'] == 172_800
    one.drain()
    assert one.show()['kessel_job_wait_seconds_sum{queue="default"}'] == 172_800
    counts = Counts(["default"], ["good"])
    ran = {"started_at": since, "finished_at": since + timedelta(days=3)}
    counts.settled(JobResult(id="i", request=Job(type="good"), status=Status.SUCCESS, **ran))
    assert counts.runs()["default", "good"].sum == 259_200


def test_queues_are_asked_when_the_page_is(app: Callable[..., App], clock: VirtualClock) -> None:
    one = app(HANDLERS)
    adapter: Any = one.manager.adapter
    one.manager.request("good")
    one.manager.request("good", delay=timedelta(hours=1))
    one.manager.request("bad", queue="elsewhere")
    assert queues(one.show()) == {
        "kessel_queue_up": 1,
        'kessel_queue_jobs{queue="default",state="ready"}': 1,
        'kessel_queue_jobs{queue="default",state="delayed"}': 1,
        'kessel_queue_jobs{queue="default",state="reserved"}': 0,
        'kessel_queue_jobs{queue="default",state="buried"}': 0,
        'kessel_queue_paused{queue="default"}': 0,
    }
    clock.advance(timedelta(minutes=2))
    assert one.show()['kessel_queue_oldest_ready_seconds{queue="default"}'] == pytest.approx(120)
    adapter.pause("default", timedelta(hours=1))
    assert one.show()['kessel_queue_paused{queue="default"}'] == 1


def queues(shown: dict[str, float]) -> dict[str, float]:
    """The gauges of queues, without the age, which has a test of its own."""
    return {
        name: value
        for name, value in shown.items()
        if name.startswith("kessel_queue_") and "oldest" not in name
    }


@pytest.mark.parametrize(
    ("stats", "age"),
    [
        (QueueStats(queue="default", ready=2, oldest_ready=timedelta(minutes=2)), 120),
        (QueueStats(queue="default", delayed=1), 0),
        (QueueStats(queue="default", ready=2), None),
    ],
    ids=["known", "nothing is ready", "not known"],
)
def test_the_age_of_the_next_ready_job_is_absent_where_it_is_not_known(
    stats: QueueStats, age: float | None, app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = app(HANDLERS, offers=False)
    monkeypatch.setattr(one.manager.adapter, "stats", lambda queue: stats)
    one.offer()
    assert one.show().get('kessel_queue_oldest_ready_seconds{queue="default"}') == age


@pytest.mark.parametrize("error", [AdapterUnavailable("nobody answers"), ValueError("of its own")])
def test_while_the_queue_is_away_the_rest_is_told_without_it(
    app: Callable[..., App], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    one = app(HANDLERS, offers=False)

    def away(queue: str) -> QueueStats:
        raise error

    monkeypatch.setattr(one.manager.adapter, "stats", away)
    one.offer()
    shown = one.show()
    assert {name: value for name, value in shown.items() if name.startswith("kessel_queue")} == {
        "kessel_queue_up": 0
    }
    assert shown['kessel_slots{state="idle"}'] == 1
    build = f'kessel_build_info{{adapter="memory",version="{version("kessel-core")}"}}'
    assert shown[build] == 1


def test_what_has_no_value_is_not_named(app: Callable[..., App]) -> None:
    one = app(HANDLERS)
    assert one.page is not None
    assert b"kessel_snoozes" not in one.page.show()


def test_nothing_is_counted_before_somebody_may_ask(app: Callable[..., App]) -> None:
    """Without an address of its health a worker would count for nobody."""
    one = app(HANDLERS, offers=False)
    one.manager.request("good")
    one.drain()
    one.offer()
    assert 'kessel_attempts_total{queue="default",reason="",status="success",type="good"}' not in one.show()


def test_a_fork_beside_the_lock_leaves_it_free(app: Callable[..., App]) -> None:
    from kessel_prometheus.counting import Counts, _after_fork_in_child

    counts = Counts(["default"], ["good"])
    counts._lock.acquire()
    _after_fork_in_child()
    assert not counts._lock._is_owned()


def test_a_signal_handler_that_requests_a_job_while_one_is_counted_does_not_wait_for_itself() -> None:
    counts = Counts(["default"], ["good"])
    inner, stored = Job(type="good", id="inner"), [None]

    class Interrupted:
        """A job whose queue is looked up when the signal comes."""

        type = "good"

        @property
        def queue(self) -> str:
            counts.requested([inner], stored)
            return "default"

    job: Any = Interrupted()
    thread = threading.Thread(target=counts.requested, args=([job], stored), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert counts.requests() == {("default", "good", "stored"): 2}
