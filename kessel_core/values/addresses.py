"""Addresses to listen at: `HOST:PORT`."""

from __future__ import annotations

from typing import Final

from kessel_core.values.secrets import quoted

__all__ = ["address_text", "read_address"]

_HIGHEST_PORT: Final = 65_535
_MOST_DIGITS: Final = 5


def read_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`: the host is a name or an address, of IPv6 in brackets; port 0 is any free one.

    Raises:
        ValueError: It is none; the text says what is expected.
    """
    host, colon, port = text.strip().rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    is_host = bool(bare) and (is_bracketed or ":" not in bare) and not set(bare) & set(" /@[]\t\n")
    is_number = port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS
    is_port = is_number and int(port) <= _HIGHEST_PORT
    if not (colon and is_host and is_port):
        raise ValueError(f"expected HOST:PORT, as 127.0.0.1:8086 or [::1]:8086, got {quoted(text)}")
    return bare, int(port)


def address_text(host: str, port: int) -> str:
    """Write an address as `read_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
