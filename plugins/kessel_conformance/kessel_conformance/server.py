"""Harnesses that run the server of an adapter or a store themselves, as a process on a free port."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Final, Generic, Self, TypeVar

from kessel_conformance.faults import Apart
from kessel_conformance.harness import Harness, ServerMissing
from kessel_conformance.harness_base import AnyHarness, filled
from kessel_conformance.stores.harness import StoreHarness
from kessel_core.contract import AdapterSpec, AdapterUnavailable, StoreSpec
from kessel_core.testing import free_port

__all__ = ["ServerHarness", "StoreServerHarness"]

#: What the plugin offers, by which the harness opens.
Spec = TypeVar("Spec", bound=AdapterSpec | StoreSpec)
_PORTS_TRIED: Final = 3


class _Ended(ServerMissing):
    """The server's process ended instead of answering."""


class _WithServer(AnyHarness, Generic[Spec]):
    """The part of both that knows the server."""

    def __init__(
        self,
        spec: Spec,
        url: str,
        command: Sequence[str],
        *,
        variable: str | None = None,
        patience: float = 10.0,
        version_option: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spec, url, **options)
        self._command = list(command)
        self._variable = variable
        self._patience = patience
        self._version_option = version_option
        self._process: subprocess.Popen[bytes] | None = None
        self._stands_still = False

    def start(self) -> None:
        """Start the server on a free port, and wait until it answers."""
        program = os.environ.get(self._variable or "", "") or self._command[0]
        found = shutil.which(program)
        if found is None:
            raise ServerMissing(f"the program {program!r} is not installed")
        self.values["program"] = found
        if self.version is None and self._version_option is not None:
            self.version = self._printed_version(found, self._version_option)
        for tries_left in reversed(range(_PORTS_TRIED)):
            self.values["port"] = str(free_port())
            try:
                self._run()
            except _Ended:  # somebody may have taken the port meanwhile
                if not tries_left:
                    raise
            else:
                return

    def _probe(self) -> None:
        """Learn what is declared; a server that takes connections may not answer calls yet."""
        end = time.monotonic() + self._patience
        while True:
            try:
                super()._probe()
                self._ask_once()
            except AdapterUnavailable as exc:
                if (gone := self.ended()) is not None:
                    raise ServerMissing(gone) from exc
                if time.monotonic() > end:
                    program = self.values["program"]
                    raise ServerMissing(f"{program} takes connections, and answers no call: {exc}") from exc
                time.sleep(0.02)
            else:
                return

    def _ask_once(self) -> None:
        apart = Apart()
        answer = apart.call(self._ask, self._patience)
        apart.close()
        # What else goes wrong is for the cases to find: another error, a call that never ends.
        if answer is not None and isinstance(answer.error, AdapterUnavailable):
            raise answer.error

    def _ask(self) -> None:
        """Make a call that changes nothing.

        Raises:
            AdapterUnavailable: The server does not answer it yet.
        """
        raise NotImplementedError

    def _printed_version(self, program: str, option: str) -> str | None:
        """Return the first line that the program prints; one that prints none has no version."""
        try:
            done = subprocess.run(  # noqa: S603
                [program, option], capture_output=True, text=True, timeout=self._patience, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return next(iter(done.stdout.splitlines()), None)

    def _run(self) -> None:
        values = {**self.values, "tmp": self.folder}
        command = [self.values["program"], *(filled(part, values) for part in self._command[1:])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        end = time.monotonic() + self._patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(self.values["port"])), timeout=1).close()
            except OSError as exc:
                if self._process.poll() is not None:
                    self._halt()
                    raise _Ended(f"{self.values['program']} ended at once") from exc
                if time.monotonic() > end:
                    self._halt()
                    raise ServerMissing(f"{self.values['program']} does not answer") from exc
                time.sleep(0.02)
            else:
                return

    def _halt(self, *, killed: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if killed:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ended(self) -> str | None:
        """As `Harness.ended`: the process that was started is asked."""
        process = self._process
        if process is None or (status := process.poll()) is None:
            return None
        return f"{self.values['program']} has ended, with status {status}"

    def restart(self) -> None:
        """Kill the server, and start it again on the same port."""
        self._halt(killed=True)
        self._run()

    def portable(self) -> Self:
        """As of `Harness`; the process stays here."""
        twin = super().portable()
        twin._process = None
        return twin

    def another(self, *, still: bool = False) -> Self:
        """Return a harness with a server of its own, on another port and with its own data."""
        twin = copy.copy(self)
        twin.values, twin._tmp, twin._process, twin._stands_still = dict(self.values), None, None, still
        return twin

    def sleep(self, seconds: float) -> None:
        """Let real time pass; a server that is to stand still is stopped for so long."""
        process = self._process if self._stands_still else None
        if process is None:
            super().sleep(seconds)
            return
        process.send_signal(signal.SIGSTOP)
        try:
            super().sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server."""
        self._halt()


class ServerHarness(_WithServer[AdapterSpec], Harness):
    """Starts a server for the run, stops it afterwards, and can restart it with its data.

    Args:
        spec: An `AdapterSpec`, as for `Harness`.
        url: As for `Harness`, with `{port}`.
        command: The program and its arguments; `{port}` and `{tmp}` are filled in.
        variable: An environment variable that names another program.
        patience: Seconds until the server must take connections, and as many until it must answer a call.
        version_option: What makes the program print its version, for the report, such as `--version`.
        options: The rest, as for `Harness`.

    Example:
        >>> from kessel_adapter_foo.plugin import SPEC  # doctest: +SKIP
        >>> class TestFoo(AdapterConformance):  # doctest: +SKIP
        ...     harness = ServerHarness(SPEC, "foo://localhost:{port}", ["food", "--port", "{port}"])
    """

    def _ask(self) -> None:
        adapter = self.open(self.clock(), self.namespace())
        try:
            adapter.queues()
        finally:
            adapter.close()


class StoreServerHarness(_WithServer[StoreSpec | AdapterSpec], StoreHarness):
    """The same for a store: its own, or that of an adapter.

    Args:
        spec: A `StoreSpec` or an `AdapterSpec`, as for `StoreHarness`.
        url: As for `StoreHarness`, with `{port}`.
        command: As for `ServerHarness`.
        variable: As for `ServerHarness`.
        patience: As for `ServerHarness`.
        version_option: As for `ServerHarness`.
        options: The rest, as for `StoreHarness`.

    Example:
        >>> from kessel_adapter_foo.plugin import SPEC  # doctest: +SKIP
        >>> class TestFooStore(StoreConformance):  # doctest: +SKIP
        ...     harness = StoreServerHarness(SPEC, "foo://localhost:{port}", ["food", "--port", "{port}"])
    """

    def _ask(self) -> None:
        store = self.open(self.clock(), self.namespace())
        try:
            store.get("conformance", "ready")
        finally:
            self.close(store)
