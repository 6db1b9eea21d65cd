"""What authors of plugins need beside `kessel_core`: the mark for hooks, and what hooks hand out.

A plugin is a module named by an entry point of the group `GROUP`; the hooks themselves, with an
example of each, are in `kessel_core.hooks.specs` and on the page of the hooks.
"""

from __future__ import annotations

from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.specs import GROUP, hookimpl
from kessel_core.model.worker import WorkerInfo

__all__ = ["GROUP", "Middleware", "WorkerInfo", "hookimpl"]
