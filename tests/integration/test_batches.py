"""A batch that takes several transactions: each job has an outcome, whatever becomes of one of them (S14)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from kessel_core import AdapterUnavailable, EnqueueIncomplete, JobManager
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


def test_s14_a_batch_goes_no_further_than_a_call_that_nobody_answered_to_begin_with(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call would wait for as long as a connection may take to be made."""
    adapter, tried = opened(), list[object]()
    monkeypatch.setattr(sys.modules[type(adapter).__module__], "_CHUNK", 2)

    def away(*call: object) -> NoReturn:
        tried.append(call)
        raise AdapterUnavailable("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(adapter.database, "call", away)
        outcomes = adapter.enqueue_many([Message(name, "q", b"x", 1) for name in "abcdea"])
    assert [type(outcome) for outcome in outcomes] == [AdapterUnavailable] * 6
    assert len(tried) == 1
    assert adapter.stats("q").total == 0
