"""The contract between kessel and a queue, written for whoever publishes `kessel-adapter-x`.

The core encodes and decodes; an adapter carries bytes plus id, queue, priority, delay and
expiration. It declares what it can do as `Capabilities` *with values*; each value is a claim
that the conformance suite proves, and what is not declared is refused by name (S17).

Rules for every method below:

1.  Adapters raise only the `AdapterError` tree and `CapabilityMissing`, translated at one edge,
    `from exc`. Any surprise on a connection discards that connection.
2.  Times are aware datetimes, spans are timedeltas, both from the clock in `AdapterContext`;
    an adapter that declares `virtual_clock` never reads another clock and never sleeps for real.
3.  Producer calls and operations are safe for any thread. A `Consumer` belongs to one slot, that
    is to one thread; only `extend` and `cancel` may be called by another one meanwhile.
4.  A duration is rounded *up* to the declared granularity: late is allowed, early never (S4).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueError,
    InvalidConfig,
    Problem,
)

__all__ = [
    "COMMIT",
    "NO_PAUSE",
    "AdapterContext",
    "AdapterSpec",
    "Attempts",
    "Bury",
    "Capabilities",
    "Commit",
    "Consumer",
    "DoctorContext",
    "Durability",
    "Finding",
    "JobState",
    "LeaseReturn",
    "Level",
    "Message",
    "QueueAdapter",
    "QueueStats",
    "Reach",
    "Reservation",
    "Rollback",
    "Settlement",
    "StoredJob",
    "TieBreak",
    "queue_name_problem",
    "url_options",
]

NO_PAUSE: Final = timedelta(0)

# One rule for all adapters: what beanstalkd accepts (protocol text, "tube names"), so that a
# name that works on one adapter works on the next. What begins with `kessel.` is kept for what an
# adapter holds beside the jobs, such as the reasons of burials.
_RESERVED: Final = "kessel."
_QUEUE_NAME: Final = re.compile(r"(?!kessel\.)[A-Za-z0-9+/;.$_()][A-Za-z0-9\-+/;.$_()]{0,199}")


def queue_name_problem(name: object) -> str | None:
    """Return what is wrong with a queue name, or None if it is usable on every adapter."""
    if not isinstance(name, str):
        return f"expected text, got {type(name).__name__}"
    if _QUEUE_NAME.fullmatch(name) is not None:
        return None
    if name.startswith(_RESERVED):
        return f"{name[:60]!r} must not start with {_RESERVED!r}, which is kept for adapters"
    return f"{name[:60]!r} must be 1 to 200 of A-Z a-z 0-9 - + / ; . $ _ ( ) and not start with '-'"


# --- capabilities --------------------------------------------------------------------------


class Reach(StrEnum):
    """Who can see the jobs of an adapter."""

    #: Only the process that opened it.
    PROCESS = "process"
    #: Every process of one machine.
    HOST = "host"
    #: Every machine that reaches the server.
    NETWORK = "network"


class Durability(StrEnum):
    """What an acknowledged job survives."""

    #: Not even the end of this process.
    NONE = "none"
    #: The death of any process, the backend's included.
    PROCESS_CRASH = "process-crash"
    #: Loss of power.
    POWER = "power"


class TieBreak(StrEnum):
    """The order of ready jobs of equal priority (S6)."""

    #: In the order of enqueueing for ever: a job that was delayed, rolled back or kicked takes
    #: its old place, ahead of younger ones.
    ENQUEUED = "enqueued"
    #: In the order of becoming ready: such a job goes behind those that were ready before it.
    READY = "ready"


class LeaseReturn(StrEnum):
    """When the jobs of a dead worker come back."""

    #: As soon as the backend sees that the worker is gone.
    AT_ONCE = "at-once"
    #: When the lease is over.
    LEASE_END = "lease-end"


class Attempts(StrEnum):
    """What keeps the number of deliveries of a job (S10)."""

    #: Lost when the backend's process ends.
    SERVER = "server"
    #: As durable as the job.
    DURABLE = "durable"


@attrs.frozen(kw_only=True)
class Capabilities:
    """What an adapter declares. A value of None, False or 'none' means: not declared."""

    #: Who can see the jobs.
    reach: Reach
    #: What an acknowledged enqueue survives (S9).
    durability: Durability = Durability.NONE
    #: Delays are kept, rounded up to this; None: no delays at all (S4).
    delay_granularity: timedelta | None = None
    #: Longest delay; None: no limit of its own.
    longest_delay: timedelta | None = None
    #: Lowest and highest priority number that is kept apart; None: priorities are not kept (S3, S6).
    priorities: tuple[int, int] | None = None
    #: Order among equals; None: no order is promised (S6).
    tie_break: TieBreak | None = None
    #: Longest body in bytes; None: no limit of its own (S2).
    max_body_bytes: int | None = None
    #: Length of a lease; None: a reservation never runs out while the process lives (S7).
    lease: timedelta | None = None
    #: When a dead worker's jobs come back; None: with the process, they are gone (S9).
    lease_return: LeaseReturn | None = None
    #: A settle with an old reservation is refused by the backend itself, not only locally (S7).
    fencing: bool = False
    #: What keeps the number of deliveries; None: nothing (S10).
    attempts: Attempts | None = None
    #: Enqueueing an id again while its job is still held stores nothing and returns normally.
    dedupe: bool = False
    #: Buried jobs can be listed with their reasons, kicked and deleted (S8).
    buried: bool = False
    #: `stats` counts exactly.
    counts: bool = False
    #: `peek` shows jobs by state without reserving them.
    peek: bool = False
    #: A waiting job can be deleted by its id.
    delete: bool = False
    #: A queue can be paused.
    pause: bool = False
    #: Takes all time from the given clock, and offers `next_change` (S18).
    virtual_clock: bool = False
    #: `reserve` with a timeout is woken by a job that becomes ready, it does not poll.
    blocking_reserve: bool = False
    #: Keeps the results of finished jobs, given as `Commit.result`.
    results: bool = False

    def declared(self) -> tuple[str, ...]:
        """Return the names of what is declared, in the order of the fields."""
        return tuple(
            field.name
            for field in attrs.fields(type(self))
            if getattr(self, field.name) not in (None, False, Durability.NONE)
        )


# --- what travels --------------------------------------------------------------------------


@attrs.frozen
class Message:
    """A job as an adapter carries it; everything but `body` is for the adapter's own use."""

    #: The job's id, unique; text of at most 200 characters.
    id: str
    #: Name of the queue; already checked by `queue_name_problem`.
    queue: str
    #: The encoded request; not longer than the declared `max_body_bytes`.
    body: bytes
    #: 0 (most urgent) to 4294967295.
    priority: int
    #: Not to be delivered before; aware; None: at once.
    delay: datetime | None = None
    #: Not to be started after; aware; None: never expires. The core checks it, an adapter may.
    expiration: datetime | None = None


