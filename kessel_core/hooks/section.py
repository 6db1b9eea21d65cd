"""What a plugin offers as a section of the configuration: its name, its options and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.store import Store

__all__ = ["Section", "SectionContext"]


@attrs.frozen(kw_only=True)
class SectionContext:
    """What the application passes to the factory of a section."""

    #: The application's clock (S18).
    clock: Clock
    #: Whether this process runs jobs. A process that only requests or looks may lack what jobs need,
    #: such as secrets of the environment, so they are not to be checked there.
    runs_jobs: bool
    #: Whether workers of this application have an address for their pages (`kessel_pages`). One that only
    #: offers a page has nothing to do elsewhere.
    shows_pages: bool = False
    #: Returns the application's store (S19); None: it has none. Raises `KesselError` while the application is
    #: not open yet, as when the factory is called.
    store: Callable[[], Store | None]


@attrs.frozen(kw_only=True)
class Section:
    """A section of the configuration that belongs to a plugin: `[kessel.NAME]`.

    Example:
        >>> @attrs.frozen
        ... class TideOptions:
        ...     harbour: str = "north"
        >>> tide = Section(name="tide", options=TideOptions, factory=lambda options, context: options)
    """

    #: Its name under `[kessel]`; not that of a section or an option of kessel itself.
    name: str
    #: attrs class of the options. Unknown names and wrong values are reported together, in attrs classes
    #: inside it, too. If one has no default, the section counts only where it is configured.
    options: type[Any]
    #: Makes what the application uses: called with an instance of `options` and a `SectionContext`, once for
    #: each application. What it returns may have hooks of its own, which are called for the jobs of this
    #: application alone: `kessel_handlers`, `kessel_callbacks`, `kessel_execute_job`, `kessel_retry_pause`,
    #: `kessel_prepare_request`, `kessel_enqueue_jobs`, `kessel_doctor`, `kessel_pages` and those that watch
    #: jobs and workers. It must be thread-safe. May raise ValueError or `InvalidConfig`.
    factory: Callable[[Any, SectionContext], object]
