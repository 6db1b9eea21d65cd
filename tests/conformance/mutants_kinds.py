"""Mutants by kind: what adapters on a server with scripts, and on a directory of files, get wrong.

As `mutants.py`. One table with its helpers behind it, because it is read by kind and not by helper; that is why
it is longer than other modules.
"""

from __future__ import annotations

# ruff: noqa: E501  # a mutant is a line
import fnmatch
import posixpath
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import declares, mutant, slot_mutant
from reference import LEASE, Held, Record, Reference, Slot

from kessel_core import AdapterUnavailable, IdHeld, LeaseLost, UnknownJob
from kessel_core.contract import (
    NO_PAUSE,
    Bury,
    Consumer,
    JobState,
    Message,
    QueueStats,
    Reservation,
    Rollback,
    Snooze,
    StoredJob,
)

#: A name as a key or a path, where it becomes another name's.
FOLDINGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "folded": ("takes upper and lower case for the same", str.lower),
    "slashes": ("writes _ for /", lambda name: name.replace("/", "_")),
    "resolved": ("resolves . and .. in", posixpath.normpath),
    "cut": ("keeps 199 characters of", lambda name: name[:199]),
}
for _name, (_what, _fold) in FOLDINGS.items():
    mutant(
        f"queue_{_name}",
        f"{_what} names of queues",
        same_queue=lambda s, known, asked, fold=_fold: fold(known) == fold(asked),
    )
    mutant(
        f"id_{_name}",
        f"{_what} ids",
        same_id=lambda s, known, asked, fold=_fold: fold(known) == fold(asked),
        is_known=lambda s, m, fold=_fold: any(fold(r.message.id) == fold(m.id) for r in s.disk.records),
    )

# --- names and ids ---
mutant(
    "queue_prefix",
    "takes a name for all that begin so",
    same_queue=lambda s, known, asked: known.startswith(asked),
)
mutant(
    "id_prefix", "takes an id for all that begin so", same_id=lambda s, known, asked: known.startswith(asked)
)
mutant("id_ending", "takes an id for all that end so", same_id=lambda s, known, asked: known.endswith(asked))
mutant(
    "id_pattern",
    "takes an id for a pattern",
    same_id=lambda s, known, asked: fnmatch.fnmatchcase(known, asked),
)
mutant(
    "id_normalized",
    "takes composed and decomposed letters of ids for the same",
    is_known=lambda s, m: any(_nfc(r.message.id) == _nfc(m.id) for r in s.disk.records),
)
mutant("id_too_long", "cannot store long ids, as a file's name", enqueue=lambda s, m: _refuses_long(s, m))
mutant("few_queues", "looks into 16 queues at most", watched=lambda s, q, queues: q in queues[:16])
mutant("id_outlives", "never forgets an id", is_known=lambda s, m: _outlives(s, m))
mutant("attempts_by_id", "counts attempts by id, beyond the job's end", enqueue=lambda s, m: _by_id(s, m))
mutant(
    "dedupe_in_queue",
    "tells ids apart in each queue by itself",
    is_known=lambda s, m: any(r.message.id == m.id and r.message.queue == m.queue for r in s.disk.records),
)
mutant(
    "dedupe_waiting_only",
    "forgets the ids of buried jobs",
    is_known=lambda s, m: any(
        r.message.id == m.id and r.state is not JobState.BURIED for r in s.disk.records
    ),
)
mutant(
    "dedupe_of_latest",
    "remembers the latest 500 ids",
    is_known=lambda s, m: any(r.message.id == m.id for r in s.disk.records[-500:]),
)
mutant("dedupe_replaces", "lets a repeated job replace the first", enqueue=lambda s, m: _replaces(s, m))
mutant(
    "dedupe_not_in_batch",
    "does not look for ids within a batch",
    enqueue_many=lambda s, ms: _unchecked(s, ms),
)

# --- many ---
mutant("batch_cut", "stores a thousand of a batch", enqueue_many=lambda s, ms: _cut_batch(s, ms))
mutant(
    "batch_stops_at_held",
    "takes a portion whose first job is there already for one that was not answered",
    enqueue_many=lambda s, ms: _in_portions(s, ms),
)
mutant("batch_empty_fails", "cannot do with an empty batch", enqueue_many=lambda s, ms: _not_empty(s, ms))
mutant(
    "batch_one_queue",
    "puts a batch into the queue of its first job",
    enqueue_many=lambda s, ms: Reference.enqueue_many(s, [attrs.evolve(m, queue=ms[0].queue) for m in ms]),
)
mutant(
    "batch_one_delay",
    "gives a batch the delay of its first job",
    enqueue_many=lambda s, ms: Reference.enqueue_many(s, [attrs.evolve(m, delay=ms[0].delay) for m in ms]),
)
mutant(
    "batch_outcomes_shift",
    "tells of the refused ones first",
    enqueue_many=lambda s, ms: sorted(Reference.enqueue_many(s, ms), key=lambda outcome: outcome is None),
)
mutant("purge_thousand", "purges a thousand at most", purge=lambda s, q: _purge_some(s, q))
mutant(
    "peek_thousand",
    "shows a thousand at most",
    peek=lambda s, q, st, limit=1: Reference.peek(s, q, st, min(limit, 1000)),
)
mutant(
    "each_thousand",
    "goes through a thousand at most",
    each=lambda s, q, st: iter(Reference.peek(s, q, st, 1000)),
)
mutant(
    "each_by_place",
    "goes on where a page ended, though jobs have left",
    each_buried=lambda s, q: _by_place(s, q),
)
mutant(
    "each_anew",
    "begins each page with the last job of the one before",
    each=lambda s, q, st: _overlapping(s, q, st),
)
mutant(
    "number_as_text", "orders equals by number as text", order=lambda s, r: (r.priority, f"{r.number:03d}")
)
mutant("due_in_portions", "makes 250 jobs ready at once", is_ready=lambda s, r: _in_portion(s, r))
mutant(
    "due_in_portions_by_looks",
    "makes 250 jobs ready at once, and the rest when somebody counts",
    is_ready=lambda s, r: Reference.is_ready(s, r) if "counted" in s.__dict__ else _in_portion(s, r),
    stats=lambda s, q: (s.__dict__.__setitem__("counted", True), Reference.stats(s, q))[1],
)
mutant("leases_one_by_one", "takes back one lease at a time", tick=lambda s: _one_lease(s))
mutant(
    "buried_fifty",
    "lists 50 burials at most",
    buried=lambda s, q, limit=100: Reference.buried(s, q, min(limit, 50)),
)
mutant(
    "buried_without_limit",
    "lists all burials unless told",
    buried=lambda s, q, limit=10**6: Reference.buried(s, q, limit),
)

