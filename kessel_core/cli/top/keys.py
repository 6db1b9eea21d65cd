"""What keys do: a view and a key make the next view, and perhaps something to do. Pure; does nothing itself.

Lower case can be undone and is done at once, upper case asks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final, TypeAlias

import attrs

from kessel_core.cli.output import jobs_text
from kessel_core.contract.operations import StoredJob
from kessel_core.features.overview import (
    Action,
    BurialView,
    Overview,
    Part,
    QueueView,
    RunningView,
    WorkerView,
)
from kessel_core.model.readonly import EMPTY

__all__ = [
    "BINDINGS",
    "Binding",
    "Do",
    "Pane",
    "Row",
    "Turn",
    "View",
    "chosen_index",
    "chosen_row",
    "keys_in",
    "part_of",
    "pressed",
]

Row: TypeAlias = QueueView | RunningView | BurialView | WorkerView

#: How far a page moves, in rows.
_PAGE: Final = 10


class Pane(StrEnum):
    """The parts of the screen, each named as its field of `Overview`."""

    QUEUES = "queues"
    RUNNING = "running"
    BURIALS = "burials"
    WORKERS = "workers"


class Turn(Enum):
    """What a key asks of the loop."""

    #: End the view.
    END = "end"
    #: Look at once.
    LOOK = "look"
    #: Stop what is being done to many jobs.
    STOP = "stop"


@attrs.frozen
class Do:
    """Something to do to a queue, or to one job of it."""

    action: Action
    queue: str
    #: None: to the whole queue.
    job: StoredJob | None = None


@attrs.frozen
class Binding:
    """What a key does."""

    action: Action
    words: str
    #: Whether it is done to the chosen job; otherwise to its queue.
    is_of_job: bool = False
    #: Whether it is asked for before.
    asks: bool = False


BINDINGS: Final[Mapping[str, Binding]] = {
    "p": Binding(Action.PAUSE, "pause"),
    "r": Binding(Action.RESUME, "resume"),
    "k": Binding(Action.KICK, "kick", is_of_job=True),
    "K": Binding(Action.KICK, "kick all", asks=True),
    "D": Binding(Action.DELETE, "delete", is_of_job=True, asks=True),
    "P": Binding(Action.PURGE, "purge", asks=True),
}


@attrs.frozen(kw_only=True)
class View:
    """What somebody has chosen to see."""

    pane: Pane = Pane.QUEUES
    #: The chosen row of each pane, by what it is, so that it stays chosen where it moves; and where it was.
    names: Mapping[str, str] = EMPTY
    places: Mapping[str, int] = EMPTY
    #: What is asked, and what is done if the answer is yes.
    question: str = ""
    asked: Do | None = None
    #: What was done, or why not.
    message: str = ""
    #: Whether the chosen row is shown whole, or the help; and from which line.
    is_whole: bool = False
    is_help: bool = False
    scroll: int = 0


def part_of(overview: Overview, pane: Pane) -> Part[Row]:
    """Return the part of the picture that a pane shows."""
    part: Part[Row] = getattr(overview, pane.value)
    return part


def chosen_index(view: View, overview: Overview, pane: Pane) -> int:
    """Return the index of the chosen row; 0 if there is none."""
    rows = part_of(overview, pane).rows
    wanted = view.names.get(pane)
    found = next((place for place, row in enumerate(rows) if _name(row) == wanted), None)
    return found if found is not None else max(0, min(view.places.get(pane, 0), len(rows) - 1))


def chosen_row(view: View, overview: Overview) -> Row | None:
    """Return the chosen row of the pane that has the focus."""
    rows = part_of(overview, view.pane).rows
    return rows[chosen_index(view, overview, view.pane)] if rows else None


def _name(row: Row) -> str:
    match row:
        case QueueView():
            return row.stats.queue
        case RunningView():
            return f"{row.worker.id} {row.job.id} {row.job.since}"
        case BurialView():
            return f"{row.job.queue} {row.job.id}"
        case WorkerView():
            return row.entry.id


# --- from keys to views ----------------------------------------------------------------------


def pressed(view: View, key: str, overview: Overview) -> tuple[View, Do | Turn | None]:
    """Return the view after a key, and what to do.

    Args:
        view: Before it.
        key: One character, or a name such as `up`, `tab`, `esc`.
        overview: The picture that is shown.
    """
    if view.asked is not None:
        answered = attrs.evolve(view, question="", asked=None, message="")
        if key in ("y", "Y"):
            return answered, view.asked
        return attrs.evolve(answered, message="not done"), None
    view = attrs.evolve(view, message="")
    if key in ("q", "Q"):
        return view, Turn.END
    if view.is_whole or view.is_help:
        return _read(view, key), None
    match key:
        case "tab" | "right":
            return _pane(view, 1), None
        case "backtab" | "left":
            return _pane(view, -1), None
        case "up" | "down" | "pageup" | "pagedown" | "home" | "end":
            return _moved(view, key, overview), None
        case "enter" if chosen_row(view, overview) is not None or part_of(overview, view.pane).missing:
            return attrs.evolve(view, is_whole=True, scroll=0), None
        case "?" | "h":
            return attrs.evolve(view, is_help=True, scroll=0), None
        case "space":
            return view, Turn.LOOK
        case "esc":
            return view, Turn.STOP
    binding = BINDINGS.get(key)
    return (view, None) if binding is None else _bound(view, binding, overview)


def _read(view: View, key: str) -> View:
    """Return the view of somebody who reads a page."""
    match key:
        case "up":
            return attrs.evolve(view, scroll=max(0, view.scroll - 1))
        case "down":
            return attrs.evolve(view, scroll=view.scroll + 1)
        case "pageup":
            return attrs.evolve(view, scroll=max(0, view.scroll - _PAGE))
        case "pagedown" | "space":
            return attrs.evolve(view, scroll=view.scroll + _PAGE)
        case "home":
            return attrs.evolve(view, scroll=0)
    return attrs.evolve(view, is_whole=False, is_help=False, scroll=0)


def _pane(view: View, step: int) -> View:
    panes = list(Pane)
    return attrs.evolve(view, pane=panes[(panes.index(view.pane) + step) % len(panes)])


def _moved(view: View, key: str, overview: Overview) -> View:
    rows = part_of(overview, view.pane).rows
    if not rows:
        return view
    last = len(rows) - 1
    steps = {"up": -1, "down": 1, "pageup": -_PAGE, "pagedown": _PAGE, "home": -last, "end": last}
    place = max(0, min(last, chosen_index(view, overview, view.pane) + steps[key]))
    return attrs.evolve(
        view,
        names={**view.names, view.pane: _name(rows[place])},
        places={**view.places, view.pane: place},
    )


def _bound(view: View, binding: Binding, overview: Overview) -> tuple[View, Do | None]:
    def no(why: str) -> tuple[View, None]:
        return attrs.evolve(view, message=f"cannot {binding.words}: {why}"), None

    if (why := overview.refused.get(binding.action)) is not None:
        return no(why)
    row = chosen_row(view, overview)
    if binding.is_of_job:
        if not isinstance(row, BurialView):
            return no("choose a buried job, with tab and the arrows")
        do = Do(binding.action, row.job.queue, row.job)
    else:
        queue = _queue(row)
        if queue is None:
            return no("choose a queue or a job of it, with tab and the arrows")
        do = Do(binding.action, queue)
    if not binding.asks:
        return view, do
    return attrs.evolve(view, question=_question(do, overview), asked=do), None


def _queue(row: Row | None) -> str | None:
    match row:
        case QueueView():
            return row.stats.queue
        case RunningView() | BurialView():
            return row.job.queue
    return None


def _question(do: Do, overview: Overview) -> str:
    if do.job is not None:
        return f"Remove for good the job {do.job.id}?"
    count = overview.stats(do.queue)
    if do.action is Action.KICK:
        jobs = jobs_text(count.buried, "buried job") if count is not None else "all buried jobs"
        return f"Kick {jobs} of queue {do.queue}?"
    jobs = jobs_text(count.total - count.reserved) if count is not None else "all jobs"
    return f"Remove {jobs} of queue {do.queue} for good?"


# --- from bytes to keys ----------------------------------------------------------------------

_SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left", b"\x1bOA": "up",
    b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left", b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown",
    b"\x1b[H": "home", b"\x1b[F": "end", b"\x1bOH": "home", b"\x1bOF": "end", b"\x1b[1~": "home",
    b"\x1b[4~": "end", b"\x1b[Z": "backtab",
}  # fmt: skip
_CONTROLS: Final = {9: "tab", 10: "enter", 13: "enter", 27: "esc", 32: "space"}


def keys_in(typed: bytes) -> list[str]:
    """Return the keys in what a terminal has sent; what is no key of ours is left out."""
    keys: list[str] = []
    while typed:
        known = next((one for one in _SEQUENCES if typed.startswith(one)), None)
        if known is not None:
            keys.append(_SEQUENCES[known])
            typed = typed[len(known) :]
        elif typed[0] == 27 and typed[1:2] in (b"[", b"O"):  # another sequence, up to its last byte
            end = next((at for at in range(2, len(typed)) if 0x40 <= typed[at] <= 0x7E), len(typed) - 1)
            typed = typed[end + 1 :]
        else:
            key = _CONTROLS.get(typed[0], chr(typed[0]) if 33 <= typed[0] < 127 else "")
            keys += [key] if key else []
            typed = typed[1:]
    return keys
