"""A delivery on its way to its settlement, on a virtual clock (D7): S4, S5, S7, S9 to S13, S21."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import attrs
import pytest

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    Fatal,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    JsonValue,
    LeaseLost,
    Transient,
    handler,
    hookimpl,
)
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, Message, Rollback, Snooze
from kessel_core.model.policies import OnExpired, UnknownType
from kessel_core.testing import VirtualClock, run_until_idle

App = Callable[..., JobManager]
Deliver = Callable[..., Any]
HOUR = timedelta(hours=1)


def body(kind: str = "a", **fields: Any) -> bytes:
    return json.dumps({"type": kind, "id": "i", **fields}).encode()


def fail(error: BaseException) -> Callable[[JsonValue], None]:
    def failing(payload: JsonValue) -> None:
        raise error

    return failing


# --- before the handler -------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"[1]"])
def test_s13_a_body_that_is_no_request_is_buried(app: App, deliver: Deliver, raw: bytes) -> None:
    done = deliver(app(), raw)
    assert done.ending == ("failed", "undecodable")
    (settlement,) = done.settlements
    assert isinstance(settlement, Bury)
    assert settlement.reason == "undecodable"


def test_s13_its_bytes_stay_untouched(app: App) -> None:
    manager = app()
    manager.adapter.enqueue(Message("i", "default", b"\x00poison", 0, None, None))
    run_until_idle(manager)
    (buried,) = manager.adapter.buried("default")
    assert (buried.body, buried.reason) == (b"\x00poison", "undecodable")


def test_s12_an_unknown_type_is_buried_and_names_the_known_ones(app: App, deliver: Deliver) -> None:
    done = deliver(app({"b": print, "c": print}), body("a"))
    assert done.ending == ("failed", "no-handler")
    (settlement,) = done.settlements
    assert isinstance(settlement, Bury)
    assert "known types: b, c" in settlement.message


def test_s12_s21_it_is_snoozed_while_workers_are_replaced(app: App, deliver: Deliver) -> None:
    """Whatever its attempts: that this worker does not know it is no failure of the job."""
    manager = app(jobs=JobsConfig(unknown_type=UnknownType.RETRY, max_attempts=2))
    for attempt in (1, 2):
        done = deliver(manager, body(), attempt=attempt)
        assert done.ending == ("snoozed", "no-handler")
        assert [type(settlement) for settlement in done.settlements] == [Snooze]


def test_s21_the_pauses_of_an_unknown_type_grow_with_its_snoozes(app: App, deliver: Deliver) -> None:
    class Policy:
        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> timedelta:
            return timedelta(minutes=job.attempt)

    manager = app(plugin=Policy(), jobs=JobsConfig(unknown_type=UnknownType.RETRY))
    pauses = [deliver(manager, body(), snoozes=snoozes).settlements for snoozes in range(3)]
    assert pauses == [[Snooze(timedelta(minutes=n))] for n in (1, 2, 3)]


def test_s10_a_job_that_kills_its_worker_is_buried_unhandled_and_the_text_is_true(
    app: App, deliver: Deliver
) -> None:
    called: list[Any] = []
    done = deliver(app({"a": called.append}, jobs=JobsConfig(max_attempts=3)), body(), attempt=4)
    assert done.ending == ("failed", "worker-lost")
    (settlement,) = done.settlements
    assert isinstance(settlement, Bury)
    told, _, guess = settlement.message.partition("; ")
    assert told == "delivered 3 times without coming to an end, at most 3 are allowed"
    assert guess == "its handler may kill its worker"
    assert called == []


@pytest.mark.parametrize(("attempt", "runs"), [(5, 1), (6, 0)])
def test_s10_a_handler_may_allow_its_own_number_of_attempts(
    app: App, deliver: Deliver, attempt: int, runs: int
) -> None:
    called: list[int] = []

    @handler("a", max_attempts=5)
    def count(payload: JsonValue, job: JobContext) -> None:
        called.append(job.attempt)

    deliver(app([count], jobs=JobsConfig(max_attempts=2)), body(), attempt=attempt)
    assert called == [attempt] * runs


def test_s10_a_handler_that_is_added_to_an_open_manager_has_its_number_of_attempts(
    app: App, deliver: Deliver
) -> None:
    """The number was taken when the manager connected, so its jobs were those of a lost worker."""
    manager = app({"a": print})
    manager.registry.add(None, handler("b", max_attempts=50)(lambda payload: "done"), "this test")
    assert deliver(manager, b'{"type": "b", "id": "i"}', attempt=50).ending == ("success", None)


def test_s10_the_exact_number_is_asked_before_a_job_is_given_up(app: App, deliver: Deliver) -> None:
    """What a reservation says may be an estimate, and too high; the handler sees the exact number."""
    seen: list[int] = []
    manager = app({"a": lambda payload, job: seen.append(job.attempt)}, jobs=JobsConfig(max_attempts=3))
    assert deliver(manager, body(), attempt=9, exact=3).ending == ("success", None)
    assert seen == [3]
    assert deliver(manager, body(), attempt=9, exact=4).ending == ("failed", "worker-lost")


def test_s10_the_last_failure_buries_the_job(app: App) -> None:
    manager = app({"a": fail(Transient("no luck"))}, jobs=JobsConfig(max_attempts=2))
    manager.request("a")
    results = run_until_idle(manager)
    assert [str(r.status) for r in results] == ["failed-transient", "failed"]
    (buried,) = manager.adapter.buried("default")
    assert buried.reason == "retries-exhausted"
    assert str(buried.message).partition("\n")[0] == "no luck"


def test_s12_the_reason_of_an_unknown_type_is_cut_however_many_types_are_known(
    app: App, deliver: Deliver
) -> None:
    """Queues and logs take 2,000 characters."""
    manager = app({f"type-{number:04}": print for number in range(500)})
    done = deliver(manager, body(type="b"))
    assert done.result.message.startswith("no handler for type 'b'; known types: ")
    assert "type-0000, type-0001" in done.result.message
    assert len(done.result.message) == 2000


def test_s10_the_exact_number_decides_after_a_failure(app: App, deliver: Deliver) -> None:
    manager = app({"a": fail(Transient())}, jobs=JobsConfig(max_attempts=3))
    assert deliver(manager, body(), attempt=1, exact=3).ending == ("failed", "retries-exhausted")


@pytest.mark.parametrize("error", [AdapterUnavailable("away"), RuntimeError("a bug")])
def test_s10_an_unknown_number_of_attempts_is_taken_from_the_reservation(
    app: App, deliver: Deliver, error: Exception
) -> None:
    manager = app({"a": fail(Transient())}, jobs=JobsConfig(max_attempts=3))
    endings = [deliver(manager, body(), attempt=attempt, exact=error).ending for attempt in (1, 2, 3)]
    assert endings == [("failed-transient", "error")] * 2 + [("failed", "retries-exhausted")]


def test_s4_s21_a_delivery_before_the_delay_is_snoozed_unhandled(
    app: App, deliver: Deliver, clock: VirtualClock
) -> None:
    called: list[Any] = []
    done = deliver(app({"a": called.append}), body(delay=(clock.now() + HOUR).isoformat()))
    assert done.ending == ("snoozed", "too-early")
    assert done.settlements == [Snooze(HOUR)]
    assert called == []


def test_s4_at_its_delay_a_job_is_not_too_early(app: App, deliver: Deliver, clock: VirtualClock) -> None:
    assert deliver(app({"a": lambda payload: 1}), body(delay=clock.now().isoformat())).ending == (
        "success",
        None,
    )


@pytest.mark.parametrize(("rule", "kind"), [(OnExpired.COMMIT, type(COMMIT)), (OnExpired.BURY, Bury)])
def test_s5_an_expired_job_is_never_handled(
    app: App, deliver: Deliver, clock: VirtualClock, rule: OnExpired, kind: type
) -> None:
    called: list[Any] = []
    manager = app({"a": called.append}, jobs=JobsConfig(on_expired=rule))
    done = deliver(manager, body(expiration=clock.now().isoformat()))
    assert done.ending == ("failed", "expired")
    assert isinstance(done.settlements[0], kind)
    assert called == []


def test_s5_an_expired_job_is_not_even_shown_to_watchers_and_middleware(
    app: App, deliver: Deliver, clock: VirtualClock
) -> None:
    seen: list[str] = []

    class Watching:
        @hookimpl
        def kessel_job_started(self, job: JobContext) -> None:
            seen.append("started")

        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            seen.append("execute")
            return (yield)

    deliver(app({"a": print}, plugin=Watching()), body(expiration=clock.now().isoformat()))
    assert seen == []


def test_s5_expiration_is_checked_again_right_before_the_handler(
    app: App, deliver: Deliver, clock: VirtualClock
) -> None:
    """Whatever took its time before: a watcher here, a middleware in the test of X4."""
    called: list[Any] = []

    class Slow:
        @hookimpl
        def kessel_job_started(self, job: JobContext) -> None:
            clock.advance(2 * HOUR)

    expiration = (clock.now() + HOUR).isoformat()
    done = deliver(app({"a": called.append}, plugin=Slow(), middleware=()), body(expiration=expiration))
    assert done.ending == ("failed", "expired")
    assert (done.settlements, called) == ([COMMIT], [])


@pytest.mark.parametrize(("early", "runs"), [(timedelta(microseconds=1), 1), (NO_PAUSE, 0)])
def test_s5_right_before_the_handler_the_expiration_itself_is_too_late(
    app: App, deliver: Deliver, clock: VirtualClock, early: timedelta, runs: int
) -> None:
    called: list[Any] = []

    class Slow:
        @hookimpl
        def kessel_job_started(self, job: JobContext) -> None:
            clock.advance(HOUR - early)

    expiration = (clock.now() + HOUR).isoformat()
    deliver(app({"a": called.append}, plugin=Slow()), body(expiration=expiration))
    assert len(called) == runs


# --- the pause before the next delivery ---------------------------------------------------------------------


def test_s11_a_retry_that_could_only_start_after_expiration_ends_as_expired_now(
    app: App, deliver: Deliver, clock: VirtualClock
) -> None:
    expiration = (clock.now() + HOUR).isoformat()
    done = deliver(app({"a": fail(Transient(after=2 * HOUR))}), body(expiration=expiration))
    assert done.ending == ("failed", "expired")


@pytest.mark.parametrize("after", [NO_PAUSE, timedelta(minutes=7), timedelta(days=36_500)])
def test_s11_after_overrides_the_policy(app: App, deliver: Deliver, after: timedelta) -> None:
    assert deliver(app({"a": fail(Transient(after=after))}), body()).settlements == [Rollback(after)]


@pytest.mark.parametrize(
    ("pause", "used"),
    [
        (timedelta(5), timedelta(5)),
        (timedelta(-5), NO_PAUSE),
        ("soon", timedelta(seconds=1)),
        (5, timedelta(seconds=1)),
        (RuntimeError("broken"), timedelta(seconds=1)),
        (SystemExit(), timedelta(seconds=1)),
    ],
    ids=repr,
)
def test_s11_a_plugin_may_say_the_pause_and_may_fail(
    app: App, deliver: Deliver, caplog: pytest.LogCaptureFixture, pause: Any, used: timedelta
) -> None:
    """One that fails, or answers what is no pause, is named in the log, and nothing is retried at once."""

    class Policy:
        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> Any:
            if isinstance(pause, BaseException):
                raise pause
            return pause

    assert deliver(app({"a": fail(Transient())}, plugin=Policy()), body()).settlements == [Rollback(used)]
    assert ("a retry policy failed" in caplog.text) is not isinstance(pause, timedelta)


@pytest.mark.parametrize(
    ("after", "used"),
    [
        (None, timedelta(minutes=3)),
        (timedelta(minutes=5), timedelta(minutes=5)),
        (-HOUR, NO_PAUSE),
    ],
)
def test_s11_a_middleware_may_drop_or_change_the_pause_that_a_handler_asked_for(
    app: App, deliver: Deliver, after: timedelta | None, used: timedelta
) -> None:
    """The pause is a part of the result, and once it is dropped the retry policy answers."""

    class Capping:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult, JobResult]:
            result = yield
            assert result.after == 9 * HOUR
            return attrs.evolve(result, after=after)

        @hookimpl
        def kessel_retry_pause(self, job: JobContext) -> timedelta:
            return timedelta(minutes=3)

    manager = app({"a": fail(Transient(after=9 * HOUR))}, plugin=Capping())
    assert deliver(manager, body()).settlements == [Rollback(used)]


# --- settling -------------------------------------------------------------------------------------------


def test_s7_a_lost_lease_settles_and_reports_nothing(
    app: App, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[JobResult] = []

    class Watching:
        @hookimpl
        def kessel_job_settled(self, result: JobResult) -> None:
            told.append(result)

        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            told.append(result)

    done = deliver(app({"a": print}, plugin=Watching()), body(), LeaseLost("i", "too late"))
    assert (done.result, done.settlements, told) == (None, [], [])
    assert "delivered again" in caplog.text


def test_a_settle_is_tried_again_while_the_queue_is_away(
    app: App, deliver: Deliver, clock: VirtualClock
) -> None:
    clock.auto_advance = True
    away = [AdapterUnavailable("away")] * 30
    done = deliver(app({"a": lambda payload: 1}), body(), *away, deadline=clock.monotonic() + 60)
    assert (done.ending, done.settlements) == (("success", None), [COMMIT])


@pytest.mark.parametrize(
    ("failures", "lease"),
    [
        ([AdapterUnavailable("away")] * 60, 3600.0),
        ([AdapterUnavailable("away")] * 2, 0.01),
        ([AdapterError("refused")], 60.0),
        ([RuntimeError("a bug")], 60.0),
    ],
    ids=["away for long", "lease ends", "refused", "bug"],
)
def test_s9_what_cannot_be_settled_is_said_with_its_queue_and_its_body(
    app: App,
    deliver: Deliver,
    clock: VirtualClock,
    caplog: pytest.LogCaptureFixture,
    failures: list[Exception],
    lease: float,
) -> None:
    clock.auto_advance = True
    done = deliver(app({"a": print}), body(), *failures, deadline=clock.monotonic() + lease)
    assert (done.result, done.settlements) == (None, [])
    (said,) = [record for record in caplog.records if "could not be settled" in record.getMessage()]
    assert "job i in queue default could not be settled (commit)" in said.getMessage()
    assert '"type": "a"' in said.getMessage()
    assert (vars(said)["job_id"], vars(said)["queue"]) == ("i", "default")


def test_s7_a_lease_lost_while_the_queue_was_away_is_not_tried_for_again(
    app: App, deliver: Deliver, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.auto_advance = True
    failures = [AdapterUnavailable("away"), LeaseLost("i", "late")]
    done = deliver(app({"a": print}), body(), *failures, deadline=clock.monotonic() + 60)
    assert (done.result, done.settlements) == (None, [])
    assert caplog.text.count("delivered again") == 1


def test_s7_extend_of_a_lost_lease_reaches_the_handler(app: App, deliver: Deliver) -> None:
    def extending(payload: JsonValue, job: JobContext) -> None:
        with pytest.raises(LeaseLost):
            job.extend()

    assert deliver(app({"a": extending}), body()).ending == ("success", None)


def test_a_job_of_another_language_gets_the_id_of_its_queue(app: App, deliver: Deliver) -> None:
    assert deliver(app({"a": print}), b'{"type": "a"}').result.id == "i"


@pytest.mark.parametrize(("fields", "queue"), [({}, "mail"), ({"queue": "letters"}, "letters")])
def test_s22_the_callback_of_a_job_of_another_language_goes_to_the_queue_that_the_job_is_in(
    app: App, fields: dict[str, str], queue: str
) -> None:
    """Other software need not write the queue into the body, too; what it writes counts."""
    manager = app({"a": len, "told": len})
    text = json.dumps({"type": "a", "payload": [], "callback": "job:told"} | fields)
    manager.adapter.enqueue(Message("i", "mail", text.encode(), 0, None, None))
    results = run_until_idle(manager, queues=["mail", "letters"])
    assert [(result.request.type, result.request.queue) for result in results] == [
        ("a", queue),
        ("told", queue),
    ]


def test_s8_a_kicked_job_runs_again(app: App) -> None:
    tries: list[JsonValue] = []

    def twice(payload: JsonValue) -> None:
        tries.append(payload)
        if len(tries) == 1:
            raise Fatal("first")

    manager = app({"a": twice})
    request = manager.request(JobRequest(type="a", payload=1))
    run_until_idle(manager)
    manager.adapter.kick("default", request.id)
    assert [r.ok for r in run_until_idle(manager)] == [True]
