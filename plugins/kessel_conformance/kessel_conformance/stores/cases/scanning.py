"""A scan returns what is there, each once, by key (S19d)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from typing import Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.stores.bench import LARGEST_PAGE, StoreBench
from kessel_core import KesselError

case = STORES.case

_SHORT: Final = timedelta(milliseconds=300)

#: Sorted by code points; other orders, of UTF-16, of words, without case or accents, differ.
ORDER: Final = (
    "\x01", " ", "!", "-", "0", "1", "10", "2", "A", "AB", "Z", "_", "a", "a b", "aB", "ab", "a\u0301", "b",
    "z", "\x7f", "\x80", "ß", "à", "é", "\u0301", "Ω", "\ud7ff", "\ue000", "\ufeff", "\uffff", "\U00010000",
    "\U0001f600", "\U0010ffff",
)  # fmt: skip
#: Prefixes that mean something else to careless code, and the keys that begin so.
PATTERNS: Final = (
    "%",
    "_",
    "*",
    "?",
    "[a]",
    "a.c",
    "^a",
    "a$",
    "\\",
    "'",
    '"',
    "a|b",
    "(a",
    "a\U0010ffff",
    "a\ud7ff",
    "\U0010ffff",
)


def _fill(bench: StoreBench, keys: tuple[str, ...] | list[str]) -> None:
    """Put entries in an order that says nothing."""
    for key in bench.random.sample(list(keys), len(keys)):
        bench.put(key, key.encode())


@case(
    "scan.by_code_points",
    "S19d",
    why="Databases sort text by language, without case, or in UTF-16; then pages skip keys.",
)
def by_code_points(bench: StoreBench) -> None:
    _fill(bench, ORDER)
    for limit in (1, 2, 7, 100):
        keys = [entry.key for entry in bench.pages(limit=limit)]
        bench.equal(keys, list(ORDER), f"keys in pages of {limit}")
    bench.check(
        all(entry.value == entry.key.encode() for entry in bench.pages()), "a scan mixes up the values"
    )
    for index, key in enumerate(ORDER):
        page = bench.scan(after=key, limit=3)
        bench.equal(
            [entry.key for entry in page], list(ORDER[index + 1 : index + 4]), f"what comes after {key!r}"
        )


@case("scan.pages", "S19d", why="The edges of pages are where entries get lost or returned twice.")
def pages(bench: StoreBench) -> None:
    keys = [f"{letter}{number}" for letter in "abc" for number in range(5)]
    _fill(bench, keys)
    bench.put("a1", b"elsewhere", space=bench.space_named("beside"))
    for limit in (1, 4, 5, 14, 15, 16):
        bench.equal([entry.key for entry in bench.pages(limit=limit)], keys, f"keys in pages of {limit}")
    for prefix, after, expected in (
        ("b", "", keys[5:10]),
        ("b", "a1", keys[5:10]),
        ("b", "a4", keys[5:10]),
        ("b", "b", keys[5:10]),
        ("b", "b2", keys[8:10]),
        ("b", "b22", keys[8:10]),
        ("b", "b4", []),
        ("b", "c", []),
        ("", "b2", keys[8:]),
        ("", "c4", []),
        ("d", "", []),
        ("b2", "", ["b2"]),
        ("b2", "b2", []),
        ("b22", "", []),
    ):
        found = [entry.key for entry in bench.scan(prefix, after)]
        bench.equal(found, expected, f"keys that begin with {prefix!r} and come after {after!r}")
        bench.equal(
            [entry.key for entry in bench.scan(prefix, after, 1)],
            expected[:1],
            f"the first of those, {prefix!r} and {after!r}",
        )


@case(
    "scan.prefix_is_no_pattern", "S19d", why="A prefix that is taken as a pattern returns entries of others."
)
def prefix_is_no_pattern(bench: StoreBench) -> None:
    keys = sorted(
        {text for prefix in PATTERNS for text in (prefix, prefix + "x", prefix + "\U0010ffff")}
        | {"a", "abc", "x", "A", "b"}
    )
    _fill(bench, keys)
    for prefix in (*PATTERNS, "a", "A", "ab", "x" * 300):
        found = [entry.key for entry in bench.pages(prefix, 3)]
        bench.equal(
            found, [key for key in keys if key.startswith(prefix)], f"keys that begin with {prefix!r}"
        )


@case("scan.largest_page", "S19d", why="A page that is cut silently looks like the last one.")
def largest_page(bench: StoreBench) -> None:
    keys = [f"{number:04}" for number in range(LARGEST_PAGE + 1)]
    for key in keys:
        bench.store.put(bench.space, key, b"")
    bench.history.add(f"{len(keys)} entries are put")
    page = bench.scan(limit=LARGEST_PAGE)
    bench.equal(len(page), LARGEST_PAGE, "entries of the largest page")
    bench.equal([entry.key for entry in bench.pages(limit=LARGEST_PAGE)], keys, "keys in the largest pages")
    bench.equal(len(bench.scan()), 100, "entries of a page if no limit is given")


@case(
    "scan.while_others_write",
    "S19d",
    why="A scan by position skips or doubles entries when others come and go before it.",
)
def while_others_write(bench: StoreBench) -> None:
    stay = [f"{number:03}" for number in range(0, 100, 2)]
    _fill(bench, stay)
    scanned: list[list[str]] = []
    is_over = False

    def write() -> None:
        number = 0
        while not is_over:
            key = f"{(number * 37) % 100 | 1:03}"  # between those that stay
            bench.store.put(bench.space, key, b"comes")
            bench.store.put(bench.space, stay[number % len(stay)], b"%d" % number)
            bench.store.delete(bench.space, key)
            number += 1

    def scan() -> None:
        nonlocal is_over
        try:
            for limit in (1, 2, 3, 7, 20):
                found: list[str] = []
                while page := bench.store.scan(bench.space, after=found[-1] if found else "", limit=limit):
                    found += [entry.key for entry in page]
                    if len(found) > 10 * len(stay):
                        bench.broken("the scan never ends")
                scanned.append(found)
        except KesselError as exc:
            bench.broken(f"a scan while others write raised {type(exc).__name__}: {exc}")
        finally:
            is_over = True

    bench.side_by_side([scan, write], limit=60)
    for found in scanned:
        bench.history.add(f"a scan while entries come, change and go: {len(found)} keys")
        bench.equal(found, sorted(set(found)), "keys, each once and in order")
        bench.equal([key for key in found if key in set(stay)], stay, "keys that were there all the time")


@case(
    "scan.past_ended",
    "S19d",
    "S19b",
    waits=True,
    why="Entries whose time is over fill a page, which then looks like the last one.",
)
def past_ended(bench: StoreBench) -> None:
    for number in range(30):
        bench.put(f"ends{number:02}", ttl=_SHORT)
    stay = [f"stays{number}" for number in range(3)]
    for key in stay:
        bench.put(key)
    bench.let_pass(_SHORT + bench.slack)
    for limit in (1, 2, 100):
        found = [entry.key for entry in bench.pages(limit=limit)]
        bench.equal(found, stay, f"keys in pages of {limit}, past entries whose time is over")
