"""What `files.gone` catches: faults of an adapter over files, which no reference in memory can have."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
from kessel_adapter_directory.adapter import DirectoryAdapter
from kessel_adapter_directory.plugin import SPEC
from kessel_conformance import Harness
from kessel_conformance.runner import Run, Verdict
from kessel_conformance.settings import Settings

from kessel_core.contract import AdapterError, AdapterUnavailable, Message, QueueStats

CASE = "files.gone"


class Swallows(DirectoryAdapter):
    """The system says that nothing was written, and nobody is told."""

    def put(self, message: Message) -> None:
        with suppress(AdapterUnavailable):
            super().put(message)


class SwallowsOne(DirectoryAdapter):
    """As `Swallows`, for a job that comes alone."""

    def enqueue(self, message: Message) -> None:
        with suppress(AdapterUnavailable):
            super().enqueue(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        return [self._stored(message) for message in messages]  # the batch would call `enqueue`

    def _stored(self, message: Message) -> AdapterError | None:
        try:
            super().enqueue(message)
        except AdapterError as exc:
            return exc
        return None


class SwallowsMany(DirectoryAdapter):
    """As `Swallows`, for jobs that come together."""

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        super().enqueue_many(messages)
        return [None for _ in messages]


class CountsNothing(DirectoryAdapter):
    """What cannot be read is empty, it says."""

    def stats(self, queue: str) -> QueueStats:
        try:
            return super().stats(queue)
        except AdapterUnavailable:
            return QueueStats(queue=queue)


class NamesNothing(DirectoryAdapter):
    """As `CountsNothing`, for the names of the queues."""

    def queues(self) -> list[str]:
        try:
            return super().queues()
        except AdapterUnavailable:
            return []


class MakesAnew(DirectoryAdapter):
    """A folder that is gone is made again, and looks like one that never had a job."""

    @property
    def _folder(self) -> Path:
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place / "lock").touch()
        return self._place

    @_folder.setter
    def _folder(self, path: Path) -> None:
        self._place = path


def ended(kind: type[DirectoryAdapter]) -> tuple[Verdict, str]:
    """Run the case on an adapter; return its verdict, and why."""
    spec = attrs.evolve(SPEC, open=kind)
    run = Run(Harness(spec, url="directory://{tmp}/{namespace}"), Settings(shrink=False), [CASE])
    run.up()
    try:
        outcome = run.outcome(CASE)
        return outcome.verdict, outcome.reason
    finally:
        run.down()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Swallows, "was acknowledged and is lost"),
        (SwallowsOne, "was acknowledged and is lost"),
        (SwallowsMany, "was acknowledged and is lost"),
        (CountsNothing, "stats says that nothing is ready"),
        (NamesNothing, "queues() leaves out a queue that has jobs"),
        (MakesAnew, "was made anew, without its jobs"),
    ],
)
def test_S14_a_fault_of_files_fails_its_case(kind: type[DirectoryAdapter], why: str) -> None:
    verdict, reason = ended(kind)
    assert verdict is Verdict.FAIL
    assert why in reason


def test_S14_files_without_a_fault_pass_while_they_are_away() -> None:
    assert ended(DirectoryAdapter) == (Verdict.PASS, "")
