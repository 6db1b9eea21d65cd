"""Mutants of the reference adapter that tell others less than themselves; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant, slot_mutant
from reference import Reference, Slot

from kessel_core import AdapterError
from kessel_core.contract import NO_PAUSE, Consumer, Message, Reservation, Rollback, Snooze

_WAYS: Final = {
    "rollback": "a rollback",
    "snooze": "a snooze",
    "kick": "a kick",
    "pause": "the end of a pause by hand",
    "close": "a job that a closing consumer held",
}


class _HearsOnlyItself(Slot):
    """Goes on sleeping where another adapter has announced something to itself alone."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        adapter = self.adapter
        found = super().reserve(NO_PAUSE)
        if found is not None or not timeout:
            return found
        end = adapter.clock.monotonic() + timeout.total_seconds()
        with adapter.lock:
            while not self.cancelled and (left := end - adapter.clock.monotonic()) > 0:
                adapter.clock.wait(adapter.disk.changed, min(left, self.until_change()))
                if adapter.disk.__dict__.get("sender") in (None, adapter):
                    self.held = adapter.take(self.queues)
                if self.held is not None:
                    return self.held
        return None


def _announce(adapter: Any, what: str, way: str) -> None:
    adapter.disk.__dict__["sender"] = adapter if way == what or adapter.__dict__.get("alone") else None
    Reference.announce(adapter, what)


def _alone(adapter: Any, call: Callable[[], Any], *, when: object = True) -> Any:
    """Make a call that announces to this adapter alone what it does, if that is so."""
    adapter.__dict__["alone"] = bool(when)
    try:
        return call()
    finally:
        adapter.__dict__["alone"] = False


def _in_one(adapter: Any, messages: Sequence[Message]) -> list[AdapterError | None]:
    """Store a batch by calls of its own, so that it is told."""
    outcomes: list[AdapterError | None] = []
    for message in messages:
        try:
            Reference.enqueue(adapter, message)
        except AdapterError as exc:
            outcomes.append(exc)
        else:
            outcomes.append(None)
    return outcomes


def _tells_itself(name: str, what: str, way: str = "", **methods: Any) -> None:
    mutant(
        f"tells_no_other_of_{name}",
        f"tells other adapters nothing of {what}",
        announce=lambda s, told: _announce(s, told, way),
        make_consumer=lambda s, queues: (s.refuse_if_closed(), _HearsOnlyItself(s, queues))[1],
        **methods,
    )


for _way, _what in _WAYS.items():
    _tells_itself(_way, _what, _way)
_tells_itself("batch", "a batch", enqueue_many=lambda s, ms: _alone(s, lambda: Reference.enqueue_many(s, ms)))
_tells_itself(
    "follow", "a follow-up", followed=lambda s, done: _alone(s, lambda: Reference.followed(s, done))
)
_tells_itself(
    "delays",
    "a batch in which jobs are delayed",
    enqueue_many=lambda s, ms: _alone(
        s, lambda: Reference.enqueue_many(s, ms), when=any(message.delay for message in ms)
    ),
)
_tells_itself(
    "delayed_enqueue",
    "a job that is delayed and comes alone",
    enqueue=lambda s, m: _alone(s, lambda: Reference.enqueue(s, m), when=m.delay),
    enqueue_many=lambda s, ms: _in_one(s, ms),
)
_tells_itself(
    "kick_shown",
    "a kick of a job that was shown",
    kick_shown=lambda s, job: _alone(s, lambda: Reference.kick_shown(s, job)),
)
_tells_itself("give_back", "giving back", give_back=lambda s, r: _alone(s, lambda: Reference.give_back(s, r)))
for _kind in (Rollback, Snooze):
    _tells_itself(
        f"{_kind.__name__.lower()}_pause",
        f"a {_kind.__name__.lower()} for some time",
        settle=lambda s, r, st, kind=_kind: _alone(
            s, lambda: Reference.settle(s, r, st), when=isinstance(st, kind) and st.pause
        ),
    )
