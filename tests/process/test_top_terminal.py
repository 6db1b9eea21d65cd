"""`kessel top` on a real terminal: keys, sizes, signals, and the terminal as it was before."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import JobManager
from kessel_core.contract import Bury

LONG = 60.0
KESSEL = [sys.executable, "-m", "kessel_core.cli"]
#: Makes the terminal the one that Ctrl-C and Ctrl-Z come from, and becomes the program of its arguments.
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Screen:
    """A terminal with a command on it, and what its screen shows."""

    def __init__(
        self, folder: Path, arguments: list[str], size: tuple[int, int], program: list[str] = KESSEL
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(*size, tell=False)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.sent = ""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("KESSEL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLED, *program, "top", *arguments],
            cwd=folder,
            env=environment | {"TERM": "xterm", "PYTHONUTF8": "1"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        self.columns, self.lines = columns, lines
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            self.sent += os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:
            return False
        return True

    def shown(self) -> list[str]:
        """The lines of the screen: each as it was drawn last, since the screen was emptied."""
        lines = [""] * self.lines
        text = self.sent.rpartition("\x1b[2J")[2]
        for number, drawn in re.findall(r"\x1b\[(\d+);1H\x1b\[2K((?:[^\x1b]|\x1b\[[\d;]*m)*)", text):
            if int(number) <= self.lines:
                lines[int(number) - 1] = re.sub(r"\x1b\[[\d;]*m", "", drawn).rstrip()
        return lines

    def until(self, wanted: str | Callable[[list[str]], bool]) -> list[str]:
        """Wait for a text on the screen."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            lines = self.shown()
            if wanted in "\n".join(lines) if isinstance(wanted, str) else wanted(lines):
                return lines
            if not self._read(0.2) and self.process.poll() is not None:
                break
        pytest.fail(f"{wanted!r} was not shown: {self.shown()}\n{self.sent[-500:]!r}")

    def ended(self) -> int:
        end = time.monotonic() + LONG
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.wait(1)

    def stray(self) -> str:
        """What was sent while the screen was taken, and was not drawn on a line of it."""
        taken = self.sent.partition("\x1b[?1049h\x1b[?25l")[2].partition("\x1b[0m\x1b[?25h\x1b[?1049l")[0]
        return re.sub(r"\x1b\[0m\x1b\[2J|\x1b\[\d+;1H\x1b\[2K(?:[^\x1b\r\n]|\x1b\[[\d;]*m)*", "", taken)

    def is_as_before(self) -> bool:
        """Whether the first screen, the cursor and the modes of the terminal are back."""
        left = self.sent.rfind("\x1b[?1049l") > self.sent.rfind("\x1b[?1049h") >= 0
        cursor = self.sent.rfind("\x1b[?25h") > self.sent.rfind("\x1b[?25l")
        return left and cursor and termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)


@pytest.fixture
def server() -> Iterator[Beanstalkd]:
    server = Beanstalkd()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "beanstalk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a configuration, and three buried jobs and a delayed one in the queue."""
    server = request.getfixturevalue("server") if request.param == "beanstalk" else None
    url = f"sqlite:///{tmp_path}/jobs.db" if server is None else f"beanstalk://127.0.0.1:{server.port}"
    (tmp_path / "kessel.toml").write_text(
        f'[kessel]\nadapter = "{url}"\nstore = "sqlite:///{tmp_path}/store.db"\n'
    )
    with JobManager(url, store=f"sqlite:///{tmp_path}/store.db") as manager:
        for number in range(3):
            manager.request("shop.ship", number, queue="shop")
            consumer = manager.adapter.consumer(["shop"])
            held = consumer.reserve(timedelta(seconds=5))
            assert held is not None
            consumer.settle(held, Bury("error", f"no address {number}"))
            consumer.close()
        manager.request("shop.ship", 9, queue="shop", delay=timedelta(hours=1))
    return tmp_path


