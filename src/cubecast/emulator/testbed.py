"""A testbed: super-node, delay stage, publisher, relays and subscribers as real processes of this machine.

Everything that must not depend on timing is fixed by the seed: seats, who subscribes, bounds, and the order of
subscriptions, each of which waits for the one before.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cubecast.emulator.addresses import PORT, Addresses, lease
from cubecast.emulator.faults import Fault, Hidden, encode
from cubecast.emulator.processes import ChildProcess, ProcessDied, Processes
from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, format_label, label_count, neighbours
from cubecast.overlay.occupancy import labels_of
from cubecast.overlay.region import live_region
from cubecast.overlay.routing import Policy
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import HostId, Label

CHANNEL = "demo"
OUTSIDE = "127.0.0.1"
"""Where the super-node dials hosts back from."""
ALONE_MAX, TOGETHER = 16, 4
START_S = 60.0
START_S_PER_HOST = 2.0
SETTLE_S = 30.0
UNCHANGED_S, SETTLE_MAX_S = 6.0, 25.0
"""A tree has settled when nothing has changed for so long."""
TAIL_S = 30.0
QUIET_S = 2.0
"""Between the last subscription and the first frame: the tracks' own subscriptions reach the publisher, and congestion
windows open (cubecast.host.channel.tracks)."""
BOUND_SPREAD = (1.5, 6.0)
"""Bounds are spread evenly over these multiples of what a mean direct hop takes."""
HOP_OWN_MS = 5.0
"""What a hop takes besides the network's delay: relaying, and room for late frames."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run consists of; a pure function of its arguments and the seed.

    Attributes:
        seats: label of each host; host 0 publishes.
        subscribers: indices of the subscribing hosts, in the order they subscribe.
        bounds_ms: bound of each subscriber, in that order.
        publishers: indices of the publishing hosts.
        spare: places of the network for hosts that come later.
        hidden: hosts that can dial and not be dialled.
    """

    cube: Cube
    policy: Policy
    seed: int
    fan_out: int
    seats: tuple[Label, ...]
    subscribers: tuple[int, ...]
    bounds_ms: tuple[float, ...]
    publishers: tuple[int, ...] = (0,)
    spare: int = 0
    hidden: tuple[int, ...] = ()

    def name(self, index: int) -> HostId:
        """A host's name: a letter for what it does, and its number."""
        role = "p" if index in self.publishers else "s" if index in self.subscribers else "r"
        return HostId(f"{role}{index:02d}")

    def index(self, name: str) -> int:
        """A host's number."""
        return int(name[1:])

    def channel(self, index: int) -> str:
        """What a publisher publishes, or a subscriber subscribes to: in turn, where there are several."""
        if len(self.publishers) == 1:
            return CHANNEL
        place = self.publishers.index(index) if index in self.publishers else self.subscribers.index(index)
        return f"{CHANNEL}{place % len(self.publishers)}"

    def neighbours(self) -> dict[HostId, set[HostId]]:
        """Who must have a link to whom once everyone has joined; two hidden hosts cannot."""
        hidden = {self.name(i) for i in self.hidden}
        names = {self.name(i): seat for i, seat in enumerate(self.seats)}
        held = labels_of(self.cube, names)
        owner = {label: host for host, labels in held.items() for label in labels}
        return {
            host: {owner[near] for label in labels for near in neighbours(self.cube, label)}
            - {host}
            - (hidden if host in hidden else set())
            for host, labels in held.items()
        }


def make_plan(
    network: PhysicalNetwork,
    subscribers: int,
    policy: Policy,
    seed: int,
    fan_out: int,
    cube: Cube | None = None,
    bound_ms: float | None = None,
    spare: int = 0,
    publishers: int = 1,
    hidden: tuple[int, ...] = (),
) -> Plan:
    """Draws seats, subscribers and bounds.

    Args:
        spare: hosts of the network that come later and have no seat yet.
        publishers: the first so many hosts publish, each a channel of its own.
        hidden: hosts behind a NAT that lets nobody in.

    Raises:
        UsageError: more subscribers than other hosts, or a shape with fewer labels than hosts.
    """
    hosts = network.hosts - spare
    if not 1 <= subscribers <= hosts - publishers:
        publish = "one host publishes" if publishers == 1 else f"{publishers} hosts publish"
        raise UsageError(f"{subscribers} subscribers among {hosts} hosts: give 1 to {hosts - publishers}, {publish}")
    shape = cube or live_region(hosts)
    if label_count(shape) < hosts:
        raise UsageError(f"shape {shape} has {label_count(shape)} labels for {hosts} hosts; give a larger one")
    rng = np.random.default_rng([seed, 16])
    seats = tuple(Label(int(label)) for label in rng.permutation(label_count(shape))[:hosts])
    chosen = tuple(int(i) + publishers for i in rng.permutation(hosts - publishers)[:subscribers])
    hop_ms = network.matrix_ms()[~np.eye(network.hosts, dtype=bool)].mean() + HOP_OWN_MS
    spread = rng.permutation(np.linspace(*BOUND_SPREAD, num=subscribers)) * hop_ms
    bounds = tuple(bound_ms if bound_ms is not None else float(10 * round(b / 10)) for b in spread)
    return Plan(shape, policy, seed, fan_out, seats, chosen, bounds, tuple(range(publishers)), spare, hidden)


