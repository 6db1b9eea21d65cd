"""How endpoints do: what is known of each, how it changes, and where it is kept.

An endpoint that failed five times in a row rests: it is asked once per pause, by one job at a time (S23). The
changes are pure functions of a state; `EndpointStates` keeps states, and refuses a write that would undo
another's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

import attrs

from kessel_core.contract import Store, StoreConflict

__all__ = [
    "FRESH",
    "EndpointState",
    "EndpointStates",
    "MemoryStates",
    "StoreStates",
    "admitted",
    "change",
    "described",
    "disabled",
    "failed",
    "iso",
    "pause_before",
    "worked",
]

#: So many failures in a row make an endpoint rest.
PATIENCE: Final = 5
#: The first pause of an endpoint that rests; it doubles with each further failure, up to the longest.
_FIRST, _LONGEST = timedelta(minutes=1), timedelta(hours=1)


@attrs.frozen(kw_only=True)
class EndpointState:
    """What is known of one endpoint."""

    #: Failures since the last success.
    failures: int = 0
    #: Not asked before; aware; None: it does not rest.
    rests_until: datetime | None = None
    #: The job that asks it now, while it rests.
    asked_by: str = ""
    #: When that job is taken for lost; aware.
    asked_until: datetime | None = None
    #: When it answered that it is gone; aware; None: it is not disabled.
    disabled_at: datetime | None = None
    #: Where it is, and how it failed last; for people.
    place: str = ""
    message: str = ""


#: An endpoint of which nothing is known.
FRESH: Final = EndpointState()


# --- how a state changes; pure --------------------------------------------------------------------


def pause_before(state: EndpointState, job_id: str, now: datetime) -> timedelta | None:
    """Return how long a job has to wait before it may ask an endpoint; None: it may ask it now."""
    if state.failures < PATIENCE:
        return None
    rest = _left(state.rests_until, now)
    return rest if rest is not None or state.asked_by == job_id else _left(state.asked_until, now)


def _left(until: datetime | None, now: datetime) -> timedelta | None:
    """Return how long it is until a moment, or None if that is not to be waited for.

    A moment that is further away than any pause is long was noted by a clock that was ahead.
    """
    return until - now if until is not None and timedelta(0) < until - now <= _LONGEST else None


def admitted(state: EndpointState, job_id: str, now: datetime, lasts: timedelta) -> EndpointState:
    """Return the state while a job asks: where the endpoint rests, no other one may.

    Args:
        state: One for which `pause_before` gave None.
        job_id: The job that asks.
        now: The current time; aware.
        lasts: After this the job is taken for lost.
    """
    if state.failures < PATIENCE:
        return state
    return attrs.evolve(state, asked_by=job_id, asked_until=now + lasts)


def failed(state: EndpointState, now: datetime, place: str, message: str) -> EndpointState:
    """Return the state after one more failure."""
    if state.disabled_at is not None:
        return state
    if _left(state.rests_until, now) is not None:
        # Of a job that asked before the rest began: a second of outage must not add up to an hour.
        return attrs.evolve(state, place=place, message=message)
    failures = state.failures + 1
    rests_until = None
    if failures >= PATIENCE:
        doublings = min(failures - PATIENCE, 16)  # the longest pause is reached long before
        rests_until = now + min(_FIRST * 2**doublings, _LONGEST)
    return attrs.evolve(
        state,
        failures=failures,
        rests_until=rests_until,
        asked_by="",
        asked_until=None,
        place=place,
        message=message,
    )


def worked(state: EndpointState) -> EndpointState:
    """Return the state after a success."""
    return state if state.disabled_at is not None else FRESH


def disabled(now: datetime, place: str) -> EndpointState:
    """Return the state of an endpoint that answered that it is gone."""
    return EndpointState(disabled_at=now, place=place, message="answered 410")


def described(state: EndpointState) -> str:
    """Return how an endpoint does, for people."""
    if state.disabled_at is not None:
        return f"disabled since {iso(state.disabled_at)}: {state.message}"
    if not state.failures:
        return "ok"
    times = "once" if state.failures == 1 else f"{state.failures} times in a row"
    rests = f", rests until {iso(state.rests_until)}" if state.failures >= PATIENCE else ""
    return f"failed {times}{rests}: {state.message}"


def iso(moment: datetime | None) -> str | None:
    """Format a moment in UTC, to the second."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


