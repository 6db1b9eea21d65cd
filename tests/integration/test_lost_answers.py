"""What PostgreSQL and Redis must do alike when a call gets no answer (contract, rule 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kessel_core.contract import AdapterUnavailable
from tests.lost_answers import LostAnswer


def test_connections_that_were_idle_while_one_got_no_answer_are_not_used_again(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have died with it, without a word; each would cost a call of its own its time-out."""
    adapter = opened()
    fault = LostAnswer(adapter, monkeypatch)
    pool = adapter.database.pool
    links = [pool.borrow() for _ in range(3)]
    for link in links:
        pool.give(link)
    fault.armed = True
    with pytest.raises(AdapterUnavailable):
        adapter.stats("q")
    assert adapter.stats("q").total == 0
    assert set(links).isdisjoint(pool.links)
