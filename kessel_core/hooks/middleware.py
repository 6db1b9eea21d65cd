"""What a plugin offers as middleware: its name, what makes it, and what can be set. Makes nothing itself."""

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

    #: What `middleware` calls it; not blank.
    name: str
    #: Makes one for an application: called with an instance of `options`, or with nothing where there are
    #: none. Returns an object with a `kessel_execute_job` or a `kessel_retry_pause`, which all slots share.
    #: Refuses with a ValueError or an `InvalidConfig`.
    factory: Callable[..., object]
    #: An attrs class of what can be set in `middleware_options.NAME`; None: nothing.
    options: type[Any] | None = None
