"""Loggers that cannot affect a job: if a filter, formatter or stream raises, only the log line is lost.

The runtime, the features and the adapters log through `get_logger`, handlers through `JobContext.logger`.
Data of jobs are escaped, cut and stripped of secrets here, whatever formatters an application uses.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from kessel_core.values.printing import printable, traceback_text
from kessel_core.values.secrets import without_secrets

__all__ = ["SafeLogger", "add_log_fields", "completed", "get_logger"]

#: The failures that were reported already, because a broken filter fails for every line.
_complained: set[str] = set()

#: What adds fields to records, in the order in which it was added.
_sources: tuple[Callable[[], Mapping[str, object]], ...] = ()


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods never raise an `Exception`. Thread-safe."""

    def __init__(self, logger: logging.Logger, extra: dict[str, object] | None = None) -> None:
        logger.addFilter(completed)  # has no effect if it was added before
        super().__init__(logger, extra)
        # Without a call in between, because it is asked several times for every job.
        self.isEnabledFor = logger.isEnabledFor  # type: ignore[method-assign]  # of the same signature

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log like `logging.Logger.log`; all other methods call this one."""
        try:
            if not self.logger.isEnabledFor(level):
                return
            msg, settings = self.process(msg, kwargs)
            # This method is one more frame between the caller and the logger.
            settings["stacklevel"] = settings.get("stacklevel", 1) + 1
            self.logger.log(level, msg, *map(self.argument, args), **settings)
        except Exception as exc:
            _complain(self.logger.name, exc)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Merge the logger's own `extra` with that of the caller."""
        if self.extra:
            kwargs["extra"] = {**self.extra, **(kwargs.get("extra") or {})}
        return msg, kwargs

    @staticmethod
    def argument(value: object) -> object:
        """Return an argument of a message in a form that is safe to print."""
        if isinstance(value, BaseException):
            value = str(value)
        return printable(without_secrets(value)) if isinstance(value, str) else value


def get_logger(name: str) -> SafeLogger:
    """Return a logger for the runtime, a plugin or an adapter, which cannot make a job fail.

    Args:
        name: As for `logging.getLogger`; `kessel.` followed by the plugin's name.
    """
    return SafeLogger(logging.getLogger(name))


def add_log_fields(source: Callable[[], Mapping[str, object]]) -> None:
    """Add fields to each record that kessel, its plugins and `job.logger` log; in the command to all records.

    For what depends on the moment, such as the ids of a trace. They are on the record, as those of `extra`
    are, which go before them. It holds for the whole process; a second call with the same function has no
    effect. Thread-safe.

    Args:
        source: Returns the fields; called for each record in the thread and the context that logs, so it
            must be quick. If it raises, the record is without them.

    Example:
        >>> def tenant():
        ...     return {"tenant": "north"}
        >>> add_log_fields(tenant)
    """
    global _sources
    if source not in _sources:
        _sources = (*_sources, source)


def completed(record: logging.LogRecord) -> bool:
    """Add to a record what its formatters need: fields, and its traceback, formatted once for all of them."""
    for source in _sources:
        with suppress(Exception):
            for name, value in source().items():
                vars(record).setdefault(name, value)
    if record.exc_info and not record.exc_text:
        record.exc_text = traceback_text(record.exc_info)
    return True


def _complain(name: str, exc: Exception) -> None:
    """Report once on standard error that the logging of the application fails."""
    what = f"{name}: {type(exc).__name__}"
    if not logging.raiseExceptions or what in _complained:
        return
    _complained.add(what)
    with suppress(Exception):
        sys.stderr.write(f"kessel: a log line of {what} could not be written: {printable(str(exc), 200)}\n")
