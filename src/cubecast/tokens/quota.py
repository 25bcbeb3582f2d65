"""How much the hosts and jobs of one join token may take of a super-node, all together.

A join token states what differs from the defaults, and so does every credential that is issued for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import log2

from cubecast.errors import TokenError

QUOTA_MAX = 1 << 30
"""Greatest value of a quota, each in its own unit: far above what one super-node can handle."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Quotas of one join token; the defaults are for one person or one small company.

    Attributes:
        hosts: hosts that are in at the same time. A household or a small office has some; a cube of 64 labels more costs
            everybody a neighbour or two.
        channels: channels announced at the same time: four for each host.
        subscriptions: subscriptions reported that have not ended: 64 for each host, as many as one refresh delivers.
        jobs: derived channels requested at the same time: one for each host.
        module_bytes: modules uploaded for its jobs, bytes: sixteen of the largest, a quarter of what a super-node keeps.
    """

    hosts: int = 64
    channels: int = 256
    subscriptions: int = 4096
    jobs: int = 64
    module_bytes: int = 16 << 20

    @property
    def joins_per_s(self) -> float:
        """Joins of new hosts a second in the long run: each host may come anew once in 30 s."""
        return max(1.0, self.hosts / 30)

    @property
    def joins_burst(self) -> float:
        """Joins of new hosts at once: all, and all again, as after a cut of the network."""
        return 2.0 * self.hosts

    @property
    def growths_burst(self) -> float:
        """Growths of the cube at once: as many as there are shapes from one host to all of its hosts, and some more."""
        return 4.0 + 2.0 * log2(self.hosts + 1)

    @property
    def requests_per_s(self) -> float:
        """Requests a second other than refreshes and joins of new hosts, in the long run.

        A host that searches makes two a second, an owner renews a job every 2 s; 20 are for people who look.
        """
        return 20.0 + 2.0 * self.hosts + self.jobs

    @property
    def requests_burst(self) -> float:
        """Such requests at once: ten seconds' worth, and every channel announced again after a restart."""
        return 10.0 * self.requests_per_s + self.channels

    def claims(self) -> dict[str, object]:
        """As a claim of a token: what differs from the defaults; nothing where nothing does."""
        values: dict[str, int] = {field.name: getattr(self, field.name) for field in fields(self)}
        others = {name: value for name, value in values.items() if value != getattr(DEFAULT_QUOTA, name)}
        return {"quota": others} if others else {}

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> "Quota":
        """From the claims of a token; what they lack has the default.

        Raises:
            TokenError: a quota is no whole number, or out of range.
        """
        stated = claims.get("quota", {})
        if not isinstance(stated, dict):
            raise TokenError("the token's quota is malformed; get another with `cubecast token`")
        values: dict[str, int] = {}
        for field in fields(cls):
            value = stated.get(field.name, field.default)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= QUOTA_MAX:
                raise TokenError(f"the token's quota of {field.name} is malformed; get another with `cubecast token`")
            values[field.name] = value
        return cls(**values)


DEFAULT_QUOTA = Quota()
"""Of a token that states none."""
OWNER_QUOTA = Quota(hosts=16_384, channels=65_536, subscriptions=1 << 20, jobs=1024, module_bytes=64 << 20)
"""Of the join token in the state folder, which is the owner's: as much as a super-node has for all."""
