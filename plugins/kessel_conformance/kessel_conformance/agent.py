"""Another process that opens the adapter of a harness, under a clock of its own, and does what it is asked.

Run by `elsewhere`, as a file. Nothing of kessel or of an adapter is imported before its clock is in force, so
that what an adapter reads past the clock that it is given is the time of this process, too.
"""

from __future__ import annotations

import os
import pickle
import sys
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["do_all", "serve"]


def serve(connection: Connection) -> None:
    """Do what is asked, until the other side hangs up."""
    sys.path[:] = connection.recv()
    from kessel_conformance.belief import Belief

    Belief.enforce()
    doings: Any = None
    answer: Any = None
    try:
        from kessel_conformance.doings import Doings

        doings = Doings(*pickle.loads(connection.recv_bytes()))  # noqa: S301  # it is from our parent
    except Exception as exc:
        answer = exc
    _send(connection, answer)
    do_all(doings, connection)


def do_all(doings: Any, connection: Connection) -> None:
    """Call the methods that are asked for, and send what came of each, until the other side hangs up."""
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(doings, name)(*arguments)
        except Exception as exc:
            answer = exc
        _send(connection, answer)


def _send(connection: Connection, answer: Any) -> None:
    try:
        connection.send(answer)
    except (TypeError, AttributeError, pickle.PicklingError):
        connection.send(RuntimeError(f"{type(answer).__name__}: {answer}"))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # whatever threads an adapter has left
