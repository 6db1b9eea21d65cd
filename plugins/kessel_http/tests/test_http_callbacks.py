"""S22 and S23 together: a request names an endpoint, and the endpoint is told how its job ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kessel_sqlite import plugin as sqlite_plugin

from kessel_core import AdapterUnavailable, Fatal, JobResult, Status, Transient, handler
from kessel_core.contract import Finding, Level
from kessel_core.testing import VirtualClock, run_until_idle

from .conftest import NEW, Application, Receiver, endpoint

Connect = Callable[..., Application]


@handler("report")
def report(rows: int) -> object:
    if rows < 0:
        raise Fatal("nothing to report")
    return {"rows": "x" * rows}


@handler("busy", max_attempts=2)
def busy(payload: object) -> None:
    raise Transient("busy")


@pytest.fixture(params=["memory", "sqlite"])
def app(request: Any, application: Connect, receiver: Receiver, tmp_path: Path) -> Application:
    adapter = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    more = {"sqlite": sqlite_plugin}
    return application(
        endpoint(receiver), adapter=adapter, extra=more, handlers=[report, busy], clock=VirtualClock()
    )


def told(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(got.body) for got in receiver.received]


def test_s22_s23_success_burial_and_expiration_are_told_once_each(
    app: Application, receiver: Receiver
) -> None:
    jobs = [
        app.manager.request("report", 3, ref="A-17", callback="http:billing"),
        app.manager.request("report", -1, callback="http:billing"),
        app.manager.request("report", 1, callback="http:billing", delay=timedelta(hours=2), queue="late"),
        app.manager.request("busy", callback="http:billing"),
    ]
    expiring = app.manager.request(
        "report", 1, callback="http:billing", expiration=timedelta(seconds=1), queue="e"
    )
    app.clock.advance(timedelta(seconds=2))
    run_until_idle(app.manager)
    events = {event["data"]["id"]: event for event in told(receiver)}
    assert len(receiver.received) == 5
    assert events.keys() == {job.id for job in (*jobs, expiring)}
    kinds = [(events[job.id]["type"], events[job.id]["data"]["reason"]) for job in (*jobs, expiring)]
    assert kinds == [
        ("job.succeeded", None),
        ("job.failed", "error"),
        ("job.succeeded", None),
        ("job.failed", "retries-exhausted"),
        ("job.failed", "expired"),
    ]
    first = events[jobs[0].id]
    assert (first["data"]["ref"], first["data"]["value"]) == ("A-17", {"rows": "xxx"})
    assert first["timestamp"] == first["data"]["finished_at"]
    assert events[jobs[1].id]["data"]["message"] == "nothing to report"
    assert all(UUID(got.headers["webhook-id"]) for got in receiver.received)


def test_s23_a_delivery_that_fails_is_retried_and_does_not_touch_the_job(
    app: Application, receiver: Receiver
) -> None:
    receiver.answer(500, 500, 204)
    app.manager.request("report", 1, callback="http:billing")
    results = run_until_idle(app.manager)
    ended: list[JobResult] = [result for result in results if result.status is Status.SUCCESS]
    assert [result.request.type for result in ended if result.request is not None] == [
        "report",
        "kessel.http",
    ]
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len(receiver.received) == 3


def test_s23_a_large_value_is_left_out_and_the_rest_is_told(app: Application, receiver: Receiver) -> None:
    app.manager.request("report", 30_000, callback="http:billing")
    run_until_idle(app.manager)
    (event,) = told(receiver)
    assert event["data"]["value_omitted"] is True
    assert "value" not in event["data"]
    assert event["data"]["status"] == "success"


def test_s23_a_value_that_was_too_large_for_the_queue_is_left_out_as_well(
    application: Connect, receiver: Receiver
) -> None:
    small = application(endpoint(receiver), adapter="memory://?max_body_bytes=1500", handlers=[report])
    small.manager.request("report", 1400, callback="http:billing")
    run_until_idle(small.manager)
    (event,) = told(receiver)
    assert event["data"]["value_omitted"] is True
    assert "value" not in event["data"]


def test_s23_an_endpoint_that_nobody_knows_buries_the_callback_and_not_the_job(
    app: Application, receiver: Receiver
) -> None:
    app.manager.request("report", 1, callback="http:biling")
    first, second = run_until_idle(app.manager)
    assert (first.status, second.status) == (Status.SUCCESS, Status.FAILED)
    assert "no endpoint 'biling'" in second.message
    assert receiver.received == []


def test_s24_a_url_of_a_request_that_is_not_allowed_is_told_nothing(
    app: Application, receiver: Receiver
) -> None:
    app.manager.request("report", 1, callback=f"http://127.0.0.1:{receiver.port}/")
    _, second = run_until_idle(app.manager)
    assert "the host 127.0.0.1 is not in [kessel.http] allow" in second.message
    assert receiver.received == []


# --- the doctor -------------------------------------------------------------------------------------------


def findings(app: Application) -> list[Finding]:
    return [*app.http.kessel_doctor()]


def test_the_doctor_finds_endpoints_that_are_disabled_or_rest(
    application: Connect, receiver: Receiver
) -> None:
    section = endpoint(receiver)
    section["endpoints"]["stock"] = section["endpoints"]["billing"]
    app = application(section, handlers=[report])
    (found,) = findings(app)
    assert (found.level, found.detail) == (Level.OK, "2, none is disabled or rests")
    receiver.answer(410, 500)
    app.manager.request("report", 1, callback="http:billing")
    for _ in range(5):
        app.manager.request("report", 1, callback="http:stock")
    run_until_idle(app.manager, queues=["default"], limit=timedelta(hours=100))
    first, second = findings(app)
    place = f"http://127.0.0.1:{receiver.port}"
    assert (first.level, first.subject) == (Level.WARNING, "endpoint billing")
    assert first.detail.startswith(f"{place} disabled since 2026-01-05T09:00:0")
    assert first.advice == "mend what is there, then `kessel endpoints enable billing`"
    assert second.subject == "endpoint stock"
    assert "times in a row, rests until" in second.detail


def test_the_doctor_says_nothing_where_nothing_is_configured(application: Connect) -> None:
    assert findings(application({})) == []


def test_the_doctor_says_that_there_is_no_store_or_that_it_is_away(
    application: Connect, receiver: Receiver
) -> None:
    app = application({"allow": ["hooks.example.org"], "secrets": [NEW]})

    class Away:
        def all(self) -> Any:
            raise AdapterUnavailable("no answer")

    app.http.endpoint_states = Away()  # type: ignore[assignment]  # as much of it as is asked
    (found,) = findings(app)
    assert (found.level, found.detail) == (Level.ERROR, "it is not known how they do: no answer")
    app.http._context = type(app.http._context)(clock=app.clock, runs_jobs=True, store=lambda: None)
    (found,) = findings(app)
    assert found.level is Level.WARNING
    assert "kept in each process only" in found.detail
    assert "set store" in found.advice
