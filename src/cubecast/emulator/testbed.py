"""A testbed: super-node, delay stage, publisher, relays and subscribers as real processes of this machine.

Everything that must not depend on timing is fixed by the seed (cubecast.emulator.plan). Each subscription waits for the
one before, so that the order is fixed as well.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cubecast.emulator.addresses import PORT, Addresses, lease
from cubecast.emulator.faults import Fault, Hidden, encode
from cubecast.emulator.plan import CHANNEL, Plan
from cubecast.emulator.processes import CommandProcess, ProcessDied, Processes
from cubecast.overlay.cube import format_label
from cubecast.types import HostId

OUTSIDE = "127.0.0.1"
"""Source address of the super-node when it dials hosts back."""
ALONE_MAX = 16
"""Maximum number of subscribers that subscribe one after another; more subscribe in groups."""
GROUP_SIZE = 4
"""Number of subscribers that subscribe at the same time where there are more than ALONE_MAX."""
START_S = 60.0
"""Seconds that all hosts together have to join and measure their links, besides START_S_PER_HOST for each."""
START_S_PER_HOST = 2.0
"""Seconds that each host adds to the time limit for joining."""
ANSWER_S = 30.0
"""Seconds a subscriber waits for its first track, or the refusal."""
UNCHANGED_S = 6.0
"""Time without a change of parent after which the tree counts as settled, s. A host that has just changed waits 5 s
(SwitchingConfig.settle_ticks in cubecast.engine.host.config) before it changes again for a gain; 1 s is margin."""
SETTLE_MAX_S = 25.0
"""Seconds after which the tree is used even if it has not settled."""
SETTLE_POLL_S = 0.25
"""Seconds between two checks whether the tree has settled."""
TAIL_S = 30.0
"""Seconds that subscribers have to report their summaries after the publisher has finished."""
QUIET_S = 2.0
"""Seconds between the last subscription and the first frame, in which the subscriptions of the tracks reach the
publisher and congestion windows open (cubecast.host.channel.tracks)."""


@dataclass(slots=True)
class Testbed:
    """A running testbed. `hosts` has the hosts of the plan that were started, by index."""

    plan: Plan
    addresses: Addresses
    processes: Processes
    folder: Path
    source: str
    supernode: CommandProcess
    emulator: CommandProcess
    trace: Path | None = None
    """The file that all hosts and the super-node append their traces to."""
    hosts: dict[int, CommandProcess] = field(default_factory=dict)

    @property
    def publisher(self) -> CommandProcess:
        """Host 0."""
        return self.hosts[0]

    @property
    def subscribers(self) -> list[CommandProcess]:
        """Subscribing hosts, in the order of the plan."""
        return [self.hosts[i] for i in self.plan.subscribers if i in self.hosts]

    # ------------------------------------------------------------------ processes

    async def start(self, index: int, *, options: Sequence[str] = (), keep: bool = False) -> CommandProcess:
        """Starts a host of the plan in its role.

        Args:
            options: more options of the command.
            keep: whether a subscriber writes what it receives to the folder.
        """
        name, common = self.plan.name(index), self._options(index)
        if index in self.plan.publishers:
            host = await self.processes.start(
                name, "publish", self.plan.channel(index), self.source, "--hold", *options, *common
            )
        elif index in self.plan.subscribers:
            bound = self.plan.bounds_ms[self.plan.subscribers.index(index)]
            output = ["-o", str(self.folder / f"{name}-received")] if keep else []
            contract = ["--hold", "--stay", "--bound", f"{bound:g}ms", *output]
            host = await self.processes.start(name, "subscribe", self.plan.channel(index), *contract, *options, *common)
        else:
            host = await self.processes.start(name, "host", *options, *common)
        self.hosts[index] = host
        return host

    def _options(self, index: int) -> list[str]:
        serving = self.supernode.events["serving"]
        here, door = self.addresses.host(index), self.addresses.door(index)
        options = {
            "--supernode": str(serving["url"]),
            "--token": f"@{serving['token']}",
            "--name": self.plan.name(index),
            "--key": str(self.folder / "keys" / f"{self.plan.name(index)}.pem"),
            "--listen": f"{here}:{PORT}",
            "--advertise": f"{door}:{PORT}",
            "--source-address": here,
            "--policy": self.plan.policy,
            "--seed": str(self.plan.seed),
            "--fan-out": str(self.plan.fan_out),
        }
        if index < len(self.plan.seats):
            options["--label"] = format_label(self.plan.cube, self.plan.seats[index])
        if self.trace is not None:
            options["--trace"] = str(self.trace)
        return ["--json", *(part for option in options.items() for part in option)]

    def kill(self, index: int) -> None:
        """Ends a host with kill -9, as a power cut would: it sends no further message."""
        self.hosts[index].send_signal(signal.SIGKILL)

    def inject(self, fault: Fault) -> None:
        """Injects a fault into the network."""
        self.emulator.write_line(encode(fault))

    async def restart_supernode(self) -> None:
        """Starts the super-node again with the same state and port; the old process must have ended."""
        port = str(self.supernode.events["serving"]["url"]).rpartition(":")[2]
        self.supernode = await _start_supernode(self.processes, self.plan, self.folder, int(port), self.trace)

    # ------------------------------------------------------------------ steps of a run

    async def joined(self, on_progress: Callable[[str], None]) -> None:
        """Waits until every host has joined and has measured the links it must have."""
        required = self.plan.neighbours()
        reported = 0
        waiting = list(self.hosts.values())
        while waiting:
            for host in list(waiting):
                links = host.status.get("links")
                measured = {h for h, ms in links.items() if ms is not None} if isinstance(links, dict) else set()
                if required[HostId(host.name)] <= measured and links is not None:
                    waiting.remove(host)
            done = len(self.hosts) - len(waiting)
            if done != reported:
                on_progress(f"{done} of {len(self.hosts)} hosts are in the cube {self.plan.cube}")
                reported = done
            if waiting:
                await waiting[0].until_changed()

    async def subscribe_all(self) -> None:
        """Starts the subscriptions one after another, or GROUP_SIZE at a time if there are more than ALONE_MAX."""
        waiting, together = self.subscribers, 1 if len(self.subscribers) <= ALONE_MAX else GROUP_SIZE
        for first in range(0, len(waiting), together):
            await asyncio.gather(*(self.subscribe(host) for host in waiting[first : first + together]))

    async def subscribe(self, host: CommandProcess) -> None:
        """Starts a host's subscription, and waits until it receives or is refused, ANSWER_S at most."""
        host.press_enter()
        try:
            async with asyncio.timeout(ANSWER_S):
                await host.wait_for("receiving", "refused")
        except (ProcessDied, TimeoutError):
            pass  # the report shows it as not served, with its last line of standard error

    async def settle(self) -> None:
        """Waits until no host has changed its parent for UNCHANGED_S, SETTLE_MAX_S at most."""
        began_s = time.time()
        while time.time() - began_s < SETTLE_MAX_S:
            changes = [change["at_s"] for host in self.hosts.values() for change in host.changes]
            last_s = max((at_s for at_s in changes if isinstance(at_s, float)), default=0.0)
            if time.time() - max(began_s, last_s) >= UNCHANGED_S:
                return
            await asyncio.sleep(SETTLE_POLL_S)

    async def stream(self, during: Callable[[], Awaitable[None]] | None = None) -> None:
        """Starts the publisher, and waits until the stream has ended for everyone.

        Args:
            during: called once the publisher streams.

        Raises:
            ProcessDied: the publisher died.
        """
        await asyncio.sleep(QUIET_S)
        self.publisher.press_enter()
        if during is not None:
            await during()
        await self.publisher.wait_for("finished")
        receiving = [host for host in self.subscribers if "receiving" in host.events and not host.ended]
        try:
            async with asyncio.timeout(TAIL_S):
                for host in receiving:
                    with suppress(ProcessDied):
                        await host.wait_for("summary")
        except TimeoutError:
            pass  # a host without a summary is judged by its last status

    def parents(self, channel: str = CHANNEL) -> dict[int, int]:
        """The delivery tree as the living hosts last reported it: the parent of each host that has one, by index."""
        found = {}
        for index, host in self.hosts.items():
            carried = host.status.get("channels")
            branch = carried.get(channel) if isinstance(carried, dict) else None
            upstream = branch.get("upstream") if isinstance(branch, dict) else None
            if upstream is not None and not host.ended:
                found[index] = self.plan.index(str(upstream))
        return found


