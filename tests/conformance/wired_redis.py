"""The suite of kessel-redis on a server that stands already; `standing_redis` lends it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from harnesses import URL, RedisHarness
from kessel_conformance import AdapterConformance
from kessel_redis.plugin import SPEC
from standing import given
from standing_redis import ByFile


class StandingHarness(RedisHarness):
    def start(self) -> None:
        if self.server is not None:
            return  # again, after `stop`
        told = given()
        self.server = ByFile(Path(told["folder"]), told["port"])
        self.version = "as it is"
        self.values["port"] = f"{self.server.port}"

    def stop(self) -> None:
        """It stands."""

    def another(self, *, still: bool = False) -> None:
        """None: a case that restarts the server runs when the others are done."""


class TestRedis(AdapterConformance):
    harness = StandingHarness(SPEC, URL, tolerance=timedelta(seconds=0.5))
