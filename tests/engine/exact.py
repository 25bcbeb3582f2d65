"""Random overlays, and the exact answer to whether a subscriber can be admitted to one: shortest paths over all its links.

A path to a subscriber begins at a host that carries the channel and has spare fan-out, and goes over idle hosts that have
some too. Hosts that carry the channel stay where they are.
"""

import heapq
from collections.abc import Mapping

import numpy as np

from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.overlay.cube import Cube, cube, label_count
from cubecast.types import ChannelName, Floats, HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

HOP_MS = RELAY_MS + DEFAULT.estimate.spread_ms_min
"""What a hop adds to the least bound of a path beside the link's delay, on links that do not vary."""
SHAPES = (cube(2, 3), cube(2, 4), cube(2, 5), cube(3, 3), cube(4, 2), cube(5, 2))
UNCLEAR = 0.07
"""Bounds are drawn no nearer than this share to the exact one: estimates of a link's delay are still settling."""


def drawn(seed: int, hosts_max: int = 24) -> tuple[Overlay, np.random.Generator]:
    """A random overlay in which host 0 publishes, settled, with the generator to draw subscribers and bounds from.

    Its hosts lie on a plane, or their delays are drawn independently (so that detours pay), or all are far from each other
    except from one host.
    """
    rng = np.random.default_rng([seed, 77])
    hosts = int(rng.integers(5, hosts_max + 1))
    delay_ms = (_plane, _independent, _one_good_relay)[int(rng.integers(3))](rng, hosts)
    shapes = [shape for shape in SHAPES if label_count(shape) >= hosts]
    shape: Cube = shapes[int(rng.integers(len(shapes)))]
    overlay = Overlay(delay_ms, shape, seed=seed, fan_out=int(rng.integers(1, 6)))
    overlay.run(5)
    overlay.publish(0)
    overlay.run(1)
    return overlay, rng


def _plane(rng: np.random.Generator, hosts: int) -> Floats:
    return random_delays(hosts, int(rng.integers(2**32)))


def _independent(rng: np.random.Generator, hosts: int) -> Floats:
    return _symmetric(rng.lognormal(3.5, 0.8, (hosts, hosts)) + 1)


def _one_good_relay(rng: np.random.Generator, hosts: int) -> Floats:
    delay_ms = _symmetric(150 + rng.uniform(-5, 5, (hosts, hosts)))
    relay = int(rng.integers(1, hosts))
    others = [host for host in range(1, hosts) if host != relay]
    for near in (0, *rng.choice(others, max(2, hosts // 3), replace=False).tolist()):
        delay_ms[relay, near] = delay_ms[near, relay] = rng.uniform(8, 14)
    return delay_ms


def _symmetric(delay_ms: Floats) -> Floats:
    least: Floats = np.minimum(delay_ms, delay_ms.T)
    np.fill_diagonal(least, 0)
    return least


def drawn_bound_ms(rng: np.random.Generator, exact_ms: float | None) -> float:
    """A bound around the exact one, below or above it, and not too near."""
    share = rng.choice([rng.uniform(0.6, 1 - UNCLEAR), rng.uniform(1 + UNCLEAR, 2.0)])
    return (500.0 if exact_ms is None else exact_ms) * float(share)


def exact_ms(overlay: Overlay, subscriber: HostId, channel: ChannelName = CHANNEL) -> float | None:
    """The least bound that a host without a local subscription could be given now; None without any path.

    If it carries the channel already it may keep its parent, or change to one that is not below it.
    """
    below = _below(overlay, subscriber, channel)
    carried = overlay.engines[subscriber].metrics(channel)
    least = _least_bounds_ms(overlay, subscriber, below, channel).get(subscriber)
    paths = [path for path in (least, None if carried is None else carried.least_bound_ms) if path is not None]
    return min(paths, default=None)


def _least_bounds_ms(
    overlay: Overlay, subscriber: HostId, below: set[HostId], channel: ChannelName
) -> Mapping[HostId, float]:
    engines = {host: overlay.engines[host] for host in overlay.living() if host not in below}
    index = {host: overlay.hosts[host].index for host in engines}
    found: dict[HostId, float] = {}
    queue: list[tuple[float, HostId]] = []
    carrying = {host: metrics for host, engine in engines.items() if (metrics := engine.metrics(channel)) is not None}
    for host, metrics in carrying.items():
        if host != subscriber:
            heapq.heappush(queue, (metrics.least_bound_ms, host))
    while queue:
        bound_ms, host = heapq.heappop(queue)
        if host in found:
            continue
        found[host] = bound_ms
        if _spare_copies(overlay, host) <= 0 or host == subscriber:
            continue
        for other in engines:
            if other not in found and (other == subscriber or other not in carrying):
                link_ms = float(overlay.delay_ms[index[host], index[other]])
                heapq.heappush(queue, (bound_ms + link_ms + HOP_MS, other))
    return found


def _below(overlay: Overlay, top: HostId, channel: ChannelName) -> set[HostId]:
    paths = {host: engine.metrics(channel) for host, engine in overlay.engines.items() if host != top}
    return {host for host, metrics in paths.items() if metrics is not None and top in metrics.path}


def _spare_copies(overlay: Overlay, host: HostId) -> int:
    here = overlay.hosts[host]
    return here.fan_out - sum(len(branch.below.children) for branch in here.engine.branches())


def displacement_ms(
    overlay: Overlay, subscriber: HostId, bounds_ms: Mapping[HostId, float], channel: ChannelName = CHANNEL
) -> float | None:
    """The least bound that a host could be given straight from a full one, if one child of that moves; None without any.

    The child goes to a host with spare fan-out, where the bounds of all that receive through it still hold with a margin.

    Args:
        bounds_ms: by subscriber.
    """
    carrying = {host: m for host in overlay.living() if (m := overlay.engines[host].metrics(channel)) is not None}
    index = {host: overlay.hosts[host].index for host in overlay.living()}

    def through_ms(parent: HostId, child: HostId) -> float:
        link_ms = float(overlay.delay_ms[index[parent], index[child]])
        return carrying[parent].least_bound_ms + link_ms + HOP_MS

    def moves(child: HostId) -> bool:
        below = {host for host, metrics in carrying.items() if child in metrics.path}
        slack_ms = min(
            (bounds_ms[host] - carrying[host].least_bound_ms for host in below & bounds_ms.keys()), default=1e9
        )
        return any(
            through_ms(to, child) - carrying[child].least_bound_ms <= (1 - UNCLEAR) * slack_ms
            for to in carrying.keys() - below - {subscriber}
            if _spare_copies(overlay, to) > 0
        )

    paths = [
        through_ms(full, subscriber)
        for full, metrics in carrying.items()
        if full != subscriber and subscriber not in metrics.path and _spare_copies(overlay, full) <= 0
        if any(moves(child) for child, m in carrying.items() if m.depth and m.path[-2] == full and child != subscriber)
    ]
    return min(paths, default=None)