@dataclass(slots=True)
class Testbed:
    """A running testbed. `hosts` has the plan's hosts that were started, by number."""

    plan: Plan
    addresses: Addresses
    processes: Processes
    folder: Path
    source: str
    supernode: ChildProcess
    emulator: ChildProcess
    hosts: dict[int, ChildProcess] = field(default_factory=dict)

    @property
    def publisher(self) -> ChildProcess:
        """Host 0."""
        return self.hosts[0]

    @property
    def subscribers(self) -> list[ChildProcess]:
        """Subscribing hosts, in the order of the plan."""
        return [self.hosts[i] for i in self.plan.subscribers if i in self.hosts]

    # ------------------------------------------------------------------ processes

    async def start(self, index: int, *, options: Sequence[str] = (), keep: bool = False) -> ChildProcess:
        """Starts a host of the plan in its role.

        Args:
            options: more of the command's options.
            keep: subscribers write what they receive to the folder.
        """
        name, common = self.plan.name(index), self._options(index)
        if index in self.plan.publishers:
            child = await self.processes.start(
                name, "publish", self.plan.channel(index), self.source, "--hold", *options, *common
            )
        elif index in self.plan.subscribers:
            bound = self.plan.bounds_ms[self.plan.subscribers.index(index)]
            output = ["-o", str(self.folder / f"{name}-received")] if keep else []
            wish = ["--hold", "--stay", "--bound", f"{bound:g}ms", *output]
            child = await self.processes.start(name, "subscribe", self.plan.channel(index), *wish, *options, *common)
        else:
            child = await self.processes.start(name, "host", *options, *common)
        self.hosts[index] = child
        return child

    def _options(self, index: int) -> list[str]:
        serving = self.supernode.events["serving"]
        here, door = self.addresses.host(index), self.addresses.door(index)
        label = (
            ["--label", format_label(self.plan.cube, self.plan.seats[index])] if index < len(self.plan.seats) else []
        )
        return [
            "--json", "--supernode", str(serving["url"]), "--token", f"@{serving['token']}",
            "--name", self.plan.name(index), *label,
            "--listen", f"{here}:{PORT}", "--advertise", f"{door}:{PORT}", "--source-address", here,
            "--policy", self.plan.policy, "--seed", str(self.plan.seed), "--fan-out", str(self.plan.fan_out),
        ]  # fmt: skip

    def kill(self, index: int) -> None:
        """As a power cut: kill -9, no word to anybody."""
        self.hosts[index].send_signal(signal.SIGKILL)

    def fault(self, fault: Fault) -> None:
        """Changes the network."""
        self.emulator.tell(encode(fault))

    async def restart_supernode(self) -> None:
        """Starts the super-node again with the state and the port it had; the old one must be gone."""
        port = str(self.supernode.events["serving"]["url"]).rpartition(":")[2]
        self.supernode = await _start_supernode(self.processes, self.plan, self.folder, int(port))

    # ------------------------------------------------------------------ what it does

    async def joined(self, on_progress: Callable[[str], None]) -> None:
        """Waits until every host has joined and has measured the links it must have."""
        wanted = self.plan.neighbours()
        told = 0
        waiting = list(self.hosts.values())
        while waiting:
            for child in list(waiting):
                links = child.status.get("links")
                measured = {h for h, ms in links.items() if ms is not None} if isinstance(links, dict) else set()
                if wanted[HostId(child.name)] <= measured and links is not None:
                    waiting.remove(child)
            done = len(self.hosts) - len(waiting)
            if done != told:
                on_progress(f"{done} of {len(self.hosts)} hosts are in the cube {self.plan.cube}")
                told = done
            if waiting:
                await waiting[0].until_changed()

    async def subscribe_all(self) -> None:
        """Lets the subscribers go, one after another, or a few at a time where there are many."""
        waiting, together = self.subscribers, 1 if len(self.subscribers) <= ALONE_MAX else TOGETHER
        for first in range(0, len(waiting), together):
            await asyncio.gather(*(self.subscribe(child) for child in waiting[first : first + together]))

    async def subscribe(self, child: ChildProcess) -> None:
        """Lets a subscriber go, and waits for the answer it gets."""
        child.press_enter()
        try:
            async with asyncio.timeout(SETTLE_S):
                await child.wait_for("receiving", "refused")
        except (ProcessDied, TimeoutError):
            pass  # its last words are in its errors; the report shows it as not served

    async def settle(self) -> None:
        """Waits until no host has changed its parent for a while, but not for ever."""
        begun = time.time()
        while time.time() - begun < SETTLE_MAX_S:
            changes = [change["at_s"] for child in self.hosts.values() for change in child.changes]
            last_s = max((at_s for at_s in changes if isinstance(at_s, float)), default=0.0)
            if time.time() - max(begun, last_s) >= UNCHANGED_S:
                return
            await asyncio.sleep(0.25)

    async def stream(self, during: Callable[[], Awaitable[None]] | None = None) -> None:
        """Lets the publisher go, and waits for everyone to end.

        Args:
            during: called once the stream runs.

        Raises:
            ProcessDied: the publisher died.
        """
        await asyncio.sleep(QUIET_S)
        self.publisher.press_enter()
        if during is not None:
            await during()
        await self.publisher.wait_for("finished")
        receiving = [c for c in self.subscribers if "receiving" in c.events and not c.ended]
        try:
            async with asyncio.timeout(TAIL_S):
                for child in receiving:
                    with suppress(ProcessDied):
                        await child.wait_for("summary")
        except TimeoutError:
            pass  # whoever has no summary counts what it last told

    def parents(self, channel: str = CHANNEL) -> dict[int, int]:
        """Who feeds whom, as the hosts told last: parent by child, numbers of living hosts."""
        found = {}
        for index, child in self.hosts.items():
            carried = child.status.get("channels")
            branch = carried.get(channel) if isinstance(carried, dict) else None
            upstream = branch.get("upstream") if isinstance(branch, dict) else None
            if upstream is not None and not child.ended:
                found[index] = self.plan.index(str(upstream))
        return found


