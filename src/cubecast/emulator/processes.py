"""Real processes of a testbed: `cubecast` commands that report as JSON lines, and leave nothing behind."""

import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from cubecast.errors import CubecastError
from cubecast.sandbox.trusted.confinement import die_with_parent

LINE_BYTES_MAX = 1 << 20
STDERR_LINES = 20
CHANGES_MAX = 10_000
TERM_S, KILL_S = 4.0, 2.0

Fields = dict[str, object]


class ProcessDied(CubecastError):
    """A process of the testbed ended before its time; `str` has its last words."""


@dataclass(slots=True, eq=False)
class ChildProcess:
    """One running command. `events` keeps the latest object of each event it told, `changes` those of its parents."""

    name: str
    process: asyncio.subprocess.Process
    events: dict[str, Fields] = field(default_factory=dict)
    changes: deque[Fields] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=STDERR_LINES))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def status(self) -> Fields:
        """Its latest status line, or nothing yet."""
        return self.events.get("status", {})

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.returncode is not None

    def press_enter(self) -> None:
        """Lets a held command go on."""
        self.tell("")

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self.process.stdin is not None
        with suppress(ConnectionError):
            self.process.stdin.write(f"{line}\n".encode())

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless it is gone."""
        if not self.ended:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def wait_for(self, *events: str) -> str:
        """Waits until it told one of the events.

        Raises:
            ProcessDied: it ended first.
        """
        while True:
            told = next((event for event in events if event in self.events), None)
            if told is not None:
                return told
            await self.until_changed()

    async def until_changed(self) -> None:
        """Waits until it tells something new.

        Raises:
            ProcessDied: it ended, and everything it told was read.
        """
        if self.ended and all(reader.done() for reader in self.readers):
            last = self.errors[-1] if self.errors else "without a word"
            raise ProcessDied(f"{self.name} ended with status {self.process.returncode}: {last}")
        self.changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), 0.25)


class Processes:
    """Starts commands and ends them all, whatever happens. Use as an async context manager."""

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        """An empty set.

        Args:
            on_line: told (process name, line) for each line of standard error.
        """
        self._on_line = on_line
        self._readers = asyncio.TaskGroup()
        self.children: list[ChildProcess] = []
        self.stubborn = 0
        """Processes that did not end when they were asked to."""

    async def __aenter__(self) -> Self:
        await self._readers.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end(self.children)
        await self._readers.__aexit__(None, None, None)

    async def start(self, name: str, *arguments: str) -> ChildProcess:
        """Starts `cubecast ARGUMENTS...` in a session of its own; it dies with this process, however that ends."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cubecast",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        child = ChildProcess(name, process)
        self.children.append(child)
        child.readers = [
            self._readers.create_task(self._read_events(child)),
            self._readers.create_task(self._read_errors(child)),
        ]
        return child

    async def end(self, children: list[ChildProcess]) -> None:
        """Asks processes to end, then makes them."""
        for child in children:
            child.send_signal(signal.SIGCONT)
            child.send_signal(signal.SIGTERM)
        await _gone(children, TERM_S)
        for child in children:
            self.stubborn += not child.ended
            child.send_signal(signal.SIGKILL)
        await _gone(children, KILL_S)
        for child in children:
            for reader in child.readers:
                reader.cancel()

    async def _read_events(self, child: ChildProcess) -> None:
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                told = json.loads(line)
                event = told.pop("event")
                child.events[event] = told
                if event == "parent":
                    child.changes.append(told)
            child.changed.set()

    async def _read_errors(self, child: ChildProcess) -> None:
        assert child.process.stderr is not None
        async for raw in child.process.stderr:
            line = raw.decode(errors="replace").rstrip().removeprefix("cubecast: ")
            child.errors.append(line)
            self._on_line(child.name, line)
            child.changed.set()


async def _gone(children: list[ChildProcess], timeout_s: float) -> None:
    waits = [asyncio.ensure_future(child.process.wait()) for child in children if not child.ended]
    if waits:
        await asyncio.wait(waits, timeout=timeout_s)
        for wait in waits:
            wait.cancel()
