"""A super-node and hosts on this machine for a benchmark, each a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cubecast.emulator.processes import CommandProcess, Processes


@dataclass
class LiveOverlay:
    """A running super-node.

    Attributes:
        directory: command-line options with which a command reaches it.
        folder: for the keys of the hosts.
    """

    processes: Processes
    directory: tuple[str, ...]
    folder: Path

    async def start_host(self, name: str, fan_out: int, until: str, *arguments: str) -> CommandProcess:
        """Starts a command that joins the overlay as a host, and waits until it reports the event `until`.

        Raises:
            ProcessDied: the process ended first.
        """
        options = (
            "--name",
            name,
            "--key",
            str(self.folder / f"{name}.pem"),
            "--fan-out",
            str(fan_out),
            "--listen",
            "127.0.0.1:0",
        )
        return await self.start_command(name, until, *arguments, *options)

    async def start_command(self, name: str, until: str, *arguments: str) -> CommandProcess:
        """Starts a command at this super-node, and waits until it reports the event `until`; `start_host` if it is a host.

        Raises:
            ProcessDied: the process ended first.
        """
        child = await self.processes.start(name, *arguments, "--json", *self.directory)
        await child.wait_for(until)
        return child


@asynccontextmanager
async def live_overlay(folder: Path) -> AsyncIterator[LiveOverlay]:
    """An overlay whose processes all end with the block; the super-node keeps its state in `folder`.

    Raises:
        ProcessDied: the super-node ended.
    """
    async with Processes(lambda _, __: None) as processes:
        supernode = await processes.start(
            "supernode", "supernode", "--json", "--listen", "127.0.0.1:0", "--state", str(folder / "supernode")
        )
        await supernode.wait_for("serving")
        serving = supernode.events["serving"]
        yield LiveOverlay(processes, ("--supernode", str(serving["url"]), "--token", f"@{serving['token']}"), folder)
