"""A real Prometheus scrapes workers and the exporter: `make prometheus`, or PROMETHEUS=PROGRAM."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.until import until

from .test_prometheus_command import LONG, Site

PROGRAM = os.environ.get("PROMETHEUS", "")
HOWTO = Path(__file__).parents[3] / "docs" / "howto"
ALARMS, DASHBOARD = HOWTO / "alarms.md", HOWTO / "kessel-dashboard.json"
#: What Grafana puts into a query.
VARIABLES = {
    "$__rate_interval": "4s",
    "$workers": "kessel-workers",
    "$queues": "kessel-queues",
    "$queue": ".*",
}
#: Panels that show nothing while nothing of that kind has happened, or is running.
QUIET = {
    "Longest running job",
    "Lost leases, settlements that failed",
    "Buried in the last hour",
    "Requests a second",
}

pytestmark = pytest.mark.skipif(not PROGRAM, reason="for those that have a Prometheus: make prometheus")


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = str(Path(PROGRAM).with_name("promtool"))
    return subprocess.run([program, *arguments], input=given, capture_output=True, timeout=LONG, check=False)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


class Server:
    """A Prometheus that scrapes every second."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        self.address = free_address()
        self._folder = folder
        folder.mkdir()
        jobs = "".join(
            f"  - job_name: {job}\n    static_configs: [{{targets: ['{target}']}}]\n"
            for job, target in targets.items()
        )
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}"
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--log.level=error",
            ]
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(LONG)

    def series(self, query: str) -> list[dict[str, Any]]:
        """What a query finds."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def value(self, query: str) -> float | None:
        """The one value of a query; None: there is none yet."""
        try:
            found = self.series(query)
        except OSError:
            return None
        return float(found[0]["value"][1]) if found else None


def queries() -> Iterator[tuple[str, str]]:
    """The title of each panel of the dashboard, and each of its queries as Grafana sends it."""
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], query


def test_sums_by_promql_equal_what_was_done_by_two_processes(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    exporter = free_address()
    server = Server(tmp_path / "server", {"kessel-workers": site.address, "kessel-queues": exporter})
    with (
        site.running("worker", "--health", site.address, "--processes", "2"),
        site.running("exporter", "--listen", exporter),
        server.running(),
    ):
        site.request("double", 40)
        site.request("nobody.knows", 2)
        assert site.kessel("request", "double", "--delay", "1h").returncode == 0
        done = 'sum(kessel_attempts_total{job="kessel-workers", status="success"})'
        until(lambda: server.value(done) == 40, seconds=LONG, pause=0.1)
        delayed = 'sum(kessel_queue_jobs{job="kessel-queues", state="delayed"})'
        until(lambda: server.value(delayed) == 1, seconds=LONG, pause=0.1)
        assert server.value('sum(kessel_attempts_total{type="_other", reason="no-handler"})') == 2
        assert server.value("sum(kessel_job_run_seconds_count)") == 40
        assert server.value('sum(kessel_slots{state="idle"})') == 2
        assert server.value('kessel_queue_jobs{job="kessel-queues", state="buried"}') == 2
        assert server.value("min(up)") == 1
        for title, query in queries():
            if title in QUIET:
                server.series(query)  # valid at least
            else:
                until(lambda query=query: server.series(query), seconds=LONG, pause=0.2)
        for address in (site.address, exporter):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=LONG) as answer:
                checked = promtool("check", "metrics", given=answer.read())
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


#: What is told a minute apart, and the alarms that are on at the end.
CASES = """
rule_files: [kessel-rules.yml]
tests:
  - interval: 1m
    input_series:
      - series: 'kessel_queue_oldest_ready_seconds{job="kessel-queues", queue="slow"}'
        values: '0 400 460 520 580'
      - series: 'kessel_queue_paused{job="kessel-queues", queue="slow"}'
        values: '0 0 0 0 0'
      - series: 'kessel_queue_oldest_ready_seconds{job="kessel-queues", queue="rests"}'
        values: '0 400 460 520 580'
      - series: 'kessel_queue_paused{job="kessel-queues", queue="rests"}'
        values: '1 1 1 1 1'
      - series: 'kessel_queue_jobs{job="kessel-queues", queue="slow", state="buried"}'
        values: '0 0 0 1 1'
      - series: 'kessel_queue_jobs{job="kessel-queues", queue="rests", state="buried"}'
        values: '7 7 7 7 7'
      - series: 'kessel_queue_up{job="kessel-queues"}'
        values: '1 1 1 0 0'
      - series: 'up{job="kessel-workers"}'
        values: '1 1 1 1 1'
    alert_rule_test:
      - {eval_time: 4m, alertname: KesselWorkersGone, exp_alerts: []}
      - eval_time: 4m
        alertname: KesselJobsWait
        exp_alerts: [{exp_labels: {queue: slow}}]
      - eval_time: 4m
        alertname: KesselJobsBuried
        exp_alerts: [{exp_labels: {queue: slow}}]
      - eval_time: 4m
        alertname: KesselQueueAway
        exp_alerts: [{exp_labels: {job: kessel-queues}}]
"""


def without_annotations(rules: str) -> str:
    """The rules alone: promtool compares texts as well."""
    return re.sub(r"^ +annotations:\n(?: {10}.*\n)+", "", rules, flags=re.M)


def test_the_rules_of_the_page_about_alarms_are_valid_and_tell_what_they_say(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(# kessel-rules\.yml\n.*?)^```", ALARMS.read_text("utf-8"), re.M | re.S)
    (rules,) = blocks
    file = tmp_path / "kessel-rules.yml"
    file.write_text(rules)
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {rules.count('- alert:')} rules found" in checked.stdout.decode()
    file.write_text(without_annotations(rules))
    (tmp_path / "cases.yml").write_text(CASES)
    tested = promtool("test", "rules", str(tmp_path / "cases.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr
