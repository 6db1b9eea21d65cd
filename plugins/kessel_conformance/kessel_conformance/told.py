"""What an adapter was asked to store while something failed, and what has to be there afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

from kessel_conformance.faults import Answer
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_core import AdapterError, AdapterUnavailable, EnqueueUnknown, StoreRejected, StoreUnknown
from kessel_core.contract import Message, Store

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Told"]

#: Of the entries.
_SPACE: Final = "told"
_OF_PUT: Final = (StoreRejected, StoreUnknown)


class Told:
    """Calls that may fail, and what they said of their jobs. For one thread.

    Attributes:
        there: The bodies that must be there in the end.
        perhaps: Those that may be.
        entries: What each entry of the adapter's store may be, by its key; None: there is none.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.there: set[bytes] = set()
        self.perhaps: set[bytes] = set()
        self.entries: dict[str, set[bytes | None]] = {}

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
            named = getattr(outcome, "job_id", None)
            if named not in (None, message.id):
                self.bench.broken(f"the outcome of job {message.id!r} names {named!r}")
            self._told(message.body, outcome)
        return outcomes

    def put(self, key: str, value: bytes) -> Exception | None:
        """Put an entry into the adapter's store, keep what was said of it, and return its error."""
        store = self.bench.facet(Store)
        put = self.asked(f"put {len(value)} bytes", lambda: store.put(_SPACE, key, value), *_OF_PUT)
        if put.error is None:
            self.entries[key] = {value}
        elif isinstance(put.error, StoreUnknown):
            self.entries[key] = {*self.entries.get(key, {None}), value}
        return put.error

    def _told(self, body: bytes, error: Exception | None) -> None:
        if error is None:
            self.there.add(body)
        elif isinstance(error, EnqueueUnknown):
            self.perhaps.add(body)

    def is_true(self, found: Sequence[bytes]) -> None:
        """Compare what was said with the bodies that are there, and with what entries are."""
        bench = self.bench
        bench.check(len(set(found)) == len(found), "a job is there twice")
        lost, strange = self.there - set(found), set(found) - self.there - self.perhaps
        bench.check(not lost, f"{bench.labels(sorted(lost))} was acknowledged and is lost")
        bench.check(not strange, f"{bench.labels(sorted(strange))} was told as not stored, or as done")
        self.entries_are_true()

    def entries_are_true(self) -> None:
        """Compare what was said of entries with what they are."""
        for key, allowed in self.entries.items():
            entry = self.bench.facet(Store).get(_SPACE, key)
            value = None if entry is None else entry.value
            what = "is there" if value is not None else "is not there"
            self.bench.check(value in allowed, f"entry {key!r} is not what was said of it: {what}", "S19")
