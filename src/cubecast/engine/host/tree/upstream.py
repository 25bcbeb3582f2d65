"""The trees that this host is part of, towards the publishers: the parent of each channel, and when it is lost.

A parent is lost when its media session fails, when media and messages are both missing, when it has had no new
sequence number itself for long, or when media flows there and does not arrive here. The host then looks for another one
while its children wait: their streams pause, and path updates report that this host has no parent. A change of parents
is make before break: the former parent feeds this host until media of the new one arrives.
"""

from collections.abc import Iterable

from msgspec import structs

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, ParentChanged, Pull, Send, StopPull
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.shunned import Shunned
from cubecast.engine.protocol.messages import Ended, PathUpdate, Relatives, Release, SeqnoRequest, SubtreeContract
from cubecast.engine.protocol.path import RELAY_MS, Contract, PathMetrics
from cubecast.engine.protocol.ranges import HOPS_MAX, NUMBER_MAX
from cubecast.engine.protocol.records import HostRecord
from cubecast.types import NOBODY, ChannelName, HostId

OTHER_STREAM = "it carries another stream of that name"
"""Why a parent counts as lost: it receives another publication of the channel's name."""


class Upstream:
    """Parents of all branches. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        failure_detector: FailureDetector,
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._failure_detector = failure_detector
        self._config = config.tree
        self._links = config.links
        self._shunned = Shunned(config.tree, config.tick_s)

    def metrics_through(self, host: HostId, there: PathMetrics) -> PathMetrics | None:
        """The path to this host through another one; None when it would contain this host twice or be too long, or the link is down.

        Delays, spreads and clock uncertainties add up hop by hop.

        Args:
            there: the path from the publisher to that host.
        """
        mine, links = self._neighbourhood.host, self._neighbourhood.links
        link, link_ms = links.get(host), links.one_way_ms(host)
        if link is None or link_ms is None or mine in there.path or len(there.path) >= HOPS_MAX:
            return None
        offset_ms, uncertainty_ms = link.estimate.clock_offset_ms
        return PathMetrics(
            min(NUMBER_MAX, there.delay_ms + link_ms + RELAY_MS),
            min(NUMBER_MAX, there.spread_ms + link.estimate.spread_ms),
            (*there.path, mine),
            there.seqno,
            max(-NUMBER_MAX, min(NUMBER_MAX, there.clock_offset_ms + offset_ms)),
            min(CLOCK_UNKNOWN_MS, there.clock_uncertainty_ms + uncertainty_ms),
            1 - (1 - there.loss) * (1 - link.estimate.loss),
            there.rate_bps,
            there.publication,
        )

    def before(self, contract: Contract, host: HostId) -> Contract:
        """What must hold at another host for a contract to hold here."""
        links = self._neighbourhood.links
        link_ms = links.one_way_ms(host)
        if link_ms is None:
            return contract
        return contract.before(link_ms + RELAY_MS + links.spread_ms(host), links.loss(host))

    # ------------------------------------------------------------------ changes of parents

    def adopt(self, branch: Branch, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes a host that has confirmed this one its parent: the first one, or in place of another."""
        self._downstream.branches[branch.channel] = branch
        before = branch.upstream or branch.parent.former
        former_feeds = before is not None and branch.lost.cause is None
        effects = [*self._keep_former(branch, before, record.host), *self._log_change(branch, before, record.host)]
        branch.upstream, branch.parent.failure, branch.lost.cause = record.host, "", None
        if branch.standby.host == record.host:
            branch.standby.host, branch.standby.ready = None, False
        branch.media.quiet_ticks = branch.parent.held_ticks = branch.parent.stale_ticks = branch.lost.ticks = (
            branch.parent.doubt_ticks
        ) = branch.seqnos.request_in = 0
        branch.parent.metrics, branch.parent.fed, branch.parent.promised = None, True, None
        branch.media.bytes_received = -1
        branch.parent.siblings, branch.parent.slot_for = (), NOBODY
        branch.seqnos.hold, branch.seqnos.newest = False, metrics.seqno
        effects.append(Pull(branch.channel, record, former_feeds=former_feeds))
        effects += self._downstream.forward(branch, metrics)
        if branch.contract is not None:
            effects.append(self._downstream.report(branch, "receiving"))
        return effects

    @staticmethod
    def _keep_former(branch: Branch, before: HostId | None, parent: HostId) -> list[Effect]:
        """Keeps the previous parent as the former one until media of the new one arrives; an older former one is released."""
        effects: list[Effect] = []
        if before is not None and before != parent:
            if branch.parent.former is not None and branch.parent.former not in (before, parent):
                effects = [
                    StopPull(branch.channel, branch.parent.former),
                    Send(branch.parent.former, Release(branch.channel)),
                ]
            branch.parent.former, branch.parent.former_ticks = before, 0
        elif branch.parent.former == parent:
            branch.parent.former = None
        return effects

    def _log_change(self, branch: Branch, before: HostId | None, parent: HostId) -> list[Effect]:
        if branch.lost.cause is not None:
            return [ParentChanged(branch.channel, branch.lost.cause[0], parent, branch.lost.cause[1])]
        if before is None or before == parent:
            return []
        leaves = self._neighbourhood.links.is_leaving(before)
        return [ParentChanged(branch.channel, before, parent, "it leaves" if leaves else "a better parent was found")]

    def on_pulled(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """Media of a new parent has arrived: the former one is released."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.upstream != host:
            return []
        former, branch.parent.former = branch.parent.former, None
        slot_for, branch.parent.slot_for = branch.parent.slot_for, NOBODY
        return [] if former is None else [StopPull(channel, former), Send(former, Release(channel, slot_for))]

    def on_pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> list[Effect]:
        """A media session closed; the next tick declares the parent lost, unless Ended arrives before that."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.finished_ticks is not None:
            return []
        if branch.parent.former == host:
            branch.parent.former = None
            return [Send(host, Release(channel))]
        if branch.upstream == host:
            branch.parent.failure = reason
        return []

    def on_media_rejected(self, channel: ChannelName, host: HostId, fault: str) -> list[Effect]:
        """Media of the parent is not what the publisher has sent: the parent is lost at once, and shunned."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.upstream != host or branch.finished_ticks is not None:
            return []
        if branch.parent.former is not None or branch.parent.held_ticks < self._config.blame_ticks:
            return []
        self._shunned.add(channel, host, self._neighbourhood.now)
        branch.parent.failure = f"media from it is not the publisher's ({fault})"
        return self.lose(branch, branch.parent.failure)

    def shuns(self, channel: ChannelName, path: Iterable[HostId]) -> bool:
        """Whether a path leads over a host from which such media has come lately."""
        return self._shunned.on(channel, path, self._neighbourhood.now)

    def lose(self, branch: Branch, reason: str) -> list[Effect]:
        """The parent is lost: children stay and are sent a path update that reports it; the next tick starts a repair."""
        host = branch.upstream
        if host is None:
            return []
        if branch.parent.failure:
            effects: list[Effect] = [StopPull(branch.channel, host), Send(host, Release(branch.channel))]
        elif branch.parent.former is None:
            branch.parent.former, effects = host, []
        else:  # the change under way has failed: the former parent feeds this host as long as it can
            effects = [StopPull(branch.channel, host), Send(host, Release(branch.channel))]
        branch.upstream, branch.lost.cause, branch.lost.at, branch.parent.failure = (
            None,
            (host, reason),
            host,
            "",
        )
        branch.lost.ticks = branch.lost.retry_ticks = branch.parent.doubt_ticks = 0
        branch.seqnos.hold = False
        return effects + self._downstream.forward(branch, branch.metrics)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The parent has given up the channel."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host or branch.finished_ticks is not None:
            return []
        branch.parent.failure = m.reason
        effects = self.lose(branch, m.reason)
        branch.lost.at = m.host
        return effects

    def lose_host(self, host: HostId, reason: str) -> list[Effect]:
        """A host has left: it is no parent any more, for any channel."""
        effects: list[Effect] = []
        for branch in list(self._downstream.branches.values()):
            if branch.finished_ticks is not None:
                continue
            if branch.parent.former == host:
                branch.parent.former = None
                effects.append(StopPull(branch.channel, host))
            if branch.upstream == host:
                effects += self.lose(branch, reason)
        return effects

    # ------------------------------------------------------------------ messages

    def on_path_update(self, host: HostId, m: PathUpdate) -> list[Effect]:
        """The parent has sent its path; the path to this host is sent to the children at once."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            waiting = branch is not None and (branch.parent.former == host or branch.upstream is None)
            return [] if waiting else [Send(host, Release(m.channel))]
        if branch.finished_ticks is not None:
            return []
        self._neighbourhood.links[host].carried[m.channel] = m.metrics
        metrics = self.metrics_through(host, m.metrics)
        if metrics is None:
            loops = self._neighbourhood.host in m.metrics.path
            return self.lose(branch, "its path leads back here") if loops else []
        if m.metrics.publication != branch.metrics.publication:
            branch.parent.failure = OTHER_STREAM
            return self.lose(branch, branch.parent.failure)
        if branch.parent.fed and not m.fed:
            branch.parent.stale_ticks = 0
        branch.parent.metrics, branch.parent.fed = m.metrics, m.fed
        if m.metrics.seqno > branch.seqnos.newest and m.fed:
            branch.seqnos.newest, branch.parent.stale_ticks, branch.seqnos.request_in = m.metrics.seqno, 0, 0
        moved = (branch.epoch, branch.target, branch.tree) != (m.epoch, m.target, m.tree)
        branch.epoch, branch.target, branch.tree = m.epoch, m.target, m.tree
        branch.media.pauses.usual_ticks = m.pause_ticks
        opened_ticks = 3 * self._neighbourhood.links.rtt_ticks(host)  # a handshake of QUIC and MoQ
        if m.flowing and branch.media.quiet_ticks >= self._config.stalled_ticks + opened_ticks:
            branch.parent.failure = "it receives media, but none arrives from it"
            return self.lose(branch, branch.parent.failure)
        if branch.seqnos.hold:
            metrics = structs.replace(metrics, seqno=branch.metrics.seqno)
        if moved or metrics.seqno > branch.metrics.seqno:
            return self._downstream.forward(branch, metrics)
        return self._downstream.refresh(branch, metrics)

    def release_seqnos(self, branch: Branch) -> list[Effect]:
        """Sequence numbers are forwarded again, the newest that came while they were held at once.

        Children that get none for long leave, as if this host had lost its parent.
        """
        branch.seqnos.hold = False
        if branch.upstream is None or branch.seqnos.newest <= branch.metrics.seqno:
            return []
        return self._downstream.forward(branch, structs.replace(branch.metrics, seqno=branch.seqnos.newest))

    def on_seqno_request(self, host: HostId, m: SeqnoRequest) -> list[Effect]:
        """A host below needs a newer sequence number; one that is no child any more, or has missed the end, is told so."""
        branch, mine = self._downstream.branches.get(m.channel), self._neighbourhood.host
        if branch is None or host not in branch.below.children:
            return [Send(host, Ended(m.channel, False, mine, "it does not feed this host any more"))]
        if branch.finished_ticks is not None:
            return [Send(host, Ended(m.channel, True, mine, "finished"))]
        return self.request_seqno(branch)

    def request_seqno(self, branch: Branch) -> list[Effect]:
        """Asks the publisher, over the parents, for a newer sequence number; the publisher itself sends one."""
        if branch.seqnos.request_in > 0:
            return []
        branch.seqnos.request_in = self._config.seqno_request_ticks
        if branch.publishes:
            return self._update(branch, self._neighbourhood.now)
        return [] if branch.upstream is None else [Send(branch.upstream, SeqnoRequest(branch.channel))]

    def on_relatives(self, host: HostId, m: Relatives) -> list[Effect]:
        """The parent has sent our relatives: links to the first few are kept, so that one can become the parent at once."""
        branch = self._downstream.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        known = set(branch.metrics.path)
        branch.parent.siblings = tuple(record for record in reversed(m.hosts) if record.host not in known)
        return self._neighbourhood.want_links(("relatives", m.channel), m.hosts[: self._config.relative_links])

    def on_media(self, channel: ChannelName, host: HostId, bytes_received: int) -> None:
        """Records the running total of bytes received from a host; for a published channel, of bytes published."""
        branch = self._downstream.branches.get(channel)
        if branch is None:
            return
        counts = host == (self._neighbourhood.host if branch.publishes else branch.upstream)
        if counts and branch.media.bytes_received != bytes_received:
            if branch.publishes and branch.media.bytes_received >= 0:
                branch.media.pauses.media_came(branch.media.quiet_ticks, self._config)
            branch.media.count(bytes_received)
            branch.media.quiet_ticks = branch.parent.doubt_ticks = 0

    # ------------------------------------------------------------------ time

    def tick(self, branch: Branch, now: float) -> list[Effect]:
        """Watches the parent of a branch; at the publisher, starts path updates."""
        branch.media.measure_rate(now, self._config)
        branch.media.quiet_ticks += 1
        branch.parent.held_ticks += 1
        branch.parent.stale_ticks += 1
        branch.seqnos.request_in = max(0, branch.seqnos.request_in - 1)
        pause_ticks = self._failure_detector.silence_ticks_min + branch.media.pauses.longer_ticks(self._config)
        flows = branch.media.quiet_ticks < pause_ticks
        branch.media.flowing_ticks = branch.media.flowing_ticks + 1 if flows else 0
        if branch.publishes:
            return self._start_update(branch, now)
        if branch.finished_ticks is not None:
            return []
        branch.lost.retry_ticks -= 1
        if branch.upstream is None:
            branch.lost.ticks += 1
            if branch.lost.ticks >= self._config.repair_ticks and branch.lost.cause is not None:
                parent, reason = branch.lost.cause
                return self._downstream.give_up(branch, branch.lost.at or parent, reason)
            return []
        effects = self._watch(branch, branch.upstream)
        if branch.media.quiet_ticks % self._config.repair_ticks == self._config.stalled_ticks:
            effects += self.request_seqno(branch)  # its path update shows whether media flows at the parent
        period = self._config.report_ticks
        if branch.contract is not None and branch.ticks % period == period - 1:
            effects.append(self._downstream.report(branch, "receiving"))
        if branch.upstream is not None:
            effects += self._send_contract(branch, branch.upstream)
            effects += self._refresh(branch, branch.upstream)
        return effects

    def _send_contract(self, branch: Branch, upstream: HostId) -> list[Effect]:
        """Sends the subtree's contract with the heartbeats to the parent, and when it has changed."""
        contract, branch.parent.contract_ticks = self.before(branch.wanted, upstream), branch.parent.contract_ticks + 1
        known = branch.parent.promised
        changed = known is None or _differs(known, contract, self._links.announce_ms, self._links.announce_loss)
        early = changed and branch.parent.contract_ticks >= self._config.contract_ticks
        if not early and not self._neighbourhood.beats(upstream):
            return []
        branch.parent.promised, branch.parent.contract_ticks = contract, 0
        return [Send(upstream, SubtreeContract(branch.channel, contract))]

    def _refresh(self, branch: Branch, upstream: HostId) -> list[Effect]:
        """The link to the parent may have changed since its last path update."""
        there = branch.parent.metrics
        metrics = None if there is None else self.metrics_through(upstream, there)
        if metrics is None:
            return []
        return self._downstream.refresh(branch, structs.replace(metrics, seqno=branch.metrics.seqno))

    def _start_update(self, branch: Branch, now: float) -> list[Effect]:
        placement = self._neighbourhood.placement
        if placement is not None:
            branch.epoch, branch.target = placement.epoch, placement.seat
        branch.media.pauses.tick(self._config)
        branch.seqnos.ticks += 1
        if branch.seqnos.ticks >= self._config.update_ticks:
            return self._update(branch, now)
        metrics = self._downstream.at_origin(branch, branch.metrics.seqno, branch.media.rate_bps or NUMBER_MAX)
        return self._downstream.refresh(branch, metrics)

    def _update(self, branch: Branch, now: float) -> list[Effect]:
        branch.seqnos.ticks = 0
        seqno = max(branch.metrics.seqno + 1, int(now * 1000))
        metrics = self._downstream.at_origin(branch, seqno, branch.media.rate_bps or NUMBER_MAX)
        return self._downstream.forward(branch, metrics)

    def _watch(self, branch: Branch, upstream: HostId) -> list[Effect]:
        """Declares the parent lost for the first reason that holds."""
        config = self._config
        if branch.parent.former is not None:
            branch.parent.former_ticks += 1
            if branch.parent.former_ticks >= config.pull_ticks:
                return self.lose(branch, "its media does not arrive")
        if branch.parent.failure:
            return self.lose(branch, branch.parent.failure)
        links, longer = self._neighbourhood.links, branch.media.pauses.longer_ticks(config)
        pause_ticks, silence_ticks = config.pause_ticks + longer, self._failure_detector.silence_ticks
        if branch.media.bytes_received <= 0:  # it sends nothing until the media session is open, so only pings tell
            longer += links.rtt_ticks(upstream) + 1
        dead_ticks = silence_ticks + longer
        if branch.media.quiet_ticks >= config.idle_ticks:
            silence_ticks = max(silence_ticks, config.idle_silent_ticks)
        if branch.media.quiet_ticks >= dead_ticks and links.is_silent(upstream, max(dead_ticks, silence_ticks)):
            self._failure_detector.declared_dead(upstream)
            return self.lose(branch, "no heartbeat and no media")
        if branch.parent.stale_ticks >= (config.stale_fed_ticks if branch.parent.fed else config.stale_ticks):
            return self.lose(branch, "it has lost its own parent")
        quiet = links.is_silent(upstream, silence_ticks - config.pause_ticks)
        if branch.media.quiet_ticks < pause_ticks or not quiet:
            branch.parent.doubt_ticks = 0
            return []
        branch.parent.doubt_ticks += 1
        self._neighbourhood.watch(upstream)
        return self._neighbourhood.ping(upstream)


def _differs(before: Contract, after: Contract, much_ms: float, much_loss: float) -> bool:
    """Whether a contract has changed by more than the noise of the estimates."""
    late = abs(after.bound_ms - before.bound_ms) > much_ms
    return late or before.rate_bps != after.rate_bps or abs(after.loss - before.loss) > much_loss
