"""The `kessel` command: reads configuration, environment and arguments, and prints. No logic.

Each command is a module of its own that is imported only when it is chosen; click is imported
when the command starts, rich when something is printed. Nothing outside this folder imports
either of them.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from kessel_core.cli import ending

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command of this process's arguments and exit with its code."""
    from kessel_core.cli.streams import prepare_streams

    prepare_streams()
    try:
        from kessel_core.cli.root import run
    except KeyboardInterrupt:  # while click was being imported: no reason for a traceback
        sys.exit(130)
    code = run(sys.argv[1:])
    ending.watch(code)
    sys.exit(code)
