"""What the distributions of this project contain, for advice on what to install.

The one place in the core that knows plugins by name: a user who types `beanstalk://` without the adapter
needs to be told what to install, and a missing plugin cannot say so. Nothing is imported by these names.
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
    "new": "kessel-conformance",
}

#: The handlers that `kessel demo` runs.
EXAMPLES: Final = "kessel-handlers-example"
