"""The super-node's time, as its answers give it: tokens between hosts count by it, so no two machines' clocks need agree."""

import time


class SupernodeTime:
    """Counts on from the latest answer, whatever this machine's clock does. Before the first it is this machine's time."""

    def __init__(self) -> None:
        self.heard_s = time.time()
        """The super-node's time in its latest answer, s since the Unix epoch."""
        self._at_s = time.monotonic()

    def heard(self, now_s: float) -> None:
        """An answer has come.

        Args:
            now_s: the super-node's time in it, s since the Unix epoch.
        """
        self.heard_s, self._at_s = now_s, time.monotonic()

    def now_s(self) -> float:
        """The super-node's time now, s since the Unix epoch."""
        return self.heard_s + time.monotonic() - self._at_s
