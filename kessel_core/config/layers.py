"""Where a configuration comes from: defaults < file < environment < arguments.

typed-settings knows the options and merges the layers; the checks are those of
`kessel_core.config`. What is wrong is collected here rather than there, because every mistake
of every layer is reported at once, with its own origin: file and key, environment variable, or
argument. Nothing else in the core reads `os.environ`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import attrs
from typed_settings.cls_utils import deep_options
from typed_settings.dict_utils import merge_settings, set_path
from typed_settings.loaders import EnvLoader
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo

from kessel_core.config.files import CONFIG_VARIABLE, _parsed, _table, find_file
from kessel_core.config.options import DEFAULT_ADAPTER, Check, Config, relations_broken
from kessel_core.config.origin import Argument, LoadedConfig, Origin
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.durations import parse_duration
from kessel_core.values.nearest import did_you_mean, nearest

__all__ = ["load"]


PREFIX: Final = "KESSEL_"


_OPTIONS: Final = deep_options(Config)


_BY_PATH: Final = {option.path: option for option in _OPTIONS}


#: Name -> class of each section.
_SECTIONS: Final[Mapping[str, type[Any]]] = {
    option.path.partition(".")[0]: option.parent_cls for option in _OPTIONS if "." in option.path
}


_VARIABLES: Final = {EnvLoader(PREFIX).get_envvar(option): option.path for option in _OPTIONS}


_CHECKS: Final[Mapping[str, Check]] = {
    option.path: getattr(attrs.fields(option.parent_cls), option.name).metadata["check"]
    for option in _OPTIONS
}


def _file_settings(path: Path, name: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the `kessel` table of a file, without what kessel does not know."""
    document = _parsed(path)
    where: tuple[str, ...]
    if path.name == "pyproject.toml":
        where, table = ("tool", "kessel"), _table(document.get("tool")).get("kessel", {})
    else:
        where, table = ("kessel",), document.get("kessel", {})
        for key in document:
            if key != "kessel":
                hint = "; options belong under [kessel]" if _is_known(key) else did_you_mean(key, ["kessel"])
                problems.append(Problem((key,), f"unknown table{hint}", name))
    if not isinstance(table, dict):
        problems.append(Problem(where, f"expected a table, got {type(table).__name__}", name))
        return {}
    return _known_only(table, (), name, problems)


def _is_known(key: str) -> bool:
    return key in _BY_PATH or key in _SECTIONS


