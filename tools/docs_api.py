"""Write docs/reference/api.md, contract.md, hooks.md and suite.md from docstrings and `#:` comments.

Every public name gets a heading on the page of its list; a name that an earlier page describes links
to that page.

Usage: python tools/docs_api.py
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from types import FunctionType, MethodType, ModuleType

import attrs
import kessel_conformance

import kessel_core
import kessel_core.contract
import kessel_core.hooks
import kessel_core.testing
import kessel_core.testing.strategies
from kessel_core.hooks import specs
from kessel_core.hooks.specs import HOOKS
from kessel_core.values.durations import duration_text

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

API = """\
# Names of kessel_core

What an application imports from `kessel_core`, and what its tests import from `kessel_core.testing`.
Authors of adapters also need [the adapter contract](contract.md), others of plugins [the hooks](hooks.md).
S1, S2 and so on are [the clauses](clauses.md).

Written by `tools/docs_api.py` from the source."""

CONTRACT = """\
# The adapter contract

Written by `tools/docs_api.py` from the source of `kessel_core.contract`.
[Publish an adapter](../tutorial/publish-an-adapter.md) shows how to keep it, step by step."""

HOOKS_PAGE = """\
# Hooks

{intro}

Written by `tools/docs_api.py` from the source of `kessel_core.hooks`."""

#: On the page of the suite what stands before it is written by hand.
NAMES = "<!-- The names below are written by tools/docs_api.py from the source of kessel_conformance. -->"

#: Classes of tests: their methods are pytest's business.
TESTS = {"AdapterConformance", "HandlerConformance", "MiddlewareConformance"}
#: Names whose fields have a page of their own, so that they are not repeated.
ELSEWHERE = {
    "JobRequest": "Every field: [Model and wire](model.md#jobrequest).",
    "JobResult": "Every field: [Model and wire](model.md#jobresult).",
    "Config": "Every option: [Configuration](configuration.md).",
    "WorkerConfig": "Every option: [Configuration](configuration.md#kesselworker).",
    "JobsConfig": "Every option: [Configuration](configuration.md#kesseljobs).",
    "PluginsConfig": "Every option: [Configuration](configuration.md#kesselplugins).",
    "LoggingConfig": "Every option: [Configuration](configuration.md#kessellogging).",
}
#: Created by kessel, never by its users, so nobody needs the arguments.
NOT_MADE_BY_USERS = {"Bench", "Clock", "JobContext", "Worker"}
#: Values have no docstrings of their own.
VALUES = {
    "Written": "What is to be written: the id of a job, or space and key of an entry; None: neither.",
    "JsonInput": "The type of a payload in a request: a `JsonValue`, or a more specific type such as "
    "`dict[str, int]` or `list[str]`. What types cannot express is checked at run time (S2).",
    "JsonValue": "None, bool, int, float, text, or lists and dicts with text keys of these.",
    "hookimpl": "Marks an implementation of a hook; see [Hooks](hooks.md).",
    "GROUP": "The entry-point group of plugins; the major version of their API is in its name.",
    "EVERY_WAITER": "A number of jobs that wakes all who wait for a queue; for `told_ready`.",
    "COMMIT": "A `Commit` that keeps no result.",
    "NO_PAUSE": "A span of zero.",
    "Settlement": "`Commit | Rollback | Snooze | Bury`.",
    "FacetKind": "The class of a facet, such as `Browse`.",
    "SUITE_VERSION": "Version of the suite, as `--kessel-suite` takes it.",
}


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    api = [API]
    for subject, names in _subjects(kessel_core):
        api.append(f"## {subject[0].upper()}{subject[1:]}")
        api += [_entry(name, getattr(kessel_core, name)) for name in names]
    for module in (kessel_core.testing, kessel_core.testing.strategies):
        api.append(f"## {module.__name__}")
        api.append(_markdown(inspect.getdoc(module) or ""))
        api += [_entry(name, getattr(module, name)) for name in sorted(module.__all__)]
    contract = [CONTRACT, _markdown(inspect.getdoc(kessel_core.contract) or "")]
    contract += [_listed(kessel_core.contract, name) for name in kessel_core.contract.__all__]
    return {
        REFERENCE / "api.md": "\n\n".join(api) + "\n",
        REFERENCE / "contract.md": "\n\n".join(contract) + "\n",
        REFERENCE / "hooks.md": "\n\n".join(_hooks()) + "\n",
        REFERENCE / "suite.md": "\n\n".join(_suite()) + "\n",
    }


def _listed(module: ModuleType, name: str) -> str:
    """Return the entry of a public name, or a link to the page that describes it."""
    for page, described in (("api", kessel_core), ("contract", kessel_core.contract)):
        is_there = described is not module and name in described.__all__
        # One name may stand for two things: `Snooze` is what handlers raise, and what workers settle with.
        if is_there and getattr(described, name) is getattr(module, name):
            return f"## {name}\n\nSee [`{name}`]({page}.md#{name.lower()})."
    return _entry(name, getattr(module, name), level=2)


def _hooks() -> Iterator[str]:
    yield HOOKS_PAGE.format(intro=(inspect.getdoc(specs) or "").partition("\n")[2].strip())
    for name in sorted(HOOKS, key=lambda hook: getattr(specs, hook).__code__.co_firstlineno):
        spec = getattr(specs, name)
        arguments = ", ".join(inspect.signature(spec).parameters)
        returns = spec.__annotations__.get("return", "None")
        first = "; the first answer that is not None counts" if spec.kessel_spec["firstresult"] else ""
        yield f"## {name}({arguments})"
        yield f"Returns `{returns}`{first}."
        yield inspect.getdoc(spec) or ""
    for name in kessel_core.hooks.__all__:
        yield _listed(kessel_core.hooks, name)


def _suite() -> Iterator[str]:
    yield (REFERENCE / "suite.md").read_text(encoding="utf-8").partition(NAMES)[0] + NAMES
    for name in kessel_conformance.__all__:
        yield _entry(name, getattr(kessel_conformance, name), level=2)


def _subjects(module: ModuleType) -> Iterator[tuple[str, list[str]]]:
    """Yield the groups of `__all__`, named by its comments."""
    _, _, rest = inspect.getsource(module).partition("__all__ = [")
    for group in rest.partition("]")[0].split("# ")[1:]:
        yield group.partition("\n")[0], re.findall(r'"(\w+)"', group)


# --- one name --------------------------------------------------------------------------------


def _entry(name: str, value: object, level: int = 3) -> str:
    parts = [f"{'#' * level} {name}"]
    if inspect.isclass(value):
        parts += _class(name, value)
    elif isinstance(value, (FunctionType, MethodType)):
        parts += [f"`{_signature(name, value)}`", _markdown(inspect.getdoc(value) or "")]
    else:
        parts.append(VALUES[name])
    return "\n\n".join(part for part in parts if part)


def _annotation(cls: type, name: str) -> object:
    """Return the type of a field as it is written; structuring changes what attrs says about it."""
    return next(
        vars(base)["__annotations__"][name]
        for base in cls.__mro__
        if name in vars(base).get("__annotations__", {})
    )


def _class(name: str, cls: type) -> Iterator[str]:
    base = cls.__bases__[0]
    if base.__name__ in {*kessel_core.__all__, *kessel_conformance.__all__}:
        yield f"Derived from [`{base.__name__}`](#{base.__name__.lower()})."
    is_protocol = getattr(cls, "_is_protocol", False)  # nobody makes one, and its `__init__` is typing's
    is_value = issubclass(cls, (Enum, tuple)) or attrs.has(cls)
    if name not in NOT_MADE_BY_USERS and not is_value and not is_protocol:
        # Of an error the arguments are its data, whichever class takes them.
        inits = (vars(owner)["__init__"] for owner in _owners(cls) if "__init__" in vars(owner))
        made = cls.__init__ if issubclass(cls, BaseException) else next(inits, None)  # type: ignore[misc]
        if isinstance(made, FunctionType):
            yield f"`{_signature(name, made)}`"
    yield _markdown(inspect.getdoc(cls) or "")
    blocks = [block for owner in _owners(cls)[1:] for block in (inspect.getdoc(owner) or "").split("\n\n")]
    inherited = [block.partition("\n")[2] for block in blocks if block.startswith("Attributes:")]
    if inherited:
        yield _markdown("Attributes:\n" + "\n".join(inherited))
    if name in ELSEWHERE:
        yield ELSEWHERE[name]
    comments = {key: text for owner in reversed(_owners(cls)) for key, text in _comments(owner).items()}
    if issubclass(cls, Enum):
        values = [(f"`{member.value}`", comments.get(member.name, "")) for member in cls]
        yield _table(("value", "meaning"), values)
        return
    if attrs.has(cls) and name not in ELSEWHERE:
        shown = [field for field in attrs.fields(cls) if not field.name.startswith("_")]
        is_mixed = not all(field.kw_only for field in shown)
        fields = [
            (
                f"`{field.name}`" + (", keyword only" if field.kw_only and is_mixed else ""),
                f"`{_annotation(cls, field.name)}`",
                _default(field.default),
                comments.get(field.name, ""),
            )
            for field in shown
        ]
        yield _table(("field", "type", "default", "meaning"), fields)
    elif comments and name not in ELSEWHERE:
        yield _table(("attribute", "meaning"), [(f"`{name}`", text) for name, text in comments.items()])
    members = {key: value for owner in reversed(_owners(cls)) for key, value in vars(owner).items()}
    for member, function in members.items():
        if member.startswith("_") or name in TESTS:
            continue
        is_abstract = getattr(function, "__isabstractmethod__", False)
        if isinstance(function, classmethod) and function.__doc__:
            made_by = getattr(cls, member)
            yield f"**`{_signature(f'{name}.{member}', made_by)}`** (class method)"
            yield _markdown(inspect.getdoc(made_by) or "")
        elif isinstance(function, property):
            how = "read only, to implement" if is_abstract else "read only"
            yield f"**`{member}`** ({how}): {_inline(inspect.getdoc(function) or '')}"
        elif isinstance(function, FunctionType) and function.__doc__:
            yield f"**`{_signature(member, function)}`**" + (" (to implement)" if is_abstract else "")
            yield _markdown(inspect.getdoc(function) or "")


def _owners(cls: type) -> list[type]:
    """Return the class, and those of its bases that have no entry of their own; only the suite has such."""
    found = [cls]
    for base in cls.__mro__[1:]:
        if base.__name__ in kessel_conformance.__all__ or not base.__module__.startswith(
            "kessel_conformance."
        ):
            break
        found.append(base)
    return found


def _comments(cls: type) -> dict[str, str]:
    """Return the `#:` comments of a class, by the name that follows each."""
    found: dict[str, str] = {}
    said: list[str] = []
    for line in inspect.getsource(cls).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            said.append(text[2:].strip())
            continue
        named = re.match(r"(?:self\.)?([A-Za-z]\w*) *[:=]", text)
        if said and named:
            found[named[1]] = " ".join(said)
        said = []
    return found


def _signature(name: str, function: FunctionType | MethodType) -> str:
    shown: list[str] = []
    starred = False
    signature = inspect.signature(function)
    for key, parameter in signature.parameters.items():
        if key == "self" or key.startswith("_"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f" = {_value(parameter.default)}"
        shown.append(f"{stars}{key}: {parameter.annotation}{default}")
    returns = signature.return_annotation
    waits = "async " if inspect.iscoroutinefunction(function) else ""
    gives = "" if returns in ("None", signature.empty) else f" -> {returns}"
    return f"{waits}{name}({', '.join(shown)}){gives}"


def _default(value: object) -> str:
    if value is attrs.NOTHING:
        return ""
    if isinstance(value, type(attrs.Factory(dict))):
        return "empty" if isinstance(value.factory, type) else "computed"
    if value == {}:
        return "empty"
    return f"`{duration_text(value) if isinstance(value, timedelta) else _value(value)}`"


def _value(value: object) -> str:
    """Return a default value as source text."""
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case timedelta():
            return f"timedelta(seconds={value.total_seconds():g})"
        case datetime():
            return f'"{value.isoformat()}"'
        case str():
            return f'"{value}"'
        case FunctionType():
            return "..."  # its representation has an address
        case Path():
            return f'Path("{value}")'
        case _:
            return repr(value)


# --- text --------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _inline(text: str) -> str:
    return " ".join(text.split())


def _markdown(text: str) -> str:
    """Convert a Google-style docstring to Markdown."""
    out: list[str] = []
    for block in text.split("\n\n"):
        heading, _, rest = block.partition("\n")
        rest = textwrap.dedent(rest)
        match heading:
            case "Args:" | "Raises:" | "Attributes:":
                items = re.findall(r"^(\*{0,2}\w+): (.*(?:\n .*)*)", rest, re.M)
                listed = "".join(f"\n- `{name}`: {_inline(said)}" for name, said in items)
                out.append(f"*{heading[:-1]}*" + (f"\n{listed}" if items else f": {_inline(rest)}"))
            case "Returns:":
                out.append(f"*Returns*: {_inline(rest)}")
            case "Example:":
                out.append(f"```pycon\n{rest}\n```")
            case _:
                out.append(block)
    return "\n\n".join(out)


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
