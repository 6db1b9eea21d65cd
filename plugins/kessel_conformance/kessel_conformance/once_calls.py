"""Changes of operators whose answer is lost, when there is something new that the same call would change.

Rule 7 of the contract: only what is safe to do twice is sent twice.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final, cast

from kessel_conformance.call import Call
from kessel_conformance.faults import LOST_WHEN_DONE, Answer
from kessel_conformance.ledger import BURIED, READY
from kessel_conformance.operation_calls import DeleteOne, Kick
from kessel_conformance.requirements import COUNTS, Need
from kessel_core.contract import Browse, Buried, Bury, Delete, JobState, StoredJob, need

__all__ = ["ONCE"]


class _Once(Call):
    """A change that must not be made a second time."""

    faults = (LOST_WHEN_DONE,)
    #: Whether there is something new.
    is_new = False
    _error: Exception | None = None

    @abstractmethod
    def changes(self) -> None:
        """Make the call."""

    @abstractmethod
    def is_done(self) -> bool:
        """Whether the server has done it."""

    @abstractmethod
    def renews(self) -> None:
        """Make what the same call would change."""

    def act(self) -> object:
        self.near.proxy.loses = self._loses
        self.changes()
        return None

    def _loses(self) -> bool:
        """Renew at the first answer by which it is done; the adapter does nothing more before it has one."""
        self._error = Answer.of(self._renews_if_done).error
        return self.is_new or self._error is not None

    def _renews_if_done(self) -> None:
        if self.is_done():
            self.renews()
            self.is_new = True

    def judge(self, answer: Answer) -> None:
        if self._error is not None:
            raise self._error
        super().judge(answer)


class KickOnce(_Once, Kick):
    """The job is buried again, before the adapter can know that it was kicked."""

    name = "kick of a job that is buried again"

    def changes(self) -> None:
        Kick.act(self)

    def is_done(self) -> bool:
        return self.first.id not in [job.id for job in self.bench.buried(queue=self.queue)]

    def renews(self) -> None:
        consumer = self.bench.consumer(self.queue)
        self.bench.settle(consumer, self.bench.taken(consumer), Bury("error", "broken again"))
        self.bench.call("close the worker", consumer.close)

    def kicked(self, job: StoredJob, places: frozenset[str], why: str) -> None:
        if job is self.first and self.is_new:
            places, why = BURIED, "it was buried again after its kick, and that was asked for once"
        super().kicked(job, places, why)


class KickShownOnce(KickOnce):
    name = "kick_shown of a job that is buried again"

    def prepare(self) -> None:
        super().prepare()
        buried = need(self.adapter, Buried).buried
        self.first, self.second = cast("list[StoredJob]", self.works("buried", lambda: buried(self.queue)))

    def changes(self) -> None:
        need(self.adapter, Buried).kick_shown(self.first)


class DeleteOnce(_Once, DeleteOne):
    """Another job is stored under the id, before the adapter can know that the first one was deleted."""

    name = "delete of a job whose id comes again"
    needs: ClassVar[tuple[Need, ...]] = (Delete, COUNTS)

    def changes(self) -> None:
        DeleteOne.act(self)

    def is_done(self) -> bool:
        return self.bench.stats(self.queue).ready == 1  # of two

    def renews(self) -> None:
        again = self.bench.send(self.job(job_id=self.messages[0].id))
        self.ends(again, READY, "it was stored when another job of its id had been deleted", soon=True)


class DeleteShownOnce(DeleteOnce):
    name = "delete_shown of a job whose id comes again"
    needs = (Delete, COUNTS, Browse)

    def prepare(self) -> None:
        super().prepare()
        peek = need(self.adapter, Browse).peek
        found = cast("list[StoredJob]", self.works("peek", lambda: peek(self.queue, JobState.READY, 2)))
        (self.shown,) = [job for job in found if job.id == self.messages[0].id]

    def changes(self) -> None:
        need(self.adapter, Delete).delete_shown(self.shown)


ONCE: Final[tuple[type[Call], ...]] = (KickOnce, KickShownOnce, DeleteOnce, DeleteShownOnce)
