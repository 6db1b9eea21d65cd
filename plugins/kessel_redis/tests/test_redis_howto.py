"""What docs/howto/redis.md says is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from kessel_redis.adapter import RedisAdapter
from kessel_redis.testing import Redis

from kessel_core.contract import NO_PAUSE, Commit, DoctorContext, Durability, Level, Message, Put

PAGE = (Path(__file__).parents[3] / "docs" / "howto" / "redis.md").read_text("utf-8")
DOCTOR = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=30))


def commands(first: str) -> list[list[str]]:
    """Return the commands of the page that `redis-cli` gets, and that begin so."""
    lines = re.findall(rf"^    redis-cli ({first} (?:.*\\\n)*.*)$", PAGE, re.M)
    return [shlex.split(line.replace("\\\n", " ")) for line in lines]


def test_rights_of_a_worker_are_enough(
    opened: Callable[..., RedisAdapter], servers: Callable[..., Redis], ask: Callable[..., Any]
) -> None:
    server = servers()
    [rule] = commands("ACL")
    ask(opened(at=server), *(part.replace("{kessel}", "{shop}") for part in rule))
    adapter = opened(at=server, namespace="shop", username="worker", password="password")
    assert adapter.capabilities.durability is Durability.POWER
    adapter.enqueue(Message("a", "q", b"x", 1))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.extend(held)
    brought = Commit(follow=(Message("f", "q", b"x", 1),), puts=(Put("s", "k", b"v"),))
    assert consumer.settle_and_reserve(held, brought) is not None
    adapter.pause("q", timedelta(hours=1))
    assert adapter.queues() == ["q"]
    assert {one.level for one in adapter.doctor(DOCTOR) if one.subject != "server"} == {Level.OK}


def test_settings_of_the_page_let_jobs_survive_a_loss_of_power(
    opened: Callable[..., RedisAdapter], servers: Callable[..., Redis], ask: Callable[..., Any]
) -> None:
    """Beginning with those of a distribution, which keep nothing for sure."""
    server = servers(appendonly="no", appendfsync="everysec")
    before = opened(at=server)
    assert before.capabilities.durability is Durability.NONE
    settings = commands("CONFIG SET")
    assert len(settings) == 3
    for command in settings:
        ask(before, *command)
    assert opened(at=server, require_durable=True).capabilities.durability is Durability.POWER
