"""Real processes of a testbed: `cubecast` commands that report as JSON lines and end with the testbed."""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from cubecast.errors import CubecastError
from cubecast.sandbox.trusted.confinement import die_with_parent

LINE_BYTES_MAX = 1 << 20
"""Maximum length in bytes of one JSON line of a command."""
STDERR_LINES = 20
"""Number of latest lines of standard error kept for each command."""
CHANGES_MAX = 10_000
"""Maximum number of parent changes kept for each command, the latest ones."""
TERM_S = 4.0
"""Seconds a command has to end after SIGTERM before it is killed."""
KILL_S = 2.0
"""Seconds to wait for a command to be gone after SIGKILL."""
POLL_S = 0.25
"""Longest time in seconds between two checks whether a silent command has ended."""

Fields = dict[str, object]


class ProcessDied(CubecastError):
    """A process of the testbed ended unexpectedly; the message has its last line of standard error."""


@dataclass(slots=True, eq=False)
class CommandProcess:
    """One running command.

    Attributes:
        events: the latest object of each event the command reported, by event name.
        changes: its `parent` events: each change of the parent of a channel, the oldest first.
        errors: the latest lines of its standard error.
        changed: set when the command has written anything.
        readers: the tasks that read its output.
    """

    name: str
    process: asyncio.subprocess.Process
    events: dict[str, Fields] = field(default_factory=dict)
    changes: deque[Fields] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=STDERR_LINES))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def status(self) -> Fields:
        """The latest `status` event; empty before the first."""
        return self.events.get("status", {})

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.returncode is not None

    def press_enter(self) -> None:
        """Starts a command that was given --hold and waits for Enter."""
        self.write_line("")

    def write_line(self, line: str) -> None:
        """Writes a line to the command's standard input."""
        assert self.process.stdin is not None
        with suppress(ConnectionError):
            self.process.stdin.write(f"{line}\n".encode())

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if not self.ended:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def wait_for(self, *events: str) -> str:
        """Waits until the command has reported one of the events, and returns which.

        Raises:
            ProcessDied: the process ended first.
        """
        while True:
            reported = next((event for event in events if event in self.events), None)
            if reported is not None:
                return reported
            await self.until_changed()

    async def until_changed(self) -> None:
        """Waits until the command writes something, POLL_S at most.

        Raises:
            ProcessDied: the process has ended and all its output has been read.
        """
        if self.ended and all(reader.done() for reader in self.readers):
            last = self.errors[-1] if self.errors else "it printed no error"
            raise ProcessDied(f"{self.name} ended with status {self.process.returncode}: {last}")
        self.changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), POLL_S)


class Processes:
    """Starts commands, and ends all of them on exit. Use as an async context manager."""

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        """An empty set of processes.

        Args:
            on_line: called with (process name, line) for each line of standard error.
        """
        self._on_line = on_line
        self._readers = asyncio.TaskGroup()
        self.started: list[CommandProcess] = []
        self.unresponsive = 0
        """Number of processes that did not end within TERM_S of SIGTERM."""

    async def __aenter__(self) -> Self:
        await self._readers.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end(self.started)
        await self._readers.__aexit__(None, None, None)

    async def start(self, name: str, *arguments: str, module: str = "cubecast") -> CommandProcess:
        """Starts `cubecast ARGUMENTS...` in a session of its own; it is killed when this process ends for any reason.

        Args:
            module: the module to run, if it is another.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        command = CommandProcess(name, process)
        self.started.append(command)
        command.readers = [
            self._readers.create_task(self._read_events(command)),
            self._readers.create_task(self._read_errors(command)),
        ]
        return command

    async def end(self, commands: list[CommandProcess]) -> None:
        """Sends SIGTERM, and SIGKILL to the processes that have not ended TERM_S later."""
        for command in commands:
            command.send_signal(signal.SIGCONT)
            command.send_signal(signal.SIGTERM)
        await _wait_all(commands, TERM_S)
        for command in commands:
            self.unresponsive += not command.ended
            command.send_signal(signal.SIGKILL)
        await _wait_all(commands, KILL_S)
        for command in commands:
            for reader in command.readers:
                reader.cancel()

    async def _read_events(self, command: CommandProcess) -> None:
        assert command.process.stdout is not None
        async for line in command.process.stdout:
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                fields = json.loads(line)
                event = fields.pop("event")
                command.events[event] = fields
                if event == "parent":
                    command.changes.append(fields)
            command.changed.set()

    async def _read_errors(self, command: CommandProcess) -> None:
        assert command.process.stderr is not None
        async for raw in command.process.stderr:
            line = raw.decode(errors="replace").rstrip().removeprefix("cubecast: ")
            command.errors.append(line)
            self._on_line(command.name, line)
            command.changed.set()


async def _wait_all(commands: list[CommandProcess], timeout_s: float) -> None:
    waits = [asyncio.ensure_future(command.process.wait()) for command in commands if not command.ended]
    if waits:
        await asyncio.wait(waits, timeout=timeout_s)
        for wait in waits:
            wait.cancel()
