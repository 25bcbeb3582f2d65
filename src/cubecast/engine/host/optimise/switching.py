"""Parent switching: a branch moves when another host has promised a lower delay for a while.

Link costs are noisy, so a gain counts only beyond a threshold that grows with the variation of both links, and only
when it lasts: the larger the gain, the shorter it must. A former parent must be better for longer before it is taken
again. While the bound is broken, any gain counts.
"""

from dataclasses import dataclass, field
from math import inf

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import Advice, Tree
from cubecast.types import ChannelName, HostId


@dataclass(slots=True)
class History:
    """Past candidates and switches of one branch."""

    better_ticks: dict[HostId, int] = field(default_factory=dict)
    """Ticks for which each candidate has been better than the parent."""
    left: list[HostId] = field(default_factory=list)
    """Former parents, the latest last."""
    settle_ticks: int = 0
    """Ticks until the next switch is allowed."""
    rest_ticks: int = 0
    """Ticks until candidates are compared again, after advice was followed."""
    rest_ms: float = inf
    """The least delay since then, or since the last switch: a branch that has become slower does not rest."""


class ParentSwitching:
    """Looks for better parents. The engine owns one."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        upstream: Upstream,
        candidates: Candidates,
        searches: Searches,
        failure_detector: FailureDetector,
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._upstream = upstream
        self._candidates = candidates
        self._searches = searches
        self._failure_detector = failure_detector
        self._config = config.switching
        self._history: dict[ChannelName, History] = {}
        self._advice: dict[ChannelName, tuple[Advice, int]] = {}
        """What the directory proposes, and for how many ticks it has been tried."""

    def on_parent_changed(self, channel: ChannelName, before: HostId) -> None:
        """A parent was left, for any reason."""
        history = self._history.setdefault(channel, History())
        history.left = [*[each for each in history.left if each != before], before][-self._config.left_max :]
        history.better_ticks.clear()
        history.settle_ticks, history.rest_ms = self._config.settle_ticks, inf

    def forget(self, channels: set[ChannelName]) -> None:
        """Forgets all channels but these, which are carried."""
        for channel in self._history.keys() - channels:
            del self._history[channel]
        for channel in self._advice.keys() - channels:
            del self._advice[channel]
            self._neighbourhood.want_links(("advice", channel), ())

    # ------------------------------------------------------------------ the directory's advice

    def on_advice(self, advice: Advice) -> list[Effect]:
        """The directory proposes a parent: its link is measured, then it is tried."""
        self._advice[advice.channel] = (advice, 0)
        return self._neighbourhood.want_links(("advice", advice.channel), [advice.parent])

    def _follow_advice(self, branch: Branch) -> list[Effect]:
        """Tries the advised parent once its link is measured."""
        config = self._config
        advice, ticks = self._advice[branch.channel]
        self._advice[branch.channel] = (advice, ticks + 1)
        parent = advice.parent.host
        link = self._neighbourhood.links.get(parent)
        known = link is not None and branch.channel in link.carried and link.estimate.samples >= config.advice_samples
        if branch.upstream == parent or ticks >= config.advice_ticks or branch.upstream is None:
            del self._advice[branch.channel]
            return self._neighbourhood.want_links(("advice", branch.channel), ())
        if not known or branch.parent.former is not None or self._failure_detector.busy:
            return []
        history = self._history.setdefault(branch.channel, History())
        history.rest_ticks, history.rest_ms = config.rest_ticks, inf
        return self._searches.changes.follow(branch, advice)

    # ------------------------------------------------------------------ the host's own comparison

    def tick(self, branch: Branch) -> list[Effect]:
        """Compares the candidates with the parent; the first that has been better for long enough is tried."""
        history = self._history.setdefault(branch.channel, History())
        history.settle_ticks -= 1
        if branch.channel in self._advice:
            waits = (
                history.settle_ticks > 0 and not self._advice[branch.channel][0].slot_for
            )  # a newcomer waits for the slot
            return [] if waits else self._follow_advice(branch)
        history.rest_ticks -= 1
        if branch.upstream is None or branch.parent.former is not None or branch.ticks % self._config.look_ticks:
            return []
        wanted = branch.wanted
        history.rest_ms = min(history.rest_ms, branch.metrics.delay_ms)
        slower = branch.metrics.delay_ms >= history.rest_ms + self._config.slower_ms
        kept = wanted.kept_by(branch.metrics)
        if kept and (history.settle_ticks > 0 or (history.rest_ticks > 0 and not slower)):
            return []
        if kept and (self._failure_detector.busy or not self._may_gain(branch)):  # almost always
            history.better_ticks = {}
            return []
        return self._compare(branch, wanted, history)

    def _compare(self, branch: Branch, wanted: Contract, history: History) -> list[Effect]:
        config = self._config
        broken = branch.metrics.least_bound_ms > wanted.bound_ms
        better: dict[HostId, int] = {}
        for host in self._candidates.on_tree(branch.channel, wanted, branch.tree):
            there = self._neighbourhood.links[host].carried[branch.channel]
            metrics = self._upstream.metrics_through(host, there)
            share = 0.0 if metrics is None else self._gain(branch, wanted, host, metrics, broken)
            if share >= 1:
                better[host] = history.better_ticks.get(host, 0) + config.look_ticks
                hold_ticks = max(config.hold_ticks_min, config.hold_ticks / share)
                if better[host] >= (config.return_ticks if host in history.left else hold_ticks):
                    history.better_ticks = {}
                    return self._searches.changes.begin(branch, [host])
        history.better_ticks = better
        if broken and not better and branch.tree is not Tree.HYBRID and branch.ticks % config.cube_ticks == 0:
            return self._searches.changes.begin(branch, [])
        return []

    def _may_gain(self, branch: Branch) -> bool:
        """Whether any host offers a delay lower by more than the least gain: a quick test before ranking."""
        config, links = self._config, self._neighbourhood.links
        enough_ms = branch.metrics.delay_ms - max(config.gain_ms, config.gain_share * branch.metrics.delay_ms)
        delays = ((there.delay_ms, links.one_way_ms(h)) for h, there in links.carrying(branch.channel).items())
        return any(link_ms is not None and delay_ms + link_ms <= enough_ms for delay_ms, link_ms in delays)

    def _gain(self, branch: Branch, wanted: Contract, host: HostId, metrics: PathMetrics, broken: bool) -> float:
        """The gain of a candidate as a multiple of the threshold: 1 is just worth a switch."""
        assert branch.upstream is not None, "the caller checked"
        config, links = self._config, self._neighbourhood.links
        short = wanted.rank(metrics)[0] - wanted.rank(branch.metrics)[0]
        if short:  # of the two paths one has the rate and loss asked for
            return -inf if short > 0 else 1.0
        if broken:
            return (branch.metrics.least_bound_ms - metrics.least_bound_ms) / config.broken_gain_ms
        noise_ms = (min(config.variation_max_ms, links.rttvar_ms(branch.upstream)) + links.rttvar_ms(host)) / 4
        threshold_ms = max(config.gain_ms, config.gain_share * branch.metrics.delay_ms) + noise_ms
        return (branch.metrics.delay_ms - metrics.delay_ms) / threshold_ms