def _known_only(
    table: dict[str, Any], above: tuple[str, ...], origin: str, problems: list[Problem]
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in table.items():
        where = (*above, key)
        path = ".".join(where)
        if path in _BY_PATH:
            kept[key] = value
        elif path in _SECTIONS and isinstance(value, dict):
            kept[key] = _known_only(value, where, origin, problems)
        elif path in _SECTIONS:
            problems.append(Problem(where, f"expected a table, got {type(value).__name__}", origin))
        else:
            problems.append(Problem(where, f"unknown option{_nearest_path(path)}", origin))
    return kept


def _nearest_path(path: str) -> str:
    """Propose an option: of the same section first, then the same name elsewhere."""
    prefix, _, name = path.rpartition(".")
    siblings = (known for known in (*_BY_PATH, *_SECTIONS) if known.rpartition(".")[0] == prefix)
    if text := did_you_mean(path, siblings):
        return text
    tails = {known.rpartition(".")[2]: known for known in _BY_PATH}
    # A dash is a usual slip in TOML, and no option has one in its name.
    tail = nearest(name.replace("-", "_"), tails, 0.8)
    return f"; did you mean {tails[tail]!r}?" if tail is not None else ""


def _environment_problems(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield misspelt variables; other programs may have `KESSEL_*` variables of their own."""
    sections = tuple(f"{PREFIX}{section.upper()}_" for section in _SECTIONS)
    known = (*_VARIABLES, CONFIG_VARIABLE)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known:
            continue
        if nearest(name, known, 0.85) or name.startswith(sections):
            yield Problem((), f"unknown variable{did_you_mean(name, known)}", name)


class _WrongError(Exception):
    """A value that cannot become what its option is."""


def _converted(annotation: Any, value: object, *, is_text: bool) -> object:
    """Return the value as the option's type; what the check can judge is let through as it is.

    Args:
        annotation: The type of the option.
        value: From TOML or the command line; or from the environment, then always text.
        is_text: Whether numbers, booleans, lists and tables may be written as text.
    """
    if get_origin(annotation) in (Union, UnionType):
        inner = next(arg for arg in get_args(annotation) if arg is not type(None))
        return None if value is None else _converted(inner, value, is_text=is_text)
    if annotation is timedelta and not isinstance(value, timedelta):
        return _duration(value)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum) and isinstance(value, str):
        return next((member for member in annotation if member == value.strip().lower()), value)
    if get_origin(annotation) is tuple:
        if is_text and isinstance(value, str):
            # Empty means none; an empty name between commas is a slip, which the check tells.
            return tuple(part.strip() for part in value.split(",")) if value.strip() else ()
        return tuple(value) if isinstance(value, list) else value
    if is_text and isinstance(value, str):
        return _from_text(annotation, value)
    return value


def _duration(value: object) -> timedelta:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as exc:
            raise _WrongError(str(exc)) from exc
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError) as exc:
            raise _WrongError(f"{value} seconds is no usable duration") from exc
    raise _WrongError(f"expected a duration such as '90s' or '5m', got {value!r:.60}")


def _from_text(annotation: Any, text: str) -> object:
    if annotation is int:
        try:
            return int(text)
        except ValueError as exc:
            raise _WrongError(f"expected a whole number, got {text!r:.60}") from exc
    if annotation is bool:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise _WrongError(f"expected true or false, got {text!r:.60}")
    if get_origin(annotation) is not None:
        # A table. The text may hold secrets, so it is not repeated in the message.
        try:
            return json.loads(text)
        except ValueError as exc:
            raise _WrongError('expected a JSON object, as {"name": "value"}') from exc
    return text


def _value_problem(option: OptionInfo, value: object, origin: Origin) -> tuple[object, str | None]:
    try:
        converted = _converted(option.cls, value, is_text=origin.layer in ("environment", "argument"))
    except _WrongError as exc:
        return value, str(exc)
    if option.path == "logging.level" and isinstance(converted, str):
        converted = converted.strip().lower()
    return converted, _CHECKS[option.path](converted)


def load(
    given: str | None = None,
    *,
    environ: Mapping[str, str],
    arguments: Mapping[str, Argument] | None = None,
    directory: Path = Path(),
) -> LoadedConfig:
    """Read all layers and return the configuration with the origin of each value.

    Args:
        given: The file named by `--config`, if any.
        environ: The environment.
        arguments: Option path, such as `worker.slots` -> what the command line says.
        directory: Where `kessel.toml` or `pyproject.toml` is looked for.

    Raises:
        InvalidConfig: Anything is wrong in any layer; every problem is listed with its origin.
    """
    problems: list[Problem] = []
    layers: list[tuple[Origin, dict[str, Any]]] = []
    file: Path | None = None
    try:
        file = find_file(given, environ, directory)
        if file is not None:
            layers.append((Origin("file", str(file)), _file_settings(directory / file, str(file), problems)))
    except InvalidConfig as exc:
        problems.extend(exc.problems)
    problems.extend(_environment_problems(environ))
    for variable, path in _VARIABLES.items():
        if variable in environ:
            layers.append((Origin("environment", variable), _nested(path, environ[variable])))
    for path, argument in (arguments or {}).items():
        layers.append((Origin("argument", argument.name), _nested(path, argument.value)))

    values, origins = _merged(layers, problems)
    problems.extend(_relation_problems(values, origins))
    if problems:
        raise InvalidConfig(problems)
    return LoadedConfig(config=_built(values), origins=origins, file=file)


def _nested(path: str, value: object) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    set_path(settings, path, value)
    return settings


def _merged(
    layers: list[tuple[Origin, dict[str, Any]]], problems: list[Problem]
) -> tuple[dict[str, object], dict[str, Origin]]:
    """Let the last layer win; but look at the values of all of them, so that no mistake is hidden."""
    values: dict[str, object] = {}
    origins = {path: Origin("default") for path in _BY_PATH}
    for origin, settings in layers:
        loaded = LoadedSettings(settings, LoaderMeta(origin.name))
        for path, (value, _) in merge_settings(_OPTIONS, [loaded]).items():
            converted, problem = _value_problem(_BY_PATH[path], value, origin)
            if problem is not None:
                where = tuple(path.split("."))
                problems.append(origin.of(Problem(where, problem), len(where)))
                values.pop(path, None)
            else:
                if path == "adapter" and _kind(converted) != _kind(values.get(path, DEFAULT_ADAPTER)):
                    # What a lower layer says to its own adapter, another kind would not understand.
                    values.pop("adapter_options", None)
                    origins["adapter_options"] = Origin("default")
                values[path] = converted
            origins[path] = origin
    return values, origins


def _kind(adapter: object) -> str:
    return str(adapter).partition("://")[0].lower()


def _by_section(values: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Return the values of each section by name; those outside of one under the empty name."""
    found: dict[str, dict[str, Any]] = {"": {}, **{section: {} for section in _SECTIONS}}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        found[section][name] = value
    return found


def _relation_problems(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Iterator[Problem]:
    """Yield contradictions between values, named by the origin of the option that is at fault."""
    inside = _by_section(values)
    for name, section in _SECTIONS.items():
        for problem in relations_broken(section(**inside[name]), (name,)):
            yield origins[problem.path].of(problem, len(problem.where))


def _built(values: Mapping[str, object]) -> Config:
    inside = _by_section(values)
    sections = {name: section(**inside[name]) for name, section in _SECTIONS.items()}
    return Config(**inside[""], **sections)
