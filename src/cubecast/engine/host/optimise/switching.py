"""Better parents: a branch moves when another host has promised to serve it sooner for a while.

Link costs are noisy, so a gain counts only beyond a threshold that grows with the variation of both links, and only
when it holds: the larger the gain, the shorter it must. A parent that was left for a better one must be better for
longer before it is taken again. Under a bound that is broken any gain counts.
"""

from dataclasses import dataclass, field
from math import inf

from cubecast.engine.host.effects import Effect
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.tree.downstream import Branch
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import Advice, HostRecord, Tree
from cubecast.types import ChannelName, HostId

LOOK_TICKS = 2
"""Candidates are compared every so many ticks."""
GAIN_MS, GAIN_SHARE = 10.0, 0.1
"""The least gain, and its least share of the delay now."""
VARIATION_MAX_MS = 20.0
"""No more variation of the link in use counts as noise: a link whose delay has jumped varies a lot, and should be left."""
BROKEN_GAIN_MS = 2.0
"""The least gain where the bound is broken."""
HOLD_TICKS, HOLD_TICKS_MIN = 24, 8
"""A gain just at the threshold must hold so long, a larger one for less."""
RETURN_TICKS = 60
"""A parent that was left must be better for so long."""
LEFT_MAX = 16
CUBE_TICKS = 40
"""Where the bound is broken and no neighbour helps, a path over the cube is looked for every so many ticks."""
ADVICE_TICKS, ADVICE_SAMPLES = 30, 3
"""Advice is tried for so long, once there are so many samples of the link."""
SLOWER_MS = 20.0
SETTLE_TICKS = 50
"""After a change a branch stays where it is for so long unless it is too late: several changes in a row may break a track."""
REST_TICKS = 100
"""After advice a branch stays where it is for so long, so that the directory can finish what it has planned."""


@dataclass(slots=True)
class Record:
    """What is known of one branch's candidates."""

    better_ticks: dict[HostId, int] = field(default_factory=dict)
    left: list[HostId] = field(default_factory=list)
    settle_ticks: int = 0
    rest_ticks: int = 0
    """Until candidates are looked at again, after advice was followed."""
    rest_ms: float = inf
    """The least delay since then, or since the last change: a branch that has become slower does not rest."""


