"""The adapter: a directory with a subdirectory for each queue, and in it a file for each job.

lock                  locked by whoever reads or changes anything
number                the number of the job that was enqueued last
QUEUE/queue           the name of the queue, which may hold what a directory's name may not
QUEUE/....job         a job: its state is the name, see `Entry`; its content never changes
QUEUE/NUMBER.buried   why a job was buried
QUEUE/paused          when the pause of the queue ends, in microseconds since 1970

Longer than 350 lines, because an example is read from its beginning to its end.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

import attrs
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Attempts,
    BaseAdapter,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    EnqueueRejected,
    IdHeld,
    JobState,
    LeaseLost,
    LeaseReturn,
    Message,
    Pause,
    ProtocolError,
    QueueStats,
    Reach,
    Reservation,
    StoredJob,
    TieBreak,
    UnknownJob,
    VirtualTime,
)

from kessel_adapter_directory.entry import AT_ONCE, Entry, digest_of, moment, tick_of
from kessel_adapter_directory.plugin import DirectoryOptions

__all__ = ["DirectoryAdapter"]

GRANULE: Final = timedelta(microseconds=1)
#: Longest wait for the lock, in seconds of real time: every call has to end within 30.
PATIENCE: Final = 15.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_WAITING: Final = (JobState.READY, JobState.DELAYED, JobState.BURIED)


@attrs.define(eq=False)
class DirectoryReservation(Reservation):
    """Remembers the name of the file, which is this delivery's own."""

    entry: Entry = attrs.field(kw_only=True)