_tells_itself(
    "shorter_pause",
    "a pause that is set",
    pause=lambda s, queue, span: _alone(s, lambda: Reference.pause(s, queue, span), when=span),
)
_tells_itself(
    "delayed_follow",
    "a follow-up that is delayed",
    followed=lambda s, done: _alone(
        s, lambda: Reference.followed(s, done), when=any(message.delay for message in done.follow)
    ),
)


# --- what time does to several queues ---


def _of_first(slot: Slot, queues: Sequence[str]) -> float:
    """Until the first of these queues changes that changes at all."""
    adapter = slot.adapter
    changes = (adapter.next_change([queue]) for queue in queues)
    first = next((moment for moment in changes if moment is not None), None)
    return 3600.0 if first is None else max(0.001, (first - adapter.clock.now()).total_seconds())


def _of_paused(slot: Slot) -> float:
    """Until a pause ends, where one of the queues is paused."""
    pauses = [slot.adapter.rest_of_pause(queue) for queue in slot.queues]
    return max(pauses) if max(pauses) > 0 else Slot.until_change(slot)


slot_mutant(
    "sleeps_for_first_that_changes",
    "sleeps until something changes in the first of its queues in which anything will",
    until_change=lambda self: _of_first(self, self.queues),
)
slot_mutant(
    "sleeps_for_last_that_changes",
    "sleeps until something changes in the last of its queues in which anything will",
    until_change=lambda self: _of_first(self, self.queues[::-1]),
)
slot_mutant(
    "sleeps_for_paused",
    "sleeps until the end of a pause of one of its queues, whatever is due in another",
    until_change=_of_paused,
)

# --- what arrives at once ---


class _HearsOneAtATime(Slot):
    """Sleeps until its adapter has read of one of its queues."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        adapter, now = self.adapter, self.adapter.clock.monotonic
        end = now() + timeout.total_seconds()
        with adapter.lock:
            read: list[str | None] = adapter.__dict__["read"]
            while not self.cancelled:
                seen = len(read)
                self.held = adapter.take(self.queues)
                if self.held is not None or now() >= end:
                    return self.held
                looks = min(end, now() + self.until_change())
                while not self.cancelled and not {None, *self.queues}.intersection(read[seen:]):
                    if (left := looks - now()) <= 0:
                        break
                    adapter.clock.wait(adapter.disk.changed, left)
        return None


def _with_ears(adapter: Any, queues: tuple[str, ...]) -> Consumer:
    adapter.refuse_if_closed()
    if "read" not in adapter.__dict__:
        adapter.__dict__.update(read=[], unread=[])
        adapter.disk.__dict__.setdefault("ears", []).append(adapter)
    return _HearsOneAtATime(adapter, queues)


def _tells_all(adapter: Any, what: str) -> None:
    if not adapter.__dict__.get("is_batch"):
        for ear in adapter.disk.__dict__.get("ears", ()):
            ear.read.append(None)
        Reference.announce(adapter, what)


def _arrive_at_once(adapter: Any, messages: Sequence[Message]) -> list[AdapterError | None]:
    with adapter.lock:
        adapter.__dict__["is_batch"] = True
        try:
            outcomes = list(Reference.enqueue_many(adapter, messages))
        finally:
            adapter.__dict__["is_batch"] = False
        for ear in adapter.disk.__dict__.get("ears", ()):
            told = [message.queue for message in messages]
            if ear is adapter:
                ear.read.extend(told)
            else:
                ear.unread.extend(told)
                ear.read.append(ear.unread.pop(0))
        Reference.announce(adapter, "batch")
    return outcomes


mutant(
    "hears_one_at_a_time",
    "reads one of the messages that arrive at once, and the next when another one arrives",
    make_consumer=_with_ears,
    announce=_tells_all,
    enqueue_many=_arrive_at_once,
)
