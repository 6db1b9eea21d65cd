"""The pages for plugin authors, followed literally: every command and every file, from built wheels.

KESSEL_WHEELS names the folder of kessel's own wheels, KESSEL_DOCS that of the pages;
tools/test_wheels.sh sets them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

DOCS = Path(os.environ["KESSEL_DOCS"])
BLOCK = re.compile(r"^```(sh|python|lua) *\n(.*?)^```", re.M | re.S)
#: The first line of a block that is a file says which, and whether it goes on with it.
FILE = re.compile(r"(?:#|--) (\S+\.(?:py|lua))(, continued)?\n")


def script(page: Path) -> Iterator[str]:
    """Turn a page into what a reader types."""
    yield "set -euo pipefail"
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "sh":
            yield f"echo {shlex.quote('$ ' + text.strip())}\n{text}"
        elif (file := FILE.match(text)) is not None:
            redirect = ">>" if file[2] else ">"
            body = text[file.end() :]
            if file[2]:  # one blank line before a method, two before what is at the top of a module
                body = ("\n" if body.startswith(" ") or file[1].endswith(".lua") else "\n\n") + body
            yield f"printf %s {shlex.quote(body)} {redirect} {shlex.quote(file[1])}"


def follow(page: str, folder: Path) -> str:
    # All but the budget, which would be most of the time of this test.
    return run("\n".join(script(DOCS / page)).replace("--kessel-budget ci", "--kessel-budget quick"), folder)


def run(commands: str, folder: Path, *, code: int = 0) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KESSEL_", "PYTEST_", "PYTHON"))}
    done = subprocess.run(
        ["bash", "-c", commands],
        cwd=folder,
        # What the reader gets from the index comes from here; to compile all of it takes longer than to run.
        env=environment
        | {"PIP_FIND_LINKS": os.environ["KESSEL_WHEELS"], "PIP_QUIET": "1", "PIP_NO_COMPILE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_the_adapter_of_the_tutorial_passes_and_fails_as_the_page_says(tmp_path: Path) -> None:
    page = "tutorial/publish-an-adapter.md"
    follow(page, tmp_path)
    home = tmp_path / "kessel-adapter-files"
    (wheel,) = (home / "dist").glob("*.whl")
    report = json.loads(ZipFile(wheel).read("kessel_adapter_files/conformance.json"))
    assert (report["distribution"], report["version"]) == ("kessel-adapter-files", "0.1.0")
    assert report["passed"]

    adapter = home / "kessel_adapter_files" / "adapter.py"
    source = adapter.read_text(encoding="utf-8")
    early = source.replace("entry.due > self.now():", "entry.due > self.now() + 0.4:")
    assert early != source
    adapter.write_text(early, encoding="utf-8")
    told = run("../env/bin/pytest -k never_early", home, code=1)
    # What the page shows as the shape of a failure; its numbers and words may change with the suite.
    assert re.search(
        r"^delay\.never_early\nS4: .*\nWhat happened, in seconds since the start:\n +0\.000 ", told, re.M
    )


def test_the_network_adapter_of_the_tutorial_passes_and_is_the_example(tmp_path: Path) -> None:
    follow("tutorial/publish-a-network-adapter.md", tmp_path)
    home, example = tmp_path / "kessel-adapter-redis-scripts", DOCS.parent / "examples"
    (wheel,) = (home / "dist").glob("*.whl")
    report = json.loads(ZipFile(wheel).read("kessel_adapter_redis_scripts/conformance.json"))
    assert report["passed"] and report["adapter"] == "redis-scripts"
    files = sorted(
        path
        for path in (example / "kessel_adapter_redis_scripts").rglob("*")
        if path.suffix in (".py", ".lua") and path.name != "__init__.py"
    )
    assert len(files) == 5
    for path in files:
        written = home / path.relative_to(example / "kessel_adapter_redis_scripts")
        assert written.read_text("utf-8") == path.read_text("utf-8"), path.name

    adapter = home / "kessel_adapter_redis_scripts" / "adapter.py"
    source = adapter.read_text(encoding="utf-8")
    silent = source.replace("raise EnqueueUnknown(message.id, str(exc)) from exc", "return")
    assert silent != source
    adapter.write_text(silent, encoding="utf-8")
    told = run("../env/bin/pytest -k lost.enqueue", home, code=1)
    assert re.search(r"^lost\.enqueue\nS14: .* although enqueue returned, so it is stored", told, re.M)


def test_the_handlers_and_middleware_of_the_howto_pass(tmp_path: Path) -> None:
    told = follow("howto/publish-handlers-and-middleware.md", tmp_path)
    assert "hello Ada" in told
    for name in ("kessel-handlers-mail", "kessel-middleware-audit"):
        assert list((tmp_path / name / "dist").glob("*.whl")), name


def test_the_readme_is_true_in_an_environment_with_what_it_installs_and_no_more(tmp_path: Path) -> None:
    """What the page shows needs no distribution that its line for pip does not name."""
    text = (DOCS.parent / "README.md").read_text("utf-8")
    (line,) = re.findall(r"^pip install (\. .*)$", text, re.M)
    names = ["kessel-core", *(word.removeprefix("./plugins/").replace("_", "-") for word in line.split()[1:])]
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "program.py").write_text(program, "utf-8")
    _, worker, typed = re.findall(r"^```\n(.*?)^```", text.partition("## Quick start")[2], re.M | re.S)[:3]
    assert worker.endswith("kessel worker\n")
    assert typed.count("kessel request addition") == 2
    out = run(
        "\n".join(
            [
                "set -euo pipefail",
                "python3 -m venv own",
                f"own/bin/python -m pip install {' '.join(names)}",
                ". own/bin/activate",
                f"{worker.strip()} & worker=$!",
                "trap 'kill $worker 2>/dev/null || true' EXIT",
                typed,
                "kill $worker",
                "wait $worker",
                "python program.py",
            ]
        ),
        tmp_path,
    )
    assert re.search("^3$", out, re.M), "the first request prints its result"
    assert "addition success" in out
    assert "{'failed': 1, 'success': 1}" in out
