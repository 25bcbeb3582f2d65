"""The super-node's time: seconds since the Unix epoch that never step back, neither with this machine's clock nor over restarts.

Leases, credentials and versions count by it. Hosts take it from the super-node's answers, so their own clocks need not agree.
"""

import time

MARK_S = 10.0
"""The time is stored this often, s. A restart after a step back of the machine's clock begins at the stored time and this."""


class SupernodeClock:
    """Counts on from the later of the machine's time at start and the stored one."""

    def __init__(self, stored_s: float = 0.0) -> None:
        self._start_s = max(time.time(), stored_s + MARK_S if stored_s else 0.0)
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """S since the Unix epoch, as this super-node counts."""
        return self._start_s + time.monotonic() - self._began_s
