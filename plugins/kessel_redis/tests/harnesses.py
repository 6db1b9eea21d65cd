"""How the suites get hold of a Redis: a server of each run's own."""

from __future__ import annotations

import copy
from typing import Any, Final, Self

from kessel_conformance import Harness, ServerMissing
from kessel_redis.testing import Redis, RedisMissing

__all__ = ["REFUSED", "URL", "RedisHarness"]

URL: Final = "redis://127.0.0.1:{port}?namespace={namespace}&max_body_bytes=70000&timeout=3s&connect_timeout=3s&lease=5s"
#: Of a user that nobody has made.
REFUSED: Final = URL.replace("127.0.0.1", "guard:sesame-street@127.0.0.1")


def _started() -> Redis:
    try:
        server = Redis()
        server.start()
    except RedisMissing as exc:
        raise ServerMissing(str(exc)) from exc
    return server


class RedisHarness(Harness):
    """Brings a Redis."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.server: Redis | None = None

    def start(self) -> None:
        self.server = _started()
        self.version = self.version or self.server.version
        self.values["port"] = str(self.server.port)

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()

    def restart(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.start()

    def ended(self) -> str | None:
        process = self.server.process if self.server is not None else None
        return None if process is None or process.poll() is None else "redis-server has ended"

    def another(self, *, still: bool = False) -> Self:
        twin = copy.copy(self)
        twin.values, twin._tmp, twin.server = dict(self.values), None, None
        return twin

    def portable(self) -> Self:
        twin = super().portable()
        twin.server = None
        return twin
