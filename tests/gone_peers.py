"""What adapters over a network tell the kernel about peers that are gone without a word."""

from __future__ import annotations

import socket

import pytest

__all__ = ["kernel_is_told", "only_where_it_can_be_told"]

only_where_it_can_be_told = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux can be told so"
)


def kernel_is_told(made: socket.socket, *, milliseconds: int) -> None:
    """Check that an unanswered write ends after so long, and silence within half a minute."""
    assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    told = [made.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    assert told == [milliseconds, 10, 5, 3]
