"""The calls of operators, each with what its outcomes mean when the connection breaks."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final, cast

from kessel_conformance.call import Call
from kessel_conformance.faults import SERVER_GONE
from kessel_conformance.ledger import BURIED, GONE, MAYBE, READY
from kessel_conformance.requirements import COUNTS, Need
from kessel_core import AdapterError
from kessel_core.contract import (
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    Delete,
    DoctorContext,
    Find,
    Finding,
    JobState,
    Level,
    Message,
    Pause,
    QueueStats,
    StoredJob,
    need,
)

# ruff: noqa: D101, D102  # names of calls, and what `Call` says
__all__ = ["CHANGES", "LOOKS", "DeleteOne", "Kick"]

_HOUR: Final = timedelta(hours=1)


class _Look(Call):
    """A call that changes nothing, so that it can be made again."""

    def failed(self, error: AdapterError) -> None:
        """Nothing has changed."""

    def again(self) -> None:
        self.returned(self.works(self.name, self.act))


class Stats(_Look):
    name = "stats"

    def prepare(self) -> None:
        self.stored()
        self.stored()
        self.works(self.name, self.act)

    def act(self) -> object:
        return self.adapter.stats(self.queue)

    def returned(self, value: object) -> None:
        ready = cast("QueueStats", value).ready
        if ready != 2 if COUNTS.is_met(self.bench.harness) else not ready:
            self.broken(f"stats counts {ready} ready jobs of 2")


class Queues(_Look):
    name = "queues"

    def prepare(self) -> None:
        self.stored()
        self.works(self.name, self.act)

    def act(self) -> object:
        return self.adapter.queues()

    def returned(self, value: object) -> None:
        if self.queue not in cast("list[str]", value):
            self.broken("queues() does not name a queue that has a job")


class Peek(_Look):
    name = "peek"
    needs = (Browse,)

    def prepare(self) -> None:
        self.expected = [self.stored(), self.stored()]
        self.works(self.name, self.act)

    def act(self) -> object:
        return need(self.adapter, Browse).peek(self.queue, JobState.READY, 10)

    def returned(self, value: object) -> None:
        shown = [job.body for job in cast("list[StoredJob]", value)]
        if sorted(shown) != sorted(message.body for message in self.expected):
            self.broken(f"{self.name} shows {self.bench.labels(shown)} of 2 jobs")


class FindOne(_Look):
    name = "find"
    needs = (Find,)

    def prepare(self) -> None:
        self.expected = self.stored()
        self.works(self.name, self.act)

    def act(self) -> object:
        return need(self.adapter, Find).find(self.expected.id)

    def returned(self, value: object) -> None:
        found = cast("StoredJob | None", value)
        if found is None or found.body != self.expected.body:
            self.broken(f"find shows {found} under the id of {self.label(self.expected)}, which is ready")


class _OfBuried(Call):
    """A call about two jobs that are buried."""

    needs: ClassVar[tuple[Need, ...]] = (Buried,)

    def prepare(self) -> None:
        self.expected = [self.stored(), self.stored()]
        consumer = self.bench.consumer(self.queue)
        for message in self.expected:
            self.bench.settle(consumer, self.bench.taken(consumer), Bury("error", "broken"))
            self.ends(message, BURIED, "it was buried")
        self.bench.call("close the worker", consumer.close)
        self.works("buried", lambda: need(self.adapter, Buried).buried(self.queue))


class ListBuried(_OfBuried, _Look):
    name = "buried"

    def act(self) -> object:
        return need(self.adapter, Buried).buried(self.queue)

    def returned(self, value: object) -> None:
        shown = [(job.body, job.reason) for job in cast("list[StoredJob]", value)]
        if sorted(shown) != sorted((message.body, "error") for message in self.expected):
            self.broken(f"{self.name} shows {shown} of 2 jobs")


class Doctor(_Look):
    name = "doctor"
    errors = ()

    def prepare(self) -> None:
        self.works(self.name, self.act)

    def act(self) -> object:
        return self.adapter.doctor(
            DoctorContext(queues=(self.queue,), types=frozenset(), grace=timedelta(seconds=1))
        )

    def returned(self, value: object) -> None:
        levels = {finding.level for finding in cast("list[Finding]", value)}
        if self.fault is SERVER_GONE and levels <= {Level.OK}:
            self.broken("doctor finds nothing wrong")

    def again(self) -> None:
        self.works(self.name, self.act)


class Kick(_OfBuried):
    """If it is not answered, nobody may say that there is no such job: it may just have been kicked."""

    name = "kick"

    def prepare(self) -> None:
        super().prepare()
        self.first, self.second = need(self.bench.adapter, Buried).buried(self.queue)

    def act(self) -> object:
        return need(self.adapter, Buried).kick(self.queue, self.first.id)

    def returned(self, value: object) -> None:
        self.kicked(self.first, READY, "kick returned")

    def kicked(self, job: StoredJob, places: frozenset[str], why: str) -> None:
        """Say where it has to be."""
        message = next(message for message in self.expected if message.body == job.body)
        self.ends(message, places, why, soon=places == READY)

    def failed(self, error: AdapterError) -> None:
        self.kicked(self.first, READY | BURIED, "nobody knows whether it was kicked")

    def again(self) -> None:
        self.works("kick another", lambda: need(self.adapter, Buried).kick(self.queue, self.second.id))
        self.kicked(self.second, READY, "kick returned")


class DeleteOne(Call):
    name = "delete"
    needs: ClassVar[tuple[Need, ...]] = (Delete,)

    def prepare(self) -> None:
        self.messages = [self.stored(), self.stored(), self.stored()]
        self._deletes(self.messages[2])

    def act(self) -> object:
        return need(self.adapter, Delete).delete(self.queue, self.messages[0].id)

    def returned(self, value: object) -> None:
        self.ends(self.messages[0], GONE, "delete returned")

    def failed(self, error: AdapterError) -> None:
        self.ends(self.messages[0], MAYBE, "nobody knows whether it was deleted")

    def again(self) -> None:
        self._deletes(self.messages[1])

    def _deletes(self, message: Message) -> None:
        self.works(
            f"delete {self.label(message)}", lambda: need(self.adapter, Delete).delete(self.queue, message.id)
        )
        self.ends(message, GONE, "delete returned")


class Purge(Call):
    name = "purge of 3"

    def prepare(self) -> None:
        self.messages = [self.stored() for _ in range(3)]
        self.works("stats", lambda: self.adapter.stats(self.queue))  # so that there is a connection

    def act(self) -> object:
        return self.adapter.purge(self.queue)

    def returned(self, value: object) -> None:
        if value != 3:
            self.broken(f"purge says that it removed {value} of 3 jobs")
        self._are(GONE, "purge returned")

    def failed(self, error: AdapterError) -> None:
        self._are(MAYBE, "nobody knows whether it was removed")

    def again(self) -> None:
        self.works("purge again", self.act)
        self._are(GONE, "purge returned")

    def _are(self, places: frozenset[str], why: str) -> None:
        for message in self.messages:
            self.ends(message, places, why)


class PauseQueue(Call):
    name = "pause for an hour"
    needs = (Pause,)

    def prepare(self) -> None:
        self.stored()
        self._resumes()

    def act(self) -> object:
        return need(self.adapter, Pause).pause(self.queue, _HOUR)

    def returned(self, value: object) -> None:
        consumer = self.bench.consumer(self.queue)
        self.bench.nothing(consumer, "pause returned")
        self.bench.call("close the worker", consumer.close)

    def failed(self, error: AdapterError) -> None:
        """Nobody knows whether it is paused."""

    def again(self) -> None:
        self.returned(self.works(self.name, self.act))
        self._resumes()

    def _resumes(self) -> None:
        self.works("resume", lambda: need(self.adapter, Pause).pause(self.queue, NO_PAUSE))


LOOKS: Final[tuple[type[Call], ...]] = (Stats, Queues, Peek, FindOne, ListBuried, Doctor)
CHANGES: Final[tuple[type[Call], ...]] = (Kick, DeleteOne, Purge, PauseQueue)
