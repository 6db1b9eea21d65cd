"""What `[kessel.http]` makes for one application: the handler of the jobs of type `kessel.http` (S23).

A job has a target, the name of an endpoint or a URL, and an outcome; it is done when the target has taken
the outcome. Here, and nowhere else, is decided what an answer means for the job and for the endpoint.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from kessel_core import (
    AdapterError,
    Fatal,
    JobContext,
    JobResult,
    JsonValue,
    Snooze,
    Transient,
    handler,
    hookimpl,
)
from kessel_core.contract import Finding, Level
from kessel_core.hooks import SectionContext, WorkerInfo, get_logger
from kessel_http import states
from kessel_http.body import encoded
from kessel_http.endpoints import Endpoint, Endpoints
from kessel_http.options import HttpOptions
from kessel_http.schedule import ATTEMPTS, asked_pause, pause_after
from kessel_http.signing import header_id, signed_headers

if TYPE_CHECKING:
    from kessel_http.connecting import Network
    from kessel_http.exchange import Answer

__all__ = ["TYPE", "Delivery", "HttpCallbacks"]

log = get_logger("kessel.http")

#: The type of the jobs that send outcomes.
TYPE: Final = "kessel.http"

#: The pause until a job comes again that could not learn how its endpoint does.
_STORE_AWAY: Final = timedelta(seconds=5)

#: What is wrong without a store, and what to do.
_ALONE: Final = "there is no store, so what is known of endpoints is kept in each process only"
_SET_STORE: Final = 'set store, for example store = "sqlite:///kessel-store.db"'

#: The pause that the answer to this attempt asked for; the retry policy is called in the same context.
_ASKED: ContextVar[timedelta | None] = ContextVar("kessel_http_asked", default=None)


def _known_status(instance: object, attribute: object, value: Mapping[str, JsonValue]) -> None:
    if not isinstance(value.get("status"), str):
        raise ValueError("needs a status, as the result of a job has one")


@attrs.frozen
class Delivery:
    """The payload of a job of type `kessel.http`."""

    #: The name of an endpoint, or a URL.
    target: str
    #: The fields of the job's result; see `body.FIELDS`.
    outcome: Mapping[str, JsonValue] = attrs.field(validator=_known_status)


class HttpCallbacks:
    """Sends outcomes to endpoints; one for an application, thread-safe.

    Args:
        options: The checked section.
        context: Of the application.
        environ: Where secrets are looked up; None: the environment of the process.
        network: Decides where connections go; None: names as the system looks them up, certificates as the
            system trusts them.
        draw: Returns numbers in [0, 1), for jitter.

    Raises:
        InvalidConfig: Secrets are missing in the environment; only where jobs run.
    """

    def __init__(
        self,
        options: HttpOptions,
        context: SectionContext,
        *,
        environ: Mapping[str, str] | None = None,
        network: Network | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self._context = context
        self.endpoints = Endpoints(options, os.environ if environ is None else environ)
        self._given_network = network
        self._draw = draw
        if context.runs_jobs:
            self.endpoints.check()
            if options.endpoints or options.allow:
                self._load()

    def _load(self) -> None:
        """Load what deliveries need, and read the certificates that the system trusts, while a worker starts.

        One that is out of descriptors can import nothing any more, and Python says nothing of a file of
        certificates that cannot be opened: the process would trust nobody as long as it lives.
        """
        import kessel_http.late  # noqa: F401

        self._network  # noqa: B018  # made now

    @cached_property
    def endpoint_states(self) -> states.EndpointStates:
        """How endpoints do; known to all workers of the store, or to this process where there is none."""
        store = self._context.store()
        return states.MemoryStates() if store is None else states.StoreStates(store)

    # --- the handler -------------------------------------------------------------------------

    @hookimpl
    def kessel_handlers(self) -> list[object]:
        """Offer the handler of `kessel.http`."""
        return [self.deliver]

    @hookimpl
    def kessel_retry_pause(self, job: JobContext, result: JobResult) -> timedelta | None:
        """Return the pause of the standard, or the longer one that the endpoint asked for."""
        return pause_after(job.attempt, self._draw, _ASKED.get()) if job.type == TYPE else None

    @hookimpl
    def kessel_worker_started(self, worker: WorkerInfo) -> None:
        """Warn where workers cannot tell each other how endpoints do."""
        if (self.options.endpoints or self.options.allow) and self._context.store() is None:
            log.warning("%s: %s", _ALONE, _SET_STORE)

    @hookimpl
    def kessel_doctor(self) -> Iterator[Finding]:
        """Warn of endpoints that are disabled or rest, and where no other worker hears of it."""
        if not self.options.endpoints and not self.options.allow:
            return
        if self._context.store() is None:
            yield Finding(Level.WARNING, "endpoints", _ALONE, _SET_STORE)
            return
        try:
            known = [*self.endpoint_states.all()]
        except AdapterError as exc:
            text = f"it is not known how they do: {exc}"
            yield Finding(Level.ERROR, "endpoints", text, "check the address of the store, and that it runs")
            return
        bad = [(key, state) for key, state in known if state.disabled_at or state.failures >= states.PATIENCE]
        for key, state in bad:
            advice = f"mend what is there, then `kessel endpoints enable {key}`"
            yield Finding(
                Level.WARNING, f"endpoint {key}", f"{state.place} {states.described(state)}", advice
            )
        if not bad:
            yield Finding(Level.OK, "endpoints", f"{len(self.options.endpoints)}, none is disabled or rests")

    @handler(TYPE, max_attempts=ATTEMPTS)
    def deliver(self, delivery: Delivery, job: JobContext) -> JsonValue:
        """Send an outcome to its target; return the status of the answer.

        Raises:
            Transient: It was not taken; it is tried again at the times of the standard.
            Snooze: The endpoint rests.
            Fatal: It cannot be delivered, or the endpoint is gone.
        """
        endpoint = self.endpoints.of(delivery.target)

        from kessel_http.late import NotAnswered, RefusedAddress, Unable

        self._admit(endpoint, job)
        try:
            answer = self.send(endpoint, header_id(job.id), encoded(delivery.outcome), job.clock.now())
        except NotAnswered as exc:
            self._fail(endpoint, job, str(exc))
        except Unable as exc:
            # Nothing is noted of the endpoint: a worker in trouble must not make it rest for all others.
            raise Transient(f"{endpoint.label} was not called: {exc}") from exc
        except RefusedAddress as exc:
            if endpoint.url.address is not None:
                raise Fatal(f"{endpoint.label} cannot be used: {exc}") from None
            self._fail(endpoint, job, str(exc))
        if answer.status == 410:
            self._disable(endpoint, job)
        if not 200 <= answer.status < 300:
            self._fail(endpoint, job, _described(answer), asked_pause(answer.retry_after, job.clock.now()))
        # Whatever was known before: others may have failed since, and this is the last answer.
        self._note(endpoint, states.worked)
        return {"status": answer.status}

    def send(self, endpoint: Endpoint, message_id: str, body: bytes, now: datetime) -> Answer:
        """Send a signed body, whatever is known of the endpoint.

        Args:
            endpoint: Where to.
            message_id: As `signing.header_id` gives it.
            body: JSON.
            now: The time of this attempt; aware.

        Raises:
            RefusedAddress, Unable, NotAnswered: As `exchange.post`.
        """
        from kessel_http.late import post

        return post(
            endpoint.url,
            signed_headers(message_id, int(now.timestamp()), body, endpoint.secrets),
            body,
            self._network,
            seconds=self.options.timeout.total_seconds(),
            internal=endpoint.internal,
        )

    @cached_property
    def _network(self) -> Network:
        from kessel_http.late import Network

        return self._given_network or Network()

    # --- how the endpoint does ---------------------------------------------------------------

    def _admit(self, endpoint: Endpoint, job: JobContext) -> None:
        """Let a job ask an endpoint now.

        Raises:
            Snooze: It rests, or nobody knows.
            Fatal: It is disabled.
        """
        now = job.clock.now()

        def ask(state: states.EndpointState) -> states.EndpointState:
            if state.disabled_at is not None:
                raise Fatal(
                    f"{endpoint.label} is disabled since {states.iso(state.disabled_at)}, "
                    "because it answered 410; "
                    "`kessel endpoints enable` it, then kick this job"
                )
            pause = states.pause_before(state, job.id, now)
            if pause is not None:
                # Later by up to a fifth, so that those who wait do not all come at once.
                rests = f"{endpoint.label} rests after {state.failures} failures in a row"
                raise Snooze(pause * (1 + 0.2 * self._draw()), rests)
            return states.admitted(state, job.id, now, 2 * self.options.timeout)

        try:
            states.change(self.endpoint_states, endpoint.key, ask)
        except AdapterError as exc:
            raise Snooze(_STORE_AWAY, f"it is not known how {endpoint.label} does: {exc}") from exc

    def _fail(
        self, endpoint: Endpoint, job: JobContext, why: str, asked: timedelta | None = None
    ) -> NoReturn:
        now = job.clock.now()
        self._note(endpoint, lambda state: states.failed(state, now, endpoint.url.place, why))
        _ASKED.set(asked)
        raise Transient(f"{endpoint.label}: {why}")

    def _disable(self, endpoint: Endpoint, job: JobContext) -> NoReturn:
        now = job.clock.now()
        self._note(endpoint, lambda state: states.disabled(now, endpoint.url.place))
        raise Fatal(f"{endpoint.label} answered 410: it is gone, and disabled from now on")

    def _note(
        self, endpoint: Endpoint, changed: Callable[[states.EndpointState], states.EndpointState]
    ) -> None:
        """Keep how an endpoint does; a store that is away does not change how this job ends."""
        try:
            states.change(self.endpoint_states, endpoint.key, changed)
        except AdapterError as exc:
            log.warning("%s: how it does could not be kept: %s", endpoint.label, exc)


def _described(answer: Answer) -> str:
    redirected = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
    return f"answered {answer.status}{redirected}"
