"""A digest of the sources of a package, by which a conformance report says of what it is.

The files are read, nothing is imported: the digest of an installed package is that of its checkout.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["REPORT", "package_of", "source_digest"]

#: The name of a report's files, without their endings: they are not part of what they are about.
REPORT: Final = "conformance"
_OWN: Final = frozenset({f"{REPORT}.json", f"{REPORT}.md", f"{REPORT}.badge.json"})
#: What an interpreter or a compiler makes of the sources, differently on every machine.
_MADE: Final = frozenset({".pyc", ".so", ".pyd"})


def package_of(module: str) -> str | None:
    """Return the name of the outermost package, or module, that a loaded module belongs to.

    A namespace package is no such one: it may hold the sources of many distributions.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        spec = _spec(name)
        if spec is not None and spec.origin is not None:
            return name
    return None


def source_digest(package: str) -> str | None:
    """Return `sha256:` and the digest of a package's files, the same on every machine.

    Left out are a report's own files, hidden ones, and what is made of sources.

    Args:
        package: Name of a package or module, as `package_of` returns it.

    Returns:
        The digest; None if there are no files that can be read.
    """
    spec = _spec(package)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    whole = hashlib.sha256()
    try:
        if spec.submodule_search_locations is None:
            files = [(origin.name, origin)]
        else:
            files = sorted(
                (path.relative_to(origin.parent).as_posix(), path) for path in _files(origin.parent)
            )
        for name, path in files:
            whole.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    except OSError:
        return None
    return f"sha256:{whole.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix not in _MADE and path.name not in _OWN:
            yield path


def _spec(name: str) -> ModuleSpec | None:
    """Return the spec of a module that is loaded, or of one at the top that can be found; imports nothing."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        return None if "." in name else find_spec(name)
    except (ImportError, ValueError):
        return None
