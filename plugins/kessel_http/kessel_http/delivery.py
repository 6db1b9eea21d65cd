"""What `[kessel.http]` makes for one application: the handler of the jobs of type `kessel.http` (S23).

A job has a target, the name of an endpoint or a URL, and an outcome; it is done when the target has taken
the outcome. Here, and nowhere else, is decided what an answer means for the job and for the endpoint.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from kessel_core import (
    AdapterError,
    Fatal,
    InvalidConfig,
    JobContext,
    JobResult,
    JsonValue,
    Problem,
    Snooze,
    Transient,
    handler,
    hookimpl,
)
from kessel_core.hooks import SectionContext, WorkerInfo, get_logger
from kessel_http import states
from kessel_http.body import encoded
from kessel_http.options import HttpOptions
from kessel_http.schedule import ATTEMPTS, asked_pause, pause_after
from kessel_http.signing import Secret, header_id, read_secret, signed_headers
from kessel_http.urls import Url, admits, read_url

if TYPE_CHECKING:
    from kessel_http.connecting import Network
    from kessel_http.exchange import Answer

__all__ = ["TYPE", "Delivery", "Endpoint", "HttpCallbacks"]

log = get_logger("kessel.http")

#: The type of the jobs that send outcomes.
TYPE: Final = "kessel.http"

#: The pause until a job comes again that could not learn how its endpoint does.
_STORE_AWAY: Final = timedelta(seconds=5)

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


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a delivery goes."""

    #: Under which its state is kept.
    key: str
    #: For messages: its name, or the place of its URL; never a path or a query.
    label: str
    #: Where it is.
    url: Url
    #: Each signs.
    secrets: tuple[Secret, ...]
    #: Whether any address is allowed.
    internal: bool


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
        self._environ = os.environ if environ is None else environ
        self._given_network = network
        self._draw = draw
        if context.runs_jobs:
            self._check_secrets()

    def _check_secrets(self) -> None:
        found: list[Problem] = []
        for name in (None, *self.options.endpoints):
            try:
                self._secrets(name)
            except InvalidConfig as exc:
                found += exc.problems
        if found:
            raise InvalidConfig(found)

    def _secrets(self, name: str | None) -> tuple[Secret, ...]:
        """Return the secrets of an endpoint or, for None, those of the section."""
        texts = self.options.secrets if name is None else self.options.endpoints[name].secrets
        where = () if name is None else ("endpoints", name)
        secrets: list[Secret] = []
        problems: list[Problem] = []
        for index, text in enumerate(texts):
            try:
                secrets.append(read_secret(text, self._environ))
            except ValueError as exc:
                problems.append(Problem((*where, "secrets", index), str(exc)))
        if problems:
            raise InvalidConfig(problems)
        return tuple(secrets)

    # --- endpoints ---------------------------------------------------------------------------

    @cached_property
    def endpoint_states(self) -> states.EndpointStates:
        """How endpoints do; known to all workers of the store, or to this process where there is none."""
        store = self._context.store()
        return states.MemoryStates() if store is None else states.StoreStates(store)

    def named(self, name: str) -> Endpoint | None:
        """Return an endpoint of the configuration, or None.

        Raises:
            InvalidConfig: One of its secrets is not usable.
        """
        options = self.options.endpoints.get(name)
        if options is None:
            return None
        return Endpoint(
            key=name,
            label=f"endpoint {name!r}",
            url=read_url(options.url),
            secrets=self._secrets(name),
            internal=options.internal,
        )

    def key_of(self, target: str) -> str:
        """Return the key of the state of a target; that of a URL hides its path, which may be secret."""
        return f"url:{sha256(target.encode()).hexdigest()[:32]}" if "://" in target else target

    def _endpoint(self, target: str) -> Endpoint:
        """Return where a job goes.

        Raises:
            Fatal: Nowhere, as it is configured now.
        """
        if "://" not in target:
            found = self.named(target)
            if found is None:
                known = ", ".join(sorted(self.options.endpoints)) or "none"
                text = f"no endpoint {target[:64]!r} in [kessel.http.endpoints]; known: {known}"
                raise Fatal(f"{text}; add it, then kick this job")
            return found
        try:
            url = read_url(target)
        except ValueError as exc:
            raise Fatal(f"the URL cannot be used: it {exc}") from None
        if not admits(self.options.allow, url):
            raise Fatal(f"the host {url.host} is not in [kessel.http] allow; add it, then kick this job")
        if url.scheme == "http" and not self.options.plain_http:
            raise Fatal(f"{url.place} is not https, and [kessel.http] plain_http is not set")
        if url.port not in self.options.ports:
            raise Fatal(f"the port of {url.place} is not in [kessel.http] ports")
        return Endpoint(
            key=self.key_of(target),
            label=url.place,
            url=url,
            secrets=self._secrets(None),
            internal=False,
        )

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
            log.warning(
                "there is no store, so what is known of endpoints is kept in this process only: "
                'set store, for example store = "sqlite:///kessel-store.db"'
            )

    @handler(TYPE, max_attempts=ATTEMPTS)
    def deliver(self, delivery: Delivery, job: JobContext) -> JsonValue:
        """Send an outcome to its target; return the status of the answer.

        Raises:
            Transient: It was not taken; it is tried again at the times of the standard.
            Snooze: The endpoint rests.
            Fatal: It cannot be delivered, or the endpoint is gone.
        """
        from kessel_http.connecting import RefusedAddress  # ssl and http.client load with them
        from kessel_http.exchange import NotAnswered

        endpoint = self._endpoint(delivery.target)
        known = self._admit(endpoint, job)
        try:
            answer = self.send(endpoint, header_id(job.id), encoded(delivery.outcome), job.clock.now())
        except NotAnswered as exc:
            self._fail(endpoint, job, str(exc))
        except RefusedAddress as exc:
            if endpoint.url.address is not None:
                raise Fatal(f"{endpoint.label} cannot be used: {exc}") from None
            self._fail(endpoint, job, str(exc))
        if answer.status == 410:
            self._disable(endpoint, job)
        if not 200 <= answer.status < 300:
            self._fail(endpoint, job, _described(answer), asked_pause(answer.retry_after, job.clock.now()))
        if known != states.FRESH:
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
            RefusedAddress, NotAnswered: As `exchange.post`.
        """
        from kessel_http.exchange import post

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
        from kessel_http.connecting import Network

        return self._given_network or Network()

    # --- how the endpoint does ---------------------------------------------------------------

    def _admit(self, endpoint: Endpoint, job: JobContext) -> states.EndpointState:
        """Return what is known of an endpoint that this job may ask now.

        Raises:
            Snooze: It rests, or nobody knows.
            Fatal: It is disabled.
        """
        now = job.clock.now()

        def ask(state: states.EndpointState) -> states.EndpointState:
            if state.disabled_at is not None:
                since = state.disabled_at.isoformat(timespec="seconds")
                raise Fatal(
                    f"{endpoint.label} is disabled since {since}, because it answered 410; "
                    "`kessel endpoints enable` it, then kick this job"
                )
            pause = states.pause_before(state, job.id, now)
            if pause is not None:
                # Later by up to a fifth, so that those who wait do not all come at once.
                rests = f"{endpoint.label} rests after {state.failures} failures in a row"
                raise Snooze(pause * (1 + 0.2 * self._draw()), rests)
            return states.admitted(state, job.id, now, 2 * self.options.timeout)

        try:
            return states.change(self.endpoint_states, endpoint.key, ask)
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
