"""A testbed: super-node, delay stage, publisher, relays and subscribers as real processes of this machine.

Everything that must not depend on timing is fixed by the seed: seats, who subscribes, bounds, and the order of
subscriptions, each of which waits for the one before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cubecast.emulator.addresses import PORT, Addresses, lease
from cubecast.emulator.processes import Child, Fields, ProcessDied, Processes
from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count, neighbours, spell
from cubecast.overlay.occupancy import labels_of
from cubecast.overlay.region import live_region
from cubecast.overlay.routing import Policy
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import HostId, Label

CHANNEL = "demo"
START_S = 60.0
SETTLE_S = 30.0
TAIL_S = 30.0
QUIET_S = 2.0
"""Between the last subscription and the first frame: the tracks' own subscriptions reach the publisher, and congestion
windows open (cubecast.host.tracks)."""
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
    """

    cube: Cube
    policy: Policy
    seed: int
    fan_out: int
    seats: tuple[Label, ...]
    subscribers: tuple[int, ...]
    bounds_ms: tuple[float, ...]

    def name(self, index: int) -> HostId:
        """A host's name: a letter for what it does, and its number."""
        role = "p" if index == 0 else "s" if index in self.subscribers else "r"
        return HostId(f"{role}{index:02d}")

    def index(self, name: str) -> int:
        """A host's number."""
        return int(name[1:])

    def neighbours(self) -> dict[HostId, set[HostId]]:
        """Who must have a link to whom once everyone has joined."""
        names = {self.name(i): seat for i, seat in enumerate(self.seats)}
        held = labels_of(self.cube, names)
        owner = {label: host for host, labels in held.items() for label in labels}
        return {
            host: {owner[near] for label in labels for near in neighbours(self.cube, label)} - {host}
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
) -> Plan:
    """Draws seats, subscribers and bounds.

    Raises:
        UsageError: more subscribers than other hosts, or a shape with fewer labels than hosts.
    """
    hosts = network.hosts
    if not 1 <= subscribers <= hosts - 1:
        raise UsageError(f"{subscribers} subscribers among {hosts} hosts: give 1 to {hosts - 1}, one host publishes")
    shape = cube or live_region(hosts)
    if label_count(shape) < hosts:
        raise UsageError(f"shape {shape} has {label_count(shape)} labels for {hosts} hosts; give a larger one")
    rng = np.random.default_rng([seed, 16])
    seats = tuple(Label(int(label)) for label in rng.permutation(label_count(shape))[:hosts])
    chosen = tuple(int(i) + 1 for i in rng.permutation(hosts - 1)[:subscribers])
    hop_ms = network.matrix_ms()[~np.eye(hosts, dtype=bool)].mean() + HOP_OWN_MS
    spread = rng.permutation(np.linspace(*BOUND_SPREAD, num=subscribers)) * hop_ms
    bounds = tuple(bound_ms if bound_ms is not None else float(10 * round(b / 10)) for b in spread)
    return Plan(shape, policy, seed, fan_out, seats, chosen, bounds)


@dataclass(slots=True)
class Testbed:
    """A running testbed."""

    plan: Plan
    addresses: Addresses
    supernode: Child
    emulator: Child
    hosts: list[Child] = field(default_factory=list)

    @property
    def publisher(self) -> Child:
        """Host 0."""
        return self.hosts[0]

    @property
    def subscribers(self) -> list[Child]:
        """Subscribing hosts, in the order of the plan."""
        return [self.hosts[i] for i in self.plan.subscribers]

    async def subscribe_all(self) -> None:
        """Lets the subscribers go, one after another; each is admitted or refused before the next."""
        for child in self.subscribers:
            child.press_enter()
            try:
                async with asyncio.timeout(SETTLE_S):
                    await child.wait_for("receiving", "refused")
            except ProcessDied:
                continue  # its last words are in its errors; the report shows it as not served
            except TimeoutError:
                continue

    async def stream(self) -> None:
        """Lets the publisher go, and waits for everyone to end.

        Raises:
            ProcessDied: the publisher died.
        """
        await asyncio.sleep(QUIET_S)
        self.publisher.press_enter()
        await self.publisher.wait_for("finished")
        receiving = [c for c in self.subscribers if "receiving" in c.events]
        try:
            async with asyncio.timeout(TAIL_S):
                for child in receiving:
                    await child.wait_for("summary")
        except (TimeoutError, ProcessDied):
            pass  # whoever has no summary counts what it last told


