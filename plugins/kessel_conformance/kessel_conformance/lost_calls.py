"""The calls that take a job, where their answers are lost: what they took is there again in time."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from kessel_conformance.call import Call
from kessel_conformance.job_calls import WAIT, Slot
from kessel_conformance.ledger import GONE, MAYBE
from kessel_conformance.requirements import ATTEMPTS
from kessel_core import AdapterError, AdapterUnavailable, LeaseLost
from kessel_core.contract import COMMIT, NO_PAUSE, Message, Reservation

__all__ = ["DONE_LATE", "TAKES", "UNCOUNTED"]


class _Back(Slot):
    """What a lost reserve took is there again, long before its lease is over; what another holds is not."""

    holds = False
    errors: ClassVar[tuple[type[AdapterError], ...]] = (AdapterUnavailable,)

    def apart(self) -> None:
        """Let a consumer of the case's own adapter hold a job of the queue, until `spared`."""
        self.stored()
        self.other = self.bench.consumer(self.queue)
        self.others = self.bench.taken(self.other, WAIT)

    def comes_back(self, *wanted: Message) -> Reservation:
        """Reserve what must be ready, or become so soon."""
        return self.takes(*wanted, wait=min(WAIT, self.bench.lease * 0.75))

    def spared(self) -> None:
        """Check that the other job is still held."""
        self.bench.settle(self.other, self.others)
        self.bench.call("close the other worker", self.other.close)
        message = next(job.message for job in self.jobs if job.message.body == self.others.body)
        self.ends(message, GONE, "it was committed")

    def failed(self, error: AdapterError) -> None:
        """Whether a job was taken shows when it comes back."""


class ReserveOne(_Back):
    name = "reserve with one job ready"

    def prepare(self) -> None:
        self.connected()
        self.apart()
        self.message = self.stored()
        self.held: Reservation | None = None

    def act(self) -> object:
        return self.consumer.reserve(NO_PAUSE)

    def returned(self, value: object) -> None:
        if value is None:
            self.broken("reserve says that nothing is ready")
        self.held = cast("Reservation", value)

    def again(self) -> None:
        self.commits(self.held or self.comes_back(self.message))
        self.spared()


class ReserveUncounted(ReserveOne):
    name = "reserve of a job that nobody hears of"
    needs = (ATTEMPTS,)

    def again(self) -> None:
        held = self.held = self.held or self.comes_back(self.message)
        attempt = self.works("attempt", lambda: self.consumer.attempt(held))
        if attempt != 1:
            self.broken(f"attempt says {attempt} of a job that nobody heard of before, expected 1")
        if held.snoozes or held.kicks:
            counted = f"{held.snoozes} snoozes and {held.kicks} kicks"
            self.broken(f"the reservation counts {counted} of a job that nobody snoozed or kicked")
        super().again()


class SettleAndReserveOne(_Back):
    name = "settle_and_reserve with one job ready"
    errors = (LeaseLost, AdapterUnavailable)

    def prepare(self) -> None:
        self.connected()
        self.apart()
        self.held = self.held_one()
        self.following: Reservation | None = None

    def act(self) -> object:
        return self.consumer.settle_and_reserve(self.held, COMMIT)

    def returned(self, value: object) -> None:
        self.ends(self.message, GONE, "settle_and_reserve returned")
        self.following = cast("Reservation | None", value)

    def failed(self, error: AdapterError) -> None:
        self.ends(self.message, MAYBE, "its settle was not answered, or refused")
        if isinstance(error, AdapterUnavailable):
            self.judge(self.asked(f"{self.name} again", self.act))

    def again(self) -> None:
        following = self.following or self.comes_back(self.message, self.next)
        self.commits(following)
        if following.body == self.message.body:
            self.commits(self.comes_back(self.next))
        self.spared()


class ReserveDoneLate(_Back):
    name = "reserve that is done late"

    def prepare(self) -> None:
        self.connected()

    def act(self) -> object:
        return self.consumer.reserve(NO_PAUSE)

    def returned(self, value: object) -> None:
        self.broken("reserve returned, although the server has not been asked yet")

    def again(self) -> None:
        found = self.works("reserve", lambda: self.consumer.reserve(NO_PAUSE))
        if found is not None:
            self.broken("reserve brought a job, although none is ready")
        message = self.stored()
        self.near.proxy.pass_held()  # now the first reserve takes it, for nobody
        self.commits(self.comes_back(message))


#: Those that take a job.
TAKES: Final[tuple[type[Call], ...]] = (ReserveOne, SettleAndReserveOne)
#: As before, and whether what was given back counts.
UNCOUNTED: Final[tuple[type[Call], ...]] = (ReserveUncounted,)
#: What the server does after its caller has given it up.
DONE_LATE: Final[tuple[type[Call], ...]] = (ReserveDoneLate,)
