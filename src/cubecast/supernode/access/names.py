"""Names of hosts belong to keys: while a host is in, and for some minutes after it has left, nobody else may join under its name."""

from collections.abc import Iterable
from math import inf

from cubecast.types import HostId

HOLD_S = 300.0
"""Time, s, after which the name of a host that has left is free: longer than anything issued for it is accepted."""
HELD_MAX = 100_000
"""Maximum number of names kept for hosts that have left; of more, those that left first are free at once."""


class Names:
    """Keys by name."""

    def __init__(self, stored: Iterable[tuple[HostId, str, float | None]] = ()) -> None:
        """Restores what was stored.

        Args:
            stored: name, key, and when the name is free, s; None for a host that was in.
        """
        self._keys: dict[HostId, str] = {}
        self._free_s: dict[HostId, float] = {}
        """Of the names whose hosts have left: when each is free, s, the earliest first."""
        for name, key, free_s in sorted(stored, key=lambda each: each[2] or 0.0):
            self._keys[name] = key
            if free_s is not None:
                self._free_s[name] = free_s

    def held_s(self, name: HostId, key: str, now_s: float) -> float | None:
        """None if a key may join under a name; else after how long it may, s: infinite while the name's host is in."""
        if self._keys.get(name, key) == key:
            return None
        free_s = self._free_s.get(name)
        if free_s is None:
            return inf
        return free_s - now_s if free_s > now_s else None

    def take(self, name: HostId, key: str) -> None:
        """A host has joined."""
        self._keys[name] = key
        self._free_s.pop(name, None)

    def leave(self, name: HostId, now_s: float) -> float:
        """A host has left; returns when its name is free, s."""
        self._free_s.pop(name, None)
        self._free_s[name] = now_s + HOLD_S
        return now_s + HOLD_S

    def expire(self, now_s: float) -> list[HostId]:
        """Frees the names whose time has come; returns them."""
        freed: list[HostId] = []
        for name, free_s in self._free_s.items():
            if free_s > now_s and len(self._free_s) - len(freed) <= HELD_MAX:
                break
            freed.append(name)
        for name in freed:
            del self._free_s[name], self._keys[name]
        return freed
