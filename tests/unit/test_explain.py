"""Explanations: what follows from the facts, and what is said where facts are missing (S39)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_memory.adapter import MemoryAdapter

from kessel_core import (
    AdapterUnavailable,
    BusyJob,
    Cause,
    CauseName,
    Config,
    Event,
    EventKind,
    Facts,
    Job,
    JobHistory,
    JobManager,
    JobRequest,
    Reason,
    ResultsConfig,
    WorkerEntry,
    WorkerState,
)
from kessel_core.contract import (
    Browse,
    Find,
    JobState,
    QueueStats,
    Reach,
    Rollback,
    Settlement,
    Snooze,
    Store,
    StoredJob,
)
from kessel_core.features.advice import advice
from kessel_core.features.explain import explained
from kessel_core.features.looking import explain
from kessel_core.features.wording import ago, few
from kessel_core.model.progress import Progress
from kessel_core.testing import VirtualClock
from kessel_core.wire.events import encode_events

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ID = "019b8d7e-16fa-7c3f-a0b1-5d2c3e4f5a6b"


def entry(**fields: Any) -> WorkerEntry:
    given: dict[str, Any] = {
        "id": "w",
        "host": "north",
        "pid": 7,
        "version": "1",
        "state": WorkerState.RUNNING,
        "queues": ("default",),
        "types": ("work",),
        "slots": 2,
        "busy": 0,
        "started_at": NOW,
        "seen_at": NOW,
    }
    return WorkerEntry(**given | fields)


def facts(state: JobState = JobState.READY, *, job: Any = None, request: Any = None, **fields: Any) -> Facts:
    stored = StoredJob(
        id=ID, queue="default", state=state, body=b"", **{"attempt": 0, "snoozes": 0, **(job or {})}
    )
    asked = Job(type="work", id=ID, requested_at=NOW, **(request or {}))
    given: dict[str, Any] = {
        "id": ID,
        "now": NOW,
        "job": stored,
        "request": asked,
        "stats": QueueStats(queue="default", ready=1),
        "ahead": 0,
        "workers": (entry(),),
    }
    return Facts(**given | fields)


def names(found: Facts) -> list[CauseName]:
    return [cause.name for cause in explained(found).causes]


def first(found: Facts) -> Cause:
    return explained(found).causes[0]


# --- what follows -----------------------------------------------------------------------------------


def test_s39_several_causes_stand_in_their_order_and_the_first_decides() -> None:
    crowded = facts(
        stats=QueueStats(queue="default", ready=9, paused=timedelta(minutes=1)),
        workers=(entry(busy=2, types=("other",)),),
        ahead=3,
    )
    assert names(crowded) == [CauseName.PAUSED, CauseName.NO_HANDLER, CauseName.BUSY, CauseName.BEHIND]
    assert list(CauseName) == sorted(CauseName, key=list(CauseName).index)
    assert [str(name) for name in CauseName] == [
        "unknown", "ended", "buried", "running", "reserved", "delayed", "expired", "paused", "unserved",
        "no-handler", "disconnected", "busy", "behind", "deaf", "free",
    ]  # fmt: skip


def test_s39_a_delayed_job_is_told_what_will_keep_it_but_not_who_is_busy_now() -> None:
    later = facts(
        JobState.DELAYED,
        job={"due": NOW + timedelta(hours=1)},
        request={"not_before": NOW + timedelta(hours=1)},
        workers=(entry(busy=2, queues=("mail",)),),
        ahead=3,
    )
    assert names(later) == [CauseName.DELAYED, CauseName.UNSERVED]
    assert first(later).at == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("attempt", "snoozes", "not_before", "text"),
    [
        (0, 0, NOW + timedelta(hours=1), "the end of its delay"),
        (3, 0, None, "the pause after attempt 3"),
        (0, 2, None, "snoozed (2 so far)"),
        (3, 2, None, "a delay, a pause after attempt 3, or snooze 2"),
        (0, 0, None, "a delay, a pause after attempt 0, or snooze 0"),
    ],
)
def test_s39_a_delay_is_told_from_a_pause_and_a_snooze(
    attempt: int, snoozes: int, not_before: datetime | None, text: str
) -> None:
    job = {"attempt": attempt, "snoozes": snoozes, "due": NOW + timedelta(hours=1)}
    assert text in first(facts(JobState.DELAYED, job=job, request={"not_before": not_before})).text


@pytest.mark.parametrize(
    ("worker", "text"),
    [
        (entry(state=WorkerState.STOPPING), "north:7 is stopping"),
        (entry(seen_at=NOW - timedelta(seconds=20)), "north:7 is silent for 20 s, and may be dead"),
    ],
)
def test_s39_a_worker_that_stops_or_is_silent_serves_nobody(worker: WorkerEntry, text: str) -> None:
    alone = facts(workers=(worker,))
    assert names(alone) == [CauseName.UNSERVED]
    assert text in first(alone).text
    assert first(alone).command == ("worker", "--queue", "default")


@pytest.mark.parametrize("off", [timedelta(minutes=-5), timedelta(minutes=5)])
def test_s39_a_worker_whose_clock_is_off_is_believed_and_its_clock_named(off: timedelta) -> None:
    """S39: the store keeps no entry longer than it lives, so one that seems older has another clock."""
    skewed = facts(workers=(entry(seen_at=NOW + off, started_at=NOW + off),))
    assert names(skewed) == [CauseName.FREE]
    assert explained(skewed).notes == ("the clock of north is about 5 min off from the one here",)


def test_s39_one_free_slot_or_one_connected_worker_is_enough() -> None:
    other = entry(pid=8, slots=1, busy=1)
    assert names(facts(workers=(other, entry(busy=1)))) == [CauseName.FREE]
    assert names(facts(workers=(other, entry(busy=2)))) == [CauseName.BUSY]
    assert names(facts(workers=(entry(disconnected=2), other))) == [CauseName.BUSY]
    assert names(facts(workers=(entry(disconnected=1, busy=1),))) == [CauseName.BUSY]
    assert names(facts(workers=(entry(disconnected=2), entry(pid=8)))) == [CauseName.FREE]


def test_s39_the_longest_job_of_busy_workers_is_named() -> None:
    jobs = tuple(
        BusyJob(id=f"j{n}", type="long", queue="default", since=NOW - timedelta(minutes=n)) for n in (1, 9, 3)
    )
    assert "long j9" in first(facts(workers=(entry(busy=2, jobs=jobs),))).text


def test_s39_a_running_job_tells_its_progress_and_that_it_is_beyond_its_timeout() -> None:
    busy = BusyJob(id=ID, type="work", queue="default", since=NOW - timedelta(minutes=9))
    given = facts(
        JobState.RESERVED,
        job={"due": NOW + timedelta(minutes=1)},
        workers=(entry(jobs=(busy,)),),
        progress=Progress(done=3, total=4, at=NOW),
        timeout=timedelta(minutes=5),
    )
    assert names(given) == [CauseName.RUNNING]
    assert "it reported 3 of 4" in first(given).text
    assert "longer than its timeout of 5 min" in first(given).text
    assert "delivered again at" in first(given).change
    in_time = attrs.evolve(given, timeout=timedelta(minutes=10))
    assert "timeout" not in first(in_time).text
    of_lines = attrs.evolve(given, progress=Progress(done=3, total=4, note="rows\nand more", at=NOW))
    assert "it reported 3 of 4 (75 %), rows, which is longer" in first(of_lines).text


def test_s39_the_same_id_in_another_queue_is_not_the_job_that_runs() -> None:
    busy = BusyJob(id=ID, type="work", queue="other", since=NOW)
    assert names(facts(JobState.RESERVED, workers=(entry(jobs=(busy,)),))) == [CauseName.RESERVED]
    assert "by whom was not seen" in first(facts(JobState.RESERVED, workers=None)).text


def test_s39_slots_are_deaf_only_beside_a_job_that_was_ready_for_long() -> None:
    old = NOW - timedelta(minutes=5)
    awake = entry(started_at=old)
    ready = {"enqueued_at": old}
    assert names(facts(job=ready, workers=(awake,))) == [CauseName.DEAF]
    assert names(facts(job=ready, workers=(entry(started_at=NOW),))) == [CauseName.FREE]
    assert names(facts(job={"enqueued_at": NOW}, workers=(awake,))) == [CauseName.FREE]
    assert names(facts(job=ready, request={"not_before": NOW}, workers=(awake,))) == [CauseName.FREE]
    # Since when a job is ready that was given back is not known.
    assert names(facts(job={**ready, "attempt": 1}, workers=(awake,))) == [CauseName.FREE]
    assert names(facts(job={**ready, "snoozes": 1}, workers=(awake,))) == [CauseName.FREE]
    assert names(facts(job=ready, workers=(entry(started_at=old, busy=2),))) == [CauseName.BUSY]
    is_paused = QueueStats(queue="default", ready=1, paused=timedelta(minutes=1))
    assert names(facts(job=ready, workers=(awake,), stats=is_paused)) == [CauseName.PAUSED]


def test_s39_where_workers_are_not_seen_nothing_is_promised_of_them() -> None:
    assert first(facts()).text.endswith("a worker should take it at once")
    assert first(facts(workers=None)).text.endswith("the workers were not seen")


def test_s39_one_worker_with_a_handler_is_enough() -> None:
    assert names(facts(workers=(entry(types=("other",)), entry(pid=8)))) == [CauseName.FREE]
    assert names(facts(workers=(entry(pid=8, queues=("mail",)), entry(types=("other",))))) == [
        CauseName.NO_HANDLER
    ]


@pytest.mark.parametrize(
    ("kind", "ago", "pause", "expected"),
    [
        (EventKind.KICKED, 300, None, CauseName.DEAF),
        (EventKind.KICKED, 5, None, CauseName.FREE),
        (EventKind.SETTLED, 300, 0, CauseName.DEAF),
        (EventKind.SETTLED, 300, 290, CauseName.FREE),
        (EventKind.SNOOZED, 300, 200, CauseName.DEAF),
        (EventKind.STARTED, 300, None, CauseName.FREE),
    ],
)
def test_s39_a_history_tells_since_when_a_job_is_ready(
    kind: EventKind, ago: int, pause: int | None, expected: CauseName
) -> None:
    event = Event(
        kind=kind,
        at=NOW - timedelta(seconds=ago),
        pause=None if pause is None else timedelta(seconds=pause),
    )
    old = NOW - timedelta(hours=1)
    given = facts(
        job={"attempt": 1, "enqueued_at": old},
        workers=(entry(started_at=old),),
        history=JobHistory(id=ID, events=(event,)),
    )
    assert names(given) == [expected]


@pytest.mark.parametrize(("attempt", "is_told"), [(2, True), (1, False)])
def test_s39_an_error_is_told_of_the_attempt_that_was_the_last(attempt: int, is_told: bool) -> None:
    """S39: a history is written behind, so its last event may be that of the attempt before."""
    event = Event(kind=EventKind.SETTLED, at=NOW, attempt=attempt, reason="error", message="away\nframes")
    job = {"attempt": 2, "due": NOW + timedelta(hours=1)}
    history = JobHistory(id=ID, events=(event,))
    text = first(facts(JobState.DELAYED, job=job, history=history)).text
    assert "the pause after attempt 2" in text
    assert text.endswith("failed: error: away") is is_told


def test_s39_why_a_job_was_snoozed_is_told_in_one_line() -> None:
    event = Event(kind=EventKind.SNOOZED, at=NOW, message="closed\nuntil nine")
    job = {"snoozes": 2, "due": NOW + timedelta(hours=1)}
    given = facts(JobState.DELAYED, job=job, history=JobHistory(id=ID, events=(event,)))
    assert first(given).text == "it was snoozed (2 so far): closed"


def test_s39_an_expiration_is_noted_until_it_is_the_cause() -> None:
    soon = facts(request={"expires_at": NOW + timedelta(minutes=22)})
    assert "(in 22 min)" in explained(soon).notes[0]
    late = facts(request={"expires_at": NOW})
    assert names(late) == [CauseName.EXPIRED]
    assert explained(late).notes == ()


def test_s39_a_pause_without_end_is_no_error() -> None:
    for_ever = facts(stats=QueueStats(queue="default", ready=1, paused=timedelta.max))
    assert first(for_ever).text == "the queue 'default' is paused until resumed"
    assert first(for_ever).at is None


def test_s39_a_job_whose_body_is_no_request_is_explained_as_well() -> None:
    found = explained(attrs.evolve(facts(), request=None))
    assert [cause.name for cause in found.causes] == [CauseName.FREE]
    assert "undecodable" in found.notes[0]


@pytest.mark.parametrize("found", [facts(JobState.BURIED), attrs.evolve(facts(), job=None)])
def test_s39_a_body_that_is_no_request_is_noted_only_of_a_job_that_waits(found: Facts) -> None:
    assert explained(attrs.evolve(found, request=None)).notes == ()


def test_s39_what_only_a_history_tells_is_missed_only_after_an_attempt() -> None:
    later = {"due": NOW + timedelta(hours=1)}
    assert explained(facts(JobState.DELAYED, job=later)).unseen == ()
    (missed,) = explained(facts(JobState.DELAYED, job={**later, "attempt": 2})).unseen
    assert missed.what == "what attempt 2 failed on"


def test_s39_a_few_names_are_named_and_of_more_it_is_said_that_there_are_more() -> None:
    def text(*matches: str) -> str:
        return first(attrs.evolve(facts(), job=None, request=None, matches=matches)).text

    assert text("a", "b", "c").endswith("begin so: a, b, c")
    assert text("a", "b", "c", "d").endswith("begin so: a, b, c, ...")
    assert few("abc") == "a, b, c"
    assert few("abcd") == "a, b, c and 1 more"


def test_s39_words_fit_their_number_and_a_moment_that_is_now_lies_in_no_future() -> None:
    assert "1 job is ahead" in first(facts(ahead=1)).text
    assert "2 jobs are ahead" in first(facts(ahead=2)).text
    assert ago(NOW, NOW) == "0 s ago"


def test_s39_a_slot_without_a_connection_is_not_idle() -> None:
    old = NOW - timedelta(minutes=5)
    cut = entry(started_at=old, busy=1, disconnected=1)
    assert names(facts(job={"enqueued_at": old}, workers=(cut, entry(pid=8)))) == [CauseName.FREE]


def test_s39_every_reason_of_a_burial_has_its_advice() -> None:
    texts = {advice(reason, ID)[0] for reason in Reason if reason is not Reason.TOO_EARLY}
    assert len(texts) == len(Reason) - 1
    assert advice(Reason.NO_HANDLER, ID)[1] == ("buried", "kick", ID)
    assert advice(Reason.UNDECODABLE, ID)[1] == ("buried", "show", ID)
    assert advice(None, ID) == advice("of-another-program", ID)


# --- what is seen -----------------------------------------------------------------------------------


def test_s39_an_id_may_be_given_by_its_start_if_no_other_job_begins_so(
    opened: Callable[..., JobManager],
) -> None:
    manager = opened()
    for one in ("abcdefgh-1", "abcdefgh-2", "abcdefg"):
        manager.request(JobRequest(type="work", id=one))
    assert manager.explain("abcdefgh-1").id == "abcdefgh-1"
    assert manager.explain("abcdefgh-").facts.matches == ("abcdefgh-1", "abcdefgh-2")
    assert "abcdefgh-1, abcdefgh-2" in manager.explain("abcdefgh").causes[0].text
    assert manager.explain("abcdefg").id == "abcdefg"
    assert manager.explain("abcdef").causes[0].name is CauseName.UNKNOWN
    assert manager.explain("abcdefgh-2", queues=["other"]).state is None


def test_s39_a_job_that_has_ended_may_be_given_by_its_start_as_well(
    opened: Callable[..., JobManager],
) -> None:
    """By what is kept of it: a result or a history; and a whole id is that of one job only."""
    manager = opened(config=Config(results=ResultsConfig(keep=timedelta(days=1))), handlers={"work": print})
    for one in ("abcdefgh", "abcdefgh-2", "other-one-1"):
        manager.request(JobRequest(type="work", id=one))
    manager.worker().drain()
    assert manager.explain("abcdefgh").id == "abcdefgh"
    assert manager.explain("abcdefgh").causes[0].name is CauseName.ENDED
    assert manager.explain("other-one").id == "other-one-1"
    event = Event(kind=EventKind.DELETED, at=NOW)
    manager.store.put("events", "written-down-1/1", encode_events([event]))
    found = manager.explain("written-down")
    assert (found.id, found.causes[0].name) == ("written-down-1", CauseName.ENDED)


def test_s39_a_job_without_events_has_no_history(opened: Callable[..., JobManager]) -> None:
    manager = opened()
    assert manager.explain(manager.request("work").id).facts.history is None


def test_s39_a_job_that_moves_while_it_is_looked_at_is_said(opened: Callable[..., JobManager]) -> None:
    """S39: the job is read first, and once more at the end."""
    manager = opened()
    job_id = manager.request("work").id
    adapter, consumer = manager.adapter, manager.adapter.consumer(["default"])
    real = adapter.stats

    def stats(queue: str) -> QueueStats:
        consumer.reserve(timedelta(0))
        return real(queue)

    adapter.stats = stats  # type: ignore[method-assign]
    found = manager.explain(job_id)
    assert found.facts.moved == "it was ready, and is reserved"
    assert any("moved while it was looked at" in note for note in found.notes)
    consumer.close()


@pytest.mark.parametrize("settlement", [Rollback(), Snooze()])
def test_s39_a_job_that_was_delivered_meanwhile_is_said(
    opened: Callable[..., JobManager], settlement: Settlement
) -> None:
    manager = opened()
    job_id = manager.request("work").id
    adapter, consumer = manager.adapter, manager.adapter.consumer(["default"])
    real = adapter.stats
    deliveries = iter([consumer.reserve])

    def stats(queue: str) -> QueueStats:
        for reserve in deliveries:
            held = reserve(timedelta(0))
            assert held is not None
            consumer.settle(held, settlement)
        return real(queue)

    adapter.stats = stats  # type: ignore[method-assign]
    assert manager.explain(job_id).facts.moved == "it was delivered meanwhile"
    assert manager.explain(job_id).facts.moved == ""
    consumer.close()


class Bare(MemoryAdapter):
    """Keeps the facets that it is told to keep."""

    kept: tuple[type, ...] = ()

    def facet(self, kind: Any) -> Any:
        return super().facet(kind) if kind in self.kept else None


@pytest.mark.parametrize(
    ("kept", "causes", "unseen"),
    [
        ((), [], ["the job", "whether it has ended"]),
        ((Find,), [CauseName.FREE], ["its place", "the workers"]),
        ((Browse,), [CauseName.FREE], ["the workers"]),
        ((Find, Store), [CauseName.UNSERVED], ["its place"]),
    ],
)
def test_s39_what_an_adapter_cannot_show_is_not_seen_and_named(
    kept: tuple[type, ...], causes: list[CauseName], unseen: list[str]
) -> None:
    """S17: what is missing is refused by name, here by saying what was not seen."""
    from kessel_memory.options import MemoryOptions

    from kessel_core import SystemClock
    from kessel_core.contract import AdapterContext

    adapter = Bare(MemoryOptions(), AdapterContext(clock=SystemClock()))
    adapter.kept = kept
    with JobManager(adapter) as manager:
        job_id = manager.request("work").id
        found = manager.explain(job_id)
    assert [cause.name for cause in found.causes] == causes
    assert [one.what for one in found.unseen] == unseen
    assert all(one.why for one in found.unseen)


class _Away:
    """Stands for a queue or a store that fails at whatever it is asked."""

    name = "away"

    def __init__(self, error: Exception, capabilities: Any = None) -> None:
        self._error = error
        self.capabilities = capabilities

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize("error", [AdapterUnavailable("nobody answers"), RuntimeError("broken")])
def test_s39_a_queue_or_a_store_that_fails_is_not_seen_and_no_error(
    opened: Callable[..., JobManager], error: Exception
) -> None:
    manager = opened()
    job_id = manager.request("work").id
    away: Any = _Away(error, manager.store.capabilities)
    found = explain(manager.adapter, away, job_id, clock=VirtualClock())
    assert [one.what for one in found.unseen] == ["the workers", "its history"]
    assert str(error) in found.unseen[0].why
    nothing = explain(away, manager.store, job_id, clock=VirtualClock())
    assert nothing.causes == ()
    assert nothing.state is None
    assert [one.what for one in nothing.unseen] == ["the queues"]


def test_s39_entries_of_a_store_of_one_process_say_nothing_of_others(
    opened: Callable[..., JobManager],
) -> None:
    manager = opened()
    job_id = manager.request("work").id
    adapter = manager.adapter
    shared = attrs.evolve(adapter.capabilities, reach=Reach.HOST)
    type_ = type("Shared", (type(adapter),), {"capabilities": property(lambda self: shared)})
    adapter.__class__ = type_
    found = explain(adapter, manager.store, job_id, clock=VirtualClock())
    assert "one process only" in found.unseen[0].why


def test_s39_a_bounded_search_says_what_it_did_not_look_at(opened: Callable[..., JobManager]) -> None:
    """S39: a server that has to be searched is searched up to the limit, and that is said."""
    manager = opened()
    jobs = [manager.request("work").id for _ in range(5)]
    adapter: Any = manager.adapter
    real = adapter.facet
    adapter.facet = lambda kind: None if kind is Find else real(kind)
    found = manager.explain(jobs[4], limit=2)
    assert found.causes[0].name is CauseName.UNKNOWN
    assert found.unseen[0].what == "3 ready jobs of the queue 'default'"
    listed: list[int] = []
    peek = adapter.peek
    adapter.peek = lambda queue, state, limit=1: listed.append(limit) or peek(queue, state, limit)
    manager.explain(jobs[4], limit=2)
    assert listed == [2]
    adapter.peek = peek
    assert manager.explain(jobs[4], limit=5).state == "ready"
    assert manager.explain("another", limit=5).unseen == (), "all five were looked at"
    adapter.facet = real
    assert manager.explain("another", limit=2).unseen == (), "who is asked for an id is not searched"
    place = manager.explain(jobs[4], limit=2)
    assert (place.facts.ahead, place.facts.is_ahead_more) == (2, True)


@given(job_id=st.one_of(st.text(), st.text(min_size=8).map(lambda text: f"{text}\0"), st.just("\ud800" * 9)))
def test_s39_it_raises_for_no_id_and_changes_nothing(job_id: str) -> None:
    """S39: whatever the id is; and the queue is as it was."""
    with JobManager("memory://", only_requests=True) as manager:
        manager.request(JobRequest(type="work", id="one"))
        manager.request(JobRequest(type="work", id="two", delay=timedelta(hours=1)))
        before = manager.adapter.stats("default")
        found = manager.explain(job_id)
        assert len(found.causes) <= 1 or job_id in ("one", "two")
        assert manager.adapter.stats("default") == before


@given(
    state=st.sampled_from(JobState),
    attempt=st.one_of(st.none(), st.integers(0, 3)),
    ahead=st.one_of(st.none(), st.integers(0, 3)),
    busy=st.integers(0, 3),
    disconnected=st.integers(0, 3),
    ago=st.timedeltas(timedelta(minutes=-2), timedelta(minutes=2)),
)
def test_s39_of_every_job_that_is_there_at_least_one_cause_is_said(
    state: JobState, attempt: int | None, ahead: int | None, busy: int, disconnected: int, ago: timedelta
) -> None:
    given = facts(
        state,
        job={"attempt": attempt, "enqueued_at": NOW - ago},
        ahead=ahead,
        workers=(entry(busy=busy, disconnected=disconnected, seen_at=NOW - ago),),
    )
    found = names(given)
    assert found
    assert found == sorted(found, key=list(CauseName).index)
    assert (CauseName.FREE in found) <= (found == [CauseName.FREE])


def test_s39_the_timeout_of_the_handler_is_known_where_jobs_run(opened: Callable[..., JobManager]) -> None:
    from kessel_core import handler

    @handler("slow", timeout=timedelta(minutes=3))
    def slow(payload: Any) -> None: ...

    manager = opened(handlers=[slow])
    assert manager.explain(manager.request("slow").id).facts.timeout == timedelta(minutes=3)
    assert manager.explain(manager.request("other").id).facts.timeout is None
