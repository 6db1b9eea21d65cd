"""Measures the suite: what part of the mutants of real adapters does it catch at the quick budget?

    python tests/conformance/measure.py [SUBJECT...] [--sample N] [--seed N] [--only TEXT] [--twice]

Breaks one rule after another in copies of the adapters: some by hand, and generated ones of every line.
Prints each mutant that survives, then how many were caught, by adapter and by clause. A survivor that is no
breach of the contract is listed in `equivalent_mutants.toml`, with the reason. Ends with 1 if others survive,
or if a listed one is caught.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from example_mutants import MUTANTS as OF_EXAMPLES
from postgres_mutants import MUTANTS as OF_POSTGRES
from redis_mutants import MUTANTS as OF_REDIS
from source_mutant import SourceMutant
from source_mutants import MUTANTS as OF_SHIPPED
from subjects import SUBJECTS, generated
from trial import HUNG, OPENING, PLANS, Failure, tried, tried_mutant

EQUIVALENT: Final = Path(__file__).with_name("equivalent_mutants.toml")


@attrs.frozen(kw_only=True)
class Trial:
    """One mutant to be tried."""

    #: `SUBJECT:...`, as in the list of equivalent ones.
    name: str
    subject: str
    run: Callable[[], list[Failure]] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Result:
    """How a mutant ended."""

    trial: Trial
    #: The first failure of each run; None: it survived.
    failures: tuple[Failure | None, ...]
    seconds: float

    @property
    def is_caught(self) -> bool:
        """Whether every run caught it."""
        return all(failure is not None for failure in self.failures)

    @property
    def is_steady(self) -> bool:
        """Whether all runs ended alike."""
        return len({failure is None for failure in self.failures}) == 1

    @property
    def clause(self) -> str:
        """The clause under which it is counted."""
        found = next(filter(None, self.failures), None)
        return (found.clause if found is not None else "") or "(no clause)"


def equivalents() -> dict[str, str]:
    """Return the listed names with their reasons."""
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {name: group["reason"] for group in listed.get("equivalent", []) for name in group["mutants"]}


def trials(subject: str) -> Iterator[Trial]:
    """Yield all mutants of an adapter, those by hand first."""
    for by_hand in (*OF_EXAMPLES, *OF_SHIPPED, *OF_POSTGRES, *OF_REDIS):
        if by_hand.adapter == subject:
            name = by_hand.name.replace(".", ":by hand: ", 1)
            yield Trial(name=name, subject=subject, run=partial(tried_by_hand, by_hand))
    for mutant in generated(SUBJECTS[subject]):
        run = partial(tried_mutant, SUBJECTS[subject], mutant)
        yield Trial(name=f"{subject}:{mutant.name}", subject=subject, run=run)


def tried_by_hand(mutant: SourceMutant) -> list[Failure]:
    """Run the suite on a mutant by hand."""
    return tried(SUBJECTS[mutant.adapter], mutant.package, *mutant.changed())


def sample(chosen: list[Trial], size: int | None, seed: int) -> list[Trial]:
    """Return so many of them, the same ones for the same seed, in their order."""
    if size is None or size >= len(chosen):
        return chosen
    places = sorted(random.Random(seed).sample(range(len(chosen)), size))
    return [chosen[place] for place in places]


def ended(trial: Trial, times: int) -> Result:
    """Try a mutant."""
    begun = time.monotonic()
    runs = [trial.run() for _ in range(times)]
    failures = tuple(run[0] if run else None for run in runs)
    return Result(trial=trial, failures=failures, seconds=time.monotonic() - begun)


def measured(chosen: Iterable[Trial], *, times: int, workers: int) -> Iterator[Result]:
    """Try mutants side by side; yields each when it has ended."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in as_completed([pool.submit(ended, trial, times) for trial in chosen]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def table(results: list[Result], listed: dict[str, str]) -> list[str]:
    """Return the lines that sum up, by adapter and by clause."""
    lines = ["", f"{'adapter':16}{'mutants':>9}{'equivalent':>12}{'caught':>8}{'survived':>10}{'':>10}"]
    judged = [result for result in results if result.trial.name not in listed]
    for subject in (*SUBJECTS, "all"):
        mine = [result for result in judged if subject in (result.trial.subject, "all")]
        equal = sum(1 for r in results if r.trial.name in listed and subject in (r.trial.subject, "all"))
        caught = sum(1 for result in mine if result.is_caught)
        if mine:
            part = f"{100 * caught / len(mine):.1f} %"
            whole = len(mine) + equal
            lines.append(f"{subject:16}{whole:9}{equal:12}{caught:8}{len(mine) - caught:10}{part:>10}")
    lines += ["", f"{'clause':16}{'caught':>8}{'survived':>10}"]
    counts = Counter((result.clause, result.is_caught) for result in judged)
    for clause in sorted(
        {clause for clause, _ in counts}, key=lambda name: (name[0] != "S", len(name), name)
    ):
        lines.append(f"{clause:16}{counts[clause, True]:8}{counts[clause, False]:10}")
    first = Counter(failure.case for result in judged for failure in result.failures if failure is not None)
    lines += ["", f"caught by generated plans alone: {first[PLANS]}, at opening: {first[OPENING]}"]
    lines[-1] += f", by a run that did not end: {first[HUNG]}"
    lines.append(f"ended in two ways: {sum(1 for result in results if not result.is_steady)}")
    return lines


def told(result: Result, listed: dict[str, str], *, show: bool) -> str | None:
    """Return the line about one mutant; None: there is nothing to be told."""
    name = result.trial.name
    if not result.is_steady:
        return f"two ways  {name}"
    if result.is_caught and name in listed:
        return f"caught, though listed as equivalent  {name}"
    if not result.is_caught and name not in listed:
        return f"survived  {name}"
    if show and result.failures[0] is not None:
        case = result.failures[0].case
        return f"caught    {name}  by {case} ({result.clause}) in {result.seconds:.1f} s"
    return None


def main(arguments: list[str]) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subjects", metavar="SUBJECT", nargs="*", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="try only N mutants of each adapter")
    parser.add_argument("--seed", type=int, default=0, help="which ones; default: 0")
    parser.add_argument("--only", metavar="TEXT", default="", help="only those with it in their names")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only those that survived in this output")
    parser.add_argument("--twice", action="store_true", help="try each two times")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time; default: 2")
    parser.add_argument("--show", action="store_true", help="print caught ones, too, and by what")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.subjects if name not in SUBJECTS]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(SUBJECTS)}")
    wanted: list[Trial] = []
    for subject in chosen.subjects or SUBJECTS:
        found = [trial for trial in trials(subject) if chosen.only in trial.name]
        if chosen.again is not None:
            lines = set(chosen.again.read_text(encoding="utf-8").splitlines())
            found = [trial for trial in found if f"survived  {trial.name}" in lines]
        wanted += sample(found, chosen.sample, chosen.seed)
    listed = equivalents()
    print(f"{len(wanted)} mutants", flush=True)
    results: list[Result] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    try:
        for result in measured(wanted, times=2 if chosen.twice else 1, workers=chosen.workers):
            results.append(result)
            if (line := told(result, listed, show=chosen.show)) is not None:
                print(line, flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {len(results)} of {len(wanted)}")
    print("\n".join(table(results, listed)))
    wrong = [result for result in results if result.is_caught == (result.trial.name in listed)]
    return 1 if wrong or len(results) < len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
