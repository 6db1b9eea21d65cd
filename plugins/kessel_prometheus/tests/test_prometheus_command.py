"""`kessel exporter` and `kessel worker --health` in processes of their own, as Prometheus scrapes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.until import until

from .conftest import samples

LONG = 60.0

#: Whoever takes the place of a worker that died waits until it is let in.
HANDLERS = """
import os, pathlib, time
closed = pathlib.Path("closed")
while closed.exists():
    time.sleep(0.01)
def double(payload):
    return payload * 2
def die(payload):
    closed.touch()
    os._exit(9)
"""


class Site:
    """A folder in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        (folder / "work.py").write_text(HANDLERS)
        (folder / "kessel.toml").write_text(
            '[kessel]\nadapter = "sqlite:///jobs.db"\n'
            '[kessel.handlers]\ndouble = "work:double"\ndie = "work:die"\n'
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def kessel(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kessel_core.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kessel_core.cli", *arguments], cwd=self.folder, env=self.environment
        )
        try:
            yield
            process.terminate()
            assert process.wait(LONG) == 0
        finally:
            process.kill()
            process.wait()

    def scraped(self) -> dict[str, float]:
        """What the page says; {}: there is none yet."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=LONG) as answer:
                assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                return samples(answer.read())
        except urllib.error.HTTPError as exc:
            exc.close()
        except OSError:
            pass
        return {}

    def request(self, kind: str, count: int = 1) -> None:
        lines = "".join(f'{{"type": "{kind}", "payload": 2}}\n' for _ in range(count))
        (self.folder / "jobs.jsonl").write_text(lines)
        done = self.kessel("request", "--from", "jobs.jsonl")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_exporter_tells_of_the_queues_and_starts_before_there_are_any(site: Site) -> None:
    with site.running("exporter", "--listen", site.address):
        until(lambda: site.scraped() == {"kessel_queue_up": 0} | build(site.scraped()))
        assert not (site.folder / "jobs.db").exists()
        site.request("double", 3)
        assert site.kessel("request", "double", "-q", "other").returncode == 0
        shown = site.scraped()
        assert shown["kessel_queue_up"] == 1
        assert shown['kessel_queue_jobs{queue="default",state="ready"}'] == 3
        assert shown['kessel_queue_jobs{queue="other",state="ready"}'] == 1


def build(shown: dict[str, float]) -> dict[str, float]:
    return {name: 1 for name in shown if name.startswith("kessel_build_info")}


def test_a_wrong_address_of_the_exporter_is_one_error(site: Site) -> None:
    done = site.kessel("exporter", "--listen", "nowhere")
    assert done.returncode == 2
    assert done.stderr == (
        "error: invalid configuration: --listen: expected HOST:PORT, as 127.0.0.1:8086 or [::1]:8086, "
        "got 'nowhere'\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = site.kessel("exporter", "--listen", address)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"--listen: cannot listen at {address}: Address already in use" in line
    done = site.kessel("exporter", "--adapter", "nothing://")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_sums_of_several_processes_are_right_and_do_not_fall_when_one_dies(site: Site) -> None:
    done = 'kessel_attempts_total{queue="default",reason="",status="success",type="double"}'
    with site.running("worker", "--health", site.address, "--processes", "2"):
        until(lambda: site.scraped().get('kessel_slots{state="idle"}') == 2)
        site.request("double", 50)
        until(lambda: site.scraped().get(done) == 50)
        site.request("die")
        until(lambda: site.scraped().get('kessel_slots{state="idle"}') == 1)
        assert site.scraped()[done] == 50
        (site.folder / "closed").unlink()
        until(lambda: site.scraped().get('kessel_slots{state="idle"}') == 2)
        site.request("double", 25)
        until(lambda: site.scraped().get(done, 0) >= 75)
        shown = site.scraped()
    assert shown[done] == 75
    assert shown['kessel_job_run_seconds_count{queue="default",type="double"}'] == 75
    assert shown["kessel_queue_up"] == 1


def test_help_and_workers_without_an_address_do_not_load_the_library() -> None:
    code = (
        "import sys, click, kessel_prometheus.plugin as plugin\n"
        "plugin.kessel_cli(click.Group())\n"
        "from kessel_core import JobManager\n"
        "with JobManager('memory://') as manager: manager.worker().drain()\n"
        "print('prometheus_client' in sys.modules, 'kessel_prometheus.counting' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG
    )
    assert found.stdout.split() == ["False", "False"]
