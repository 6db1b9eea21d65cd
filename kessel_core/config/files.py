"""Finds and reads the configuration file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.nearest import did_you_mean
from kessel_core.values.reading import is_deep
from kessel_core.values.secrets import quoted

__all__ = ["CONFIG_VARIABLE", "as_table", "find_file", "read_toml"]


CONFIG_VARIABLE: Final = "KESSEL_CONFIG"


def find_file(
    given: str | os.PathLike[str] | None, environ: Mapping[str, str], directory: Path
) -> Path | None:
    """Return the configuration file: `--config`, `KESSEL_CONFIG`, or the one in the directory.

    In the directory `kessel.toml` takes precedence over a `pyproject.toml` with a `[tool.kessel]` table.

    Raises:
        InvalidConfig: The named file does not exist, or `pyproject.toml` cannot be read.
    """
    for named, origin in ((given, "--config"), (environ.get(CONFIG_VARIABLE), CONFIG_VARIABLE)):
        if named is None:
            continue
        name = os.fspath(named)
        if not name.strip():
            raise InvalidConfig([Problem((), "names no file", origin)])
        path = directory / name
        if not _is_there(path, quoted(name, 200), origin):
            raise InvalidConfig(
                [Problem((), f"there is no file {quoted(name, 200)}{_similar_file(path)}", origin)]
            )
        return Path(name)
    own, project = directory / "kessel.toml", directory / "pyproject.toml"
    if _is_there(own, "it", "kessel.toml"):
        return Path("kessel.toml")
    if _is_there(project, "it", "pyproject.toml") and "kessel" in as_table(read_toml(project).get("tool")):
        return Path("pyproject.toml")
    return None


def _is_there(path: Path, shown: str, origin: str) -> bool:
    """Return whether there is something of that name.

    Raises:
        InvalidConfig: Nobody can tell, or it is a link that leads nowhere: whoever made it wants a file.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as exc:
        raise InvalidConfig([Problem((), f"{shown} cannot be read: {_why(exc)}", origin)]) from exc
    try:
        path.stat()
    except OSError as exc:
        raise InvalidConfig(
            [Problem((), f"{shown} is a link that leads to no file: {_why(exc)}", origin)]
        ) from exc
    return True


def _why(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def _similar_file(path: Path) -> str:
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return ""
    return did_you_mean(path.name, beside)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InvalidConfig: It cannot be read, or is not TOML.
    """
    try:
        # A pipe or a terminal would be waited for.
        if not path.is_file() and str(path) != os.devnull:
            what = "a directory" if path.is_dir() else "not a file"
            raise InvalidConfig([Problem((), f"is {what}", str(path))])
        # Some editors write a byte order mark before the first line.
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        raise InvalidConfig([Problem((), f"cannot be read: {_why(exc)}", str(path))]) from exc
    except UnicodeDecodeError as exc:
        raise InvalidConfig([Problem((), f"is not UTF-8 text (byte {exc.start})", str(path))]) from exc
    except tomllib.TOMLDecodeError as exc:
        raise InvalidConfig([Problem((), f"is not TOML: {exc}", str(path))]) from exc
    except ValueError as exc:  # of an integer of more digits than Python reads
        raise InvalidConfig([Problem((), "has a number of too many digits", str(path))]) from exc
    except RecursionError as exc:
        raise InvalidConfig([Problem((), "is nested too deeply", str(path))]) from exc
    if is_deep(document):
        raise InvalidConfig([Problem((), "is nested too deeply", str(path))])
    return document


def as_table(value: object) -> dict[str, Any]:
    """Return a table; an empty one if the value is not a table."""
    return value if isinstance(value, dict) else {}
