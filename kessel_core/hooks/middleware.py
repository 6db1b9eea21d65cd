"""What a plugin offers as middleware: its name, its factory and its options. Nothing is created here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["Middleware"]


@attrs.frozen(kw_only=True)
class Middleware:
    """A middleware that a configuration can name.

    Example:
        >>> @attrs.frozen
        ... class SlowOptions:
        ...     seconds: float = 1.0
        >>> slow = Middleware(name="slow", factory=print, options=SlowOptions)
    """

    #: Its name in the option `middleware`; not blank.
    name: str
    #: Creates the middleware of an application: called with an instance of `options`, or without arguments
    #: if it has none. Returns an object with a `kessel_execute_job`, a `kessel_retry_pause` or a
    #: `kessel_enqueue_jobs`, which all threads share, so it must be thread-safe. May raise ValueError or
    #: `InvalidConfig`.
    factory: Callable[..., object]
    #: attrs class of the options in `middleware_options.NAME`; None: it has none.
    options: type[Any] | None = None
    #: Whether a process that only requests jobs makes it, too: it must, if it has a `kessel_enqueue_jobs`.
    for_requests: bool = False
