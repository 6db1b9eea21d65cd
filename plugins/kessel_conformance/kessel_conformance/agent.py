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
    from kessel_conformance.answers import do_all, send

    doings: Any = None
    answer: Any = None
    try:
        from kessel_conformance.doings import Doings

        doings = Doings(*pickle.loads(connection.recv_bytes()))  # noqa: S301  # it is from our parent
    except Exception as exc:
        answer = exc
    send(connection, answer)
    do_all(doings, connection)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # whatever threads an adapter has left
