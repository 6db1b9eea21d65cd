"""The threads of a process that write to one file: in turn, and together where they can."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite import turns as module
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.turns import Turn, Turns
from kessel_sqlite.wake import line_of

from kessel_core import UnknownJob
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterUnavailable, Durability, IdHeld, Message
from tests.until import until

LONG = 20.0
ONE = object()
ANOTHER = object()


class Alarm(Exception):
    """What a signal handler raises."""


class Failing:
    """A connection whose next commits fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.commits_fail_with: list[int] = []

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.commits_fail_with:
            error = sqlite3.OperationalError("as asked")
            error.sqlite_errorcode = self.commits_fail_with.pop()
            raise error
        return self._connection.execute(statement, values)


class Table:
    """A table of words, and threads that write to it in turn."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = Failing(connection)
        self.turns = Turns()
        self.statements: list[str] = []
        self.outcomes: dict[str, object] = {}
        connection.execute("CREATE TABLE words (word)")
        connection.set_trace_callback(self.statements.append)

    def add(self, word: str) -> str:
        self.connection.execute("INSERT INTO words VALUES (?)", (word,))
        return word.upper()

    @property
    def words(self) -> set[str]:
        return {row[0] for row in self.connection.execute("SELECT word FROM words")}

    @property
    def begun(self) -> int:
        """How many transactions of more than a statement there were."""
        return self.statements.count("BEGIN IMMEDIATE")

    def turn(
        self, word: str, group: object = ONE, part: Callable[[], object] | None = None, **kinds: bool
    ) -> Turn[Any]:
        return Turn(lambda _: part() if part is not None else self.add(word), group, **kinds)

    def write(self, word: str, turn: Turn[Any], seconds: float = LONG) -> None:
        """Take a turn in this thread, and note what became of it."""
        try:
            is_over = self.turns.take(turn, lambda: self._lead(turn), seconds)
            self.outcomes[word] = turn.outcome if is_over else None
        except Exception as exc:
            self.outcomes[word] = exc

    def _lead(self, turn: Turn[Any]) -> None:
        try:
            self.turns.do(self.connection, turn)  # type: ignore[arg-type] # what it needs of a connection
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def start(self, word: str, turn: Turn[Any] | None = None, seconds: float = LONG) -> threading.Thread:
        """Take a turn in another thread; return when it is done or waits."""
        before = self.turns.waiting
        thread = threading.Thread(target=self.write, args=(word, turn or self.turn(word), seconds))
        thread.start()
        until(lambda: self.turns.waiting > before or not thread.is_alive())
        return thread

    def hold(self) -> None:
        assert self.turns.acquire(0)

    def hold_elsewhere(self) -> tuple[threading.Thread, threading.Event]:
        """Let another thread write; return it, and what lets it end."""
        holds, may_end = threading.Event(), threading.Event()

        def hold() -> None:
            self.hold()
            holds.set()
            may_end.wait(LONG)
            self.turns.lock.release()
            self.turns.wake()

        holder = threading.Thread(target=hold)
        holder.start()
        assert holds.wait(LONG)
        return holder, may_end

    def pass_on(self, *threads: threading.Thread) -> None:
        """Let the others write, and wait until these have."""
        self.turns.lock.release()
        self.turns.wake()
        ended(*threads)


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    """A table, and no wake-up that comes by itself."""
    monkeypatch.setattr(module, "_SLICE", 3600.0)
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield Table(connection)


@pytest.mark.parametrize("is_statement", [False, True])
def test_threads_that_wait_are_done_in_one_transaction(table: Table, *, is_statement: bool) -> None:
    table.hold()
    turns = {word: table.turn(word, is_statement=is_statement) for word in ("a", "b", "c", "d", "e")}
    threads = [table.start(word, turn) for word, turn in turns.items()]
    table.pass_on(*threads)
    assert table.outcomes == {word: word.upper() for word in ("a", "b", "c", "d", "e")}
    assert table.words == {"a", "b", "c", "d", "e"}
    assert table.begun == 1


def test_no_thread_is_told_of_success_before_the_commit(table: Table) -> None:
    """S14: what is told as stored is stored."""
    table.hold()
    turns = [table.turn(word) for word in ("a", "b", "c")]
    threads = [table.start(word, turn) for word, turn in zip(("a", "b", "c"), turns, strict=True)]
    told: list[bool] = []
    table.connection._connection.set_trace_callback(
        lambda statement: told.extend(turn.is_over for turn in turns) if statement == "COMMIT" else None
    )
    table.pass_on(*threads)
    assert told == [False, False, False]


def test_a_single_statement_that_nobody_waits_behind_has_no_transaction_around_it(table: Table) -> None:
    ended(table.start("a", table.turn("a", is_statement=True)))
    assert table.outcomes == {"a": "A"}
    assert table.statements == ["INSERT INTO words VALUES ('a')"]


def test_a_part_that_refuses_is_refused_to_its_own_thread(table: Table) -> None:
    def refuse() -> None:
        raise UnknownJob("b", "q")

    table.hold()
    threads = [table.start("a"), table.start("b", table.turn("b", part=refuse)), table.start("c")]
    table.pass_on(*threads)
    assert (table.outcomes["a"], table.outcomes["c"]) == ("A", "C")
    assert isinstance(table.outcomes["b"], UnknownJob)
    assert table.begun == 1


def test_what_is_done_again_apart_forgets_how_it_ended_before(table: Table) -> None:
    refusals = [UnknownJob("b", "q")]

    def refuse_once() -> str:
        if refusals:
            raise refusals.pop()
        return table.add("b")

    table.hold()
    threads = [table.start("a"), table.start("b", table.turn("b", part=refuse_once))]
    table.connection.commits_fail_with = [sqlite3.SQLITE_FULL]
    table.pass_on(*threads)
    assert table.outcomes == {"a": "A", "b": "B"}


def test_the_outcome_is_there_before_its_thread_is_woken(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(Turn, "wake", lambda turn: seen.append(turn.is_over))
    table.turn("a").end()
    assert seen == [True]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_part_that_fails_takes_nobody_along(table: Table, place: int) -> None:
    """Wherever it stands: at the head of the line its thread does the others, too."""

    def fail() -> None:
        table.add("half")
        raise OverflowError("too large for a column")

    table.hold()
    threads = []
    for number, word in enumerate(("a", "b", "c")):
        turn = table.turn(word, part=fail) if number == place else table.turn(word)
        threads.append(table.start(word, turn))
    table.pass_on(*threads)
    failed = ("a", "b", "c")[place]
    assert isinstance(table.outcomes.pop(failed), OverflowError)
    assert table.outcomes == {word: word.upper() for word in ("a", "b", "c") if word != failed}
    assert table.words == {"a", "b", "c"} - {failed}


def test_if_the_disk_fails_all_of_a_transaction_are_told(table: Table) -> None:
    """S14: nobody knows what has become of it, so nobody may try again in silence."""
    table.hold()
    threads = [table.start(word) for word in ("a", "b", "c")]
    table.connection.commits_fail_with = [sqlite3.SQLITE_IOERR]
    table.pass_on(*threads)
    assert {type(outcome) for outcome in table.outcomes.values()} == {sqlite3.OperationalError}
    assert table.begun == 1


def test_if_the_disk_is_full_for_all_of_them_each_is_tried_apart(table: Table) -> None:
    table.hold()
    threads = [table.start(word) for word in ("a", "b", "c")]
    table.connection.commits_fail_with = [sqlite3.SQLITE_FULL]
    table.pass_on(*threads)
    assert table.outcomes == {"a": "A", "b": "B", "c": "C"}
    assert table.words == {"a", "b", "c"}
    assert table.begun == 4


def test_what_the_thread_of_a_turn_is_told_of_is_its_own_error_only(table: Table) -> None:
    """A single turn whose commit fails says so, and leaves the line usable."""
    table.connection.commits_fail_with = [sqlite3.SQLITE_FULL]
    ended(table.start("a"))
    assert isinstance(table.outcomes["a"], sqlite3.OperationalError)
    ended(table.start("b"))
    assert (table.outcomes["b"], table.words) == ("B", {"b"})


def test_turns_of_other_groups_have_transactions_of_their_own_in_the_order_of_the_line(table: Table) -> None:
    """Another durability, say: the commit of a file that is not synced must not end one that is."""
    table.hold()
    threads = [
        table.start("a"),
        table.start("b", table.turn("b", ANOTHER)),
        table.start("c"),
        table.start("d", table.turn("d", ANOTHER)),
    ]
    table.pass_on(*threads)
    assert table.words == {"a", "b", "c", "d"}
    assert table.begun == 2
    stored = [word for (word,) in table.connection.execute("SELECT word FROM words ORDER BY rowid")]
    assert stored == ["a", "c", "b", "d"]


def test_one_that_could_not_be_done_along_keeps_its_place(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    table.hold()
    threads = [
        table.start("a"),
        table.start("b", table.turn("b", ANOTHER)),
        table.start("c"),
        table.start("d"),
    ]
    table.pass_on(*threads)
    stored = [word for (word,) in table.connection.execute("SELECT word FROM words ORDER BY rowid")]
    assert stored == ["a", "c", "b", "d"]


def test_one_transaction_does_not_do_a_whole_crowd(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    table.hold()
    threads = [table.start(word) for word in "abcdefg"]
    table.pass_on(*threads)
    assert table.words == set("abcdefg")
    assert table.begun == 3


def test_a_turn_that_waits_for_too_long_is_never_done(table: Table) -> None:
    table.hold()
    ended(table.start("a", seconds=0.01))
    assert table.outcomes == {"a": None}
    table.pass_on(table.start("b"))
    assert table.turns.waiting == 0
    assert table.words == {"b"}


def test_a_turn_whose_time_ends_while_another_thread_does_it_is_over(table: Table) -> None:
    """S14: it must not be told as not stored, and then be stored."""
    is_begun, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        is_begun.set()
        may_end.wait(LONG)

    table.hold()
    first = table.start("a", table.turn("a", part=slow))
    second = table.start("b", seconds=0.2)
    table.turns.lock.release()
    table.turns.wake()
    assert is_begun.wait(LONG)
    second.join(0.4)  # its time ends, and it must not tell anything yet
    assert "b" not in table.outcomes
    may_end.set()
    ended(first, second)
    assert table.outcomes["b"] == "B"
    assert table.words == {"b"}


def test_nobody_who_comes_later_goes_before_one_that_waits(table: Table) -> None:
    """One that writes alone, again and again, would otherwise let the others wait for ever."""
    table.hold()
    alone: list[bool] = []

    def acquire() -> None:
        alone.append(table.turns.acquire(LONG))
        alone.append("b" not in table.words)
        table.turns.lock.release()
        table.turns.wake()

    thread = threading.Thread(target=acquire)
    thread.start()
    until(lambda: table.turns.waiting == 1)
    later = table.start("b")
    table.turns.lock.release()
    table.turns.wake()
    assert not table.turns.acquire(0)
    ended(thread, later)
    assert alone == [True, True]
    assert table.outcomes == {"b": "B"}


def test_an_acquire_that_gives_up_lets_those_behind_it_go_on(table: Table) -> None:
    def acquire() -> None:
        assert not table.turns.acquire(0.2)

    table.hold()
    thread = threading.Thread(target=acquire)
    thread.start()
    until(lambda: table.turns.waiting == 1)
    behind = table.start("b")
    ended(thread)
    table.pass_on(behind)
    assert table.outcomes == {"b": "B"}


@pytest.mark.parametrize("how", ["acquire", "take"])
def test_one_that_gives_up_just_when_it_is_woken_wakes_the_next(
    table: Table, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    behind: list[threading.Thread] = []
    holder, may_end = table.hold_elsewhere()

    def enter(turns: Turns, turn: Turn[Any]) -> bool:
        if turns.waiting == 0:
            return False  # not in the line yet
        monkeypatch.undo()
        monkeypatch.setattr(module, "_SLICE", 3600.0)
        behind.append(table.start("b", table.turn("b", ANOTHER)))
        may_end.set()
        ended(holder)
        return False

    monkeypatch.setattr(Turns, "_enter", enter)
    if how == "acquire":
        assert not table.turns.acquire(0)
    else:
        table.write("a", table.turn("a"), 0)
        assert table.outcomes["a"] is None
    ended(*behind)
    assert table.words == {"b"}


def test_finding_d7_an_acquire_that_a_signal_ends_is_not_waited_for(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it strikes, even before the line is left."""

    def alarm(*_: object) -> None:
        raise Alarm

    holder, may_end = table.hold_elsewhere()
    with monkeypatch.context() as patched:
        patched.setattr(Turn, "sleep", alarm)
        patched.setattr(Turns, "_leave", alarm)
        with pytest.raises(Alarm):
            table.turns.acquire(LONG)
    behind = table.start("b")
    may_end.set()
    ended(holder, behind)
    assert table.outcomes == {"b": "B"}
    assert table.turns.waiting == 0


