"""What is tested, opened a second time behind a proxy: how the cases of lost connections call it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from kessel_conformance.faults import ANSWER_WITHIN, Answer, Apart
from kessel_conformance.history import History, Violation
from kessel_conformance.opencase import OpenCase
from kessel_conformance.proxy import FaultProxy
from kessel_core.contract import QueueAdapter

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Near", "near_adapter"]

B = TypeVar("B", bound=OpenCase)
T = TypeVar("T")


class Near(Generic[B, T]):
    """A second adapter or store on the case's server, with a proxy between; a context manager.

    For one thread.

    Args:
        bench: The case's own, past the proxy.
        opens: Opens it at a port, which is the proxy's; returns it, and what closes it.
    """

    #: What is behind the proxy.
    opened: T

    def __init__(self, bench: B, opens: Callable[[int], tuple[T, Callable[[], object]]]) -> None:
        self.bench = bench
        self.proxy = FaultProxy(int(bench.harness.values["port"]))
        self._apart = Apart()
        self._opens = opens

    def __enter__(self) -> Self:
        try:
            self.opened, self._close = self._opens(self.proxy.port)
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
        answer = self._apart.call(self._close)
        self._apart.close()
        self.proxy.close()
        if exc is None and (answer is None or answer.error is not None):
            why = "it did not return" if answer is None else repr(answer.error)
            self.bench.broken(f"closing the {self.bench.harness.kind}: {why}")

    def asked(self, history: History, what: str, function: Callable[[], object]) -> Answer:
        """Make a call in a thread of its own, and note what became of it.

        Raises:
            Violation: It did not end.
        """
        answer = self._apart.call(function)
        if answer is None:
            history.add(f"{what}: no end")
            why = f"{what} did not end within {ANSWER_WITHIN:g} s (contract, rule 7)"
            raise Violation(self.bench.clause, why, history.text())
        answer.noted(history, what, self.bench.text_of)
        return answer


def near_adapter(bench: Bench) -> Near[Bench, QueueAdapter]:
    """Return a second adapter on the server of a case."""

    def opens(port: int) -> tuple[QueueAdapter, Callable[[], object]]:
        adapter = bench.harness.through(port).open(bench.clock, bench.namespace)
        return adapter, adapter.close

    return Near(bench, opens)
