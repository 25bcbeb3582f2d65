"""The silence after which a parent is declared dead, and whether this host is too slow to judge others.

On a machine short of CPU, hosts stall for longer than a parent may be silent. Switching parents under overload adds load
and causes more timeouts. To stop that loop, a parent that sends a message soon after it was declared dead was only slow:
that is a false alarm, and doubles the silence allowed to all parents for a while. A host that is late itself measures
its own lateness on every link, and so does not switch parents for a gain.
"""

from cubecast.engine.host.config import FailureConfig
from cubecast.types import HostId


class FailureDetector:
    """The silence that one host allows its parents. The engine owns one."""

    def __init__(self, config: FailureConfig) -> None:
        self._config = config
        self.silence_ticks = config.silent_ticks
        """Silence after which a parent is declared dead now."""
        self._suspects: dict[HostId, int] = {}
        """Parents declared dead lately, and the ticks for which a message from them is a false alarm."""
        self._calm_ticks = 0
        self._late_ms = 0.0

    @property
    def silence_ticks_min(self) -> int:
        """The silence allowed when there was no false alarm: media counts as flowing while its pauses are shorter."""
        return self._config.silent_ticks

    @property
    def busy(self) -> bool:
        """Whether this host is short of CPU, so that its delays include its own lateness."""
        return self._late_ms >= self._config.busy_ms

    def tick(self, late_ms: float) -> None:
        """Records that one tick has passed.

        Args:
            late_ms: how late it came.
        """
        config = self._config
        self._late_ms += config.busy_gain * (late_ms - self._late_ms)
        self._suspects = {host: left - 1 for host, left in self._suspects.items() if left > 1}
        self._calm_ticks += 1
        if self._calm_ticks >= config.calm_ticks:
            self.silence_ticks, self._calm_ticks = max(config.silent_ticks, self.silence_ticks // 2), 0

    def declared_dead(self, host: HostId) -> None:
        """Records that a parent was left because it was silent."""
        if len(self._suspects) < self._config.suspects_max:
            self._suspects[host] = self._config.revived_ticks

    def on_message(self, host: HostId) -> None:
        """Records that a message came from a host."""
        if self._suspects and self._suspects.pop(host, None) is not None:
            self.silence_ticks = min(self._config.silent_ticks_max, 2 * self.silence_ticks)
            self._calm_ticks = 0
