"""What `kessel demo` adds to the examples: a handler that fails for a while, and a count of what happened."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from kessel_core.errors import Transient
from kessel_core.handlers.context import JobContext
from kessel_core.handlers.declare import handler
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.json import JsonValue
from kessel_core.model.result import JobResult, Reason
from kessel_core.model.settlement import Bury, Rollback

if TYPE_CHECKING:
    from kessel_core.model.settlement import Settlement

__all__ = ["Watch"]


@attrs.frozen
class Outage:
    """What `demo.flaky` is asked to go through."""

    #: How often the service does not answer.
    failures: int


@handler("demo.flaky")
def flaky(outage: Outage, job: JobContext) -> str:
    """Fail as often as the payload says, then succeed: a service that comes back."""
    if job.attempt <= outage.failures:
        raise Transient("the service does not answer yet")
    return "the service is back"


class Watch:
    """A plugin: offers the demo's handlers, and counts what becomes of the jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.expired: Counter[str] = Counter()
        self.buried: list[tuple[str, str, str, str]] = []
        self.reports: list[JsonValue] = []

    @hookimpl
    def kessel_handlers(self) -> list[Any]:
        """Offer `demo.flaky`."""
        return [flaky]

    @hookimpl
    def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
        """Count one settlement; slots call it, each in its own thread."""
        kind = result.request.type if result.request is not None else "(undecodable)"
        with self._lock:
            if isinstance(settlement, Rollback):
                self.retried[kind] += 1
            elif isinstance(settlement, Bury):
                self.buried.append((result.id, kind, settlement.reason, settlement.message))
            elif result.reason is Reason.EXPIRED:
                self.expired[kind] += 1
            else:
                self.done[kind] += 1
                if kind == "report.derive":
                    self.reports.append(result.value)
