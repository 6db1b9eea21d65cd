"""What does not fit into the buffers of a connection (PostgreSQL, Redis)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from kessel_core.contract import COMMIT, NO_PAUSE, Message


def test_s9_a_body_larger_than_what_a_connection_takes_at_once_comes_whole(
    opened: Callable[..., Any],
) -> None:
    """It is sent in parts, while the server may want to be read from."""
    adapter, body = opened(), b"0123456789abcdef" * (1 << 20)
    adapter.enqueue(Message("a", "q", body, 1))
    with closing(adapter.consumer(["q"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        assert held.body == body
        consumer.settle(held, COMMIT)
