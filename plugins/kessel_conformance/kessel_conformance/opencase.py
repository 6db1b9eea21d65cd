"""What is open for one case, an adapter or a store: opening, cleaning up, how time passes, threads."""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from kessel_conformance.checks import Checks
from kessel_conformance.harness_base import AnyHarness
from kessel_conformance.history import shown
from kessel_conformance.settings import Settings
from kessel_core import AdapterError, Clock
from kessel_core.contract import NO_PAUSE
from kessel_core.testing import VirtualClock

__all__ = ["MICRO", "OpenCase", "move"]

T = TypeVar("T")

MICRO: Final = timedelta(microseconds=1)


def move(harness: AnyHarness, clock: Clock, span: timedelta) -> None:
    """Let time pass on a virtual or a real clock."""
    if isinstance(clock, VirtualClock):
        clock.advance(max(span, NO_PAUSE))
    else:
        harness.sleep(span.total_seconds())


class OpenCase(Checks):
    """A context manager that opens something and cleans up after it.

    Attributes:
        harness: Where it comes from.
        clock: Its clock.
        namespace: New for every case.
        random: Seeded, so that a run can be repeated.
        settings: What the person who runs the suite chose.
    """

    def __init__(
        self,
        harness: AnyHarness,
        clauses: Sequence[str],
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock or harness.clock(), clauses[0])
        self.harness = harness
        self.namespace = harness.namespace()
        self.settings = settings or Settings()
        self.random = random.Random(self.settings.seed)  # noqa: S311  # to be repeated, not to be secret

    def __enter__(self) -> Self:
        self._open()
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

    @abstractmethod
    def _open(self) -> None:
        """Open it."""

    @abstractmethod
    def _clean(self) -> None:
        """Close it, and remove what was left behind."""

    def now(self) -> datetime:
        """Return the time of its clock."""
        return self.clock.now()

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

    # --- threads -----------------------------------------------------------------------------

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

    def in_step(self, rounds: int, *jobs: Callable[[int], object]) -> None:
        """Call functions with the number of the round, in threads that begin each round together."""
        gate = threading.Barrier(len(jobs))

        def walk(job: Callable[[int], object]) -> None:
            for number in range(rounds):
                gate.wait(20)
                try:
                    job(number)
                except BaseException:
                    gate.abort()
                    raise

        self.side_by_side([partial(walk, job) for job in jobs], 60)
