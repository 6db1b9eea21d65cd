"""What is answered for `/livez`, `/readyz` and the pages of plugins: by one worker, and by all of them.

A supervisor asks its worker processes each time that it is asked itself, and adds up what they say.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol

import attrs

from kessel_core.hooks.page import Page
from kessel_core.model.worker import Health
from kessel_core.runtime.health_http import Answer, ask_all
from kessel_core.values.logs import get_logger

__all__ = ["LIVE", "READY", "SummedPages", "WorkerPages", "not_begun"]

log = get_logger("kessel.health")

LIVE: Final = "/livez"
READY: Final = "/readyz"
#: Seconds for worker processes to answer: for their health, for that of one that may still be starting, and
#: for a page of a plugin, which may ask the queue.
_HEALTH_PATIENCE: Final = 2.0
_START_PATIENCE: Final = 0.3
_PAGE_PATIENCE: Final = 8.0
#: Seconds that a request waits for another one of the same page.
_TURN: Final = 2.0


@attrs.frozen
class _Said:
    """What `/livez` and `/readyz` say, both with the same body."""

    live: bool
    ready: bool
    reasons: Sequence[str] = ()

    def answer(self, path: str) -> Answer:
        is_well = self.live if path == LIVE else self.ready
        body = {"live": self.live, "ready": self.ready, "reasons": list(self.reasons)}
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, json.dumps(body).encode() + b"\n", "application/json")

    @classmethod
    def read(cls, answer: Answer) -> _Said | None:
        """Read the answer of a worker process; None: it is none."""
        try:
            said = json.loads(answer.body)
            return cls(said["live"] is True, said["ready"] is True, [str(one) for one in said["reasons"]])
        except (ValueError, KeyError, TypeError):
            return None


def not_begun(path: str) -> Answer:
    """Return the answer of a process that still prepares its work: it is alive."""
    if path in (LIVE, READY):
        return _Said(live=True, ready=False, reasons=["the worker has not begun"]).answer(path)
    return Answer.plain(HTTPStatus.SERVICE_UNAVAILABLE, "the worker has not begun")


class _Turns:
    """Lets one request at a time have a page, so that a queue that hangs does not use up every connection."""

    def __init__(self, paths: Mapping[str, object]) -> None:
        self._locks = {path: threading.Lock() for path in paths}

    def answer(self, path: str, make: Callable[[], Answer]) -> Answer:
        lock = self._locks[path]
        if not lock.acquire(timeout=_TURN):
            return Answer.plain(HTTPStatus.SERVICE_UNAVAILABLE, "another request has waited for this page")
        try:
            return make()
        except SystemExit as exc:  # it would end the thread that answers, in silence
            raise RuntimeError(f"the page {path} called for an exit") from exc
        finally:
            lock.release()


def _shown(body: object, page: Page) -> Answer:
    if not isinstance(body, (bytes, bytearray)):
        raise TypeError(f"a page must be bytes, got {type(body).__name__}")
    return Answer(HTTPStatus.OK, bytes(body), page.content_type)


def _unknown(pages: Mapping[str, object]) -> Answer:
    return Answer.plain(HTTPStatus.NOT_FOUND, f"there are: {', '.join((LIVE, READY, *sorted(pages)))}")


class WorkerPages:
    """Answers for one worker; thread-safe.

    Args:
        health: Returns its health at once.
        pages: Those of plugins, by path.
    """

    def __init__(self, health: Callable[[], Health], pages: Mapping[str, Page]) -> None:
        self._health = health
        self._pages = pages
        self._turns = _Turns(pages)

    def answer(self, path: str) -> Answer:
        """Return the answer for a path."""
        if path in (LIVE, READY):
            health = self._health()
            return _Said(health.live, health.ready, health.reasons).answer(path)
        page = self._pages.get(path)
        if page is None:
            return _unknown(self._pages)
        return self._turns.answer(path, lambda: _shown(page.show(), page))


class Processes(Protocol):
    """What a supervisor tells of its worker processes; thread-safe."""

    @property
    def running(self) -> Mapping[int, int]:
        """Number, from 1, -> process id of those that run."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        ...


