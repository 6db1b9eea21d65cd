"""Many seeds, one after the other; and of the one that fails, the least that still fails."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Final
from unittest import SkipTest

import attrs

from kessel_core.testing.simulation.history import Violation
from kessel_core.testing.simulation.seeds import Seed

__all__ = ["Totals", "for_each_seed", "record"]

#: How often a failure is run again to make it smaller.
_TRIES: Final = 60


@attrs.frozen
class Totals:
    """What many simulations came to."""

    #: How many seeds were run.
    seeds: int = 0
    #: Number of `jobs`, `runs` of handlers, `deaths`, `faults`, `jumps` and `stops`.
    counts: Counter[str] = attrs.Factory(Counter)
    #: How often each promise was checked, by clause.
    checks: Counter[str] = attrs.Factory(Counter)

    def __add__(self, other: Totals) -> Totals:
        counts, checks = Counter(self.counts), Counter(self.checks)
        counts.update(other.counts)  # `+` would leave out what is zero
        checks.update(other.checks)
        return Totals(self.seeds + other.seeds, counts, checks)

    def __str__(self) -> str:
        counts = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        checks = ", ".join(f"{clause} {number:,}" for clause, number in sorted(self.checks.items()))
        return (
            f"{self.seeds:,} seeds: {counts}; {sum(self.checks.values()):,} checks of "
            f"{len(self.checks)} promises ({checks})"
        )


@attrs.define
class _Run:
    """What the simulations of one run came to."""

    counts: Counter[str] = attrs.Factory(Counter)
    checks: Counter[str] = attrs.Factory(Counter)
    mishaps: set[int] = attrs.Factory(set)


_run: Final[ContextVar[_Run | None]] = ContextVar("kessel_simulations", default=None)


def record(counts: dict[str, int], checks: dict[str, int], mishaps: Iterable[int]) -> None:
    """Take note of a simulation that ends, for whoever runs many of them."""
    run = _run.get()
    if run is not None:
        run.counts.update(counts)
        run.checks.update(checks)
        run.mishaps.update(mishaps)


def for_each_seed(test: Callable[[Seed], object], seeds: Iterable[int | Seed]) -> Totals:
    """Run a test once for each seed; stop at the first failure, and make it small.

    The failing seed is run again and again with fewer and fewer of the deaths, faults, jumps and stops that
    it brings, as long as it fails in the same way. What is raised is the smallest failure: its notes tell
    the seed, the history, and how to run it again.

    Args:
        test: Runs `Simulation(..., seed=seed)` once; builds what its handlers change anew each time.
        seeds: Numbers, or what a failure has printed.

    Returns:
        What the simulations came to.

    Raises:
        BaseException: What the test raised, also by `pytest.fail`. What skips the test or ends all of them
            is no failure, and is raised at once.
        TypeError: `seeds` is a number.

    Example:
        >>> def ten_parcels(seed):
        ...     shipped = []
        ...     with Simulation({"ship": shipped.append}, seed=seed, deaths=0.01) as simulation:
        ...         simulation.manager.request_many([("ship", n) for n in range(10)])
        ...         simulation.run_until_idle()
        ...     assert set(shipped) == set(range(10))
        >>> for_each_seed(ten_parcels, range(5)).seeds
        5
    """
    if isinstance(seeds, int):
        raise TypeError(f"seeds must be several numbers, such as range({seeds}), got {seeds!r}")
    totals = Totals()
    for one in seeds:
        seed = one if isinstance(one, Seed) else Seed(one)
        run, error = _once(test, seed)
        totals += Totals(1, run.counts, run.checks)
        if error is not None:
            if isinstance(error, _no_failures()):
                raise error
            seed, error = _smaller(test, seed, run, error)
            name = getattr(test, "__qualname__", repr(test))
            error.add_note(f"seed {totals.seeds} of this run failed; to run it again: {name}({seed!r})")
            raise error
    return totals


def _once(test: Callable[[Seed], object], seed: Seed) -> tuple[_Run, BaseException | None]:
    run = _Run()
    token = _run.set(run)
    try:
        test(seed)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as exc:  # that of `pytest.fail` is no `Exception`
        return run, exc
    finally:
        _run.reset(token)
    return run, None


def _no_failures() -> tuple[type[BaseException], ...]:
    """Return what a test raises that does not fail."""
    pytest = sys.modules.get("pytest")  # not imported, because who does not use it may not have it
    if pytest is None:
        return (SkipTest,)
    return SkipTest, pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception


def _smaller(
    test: Callable[[Seed], object], seed: Seed, run: _Run, error: BaseException
) -> tuple[Seed, BaseException]:
    """Leave out what goes wrong, first all of it, then halves, and at last one by one."""
    places = sorted(run.mishaps)
    size, tries = len(places), 0
    if not places:
        return seed, error
    while size and tries < _TRIES:
        start = 0
        while start < len(places) and tries < _TRIES:
            tries += 1
            fewer = Seed(seed.number, only=[*places[:start], *places[start + size :]])
            again, found = _once(test, fewer)
            if found is not None and _kind(found) == _kind(error):
                seed, error, places = fewer, found, sorted(again.mishaps)
            else:
                start += size
        size = min(size // 2, len(places))
    return seed, error


def _kind(error: BaseException) -> tuple[type[BaseException], str]:
    return type(error), error.clause if isinstance(error, Violation) else ""