@attrs.define(eq=False)
class Reservation:
    """One delivery of one job to one slot; made by the adapter, meaningless after its settle.

    Adapters may subclass it to keep what they need (`attrs.define(eq=False)` again).
    """

    #: How the adapter names the job, for logs: the job's own id wherever it knows it.
    id: str | None
    #: The queue that it came from.
    queue: str
    #: The body as it was enqueued.
    body: bytes
    #: Deliveries so far, this one included, as far as known without asking the backend (S10).
    attempt: int
    #: End of the lease on the clock's monotonic scale, counted from *before* the reserve was
    #: sent and moved on by `extend`; None: no end.
    deadline: float | None = None


@attrs.frozen
class Commit:
    """Remove the job (S8)."""

    #: The encoded result, given only to adapters that declare `results`.
    result: bytes | None = None


@attrs.frozen
class Rollback:
    """Make the job ready again after a pause, with its own priority (S8)."""

    #: Zero or more; rounded up to the adapter's granularity.
    pause: timedelta = NO_PAUSE


@attrs.frozen
class Bury:
    """Set the job aside until it is kicked or deleted (S8)."""

    #: Machine-readable, as `JobResult.reason`.
    reason: str
    #: For people; at most some thousand characters.
    message: str = ""


Settlement = Commit | Rollback | Bury

