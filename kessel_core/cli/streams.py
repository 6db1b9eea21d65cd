"""The standard streams as the command finds them: closed ones, and terminals that know few characters."""

from __future__ import annotations

import os
import sys
from io import RawIOBase, TextIOWrapper
from typing import IO, Any, Final, TextIO, cast

from kessel_core.model.json import JsonValue
from kessel_core.values.streams import keep_standard_numbers
from kessel_core.values.strict_json import read_json

__all__ = ["BYTE_ORDER_MARK", "given_json", "kept_stderr", "prepare_streams"]

#: What some programs put before UTF-8 that they write.
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def prepare_streams() -> None:
    """Open what is closed onto nothing, and let no character be an error.

    A file that is opened later would get the number of a closed stream, and be written to as one.
    """
    keep_standard_numbers()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  # a number, and it stays open
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _Kept(RawIOBase):
    """Writes to what standard error led to, as long as a descriptor leads there.

    A job may close or replace the number 2, the number that was kept, or both; what has taken them gets
    nothing.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._numbers = (os.dup(number), number)
        self._identity = _identity(number)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._numbers[0])

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        for number in self._numbers:
            while rest and _identity(number) == self._identity:
                rest = rest[os.write(number, rest) :]
        return len(data)


def _identity(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def kept_stderr() -> TextIO:
    """Return standard error, kept so that no job closes or replaces it by accident.

    Where standard error is no file, as in tests, it is returned as it is.
    """
    try:
        kept = _Kept(sys.stderr.fileno())
    except (OSError, ValueError):
        return sys.stderr
    return TextIOWrapper(
        cast("IO[bytes]", kept),
        sys.stderr.encoding,
        "backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def given_json(text: str) -> JsonValue:
    """Read a JSON value that is given as an argument or, for `-`, on standard input: in UTF-8, as JSON is.

    A byte order mark before it is passed over.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested more deeply than Python can parse.
    """
    if text == "-":
        try:
            text = sys.stdin.buffer.read().removeprefix(BYTE_ORDER_MARK).decode()
        except UnicodeDecodeError as exc:
            raise ValueError(f"not UTF-8 at byte {exc.start}") from exc
    value: JsonValue = read_json(text)
    return value
