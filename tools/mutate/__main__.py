"""Put small faults into kessel's own code, and see which of them a test notices.

`python tools/mutate [MODULE ...]`: modules or folders; default: all that production runs. `--record` runs the
tests first, to see which test runs which line; without it the last record is used. What is known of a fault
stays known until its function changes; `--again` forgets it. Tests that are newer than the record are asked,
too. `--changed` takes only lines that differ from the branch that this one goes into.

A fault that no test notices is a missing test, or cannot be noticed: then it stands with the reason in
`equivalent.toml`. The exit code is 1 if there is one that is neither; of changed lines they are only shown,
because whether a fault can be noticed is for people to say.

Why a tool of our own: mutmut 3.8 was tried. It writes all mutants of a function into its module, which tests
here read as source (one line of the log for each job, 350 lines a module, arguments of hooks), so its own
first run fails; and it changes functions only. cosmic-ray starts the tests anew for each mutant, all of them,
which would take days here. Neither leaves out a lock or a statement, the faults that matter most.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from typing import Final

from court import a_court
from cover import LEFT_BY_MAKE_TEST, RECORD, Cover, record
from faults import ROOT, Fault, faults_of
from results import Results

#: The most important ones first.
MODULES: Final = (
    *(f"kessel_core/{room}" for room in ("runtime", "client", "wire", "model", "contract", "features")),
    *(
        f"plugins/kessel_{name}/kessel_{name}"
        for name in ("sqlite", "beanstalk", "memory", "postgres", "redis")
    ),
    *(f"kessel_core/{room}" for room in ("handlers", "plugins", "config", "values", "testing", "cli")),
    "kessel_core/clock.py",
    "kessel_core/errors.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--changed", action="store_true", help="only lines that differ from the base branch")
    parser.add_argument("--record", action="store_true", help="run all tests first, to see what they run")
    parser.add_argument("--again", action="store_true", help="judge all faults again")
    parser.add_argument("--sample", type=int, help="only so many faults, the same ones each time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=30.0, help="for the tests of one fault")
    parser.add_argument("--tests", type=int, help="most tests for one fault, the likeliest; default: all")
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds for everything")
    options = parser.parse_args()
    end = time.monotonic() + options.within

    files = files_of(options.modules)
    if options.changed:
        lines = changed_lines()
        files = [file for file in files if file in lines]
    found = [fault for file in files for fault in faults_of(file)]
    if options.changed:
        found = [f for f in found if not lines[f.file].isdisjoint(range(f.lines[0], f.lines[1] + 1))]
    dice = random.Random(0)  # so that what is not judged in time, or not in the sample, is of all modules
    if options.sample is not None:
        found = dice.sample(found, min(options.sample, len(found)))
    if not found:
        print(
            "no line that a fault could be put into has changed" if options.changed else "there is no fault"
        )
        return 0
    records = [one for one in (RECORD, LEFT_BY_MAKE_TEST) if one.exists()]
    if options.changed and records:
        source = max(records, key=lambda one: one.stat().st_mtime)
    else:
        source = RECORD
        if options.record or not RECORD.exists():
            record(options.jobs)
    results = Results(again=options.again)
    todo = [fault for fault in found if results.verdict(fault) not in ("noticed", "equivalent")]
    if options.changed or options.sample is not None:
        dice.shuffle(todo)
    print(f"{len(found)} faults, {len(todo)} to be judged", flush=True)
    _judge_all(todo, Cover(source, todo, options.tests), results, options, end)
    total = results.report(found)
    return 1 if total["unnoticed"] and not options.changed else 0


def files_of(modules: list[str]) -> list[str]:
    """Return the modules in these folders, as paths from the root."""
    files: list[str] = []
    for name in modules:
        paths = sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / name]
        files += [path.relative_to(ROOT).as_posix() for path in paths]
    return files


def changed_lines() -> defaultdict[str, set[int]]:
    """Return the lines of each file that differ from the base.

    The base is `$BASE`, or where this branch left `main`, or on `main` itself the commit before.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    lines: defaultdict[str, set[int]] = defaultdict(set)
    base = os.environ.get("BASE")
    try:
        if not base:
            base = git("merge-base", "HEAD", "main")
            if base == git("rev-parse", "HEAD"):
                base = "HEAD~1"
        difference = git("diff", "--unified=0", "--no-prefix", base, "--", "*.py")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return lines  # no history to compare with
    file = ""
    for line in difference.splitlines():
        if line.startswith("+++ "):
            file = line.removeprefix("+++ ")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            lines[file].update(range(first, first + count))
    return lines


def _judge_all(
    todo: list[Fault], cover: Cover, results: Results, options: argparse.Namespace, end: float
) -> None:
    work: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in todo:
        work.put(fault)

    def judge() -> None:
        try:
            judge_some()
        except (RuntimeError, OSError):
            if time.monotonic() < end:
                raise  # else the judge was ended, and what it was about is not judged

    def judge_some() -> None:
        with a_court(cover.test_files, end) as court:
            while time.monotonic() < end:
                try:
                    fault = work.get_nowait()
                except queue.Empty:
                    return
                tests = cover.tests_of(fault, court.collected)
                if options.changed and not tests:
                    continue  # what runs only in programs that tests start is not in every record
                answer = court.judge(fault, tests, min(options.seconds, end - time.monotonic()))
                if answer["verdict"] == "noticed":
                    cover.noticed(fault, answer["by"])
                results.note(fault, answer)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workers = [threading.Thread(target=judge) for _ in range(min(options.jobs, len(todo)))]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(20)
                results.save()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once is enough
        with contextlib.suppress(queue.Empty):
            while True:  # what is being judged is judged to its end
                work.get_nowait()
        for worker in workers:
            worker.join()
    results.save()


if __name__ == "__main__":
    sys.exit(main())
