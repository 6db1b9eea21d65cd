"""Mutants of the reference adapter: each breaks one promise in a way that adapters really do."""

from __future__ import annotations

# whole sentences, as they stand on the page
import sys
import threading
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
import mutants_afar  # noqa: F401  # enters its own
import mutants_afterwards  # noqa: F401  # as before
import mutants_again  # noqa: F401  # as before
import mutants_beside  # noqa: F401  # as before
import mutants_hidden  # noqa: F401  # as before
import mutants_kinds  # noqa: F401  # enters its own
import mutants_meeting  # noqa: F401  # as before
import mutants_passing  # noqa: F401  # as before
import mutants_retrying  # noqa: F401  # as before
import mutants_seen  # noqa: F401  # as before
import mutants_together  # noqa: F401  # as before
import mutants_unseen  # noqa: F401  # as before
from breaking import MUTANTS, declares, mutant, slot_mutant, without
from reference import LEASE, LIMIT, Held, Reference, ReferenceHarness, Slot

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    InvalidConfig,
    LeaseLost,
    Problem,
    ProtocolError,
    UnknownJob,
)
from kessel_core.contract import (
    COMMIT,
    Browse,
    Buried,
    Bury,
    Commit,
    Delete,
    Find,
    JobState,
    Pause,
    QueueStats,
    Rollback,
    Snooze,
    StoredJob,
    TieBreak,
    VirtualTime,
)

__all__ = ["MUTANTS", "Reference", "ReferenceHarness"]

#: How often an adapter was asked what it declares.
ASKED = count(3650)

