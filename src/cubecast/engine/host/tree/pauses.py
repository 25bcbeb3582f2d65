"""How long a channel usually pauses between two frames: a sensor may send one a second, a camera thirty.

The publisher observes it and sends it down with the path updates, so all hosts of a tree expect the same. A longer pause is
what puts a parent in doubt; without this, every frame of a slow channel would be followed by signs of life on each link.
"""

from cubecast.engine.host.config import TreeConfig


class Pauses:
    """The usual pause of one channel, in ticks."""

    __slots__ = ("_before", "_longest", "_ticks", "usual_ticks")

    def __init__(self) -> None:
        self.usual_ticks = 0
        """The longest pause of late; 0 before one was observed."""
        self._longest = 0
        self._before = 0
        self._ticks = 0

    def media_came(self, pause_ticks: int, config: TreeConfig) -> None:
        """A frame was published this long after the one before; after a long pause the channel was idle, which is not usual."""
        if pause_ticks < config.idle_ticks:
            self._longest = max(self._longest, pause_ticks)
            self.usual_ticks = max(self._longest, self._before)

    def tick(self, config: TreeConfig) -> None:
        """One tick has passed at the publisher: pauses of long ago no longer count."""
        self._ticks += 1
        if self._ticks >= config.usual_ticks:
            self._ticks, self._before, self._longest = 0, self._longest, 0
            self.usual_ticks = self._before

    def longer_ticks(self, config: TreeConfig) -> int:
        """By how much longer than of a channel that sends all the time media may stay away before its parent is in doubt."""
        if self.usual_ticks < config.sparse_ticks:
            return 0
        return max(0, min(self.usual_ticks + 1, config.idle_ticks) - config.pause_ticks)

    def update_period(self, no_media_ticks: int, config: TreeConfig) -> int:
        """Ticks between two path updates if nothing changes: few while media stays away for longer than usual.

        Args:
            no_media_ticks: since media last came.
        """
        if no_media_ticks < config.pause_ticks + self.longer_ticks(config):
            return config.update_ticks + 1
        return 1 if no_media_ticks < config.idle_ticks else config.idle_update_ticks
