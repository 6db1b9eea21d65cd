"""The plugin: offers the adapter; loads `sqlite3` only when one is opened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kessel_core.contract import AdapterContext, AdapterSpec, AdapterUnavailable
from kessel_core.hooks import hookimpl
from kessel_sqlite.options import SqliteOptions, absent_file, file_place, sqlite_url_options

if TYPE_CHECKING:
    from kessel_sqlite.adapter import SqliteAdapter

__all__ = ["SPEC", "kessel_adapters"]


def _open(options: SqliteOptions, context: AdapterContext) -> SqliteAdapter:
    from kessel_sqlite.adapter import SqliteAdapter

    try:
        return SqliteAdapter(options, context)
    except OSError as exc:  # for example a path that is too long, which the system refuses to look up
        error = AdapterUnavailable(f"{options.path}: cannot be opened: {exc.strerror or exc}")
        error.add_note("check the path and its rights")
        raise error from exc


SPEC = AdapterSpec(
    name="sqlite",
    schemes=("sqlite",),
    options=SqliteOptions,
    open=_open,
    from_url=sqlite_url_options,
    absent=absent_file,
    place=file_place,
    summary="in one file of this machine: durable, for several processes, without a server",
)


@hookimpl
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer the adapter `sqlite`: `sqlite:///jobs.db` is relative, `sqlite:////var/jobs.db` absolute."""
    return [SPEC]