@asynccontextmanager
async def open_testbed(
    plan: Plan,
    network_name: str,
    source: str,
    folder: Path,
    on_line: Callable[[str, str], None],
    on_progress: Callable[[str], None],
    *,
    publish: Sequence[str] = (),
    keep: bool = False,
    trace: Path | None = None,
) -> AsyncIterator[Testbed]:
    """Starts all processes of a plan, and waits until all hosts have joined and have measured their links.

    Args:
        network_name: as `cubecast emulator --network` takes it.
        source: the file or URL that the publishers publish.
        folder: for the super-node's state and the received files.
        on_line: called with (process name, line) for each line of a process's standard error.
        on_progress: called with one line for each step.
        publish: more options of `cubecast publish`.
        keep: whether subscribers write what they receive to the folder.
        trace: file that all hosts and the super-node append their traces to.

    Raises:
        ProcessDied: a process did not start.
        AddressError: no loopback network is free.
    """
    with closing(lease()) as held:
        async with Processes(on_line) as processes:
            on_progress("starting the super-node and the delay stage")
            places = len(plan.seats) + plan.spare
            network = ("--network", network_name, "--seed", str(plan.seed), "--hosts", str(places))
            addresses = ("--net", str(held.addresses.net), "--outside", OUTSIDE)
            emulator = await processes.start("emulator", "emulator", "--json", *network, *addresses)
            try:
                async with asyncio.timeout(START_S + START_S_PER_HOST * places):
                    supernode = await _start_supernode(processes, plan, folder, 0, trace)
                    await emulator.wait_for("serving")
                    bed = Testbed(plan, held.addresses, processes, folder, source, supernode, emulator, trace)
                    if plan.hidden:
                        bed.inject(Hidden(plan.hidden))
                    on_progress(f"starting {len(plan.seats)} hosts")
                    for index in range(len(plan.seats)):
                        options = publish if index in plan.publishers else ()
                        await bed.start(index, options=options, keep=keep)
                    await bed.joined(on_progress)
            except TimeoutError:
                raise ProcessDied("the hosts did not find each other in time") from None
            yield bed


async def _start_supernode(
    processes: Processes, plan: Plan, folder: Path, port: int, trace: Path | None
) -> CommandProcess:
    traced = () if trace is None else ("--trace", str(trace))
    listen = ("--listen", f"127.0.0.1:{port}", "--state", str(folder / "supernode"))
    supernode = await processes.start(
        "supernode", "supernode", "--json", *listen, "--shape", str(plan.cube), "--seed", str(plan.seed), *traced
    )
    await supernode.wait_for("serving")
    return supernode
