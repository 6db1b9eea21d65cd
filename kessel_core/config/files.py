"""Finds and reads the configuration file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.nearest import did_you_mean
from kessel_core.values.secrets import quoted

__all__ = ["CONFIG_VARIABLE", "as_table", "find_file", "read_toml"]


CONFIG_VARIABLE: Final = "KESSEL_CONFIG"


def find_file(given: str | None, environ: Mapping[str, str], directory: Path) -> Path | None:
    """Return the configuration file: `--config`, `KESSEL_CONFIG`, or the one in the directory.

    In the directory `kessel.toml` takes precedence over a `pyproject.toml` with a `[tool.kessel]` table.

    Raises:
        InvalidConfig: The named file does not exist, or `pyproject.toml` cannot be read.
    """
    for name, origin in ((given, "--config"), (environ.get(CONFIG_VARIABLE), CONFIG_VARIABLE)):
        if name is None:
            continue
        if not name.strip():
            raise InvalidConfig([Problem((), "names no file", origin)])
        path = directory / name
        if not path.exists():
            raise InvalidConfig(
                [Problem((), f"there is no file {quoted(name, 200)}{_similar_file(path)}", origin)]
            )
        return Path(name)
    if (directory / "kessel.toml").exists():
        return Path("kessel.toml")
    project = directory / "pyproject.toml"
    if project.exists() and "kessel" in as_table(read_toml(project).get("tool")):
        return Path("pyproject.toml")
    return None


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
        return tomllib.loads(path.read_bytes().decode())
    except OSError as exc:
        raise InvalidConfig([Problem((), f"cannot be read: {exc.strerror or exc}", str(path))]) from exc
    except UnicodeDecodeError as exc:
        raise InvalidConfig([Problem((), f"is not UTF-8 text (byte {exc.start})", str(path))]) from exc
    except tomllib.TOMLDecodeError as exc:
        raise InvalidConfig([Problem((), f"is not TOML: {exc}", str(path))]) from exc


def as_table(value: object) -> dict[str, Any]:
    """Return a table; an empty one if the value is not a table."""
    return value if isinstance(value, dict) else {}
