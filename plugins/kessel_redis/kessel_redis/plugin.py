"""The plugin: offers the adapter and the store; loads redis-py only when one is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec, StoreSpec
from kessel_core.hooks import hookimpl
from kessel_redis.options import RedisOptions, RedisStoreOptions, ServerOptions, redis_url_options

if TYPE_CHECKING:
    from kessel_redis.adapter import RedisAdapter
    from kessel_redis.entries import RedisStore

__all__ = ["SPEC", "STORE", "kessel_adapters", "kessel_stores"]


def _open(options: RedisOptions, context: AdapterContext) -> RedisAdapter:
    from kessel_redis.adapter import RedisAdapter

    return RedisAdapter(options, context)


def _open_store(options: RedisStoreOptions, context: AdapterContext) -> RedisStore:
    from kessel_redis.database import Database
    from kessel_redis.entries import RedisStore

    return RedisStore(Database(options, context.clock), options.max_value_bytes, owns_database=True)


def _place(options: ServerOptions) -> str:
    return options.place


_ENDS = ("", "+sentinel", "+cluster")
_SCHEMES = tuple(name + end for end in _ENDS for name in ("redis", "rediss", "valkey", "valkeys"))
_SUMMARY = "in Redis or Valkey: quick, for many machines, as durable as the server is configured"

SPEC = AdapterSpec(
    name="redis",
    schemes=_SCHEMES,
    options=RedisOptions,
    open=_open,
    from_url=redis_url_options,
    place=_place,
    summary=_SUMMARY,
)

STORE = StoreSpec(
    name="redis",
    schemes=_SCHEMES,
    options=RedisStoreOptions,
    open=_open_store,
    from_url=redis_url_options,
    place=_place,
    summary=_SUMMARY,
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `redis`: `redis://host:port/db`."""
    return [SPEC]


@hookimpl
def kessel_stores() -> Iterable[StoreSpec]:
    """Offer the store `redis`: `redis://host:port/db`."""
    return [STORE]
