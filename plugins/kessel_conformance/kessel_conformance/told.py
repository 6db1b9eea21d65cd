"""Jobs that an adapter was asked to store while something failed, and where they have to be afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from kessel_conformance.faults import Answer
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_core import AdapterError, AdapterUnavailable, EnqueueUnknown
from kessel_core.contract import Message

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Told"]


class Told:
    """Calls that may fail, and what they said of their jobs. For one thread.

    Attributes:
        there: The bodies that must be there in the end.
        perhaps: Those that may be.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.there: set[bytes] = set()
        self.perhaps: set[bytes] = set()

    def asked(self, what: str, call: Callable[[], object], *allowed: type[AdapterError]) -> Answer:
        """Make a call that may work, or end with `AdapterUnavailable` or another error that is allowed."""
        answer = Answer.of(call)
        answer.noted(self.bench.history, what, self.bench.text_of)
        error = answer.error
        if error is not None and not isinstance(error, (AdapterUnavailable, *allowed)):
            self.bench.broken(f"{what} raised {type(error).__name__}, expected AdapterUnavailable: {error}")
        return answer

    def enqueue(self, message: Message) -> Exception | None:
        """Enqueue a job, keep what was said of it, and return its error."""
        answer = self.asked("enqueue", lambda: self.bench.adapter.enqueue(message), *OF_ENQUEUE)
        self._told(message.body, answer.error)
        return answer.error

    def enqueue_many(self, batch: Sequence[Message]) -> list[AdapterError | None]:
        """Enqueue a batch, keep what was said of each of its jobs, and return it."""
        answer = self.asked("enqueue_many", lambda: self.bench.adapter.enqueue_many(batch))
        if answer.error is not None:
            self.bench.broken("enqueue_many raised, instead of returning an outcome for each job")
        outcomes = cast("list[AdapterError | None]", answer.value)
        for message, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None and not isinstance(outcome, OF_ENQUEUE):
                self.bench.broken(f"the outcome of a job is {type(outcome).__name__}: {outcome}")
            self._told(message.body, outcome)
        return outcomes

    def _told(self, body: bytes, error: Exception | None) -> None:
        if error is None:
            self.there.add(body)
        elif isinstance(error, EnqueueUnknown):
            self.perhaps.add(body)

    def is_true(self, found: Sequence[bytes]) -> None:
        """Compare what was said with the bodies that are there."""
        bench = self.bench
        bench.check(len(set(found)) == len(found), "a job is there twice")
        lost, strange = self.there - set(found), set(found) - self.there - self.perhaps
        bench.check(not lost, f"{bench.labels(sorted(lost))} was acknowledged and is lost")
        bench.check(not strange, f"{bench.labels(sorted(strange))} was told as not stored, or as done")
