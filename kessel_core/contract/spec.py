"""How an adapter is found and opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.url import url_options

__all__ = ["AdapterContext", "AdapterSpec"]


@attrs.frozen(kw_only=True)
class AdapterContext:
    """What the application passes to an adapter or a store that it opens."""

    #: The application's clock (S18).
    clock: Clock


def unknown_place(options: Any) -> str | None:
    """Know nothing about a place."""
    return None


@attrs.frozen(kw_only=True, eq=False)
class AdapterSpec:
    """What a plugin's `kessel_adapters` hook returns; cheap to create, it loads no client library.

    Example:
        >>> @attrs.frozen
        ... class Options:
        ...     host: str = "localhost"
        >>> def open_foo(options, context):
        ...     from kessel_adapter_foo.adapter import FooAdapter  # loads here, not at discovery
        ...
        ...     return FooAdapter(options, context)
        >>> spec = AdapterSpec(name="foo", schemes=("foo",), options=Options, open=open_foo)
    """

    #: Its name in configurations and errors.
    name: str
    #: URL schemes that it opens, without `://`.
    schemes: tuple[str, ...]
    #: attrs class of the options; unknown names and wrong types are reported together.
    options: type
    #: Opens the adapter; may connect. A value that the type of an option allows, and that makes no sense, is
    #: refused with `InvalidConfig`, by the class of the options or here: one `Problem` for each, with the
    #: option's name as its path. `AdapterUnavailable`: nobody answers. `ProtocolError`: somebody else does,
    #: or one who refuses the user or the password.
    open: Callable[[Any, AdapterContext], QueueAdapter]
    #: Turns a split URL into option values; strings are converted to the type of the option. Left out, it is
    #: `url_options`.
    from_url: Callable[[SplitResult], Mapping[str, Any]] = attrs.field(factory=lambda: url_options)
    #: Says without opening that the queue does not exist yet and would be created, for example "there is
    #: no file /srv/shop/jobs.db"; None: it exists, or that is not known. Commands that only look ask this,
    #: and `kessel move` asks it of its source.
    absent: Callable[[Any], str | None] = attrs.field(factory=lambda: unknown_place)
    #: Says without opening where the jobs are, for people, for example the absolute path of a file; never
    #: with a secret. None: the URL says it.
    place: Callable[[Any], str | None] = attrs.field(factory=lambda: unknown_place)
    #: One line for `kessel adapters`.
    summary: str = ""