class ParentSwitching:
    """Looks for better parents. The engine owns one."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        upstream: Upstream,
        candidates: Candidates,
        searches: Searches,
        failure_detector: FailureDetector,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._upstream = upstream
        self._candidates = candidates
        self._searches = searches
        self._failure_detector = failure_detector
        self._records: dict[ChannelName, Record] = {}
        self._advice: dict[ChannelName, tuple[HostRecord, int]] = {}
        """The parent that the directory proposes, and for how many ticks it has been tried."""

    def note_left(self, channel: ChannelName, host: HostId) -> None:
        """A parent was left."""
        record = self._records.setdefault(channel, Record())
        record.left = [*[each for each in record.left if each != host], host][-LEFT_MAX:]
        record.better_ticks.clear()
        record.settle_ticks, record.rest_ms = SETTLE_TICKS, inf

    def rest(self, channel: ChannelName, ticks: int) -> None:
        """Leaves a branch where it is for a while."""
        record = self._records.setdefault(channel, Record())
        record.rest_ticks, record.rest_ms = ticks, inf

    def on_advice(self, advice: Advice) -> list[Effect]:
        """The directory proposes a parent: it is measured, then tried."""
        self._advice[advice.channel] = (advice.parent, 0)
        return self._neighbourhood.want_links(("advice", advice.channel), [advice.parent])

    def _follow(self, branch: Branch) -> list[Effect]:
        """Tries the advice once its link is measured."""
        record, ticks = self._advice[branch.channel]
        self._advice[branch.channel] = (record, ticks + 1)
        link = self._neighbourhood.links.get(record.host)
        known = link is not None and branch.channel in link.carried and link.estimate.samples >= ADVICE_SAMPLES
        if branch.upstream == record.host or ticks >= ADVICE_TICKS or branch.upstream is None:
            del self._advice[branch.channel]
            return self._neighbourhood.want_links(("advice", branch.channel), ())
        if not known or branch.former is not None or self._failure_detector.busy:
            return []
        self.rest(branch.channel, REST_TICKS)
        return self._searches.change(branch, [record.host], advised=True)

    def forget(self, channels: set[ChannelName]) -> None:
        """Forgets what was known of channels that are no longer carried."""
        for channel in self._records.keys() - channels:
            del self._records[channel]
        for channel in self._advice.keys() - channels:
            del self._advice[channel]
            self._neighbourhood.want_links(("advice", channel), ())

    def tick(self, branch: Branch) -> list[Effect]:
        """Compares the candidates with the parent; the first that has been better for long enough is tried."""
        record = self._records.setdefault(branch.channel, Record())
        record.settle_ticks -= 1
        if branch.channel in self._advice:
            return [] if record.settle_ticks > 0 else self._follow(branch)
        record.rest_ticks -= 1
        if branch.upstream is None or branch.former is not None or branch.ticks % LOOK_TICKS:
            return []
        wanted = branch.wanted
        record.rest_ms = min(record.rest_ms, branch.metrics.delay_ms)
        slower = branch.metrics.delay_ms >= record.rest_ms + SLOWER_MS
        kept = wanted.kept_by(branch.metrics)
        if kept and (record.settle_ticks > 0 or (record.rest_ticks > 0 and not slower)):
            return []
        if kept and (self._failure_detector.busy or not self._sooner(branch)):  # as almost always
            record.better_ticks = {}
            return []
        broken = branch.metrics.least_bound_ms > wanted.bound_ms
        held: dict[HostId, int] = {}
        for host in self._candidates.on_tree(branch.channel, wanted, branch.tree):
            metrics = self._upstream.metrics_through(host, self._neighbourhood.links[host].carried[branch.channel])
            share = 0.0 if metrics is None else self._gain(branch, wanted, host, metrics, broken)
            if share >= 1:
                held[host] = record.better_ticks.get(host, 0) + LOOK_TICKS
                needed = RETURN_TICKS if host in record.left else max(HOLD_TICKS_MIN, HOLD_TICKS / share)
                if held[host] >= needed:
                    record.better_ticks = {}
                    return self._searches.change(branch, [host])
        record.better_ticks = held
        if broken and not held and branch.tree is not Tree.HYBRID and branch.ticks % CUBE_TICKS == 0:
            return self._searches.change(branch, [])
        return []

    def _sooner(self, branch: Branch) -> bool:
        """Whether the channel would come sooner through any host at all, by more than the least gain."""
        enough_ms = branch.metrics.delay_ms - max(GAIN_MS, GAIN_SHARE * branch.metrics.delay_ms)
        delays = (
            (there.delay_ms, self._neighbourhood.one_way_ms(h))
            for h, there in self._neighbourhood.carrying(branch.channel).items()
        )
        return any(link_ms is not None and delay_ms + link_ms <= enough_ms for delay_ms, link_ms in delays)

    def _gain(self, branch: Branch, wanted: Contract, host: HostId, metrics: PathMetrics, broken: bool) -> float:
        """What a candidate gains, in thresholds."""
        assert branch.upstream is not None, "the caller looked"
        short = wanted.rank(metrics)[0] - wanted.rank(branch.metrics)[0]
        if short:
            return -inf if short > 0 else 1.0
        if broken:
            return (branch.metrics.least_bound_ms - metrics.least_bound_ms) / BROKEN_GAIN_MS
        noise_ms = (
            min(VARIATION_MAX_MS, self._neighbourhood.rttvar_ms(branch.upstream)) + self._neighbourhood.rttvar_ms(host)
        ) / 4
        threshold_ms = max(GAIN_MS, GAIN_SHARE * branch.metrics.delay_ms) + noise_ms
        return (branch.metrics.delay_ms - metrics.delay_ms) / threshold_ms
