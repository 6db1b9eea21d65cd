"""A harness that runs the server of an adapter itself, as a process on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from kessel_conformance.harness import Harness, ServerMissing, filled
from kessel_core.adapter import AdapterSpec

__all__ = ["ServerHarness"]


class ServerHarness(Harness):
    """Starts a server for the run, stops it afterwards, and can restart it with its data.

    Args:
        spec: As for `Harness`.
        url: As for `Harness`, with `{port}`.
        command: The program and its arguments; `{port}` and `{tmp}` are filled in.
        variable: An environment variable that names another program.
        patience: Seconds until the server must answer.
        options: The rest, as for `Harness`.

    Example:
        >>> from kessel_adapter_foo.plugin import SPEC  # doctest: +SKIP
        >>> class TestFoo(AdapterConformance):  # doctest: +SKIP
        ...     harness = ServerHarness(SPEC, "foo://localhost:{port}", ["food", "--port", "{port}"])
    """

    def __init__(
        self,
        spec: AdapterSpec,
        url: str,
        command: Sequence[str],
        *,
        variable: str | None = None,
        patience: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(spec, url, **options)
        self._command = list(command)
        self._variable = variable
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server on a free port, and wait until it answers."""
        program = os.environ.get(self._variable or "", "") or self._command[0]
        found = shutil.which(program)
        if found is None:
            raise ServerMissing(f"the program {program!r} is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.values["port"] = str(free.getsockname()[1])
        self.values["program"] = found
        self._run()

    def _run(self) -> None:
        values = {**self.values, "tmp": self.folder}
        command = [self.values["program"], *(filled(part, values) for part in self._command[1:])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        end = time.monotonic() + self._patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(self.values["port"])), timeout=1).close()
            except OSError as exc:
                if self._process.poll() is not None or time.monotonic() > end:
                    self._halt()
                    raise ServerMissing(f"{self.values['program']} does not answer") from exc
                time.sleep(0.02)
            else:
                return

    def _halt(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop the server and start it again on the same port."""
        self._halt()
        self._run()

    def stop(self) -> None:
        """Stop the server."""
        self._halt()
