"""The leases of hosts, in the order in which they end: a lease tick visits only the hosts whose leases have ended."""

from cubecast.types import HostId


class Leases:
    """When each host is removed unless it refreshes. `Seats` owns one."""

    def __init__(self) -> None:
        self._until: dict[HostId, float] = {}
        """When each lease ends, s since the Unix epoch, in ascending order while the clock does not go back."""
        self._shortened: dict[HostId, float] = {}
        """The same of hosts that were reported as silent and have not refreshed since."""
        self._latest = 0.0
        """The last end of all leases, or later."""
        self._in_order = True

    def renew(self, host: HostId, until: float) -> None:
        """Gives a host a lease that ends at `until`, s since the Unix epoch."""
        self.end(host)
        self._until[host] = until
        self._in_order = self._in_order and until >= self._latest
        self._latest = max(until, self._latest)

    def shorten(self, host: HostId, until: float) -> None:
        """Ends a host's lease sooner, if `until` is sooner."""
        if until < min(self._until[host], self._shortened.get(host, until + 1)):
            self._shortened[host] = until

    def end(self, host: HostId) -> None:
        """Removes a host's lease, if it has one."""
        self._until.pop(host, None)
        self._shortened.pop(host, None)

    def expired(self, now: float) -> set[HostId]:
        """Hosts whose leases ended before `now`."""
        if not self._in_order:  # the clock was set back: as seldom as that is, all leases are sorted again
            self._until = dict(sorted(self._until.items(), key=lambda each: each[1]))
            self._latest, self._in_order = max(self._until.values(), default=0.0), True
        found = {host for host, until in self._shortened.items() if until < now}
        for host, until in self._until.items():
            if until >= now:
                break
            found.add(host)
        return found
