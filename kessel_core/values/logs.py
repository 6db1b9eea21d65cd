"""Loggers that can change no job: where a filter, formatter or stream raises, the line is lost, and no more.

The runtime, the features and the adapters log through `get_logger`, and handlers through `JobContext.logger`.
What is logged of a job is escaped, cut and without secrets here, so that also the formatters of an
application print nothing else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from kessel_core.values.printing import printable, traceback_text
from kessel_core.values.secrets import without_secrets

__all__ = ["SafeLogger", "get_logger"]

#: What was complained about already; a broken filter would be told with every line.
_complained: set[str] = set()


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods raise nothing that logging does wrong. Safe for any thread."""

    def __init__(self, logger: logging.Logger, extra: dict[str, object] | None = None) -> None:
        logger.addFilter(_bounded)  # once, however often it is added
        super().__init__(logger, extra)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log as `logging.Logger.log` does; every other method ends here."""
        if not self.logger.isEnabledFor(level):
            return
        try:
            msg, settings = self.process(msg, kwargs)
            # One frame more, which is this one, lies between the caller and the logger.
            settings["stacklevel"] = settings.get("stacklevel", 1) + 1
            self.logger.log(level, msg, *map(self.argument, args), **settings)
        except Exception as exc:
            _complain(self.logger.name, exc)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Add the logger's own `extra` to that of the caller."""
        if self.extra:
            kwargs["extra"] = {**self.extra, **(kwargs.get("extra") or {})}
        return msg, kwargs

    @staticmethod
    def argument(value: object) -> object:
        """Return an argument of a message as it may be printed."""
        if isinstance(value, BaseException):
            value = str(value)
        return printable(without_secrets(value)) if isinstance(value, str) else value


def get_logger(name: str) -> SafeLogger:
    """Return a logger for what the runtime, a plugin or an adapter says while a job depends on it.

    Args:
        name: As for `logging.getLogger`; `kessel.` and the plugin's name.
    """
    return SafeLogger(logging.getLogger(name))


def _bounded(record: logging.LogRecord) -> bool:
    """Write the traceback of a record once, for every formatter."""
    if record.exc_info and not record.exc_text:
        record.exc_text = traceback_text(record.exc_info)
    return True


def _complain(name: str, exc: Exception) -> None:
    """Say once that the logging of the application fails, where the application cannot be in the way."""
    what = f"{name}: {type(exc).__name__}"
    if not logging.raiseExceptions or what in _complained:
        return
    _complained.add(what)
    with suppress(Exception):
        sys.stderr.write(f"kessel: a log line of {what} could not be written: {printable(str(exc), 200)}\n")
