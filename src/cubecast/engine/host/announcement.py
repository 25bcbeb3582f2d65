"""What a host announces in its heartbeats, and whether that has changed so much that the next one comes early."""

from collections.abc import Callable
from itertools import count

from cubecast.engine.host.config import LinkConfig
from cubecast.engine.protocol.messages import CARRIED_MAX, Carried, Heartbeat
from cubecast.engine.protocol.path import PathMetrics
from cubecast.types import ChannelName


class Announcement:
    """The channels that this host announces, by version. The neighbourhood owns one."""

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self._version = 0
        self._carried: dict[ChannelName, Carried] = {}

    def version(self, heartbeat: Callable[[int], Heartbeat]) -> int:
        """The number of the announcement now; it grows with every change that peers should hear of at once.

        Args:
            heartbeat: gives the heartbeat by its number on a link; each names a part of the channels if they are many.
        """
        carried: dict[ChannelName, Carried] = {}
        for number in count():
            named = heartbeat(number).carried
            known = len(carried)
            carried |= {each.channel: each for each in named}
            if len(named) < CARRIED_MAX or len(carried) == known:
                break
        same = carried.keys() == self._carried.keys()
        if not same or any(self._differs(self._carried[channel], each) for channel, each in carried.items()):
            self._version += 1
            self._carried = carried
        return self._version

    def _differs(self, before: Carried, after: Carried) -> bool:
        return before.spare != after.spare or differs(before.metrics, after.metrics, self._config)


def differs(before: PathMetrics, after: PathMetrics, config: LinkConfig) -> bool:
    """Whether a path has changed by more than the noise of the estimates."""
    share, known_ms, known_bps = config.announce_share, before.least_bound_ms, before.rate_bps
    return (
        before.path != after.path
        or abs(after.least_bound_ms - known_ms) > max(config.announce_ms, share * known_ms)
        or abs(after.rate_bps - known_bps) > share * known_bps
        or abs(after.loss - before.loss) > config.announce_loss
    )
