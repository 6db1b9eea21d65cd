"""Every error that kessel raises, in one tree; leaves are chosen by what the catcher will do.

`KesselError` is what callers catch; `HandlerSignal` is what handlers raise on purpose.
Each error keeps its data as attributes, so that no caller has to parse a message.
Longer than 350 lines, because whoever catches errors should see the whole tree at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Self

import attrs

from kessel_core.clock import plain_span

__all__ = [
    "AdapterError",
    "AdapterUnavailable",
    "CapabilityMissing",
    "ConfigError",
    "DecodeError",
    "DescriptorsLost",
    "EnqueueError",
    "EnqueueIncomplete",
    "EnqueueRejected",
    "EnqueueUnknown",
    "Fatal",
    "HandlerSignal",
    "IdHeld",
    "InvalidConfig",
    "InvalidRequest",
    "JobFailed",
    "KesselError",
    "LeaseLost",
    "PluginClash",
    "PluginError",
    "Problem",
    "ProtocolError",
    "RequestError",
    "Snooze",
    "ResultPending",
    "ResultTimeout",
    "ResultUnknown",
    "StoreConflict",
    "StoreError",
    "StoreRejected",
    "StoreUnknown",
    "StructureProblems",
    "Transient",
    "UnknownJob",
    "UnusablePlugin",
]


@attrs.frozen
class Problem:
    """One mistake: where it is, and what is wrong with it."""

    #: The path to the value, part by part: from the root `$` of a request, as in
    #: `("$", "payload", "operands", 1)`, or through sections to an option, as in `("worker", "slots")`.
    #: Empty where `origin` alone identifies the value, such as a variable that sets one option.
    where: tuple[str | int, ...] = attrs.field(validator=attrs.validators.instance_of(tuple))
    #: What is wrong there, in a form meant for people.
    message: str
    #: Where the value came from: a file, a variable, an argument, a URL; empty where that is obvious.
    origin: str = ""

    @property
    def path(self) -> str:
        """The path as people write it: `$.payload.operands[1]`, `worker.slots`."""
        return path_text(self.where)

    def under(self, *where: str | int) -> Self:
        """Return the same problem with these parts put before its path."""
        return attrs.evolve(self, where=(*where, *self.where))

    def given_by(self, origin: str, parts: int = 0) -> Self:
        """Return the same problem with the origin of its value added.

        Args:
            origin: A file, a variable, an argument; put before an origin that is already known, such as
                a URL that stands in a file.
            parts: How many leading parts of the path the origin replaces.
        """
        both = ": ".join(filter(None, (origin, self.origin)))
        return attrs.evolve(self, where=self.where[parts:], origin=both)

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.origin, self.path, self.message)))


def path_text(where: Sequence[str | int]) -> str:
    """Format a path: names joined by dots; numbers, and names that need quotes, in brackets."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not text:
            text = part
        else:
            text += f".{part}" if part.isidentifier() else f"[{part!r}]"
    return text


class UnusablePlugin(Problem):
    """A configuration mistake: it names something that no usable plugin offers (D4)."""


@attrs.frozen
class PluginClash(UnusablePlugin):
    """A configuration mistake: several plugins offer the same name, and nothing says which is meant."""

    #: The plugins that offer it, each with its distribution.
    owners: tuple[str, ...] = ()
    #: What to write to resolve it, in a form meant for people.
    advice: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, (super().__str__(), self.advice)))


#: The most mistakes that an error keeps; the others are only counted.
MOST_PROBLEMS: Final = 100


