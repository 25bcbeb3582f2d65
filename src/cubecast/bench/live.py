"""Real hosts of one machine for a benchmark: a super-node, and whoever joins it, each a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cubecast.emulator.processes import ChildProcess, Processes


@dataclass
class LiveOverlay:
    """A super-node that serves."""

    processes: Processes
    directory: tuple[str, ...]
    """What every command needs to reach it."""

    async def join(self, name: str, fan_out: int, until: str, *arguments: str) -> ChildProcess:
        """Starts a command that joins as a host, and waits until it told an event.

        Raises:
            ProcessDied: it ended first.
        """
        options = ("--name", name, "--fan-out", str(fan_out), "--listen", "127.0.0.1:0")
        return await self.ask(name, until, *arguments, *options)

    async def ask(self, name: str, until: str, *arguments: str) -> ChildProcess:
        """The same of one that joins nothing.

        Raises:
            ProcessDied: it ended first.
        """
        child = await self.processes.start(name, *arguments, "--json", *self.directory)
        await child.wait_for(until)
        return child


@asynccontextmanager
async def live_overlay(folder: Path) -> AsyncIterator[LiveOverlay]:
    """An overlay whose processes all end with the block.

    Raises:
        ProcessDied: the super-node ended.
    """
    async with Processes(lambda _, __: None) as processes:
        supernode = await processes.start(
            "supernode", "supernode", "--json", "--listen", "127.0.0.1:0", "--state", str(folder / "supernode")
        )
        await supernode.wait_for("serving")
        serving = supernode.events["serving"]
        yield LiveOverlay(processes, ("--supernode", str(serving["url"]), "--token", f"@{serving['token']}"))
