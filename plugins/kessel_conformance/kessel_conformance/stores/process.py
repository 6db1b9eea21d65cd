"""The other end of `child`: a process that a case starts, asks, and kills."""

from __future__ import annotations

# ruff: noqa: S301  # what is unpickled was pickled by the other end of a pipe of our own
import json
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from kessel_conformance.stores.child import Opening

__all__ = ["OtherProcess", "ProcessFailed"]

#: Seconds; a process that does not answer for so long never will.
PATIENCE: Final = 60.0
_CODE: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from kessel_conformance.stores.child import serve; serve()"
)


class ProcessFailed(Exception):
    """The other process ended, or did not answer."""


class OtherProcess:
    """A process that has the same store open; a context manager that ends it. For one thread.

    Args:
        opening: How it opens the store.
    """

    def __init__(self, opening: Opening) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter
            [sys.executable, "-c", _CODE, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(opening)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def ready(self) -> Self:
        """Wait until the store is open there.

        Raises:
            KesselError: It cannot be opened.
            ProcessFailed: The process ended.
        """
        self.answer()
        return self

    def ask(self, name: str, *arguments: Any, **named: Any) -> None:
        """Let it call a method of the store, or a function of `child`; `answer` returns what came of it."""
        self._send((name, arguments, named))

    def answer(self, timeout: float = PATIENCE) -> Any:
        """Return the next answer; raises what the call raised there.

        Raises:
            ProcessFailed: There is none in time, or the process ended.
        """
        try:
            found, error = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise ProcessFailed(f"another process did not answer within {timeout:g} s") from None
        if error is not None:
            raise error
        return found

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Ask, and return the answer."""
        self.ask(name, *arguments, **named)
        return self.answer()

    def answered(self) -> list[Any]:
        """Return all answers that the process gave before it ended, of those not read yet."""
        self._reader.join(PATIENCE)
        found = []
        while not self._answers.empty():
            answer, error = self._answers.get()
            if error is None:
                found.append(answer)
        return found

    def kill(self) -> None:
        """End it by SIGKILL, whatever it is doing. Idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._reader.join(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the reader says why
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                self._answers.put(pickle.load(self._process.stdout))
            except Exception:  # the end of its output, also in the middle of an answer that a kill cut off
                self._answers.put((None, ProcessFailed(f"another process ended{self._said()}")))
                return

    def _said(self) -> str:
        try:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
        except ValueError:  # it was killed here
            return ""
        return f": {lines[-1]}" if lines else ""
