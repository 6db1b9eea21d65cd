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
    """The payload of `demo.flaky`."""

    #: How often the service fails before it recovers.
    failures: int


@handler("demo.flaky")
def flaky(outage: Outage, job: JobContext) -> str:
    """Fail as often as the payload says, then succeed: a service that recovers."""
    if job.attempt <= outage.failures:
        raise Transient("the service does not answer yet")
    return "the service is back"


class Watch:
    """A plugin: offers the handlers of the demo, and counts how its jobs end. Thread-safe."""

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
        """Count one settlement; called by all slots, each in its own thread."""
        job_type = result.request.type if result.request is not None else "(undecodable)"
        with self._lock:
            if isinstance(settlement, Rollback):
                self.retried[job_type] += 1
            elif isinstance(settlement, Bury):
                self.buried.append((result.id, job_type, settlement.reason, settlement.message))
            elif result.reason is Reason.EXPIRED:
                self.expired[job_type] += 1
            else:
                self.done[job_type] += 1
                if job_type == "report.derive":
                    self.reports.append(result.value)
