"""The one rule for printing text that others wrote: escaped, and cut.

Payloads, ids, refs, messages, names of plugins and tracebacks may move the cursor, start a new line, reverse
the direction of writing, or be very long. Nothing here prints.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

from kessel_core.values.secrets import without_secrets

__all__ = ["printable", "printable_lines", "traceback_text"]

#: Longest text in one place of an output, in characters.
MOST_CHARACTERS: Final = 2000
#: Longest text of several lines.
MOST_OF_LINES: Final = 20_000

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def printable(text: str, limit: int = MOST_CHARACTERS) -> str:
    r"""Return text as one line: unprintable characters are escaped, and long text is cut.

    Args:
        text: Anything. Line ends, control characters, bidi controls and lone surrogates become `\n`,
            `\x1b`, `\u202e`.
        limit: Longest result in characters, at least 1; a cut one ends with `…`.
    """
    is_cut = len(text) > limit
    if is_cut:
        text = text[: limit - 1]  # first, so that the time does not depend on the length
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _escape(char) for char in text)
        is_cut, text = is_cut or len(text) > limit, text[: limit - is_cut]
    return f"{text}…" if is_cut else text


def printable_lines(text: str, limit: int = MOST_OF_LINES) -> str:
    """Return text with its line ends, each line `printable`; a long text loses its middle."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join(printable(line, limit) for line in text.split("\n"))


def traceback_text(error: _ExcInfo, margin: str = "  | ") -> str:
    """Return a traceback for a log: without secrets, escaped and cut.

    Args:
        error: As returned by `sys.exc_info`.
        margin: Put before each line, so that no line looks like another log record.
    """
    try:
        text = "".join(traceback.format_exception(*error)).rstrip("\n")
    except Exception as exc:  # an error that cannot be formatted
        text = f"{getattr(error[0], '__name__', 'error')} (cannot be shown: {type(exc).__name__})"
    return "\n".join(margin + line for line in printable_lines(_ends_without_secrets(text)).split("\n"))


def _ends_without_secrets(text: str) -> str:
    """Return a text, or the start and end of a long one, without secrets."""
    if len(text) <= 2 * MOST_OF_LINES:
        return without_secrets(text)
    return without_secrets(text[:MOST_OF_LINES]) + "\n...\n" + without_secrets(text[-MOST_OF_LINES:])


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
