"""Reads the layers of a configuration: defaults < file < environment < arguments.

All mistakes of all layers are collected here and reported at once, each with its origin: file and key,
environment variable, or argument. `options` says what is valid, and `values.reading` converts the values.
Nothing else in the core reads the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

from kessel_core.config.files import CONFIG_VARIABLE, as_table, find_file, read_toml
from kessel_core.config.options import Config, contradictions, options
from kessel_core.config.origin import PLUGINS_SECTIONS, Argument, LoadedConfig, Origin
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.values.nearest import did_you_mean, nearest
from kessel_core.values.reading import read

__all__ = ["load_config"]


PREFIX: Final = "KESSEL_"
#: How the variable ends that has the address of a service.
_SERVICE: Final = "_SERVICE_HOST"

#: A layer: its origin, and path -> value as written there.
_Layer = tuple[Origin, Mapping[str, object]]
_T = TypeVar("_T")


def load_config(
    given: str | PathLike[str] | None = None,
    *,
    environ: Mapping[str, str],
    arguments: Mapping[str, Argument] | None = None,
    directory: Path = Path(),
) -> LoadedConfig:
    """Read all layers and return the configuration with the origin of each value.

    Args:
        given: The file named by `--config`, if any.
        environ: The environment.
        arguments: Option path, such as `worker.slots` -> the value from the command line.
        directory: Where to look for `kessel.toml` or `pyproject.toml`.

    Raises:
        InvalidConfig: With every problem of every layer and its origin.
    """
    problems: list[Problem] = []
    layers: list[_Layer] = []
    file: Path | None = None
    try:
        file = find_file(given, environ, directory)
        if file is not None:
            layers.append((Origin("file", str(file)), _file_values(directory / file, str(file), problems)))
    except InvalidConfig as exc:
        problems.extend(exc.problems)
    problems.extend(_environment_problems(environ))
    for variable, path in _variables().items():
        if variable in environ:
            layers.append((Origin("environment", variable), {path: environ[variable]}))
    for path, argument in _adapter_first(arguments or {}):
        layers.append((Origin("argument", argument.name), {path: argument.value}))

    values, origins = _merged(layers, problems)
    for problem, other in contradictions(values):
        origin = origins[problem.path]
        if origin.layer == "default":  # whoever set the other of the two has to be told
            problems.append(problem.given_by(origins[other].name))
        else:
            problems.append(origin.of(problem, len(problem.where)))
    if problems:
        raise InvalidConfig(problems)
    return LoadedConfig(config=_built(values), origins=origins, file=file)


def _merged(layers: list[_Layer], problems: list[Problem]) -> tuple[dict[str, object], dict[str, Origin]]:
    """Let the last layer win; but check the values of all of them, so that no mistake is hidden."""
    defaults = {path: option.of(_DEFAULTS) for path, option in options().items()}
    values, origins = {**defaults}, {path: Origin("default") for path in defaults}
    for origin, layer in layers:
        for path, written in _adapter_first(layer):
            option = options()[path]
            try:
                value = read(written, option.annotation, text=origin.layer != "file")
                wrong = list(option.problems(value))
            except (TypeError, ValueError) as exc:
                wrong = [Problem(option.where, str(exc))]
            origins[path] = origin
            if wrong:
                problems.extend(origin.of(problem, len(option.where)) for problem in wrong)
                values.pop(path, None)
                continue
            if path == "adapter" and _scheme(value) != _scheme(values.get(path, defaults[path])):
                # The options of a lower layer are meant for the adapter of that layer.
                values["adapter_options"] = defaults["adapter_options"]
                origins["adapter_options"] = Origin("default")
            values[path] = value
    return values, origins


_DEFAULTS: Final = Config()


def _adapter_first(layer: Mapping[str, _T]) -> list[tuple[str, _T]]:
    """Return the values of a layer with the adapter before its options, which another adapter resets."""
    return sorted(layer.items(), key=lambda item: item[0] != "adapter")


def _scheme(adapter: object) -> str:
    return str(adapter).partition("://")[0].lower()


def _built(values: Mapping[str, object]) -> Config:
    direct: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for path, option in options().items():
        *section, name = option.where
        (inside.setdefault(section[0], {}) if section else direct)[name] = values[path]
    sections = {name: type(getattr(_DEFAULTS, name))(**fields) for name, fields in inside.items()}
    return Config(**direct, **sections)


# --- the file ------------------------------------------------------------------------------------


def _file_values(path: Path, name: str, problems: list[Problem]) -> dict[str, object]:
    """Return path -> value of the `kessel` table of a file, without unknown options."""
    document = read_toml(path)
    where: tuple[str, ...]
    if path.name == "pyproject.toml":
        where, tools = ("tool", "kessel"), as_table(document.get("tool"))
        if "kessel" not in tools:  # only if the file was named: else it would not have been chosen
            problems.append(Problem(where, "there is no such table", name))
        table = tools.get("kessel", {})
    else:
        where, table = ("kessel",), document.get("kessel", {})
        for key in document:
            if key != "kessel":
                is_known = key in options() or key in _sections()
                is_project = key == "tool" and "kessel" in as_table(document[key])
                hint = (
                    "; options belong under [kessel]"
                    if is_known or is_project
                    else did_you_mean(key, ["kessel"])
                )
                problems.append(Problem((key,), f"unknown table{hint}", name))
    if not isinstance(table, dict):
        problems.append(Problem(where, f"expected a table, got {type(table).__name__}", name))
        return {}
    return dict(_known_only(table, (), name, problems))


def _known_only(
    table: Mapping[str, object], above: tuple[str, ...], origin: str, problems: list[Problem]
) -> Iterator[tuple[str, object]]:
    of_plugins: dict[str, object] = {}
    for key, value in table.items():
        where = (*above, key)
        path = ".".join(where)
        if path == PLUGINS_SECTIONS:
            problems.append(
                Problem(where, "unknown option; write the table of a plugin as [kessel.NAME]", origin)
            )
        elif path in options():
            yield path, value
        elif not above and isinstance(value, dict) and key not in _sections() and not _is_misspelt(key):
            # Whether a plugin reads it is known when the plugins are loaded.
            of_plugins[key] = value
        elif path not in _sections():
            problems.append(Problem(where, f"unknown option{_nearest_path(path)}", origin))
        elif isinstance(value, dict):
            yield from _known_only(value, where, origin, problems)
        else:
            problems.append(Problem(where, f"expected a table, got {type(value).__name__}", origin))
    if of_plugins:
        yield PLUGINS_SECTIONS, of_plugins


def _sections() -> frozenset[str]:
    return frozenset(option.where[0] for option in options().values() if len(option.where) > 1)


def _is_misspelt(table: str) -> bool:
    """Whether a table is meant for kessel itself, though nothing has its name.

    Only what is very near, or has the same letters: a plugin may call its section `sentry` or `storage`,
    which are like `history` and `store`.
    """
    name = table.lower().replace("-", "_")
    ours = [known for known in (*options(), *_sections()) if "." not in known]
    return sorted(name) in map(sorted, ours) or nearest(name, ours, 0.85) is not None


def _nearest_path(path: str) -> str:
    """Suggest an option: of this name in another section, else a near one in this, else one elsewhere."""
    prefix, _, name = path.rpartition(".")
    siblings = (known for known in (*options(), *_sections()) if known.rpartition(".")[0] == prefix)
    tails = {option.where[-1]: known for known, option in options().items()}
    # A dash is a common mistake in TOML; no option has one in its name.
    bare = name.replace("-", "_")
    if bare not in tails and (text := did_you_mean(path, siblings)):
        return text
    tail = nearest(bare, tails, 0.8)
    return f"; did you mean {tails[tail]!r}?" if tail is not None else ""


# --- the environment -----------------------------------------------------------------------------


def _variables() -> dict[str, str]:
    """Return variable -> path of the option that it sets."""
    return {PREFIX + "_".join(option.where).upper(): path for path, option in options().items()}


def _environment_problems(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield misspelt variables only, because other programs may have `KESSEL_*` variables of their own.

    `KESSEL_SLOTS` is misspelt, too: an option without its section.
    """
    sections = tuple(f"{PREFIX}{section.upper()}_" for section in _sections())
    variables = _variables()
    known = (*variables, CONFIG_VARIABLE)
    of_services = _of_services(environ)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or name.startswith(of_services):
            continue
        end = "." + name.removeprefix(PREFIX).lower()
        if bare := [repr(variable) for variable, path in variables.items() if path.endswith(end)]:
            yield Problem((), f"unknown variable; did you mean {' or '.join(bare)}?", name)
        elif nearest(name, known, 0.85) or name.startswith(sections):
            yield Problem((), f"unknown variable{did_you_mean(name, known)}", name)


def _of_services(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return how the variables begin that Kubernetes gives every container of a namespace for its services.

    A service `kessel-worker` has `KESSEL_WORKER_SERVICE_HOST`, `KESSEL_WORKER_PORT` and some more, and nobody
    who runs a worker has written them.
    """
    services = [
        name.removesuffix(_SERVICE)
        for name in environ
        if name.endswith(_SERVICE) and f"{name.removesuffix(_SERVICE)}_SERVICE_PORT" in environ
    ]
    return tuple(f"{service}_{part}" for service in services for part in ("SERVICE_", "PORT"))
