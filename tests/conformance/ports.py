"""One table of ports for all processes of tests, although some have a temporary folder of their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["share_ports"]


def share_ports(folder: Path) -> None:
    """Let processes whose temporary folder this is claim ports where the others do; see `free_port`.

    Without it two runs side by side would get the same ports, and talk to one server.
    """
    name = f"kessel-ports-{os.getuid()}"
    table = Path(tempfile.gettempdir(), name)
    table.mkdir(mode=0o700, exist_ok=True)
    (folder / name).symlink_to(table, target_is_directory=True)
