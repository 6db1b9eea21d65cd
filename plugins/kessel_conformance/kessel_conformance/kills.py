"""A process that is killed at any point of its calls, and what has to be left of them."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, cast

from kessel_conformance.deeds import Deed, all_done
from kessel_conformance.dying import Death, Extent
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.faults import ANSWER_WITHIN, Apart, spread
from kessel_conformance.history import Violation
from kessel_conformance.ledger import BURIED, GONE, READY, Entry, Ledger
from kessel_conformance.requirements import DELAYS, PRIORITIES
from kessel_core.contract import COMMIT, Buried, Bury, Message, Reach, Rollback, Settlement, Snooze

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["deaths_in", "kill_at_any_point", "let_die"]

#: Of the large body; a page of a file, or a packet, is much shorter.
_LARGE: Final = 40_000
#: Kills before steps of an adapter of one process, which may read all of its files at each call.
_MOST_ALONE: Final = 50


def kill_at_any_point(bench: Bench) -> None:
    """Kill a process before steps of its calls, and right after each of these."""
    ledger, apart = Ledger(bench), Apart()
    most = bench.settings.amounts.kills
    if bench.capabilities.reach is Reach.PROCESS:
        most = min(most, _MOST_ALONE)
    with ExitStack() as stack:
        with _for_others(bench):
            elsewhere = stack.enter_context(Elsewhere(bench))
        for kind in filter(lambda kind: kind.is_for(bench), _LIVES):
            (whole,) = _begun(bench, [kind(bench, ledger, "whole")])
            with _for_others(bench):
                done, extent = let_die(bench, elsewhere, whole.deeds, Death())
            whole.ended(done, "after all of them")
            deaths = deaths_in(extent, most, kind.watched)
            lives = _begun(bench, [kind(bench, ledger, str(number)) for number in range(len(deaths))])
            with _for_others(bench):
                for life, death in zip(lives, deaths, strict=True):
                    done, _ = let_die(bench, elsewhere, life.deeds, death)
                    life.ended(done, str(death))
            # A lock that a dead process has left would stop everybody for ever; half of a queue, its users.
            made = [life.queue for life in lives if life.makes_its_queue]
            after = [bench.message(queue=queue) for queue in (bench.queue_named("after"), *made)]
            answer = apart.call(partial(_all_stored, bench, after))
            if answer is None or answer.error is not None:
                what = f"does not end within {ANSWER_WITHIN:g} s" if answer is None else repr(answer.error)
                lives[-1].broken(f"after processes were killed, enqueue {what}")
            ledger.entries += [Entry(message=message, broken=lives[-1].broken) for message in after]
    apart.close()
    ledger.settle_up(bench.now())


def _all_stored(bench: Bench, messages: Sequence[Message]) -> None:
    all_done(bench.adapter.enqueue_many(messages))


@contextmanager
def _for_others(bench: Bench) -> Iterator[None]:
    """Let another process have the jobs for a while: where only one may have them, this one closes."""
    with bench.closed() if bench.capabilities.reach is Reach.PROCESS else nullcontext():
        yield


def let_die(
    bench: Bench,
    elsewhere: Elsewhere,
    deeds: Sequence[Deed],
    death: Death,
    there: tuple[str, str] | None = None,
) -> tuple[int, Extent]:
    """Let a process do things until it is killed; as `Doings.die`."""
    begun, found, why = time.monotonic(), (0, Extent()), ""
    try:
        found = cast("tuple[int, Extent]", elsewhere.ask("die", deeds, death, there))
    except RuntimeError as exc:
        why = str(exc)
    if time.monotonic() - begun > ANSWER_WITHIN:
        why = f"one did not end within {ANSWER_WITHIN:g} s"
    if why:
        end = "is killed at its end" if death == Death() else f"is to be killed {death}"
        bench.history.add(f"a process makes {len(deeds)} calls, and {end}")
        bench.broken(f"after other processes were killed, {why}")
    return found


def deaths_in(extent: Extent, most: int, watched: Container[int] = ()) -> list[Death]:
    """Return when to kill a process whose deeds are so long: at steps, and at moves, of those watched."""
    deaths = [Death(after=number) for number in range(1, len(extent.steps))]
    for number, steps in enumerate(extent.steps, 1):
        if not watched or number in watched:
            moves = extent.moves[number - 1]
            chosen = {step + 1 for step in spread(steps, most)} | {
                moves[at] for at in spread(len(moves), most)
            }
            deaths += [Death(deed=number, step=step) for step in sorted(chosen)]
    return deaths + [Death(line=line + 1) for line in spread(extent.lines, max(2, most // 10))]


def _begun(bench: Bench, lives: list[_Life]) -> list[_Life]:
    """Enqueue what processes find when they begin."""
    waiting = [message for life in lives for message in life.waiting]
    if waiting:
        bench.call(f"enqueue {len(waiting)}", lambda: bench.adapter.enqueue_many(waiting))
    for life in lives:
        life.begin()
    return lives


class _Life:
    """What one process does."""

    name: ClassVar[str]
    #: In which of its deeds it is killed, beside right after each; empty: in all of them.
    watched: ClassVar[tuple[int, ...]] = ()
    #: Whether nobody has used its queue before.
    makes_its_queue: ClassVar[bool] = False

    def __init__(self, bench: Bench, ledger: Ledger, number: str) -> None:
        self.bench = bench
        self.ledger = ledger
        self.queue = bench.queue_named(f"{self.name}{number}")
        self.how = "it ended after its last call"
        #: Jobs that are there when it begins.
        self.waiting: list[Message] = []
        self.steps = list(self.all())

    @classmethod
    def is_for(cls, bench: Bench) -> bool:
        """Whether the adapter can do it."""
        return True

    def begin(self) -> None:
        """Do what comes before, when its jobs are there."""

    @property
    def deeds(self) -> list[Deed]:
        """What it does."""
        return [deed for deed, _ in self.steps]

    def all(self) -> Iterator[tuple[Deed, str]]:
        """Yield what it does, and how a person calls that."""
        raise NotImplementedError

    def job(self, body: bytes | None = None, *, queue: str = "", priority: int = 65536) -> Message:
        """Make a job that is looked for in the end."""
        message = self.bench.message(body, queue=queue or self.queue, priority=priority)
        self.ledger.entries.append(Entry(message=message, broken=self.broken, holds=True))
        return message

    def entry(self, message: Message) -> Entry:
        """Return the entry of a job."""
        return next(entry for entry in self.ledger.entries if entry.message is message)

    def ended(self, done: int, how: str) -> None:
        """Say where its jobs have to be after so many calls that it reported as done."""
        calls = ", ".join(what for _, what in self.steps[:done]) or "nothing"
        under_way = f"; under way: {self.steps[done][1]}" if done < len(self.steps) else ""
        self.how = f"killed {how}; done: {calls}{under_way}"
        self.judge(done)

    def judge(self, done: int) -> None:
        """Say where its jobs have to be."""
        raise NotImplementedError

    def is_in(self, message: Message, places: frozenset[str]) -> None:
        """Say where a job has to be."""
        entry = self.entry(message)
        entry.places, entry.why = places, f"a process was {self.how}"

    def broken(self, why: str) -> NoReturn:
        """Say that a promise was broken."""
        raise Violation(self.bench.clause, why, f"  a process was {self.how}")


class _Producer(_Life):
    """Enqueues a small job, a large one, and a batch for two queues."""

    name = "producer"
    makes_its_queue = True

    def all(self) -> Iterator[tuple[Deed, str]]:
        limit = self.bench.capabilities.max_body_bytes or _LARGE
        name = self.queue.encode() + b" "
        large = self.job(name * (min(limit, _LARGE) // len(name)))
        there = self.job(queue=f"{self.queue}-b")
        self.batches: list[tuple[Message, ...]] = [(self.job(),), (large,), (self.job(), there)]
        yield Deed(enqueues=self.batches[0]), "enqueue"
        yield Deed(enqueues=self.batches[1]), f"enqueue of {len(self.batches[1][0].body)} bytes"
        yield Deed(enqueues=self.batches[2]), "enqueue_many of 2, for two queues"

    def judge(self, done: int) -> None:
        for number, batch in enumerate(self.batches):
            for message in batch:
                self.is_in(message, READY if number < done else READY | GONE if number == done else GONE)


class _Worker(_Life):
    """Reserves a job and settles it."""

    settlement: ClassVar[Settlement]
    place: ClassVar[frozenset[str]]

    def all(self) -> Iterator[tuple[Deed, str]]:
        self.waiting.append(self.job())
        yield Deed(reserves=self.queue), "reserve"
        yield Deed(settles=self.settlement), self.name

    def judge(self, done: int) -> None:
        before = READY if done < 2 else frozenset[str]()
        self.is_in(self.waiting[0], before | (self.place if done >= 1 else frozenset[str]()))


class _Committer(_Worker):
    name = "commit"
    settlement = COMMIT
    place = GONE


class _Settler(_Worker):
    """Is not killed in the reserve, as a committer is."""

    watched = (2,)


class _Burier(_Settler):
    name = "bury"
    settlement = Bury("error", "broken")
    place = BURIED


class _Returner(_Settler):
    name = "rollback"
    settlement = Rollback()
    place = READY


class _Snoozer(_Settler):
    name = "snooze"
    settlement = Snooze()
    place = READY


class _Delayer(_Settler):
    """Rolls back with a pause that is over when the jobs are looked for."""

    name = "delay"
    settlement = Rollback(timedelta(milliseconds=1))
    place = READY

    @classmethod
    def is_for(cls, bench: Bench) -> bool:
        return DELAYS.is_met(bench.harness)


class _Busy(_Settler):
    """Commits one job and reserves the next one, which comes back."""

    name = "commit-and-reserve"

    @classmethod
    def is_for(cls, bench: Bench) -> bool:
        return PRIORITIES.is_met(bench.harness)

    def all(self) -> Iterator[tuple[Deed, str]]:
        self.waiting += [self.job(), self.job(priority=65537)]
        yield Deed(reserves=self.queue), "reserve"
        yield Deed(settles=COMMIT, and_reserves=True), "commit and reserve"

    def judge(self, done: int) -> None:
        first, second = self.waiting
        self.is_in(first, READY if done < 1 else READY | GONE if done < 2 else GONE)
        self.is_in(second, READY)


class _Kicker(_Life):
    """Kicks a job that is buried."""

    name = "kick"

    @classmethod
    def is_for(cls, bench: Bench) -> bool:
        return bench.has(Buried)

    def all(self) -> Iterator[tuple[Deed, str]]:
        self.waiting.append(self.job())
        yield Deed(kicks=(self.queue, self.waiting[0].id)), "kick"

    def begin(self) -> None:
        with closing(self.bench.adapter.consumer([self.queue])) as consumer:
            self.bench.settle(consumer, self.bench.taken(consumer), Bury("error", "broken"))

    def judge(self, done: int) -> None:
        self.is_in(self.waiting[0], READY if done else READY | BURIED)


_LIVES: Final[tuple[type[_Life], ...]] = (
    *(_Producer, _Committer, _Burier, _Returner, _Snoozer, _Delayer, _Busy, _Kicker),
)
