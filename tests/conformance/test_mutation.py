"""Generated mutants are small, valid, told apart by name; those listed as equivalent are among them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from measure import equivalents, sample, trials
from mutation import named, python_mutants
from subjects import SUBJECTS, generated
from text_mutation import lua_mutants, script_mutants, sql_mutants

SOURCE = '''\
"""A module; 1 is not < 2."""

__all__ = ["f"]


def f(a: int, b: int = 3) -> int:
    """Compare."""
    assert a < 9
    if not a and b >= 1:
        raise ValueError(f"a is {a + 1}")
    with lock:
        self.total += g(a, b, key=b)
    return min(a, b)
'''

LUA = """\
-- 1 < 2
local function f(x)
  if x <= 1 and not is_in(x, 'held') then return redis.call('ZRANGE', x) end
  redis.call('ZADD', key, x) -- 3 > 2
end
"""


def whats(changes: object) -> list[str]:
    return [change.what for change in changes]  # type: ignore[attr-defined]


def test_a_module_is_changed_in_every_small_way_but_not_in_its_words() -> None:
    assert whats(python_mutants(SOURCE)) == [
        "`3` to `2`",
        "`3` to `4`",
        "`not a` to `bool(a)`",
        "`not a and b >= 1` to `((not a) or (b >= 1))`",
        "`b >= 1` to `b < 1`",
        "`b >= 1` to `b > 1`",
        "`1` to `0`",
        "`1` to `2`",
        'without `raise ValueError(f"a is {a + 1}")`',
        "without `with lock`",
        "without `self.total += g(a, b, key=b)`",
        "`g(a, b, key=b)` to its first argument",
        "`a` and `b` of `g` swapped",
        "`key=` of `g` left out",
        "`return min(a, b)` to `return None`",
        "`min` to `max`",
        "`min(a, b)` to its first argument",
        "`a` and `b` of `min` swapped",
    ]


def test_thorough_mutants_are_also_those_that_only_tests_of_the_inside_can_tell() -> None:
    source = (
        "def f(a, b):\n"
        "    if TYPE_CHECKING:\n"
        "        return\n"
        "    if a and b:\n"
        "        return\n"
        "    try:\n"
        "        c.notify_all()\n"
        "    except (KeyError, ValueError):\n"
        "        pass\n"
        "    except OSError:\n"
        "        pass\n"
    )
    assert whats(python_mutants(source, thorough=True)) == [
        "`a and b` to `((a))`",
        "`a and b` to `((b))`",
        "`a and b` to `False`",
        "`a and b` to `True`",
        "without `return`",
        "`c.notify_all` to `c.notify`",
        "without `c.notify_all()`",
        "`KeyError` not caught with `ValueError`",
        "`ValueError` not caught with `KeyError`",
        "`OSError` not caught",
    ]
    for change in python_mutants(source, thorough=True):
        ast.parse(source[: change.start] + change.text + source[change.end :])


def test_each_mutant_has_one_change_a_name_of_its_own_and_the_function_that_it_is_in() -> None:
    mutants = list(named("m.py", SOURCE, python_mutants(SOURCE)))
    assert (
        len({mutant.name for mutant in mutants}) == len({mutant.source for mutant in mutants}) == len(mutants)
    )
    assert all(mutant.name.startswith("m.py:f: ") for mutant in mutants)
    for mutant in mutants:
        changed = [
            (old, new)
            for old, new in zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True)
            if old != new
        ]
        assert len(changed) == 1, mutant.name


def test_a_script_is_changed_by_its_text_but_not_in_comments() -> None:
    found = whats(lua_mutants(LUA))
    line = "in `if x <= 1 and not is_in(x, 'held') then return redis.call('ZRANGE', x)`"
    assert found == [
        "`if x <= 1 and not is_in(x, 'held')` turned round",
        f"`<=` to `<` {line}",
        f"`<=` to `>` {line}",
        f"`1` to `2` {line}",
        f"`1` to `0` {line}",
        f"`and` to `or` {line}",
        f"`not` to `nothing` {line}",
        f"`'held'` to `'waiting'` {line}",
        f"`'held'` to `'buried'` {line}",
        f"`'ZRANGE'` to `'ZREVRANGE'` {line}",
        "without `redis.call('ZADD', key, x)`",
        "`'ZADD'` to `'ZREM'` in `redis.call('ZADD', key, x)`",
    ]


def test_sql_is_changed_in_strings_alone() -> None:
    source = 'NEXT: Final = "SELECT id WHERE due <= ? ORDER BY priority, seq LIMIT 1"\nn = 1 <= 2\n'
    changes = list(sql_mutants(source))
    assert {change.symbol for change in changes} == {"NEXT"}
    assert [change.text for change in changes] == [
        *("<", ">"),
        *("seq, priority", "priority DESC, seq", "priority, seq DESC"),
        *("2", "0"),
    ]


def test_sql_of_several_lines_is_changed_but_not_a_docstring() -> None:
    source = 'NEXT: Final = """\nSELECT id WHERE due <= now LIMIT 2"""\n\ndef f():\n    """\n  1\n    """\n'
    changes = list(sql_mutants(source))
    assert [(change.symbol, change.text) for change in changes] == [
        *(("NEXT", "<"), ("NEXT", ">")),
        *(("NEXT", "3"), ("NEXT", "1")),
    ]


SCRIPT = """\
CREATE TABLE __s__.held (seq bigint DEFAULT 0, token bigint);
CREATE FUNCTION __s__.end_v1(s bigint) RETURNS boolean AS $f$
DECLARE now_ timestamptz := clock_timestamp();
BEGIN
    DELETE FROM __s__.held WHERE seq = s;  -- of 3
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    n := 1;
END
$f$;
"""


def test_functions_of_a_script_of_sql_are_changed_but_not_their_comments_nor_tables() -> None:
    changes = list(script_mutants(SCRIPT))
    assert {change.symbol for change in changes} == {"end_v1"}
    assert [(SCRIPT[change.start : change.end], change.text) for change in changes] == [
        ("DELETE FROM __s__.held WHERE seq = s;", "NULL;"),
        ("held", "timed"),
        ("=", "<>"),
        ("NOT FOUND", "FOUND"),
        ("RETURN false;", "NULL;"),
        ("false", "true"),
        ("n := 1;", "NULL;"),
        ("1", "2"),
        ("1", "0"),
    ]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_generated_mutant_of_an_adapter_is_a_valid_module(subject: str) -> None:
    mutants = list(generated(SUBJECTS[subject]))
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 100
    for mutant in mutants[:: len(mutants) // 100]:  # all of them would take a minute
        if mutant.file.endswith(".py"):
            ast.parse(mutant.source)
        assert mutant.source != (SUBJECTS[subject].package / mutant.file).read_text("utf-8"), mutant.name


def test_each_mutant_listed_as_equivalent_exists_and_has_a_reason() -> None:
    names = {trial.name for subject in SUBJECTS for trial in trials(subject)}
    listed = equivalents()
    assert sorted(set(listed) - names) == [], "the code has changed: take them off the list, or look again"
    assert all(len(reason) > 20 for reason in listed.values())


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    found = list(trials("directory"))
    one, other = sample(found, 9, 1), sample(found, 9, 2)
    assert len(one) == 9 and one != other
    again = sample(list(trials("directory")), 9, 1)
    assert [trial.name for trial in one] == [trial.name for trial in again]
    assert sample(found, None, 1) == found
