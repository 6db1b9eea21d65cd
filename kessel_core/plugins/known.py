"""Which distributions of this project have what, for the advice what to install.

The one place of the core that knows names of plugins: who types `beanstalk://` without having the adapter
is helped by its name, which no plugin can tell that is not there. Nothing is imported by these names.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADAPTERS", "COMMANDS", "EXAMPLES"]

#: Scheme or name of an adapter -> distribution.
ADAPTERS: Final = {
    "sqlite": "kessel-sqlite",
    "memory": "kessel-memory",
    "beanstalk": "kessel-beanstalk",
}

#: Command of `kessel` -> distribution.
COMMANDS: Final = {
    "conformance": "kessel-conformance",
    "move": "kessel-sqlite",
    "new": "kessel-conformance",
    "result": "kessel-sqlite",
}

#: The handlers that `kessel demo` runs.
EXAMPLES: Final = "kessel-handlers-example"
