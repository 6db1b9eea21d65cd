"""Mutants of the reference store: each breaks one promise in a way that stores really do."""

from __future__ import annotations

# whole sentences, as they stand on the page
import pickle
import sys
import threading
import time
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
import store_networked
from kessel_conformance import StoreHarness
from store_networked import Networked, NetworkedStoreHarness
from store_reference import CHANGED, POLL, Options, Reference, Row, Rows, harness_of, nap, spec_of
from wire import Lost

from kessel_core.contract import (
    AdapterUnavailable,
    Entry,
    StoreCapabilities,
    StoreConflict,
    StoreSpec,
    url_options,
)

__all__ = ["MUTANTS", "Mutant"]

MICRO = timedelta(microseconds=1)


@attrs.frozen(kw_only=True)
class Mutant:
    """A store with one fault."""

    name: str
    #: What it does, as it stands on the page.
    what: str
    #: The cases that notice it, each with the clause that it names.
    caught: dict[str, str]
    spec: StoreSpec
    #: Options of the store, such as the durability that it declares.
    options: dict[str, str] = attrs.field(factory=dict)
    #: Whether it is one behind a connection.
    is_networked: bool = False

    def harness(self) -> StoreHarness:
        """Return what opens it."""
        return (
            NetworkedStoreHarness(self.spec) if self.is_networked else harness_of(self.spec, **self.options)
        )


MUTANTS: dict[str, Mutant] = {}


def mutant(
    name: str,
    what: str,
    caught: dict[str, str],
    *,
    from_url: Callable[..., Any] = url_options,
    options: dict[str, str] | None = None,
    **methods: Any,
) -> None:
    spec = spec_of(type(name, (Reference,), methods), from_url)
    globals()[f"SPEC_{name}"] = spec  # so that other processes can import it
    MUTANTS[name] = Mutant(name=name, what=what, caught=caught, spec=spec, options=options or {})


DURABLE = {"durability": "process-crash"}
SHARED = {"reach": "host"}

# --- values, keys, spaces -----------------------------------------------------------------------


def _written_to_all(
    s: Reference, rows: Rows, space: str, key: str, value: bytes, ttl: Any, before: Any
) -> int:
    if ttl is None:
        rows.connection.execute("UPDATE entries SET ends = NULL WHERE key = ?", (key,))
    return Reference.write(s, rows, space, key, value, ttl, before)


mutant(
    "value_truncated",
    "cuts values at a zero byte",
    {"put.comes_back": "S19", "model.any_calls": "S19"},
    stored=lambda s, value, before: value.partition(b"\0")[0],
)
mutant(
    "value_decoded",
    "keeps values as text",
    {"put.comes_back": "S19"},
    stored=lambda s, value, before: value.decode(errors="replace").encode(),
)
mutant(
    "empty_is_none",
    "takes an empty value for none",
    {"put.comes_back": "S19", "model.any_calls": "S19"},
    shown=lambda s, row: Reference.shown(s, row) if row.value else None,
)
mutant(
    "value_cut",
    "cuts the last byte of the longest values",
    {"put.limit": "S19"},
    stored=lambda s, value, before: value[:69_999],
)
mutant(
    "limit_ignored",
    "takes values that are longer than it declares",
    {"put.limit": "S19"},
    put=lambda s, space, key, value, *, expect=None, ttl=None: s.put_entry(space, key, value, expect, ttl),
)
mutant(
    "stays_in_all_spaces",
    "lets a put without an end take the ends of all entries of that key, whatever their space",
    {"spaces.apart": "S19"},
    write=_written_to_all,
)
mutant(
    "value_kept",
    "keeps the first value of a key",
    {"put.replaces": "S19", "model.any_calls": "S19"},
    stored=lambda s, value, before: value if before is None else before.value,
)
mutant(
    "delete_says_yes",
    "says of everything that it was deleted",
    {"put.replaces": "S19", "model.any_calls": "S19"},
    delete_entry=lambda s, *call: Reference.delete_entry(s, *call) or True,
)
mutant(
    "keys_folded",
    "keeps keys in small letters",
    {"keys.any_text": "S19", "model.any_calls": "S19"},
    place=lambda s, space, key: (space, key.lower()),
)
mutant(
    "keys_normalised",
    "keeps keys in one form of Unicode",
    {"keys.any_text": "S19"},
    place=lambda s, space, key: (space, unicodedata.normalize("NFC", key)),
)
mutant(
    "keys_stripped",
    "strips blanks of keys",
    {"keys.any_text": "S19"},
    place=lambda s, space, key: (space, key.strip()),
)


