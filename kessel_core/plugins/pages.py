"""Pages that plugins offer beside those of the health, by path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from kessel_core.hooks import specs
from kessel_core.hooks.page import Page, PageContext
from kessel_core.plugins.registry import Implementation, Plugins
from kessel_core.values.logs import get_logger

__all__ = ["pages_of"]

log = get_logger("kessel.plugins")

#: Paths that are kessel's own.
_OWN: Final = frozenset({"/livez", "/readyz"})
#: What the value of a header may be.
_SENDABLE: Final = re.compile(r"[\x20-\x7e\xa0-\xff]+")


def pages_of(plugins: Plugins, context: PageContext) -> Mapping[str, Page]:
    """Ask each plugin in isolation for its pages; what cannot be served is left out, with a warning."""

    def asked(implementation: Implementation) -> Mapping[str, Page]:
        offered = implementation(context=context)
        if not isinstance(offered, Mapping):
            raise TypeError(f"expected a mapping of paths to pages, got {type(offered).__name__}")
        return offered

    found: dict[str, Page] = {}
    for owner, offered in plugins.ask(specs.kessel_pages, asked):
        for path, page in offered.items():
            if why := _problem(path, page, found):
                log.warning("plugin %s: page %r left out: %s", owner.owner, path, why)
            else:
                found[path] = page
    return found


def _problem(path: object, page: object, found: Mapping[str, Page]) -> str:
    if not isinstance(path, str) or not path.startswith("/") or set(path) & set(" ?#\r\n"):
        return "a path begins with / and has neither blanks nor a query"
    if path in _OWN:
        return "this one is kessel's own"
    if not isinstance(page, Page):
        return f"expected a Page, got {type(page).__name__}"
    if not isinstance(page.content_type, str) or not _SENDABLE.fullmatch(page.content_type):
        return f"its content type {page.content_type!r:.80} cannot be sent"
    return "another plugin has it" if path in found else ""
