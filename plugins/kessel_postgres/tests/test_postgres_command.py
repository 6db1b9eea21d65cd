"""`kessel postgres`, and what the other commands say about a schema that is not ready."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import attrs
import psycopg
import pytest
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.schema import VERSION, upgrade_script
from kessel_postgres.testing import Postgres

from kessel_core import (
    Config,
    Fatal,
    HistoryConfig,
    JobContext,
    JobManager,
    JobRequest,
    ResultsConfig,
    Snooze,
    Transient,
)
from kessel_core.cli.root import run
from kessel_core.contract import NO_PAUSE, DoctorContext, Level

DAY = timedelta(days=1)
CONTEXT = DoctorContext(queues=("default",), types=frozenset(), grace=timedelta(seconds=30))


@attrs.frozen
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def kessel(
    capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    monkeypatch.chdir(str(tmp_path))

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


def test_install_makes_the_tables_once(kessel: Callable[..., Done], server: Postgres) -> None:
    address = server.url("schema=cli_once")
    first = kessel("postgres", "install", address)
    assert (first.code, first.out.endswith("tables made, version 1\n")) == (0, True)
    assert kessel("postgres", "install", address).out.endswith("nothing to do\n")
    assert kessel("postgres", "upgrade", address).out.endswith("nothing to do\n")
    assert kessel("request", "--adapter", address, "a.job").code == 0


def test_missing_tables_are_one_error_that_names_the_command(
    kessel: Callable[..., Done], server: Postgres
) -> None:
    done = kessel("stats", "--adapter", server.url("schema=cli_missing"))
    assert done.code != 0
    assert "make them with: kessel postgres install" in done.err
    assert done.err.count("\n") == 1


def test_configured_adapter_is_the_address(kessel: Callable[..., Done], server: Postgres) -> None:
    with open("kessel.toml", "w") as file:  # noqa: PTH123 - the folder is the current one
        file.write(f'[kessel]\nadapter = "{server.url()}"\nadapter_options = {{ schema = "cli_config" }}\n')
    assert "schema cli_config: tables made" in kessel("postgres", "install").out


@pytest.mark.parametrize("place", ["before", "after", "argument"])
def test_address_that_is_given_wins_over_the_configuration_wherever_it_stands(
    kessel: Callable[..., Done], server: Postgres, tmp_path: Path, place: str
) -> None:
    """The tables were made where the configuration says, and nothing told so."""
    (tmp_path / "kessel.toml").write_text(f'[kessel]\nadapter = "{server.url("schema=cli_not_asked")}"\n')
    address = server.url(f"schema=cli_{place}")
    arguments = {
        "before": ("-a", address, "postgres", "install"),
        "after": ("postgres", "install", "-a", address),
        "argument": ("postgres", "install", address),
    }
    assert f"schema cli_{place}: tables made" in kessel(*arguments[place]).out
    assert kessel("stats").code != 0, "in the other schema nothing was made"


@pytest.mark.parametrize("is_before", [True, False])
def test_file_that_is_given_has_the_address(
    kessel: Callable[..., Done], server: Postgres, tmp_path: Path, is_before: bool
) -> None:
    (tmp_path / "kessel.toml").write_text('[kessel]\nadapter = "sqlite:///jobs.db"\n')
    (tmp_path / "a.toml").write_text(
        f'[kessel]\nadapter = "{server.url(f"schema=cli_file_{is_before:d}")}"\n'
    )
    named = ("-c", "a.toml")
    arguments = (*named, "postgres", "install") if is_before else ("postgres", "install", *named)
    assert "tables made" in kessel(*arguments).out
    done = kessel("-c", "b.toml", "postgres", "install")
    assert (done.code, "b.toml" in done.err) == (2, True)


@pytest.mark.parametrize("address", ["sqlite:///jobs.db", "memory://"])
def test_address_of_another_adapter_is_refused(kessel: Callable[..., Done], address: str) -> None:
    done = kessel("postgres", "install", address)
    assert done.code == 2
    assert "ADDRESS" in done.err
    assert "give an address, as postgresql://host/database" in done.err


def test_printed_statements_do_what_install_does(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection
) -> None:
    printed = kessel("postgres", "sql", "--schema", "cli_printed").out
    database.execute(printed.encode())
    assert kessel("stats", "--adapter", server.url("schema=cli_printed")).code == 0


def test_printed_rights_are_all_that_a_role_needs(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection
) -> None:
    """A role with these rights and no others does everything that producers and workers do."""
    kessel("postgres", "install", server.url("schema=cli_least"))
    database.execute("CREATE ROLE clerk LOGIN")
    address = f"postgresql://clerk@127.0.0.1:{server.port}/postgres?schema=cli_least"
    before = kessel("stats", "--adapter", address)
    assert "kessel postgres sql --schema cli_least --grant clerk" in before.err
    database.execute(kessel("postgres", "sql", "--schema", "cli_least", "--grant", "clerk").out.encode())
    assert kessel("request", "--adapter", address, "a.job", "--delay", "1h").code == 0
    assert kessel("request", "--adapter", address, "a.job").code == 0
    assert kessel("purge", "--adapter", address, "--yes", "default").code == 0
    with JobManager(address) as manager, psycopg.connect(address.partition("?")[0]) as connection:
        assert isinstance(manager.adapter, PostgresAdapter)
        manager.adapter.enqueue(manager.message(JobRequest(type="a.job")), connection=connection)
    _does_everything(address)
    assert "rights" not in kessel("doctor", "--adapter", address).out
    assert kessel("postgres", "upgrade", address).code == 0


def _does_everything(address: str) -> None:
    """Do once what workers, their jobs and operators do; the error of the server names what is refused."""

    def work(payload: str, job: JobContext) -> str:
        if payload == "fail":
            raise Fatal("as asked")
        if payload == "retry" and job.attempt == 1:
            raise Transient("as asked", after=NO_PAUSE)
        if payload == "snooze" and not job.snoozes:
            raise Snooze(NO_PAUSE)
        if payload == "follow":
            job.follow_up("work", "followed", queue="other")
        job.extend()
        return payload

    config = Config(results=ResultsConfig(keep=DAY), history=HistoryConfig(keep=DAY))
    with JobManager(address, handlers={"work": work}, config=config) as manager:
        adapter = manager.adapter
        asked = ("follow", "fail", "retry", "snooze")
        job_ids = [manager.request("work", text, queue="other").id for text in asked]
        assert isinstance(adapter, PostgresAdapter)
        adapter.pause("other", DAY)
        assert manager.worker(queues="other").drain() == {}
        assert "other" in adapter.queues()
        adapter.pause("other", NO_PAUSE)
        counts = manager.worker(queues="other").drain()
        assert counts == {"failed": 1, "failed-transient": 1, "snoozed": 1, "success": 4}
        assert [manager.result(job_id).ok for job_id in job_ids] == [True, False, True, True]
        assert manager.history(job_ids[0]).events
        (buried,) = adapter.each_buried("other")
        adapter.kick("other", buried.id)
        adapter.delete("other", buried.id)
        assert manager.store.delete("results", buried.id)


def test_role_that_may_not_create_is_told_who_could(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection
) -> None:
    database.execute("CREATE ROLE guest LOGIN")
    address = f"postgresql://guest@127.0.0.1:{server.port}/postgres?schema=cli_guest"
    done = kessel("postgres", "install", address)
    assert done.code != 0
    assert "kessel postgres sql --schema cli_guest" in done.err
    assert database.execute("SELECT to_regnamespace('cli_guest')::text").fetchone() == (None,)


def test_newer_tables_are_refused_by_name(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection
) -> None:
    server.install("cli_newer")
    database.execute("UPDATE cli_newer.meta SET value = '9' WHERE key IN ('version', 'readable_from')")
    done = kessel("stats", "--adapter", server.url("schema=cli_newer"))
    assert "version 9" in done.err
    assert "update kessel-postgres" in done.err
    # A newer one that says that it can be read is read.
    database.execute("UPDATE cli_newer.meta SET value = '1' WHERE key = 'readable_from'")
    assert kessel("stats", "--adapter", server.url("schema=cli_newer")).code == 0


@pytest.mark.parametrize("command", ["install", "upgrade"])
@pytest.mark.parametrize(("readable_from", "code"), [("1", 0), ("9", 1)], ids=["readable", "unreadable"])
def test_tables_of_a_newer_release_are_left_as_they_are_and_an_error_only_where_they_cannot_be_read(
    kessel: Callable[..., Done],
    server: Postgres,
    schema: str,
    database: psycopg.Connection,
    command: str,
    readable_from: str,
    code: int,
) -> None:
    """While nodes are updated one by one, the older ones say so as well at their start."""
    put = f'UPDATE "{schema}".meta SET value = %s WHERE key = %s'
    database.execute(put.encode(), ("9", "version"))
    database.execute(put.encode(), (readable_from, "readable_from"))
    done = kessel("postgres", command, server.url(f"schema={schema}"))
    assert done.code == code
    assert "version 9" in done.out + done.err
    assert ("update kessel-postgres" in done.err) is bool(code)


@pytest.mark.parametrize(
    "table",
    [
        "(key text, value text)",
        "(key text, value text); INSERT INTO s.meta VALUES ('version', '3.2.1')",
        "(key text, value text); INSERT INTO s.meta VALUES ('version', '1')",
        "(key text, value int); INSERT INTO s.meta VALUES ('version', NULL), ('id', 7)",
        "(id int, value text); INSERT INTO s.meta VALUES (1, '1')",
    ],
)
def test_meta_of_others_is_one_error_that_says_so(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection, table: str
) -> None:
    """Some were a traceback, an unusable plugin, or nothing to do."""
    database.execute("DROP SCHEMA IF EXISTS cli_foreign CASCADE")
    database.execute("CREATE SCHEMA cli_foreign")
    database.execute(f"CREATE TABLE s.meta {table}".replace("s.", "cli_foreign.").encode())
    address = server.url("schema=cli_foreign")
    for arguments in (("postgres", "install"), ("postgres", "upgrade"), ("stats",)):
        done = kessel(*arguments, "--adapter", address)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "something else uses the table meta of schema cli_foreign: choose another schema" in done.err
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'cli_foreign'::regnamespace AND relkind = 'r'"
    assert database.execute(count).fetchone() == (1,)


@pytest.mark.parametrize("made", ["TABLE s.jobs (id int)", "SEQUENCE s.meta", "TYPE s.ready AS ENUM ('a')"])
def test_names_of_others_in_the_schema_are_told_and_left(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection, made: str
) -> None:
    database.execute("DROP SCHEMA IF EXISTS cli_taken CASCADE")
    database.execute("CREATE SCHEMA cli_taken")
    database.execute(f"CREATE {made}".replace("s.", "cli_taken.").encode())
    done = kessel("postgres", "install", server.url("schema=cli_taken"))
    assert done.code == 1
    assert "already exists; choose another schema" in done.err
    assert database.execute("SELECT to_regclass('cli_taken.held')::text").fetchone() == (None,)


def test_upgrade_keeps_the_identity_of_the_database(
    server: Postgres, schema: str, database: psycopg.Connection
) -> None:
    """Else jobs in the transactions of applications that are open would be refused."""
    known = f"SELECT value FROM \"{schema}\".meta WHERE key = 'id'".encode()
    before = database.execute(known).fetchone()
    with database.transaction():
        for statement in upgrade_script(schema, VERSION):
            database.execute(statement)
    assert before == database.execute(known).fetchone() != (None,)


def test_older_tables_name_the_command(
    kessel: Callable[..., Done], server: Postgres, database: psycopg.Connection
) -> None:
    server.install("cli_older")
    database.execute("UPDATE cli_older.meta SET value = '0' WHERE key = 'version'")
    assert "kessel postgres upgrade" in kessel("stats", "--adapter", server.url("schema=cli_older")).err


@pytest.mark.parametrize(
    "arguments", [("--schema", "Shop"), ("--schema", "pg_shop"), ("--from", "7"), ("--grant", " ")]
)
def test_wrong_arguments_of_sql_are_refused(kessel: Callable[..., Done], arguments: tuple[str, str]) -> None:
    done = kessel("postgres", "sql", *arguments)
    assert done.code != 0
    assert done.out == ""
    assert arguments[0] in done.err


def test_grant_quotes_the_name_of_the_role(kessel: Callable[..., Done]) -> None:
    assert 'TO "a""; DROP"' in kessel("postgres", "sql", "--grant", 'a"; DROP').out


def test_doctor_says_what_the_server_is(kessel: Callable[..., Done], server: Postgres, schema: str) -> None:
    done = kessel("doctor", "--adapter", server.url(f"schema={schema}"))
    assert "PostgreSQL 1" in done.out
    assert "fsync=off" in done.out


@pytest.mark.parametrize("right", ["INSERT", "DELETE"])
def test_doctor_names_a_role_that_lacks_one_of_the_rights_to_write(
    kessel: Callable[..., Done], server: Postgres, schema: str, database: psycopg.Connection, right: str
) -> None:
    """Asked for both at once, PostgreSQL says whether it has any of them."""
    role = f"without_{right.lower()}"
    database.execute(f"CREATE ROLE {role} LOGIN".encode())
    database.execute(kessel("postgres", "sql", "--schema", schema, "--grant", role).out.encode())
    address = f"postgresql://{role}@127.0.0.1:{server.port}/postgres?schema={schema}"
    assert "rights" not in kessel("doctor", "--adapter", address).out
    database.execute(f'REVOKE {right} ON "{schema}".jobs FROM {role}'.encode())
    with JobManager(address) as manager:
        (found,) = [one for one in manager.adapter.doctor(CONTEXT) if one.subject == "rights"]
    assert (found.level, found.detail) == (Level.ERROR, "this role may not write the jobs")
    assert found.advice == f"kessel postgres sql --schema {schema} --grant {role}"


def test_doctor_names_who_keeps_dead_rows(
    kessel: Callable[..., Done],
    server: Postgres,
    schema: str,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kessel_postgres.doctor._LONG", timedelta(seconds=-1))
    with psycopg.connect(server.url("application_name=night%20report")) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        done = kessel("doctor", "--adapter", server.url(f"schema={schema}"))
    assert "night report" in done.out
    assert "end it" in done.out