def _named_as_asked(s: Reference, space: str, key: str) -> Entry | None:
    found = Reference.get_entry(s, space, key)
    return None if found is None else attrs.evolve(found, key=key)


def _scan_of_joined(s: Reference, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
    found = Reference.scan_entries(s, "all", f"{space}.{prefix}", "", 1000)
    named = [attrs.evolve(entry, key=entry.key[len(space) + 1 :]) for entry in found]
    return [entry for entry in named if entry.key > after][:limit]


mutant(
    "spaces_joined",
    "joins space and key with a dot",
    {"spaces.apart": "S19"},
    place=lambda s, space, key: ("all", f"{space}.{key}"),
    get_entry=_named_as_asked,
    scan_entries=_scan_of_joined,
)


def _unchecked(s: Reference, space: str | None, key: object = "", *others: object) -> None:
    """Check nothing."""


mutant(
    "arguments_taken", "takes any space, key and version", {"refused.odd_arguments": "S19"}, _check=_unchecked
)


def _another_limit(s: Any) -> StoreCapabilities:
    s.asked = getattr(s, "asked", 0) + 1
    return attrs.evolve(Reference.capabilities.fget(s), max_value_bytes=70_000 + s.asked)  # type: ignore[attr-defined]  # a property


mutant(
    "capabilities_change",
    "declares something else each time",
    {"capabilities.make_sense": "S17"},
    capabilities=property(_another_limit),
)
mutant(
    "options_ignored",
    "takes options that it does not know",
    {"options.unknown_refused": "S17"},
    from_url=lambda url: {k: v for k, v in url_options(url).items() if k in attrs.fields_dict(Options)},
)


def _raises(c: Any, patience: timedelta) -> None:
    if patience <= timedelta(0):
        raise ValueError("zero")


mutant(
    "senseless_taken",
    "takes a time-out of zero",
    {"options.senseless_refused": "S17"},
    sensible=classmethod(lambda c, patience: None),
)
mutant(
    "senseless_raises",
    "has its own error for a time-out of zero",
    {"options.senseless_refused": "S17"},
    sensible=classmethod(_raises),
)
mutant("closed_answers", "goes on after its close", {"store.closed": "S19"}, refuse_if_closed=lambda s: None)


def _shared_buffer(s: Any, space: str, key: str) -> Entry | None:
    s.buffer = Reference.get_entry(s, space, key)
    nap(0.0005)
    found: Entry | None = s.buffer
    return found


mutant(
    "threads_mixed",
    "gives one thread the answer of another",
    {"store.threads_share": "S19"},
    get_entry=_shared_buffer,
)


def _private(s: Any, options: Options, context: Any) -> None:
    Reference.__init__(
        s, attrs.evolve(options, path=f"{options.path}-{id(s)}-{time.monotonic_ns()}"), context
    )


mutant(
    "reach_private",
    "declares that others see its entries, which they do not",
    {"reach.is_shared": "S19"},
    options=SHARED,
    __init__=_private,
)

# --- compare and set (S19a) ---------------------------------------------------------------------


def _in_two_steps(
    s: Reference, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None
) -> int:
    with s.transaction() as rows:
        before = s.find(rows, space, key)
        if not s.is_expected(expect, before.version if before is not None else 0):
            raise s.conflict(space, key, before)
    nap(0.0002)  # somebody else writes meanwhile
    with s.transaction() as rows:
        version = s.write(rows, space, key, value, ttl, before)
    s.changed()
    return version


_OWN_LOCK = threading.Lock()


def _under_own_lock(s: Reference, *call: Any) -> int:
    with _OWN_LOCK:
        return _in_two_steps(s, *call)


def _conflict_that_writes(
    s: Reference, rows: Rows, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None
) -> int:
    before = s.find(rows, space, key)
    version = s.write(rows, space, key, value, ttl, before)
    if not s.is_expected(expect, before.version if before is not None else 0):
        rows.connection.execute("COMMIT")
        raise s.conflict(space, key, before)
    return version


def _delete_that_writes(s: Reference, space: str, key: str, expect: int | None) -> bool:
    with s.transaction() as rows:
        row = s.find(rows, space, key)
        if row is None:
            return False
        rows.remove(row)
        if expect is not None and expect != row.version:
            rows.connection.execute("COMMIT")
            raise s.conflict(space, key, row)
    s.changed()
    return True


def _delete_in_two_steps(s: Reference, space: str, key: str, expect: int | None) -> bool:
    entry = s.get_entry(space, key)
    if entry is None:
        return False
    if not s.may_delete(expect, entry.version):
        raise StoreConflict(space, key, entry.version, entry.value, entry.expires_at)
    nap(0.003)
    return Reference.delete_entry(s, space, key, None)


def _in_64_bits(s: Reference, expect: int | None, version: int) -> bool:
    if expect is not None and expect >= 2**63:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    return Reference.is_expected(s, expect, version)


def _of_those_left(s: Reference, rows: Rows, space: str, key: str) -> int:
    return 1 + max((row.version for row in rows.of(space)), default=0)


def _of_this_process(s: Any, rows: Rows, space: str, key: str) -> int:
    s.last = max(getattr(s, "last", 0), _of_those_left(s, rows, space, key) - 1) + 1
    return int(s.last)


mutant(
    "lost_update",
    "compares in one transaction, and writes in another",
    {"expect.threads_add": "S19a", "expect.one_wins": "S19a"},
    put_entry=_in_two_steps,
)
mutant(
    "lost_update_of_others",
    "keeps its own threads apart, but not other processes",
    {"expect.processes_add": "S19a"},
    options=SHARED,
    put_entry=_under_own_lock,
)
mutant(
    "delete_in_two_steps",
    "compares in one transaction, and deletes in another",
    {"expect.delete_or_put": "S19a"},
    delete_entry=_delete_in_two_steps,
)
mutant(
    "expect_ignored",
    "writes whatever version is there",
    {"expect.replaces_exactly": "S19a", "model.any_calls": "S19a"},
    is_expected=lambda s, expect, version: True,
)
mutant(
    "expect_older",
    "takes an older version for the expected one",
    {"expect.replaces_exactly": "S19a", "model.any_calls": "S19a"},
    is_expected=lambda s, expect, version: (
        expect is None or (expect <= version and bool(expect) == bool(version))
    ),
)
mutant(
    "conflict_writes",
    "says that there is a conflict, and writes all the same",
    {"expect.replaces_exactly": "S19a", "expect.nothing_there": "S19a", "model.any_calls": "S19a"},
    put_within=_conflict_that_writes,
)
mutant(
    "conflict_says_other",
    "says of a conflict what was expected, not what is there",
    {"expect.replaces_exactly": "S19a", "expect.makes_new": "S19a", "model.any_calls": "S19a"},
    conflict=lambda s, space, key, row: StoreConflict(space, key, 0 if row is None else row.version + 1),
)
mutant(
    "conflict_without_end",
    "does not say when what is there ends",
    {"expect.replaces_exactly": "S19a"},
    conflict=lambda s, space, key, row: (
        StoreConflict(space, key, row.version, row.value) if row else StoreConflict(space, key, 0)
    ),
)
mutant(
    "zero_is_none",
    "takes the version 0 for none",
    {"expect.makes_new": "S19a", "expect.one_wins": "S19a", "model.any_calls": "S19a"},
    is_expected=lambda s, expect, version: not expect or expect == version,
)
mutant(
    "missing_is_made",
    "makes an entry where another version was expected",
    {"expect.nothing_there": "S19a", "model.any_calls": "S19a"},
    is_expected=lambda s, expect, version: not version or Reference.is_expected(s, expect, version),
)
mutant(
    "expect_in_64_bits",
    "fails at a version of more than 64 bits",
    {"expect.replaces_exactly": "S19a", "expect.nothing_there": "S19a"},
    is_expected=_in_64_bits,
)
mutant(
    "delete_ignores_version",
    "deletes whatever version is there",
    {"delete.expected": "S19a", "model.any_calls": "S19a"},
    may_delete=lambda s, expect, version: True,
)
mutant(
    "delete_of_zero",
    "takes the version 0 for none when it deletes",
    {"delete.expected": "S19a"},
    may_delete=lambda s, expect, version: not expect or expect == version,
)
mutant(
    "delete_conflict_removes",
    "says that there is a conflict, and deletes all the same",
    {"delete.expected": "S19a", "model.any_calls": "S19a"},
    delete_entry=_delete_that_writes,
)
mutant(
    "version_reused",
    "counts versions from those that are left",
    {"version.grows": "S19a", "model.any_calls": "S19a"},
    next_version=_of_those_left,
)
mutant(
    "version_forgotten",
    "counts versions in its process",
    {"version.grows_on": "S19a", "model.any_calls": "S19a"},
    options=DURABLE,
    next_version=_of_this_process,
)

# --- ends (S19b) --------------------------------------------------------------------------------


def _ends(change: Callable[[datetime], datetime]) -> Callable[..., datetime | None]:
    def ends(s: Reference, ttl: timedelta | None, before: Row | None) -> datetime | None:
        found = Reference.ends(s, ttl, before)
        return None if found is None else change(found)

    return ends


def _over_if(shift: timedelta) -> Callable[..., bool]:
    return lambda s, row: row.ends is not None and row.ends + shift <= s.now()


def _wrapped(s: Reference, ttl: timedelta | None, before: Row | None) -> datetime | None:
    if ttl is not None:
        ttl = timedelta(seconds=ttl.total_seconds() % 2**31)
    return Reference.ends(s, ttl, before)


def _sweeps_too_much(s: Reference, rows: Rows, *call: Any) -> int:
    version = Reference.put_within(s, rows, *call)
    ended = [row for row in rows.of(call[0]) if s.is_over(row)]
    if len(ended) > 100:
        for row in rows.of(call[0])[:150]:  # a portion, of whatever comes first
            rows.remove(row)
    return version


def _timer(s: Any, row: Row) -> bool:
    """End an entry when the first end of its key has come."""
    first = s.__dict__.setdefault("first_ends", {})
    if row.ends is not None:
        first.setdefault((row.space, row.key), row.ends)
    end = first.get((row.space, row.key))
    if end is None or end > s.now():
        return Reference.is_over(s, row)
    return True


mutant(
    "early_seconds",
    "cuts ends to whole seconds",
    {"expiry.exact": "S19b", "model.any_calls": "S19b"},
    ends=_ends(lambda end: end.replace(microsecond=0)),
)
mutant(
    "early_by_a_microsecond",
    "ends an entry a microsecond early",
    {"expiry.exact": "S19b", "model.any_calls": "S19b"},
    is_over=_over_if(-MICRO),
)
mutant(
    "late_by_a_microsecond",
    "returns an entry at its end",
    {"expiry.exact": "S19b", "model.any_calls": "S19b"},
    is_over=_over_if(MICRO),
)
mutant(
    "late_by_a_second",
    "rounds ends up to whole seconds, and says so",
    {"expiry.exact": "S19b", "model.any_calls": "S19b"},
    ends=_ends(lambda end: end.replace(microsecond=0) + timedelta(seconds=1)),
)
mutant(
    "end_unsaid",
    "does not say when an entry ends",
    {"expiry.exact": "S19b"},
    shown=lambda s, row: Entry(row.key, row.version, row.value),
)
mutant(
    "scan_shows_ended",
    "returns ended entries in scans",
    {"expiry.exact": "S19b", "expiry.many": "S19b"},
    scan_entries=lambda s, *call: _scan_of_all(s, *call),
)
mutant(
    "ended_conflicts",
    "lets an ended entry stand in the way of a put",
    {"expiry.frees_the_key": "S19a"},
    put_within=lambda s, rows, space, key, value, expect, ttl: _put_before_ended(
        s, rows, space, key, value, expect, ttl
    ),
)
mutant(
    "end_kept",
    "keeps the end of the entry that is replaced",
    {"expiry.replaced": "S19b"},
    ends=lambda s, ttl, before: (
        Reference.ends(s, ttl, before) or (before.ends if before is not None else None)
    ),
)
mutant(
    "timer_of_the_old",
    "ends a new entry when the one before it would have ended",
    {"expiry.replaced": "S19b"},
    is_over=_timer,
)
mutant(
    "sweep_of_the_living",
    "removes a portion of whatever comes first once many have ended",
    {"expiry.many": "S19b"},
    put_within=_sweeps_too_much,
)
mutant(
    "end_wraps",
    "lets times beyond 68 years wrap round",
    {"expiry.extremes": "S19b"},
    ends=_wrapped,
)
mutant(
    "shortest_stays",
    "takes less than a millisecond for no time to live, that is for ever",
    {"expiry.extremes": "S19b"},
    ends=lambda s, ttl, before: (
        None if ttl is not None and ttl < timedelta(milliseconds=1) else Reference.ends(s, ttl, before)
    ),
)
mutant(
    "real_time",
    "ends entries by the machine's clock",
    {"expiry.by_the_clock": "S18", "expiry.exact": "S19b"},
    now=lambda s: datetime.now().astimezone(),
)
mutant(
    "monotonic_time",
    "ends entries by the monotonic clock",
    {"expiry.by_the_clock": "S19b"},
    is_over=lambda s, row: (
        row.ends is not None
        and s.__dict__.setdefault("begin", (s.clock.now(), s.clock.monotonic()))[0]
        + timedelta(seconds=s.clock.monotonic() - s.begin[1])
        >= row.ends
    ),
)

# --- what survives (S19c) -----------------------------------------------------------------------


def _written_later(s: Any, *call: Any) -> int:
    """Acknowledge a put, and write it with the next ones."""
    s.buffer = [*getattr(s, "buffer", ()), call]
    with s.transaction() as rows:
        version = rows.count()
    if len(s.buffer) >= 10:
        _flush(s)
    return int(version)


def _flush(s: Any) -> None:
    waiting, s.buffer = getattr(s, "buffer", []), []
    for call in waiting:
        Reference.put_entry(s, *call)


def _flush_and_close(s: Any) -> None:
    if not s.is_closed:
        _flush(s)
    Reference.close(s)


def _dies_with_the_server(s: Any) -> None:
    if s.__dict__.setdefault("started", Reference.restarts) != Reference.restarts:
        raise AdapterUnavailable("the connection is gone")
    Reference.refuse_if_closed(s)


def _empty_at_open(s: Any, options: Options, context: Any) -> None:
    Reference.__init__(s, options, context)
    with s.transaction() as rows:
        rows.connection.execute("UPDATE entries SET ends = NULL")


mutant(
    "ends_forgotten",
    "forgets ends when it is opened again",
    {"durable.reopened": "S19c", "model.any_calls": "S19"},
    options=DURABLE,
    __init__=_empty_at_open,
)
mutant(
    "written_later",
    "acknowledges puts before they are written",
    {"durable.killed": "S19c"},
    options=DURABLE,
    put_entry=_written_later,
    close=_flush_and_close,
)
mutant(
    "never_reconnects",
    "stays unusable after the server was restarted",
    {"durable.server_restart": "S19c"},
    options=DURABLE,
    refuse_if_closed=_dies_with_the_server,
)

# --- scans (S19d) -------------------------------------------------------------------------------


def _scan_of_all(s: Reference, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
    with s.transaction() as rows:
        wanted = [
            row for row in rows.of(space) if s.begins(row.key, prefix) and s.comes_after(row.key, after)
        ]
    entries = [s.shown(row) for row in sorted(wanted, key=lambda row: row.key)]
    return [entry for entry in entries if entry is not None][:limit]


def _put_before_ended(
    s: Reference, rows: Rows, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None
) -> int:
    before = next(iter(rows.of(space, key)), None)
    if not s.is_expected(expect, before.version if before is not None else 0):
        raise s.conflict(space, key, before)
    return s.write(rows, space, key, value, ttl, before)


def _like(s: Reference, key: str, prefix: str) -> bool:
    import re

    pattern = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in prefix)
    return re.match(pattern, key, re.S) is not None


def _by_position(s: Any, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
    """Count how many entries were returned, and skip as many."""
    seen = s.__dict__.setdefault("seen", {})
    everything = Reference.scan_entries(s, space, prefix, "", 1000)
    first = seen.get((threading.get_ident(), prefix, after), 0) if after else 0
    page = everything[first : first + limit]
    if page:
        seen[threading.get_ident(), prefix, page[-1].key] = first + len(page)
    return page


def _bounded(s: Reference, key: str, prefix: str) -> bool:
    """Compare with the prefix whose last character is the next one."""
    if not prefix:
        return True
    return prefix <= key < prefix[:-1] + chr(min(ord(prefix[-1]) + 1, 0x10FFFF))


def _noting_after(s: Any, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
    s.after = after
    return Reference.scan_entries(s, space, prefix, after, limit)


mutant(
    "order_of_words",
    "sorts as a dictionary does",
    {"scan.by_code_points": "S19d", "model.any_calls": "S19d"},
    order=lambda s, key: (unicodedata.normalize("NFD", key).casefold(), key),
)
mutant(
    "order_of_utf16",
    "sorts and compares as UTF-16 does",
    {"scan.by_code_points": "S19d", "model.any_calls": "S19d"},
    order=lambda s, key: key.encode("utf-16-be"),
    comes_after=lambda s, key, after: key.encode("utf-16-be") > after.encode("utf-16-be"),
)
mutant(
    "prefix_is_a_pattern",
    "takes a prefix as a pattern",
    {"scan.prefix_is_no_pattern": "S19d", "model.any_calls": "S19d"},
    begins=_like,
)
mutant(
    "prefix_of_the_last",
    "finds nothing that begins with the last character",
    {"scan.prefix_is_no_pattern": "S19d"},
    begins=_bounded,
)
mutant(
    "double_scan",
    "begins a page with the last entry of the one before",
    {"scan.pages": "S19d", "scan.by_code_points": "S19d", "model.any_calls": "S19d"},
    comes_after=lambda s, key, after: key >= after,
)
mutant(
    "after_forgets_prefix",
    "forgets the prefix after the first page",
    {"scan.pages": "S19d", "model.any_calls": "S19d"},
    scan_entries=lambda s, space, prefix, after, limit: Reference.scan_entries(
        s, space, "" if after else prefix, after, limit
    ),
)
mutant(
    "after_is_the_begin",
    "begins a scan after a key that is less than the prefix, and not with the prefix",
    {"scan.pages": "S19d"},
    begins=lambda s, key, prefix: key.startswith(prefix) or bool(s.after and key < prefix),
    scan_entries=_noting_after,
)
mutant(
    "scan_skips",
    "leaves the first entry of a later page out",
    {"scan.pages": "S19d", "scan.by_code_points": "S19d"},
    scan_entries=lambda s, space, prefix, after, limit: Reference.scan_entries(
        s, space, prefix, after, limit + 1
    )[bool(after) :][:limit],
)
mutant(
    "limit_doubled",
    "returns twice as many entries",
    {"scan.pages": "S19d", "model.any_calls": "S19d"},
    page=lambda s, entries, limit: entries[: 2 * limit],
)
mutant(
    "page_of_500",
    "returns at most 500 entries",
    {"scan.largest_page": "S19d"},
    page=lambda s, entries, limit: entries[: min(limit, 500)],
)
mutant(
    "scan_by_position",
    "pages by counting, while others write",
    {"scan.while_others_write": "S19d"},
    scan_entries=_by_position,
)

# --- waits (S19e) -------------------------------------------------------------------------------


def _only_after(s: Reference, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
    """Wait for the next change, whatever is there already."""
    there = s.get_entry(space, key)
    return Reference.wait_entry(s, space, key, there.version if there is not None else 0, timeout)


def _lost_wake_up(s: Reference, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
    end = s.clock.monotonic() + timeout.total_seconds()
    while True:
        entry = s.get_entry(space, key)
        left = end - s.clock.monotonic()
        if s.is_news(entry, seen) or left <= 0:
            return entry
        with CHANGED:  # a change that came since the look wakes nobody
            s.clock.wait(CHANGED, left)


def _ended_by_any(s: Reference, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
    with CHANGED:
        entry = s.get_entry(space, key)
        if not s.is_news(entry, seen) and timeout:
            s.clock.wait(CHANGED, timeout.total_seconds())
    return s.get_entry(space, key)


def _asleep(s: Reference, entry: Entry | None, left: float) -> None:
    s.clock.wait(CHANGED, left)


def _wakes_one(s: Reference) -> None:
    with CHANGED:
        CHANGED.notify(1)


#: Whether the key that a thread waits for is the one that it is told.
HEARD = threading.local()


def _deaf_to_close(s: Any) -> None:
    s.is_closed = True


mutant(
    "deaf_wait",
    "is woken by nobody",
    {"wait.put_and_delete": "S19e", "wait.no_lost_wake_up": "S19e"},
    changed=lambda s: None,
)
mutant(
    "deaf_to_deletes",
    "is not woken by a delete",
    {"wait.put_and_delete": "S19e"},
    delete_entry=lambda s, *call: _silent_delete(s, *call),
)
mutant(
    "sees_deletes_late",
    "is not woken by a delete, and looks again after some seconds",
    {"wait.put_and_delete": "S19e"},
    delete_entry=lambda s, *call: _silent_delete(s, *call),
    sleep=lambda s, entry, left: s.clock.wait(CHANGED, min(left, 1.8)),
)
mutant(
    "deaf_to_ends",
    "is not woken by the end of the entry",
    {"wait.end_of_entry": "S19e"},
    sleep=_asleep,
)
mutant(
    "deaf_to_processes",
    "is not woken by other processes",
    {"wait.other_process": "S19e"},
    options=SHARED,
    sleep=lambda s, entry, left: s.clock.wait(CHANGED, left),
)
mutant(
    "told_to_the_first_blank",
    "is woken by other processes for no key with a blank, at which it cuts what it is told",
    {"wait.other_process": "S19e"},
    options=SHARED,
    wait_entry=lambda s, space, key, *rest: (
        setattr(HEARD, "key", key.partition(" ")[0] == key),
        Reference.wait_entry(s, space, key, *rest),
    )[1],
    sleep=lambda s, entry, left: s.clock.wait(CHANGED, min(left, POLL) if HEARD.key else left),
)
mutant(
    "wakes_one",
    "wakes one of those who wait",
    {"wait.many": "S19e"},
    changed=_wakes_one,
)
mutant(
    "lost_wake_up",
    "sleeps through what came after its look",
    {"wait.no_lost_wake_up": "S19e"},
    wait_entry=_lost_wake_up,
)
mutant(
    "ended_by_any",
    "ends a wait at any write",
    {"wait.only_its_entry": "S19e"},
    wait_entry=_ended_by_any,
)
mutant(
    "waits_for_the_next",
    "misses what came before the wait",
    {"wait.already": "S19e"},
    wait_entry=_only_after,
)
mutant(
    "wait_impatient",
    "waits half the time",
    {"wait.times_out": "S19e"},
    wait_entry=lambda s, space, key, seen, timeout: Reference.wait_entry(s, space, key, seen, timeout / 2),
)
mutant(
    "wait_short",
    "waits five seconds at most",
    {"wait.times_out": "S19e"},
    wait_entry=lambda s, space, key, seen, timeout: Reference.wait_entry(
        s, space, key, seen, min(timeout, timedelta(seconds=5))
    ),
)
mutant(
    "wait_forgets",
    "returns nothing when the time is over",
    {"wait.times_out": "S19e", "model.any_calls": "S19e"},
    wait_entry=lambda s, space, key, seen, timeout: (
        lambda found: None if found is not None and found.version == seen else found
    )(Reference.wait_entry(s, space, key, seen, timeout)),
)
mutant(
    "deaf_to_close",
    "waits on after the close",
    {"wait.closed": "S19e"},
    close=_deaf_to_close,
)


def _silent_delete(s: Reference, space: str, key: str, expect: int | None) -> bool:
    with s.transaction() as rows:
        row = s.find(rows, space, key)
        if row is None:
            return False
        if not s.may_delete(expect, row.version):
            raise s.conflict(space, key, row)
        rows.remove(row)
    return True


# --- a connection that breaks ---------------------------------------------------------------------


def networked_mutant(name: str, what: str, case: str = "lost.write", **methods: Any) -> None:
    kind = type(name, (Networked,), methods)
    spec = store_networked.spec_of(kind)
    MUTANTS[name] = Mutant(name=name, what=what, caught={case: "S19"}, spec=spec, is_networked=True)


def _or(answer: Any) -> Callable[..., Any]:
    """Ask, and answer this if the connection is lost."""

    def mutated(store: Networked, name: str, *arguments: Any) -> Any:
        try:
            return store.asked(name, *arguments)
        except Lost:
            return answer

    return mutated


def _surely_not(store: Networked, name: str, *arguments: Any) -> Any:
    try:
        return store.asked(name, *arguments)
    except Lost as exc:
        raise AdapterUnavailable(str(exc)) from exc


def _again(store: Networked, name: str, *arguments: Any) -> Any:
    try:
        return store.asked(name, *arguments)
    except Lost:
        return Networked.written(store, name, *arguments)


def _not_closed(store: Networked) -> None:
    was_lost = any(peer.fileno() < 0 for peer in store.peers)
    Networked.close(store)
    if was_lost:
        raise OSError("not connected")


def _by_any(store: Networked, name: str, *arguments: Any) -> Any:
    """Ask on a connection that another thread may have used, as it is."""
    idle = store.__dict__.setdefault("idle", [])
    store.mine.peer = idle.pop() if idle else None
    try:
        return Networked.asked(store, name, *arguments)
    finally:
        if store.mine.peer is not None:
            idle.append(store.mine.peer)


networked_mutant(
    "garbled_unchanged",
    "lets the error of its decoder through",
    decoded=lambda s, answer: pickle.loads(answer),
)
networked_mutant("lost_write_believed", "says of a write that was lost that it was done", written=_or(1))
networked_mutant("lost_write_denied", "says of a write that was lost that it was not", written=_surely_not)
networked_mutant("lost_write_again", "sends a write again whose answer was lost", written=_again)
networked_mutant("lost_look_empty", "finds nothing where it reaches nobody", read=_or(None))
networked_mutant("lost_close", "fails at its close once a connection was lost", close=_not_closed)
networked_mutant("lost_for_ever", "keeps a connection that was lost", discard=lambda s: None)
networked_mutant(
    "lost_one_by_one",
    "keeps connections for all threads, and uses one that is taken from there as it is",
    "lost.all_connections_at_once",
    asked=_by_any,
)


def _ended_in_page(s: Reference, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
    with s.transaction() as rows:
        wanted = [row for row in rows.of(space) if row.key.startswith(prefix) and row.key > after]
    page = sorted(wanted, key=lambda row: row.key)[:limit]
    return [entry for row in page if not s.is_over(row) and (entry := s.shown(row)) is not None]


mutant(
    "page_of_ended",
    "counts entries whose time is over into a page",
    {"scan.past_ended": "S19d"},
    scan_entries=_ended_in_page,
)


def _lock_is_nothing(s: Reference, rows: Rows, space: str, key: str, *write: Any) -> int:
    before = s.find(rows, space, key)
    value, expect, ttl = write
    if expect == 0 and before is not None and before.ends is not None:
        expect = before.version
    return Reference.put_within(s, rows, space, key, value, expect, ttl)


def _lock_deleted(s: Reference, space: str, key: str, expect: int | None) -> bool:
    found = s.get_entry(space, key)
    is_lock = found is not None and found.expires_at is not None
    return Reference.delete_entry(s, space, key, None if is_lock else expect)


mutant(
    "lock_is_nothing",
    "takes an entry that will end for none, where none is expected",
    {"expect.of_what_ends": "S19a"},
    put_within=_lock_is_nothing,
)
mutant(
    "lock_deleted_by_all",
    "deletes an entry that will end, whatever version is expected",
    {"expect.of_what_ends": "S19a"},
    delete_entry=_lock_deleted,
)
