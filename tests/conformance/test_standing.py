"""Servers that stand for many mutants are lent empty and alive; runs side by side get ports of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from kessel_redis.adapter import RedisAdapter
from ports import share_ports
from standing_redis import ByFile, StandingRedis

from kessel_core import SystemClock
from kessel_core.contract import AdapterContext, Message


def test_a_server_is_lent_empty_and_started_again_if_a_run_has_left_it_dead() -> None:
    server = StandingRedis()
    try:
        for kill in (False, True, False):
            with server.lent("step.lua") as where:
                run = ByFile(Path(where["folder"]), where["port"])
                adapter = RedisAdapter(run.options(), AdapterContext(clock=SystemClock()))
                assert adapter.queues() == []
                adapter.enqueue(Message(id="1", queue="q", body=b"", priority=1))
                adapter.close()
                if kill:
                    run.kill()
                    assert not run._answers()
    finally:
        server.close()
    assert not server._server._answers()


def test_a_run_may_kill_its_server_and_start_it_again_and_it_stands_on() -> None:
    server = StandingRedis()
    try:
        with server.lent("step.lua") as where:
            run = ByFile(Path(where["folder"]), where["port"])
            run.kill()
            run.start()
            assert run.process is not None
            threading.Thread(target=run.process.wait).start()  # in place of the end of the run's process
        with server.lent("step.lua"):
            assert run._answers()
    finally:
        server.close()
    assert not run._answers()


def test_processes_with_folders_of_their_own_claim_ports_from_one_table(tmp_path: Path) -> None:
    """Two with a table each would get the same ports, and talk to one server."""
    program = "from kessel_core.testing import free_port; print(free_port(), flush=True); input()"
    found = set()
    with ExitStack() as stack:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            share_ports(tmp_path / name)
            environment = {**os.environ, "TMPDIR": str(tmp_path / name)}
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            found.add(int(process.stdout.readline()) // 100)
    assert len(found) == 2
