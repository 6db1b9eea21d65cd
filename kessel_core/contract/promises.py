"""What an adapter promises, with values that the conformance suite tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.model.job import LOWEST_PRIORITY

__all__ = ["Attempts", "Capabilities", "Durability", "LeaseReturn", "Reach", "TieBreak"]


class Reach(StrEnum):
    """Who can see the jobs of an adapter."""

    #: Only the process that opened it.
    PROCESS = "process"
    #: Every process of one machine.
    HOST = "host"
    #: Every machine that can reach the server.
    NETWORK = "network"


class Durability(StrEnum):
    """What an acknowledged job survives."""

    #: Nothing for sure: it may be gone when this process or the backend's ends.
    NONE = "none"
    #: The death of any process, the backend's included.
    PROCESS_CRASH = "process-crash"
    #: Loss of power. No suite can prove it: it checks what `process-crash` promises.
    POWER = "power"


class TieBreak(StrEnum):
    """The order of ready jobs of equal priority (S6)."""

    #: Always in the order of enqueueing: a job that was delayed, rolled back or kicked takes its old
    #: place, ahead of younger ones.
    ENQUEUED = "enqueued"
    #: In the order of becoming ready: such a job queues behind those that were ready before it.
    READY = "ready"


class LeaseReturn(StrEnum):
    """When the jobs of a dead worker come back."""

    #: As soon as the backend sees that the worker is gone.
    AT_ONCE = "at-once"
    #: When the lease is over.
    LEASE_END = "lease-end"


class Attempts(StrEnum):
    """How durable the count of deliveries is (S10)."""

    #: Lost when the backend's process ends.
    SERVER = "server"
    #: As durable as the job.
    DURABLE = "durable"


@attrs.frozen(kw_only=True)
class Capabilities:
    """What an adapter promises about its operations. None, False or 'none' means: not declared.

    Operations beyond the core contract are facets; see `QueueAdapter.facet`.

    What some backends could promise besides is no value here, and why:

    - *Jobs survive an orderly restart only*: declare `durability` as `none`. What lasts until something goes
      wrong is nothing that a producer can plan with (S9).
    - *At most the last second is lost*: `none` as well, where the end of a process takes it, because nobody
      knows which acknowledged jobs were in it; `process-crash` where only a loss of power does.
    - *Counts within a bound*: no suite can see the bound. Leave `counts` out; `kessel stats` then says so.
    - *How often a waiting consumer looks*: it changes how late a job starts, not what becomes of it. Without
      `blocking_reserve` that is for the adapter to choose and to tell; it is 0.1 s in `BaseAdapter`.
    - *Ids are compared for a time*: leave `dedupe` out. An id that is free while its job waits stores a
      repeated enqueue twice; one that is held after its job is gone makes the next job under it vanish.
    - *A batch is stored whole or not at all*: `enqueue_many` says for each job what became of it. Who needs
      all or nothing requests one job, and lets its follow-ups be the others (S20).
    - *A longest id*: every adapter takes 200 characters (rule 6); where the backend does not, store a digest
      as the key, and the id beside it.
    - *Whose clock counts*: `reach` says so (rule 5).

    Raises:
        InvalidConfig: Values that promise nothing, such as a lease of zero, under which a job runs again and
            again; each one is listed. Kessel refuses the adapter when it is opened.
    """

    #: Who can see the jobs.
    reach: Reach
    #: What an acknowledged enqueue survives (S9).
    durability: Durability = Durability.NONE
    #: Delays are rounded up to a multiple of this (S4); None: delays are not supported: the core refuses
    #: them, and the pause of a rollback or a snooze may be left out.
    delay_granularity: timedelta | None = None
    #: Longest delay; None: no limit. A job that is delayed by more is refused, the pause of a rollback or a
    #: snooze is cut to it by the core, and the log says so.
    longest_delay: timedelta | None = None
    #: Lowest and highest priority number that is distinguished; None: priorities are ignored (S3, S6).
    priorities: tuple[int, int] | None = None
    #: Order of ready jobs of equal priority; None: no order is promised (S6).
    tie_break: TieBreak | None = None
    #: Longest body in bytes; None: no limit (S2).
    max_body_bytes: int | None = None
    #: Length of a lease, more than zero; None: a reservation never runs out while the process lives (S7).
    lease: timedelta | None = None
    #: When a dead worker's jobs come back; None: never, they are gone with the process (S9).
    lease_return: LeaseReturn | None = None
    #: A job that a reserve took whose answer was lost is ready again within seconds, as long as the process
    #: lives that asked for it (S7). Not declared: it is as if its worker had died, and `lease_return` says
    #: when it comes back.
    lost_reserves: bool = False
    #: The backend itself refuses to settle an outdated reservation, not only the client (S7): one whose job
    #: has been taken by somebody else since, or was settled. Whether it compares times as well is not
    #: promised: as long as nobody has taken a job whose lease is over, its last holder may still settle it
    #: there.
    fencing: bool = False
    #: How durable the count of deliveries is; None: deliveries are not counted (S10).
    attempts: Attempts | None = None
    #: Enqueueing an id whose job is still in the adapter, in any queue and state, stores nothing, changes
    #: nothing, and raises `IdHeld`; once the job is committed, deleted or purged its id is free (S14).
    dedupe: bool = False
    #: A `Commit` or a `Bury` stores its follow-ups and its entries in one transaction with the settlement:
    #: all of it happens, or nothing (S20). A follow-up whose id is held is left out; under the id of the job
    #: itself it is stored by a `Commit`, which frees the id, and left out by a `Bury`, whose job holds it on.
    #: Not declared: the core stores them first, settlements carry none.
    follow: bool = False
    #: `Consumer.kicks` is exact. Not declared: who is told of a job again after a kick cannot tell that from
    #: a repetition, because the callback job has the same id (S22).
    kicks: bool = False
    #: `stats` is exact.
    counts: bool = False
    #: A waiting `reserve` is woken by a job that becomes ready, in whatever way; it does not poll.
    blocking_reserve: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if problems := list(self._problems()):
            raise InvalidConfig(problems, "an adapter declares what cannot be")

    def _problems(self) -> Iterator[Problem]:
        for name in ("delay_granularity", "longest_delay", "lease"):
            span: timedelta | None = getattr(self, name)
            if span is not None and span <= timedelta(0):
                text = f"expected more than zero, got {span.total_seconds():g} s"
                yield Problem(("capabilities", name), text)
        if self.longest_delay is not None and self.delay_granularity is None:
            yield Problem(("capabilities", "longest_delay"), "is declared without delay_granularity")
        if self.lease_return is LeaseReturn.LEASE_END and self.lease is None:
            yield Problem(("capabilities", "lease_return"), "is the end of a lease, and no lease is declared")
        if self.max_body_bytes is not None and self.max_body_bytes < 1:
            text = f"expected 1 or more, got {self.max_body_bytes}"
            yield Problem(("capabilities", "max_body_bytes"), text)
        if self.priorities is not None:
            low, high = self.priorities
            if not 0 <= low < high <= LOWEST_PRIORITY:
                text = f"expected two numbers from 0 to {LOWEST_PRIORITY}, got {low} and {high}"
                yield Problem(("capabilities", "priorities"), text)

    def declared(self) -> tuple[str, ...]:
        """Return the names of what is declared, in the order of the fields."""
        return declared_of(self)


def declared_of(capabilities: attrs.AttrsInstance) -> tuple[str, ...]:
    """Return the names of the fields that promise something."""
    return tuple(
        field.name
        for field in attrs.fields(type(capabilities))
        if getattr(capabilities, field.name) not in (None, False, Durability.NONE)
    )
