"""`kessel postgres`: make the tables, bring them up to date, print the statements for those who may not.

`kessel --help` loads this module, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import click

from kessel_core import InvalidConfig, Problem, with_adapter_options

__all__ = ["postgres"]


@click.group()
def postgres() -> None:
    """Make and upgrade the tables of kessel in a PostgreSQL database.

    ADDRESS is postgresql://user@host/database, with ?schema=NAME for another schema than kessel; left out,
    it is the adapter of the configuration.
    """


@postgres.command("install")
@with_adapter_options
def install(options: object) -> None:
    """Make the tables, if they are not there; the role needs the right CREATE on the database."""
    _bring_up(options)


@postgres.command("upgrade")
@with_adapter_options
def upgrade(options: object) -> None:
    """Bring the tables up to date; workers may go on meanwhile."""
    _bring_up(options)


def _bring_up(options: object) -> None:
    from kessel_postgres.installing import install as bring_up
    from kessel_postgres.options import PostgresOptions

    if not isinstance(options, PostgresOptions):
        # Without a user in it, because what looks like a secret is not printed.
        why = "is not on PostgreSQL; give an address, as postgresql://host/database"
        raise InvalidConfig([Problem(("adapter",), why)])
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
