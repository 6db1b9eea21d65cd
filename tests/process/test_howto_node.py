"""The receiver in Node of "Be told over HTTP", as it stands on the page, is told by kessel-http (S23)."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from kessel_core import Config, JobManager

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "be-told-over-http.md"
NODE = shutil.which("node")
LONG = 60.0

pytestmark = pytest.mark.skipif(
    NODE is None,
    reason="node is not installed, so nobody can run the receiver in Node of be-told-over-http.md",
)


def secret(letter: bytes) -> str:
    return "whsec_" + base64.b64encode(letter * 32).decode()


class Receiver:
    """The script of the page, in a process of its own."""

    def __init__(self, folder: Path, key: str) -> None:
        (script,) = re.findall(r"^```js\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
        (folder / "hooks.mjs").write_text(script)
        environment = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": key, "PORT": "0"}
        assert NODE is not None
        self.process = subprocess.Popen(
            [NODE, "hooks.mjs"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.lines.get(timeout=LONG).removeprefix("listening "))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def post(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        try:
            connection.request("POST", "/hooks", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    found = Receiver(tmp_path, secret(b"r"))
    yield found
    found.process.kill()
    found.process.communicate()


def test_s23_the_receiver_of_the_page_in_node_is_told_also_while_a_secret_is_replaced(
    receiver: Receiver,
) -> None:
    endpoint: dict[str, Any] = {
        "url": f"http://127.0.0.1:{receiver.port}/hooks",
        "secrets": [secret(b"n"), secret(b"r")],
        "internal": True,
    }
    config = Config(sections={"http": {"endpoints": {"billing": endpoint}}})
    handlers = {"report": lambda payload: {"rows": payload, "text": "\u00e4 \u20ac"}}
    with JobManager("memory://", handlers=handlers, config=config) as manager:
        good = manager.request("report", 3, callback="http:billing")
        bad = manager.request("unknown", callback="http:billing")
        counts = manager.worker().drain()
    assert counts == {"failed": 1, "success": 3}, "a delivery was refused"
    told = {receiver.lines.get(timeout=LONG) for _ in range(2)}
    assert told == {f"job.succeeded {good.id}", f"job.failed {bad.id}"}


def test_s23_the_receiver_of_the_page_in_node_drops_repetitions_and_refuses_others(
    receiver: Receiver,
) -> None:
    def signed(key: str, body: str, *, name: str = "m1", age: float = 0.0) -> dict[str, str]:
        at = datetime.now(UTC) - timedelta(seconds=age)
        return {
            "webhook-id": name,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": "v1,AAAA " + Webhook(key).sign(name, at, body),
        }

    body, ours = '{"type":"t","data":{"id":"1"}}', secret(b"r")
    for _ in range(2):
        assert receiver.post(signed(ours, body), body.encode()) == (204, "")
    refused = {
        "another secret": (signed(secret(b"x"), body), body),
        "another body": (signed(ours, body), body.replace("1", "2")),
        "another id": (signed(ours, body) | {"webhook-id": "m2"}, body),
        "too old": (signed(ours, body, age=600), body),
        "from tomorrow": (signed(ours, body, age=-600), body),
        "no headers": ({}, body),
        "no JSON": (signed(ours, "{"), "{"),
    }
    answers = {what: receiver.post(headers, text.encode())[0] for what, (headers, text) in refused.items()}
    assert answers == dict.fromkeys(refused, 400)
    assert receiver.post(signed(ours, body, name="m3"), body.encode()) == (204, "")
    assert [receiver.lines.get(timeout=LONG) for _ in range(2)] == ["t 1", "t 1"]
    assert receiver.lines.empty()
