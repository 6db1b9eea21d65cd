"""The keys of `kessel top`: lower case does at once what can be undone, upper case asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import BusyJob, EventKind, SystemClock, WorkerEntry, WorkerState
from kessel_core.cli.top.doing import done
from kessel_core.cli.top.keys import BINDINGS, Do, Pane, Turn, View, chosen_index, keys_in, pressed
from kessel_core.contract import AdapterContext, Bury, JobState, Message, QueueStats, StoredJob
from kessel_core.features.overview import (
    Action,
    BurialView,
    Overview,
    Part,
    QueueView,
    RunningView,
    Standing,
    WorkerView,
)

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
#: Nine of its jobs are held by no worker.
COUNTS = QueueStats(queue="mail", ready=4, delayed=2, reserved=1, buried=3)


def burial(job_id: str, queue: str = "mail") -> BurialView:
    job = StoredJob(id=job_id, queue=queue, state=JobState.BURIED, body=b"")
    return BurialView(job=job, type="t")


WORKER = WorkerEntry(
    id="w1",
    host="north",
    pid=7,
    version="1",
    state=WorkerState.RUNNING,
    queues=("mail",),
    types=(),
    slots=1,
    busy=1,
    started_at=NOW,
    seen_at=NOW,
)
PICTURE = Overview(
    at=NOW,
    queues=Part(rows=(QueueView(stats=QueueStats(queue="default")), QueueView(stats=COUNTS))),
    running=Part(
        rows=(RunningView(job=BusyJob(id="r1", type="t", queue="night", since=NOW), worker=WORKER),)
    ),
    burials=Part(rows=tuple(map(burial, ("b1", "b2", "b3")))),
    workers=Part(rows=(WorkerView(entry=WORKER, standing=Standing.BUSY),)),
)


def typed(*keys: str, view: View | None = None, picture: Overview = PICTURE) -> tuple[View, Any]:
    """Press keys one after the other; return the view, and what the last one asks for."""
    view, act = view or View(), None
    for key in keys:
        view, act = pressed(view, key, picture)
    return view, act


def test_upper_case_asks_and_lower_case_does_not() -> None:
    assert {key.isupper(): {one.asks for name, one in BINDINGS.items() if name.isupper() is key.isupper()}
            for key in BINDINGS} == {False: {False}, True: {True}}  # fmt: skip
    removes = {Action.DELETE, Action.PURGE}
    assert all(one.asks for one in BINDINGS.values() if one.action in removes)


@pytest.mark.parametrize(
    ("keys", "do"),
    [
        (["down", "p"], Do(Action.PAUSE, "mail")),
        (["r"], Do(Action.RESUME, "default")),
        (["tab", "p"], Do(Action.PAUSE, "night")),
        (["tab", "tab", "p"], Do(Action.PAUSE, "mail")),
        (["tab", "tab", "down", "k"], Do(Action.KICK, "mail", burial("b2").job)),
    ],
)
def test_what_can_be_undone_is_done_at_once(keys: list[str], do: Do) -> None:
    view, act = typed(*keys)
    assert act == do
    assert view.asked is None


@pytest.mark.parametrize(
    ("keys", "question", "do"),
    [
        (["down", "K"], "Kick 3 buried jobs of queue mail?", Do(Action.KICK, "mail")),
        (["down", "P"], "Remove 9 jobs of queue mail for good?", Do(Action.PURGE, "mail")),
        (["tab", "P"], "Remove all jobs of queue night for good?", Do(Action.PURGE, "night")),
        (["tab", "K"], "Kick all buried jobs of queue night?", Do(Action.KICK, "night")),
        (
            ["backtab", "backtab", "end", "D"],
            "Remove for good the job b3?",
            Do(Action.DELETE, "mail", burial("b3").job),
        ),
    ],
)
def test_what_cannot_be_undone_is_done_only_after_yes(keys: list[str], question: str, do: Do) -> None:
    view, act = typed(*keys)
    assert (view.question, act) == (question, None)
    yes, act = pressed(view, "y", PICTURE)
    assert act == do
    assert (yes.question, yes.asked) == ("", None)
    assert pressed(view, "Y", PICTURE)[1] == do


@pytest.mark.parametrize("answer", ["n", "enter", "esc", "P", "p", "k", "q", "space", "down"])
def test_any_other_answer_is_no(answer: str) -> None:
    view, act = typed("P", answer)
    assert act is None
    assert (view.asked, view.question, view.message) == (None, "", "not done")
    assert pressed(view, "y", PICTURE) == (attrs.evolve(view, message=""), None)


def test_the_job_that_was_asked_for_is_meant_whatever_is_chosen_when_the_answer_comes() -> None:
    view, _ = typed("tab", "tab", "D")
    later = attrs.evolve(PICTURE, burials=Part(rows=(burial("b9"),)))
    assert pressed(view, "y", later)[1] == Do(Action.DELETE, "mail", burial("b1").job)


@pytest.mark.parametrize("key", list(BINDINGS))
def test_what_is_refused_asks_nothing_and_says_why(key: str) -> None:
    """--read-only, and S17."""
    only = attrs.evolve(PICTURE, refused=dict.fromkeys(Action, "this view only looks"))
    view, act = typed("tab", "tab", key, picture=only)
    assert act is None
    assert (view.question, view.asked) == ("", None)
    assert view.message == f"cannot {BINDINGS[key].words}: this view only looks"


@pytest.mark.parametrize("key", ["k", "D"])
def test_a_key_for_a_job_needs_a_buried_one(key: str) -> None:
    for keys in ([], ["tab"], ["backtab"]):
        view, act = typed(*keys, key)
        assert act is None
        assert "choose a buried job" in view.message


def test_a_key_for_a_queue_needs_one() -> None:
    view, act = typed("backtab", "p")
    assert act is None
    assert "choose a queue" in view.message
    view, act = typed("p", picture=Overview(at=NOW))
    assert act is None
    assert "choose a queue" in view.message


def test_keys_of_the_loop() -> None:
    assert typed("q")[1] is Turn.END
    assert typed("space")[1] is Turn.LOOK
    assert typed("esc")[1] is Turn.STOP
    assert typed("enter", "q")[1] is Turn.END
    assert typed("x") == (View(), None)


def test_the_parts_are_chosen_in_a_circle() -> None:
    assert [typed(*["tab"] * count)[0].pane for count in range(5)] == [*Pane, Pane.QUEUES]
    assert typed("left")[0].pane is Pane.WORKERS
    assert typed("right", "backtab")[0].pane is Pane.QUEUES


@pytest.mark.parametrize(
    ("keys", "index"),
    [(["down"], 1), (["down"] * 5, 2), (["up"], 0), (["end"], 2), (["end", "up"], 1), (["pagedown"], 2),
     (["end", "pageup"], 0), (["end", "home"], 0)],
)  # fmt: skip
def test_rows_are_chosen_within_the_part(keys: list[str], index: int) -> None:
    view, _ = typed("tab", "tab", *keys)
    assert chosen_index(view, PICTURE, Pane.BURIALS) == index
    assert chosen_index(view, PICTURE, Pane.QUEUES) == 0


def test_a_chosen_row_stays_chosen_where_it_moves_and_the_next_one_where_it_is_gone() -> None:
    view, _ = typed("tab", "tab", "down")
    moved = attrs.evolve(PICTURE, burials=Part(rows=tuple(map(burial, ("b0", "b1", "b2")))))
    assert chosen_index(view, moved, Pane.BURIALS) == 2
    gone = attrs.evolve(PICTURE, burials=Part(rows=tuple(map(burial, ("b1", "b3", "b4")))))
    assert chosen_index(view, gone, Pane.BURIALS) == 1
    fewer = attrs.evolve(PICTURE, burials=Part(rows=(burial("b9"),)))
    assert chosen_index(view, fewer, Pane.BURIALS) == 0
    assert chosen_index(view, Overview(at=NOW), Pane.BURIALS) == 0
    other = attrs.evolve(PICTURE, burials=Part(rows=(burial("b2", "x"), burial("b1"))))
    assert chosen_index(view, other, Pane.BURIALS) == 1  # the same id in another queue is another job


def test_each_part_keeps_its_place() -> None:
    view, _ = typed("down", "tab", "tab", "end", "tab", "tab", "up")
    others = Part(rows=tuple(map(burial, ("c1", "c2", "c3"))))
    assert chosen_index(view, attrs.evolve(PICTURE, burials=others), Pane.BURIALS) == 2


def test_a_page_is_scrolled_and_left() -> None:
    view, _ = typed("?", "down", "down", "pagedown", "up")
    assert view.is_help
    assert view.scroll == 11
    assert typed("h", "down", "home")[0].scroll == 0
    assert typed("?", "up")[0].scroll == 0
    assert typed("?", "down", "pageup")[0].scroll == 0
    assert typed("enter")[0].is_whole
    assert typed("enter", "down", "esc")[0] == View()
    assert not typed("enter", picture=Overview(at=NOW))[0].is_whole
    missing = Overview(at=NOW, queues=Part(missing=("x",)))
    assert typed("enter", picture=missing)[0].is_whole
    # What would do something elsewhere only leads back from a page.
    assert typed("enter", "P") == (View(), None)


def test_a_message_stands_until_the_next_key() -> None:
    view, _ = typed("down", view=View(message="done"))
    assert view.message == ""


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B\x1bOC\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[Z", ["pageup", "pagedown", "home", "end", "backtab"]),
        (b"\t\r\n \x1b", ["tab", "enter", "enter", "space", "esc"]),
        (b"\x1b[1;5CP", ["P"]),  # a sequence of another key does not end as a letter
        (b"\x1b[200~K", ["K"]),
        (b"\x1b[", []),
        (b"\x00\x01\x7f\xc3\xa4y", ["y"]),
        (b"", []),
    ],
)
def test_bytes_become_keys(sent: bytes, keys: list[str]) -> None:
    assert keys_in(sent) == keys


# --- what is done --------------------------------------------------------------------------------


class Noted:
    def __init__(self) -> None:
        self.events: list[tuple[str, EventKind]] = []

    def __call__(self, job_id: str, kind: EventKind, at: datetime) -> None:
        self.events.append((job_id, kind))


@pytest.fixture
def queue() -> MemoryAdapter:
    adapter = MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))
    for number in range(3):
        adapter.enqueue(Message(id=f"b{number}", queue="mail", body=b"{}", priority=1))
        consumer = adapter.consumer(["mail"])
        held = consumer.reserve(timedelta(0))
        assert held is not None
        consumer.settle(held, Bury("error", "no"))
    return adapter


def shown(queue: MemoryAdapter, index: int = 0) -> StoredJob:
    return queue.buried("mail")[index]


def test_a_queue_is_paused_until_it_is_resumed(queue: MemoryAdapter) -> None:
    note = Noted()
    assert done(queue, Do(Action.PAUSE, "mail"), note) == "paused queue mail until resumed"
    paused = queue.stats("mail").paused
    assert paused is not None
    assert paused > timedelta(days=365)
    assert done(queue, Do(Action.RESUME, "mail"), note) == "resumed queue mail"
    assert queue.stats("mail").paused is None


def test_one_job_is_kicked_and_noted_or_it_is_said_what_became_of_it(queue: MemoryAdapter) -> None:
    """S39."""
    note, do = Noted(), Do(Action.KICK, "mail", shown(queue, 1))
    assert done(queue, do, note) == "kicked job b1"
    assert note.events == [("b1", EventKind.KICKED)]
    assert (queue.stats("mail").ready, queue.stats("mail").buried) == (1, 2)
    assert done(queue, do, note) == "not done: job b1 is no longer buried in queue mail"
    assert len(note.events) == 1


def test_a_buried_job_is_deleted_but_not_one_that_was_kicked_meanwhile(queue: MemoryAdapter) -> None:
    note, first, other = Noted(), shown(queue), shown(queue, 1)
    assert done(queue, Do(Action.DELETE, "mail", first), note) == "deleted job b0"
    assert note.events == [("b0", EventKind.DELETED)]
    queue.kick("mail", "b1")
    assert "no longer buried" in done(queue, Do(Action.DELETE, "mail", other), note)
    assert queue.stats("mail").ready == 1
    assert len(note.events) == 1


def test_all_buried_jobs_are_kicked_until_somebody_stops_it(queue: MemoryAdapter) -> None:
    note = Noted()
    stops = iter([False, True])
    text = done(queue, Do(Action.KICK, "mail"), note, lambda: next(stops))
    assert text == "stopped: kicked 1 buried job of queue mail"
    assert done(queue, Do(Action.KICK, "mail"), note) == "kicked 2 buried jobs of queue mail"
    assert note.events == [(f"b{number}", EventKind.KICKED) for number in range(3)]


def test_a_queue_is_purged_and_the_number_said(queue: MemoryAdapter) -> None:
    assert done(queue, Do(Action.PURGE, "mail"), Noted()) == "removed 3 jobs of queue mail"
    assert queue.stats("mail").total == 0
