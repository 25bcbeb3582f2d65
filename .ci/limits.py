"""House limits that no linter has: a file of at most 600 lines, no URL in a lock file."""

import pathlib
import subprocess
import sys

LINES_MAX = 600


def main() -> int:
    """Prints what is over a limit; 1 when something is."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    wrong = []
    for path in map(pathlib.Path, listed):
        if path.suffix == ".py" and path.exists() and (lines := path.read_text().count("\n")) > LINES_MAX:
            wrong.append(f"{path}: {lines} lines; split it by role, {LINES_MAX} is the limit")
        if path.suffix == ".lock" and path.exists() and "://" in path.read_text():
            wrong.append(f"{path}: holds a URL; a lock holds names, versions and hashes")
    print("\n".join(wrong) or "limits kept")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
