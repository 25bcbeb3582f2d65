"""The trees this host is part of, seen upwards: who feeds it, and who should instead.

A parent counts as lost when its media session fails, when media and heartbeat are both silent, when it has itself been
without a fresh sequence number for long, or when media flows there and not here. The host then looks for another one
while its children wait: their streams stop, and nothing below is told but that. A change of parents is always make
before break: the former one feeds us until media of the new one arrives.
"""

from msgspec import structs

from cubecast.engine.host.effects import Effect, ParentChanged, Pull, Send, StopPull
from cubecast.engine.host.failure_detector import SILENT_TICKS, FailureDetector
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.tree.downstream import UPDATE_TICKS, Branch, Downstream
from cubecast.engine.protocol.messages import Ended, PathUpdate, Relatives, Release, SubtreeContract
from cubecast.engine.protocol.path import NUMBER_MAX, RELAY_MS, Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord
from cubecast.types import ChannelName, HostId

IDLE_TICKS, IDLE_SILENT_TICKS = 15, 10
"""On a channel without media for so long, a parent must be silent for so long: its word is all there is."""
STALE_TICKS = 20
"""A parent that tells nothing fresh for so long has lost its own and finds no other."""
STALLED_TICKS = 15
"""Media that flows at the parent and has not come here for so long will not come."""
REPAIR_TICKS = 100
"""After so long without a parent the branch is given up: who was cut off for some seconds has to be dialled first."""
PULL_TICKS = 40
"""A new parent's media must arrive within this, or it is no parent."""
CONTRACT_TICKS = 5
REPORT_PERIOD_TICKS = 50
"""The directory hears so often how a local subscription fares."""
BACKUPS = 6
"""Relatives a link is kept to."""


