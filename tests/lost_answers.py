"""An adapter over a network (PostgreSQL, Redis) of which one call gets no answer."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import pytest

__all__ = ["LostAnswer"]


class LostAnswer:
    """Runs the calls of all connections, and loses the answer of its thread's next one once it is `armed`.

    Slots that wait in other threads look when they please, and are answered.
    """

    def __init__(self, adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.armed = False
        own = threading.get_ident()
        link = adapter.database.pool.borrow()
        adapter.database.pool.give(link)
        run = type(link).run
        lost = importlib.import_module(type(link).__module__).Lost

        def cut(link: Any, *arguments: Any) -> Any:
            answers = run(link, *arguments)
            if self.armed and threading.get_ident() == own:
                self.armed = False
                raise lost("the answer is lost", was_sent=True)
            return answers

        monkeypatch.setattr(type(link), "run", cut)