class DirectoryAdapter(Browse, Buried, Delete, Pause, VirtualTime, BaseAdapter):
    """Keeps each job in a file. Any number of threads and processes of one machine may use a directory."""

    name = "directory"

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        super().__init__(context)
        self._folder = options.path
        self._lease = options.lease
        with self._translated():
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "lock").touch()

    @property
    def capabilities(self) -> Capabilities:
        """What the suite proves. Files are not synced to the disk, so they survive processes and no more."""
        return Capabilities(
            reach=Reach.HOST,
            durability=Durability.PROCESS_CRASH,
            delay_granularity=GRANULE,
            priorities=(0, 4294967295),
            tie_break=TieBreak.ENQUEUED,
            lease=self._lease,
            lease_return=LeaseReturn.LEASE_END,
            fencing=True,
            attempts=Attempts.DURABLE,
            dedupe=True,
            counts=True,
        )

    # --- files -------------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of the file system into those of the contract; the only place that does."""
        try:
            yield
        except OSError as exc:
            raise AdapterUnavailable(f"{self._folder}: {exc.strerror or exc}") from exc
        except ValueError as exc:  # somebody else wrote into its files
            raise ProtocolError(f"{self._folder} holds what is no job: {exc!s:.200}") from exc

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Keep everybody else out, and give the time; the lock goes with the process that is killed."""
        # Opened each time: a lock belongs to the open file, so it keeps out threads and processes alike.
        with self._translated(), (self._folder / "lock").open("r+b") as lock:
            self._wait_for(lock)
            yield tick_of(self.clock.now())

    def _wait_for(self, lock: IO[bytes]) -> None:
        """Wait for the lock, but not for ever: who has it may have been stopped."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if time.monotonic() >= end:
                    raise AdapterUnavailable(f"{self._folder} is locked for {PATIENCE:g} s already") from exc
            time.sleep(0.001)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a whole file at once, or nothing; the caller holds the lock."""
        fresh = self._folder / "fresh"
        fresh.write_bytes(content)
        fresh.replace(path)

    def _home(self, queue: str) -> Path:
        """Return the directory of a queue: `a/b` is no path, and `A` and `a` may be one name to a disk."""
        return self._folder / hashlib.sha256(queue.encode()).hexdigest()[:32]

    def _homes(self) -> list[Path]:
        return [path.parent for path in self._folder.glob("*/queue")]

    def _entries(self, home: Path) -> list[Entry]:
        """Return the jobs of a queue, in the order of delivery."""
        names = os.listdir(home) if home.exists() else []
        return [entry for name in sorted(names) if (entry := Entry.named(name)) is not None]

    def _change(self, home: Path, entry: Entry, **changes: Any) -> Entry:
        """Rename a job's file."""
        changed = attrs.evolve(entry, **changes)
        (home / entry.name).rename(home / changed.name)
        return changed

    def _remove(self, home: Path, entry: Entry) -> None:
        (home / entry.name).unlink()
        (home / f"{entry.number}.buried").unlink(missing_ok=True)

    def _read(self, home: Path, entry: Entry) -> tuple[dict[str, Any], bytes]:
        head, _, body = (home / entry.name).read_bytes().partition(b"\n")
        return json.loads(head), body

    def _paused_until(self, home: Path) -> int:
        path = home / "paused"
        return int(path.read_text()) if path.exists() else 0

    # --- put and take ------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Store one job under the next number; an id that is still here, in any queue, is refused."""
        digest = digest_of(message.id)
        with self._locked() as now:
            for home in self._homes():
                for entry in self._entries(home):
                    if entry.digest == digest:
                        raise IdHeld(message.id, entry.state(now))
            due = tick_of(message.delay) if message.delay is not None else AT_ONCE
            head = {"id": message.id, "enqueued_at": now}
            home = self._home(message.queue)
            try:
                home.mkdir(exist_ok=True)
                if not (home / "queue").exists():
                    self._write(home / "queue", message.queue.encode())
                number = self._next_number()
                entry = Entry(message.priority, number, JobState.READY, due, 0, 0, 0, digest)
                self._write(home / entry.name, json.dumps(head).encode() + b"\n" + message.body)
            except OSError as exc:
                if exc.errno not in _FULL:
                    raise
                raise EnqueueRejected(message.id, f"{self._folder}: {exc.strerror}", "full") from exc

    def _next_number(self) -> int:
        path = self._folder / "number"
        number = int(path.read_text()) + 1 if path.exists() else 1
        self._write(path, str(number).encode())
        return number

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Hold the most urgent job that is ready, the oldest among equals."""
        begun = self.clock.monotonic()
        with self._locked() as now:
            ready = [
                (entry.priority, entry.number, entry, queue)
                for queue in queues
                if self._paused_until(self._home(queue)) <= now
                for entry in self._entries(self._home(queue))
                if entry.state(now) is JobState.READY
            ]
            if not ready:
                return None
            _, _, entry, queue = min(ready)
            head, body = self._read(self._home(queue), entry)
            entry = self._change(
                self._home(queue),
                entry,
                stored=JobState.RESERVED,
                tick=now + self._lease // GRANULE,
                attempts=entry.attempts + 1,
                delivery=entry.delivery + 1,
            )
        deadline = begun + self._lease.total_seconds()
        what = (head["id"], queue, body, entry.attempts, deadline, self._lease, entry.snoozes)
        return DirectoryReservation(*what, entry=entry)

    # --- settle ------------------------------------------------------------------------------

    @contextmanager
    def _held(self, reservation: Reservation) -> Iterator[tuple[int, Path, DirectoryReservation]]:
        """Lock, and make sure that this very delivery still holds its job."""
        assert isinstance(reservation, DirectoryReservation)
        with self._locked() as now:
            home, entry = self._home(reservation.queue), reservation.entry
            if entry.tick <= now or not (home / entry.name).exists():
                raise LeaseLost(reservation.id, "its lease ended, or the job was settled")
            yield now, home, reservation

    def commit(self, reservation: Reservation) -> None:
        """Remove the job."""
        with self._held(reservation) as (_, home, held):
            self._remove(home, held.entry)

    def release(self, reservation: Reservation, pause: timedelta, *, counts: bool) -> None:
        """Make the job ready again; a snooze does not count as an attempt."""
        with self._held(reservation) as (now, home, held):
            entry = held.entry
            change: dict[str, Any] = {"stored": JobState.READY, "tick": AT_ONCE}
            if pause:
                # The clock's now was rounded down, so a span that begins at it is lengthened: late, never early.
                change["tick"] = now + pause // GRANULE + 1
            if not counts:
                change |= {"attempts": entry.attempts - 1, "snoozes": entry.snoozes + 1}
            self._change(home, entry, **change)

    def bury(self, reservation: Reservation, reason: str, message: str) -> None:
        """Set the job aside, and write down why."""
        with self._held(reservation) as (now, home, held):
            why = json.dumps({"reason": reason, "message": message})
            self._write(home / f"{held.entry.number}.buried", why.encode())
            others = [e.tick for e in self._entries(home) if e.stored is JobState.BURIED]
            # Later than any other, so that the times give the order.
            tick = max([now, *(other + 1 for other in others)])
            self._change(home, held.entry, stored=JobState.BURIED, tick=tick)

    def renew(self, reservation: Reservation) -> None:
        """Give the job its full lease again, from now."""
        with self._held(reservation) as (now, home, held):
            held.entry = self._change(home, held.entry, tick=now + self._lease // GRANULE)

    # --- for operators -----------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of the queues that hold jobs."""
        with self._locked():
            return sorted((home / "queue").read_text() for home in self._homes() if self._entries(home))

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs by state."""
        home = self._home(queue)
        with self._locked() as now:
            left = max(0, self._paused_until(home) - now) * GRANULE
            states = [entry.state(now) for entry in self._entries(home)]
            return QueueStats.counted(queue, states, left or None)

    def purge(self, queue: str) -> int:
        """Remove everything that nobody holds."""
        home = self._home(queue)
        with self._locked() as now:
            gone = [entry for entry in self._entries(home) if entry.state(now) in _WAITING]
            for entry in gone:
                self._remove(home, entry)
            return len(gone)

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show jobs in a state: ready ones in the order of delivery, others by their times."""
        home = self._home(queue)
        with self._locked() as now:
            found = [entry for entry in self._entries(home) if entry.state(now) is state]
            if state is not JobState.READY:
                found.sort(key=lambda entry: entry.tick)
            return [self._shown(queue, home, entry, state) for entry in found[:limit]]

    def _shown(self, queue: str, home: Path, entry: Entry, state: JobState) -> StoredJob:
        head, body = self._read(home, entry)
        is_buried, waits = state is JobState.BURIED, state in (JobState.DELAYED, JobState.RESERVED)
        why = json.loads((home / f"{entry.number}.buried").read_bytes()) if is_buried else {}
        return StoredJob(
            id=head["id"],
            queue=queue,
            state=state,
            body=body,
            priority=entry.priority,
            attempt=entry.attempts,
            snoozes=entry.snoozes,
            enqueued_at=moment(head["enqueued_at"]),
            due=moment(entry.tick) if waits else None,
            buried_at=moment(entry.tick) if is_buried else None,
            handle=entry,
            **why,
        )

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Show what was set aside, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def _found(self, now: int, queue: str, job_id: str, states: Sequence[JobState]) -> Entry:
        for entry in self._entries(self._home(queue)):
            if entry.digest == digest_of(job_id) and entry.state(now) in states:
                return entry
        raise UnknownJob(job_id, queue)

    def _still(self, now: int, job: StoredJob, states: Sequence[JobState]) -> Entry:
        """Find a job that was shown: by the name that its file had, and only if that has changed by its id."""
        entry = job.handle
        assert isinstance(entry, Entry)
        if (self._home(job.queue) / entry.name).exists() and entry.state(now) in states:
            return entry
        return self._found(now, job.queue, job.id, states)

    def _kick(self, now: int, queue: str, entry: Entry) -> None:
        self._change(self._home(queue), entry, stored=JobState.READY, tick=AT_ONCE, attempts=0)

    def kick(self, queue: str, job_id: str) -> None:
        """Make a buried job ready; its attempts begin anew."""
        with self._locked() as now:
            self._kick(now, queue, self._found(now, queue, job_id, (JobState.BURIED,)))
        self.announce(queue)

    def kick_shown(self, job: StoredJob) -> None:
        """Do that without a search: of thousands of jobs each would read the directory."""
        with self._locked() as now:
            self._kick(now, job.queue, self._still(now, job, (JobState.BURIED,)))
        self.announce(job.queue)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that nobody holds."""
        with self._locked() as now:
            self._remove(self._home(queue), self._found(now, queue, job_id, _WAITING))

    def delete_shown(self, job: StoredJob) -> None:
        """Do that without a search; what was shown as buried must be so still."""
        states = (JobState.BURIED,) if job.state is JobState.BURIED else _WAITING
        with self._locked() as now:
            self._remove(self._home(job.queue), self._still(now, job, states))

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for a while; zero ends a pause."""
        home = self._home(queue)
        with self._locked() as now:
            (home / "paused").unlink(missing_ok=True)
            if duration > timedelta(0):
                home.mkdir(exist_ok=True)
                self._write(home / "paused", str(now + duration // GRANULE + 1).encode())
        self.line.wake()  # whoever waits plans anew

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        """Return when the next delay, lease or pause ends."""
        with self._locked() as now:
            ticks: list[int] = []
            for home in map(self._home, queues):
                waiting = [e.tick for e in self._entries(home) if e.stored is not JobState.BURIED]
                paused = self._paused_until(home)
                # Nothing comes before a pause is over, and something only if there is something.
                ticks += [max(tick, paused) for tick in waiting if max(tick, paused) > now]
        return moment(min(ticks)) if ticks else None
