"""What a server says about itself, and what that proves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from kessel_core.contract import Durability
from kessel_redis.link import Link, Refused
from kessel_redis.scripts import Keys, packed

__all__ = ["OLDEST", "ServerFacts", "facts_of"]

#: The oldest version that is supported, as Redis counts; Valkey says with which of them it is compatible.
OLDEST: Final = (6, 2)


@attrs.frozen(kw_only=True)
class ServerFacts:
    """What a server says about itself; empty where it may not be asked."""

    #: The fields of `INFO`.
    info: Mapping[str, str]
    #: The answers of `CONFIG GET`.
    config: Mapping[str, str]
    #: The commands of our scripts that the user may not run; empty where that cannot be asked.
    refused: frozenset[str] = frozenset()

    @property
    def may_publish(self) -> bool:
        """Whether the user may tell other processes what it does, as far as that can be asked."""
        return "PUBLISH" not in self.refused

    @property
    def version(self) -> tuple[int, ...]:
        """The version, as Redis counts; empty: unknown."""
        parts = self.info.get("redis_version", "").split(".")[:2]
        return tuple(int(part) for part in parts if part.isdigit())

    @property
    def version_name(self) -> str:
        """Name and version, for people."""
        if "valkey_version" in self.info:
            return f"Valkey {self.info['valkey_version']}"
        return f"Redis {self.info.get('redis_version', 'of unknown version')}"

    @property
    def is_replica(self) -> bool:
        """Whether it follows another server."""
        return self.info.get("role") in ("slave", "replica")

    @property
    def evicts(self) -> bool:
        """Whether it removes our keys when its memory is full; none of them has a time to live."""
        return self.info.get("maxmemory_policy", "").startswith("allkeys-")

    @property
    def fsync(self) -> str:
        """`no file`, the value of `appendfsync`, or `unknown`."""
        if self.info.get("aof_enabled") == "0" or self.config.get("appendonly") == "no":
            return "no file"
        return self.config.get("appendfsync") or "unknown"

    @property
    def setting(self) -> str:
        """The setting of the server that counts, for people."""
        return "appendonly no" if self.fsync == "no file" else f"appendfsync {self.fsync}"

    def durability(self, accepted: Durability | None) -> Durability:
        """Return what an acknowledged write survives.

        With `everysec` the write itself may wait two seconds for the disk, after the answer; so the end of
        the server's process may lose it, and it counts only if the user accepts that.

        Args:
            accepted: What the user says; None: nothing.
        """
        most = self.provable
        if accepted is None:
            return Durability.NONE if self.fsync in ("everysec", "unknown") else most
        return min(accepted, most, key=list(Durability).index)

    @property
    def provable(self) -> Durability:
        """The most that its settings allow."""
        match self.fsync:
            case "no file":
                return Durability.NONE
            case "everysec" | "no":
                return Durability.PROCESS_CRASH
            case "always" if self.config.get("no-appendfsync-on-rewrite") == "yes":
                return Durability.PROCESS_CRASH  # nothing is synced while the file is rewritten
            case _:
                return Durability.POWER


_SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")


def facts_of(link: Link, keys: Keys) -> ServerFacts:
    """Ask a server about itself and the rights of the user, in one round trip; what it refuses is left out.

    Raises:
        Lost: It does not answer.
        Refused: It answers nothing at all yet, or only after a password.
    """
    settings_asked = (packed(b"CONFIG", b"GET", name.encode()) for name in _SETTINGS)
    commands = [packed(b"INFO"), keys.ask_rights, *settings_asked]
    info, refused, *settings = link.run(b"".join(commands), len(commands))
    if isinstance(info, Refused) and info.code != "NOPERM":
        raise info
    config: dict[str, str] = {}
    for answer in settings:
        if isinstance(answer, list) and len(answer) == 2:
            config[_text(answer[0])] = _text(answer[1])
    return ServerFacts(
        info={} if isinstance(info, Refused) else _fields(_text(info)),
        config=config,
        refused=frozenset() if isinstance(refused, Refused) else frozenset(map(_text, refused)),
    )


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _fields(info: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}
