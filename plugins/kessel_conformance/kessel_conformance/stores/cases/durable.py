"""What survives (S19c)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from typing import Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.requirements import RESTART
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.requirements import DURABILITY, OTHER_PROCESS

case = STORES.case

HOUR: Final = timedelta(hours=1)
#: How many acknowledged puts a process gets to before it is killed, and how often that is done.
_PUTS: Final = (1, 40, 150)


@case(
    "durable.reopened",
    "S19c",
    "S19a",
    "S19b",
    needs=(DURABILITY,),
    why="A deployment closes and opens; nothing may be lost or change.",
)
def reopened(bench: StoreBench) -> None:
    for key in ("ends", "stays", "replaced"):
        bench.put(key, key.encode(), ttl=HOUR if key == "ends" else None)
    bench.put("replaced", b"new")
    bench.put("deleted")
    bench.delete("deleted")
    before = bench.pages()
    bench.reopen()
    bench.equal(bench.pages(), before, "entries after reopening")
    bench.not_put(0, bench.entry("stays"), key="stays")
    bench.put("stays", b"new", expect=bench.entry("stays").version)
    if bench.harness.virtual:
        bench.reopen()
        bench.let_pass(HOUR)
        bench.reopen()
        bench.equal(
            [entry.key for entry in bench.pages()], ["replaced", "stays"], "keys after an hour", "S19b"
        )


@case(
    "durable.killed",
    "S19c",
    needs=(DURABILITY, OTHER_PROCESS),
    why="What was acknowledged is lost with the buffer of a process that was killed.",
)
def killed(bench: StoreBench) -> None:
    bench.close()  # so that it can be had by one process only, too
    for turn, enough in enumerate(_PUTS):
        space = bench.space_named(f"turn{turn}")
        process = bench.process()
        process.ask("put_many", space)
        acknowledged = [process.answer() for _ in range(enough)]
        process.kill()
        acknowledged += process.answered()
        bench.history.add(
            f"another process was killed by SIGKILL after {len(acknowledged)} acknowledged puts"
        )
        bench.open_again()
        found = {entry.key: entry for entry in bench.pages(space=space)}
        for number, version in acknowledged:
            entry = found.pop(str(number), None)
            if entry is None:
                bench.broken(f"put {number} of {len(acknowledged)} was acknowledged, and is lost")
            bench.equal(
                (entry.version, entry.value), (version, b"%d" % number), f"what put {number} has written"
            )
        bench.check(len(found) <= 1, f"puts that nobody made: {sorted(found)}")
        bench.put(space=space)
        bench.close()
    bench.open_again()


@case(
    "durable.server_restart",
    "S19c",
    needs=(DURABILITY, RESTART),
    waits=True,
    alone=True,
    why="Servers are restarted while those who use them live on.",
)
def server_restart(bench: StoreBench) -> None:
    version = bench.put(value=b"stays")
    there = bench.entry()
    bench.harness.restart()
    bench.history.add("the server was restarted")
    entry = bench.patiently("get", lambda: bench.store.get(bench.space, "k"))
    bench.equal(entry, there, "the entry after the restart")
    bench.patiently("put", lambda: bench.store.put(bench.space, "k", b"new", expect=version))
    bench.equal(bench.entry().value, b"new", "after a put after the restart")