#: The settlement of the ordinary job, made once.
COMMIT: Final = Commit()


class JobState(StrEnum):
    """Where a stored job is."""

    #: Waits for a worker.
    READY = "ready"
    #: Waits for its delay, or for the pause before a retry.
    DELAYED = "delayed"
    #: A worker holds it.
    RESERVED = "reserved"
    #: Set aside until it is kicked or deleted.
    BURIED = "buried"


@attrs.frozen(kw_only=True)
class StoredJob:
    """A job as an operator sees it; None means that the adapter does not know."""

    #: What `kick` and `delete` take: the job's own id wherever the adapter knows it.
    id: str
    #: The queue that it is in.
    queue: str
    #: Where it is now.
    state: JobState
    #: The stored body, as it was enqueued.
    body: bytes
    #: 0 (most urgent) to 4294967295.
    priority: int | None = None
    #: Deliveries so far.
    attempt: int | None = None
    #: When it was enqueued.
    enqueued_at: datetime | None = None
    #: When a delayed job becomes ready, or a reserved job's lease ends.
    due: datetime | None = None
    #: Why it was buried, as `JobResult.reason`.
    reason: str | None = None
    #: The failure's text.
    message: str | None = None
    #: When it was buried.
    buried_at: datetime | None = None


@attrs.frozen(kw_only=True)
class QueueStats:
    """How many jobs a queue holds, by state."""

    #: Its name.
    queue: str
    #: Jobs that wait for a worker.
    ready: int = 0
    #: Jobs whose delay or pause is not over.
    delayed: int = 0
    #: Jobs that a worker holds.
    reserved: int = 0
    #: Jobs that were set aside.
    buried: int = 0
    #: Rest of a pause; None: not paused.
    paused: timedelta | None = None

    @property
    def total(self) -> int:
        """All jobs that the queue holds."""
        return self.ready + self.delayed + self.reserved + self.buried


# --- doctor --------------------------------------------------------------------------------


class Level(StrEnum):
    """How bad a finding of `kessel doctor` is."""

    #: As it should be.
    OK = "ok"
    #: Works, but somebody should look.
    WARNING = "warning"
    #: Does not work.
    ERROR = "error"


@attrs.frozen
class Finding:
    """One line of `kessel doctor`: what was looked at, what was found, what to do."""

    #: How bad it is.
    level: Level
    #: What was looked at, two or three words.
    subject: str
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    advice: str = ""


@attrs.frozen(kw_only=True)
class DoctorContext:
    """What `QueueAdapter.doctor` may compare its findings with."""

    #: Queues that the configuration names.
    queues: tuple[str, ...]
    #: Types that this application has handlers for.
    types: frozenset[str]
    #: How long a stopping worker waits for its running jobs.
    grace: timedelta


# --- the parts of an adapter ---------------------------------------------------------------


