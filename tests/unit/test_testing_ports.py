"""Ports for the servers of tests: no two processes get the same one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kessel_core.testing import free_port, ports

_PRINTS = """
from kessel_core.testing import free_port
print(*(free_port() for _ in range(120)), flush=True)
input()
"""


def block(port: int) -> int:
    return port // 100


def test_the_ports_of_a_process_come_in_turn_from_one_block_for_all_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [
            port for ports in pool.map(lambda _: [free_port() for _ in range(10)], range(4)) for port in ports
        ]
    assert len(set(found)) == 40
    assert len({block(port) for port in found}) == 1


def test_processes_that_live_at_the_same_time_have_different_ports() -> None:
    command = [sys.executable, "-c", _PRINTS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    blocks = [{block(free_port())}]
    for process in processes:
        blocks.append({block(int(port)) for port in process.stdout.readline().split()})
    for process in processes:
        process.communicate("\n", timeout=30)
    assert all(len(found) == 1 for found in blocks)
    assert len(set.union(*blocks)) == 4


def test_a_forked_child_has_ports_of_its_own() -> None:
    mine = free_port()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, str(free_port()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert block(int(os.read(read, 20))) != block(mine)
    os.close(read)
    os.close(write)


def test_a_port_on_which_somebody_listens_is_left_out() -> None:
    for _ in range(100):
        first = free_port()
        if first % 100 == 99:  # the next is the first of the block
            continue
        try:
            server = socket.create_server(("127.0.0.1", first + 1))
        except OSError:  # a server of another test has it
            continue
        with server:
            assert free_port() != first + 1
        return
    raise AssertionError("all ports of the block are taken")


def test_where_no_port_is_free_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    free_port()
    monkeypatch.setattr(ports, "_is_free", lambda port: False)
    with pytest.raises(OSError, match="none of the 100 ports of this process is free"):
        free_port()


def test_where_all_blocks_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_BLOCKS", 0)
    monkeypatch.setattr(ports, "_claimed", None)
    with pytest.raises(OSError, match="have a block of ports each"):
        free_port()
