"""The contract between kessel and a queue, written for authors of adapters.

The core encodes and decodes; an adapter carries bytes plus id, queue, priority, delay and
expiration. It declares what it can do as `Capabilities` *with values*; each value is a claim
that the conformance suite tests, and what is not declared is refused by name (S17).

Rules for every method of the contract:

1.  Adapters raise only the `AdapterError` tree and `CapabilityMissing`, translated at one edge,
    `from exc`. Any unexpected reply on a connection discards that connection.
2.  Times are aware datetimes, spans are timedeltas, both from the clock in `AdapterContext`;
    an adapter with the facet `VirtualTime` never reads another clock and never sleeps in real time.
3.  Producer calls, operations and stores are thread-safe. A `Consumer` belongs to one slot, that is to one
    thread; only `extend` and `cancel` may be called from another thread at the same time.
4.  A duration is rounded *up* to the declared granularity: late is allowed, early never (S4).
5.  Leases, delays and pauses are counted by one clock for all who share a queue: by the application's where
    `reach` is `process`, the machine's where it is `host`, the backend's where it is `network`. So an adapter
    with a server sends spans from its own `now`, and no moments: a machine whose clock is an hour ahead then
    neither ends the leases of others nor starts jobs early. What a holder knows of its own lease, `deadline`,
    is counted on its monotonic clock, from before the reserve was sent.
6.  An id is text of 1 to 200 characters, any of Unicode but lone surrogates, and is shown as it was given.
    Where `dedupe` is declared, an id is told from others in the whole adapter, not in one queue, and is held
    from the enqueue until its job is committed, deleted or purged. From then on it is free: a job that comes
    again under it, as by `kessel move`, is stored. Without `dedupe` nothing is compared.
7.  A lost connection is an error, never an empty answer and never a success: `EnqueueUnknown` or `LeaseLost`
    where the call says so, else `AdapterUnavailable`. Only what is safe to do twice is sent twice. Every call
    ends within 30 seconds, apart from the time that a reserve may wait and in which its peer goes on
    sending, and the next one connects again.
8.  The name of a queue is 1 to 200 characters of `A-Z a-z 0-9 - + / ; . $ _ ( )`, and begins neither with `-`
    nor with `kessel.`, which is for what an adapter keeps beside the jobs. Upper and lower case differ, and
    `a/b`, `a//b` and `..` are names like any other. The core refuses all others before an adapter sees them.
    A name is listed as it was given, by an adapter that has just been opened, too. Escaped as in a URL it may
    be three times as long, and most file systems take 255 bytes: who makes files of names takes a digest, and
    keeps the name inside, or cuts what is escaped into folders.
9.  `enqueue` and `settle` of `WaitingAdapter`, and so of `BaseAdapter`, announce to waiting consumers what
    they store and what comes back. What an adapter does in calls of its own it announces itself, each job
    once, as soon as others can see it: by `announce` the jobs that its `enqueue_many` has stored, the
    follow-ups that its `end` or `settle_and_take` has stored, and a job that it kicks. A pause that is set
    to end sooner, or at once, makes many jobs ready: that is `line.announce(queue, EVERY_WAITER)`. What is
    forgotten waits for the next look, which is far away where `looks_again` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kessel_core.clock import later, plain_span
from kessel_core.contract.adapter import QueueAdapter, checked_queues, facets_of, need
from kessel_core.contract.base import BaseAdapter, BaseConsumer, WaitingAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.doctor import (
    DoctorContext,
    Finding,
    Level,
    ShowsJobs,
    jobs_findings,
    lease_findings,
)
from kessel_core.contract.facets import (
    Browse,
    Buried,
    Delete,
    Facet,
    FacetKind,
    Find,
    Pause,
    VirtualTime,
)
from kessel_core.contract.messages import Reservation
from kessel_core.contract.operations import QueueStats, StoredJob, ready_for
from kessel_core.contract.promises import Attempts, Capabilities, Durability, LeaseReturn, Reach, TieBreak
from kessel_core.contract.rounding import rounded_up
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.contract.store import Entry, Store, StoreCapabilities, StoreSpec, Wakeable
from kessel_core.contract.url import split_url, url_options
from kessel_core.contract.waiting import Waiter, WaitingLine
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueError,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    InvalidConfig,
    LeaseLost,
    Problem,
    ProtocolError,
    StoreConflict,
    StoreError,
    StoreRejected,
    StoreUnknown,
    UnknownJob,
)
from kessel_core.model.message import Message
from kessel_core.model.names import queue_name_problem
from kessel_core.model.settlement import COMMIT, NO_PAUSE, Bury, Commit, Put, Rollback, Settlement, Snooze
from kessel_core.model.states import JobState
from kessel_core.values.late import importing, late
from kessel_core.values.logs import get_logger
from kessel_core.values.printing import printable
from kessel_core.values.secrets import quoted, redacted, without_secrets
from kessel_core.values.streams import opened_above
from kessel_core.wire.head import Head, head_of
from kessel_core.wire.requests import decode

if TYPE_CHECKING:
    from kessel_core.contract.lostreserves import LostReserve, LostReserves, new_token
    from kessel_core.contract.pipes import nap, readable
    from kessel_core.contract.pool import Pool
    from kessel_core.contract.serveradapter import ServerAdapter
    from kessel_core.contract.serverline import Ear, Listener, Outlook, ServerLine
    from kessel_core.contract.storing import (
        Written,
        error_for,
        in_portions,
        refuse_large,
        refused_write,
        unknown_write,
    )
    from kessel_core.contract.telling import EVERY_WAITER, kinds_of, told_delayed, told_entry, told_ready

__all__ = [
    # an open queue: derive from BaseAdapter, which implements most of the contract
    "BaseAdapter",
    "QueueAdapter",
    "Consumer",
    "BaseConsumer",
    "WaitingAdapter",
    "Waiter",
    "Ear",
    "Listener",
    "LostReserve",
    "LostReserves",
    "Outlook",
    "Pool",
    "ServerAdapter",
    "ServerLine",
    "WaitingLine",
    "Wakeable",
    # what it promises
    "Capabilities",
    "Reach",
    "Durability",
    "TieBreak",
    "LeaseReturn",
    "Attempts",
    # what it may offer beyond the core contract
    "Facet",
    "FacetKind",
    "Browse",
    "Buried",
    "Delete",
    "Find",
    "Pause",
    "VirtualTime",
    "need",
    "facets_of",
    # small facts beside the jobs
    "Store",
    "StoreCapabilities",
    "Entry",
    "StoreSpec",
    # what travels
    "Message",
    "Reservation",
    "Head",
    "head_of",
    "decode",
    # how a delivery ends
    "Settlement",
    "Commit",
    "Rollback",
    "Snooze",
    "Bury",
    "Put",
    "COMMIT",
    "NO_PAUSE",
    # what operators see
    "JobState",
    "StoredJob",
    "QueueStats",
    "DoctorContext",
    "Finding",
    "Level",
    "ShowsJobs",
    "jobs_findings",
    "lease_findings",
    # how an adapter is found and opened
    "AdapterSpec",
    "AdapterContext",
    "split_url",
    "url_options",
    # helpers
    "checked_queues",
    "error_for",
    "importing",
    "in_portions",
    "later",
    "new_token",
    "opened_above",
    "queue_name_problem",
    "ready_for",
    "refused_write",
    "EVERY_WAITER",
    "kinds_of",
    "nap",
    "plain_span",
    "readable",
    "refuse_large",
    "rounded_up",
    "told_delayed",
    "told_entry",
    "told_ready",
    "unknown_write",
    "Written",
    # errors that adapters raise
    "AdapterError",
    "AdapterUnavailable",
    "ProtocolError",
    "EnqueueError",
    "EnqueueRejected",
    "EnqueueUnknown",
    "IdHeld",
    "LeaseLost",
    "UnknownJob",
    "StoreError",
    "StoreConflict",
    "StoreRejected",
    "StoreUnknown",
    "CapabilityMissing",
    "InvalidConfig",
    "Problem",
    # what it prints: a logger that can change no job, and texts without secrets
    "get_logger",
    "printable",
    "quoted",
    "redacted",
    "without_secrets",
]

# What only engines over a network or on a file need is loaded on first use, so that no other pays for it.
_LATE: Final = {
    "EVERY_WAITER": "contract.telling",
    "Ear": "contract.serverline",
    "Listener": "contract.serverline",
    "LostReserve": "contract.lostreserves",
    "LostReserves": "contract.lostreserves",
    "Outlook": "contract.serverline",
    "Pool": "contract.pool",
    "ServerAdapter": "contract.serveradapter",
    "ServerLine": "contract.serverline",
    "Written": "contract.storing",
    "error_for": "contract.storing",
    "in_portions": "contract.storing",
    "kinds_of": "contract.telling",
    "nap": "contract.pipes",
    "new_token": "contract.lostreserves",
    "readable": "contract.pipes",
    "refuse_large": "contract.storing",
    "refused_write": "contract.storing",
    "told_delayed": "contract.telling",
    "told_entry": "contract.telling",
    "told_ready": "contract.telling",
    "unknown_write": "contract.storing",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE)
