"""What is put is there: values, keys, spaces, and what no store takes (S19)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from kessel_conformance import odd_options
from kessel_conformance.catalogue import STORES
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.process import PATIENCE
from kessel_conformance.stores.requirements import MAX_VALUE_BYTES, OTHER_PROCESS, SHARED_REACH
from kessel_core import AdapterUnavailable, StoreRejected
from kessel_core.contract import Durability, Store

case = STORES.case

#: Values that careless code cuts, decodes, strips or takes for nothing.
VALUES: Final = (
    b"", b"\0", b"\0\0after", b" padded ", b"\r\nlines\r\n", b"null", b"0", b"\xff\xfe\x80",
    bytes(range(256)), "ü \U0001f600".encode(), b"'quoted\" \\", b"x" * 65_537,
)  # fmt: skip
#: Keys that careless code confuses with each other, or takes for something else.
KEYS: Final = (
    "a", "A", "a ", " a", "a\n", "a\t", "é", "e\u0301", "\u00e9x", "ss", "ß", "%", "_", "*", "?", "[a]",
    "{a}", "a'b", 'a"b', "a;b", "a\\", "a/b", "a:b", "a\u2028b", "\x01", "\x7f", "\uffff",
    "\U0001f600", "\U0010ffff",
    "none", "0", "00", "1", "1.0", "-1", "x" * 300, "\U0001f600" * 300,
)  # fmt: skip

_HOUR: Final = timedelta(hours=1)


@case(
    "put.comes_back",
    "S19",
    why="Values get cut at a zero byte, decoded as text, or an empty one taken for none.",
)
def comes_back(bench: StoreBench) -> None:
    limit = bench.capabilities.max_value_bytes
    values = [value for value in VALUES if limit is None or len(value) <= limit]
    for number, value in enumerate(values):
        key = f"k{number}"
        version = bench.put(key, value)
        entry = bench.entry(key)
        seen = (entry.key, entry.version, entry.value, entry.expires_at)
        bench.equal(seen, (key, version, value, None), f"key, version, value and end of {key!r}")
    bench.equal(
        sorted(entry.value for entry in bench.pages()),
        sorted(values),
        "values as a scan returns them",
        "S19d",
    )
    bench.check(all(type(entry.value) is bytes for entry in bench.pages()), "a value must be bytes")


@case("put.replaces", "S19", why="The second write of a key is another statement, and may add to the first.")
def replaces(bench: StoreBench) -> None:
    bench.put(value=b"first and long")
    second = bench.put(value=b"2")
    entry = bench.entry()
    bench.equal((entry.version, entry.value), (second, b"2"), "version and value after the second put")
    bench.equal(len(bench.pages()), 1, "entries after two puts of one key", "S19d")
    bench.equal(bench.delete(), True, "delete of an entry that is there")
    bench.equal(bench.get(), None, "after its delete")
    bench.equal(bench.delete(), False, "delete of an entry that is not there")


@case(
    "put.limit",
    "S19",
    needs=(MAX_VALUE_BYTES,),
    why="A limit that lies turns into errors far from the writer, or cuts what is too long.",
)
def limit_is_true(bench: StoreBench) -> None:
    limit = bench.capabilities.max_value_bytes
    assert limit is not None
    largest = bench.random.randbytes(limit)
    version = bench.put(value=largest)
    bench.check(bench.entry().value == largest, f"a value of {limit} bytes does not come back equal")
    error = bench.refused(
        StoreRejected, f"put of {limit + 1} bytes", lambda: bench.store.put(bench.space, "k", largest + b"x")
    )
    bench.equal(error.reason, "too-large", "reason of the refusal")
    bench.equal(bench.entry().version, version, "version after the refused put")


@case("keys.any_text", "S19", why="Keys get folded, stripped, normalised, read as numbers, or cut.")
def any_text(bench: StoreBench) -> None:
    versions = {key: bench.put(key, b"%d" % number) for number, key in enumerate(KEYS)}
    for number, key in enumerate(KEYS):
        entry = bench.entry(key)
        seen = (entry.key, entry.version, entry.value)
        bench.equal(seen, (key, versions[key], b"%d" % number), f"what is under {key[:20]!r}")
    bench.delete("a")
    left = {entry.key for entry in bench.pages()}
    bench.equal(left, {*KEYS} - {"a"}, "keys after the delete of 'a'", "S19d")


@case("spaces.apart", "S19", why="A space that is only a prefix of the key lets one see the other's entries.")
def spaces_apart(bench: StoreBench) -> None:
    # One begins as the other does, so that putting space and key together without care shows.
    short, long = bench.space_named("s"), bench.space_named("s.k")
    first, second = bench.put("k.k", b"1", space=short), bench.put("k", b"2", space=long)
    bench.put("k", b"3", space=short)
    bench.equal([entry.key for entry in bench.pages(space=short)], ["k", "k.k"], "keys of one", "S19d")
    bench.equal([entry.key for entry in bench.pages(space=long)], ["k"], "keys of the other", "S19d")
    bench.delete("k.k", space=short, expect=first)
    entry = bench.get("k", space=long)
    bench.equal(None if entry is None else (entry.version, entry.value), (second, b"2"), "the other's entry")
    bench.put("k", b"2", ttl=_HOUR, space=long)
    bench.equal(_ends(bench, short), False, "whether an entry ends because one of another space does")
    bench.put("k", b"3", space=short)
    bench.equal(_ends(bench, long), True, "whether an entry ends when one of another space was put to stay")
    longest = (bench.space_named("x") + "-" * 60)[:60]
    bench.put("k", b"v", space=longest)
    bench.equal(len(bench.pages(space=longest)), 1, "entries of a space whose name has 60 characters", "S19d")
    bench.equal(bench.get("k", space=bench.space_named("never.used")), None, "a space that nobody used")
    bench.equal(bench.scan(space=bench.space_named("never.used")), [], "its scan", "S19d")


def _ends(bench: StoreBench, space: str) -> bool:
    entry = bench.get("k", space=space)
    return entry is not None and entry.expires_at is not None


@case(
    "refused.odd_arguments",
    "S19",
    why="What one store takes and another does not fails after a change of store.",
)
def odd_arguments(bench: StoreBench) -> None:
    store, space = bench.store, bench.space
    bench.put()
    calls: dict[str, Callable[[], Any]] = {
        "get from a space without a name": lambda: store.get("", "k"),
        "get from a space in capitals": lambda: store.get("Upper", "k"),
        "get from a space of 61 characters": lambda: store.get("s" * 61, "k"),
        "get of a key without characters": lambda: store.get(space, ""),
        "get of a key of 301 characters": lambda: store.get(space, "k" * 301),
        "get of a key with a lone surrogate": lambda: store.get(space, "\ud800"),
        "put of a key with a zero": lambda: store.put(space, "k\0", b""),
        "put of a key that is a number": lambda: store.put(space, 7, b""),  # type: ignore[arg-type]  # the point
        "put of text": lambda: store.put(space, "k", "text"),  # type: ignore[arg-type]  # the point
        "put of no bytes object": lambda: store.put(space, "k", bytearray(b"x")),  # type: ignore[arg-type]  # the point
        "put with a version below zero": lambda: store.put(space, "k", b"", expect=-1),
        "put with a version that is none": lambda: store.put(space, "k", b"", expect=True),
        "put for no time": lambda: store.put(space, "k", b"", ttl=timedelta(0)),
        "put for less than no time": lambda: store.put(space, "k", b"", ttl=timedelta(-1)),
        "delete with a version below zero": lambda: store.delete(space, "k", expect=-1),
        "scan of no entries": lambda: store.scan(space, limit=0),
        "scan of 1,001 entries": lambda: store.scan(space, limit=1001),
        "scan with a prefix of 301 characters": lambda: store.scan(space, prefix="k" * 301),
        "scan after a lone surrogate": lambda: store.scan(space, after="\ud800"),
        "wait with a version below zero": lambda: store.wait(space, "k", seen=-1, timeout=timedelta(0)),
    }
    for what, call in calls.items():
        error = bench.refused(StoreRejected, what, call)
        bench.equal(error.reason, "invalid", f"reason of the refusal: {what}")
    bench.equal([entry.key for entry in bench.pages()], ["k"], "keys after refused calls", "S19d")


@case("capabilities.make_sense", "S17", why="The core plans by these values.")
def make_sense(bench: StoreBench) -> None:
    bench.history.add("ask for the store's capabilities, several times")
    declared = bench.store.capabilities
    bench.equal(bench.store.capabilities, declared, "capabilities asked twice")
    bench.equal(declared, bench.harness.capabilities, "capabilities of another store with the same options")
    limit = declared.max_value_bytes
    bench.check(limit is None or limit > 0, f"max_value_bytes is {limit}")
    bench.check(type(declared.durability) is Durability, f"durability is {declared.durability!r}")
    expected = bench.harness.expected_capabilities
    bench.equal(declared, expected or declared, "capabilities, which the harness gives")
    if bench.harness.spec is not None:
        bench.equal(bench.store.name, bench.harness.spec.name, "the store's name")


@case("options.unknown_refused", "S17", why="A misspelt option that is taken silently is not in force.")
def unknown_refused(bench: StoreBench) -> None:
    odd_options.unknown_refused(bench)


@case(
    "options.senseless_refused",
    "S17",
    why="A time-out of zero is taken, and every call says that the server cannot be reached.",
)
def senseless_refused(bench: StoreBench) -> None:
    def use(store: Store) -> None:
        store.put(bench.space, "odd", b"value")
        if store.get(bench.space, "odd") is None:
            raise AdapterUnavailable("the entry is not there")

    if bench.harness.spec is not None:
        odd_options.senseless_refused(bench, bench.harness.spec.options, use)


@case("store.closed", "S19", why="A call on what is closed hangs, or opens it again behind its owner's back.")
def closed(bench: StoreBench) -> None:
    store, space = bench.store, bench.space
    bench.put()
    bench.close()
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get(space, "k"),
        "put": lambda: store.put(space, "k", b""),
        "delete": lambda: store.delete(space, "k"),
        "scan": lambda: store.scan(space),
        "wait": lambda: store.wait(space, "k", timeout=timedelta(0)),
    }
    for what, call in calls.items():
        bench.refused(AdapterUnavailable, f"{what} after the close", call)
    bench.call("close it once more", store.close)
    bench.open_again()


@case("store.threads_share", "S19", why="A connection that two threads use at once mixes up their answers.")
def threads_share(bench: StoreBench) -> None:
    def work(name: str) -> None:
        for number in range(25):
            value = f"{name} {number}".encode()
            version = bench.put(name, value)
            entry = bench.entry(name)
            bench.equal(
                (entry.version, entry.value), (version, value), f"what the thread {name} has just put"
            )
            page = bench.scan(name, limit=2)
            bench.equal([one.value for one in page], [value], f"what the thread {name} scans", "S19d")
            bench.equal(bench.delete(name, expect=version), True, f"delete by the thread {name}")

    bench.side_by_side([partial(work, name) for name in "abcdef"], limit=PATIENCE)


@case(
    "reach.is_shared",
    "S19",
    needs=(SHARED_REACH, OTHER_PROCESS),
    why="Workers and whoever asks for results are processes of their own, each with a store of its own.",
)
def is_shared(bench: StoreBench) -> None:
    other = bench.beside()
    version = bench.put()
    bench.equal(other.entry().version, version, "the version that another store sees")
    other.not_put(0, bench.entry())
    bench.equal(other.delete(expect=version), True, "delete by another store")
    bench.equal(bench.get(), None, "after the delete by another store")
    process = bench.process()
    for number in range(5):
        version = process.call("put", bench.space, "k", b"%d" % number)
        entry = bench.entry(why="what another process has put")
        bench.equal((entry.version, entry.value), (version, b"%d" % number), "what another process has put")
        version = bench.put(value=b"here")
        seen = process.call("get", bench.space, "k")
        bench.equal((seen.version, seen.value), (version, b"here"), "what another process reads")
