"""What adapters tell of a batch, and of a write that failed (S14, S19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    StoreRejected,
    StoreUnknown,
    Written,
    error_for,
    in_portions,
    refused_write,
    unknown_write,
)


@pytest.mark.parametrize(
    ("written", "kind"),
    [(None, AdapterUnavailable), ("job", EnqueueRejected), (("space", "key"), StoreRejected)],
)
def test_s14_s19_what_was_refused_says_what_it_was_and_why(
    written: Written, kind: type[AdapterError]
) -> None:
    error = refused_write(written, "no room", "full")
    assert type(error) is kind
    assert "no room" in str(error)
    assert getattr(error, "reason", "full") == "full"


def test_s14_s19_what_may_be_stored_is_unknown_by_its_name() -> None:
    job, entry = unknown_write("job", "no answer"), unknown_write(("space", "key"), "no answer")
    assert isinstance(job, EnqueueUnknown)
    assert job.job_id == "job"
    assert isinstance(entry, StoreUnknown)
    assert (entry.space, entry.key) == ("space", "key")


def test_s14_each_job_of_a_transaction_that_failed_has_an_error_under_its_own_id() -> None:
    cause = OSError("disk")
    for first in (EnqueueRejected("a", "no room", "full"), EnqueueUnknown("a", "no answer")):
        first.__cause__ = cause
        other = error_for("b", first)
        assert type(other) is type(first)
        assert vars(other) | {"job_id": "a"} == vars(first) | {"job_id": "a"}
        assert getattr(other, "job_id") == "b"  # noqa: B009  # of both classes
        assert other.__cause__ is cause
    away = AdapterUnavailable("away")
    assert error_for("b", away) is away


@given(st.lists(st.binary(max_size=9), max_size=30), st.integers(1, 5), st.integers(1, 20))
def test_a_batch_is_split_in_order_and_each_portion_is_as_long_as_it_may_be(
    bodies: list[bytes], most: int, most_bytes: int
) -> None:
    portions = list(in_portions(bodies, len, most=most, most_bytes=most_bytes))
    assert [body for portion in portions for body in portion] == bodies
    for number, portion in enumerate(portions):
        size = sum(map(len, portion))
        assert 1 <= len(portion) <= most
        assert size - len(portion[-1]) < most_bytes, "it had ended before"
        is_last = number == len(portions) - 1
        assert is_last or len(portion) == most or size >= most_bytes, "one more would have found room"
