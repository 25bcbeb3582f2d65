"""Holds docs/architecture.md against the tree: each package has a section there, each module a line, and none is gone."""

import pathlib
import re
import sys

PAGE = pathlib.Path("docs/architecture.md")
PACKAGE = pathlib.Path("src/cubecast")
SECTION = re.compile(r"^### `([\w/]+)/`", re.MULTILINE)
LINE = re.compile(r"^- `(\w+)`", re.MULTILINE)


def main() -> int:
    """Prints what page and tree do not share; 1 when something differs."""
    described, there = _described(PAGE.read_text()), _modules()
    wrong = [f"{PAGE}: {name} is not described" for name in sorted(there - described)]
    wrong += [f"{PAGE}: {name} is described and does not exist" for name in sorted(described - there)]
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


def _modules() -> set[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name not in {"__init__", "__main__"}}


if __name__ == "__main__":
    sys.exit(main())
