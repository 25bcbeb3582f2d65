"""Real `cubecast` processes for tests: started, controlled, ended."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tests.conditions import until

ENV = {**os.environ, "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
for _name in ("CUBECAST_DEBUG", "CUBECAST_TOKEN", "CUBECAST_SUPERNODE"):
    ENV.pop(_name, None)


def cubecast(
    *arguments: str, timeout: float = 60, env: dict[str, str] | None = None, **kwargs: object
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "cubecast", *arguments],
        capture_output=True, text=True, timeout=timeout, env=ENV | (env or {}), check=False, **kwargs,
    )  # fmt: skip


class Process:
    """A running command; its output goes to a file. It may have `descriptors` files open, if that is given."""

    def __init__(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        env: dict[str, str],
        stdin: IO[bytes] | int,
        descriptors: int | None = None,
    ) -> None:
        limited = [] if descriptors is None else ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors)]
        descriptor, name = tempfile.mkstemp(dir=folder)
        self.log = Path(name)
        self.popen = subprocess.Popen(
            [*limited, sys.executable, "-m", "cubecast", *arguments],
            stdout=descriptor, stderr=descriptor, stdin=stdin, env=ENV | env,
        )  # fmt: skip
        os.close(descriptor)

    @property
    def text(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """Waits until its output matches a pattern."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.text)
            if match is not None:
                found.append(match)
            assert match or self.popen.poll() is None, f"ended with {self.popen.returncode}: {self.text}"
            return bool(found)

        until(look, seconds, lambda: f"{pattern!r} never came: {self.text}")
        return found[0]

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
        """Ends it and gives its status."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(seconds)


def start_media(publisher: Process) -> None:
    """Starts a held publisher. A reader whose subscription arrives later begins with the oldest group within its bound."""
    assert publisher.popen.stdin is not None
    publisher.popen.stdin.write(b"\n")
    publisher.popen.stdin.flush()


def size(path: Path) -> int:
    """Bytes of a file that a process may not have begun to write yet."""
    return path.stat().st_size if path.exists() else 0


class Overlay:
    """A super-node and the hosts that join it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.supernode = self._supernode("127.0.0.1:0")
        self.url = self.supernode.wait_for(r"super-node at (\S+),")[1]
        self.token = f"@{folder / 'sn' / 'join.token'}"

    def _supernode(self, listen: str) -> "Process":
        return self.start("supernode", "--listen", listen, "--shape", "2^2", "--state", str(self.folder / "sn"))

    def restart_supernode(self) -> None:
        """Kills it, and starts it again with the same state folder."""
        self.supernode.end(signal.SIGKILL)
        self.supernode = self._supernode(self.url.removeprefix("https://"))
        self.supernode.wait_for("super-node at")

    def start(self, *arguments: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> Process:
        process = Process(self.folder, arguments, {}, stdin)
        self.processes.append(process)
        return process

    def join(self, *arguments: str, name: str, label: str = "", stdin: IO[bytes] | int = subprocess.DEVNULL) -> Process:
        """Starts a command that joins as a host."""
        options = ["--supernode", self.url, "--token", self.token, "--name", name, "--listen", "127.0.0.1:0"]
        return self.start(*arguments, *options, *(["--label", label] if label else []), stdin=stdin)


@contextmanager
def overlay(folder: Path) -> Iterator[Overlay]:
    """An overlay whose processes all end with the block."""
    running = Overlay(folder)
    try:
        yield running
    finally:
        for process in running.processes:
            with suppress(subprocess.TimeoutExpired):
                process.end(seconds=5)
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait(5)
