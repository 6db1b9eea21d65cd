"""Mutants of the real adapters: a promise broken by hand in a copy of their source.

Each line changes a few characters of one function, wherever that stands. The changed copy of the package goes in front on `sys.path`, the
adapter's own conformance test runs in the quick budget, and it must fail, tell the clause, and show a history.

`python tests/conformance/source_mutants.py [NAME ...]` runs all of them, or those whose name begins so, and
prints what a reader would see. The adapters of the checkout are never touched.
"""

from __future__ import annotations

# ruff: noqa: E501  # source text, as it stands in the adapters
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).parents[2]
HISTORY: Final = "What happened, in seconds since the start:"
PLANS: Final = "model.any_plan"


@attrs.frozen
class SourceMutant:
    """One change of one file."""

    #: `memory.lifo`: the adapter whose suite must fail, and what is wrong.
    name: str
    #: The clause that a failing case must name.
    clause: str
    #: Package and symbol, as in `kessel_memory:Store.put`: a function, a method or a constant.
    place: str
    #: What to change, once in that symbol, and into what.
    old: str
    new: str
    #: How such a mistake comes about.
    why: str

    @property
    def adapter(self) -> str:
        return self.name.partition(".")[0]

    @property
    def package(self) -> Path:
        folder = self.place.partition(":")[0]
        home = ROOT if folder == "kessel_core" else ROOT / "plugins" / folder
        return home / folder

    def changed(self) -> tuple[Path, str]:
        """Return the file that holds the symbol, within the package, and its changed source.

        Raises:
            ValueError: The symbol, or the text in it, is not there exactly once: the table must follow the code.
        """
        symbol = self.place.partition(":")[2]
        found = []
        for file in sorted(self.package.rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            found += [(file, source, *lines) for name, lines in symbols(ast.parse(source)) if name == symbol]
        if len(found) != 1:
            raise ValueError(
                f"{self.name}: {symbol} is {len(found)} times in {self.package.name}, expected once"
            )
        file, source, first, last = found[0]
        lines = source.splitlines(keepends=True)
        text = "".join(lines[first:last])
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: its text is {count} times in {self.place}, expected once: {self.old!r}"
            )
        changed = [*lines[:first], text.replace(self.old, self.new), *lines[last:]]
        return file.relative_to(self.package), "".join(changed)


