"""What the small adapter and the small store over a network have in common: frames, and a lost connection."""

from __future__ import annotations

import socket
import struct
from typing import Final

__all__ = ["HEADER", "Lost", "received"]

#: Before each request and each answer: how many bytes follow.
HEADER: Final = struct.Struct(">I")


class Lost(Exception):
    """The connection is gone; `was_sent` tells whether the server may have done what it was asked."""

    def __init__(self, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__("no answer" if was_sent else "nothing was sent")


def received(peer: socket.socket, size: int) -> bytes:
    """Read so many bytes; raises OSError if they do not come."""
    found = b""
    while len(found) < size:
        data = peer.recv(size - len(found))
        if not data:
            raise ConnectionError("the end of the stream")
        found += data
    return found
