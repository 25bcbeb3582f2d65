"""What the directory knows of delays between hosts: what they report of their links, and what it asks them to measure."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from cubecast.overlay.coordinates import DIMENSIONS, LANDMARKS, landmark_coordinates
from cubecast.types import Floats, HostId

EXPIRY_S = 300.0
"""An older measurement is asked for again."""
PROBES_AT_ONCE = 3
"""Hosts one host is asked to measure at a time."""
ASK_AGAIN_S = 5.0
UNREACHED_MS = 1e5
"""Stands for the delay of a pair that cannot be measured: no tree will use it."""
GIVE_UP_ASKS = 3

RISE_GAIN, RECENT_S = 1 / 8, 10.0
"""A delay that has become shorter is believed at once, one that has become longer within so long bit by bit: machines that
are busy for a moment make round trips longer, and never shorter."""

Pair = tuple[HostId, HostId]


def pair(a: HostId, b: HostId) -> Pair:
    """Two hosts, the lower name first: half a round trip serves both ends."""
    return (a, b) if a < b else (b, a)


class DelayTable:
    """Measured delays by pair of hosts; bounded by what hosts are asked and by the links they keep."""

    def __init__(self) -> None:
        self._measured: dict[Pair, tuple[float, float]] = {}
        self._of: dict[HostId, dict[Pair, None]] = {}
        self.hidden: set[HostId] = set()
        """Hosts that cannot be dialled: two of them cannot measure each other."""
        self._wanted: dict[Pair, tuple[int, float]] = {}
        """Pairs to measure: how often asked, and when last."""

    def report(self, host: HostId, links_ms: Mapping[HostId, float], now: float) -> None:
        """A host tells the one-way delays of its links, ms."""
        for other, one_way_ms in links_ms.items():
            key = pair(host, other)
            if key not in self._measured:
                for end in key:
                    self._of.setdefault(end, {})[key] = None
            before_ms, told_at = self._measured.get(key, (one_way_ms, now))
            rise_ms = max(0.0, one_way_ms - before_ms) if now - told_at < RECENT_S else 0.0
            self._measured[key] = (one_way_ms - (1 - RISE_GAIN) * rise_ms, now)
            self._wanted.pop(key, None)

    def forget(self, host: HostId) -> None:
        """A host is gone."""
        self.hidden.discard(host)
        for key in self._of.pop(host, {}):
            self._measured.pop(key, None)
            for end in key:
                self._of.get(end, {}).pop(key, None)
        for key in [key for key in self._wanted if host in key]:
            del self._wanted[key]

    def one_way_ms(self, a: HostId, b: HostId) -> float | None:
        """The delay between two hosts as it was told last; None when it was not."""
        known = self._measured.get(pair(a, b))
        return None if known is None else known[0]

    def delays_ms(self, pairs: list[Pair], now: float) -> Floats | None:
        """The delays of pairs, shape (p,), ms; None when some must be measured first, which is then asked for."""
        found = np.full(len(pairs), UNREACHED_MS)
        complete = True
        for place, (a, b) in enumerate(pairs):
            key = pair(a, b)
            known = self._measured.get(key)
            if self.hidden.issuperset(key):
                continue
            if known is not None and now - known[1] < EXPIRY_S:
                found[place] = known[0]
            elif self._wanted.setdefault(key, (0, -ASK_AGAIN_S))[0] < GIVE_UP_ASKS:
                complete = False
        return found if complete else None

    def knows(self, a: HostId, b: HostId) -> bool:
        """Whether the delay between two hosts was measured; if not it will be."""
        known = self.one_way_ms(a, b) is not None
        if not known and self._wanted.get(pair(a, b), (0, 0.0))[0] < GIVE_UP_ASKS:
            self._wanted.setdefault(pair(a, b), (0, -ASK_AGAIN_S))
        return known

    def matrix_ms(self, hosts: list[HostId]) -> Floats:
        """Delays between hosts, shape (n, n), ms: as measured, and else as their coordinates tell."""
        positions = self.positions(hosts)
        matrix: Floats = np.sqrt(((positions[:, None, :] - positions[None, :, :]) ** 2).sum(axis=2))
        number = {host: index for index, host in enumerate(hosts)}
        for host, a in number.items():
            for key in self._of.get(host, ()):
                b = number.get(key[0] if key[1] == host else key[1])
                if b is not None:
                    matrix[a, b] = matrix[b, a] = self._measured[key][0]
        return matrix

    def positions(self, hosts: list[HostId]) -> Floats:
        """Coordinates of hosts from their delays to those that most of them know, shape (n, d), ms.

        A host that is not located stands in the middle, so that it is as far from everyone.
        """
        known = Counter(end for host in hosts for key in self._of.get(host, ()) for end in key if end != host)
        landmarks = [host for host, _ in known.most_common(LANDMARKS)]
        to_ms = np.array([[self._to_landmark_ms(host, mark) for mark in landmarks] for host in hosts])
        located = np.isfinite(to_ms).all(axis=1) if landmarks else np.zeros(len(hosts), bool)
        between = np.array([[self._to_landmark_ms(a, b) for b in landmarks] for a in landmarks])
        if located.sum() < 2 or len(landmarks) < 2 or not np.isfinite(between).all():
            return np.zeros((len(hosts), 1))
        found = landmark_coordinates(between, to_ms[located], DIMENSIONS)
        positions = np.tile(found.mean(axis=0), (len(hosts), 1))
        positions[located] = found
        return positions

    def _to_landmark_ms(self, host: HostId, landmark: HostId) -> float:
        known = 0.0 if host == landmark else self.one_way_ms(host, landmark)
        return np.inf if known is None else known

    def probes(self, now: float, reachable: Iterable[HostId]) -> dict[HostId, list[HostId]]:
        """Who should measure whom next: pairs that were not asked for lately, spread over their ends."""
        present = set(reachable)
        asked: dict[HostId, list[HostId]] = {}
        for (a, b), (times, at) in list(self._wanted.items()):
            if a not in present or b not in present:
                del self._wanted[a, b]
            elif now - at >= ASK_AGAIN_S and times < GIVE_UP_ASKS:
                idler = len(asked.get(a, ())) <= len(asked.get(b, ()))
                host, other = (a, b) if a in self.hidden or (idler and b not in self.hidden) else (b, a)
                if len(asked.get(host, ())) < PROBES_AT_ONCE:
                    asked.setdefault(host, []).append(other)
                    self._wanted[a, b] = (times + 1, now)
        return asked

    def drop_requests(self) -> None:
        """Nobody waits for measurements any more: pairs that could not be measured get a new chance when next wanted."""
        self._wanted.clear()