# --- time (S4) ---
mutant("early_400ms", "delivers 400 ms early", due=lambda s, m: m.timestamp() - 0.4)
mutant("delay_truncated", "cuts delays to whole seconds", due=lambda s, m: float(int(m.timestamp())))
mutant("delay_ignored", "ignores delays", due=lambda s, m: s.now())
mutant("delay_late", "delivers 300 ms late", due=lambda s, m: m.timestamp() + 0.3)
mutant(
    "past_delay_waits",
    "takes a past delay as one from now",
    due=lambda s, m: s.now() + abs(m.timestamp() - s.now()),
)
mutant(
    "delay_wraps",
    "lets delays beyond 68 days wrap round",
    due=lambda s, m: s.now() + (m.timestamp() - s.now()) % 5_900_000,
)
mutant("delay_clamped", "cuts what is beyond longest_delay, silently", is_too_far=lambda s, m: False)
mutant("pause_ignored", "rolls back without the pause", pause_ends=lambda s, p: s.now())
mutant("pause_cut", "cuts pauses to whole seconds", pause_ends=lambda s, p: s.now() + int(p.total_seconds()))
mutant(
    "urgent_ignores_delay",
    "delivers urgent jobs before their delay",
    is_ready=lambda s, r: r.priority == 0 or r.ready_at <= s.now(),
)
mutant("queue_pause_ignored", "goes on delivering from a paused queue", is_paused=lambda s, q: False)
mutant(
    "due_in_bunches",
    "takes along what is due within 400 ms of the first",
    is_ready=lambda s, r: (
        r.ready_at <= s.now() + 0.4
        and any(other.ready_at <= s.now() for other in s.of(r.message.queue, JobState.READY))
    ),
)
mutant(
    "next_change_early",
    "tells a next change before it is due",
    next_change=lambda s, q: (lambda t: None if t is None else t - timedelta(seconds=1))(
        Reference.next_change(s, q)
    ),
)
mutant(
    "expired_dropped",
    "drops expired jobs",
    is_ready=lambda s, r: (
        r.ready_at <= s.now() and not (r.message.expiration and r.message.expiration <= s.clock.now())
    ),
)
# --- follow-ups (S20) ---
mutant("follow_dropped", "stores no follow-ups", followed=lambda s, x: None)
mutant(
    "follow_first_only",
    "stores the first follow-up only",
    followed=lambda s, x: Reference.followed(s, attrs.evolve(x, follow=x.follow[:1])),
)
mutant(
    "follow_not_of_burial",
    "stores no follow-ups of a burial",
    followed=lambda s, x: None if isinstance(x, Bury) else Reference.followed(s, x),
)
mutant(
    "follow_held_fails",
    "refuses a follow-up whose id is held",
    is_refused=lambda s, m: s.is_too_large(m) or s.is_known(m),
)
mutant(
    "follow_unchecked",
    "finds out in the middle that a follow-up is refused",
    checked=lambda s, x: None,
)
mutant(
    "follow_plain",
    "stores follow-ups without priority and delay",
    followed=lambda s, x: Reference.followed(
        s, attrs.evolve(x, follow=tuple(attrs.evolve(m, priority=65536, delay=None) for m in x.follow))
    ),
)
mutant(
    "follow_before_lease",
    "stores follow-ups before it looks whether the lease holds",
    settle=lambda s, h, x: (
        s.followed(x) if isinstance(x, (Commit, Bury)) else None,
        Reference.settle(s, h, x),
    )[1],
)
slot_mutant(
    "follow_lost_with_next",
    "forgets follow-ups when it reserves in the same call",
    settle_and_reserve=lambda s, h, x: Slot.settle_and_reserve(
        s, h, attrs.evolve(x, follow=()) if isinstance(x, (Commit, Bury)) else x
    ),
)
mutant("kicks_uncounted", "counts no kicks", kicks_after=lambda s, r: 0)
mutant("kicks_counted_twice", "counts a kick twice", kicks_after=lambda s, r: r.kicks + 2)
slot_mutant(
    "entries_lost_with_reserve",
    "forgets entries when it reserves in the same call",
    settle_and_reserve=lambda s, h, x: Slot.settle_and_reserve(
        s, h, attrs.evolve(x, puts=()) if isinstance(x, (Commit, Bury)) else x
    ),
)
mutant(
    "entries_not_of_burial",
    "writes no entries of a burial",
    kept_entries=lambda s, x: None if isinstance(x, Bury) else Reference.kept_entries(s, x),
)
mutant("entries_dropped", "writes no entries", kept_entries=lambda s, x: None)
mutant(
    "entries_too_soon",
    "writes entries before it checks the follow-ups",
    checked=lambda s, x: (s.kept_entries(x), Reference.checked(s, x))[1],
)
mutant(
    "entries_twice",
    "writes entries where there are none only",
    kept_entries=lambda s, x: [
        s.store.put(p.space, p.key, p.value, ttl=p.ttl) for p in x.puts if s.store.get(p.space, p.key) is None
    ],
)
# --- order (S6) ---
mutant("priority_ignored", "ignores priorities", order=lambda s, r: (r.number,))
mutant("priority_reversed", "takes the highest number first", order=lambda s, r: (-r.priority, r.number))
mutant("priority_as_text", "compares priorities as text", order=lambda s, r: (str(r.priority), r.number))
mutant("priority_16_bits", "keeps 16 bits of priorities", stored_priority=lambda s, p: min(p, 65535))
mutant(
    "priority_reset_rollback",
    "resets the priority on rollback",
    priority_after=lambda s, r, what: 65536 if what == "rollback" else r.priority,
)
mutant(
    "priority_reset_bury",
    "resets the priority on bury",
    priority_after=lambda s, r, what: 65536 if what == "bury" else r.priority,
)
mutant(
    "priority_reset_second",
    "resets the priority on the second rollback",
    priority_after=lambda s, r, what: 65536 if r.attempts == 2 else r.priority,
)
mutant("priority_reset_lease", "resets the priority when a lease ends", tick=lambda s: _reset_lease(s))
mutant("lifo", "takes the youngest of equals first", order=lambda s, r: (r.priority, -r.number))
mutant("order_by_id", "orders equals by id", order=lambda s, r: (r.priority, r.message.id))
mutant(
    "tie_lies",
    "declares tie_break ready, but keeps old places",
    capabilities=declares(tie_break=TieBreak.READY),
)
# --- holders (S7) ---
mutant("double_delivery", "delivers held jobs again", tick=lambda s: _all_back(s))
mutant("lease_endless", "never ends a lease", is_over=lambda s, r: False)
mutant("lease_short", "ends leases at half their length", lease_ends=lambda s: s.now() + LEASE / 2)
mutant(
    "late_commit",
    "accepts a commit after the lease",
    is_late=lambda s, h: False,
    is_stale=lambda s, h: h.record is None or h.record.state is None,
)
mutant(
    "not_fenced",
    "declares fencing but checks only locally",
    is_stale=lambda s, h: h.record is None or h.record.state is not JobState.RESERVED,
)
mutant(
    "deadline_lies",
    "tells a deadline beyond the lease",
    local_deadline=lambda s: s.clock.monotonic() + LEASE * 3,
)
slot_mutant(
    "extend_does_nothing",
    "extends only locally",
    extend=lambda self, r: setattr(r, "deadline", (r.deadline or 0) + LEASE),
)
slot_mutant("extend_after_settle", "extends what was settled", extend=lambda self, r: None)
# --- nothing lost (S8, S9) ---
mutant("lost_on_rollback", "loses jobs on rollback", released=lambda s, r: _lost(s, r))
mutant("commit_does_nothing", "keeps committed jobs", removes=lambda s, r: None, is_stale=lambda s, h: False)
slot_mutant("close_loses", "loses the job of a closed consumer", close=lambda self: _close_loses(self))
mutant("reopen_loses_buried", "loses buried jobs on close", reopened=lambda s: _drop_buried(s))
mutant(
    "reopen_forgets_attempts",
    "counts attempts in memory only",
    reopened=lambda s: [setattr(r, "attempts", 0) for r in s.disk.records],
)
slot_mutant(
    "entries_keep_job",
    "keeps the job that it writes entries for",
    settle=lambda self, r, st: Slot.settle(self, r, _no_entries(st)),
)
mutant(
    "keeps_to_itself",
    "shows jobs only to the adapter that enqueued them",
    enqueue=lambda s, m: (s.__dict__.setdefault("mine", set()).add(m.id), Reference.enqueue(s, m))[1],
    is_ready=lambda s, r: r.ready_at <= s.now() and r.message.id in s.__dict__.get("mine", set()),
)
mutant("bury_forgets_reason", "forgets the reason of a burial", reason_of=lambda s, b: "")
mutant(
    "bury_lists_wrong_order",
    "lists the latest burial first",
    buried=lambda s, q, limit=100: Reference.buried(s, q, 100)[::-1][:limit],
)
slot_mutant(
    "bury_rolls_back",
    "rolls back instead of burying",
    settle=lambda self, r, st: Slot.settle(self, r, _no_bury(st)),
)
mutant("kick_delayed", "kicks delayed jobs, too", can_kick=lambda s, r: True)
mutant("kick_keeps_attempts", "goes on counting after a kick", attempts_kicked=lambda s, r: r.attempts)
mutant("delete_reserved", "deletes under a worker", can_delete=lambda s, r: True)
mutant("delete_ignores", "says deleted and keeps it", delete=lambda s, q, i: None)
mutant(
    "delete_shown_stale",
    "deletes what it has shown, whatever became of it",
    delete_shown=lambda s, job: s.disk.records.remove(s.record_named(job.id)),
)
mutant(
    "delete_shown_kicked",
    "deletes what it has shown as buried, although it was kicked since",
    delete_shown=lambda s, job: s.delete(job.queue, job.id),
)
mutant(
    "delete_shown_retried",
    "deletes what it has shown as buried, and is tried again since",
    delete_shown=lambda s, job: _delete_unless_ready(s, job),
)
mutant("delete_shown_ignores", "says that it deleted what was shown", delete_shown=lambda s, job: None)
mutant(
    "kick_shown_first",
    "kicks the oldest burial, in place of the one that was shown",
    kick_shown=lambda s, job: s.kick(job.queue, s.buried(job.queue, 1)[0].id),
)
mutant("purge_all", "purges reserved jobs, too", purge=lambda s, q: _purge_all(s, q))
mutant("dedupe_lies", "stores the same id again", is_known=lambda s, m: False)
mutant("other_queues", "delivers jobs of any queue", watched=lambda s, q, queues: True)
mutant("first_queue_only", "looks only into its first queue", watched=lambda s, q, queues: q == queues[0])
mutant(
    "one_of_equal_bodies",
    "drops a body that it already holds",
    is_known=lambda s, m: any(r.body == m.body or r.message.id == m.id for r in s.disk.records),
)
mutant(
    "names_no_queue", "names the consumer's first queue", take=lambda s, q: _renamed(Reference.take(s, q), q)
)
# --- bodies and limits (S2, S16) ---
mutant("body_stripped", "strips blanks from bodies", stored_body=lambda s, b: b.strip())
mutant("body_text", "carries bodies as text", stored_body=lambda s, b: b.decode(errors="replace").encode())
mutant("body_ascii", "drops what is not ASCII", stored_body=lambda s, b: b.decode("ascii", "ignore").encode())
mutant("limit_lies", "refuses bodies below its limit", is_too_large=lambda s, m: len(m.body) > LIMIT - 100)
mutant("limit_unchecked", "takes bodies above its limit", is_too_large=lambda s, m: False)
mutant(
    "batch_reversed",
    "stores a batch backwards",
    enqueue_many=lambda s, ms: Reference.enqueue_many(s, ms[::-1])[::-1],
)
mutant(
    "batch_priority_ignored",
    "forgets the priorities of a batch",
    enqueue_many=lambda s, ms: Reference.enqueue_many(s, [attrs.evolve(m, priority=65536) for m in ms]),
)
mutant(
    "batch_delay_ignored",
    "forgets the delays of a batch",
    enqueue_many=lambda s, ms: Reference.enqueue_many(s, [attrs.evolve(m, delay=None) for m in ms]),
)
mutant(
    "batch_drops_errors",
    "tells of every job of a batch that it was stored",
    enqueue_many=lambda s, ms: [None for _ in Reference.enqueue_many(s, ms)],
)
# --- attempts (S10) ---
mutant("attempts_stuck", "always tells attempt 1", attempts_after=lambda s, r: 1)
mutant("attempts_off", "counts from zero", take=lambda s, q: _less(Reference.take(s, q)))
# --- giving back without counting (S21) ---
mutant(
    "snooze_commits",
    "takes a snooze for a commit",
    settle=lambda s, r, st: Reference.settle(s, r, COMMIT if isinstance(st, Snooze) else st),
)
mutant("snooze_pause_ignored", "snoozes without the pause", snooze_ends=lambda s, p: s.now())
mutant(
    "snooze_pause_cut",
    "cuts the pause of a snooze to whole seconds",
    snooze_ends=lambda s, p: s.now() + int(p.total_seconds()),
)
mutant("snooze_counts", "counts a snoozed delivery as an attempt", attempts_snoozed=lambda s, r: r.attempts)
mutant("snooze_starts_anew", "forgets earlier attempts with a snooze", attempts_snoozed=lambda s, r: 0)
mutant("snoozes_not_counted", "counts no snoozes, and shows none", snoozes_after=lambda s, r: 0)
mutant("snoozes_off", "counts this delivery as a snooze", snoozes_shown=lambda s, r: r.snoozes + 1)
mutant(
    "snooze_resets_priority",
    "resets the priority on a snooze",
    priority_after=lambda s, r, what: 65536 if what == "snooze" else r.priority,
)
mutant(
    "snooze_goes_last",
    "puts a snoozed job behind its equals, whatever tie_break says",
    attempts_snoozed=lambda s, r: _goes_last(s, r),
)
slot_mutant(
    "snooze_and_reserve_counts",
    "rolls back instead of snoozing when it reserves with it",
    settle_and_reserve=lambda self, r, st: Slot.settle_and_reserve(
        self, r, Rollback(st.pause) if isinstance(st, Snooze) else st
    ),
)
mutant(
    "snooze_late_accepted",
    "says nothing when what is snoozed is held no more",
    settle=lambda s, r, st: _settles_quietly(s, r, st),
)
mutant("give_back_ignored", "gives nothing back", give_back=lambda s, r: None)
mutant(
    "give_back_counts",
    "counts what is given back as an attempt",
    give_back=lambda s, r: s.settle(r, Rollback()),
)
mutant(
    "give_back_keeps_hold",
    "takes the settle of one whose job was given back and waits",
    is_stale=lambda s, h: h.record is None or h.record.state is None or h.record.token != h.token,
)
mutant(
    "give_back_quiet",
    "says nothing when there is nothing to give back",
    give_back=lambda s, r: _settles_quietly(s, r, Snooze()),
)
# --- consumers ---
mutant(
    "consumer_unchecked",
    "takes any name for a queue's, and no name at all",
    consumer=lambda s, queues: s.make_consumer(tuple(queues)),
)
mutant(
    "consumer_doubles",
    "cannot do with a queue that is named twice",
    consumer=lambda s, queues: (
        Reference.consumer(s, queues) if len({*queues}) == len(queues) else _raise(AdapterError("twice"))
    ),
)
slot_mutant(
    "cancelled_takes",
    "takes a job with the settle of a cancelled consumer",
    settle_and_reserve=lambda self, r, st: (self.settle(r, st), self.adapter.take(self.queues))[1],
)
mutant("closed_accepts", "goes on after it was closed", refuse_if_closed=lambda s: None)
mutant(
    "extend_adds_up",
    "adds a lease to the rest of the last one",
    deadline_extended=lambda s, h: h.deadline + LEASE,
)
mutant(
    "lease_missing",
    "does not tell the lease of a reservation",
    take=lambda s, q: _no_lease(Reference.take(s, q)),
)
# --- operations ---
mutant("stats_off_by_one", "counts one ready job too many", stats=lambda s, q: _more(Reference.stats(s, q)))
mutant(
    "oldest_never_ages",
    "tells that the next ready job has just come",
    ready_for=lambda s, r, now: timedelta(0),
)
mutant(
    "oldest_new_after_return",
    "tells that a job which came back has just come",
    ready_for=lambda s, r, now: timedelta(0) if r.attempts or r.snoozes else Reference.ready_for(s, r, now),
)
mutant(
    "oldest_counts_delay",
    "counts the delay of the next ready job into its age",
    ready_for=lambda s, r, now: timedelta(seconds=now - r.enqueued_at),
)
mutant(
    "oldest_in_milliseconds",
    "tells the age of the next ready job in milliseconds as seconds",
    ready_for=lambda s, r, now: 1000 * Reference.ready_for(s, r, now),
)
mutant(
    "oldest_of_held",
    "tells the age of a job that a worker holds",
    oldest_ready=lambda s, w: _age_of_held(s) or Reference.oldest_ready(s, w),
)
mutant(
    "stats_unknown_raises", "has no counts for queues that it does not know", stats=lambda s, q: _known(s, q)
)
mutant(
    "queues_unsorted",
    "lists queues in reverse",
    queues=lambda s: sorted({r.message.queue for r in s.disk.records}, reverse=True),
)
mutant(
    "peek_takes", "takes the job that it shows", peek=lambda s, q, st, limit=1: _peek_takes(s, q, st, limit)
)
mutant(
    "peek_delayed_by_priority",
    "shows the most urgent delayed job first, not the next one",
    shown_order=lambda s, state: s.order,
)
mutant(
    "peek_hides_reserved",
    "shows no reserved jobs",
    peek=lambda s, q, st, limit=1: _no_reserved(s, q, st, limit),
)
mutant("doctor_raises", "has a doctor that falls ill", doctor=lambda s, c: _raise(AdapterError("down")))
mutant("close_twice_raises", "cannot be closed twice", close=lambda s: _close_once(s))
slot_mutant("cancel_ignored", "ignores cancel", cancel=lambda self: None)
slot_mutant(
    "reserve_oversleeps",
    "waits its whole timeout before it looks",
    reserve=lambda self, t: _oversleeps(self, t),
)
slot_mutant(
    "reserve_short",
    "waits five seconds at most",
    reserve=lambda self, t: Slot.reserve(self, min(t, timedelta(seconds=5))),
)
slot_mutant(
    "reserve_waits",
    "waits although it should not",
    reserve=lambda self, t: Slot.reserve(self, t + timedelta(seconds=30)),
)
slot_mutant(
    "settle_skips_reserve",
    "never takes a next job with its settle",
    settle_and_reserve=lambda self, r, s: self.settle(r, s),
)
mutant(
    "races_enqueue",
    "stores a job in two steps, without its lock",
    enqueue=lambda s, m: _races_enqueue(s, m),
)
slot_mutant("races", "takes a job in two steps, without its lock", reserve=lambda self, t: _races(self))
# --- what is not declared (S17) ---
mutant(
    "buried_empty",
    "has no listing, and says that nothing is buried",
    facet=without(Buried),
    buried=lambda s, q, limit=100: [],
)
mutant(
    "peek_empty",
    "cannot peek, and shows nothing",
    facet=without(Browse),
    peek=lambda s, q, st, limit=1: [],
)
mutant(
    "pause_undeclared",
    "cannot pause, and says nothing",
    facet=without(Pause),
    pause=lambda s, q, d: None,
)
mutant(
    "find_not_held",
    "finds no job that a worker holds",
    is_sought=lambda s, j, i: j.id == i and j.state is not JobState.RESERVED,
)
mutant(
    "find_not_buried",
    "finds no job that is buried",
    is_sought=lambda s, j, i: j.id == i and j.state is not JobState.BURIED,
)
mutant("find_prefix", "finds a job by the beginning of its id", is_sought=lambda s, j, i: j.id.startswith(i))
mutant(
    "find_undeclared",
    "cannot find a job, and says that there is none",
    facet=without(Find),
    find=lambda s, i: None,
)
mutant(
    "delete_undeclared",
    "cannot delete, and says nothing",
    facet=without(Delete),
    delete=lambda s, q, i: None,
)
mutant(
    "delay_undeclared",
    "has no delays, and delivers at once",
    capabilities=declares(delay_granularity=None, longest_delay=None),
    due=lambda s, m: s.now(),
)
mutant(
    "clock_undeclared",
    "has no virtual clock, and foresees nothing",
    capabilities=declares(lease=None, lease_return=None),
    facet=without(VirtualTime),
    next_change=lambda s, q: None,
)
mutant(
    "options_swallowed",
    "takes no notice of options that it does not know",
    url_options=classmethod(lambda c, url: {"path": url.path}),
)
mutant("senseless_taken", "takes a time-out of zero", sensible=classmethod(lambda c, patience: None))
mutant(
    "senseless_unnamed",
    "refuses a time-out of zero, and does not say which option that is",
    sensible=classmethod(lambda c, patience: _not_sensible(patience, InvalidConfig([Problem((), "zero")]))),
)
mutant(
    "senseless_raises",
    "has its own error for a time-out of zero",
    sensible=classmethod(lambda c, patience: _not_sensible(patience, ValueError("zero"))),
)
mutant("password_ignored", "takes any password", admitted=classmethod(lambda c, password: None))
mutant(
    "password_later",
    "says of a password that is refused that the server cannot be reached",
    admitted=classmethod(lambda c, password: _not_admitted(password, AdapterUnavailable("try again"))),
)
mutant(
    "password_shown",
    "names the password that is refused",
    admitted=classmethod(lambda c, password: _not_admitted(password, ProtocolError(f"{password} is wrong"))),
)
mutant(
    "restart_loses", "loses its jobs when its server is restarted", restarted=lambda s: s.disk.records.clear()
)
mutant(
    "facet_is_nothing",
    "returns for a facet what has none of its methods",
    facet=lambda s, kind: object() if kind is Browse else Reference.facet(s, kind),
)
mutant(
    "odd_capabilities",
    "declares something else whenever it is asked",
    capabilities=property(
        lambda s: attrs.evolve(
            Reference.capabilities.fget(s),  # type: ignore[attr-defined]  # a property, seen from its class
            longest_delay=timedelta(days=next(ASKED)),
        )
    ),
)


