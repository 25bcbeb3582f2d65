"""Hosts that are not asked for a channel for a while, since media came from them that its publisher has not sent."""

from collections.abc import Iterable

from cubecast.engine.host.config import TreeConfig
from cubecast.types import ChannelName, HostId


class Shunned:
    """Pairs of channel and host. `upstream` owns one."""

    def __init__(self, config: TreeConfig, tick_s: float) -> None:
        self._until_s: dict[tuple[ChannelName, HostId], float] = {}
        self._shun_s = config.rejected_ticks * tick_s
        self._pairs_max = config.rejected_max

    def add(self, channel: ChannelName, host: HostId, now: float) -> None:
        """Shuns a host from now on; of too many the first is forgotten."""
        self._until_s.pop((channel, host), None)
        self._until_s[channel, host] = now + self._shun_s
        if len(self._until_s) > self._pairs_max:
            del self._until_s[next(iter(self._until_s))]

    def on(self, channel: ChannelName, path: Iterable[HostId], now: float) -> bool:
        """Whether a path of the channel leads over a host that is shunned."""
        return bool(self._until_s) and any(now < self._until_s.get((channel, host), now) for host in path)
