"""Rates of requests: token buckets, in which an allowance grows by time and each request takes one."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BUCKETS_MAX = 65_536
"""Maximum number of buckets of one kind: bounds memory. Beyond it those used longest ago are forgotten, and are full again."""

ROUNDING = 1e-6
"""Part of a request by which an allowance may be too small: who has waited as told is not told to wait for nanoseconds."""


@dataclass(slots=True)
class Bucket:
    """An allowance of requests: full at first."""

    left: float
    at_s: float

    def take(self, rate_per_s: float, burst: float, now_s: float, cost: float = 1.0) -> float:
        """Takes `cost` out of the allowance.

        Args:
            rate_per_s: by which the allowance grows; more than 0.
            burst: the greatest allowance.
            now_s: of a clock that never steps back.

        Returns:
            0 if it was taken; else the time after which there is enough, s, and nothing is taken.
        """
        self.left = min(burst, self.left + (now_s - self.at_s) * rate_per_s)
        self.at_s = now_s
        if self.left < cost - ROUNDING:
            return (cost - self.left) / rate_per_s
        self.left = max(0.0, self.left - cost)
        return 0.0


class Buckets(Generic[K]):
    """Buckets by key."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[K, Bucket] = OrderedDict()

    def take(self, key: K, rate_per_s: float, burst: float, now_s: float, cost: float = 1.0) -> float:
        """As Bucket.take, of the bucket of this key."""
        bucket = self._buckets.pop(key, None) or Bucket(burst, now_s)
        self._buckets[key] = bucket
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return bucket.take(rate_per_s, burst, now_s, cost)
