"""A process that is killed at any point of its calls, and what has to be left of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, cast

from kessel_conformance.doings import Death, Deed
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.faults import ANSWER_WITHIN, Apart, spread
from kessel_conformance.history import Violation
from kessel_conformance.ledger import BURIED, GONE, READY, Entry, Ledger
from kessel_conformance.opencase import MICRO
from kessel_core.contract import COMMIT, Bury, Commit, Message, Reach, Rollback, Settlement

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["kill_at_any_point", "kill_while_it_brings"]

#: Of the large body; a page of a file, or a packet, is much shorter.
_LARGE: Final = 40_000
#: Kills before effects of an adapter of one process, which may read all of its files at each call.
_MOST_ALONE: Final = 50


def kill_at_any_point(bench: Bench) -> None:
    """Kill a process before lines of its code, before its effects, and right after its calls."""
    ledger, apart = Ledger(bench), Apart()
    most = bench.settings.amounts.kills
    if bench.capabilities.reach is Reach.PROCESS:
        most = min(most, _MOST_ALONE)
    with ExitStack() as stack:
        with _for_others(bench):
            elsewhere = stack.enter_context(Elsewhere(bench))
        for kind in _LIVES if bench.capabilities.delay_granularity is not None else _LIVES[:-1]:
            (whole,) = _begun(bench, [kind(bench, ledger, "whole")])
            with _for_others(bench):
                done, all_of_it = elsewhere.ask("die", whole.deeds, Death())
            whole.ended(done, "after all of them")
            deaths = _deaths(len(whole.deeds), all_of_it, most)
            lives = _begun(bench, [kind(bench, ledger, str(number)) for number in range(len(deaths))])
            with _for_others(bench):
                for life, death in zip(lives, deaths, strict=True):
                    done, _ = elsewhere.ask("die", life.deeds, death)
                    life.ended(done, str(death))
            # A lock that a dead process has left would stop everybody, for ever.
            after = bench.message(queue=bench.queue_named("after"))
            answer = apart.call(partial(bench.adapter.enqueue, after))
            if answer is None or answer.error is not None:
                what = f"does not end within {ANSWER_WITHIN:g} s" if answer is None else repr(answer.error)
                lives[-1].broken(f"after processes were killed, enqueue {what}")
            ledger.entries.append(Entry(message=after, broken=lives[-1].broken))
    apart.close()
    ledger.settle_up(bench.now())


def kill_while_it_brings(bench: Bench) -> None:
    """Kill a process in a commit that brings two jobs along: all of that is done, or nothing."""
    most = bench.settings.amounts.kills
    with Elsewhere(bench) as elsewhere:
        whole = _Bringer(bench, "whole")
        all_of_it = whole.lives(elsewhere, Death())
        lives = [whole]
        for number, death in enumerate(_deaths(len(whole.deeds), all_of_it, most)):
            lives.append(_Bringer(bench, str(number)))
            lives[-1].lives(elsewhere, death)
    bench.until(bench.now() + bench.lease + bench.slack + MICRO)
    for life in lives:
        life.judge()


@contextmanager
def _for_others(bench: Bench) -> Iterator[None]:
    """Let another process have the jobs for a while: where only one may have them, this one closes."""
    with bench.closed() if bench.capabilities.reach is Reach.PROCESS else nullcontext():
        yield


def _deaths(deeds: int, all_of_it: Death, most: int) -> list[Death]:
    """Return when to kill a process that does so many things, with so many lines and effects."""
    deaths = [Death(after=number) for number in range(1, deeds)]
    deaths += [Death(effect=number + 1) for number in spread(all_of_it.effect, most)]
    return deaths + [Death(line=number + 1) for number in spread(all_of_it.line, most // 3)]


def _begun(bench: Bench, lives: list[_Life]) -> list[_Life]:
    """Enqueue what processes find when they begin."""
    waiting = [message for life in lives for message in life.waiting]
    if waiting:
        bench.call(f"enqueue {len(waiting)}", lambda: bench.adapter.enqueue_many(waiting))
    return lives


class _Life:
    """What one process does."""

    name: ClassVar[str]

    def __init__(self, bench: Bench, ledger: Ledger, number: str) -> None:
        self.bench = bench
        self.ledger = ledger
        self.queue = bench.queue_named(f"{self.name}{number}")
        self.how = "it ended after its last call"
        #: Jobs that are there when it begins.
        self.waiting: list[Message] = []
        self.steps = list(self.all())

    @property
    def deeds(self) -> list[Deed]:
        """What it does."""
        return [deed for deed, _ in self.steps]

    def all(self) -> Iterator[tuple[Deed, str]]:
        """Yield what it does, and how a person calls that."""
        raise NotImplementedError

    def job(self, body: bytes | None = None) -> Message:
        """Make a job that is looked for in the end."""
        message = self.bench.message(body, queue=self.queue)
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
    """Enqueues a small job, a large one, and two in a batch."""

    name = "producer"

    def all(self) -> Iterator[tuple[Deed, str]]:
        limit = self.bench.capabilities.max_body_bytes or _LARGE
        name = self.queue.encode() + b" "
        large = self.job(name * (min(limit, _LARGE) // len(name)))
        self.batches: list[tuple[Message, ...]] = [(self.job(),), (large,), (self.job(), self.job())]
        yield Deed(enqueues=self.batches[0]), "enqueue"
        yield Deed(enqueues=self.batches[1]), f"enqueue of {len(self.batches[1][0].body)} bytes"
        yield Deed(enqueues=self.batches[2]), "enqueue_many of 2"

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


class _Burier(_Worker):
    name = "bury"
    settlement = Bury("error", "broken")
    place = BURIED


class _Returner(_Worker):
    name = "rollback"
    settlement = Rollback()
    place = READY


class _Delayer(_Worker):
    """Rolls back with a pause that is over when the jobs are looked for."""

    name = "delay"
    settlement = Rollback(timedelta(milliseconds=1))
    place = READY


class _Bringer:
    """Reserves a job, and commits it with two follow-ups."""

    def __init__(self, bench: Bench, number: str) -> None:
        self.bench = bench
        queue = bench.queue_named(f"bringer{number}")
        self.job, *self.brought = [bench.message(queue=queue) for _ in range(3)]
        self.deeds = [Deed(reserves=queue), Deed(settles=Commit(follow=tuple(self.brought)))]

    def lives(self, elsewhere: Elsewhere, death: Death) -> Death:
        """Let a process do it until it is killed; return what all of it takes."""
        self.bench.send(self.job)
        self.done, all_of_it = elsewhere.ask("die", self.deeds, death)
        self.how = "it ended after its last call" if death == Death() else f"killed {death}"
        return cast("Death", all_of_it)

    def judge(self) -> None:
        """Check that the job is there, or what it brings along, when the lease is over."""
        bench = self.bench
        came = sorted(bench.labels(bench.drain(bench.consumer(self.job.queue))))
        before = [bench.label(self.job.body)]
        after = sorted(bench.labels([message.body for message in self.brought]))
        allowed = [after] if self.done == len(self.deeds) else [before, after]
        expected = " or ".join(map(", ".join, allowed))
        what = f"{', '.join(came) or 'nothing'} came, expected {expected}"
        bench.check(came in allowed, f"{what}: a process committed a job that brings along two, {self.how}")


#: The last one is for adapters with delays.
_LIVES: Final[tuple[type[_Life], ...]] = (_Producer, _Committer, _Burier, _Returner, _Delayer)
