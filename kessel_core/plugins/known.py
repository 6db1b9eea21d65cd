"""What the distributions of this project contain, for advice on what to install.

The one place in the core that knows plugins by name: a user who types `beanstalk://` without the adapter
needs to be told what to install, and a missing plugin cannot say so. Nothing is imported by these names.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BACKENDS", "COMMANDS", "EXAMPLES", "MIDDLEWARE", "SECTIONS"]

_REDIS: Final = {
    f"{name}{end}": "kessel-redis"
    for name in ("redis", "rediss", "valkey", "valkeys")
    for end in ("", "+sentinel", "+cluster")
}

#: `adapter` or `store` -> scheme or name -> distribution.
BACKENDS: Final = {
    "adapter": {
        "sqlite": "kessel-sqlite",
        "memory": "kessel-memory",
        "beanstalk": "kessel-beanstalk",
        "postgres": "kessel-postgres",
        "postgresql": "kessel-postgres",
        **_REDIS,
    },
    "store": {
        "sqlite": "kessel-sqlite",
        "memory": "kessel-memory",
        "postgres": "kessel-postgres",
        "postgresql": "kessel-postgres",
        **_REDIS,
    },
}

#: Command of `kessel` -> distribution.
COMMANDS: Final = {
    "conformance": "kessel-conformance",
    "endpoints": "kessel-http",
    "exporter": "kessel-prometheus",
    "new": "kessel-conformance",
    "postgres": "kessel-postgres",
}

#: Middleware that goes around requests, too -> distribution.
MIDDLEWARE: Final = {
    "otel": "kessel-otel",
}

#: Section of the configuration -> distribution.
SECTIONS: Final = {
    "http": "kessel-http",
    "prometheus": "kessel-prometheus",
}

#: The handlers that `kessel demo` runs.
EXAMPLES: Final = "kessel-handlers-example"
