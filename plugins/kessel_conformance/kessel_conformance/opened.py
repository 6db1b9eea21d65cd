"""One adapter that is open for one case: opening, cleaning up, what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from math import inf
from typing import Self, TypeVar

from kessel_conformance.harness import Harness
from kessel_conformance.opencase import MICRO, OpenCase
from kessel_conformance.requirements import SHARED_REACH
from kessel_conformance.settings import Settings
from kessel_core import Clock, SystemClock
from kessel_core.contract import NO_PAUSE, Capabilities, Consumer, Facet, FacetKind, QueueAdapter, need
from kessel_core.testing import VirtualClock

__all__ = ["OpenAdapter"]

F = TypeVar("F", bound=Facet)


class OpenAdapter(OpenCase):
    """A context manager that opens an adapter and cleans up after it; as `OpenCase`.

    Attributes:
        queue: The queue that calls use when they name none; the namespace is part of its name.
    """

    harness: Harness

    def __init__(
        self,
        harness: Harness,
        clauses: Sequence[str] = ("S9",),
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(harness, clauses, settings, clock)
        self.queue = self.queue_named("main")
        self._queues = {self.queue}
        self._consumers: list[Consumer] = []
        self._adapter: QueueAdapter | None = None
        #: Whether it has to remove what is left in the namespace; else another one does.
        self._is_own = True

    def _open(self) -> None:
        self._adapter = self.harness.open(self.clock, self.namespace)

    def _clean(self) -> None:
        with ExitStack() as stack:  # whichever of it fails, the rest is done
            if self._is_own:
                stack.callback(self.harness.purge, self.namespace)
            if self._adapter is not None:
                stack.callback(self._adapter.close)
                stack.callback(self._empty, self._adapter)
            for consumer in self._consumers:
                stack.callback(consumer.close)

    def _empty(self, adapter: QueueAdapter) -> None:
        for queue in self._queues if self._is_own else ():
            adapter.purge(queue)

    # --- facts -------------------------------------------------------------------------------

    @property
    def adapter(self) -> QueueAdapter:
        """The open adapter."""
        assert self._adapter is not None
        return self._adapter

    @property
    def capabilities(self) -> Capabilities:
        """What it declares."""
        return self.harness.capabilities

    @property
    def grain(self) -> timedelta:
        """The declared granularity of delays, zero if there is none."""
        return self.capabilities.delay_granularity or NO_PAUSE

    @property
    def lease(self) -> timedelta:
        """The declared lease."""
        assert self.capabilities.lease is not None
        return self.capabilities.lease

    def lease_ends(self, begun: float) -> float:
        """When a lease that begins then is over, on the monotonic clock; infinite if there is none."""
        return begun + self.lease.total_seconds() if self.capabilities.lease is not None else inf

    @property
    def slack(self) -> timedelta:
        """How much later than promised something may be seen: granularity and scheduling noise."""
        return self.grain + (MICRO * 2 if isinstance(self.clock, VirtualClock) else self.harness.tolerance)

    def queue_named(self, suffix: str) -> str:
        """Return the name of another queue of this case."""
        return f"{self.namespace}.{suffix}"

    def has(self, kind: FacetKind[Facet]) -> bool:
        """Whether the adapter has a facet."""
        return kind in self.harness.facets

    def facet(self, kind: FacetKind[F]) -> F:
        """Return the adapter as a facet that the case needs."""
        return need(self.adapter, kind)

    # --- adapters and threads ----------------------------------------------------------------

    def in_real_time(self) -> Self:
        """Return another one whose adapter lives in real time, for calls that wake one another.

        On a virtual clock a waiting call moves the time to its own end at once.
        """
        return self.on_clock(SystemClock())

    def on_clock(self, clock: Clock) -> Self:
        """Return another one, in a namespace of its own, whose adapter has that clock."""
        return self._another(self.harness, clock)

    def beside(self) -> Self:
        """Return another one with an adapter, names and a history of its own."""
        return self.on_clock(self.clock)

    def in_folder(self, folder: str) -> Self:
        """Return another one whose adapter has another folder as `{tmp}`."""
        return self._another(self.harness.in_folder(folder), self.clock)

    def _another(self, harness: Harness, clock: Clock) -> Self:
        return type(self)(harness, (self.clause,), self.settings, clock)

    def sharing(self) -> Self:
        """Return another one on the same jobs, with an adapter of its own; the history is shared."""
        other = self.on_clock(self.clock)
        for name in ("namespace", "queue", "random", "history", "_queues", "_names", "_ids", "_workers"):
            setattr(other, name, getattr(self, name))
        other._is_own = False
        return other

    @contextmanager
    def views(self) -> Iterator[list[Self]]:
        """Give this one, and another one on the same jobs where there may be one."""
        with self.sharing() if SHARED_REACH.is_met(self.harness) else nullcontext() as other:
            yield [self] if other is None else [self, other]

    def reopen(self) -> None:
        """Close consumers and adapter, and open the same namespace again."""
        with self.closed():
            pass

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close consumers and adapter, let something happen, and open the same namespace again."""
        for consumer in self._consumers:
            self.call(f"{self.worker(consumer)} is closed", consumer.close)
        self._consumers.clear()
        self.call("close adapter", self.adapter.close)
        self._adapter = None
        yield
        self._adapter = self.harness.open(self.clock, self.namespace)
        self.history.add("open adapter")
