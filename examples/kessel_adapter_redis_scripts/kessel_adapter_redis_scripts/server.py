"""Calls the script on the server, and turns what can go wrong into the errors of the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import redis
from kessel_core.contract import AdapterUnavailable, ProtocolError
from redis.backoff import NoBackoff
from redis.retry import Retry

from kessel_adapter_redis_scripts.plugin import RedisOptions

__all__ = ["Server", "Unanswered"]

_SCRIPT: Final = files(__package__).joinpath("queue.lua").read_bytes()
_DIGEST: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()
_SHARED: Final = ("ids", "last", "names")
_OF_A_QUEUE: Final = ("ready", "waiting", "held", "buried", "jobs", "paused")
#: What a server says that will take commands again later; nothing was done.
_LATER: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")


class Unanswered(AdapterUnavailable):
    """A command was sent and no answer came: it may or may not have been done."""


class Server:
    """One Redis. Thread-safe: every call uses a connection that no other call has at that time."""

    def __init__(self, options: RedisOptions) -> None:
        self._where = f"the Redis at {options.host}:{options.port}"
        self._prefix = "{" + options.namespace + "}"  # the braces keep all keys on one shard of a cluster
        seconds = options.timeout.total_seconds()
        self._pool = redis.ConnectionPool(
            host=options.host,
            port=options.port,
            username=options.username,
            password=options.password,
            db=options.db,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            protocol=2,
            retry=Retry(NoBackoff(), 0),  # or it would try again and again to connect
        )

    def call(self, operation: str, queues: Sequence[str], *arguments: object) -> Any:
        """Run one operation of the script.

        Raises:
            Unanswered: It may have been done.
            AdapterUnavailable: Nothing was done.
            ProtocolError: The server refused it, or is no Redis.
        """
        keys = [f"{self._prefix}:{name}" for name in _SHARED]
        keys += [f"{self._prefix}:{name}:{queue}" for queue in queues for name in _OF_A_QUEUE]
        call = (len(keys), *keys, operation, *arguments)
        try:
            return self.ask("EVALSHA", _DIGEST, *call)
        except redis.exceptions.NoScriptError:  # the server does not know it (any more); nothing was done
            return self.ask("EVAL", _SCRIPT, *call)

    def names(self) -> list[str]:
        """Return the names of all queues that there ever were."""
        return [name.decode() for name in self.ask("SMEMBERS", f"{self._prefix}:names")]

    def ask(self, *command: Any) -> Any:
        """Send one command, once, and return its answer; raises what `call` raises, and NoScriptError.

        Not by `redis.Redis`: by default that sends a command without an answer again, up to ten times, so an
        enqueue would be stored twice, and a reserve would hold jobs that nobody hears of.
        """
        try:
            connection: Any = self._pool.get_connection()
        except redis.AuthenticationError as exc:  # user or password; trying again does not help
            raise ProtocolError(f"{self._where} refused: {exc}") from exc
        except redis.InvalidResponse as exc:
            raise ProtocolError(f"{self._where} is no Redis: {exc}") from exc
        except (redis.RedisError, OSError) as exc:  # a pooled connection that is gone was replaced before
            raise AdapterUnavailable(f"{self._where} cannot be reached: {exc}") from exc
        try:
            connection.send_command(*command)
            # If it fails here, redis-py drops the connection: a late answer would be that of the next command.
            return connection.read_response()
        except redis.exceptions.NoScriptError:
            raise
        except (redis.ResponseError, redis.BusyLoadingError, redis.AuthenticationError) as exc:
            if isinstance(exc, redis.BusyLoadingError) or str(exc).startswith(_LATER):
                raise AdapterUnavailable(f"{self._where} cannot do it now: {exc}") from exc
            raise ProtocolError(f"{self._where} refused: {exc}") from exc
        except (redis.RedisError, OSError) as exc:
            raise Unanswered(f"{self._where} did not answer: {exc}") from exc
        finally:
            self._pool.release(connection)

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()
