"""Doing what another process asks for, and answering it; the other side of `elsewhere`."""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["do_all", "send"]


def do_all(doings: object, connection: Connection) -> None:
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
        send(connection, answer)


def send(connection: Connection, answer: Any) -> None:
    """Send an answer, or the exception that is one; what cannot be sent, as text."""
    try:
        connection.send(answer)
    except (TypeError, AttributeError, pickle.PicklingError):
        connection.send(RuntimeError(f"{type(answer).__name__}: {answer}"))