def symbols(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the functions, methods and constants of a module, each with its first line and the one after it."""
    for part in node.body:
        match part:
            case ast.ClassDef():
                yield from symbols(part, f"{prefix}{part.name}.")
            case ast.FunctionDef():
                yield prefix + part.name, (part.lineno - 1, part.end_lineno or 0)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield prefix + name, (part.lineno - 1, part.end_lineno or 0)


@attrs.frozen
class Failure:
    """A case that a mutant failed."""

    case: str
    text: str


_LEASE_OVER = (
    '            self._held = None\n            raise LeaseLost(reservation.id, "its lease is over")'
)

MUTANTS: Final = (
    # --- memory ---------------------------------------------------------------------------------
    SourceMutant(
        "memory.priority_reversed",
        "S6",
        "kessel_memory:Store.put",
        "heappush(queue.ready, (message.priority, number, job))",
        "heappush(queue.ready, (-message.priority, number, job))",
        "the heap of another library gives the largest first",
    ),
    SourceMutant(
        "memory.priority_ignored_across_queues",
        "S6",
        "kessel_memory:Store.take",
        "if ready and queue.paused_until is None and (best is None or ready[0] < best):",
        "if ready and queue.paused_until is None and best is None:",
        "the first queue that has a job is taken",
    ),
    SourceMutant(
        "memory.lifo",
        "S6",
        "kessel_memory:Store.put",
        "heappush(queue.ready, (message.priority, number, job))",
        "heappush(queue.ready, (message.priority, -number, job))",
        "the list of equals is used as a stack",
    ),
    SourceMutant(
        "memory.priority_lost_on_rollback",
        "S6",
        "kessel_memory:Timers.make_ready",
        "heappush(queue.ready, (job.message.priority, job.number, job))",
        "heappush(queue.ready, (65536, job.number, job))",
        "what comes back is put like something new, with the default",
    ),
    SourceMutant(
        "memory.delay_cut",
        "S4",
        "kessel_memory:Store.put",
        "self.delay(job, delay)",
        "self.delay(job, delay.replace(microsecond=0))",
        "a delay is cut to whole seconds",
    ),
    SourceMutant(
        "memory.due_early",
        "S4",
        "kessel_memory:Timers.tick",
        "entry[0] <= now:",
        "entry[0] <= now + timedelta(milliseconds=400):",
        "what is due soon is taken along",
    ),
    SourceMutant(
        "memory.retry_pause_cut",
        "S4",
        "kessel_memory:Store._roll_back",
        "due = self.clock.now() + pause",
        "due = self.clock.now() + timedelta(seconds=pause.seconds)",
        "`timedelta.seconds` is taken for the whole span",
    ),
    SourceMutant(
        "memory.snooze_counts",
        "S21",
        "kessel_memory:Store.settle",
        "job.attempt -= 1",
        "job.attempt -= 0",
        "a snooze is a rollback by another name",
    ),
    SourceMutant(
        "memory.lease_check_dropped",
        "S7",
        "kessel_memory:Store._held",
        "        if self.clock.monotonic() >= self.next_mono:\n            self.tick()\n        queue = self.queues.get(reservation.queue)",
        "        queue = self.queues.get(reservation.queue)",
        "a settle does not look at the time",
    ),
    SourceMutant(
        "memory.lease_endless",
        "S7",
        "kessel_memory:Timers.tick",
        "if job.deadline > over:",
        "if job.deadline > over - 1e9:",
        "leases never end, so the jobs of dead workers are lost",
    ),
    SourceMutant(
        "memory.lease_short",
        "S7",
        "kessel_memory:Store.take",
        "job.deadline = deadline = mono + self._lease",
        "job.deadline = deadline = mono + self._lease / 2",
        "leases end at half of what is declared",
    ),
    SourceMutant(
        "memory.extend_only_local",
        "S7",
        "kessel_memory:Store.extend",
        "job.deadline = reservation.deadline = self.clock.monotonic() + self._lease",
        "reservation.deadline = self.clock.monotonic() + self._lease",
        "the holder believes in a longer lease than the queue",
    ),
    SourceMutant(
        "memory.expired_dropped",
        "S5",
        "kessel_memory:Store.take",
        "        job = best[2]\n        queue = job.queue\n        heappop(queue.ready)\n",
        "        job = best[2]\n        queue = job.queue\n        heappop(queue.ready)\n"
        "        if job.message.expiration is not None and job.message.expiration <= self.clock.now():\n"
        "            self._forget(job)\n            return self.take(queues)\n",
        "an adapter that checks the expiration itself, and tells nobody",
    ),
    SourceMutant(
        "memory.pause_ignored",
        "S9",
        "kessel_memory:Store.take",
        "if ready and queue.paused_until is None and (best is None or ready[0] < best):",
        "if ready and (best is None or ready[0] < best):",
        "a paused queue goes on",
    ),
    SourceMutant(
        "memory.peek_shows_settled",
        "S9",
        "kessel_memory:first_entries",
        "        if entry[2].state is not None:\n            limit -= 1\n            yield entry[2]",
        "        limit -= 1\n        yield entry[2]",
        "a listing shows what is left of removed jobs",
    ),
    # --- the core's part, seen through an adapter's suite ---------------------------------------
    SourceMutant(
        "memory.core_expiry_check_turned",
        "S5",
        "kessel_core:Pipeline._refused",
        "if now >= job.expires_at:",
        "if now <= job.expires_at:",
        "a comparison the wrong way round",
    ),
    # --- sqlite ---------------------------------------------------------------------------------
    SourceMutant(
        "sqlite.priority_reversed",
        "S6",
        "kessel_sqlite:_NEXT_OF_ONE",
        '" ORDER BY priority, seq LIMIT 1"',
        '" ORDER BY priority DESC, seq LIMIT 1"',
        "in other queues the largest number goes first",
    ),
    SourceMutant(
        "sqlite.lifo",
        "S6",
        "kessel_sqlite:_NEXT_OF_ONE",
        '" ORDER BY priority, seq LIMIT 1"',
        '" ORDER BY priority, seq DESC LIMIT 1"',
        "the order of equals is turned round",
    ),
    SourceMutant(
        "sqlite.equals_by_id",
        "S6",
        "kessel_sqlite:_NEXT_OF_ONE",
        '" ORDER BY priority, seq LIMIT 1"',
        '" ORDER BY priority, id LIMIT 1"',
        "ids look as if they were in the order of time",
    ),
    SourceMutant(
        "sqlite.priority_ignored_across_queues",
        "S6",
        "kessel_sqlite:_NEXT_OF_MANY",
        '" ORDER BY j.priority, j.seq LIMIT 1"',
        '" ORDER BY j.seq LIMIT 1"',
        "the best of each queue, but not the best of those",
    ),
    SourceMutant(
        "sqlite.delay_cut",
        "S4",
        "kessel_sqlite:SqliteAdapter._row",
        "(due := microseconds(message.delay)) <= now",
        "(due := microseconds(message.delay) // 1_000_000 * 1_000_000) <= now",
        "a delay is cut to whole seconds",
    ),
    SourceMutant(
        "sqlite.due_early",
        "S4",
        "kessel_sqlite:Deliveries._claim_within",
        "due = (claim.name, now)",
        "due = (claim.name, now + 400_000)",
        "what is due soon is taken along",
    ),
    SourceMutant(
        "sqlite.retry_pause_cut",
        "S4",
        "kessel_sqlite:Deliveries._ready_after",
        "return DELAYED, after(self._host.now(), pause)",
        "return DELAYED, self._host.now() + pause.seconds * 1_000_000",
        "`timedelta.seconds` is taken for the whole span",
    ),
    SourceMutant(
        "sqlite.lease_check_dropped",
        "S7",
        "kessel_core:BaseConsumer._refuse_if_lost",
        "        if reservation.deadline is not None and self._clock.monotonic() >= reservation.deadline:\n"
        + _LEASE_OVER,
        "",
        "a settle trusts the row and does not look at the time",
    ),
    SourceMutant(
        "sqlite.not_fenced",
        "S7",
        "kessel_sqlite:COMMIT_JOB",
        'COMMIT_JOB: Final = f"DELETE FROM kessel_jobs {_HELD}"',
        'COMMIT_JOB: Final = "DELETE FROM kessel_jobs WHERE seq = ? AND ? <> 0"',
        "a commit removes the job under its next holder",
    ),
    SourceMutant(
        "sqlite.lease_long",
        "S7",
        "kessel_sqlite:Deliveries._claim_within",
        "now + self._lease_microseconds, token, *",
        "now + 2 * self._lease_microseconds, token, *",
        "the row's lease is longer than the one declared",
    ),
    SourceMutant(
        "sqlite.extend_only_local",
        "S7",
        "kessel_sqlite:EXTEND_JOB",
        'f"UPDATE kessel_jobs SET due = ? {_HELD}"',
        'f"UPDATE kessel_jobs SET due = max(due, 0 * ?) {_HELD}"',
        "the holder believes in a longer lease than the file",
    ),
    SourceMutant(
        "sqlite.attempts_stuck",
        "S10",
        "kessel_sqlite:_CLAIM",
        "attempts = attempts + 1",
        "attempts = 1",
        "a job that kills its worker loops for ever",
    ),
    SourceMutant(
        "sqlite.snooze_counts",
        "S21",
        "kessel_sqlite:SNOOZE_JOB",
        "attempts = attempts - 1, snoozes",
        "attempts = attempts, snoozes",
        "a snooze is a rollback that is counted twice",
    ),
    SourceMutant(
        "sqlite.kick_delayed",
        "S8",
        "kessel_sqlite:KICK",
        'f" WHERE id = ? AND queue = ? AND state = {BURIED}"',
        'f" WHERE id = ? AND queue = ? AND state IN ({DELAYED}, {BURIED})"',
        "kick means two things in some backends",
    ),
    SourceMutant(
        "sqlite.delete_reserved",
        "S9",
        "kessel_sqlite:DELETE",
        'f"DELETE FROM kessel_jobs WHERE id = ? AND queue = ? AND (state <> {RESERVED} OR due <= ?)"',
        '"DELETE FROM kessel_jobs WHERE id = ? AND queue = ? AND ? > 0"',
        "a delete does not look who holds the job",
    ),
    SourceMutant(
        "sqlite.expired_dropped",
        "S5",
        "kessel_sqlite:SqliteAdapter.enqueue",
        "        self.put(message)\n",
        "        if message.expiration is not None and message.expiration <= self.context.clock.now() + timedelta(seconds=1):\n"
        "            return\n        self.put(message)\n",
        "what expires soon is not worth storing, thinks the adapter",
    ),
    # --- beanstalkd: the server decides, so what the adapter sends is changed -------------------
    SourceMutant(
        "beanstalk.priority_not_sent",
        "S6",
        "kessel_beanstalk:Producer._command",
        "commands.put(message.body, message.priority, delay, self._ttr)",
        "commands.put(message.body, 65536, delay, self._ttr)",
        "the priority that most clients have by default",
    ),
    SourceMutant(
        "beanstalk.priority_reversed",
        "S6",
        "kessel_beanstalk:Producer._command",
        "commands.put(message.body, message.priority, delay, self._ttr)",
        "commands.put(message.body, MAX_NUMBER - message.priority, delay, self._ttr)",
        "a larger number is thought to be more urgent",
    ),
    SourceMutant(
        "beanstalk.delay_cut",
        "S4",
        "kessel_beanstalk:Producer._checked",
        "seconds = max(0, whole_seconds(message.delay - now))",
        "seconds = max(0, int((message.delay - now).total_seconds()))",
        "a delay is cut to whole seconds, as most clients do",
    ),
    SourceMutant(
        "beanstalk.rollback_other_priority",
        "S6",
        "kessel_beanstalk:Settling.roll_back",
        "answer = connection.ask(commands.release(held.server_id, stats.pri, _delay(pause)))",
        "answer = connection.ask(commands.release(held.server_id, 65536, _delay(pause)))",
        "the priority that most clients have by default",
    ),
    SourceMutant(
        "beanstalk.bury_other_priority",
        "S8",
        "kessel_beanstalk:Settling.bury",
        "commands.bury(held.server_id, stats.pri)",
        "commands.bury(held.server_id, 65536)",
        "the priority that most clients have by default",
    ),
    SourceMutant(
        "beanstalk.retry_pause_cut",
        "S4",
        "kessel_beanstalk:_delay",
        "return min(max(1, whole_seconds(pause)), MAX_NUMBER)",
        "return min(max(1, int(pause.total_seconds())), MAX_NUMBER)",
        "a pause is cut to whole seconds",
    ),
    SourceMutant(
        "beanstalk.rollback_puts_anew",
        "S6",
        "kessel_beanstalk:Settling.roll_back",
        "        answer = connection.ask(commands.release(held.server_id, stats.pri, _delay(pause)))\n",
        "        connection.use(stats.tube)\n        connection.ask(commands.put(held.body, stats.pri, _delay(pause), stats.ttr))\n        connection.ask(commands.delete(held.server_id))\n        answer = None\n",
        "a retry that is a new job goes behind its equals",
    ),
    SourceMutant(
        "beanstalk.snooze_without_record",
        "S21",
        "kessel_beanstalk:Settling.snooze",
        "            self._remove(connection, held.base.record_id)\n        self._side_tubes.was_released(held.body, stats, base)\n",
        "            base = held.base\n            self._remove(connection, record_id)\n        self._side_tubes.was_released(held.body, stats, base)\n",
        "the server counts a snooze as any delivery",
    ),
    SourceMutant(
        "beanstalk.snooze_forgets_attempts",
        "S21",
        "kessel_beanstalk:Record.of_snooze",
        "uncounted=base.uncounted + 1",
        "uncounted=stats.reserves",
        "a snooze forgets the attempts before it",
    ),
    SourceMutant(
        "beanstalk.give_back_counts",
        "S21",
        "kessel_beanstalk:BeanstalkAdapter.give_back",
        "reservation.settled_by(reservation, Snooze())",
        "reservation.settled_by(reservation, __import__('kessel_core.contract', fromlist=['_']).Rollback())",
        "a stop that outlasts its grace eats an attempt",
    ),
    SourceMutant(
        "beanstalk.holder_check_dropped",
        "S7",
        "kessel_beanstalk:BeanstalkConsumer._owned",
        "if held is None or held is not reservation:",
        "if held is None:",
        "an old reservation settles what the slot holds now",
    ),
    SourceMutant(
        "beanstalk.lease_check_dropped",
        "S7",
        "kessel_beanstalk:BeanstalkConsumer._owned",
        "if held.deadline is not None and self._clock.monotonic() >= held.deadline:",
        "if held.deadline is None:",
        "the server is trusted to end leases in time",
    ),
    SourceMutant(
        "beanstalk.deadline_beyond_lease",
        "S7",
        "kessel_beanstalk:BeanstalkReservation.learn",
        "self.deadline = self.started + stats.ttr",
        "self.deadline = self.started + 2 * stats.ttr",
        "the holder believes in a longer lease than the server",
    ),
    SourceMutant(
        "beanstalk.ttr_not_sent",
        "S7",
        "kessel_beanstalk:Producer.__init__",
        "self._ttr = shared.options.ttr_seconds",
        "self._ttr = 60",
        "the lease that most clients have by default",
    ),
    SourceMutant(
        "beanstalk.extend_only_local",
        "S7",
        "kessel_beanstalk:BeanstalkConsumer.extend",
        "is_held = connection.ask(commands.touch(held.server_id))",
        "is_held = True",
        "the holder believes in a longer lease than the server",
    ),
    SourceMutant(
        "beanstalk.attempts_guessed",
        "S10",
        "kessel_beanstalk:Base.attempt",
        "return max(1, reserves - self.uncounted)",
        "return 1",
        "the count of deliveries is not asked for",
    ),
    SourceMutant(
        "beanstalk.kick_delayed",
        "S8",
        "kessel_beanstalk:Operations.kick",
        "queue, job_id, (JobState.BURIED,))",
        "queue, job_id, (JobState.BURIED, JobState.DELAYED))",
        "kick means two things for beanstalkd",
    ),
    SourceMutant(
        "beanstalk.close_keeps",
        "S9",
        "kessel_beanstalk:BeanstalkConsumer.close",
        "                self._shared.suspects.add(held.server_id)\n            if connection is not None:\n                connection.close()\n",
        "                self._shared.suspects.add(held.server_id)\n            if connection is not None:\n                self._shared.suspects.leak = connection\n",
        "a connection that is not closed keeps its job reserved",
    ),
    SourceMutant(
        "beanstalk.expired_dropped",
        "S5",
        "kessel_beanstalk:Producer.put",
        "        delay = self._checked(message, self._clock.now() if message.delay is not None else None)\n        connection = self._connection()\n",
        "        delay = self._checked(message, self._clock.now() if message.delay is not None else None)\n        connection = self._connection()\n        if message.expiration is not None and (message.expiration - self._clock.now()).total_seconds() < 1:\n            return\n",
        "what expires soon is not worth sending, thinks the adapter",
    ),
)


def run(mutant: SourceMutant, *arguments: str, timeout: float = 170.0) -> list[Failure]:
    """Run the adapter's own conformance test on a changed copy; return what failed."""
    file, changed = mutant.changed()
    with tempfile.TemporaryDirectory(prefix="kessel-mutant-") as name:
        folder = Path(name)
        copy = folder / mutant.package.name
        shutil.copytree(mutant.package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / file).write_text(changed, encoding="utf-8")
        report = folder / "report.json"
        test = (
            ROOT / "plugins" / f"kessel_{mutant.adapter}" / "tests" / f"test_{mutant.adapter}_conformance.py"
        )
        command = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            str(test),
        ]
        command += ["--kessel-report", str(report), *arguments]
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(  # our own command
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode not in (0, 1) or not report.exists():
            raise RuntimeError(
                f"{mutant.name}: the run itself failed\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return [
        Failure(entry["id"], f"{entry['reason']}\n{entry['example'] or ''}")
        for entry in found["cases"]
        if entry["status"] == "fail"
    ]


def telling(mutant: SourceMutant, failures: list[Failure]) -> list[Failure]:
    """Return those failures that name the clause and show what happened; the clearest first."""
    good = [f for f in failures if f.text.startswith(f"{mutant.clause}: ") and HISTORY in f.text]
    return sorted(good, key=lambda failure: (failure.case == PLANS, len(failure.text)))


def main(prefixes: list[str]) -> int:
    chosen = [m for m in MUTANTS if not prefixes or any(m.name.startswith(prefix) for prefix in prefixes)]
    with ThreadPoolExecutor(2) as pool:
        runs = [(mutant, pool.submit(run, mutant)) for mutant in chosen]
        missed = []
        for mutant, future in runs:
            failures = future.result()
            good = telling(mutant, failures)
            missed += [] if good else [mutant.name]
            cases = ", ".join(failure.case for failure in failures) or "nothing"
            print(f"== {mutant.name} ({mutant.clause}): {mutant.why}\ncaught by {cases}", flush=True)
            shown = good[:1] + [failure for failure in good[1:] if failure.case == PLANS]
            for failure in shown or failures[:2]:
                print(f"\n{failure.case}\n{failure.text}", flush=True)
            print()
    print(f"{len(chosen)} mutants, {len(missed)} not told clearly{': ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