def _goes_last(s: Reference, record: Any) -> int:
    s.disk.counter += 1
    record.number = s.disk.counter
    attempts: int = record.attempts - 1
    return attempts


def _settles_quietly(s: Reference, held: Any, settlement: Any) -> None:
    try:
        Reference.settle(s, held, settlement)
    except LeaseLost:
        if not isinstance(settlement, Snooze):
            raise


def _no_doubles(s: Reference, queues: Any) -> Any:
    if len(set(queues)) < len(queues):
        raise AdapterError("a queue is named twice")
    return Reference.consumer(s, queues)


def _no_lease(held: Held | None) -> Held | None:
    if held is not None:
        held.lease = None
    return held


def _reset_lease(s: Reference) -> None:
    for record in s.disk.records:
        if record.state is JobState.RESERVED and s.is_over(record):
            record.priority = 65536
    Reference.tick(s)


def _all_back(s: Reference) -> None:
    for record in s.disk.records:
        if record.state is JobState.RESERVED:
            record.ready_at = s.now()
            record.state = JobState.READY


def _lost(s: Reference, record: Any) -> None:
    record.state = None
    s.disk.records.remove(record)


def _close_loses(slot: Slot) -> None:
    if slot.held is not None and slot.held.record in slot.adapter.disk.records:
        slot.adapter.disk.records.remove(slot.held.record)
    slot.held = None


