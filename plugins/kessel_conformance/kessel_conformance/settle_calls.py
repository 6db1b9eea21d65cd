"""The calls that settle a job, each with what its outcomes mean when the connection breaks."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from kessel_conformance.call import Call
from kessel_conformance.job_calls import WAIT, Slot
from kessel_conformance.ledger import BURIED, GONE, READY
from kessel_conformance.requirements import ATTEMPTS
from kessel_core import AdapterError, AdapterUnavailable, LeaseLost
from kessel_core.contract import COMMIT, Bury, Commit, Reservation, Rollback, Settlement, Snooze

__all__ = ["SETTLES"]


class _Settle(Slot):
    """A settlement of a held job."""

    settlement: ClassVar[Settlement]
    errors = (LeaseLost, AdapterUnavailable)

    def prepare(self) -> None:
        self.held = self.held_one()

    def act(self) -> object:
        return self.consumer.settle(self.held, self.settlement)

    def returned(self, value: object) -> None:
        why = f"settle with {type(self.settlement).__name__} returned"
        match self.settlement:
            case Commit():
                self.ends(self.message, GONE, why)
            case Bury():
                self.ends(self.message, BURIED, why)
            case _:
                counts = not isinstance(self.settlement, Snooze)
                knows = ATTEMPTS.is_met(self.bench.harness)
                self.ends(self.message, READY, why, soon=True, attempt=1 + counts if knows else None)

    def failed(self, error: AdapterError) -> None:
        if isinstance(error, AdapterUnavailable):
            # "The lease still holds; the caller should try again."
            answer = self.asked(f"{self.name} again", self.act)
            if isinstance(answer.error, AdapterUnavailable):
                self.broken(f"it must not fail again when nothing is broken any more: {answer.error}")
            self.judge(answer)
            return
        self.is_lost(self.name)
        settled = {Commit: GONE, Bury: BURIED}.get(type(self.settlement), READY)
        self.ends(self.message, READY | settled, "its settle was refused, and it is settled once at most")

    def again(self) -> None:
        self.goes_on()


class SettleCommit(_Settle):
    name = "commit"
    settlement = COMMIT


class SettleRollback(_Settle):
    name = "roll back"
    settlement = Rollback()


class SettleSnooze(_Settle):
    name = "snooze"
    settlement = Snooze()


class SettleBury(_Settle):
    name = "bury"
    settlement = Bury("error", "broken")


class SettleAndReserve(_Settle):
    name = "settle_and_reserve with a commit"
    settlement = COMMIT
    takes_next = True

    def act(self) -> object:
        return self.consumer.settle_and_reserve(self.held, COMMIT)

    def returned(self, value: object) -> None:
        super().returned(value)
        self.following = cast("Reservation | None", value)

    def again(self) -> None:
        following = getattr(self, "following", None)
        if following is not None:
            self.commits(following)
        first, self.next = self.next, self.stored()  # the first may be under a lease that nobody knows of
        self.commits(self.takes(self.message, first, self.next, wait=WAIT))


class SettleOtherwise(_Settle):
    """A commit, and a burial when nobody knows whether the job was committed."""

    name = "commit, or else bury"
    settlement = COMMIT

    def failed(self, error: AdapterError) -> None:
        if isinstance(error, LeaseLost):
            super().failed(error)
            return
        answer = self.asked("bury", lambda: self.consumer.settle(self.held, Bury("error", "broken")))
        if answer.error is None:
            self.ends(self.message, BURIED, "bury returned")
        elif isinstance(answer.error, LeaseLost):
            self.ends(self.message, READY | GONE, "bury was refused, and a commit before it was not answered")
        else:
            self.broken(f"nothing is broken any more, but bury raised {answer.error!r}", answer.error)


class GiveBack(_Settle):
    name = "give_back"
    settlement = Snooze()

    def act(self) -> object:
        return self.adapter.give_back(self.held)


SETTLES: Final[tuple[type[Call], ...]] = (
    SettleCommit,
    SettleRollback,
    SettleSnooze,
    SettleBury,
    SettleAndReserve,
    SettleOtherwise,
    GiveBack,
)
