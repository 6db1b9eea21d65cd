"""What must not be printed."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit


def redacted(url: str | SplitResult) -> str:
    """Return the URL with its password, and query values that look secret, replaced by `***`."""
    parts = urlsplit(url) if isinstance(url, str) else url
    netloc = parts.netloc
    userinfo, at, host = netloc.rpartition("@")
    if at and ":" in userinfo:
        netloc = f"{userinfo.partition(':')[0]}:***@{host}"
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*", r"\1***", parts.query)
    if isinstance(url, SplitResult) or "://" in url:
        # By hand: urlunsplit drops the empty host of `sqlite:///jobs.db`.
        return f"{parts.scheme}://{netloc}{parts.path}" + (f"?{query}" if query else "")
    return parts._replace(netloc=netloc, query=query).geturl()
