"""What a simulation changes around itself while it runs, and puts back afterwards."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import ExitStack

from kessel_core.model import ids
from kessel_core.testing.simulation.seeds import Seed

__all__ = ["seeded", "silent"]


def seeded(seed: Seed, stack: ExitStack) -> None:
    """Let ids and the jitter of pauses follow from the seed, and what handlers draw from `random`."""
    for generator, name in ((ids._random, "ids"), (random, "random")):
        stack.callback(generator.setstate, generator.getstate())
        generator.setstate(seed.random(name).getstate())


class _Listening(logging.Handler):
    """Hears of errors that kessel did not foresee: it goes on after them, so nothing else tells."""

    def __init__(self, heard: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and "unexpected error" in str(record.msg):
            self._heard(error)


def silent(stack: ExitStack, heard: Callable[[BaseException], None]) -> None:
    """Log nothing of what was made to go wrong on purpose: the history tells it.

    Args:
        stack: Puts back what was before.
        heard: Called with each error that kessel did not foresee.
    """
    logger, listening = logging.getLogger("kessel"), _Listening(heard)
    stack.callback(logger.setLevel, logger.level)
    stack.callback(setattr, logger, "propagate", logger.propagate)
    stack.callback(setattr, logger, "handlers", logger.handlers)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.handlers = [listening]
