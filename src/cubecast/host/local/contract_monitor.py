"""Judges, for each second of a subscription's stream by capture time, whether its contract was kept or violated."""

import math
from collections import deque
from dataclasses import dataclass, field, replace

from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Compliance

TOLERANCE = 0.01
"""Greatest share of a second's frames that may be late or lost when the contract does not limit loss."""
GRACE_S = 1.0
"""Time, s, after the bound of a second's last frame at which the second is judged."""
RATE_S = 5
"""Number of seconds over which the rate is averaged."""
SILENCE_MAX_S = 3600
"""Maximum number of seconds without frames that are counted at once as too slow, when the contract has a rate."""
SKIPPED_MAX = 10_000
"""Maximum number of skipped frames that are counted at once; it bounds the work for a wrong frame number."""
SECONDS_MAX = 600
"""Maximum number of seconds that wait to be judged; beyond it the oldest is judged with the frames it has."""


@dataclass(slots=True)
class _Second:
    frames: int = 0
    late: int = 0
    bytes: int = 0
    missing: set[tuple[int, int]] = field(default_factory=set)
    """Tracks and numbers of frames that were skipped and have not arrived since."""


class ContractMonitor:
    """Counts the seconds of a stream in which the contract was kept or violated.

    `add` must be called once for every frame, in the order of arrival.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._tolerance = TOLERANCE if contract.loss >= 1 else contract.loss
        self._open: dict[int, _Second] = {}
        self._next: dict[int, tuple[int, float]] = {}
        """By track: the number of the next frame, and the capture time, s, of the frame before it."""
        self._judged: int | None = None
        self._rates: deque[int] = deque(maxlen=RATE_S)
        self.compliance = Compliance()

    def add(self, track: int, number: int, captured_s: float, delay_ms: float, size: int) -> None:
        """Counts one frame, and judges the seconds that are complete.

        Args:
            number: of the frame on its track; numbers that were skipped count as missing frames.
            captured_s: by the publisher's clock; so is the arrival, captured_s + delay_ms / 1000.
            delay_ms: from capture to arrival.
            size: bytes of the payload.
        """
        second = int(captured_s)
        expected, before_s = self._next.get(track, (number, captured_s))
        if number >= expected:
            self._next[track] = number + 1, captured_s
            step_s = (captured_s - before_s) / (number + 1 - expected)
            for skipped in range(max(expected, number - SKIPPED_MAX), number):
                self._at(int(before_s + (skipped + 1 - expected) * step_s)).missing.add((track, skipped))
        else:
            for at in self._open.values():
                at.missing.discard((track, number))
        if self._judged is None or second > self._judged:
            at = self._at(second)
            at.frames += 1
            at.late += delay_ms > self.contract.bound_ms
            at.bytes += size
        over_s = captured_s + delay_ms / 1000 - self.contract.bound_ms / 1000 - GRACE_S
        while len(self._open) > 1 and (min(self._open) + 1 <= over_s or len(self._open) > SECONDS_MAX):
            self._judge(min(self._open))

    def close(self) -> None:
        """Judges the remaining seconds at the end of the stream."""
        while self._open:
            self._judge(min(self._open))

    def _at(self, second: int) -> _Second:
        """The counts of a second; frames of a second that has been judged already count in the next one."""
        return self._open.setdefault(second if self._judged is None else max(second, self._judged + 1), _Second())

    def _judge(self, second: int) -> None:
        at = self._open.pop(second)
        if self._judged is not None and self.contract.rate_bps:
            for _ in range(min(SILENCE_MAX_S, second - self._judged - 1)):
                self._count(_Second())
        self._judged = second
        self._count(at)

    def _count(self, at: _Second) -> None:
        self._rates.append(8 * at.bytes)
        missing = len(at.missing)
        due = at.frames + missing
        late = due > 0 and (at.late + missing) / due > self._tolerance
        lost = due > 0 and missing / due > self._tolerance
        full = len(self._rates) == RATE_S
        slow = full and math.fsum(self._rates) / RATE_S < self.contract.rate_bps
        bad, before = late or slow, self.compliance
        self.compliance = replace(
            before,
            kept_s=before.kept_s + (not bad),
            violated_s=before.violated_s + bad,
            late_s=before.late_s + late,
            lost_s=before.lost_s + lost,
            slow_s=before.slow_s + slow,
        )
