"""The plugin: offers the adapter `redis-scripts`. Cheap to import; redis-py loads when it is opened."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import attrs
from kessel_core.contract import AdapterContext, AdapterSpec, QueueAdapter
from kessel_core.hooks import hookimpl

__all__ = ["SPEC", "RedisOptions", "kessel_adapters"]


def _long_enough(_: object, attribute: attrs.Attribute[Any], value: timedelta) -> None:
    if value < timedelta(milliseconds=10):
        raise ValueError(f"{attribute.name} must be at least 10ms")


def _without_braces(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not value or set(value) & set("{}"):
        raise ValueError(f"{attribute.name} must be a name without braces")


@attrs.frozen(kw_only=True)
class RedisOptions:
    """Options of the adapter, from the URL or the configuration."""

    #: Host of the server.
    host: str = "localhost"
    #: Its port.
    port: int = 6379
    #: Its user; None: the default one.
    username: str | None = None
    #: The user's password; never printed.
    password: str | None = attrs.field(default=None, repr=False)
    #: Number of the database.
    db: int = 0
    #: What the names of all keys begin with.
    namespace: str = attrs.field(default="kessel", validator=_without_braces)
    #: How long a reservation holds its job unless it is extended; at least 10 ms.
    lease: timedelta = attrs.field(default=timedelta(seconds=60), validator=_long_enough)
    #: Longest wait for the server, to connect and for each answer; at least 10 ms.
    timeout: timedelta = attrs.field(default=timedelta(seconds=5), validator=_long_enough)


def _open(options: RedisOptions, context: AdapterContext) -> QueueAdapter:
    from kessel_adapter_redis_scripts.adapter import RedisAdapter

    return RedisAdapter(options, context)


SPEC: Final = AdapterSpec(
    name="redis-scripts",
    schemes=("redis-scripts",),
    options=RedisOptions,
    open=_open,
    summary="a Redis, by a script in Lua",
)


@hookimpl
def kessel_adapters() -> list[AdapterSpec]:
    """Offer the adapter."""
    return [SPEC]