@asynccontextmanager
async def running(
    plan: Plan,
    network_name: str,
    source: str,
    folder: Path,
    on_line: Callable[[str, str], None],
    on_progress: Callable[[str], None],
    *,
    publish: Sequence[str] = (),
    keep: bool = False,
) -> AsyncIterator[Testbed]:
    """Starts everything, up to the point where all hosts have joined and measured their links.

    Args:
        network_name: as `cubecast emulator --network` takes it.
        source: what the publishers publish.
        folder: for the super-node's state and the received files.
        publish: more options of `cubecast publish`.
        keep: whether to keep what subscribers receive.

    Raises:
        ProcessDied: a process did not start.
        AddressError: no loopback network is free.
    """
    with closing(lease()) as held:
        async with Processes(on_line) as processes:
            on_progress("starting the super-node and the delay stage")
            places = len(plan.seats) + plan.spare
            emulator = await processes.start(
                "emulator", "emulator", "--json", "--network", network_name, "--seed", str(plan.seed),
                "--hosts", str(places), "--net", str(held.addresses.net), "--outside", OUTSIDE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(START_S + START_S_PER_HOST * places):
                    supernode = await _start_supernode(processes, plan, folder, 0)
                    await emulator.wait_for("serving")
                    bed = Testbed(plan, held.addresses, processes, folder, source, supernode, emulator)
                    if plan.hidden:
                        bed.fault(Hidden(plan.hidden))
                    on_progress(f"starting {len(plan.seats)} hosts")
                    for index in range(len(plan.seats)):
                        options = publish if index in plan.publishers else ()
                        await bed.start(index, options=options, keep=keep)
                    await bed.joined(on_progress)
            except TimeoutError:
                raise ProcessDied("the hosts did not find each other in time") from None
            yield bed


async def _start_supernode(processes: Processes, plan: Plan, folder: Path, port: int) -> ChildProcess:
    child = await processes.start(
        "supernode", "supernode", "--json", "--listen", f"127.0.0.1:{port}", "--shape", str(plan.cube),
        "--state", str(folder / "supernode"), "--seed", str(plan.seed),
    )  # fmt: skip
    await child.wait_for("serving")
    return child
