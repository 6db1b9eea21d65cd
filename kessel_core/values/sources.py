"""A digest of the sources of a package, by which a conformance report says of what it is.

The files are read, nothing is imported: the digest of an installed package is that of its checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["REPORT", "sources_of"]

#: The name of a report's files, without their endings: they are not part of what they are about.
REPORT: Final = "conformance"
_OWN: Final = frozenset({f"{REPORT}.json", f"{REPORT}.md", f"{REPORT}.badge.json"})
#: What an interpreter or a compiler makes of the sources, differently on every machine.
_MADE: Final = frozenset({".pyc", ".so", ".pyd"})


def sources_of(module: str) -> tuple[str, str] | None:
    """Return the outermost package that a module belongs to, and the digest of its files. Thread-safe.

    The digest is the same on every machine, and for a checkout and what was installed from it. Left out are a
    conformance report and its badge and page, hidden files, and what is made of sources. Nothing is imported.

    Args:
        module: Name of a loaded module, or of a package at the top that can be found. Its package is not a
            namespace package, which may hold the sources of many distributions.

    Returns:
        Name and `sha256:` with the digest; None if there are no files that can be read. Raises nothing.
    """
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = _spec(name := ".".join(parts[:count]))
        if spec is not None and spec.origin is not None:
            digest = _digest(spec)
            return None if digest is None else (name, digest)
    return None


def _digest(spec: ModuleSpec) -> str | None:
    import hashlib  # loads OpenSSL, 4 MB that a worker does without

    origin = Path(spec.origin or "")
    whole = hashlib.sha256()
    try:
        if spec.submodule_search_locations is None:
            files = [(origin.name, origin)]
        else:
            home = origin.parent
            files = sorted((path.relative_to(home).as_posix(), path) for path in _files(home))
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