@asynccontextmanager
async def running(
    plan: Plan,
    network_name: str,
    source: str,
    folder: Path,
    on_line: Callable[[str, str], None],
    on_progress: Callable[[str], None],
) -> AsyncIterator[Testbed]:
    """Starts everything, up to the point where all hosts have joined and measured their links.

    Args:
        network_name: as `cubecast emulator --network` takes it.
        source: what host 0 publishes.
        folder: for the super-node's state and the received files.

    Raises:
        ProcessDied: a process did not start.
        AddressError: no loopback network is free.
    """
    with closing(lease()) as held:
        async with Processes(on_line) as processes:
            on_progress("starting the super-node and the delay stage")
            seed = str(plan.seed)
            emulator = await processes.start(
                "emulator", "emulator", "--json", "--network", network_name, "--seed", seed,
                "--hosts", str(len(plan.seats)), "--net", str(held.addresses.net),
            )  # fmt: skip
            supernode = await processes.start(
                "supernode", "supernode", "--json", "--listen", "127.0.0.1:0", "--shape", str(plan.cube),
                "--state", str(folder / "supernode"), "--seed", seed,
            )  # fmt: skip
            bed = Testbed(plan, held.addresses, supernode, emulator)
            try:
                async with asyncio.timeout(START_S):
                    await emulator.wait_for("serving")
                    await supernode.wait_for("serving")
                    await _start_hosts(processes, bed, source, folder, on_progress)
                    await _joined(bed, on_progress)
            except TimeoutError:
                raise ProcessDied(f"the hosts did not find each other within {START_S:.0f} s") from None
            yield bed


async def _start_hosts(
    processes: Processes, bed: Testbed, source: str, folder: Path, on_progress: Callable[[str], None]
) -> None:
    serving = bed.supernode.events["serving"]
    on_progress(f"starting {len(bed.plan.seats)} hosts")
    for index in range(len(bed.plan.seats)):
        name = bed.plan.name(index)
        options = _host_options(bed, index, serving)
        if index == 0:
            child = await processes.start(name, "publish", CHANNEL, source, "--hold", *options)
        elif index in bed.plan.subscribers:
            bound = bed.plan.bounds_ms[bed.plan.subscribers.index(index)]
            output = ["--hold", "--stay", "--bound", f"{bound:g}ms", "-o", str(folder / f"{name}-received")]
            child = await processes.start(name, "subscribe", CHANNEL, *output, *options)
        else:
            child = await processes.start(name, "host", *options)
        bed.hosts.append(child)


def _host_options(bed: Testbed, index: int, serving: Fields) -> list[str]:
    here, door = bed.addresses.host(index), bed.addresses.door(index)
    return [
        "--json", "--supernode", str(serving["url"]), "--token", f"@{serving['token']}",
        "--name", bed.plan.name(index), "--label", spell(bed.plan.cube, bed.plan.seats[index]),
        "--listen", f"{here}:{PORT}", "--advertise", f"{door}:{PORT}", "--source-address", here,
        "--policy", bed.plan.policy, "--seed", str(bed.plan.seed), "--fan-out", str(bed.plan.fan_out),
    ]  # fmt: skip


async def _joined(bed: Testbed, on_progress: Callable[[str], None]) -> None:
    """Waits until every host has joined and has measured the links it must have."""
    wanted = bed.plan.neighbours()
    told = 0
    waiting = list(bed.hosts)
    while waiting:
        for child in list(waiting):
            links = child.status.get("links")
            if isinstance(links, dict) and wanted[HostId(child.name)] <= {
                h for h, ms in links.items() if ms is not None
            }:
                waiting.remove(child)
        done = len(bed.hosts) - len(waiting)
        if done != told:
            on_progress(f"{done} of {len(bed.hosts)} hosts are in the cube {bed.plan.cube}")
            told = done
        if waiting:
            await waiting[0].until_changed()
