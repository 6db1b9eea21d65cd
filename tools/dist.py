"""Builds the wheels that are published: with the address of the project in their metadata and READMEs.

An index page shows the README alone, so its links must lead to the repository, whose address is decided when
it is published: `python tools/dist.py https://HOST/OWNER/kessel FOLDER`. A build straight from the checkout
has the same content without addresses. Nothing is uploaded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)")


def projects() -> list[Path]:
    """Return the folder of each distribution."""
    return [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


def absolute(text: str, home: str, folder: PurePosixPath) -> str:
    """Return a page whose relative links lead into the repository.

    Args:
        text: The page, as Markdown.
        home: Address of the repository.
        folder: Where the page lies in it.
    """

    def link(found: re.Match[str]) -> str:
        parts: list[str] = []
        path, mark, fragment = found[1].partition("#")
        for part in (folder / path).parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        return f"]({home}/blob/main/{'/'.join(parts)}{mark}{fragment})"

    return _LINK.sub(link, text)


def urls(home: str, folder: PurePosixPath) -> str:
    """Return the table of the project's addresses; `folder` is where the distribution lies."""
    readme = (folder / "README.md").as_posix()
    pages = {
        "Homepage": f"/blob/main/{readme}",
        "Documentation": "/blob/main/docs/README.md",
        "Source": "",
        "Issues": "/issues",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Security": "/blob/main/SECURITY.md",
    }
    lines = "".join(f'{name} = "{home}{page}"\n' for name, page in pages.items())
    return f"\n[project.urls]\n{lines}"


def build(project: Path, home: str, target: Path) -> None:
    """Build the wheel of one distribution from a copy of its folder."""
    folder = PurePosixPath(project.relative_to(ROOT).as_posix())
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "project"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(project / name, copy / name)
        for package in project.glob("kessel_*"):
            shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        readme, settings = copy / "README.md", copy / "pyproject.toml"
        readme.write_text(absolute(readme.read_text("utf-8"), home, folder), "utf-8")
        settings.write_text(settings.read_text("utf-8") + urls(home, folder), "utf-8")
        command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
        subprocess.run([sys.executable, "-m", *command, str(copy)], check=True)


def main(arguments: list[str]) -> int:
    """Build all of them; return the exit code."""
    if len(arguments) != 2 or not arguments[0].startswith("https://"):
        print(__doc__)
        return 2
    home, target = arguments[0].rstrip("/"), Path(arguments[1]).absolute()
    for project in projects():
        build(project, home, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
