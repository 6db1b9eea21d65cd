"""What a plugin offers as a page beside `/livez` and `/readyz`, and what it may show there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from kessel_core.contract.operations import QueueStats
from kessel_core.model.worker import BusyJob, Health

__all__ = ["Page", "PageContext"]


@attrs.frozen(kw_only=True)
class PageContext:
    """What a worker tells a plugin for its pages. The functions may be called any time, in any thread."""

    #: The name of the adapter.
    adapter: str
    #: Names of the queues that the worker serves.
    queues: tuple[str, ...]
    #: Types that this application has handlers for.
    types: frozenset[str]
    #: Returns the worker's health, as far as it is known: the queue is not asked.
    health: Callable[[], Health]
    #: Returns the jobs that run, those that run longest first.
    running: Callable[[], Sequence[BusyJob]]
    #: Asks the queue of this name how many jobs it holds; takes as long as the queue takes to answer. Raises
    #: `AdapterError` while it cannot be reached.
    stats: Callable[[str], QueueStats]


@attrs.frozen(kw_only=True)
class Page:
    """A page of a plugin.

    Example:
        >>> page = Page(
        ...     show=lambda: b"7",
        ...     merge=lambda running, ended: str(sum(map(int, [*running, *ended]))).encode(),
        ... )
    """

    #: Returns the page of one process. Called in a thread of the server, for one request at a time. An
    #: exception is logged, and answered with 500; so is anything but bytes.
    show: Callable[[], bytes]
    #: Makes one page of those of several processes. The first argument are the pages of those that run, the
    #: second the last pages of those that have ended since the start, so that what is counted does not fall
    #: when a process is replaced. With none that runs it returns what must not be forgotten of those that
    #: have ended, which becomes a page of the second argument. Called where no job runs, so it must get by
    #: with its arguments.
    merge: Callable[[Sequence[bytes], Sequence[bytes]], bytes]
    #: The value of the header `Content-Type`.
    content_type: str = "text/plain; charset=utf-8"
