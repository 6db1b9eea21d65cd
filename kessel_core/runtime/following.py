"""What the end of a job brings along: it is stored at least once, or the job is not settled (S20).

Where the adapter declares `follow`, jobs and entries go with the settlement, in one transaction. Elsewhere
they are stored first, under ids that are the same when the job runs again; and so is what belongs into a
store that is not the adapter's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import attrs

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.store import Store
from kessel_core.errors import AdapterUnavailable, EnqueueUnknown, IdHeld, StoreRejected, StoreUnknown
from kessel_core.model.job import Job
from kessel_core.model.message import Message
from kessel_core.model.settlement import Bury, Commit, Put, Settlement
from kessel_core.values.late import importing
from kessel_core.values.logs import get_logger
from kessel_core.wire.requests import iso

__all__ = ["NOTHING", "FollowUp", "FollowUps", "Following", "follow_up_id"]

log = get_logger("kessel.pipeline")

#: The name space of the ids of follow-ups; any fixed UUID would do.
_NAMESPACE: Final = bytes.fromhex("9d0c5c5e2f9a5d539e0c6b1b0a1f7e4d")


class FollowUp(NamedTuple):
    """A job that another one asked for, not stored yet."""

    #: The job, for those who watch.
    job: Job
    #: What the adapter stores.
    message: Message


class Following(NamedTuple):
    """What one settlement brings along."""

    #: Jobs.
    jobs: tuple[FollowUp, ...] = ()
    #: Entries of the application's store.
    puts: tuple[Put, ...] = ()


NOTHING: Final = Following()


def follow_up_id(job: Job, role: str) -> str:
    """Return the id of a follow-up: the same whenever the job runs again, and never that of another job's.

    A UUID of version 5 of the job's id, the moment of its request and the role (S20, RFC 9562, 5.5): an id
    is free once its job has ended, and what an earlier job of it brought along may still be there.
    """
    with importing():  # here, because hashlib loads OpenSSL, 4 MB that most workers do without
        from hashlib import sha1
        from uuid import UUID

    moment = "" if job.requested_at is None else iso(job.requested_at)
    name = f"{job.id}\n{moment}\n{role}".encode("utf-8", "surrogatepass")
    digest = sha1(_NAMESPACE + name, usedforsecurity=False).digest()
    return str(UUID(bytes=digest[:16], version=5))


class FollowUps:
    """Decides for one application how what follows is stored; thread-safe."""

    def __init__(self, adapter: QueueAdapter, store: Store | None) -> None:
        self._adapter = adapter
        self._store = store
        self._in_one = adapter.capabilities.follow
        #: Whether the entries are in the adapter's own store, so that they can go with the settlement.
        self._puts_in_one = self._in_one and store is not None and adapter.facet(Store) is store

    def with_settlement(
        self, settlement: Settlement, following: Following
    ) -> tuple[Settlement, Callable[[], None] | None]:
        """Return the settlement with what goes with it, and what has to be done before it, if anything.

        The second may be called again after it raised, and goes on where it was; it raises
        `AdapterUnavailable` if it should be called again, and `EnqueueRejected` if a follow-up is refused.
        """
        if not isinstance(settlement, (Commit, Bury)):
            return settlement, None
        messages = tuple(one.message for one in following.jobs)
        settlement = attrs.evolve(
            settlement,
            follow=messages if self._in_one else (),
            puts=following.puts if self._puts_in_one else (),
        )
        before = () if self._in_one else messages
        puts = () if self._puts_in_one else following.puts
        return settlement, self._storing([*puts, *before]) if before or puts else None

    def _storing(self, left: list[Put | Message]) -> Callable[[], None]:
        def store_first() -> None:
            while left:
                if isinstance(left[0], Put):
                    self._put(left[0])
                else:
                    self._enqueue(left[0])
                del left[0]

        return store_first

    def _enqueue(self, message: Message) -> None:
        try:
            self._adapter.enqueue(message)
        except IdHeld:
            pass  # stored when the job ran before, or by the try whose answer was lost
        except EnqueueUnknown as exc:
            raise AdapterUnavailable(str(exc)) from exc

    def _put(self, put: Put) -> None:
        assert self._store is not None
        try:
            self._store.put(put.space, put.key, put.value, ttl=put.ttl)
        except StoreUnknown as exc:
            raise AdapterUnavailable(str(exc)) from exc
        except StoreRejected as exc:  # it would be refused again, and must not keep the job from ending
            log.error("%s", exc)
