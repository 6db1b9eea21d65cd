"""Runs single jobs without a queue, for the suites of handlers and middleware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, NoReturn

from kessel_core import CapabilityMissing, JobManager, build_plugins, hookimpl
from kessel_core.contract import Capabilities, Consumer, Message, QueueAdapter, QueueStats, Reach, Reservation
from kessel_core.hooks import Middleware
from kessel_core.testing import VirtualClock

__all__ = ["NoQueue", "manager_of"]


class NoQueue(QueueAdapter):
    """An adapter that holds nothing, for managers that only run single jobs."""

    name: ClassVar[str] = "no-queue"

    @property
    def capabilities(self) -> Capabilities:
        """Nothing is declared."""
        return Capabilities(reach=Reach.PROCESS)

    def _none(self) -> NoReturn:
        raise CapabilityMissing("reach", self.name, "it only runs single jobs")

    def enqueue(self, message: Message) -> None:
        """Refuse."""
        self._none()

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        """Refuse."""
        self._none()

    def give_back(self, reservation: Reservation) -> None:
        """Refuse."""
        self._none()

    def queues(self) -> list[str]:
        """Return no names."""
        return []

    def stats(self, queue: str) -> QueueStats:
        """Count nothing."""
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        """Remove nothing."""
        return 0

    def close(self) -> None:
        """Do nothing."""


class _Offers:
    def __init__(self, middleware: Mapping[str, object]) -> None:
        self._middleware = middleware

    @hookimpl
    def kessel_middleware(self) -> Iterable[Middleware]:
        return [
            Middleware(
                name=name,
                factory=partial(_same, thing),
                for_requests=hasattr(thing, "kessel_enqueue_jobs"),
            )
            for name, thing in self._middleware.items()
        ]


def _same(thing: object) -> object:
    return thing


def manager_of(handlers: Any, middleware: Mapping[str, object] | None = None) -> JobManager:
    """Return a manager of these handlers and middleware (outermost first) and of no other plugins."""
    offered = dict(middleware or {})
    plugins = build_plugins(distributions=(), extra={"conformance-middleware": _Offers(offered)})
    return JobManager(
        NoQueue(), handlers=handlers, middleware=list(offered), clock=VirtualClock(), plugins=plugins
    )