# --- holders ---
mutant("fence_of_attempts", "fences by the number of attempts", is_stale=lambda s, h: _other_attempt(h))
mutant("burial_not_fenced", "buries what another holds", holds=lambda s, r, st: _unfenced(s, r, st, Bury))
mutant(
    "rollback_not_fenced",
    "rolls back what another holds",
    holds=lambda s, r, st: _unfenced(s, r, st, Rollback),
)
mutant("late_snooze", "snoozes after the lease", holds=lambda s, r, st: _late(s, r, st))
mutant("settles_gone", "says nothing of what is gone", settle=lambda s, r, st: _quiet_if_gone(s, r, st))
slot_mutant(
    "settles_first_queue",
    "returns jobs to its first queue",
    settle=lambda self, r, st: _to_first(self, r, st),
)
slot_mutant("cancel_lets_go", "lets go of its job with a cancel", cancel=lambda self: _lets_go(self))
slot_mutant(
    "cancelled_cannot_extend",
    "extends nothing after a cancel",
    extend=lambda self, r: _not_cancelled(self, r),
)
slot_mutant("closed_takes", "goes on after its close", close=lambda self: _close_quietly(self))
slot_mutant(
    "refused_takes",
    "takes the next job though its settle was refused",
    settle_and_reserve=lambda self, r, st: _takes_anyway(self, r, st),
)
slot_mutant(
    "same_queue_next",
    "takes the next job of the same queue",
    settle_and_reserve=lambda self, r, st: _of_same(self, r, st),
)
mutant("lease_extended_half", "extends by half a lease", lease_extended=lambda s, r: s.now() + LEASE / 2)
mutant("lease_extended_from_end", "extends from the old end", lease_extended=lambda s, r: r.ready_at + LEASE)
mutant(
    "extends_the_first",
    "extends the first two of several leases",
    extend_many=lambda s, held: _first_of(s, held),
)
mutant(
    "extends_all_or_none",
    "gives all leases up if one of several is lost",
    extend_many=lambda s, held: _together(s, held),
)
mutant(
    "extends_out_of_order",
    "says of several leases which one is lost, in another order",
    extend_many=lambda s, held: Reference.extend_many(s, held)[::-1],
)
mutant(
    "extends_lost_ones",
    "says that it extended several leases, those that are lost, too",
    extend_many=lambda s, held: [None for _ in Reference.extend_many(s, held)],
)
mutant(
    "extends_without_deadline",
    "extends several leases and leaves their deadlines",
    extend_many=lambda s, held: _unmoved(s, held),
)
mutant("leases_end_together", "ends all leases with the first", tick=lambda s: _all_over(s))
mutant(
    "lease_not_anew",
    "gives the next holder what is left of a lease",
    take=lambda s, q: _left_over(s, Reference.take(s, q)),
)
mutant("lease_from_reserve", "counts the lease from when the reserve began", take=lambda s, q: _begun(s, q))
mutant(
    "deadline_from_after",
    "counts the deadline from the answer",
    take=lambda s, q: _after(s, Reference.take(s, q)),
)
mutant(
    "extended_from_after",
    "counts an extension from the answer",
    renew=lambda s, r: (Reference.renew(s, r), _after(s, r))[0],
)
mutant(
    "leases_seen_by_take",
    "looks for ended leases in a reserve only",
    of=lambda s, q, *states: _untouched(s, q, states),
)
mutant(
    "extends_others",
    "renews the lease of the job, whoever holds it, before it says that it is lost",
    renew=lambda s, r: (_renews_any(s, r), Reference.renew(s, r))[1],
)
mutant(
    "extend_disturbs", "renews the token with each extend, in two steps", renew=lambda s, r: _renames(s, r)
)

