"""The tables and functions of a schema by version, and how they get there; the statements are in `v1.sql`.

Each change of them is a script of its own, and adds only: functions carry a version in their names, and those
of the release before stay, so that old and new processes work side by side during a deployment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Final

from kessel_postgres.options import schema_problem

__all__ = [
    "SCRIPTS",
    "VERSION",
    "grants",
    "readable",
    "script",
    "too_new",
    "upgrade_script",
    "used_by_others",
    "versions",
]

#: Script `n` brings a schema from version `n` to `n + 1`; version 0 has no tables.
SCRIPTS: Final = ("v1.sql",)
#: The version that this release reads and writes.
VERSION: Final = len(SCRIPTS)

#: The class of the locks that only one who migrates a schema may hold; any number, always the same.
_LOCK: Final = 1_800_959_853


def versions(meta: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the version of a schema, and the one that a program must know at least to work with it.

    None: its table `meta` is not ours.
    """
    if not meta.get("id"):
        return None
    try:
        return int(meta["version"]), int(meta["readable_from"])
    except (KeyError, ValueError):
        return None


def used_by_others(schema: str) -> str:
    """Return what to say where the table `meta` is not ours."""
    return f"something else uses the table meta of schema {schema}: choose another schema, with ?schema=NAME"


def too_new(version: int) -> str:
    """Return what to say where the tables are of a later release."""
    return (
        f"its tables have version {version}, this release of kessel-postgres knows up to {VERSION};"
        " update kessel-postgres, or use another schema"
    )


def readable(meta: Mapping[str, str], schema: str) -> str | None:
    """Return why this release cannot work with a schema, or None.

    A newer schema says in `readable_from` which version a program must know at least.
    """
    if (found := versions(meta)) is None:
        return used_by_others(schema)
    version, oldest = found
    if version < VERSION:
        return (
            f"its tables have version {version}, this release of kessel-postgres needs {VERSION};"
            " bring them up to date with: kessel postgres upgrade, and the same address or configuration"
        )
    return too_new(version) if oldest > VERSION else None


def script(schema: str, version: int) -> str:
    """Return the statements that bring a schema to a version from the one before it.

    Raises:
        ValueError: The name of the schema is none.
    """
    if (wrong := schema_problem(schema)) is not None:
        raise ValueError(f"schema {wrong}")
    text = files(__package__).joinpath(SCRIPTS[version - 1]).read_text("utf-8")
    return text.replace("__s__", f'"{schema}"')


def upgrade_script(schema: str, present: int) -> Iterator[str]:
    """Yield the statements that bring a schema up to date, to be run as one transaction.

    Args:
        schema: Its name.
        present: The version that it has; 0: there is none.
    """
    # Waits for the locks of others for a moment only: who waits for a table stops all who come after.
    yield "SET LOCAL lock_timeout = '5s'"
    yield f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext('{schema}'))"
    if present == 0:
        yield f'CREATE SCHEMA IF NOT EXISTS "{schema}"'
    for version in range(present + 1, VERSION + 1):
        yield script(schema, version)
    yield (
        f"INSERT INTO \"{schema}\".meta VALUES ('version', '{VERSION}'), ('readable_from', '1'),"  # noqa: S608 - the name is checked
        " ('id', gen_random_uuid()::text) ON CONFLICT (key) DO UPDATE SET value ="
        " CASE WHEN meta.key = 'id' THEN meta.value ELSE excluded.value END"
    )


def grants(schema: str, role: str) -> Iterator[str]:
    """Yield the statements that give a role what producers and workers need, and no more."""
    name = '"' + role.replace('"', '""') + '"'
    yield f'GRANT USAGE ON SCHEMA "{schema}" TO {name}'
    yield f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {name}'
    tables = ", ".join(
        f'"{schema}".{table}' for table in ("jobs", "ready", "timed", "held", "buried", "pauses", "entries")
    )
    yield f"GRANT INSERT, UPDATE, DELETE ON {tables} TO {name}"
    yield f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO {name}'
