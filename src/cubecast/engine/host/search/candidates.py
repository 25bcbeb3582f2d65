"""The hosts that a search asks: those known to carry the channel, and next hops over the cube."""

from collections.abc import Iterable

import numpy as np

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.link_table import Link
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.obstacle import LastHop, Refusing
from cubecast.engine.host.search.state import FULL, RESHAPED, UNLINKED, Hop, Purpose, Search
from cubecast.engine.host.snapshot import ConsideredView
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.path import RELAY_MS, Contract, PathMetrics
from cubecast.engine.protocol.ranges import HOPS_MAX
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.cube import distance
from cubecast.overlay.routing import Policy, ranked_next_hops
from cubecast.types import ChannelName, HostId, Label


class Candidates:
    """Chooses from links and placement. The engine owns one."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        policy: Policy,
        rng: np.random.Generator,
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._upstream = upstream
        self._policy = policy
        self._rng = rng
        self._config = config

    def on_tree(
        self, channel: ChannelName, contract: Contract, tree: Tree, without: HostId | None = None
    ) -> list[HostId]:
        """Hosts of `paths_on_tree`.

        Args:
            without: a host to leave out.
        """
        hosts = [host for host, _ in self.paths_on_tree(channel, contract, tree) if host != without]
        return hosts[: self._config.search.direct_max]

    def paths_on_tree(self, channel: ChannelName, contract: Contract, tree: Tree) -> list[tuple[HostId, PathMetrics]]:
        """Linked hosts that carry the channel and have spare fan-out, and the path through each.

        Those that keep the contract come first, then by delay.

        Args:
            tree: under `cube` and `graft` only neighbours in the cube count.
        """
        branch = self._downstream.branches.get(channel)
        eligible = None if tree is Tree.HYBRID else self._neighbourhood.neighbours()
        related = set() if branch is None else {branch.upstream, *branch.below.children}
        former = None if branch is None else branch.parent.former  # it keeps a slot for this host even when it is full
        ranked: list[tuple[tuple[bool, bool, float, HostId], PathMetrics]] = []
        for host, there in self._neighbourhood.links.carrying(channel).items():
            link = self._neighbourhood.links[host]
            if host in related or (eligible is not None and host not in eligible):
                continue
            if not self._can_serve(host, link, channel, host == former):
                continue
            if branch is not None and there.publication != branch.metrics.publication:
                continue
            if self._upstream.shuns(channel, there.path):
                continue
            metrics = self._upstream.metrics_through(host, there)
            if metrics is not None:
                ranked.append(((not contract.kept_by(metrics), *contract.rank(metrics), host), metrics))
        return [(key[-1], metrics) for key, metrics in sorted(ranked, key=lambda each: each[0])]

    def shuns(self, channel: ChannelName, path: Iterable[HostId]) -> bool:
        """Whether a path leads over a host that is shunned for the channel."""
        return self._upstream.shuns(channel, path)

    def considered(self, channel: ChannelName) -> tuple[ConsideredView, ...]:
        """All linked hosts that announced the channel, by the least bound of the path through each."""
        links = self._neighbourhood.links
        paths = {host: self._upstream.metrics_through(host, there) for host, there in links.carrying(channel).items()}
        seen = [
            ConsideredView(
                host,
                links.one_way_ms(host) or 0.0,
                metrics.least_bound_ms,
                links[host].spare.get(channel, 0),
                metrics.path,
            )
            for host, metrics in paths.items()
            if metrics is not None
        ]
        return tuple(sorted(seen, key=lambda view: view.least_bound_ms))

    def refusing(self, search: Search) -> list[Refusing]:
        """Hosts that carry the channel and give this one no copy: they announced that none is spare, or did not accept.

        A host that refused because it was full, and has announced a copy since, is left out.
        """
        links = self._neighbourhood.links
        now = self._eligible(search)
        found: list[Refusing] = []
        for host, metrics in (search.promising | now).items():
            reason = search.declined.get(host, "")
            if host in now and links[host].spare.get(search.channel, 0) <= 0:
                reason = f"{host} {FULL}"
            elif host in now and reason.endswith(FULL):
                continue
            if reason:
                found.append(Refusing(host, metrics, reason))
        return found

    def _eligible(self, search: Search) -> dict[HostId, PathMetrics]:
        """Linked hosts that carry the publication, stay, and are no relatives of this host, and the path through each."""
        links, branch = self._neighbourhood.links, self._downstream.branches.get(search.channel)
        found: dict[HostId, PathMetrics] = {}
        for host, there in links.carrying(search.channel).items():
            leaves = links.is_leaving(host) or links.is_overdue(host, self._config.failure.silent_ticks)
            if leaves or (branch is not None and host == branch.upstream):
                continue
            if search.tree is not Tree.HYBRID and host not in self._neighbourhood.neighbours():
                continue
            metrics = self._upstream.metrics_through(host, there)
            shunned = self._upstream.shuns(search.channel, there.path)
            if metrics is not None and metrics.path[0] == search.publisher and not shunned:
                found[host] = metrics
        return found

    def last_hop(self, metrics: PathMetrics) -> LastHop | None:
        """The link over which a path reaches this host; None when there is none, or it is down."""
        links = self._neighbourhood.links
        link_ms = links.one_way_ms(metrics.path[-2]) if metrics.depth else None
        if link_ms is None:
            return None
        host = metrics.path[-2]
        return LastHop(link_ms, link_ms + RELAY_MS + links.spread_ms(host), links.loss(host))

    def measured_ms(self) -> dict[HostId, float]:
        """One-way delays of the links with samples enough to ask for a parent, ms."""
        return {
            host: link.estimate.one_way_ms
            for host, link in self._neighbourhood.links.items()
            if link.up and link.estimate.samples >= self._config.search.probe_samples
            if link.estimate.one_way_ms is not None
        }

    def _can_serve(self, host: HostId, link: Link, channel: ChannelName, has_slot: bool) -> bool:
        """Whether a host is alive, stays, and has spare fan-out or a slot for this host."""
        if link.spare.get(channel, 0) <= 0 and not has_slot:
            return False
        overdue = self._neighbourhood.links.is_overdue(host, self._config.failure.silent_ticks)
        return not link.leaving and not overdue

    def next_hops(self, search: Search) -> list[Hop]:
        """Next hops towards the target with a measured link, best first; hops between our own labels cost nothing.

        Records the reason where there are none.
        """
        links = self._neighbourhood.links
        if search.onward:
            first, *others = search.onward
            if first in search.trail or links.one_way_ms(first) is None:
                search.note(f"{self._neighbourhood.host} {UNLINKED}")
                return []
            return [Hop(first, tuple(others))]
        placement, cube = self._neighbourhood.placement, self._neighbourhood.cube
        if search.purpose is Purpose.RELAY and self._neighbourhood.host in search.trail:
            search.reason = "the request came back to a host it had passed"
            return []
        if len(search.trail) >= HOPS_MAX:
            search.reason = f"the request has passed {HOPS_MAX} hosts"
            return []
        if placement is None or cube is None or search.epoch != placement.epoch:
            search.note(RESHAPED)
            return []
        here = min(placement.labels, key=lambda label: (distance(cube, label, search.target), label))
        ranked = ranked_next_hops(self._policy, cube, here, search.target, self._cost_ms, self._rng)
        usable: dict[Hop, None] = {}
        for label in ranked:
            host, onward = self._neighbourhood.carrier(label), self._neighbourhood.onward(label)
            if host is not None and not {host, onward} & set(search.trail) and self._cost_ms(label) < float("inf"):
                usable[Hop(host, () if onward is None else (onward,))] = None
        for host in links.carrying(search.channel):  # hidden hosts whose links in the cube this host carries
            record = links.record(host)
            if record is not None and not record.reachable and host not in search.trail:
                usable[Hop(host)] = None
        if not usable and placement.neighbours and not self._neighbourhood.neighbours():
            search.reason = "no neighbour can be dialled, nor can this host: a reachable host must join"
        elif not usable and any(self._neighbourhood.carrier(label) not in (None, *search.trail) for label in ranked):
            search.note(f"{self._neighbourhood.host} {UNLINKED}")  # the link has just broken: it is dialled again
        return [hop for hop in usable if not self.shuns(search.channel, (hop.host, *hop.onward))]

    def along_routes(self, search: Search) -> list[Hop]:
        """First hops of the directory's routes, by expected delay: those that may keep the bound, else the best of the others.

        Those are asked only if nothing more is being measured, so that a refusal can name what they offer.
        """
        ranked: list[tuple[float, Hop]] = []
        for route in () if search.routes is None else search.routes.routes:
            host = route.first.host
            link_ms = self._neighbourhood.links.one_way_ms(host)
            if link_ms is not None and self._neighbourhood.host not in (host, *route.onward):
                hops = len(route.onward) + 1
                least_ms = route.expected_ms + link_ms + RELAY_MS + hops * self._config.estimate.spread_ms_min
                ranked.append((least_ms, Hop(host, route.onward)))
        ranked.sort()
        keep = [hop for least_ms, hop in ranked if least_ms <= search.contract.bound_ms]
        others = [hop for least_ms, hop in ranked if least_ms > search.contract.bound_ms]
        return keep or ([] if search.more_is_measured else others[: self._config.search.late_routes])

    def _cost_ms(self, label: Label) -> float:
        """Measured cost of the hop to a label next to one of ours; infinite while it was not measured."""
        host = self._neighbourhood.carrier(label)
        measured = None if host is None else self._neighbourhood.links.one_way_ms(host)
        hops = 1 if self._neighbourhood.onward(label) is None else 2  # the relay's own hop is not known here
        return float("inf") if measured is None else hops * measured

    def probed(self, search: Search) -> bool:
        """Whether the link to every proposed host is measured, or the host cannot be reached.

        Parents proposed at first must also have announced what they carry. One failure does not count as unreachable: a
        link may have closed just as it was needed.
        """
        links = [self._neighbourhood.links.get(host) for host in self._neighbourhood.wanted_hosts(search.channel)]
        samples = self._config.search.probe_samples
        return all(
            link is None
            or link.failures > 1
            or (link.estimate.samples >= samples and (search.rounds > 0 or search.channel in link.carried))
            for link in links
        )