class Consumer(ABC):
    """The consuming side for one slot.

    Made by `QueueAdapter.consumer`; all methods but `extend` and `cancel` are called by one
    thread only. It holds at most one reservation at a time.
    """

    @abstractmethod
    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Take the next ready job of the queues and hold it for one lease.

        Among ready jobs the lowest priority number goes first, equals by the declared tie_break
        (S6). Nothing is delivered before its delay (S4); every delivery counts as an attempt (S10).

        Args:
            timeout: Longest wait, zero or more. An adapter may wait up to its granularity longer.

        Returns:
            The reservation; None when nothing became ready in time or after `cancel`.

        Raises:
            AdapterUnavailable: The connection is gone; calling again reconnects.
            ProtocolError: What answers is not the expected backend.
        """

    @abstractmethod
    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation: commit, rollback or bury (S8).

        The job's own priority is kept by rollback and bury.

        Raises:
            LeaseLost: The lease ran out, or the connection that held it was lost. Nothing was
                settled, except that after a connection lost in mid-call a commit may have been done.
            AdapterUnavailable: The backend cannot be asked now, and the lease still holds;
                calling again is right.
            AdapterError: The backend refused.
        """

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle, and take the next job if one is ready at once, without waiting.

        An adapter may do both in one round trip or one transaction. The default does one after
        the other.

        Returns:
            The next reservation, or None. A failure to reserve after a good settle returns None:
            the next `reserve` reports it.

        Raises:
            As `settle`; then nothing was reserved.
        """
        self.settle(reservation, settlement)
        try:
            return self.reserve(NO_PAUSE)
        except AdapterError:
            return None

    @abstractmethod
    def extend(self, reservation: Reservation) -> None:
        """Renew the lease to its full length from now, and move `reservation.deadline` on.

        The one call, beside `cancel`, that another thread may make, also while the slot's thread
        settles; it never interferes with that settle.

        Raises:
            LeaseLost: The lease has ended, or the job was settled meanwhile.
            AdapterUnavailable: Could not ask; the lease goes on until its deadline.
        """

    def attempt(self, reservation: Reservation) -> int:
        """Return the exact number of deliveries, this one included; may ask the backend (S10).

        Called only when the job did not end well. The default trusts `reservation.attempt`.

        Raises:
            AdapterError: Could not ask; the caller goes on with `reservation.attempt`.
        """
        return reservation.attempt

    @abstractmethod
    def cancel(self) -> None:
        """Make a waiting `reserve` return None soon, and later ones at once. For any thread.

        A held reservation is not touched: settle and extend go on working. Idempotent.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up the consumer and its connection. Idempotent.

        A reservation that is still held comes back as the adapter's `lease_return` says; an
        adapter that can should give it back at once.
        """


class QueueAdapter(ABC):
    """A queue: producer side, consumers, operations.

    Subclasses set `name` and give `capabilities`; methods whose capability is not declared need
    no code, the defaults refuse by name (S17).
    """

    #: As in `AdapterSpec.name`; used in every error.
    name: ClassVar[str]

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this open adapter can do; constant while it is open."""

    # producer side

    @abstractmethod
    def enqueue(self, message: Message) -> None:
        """Store one job; returning means stored, within the declared durability (S9, S14).

        Raises:
            EnqueueRejected: Surely not stored: too large, draining, full, out of range.
            EnqueueUnknown: May be stored: the connection was lost after sending.
            AdapterUnavailable: Surely not stored: nothing could be sent.
        """

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Store many jobs, in order; one outcome each, None for stored.

        Real adapters do better than this loop: one transaction, or pipelined. Once the backend
        cannot be reached the rest is not tried.

        Returns:
            One entry a message: None, or the error that `enqueue` would have raised.
        """
        outcomes: list[AdapterError | None] = []
        down: AdapterUnavailable | None = None
        for message in messages:
            if down is not None:
                outcomes.append(down)
                continue
            try:
                self.enqueue(message)
            except AdapterUnavailable as exc:
                down = exc
                outcomes.append(exc)
            except EnqueueError as exc:
                outcomes.append(exc)
            else:
                outcomes.append(None)
        return outcomes

    # consuming side

    @abstractmethod
    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Make the consuming side for one slot, over these queues (at least one).

        Connects late: an unreachable backend shows at the first `reserve`.
        """

    # operations

    @abstractmethod
    def queues(self) -> list[str]:
        """Return the names of the queues that exist, sorted."""

    @abstractmethod
    def stats(self, queue: str) -> QueueStats:
        """Count the jobs of a queue by state; a queue that does not exist counts zero."""

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show up to `limit` jobs in that state, next one first, without reserving them."""
        raise CapabilityMissing("peek", self.name)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """List up to `limit` buried jobs with their reasons, oldest burial first."""
        raise CapabilityMissing("buried", self.name)

    def kick(self, queue: str, job_id: str) -> None:
        """Make one *buried* job ready again, with its own priority; delayed jobs are not touched.

        Its attempts start anew, so that it gets its full number of tries.

        Raises:
            UnknownJob: No buried job of that id.
        """
        raise CapabilityMissing("buried", self.name)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is ready, delayed or buried; a reserved one is its worker's.

        Raises:
            UnknownJob: No such job, or it is reserved.
        """
        raise CapabilityMissing("delete", self.name)

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove every job that is ready, delayed or buried; return how many were removed."""

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration` (rounded up); zero resumes at once."""
        raise CapabilityMissing("pause", self.name)

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when time alone next makes a job ready (delay, pause or lease over), or None."""
        raise CapabilityMissing("virtual_clock", self.name)

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Look at the backend and say what is wrong with it, and what to do.

        The default only checks that it answers. Raises nothing: what fails is a finding.
        """
        try:
            total = sum(self.stats(queue).total for queue in context.queues)
        except AdapterError as exc:
            return [Finding(Level.ERROR, "reachable", str(exc), "check the address, and that it runs")]
        return [Finding(Level.OK, "reachable", f"{total} jobs in {', '.join(context.queues)}")]

    @abstractmethod
    def close(self) -> None:
        """Give up all connections and threads. Idempotent; consumers are closed by their slots."""


