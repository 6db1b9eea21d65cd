"""What must not be printed: values whose name says so, and passwords in URLs."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, unquote_plus, urlsplit

__all__ = ["HIDDEN", "is_secret", "redacted"]


HIDDEN: Final = "***"


# What looks like this is never printed; a harmless `partition_key` is hidden with the others.
_SECRET_NAME: Final = re.compile(r"(?i)password|passwd|secret|token|credential|key\d*$")


def is_secret(name: str) -> bool:
    """Say whether the value of an option of this name must not be printed."""
    return _SECRET_NAME.search(name) is not None


def redacted(url: str | SplitResult) -> str:
    """Return the URL with its password, and the query values that `is_secret`, replaced by `***`."""
    parts = urlsplit(url) if isinstance(url, str) else url
    netloc = parts.netloc
    userinfo, at, host = netloc.rpartition("@")
    if at and ":" in userinfo:
        netloc = f"{userinfo.partition(':')[0]}:{HIDDEN}@{host}"
    query = "&".join(map(_without_secret, parts.query.split("&")))
    if isinstance(url, SplitResult) or "://" in url:
        # By hand: urlunsplit drops the empty host of `sqlite:///jobs.db`.
        return f"{parts.scheme}://{netloc}{parts.path}" + (f"?{query}" if query else "")
    return parts._replace(netloc=netloc, query=query).geturl()


def _without_secret(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    # By the name that a reader of the URL will see: %74oken is token.
    return f"{name}={HIDDEN}" if equals and is_secret(unquote_plus(name)) else pair
