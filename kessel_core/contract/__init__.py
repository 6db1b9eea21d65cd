"""The contract between kessel and a queue, written for authors of adapters.

The core encodes and decodes; an adapter carries bytes plus id, queue, priority, delay and
expiration. It declares what it can do as `Capabilities` *with values*; each value is a claim
that the conformance suite tests, and what is not declared is refused by name (S17).

Rules for every method of the contract:

1.  Adapters raise only the `AdapterError` tree and `CapabilityMissing`, translated at one edge,
    `from exc`. Any unexpected reply on a connection discards that connection.
2.  Times are aware datetimes, spans are timedeltas, both from the clock in `AdapterContext`;
    an adapter with the facet `VirtualTime` never reads another clock and never sleeps in real time.
3.  Producer calls and operations are thread-safe. A `Consumer` belongs to one slot, that is to one
    thread; only `extend` and `cancel` may be called from another thread at the same time.
4.  A duration is rounded *up* to the declared granularity: late is allowed, early never (S4).
"""

from __future__ import annotations

from kessel_core.contract.adapter import QueueAdapter, checked_queues, facets_of, need
from kessel_core.contract.base import BaseAdapter, BaseConsumer, WaitingAdapter, rounded_up
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.doctor import DoctorContext, Finding, Level
from kessel_core.contract.facets import Browse, Buried, Delete, Facet, FacetKind, Pause, Results, VirtualTime
from kessel_core.contract.messages import Message, Reservation
from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.contract.promises import Attempts, Capabilities, Durability, LeaseReturn, Reach, TieBreak
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.contract.url import url_options
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
    UnknownJob,
)
from kessel_core.model.names import queue_name_problem
from kessel_core.model.settlement import COMMIT, NO_PAUSE, Bury, Commit, Rollback, Settlement, Snooze
from kessel_core.model.states import JobState
from kessel_core.values.logs import get_logger
from kessel_core.values.printing import printable
from kessel_core.values.secrets import quoted, redacted, without_secrets
from kessel_core.wire.head import Head, head_of
from kessel_core.wire.requests import decode

__all__ = [
    # an open queue: derive from BaseAdapter, which implements most of the contract
    "BaseAdapter",
    "QueueAdapter",
    "Consumer",
    "BaseConsumer",
    "WaitingAdapter",
    "Waiter",
    "WaitingLine",
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
    "Pause",
    "Results",
    "VirtualTime",
    "need",
    "facets_of",
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
    "COMMIT",
    "NO_PAUSE",
    # what operators see
    "JobState",
    "StoredJob",
    "QueueStats",
    "DoctorContext",
    "Finding",
    "Level",
    # how an adapter is found and opened
    "AdapterSpec",
    "AdapterContext",
    "url_options",
    # helpers
    "checked_queues",
    "queue_name_problem",
    "rounded_up",
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