def test_who_gets_no_turn_within_the_timeout_is_told_so_and_has_written_nothing(
    opened: Callable[..., SqliteAdapter], path: Path
) -> None:
    """A thread that shares its transactions, as all but the main thread do."""
    adapter = opened(timeout=timedelta(milliseconds=1))
    told: list[object] = []

    def enqueue() -> None:
        try:
            told.append(adapter.enqueue(Message("a", "q", b"x", 1)))
        except AdapterUnavailable as exc:
            told.append(str(exc))

    turns = adapter.engine.line.turns
    assert turns.acquire(0)
    thread = threading.Thread(target=enqueue)
    thread.start()
    ended(thread)
    turns.lock.release()
    assert told == [f"{path}: locked by this process for 0.001 s"]
    assert adapter.queues() == []


def test_a_forked_child_does_nothing_that_threads_of_its_parent_waited_for(path: Path) -> None:
    line = line_of(str(path))
    waiting: Turn[None] = Turn(lambda _: None, ONE)
    assert line.turns.acquire(0)
    thread = threading.Thread(target=line.turns.take, args=(waiting, lambda: None, 0.3))
    thread.start()
    before = line.turns
    until(lambda: before.waiting == 1)
    line.reset()  # as after a fork
    assert line.turns.waiting == 0
    assert line.turns.acquire(0)
    line.turns.lock.release()
    before.lock.release()
    ended(thread)