def _kept(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Limit the number of problems, so that a body full of mistakes does not take twice the memory."""
    if len(problems) <= MOST_PROBLEMS:
        return tuple(problems)
    return (*problems[:MOST_PROBLEMS], Problem((), f"... and {len(problems) - MOST_PROBLEMS:,} more"))


def _listed(headline: str, problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return f"{headline}: {problems[0]}"
    lines = "\n".join(f"  - {problem}" for problem in _kept(problems))
    return f"{headline}, {len(problems):,} problems:\n{lines}"


def _recreated(cls: type[BaseException], args: tuple[object, ...]) -> BaseException:
    """Create an error without `__init__`, whose parameters are not what is kept in `args`."""
    error = cls.__new__(cls)
    error.args = args
    return error


class _Portable(Exception):
    """An error that can be pickled and copied, whatever the parameters of its `__init__`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _recreated, (type(self), self.args), self.__dict__


class KesselError(_Portable):
    """The root of everything that kessel itself raises; each can be pickled and copied."""


# --- the caller's mistake, at request time ---------------------------------------------


class RequestError(KesselError):
    """A request cannot be accepted; nothing was sent."""


class InvalidRequest(RequestError):
    """A request breaks S1-S3 or S5; `problems` holds every mistake with its path, at most a hundred."""

    def __init__(self, problems: Sequence[Problem], headline: str = "invalid request") -> None:
        self.problems = _kept(problems)
        super().__init__(_listed(headline, problems))


# --- at start: configuration, plugins, capabilities ------------------------------------


class ConfigError(KesselError):
    """The application cannot start as configured."""


class InvalidConfig(ConfigError):
    """Options are wrong; `problems` holds every mistake with its origin."""

    def __init__(self, problems: Sequence[Problem], headline: str = "invalid configuration") -> None:
        self.problems = _kept(problems)
        super().__init__(_listed(headline, problems))


class PluginError(ConfigError):
    """A plugin that the configuration names is not usable.

    `plugin` is the entry point's name, `distribution` the distribution at fault (or None).
    """

    def __init__(self, plugin: str, why: str, distribution: str | None = None) -> None:
        self.plugin = plugin
        self.distribution = distribution
        self.why = why
        owner = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin {plugin!r}{owner} is not usable: {why}")


class CapabilityMissing(ConfigError):
    """The adapter does not declare what was asked for (S17); nothing was approximated.

    `capability` is the name of a field of `Capabilities` or of a facet, `adapter` the adapter's name.
    """

    def __init__(self, capability: str, adapter: str, why: str = "") -> None:
        self.capability = capability
        self.adapter = adapter
        self.why = why
        detail = f": {why}" if why else ""
        super().__init__(f"adapter {adapter!r} does not declare the capability {capability!r}{detail}")


# --- the queue ---------------------------------------------------------------------------


class AdapterError(KesselError):
    """Something went wrong between kessel and the queue."""


class AdapterUnavailable(AdapterError):
    """The backend cannot be reached, or the connection was lost; calling again reconnects.

    Raised by an enqueue only if nothing was sent, so the request is definitely not stored.
    """


class ProtocolError(AdapterError):
    """What answers is not the expected backend, is of another version, or refuses user or password."""


class EnqueueError(AdapterError):
    """An enqueue failed; the subclasses say what is known about the job (S14).

    `why` is the reason alone; the message puts what is known before it.
    """

    #: What is known about the job, for the message.
    _known: ClassVar[str] = "not enqueued"

    def __init__(self, job_id: str, why: str) -> None:
        self.job_id = job_id
        self.why = why
        super().__init__(f"job {job_id}: {self._known}, {why}")


class EnqueueRejected(EnqueueError):
    """The job is definitely not stored (S14).

    `reason` is for machines: `too-large`, `draining`, `full`, `read-only`, `out-of-range`, `refused`.
    """

    _known = "not stored"

    def __init__(self, job_id: str, why: str, reason: str = "refused") -> None:
        self.reason = reason
        super().__init__(job_id, why)


class EnqueueUnknown(EnqueueError):
    """The job may be stored: the connection was lost after sending (S14).

    Enqueueing the same request again keeps its id: where the adapter declares `dedupe`, it ends with `IdHeld`
    if the job is there; elsewhere it may lead to two deliveries.
    """

    _known = "may or may not be stored"


class IdHeld(EnqueueError):
    """The queue holds a job with this id already, so nothing was stored (S14).

    After an `EnqueueUnknown` that is good news: the first try was stored. Raised where the adapter declares
    `dedupe`. `state` is the state of the job that holds the id: `ready`, `delayed`, `reserved` or `buried`.
    """

    _known = "not stored again"

    def __init__(self, job_id: str, state: str) -> None:
        self.state = state
        advice = "; kick or delete that job first" if state == "buried" else ""
        super().__init__(job_id, f"its id is held by a {state} job{advice}")


class EnqueueIncomplete(AdapterError):
    """Some of many requests were not stored; each job is listed under exactly one outcome (S14).

    Attributes:
        stored: Ids of the jobs that were acknowledged.
        rejected: Id -> `EnqueueRejected`, `AdapterUnavailable` or `ProtocolError`: definitely not stored.
        unknown: Id -> `EnqueueUnknown`: may be stored.
        held: Id -> `IdHeld`: the queue holds a job with that id already.
    """

    def __init__(
        self,
        stored: Sequence[str],
        rejected: dict[str, AdapterError],
        unknown: dict[str, AdapterError],
        held: dict[str, IdHeld],
    ) -> None:
        self.stored = tuple(stored)
        self.rejected = rejected
        self.unknown = unknown
        self.held = held
        lines = [str(error) for error in (*rejected.values(), *unknown.values(), *held.values())]
        shown = "\n".join(f"  - {line}" for line in lines[:20])
        more = f"\n  ... and {len(lines) - 20} more" if len(lines) > 20 else ""
        super().__init__(
            f"{len(self.stored)} stored, {len(rejected)} not stored, {len(unknown)} unknown, "
            f"{len(held)} held already:\n{shown}{more}"
        )


class LeaseLost(AdapterError):
    """The reservation no longer holds its job; nothing was settled or extended (S7)."""

    def __init__(self, job_id: str | None, why: str) -> None:
        self.job_id = job_id
        self.why = why
        super().__init__(f"job {job_id or 'of unknown id'}: lease lost, {why}")


class UnknownJob(AdapterError):
    """The queue has no job with that id in a state that the operation can act on."""

    def __init__(self, job_id: str, queue: str) -> None:
        self.job_id = job_id
        self.queue = queue
        super().__init__(f"no job {job_id!r} in queue {queue!r} that this operation can act on")


class StoreError(AdapterError):
    """A store did not write or find what it was asked to; the subclasses say why (S19).

    `space` and `key` name the entry.
    """

    def __init__(self, space: str, key: str, text: str) -> None:
        self.space = space
        self.key = key
        super().__init__(text)


class StoreConflict(StoreError):
    """The entry is not at the version that was expected; nothing was changed.

    `version` is what is there, 0 if there is none; `value` and `expires_at` belong to it.
    """

    def __init__(
        self,
        space: str,
        key: str,
        version: int,
        value: bytes | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        self.version = version
        self.value = value
        self.expires_at = expires_at
        there = f"it has version {version}" if version else "there is none"
        super().__init__(space, key, f"entry {key!r} of {space!r} is not the expected one: {there}")


class StoreRejected(StoreError):
    """The store does not take this space, key or value; nothing was changed.

    `why` is the text alone; `reason` is `too-large`, `full`, `read-only` or `invalid`.
    """

    def __init__(self, space: str, key: str, why: str, *, reason: str = "invalid") -> None:
        self.why = why
        self.reason = reason
        super().__init__(space, key, f"the store does not take entry {key!r} of {space!r}: {why}")


class StoreUnknown(StoreError):
    """A write may have happened: the connection was lost after it was sent; read it to know."""

    def __init__(self, space: str, key: str, why: str) -> None:
        self.why = why
        super().__init__(space, key, f"entry {key!r} of {space!r} may have been written: {why}")


class JobFailed(KesselError):
    """A job whose outcome was asked for did not succeed.

    `outcome` is the `Outcome`, `job_id` and `why` are parts of it.
    """

    def __init__(self, job_id: str, why: str, outcome: Any = None) -> None:
        self.job_id = job_id
        self.why = why
        self.outcome = outcome
        super().__init__(f"job {job_id} failed: {why}")


class ResultUnknown(KesselError):
    """There is neither a result nor a job with this id (any more).

    `job_id` is the id.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id}: no result, and no job: it has ended and its result is not kept (results.keep),"
            " or it was never stored here"
        )


class ResultPending(KesselError):
    """The job has no result yet.

    `job_id` is the id, `state` the state of the job: `ready`, `delayed`, `reserved` or `buried`; None if the
    adapter cannot find a job by its id, so that it may not even be there. `progress` is what the job reported
    last, a `Progress`; None: nothing.
    """

    _known: ClassVar[str] = "no result yet"

    def __init__(self, job_id: str, state: str | None, progress: Any = None) -> None:
        self.job_id = job_id
        self.state = state
        self.progress = progress
        what = f"it is {state}" if state is not None else "whether it is there cannot be told here"
        if progress is not None:
            what += f"; progress: {progress}"
        super().__init__(f"job {job_id}: {self._known}; {what}")


class ResultTimeout(ResultPending):
    """The wait for a result is over, and the job still has none."""

    _known = "no result within the time to wait"


class DescriptorsLost(KesselError):
    """A job closed descriptors that databases and connections need, so its process has to end."""


class DecodeError(KesselError):
    """A stored body is not a request, or an entry not what it should be; `body` has its bytes unchanged.

    Never retried (S13).
    """

    def __init__(
        self, body: bytes, problems: Sequence[Problem], headline: str = "the body is not a job request"
    ) -> None:
        self.body = body
        self.problems = _kept(problems)
        super().__init__(_listed(headline, problems))


class StructureProblems(KesselError, ValueError):
    """A value does not fit its annotated type; `problems` holds every mistake with its path."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = _kept(problems)
        super().__init__("; ".join(map(str, self.problems)))


# --- raised by handlers on purpose -------------------------------------------------------


class HandlerSignal(_Portable):
    """What a handler raises to say how its attempt ends."""


def _checked_pause(after: timedelta) -> timedelta:
    if not isinstance(after, timedelta):
        raise TypeError(f"after: expected a timedelta, got {after!r:.40}")
    after = plain_span(after)
    if after < timedelta(0):
        raise ValueError("after must not be negative")
    return after


class Transient(HandlerSignal):
    """Ask for a retry, because the failure is temporary.

    Args:
        message: What happened, for the log and the result.
        after: Pause before the retry, zero or more; overrides the retry policy (S11).

    Raises:
        TypeError: `after` is not a timedelta.
        ValueError: `after` is negative.
    """

    #: None: the retry policy decides; so in a class derived from it whose `__init__` does not call this one.
    after: timedelta | None = None

    def __init__(self, message: str = "transient failure", *, after: timedelta | None = None) -> None:
        self.after = None if after is None else _checked_pause(after)
        super().__init__(message)


class Snooze(HandlerSignal):
    """Ask for the job again later; this delivery does not count as an attempt (S21).

    For what is not a failure: a shop that is closed, a quota that is used up. If the pause would reach
    the job's expiration, the job ends as expired at once.

    Args:
        after: Pause before the next delivery, zero or more.
        message: Why, for the log and the result.

    Raises:
        TypeError: `after` is not a timedelta.
        ValueError: `after` is negative.
    """

    #: None: as in `Transient`.
    after: timedelta | None = None

    def __init__(self, after: timedelta, message: str = "snoozed") -> None:
        self.after = _checked_pause(after)
        super().__init__(message)


class Fatal(HandlerSignal):
    """Ask for burial, because a retry cannot help.

    Args:
        message: What is wrong, for the log, the result and the listing of buried jobs.
    """

    def __init__(self, message: str = "fatal failure") -> None:
        super().__init__(message)
