"""`kessel postgres`: make the tables, bring them up to date, print the statements for those who may not.

`kessel --help` loads this module, so what a command needs is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kessel_core import InvalidConfig, Problem

if TYPE_CHECKING:
    from kessel_postgres.options import PostgresOptions

__all__ = ["postgres"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _address(command: _F) -> _F:
    """Add the address, and the configuration that has one if it is left out."""
    config = click.option("--config", "config", metavar="FILE", help="Configuration file with the address.")
    return click.argument("address", metavar="[ADDRESS]", required=False)(config(command))


def _options(address: str | None, config: str | None) -> PostgresOptions:
    """Return the options of an address, or of the configured adapter.

    Raises:
        InvalidConfig: It is none of PostgreSQL, or not valid.
    """
    import os

    from kessel_core import build_plugins, load_config
    from kessel_postgres.options import PostgresOptions

    extra: Any = {}
    if address is None:
        loaded = load_config(config, environ=os.environ).config
        address, extra = loaded.adapter, loaded.adapter_options
    options = build_plugins().chosen_adapter(address, extra).options
    if not isinstance(options, PostgresOptions):
        why = "is not on PostgreSQL; give an address, as postgresql://user@host/database"
        raise InvalidConfig([Problem(("adapter",), why)])
    return options


@click.group()
def postgres() -> None:
    """Make and upgrade the tables of kessel in a PostgreSQL database.

    ADDRESS is postgresql://user@host/database, with ?schema=NAME for another schema than kessel; left out,
    it is the adapter of the configuration.
    """


@postgres.command("install")
@_address
def install(address: str | None, config: str | None) -> None:
    """Make the tables, if they are not there; the role needs the right CREATE on the database."""
    _bring_up(_options(address, config))


@postgres.command("upgrade")
@_address
def upgrade(address: str | None, config: str | None) -> None:
    """Bring the tables up to date; workers may go on meanwhile."""
    _bring_up(_options(address, config))


def _bring_up(options: PostgresOptions) -> None:
    from kessel_postgres.installing import install as bring_up

    before, now = bring_up(options)
    if before == now:
        click.echo(f"{options.place}: the tables have version {now}; nothing to do")
    elif before:
        click.echo(f"{options.place}: tables brought from version {before} to {now}")
    else:
        click.echo(f"{options.place}: tables made, version {now}")


@postgres.command("sql")
@click.option("--schema", default="kessel", show_default=True, help="Name of the schema.")
@click.option("--from", "present", type=int, default=0, help="The version that is there; 0: none.")
@click.option("--grant", "role", metavar="ROLE", help="Print the least rights of a role instead.")
def sql(schema: str, present: int, role: str | None) -> None:
    """Print the statements that install or upgrade do, for somebody else to run; connects to nothing."""
    from kessel_postgres.options import schema_problem
    from kessel_postgres.schema import VERSION, grants, upgrade_script

    problems = []
    if (wrong := schema_problem(schema)) is not None:
        problems.append(Problem(("--schema",), wrong))
    if not 0 <= present <= VERSION:
        problems.append(Problem(("--from",), f"expected 0 to {VERSION}, got {present}"))
    if role is not None and (not role.strip() or "\0" in role):
        problems.append(Problem(("--grant",), "must be the name of a role"))
    if problems:
        raise InvalidConfig(problems, "nothing is printed")
    if role is not None:
        click.echo("".join(f"{statement};\n" for statement in grants(schema, role)), nl=False)
        return
    statements = "".join(f"{statement.rstrip()};\n\n" for statement in upgrade_script(schema, present))
    click.echo(f"BEGIN;\n\n{statements}COMMIT;")