# --- time ---
mutant("zone_dropped", "drops the zone of a delay", due=lambda s, m: m.replace(tzinfo=UTC).timestamp())
mutant(
    "delay_32_bits",
    "keeps 31 bits of milliseconds",
    due=lambda s, m: (
        s.now() + (m.timestamp() - s.now()) % 2**31 / 1000
        if m.timestamp() - s.now() > 2**31 / 1000
        else m.timestamp()
    ),
)
mutant(
    "delay_three_years",
    "cuts delays to three years",
    due=lambda s, m: min(m.timestamp(), s.now() + 3 * 365 * 86400),
)
mutant(
    "due_milliseconds",
    "cuts the end of delays to milliseconds",
    due=lambda s, m: m.timestamp() // 0.001 * 0.001,
)
mutant(
    "pause_milliseconds",
    "cuts the end of pauses to milliseconds",
    pause_ends=lambda s, p: (s.now() + p.total_seconds()) // 0.001 * 0.001,
)
mutant(
    "pause_end_rounded",
    "rounds the end of pauses to seconds",
    pause_ends=lambda s, p: float(round(s.now() + p.total_seconds())),
)
mutant(
    "pause_seconds",
    "takes the seconds of a pause for the whole",
    pause_ends=lambda s, p: s.now() + p.seconds + p.microseconds / 1e6,
)
mutant(
    "pause_wraps",
    "keeps 31 bits of milliseconds of a pause",
    pause_ends=lambda s, p: s.now() + p.total_seconds() % (2**31 / 1000),
)
mutant(
    "pause_overflows",
    "fails at a pause beyond the year 9999",
    capabilities=declares(longest_delay=None),
    pause_ends=lambda s, p: (s.clock.now() + p).timestamp(),
)
mutant("expired_not_stored", "drops what has expired before", enqueue=lambda s, m: _drops_expired(s, m))
mutant("expired_not_returned", "drops what expires meanwhile", released=lambda s, r: _drop_late(s, r))
mutant(
    "due_seen_by_take",
    "counts and shows what is due as delayed, until a reserve",
    stats=lambda s, q: _stale_stats(s, q),
)
mutant(
    "tie_by_due",
    "orders equals by the end of their delays",
    order=lambda s, r: (r.priority, r.ready_at, r.number),
)
mutant("next_change_last", "foresees the last change", next_change=lambda s, q: _last_change(s, q))
mutant(
    "next_change_buried",
    "takes buried jobs into account",
    next_change=lambda s, q: _change(s, q, states=tuple(JobState)),
)
mutant(
    "next_change_no_pause",
    "forgets pauses when it foresees a change",
    next_change=lambda s, q: _change(s, q, pauses=False),
)
mutant(
    "next_change_no_lease",
    "foresees no end of a lease",
    next_change=lambda s, q: _change(s, q, states=(JobState.READY,)),
)
mutant(
    "next_change_no_delay",
    "foresees no end of a delay",
    next_change=lambda s, q: _change(s, q, states=(JobState.RESERVED,)),
)
mutant(
    "next_change_one_queue",
    "foresees changes of the first queue",
    next_change=lambda s, q: Reference.next_change(s, q[:1]),
)

# --- order ---
mutant(
    "order_by_queue",
    "orders equals by their queues",
    order=lambda s, r: (r.priority, r.message.queue, r.number),
)
mutant("priority_31_bits", "keeps 31 bits of priorities", stored_priority=lambda s, p: min(p, 2**31 - 1))
mutant(
    "priority_reset_snooze_pause",
    "resets the priority with a pause",
    priority_after=lambda s, r, what: 65536 if r.ready_at > s.now() else r.priority,
)
mutant(
    "priority_reset_close",
    "resets the priority when a consumer closes",
    given_up=lambda s, r: (setattr(r, "priority", 65536), Reference.given_up(s, r))[0],
)
mutant(
    "close_goes_last",
    "puts the job of a closed consumer behind its equals",
    given_up=lambda s, r: (_renumber(s, r), Reference.given_up(s, r))[0],
)
mutant(
    "close_forgets_attempt",
    "takes the attempt of a closed consumer out of the count",
    given_up=lambda s, r: (setattr(r, "attempts", r.attempts - 1), Reference.given_up(s, r))[0],
)

# --- pauses ---
mutant(
    "pause_stops_all",
    "delivers nothing while one of the queues is paused",
    take=lambda s, q: None if any(map(s.is_paused, q)) else Reference.take(s, q),
)
mutant(
    "pause_told_in_milliseconds",
    "tells a pause a thousand times too long",
    rest_of_pause=lambda s, q: Reference.rest_of_pause(s, q) * 1000,
)
mutant(
    "pause_told_as_end",
    "tells when a pause ends, as its rest",
    rest_of_pause=lambda s, q: s.disk.paused.get(q, 0.0),
)
mutant(
    "pause_longest_wins",
    "keeps the longer of two pauses",
    queue_pause_ends=lambda s, q, p: max(s.disk.paused.get(q, 0.0), s.pause_ends(p)) if p else s.now(),
)
mutant(
    "pauses_add_up",
    "adds pauses up",
    queue_pause_ends=lambda s, q, p: (
        max(s.disk.paused.get(q, 0.0), s.now()) + p.total_seconds() if p else s.now()
    ),
)
mutant(
    "resume_unpaused_fails", "cannot resume what is not paused", pause=lambda s, q, d: _was_paused(s, q, d)
)
mutant(
    "pause_of_old_jobs",
    "holds back only what was there when the pause began",
    is_held_back=lambda s, r: Reference.is_held_back(s, r) and r.number <= s.disk.__dict__.get("seen", 0),
    pause=lambda s, q, d: _notes(s, q, d),
)
mutant(
    "pause_of_new_jobs",
    "holds back only what was never delivered",
    is_held_back=lambda s, r: Reference.is_held_back(s, r) and not r.attempts,
)
mutant(
    "pause_refuses_settle",
    "settles nothing in a paused queue",
    holds=lambda s, r, st: _not_paused(s, r, st),
)

# --- what is shown ---
mutant(
    "enqueued_at_now",
    "shows when it was asked, not when a job was enqueued",
    stored=lambda s, r, st: attrs.evolve(Reference.stored(s, r, st), enqueued_at=s.clock.now()),
)
mutant(
    "times_naive", "shows times without a zone", stored=lambda s, r, st: _naive(Reference.stored(s, r, st))
)
mutant(
    "due_missing_zone",
    "shows when a job is due in local time",
    stored=lambda s, r, st: _shifted(Reference.stored(s, r, st)),
)
mutant(
    "attempt_shown_off",
    "shows one attempt too many",
    stored=lambda s, r, st: attrs.evolve(Reference.stored(s, r, st), attempt=r.attempts + 1),
)
mutant(
    "snoozes_shown_as_attempts",
    "shows attempts as snoozes",
    stored=lambda s, r, st: attrs.evolve(Reference.stored(s, r, st), snoozes=r.attempts),
)
mutant(
    "priority_shown_default",
    "shows the usual priority",
    stored=lambda s, r, st: attrs.evolve(Reference.stored(s, r, st), priority=65536),
)
mutant(
    "due_of_all",
    "shows an end of its delay for every job",
    stored=lambda s, r, st: attrs.evolve(Reference.stored(s, r, st), due=s.clock.now() + timedelta(hours=1)),
)
mutant(
    "peek_unknown_fails",
    "cannot look into a queue that is not there",
    peek=lambda s, q, st, limit=1: _known_queue(s, q, st, limit),
)
mutant(
    "peek_all",
    "shows all jobs unless told",
    peek=lambda s, q, st, limit=10**6: Reference.peek(s, q, st, limit),
)
mutant(
    "body_stripped_on_return",
    "strips blanks from bodies that come back",
    released=lambda s, r: (setattr(r, "body", r.body.strip()), Reference.released(s, r))[0],
)
mutant(
    "body_text_when_buried",
    "shows bodies of buried jobs as text",
    stored=lambda s, r, st: _texts(Reference.stored(s, r, st)),
)

