"""The `kessel` command: reads configuration, environment and arguments, and prints. No logic.

Each command is a module of its own that is imported only when it is chosen; click is imported
when the command starts, rich when something is printed. Nothing outside this folder imports
either of them.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command of this process's arguments and exit with its code."""
    from kessel_core.cli.streams import prepare_streams

    prepare_streams()
    try:
        from kessel_core.cli.root import run
    except KeyboardInterrupt:  # while click was being imported: no reason for a traceback
        sys.exit(130)
    try:
        code = run(sys.argv[1:])
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    if (ending := sys.modules.get("kessel_core.cli.ending")) is not None:  # a command that runs jobs
        ending.watch(code)
    sys.exit(code)