class SummedPages:
    """Answers for all worker processes of a supervisor; thread-safe.

    Args:
        processes: The worker processes.
        ports: Number of a process -> where it answers for itself, on 127.0.0.1.
        pages: Those of plugins, by path; only their `merge` is used.
    """

    def __init__(self, processes: Processes, ports: Mapping[int, int], pages: Mapping[str, Page]) -> None:
        self._processes = processes
        self._ports = ports
        self._pages = pages
        self._turns = _Turns(pages)
        #: Process ids that have answered once: from then on silence means something.
        self._begun: set[int] = set()
        #: Path -> process id -> its last page.
        self._last: dict[str, dict[int, bytes]] = {path: {} for path in pages}
        #: Path -> what is left of processes that have ended.
        self._ended: dict[str, bytes] = {}

    def answer(self, path: str) -> Answer:
        """Return the answer for a path."""
        if path in (LIVE, READY):
            return self._said().answer(path)
        page = self._pages.get(path)
        if page is None:
            return _unknown(self._pages)
        return self._turns.answer(path, lambda: self._merged(path, page))

    # --- health -----------------------------------------------------------------------------------------

    def _said(self) -> _Said:
        is_stopping, running = self._processes.is_stopping, self._processes.running
        answers = self._asked(LIVE, running, _HEALTH_PATIENCE)
        # Asked again: one that has ended meanwhile is not silent.
        still = self._processes.running
        found = {number: self._of(number, running, still, answers) for number in self._ports}
        reasons = [f"process {number}: {why}" for number, said in found.items() for why in said.reasons]
        return _Said(
            live=all(said.live for said in found.values()),
            ready=all(said.ready for said in found.values()) and not is_stopping,
            reasons=["the workers stop", *reasons] if is_stopping else reasons,
        )

    def _of(
        self, number: int, running: Mapping[int, int], still: Mapping[int, int], answers: Mapping[int, Answer]
    ) -> _Said:
        answer = answers.get(number)
        if answer is not None and (said := _Said.read(answer)) is not None:
            return said
        process = running.get(number)
        if process is None or process != still.get(number):
            return _Said(live=True, ready=False, reasons=["it does not run"])
        if process not in self._begun:
            return _Said(live=True, ready=False, reasons=["it has not begun"])
        # One that ends may have closed its server already.
        is_live = self._processes.is_stopping
        return _Said(live=is_live, ready=False, reasons=["it does not answer"])

    def _asked(self, path: str, running: Mapping[int, int], patience: float) -> dict[int, Answer]:
        begun = {number for number, process in running.items() if process in self._begun}
        answers = ask_all({number: self._ports[number] for number in begun}, path, patience)
        starting = {number: self._ports[number] for number in running if number not in begun}
        answers |= ask_all(starting, path, _START_PATIENCE)
        self._begun = {*self._begun.intersection(running.values()), *(running[number] for number in answers)}
        return answers

    # --- pages of plugins ---------------------------------------------------------------------------------

    def _merged(self, path: str, page: Page) -> Answer:
        running = self._processes.running
        last = self._last[path]
        gone = [last.pop(process) for process in [*last] if process not in running.values()]
        if gone:
            self._ended[path] = page.merge((), [*self._ended_of(path), *gone])
        answers = self._asked(path, running, _PAGE_PATIENCE)
        for number, answer in answers.items():
            if answer.status == HTTPStatus.OK:
                last[running[number]] = answer.body
        ended = self._ended_of(path)
        if not last and not ended:  # nothing is not the same as a page that is empty
            for answer in answers.values():
                return answer
            return Answer.plain(HTTPStatus.SERVICE_UNAVAILABLE, "no process has answered")
        # One that did not answer in time counts with what it said last.
        return _shown(page.merge([*last.values()], ended), page)

    def _ended_of(self, path: str) -> Sequence[bytes]:
        return [self._ended[path]] if path in self._ended else []