class Upstream:
    """Parents of all branches. The engine owns one and passes it messages, ticks and failures."""

    def __init__(self, neighbourhood: Neighbourhood, downstream: Downstream, failure_detector: FailureDetector) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._failure_detector = failure_detector

    def metrics_through(self, host: HostId, there: PathMetrics) -> PathMetrics | None:
        """How a channel reaches us through a host it reaches so; None when its path came by here, or the link is down.

        Delays, spreads and clock uncertainties add up hop by hop.
        """
        mine, link = self._neighbourhood.host, self._neighbourhood.links.get(host)
        link_ms = self._neighbourhood.one_way_ms(host)
        if link is None or link_ms is None or mine in there.path:
            return None
        offset_ms, uncertainty_ms = link.estimate.clock_offset_ms
        return PathMetrics(
            min(NUMBER_MAX, there.delay_ms + link_ms + RELAY_MS),
            min(NUMBER_MAX, there.spread_ms + link.estimate.spread_ms),
            (*there.path, mine),
            there.seqno,
            there.clock_offset_ms + offset_ms,
            min(CLOCK_UNKNOWN_MS, there.clock_uncertainty_ms + uncertainty_ms),
            1 - (1 - there.loss) * (1 - link.estimate.loss),
            there.rate_bps,
        )

    def before(self, contract: Contract, host: HostId) -> Contract:
        """What must hold at a host for a contract to hold here."""
        link_ms = self._neighbourhood.one_way_ms(host)
        if link_ms is None:
            return contract
        return contract.before(link_ms + RELAY_MS + self._neighbourhood.spread_ms(host), self._neighbourhood.loss(host))

    # ------------------------------------------------------------------ changes of parents

    def adopt(self, branch: Branch, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Takes a host that confirmed us as the parent, the first one or instead of another."""
        self._downstream.branches[branch.channel] = branch
        effects: list[Effect] = []
        before = branch.upstream or branch.former
        fed = before is not None and branch.lost is None
        if before is not None and before != record.host:
            if branch.former not in (None, before, record.host):
                effects += [StopPull(branch.channel, branch.former), Send(branch.former, Release(branch.channel))]
            branch.former, branch.former_ticks = before, 0
        elif branch.former == record.host:
            branch.former = None
        if branch.lost is not None:
            effects.append(ParentChanged(branch.channel, branch.lost[0], record.host, branch.lost[1]))
        elif before is not None and before != record.host:
            is_leaving = self._neighbourhood.is_leaving(before)
            effects.append(ParentChanged(branch.channel, before, record.host, "it leaves" if is_leaving else "sooner"))
        branch.upstream, branch.failure, branch.lost = record.host, "", None
        if branch.standby == record.host:
            branch.standby, branch.standby_ready = None, False
        branch.flat_ticks = branch.stale_ticks = branch.orphan_ticks = 0
        branch.bytes_received = -1
        branch.siblings = ()
        branch.held, branch.heard_seqno = False, metrics.seqno
        effects.append(Pull(branch.channel, record, fed=fed))
        effects += self._downstream.pass_on(branch, metrics)
        if branch.contract is not None:
            effects.append(self._downstream.report(branch, "receiving"))
        return effects

    def on_pulled(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """Media of a new parent has arrived: the former one is let go."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.upstream != host:
            return []
        former, branch.former = branch.former, None
        return [] if former is None else [StopPull(channel, former), Send(former, Release(channel))]

    def on_pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> list[Effect]:
        """A media session is gone; the next tick looks for another parent, unless Ended says before that it is over."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.finished_ticks is not None:
            return []
        if branch.former == host:
            branch.former = None
            return [Send(host, Release(channel))]
        if branch.upstream == host:
            branch.failure = reason
        return []

    def lose(self, branch: Branch, reason: str) -> list[Effect]:
        """The parent is no good any more; children are told to wait, and whoever ticks us looks for another."""
        host = branch.upstream
        if host is None:
            return []
        if branch.failure:
            effects: list[Effect] = [StopPull(branch.channel, host), Send(host, Release(branch.channel))]
        elif branch.former is None:
            branch.former, effects = host, []
        else:  # the change under way has failed: the parent before feeds us as long as it can
            effects = [StopPull(branch.channel, host), Send(host, Release(branch.channel))]
        branch.upstream, branch.lost, branch.failure = None, (host, reason), ""
        branch.orphan_ticks = branch.retry_ticks = 0
        branch.held = False
        return effects + self._downstream.pass_on(branch, branch.metrics)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The parent has given the channel up."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host or branch.finished_ticks is not None:
            return []
        branch.failure = m.reason
        effects = self.lose(branch, m.reason)
        branch.lost = (m.host, m.reason)
        return effects

    def lose_host(self, host: HostId, reason: str) -> list[Effect]:
        """A host has left: it is nobody's parent any more."""
        effects: list[Effect] = []
        for branch in list(self._downstream.branches.values()):
            if branch.finished_ticks is not None:
                continue
            if branch.former == host:
                branch.former = None
                effects.append(StopPull(branch.channel, host))
            if branch.upstream == host:
                effects += self.lose(branch, reason)
        return effects

    # ------------------------------------------------------------------ messages

    def on_path_update(self, host: HostId, m: PathUpdate) -> list[Effect]:
        """How the channel reaches our parent now; passed on at once."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            waiting = branch is not None and (branch.former == host or branch.upstream is None)
            return [] if waiting else [Send(host, Release(m.channel))]
        if branch.finished_ticks is not None:
            return []
        link = self._neighbourhood.links[host]
        link.carried[m.channel] = m.metrics
        metrics = self.metrics_through(host, m.metrics)
        if metrics is None:
            return self.lose(branch, "its path leads back here") if self._neighbourhood.host in m.metrics.path else []
        if m.metrics.seqno > branch.heard_seqno and m.fed:
            branch.heard_seqno, branch.stale_ticks = m.metrics.seqno, 0
        branch.epoch, branch.target, branch.tree = m.epoch, m.target, m.tree
        if m.flowing and branch.flat_ticks >= STALLED_TICKS:
            branch.failure = "media flows there and does not come here"
            return self.lose(branch, branch.failure)
        if branch.held:
            metrics = structs.replace(metrics, seqno=branch.metrics.seqno)
        return self._downstream.pass_on(branch, metrics)

    def on_relatives(self, host: HostId, m: Relatives) -> list[Effect]:
        """Our relatives: links to the first few are kept, so that one of them can feed us at once."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        known = set(branch.metrics.path)
        branch.siblings = tuple(record for record in reversed(m.hosts) if record.host not in known)
        return self._neighbourhood.want_links(m.channel, m.hosts[:BACKUPS])

    def on_media(self, channel: ChannelName, host: HostId, bytes_received: int) -> None:
        """Bytes so far on the session to a host."""
        branch = self._downstream.branches.get(channel)
        if branch is None:
            return
        ours = host == (self._neighbourhood.host if branch.publishes else branch.upstream)
        if ours and branch.bytes_received != bytes_received:
            branch.count(bytes_received)
            branch.flat_ticks = 0

    # ------------------------------------------------------------------ time

    def tick(self, branch: Branch, now: float) -> list[Effect]:
        """Watches the parent of a branch."""
        branch.rate(now)
        branch.flat_ticks += 1
        branch.stale_ticks += 1
        branch.busy_ticks = branch.busy_ticks + 1 if branch.flat_ticks < SILENT_TICKS else 0
        if branch.publishes:
            placement = self._neighbourhood.placement
            if placement is not None:
                branch.epoch, branch.target = placement.epoch, placement.seat
            if branch.ticks % UPDATE_TICKS:
                return []
            seqno = max(branch.metrics.seqno + 1, int(now * 1000))
            metrics = self._downstream.at_origin(branch, seqno, branch.rate_bps or NUMBER_MAX)
            return self._downstream.pass_on(branch, metrics)
        if branch.finished_ticks is not None:
            return []
        branch.retry_ticks -= 1
        if branch.upstream is None:
            branch.orphan_ticks += 1
            if branch.orphan_ticks >= REPAIR_TICKS and branch.lost is not None:
                return self._downstream.give_up(branch, *branch.lost)
            return []
        effects = self._watch(branch, branch.upstream)
        if branch.contract is not None and branch.ticks % REPORT_PERIOD_TICKS == REPORT_PERIOD_TICKS - 1:
            effects.append(self._downstream.report(branch, "receiving"))
        if branch.upstream is not None and branch.ticks % CONTRACT_TICKS == 0:
            effects.append(
                Send(branch.upstream, SubtreeContract(branch.channel, self.before(branch.wanted, branch.upstream)))
            )
        return effects

    def _watch(self, branch: Branch, upstream: HostId) -> list[Effect]:
        if branch.former is not None:
            branch.former_ticks += 1
            if branch.former_ticks >= PULL_TICKS:
                return self.lose(branch, "its media does not arrive")
        if branch.failure:
            return self.lose(branch, branch.failure)
        failure_detector = self._failure_detector.ticks
        limit = failure_detector if branch.flat_ticks < IDLE_TICKS else max(failure_detector, IDLE_SILENT_TICKS)
        if branch.flat_ticks >= failure_detector and self._neighbourhood.is_silent(upstream, limit):
            self._failure_detector.declared_dead(upstream)
            return self.lose(branch, "no heartbeat and no media")
        if branch.stale_ticks >= STALE_TICKS:
            return self.lose(branch, "it has lost its own parent")
        return []
