"""What `kessel top` draws, in whatever size: nothing wider than the screen, and the important first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kessel_core import BusyJob, WorkerEntry, WorkerState
from kessel_core.cli.top.columns import Cell, Column, cut, fitted
from kessel_core.cli.top.drawing import drawn, once
from kessel_core.cli.top.keys import Pane, View
from kessel_core.contract import JobState, QueueStats, StoredJob
from kessel_core.features.overview import (
    Action,
    Away,
    BurialView,
    Overview,
    Part,
    QueueView,
    RunningView,
    Standing,
    WorkerView,
)
from kessel_core.model.progress import Progress

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ID = "019b8d7e-16fa-7c3f-a0b1-5d2c3e4f5a6b"
SMALL, LARGE, TINY = (80, 24), (200, 60), (40, 10)


def entry(**fields: Any) -> WorkerEntry:
    usual: dict[str, Any] = {
        "id": "w-17",
        "host": "north",
        "pid": 71204,
        "version": "0.1.0",
        "state": WorkerState.RUNNING,
        "queues": ("default", "mail"),
        "types": ("mail.send",),
        "slots": 4,
        "busy": 2,
        "started_at": NOW - timedelta(hours=3),
        "seen_at": NOW - timedelta(seconds=6),
    }
    return WorkerEntry(**usual | fields)


def queue(name: str, **fields: Any) -> QueueView:
    view = {key: fields.pop(key) for key in ("change", "workers") if key in fields}
    return QueueView(stats=QueueStats(queue=name, **fields), **view)


def burial(number: int = 0, **fields: Any) -> BurialView:
    usual: dict[str, Any] = {
        "id": f"{ID[:-2]}{number:02}",
        "queue": "mail",
        "state": JobState.BURIED,
        "body": b"",
        "reason": "timeout",
        "message": "took longer than 30 s\nsecond line",
        "buried_at": NOW - timedelta(minutes=5),
        "attempt": 3,
    }
    return BurialView(job=StoredJob(**usual | fields), type="mail.send", ref="order 7")


def running(**fields: Any) -> RunningView:
    usual: dict[str, Any] = {
        "id": ID,
        "type": "report",
        "queue": "night",
        "since": NOW - timedelta(minutes=4),
    }
    progress = Progress(done=3, total=10, note="pages", at=NOW)
    return RunningView(job=BusyJob(**usual | fields), worker=entry(), progress=progress)


PICTURE = Overview(
    at=NOW,
    queues=Part(
        rows=(
            queue("default", ready=1234, delayed=5, reserved=2, oldest_ready=timedelta(minutes=7),
                  change=-31.4, workers=1),
            queue("mail", buried=3, paused=timedelta(minutes=30), change=0.0, workers=1),
            queue("slow", ready=9, paused=timedelta(days=3650), change=0.5, workers=0),
        )
    ),
    running=Part(rows=(running(),)),
    burials=Part(rows=tuple(burial(number) for number in range(30)), left_out=70),
    workers=Part(
        rows=(
            WorkerView(entry=entry(), standing=Standing.LIVE, rate=42.0),
            WorkerView(entry=entry(disconnected=1), standing=Standing.DISCONNECTED),
            WorkerView(entry=entry(seen_at=NOW - timedelta(seconds=23)), standing=Standing.SILENT),
        )
    ),
)  # fmt: skip


def screen(
    size: tuple[int, int], view: View | None = None, picture: Overview = PICTURE, **more: Any
) -> list[str]:
    lines = [line.plain for line in drawn(picture, view or View(), "/srv/shop/kessel.db", size, **more)]
    assert len(lines) == size[1]
    assert max(map(cell_len, lines)) <= size[0]
    return [line.rstrip() for line in lines]


def line(lines: list[str], text: str) -> str:
    return next(one for one in lines if text in one)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_all_parts_are_on_the_screen_with_what_each_says(size: tuple[int, int]) -> None:
    lines = screen(size)
    assert lines[0].startswith("kessel top  /srv/shop/kessel.db")
    titles = line(lines, "QUEUES 3").split()
    assert titles[:8] == ["QUEUES", "3", "ready", "delayed", "reserved", "buried", "oldest", "change"]
    assert line(lines, "> default").split()[:9] == [
        ">",
        "default",
        "1,234",
        "5",
        "2",
        "0",
        "7",
        "min",
        "-31/min",
    ]
    assert "for 30 min" in line(lines, "  mail ")
    assert line(lines, "  slow ").endswith("until resumed")
    assert "+0.5/min" in line(lines, "  slow ")
    assert line(lines, "night").split()[:4] == ["4", "min", "night", "report"]
    assert "3 of 10 (30 %), pages" in line(lines, "night")
    assert line(lines, "timeout").split()[:7] == ["5", "min", "ago", "mail", "mail.send", "timeout", "took"]
    assert "second line" not in "\n".join(lines)
    assert "live" in line(lines, "42/min")
    assert line(lines, "42/min").split()[:3] == ["north:71204", "live", "2/4"]
    assert "disconnected" in "\n".join(lines)
    assert "silent for 23 s" in "\n".join(lines)
    assert "RUNNING 1" in "\n".join(lines)
    assert "WORKERS 3" in "\n".join(lines)
    assert lines[-1].startswith("q quit  ? help")


def test_a_large_screen_shows_more_of_each() -> None:
    small, large = screen(SMALL), screen(LARGE)
    assert "BURIALS 1-30 of 100" in "\n".join(large)
    assert "BURIALS 1-30 of 100" not in "\n".join(small)
    assert sum(ID[:-2] in one for one in large) == 31
    assert "order 7" in line(large, "timeout")
    assert "mail.send" in line(large, "42/min")
    assert "disconnected: 1 of 4 slots" in "\n".join(large)
    for text in ("p pause", "r resume", "k kick", "K kick all", "D delete", "P purge"):
        assert text in large[-1]


@pytest.mark.parametrize("size", [SMALL, LARGE, TINY])
def test_the_id_of_the_chosen_row_is_whole_on_every_screen(size: tuple[int, int]) -> None:
    for pane, expected in ((Pane.BURIALS, f"{ID[:-2]}00"), (Pane.RUNNING, ID), (Pane.WORKERS, "w-17")):
        assert expected in screen(size, View(pane=pane))[-2]


@pytest.mark.parametrize("width", range(1, 60))
def test_an_id_is_shown_whole_or_not_at_all(width: int) -> None:
    for lines in (screen((width, 24), View(pane=Pane.RUNNING)), screen((width, 8), View(pane=Pane.RUNNING))):
        text = "\n".join(lines)
        assert ID in text or ID[:6] not in text


def test_a_small_screen_shows_one_part_and_names_the_others() -> None:
    lines = screen(TINY)
    assert lines[1] == "queues 3 running 1 burials 100 workers 3"
    assert "QUEUES 3" in lines[2]
    assert "1,234" in lines[3]
    assert "BURIALS" not in "\n".join(lines)
    lines = screen(TINY, View(pane=Pane.BURIALS))
    assert "timeout" in lines[3]
    assert "q quit" in lines[-1]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 3), (20, 4), (300, 5), (13, 100)])
@pytest.mark.parametrize("pane", list(Pane))
def test_no_size_is_too_small(size: tuple[int, int], pane: Pane) -> None:
    for view in (View(pane=pane), View(pane=pane, is_help=True), View(pane=pane, is_whole=True),
                 View(pane=pane, question="Remove?"), View(pane=pane, message="done")):  # fmt: skip
        screen(size, view)


def test_the_chosen_row_is_seen_wherever_it_is() -> None:
    for place in (0, 7, 15, 29):
        lines = screen(SMALL, View(pane=Pane.BURIALS, places={Pane.BURIALS: place}))
        marked = [one for one in lines if one.startswith("> ") and "timeout" in one]
        assert len(marked) == 1
        assert lines[-2].endswith(f"{place:02}")


def test_no_row_is_lost_at_the_end_of_a_long_part() -> None:
    lines = screen(SMALL, View(pane=Pane.BURIALS, places={Pane.BURIALS: 29}))
    title = line(lines, "BURIALS")
    assert "-30 of 100" in title
    shown = sum("timeout" in one for one in lines)
    assert f"BURIALS {30 - shown + 1}-30 of 100" in title


def test_what_is_missing_is_a_line_that_names_it() -> None:
    """S17."""
    why = "'buried' is missing: the adapter 'moon' does not list buried jobs"
    bare = attrs.evolve(PICTURE, burials=Part(missing=(why,)), running=Part())
    lines = screen(SMALL, picture=bare)
    assert why in "\n".join(lines)
    assert lines[lines.index(line(lines, "RUNNING 0")) + 1].strip() == "none"
    narrow = screen(TINY, View(pane=Pane.BURIALS), picture=bare)
    assert "'buried' is missing" in "\n".join(narrow)
    assert "none" not in "\n".join(narrow)


@pytest.mark.parametrize("size", [SMALL, LARGE, TINY])
def test_no_word_of_a_note_is_cut(size: tuple[int, int]) -> None:
    words = [f"word-{number}" for number in range(20)]
    none = attrs.evolve(PICTURE, burials=Part(left_out=6000, missing=(" ".join(words),)))
    shown = " ".join(screen(size, View(pane=Pane.BURIALS), picture=none)).split()
    assert [word for word in shown if word.startswith("word-")] == words
    assert "BURIALS 6,000" in " ".join(shown)


def test_a_note_stays_beside_rows_that_fill_the_part() -> None:
    full = attrs.evolve(PICTURE, burials=attrs.evolve(PICTURE.burials, missing=("'counts' is missing",)))
    for size in (SMALL, TINY):
        assert "'counts' is missing" in "\n".join(screen(size, View(pane=Pane.BURIALS), picture=full))


def test_while_a_backend_is_away_the_screen_says_since_when_and_keeps_the_rest() -> None:
    away = Away(since=NOW - timedelta(seconds=90), why="refused\x1b[2J")
    picture = attrs.evolve(PICTURE, queues=attrs.evolve(PICTURE.queues, away=away))
    lines = screen(SMALL, picture=picture)
    since = away.since.astimezone().strftime("%H:%M:%S")
    assert f"away since {since}, 90 s" in lines[0]
    assert f"not seen since {since}: refused\\x1b[2J" in "\n".join(lines)
    assert "1,234" in "\n".join(lines)


def test_the_question_ends_with_what_answers_it_however_long_it_is() -> None:
    view = View(question=f"Remove for good the job {'x' * 300}?")
    for size in (SMALL, TINY):
        assert screen(size, view)[-1].endswith("… [y/N]")


def test_messages_and_what_is_being_done_stand_at_the_end() -> None:
    assert screen(SMALL, View(message="kicked job 1"))[-1] == "kicked job 1"
    assert screen(SMALL, View(), doing="kick ...")[-1] == "kick ..."


def test_a_view_that_only_looks_offers_nothing_else() -> None:
    picture = attrs.evolve(PICTURE, refused=dict.fromkeys(Action, "x"))
    last = screen(LARGE, picture=picture)[-1]
    assert "only looks" in last
    assert "pause" not in last
    some = attrs.evolve(PICTURE, refused={Action.PAUSE: "x"})
    last = screen(LARGE, picture=some)[-1]
    assert "p pause" not in last
    assert "P purge" in last


def test_a_row_is_shown_whole_with_every_line_of_its_message() -> None:
    view = View(pane=Pane.BURIALS, is_whole=True)
    text = "\n".join(screen(SMALL, view))
    for part in (
        f"id:       {ID[:-2]}00",
        "reason:   timeout",
        "second line",
        "attempt:  3",
        "ref:      order 7",
    ):
        assert part in text
    assert "id:       w-17" in "\n".join(screen(SMALL, View(pane=Pane.WORKERS, is_whole=True)))
    assert f"id:       {ID}" in "\n".join(screen(SMALL, View(pane=Pane.RUNNING, is_whole=True)))
    assert "queue:    default" in "\n".join(screen(SMALL, View(is_whole=True)))


def test_a_long_row_is_scrolled_to_its_end_and_no_further() -> None:
    long = burial(message="\n".join(f"line {number}" for number in range(100)))
    picture = attrs.evolve(PICTURE, burials=Part(rows=(long,)))
    view = View(pane=Pane.BURIALS, is_whole=True)
    assert "line 0" in "\n".join(screen(SMALL, view, picture))
    end = screen(SMALL, attrs.evolve(view, scroll=1000), picture)
    assert end[-2].strip() == "line 99"
    assert "line 0" not in end


def test_the_help_says_what_every_key_does() -> None:
    text = "\n".join(screen((80, 40), View(is_help=True)))
    for key in "prkKDP":
        assert f"\n{key}   " in text


HOSTILE = "a\x1b[31m\x07\r\n\u202e[bold red]x[/] \x9b2J"


def test_nothing_that_jobs_and_workers_carry_moves_the_cursor_or_is_markup() -> None:
    """What a job carries is text, whatever it is."""
    odd = entry(id=HOSTILE, host=HOSTILE, version=HOSTILE, queues=(HOSTILE,), types=(HOSTILE,))
    picture = Overview(
        at=NOW,
        queues=Part(rows=(queue(HOSTILE),), missing=(HOSTILE,), away=Away(since=NOW, why=HOSTILE)),
        running=Part(
            rows=(
                RunningView(
                    job=BusyJob(id=HOSTILE, type=HOSTILE, queue=HOSTILE, since=NOW),
                    worker=odd,
                    progress=Progress(done=1, note=HOSTILE, at=NOW),
                ),
            )
        ),
        burials=Part(
            rows=(
                BurialView(
                    job=burial(id=HOSTILE, queue=HOSTILE, reason=HOSTILE, message=HOSTILE).job,
                    type=HOSTILE,
                    ref=HOSTILE,
                ),
            )
        ),
        workers=Part(rows=(WorkerView(entry=odd, standing=Standing.LIVE),)),
    )
    for pane in Pane:
        for view in (
            View(pane=pane),
            View(pane=pane, is_whole=True),
            View(question=HOSTILE, message=HOSTILE),
        ):
            for size in (SMALL, LARGE, TINY):
                assert all(one.isprintable() for one in screen(size, view, picture))
    text = "\n".join(screen(LARGE, picture=picture))
    assert "\\x1b[31m" in text
    assert "[bold red]x[/]" in text
    assert all(one.plain.isprintable() for one in once(picture, HOSTILE, 80))


def test_what_is_wrong_is_red() -> None:
    lines = drawn(PICTURE, View(pane=Pane.WORKERS), "x", LARGE)

    def red(text: str) -> str:
        line = next(one for one in lines if text in one.plain)
        return " ".join(
            line.plain[span.start : span.end].strip() for span in line.spans if span.style == "red"
        )

    assert red("  slow ") == "0"  # ready jobs, and nobody serves the queue
    assert red("  mail   ") == "3"
    assert red("  default ") == ""
    assert red("disconnected") == "disconnected: 1 of 4 slots"
    assert red("timeout") == "timeout"


def test_one_picture_for_a_file_has_every_row() -> None:
    lines = [one.plain.rstrip() for one in once(PICTURE, "/srv/kessel.db", 240)]
    assert sum("timeout" in one for one in lines) == 30
    assert sum(ID[:-2] in one for one in lines) == 31
    assert not any(one.startswith(">") for one in lines)
    assert any("QUEUES 3" in one for one in lines)


# --- columns -------------------------------------------------------------------------------------


def test_a_cut_text_is_as_wide_as_asked() -> None:
    assert cut("abc", 5) == "abc  "
    assert cut("abcdef", 5) == "abcd…"
    assert cut("abc", 0) == ""
    assert cell_len(cut("日本語", 4)) == 4


def test_the_column_with_the_highest_rank_is_left_out_first() -> None:
    columns = (Column("a", 0), Column("b", 2), Column("c", 1))
    rows = [[Cell("11111"), Cell("22222"), Cell("33333")]]

    def kept(width: int) -> list[str]:
        return [text.strip() for text, _ in fitted(columns, rows, width)[0]]

    assert [kept(width) for width in (19, 18, 12, 11)] == [["a", "b", "c"], ["a", "c"], ["a", "c"], ["a"]]


def test_a_column_that_may_be_cut_is_cut_before_another_is_left_out() -> None:
    columns = (Column("a", 0), Column("b", 1, 3), Column("c", 2, 3))
    rows = [[Cell("1", "red"), Cell("2" * 10), Cell("3" * 10)]]
    (_, line) = fitted(columns, rows, 20)
    assert [text.strip() for text, _ in line] == ["1", "2" * 10, "3333…"]
    assert sum(len(text) for text, _ in line) == 20
    assert line[0][1] == "red"


def test_an_optional_column_is_left_out_where_it_is_empty() -> None:
    columns = (Column("a", 0), Column("b", 1, is_optional=True), Column("c", 2))
    empty = [[Cell("x"), Cell(""), Cell("")]]
    assert [text.strip() for text, _ in fitted(columns, empty, 40)[0]] == ["a", "c"]
    some = [[Cell("x"), Cell("y"), Cell("")]]
    assert [text.strip() for text, _ in fitted(columns, some, 40)[0]] == ["a", "b", "c"]


def test_numbers_stand_on_the_right() -> None:
    columns = (Column("n", 0, is_right=True), Column("b", 1))
    lines = fitted(columns, [[Cell("1"), Cell("x")], [Cell("1,000"), Cell("y")]], 40)
    assert ["".join(text for text, _ in line) for line in lines] == ["    n  b", "    1  x", "1,000  y"]


@given(st.lists(st.text(max_size=30), min_size=3, max_size=3), st.integers(1, 80))
def test_no_line_is_wider_than_asked(texts: list[str], width: int) -> None:
    columns = (Column("first", 0, 3), Column("second", 1), Column("third", 2, 5, is_right=True))
    cells = [Cell("".join(char for char in text if char.isprintable())) for text in texts]
    for one in fitted(columns, [cells], width):
        assert cell_len("".join(text for text, _ in one)) <= width
