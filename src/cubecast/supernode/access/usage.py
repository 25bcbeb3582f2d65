"""What each join token uses of the super-node, held against its quotas and rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.records import SubscriptionRecord
from cubecast.errors import DirectoryBusy, QuotaExceeded
from cubecast.overlay.cube import label_count
from cubecast.supernode.access.rates import Buckets
from cubecast.tokens.authority import Bearer, JoinRights
from cubecast.tokens.quota import Quota
from cubecast.types import ChannelName, HostId

REFRESHES_PER_S = 10.0
"""Refreshes of one host a second, in the long run: one is due every 2 s, the others are news, and what is refused comes with the
next one."""
REFRESHES_BURST = 50.0
"""Refreshes of one host at once: a host that begins many subscriptions has news of each."""
GROWTHS_PER_S = 1 / 60
"""Growths a second that one token may cause in the long run. Each gives all hosts new seats and neighbours, and the cube
shrinks 10 s after the hosts have left: somebody who joins and leaves could otherwise have it grow every 10 s."""

ANOTHER = "or ask the owner of the super-node for a token with more"


@dataclass(slots=True)
class _Use:
    """What one token has."""

    hosts: dict[HostId, set[ChannelName]] = field(default_factory=dict)
    """Its hosts, each with its subscriptions that have not ended."""
    subscriptions: int = 0
    """All of these."""
    jobs: set[ChannelName] = field(default_factory=set)


class Usage:
    """Counts by token. Hosts count from their join or, after a restart of the super-node, from their first request."""

    def __init__(self, engine: DirectoryEngine, now_s: Callable[[], float] = time.monotonic) -> None:
        """Nothing is used yet.

        Args:
            now_s: of a clock that never steps back, for the rates.
        """
        self._engine = engine
        self._now_s = now_s
        self._uses: dict[str, _Use] = {}
        self._token_of: dict[HostId, str] = {}
        self._joins: Buckets[str] = Buckets()
        self._growths: Buckets[str] = Buckets()
        self._requests: Buckets[str] = Buckets()
        self._refreshes: Buckets[HostId] = Buckets()

    # ------------------------------------------------------------------ rates

    def count_request(self, token_id: str, quota: Quota) -> None:
        """Counts a request other than a refresh or the join of a new host.

        Raises:
            DirectoryBusy: there were too many.
        """
        rate_per_s = quota.requests_per_s
        wait_s = self._requests.take(token_id, rate_per_s, quota.requests_burst, self._now_s())
        _check_wait(wait_s, f"the hosts of this token make more than {rate_per_s:.0f} requests/s, their rate")

    def count_refresh(self, host: HostId) -> None:
        """Counts a refresh.

        Raises:
            DirectoryBusy: there were too many.
        """
        wait_s = self._refreshes.take(host, REFRESHES_PER_S, REFRESHES_BURST, self._now_s())
        _check_wait(wait_s, f"host {host} refreshes more than {REFRESHES_PER_S:.0f} times a second, its rate")

    def count_join(self, bearer: Bearer) -> None:
        """Counts a request to join: that of a host that is in as any other request, that of another one by a rate of its own.

        Raises:
            DirectoryBusy: there were too many.
            QuotaExceeded: the token has as many hosts as it may have.
        """
        quota = bearer.quota
        if bearer.host in self._engine.members:
            self.count_request(bearer.token_id, quota)
            return
        self.check_hosts(bearer)
        wait_s = self._joins.take(bearer.token_id, quota.joins_per_s, quota.joins_burst, self._now_s())
        _check_wait(wait_s, f"new hosts join with this token faster than {quota.joins_per_s:.1f}/s, its rate")

    def count_growth(self, bearer: Bearer) -> None:
        """Counts the growth of the cube, if a host's join needs one now, as work of its token.

        Raises:
            DirectoryBusy: it has caused too many.
        """
        members = self._engine.members
        if bearer.host in members or len(members) < label_count(self._engine.cube):
            return
        wait_s = self._growths.take(bearer.token_id, GROWTHS_PER_S, bearer.quota.growths_burst, self._now_s())
        _check_wait(
            wait_s,
            f"the cube is full, and hosts of this token have made it grow more than {GROWTHS_PER_S * 60:.0f} time(s) "
            "a minute, their rate",
        )

    # ------------------------------------------------------------------ quotas

    def check_hosts(self, bearer: Bearer) -> None:
        """Checks that a host that is not in may join.

        Raises:
            QuotaExceeded: its token has as many hosts as it may have.
        """
        use = self._uses.get(bearer.token_id, _Use())
        if bearer.host not in use.hosts and len(use.hosts) >= bearer.quota.hosts:
            raise QuotaExceeded(
                f"this token has {len(use.hosts)} hosts in the overlay, its quota; stop one of them, {ANOTHER} "
                "(`cubecast token --max-hosts N`)"
            )

    def check_channels(self, bearer: Bearer, channel: ChannelName) -> None:
        """Checks that a host may announce a channel.

        Raises:
            QuotaExceeded: its token has announced as many as it may.
        """
        if channel in self._engine.channels:
            return
        count = sum(len(self._engine.channels_of(host)) for host in self._uses[self._token_of[bearer.host]].hosts)
        if count >= bearer.quota.channels:
            raise QuotaExceeded(
                f"the hosts of this token publish {count} channels, its quota; end one of them, {ANOTHER} "
                "(`cubecast token --max-channels N`)"
            )

    def accepted(self, bearer: Bearer, reports: tuple[SubscriptionRecord, ...]) -> tuple[list[SubscriptionRecord], str]:
        """The reports of a host about its subscriptions that its token may have, and one line about others that it may not."""
        use = self._uses[self._token_of[bearer.host]]
        live = use.hosts[bearer.host]
        accepted, refused = [], False
        for report in reports:
            if report.subscriber != bearer.host:
                continue
            before = len(live)
            if report.state == "ended":
                live.discard(report.channel)
            elif report.channel in live or use.subscriptions < bearer.quota.subscriptions:
                live.add(report.channel)
            else:
                refused = True
                continue
            use.subscriptions += len(live) - before
            accepted.append(report)
        if not refused:
            return accepted, ""
        return accepted, (
            f"the hosts of this token have {use.subscriptions} subscriptions, its quota: the super-node does not follow the "
            f"others, nor improve their paths; end some, {ANOTHER} (`cubecast token --max-subscriptions N`)"
        )

    def check_jobs(self, rights: JoinRights) -> None:
        """Checks that a person may request another job.

        Raises:
            QuotaExceeded: the token has as many as it may have.
        """
        jobs = self._jobs(rights.token_id)
        if len(jobs) >= rights.quota.jobs:
            raise QuotaExceeded(
                f"this token has {len(jobs)} derived channels requested, its quota; end one of them, {ANOTHER} "
                "(`cubecast token --max-jobs N`)"
            )

    # ------------------------------------------------------------------ what is used

    def has_joined(self, host: HostId, token_id: str) -> None:
        """A host has joined, or joined again, with this token; the directory forgets its subscriptions."""
        self.has_left(host)
        self._token_of[host] = token_id
        self._uses.setdefault(token_id, _Use()).hosts[host] = set()

    def is_in(self, host: HostId, token_id: str) -> None:
        """A host that is in shows a credential with this token. It counts for the token that it joined with, if that is known."""
        if host not in self._token_of:
            self.has_joined(host, token_id)

    def has_left(self, host: HostId) -> None:
        """A host is no longer in."""
        token_id = self._token_of.pop(host, None)
        if token_id is not None:
            use = self._uses[token_id]
            use.subscriptions -= len(use.hosts.pop(host))
            self._forget_unused(token_id)

    def has_job(self, token_id: str, channel: ChannelName) -> None:
        """A job was requested with this token."""
        self._uses.setdefault(token_id, _Use()).jobs.add(channel)

    def keep_jobs(self) -> None:
        """Forgets the jobs that have ended."""
        for token_id in list(self._uses):
            self._jobs(token_id)
            self._forget_unused(token_id)

    def _forget_unused(self, token_id: str) -> None:
        use = self._uses[token_id]
        if not use.hosts and not use.jobs:
            del self._uses[token_id]

    def _jobs(self, token_id: str) -> set[ChannelName]:
        use = self._uses.get(token_id)
        if use is None:
            return set()
        use.jobs = {channel for channel in use.jobs if channel in self._engine.jobs}
        return use.jobs


def _check_wait(wait_s: float, reason: str) -> None:
    if wait_s > 0:
        raise DirectoryBusy(reason, wait_s)
