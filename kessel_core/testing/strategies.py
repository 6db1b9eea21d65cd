"""Hypothesis strategies for JSON values and for requests as callers write them.

Needs `hypothesis`, which is not a dependency of kessel.

Example:
    >>> from hypothesis import given
    >>> from kessel_core.testing.strategies import job_requests
    >>> @given(job_requests(types=["addition"]))
    ... def test_requests_are_accepted(request): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from kessel_core.model.job import DEFAULT_QUEUE, JobRequest
from kessel_core.model.json import JsonValue

__all__ = ["headers", "job_requests", "job_types", "json_values", "moments", "queue_names", "texts"]

_NAME_FIRST = "ABCXYZabcxyz0189+/;.$_()"


def texts(*, min_size: int = 0, max_size: int | None = None) -> st.SearchStrategy[str]:
    """Any text that can be stored: all of Unicode except surrogates (S2)."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=min_size, max_size=max_size)


def json_values(*, max_leaves: int = 20) -> st.SearchStrategy[JsonValue]:
    """Any valid payload (S2, S16).

    Args:
        max_leaves: Approximate upper limit of the number of values in a payload.
    """
    atoms: st.SearchStrategy[JsonValue] = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts()
    )
    return st.recursive(
        atoms,
        lambda values: st.lists(values) | st.dictionaries(texts(), values),
        max_leaves=max_leaves,
    )


def job_types() -> st.SearchStrategy[str]:
    """Any job type: text that is not blank, possibly with surrounding whitespace (S1)."""
    return texts(min_size=1).filter(lambda text: bool(text.strip()))


def queue_names() -> st.SearchStrategy[str]:
    """Queue names that every adapter accepts."""
    return st.builds(
        str.__add__,
        st.sampled_from(_NAME_FIRST),
        st.text(st.sampled_from(_NAME_FIRST + "-"), max_size=199),
    )


def headers() -> st.SearchStrategy[dict[str, str]]:
    """Headers of a request."""
    return st.dictionaries(texts(), texts(), max_size=3)


def moments(
    earliest: datetime = datetime(2000, 1, 1, tzinfo=UTC),
    latest: datetime = datetime(2100, 1, 1, tzinfo=UTC),
) -> st.SearchStrategy[datetime]:
    """Aware datetimes in several time zones, from `earliest` to `latest`."""
    zones = st.sampled_from([UTC, *(_fixed(hours) for hours in (-11, 2, 5.75, 14))])
    span = latest - earliest
    seconds = st.timedeltas(timedelta(0), span)
    return st.builds(lambda passed, zone: (earliest + passed).astimezone(zone), seconds, zones)


def _fixed(hours: float) -> timezone:
    return timezone(timedelta(hours=hours))


def job_requests(
    *,
    types: Sequence[str] | st.SearchStrategy[str] | None = None,
    payloads: st.SearchStrategy[JsonValue] | None = None,
    queues: Sequence[str] | st.SearchStrategy[str] = (DEFAULT_QUEUE,),
    now: datetime | None = None,
) -> st.SearchStrategy[JobRequest]:
    """Requests that `JobManager.request` accepts, with any of their optional fields.

    Args:
        types: Job types to choose from; None: any text.
        payloads: Payloads; None: any JSON value.
        queues: Queue names to choose from.
        now: When they will be requested, aware; delay and expiration may then be moments as well as
            spans. None: spans only, which are valid at any time.
    """
    delays = st.timedeltas(timedelta(0), timedelta(days=30))
    # An expiration must be after the delay, so it is drawn as a span on top of it (S5).
    lives = st.timedeltas(timedelta(microseconds=1), timedelta(days=30))

    def built(draw: st.DrawFn) -> JobRequest:
        delay = draw(st.none() | delays)
        life = draw(st.none() | lives)
        expiration = None if life is None else (delay or timedelta(0)) + life
        as_moments = now is not None and draw(st.booleans())
        return JobRequest(
            type=draw(_chosen(types) if types is not None else job_types()),
            payload=draw(payloads if payloads is not None else json_values()),
            id=draw(st.just("") | st.uuids().map(str)),
            ref=draw(st.none() | texts(max_size=30)),
            priority=draw(st.integers(-10, 2**32 + 10) | st.integers()),
            delay=now + delay if as_moments and now is not None and delay is not None else delay,
            expiration=now + expiration
            if as_moments and now is not None and expiration is not None
            else expiration,
            queue=draw(_chosen(queues)),
            headers=draw(headers()),
        )

    return st.composite(built)()


def _chosen(among: Sequence[str] | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return among if isinstance(among, st.SearchStrategy) else st.sampled_from(list(among))
