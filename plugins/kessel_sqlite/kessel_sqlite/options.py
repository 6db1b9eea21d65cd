"""The options of the adapter and of the store, and how a URL sets them; opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import attrs

from kessel_core.contract import Durability, InvalidConfig, Problem, url_options

__all__ = [
    "Access",
    "FileOptions",
    "SqliteOptions",
    "SqliteStoreOptions",
    "absent_file",
    "file_place",
    "sqlite_url_options",
]

_ZERO = timedelta(0)
#: SQLite's own limit for a row is 1,000,000,000 bytes, and the other columns need some of it.
_LARGEST = 999_000_000
#: Longer spans fit neither a number of SQLite nor a wait of Python.
_LONGEST = timedelta(days=36_500)


def _wait(_: object, attribute: attrs.Attribute[Any], value: timedelta) -> None:
    if not _ZERO < value <= _LONGEST:
        raise ValueError(f"{attribute.name} must be more than zero, and at most 100 years")


def _size_limit(_: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if not 1 <= value <= _LARGEST:
        raise ValueError(f"{attribute.name} must be 1 to {_LARGEST}")


def _file(_: object, attribute: attrs.Attribute[Any], value: Path) -> None:
    if str(value) == ":memory:":
        raise ValueError(f"{attribute.name}: for what is kept in memory only use memory://")
    if "\0" in str(value):
        raise ValueError(f"{attribute.name} must not hold a NUL")


def _durability(_: object, attribute: attrs.Attribute[Any], value: Durability) -> None:
    if value is Durability.NONE:
        raise ValueError(f"{attribute.name} must be 'power' or 'process-crash': a file survives processes")


def _lease(_: object, attribute: attrs.Attribute[Any], value: timedelta) -> None:
    if not timedelta(milliseconds=10) <= value <= _LONGEST:
        raise ValueError(f"{attribute.name} must be 10ms to 100 years")


class Access(StrEnum):
    """Who may read and write a file that is created here; an existing one keeps its rights."""

    #: The user of the process only.
    OWNER = "owner"
    #: The file's group, too, for producers and workers of several users.
    GROUP = "group"

    @property
    def mode(self) -> int:
        """The permission bits of the file; SQLite gives its `-wal` and `-shm` the same."""
        return 0o660 if self is Access.GROUP else 0o600


@attrs.frozen(kw_only=True)
class FileOptions:
    """What can be set for a file, whatever is kept in it.

    Raises:
        ValueError: A value is out of range.
    """

    #: The file; created if it does not exist; its directory must exist.
    path: Path = attrs.field(converter=Path, validator=_file)
    #: What an acknowledged write survives: `power`, for which every commit waits for the disk, or
    #: `process-crash`, with which a power failure may lose what was written in the last moments.
    durability: Durability = attrs.field(
        default=Durability.POWER, converter=Durability, validator=_durability
    )
    #: Longest wait for the lock on the file; more than zero.
    timeout: timedelta = attrs.field(default=timedelta(seconds=10), validator=_wait)
    #: Who may read and write the file if it is created: `owner`, or `group` for the file's group, too.
    access: Access = attrs.field(default=Access.OWNER, converter=Access)


@attrs.frozen(kw_only=True)
class SqliteOptions(FileOptions):
    """The options of one file of jobs.

    Raises:
        ValueError: A value is out of range.
    """

    path: Path = attrs.field(default=Path("kessel.db"), converter=Path, validator=_file)
    #: How long a reservation holds its job unless it is extended; at least 10 ms.
    lease: timedelta = attrs.field(default=timedelta(seconds=60), validator=_lease)
    #: Longest body of a job, and longest value in its store, in bytes.
    max_body_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=_size_limit)


@attrs.frozen(kw_only=True)
class SqliteStoreOptions(FileOptions):
    """The options of one file of entries.

    Raises:
        ValueError: A value is out of range.
    """

    path: Path = attrs.field(default=Path("kessel-store.db"), converter=Path, validator=_file)
    #: Longest value, in bytes.
    max_value_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=_size_limit)


def sqlite_url_options(url: SplitResult) -> Mapping[str, Any]:
    """Read the options from a URL: `sqlite:///jobs.db` is relative, `sqlite:////var/jobs.db` absolute.

    Raises:
        InvalidConfig: The URL names a host, which a file does not have, or is not valid.
    """
    if url.netloc:
        why = "a file has none: write sqlite:///jobs.db (relative) or sqlite:////var/lib/jobs.db (absolute)"
        raise InvalidConfig([Problem(("host",), why)], "invalid adapter URL")
    found = url_options(url)
    path = found.get("path")
    # The first slash ends the empty host; what follows is the path as in a shell.
    if path is not None and url.path not in ("", "/"):
        found["path"] = path[1:]
    return found


def absent_file(options: FileOptions) -> str | None:
    """Say that the file or its tables do not exist: opening would make them; see `AdapterSpec.absent`."""
    path = options.path.absolute()
    try:
        path.lstat()
        is_file = path.is_file()
    except FileNotFoundError:
        # Without its directory it would not be made; the error of opening says more.
        return f"there is no file {path}" if path.parent.is_dir() else None
    except OSError:
        return None  # the error of opening says more here, too
    if not is_file:
        return None
    from kessel_sqlite.schema import is_without_tables

    return f"there is no queue of kessel in {path}" if is_without_tables(path) else None


def file_place(options: FileOptions) -> str:
    """Return the absolute path of the file; see `AdapterSpec.place`."""
    return str(options.path.absolute())
