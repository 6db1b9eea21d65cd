"""What authors of plugins need beyond `kessel_core`: `hookimpl`, and the values that hooks pass.

A plugin is a module named by an entry point of the group `GROUP`; the hooks themselves, with an
example of each, are in `kessel_core.hooks.specs` and on the reference page about hooks.
"""

from __future__ import annotations

from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.page import Page, PageContext
from kessel_core.hooks.section import Section, SectionContext
from kessel_core.hooks.specs import GROUP, hookimpl
from kessel_core.model.worker import WorkerInfo
from kessel_core.values.logs import add_log_fields, get_logger
from kessel_core.values.payload_types import PayloadType
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