def _drop_buried(s: Reference) -> None:
    s.disk.records[:] = [r for r in s.disk.records if r.state is not JobState.BURIED]


def _no_bury(settlement: Any) -> Any:
    return Rollback() if isinstance(settlement, Bury) else settlement


def _no_entries(settlement: Any) -> Any:
    return Rollback() if isinstance(settlement, Commit) and settlement.puts else settlement


def _races_enqueue(s: Reference, message: Any) -> None:
    import time

    kept = list(s.disk.records)
    Reference.enqueue(s, message)
    stored = [record for record in s.disk.records if record not in kept]
    if threading.active_count() > 2:  # only where others may meet it: it would take long otherwise
        time.sleep(0.001)
        s.disk.records[:] = kept + stored


def _purge_all(s: Reference, queue: str) -> int:
    gone = [r for r in s.disk.records if r.message.queue == queue]
    s.disk.records[:] = [r for r in s.disk.records if r.message.queue != queue]
    for record in gone:
        record.state = None
    return len(gone)


def _delete_unless_ready(s: Reference, job: StoredJob) -> None:
    if job.state is JobState.BURIED and any(
        one.id == job.id for one in s.peek(job.queue, JobState.READY, 99)
    ):
        raise UnknownJob(job.id, job.queue)
    s.delete(job.queue, job.id)


