"""S23: what becomes of a job of type `kessel.http`, and what its endpoint gets."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_http import states
from kessel_http.delivery import TYPE
from standardwebhooks.webhooks import Webhook

from kessel_core import AdapterUnavailable, JobRequest, JobResult, Reason, Snooze, Status, SystemClock
from kessel_core.contract import Store
from kessel_core.testing import NeverIdle, run_until_idle

from .conftest import NEW, OLD, TLS, Application, Receiver, endpoint, payload

Connect = Callable[..., Application]
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
WEEK = timedelta(days=7)
#: When the attempts of the standard are made, after the first one.
TIMES = [
    timedelta(seconds=5),
    5 * MINUTE + timedelta(seconds=5),
    35 * MINUTE + timedelta(seconds=5),
    *(hours * HOUR + 35 * MINUTE + timedelta(seconds=5) for hours in (2, 7, 17, 31, 51, 75)),
]


def run(app: Application, target: str = "billing", **outcome: Any) -> list[JobResult]:
    """Request one delivery and run it to its end, on virtual time."""
    app.manager.request(TYPE, payload(target, **outcome))
    return run_until_idle(app.manager, limit=WEEK)


def endings(results: list[JobResult]) -> list[tuple[str, str]]:
    return [(str(result.status), result.message) for result in results]


# --- what is sent -----------------------------------------------------------------------------------------


def test_s23_an_outcome_is_sent_signed_with_the_id_of_the_callback_job(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver), clock=SystemClock())
    job = app.manager.request(TYPE, payload())
    assert app.manager.worker().drain() == {"success": 1}
    (got,) = receiver.received
    assert got.path == "/hooks?from=kessel"
    assert got.headers["webhook-id"] == job.id
    event = Webhook(NEW).verify(got.body, dict(got.headers))
    assert event == {
        "type": "job.succeeded",
        "timestamp": "2026-01-05T09:00:01Z",
        "data": payload()["outcome"],
    }


def test_s23_two_hundred_deliveries_are_verified_with_both_secrets_of_a_rotation(
    application: Connect, receiver: Receiver
) -> None:
    section = endpoint(receiver, secrets=["env:BILLING_NEW", "env:BILLING_OLD"])
    environ = {"BILLING_NEW": NEW, "BILLING_OLD": OLD}
    app = application(section, clock=SystemClock(), environ=environ)
    wanted = [
        payload(value=n, message="\u00fc" * n, status="failed" if n % 3 else "success") for n in range(200)
    ]
    jobs = app.manager.request_many([(TYPE, one) for one in wanted])
    assert app.manager.worker(slots=4).drain() == {"success": 200}
    for secret in (NEW, OLD):
        events = {
            got.headers["webhook-id"]: Webhook(secret).verify(got.body, dict(got.headers))["data"]
            for got in receiver.received
        }
        assert events == {job.id: one["outcome"] for job, one in zip(jobs, wanted, strict=True)}
    assert len(receiver.received) == 200


def test_s23_the_id_and_the_body_are_the_same_at_every_attempt_and_the_timestamp_is_its_own(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    receiver.answer(500)
    start = app.clock.now()
    run(app)
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    sent = [datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC) for got in receiver.received]
    assert sent == [(start + after).replace(microsecond=0) for after in (timedelta(0), *TIMES)]
    assert len({got.headers["webhook-signature"] for got in receiver.received}) == 10


def test_s23_an_id_with_a_dot_is_sent_as_one_without(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver))
    app.manager.request(JobRequest(type=TYPE, payload=payload(), id="a.b"))
    run_until_idle(app.manager)
    assert len(receiver.received[0].headers["webhook-id"]) == 36


def test_s23_a_url_of_a_request_is_sent_to_if_its_host_is_allowed(
    application: Connect, secure_receiver: Receiver, client_tls: ssl.SSLContext
) -> None:
    port = secure_receiver.port
    app = application(
        {"allow": ["*.example.org"], "secrets": [OLD], "ports": [port]},
        clock=SystemClock(),
        tls=client_tls,
        resolve=lambda name, port: [(socket.AF_INET, ("127.0.0.1", port))],
        refused=lambda address: None,
    )
    app.manager.request(TYPE, payload(f"https://hooks.example.org:{port}/a?b=c"))
    assert app.manager.worker().drain() == {"success": 1}
    (got,) = secure_receiver.received
    assert (got.path, got.headers["Host"]) == ("/a?b=c", f"hooks.example.org:{port}")
    Webhook(OLD).verify(got.body, dict(got.headers))


# --- how a job ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 299])
def test_s23_2xx_is_a_success(application: Connect, receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    (result,) = run(application(endpoint(receiver)))
    assert (result.status, result.value) == (Status.SUCCESS, {"status": status})


@pytest.mark.parametrize(
    "status", [300, 301, 302, 307, 400, 401, 404, 409, 411, 429, 500, 502, 503, 504, 599]
)
def test_s23_everything_else_is_tried_again(application: Connect, receiver: Receiver, status: int) -> None:
    receiver.answer(status, 204)
    first, second = run(application(endpoint(receiver)))
    redirected = ", and redirects are not followed" if status < 400 else ""
    assert endings([first]) == [("failed-transient", f"endpoint 'billing': answered {status}{redirected}")]
    assert second.status is Status.SUCCESS


def test_s23_a_connection_that_fails_is_tried_again_and_buried_after_ten_attempts(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    receiver.close_listener()
    results = run(app)
    assert [result.status for result in results] == [Status.TRANSIENT] * 9 + [Status.FAILED]
    assert results[-1].reason is Reason.RETRIES_EXHAUSTED
    assert "refused" in results[-1].message.lower()
    assert app.manager.adapter.stats("default").buried == 1


@pytest.mark.parametrize("drawn", [0.0, 0.3, 0.999])
def test_s23_the_attempts_are_made_at_the_times_of_the_standard_within_a_fifth(
    application: Connect, receiver: Receiver, drawn: float
) -> None:
    app = application(endpoint(receiver), draw=lambda: drawn)
    receiver.answer(503)
    start = app.clock.now()
    results = run(app)
    made = [result.started_at - start for result in results if result.started_at is not None]
    assert made[0] == timedelta(0)
    assert len(made) == 10
    for after, wanted in zip(made[1:], TIMES, strict=True):
        assert after == pytest.approx(wanted * (0.8 + 0.4 * drawn), abs=timedelta(milliseconds=1))
        assert 0.8 * wanted <= after <= 1.2 * wanted


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("90", timedelta(seconds=90)),
        ("1", timedelta(seconds=5)),
        ("Mon, 05 Jan 2026 09:02:00 GMT", 2 * MINUTE - timedelta(milliseconds=250)),
        ("999999", 24 * HOUR),
        ("9999999999", 24 * HOUR),
        ("soon", timedelta(seconds=5)),
    ],
)
def test_s23_a_later_retry_after_is_kept_up_to_a_day(
    application: Connect, receiver: Receiver, header: str, pause: timedelta
) -> None:
    app = application(endpoint(receiver))
    receiver.answers = [(503, {"Retry-After": header}), (500, {}), (204, {})]
    start = app.clock.now()
    _, second, third = run(app)
    assert second.started_at is not None
    assert second.started_at - start == pause
    assert third.started_at is not None
    assert third.started_at - second.started_at == 5 * MINUTE, "it was asked for once"
    assert third.ok


def test_s23_410_is_final_and_disables_the_endpoint(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver))
    receiver.answer(410)
    (first,) = run(app)
    (second,) = run(app)
    assert [first.status, second.status] == [Status.FAILED, Status.FAILED]
    assert "410: it is gone, and disabled from now on" in first.message
    assert "is disabled since 2026-01-05T09:00:00" in second.message
    assert "kessel endpoints enable" in second.message
    assert len(receiver.received) == 1, "the second job connects to nothing"
    assert app.manager.adapter.stats("default").buried == 2


def test_s23_a_disabled_endpoint_stands_for_itself_alone(application: Connect, receiver: Receiver) -> None:
    section = endpoint(receiver)
    section["endpoints"]["other"] = section["endpoints"]["billing"]
    app = application(section)
    receiver.answer(410, 204)
    assert not run(app)[0].ok
    assert run(app, "other")[0].ok


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("biling", "no endpoint 'biling' in [kessel.http.endpoints]; known: billing"),
        ("", "no endpoint ''"),
        ("https://", "the URL cannot be used"),
        ("https://user:hush@hooks.example.org/", "the URL cannot be used: it must not hold a user"),
        ("https://hooks.example.com/hush", "hooks.example.com is not in [kessel.http] allow"),
        ("http://hooks.example.org/hush", "http://hooks.example.org is not https"),
        ("https://hooks.example.org:22/hush", "the port of https://hooks.example.org:22 is not in"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://127.0.0.1/hush", "https://127.0.0.1 cannot be used: 127.0.0.1 is refused: loopback"),
        ("ftp://hooks.example.org/", "the scheme must be https or http"),
    ],
)
def test_s24_a_target_that_cannot_be_used_is_buried_at_once_and_named_without_its_path(
    application: Connect, receiver: Receiver, target: str, why: str
) -> None:
    section = endpoint(receiver) | {"allow": ["hooks.example.org", "127.0.0.1"], "secrets": [NEW]}
    (result,) = run(application(section, resolve=_nothing_is_looked_up), target)
    assert result.status is Status.FAILED
    assert why in result.message
    assert "hush" not in result.message
    assert receiver.received == []


def _nothing_is_looked_up(name: str, port: int) -> Any:
    raise AssertionError(name)


def test_s24_plain_http_and_other_ports_are_options(application: Connect, receiver: Receiver) -> None:
    section = {"allow": ["127.0.0.1"], "secrets": [NEW], "ports": [receiver.port], "plain_http": True}
    app = application(section, refused=lambda address: None)
    assert run(app, f"http://127.0.0.1:{receiver.port}/")[0].ok


def test_s24_a_name_that_leads_into_a_private_network_is_tried_again_and_never_connected_to(
    application: Connect, receiver: Receiver
) -> None:
    section = {"allow": ["hooks.example.org"], "secrets": [NEW], "ports": [receiver.port]}
    resolve = lambda name, port: [(socket.AF_INET, ("127.0.0.1", port))]  # noqa: E731
    results = run(application(section, resolve=resolve), f"https://hooks.example.org:{receiver.port}/")
    assert len(results) == 10
    assert "hooks.example.org leads to 127.0.0.1, which is refused: loopback" in results[-1].message
    assert receiver.received == []


def test_s24_a_named_endpoint_is_guarded_unless_it_is_internal(
    application: Connect, receiver: Receiver
) -> None:
    url = f"https://hooks.example.org:{receiver.port}/"
    section = {"endpoints": {"billing": {"url": url, "secrets": [NEW]}}}
    resolve = lambda name, port: [(socket.AF_INET, ("127.0.0.1", port))]  # noqa: E731
    results = run(application(section, resolve=resolve))
    assert "leads to 127.0.0.1, which is refused: loopback" in results[-1].message
    assert receiver.received == []


@pytest.mark.parametrize(
    "wrong", [None, {}, {"target": "billing"}, {"target": 1, "outcome": {"status": "x"}}]
)
def test_s23_a_job_without_target_or_outcome_is_a_bad_payload(
    application: Connect, receiver: Receiver, wrong: Any
) -> None:
    app = application(endpoint(receiver))
    app.manager.request(TYPE, wrong)
    (result,) = run_until_idle(app.manager)
    assert result.reason is Reason.BAD_PAYLOAD


def test_s23_an_outcome_without_a_status_is_a_bad_payload(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver))
    app.manager.request(TYPE, {"target": "billing", "outcome": {"id": "1"}})
    (result,) = run_until_idle(app.manager)
    assert (result.reason, "needs a status" in result.message) == (Reason.BAD_PAYLOAD, True)


def test_without_any_configuration_jobs_are_buried_with_what_to_do(application: Connect) -> None:
    (result,) = run(application({}))
    assert "no endpoint 'billing' in [kessel.http.endpoints]; known: none" in result.message


def test_the_pauses_of_other_types_are_not_changed(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver))
    job = attrs.make_class("J", ["type", "attempt"])("other", 3)
    assert app.http.kessel_retry_pause(job, JobResult(id="", request=None, status=Status.TRANSIENT)) is None


# --- an endpoint that fails ---------------------------------------------------------------------------------


def test_s23_an_endpoint_that_failed_five_times_in_a_row_is_asked_once_per_pause(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    receiver.answer(500)
    app.manager.request_many([(TYPE, payload())] * 20)
    start = app.clock.now()
    with pytest.raises(NeverIdle):
        run_until_idle(app.manager, limit=62 * MINUTE)
    sent = [int(got.headers["webhook-timestamp"]) - int(start.timestamp()) for got in receiver.received]
    # Five at once; then after 1, 2, 4, 8, 16 minutes, and what the draw of 0.5 adds to a wait.
    assert sent[:5] == [0] * 5
    gaps = [after - before for before, after in itertools.pairwise(sent[4:])]
    assert len(gaps) == 5
    for gap, minutes in zip(gaps, (1, 2, 4, 8, 16), strict=True):
        assert 60 * minutes <= gap <= 60 * minutes * 1.2 + 1


def test_s23_jobs_that_wait_for_an_endpoint_use_up_no_attempt_and_are_delivered_when_it_answers(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    receiver.answer(*[500] * 9, 204)
    app.manager.request_many([(TYPE, payload())] * 20)
    results = run_until_idle(app.manager, limit=WEEK)
    ended = [result for result in results if result.status is Status.SUCCESS]
    assert len(ended) == 20
    assert sum(result.attempt - 1 for result in ended) == 9, "the failures, and no wait"
    assert sum(result.status is Status.SNOOZED for result in results) > 20
    assert len(receiver.received) == 9 + 20
    assert app.http.endpoint_states.read("billing")[0] == states.FRESH


def test_s23_one_job_at_a_time_asks_an_endpoint_that_rests(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver))
    now = app.clock.now()
    state = states.EndpointState(failures=5, rests_until=now)
    app.http.endpoint_states.write("billing", states.admitted(state, "another", now, MINUTE), 0)
    first, second = run(app)
    assert first.status is Status.SNOOZED
    assert "rests after 5 failures in a row" in first.message
    assert second.started_at == now + MINUTE * 1.1
    assert second.ok


def test_s23_the_job_that_asks_is_noted_before_it_asks_and_for_longer_than_a_call_lasts(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    now, seen = app.clock.now(), []
    app.http.endpoint_states.write("billing", states.EndpointState(failures=5, rests_until=now), 0)
    receiver.before = lambda: seen.append(app.http.endpoint_states.read("billing")[0])
    (result,) = run(app)
    assert [state.asked_by for state in seen] == [result.id]
    assert [state.asked_until for state in seen] == [now + 2 * app.http.options.timeout]


def test_s23_four_failures_and_a_success_make_no_endpoint_rest(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    receiver.answer(500, 500, 500, 500, 204, 500, 500, 500, 500, 204)
    results = run(app) + run(app)
    assert [result.status for result in results] == ([Status.TRANSIENT] * 4 + [Status.SUCCESS]) * 2


def test_s23_an_endpoint_whose_last_answer_is_a_success_does_not_rest(
    application: Connect, receiver: Receiver
) -> None:
    """Others failed after this one was let through."""
    app = application(endpoint(receiver))
    rests = states.EndpointState(failures=5, rests_until=app.clock.now() + MINUTE)
    receiver.before = lambda: app.http.endpoint_states.write("billing", rests, 0)
    (result,) = run(app)
    assert result.ok
    assert app.http.endpoint_states.read("billing")[0] == states.FRESH


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _no_descriptor(*arguments: Any) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("target", "name", "lacks", "why"),
    [
        (threading.Thread, "start", _no_thread, "can't start new thread"),
        (socket.socket, "connect", _no_descriptor, "Too many open files"),
    ],
)
def test_s23_a_worker_without_threads_or_descriptors_tries_again_and_blames_no_endpoint(
    application: Connect, receiver: Receiver, target: Any, name: str, lacks: Any, why: str
) -> None:
    app = application(endpoint(receiver, url=f"http://localhost:{receiver.port}/"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, lacks)
        results = [app.manager.process_single_job(TYPE, payload()) for _ in range(6)]
    assert endings(results) == [("failed-transient", f"endpoint 'billing' was not called: {why}")] * 6
    assert app.http.endpoint_states.read("billing")[0] == states.FRESH
    assert run(app)[0].ok


def test_s24_certificates_are_read_when_a_worker_starts(
    application: Connect, secure_receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python says nothing of a file that cannot be opened later, and would trust nobody from then on."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    url = f"https://localhost:{secure_receiver.port}/"
    app = application(endpoint(secure_receiver, url=url), network=None, clock=SystemClock())
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "gone.pem"))
    assert app.manager.process_single_job(TYPE, payload()).ok


def test_s23_a_wait_that_would_end_after_the_expiration_ends_the_job(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    state = states.EndpointState(failures=5, rests_until=app.clock.now() + HOUR)
    app.http.endpoint_states.write("billing", state, 0)
    app.manager.request(TYPE, payload(), expiration=MINUTE)
    (result,) = run_until_idle(app.manager)
    assert result.reason is Reason.EXPIRED


def test_s23_the_state_of_a_url_is_its_own_and_kept_without_its_path(
    application: Connect, receiver: Receiver
) -> None:
    section = {"allow": ["127.0.0.1"], "secrets": [NEW], "ports": [receiver.port], "plain_http": True}
    app = application(section, refused=lambda address: None)
    receiver.answer(410, 204)
    base = f"http://127.0.0.1:{receiver.port}"
    assert not run(app, f"{base}/hush/1")[0].ok
    assert run(app, f"{base}/hush/2")[0].ok
    ((key, state),) = app.http.endpoint_states.all()
    assert (key[:4], state.place) == ("url:", base)
    entries = app.manager.store.scan("http.endpoints")
    assert "hush" not in repr(entries)


# --- a store that is away, or none ------------------------------------------------------------------------


class Away(Store):
    """A store whose backend is away, from the n-th call on."""

    def __init__(self, inner: Store, works: int) -> None:
        self.inner, self.works = inner, works

    name = "away"
    capabilities = property(lambda self: self.inner.capabilities)  # type: ignore[assignment]

    def _call(self, method: str, *arguments: Any) -> Any:
        self.works -= 1
        if self.works < 0:
            raise AdapterUnavailable("the store is away")
        return getattr(self.inner, method)(*arguments)

    def get_entry(self, *arguments: Any) -> Any:
        return self._call("get_entry", *arguments)

    def put_entry(self, *arguments: Any) -> Any:
        return self._call("put_entry", *arguments)

    def delete_entry(self, *arguments: Any) -> Any:
        return self._call("delete_entry", *arguments)

    def scan_entries(self, *arguments: Any) -> Any:
        return self._call("scan_entries", *arguments)


def test_a_job_that_cannot_learn_how_its_endpoint_does_comes_again_without_using_up_an_attempt(
    application: Connect, receiver: Receiver
) -> None:
    app = application(endpoint(receiver))
    app.http.endpoint_states = states.StoreStates(Away(app.manager.store, 0))
    app.manager.request(TYPE, payload(), expiration=timedelta(seconds=12))
    results = run_until_idle(app.manager)
    assert [str(result.status) for result in results] == ["snoozed", "snoozed", "failed"]
    assert "it is not known how endpoint 'billing' does" in results[0].message
    assert receiver.received == []


@pytest.mark.parametrize(("status", "ended"), [(204, "success"), (500, "failed-transient"), (410, "failed")])
def test_a_store_that_goes_away_meanwhile_changes_nothing_about_the_job(
    application: Connect, receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int, ended: str
) -> None:
    app = application(endpoint(receiver))
    state = states.EndpointState(failures=1)
    states.StoreStates(app.manager.store).write("billing", state, 0)
    app.http.endpoint_states = states.StoreStates(Away(app.manager.store, 1))
    receiver.answer(status)
    with caplog.at_level(logging.WARNING, "kessel.http"):
        result = app.manager.process_single_job(TYPE, payload())
    assert str(result.status) == ended
    assert "how it does could not be kept: the store is away" in caplog.text


def test_without_a_store_states_are_kept_in_the_process_and_a_worker_says_so(
    application: Connect, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(endpoint(receiver), clock=SystemClock())
    app.http._context = attrs.evolve(app.http._context, store=lambda: None)
    receiver.answer(410)
    with caplog.at_level(logging.WARNING, "kessel.http"):
        app.manager.request_many([(TYPE, payload())] * 2)
        assert app.manager.worker().drain() == {"failed": 2}
    assert len(receiver.received) == 1
    assert isinstance(app.http.endpoint_states, states.MemoryStates)
    assert "kept in each process only" in caplog.text
    assert 'set store, for example store = "sqlite:///kessel-store.db"' in caplog.text


def test_with_a_store_a_worker_says_nothing(
    application: Connect, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(endpoint(receiver), clock=SystemClock())
    with caplog.at_level(logging.WARNING, "kessel.http"):
        app.manager.worker().drain()
    assert caplog.records == []


# --- threads ------------------------------------------------------------------------------------------------


def test_many_slots_deliver_at_once(application: Connect, receiver: Receiver) -> None:
    app = application(endpoint(receiver), clock=SystemClock())
    app.manager.request_many([(TYPE, payload(value=n)) for n in range(60)])
    assert app.manager.worker(slots=8).drain() == {"success": 60}
    assert sorted(json.loads(got.body)["data"]["value"] for got in receiver.received) == list(range(60))
    assert not [thread for thread in threading.enumerate() if thread.name == "kessel-http-look-up"]


def test_a_snooze_is_a_little_longer_than_the_rest_so_that_not_all_come_at_once(
    application: Connect, receiver: Receiver
) -> None:
    drawn = iter([0.0, 0.999])
    app = application(endpoint(receiver), draw=lambda: next(drawn))
    now = app.clock.now()
    app.http.endpoint_states.write("billing", states.EndpointState(failures=5, rests_until=now + MINUTE), 0)
    job: Any = attrs.make_class("J", ["id", "clock"])("1", app.clock)
    found = app.http.endpoints.named("billing")
    assert found is not None
    pauses = []
    for _ in range(2):
        with pytest.raises(Snooze) as error:
            app.http._admit(found, job)
        pauses.append(error.value.after)
    assert pauses[0] == MINUTE
    assert 1.19 * MINUTE < pauses[1] < 1.2 * MINUTE
