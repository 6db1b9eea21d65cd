"""One adapter that is open for one case: opening, cleaning up, what it declares, how time passes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self, TypeVar

from kessel_conformance.checks import Checks
from kessel_conformance.harness import Harness
from kessel_conformance.history import shown
from kessel_conformance.settings import Settings
from kessel_core import AdapterError, Clock, SystemClock
from kessel_core.contract import NO_PAUSE, Capabilities, Consumer, Facet, FacetKind, QueueAdapter, need
from kessel_core.testing import VirtualClock

__all__ = ["MICRO", "OpenAdapter", "move"]

T = TypeVar("T")
F = TypeVar("F", bound=Facet)

MICRO: Final = timedelta(microseconds=1)


def move(harness: Harness, clock: Clock, span: timedelta) -> None:
    """Let time pass on a virtual or a real clock."""
    if isinstance(clock, VirtualClock):
        clock.advance(max(span, NO_PAUSE))
    else:
        harness.sleep(span.total_seconds())


class OpenAdapter(Checks):
    """A context manager that opens an adapter and cleans up after it.

    Attributes:
        harness: Where the adapter comes from.
        clock: The adapter's clock.
        namespace: Part of every queue's name, new for every case.
        queue: The queue that calls use when they name none.
        random: Seeded, so that a run can be repeated.
        settings: What the person who runs the suite chose.
    """

    def __init__(
        self,
        harness: Harness,
        clauses: Sequence[str] = ("S9",),
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock or harness.clock(), clauses[0])
        self.harness = harness
        self.namespace = harness.namespace()
        self.queue = self.queue_named("main")
        self.settings = settings or Settings()
        self.random = random.Random(self.settings.seed)  # noqa: S311  # to be repeated, not to be secret
        self._queues = {self.queue}
        self._consumers: list[Consumer] = []
        self._adapter: QueueAdapter | None = None

    def __enter__(self) -> Self:
        self._adapter = self.harness.open(self.clock, self.namespace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._clean()
        except Exception:
            # What broke the case says more than what broke while cleaning up after it.
            if exc is None:
                raise

    def _clean(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        if self._adapter is not None:
            try:
                for queue in self._queues:
                    self._adapter.purge(queue)
            finally:
                self._adapter.close()
        self.harness.purge(self.namespace)

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

    @property
    def slack(self) -> timedelta:
        """How much later than promised something may be seen: granularity and scheduling noise."""
        return self.grain + (MICRO * 2 if isinstance(self.clock, VirtualClock) else self.harness.tolerance)

    def queue_named(self, suffix: str) -> str:
        """Return the name of another queue of this case."""
        return f"{self.namespace}.{suffix}"

    def now(self) -> datetime:
        """Return the time of the adapter's clock."""
        return self.clock.now()

    def has(self, kind: FacetKind[Facet]) -> bool:
        """Whether the adapter has a facet."""
        return kind in self.harness.facets

    def facet(self, kind: FacetKind[F]) -> F:
        """Return the adapter as a facet that the case needs."""
        return need(self.adapter, kind)

    # --- time --------------------------------------------------------------------------------

    def let_pass(self, span: timedelta) -> None:
        """Let time pass."""
        if span > NO_PAUSE:
            self.history.add(f"{shown(span)} pass")
            move(self.harness, self.clock, span)

    def until(self, moment: datetime) -> None:
        """Let time pass until a moment."""
        self.let_pass(moment - self.now())

    def patiently(self, what: str, call: Callable[[], T], limit: float = 10.0) -> T:
        """Call again and again while the backend is unreachable, for real seconds."""
        end = time.monotonic() + limit
        while True:
            try:
                answer = call()
            except AdapterError as exc:
                self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
                if time.monotonic() > end:
                    self.broken(f"{what} still fails {limit:g} s after the server came back: {exc}")
                time.sleep(0.05)
            else:
                self.history.add(f"{what} -> {self.text_of(answer)}")
                return answer

    # --- adapters and threads ----------------------------------------------------------------

    def in_real_time(self) -> Self:
        """Return another one whose adapter lives in real time, for calls that wake one another.

        On a virtual clock a waiting call moves the time to its own end at once.
        """
        return type(self)(self.harness, (self.clause,), self.settings, SystemClock())

    def side_by_side(self, jobs: Sequence[Callable[[], object]], limit: float = 20.0) -> None:
        """Run functions in threads that begin together; the first error among them is raised here."""
        errors: list[BaseException] = []
        gate = threading.Barrier(len(jobs))

        def guarded(job: Callable[[], object]) -> None:
            try:
                gate.wait(limit)
                job()
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        end = time.monotonic() + limit
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if errors:
            raise errors[0]
        self.check(
            not any(thread.is_alive() for thread in threads), f"calls did not return within {limit:g} s"
        )

    def reopen(self) -> None:
        """Close consumers and adapter, and open the same namespace again."""
        for consumer in self._consumers:
            self.call(f"{self.worker(consumer)} is closed", consumer.close)
        self._consumers.clear()
        self.call("close adapter", self.adapter.close)
        self._adapter = self.harness.open(self.clock, self.namespace)
        self.history.add("open adapter")
