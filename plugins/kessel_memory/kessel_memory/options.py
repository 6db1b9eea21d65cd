"""What can be set, and how a URL says it. Cheap to import: the plugin module loads it at discovery."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult

import attrs

from kessel_core.contract import InvalidConfig, Problem, TieBreak, url_options

__all__ = ["MemoryOptions", "MemoryStoreOptions", "memory_url_options"]

_SHORTEST_LEASE = timedelta(milliseconds=1)
_LONGEST_LEASE = timedelta(days=366)


@attrs.frozen(kw_only=True)
class MemoryOptions:
    """Options of `memory://name?option=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: "" is private to the adapter that opens it. With a name, everybody in this process who
    #: opens that name shares its jobs, until the last one has closed it.
    name: str = ""
    #: Length of a lease, 1 ms to 366 days.
    lease: timedelta = timedelta(seconds=60)
    #: Place among equals of a job that was delayed, rolled back or kicked (S6).
    tie_break: TieBreak = TieBreak.READY
    #: Refuse larger bodies; None: no limit.
    max_body_bytes: int | None = None
    #: Refuse to hold more jobs than this, in whatever state; None: no limit.
    capacity: int | None = None

    def __attrs_post_init__(self) -> None:
        """Check everything together."""
        problems: list[Problem] = []
        if not _SHORTEST_LEASE <= self.lease <= _LONGEST_LEASE:
            problems.append(Problem(("lease",), f"expected 1 ms to 366 days, got {self.lease}"))
        for name in ("max_body_bytes", "capacity"):
            limit: int | None = getattr(self, name)
            if limit is not None and limit < 1:
                problems.append(Problem((name,), f"expected 1 or more, got {limit}"))
        if problems:
            raise InvalidConfig(problems, "invalid options of the adapter 'memory'")


@attrs.frozen(kw_only=True)
class MemoryStoreOptions:
    """Options of `memory://name` as a store."""

    #: "" is private to the application that opens it; with a name, everybody in this process who opens that
    #: name shares its entries, until the last one has closed it.
    name: str = ""


def memory_url_options(url: SplitResult) -> dict[str, Any]:
    """Read `memory://name?option=value`; other parts of a URL become options that nobody knows.

    Raises:
        InvalidConfig: As `url_options`.
    """
    found = url_options(url)
    if "host" in found and "name" not in found:
        del found["host"]
        # Not the host name, which is in lower case whatever the URL says.
        found["name"] = url.netloc.rpartition("@")[2].partition(":")[0]
    return found
