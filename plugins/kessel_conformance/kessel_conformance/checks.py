"""How a case says that a promise was broken, and how it calls an adapter: every call is in the history."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from kessel_conformance.history import History, Violation, shown
from kessel_core import Clock, JobRequest, KesselError
from kessel_core.contract import Consumer, Reservation, StoredJob

__all__ = ["Checks"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_ID: Final = re.compile(rb'"id":"([^"]+)"')


class Checks:
    """Comparisons and noted calls. Safe for any thread.

    Attributes:
        clock: The adapter's clock.
        clause: What a failure is held against unless it names another clause.
        history: What was done so far.
    """

    def __init__(self, clock: Clock, clause: str) -> None:
        self.clock = clock
        self.clause = clause
        self.history = History(clock)
        #: Labels by the hash of the body, and by id where the body is not known.
        self._names: dict[int, str] = {}
        self._ids: dict[str, str] = {}
        #: Names of consumers, by identity.
        self._workers: dict[int, str] = {}

    def broken(self, why: str, clause: str | None = None) -> NoReturn:
        """Say that a promise was broken."""
        raise Violation(clause or self.clause, why, self.history.text())

    def check(self, holds: bool, why: str, clause: str | None = None) -> None:
        """Say that a promise was broken unless it holds."""
        if not holds:
            self.broken(why, clause)

    def equal(self, seen: object, expected: object, what: str, clause: str | None = None) -> None:
        """Compare, and say both sides if they differ."""
        if seen != expected:
            self.broken(f"{what}: expected {shown(expected)}, got {shown(seen)}", clause)

    def refused(self, kind: type[E], what: str, call: Callable[[], object], clause: str | None = None) -> E:
        """Check that a call raises that error."""
        try:
            answer = call()
        except kind as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            return exc
        except Exception as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                clause or self.clause,
                f"{what}: expected {kind.__name__}, got {type(exc).__name__}: {exc}",
                self.history.text(),
            ) from exc
        got = "it was accepted" if answer is None else f"it returned {self.text_of(answer)}"
        self.history.add(f"{what}: {got}")
        self.broken(f"{what}: expected {kind.__name__}, but {got}", clause)

    def call(self, what: str, call: Callable[[], T], nothing: str = "") -> T:
        """Call the adapter and note what it answered; `nothing` is how None reads.

        An error of kessel's tree where none is due breaks a promise; any other error breaks rule 1
        of the contract. Both are shown with the history.
        """
        try:
            answer = call()
        except KesselError as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                self.clause, f"{what} raised {type(exc).__name__}: {exc}", self.history.text()
            ) from exc
        except Exception as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                self.clause,
                f"{what} raised {type(exc).__name__}, not an error of kessel (contract, rule 1): {exc}",
                self.history.text(),
            ) from exc
        text = nothing if answer is None else self.text_of(answer)
        self.history.add(f"{what} -> {text}" if text else what)
        return answer

    def text_of(self, answer: object) -> str:
        """Write what a call answered."""
        match answer:
            case Reservation():
                return f"{self.label(answer.body)}, attempt {answer.attempt}"
            case JobRequest():
                return ""
            case [None, *rest] if not any(rest):
                return "all stored"
            case list() if all(isinstance(job, StoredJob) for job in answer):
                listed = [self.label(job.body) + (f" ({job.reason})" if job.reason else "") for job in answer]
                return ", ".join(listed) or "nothing"
            case _:
                return shown(answer)

    def label(self, body: bytes) -> str:
        """Return a short name of a job, by its body."""
        name = self._names.get(hash(body))
        if name is None and (found := _ID.search(body)) is not None:
            name = self._ids.get(found[1].decode(errors="replace"))
        return name or shown(body)

    def labels(self, bodies: Sequence[bytes]) -> list[str]:
        """Return the short names of jobs."""
        return [self.label(body) for body in bodies]

    def worker(self, consumer: Consumer) -> str:
        """Return the name of a consumer."""
        return self._workers.get(id(consumer), "a worker")
