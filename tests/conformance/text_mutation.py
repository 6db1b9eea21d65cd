"""Generates mutants of Lua and of SQL, by their text: numbers, comparisons, commands, names, whole lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from mutation import Change

__all__ = ["lua_mutants", "script_mutants", "sql_mutants"]

#: What stands for what; a match is taken whole, so that `<=` is not seen as `<`.
_LUA: Final[Mapping[str, tuple[str, ...]]] = {
    "<=": ("<", ">"),
    ">=": (">", "<"),
    "~=": ("==",),
    "==": ("~=",),
    "<": ("<=", ">="),
    ">": (">=", "<="),
    "+": ("-",),
    "-": ("+",),
    "*": ("+",),
    "and": ("or",),
    "or": ("and",),
    "not": ("",),
    "true": ("false",),
    "false": ("true",),
    "'ZADD'": ("'ZREM'",),
    "'ZREM'": ("'ZSCORE'",),
    "'HDEL'": ("'HGET'",),
    "'HSET'": ("'HSETNX'",),
    "'HGET'": ("'HEXISTS'",),
    "'SADD'": ("'SREM'",),
    "'DEL'": ("'EXISTS'",),
    "'INCR'": ("'DECR'",),
    "'ZRANGE'": ("'ZREVRANGE'",),
    "'ZCARD'": ("'EXISTS'",),
    "'-inf'": ("'+inf'", "0"),
    "'ready'": ("'waiting'", "'held'"),
    "'waiting'": ("'ready'", "'held'"),
    "'held'": ("'waiting'", "'buried'"),
    "'buried'": ("'ready'", "'held'"),
    "'priority'": ("'attempts'",),
    "'attempts'": ("'snoozes'",),
    "':attempts'": ("':snoozes'",),
    "':snoozes'": ("':attempts'",),
    "':delivery'": ("':attempts'",),
    "'delivery'": ("'attempts'",),
    "':reason'": ("':message'",),
    "math.max": ("math.min",),
    "READY": ("DELAYED", "HELD"),
    "DELAYED": ("READY", "HELD"),
    "HELD": ("DELAYED", "BURIED"),
    "BURIED": ("READY", "HELD"),
    "RECORDS": ("COUNTS",),
    "COUNTS": ("NOTES",),
    "NOTES": ("COUNTS",),
    "'ZPOPMIN'": ("'ZPOPMAX'",),
    "'SREM'": ("'SADD'",),
    "'PUBLISH'": ("'ECHO'",),
    "'commit'": ("'end'",),
    "'snooze'": ("'rollback'",),
}
_SQL: Final[Mapping[str, tuple[str, ...]]] = {
    "<=": ("<", ">"),
    ">=": (">", "<"),
    "<>": ("=",),
    "<": ("<=", ">="),
    ">": (">=", "<="),
    "+": ("-",),
    "-": ("+",),
    "AND": ("OR",),
    "OR": ("AND",),
    "DESC": ("ASC",),
    "priority, seq": ("seq, priority", "priority DESC, seq", "priority, seq DESC"),
    "due, seq": ("seq, due",),
    "min": ("max",),
    "max": ("min",),
    "READY": ("DELAYED",),
    "DELAYED": ("BURIED",),
    "RESERVED": ("DELAYED",),
    "BURIED": ("RESERVED",),
}
#: Of a file of statements and functions, beside these.
_SCRIPT: Final[Mapping[str, tuple[str, ...]]] = {
    **_SQL,
    "=": ("<>",),
    "SKIP LOCKED": ("",),
    "LIMIT most": ("",),
    "UNION ALL": ("UNION",),
    "IS NULL": ("IS NOT NULL",),
    "IS NOT NULL": ("IS NULL",),
    "NOT EXISTS": ("EXISTS",),
    "NOT FOUND": ("FOUND",),
    "greatest": ("least",),
    "least": ("greatest",),
    "true": ("false",),
    "false": ("true",),
    "NULL": ("'ready'",),
    "attempts": ("snoozes",),
    "snoozes": ("attempts",),
    "kicks": ("snoozes",),
    "held": ("timed",),
    "timed": ("held",),
    "buried": ("timed",),
}


def _pattern(words: Mapping[str, tuple[str, ...]]) -> re.Pattern[str]:
    longest = sorted(words, key=len, reverse=True)
    parts = [rf"\b{re.escape(word)}\b" if word[0].isalpha() else re.escape(word) for word in longest]
    return re.compile("|".join([*parts, r"(?<![\w.'])(?<!EXISTS \(SELECT )\d+(?![\w.'])"]))


_LUA_TOKEN: Final = _pattern(_LUA)
_SQL_TOKEN: Final = _pattern(_SQL)
_SCRIPT_TOKEN: Final = re.compile(f"(?!:=)(?<!:)(?:{_pattern(_SCRIPT).pattern})")
#: A whole statement in one line of a function.
_SCRIPT_STATEMENT: Final = re.compile(
    r"^ +(?:(?:INSERT|DELETE|UPDATE|PERFORM|RAISE|RETURN)\b|[\w.]+ :=)[^;]*;"
)
_SCRIPT_SYMBOL: Final = re.compile(r"CREATE (?:UNIQUE )?(?:FUNCTION|TABLE|INDEX) (?:__s__\.)?(\w+)")
#: A line that is a statement of its own.
_LUA_STATEMENT: Final = re.compile(
    r"^ +(redis\.call\(|table\.insert\(|place\(|make_ready\(|remove\(|catch_up\(|\w+ = "
    r"|count\(|set_counts\(|forget\(|tell\(|put_entry\(|look_again\().*$"
)
_LUA_BRANCH: Final = re.compile(r"(?<=\bif )(?P<test>[^\n]+?)(?= then\b)")
_LUA_SYMBOL: Final = re.compile(r"function (?:operations\.)?(\w+)\(")


def _replaced(
    words: Mapping[str, tuple[str, ...]], token: re.Pattern[str], text: str, offset: int, symbol: str
) -> Iterator[Change]:
    for found in token.finditer(text):
        old = found.group()
        others = words.get(old) or (str(int(old) + 1), str(int(old) - 1))
        for new in others:
            what = f"`{old}` to `{new or 'nothing'}` in `{text.strip()[:70]}`"
            yield Change(offset + found.start(), offset + found.end(), new, symbol, what)


def lua_mutants(source: str) -> Iterator[Change]:
    """Yield the changes of a script; comments stay."""
    offset, symbol = 0, ""
    for line in source.splitlines(keepends=True):
        code = re.sub(r"(^| )--.*$", lambda found: " " * len(found.group()), line.rstrip("\n"))
        if not line.startswith((" ", "}")):
            head = _LUA_SYMBOL.search(code)
            symbol = head[1] if head else ""
        if (statement := _LUA_STATEMENT.match(code)) is not None:
            start = offset + len(code) - len(code.lstrip())
            yield Change(start, offset + len(code), "", symbol, f"without `{statement.group().strip()[:80]}`")
        for branch in _LUA_BRANCH.finditer(code):
            what = f"`if {branch['test'][:70]}` turned round"
            yield Change(
                offset + branch.start(), offset + branch.end(), f"not ({branch['test']})", symbol, what
            )
        yield from _replaced(_LUA, _LUA_TOKEN, code, offset, symbol)
        offset += len(line)


def sql_mutants(source: str) -> Iterator[Change]:
    """Yield the changes of SQL in the strings of a module, each line by itself."""
    offset, symbol, is_inside = 0, "", False
    for line in source.splitlines(keepends=True):
        if (head := re.match(r"(\w+)(?:: Final[^=]*)? = |def (\w+)", line)) is not None:
            symbol = head[1] or head[2]
        if is_inside:  # a constant of several lines
            is_inside = '"""' not in line
            yield from _replaced(_SQL, _SQL_TOKEN, line.partition('"""')[0], offset, symbol)
        elif re.search(r'^\w+.* = f?"""$', line.rstrip()) is not None:
            is_inside = True
        else:
            code = line.partition("  # ")[0]
            for text in re.finditer(r'f?"[^"]*"', code):
                if re.search(r"[a-z] ?[<>=+]|ORDER BY|WHERE|SELECT|UPDATE|SET | AND ", text.group()):
                    yield from _replaced(_SQL, _SQL_TOKEN, text.group(), offset + text.start(), symbol)
        offset += len(line)


def script_mutants(source: str) -> Iterator[Change]:
    """Yield the changes of the functions in a file of SQL, each line by itself; comments stay."""
    offset, symbol = 0, ""
    for line in source.splitlines(keepends=True):
        code = line.rstrip("\n").partition("--")[0]
        if (head := _SCRIPT_SYMBOL.match(code)) is not None:
            symbol = head[1]
        if code.startswith(" ") and symbol.endswith("_v1"):
            if (statement := _SCRIPT_STATEMENT.match(code)) is not None:
                start, text = offset + len(code) - len(code.lstrip()), statement.group().strip()
                yield Change(start, start + len(text), "NULL;", symbol, f"without `{text[:80]}`")
            if " ALTER TABLE " not in code:
                yield from _replaced(_SCRIPT, _SCRIPT_TOKEN, code, offset, symbol)
        offset += len(line)