@pytest.fixture
def top(folder: Path) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def start(*arguments: str, size: tuple[int, int] = (80, 24), **more: Any) -> Screen:
        screens.append(Screen(folder, ["--interval", "500ms", *arguments], size, **more))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


def counts(folder: Path, queue: str = "shop") -> dict[str, Any]:
    done = subprocess.run(
        [*KESSEL, "stats", queue, "--json"], cwd=folder, capture_output=True, check=True, timeout=LONG
    )
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def test_keys_look_ask_and_do_and_q_leaves_the_terminal_as_it_was(
    top: Callable[..., Screen], folder: Path
) -> None:
    screen = top()
    lines = screen.until("no address 2")
    assert any(one.split()[:5] == ["shop", "0", "1", "0", "3"] for one in lines)
    screen.type("\x1b[B")
    screen.until("> queue shop")
    screen.type("p")
    screen.until("paused queue shop until resumed")
    screen.until(lambda now: any("until resumed" in one and "shop" in one for one in now[2:8]))
    screen.type("r")
    screen.until("resumed queue shop")
    screen.type("\t\t\x1b[B")
    screen.until("> job")
    screen.type("k")
    screen.until("kicked job")
    assert (counts(folder)["ready"], counts(folder)["buried"]) == (1, 2)
    screen.type("Dy")  # the answer before the question was to be read is none
    screen.until("Remove for good the job")
    assert counts(folder)["buried"] == 2
    screen.type("y")
    screen.until("deleted job")
    assert counts(folder)["buried"] == 1
    screen.type("K")
    screen.until("Kick 1 buried job of queue shop? [y/N]")
    screen.type("n")
    screen.until("not done")
    assert counts(folder)["buried"] == 1
    screen.type("P")
    screen.until("for good? [y/N]")
    screen.type("y")
    screen.until("removed 3 jobs of queue shop")
    assert counts(folder)["total"] == 0
    screen.type("q")
    assert screen.ended() == 0
    assert screen.is_as_before()
    assert screen.stray() == ""


def test_a_view_that_only_looks_changes_nothing_whatever_is_typed(
    top: Callable[..., Screen], folder: Path
) -> None:
    screen = top("--read-only", "shop")
    before = screen.until("no address 2")
    assert "only looks" in before[-1]
    assert "default" not in "\n".join(before)
    for key in "prPKy":
        screen.type(key)
        if key != "y":
            screen.until("--read-only")
    screen.type("\t\t")
    screen.until("> job")
    for key in "kDyy":
        screen.type(key)
    screen.type("k")
    screen.until("cannot kick: this view only looks")
    screen.type("q")
    assert screen.ended() == 0
    found = counts(folder)
    assert (found["buried"], found["delayed"], found["paused"]) == (3, 1, None)


def test_the_screen_follows_the_size_of_the_terminal(top: Callable[..., Screen]) -> None:
    screen = top(size=(200, 60))
    lines = screen.until("no address 2")
    assert len(lines[0]) == 200
    emptied = screen.sent.count("\x1b[2J")
    screen.resize(40, 10)
    lines = screen.until("queues 2 running 0")
    assert len(lines) == 10
    assert screen.sent.count("\x1b[2J") > emptied
    assert max(map(len, lines)) <= 40
    screen.resize(80, 24)
    screen.until("no address 2")
    screen.type("q")
    assert screen.ended() == 0


@pytest.mark.parametrize(
    "end", [lambda screen: screen.type("\x03"), lambda screen: screen.process.send_signal(signal.SIGTERM)],
    ids=["ctrl-c", "sigterm"],
)  # fmt: skip
def test_an_interruption_leaves_the_terminal_as_it_was(top: Callable[..., Screen], end: Any) -> None:
    screen = top()
    screen.until("no address 2")
    assert termios.tcgetattr(screen._slave) != screen.before
    end(screen)
    assert screen.ended() == 130
    assert screen.is_as_before()
    assert "Traceback" not in screen.sent


