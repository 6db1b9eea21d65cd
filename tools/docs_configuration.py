"""Write docs/reference/configuration.md from the classes in kessel_core/config/options.py.

Run it after changing an option: `python tools/docs_configuration.py`. A test compares the page
with what this would write.
"""

# ruff: noqa: E501  (the Markdown has one sentence per line)

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import attrs

from kessel_core import Config
from kessel_core.config.options import options
from kessel_core.values.durations import duration_text

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"

HEAD = """\
# Configuration

Written by `tools/docs_configuration.py` from `kessel_core/config/options.py`; do not edit it by hand.

Each value comes from the last of these layers that sets it:

1. the default below;
2. a file: `--config FILE`, or else `KESSEL_CONFIG`, or else `kessel.toml` in the current directory, or else the table `[tool.kessel]` of `pyproject.toml` there;
3. the environment variable below;
4. an argument of the command, such as `--slots 4`.

`kessel config` prints every value and the layer it comes from, and never a secret.
All mistakes are reported at once, each with its file and key, variable or argument, and the command ends with exit code 2 before it reserves any job.

In a file, options stand under `[kessel]`:

```toml
[kessel]
adapter = "sqlite:///kessel.db"
queues = ["default", "mail"]

[kessel.worker]
slots = 4
grace = "45s"

[kessel.handlers]
"invoice.send" = "shop.jobs:send_invoice"

[kessel.middleware_options.logging]
level = "debug"
```

A duration is a number of seconds or text with a unit: `500ms`, `90s`, `5m`, `3h`, `7d`.
In an environment variable a list is written with commas, and a table as a JSON object.
"""


def _comments(section: type) -> dict[str, str]:
    """Return the `#:` lines above each field."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(section).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            lines.append(text.removeprefix("#:").strip())
        elif (field := re.match(r"(\w+): ", text)) and lines:
            found[field[1]] = " ".join(lines)
            lines = []
    return found


def _kind(annotation: str) -> str:
    names = {
        "str": "text",
        "int": "number",
        "bool": "true or false",
        "timedelta": "duration",
        "timedelta | None": "duration",
        "tuple[str, ...]": "list of texts",
    }
    return names.get(annotation, "text" if "Mapping" not in annotation else "table")


def _default(field: attrs.Attribute[object]) -> str:
    value = field.default
    if value is None:
        return "unset"
    match value:
        case StrEnum():
            return f'`"{value.value}"`'
        case timedelta():
            return f'`"{duration_text(value)}"`'
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
        case str():
            return f'`"{value}"`'
        case int():
            return f"`{value}`"
        case _:
            return "empty"


def _section(section: type, prefix: str) -> list[str]:
    """Return the table of one section, then those of the sections inside it."""
    comments = _comments(section)
    rows: list[str] = []
    below: list[str] = []
    for field in attrs.fields(section):
        path = f"{prefix}{field.name}"
        if path not in options():
            inner = field.default.factory  # the default of a section is a factory
            below += _section(inner, f"{path}.")
            continue
        variable = "KESSEL_" + path.upper().replace(".", "_")
        rows.append(
            f"| `{path}` | {_kind(section.__annotations__[field.name])} | {_default(field)} | `{variable}` | {comments[field.name]} |"
        )
    title = f"kessel.{prefix.rstrip('.')}" if prefix else "kessel"
    head = [
        "",
        f"## `[{title}]`",
        "",
        "| option | kind | default | variable | meaning |",
        "|---|---|---|---|---|",
    ]
    return [*head, *rows, *below]


def page() -> str:
    """Return the whole page."""
    return HEAD + "\n".join(_section(Config, "")) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
