"""The other side of `agent`: starts it, and asks it to do things."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from kessel_conformance.harness_base import NotShown
from kessel_core.contract import NO_PAUSE, Message
from kessel_core.testing import VirtualClock

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Elsewhere"]

_AGENT: Final = Path(__file__).with_name("agent.py")
#: Seconds; generous, because a machine may be busy.
_ANSWER_WITHIN: Final = 60.0


class Elsewhere:
    """A process with an adapter of its own on the jobs of a case; a context manager. For one thread.

    Args:
        bench: The case.

    Raises:
        NotShown: The harness cannot be handed to another process.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        now = bench.now() if isinstance(bench.clock, VirtualClock) else None
        try:
            self._task = pickle.dumps((bench.harness.portable(), bench.namespace, now))
        except Exception as exc:  # pickle raises what it likes
            raise NotShown(f"the harness cannot be handed to another process: {exc}") from exc
        #: What the process prints, which is asked for if it does not come up.
        self._said = Path(bench.harness.folder, f"{bench.namespace}.agent")
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs, self._said.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", str(_AGENT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        self._connection = connection = Connection(ours.detach())
        try:
            connection.send(sys.path)
            connection.send_bytes(self._task)
            self._answer()
        except Exception as exc:
            self.__exit__(None, None, None)
            printed = self._said.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            why = f"{type(exc).__name__}: {exc} {printed}".strip()
            raise NotShown(f"another process cannot open the adapter: {why}") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None and self._process is not None
        self._connection.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it, with whatever it holds; it cannot be asked any more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ask(self, name: str, *arguments: Any) -> Any:
        """Let it do something of `Doings`; return or raise what came of it.

        Raises:
            Violation: There was no answer.
        """
        assert self._connection is not None
        self._connection.send((name, arguments))
        return self._answer(name)

    def taken(self, found: tuple[int, bytes] | None, message: Message, who: str) -> int:
        """Check that it is this job that was reserved there; return the number under which it is held."""
        bench = self._bench
        if found is None:
            bench.broken(f"{who} reserved nothing, expected {bench.label(message.body)}")
        number, body = found
        bench.equal(bench.label(body), bench.label(message.body), f"what {who} reserved")
        return number

    def _answer(self, name: str = "open") -> Any:
        assert self._connection is not None
        if not self._connection.poll(_ANSWER_WITHIN):
            self._bench.broken(f"{name} in another process did not end within {_ANSWER_WITHIN:g} s")
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextmanager
    def clock(self, ahead: timedelta = NO_PAUSE, *, stands: bool = False) -> Iterator[None]:
        """Set its clock for a while."""
        self.ask("believe", ahead.total_seconds(), stands)
        yield
        self.ask("believe", 0.0, False)