# --- burials, deletes ---
mutant(
    "story_cut",
    "cuts the story of a failure",
    settle=lambda s, r, st: Reference.settle(
        s, r, attrs.evolve(st, message=st.message[:1000]) if isinstance(st, Bury) else st
    ),
)
mutant(
    "story_one_line",
    "keeps the first line of a story",
    settle=lambda s, r, st: Reference.settle(
        s,
        r,
        attrs.evolve(st, message=st.message.splitlines()[0] if st.message else "")
        if isinstance(st, Bury)
        else st,
    ),
)
mutant(
    "story_ascii",
    "drops what is not ASCII from a story",
    settle=lambda s, r, st: Reference.settle(
        s,
        r,
        attrs.evolve(st, message=st.message.encode("ascii", "ignore").decode())
        if isinstance(st, Bury)
        else st,
    ),
)
mutant(
    "first_story_stays",
    "tells the first burial of the second",
    settle=lambda s, r, st: _first_story(s, r, st),
    kick=lambda s, q, i: _kick_keeping(s, q, i),
)
mutant(
    "buried_by_second",
    "orders burials by whole seconds",
    buried=lambda s, q, limit=100: _by(s, q, limit, lambda r: (int(r.buried_at), r.number)),
)
mutant(
    "buried_by_number",
    "orders burials by enqueueing",
    buried=lambda s, q, limit=100: _by(s, q, limit, lambda r: r.number),
)
mutant(
    "kick_any_queue",
    "kicks a job of another queue",
    kick=lambda s, q, i: Reference.kick(s, _home(s, q, i), i),
)
mutant("kick_all", "kicks all buried jobs of the queue", kick=lambda s, q, i: _kick_all(s, q, i))
mutant(
    "delete_any_queue",
    "deletes a job of another queue",
    delete=lambda s, q, i: Reference.delete(s, _home(s, q, i), i),
)
mutant(
    "delete_spares_delayed",
    "deletes no job that is delayed",
    can_delete=lambda s, r: (
        r.state is not JobState.RESERVED and (r.state is JobState.BURIED or s.is_ready(r))
    ),
)
mutant(
    "delete_same_priority",
    "deletes all jobs of the same priority",
    delete=lambda s, q, i: _delete_more(s, q, i),
)

# --- waking ---
WAKERS = {
    "enqueue": "a new job",
    "rollback": "a rollback",
    "snooze": "a snooze",
    "kick": "a kick",
    "pause": "the end of a pause by hand",
    "close": "a consumer that closes with its job",
}
for _way, _of in WAKERS.items():
    mutant(
        f"asleep_after_{_way}",
        f"wakes nobody after {_of}",
        announce=lambda s, what, way=_way: None if what == way else Reference.announce(s, what),
    )
mutant(
    "asleep_after_give_back",
    "wakes nobody after giving back",
    give_back=lambda s, r: _quietly(s, lambda: Reference.give_back(s, r)),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_kick_shown",
    "wakes nobody after a kick of a job that was shown",
    kick_shown=lambda s, job: _quietly(s, lambda: Reference.kick_shown(s, job)),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_batch",
    "wakes nobody after a batch",
    enqueue_many=lambda s, ms: _quietly(s, lambda: Reference.enqueue_many(s, ms)),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_delay",
    "wakes nobody for a delay that is sooner",
    enqueue=lambda s, m: _quietly(s, lambda: Reference.enqueue(s, m)) if m.delay else Reference.enqueue(s, m),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_delayed_batch",
    "wakes nobody after a batch whose jobs are all delayed",
    enqueue_many=lambda s, ms: (
        _quietly(s, lambda: Reference.enqueue_many(s, ms))
        if all(m.delay for m in ms)
        else Reference.enqueue_many(s, ms)
    ),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_retry",
    "wakes nobody for a pause that begins",
    settle=lambda s, r, st: (
        _quietly(s, lambda: Reference.settle(s, r, st))
        if getattr(st, "pause", NO_PAUSE)
        else Reference.settle(s, r, st)
    ),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "asleep_after_follow",
    "wakes nobody for a follow-up",
    followed=lambda s, x: _quietly(s, lambda: Reference.followed(s, x)),
    announce=lambda s, what: _unless_quiet(s, what),
)
mutant(
    "find_pattern",
    "takes an id for a pattern to find",
    is_sought=lambda s, j, i: fnmatch.fnmatchcase(j.id, i),
)
mutant(
    "counts_of_one_queue",
    "counts no attempt of who serves several queues",
    take=lambda s, q: _first_attempt(Reference.take(s, q)) if len(q) > 1 else Reference.take(s, q),
)
mutant("find_old_state", "finds what is due as delayed", find=lambda s, i: _found_as_stored(s, i))
mutant(
    "find_counts_of_another", "shows the counts of a job that is ready", find=lambda s, i: _with_counts(s, i)
)
mutant(
    "shown_as_text",
    "shows ready jobs by their priority as text",
    shown_order=lambda s, state: (
        lambda r: (str(r.priority), r.number) if state is JobState.READY else (r.ready_at, r.number)
    ),
)
mutant("number_of_those_left", "gives places by the number of jobs", enqueue=lambda s, m: _by_count(s, m))
mutant(
    "wakes_one",
    "wakes one consumer, whatever it waits for",
    announce=lambda s, what: s.disk.changed.notify(1 if what == "enqueue" else 99),
)
slot_mutant(
    "hears_first_queue",
    "listens to its first queue only",
    reserve=lambda self, t: _deaf(self, t, lambda: self.adapter.take(self.queues[:1])),
)
mutant(
    "hears_itself",
    "does not hear other adapters",
    enqueue=lambda s, m: (s.disk.__dict__.__setitem__("sender", s), Reference.enqueue(s, m))[1],
    make_consumer=lambda s, queues: _HearsItself(s, queues),
)
slot_mutant("never_waits", "does not wait at all", reserve=lambda self, t: Slot.reserve(self, NO_PAUSE))
slot_mutant(
    "polls_slowly",
    "looks once a second",
    until_change=lambda self: 1.0,
    reserve=lambda self, t: _polls(self, t),
)
slot_mutant(
    "sleeps_through_leases",
    "sleeps through the end of a lease",
    until_change=lambda self: _until(self, (JobState.READY,), pauses=True),
)
slot_mutant(
    "sleeps_through_pauses",
    "sleeps through the end of a pause",
    until_change=lambda self: _until(self, (JobState.READY, JobState.RESERVED), pauses=False),
)
slot_mutant(
    "one_timer",
    "has one timer for all who wait, which is not set again for those who are due later",
    until_change=lambda self: _if_first(self),
)
slot_mutant(
    "sleeps_for_first_queue",
    "sleeps until something changes in its first queue",
    until_change=lambda self: _until(
        self, (JobState.READY, JobState.RESERVED), pauses=True, queues=self.queues[:1]
    ),
)