# --- how an adapter is found and opened ----------------------------------------------------


@attrs.frozen(kw_only=True)
class AdapterContext:
    """What the application gives to an adapter when it opens."""

    #: The application's clock (S18).
    clock: Clock


@attrs.frozen(kw_only=True, eq=False)
class AdapterSpec:
    """What a plugin's `kessel_adapters` hook returns; cheap to make, it loads no client library.

    Example:
        >>> @attrs.frozen
        ... class Options:
        ...     host: str = "localhost"
        >>> def open_foo(options, context):
        ...     from kessel_adapter_foo.adapter import FooAdapter  # loads here, not at discovery
        ...
        ...     return FooAdapter(options, context)
        >>> spec = AdapterSpec(name="foo", schemes=("foo",), options=Options, open=open_foo)
    """

    #: Name in configurations and errors.
    name: str
    #: URL schemes that it opens, without `://`.
    schemes: tuple[str, ...]
    #: attrs class of the options; unknown names and wrong types are refused together.
    options: type
    #: Makes the adapter; may connect, and then raises `AdapterUnavailable` or `ProtocolError`.
    open: Callable[[Any, AdapterContext], QueueAdapter]
    #: Turns a split URL into option values (texts are converted by the type of the option).
    from_url: Callable[[SplitResult], Mapping[str, Any]] = attrs.field(factory=lambda: url_options)
    #: One line for `kessel adapters`.
    summary: str = ""


def url_options(url: SplitResult) -> dict[str, Any]:
    """Read options from a URL: host, port, username, password, path and the query.

    Only parts that are present appear. `path` is unquoted and keeps its leading slash.

    Raises:
        InvalidConfig: The port is no number from 1 to 65535, a query key is there twice, or the URL goes
            on with a `#`, which would be cut off.
    """
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for part in ("hostname", "username", "password"):
        value = getattr(url, part)
        if value is not None:
            found["host" if part == "hostname" else part] = unquote(value)
    try:
        port = url.port
        if port == 0:
            raise ValueError
    except ValueError:
        shown = url.netloc.rsplit("@")[-1].rsplit(":")[-1]
        problems.append(Problem("port", f"expected a number from 1 to 65535, got {shown!r}"))
    else:
        if port is not None:
            found["port"] = port
    if url.path not in ("", "/"):
        found["path"] = unquote(url.path)
    for key, text in parse_qsl(url.query, keep_blank_values=True):
        if key in found:
            problems.append(Problem(key, "is given twice"))
        found[key] = text
    if url.fragment:
        problems.append(Problem("#", "has no meaning here; write %23 where a name has one"))
    if problems:
        raise InvalidConfig(problems, f"invalid adapter URL {redacted(url)!r}")
    return found


def redacted(url: str | SplitResult) -> str:
    """Return the URL with its password, and query values that look secret, replaced by `***`."""
    parts = urlsplit(url) if isinstance(url, str) else url
    netloc = parts.netloc
    userinfo, at, host = netloc.rpartition("@")
    if at and ":" in userinfo:
        netloc = f"{userinfo.partition(':')[0]}:***@{host}"
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*", r"\1***", parts.query)
    if isinstance(url, SplitResult) or "://" in url:
        # By hand: urlunsplit drops the empty host of `sqlite:///jobs.db`.
        return f"{parts.scheme}://{netloc}{parts.path}" + (f"?{query}" if query else "")
    return parts._replace(netloc=netloc, query=query).geturl()
