"""A batch that takes several transactions: each job has an outcome, whatever becomes of one of them (S14)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from kessel_core import EnqueueIncomplete, JobManager
from kessel_core.contract import Message, ProtocolError


@pytest.fixture
def adapter(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that stores two jobs at a time, and is refused the second time, as when a right was taken away."""
    made = opened()
    monkeypatch.setattr(sys.modules[type(made).__module__], "_CHUNK", 2)
    run, writes = made.database.run, []

    def refusing(*given: Any, **more: Any) -> Any:
        if given[1:2] != (None,) and len(given) > 1:
            writes.append(None)
            if len(writes) == 2:
                raise ProtocolError("a right was taken away")
        return run(*given, **more)

    monkeypatch.setattr(made.database, "run", refusing)
    return made


def test_s14_what_is_refused_in_the_middle_of_a_batch_hides_no_outcome(adapter: Any) -> None:
    outcomes = adapter.enqueue_many([Message(name, "q", b"x", 1) for name in "abcde"])
    kinds = [None if outcome is None else type(outcome) for outcome in outcomes]
    assert kinds == [None, None, ProtocolError, ProtocolError, None]
    assert adapter.stats("q").ready == 3


def test_s14_who_requested_hears_which_jobs_are_stored(adapter: Any) -> None:
    with JobManager(adapter, only_requests=True) as manager:
        with pytest.raises(EnqueueIncomplete) as caught:
            manager.request_many(["a"] * 5)
        assert len(caught.value.stored) == 3
        assert {type(error) for error in caught.value.rejected.values()} == {ProtocolError}
        assert adapter.stats("default").ready == 3