def test_finding_d7_what_the_main_thread_writes_is_written_by_itself(
    opened: Callable[..., SqliteAdapter],
) -> None:
    """A signal handler may raise there: neither may others lose their work, nor it its own to others."""
    adapter = opened()
    engine = adapter.engine
    may_end, holds = threading.Event(), threading.Event()
    by: list[int] = []

    def block(_: sqlite3.Connection) -> None:
        holds.set()
        may_end.wait(LONG)

    def release() -> None:
        until(lambda: engine.line.turns.waiting == 2)
        may_end.set()

    holder = threading.Thread(target=engine.write, args=(block,))
    holder.start()
    assert holds.wait(LONG)
    other = threading.Thread(target=adapter.enqueue, args=(Message("a", "q", b"", 5),))
    other.start()
    until(lambda: engine.line.turns.waiting == 1)
    releasing = threading.Thread(target=release)
    releasing.start()
    engine.share(lambda _: by.append(threading.get_ident()))
    ended(holder, other, releasing)
    assert by == [threading.get_ident()]
    assert adapter.stats("q").ready == 1


def test_who_waited_while_the_main_thread_wrote_is_woken(
    opened: Callable[..., SqliteAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not sleep until it looks by itself."""
    monkeypatch.setattr(module, "_SLICE", 3600.0)
    adapter = opened(timeout=timedelta(hours=1))
    turns = adapter.engine.line.turns
    other = threading.Thread(target=adapter.enqueue, args=(Message("a", "q", b"", 5),), daemon=True)

    def block(_: sqlite3.Connection) -> None:
        other.start()
        until(lambda: turns.waiting == 1)

    adapter.engine.write(block)
    ended(other)
    assert adapter.stats("q").ready == 1


def test_S9_of_threads_that_enqueue_at_once_only_the_one_with_a_held_id_is_refused(
    opened: Callable[..., SqliteAdapter],
) -> None:
    adapter = opened(durability=Durability.POWER)
    adapter.enqueue(Message("held", "q", b"", 5))
    refused: list[str] = []
    barrier = threading.Barrier(8)

    def work(names: list[str]) -> None:
        barrier.wait(LONG)
        for name in names:
            try:
                adapter.enqueue(Message(name, "q", b"", 5))
            except IdHeld as exc:
                refused.append(exc.job_id)

    plan = [[f"{worker}-{n}" for n in range(20)] for worker in range(8)]
    plan[3][10] = "held"
    threads = [threading.Thread(target=work, args=(names,)) for names in plan]
    for thread in threads:
        thread.start()
    ended(*threads)
    assert refused == ["held"]
    assert adapter.stats("q").ready == 160


def test_S8_slots_that_settle_at_once_take_each_job_once(opened: Callable[..., SqliteAdapter]) -> None:
    adapter = opened()
    names = [f"{n:03}" for n in range(400)]
    assert not any(adapter.enqueue_many([Message(name, "q", b"", 5) for name in names]))
    taken: list[str] = []

    def slot() -> None:
        with closing(adapter.consumer(["q"])) as consumer:
            held = consumer.reserve(NO_PAUSE)
            while held is not None:
                taken.append(held.id or "")
                held = consumer.settle_and_reserve(held, COMMIT)

    threads = [threading.Thread(target=slot) for _ in range(8)]
    for thread in threads:
        thread.start()
    ended(*threads)
    assert sorted(taken) == names
    assert adapter.stats("q").ready == adapter.stats("q").reserved == 0
