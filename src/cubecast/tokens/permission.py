"""What a token allows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from cubecast.tokens.jws import text
from cubecast.types import ChannelName

JOB_CHANNELS_MAX = 64
"""Maximum number of channels that jobs add to a credential: two for each job, of which a host runs at most SLOTS_MAX."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a token allows. An empty pattern allows nothing.

    Attributes:
        hosts: glob pattern of the host names that may join.
        publish: glob pattern of the channels that may be published.
        subscribe: glob pattern of the channels that may be subscribed to.
        relay: glob pattern of the channels that may be carried for others. Whoever carries a channel can read it, unless it is
            encrypted.
        jobs: further channels that may be received: the sources of jobs that the super-node assigned.
    """

    hosts: str = "*"
    publish: str = "*"
    subscribe: str = "*"
    relay: str = "*"
    jobs: tuple[ChannelName, ...] = ()

    def may(self, scope: str, name: str) -> bool:
        """Whether a name is allowed in a scope, one of host, publish, subscribe, relay."""
        pattern = {"host": self.hosts, "publish": self.publish, "subscribe": self.subscribe, "relay": self.relay}[scope]
        return fnmatchcase(name, pattern)

    def may_receive(self, channel: ChannelName) -> bool:
        """Whether its holder may be sent a channel: for itself, for a job, or to carry it for others."""
        return self.may("subscribe", channel) or self.may("relay", channel) or channel in self.jobs

    def with_jobs(self, channels: tuple[ChannelName, ...]) -> "Permission":
        """The same, with the sources of jobs in place of those before; JOB_CHANNELS_MAX at most."""
        return replace(self, jobs=channels[:JOB_CHANNELS_MAX])

    def claims(self) -> dict[str, object]:
        """As claims of a token."""
        patterns = {"hosts": self.hosts, "publish": self.publish, "subscribe": self.subscribe, "relay": self.relay}
        return {**patterns, "jobs": list(self.jobs)} if self.jobs else dict(patterns)

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> "Permission":
        """From the claims of a token; what they lack is not allowed.

        Raises:
            TokenError: a claim is of another type.
        """
        jobs = claims.get("jobs", [])
        channels = jobs[:JOB_CHANNELS_MAX] if isinstance(jobs, list) else []
        hosts, publish, subscribe, relay = (text(claims, name) for name in ("hosts", "publish", "subscribe", "relay"))
        return cls(hosts, publish, subscribe, relay, tuple(ChannelName(str(channel)) for channel in channels))
