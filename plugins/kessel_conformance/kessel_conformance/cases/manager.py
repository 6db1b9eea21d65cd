"""A few ways through the whole of kessel, because a promise that adapter and core share needs both."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.history import History
from kessel_conformance.requirements import ATTEMPTS, DELAYS
from kessel_core import JobManager, JobResult, Reason, Snooze, Transient, build_plugins, handler, hookimpl
from kessel_core.contract import Buried, Consumer
from kessel_core.testing import run_delivery

#: More than any case here needs; a queue that goes on after them never ends.
_MOST_DELIVERIES = 100


class _Collector:
    """A plugin whose callback `test:` keeps the results."""

    def __init__(self, results: list[JobResult]) -> None:
        self.results = results

    @hookimpl
    def kessel_callbacks(self) -> Mapping[str, Callable[[JobResult, str], object]]:
        return {"test": lambda result, target: self.results.append(result)}


def _manager(bench: Bench, handlers: Mapping[str, object], seen: list[JobResult] | None = None) -> JobManager:
    # No plugins but the built-in ones: what else is installed must not change the verdict.
    extra = {} if seen is None else {"conformance-callback": _Collector(seen)}
    plugins = build_plugins(distributions=(), extra=extra)
    return JobManager(bench.adapter, handlers=handlers, clock=bench.clock, plugins=plugins)


def _run_all(bench: Bench, manager: JobManager, attempts: int) -> None:
    """Run what is ready, as often as a job is tried; a coarse backend may return it late."""
    for _ in range(attempts):
        _run_ready(bench, manager)
        bench.let_pass(bench.slack)


def _run_ready(bench: Bench, manager: JobManager, consumer: Consumer | None = None) -> list[JobResult]:
    results: list[JobResult] = []
    consumer = consumer or bench.consumer()
    for _ in range(_MOST_DELIVERIES):
        reservation = bench.reserve(consumer)
        if reservation is None:
            return results
        result = run_delivery(manager, reservation, consumer)
        if result is not None:
            bench.history.add(f"result {result.reason or result.status}, attempt {result.attempt}")
            results.append(result)
    bench.broken("the queue never becomes empty")


@case(
    "manager.payload_equal",
    "S16",
    waits=True,
    why="What a handler gets is what was requested, on every attempt.",
)
def payload_equal(bench: Bench) -> None:
    payload: Any = {
        "text": "ünïcode \u2028 \U0001f680",
        "list": [1, -2.5, None, True, []],
        "big": 10**30,
        "": {"a": {}},
    }
    seen: list[object] = []

    def first_fails(given: dict[str, object]) -> None:
        seen.append(dict(given))
        given.clear()
        if len(seen) == 1:
            raise Transient(after=timedelta(0))

    with _manager(bench, {"t": first_fails}) as manager:
        bench.request(manager, payload)
        _run_all(bench, manager, 2)
    bench.equal(seen, [payload, payload], "payloads of two attempts")


@case(
    "manager.any_payload",
    "S16",
    why="A few payloads come back equal from everything; texts with odd characters and odd numbers do not.",
)
def any_payload(bench: Bench) -> None:
    import hypothesis

    from kessel_core.testing.strategies import json_values

    settings = bench.settings
    limit = bench.capabilities.max_body_bytes
    seen: list[object] = []
    consumer = bench.consumer()
    with _manager(bench, {"t": seen.append}) as manager:

        def comes_back(payload: Any) -> None:
            # As text, because 1, 1.0 and True are equal to each other.
            wanted = json.dumps(payload, sort_keys=True)
            hypothesis.assume(limit is None or len(wanted) * 2 + 500 < limit)
            bench.history = History(bench.clock)
            seen.clear()
            bench.request(manager, payload)
            _run_ready(bench, manager, consumer)
            bench.equal(
                [json.dumps(got, sort_keys=True) for got in seen], [wanted], "payloads that came back"
            )

        bounded = hypothesis.settings(
            max_examples=settings.amounts.examples,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if settings.shrink else [])],
            report_multiple_bugs=False,
            verbosity=hypothesis.Verbosity.quiet,
            suppress_health_check=[hypothesis.HealthCheck.too_slow],
        )
        hypothesis.seed(settings.seed)(bounded(hypothesis.given(json_values())(comes_back)))()


@case(
    "manager.expired_not_run",
    "S5",
    waits=True,
    why="An expired job must not start, and its requester has to hear of it.",
)
def expired_not_run(bench: Bench) -> None:
    ran: list[object] = []
    with _manager(bench, {"t": ran.append}) as manager:
        bench.request(manager, 1, expiration=timedelta(milliseconds=300))
        bench.request(manager, 2, expiration=timedelta(hours=1))
        bench.let_pass(timedelta(milliseconds=400))
        results = _run_ready(bench, manager)
    bench.equal(ran, [2], "payloads of jobs that were run")
    bench.equal([result.reason for result in results].count(Reason.EXPIRED), 1, "results that say expired")


@case(
    "manager.poison_set_aside",
    "S13",
    needs=(Buried,),
    why="A body that nobody can read must neither loop, nor vanish, nor stop the worker.",
)
def poison_set_aside(bench: Bench) -> None:
    ran: list[object] = []
    poison = b"\xff\xfe not json \r\n"
    with _manager(bench, {"t": ran.append}) as manager:
        bench.put(poison)
        bench.request(manager, 1)
        _run_ready(bench, manager)
    bench.equal(ran, [1], "payloads of jobs that were run")
    found = bench.buried()
    bench.equal(
        [(job.body, job.reason) for job in found], [(poison, "undecodable")], "buried bodies and reasons"
    )


@case(
    "manager.no_handler_set_aside",
    "S12",
    needs=(Buried,),
    why="A job that nobody can run waits for an operator, with its reason.",
)
def no_handler_set_aside(bench: Bench) -> None:
    with _manager(bench, {"known": print}) as manager:
        bench.request(manager, job_type="unknown")
        _run_ready(bench, manager)
    found = bench.buried()
    bench.equal([job.reason for job in found], ["no-handler"], "reasons of buried jobs")


@case(
    "manager.tries_run_out",
    "S10",
    needs=(Buried, ATTEMPTS),
    waits=True,
    why="A job that always fails must end; and not before its last try.",
)
def tries_run_out(bench: Bench) -> None:
    attempts: list[int] = []

    @handler("t", max_attempts=3)
    def fails(payload: object, job: Any) -> None:
        attempts.append(job.attempt)
        raise Transient(after=timedelta(0))

    with _manager(bench, {"t": fails}) as manager:
        bench.request(manager)
        _run_all(bench, manager, 4)
    bench.equal(attempts, [1, 2, 3], "attempts that were run")
    found = bench.buried()
    bench.equal([job.reason for job in found], ["retries-exhausted"], "reasons of buried jobs")


@case(
    "manager.retry_waits",
    "S11",
    needs=(DELAYS,),
    waits=True,
    why="A retry that comes at once hammers what has just failed.",
)
def retry_waits(bench: Bench) -> None:
    ran: list[object] = []

    def first_fails(payload: object) -> None:
        ran.append(payload)
        if len(ran) == 1:
            raise Transient(after=timedelta(milliseconds=1500))

    with _manager(bench, {"t": first_fails}) as manager:
        bench.request(manager)
        _run_ready(bench, manager)
        due = bench.now() + timedelta(milliseconds=1500)
        bench.let_pass(timedelta(milliseconds=600))
        _run_ready(bench, manager)
        bench.equal(len(ran), 1, "attempts before the pause is over")
        bench.until(due + bench.slack)
        _run_ready(bench, manager)
    bench.equal(len(ran), 2, "attempts after the pause")


@case(
    "manager.snooze_is_no_attempt",
    "S21",
    "S10",
    needs=(ATTEMPTS,),
    waits=True,
    why="A handler that puts its job off must not run out of tries by that.",
)
def snooze_is_no_attempt(bench: Bench) -> None:
    attempts: list[int] = []

    @handler("t", max_attempts=2)
    def waits_for_it(payload: object, job: Any) -> None:
        attempts.append(job.attempt)
        if len(attempts) < 4:
            raise Snooze(timedelta(0))
        raise Transient(after=timedelta(0))

    with _manager(bench, {"t": waits_for_it}) as manager:
        bench.request(manager)
        _run_all(bench, manager, 6)
    bench.equal(attempts, [1, 1, 1, 1, 2], "attempts of three snoozes and two failures")


@case(
    "manager.snooze_waits",
    "S21",
    needs=(DELAYS,),
    waits=True,
    why="What is not there yet is not there a moment later.",
)
def snooze_waits(bench: Bench) -> None:
    ran: list[object] = []

    def first_snoozes(payload: object) -> None:
        ran.append(payload)
        if len(ran) == 1:
            raise Snooze(timedelta(milliseconds=1500))

    with _manager(bench, {"t": first_snoozes}) as manager:
        bench.request(manager)
        _run_ready(bench, manager)
        due = bench.now() + timedelta(milliseconds=1500)
        bench.let_pass(timedelta(milliseconds=600))
        _run_ready(bench, manager)
        bench.equal(len(ran), 1, "deliveries before the snooze is over")
        bench.until(due + bench.slack)
        _run_ready(bench, manager)
    bench.equal(len(ran), 2, "deliveries after the snooze")


@case(
    "manager.snooze_past_expiration",
    "S21",
    "S5",
    waits=True,
    why="A job that can only come back when it is too late must end now, and its requester hear of it.",
)
def snooze_past_expiration(bench: Bench) -> None:
    ran: list[object] = []

    def snoozes(payload: object) -> None:
        ran.append(payload)
        raise Snooze(timedelta(hours=1))

    with _manager(bench, {"t": snoozes}) as manager:
        bench.request(manager, expiration=timedelta(minutes=1))
        results = _run_ready(bench, manager)
        bench.equal([result.reason for result in results], [Reason.EXPIRED], "how it ended")
        bench.let_pass(bench.slack)
        _run_ready(bench, manager)
    bench.equal(len(ran), 1, "deliveries")


@case("manager.callback_once", "S15", waits=True, why="A requester who is called twice acts twice.")
def callback_once(bench: Bench) -> None:
    seen: list[JobResult] = []
    tries: list[object] = []

    def first_fails(payload: object) -> str:
        tries.append(payload)
        if len(tries) == 1:
            raise Transient(after=timedelta(0))
        return "done"

    with _manager(bench, {"t": first_fails}, seen) as manager:
        bench.request(manager, callback="test:me")
        _run_all(bench, manager, 2)
    bench.equal([result.value for result in seen], ["done"], "values that the callback was called with")
    bench.equal(len(tries), 2, "attempts")
