"""What authors of plugins need beyond `kessel_core`: `hookimpl`, and the values that hooks pass.

A plugin is a module named by an entry point of the group `GROUP`; the hooks themselves, with an
example of each, are in `kessel_core.hooks.specs` and on the reference page about hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.specs import GROUP, hookimpl
from kessel_core.values.late import late
from kessel_core.values.logs import add_log_fields, get_logger
from kessel_core.values.payload_types import PayloadType

if TYPE_CHECKING:
    from kessel_core.hooks.page import Page, PageContext
    from kessel_core.hooks.section import Section, SectionContext
    from kessel_core.model.worker import WorkerInfo
    from kessel_core.values.sources import sources_of

__all__ = [
    "GROUP",
    "Middleware",
    "Page",
    "PageContext",
    "PayloadType",
    "Section",
    "SectionContext",
    "WorkerInfo",
    "add_log_fields",
    "get_logger",
    "hookimpl",
    "sources_of",
]

# `kessel_core` imports this package for `hookimpl`, so the values of single hooks are loaded on first use.
_LATE: Final = {
    "Page": "hooks.page",
    "PageContext": "hooks.page",
    "Section": "hooks.section",
    "SectionContext": "hooks.section",
    "WorkerInfo": "model.worker",
    "sources_of": "values.sources",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE)
