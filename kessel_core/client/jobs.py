"""From what a caller asks for to a job: its route, and its payload as JSON. Stores nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import InvalidRequest, Problem
from kessel_core.model.checks import job_from
from kessel_core.model.job import Job, JobRequest
from kessel_core.model.routes import NO_ROUTE, Route
from kessel_core.values.logs import get_logger
from kessel_core.values.payload_types import PayloadType
from kessel_core.values.raised import raised
from kessel_core.values.unstructuring import unstructured

__all__ = ["JobMaker"]

log = get_logger("kessel.worker")


@attrs.frozen(kw_only=True, eq=False)
class JobMaker:
    """Makes the jobs of an application; safe for any thread."""

    #: The application's clock.
    clock: Clock
    #: Type -> where its jobs go.
    routes: Mapping[str, Route] = attrs.field(factory=dict)
    #: How payloads of others' classes are written.
    payload_types: tuple[PayloadType, ...] = ()

    def job(self, request: JobRequest) -> Job:
        """Return the job that a request asks for.

        Raises:
            InvalidRequest: With every mistake at once (S1, S2, S5).
        """
        route = self.route_of(request.type)
        try:
            return job_from(request, self.clock.now(), route)
        except InvalidRequest:
            # Only here, so that payloads of plain JSON pay nothing for those that are not.
            payload = self.written(request.payload)
            if payload is request.payload:
                raise
            return job_from(attrs.evolve(request, payload=payload), self.clock.now(), route)

    def route_of(self, kind: object) -> Route:
        """Return where jobs of a type go."""
        return self.routes.get(kind.strip(), NO_ROUTE) if self.routes and isinstance(kind, str) else NO_ROUTE

    def report_unserved(self, queues: Sequence[str]) -> None:
        """Log where declared types go that a worker of these queues will not see; others may serve them."""
        unserved = sorted({route.queue for route in self.routes.values() if route.queue} - {*queues})
        if unserved:
            types = sorted(kind for kind, route in self.routes.items() if route.queue in unserved)
            log.info("worker: does not serve %s, where jobs of %s go", ", ".join(unserved), ", ".join(types))

    def written(self, payload: Any) -> Any:
        """Return a payload with every typed object in it as JSON; the very same if there is none.

        Raises:
            InvalidRequest: A `PayloadType` failed.
        """
        try:
            return unstructured(payload, self.payload_types)
        except RecursionError:  # it contains itself, which the checks say with the path
            return payload
        except (Exception, SystemExit) as exc:
            why = f"{type(payload).__name__} cannot be written as JSON: {raised(exc)}"
            raise InvalidRequest([Problem(("$", "payload"), why)]) from exc
