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

__all__ = ["serve"]


def serve(connection: Connection) -> None:
    """Do what is asked, until the other side hangs up."""
    sys.path[:] = connection.recv()
    from kessel_conformance.belief import Belief

    Belief.enforce()
    doings: Any = None
    try:
        from kessel_conformance.doings import Doings

        doings = Doings(*pickle.loads(connection.recv_bytes()))  # noqa: S301  # it is from our parent
        answer: Any = None
    except Exception as exc:
        answer = exc
    while True:
        try:
            connection.send(answer)
        except (TypeError, AttributeError, pickle.PicklingError):
            connection.send(RuntimeError(f"{type(answer).__name__}: {answer}"))
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(doings, name)(*arguments)
        except Exception as exc:
            answer = exc


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # whatever threads an adapter has left