# --- several adapters ---
mutant(
    "reach_kicks_own",
    "kicks only what it buried itself",
    settle=lambda s, r, st: _notes_burial(s, r, st),
    can_kick=lambda s, r: Reference.can_kick(s, r) and r.message.id in s.__dict__.get("own", ()),
)
mutant(
    "reach_pauses_own",
    "pauses only its own consumers",
    is_held_back=lambda s, r: s.__dict__.get("stops", {}).get(r.message.queue, 0.0) > s.now(),
    pause=lambda s, q, d: _own_pause(s, q, d),
)
mutant(
    "reach_counts_own",
    "counts only its own jobs",
    enqueue=lambda s, m: (s.__dict__.setdefault("own", set()).add(m.id), Reference.enqueue(s, m))[1],
    stats=lambda s, q: _own_stats(s, q),
)
mutant(
    "pauses_everywhere",
    "keeps the pauses of all stores in one place",
    is_paused=lambda s, q: PAUSES.get(q, 0.0) > s.now(),
    rest_of_pause=lambda s, q: PAUSES.get(q, 0.0) - s.now(),
    pause=lambda s, q, d: PAUSES.__setitem__(q, s.pause_ends(d)),
)
mutant("close_empties", "empties the store when it closes", reopened=lambda s: s.disk.records.clear())
mutant(
    "close_releases_all",
    "takes back all jobs when it closes",
    reopened=lambda s: [s.given_up(r) for r in s.disk.records if r.state is JobState.RESERVED],
)

# --- races; a step in two, without the lock ---
mutant("races_body", "shows a body while it is written", enqueue=lambda s, m: _writes_slowly(s, m))
mutant("races_ids", "looks for an id, and then stores it", enqueue=lambda s, m: _stores_slowly(s, m))
mutant(
    "races_delete", "looks for a job, and then deletes it", delete=lambda s, q, i: _deletes_slowly(s, q, i)
)
mutant("races_kick", "looks for a burial, and then kicks it", kick=lambda s, q, i: _kicks_slowly(s, q, i))
mutant("races_purge", "counts first, and then purges", purge=lambda s, q: _purges_slowly(s, q))
mutant(
    "races_adapters",
    "takes a job in two steps, under its own lock only",
    take=lambda s, q: takes_slowly(s, q),
)
slot_mutant(
    "races_cancel",
    "forgets a job that comes with a cancel",
    reserve=lambda self, t: _drops_cancelled(self, t),
)

PAUSES: dict[str, float] = {}


# --- names and ids ---
def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _refuses_long(s: Reference, message: Message) -> None:
    if len(message.id.encode()) > 255:
        raise OSError(36, "File name too long")
    Reference.enqueue(s, message)


def _outlives(s: Reference, message: Message) -> bool:
    ever: set[str] = s.disk.__dict__.setdefault("ever", set())
    known = message.id in ever
    ever.add(message.id)
    return known


def _by_id(s: Reference, message: Message) -> None:
    ever: dict[str, Record] = s.disk.__dict__.setdefault("ever", {})
    Reference.enqueue(s, message)
    record = s.disk.records[-1]
    record.attempts = ever.get(message.id, record).attempts
    ever[message.id] = record


def _replaces(s: Reference, message: Message) -> None:
    for record in [r for r in s.disk.records if r.message.id == message.id]:
        s.disk.records.remove(record)
    Reference.enqueue(s, message)


def _unchecked(s: Reference, messages: Sequence[Message]) -> list[Any]:
    held = [message for message in messages if s.is_known(message)]
    outcomes: list[Any] = []
    for message in messages:
        if message in held:
            outcomes.append(IdHeld(message.id, "ready"))
            continue
        kept = [r for r in s.disk.records if r.message.id == message.id]
        s.disk.records[:] = [r for r in s.disk.records if r not in kept]
        outcomes += Reference.enqueue_many(s, [message])
        s.disk.records += kept
    return outcomes


# --- many ---
def _cut_batch(s: Reference, messages: Sequence[Message]) -> list[Any]:
    return [*Reference.enqueue_many(s, messages[:1000]), *[None for _ in messages[1000:]]]


def _in_portions(s: Reference, messages: Sequence[Message]) -> list[Any]:
    outcomes: list[Any] = []
    for start in range(0, len(messages), 500):
        outcomes += Reference.enqueue_many(s, messages[start : start + 500])
        if isinstance(outcomes[start], IdHeld):
            return outcomes + [AdapterUnavailable("not tried")] * (len(messages) - len(outcomes))
    return outcomes


