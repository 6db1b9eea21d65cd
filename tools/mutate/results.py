"""What is known of faults: verdicts of earlier runs, and which faults nobody can notice."""

from __future__ import annotations

import hashlib
import json
import threading
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from cover import BUILD
from faults import ROOT, Fault

__all__ = ["EQUIVALENT", "Results", "reasons"]

KNOWN: Final = BUILD / "known.json"
EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
_COLUMNS: Final = ("noticed", "equivalent", "unnoticed", "unfinished", "not judged")


def reasons() -> dict[str, str]:
    """Return why nobody can notice a fault, by its name."""
    table = tomllib.loads(EQUIVALENT.read_text("utf-8"))
    return {name: entry["reason"] for entry in table["equivalent"] for name in entry["faults"]}


class Results:
    """The verdicts, kept between runs until a function or its neighbours change. Thread-safe."""

    def __init__(self, *, again: bool) -> None:
        self._known: dict[str, Any] = {}
        if KNOWN.exists() and not again:
            self._known = json.loads(KNOWN.read_text())
        self._lock = threading.Lock()
        self._reasons = reasons()

    def _key(self, fault: Fault) -> str:
        source = (ROOT / fault.file).read_bytes().splitlines()
        around = b"\n".join(source[max(0, fault.lines[0] - 4) : fault.lines[1] + 3])
        return f"{fault.name} {hashlib.sha256(around).hexdigest()[:12]}"

    def verdict(self, fault: Fault) -> str:
        """Return one of the columns of the report."""
        if fault.name in self._reasons:
            return "equivalent"
        known: str = self._known.get(self._key(fault), {}).get("verdict", "not judged")
        return known

    def note(self, fault: Fault, answer: dict[str, Any]) -> None:
        """Keep a verdict, and print it if the fault was not noticed."""
        with self._lock:
            self._known[self._key(fault)] = answer
            if answer["verdict"] != "noticed":
                print(f"{answer['verdict']} by {answer['run']} tests: {fault.place}", flush=True)

    def save(self) -> None:
        """Write down what is known."""
        with self._lock:
            BUILD.mkdir(parents=True, exist_ok=True)
            fresh = KNOWN.with_suffix(".new")
            fresh.write_text(json.dumps(self._known, indent=0))
            fresh.replace(KNOWN)

    def report(self, faults: Iterable[Fault]) -> Counter[str]:
        """Print the figures of each module; return their sums."""
        rows: dict[str, Counter[str]] = defaultdict(Counter)
        for fault in faults:
            rows[fault.file][self.verdict(fault)] += 1
        rows = {**rows, "all": sum(rows.values(), Counter())}
        print(f"\n{'':60}" + "".join(f"{name:>12}" for name in _COLUMNS))
        for file, row in rows.items():
            print(f"{file:60}" + "".join(f"{row[name] or '':>12}" for name in _COLUMNS))
        return rows["all"]
