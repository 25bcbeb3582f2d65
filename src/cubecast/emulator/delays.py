"""The delay stage: delays each datagram between two hosts by their one-way delay, like netem but in user space.

It is one thread and needs no root: a socket for each host's door (the address at which others reach it), a socket for
the answers of each flow, and one heap of datagrams by due time. It never sends early; how late it sends is measured and
reported, so that the lateness of a slow machine is not attributed to the overlay.
"""

import asyncio
import heapq
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cubecast.descriptors import raise_descriptor_limit
from cubecast.emulator.addresses import HOSTS_MAX, PORT, Addresses
from cubecast.emulator.faults import Fault, Hidden, Island, SetImpairment, Slower
from cubecast.emulator.timers import FineTimer
from cubecast.errors import AddressError, UsageError
from cubecast.types import Floats

COALESCE_S = 0.0003
"""Time by which a datagram may be sent late, s, so that datagrams due within it share one wake-up."""
BURST = 64
"""Maximum number of datagrams read from one socket before the others are served."""
QUEUE_MAX = 200_000
"""Maximum number of datagrams that are delayed at a time: bounds memory; further ones are dropped."""
FLOWS_MAX = 16_384
"""Maximum number of flows, each with a socket of its own; the one unused for longest is closed for a new one."""
SPARE_DESCRIPTORS = 64
"""Number of file descriptors left for other uses than doors and flows."""
SAMPLES_MAX = 100_000
"""Number of datagrams, the latest ones, over which lateness is reported."""
DATAGRAM_MAX = 65_536
"""Bytes read at most for one datagram: the greatest UDP can carry."""
BUFFER_BYTES = 4 << 20
"""Size of each socket's send and receive buffer in bytes, as far as the system allows it."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Impairment:
    """Jitter and loss of all links, drawn for each datagram.

    Attributes:
        jitter_ms: greatest added delay, uniform in 0 .. jitter_ms; datagrams may overtake each other.
        loss: probability of a drop, 0 .. 1.
    """

    jitter_ms: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_ms <= 10_000:
            raise UsageError(f"jitter {self.jitter_ms:g} ms is outside 0..10000")
        if not 0 <= self.loss <= 1:
            raise UsageError(f"loss {self.loss:g} is not a probability; give 0.01 for one in a hundred")


@dataclass(slots=True)
class StageReport:
    """Counts of datagrams since the start.

    Attributes:
        datagrams: sent to their destination.
        lost: dropped on purpose: by Impairment.loss, between an island and the rest, or to a hidden host.
        dropped: dropped because a limit was reached: a full queue, too many flows, a full socket.
        unknown_senders: dropped because they came from no host of the emulation.
        late_ms: lateness of the last SAMPLES_MAX datagrams, ms, in no particular order.
    """

    datagrams: int = 0
    lost: int = 0
    dropped: int = 0
    unknown_senders: int = 0
    late_ms: list[float] = field(default_factory=list)

    def lateness_ms(self) -> dict[str, float]:
        """p50, p99 and maximum lateness, ms; zeros before the first datagram."""
        if not self.late_ms:
            return {"p50": 0.0, "p99": 0.0, "max": 0.0}
        p50, p99, largest = np.percentile(self.late_ms, [50, 99, 100])
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(float(largest), 3)}


class DelayStage:
    """Forwards datagrams between m hosts. `open` binds their doors and starts forwarding on the running event loop."""

    def __init__(
        self, delay_ms: Floats, addresses: Addresses, impairment: Impairment, seed: int, outside: str = ""
    ) -> None:
        """A stage that is not open yet.

        Args:
            delay_ms: one-way delays, shape (m, m), ms.
            outside: an address that belongs to no host and whose datagrams are forwarded without delay: the
                super-node's; "" for none.

        Raises:
            UsageError: more than HOSTS_MAX hosts.
        """
        if len(delay_ms) > HOSTS_MAX:
            raise UsageError(f"{len(delay_ms)} hosts: one emulation has at most {HOSTS_MAX}")
        self._delay_s: list[list[float]] = (delay_ms / 1000).tolist()
        self._island: frozenset[int] = frozenset()
        self._hidden: frozenset[int] = frozenset()
        self._outside = outside
        self._addresses = addresses
        self._impairment = impairment
        self._rng = np.random.default_rng([seed, 2])
        self._doors: list[socket.socket] = []
        self._flows: OrderedDict[tuple[Address, int], socket.socket] = OrderedDict()
        self._flows_max = FLOWS_MAX
        self._queue: list[tuple[float, int, socket.socket, bytes, Address]] = []
        self._number = 0
        self._armed_for = math.inf
        self._timer: FineTimer | None = None
        self.report = StageReport()

    def open(self) -> None:
        """Binds every door.

        Raises:
            AddressError: a door's address is in use.
        """
        self._loop = asyncio.get_running_loop()
        self._timer = FineTimer()
        self._loop.add_reader(self._timer.descriptor, self._release)
        self._flows_max = min(FLOWS_MAX, max(8, raise_descriptor_limit() - len(self._delay_s) - SPARE_DESCRIPTORS))
        for index in range(len(self._delay_s)):
            door = _bind((self._addresses.door(index), PORT))
            self._doors.append(door)
            self._loop.add_reader(door, self._at_door, index, door)

    def apply(self, fault: Fault) -> None:
        """Changes the network while it runs; datagrams that are already delayed are not affected.

        Raises:
            UsageError: the fault names a host that does not exist, or an impossible jitter or loss.
        """
        hosts = range(len(self._delay_s))
        match fault:
            case Slower(a, b, by_ms):
                _check_hosts((a, b), hosts)
                self._delay_s[a][b] += by_ms / 1000
                self._delay_s[b][a] += by_ms / 1000
            case Island(cut):
                _check_hosts(cut, hosts)
                self._island = frozenset(cut)
            case Hidden(hidden):
                _check_hosts(hidden, hosts)
                self._hidden = frozenset(hidden)
            case SetImpairment(jitter_ms, loss):
                self._impairment = Impairment(jitter_ms, loss)

    def close(self) -> None:
        """Stops forwarding and releases every socket."""
        for each in (*self._doors, *self._flows.values()):
            self._loop.remove_reader(each)
            each.close()
        if self._timer is not None:
            self._loop.remove_reader(self._timer.descriptor)
            self._timer.close()
            self._timer = None
        self._doors.clear()
        self._flows.clear()
        self._queue.clear()

    def _at_door(self, target: int, door: socket.socket) -> None:
        """Reads datagrams that were sent to a host's door."""
        for _ in range(BURST):
            try:
                data, sender = door.recvfrom(DATAGRAM_MAX)
            except (BlockingIOError, ConnectionError):
                return
            source = self._addresses.index(sender[0])
            if source is None or source >= len(self._delay_s):
                source = None
                if sender[0] != self._outside:
                    self.report.unknown_senders += 1
                    continue
            if target in self._hidden:
                self.report.lost += 1
                continue
            flow = self._flows.get((sender, target))
            if flow is None:
                flow = self._open_flow(source, sender, target)
            else:
                self._flows.move_to_end((sender, target))
            if flow is not None:
                self._delay(source, target, flow, data, (self._addresses.host(target), PORT))

    def _open_flow(self, source: int | None, sender: Address, target: int) -> socket.socket | None:
        """Opens a socket for the answers; closes the flow unused for longest if there are too many."""
        while len(self._flows) >= self._flows_max:
            _, oldest = self._flows.popitem(last=False)
            self._loop.remove_reader(oldest)
            oldest.close()
        try:
            flow = _bind((self._outside if source is None else self._addresses.door(source), 0))
        except AddressError:
            self.report.dropped += 1
            return None
        self._flows[sender, target] = flow
        self._loop.add_reader(flow, self._at_flow, source, sender, target, flow)
        return flow

    def _at_flow(self, source: int | None, sender: Address, target: int, flow: socket.socket) -> None:
        """Reads the target's answers on one flow."""
        for _ in range(BURST):
            try:
                data, _answerer = flow.recvfrom(DATAGRAM_MAX)
            except (BlockingIOError, ConnectionError):
                return
            self._delay(target, source, self._doors[target], data, sender)

    def _delay(self, source: int | None, target: int | None, via: socket.socket, data: bytes, to: Address) -> None:
        """Queues a datagram until it is due, or drops it."""
        impairment = self._impairment
        if self._island and (source in self._island) != (target in self._island):
            self.report.lost += 1
            return
        if impairment.loss and self._rng.random() < impairment.loss:
            self.report.lost += 1
            return
        if len(self._queue) >= QUEUE_MAX:
            self.report.dropped += 1
            return
        self._number += 1
        due_s = time.monotonic() + self._wait_s(source, target)
        heapq.heappush(self._queue, (due_s, self._number, via, data, to))
        if self._queue[0][0] < self._armed_for:
            self._arm()

    def _wait_s(self, source: int | None, target: int | None) -> float:
        """How long a datagram is held: the delay of its way, and its own jitter."""
        wait_s = 0.0 if source is None or target is None else max(0.0, self._delay_s[source][target])
        if self._impairment.jitter_ms:
            wait_s += self._rng.random() * self._impairment.jitter_ms / 1000
        return wait_s

    def _arm(self) -> None:
        self._armed_for = self._queue[0][0]
        assert self._timer is not None, "open() first"
        self._timer.arm(max(self._armed_for, time.monotonic() + COALESCE_S))

    def _release(self) -> None:
        """Sends everything that is due."""
        assert self._timer is not None, "open() first"
        self._timer.clear()
        now = time.monotonic()
        queue, report = self._queue, self.report
        while queue and queue[0][0] <= now:
            due, _, via, data, to = heapq.heappop(queue)
            try:
                via.sendto(data, to)
            except OSError:
                report.dropped += 1
                continue
            report.datagrams += 1
            if len(report.late_ms) < SAMPLES_MAX:
                report.late_ms.append((now - due) * 1000)
            else:
                report.late_ms[report.datagrams % SAMPLES_MAX] = (now - due) * 1000
        self._armed_for = math.inf
        if queue:
            self._arm()


def _check_hosts(named: Iterable[int], hosts: range) -> None:
    unknown = [host for host in named if host not in hosts]
    if unknown:
        raise UsageError(f"there is no host {unknown[0]}; hosts are 0 to {hosts[-1]}")


def _bind(address: Address) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise AddressError(f"no more sockets: {error.strerror}; raise the limit with ulimit -n") from error
    try:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise AddressError(
            f"cannot bind {address[0]}:{address[1]} (UDP): {error.strerror}; end the other emulation"
        ) from error
    opened.setblocking(False)
    return opened
