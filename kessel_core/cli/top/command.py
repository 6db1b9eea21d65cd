"""`kessel top`: the command and its loop.

rich draws, and the standard library reads keys. textual would bring widgets, a style sheet and an event loop
of its own for four tables and a dozen keys, and nine packages into every installation of the command.

One thread looks at the queue and does what keys ask for, so that a queue that does not answer keeps nobody
from reading, or from ending; the main thread reads keys and draws.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import click

from kessel_core.cli.app import App, configured, pass_app, queue_option
from kessel_core.cli.choosing import span
from kessel_core.cli.noting import Note, noting
from kessel_core.cli.output import console
from kessel_core.cli.queues import queue_arguments
from kessel_core.clock import SystemClock
from kessel_core.errors import KesselError
from kessel_core.features.overview import Action, Overview, Part
from kessel_core.features.watching import Overviews
from kessel_core.values.raised import said
from kessel_core.values.secrets import without_secrets

if TYPE_CHECKING:
    from datetime import timedelta

    from kessel_core.cli.top.keys import Do
    from kessel_core.cli.top.terminal import Terminal
    from kessel_core.contract.adapter import QueueAdapter

__all__ = ["top"]

#: Looking takes about this share of the time at most, so that a slow queue is not kept busy by whoever looks;
#: but a queue that was away is looked at again after so many seconds.
_SHARE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
#: After so many seconds without an answer that is said, and how often it is.
_NO_ANSWER: Final = 2.0
#: For how many seconds the end waits for a look that is under way.
_PATIENCE: Final = 1.0


def _interval(text: str) -> timedelta:
    from datetime import timedelta

    found = span(text)
    if not timedelta(milliseconds=200) <= found <= timedelta(hours=1):
        raise click.BadParameter("must be 200ms to 1h")
    return found


@click.command()
@queue_arguments
@click.option(
    "--interval", type=_interval, default="2s", show_default=True, metavar="TIME", help="How often to look."
)
@click.option("--once", is_flag=True, help="Print one picture and end, as where there is no terminal.")
@click.option("--read-only", is_flag=True, help="Change nothing, whatever is typed.")
@queue_option
@configured
@pass_app
def top(app: App, queues: tuple[str, ...], interval: timedelta, once: bool, read_only: bool) -> None:
    """Watch queues, running jobs, burials and workers.

    Without QUEUE: those that are configured, and all others that the adapter knows. Keys move, pause,
    resume, kick and delete: lower case at once, upper case after a question; ? lists them.
    """
    from kessel_core.cli.top.terminal import is_usable

    only = queues or (app.config.queues if app.given("queues") else ())
    with ExitStack() as opened:
        adapter = opened.enter_context(app.adapter(only_looks=True))
        store, why = opened.enter_context(app.store_beside(adapter))
        overviews = Overviews(
            adapter,
            store,
            SystemClock(),
            configured=app.config.queues,
            only=only,
            no_store=why,
            read_only=read_only,
        )
        if once or not is_usable():
            _print(overviews.look(), app.place)
            return
        from kessel_core.cli.top.terminal import Terminal, logs_to

        note = opened.enter_context(noting(app, adapter))
        terminal = Terminal()
        work = _Work(adapter, overviews, note, interval.total_seconds(), terminal)
        try:
            with terminal.entered(), logs_to(work.say):
                work.start()
                _loop(terminal, work, app.place)
        finally:
            work.end()
        if terminal.is_interrupted:
            raise KeyboardInterrupt


def _print(overview: Overview, place: str) -> None:
    from kessel_core.cli.top.drawing import once
    from kessel_core.cli.top.keys import Pane, part_of

    target = console()
    for line in once(overview, place, target.width):
        line.rstrip()
        target.print(line, soft_wrap=True)
    away = next((part_of(overview, pane).away for pane in Pane if part_of(overview, pane).away), None)
    if away is not None:
        raise KesselError(away.why)


def _loop(terminal: Terminal, work: _Work, place: str) -> None:
    """Draw and read keys until somebody wants the end."""
    yet: Part[Any] = Part(missing=("looking ...",))
    nothing = Overview(at=SystemClock().now(), queues=yet, running=yet, burials=yet, workers=yet)
    import attrs

    from kessel_core.cli.top.drawing import drawn
    from kessel_core.cli.top.keys import Turn, View, keys_in, pressed

    view = View()
    pen = _Pen()
    before: object = None
    while not terminal.is_interrupted:
        while (said := work.said()) is not None:
            view = attrs.evolve(view, message=said)
        size, overview, doing = terminal.size(), work.overview or nothing, work.doing
        now = (size, overview, view, doing)
        if now != before or not terminal.is_drawn:
            before = now
            terminal.draw(pen.lines(drawn(overview, view, place, size, doing=doing), size[0]))
        typed = terminal.typed(_NO_ANSWER)
        if typed is None:
            return
        for key in keys_in(typed):
            was_asked = view.asked
            view, act = pressed(view, key, overview)
            if act is Turn.END:
                return
            if act is Turn.LOOK:
                work.look()
            elif act is Turn.STOP:
                work.stop()
            elif act is not None:
                work.do(act)
            if view.asked is not None and view.asked is not was_asked:
                break  # what was typed before the question could be read does not answer it


def pause_after(took: float, interval: float) -> float:
    """Return the seconds from the end of a look to the next one.

    Args:
        took: Seconds that the look took.
        interval: Seconds from one look to the next, if both are quick.
    """
    return max(interval - took, min(took / _SHARE, _LONGEST_PAUSE), 0.0)


class _Pen:
    """Makes the characters and colours of lines, as this terminal knows them."""

    def __init__(self) -> None:
        self._console = console()

    def lines(self, lines: list[Any], width: int) -> list[str]:
        self._console.width = width
        made = []
        for line in lines:
            with self._console.capture() as captured:
                self._console.print(line, end="", no_wrap=True, overflow="crop", crop=True)
            made.append(captured.get())
        return made


class _Work:
    """The thread that looks, and does what is asked for. Every method may be called from any thread."""

    def __init__(
        self, adapter: QueueAdapter, overviews: Overviews, note: Note, interval: float, terminal: Terminal
    ) -> None:
        self._adapter = adapter
        self._overviews = overviews
        self._note = note
        self._interval = interval
        self._terminal = terminal
        #: What to do; None: look now.
        self._asked: SimpleQueue[Do | None] = SimpleQueue()
        self._said: SimpleQueue[str] = SimpleQueue()
        self._is_over = threading.Event()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kessel-top", daemon=True)
        #: The latest picture.
        self.overview: Overview | None = None
        self._doing = ""
        #: When the look that is under way was begun; None: there is none.
        self._begun: float | None = None

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """End the thread; one that waits for the queue is left behind."""
        self._is_over.set()
        self._is_stopped.set()
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def do(self, do: Do) -> None:
        self._asked.put(do)

    def look(self) -> None:
        self._asked.put(None)

    def stop(self) -> None:
        if self._doing:
            self._is_stopped.set()

    @property
    def doing(self) -> str:
        """What is being done that takes a while; "" if nothing does."""
        begun = self._begun
        waited = 0.0 if begun is None else time.monotonic() - begun
        return self._doing or (f"no answer for {waited:.0f} s" if waited >= _NO_ANSWER else "")

    def say(self, text: str) -> None:
        """Let the loop show a text."""
        self._said.put(without_secrets(text))
        self._terminal.wake()

    def said(self) -> str | None:
        """Return what was done since the last call, if anything was."""
        try:
            return self._said.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        while not self._is_over.is_set():
            begun = self._begun = time.monotonic()
            self.overview = self._overviews.look()
            self._begun = None
            self._terminal.wake()
            took = time.monotonic() - begun
            try:
                do = self._asked.get(timeout=pause_after(took, self._interval))
            except Empty:
                continue
            if do is not None and not self._is_over.is_set():
                self._do(do)

    def _do(self, do: Do) -> None:
        from kessel_core.cli.top.doing import done

        self._is_stopped.clear()
        if self._is_over.is_set():
            return
        can_stop = do.action is Action.KICK and do.job is None
        self._doing = f"{do.action} ...{' esc stops' if can_stop else ''}"
        self._terminal.wake()
        try:
            text = done(self._adapter, do, self._note, self._is_stopped.is_set)
        except KesselError as exc:
            text = f"not done: {exc}"
        except Exception as exc:  # an adapter that fails in its own way
            text = f"not done: {said(exc)}"
        self._doing = ""
        self.say(text)
