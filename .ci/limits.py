"""House limits that no linter has: sizes of files, functions and folders, and no URL in a lock file."""

import ast
import pathlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
"""Of the package's functions, without their docstrings."""
MODULES_MAX = 14
"""Modules in one folder of the package, besides __init__."""
PACKAGE = pathlib.Path("src")


def main() -> int:
    """Prints what is over a limit; 1 when something is."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    paths = [path for path in map(pathlib.Path, listed) if path.exists()]
    wrong = [line for path in paths if path.suffix == ".py" for line in _of_file(path)]
    wrong += _of_folders(paths)
    wrong += [
        f"{path}: holds a URL; a lock holds names, versions and hashes"
        for path in paths
        if path.suffix == ".lock" and "://" in path.read_text()
    ]
    print("\n".join(wrong) or "limits kept")
    return 1 if wrong else 0


def _of_file(path: pathlib.Path) -> Iterator[str]:
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines; split it by role, {FILE_LINES_MAX} is the limit"
    if PACKAGE not in path.parents:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            described = ast.get_docstring(node) is not None
            first = node.body[1] if described and len(node.body) > 1 else node.body[0]
            size = (node.end_lineno or 0) - first.lineno + 1
            if size > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {size} lines; {FUNCTION_LINES_MAX} is the limit"


def _of_folders(paths: list[pathlib.Path]) -> Iterator[str]:
    modules = [path for path in paths if path.suffix == ".py" and PACKAGE in path.parents]
    for folder, count in Counter(path.parent for path in modules if path.stem != "__init__").items():
        if count > MODULES_MAX:
            yield f"{folder}: {count} modules; group them by role, {MODULES_MAX} is the limit"


if __name__ == "__main__":
    sys.exit(main())
