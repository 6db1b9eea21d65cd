"""URLs, read strictly: what two programs could read differently is refused. No input, no output.

The system's resolver takes `2130706433`, `0x7f000001`, `127.1` and digits in circles for 127.0.0.1; here a
host is an address only in its usual form, and otherwise a name in ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

__all__ = ["Url", "admits", "pattern_problem", "read_url"]

#: In characters; far more than any endpoint needs.
LONGEST: Final = 2000

_URL: Final = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<authority>[^/?]*)(?P<target>.*)", re.S)
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: What resolvers read as a number: a name must not end so.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

_PORTS: Final = {"https": 443, "http": 80}


@attrs.frozen(kw_only=True)
class Url:
    """The parts of a URL that a request needs; its repr has no path, which may hold a secret."""

    #: `https` or `http`.
    scheme: str
    #: A name or an address, in small letters; IPv6 without brackets.
    host: str
    #: 1 to 65535.
    port: int
    #: Path and query; begins with `/`.
    target: str = attrs.field(repr=False)
    #: The host, if it is an address.
    address: IPv4Address | IPv6Address | None = None

    @property
    def authority(self) -> str:
        """Host and port as in the header `Host`: without the usual port of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """Scheme, host and port, for messages and listings; never a path or a query."""
        return f"{self.scheme}://{self.authority}"


def read_url(text: str) -> Url:
    """Read a URL.

    Args:
        text: An absolute URL of https or http.

    Raises:
        ValueError: It cannot be used; the message says why, and repeats no part that may be secret.
    """
    if len(text) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} characters, has {len(text)}")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must be ASCII without blanks and control characters; write names as xn--...")
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("must be an absolute URL such as https://hooks.example.org/kessel")
    scheme, authority, target = found["scheme"].lower(), found["authority"], found["target"]
    if scheme not in _PORTS:
        raise ValueError(f"the scheme must be https or http, not {scheme[:20]}")
    if "@" in authority:
        raise ValueError("must not hold a user or a password")
    if "\\" in text:
        raise ValueError("must not hold a backslash")
    if "#" in text:
        raise ValueError("must not hold a fragment, which is never sent")
    host, port = _host_and_port(authority)
    address = _address(host)
    return Url(
        scheme=scheme,
        host=str(address) if address is not None else host,
        port=port if port is not None else _PORTS[scheme],
        target=target if target.startswith("/") else f"/{target}",
        address=address,
    )


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        inside, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address must stand in brackets")
        host, colon, port = inside + bracket, rest[:1], rest[1:]
    else:
        host, colon, port = authority.partition(":")
    if colon and (_PORT.fullmatch(port) is None or int(port) > 65_535):
        raise ValueError("the port must be a number from 1 to 65535")
    return host.lower(), int(port) if colon else None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, or None if it is a name; refuse what is neither."""
    if host.startswith("["):
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("what stands in brackets must be an IPv6 address") from None
        if address.scope_id is not None:
            raise ValueError("an IPv6 address must not have a zone")
        return address
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(host)
        except ValueError:
            raise ValueError("an IPv4 address must be four decimal numbers such as 203.0.113.7") from None
    if (problem := _name_problem(host)) is not None:
        raise ValueError(problem)
    return None


def _name_problem(name: str) -> str | None:
    if not name:
        return "must name a host"
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return "the host must be a name of letters, digits, hyphens and dots"
    return None


# --- which hosts are allowed ---------------------------------------------------------------------


def pattern_problem(pattern: str) -> str | None:
    """Return what is wrong with an entry of the list of allowed hosts, or None."""
    name = pattern.removeprefix("*.").lower()
    try:
        if "://" in pattern or "/" in pattern:
            return "must be a host such as hooks.example.org, or *.example.org, without scheme and path"
        address = _address(name)
    except ValueError as exc:
        return str(exc)
    if pattern.startswith("*.") and (address is not None or "." not in name):
        return "what follows *. must be a domain such as example.org"
    return None


def admits(patterns: Iterable[str], url: Url) -> bool:
    """Whether the host of a URL is on the list: as itself, or below a domain that is written `*.domain`."""
    for pattern in patterns:
        domain = pattern.lower().removeprefix("*.")
        if pattern.startswith("*."):
            if url.address is None and url.host.endswith(f".{domain}"):
                return True
        elif url.host == (str(_address(domain) or domain)):
            return True
    return False
