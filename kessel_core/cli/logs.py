"""Formats log records: text for people, or JSON lines, which applications may use, too.

The library itself logs to `logging.getLogger("kessel....")`, with fields as `extra`, and leaves
the set-up to the application. Levels: error = the process will stop; warning = a subsystem
failed; info = start-up items and one line per job; debug = significant events of a job;
`TRACE` = the rest.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from types import FrameType
from typing import Any, Final, TextIO

from kessel_core.model.worker import SLOT_THREAD
from kessel_core.values.logs import completed
from kessel_core.values.printing import printable, printable_lines, traceback_text
from kessel_core.values.secrets import without_secrets

__all__ = ["HumanFormatter", "JsonFormatter", "TRACE", "configure"]


#: Below `logging.DEBUG`.
TRACE: Final = 5


logging.addLevelName(TRACE, "TRACE")


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


#: Fields that the text of the message always says.
_SAID: Final = frozenset({"ms", "settled"})
#: Numbers up to this are written as such; no reader of JSON takes longer ones.
_LARGEST: Final = 1e300
#: Levels of lists and mappings that are written as such; one that holds itself has no end.
_DEPTH: Final = 8
_COLOURS: Final = {"TRACE": "2", "DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31"}


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _shown(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON has it: texts without secrets, and not longer than a log is read.

    Whatever somebody logs must not cost the line: what JSON does not know is written as its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and -_LARGEST < value < _LARGEST:  # neither infinite nor no number
        return value
    if depth < _DEPTH and isinstance(value, Mapping):
        return {_text(key): _shown(item, depth + 1) for key, item in value.items()}
    if depth < _DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(item, depth + 1) for item in value]
    return printable_lines(_text(value))


def _text(value: object) -> str:
    """Return the text of anything, without secrets; some objects raise when they are asked for theirs."""
    try:
        return without_secrets(value if isinstance(value, str) else str(value))
    except Exception as exc:
        return f"({type(value).__name__} that cannot be shown: {type(exc).__name__})"


def _source(record: logging.LogRecord) -> dict[str, Any]:
    """Return which slot of which process wrote a record; a field of the record's own goes before."""
    found: dict[str, Any] = {}
    thread = record.threadName or ""
    if thread.startswith(SLOT_THREAD):
        found["slot"] = thread.removeprefix(SLOT_THREAD)
    return {key: value for key, value in (found | {"pid": record.process}).items() if key not in vars(record)}


@cache
def _host() -> str:
    return socket.gethostname()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # a wrong format string in somebody's handler must not cost the line
        return f"{record.msg!r} (cannot be formatted: {exc})"


class HumanFormatter(logging.Formatter):
    """`12:30:01.250+0100 INFO    kessel.worker: text key=value ... pid=4711`, local time with its zone."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it if there is one."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        when = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}{moment:%z}"
        level = f"{record.levelname:<7}"
        if self._colour and (code := _COLOURS.get(record.levelname)) is not None:
            level = f"\x1b[{code}m{level}\x1b[0m"
        message = printable(without_secrets(_message(record)))
        parts = [f"{when} {level} {record.name}: {message}"]
        said = {word.strip(",:;()") for word in message.split() if len(word) > 2}
        for key, value in {**_extras(record), **_source(record)}.items():
            if key in _SAID:
                continue
            text = printable(_text(value))
            if value is None or text in said:
                continue  # people have just read it
            plain = text and not set(text) & {" ", "=", '"', "\\"}
            parts.append(f"{key}={text if plain else printable(repr(text))}")
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + (record.exc_text or traceback_text(record.exc_info))
        if record.stack_info:
            line += "\n" + printable_lines(self.formatStack(record.stack_info))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, pid, host, slot, the extras, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a value that JSON does not know is written as its text."""
        import json

        fields: dict[str, Any] = {**_source(record), "host": _host(), **_extras(record)}
        when = datetime.fromtimestamp(record.created, UTC)
        # The record's own fields last: an extra must not pass for the level or the time.
        fields = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        } | {f"{key}_" if key in ("time", "level", "logger") else key: v for key, v in fields.items()}
        if record.exc_info:
            fields["exception"] = traceback_text(record.exc_info, margin="")
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps({name: _shown(value) for name, value in fields.items()}, allow_nan=False)


def configure(level: str = "info", json: bool = False, *, stream: TextIO | None = None) -> None:
    """Print log records on `stream` (standard error); a second call replaces the first.

    Args:
        level: Least level of kessel's own records, one of `kessel_core.config.LOG_LEVELS`. Other
            libraries are printed from the same level on, but not below info.
        json: JSON lines instead of text.
        stream: Where to; a terminal gets colours unless `NO_COLOR` is set.
    """
    target = sys.stderr if stream is None else stream
    colour = target.isatty() and not os.environ.get("NO_COLOR")
    handler = _CommandHandler(target, JsonFormatter() if json else HumanFormatter(colour=colour))
    root = logging.getLogger()
    own = logging.getLogger("kessel")
    for logger in (root, own):
        for old in [h for h in logger.handlers if h.get_name() == "kessel"]:
            logger.removeHandler(old)
    own.propagate = True
    root.addHandler(handler)
    number = logging.getLevelName(level.upper())
    root.setLevel(max(number, logging.INFO))
    own.setLevel(number)


class _CommandHandler(logging.StreamHandler[TextIO]):
    """Prints what the command logs, and goes on when a module or a job sets logging up anew.

    `logging.config` and `basicConfig(force=True)` close all handlers, take them off the root logger, and
    turn off every logger that they do not know: a worker would be mute from then on, for a line that
    meant something else.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__(stream)
        self.set_name("kessel")
        self.addFilter(completed)  # records of other libraries, too
        self.setFormatter(formatter)
        self.own_formatter = formatter

    def close(self) -> None:
        """Be told that all handlers end: with the process, or because logging is set up anew."""
        super().close()
        who = _outside_of_logging(sys._getframe(1))  # nothing else says who
        if who is not None:
            threading.Thread(target=_keep, args=(self, who), name="kessel-logs", daemon=True).start()


def _outside_of_logging(frame: FrameType | None) -> str | None:
    """Return who called into `logging`; None: the interpreter."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "?")
        if name.partition(".")[0] not in ("logging", "threading", "kessel_core"):
            return f"{name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return None


def _keep(handler: _CommandHandler, who: str) -> None:
    """Turn the command's loggers on again, and see to it that they are printed."""
    own = logging.getLogger("kessel")  # waits until logging has been set up
    off = [
        logger
        for name, logger in list(own.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.disabled and f"{name}.".startswith("kessel.")
    ]
    for logger in off:
        logger.disabled = False
    # Who gives `kessel` handlers of its own means it; else its lines stay as they were, and are printed once.
    holders = [logger for logger in (logging.getLogger(), own) if handler in logger.handlers]
    is_dropped = not holders and not own.handlers
    if is_dropped:
        own.propagate = False
        holders = [own]
    # Another one each time, because `logging` forgets those that it has closed, and says so once only.
    fresh = _CommandHandler(handler.stream, handler.own_formatter)
    for logger in holders:
        logger.removeHandler(handler)
        logger.addHandler(fresh)
    if off or is_dropped:
        logging.getLogger("kessel.logging").warning(
            "%s set logging up anew and turned kessel's loggers off; they stay on, as they were", who
        )
