"""For tests: a private PostgreSQL on a free loopback port, in a folder of its own, stopped by its pid.

Its programs may not run as root: there it runs as the user `postgres`, or `nobody`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psycopg

from kessel_core.contract import AdapterError
from kessel_core.testing import free_port
from kessel_postgres.installing import install
from kessel_postgres.options import PostgresOptions
from kessel_postgres.schema import upgrade_script

__all__ = ["PgBouncer", "Postgres", "PostgresMissing", "programs"]

#: What every server here has; the tables of tests are small, and their disk is no question.
_USUAL = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "500",
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
    "fsync": "off",
    "full_page_writes": "off",
}


class PostgresMissing(RuntimeError):
    """The programs of PostgreSQL cannot be found here."""


def programs() -> Path:
    """Return the folder of `postgres` and `initdb`: by `POSTGRES`, on PATH, or where Debian keeps them.

    Raises:
        PostgresMissing: There is none.
    """
    named = os.environ.get("POSTGRES") or shutil.which("postgres")
    found = [Path(named).resolve()] if named else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    for path in found:
        if path.exists() and (path.parent / "initdb").exists():
            return path.parent
    raise PostgresMissing(
        "no PostgreSQL: install it (apt-get install postgresql, brew install postgresql), or name its program"
        " with POSTGRES=/path/to/postgres"
    )


@functools.cache
def _user() -> pwd.struct_passwd | None:
    """Return the user who runs the server; None: who runs this."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissing("PostgreSQL cannot run as root, and there is no user postgres or nobody")


def _given(folder: Path) -> Path:
    """Give a folder to the user who runs the server."""
    user = _user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        for base, folders, names in os.walk(folder):
            for name in (*folders, *names):
                os.chown(Path(base, name), user.pw_uid, user.pw_gid)
    return folder


def _started(command: list[str], log: Path | None = None) -> subprocess.Popen[bytes]:
    user = _user()
    extra = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # The tests choose the command. Nobody reads its output, so it must not fill a pipe. A folder that the
    # user may enter; a group of its own, so that Ctrl-C in a terminal is for the tests alone.
    with (log or Path(os.devnull)).open("wb") as output:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **extra,
        )


@functools.cache
def _template() -> Path:
    """Return a folder that `initdb` has filled, made once for each process."""
    folder = Path(tempfile.mkdtemp(prefix="kessel-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir(0o700)
    command = [str(programs() / "initdb"), "-D", str(data), "-N", "-A", "trust", "-U", "kessel"]
    process = _started_in(_given(data), [*command, "-E", "UTF8", "--locale=C", "--no-instructions"])
    if process.wait(120) != 0:
        raise PostgresMissing(f"{command[0]} ended with status {process.returncode}")
    return data


def _started_in(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    assert folder.is_dir()
    return _started(command)


class Postgres:
    """One server; `start` after `kill` is a restart with the same port and data.

    Args:
        settings: Such as `fsync="on"`, beside or instead of those that make tests quick.
    """

    def __init__(self, **settings: str) -> None:
        self.settings = {**_USUAL, **settings}
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def data(self) -> Path:
        """The folder with its data, made when it is first asked for."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kessel-postgres-"))
            self._folder.chmod(0o755)
            shutil.copytree(_template(), self._folder / "data")
            _given(self._folder / "data")
        return self._folder / "data"

    def start(self) -> None:
        """Start it, and wait until it takes connections.

        Raises:
            AssertionError: It does not start.
        """
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        until = time.monotonic() + 60
        while time.monotonic() < until:
            log = self.data.parent / "log"  # of this start alone
            self.process = _started(
                [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port), *options], log
            )
            while self.process.poll() is None and time.monotonic() < until:
                if self._answers():
                    return
                time.sleep(0.02)
            # Processes of the one that was killed may not have ended yet.
            time.sleep(0.1)
        self.kill()
        why = log.read_text(errors="replace").strip() if log.exists() else ""
        raise AssertionError(f"postgres does not start: {why[-500:] or 'it says nothing'}")

    def _answers(self) -> bool:
        from kessel_postgres.connecting import connected

        with contextlib.suppress(AdapterError):
            connected(self.options()).close()
            return True
        return False

    def options(self, schema: str = "kessel", **more: object) -> PostgresOptions:
        """Return the options of an adapter on it."""
        given = {"host": "127.0.0.1", "port": self.port, "username": "kessel", "database": "postgres"}
        return PostgresOptions(**{**given, "schema": schema, **more})  # type: ignore[arg-type]

    def url(self, query: str = "") -> str:
        """Return the address of an adapter on it."""
        return f"postgresql://kessel@127.0.0.1:{self.port}/postgres{'?' if query else ''}{query}"

    @property
    def version(self) -> str:
        """What the program says of itself."""
        command = [str(programs() / "postgres"), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    def install(self, schema: str = "kessel") -> None:
        """Make the tables of kessel in a schema."""
        install(self.options(schema))

    def install_many(self, schemas: Iterable[str]) -> None:
        """Make the tables of kessel in many schemas, three times as quickly as one by one."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SET check_function_bodies = off")
            for schema in schemas:
                script = ";\n".join(["BEGIN", *upgrade_script(schema, 0), "COMMIT"])
                connection.execute(script.encode())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Stop it by its process id; SIGINT asks it to stop in order."""
        process = self.process
        if process is not None:
            if process.poll() is None:
                process.send_signal(number)
            process.wait(30)

    def close(self) -> None:
        """Stop it, and remove its data."""
        self.kill(signal.SIGQUIT)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class PgBouncer:
    """A PgBouncer in transaction mode in front of a server, on a free loopback port.

    Args:
        server: Running.
        pool: How many connections to it there are.
        settings: Of PgBouncer, such as `query_wait_timeout=1`.
    """

    def __init__(self, server: Postgres, pool: int = 20, **settings: object) -> None:
        program = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(program).exists():
            raise PostgresMissing("no pgbouncer: install it, or name it with PGBOUNCER=/path/to/pgbouncer")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="kessel-pgbouncer-"))
        self._folder.chmod(0o755)
        (self._folder / "users").write_text('"kessel" ""\n')
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self._folder / "users",
            "pool_mode": "transaction",
            "max_client_conn": 2000,
            "default_pool_size": pool,
            **settings,
        }
        lines = [
            "[databases]",
            f"postgres = host=127.0.0.1 port={server.port}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in given.items()),
        ]
        (self._folder / "ini").write_text("\n".join(lines) + "\n")
        self.process = _started([program, str(self._folder / "ini")])
        until = time.monotonic() + 20
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        self.close()
        raise AssertionError("pgbouncer does not start")

    def close(self) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