def _renamed(held: Held | None, queues: Any) -> Held | None:
    if held is not None:
        held.queue = queues[0]
    return held


def _less(held: Held | None) -> Held | None:
    if held is not None:
        held.attempt -= 1
    return held


def _age_of_held(s: Reference) -> timedelta | None:
    held = [r.enqueued_at for r in s.disk.records if r.state is JobState.RESERVED]
    return timedelta(seconds=s.now() - min(held)) if held else None


def _more(stats: QueueStats) -> QueueStats:
    return attrs.evolve(stats, ready=stats.ready + 1) if stats.ready else stats


def _known(s: Reference, queue: str) -> QueueStats:
    if not any(r.message.queue == queue for r in s.disk.records):
        raise AdapterError("no such queue")
    return Reference.stats(s, queue)


def _peek_takes(s: Reference, queue: str, state: JobState, limit: int) -> Any:
    found = Reference.peek(s, queue, state, limit)
    s.disk.records[:] = [r for r in s.disk.records if r.message.id not in {job.id for job in found}]
    return found


def _no_reserved(s: Reference, queue: str, state: JobState, limit: int) -> Any:
    return [] if state is JobState.RESERVED else Reference.peek(s, queue, state, limit)


def _raise(error: Exception) -> Any:
    raise error


def _close_once(s: Any) -> None:
    if getattr(s, "was_closed", False):
        raise AdapterError("already closed")
    s.was_closed = True


def _oversleeps(slot: Slot, timeout: timedelta) -> Any:
    condition = threading.Condition()
    with condition:
        if timeout:
            slot.adapter.clock.wait(condition, timeout.total_seconds())
    return Slot.reserve(slot, timedelta(0))


def _races(slot: Slot) -> Any:
    import time

    a = slot.adapter
    a.tick()
    ready = [
        r
        for r in list(a.disk.records)
        if r.message.queue in slot.queues and r.state is JobState.READY and a.is_ready(r)
    ]
    if not ready or slot.cancelled:
        return None
    record = min(ready, key=a.order)
    time.sleep(0.001)  # another slot looks meanwhile
    record.state, record.ready_at = JobState.RESERVED, a.lease_ends()
    record.token, record.attempts = record.token + 1, record.attempts + 1
    slot.held = Held(
        record.message.id,
        record.message.queue,
        record.body,
        record.attempts,
        a.local_deadline(),
        token=record.token,
        record=record,
    )
    return slot.held


def _not_sensible(patience: timedelta, error: Exception) -> None:
    if patience <= timedelta(0):
        raise error


def _not_admitted(password: str | None, error: AdapterError) -> None:
    if password is not None:
        raise error
