"""What operators do stays quick on a server that can list nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.testing import Beanstalkd

from kessel_core.contract import JobState, Message


def test_a_job_that_was_shown_is_acted_on_without_another_look_at_every_job(
    opened: Callable[..., BeanstalkAdapter], server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kessel move` shows and deletes batch by batch: with a search for each job it took hours."""
    producer, operator = opened(server.port), opened(server.port)
    bodies = [
        b'{"v":1,"id":"job-%d","type":"t","priority":9,"payload":null}' % number for number in range(50)
    ]
    assert not any(
        producer.enqueue_many([Message(f"job-{n}", "q", body, 9) for n, body in enumerate(bodies)])
    )
    shown = operator.peek("q", JobState.READY, 50)

    def searched(*_: object) -> Iterator[list[int]]:
        raise AssertionError("every job of the server was looked at")

    monkeypatch.setattr(Operations, "_ids", searched)
    for job in shown:
        operator.delete("q", job.id)
    assert operator.stats("q").ready == 0
