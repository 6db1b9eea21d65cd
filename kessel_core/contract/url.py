"""Splits the URL of an adapter, and reads options from it."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.secrets import redacted

__all__ = ["split_url", "url_options"]

_HINT = "; in a user name and a password write %2F for /, %3F for ?, %23 for #, %40 for @"

_NETLOC: Final = re.compile(r"[^/?#]*")


def split_url(text: str) -> SplitResult:
    """Return the parts of a URL, as `urllib.parse.urlsplit`; its host may be several, separated by commas.

    Newer Pythons refuse an IPv6 address in brackets behind another host (gh-105704).

    Raises:
        ValueError: It cannot be read as a URL; the message may repeat all of it, with its password.
    """
    scheme, mark, rest = text.partition("://")
    found = _NETLOC.match(rest)
    netloc = found[0] if found else ""
    if not mark or not {",", "["} <= set(netloc):
        return urlsplit(text)
    return urlsplit(f"{scheme}://{rest[len(netloc) :]}")._replace(netloc=netloc)


def url_options(url: SplitResult) -> dict[str, Any]:
    """Read options from a URL: host, port, username, password, path and the query.

    Only parts that are present appear. `path` is percent-decoded and keeps its leading slash.

    Raises:
        InvalidConfig: The port is not a number from 1 to 65535, a query key appears twice, the user name or
            the password has an unescaped `/` or `?`, or the URL has a fragment (`#`), which would be lost.
    """
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for part in ("hostname", "username", "password"):
        value = getattr(url, part)
        if value is not None:
            found["host" if part == "hostname" else part] = unquote(value)
    try:
        port = url.port
        if port == 0:
            raise ValueError
    except ValueError:
        # What stands there is not repeated: behind a password with a slash, it is the password's start.
        problems.append(Problem(("port",), f"expected a number from 1 to 65535{_HINT}"))
    else:
        if port is not None:
            found["port"] = port
    if url.path not in ("", "/"):
        found["path"] = unquote(url.path)
    for key, text in parse_qsl(url.query, keep_blank_values=True):
        if key in found:
            problems.append(Problem((key,), "is given twice"))
        found[key] = text
    if url.fragment:
        problems.append(Problem(("#",), "has no meaning here; write %23 where a name has one"))
    if url.netloc and "@" not in url.netloc and "@" in url.path + url.query.partition("=")[0]:
        problems.append(Problem(("host",), f"comes after a part of the path{_HINT}"))
    if problems:
        raise InvalidConfig(problems, f"invalid adapter URL {redacted(url)!r}")
    return found
