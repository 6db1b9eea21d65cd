"""The adapters whose mutants measure the suite: two as third parties write them, and those that kessel ships.

What is left out: plugins and options, which the suite sees once; `doctor`, whose findings are for people; and
what only other tests can see, such as the wake-up of other processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mutation import Mutant, named, python_mutants
from text_mutation import lua_mutants, sql_mutants
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
    )
}


def generated(subject: Subject) -> Iterator[Mutant]:
    """Yield the generated mutants of an adapter, always the same ones in the same order."""
    for file in subject.files:
        source = (subject.package / file).read_text(encoding="utf-8")
        if file.endswith(".lua"):
            yield from named(file, source, lua_mutants(source))
            continue
        yield from named(file, source, python_mutants(source))
        if "SELECT" in source:
            yield from named(file, source, sql_mutants(source))
