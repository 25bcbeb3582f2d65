"""How long a silent parent is waited for before it counts as lost, and whether this host's own measurements count.

On a machine that is short of CPU, hosts stand still for longer than a parent may be silent. Who leaves its parent then
gives everyone more to do, so more of them stand still. To keep that from feeding itself, a parent that speaks soon after
it was given up for its silence was only slow, and doubles the patience with all of them for a while. A host that is late
itself measures its own lateness on every link, and so makes no changes for a gain.
"""

from cubecast.types import HostId

SILENT_TICKS, SILENT_TICKS_MAX = 3, 24
"""Without media and without a word from the parent for so long, it is lost; after false alarms for longer."""
REVIVED_TICKS = 20
"""A parent that speaks within this after it was given up has not died."""
CALM_TICKS = 300
"""Without a false alarm for so long the patience halves."""
SUSPECTS_MAX = 64
BUSY_MS, BUSY_GAIN = 20.0, 1 / 8
"""A host whose ticks come so late, smoothed with this gain, is short of CPU."""


class FailureDetector:
    """The patience of one host with all its parents."""

    def __init__(self) -> None:
        self.ticks = SILENT_TICKS
        """The silence that counts as death now."""
        self._suspects: dict[HostId, int] = {}
        self._calm_ticks = 0
        self._late_ms = 0.0

    @property
    def busy(self) -> bool:
        """Whether this host itself is late: what it measures of links is its own lateness, too."""
        return self._late_ms >= BUSY_MS

    def tick(self, late_ms: float) -> None:
        """Time goes by.

        Args:
            late_ms: how late this tick came.
        """
        self._late_ms += BUSY_GAIN * (late_ms - self._late_ms)
        self._suspects = {host: left - 1 for host, left in self._suspects.items() if left > 1}
        self._calm_ticks += 1
        if self._calm_ticks >= CALM_TICKS:
            self.ticks, self._calm_ticks = max(SILENT_TICKS, self.ticks // 2), 0

    def declared_dead(self, host: HostId) -> None:
        """A parent was left for its silence."""
        if len(self._suspects) < SUSPECTS_MAX:
            self._suspects[host] = REVIVED_TICKS

    def heard(self, host: HostId) -> None:
        """A host has spoken."""
        if self._suspects and self._suspects.pop(host, None) is not None:
            self.ticks, self._calm_ticks = min(SILENT_TICKS_MAX, 2 * self.ticks), 0
