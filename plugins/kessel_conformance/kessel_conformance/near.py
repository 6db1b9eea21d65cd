"""An adapter behind a proxy: how the trials of lost connections call it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kessel_conformance.faults import ANSWER_WITHIN, Answer, Apart
from kessel_conformance.history import History, Violation
from kessel_conformance.proxy import FaultProxy
from kessel_core.contract import QueueAdapter

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Near"]


class Near:
    """A second adapter on the case's server, with a proxy between; a context manager. For one thread.

    Args:
        bench: The case's own adapter, past the proxy.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.proxy = FaultProxy(int(bench.harness.values["port"]))
        self._apart = Apart()
        self._adapter: QueueAdapter | None = None

    def __enter__(self) -> Self:
        harness = self.bench.harness.through(self.proxy.port)
        try:
            self._adapter = harness.open(self.bench.clock, self.bench.namespace)
        except BaseException:
            self._apart.close()
            self.proxy.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            self.proxy.close()  # what hangs in a call ends with its connection
        answer = self._apart.call(self.adapter.close)
        self._apart.close()
        self.proxy.close()
        if exc is None and (answer is None or answer.error is not None):
            why = "it did not return" if answer is None else repr(answer.error)
            self.bench.broken(f"closing the adapter: {why}")

    @property
    def adapter(self) -> QueueAdapter:
        """The adapter behind the proxy."""
        assert self._adapter is not None
        return self._adapter

    def asked(self, history: History, what: str, function: Callable[[], object]) -> Answer:
        """Make a call in a thread of the adapter's own, and note what became of it.

        Raises:
            Violation: It did not end.
        """
        answer = self._apart.call(function)
        if answer is None:
            history.add(f"{what}: no end")
            why = f"{what} did not end within {ANSWER_WITHIN:g} s (rule 7)"
            raise Violation(self.bench.clause, why, history.text())
        answer.noted(history, what, self.bench.text_of)
        return answer
