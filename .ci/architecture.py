"""Holds the pages about the code against the tree.

In docs/architecture.md each package has a section, each module a line, and none is gone. Every path that the table of
additions in CONTRIBUTING.md names exists.
"""

import pathlib
import re
import sys

PAGE = pathlib.Path("docs/architecture.md")
GUIDE = pathlib.Path("CONTRIBUTING.md")
PACKAGE = pathlib.Path("src/cubecast")
SECTION = re.compile(r"^### `([\w/]+)/`", re.MULTILINE)
NAMED = re.compile(r"`([\w./]+/[\w./]*|[A-Z][a-z]+file|pyproject\.toml)`")
"""A path in that table; one with NAME stands for any addition."""
LINE = re.compile(r"^- `(\w+)`", re.MULTILINE)


def main() -> int:
    """Prints what page and tree do not share; 1 when something differs."""
    described, there = _described(PAGE.read_text()), _modules()
    wrong = [f"{PAGE}: {name} is not described" for name in sorted(there - described)]
    wrong += [f"{PAGE}: {name} is described and does not exist" for name in sorted(described - there)]
    wrong += [f"{GUIDE}: {path} does not exist" for path in _named(GUIDE.read_text()) if not _exists(path)]
    print("\n".join(wrong) or f"{PAGE} describes all {len(there)} modules")
    return 1 if wrong else 0


def _described(page: str) -> set[str]:
    """Package and module of every line, such as `engine/host/events`; top-level modules stand in the section `cubecast`."""
    parts = SECTION.split(page)[1:]
    return {
        name if package == "cubecast" else f"{package}/{name}"
        for package, text in zip(parts[::2], parts[1::2], strict=True)
        for name in LINE.findall(text.split("\n## ")[0])
    }


def _named(guide: str) -> list[str]:
    """The paths in the table of the section "What an addition touches"."""
    table = guide.split("\n## What an addition touches\n")[1].split("\n## ", maxsplit=1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    return sorted({path for row in rows for path in NAMED.findall(row) if "NAME" not in path})


def _exists(path: str) -> bool:
    """Paths are below the package unless they begin with a folder of the repository."""
    return pathlib.Path(path).exists() or (PACKAGE / path).exists()


def _modules() -> set[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name not in {"__init__", "__main__"}}


if __name__ == "__main__":
    sys.exit(main())
