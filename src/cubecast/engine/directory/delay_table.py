"""Measured delays between hosts: what they report of their links, and which pairs they are asked to measure."""

from collections import Counter
from collections.abc import Container, Mapping

import numpy as np

from cubecast.engine.directory.config import DelayTableConfig
from cubecast.overlay.coordinates import DIMENSIONS, LANDMARKS, landmark_coordinates
from cubecast.types import Floats, HostId

UNREACHED_MS = 1e5
"""Stands for the delay of a pair that cannot be measured: no tree will use such a link. Reported delays are below it."""

Pair = tuple[HostId, HostId]


def pair(a: HostId, b: HostId) -> Pair:
    """Two hosts as a key, the lower name first: half a round trip is the delay in both directions."""
    return (a, b) if a < b else (b, a)


class DelayTable:
    """Measured delays by pair of hosts; its size is bounded by the requests to hosts and by the links they keep."""

    def __init__(self, config: DelayTableConfig) -> None:
        self._config = config
        self._measured: dict[Pair, tuple[float, float]] = {}
        """One-way delay, ms, and when it was reported, s."""
        self._pairs_of: dict[HostId, dict[Pair, None]] = {}
        """Measured pairs of each host."""
        self._hidden: set[HostId] = set()
        """Hosts that cannot be dialled: two of them cannot measure each other."""
        self._requested: dict[Pair, tuple[int, float]] = {}
        """Pairs to measure: how many times requested, and when last, s."""
        self._requested_of: dict[HostId, set[Pair]] = {}
        """Pairs to measure of each host."""

    # ------------------------------------------------------------------ changes

    def report(self, host: HostId, links_ms: Mapping[HostId, float], now: float) -> None:
        """Stores the one-way delays of a host's links, ms; a longer delay than the stored one is smoothed."""
        for other, one_way_ms in links_ms.items():
            key = pair(host, other)
            if key not in self._measured:
                for end in key:
                    self._pairs_of.setdefault(end, {})[key] = None
            before_ms, reported_at = self._measured.get(key, (one_way_ms, now))
            recent = now - reported_at < self._config.increase_window_s
            increase_ms = max(0.0, one_way_ms - before_ms) if recent else 0.0
            self._measured[key] = (one_way_ms - (1 - self._config.increase_gain) * increase_ms, now)
            self._drop_request(key)

    def set_reachable(self, host: HostId, *, reachable: bool) -> None:
        """Records whether a host can be dialled."""
        if reachable:
            self._hidden.discard(host)
        else:
            self._hidden.add(host)

    def forget(self, host: HostId) -> None:
        """Removes everything about a host that has left."""
        self._hidden.discard(host)
        for key in self._pairs_of.pop(host, {}):
            self._measured.pop(key, None)
            for end in key:
                self._pairs_of.get(end, {}).pop(key, None)
        for key in list(self._requested_of.get(host, ())):
            self._drop_request(key)

    # ------------------------------------------------------------------ delays

    def is_hidden(self, host: HostId) -> bool:
        """Whether a host cannot be dialled."""
        return host in self._hidden

    def one_way_ms(self, a: HostId, b: HostId) -> float | None:
        """The delay between two hosts as reported; None when it was not."""
        known = self._measured.get(pair(a, b))
        return None if known is None else known[0]

    def delays_ms(self, pairs: list[Pair], now: float) -> Floats | None:
        """The delays of pairs, shape (p,), ms; None when some must be measured first, which are then requested.

        Pairs that cannot be measured have UNREACHED_MS.
        """
        delays_ms = np.full(len(pairs), UNREACHED_MS)
        complete = True
        for index, (a, b) in enumerate(pairs):
            key = pair(a, b)
            known = self._measured.get(key)
            if self._hidden.issuperset(key):
                continue
            if known is not None and now - known[1] < self._config.expiry_s:
                delays_ms[index] = known[0]
            elif self._awaits(key, now):
                complete = False
        return delays_ms if complete else None

    def knows(self, a: HostId, b: HostId) -> bool:
        """Whether the delay between two hosts was measured; requests a measurement if not."""
        known = self.one_way_ms(a, b) is not None
        if not known:
            self._request(pair(a, b))
        return known

    def _request(self, key: Pair) -> tuple[int, float]:
        """Adds a pair to those to measure.

        Returns:
            How many times it was requested from hosts, and when last, s.
        """
        if key not in self._requested:
            self._requested[key] = (0, -self._config.retry_after_s)
            for end in key:
                self._requested_of.setdefault(end, set()).add(key)
        return self._requested[key]

    def _drop_request(self, key: Pair) -> None:
        """Removes a pair from those to measure, if it is one."""
        if self._requested.pop(key, None) is None:
            return
        for end in key:
            pairs = self._requested_of.get(end, set())
            pairs.discard(key)
            if not pairs:
                self._requested_of.pop(end, None)

    def _awaits(self, key: Pair, now: float) -> bool:
        """Whether a report of a pair may still come: it will be requested again, or was a short time ago."""
        times, at = self._request(key)
        return times < self._config.requests_max or now - at < self._config.retry_after_s

    def matrix_ms(self, hosts: list[HostId]) -> Floats:
        """Delays between hosts, shape (n, n), ms: measured, or estimated from coordinates where they are not."""
        positions = self.positions(hosts)
        matrix: Floats = np.sqrt(((positions[:, None, :] - positions[None, :, :]) ** 2).sum(axis=2))
        number = {host: index for index, host in enumerate(hosts)}
        for host, a in number.items():
            for key in self._pairs_of.get(host, ()):
                b = number.get(key[0] if key[1] == host else key[1])
                if b is not None:
                    matrix[a, b] = matrix[b, a] = self._measured[key][0]
        return matrix

    def positions(self, hosts: list[HostId]) -> Floats:
        """Coordinates of hosts from their delays to the hosts that most of them have measured, shape (n, d), ms.

        A host without coordinates gets the mean position.
        """
        known = Counter(end for host in hosts for key in self._pairs_of.get(host, ()) for end in key if end != host)
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

    # ------------------------------------------------------------------ requests

    def take_requests(self, now: float, members: Container[HostId]) -> dict[HostId, list[HostId]]:
        """Which hosts each host should measure now: pairs not requested lately, spread evenly over their ends.

        Args:
            members: all hosts that have joined; pairs with any other host are dropped.
        """
        requests: dict[HostId, list[HostId]] = {}
        for (a, b), (times, at) in list(self._requested.items()):
            if a not in members or b not in members:
                self._drop_request((a, b))
            elif now - at >= self._config.retry_after_s and times < self._config.requests_max:
                a_has_fewer = len(requests.get(a, ())) <= len(requests.get(b, ()))
                a_dials = a in self._hidden or (a_has_fewer and b not in self._hidden)
                host, other = (a, b) if a_dials else (b, a)
                if len(requests.get(host, ())) < self._config.probes_per_request_max:
                    requests.setdefault(host, []).append(other)
                    self._requested[a, b] = (times + 1, now)
        return requests

    def drop_requests(self) -> None:
        """Drops all requests: a pair that could not be measured is requested anew when it is needed again."""
        self._requested.clear()
        self._requested_of.clear()
