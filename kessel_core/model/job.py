"""The two nouns: a request as it is asked for, and a job as it is stored. Frozen, so thread-safe.

`model.checks` turns the first into the second; nothing else makes a job from what a caller wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from kessel_core.model.callbacks import is_function
from kessel_core.model.json import JsonInput, JsonValue
from kessel_core.model.readonly import EMPTY, read_only

__all__ = ["DEFAULT_PRIORITY", "DEFAULT_QUEUE", "LOWEST_PRIORITY", "Job", "JobRequest"]

DEFAULT_QUEUE: Final = "default"
#: The priority of a request that gives none (S3).
DEFAULT_PRIORITY: Final = 65536
#: The largest, least urgent priority number; beanstalkd's 2**32 - 1 (S3).
LOWEST_PRIORITY: Final = 4294967295


@attrs.frozen(kw_only=True)
class JobRequest:
    """A request to run the handler of `type` with `payload`, as its caller writes it.

    Everything but `type` is optional; times may be spans from the moment of the request, and the
    callback may be a function. Nothing is checked until the manager accepts it (S1).
    """

    #: Key of the handler; surrounding whitespace is stripped (S1).
    type: str
    #: Any JSON value, or a typed object that can be written as one (S2).
    payload: JsonInput = None
    #: At most 200 characters, unique among the jobs in the queue; "": the manager generates a UUIDv7.
    id: str = ""
    #: The caller's own reference; kessel passes it on unchanged.
    ref: str | None = None
    #: 0 (most urgent) to 4294967295; values outside are clamped (S3); None: as declared for the type.
    priority: int | None = None
    #: Not started before (S4): an aware datetime, or a span from the moment of the request.
    delay: datetime | timedelta | None = None
    #: Not started at or after (S5): an aware datetime, or a span from the moment of the request.
    expiration: datetime | timedelta | None = None
    #: What to call with the result: `scheme:target` for a registered callback or, where the job runs
    #: in this process, a function of the result (S15).
    callback: str | Callable[[Any], object] | None = None
    #: Name of the queue; None: as declared for the type, else `default`.
    queue: str | None = None
    #: Strings for middleware, such as trace ids; copied, then read-only.
    headers: Mapping[str, str] = attrs.field(default=EMPTY, converter=read_only)
    #: Additional top-level keys of the stored body; copied, then read-only.
    extra: Mapping[str, JsonValue] = attrs.field(default=EMPTY, converter=read_only)


@attrs.frozen(kw_only=True, slots=False)  # without slots it is made in two thirds of the time, once a job
class Job:
    """A request as it is stored: checked, with its id and absolute times."""

    #: Key of the handler.
    type: str
    #: A JSON value; every delivery gets a fresh copy (S16).
    payload: JsonValue = None
    #: The job's id; "" if other software stored it without one.
    id: str = ""
    #: The caller's own reference.
    ref: str | None = None
    #: 0 (most urgent) to 4294967295.
    priority: int = DEFAULT_PRIORITY
    #: Not started before; aware, UTC; None: at once (S4). On the wire: `delay`.
    not_before: datetime | None = None
    #: Not started at or after; aware, UTC; None: never expires (S5). On the wire: `expiration`.
    expires_at: datetime | None = None
    #: `scheme:target` of a registered callback; of a function, which stays in the requester's process,
    #: `function:` and what it waits under there.
    callback: str | None = None
    #: Name of the queue.
    queue: str = DEFAULT_QUEUE
    #: Strings for middleware; read-only.
    headers: Mapping[str, str] = attrs.field(default=EMPTY, converter=read_only)
    #: When the manager accepted the request; aware; None if other software stored the job.
    requested_at: datetime | None = None
    #: Top-level keys of the stored body that kessel does not know, kept unchanged; read-only.
    extra: Mapping[str, JsonValue] = attrs.field(default=EMPTY, converter=read_only)

    def as_request(self) -> JobRequest:
        """Return the request that asks for this job again, with its id and its times.

        Without a callback that is a function: it waits for this job, and not for another one.
        """
        return JobRequest(
            type=self.type,
            payload=self.payload,
            id=self.id,
            ref=self.ref,
            priority=self.priority,
            delay=self.not_before,
            expiration=self.expires_at,
            callback=None if self.callback is None or is_function(self.callback) else self.callback,
            queue=self.queue,
            headers=self.headers,
            extra=self.extra,
        )
