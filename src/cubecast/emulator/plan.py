"""The plan of a testbed run: seats, subscribers, bounds and the order of subscriptions, all fixed by the seed."""

from dataclasses import dataclass

import numpy as np

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.overlay.occupancy import labels_of
from cubecast.overlay.region import live_region
from cubecast.overlay.routing import Policy
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import Floats, HostId, Label

CHANNEL = "demo"
"""Name of the channel; where several hosts publish, the start of each channel's name."""
BOUND_SPREAD = (3.0, 7.0)
"""Bounds are spread evenly between these multiples of the delay of a mean direct hop: the least allows three of them."""
HOP_OWN_MS = 5.0
"""Delay in ms that a hop adds to the network's delay: relaying, and an allowance for late frames."""
IMPOSSIBLE_SHARE = 0.5
"""A bound that must be refused is this share of the network's delay over the shortest path, so no path can keep it."""
IMPOSSIBLE_MIN_MS = 0.01
"""Smallest bound that must be refused, in ms, on a network without delays."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run; a pure function of the arguments of `make_plan`.

    Attributes:
        seats: label of each host; host 0 publishes.
        subscribers: indices of the subscribing hosts, in the order they subscribe.
        bounds_ms: bound of each subscriber, in that order.
        publishers: indices of the publishing hosts.
        spare: number of hosts of the network that join later.
        hidden: hosts that can dial but cannot be dialled.
        impossible: the subscriber whose bound no path can keep, None if there is none.
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
    impossible: int | None = None

    def name(self, index: int) -> HostId:
        """A host's name: p (publisher), s (subscriber) or r (neither), and its index."""
        role = "p" if index in self.publishers else "s" if index in self.subscribers else "r"
        return HostId(f"{role}{index:02d}")

    def index(self, name: str) -> int:
        """The index of the host with this name."""
        return int(name[1:])

    def channel(self, index: int) -> str:
        """The channel that a host publishes or subscribes to; several channels are assigned round-robin."""
        if len(self.publishers) == 1:
            return CHANNEL
        place = self.publishers.index(index) if index in self.publishers else self.subscribers.index(index)
        return f"{CHANNEL}{place % len(self.publishers)}"

    def neighbours(self) -> dict[HostId, set[HostId]]:
        """The hosts that each host must have a link to once all have joined; two hidden hosts cannot have one."""
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
    *,
    impossible: bool = False,
) -> Plan:
    """Draws seats, subscribers and bounds.

    Args:
        cube: the shape; None takes the best one for the number of hosts.
        bound_ms: the bound of every subscriber; None spreads the bounds over BOUND_SPREAD.
        spare: number of hosts of the network that join later and have no seat yet.
        publishers: number of hosts that publish, each a channel of its own; they are the first ones.
        hidden: hosts behind a NAT: they can dial but cannot be dialled.
        impossible: whether the subscriber farthest from the publisher comes last, with a bound no path can keep.

    Raises:
        UsageError: more subscribers than other hosts, or a shape with fewer labels than hosts.
    """
    hosts = network.hosts - spare
    shape = cube or live_region(hosts)
    _check_sizes(hosts, subscribers, publishers, shape)
    rng = np.random.default_rng([seed, 16])
    seats = tuple(Label(int(label)) for label in rng.permutation(label_count(shape))[:hosts])
    chosen = [int(i) + publishers for i in rng.permutation(hosts - publishers)[:subscribers]]
    delay_ms = network.matrix_ms()
    hop_ms = delay_ms[~np.eye(network.hosts, dtype=bool)].mean() + HOP_OWN_MS
    spread = rng.permutation(np.linspace(*BOUND_SPREAD, num=subscribers)) * hop_ms
    bounds = [bound_ms if bound_ms is not None else float(10 * round(b / 10)) for b in spread]
    farthest = None
    if impossible:
        farthest = max(chosen, key=lambda index: (delay_ms[0, index], index))
        chosen = [index for index in chosen if index != farthest] + [farthest]
        least_ms = float(shortest_ms(delay_ms)[farthest])
        bounds[-1] = max(IMPOSSIBLE_MIN_MS, float(np.floor(IMPOSSIBLE_SHARE * least_ms)))
    order, kept, publishing = tuple(chosen), tuple(bounds), tuple(range(publishers))
    return Plan(shape, policy, seed, fan_out, seats, order, kept, publishing, spare, hidden, farthest)


def shortest_ms(delay_ms: Floats, hop_ms: float = 0.0) -> Floats:
    """Delays from host 0 over the shortest paths, shape (m,), ms; relaying may be faster than a direct connection.

    Args:
        hop_ms: what each hop takes beside its link.
    """
    shortest: Floats = delay_ms[0] + hop_ms
    shortest[0] = 0.0
    for _ in range(len(delay_ms)):
        shortest = np.minimum(shortest, (shortest[:, np.newaxis] + delay_ms + hop_ms).min(axis=0))
        shortest[0] = 0.0
    return shortest


def _check_sizes(hosts: int, subscribers: int, publishers: int, shape: Cube) -> None:
    if not 1 <= subscribers <= hosts - publishers:
        publish = "one host publishes" if publishers == 1 else f"{publishers} hosts publish"
        raise UsageError(f"{subscribers} subscribers among {hosts} hosts: give 1 to {hosts - publishers}, {publish}")
    if label_count(shape) < hosts:
        raise UsageError(f"shape {shape} has {label_count(shape)} labels for {hosts} hosts; give a larger one")