def _not_empty(s: Reference, messages: Sequence[Message]) -> list[Any]:
    if not messages:
        raise AdapterUnavailable("nothing to send")
    return Reference.enqueue_many(s, messages)


def _purge_some(s: Reference, queue: str) -> int:
    with s.lock:
        gone = s.of(queue, JobState.BURIED, JobState.READY)[:1000]
        s.disk.records[:] = [r for r in s.disk.records if r not in gone]
        return len(gone)


def _in_portion(s: Reference, record: Record) -> bool:
    if record.message.delay is None or record.ready_at > s.now():
        return Reference.is_ready(s, record)
    early = [r for r in s.disk.records if r.message.delay is not None and r.number < record.number]
    return len(early) < 250


def _one_lease(s: Reference) -> None:
    for record in s.disk.records:
        if record.state is JobState.RESERVED and s.is_over(record):
            record.state, record.token = JobState.READY, record.token + 1
            return


# --- holders ---
def _other_attempt(held: Held) -> bool:
    record = held.record
    return record is None or record.state is not JobState.RESERVED or record.attempts != held.attempt


def _unfenced(s: Reference, held: Any, settlement: Any, kind: type) -> Record:
    if isinstance(settlement, kind) and not s.is_late(held) and held.record.state is JobState.RESERVED:
        record: Record = held.record
        return record
    return s.record_of(held)


def _late(s: Reference, held: Any, settlement: Any) -> Record:
    if isinstance(settlement, Snooze) and held.record.state is not None and held.record.token == held.token:
        record: Record = held.record
        return record
    return s.record_of(held)


def _quiet_if_gone(s: Reference, held: Any, settlement: Any) -> None:
    if held.record.state is not None:
        Reference.settle(s, held, settlement)


def _to_first(slot: Slot, held: Any, settlement: Any) -> None:
    Slot.settle(slot, held, settlement)
    if held.record.state is JobState.READY:
        held.record.message = attrs.evolve(held.record.message, queue=slot.queues[0])


def _lets_go(slot: Slot) -> None:
    Slot.cancel(slot)
    with slot.adapter.lock:
        if slot.held is not None and not slot.adapter.is_stale(slot.held):
            assert slot.held.record is not None
            slot.adapter.given_up(slot.held.record)


def _not_cancelled(slot: Slot, held: Reservation) -> None:
    if slot.cancelled:
        raise LeaseLost(held.id, "this worker was cancelled")
    Slot.extend(slot, held)


def _close_quietly(slot: Slot) -> None:
    was = slot.cancelled
    Slot.close(slot)
    slot.cancelled = was


def _takes_anyway(slot: Slot, held: Any, settlement: Any) -> Any:
    try:
        slot.settle(held, settlement)
    except LeaseLost:
        slot.adapter.take(slot.queues)
        raise
    return slot.reserve(NO_PAUSE)


def _of_same(slot: Slot, held: Any, settlement: Any) -> Any:
    slot.settle(held, settlement)
    if slot.cancelled:
        return None
    slot.held = slot.adapter.take([held.queue])
    return slot.held


def _by_place(adapter: Reference, queue: str) -> Iterator[StoredJob]:
    place = 0
    while page := Reference.buried(adapter, queue, place + 10)[place:]:
        yield from page
        place += 10


def _overlapping(adapter: Reference, queue: str, state: JobState) -> Iterator[StoredJob]:
    for number, job in enumerate(Reference.peek(adapter, queue, state, 10**6)):
        yield job
        if number % 100 == 99:
            yield job