@pytest.mark.parametrize("folder", ["sqlite"], indirect=True)
def test_only_lines_that_change_are_drawn(top: Callable[..., Screen]) -> None:
    """What somebody marks on the screen stays marked."""
    screen = top()
    screen.until("no address 2")
    screen.sent, clock = "", "\x1b[1;1H"
    screen.until(lambda now: screen.sent.count(clock) >= 2)
    assert "\x1b[2;1H" not in screen.sent  # the titles of the queues


FAILING = """
import sys
from kessel_core.cli import main
from kessel_core.cli.top import drawing

whole = drawing.drawn

def drawn(*arguments, **more):
    if arguments[1].is_help:
        raise RuntimeError("cannot draw")
    return whole(*arguments, **more)

drawing.drawn = drawn
sys.exit(main())
"""

ONLY_SQLITE = pytest.mark.parametrize("folder", ["sqlite"], indirect=True)
ONLY_BEANSTALK = pytest.mark.parametrize("folder", ["beanstalk"], indirect=True)


@ONLY_SQLITE
def test_a_mistake_of_the_view_itself_leaves_the_terminal_as_it_was(top: Callable[..., Screen]) -> None:
    screen = top(program=[sys.executable, "-c", FAILING])
    screen.until("no address 2")
    screen.type("?")
    assert screen.ended() == 1
    assert screen.is_as_before()
    # The error is said where it can be read.
    assert "RuntimeError: cannot draw" in screen.sent.rpartition("\x1b[?1049l")[2]
    assert screen.stray() == ""


@ONLY_SQLITE
def test_a_stopped_view_gives_the_terminal_back_until_it_goes_on(top: Callable[..., Screen]) -> None:
    screen = top("--interval", "1h")
    screen.until("no address 2")
    screen.type("\x1a")  # Ctrl-Z
    _, status = os.waitpid(screen.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    while screen._read(0.0):
        pass
    assert screen.is_as_before()
    screen.sent = ""
    screen.process.send_signal(signal.SIGCONT)
    screen.until("no address 2")
    assert termios.tcgetattr(screen._slave) != screen.before
    screen.type("q")
    assert screen.ended() == 0
    assert screen.is_as_before()


@ONLY_SQLITE
def test_a_terminal_that_is_gone_ends_the_view(top: Callable[..., Screen]) -> None:
    screen = top()
    screen.until("no address 2")
    os.close(screen._master)
    screen._master = os.open(os.devnull, os.O_RDONLY)
    assert screen.process.wait(LONG) != 0


@ONLY_BEANSTALK
def test_while_the_server_is_away_the_picture_stands_and_keys_are_read(
    top: Callable[..., Screen], server: Beanstalkd
) -> None:
    screen = top()
    screen.until("no address 2")
    server.kill()
    lines = screen.until("away since")
    assert "no address 2" in "\n".join(lines)
    assert "not seen since" in "\n".join(lines)
    screen.type("\x1b[Bp")
    screen.until("not done: ")
    server.start()
    screen.until(lambda now: "away since" not in now[0])
    screen.type("q")
    assert screen.ended() == 0
    assert screen.is_as_before()
    assert screen.stray() == ""  # log lines neither


@ONLY_BEANSTALK
def test_a_server_that_does_not_answer_keeps_nobody_from_reading_and_ending(
    top: Callable[..., Screen], server: Beanstalkd
) -> None:
    screen = top()
    screen.until("no address 2")
    server.signal(signal.SIGSTOP)
    screen.until("no answer for")
    screen.type("?")
    screen.until("the chosen row whole")
    screen.type("q")
    end = time.monotonic() + LONG
    while not screen.is_as_before() and time.monotonic() < end:
        screen._read(0.1)
    assert screen.is_as_before()
    server.signal(signal.SIGCONT)
    assert screen.ended() == 0
