"""The plugin: offers the adapter `directory`. Cheap to import; the adapter loads when it is opened."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import attrs
from kessel_core.contract import AdapterContext, AdapterSpec, QueueAdapter
from kessel_core.hooks import hookimpl

__all__ = ["SPEC", "DirectoryOptions", "kessel_adapters"]


def _long_enough(_: object, attribute: attrs.Attribute[Any], value: timedelta) -> None:
    if value < timedelta(milliseconds=10):
        raise ValueError(f"{attribute.name} must be at least 10ms")


@attrs.frozen(kw_only=True)
class DirectoryOptions:
    """Options of the adapter, from the URL or the configuration."""

    #: The directory of the jobs; it is made when it is not there.
    path: Path
    #: How long a reservation holds its job unless it is extended; at least 10 ms.
    lease: timedelta = attrs.field(default=timedelta(seconds=60), validator=_long_enough)


def _open(options: DirectoryOptions, context: AdapterContext) -> QueueAdapter:
    from kessel_adapter_directory.adapter import DirectoryAdapter

    return DirectoryAdapter(options, context)


def _absent(options: DirectoryOptions) -> str | None:
    return None if options.path.exists() else f"there is no directory {options.path.absolute()}"


SPEC: Final = AdapterSpec(
    name="directory",
    schemes=("directory",),
    options=DirectoryOptions,
    open=_open,
    absent=_absent,
    summary="a directory of files, for the processes of one machine",
)


@hookimpl
def kessel_adapters() -> list[AdapterSpec]:
    """Offer the adapter."""
    return [SPEC]