def _first_of(adapter: Reference, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
    return [*Reference.extend_many(adapter, held[:2]), *(None for _ in held[2:])]


def _together(adapter: Reference, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
    outcomes = Reference.extend_many(adapter, held)
    lost = next((one for one in outcomes if one is not None), None)
    return [lost for _ in outcomes]


def _unmoved(adapter: Reference, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
    deadlines = [reservation.deadline for _, reservation in held]
    outcomes = Reference.extend_many(adapter, held)
    for (_, reservation), deadline in zip(held, deadlines, strict=True):
        reservation.deadline = deadline
    return outcomes


def _all_over(s: Reference) -> None:
    held = [r for r in s.disk.records if r.state is JobState.RESERVED]
    if any(s.is_over(r) for r in held):
        for record in held:
            record.state, record.token, record.ready_at = JobState.READY, record.token + 1, s.now()


def _left_over(s: Reference, held: Held | None) -> Held | None:
    """Give the second holder what would be left of a lease that began where the first one's ended."""
    if held is not None and held.attempt == 2:
        assert held.record is not None
        held.record.ready_at = min(held.record.ready_at, s.disk.__dict__["ends"][held.id] + LEASE / 2)
    if held is not None:
        s.disk.__dict__.setdefault("ends", {})[held.id] = s.now() + LEASE
    return held


def _begun(s: Reference, queues: Sequence[str]) -> Held | None:
    """As if the lease began with the first look of a consumer that waits."""
    looks: dict[tuple[str, ...], float] = s.__dict__.setdefault("looks", {})
    begun = looks.setdefault(tuple(queues), s.now())
    held = Reference.take(s, queues)
    if held is not None:
        assert held.record is not None
        held.record.ready_at = min(held.record.ready_at, begun + LEASE)
        del looks[tuple(queues)]
    return held


def _after(s: Reference, held: Any) -> Any:
    if held is not None:
        held.deadline = s.local_deadline()
    return held


def _untouched(s: Reference, queue: str, states: Sequence[JobState]) -> list[Record]:
    return [r for r in s.disk.records if s.same_queue(r.message.queue, queue) and r.state in states]


def _renames(s: Reference, held: Any) -> None:
    Reference.renew(s, held)
    held.record.token += 1
    time.sleep(0.0005)
    held.token += 1


# --- time ---
def _drops_expired(s: Reference, message: Message) -> None:
    if message.expiration is None or message.expiration > s.clock.now():
        Reference.enqueue(s, message)


def _drop_late(s: Reference, record: Record) -> None:
    Reference.released(s, record)
    if record.message.expiration is not None and record.message.expiration <= s.clock.now():
        s.disk.records.remove(record)
        record.state = None


def _stale_stats(s: Reference, queue: str) -> QueueStats:
    found = Reference.stats(s, queue)
    due = [r for r in s.of(queue, JobState.READY) if r.message.delay and r.ready_at <= s.now()]
    return attrs.evolve(found, ready=found.ready - len(due), delayed=found.delayed + len(due))


def _changes(s: Reference, queues: Sequence[str], states: Sequence[JobState], *, pauses: bool) -> list[float]:
    paused = s.disk.paused if pauses else {}
    times = [
        max(r.ready_at, paused.get(r.message.queue, 0.0))
        for r in s.disk.records
        if s.watched(r.message.queue, queues) and r.state in states
    ]
    return sorted(moment for moment in times if moment > s.now())


_TIMED = (JobState.READY, JobState.RESERVED)


def _change(
    s: Reference, queues: Sequence[str], states: Sequence[JobState] = _TIMED, *, pauses: bool = True
) -> datetime | None:
    coming = _changes(s, queues, states, pauses=pauses)
    return datetime.fromtimestamp(coming[0], UTC) + timedelta(microseconds=1) if coming else None


def _last_change(s: Reference, queues: Sequence[str]) -> datetime | None:
    coming = _changes(s, queues, _TIMED, pauses=True)
    return datetime.fromtimestamp(coming[-1], UTC) + timedelta(microseconds=1) if coming else None


def _until(
    slot: Slot, states: Sequence[JobState], *, pauses: bool, queues: Sequence[str] | None = None
) -> float:
    coming = _changes(slot.adapter, queues or slot.queues, states, pauses=pauses)
    return coming[0] - slot.adapter.now() + 1e-6 if coming else 3600.0


def _if_first(slot: Slot) -> float:
    states = (JobState.READY, JobState.RESERVED)
    everything = {record.message.queue for record in slot.adapter.disk.records}
    mine, first = (
        _changes(slot.adapter, queues, states, pauses=True) for queues in (slot.queues, list(everything))
    )
    return Slot.until_change(slot) if mine[:1] == first[:1] else 3600.0


def _renews_any(s: Reference, reservation: Reservation) -> None:
    record = getattr(reservation, "record", None)
    if record is not None and record.state is JobState.RESERVED:
        record.ready_at = s.lease_extended(record)


def _renumber(s: Reference, record: Record) -> None:
    s.disk.counter += 1
    record.number = s.disk.counter


# --- pauses ---
def _was_paused(s: Reference, queue: str, span: timedelta) -> None:
    if not span and not s.is_paused(queue):
        raise KeyError(queue)
    Reference.pause(s, queue, span)


def _notes(s: Reference, queue: str, span: timedelta) -> None:
    s.disk.__dict__["seen"] = s.disk.counter
    Reference.pause(s, queue, span)


def _not_paused(s: Reference, held: Any, settlement: Any) -> Record:
    if s.is_paused(held.queue):
        raise LeaseLost(held.id, "its queue is paused")
    return s.record_of(held)


# --- what is shown ---
def _naive(job: StoredJob) -> StoredJob:
    changes = {
        name: value.replace(tzinfo=None)
        for name in ("enqueued_at", "due", "buried_at")
        if (value := getattr(job, name)) is not None
    }
    return attrs.evolve(job, **changes)


def _shifted(job: StoredJob) -> StoredJob:
    return job if job.due is None else attrs.evolve(job, due=job.due + timedelta(hours=2))


def _known_queue(s: Reference, queue: str, state: JobState, limit: int) -> list[StoredJob]:
    if not any(r.message.queue == queue for r in s.disk.records):
        raise FileNotFoundError(queue)
    return Reference.peek(s, queue, state, limit)


def _texts(job: StoredJob) -> StoredJob:
    if job.state is not JobState.BURIED:
        return job
    return attrs.evolve(job, body=job.body.decode(errors="replace").encode())


# --- burials, deletes ---
def _first_story(s: Reference, held: Any, settlement: Any) -> None:
    kept = held.record.reason, held.record.text
    Reference.settle(s, held, settlement)
    if isinstance(settlement, Bury) and kept[0]:
        held.record.reason, held.record.text = kept


def _kick_keeping(s: Reference, queue: str, job_id: str) -> None:
    stories = {r.number: (r.reason, r.text) for r in s.disk.records}
    Reference.kick(s, queue, job_id)
    for record in s.disk.records:
        record.reason, record.text = stories[record.number]


def _by(s: Reference, queue: str, limit: int, key: Callable[[Record], object]) -> list[StoredJob]:
    found = sorted(s.of(queue, JobState.BURIED), key=key)  # type: ignore[arg-type]
    return [s.stored(record, JobState.BURIED) for record in found[:limit]]


def _home(s: Reference, queue: str, job_id: str) -> str:
    return next((r.message.queue for r in s.disk.records if r.message.id == job_id), queue)


def _kick_all(s: Reference, queue: str, job_id: str) -> None:
    ids = [r.message.id for r in s.of(queue, JobState.BURIED)]
    if job_id not in ids:
        raise UnknownJob(job_id, queue)
    for one in ids:
        Reference.kick(s, queue, one)


def _delete_more(s: Reference, queue: str, job_id: str) -> None:
    same = next((r.priority for r in s.of(queue, *JobState) if r.message.id == job_id), None)
    Reference.delete(s, queue, job_id)
    for record in s.of(queue, JobState.READY, JobState.BURIED):
        if record.priority == same:
            s.disk.records.remove(record)


def _first_attempt(held: Held | None) -> Held | None:
    if held is not None:
        held.attempt = 1
    return held


def _with_counts(s: Reference, job_id: str) -> StoredJob | None:
    job = Reference.find(s, job_id)
    ready = [] if job is None else s.peek(job.queue, JobState.READY, 1)
    return attrs.evolve(job, attempt=ready[0].attempt) if job is not None and ready else job


def _found_as_stored(s: Reference, job_id: str) -> StoredJob | None:
    job = Reference.find(s, job_id)
    record = next((r for r in s.disk.records if r.message.id == job_id), None)
    if job is not None and record is not None and job.state is JobState.READY and record.message.delay:
        return attrs.evolve(job, state=JobState.DELAYED)
    return job


def _by_count(s: Reference, message: Message) -> None:
    s.disk.counter = len(s.disk.records)
    Reference.enqueue(s, message)


# --- waking ---
def _quietly(s: Reference, call: Callable[[], Any]) -> Any:
    s.__dict__["quiet"] = True
    try:
        return call()
    finally:
        s.__dict__["quiet"] = False


def _unless_quiet(s: Reference, what: str) -> None:
    if not s.__dict__.get("quiet"):
        Reference.announce(s, what)


def _waiting(slot: Slot, timeout: timedelta, look: Callable[[], Held | None]) -> Held | None:
    """As `Slot.reserve`, but from the second look on it looks in another way."""
    adapter = slot.adapter
    found = Slot.reserve(slot, NO_PAUSE)
    if found is not None or not timeout:
        return found  # type: ignore[return-value]
    end = adapter.clock.monotonic() + timeout.total_seconds()
    with adapter.lock:
        while not slot.cancelled and (left := end - adapter.clock.monotonic()) > 0:
            adapter.clock.wait(adapter.disk.changed, min(left, slot.until_change()))
            slot.held = look()
            if slot.held is not None:
                return slot.held
    return None


def _deaf(slot: Slot, timeout: timedelta, look: Callable[[], Held | None]) -> Held | None:
    return _waiting(slot, timeout, look)


class _HearsItself(Slot):
    def reserve(self, timeout: timedelta) -> Reservation | None:
        def look() -> Held | None:
            is_own = self.adapter.disk.__dict__.get("sender") in (None, self.adapter)
            return self.adapter.take(self.queues) if is_own else None

        return _waiting(self, timeout, look)


def _polls(slot: Slot, timeout: timedelta) -> Held | None:
    begun = time.monotonic()
    seen = [0]

    def look() -> Held | None:
        now = int(time.monotonic() - begun)
        if now == seen[0]:
            return None
        seen[0] = now
        return slot.adapter.take(slot.queues)

    return _waiting(slot, timeout, look)


# --- several adapters ---
def _own_pause(s: Reference, queue: str, span: timedelta) -> None:
    Reference.pause(s, queue, span)
    s.__dict__.setdefault("stops", {})[queue] = s.pause_ends(span)


def _notes_burial(s: Reference, held: Any, settlement: Any) -> None:
    Reference.settle(s, held, settlement)
    if isinstance(settlement, Bury):
        s.__dict__.setdefault("own", set()).add(held.id)


def _own_stats(s: Reference, queue: str) -> QueueStats:
    kept = s.disk.records
    s.disk.records = [r for r in kept if r.message.id in s.__dict__.get("own", ())]
    try:
        return Reference.stats(s, queue)
    finally:
        s.disk.records = kept


# --- races ---
def _moment_without(s: Reference) -> None:
    """Let go of the lock for a moment, if there is anybody: else it would only take long."""
    if threading.active_count() > 2:
        s.lock.wait(0.0005)


def _writes_slowly(s: Reference, message: Message) -> None:
    Reference.enqueue(
        s, attrs.evolve(message, body=message.body[:100]) if len(message.body) > 1000 else message
    )
    if len(message.body) > 1000:
        record = s.disk.records[-1]
        time.sleep(0.0005)
        record.body = message.body


def _stores_slowly(s: Reference, message: Message) -> None:
    with s.lock:
        known = s.is_known(message)
        _moment_without(s)
        if not known:
            number = len(s.disk.records)
            held = [r for r in s.disk.records if r.message.id == message.id]
            s.disk.records[:] = [r for r in s.disk.records if r not in held]
            Reference.enqueue(s, message)
            s.disk.records += held
            assert len(s.disk.records) == number + 1
            return
    raise IdHeld(message.id, "ready")


def _deletes_slowly(s: Reference, queue: str, job_id: str) -> None:
    with s.lock:
        found = [r for r in s.of(queue, JobState.BURIED, JobState.READY) if r.message.id == job_id]
        if not found:
            raise UnknownJob(job_id, queue)
        _moment_without(s)
        s.disk.records[:] = [r for r in s.disk.records if r not in found]


def _kicks_slowly(s: Reference, queue: str, job_id: str) -> None:
    with s.lock:
        found = [r for r in s.of(queue, JobState.BURIED) if r.message.id == job_id]
        _moment_without(s)
        if not found:
            raise UnknownJob(job_id, queue)
        found[0].state, found[0].ready_at, found[0].attempts = JobState.READY, s.at_once(), 0
        s.announce("kick")


def _purges_slowly(s: Reference, queue: str) -> int:
    with s.lock:
        count = len(s.of(queue, JobState.BURIED, JobState.READY))
        _moment_without(s)
        Reference.purge(s, queue)
        return count


def takes_slowly(s: Reference, queues: Sequence[str]) -> Held | None:
    """Two adapters that look at the same moment see the same job, and both have it."""
    with s.lock:
        held = Reference.take(s, queues)
        others: set[Reference] = s.disk.__dict__.setdefault("takers", set())
        others.add(s)
        if held is not None and len(others) > 1:
            assert held.record is not None
            lease, held.record.ready_at = held.record.ready_at, s.now()
            held.record.state = JobState.READY
            _moment_without(s)
            held.record.state, held.record.ready_at = JobState.RESERVED, lease
            held.token = held.record.token
        return held


def _drops_cancelled(slot: Slot, timeout: timedelta) -> Reservation | None:
    found = Slot.reserve(slot, timeout)
    if timeout:
        time.sleep(0.0005)
    return None if slot.cancelled and timeout else found
