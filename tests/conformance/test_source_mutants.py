"""The suite bites real adapters: what the tables break in a copy is found, with its clause.

`make mutants` runs all of it; here every line is held against the code, and a few are run.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import example_mutants
import postgres_mutants
import redis_mutants
import source_mutants
from source_mutant import SourceMutant, telling
from subjects import SUBJECTS
from trial import tried

MUTANTS = (
    *(*example_mutants.MUTANTS, *source_mutants.MUTANTS),
    *(*postgres_mutants.MUTANTS, *redis_mutants.MUTANTS),
)
#: The priority comparison, the order among equals, the rounding of the delay, the lease check.
QUICK = (
    "memory.priority_reversed",
    "memory.lifo",
    "memory.delay_cut",
    "memory.lease_check_dropped",
    "memory.expired_dropped",
    "directory.first_queue_first",
)
by_name = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@by_name
def test_mutant_changes_one_place_of_the_source_as_it_is_now(mutant: SourceMutant) -> None:
    file, source = mutant.changed()
    if file.suffix == ".py":
        ast.parse(source)


def test_each_adapter_has_mutants_of_each_rule() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    rules = {(mutant.adapter, mutant.clause) for mutant in MUTANTS}
    shipped = ("memory", "sqlite", "beanstalk", "postgres", "redis")
    assert rules >= {(adapter, clause) for adapter in shipped for clause in ("S4", "S5", "S6", "S7")}
    adapters = (*shipped, "directory", "redis_scripts")
    assert rules >= {(adapter, clause) for adapter in adapters for clause in ("S4", "S6", "S7", "S9")}
    assert all(number >= 5 for number in Counter(adapter for adapter, _ in rules).values())


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in QUICK], ids=lambda mutant: mutant.name)
def test_mutant_fails_the_adapters_own_suite_with_its_clause_and_a_history(mutant: SourceMutant) -> None:
    failures = tried(SUBJECTS[mutant.adapter], mutant.package, *mutant.changed(), f"--naming={mutant.clause}")
    assert telling(mutant, failures), [failure.text for failure in failures] or "the mutant survives"