# --- where states are kept ------------------------------------------------------------------------


class EndpointStates(Protocol):
    """Keeps the states of endpoints, by a key; thread-safe. Raises the `AdapterError` tree only."""

    def read(self, key: str) -> tuple[EndpointState, int]:
        """Return a state and its version; `FRESH` and 0 where nothing is kept."""
        ...

    def write(self, key: str, state: EndpointState, version: int) -> bool:
        """Replace exactly this version; `FRESH` removes. Returns False, and does nothing, if it is past."""
        ...

    def all(self) -> Iterator[tuple[str, EndpointState]]:
        """Yield every key and its state, by key."""
        ...


def change(
    states: EndpointStates, key: str, changed: Callable[[EndpointState], EndpointState]
) -> EndpointState:
    """Change a state, again if somebody else changed it meanwhile; return the new one.

    Args:
        states: Where it is kept.
        key: Of the endpoint.
        changed: Gives the new state; called again with what is there then. What it raises is passed on.
    """
    while True:
        state, version = states.read(key)
        new = changed(state)
        if new == state or states.write(key, new, version):
            return new


class MemoryStates:
    """Keeps states in this process; for applications without a store."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[EndpointState, int]] = {}
        self._lock = threading.Lock()
        self._last = 0

    def read(self, key: str) -> tuple[EndpointState, int]:
        """Return a state and its version."""
        return self._kept.get(key, (FRESH, 0))

    def write(self, key: str, state: EndpointState, version: int) -> bool:
        """Replace exactly this version."""
        with self._lock:
            if self.read(key)[1] != version:
                return False
            self._last += 1
            if state == FRESH:
                self._kept.pop(key, None)
            else:
                self._kept[key] = state, self._last
            return True

    def all(self) -> Iterator[tuple[str, EndpointState]]:
        """Yield every key and its state, by key."""
        for key, (state, _) in sorted(self._kept.copy().items(), key=lambda item: item[0]):
            yield key, state


_SPACE: Final = "http.endpoints"
#: What is known of failures is forgotten after so long without a new one.
_KEPT: Final = timedelta(days=30)
_Fields: TypeAlias = dict[str, Any]


class StoreStates:
    """Keeps states in the application's store, so that all its workers know the same."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: str) -> tuple[EndpointState, int]:
        """Return a state and its version."""
        entry = self._store.get(_SPACE, key)
        return (FRESH, 0) if entry is None else (_state(entry.value), entry.version)

    def write(self, key: str, state: EndpointState, version: int) -> bool:
        """Replace exactly this version."""
        try:
            if state != FRESH:
                ttl = None if state.disabled_at is not None else _KEPT
                self._store.put(_SPACE, key, _bytes(state), expect=version, ttl=ttl)
            elif version:
                self._store.delete(_SPACE, key, expect=version)
            else:
                return self._store.get(_SPACE, key) is None
        except StoreConflict:
            return False
        return True

    def all(self) -> Iterator[tuple[str, EndpointState]]:
        """Yield every key and its state, by key."""
        after = ""
        while page := self._store.scan(_SPACE, after=after):
            yield from ((entry.key, _state(entry.value)) for entry in page)
            after = page[-1].key


def _bytes(state: EndpointState) -> bytes:
    fields = attrs.asdict(state, filter=lambda field, value: value != field.default)
    return json.dumps(fields, default=datetime.isoformat).encode()


def _state(value: bytes) -> EndpointState:
    """Read what `_bytes` wrote; what a newer version added is left out, and what is no state is `FRESH`."""
    try:
        fields: _Fields = json.loads(value)
        known = {
            field.name: _field(field.name, fields[field.name])
            for field in attrs.fields(EndpointState)
            if field.name in fields
        }
        return EndpointState(**known)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return FRESH


def _field(name: str, value: Any) -> Any:
    """Read one field; one of another type would fail each delivery later."""
    if name in ("rests_until", "asked_until", "disabled_at"):
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None:
            raise ValueError(f"{name} has no zone")
        return moment.astimezone(UTC)
    if type(value) is not type(getattr(FRESH, name)):
        raise TypeError(name)
    return value
