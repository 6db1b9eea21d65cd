"""Draws a picture: an `Overview`, what somebody has chosen to see of it, and a size make lines. Pure.

Whatever jobs and workers carry is escaped here, and cut to the screen; ids are shown whole or not at all.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from kessel_core.cli.top.columns import cut
from kessel_core.cli.top.keys import BINDINGS, Pane, Row, View, chosen_index, chosen_row, part_of
from kessel_core.cli.top.tables import noted, shown, table_of, whole
from kessel_core.features.overview import Overview, Part
from kessel_core.values.moments import span_text
from kessel_core.values.printing import printable

__all__ = ["drawn", "once"]

#: Below so many lines for the parts only one of them is shown.
_LEAST_BODY: Final = 12
#: Below so many there is no line for the id of the chosen row.
_LEAST_CHOSEN: Final = 4
_HELP: Final = (
    "tab, left, right   the next part of the screen",
    "up, down           the next row; also page up, page down, home, end",
    "enter              the chosen row whole, with its id and messages",
    "space              look now",
    "",
    "p                  pause the chosen queue until it is resumed",
    "r                  resume it",
    "k                  kick the chosen buried job",
    "K                  kick all buried jobs of the chosen queue; asks",
    "D                  delete the chosen buried job for good; asks",
    "P                  remove all jobs of the queue that no worker holds; asks",
    "esc                stop kicking",
    "",
    "q, Ctrl-C          end",
    "",
    "change: by how many jobs a minute the queue has grown or shrunk, over the last minute.",
    "rate: how many attempts a minute a worker has ended, between its last entries.",
    "Running jobs and workers are as old as the entries of the workers: up to ten seconds.",
)


def drawn(
    overview: Overview, view: View, place: str, size: tuple[int, int], *, doing: str = ""
) -> list[Text]:
    """Return exactly as many lines as the screen has, none wider than it.

    Args:
        overview: The picture.
        view: What is chosen.
        place: Where the jobs are, for people.
        size: Columns and lines, each at least 1.
        doing: What is being done, in words.
    """
    width, height = size
    top = [_header(overview, place, width)]
    below = [_footer(overview, view, width, doing)]
    room = height - 2
    if view.is_help or view.is_whole:
        body = _page(_HELP if view.is_help else tuple(whole(view, overview)), view.scroll, width, room)
    else:
        if room >= _LEAST_CHOSEN:
            below.insert(0, _chosen(overview, view, width))
            room -= 1
        if room >= _LEAST_BODY:
            body = _parts(overview, view, width, room)
        else:
            body = [_tabs(overview, view), *_part(overview, view, view.pane, width, max(0, room - 1))]
        room = height - len(top) - len(below)
    body = body[: max(0, room)]
    body += [Text("")] * (room - len(body))
    lines = [*top, *body, *below] if height > 1 else below
    for line in lines:
        line.truncate(width)
    return lines[:height]


def once(overview: Overview, place: str, width: int) -> list[Text]:
    """Return the whole picture, however long, for a file or a look in passing."""
    lines = [_header(overview, place, width)]
    for pane in Pane:
        lines += [Text(""), *_part(overview, None, pane, width, None)]
    return lines


# --- the edges -------------------------------------------------------------------------------


def _header(overview: Overview, place: str, width: int) -> Text:
    right = overview.at.astimezone().strftime("%H:%M:%S")
    away = next((part_of(overview, pane).away for pane in Pane if part_of(overview, pane).away), None)
    if away is not None:
        since = f"away since {away.since.astimezone():%H:%M:%S}"
        right = f"{since}, {span_text(overview.at - away.since)}  {right}"
    left = cut(f"kessel top  {printable(place)}", max(0, width - len(right) - 2))
    return Text.assemble((left, "bold"), "  ", (right, "bold red" if away is not None else ""))


def _chosen(overview: Overview, view: View, width: int) -> Text:
    """Return the line that has the id of the chosen row, to copy it."""
    row = chosen_row(view, overview)
    if row is None:
        return Text("")
    what, name = shown(row)
    # Whole or not at all: part of an id is no id.
    for text in (f"> {what} {name}", name, "enter shows the whole name"):
        if cell_len(text) <= width:
            return Text(text, style="cyan")
    return Text("")


def _footer(overview: Overview, view: View, width: int, doing: str) -> Text:
    if view.question:
        # The end of the question must be seen, whatever it names.
        return Text(cut(printable(view.question), max(0, width - 6)).rstrip() + " [y/N]", style="bold red")
    if view.message or doing:
        return Text(cut(printable(view.message or doing), width), style="yellow")
    if view.is_help or view.is_whole:
        return Text(cut("up down scroll  any other key goes back  q quit", width), style="dim")
    can = [f"{key} {one.words}" for key, one in BINDINGS.items() if one.action not in overview.refused]
    text = ""
    for key in ("q quit", "? help", "tab", *(can or ["only looks"]), "enter whole", "space look now"):
        if len(text) + len(key) <= width:
            text += f"{key}  "
    return Text(text, style="dim")


def _tabs(overview: Overview, view: View) -> Text:
    text = Text()
    for pane in Pane:
        part = part_of(overview, pane)
        text.append(
            f"{pane.value} {len(part.rows) + part.left_out}", "reverse" if pane is view.pane else "dim"
        )
        text.append(" ")
    return text


def _page(lines: Sequence[str], scroll: int, width: int, room: int) -> list[Text]:
    folded = [part for line in lines for part in (_folded(line, width) or [""])]
    first = max(0, min(scroll, len(folded) - room))
    return [Text(line) for line in folded[first : first + max(0, room)]]


def _folded(text: str, width: int) -> list[str]:
    return textwrap.wrap(printable(text, 20_000), width, subsequent_indent="  " if width > 20 else "")


def _notes(part: Part[Row], width: int) -> list[str]:
    """Return what must be said of a part, in lines."""
    margin = "  " if width > 20 else ""
    return [margin + line for text in noted(part) for line in _folded(text, width - len(margin))]


# --- the parts -------------------------------------------------------------------------------


def _parts(overview: Overview, view: View, width: int, room: int) -> list[Text]:
    """Return all parts: two lines each, then a line each in turn as long as one needs it."""
    needed = {pane: 1 + max(1, _lines_of(part_of(overview, pane), width)) for pane in Pane}
    given = dict.fromkeys(Pane, 2)
    left = room - sum(given.values())
    order = [view.pane, *(pane for pane in Pane if pane is not view.pane)]
    while left > 0 and any(given[pane] < needed[pane] for pane in order):
        for pane in order:
            if left > 0 and given[pane] < needed[pane]:
                given[pane] += 1
                left -= 1
    lines: list[Text] = []
    for pane in Pane:
        if lines and left > 0:  # there is room to breathe
            lines.append(Text(""))
            left -= 1
        lines += _part(overview, view, pane, width, given[pane])
    return lines


def _lines_of(part: Part[Row], width: int) -> int:
    return len(part.rows) + len(_notes(part, width))


def _part(overview: Overview, view: View | None, pane: Pane, width: int, room: int | None) -> list[Text]:
    """Return the lines of a part, its titles first; None: as many as it needs."""
    part = part_of(overview, pane)
    notes = _notes(part, width)
    if not part.rows and not notes:
        notes = ["  none"]
    space = None if room is None else max(0, room - 1)
    visible = len(part.rows)
    if space is not None:
        # A note is worth a row: without it numbers are taken for what they are not.
        visible = min(visible, max(1, space - len(notes)))
    chosen = -1 if view is None else chosen_index(view, overview, pane)
    first = max(0, min(chosen - visible // 2, len(part.rows) - visible)) if visible else 0
    table = table_of(
        overview, pane, part.rows[first : first + visible], _title(pane, part, first, visible), width - 2
    )
    lines: list[Text] = []
    for number, cells in enumerate(table):
        is_chosen = view is not None and pane is view.pane and number - 1 + first == chosen and bool(number)
        line = Text("> " if is_chosen else "  ")
        for text, style in cells:
            line.append(text, style)
        if number == 0:
            line.stylize("bold underline" if view is not None and pane is view.pane else "bold")
        elif is_chosen:
            line.stylize("reverse")
        lines.append(line)
    style = "red" if part.away is not None else "dim"
    lines += [Text(note, style=style) for note in notes]
    return lines if room is None else lines[:room]


def _title(pane: Pane, part: Part[Row], first: int, visible: int) -> str:
    total = len(part.rows) + part.left_out
    name = pane.value.upper()
    if visible in (0, total):
        return f"{name} {total:,}"
    return f"{name} {first + 1:,}-{first + visible:,} of {total:,}"
