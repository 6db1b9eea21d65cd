"""The adapters whose mutants measure the suite: two as third parties write them, and those that kessel ships.

What is left out: plugins and options, which the suite sees once; `doctor`, whose findings are for people; and
what only other tests can see, such as the wake-up of other processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs
from mutation import Change, Mutant, named, python_mutants
from text_mutation import lua_mutants, script_mutants, sql_mutants
from trial import ROOT, Subject

__all__ = ["SUBJECTS", "generated"]


def _example(name: str, *files: str) -> Subject:
    package = f"kessel_adapter_{name}"
    home = ROOT / "examples" / package
    wiring = home / "tests" / f"test_{package}.py"
    return Subject(name=name, package=home / package, wiring=wiring, files=files)


def _shipped(name: str, *files: str) -> Subject:
    package = f"kessel_{name}"
    home = ROOT / "plugins" / package
    wiring = home / "tests" / f"test_{name}_conformance.py"
    return Subject(name=name, package=home / package, wiring=wiring, files=files)


def _engine(name: str, *files: str, without: Iterable[str]) -> Subject:
    """A shipped adapter of a server that stands while its mutants are tried."""
    wiring = Path(__file__).with_name(f"wired_{name}.py")
    return attrs.evolve(_shipped(name, *files), wiring=wiring, without=frozenset(without), standing=name)


SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        _example("directory", "adapter.py", "entry.py"),
        _example("redis_scripts", "adapter.py", "queue.lua", "server.py"),
        _shipped(
            "memory",
            *(
                "adapter.py",
                "consumer.py",
                "operations.py",
                "queue.py",
                "store.py",
                "timers.py",
                "waiting.py",
            ),
        ),
        _shipped("sqlite", "adapter.py", "consumer.py", "operations.py", "sql.py"),
        _shipped(
            "beanstalk",
            *("attempts.py", "commands.py", "consumer.py", "delivery.py", "operations.py", "producer.py"),
            *("records.py", "search.py", "settling.py", "sidetubes.py"),
        ),
        _engine(
            "postgres",
            *("adapter.py", "codec.py", "consumer.py", "database.py", "edge.py", "link.py"),
            *("operations.py", "sql.py", "v1.sql", "waiting.py"),
            # Entries and migrations, which have suites and tests of their own, and what a user calls by name.
            without=(
                *("entry_put_v1", "entry_delete_v1", "entry_sweep_v1", "PostgresAdapter.doctor"),
                *("PostgresAdapter.wake", "Poller.turn", "Poller.close", "not_connected", "not_installed"),
                *("PostgresAdapter.__init__", "Database._facts", "Database._checked"),
            ),
        ),
        _engine(
            "redis",
            *("adapter.py", "codec.py", "common.lua", "consumer.py", "database.py", "edge.py", "link.py"),
            *("operations.lua", "operations.py", "put.lua", "scripts.py", "step.lua", "telling.py"),
            "waiting.py",
            without=(
                *("get", "put", "remove", "scan", "entry", "version_of", "sweep", "to_entry"),
                *("RedisAdapter.doctor", "not_connected", "RedisAdapter.__init__", "Database._refuse"),
                *("Database._check_version", "Database.ask"),
            ),
        ),
    )
}


def generated(subject: Subject) -> Iterator[Mutant]:
    """Yield the generated mutants of an adapter, always the same ones in the same order."""
    for file in subject.files:
        source = (subject.package / file).read_text(encoding="utf-8")
        for changes in _changes(file, source):
            seen = (change for change in changes if change.symbol not in subject.without)
            yield from named(file, source, seen)


def _changes(file: str, source: str) -> Iterator[Iterator[Change]]:
    if file.endswith(".lua"):
        yield lua_mutants(source)
    elif file.endswith(".sql"):
        yield script_mutants(source)
    else:
        yield python_mutants(source)
        if "SELECT" in source:
            yield sql_mutants(source)
