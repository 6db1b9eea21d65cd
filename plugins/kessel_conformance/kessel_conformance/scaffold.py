"""`kessel new KIND NAME`: writes a complete distribution for a plugin, ready to be tested.

Adapters, stores, handlers and middleware: all of it lies here, because what it writes is tested by the suites
of this distribution, which is what whoever writes a plugin installs.

The files are templates in the folder beside this module; everything is rendered and checked
before the first file is written.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import click

__all__ = ["KINDS", "new", "rendered", "write"]

#: What can be made -> the summary of its distribution.
KINDS: Final[Mapping[str, str]] = {
    "adapter": "The queue adapter {name} for kessel",
    "handlers": "The handlers {name} for kessel",
    "middleware": "The middleware {name} for kessel",
    "store": "The store {name} for kessel",
}

# Narrower than what an index accepts: one spelling that fits the distribution, the package (with
# `_`), the URL scheme, the job type and the entry point.
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST: Final = 50
_BUILT_IN: Final = frozenset({"logging", "retry"})
#: Names and schemes of the stores that come with kessel.
_STORES: Final = frozenset(
    {"memory", "postgres", "postgresql", "redis", "rediss", "sqlite", "valkey", "valkeys"}
)
#: Names that kessel's own plugins have or offer; beside them a second one could not be used.
_TAKEN: Final[Mapping[str, frozenset[str]]] = {
    "adapter": _BUILT_IN
    | _STORES
    | {"beanstalk", "conformance", "handlers-example", "http", "otel", "prometheus"},
    "handlers": frozenset({"example", "kessel"}),
    "middleware": _BUILT_IN | {"otel"},
    "store": _STORES | {"adapter"},
}

#: Of the CI of an adapter: the server that its tests start has to be there, and is an error if it is not.
_SERVER: Final = """\
    env:
      # The package of Ubuntu with the server that the tests start, such as redis-server; empty: none.
      SERVER_PACKAGE: ""
"""
_INSTALL: Final = """\
      - if: env.SERVER_PACKAGE != ''
        run: sudo apt-get update && sudo apt-get install --yes --no-install-recommends "$SERVER_PACKAGE"
"""
#: The wheel that is published must hold the report of the very sources in it.
_CHECK: Final = """\
      - if: matrix.python == '3.13'
        run: python -m pip install --force-reinstall --no-deps dist/*.whl && kessel adapters --check {name}
"""


def rendered(kind: str, name: str) -> dict[str, str]:
    """Return the files of a new distribution: path in it -> text.

    Raises:
        ValueError: `name` cannot be part of the names that are made from it, or is taken.
    """
    from kessel_conformance.catalogue import SUITE_VERSION  # `kessel --help` loads this module, too

    if (mistake := _mistake(kind, name)) is not None:
        raise ValueError(mistake)
    distribution = f"kessel-{kind}-{name}"
    package = distribution.replace("-", "_")
    values = {
        "name": name,
        "distribution": distribution,
        "package": package,
        "plugin": name if kind == "adapter" else f"{kind}-{name}",
        "summary": KINDS[kind].format(name=name),
        "title": "".join(word.capitalize() for word in name.split("-")),
        "suite": SUITE_VERSION,
        "pytest": "pytest",
        "server": "",
        "install": "",
        "check": "",
    }
    if kind == "adapter":
        values |= {"server": _SERVER, "install": _INSTALL, "check": _CHECK.format(name=name)}
        report = f"{package}/conformance.json"
        values["pytest"] += f" --kessel-budget ci --kessel-suite {SUITE_VERSION} --kessel-report {report}"
    sources = {
        ".github/workflows/test.yml": "test.yml",
        ".gitignore": "gitignore",
        "CHANGELOG.md": "CHANGELOG.md",
        "README.md": f"{kind}_README.md",
        "pyproject.toml": "pyproject.toml",
        f"{package}/__init__.py": "init.py",
        f"{package}/{kind}.py": f"{kind}_{kind}.py",
        f"{package}/plugin.py": f"{kind}_plugin.py",
        f"tests/test_{package}.py": f"{kind}_test.py",
    }
    templates = files("kessel_conformance").joinpath("templates")
    texts = {
        path: Template(templates.joinpath(f"{source}.tmpl").read_text(encoding="utf-8")).substitute(values)
        for path, source in sources.items()
    }
    return texts | {f"{package}/py.typed": ""}


def _mistake(kind: str, name: str) -> str | None:
    """Say what is wrong with a name, and what may be meant."""
    given, prefix = name[: _LONGEST + 10], f"kessel-{kind}-"
    meant = re.sub(r"[\s_.-]+", "-", name).strip("-").lower()
    meant = meant.removeprefix(prefix).removeprefix("kessel-")
    hint = f"; did you mean {meant!r}?" if meant != name and _NAME.fullmatch(meant) else ""
    if _NAME.fullmatch(name) is None or len(name) > _LONGEST:
        return (
            f"{given!r} must be lower-case letters and digits, words joined by '-', "
            f"starting with a letter, at most {_LONGEST} characters{hint}"
        )
    if name.startswith("kessel-"):
        return f"{given!r}: the distribution will be named {prefix}NAME, so leave out 'kessel-'{hint}"
    if name in _TAKEN[kind]:
        return f"{name!r} is the name of something that comes with kessel"
    return None


def write(texts: Mapping[str, str], target: Path) -> None:
    """Write the files below `target`, which must be empty or not there yet; all of them, or none.

    Raises:
        ValueError: `target` is a file, or holds something.
        OSError: The files cannot be written.
    """
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is not a directory")
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty")
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        for path, text in texts.items():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
    except BaseException:
        # It was empty or not there before, so whatever lies in it is ours.
        for ours in [made[-1]] if made else list(target.iterdir()):
            shutil.rmtree(ours) if ours.is_dir() else ours.unlink(missing_ok=True)
        raise


@click.command()
@click.argument("kind", type=click.Choice(tuple(KINDS)))
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the distribution, empty or new; default: kessel-KIND-NAME.",
)
def new(kind: str, name: str, into: Path | None) -> None:
    """Write a complete distribution for a plugin of your own.

    Package, entry point, tests, CI: it works and passes as it is; replace its inside by your own.
    """
    try:
        texts = rendered(kind, name)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="NAME") from exc
    target = Path(f"kessel-{kind}-{name}") if into is None else into
    try:
        write(texts, target)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--into") from exc
    except OSError as exc:
        where = exc.filename or target
        raise click.BadParameter(f"{where}: {exc.strerror or exc}", param_hint="--into") from exc
    click.echo(f"{target}: {len(texts)} files")
    click.echo(
        f"next: cd {shlex.quote(str(target))} && python -m pip install -e '.[test,lint]' && python -m pytest"
    )
